/* Faults that are made in replays, and how many of them the gates see. */
#include "calibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The last tensor that is one before the head: what reaches the loss, and the gradient of all. */
static const char late_activation[] = "act.ln_f";
static const uint64_t which_stream = UINT64_C(0xca11b4a7e0000000); /* of random numbers */

/* ---- rows --------------------------------------------------------------------------------- */

static tt_calibration_row *add_row(tt_calibrator *c, const char *fault, const char *what,
                                   tt_calibrate_fault how)
{
    size_t index = c->result->public.row_count++;
    tt_calibration_row *row = &c->result->rows[index];
    c->faults[index] = how;
    *row = (tt_calibration_row){
        .fault = fault, .what = what, .observed = NAN, .steps_until = NAN, .power = {0, 1}};
    return row;
}

static void add_times(tt_calibrator *c, const char *fault, const char *what, tt_calibrate_fault how,
                      double times)
{
    tt_calibration_row *row = add_row(c, fault, what, how);
    row->magnitude = times;
    snprintf(row->size, sizeof row->size, "x%g", times);
}

static void add_share(tt_calibrator *c, const char *fault, const char *what, tt_calibrate_fault how,
                      double share)
{
    tt_calibration_row *row = add_row(c, fault, what, how);
    row->magnitude = share;
    snprintf(row->size, sizeof row->size, "%g %%", 100 * share);
}

static void add_gradients(tt_calibrator *c)
{
    static const double up[] = {1.5, 3, 10, 30, 100, 1e3, 1e6};
    static const double down[] = {1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-12};
    tt_calibrate_fault how = {.kind = TT_FAULT_SCALE, .tensor = "grad.*", .in_gradient = true};
    for (size_t i = 0; i < sizeof up / sizeof *up; i++) {
        how.strength = up[i];
        add_times(c, "gradient up", "all gradients scaled, in one step", how, up[i]);
    }
    for (size_t i = 0; i < sizeof down / sizeof *down; i++) {
        how.strength = down[i];
        add_times(c, "gradient down", "all gradients scaled, in one step", how, down[i]);
    }
}

static void add_nonfinite(tt_calibrator *c)
{
    static const struct {
        const char *size, *group;
        tt_fault_kind kind;
        tt_plant_site site;
    } table[] = {
        {"NaN in an activation", "act.", TT_FAULT_NAN, TT_PLANT_PASS},
        {"infinity in an activation", "act.", TT_FAULT_INFINITY, TT_PLANT_PASS},
        {"NaN in a gradient", "grad.", TT_FAULT_NAN, TT_PLANT_PASS},
        {"infinity in a gradient", "grad.", TT_FAULT_INFINITY, TT_PLANT_PASS},
        {"NaN in a parameter", "params", TT_FAULT_NAN, TT_PLANT_READ},
        {"NaN in a moment", "adam_", TT_FAULT_NAN, TT_PLANT_READ},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_calibrate_fault how = {.how = TT_HOW_NONFINITE,
                                  .kind = table[i].kind,
                                  .site = table[i].site,
                                  .tensor = table[i].group};
        tt_calibration_row *row =
            add_row(c, "not a number", "one element, in another tensor each time", how);
        row->magnitude = 1;
        snprintf(row->size, sizeof row->size, "%s", table[i].size);
    }
}

static const double shares[] = {0.01, 0.02, 0.04, 0.05, 0.08, 0.2};
enum { SHARES = sizeof shares / sizeof *shares };

static void add_errors(tt_calibrator *c, const char *fault, const char *what, int target)
{
    for (size_t i = 0; i < SHARES; i++) {
        tt_calibrate_fault how = {.how = TT_HOW_ERROR, .strength = shares[i], .target = target};
        add_share(c, fault, what, how, shares[i]);
    }
}

static void add_codecs(tt_calibrator *c)
{
    const tt_training *training = c->training;
    const tt_config *config = tt_orchestrator_config(training->orchestrator);
    if (tt_activation_codec_from(config) != TT_CODEC_F32) {
        add_errors(c, "activations lose", "more than the codec does, as it measures itself",
                   training->activations);
        for (size_t i = 0; i < SHARES; i++) {
            tt_calibrate_fault how = {.kind = TT_FAULT_NOISE,
                                      .site = TT_PLANT_DECODED,
                                      .tensor = "act.*",
                                      .strength = shares[i]};
            add_share(c, "decoded activations", "noise behind what the codec measures", how,
                      shares[i]);
        }
    }
    if (training->moments.codec != TT_CODEC_F32) {
        add_errors(c, "moments lose", "more than the codec does, as it measures itself",
                   training->moments_reconstruction);
        add_errors(c, "update error", "more than the moments' codec makes, as it measures itself",
                   training->moments_update);
    }
}

