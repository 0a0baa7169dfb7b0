/* What happens at step boundaries besides steps: probes of breakers, trials of proposals, and
 * adaptation that makes them. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The median is over this many of the last published steps. */
enum { STEPS_FOR_MEDIAN = 32, SPEEDUP_AGE = 1000 };

static const char *fork_name(tt_fork_kind kind)
{
    static const char *const names[] = {"", "trial", "probe", "baseline"};
    return names[kind];
}

static const char *optimization_name(const tt_orchestrator *o, int optimization)
{
    return optimization < 0 ? "all off" : o->optimizations[optimization].name;
}

/* Seconds of a live step; 0 before there was one. */
static double step_seconds(const tt_orchestrator *o)
{
    double seconds[STEPS_FOR_MEDIAN];
    int count = 0;
    for (size_t back = 0; back < TT_RECORD_RING && count < STEPS_FOR_MEDIAN; back++) {
        const tt_step_record *record = tt_orchestrator_record(o, back);
        if (!record) {
            break;
        }
        if (record->published) {
            seconds[count++] = record->seconds;
        }
    }
    return tt_median(seconds, (size_t)count);
}

/* ---- overhead ---- */

static tt_overhead overhead_now(const tt_orchestrator *o)
{
    tt_overhead overhead = {
        .orchestration_seconds =
            o->totals.policy_seconds + o->totals.search_seconds + o->totals.trial_seconds,
        .run_seconds = o->totals.step_seconds,
        .budget_seconds = o->trial_budget,
    };
    int64_t step = tt_orchestrator_step(o);
    for (size_t i = 0; i < o->history.count; i++) {
        const tt_decision *decision = &o->history.decisions[i];
        if (decision->kind == TT_DECISION_COMMIT && decision->applied) {
            overhead.committed = true;
            overhead.gain_seconds += decision->gain_seconds * (double)(step - decision->step);
        }
    }
    return overhead;
}

/* A commit of which nothing is gained is undone; one whose aim was memory has its gain. */
static tt_status revert_without_gain(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    size_t count = o->history.count; /* it grows below */
    for (size_t i = 0; !status && i < count; i++) {
        tt_decision decision = o->history.decisions[i];
        if (decision.kind != TT_DECISION_COMMIT || !decision.applied || decision.gain_seconds > 0 ||
            o->optimizations[decision.optimization].aim == TT_AIM_MEMORY) {
            continue;
        }
        decision.kind = TT_DECISION_REVERT;
        decision.step = tt_orchestrator_step(o);
        decision.applied = false;
        for (int k = 0; k < decision.change_count; k++) {
            tt_change *change = &decision.changes[k];
            char from[sizeof change->from];
            memcpy(from, change->from, sizeof from);
            memcpy(change->from, change->to, sizeof from);
            memcpy(change->to, from, sizeof from);
        }
        status = tt_decide(o, &decision, json_pack("{s:s}", "why", "it costs more than it gains"));
    }
    return status;
}

static tt_status check_overhead(tt_orchestrator *o)
{
    tt_overhead overhead = overhead_now(o);
    tt_gate_decision decision = tt_overhead_judge(&overhead);
    o->overhead_step = tt_orchestrator_step(o);
    o->overhead_evaluations++;
    if (decision.verdict != TT_TRIP || o->trials_stopped) {
        return TT_OK;
    }
    char reason[256];
    o->overhead_trips++;
    o->trials_stopped = true;
    tt_gate_describe(&decision, reason);
    tt_log(o->log, TT_LOG_WARN, "%s; no more trials", reason);
    tt_status status =
        tt_journal_write(o, json_pack("{s:s, s:i, s:I, s:f, s:f}", "kind", "overhead", "attempt",
                                      o->attempt, "step", (json_int_t)o->overhead_step, "observed",
                                      decision.observed, "limit", decision.limit));
    return status ? status : revert_without_gain(o);
}

