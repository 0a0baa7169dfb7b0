#include "history.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Numbers and steps of files beyond this are refused: counting on from them must not overflow. */
#define MAX_NUMBER ((int64_t)1 << 53)

void tt_history_init(tt_history *history)
{
    *history = (tt_history){.due = INT64_MAX, .latest = -1, .last_switch = -1};
}

void tt_history_clear(tt_history *history)
{
    free(history->decisions);
    tt_history_init(history);
}

static void note_steps(tt_history *history, const tt_decision *decision)
{
    if (decision->applied && decision->step > history->latest) {
        history->latest = decision->step;
    }
    if (!decision->applied && decision->step < history->due) {
        history->due = decision->step;
    }
    if (decision->kind == TT_DECISION_SWITCH && decision->step > history->last_switch) {
        history->last_switch = decision->step;
    }
}

void tt_history_update(tt_history *history)
{
    history->due = INT64_MAX;
    history->latest = -1;
    history->last_switch = -1;
    for (size_t i = 0; i < history->count; i++) {
        note_steps(history, &history->decisions[i]);
    }
}

static tt_status make_room(tt_history *history)
{
    if (history->count < history->capacity) {
        return TT_OK;
    }
    size_t capacity = history->capacity ? 2 * history->capacity : 16;
    tt_decision *grown = realloc(history->decisions, capacity * sizeof *grown);
    if (!grown) {
        return tt_fail(TT_ENOMEM, "no memory for the history of %zu decisions", capacity);
    }
    history->decisions = grown;
    history->capacity = capacity;
    return TT_OK;
}

tt_status tt_history_add(tt_history *history, const tt_decision *decision)
{
    if (decision->sequence && decision->sequence <= history->last_sequence) {
        return TT_OK;
    }
    tt_status status = make_room(history);
    if (status) {
        return status;
    }
    tt_decision *added = &history->decisions[history->count++];
    *added = *decision;
    if (!added->sequence) {
        added->sequence = history->last_sequence + 1;
    }
    history->last_sequence = added->sequence;
    note_steps(history, added);
    return TT_OK;
}

const tt_decision *tt_history_switch_at(const tt_history *history, int64_t step)
{
    for (size_t i = history->count; step <= history->last_switch && i-- > 0;) {
        const tt_decision *decision = &history->decisions[i];
        if (decision->kind == TT_DECISION_SWITCH && decision->step == step) {
            return decision;
        }
    }
    return NULL;
}

/* ---- names ---- */

static const char *const kind_names[] = {"commit", "revert",   "switch",  "breaker",
                                         "trial",  "baseline", "overhead"};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

static const char *const move_names[] = {
    [TT_ADAPT_HOLD] = "hold", [TT_ADAPT_UP] = "up", [TT_ADAPT_DOWN] = "down"};

