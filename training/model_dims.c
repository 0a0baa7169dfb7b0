/* What a model is made of: its dims, what follows from them, and its parameters. */
#include "model_internal.h"

#include <math.h>
#include <stdio.h>

enum { ALIGN_ELEMENTS = 16, SWIGLU_MULTIPLE = 64 };

static const double default_theta = 10000.0;

/* With these every element count of the parameters stays below 2^60. */
static const int64_t max_layers = INT64_C(1) << 15;
static const int64_t max_channels = INT64_C(1) << 20;
static const int64_t max_mlp_width = INT64_C(1) << 22;

/* ---- dims ---- */

int64_t tt_model_head_size(const tt_model_dims *dims)
{
    return dims->channels / dims->heads;
}

int64_t tt_model_kv_heads(const tt_model_dims *dims)
{
    return dims->kv_heads ? dims->kv_heads : dims->heads;
}

int64_t tt_model_kv_width(const tt_model_dims *dims)
{
    return tt_model_kv_heads(dims) * tt_model_head_size(dims);
}

int64_t tt_model_qkv_width(const tt_model_dims *dims)
{
    return dims->channels + 2 * tt_model_kv_width(dims);
}

int64_t tt_model_mlp_width(const tt_model_dims *dims)
{
    if (dims->mlp_width) {
        return dims->mlp_width;
    }
    if (dims->mlp == TT_MLP_GELU) {
        return 4 * dims->channels;
    }
    const int64_t width = (8 * dims->channels + 2) / 3;
    return (width + SWIGLU_MULTIPLE - 1) / SWIGLU_MULTIPLE * SWIGLU_MULTIPLE;
}

int64_t tt_model_fc_width(const tt_model_dims *dims)
{
    return (dims->mlp == TT_MLP_SWIGLU ? 2 : 1) * tt_model_mlp_width(dims);
}

double tt_model_rope_theta(const tt_model_dims *dims)
{
    return dims->rope_theta != 0.0 ? dims->rope_theta : default_theta;
}

static tt_status check_range(const char *key, int64_t value, int64_t limit)
{
    if (value >= 1 && value <= limit) {
        return TT_OK;
    }
    return tt_fail(TT_ECONFIG, "model.%s is %lld; give a number from 1 to %lld", key,
                   (long long)value, (long long)limit);
}

static tt_status check_heads(const tt_model_dims *dims)
{
    if (dims->channels % dims->heads) {
        return tt_fail(TT_ECONFIG,
                       "model.channels (%lld) is not a multiple of model.heads (%lld); every head "
                       "needs the same share of the channels",
                       (long long)dims->channels, (long long)dims->heads);
    }
    const int64_t kv_heads = tt_model_kv_heads(dims);
    TRY(check_range("kv_heads", kv_heads, dims->heads));
    if (dims->heads % kv_heads) {
        return tt_fail(TT_ECONFIG,
                       "model.heads (%lld) is not a multiple of model.kv_heads (%lld); every head "
                       "of keys and values serves equally many of queries",
                       (long long)dims->heads, (long long)kv_heads);
    }
    return TT_OK;
}

static tt_status check_positions(const tt_model_dims *dims)
{
    if (dims->positions != TT_POSITIONS_ROTARY) {
        return TT_OK;
    }
    if (tt_model_head_size(dims) % 2) {
        return tt_fail(TT_ECONFIG,
                       "model.positions is rotary, but heads of %lld channels (model.channels / "
                       "model.heads) have no pairs to turn; make that an even number",
                       (long long)tt_model_head_size(dims));
    }
    if (!(isfinite(dims->rope_theta) && tt_model_rope_theta(dims) >= 1.0)) {
        return tt_fail(TT_ECONFIG, "model.rope_theta is %g; give a number of at least 1",
                       dims->rope_theta);
    }
    return TT_OK;
}

tt_status tt_model_dims_check(const tt_model_dims *dims)
{
    TRY(check_range("layers", dims->layers, max_layers));
    TRY(check_range("channels", dims->channels, max_channels));
    TRY(check_range("heads", dims->heads, dims->channels));
    TRY(check_range("context", dims->context, INT32_MAX));
    TRY(check_range("vocab", dims->vocab, INT32_MAX));
    TRY(check_range("mlp_width", tt_model_mlp_width(dims), max_mlp_width));
    TRY(check_heads(dims));
    return check_positions(dims);
}

/* ---- parameters ---- */

typedef enum param_form { NORM_WEIGHT, NORM_BIAS, WEIGHT, BIAS } param_form;

typedef struct param_rule {
    const char *name;
    param_form form;
    bool residual;
} param_rule;

