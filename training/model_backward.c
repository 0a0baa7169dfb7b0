/* The backward pass: the forward's steps in reverse, each with its own gradient. It begins below
 * the head, which has done its part.
 *
 * Gradients of activations live in three buffers that all layers share: dresid runs down the
 * residual stream and is added to by each branch's norm; dwide and dbranch hold what a branch
 * passes on.
 *
 * The gradient vector is never cleared: the first pass of a step writes every element of it, and
 * those after it add. */
#include "model_internal.h"

/* One backward pass with its buffers. */
typedef struct sweep {
    tt_pass pass;
    tt_model *model;
    int64_t channels;
    void *dresid, *dbranch, *dwide;
    void *dresid_act; /* dresid as products want it; the same where they want it real */
    bool overwrite;   /* the first gradients of a step take the place of what is there */
} sweep;

/* Shows the gradients of `count` parameter tensors that are now final to the probe. */
static tt_status final_gradients(const sweep *s, size_t first, size_t count)
{
    tt_model *model = s->model;
    if (!model->probe) {
        return TT_OK;
    }
    for (size_t i = first; i < first + count; i++) {
        TRY(model->probe(model->probe_user, model->gradient_names[i], tt_model_grad(model, i),
                         tt_context_dtype(model->context), model->tensors[i].count));
    }
    return TT_OK;
}

/* Of y = x w^T + bias with the weight at `param`: its gradients from dy and x, then dx; with
 * gelu_x (else NULL) through the GELU whose output x is. */
static tt_status linear(const sweep *s, size_t param, const void *dy, const void *x,
                        const void *gelu_x, void *dx)
{
    tt_model *model = s->model;
    const bool biased = !model->dims.unbiased;
    const int64_t n = model->tensors[param].dims[0];
    const int64_t k = model->tensors[param].dims[1];
    const tt_linear_wgrad_args wgrad = {.m = s->pass.rows,
                                        .n = n,
                                        .k = k,
                                        .dy = dy,
                                        .x = x,
                                        .dw = tt_model_grad(model, param),
                                        .dbias = biased ? tt_model_grad(model, param + 1) : NULL,
                                        .overwrite = s->overwrite};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_WGRAD, &wgrad));
    TRY(final_gradients(s, param, tt_model_linear_params(&model->dims)));
    const tt_linear_dgrad_args dgrad = {.m = s->pass.rows,
                                        .n = n,
                                        .k = k,
                                        .dy = dy,
                                        .w = tt_model_param(model, s->pass.params, param),
                                        .dx = dx,
                                        .gelu_x = gelu_x,
                                        .packed =
                                            tt_pass_packed(&s->pass, TT_OP_LINEAR_DGRAD, param),
                                        .w_bf16 = model->dims.bf16_weights};
    return tt_op_run(model->context, TT_OP_LINEAR_DGRAD, &dgrad);
}

static tt_status rmsnorm(const sweep *s, size_t param, size_t input, size_t act, bool starts)
{
    tt_model *model = s->model;
    const tt_rmsnorm_backward_args args = {.rows = s->pass.rows,
                                           .channels = s->channels,
                                           .dy = s->dbranch,
                                           .x = tt_model_act(model, input),
                                           .gamma = tt_model_param(model, s->pass.params, param),
                                           .rstd = tt_model_act(model, act + 2),
                                           .dx = s->dresid,
                                           .dx_act =
                                               s->dresid_act == s->dresid ? NULL : s->dresid_act,
                                           .dgamma = tt_model_grad(model, param),
                                           .overwrite_dx = starts,
                                           .overwrite_parameters = s->overwrite};
    return tt_op_run(model->context, TT_OP_RMSNORM_BACKWARD, &args);
}

