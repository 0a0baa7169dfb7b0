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

static tt_status collect_keys(const tt_orchestrator *o, tt_resolve_key *keys, size_t *count)
{
    *count = 0;
    for (tt_tier tier = TT_TIER_TILE; tier <= TT_TIER_RLVR; tier++) {
        for (size_t i = 0; i < tt_params_count(o->params); i++) {
            const tt_param *param = tt_params_at(o->params, i);
            if (param->tier != tier || !param->lattice ||
                tt_config_is_auto(o->config, param->key)) {
                continue;
            }
            if (*count == TT_RESOLVE_MAX_KEYS) {
                return tt_fail(TT_EINTERNAL,
                               "%s is one steered parameter more than the %d that "
                               "the resolver takes",
                               param->key, TT_RESOLVE_MAX_KEYS);
            }
            keys[(*count)++] = (tt_resolve_key){
                .name = param->key,
                .tier = tier,
                .values = param->lattice,
                .value_count = param->lattice_count,
                .request = tt_config_int(o->config, param->key),
                .pinned = tt_config_is_pinned(o->config, param->key),
                .origin = tt_config_origin(o->config, param->key),
            };
        }
    }
    return TT_OK;
}

static tt_status apply_moves(tt_orchestrator *o, const tt_resolve_key *keys, size_t count,
                             const tt_resolution *resolution)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < count; i++) {
        if (!resolution->moved[i]) {
            continue;
        }
        char value[32];
        snprintf(value, sizeof value, "%" PRId64, resolution->values[i]);
        if (keys[i].pinned) {
            if (o->strict) {
                return tt_fail(TT_ECONFIG,
                               "%s: %s %" PRId64 " is not possible, the nearest legal value is %s "
                               "(--strict refuses to move it)",
                               keys[i].origin, keys[i].name, keys[i].request, value);
            }
            tt_log(o->log, TT_LOG_WARN,
                   "%s: %s %" PRId64 " is not possible, using the nearest legal value %s",
                   keys[i].origin, keys[i].name, keys[i].request, value);
        }
        status = derive(o, keys[i].name, value, "resolver");
    }
    return status;
}

static tt_status resolve_precedence(tt_orchestrator *o)
{
    tt_resolve_key keys[TT_RESOLVE_MAX_KEYS];
    tt_resolution resolution;
    size_t count = 0;
    tt_status status = collect_keys(o, keys, &count);
    if (status || count == 0) {
        return status;
    }
    tt_text trace;
    tt_text_init(&trace);
    status = tt_resolve(keys, count, NULL, 0, &resolution, &trace);
    if (!status && trace.length) {
        status =
            tt_journal_write(o, json_pack("{s:s, s:i, s:I, s:o}", "kind", "resolution", "attempt",
                                          o->attempt, "step", (json_int_t)tt_orchestrator_step(o),
                                          "trace", tt_json_text(trace.data)));
    }
    tt_text_clear(&trace);
    if (!status) {
        /* Origins are read before the configuration that owns them is replaced. */
        char origins[TT_RESOLVE_MAX_KEYS][128];
        for (size_t i = 0; i < count; i++) {
            snprintf(origins[i], sizeof origins[i], "%s", keys[i].origin);
            keys[i].origin = origins[i];
        }
        status = apply_moves(o, keys, count, &resolution);
    }
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
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        status = o->optimizations[i].apply(o->optimizations[i].user, o->config);
    }
    return status;
}
