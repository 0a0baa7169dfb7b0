#include "history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tt_history_clear(tt_history *history)
{
    free(history->decisions);
    memset(history, 0, sizeof *history);
}

tt_status tt_history_add(tt_history *history, const tt_decision *decision)
{
    int64_t last = history->count ? history->decisions[history->count - 1].sequence : 0;
    if (decision->sequence && decision->sequence <= last) {
        return TT_OK;
    }
    if (history->count == history->capacity) {
        size_t capacity = history->capacity ? 2 * history->capacity : 16;
        tt_decision *grown = realloc(history->decisions, capacity * sizeof *grown);
        if (!grown) {
            return tt_fail(TT_ENOMEM, "no memory for the history of %zu decisions", capacity);
        }
        history->decisions = grown;
        history->capacity = capacity;
    }
    tt_decision *added = &history->decisions[history->count++];
    *added = *decision;
    if (!added->sequence) {
        added->sequence = last + 1;
    }
    history->next_sequence = added->sequence + 1;
    return TT_OK;
}

static const char *const kind_names[] = {"commit", "revert", "switch", "breaker"};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

const char *tt_decision_kind_name(tt_decision_kind kind)
{
    return kind_names[kind];
}

json_t *tt_decision_to_json(const tt_decision *decision, const char *optimization)
{
    json_t *record = json_pack("{s:s, s:I, s:I, s:s}", "kind", kind_names[decision->kind],
                               "sequence", (json_int_t)decision->sequence, "step",
                               (json_int_t)decision->step, "optimization", optimization);
    if (decision->kind == TT_DECISION_BREAKER) {
        json_object_set_new(record, "event", json_string(tt_breaker_event_name(decision->event)));
        return record;
    }
    json_t *changes = json_array();
    for (int i = 0; i < decision->change_count; i++) {
        const tt_change *change = &decision->changes[i];
        json_array_append_new(changes,
                              json_pack("[s, s, s]", change->key, change->from, change->to));
    }
    json_object_set_new(record, "changes", changes);
    if (decision->kind == TT_DECISION_COMMIT) {
        json_object_set_new(record, "gain_seconds", json_real(decision->gain_seconds));
    }
    return record;
}

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

bool tt_decision_from_json(const json_t *record,
                           int (*index_of)(const void *user, const char *name), const void *user,
                           tt_decision *out)
{
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const char *name = json_string_value(json_object_get(record, "optimization"));
    *out = (tt_decision){.sequence = json_integer_value(json_object_get(record, "sequence")),
                         .step = json_integer_value(json_object_get(record, "step"))};
    int found = -1;
    for (int i = 0; kind && i < KINDS; i++) {
        found = strcmp(kind, kind_names[i]) == 0 ? i : found;
    }
    if (found < 0 || !name || out->sequence < 1 || out->step < 0) {
        return false;
    }
    out->kind = (tt_decision_kind)found;
    out->optimization = index_of(user, name);
    if (out->optimization < 0) {
        return false;
    }
    if (out->kind == TT_DECISION_BREAKER) {
        return read_event(json_string_value(json_object_get(record, "event")), out);
    }
    out->gain_seconds = json_number_value(json_object_get(record, "gain_seconds"));
    return read_changes(json_object_get(record, "changes"), out);
}
