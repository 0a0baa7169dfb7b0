#include "resolve/collect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- keys --------------------------------------------------------------------------------- */

/* Splits the choices of a ladder; the request is the number of the chosen one. */
static void climb(tt_collected_key *own, tt_resolve_key *key, const char *chosen)
{
    size_t count = 0;
    snprintf(own->text, sizeof(own->text), "%s", own->param->choices);
    char *rest = own->text;
    for (char *word = strsep(&rest, "|"); word != NULL; word = strsep(&rest, "|")) {
        if (strcmp(word, chosen) == 0)
            key->request = (int64_t)count;
        own->words[count] = word;
        own->rungs[count] = (int64_t)count;
        count++;
    }
    key->values = own->rungs;
    key->value_names = own->words;
    key->value_count = count;
}

static void add_key(tt_collection *c, const tt_config *config, size_t index, const tt_param *param)
{
    tt_collected_key *own = &c->own_keys[c->key_count];
    tt_resolve_key *key = &c->keys[c->key_count];
    const tt_setting *winner = tt_config_winner(config, index);
    const tt_setting *pin = tt_config_pin(config, index);
    own->index = index;
    own->param = param;
    *key = (tt_resolve_key){
        .name = param->key,
        .values = param->lattice,
        .value_count = param->lattice_count,
        .tier = param->tier,
        .pinned = pin != NULL,
        .memory_falls = param->memory_falls,
        .origin = pin != NULL ? pin->origin : winner->origin,
    };
    if (param->ladder)
        climb(own, key, winner->value.as.string);
    else
        key->request = winner->value.as.integer;
    c->key_count++;
}

static tt_status collect_keys(tt_collection *c, const tt_config *config)
{
    for (tt_tier tier = TT_TIER_TILE; tier <= TT_TIER_RLVR; tier++) {
        for (size_t i = 0; i < config->count; i++) {
            const tt_param *param = config->params->sorted[i];
            bool steps = param->lattice != NULL || param->ladder;
            if (param->tier != tier || !steps || tt_config_winner(config, i)->value.is_auto)
                continue;
            if (c->key_count == TT_RESOLVE_MAX_KEYS)
                return tt_fail(TT_EINTERNAL,
                               "%s is one steered parameter more than the %d that the resolver "
                               "takes",
                               param->key, TT_RESOLVE_MAX_KEYS);
            add_key(c, config, i, param);
        }
    }
    return TT_OK;
}

/* A value of the resolver as one of the configuration. */
static tt_value typed_value(const tt_collected_key *own, int64_t value)
{
    tt_value typed = {.type = own->param->type};
    if (own->param->ladder)
        typed.as.string = own->words[value];
    else
        typed.as.integer = value;
    return typed;
}

/* ---- registered rules --------------------------------------------------------------------- */

bool tt_collect_values(const tt_config *config, const char *const keys[TT_RULE_KEYS],
                       tt_value values[TT_RULE_KEYS])
{
    for (size_t i = 0; i < TT_RULE_KEYS && keys[i] != NULL; i++) {
        values[i] = tt_config_get(config, keys[i]);
        if (values[i].is_auto)
            return false;
    }
    return true;
}

void tt_collect_describe(const tt_config *config, const char *const keys[TT_RULE_KEYS],
                         const bool *skip, tt_text *out)
{
    const char *separator = "";
    for (size_t i = 0; i < TT_RULE_KEYS && keys[i] != NULL; i++) {
        if (skip != NULL && skip[i])
            continue;
        tt_value value = tt_config_get(config, keys[i]);
        tt_text_addf(out, "%s%s = ", separator, keys[i]);
        tt_value_add(out, &value);
        tt_text_addf(out, " (%s)", tt_config_origin(config, keys[i]));
        separator = ", ";
    }
}

static bool registered_holds(const void *user, const int64_t *values)
{
    const tt_collected_rule *own = user;
    const tt_resolve_rule *rule = &own->of->rules[own - own->of->own_rules];
    tt_value typed[TT_RULE_KEYS];
    memcpy(typed, own->values, sizeof(typed));
    for (size_t i = 0; i < rule->key_count; i++)
        typed[own->moving[i]] = typed_value(&own->of->own_keys[rule->keys[i]], values[i]);
    return own->rule->holds(own->rule->user, typed);
}

static tt_status refuse(const tt_config *config, const tt_rule *rule)
{
    tt_text text;
    tt_text_init(&text);
    tt_collect_describe(config, rule->keys, NULL, &text);
    tt_status status = tt_text_check(&text);
    if (status == TT_OK)
        status = tt_fail(TT_ECONFIG, "'%s' does not hold: %s; change one of them", rule->name,
                         text.data);
    tt_text_clear(&text);
    return status;
}

