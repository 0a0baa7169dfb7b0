#include "test_resolve_oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t bound)
{
    return (size_t)(random_next(state) % bound);
}

/* ---- rules -------------------------------------------------------------------------------- */

/* A random truth table, by hash, so that it needs no storage. */
static bool table_holds(const random_rule *rule, const int64_t *values, size_t count)
{
    uint64_t state = rule->table;
    for (size_t i = 0; i < count; i++) {
        state ^= (uint64_t)values[i];
        state = random_next(&state);
    }
    return state < rule->threshold;
}

static bool table1(const void *user, const int64_t *v)
{
    return table_holds(user, v, 1);
}

static bool table2(const void *user, const int64_t *v)
{
    return table_holds(user, v, 2);
}

static bool table3(const void *user, const int64_t *v)
{
    return table_holds(user, v, 3);
}

static bool table4(const void *user, const int64_t *v)
{
    return table_holds(user, v, 4);
}

static bool divides(const void *user, const int64_t *v)
{
    (void)user;
    return v[0] % v[1] == 0 || v[1] % v[0] == 0;
}

static bool product_is_multiple(const void *user, const int64_t *v)
{
    const random_rule *rule = user;
    return v[0] * rule->budget % v[1] == 0;
}

/* What grows with the need of memory: where it falls with the value, the value mirrored. */
static int64_t need(const tt_resolve_key *key, int64_t value)
{
    return key->memory_falls ? key->values[0] + key->values[key->value_count - 1] - value : value;
}

static bool fits(const void *user, const int64_t *v)
{
    const random_rule *rule = user;
    int64_t sum = 0;
    for (size_t i = 0; i < rule->count; i++)
        sum += rule->weights[i] * need(rule->of[i], v[i]);
    return sum <= rule->budget;
}

static bool fits_product(const void *user, const int64_t *v)
{
    const random_rule *rule = user;
    int64_t product = 1;
    for (size_t i = 0; i < rule->count; i++)
        product *= need(rule->of[i], v[i]);
    return product <= rule->budget * rule->budget * 16;
}

static void make_rule(random_case *c, size_t r, uint64_t *state)
{
    tt_resolve_rule *rule = &c->rules[r];
    random_rule *data = &c->rule_data[r];
    snprintf(c->rule_names[r], sizeof(c->rule_names[r]), "rule%zu", r);
    *rule = (tt_resolve_rule){.name = c->rule_names[r], .user = data};
    data->table = random_next(state);
    data->threshold = UINT64_MAX / 100 * (25 + below(state, 70));
    data->budget = 4 + (int64_t)below(state, 60);
    size_t kind = below(state, 8);
    size_t wanted = kind < 4 ? kind + 1 : 2;
    for (size_t i = 0; i < 4; i++) { /* different keys where there are enough */
        rule->keys[i] = below(state, c->key_count);
        for (size_t j = 0; j < i && wanted <= c->key_count; j++) {
            if (rule->keys[i] == rule->keys[j]) {
                rule->keys[i] = (rule->keys[i] + 1) % c->key_count;
                j = (size_t)-1;
            }
            if (i >= c->key_count)
                break;
        }
    }
    rule->key_count = wanted;
    if (kind < 4) {
        rule->holds = kind == 0 ? table1 : kind == 1 ? table2 : kind == 2 ? table3 : table4;
    } else if (kind == 4) {
        rule->holds = divides;
    } else if (kind == 5) {
        rule->holds = product_is_multiple;
    } else {
        bool all = below(state, 2) == 0;
        rule->is_memory = true;
        rule->key_count = all ? 0 : 1 + below(state, 4);
        data->count = all ? c->key_count : rule->key_count;
        rule->holds = kind == 6 ? fits : fits_product;
        for (size_t i = 0; i < data->count; i++) {
            data->weights[i] = (int64_t)below(state, 4);
            data->of[i] = &c->keys[all ? i : rule->keys[i]];
        }
        data->budget = kind == 6 ? (int64_t)below(state, 300) : (int64_t)below(state, 40);
    }
}

/* ---- cases -------------------------------------------------------------------------------- */

static void make_key(random_case *c, size_t k, bool powers, uint64_t *state)
{
    tt_resolve_key *key = &c->keys[k];
    int64_t value = powers ? 1 << below(state, 4) : 1 + (int64_t)below(state, 8);
    snprintf(c->names[k], sizeof(c->names[k]), "section.key%zu", k);
    snprintf(c->origins[k], sizeof(c->origins[k]), "origin%zu", k);
    key->name = c->names[k];
    key->origin = c->origins[k];
    key->values = c->values[k];
    key->value_count = 1 + below(state, CASE_VALUES);
    key->tier = TT_TIER_TILE + (tt_tier)below(state, 3);
    for (size_t i = 0; i < key->value_count; i++) {
        c->values[k][i] = value;
        value = powers ? value * 2 : value + 1 + (int64_t)below(state, 8);
    }
    key->request = below(state, 2) == 0 ? key->values[below(state, key->value_count)]
                                        : (int64_t)below(state, 80) - 8;
    key->pinned = below(state, 4) == 0;
    key->memory_falls = below(state, 4) == 0;
}

