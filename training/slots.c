/* The memory of the slots, and how each keeps its moments. */
#include "slots.h"

#include "try.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_PER_TENSOR = 5, HUGE_PAGE = 2 << 20 };

static size_t padded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Beyond the address space, with all slots. */
static bool is_beyond(const tt_model_dims *dims)
{
    return tt_model_param_count(dims) > INT64_MAX / 1024;
}

size_t tt_slot_params_bytes(const tt_model_dims *dims)
{
    return is_beyond(dims) ? SIZE_MAX : padded(tt_model_params_bytes(dims, TT_F32));
}

size_t tt_slot_vector_bytes(const tt_model_dims *dims)
{
    return is_beyond(dims) ? SIZE_MAX : padded((size_t)tt_model_param_count(dims) * sizeof(float));
}

size_t tt_slot_memory_bytes(const tt_model_dims *dims, int count)
{
    size_t vector = tt_slot_vector_bytes(dims);
    if (vector == SIZE_MAX) {
        return SIZE_MAX;
    }
    /* Staging: no tensor is larger than all of them together. */
    return (size_t)(count + 1) * (tt_slot_params_bytes(dims) + 2 * vector) + 2 * vector +
           2 * (size_t)HUGE_PAGE;
}

tt_codec tt_codec_of_v(tt_codec codec_of_m)
{
    return codec_of_m == TT_CODEC_INT8 ? TT_CODEC_UINT8_UP : codec_of_m;
}

/* ---- making them ---- */

static const tt_param_tensor *tensor_of(const tt_slot_memory *memory, size_t tensor)
{
    return tt_model_tensor(memory->model, tensor);
}

static size_t place_bytes(const tt_slot_memory *memory, size_t tensor)
{
    return padded((size_t)tensor_of(memory, tensor)->count * sizeof(float));
}

/* As it is after a release: any page may come back as soon as something is written. */
static void reset_layout(const tt_slot_memory *memory, tt_slot_layout *layout)
{
    for (size_t i = 0; i < tt_model_tensor_count(memory->model); i++) {
        layout->codec[i] = TT_CODEC_F32;
        layout->kept[i] = 0;
        layout->extent[i] = place_bytes(memory, i);
    }
    layout->decided = false;
    layout->block = 0;
}

static tt_status create_layout(const tt_slot_memory *memory, tt_slot_layout *layout)
{
    size_t count = tt_model_tensor_count(memory->model);
    layout->codec = calloc(count, sizeof *layout->codec);
    layout->kept = calloc(count, sizeof *layout->kept);
    layout->extent = calloc(count, sizeof *layout->extent);
    layout->parts = calloc(count * PARTS_PER_TENSOR + 1, sizeof *layout->parts);
    if (!layout->codec || !layout->kept || !layout->extent || !layout->parts) {
        return tt_fail(TT_ENOMEM, "no memory for the layout of a slot");
    }
    reset_layout(memory, layout);
    return TT_OK;
}

/* Addresses that are never used, so that the slots do not share a huge page with what comes next
 * and is to take no memory yet. Small vectors are not worth it. */
static tt_status keep_apart(const tt_slot_memory *memory, size_t vector)
{
    void *gap;
    if (vector < HUGE_PAGE) {
        return TT_OK;
    }
    TRY(tt_tensor_alloc(memory->context, HUGE_PAGE, &gap));
    return tt_tensor_hollow(memory->context, gap, HUGE_PAGE);
}

/* What an update in place of the largest tensor that may be encoded needs: room for its parameters,
 * and for a moment in 16 bits. */
static void measure_staging(const tt_slot_memory *memory, size_t *params, size_t *half)
{
    *params = *half = 0;
    for (size_t i = 0; i < tt_model_tensor_count(memory->model); i++) {
        const tt_param_tensor *tensor = tensor_of(memory, i);
        if (tensor->count >= TT_ENCODED_ELEMENTS) {
            const size_t own = tt_param_bytes(tensor, TT_F32);
            const size_t own_half = tt_codec_bytes(TT_CODEC_BF16, 0, tensor->count);
            *params = own > *params ? own : *params;
            *half = own_half > *half ? own_half : *half;
        }
    }
}

