/* The drill: scenario after scenario. */
#include "drill.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    tt_drill_scenario scenario;
    tt_drill_fn run;
    int runs; /* about, in runs of `is_long` or short ones */
    bool is_long;
} scenarios[] = {
    {{"nan-tensor", "a NaN in an activation, and in a gradient"}, tt_drill_nan_tensor, 2, true},
    {{"loss-spike", "one batch does harm, whenever it is tried"}, tt_drill_loss_spike, 1, true},
    {{"exploding-gradient", "all gradients far too large, twice"}, tt_drill_exploding, 1, true},
    {{"vanished-gradient", "all gradients next to zero, once"}, tt_drill_vanished, 1, true},
    {{"corrupt-codec", "compressed activations come back wrong from some step on"},
     tt_drill_corrupt_codec,
     3,
     true},
    {{"wrong-kernel", "a tuned matrix product is wrong from some step on"},
     tt_drill_wrong_kernel,
     2,
     true},
    {{"full-disk", "no space for two checkpoints; and a kill meanwhile"},
     tt_drill_full_disk,
     4,
     false},
    {{"read-only-disk", "the disk refuses every write to the end"}, tt_drill_read_only, 2, false},
    {{"kill", "SIGKILL in every phase of a run, and of the run that goes on"},
     tt_drill_kill,
     16,
     false},
    {{"damaged-checkpoint", "a bit of the newest checkpoint flips on the disk"},
     tt_drill_damaged,
     2,
     false},
    {{"clock-jump", "the clock jumps a day forwards, and a day back"}, tt_drill_clock, 9, false},
    {{"slow-disk", "a checkpoint takes the disk as long as many steps take"},
     tt_drill_slow_disk,
     2,
     false},
};

enum { SCENARIOS = sizeof scenarios / sizeof *scenarios, LEAST_STEPS = 16 };

const tt_drill_scenario *tt_drill_list(size_t index)
{
    return index < SCENARIOS ? &scenarios[index].scenario : NULL;
}

void tt_drill_options_init(tt_drill_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

/* ---- which ---- */

static tt_status find(const char *name, size_t *index)
{
    const char *names[SCENARIOS];
    for (size_t i = 0; i < SCENARIOS; i++) {
        names[i] = scenarios[i].scenario.name;
        if (strcmp(names[i], name) == 0) {
            *index = i;
            return TT_OK;
        }
    }
    const char *near = tt_nearest_word(name, names, SCENARIOS);
    return tt_fail(TT_EUSAGE, "drill: there is no scenario '%s'%s%s%s (see 'trimtab drill --list')",
                   name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* In the order of the list, each once. */
static tt_status choose(const tt_drill_options *options, bool chosen[SCENARIOS], size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < SCENARIOS; i++) {
        chosen[i] = options->scenario_count == 0;
    }
    for (size_t i = 0; i < options->scenario_count; i++) {
        size_t index = 0;
        tt_status status = find(options->scenarios[i], &index);
        if (status) {
            return status;
        }
        chosen[index] = true;
    }
    for (size_t i = 0; i < SCENARIOS; i++) {
        *count += chosen[i];
    }
    return TT_OK;
}

/* ---- running ---- */

static tt_status estimate(tt_drill *drill, const bool chosen[SCENARIOS])
{
    const tt_drill_options *options = drill->options;
    const tt_drill_yardstick *clean;
    bool any_long = false;
    double steps = 0;
    double runs = 0;
    for (size_t i = 0; i < SCENARIOS; i++) {
        if (chosen[i]) {
            any_long = any_long || scenarios[i].is_long;
            runs += scenarios[i].runs;
            steps += scenarios[i].runs *
                     (double)(scenarios[i].is_long ? tt_drill_long(drill) : tt_drill_short(drill));
        }
    }
    int64_t length = any_long ? tt_drill_long(drill) : tt_drill_short(drill);
    tt_status status = tt_drill_clean(drill, length, NULL, &clean);
    if (!status && options->on_estimate) {
        double step = clean->facts.step_seconds / (double)clean->steps;
        double rest = fmax(0, clean->seconds - clean->facts.step_seconds);
        options->on_estimate(options->user, steps * step + runs * rest);
    }
    return status;
}

static tt_status run_one(tt_drill *drill, size_t index, bool *lost)
{
    const tt_drill_options *options = drill->options;
    const tt_clock clock = tt_clock_monotonic();
    uint64_t start = tt_clock_now(&clock);
    tt_drill_verdict verdict = {.lost = false};
    drill->scenario = scenarios[index].scenario.name;
    tt_status status = scenarios[index].run(drill, &verdict);
    if (status) {
        return status;
    }
    const tt_drill_result result = {
        .scenario = drill->scenario,
        .lost = verdict.lost,
        .detected = verdict.detected,
        .culprit = verdict.culprit,
        .recovered = verdict.recovered,
        .why = verdict.why,
        .seconds = (double)(tt_clock_now(&clock) - start) * 1e-9,
    };
    *lost = verdict.lost;
    if (options->on_result) {
        options->on_result(options->user, &result);
    }
    return TT_OK;
}

static tt_status run_chosen(tt_drill *drill, const bool chosen[SCENARIOS], size_t count)
{
    const tt_drill_options *options = drill->options;
    size_t at = 0;
    size_t lost_count = 0;
    char lost_names[256] = "";
    tt_status status = estimate(drill, chosen);
    for (size_t i = 0; !status && i < SCENARIOS; i++) {
        bool lost = false;
        if (!chosen[i]) {
            continue;
        }
        if (options->on_scenario) {
            options->on_scenario(options->user, scenarios[i].scenario.name, at, count);
        }
        at++;
        status = run_one(drill, i, &lost);
        if (lost) {
            lost_count++;
            tt_drill_note(lost_names, sizeof lost_names, scenarios[i].scenario.name);
        }
    }
    if (!status && lost_count > 0) {
        status = tt_fail(TT_EGATE, "%zu of %zu scenario%s lost something: %s", lost_count, count,
                         count == 1 ? "" : "s", lost_names);
    }
    return status;
}

static tt_status prepare(tt_drill *drill)
{
    const tt_drill_options *options = drill->options;
    tt_status status = tt_drill_make_scratch(drill);
    if (!status && !options->config) {
        return tt_drill_make_model(drill);
    }
    /* Only runs write to it, and they are other processes. */
    drill->config = (tt_config *)options->config;
    drill->params = options->params;
    return status;
}

tt_status tt_drill_run(const tt_drill_options *options)
{
    bool chosen[SCENARIOS];
    size_t count;
    if (options->size != sizeof *options || (options->config && !options->params)) {
        return tt_fail(TT_EINVAL, "tt_drill_run needs options of this version's size, and the "
                                  "parameters of its configuration");
    }
    if (options->steps < 0 || (options->steps > 0 && options->steps < LEAST_STEPS)) {
        return tt_fail(TT_EUSAGE, "drill: %lld steps are too few; give %d or more",
                       (long long)options->steps, LEAST_STEPS);
    }
    tt_status status = choose(options, chosen, &count);
    if (status) {
        return status;
    }
    static const tt_drill none;
    tt_drill drill = none;
    drill.options = options;
    status = prepare(&drill);
    if (!status) {
        status = run_chosen(&drill, chosen, count);
    }
    tt_drill_remove_scratch(&drill);
    tt_config_destroy(drill.own_config);
    tt_params_destroy(drill.own_params);
    return status;
}
