/* AdamW over a model's parameter tensors, and the learning-rate schedule. */
#ifndef TRIMTAB_TRAINING_OPTIM_H
#define TRIMTAB_TRAINING_OPTIM_H

#include "model.h"

typedef struct tt_optim_options {
    double learning_rate, minimum_rate; /* peak, and end of the cosine */
    int64_t warmup_steps, total_steps;
    double beta1, beta2, epsilon, weight_decay;
    double clip;   /* global norm; 0: no clipping */
    uint64_t seed; /* of the rounding of weights in bf16 */
} tt_optim_options;

/* Linear warm-up from lr/warmup, then cosine to minimum_rate at total_steps. step counts from 0. */
double tt_learning_rate(const tt_optim_options *options, int64_t step);

/* The tensors of one slot, in tensor memory: parameters, and two flat vectors. */
typedef struct tt_slot_tensors {
    void *params, *m, *v;
} tt_slot_tensors;

/* Global L2 norm of the gradients in float64, fixed order; counts non-finite elements. */
tt_status tt_gradient_norm(tt_context *context, tt_model *model, double *norm, uint64_t *nonfinite);

/* What all tensors of one step share. `step` counts from 0 (bias corrections use step+1);
 * `grad_norm` is used for clipping; `rate_scale` times the schedule's rate. */
tt_step_scalars tt_optim_scalars(const tt_optim_options *options, int64_t step, double grad_norm,
                                 double rate_scale);
/* How weights in bf16 are rounded: a stream for each tensor in each step, whatever else is done in
 * it, so that a replay and a resumed run get the same bits. Steps below 2^40. */
tt_rounding tt_optim_rounding(const tt_optim_options *options, int64_t step, size_t index);
/* One tensor with f32 moments; adds to *verdict. `scalars` are of that step. */
tt_status tt_optim_tensor(tt_context *context, tt_model *model, size_t index,
                          const tt_optim_options *options, int64_t step,
                          const tt_step_scalars *scalars, const tt_slot_tensors *from,
                          const tt_slot_tensors *to, tt_verdict *verdict);

/* One update of a model whose moments are in the context's dtype: reads slot `from` and the model's
 * gradients, writes slot `to` (may be the same). */
tt_status tt_optim_step(tt_context *context, tt_model *model, const tt_optim_options *options,
                        int64_t step, double grad_norm, const tt_slot_tensors *from,
                        const tt_slot_tensors *to, tt_verdict *verdict);

#endif
