/* AdamW over a model's tensors; the learning rate; the gradient norm. */
#include "optim.h"

#include <math.h>

double tt_learning_rate(const tt_optim_options *options, int64_t step)
{
    const double pi = 3.14159265358979323846;
    if (step < options->warmup_steps) {
        return options->learning_rate * (double)(step + 1) / (double)options->warmup_steps;
    }
    if (step >= options->total_steps) {
        return options->minimum_rate;
    }
    double progress = (double)(step - options->warmup_steps) /
                      (double)(options->total_steps - options->warmup_steps);
    double span = options->learning_rate - options->minimum_rate;
    return options->minimum_rate + 0.5 * (1.0 + cos(pi * progress)) * span;
}

tt_status tt_gradient_norm(tt_context *context, tt_model *model, double *norm, uint64_t *nonfinite)
{
    tt_tensor_stats stats = {0};
    /* One pass over the flat vector: the gaps between tensors are zero. */
    const tt_stats_args args = {.n = tt_model_param_count(tt_model_get_dims(model)),
                                .x = tt_model_gradients(model),
                                .out = &stats};
    tt_status status = tt_op_run(context, TT_OP_STATS, &args);
    if (status) {
        return status;
    }
    *norm = sqrt(stats.sum_squares);
    *nonfinite = stats.nonfinite;
    return TT_OK;
}

tt_step_scalars tt_optim_scalars(const tt_optim_options *options, int64_t step, double grad_norm,
                                 double rate_scale)
{
    const double count = (double)(step + 1);
    tt_step_scalars scalars = {
        .learning_rate = tt_learning_rate(options, step) * rate_scale,
        .beta1 = options->beta1,
        .beta2 = options->beta2,
        .epsilon = options->epsilon,
        .bias_correction1 = -expm1(count * log(options->beta1)),
        .bias_correction2 = -expm1(count * log(options->beta2)),
        .gradient_scale = 1.0,
    };
    if (options->clip > 0.0 && grad_norm > options->clip) {
        scalars.gradient_scale = options->clip / grad_norm;
    }
    return scalars;
}

static unsigned char *element_at(const void *vector, int64_t offset, size_t element)
{
    return (unsigned char *)vector + (size_t)offset * element;
}

tt_rounding tt_optim_rounding(const tt_optim_options *options, int64_t step, size_t index)
{
    /* The seed's own streams are those of the initial weights. */
    return (tt_rounding){.seed = options->seed ^ UINT64_C(0x243f6a8885a308d3),
                         .stream = (uint64_t)index << 40 | (uint64_t)step};
}

tt_status tt_optim_tensor(tt_context *context, tt_model *model, size_t index,
                          const tt_optim_options *options, int64_t step,
                          const tt_step_scalars *scalars, const tt_slot_tensors *from,
                          const tt_slot_tensors *to, tt_verdict *verdict)
{
    const tt_dtype real = tt_context_dtype(context);
    const size_t element = tt_dtype_size(real);
    const tt_param_tensor *tensor = tt_model_tensor(model, index);
    const int64_t at = tensor->offset;
    const tt_rounding rounding = tt_optim_rounding(options, step, index);
    const tt_adamw_args args = {
        .n = tensor->count,
        .p = (const unsigned char *)from->params + tt_param_at(tensor, real),
        .m = element_at(from->m, at, element),
        .v = element_at(from->v, at, element),
        .g = element_at(tt_model_gradients(model), at, element),
        .p_next = (unsigned char *)to->params + tt_param_at(tensor, real),
        .m_next = element_at(to->m, at, element),
        .v_next = element_at(to->v, at, element),
        .weight_decay = tensor->decay ? options->weight_decay : 0.0,
        .scalars = scalars,
        .verdict = verdict,
        .rounding = tensor->bf16 ? &rounding : NULL,
    };
    return tt_op_run(context, TT_OP_ADAMW, &args);
}

tt_status tt_optim_step(tt_context *context, tt_model *model, const tt_optim_options *options,
                        int64_t step, double grad_norm, const tt_slot_tensors *from,
                        const tt_slot_tensors *to, tt_verdict *verdict)
{
    const tt_step_scalars scalars = tt_optim_scalars(options, step, grad_norm, 1.0);
    *verdict = (tt_verdict){0};
    for (size_t i = 0; i < tt_model_tensor_count(model); i++) {
        tt_verdict own = {0};
        tt_status status =
            tt_optim_tensor(context, model, i, options, step, &scalars, from, to, &own);
        if (status) {
            return status;
        }
        /* Tensor by tensor, so that the sums do not depend on how the operation adds to them. */
        verdict->nonfinite += own.nonfinite;
        verdict->update_squares += own.update_squares;
    }
    return TT_OK;
}
