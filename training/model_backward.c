/* The backward pass: the forward's steps in reverse, each with its own gradient.
 *
 * Gradients of activations live in three buffers that all layers share: dresid runs down the
 * residual stream and is added to by each branch's norm; dwide and dbranch hold what a branch
 * passes on. */
#include "model_internal.h"

/* One backward pass with its buffers. */
typedef struct sweep {
    tt_pass pass;
    tt_model *model;
    int64_t channels;
    void *dresid, *dbranch, *dwide;
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

/* Of y = x w^T + bias with the weight at `param`: its gradients from dy and x, then dx. */
static tt_status linear(const sweep *s, size_t param, int64_t n, int64_t k, const void *dy,
                        const void *x, void *dx)
{
    tt_model *model = s->model;
    const tt_linear_wgrad_args wgrad = {.m = s->pass.rows,
                                        .n = n,
                                        .k = k,
                                        .dy = dy,
                                        .x = x,
                                        .dw = tt_model_grad(model, param),
                                        .dbias = tt_model_grad(model, param + 1)};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_WGRAD, &wgrad));
    TRY(final_gradients(s, param, 2));
    const tt_linear_dgrad_args dgrad = {.m = s->pass.rows,
                                        .n = n,
                                        .k = k,
                                        .dy = dy,
                                        .w = tt_model_param(model, s->pass.params, param),
                                        .dx = dx,
                                        .accumulate = false};
    return tt_op_run(model->context, TT_OP_LINEAR_DGRAD, &dgrad);
}

/* The norm whose weight is `param`, input `input` and output `act`: dresid += its dx. */
static tt_status layernorm(const sweep *s, size_t param, size_t input, size_t act)
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
                                             .dbeta = tt_model_grad(model, param + 1)};
    TRY(tt_op_run(model->context, TT_OP_LAYERNORM_BACKWARD, &args));
    return final_gradients(s, param, 2);
}

/* dlogits is where the logits were. wte's gradient is not final before the embedding's share. */
static tt_status backward_head(const sweep *s)
{
    tt_model *model = s->model;
    const tt_model_dims *dims = &model->dims;
    const void *dlogits = tt_model_act(model, tt_model_head_act(dims, ACT_LOGITS));
    size_t norm = tt_model_head_act(dims, ACT_LN_F);
    const tt_linear_wgrad_args wgrad = {.m = s->pass.rows,
                                        .n = dims->vocab,
                                        .k = s->channels,
                                        .dy = dlogits,
                                        .x = tt_model_act(model, norm),
                                        .dw = tt_model_grad(model, PARAM_WTE)};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_WGRAD, &wgrad));
    const tt_linear_dgrad_args dgrad = {.m = s->pass.rows,
                                        .n = dims->vocab,
                                        .k = s->channels,
                                        .dy = dlogits,
                                        .w = tt_model_param(model, s->pass.params, PARAM_WTE),
                                        .dx = s->dbranch};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_DGRAD, &dgrad));
    /* The norm adds to the residual stream's gradient, which starts here. */
    TRY(tt_tensor_zero(model->context, s->dresid,
                       (size_t)(s->pass.rows * s->channels) * model->plan.element));
    return layernorm(s, model->tensor_count - 2, tt_model_layer_act(dims->layers - 1, ACT_RESID),
                     norm);
}

static tt_status backward_mlp(const sweep *s, int64_t layer)
{
    tt_model *model = s->model;
    const int64_t wide = 4 * s->channels;
    size_t norm = tt_model_layer_act(layer, ACT_LN_2);
    TRY(linear(s, tt_model_layer_param(layer, PARAM_FC_PROJ), s->channels, wide, s->dresid,
               tt_model_act(model, tt_model_layer_act(layer, ACT_GELU)), s->dwide));
    const tt_gelu_backward_args gelu = {
        .n = s->pass.rows * wide,
        .x = tt_model_act(model, tt_model_layer_act(layer, ACT_FC)),
        .dy = s->dwide,
        .dx = s->dwide,
    };
    TRY(tt_op_run(model->context, TT_OP_GELU_BACKWARD, &gelu));
    TRY(linear(s, tt_model_layer_param(layer, PARAM_FC), wide, s->channels, s->dwide,
               tt_model_act(model, norm), s->dbranch));
    return layernorm(s, tt_model_layer_param(layer, PARAM_LN_2),
                     tt_model_layer_act(layer, ACT_RESID_MID), norm);
}

static tt_status backward_attention(const sweep *s, int64_t layer)
{
    tt_model *model = s->model;
    size_t input = layer ? tt_model_layer_act(layer - 1, ACT_RESID) : ACT_EMBED;
    size_t norm = tt_model_layer_act(layer, ACT_LN_1);
    void *attn = tt_model_act(model, tt_model_layer_act(layer, ACT_ATTN));
    TRY(linear(s, tt_model_layer_param(layer, PARAM_PROJ), s->channels, s->channels, s->dresid,
               attn, s->dbranch));
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
               tt_model_act(model, norm), s->dbranch));
    return layernorm(s, tt_model_layer_param(layer, PARAM_LN_1), input, norm);
}

static tt_status backward_embedding(const sweep *s)
{
    tt_model *model = s->model;
    const tt_embedding_backward_args args = {.batch = s->pass.batch,
                                             .time = s->pass.time,
                                             .channels = s->channels,
                                             .tokens = model->memory + model->plan.tokens,
                                             .dout = s->dresid,
                                             .dwte = tt_model_grad(model, PARAM_WTE),
                                             .dwpe = tt_model_grad(model, PARAM_WPE)};
    TRY(tt_op_run(model->context, TT_OP_EMBEDDING_BACKWARD, &args));
    return final_gradients(s, PARAM_WTE, PARAM_FIRST_LAYER);
}

tt_status tt_model_backward(tt_model *model, const void *params)
{
    if (!model->backward_due) {
        return tt_fail(TT_EINVAL, "backward needs a tt_model_forward_train directly before it");
    }
    model->backward_due = false;
    model->probe_phase = TT_PROBE_GRADIENT;
    const tt_backward_scratch *scratch = &model->plan.backward;
    const sweep s = {
        .pass = {.model = model,
                 .params = params,
                 .batch = model->batch,
                 .time = model->time,
                 .rows = model->batch * model->time},
        .model = model,
        .channels = model->dims.channels,
        .dresid = model->memory + scratch->dresid,
        .dbranch = model->memory + scratch->dbranch,
        .dwide = model->memory + scratch->dwide,
    };
    TRY(backward_head(&s));
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

tt_status tt_model_zero_grad(tt_model *model)
{
    if (!model->acts) {
        return tt_fail(TT_EINVAL, "a model for decoding only has no gradients");
    }
    TRY(tt_model_count_step(model));
    return tt_tensor_zero(model->context, tt_model_gradients(model),
                          (size_t)tt_model_param_count(&model->dims) * model->plan.element);
}
