/* resolve/collect.h: a configuration as the resolver sees it. */
#ifndef TRIMTAB_RESOLVE_COLLECT_H
#define TRIMTAB_RESOLVE_COLLECT_H

#include "config/config_internal.h"

/* A parameter that can move. */
typedef struct tt_collected_key {
    size_t index; /* in the parameter table */
    const tt_param *param;
    /* The choices of a ladder, as words and as the lattice 0, 1, 2, ... */
    char text[TT_LADDER_BYTES];
    const char *words[TT_LADDER_CHOICES];
    int64_t rungs[TT_LADDER_CHOICES];
} tt_collected_key;

typedef struct tt_collection tt_collection;

/* A rule of which some keys can move, with the values of those that cannot. */
typedef struct tt_collected_rule {
    const tt_rule *rule;
    const tt_collection *of;
    tt_value values[TT_RULE_KEYS];
    size_t moving[TT_RULE_KEYS]; /* places of the keys that can, of the resolver's key_count */
    char depends[256];
} tt_collected_rule;

struct tt_collection {
    tt_resolve_key keys[TT_RESOLVE_MAX_KEYS];
    tt_resolve_rule rules[TT_RESOLVE_MAX_RULES];
    size_t key_count;
    size_t rule_count;
    tt_collected_key own_keys[TT_RESOLVE_MAX_KEYS];    /* behind `keys` */
    tt_collected_rule own_rules[TT_RESOLVE_MAX_RULES]; /* behind `rules` */
    /* The memory rule. */
    const tt_resolve_options *options;
    tt_config *scratch; /* owned; NULL: there is no such rule */
    int64_t budget;
};

/* Gathers keys and rules; points into `config` and into itself. TT_ECONFIG for a rule that breaks
 * and of which no key can move. Cleared also after a failure. */
tt_status tt_collection_init(tt_collection *collection, const tt_config *config,
                             const tt_resolve_options *options);
void tt_collection_clear(tt_collection *collection);

/* The values of `keys`; false if one of them is `auto`. */
bool tt_collect_values(const tt_config *config, const char *const keys[TT_RULE_KEYS],
                       tt_value values[TT_RULE_KEYS]);
/* Adds "a.b = 5 (a.yaml:3), c.d = 6 (default)" for all keys, or for those of which `skip` (may be
 * NULL) is not set. */
void tt_collect_describe(const tt_config *config, const char *const keys[TT_RULE_KEYS],
                         const bool *skip, tt_text *out);

#endif