static bool affordable(const tt_orchestrator *o, double seconds)
{
    tt_overhead overhead = overhead_now(o);
    return !o->trials_stopped && tt_overhead_allows(&overhead, seconds);
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
    int64_t budget = tt_config_int(o->config, TT_MEMORY_BUDGET_KEY);
    int64_t need = o->host.memory_estimate(o->host.user, candidate, true);
    return need <= budget
               ? TT_OK
               : tt_fail(TT_ENOMEM, "with a fork the run needs %lld bytes, the budget is %lld",
                         (long long)need, (long long)budget);
}

/* Takes `candidate` over. */
static tt_status start_fork(tt_orchestrator *o, tt_fork_kind kind, int optimization,
                            tt_config *candidate, tt_aim aim, int pairs)
{
    tt_fork *fork = &o->fork;
    const tt_optimization *what = optimization < 0 ? NULL : &o->optimizations[optimization];
    tt_status status = fits(o, candidate);
    if (!status && what && what->conform) {
        status = what->conform(what->user, candidate);
    }
    if (!status && o->host.run_step) {
        status = o->host.slot_copy(o->host.user, o->slots.published, o->host.scratch_slot);
    }
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

static json_t *finding(const tt_orchestrator *o)
{
    const tt_fork *fork = &o->fork;
    const tt_trial *trial = &fork->trial;
    json_t *record = json_pack("{s:s, s:i}", "outcome", tt_trial_outcome_name(trial->outcome),
                               "pairs", trial->done);
    if (trial->outcome == TT_TRIAL_COMMIT || trial->outcome == TT_TRIAL_TOO_SLOW ||
        trial->outcome == TT_TRIAL_WORSE_LOSS) {
        json_object_set_new(record, "speedup", json_real(trial->speedup));
        json_object_set_new(record, "interval",
                            json_pack("[f, f]", trial->speedup_low, trial->speedup_high));
        json_object_set_new(record, "loss_change", json_real(trial->loss_change));
    }
    return record;
}

static json_t *change_list(const tt_decision *decision)
{
    json_t *changes = json_array();
    for (int i = 0; i < decision->change_count; i++) {
        const tt_change *change = &decision->changes[i];
        json_array_append_new(changes,
                              json_pack("[s, s, s]", change->key, change->from, change->to));
    }
    return changes;
}

static tt_status journal_refusal(tt_orchestrator *o)
{
    json_t *record = json_pack("{s:s, s:i, s:I, s:s, s:s, s:o}", "kind", "trial", "attempt",
                               o->attempt, "step", (json_int_t)tt_orchestrator_step(o),
                               "optimization", optimization_name(o, o->fork.optimization), "of",
                               fork_name(o->fork.kind), "changes", change_list(&o->fork.commit));
    json_t *more = finding(o);
    json_object_update(record, more);
    json_decref(more);
    return tt_journal_write(o, record);
}

static tt_status commit(tt_orchestrator *o)
{
    tt_fork *fork = &o->fork;
    tt_decision decision = fork->commit;
    decision.step = tt_orchestrator_step(o);
    decision.gain_seconds = step_seconds(o) * (1 - 1 / fork->trial.speedup);
    o->totals.commits++;
    tt_status status = tt_decide(o, &decision, finding(o));
    if (!status) {
        tt_log(o->log, TT_LOG_INFO, "step %lld: %s %s -> %s from now on (%.2fx, loss %+.2f %%)",
               (long long)decision.step, decision.changes[0].key, decision.changes[0].from,
               decision.changes[0].to, fork->trial.speedup, 100 * fork->trial.loss_change);
    }
    return status;
}

static tt_status end_probe(tt_orchestrator *o)
{
    tt_trial_outcome outcome = o->fork.trial.outcome;
    if (outcome == TT_TRIAL_COMMIT) {
        return TT_OK; /* its last good step closes it */
    }
    bool bad = outcome == TT_TRIAL_TRIPPED || outcome == TT_TRIAL_WORSE_LOSS;
    return tt_decide_breaker(o, o->fork.optimization,
                             bad ? TT_BREAKER_PROBE_BAD : TT_BREAKER_PROBE_LOST,
                             tt_orchestrator_step(o), tt_trial_outcome_name(outcome));
}

static tt_status end_fork(tt_orchestrator *o)
{
    tt_fork *fork = &o->fork;
    tt_status status = TT_OK;
    switch (fork->kind) {
    case TT_FORK_TRIAL:
        if (fork->trial.outcome == TT_TRIAL_COMMIT) {
            status = commit(o);
            o->speedup.present = false; /* of another configuration */
        } else {
            tt_adapt_remember(&o->refusals[fork->optimization], fork->move, fork->input,
                              tt_orchestrator_step(o));
            status = journal_refusal(o);
        }
        break;
    case TT_FORK_PROBE:
        status = end_probe(o);
        break;
    case TT_FORK_BASELINE:
        if (fork->trial.speedup > 0) {
            /* The shadow was the baseline: the current configuration gains the inverse. */
            o->speedup = (tt_adapt_input){.present = true, .value = 1 / fork->trial.speedup};
            o->speedup_step = tt_orchestrator_step(o);
        }
        status = journal_refusal(o);
        break;
    case TT_FORK_NONE:
        return TT_OK;
    }
    tt_fork_clear(o);
    return status ? status : check_overhead(o);
}

tt_status tt_steer_tripped(tt_orchestrator *o)
{
    if (o->fork.kind == TT_FORK_NONE) {
        return TT_OK;
    }
    tt_trial_end(&o->fork.trial, TT_TRIAL_ABANDONED);
    return end_fork(o);
}

/* ---- one shadow step ---- */

static tt_status probe_step(tt_orchestrator *o, bool good)
{
    if (!good) {
        tt_trial_end(&o->fork.trial, TT_TRIAL_TRIPPED);
        return TT_OK;
    }
    tt_breaker breaker = o->breakers[o->fork.optimization];
    int64_t at = o->fork.step + 1;
    bool closes = tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, at);
    tt_status status = tt_decide_breaker(o, o->fork.optimization, TT_BREAKER_PROBE_GOOD, at,
                                         "the step passes with it");
    if (closes) {
        tt_log(o->log, TT_LOG_INFO, "step %lld: %s proves good again", (long long)at,
               o->optimizations[o->fork.optimization].name);
        tt_trial_end(&o->fork.trial, TT_TRIAL_COMMIT);
    }
    return status;
}

