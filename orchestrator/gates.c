#include "gates.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* What a cured step must have to spare, as a share of the limit. */
#define TO_SPARE 0.05

typedef enum gate_kind {
    METRIC,     /* one measurement within an interval */
    TARGET_MAX, /* the worst of the targets of one kind, below a limit */
    SPIKE,
    DRIFT,
} gate_kind;

static const struct {
    gate_kind kind;
    tt_metric metric;         /* but for TARGET_MAX */
    tt_error_kind error_kind; /* of TARGET_MAX */
} gates[TT_GATE_COUNT] = {
    [TT_GATE_LOSS] = {.kind = METRIC, .metric = TT_METRIC_LOSS},
    [TT_GATE_GRADIENT_FINITE] = {.kind = METRIC, .metric = TT_METRIC_GRADIENT_NONFINITE},
    [TT_GATE_GRADIENT_NORM] = {.kind = METRIC, .metric = TT_METRIC_GRADIENT_NORM},
    [TT_GATE_RECONSTRUCTION] = {.kind = TARGET_MAX, .error_kind = TT_ERROR_RECONSTRUCTION},
    [TT_GATE_SPIKE_LOSS] = {.kind = SPIKE, .metric = TT_METRIC_LOSS},
    [TT_GATE_SPIKE_NORM] = {.kind = SPIKE, .metric = TT_METRIC_GRADIENT_NORM},
    [TT_GATE_DRIFT_LOSS] = {.kind = DRIFT, .metric = TT_METRIC_LOSS},
    [TT_GATE_DRIFT_NORM] = {.kind = DRIFT, .metric = TT_METRIC_GRADIENT_NORM},
    [TT_GATE_UPDATE_FINITE] = {.kind = METRIC, .metric = TT_METRIC_UPDATE_NONFINITE},
    [TT_GATE_UPDATE_ERROR] = {.kind = TARGET_MAX, .error_kind = TT_ERROR_UPDATE},
};

/* TT_GATE_COUNT for a decision of no gate of this file. */
static tt_gate gate_of(const tt_gate_decision *decision)
{
    tt_gate gate = 0;
    while (gate < TT_GATE_COUNT && strcmp(tt_gate_name(gate), decision->gate) != 0) {
        gate++;
    }
    return gate;
}

bool tt_gate_is_after_update(const tt_gate_targets *targets, const tt_gate_decision *decision)
{
    tt_gate gate = gate_of(decision);
    if (gate == TT_GATE_COUNT) {
        return false;
    }
    for (int i = 0; gates[gate].kind == TARGET_MAX && i < targets->count; i++) {
        if (strcmp(targets->target[i].name, decision->target) == 0) {
            return targets->target[i].after_update;
        }
    }
    return gate >= TT_GATE_UPDATE_FINITE;
}

/* ---- limits ------------------------------------------------------------------------------- */

static void loss_interval(const tt_gate_limits *limits, const tt_gate_state *state, double *maximum,
                          const char **reason)
{
    if (limits->loss_max_set) {
        *maximum = limits->loss_max;
        *reason = "set by gates.loss.max";
    } else if (!state->loss_settled) {
        /* An untrained model of a large vocabulary starts above the default. */
        *maximum = fmax(TT_LOSS_MAX, limits->initial_loss + 1);
        *reason = "start-up";
    } else {
        *maximum = TT_LOSS_MAX;
        *reason = "default";
    }
}

static void gradient_interval(const tt_gate_limits *limits, const tt_gate_state *state,
                              double *maximum, const char **reason)
{
    int64_t warmup = limits->warmup_steps > TT_GRADIENT_WARMUP_STEPS ? limits->warmup_steps
                                                                     : TT_GRADIENT_WARMUP_STEPS;
    if (limits->gradient_max_set) {
        *maximum = limits->gradient_max;
        *reason = "set by gates.grad_norm.max";
    } else if (state->accepted < warmup) {
        *maximum = TT_GRADIENT_MAX_STARTUP;
        *reason = "warm-up";
    } else {
        *maximum = TT_GRADIENT_MAX;
        *reason = "default";
    }
}

/* Of spike and drift gates the minimum is 0: they look upward only, and what is below the median
 * counts as 0. */
