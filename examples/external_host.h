/* What trimtab asks of external_job.c: parameters, optimizations that it may turn on and off, the
 * tensors of a slot, and a step that can be replayed. */
#ifndef EXTERNAL_HOST_H
#define EXTERNAL_HOST_H

#include "external_model.h"
#include <stdio.h>

enum { SCRATCH = 3 }; /* snapshot.slots may be up to 3; replays write this one */

typedef struct job {
    model model;
    state slot[SCRATCH + 1];
    int target; /* index of what is measured of the packed momentum */
} job;

/* ---- two optimizations, each with a parameter of its own ---- */

static const int64_t tiles[] = {1, 8, 16, 32, 64}, blocks[] = {1, 32, 64, 128, 256, 512};
#define LATTICE(values, memory_falls_along_it)                                                     \
    .type = TT_TYPE_INT, .unit = "", .default_text = "auto", .may_be_auto = true, .minimum = 1,    \
    .maximum = 512, .lattice = values, .lattice_count = sizeof(values) / sizeof *(values),         \
    .mutability = TT_MUTABLE_AT_STEP, .owner = "job", .memory_falls = memory_falls_along_it
static const tt_param parameters[] = {
    {"job.tile", LATTICE(tiles, false), .tier = TT_TIER_TILE, .help = "columns; 1: plain loops"},
    {"job.block", LATTICE(blocks, true), .tier = TT_TIER_COMPRESSION, .help = "1: not packed"},
};

/* What an `auto` begins with; adaptation goes on from there. The tile is asked for first. */
static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    static const char *const first[][2] = {{"job.block", "32"}, {"job.tile", "8"}};
    const bool of_tile = tt_config_is_auto(config, "job.tile");
    (void)user;
    out->changes[0].key = first[of_tile][0];
    snprintf(out->changes[0].value, sizeof out->changes[0].value, "%s", first[of_tile][1]);
    out->change_count = 1;
    return TT_OK;
}

static tt_status apply(void *user, const tt_config *config)
{
    model *m = &((job *)user)->model;
    m->tile = tt_config_int(config, "job.tile");
    m->block = tt_config_int(config, "job.block");
    return TT_OK;
}

static tt_status add_optimizations(job *j, tt_orchestrator *orchestrator)
{
    const tt_error_target target = {.size = sizeof target,
                                    .name = "momentum",
                                    .optimization = "packing",
                                    .kind = TT_ERROR_RECONSTRUCTION,
                                    .after_update = true,
                                    .cadence = 1};
    static const char *const keys[] = {"job.tile", "job.block"}, *const baseline[] = {"1"};
    const tt_optimization tiling = {.size = sizeof tiling,
                                    .user = j,
                                    .name = "tiles",
                                    .tier = TT_TIER_TILE,
                                    .aim = TT_AIM_SPEED,
                                    .keys = &keys[0],
                                    .key_count = 1,
                                    .baseline = baseline,
                                    .propose = propose,
                                    .apply = apply};
    tt_optimization packing = tiling;
    packing.name = "packing";
    packing.tier = TT_TIER_COMPRESSION;
    packing.aim = TT_AIM_MEMORY;
    packing.keys = &keys[1];
    packing.acts_on_state = true;
    tt_status status = tt_orchestrator_add(orchestrator, &tiling);
    status = status ? status : tt_orchestrator_add(orchestrator, &packing);
    return status ? status : tt_orchestrator_add_target(orchestrator, &target, &j->target);
}

/* ---- the host ---- */

static size_t tensor_count(void *user, int slot)
{
    return ((job *)user)->slot[slot].block > 1 ? 3 : 2;
}

static tt_status tensor_info(void *user, int slot, size_t index, tt_tensor_info *out)
{
    tensor_of(&((job *)user)->slot[slot], index, out);
    return TT_OK;
}

static tt_status tensor_read(void *user, int slot, size_t i, int64_t offset, void *out, size_t n)
{
    tt_tensor_info info;
    memcpy(out, tensor_of(&((job *)user)->slot[slot], i, &info) + offset, n);
    return TT_OK;
}

static tt_status tensor_write(void *user, int slot, size_t i, int64_t offset, const void *in,
                              size_t n)
{
    tt_tensor_info info;
    memcpy(tensor_of(&((job *)user)->slot[slot], i, &info) + offset, in, n);
    return TT_OK;
}

static tt_status slot_prepare(void *user, int slot, const tt_tensor_info *tensors, size_t count)
{
    ((job *)user)->slot[slot].block = block_of(tensors, count);
    return TT_OK;
}

static tt_status slot_copy(void *user, int from, int to)
{
    ((job *)user)->slot[to] = ((job *)user)->slot[from];
    return TT_OK;
}

/* ---- a step, live or replayed ---- */

static tt_status attempt(job *j, const tt_replay *r, tt_orchestrator *live, tt_measurements *out)
{
    double norm, nonfinite;
    bool go = r->write_slot >= 0;
    const state *from = &j->slot[r->read_slot];
    const double loss = forward_backward(&j->model, from, r->step, r->position, &norm);
    tt_measurements_set(out, TT_METRIC_LOSS, loss);
    tt_measurements_set(out, TT_METRIC_GRADIENT_NORM, norm);
    tt_measurements_set(out, TT_METRIC_GRADIENT_NONFINITE, isfinite(norm) ? 0 : 1);
    const tt_status status = live ? tt_step_check(live, out, &go) : TT_OK;
    if (!status && go) {
        state *to = &j->slot[r->write_slot];
        const double rate = 0.02 * r->learning_rate_scale;
        tt_measurements_set_error(out, j->target, update(&j->model, from, to, rate, &nonfinite));
        tt_measurements_set(out, TT_METRIC_UPDATE_NONFINITE, nonfinite);
        out->updated = true;
    }
    return status;
}

/* With this a culprit is proven by replays; without, it is suspected from live attempts. */
static tt_status run_step(void *user, const tt_replay *replay, tt_measurements *out)
{
    return attempt(user, replay, NULL, out);
}

static tt_status live_step(job *j, tt_orchestrator *orchestrator)
{
    tt_step_plan plan;
    tt_measurements measured;
    tt_status status = tt_step_begin(orchestrator, &plan);
    if (!status) {
        const tt_replay same = {.step = plan.step,
                                .position = plan.position,
                                .read_slot = plan.read_slot,
                                .write_slot = plan.write_slot,
                                .learning_rate_scale = 1};
        tt_measurements_init(&measured);
        status = attempt(j, &same, orchestrator, &measured);
    }
    return status ? status : tt_step_end(orchestrator, &measured, NULL);
}

#endif
