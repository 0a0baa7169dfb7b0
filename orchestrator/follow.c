/* Decisions: journaled before they take effect, taken back when the run goes back, followed when it
 * comes again. What the run knows of breakers, refusals and gains is read off them. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

static int index_of(const void *user, const char *name)
{
    const tt_orchestrator *o = user;
    for (size_t i = 0; i < o->optimization_count; i++) {
        if (strcmp(o->optimizations[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static const char *name_of(const tt_orchestrator *o, const tt_decision *decision)
{
    return decision->optimization < 0 ? NULL : o->optimizations[decision->optimization].name;
}

tt_status tt_decide(tt_orchestrator *o, tt_decision *decision, json_t *extra)
{
    decision->sequence = o->history.last_sequence + 1;
    decision->applied = false;
    json_t *record = tt_decision_to_json(decision, name_of(o, decision));
    json_object_set_new(record, "attempt", json_integer(o->attempt));
    if (extra) {
        json_object_update_missing(record, extra);
        json_decref(extra);
    }
    tt_status status = tt_journal_write(o, record);
    return status ? status : tt_history_add(&o->history, decision);
}

tt_status tt_decide_breaker(tt_orchestrator *o, int optimization, tt_breaker_event event,
                            int64_t step, const char *why)
{
    tt_decision decision = {
        .kind = TT_DECISION_BREAKER, .step = step, .optimization = optimization, .event = event};
    return tt_decide(o, &decision, json_pack("{s:o}", "why", tt_json_text(why)));
}

/* ---- values ---- */

static bool moves_values(const tt_decision *decision)
{
    return decision->kind == TT_DECISION_COMMIT || decision->kind == TT_DECISION_REVERT;
}

bool tt_may_move(const tt_orchestrator *o, const tt_decision *decision)
{
    for (int i = 0; i < decision->change_count; i++) {
        const char *key = decision->changes[i].key;
        bool left_out = decision->kind == TT_DECISION_SWITCH && decision->on_suspicion;
        if (!tt_params_find(o->params, key) ||
            (!left_out && tt_config_is_pinned(o->requested, key))) {
            return false;
        }
    }
    return true;
}

/* Takes `next` over. */
static void move_on(tt_orchestrator *o, tt_config *next)
{
    if (o->config == o->requested) {
        o->config = next; /* until tt_configure looks again */
    }
    tt_config_destroy(o->derived);
    o->derived = next;
    o->requested = next;
}

/* Values of a decision, forwards or back. */
static tt_status move_values(tt_orchestrator *o, const tt_decision *decision, bool forwards)
{
    if (!tt_may_move(o, decision)) {
        return TT_OK;
    }
    char origin[96];
    snprintf(origin, sizeof origin, "%s of %s at step %lld%s",
             tt_decision_kind_name(decision->kind), name_of(o, decision), (long long)decision->step,
             forwards ? "" : " taken back");
    tt_change changes[TT_DECISION_CHANGES];
    for (int i = 0; i < decision->change_count; i++) {
        changes[i] = decision->changes[i];
        if (!forwards) {
            memcpy(changes[i].to, decision->changes[i].from, sizeof changes[i].to);
        }
    }
    tt_config *next = NULL;
    tt_status status =
        tt_configure_changes(o->requested, changes, decision->change_count, origin, &next);
    if (!status && next) {
        move_on(o, next);
    }
    return status;
}

/* Legal as it was when it was decided; but a user may have changed other values since. */
static tt_status resolve_again(tt_orchestrator *o)
{
    tt_config *next = NULL;
    tt_status status = tt_orchestrator_resolve(o, o->requested, &next);
    if (!status && next) {
        move_on(o, next);
    }
    return status;
}

const char *tt_decided_value(const tt_orchestrator *o, const char *key)
{
    for (size_t i = o->history.count; i-- > 0;) {
        const tt_decision *decision = &o->history.decisions[i];
        for (int k = 0; moves_values(decision) && decision->applied && k < decision->change_count;
             k++) {
            if (strcmp(decision->changes[k].key, key) == 0) {
                return decision->changes[k].to;
            }
        }
    }
    return NULL;
}

