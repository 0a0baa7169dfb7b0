/* The ladder against a specification of its own, and against every adversary of a small world. */
#include "unit.h"

#include "ladder.h"

#include <stdlib.h>
#include <string.h>

static void the_rungs(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 5);
    /* Steps were replayed, so the state was not to blame: retry, roll back, skip, stop. */
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, false), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, false), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 3);
    tt_ladder_pass(&ladder, 3);
    tt_ladder_pass(&ladder, 4);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, false), TT_ACTION_SKIP);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, false), TT_ACTION_STOP);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, false), TT_ACTION_STOP);
}

static void nothing_to_go_back_to(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 0);
    assert_int_equal(tt_ladder_trip(&ladder, 0, false, false), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 0, false, false), TT_ACTION_SKIP);
    assert_int_equal(tt_ladder_trip(&ladder, 0, false, false), TT_ACTION_STOP);
}

static void the_search_comes_after_the_retry(void **state)
{
    (void)state;
    tt_ladder ladder;
    /* Found nothing: the ladder goes on with a rollback, or without one with the next batch. */
    for (int can = 0; can < 2; can++) {
        tt_ladder_init(&ladder, 5);
        assert_int_equal(tt_ladder_trip(&ladder, 5, can, true), TT_ACTION_RETRY);
        assert_int_equal(tt_ladder_trip(&ladder, 5, can, true), TT_ACTION_SEARCH);
        assert_int_equal(tt_ladder_trip(&ladder, 5, can, true),
                         can ? TT_ACTION_ROLLBACK : TT_ACTION_SKIP);
    }
    /* Found a fault that was transient: once more, and no second search. */
    tt_ladder_init(&ladder, 5);
    (void)tt_ladder_trip(&ladder, 5, true, true);
    (void)tt_ladder_trip(&ladder, 5, true, true);
    tt_ladder_found(&ladder, TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, true), TT_ACTION_ROLLBACK);
    /* Found a culprit: the step that still trips is searched again, for another one. */
    tt_ladder_init(&ladder, 5);
    (void)tt_ladder_trip(&ladder, 5, true, true);
    (void)tt_ladder_trip(&ladder, 5, true, true);
    tt_ladder_found(&ladder, TT_ACTION_DISABLE);
    tt_ladder_pass(&ladder, 4); /* it may have gone back */
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, true), TT_ACTION_SEARCH);
    tt_ladder_found(&ladder, TT_ACTION_DISABLE);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, false), TT_ACTION_ROLLBACK);
    /* Found the batch, or nothing that can be tried. */
    tt_ladder_init(&ladder, 5);
    (void)tt_ladder_trip(&ladder, 5, true, true);
    (void)tt_ladder_trip(&ladder, 5, true, true);
    tt_ladder_found(&ladder, TT_ACTION_SKIP);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true, true), TT_ACTION_STOP);
}

static void an_unknown_rung_stops(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 2);
    (void)tt_ladder_trip(&ladder, 2, true, false);
    ladder.last = (tt_action)99;
    assert_int_equal(tt_ladder_trip(&ladder, 2, true, false), TT_ACTION_STOP);
}

static void deeper_while_nothing_was_replayed(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 8);
    assert_int_equal(tt_ladder_trip(&ladder, 8, true, false), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 8, true, false), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 8); /* another copy of the same state */
    assert_int_equal(tt_ladder_trip(&ladder, 8, true, false), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 4);
    for (int64_t step = 4; step < 8; step++) {
        tt_ladder_pass(&ladder, step);
    }
    assert_int_equal(tt_ladder_trip(&ladder, 8, true, false), TT_ACTION_SKIP);
    /* ... but only where there is something deeper. */
    tt_ladder_init(&ladder, 8);
    (void)tt_ladder_trip(&ladder, 8, true, false);
    (void)tt_ladder_trip(&ladder, 8, true, false);
    tt_ladder_rolled_back(&ladder, 8);
    assert_int_equal(tt_ladder_trip(&ladder, 8, false, false), TT_ACTION_SKIP);
}

static void passing_resets(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 5);
    (void)tt_ladder_trip(&ladder, 5, true, false);
    tt_ladder_pass(&ladder, 5);
    assert_int_equal(tt_ladder_trip(&ladder, 6, true, false), TT_ACTION_RETRY);
    (void)tt_ladder_trip(&ladder, 6, true, false);
    tt_ladder_rolled_back(&ladder, 5);
    tt_ladder_pass(&ladder, 5); /* on the way back up: the rung is kept */
    assert_int_equal(tt_ladder_trip(&ladder, 6, true, false), TT_ACTION_SKIP);
    tt_ladder_pass(&ladder, 6);
    assert_int_equal(tt_ladder_trip(&ladder, 7, true, false), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 7, true, false), TT_ACTION_ROLLBACK);
}

