/* The tuner's clock: candidates on one problem, timed in turn. */
#include <math.h>

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

static tt_status run_once(const tt_watch *watch, tt_racer *racer)
{
    uint64_t before = tt_clock_now(&watch->clock);
    tt_status status = tt_problem_run(racer->problem, racer->target, racer->family, racer->tile);
    double seconds = (double)(tt_clock_now(&watch->clock) - before) * 1e-9;
    racer->second = fmin(racer->second, fmax(racer->first, seconds));
    racer->first = fmin(racer->first, seconds);
    racer->runs++;
    return status;
}

/* Whether another run of a candidate would tell anything. */
static bool wanted(const tt_racer *of, const tt_effort *how, double best, bool late)
{
    if (of->runs < how->least)
        return of->runs < 2 || !late;
    return !late && of->runs < how->most && of->second > of->first * (1 + how->agreement) &&
           of->first <= how->hopeless * best;
}

/* One run of each that wants one; *more is false when none did, or when the time is up. */
static tt_status take_turn(const tt_watch *watch, const tt_effort *how, int turn, tt_racer *racers,
                           size_t count, bool *more)
{
    double best = INFINITY;
    bool late = tt_watch_spent(watch) > watch->deadline;
    for (size_t i = 0; i < count; i++)
        best = fmin(best, racers[i].first);
    *more = false;
    for (size_t at = 0; at < count && !tt_watch_is_up(watch); at++) {
        tt_racer *racer = &racers[turn % 2 == 0 ? at : count - 1 - at];
        if (!wanted(racer, how, best, late))
            continue;
        tt_status status = run_once(watch, racer);
        if (status != TT_OK)
            return status;
        *more = true;
    }
    return TT_OK;
}

tt_status tt_race(const tt_watch *watch, const tt_effort *how, tt_racer *racers, size_t count,
                  bool *all)
{
    bool more = true;
    for (size_t i = 0; i < count; i++) {
        racers[i].first = racers[i].second = INFINITY;
        racers[i].runs = 0;
    }
    for (int turn = 0; more; turn++) {
        tt_status status = take_turn(watch, how, turn, racers, count, &more);
        if (status != TT_OK)
            return status;
    }
    *all = true;
    for (size_t i = 0; i < count; i++)
        *all = *all && racers[i].runs >= 2;
    return TT_OK;
}

void tt_tune_note_time(tt_tune_cell *cell, int round, double seconds)
{
    cell->state = TT_TUNE_TIMED;
    cell->rounds = round;
    cell->seconds = seconds;
    if (round == 1)
        cell->first_seconds = seconds;
}