/* ---- what follows from all of them ---- */

/* The keys of an optimization take turns. */
static void note_turn(tt_orchestrator *o, const tt_decision *decision)
{
    const tt_optimization *optimization = &o->optimizations[decision->optimization];
    for (size_t k = 0; decision->change_count > 0 && k < optimization->key_count; k++) {
        if (strcmp(optimization->keys[k], decision->changes[0].key) == 0) {
            o->turn[decision->optimization] = (int)((k + 1) % optimization->key_count);
        }
    }
}

/* In the order in which they were decided, whatever their steps: a conviction comes after the
 * probes that had closed the breaker in a future that was taken back, also once the run has come
 * there again. */
static bool take_event(tt_breaker *breakers, const tt_decision *decision)
{
    return tt_breaker_take(&breakers[decision->optimization], decision->event, decision->step);
}

static void take_in(tt_orchestrator *o, const tt_decision *decision)
{
    switch (decision->kind) {
    case TT_DECISION_BREAKER:
        if (take_event(o->breakers, decision)) {
            o->speedup.present = false; /* it was of another configuration */
        }
        return;
    case TT_DECISION_COMMIT:
        note_turn(o, decision);
        o->speedup.present = false;
        return;
    case TT_DECISION_REVERT:
        o->speedup.present = false;
        return;
    case TT_DECISION_TRIAL:
        note_turn(o, decision);
        if (decision->outcome != TT_TRIAL_ABANDONED) { /* that is no finding */
            tt_adapt_remember(&o->refusals[decision->optimization], decision->move, decision->input,
                              decision->step);
        }
        return;
    case TT_DECISION_BASELINE:
        o->speedup = (tt_adapt_input){.present = decision->input > 0, .value = decision->input};
        o->speedup_step = decision->step;
        return;
    case TT_DECISION_OVERHEAD:
        o->trials_stopped = true;
        return;
    case TT_DECISION_SWITCH:
        return;
    }
}

static void fold(tt_orchestrator *o)
{
    for (size_t i = 0; i < o->optimization_count; i++) {
        tt_breaker_init(&o->breakers[i]);
    }
    memset(o->refusals, 0, sizeof o->refusals);
    memset(o->turn, 0, sizeof o->turn);
    o->speedup = (tt_adapt_input){.present = false};
    o->speedup_step = -1;
    o->trials_stopped = false;
    for (size_t i = 0; i < o->history.count; i++) {
        const tt_decision *decision = &o->history.decisions[i];
        if (decision->applied) {
            take_in(o, decision);
        }
    }
}

/* ---- what was in force at an older step ---- */

static uint32_t off_at(const tt_orchestrator *o, int64_t step)
{
    tt_breaker breakers[TT_MAX_OPTIMIZATIONS];
    for (size_t i = 0; i < o->optimization_count; i++) {
        tt_breaker_init(&breakers[i]);
    }
    for (size_t i = 0; i < o->history.count; i++) {
        const tt_decision *decision = &o->history.decisions[i];
        if (decision->kind == TT_DECISION_BREAKER && decision->applied && decision->step <= step) {
            (void)take_event(breakers, decision);
        }
    }
    return tt_breakers_off(o, breakers);
}

/* Takes one more set of changes in: *now is what there is so far. */
static tt_status change_on(const tt_config **now, tt_config **owned, const tt_change *changes,
                           int count)
{
    tt_config *next = NULL;
    tt_status status = tt_configure_changes(*now, changes, count, "as it was", &next);
    if (!status && next) {
        tt_config_destroy(*owned);
        *owned = next;
        *now = next;
    }
    return status;
}

static tt_status values_at(const tt_orchestrator *o, int64_t step, const tt_config **now,
                           tt_config **owned)
{
    tt_status status = TT_OK;
    for (size_t i = o->history.count; !status && i-- > 0;) {
        const tt_decision *decision = &o->history.decisions[i];
        if (moves_values(decision) && decision->applied && decision->step > step &&
            tt_may_move(o, decision)) {
            tt_change back[TT_DECISION_CHANGES];
            for (int k = 0; k < decision->change_count; k++) {
                back[k] = decision->changes[k];
                memcpy(back[k].to, decision->changes[k].from, sizeof back[k].to);
            }
            status = change_on(now, owned, back, decision->change_count);
        }
    }
    return status;
}