static tt_status shadow(tt_orchestrator *o, int64_t position)
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
    tt_gate_decision decision =
        tt_gates_judge(&o->limits, &fork->gates, &targets, TT_GATES_ALL, &measured, NULL);
    bool good = decision.verdict != TT_TRIP;
    fork->shadow_loss = measured.values[TT_METRIC_LOSS];
    fork->shadow_done = true;
    if (good) {
        tt_gates_accept(&fork->gates, &targets, &measured);
    }
    if (fork->kind == TT_FORK_PROBE) {
        return probe_step(o, good);
    }
    if (!good) {
        char reason[256];
        tt_log(o->log, TT_LOG_INFO, "trial of %s: %s", optimization_name(o, fork->optimization),
               tt_gate_describe(&decision, reason));
        tt_trial_end(&fork->trial, TT_TRIAL_TRIPPED);
    }
    return TT_OK;
}

static tt_status close_pair(tt_orchestrator *o)
{
    tt_fork *fork = &o->fork;
    if (fork->trial.outcome == TT_TRIAL_RUNNING && fork->shadow_done && fork->live_done) {
        if (fork->kind == TT_FORK_PROBE) {
            /* A probe is judged step by step; its speed was settled when it was committed. */
            fork->step++;
        } else {
            tt_trial_pair(&fork->trial, fork->live_seconds, fork->shadow_seconds, fork->live_loss,
                          fork->shadow_loss);
            fork->step++;
        }
        fork->shadow_done = false;
        fork->live_done = false;
        /* A baseline may be slower than anybody thought: not all of it is bought. */
        if (fork->kind == TT_FORK_BASELINE && fork->trial.outcome == TT_TRIAL_RUNNING &&
            !affordable(o, fork->shadow_seconds * (fork->trial.pairs - fork->trial.done))) {
            tt_trial_end(&fork->trial, TT_TRIAL_REFUSED);
        }
    }
    return fork->trial.outcome == TT_TRIAL_RUNNING ? TT_OK : end_fork(o);
}