static const param_rule layer_params[PARAMS_PER_LAYER] = {
    [PARAM_LN_1] = {"ln_1.weight", NORM_WEIGHT, false},
    [PARAM_LN_1_BIAS] = {"ln_1.bias", NORM_BIAS, false},
    [PARAM_QKV] = {"attn.c_attn.weight", WEIGHT, false},
    [PARAM_QKV_BIAS] = {"attn.c_attn.bias", BIAS, false},
    [PARAM_PROJ] = {"attn.c_proj.weight", WEIGHT, true},
    [PARAM_PROJ_BIAS] = {"attn.c_proj.bias", BIAS, false},
    [PARAM_LN_2] = {"ln_2.weight", NORM_WEIGHT, false},
    [PARAM_LN_2_BIAS] = {"ln_2.bias", NORM_BIAS, false},
    [PARAM_FC] = {"mlp.c_fc.weight", WEIGHT, false},
    [PARAM_FC_BIAS] = {"mlp.c_fc.bias", BIAS, false},
    [PARAM_FC_PROJ] = {"mlp.c_proj.weight", WEIGHT, true},
    [PARAM_FC_PROJ_BIAS] = {"mlp.c_proj.bias", BIAS, false},
};

static bool has_param(const tt_model_dims *dims, param_form form)
{
    switch (form) {
    case NORM_BIAS:
        return dims->norm == TT_NORM_LAYERNORM;
    case BIAS:
        return !dims->unbiased;
    default:
        return true;
    }
}

/* How many a layer has of those before `which`. */
static size_t params_before(const tt_model_dims *dims, int which)
{
    size_t count = 0;
    for (int i = 0; i < which; i++) {
        count += has_param(dims, layer_params[i].form);
    }
    return count;
}

size_t tt_model_embedding_params(const tt_model_dims *dims)
{
    return dims->positions == TT_POSITIONS_LEARNED ? 2 : 1;
}

size_t tt_model_norm_params(const tt_model_dims *dims)
{
    return has_param(dims, NORM_BIAS) ? 2 : 1;
}

size_t tt_model_linear_params(const tt_model_dims *dims)
{
    return has_param(dims, BIAS) ? 2 : 1;
}

size_t tt_model_layer_param(const tt_model_dims *dims, int64_t layer, tt_layer_param which)
{
    return tt_model_embedding_params(dims) + (size_t)layer * params_before(dims, PARAMS_PER_LAYER) +
           params_before(dims, (int)which);
}

size_t tt_model_last_norm_param(const tt_model_dims *dims)
{
    return tt_model_layer_param(dims, dims->layers, PARAM_LN_1);
}

size_t tt_model_head_param(const tt_model_dims *dims)
{
    return dims->untied ? tt_model_last_norm_param(dims) + tt_model_norm_params(dims) : PARAM_WTE;
}

size_t tt_model_count_tensors(const tt_model_dims *dims)
{
    return tt_model_last_norm_param(dims) + tt_model_norm_params(dims) + dims->untied;
}

/* Of the product whose weight is `which`: [rows, columns]. */
static void weight_shape(const tt_model_dims *dims, tt_layer_param which, int64_t *rows,
                         int64_t *columns)
{
    *rows = *columns = dims->channels;
    switch (which) {
    case PARAM_QKV:
        *rows = tt_model_qkv_width(dims);
        break;
    case PARAM_FC:
        *rows = tt_model_fc_width(dims);
        break;
    case PARAM_FC_PROJ:
        *columns = tt_model_mlp_width(dims);
        break;
    default:
        break;
    }
}

/* Walks the flat vector; with `tensors` NULL it is only measured. */
typedef struct param_cursor {
    tt_param_tensor *tensors;
    bool bf16_weights;
    size_t index;
    int64_t offset, place;
    int64_t elements, largest; /* without the gaps; of one tensor */
} param_cursor;

static int64_t padded(int64_t elements, int64_t unit)
{
    return (elements + unit - 1) / unit * unit;
}

/* columns 0: a vector (norms and biases), which takes no weight decay and is always real. */
static void place_param(param_cursor *cursor, int64_t layer, param_rule rule, int64_t rows,
                        int64_t columns)
{
    int64_t count = columns ? rows * columns : rows;
    const bool bf16 = cursor->bf16_weights && columns != 0;
    if (cursor->tensors) {
        tt_param_tensor *tensor = &cursor->tensors[cursor->index];
        *tensor = (tt_param_tensor){.rank = columns ? 2 : 1,
                                    .dims = {rows, columns ? columns : 1},
                                    .count = count,
                                    .offset = cursor->offset,
                                    .place = cursor->place,
                                    .bf16 = bf16,
                                    .decay = columns != 0,
                                    .residual = rule.residual,
                                    .gain = rule.form == NORM_WEIGHT};
        if (layer < 0) {
            snprintf(tensor->name, sizeof tensor->name, "%s", rule.name);
        } else {
            snprintf(tensor->name, sizeof tensor->name, "h.%lld.%s", (long long)layer, rule.name);
        }
    }
    cursor->index++;
    cursor->offset += padded(count, ALIGN_ELEMENTS);
    cursor->place += bf16 ? padded(count, 2 * ALIGN_ELEMENTS) : 2 * padded(count, ALIGN_ELEMENTS);
    cursor->elements += count;
    cursor->largest = count > cursor->largest ? count : cursor->largest;
}