tt_status tt_config_at(const tt_orchestrator *o, int64_t step, uint32_t off, tt_config **out)
{
    const tt_config *now = o->requested;
    tt_config *owned = NULL;
    tt_config *less = NULL;
    const tt_decision *switched = tt_history_switch_at(&o->history, step);
    tt_status status = values_at(o, step, &now, &owned);
    if (!status && switched && tt_may_move(o, switched)) {
        status = change_on(&now, &owned, switched->changes, switched->change_count);
    }
    if (!status) {
        status = tt_configure_off(o, now, off_at(o, step) | off, &less);
    }
    if (status || less) {
        tt_config_destroy(owned);
        owned = less;
    }
    *out = owned;
    return status;
}

/* ---- taking back and following ---- */

static tt_status take_back(tt_orchestrator *o, int64_t step, bool *moved)
{
    tt_status status = TT_OK;
    for (size_t i = o->history.count; !status && i-- > 0;) {
        tt_decision *decision = &o->history.decisions[i];
        if (decision->applied && decision->step > step) {
            if (moves_values(decision)) {
                status = move_values(o, decision, false);
                *moved = true;
            }
            decision->applied = false;
        }
    }
    return status;
}

static tt_status catch_up(tt_orchestrator *o, int64_t step, bool *moved)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < o->history.count; i++) {
        tt_decision *decision = &o->history.decisions[i];
        if (!decision->applied && decision->step <= step) {
            if (moves_values(decision)) {
                status = move_values(o, decision, true);
                *moved = true;
            }
            decision->applied = true;
        }
    }
    return status;
}

tt_status tt_follow(tt_orchestrator *o, int64_t step)
{
    tt_history *history = &o->history;
    bool moved = false;
    if (history->latest > step || history->due <= step) {
        tt_status status = take_back(o, step, &moved);
        if (!status) {
            status = catch_up(o, step, &moved);
        }
        tt_history_update(history);
        fold(o);
        if (!status && moved) {
            tt_forget_errors(o);
            status = resolve_again(o);
        }
        if (status) {
            return tt_fail_in(status, "following the decisions of step %lld", (long long)step);
        }
    }
    tt_status status = tt_configure(o, step, false);
    return status ? tt_fail_in(status, "configuring step %lld", (long long)step) : TT_OK;
}

/* ---- reading and writing ---- */

tt_status tt_history_read(tt_orchestrator *o, const json_t *records, int64_t applied_step)
{
    size_t index;
    json_t *record;
    tt_status status = TT_OK;
    json_array_foreach(records, index, record)
    {
        tt_decision decision;
        if (status) {
            break;
        }
        if (tt_decision_from_json(record, index_of, o, &decision)) {
            decision.applied = decision.step <= applied_step;
            status = tt_history_add(&o->history, &decision);
        } else if (decision.sequence > o->history.last_sequence) {
            /* Of an optimization that this run does not have: kept for a run that has it again. */
            o->history.last_sequence = decision.sequence;
            json_array_append(o->unread, record);
        }
    }
    fold(o);
    return status;
}

static json_int_t sequence_of(const json_t *record)
{
    return json_integer_value(json_object_get(record, "sequence"));
}

json_t *tt_history_to_json(const tt_orchestrator *o)
{
    json_t *records = json_array();
    size_t unread = 0;
    for (size_t i = 0; i <= o->history.count; i++) {
        const tt_decision *decision = i < o->history.count ? &o->history.decisions[i] : NULL;
        json_t *other = json_array_get(o->unread, unread);
        while (other && (!decision || sequence_of(other) < decision->sequence)) {
            json_array_append(records, other);
            other = json_array_get(o->unread, ++unread);
        }
        if (decision) {
            json_array_append_new(records, tt_decision_to_json(decision, name_of(o, decision)));
        }
    }
    return records;
}
