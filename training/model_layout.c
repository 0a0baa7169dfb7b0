/* Names, shapes and places of parameters and activations. */
#include "model_internal.h"

#include <stdio.h>

enum { ALIGN_ELEMENTS = 16, ALIGN_BYTES = 64, DECODE_ROWS = 256 };

/* What the logits of the rows that the head has in hand may take, and how few rows those may be:
 * each lot of them reads and writes wte's gradient. */
enum { HEAD_BYTES = 64 << 20, HEAD_ROWS_MIN = 64 };

/* With these every element count of the parameters stays below 2^60. */
static const int64_t max_layers = INT64_C(1) << 16;
static const int64_t max_channels = INT64_C(1) << 20;

static tt_status check_range(const char *key, int64_t value, int64_t limit)
{
    if (value >= 1 && value <= limit) {
        return TT_OK;
    }
    return tt_fail(TT_ECONFIG, "model.%s is %lld; give a number from 1 to %lld", key,
                   (long long)value, (long long)limit);
}

tt_status tt_model_dims_check(const tt_model_dims *dims)
{
    TRY(check_range("layers", dims->layers, max_layers));
    TRY(check_range("channels", dims->channels, max_channels));
    TRY(check_range("heads", dims->heads, dims->channels));
    TRY(check_range("context", dims->context, INT32_MAX));
    TRY(check_range("vocab", dims->vocab, INT32_MAX));
    if (dims->channels % dims->heads) {
        return tt_fail(TT_ECONFIG,
                       "model.channels (%lld) is not a multiple of model.heads (%lld); every head "
                       "needs the same share of the channels",
                       (long long)dims->channels, (long long)dims->heads);
    }
    return TT_OK;
}

/* ---- parameters ---- */

size_t tt_model_layer_param(int64_t layer, tt_layer_param which)
{
    return PARAM_FIRST_LAYER + (size_t)layer * PARAMS_PER_LAYER + (size_t)which;
}

size_t tt_model_count_tensors(const tt_model_dims *dims)
{
    return tt_model_layer_param(dims->layers, PARAM_LN_1) + 2;
}

typedef struct param_rule {
    const char *name;
    int rows, columns; /* in multiples of C; columns 0: a vector */
    bool residual;
} param_rule;

static const param_rule layer_params[PARAMS_PER_LAYER] = {
    [PARAM_LN_1] = {"ln_1.weight", 1, 0, false},
    [PARAM_LN_1_BIAS] = {"ln_1.bias", 1, 0, false},
    [PARAM_QKV] = {"attn.c_attn.weight", 3, 1, false},
    [PARAM_QKV_BIAS] = {"attn.c_attn.bias", 3, 0, false},
    [PARAM_PROJ] = {"attn.c_proj.weight", 1, 1, true},
    [PARAM_PROJ_BIAS] = {"attn.c_proj.bias", 1, 0, false},
    [PARAM_LN_2] = {"ln_2.weight", 1, 0, false},
    [PARAM_LN_2_BIAS] = {"ln_2.bias", 1, 0, false},
    [PARAM_FC] = {"mlp.c_fc.weight", 4, 1, false},
    [PARAM_FC_BIAS] = {"mlp.c_fc.bias", 4, 0, false},
    [PARAM_FC_PROJ] = {"mlp.c_proj.weight", 1, 4, true},
    [PARAM_FC_PROJ_BIAS] = {"mlp.c_proj.bias", 1, 0, false},
};

/* Walks the flat vector; with `tensors` NULL only the elements are counted. */
typedef struct param_cursor {
    tt_param_tensor *tensors;
    size_t index;
    int64_t offset;
} param_cursor;

