#include "gates.h"

#include <math.h>
#include <stdio.h>

static const struct {
    const char *name;
    tt_metric metric;
} gates[TT_GATE_COUNT] = {
    [TT_GATE_LOSS] = {"loss", TT_METRIC_LOSS},
    [TT_GATE_GRADIENT_FINITE] = {"gradient_finite", TT_METRIC_GRADIENT_NONFINITE},
    [TT_GATE_GRADIENT_NORM] = {"gradient_norm", TT_METRIC_GRADIENT_NORM},
    [TT_GATE_UPDATE_FINITE] = {"update_finite", TT_METRIC_UPDATE_NONFINITE},
};

const char *tt_gate_name(tt_gate gate)
{
    return gates[gate].name;
}

bool tt_gate_armed(const tt_gate_state *state, tt_gate gate)
{
    return gate != TT_GATE_UPDATE_FINITE || state->update_armed;
}

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

void tt_gate_interval(const tt_gate_limits *limits, const tt_gate_state *state, tt_gate gate,
                      double *minimum, double *maximum, const char **reason)
{
    switch (gate) {
    case TT_GATE_LOSS:
        *minimum = limits->loss_min;
        loss_interval(limits, state, maximum, reason);
        return;
    case TT_GATE_GRADIENT_NORM:
        *minimum = limits->gradient_min;
        gradient_interval(limits, state, maximum, reason);
        return;
    case TT_GATE_GRADIENT_FINITE:
    case TT_GATE_UPDATE_FINITE:
    case TT_GATE_COUNT:
        break;
    }
    *minimum = 0;
    *maximum = 0;
    *reason = "no element may be NaN or infinite";
}

tt_gate_decision tt_gate_judge(const tt_gate_limits *limits, const tt_gate_state *state,
                               tt_gate gate, const tt_measurements *measured)
{
    tt_gate_decision decision = {.verdict = TT_PASS, .gate = ""};
    tt_metric metric = gates[gate].metric;
    if (!tt_gate_armed(state, gate) && !measured->present[metric]) {
        return decision;
    }
    double minimum;
    double maximum;
    const char *reason;
    tt_gate_interval(limits, state, gate, &minimum, &maximum, &reason);
    bool missing = !measured->present[metric];
    double observed = missing ? NAN : measured->values[metric];
    if (isfinite(observed) && observed >= minimum && observed <= maximum) {
        return decision;
    }
    decision.verdict = TT_TRIP;
    decision.gate = gates[gate].name;
    decision.observed = observed;
    decision.limit = observed < minimum ? minimum : maximum;
    decision.missing = missing;
    return decision;
}

tt_gate_decision tt_gates_judge(const tt_gate_limits *limits, const tt_gate_state *state,
                                tt_gate last, const tt_measurements *measured,
                                tt_gate_counts *counts)
{
    tt_gate_decision decision = {.verdict = TT_PASS, .gate = ""};
    for (tt_gate gate = 0; gate <= last; gate++) {
        decision = tt_gate_judge(limits, state, gate, measured);
        counts->evaluations[gate]++;
        if (decision.verdict == TT_TRIP) {
            counts->trips[gate]++;
            break;
        }
    }
    return decision;
}

void tt_gates_accept(tt_gate_state *state, const tt_measurements *measured)
{
    state->losses[state->accepted % TT_LOSS_WINDOW] = measured->values[TT_METRIC_LOSS];
    state->accepted++;
    if (measured->present[TT_METRIC_UPDATE_NONFINITE]) {
        state->update_armed = true;
    }
    if (!state->loss_settled && state->accepted >= TT_LOSS_WINDOW) {
        double sum = 0;
        for (int i = 0; i < TT_LOSS_WINDOW; i++) {
            sum += state->losses[i];
        }
        state->loss_settled = sum / TT_LOSS_WINDOW < TT_LOSS_MAX;
    }
}

static tt_status check_interval(const char *keys, double minimum, double maximum, bool is_set)
{
    if (minimum < maximum) {
        return TT_OK;
    }
    return tt_fail(TT_ECONFIG, "%s.max %g%s is not above %s.min %g; no step could pass", keys,
                   maximum, is_set ? "" : " (the default)", keys, minimum);
}

tt_status tt_gate_limits_check(const tt_gate_limits *limits)
{
    tt_status status =
        check_interval("gates.loss", limits->loss_min,
                       limits->loss_max_set ? limits->loss_max : TT_LOSS_MAX, limits->loss_max_set);
    if (!status) {
        status = check_interval("gates.grad_norm", limits->gradient_min,
                                limits->gradient_max_set ? limits->gradient_max : TT_GRADIENT_MAX,
                                limits->gradient_max_set);
    }
    if (status || limits->initial_loss <= 0) {
        return status;
    }
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

char *tt_gate_describe(const tt_gate_decision *decision, char out[256])
{
    if (decision->verdict == TT_PASS) {
        snprintf(out, 256, "all gates pass");
    } else if (decision->missing) {
        snprintf(out, 256, "%s was not measured", decision->gate);
    } else if (isnan(decision->observed) || isinf(decision->observed)) {
        snprintf(out, 256, "%s is %s", decision->gate,
                 isnan(decision->observed) ? "NaN" : "infinite");
    } else if (decision->limit == 0 && decision->observed > 0) {
        snprintf(out, 256, "%s: %.0f elements are NaN or infinite", decision->gate,
                 decision->observed);
    } else {
        snprintf(out, 256, "%s %.6g is %s its limit %.6g", decision->gate, decision->observed,
                 decision->observed > decision->limit ? "above" : "below", decision->limit);
    }
    return out;
}
