/* A trip: what to do about it. Retry, search for the culprit, roll back, skip, stop. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- going back ---- */

/* The newest step that a checkpoint may hold to be of use: a second rollback from the same step
 * goes below where the first one landed. */
static int64_t rollback_bound(const tt_orchestrator *o)
{
    bool again = o->ladder.trip_step == o->plan.step && o->ladder.last == TT_ACTION_ROLLBACK;
    return again ? o->ladder.rolled_to - 1 : o->plan.step;
}

static bool can_roll_back(const tt_orchestrator *o, int64_t bound)
{
    char path[TT_PATH_BYTES];
    int64_t step;
    return tt_slots_older(&o->slots) >= 0 || o->job.active ||
           tt_checkpoint_at_most(o, bound, path, &step);
}

/* Loads the newest checkpoint up to `bound` that verifies into a slot that is not the published
 * one (unless there is only one), and publishes it. */
static tt_status restore_checkpoint(tt_orchestrator *o, int64_t bound)
{
    char path[TT_PATH_BYTES];
    int64_t step;
    int suspect = o->slots.published;
    int target = o->slots.count == 1 ? 0 : (suspect + 1) % o->slots.count;
    tt_status status = tt_fail(TT_ENOTFOUND, "no checkpoint in %s verifies", o->folder.checkpoints);
    while (status && tt_checkpoint_at_most(o, bound, path, &step)) {
        tt_slot meaning;
        status = tt_checkpoint_load(o, path, NULL, target, &meaning);
        if (!status) {
            /* What was published is under suspicion, and what is younger than the checkpoint is of
             * a future that may not come: they are no states to go back to. */
            o->slots.slot[suspect].valid = false;
            tt_slots_publish(&o->slots, target, &meaning);
            tt_slots_revert(&o->slots, target);
            break;
        }
        tt_log(o->log, TT_LOG_WARN, "passed over a checkpoint: %s", tt_error_message());
        bound = step - 1;
    }
    return status;
}

/* Checkpoints of the steps that are run again belong to a future that may not come: they are set
 * aside, so that a kill and a resume go on from here. */
static void abandon_later_checkpoints(tt_orchestrator *o, int64_t step)
{
    bool found = false;
    tt_status status = tt_checkpoint_set_aside(o, step, &found);
    if (found || o->saved_step > step) {
        o->saved_step = -1;
    }
    if (!status && found) {
        status = tt_checkpoint_save(o, false); /* `latest` named one of them */
    }
    if (status) {
        tt_log(o->log, TT_LOG_WARN, "after the rollback to step %lld: %s", (long long)step,
               tt_error_message());
    }
}

/* The run goes on from the state that is published now. */
static void gone_back(tt_orchestrator *o, int64_t from, const char *where)
{
    int64_t to = tt_orchestrator_step(o);
    o->dirty = false;
    o->adapted_step = -1;
    o->attempt++;
    o->totals.rollbacks++;
    if (from > o->follow_until) {
        o->follow_until = from; /* those steps are not news: nothing is proposed on the way */
    }
    abandon_later_checkpoints(o, to);
    tt_metrics_write_event(o, json_pack("{s:i, s:s, s:I, s:I}", "attempt", o->attempt, "event",
                                        "rollback", "from_step", (json_int_t)from, "step",
                                        (json_int_t)to));
    tt_log(o->log, TT_LOG_WARN, "rolled back from step %lld to step %lld (%s)", (long long)from,
           (long long)to, where);
}

/* To the state from which the search found the run clean. */
static tt_status go_back_to(tt_orchestrator *o, const tt_state_place *clean)
{
    int64_t from = tt_orchestrator_step(o);
    tt_status status = tt_checkpoint_collect(o, true);
    if (!status && clean->slot < 0) {
        status = restore_checkpoint(o, clean->step);
    } else if (!status && clean->slot != o->slots.published) {
        tt_slots_revert(&o->slots, clean->slot);
    }
    if (!status && (clean->slot < 0 || tt_orchestrator_step(o) != from)) {
        gone_back(o, from, clean->slot < 0 ? o->latest : "an older slot");
    }
    return status;
}

