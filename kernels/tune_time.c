/* The tuner's clock: candidates on one problem, timed in turn. */
#include <math.h>
#include <stdlib.h>

#include "tune.h"

tt_watch tt_watch_begin(const tt_tune_options *options)
{
    tt_watch watch = {.budget = options->budget_seconds, .deadline = options->budget_seconds};
    watch.clock = options->clock != NULL ? *options->clock : tt_clock_monotonic();
    watch.begin = tt_clock_now(&watch.clock);
    return watch;
}

double tt_watch_spent(const tt_watch *watch)
{
    return (double)(tt_clock_now(&watch->clock) - watch->begin) * 1e-9;
}

bool tt_watch_is_up(const tt_watch *watch)
{
    return tt_watch_spent(watch) >= watch->budget;
}

/* ---- a race ---- */

/* Logarithms of seconds, and the effects that make them up: that of the candidate, and that of the
 * turn, which is the machine's. */
typedef struct table {
    double *at; /* [turn][racer]; NAN: it did not run */
    double *racer, *turn;
    double *sorted; /* scratch */
    size_t racers;
    int turns;
} table;

static tt_status make_table(table *t, size_t racers, int most)
{
    size_t turns = (size_t)most;
    *t = (table){.racers = racers};
    t->at = calloc(turns * racers + racers + turns + turns + racers, sizeof *t->at);
    if (t->at == NULL)
        return tt_fail(TT_ENOMEM, "tune: no memory for the times of %zu candidates", racers);
    t->racer = t->at + turns * racers;
    t->turn = t->racer + racers;
    t->sorted = t->turn + turns;
    return TT_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value that a share of all do not exceed; 0 of none. */
static double quantile(double *values, size_t count, double share)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare_doubles);
    return values[(size_t)((double)(count - 1) * share)];
}

/* What is undisturbed: disturbances only make a run longer, and three of four may be disturbed. */
static double calm(double *values, size_t count)
{
    return quantile(values, count, 0.25);
}

static double turn_effect(table *t, int turn)
{
    size_t count = 0;
    for (size_t r = 0; r < t->racers; r++) {
        double x = t->at[(size_t)turn * t->racers + r] - t->racer[r];
        if (!isnan(x))
            t->sorted[count++] = x;
    }
    return calm(t->sorted, count);
}

static double racer_effect(table *t, size_t racer)
{
    size_t count = 0;
    for (int turn = 0; turn < t->turns; turn++) {
        double x = t->at[(size_t)turn * t->racers + racer] - t->turn[turn];
        if (!isnan(x))
            t->sorted[count++] = x;
    }
    return calm(t->sorted, count);
}

/* Median polish (Tukey, Exploratory Data Analysis, 1977), but of quartiles. What slows down some
 * runs moves none of them, and what slows down whole turns is the turns' effect. */
static void polish(table *t)
{
    enum { PASSES = 4 };
    for (int turn = 0; turn < t->turns; turn++)
        t->turn[turn] = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        for (size_t r = 0; r < t->racers; r++)
            t->racer[r] = racer_effect(t, r);
        for (int turn = 0; turn < t->turns; turn++)
            t->turn[turn] = turn_effect(t, turn);
    }
}

/* How far off a candidate's effect may be: a standard error, from the median of what its runs
 * deviate. */
static double uncertainty(table *t, size_t racer)
{
    size_t count = 0;
    for (int turn = 0; turn < t->turns; turn++) {
        double x = t->at[(size_t)turn * t->racers + racer] - t->turn[turn] - t->racer[racer];
        if (!isnan(x))
            t->sorted[count++] = fabs(x);
    }
    return 1.4826 * 1.2533 * quantile(t->sorted, count, 0.5) /
           sqrt((double)(count > 0 ? count : 1));
}

static double least_of(const double *values, size_t count)
{
    double least = INFINITY;
    for (size_t i = 0; i < count; i++)
        least = fmin(least, values[i]);
    return least;
}

/* The fastest, at its slowest. */
static double best_at_most(table *t)
{
    size_t best = 0;
    for (size_t r = 1; r < t->racers; r++)
        best = t->racer[r] < t->racer[best] ? r : best;
    return t->racer[best] + uncertainty(t, best);
}

/* Who is hopeless runs no more; false when what is known of all others is sure enough. */
static bool goes_on(table *t, const tt_effort *how, tt_racer *racers)
{
    bool unsure = t->turns < how->least;
    double limit = t->racers > 0 ? best_at_most(t) + log(how->hopeless) : 0;
    for (size_t r = 0; r < t->racers && t->turns >= how->least; r++) {
        double may_be_off = uncertainty(t, r);
        racers[r].out = racers[r].out || t->racer[r] - may_be_off > limit;
        unsure = unsure || (!racers[r].out && may_be_off > how->agreement);
    }
    return unsure && t->turns < how->most;
}

/* One run of each that is not out; false when the time was up before the last of them, and the turn
 * does not count. */
static tt_status take_turn(const tt_watch *watch, tt_racer *racers, table *t, bool *whole)
{
    double *at = t->at + (size_t)t->turns * t->racers;
    for (size_t i = 0; i < t->racers; i++) {
        size_t r = t->turns % 2 == 0 ? i : t->racers - 1 - i;
        tt_racer *racer = &racers[r];
        at[r] = NAN;
        if (racer->out)
            continue;
        if (tt_watch_is_up(watch)) {
            *whole = false;
            return TT_OK;
        }
        uint64_t before = tt_clock_now(&watch->clock);
        tt_status status =
            tt_problem_run(racer->problem, racer->target, racer->family, racer->tile);
        if (status != TT_OK)
            return status;
        /* A clock may be too coarse for what takes no time. */
        at[r] = log(fmax((double)(tt_clock_now(&watch->clock) - before) * 1e-9, 1e-9));
    }
    t->turns++;
    return TT_OK;
}

tt_status tt_race(const tt_watch *watch, const tt_effort *how, tt_racer *racers, size_t count,
                  bool *all)
{
    table t;
    bool whole = true, late = false;
    tt_status status = make_table(&t, count, how->most);
    for (size_t r = 0; r < count; r++)
        racers[r].out = false;
    do {
        if (status == TT_OK)
            status = take_turn(watch, racers, &t, &whole);
        if (status == TT_OK)
            polish(&t);
        late = t.turns >= TT_LEAST_TURNS && tt_watch_spent(watch) > watch->deadline;
    } while (status == TT_OK && whole && !late && goes_on(&t, how, racers));
    /* As in the fastest turn. */
    for (size_t r = 0; r < count && status == TT_OK; r++)
        racers[r].seconds = exp(t.racer[r] + least_of(t.turn, (size_t)t.turns));
    *all = status == TT_OK && t.turns >= TT_LEAST_TURNS;
    free(t.at);
    return status;
}

void tt_tune_note_time(tt_tune_cell *cell, int round, double seconds)
{
    cell->state = TT_TUNE_TIMED;
    cell->rounds = round;
    cell->seconds = seconds;
    if (round == 1)
        cell->first_seconds = seconds;
}
