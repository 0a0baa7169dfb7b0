/* Steps that never advance the run. */
#include "internal.h"

int64_t tt_planned_position(const tt_orchestrator *o, int64_t step, int64_t position)
{
    for (size_t i = 0; i < o->skip_count; i++) {
        if (o->skips[i].step == step && o->skips[i].from == position) {
            position = o->skips[i].to;
        }
    }
    return position;
}

tt_status tt_replay_step(tt_orchestrator *o, const tt_replay *replay, tt_measurements *measured,
                         double *seconds)
{
    tt_measurements_init(measured);
    tt_status status = tt_apply(o, replay->config);
    if (status) {
        return status;
    }
    uint64_t start = tt_clock_now(&o->clock);
    status = o->host.run_step(o->host.user, replay, measured);
    uint64_t end = tt_clock_now(&o->clock);
    *seconds = end > start ? (double)(end - start) * 1e-9 : 0; /* clocks can jump */
    if (status) {
        return tt_fail_in(status, "replaying step %lld", (long long)replay->step);
    }
    return tt_apply(o, o->config);
}
