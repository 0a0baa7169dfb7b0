/* Trials: a fork of the run, whose shadow steps go beside the live ones, or, without run_step, live
 * steps that take turns; and what they lead to. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

static const char *fork_name(tt_fork_kind kind)
{
    static const char *const names[] = {"", "trial", "probe", "baseline"};
    return names[kind];
}

static const char *optimization_name(const tt_orchestrator *o, int optimization)
{
    return optimization < 0 ? "all off" : o->optimizations[optimization].name;
}

/* ---- beginning ---- */

void tt_fork_clear(tt_orchestrator *o)
{
    if (o->fork.kind != TT_FORK_NONE && !o->fork.alternating && o->host.slot_release) {
        o->host.slot_release(o->host.user, o->host.scratch_slot);
    }
    tt_config_destroy(o->fork.config);
    o->fork.config = NULL;
    o->fork.kind = TT_FORK_NONE;
}

static tt_status fits(const tt_orchestrator *o, const tt_config *candidate)
{
    if (!o->host.memory_estimate || !tt_params_find(o->params, TT_MEMORY_BUDGET_KEY) ||
        tt_config_is_auto(o->config, TT_MEMORY_BUDGET_KEY)) {
        return TT_OK;
    }
    bool fork = o->host.run_step != NULL;
    int64_t budget = tt_config_int(o->config, TT_MEMORY_BUDGET_KEY);
    int64_t need = o->host.memory_estimate(o->host.user, candidate, fork);
    return need <= budget
               ? TT_OK
               : tt_fail(TT_ENOMEM, "%s the run needs %lld bytes, the budget is %lld",
                         fork ? "with a fork" : "on trial", (long long)need, (long long)budget);
}

static tt_status prepare(tt_orchestrator *o, const tt_optimization *what,
                         const tt_config *candidate)
{
    tt_status status = fits(o, candidate);
    if (!status && what && what->conform) {
        status = what->conform(what->user, candidate);
    }
    if (!status && o->host.run_step) {
        status = o->host.slot_copy(o->host.user, o->slots.published, o->host.scratch_slot);
    }
    return status;
}

tt_status tt_fork_begin(tt_orchestrator *o, tt_fork_kind kind, int optimization,
                        tt_config *candidate, tt_aim aim, int pairs)
{
    tt_fork *fork = &o->fork;
    tt_status status =
        prepare(o, optimization < 0 ? NULL : &o->optimizations[optimization], candidate);
    if (status) {
        tt_config_destroy(candidate);
        return status;
    }
    fork->kind = kind;
    fork->alternating = !o->host.run_step;
    fork->optimization = optimization;
    fork->config = candidate;
    fork->gates = o->slots.slot[o->slots.published].gates;
    fork->step = tt_orchestrator_step(o);
    fork->shadow_done = false;
    fork->live_done = false;
    tt_trial_begin(&fork->trial, aim, pairs);
    o->totals.trials++;
    tt_metrics_write_event(o, json_pack("{s:i, s:s, s:I, s:s}", "attempt", o->attempt, "event",
                                        fork_name(kind), "step", (json_int_t)fork->step,
                                        "optimization", optimization_name(o, optimization)));
    return TT_OK;
}

/* ---- ending ---- */

static json_t *finding(const tt_trial *trial, const char *why)
{
    json_t *record = json_pack("{s:s, s:i}", "outcome", tt_trial_outcome_name(trial->outcome),
                               "pairs", trial->done);
    if (trial->speedup > 0) {
        json_object_set_new(record, "speedup", json_real(trial->speedup));
        json_object_set_new(record, "interval",
                            json_pack("[f, f]", trial->speedup_low, trial->speedup_high));
        json_object_set_new(record, "loss_change", json_real(trial->loss_change));
    }
    if (why) {
        json_object_set_new(record, "why", tt_json_text(why));
    }
    return record;
}

static tt_status commit(tt_orchestrator *o)
{
    tt_fork *fork = &o->fork;
    tt_decision decision = fork->commit;
    decision.kind = TT_DECISION_COMMIT;
    decision.step = tt_orchestrator_step(o);
    decision.step_seconds = tt_step_seconds(o);
    decision.run_seconds = o->earlier_run_seconds + o->totals.step_seconds;
    decision.gain_seconds = decision.step_seconds * (1 - 1 / fork->trial.speedup);
    o->totals.commits++;
    tt_status status = tt_decide(o, &decision, finding(&fork->trial, NULL));
    if (!status) {
        tt_log(o->log, TT_LOG_INFO, "step %lld: %s %s -> %s from now on (%.2fx, loss %+.2f %%)",
               (long long)decision.step, decision.changes[0].key, decision.changes[0].from,
               decision.changes[0].to, fork->trial.speedup, 100 * fork->trial.loss_change);
    }
    return status;
}

static tt_status record_trial(tt_orchestrator *o, const char *why)
{
    tt_decision decision = o->fork.commit;
    decision.kind = TT_DECISION_TRIAL;
    decision.step = tt_orchestrator_step(o);
    decision.outcome = o->fork.trial.outcome;
    return tt_decide(o, &decision, finding(&o->fork.trial, why));
}

static tt_status record_baseline(tt_orchestrator *o, const char *why)
{
    const tt_trial *trial = &o->fork.trial;
    /* The shadow was the baseline: the current configuration gains the inverse. */
    tt_decision decision = {.kind = TT_DECISION_BASELINE,
                            .optimization = -1,
                            .step = tt_orchestrator_step(o),
                            .input = trial->speedup > 0 ? 1 / trial->speedup : 0};
    json_t *extra = json_pack("{s:s, s:i}", "outcome", tt_trial_outcome_name(trial->outcome),
                              "pairs", trial->done);
    if (why) {
        json_object_set_new(extra, "why", tt_json_text(why));
    }
    return tt_decide(o, &decision, extra);
}

