/* The step: plan, judge, publish or climb the ladder. No allocation while all gates pass. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NANOSECONDS = 1000000000 };

static double seconds_since(const tt_orchestrator *o, uint64_t start)
{
    uint64_t now = tt_clock_now(&o->clock);
    return now > start ? (double)(now - start) / NANOSECONDS : 0; /* clocks can jump */
}

static uint64_t ns_since(const tt_orchestrator *o, uint64_t start)
{
    uint64_t now = tt_clock_now(&o->clock);
    return now > start ? now - start : 0;
}

const char *tt_action_name(tt_action action)
{
    static const char *const names[] = {"none", "retry", "rollback", "skip", "stop"};
    return (unsigned)action < sizeof names / sizeof *names ? names[action] : "?";
}

void tt_measurements_init(tt_measurements *measured)
{
    memset(measured, 0, sizeof *measured);
    measured->size = sizeof *measured;
}

void tt_measurements_set(tt_measurements *measured, tt_metric metric, double value)
{
    measured->values[metric] = value;
    measured->present[metric] = true;
}

/* ---- begin ---- */

static tt_status stop_on_request(tt_orchestrator *o, int signal_number)
{
    tt_status status = tt_checkpoint_save(o, false);
    if (status) {
        return tt_fail_in(status, "stopping on signal %d, but the state could not be saved",
                          signal_number);
    }
    return tt_fail(TT_EREQUEUE, "stopped on signal %d after step %lld; saved as %s", signal_number,
                   (long long)tt_orchestrator_step(o), o->latest);
}

/* The rungs that were climbed in vain. */
static const char *tried(const tt_orchestrator *o)
{
    return o->dirty ? "also from an earlier state, and with snapshot.slots 1 the next batch "
                      "cannot be tried"
                    : "also with the next batch";
}

static tt_status stop_at_gate(tt_orchestrator *o)
{
    char reason[256];
    tt_gate_describe(&o->last_trip, reason);
    tt_status status = o->dirty ? TT_OK : tt_checkpoint_save(o, false);
    if (status) {
        return tt_fail_in(status, "step %lld: %s, and the last good state could not be saved",
                          (long long)o->plan.step, reason);
    }
    return tt_fail(TT_EGATE, "step %lld: %s%s%s, %s; the last good state is %s",
                   (long long)o->plan.step, reason,
                   o->last_trip.tensor[0] ? ", first bad tensor " : "", o->last_trip.tensor,
                   tried(o), o->latest);
}

/* A batch that this run has left out before is left out again. */
static int64_t planned_position(const tt_orchestrator *o, const tt_slot *slot)
{
    int64_t position = slot->position;
    for (size_t i = 0; i < o->skip_count; i++) {
        if (o->skips[i].step == slot->step && o->skips[i].from == position) {
            position = o->skips[i].to;
        }
    }
    return position;
}

static tt_status choose_write_slot(tt_orchestrator *o, int *index)
{
    *index = tt_slots_choose(&o->slots);
    if (*index < 0) {
        /* Every other slot is being written to disk: the step waits for it. */
        tt_status status = tt_checkpoint_collect(o, true);
        if (status) {
            return status;
        }
        *index = tt_slots_choose(&o->slots);
    }
    return *index < 0 ? tt_fail(TT_EINTERNAL, "no slot can be written") : TT_OK;
}

