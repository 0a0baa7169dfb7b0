/* The forward pass, up to the head. */
#include "model_internal.h"

#include <math.h>

tt_status tt_model_check_tokens(const tt_model *model, const char *what, const int32_t *tokens,
                                int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= model->dims.vocab) {
            return tt_fail(TT_EDATA, "%s %lld is %d; model.vocab is %lld", what, (long long)i,
                           tokens[i], (long long)model->dims.vocab);
        }
    }
    return TT_OK;
}

tt_status tt_pass_show(const tt_pass *pass, size_t act, void *data, int64_t count)
{
    const tt_model *model = pass->model;
    return model->probe ? model->probe(model->probe_user, model->acts[act].name, data,
                                       model->acts[act].dtype, count)
                        : TT_OK;
}

/* An activation is now complete: the probe sees it, then it is saved for backward. */
static tt_status produced(const tt_pass *pass, size_t act)
{
    tt_model *model = pass->model;
    tt_model_note_held(model, act);
    TRY(tt_pass_show(pass, act, tt_model_act(model, act), pass->rows * model->acts[act].width));
    return pass->save ? tt_model_save_act(model, act, pass->rows) : TT_OK;
}

/* ---- steps ---- */

tt_status tt_pass_linear(const tt_pass *pass, size_t index, const void *x, void *y, void *gelu)
{
    const tt_model *model = pass->model;
    const tt_linear_forward_args args = {
        .m = pass->rows,
        .n = model->tensors[index].dims[0],
        .k = model->tensors[index].dims[1],
        .x = x,
        .w = tt_model_param(model, pass->params, index),
        .bias = model->dims.unbiased ? NULL : tt_model_param(model, pass->params, index + 1),
        .y = y,
        .gelu = gelu,
        .packed = tt_pass_packed(pass, TT_OP_LINEAR_FORWARD, index),
        .w_bf16 = model->dims.bf16_weights};
    return tt_op_run(model->context, TT_OP_LINEAR_FORWARD, &args);
}

static tt_status rmsnorm(const tt_pass *pass, size_t param, const tt_norm_tensors *t)
{
    const tt_model *model = pass->model;
    const tt_rmsnorm_forward_args args = {.rows = t->rows,
                                          .channels = model->dims.channels,
                                          .x = t->x,
                                          .gamma = tt_model_param(model, pass->params, param),
                                          .y = t->y,
                                          .rstd = t->rstd,
                                          .branch = t->branch,
                                          .sum = t->sum};
    return tt_op_run(model->context, TT_OP_RMSNORM_FORWARD, &args);
}

tt_status tt_pass_norm(const tt_pass *pass, size_t param, const tt_norm_tensors *t)
{
    const tt_model *model = pass->model;
    if (model->dims.norm == TT_NORM_RMSNORM) {
        return rmsnorm(pass, param, t);
    }
    const tt_layernorm_forward_args args = {.rows = t->rows,
                                            .channels = model->dims.channels,
                                            .x = t->x,
                                            .gamma = tt_model_param(model, pass->params, param),
                                            .beta = tt_model_param(model, pass->params, param + 1),
                                            .y = t->y,
                                            .mean = t->mean,
                                            .rstd = t->rstd,
                                            .branch = t->branch,
                                            .sum = t->sum};
    return tt_op_run(model->context, TT_OP_LAYERNORM_FORWARD, &args);
}

tt_status tt_pass_rotate(const tt_pass *pass, int64_t position, void *qkv, bool inverse)
{
    const tt_model_dims *dims = &pass->model->dims;
    if (dims->positions != TT_POSITIONS_ROTARY) {
        return TT_OK;
    }
    const tt_rope_args args = {.batch = pass->batch,
                               .time = pass->time,
                               .position = position,
                               .heads = dims->heads,
                               .kv_heads = tt_model_kv_heads(dims),
                               .size = tt_model_head_size(dims),
                               .theta = tt_model_rope_theta(dims),
                               .qkv = qkv,
                               .inverse = inverse};
    return tt_op_run(pass->model->context, TT_OP_ROPE, &args);
}

tt_status tt_pass_expand(const tt_pass *pass, size_t index, const void *x, void *fc, void *hidden)
{
    const bool is_gelu = pass->model->dims.mlp == TT_MLP_GELU;
    return tt_pass_linear(pass, index, x, fc, is_gelu ? hidden : NULL);
}