static tt_status layernorm(const sweep *s, size_t param, size_t input, size_t act, bool starts)
{
    tt_model *model = s->model;
    const tt_layernorm_backward_args args = {.rows = s->pass.rows,
                                             .channels = s->channels,
                                             .dy = s->dbranch,
                                             .x = tt_model_act(model, input),
                                             .gamma = tt_model_param(model, s->pass.params, param),
                                             .mean = tt_model_act(model, act + 1),
                                             .rstd = tt_model_act(model, act + 2),
                                             .dx = s->dresid,
                                             .dx_act =
                                                 s->dresid_act == s->dresid ? NULL : s->dresid_act,
                                             .dgamma = tt_model_grad(model, param),
                                             .dbeta = tt_model_grad(model, param + 1),
                                             .overwrite_dx = starts,
                                             .overwrite_parameters = s->overwrite};
    return tt_op_run(model->context, TT_OP_LAYERNORM_BACKWARD, &args);
}

/* The norm whose weight is `param`, input `input` and output `act`: dresid += its dx, or starts
 * with it. */
static tt_status norm(const sweep *s, size_t param, size_t input, size_t act, bool starts)
{
    const tt_model_dims *dims = &s->model->dims;
    TRY(dims->norm == TT_NORM_RMSNORM ? rmsnorm(s, param, input, act, starts)
                                      : layernorm(s, param, input, act, starts));
    return final_gradients(s, param, tt_model_norm_params(dims));
}

/* The head left the gradient of ln_f's output. */
static tt_status backward_last_norm(const sweep *s)
{
    const tt_model_dims *dims = &s->model->dims;
    return norm(s, tt_model_last_norm_param(dims), tt_model_layer_act(dims->layers - 1, ACT_RESID),
                tt_model_head_act(dims, ACT_LN_F), true);
}

/* From the gradient of the SwiGLU, in dwide, to that of fc, in its place. */
static tt_status backward_swiglu(const sweep *s, int64_t layer, void *fc)
{
    s->model->fc_spent = layer;
    const tt_swiglu_backward_args args = {.rows = s->pass.rows,
                                          .width = tt_model_mlp_width(&s->model->dims),
                                          .x = fc,
                                          .dy = s->dwide,
                                          .dx = fc};
    return tt_op_run(s->model->context, TT_OP_SWIGLU_BACKWARD, &args);
}

static tt_status backward_mlp(const sweep *s, int64_t layer)
{
    tt_model *model = s->model;
    const tt_model_dims *dims = &model->dims;
    const size_t act = tt_model_layer_act(layer, ACT_LN_2);
    const bool is_gelu = dims->mlp == TT_MLP_GELU;
    void *fc = tt_model_act(model, tt_model_layer_act(layer, ACT_FC));
    TRY(linear(s, tt_model_layer_param(dims, layer, PARAM_FC_PROJ), s->dresid_act,
               tt_model_act(model, tt_model_layer_act(layer, ACT_HIDDEN)), is_gelu ? fc : NULL,
               s->dwide));
    if (!is_gelu) {
        TRY(backward_swiglu(s, layer, fc));
    }
    TRY(linear(s, tt_model_layer_param(dims, layer, PARAM_FC), is_gelu ? s->dwide : fc,
               tt_model_act(model, act), NULL, s->dbranch));
    return norm(s, tt_model_layer_param(dims, layer, PARAM_LN_2),
                tt_model_layer_act(layer, ACT_RESID_MID), act, false);
}

static tt_status backward_attention(const sweep *s, int64_t layer)
{
    tt_model *model = s->model;
    const tt_model_dims *dims = &model->dims;
    const size_t act = tt_model_layer_act(layer, ACT_LN_1);
    void *attn = tt_model_act(model, tt_model_layer_act(layer, ACT_ATTN));
    TRY(linear(s, tt_model_layer_param(dims, layer, PARAM_PROJ), s->dresid_act, attn, NULL,
               s->dbranch));
    const tt_attention_backward_args attention = {
        .batch = s->pass.batch,
        .time = s->pass.time,
        .heads = dims->heads,
        .channels = s->channels,
        .qkv = tt_model_act(model, tt_model_layer_act(layer, ACT_QKV)),
        .out = attn,
        .lse = tt_model_act(model, tt_model_layer_act(layer, ACT_LSE)),
        .dout = s->dbranch,
        .dqkv = s->dwide,
        .kv_heads = tt_model_kv_heads(dims),
    };
    TRY(tt_op_run(model->context, TT_OP_ATTENTION_BACKWARD, &attention));
    TRY(tt_pass_rotate(&s->pass, 0, s->dwide, true));
    TRY(linear(s, tt_model_layer_param(dims, layer, PARAM_QKV), s->dwide, tt_model_act(model, act),
               NULL, s->dbranch));
    return norm(s, tt_model_layer_param(dims, layer, PARAM_LN_1), tt_model_layer_input(layer), act,
                false);
}