tt_status tt_trial_conclude(tt_orchestrator *o, tt_trial_outcome outcome, const char *why)
{
    tt_status status = TT_OK;
    tt_trial_end(&o->fork.trial, outcome);
    if (o->fork.kind == TT_FORK_TRIAL) {
        status = o->fork.trial.outcome == TT_TRIAL_COMMIT ? commit(o) : record_trial(o, why);
    } else if (o->fork.kind == TT_FORK_BASELINE) {
        status = record_baseline(o, why);
    }
    tt_fork_clear(o);
    return status ? status : tt_check_overhead(o);
}

/* ---- one step ---- */

tt_status tt_fork_shadow(tt_orchestrator *o, int64_t position, tt_gate_decision *decision)
{
    tt_fork *fork = &o->fork;
    tt_replay replay = {
        .size = sizeof replay,
        .step = fork->step,
        .position = position,
        .read_slot = o->host.scratch_slot,
        .write_slot = o->host.scratch_slot,
        .learning_rate_scale = 1,
        .config = fork->config,
    };
    tt_gate_targets targets = o->targets;
    tt_arm_targets(o, fork->config, &targets);
    tt_measurements measured;
    tt_status status = tt_replay_step(o, &replay, &measured, &fork->shadow_seconds);
    o->totals.trial_seconds += fork->shadow_seconds;
    if (status) {
        return status;
    }
    *decision = tt_gates_judge(&o->limits, &fork->gates, &targets, TT_GATES_ALL, &measured, NULL);
    fork->shadow_loss = measured.values[TT_METRIC_LOSS];
    fork->shadow_done = true;
    if (decision->verdict != TT_TRIP) {
        tt_gates_accept(&fork->gates, &targets, &measured);
    }
    return TT_OK;
}

static tt_status shadow(tt_orchestrator *o, int64_t position)
{
    tt_gate_decision decision;
    tt_status status = tt_fork_shadow(o, position, &decision);
    if (status || decision.verdict != TT_TRIP) {
        return status;
    }
    char reason[256];
    tt_gate_describe(&decision, reason);
    tt_log(o->log, TT_LOG_INFO, "trial of %s: %s", optimization_name(o, o->fork.optimization),
           reason);
    return tt_trial_conclude(o, TT_TRIAL_TRIPPED, reason);
}

/* Without run_step, live steps take turns: the candidate's values hold for one step. */
static tt_status switch_over(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    tt_decision decision = o->fork.commit;
    decision.kind = TT_DECISION_SWITCH;
    decision.step = step;
    tt_status status = tt_decide(o, &decision, json_pack("{s:s}", "why", "trial"));
    return status ? status : tt_follow(o, step);
}

tt_status tt_trial_begin_step(tt_orchestrator *o)
{
    tt_fork *fork = &o->fork;
    bool shadow_first = tt_trial_shadow_first(&fork->trial);
    if (fork->alternating) {
        bool candidate_now = shadow_first ? !fork->shadow_done : fork->live_done;
        return candidate_now ? switch_over(o) : TT_OK;
    }
    if (!shadow_first || fork->shadow_done) {
        return TT_OK;
    }
    const tt_slot *slot = &o->slots.slot[o->slots.published];
    return shadow(o, tt_planned_position(o, slot->step, slot->position));
}

/* What a live step took: a checkpoint that had to be waited for is not its doing. */
static double seconds_of(const tt_orchestrator *o, const tt_step_record *record)
{
    return record->seconds - o->waited_seconds;
}

static tt_status close_pair(tt_orchestrator *o)
{
    tt_fork *fork = &o->fork;
    if (fork->kind == TT_FORK_NONE || !fork->shadow_done || !fork->live_done) {
        return TT_OK;
    }
    tt_trial_pair(&fork->trial, fork->live_seconds, fork->shadow_seconds, fork->live_loss,
                  fork->shadow_loss);
    fork->step++;
    fork->shadow_done = false;
    fork->live_done = false;
    if (fork->trial.outcome != TT_TRIAL_RUNNING) {
        return tt_trial_conclude(o, TT_TRIAL_RUNNING, NULL);
    }
    /* A baseline may be slower than anybody thought: not all of it is bought. */
    if (fork->kind == TT_FORK_BASELINE &&
        !tt_affordable(o, fork->shadow_seconds * (fork->trial.pairs - fork->trial.done))) {
        return tt_trial_conclude(o, TT_TRIAL_REFUSED,
                                 "the rest of it costs more than may be spent");
    }
    return TT_OK;
}

tt_status tt_trial_end_step(tt_orchestrator *o, const tt_step_record *record)
{
    tt_fork *fork = &o->fork;
    if (fork->alternating && o->in_force.switched) {
        fork->shadow_seconds = seconds_of(o, record);
        fork->shadow_loss = record->loss;
        fork->shadow_done = true;
        return close_pair(o);
    }
    fork->live_seconds = seconds_of(o, record);
    fork->live_loss = record->loss;
    fork->live_done = true;
    tt_status status = TT_OK;
    if (!fork->alternating && !fork->shadow_done) {
        status = shadow(o, record->position);
    }
    return status ? status : close_pair(o);
}
