/* What happens at step boundaries besides steps: probes of breakers, trials, adaptation. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

/* ---- probes of breakers: shadow steps with the optimization on ---- */

static bool is_half_open(const tt_orchestrator *o, int optimization)
{
    return o->breakers[optimization].state == TT_BREAKER_HALF_OPEN;
}

/* Once a decision is known, the run follows it and does not make it again. */
static bool is_news(const tt_orchestrator *o, int64_t step)
{
    return step > o->follow_until;
}

/* What would be in force if this breaker were closed. */
static tt_status probe_config(const tt_orchestrator *o, int optimization, tt_config **out)
{
    uint32_t others = tt_breakers_open(o) & ~(UINT32_C(1) << optimization);
    tt_status status = tt_configure_off(o, o->requested, others, out);
    if (!status && !*out) {
        /* The requested configuration itself: a copy of it, by deriving a value that it has. */
        const char *key = o->optimizations[optimization].keys[0];
        char value[32];
        tt_configured_text(o->requested, key, value);
        status = tt_config_derive(o->requested, key, value, "probe", out);
    }
    return status;
}

static tt_status fork_for_probe(tt_orchestrator *o, int optimization)
{
    int64_t step = tt_orchestrator_step(o);
    tt_config *candidate = NULL;
    tt_status status = probe_config(o, optimization, &candidate);
    if (status) {
        return status;
    }
    o->fork.commit = (tt_decision){.change_count = 0};
    status =
        tt_fork_begin(o, TT_FORK_PROBE, optimization, candidate, TT_AIM_MEMORY, TT_TRIAL_MAX_PAIRS);
    if (status != TT_EGATE && status != TT_ENOMEM) {
        return status;
    }
    tt_breaker_event event = status == TT_EGATE ? TT_BREAKER_PROBE_BAD : TT_BREAKER_PROBE_LOST;
    return step < o->follow_until
               ? TT_OK
               : tt_decide_breaker(o, optimization, event, step, tt_error_message());
}

static tt_status probe(tt_orchestrator *o, int optimization)
{
    int64_t step = tt_orchestrator_step(o);
    tt_status status =
        tt_decide_breaker(o, optimization, TT_BREAKER_PROBE, step, "the cool-down is over");
    if (!status) {
        status = tt_follow(o, step);
    }
    /* Without run_step the live run is the probe. */
    return status || !o->host.run_step ? status : fork_for_probe(o, optimization);
}

/* A probe that an earlier attempt began goes on: its good steps are known. On the way over known
 * steps its shadow goes along, so that it comes to the end of them as it did then. */
static tt_status go_on_probing(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    for (size_t i = 0; o->host.run_step && !status && i < o->optimization_count; i++) {
        if (o->fork.kind == TT_FORK_NONE && is_half_open(o, (int)i)) {
            status = fork_for_probe(o, (int)i);
        }
    }
    return status;
}

static tt_status end_probe(tt_orchestrator *o, tt_breaker_event event, const char *why)
{
    int optimization = o->fork.optimization;
    tt_fork_clear(o);
    tt_status status = tt_decide_breaker(o, optimization, event, tt_orchestrator_step(o), why);
    return status ? status : tt_check_overhead(o);
}

static tt_status good_probe_step(tt_orchestrator *o, int64_t published)
{
    int optimization = o->fork.optimization;
    tt_breaker breaker = o->breakers[optimization];
    bool closes = tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, published);
    tt_status status = tt_decide_breaker(o, optimization, TT_BREAKER_PROBE_GOOD, published,
                                         "the step passes with it");
    if (!status && closes) {
        tt_log(o->log, TT_LOG_INFO, "step %lld: %s proves good again", (long long)published,
               o->optimizations[optimization].name);
        tt_fork_clear(o);
        status = tt_check_overhead(o);
    }
    return status;
}

