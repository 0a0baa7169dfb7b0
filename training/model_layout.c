/* Names, shapes and places of activations, and of all that a pass works in. */
#include "model_internal.h"

#include <stdio.h>

enum { ALIGN_BYTES = 64, DECODE_ROWS = 256 };

/* What the logits of the rows that the head has in hand may take, and how few rows those may be:
 * each lot of them reads and writes wte's gradient. */
enum { HEAD_BYTES = 64 << 20, HEAD_ROWS_MIN = 64 };

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
    [ACT_HIDDEN] = "gelu",
    [ACT_RESID] = "resid",
};

static const char *const head_act_names[ACTS_OF_HEAD] = {
    [ACT_LN_F] = "ln_f",     [ACT_LN_F_MEAN] = "ln_f.mean", [ACT_LN_F_RSTD] = "ln_f.rstd",
    [ACT_LOGITS] = "logits", [ACT_LOSSES] = "losses",
};

static int64_t mean_width(const tt_model_dims *dims)
{
    return dims->norm == TT_NORM_LAYERNORM ? 1 : 0;
}

static int64_t layer_act_width(const tt_model_dims *dims, tt_layer_act which)
{
    switch (which) {
    case ACT_LN_1_MEAN:
    case ACT_LN_2_MEAN:
        return mean_width(dims);
    case ACT_LN_1_RSTD:
    case ACT_LN_2_RSTD:
        return 1;
    case ACT_LSE:
        return dims->heads;
    case ACT_QKV:
        return tt_model_qkv_width(dims);
    case ACT_FC:
        return tt_model_fc_width(dims);
    case ACT_HIDDEN:
        return tt_model_mlp_width(dims);
    default:
        return dims->channels;
    }
}

