/* The tuner and time: costs that are nearly equal, disturbed and slow runs, budgets that end early,
 * and starts that go on from there. */
#include "planted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The band ends in the widest gap between 2 and 6 %: what is near the end of it stays on its side
 * when all costs are a little off. */
static void test_tie_band(void **state)
{
    (void)state;
    const double costs[] = {1.055, 1.0, 1.025, 1.019, 1.2, INFINITY};
    for (int i = 0; i < 100; i++) {
        double noisy[6];
        for (int c = 0; c < 6; c++)
            noisy[c] = costs[c] * (1 + 0.004 * sin(i * 7 + c * 3));
        double limit = tt_tune_limit(noisy, 6);
        assert_true(noisy[0] > limit && noisy[2] <= limit && noisy[3] <= limit);
        assert_true(noisy[4] > limit && noisy[5] > limit);
    }
    assert_true(tt_tune_limit((double[]){1, 1.07}, 2) < 1.06);
    assert_true(tt_tune_limit((double[]){1, 1.01}, 2) >= 1.02);
    assert_true(isinf(tt_tune_limit((double[]){INFINITY}, 1)));
}

/* Runs that something disturbs do not count. */
static void test_disturbed(void **state)
{
    (void)state;
    bench b;
    planted_setup(&b, TT_F32);
    memcpy(b.p.cost_ns, (uint64_t[]){1000, 930, 900, 860, 800, 1500, SAME(1500)},
           sizeof b.p.cost_ns);
    b.p.disturbance_ns = 3000;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 4);
    assert_true(fabs(planted_cell(&b, 0, 4)->seconds - 800e-9) < 1e-15);
    planted_teardown(&b);
}

/* Phases in which the whole machine is slow, from two turns long. */
static void test_slow_phases(void **state)
{
    (void)state;
    for (long phase = 2 * CANDIDATES; phase < 90; phase++) {
        bench b;
        planted_setup(&b, TT_F32);
        memcpy(b.p.cost_ns, (uint64_t[]){1000, 930, 900, 860, 800, 1500, SAME(1500)},
               sizeof b.p.cost_ns);
        b.p.phase = phase;
        assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
        for (int op = 0; op < TT_PRODUCTS; op++)
            assert_int_equal(b.tuning.chosen[op], 4);
        double ratio = planted_cell(&b, 0, 4)->seconds / planted_cell(&b, 0, 0)->seconds;
        assert_true(fabs(ratio - 0.8) < 0.01);
        planted_teardown(&b);
    }
}

static void test_budget(void **state)
{
    (void)state;
    bench b;
    const uint64_t costs[] = {1000, 900, 900, 900, 1, 1000, SAME(1000)};
    /* None: nothing is proven, nothing timed. */
    for (int negative = 0; negative < 2; negative++) {
        planted_choose(&b, costs, -negative);
        assert_true(same_tile(b.tuning.tile, tiles[0]) && !b.tuning.complete);
        assert_int_equal(b.p.runs, 0);
        for (size_t c = 0; c < CANDIDATES; c++)
            assert_int_equal(planted_cell(&b, 0, c)->state, TT_TUNE_UNKNOWN);
        planted_teardown(&b);
    }
    /* Whatever it is cut at, the best of what was timed till then is chosen, and nothing begins
     * after the end. */
    for (double budget = 1e-6; budget < 400e-6; budget += 3e-6) {
        planted_choose(&b, costs, budget);
        assert_true((double)b.p.now_ns * 1e-9 < budget + 4000e-9); /* one check is three runs */
        bool timed = false;
        for (size_t s = 0; s < SHAPES; s++)
            timed = timed || planted_cell(&b, s, 4)->state == TT_TUNE_TIMED;
        for (int op = 0; op < TT_PRODUCTS; op++)
            assert_int_equal(b.tuning.chosen[op], timed ? 4 : 0);
        assert_true(same_tile(b.tuning.tile, tiles[timed ? 4 : 0]));
        planted_teardown(&b);
    }
    planted_choose(&b, costs, 1e-3);
    assert_true(same_tile(b.tuning.tile, tiles[4]) && b.tuning.complete);
    planted_teardown(&b);
}

