/* Lasting rises, in series that are made of the run's own steps: what a fork would take 600 steps
 * and more for each. */
#include "calibrate.h"

#include <math.h>
#include <stdlib.h>

enum {
    MOST_STEPS = 512, /* of the run, the last ones */
    LEAST_STEPS = 64,
    WARM_UP = 100,    /* as long the gradient gate has its wider limit, at least */
    HALF_WINDOW = 16, /* of the median that is the level */
    BLOCK = 16,       /* steps that stay together: noise has a memory */
    RISE = 200,
    LENGTH = 600,
    SERIES = 100, /* of each size */
};

static const uint64_t block_stream = UINT64_C(0xca11b4a7e1000000); /* of random numbers */

/* What the run's steps are like: deviations from the level, and the level of the last ones. */
typedef struct noise {
    double *loss, *norm; /* natural logarithms */
    size_t count;
    double loss_level, norm_level;
} noise;

static double median_around(const double *values, size_t count, size_t at)
{
    double window[2 * HALF_WINDOW + 1];
    size_t begin = at < HALF_WINDOW ? 0 : at - HALF_WINDOW;
    size_t end = at + HALF_WINDOW + 1 < count ? at + HALF_WINDOW + 1 : count;
    for (size_t i = begin; i < end; i++) {
        window[i - begin] = values[i];
    }
    return tt_median(window, end - begin);
}

/* Leaves deviations in `values`; returns the last level. `room` is as large. */
static double split(double *values, size_t count, double *room)
{
    for (size_t i = 0; i < count; i++) {
        room[i] = median_around(values, count, i);
    }
    for (size_t i = 0; i < count; i++) {
        values[i] -= room[i];
    }
    return room[count - 1];
}

/* The warm-up has a noise of its own, and wider limits. */
static void read_steps(const tt_calibrator *c, noise *out)
{
    int64_t warm =
        c->training->optim.warmup_steps > WARM_UP ? c->training->optim.warmup_steps : WARM_UP;
    const tt_step_record *record;
    size_t back = 0;
    out->count = 0;
    while (out->count < MOST_STEPS &&
           (record = tt_orchestrator_record(c->training->orchestrator, back++)) != NULL) {
        if (record->published && record->step >= warm && record->loss > 0 &&
            record->gradient_norm > 0) {
            out->loss[out->count] = log(record->loss);
            out->norm[out->count++] = log(record->gradient_norm);
        }
    }
    for (size_t i = 0; 2 * i + 1 < out->count; i++) { /* the youngest came first */
        size_t other = out->count - 1 - i;
        double loss = out->loss[i];
        double norm = out->norm[i];
        out->loss[i] = out->loss[other];
        out->norm[i] = out->norm[other];
        out->loss[other] = loss;
        out->norm[other] = norm;
    }
}

/* Step `t` of a series that rises by `rise` (a logarithm). */
static void make_step(const tt_calibrator *c, const noise *n, double rise, bool of_norm,
                      uint64_t series, int t, tt_measurements *out)
{
    double u = tt_random_uniform(1, block_stream + series, (uint64_t)(t / BLOCK));
    size_t at = (size_t)(u * (double)(n->count - BLOCK + 1)) + (size_t)(t % BLOCK);
    double risen = rise * (t < RISE ? (double)(t + 1) / RISE : 1);
    *out = c->clean;
    tt_measurements_set(out, TT_METRIC_LOSS,
                        exp(n->loss_level + n->loss[at] + (of_norm ? 0 : risen)));
    tt_measurements_set(out, TT_METRIC_GRADIENT_NORM,
                        exp(n->norm_level + n->norm[at] + (of_norm ? risen : 0)));
}

static bool judge(const tt_calibrator *c, const tt_gate_memory *memory,
                  const tt_measurements *measured, int64_t *seen_by)
{
    if (tt_gate_memory_judge(memory, TT_ANY_GATE, measured).verdict != TT_TRIP) {
        return false;
    }
    for (size_t g = 0; g < c->result->public.gate_count; g++) {
        seen_by[g] += tt_gate_memory_judge(memory, g, measured).verdict == TT_TRIP;
    }
    return true;
}

/* Returns the step at which a gate tripped; LENGTH if none did. */
static int run_series(const tt_calibrator *c, tt_gate_memory *memory, const noise *n, double rise,
                      bool of_norm, uint64_t series, int64_t *seen_by)
{
    tt_gate_memory_copy(memory, c->gates);
    for (int t = 0; t < LENGTH; t++) {
        tt_measurements measured;
        make_step(c, n, rise, of_norm, series, t, &measured);
        if (judge(c, memory, &measured, seen_by)) {
            return t;
        }
        tt_gate_memory_accept(memory, &measured);
    }
    return LENGTH;
}

static void run_row(tt_calibrator *c, tt_gate_memory *memory, const noise *n, size_t index)
{
    tt_calibration_row *row = &c->result->rows[index];
    const tt_calibrate_fault *fault = &c->faults[index];
    double steps = 0;
    for (uint64_t s = 0; s < SERIES && !tt_calibrate_stopped(c); s++) {
        int at = run_series(c, memory, n, fault->strength, fault->of_norm, s, row->seen_by);
        row->trials++;
        row->seen += at < LENGTH;
        steps += at < LENGTH ? at + 1 : 0;
    }
    row->steps_until = row->seen ? steps / (double)row->seen : NAN;
}

/* The same series without a rise. */
static void run_control(tt_calibrator *c, tt_gate_memory *memory, const noise *n)
{
    tt_calibration *result = &c->result->public;
    int64_t seen_by[TT_CALIBRATION_GATES] = {0};
    for (uint64_t s = 0; s < SERIES && !tt_calibrate_stopped(c); s++) {
        int at = run_series(c, memory, n, 0, false, s, seen_by);
        result->resampled_steps += at < LENGTH ? at + 1 : LENGTH;
        result->resampled_trips += at < LENGTH;
    }
}

static tt_status run_rows(tt_calibrator *c, const noise *n)
{
    tt_gate_memory *memory = NULL;
    tt_status status = tt_gate_memory_create(c->training->orchestrator, &memory);
    if (status) {
        return status;
    }
    run_control(c, memory, n);
    for (size_t i = 0; i < c->result->public.row_count; i++) {
        if (c->faults[i].how == TT_HOW_SERIES) {
            run_row(c, memory, n, i);
        }
    }
    tt_gate_memory_destroy(memory);
    return TT_OK;
}

tt_status tt_calibrate_drift(tt_calibrator *c)
{
    double *room = calloc(3 * MOST_STEPS, sizeof *room);
    if (!room) {
        return tt_fail(TT_ENOMEM, "no memory for a list of steps");
    }
    noise n = {.loss = room, .norm = room + MOST_STEPS};
    read_steps(c, &n);
    tt_status status = TT_OK;
    if (n.count >= LEAST_STEPS) {
        n.loss_level = split(n.loss, n.count, room + 2 * (size_t)MOST_STEPS);
        n.norm_level = split(n.norm, n.count, room + 2 * (size_t)MOST_STEPS);
        status = run_rows(c, &n);
    }
    free(room);
    return status;
}