static int64_t head_act_width(const tt_model_dims *dims, tt_head_act which)
{
    switch (which) {
    case ACT_LN_F:
        return dims->channels;
    case ACT_LN_F_MEAN:
        return mean_width(dims);
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

int64_t tt_model_act_width(const tt_model_dims *dims, size_t index)
{
    const size_t head = tt_model_head_act(dims, ACT_LN_F);
    if (index == ACT_EMBED) {
        return dims->channels;
    }
    return index >= head
               ? head_act_width(dims, (tt_head_act)(index - head))
               : layer_act_width(dims, (tt_layer_act)((index - ACT_FIRST_LAYER) % ACTS_PER_LAYER));
}

/* Between norms and products, where a context may compute in bf16. The rest is real. */
static bool is_act(const tt_model_dims *dims, size_t index)
{
    const size_t head = tt_model_head_act(dims, ACT_LN_F);
    if (index == ACT_EMBED || index >= head) {
        return index == head;
    }
    switch ((index - ACT_FIRST_LAYER) % ACTS_PER_LAYER) {
    case ACT_LN_1:
    case ACT_QKV:
    case ACT_ATTN:
    case ACT_LN_2:
    case ACT_FC:
    case ACT_HIDDEN:
        return true;
    default:
        return false;
    }
}

/* What changes its form, or its place with it. */
static bool is_large(const tt_model_dims *dims, size_t index)
{
    return act_buffer(dims, index) >= 0 || is_act(dims, index);
}

/* All but the places. */
static void describe_acts(const tt_model_dims *dims, tt_dtype dtype, tt_activation *acts)
{
    const size_t head = tt_model_head_act(dims, ACT_LN_F);
    for (size_t i = 0; i < tt_model_count_acts(dims); i++) {
        tt_activation *act = &acts[i];
        *act = (tt_activation){
            .width = tt_model_act_width(dims, i), .buffer = act_buffer(dims, i), .dtype = dtype};
        if (i == ACT_EMBED) {
            snprintf(act->name, sizeof act->name, "act.embed");
        } else if (i >= head) {
            snprintf(act->name, sizeof act->name, "act.%s", head_act_names[i - head]);
        } else {
            const size_t which = (i - ACT_FIRST_LAYER) % ACTS_PER_LAYER;
            const bool is_swiglu = which == ACT_HIDDEN && dims->mlp == TT_MLP_SWIGLU;
            snprintf(act->name, sizeof act->name, "act.h.%zu.%s",
                     (i - ACT_FIRST_LAYER) / ACTS_PER_LAYER,
                     is_swiglu ? "swiglu" : layer_act_names[which]);
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

/* What is the same in every form. The logits lie in a pass's scratch. */
static void place_small(const tt_model_dims *dims, int64_t rows, size_t element,
                        tt_activation *acts, size_t *used)
{
    for (size_t i = 0; i < tt_model_count_acts(dims); i++) {
        if (!is_large(dims, i) && i != tt_model_head_act(dims, ACT_LOGITS)) {
            size_t offset = take(used, rows, tt_model_act_width(dims, i), element);
            if (acts) {
                acts[i].offset = offset;
            }
        }
    }
}

/* Rows that the head has in hand at a time: about equally many each time. */
static int64_t head_rows(const tt_model_dims *dims, int64_t rows, size_t element)
{
    const int64_t fit = HEAD_BYTES / (dims->vocab * (int64_t)element);
    const int64_t most = fit > HEAD_ROWS_MIN ? fit : HEAD_ROWS_MIN;
    const int64_t times = (rows - 1) / most + 1;
    return (rows - 1) / times + 1;
}

static tt_dtype real_of(tt_dtype compute)
{
    return compute == TT_BF16 ? TT_F32 : compute;
}

/* The working buffers of a codec, each as wide as the first tensor that it is for. */
static void place_buffers(const tt_model_dims *dims, int64_t rows, size_t element, size_t *used,
                          size_t buffers[ACT_BUFFERS])
{
    bool placed[ACT_BUFFERS] = {false};
    for (size_t i = 0; i < tt_model_count_acts(dims); i++) {
        const int buffer = act_buffer(dims, i);
        if (buffer >= 0 && !placed[buffer]) {
            buffers[buffer] = take(used, rows, tt_model_act_width(dims, i), element);
            placed[buffer] = true;
        }
    }
}

size_t tt_model_place_large(const tt_model_dims *dims, int64_t rows, tt_act_form form, size_t start,
                            tt_activation *acts, size_t *dlogits)
{
    const bool is_encoded = form.codec != TT_CODEC_F32;
    const size_t element = tt_dtype_size(real_of(form.compute));
    size_t buffers[ACT_BUFFERS] = {0};
    size_t used = start;
    if (is_encoded) {
        place_buffers(dims, rows, element, &used, buffers);
    }
    for (size_t i = 0; i < tt_model_count_acts(dims); i++) {
        const int buffer = act_buffer(dims, i);
        if (!is_large(dims, i)) {
            continue;
        }
        const int64_t width = tt_model_act_width(dims, i);
        tt_activation act = {.dtype = is_act(dims, i) ? form.compute : real_of(form.compute)};
        if (is_encoded && buffer >= 0 && buffer != BUFFER_LAST) {
            act.encoded = take_bytes(&used, tt_codec_bytes(form.codec, form.block, rows * width));
        }
        act.offset = is_encoded && buffer >= 0 ? buffers[buffer]
                                               : take(&used, rows, width, tt_dtype_size(act.dtype));
        if (acts) {
            acts[i].dtype = act.dtype;
            acts[i].offset = act.offset;
            acts[i].encoded = act.encoded;
        }
    }
    if (form.compute == TT_BF16) {
        const size_t at =
            take(&used, head_rows(dims, rows, element), dims->vocab, tt_dtype_size(TT_BF16));
        if (dlogits) {
            *dlogits = at;
        }
    }
    return used;
}

/* Places the large tensors as they are; returns their end in the form that needs most. With few
 * layers that is an encoded one, for its buffers, or bf16, for the gradients of logits. Smaller
 * blocks need more scales. */
static size_t end_of_large(const tt_model_dims *dims, int64_t rows, tt_dtype dtype, size_t start,
                           tt_activation *acts)
{
    static const tt_act_form forms[] = {{TT_F32, TT_CODEC_BF16, 0},
                                        {TT_F32, TT_CODEC_INT8, TT_CODEC_BLOCK_MIN},
                                        {TT_BF16, TT_CODEC_F32, 0}};
    const tt_act_form plain = {.compute = dtype, .codec = TT_CODEC_F32};
    size_t end = tt_model_place_large(dims, rows, plain, start, acts, NULL);
    if (end == SIZE_MAX || dtype != TT_F32) {
        return end; /* what fits as it is has element counts that codecs can count */
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t other = tt_model_place_large(dims, rows, forms[i], start, NULL, NULL);
        end = other > end ? other : end;
    }
    return end;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The branch has room for real elements: in bf16 that is room for two tensors. */
static void lay_out_pass(const tt_model_dims *dims, int64_t rows, size_t element, size_t *used,
                         tt_pass_scratch *scratch)
{
    scratch->head_rows = head_rows(dims, rows, element);
    scratch->branch = take(used, rows, dims->channels, element / 2);
    scratch->dresid_act = take(used, rows, dims->channels, element / 2);
    size_t end = *used;
    scratch->logits = end;
    scratch->dresid = take(&end, rows, dims->channels, element);
    scratch->dwide = end;
}

size_t tt_model_pass_end(const tt_model_dims *dims, int64_t rows, const tt_model_plan *plan,
                         tt_dtype compute)
{
    size_t backward = plan->pass.dwide;
    size_t head = plan->pass.logits;
    const int64_t wide = larger(tt_model_qkv_width(dims), tt_model_mlp_width(dims));
    (void)take(&backward, rows, wide, tt_dtype_size(compute));
    (void)take(&head, plan->pass.head_rows, dims->vocab, plan->element);
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
    scratch->wide =
        take(&used, rows, larger(tt_model_qkv_width(dims), tt_model_fc_width(dims)), element);
    scratch->hidden = take(&used, rows, tt_model_mlp_width(dims), element);
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
            describe_acts(dims, dtype, acts);
        }
        place_small(dims, rows, plan->element, acts, &used);
        plan->large = used;
        used = end_of_large(dims, rows, dtype, used, acts);
        plan->gradients = take(&used, tt_model_param_count(dims), 1, plan->element);
        lay_out_pass(dims, rows, plan->element, &used, &plan->pass);
        plan->training_bytes = tt_model_pass_end(dims, rows, plan, dtype);
        if (acts) {
            acts[tt_model_head_act(dims, ACT_LOGITS)].offset = plan->pass.logits;
        }
    }
    size_t decode_end = lay_out_decode(dims, plan->element, used, &plan->decode);
    plan->packed = plan->training_bytes > decode_end ? plan->training_bytes : decode_end;
    plan->bytes = plan->packed;
    if (dtype == TT_F32) {
        (void)take_bytes(&plan->bytes, rows > 0 ? tt_model_packed_bytes(dims, TT_BF16)
                                                : tt_model_packed_for_decoding(dims, TT_BF16));
    }
}

size_t tt_model_bytes(const tt_model_dims *dims, int64_t batch, int64_t time, tt_dtype dtype)
{
    tt_model_plan plan;
    tt_model_lay_out_memory(dims, batch, time, dtype, NULL, &plan);
    return plan.bytes;
}

size_t tt_model_resident_bytes(const tt_model_dims *dims, int64_t batch, int64_t time,
                               tt_act_form form)
{
    tt_model_plan plan;
    tt_model_lay_out_memory(dims, batch, time, real_of(form.compute), NULL, &plan);
    if (plan.bytes == SIZE_MAX) {
        return SIZE_MAX;
    }
    if (batch == 0) {
        return 0;
    }
    if (form.compute != TT_F32) {
        form.codec = TT_CODEC_F32;
    }
    const int64_t rows = batch * time;
    const size_t end = tt_model_place_large(dims, rows, form, plan.large, NULL, NULL);
    return tt_model_pass_end(dims, rows, &plan, form.compute) - (plan.gradients - end);
}