/* columns 0: a vector (norms and biases), which takes no weight decay. */
static void place_param(param_cursor *cursor, int64_t layer, const char *name, int64_t rows,
                        int64_t columns, bool residual)
{
    int64_t count = columns ? rows * columns : rows;
    if (cursor->tensors) {
        tt_param_tensor *tensor = &cursor->tensors[cursor->index];
        *tensor = (tt_param_tensor){.rank = columns ? 2 : 1,
                                    .dims = {rows, columns ? columns : 1},
                                    .count = count,
                                    .offset = cursor->offset,
                                    .decay = columns != 0,
                                    .residual = residual};
        if (layer < 0) {
            snprintf(tensor->name, sizeof tensor->name, "%s", name);
        } else {
            snprintf(tensor->name, sizeof tensor->name, "h.%lld.%s", (long long)layer, name);
        }
    }
    cursor->index++;
    cursor->offset += (count + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
}

int64_t tt_model_lay_out_params(const tt_model_dims *dims, tt_param_tensor *tensors)
{
    const int64_t channels = dims->channels;
    param_cursor cursor = {.tensors = tensors};
    place_param(&cursor, -1, "wte.weight", dims->vocab, channels, false);
    place_param(&cursor, -1, "wpe.weight", dims->context, channels, false);
    for (int64_t layer = 0; layer < dims->layers; layer++) {
        for (int which = 0; which < PARAMS_PER_LAYER; which++) {
            const param_rule *rule = &layer_params[which];
            place_param(&cursor, layer, rule->name, rule->rows * channels, rule->columns * channels,
                        rule->residual);
        }
    }
    place_param(&cursor, -1, "ln_f.weight", channels, 0, false);
    place_param(&cursor, -1, "ln_f.bias", channels, 0, false);
    return cursor.offset;
}

int64_t tt_model_param_count(const tt_model_dims *dims)
{
    return tt_model_lay_out_params(dims, NULL);
}

/* ---- activations ---- */

size_t tt_model_layer_act(int64_t layer, tt_layer_act which)
{
    return ACT_FIRST_LAYER + (size_t)layer * ACTS_PER_LAYER + (size_t)which;
}

size_t tt_model_head_act(const tt_model_dims *dims, tt_head_act which)
{
    return tt_model_layer_act(dims->layers, ACT_LN_1) + (size_t)which;
}

size_t tt_model_count_acts(const tt_model_dims *dims)
{
    return tt_model_head_act(dims, ACTS_OF_HEAD);
}

static const char *const layer_act_names[ACTS_PER_LAYER] = {
    [ACT_LN_1] = "ln_1",
    [ACT_LN_1_MEAN] = "ln_1.mean",
    [ACT_LN_1_RSTD] = "ln_1.rstd",
    [ACT_QKV] = "qkv",
    [ACT_ATTN] = "attn",
    [ACT_LSE] = "attn.lse",
    [ACT_RESID_MID] = "resid_mid",
    [ACT_LN_2] = "ln_2",
    [ACT_LN_2_MEAN] = "ln_2.mean",
    [ACT_LN_2_RSTD] = "ln_2.rstd",
    [ACT_FC] = "fc",
    [ACT_GELU] = "gelu",
    [ACT_RESID] = "resid",
};

static const char *const head_act_names[ACTS_OF_HEAD] = {
    [ACT_LN_F] = "ln_f",     [ACT_LN_F_MEAN] = "ln_f.mean", [ACT_LN_F_RSTD] = "ln_f.rstd",
    [ACT_LOGITS] = "logits", [ACT_LOSSES] = "losses",
};

static int64_t layer_act_width(const tt_model_dims *dims, tt_layer_act which)
{
    switch (which) {
    case ACT_LN_1_MEAN:
    case ACT_LN_1_RSTD:
    case ACT_LN_2_MEAN:
    case ACT_LN_2_RSTD:
        return 1;
    case ACT_LSE:
        return dims->heads;
    case ACT_QKV:
        return 3 * dims->channels;
    case ACT_FC:
    case ACT_GELU:
        return 4 * dims->channels;
    default:
        return dims->channels;
    }
}

static int64_t head_act_width(const tt_model_dims *dims, tt_head_act which)
{
    switch (which) {
    case ACT_LN_F:
        return dims->channels;
    case ACT_LOGITS:
        return dims->vocab;
    default:
        return 1;
    }
}

/* The working buffer of activation `index` under a codec. */
static int act_buffer(const tt_model_dims *dims, size_t index)
{
    if (index == ACT_EMBED) {
        return ACT_RESID;
    }
    if (index >= tt_model_head_act(dims, ACT_LN_F)) {
        return -1;
    }
    if (index == tt_model_layer_act(dims->layers - 1, ACT_RESID)) {
        return BUFFER_LAST;
    }
    const int which = (int)((index - ACT_FIRST_LAYER) % ACTS_PER_LAYER);
    switch (which) {
    case ACT_LN_1_MEAN:
    case ACT_LN_1_RSTD:
    case ACT_LSE:
    case ACT_LN_2_MEAN:
    case ACT_LN_2_RSTD:
        return -1;
    default:
        return which;
    }
}

static int64_t act_width(const tt_model_dims *dims, size_t index)
{
    const size_t head = tt_model_head_act(dims, ACT_LN_F);
    if (index == ACT_EMBED) {
        return dims->channels;
    }
    return index >= head
               ? head_act_width(dims, (tt_head_act)(index - head))
               : layer_act_width(dims, (tt_layer_act)((index - ACT_FIRST_LAYER) % ACTS_PER_LAYER));
}

/* All but the places. */
static void describe_acts(const tt_model_dims *dims, tt_activation *acts)
{
    const size_t head = tt_model_head_act(dims, ACT_LN_F);
    for (size_t i = 0; i < tt_model_count_acts(dims); i++) {
        tt_activation *act = &acts[i];
        *act = (tt_activation){.width = act_width(dims, i), .buffer = act_buffer(dims, i)};
        if (i == ACT_EMBED) {
            snprintf(act->name, sizeof act->name, "act.embed");
        } else if (i >= head) {
            snprintf(act->name, sizeof act->name, "act.%s", head_act_names[i - head]);
        } else {
            snprintf(act->name, sizeof act->name, "act.h.%zu.%s",
                     (i - ACT_FIRST_LAYER) / ACTS_PER_LAYER,
                     layer_act_names[(i - ACT_FIRST_LAYER) % ACTS_PER_LAYER]);
        }
    }
}

/* ---- memory ---- */

/* Takes the next bytes, padded; once past the address space it stays at SIZE_MAX. */
static size_t take_bytes(size_t *used, size_t bytes)
{
    size_t start = *used;
    if (__builtin_add_overflow(bytes, (size_t)ALIGN_BYTES - 1, &bytes) ||
        __builtin_add_overflow(start, bytes & ~((size_t)ALIGN_BYTES - 1), used)) {
        *used = SIZE_MAX;
    }
    return start;
}

/* The same for rows * width elements. */
static size_t take(size_t *used, int64_t rows, int64_t width, size_t element)
{
    size_t bytes;
    if (__builtin_mul_overflow((size_t)rows, (size_t)width, &bytes) ||
        __builtin_mul_overflow(bytes, element, &bytes)) {
        bytes = SIZE_MAX;
    }
    return take_bytes(used, bytes);
}

/* What no codec touches. The logits lie in a pass's scratch. */
static void place_unencoded(const tt_model_dims *dims, int64_t rows, size_t element,
                            tt_activation *acts, size_t *used)
{
    for (size_t i = 0; i < tt_model_count_acts(dims); i++) {
        if (act_buffer(dims, i) < 0 && i != tt_model_head_act(dims, ACT_LOGITS)) {
            size_t offset = take(used, rows, act_width(dims, i), element);
            if (acts) {
                acts[i].offset = offset;
            }
        }
    }
}

size_t tt_model_place_large(const tt_model_dims *dims, int64_t rows, size_t element,
                            tt_act_form form, size_t start, tt_activation *acts)
{
    const bool is_encoded = form.codec != TT_CODEC_F32;
    size_t buffers[ACT_BUFFERS];
    bool placed[ACT_BUFFERS] = {false};
    size_t used = start;
    for (size_t i = 0; is_encoded && i < tt_model_count_acts(dims); i++) {
        const int buffer = act_buffer(dims, i);
        if (buffer >= 0 && !placed[buffer]) {
            buffers[buffer] = take(&used, rows, act_width(dims, i), element);
            placed[buffer] = true;
        }
    }
    for (size_t i = 0; i < tt_model_count_acts(dims); i++) {
        const int buffer = act_buffer(dims, i);
        if (buffer < 0) {
            continue;
        }
        const int64_t width = act_width(dims, i);
        size_t encoded = 0;
        if (is_encoded && buffer != BUFFER_LAST) {
            encoded = take_bytes(&used, tt_codec_bytes(form.codec, form.block, rows * width));
        }
        const size_t offset = is_encoded ? buffers[buffer] : take(&used, rows, width, element);
        if (acts) {
            acts[i].offset = offset;
            acts[i].encoded = encoded;
        }
    }
    return used;
}

/* Places the large tensors as they are; returns their end in the form that needs most. With few
 * layers that is an encoded one, for its buffers. Smaller blocks need more scales. */
static size_t end_of_large(const tt_model_dims *dims, int64_t rows, size_t element, size_t start,
                           tt_activation *acts)
{
    static const tt_act_form forms[] = {{TT_CODEC_BF16, 0}, {TT_CODEC_INT8, TT_CODEC_BLOCK_MIN}};
    size_t end = tt_model_place_large(dims, rows, element, (tt_act_form){0}, start, acts);
    if (end == SIZE_MAX || element != sizeof(float)) {
        return end; /* what fits as it is has element counts that codecs can count */
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t other = tt_model_place_large(dims, rows, element, forms[i], start, NULL);
        end = other > end ? other : end;
    }
    return end;
}

/* Rows that the head has in hand at a time: about equally many each time. */
static int64_t head_rows(const tt_model_dims *dims, int64_t rows, size_t element)
{
    const int64_t fit = HEAD_BYTES / (dims->vocab * (int64_t)element);
    const int64_t most = fit > HEAD_ROWS_MIN ? fit : HEAD_ROWS_MIN;
    const int64_t times = (rows + most - 1) / most;
    return (rows + times - 1) / times;
}

static size_t lay_out_pass(const tt_model_dims *dims, int64_t rows, size_t element, size_t *used,
                           tt_pass_scratch *scratch)
{
    scratch->head_rows = head_rows(dims, rows, element);
    scratch->branch = take(used, rows, dims->channels, element);
    size_t backward = *used;
    size_t head = *used;
    scratch->dresid = take(&backward, rows, dims->channels, element);
    scratch->dwide = take(&backward, rows, 4 * dims->channels, element);
    scratch->logits = take(&head, scratch->head_rows, dims->vocab, element);
    return backward > head ? backward : head;
}

static size_t lay_out_decode(const tt_model_dims *dims, size_t element, size_t start,
                             tt_decode_scratch *scratch)
{
    const int64_t rows = dims->context < DECODE_ROWS ? dims->context : DECODE_ROWS;
    size_t used = start;
    scratch->rows = rows;
    scratch->tokens = take(&used, rows, 1, sizeof(int32_t));
    scratch->resid = take(&used, rows, dims->channels, element);
    scratch->branch = take(&used, rows, dims->channels, element);
    scratch->wide = take(&used, rows, 4 * dims->channels, element);
    scratch->gelu = take(&used, rows, 4 * dims->channels, element);
    scratch->mean = take(&used, rows, 1, element);
    scratch->rstd = take(&used, rows, 1, element);
    scratch->logits = take(&used, 1, dims->vocab, element);
    return used;
}

void tt_model_lay_out_memory(const tt_model_dims *dims, int64_t batch, int64_t time, tt_dtype dtype,
                             tt_activation *acts, tt_model_plan *plan)
{
    *plan = (tt_model_plan){.element = tt_dtype_size(dtype)};
    int64_t rows;
    if (__builtin_mul_overflow(batch, time, &rows)) {
        plan->bytes = SIZE_MAX;
        return;
    }
    size_t used = 0;
    if (rows > 0) {
        plan->tokens = take(&used, rows, 1, sizeof(int32_t));
        plan->targets = take(&used, rows, 1, sizeof(int32_t));
        if (acts) {
            describe_acts(dims, acts);
        }
        place_unencoded(dims, rows, plan->element, acts, &used);
        plan->large = used;
        used = end_of_large(dims, rows, plan->element, used, acts);
        plan->gradients = take(&used, tt_model_param_count(dims), 1, plan->element);
        plan->training_bytes = lay_out_pass(dims, rows, plan->element, &used, &plan->pass);
        if (acts) {
            acts[tt_model_head_act(dims, ACT_LOGITS)].offset = plan->pass.logits;
        }
    }
    size_t decode_end = lay_out_decode(dims, plan->element, used, &plan->decode);
    plan->bytes = plan->training_bytes > decode_end ? plan->training_bytes : decode_end;
}

size_t tt_model_bytes(const tt_model_dims *dims, int64_t batch, int64_t time, tt_dtype dtype)
{
    tt_model_plan plan;
    tt_model_lay_out_memory(dims, batch, time, dtype, NULL, &plan);
    return plan.bytes;
}

size_t tt_model_resident_bytes(const tt_model_dims *dims, int64_t batch, int64_t time,
                               tt_dtype dtype, tt_codec codec, int64_t block)
{
    tt_model_plan plan;
    tt_model_lay_out_memory(dims, batch, time, dtype, NULL, &plan);
    if (plan.bytes == SIZE_MAX) {
        return SIZE_MAX;
    }
    if (batch == 0) {
        return 0;
    }
    const tt_act_form form = {dtype == TT_F32 ? codec : TT_CODEC_F32, block};
    const size_t end =
        tt_model_place_large(dims, batch * time, plan.element, form, plan.large, NULL);
    return plan.training_bytes - (plan.gradients - end);
}

/* ---- for the tuner ---- */

size_t tt_model_gemm_shapes(const tt_model_dims *dims, int64_t batch, int64_t time,
                            tt_gemm_shape *out, size_t capacity)
{
    const int64_t rows = batch * time;
    const int64_t channels = dims->channels;
    const int layers = (int)dims->layers;
    const struct {
        int64_t n, k;
        int count;
    } products[] = {{3 * channels, channels, layers},
                    {channels, channels, layers},
                    {4 * channels, channels, layers},
                    {channels, 4 * channels, layers},
                    {dims->vocab, channels, 1}};
    static const tt_op ops[] = {TT_OP_LINEAR_FORWARD, TT_OP_LINEAR_DGRAD, TT_OP_LINEAR_WGRAD};
    size_t count = 0;
    for (size_t op = 0; op < sizeof ops / sizeof ops[0]; op++) {
        for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
            if (count < capacity) {
                out[count] =
                    (tt_gemm_shape){ops[op], rows, products[i].n, products[i].k, products[i].count};
            }
            count++;
        }
    }
    return count;
}
