/* What gates and their decisions are called and what they say. */
#include "gates.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SPIKE_TRIPS "more than gates.spike.max robust standard deviations above the median"
#define DRIFT_TRIPS "a CUSUM above twice gates.drift.max; warns above gates.drift.max"
#define WINDOW_FULL "once 128 steps were accepted"
#define TARGET_ON   "per target, while its optimization is on"

/* By number of the gate; and one more, that is judged between steps. */
static const tt_gate_description descriptions[TT_GATE_COUNT + 1] = {
    [TT_GATE_LOSS] =
        {
            .name = "loss",
            .watches = "mean cross-entropy of the step, in nats",
            .trips_on = "not finite, below gates.loss.min or above gates.loss.max",
            .arming = "always",
            .keys = "gates.loss.min, gates.loss.max",
            .hard = true,
        },
    [TT_GATE_GRADIENT_FINITE] =
        {
            .name = "gradient_finite",
            .watches = "elements of the gradients that are NaN or infinite",
            .trips_on = "any",
            .arming = "always",
            .keys = "",
            .hard = true,
        },
    [TT_GATE_GRADIENT_NORM] =
        {
            .name = "gradient_norm",
            .watches = "L2 norm of all gradients, before clipping",
            .trips_on = "not finite, below gates.grad_norm.min or above gates.grad_norm.max",
            .arming = "always",
            .keys = "gates.grad_norm.min, gates.grad_norm.max",
            .hard = true,
        },
    [TT_GATE_RECONSTRUCTION] =
        {
            .name = "reconstruction",
            .watches = "what a codec loses: ||x - x^|| / ||x||, of a target's worst tensor",
            .trips_on = "not finite, not below gates.reconstruction.max, not measured in time",
            .arming = TARGET_ON,
            .keys = "gates.reconstruction.max",
            .hard = true,
        },
    [TT_GATE_SPIKE_LOSS] =
        {
            .name = "spike_loss",
            .watches = "ln loss, against the last 128 accepted steps",
            .trips_on = SPIKE_TRIPS,
            .arming = WINDOW_FULL,
            .keys = "gates.spike.max",
        },
    [TT_GATE_SPIKE_NORM] =
        {
            .name = "spike_norm",
            .watches = "ln gradient norm, against the last 128 accepted steps",
            .trips_on = SPIKE_TRIPS,
            .arming = WINDOW_FULL,
            .keys = "gates.spike.max",
        },
    [TT_GATE_DRIFT_LOSS] =
        {
            .name = "drift_loss",
            .watches = "lasting rise of ln loss, above its lowest level of 1,024 accepted steps",
            .trips_on = DRIFT_TRIPS,
            .arming = WINDOW_FULL,
            .keys = "gates.drift.max",
        },
    [TT_GATE_DRIFT_NORM] =
        {
            .name = "drift_norm",
            .watches = "fast lasting rise of ln gradient norm, above its last 128 accepted steps, "
                       "while the loss does not fall",
            .trips_on = DRIFT_TRIPS,
            .arming = WINDOW_FULL,
            .keys = "gates.drift.max",
        },
    [TT_GATE_UPDATE_FINITE] =
        {
            .name = "update_finite",
            .watches = "elements that are NaN or infinite, of the state that the step wrote",
            .trips_on = "any",
            .arming = "once the job has reported it",
            .keys = "",
            .hard = true,
        },
    [TT_GATE_UPDATE_ERROR] =
        {
            .name = "update_error",
            .watches = "what compressed moments change in the update: ||u - u^|| / ||u||",
            .trips_on = "not finite, not below gates.update_error.max, not measured in time",
            .arming = TARGET_ON,
            .keys = "gates.update_error.max",
            .hard = true,
        },
    [TT_GATE_COUNT] =
        {
            .name = "overhead",
            .watches = "seconds spent on trials, searches and judging",
            .trips_on = "above 30 % of what commits have gained so far; before any commit, above "
                        "1 % of the run and trials.budget_seconds",
            .arming = "at the end of every trial, and every 500 steps",
            .keys = "trials.budget_seconds",
        },
};

const char *tt_gate_name(tt_gate gate)
{
    return descriptions[gate].name;
}

const tt_gate_description *tt_gate_list(size_t index)
{
    return index <= TT_GATE_COUNT ? &descriptions[index] : NULL;
}

static const char *side_of(const tt_gate_decision *decision)
{
    if (decision->observed < decision->limit) {
        return "below";
    }
    return decision->observed > decision->limit ? "above" : "at";
}

static bool counts_elements(const char *gate)
{
    return strcmp(gate, descriptions[TT_GATE_GRADIENT_FINITE].name) == 0 ||
           strcmp(gate, descriptions[TT_GATE_UPDATE_FINITE].name) == 0;
}

char *tt_gate_describe(const tt_gate_decision *decision, char out[256])
{
    if (decision->verdict == TT_PASS) {
        snprintf(out, 256, "all gates pass");
        return out;
    }
    double observed = decision->observed;
    bool targeted = decision->target && decision->target[0];
    char name[160];
    snprintf(name, sizeof name, "%s%s%s", decision->gate, targeted ? " of " : "",
             targeted ? decision->target : "");
    if (decision->verdict == TT_WARN) {
        snprintf(out, 256, "%s %.6g is above %.6g, where it warns", name, observed,
                 decision->limit);
    } else if (decision->missing) {
        snprintf(out, 256, "%s was not measured", name);
    } else if (!isfinite(observed)) {
        snprintf(out, 256, "%s is %s", name, isnan(observed) ? "NaN" : "infinite");
    } else if (counts_elements(decision->gate) && observed > 0) {
        snprintf(out, 256, "%s: %.0f elements are NaN or infinite", name, observed);
    } else {
        snprintf(out, 256, "%s %.6g is %s its limit %.6g", name, observed, side_of(decision),
                 decision->limit);
    }
    return out;
}
