#include "plant.h"

#include <stdlib.h>
#include <string.h>

static void note_harm(tt_plant *plant)
{
    plant->live_harmed += !plant->training->replaying;
}

/* ---- tensors of a pass ---- */

/* bf16 is the upper half of a float; a fault's values need no rounding to nearest. */
static void widen(const uint16_t *in, int64_t count, float *wide)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)in[i] << 16;
        memcpy(&wide[i], &bits, sizeof bits);
    }
}

static void narrow(const float *wide, int64_t count, uint16_t *out)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &wide[i], sizeof bits);
        out[i] = (uint16_t)(bits >> 16);
    }
}

/* In `raw`, by way of `wide` if it is bf16. */
static void harm_values(tt_plant *plant, void *raw, tt_dtype dtype, float *wide, int64_t count)
{
    if (dtype == TT_BF16) {
        widen(raw, count, wide);
        tt_fault_harm(&plant->fault, wide, count);
        narrow(wide, count, raw);
    } else {
        tt_fault_harm(&plant->fault, raw, count);
    }
    note_harm(plant);
}

static tt_status harm_tensor(tt_plant *plant, void *data, tt_dtype dtype, int64_t count)
{
    size_t bytes = (size_t)count * tt_dtype_size(dtype);
    size_t wide_bytes = dtype == TT_BF16 ? (size_t)count * sizeof(float) : 0;
    void *raw = malloc(bytes + 1);
    float *wide = malloc(wide_bytes + 1);
    tt_context *context = plant->training->context;
    tt_status status =
        raw && wide ? tt_tensor_read(context, raw, data, bytes)
                    : tt_fail(TT_ENOMEM, "no memory for a fault in %zu bytes", bytes + wide_bytes);
    if (!status) {
        harm_values(plant, raw, dtype, wide, count);
        status = tt_tensor_write(context, data, raw, bytes);
    }
    free(raw);
    free(wide);
    return status;
}

static bool is_site(const tt_plant *plant)
{
    bool decoded = tt_model_probe_phase(plant->training->model) == TT_PROBE_DECODED;
    return plant->site == (decoded ? TT_PLANT_DECODED : TT_PLANT_PASS);
}

static tt_status in_pass(void *user, const char *name, void *data, tt_dtype dtype, int64_t count)
{
    tt_plant *plant = user;
    if (plant->at_tensor) {
        plant->at_tensor(plant->user, plant->training->current, name);
    }
    if (!is_site(plant) || !tt_fault_strikes(&plant->fault, name)) {
        return TT_OK;
    }
    return harm_tensor(plant, data, dtype, count);
}

/* ---- tensors of a slot ---- */

static tt_status harm_part(tt_plant *plant, int slot, size_t part, const tt_tensor_info *info)
{
    tt_slot_memory *memory = &plant->training->memory;
    int64_t count = 1;
    for (int i = 0; i < info->rank; i++) {
        count *= info->dims[i];
    }
    const bool bf16 = info->dtype == TT_U16; /* its bits */
    size_t bytes = (size_t)count * tt_dtype_size(info->dtype);
    void *raw = malloc(bytes + 1);
    float *wide = malloc((bf16 ? (size_t)count * sizeof *wide : 0) + 1);
    if (!raw || !wide) {
        free(raw);
        free(wide);
        return tt_fail(TT_ENOMEM, "no memory for a fault in %zu bytes", bytes);
    }
    tt_status status = tt_slot_part_read(memory, slot, part, 0, raw, bytes);
    if (!status) {
        harm_values(plant, raw, bf16 ? TT_BF16 : TT_F32, wide, count);
        status = tt_slot_part_write(memory, slot, part, 0, raw, bytes);
    }
    free(raw);
    free(wide);
    return status;
}

static void harm_slot(tt_plant *plant, int slot)
{
    const tt_slot_memory *memory = &plant->training->memory;
    tt_status status = TT_OK;
    for (size_t i = 0; !status && slot >= 0 && i < tt_slot_part_count(memory, slot); i++) {
        tt_tensor_info info;
        tt_slot_part_info(memory, slot, i, &info);
        const bool real = info.dtype == TT_F32 || info.dtype == TT_U16;
        if (real && tt_fault_strikes(&plant->fault, info.name)) {
            status = harm_part(plant, slot, i, &info);
        }
    }
    if (status) {
        tt_log(plant->training->log, TT_LOG_ERROR, "a fault could not be planted: %s",
               tt_error_message());
    }
}

/* An attempt begins, live or replayed. */
static void in_state(void *user, tt_training *training, const tt_step_plan *plan)
{
    tt_plant *plant = user;
    if (!training->replaying) {
        plant->live_harmed = 0;
    }
    tt_fault_begin(&plant->fault, plan->config, plan->step, plan->position);
    if (plant->site == TT_PLANT_READ) {
        harm_slot(plant, plan->read_slot);
    }
}

static void in_update(void *user, tt_training *training, const tt_step_plan *plan)
{
    tt_plant *plant = user;
    (void)training;
    if (plant->at_update) {
        plant->at_update(plant->user, plan);
    }
    if (plant->site == TT_PLANT_WRITTEN) {
        harm_slot(plant, plan->write_slot);
    }
}

/* ---- attaching ---- */

static tt_status find_optimization(tt_training *training, const char *name, tt_optimization *out)
{
    const tt_optimization all[] = {
        tt_compute_optimization(training),     tt_variant_optimization(training),
        tt_tile_optimization(training),        tt_moments_optimization(training),
        tt_activations_optimization(training),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, name) == 0) {
            *out = all[i];
            return TT_OK;
        }
    }
    return tt_fail(TT_EINVAL, "a fault is tied to '%s', which is no optimization", name);
}

tt_status tt_plant_attach(tt_plant *plant, tt_training *training)
{
    for (int i = 0; i < 2; i++) {
        plant->fault.with[i] = NULL;
        if (!plant->with[i]) {
            continue;
        }
        tt_status status = find_optimization(training, plant->with[i], &plant->optimizations[i]);
        if (status) {
            return status;
        }
        plant->fault.with[i] = &plant->optimizations[i];
    }
    plant->training = training;
    training->plant = in_pass;
    training->plant_state = in_state;
    training->plant_update = in_update;
    training->plant_user = plant;
    return TT_OK;
}
