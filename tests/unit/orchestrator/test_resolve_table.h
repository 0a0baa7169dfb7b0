/* Seven steered parameters of all three tiers, their rules and an estimate of memory: a small model
 * of what the trainer registers, for the tests of tt_config_resolve. */
#ifndef TEST_RESOLVE_TABLE_H
#define TEST_RESOLVE_TABLE_H

#include "test_resolve_oracle.h"

/* In the order of precedence: tier, then key. */
enum { TILE_K, ACTIVATIONS, BLOCK, MOMENTS, GROUP, PAGE, STEERED };
enum { RULE_DIVIDES, RULE_PAGE, RULE_INT8, RULE_POOL, RULE_BUDGET, STEERED_RULES };

extern const char *const steered_keys[STEERED];

/* The table with its rules and one advice; aborts the test where it is refused. */
tt_params *steered_params(void);
/* What a run takes, by the same arithmetic as the oracle's. */
int64_t steered_estimate(void *user, const tt_config *config);
tt_resolve_options steered_options(bool strict);

/* The values in force as the resolver counts them (a ladder: the number of its choice). An `auto`
 * counts as its default. */
void steered_values(const tt_config *config, int64_t values[STEERED]);
/* `value` as one would write it. */
const char *steered_text(size_t key, int64_t value, char out[32]);
const int64_t *steered_lattice(size_t key, size_t *count);
/* Whether all rules hold whose keys are not `auto`; worked out here, not by the code under test. */
bool steered_is_legal(const tt_config *config);

/* The same as a case for brute force; without the keys that are `auto`. `places` receives which key
 * each one of the case is. */
void steered_case(const tt_config *config, random_case *c, size_t places[STEERED]);

#endif
