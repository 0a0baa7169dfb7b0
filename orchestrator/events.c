/* The journal (decisions.jsonl), and what earlier attempts wrote into it. */
#include "internal.h"

#include <inttypes.h>
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
    tt_metrics_flush(o);
    return status;
}

/* ---- reading the journal of earlier attempts ---- */

typedef struct collection {
    tt_orchestrator *o;
    int64_t damaged;
} collection;

static tt_status collect_line(void *user, const char *text)
{
    collection *c = user;
    tt_orchestrator *o = c->o;
    json_t *record = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(record)) {
        json_decref(record);
        c->damaged++;
        return TT_OK; /* a damaged line is history that is lost, not a reason to lose the run */
    }
    const char *action = json_string_value(json_object_get(record, "action"));
    json_int_t attempt = json_integer_value(json_object_get(record, "attempt"));
    if (action && strcmp(action, tt_action_name(TT_ACTION_ROLLBACK)) == 0) {
        attempt++; /* the rollback that followed began the next one */
    }
    if (attempt > o->attempt && attempt < TT_MAX_ATTEMPTS) {
        o->attempt = (int)attempt;
    }
    const char *run_id = json_string_value(json_object_get(record, "run_id"));
    if (run_id) {
        snprintf(o->run_id, sizeof o->run_id, "%s", run_id);
    }
    return json_array_append_new(o->replayed, record) == 0
               ? TT_OK
               : tt_fail(TT_ENOMEM, "no memory for %s", o->journal.path);
}

tt_status tt_journal_replay(tt_orchestrator *o)
{
    collection c = {.o = o};
    o->replayed = json_array();
    if (!o->replayed) {
        return tt_fail(TT_ENOMEM, "no memory for %s", o->journal.path);
    }
    tt_status status = tt_jsonl_read(o->journal.path, collect_line, &c);
    if (!status && c.damaged) {
        tt_log(
            o->log, TT_LOG_WARN,
            "%s: %" PRId64 " line%s cannot be read; what %s decided after the checkpoint is lost",
            o->journal.path, c.damaged, c.damaged == 1 ? "" : "s", c.damaged == 1 ? "it" : "they");
    }
    return status;
}

static void take_skip(tt_orchestrator *o, const json_t *record)
{
    tt_skip skip = {.step = json_integer_value(json_object_get(record, "step")),
                    .from = json_integer_value(json_object_get(record, "from")),
                    .to = json_integer_value(json_object_get(record, "to"))};
    tt_add_skip(o, &skip);
}

/* What was decided, or found out by a trial, is not asked again: the journal is followed up to
 * there. A step with a switch is over only when the next one begins. */
static void follow_up_to(tt_orchestrator *o, const char *kind, const json_t *record)
{
    json_int_t step = json_integer_value(json_object_get(record, "step"));
    step += strcmp(kind, tt_decision_kind_name(TT_DECISION_SWITCH)) == 0;
    if (step > o->follow_until && step <= TT_MAX_STEP) {
        o->follow_until = step;
    }
}

tt_status tt_journal_take(tt_orchestrator *o)
{
    json_t *decisions = json_array();
    size_t index;
    json_t *record;
    bool own = true; /* a folder may have held another run before */
    json_array_foreach(o->replayed, index, record)
    {
        const char *kind = json_string_value(json_object_get(record, "kind"));
        const char *run_id = json_string_value(json_object_get(record, "run_id"));
        own = run_id ? strcmp(run_id, o->run_id) == 0 : own;
        if (!kind || !own) {
            continue;
        }
        if (strcmp(kind, "skip") == 0) {
            take_skip(o, record);
        } else if (tt_decision_is_kind(kind)) {
            follow_up_to(o, kind, record);
            json_array_append(decisions, record);
        }
    }
    /* What the journal has beyond the checkpoint lies ahead. */
    tt_status status = tt_history_read(o, decisions, -1);
    json_decref(decisions);
    json_decref(o->replayed);
    o->replayed = NULL;
    return status;
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