void tt_gate_interval(const tt_gate_limits *limits, const tt_gate_state *state, tt_gate gate,
                      double *minimum, double *maximum, const char **reason)
{
    *minimum = 0;
    switch (gate) {
    case TT_GATE_LOSS:
        *minimum = limits->loss_min;
        loss_interval(limits, state, maximum, reason);
        return;
    case TT_GATE_GRADIENT_NORM:
        *minimum = limits->gradient_min;
        gradient_interval(limits, state, maximum, reason);
        return;
    case TT_GATE_RECONSTRUCTION:
        *maximum = limits->reconstruction_max;
        *reason = "gates.reconstruction.max";
        return;
    case TT_GATE_UPDATE_ERROR:
        *maximum = limits->update_error_max;
        *reason = "gates.update_error.max";
        return;
    case TT_GATE_SPIKE_LOSS:
    case TT_GATE_SPIKE_NORM:
        *maximum = limits->spike_max;
        *reason = "gates.spike.max";
        return;
    case TT_GATE_DRIFT_LOSS:
    case TT_GATE_DRIFT_NORM:
        *maximum = 2 * limits->drift_max;
        *reason = "twice gates.drift.max, where it warns";
        return;
    case TT_GATE_GRADIENT_FINITE:
    case TT_GATE_UPDATE_FINITE:
    case TT_GATE_COUNT:
        break;
    }
    *maximum = 0;
    *reason = "no element may be NaN or infinite";
}

/* ---- judging ------------------------------------------------------------------------------ */

static const tt_watch *watch_of(const tt_gate_state *state, tt_gate gate)
{
    return gates[gate].metric == TT_METRIC_LOSS ? &state->loss : &state->norm;
}

static tt_watch_rule rule_of(tt_metric metric)
{
    return metric == TT_METRIC_LOSS ? TT_WATCH_RULE_LOSS : TT_WATCH_RULE_NORM;
}

/* Where a user allows 0, its logarithm must stay finite. */
static double log_of(double value)
{
    return log(value > DBL_MIN ? value : DBL_MIN);
}

static bool watches_target(const tt_gate_targets *targets, tt_gate gate, tt_gate_phase phase, int i)
{
    return targets->armed[i] && targets->target[i].kind == gates[gate].error_kind &&
           (phase == TT_GATES_ALL || !targets->target[i].after_update);
}

static bool any_target(const tt_gate_targets *targets, tt_gate gate, tt_gate_phase phase)
{
    for (int i = 0; i < targets->count; i++) {
        if (watches_target(targets, gate, phase, i)) {
            return true;
        }
    }
    return false;
}

bool tt_gate_armed(const tt_gate_state *state, const tt_gate_targets *targets, tt_gate gate)
{
    if (gates[gate].kind == TARGET_MAX) {
        return any_target(targets, gate, TT_GATES_ALL);
    }
    if (gates[gate].kind != METRIC) {
        return tt_watch_armed(watch_of(state, gate));
    }
    return gate != TT_GATE_UPDATE_FINITE || state->update_armed;
}

static tt_gate_decision pass(void)
{
    return (tt_gate_decision){.verdict = TT_PASS, .gate = "", .target = ""};
}

static tt_gate_decision no_pass(tt_verdict_kind verdict, tt_gate gate, double observed,
                                double limit)
{
    return (tt_gate_decision){.verdict = verdict,
                              .gate = tt_gate_name(gate),
                              .target = "",
                              .observed = observed,
                              .limit = limit};
}

static tt_gate_decision missing(tt_gate gate, double limit)
{
    tt_gate_decision decision = no_pass(TT_TRIP, gate, NAN, limit);
    decision.missing = true;
    return decision;
}

static tt_gate_decision judge_metric(tt_gate gate, double minimum, double maximum,
                                     const tt_measurements *measured)
{
    tt_metric metric = gates[gate].metric;
    double observed = measured->values[metric];
    if (!measured->present[metric]) {
        return missing(gate, maximum);
    }
    if (isfinite(observed) && observed >= minimum && observed <= maximum) {
        return pass();
    }
    return no_pass(TT_TRIP, gate, observed, observed < minimum ? minimum : maximum);
}

