/* The forward pass, and the loss. */
#include "model_internal.h"

#include <string.h>

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

/* An activation is now complete: the probe sees it, then it is saved for backward. */
static tt_status produced(const tt_pass *pass, size_t act)
{
    tt_model *model = pass->model;
    tt_model_note_held(model, act);
    if (model->probe) {
        TRY(model->probe(model->probe_user, model->acts[act].name, tt_model_act(model, act),
                         pass->rows * model->acts[act].width));
    }
    return pass->save ? tt_model_save_act(model, act, pass->rows) : TT_OK;
}

/* ---- steps ---- */

tt_status tt_pass_linear(const tt_pass *pass, size_t index, int64_t n, int64_t k, const void *x,
                         void *y)
{
    const tt_linear_forward_args args = {.m = pass->rows,
                                         .n = n,
                                         .k = k,
                                         .x = x,
                                         .w = tt_model_param(pass->model, pass->params, index),
                                         .bias =
                                             tt_model_param(pass->model, pass->params, index + 1),
                                         .y = y};
    return tt_op_run(pass->model->context, TT_OP_LINEAR_FORWARD, &args);
}

/* The norm whose weight is parameter `param` and whose output is activation `act`. */
static tt_status layernorm(const tt_pass *pass, size_t param, size_t input, size_t act)
{
    tt_model *model = pass->model;
    const tt_layernorm_forward_args args = {.rows = pass->rows,
                                            .channels = model->dims.channels,
                                            .x = tt_model_act(model, input),
                                            .gamma = tt_model_param(model, pass->params, param),
                                            .beta = tt_model_param(model, pass->params, param + 1),
                                            .y = tt_model_act(model, act),
                                            .mean = tt_model_act(model, act + 1),
                                            .rstd = tt_model_act(model, act + 2)};
    TRY(tt_op_run(model->context, TT_OP_LAYERNORM_FORWARD, &args));
    TRY(produced(pass, act));
    TRY(produced(pass, act + 1));
    return produced(pass, act + 2);
}

/* act = input + (x w^T + bias): the projection is written where the sum will be. */
static tt_status project_into_residual(const tt_pass *pass, size_t param, int64_t k, const void *x,
                                       size_t input, size_t act)
{
    tt_model *model = pass->model;
    void *sum = tt_model_act(model, act);
    TRY(tt_pass_linear(pass, param, model->dims.channels, k, x, sum));
    const tt_add_args add = {.n = pass->rows * model->dims.channels,
                             .a = tt_model_act(model, input),
                             .b = sum,
                             .out = sum};
    TRY(tt_op_run(model->context, TT_OP_ADD, &add));
    return produced(pass, act);
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
        .wpe = tt_model_param(model, pass->params, PARAM_WPE),
        .out = tt_model_act(model, ACT_EMBED),
    };
    TRY(tt_op_run(model->context, TT_OP_EMBEDDING_FORWARD, &args));
    return produced(pass, ACT_EMBED);
}

static tt_status attend(const tt_pass *pass, int64_t layer)
{
    tt_model *model = pass->model;
    const int64_t channels = model->dims.channels;
    size_t norm = tt_model_layer_act(layer, ACT_LN_1);
    size_t qkv = tt_model_layer_act(layer, ACT_QKV);
    size_t attn = tt_model_layer_act(layer, ACT_ATTN);
    size_t lse = tt_model_layer_act(layer, ACT_LSE);
    TRY(tt_pass_linear(pass, tt_model_layer_param(layer, PARAM_QKV), 3 * channels, channels,
                       tt_model_act(model, norm), tt_model_act(model, qkv)));
    TRY(produced(pass, qkv));
    const tt_attention_forward_args args = {.batch = pass->batch,
                                            .time = pass->time,
                                            .heads = model->dims.heads,
                                            .channels = channels,
                                            .qkv = tt_model_act(model, qkv),
                                            .out = tt_model_act(model, attn),
                                            .lse = tt_model_act(model, lse),
                                            .kv_heads = model->dims.heads};
    TRY(tt_op_run(model->context, TT_OP_ATTENTION_FORWARD, &args));
    TRY(produced(pass, attn));
    return produced(pass, lse);
}

static tt_status expand(const tt_pass *pass, int64_t layer)
{
    tt_model *model = pass->model;
    const int64_t channels = model->dims.channels;
    size_t fc = tt_model_layer_act(layer, ACT_FC);
    size_t gelu = tt_model_layer_act(layer, ACT_GELU);
    TRY(tt_pass_linear(pass, tt_model_layer_param(layer, PARAM_FC), 4 * channels, channels,
                       tt_model_act(model, tt_model_layer_act(layer, ACT_LN_2)),
                       tt_model_act(model, fc)));
    TRY(produced(pass, fc));
    const tt_gelu_forward_args args = {.n = pass->rows * 4 * channels,
                                       .x = tt_model_act(model, fc),
                                       .y = tt_model_act(model, gelu)};
    TRY(tt_op_run(model->context, TT_OP_GELU_FORWARD, &args));
    return produced(pass, gelu);
}

