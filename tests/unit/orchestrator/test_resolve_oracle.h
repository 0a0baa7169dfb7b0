/* Random resolver cases, and the definition in config.h carried out by brute force. */
#ifndef TEST_RESOLVE_ORACLE_H
#define TEST_RESOLVE_ORACLE_H

#include "trimtab/config.h"

enum { CASE_KEYS = 6, CASE_VALUES = 6, CASE_RULES = 6, CASE_ASSIGNMENTS = 46656 };

typedef struct random_rule {
    uint64_t table;     /* seed of a truth table */
    uint64_t threshold; /* share of its entries that hold */
    int64_t weights[CASE_KEYS];
    int64_t budget;
    size_t count;                        /* values a memory rule sees */
    const tt_resolve_key *of[CASE_KEYS]; /* the keys that they are of */
} random_rule;

typedef struct random_case {
    tt_resolve_key keys[CASE_KEYS];
    size_t key_count;
    tt_resolve_rule rules[CASE_RULES];
    size_t rule_count;
    int64_t values[CASE_KEYS][CASE_VALUES];
    char names[CASE_KEYS][32];
    char origins[CASE_KEYS][32];
    char rule_names[CASE_RULES][32];
    random_rule rule_data[CASE_RULES];
} random_case;

uint64_t random_next(uint64_t *state);

/* Fills the case; it points into itself and must not be moved. */
void random_case_make(random_case *c, uint64_t seed);

/* How many assignments the case has. */
size_t random_case_size(const random_case *c);

bool oracle_is_legal(const random_case *c, const int64_t *values, bool with_memory);

/* The resolution by enumeration; only rules of mask `active` count. False: none is legal. */
bool oracle_resolve(const random_case *c, unsigned active, int64_t *values);

#endif