/* Spike and drift: what is compared with the limits. A value that is no number is no score either.
 */
static double observed_of(const tt_gate_state *state, tt_gate gate, double value)
{
    if (!isfinite(value)) {
        return value < 0 ? NAN : value;
    }
    const tt_watch *watch = watch_of(state, gate);
    tt_watch_rule rule = rule_of(gates[gate].metric);
    return gates[gate].kind == SPIKE ? tt_watch_score(watch, log_of(value), rule)
                                     : tt_watch_cusum(watch, log_of(value), rule);
}

static tt_gate_decision judge_watch(const tt_gate_state *state, tt_gate gate, double warn_above,
                                    double maximum, const tt_measurements *measured)
{
    tt_metric metric = gates[gate].metric;
    if (!measured->present[metric]) {
        return missing(gate, maximum);
    }
    double observed = observed_of(state, gate, measured->values[metric]);
    if (!(observed <= maximum)) {
        return no_pass(TT_TRIP, gate, observed, maximum);
    }
    return observed > warn_above ? no_pass(TT_WARN, gate, observed, warn_above) : pass();
}

static bool is_number(const tt_measurements *measured, tt_metric metric)
{
    return measured->present[metric] && isfinite(measured->values[metric]) &&
           measured->values[metric] >= 0;
}

/* Gradient norms rise in healthy runs too: while the loss falls with them that is learning, not
 * harm. */
static bool loss_drifts(const tt_gate_limits *limits, const tt_gate_state *state,
                        const tt_measurements *measured)
{
    double loss = observed_of(state, TT_GATE_DRIFT_LOSS, measured->values[TT_METRIC_LOSS]);
    return !(loss <= TT_DRIFT_SEEN_IN_LOSS * limits->drift_max);
}

/* The worst first: not a number, not a share or not measured, large. */
static double badness(const tt_gate_state *state, const tt_gate_targets *targets,
                      const tt_measurements *measured, int i)
{
    double error = measured->errors[i];
    if (!measured->error_present[i]) {
        return state->unmeasured[i] + 1 >= targets->target[i].cadence ? DBL_MAX : 0;
    }
    if (!isfinite(error)) {
        return INFINITY;
    }
    return error < 0 ? DBL_MAX : error;
}

static tt_gate_decision judge_targets(const tt_gate_state *state, const tt_gate_targets *targets,
                                      tt_gate gate, tt_gate_phase phase, double maximum,
                                      const tt_measurements *measured)
{
    int worst = 0;
    double largest = -1;
    for (int i = 0; i < targets->count; i++) {
        if (!watches_target(targets, gate, phase, i)) {
            continue;
        }
        double bad = badness(state, targets, measured, i);
        if (bad > largest) {
            largest = bad;
            worst = i;
        }
    }
    if (largest < maximum) {
        return pass();
    }
    double error = measured->errors[worst];
    tt_gate_decision decision = measured->error_present[worst]
                                    ? no_pass(TT_TRIP, gate, error, error < 0 ? 0 : maximum)
                                    : missing(gate, maximum);
    decision.target = targets->target[worst].name;
    return decision;
}

/* True, but in a test of what happens without: then a gate can be left out. (A macro, so that
 * nothing is left of it where nothing can.) */
#define OF_TARGET   (gates[gate].kind == TARGET_MAX)
#define OF(metric_) (!OF_TARGET && gates[gate].metric == TT_METRIC_##metric_)
#define IS_IN_USE                                                                                  \
    ((TT_PROTECTED(RECONSTRUCTION) || !OF_TARGET) && (TT_PROTECTED(LOSS) || !OF(LOSS)) &&          \
     (TT_PROTECTED(GRADIENT_NORM) || !OF(GRADIENT_NORM)) &&                                        \
     (TT_PROTECTED(FINITE) || (!OF_TARGET && !OF(GRADIENT_NONFINITE) && !OF(UPDATE_NONFINITE) &&   \
                               isfinite(measured->values[gates[gate].metric]))))

