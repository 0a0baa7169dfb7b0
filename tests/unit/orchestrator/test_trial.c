/* Trials: the rules by hand, the interval against exact probabilities, and what the trials say of
 * simulated machines. */
#include "unit.h"

#include "trial.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <time.h>

static tt_trial trial;

/* A trial of equal pairs after an absurd first one. */
static void equal_pairs(tt_aim aim, int pairs, double speedup, double loss_factor)
{
    tt_trial_begin(&trial, aim, pairs);
    tt_trial_pair(&trial, 1e-6, 1e6, 1, 1000);
    for (int i = 1; i < pairs; i++) {
        assert_int_equal(trial.outcome, TT_TRIAL_RUNNING);
        tt_trial_pair(&trial, 0.25 * speedup, 0.25, 4, 4 * loss_factor);
    }
}

static void the_bar(void **state)
{
    (void)state;
    equal_pairs(TT_AIM_SPEED, 16, 1.021, 1);
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
    assert_close(trial.speedup, 1.021, 1e-12);
    assert_close(trial.speedup_low, 1.021, 1e-12);
    assert_close(trial.speedup_high, 1.021, 1e-12);
    assert_close(trial.loss_change, 0, 0);
    equal_pairs(TT_AIM_SPEED, 16, 1.019, 1);
    assert_int_equal(trial.outcome, TT_TRIAL_TOO_SLOW);
    assert_close(trial.speedup, 1.019, 1e-12);
    equal_pairs(TT_AIM_SPEED, 16, 0.5, 1);
    assert_int_equal(trial.outcome, TT_TRIAL_TOO_SLOW);
}

static void the_loss(void **state)
{
    (void)state;
    equal_pairs(TT_AIM_SPEED, 16, 2, 1.0049);
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
    assert_close(trial.loss_change, 0.0049, 1e-12);
    equal_pairs(TT_AIM_SPEED, 16, 2, 1.0051);
    assert_int_equal(trial.outcome, TT_TRIAL_WORSE_LOSS);
    assert_close(trial.loss_change, 0.0051, 1e-12);
    equal_pairs(TT_AIM_MEMORY, 16, 2, 1.0051);
    assert_int_equal(trial.outcome, TT_TRIAL_WORSE_LOSS);
    equal_pairs(TT_AIM_SPEED, 16, 0.5, 1.0051); /* loss goes first */
    assert_int_equal(trial.outcome, TT_TRIAL_WORSE_LOSS);
    equal_pairs(TT_AIM_SPEED, 16, 2, 0.5); /* better is no harm */
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
    assert_close(trial.loss_change, -0.5, 1e-12);
}

/* Each loss passes for a number, their sums do not. */
static void losses_without_a_mean(void **state)
{
    (void)state;
    static const double losses[][2] = {
        {DBL_MAX, DBL_MAX}, {0, 0}, {0, 1}, {-1, -0.99}, {1, DBL_MAX}};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        tt_trial_begin(&trial, TT_AIM_SPEED, 16);
        for (int pair = 0; pair < 16; pair++) {
            tt_trial_pair(&trial, 2, 1, losses[i][0], losses[i][1]);
        }
        assert_int_equal(trial.outcome, TT_TRIAL_WORSE_LOSS);
    }
    tt_trial_begin(&trial, TT_AIM_SPEED, 16);
    for (int pair = 0; pair < 16; pair++) {
        tt_trial_pair(&trial, 2, 1, -1, -1.01);
    }
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
    assert_close(trial.loss_change, -0.01, 1e-12);
}

static void the_aim_of_memory(void **state)
{
    (void)state;
    equal_pairs(TT_AIM_MEMORY, 16, 0.801, 1);
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
    equal_pairs(TT_AIM_MEMORY, 16, 0.799, 1);
    assert_int_equal(trial.outcome, TT_TRIAL_TOO_SLOW);
    equal_pairs(TT_AIM_MEMORY, 4, 0.9, 1); /* no proof is asked for */
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
}

static void how_many_pairs(void **state)
{
    (void)state;
    static const int asked[][2] = {{-1, 4}, {0, 4}, {4, 4}, {5, 5}, {1024, 1024}, {1025, 1024}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        tt_trial_begin(&trial, TT_AIM_SPEED, asked[i][0]);
        assert_int_equal(trial.pairs, asked[i][1]);
        assert_int_equal(trial.outcome, TT_TRIAL_RUNNING);
    }
    for (int pair = 0; pair < TT_TRIAL_MAX_PAIRS; pair++) {
        tt_trial_pair(&trial, 1.1, 1, 3, 3);
    }
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
    /* Too few to prove anything. */
    equal_pairs(TT_AIM_SPEED, 9, 2, 1);
    assert_int_equal(trial.outcome, TT_TRIAL_TOO_SLOW);
    assert_close(trial.speedup_low, 2, 1e-12);
    equal_pairs(TT_AIM_SPEED, 10, 2, 1);
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
}

