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
    double floor;     /* least noise, in natural logarithms */
    double allowance; /* k of the CUSUM: scores up to this are no drift */
    bool falls; /* drift is measured from the lowest recent level, not from the running median,
                   which follows a slow rise and so never sees it */
} tt_watch_rule;

/* The loss falls in a healthy run. Gradient norms have heavier tails, and rise: while the loss
 * falls fastest, they double within 250 steps. docs/gates.md has the measurements behind the
 * figures. */
#define TT_WATCH_RULE_LOSS ((tt_watch_rule){.floor = 0.03, .allowance = 0.5, .falls = true})
#define TT_WATCH_RULE_NORM ((tt_watch_rule){.floor = 0.22, .allowance = 0.75, .falls = false})

/* Armed once the window is full. */
bool tt_watch_armed(const tt_watch *watch);
/* (value - median) / scale, scale^2 = (1.4826 MAD)^2 + floor^2. 0 while not armed. */
double tt_watch_score(const tt_watch *watch, double value, tt_watch_rule rule);
/* The CUSUM as it would be after a step with this value. */
double tt_watch_cusum(const tt_watch *watch, double value, tt_watch_rule rule);
/* Takes an accepted value (finite) in. */
void tt_watch_accept(tt_watch *watch, double value, tt_watch_rule rule);
/* Rebuilds `sorted` from `ring` and `count` (after reading a checkpoint). */
void tt_watch_rebuild(tt_watch *watch);

#endif