static tt_status add_rule(tt_collection *c, const tt_config *config, const tt_rule *rule)
{
    tt_collected_rule *own = &c->own_rules[c->rule_count];
    tt_resolve_rule *out = &c->rules[c->rule_count];
    bool moves[TT_RULE_KEYS] = {false};
    *own = (tt_collected_rule){.rule = rule, .of = c};
    *out = (tt_resolve_rule){
        .name = rule->name, .holds = registered_holds, .user = own, .is_memory = rule->is_memory};
    if (!tt_collect_values(config, rule->keys, own->values))
        return TT_OK;
    for (size_t i = 0; i < TT_RULE_KEYS && rule->keys[i] != NULL; i++) {
        for (size_t k = 0; k < c->key_count; k++) {
            if (strcmp(c->keys[k].name, rule->keys[i]) != 0)
                continue;
            own->moving[out->key_count] = i;
            out->keys[out->key_count++] = k;
            moves[i] = true;
        }
    }
    if (out->key_count == 0)
        return rule->holds(rule->user, own->values) ? TT_OK : refuse(config, rule);
    tt_text depends;
    tt_text_init(&depends);
    tt_collect_describe(config, rule->keys, moves, &depends);
    snprintf(own->depends, sizeof(own->depends), "%s", depends.data);
    tt_status status = tt_text_check(&depends);
    tt_text_clear(&depends);
    out->depends = own->depends[0] != '\0' ? own->depends : NULL;
    c->rule_count++;
    return status;
}

/* ---- memory ------------------------------------------------------------------------------- */

/* What the scratch configuration takes with these values. */
static int64_t estimate(const tt_collection *c, const int64_t *values)
{
    for (size_t k = 0; k < c->key_count; k++) {
        const tt_settings *settings = &c->scratch->of[c->own_keys[k].index];
        settings->items[settings->count - 1].value = typed_value(&c->own_keys[k], values[k]);
    }
    return c->options->memory_estimate(c->options->user, c->scratch);
}

static bool memory_holds(const void *user, const int64_t *values)
{
    const tt_collection *c = user;
    return estimate(c, values) <= c->budget;
}

static tt_status add_memory_rule(tt_collection *c, const tt_config *config)
{
    const char *const keys[TT_RULE_KEYS] = {TT_MEMORY_BUDGET_KEY};
    if (c->options->memory_estimate == NULL ||
        tt_params_find(config->params, TT_MEMORY_BUDGET_KEY) == NULL ||
        tt_config_is_auto(config, TT_MEMORY_BUDGET_KEY))
        return TT_OK;
    c->budget = tt_config_int(config, TT_MEMORY_BUDGET_KEY);
    c->scratch = tt_config_copy(config);
    if (c->scratch == NULL)
        return tt_fail(TT_ENOMEM, "no memory for a configuration");
    int64_t least[TT_RESOLVE_MAX_KEYS] = {0};
    for (size_t k = 0; k < c->key_count; k++)
        least[k] = c->keys[k].values[c->keys[k].memory_falls ? c->keys[k].value_count - 1 : 0];
    tt_text depends;
    tt_text_init(&depends);
    tt_collect_describe(config, keys, NULL, &depends);
    tt_collected_rule *own = &c->own_rules[c->rule_count];
    snprintf(own->depends, sizeof(own->depends), "%s: at least %" PRId64 " is needed", depends.data,
             estimate(c, least));
    tt_status status = tt_text_check(&depends);
    tt_text_clear(&depends);
    c->rules[c->rule_count++] = (tt_resolve_rule){.name = "memory budget",
                                                  .holds = memory_holds,
                                                  .user = c,
                                                  .is_memory = true,
                                                  .depends = own->depends};
    return status;
}

/* ---- all of it ---------------------------------------------------------------------------- */

tt_status tt_collection_init(tt_collection *collection, const tt_config *config,
                             const tt_resolve_options *options)
{
    collection->key_count = 0;
    collection->rule_count = 0;
    collection->options = options;
    collection->scratch = NULL;
    tt_status status = collect_keys(collection, config);
    for (size_t r = 0; r < config->params->rule_count && status == TT_OK; r++)
        status = add_rule(collection, config, config->params->rules[r]);
    return status == TT_OK ? add_memory_rule(collection, config) : status;
}

void tt_collection_clear(tt_collection *collection)
{
    tt_config_destroy(collection->scratch);
    collection->scratch = NULL;
}
