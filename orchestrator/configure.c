/* The configuration in force: what was requested, with everything that is off at its baseline, and
 * what is switched for one step. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tt_configured_text(const tt_config *config, const char *key, char out[32])
{
    tt_value value = tt_config_get(config, key);
    if (value.is_auto) {
        snprintf(out, 32, "auto");
        return;
    }
    switch (value.type) {
    case TT_TYPE_BOOL:
        snprintf(out, 32, "%s", value.as.boolean ? "true" : "false");
        return;
    case TT_TYPE_INT:
        snprintf(out, 32, "%" PRId64, value.as.integer);
        return;
    case TT_TYPE_FLOAT:
        snprintf(out, 32, "%.17g", value.as.real);
        return;
    case TT_TYPE_STRING:
    case TT_TYPE_ENUM:
        snprintf(out, 32, "%s", value.as.string);
        return;
    }
}

static bool is_baseline(const tt_config *config, const char *key, const char *baseline)
{
    char text[32];
    tt_configured_text(config, key, text);
    tt_value value = tt_config_get(config, key);
    if (!value.is_auto && value.type == TT_TYPE_FLOAT) {
        return value.as.real == strtod(baseline, NULL);
    }
    return strcmp(text, baseline) == 0;
}

bool tt_optimization_is_on(const tt_optimization *optimization, const tt_config *config)
{
    for (size_t i = 0; i < optimization->key_count; i++) {
        if (!is_baseline(config, optimization->keys[i], optimization->baseline[i])) {
            return true;
        }
    }
    return false;
}

uint32_t tt_configured_on(const tt_orchestrator *o, const tt_config *config)
{
    uint32_t on = 0;
    for (size_t i = 0; i < o->optimization_count; i++) {
        on |= tt_optimization_is_on(&o->optimizations[i], config) ? UINT32_C(1) << i : 0;
    }
    return on;
}

/* Derives from *next, or from `config` if there is none yet. */
static tt_status move_on(const tt_config *config, const char *key, const char *value,
                         const char *origin, tt_config **next)
{
    tt_config *derived = NULL;
    tt_status status = tt_config_derive(*next ? *next : config, key, value, origin, &derived);
    if (!status) {
        tt_config_destroy(*next);
        *next = derived;
    }
    return status;
}

tt_status tt_configure_off(const tt_orchestrator *o, const tt_config *config, uint32_t off,
                           tt_config **out)
{
    tt_config *next = NULL;
    tt_status status = TT_OK;
    for (size_t i = 0; i < o->optimization_count; i++) {
        const tt_optimization *optimization = &o->optimizations[i];
        for (size_t k = 0; !status && off >> i & 1 && k < optimization->key_count; k++) {
            if (!is_baseline(config, optimization->keys[k], optimization->baseline[k])) {
                char origin[96];
                snprintf(origin, sizeof origin, "breaker of %s", optimization->name);
                status = move_on(config, optimization->keys[k], optimization->baseline[k], origin,
                                 &next);
            }
        }
    }
    if (status) {
        tt_config_destroy(next);
        next = NULL;
    }
    *out = next;
    return status;
}

tt_status tt_configure_changes(const tt_config *config, const tt_change *changes, int count,
                               const char *origin, tt_config **out)
{
    tt_config *next = NULL;
    tt_status status = TT_OK;
    for (int i = 0; !status && i < count; i++) {
        status = move_on(config, changes[i].key, changes[i].to, origin, &next);
    }
    if (status) {
        tt_config_destroy(next);
        next = NULL;
    }
    *out = next;
    return status;
}

uint32_t tt_breakers_off(const tt_orchestrator *o, const tt_breaker *breakers)
{
    uint32_t off = 0;
    for (size_t i = 0; i < o->optimization_count; i++) {
        /* A half-open breaker is probed by a fork; without forks the live run is the probe. */
        bool is_off = breakers[i].state == TT_BREAKER_OPEN ||
                      (breakers[i].state == TT_BREAKER_HALF_OPEN && o->host.run_step);
        off |= is_off ? UINT32_C(1) << i : 0;
    }
    return off;
}

uint32_t tt_breakers_open(const tt_orchestrator *o)
{
    return tt_breakers_off(o, o->breakers);
}

void tt_arm_targets(const tt_orchestrator *o, const tt_config *config, tt_gate_targets *targets)
{
    for (int i = 0; i < targets->count; i++) {
        for (size_t k = 0; k < o->optimization_count; k++) {
            if (strcmp(o->optimizations[k].name, targets->target[i].optimization) == 0) {
                targets->armed[i] = tt_optimization_is_on(&o->optimizations[k], config);
            }
        }
    }
}

tt_status tt_apply(tt_orchestrator *o, const tt_config *config)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < o->optimization_count; i++) {
        status = o->optimizations[i].apply(o->optimizations[i].user, config);
    }
    return status;
}

tt_status tt_write_resolved(tt_orchestrator *o)
{
    char path[TT_PATH_BYTES];
    tt_text yaml;
    tt_text_init(&yaml);
    snprintf(path, sizeof path, "%.*s/resolved.yaml", TT_PATH_BYTES - 32, o->folder.path);
    tt_status status = tt_config_write_yaml(o->config, &yaml);
    if (!status) {
        status = tt_file_replace(o->files, path, yaml.data, yaml.length);
    }
    tt_text_clear(&yaml);
    return status;
}

tt_status tt_configure(tt_orchestrator *o, int64_t step, bool anyway)
{
    const tt_decision *switched = tt_history_switch_at(&o->history, step);
    if (switched && !tt_may_move(o, switched)) {
        switched = NULL;
    }
    tt_in_force want = {.version = tt_config_version(o->requested),
                        .off = tt_breakers_open(o),
                        .switched = switched ? switched->sequence : 0};
    if (!anyway && want.version == o->in_force.version && want.off == o->in_force.off &&
        want.switched == o->in_force.switched) {
        return TT_OK;
    }
    tt_config *off = NULL;
    tt_config *next = NULL;
    tt_status status = tt_configure_off(o, o->requested, want.off, &off);
    if (!status && switched) {
        status = tt_configure_changes(off ? off : o->requested, switched->changes,
                                      switched->change_count, "switched for one step", &next);
    }
    if (!status && next) {
        tt_config_destroy(off);
        off = next;
    }
    const tt_config *now = off ? off : o->requested;
    if (!status) {
        status = tt_apply(o, now);
    }
    if (status) {
        tt_config_destroy(off);
        return status;
    }
    tt_config_destroy(o->overlaid);
    o->overlaid = off;
    o->config = now;
    o->in_force = want;
    tt_arm_targets(o, now, &o->targets);
    if (o->started && !want.switched && tt_write_resolved(o)) {
        tt_log(o->log, TT_LOG_WARN, "resolved.yaml is out of date: %s", tt_error_message());
    }
    return TT_OK;
}
