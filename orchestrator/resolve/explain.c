#include "resolve/explain.h"

#include <inttypes.h>

static uint64_t bit64(size_t index)
{
    return (uint64_t)1 << index;
}

/* The rule that breaks if `key` alone goes to the value nearest to its request. There always is
 * one: that assignment would have been preferred. Where memory was the reason, a memory rule is
 * looked for first. */
static size_t rule_behind(const tt_search *search, const tt_resolution *resolution, size_t key)
{
    int64_t values[TT_RESOLVE_MAX_KEYS] = {0};
    for (size_t k = 0; k < search->key_count; k++)
        values[k] = resolution->values[k];
    values[key] = search->keys[key].values[search->preference[key][0]];
    size_t found = search->rule_count;
    for (size_t r = 0; r < search->rule_count; r++) {
        if (tt_search_rule_holds(search, r, values))
            continue;
        if (found == search->rule_count ||
            (resolution->for_memory[key] && search->rules[r].is_memory &&
             !search->rules[found].is_memory))
            found = r;
    }
    return found;
}

static void add_reason(const tt_search *search, const tt_resolution *resolution, size_t key,
                       tt_text *trace)
{
    const tt_resolve_key *k = &search->keys[key];
    size_t rule = search->rule_count;
    if (resolution->values[key] != k->values[search->preference[key][0]])
        rule = rule_behind(search, resolution, key);
    if (rule == search->rule_count)
        tt_text_add(trace, "nearest on the lattice");
    else if (!search->rules[rule].is_memory)
        tt_text_addf(trace, "rule '%s'%s", search->rules[rule].name,
                     resolution->for_memory[key] ? ", after a move for memory" : "");
    else
        tt_text_addf(trace, "memory: rule '%s'%s", search->rules[rule].name,
                     k->tier == TT_TIER_RLVR ? "" : "; lower keys cannot make room");
}

/* A value as users write it. */
static void add_value(tt_text *out, const tt_resolve_key *key, int64_t value)
{
    int index = tt_search_index_of(key, value);
    if (key->value_names != NULL && index >= 0)
        tt_text_add(out, key->value_names[index]);
    else
        tt_text_addf(out, "%" PRId64, value);
}

void tt_resolve_write_trace(const tt_search *search, const tt_resolution *resolution,
                            tt_text *trace)
{
    for (size_t depth = 0; depth < search->key_count; depth++) {
        size_t key = search->order[depth];
        const tt_resolve_key *k = &search->keys[key];
        if (!resolution->moved[key])
            continue;
        tt_text_addf(trace, "%s%s ", k->pinned ? "warning: " : "", k->name);
        add_value(trace, k, k->request);
        tt_text_add(trace, " -> ");
        add_value(trace, k, resolution->values[key]);
        tt_text_add(trace, " (");
        if (k->pinned)
            tt_text_addf(trace, "set by %s; ", k->origin);
        add_reason(search, resolution, key, trace);
        tt_text_add(trace, ")\n");
    }
}

/* Takes rules away one by one as long as the rest still cannot hold together. */
static uint64_t smallest_conflict(tt_search *search, uint64_t active)
{
    int64_t ignored[TT_RESOLVE_MAX_KEYS];
    for (size_t r = 0; r < search->rule_count; r++) {
        uint64_t without = active & ~bit64(r);
        if (without != active && !tt_search_run(search, without, 0, ignored))
            active = without;
    }
    return active;
}

/* What a user can change about the rules. */
static void add_dependencies(tt_text *out, const tt_search *search, uint64_t conflict)
{
    const char *separator = "; change ";
    for (size_t r = 0; r < search->rule_count; r++) {
        if (!(conflict & bit64(r)) || search->rules[r].depends == NULL)
            continue;
        tt_text_addf(out, "%s%s", separator, search->rules[r].depends);
        separator = ", ";
    }
    if (*separator == ';')
        tt_text_add(out, "; change what the rule depends on");
}

tt_status tt_resolve_fail(tt_search *search, uint64_t active)
{
    tt_text text;
    tt_text_init(&text);
    uint64_t conflict = smallest_conflict(search, active);
    unsigned bound = 0;
    const char *separator = "";
    for (size_t r = 0; r < search->rule_count; r++) {
        if (!(conflict & bit64(r)))
            continue;
        bound |= search->rule_keys[r];
        tt_text_addf(&text, "%s'%s'", separator, search->rules[r].name);
        separator = " and ";
    }
    tt_text_add(&text, (conflict & (conflict - 1)) != 0 ? " cannot hold together" : " cannot hold");
    separator = " for any legal value of ";
    for (size_t depth = 0; depth < search->key_count; depth++) {
        const tt_resolve_key *key = &search->keys[search->order[depth]];
        if (!(bound & (1U << search->order[depth])))
            continue;
        tt_text_addf(&text, "%s%s = ", separator, key->name);
        add_value(&text, key, key->request);
        tt_text_addf(&text, " (%s)", key->origin);
        separator = ", ";
    }
    add_dependencies(&text, search, conflict);
    tt_status status = tt_text_check(&text);
    if (status == TT_OK)
        status = tt_fail(TT_ECONFIG, "%s", text.data);
    tt_text_clear(&text);
    return status;
}