static void add_series(tt_calibrator *c)
{
    static const double loss[] = {0.01, 0.02, 0.03, 0.05, 0.1, 0.2};
    static const double norm[] = {1.5, 2, 3, 5};
    tt_calibrate_fault how = {.how = TT_HOW_SERIES};
    for (size_t i = 0; i < sizeof loss / sizeof *loss; i++) {
        how.strength = log1p(loss[i]);
        add_share(c, "loss rises for good",
                  "in 200 steps, then stays; seen within 600; made of the run's own steps", how,
                  loss[i]);
    }
    how.of_norm = true;
    for (size_t i = 0; i < sizeof norm / sizeof *norm; i++) {
        how.strength = log(norm[i]);
        add_times(c, "norm rises for good",
                  "the gradient norm alone, in 200 steps, then stays; seen within 600", how,
                  norm[i]);
    }
}

/* ---- replays ------------------------------------------------------------------------------ */

static tt_status replay(tt_calibrator *c, int read_slot, int write_slot, int64_t position,
                        tt_measurements *out)
{
    tt_orchestrator *o = c->training->orchestrator;
    tt_replay step = {
        .size = sizeof step,
        .step = tt_orchestrator_step(o),
        .position = position,
        .read_slot = read_slot,
        .write_slot = write_slot,
        .learning_rate_scale = 1,
        .config = tt_orchestrator_config(o),
    };
    c->microbatch = 0;
    tt_measurements_init(out);
    return c->host.run_step(c->host.user, &step, out);
}

static void no_fault(tt_calibrator *c)
{
    c->plant.fault = (tt_tensor_fault){.tensor = "", .step = 1, .last = 0, .position = -1};
    c->plant.site = TT_PLANT_PASS;
    c->making = NULL;
}

static void set_fault(tt_calibrator *c, const tt_calibrate_fault *fault, const char *tensor)
{
    c->plant.fault = (tt_tensor_fault){.kind = fault->kind,
                                       .magnitude = fault->strength,
                                       .tensor = tensor,
                                       .last = INT64_MAX,
                                       .position = -1,
                                       .strikes = -1};
    c->plant.site = fault->site;
    c->making = fault;
}

/* A step from the published state. What harms a state harms a copy, in the scratch slot. */
static tt_status replay_published(tt_calibrator *c, bool on_copy, int64_t position,
                                  tt_measurements *out)
{
    int slot = tt_orchestrator_slot(c->training->orchestrator);
    tt_status status = TT_OK;
    if (on_copy) {
        status = c->host.slot_copy(c->host.user, slot, c->host.scratch_slot);
        slot = c->host.scratch_slot;
    }
    return status ? status : replay(c, slot, c->host.scratch_slot, position, out);
}

tt_status tt_calibrate_clean(tt_calibrator *c, int64_t position, tt_measurements *out)
{
    no_fault(c);
    return replay_published(c, false, position, out);
}

/* ---- a loss of a given multiple ----------------------------------------------------------- */

/* By what the activation must be scaled is found out on one batch: the first crossing of each
 * multiple, on a line between two powers of sqrt 2. */
static tt_status add_losses(tt_calibrator *c, int64_t position)
{
    static const double wanted[] = {1.2, 1.4, 1.7, 2, 3, 5};
    const size_t count = sizeof wanted / sizeof *wanted;
    tt_calibrate_fault how = {.kind = TT_FAULT_SCALE, .tensor = late_activation};
    int slot = tt_orchestrator_slot(c->training->orchestrator);
    double before = 0; /* ln multiple, at the scale before */
    size_t next = 0;
    for (int k = 1; k <= 40 && next < count; k++) {
        tt_measurements measured;
        how.strength = pow(2, 0.5 * k);
        set_fault(c, &how, late_activation);
        tt_status status = replay(c, slot, -1, position, &measured);
        if (status) {
            return status;
        }
        double times = measured.values[TT_METRIC_LOSS] / c->clean.values[TT_METRIC_LOSS];
        double now = log(times);
        if (!isfinite(now)) {
            break;
        }
        for (; next < count && now >= log(wanted[next]); next++) {
            double part = (log(wanted[next]) - before) / (now - before);
            how.strength = pow(2, 0.5 * (k - 1 + part));
            add_times(c, "loss", "act.ln_f scaled, in one batch", how, wanted[next]);
        }
        before = now;
    }
    no_fault(c);
    return TT_OK;
}

tt_status tt_calibrate_list_faults(tt_calibrator *c)
{
    tt_orchestrator *o = c->training->orchestrator;
    int64_t position = tt_orchestrator_step(o) * c->training->batch * c->training->accumulate;
    c->collecting = true;
    tt_status status = tt_calibrate_clean(c, position, &c->clean);
    c->collecting = false;
    if (!status) {
        status = add_losses(c, position);
    }
    if (status) {
        return status;
    }
    add_gradients(c);
    add_nonfinite(c);
    add_codecs(c);
    add_series(c);
    c->observed = calloc(c->result->public.row_count * (size_t)c->rounds + 1, sizeof(double));
    return c->observed ? TT_OK : tt_fail(TT_ENOMEM, "no memory for a list of measurements");
}

/* ---- making them -------------------------------------------------------------------------- */