tt_status tt_pass_gate(const tt_pass *pass, const void *fc, void *hidden)
{
    const tt_model_dims *dims = &pass->model->dims;
    if (dims->mlp != TT_MLP_SWIGLU) {
        return TT_OK;
    }
    const tt_swiglu_forward_args args = {
        .rows = pass->rows, .width = tt_model_mlp_width(dims), .x = fc, .y = hidden};
    return tt_op_run(pass->model->context, TT_OP_SWIGLU_FORWARD, &args);
}

/* The norm whose weight is parameter `param` and whose output is activation `act`, of activation
 * `input` or, with a `sum` (not NO_ACT), of input + branch, which becomes that activation. */
static tt_status norm(const tt_pass *pass, size_t param, size_t input, int64_t sum, size_t act)
{
    tt_model *model = pass->model;
    const bool adds = sum != NO_ACT;
    const tt_norm_tensors tensors = {
        .rows = pass->rows,
        .x = tt_model_act(model, input),
        .y = tt_model_act(model, act),
        .mean = tt_model_act(model, act + 1),
        .rstd = tt_model_act(model, act + 2),
        .branch = adds ? tt_model_branch(model) : NULL,
        .sum = adds ? tt_model_act(model, (size_t)sum) : NULL,
    };
    TRY(tt_pass_norm(pass, param, &tensors));
    if (adds) {
        TRY(produced(pass, (size_t)sum));
    }
    TRY(produced(pass, act));
    if (model->acts[act + 1].width) {
        TRY(produced(pass, act + 1));
    }
    return produced(pass, act + 2);
}

/* branch = x w^T + bias; the next norm adds it to the residual stream. */
static tt_status project(const tt_pass *pass, size_t param, size_t x)
{
    tt_model *model = pass->model;
    return tt_pass_linear(pass, param, tt_model_act(model, x), tt_model_branch(model), NULL);
}

static tt_status embed(const tt_pass *pass)
{
    tt_model *model = pass->model;
    const tt_embedding_forward_args args = {
        .batch = pass->batch,
        .time = pass->time,
        .channels = model->dims.channels,
        .position = 0,
        .tokens = model->memory + model->plan.tokens,
        .wte = tt_model_param(model, pass->params, PARAM_WTE),
        .wpe = tt_model_wpe(model, pass->params),
        .out = tt_model_act(model, ACT_EMBED),
        .w_bf16 = model->dims.bf16_weights,
    };
    TRY(tt_op_run(model->context, TT_OP_EMBEDDING_FORWARD, &args));
    return produced(pass, ACT_EMBED);
}

static tt_status attend(const tt_pass *pass, int64_t layer)
{
    tt_model *model = pass->model;
    const tt_model_dims *dims = &model->dims;
    size_t norm = tt_model_layer_act(layer, ACT_LN_1);
    size_t qkv = tt_model_layer_act(layer, ACT_QKV);
    size_t attn = tt_model_layer_act(layer, ACT_ATTN);
    size_t lse = tt_model_layer_act(layer, ACT_LSE);
    TRY(tt_pass_linear(pass, tt_model_layer_param(dims, layer, PARAM_QKV),
                       tt_model_act(model, norm), tt_model_act(model, qkv), NULL));
    TRY(tt_pass_rotate(pass, 0, tt_model_act(model, qkv), false));
    TRY(produced(pass, qkv));
    const tt_attention_forward_args args = {.batch = pass->batch,
                                            .time = pass->time,
                                            .heads = dims->heads,
                                            .channels = dims->channels,
                                            .qkv = tt_model_act(model, qkv),
                                            .out = tt_model_act(model, attn),
                                            .lse = tt_model_act(model, lse),
                                            .kv_heads = tt_model_kv_heads(dims)};
    TRY(tt_op_run(model->context, TT_OP_ATTENTION_FORWARD, &args));
    TRY(produced(pass, attn));
    return produced(pass, lse);
}

static tt_status expand(const tt_pass *pass, int64_t layer)
{
    tt_model *model = pass->model;
    size_t fc = tt_model_layer_act(layer, ACT_FC);
    size_t hidden = tt_model_layer_act(layer, ACT_HIDDEN);
    TRY(tt_pass_expand(pass, tt_model_layer_param(&model->dims, layer, PARAM_FC),
                       tt_model_act(model, tt_model_layer_act(layer, ACT_LN_2)),
                       tt_model_act(model, fc), tt_model_act(model, hidden)));
    TRY(produced(pass, fc));
    TRY(tt_pass_gate(pass, tt_model_act(model, fc), tt_model_act(model, hidden)));
    return produced(pass, hidden);
}

