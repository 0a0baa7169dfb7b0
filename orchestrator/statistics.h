/* Statistics inside the orchestrator: beside the public ones, sorting without allocation. */
#ifndef TRIMTAB_ORCHESTRATOR_STATISTICS_H
#define TRIMTAB_ORCHESTRATOR_STATISTICS_H

#include "trimtab/statistics.h"

/* Ascending, in place; for some thousand values at most, none of them NaN. (qsort may allocate.) */
void tt_sort(double *values, size_t count);
/* The median of values that are sorted already; count > 0. */
double tt_median_sorted(const double *sorted, size_t count);

#endif
