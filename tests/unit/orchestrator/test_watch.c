/* The watch on one series, against a recomputation that sorts everything anew at every step. */
#include "unit.h"

#include "watch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 100000, MEMORY = TT_WATCH_WINDOW * (TT_WATCH_LEVELS + 1) };

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9)) {
        fail_msg("%.17g is not near %.17g", a, b);
    }
}

static uint64_t seed = 20240607;

static double uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) * 0x1p-53;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double naive_median(const double *values)
{
    double sorted[TT_WATCH_WINDOW];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, TT_WATCH_WINDOW, sizeof *sorted, ascending);
    return 0.5 * (sorted[TT_WATCH_WINDOW / 2 - 1] + sorted[TT_WATCH_WINDOW / 2]);
}

/* What the watch says of the value after history[0..count-1]. */
static double naive_score(const double *history, int count, double value, double from, double floor)
{
    double window[TT_WATCH_WINDOW];
    double median = naive_median(history + count - TT_WATCH_WINDOW);
    for (int i = 0; i < TT_WATCH_WINDOW; i++) {
        window[i] = fabs(history[count - TT_WATCH_WINDOW + i] - median);
    }
    return (value - from) / hypot(1.4826 * naive_median(window), floor);
}

/* Of the window before history[count], and of the last disjoint ones from the start on. */
static double naive_lowest(const double *history, int count)
{
    static double known[VALUES / TT_WATCH_WINDOW + 1];
    int last = count / TT_WATCH_WINDOW;
    if (count % TT_WATCH_WINDOW == 0) {
        known[last - 1] = naive_median(history + count - TT_WATCH_WINDOW);
    }
    double lowest = naive_median(history + count - TT_WATCH_WINDOW);
    for (int n = last > TT_WATCH_LEVELS ? last - TT_WATCH_LEVELS : 0; n < last; n++) {
        lowest = fmin(lowest, known[n]);
    }
    return lowest;
}

/* Stretches of noise, of few distinct values, of one value, of a rising and a falling level. */
static double next_value(int i)
{
    double noise = uniform() + uniform() + uniform() - 1.5;
    switch (i / 1000 % 5) {
    case 0:
        return noise;
    case 1:
        return floor(noise * 4) / 4;
    case 2:
        return 1;
    case 3:
        return 0.1 * noise + 0.002 * (i % 1000);
    default:
        return noise * noise * noise - 0.003 * (i % 1000);
    }
}

static void compare(const tt_watch *watch, const double *history, int count, double value,
                    tt_watch_rule rule, double *cusum)
{
    if (count < TT_WATCH_WINDOW) {
        assert_false(tt_watch_armed(watch));
        assert_true(tt_watch_score(watch, value, rule) == 0);
        assert_true(tt_watch_cusum(watch, value, rule) == 0);
        return;
    }
    double median = naive_median(history + count - TT_WATCH_WINDOW);
    double from = rule.falls ? naive_lowest(history, count) : median;
    double score = naive_score(history, count, value, from, rule.floor);
    *cusum = fmax(0, *cusum + fmax(-4, fmin(4, score)) - rule.allowance);
    assert_true(tt_watch_armed(watch));
    assert_true(tt_watch_score(watch, value, rule) ==
                naive_score(history, count, value, median, rule.floor));
    assert_true(tt_watch_cusum(watch, value, rule) == *cusum);
}

static void recompute(tt_watch_rule rule, int values)
{
    double *history = malloc((size_t)values * sizeof *history);
    assert_non_null(history);
    tt_watch watch = {0};
    double cusum = 0;
    for (int i = 0; i < values; i++) {
        double value = next_value(i);
        compare(&watch, history, i, value, rule, &cusum);
        history[i] = value;
        tt_watch_accept(&watch, value, rule);
        assert_true(watch.cusum == cusum);
        assert_int_equal(watch.count, i + 1);
    }
    free(history);
}

static void equals_a_recomputation(void **state)
{
    (void)state;
    recompute(TT_WATCH_RULE_LOSS, VALUES);
    recompute((tt_watch_rule){.floor = 1e-300, .allowance = 0.7}, VALUES / 4);
}

static void sorted_stays_sorted(void **state)
{
    (void)state;
    tt_watch watch = {0};
    for (int i = 0; i < 10000; i++) {
        tt_watch_accept(&watch, next_value(i * 7), (tt_watch_rule){.floor = 0.1});
        int held = i + 1 < TT_WATCH_WINDOW ? i + 1 : TT_WATCH_WINDOW;
        double expected[TT_WATCH_WINDOW];
        memcpy(expected, watch.ring, sizeof expected);
        qsort(expected, (size_t)held, sizeof *expected, ascending);
        for (int j = 0; j < held; j++) {
            assert_true(watch.sorted[j] == expected[j]);
        }
    }
}

