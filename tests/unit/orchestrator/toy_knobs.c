/* The toy's optimizations, replays, time and harm. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t lattice[] = {1, 2, 4, 8, 16};

static const char *const knob_names[TOY_KNOBS] = {"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"};
static const char *const knob_keys[TOY_KNOBS] = {"toy.k0", "toy.k1", "toy.k2", "toy.k3",
                                                 "toy.k4", "toy.k5", "toy.k6", "toy.k7"};

static tt_tier tier_of(int knob)
{
    return knob < TOY_TILES ? TT_TIER_TILE : knob < 6 ? TT_TIER_COMPRESSION : TT_TIER_RLVR;
}

static int64_t baseline_of(int knob)
{
    return knob < TOY_TILES ? 1 : 16;
}

static uint64_t fake_now(void *user)
{
    const toy *job = user;
    return job->ns;
}

void toy_add_knobs(toy *job, int count, bool replays)
{
    job->knob_count = count;
    job->replays = replays;
    job->ns = 1000;
    job->fake = (tt_clock){.now_ns = fake_now, .user = job};
    job->clock = &job->fake;
    job->replay_fails_at = -1;
    job->slowness = 1;
    for (int k = 0; k < count; k++) {
        job->knobs[k] = (toy_knob){.factor = 1, .value = baseline_of(k)};
    }
}

bool toy_knob_is_on(const toy *job, int knob)
{
    return job->knobs[knob].value != baseline_of(knob);
}

void toy_add_harm(toy *job, toy_harm harm)
{
    assert_true(job->harm_count < TOY_MAX_HARMS);
    job->harms[job->harm_count++] = harm;
}

/* ---- parameters and optimizations ---- */

static bool at_most_64(const void *user, const tt_value *values)
{
    (void)user;
    return values[0].as.integer * values[1].as.integer <= 64;
}

tt_status toy_register_knobs(toy *job)
{
    static tt_param table[TOY_KNOBS];
    static const tt_param budget = {.key = TT_MEMORY_BUDGET_KEY,
                                    .type = TT_TYPE_INT,
                                    .unit = "bytes",
                                    .default_text = "auto",
                                    .minimum = 1,
                                    .maximum = 1e15,
                                    .may_be_auto = true,
                                    .mutability = TT_MUTABLE_AT_STEP,
                                    .tier = TT_TIER_NONE,
                                    .owner = "toy",
                                    .help = "memory"};
    static const tt_rule rule = {
        .name = "k0 times k3 is at most 64", .keys = {"toy.k0", "toy.k3"}, .holds = at_most_64};
    if (job->knob_count == 0) {
        return TT_OK;
    }
    for (int k = 0; k < job->knob_count; k++) {
        table[k] = (tt_param){.key = knob_keys[k],
                              .type = TT_TYPE_INT,
                              .unit = "",
                              .default_text = "auto",
                              .minimum = 1,
                              .maximum = 16,
                              .lattice = lattice,
                              .lattice_count = 5,
                              .may_be_auto = true,
                              .mutability = TT_MUTABLE_AT_STEP,
                              .tier = tier_of(k),
                              .owner = "toy",
                              .help = "a knob"};
    }
    tt_status status = tt_params_register(job->params, table, (size_t)job->knob_count);
    if (!status) {
        status = tt_params_register(job->params, &budget, 1);
    }
    return status || !job->ruled ? status : tt_params_register_rules(job->params, &rule, 1);
}

/* What an optimization's functions are given. */
typedef struct handle {
    toy *job;
    int knob;
} handle;

static tt_status apply(void *user, const tt_config *config)
{
    const handle *mine = user;
    toy_knob *knob = &mine->job->knobs[mine->knob];
    knob->applications++;
    knob->value = tt_config_int(config, knob_keys[mine->knob]);
    return TT_OK;
}

static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    const handle *mine = user;
    (void)config;
    out->changes[0].key = knob_keys[mine->knob];
    snprintf(out->changes[0].value, sizeof out->changes[0].value, "%d",
             (int)mine->job->knobs[mine->knob].initial);
    out->change_count = 1;
    return TT_OK;
}

static tt_status conform(void *user, const tt_config *config)
{
    const handle *mine = user;
    (void)config;
    return mine->job->knobs[mine->knob].fails_to_conform
               ? tt_fail(TT_EGATE, "%s computes something else", knob_names[mine->knob])
               : TT_OK;
}

