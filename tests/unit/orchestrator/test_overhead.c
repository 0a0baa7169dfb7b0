/* Whether orchestration pays: the limit by hand, and over the life of runs. */
#include "unit.h"

#include "overhead.h"

#include <math.h>

static void before_a_commit(void **state)
{
    (void)state;
    tt_overhead overhead = {.run_seconds = 1000, .budget_seconds = 5, .orchestration_seconds = 15};
    assert_close(tt_overhead_limit(&overhead), 15, 1e-12);
    overhead.gain_seconds = 1e6; /* of nothing that was committed */
    assert_close(tt_overhead_limit(&overhead), 15, 1e-12);
    assert_int_equal(tt_overhead_judge(&overhead).verdict, TT_PASS);
    overhead.orchestration_seconds = 15.001;
    assert_int_equal(tt_overhead_judge(&overhead).verdict, TT_TRIP);
}

static void after_a_commit(void **state)
{
    (void)state;
    tt_overhead overhead = {.run_seconds = 100000,
                            .seconds_to_commit = 1000,
                            .budget_seconds = 5,
                            .gain_seconds = 100,
                            .committed = true};
    assert_close(tt_overhead_limit(&overhead), 30, 1e-12);
    /* What the run was entitled to when it committed stays, and nothing is added to it. */
    overhead.gain_seconds = 0;
    assert_close(tt_overhead_limit(&overhead), 15, 1e-12);
    overhead.gain_seconds = -1e6;
    assert_close(tt_overhead_limit(&overhead), 15, 1e-12);
    overhead.gain_seconds = 51;
    assert_close(tt_overhead_limit(&overhead), 15.3, 1e-12);
}

static void the_decision(void **state)
{
    (void)state;
    tt_overhead overhead = {.run_seconds = 100, .orchestration_seconds = 2};
    tt_gate_decision decision = tt_overhead_judge(&overhead);
    assert_int_equal(decision.verdict, TT_TRIP);
    assert_string_equal(decision.gate, "overhead");
    assert_string_equal(decision.target, "");
    assert_string_equal(decision.tensor, "");
    assert_close(decision.observed, 2, 0);
    assert_close(decision.limit, 1, 1e-12);
    assert_false(decision.missing);
    assert_int_equal(decision.action, TT_ACTION_NONE);
    overhead.orchestration_seconds = 0.5;
    decision = tt_overhead_judge(&overhead);
    assert_int_equal(decision.verdict, TT_PASS);
    assert_string_equal(decision.gate, "");
    assert_string_equal(decision.target, "");
    /* Nothing was run, nothing was spent. */
    overhead = (tt_overhead){.run_seconds = 0};
    assert_int_equal(tt_overhead_judge(&overhead).verdict, TT_PASS);
}

static void figures_that_are_none(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int field = 0; field < 5; field++) {
        for (int i = 0; i < 3; i++) {
            for (int committed = 0; committed < 2; committed++) {
                double f[5] = {1, 1000, 1000, 100, 1000};
                f[field] = bad[i];
                tt_overhead overhead = {.orchestration_seconds = f[0],
                                        .run_seconds = f[1],
                                        .seconds_to_commit = f[2],
                                        .budget_seconds = f[3],
                                        .gain_seconds = f[4],
                                        .committed = committed};
                tt_gate_decision decision = tt_overhead_judge(&overhead);
                assert_int_equal(decision.verdict, TT_TRIP);
                assert_true(isnan(decision.observed));
                assert_false(tt_overhead_allows(&overhead, 0));
            }
        }
    }
}

static void what_may_be_spent(void **state)
{
    (void)state;
    tt_overhead overhead = {.run_seconds = 1000, .budget_seconds = 5, .orchestration_seconds = 10};
    assert_true(tt_overhead_allows(&overhead, 0));
    assert_true(tt_overhead_allows(&overhead, 5));
    assert_false(tt_overhead_allows(&overhead, 5.001));
    assert_false(tt_overhead_allows(&overhead, NAN));
    assert_false(tt_overhead_allows(&overhead, INFINITY));
    assert_false(tt_overhead_allows(&overhead, -1)); /* no time is given back */
    assert_false(tt_overhead_allows(&overhead, -INFINITY));
    overhead.orchestration_seconds = 16;
    assert_false(tt_overhead_allows(&overhead, 0));
}

/* A run of one-second steps that spends whatever it may, 2 seconds at a time, and commits a gain at
 * step 2000. A trial that was allowed never trips, and in the end it has cost 30 % of its gain. */
static void the_life_of_a_run(void **state)
{
    (void)state;
    for (int percent = 0; percent <= 20; percent += 5) {
        tt_overhead overhead = {.budget_seconds = 5};
        for (int step = 0; step < 20000; step++) {
            overhead.run_seconds += 1;
            if (tt_overhead_allows(&overhead, 2)) {
                overhead.orchestration_seconds += 2;
            }
            if (step == 2000) {
                overhead.committed = true;
                overhead.seconds_to_commit = overhead.run_seconds;
            }
            overhead.gain_seconds += overhead.committed ? 0.01 * percent : 0;
            assert_int_equal(tt_overhead_judge(&overhead).verdict, TT_PASS);
        }
        double gain = 0.01 * percent * 18000;
        double entitled = 5 + 0.01 * 2000;
        double most = 0.3 * gain > entitled ? 0.3 * gain : entitled;
        assert_true(overhead.orchestration_seconds <= most + 1e-6 + 0.011);
        assert_true(overhead.orchestration_seconds > most - 2.1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_a_commit),   cmocka_unit_test(after_a_commit),
        cmocka_unit_test(the_decision),      cmocka_unit_test(figures_that_are_none),
        cmocka_unit_test(what_may_be_spent), cmocka_unit_test(the_life_of_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
