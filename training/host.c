/* The slots of a training run: parameters and both Adam moments, as the orchestrator's host. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

/* The three flat vectors of a slot, in the order in which they appear in checkpoints. */
enum { KINDS = 3 };
static const char *const kind_names[KINDS] = {"params", "adam_m", "adam_v"};

static size_t vector_bytes(int64_t elements)
{
    return ((size_t)elements * sizeof(float) + 63) / 64 * 64;
}

size_t tt_slot_memory_bytes(const tt_model_dims *dims, int count)
{
    int64_t elements = tt_model_param_count(dims);
    if (elements > INT64_MAX / 1024) {
        return SIZE_MAX; /* beyond the address space, with all slots */
    }
    return (size_t)count * KINDS * vector_bytes(elements);
}

static void *vector_of(const tt_slot_memory *memory, int slot, size_t kind)
{
    const tt_slot_tensors *tensors = &memory->slots[slot];
    return kind == 0 ? tensors->params : kind == 1 ? tensors->m : tensors->v;
}

tt_status tt_slot_memory_create(tt_context *context, const tt_model *model, int count,
                                tt_slot_memory *out)
{
    memset(out, 0, sizeof *out);
    out->context = context;
    out->model = model;
    out->count = count;
    out->failed_update = -1;
    out->elements = tt_model_param_count(tt_model_get_dims(model));
    size_t bytes = vector_bytes(out->elements);
    tt_status status = TT_OK;
    for (int slot = 0; !status && slot < count; slot++) {
        tt_slot_tensors *tensors = &out->slots[slot];
        void **const vectors[KINDS] = {&tensors->params, &tensors->m, &tensors->v};
        for (int kind = 0; !status && kind < KINDS; kind++) {
            status = tt_tensor_alloc(context, bytes, vectors[kind]);
        }
    }
    return status;
}

static size_t tensor_count(void *user)
{
    const tt_slot_memory *memory = user;
    return KINDS * tt_model_tensor_count(memory->model);
}

static tt_status tensor_info(void *user, size_t index, tt_tensor_info *out)
{
    const tt_slot_memory *memory = user;
    size_t per_kind = tt_model_tensor_count(memory->model);
    const tt_param_tensor *tensor = tt_model_tensor(memory->model, index % per_kind);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s/%s", kind_names[index / per_kind], tensor->name);
    out->dtype = TT_F32;
    out->rank = tensor->rank;
    for (int i = 0; i < tensor->rank; i++) {
        out->dims[i] = tensor->dims[i];
    }
    return TT_OK;
}

static unsigned char *tensor_address(const tt_slot_memory *memory, int slot, size_t index,
                                     int64_t offset)
{
    size_t per_kind = tt_model_tensor_count(memory->model);
    const tt_param_tensor *tensor = tt_model_tensor(memory->model, index % per_kind);
    unsigned char *base = vector_of(memory, slot, index / per_kind);
    return base + tensor->offset * (int64_t)sizeof(float) + offset;
}

static tt_status tensor_read(void *user, int slot, size_t index, int64_t offset, void *out,
                             size_t bytes)
{
    const tt_slot_memory *memory = user;
    return tt_tensor_read(memory->context, out, tensor_address(memory, slot, index, offset), bytes);
}

static tt_status tensor_write(void *user, int slot, size_t index, int64_t offset, const void *data,
                              size_t bytes)
{
    const tt_slot_memory *memory = user;
    return tt_tensor_write(memory->context, tensor_address(memory, slot, index, offset), data,
                           bytes);
}

/* ---- naming the bad tensor ---- */

static tt_status has_nonfinite(tt_context *context, const void *data, int64_t count, bool *bad)
{
    tt_tensor_stats stats = {0};
    tt_stats_args args = {.n = count, .x = data, .out = &stats};
    tt_status status = tt_op_run(context, TT_OP_STATS, &args);
    *bad = stats.nonfinite > 0;
    return status;
}

static tt_status scan_slot(const tt_slot_memory *memory, int slot, size_t first_kind, bool *found,
                           char name[TT_TENSOR_NAME])
{
    size_t per_kind = tt_model_tensor_count(memory->model);
    for (size_t i = first_kind * per_kind; !*found && i < KINDS * per_kind; i++) {
        const tt_param_tensor *tensor = tt_model_tensor(memory->model, i % per_kind);
        tt_status status = has_nonfinite(memory->context, tensor_address(memory, slot, i, 0),
                                         tensor->count, found);
        if (status) {
            return status;
        }
        if (*found) {
            snprintf(name, TT_TENSOR_NAME, "%s/%s", kind_names[i / per_kind], tensor->name);
        }
    }
    return TT_OK;
}

static tt_status scan_resident(const tt_slot_memory *memory, int slot, bool *found,
                               char name[TT_TENSOR_NAME])
{
    tt_resident resident;
    const void *params = vector_of(memory, slot, 0);
    for (size_t i = 0; !*found && tt_model_resident(memory->model, params, i, &resident); i++) {
        tt_status status = has_nonfinite(memory->context, resident.data, resident.count, found);
        if (status) {
            return status;
        }
        if (*found) {
            snprintf(name, TT_TENSOR_NAME, "%s%s", resident.is_parameter ? "params/" : "",
                     resident.name);
        }
    }
    return TT_OK;
}

tt_status tt_slot_memory_locate(void *user, int read_slot, int write_slot,
                                char name[TT_TENSOR_NAME])
{
    const tt_slot_memory *memory = user;
    bool found = false;
    bool in_place = memory->failed_update == read_slot;
    tt_status status = TT_OK;
    name[0] = '\0';
    if (in_place) {
        /* The update overwrote the parameters, which were finite when the loss was: a bad moment
         * came before them. */
        status = scan_slot(memory, read_slot, 1, &found, name);
    }
    if (!status && !found) {
        status = scan_resident(memory, read_slot, &found, name);
    }
    if (!status && !found && !in_place) {
        status = scan_slot(memory, read_slot, 1, &found, name);
    }
    if (!status && !found && !in_place && write_slot == memory->failed_update) {
        status = scan_slot(memory, write_slot, 0, &found, name);
    }
    return status;
}

tt_host tt_slot_memory_host(tt_slot_memory *memory)
{
    return (tt_host){
        .size = sizeof(tt_host),
        .user = memory,
        .tensor_count = tensor_count,
        .tensor_info = tensor_info,
        .tensor_read = tensor_read,
        .tensor_write = tensor_write,
        .locate_nonfinite = tt_slot_memory_locate,
    };
}
