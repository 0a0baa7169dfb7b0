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
    bool overwrite; /* the first gradients of a step take the place of what is there */
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
                         model->tensors[i].count));
    }
    return TT_OK;
}

/* Of y = x w^T + bias with the weight at `param`: its gradients from dy and x, then dx; with
 * gelu_x (else NULL) through the GELU whose output x is. */
static tt_status linear(const sweep *s, size_t param, int64_t n, int64_t k, const void *dy,
                        const void *x, const void *gelu_x, void *dx)
{
    tt_model *model = s->model;
    const tt_linear_wgrad_args wgrad = {.m = s->pass.rows,
                                        .n = n,
                                        .k = k,
                                        .dy = dy,
                                        .x = x,
                                        .dw = tt_model_grad(model, param),
                                        .dbias = tt_model_grad(model, param + 1),
                                        .overwrite = s->overwrite};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_WGRAD, &wgrad));
    TRY(final_gradients(s, param, 2));
    const tt_linear_dgrad_args dgrad = {.m = s->pass.rows,
                                        .n = n,
                                        .k = k,
                                        .dy = dy,
                                        .w = tt_model_param(model, s->pass.params, param),
                                        .dx = dx,
                                        .gelu_x = gelu_x};
    return tt_op_run(model->context, TT_OP_LINEAR_DGRAD, &dgrad);
}

/* The norm whose weight is `param`, input `input` and output `act`: dresid += its dx, or starts
 * with it. */
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
                                             .dgamma = tt_model_grad(model, param),
                                             .dbeta = tt_model_grad(model, param + 1),
                                             .overwrite_dx = starts,
                                             .overwrite_parameters = s->overwrite};
    TRY(tt_op_run(model->context, TT_OP_LAYERNORM_BACKWARD, &args));
    return final_gradients(s, param, 2);
}

/* The head left the gradient of ln_f's output. */
static tt_status backward_last_norm(const sweep *s)
{
    const tt_model_dims *dims = &s->model->dims;
    return layernorm(s, s->model->tensor_count - 2, tt_model_layer_act(dims->layers - 1, ACT_RESID),
                     tt_model_head_act(dims, ACT_LN_F), true);
}

static tt_status backward_mlp(const sweep *s, int64_t layer)
{
    tt_model *model = s->model;
    const int64_t wide = 4 * s->channels;
    size_t norm = tt_model_layer_act(layer, ACT_LN_2);
    TRY(linear(s, tt_model_layer_param(layer, PARAM_FC_PROJ), s->channels, wide, s->dresid,
               tt_model_act(model, tt_model_layer_act(layer, ACT_GELU)),
               tt_model_act(model, tt_model_layer_act(layer, ACT_FC)), s->dwide));
    TRY(linear(s, tt_model_layer_param(layer, PARAM_FC), wide, s->channels, s->dwide,
               tt_model_act(model, norm), NULL, s->dbranch));
    return layernorm(s, tt_model_layer_param(layer, PARAM_LN_2),
                     tt_model_layer_act(layer, ACT_RESID_MID), norm, false);
}

static tt_status backward_attention(const sweep *s, int64_t layer)
{
    tt_model *model = s->model;
    size_t norm = tt_model_layer_act(layer, ACT_LN_1);
    void *attn = tt_model_act(model, tt_model_layer_act(layer, ACT_ATTN));
    TRY(linear(s, tt_model_layer_param(layer, PARAM_PROJ), s->channels, s->channels, s->dresid,
               attn, NULL, s->dbranch));
    const tt_attention_backward_args attention = {
        .batch = s->pass.batch,
        .time = s->pass.time,
        .heads = model->dims.heads,
        .channels = s->channels,
        .qkv = tt_model_act(model, tt_model_layer_act(layer, ACT_QKV)),
        .out = attn,
        .lse = tt_model_act(model, tt_model_layer_act(layer, ACT_LSE)),
        .dout = s->dbranch,
        .dqkv = s->dwide,
        .kv_heads = model->dims.heads,
    };
    TRY(tt_op_run(model->context, TT_OP_ATTENTION_BACKWARD, &attention));
    TRY(linear(s, tt_model_layer_param(layer, PARAM_QKV), 3 * s->channels, s->channels, s->dwide,
               tt_model_act(model, norm), NULL, s->dbranch));
    return layernorm(s, tt_model_layer_param(layer, PARAM_LN_1), tt_model_layer_input(layer), norm,
                     false);
}

/* The positions' gradient has no other share, and no use of every row; the tokens' has the head's.
 */
static tt_status backward_embedding(const sweep *s)
{
    tt_model *model = s->model;
    void *dwpe = tt_model_grad(model, PARAM_WPE);
    if (s->overwrite) {
        TRY(tt_tensor_zero(model->context, dwpe,
                           (size_t)model->tensors[PARAM_WPE].count * model->plan.element));
    }
    const tt_embedding_backward_args args = {.batch = s->pass.batch,
                                             .time = s->pass.time,
                                             .channels = s->channels,
                                             .tokens = model->memory + model->plan.tokens,
                                             .dout = s->dresid,
                                             .dwte = tt_model_grad(model, PARAM_WTE),
                                             .dwpe = dwpe};
    TRY(tt_op_run(model->context, TT_OP_EMBEDDING_BACKWARD, &args));
    return final_gradients(s, PARAM_WTE, PARAM_FIRST_LAYER);
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
        .dbranch = tt_model_branch(model),
        .dwide = model->memory + model->plan.pass.dwide,
        .overwrite = model->step_begins,
    };
    model->step_begins = false;
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
    return tt_model_count_step(model);
}