static tt_status create_staging(tt_slot_memory *memory)
{
    size_t params, half;
    measure_staging(memory, &params, &half);
    TRY(tt_tensor_alloc(memory->context, params, &memory->staging.params));
    TRY(tt_tensor_alloc(memory->context, half, &memory->staging.m));
    return tt_tensor_alloc(memory->context, half, &memory->staging.v);
}

tt_status tt_slot_memory_create(tt_context *context, const tt_model *model, int count,
                                tt_slot_memory *out)
{
    memset(out, 0, sizeof *out);
    out->context = context;
    out->model = model;
    out->count = count + 1;
    out->failed_update = -1;
    const size_t params = tt_slot_params_bytes(tt_model_get_dims(model));
    const size_t bytes = tt_slot_vector_bytes(tt_model_get_dims(model));
    for (int slot = 0; slot < out->count; slot++) {
        tt_slot_tensors *tensors = &out->slots[slot];
        if (slot == count) {
            TRY(keep_apart(out, bytes));
        }
        TRY(tt_tensor_alloc(context, params, &tensors->params));
        TRY(tt_tensor_alloc(context, bytes, &tensors->m));
        TRY(tt_tensor_alloc(context, bytes, &tensors->v));
        TRY(create_layout(out, &out->layouts[slot]));
        tt_slot_list_parts(out, slot);
    }
    TRY(create_layout(out, &out->layouts[TT_SLOT_CAPACITY]));
    TRY(keep_apart(out, bytes));
    return create_staging(out);
}

void tt_slot_memory_destroy(tt_slot_memory *memory)
{
    for (int i = 0; i <= TT_SLOT_CAPACITY; i++) {
        tt_slot_layout *layout = &memory->layouts[i];
        free(layout->codec);
        free(layout->kept);
        free(layout->extent);
        free(layout->parts);
    }
    memset(memory, 0, sizeof *memory);
}

/* ---- the moments of one tensor ---- */

tt_encoded tt_slot_moment_as(const tt_slot_memory *memory, int slot, size_t tensor, bool second,
                             tt_codec codec, int64_t block)
{
    const tt_slot_tensors *slots = &memory->slots[slot];
    unsigned char *vector = second ? slots->v : slots->m;
    return (tt_encoded){
        .codec = second ? tt_codec_of_v(codec) : codec,
        .block = block,
        .n = tensor_of(memory, tensor)->count,
        .data = vector + (size_t)tensor_of(memory, tensor)->offset * sizeof(float),
    };
}

tt_encoded tt_slot_moment(const tt_slot_memory *memory, int slot, size_t tensor, bool second)
{
    const tt_slot_layout *layout = &memory->layouts[slot];
    return tt_slot_moment_as(memory, slot, tensor, second, layout->codec[tensor], layout->block);
}

tt_status tt_slot_settle(tt_slot_memory *memory, int slot, size_t tensor, tt_codec codec,
                         int64_t block)
{
    tt_slot_layout *layout = &memory->layouts[slot];
    tt_encoded m = tt_slot_moment_as(memory, slot, tensor, false, codec, block);
    tt_encoded v = tt_slot_moment_as(memory, slot, tensor, true, codec, block);
    size_t place = place_bytes(memory, tensor);
    size_t used = tt_codec_bytes(codec, block, m.n); /* v takes as much */
    layout->codec[tensor] = codec;
    if (used < layout->extent[tensor]) {
        TRY(tt_tensor_hollow(memory->context, (unsigned char *)m.data + used, place - used));
        TRY(tt_tensor_hollow(memory->context, (unsigned char *)v.data + used, place - used));
    }
    layout->extent[tensor] = used;
    return TT_OK;
}

/* ---- parts ---- */

static void add_part(tt_slot_layout *layout, tt_slot_part_kind kind, size_t tensor)
{
    layout->parts[layout->part_count++] = (tt_slot_part){kind, tensor};
}

