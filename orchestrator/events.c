/* The journal (decisions.jsonl) and the metrics stream (metrics.jsonl). */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Paths and messages may hold any bytes; JSON holds UTF-8. What is no UTF-8 is shown as '?'. */
json_t *tt_json_text(const char *text)
{
    json_t *value = json_string(text);
    char *plain = value ? NULL : strdup(text);
    if (plain) {
        for (char *c = plain; *c; c++) {
            if ((unsigned char)*c >= 0x80) {
                *c = '?';
            }
        }
        value = json_string(plain);
        free(plain);
    }
    return value;
}

static void remember_event(tt_orchestrator *o, json_t *record)
{
    json_array_append(o->events, record);
    while (json_array_size(o->events) > TT_EVENT_RING) {
        json_array_remove(o->events, 0);
    }
}

tt_status tt_journal_write(tt_orchestrator *o, json_t *record)
{
    char now[24];
    if (!record || json_object_set_new(record, "time", json_string(tt_format_utc_now(now))) != 0) {
        json_decref(record);
        return tt_fail(TT_ENOMEM, "no memory for a journal record");
    }
    char *line = json_dumps(record, JSON_COMPACT);
    tt_status status = line ? tt_jsonl_append(&o->journal, line, strlen(line), true)
                            : tt_fail(TT_ENOMEM, "no memory for a journal record");
    free(line);
    if (!status) {
        remember_event(o, record);
    }
    json_decref(record);
    return status;
}

/* The stream is for people and plots: losing it is worth a warning, not the run. */
static void append_metrics(tt_orchestrator *o, const char *line, size_t length)
{
    if (o->metrics_failed) {
        return;
    }
    if (tt_jsonl_append(&o->metrics, line, length, false)) {
        o->metrics_failed = true;
        tt_log(o->log, TT_LOG_WARN, "%s; metrics are not written from step %lld on",
               tt_error_message(), (long long)o->plan.step);
    }
}

typedef struct line {
    char text[1024];
    size_t length;
} line;

/* A host program's locale may have another decimal point; JSON has not. */
static void use_decimal_point(char *number)
{
    for (; *number; number++) {
        if (*number == ',') {
            *number = '.';
        }
    }
}

static void add_number(line *out, const char *name, double value)
{
    int room = (int)(sizeof out->text - out->length);
    char number[32] = "null";
    if (isfinite(value)) {
        snprintf(number, sizeof number, "%.10g", value);
        use_decimal_point(number);
    }
    int used = snprintf(out->text + out->length, (size_t)room, ",\"%s\":%s", name, number);
    if (used > 0 && used < room) {
        out->length += (size_t)used;
    }
}

void tt_metrics_write_step(tt_orchestrator *o, const tt_step_record *record)
{
    line out;
    int used = snprintf(out.text, sizeof out.text,
                        "{\"attempt\":%d,\"step\":%lld,\"position\":%lld,\"published\":%s",
                        record->attempt, (long long)record->step, (long long)record->position,
                        record->published ? "true" : "false");
    out.length = (size_t)used;
    add_number(&out, "loss", record->loss);
    add_number(&out, "grad_norm", record->gradient_norm);
    add_number(&out, "update_norm", record->update_norm);
    add_number(&out, "lr", record->learning_rate);
    add_number(&out, "tokens", (double)record->tokens);
    add_number(&out, "seconds", record->seconds);
    add_number(&out, "forward_seconds", record->forward_seconds);
    add_number(&out, "backward_seconds", record->backward_seconds);
    add_number(&out, "update_seconds", record->update_seconds);
    add_number(&out, "policy_seconds", record->policy_seconds);
    if (record->decision.verdict == TT_TRIP) {
        used = snprintf(out.text + out.length, sizeof out.text - out.length, ",\"gate\":\"%s\"",
                        record->decision.gate);
        out.length += (size_t)used;
    }
    out.text[out.length++] = '}';
    append_metrics(o, out.text, out.length);
}

void tt_metrics_write_event(tt_orchestrator *o, json_t *event)
{
    char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    if (text) {
        append_metrics(o, text, strlen(text));
    }
    free(text);
    json_decref(event);
}

/* ---- reading the journal of earlier attempts ---- */

/* What was decided, or found out by a trial, is not asked again. */
static void follow_decision(tt_orchestrator *o, const json_t *record)
{
    static const char *const kinds[] = {"commit", "revert", "switch", "breaker", "trial", NULL};
    const char *kind = json_string_value(json_object_get(record, "kind"));
    json_int_t step = json_integer_value(json_object_get(record, "step"));
    for (int i = 0; kind && kinds[i]; i++) {
        if (strcmp(kind, kinds[i]) == 0 && step > o->follow_until && step <= TT_MAX_STEP) {
            o->follow_until = step;
        }
    }
    json_array_append(o->replayed, (json_t *)record);
}

static tt_status replay_line(void *user, const char *text)
{
    tt_orchestrator *o = user;
    json_t *record = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!record) {
        return TT_OK; /* a damaged line is history that is lost, not a reason to lose the run */
    }
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const char *action = json_string_value(json_object_get(record, "action"));
    json_int_t attempt = json_integer_value(json_object_get(record, "attempt"));
    if (action && strcmp(action, tt_action_name(TT_ACTION_ROLLBACK)) == 0) {
        attempt++; /* the rollback that followed began the next one */
    }
    if (attempt > o->attempt && attempt < TT_MAX_ATTEMPTS) {
        o->attempt = (int)attempt;
    }
    const char *run_id = json_string_value(json_object_get(record, "run_id"));
    if (kind && run_id && strcmp(kind, "start") == 0) {
        snprintf(o->run_id, sizeof o->run_id, "%s", run_id);
    }
    follow_decision(o, record);
    if (kind && strcmp(kind, "skip") == 0 && o->skip_count < TT_MAX_SKIPS) {
        tt_skip skip = {.step = json_integer_value(json_object_get(record, "step")),
                        .from = json_integer_value(json_object_get(record, "from")),
                        .to = json_integer_value(json_object_get(record, "to"))};
        if (tt_skip_is_sane(&skip)) {
            o->skips[o->skip_count++] = skip;
        }
    }
    json_decref(record);
    return TT_OK;
}

tt_status tt_journal_replay(tt_orchestrator *o)
{
    o->replayed = json_array();
    return tt_jsonl_read(o->journal.path, replay_line, o);
}

typedef struct choice_search {
    const char *optimization;
    json_t *changes;
} choice_search;

static tt_status find_choice(void *user, const char *text)
{
    choice_search *search = user;
    json_t *record = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const char *name = json_string_value(json_object_get(record, "optimization"));
    json_t *changes = json_object_get(record, "changes");
    if (kind && name && json_is_object(changes) && strcmp(kind, "choice") == 0 &&
        strcmp(name, search->optimization) == 0) {
        json_decref(search->changes);
        search->changes = json_incref(changes);
    }
    json_decref(record);
    return TT_OK;
}

tt_status tt_journal_find_choice(tt_orchestrator *o, const char *optimization, json_t **out)
{
    choice_search search = {.optimization = optimization};
    tt_status status = tt_jsonl_read(o->journal.path, find_choice, &search);
    *out = search.changes;
    return status;
}
