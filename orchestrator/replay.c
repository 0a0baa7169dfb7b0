/* Steps that never advance the run. */
#include "internal.h"

#include <stdio.h>

int64_t tt_planned_position(const tt_orchestrator *o, int64_t step, int64_t position)
{
    for (size_t i = 0; i < o->skip_count; i++) {
        if (o->skips[i].step == step && o->skips[i].from == position) {
            position = o->skips[i].to;
        }
    }
    return position;
}

static tt_status run_step(tt_orchestrator *o, const tt_replay *replay, tt_measurements *measured,
                          double *seconds)
{
    uint64_t start = tt_clock_now(&o->clock);
    tt_status status = o->host.run_step(o->host.user, replay, measured);
    uint64_t end = tt_clock_now(&o->clock);
    *seconds = end > start ? (double)(end - start) * 1e-9 : 0; /* clocks can jump */
    *seconds = tt_believable_seconds(o, *seconds);
    return status ? tt_fail_in(status, "replaying step %lld", (long long)replay->step) : TT_OK;
}

tt_status tt_replay_step(tt_orchestrator *o, const tt_replay *replay, tt_measurements *measured,
                         double *seconds)
{
    char message[1024];
    tt_measurements_init(measured);
    *seconds = 0;
    tt_status status = tt_apply(o, replay->config);
    if (!status) {
        status = run_step(o, replay, measured, seconds);
    }
    snprintf(message, sizeof message, "%s", status ? tt_error_message() : "");
    /* Also after an error: whoever goes on does so with what is in force. */
    tt_status back = tt_apply(o, o->config);
    return status ? tt_fail(status, "%s", message) : back;
}