static void list_parts(const tt_slot_memory *memory, tt_slot_layout *layout)
{
    size_t count = tt_model_tensor_count(memory->model);
    layout->part_count = 0;
    for (size_t i = 0; i < count; i++) {
        add_part(layout, TT_PART_PARAMS, i);
    }
    for (int second = 0; second < 2; second++) {
        for (size_t i = 0; i < count; i++) {
            add_part(layout, second ? TT_PART_V : TT_PART_M, i);
            if (layout->codec[i] == TT_CODEC_INT8) {
                add_part(layout, second ? TT_PART_V_SCALE : TT_PART_M_SCALE, i);
            }
        }
    }
    if (layout->decided) {
        add_part(layout, TT_PART_KEPT, 0);
    }
}

void tt_slot_list_parts(tt_slot_memory *memory, int slot)
{
    list_parts(memory, &memory->layouts[slot]);
}

size_t tt_slot_part_count(const tt_slot_memory *memory, int slot)
{
    return memory->layouts[slot].part_count;
}

const char *tt_slot_params_folder(bool bf16)
{
    return bf16 ? "params.bf16" : "params";
}

static const char *folder_of(tt_slot_part_kind kind, const tt_param_tensor *tensor, tt_codec codec)
{
    static const char *const m[] = {[TT_CODEC_F32] = "adam_m",
                                    [TT_CODEC_BF16] = "adam_m.bf16",
                                    [TT_CODEC_INT8] = "adam_m.int8"};
    static const char *const v[] = {[TT_CODEC_F32] = "adam_v",
                                    [TT_CODEC_BF16] = "adam_v.sqrt_bf16",
                                    [TT_CODEC_INT8] = "adam_v.sqrt_uint8"};
    switch (kind) {
    case TT_PART_PARAMS:
        break;
    case TT_PART_M:
        return m[codec];
    case TT_PART_M_SCALE:
        return "adam_m.int8.scale";
    case TT_PART_V:
        return v[codec];
    case TT_PART_V_SCALE:
        return "adam_v.sqrt_uint8.scale";
    case TT_PART_KEPT:
        return "moments";
    }
    return tt_slot_params_folder(tensor->bf16);
}

static tt_dtype dtype_of(tt_slot_part_kind kind, const tt_param_tensor *tensor, tt_codec codec)
{
    if (kind == TT_PART_KEPT) {
        return TT_U8;
    }
    if (kind == TT_PART_PARAMS && tensor->bf16) {
        return TT_U16; /* its bits */
    }
    if ((kind != TT_PART_M && kind != TT_PART_V) || codec == TT_CODEC_F32) {
        return TT_F32;
    }
    if (codec == TT_CODEC_BF16) {
        return TT_U16; /* the upper half of a float's bits */
    }
    return kind == TT_PART_M ? TT_I8 : TT_U8;
}

static void part_info(const tt_slot_memory *memory, const tt_slot_layout *layout, tt_slot_part part,
                      tt_tensor_info *out)
{
    const tt_param_tensor *tensor = tensor_of(memory, part.tensor);
    tt_codec codec = layout->codec[part.tensor];
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s/%s", folder_of(part.kind, tensor, codec),
             part.kind == TT_PART_KEPT ? "kept" : tensor->name);
    out->dtype = dtype_of(part.kind, tensor, codec);
    switch (part.kind) {
    case TT_PART_KEPT:
        out->rank = 1;
        out->dims[0] = (int64_t)tt_model_tensor_count(memory->model);
        break;
    case TT_PART_M_SCALE:
    case TT_PART_V_SCALE:
        out->rank = 1;
        out->dims[0] = (tensor->count + layout->block - 1) / layout->block;
        break;
    default:
        out->rank = tensor->rank;
        for (int i = 0; i < tensor->rank; i++) {
            out->dims[i] = tensor->dims[i];
        }
    }
}

void tt_slot_part_info(const tt_slot_memory *memory, int slot, size_t index, tt_tensor_info *out)
{
    const tt_slot_layout *layout = &memory->layouts[slot];
    part_info(memory, layout, layout->parts[index], out);
}

