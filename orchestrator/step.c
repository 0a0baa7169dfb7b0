/* The step: plan, judge, publish or climb the ladder. No allocation while all gates pass. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NANOSECONDS = 1000000000 };

static double seconds_since(const tt_orchestrator *o, uint64_t start)
{
    uint64_t now = tt_clock_now(&o->clock);
    bool forwards = now > start || !TT_PROTECTED(CLOCK);
    return forwards ? (double)(now - start) / NANOSECONDS : 0; /* clocks can jump */
}

static uint64_t ns_since(const tt_orchestrator *o, uint64_t start)
{
    uint64_t now = tt_clock_now(&o->clock);
    return now > start ? now - start : 0;
}

const char *tt_action_name(tt_action action)
{
    static const char *const names[] = {"none",     "retry", "search", "disable",
                                        "rollback", "skip",  "stop"};
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

void tt_measurements_set_error(tt_measurements *measured, int target, double value)
{
    measured->errors[target] = value;
    measured->error_present[target] = true;
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
    if (o->verdict[0]) {
        return o->verdict;
    }
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
    return tt_fail(TT_EGATE, "step %lld: %s%s%s; %s; the last good state is %s",
                   (long long)o->plan.step, reason,
                   o->last_trip.tensor[0] ? ", first bad tensor " : "", o->last_trip.tensor,
                   tried(o), o->latest);
}

static tt_status choose_write_slot(tt_orchestrator *o, int *index)
{
    *index = tt_slots_choose(&o->slots);
    o->waited_seconds = 0;
    if (*index < 0) {
        /* Every other slot is being written to disk: the step waits for it. */
        uint64_t start = tt_clock_now(&o->clock);
        tt_status status = tt_checkpoint_collect(o, true);
        o->waited_seconds = seconds_since(o, start);
        if (status) {
            return status;
        }
        *index = tt_slots_choose(&o->slots);
    }
    return *index < 0 ? tt_fail(TT_EINTERNAL, "no slot can be written") : TT_OK;
}

/* What is due at a step boundary: decisions that take effect here, and a trial's shadow step. The
 * time of shadow steps is not the step's. */
static tt_status reach_boundary(tt_orchestrator *o)
{
    tt_status status = tt_follow(o, tt_orchestrator_step(o));
    if (!status && o->next_kind == TT_STEP_NORMAL) {
        status = tt_resume_suspicion(o) ? TT_OK : tt_steer_begin(o);
    }
    return status;
}

static tt_status may_begin(tt_orchestrator *o)
{
    if (!o->started || o->in_step) {
        return tt_fail(TT_EINVAL, o->started ? "tt_step_begin again before tt_step_end"
                                             : "tt_step_begin before tt_orchestrator_start");
    }
    tt_status status = tt_checkpoint_collect(o, false);
    if (status) {
        return status;
    }
    if (o->stopping) {
        return stop_at_gate(o);
    }
    int signal_number = atomic_load(&o->stop_signal);
    return signal_number ? stop_on_request(o, signal_number) : TT_OK;
}

tt_status tt_step_begin(tt_orchestrator *o, tt_step_plan *plan)
{
    tt_status status = may_begin(o);
    if (status) {
        return status;
    }
    uint64_t arrived = tt_clock_now(&o->clock);
    double shadow = o->totals.trial_seconds;
    status = reach_boundary(o);
    if (status) {
        return status;
    }
    shadow = o->totals.trial_seconds - shadow;
    double boundary = seconds_since(o, arrived) - shadow;
    o->begin_ns = tt_clock_now(&o->clock);
    int write_slot;
    status = choose_write_slot(o, &write_slot);
    if (status) {
        return status;
    }
    const tt_slot *slot = &o->slots.slot[o->slots.published];
    int64_t position = tt_planned_position(o, slot->step, slot->position);
    if (o->next_kind == TT_STEP_SKIPPING) {
        position += o->batch_sequences;
    }
    o->taken_valid = o->slots.slot[write_slot].valid;
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
    o->policy_ns = o->carried_ns + (boundary > 0 ? (uint64_t)(boundary * NANOSECONDS) : 0);
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
    /* tt_step_end judges, and counts, every gate. */
    tt_gate_decision decision = tt_gates_judge(&o->limits, &o->slots.slot[o->plan.read_slot].gates,
                                               &o->targets, TT_GATES_BEFORE_UPDATE, measured, NULL);
    *proceed = decision.verdict != TT_TRIP;
    o->policy_ns += ns_since(o, start);
    return TT_OK;
}

/* ---- end: publish ---- */

static tt_status confirm_skip(tt_orchestrator *o)
{
    const tt_slot *slot = &o->slots.slot[o->plan.read_slot];
    tt_skip skip = {.step = o->plan.step,
                    .from = tt_planned_position(o, slot->step, slot->position),
                    .to = o->plan.position};
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

/* The step passed without the optimization that was left out: a suspicion, not a proof. */
static tt_status confirm_suspicion(tt_orchestrator *o)
{
    const tt_decision *left_out = tt_history_switch_at(&o->history, o->plan.step);
    if (!left_out || left_out->change_count == 0) {
        return TT_OK; /* no suspect was left out any more */
    }
    int suspect = left_out->optimization;
    tt_breaker breaker = o->breakers[suspect];
    bool half_open = breaker.state == TT_BREAKER_HALF_OPEN;
    tt_breaker_event event = half_open ? TT_BREAKER_PROBE_BAD : TT_BREAKER_SUSPECT;
    bool opens = tt_breaker_take(&breaker, event, o->plan.step + 1);
    o->totals.breakers_opened += opens;
    o->suspect = 0;
    tt_log(o->log, TT_LOG_WARN, "step %lld passes without %s, which is suspected%s",
           (long long)o->plan.step, o->optimizations[suspect].name,
           opens ? " once too often and turned off" : "");
    return tt_decide_breaker(o, suspect, event, o->plan.step + 1, "the step passes without it");
}

static tt_status publish(tt_orchestrator *o, const tt_measurements *measured)
{
    if (o->plan.kind == TT_STEP_SKIPPING) {
        tt_status status = confirm_skip(o);
        if (status) {
            o->dirty = o->slots.count == 1; /* the update that is not published is in it */
            return status; /* (with more slots the one that was written stays without meaning) */
        }
    } else if (o->plan.kind == TT_STEP_SUSPECT) {
        tt_status status = confirm_suspicion(o);
        if (status) {
            o->dirty = o->slots.count == 1;
            return status;
        }
    } else if (o->plan.kind == TT_STEP_RETRY) {
        tt_log(o->log, TT_LOG_INFO, "step %lld: passes when run again; the fault was transient",
               (long long)o->plan.step);
    }
    tt_slot *slot = tt_slots_derive(&o->slots, o->plan.write_slot, o->plan.read_slot);
    slot->step = o->plan.step + 1;
    slot->position = o->plan.position + o->batch_sequences;
    tt_gates_accept(&slot->gates, &o->targets, measured);
    tt_slots_show(&o->slots, o->plan.write_slot);
    tt_ladder_pass(&o->ladder, o->plan.step);
    o->totals.published++;
    o->next_kind = TT_STEP_NORMAL;
    o->name_next = false;
    o->row_resumed = false;
    return TT_OK;
}

static tt_status periodic_checkpoint(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    bool wanted = tt_ladder_wants_state(&o->ladder, step);
    if (!wanted && (o->checkpoint_every <= 0 || step % o->checkpoint_every != 0)) {
        return TT_OK;
    }
    /* (What a search is to begin from must be there when it begins.) */
    if (tt_checkpoint_save(o, !wanted && o->slots.count > 1 && TT_PROTECTED(BACKGROUND))) {
        tt_log(o->log, TT_LOG_WARN,
               "the checkpoint of step %lld was not saved, training goes on: %s", (long long)step,
               tt_error_message());
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

/* A warning is said once for as long as it lasts. */
static void warn(tt_orchestrator *o, const tt_gate_decision *decision)
{
    if (decision->verdict != TT_WARN) {
        return;
    }
    const tt_step_record *before = tt_orchestrator_record(o, 1);
    if (before && before->decision.verdict == TT_WARN &&
        strcmp(before->decision.gate, decision->gate) == 0) {
        return;
    }
    char reason[256];
    o->totals.warnings++;
    tt_log(o->log, TT_LOG_WARN, "step %lld: %s", (long long)o->plan.step,
           tt_gate_describe(decision, reason));
}

/* What comes after the record is made counts as the next one's policy; a shadow step and a
 * checkpoint do not. */
static tt_status leave_step(tt_orchestrator *o, const tt_step_record *record,
                            const tt_measurements *measured, tt_status status)
{
    uint64_t start = tt_clock_now(&o->clock);
    double shadow = o->totals.trial_seconds;
    tt_metrics_write_step(o, start);
    if (!status && record->published) {
        status = tt_steer_published(o, record, measured);
    }
    shadow = o->totals.trial_seconds - shadow;
    double carried = seconds_since(o, start) - shadow;
    o->carried_ns = carried > 0 ? (uint64_t)(carried * NANOSECONDS) : 0;
    return status || !record->published ? status : periodic_checkpoint(o);
}

/* A step that ended before its update is not to be blamed for what only an update shows. */
static tt_gate_decision judge(tt_orchestrator *o, const tt_measurements *measured)
{
    const tt_gate_state *state = &o->slots.slot[o->plan.read_slot].gates;
    tt_gate_phase phase = TT_GATES_ALL;
    if (!measured->updated &&
        tt_gates_judge(&o->limits, state, &o->targets, TT_GATES_BEFORE_UPDATE, measured, NULL)
                .verdict == TT_TRIP) {
        phase = TT_GATES_BEFORE_UPDATE;
    }
    return tt_gates_judge(&o->limits, state, &o->targets, phase, measured, &o->gate_counts);
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
    tt_gate_decision decision = judge(o, measured);
    tt_status status;
    double replayed = o->totals.search_seconds;
    record->seconds = tt_believable_seconds(o, seconds_since(o, o->begin_ns));
    if (decision.verdict == TT_TRIP) {
        record->decision = decision;
        status = tt_recover(o, measured, &record->decision);
    } else if (!measured->updated) {
        tt_slots_give_back(&o->slots, o->plan.write_slot, o->taken_valid);
        status = tt_fail(TT_EINVAL, "all gates pass at step %lld but the job did not update",
                         (long long)o->plan.step);
    } else {
        warn(o, &decision);
        record->decision = decision;
        record->published = true;
        status = publish(o, measured);
    }
    replayed = o->totals.search_seconds - replayed;
    double policy = (double)(o->policy_ns + ns_since(o, start)) / (double)NANOSECONDS - replayed;
    record->policy_seconds = policy > 0 ? tt_believable_seconds(o, policy) : 0;
    o->totals.policy_seconds += record->policy_seconds;
    o->totals.step_seconds += record->seconds;
    status = leave_step(o, record, measured, status);
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