tt_status toy_connect_knobs(toy *job)
{
    /* As many jobs as a test has at the same time. */
    static handle handles[8][TOY_KNOBS];
    static unsigned next;
    static const char *const off_as_tile[] = {"1"};
    static const char *const off_otherwise[] = {"16"};
    handle *own = handles[next++ % 8];
    tt_status status = TT_OK;
    for (int k = 0; !status && k < job->knob_count; k++) {
        own[k] = (handle){.job = job, .knob = k};
        if (job->knobs[k].is_gone) {
            continue;
        }
        tt_optimization one = {.size = sizeof one,
                               .user = &own[k],
                               .name = knob_names[k],
                               .tier = tier_of(k),
                               .aim = job->knobs[k].aim,
                               .keys = &knob_keys[k],
                               .key_count = 1,
                               .baseline = k < TOY_TILES ? off_as_tile : off_otherwise,
                               .acts_on_state = job->knobs[k].acts_on_state,
                               .propose = job->knobs[k].initial ? propose : NULL,
                               .conform = conform,
                               .apply = apply};
        status = tt_orchestrator_add(job->orchestrator, &one);
        if (!status && job->knobs[k].measured) {
            tt_error_target target = {.size = sizeof target,
                                      .name = knob_names[k],
                                      .optimization = knob_names[k],
                                      .kind = TT_ERROR_RECONSTRUCTION,
                                      .cadence = 1};
            status = tt_orchestrator_add_target(job->orchestrator, &target, &job->knobs[k].target);
        }
    }
    return status;
}

void toy_check_applied(const toy *job, const tt_config *config)
{
    for (int k = 0; k < job->knob_count; k++) {
        assert_true(job->knobs[k].is_gone ||
                    tt_config_int(config, knob_keys[k]) == job->knobs[k].value);
    }
}

/* ---- the host ---- */

static int scratch_slot(void)
{
    return TT_MAX_SLOTS;
}

static tt_status run_step(void *user, const tt_replay *replay, tt_measurements *out)
{
    toy *job = user;
    assert_true(replay->size == sizeof *replay);
    assert_true(replay->write_slot < 0 || replay->write_slot == scratch_slot());
    assert_true(atomic_load(&job->reading) != scratch_slot());
    toy_check_applied(job, replay->config);
    job->replays_done++;
    toy_note_order(job, 'S');
    if (job->replay_fails && job->replay_fails_at-- == 0) {
        return tt_fail(job->replay_fails, "the device broke in a replay");
    }
    toy_measure(job, replay->step, replay->position, replay->learning_rate_scale, replay->read_slot,
                out);
    if (replay->write_slot >= 0) {
        toy_update(job, replay->step, replay->position, replay->learning_rate_scale,
                   replay->read_slot, replay->write_slot, out);
    }
    return TT_OK;
}

static tt_status slot_copy(void *user, int from, int to)
{
    toy *job = user;
    assert_int_equal(to, scratch_slot());
    job->copies++;
    job->slot[to] = job->slot[from];
    return TT_OK;
}

static void slot_release(void *user, int slot)
{
    toy *job = user;
    assert_int_equal(slot, scratch_slot());
    job->releases++;
    memset(&job->slot[slot], 0xaa, sizeof job->slot[slot]);
}

/* What is compressed less takes more. */
static int64_t memory_estimate(void *user, const tt_config *config, bool fork)
{
    const toy *job = user;
    int64_t bytes = 1000;
    for (int k = TOY_TILES; k < job->knob_count; k++) {
        bytes +=
            100 *
            (tt_config_is_auto(config, knob_keys[k]) ? 1 : tt_config_int(config, knob_keys[k]));
    }
    return bytes + (fork ? job->fork_memory : 0);
}

void toy_complete_host(toy *job, tt_host *host)
{
    if (job->knob_count == 0) {
        return;
    }
    host->memory_estimate = memory_estimate;
    if (job->replays) {
        host->run_step = run_step;
        host->scratch_slot = scratch_slot();
        host->slot_copy = slot_copy;
        host->slot_release = slot_release;
    }
}

/* ---- time ---- */

void toy_note_order(toy *job, char what)
{
    if (job->order_length == sizeof job->order - 1) {
        job->order_length = 0;
    }
    job->order[job->order_length++] = what;
    job->order[job->order_length] = '\0';
    for (int k = 0; what == 'L' && k < job->knob_count; k++) {
        job->knobs[k].ran = job->knobs[k].value;
    }
}

static double powers_from_baseline(const toy *job, int knob)
{
    return fabs(log2((double)job->knobs[knob].value) - log2((double)baseline_of(knob)));
}

void toy_take_time(toy *job)
{
    double milliseconds = job->slowness;
    for (int k = 0; k < job->knob_count; k++) {
        milliseconds *= pow(job->knobs[k].factor, powers_from_baseline(job, k));
    }
    job->ns += (uint64_t)(milliseconds * 1e6);
}

/* ---- harm ---- */

static int first_of(uint32_t mask)
{
    int knob = 0;
    while (!(mask >> knob & 1)) {
        knob++;
    }
    return knob;
}