/* Without run_step, live steps take turns: the candidate's values hold for one step. */
static tt_status switch_over(tt_orchestrator *o, int64_t step)
{
    tt_decision decision = o->fork.commit;
    decision.kind = TT_DECISION_SWITCH;
    decision.step = step;
    tt_status status = tt_decide(o, &decision, json_pack("{s:s}", "why", "trial"));
    return status ? status : tt_follow(o, step);
}

/* ---- proposals ---- */

static int position_of(const tt_param *param, const tt_config *config, size_t *count)
{
    char text[32];
    tt_configured_text(config, param->key, text);
    if (param->lattice) {
        *count = param->lattice_count;
        for (size_t i = 0; i < param->lattice_count; i++) {
            if (param->lattice[i] == tt_config_int(config, param->key)) {
                return (int)i;
            }
        }
        return -1;
    }
    int at = -1;
    *count = 0;
    for (const char *choice = param->choices; choice && *choice;) {
        size_t length = strcspn(choice, "|");
        if (strlen(text) == length && strncmp(choice, text, length) == 0) {
            at = (int)*count;
        }
        ++*count;
        choice += length + (choice[length] == '|');
    }
    return at;
}

static void value_at(const tt_param *param, size_t at, char out[32])
{
    if (param->lattice) {
        snprintf(out, 32, "%lld", (long long)param->lattice[at]);
        return;
    }
    const char *choice = param->choices;
    for (; at > 0; at--) {
        choice += strcspn(choice, "|") + 1;
    }
    snprintf(out, 32, "%.*s", (int)strcspn(choice, "|"), choice);
}

/* A codec moves along memory, of which a larger block needs less; a tile along its size. */
static tt_adapt_move along(const tt_param *param, tt_adapt_move move)
{
    if (!param->memory_falls || param->tier == TT_TIER_TILE || move == TT_ADAPT_HOLD) {
        return move;
    }
    return move == TT_ADAPT_UP ? TT_ADAPT_DOWN : TT_ADAPT_UP;
}

/* One of the optimization's adaptable keys, a step along its lattice; the keys take turns. */
static bool propose(tt_orchestrator *o, int optimization, tt_adapt_move move, tt_change *out)
{
    const tt_optimization *what = &o->optimizations[optimization];
    for (size_t i = 0; i < what->key_count; i++) {
        size_t k = ((size_t)o->turn[optimization] + i) % what->key_count;
        const tt_param *param = tt_params_find(o->params, what->keys[k]);
        bool has_order = param->lattice || param->ladder;
        if (!o->adaptable[optimization][k] || !has_order ||
            tt_config_is_auto(o->requested, param->key) ||
            tt_config_is_pinned(o->requested, param->key)) {
            continue;
        }
        size_t count;
        size_t next;
        int at = position_of(param, o->requested, &count);
        if (at < 0 || !tt_adapt_neighbour(count, (size_t)at, along(param, move), &next)) {
            continue;
        }
        snprintf(out->key, sizeof out->key, "%s", param->key);
        tt_configured_text(o->requested, param->key, out->from);
        value_at(param, next, out->to);
        o->turn[optimization] = (int)((k + 1) % what->key_count);
        return true;
    }
    return false;
}

/* What moved between the two: a commit must carry what the resolver moved along. */
static bool list_changes(const tt_orchestrator *o, const tt_config *candidate, tt_decision *out)
{
    for (size_t i = 0; i < tt_params_count(o->params); i++) {
        const char *key = tt_params_at(o->params, i)->key;
        char from[32];
        char to[32];
        tt_configured_text(o->requested, key, from);
        tt_configured_text(candidate, key, to);
        if (strcmp(from, to) == 0) {
            continue;
        }
        if (out->change_count == TT_DECISION_CHANGES) {
            return false;
        }
        tt_change *change = &out->changes[out->change_count++];
        snprintf(change->key, sizeof change->key, "%s", key);
        memcpy(change->from, from, sizeof from);
        memcpy(change->to, to, sizeof to);
    }
    return out->change_count > 0;
}

