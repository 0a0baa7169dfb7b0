/* trimtab/statistics.h: the little statistics that measuring needs. Pure functions, thread-safe, no
 * allocation. */
#ifndef TRIMTAB_STATISTICS_H
#define TRIMTAB_STATISTICS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The median; of an even count, the mean of the two in the middle. Reorders `values`, which must
 * not hold a NaN. NaN for a count of 0. For some thousand values at most. */
TT_API double tt_median(double *values, size_t count);

typedef struct tt_interval {
    double low, high;
} tt_interval;

/* Two-sided intervals for a proportion, of which `successes` in `trials` were seen; `confidence` in
 * (0, 1), such as 0.95. Nothing seen (trials 0), or arguments that make no sense: [0, 1].
 *
 * Wilson 1927, the score interval: covers `confidence` on average. */
TT_API tt_interval tt_wilson_interval(int64_t successes, int64_t trials, double confidence);
/* Clopper and Pearson 1934, the exact interval: covers `confidence` or more, always. Time grows
 * with the square root of `trials`; good to 1e-9 up to a million of them. */
TT_API tt_interval tt_clopper_pearson_interval(int64_t successes, int64_t trials,
                                               double confidence);

#ifdef __cplusplus
}
#endif
#endif
