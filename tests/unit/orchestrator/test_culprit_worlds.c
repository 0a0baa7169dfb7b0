/* The search for a culprit in random worlds, and against oracles that answer whatever they like.
 *
 * Who is guilty of what is drawn first; every replay's outcome follows from it. What the verdict
 * should be is found by trying all subsets, not by asking in any order. */
#include "unit.h"

#include "culprit.h"

#include <string.h>

#define OFF(optimization) (UINT32_C(1) << (optimization))

enum { MOST = 8, DEPTHS = 5, TERMS = 3 };

typedef struct world {
    tt_search_setup setup;
    int clean_depth; /* from this depth on it does not trip again; 0: transient; -1: it always does
                      */
    int other_bits_depth;  /* from this depth on the step does not repeat; -1: it always does */
    uint32_t terms[TERMS]; /* the run is harmed while all of any term are on */
    int term_count;
    int entered[32]; /* by optimization: the depth from which off undoes what it did */
    bool other_harm; /* that no optimization does */
    bool batch_cures;
    int rate_depth; /* the rate cures from this depth on; -1: never */
} world;

typedef struct truth {
    tt_verdict_of_search verdict;
    int depth;
    uint32_t alone;
} truth;

static uint32_t draw(uint64_t seed, uint64_t *counter, uint32_t below)
{
    uint32_t block[4];
    tt_philox(seed, 79, (*counter)++, block);
    return below > 0 ? block[0] % below : 0;
}

static bool is_cured(const world *w, const tt_search_replay *replay)
{
    if ((w->clean_depth >= 0 && replay->depth >= w->clean_depth) ||
        (replay->next_batch && w->batch_cures) ||
        (replay->rate_scale < 1 && w->rate_depth >= 0 && replay->depth >= w->rate_depth)) {
        return true;
    }
    uint32_t undone = 0;
    for (int i = 0; i < w->setup.suspect_count; i++) {
        int optimization = w->setup.suspects[i].optimization;
        if (replay->depth >= w->entered[optimization]) {
            undone |= replay->off & OFF(optimization);
        }
    }
    bool harmed = w->other_harm;
    for (int i = 0; i < w->term_count; i++) {
        harmed = harmed || !(w->terms[i] & undone);
    }
    return !harmed;
}

static bool cures(const world *w, uint32_t off, int depth)
{
    return is_cured(w, &(tt_search_replay){.off = off, .depth = depth, .rate_scale = 1});
}

static bool late(const world *w, int depth)
{
    return depth > 0 || w->setup.gate_after_update;
}

/* The suspects that may be switched off at a depth. */
static uint32_t eligible(const world *w, int depth)
{
    uint32_t set = 0;
    for (int i = 0; i < w->setup.suspect_count; i++) {
        if (late(w, depth) || !w->setup.suspects[i].acts_on_state) {
            set |= OFF(w->setup.suspects[i].optimization);
        }
    }
    return set;
}

static uint32_t all_alone(const world *w, int depth)
{
    uint32_t alone = 0;
    for (int optimization = 0; optimization < 32; optimization++) {
        uint32_t own = OFF(optimization) & eligible(w, depth);
        alone |= own && cures(w, own, depth) ? own : 0;
    }
    return alone;
}

static bool any_subset_cures(const world *w, int depth)
{
    uint32_t all = eligible(w, depth);
    for (uint32_t subset = all; subset; subset = (subset - 1) & all) {
        if (cures(w, subset, depth)) {
            return true;
        }
    }
    return false;
}

static truth find_truth(const world *w)
{
    int rate = -1; /* where a lower rate cures: the truth if nothing older says otherwise */
    for (int depth = 0; depth < w->setup.depth_count; depth++) {
        if (cures(w, 0, depth)) {
            return (truth){TT_SEARCH_TRANSIENT, depth, 0};
        }
        if (w->other_bits_depth >= 0 && depth >= w->other_bits_depth) {
            return (truth){TT_SEARCH_NONDETERMINISM, depth, 0};
        }
        uint32_t alone = all_alone(w, depth);
        if (alone) {
            bool one = (alone & (alone - 1)) == 0;
            return (truth){one ? TT_SEARCH_SINGLE : TT_SEARCH_EITHER, depth, alone};
        }
        if (any_subset_cures(w, depth)) {
            return (truth){TT_SEARCH_JOINT, depth, 0};
        }
        if (w->batch_cures) {
            return (truth){TT_SEARCH_BATCH, depth, 0};
        }
        if (rate < 0 && w->rate_depth >= 0 && depth >= w->rate_depth && late(w, depth)) {
            rate = depth;
        }
    }
    if (rate >= 0) {
        return (truth){TT_SEARCH_RATE, rate, 0};
    }
    return (truth){TT_SEARCH_UNRESOLVED, w->setup.depth_count, 0};
}