/* The legal configuration nearest to the proposal, with what is off left off. NULL: precedence
 * leaves nothing of the proposal. */
static tt_status make_candidate(tt_orchestrator *o, const tt_change *change, tt_decision *commit,
                                tt_config **out)
{
    tt_config *moved = NULL;
    tt_config *resolved = NULL;
    *out = NULL;
    tt_status status = tt_configure_changes(o->requested, change, 1, "adaptation", &moved);
    if (!status) {
        status = tt_orchestrator_resolve(o, moved, &resolved);
    }
    const tt_config *legal = resolved ? resolved : moved;
    bool kept = false;
    if (!status) {
        char text[32];
        tt_configured_text(legal, change->key, text);
        kept = strcmp(text, change->to) == 0 && list_changes(o, legal, commit);
    }
    tt_config *off = NULL;
    if (kept) {
        status = tt_configure_off(o, legal, tt_breakers_open(o), &off);
    }
    if (!status && kept) {
        *out = off ? off : resolved ? resolved : moved;
    }
    if (*out != moved) {
        tt_config_destroy(moved);
    }
    if (*out != resolved) {
        tt_config_destroy(resolved);
    }
    if (*out != off) {
        tt_config_destroy(off);
    }
    return status;
}

static tt_status begin_trial(tt_orchestrator *o, int optimization, tt_adapt_move move, double input)
{
    tt_change change;
    tt_config *candidate = NULL;
    tt_decision decision = {.kind = TT_DECISION_COMMIT, .optimization = optimization};
    double cost = step_seconds(o) * o->trial_pairs;
    if (!tt_adapt_may(&o->refusals[optimization], move, input, tt_orchestrator_step(o)) ||
        !affordable(o, cost) || !propose(o, optimization, move, &change)) {
        return TT_OK;
    }
    tt_status status = make_candidate(o, &change, &decision, &candidate);
    o->fork.commit = decision;
    o->fork.move = move;
    o->fork.input = input;
    bool refused = status || !candidate;
    if (!refused) {
        status = start_fork(o, TT_FORK_TRIAL, optimization, candidate,
                            o->optimizations[optimization].aim, o->trial_pairs);
        refused = status == TT_EGATE || status == TT_ENOMEM;
    }
    if (!refused) {
        return status;
    }
    /* Refused without a trial: it does not conform, does not fit, or is not legal. */
    tt_log(o->log, TT_LOG_INFO, "%s %s -> %s is refused: %s", change.key, change.from, change.to,
           status ? tt_error_message() : "precedence does not allow it");
    o->fork.kind = TT_FORK_TRIAL;
    o->fork.optimization = optimization;
    o->fork.alternating = true; /* nothing to release */
    tt_trial_begin(&o->fork.trial, TT_AIM_SPEED, TT_TRIAL_MIN_PAIRS);
    tt_trial_end(&o->fork.trial, TT_TRIAL_REFUSED);
    return end_fork(o);
}

static tt_adapt_input error_of(const tt_orchestrator *o, int optimization)
{
    tt_adapt_input worst = {.present = false};
    for (int i = 0; i < o->targets.count; i++) {
        const tt_error_target *target = &o->targets.target[i];
        if (strcmp(target->optimization, o->optimizations[optimization].name) != 0 ||
            o->target_peaks[i] < 0) {
            continue;
        }
        double limit = target->kind == TT_ERROR_UPDATE ? o->limits.update_error_max
                                                       : o->limits.reconstruction_max;
        double share = o->target_peaks[i] / limit;
        if (!worst.present || share > worst.value) {
            worst = (tt_adapt_input){.present = true, .value = share};
        }
    }
    return worst;
}

