/* Trains the user's own run in a scratch folder; then rounds of one live step, one clean shadow
 * step and every fault. */
#include "calibrate.h"

#include "../scratch.h"
#include "../try.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the time that there is, training alone may take this share. */
static const double training_share = 0.6;

void tt_calibrate_options_init(tt_calibrate_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

bool tt_calibrate_stopped(const tt_calibrator *c)
{
    return c->options->stop && c->options->stop(c->options->user);
}

double tt_calibrate_seconds(const tt_calibrator *c)
{
    uint64_t now = tt_clock_now(&c->training->clock);
    return now > c->start_ns ? (double)(now - c->start_ns) * 1e-9 : 0;
}

static void tell(const tt_calibrator *c, const char *phase, int64_t done, int64_t of)
{
    if (c->options->on_progress) {
        c->options->on_progress(c->options->user, phase, done, of);
    }
}

static bool time_is_up(const tt_calibrator *c, double share)
{
    return c->options->seconds > 0 && tt_calibrate_seconds(c) > share * c->options->seconds;
}

/* ---- the run ------------------------------------------------------------------------------ */

static tt_status set_options(const tt_calibrate_options *options)
{
    /* None of this changes a step. */
    static const char *const settings[] = {"checkpoint.every_steps=0", "train.validate_every=0",
                                           "adapt.every_steps=0", "sample.tokens=0"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        TRY(tt_config_set(options->config, TT_SOURCE_COMMAND, settings[i], "gate calibrate"));
    }
    return TT_OK;
}

static void on_tensor(void *user, const tt_step_plan *plan, const char *name)
{
    tt_calibrator *c = user;
    tt_probe_phase phase = tt_model_probe_phase(c->training->model);
    (void)plan;
    if (phase == TT_PROBE_FORWARD && strcmp(name, "act.losses") == 0) {
        c->microbatch++;
    }
    if (c->making && c->making->in_gradient) {
        c->plant.fault.active = c->microbatch == c->training->accumulate;
    }
    bool known = !c->collecting || phase == TT_PROBE_DECODED;
    for (size_t i = 0; !known && i < c->names.count; i++) {
        known = strcmp(c->names.list[i], name) == 0;
    }
    if (!known && c->names.count < TT_CALIBRATE_NAMES) {
        snprintf(c->names.list[c->names.count++], TT_TENSOR_NAME, "%s", name);
    }
}

static tt_status open_run(tt_calibrator *c, const char *scratch)
{
    char folder[TT_SCRATCH_PATH];
    snprintf(folder, sizeof folder, "%.*s/run", TT_SCRATCH_PATH - 8, scratch);
    tt_training_options options;
    tt_training_options_init(&options);
    options.params = c->options->params;
    options.config = c->options->config;
    options.run_directory = folder;
    options.resume = c->options->resume;
    options.log = c->options->log;
    TRY(tt_training_create(&options, &c->training));
    c->host = tt_slot_memory_host(&c->training->memory);
    c->plant.at_tensor = on_tensor;
    c->plant.user = c;
    c->plant.fault = (tt_tensor_fault){.tensor = "", .step = 1, .last = 0, .position = -1};
    TRY(tt_plant_attach(&c->plant, c->training));
    return tt_orchestrator_start(c->training->orchestrator);
}

/* Resumed runs go on counting. */
static void note_counts(tt_calibrator *c, int64_t sign)
{
    tt_calibration *result = &c->result->public;
    for (size_t i = 0; i < result->gate_count; i++) {
        tt_gate_info info = tt_orchestrator_gate(c->training->orchestrator, i);
        result->gates[i].evaluations += sign * info.evaluations;
        result->gates[i].trips += sign * info.trips;
        result->gates[i].name = info.name;
        result->gates[i].armed = info.armed;
        result->gates[i].minimum = info.minimum;
        result->gates[i].maximum = info.maximum;
    }
}

/* (The orchestrator's own message names a checkpoint, which will be gone.) */
static tt_status say_why(const tt_calibrator *c)
{
    const tt_step_record *last = tt_orchestrator_record(c->training->orchestrator, 0);
    char reason[256];
    return tt_fail(TT_EGATE,
                   "step %lld: the gates stop this run without a fault (%s); a run that does not "
                   "train cannot be calibrated",
                   last ? (long long)last->step : 0,
                   last ? tt_gate_describe(&last->decision, reason) : "");
}

static tt_status live_step(tt_calibrator *c)
{
    tt_step_record record;
    if (tt_calibrate_stopped(c)) {
        return tt_fail(TT_EREQUEUE, "stopped before the gates were calibrated; run it again");
    }
    c->result->public.live_steps++;
    tt_status status = tt_training_step(c->training, &record);
    return status == TT_EGATE ? say_why(c) : status;
}

static bool is_armed(const tt_calibrator *c)
{
    for (size_t i = 0; i < c->result->public.gate_count; i++) {
        tt_gate_info gate = tt_orchestrator_gate(c->training->orchestrator, i);
        if (strcmp(gate.name, "spike_loss") == 0) {
            return gate.armed;
        }
    }
    return false;
}

/* A run that begins also leaves its warm-up behind, whose wider limits say nothing about the rest.
 */
static tt_status train(tt_calibrator *c)
{
    int64_t warm = c->training->optim.warmup_steps + 64;
    int64_t least = warm > TT_CALIBRATE_STEPS ? warm : TT_CALIBRATE_STEPS;
    int64_t steps = c->options->steps ? c->options->steps : c->options->resume ? 64 : least;
    tt_status status = TT_OK;
    for (int64_t i = 0; !status && i < steps && !time_is_up(c, training_share); i++) {
        tell(c, "training", i, steps);
        status = live_step(c);
        if (i + 1 == steps && !c->options->steps && !is_armed(c) && steps < least) {
            steps = least;
        }
    }
    return status;
}

/* ---- rounds ------------------------------------------------------------------------------- */

/* A probe of a breaker goes on in the scratch slot. */
static bool slot_is_taken(const tt_calibrator *c)
{
    const tt_orchestrator *o = c->training->orchestrator;
    for (size_t i = 0; i < tt_orchestrator_optimization_count(o); i++) {
        if (tt_orchestrator_optimization(o, i).trial[0]) {
            return true;
        }
    }
    return false;
}

static void judge_clean(tt_calibrator *c)
{
    tt_calibration *result = &c->result->public;
    for (size_t g = 0; g < result->gate_count; g++) {
        if (tt_gate_memory_armed(c->gates, g)) {
            result->gates[g].evaluations++;
            result->gates[g].trips +=
                tt_gate_memory_judge(c->gates, g, &c->clean).verdict == TT_TRIP;
        }
    }
    result->shadow_steps++;
}

/* On batches that the live steps do not come to. */
static tt_status make_round(tt_calibrator *c, int64_t round)
{
    const tt_training *training = c->training;
    int64_t ahead = tt_orchestrator_step(training->orchestrator) + c->rounds + 1;
    int64_t position = ahead * training->batch * training->accumulate;
    tt_gate_memory_destroy(c->gates);
    c->gates = NULL;
    TRY(tt_gate_memory_create(training->orchestrator, &c->gates));
    TRY(tt_calibrate_clean(c, position, &c->clean));
    judge_clean(c);
    return tt_calibrate_make_faults(c, round, position);
}

static tt_status make_rounds(tt_calibrator *c)
{
    tt_calibration *result = &c->result->public;
    tt_status status = TT_OK;
    while (!status && result->rounds < c->rounds && !time_is_up(c, 1)) {
        tell(c, "faults", result->rounds, c->rounds);
        if (!slot_is_taken(c)) {
            status = make_round(c, result->rounds);
            result->rounds += !status;
        }
        if (!status) {
            status = live_step(c);
        }
    }
    result->complete = result->rounds == c->rounds;
    return status;
}

static void conclude(tt_calibrator *c)
{
    tt_calibration *result = &c->result->public;
    note_counts(c, 1);
    for (size_t i = 0; i < result->gate_count; i++) {
        tt_calibration_gate *gate = &result->gates[i];
        gate->false_rate = tt_clopper_pearson_interval(gate->trips, gate->evaluations, 0.95);
    }
    result->rows = c->result->rows;
    result->seconds = tt_calibrate_seconds(c);
    tt_calibrate_conclude_rows(c);
}

static tt_status calibrate(tt_calibrator *c, const char *scratch)
{
    TRY(set_options(c->options));
    TRY(open_run(c, scratch));
    tt_calibration *result = &c->result->public;
    const tt_gate_description *gate;
    while ((gate = tt_gate_list(result->gate_count)) != NULL && strcmp(gate->name, "overhead") &&
           result->gate_count < TT_CALIBRATION_GATES) {
        result->gate_count++;
    }
    result->first_step = tt_orchestrator_step(c->training->orchestrator);
    note_counts(c, -1);
    TRY(train(c));
    TRY(tt_calibrate_list_faults(c));
    TRY(make_rounds(c));
    if (c->gates) {
        tell(c, "series", 0, 1);
        TRY(tt_calibrate_drift(c));
    }
    if (tt_calibrate_stopped(c)) {
        return tt_fail(TT_EREQUEUE, "stopped before the gates were calibrated; run it again");
    }
    conclude(c);
    return tt_calibrate_write_findings(c);
}

tt_status tt_calibrate(const tt_calibrate_options *options, tt_calibration **out)
{
    *out = NULL;
    if (options->size != sizeof *options || !options->params || !options->config ||
        options->steps < 0 || options->rounds < 0 || !(options->seconds >= 0)) {
        return tt_fail(TT_EINVAL, "tt_calibrate needs params and config, of this version's size, "
                                  "and no negative number");
    }
    char scratch[TT_SCRATCH_PATH];
    tt_clock clock = tt_clock_monotonic();
    tt_calibrator c = {.options = options,
                       .rounds = options->rounds ? options->rounds : TT_CALIBRATE_ROUNDS,
                       .start_ns = tt_clock_now(&clock)};
    c.result = calloc(1, sizeof *c.result);
    c.names.list = calloc(TT_CALIBRATE_NAMES, sizeof *c.names.list);
    if (!c.result || !c.names.list) {
        free(c.result);
        free(c.names.list);
        return tt_fail(TT_ENOMEM, "no memory for a calibration");
    }
    c.result->public.size = sizeof c.result->public;
    for (size_t i = 0; i < TT_CALIBRATE_FINDINGS; i++) {
        tt_text_init(&c.result->texts[i]);
    }
    tt_status status = tt_scratch_make("calibrate", scratch);
    if (!status) {
        status = calibrate(&c, scratch);
    }
    tt_gate_memory_destroy(c.gates);
    tt_training_destroy(c.training);
    tt_scratch_remove(scratch);
    free(c.observed);
    free(c.names.list);
    if (status) {
        tt_calibration_destroy(&c.result->public);
        return status;
    }
    *out = &c.result->public;
    return TT_OK;
}

void tt_calibration_destroy(tt_calibration *calibration)
{
    tt_calibration_whole *whole = (tt_calibration_whole *)calibration;
    for (size_t i = 0; whole && i < TT_CALIBRATE_FINDINGS; i++) {
        tt_text_clear(&whole->texts[i]);
    }
    free(whole);
}