static void rollbacks_without_progress_are_few(void **state)
{
    (void)state;
    /* Steps 4 and 5 trip in turn; each trip of the other starts a ladder of its own. */
    tt_ladder ladder;
    tt_ladder_init(&ladder, 5);
    int rollbacks = 0;
    int64_t step = 5;
    for (int i = 0; i < 100; i++) {
        tt_action action = tt_ladder_trip(&ladder, step, true, false);
        if (action == TT_ACTION_ROLLBACK) {
            rollbacks++;
            tt_ladder_rolled_back(&ladder, 4);
            step = 4;
        } else if (action == TT_ACTION_SKIP && step == 4) {
            tt_ladder_pass(&ladder, 4);
            step = 5;
        } else if (action == TT_ACTION_STOP) {
            assert_true(rollbacks <= TT_LADDER_MAX_FRUITLESS);
            return;
        }
    }
    fail_msg("no end");
}

/* ---- a specification of its own -----------------------------------------------------------
 *
 * A history of what happened, most recent last, and the rules read off it. */

typedef enum kind { PASS, TRIP, FOUND, LANDED } kind;

typedef struct event {
    kind kind;
    int64_t step;
    tt_action action;
} event;

typedef struct history {
    event events[4096];
    int count;
} history;

/* Rollbacks since a step passed that had never passed before. */
static int fruitless_rollbacks(const history *past, int64_t published)
{
    int64_t furthest = published - 1;
    int count = 0;
    for (int i = 0; i < past->count; i++) {
        const event *e = &past->events[i];
        if (e->kind == PASS && e->step > furthest) {
            furthest = e->step;
            count = 0;
        }
        count += e->kind == TRIP && e->action == TT_ACTION_ROLLBACK;
    }
    return count;
}

/* What the specification wants at a trip of `step`. */
static tt_action wanted(const history *past, int64_t published, int64_t step, bool can_rollback,
                        bool can_search)
{
    bool may = can_rollback && fruitless_rollbacks(past, published) < TT_LADDER_MAX_FRUITLESS;
    tt_action back_or_skip = may ? TT_ACTION_ROLLBACK : TT_ACTION_SKIP;
    int64_t landed = -1;
    for (int i = past->count - 1; i >= 0; i--) {
        const event *e = &past->events[i];
        if (e->kind == PASS && e->step >= step) {
            break; /* it passed since: a new ladder */
        }
        if (e->kind == LANDED && landed < 0) {
            landed = e->step;
        }
        if (e->kind != TRIP && e->kind != FOUND) {
            continue;
        }
        if (e->step != step) {
            break; /* another step's ladder came between */
        }
        if (e->kind == FOUND && e->action == TT_ACTION_RETRY) {
            return back_or_skip; /* the last retry is used up, and so is the search */
        }
        switch (e->action) {
        case TT_ACTION_RETRY:
        case TT_ACTION_DISABLE: /* something else may be harmful too */
            return can_search ? TT_ACTION_SEARCH : back_or_skip;
        case TT_ACTION_SEARCH: /* which found nothing */
            return back_or_skip;
        case TT_ACTION_ROLLBACK:
            return may && landed == step ? TT_ACTION_ROLLBACK : TT_ACTION_SKIP;
        default:
            return TT_ACTION_STOP;
        }
    }
    return TT_ACTION_RETRY;
}

static uint32_t draw(uint64_t seed, uint64_t *counter)
{
    uint32_t block[4];
    tt_philox(seed, 77, (*counter)++, block);
    return block[0];
}

/* A walk through one life of a ladder. */
typedef struct walk {
    tt_ladder ladder;
    history past;
    uint64_t seed, counter;
    int64_t initial, published;
    int64_t actions[TT_ACTION_STOP + 1], found[TT_ACTION_STOP + 1];
} walk;

static void note(walk *w, kind what, int64_t step, tt_action action)
{
    w->past.events[w->past.count++] = (event){.kind = what, .step = step, .action = action};
}

static void go_back(walk *w, bool rollback)
{
    int64_t depth = draw(w->seed, &w->counter) % 4;
    w->published = depth > w->published ? 0 : w->published - depth;
    if (rollback) {
        tt_ladder_rolled_back(&w->ladder, w->published);
        note(w, LANDED, w->published, TT_ACTION_NONE);
    }
}

/* The search that was asked for comes to some end. */
static tt_action finds(walk *w)
{
    static const tt_action ends[] = {TT_ACTION_RETRY, TT_ACTION_DISABLE, TT_ACTION_DISABLE,
                                     TT_ACTION_SKIP, TT_ACTION_STOP};
    uint32_t which = draw(w->seed, &w->counter) % 8;
    if (which >= 5) {
        return TT_ACTION_SEARCH; /* nothing: the ladder is asked again */
    }
    int64_t step = w->published;
    tt_ladder_found(&w->ladder, ends[which]);
    note(w, FOUND, step, ends[which]);
    w->found[ends[which]]++;
    if (ends[which] == TT_ACTION_DISABLE) {
        go_back(w, false);
    }
    return ends[which];
}

