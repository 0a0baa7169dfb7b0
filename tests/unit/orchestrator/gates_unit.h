/* What the tests of the gates share: the default limits, and a healthy step. */
#ifndef TT_TEST_GATES_UNIT_H
#define TT_TEST_GATES_UNIT_H

#include "unit.h"

#include "gates.h"

#include <math.h>
#include <string.h>

static inline tt_gate_limits defaults(void)
{
    return (tt_gate_limits){.loss_min = TT_LOSS_MIN,
                            .gradient_min = TT_GRADIENT_MIN,
                            .reconstruction_max = 0.05,
                            .update_error_max = 0.05,
                            .spike_max = 8,
                            .drift_max = 15};
}

static inline tt_measurements healthy(void)
{
    tt_measurements measured;
    tt_measurements_init(&measured);
    tt_measurements_set(&measured, TT_METRIC_LOSS, 2);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NORM, 1);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NONFINITE, 0);
    tt_measurements_set(&measured, TT_METRIC_UPDATE_NONFINITE, 0);
    return measured;
}

#endif