void *tt_slot_part_address(const tt_slot_memory *memory, int slot, size_t index)
{
    const tt_slot_part part = memory->layouts[slot].parts[index];
    if (part.kind == TT_PART_KEPT) {
        return NULL;
    }
    if (part.kind == TT_PART_PARAMS) {
        return (unsigned char *)memory->slots[slot].params +
               tt_param_at(tensor_of(memory, part.tensor), TT_F32);
    }
    bool second = part.kind == TT_PART_V || part.kind == TT_PART_V_SCALE;
    tt_encoded moment = tt_slot_moment(memory, slot, part.tensor, second);
    bool scale = part.kind == TT_PART_M_SCALE || part.kind == TT_PART_V_SCALE;
    return (unsigned char *)moment.data +
           (scale ? tt_codec_scales_offset(moment.codec, moment.n) : 0);
}

tt_status tt_slot_part_read(const tt_slot_memory *memory, int slot, size_t index, int64_t offset,
                            void *out, size_t bytes)
{
    const tt_slot_layout *layout = &memory->layouts[slot];
    unsigned char *tensor = tt_slot_part_address(memory, slot, index);
    if (!tensor) {
        memcpy(out, layout->kept + offset, bytes);
        return TT_OK;
    }
    return tt_tensor_read(memory->context, out, tensor + offset, bytes);
}

tt_status tt_slot_part_write(tt_slot_memory *memory, int slot, size_t index, int64_t offset,
                             const void *data, size_t bytes)
{
    tt_slot_layout *layout = &memory->layouts[slot];
    unsigned char *tensor = tt_slot_part_address(memory, slot, index);
    if (!tensor) {
        memcpy(layout->kept + offset, data, bytes);
        return TT_OK;
    }
    return tt_tensor_write(memory->context, tensor + offset, data, bytes);
}

/* ---- whole slots ---- */

tt_status tt_slot_copy(tt_slot_memory *memory, int from, int to)
{
    const tt_slot_layout *source = &memory->layouts[from];
    tt_slot_layout *target = &memory->layouts[to];
    size_t count = tt_model_tensor_count(memory->model);
    TRY(tt_tensor_copy(memory->context, memory->slots[to].params, memory->slots[from].params,
                       tt_slot_params_bytes(tt_model_get_dims(memory->model))));
    for (size_t i = 0; i < count; i++) {
        for (int second = 0; second < 2; second++) {
            tt_encoded moment = tt_slot_moment(memory, from, i, second);
            tt_encoded place = tt_slot_moment(memory, to, i, second);
            TRY(tt_tensor_copy(memory->context, place.data, moment.data,
                               tt_codec_bytes(moment.codec, moment.block, moment.n)));
        }
        TRY(tt_slot_settle(memory, to, i, source->codec[i], source->block));
    }
    memcpy(target->kept, source->kept, count * sizeof *target->kept);
    target->decided = source->decided;
    target->block = source->block;
    tt_slot_list_parts(memory, to);
    return TT_OK;
}

tt_status tt_slot_release(tt_slot_memory *memory, int slot)
{
    size_t bytes = tt_slot_vector_bytes(tt_model_get_dims(memory->model));
    tt_slot_tensors *tensors = &memory->slots[slot];
    TRY(tt_tensor_release(memory->context, tensors->params,
                          tt_slot_params_bytes(tt_model_get_dims(memory->model))));
    TRY(tt_tensor_release(memory->context, tensors->m, bytes));
    TRY(tt_tensor_release(memory->context, tensors->v, bytes));
    /* An update in place elsewhere fills it again. */
    size_t params, half;
    const tt_slot_tensors *staging = &memory->staging;
    measure_staging(memory, &params, &half);
    TRY(tt_tensor_release(memory->context, staging->params, params));
    TRY(tt_tensor_release(memory->context, staging->m, half));
    TRY(tt_tensor_release(memory->context, staging->v, half));
    reset_layout(memory, &memory->layouts[slot]);
    tt_slot_list_parts(memory, slot);
    return TT_OK;
}