/* The index of a name; -1 if it is none of them. */
static int among(const char *name, const char *const *names, int count)
{
    for (int i = 0; name && i < count; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

const char *tt_decision_kind_name(tt_decision_kind kind)
{
    return kind_names[kind];
}

bool tt_decision_is_kind(const char *kind)
{
    return among(kind, kind_names, KINDS) >= 0;
}

/* ---- writing ---- */

static void write_number(json_t *record, const char *name, double value)
{
    json_object_set_new(record, name, isfinite(value) ? json_real(value) : json_null());
}

static json_t *write_changes(const tt_decision *decision)
{
    json_t *changes = json_array();
    for (int i = 0; i < decision->change_count; i++) {
        const tt_change *change = &decision->changes[i];
        json_array_append_new(changes,
                              json_pack("[s, s, s]", change->key, change->from, change->to));
    }
    return changes;
}

json_t *tt_decision_to_json(const tt_decision *decision, const char *optimization)
{
    json_t *record = json_pack("{s:s, s:I, s:I}", "kind", kind_names[decision->kind], "sequence",
                               (json_int_t)decision->sequence, "step", (json_int_t)decision->step);
    if (optimization) {
        json_object_set_new(record, "optimization", json_string(optimization));
    }
    switch (decision->kind) {
    case TT_DECISION_BREAKER:
        json_object_set_new(record, "event", json_string(tt_breaker_event_name(decision->event)));
        return record;
    case TT_DECISION_BASELINE:
        write_number(record, "speedup", decision->input);
        return record;
    case TT_DECISION_OVERHEAD:
        return record;
    case TT_DECISION_COMMIT:
        write_number(record, "gain_seconds", decision->gain_seconds);
        write_number(record, "step_seconds", decision->step_seconds);
        write_number(record, "run_seconds", decision->run_seconds);
        break;
    case TT_DECISION_TRIAL:
        json_object_set_new(record, "outcome",
                            json_string(tt_trial_outcome_name(decision->outcome)));
        break;
    case TT_DECISION_SWITCH:
        json_object_set_new(record, "on_suspicion", json_boolean(decision->on_suspicion));
        break;
    case TT_DECISION_REVERT:
        break;
    }
    if (decision->kind == TT_DECISION_COMMIT || decision->kind == TT_DECISION_TRIAL) {
        json_object_set_new(record, "move", json_string(move_names[decision->move]));
        write_number(record, "input", decision->input);
    }
    json_object_set_new(record, "changes", write_changes(decision));
    return record;
}

/* ---- reading ---- */

static bool read_changes(const json_t *changes, tt_decision *out)
{
    size_t index;
    json_t *entry;
    if (!json_is_array(changes) || json_array_size(changes) > TT_DECISION_CHANGES) {
        return false;
    }
    json_array_foreach(changes, index, entry)
    {
        const char *parts[3];
        for (size_t i = 0; i < 3; i++) {
            parts[i] = json_string_value(json_array_get(entry, i));
            if (!parts[i] ||
                strlen(parts[i]) >= (i ? sizeof out->changes->to : sizeof out->changes->key)) {
                return false;
            }
        }
        tt_change *change = &out->changes[out->change_count++];
        snprintf(change->key, sizeof change->key, "%s", parts[0]);
        snprintf(change->from, sizeof change->from, "%s", parts[1]);
        snprintf(change->to, sizeof change->to, "%s", parts[2]);
    }
    return true;
}

static bool read_event(const char *name, tt_decision *out)
{
    for (tt_breaker_event event = TT_BREAKER_SUSPECT; name && event <= TT_BREAKER_PROBE_LOST;
         event++) {
        if (strcmp(name, tt_breaker_event_name(event)) == 0) {
            out->event = event;
            return true;
        }
    }
    return false;
}

static bool read_outcome(const char *name, tt_decision *out)
{
    for (tt_trial_outcome outcome = TT_TRIAL_RUNNING; name && outcome <= TT_TRIAL_REFUSED;
         outcome++) {
        if (strcmp(name, tt_trial_outcome_name(outcome)) == 0) {
            out->outcome = outcome;
            return true;
        }
    }
    return false;
}

static const char *text_of(const json_t *record, const char *name)
{
    return json_string_value(json_object_get(record, name));
}

/* 0 for what is missing or no number. */
static double number_of(const json_t *record, const char *name)
{
    double value = json_number_value(json_object_get(record, name));
    return isfinite(value) ? value : 0;
}

static bool read_of_kind(const json_t *record, tt_decision *out)
{
    int move = among(text_of(record, "move"), move_names, 3);
    switch (out->kind) {
    case TT_DECISION_BREAKER:
        return read_event(text_of(record, "event"), out);
    case TT_DECISION_BASELINE:
        out->input = number_of(record, "speedup");
        return true;
    case TT_DECISION_OVERHEAD:
        return true;
    case TT_DECISION_SWITCH:
        out->on_suspicion = json_is_true(json_object_get(record, "on_suspicion"));
        break;
    case TT_DECISION_TRIAL:
        if (!read_outcome(text_of(record, "outcome"), out)) {
            return false;
        }
        break;
    case TT_DECISION_COMMIT:
        out->gain_seconds = number_of(record, "gain_seconds");
        out->step_seconds = number_of(record, "step_seconds");
        out->run_seconds = number_of(record, "run_seconds");
        break;
    case TT_DECISION_REVERT:
        break;
    }
    out->move = move > 0 ? (tt_adapt_move)move : TT_ADAPT_HOLD;
    out->input = number_of(record, "input");
    return read_changes(json_object_get(record, "changes"), out);
}

bool tt_decision_from_json(const json_t *record,
                           int (*index_of)(const void *user, const char *name), const void *user,
                           tt_decision *out)
{
    int kind = among(text_of(record, "kind"), kind_names, KINDS);
    *out = (tt_decision){.sequence = json_integer_value(json_object_get(record, "sequence")),
                         .step = json_integer_value(json_object_get(record, "step")),
                         .optimization = -1};
    if (out->sequence < 1 || out->sequence > MAX_NUMBER) {
        out->sequence = 0;
        return false;
    }
    if (kind < 0 || out->step < 0 || out->step > MAX_NUMBER) {
        return false;
    }
    out->kind = (tt_decision_kind)kind;
    if (out->kind != TT_DECISION_BASELINE && out->kind != TT_DECISION_OVERHEAD) {
        const char *name = text_of(record, "optimization");
        out->optimization = name ? index_of(user, name) : -1;
        if (out->optimization < 0) {
            return false;
        }
    }
    return read_of_kind(record, out);
}