/* Steps that are enough for any order of questions at the depths up to the truth's. */
static int enough(const world *w, int last)
{
    int steps = 0;
    for (int depth = 0; depth <= last && depth < w->setup.depth_count; depth++) {
        int n = __builtin_popcount(eligible(w, depth));
        int together = n > 1 ? n - 1 : 0;
        int back = depth == last && n > 2 ? n - 1 : 0;
        steps += w->setup.steps[depth] * (1 + n + together + back + (depth == 0) + late(w, depth));
    }
    return steps;
}

static void draw_setup(world *w, uint64_t seed, uint64_t *counter)
{
    int few = (int)draw(seed, counter, 4); /* mostly few, as in life */
    w->setup.suspect_count = (int)draw(seed, counter, few ? 5 : MOST + 1);
    uint32_t taken = 0;
    for (int i = 0; i < w->setup.suspect_count; i++) {
        int optimization;
        do {
            optimization = (int)draw(seed, counter, 32);
        } while (taken & OFF(optimization));
        taken |= OFF(optimization);
        w->setup.suspects[i] = (tt_suspect){.optimization = optimization,
                                            .tier = (tt_tier)(1 + draw(seed, counter, 3)),
                                            .acts_on_state = draw(seed, counter, 3) == 0};
        w->entered[optimization] = draw(seed, counter, 3) ? 0 : (int)draw(seed, counter, 4);
    }
    w->setup.depth_count = 1 + (int)draw(seed, counter, DEPTHS);
    w->setup.steps[0] = draw(seed, counter, 50) ? 1 : 1 + (int)draw(seed, counter, 80);
    for (int depth = 1; depth < w->setup.depth_count; depth++) {
        int further = draw(seed, counter, 4) ? 1 : 1 + (int)draw(seed, counter, 30);
        w->setup.steps[depth] = w->setup.steps[depth - 1] + further;
    }
    w->setup.gate_after_update = draw(seed, counter, 3) == 0;
}

static uint32_t some_suspects(const world *w, uint64_t seed, uint64_t *counter, int most)
{
    uint32_t set = 0;
    for (int i = 0; i < most; i++) {
        uint32_t which = draw(seed, counter, (uint32_t)w->setup.suspect_count);
        set |= OFF(w->setup.suspects[which].optimization);
    }
    return set;
}

static void draw_guilt(world *w, uint64_t seed, uint64_t *counter)
{
    w->clean_depth = -1;
    w->other_bits_depth = -1;
    w->rate_depth = -1;
    uint32_t kind = draw(seed, counter, 12);
    int most = 1;
    switch (w->setup.suspect_count ? kind : 6 + kind % 6) {
    case 0:
    case 1: /* single: one term of one */
        w->term_count = 1;
        break;
    case 2: /* either: one term of two or three */
        w->term_count = 1;
        most = 3;
        break;
    case 3: /* joint: terms of one each */
    case 4:
        w->term_count = 2 + (int)draw(seed, counter, 2);
        break;
    case 5: /* anything */
        w->term_count = 1 + (int)draw(seed, counter, TERMS);
        most = 3;
        break;
    case 6:
        w->clean_depth = draw(seed, counter, 2) ? 0 : (int)draw(seed, counter, 4);
        w->other_bits_depth = (int)draw(seed, counter, 2) - 1;
        w->other_harm = true;
        break;
    case 7:
        w->other_bits_depth = draw(seed, counter, 2) ? 0 : (int)draw(seed, counter, 4);
        w->other_harm = true;
        break;
    case 8:
    case 9:
        w->batch_cures = true;
        w->other_harm = true;
        break;
    case 10:
        w->rate_depth = (int)draw(seed, counter, 4);
        w->other_harm = true;
        break;
    default: /* beyond what a search can find */
        w->other_harm = true;
    }
    for (int i = 0; i < w->term_count; i++) {
        w->terms[i] = some_suspects(w, seed, counter, most);
    }
    /* The rest may play along. */
    w->batch_cures = w->batch_cures || draw(seed, counter, 20) == 0;
    if (draw(seed, counter, 20) == 0) {
        w->rate_depth = (int)draw(seed, counter, 4);
    }
}