tt_status tt_step_begin(tt_orchestrator *o, tt_step_plan *plan)
{
    if (!o->started || o->in_step) {
        return tt_fail(TT_EINVAL, o->started ? "tt_step_begin again before tt_step_end"
                                             : "tt_step_begin before tt_orchestrator_start");
    }
    o->begin_ns = tt_clock_now(&o->clock);
    tt_status status = tt_checkpoint_collect(o, false);
    if (status) {
        return status;
    }
    if (o->stopping) {
        return stop_at_gate(o);
    }
    int signal_number = atomic_load(&o->stop_signal);
    if (signal_number) {
        return stop_on_request(o, signal_number);
    }
    int write_slot;
    uint64_t waited = tt_clock_now(&o->clock);
    status = choose_write_slot(o, &write_slot);
    if (status) {
        return status;
    }
    double waited_seconds = seconds_since(o, waited);
    const tt_slot *slot = &o->slots.slot[o->slots.published];
    int64_t position = planned_position(o, slot);
    if (o->next_kind == TT_STEP_SKIPPING) {
        position += o->batch_sequences;
    }
    o->taken = o->slots.slot[write_slot];
    tt_slots_take(&o->slots, write_slot);
    o->plan = (tt_step_plan){
        .step = slot->step,
        .position = position,
        .read_slot = o->slots.published,
        .write_slot = write_slot,
        .kind = o->next_kind,
        .name_tensors = o->name_next,
        .config = o->config,
    };
    o->in_step = true;
    *plan = o->plan;
    double policy = seconds_since(o, o->begin_ns) - waited_seconds;
    o->policy_ns = o->carried_ns + (policy > 0 ? (uint64_t)(policy * NANOSECONDS) : 0);
    o->carried_ns = 0;
    return TT_OK;
}

tt_status tt_step_check(tt_orchestrator *o, const tt_measurements *measured, bool *proceed)
{
    *proceed = false;
    if (!o->in_step) {
        return tt_fail(TT_EINVAL, "tt_step_check outside tt_step_begin and tt_step_end");
    }
    uint64_t start = tt_clock_now(&o->clock);
    tt_gate_counts discarded = {0}; /* tt_step_end judges, and counts, every gate */
    tt_gate_decision decision = tt_gates_judge(&o->limits, &o->slots.slot[o->plan.read_slot].gates,
                                               TT_GATE_GRADIENT_NORM, measured, &discarded);
    *proceed = decision.verdict != TT_TRIP;
    o->policy_ns += ns_since(o, start);
    return TT_OK;
}

/* ---- end: publish ---- */

static tt_status confirm_skip(tt_orchestrator *o)
{
    const tt_slot *slot = &o->slots.slot[o->plan.read_slot];
    tt_skip skip = {
        .step = o->plan.step, .from = planned_position(o, slot), .to = o->plan.position};
    tt_status status =
        tt_journal_write(o, json_pack("{s:s, s:i, s:I, s:I, s:I, s:s}", "kind", "skip", "attempt",
                                      o->attempt, "step", (json_int_t)skip.step, "from",
                                      (json_int_t)skip.from, "to", (json_int_t)skip.to, "why",
                                      "the step passes with the next batch from the same state"));
    if (status) {
        return status;
    }
    if (o->skip_count < TT_MAX_SKIPS) {
        o->skips[o->skip_count++] = skip;
    }
    o->totals.skips++;
    tt_log(o->log, TT_LOG_WARN,
           "step %lld: the batch at position %lld was the cause and is left out",
           (long long)skip.step, (long long)skip.from);
    return TT_OK;
}

static tt_status publish(tt_orchestrator *o, const tt_measurements *measured)
{
    if (o->plan.kind == TT_STEP_SKIPPING) {
        tt_status status = confirm_skip(o);
        if (status) {
            o->dirty = o->slots.count == 1; /* the update that is not published is in it */
            return status; /* (with more slots the one that was written stays without meaning) */
        }
    } else if (o->plan.kind == TT_STEP_RETRY) {
        tt_log(o->log, TT_LOG_INFO, "step %lld: passes when run again; the fault was transient",
               (long long)o->plan.step);
    }
    tt_slot meaning = o->slots.slot[o->plan.read_slot];
    meaning.step = o->plan.step + 1;
    meaning.position = o->plan.position + o->batch_sequences;
    tt_gates_accept(&meaning.gates, measured);
    tt_slots_publish(&o->slots, o->plan.write_slot, &meaning);
    tt_ladder_pass(&o->ladder, o->plan.step);
    o->totals.published++;
    o->next_kind = TT_STEP_NORMAL;
    o->name_next = false;
    return TT_OK;
}

