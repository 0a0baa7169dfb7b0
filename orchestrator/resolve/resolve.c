#include "resolve/explain.h"
#include "resolve/search.h"

static tt_status check_key(const tt_resolve_key *key, size_t index)
{
    if (key->name == NULL || key->origin == NULL || key->values == NULL)
        return tt_fail(TT_EINVAL, "resolver: key %zu lacks a name, an origin or values", index);
    if (key->tier < TT_TIER_TILE || key->tier > TT_TIER_RLVR)
        return tt_fail(TT_EINVAL, "resolver: %s has no tier", key->name);
    if (key->value_count == 0 || key->value_count > TT_RESOLVE_MAX_VALUES)
        return tt_fail(TT_EINVAL, "resolver: %s has %zu values; 1 to %d are possible", key->name,
                       key->value_count, TT_RESOLVE_MAX_VALUES);
    for (size_t i = 1; i < key->value_count; i++)
        if (key->values[i - 1] >= key->values[i])
            return tt_fail(TT_EINVAL, "resolver: the values of %s do not ascend", key->name);
    return TT_OK;
}

static tt_status check_rule(const tt_resolve_rule *rule, size_t index, size_t key_count)
{
    if (rule->name == NULL || rule->holds == NULL)
        return tt_fail(TT_EINVAL, "resolver: rule %zu lacks a name or a function", index);
    if (rule->key_count > 4 || (rule->key_count == 0 && !rule->is_memory))
        return tt_fail(TT_EINVAL, "resolver: rule '%s' has %zu keys; 1 to 4 are possible",
                       rule->name, rule->key_count);
    for (size_t i = 0; i < rule->key_count; i++)
        if (rule->keys[i] >= key_count)
            return tt_fail(TT_EINVAL, "resolver: rule '%s' names key %zu of %zu", rule->name,
                           rule->keys[i], key_count);
    return TT_OK;
}

static tt_status check_arguments(const tt_resolve_key *keys, size_t key_count,
                                 const tt_resolve_rule *rules, size_t rule_count)
{
    if (key_count > TT_RESOLVE_MAX_KEYS || rule_count > TT_RESOLVE_MAX_RULES)
        return tt_fail(TT_EINVAL, "resolver: %zu keys and %zu rules; at most %d and %d", key_count,
                       rule_count, TT_RESOLVE_MAX_KEYS, TT_RESOLVE_MAX_RULES);
    tt_status status = TT_OK;
    for (size_t k = 0; k < key_count && status == TT_OK; k++)
        status = check_key(&keys[k], k);
    for (size_t r = 0; r < rule_count && status == TT_OK; r++)
        status = check_rule(&rules[r], r, key_count);
    return status;
}

/* The best assignment under `active`: each pinned key, in order, stays if it can beside those that
 * stayed; then every key takes its best value. False if there is none. */
static bool settle(tt_search *search, uint64_t active, int64_t *values)
{
    uint16_t pins = 0;
    for (size_t k = 0; k < search->key_count; k++)
        if (search->keys[k].pinned &&
            tt_search_index_of(&search->keys[k], search->keys[k].request) >= 0)
            pins |= (uint16_t)(1U << k);
    if (tt_search_run(search, active, pins, values))
        return true;
    if (pins == 0 || !tt_search_run(search, active, 0, values))
        return false;
    uint16_t kept = 0;
    for (size_t depth = 0; depth < search->key_count; depth++) {
        size_t key = search->order[depth];
        uint16_t with = kept | (uint16_t)(1U << key);
        if (!(pins & (1U << key)))
            continue;
        /* `values` is the best under `kept`; where it keeps this key too, it stays the best. */
        if (values[key] == search->keys[key].request || tt_search_run(search, active, with, values))
            kept = with;
    }
    return true;
}

tt_status tt_resolve(const tt_resolve_key *keys, size_t key_count, const tt_resolve_rule *rules,
                     size_t rule_count, tt_resolution *out, tt_text *trace)
{
    tt_status status = check_arguments(keys, key_count, rules, rule_count);
    if (status != TT_OK)
        return status;
    tt_search search;
    tt_search_init(&search, keys, key_count, rules, rule_count);
    uint64_t memory = 0;
    uint64_t other = 0;
    for (size_t r = 0; r < rule_count; r++)
        *(rules[r].is_memory ? &memory : &other) |= (uint64_t)1 << r;

    /* Without memory first: mostly that fits, and if not, the difference is what memory moved. */
    int64_t free_values[TT_RESOLVE_MAX_KEYS] = {0};
    if (!settle(&search, other, free_values))
        return tt_resolve_fail(&search, other);
    bool fits = true;
    for (size_t r = 0; r < rule_count; r++)
        fits = fits && (!rules[r].is_memory || tt_search_rule_holds(&search, r, free_values));

    tt_resolution resolution = {0};
    for (size_t k = 0; k < key_count; k++)
        resolution.values[k] = free_values[k];
    if (!fits && !settle(&search, other | memory, resolution.values))
        return tt_resolve_fail(&search, other | memory);
    for (size_t k = 0; k < key_count; k++) {
        resolution.moved[k] = resolution.values[k] != keys[k].request;
        resolution.for_memory[k] = resolution.moved[k] && resolution.values[k] != free_values[k];
    }
    *out = resolution;
    if (trace == NULL)
        return TT_OK;
    tt_resolve_write_trace(&search, &resolution, trace);
    return tt_text_check(trace);
}