static void the_order_alternates(void **state)
{
    (void)state;
    tt_trial_begin(&trial, TT_AIM_SPEED, 16);
    for (int pair = 0; pair < 16; pair++) {
        assert_int_equal(tt_trial_shadow_first(&trial), pair % 2);
        tt_trial_pair(&trial, 1, 1, 3, 3);
    }
}

static void what_is_no_measurement(void **state)
{
    (void)state;
    static const double bad[][4] = {
        {0, 1, 3, 3},         {-1, 1, 3, 3},       {NAN, 1, 3, 3}, {INFINITY, 1, 3, 3},
        {1, 0, 3, 3},         {1, -1, 3, 3},       {1, NAN, 3, 3}, {1, INFINITY, 3, 3},
        {1, 1, NAN, 3},       {1, 1, INFINITY, 3}, {1, 1, 3, NAN}, {1, 1, 3, INFINITY},
        {1, 1, 3, -INFINITY},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int at = 0; at < 3; at++) { /* also the first, which counts for nothing else */
            tt_trial_begin(&trial, TT_AIM_SPEED, 10);
            for (int pair = 0; pair < at; pair++) {
                tt_trial_pair(&trial, 2, 1, 3, 3);
            }
            tt_trial_pair(&trial, bad[i][0], bad[i][1], bad[i][2], bad[i][3]);
            assert_int_equal(trial.outcome, TT_TRIAL_TRIPPED);
            for (int pair = 0; pair < 20; pair++) {
                tt_trial_pair(&trial, 2, 1, 3, 3); /* too late */
            }
            assert_int_equal(trial.outcome, TT_TRIAL_TRIPPED);
            assert_int_equal(trial.done, at);
        }
    }
    /* Ratios beyond the range of a double. */
    tt_trial_begin(&trial, TT_AIM_SPEED, 10);
    for (int pair = 0; pair < 10; pair++) {
        tt_trial_pair(&trial, DBL_MIN, DBL_MAX, 3, 3);
    }
    assert_int_equal(trial.outcome, TT_TRIAL_TOO_SLOW);
    assert_true(trial.speedup == 0);
    tt_trial_begin(&trial, TT_AIM_SPEED, 11);
    for (int pair = 0; pair < 11; pair++) {
        bool swapped = pair % 2; /* the median of it is 1, not that of infinities */
        tt_trial_pair(&trial, swapped ? DBL_MIN : DBL_MAX, swapped ? DBL_MAX : DBL_MIN, 3, 3);
    }
    assert_close(trial.speedup, 1, 1e-12);
}

static void ends(void **state)
{
    (void)state;
    static const tt_trial_outcome outcomes[] = {TT_TRIAL_TRIPPED, TT_TRIAL_ABANDONED,
                                                TT_TRIAL_REFUSED};
    for (int i = 0; i < 3; i++) {
        tt_trial_begin(&trial, TT_AIM_SPEED, 16);
        tt_trial_pair(&trial, 2, 1, 3, 3);
        tt_trial_end(&trial, outcomes[i]);
        assert_int_equal(trial.outcome, outcomes[i]);
        tt_trial_end(&trial, outcomes[(i + 1) % 3]); /* the first word is the last */
        assert_int_equal(trial.outcome, outcomes[i]);
        assert_true(trial.speedup == 0 && trial.speedup_low == 0);
    }
    equal_pairs(TT_AIM_SPEED, 16, 2, 1);
    tt_trial_end(&trial, TT_TRIAL_ABANDONED);
    assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
}

static void names(void **state)
{
    (void)state;
    static const char *const wanted[] = {"running", "commit",    "too slow", "worse loss",
                                         "tripped", "abandoned", "refused",  "?"};
    for (int i = 0; i < 8; i++) {
        assert_string_equal(tt_trial_outcome_name((tt_trial_outcome)i), wanted[i]);
    }
}

/* ---- the interval -------------------------------------------------------------------------
 *
 * The median of n values drawn with replacement from n is the k-th of them with a probability that
 * can be written down; so the percentiles that 2,000 draws estimate are known. */

static double choose(int n, int k)
{
    double value = 1;
    for (int i = 0; i < k; i++) {
        value = value * (n - i) / (i + 1);
    }
    return value;
}

/* P(the median of n resampled ranks <= k), n odd, ranks 1..n. */
static double median_at_most(int n, int k)
{
    double sum = 0;
    for (int i = n / 2 + 1; i <= n; i++) {
        sum += choose(n, i) * pow((double)k / n, i) * pow(1 - (double)k / n, n - i);
    }
    return sum;
}

