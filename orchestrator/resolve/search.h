/* resolve/search.h: the exact search under the resolver.
 *
 * Keys are assigned in precedence order, each one's values in order of preference, so the first
 * complete legal assignment found is the best one lexicographically. Two things keep it short, and
 * neither can skip a legal assignment: values that a rule with one open key rules out are removed
 * ahead (forward checking), and a dead end goes straight back to the deepest key that had a part in
 * it (conflict-directed backjumping; P. Prosser, "Hybrid algorithms for the constraint satisfaction
 * problem", 1993). Memory rules are monotone: with open keys at their lowest value they prune.
 *
 * Nothing here allocates; a tt_search is about 6 KiB and lives on the stack.
 */
#ifndef TRIMTAB_RESOLVE_SEARCH_H
#define TRIMTAB_RESOLVE_SEARCH_H

#include "trimtab/config.h"

typedef struct tt_search {
    const tt_resolve_key *keys;
    size_t key_count;
    const tt_resolve_rule *rules;
    size_t rule_count;
    uint8_t order[TT_RESOLVE_MAX_KEYS];                             /* depth -> key */
    uint8_t depth_of[TT_RESOLVE_MAX_KEYS];                          /* key -> depth */
    uint8_t preference[TT_RESOLVE_MAX_KEYS][TT_RESOLVE_MAX_VALUES]; /* best value index first */
    uint16_t rule_keys[TT_RESOLVE_MAX_RULES];                       /* the keys a rule sees */

    /* One run's state; masks of values by key, masks of keys by depth. */
    uint64_t active;   /* rules that count */
    uint16_t assigned; /* keys that have a value */
    int64_t value[TT_RESOLVE_MAX_KEYS];
    uint64_t root[TT_RESOLVE_MAX_KEYS];                            /* values before any choice */
    uint64_t domain[TT_RESOLVE_MAX_KEYS + 1][TT_RESOLVE_MAX_KEYS]; /* values left, per depth */
    uint16_t reason[TT_RESOLVE_MAX_KEYS + 1][TT_RESOLVE_MAX_KEYS]; /* depths that removed some */
} tt_search;

/* The arguments must have passed tt_resolve's checks. */
void tt_search_init(tt_search *search, const tt_resolve_key *keys, size_t key_count,
                    const tt_resolve_rule *rules, size_t rule_count);

/* The best assignment under the rules of mask `active` that leaves every key of mask `held` (whose
 * requests are on their lattices) at its request. False, with `values` untouched, if none exists.
 */
bool tt_search_run(tt_search *search, uint64_t active, uint16_t held, int64_t *values);

/* Whether rule number `rule` holds for a complete assignment. */
bool tt_search_rule_holds(const tt_search *search, size_t rule, const int64_t *values);

/* The index of `value` in the key's lattice, or -1. */
int tt_search_index_of(const tt_resolve_key *key, int64_t value);

#endif
