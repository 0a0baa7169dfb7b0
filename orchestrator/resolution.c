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
    tt_status status = tt_config_derive(o->requested, key, value, origin, &next);
    if (!status) {
        tt_config_destroy(o->derived);
        o->derived = next;
        o->requested = next;
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

/* What the user leaves to the run stays adaptable when it has got a value. */
static void note_adaptable(tt_orchestrator *o)
{
    for (size_t i = 0; i < o->optimization_count; i++) {
        for (size_t k = 0; k < o->optimizations[i].key_count; k++) {
            if (tt_config_is_auto(o->config, o->optimizations[i].keys[k])) {
                o->adaptable[i][k] = true;
            }
        }
    }
}

/* An `auto` with an order begins at its baseline, and adaptation goes on from there. */
static tt_status begin_at_baseline(tt_orchestrator *o, const tt_optimization *optimization)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < optimization->key_count; i++) {
        const tt_param *param = tt_params_find(o->params, optimization->keys[i]);
        if (tt_config_is_auto(o->config, param->key) && (param->lattice || param->ladder)) {
            status = derive(o, param->key, optimization->baseline[i], "baseline");
        }
    }
    return status;
}

/* `auto` again, on a resume: what commits in force have made of it. */
static tt_status follow_commits(tt_orchestrator *o, const tt_optimization *optimization)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < optimization->key_count; i++) {
        const char *key = optimization->keys[i];
        const char *value = tt_decided_value(o, key);
        if (value && tt_config_is_auto(o->config, key)) {
            status = derive(o, key, value, "commits of earlier attempts");
        }
    }
    return status;
}

static tt_status settle_auto(tt_orchestrator *o, const tt_optimization *optimization)
{
    tt_status status = follow_commits(o, optimization);
    if (!status && any_auto(o, optimization) && o->resuming) {
        json_t *changes = NULL;
        status = tt_journal_find_choice(o, optimization->name, &changes);
        if (!status && changes) {
            status = follow_journal(o, optimization, changes);
        }
        json_decref(changes);
    }
    if (!status && any_auto(o, optimization)) {
        status = optimization->propose ? ask(o, optimization) : begin_at_baseline(o, optimization);
    }
    return status;
}

/* ---- precedence ---- */

static int64_t estimate_memory(void *user, const tt_config *config)
{
    const tt_orchestrator *o = user;
    return o->host.memory_estimate(o->host.user, config, false);
}

tt_status tt_orchestrator_resolve(tt_orchestrator *o, const tt_config *config, tt_config **out)
{
    tt_resolve_options options;
    tt_text trace;
    tt_resolve_options_init(&options);
    options.strict = o->strict;
    options.log = o->log;
    options.memory_estimate = o->host.memory_estimate ? estimate_memory : NULL;
    options.user = o;
    tt_text_init(&trace);
    *out = NULL;
    tt_status status = tt_config_resolve(config, &options, out, &trace);
    if (!status && trace.length) {
        status =
            tt_journal_write(o, json_pack("{s:s, s:i, s:I, s:o}", "kind", "resolution", "attempt",
                                          o->attempt, "step", (json_int_t)tt_orchestrator_step(o),
                                          "trace", tt_json_text(trace.data)));
        tt_text_clear(&o->trace);
        tt_text_add(&o->trace, trace.data);
    }
    if (status) {
        tt_config_destroy(*out);
        *out = NULL;
    }
    tt_text_clear(&trace);
    return status;
}

/* Moves to a configuration that was resolved; the journal has the reason first. */
static tt_status resolve_requested(tt_orchestrator *o)
{
    tt_config *next = NULL;
    tt_status status = tt_orchestrator_resolve(o, o->requested, &next);
    if (!status && next) {
        tt_config_destroy(o->derived);
        o->derived = next;
        o->requested = next;
        o->config = next;
    }
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

/* The optimizations that measure for a proposal, or those that do not. */
static tt_status settle_those(tt_orchestrator *o, bool measured)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        if ((o->optimizations[i].propose != NULL) == measured) {
            status = settle_auto(o, &o->optimizations[i]);
        }
    }
    return status;
}

tt_status tt_orchestrator_settle(tt_orchestrator *o)
{
    note_adaptable(o);
    /* An `auto` that begins at its baseline has a value before precedence is asked: it is nobody's
     * wish, so it yields first. What users ask for is made legal before anything is measured with
     * it; what was measured yields to precedence like everything else. */
    tt_status status = settle_those(o, false);
    if (!status) {
        status = resolve_requested(o);
    }
    if (!status) {
        status = settle_those(o, true);
    }
    if (!status) {
        status = resolve_requested(o);
    }
    if (!status) {
        status = advise(o);
    }
    return status ? status : tt_configure(o, tt_orchestrator_step(o), true);
}