static tt_status periodic_checkpoint(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    if (o->checkpoint_every <= 0 || step % o->checkpoint_every != 0) {
        return TT_OK;
    }
    if (tt_checkpoint_save(o, o->slots.count > 1)) {
        tt_log(o->log, TT_LOG_WARN,
               "the checkpoint of step %lld was not saved, training goes on: %s", (long long)step,
               tt_error_message());
    }
    return TT_OK;
}

/* ---- end: the ladder ---- */

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
            /* What was published is under suspicion: it is not a state to go back to. */
            o->slots.slot[suspect].valid = false;
            tt_slots_publish(&o->slots, target, &meaning);
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

static tt_status roll_back(tt_orchestrator *o, int64_t bound)
{
    int64_t from = tt_orchestrator_step(o);
    int older = tt_slots_older(&o->slots);
    tt_status status = tt_checkpoint_collect(o, true);
    if (status) {
        return status;
    }
    if (older >= 0) {
        tt_slots_revert(&o->slots, older);
    } else {
        status = restore_checkpoint(o, bound);
        if (status) {
            return tt_fail_in(status, "rolling back from step %lld", (long long)from);
        }
    }
    int64_t to = tt_orchestrator_step(o);
    tt_ladder_rolled_back(&o->ladder, to);
    o->dirty = false;
    o->attempt++;
    o->totals.rollbacks++;
    abandon_later_checkpoints(o, to);
    tt_metrics_write_event(o, json_pack("{s:i, s:s, s:I, s:I}", "attempt", o->attempt, "event",
                                        "rollback", "from_step", (json_int_t)from, "step",
                                        (json_int_t)to));
    tt_log(o->log, TT_LOG_WARN, "rolled back from step %lld to step %lld (%s)", (long long)from,
           (long long)to, older >= 0 ? "an older slot" : o->latest);
    return TT_OK;
}

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

/* The rung that comes next, as far as this run can climb it. */
static tt_action next_action(tt_orchestrator *o, bool can_rollback)
{
    tt_action action = tt_ladder_trip(&o->ladder, o->plan.step, can_rollback);
    if (o->dirty && action == TT_ACTION_RETRY) {
        /* With one slot the update is already in the only copy: only a checkpoint is clean. */
        action = tt_ladder_trip(&o->ladder, o->plan.step, can_rollback);
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
        o, json_pack("{s:s, s:i, s:I, s:I, s:s, s:o, s:o, s:b, s:o, s:s}", "kind", "trip",
                     "attempt", o->attempt, "step", (json_int_t)o->plan.step, "position",
                     (json_int_t)o->plan.position, "gate", decision->gate, "observed",
                     number_or_null(decision->observed), "limit", number_or_null(decision->limit),
                     "missing", decision->missing, "tensor", tt_json_text(decision->tensor),
                     "action", tt_action_name(decision->action)));
}

/* No older state could be had: the ladder goes on without. */
static tt_status pass_over_rollback(tt_orchestrator *o, tt_gate_decision *decision)
{
    json_t *why = tt_json_text(tt_error_message());
    decision->action = next_action(o, false);
    tt_log(o->log, TT_LOG_WARN, "%s; %s instead", tt_error_message(),
           tt_action_name(decision->action));
    return tt_journal_write(o, json_pack("{s:s, s:i, s:I, s:o, s:s}", "kind", "rollback_failed",
                                         "attempt", o->attempt, "step", (json_int_t)o->plan.step,
                                         "why", why, "action", tt_action_name(decision->action)));
}

