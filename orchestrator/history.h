/* The decisions of a run that change its configuration, or what may be proposed next: commits,
 * switches, what happened to breakers, what trials found. Each takes effect at a step; a run that
 * goes back takes back what came later, and one that goes over the same steps again follows it. */
#ifndef TRIMTAB_ORCHESTRATOR_HISTORY_H
#define TRIMTAB_ORCHESTRATOR_HISTORY_H

#include "adapt.h"
#include "breaker.h"
#include "trial.h"

#include <jansson.h>

enum { TT_DECISION_CHANGES = 16 };

typedef enum tt_decision_kind {
    TT_DECISION_COMMIT, /* a trial's outcome: values change */
    TT_DECISION_REVERT, /* values go back: no gain */
    TT_DECISION_SWITCH, /* values of some live steps: a suspect left out, a trial that alternates */
    TT_DECISION_BREAKER,  /* an event of one breaker */
    TT_DECISION_TRIAL,    /* one that did not lead to a commit */
    TT_DECISION_BASELINE, /* a measurement with all optimizations off */
    TT_DECISION_OVERHEAD, /* trials stop: they cost more than they gain */
} tt_decision_kind;

typedef struct tt_change {
    char key[64];
    char from[32], to[32];
} tt_change;

typedef struct tt_decision {
    tt_decision_kind kind;
    int64_t sequence;                       /* 1, 2, ... in the order in which they were made */
    int64_t step;                           /* the first that it applies to */
    int optimization;                       /* index; -1: all of them (BASELINE, OVERHEAD) */
    tt_breaker_event event;                 /* of BREAKER */
    bool on_suspicion;                      /* of SWITCH: it leaves a suspect out */
    tt_change changes[TT_DECISION_CHANGES]; /* of COMMIT and TRIAL: first what was proposed, then
                                               what precedence moved along */
    int change_count;
    tt_trial_outcome outcome; /* of TRIAL */
    tt_adapt_move move;       /* of COMMIT and TRIAL: the proposal */
    double input;             /* of COMMIT and TRIAL: what it rested on; of BASELINE: the speed-up,
                                 0 if it was not found */
    double gain_seconds;      /* of COMMIT: measured, per step */
    double step_seconds;      /* of COMMIT: of a live step before it */
    double run_seconds;       /* of COMMIT: in live steps before it */
    bool applied;             /* the configuration in force has it */
} tt_decision;

typedef struct tt_history {
    tt_decision *decisions;
    size_t count, capacity;
    int64_t last_sequence; /* also of decisions that could not be read */
    int64_t due;           /* the first step of what is not applied; INT64_MAX: nothing */
    int64_t latest;        /* the last step of what is applied; -1: nothing */
    int64_t last_switch;   /* the last step with a SWITCH; -1 */
} tt_history;

void tt_history_init(tt_history *history);
void tt_history_clear(tt_history *history);
/* Copies it in; numbers it if its sequence is 0. One whose number is not above the last is known
 * already and left out. */
tt_status tt_history_add(tt_history *history, const tt_decision *decision);
/* After `applied` was changed anywhere. */
void tt_history_update(tt_history *history);
/* The SWITCH that holds at `step`: the last one made; NULL if there is none. */
const tt_decision *tt_history_switch_at(const tt_history *history, int64_t step);
/* To and from a journal record. The name of the optimization stands for its index (NULL for -1).
 * `read` returns false for a record that is no decision, or of an optimization that is not there;
 * its sequence is set all the same if it has one. */
json_t *tt_decision_to_json(const tt_decision *decision, const char *optimization);
bool tt_decision_from_json(const json_t *record,
                           int (*index_of)(const void *user, const char *name), const void *user,
                           tt_decision *out);
const char *tt_decision_kind_name(tt_decision_kind kind);
/* Whether records of this kind in the journal are decisions. */
bool tt_decision_is_kind(const char *kind);

#endif
