#include "ladder.h"

void tt_ladder_init(tt_ladder *ladder, int64_t published)
{
    *ladder = (tt_ladder){.trip_step = -1, .last = TT_ACTION_NONE, .furthest = published - 1};
}

static tt_action next_rung(const tt_ladder *ladder, bool can_rollback, bool can_search)
{
    switch (ladder->last) {
    case TT_ACTION_NONE:
        return TT_ACTION_RETRY;
    case TT_ACTION_RETRY:
    case TT_ACTION_DISABLE:
        if (can_search) {
            return TT_ACTION_SEARCH;
        }
        /* fall through */
    case TT_ACTION_SEARCH:
        if (can_rollback && ladder->fruitless < TT_LADDER_MAX_FRUITLESS) {
            return TT_ACTION_ROLLBACK;
        }
        return TT_ACTION_SKIP;
    case TT_ACTION_ROLLBACK:
        if (ladder->look_closer && can_search) {
            return TT_ACTION_SEARCH;
        }
        /* Another copy of the same state may be as bad as the first (it was saved after the harm):
         * go deeper. If steps were replayed since, the state was not to blame. */
        if (ladder->rolled_to == ladder->trip_step && can_rollback &&
            ladder->fruitless < TT_LADDER_MAX_FRUITLESS) {
            return TT_ACTION_ROLLBACK;
        }
        return TT_ACTION_SKIP;
    case TT_ACTION_SKIP:
    case TT_ACTION_STOP:
        break;
    }
    return TT_ACTION_STOP;
}

tt_action tt_ladder_trip(tt_ladder *ladder, int64_t step, bool can_rollback, bool can_search)
{
    if (step != ladder->trip_step) {
        ladder->trip_step = step;
        ladder->last = TT_ACTION_NONE;
        ladder->look_closer = false;
        ladder->looked_closer = false;
    }
    ladder->last = next_rung(ladder, can_rollback, can_search);
    if (ladder->last == TT_ACTION_ROLLBACK) {
        ladder->fruitless++;
    }
    if (ladder->last == TT_ACTION_SEARCH) {
        ladder->look_closer = false;
    }
    return ladder->last;
}

void tt_ladder_found(tt_ladder *ladder, tt_action action)
{
    /* A retry after the search is the last one: the next trip goes on from the search. */
    ladder->last = action == TT_ACTION_RETRY ? TT_ACTION_SEARCH : action;
}

void tt_ladder_search_on(tt_ladder *ladder, int64_t step)
{
    ladder->trip_step = step;
    ladder->last = TT_ACTION_SEARCH;
}

bool tt_ladder_look_closer(tt_ladder *ladder)
{
    ladder->look_closer = !ladder->looked_closer && ladder->fruitless < TT_LADDER_MAX_FRUITLESS;
    ladder->looked_closer = true;
    return ladder->look_closer;
}

bool tt_ladder_wants_state(const tt_ladder *ladder, int64_t step)
{
    return ladder->look_closer && ladder->last == TT_ACTION_ROLLBACK &&
           step == ladder->trip_step - TT_LADDER_CLOSE && step > ladder->rolled_to;
}

void tt_ladder_rolled_back(tt_ladder *ladder, int64_t step)
{
    ladder->rolled_to = step;
}

void tt_ladder_pass(tt_ladder *ladder, int64_t step)
{
    if (step > ladder->furthest) {
        ladder->furthest = step;
        ladder->fruitless = 0;
    }
    /* On the way back up after a rollback the rung is kept: the step that tripped is still ahead.
     */
    if (step >= ladder->trip_step) {
        ladder->trip_step = -1;
        ladder->last = TT_ACTION_NONE;
    }
}