static world draw_world(uint64_t seed)
{
    uint64_t counter = 0;
    world w;
    memset(&w, 0, sizeof w);
    draw_setup(&w, seed, &counter);
    draw_guilt(&w, seed, &counter);
    return w;
}

/* ---- what every search must keep to, whatever the answers --------------------------------- */

typedef struct log_of_replays {
    tt_search_replay asked[256];
    bool cured[256];
    int count;
    int steps;
} log_of_replays;

static bool same_question(const tt_search_replay *a, const tt_search_replay *b)
{
    return a->off == b->off && a->depth == b->depth && a->next_batch == b->next_batch &&
           a->rate_scale == b->rate_scale;
}

static void check_question(const world *w, const log_of_replays *log,
                           const tt_search_replay *replay)
{
    assert_true(log->count < 256);
    bool first = log->count == 0 || log->asked[log->count - 1].depth < replay->depth;
    int kinds = (replay->off != 0) + replay->next_batch + (replay->rate_scale != 1);
    assert_int_equal(kinds, first ? 0 : 1); /* one thing is changed at a time */
    assert_true(replay->depth >= 0 && replay->depth < w->setup.depth_count);
    assert_int_equal(replay->off & ~eligible(w, replay->depth), 0);
    assert_true(replay->rate_scale == 1 || late(w, replay->depth));
    for (int i = 0; i < log->count; i++) {
        assert_false(same_question(&log->asked[i], replay));
        assert_true(log->asked[i].depth <= replay->depth);
    }
}

/* Runs a search; `oracle` NULL: the world answers. */
static void run(const world *w, tt_search *search, log_of_replays *log, uint64_t oracle)
{
    log->count = 0;
    log->steps = 0;
    tt_search_begin(search, &w->setup);
    tt_search_replay replay;
    memset(&replay, 0xff, sizeof replay);
    while (tt_search_next(search, &replay)) {
        check_question(w, log, &replay);
        uint64_t counter = (uint64_t)log->count;
        bool cured =
            oracle ? log->count > 0 && draw(oracle, &counter, 6) == 0 : is_cured(w, &replay);
        log->steps += w->setup.steps[replay.depth];
        assert_true(log->steps <= TT_CULPRIT_MAX_REPLAYED);
        log->asked[log->count] = replay;
        log->cured[log->count++] = cured;
        bool repeats = w->other_bits_depth < 0 || replay.depth < w->other_bits_depth;
        tt_search_outcome outcome = {.cured = cured, .same_bits = oracle || repeats};
        tt_search_report(search, &outcome);
    }
    assert_int_equal(search->replays, log->count);
    assert_int_equal(search->replayed, log->steps);
    assert_int_not_equal(search->verdict, TT_SEARCH_RUNNING);
}

/* 1 cured, 0 not, -1 never asked. */
static int was_cured(const log_of_replays *log, uint32_t off, int depth)
{
    for (int i = 1; i < log->count; i++) {
        if (log->asked[i].off == off && log->asked[i].depth == depth && off) {
            return log->cured[i];
        }
    }
    return -1;
}

static bool rate_cured(const log_of_replays *log, int depth)
{
    for (int i = 0; i < log->count; i++) {
        if (log->asked[i].rate_scale != 1 && log->asked[i].depth == depth) {
            return log->cured[i];
        }
    }
    return false;
}

/* The one that comes first in reverse precedence; ties: as the caller listed them. */
static uint32_t first_to_yield(const world *w, uint32_t set)
{
    uint32_t first = 0;
    tt_tier highest = TT_TIER_NONE;
    for (int i = 0; i < w->setup.suspect_count; i++) {
        const tt_suspect *suspect = &w->setup.suspects[i];
        if ((set & OFF(suspect->optimization)) && suspect->tier > highest) {
            highest = suspect->tier;
            first = OFF(suspect->optimization);
        }
    }
    return first;
}