static tt_status clear_gradient(const sweep *s, size_t param)
{
    tt_model *model = s->model;
    return tt_tensor_zero(model->context, tt_model_grad(model, param),
                          (size_t)model->tensors[param].count * model->plan.element);
}

/* The positions' gradient has no other share, and no use of every row; the tokens' has that of a
 * tied head. */
static tt_status backward_embedding(const sweep *s)
{
    tt_model *model = s->model;
    const bool learned = model->dims.positions == TT_POSITIONS_LEARNED;
    if (s->overwrite && learned) {
        TRY(clear_gradient(s, PARAM_WPE));
    }
    if (s->overwrite && model->dims.untied) {
        TRY(clear_gradient(s, PARAM_WTE));
    }
    const tt_embedding_backward_args args = {.batch = s->pass.batch,
                                             .time = s->pass.time,
                                             .channels = s->channels,
                                             .tokens = model->memory + model->plan.tokens,
                                             .dout = s->dresid,
                                             .dwte = tt_model_grad(model, PARAM_WTE),
                                             .dwpe =
                                                 learned ? tt_model_grad(model, PARAM_WPE) : NULL};
    TRY(tt_op_run(model->context, TT_OP_EMBEDDING_BACKWARD, &args));
    return final_gradients(s, PARAM_WTE, tt_model_embedding_params(&model->dims));
}

tt_status tt_model_backward(tt_model *model, const void *params)
{
    if (!model->backward_due) {
        return tt_fail(TT_EINVAL,
                       "backward needs a tt_model_forward_train directly before it, with "
                       "a finite loss");
    }
    model->backward_due = false;
    model->logits_rows = 0; /* dresid and dwide lie there */
    model->probe_phase = TT_PROBE_GRADIENT;
    const sweep s = {
        .pass = {.model = model,
                 .params = params,
                 .batch = model->batch,
                 .time = model->time,
                 .rows = model->batch * model->time},
        .model = model,
        .channels = model->dims.channels,
        .dresid = model->memory + model->plan.pass.dresid,
        .dresid_act =
            model->memory + (model->saving.form.compute == TT_BF16 ? model->plan.pass.dresid_act
                                                                   : model->plan.pass.dresid),
        .dbranch = tt_model_branch(model),
        .dwide = model->memory + model->plan.pass.dwide,
        .overwrite = model->step_begins,
    };
    model->step_begins = false;
    if (model->dims.untied) { /* the head left it complete */
        TRY(final_gradients(&s, tt_model_head_param(&model->dims), 1));
    }
    TRY(backward_last_norm(&s));
    for (int64_t layer = model->dims.layers - 1; layer >= 0; layer--) {
        TRY(tt_model_restore_layer(model, layer, s.pass.rows));
        TRY(backward_mlp(&s, layer));
        TRY(backward_attention(&s, layer));
    }
    return backward_embedding(&s);
}

void tt_model_abandon_pass(tt_model *model)
{
    model->backward_due = false;
}

tt_status tt_model_begin_step(tt_model *model)
{
    if (!model->acts) {
        return tt_fail(TT_EINVAL, "a model for decoding only has no gradients");
    }
    model->backward_due = false;
    model->step_begins = true;
    tt_model_unpack_weights(model);
    return tt_model_count_step(model);
}
