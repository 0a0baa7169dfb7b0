/* What follows a trip: retry -> search for the culprit -> roll back -> skip -> stop. A pure state
 * machine; it knows steps, not slots. */
#ifndef TRIMTAB_ORCHESTRATOR_LADDER_H
#define TRIMTAB_ORCHESTRATOR_LADDER_H

#include "trimtab/orchestrator.h"

/* Rollbacks in a row without a step that was never reached before: two steps that fail in turn
 * must not send the run back and forth for ever. */
enum { TT_LADDER_MAX_FRUITLESS = 3 };
/* From that many steps before the trip, a search among four suspects stays within its bounds, also
 * when it has begun with two younger states; harm shows within fewer. */
enum { TT_LADDER_CLOSE = 4 };

typedef struct tt_ladder {
    int64_t trip_step; /* the step that the ladder stands at; -1: none */
    tt_action last;    /* the rung taken last at trip_step */
    int64_t furthest;  /* highest step ever published */
    int fruitless;     /* rollbacks since `furthest` moved */
    int64_t rolled_to; /* where the last rollback landed */
    /* A search at trip_step found nothing in the states that were near enough. On the way up from
     * an older one, a state is saved shortly before the step, and then there is one more search. */
    bool look_closer, looked_closer;
} tt_ladder;

void tt_ladder_init(tt_ladder *ladder, int64_t published);
/* `can_rollback`: there is a state older than the published one, or another copy of it.
 * `can_search`: replays are possible, or there is someone to suspect. */
tt_action tt_ladder_trip(tt_ladder *ladder, int64_t step, bool can_rollback, bool can_search);
/* What the search that was asked for led to: RETRY (the fault was transient), DISABLE, SKIP or
 * STOP. After DISABLE the same step may be searched again: something else may be harmful too. */
void tt_ladder_found(tt_ladder *ladder, tt_action action);
/* An earlier process ended in the middle of a search at `step`: it goes on. */
void tt_ladder_search_on(tt_ladder *ladder, int64_t step);
/* The rollback that was asked for went back to step `step`. */
void tt_ladder_rolled_back(tt_ladder *ladder, int64_t step);
/* The search could not tell, and there is a state that it could not begin from: the next rung is to
 * be the rollback to it. False if that was done once already. */
bool tt_ladder_look_closer(tt_ladder *ladder);
/* Whether the state of `step` is worth saving for the search that is to come. */
bool tt_ladder_wants_state(const tt_ladder *ladder, int64_t step);
/* Step `step` was published. */
void tt_ladder_pass(tt_ladder *ladder, int64_t step);

#endif
