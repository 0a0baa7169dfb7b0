/* The decisions of a run that change its configuration: commits, switches, and what happened to
 * breakers. Each takes effect at a step; a run that goes back takes back what came later, and one
 * that goes over the same steps again follows it. */
#ifndef TRIMTAB_ORCHESTRATOR_HISTORY_H
#define TRIMTAB_ORCHESTRATOR_HISTORY_H

#include "breaker.h"

#include <jansson.h>

enum { TT_DECISION_CHANGES = 16 };

typedef enum tt_decision_kind {
    TT_DECISION_COMMIT, /* a trial's outcome: values change */
    TT_DECISION_REVERT, /* values go back: no gain */
    TT_DECISION_SWITCH, /* values of some live steps: a suspect left out, a trial that alternates */
    TT_DECISION_BREAKER, /* an event of one breaker */
} tt_decision_kind;

typedef struct tt_change {
    char key[64];
    char from[32], to[32];
} tt_change;

typedef struct tt_decision {
    tt_decision_kind kind;
    int64_t sequence;       /* 1, 2, ... in the order in which they were made */
    int64_t step;           /* the first that it applies to */
    int optimization;       /* index */
    tt_breaker_event event; /* of BREAKER */
    tt_change changes[TT_DECISION_CHANGES];
    int change_count;
    double gain_seconds; /* of COMMIT: measured, per step */
    bool applied;        /* the configuration in force has it */
} tt_decision;

typedef struct tt_history {
    tt_decision *decisions;
    size_t count, capacity;
    int64_t next_sequence;
} tt_history;

void tt_history_clear(tt_history *history);
/* Copies it in; numbers it if its sequence is 0. One whose number is not above the last is known
 * already and left out. */
tt_status tt_history_add(tt_history *history, const tt_decision *decision);
/* To and from a journal record. The name of the optimization stands for its index. `read` returns
 * false for a record that is no decision, or of an optimization that is not there. */
json_t *tt_decision_to_json(const tt_decision *decision, const char *optimization);
bool tt_decision_from_json(const json_t *record,
                           int (*index_of)(const void *user, const char *name), const void *user,
                           tt_decision *out);
const char *tt_decision_kind_name(tt_decision_kind kind);

#endif
