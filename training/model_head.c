/* The head and the loss, some rows at a time: the logits of all tokens never exist at once.
 *
 * A chunk is rows of tokens and not columns of the vocabulary: with columns every logit would have
 * to be computed twice, for the log-sum-exp and again for the gradient, which is a third more work
 * than the head's three products. What rows cost is that each chunk reads and writes its
 * weight's gradient. */
#include "model_internal.h"

#include <math.h>

/* The head's pass over some of the rows. */
typedef struct chunk {
    const tt_pass *pass;
    tt_model *model;
    int64_t first, rows;
    size_t weight;               /* parameter */
    size_t norm, logits, losses; /* activations */
} chunk;

/* The chunk's part of a tensor of rows as wide as the residual stream; act. */
static void *part(const chunk *c, void *tensor)
{
    return (unsigned char *)tensor +
           (size_t)(c->first * c->model->dims.channels) * tt_model_act_element(c->model);
}

static void *norm_of(const chunk *c)
{
    return part(c, tt_model_act(c->model, c->norm));
}

/* In the logits' place where that is possible. */
static void *dlogits_of(const chunk *c)
{
    const tt_act_saving *saving = &c->model->saving;
    return saving->form.compute == TT_BF16 ? c->model->memory + saving->dlogits
                                           : tt_model_act(c->model, c->logits);
}

/* logits = ln_f(x) wte^T */
static tt_status forward_chunk(const chunk *c)
{
    tt_model *model = c->model;
    const tt_linear_forward_args args = {
        .m = c->rows,
        .n = model->dims.vocab,
        .k = model->dims.channels,
        .x = norm_of(c),
        .w = tt_model_param(model, c->pass->params, c->weight),
        .y = tt_model_act(model, c->logits),
        .packed = tt_pass_packed(c->pass, TT_OP_LINEAR_FORWARD, c->weight),
        .real_y = true,
        .w_bf16 = model->dims.bf16_weights};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_FORWARD, &args));
    model->logits_rows = c->rows;
    return tt_pass_show(c->pass, c->logits, args.y, c->rows * model->dims.vocab);
}

static double sum_of(const void *losses, tt_dtype dtype, int64_t rows, double sum)
{
    for (int64_t i = 0; i < rows; i++) {
        sum += dtype == TT_F64 ? ((const double *)losses)[i] : (double)((const float *)losses)[i];
    }
    return sum;
}

/* Adds the losses of the rows to *sum; in a training pass with their gradient. */
static tt_status score_chunk(const chunk *c, double scale, double *sum)
{
    tt_model *model = c->model;
    void *losses =
        (unsigned char *)tt_model_act(model, c->losses) + (size_t)c->first * model->plan.element;
    const tt_softmax_xent_args args = {.rows = c->rows,
                                       .vocab = model->dims.vocab,
                                       .logits = tt_model_act(model, c->logits),
                                       .targets = model->memory + model->plan.targets +
                                                  (size_t)c->first * sizeof(int32_t),
                                       .losses = losses,
                                       .dlogits = c->pass->save ? dlogits_of(c) : NULL,
                                       .scale = scale / (double)c->pass->rows};
    TRY(tt_op_run(model->context, TT_OP_SOFTMAX_XENT, &args));
    model->loss_rows = c->first + c->rows;
    TRY(tt_pass_show(c->pass, c->losses, losses, c->rows));
    TRY(tt_tensor_read(model->context, model->host, losses, (size_t)c->rows * model->plan.element));
    *sum = sum_of(model->host, tt_context_dtype(model->context), c->rows, *sum);
    return TT_OK;
}

/* The gradient of the head's weight (a tied one, wte, lacks the embedding's share), and ln_f's. */
static tt_status backward_chunk(const chunk *c)
{
    tt_model *model = c->model;
    const void *dlogits = dlogits_of(c);
    const tt_linear_wgrad_args wgrad = {.m = c->rows,
                                        .n = model->dims.vocab,
                                        .k = model->dims.channels,
                                        .dy = dlogits,
                                        .x = norm_of(c),
                                        .dw = tt_model_grad(model, c->weight),
                                        .overwrite = model->step_begins && c->first == 0};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_WGRAD, &wgrad));
    const tt_linear_dgrad_args dgrad = {
        .m = c->rows,
        .n = model->dims.vocab,
        .k = model->dims.channels,
        .dy = dlogits,
        .w = tt_model_param(model, c->pass->params, c->weight),
        .dx = part(c, tt_model_branch(model)),
        .packed = tt_pass_packed(c->pass, TT_OP_LINEAR_DGRAD, c->weight),
        .w_bf16 = model->dims.bf16_weights,
    };
    return tt_op_run(model->context, TT_OP_LINEAR_DGRAD, &dgrad);
}

tt_status tt_pass_head(const tt_pass *pass, bool has_targets, double scale, double *loss)
{
    tt_model *model = pass->model;
    const tt_model_dims *dims = &model->dims;
    const int64_t most = model->plan.pass.head_rows;
    chunk c = {.pass = pass,
               .model = model,
               .weight = tt_model_head_param(dims),
               .norm = tt_model_head_act(dims, ACT_LN_F),
               .logits = tt_model_head_act(dims, ACT_LOGITS),
               .losses = tt_model_head_act(dims, ACT_LOSSES)};
    double sum = 0.0;
    /* A loss that is no number ends it: the logits that show why would be lost to the next rows. */
    for (; c.first < pass->rows && isfinite(sum); c.first += c.rows) {
        c.rows = pass->rows - c.first < most ? pass->rows - c.first : most;
        TRY(forward_chunk(&c));
        if (has_targets) {
            TRY(score_chunk(&c, scale, &sum));
        }
        if (pass->save && isfinite(sum)) {
            TRY(backward_chunk(&c));
        }
    }
    if (has_targets) {
        *loss = sum / (double)pass->rows;
    }
    return TT_OK;
}
