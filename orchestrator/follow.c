/* Decisions: journaled before they take effect, taken back when the run goes back, followed when it
 * comes again. */
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

tt_status tt_decide(tt_orchestrator *o, tt_decision *decision, json_t *extra)
{
    decision->sequence = o->history.next_sequence > 0 ? o->history.next_sequence : 1;
    json_t *record = tt_decision_to_json(decision, o->optimizations[decision->optimization].name);
    json_object_set_new(record, "attempt", json_integer(o->attempt));
    if (extra) {
        json_object_update(record, extra);
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

/* ---- taking back and following ---- */

/* Values of a decision, forwards or back; what a user has set anew since is left alone. */
static tt_status move_values(tt_orchestrator *o, const tt_decision *decision, bool forwards)
{
    char origin[96];
    snprintf(origin, sizeof origin, "%s of %s at step %lld", tt_decision_kind_name(decision->kind),
             o->optimizations[decision->optimization].name, (long long)decision->step);
    tt_change changes[TT_DECISION_CHANGES];
    int count = 0;
    for (int i = 0; i < decision->change_count; i++) {
        const tt_change *change = &decision->changes[i];
        if (!tt_params_find(o->params, change->key) ||
            tt_config_is_pinned(o->requested, change->key)) {
            continue;
        }
        changes[count] = *change;
        if (!forwards) {
            memcpy(changes[count].to, change->from, sizeof change->from);
        }
        count++;
    }
    tt_config *next = NULL;
    tt_status status = tt_configure_changes(o->requested, changes, count, origin, &next);
    if (!status && next) {
        bool in_force = o->config == o->requested;
        if (in_force) {
            o->config = next; /* until tt_configure looks again */
        }
        tt_config_destroy(o->derived);
        o->derived = next;
        o->requested = next;
    }
    return status;
}

static bool moves_values(const tt_decision *decision)
{
    return decision->kind == TT_DECISION_COMMIT || decision->kind == TT_DECISION_REVERT;
}

static void fold_breakers(tt_orchestrator *o)
{
    for (size_t i = 0; i < o->optimization_count; i++) {
        tt_breaker_init(&o->breakers[i]);
    }
    for (size_t i = 0; i < o->history.count; i++) {
        const tt_decision *decision = &o->history.decisions[i];
        if (decision->kind == TT_DECISION_BREAKER && decision->applied) {
            tt_breaker_take(&o->breakers[decision->optimization], decision->event, decision->step);
        }
    }
}

tt_status tt_follow(tt_orchestrator *o, int64_t step)
{
    tt_history *history = &o->history;
    tt_status status = TT_OK;
    bool changed = false;
    for (size_t i = history->count; !status && i-- > 0;) {
        tt_decision *decision = &history->decisions[i];
        if (decision->applied && decision->step > step) {
            status = moves_values(decision) ? move_values(o, decision, false) : TT_OK;
            decision->applied = false;
            changed = true;
        }
    }
    for (size_t i = 0; !status && i < history->count; i++) {
        tt_decision *decision = &history->decisions[i];
        if (!decision->applied && decision->step <= step) {
            status = moves_values(decision) ? move_values(o, decision, true) : TT_OK;
            decision->applied = true;
            changed = true;
        }
    }
    if (changed) {
        fold_breakers(o);
    }
    return status ? status : tt_configure(o, step, false);
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
        if (status || !tt_decision_from_json(record, index_of, o, &decision)) {
            continue;
        }
        decision.applied = decision.step <= applied_step;
        status = tt_history_add(&o->history, &decision);
    }
    fold_breakers(o);
    return status;
}

json_t *tt_history_to_json(const tt_orchestrator *o)
{
    json_t *records = json_array();
    for (size_t i = 0; i < o->history.count; i++) {
        const tt_decision *decision = &o->history.decisions[i];
        json_array_append_new(
            records, tt_decision_to_json(decision, o->optimizations[decision->optimization].name));
    }
    return records;
}