/* The live step passed: the same step with the optimization on. */
static tt_status probe_step(tt_orchestrator *o, const tt_step_record *record)
{
    tt_gate_decision decision;
    int64_t published = tt_orchestrator_step(o);
    tt_status status = tt_fork_shadow(o, record->position, &decision);
    o->fork.step++;
    o->fork.shadow_done = false;
    if (status || !is_news(o, published)) {
        return status;
    }
    if (decision.verdict != TT_TRIP) {
        return good_probe_step(o, published);
    }
    char reason[256];
    return end_probe(o, TT_BREAKER_PROBE_BAD, tt_gate_describe(&decision, reason));
}

/* Without run_step. */
static tt_status good_live_probes(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    int64_t published = tt_orchestrator_step(o);
    for (size_t i = 0; !status && !o->host.run_step && i < o->optimization_count; i++) {
        /* (Nothing of it was tried in a step that passed because it was left out.) */
        if (is_half_open(o, (int)i) && is_news(o, published) &&
            tt_optimization_is_on(&o->optimizations[i], o->config)) {
            status = tt_decide_breaker(o, (int)i, TT_BREAKER_PROBE_GOOD, published,
                                       "the step passes with it");
        }
    }
    return status;
}

/* ---- boundaries ---- */

static tt_status begin_something(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        if (o->fork.kind == TT_FORK_NONE && tt_breaker_is_due(&o->breakers[i], step)) {
            status = probe(o, (int)i);
        }
    }
    return status || o->fork.kind != TT_FORK_NONE ? status : tt_adapt(o);
}

tt_status tt_steer_begin(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    if (o->fork.kind == TT_FORK_PROBE && !is_half_open(o, o->fork.optimization)) {
        tt_fork_clear(o); /* the journal knows how it ended */
    }
    tt_status status = o->fork.kind == TT_FORK_NONE ? go_on_probing(o) : TT_OK;
    if (!status && o->fork.kind == TT_FORK_NONE) {
        status = step < o->follow_until ? tt_pass_by(o) : begin_something(o);
    }
    if (!status && (o->fork.kind == TT_FORK_TRIAL || o->fork.kind == TT_FORK_BASELINE)) {
        status = tt_trial_begin_step(o);
    }
    return status ? status : tt_follow(o, step);
}

tt_status tt_steer_published(tt_orchestrator *o, const tt_step_record *record,
                             const tt_measurements *measured)
{
    int64_t step = tt_orchestrator_step(o);
    tt_note_errors(o, measured);
    tt_status status = good_live_probes(o);
    if (status) {
        return status;
    }
    switch (o->fork.kind) {
    case TT_FORK_PROBE:
        return probe_step(o, record);
    case TT_FORK_TRIAL:
    case TT_FORK_BASELINE:
        return tt_trial_end_step(o, record);
    case TT_FORK_NONE:
        break;
    }
    bool due = step % TT_OVERHEAD_EVERY == 0 && step != o->overhead_step;
    return due && step >= o->follow_until ? tt_check_overhead(o) : TT_OK;
}

/* The candidate of a trial ran live, and tripped: the same step again, without it. */
static tt_status take_candidate_out(tt_orchestrator *o)
{
    tt_decision decision = {
        .kind = TT_DECISION_SWITCH, .step = o->plan.step, .optimization = o->fork.optimization};
    tt_status status =
        tt_decide(o, &decision, json_pack("{s:s}", "why", "it tripped a gate on trial"));
    return status ? status : tt_trial_conclude(o, TT_TRIAL_TRIPPED, "a gate tripped");
}

tt_status tt_steer_tripped(tt_orchestrator *o)
{
    switch (o->fork.kind) {
    case TT_FORK_PROBE:
        if (o->plan.step >= o->follow_until) {
            return end_probe(o, TT_BREAKER_PROBE_LOST, "the live run tripped");
        }
        tt_fork_clear(o); /* what came of it is known */
        return TT_OK;
    case TT_FORK_TRIAL:
    case TT_FORK_BASELINE:
        return o->fork.alternating && o->in_force.switched
                   ? take_candidate_out(o)
                   : tt_trial_conclude(o, TT_TRIAL_ABANDONED, "the live run tripped");
    case TT_FORK_NONE:
        break;
    }
    return TT_OK;
}