static tt_status forward_layer(const tt_pass *pass, int64_t layer)
{
    tt_model *model = pass->model;
    const int64_t channels = model->dims.channels;
    size_t input = layer ? tt_model_layer_act(layer - 1, ACT_RESID) : ACT_EMBED;
    size_t middle = tt_model_layer_act(layer, ACT_RESID_MID);
    TRY(layernorm(pass, tt_model_layer_param(layer, PARAM_LN_1), input,
                  tt_model_layer_act(layer, ACT_LN_1)));
    TRY(attend(pass, layer));
    TRY(project_into_residual(pass, tt_model_layer_param(layer, PARAM_PROJ), channels,
                              tt_model_act(model, tt_model_layer_act(layer, ACT_ATTN)), input,
                              middle));
    TRY(layernorm(pass, tt_model_layer_param(layer, PARAM_LN_2), middle,
                  tt_model_layer_act(layer, ACT_LN_2)));
    TRY(expand(pass, layer));
    return project_into_residual(pass, tt_model_layer_param(layer, PARAM_FC_PROJ), 4 * channels,
                                 tt_model_act(model, tt_model_layer_act(layer, ACT_GELU)), middle,
                                 tt_model_layer_act(layer, ACT_RESID));
}

/* The tied head: logits = ln_f(x) wte^T. */
static tt_status forward_head(const tt_pass *pass)
{
    tt_model *model = pass->model;
    const tt_model_dims *dims = &model->dims;
    size_t norm = tt_model_head_act(dims, ACT_LN_F);
    size_t logits = tt_model_head_act(dims, ACT_LOGITS);
    TRY(layernorm(pass, model->tensor_count - 2, tt_model_layer_act(dims->layers - 1, ACT_RESID),
                  norm));
    const tt_linear_forward_args args = {.m = pass->rows,
                                         .n = dims->vocab,
                                         .k = dims->channels,
                                         .x = tt_model_act(model, norm),
                                         .w = tt_model_param(model, pass->params, PARAM_WTE),
                                         .y = tt_model_act(model, logits)};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_FORWARD, &args));
    return produced(pass, logits);
}

/* ---- the loss ---- */

static double mean_of(const void *losses, tt_dtype dtype, int64_t rows)
{
    double sum = 0.0;
    for (int64_t i = 0; i < rows; i++) {
        sum += dtype == TT_F64 ? ((const double *)losses)[i] : (double)((const float *)losses)[i];
    }
    return sum / (double)rows;
}

/* Losses of all rows; with `train` the gradient takes the place of the logits. */
static tt_status score(const tt_pass *pass, bool train, double scale, double *loss)
{
    tt_model *model = pass->model;
    void *logits = tt_model_act(model, tt_model_head_act(&model->dims, ACT_LOGITS));
    size_t losses = tt_model_head_act(&model->dims, ACT_LOSSES);
    const tt_softmax_xent_args args = {.rows = pass->rows,
                                       .vocab = model->dims.vocab,
                                       .logits = logits,
                                       .targets = model->memory + model->plan.targets,
                                       .losses = tt_model_act(model, losses),
                                       .dlogits = train ? logits : NULL,
                                       .scale = scale / (double)pass->rows};
    TRY(tt_op_run(model->context, TT_OP_SOFTMAX_XENT, &args));
    model->has_losses = true;
    TRY(produced(pass, losses));
    TRY(tt_tensor_read(model->context, model->host, tt_model_act(model, losses),
                       (size_t)pass->rows * model->plan.element));
    *loss = mean_of(model->host, tt_context_dtype(model->context), pass->rows);
    return TT_OK;
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
    model->has_losses = false;
    model->backward_due = false;
    model->probe_phase = TT_PROBE_FORWARD;
    tt_model_forget_buffers(model);
    if (pass->save) {
        model->saving.error = 0.0;
        model->saving.worst = NO_ACT;
    }
    return TT_OK;
}

static tt_status forward(tt_pass *pass, const int32_t *tokens, const int32_t *targets)
{
    TRY(begin_pass(pass, tokens, targets));
    TRY(embed(pass));
    for (int64_t layer = 0; layer < pass->model->dims.layers; layer++) {
        TRY(forward_layer(pass, layer));
    }
    return forward_head(pass);
}

tt_status tt_model_forward(tt_model *model, const void *params, const int32_t *tokens,
                           const int32_t *targets, int64_t batch, int64_t time, double *loss)
{
    tt_pass pass = {.model = model, .params = params, .batch = batch, .time = time};
    TRY(forward(&pass, tokens, targets));
    return targets ? score(&pass, false, 1.0, loss) : TT_OK;
}

tt_status tt_model_forward_train(tt_model *model, const void *params, const int32_t *tokens,
                                 const int32_t *targets, int64_t batch, int64_t time, double scale,
                                 double *loss)
{
    tt_pass pass = {.model = model, .params = params, .batch = batch, .time = time, .save = true};
    TRY(forward(&pass, tokens, targets));
    TRY(score(&pass, true, scale, loss));
    model->backward_due = true;
    return TT_OK;
}