/* `clean`: the state to go back to, if it is known; else the youngest that is older. */
static tt_status roll_back(tt_orchestrator *o, int64_t bound, const tt_state_place *clean)
{
    int64_t from = tt_orchestrator_step(o);
    tt_state_place older = {.slot = tt_slots_older(&o->slots), .step = bound};
    tt_status status = go_back_to(o, clean ? clean : &older);
    if (status) {
        return tt_fail_in(status, "rolling back from step %lld", (long long)from);
    }
    tt_ladder_rolled_back(&o->ladder, tt_orchestrator_step(o));
    return TT_OK;
}

/* ---- saying what happened ---- */

static void name_tensor(tt_orchestrator *o, const tt_measurements *measured,
                        tt_gate_decision *decision)
{
    if (measured->first_bad[0]) {
        snprintf(decision->tensor, sizeof decision->tensor, "%s", measured->first_bad);
    }
    bool finiteness = strcmp(decision->gate, tt_gate_name(TT_GATE_GRADIENT_FINITE)) == 0 ||
                      strcmp(decision->gate, tt_gate_name(TT_GATE_UPDATE_FINITE)) == 0 ||
                      !isfinite(decision->observed);
    if (decision->tensor[0] || !finiteness || decision->missing || !o->host.locate_nonfinite) {
        return;
    }
    if (o->host.locate_nonfinite(o->host.user, o->plan.read_slot, o->plan.write_slot,
                                 decision->tensor)) {
        tt_log(o->log, TT_LOG_WARN, "cannot name the bad tensor: %s", tt_error_message());
        decision->tensor[0] = '\0';
    }
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* ---- the ladder ---- */

/* The rung that comes next, as far as this run can climb it. */
static tt_action next_action(tt_orchestrator *o, bool can_rollback, bool can_search)
{
    tt_action action = tt_ladder_trip(&o->ladder, o->plan.step, can_rollback, can_search);
    if (o->dirty && action == TT_ACTION_RETRY) {
        /* With one slot the update is already in the only copy: only a checkpoint is clean. */
        action = tt_ladder_trip(&o->ladder, o->plan.step, can_rollback, can_search);
    }
    return o->dirty && action == TT_ACTION_SKIP ? TT_ACTION_STOP : action;
}

static tt_status announce_trip(tt_orchestrator *o, const tt_gate_decision *decision)
{
    char reason[256];
    tt_gate_describe(decision, reason);
    tt_log(o->log, TT_LOG_WARN, "step %lld: %s%s%s; %s", (long long)o->plan.step, reason,
           decision->tensor[0] ? ", first bad tensor " : "", decision->tensor,
           tt_action_name(decision->action));
    return tt_journal_write(
        o, json_pack("{s:s, s:i, s:I, s:I, s:s, s:s, s:o, s:o, s:b, s:o, s:s}", "kind", "trip",
                     "attempt", o->attempt, "step", (json_int_t)o->plan.step, "position",
                     (json_int_t)o->plan.position, "gate", decision->gate, "target",
                     decision->target, "observed", number_or_null(decision->observed), "limit",
                     number_or_null(decision->limit), "missing", decision->missing, "tensor",
                     tt_json_text(decision->tensor), "action", tt_action_name(decision->action)));
}

/* No older state could be had: the ladder goes on without. */
static tt_status pass_over_rollback(tt_orchestrator *o, tt_gate_decision *decision)
{
    json_t *why = tt_json_text(tt_error_message());
    decision->action = next_action(o, false, false);
    tt_log(o->log, TT_LOG_WARN, "%s; %s instead", tt_error_message(),
           tt_action_name(decision->action));
    return tt_journal_write(o, json_pack("{s:s, s:i, s:I, s:o, s:s}", "kind", "rollback_failed",
                                         "attempt", o->attempt, "step", (json_int_t)o->plan.step,
                                         "why", why, "action", tt_action_name(decision->action)));
}

/* ---- the culprit, proven by replays ---- */

/* First back, then the journal: a process that ends in between has gone back to a state that is as
 * good as any, and finds the culprit again; the other way round it might go on from harmed state,
 * with the culprit's breaker open and nothing left to find. */
static tt_status convict(tt_orchestrator *o, const tt_search *search, const tt_state_place *clean)
{
    tt_status status = go_back_to(o, clean);
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        if (search->disable >> i & 1) {
            o->totals.breakers_opened++;
            status = tt_decide_breaker(o, (int)i, TT_BREAKER_CONVICT, tt_orchestrator_step(o),
                                       o->verdict);
        }
    }
    return status;
}