/* What a checkpoint keeps is enough to go on in the same bits. */
static void rebuilt_from_what_is_kept(void **state)
{
    (void)state;
    static const int lengths[] = {0, 1, 2, 64, 127, 128, 129, 200, 1024, 1500, 5000};
    const tt_watch_rule rule = {.floor = 0.05, .falls = true};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        tt_watch watch = {0};
        for (int n = 0; n < lengths[i]; n++) {
            tt_watch_accept(&watch, next_value(n * 3), rule);
        }
        tt_watch again = watch;
        for (int n = 0; n < TT_WATCH_WINDOW; n++) {
            again.sorted[n] = -1e9;
        }
        tt_watch_rebuild(&again);
        for (int n = 0; n < 300; n++) {
            double value = next_value(n * 5);
            assert_true(tt_watch_score(&watch, value, rule) == tt_watch_score(&again, value, rule));
            tt_watch_accept(&watch, value, rule);
            tt_watch_accept(&again, value, rule);
            assert_true(watch.cusum == again.cusum);
        }
    }
}

static tt_watch of_alternating(double low, double high)
{
    tt_watch watch = {0};
    for (int i = 0; i < TT_WATCH_WINDOW; i++) {
        tt_watch_accept(&watch, i % 2 ? high : low, (tt_watch_rule){.floor = 1});
    }
    return watch;
}

static void known_values(void **state)
{
    (void)state;
    tt_watch_rule rule = {.floor = 0};
    tt_watch watch = of_alternating(1, 3); /* median 2, every deviation 1 */
    assert_true(tt_watch_score(&watch, 2, rule) == 0);
    assert_near(tt_watch_score(&watch, 2 + 1.4826 * 8, rule), 8);
    assert_near(tt_watch_score(&watch, 2 - 1.4826 * 8, rule), -8);
    rule.floor = 1.4826; /* as much again */
    assert_near(tt_watch_score(&watch, 2 + 1.4826 * 8, rule), 8 / sqrt(2));
    /* A constant series: the floor alone is the scale. */
    rule.floor = 1e-3;
    watch = of_alternating(2, 2);
    assert_near(tt_watch_score(&watch, 2.008, rule), 8);
    rule.floor = 0;
    /* A half of the window at one value: the deviation is of the other half. */
    watch = of_alternating(0, 0);
    for (int i = 0; i < TT_WATCH_WINDOW / 2; i++) {
        tt_watch_accept(&watch, 1, rule);
    }
    assert_near(tt_watch_score(&watch, 0.5 + 1.4826 * 0.5, rule), 1);
}

static void armed_after_a_full_window(void **state)
{
    (void)state;
    const tt_watch_rule rule = {.floor = 0.1};
    tt_watch watch = {0};
    for (int i = 0; i < TT_WATCH_WINDOW; i++) {
        assert_false(tt_watch_armed(&watch));
        assert_true(tt_watch_score(&watch, 1e9, rule) == 0);
        tt_watch_accept(&watch, i * 1e6, rule);
        assert_true(watch.cusum == 0);
    }
    assert_true(tt_watch_armed(&watch));
    assert_true(tt_watch_score(&watch, 1e9, rule) > 8);
}

/* Clipped at 4 from both sides, less the allowance, never below 0. */
static void cusum_by_hand(void **state)
{
    (void)state;
    const tt_watch_rule rule = {.floor = 1, .allowance = 0.5};
    static const struct {
        double before, value, after;
    } table[] = {
        {0, 0, 0},     {0, 0.5, 0},       {0, 0.75, 0.25}, {0, 4, 3.5},   {0, 1000, 3.5},
        {10, 2, 11.5}, {10, -4, 5.5},     {10, -99, 5.5},  {10, 0.5, 10}, {3, -4, 0},
        {0, -4, 0},    {29.5, 1.5, 30.5}, {30, 0.5, 30},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_watch watch = of_alternating(0, 0);
        watch.cusum = table[i].before;
        assert_near(tt_watch_cusum(&watch, table[i].value, rule), table[i].after);
        assert_true(watch.cusum == table[i].before);
        tt_watch_accept(&watch, table[i].value, rule);
        assert_near(watch.cusum, table[i].after);
    }
}

/* A rise of one scale in 400 steps: the running median follows it, the lowest level does not. The
 * level is forgotten after 1,024 steps and one window. */
static void a_slow_rise(void **state)
{
    (void)state;
    tt_watch follows = {0};
    tt_watch keeps = {0};
    double largest_following = 0;
    double largest_kept = 0;
    for (int i = 0; i < 1000 + MEMORY; i++) {
        double rise = i < 600 ? 0 : i < 1000 ? (i - 600) / 400.0 : 1;
        tt_watch_accept(&follows, rise, (tt_watch_rule){.floor = 1, .allowance = 0.5});
        tt_watch_accept(&keeps, rise, (tt_watch_rule){.floor = 1, .allowance = 0.5, .falls = true});
        largest_following = fmax(largest_following, follows.cusum);
        largest_kept = fmax(largest_kept, keeps.cusum);
    }
    assert_true(largest_following == 0);
    assert_true(largest_kept > 200);
    double before = keeps.cusum;
    tt_watch_accept(&keeps, 1, (tt_watch_rule){.floor = 1, .allowance = 0.5, .falls = true});
    assert_near(keeps.cusum, before - 0.5); /* the new level is the level now */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_a_recomputation),
        cmocka_unit_test(sorted_stays_sorted),
        cmocka_unit_test(rebuilt_from_what_is_kept),
        cmocka_unit_test(known_values),
        cmocka_unit_test(armed_after_a_full_window),
        cmocka_unit_test(cusum_by_hand),
        cmocka_unit_test(a_slow_rise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
