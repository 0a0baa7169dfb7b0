#include "statistics.h"

#include <math.h>

void tt_sort(double *values, size_t count)
{
    /* Shell 1959, with the gaps of Ciura 2001. */
    static const size_t gaps[] = {701, 301, 132, 57, 23, 10, 4, 1};
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        size_t gap = gaps[g];
        for (size_t i = gap; i < count; i++) {
            double moved = values[i];
            size_t j = i;
            for (; j >= gap && values[j - gap] > moved; j -= gap) {
                values[j] = values[j - gap];
            }
            values[j] = moved;
        }
    }
}

double tt_median_sorted(const double *sorted, size_t count)
{
    return sorted[(count - 1) / 2] / 2 + sorted[count / 2] / 2;
}

double tt_median(double *values, size_t count)
{
    if (count == 0) {
        return NAN;
    }
    tt_sort(values, count);
    return tt_median_sorted(values, count);
}

static bool makes_sense(int64_t successes, int64_t trials, double confidence)
{
    return trials > 0 && successes >= 0 && successes <= trials && confidence > 0 && confidence < 1;
}

/* The point that a standard normal exceeds with probability `tail` < 0.5, by bisection. */
static double normal_point(double tail)
{
    double low = 0;
    double high = 40; /* beyond it the tail is below the smallest double */
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (erfc(middle / sqrt(2)) / 2 > tail) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

tt_interval tt_wilson_interval(int64_t successes, int64_t trials, double confidence)
{
    tt_interval interval = {0, 1};
    if (!makes_sense(successes, trials, confidence)) {
        return interval;
    }
    double n = (double)trials;
    double share = (double)successes / n;
    double z = normal_point((1 - confidence) / 2);
    double center = share + z * z / (2 * n);
    double half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n));
    double scale = 1 + z * z / n;
    /* At the ends the formula gives 0 and 1, but for rounding. */
    if (successes > 0) {
        interval.low = (center - half) / scale;
    }
    if (successes < trials) {
        interval.high = (center + half) / scale;
    }
    return interval;
}

/* P(X >= successes) of a binomial, for 0 < probability < successes / trials: then its terms fall,
 * and are summed until they no longer count. */
static double binomial_upper_tail(double log_choose, int64_t successes, int64_t trials,
                                  double probability)
{
    double odds = probability / (1 - probability);
    double term = exp(log_choose + (double)successes * log(probability) +
                      (double)(trials - successes) * log1p(-probability));
    double sum = term;
    for (int64_t i = successes; i < trials && term > 1e-17 * sum; i++) {
        term *= (double)(trials - i) / (double)(i + 1) * odds;
        sum += term;
    }
    return sum;
}

/* The probability with which `successes` (> 0) or more are seen with probability `tail`. This is
 * the inverse of the incomplete beta function I_p(k, n - k + 1), whose sum for whole numbers is a
 * binomial's tail. It lies below k/n, where that tail is above one half. */
static double lower_limit(int64_t successes, int64_t trials, double tail)
{
    int sign; /* lgamma would leave it in a global */
    double log_choose = lgamma_r((double)trials + 1, &sign) -
                        lgamma_r((double)successes + 1, &sign) -
                        lgamma_r((double)(trials - successes) + 1, &sign);
    double low = 0;
    double high = (double)successes / (double)trials;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (binomial_upper_tail(log_choose, successes, trials, middle) < tail) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

tt_interval tt_clopper_pearson_interval(int64_t successes, int64_t trials, double confidence)
{
    tt_interval interval = {0, 1};
    if (!makes_sense(successes, trials, confidence)) {
        return interval;
    }
    double tail = (1 - confidence) / 2;
    if (successes > 0) {
        interval.low = lower_limit(successes, trials, tail);
    }
    if (successes < trials) {
        interval.high = 1 - lower_limit(trials - successes, trials, tail);
    }
    return interval;
}