/* Whether there is a state further back than those that the search had: to go back to, and to come
 * closer to the trip from. (Going back to those that it had would only bring the trip again.) */
static bool is_out_of_reach(tt_orchestrator *o, const tt_state_place *older)
{
    char path[TT_PATH_BYTES];
    int64_t step;
    bool there = older->slot >= 0 || tt_checkpoint_at_most(o, older->step, path, &step);
    return there && tt_ladder_look_closer(&o->ladder);
}

/* *damaged: the state is, and that at `clean` is not. */
static tt_status search(tt_orchestrator *o, const tt_measurements *measured,
                        tt_gate_decision *decision, tt_state_place *clean, bool *damaged)
{
    tt_search found;
    tt_status status = tt_search_culprit(o, measured, decision, &found, clean);
    if (status) {
        return status;
    }
    switch (found.verdict) {
    case TT_SEARCH_TRANSIENT:
        *damaged = found.cured_depth > 0;
        if (o->dirty || *damaged) {
            return TT_OK; /* the ladder's next rung is the rollback, and it counts them */
        }
        decision->action = TT_ACTION_RETRY;
        break;
    case TT_SEARCH_SINGLE:
    case TT_SEARCH_EITHER:
    case TT_SEARCH_JOINT:
        decision->action = TT_ACTION_DISABLE;
        status = convict(o, &found, clean);
        break;
    case TT_SEARCH_BATCH:
        decision->action = o->dirty ? TT_ACTION_STOP : TT_ACTION_SKIP;
        break;
    case TT_SEARCH_RATE:
        decision->action = TT_ACTION_STOP;
        break;
    case TT_SEARCH_UNRESOLVED:
        *damaged = is_out_of_reach(o, clean);
        return TT_OK;
    case TT_SEARCH_RUNNING:
    case TT_SEARCH_NONDETERMINISM:
        return TT_OK; /* the ladder goes on */
    }
    tt_ladder_found(&o->ladder, decision->action);
    return status;
}

/* ---- the culprit, suspected: live attempts with one optimization off ---- */

/* The optimization that is left out in the next attempt, in reverse precedence; -1: all were. */
static int next_suspect(const tt_orchestrator *o)
{
    int left = o->suspect;
    for (tt_tier tier = TT_TIER_RLVR + 1; tier-- > TT_TIER_NONE;) {
        for (size_t i = 0; i < o->optimization_count; i++) {
            if (o->optimizations[i].tier == tier &&
                tt_optimization_is_on(&o->optimizations[i], o->requested) &&
                o->breakers[i].state != TT_BREAKER_OPEN && left-- == 0) {
                return (int)i;
            }
        }
    }
    return -1;
}

bool tt_resume_suspicion(tt_orchestrator *o)
{
    const tt_history *history = &o->history;
    const tt_decision *last = history->count ? &history->decisions[history->count - 1] : NULL;
    if (!last || o->in_force.switched != last->sequence || !last->on_suspicion) {
        return false;
    }
    o->suspect = 0;
    for (int next = next_suspect(o); next >= 0; next = next_suspect(o)) {
        o->suspect++;
        if (next == last->optimization) {
            break;
        }
    }
    tt_ladder_search_on(&o->ladder, tt_orchestrator_step(o));
    o->next_kind = TT_STEP_SUSPECT;
    o->row_resumed = true;
    return true;
}

/* Without a suspect: the step is as it was. */
static tt_status leave_out(tt_orchestrator *o, int suspect)
{
    tt_decision decision = {.kind = TT_DECISION_SWITCH,
                            .step = o->plan.step,
                            .optimization = suspect < 0 ? 0 : suspect,
                            .on_suspicion = suspect >= 0};
    const tt_optimization *optimization = &o->optimizations[decision.optimization];
    for (size_t i = 0; suspect >= 0 && i < optimization->key_count; i++) {
        tt_change *change = &decision.changes[decision.change_count++];
        snprintf(change->key, sizeof change->key, "%s", optimization->keys[i]);
        tt_configured_text(o->config, optimization->keys[i], change->from);
        snprintf(change->to, sizeof change->to, "%s", optimization->baseline[i]);
    }
    return tt_decide(o, &decision,
                     json_pack("{s:s}", "why",
                               suspect < 0 ? "no suspect was to blame" : "left out on suspicion"));
}