/* Whether there is anything to look at. What is not armed but was reported is looked at too. */
static bool applies(const tt_gate_state *state, const tt_gate_targets *targets, tt_gate gate,
                    tt_gate_phase phase, const tt_measurements *measured)
{
    if (gates[gate].kind == TARGET_MAX) {
        return any_target(targets, gate, phase);
    }
    bool reported = gates[gate].kind == METRIC && measured->present[gates[gate].metric];
    return reported || tt_gate_armed(state, targets, gate);
}

tt_gate_decision tt_gate_judge(const tt_gate_limits *limits, const tt_gate_state *state,
                               const tt_gate_targets *targets, tt_gate gate, tt_gate_phase phase,
                               const tt_measurements *measured)
{
    double minimum;
    double maximum;
    const char *reason;
    if (!IS_IN_USE || !applies(state, targets, gate, phase, measured)) {
        return pass();
    }
    tt_gate_interval(limits, state, gate, &minimum, &maximum, &reason);
    gate_kind kind = gates[gate].kind;
    if (kind == METRIC) {
        return judge_metric(gate, minimum, maximum, measured);
    }
    if (kind == TARGET_MAX) {
        return judge_targets(state, targets, gate, phase, maximum, measured);
    }
    if (gate == TT_GATE_DRIFT_NORM && is_number(measured, TT_METRIC_GRADIENT_NORM) &&
        !loss_drifts(limits, state, measured)) {
        return pass();
    }
    double warn_above = kind == DRIFT ? limits->drift_max : maximum;
    return judge_watch(state, gate, warn_above, maximum, measured);
}

tt_gate_decision tt_gates_judge(const tt_gate_limits *limits, const tt_gate_state *state,
                                const tt_gate_targets *targets, tt_gate_phase phase,
                                const tt_measurements *measured, tt_gate_counts *counts)
{
    tt_gate_decision first_warning = pass();
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        if ((phase == TT_GATES_BEFORE_UPDATE && gate == TT_GATE_UPDATE_FINITE) ||
            !applies(state, targets, gate, phase, measured)) {
            continue;
        }
        tt_gate_decision decision = tt_gate_judge(limits, state, targets, gate, phase, measured);
        if (counts) {
            counts->evaluations[gate]++;
            counts->trips[gate] += decision.verdict == TT_TRIP;
        }
        if (decision.verdict == TT_TRIP) {
            return decision;
        }
        if (decision.verdict == TT_WARN && first_warning.verdict == TT_PASS) {
            first_warning = decision;
        }
    }
    return first_warning;
}

/* ---- cured -------------------------------------------------------------------------------- */

static bool within(double observed, double minimum, double maximum)
{
    return isfinite(observed) && observed >= minimum + TO_SPARE * fabs(minimum) &&
           observed <= maximum - TO_SPARE * fabs(maximum);
}

/* The target that tripped must have been measured (or be off now); others of its kind as far as
 * they were. */
static bool targets_pass_well(const tt_gate_targets *targets, tt_gate gate, double maximum,
                              const tt_gate_decision *tripped, const tt_measurements *measured)
{
    for (int i = 0; i < targets->count; i++) {
        if (!watches_target(targets, gate, TT_GATES_ALL, i)) {
            continue;
        }
        bool passes = measured->error_present[i]
                          ? within(measured->errors[i], 0, maximum)
                          : strcmp(targets->target[i].name, tripped->target) != 0;
        if (!passes) {
            return false;
        }
    }
    return true;
}

bool tt_gate_passes_well(const tt_gate_limits *limits, const tt_gate_state *state,
                         const tt_gate_targets *targets, const tt_gate_decision *tripped,
                         const tt_measurements *measured)
{
    tt_gate gate = gate_of(tripped);
    if (gate == TT_GATE_COUNT) {
        return false;
    }
    double minimum;
    double maximum;
    const char *reason;
    tt_gate_interval(limits, state, gate, &minimum, &maximum, &reason);
    if (gates[gate].kind == TARGET_MAX) {
        return targets_pass_well(targets, gate, maximum, tripped, measured);
    }
    tt_metric metric = gates[gate].metric;
    double value = measured->values[metric];
    if (!measured->present[metric]) {
        return false;
    }
    if (gates[gate].kind == METRIC) {
        return within(value, minimum, maximum);
    }
    return isfinite(value) && observed_of(state, gate, value) <= maximum - TO_SPARE * fabs(maximum);
}