enum { EACH = 21 }; /* pairs of each order */

/* P(the mean of the medians of both orders <= x). */
static double mean_at_most(const double a[EACH], const double b[EACH], double x)
{
    double sum = 0;
    for (int i = 0; i < EACH; i++) {
        for (int j = 0; j < EACH; j++) {
            double p = median_at_most(EACH, i + 1) - median_at_most(EACH, i);
            double q = median_at_most(EACH, j + 1) - median_at_most(EACH, j);
            sum += (a[i] + b[j]) / 2 <= x ? p * q : 0;
        }
    }
    return sum;
}

static void the_interval_is_the_bootstraps(void **state)
{
    (void)state;
    double a[EACH]; /* ascending, and not symmetric */
    double b[EACH];
    for (int i = 0; i < EACH; i++) {
        a[i] = -0.6 + 0.05 * i + 0.0011 * i * i;
        b[i] = -0.5 + 0.0437 * i + 0.0023 * i * i;
    }
    tt_trial_begin(&trial, TT_AIM_SPEED, 1 + 2 * EACH);
    tt_trial_pair(&trial, 1, 1, 3, 3);
    for (int i = 0; i < EACH; i++) {
        assert_true(tt_trial_shadow_first(&trial));
        tt_trial_pair(&trial, exp(a[(8 * i + 3) % EACH]), 1, 3, 3);
        tt_trial_pair(&trial, 1, exp(-b[(13 * i + 5) % EACH]), 3, 3);
    }
    assert_close(trial.speedup, exp((a[EACH / 2] + b[EACH / 2]) / 2), 1e-12);
    const double slack = 0.0035 * 4; /* standard deviations of 2,000 draws at 2.5 % */
    double low = log(trial.speedup_low);
    double high = log(trial.speedup_high);
    assert_true(mean_at_most(a, b, low + 1e-9) > 0.025 - slack);
    assert_true(mean_at_most(a, b, low - 1e-9) < 0.025 + slack);
    assert_true(mean_at_most(a, b, high + 1e-9) > 0.975 - slack);
    assert_true(mean_at_most(a, b, high - 1e-9) < 0.975 + slack);
}

/* ---- simulated machines ------------------------------------------------------------------- */

typedef struct noise {
    uint64_t seed, counter;
} noise;

static double uniform(noise *from)
{
    return tt_random_uniform(from->seed, 80, from->counter++) * (1 - 1e-12) + 5e-13;
}

static double normal(noise *from)
{
    double radius = sqrt(-2 * log(uniform(from)));
    return radius * cos(6.28318530717958648 * uniform(from));
}

typedef enum weather { CALM, ROUGH, HEAVY_TAILED, DRIFTING, WEATHERS } weather;

/* How much longer a step takes than it should, the how-manieth since the trial began. */
static double slowdown(noise *from, weather kind, int step)
{
    switch (kind) {
    case CALM: /* log-normal */
        return exp(0.03 * normal(from));
    case ROUGH:
        return exp(0.3 * normal(from));
    case HEAVY_TAILED: /* half a Cauchy: it has no mean */
        return 1 + 0.03 * fabs(tan(3.14159265358979324 * (uniform(from) - 0.5)));
    default: /* a machine that warms up, by 2 % of the first step with every one */
        return (1 + 0.02 * step) * exp(0.03 * normal(from));
    }
}

static tt_trial_outcome simulate(noise *from, weather kind, int pairs, double speedup)
{
    tt_trial_begin(&trial, TT_AIM_SPEED, pairs);
    for (int step = 0; trial.outcome == TT_TRIAL_RUNNING; step += 2) {
        double first = slowdown(from, kind, step);
        double second = slowdown(from, kind, step + 1);
        bool swapped = tt_trial_shadow_first(&trial);
        tt_trial_pair(&trial, (swapped ? second : first) * speedup, swapped ? first : second, 3, 3);
    }
    return trial.outcome;
}

