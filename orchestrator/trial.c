#include "trial.h"

#include "statistics.h"

#include <math.h>
#include <string.h>

enum { MAX_OF_AN_ORDER = TT_TRIAL_MAX_PAIRS / 2 };

/* Pairs of one order, sorted. The two orders are kept apart until the end: a clock that drifts adds
 * to the ratios of one what it takes from those of the other, and the mean of the two medians is
 * free of it, however large it is and whether or not there is an odd pair. */
typedef struct strata {
    double sorted[2][MAX_OF_AN_ORDER];
    size_t count[2];
} strata;

/* Words of a generator with a fixed seed. */
typedef struct draws {
    uint64_t block;
    uint32_t words[4];
    int left;
} draws;

void tt_trial_begin(tt_trial *trial, tt_aim aim, int pairs)
{
    *trial = (tt_trial){.aim = aim, .pairs = pairs, .outcome = TT_TRIAL_RUNNING};
    if (pairs < TT_TRIAL_MIN_PAIRS) {
        trial->pairs = TT_TRIAL_MIN_PAIRS;
    } else if (pairs > TT_TRIAL_MAX_PAIRS) {
        trial->pairs = TT_TRIAL_MAX_PAIRS;
    }
}

static bool is_shadow_first(int pair)
{
    return pair % 2 != 0;
}

bool tt_trial_shadow_first(const tt_trial *trial)
{
    return is_shadow_first(trial->done);
}

static void stratify(const tt_trial *trial, strata *out)
{
    out->count[0] = 0;
    out->count[1] = 0;
    for (int pair = 1; pair < trial->done; pair++) {
        int order = is_shadow_first(pair);
        out->sorted[order][out->count[order]++] = trial->log_ratio[pair];
    }
    tt_sort(out->sorted[0], out->count[0]);
    tt_sort(out->sorted[1], out->count[1]);
}

/* A whole number below `limit`, which is small against 2^32. */
static uint32_t draw_below(draws *from, uint32_t limit)
{
    if (from->left == 0) {
        tt_philox(0x747269616cULL /* "trial" */, 0, from->block++, from->words);
        from->left = 4;
    }
    return (uint32_t)((uint64_t)from->words[--from->left] * limit >> 32);
}

/* The value of the given rank in a resample, whose values are sorted and occur `times`. */
static double ranked(const double *sorted, const uint16_t *times, size_t rank)
{
    size_t at = 0;
    for (size_t below = times[0]; below <= rank; below += times[at]) {
        at++;
    }
    return sorted[at];
}

/* The median of as many values drawn with replacement. */
static double resampled_median(const double *sorted, size_t count, draws *from)
{
    uint16_t times[MAX_OF_AN_ORDER];
    memset(times, 0, count * sizeof *times);
    for (size_t i = 0; i < count; i++) {
        times[draw_below(from, (uint32_t)count)]++;
    }
    return ranked(sorted, times, (count - 1) / 2) / 2 + ranked(sorted, times, count / 2) / 2;
}

static void bootstrap(const strata *pairs, double *low, double *high)
{
    double medians[TT_TRIAL_RESAMPLES];
    draws from = {0};
    for (int i = 0; i < TT_TRIAL_RESAMPLES; i++) {
        medians[i] = (resampled_median(pairs->sorted[0], pairs->count[0], &from) +
                      resampled_median(pairs->sorted[1], pairs->count[1], &from)) /
                     2;
    }
    tt_sort(medians, TT_TRIAL_RESAMPLES);
    *low = medians[TT_TRIAL_RESAMPLES / 40 - 1];
    *high = medians[TT_TRIAL_RESAMPLES - TT_TRIAL_RESAMPLES / 40];
}

static tt_trial_outcome decide(const tt_trial *trial)
{
    /* Nor may a change pass that is no number. */
    if (!(trial->loss_change <= TT_TRIAL_LOSS)) {
        return TT_TRIAL_WORSE_LOSS;
    }
    bool fast_enough =
        trial->pairs >= TT_TRIAL_PROOF_PAIRS && trial->speedup_low > TT_TRIAL_SPEEDUP;
    if (trial->aim == TT_AIM_MEMORY) {
        fast_enough = trial->speedup >= TT_TRIAL_SLOWEST;
    }
    return fast_enough ? TT_TRIAL_COMMIT : TT_TRIAL_TOO_SLOW;
}

static void finish(tt_trial *trial)
{
    strata pairs;
    stratify(trial, &pairs);
    double low;
    double high;
    bootstrap(&pairs, &low, &high);
    trial->speedup = exp((tt_median_sorted(pairs.sorted[0], pairs.count[0]) +
                          tt_median_sorted(pairs.sorted[1], pairs.count[1])) /
                         2);
    trial->speedup_low = exp(low);
    trial->speedup_high = exp(high);
    double live = trial->live_loss < 0 ? -trial->live_loss : trial->live_loss;
    trial->loss_change = (trial->shadow_loss - trial->live_loss) / live;
    trial->outcome = decide(trial);
}

static bool is_time(double seconds)
{
    return isfinite(seconds) && seconds > 0;
}

void tt_trial_pair(tt_trial *trial, double live_seconds, double shadow_seconds, double live_loss,
                   double shadow_loss)
{
    if (trial->outcome != TT_TRIAL_RUNNING) {
        return;
    }
    if (!is_time(live_seconds) || !is_time(shadow_seconds) || !isfinite(live_loss) ||
        !isfinite(shadow_loss)) {
        trial->outcome = TT_TRIAL_TRIPPED;
        return;
    }
    if (trial->done > 0) {
        /* Not the logarithm of the ratio: that may be 0 or infinite. */
        trial->log_ratio[trial->done] = log(live_seconds) - log(shadow_seconds);
        trial->live_loss += live_loss;
        trial->shadow_loss += shadow_loss;
    }
    if (++trial->done == trial->pairs) {
        finish(trial);
    }
}

void tt_trial_end(tt_trial *trial, tt_trial_outcome outcome)
{
    if (trial->outcome == TT_TRIAL_RUNNING) {
        trial->outcome = outcome;
    }
}

const char *tt_trial_outcome_name(tt_trial_outcome outcome)
{
    static const char *const names[] = {
        [TT_TRIAL_RUNNING] = "running",   [TT_TRIAL_COMMIT] = "commit",
        [TT_TRIAL_TOO_SLOW] = "too slow", [TT_TRIAL_WORSE_LOSS] = "worse loss",
        [TT_TRIAL_TRIPPED] = "tripped",   [TT_TRIAL_ABANDONED] = "abandoned",
        [TT_TRIAL_REFUSED] = "refused",
    };
    return (unsigned)outcome < sizeof names / sizeof *names ? names[outcome] : "?";
}
