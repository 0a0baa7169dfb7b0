/* What adaptation proposes: every rule at its edges. */
#include "unit.h"

#include "adapt.h"

#include <math.h>

static tt_adapt_input measured(double value)
{
    return (tt_adapt_input){.present = true, .value = value};
}

static void codecs(void **state)
{
    (void)state;
    const double bound = 0.05;
    assert_int_equal(tt_adapt_codec(measured(0.0401), bound), TT_ADAPT_UP);
    assert_int_equal(tt_adapt_codec(measured(0.0399), bound), TT_ADAPT_HOLD);
    assert_int_equal(tt_adapt_codec(measured(0.0101), bound), TT_ADAPT_HOLD);
    assert_int_equal(tt_adapt_codec(measured(0.0099), bound), TT_ADAPT_DOWN);
    assert_int_equal(tt_adapt_codec(measured(0), bound), TT_ADAPT_DOWN);
    assert_int_equal(tt_adapt_codec(measured(7), bound), TT_ADAPT_UP);
    /* At the edges themselves it stays: a share of 1 has no rounding. */
    assert_int_equal(tt_adapt_codec(measured(TT_ADAPT_ERROR_HIGH), 1), TT_ADAPT_HOLD);
    assert_int_equal(tt_adapt_codec(measured(TT_ADAPT_ERROR_LOW), 1), TT_ADAPT_HOLD);
}

static void tiles(void **state)
{
    (void)state;
    assert_int_equal(tt_adapt_tile(measured(1.51)), TT_ADAPT_UP);
    assert_int_equal(tt_adapt_tile(measured(1.5)), TT_ADAPT_HOLD);
    assert_int_equal(tt_adapt_tile(measured(1.3)), TT_ADAPT_HOLD);
    assert_int_equal(tt_adapt_tile(measured(1.1)), TT_ADAPT_HOLD);
    assert_int_equal(tt_adapt_tile(measured(1.09)), TT_ADAPT_DOWN);
    assert_int_equal(tt_adapt_tile(measured(0.5)), TT_ADAPT_DOWN);
}

static void what_was_not_measured_proposes_nothing(void **state)
{
    (void)state;
    static const double values[] = {0, 0.049, 2, NAN, INFINITY, -INFINITY, -1};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        tt_adapt_input input = {.present = i > 2, .value = values[i]};
        assert_int_equal(tt_adapt_codec(input, 0.05), TT_ADAPT_HOLD);
        assert_int_equal(tt_adapt_tile(input), TT_ADAPT_HOLD);
    }
}

static void neighbours(void **state)
{
    (void)state;
    static const tt_adapt_move moves[] = {TT_ADAPT_HOLD, TT_ADAPT_UP, TT_ADAPT_DOWN};
    static const int steps[] = {0, 1, -1};
    for (int count = 0; count <= 4; count++) {
        for (int at = 0; at <= count + 1; at++) {
            for (int m = 0; m < 3; m++) {
                int to = at + steps[m];
                bool want = at < count && to != at && to >= 0 && to < count;
                size_t got = 99;
                assert_int_equal(tt_adapt_neighbour((size_t)count, (size_t)at, moves[m], &got),
                                 want);
                assert_int_equal(got, want ? to : 99);
            }
        }
    }
}

static void a_refusal_is_remembered(void **state)
{
    (void)state;
    tt_adapt_refusal refusal = {.refused = false};
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6, 100));
    tt_adapt_remember(&refusal, TT_ADAPT_UP, 1.6, 100);
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6, 100));
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_DOWN, 1.6, 100));
    /* By what the input moved, either way ... */
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6 * 1.2499, 101));
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6 * 1.2501, 101));
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6 * 0.7501, 101));
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6 * 0.7499, 101));
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_UP, NAN, 101));
    /* ... or by the time that passed. */
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6, 1099));
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6, 1100));
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6, 0)); /* rolled back */
    /* A newer refusal replaces it. */
    tt_adapt_remember(&refusal, TT_ADAPT_DOWN, 0.5, 2000);
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_UP, 1.6, 2000));
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_DOWN, 0.5, 2999));
    /* A quarter of the old value, exactly. */
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_DOWN, 0.625, 2001));
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_DOWN, 0.375, 2001));
}

static void refused_at_zero(void **state)
{
    (void)state;
    tt_adapt_refusal refusal;
    tt_adapt_remember(&refusal, TT_ADAPT_DOWN, 0, 0);
    assert_false(tt_adapt_may(&refusal, TT_ADAPT_DOWN, 0, 999));
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_DOWN, 1e-9, 1));
    assert_true(tt_adapt_may(&refusal, TT_ADAPT_DOWN, 0, 1000));
}

/* On a machine where a larger tile never helps, the proposals of a long run are few. */
static void proposals_come_to_rest(void **state)
{
    (void)state;
    tt_adapt_refusal refusal = {.refused = false};
    int proposals = 0;
    for (int64_t step = 0; step < 10000; step++) {
        double speedup = 1.7 + 0.1 * (double)(step % 3);
        tt_adapt_move move = tt_adapt_tile(measured(speedup));
        assert_int_equal(move, TT_ADAPT_UP);
        if (tt_adapt_may(&refusal, move, speedup, step)) {
            proposals++;
            tt_adapt_remember(&refusal, move, speedup, step);
        }
    }
    assert_int_equal(proposals, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codecs),
        cmocka_unit_test(tiles),
        cmocka_unit_test(what_was_not_measured_proposes_nothing),
        cmocka_unit_test(neighbours),
        cmocka_unit_test(a_refusal_is_remembered),
        cmocka_unit_test(refused_at_zero),
        cmocka_unit_test(proposals_come_to_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
