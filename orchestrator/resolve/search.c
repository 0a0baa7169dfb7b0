#include "resolve/search.h"

#include <string.h>

static uint64_t bit64(size_t index)
{
    return (uint64_t)1 << index;
}

static uint16_t bit16(size_t index)
{
    return (uint16_t)(1U << index);
}

static uint64_t distance(int64_t a, int64_t b)
{
    return a >= b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

/* Nearest to the request first; of two as near, the larger. */
static void order_values(const tt_resolve_key *key, uint8_t *preference)
{
    for (size_t i = 0; i < key->value_count; i++) {
        uint64_t away = distance(key->values[i], key->request);
        size_t at = i;
        /* Values ascend, so an equal distance means that the new one is the larger. */
        while (at > 0 && away <= distance(key->values[preference[at - 1]], key->request)) {
            preference[at] = preference[at - 1];
            at--;
        }
        preference[at] = (uint8_t)i;
    }
}

void tt_search_init(tt_search *search, const tt_resolve_key *keys, size_t key_count,
                    const tt_resolve_rule *rules, size_t rule_count)
{
    search->keys = keys;
    search->key_count = key_count;
    search->rules = rules;
    search->rule_count = rule_count;
    for (size_t k = 0; k < key_count; k++) {
        size_t at = k; /* a stable insertion by tier */
        while (at > 0 && keys[search->order[at - 1]].tier > keys[k].tier) {
            search->order[at] = search->order[at - 1];
            at--;
        }
        search->order[at] = (uint8_t)k;
        order_values(&keys[k], search->preference[k]);
    }
    for (size_t depth = 0; depth < key_count; depth++)
        search->depth_of[search->order[depth]] = (uint8_t)depth;
    for (size_t r = 0; r < rule_count; r++) {
        uint16_t mask = 0;
        if (rules[r].key_count == 0)
            mask = (uint16_t)(((uint32_t)1 << key_count) - 1);
        for (size_t i = 0; i < rules[r].key_count; i++)
            mask |= bit16(rules[r].keys[i]);
        search->rule_keys[r] = mask;
    }
}

int tt_search_index_of(const tt_resolve_key *key, int64_t value)
{
    for (size_t i = 0; i < key->value_count; i++)
        if (key->values[i] == value)
            return (int)i;
    return -1;
}

bool tt_search_rule_holds(const tt_search *search, size_t rule, const int64_t *values)
{
    const tt_resolve_rule *r = &search->rules[rule];
    if (r->key_count == 0)
        return r->holds(r->user, values);
    int64_t arguments[4] = {0};
    for (size_t i = 0; i < r->key_count; i++)
        arguments[i] = values[r->keys[i]];
    return r->holds(r->user, arguments);
}

/* The depths of the keys in `keys`. */
static uint16_t depths_of(const tt_search *search, uint16_t keys)
{
    uint16_t depths = 0;
    for (unsigned left = keys; left != 0; left &= left - 1)
        depths |= bit16(search->depth_of[__builtin_ctz(left)]);
    return depths;
}

/* Removes from the one open key of a rule what the rule forbids. False if nothing is left. */
static bool filter_open_key(tt_search *search, size_t rule, size_t open, size_t level)
{
    uint64_t *domain = &search->domain[level][open];
    uint64_t kept = *domain;
    for (uint64_t left = *domain; left != 0; left &= left - 1) {
        size_t index = (size_t)__builtin_ctzll(left);
        search->value[open] = search->keys[open].values[index];
        if (!tt_search_rule_holds(search, rule, search->value))
            kept &= ~bit64(index);
    }
    if (kept != *domain) {
        uint16_t by = search->rule_keys[rule] & search->assigned;
        search->reason[level][open] |= depths_of(search, by);
        *domain = kept;
    }
    return kept != 0;
}

/* The value of a domain that needs the least memory. */
static int64_t least_of(const tt_resolve_key *key, uint64_t domain)
{
    return key->values[key->memory_falls ? 63 - __builtin_clzll(domain) : __builtin_ctzll(domain)];
}

/* Whether a memory rule can still hold: the open keys' least values decide. If not, `why` says
 * which choices matter: those other than the least value there ever was. */
static bool memory_may_hold(tt_search *search, size_t rule, size_t level, uint16_t *why)
{
    int64_t least[TT_RESOLVE_MAX_KEYS] = {0};
    uint16_t blamed = 0;
    for (unsigned left = search->rule_keys[rule]; left != 0; left &= left - 1) {
        size_t k = (size_t)__builtin_ctz(left);
        const tt_resolve_key *key = &search->keys[k];
        bool chosen = (search->assigned & bit16(k)) != 0;
        least[k] = chosen ? search->value[k] : least_of(key, search->domain[level][k]);
        if (least[k] != least_of(key, search->root[k]))
            blamed |= search->reason[level][k] | (chosen ? bit16(search->depth_of[k]) : 0);
    }
    if (tt_search_rule_holds(search, rule, least))
        return true;
    *why = blamed;
    return false;
}

/* Looks ahead after `key` was assigned (key_count: before anything was), into the domains of
 * `level`. False if no completion is left; `why` is then the set of depths to blame. */
static bool look_ahead(tt_search *search, size_t key, size_t level, uint16_t *why)
{
    for (size_t r = 0; r < search->rule_count; r++) {
        uint16_t open = search->rule_keys[r] & (uint16_t)~search->assigned;
        bool touched = key == search->key_count || (search->rule_keys[r] & bit16(key)) != 0;
        if (!(search->active & bit64(r)) || search->rules[r].is_memory || !touched)
            continue;
        /* Once its last key is open a rule has filtered it, so a rule without one holds. */
        if (open == 0 || (open & (open - 1)) != 0)
            continue;
        size_t last = (size_t)__builtin_ctz(open);
        if (!filter_open_key(search, r, last, level)) {
            *why = search->reason[level][last];
            return false;
        }
    }
    /* After the filters: least values are final for this level only now. */
    for (size_t r = 0; r < search->rule_count; r++)
        if ((search->active & bit64(r)) && search->rules[r].is_memory &&
            !memory_may_hold(search, r, level, why))
            return false;
    return true;
}

/* Assigns the keys from `depth` on. False: no completion, and `conflict` is the set of depths whose
 * choices together rule it out. */
static bool descend(tt_search *search, size_t depth, uint16_t *conflict)
{
    if (depth == search->key_count)
        return true;
    size_t key = search->order[depth];
    uint16_t self = bit16(depth);
    uint16_t blamed = search->reason[depth][key];
    for (size_t i = 0; i < search->keys[key].value_count; i++) {
        size_t index = search->preference[key][i];
        if (!(search->domain[depth][key] & bit64(index)))
            continue;
        memcpy(search->domain[depth + 1], search->domain[depth], sizeof(search->domain[0]));
        memcpy(search->reason[depth + 1], search->reason[depth], sizeof(search->reason[0]));
        search->assigned |= bit16(key);
        search->value[key] = search->keys[key].values[index];
        uint16_t why = 0;
        bool alive = look_ahead(search, key, depth + 1, &why);
        if (alive && descend(search, depth + 1, &why))
            return true;
        search->assigned &= (uint16_t)~bit16(key);
        if (!(why & self)) { /* another value here would not help: go further back */
            *conflict = why;
            return false;
        }
        blamed |= why & (uint16_t)~self;
    }
    *conflict = blamed;
    return false;
}

bool tt_search_run(tt_search *search, uint64_t active, uint16_t held, int64_t *values)
{
    search->active = active;
    search->assigned = 0;
    for (size_t k = 0; k < search->key_count; k++) {
        const tt_resolve_key *key = &search->keys[k];
        search->root[k] = ~(uint64_t)0 >> (64 - key->value_count);
        if (held & bit16(k))
            search->root[k] = bit64((size_t)tt_search_index_of(key, key->request));
        search->domain[0][k] = search->root[k];
        search->reason[0][k] = 0;
    }
    uint16_t why = 0;
    if (!look_ahead(search, search->key_count, 0, &why) || !descend(search, 0, &why))
        return false;
    memcpy(values, search->value, search->key_count * sizeof(values[0]));
    return true;
}
