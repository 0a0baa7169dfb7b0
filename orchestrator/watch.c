#include "watch.h"

#include <math.h>
#include <string.h>

/* Turns a median absolute deviation into the standard deviation of a normal distribution. */
#define SCALE_OF_MAD 1.4826
#define CLIP         4.0

enum { HALF = TT_WATCH_WINDOW / 2 };

bool tt_watch_armed(const tt_watch *watch)
{
    return watch->count >= TT_WATCH_WINDOW;
}

static double median_of(const double *sorted)
{
    return 0.5 * (sorted[HALF - 1] + sorted[HALF]);
}

/* Deviations grow away from the median on both sides: a merge visits them in ascending order, and
 * the middle two are met after half of the window. */
static double deviation_of(const double *sorted, double median)
{
    int below = HALF - 1;
    int above = HALF;
    double last = 0;
    double before = 0;
    for (int taken = 0; taken <= HALF; taken++) {
        before = last;
        /* Half + 1 values are taken: neither side can run out unless it gave all of its half. */
        if (above == TT_WATCH_WINDOW ||
            (below >= 0 && median - sorted[below] <= sorted[above] - median)) {
            last = median - sorted[below--];
        } else {
            last = sorted[above++] - median;
        }
    }
    return 0.5 * (before + last);
}

/* The floor adds to the noise, as a second source of it: what a window has not shown yet. */
static double scale_of(const tt_watch *watch, double median, tt_watch_rule rule)
{
    return hypot(SCALE_OF_MAD * deviation_of(watch->sorted, median), rule.floor);
}

double tt_watch_score(const tt_watch *watch, double value, tt_watch_rule rule)
{
    if (!tt_watch_armed(watch)) {
        return 0;
    }
    double median = median_of(watch->sorted);
    return (value - median) / scale_of(watch, median, rule);
}

/* A median of the last 128 steps follows a slow rise at a distance of 64 steps: of 5 % in 200 steps
 * it leaves 1.6 % to be seen, which drowns in the noise. Levels up to 1,024 steps old stand still.
 */
static double lowest_level(const tt_watch *watch, double median)
{
    int64_t windows = watch->count / TT_WATCH_WINDOW;
    double lowest = median;
    for (int64_t i = 0; i < windows && i < TT_WATCH_LEVELS; i++) {
        lowest = watch->levels[i] < lowest ? watch->levels[i] : lowest;
    }
    return lowest;
}

/* Scores are clipped, so that drift is what many steps say, and a spike is left to its own gate. */
double tt_watch_cusum(const tt_watch *watch, double value, tt_watch_rule rule)
{
    if (!tt_watch_armed(watch)) {
        return 0;
    }
    double median = median_of(watch->sorted);
    double from = rule.falls ? lowest_level(watch, median) : median;
    double score = (value - from) / scale_of(watch, median, rule);
    double sum = watch->cusum + fmax(-CLIP, fmin(CLIP, score)) - rule.allowance;
    return sum > 0 ? sum : 0;
}

/* The first of `count` ascending values that is not below `value`. */
static int64_t lower_bound(const double *sorted, int64_t count, double value)
{
    int64_t first = 0;
    while (count > 0) {
        int64_t half = count / 2;
        if (sorted[first + half] < value) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

static void insert(double *sorted, int64_t count, double value)
{
    int64_t at = lower_bound(sorted, count, value);
    memmove(sorted + at + 1, sorted + at, (size_t)(count - at) * sizeof *sorted);
    sorted[at] = value;
}

static void take_out(double *sorted, int64_t count, double value)
{
    int64_t at = lower_bound(sorted, count, value);
    memmove(sorted + at, sorted + at + 1, (size_t)(count - at - 1) * sizeof *sorted);
}

static int64_t held_of(const tt_watch *watch)
{
    return watch->count < TT_WATCH_WINDOW ? watch->count : TT_WATCH_WINDOW;
}

void tt_watch_accept(tt_watch *watch, double value, tt_watch_rule rule)
{
    int64_t held = held_of(watch);
    double *oldest = &watch->ring[watch->count % TT_WATCH_WINDOW];
    watch->cusum = tt_watch_cusum(watch, value, rule);
    if (held == TT_WATCH_WINDOW) {
        take_out(watch->sorted, held--, *oldest);
    }
    insert(watch->sorted, held, value);
    *oldest = value;
    watch->count++;
    if (watch->count % TT_WATCH_WINDOW == 0) {
        int64_t window = watch->count / TT_WATCH_WINDOW - 1;
        watch->levels[window % TT_WATCH_LEVELS] = median_of(watch->sorted);
    }
}

void tt_watch_rebuild(tt_watch *watch)
{
    int64_t held = held_of(watch);
    for (int64_t i = 0; i < held; i++) {
        insert(watch->sorted, i, watch->ring[i]);
    }
}