/* False at the end of the ladder. */
static bool trips_once(walk *w, int at)
{
    bool can_rollback = draw(w->seed, &w->counter) % 4 != 0;
    bool can_search = draw(w->seed, &w->counter) % 3 != 0;
    int64_t step = w->published;
    tt_action want = wanted(&w->past, w->initial, step, can_rollback, can_search);
    tt_action got = tt_ladder_trip(&w->ladder, step, can_rollback, can_search);
    if (got != want) {
        fail_msg("seed %llu event %d: %s instead of %s", (unsigned long long)w->seed, at,
                 tt_action_name(got), tt_action_name(want));
    }
    w->actions[got]++;
    note(w, TRIP, step, got);
    if (got == TT_ACTION_ROLLBACK) {
        go_back(w, true);
    }
    return got != TT_ACTION_STOP && (got != TT_ACTION_SEARCH || finds(w) != TT_ACTION_STOP);
}

static void random_walks(void **state)
{
    (void)state;
    static walk w;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        w.seed = seed;
        w.counter = 0;
        w.past.count = 0;
        w.published = draw(seed, &w.counter) % 4 ? draw(seed, &w.counter) % 8 : 0;
        w.initial = w.published;
        const uint32_t trip_percent = draw(seed, &w.counter) % 95;
        tt_ladder_init(&w.ladder, w.published);
        for (int i = 0; i < 300; i++) {
            if (draw(seed, &w.counter) % 100 >= trip_percent) {
                tt_ladder_pass(&w.ladder, w.published);
                note(&w, PASS, w.published, TT_ACTION_NONE);
                w.published++;
            } else if (!trips_once(&w, i)) {
                break;
            }
        }
    }
    for (tt_action action = TT_ACTION_RETRY; action <= TT_ACTION_STOP; action++) {
        /* The walks went everywhere; DISABLE is what a search finds, never a rung. */
        assert_true(action == TT_ACTION_DISABLE || w.actions[action] > 100);
        assert_true(action == TT_ACTION_SEARCH || action == TT_ACTION_ROLLBACK ||
                    w.found[action] > 100);
    }
}

/* ---- no endless loop ----------------------------------------------------------------------
 *
 * Every state that any adversary can reach without a step that never passed before. A cycle among
 * them would be a run that goes on for ever and gets nowhere. */

enum { WORLD = 4, STATES = 400000, MAX_DISABLED = 2 };

typedef struct node {
    tt_ladder ladder;
    int64_t published;
    int disabled; /* so far; each needs an optimization that is on, and none comes back on the way
                   */
    int color;    /* 1: on the path, 2: done */
} node;

static node *nodes;
static int node_count;

static node *find(const tt_ladder *ladder, int64_t published, int disabled)
{
    tt_ladder clean;
    memset(&clean, 0, sizeof clean);
    clean.trip_step = ladder->trip_step;
    clean.last = ladder->last;
    clean.furthest = ladder->furthest;
    clean.fruitless = ladder->fruitless;
    clean.rolled_to = ladder->rolled_to;
    for (int i = 0; i < node_count; i++) {
        if (nodes[i].published == published && nodes[i].disabled == disabled &&
            memcmp(&nodes[i].ladder, &clean, sizeof clean) == 0) {
            return &nodes[i];
        }
    }
    assert_true(node_count < STATES);
    nodes[node_count] = (node){.published = published, .disabled = disabled};
    memcpy(&nodes[node_count].ladder, &clean, sizeof clean);
    return &nodes[node_count++];
}

static void explore(const tt_ladder *ladder, int64_t published, int disabled);

/* Wherever the state comes from that the run goes on with. */
static void land(const tt_ladder *ladder, int64_t published, int disabled, bool rollback)
{
    for (int64_t landing = 0; landing <= published; landing++) {
        tt_ladder rolled = *ladder;
        if (rollback) {
            tt_ladder_rolled_back(&rolled, landing);
        }
        explore(&rolled, landing, disabled);
    }
}

static void after_a_search(const tt_ladder *before, int64_t published, int disabled)
{
    static const tt_action ends[] = {TT_ACTION_RETRY, TT_ACTION_SKIP, TT_ACTION_DISABLE};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (ends[i] == TT_ACTION_DISABLE && disabled == MAX_DISABLED) {
            continue;
        }
        tt_ladder ladder = *before;
        tt_ladder_found(&ladder, ends[i]);
        if (ends[i] == TT_ACTION_DISABLE) {
            land(&ladder, published, disabled + 1, false);
        } else {
            explore(&ladder, published, disabled);
        }
    }
}