static void place_layer(param_cursor *cursor, const tt_model_dims *dims, int64_t layer)
{
    int64_t rows = 0;
    int64_t columns = 0;
    for (int which = 0; which < PARAMS_PER_LAYER; which++) {
        const param_rule rule = layer_params[which];
        if (rule.form == WEIGHT) {
            weight_shape(dims, (tt_layer_param)which, &rows, &columns);
        } else if (rule.form != BIAS) { /* a bias is as long as its weight has rows */
            rows = dims->channels;
        }
        if (has_param(dims, rule.form)) {
            place_param(cursor, layer, rule, rows, rule.form == WEIGHT ? columns : 0);
        }
    }
}

static param_cursor lay_out(const tt_model_dims *dims, tt_param_tensor *tensors)
{
    const int64_t channels = dims->channels;
    param_cursor cursor = {.tensors = tensors, .bf16_weights = dims->bf16_weights};
    place_param(&cursor, -1, (param_rule){"wte.weight", WEIGHT, false}, dims->vocab, channels);
    if (dims->positions == TT_POSITIONS_LEARNED) {
        place_param(&cursor, -1, (param_rule){"wpe.weight", WEIGHT, false}, dims->context,
                    channels);
    }
    for (int64_t layer = 0; layer < dims->layers; layer++) {
        place_layer(&cursor, dims, layer);
    }
    place_param(&cursor, -1, (param_rule){"ln_f.weight", NORM_WEIGHT, false}, channels, 0);
    if (has_param(dims, NORM_BIAS)) {
        place_param(&cursor, -1, (param_rule){"ln_f.bias", NORM_BIAS, false}, channels, 0);
    }
    if (dims->untied) {
        place_param(&cursor, -1, (param_rule){"lm_head.weight", WEIGHT, false}, dims->vocab,
                    channels);
    }
    return cursor;
}

int64_t tt_model_lay_out_params(const tt_model_dims *dims, tt_param_tensor *tensors)
{
    return lay_out(dims, tensors).offset;
}

int64_t tt_model_param_count(const tt_model_dims *dims)
{
    return lay_out(dims, NULL).offset;
}

size_t tt_model_params_bytes(const tt_model_dims *dims, tt_dtype real)
{
    return (size_t)lay_out(dims, NULL).place * (tt_dtype_size(real) / 2);
}

size_t tt_param_at(const tt_param_tensor *tensor, tt_dtype real)
{
    return (size_t)tensor->place * (tt_dtype_size(real) / 2);
}

size_t tt_param_bytes(const tt_param_tensor *tensor, tt_dtype real)
{
    return (size_t)tensor->count * tt_dtype_size(tensor->bf16 ? TT_BF16 : real);
}

int64_t tt_model_param_elements(const tt_model_dims *dims)
{
    return lay_out(dims, NULL).elements;
}

int64_t tt_model_largest_param(const tt_model_dims *dims)
{
    return lay_out(dims, NULL).largest;
}

/* ---- for the tuner ---- */

size_t tt_model_gemm_shapes(const tt_model_dims *dims, int64_t batch, int64_t time,
                            tt_gemm_shape *out, size_t capacity)
{
    static const tt_layer_param weights[] = {PARAM_QKV, PARAM_PROJ, PARAM_FC, PARAM_FC_PROJ};
    static const tt_op ops[] = {TT_OP_LINEAR_FORWARD, TT_OP_LINEAR_DGRAD, TT_OP_LINEAR_WGRAD};
    enum { WEIGHTS = sizeof weights / sizeof weights[0] };
    size_t count = 0;
    for (size_t op = 0; op < sizeof ops / sizeof ops[0]; op++) {
        for (size_t i = 0; i <= WEIGHTS; i++, count++) {
            tt_gemm_shape shape = {ops[op], batch * time, dims->vocab, dims->channels, 1};
            if (i < WEIGHTS) {
                shape.count = (int)dims->layers;
                weight_shape(dims, weights[i], &shape.n, &shape.k);
            }
            if (count < capacity) {
                out[count] = shape;
            }
        }
    }
    return count;
}
