/* Decoding: new tokens of one sequence against the keys and values of those before them. */
#include "model_internal.h"

/* Some tokens on their way through the layers. */
typedef struct decode {
    tt_pass pass;
    tt_model *model;
    tt_kv_store *store;
    int64_t position; /* of the first of them */
    void *resid, *branch, *wide, *hidden;
} decode;

static tt_status norm(const decode *d, size_t param, const void *x, int64_t rows)
{
    const tt_model *model = d->model;
    const tt_norm_tensors tensors = {
        .rows = rows,
        .x = x,
        .y = d->branch,
        .mean = model->memory + model->plan.decode.mean,
        .rstd = model->memory + model->plan.decode.rstd,
    };
    return tt_pass_norm(&d->pass, param, &tensors);
}

/* resid += x w^T + bias, by way of `projected`. */
static tt_status project_into_residual(const decode *d, size_t param, const void *x,
                                       void *projected)
{
    const int64_t channels = d->model->dims.channels;
    TRY(tt_pass_linear(&d->pass, param, x, projected, NULL));
    const tt_add_args add = {
        .n = d->pass.rows * channels, .a = d->resid, .b = projected, .out = d->resid};
    return tt_op_run(d->model->context, TT_OP_ADD, &add);
}

static tt_status decode_layer(const decode *d, int64_t layer)
{
    tt_model *model = d->model;
    const tt_model_dims *dims = &model->dims;
    const int64_t qkv_width = tt_model_qkv_width(dims);
    TRY(norm(d, tt_model_layer_param(dims, layer, PARAM_LN_1), d->resid, d->pass.rows));
    TRY(tt_pass_linear(&d->pass, tt_model_layer_param(dims, layer, PARAM_QKV), d->branch, d->wide,
                       NULL));
    TRY(tt_pass_rotate(&d->pass, d->position, d->wide, false));
    TRY(tt_kv_store_append(d->store, layer, d->wide, qkv_width, d->pass.rows));
    const tt_attention_cached_args attention = {.count = d->pass.rows,
                                                .position = d->position,
                                                .heads = dims->heads,
                                                .channels = dims->channels,
                                                .q_stride = qkv_width,
                                                .q = d->wide,
                                                .keys = tt_kv_store_keys(d->store, layer),
                                                .values = tt_kv_store_values(d->store, layer),
                                                .out = d->branch,
                                                .kv_heads = tt_model_kv_heads(dims)};
    TRY(tt_op_run(model->context, TT_OP_ATTENTION_CACHED, &attention));
    TRY(project_into_residual(d, tt_model_layer_param(dims, layer, PARAM_PROJ), d->branch,
                              d->wide));
    TRY(norm(d, tt_model_layer_param(dims, layer, PARAM_LN_2), d->resid, d->pass.rows));
    TRY(tt_pass_expand(&d->pass, tt_model_layer_param(dims, layer, PARAM_FC), d->branch, d->wide,
                       d->hidden));
    TRY(tt_pass_gate(&d->pass, d->wide, d->hidden));
    return project_into_residual(d, tt_model_layer_param(dims, layer, PARAM_FC_PROJ), d->hidden,
                                 d->branch);
}

/* The head on the last row only. */
static tt_status decode_head(const decode *d, float *logits)
{
    tt_model *model = d->model;
    const tt_model_dims *dims = &model->dims;
    const size_t element = model->plan.element;
    const unsigned char *last =
        (const unsigned char *)d->resid + (size_t)((d->pass.rows - 1) * dims->channels) * element;
    TRY(norm(d, tt_model_last_norm_param(dims), last, 1));
    const size_t weight = tt_model_head_param(dims);
    void *row = model->memory + model->plan.decode.logits;
    const tt_linear_forward_args head = {.m = 1,
                                         .n = dims->vocab,
                                         .k = dims->channels,
                                         .x = d->branch,
                                         .w = tt_model_param(model, d->pass.params, weight),
                                         .y = row,
                                         .real_y = true,
                                         .packed =
                                             tt_pass_packed(&d->pass, TT_OP_LINEAR_FORWARD, weight),
                                         .w_bf16 = dims->bf16_weights};
    TRY(tt_op_run(model->context, TT_OP_LINEAR_FORWARD, &head));
    const size_t bytes = (size_t)dims->vocab * element;
    if (tt_context_dtype(model->context) != TT_F64) {
        return tt_tensor_read(model->context, logits, row, bytes);
    }
    const double *wide = model->host;
    TRY(tt_tensor_read(model->context, model->host, row, bytes));
    for (int64_t i = 0; i < dims->vocab; i++) {
        logits[i] = (float)wide[i];
    }
    return TT_OK;
}

/* `logits` NULL: more tokens follow, nobody asks for the head. */
static tt_status decode_rows(const decode *d, const int32_t *tokens, float *logits)
{
    tt_model *model = d->model;
    unsigned char *row_tokens = model->memory + model->plan.decode.tokens;
    TRY(tt_tensor_write(model->context, row_tokens, tokens,
                        (size_t)d->pass.rows * sizeof(int32_t)));
    const tt_embedding_forward_args embedding = {
        .batch = 1,
        .time = d->pass.rows,
        .channels = model->dims.channels,
        .position = d->position,
        .tokens = row_tokens,
        .wte = tt_model_param(model, d->pass.params, PARAM_WTE),
        .wpe = tt_model_wpe(model, d->pass.params),
        .out = d->resid,
        .w_bf16 = model->dims.bf16_weights,
    };
    TRY(tt_op_run(model->context, TT_OP_EMBEDDING_FORWARD, &embedding));
    for (int64_t layer = 0; layer < model->dims.layers; layer++) {
        TRY(decode_layer(d, layer));
    }
    if (logits) {
        TRY(decode_head(d, logits));
    }
    return tt_kv_store_advance(d->store, d->pass.rows);
}

static tt_status decode_all(tt_model *model, const void *params, tt_kv_store *store,
                            const int32_t *tokens, int64_t count, float *logits)
{
    const tt_decode_scratch *scratch = &model->plan.decode;
    for (int64_t done = 0; done < count;) {
        int64_t rows = count - done < scratch->rows ? count - done : scratch->rows;
        const decode d = {
            .pass = {.model = model, .params = params, .batch = 1, .time = rows, .rows = rows},
            .model = model,
            .store = store,
            .position = tt_kv_store_length(store),
            .resid = model->memory + scratch->resid,
            .branch = model->memory + scratch->branch,
            .wide = model->memory + scratch->wide,
            .hidden = model->memory + scratch->hidden,
        };
        TRY(decode_rows(&d, tokens + done, done + rows == count ? logits : NULL));
        done += rows;
    }
    return TT_OK;
}

tt_status tt_model_decode(tt_model *model, const void *params, tt_kv_store *store,
                          const int32_t *tokens, int64_t count, float *logits)
{
    const int64_t before = tt_kv_store_length(store);
    const int64_t capacity = tt_kv_store_capacity(store);
    const int64_t room = capacity < model->dims.context ? capacity : model->dims.context;
    if (count < 1 || count > room - before) {
        return tt_fail(TT_EINVAL,
                       "cannot decode %lld tokens after %lld: there is room for %lld in all",
                       (long long)count, (long long)before, (long long)room);
    }
    TRY(tt_model_check_form(model, false));
    TRY(tt_model_check_tokens(model, "token", tokens, count));
    model->logits_rows = 0; /* the scratch lies there */
    tt_status status = decode_all(model, params, store, tokens, count, logits);
    if (status) {
        (void)tt_kv_store_truncate(store, before); /* shorter than now: cannot fail */
    }
    return status;
}