static bool is_brought_about(const toy *job, const toy_harm *harm)
{
    uint32_t on = 0;
    for (int k = 0; k < job->knob_count; k++) {
        on |= toy_knob_is_on(job, k) ? UINT32_C(1) << k : 0;
    }
    if (harm->value && job->knobs[first_of(harm->with)].value != harm->value) {
        return false;
    }
    return harm->with == 0 ||
           (harm->all ? (on & harm->with) == harm->with : (on & harm->with) != 0);
}

static bool strikes(toy *job, toy_harm *harm, int64_t step, int64_t position, double rate)
{
    if (harm->strikes == 0 || step < harm->from || step >= harm->until ||
        (harm->position >= 0 && harm->position != position) || (harm->of_rate && rate < 0.5) ||
        !is_brought_about(job, harm)) {
        return false;
    }
    harm->strikes -= harm->strikes > 0;
    return true;
}

static void show(const toy *job, const toy_harm *harm, tt_measurements *measured)
{
    switch (harm->kind) {
    case TOY_HARM_NAN_LOSS:
        tt_measurements_set(measured, TT_METRIC_LOSS, NAN);
        break;
    case TOY_HARM_LOSS:
        tt_measurements_set(measured, TT_METRIC_LOSS, 44);
        break;
    case TOY_HARM_EXPLODING:
        tt_measurements_set(measured, TT_METRIC_GRADIENT_NORM, 1e7);
        break;
    case TOY_HARM_VANISHING:
        tt_measurements_set(measured, TT_METRIC_GRADIENT_NORM, 1e-9);
        break;
    case TOY_HARM_GRADIENT_NAN:
        tt_measurements_set(measured, TT_METRIC_GRADIENT_NONFINITE, 3);
        break;
    case TOY_HARM_ERROR:
        tt_measurements_set_error(measured, job->knobs[first_of(harm->with)].target, 0.2);
        break;
    case TOY_HARM_UPDATE:
    case TOY_HARM_STATE:
    case TOY_HARM_KINDS:
        break;
    }
}

void toy_harm_before(toy *job, int64_t step, int64_t position, double rate, const toy_state *from,
                     tt_measurements *measured)
{
    for (int k = 0; k < job->knob_count; k++) {
        measured->values[TT_METRIC_LOSS] += job->knobs[k].loss * powers_from_baseline(job, k);
        if (job->knobs[k].measured && toy_knob_is_on(job, k)) {
            tt_measurements_set_error(measured, job->knobs[k].target,
                                      job->knobs[k].error * powers_from_baseline(job, k));
        }
    }
    for (int i = 0; i < job->harm_count; i++) {
        toy_harm *harm = &job->harms[i];
        if (harm->kind == TOY_HARM_STATE) {
            if (from->poison > 0 && from->poison >= harm->delay) {
                tt_measurements_set(measured, TT_METRIC_GRADIENT_NORM, 1e6);
            }
        } else if (harm->kind != TOY_HARM_UPDATE && strikes(job, harm, step, position, rate)) {
            show(job, harm, measured);
        }
    }
}

void toy_harm_after(toy *job, int64_t step, int64_t position, double rate, toy_state *to,
                    tt_measurements *measured)
{
    for (int k = 0; k < job->knob_count; k++) {
        if (job->knobs[k].changes_state && toy_knob_is_on(job, k)) {
            to->a[k % 6] += 1e-3 * (double)job->knobs[k].value;
        }
    }
    for (int i = 0; i < job->harm_count; i++) {
        toy_harm *harm = &job->harms[i];
        if (harm->kind == TOY_HARM_UPDATE && strikes(job, harm, step, position, rate)) {
            tt_measurements_set(measured, TT_METRIC_UPDATE_NONFINITE, 2);
        } else if (harm->kind == TOY_HARM_STATE && to->poison == 0 &&
                   strikes(job, harm, step, position, rate)) {
            to->poison = 1;
        }
    }
}

/* ---- decisions ---- */

char *toy_decisions(const toy *job)
{
    static const char *const of_the_process[] = {"time", "attempt", "run_seconds"};
    enum { ROOM = 1 << 20 };
    json_t *lines = toy_lines(job, "decisions.jsonl");
    char *text = calloc(1, ROOM);
    size_t used = 0;
    size_t index;
    json_t *line;
    assert_non_null(text);
    json_array_foreach(lines, index, line)
    {
        if (!json_object_get(line, "sequence")) {
            continue;
        }
        for (int i = 0; i < 3; i++) {
            json_object_del(line, of_the_process[i]);
        }
        char *one = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(6));
        used += (size_t)snprintf(text + used, ROOM - used, "%s\n", one);
        assert_true(used < ROOM);
        free(one);
    }
    json_decref(lines);
    return text;
}
