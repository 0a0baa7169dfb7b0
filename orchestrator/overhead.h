/* Whether orchestration pays: judged at the end of every trial and every 500 steps. Pure. */
#ifndef TRIMTAB_ORCHESTRATOR_OVERHEAD_H
#define TRIMTAB_ORCHESTRATOR_OVERHEAD_H

#include "trimtab/orchestrator.h"

enum { TT_OVERHEAD_EVERY = 500 };
#define TT_OVERHEAD_OF_GAIN 0.30
#define TT_OVERHEAD_OF_RUN  0.01

typedef struct tt_overhead {
    double orchestration_seconds; /* so far: policy, searches, trials */
    double run_seconds;           /* in live steps, so far */
    double seconds_to_commit;     /* run_seconds when the first commit was made */
    double budget_seconds;        /* trials.budget_seconds */
    double gain_seconds;          /* sum over commits of measured gain per step x steps since */
    bool committed;               /* something was */
} tt_overhead;

/* Seconds that orchestration may have taken by now. Before a commit: the budget and 1 % of the run.
 * After it: 30 % of the gain, or what the run was entitled to up to the commit, whichever is more:
 * at the moment of a commit the gain is still 0, and a trial that was allowed must not trip because
 * it succeeded. The gain overtakes if it is one; if not, nothing more is earned. */
double tt_overhead_limit(const tt_overhead *overhead);
/* TRIP when above; gate "overhead", observed and limit in seconds. Any figure that
 * is not finite is a trip, with observed NaN. */
tt_gate_decision tt_overhead_judge(const tt_overhead *overhead);
/* Whether `seconds` more (>= 0) may be spent now. */
bool tt_overhead_allows(const tt_overhead *overhead, double seconds);

#endif