static tt_status suspect(tt_orchestrator *o, tt_gate_decision *decision)
{
    /* (In place, an update that was refused is in the only copy: nothing can be tried from it.) */
    int next = o->dirty ? -1 : next_suspect(o);
    o->suspect++;
    tt_status status = leave_out(o, next);
    if (!status && next >= 0) {
        o->next_kind = TT_STEP_SUSPECT;
        tt_log(o->log, TT_LOG_WARN, "step %lld: once more without %s", (long long)o->plan.step,
               o->optimizations[next].name);
        decision->action = TT_ACTION_SEARCH;
    } else if (!status) {
        decision->action = TT_ACTION_NONE; /* the ladder goes on */
    }
    return status;
}

static bool has_suspects(const tt_orchestrator *o)
{
    return !o->host.run_step && !o->dirty && next_suspect(o) >= 0;
}

/* ---- all of it ---- */

/* Whether the attempt that just tripped was one of a row in which suspects are left out. */
static bool is_suspecting(const tt_orchestrator *o)
{
    return !o->host.run_step && o->ladder.trip_step == o->plan.step &&
           o->ladder.last == TT_ACTION_SEARCH && o->suspect > 0;
}

static tt_status look_into(tt_orchestrator *o, const tt_measurements *measured, int64_t bound,
                           tt_gate_decision *decision, tt_state_place *clean, bool *damaged)
{
    bool again = is_suspecting(o);
    tt_status status = TT_OK;
    decision->action =
        again ? TT_ACTION_SEARCH
              : next_action(o, can_roll_back(o, bound),
                            TT_PROTECTED(SEARCH) && (o->host.run_step || has_suspects(o)));
    if (decision->action != TT_ACTION_SEARCH) {
        return TT_OK;
    }
    if (o->host.run_step) {
        status = search(o, measured, decision, clean, damaged);
    } else {
        o->suspect = again ? o->suspect : 0;
        status = suspect(o, decision);
    }
    bool unresolved = o->host.run_step ? decision->action == TT_ACTION_SEARCH
                                       : decision->action == TT_ACTION_NONE;
    if (!status && unresolved) {
        o->suspect = 0;
        if (o->row_resumed) {
            /* What an earlier process went through before is no reason for this one to leave a
             * batch out sooner: it begins at the first rung. */
            tt_ladder_search_on(&o->ladder, -1);
            o->row_resumed = false;
        }
        decision->action = next_action(o, can_roll_back(o, bound), false);
    }
    return status;
}

static tt_status carry_out(tt_orchestrator *o, int64_t bound, const tt_state_place *clean,
                           tt_gate_decision *decision)
{
    tt_status status = TT_OK;
    if (decision->action == TT_ACTION_ROLLBACK && roll_back(o, bound, clean)) {
        status = pass_over_rollback(o, decision);
    }
    switch (decision->action) {
    case TT_ACTION_RETRY:
        o->next_kind = TT_STEP_RETRY;
        o->totals.retries++;
        break;
    case TT_ACTION_SKIP:
        o->next_kind = TT_STEP_SKIPPING;
        break;
    case TT_ACTION_SEARCH: /* an attempt without a suspect follows */
    case TT_ACTION_DISABLE:
    case TT_ACTION_ROLLBACK:
        break;
    case TT_ACTION_STOP:
    case TT_ACTION_NONE:
        o->stopping = true;
        break;
    }
    return status;
}

tt_status tt_recover(tt_orchestrator *o, const tt_measurements *measured,
                     tt_gate_decision *decision)
{
    tt_state_place clean = {.slot = -1};
    bool damaged = false;
    o->totals.trips++;
    tt_status status = tt_steer_tripped(o);
    if (!measured->updated) {
        tt_slots_give_back(&o->slots, o->plan.write_slot, o->taken_valid);
    }
    name_tensor(o, measured, decision);
    int64_t bound = rollback_bound(o);
    o->dirty = o->slots.count == 1 && measured->updated;
    if (o->ladder.trip_step != o->plan.step) {
        o->verdict[0] = '\0';
    }
    o->next_kind = TT_STEP_NORMAL;
    o->name_next = !isfinite(decision->observed) || decision->limit == 0;
    if (!status) {
        status = look_into(o, measured, bound, decision, &clean, &damaged);
    }
    if (!status) {
        status = announce_trip(o, decision);
    }
    if (!status) {
        status = carry_out(o, bound, damaged ? &clean : NULL, decision);
    }
    o->last_trip = *decision;
    return status;
}