static bool any_adaptable(const tt_orchestrator *o, int optimization)
{
    for (size_t k = 0; k < o->optimizations[optimization].key_count; k++) {
        if (o->adaptable[optimization][k] &&
            !tt_config_is_pinned(o->requested, o->optimizations[optimization].keys[k])) {
            return true;
        }
    }
    return false;
}

static tt_status adapt_one(tt_orchestrator *o, int optimization)
{
    if (o->optimizations[optimization].tier == TT_TIER_TILE) {
        tt_adapt_move move = tt_adapt_tile(o->speedup);
        return move == TT_ADAPT_HOLD ? TT_OK : begin_trial(o, optimization, move, o->speedup.value);
    }
    tt_adapt_input error = error_of(o, optimization);
    tt_adapt_move move = tt_adapt_codec(error, 1);
    return move == TT_ADAPT_HOLD ? TT_OK : begin_trial(o, optimization, move, error.value);
}

/* How much all of it together gains: a trial of everything off. */
static tt_status measure_baseline(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    uint32_t on = tt_configured_on(o, o->config);
    bool recent = o->speedup_step > 0 && step - o->speedup_step < SPEEDUP_AGE;
    bool wanted = false;
    for (size_t i = 0; i < o->optimization_count; i++) {
        wanted = wanted || (o->optimizations[i].tier == TT_TIER_TILE && any_adaptable(o, (int)i));
    }
    if (!wanted || recent || !on || !o->host.run_step ||
        !affordable(o, step_seconds(o) * TT_TRIAL_MIN_PAIRS)) {
        return TT_OK;
    }
    tt_config *off = NULL;
    o->speedup_step = step;
    tt_status status = tt_configure_off(o, o->config, on, &off);
    o->fork.commit = (tt_decision){.change_count = 0};
    if (!status && off) {
        status = start_fork(o, TT_FORK_BASELINE, -1, off, TT_AIM_MEMORY, TT_TRIAL_MIN_PAIRS);
        status = status == TT_ENOMEM ? TT_OK : status;
    }
    return status;
}

static tt_status adapt(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    o->adapted_step = tt_orchestrator_step(o);
    for (size_t i = 0; !status && i < o->optimization_count && o->fork.kind == TT_FORK_NONE; i++) {
        if (any_adaptable(o, (int)i) && o->breakers[i].state == TT_BREAKER_CLOSED) {
            status = adapt_one(o, (int)i);
        }
    }
    for (int i = 0; i < o->targets.count; i++) {
        o->target_peaks[i] = -1;
    }
    if (!status && o->fork.kind == TT_FORK_NONE) {
        status = measure_baseline(o);
    }
    return status;
}

/* ---- breakers ---- */

static tt_status probe(tt_orchestrator *o, int optimization)
{
    int64_t step = tt_orchestrator_step(o);
    tt_config *candidate = NULL;
    tt_config *off = NULL;
    tt_status status =
        tt_decide_breaker(o, optimization, TT_BREAKER_PROBE, step, "the cool-down is over");
    if (!status) {
        status = tt_follow(o, step);
    }
    if (status || !o->host.run_step) {
        return status; /* the live run is the probe */
    }
    uint32_t others = tt_breakers_open(o) & ~(UINT32_C(1) << optimization);
    status = tt_configure_off(o, o->requested, others, &off);
    if (!status && !off) {
        /* The requested configuration itself: a copy of it, by deriving a value that it has. */
        const char *key = o->optimizations[optimization].keys[0];
        char value[32];
        tt_configured_text(o->requested, key, value);
        status = tt_config_derive(o->requested, key, value, "probe", &off);
    }
    candidate = off;
    if (!status) {
        o->fork.commit = (tt_decision){.change_count = 0};
        status = start_fork(o, TT_FORK_PROBE, optimization, candidate, TT_AIM_MEMORY,
                            TT_TRIAL_MAX_PAIRS);
    }
    if (status == TT_EGATE || status == TT_ENOMEM) {
        status = tt_decide_breaker(
            o, optimization, status == TT_EGATE ? TT_BREAKER_PROBE_BAD : TT_BREAKER_PROBE_LOST,
            step, tt_error_message());
    }
    return status;
}