static void after_a_trip(const tt_ladder *before, int64_t published, bool can, bool search,
                         int disabled)
{
    tt_ladder ladder = *before;
    switch (tt_ladder_trip(&ladder, published, can, search)) {
    case TT_ACTION_ROLLBACK:
        assert_true(can);
        land(&ladder, published, disabled, true);
        break;
    case TT_ACTION_SEARCH:
        assert_true(search);
        after_a_search(&ladder, published, disabled);
        after_a_trip(&ladder, published, can, false, disabled); /* it found nothing */
        break;
    case TT_ACTION_RETRY:
    case TT_ACTION_SKIP:
        explore(&ladder, published, disabled);
        break;
    case TT_ACTION_NONE:
    case TT_ACTION_DISABLE: /* only a search says so */
        fail_msg("a trip that nothing follows");
        break;
    case TT_ACTION_STOP:
        break;
    }
}

static void explore(const tt_ladder *ladder, int64_t published, int disabled)
{
    node *here = find(ladder, published, disabled);
    if (here->color == 1) {
        fail_msg("an adversary can hold the run at step %d for ever", (int)published);
    }
    if (here->color == 2) {
        return;
    }
    here->color = 1;
    if (published <= ladder->furthest) { /* beyond it: progress */
        tt_ladder passed = *ladder;
        tt_ladder_pass(&passed, published);
        explore(&passed, published + 1, disabled);
    }
    for (int can = 0; can < 2; can++) {
        after_a_trip(ladder, published, can, false, disabled);
        after_a_trip(ladder, published, can, true, disabled);
    }
    here->color = 2;
}

static void no_adversary_holds_the_run(void **state)
{
    (void)state;
    nodes = calloc(STATES, sizeof *nodes);
    assert_non_null(nodes);
    tt_ladder ladder;
    tt_ladder_init(&ladder, WORLD);
    explore(&ladder, WORLD, 0);
    assert_true(node_count > 100);
    print_message("%d states without progress, none on a cycle\n", node_count);
    free(nodes);
}

/* A search that found nothing near: back further, a state on the way up, and once more. */
static void looks_closer(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 20);
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, true), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, true), TT_ACTION_SEARCH);
    assert_true(tt_ladder_look_closer(&ladder));
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, false), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 8);
    for (int64_t step = 8; step < 20; step++) {
        tt_ladder_pass(&ladder, step);
        assert_int_equal(tt_ladder_wants_state(&ladder, step + 1),
                         step + 1 == 20 - TT_LADDER_CLOSE);
    }
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, true), TT_ACTION_SEARCH);
    /* In vain again: there is no third time. */
    assert_false(tt_ladder_look_closer(&ladder));
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, false), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 19);
    tt_ladder_pass(&ladder, 19);
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, true), TT_ACTION_SKIP);
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, true), TT_ACTION_STOP);
    /* Back so little that a state on the way would be no news: none is asked for. */
    tt_ladder_init(&ladder, 20);
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, true), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, true), TT_ACTION_SEARCH);
    assert_true(tt_ladder_look_closer(&ladder));
    assert_int_equal(tt_ladder_trip(&ladder, 20, true, false), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 20 - TT_LADDER_CLOSE);
    assert_false(tt_ladder_wants_state(&ladder, 20 - TT_LADDER_CLOSE));
    /* It passes this time: what trips later is another matter. */
    tt_ladder_pass(&ladder, 20);
    assert_int_equal(tt_ladder_trip(&ladder, 21, true, true), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 21, true, true), TT_ACTION_SEARCH);
    assert_true(tt_ladder_look_closer(&ladder));
    assert_false(tt_ladder_wants_state(&ladder, 21 - TT_LADDER_CLOSE)); /* not gone back yet */
    /* Nobody is left to search for when the step is reached again: the ladder goes on. */
    assert_int_equal(tt_ladder_trip(&ladder, 21, true, false), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 8);
    assert_int_equal(tt_ladder_trip(&ladder, 21, true, false), TT_ACTION_SKIP);
    /* Nor is there a closer look when rollbacks have led nowhere too often. */
    tt_ladder_init(&ladder, 20);
    ladder.fruitless = TT_LADDER_MAX_FRUITLESS;
    assert_false(tt_ladder_look_closer(&ladder));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rungs),
        cmocka_unit_test(nothing_to_go_back_to),
        cmocka_unit_test(the_search_comes_after_the_retry),
        cmocka_unit_test(an_unknown_rung_stops),
        cmocka_unit_test(deeper_while_nothing_was_replayed),
        cmocka_unit_test(passing_resets),
        cmocka_unit_test(rollbacks_without_progress_are_few),
        cmocka_unit_test(random_walks),
        cmocka_unit_test(no_adversary_holds_the_run),
        cmocka_unit_test(looks_closer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
