/* One series (log loss, log gradient norm) watched for spikes and drift, against the running median
 * and median absolute deviation of the last accepted steps. Pure, constant time and memory. */
#ifndef TRIMTAB_ORCHESTRATOR_WATCH_H
#define TRIMTAB_ORCHESTRATOR_WATCH_H

#include "trimtab/orchestrator.h"

enum { TT_WATCH_WINDOW = 128 };

/* Least scales, in natural logarithms: below them a series counts as quiet. */
#define TT_WATCH_FLOOR_LOSS 0.02
#define TT_WATCH_FLOOR_NORM 0.1

typedef struct tt_watch {
    int64_t count;                  /* values taken in */
    double ring[TT_WATCH_WINDOW];   /* the last accepted values, in order of arrival */
    double sorted[TT_WATCH_WINDOW]; /* the same, ascending */
    double cusum;                   /* one-sided, upward (Page 1954) */
} tt_watch;

/* Armed once the window is full. */
bool tt_watch_armed(const tt_watch *watch);
/* (value - median) / scale, scale = max(1.4826 MAD, `floor`). 0 while not armed. */
double tt_watch_score(const tt_watch *watch, double value, double floor);
/* The CUSUM as it would be after a step with this score. */
double tt_watch_cusum(const tt_watch *watch, double score);
/* Takes an accepted value (finite) in. */
void tt_watch_accept(tt_watch *watch, double value, double floor);
/* Rebuilds `sorted` from `ring` and `count` (after reading a checkpoint). */
void tt_watch_rebuild(tt_watch *watch);

#endif