/* An earlier attempt ended in the middle of a probe. */
static tt_status forget_lost_probes(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && o->host.run_step && i < o->optimization_count; i++) {
        if (o->breakers[i].state == TT_BREAKER_HALF_OPEN) {
            status = tt_decide_breaker(o, (int)i, TT_BREAKER_PROBE_LOST, tt_orchestrator_step(o),
                                       "the run went on elsewhere");
        }
    }
    return status;
}

static tt_status begin_something(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    tt_status status = forget_lost_probes(o);
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        if (o->fork.kind == TT_FORK_NONE && tt_breaker_is_due(&o->breakers[i], step)) {
            status = probe(o, (int)i);
        }
    }
    if (!status && o->fork.kind == TT_FORK_NONE && o->adapt_every > 0 && step > 0 &&
        step % o->adapt_every == 0 && step != o->adapted_step) {
        status = adapt(o);
    }
    return status;
}

tt_status tt_steer_begin(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    int64_t step = tt_orchestrator_step(o);
    if (o->fork.kind == TT_FORK_NONE && step >= o->follow_until) {
        status = begin_something(o);
        if (!status) {
            status = tt_follow(o, step);
        }
    }
    tt_fork *fork = &o->fork;
    if (status || fork->kind == TT_FORK_NONE) {
        return status;
    }
    if (fork->alternating) {
        bool candidate_first = tt_trial_shadow_first(&fork->trial);
        bool candidate_now = candidate_first ? !fork->shadow_done : fork->live_done;
        return candidate_now ? switch_over(o, step) : TT_OK;
    }
    if (tt_trial_shadow_first(&fork->trial) && !fork->shadow_done) {
        const tt_slot *slot = &o->slots.slot[o->slots.published];
        status = shadow(o, tt_planned_position(o, slot->step, slot->position));
        if (!status && fork->trial.outcome != TT_TRIAL_RUNNING) {
            status = end_fork(o);
        }
        if (!status) {
            status = tt_follow(o, step);
        }
    }
    return status;
}

/* Of two live steps one ran the candidate. */
static tt_status take_turn(tt_orchestrator *o, const tt_step_record *record)
{
    tt_fork *fork = &o->fork;
    bool candidate = o->in_force.switched != 0;
    if (candidate) {
        fork->shadow_seconds = record->seconds;
        fork->shadow_loss = record->loss;
        fork->shadow_done = true;
    } else {
        fork->live_seconds = record->seconds;
        fork->live_loss = record->loss;
        fork->live_done = true;
    }
    return close_pair(o);
}

static tt_status good_live_probes(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && !o->host.run_step && i < o->optimization_count; i++) {
        if (o->breakers[i].state == TT_BREAKER_HALF_OPEN &&
            tt_orchestrator_step(o) > o->follow_until) {
            status = tt_decide_breaker(o, (int)i, TT_BREAKER_PROBE_GOOD, tt_orchestrator_step(o),
                                       "the step passes with it");
        }
    }
    return status;
}

tt_status tt_steer_published(tt_orchestrator *o, const tt_step_record *record,
                             const tt_measurements *measured)
{
    tt_fork *fork = &o->fork;
    for (int i = 0; i < o->targets.count; i++) {
        if (measured->error_present[i] && measured->errors[i] > o->target_peaks[i]) {
            o->target_peaks[i] = measured->errors[i];
        }
    }
    tt_status status = good_live_probes(o);
    if (!status && fork->kind == TT_FORK_NONE) {
        bool due = tt_orchestrator_step(o) % TT_OVERHEAD_EVERY == 0;
        return due && o->overhead_step != tt_orchestrator_step(o) ? check_overhead(o) : TT_OK;
    }
    if (status) {
        return status;
    }
    if (fork->alternating) {
        return take_turn(o, record);
    }
    fork->live_seconds = record->seconds;
    fork->live_loss = record->loss;
    fork->live_done = true;
    if (!fork->shadow_done) {
        status = shadow(o, record->position);
    }
    return status ? status : close_pair(o);
}