/* Every verdict must rest on replays that were made. */
static void check_evidence(const world *w, const tt_search *search, const log_of_replays *log)
{
    int depth = search->cured_depth;
    uint32_t alone = 0;
    bool all_asked = true;
    for (int i = 0; i < w->setup.suspect_count; i++) {
        uint32_t own = OFF(w->setup.suspects[i].optimization) & eligible(w, depth);
        int cured = own ? was_cured(log, own, depth) : 0;
        alone |= cured == 1 ? own : 0;
        all_asked = all_asked && cured >= 0;
    }
    bool several = (alone & (alone - 1)) != 0;
    uint32_t guilty = search->guilty;
    switch (search->verdict) {
    case TT_SEARCH_SINGLE:
    case TT_SEARCH_EITHER:
        assert_true(all_asked && guilty == alone && guilty);
        assert_int_equal(search->verdict, several ? TT_SEARCH_EITHER : TT_SEARCH_SINGLE);
        assert_int_equal(search->disable, first_to_yield(w, guilty));
        return;
    case TT_SEARCH_JOINT:
        assert_true(all_asked && !alone && __builtin_popcount(guilty) >= 2);
        assert_int_equal(was_cured(log, guilty, depth), 1);
        assert_int_equal(search->disable, guilty);
        return;
    case TT_SEARCH_BATCH:
        assert_true(all_asked && !alone && log->cured[log->count - 1]);
        break;
    case TT_SEARCH_RATE:
        assert_true(all_asked && !alone && rate_cured(log, depth));
        break;
    default:
        break;
    }
    assert_true(!guilty && !search->disable);
}

/* A smallest set: it cures, and without any one of them it does not. */
static bool is_smallest(const world *w, uint32_t set, int depth)
{
    bool smallest = cures(w, set, depth);
    for (int optimization = 0; optimization < 32; optimization++) {
        uint32_t own = OFF(optimization) & set;
        smallest = smallest && !(own && cures(w, set & ~own, depth));
    }
    return smallest;
}

static int verdicts[TT_SEARCH_UNRESOLVED + 1];
static int truncated;
static int deep;    /* a culprit found from an older state */
static int flipped; /* no culprit, but a younger state was harmed */
static int larger;  /* a joint set of three */
static int smaller; /* ... made smaller */

static void count(const tt_search *search, const log_of_replays *log)
{
    verdicts[search->verdict]++;
    truncated += search->truncated;
    bool joint = search->verdict == TT_SEARCH_JOINT;
    deep += search->guilty && search->cured_depth > 0;
    flipped += search->verdict == TT_SEARCH_TRANSIENT && search->cured_depth > 0;
    larger += joint && __builtin_popcount(search->guilty) == 3;
    smaller += joint && was_cured(log, search->set, search->cured_depth) == 1 &&
               log->asked[log->count - 1].off == search->set;
}

static void worlds(void **state)
{
    (void)state;
    static log_of_replays log;
    for (uint64_t seed = 1; seed <= 250000; seed++) {
        world w = draw_world(seed);
        truth want = find_truth(&w);
        tt_search search;
        run(&w, &search, &log, 0);
        check_evidence(&w, &search, &log);
        count(&search, &log);
        uint32_t involved = 0;
        for (int i = 0; i < w.term_count; i++) {
            involved |= w.terms[i];
        }
        bool innocent_named = search.guilty & ~involved;
        bool right = search.verdict == want.verdict;
        if (right && want.verdict != TT_SEARCH_UNRESOLVED) {
            right = search.cured_depth == want.depth;
        }
        if (right && want.alone) {
            right = search.guilty == want.alone;
        } else if (right && want.verdict == TT_SEARCH_JOINT) {
            right = is_smallest(&w, search.guilty, want.depth);
        }
        if (search.truncated) {
            int last = want.verdict == TT_SEARCH_RATE ? w.setup.depth_count : want.depth;
            right =
                (search.verdict == TT_SEARCH_UNRESOLVED || search.slow) && enough(&w, last) > 64;
        }
        if (!right || innocent_named) {
            fail_msg("seed %llu: %s at %d, guilty %x, not %s at %d", (unsigned long long)seed,
                     tt_search_verdict_name(search.verdict), search.cured_depth, search.guilty,
                     tt_search_verdict_name(want.verdict), want.depth);
        }
    }
    for (int verdict = TT_SEARCH_TRANSIENT; verdict <= TT_SEARCH_UNRESOLVED; verdict++) {
        assert_true(verdicts[verdict] > 500);
    }
    assert_true(truncated > 500 && deep > 500 && flipped > 500 && larger > 100 && smaller > 100);
}

static void oracles(void **state)
{
    (void)state;
    static log_of_replays log;
    for (uint64_t seed = 1; seed <= 50000; seed++) {
        world w = draw_world(seed);
        tt_search search;
        run(&w, &search, &log, seed + 1000000);
        check_evidence(&w, &search, &log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worlds),
        cmocka_unit_test(oracles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