/* A short budget does not bring a wrong candidate back. */
static void test_budget_and_harm(void **state)
{
    (void)state;
    bench b;
    planted_setup(&b, TT_F32);
    b.options.budget_seconds = 4e-6; /* the check of the first, and a little */
    b.p.harm = HARM_NAN;
    b.p.bad = 0;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    assert_int_equal(planted_cell(&b, 0, 0)->state, TT_TUNE_WRONG);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 1);
    planted_teardown(&b);
}

/* ---- further, another time ---- */

/* What a start leaves is read by the next one, as from the cache. */
static void pass_on(tt_tuning *tuning, const tt_tune_target *target, const tt_tune_options *options)
{
    char path[] = "/tmp/tt_tuning_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tt_tune_write(path, "a question\n", tuning), TT_OK);
    tt_tuning_clear(tuning);
    assert_int_equal(tt_tuning_begin(target, options, tuning), TT_OK);
    assert_int_equal(tt_tune_load(path, "a question\n", tuning), TT_OK);
    assert_int_equal(unlink(path), 0);
}

/* Starts with a budget each until nothing is left; returns how many that took. */
static int tune_by_starts(bench *b, double first, double budget, int most)
{
    b->options.budget_seconds = first;
    assert_int_equal(tt_tuning_begin(&b->target, &b->options, &b->tuning), TT_OK);
    for (int start = 1; start <= most; start++) {
        assert_int_equal(tt_tune_further(&b->target, &b->options, &b->tuning), TT_OK);
        if (b->tuning.complete)
            return start;
        pass_on(&b->tuning, &b->target, &b->options);
        b->options.budget_seconds = budget;
    }
    fail_msg("budgets of %g s get nowhere in %d starts", budget, most);
    return most;
}

/* However often the time was up in between, the end is the same, and nothing was proven twice. */
static void test_further(void **state)
{
    (void)state;
    const uint64_t costs[] = {1000, 900, 500, 700, 800, 600, 900, 900, 200, 900, 900};
    bench whole, parts;
    planted_choose(&whole, costs, 9);
    for (double budget = 40e-6; budget < 300e-6; budget += 7e-6) {
        planted_setup(&parts, TT_F32);
        memcpy(parts.p.cost_ns, costs, sizeof costs);
        int starts = tune_by_starts(&parts, budget, budget, 20);
        assert_true(starts > 1 ||
                    budget > 0.5e-9 * (double)whole.p.now_ns); /* cut short: fewer runs */
        assert_memory_equal(parts.tuning.chosen, whole.tuning.chosen, sizeof whole.tuning.chosen);
        assert_true(same_tile(parts.tuning.tile, whole.tuning.tile));
        for (size_t i = 0; i < SHAPES * CANDIDATES; i++) {
            assert_int_equal(parts.tuning.cells[i].state, whole.tuning.cells[i].state);
            assert_true(parts.tuning.cells[i].bits == whole.tuning.cells[i].bits);
        }
        /* A race that was cut off is run again. */
        assert_true((double)parts.p.now_ns <= (double)whole.p.now_ns + (starts - 1) * budget * 1e9);
        /* Of what is known nothing is run. */
        long runs = parts.p.runs;
        assert_int_equal(tt_tune_further(&parts.target, &parts.options, &parts.tuning), TT_OK);
        assert_int_equal(parts.p.runs, runs);
        planted_teardown(&parts);
    }
    planted_teardown(&whole);
}

/* Bits that differ from those of a tile that an earlier start has proven. */
static void test_further_and_harm(void **state)
{
    (void)state;
    static const harm kinds[] = {HARM_OTHER_BITS, HARM_NAN, HARM_SMALL_ERROR};
    for (size_t h = 0; h < sizeof kinds / sizeof *kinds; h++) {
        bench b;
        planted_setup(&b, TT_F32);
        b.p.harm = kinds[h];
        b.p.bad = 1;
        b.p.cost_ns[1] = 10;
        assert_true(tune_by_starts(&b, 2e-6, 40e-6, 20) > 1); /* at first, one is proven */
        for (size_t s = 0; s < SHAPES; s++)
            assert_int_equal(planted_cell(&b, s, 1)->state, TT_TUNE_WRONG);
        planted_teardown(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tie_band),         cmocka_unit_test(test_disturbed),
        cmocka_unit_test(test_slow_phases),      cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_and_harm),  cmocka_unit_test(test_further),
        cmocka_unit_test(test_further_and_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
