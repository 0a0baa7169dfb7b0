/* One series (log loss, log gradient norm) watched for spikes and drift, against the running median
 * and median absolute deviation of the last accepted steps. Pure, constant time and memory. */
#ifndef TRIMTAB_ORCHESTRATOR_WATCH_H
#define TRIMTAB_ORCHESTRATOR_WATCH_H

#include "trimtab/orchestrator.h"

enum { TT_WATCH_WINDOW = 128, TT_WATCH_LEVELS = 8 };

typedef struct tt_watch {
    int64_t count;                  /* values taken in */
    double ring[TT_WATCH_WINDOW];   /* the last accepted values, in order of arrival */
    double sorted[TT_WATCH_WINDOW]; /* the same, ascending */
    double levels[TT_WATCH_LEVELS]; /* ring of the medians of the last full windows, one per 128
                                       values: window n (from 0) is at n % TT_WATCH_LEVELS */
    double cusum;                   /* one-sided, upward (Page 1954) */
} tt_watch;

/* What a series is like when it is healthy. */
typedef struct tt_watch_rule {
    double floor; /* least scale, in natural logarithms: below it the series counts as quiet */
    bool falls;   /* drift is measured from the lowest recent level, not from the running median,
                     which follows a slow rise and so never sees it */
} tt_watch_rule;

/* docs/gates.md has the measurements behind these. */
#define TT_WATCH_FLOOR_LOSS 0.05
#define TT_WATCH_FLOOR_NORM 0.28

/* Armed once the window is full. */
bool tt_watch_armed(const tt_watch *watch);
/* (value - median) / scale, scale = max(1.4826 MAD, floor). 0 while not armed. */
double tt_watch_score(const tt_watch *watch, double value, tt_watch_rule rule);
/* The CUSUM as it would be after a step with this value. */
double tt_watch_cusum(const tt_watch *watch, double value, tt_watch_rule rule);
/* Takes an accepted value (finite) in. */
void tt_watch_accept(tt_watch *watch, double value, tt_watch_rule rule);
/* Rebuilds `sorted` from `ring` and `count` (after reading a checkpoint). */
void tt_watch_rebuild(tt_watch *watch);

#endif