static bool begins(const char *name, const char *group)
{
    return strncmp(name, group, strlen(group)) == 0;
}

/* Tensor number `wanted` (if it is there) of those whose names begin with `group`, of a pass or of
 * the published state; returns how many there are. */
static size_t find_in_group(const tt_calibrator *c, const tt_calibrate_fault *fault, size_t wanted,
                            char name[TT_TENSOR_NAME])
{
    const tt_slot_memory *memory = &c->training->memory;
    int slot = tt_orchestrator_slot(c->training->orchestrator);
    bool of_state = fault->site == TT_PLANT_READ;
    size_t all = of_state ? tt_slot_part_count(memory, slot) : c->names.count;
    size_t found = 0;
    for (size_t i = 0; i < all; i++) {
        tt_tensor_info info = {.dtype = TT_F32};
        const char *here = info.name;
        if (of_state) {
            tt_slot_part_info(memory, slot, i, &info);
        } else {
            here = c->names.list[i];
        }
        const bool real = info.dtype == TT_F32 || info.dtype == TT_U16; /* bf16 as its bits */
        if (!real || !begins(here, fault->tensor)) {
            continue;
        }
        if (found++ == wanted) {
            snprintf(name, TT_TENSOR_NAME, "%s", here);
        }
    }
    return found;
}

static void pick(const tt_calibrator *c, const tt_calibrate_fault *fault, uint64_t draw,
                 char name[TT_TENSOR_NAME])
{
    name[0] = '\0';
    size_t count = find_in_group(c, fault, SIZE_MAX, name);
    double u = tt_random_uniform(1, which_stream, draw);
    find_in_group(c, fault, (size_t)(u * (double)count), name);
}

/* Adds to what was measured as a second, independent loss would. */
static void add_error(const tt_calibrator *c, const tt_calibrate_fault *fault,
                      tt_measurements *measured)
{
    *measured = c->clean;
    measured->errors[fault->target] = hypot(measured->errors[fault->target], fault->strength);
}

/* `name`: of the tensor that was picked, or "". */
static tt_status make(tt_calibrator *c, size_t index, int64_t round, int64_t position,
                      tt_measurements *measured, char name[TT_TENSOR_NAME])
{
    const tt_calibrate_fault *fault = &c->faults[index];
    name[0] = '\0';
    if (fault->how == TT_HOW_ERROR) {
        add_error(c, fault, measured);
        return TT_OK;
    }
    const char *tensor = fault->tensor;
    if (fault->how == TT_HOW_NONFINITE) {
        pick(c, fault, (uint64_t)round * TT_CALIBRATE_ROWS + index, name);
        tensor = name;
    }
    set_fault(c, fault, tensor);
    tt_status status = replay_published(c, fault->site == TT_PLANT_READ, position, measured);
    no_fault(c);
    return status;
}

static bool judge(const tt_calibrator *c, tt_calibration_row *row, const tt_measurements *measured)
{
    bool seen = false;
    for (size_t g = 0; g < c->result->public.gate_count; g++) {
        bool trips = tt_gate_memory_judge(c->gates, g, measured).verdict == TT_TRIP;
        row->seen_by[g] += trips;
        seen = seen || trips;
    }
    row->seen += seen;
    row->trials++;
    return seen;
}

static double multiple(const tt_calibrator *c, const tt_calibrate_fault *fault,
                       const tt_measurements *measured)
{
    tt_metric metric = fault->in_gradient ? TT_METRIC_GRADIENT_NORM : TT_METRIC_LOSS;
    return measured->values[metric] / c->clean.values[metric];
}

tt_status tt_calibrate_make_faults(tt_calibrator *c, int64_t round, int64_t position)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < c->result->public.row_count; i++) {
        tt_measurements measured;
        char name[TT_TENSOR_NAME];
        if (c->faults[i].how == TT_HOW_SERIES) {
            continue;
        }
        if (tt_calibrate_stopped(c)) {
            return tt_fail(TT_EREQUEUE, "stopped before the gates were calibrated; run it again");
        }
        status = make(c, i, round, position, &measured, name);
        if (!status) {
            tt_calibration_row *row = &c->result->rows[i];
            if (!judge(c, row, &measured)) {
                snprintf(row->missed, sizeof row->missed, "%s", name);
            }
            c->observed[i * (size_t)c->rounds + (size_t)round] =
                multiple(c, &c->faults[i], &measured);
        }
    }
    return status;
}

void tt_calibrate_conclude_rows(tt_calibrator *c)
{
    for (size_t i = 0; i < c->result->public.row_count; i++) {
        tt_calibration_row *row = &c->result->rows[i];
        const tt_calibrate_fault *fault = &c->faults[i];
        row->power = tt_clopper_pearson_interval(row->seen, row->trials, 0.95);
        if (fault->how == TT_HOW_TENSOR && fault->site == TT_PLANT_PASS && row->trials > 0) {
            row->observed = tt_median(c->observed + i * (size_t)c->rounds, (size_t)row->trials);
        }
    }
}
