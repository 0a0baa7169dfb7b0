/* The slots as the orchestrator's host, and the search for the first bad tensor among them. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static size_t tensor_count(void *user, int slot)
{
    return tt_slot_part_count(user, slot);
}

static tt_status tensor_info(void *user, int slot, size_t index, tt_tensor_info *out)
{
    tt_slot_part_info(user, slot, index, out);
    return TT_OK;
}

static tt_status tensor_read(void *user, int slot, size_t index, int64_t offset, void *out,
                             size_t bytes)
{
    return tt_slot_part_read(user, slot, index, offset, out, bytes);
}

static tt_status tensor_write(void *user, int slot, size_t index, int64_t offset, const void *data,
                              size_t bytes)
{
    return tt_slot_part_write(user, slot, index, offset, data, bytes);
}

static tt_status slot_prepare(void *user, int slot, const tt_tensor_info *tensors, size_t count)
{
    return tt_slot_prepare(user, slot, tensors, count);
}

static tt_status slot_copy(void *user, int from, int to)
{
    return tt_slot_copy(user, from, to);
}

static void slot_release(void *user, int slot)
{
    tt_slot_memory *memory = user;
    /* Advice: where it fails, memory stays as it is. */
    (void)tt_slot_release(memory, slot);
}

static tt_status run_step(void *user, const tt_replay *replay, tt_measurements *out)
{
    const tt_slot_memory *memory = user;
    return tt_training_replay(memory->training, replay, out);
}

static int64_t memory_estimate(void *user, const tt_config *config, bool fork)
{
    const tt_slot_memory *memory = user;
    return tt_training_memory(memory->training, config, fork);
}

/* ---- naming the bad tensor ---- */

static tt_status has_nonfinite(tt_context *context, const void *data, tt_dtype dtype, int64_t count,
                               bool *bad)
{
    tt_tensor_stats stats = {0};
    tt_stats_args args = {.n = count, .x = data, .out = &stats, .bf16 = dtype == TT_BF16};
    tt_status status = tt_op_run(context, TT_OP_STATS, &args);
    *bad = stats.nonfinite > 0;
    return status;
}

enum { SCAN_BYTES = 16 << 10 };

/* Codes of 16 bits hold the upper half of a float. */
static tt_status has_nonfinite_half(const tt_slot_memory *memory, int slot, size_t part,
                                    int64_t count, bool *bad)
{
    uint16_t codes[SCAN_BYTES / sizeof(uint16_t)];
    const int64_t most = SCAN_BYTES / sizeof(uint16_t);
    *bad = false;
    for (int64_t at = 0; !*bad && at < count; at += most) {
        int64_t here = count - at < most ? count - at : most;
        tt_status status = tt_slot_part_read(memory, slot, part, at * (int64_t)sizeof *codes, codes,
                                             (size_t)here * sizeof *codes);
        if (status) {
            return status;
        }
        for (int64_t i = 0; i < here; i++) {
            *bad = *bad || (codes[i] & 0x7f80) == 0x7f80;
        }
    }
    return TT_OK;
}

/* One part of a slot. Codes of 8 bits are finite: what is not shows in their scales. */
static tt_status scan_part(const tt_slot_memory *memory, int slot, size_t part,
                           const tt_tensor_info *info, bool *bad)
{
    int64_t count = 1;
    for (int i = 0; i < info->rank; i++) {
        count *= info->dims[i];
    }
    *bad = false;
    if (info->dtype == TT_U16) {
        return has_nonfinite_half(memory, slot, part, count, bad);
    }
    if (info->dtype != TT_F32) {
        return TT_OK;
    }
    return has_nonfinite(memory->context, tt_slot_part_address(memory, slot, part), TT_F32, count,
                         bad);
}

static tt_status scan_slot(const tt_slot_memory *memory, int slot, bool with_params, bool *found,
                           char name[TT_TENSOR_NAME])
{
    for (size_t i = 0; !*found && i < tt_slot_part_count(memory, slot); i++) {
        tt_tensor_info info;
        if (!with_params && memory->layouts[slot].parts[i].kind == TT_PART_PARAMS) {
            continue;
        }
        tt_slot_part_info(memory, slot, i, &info);
        tt_status status = scan_part(memory, slot, i, &info, found);
        if (status) {
            return status;
        }
        if (*found) {
            snprintf(name, TT_TENSOR_NAME, "%s", info.name);
        }
    }
    return TT_OK;
}

/* With a codec most activations are gone by now, but encoding told of the first that was not
 * finite. */
static bool was_lost(const tt_model *model, const char *name)
{
    return isinf(tt_model_activation_error(model)) &&
           strcmp(tt_model_activation_worst(model), name) == 0;
}

static tt_status scan_resident(const tt_slot_memory *memory, int slot, bool *found,
                               char name[TT_TENSOR_NAME])
{
    tt_resident resident;
    const void *params = memory->slots[slot].params;
    for (size_t i = 0; !*found && tt_model_resident(memory->model, params, i, &resident); i++) {
        tt_status status =
            has_nonfinite(memory->context, resident.data, resident.dtype, resident.count, found);
        if (status) {
            return status;
        }
        *found = *found || was_lost(memory->model, resident.name);
        if (*found) {
            const char *folder = tt_slot_params_folder(resident.dtype == TT_BF16);
            snprintf(name, TT_TENSOR_NAME, "%s%s%s", resident.is_parameter ? folder : "",
                     resident.is_parameter ? "/" : "", resident.name);
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
        status = scan_slot(memory, read_slot, false, &found, name);
    }
    if (!status && !found) {
        status = scan_resident(memory, read_slot, &found, name);
    }
    if (!status && !found && !in_place) {
        status = scan_slot(memory, read_slot, false, &found, name);
    }
    if (!status && !found && !in_place && write_slot == memory->failed_update) {
        status = scan_slot(memory, write_slot, true, &found, name);
    }
    return status;
}

tt_host tt_slot_memory_host(tt_slot_memory *memory)
{
    bool whole = memory->training != NULL;
    return (tt_host){
        .size = sizeof(tt_host),
        .user = memory,
        .slot_count = whole ? memory->count - 1 : memory->count,
        .tensor_count = tensor_count,
        .tensor_info = tensor_info,
        .tensor_read = tensor_read,
        .tensor_write = tensor_write,
        .slot_prepare = slot_prepare,
        .locate_nonfinite = tt_slot_memory_locate,
        .run_step = whole ? run_step : NULL,
        .scratch_slot = whole ? memory->count - 1 : -1,
        .slot_copy = slot_copy,
        .slot_release = slot_release,
        .memory_estimate = whole ? memory_estimate : NULL,
    };
}
