#include "overhead.h"

#include <math.h>

static bool is_readable(const tt_overhead *overhead)
{
    return isfinite(overhead->orchestration_seconds + overhead->run_seconds +
                    overhead->seconds_to_commit + overhead->budget_seconds +
                    overhead->gain_seconds);
}

double tt_overhead_limit(const tt_overhead *overhead)
{
    double alone = overhead->committed ? overhead->seconds_to_commit : overhead->run_seconds;
    double allowance = overhead->budget_seconds + TT_OVERHEAD_OF_RUN * alone;
    double paid = overhead->committed ? TT_OVERHEAD_OF_GAIN * overhead->gain_seconds : 0;
    return paid > allowance ? paid : allowance;
}

tt_gate_decision tt_overhead_judge(const tt_overhead *overhead)
{
    tt_gate_decision decision = {.verdict = TT_PASS, .gate = "", .target = ""};
    double limit = tt_overhead_limit(overhead);
    bool readable = is_readable(overhead);
    if (readable && overhead->orchestration_seconds <= limit) {
        return decision;
    }
    decision.verdict = TT_TRIP;
    decision.gate = "overhead";
    decision.observed = readable ? overhead->orchestration_seconds : NAN;
    decision.limit = limit;
    return decision;
}

bool tt_overhead_allows(const tt_overhead *overhead, double seconds)
{
    return is_readable(overhead) && seconds >= 0 &&
           overhead->orchestration_seconds + seconds <= tt_overhead_limit(overhead);
}
