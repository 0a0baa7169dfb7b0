/* Statistics against published tables, exact sums and their own promises. */
#include "unit.h"

#include "statistics.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void medians_by_hand(void **state)
{
    (void)state;
    assert_true(isnan(tt_median(NULL, 0)));
    assert_true(tt_median((double[]){3}, 1) == 3);
    assert_true(tt_median((double[]){3, 1}, 2) == 2);
    assert_true(tt_median((double[]){3, 1, 2}, 3) == 2);
    assert_true(tt_median((double[]){4, 1, 3, 2}, 4) == 2.5);
    assert_true(tt_median((double[]){1, INFINITY, -INFINITY}, 3) == 1);
    assert_true(tt_median((double[]){DBL_MAX, DBL_MAX}, 2) == DBL_MAX); /* no overflow */
}

static void sorted_like_qsort(void **state)
{
    (void)state;
    static double ours[2000];
    static double theirs[2000];
    for (uint64_t seed = 0; seed < 500; seed++) {
        size_t count = seed < 300 ? seed : (size_t)(2000 - 8 * (seed - 300));
        uint32_t levels = seed % 2 ? 8 : 1 << 30; /* also with many ties */
        for (size_t i = 0; i < count; i++) {
            uint32_t block[4];
            tt_philox(seed, 81, i, block);
            ours[i] = (double)(block[0] % levels) - 3;
        }
        memcpy(theirs, ours, sizeof ours);
        qsort(theirs, count, sizeof *theirs, ascending);
        tt_sort(ours, count);
        assert_memory_equal(ours, theirs, count * sizeof *ours);
        if (count > 0) {
            double middle = (theirs[(count - 1) / 2] + theirs[count / 2]) / 2;
            assert_true(tt_median(ours, count) == middle);
            assert_true(tt_median_sorted(ours, count) == middle);
        }
    }
}

typedef struct row {
    int64_t successes, trials;
    double confidence;
    tt_interval wilson, exact;
} row;

/* The first four are Table I of Newcombe 1998 (Statistics in Medicine 17, 857-872), which gives
 * four digits; more of them, and the rest, by mpmath with 30 digits. */
static const row rows[] = {
    {81, 263, .95, {0.255288519878, 0.366209576983}, {0.252736745585, 0.367621922601}},
    {15, 148, .95, {0.0623863995307, 0.160487241723}, {0.0578440100834, 0.161650490349}},
    {0, 20, .95, {0.0, 0.161125158053}, {0.0, 0.168433470983}},
    {1, 29, .95, {0.00611321429276, 0.171755218793}, {0.00087264688358, 0.177644295489}},
    {5, 10, .95, {0.236593090513, 0.763406909487}, {0.187086028447, 0.812913971553}},
    {5, 10, .99, {0.184225518247, 0.815774481753}, {0.128310553935, 0.871689446065}},
    {3, 1000, .999, {0.000553221274018, 0.0160940949784}, {0.000149842528038, 0.0138580692674}},
    {29, 29, .9, {0.914666548517, 1.0}, {0.901855372323, 1.0}},
};

static void tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        tt_interval wilson = tt_wilson_interval(r->successes, r->trials, r->confidence);
        assert_close(wilson.low, r->wilson.low, 1e-11);
        assert_close(wilson.high, r->wilson.high, 1e-11);
        tt_interval exact = tt_clopper_pearson_interval(r->successes, r->trials, r->confidence);
        assert_close(exact.low, r->exact.low, 1e-11);
        assert_close(exact.high, r->exact.high, 1e-11);
    }
    /* The rule of three, in closed form: 1 - (alpha/2)^(1/n). */
    tt_interval none = tt_clopper_pearson_interval(0, 1000000, 0.95);
    assert_close(none.high, 1 - pow(0.025, 1e-6), 1e-12);
    tt_interval all = tt_clopper_pearson_interval(1000000, 1000000, 0.95);
    assert_close(all.low, pow(0.025, 1e-6), 1e-12);
    assert_true(all.high == 1 && none.low == 0);
}

static void what_says_nothing(void **state)
{
    (void)state;
    static const struct {
        int64_t successes, trials;
        double confidence;
    } nonsense[] = {{0, 0, 0.95}, {0, -1, 0.95}, {-1, 10, 0.95}, {11, 10, 0.95},
                    {1, 10, 0},   {1, 10, 1},    {1, 10, NAN}};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        tt_interval wilson =
            tt_wilson_interval(nonsense[i].successes, nonsense[i].trials, nonsense[i].confidence);
        tt_interval exact = tt_clopper_pearson_interval(nonsense[i].successes, nonsense[i].trials,
                                                        nonsense[i].confidence);
        assert_true(wilson.low == 0 && wilson.high == 1);
        assert_true(exact.low == 0 && exact.high == 1);
    }
}

/* P(X <= k) of a binomial, term by term from the top of Pascal's triangle. */
static long double at_most(int k, int n, long double p)
{
    long double sum = 0;
    for (int i = 0; i <= k; i++) {
        long double term = 1;
        for (int j = 0; j < i; j++) {
            term *= (long double)(n - j) / (j + 1) * p;
        }
        sum += term * powl(1 - p, n - i);
    }
    return sum;
}

/* What defines the limits: the tails that they leave. And the two intervals are mirrored. */
static void the_tails_are_exact(void **state)
{
    (void)state;
    for (int n = 1; n <= 40; n++) {
        for (int k = 0; k <= n; k++) {
            tt_interval exact = tt_clopper_pearson_interval(k, n, 0.9);
            if (k > 0) {
                assert_close((double)(1 - at_most(k - 1, n, exact.low)), 0.05, 1e-11);
            }
            if (k < n) {
                assert_close((double)at_most(k, n, exact.high), 0.05, 1e-11);
            }
            tt_interval mirrored = tt_clopper_pearson_interval(n - k, n, 0.9);
            assert_close(mirrored.low, 1 - exact.high, 1e-14);
            tt_interval wilson = tt_wilson_interval(k, n, 0.9);
            mirrored = tt_wilson_interval(n - k, n, 0.9);
            assert_close(mirrored.low, 1 - wilson.high, 1e-14);
            double share = (double)k / n;
            assert_true(0 <= exact.low && exact.low <= share && share <= exact.high);
            assert_true(0 <= wilson.low && wilson.low <= share && share <= wilson.high);
            assert_true(exact.high <= 1 && wilson.high <= 1);
        }
    }
}

/* How often the interval covers the true probability p. */
static double coverage(tt_interval (*make)(int64_t, int64_t, double), int n, double p)
{
    double covered = 0;
    for (int k = 0; k <= n; k++) {
        tt_interval interval = make(k, n, 0.95);
        if (interval.low <= p && p <= interval.high) {
            covered += (double)(at_most(k, n, p) - (k > 0 ? at_most(k - 1, n, p) : 0));
        }
    }
    return covered;
}

static void what_they_cover(void **state)
{
    (void)state;
    double wilson = 0;
    for (int i = 1; i <= 99; i++) {
        assert_true(coverage(tt_clopper_pearson_interval, 30, i / 100.) >= 0.95);
        wilson += coverage(tt_wilson_interval, 30, i / 100.) / 99;
    }
    assert_true(wilson > 0.94 && wilson < 0.96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians_by_hand),
        cmocka_unit_test(sorted_like_qsort),
        cmocka_unit_test(tables),
        cmocka_unit_test(what_says_nothing),
        cmocka_unit_test(the_tails_are_exact),
        cmocka_unit_test(what_they_cover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