static double commits(weather kind, int pairs, double speedup, int trials)
{
    int committed = 0;
    for (int i = 0; i < trials; i++) {
        noise from = {.seed = (uint64_t)i, .counter = (uint64_t)kind << 32};
        committed += simulate(&from, kind, pairs, speedup) == TT_TRIAL_COMMIT;
    }
    double share = (double)committed / trials;
    print_message("%s, %d pairs, %.2f x: %.2f %% of %d commit\n",
                  ((const char *[]){"calm", "rough", "heavy-tailed", "drifting"})[kind], pairs,
                  speedup, 100 * share, trials);
    return share;
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SLOW 1
#endif
#ifdef SLOW
enum { TRIALS = 200, MOST_MILLISECONDS = 1000 }; /* the statistics are for the other builds */
#else
enum { TRIALS = 2000, MOST_MILLISECONDS = 50 };
#endif

/* 2.5 %, and four standard deviations of what is seen of it. */
static bool is_rare(double share, int trials)
{
    return share <= 0.025 + 4 * sqrt(0.025 * 0.975 / trials);
}

static void nothing_is_not_committed(void **state)
{
    (void)state;
    for (weather kind = CALM; kind < WEATHERS; kind++) {
        assert_true(is_rare(commits(kind, 16, 1, TRIALS), TRIALS));
    }
    /* Even with no margin left to the bar, and with the fewest pairs. */
    const int fewer = TRIALS / 4;
    assert_true(is_rare(commits(ROUGH, 16, TT_TRIAL_SPEEDUP, fewer), fewer));
    assert_true(is_rare(commits(CALM, TT_TRIAL_PROOF_PAIRS, TT_TRIAL_SPEEDUP, fewer), fewer));
}

static void a_gain_is_found(void **state)
{
    (void)state;
    assert_true(commits(CALM, 16, 1.1, TRIALS / 5) >= 0.95);
    assert_true(commits(DRIFTING, 16, 1.1, TRIALS / 5) >= 0.95);
    assert_true(commits(HEAVY_TAILED, 16, 1.5, TRIALS / 10) >= 0.95);
}

/* Without noise, whatever is left of a drift is seen. */
static void a_drift_cancels(void **state)
{
    (void)state;
    for (int pairs = 15; pairs <= 16; pairs++) { /* an even and an odd count of them matters */
        for (int geometric = 0; geometric < 2; geometric++) {
            tt_trial_begin(&trial, TT_AIM_SPEED, pairs);
            for (int step = 0; trial.outcome == TT_TRIAL_RUNNING; step += 2) {
                double first = geometric ? pow(1.05, step) : 1 + 0.01 * step;
                double second = geometric ? pow(1.05, step + 1) : 1 + 0.01 * (step + 1);
                bool swapped = tt_trial_shadow_first(&trial);
                tt_trial_pair(&trial, 1.1 * (swapped ? second : first), swapped ? first : second, 3,
                              3);
            }
            /* A linear one is not quite the same share of every step. */
            assert_close(trial.speedup, 1.1, geometric ? 1e-12 : 5e-4);
            assert_int_equal(trial.outcome, TT_TRIAL_COMMIT);
        }
    }
}

static void the_same_again(void **state)
{
    (void)state;
    static tt_trial once;
    noise from = {.seed = 3};
    (void)simulate(&from, ROUGH, 200, 1.05);
    once = trial;
    from.counter = 0;
    (void)simulate(&from, ROUGH, 200, 1.05);
    assert_true(trial.speedup_low == once.speedup_low && trial.speedup_high == once.speedup_high &&
                trial.speedup == once.speedup);
    assert_true(once.speedup_low < once.speedup && once.speedup < once.speedup_high);
}

static void it_takes_little_time(void **state)
{
    (void)state;
    double best = INFINITY;
    for (int i = 0; i < 5; i++) {
        noise from = {.seed = (uint64_t)i};
        tt_trial_begin(&trial, TT_AIM_SPEED, TT_TRIAL_MAX_PAIRS);
        for (int pair = 1; pair < TT_TRIAL_MAX_PAIRS; pair++) {
            tt_trial_pair(&trial, slowdown(&from, CALM, 0), 1, 3, 3);
        }
        clock_t start = clock();
        tt_trial_pair(&trial, 1, 1, 3, 3);
        double milliseconds = 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC;
        assert_int_not_equal(trial.outcome, TT_TRIAL_RUNNING);
        best = milliseconds < best ? milliseconds : best;
    }
    print_message("%d pairs: %.1f ms\n", TT_TRIAL_MAX_PAIRS, best);
    assert_true(best < MOST_MILLISECONDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bar),
        cmocka_unit_test(the_loss),
        cmocka_unit_test(losses_without_a_mean),
        cmocka_unit_test(the_aim_of_memory),
        cmocka_unit_test(how_many_pairs),
        cmocka_unit_test(the_order_alternates),
        cmocka_unit_test(what_is_no_measurement),
        cmocka_unit_test(ends),
        cmocka_unit_test(names),
        cmocka_unit_test(the_interval_is_the_bootstraps),
        cmocka_unit_test(nothing_is_not_committed),
        cmocka_unit_test(a_gain_is_found),
        cmocka_unit_test(a_drift_cancels),
        cmocka_unit_test(the_same_again),
        cmocka_unit_test(it_takes_little_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