static tt_status forward_layer(const tt_pass *pass, int64_t layer)
{
    const tt_model_dims *dims = &pass->model->dims;
    const size_t middle = tt_model_layer_act(layer, ACT_RESID_MID);
    if (layer == 0) {
        TRY(norm(pass, tt_model_layer_param(dims, 0, PARAM_LN_1), ACT_EMBED, NO_ACT,
                 tt_model_layer_act(0, ACT_LN_1)));
    } else {
        TRY(norm(pass, tt_model_layer_param(dims, layer, PARAM_LN_1),
                 tt_model_layer_act(layer - 1, ACT_RESID_MID), (int64_t)tt_model_layer_input(layer),
                 tt_model_layer_act(layer, ACT_LN_1)));
    }
    TRY(attend(pass, layer));
    TRY(project(pass, tt_model_layer_param(dims, layer, PARAM_PROJ),
                tt_model_layer_act(layer, ACT_ATTN)));
    TRY(norm(pass, tt_model_layer_param(dims, layer, PARAM_LN_2), tt_model_layer_input(layer),
             (int64_t)middle, tt_model_layer_act(layer, ACT_LN_2)));
    TRY(expand(pass, layer));
    return project(pass, tt_model_layer_param(dims, layer, PARAM_FC_PROJ),
                   tt_model_layer_act(layer, ACT_HIDDEN));
}

/* The norm before the head. */
static tt_status forward_last_norm(const tt_pass *pass)
{
    const tt_model *model = pass->model;
    const int64_t last = model->dims.layers - 1;
    return norm(
        pass, tt_model_last_norm_param(&model->dims), tt_model_layer_act(last, ACT_RESID_MID),
        (int64_t)tt_model_layer_act(last, ACT_RESID), tt_model_head_act(&model->dims, ACT_LN_F));
}

/* ---- passes ---- */

static tt_status begin_pass(tt_pass *pass, const int32_t *tokens, const int32_t *targets)
{
    tt_model *model = pass->model;
    if (pass->batch < 1 || pass->time < 1 || pass->batch > model->max_batch ||
        pass->time > model->max_time) {
        return tt_fail(TT_EINVAL,
                       "a pass over %lld sequences of %lld tokens; the model was created for %lld "
                       "of %lld",
                       (long long)pass->batch, (long long)pass->time, (long long)model->max_batch,
                       (long long)model->max_time);
    }
    TRY(tt_model_check_form(model, pass->save));
    pass->rows = pass->batch * pass->time;
    const size_t bytes = (size_t)pass->rows * sizeof(int32_t);
    TRY(tt_model_check_tokens(model, "input token", tokens, pass->rows));
    TRY(tt_tensor_write(model->context, model->memory + model->plan.tokens, tokens, bytes));
    if (targets) {
        TRY(tt_model_check_tokens(model, "target token", targets, pass->rows));
        TRY(tt_tensor_write(model->context, model->memory + model->plan.targets, targets, bytes));
    }
    model->batch = pass->batch;
    model->time = pass->time;
    model->logits_rows = 0;
    model->loss_rows = 0;
    model->backward_due = false;
    model->fc_spent = model->dims.layers;
    model->probe_phase = TT_PROBE_FORWARD;
    tt_model_forget_buffers(model);
    if (pass->save) {
        model->saving.error = 0.0;
        model->saving.worst = NO_ACT;
    }
    return TT_OK;
}

static tt_status forward(tt_pass *pass, const int32_t *tokens, const int32_t *targets, double scale,
                         double *loss)
{
    TRY(begin_pass(pass, tokens, targets));
    TRY(embed(pass));
    for (int64_t layer = 0; layer < pass->model->dims.layers; layer++) {
        TRY(forward_layer(pass, layer));
    }
    TRY(forward_last_norm(pass));
    return tt_pass_head(pass, targets != NULL, scale, loss);
}

tt_status tt_model_forward(tt_model *model, const void *params, const int32_t *tokens,
                           const int32_t *targets, int64_t batch, int64_t time, double *loss)
{
    tt_pass pass = {.model = model, .params = params, .batch = batch, .time = time};
    return forward(&pass, tokens, targets, 1.0, loss);
}

tt_status tt_model_forward_train(tt_model *model, const void *params, const int32_t *tokens,
                                 const int32_t *targets, int64_t batch, int64_t time, double scale,
                                 double *loss)
{
    tt_pass pass = {.model = model, .params = params, .batch = batch, .time = time, .save = true};
    TRY(forward(&pass, tokens, targets, scale, loss));
    model->backward_due = isfinite(*loss);
    return TT_OK;
}