/* ---- accepting ---------------------------------------------------------------------------- */

static void accept_value(tt_watch *watch, tt_metric metric, const tt_measurements *measured)
{
    /* A gate has seen to it that the value is there and finite; the window relies on it. */
    if (measured->present[metric] && isfinite(measured->values[metric])) {
        tt_watch_accept(watch, log_of(measured->values[metric]), rule_of(metric));
    }
}

static void settle(tt_gate_state *state)
{
    double sum = 0;
    for (int i = 0; i < TT_LOSS_WINDOW; i++) {
        sum += state->losses[i];
    }
    state->loss_settled = sum / TT_LOSS_WINDOW < TT_LOSS_MAX;
}

void tt_gates_accept(tt_gate_state *state, const tt_gate_targets *targets,
                     const tt_measurements *measured)
{
    state->losses[state->accepted % TT_LOSS_WINDOW] = measured->values[TT_METRIC_LOSS];
    state->accepted++;
    if (measured->present[TT_METRIC_UPDATE_NONFINITE]) {
        state->update_armed = true;
    }
    if (!state->loss_settled && state->accepted >= TT_LOSS_WINDOW) {
        settle(state);
    }
    accept_value(&state->loss, TT_METRIC_LOSS, measured);
    accept_value(&state->norm, TT_METRIC_GRADIENT_NORM, measured);
    for (int i = 0; i < targets->count; i++) {
        bool waits = targets->armed[i] && !measured->error_present[i];
        state->unmeasured[i] = waits ? state->unmeasured[i] + 1 : 0;
    }
}

/* ---- limits that cannot hold -------------------------------------------------------------- */

static tt_status check_interval(const char *keys, double minimum, double maximum, bool is_set)
{
    if (minimum < maximum) {
        return TT_OK;
    }
    return tt_fail(TT_ECONFIG, "%s.max %g%s is not above %s.min %g; no step could pass", keys,
                   maximum, is_set ? "" : " (the default)", keys, minimum);
}

static tt_status check_positive(const char *key, double value)
{
    return value > 0 ? TT_OK
                     : tt_fail(TT_ECONFIG, "%s %g is not above 0; no step could pass", key, value);
}

static tt_status check_intervals(const tt_gate_limits *limits)
{
    tt_status status =
        check_interval("gates.loss", limits->loss_min,
                       limits->loss_max_set ? limits->loss_max : TT_LOSS_MAX, limits->loss_max_set);
    if (!status) {
        status = check_interval("gates.grad_norm", limits->gradient_min,
                                limits->gradient_max_set ? limits->gradient_max : TT_GRADIENT_MAX,
                                limits->gradient_max_set);
    }
    return status;
}

static tt_status check_against_start(const tt_gate_limits *limits)
{
    if (limits->loss_max_set && limits->loss_max < limits->initial_loss) {
        return tt_fail(
            TT_ECONFIG,
            "gates.loss.max %g cannot hold: an untrained model of this vocabulary starts "
            "at ln V = %.3f; raise it to at least that, or leave it 'auto'",
            limits->loss_max, limits->initial_loss);
    }
    if (limits->loss_min > limits->initial_loss) {
        return tt_fail(TT_ECONFIG,
                       "gates.loss.min %g cannot hold: an untrained model of this vocabulary "
                       "starts at ln V = %.3f; lower it",
                       limits->loss_min, limits->initial_loss);
    }
    return TT_OK;
}

tt_status tt_gate_limits_check(const tt_gate_limits *limits)
{
    const struct {
        const char *key;
        double value;
    } positive[] = {
        {"gates.reconstruction.max", limits->reconstruction_max},
        {"gates.update_error.max", limits->update_error_max},
        {"gates.spike.max", limits->spike_max},
        {"gates.drift.max", limits->drift_max},
    };
    tt_status status = check_intervals(limits);
    for (size_t i = 0; !status && i < sizeof positive / sizeof *positive; i++) {
        status = check_positive(positive[i].key, positive[i].value);
    }
    if (!status && limits->initial_loss > 0) {
        status = check_against_start(limits);
    }
    return status;
}
