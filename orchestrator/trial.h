/* One trial: pairs of a live step and a shadow step, and what they show. Pure and deterministic:
 * the bootstrap draws from a generator with a fixed seed. */
#ifndef TRIMTAB_ORCHESTRATOR_TRIAL_H
#define TRIMTAB_ORCHESTRATOR_TRIAL_H

#include "trimtab/orchestrator.h"

enum {
    TT_TRIAL_MIN_PAIRS = 4,
    /* To commit for speed. With fewer pairs no interval of medians holds what it promises: of
     * trials of nothing, 3 % would commit at 8 pairs, 10 % at 6 and 33 % at 4. */
    TT_TRIAL_PROOF_PAIRS = 10,
    TT_TRIAL_MAX_PAIRS = 1024,
    TT_TRIAL_RESAMPLES = 2000,
};

#define TT_TRIAL_SPEEDUP 1.02  /* the lower end of the interval must lie above */
#define TT_TRIAL_LOSS    0.005 /* the shadow's mean loss may differ by this share, upwards */
#define TT_TRIAL_SLOWEST 0.8   /* with the aim of memory: the median speed-up must not be below */

typedef enum tt_trial_outcome {
    TT_TRIAL_RUNNING,
    TT_TRIAL_COMMIT,
    TT_TRIAL_TOO_SLOW, /* the interval does not lie above the bar, or is of too few pairs */
    TT_TRIAL_WORSE_LOSS,
    TT_TRIAL_TRIPPED,   /* a gate tripped in the shadow */
    TT_TRIAL_ABANDONED, /* the live run tripped or rolled back: no finding */
    TT_TRIAL_REFUSED,   /* never began: does not conform, does not fit, over the overhead limit */
} tt_trial_outcome;

typedef struct tt_trial {
    tt_aim aim;
    int pairs; /* asked for, the discarded first one included */
    int done;
    double log_ratio[TT_TRIAL_MAX_PAIRS]; /* ln(live seconds / shadow seconds) */
    double live_loss, shadow_loss;        /* sums over the pairs that count */
    tt_trial_outcome outcome;
    /* Filled when the last pair is in, else 0. The median is the mean of the medians of the two
     * orders, on a logarithmic scale, so that a clock that drifts cancels; the bootstrap draws
     * within each order. */
    double speedup, speedup_low, speedup_high; /* median, bootstrap 95 % interval (Efron 1979,
                                                  percentile) */
    double loss_change;                        /* (shadow - live) / |live| */
} tt_trial;

/* `pairs` out of bounds are brought within. */
void tt_trial_begin(tt_trial *trial, tt_aim aim, int pairs);
/* Of the next pair: the order alternates. */
bool tt_trial_shadow_first(const tt_trial *trial);
/* Takes one pair in; nothing, once the outcome stands. The first is discarded (caches, first
 * touches). A time that is not above 0 or a loss that is not finite, also of the first, ends the
 * trial as TRIPPED. When the last pair is in, the outcome stands; loss goes before speed. */
void tt_trial_pair(tt_trial *trial, double live_seconds, double shadow_seconds, double live_loss,
                   double shadow_loss);
/* TRIPPED, ABANDONED or REFUSED end it at once, unless the outcome stands already. */
void tt_trial_end(tt_trial *trial, tt_trial_outcome outcome);
const char *tt_trial_outcome_name(tt_trial_outcome outcome);

#endif
