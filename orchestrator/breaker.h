/* The breaker of one optimization: closed -> open -> half-open -> closed. Pure: steps in, state
 * out. Open means: the baseline path is in force. */
#ifndef TRIMTAB_ORCHESTRATOR_BREAKER_H
#define TRIMTAB_ORCHESTRATOR_BREAKER_H

#include "trimtab/orchestrator.h"

enum {
    TT_BREAKER_TRIPS = 5,      /* suspected trips within the window that open it */
    TT_BREAKER_WINDOW = 512,   /* steps */
    TT_BREAKER_COOL_DOWN = 64, /* steps before the first probe; doubles with every relapse */
    TT_BREAKER_COOL_DOWN_MAX = 1024,
    TT_BREAKER_GOOD = 3,       /* good probe steps that close it */
    TT_BREAKER_FORGIVE = 1024, /* steps closed after which the cool-down starts small again */
};

/* What can happen to it. */
typedef enum tt_breaker_event {
    TT_BREAKER_SUSPECT, /* a trip that it may have caused */
    TT_BREAKER_CONVICT, /* proven: opens at once */
    TT_BREAKER_PROBE,   /* the cool-down is over and a probe begins */
    TT_BREAKER_PROBE_GOOD,
    TT_BREAKER_PROBE_BAD,  /* open again, for longer */
    TT_BREAKER_PROBE_LOST, /* the probe ended without a finding: open again, as long as before */
} tt_breaker_event;

typedef struct tt_breaker {
    tt_breaker_state state;
    int level;                           /* relapses, 0..4: the cool-down is 64 * 2^level */
    int64_t changed_at;                  /* step of the last change of state; -1024: none yet */
    int64_t probe_at;                    /* while open: the first step of a probe */
    int good;                            /* while half-open */
    int64_t suspected[TT_BREAKER_TRIPS]; /* steps of the last suspected trips since then,
                                            oldest first; -512: none */
    int64_t trips;                       /* all, suspected and proven */
} tt_breaker;

void tt_breaker_init(tt_breaker *breaker);
/* Takes the event of `step` in; true if the state changed. Events that make no sense in a state
 * (a probe of a closed breaker, or before it is due; a suspicion of one that is open) change
 * nothing. While half-open, one suspicion is a relapse. Opening again within 1,024 steps of closing
 * is a relapse, later it is as the first time.
 * Steps (>= 0) may go back, after a rollback: what lies ahead again then counts as of now for the
 * window and for forgiving. A probe stays where it was set: not before the step of the harm is
 * passed once more. */
bool tt_breaker_take(tt_breaker *breaker, tt_breaker_event event, int64_t step);
/* Open, and the cool-down is over at `step`. */
bool tt_breaker_is_due(const tt_breaker *breaker, int64_t step);
const char *tt_breaker_event_name(tt_breaker_event event);
const char *tt_breaker_state_name(tt_breaker_state state);

#endif
