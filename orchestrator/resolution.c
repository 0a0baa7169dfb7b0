/* At start: conflicts are resolved by precedence, `auto` is settled by measurement, and what was
 * settled before is followed. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Moves to the next configuration version; the journal already has the reason. */
static tt_status derive(tt_orchestrator *o, const char *key, const char *value, const char *origin)
{
    tt_config *next = NULL;
    tt_status status = tt_config_derive(o->config, key, value, origin, &next);
    if (!status) {
        tt_config_destroy(o->derived);
        o->derived = next;
        o->config = next;
    }
    return status;
}

static tt_status journal_choice(tt_orchestrator *o, const tt_optimization *optimization,
                                const tt_proposal *proposal)
{
    json_t *changes = json_object();
    for (size_t i = 0; i < proposal->change_count; i++) {
        json_object_set_new(changes, proposal->changes[i].key,
                            json_string(proposal->changes[i].value));
    }
    json_t *evidence =
        json_loads(proposal->evidence.length ? proposal->evidence.data : "{}", 0, NULL);
    if (!evidence) {
        json_decref(changes);
        return tt_fail(TT_EINTERNAL, "optimization %s gave evidence that is not JSON",
                       optimization->name);
    }
    return tt_journal_write(
        o, json_pack("{s:s, s:i, s:I, s:s, s:o, s:o}", "kind", "choice", "attempt", o->attempt,
                     "step", (json_int_t)tt_orchestrator_step(o), "optimization",
                     optimization->name, "changes", changes, "evidence", evidence));
}

static tt_status follow_journal(tt_orchestrator *o, const tt_optimization *optimization,
                                json_t *changes)
{
    const char *key;
    json_t *value;
    json_object_foreach(changes, key, value)
    {
        const char *text = json_string_value(value);
        if (!text || !tt_params_find(o->params, key)) {
            return tt_fail(TT_ECORRUPT, "%s: the choice of %s names an unknown key '%s'",
                           o->journal.path, optimization->name, key);
        }
        tt_status status = tt_config_is_auto(o->config, key)
                               ? derive(o, key, text, "journal of an earlier attempt")
                               : TT_OK;
        if (status) {
            return status;
        }
    }
    return TT_OK;
}

static tt_status ask(tt_orchestrator *o, const tt_optimization *optimization)
{
    tt_proposal proposal = {.change_count = 0};
    tt_text_init(&proposal.evidence);
    char origin[96];
    snprintf(origin, sizeof origin, "%s at step %" PRId64, optimization->name,
             tt_orchestrator_step(o));
    tt_status status = optimization->propose(optimization->user, o->config, &proposal);
    if (!status) {
        status = journal_choice(o, optimization, &proposal);
    }
    for (size_t i = 0; !status && i < proposal.change_count; i++) {
        /* What a user has set is not the optimization's to move. */
        const char *key = proposal.changes[i].key;
        if (tt_config_is_auto(o->config, key)) {
            status = derive(o, key, proposal.changes[i].value, origin);
        }
    }
    tt_text_clear(&proposal.evidence);
    return status;
}

static bool any_auto(const tt_orchestrator *o, const tt_optimization *optimization)
{
    for (size_t i = 0; i < optimization->key_count; i++) {
        if (tt_config_is_auto(o->config, optimization->keys[i])) {
            return true;
        }
    }
    return false;
}

static tt_status settle_auto(tt_orchestrator *o, const tt_optimization *optimization)
{
    tt_status status = TT_OK;
    if (any_auto(o, optimization) && o->resuming) {
        json_t *changes = NULL;
        status = tt_journal_find_choice(o, optimization->name, &changes);
        if (!status && changes) {
            status = follow_journal(o, optimization, changes);
        }
        json_decref(changes);
    }
    if (!status && any_auto(o, optimization) && optimization->propose) {
        status = ask(o, optimization);
    }
    return status;
}

/* ---- precedence ---- */

/* Moves to a configuration that was resolved; the journal has the reason first. */
static tt_status resolve_precedence(tt_orchestrator *o)
{
    tt_resolve_options options;
    tt_config *next = NULL;
    tt_text trace;
    tt_resolve_options_init(&options);
    options.strict = o->strict;
    options.log = o->log;
    tt_text_init(&trace);
    tt_status status = tt_config_resolve(o->config, &options, &next, &trace);
    if (!status && trace.length) {
        status =
            tt_journal_write(o, json_pack("{s:s, s:i, s:I, s:o}", "kind", "resolution", "attempt",
                                          o->attempt, "step", (json_int_t)tt_orchestrator_step(o),
                                          "trace", tt_json_text(trace.data)));
    }
    if (!status && next) {
        tt_config_destroy(o->derived);
        o->derived = next;
        o->config = next;
        next = NULL;
    }
    tt_config_destroy(next);
    tt_text_clear(&trace);
    return status;
}

/* Once the values are final: what is legal but probably not wanted. */
static tt_status advise(const tt_orchestrator *o)
{
    tt_text text;
    tt_text_init(&text);
    tt_status status = tt_config_advise(o->config, &text);
    for (const char *line = text.data; !status && *line;) {
        size_t length = strcspn(line, "\n");
        tt_log(o->log, TT_LOG_WARN, "%.*s", (int)length, line);
        line += length + 1;
    }
    tt_text_clear(&text);
    return status;
}

tt_status tt_orchestrator_resolve(tt_orchestrator *o)
{
    /* What users ask for is made legal before anything is measured with it; what was measured
     * yields to precedence like everything else. */
    tt_status status = resolve_precedence(o);
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        status = settle_auto(o, &o->optimizations[i]);
    }
    if (!status) {
        status = resolve_precedence(o);
    }
    if (!status) {
        status = advise(o);
    }
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        status = o->optimizations[i].apply(o->optimizations[i].user, o->config);
    }
    return status;
}