static tt_status climb(tt_orchestrator *o, const tt_measurements *measured,
                       tt_gate_decision *decision)
{
    o->totals.trips++;
    if (!measured->updated) {
        tt_slots_give_back(&o->slots, o->plan.write_slot, &o->taken);
    }
    name_tensor(o, measured, decision);
    int64_t bound = rollback_bound(o);
    o->dirty = o->slots.count == 1 && measured->updated;
    decision->action = next_action(o, can_roll_back(o, bound));
    o->next_kind = TT_STEP_NORMAL;
    o->name_next = !isfinite(decision->observed) || decision->limit == 0;
    tt_status status = announce_trip(o, decision);
    if (!status && decision->action == TT_ACTION_ROLLBACK && roll_back(o, bound)) {
        status = pass_over_rollback(o, decision);
    }
    o->last_trip = *decision;
    if (status) {
        return status;
    }
    switch (decision->action) {
    case TT_ACTION_RETRY:
        o->next_kind = TT_STEP_RETRY;
        o->totals.retries++;
        break;
    case TT_ACTION_SKIP:
        o->next_kind = TT_STEP_SKIPPING;
        break;
    case TT_ACTION_ROLLBACK:
        break;
    case TT_ACTION_STOP:
    case TT_ACTION_NONE:
        o->stopping = true;
        break;
    }
    return TT_OK;
}

/* ---- end ---- */

static tt_step_record *new_record(tt_orchestrator *o, const tt_measurements *measured)
{
    static const double missing = NAN;
    const double *values = measured->values;
    const bool *present = measured->present;
    tt_step_record *record = &o->records[o->record_count++ % TT_RECORD_RING];
    *record = (tt_step_record){
        .step = o->plan.step,
        .position = o->plan.position,
        .attempt = o->attempt,
        .loss = present[TT_METRIC_LOSS] ? values[TT_METRIC_LOSS] : missing,
        .gradient_norm =
            present[TT_METRIC_GRADIENT_NORM] ? values[TT_METRIC_GRADIENT_NORM] : missing,
        .update_norm = present[TT_METRIC_UPDATE_NORM] ? values[TT_METRIC_UPDATE_NORM] : missing,
        .learning_rate =
            present[TT_METRIC_LEARNING_RATE] ? values[TT_METRIC_LEARNING_RATE] : missing,
        .tokens = measured->tokens,
        .forward_seconds = measured->forward_seconds,
        .backward_seconds = measured->backward_seconds,
        .update_seconds = measured->update_seconds,
    };
    return record;
}

tt_status tt_step_end(tt_orchestrator *o, const tt_measurements *measured, tt_step_record *out)
{
    if (!o->in_step || measured->size != sizeof *measured) {
        return tt_fail(TT_EINVAL, o->in_step ? "tt_step_end with another version's measurements"
                                             : "tt_step_end without tt_step_begin");
    }
    uint64_t start = tt_clock_now(&o->clock);
    o->in_step = false;
    tt_step_record *record = new_record(o, measured);
    tt_gate_decision decision = tt_gates_judge(&o->limits, &o->slots.slot[o->plan.read_slot].gates,
                                               TT_GATE_UPDATE_FINITE, measured, &o->gate_counts);
    tt_status status;
    if (decision.verdict == TT_TRIP) {
        record->decision = decision;
        status = climb(o, measured, &record->decision);
    } else if (!measured->updated) {
        tt_slots_give_back(&o->slots, o->plan.write_slot, &o->taken);
        status = tt_fail(TT_EINVAL, "all gates pass at step %lld but the job did not update",
                         (long long)o->plan.step);
    } else {
        record->decision = decision;
        record->published = true;
        status = publish(o, measured);
    }
    double policy = (double)(o->policy_ns + ns_since(o, start)) / (double)NANOSECONDS;
    record->policy_seconds = policy;
    record->seconds = seconds_since(o, o->begin_ns);
    o->totals.policy_seconds += policy;
    o->totals.step_seconds += record->seconds;
    start = tt_clock_now(&o->clock);
    tt_metrics_write_step(o, record);
    o->carried_ns = ns_since(o, start);
    if (!status && record->published) {
        status = periodic_checkpoint(o);
    }
    if (out) {
        *out = *record;
    }
    return status;
}

const tt_step_record *tt_orchestrator_record(const tt_orchestrator *o, size_t back)
{
    if (back >= TT_RECORD_RING || back >= o->record_count) {
        return NULL;
    }
    return &o->records[(o->record_count - 1 - back) % TT_RECORD_RING];
}