void random_case_make(random_case *c, uint64_t seed)
{
    uint64_t state = seed;
    random_next(&state);
    memset(c, 0, sizeof(*c));
    c->key_count = 1 + below(&state, CASE_KEYS);
    c->rule_count = below(&state, CASE_RULES + 1);
    bool powers = below(&state, 2) == 0;
    for (size_t k = 0; k < c->key_count; k++)
        make_key(c, k, powers, &state);
    for (size_t r = 0; r < c->rule_count; r++)
        make_rule(c, r, &state);
}

size_t random_case_size(const random_case *c)
{
    size_t size = 1;
    for (size_t k = 0; k < c->key_count; k++)
        size *= c->keys[k].value_count;
    return size;
}

/* ---- the definition, by enumeration ------------------------------------------------------- */

static bool rule_holds(const random_case *c, size_t r, const int64_t *values)
{
    const tt_resolve_rule *rule = &c->rules[r];
    int64_t arguments[CASE_KEYS];
    size_t count = rule->key_count > 0 ? rule->key_count : c->key_count;
    for (size_t i = 0; i < count; i++)
        arguments[i] = values[rule->key_count > 0 ? rule->keys[i] : i];
    return rule->holds(rule->user, arguments);
}

bool oracle_is_legal(const random_case *c, const int64_t *values, bool with_memory)
{
    for (size_t r = 0; r < c->rule_count; r++)
        if ((with_memory || !c->rules[r].is_memory) && !rule_holds(c, r, values))
            return false;
    return true;
}

/* All legal assignments, as numbers in mixed radix. */
static size_t enumerate(const random_case *c, unsigned active, uint32_t *legal)
{
    size_t count = 0;
    size_t size = random_case_size(c);
    for (uint32_t number = 0; number < size; number++) {
        int64_t values[CASE_KEYS] = {0};
        uint32_t rest = number;
        bool all = true;
        for (size_t k = 0; k < c->key_count; k++) {
            values[k] = c->keys[k].values[rest % c->keys[k].value_count];
            rest /= (uint32_t)c->keys[k].value_count;
        }
        for (size_t r = 0; r < c->rule_count && all; r++)
            all = !(active & (1U << r)) || rule_holds(c, r, values);
        if (all)
            legal[count++] = number;
    }
    return count;
}

static int64_t value_in(const random_case *c, uint32_t number, size_t key)
{
    for (size_t k = 0; k < key; k++)
        number /= (uint32_t)c->keys[k].value_count;
    return c->keys[key].values[number % c->keys[key].value_count];
}

/* Keeps the assignments that give `key` this value. Returns how many. */
static size_t keep(const random_case *c, uint32_t *legal, size_t count, size_t key, int64_t value)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (value_in(c, legal[i], key) == value)
            legal[kept++] = legal[i];
    return kept;
}

static bool is_better(const tt_resolve_key *key, int64_t a, int64_t b)
{
    int64_t away_a = llabs(a - key->request);
    int64_t away_b = llabs(b - key->request);
    return away_a < away_b || (away_a == away_b && a > b);
}

/* The keys in precedence order. */
static size_t by_precedence(const random_case *c, size_t *order)
{
    size_t count = 0;
    for (tt_tier tier = TT_TIER_TILE; tier <= TT_TIER_RLVR; tier++)
        for (size_t k = 0; k < c->key_count; k++)
            if (c->keys[k].tier == tier)
                order[count++] = k;
    return count;
}

bool oracle_resolve(const random_case *c, unsigned active, int64_t *values)
{
    static uint32_t legal[CASE_ASSIGNMENTS];
    size_t order[CASE_KEYS];
    size_t keys = by_precedence(c, order);
    size_t count = enumerate(c, active, legal);
    if (count == 0)
        return false;
    for (size_t i = 0; i < keys; i++) { /* 1. pins */
        const tt_resolve_key *key = &c->keys[order[i]];
        bool possible = false;
        for (size_t j = 0; j < count && key->pinned && !possible; j++)
            possible = value_in(c, legal[j], order[i]) == key->request;
        if (possible)
            count = keep(c, legal, count, order[i], key->request);
    }
    for (size_t i = 0; i < keys; i++) { /* 2. the nearest possible value of each key */
        int64_t best = value_in(c, legal[0], order[i]);
        for (size_t j = 1; j < count; j++) {
            int64_t value = value_in(c, legal[j], order[i]);
            if (is_better(&c->keys[order[i]], value, best))
                best = value;
        }
        count = keep(c, legal, count, order[i], best);
        values[order[i]] = best;
    }
    return true;
}
