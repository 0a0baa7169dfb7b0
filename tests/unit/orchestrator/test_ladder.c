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
    assert_int_equal(tt_ladder_trip(&ladder, 5, true), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 3);
    tt_ladder_pass(&ladder, 3);
    tt_ladder_pass(&ladder, 4);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true), TT_ACTION_SKIP);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true), TT_ACTION_STOP);
    assert_int_equal(tt_ladder_trip(&ladder, 5, true), TT_ACTION_STOP);
}

static void nothing_to_go_back_to(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 0);
    assert_int_equal(tt_ladder_trip(&ladder, 0, false), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 0, false), TT_ACTION_SKIP);
    assert_int_equal(tt_ladder_trip(&ladder, 0, false), TT_ACTION_STOP);
}

static void an_unknown_rung_stops(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 2);
    (void)tt_ladder_trip(&ladder, 2, true);
    ladder.last = (tt_action)99;
    assert_int_equal(tt_ladder_trip(&ladder, 2, true), TT_ACTION_STOP);
}

static void deeper_while_nothing_was_replayed(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 8);
    assert_int_equal(tt_ladder_trip(&ladder, 8, true), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 8, true), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 8); /* another copy of the same state */
    assert_int_equal(tt_ladder_trip(&ladder, 8, true), TT_ACTION_ROLLBACK);
    tt_ladder_rolled_back(&ladder, 4);
    for (int64_t step = 4; step < 8; step++) {
        tt_ladder_pass(&ladder, step);
    }
    assert_int_equal(tt_ladder_trip(&ladder, 8, true), TT_ACTION_SKIP);
    /* ... but only where there is something deeper. */
    tt_ladder_init(&ladder, 8);
    (void)tt_ladder_trip(&ladder, 8, true);
    (void)tt_ladder_trip(&ladder, 8, true);
    tt_ladder_rolled_back(&ladder, 8);
    assert_int_equal(tt_ladder_trip(&ladder, 8, false), TT_ACTION_SKIP);
}

static void passing_resets(void **state)
{
    (void)state;
    tt_ladder ladder;
    tt_ladder_init(&ladder, 5);
    (void)tt_ladder_trip(&ladder, 5, true);
    tt_ladder_pass(&ladder, 5);
    assert_int_equal(tt_ladder_trip(&ladder, 6, true), TT_ACTION_RETRY);
    (void)tt_ladder_trip(&ladder, 6, true);
    tt_ladder_rolled_back(&ladder, 5);
    tt_ladder_pass(&ladder, 5); /* on the way back up: the rung is kept */
    assert_int_equal(tt_ladder_trip(&ladder, 6, true), TT_ACTION_SKIP);
    tt_ladder_pass(&ladder, 6);
    assert_int_equal(tt_ladder_trip(&ladder, 7, true), TT_ACTION_RETRY);
    assert_int_equal(tt_ladder_trip(&ladder, 7, true), TT_ACTION_ROLLBACK);
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
        tt_action action = tt_ladder_trip(&ladder, step, true);
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

typedef enum kind { PASS, TRIP, LANDED } kind;

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
static tt_action wanted(const history *past, int64_t published, int64_t step, bool can_rollback)
{
    bool may = can_rollback && fruitless_rollbacks(past, published) < TT_LADDER_MAX_FRUITLESS;
    int64_t landed = -1;
    for (int i = past->count - 1; i >= 0; i--) {
        const event *e = &past->events[i];
        if (e->kind == PASS && e->step >= step) {
            break; /* it passed since: a new ladder */
        }
        if (e->kind == LANDED && landed < 0) {
            landed = e->step;
        }
        if (e->kind != TRIP) {
            continue;
        }
        if (e->step != step) {
            break; /* another step's ladder came between */
        }
        switch (e->action) {
        case TT_ACTION_RETRY:
            return may ? TT_ACTION_ROLLBACK : TT_ACTION_SKIP;
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

static void random_walks(void **state)
{
    (void)state;
    static history past;
    int64_t actions[TT_ACTION_STOP + 1] = {0};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        uint64_t counter = 0;
        int64_t published = draw(seed, &counter) % 4 ? draw(seed, &counter) % 8 : 0;
        const int64_t initial = published;
        const uint32_t trip_percent = draw(seed, &counter) % 95;
        tt_ladder ladder;
        tt_ladder_init(&ladder, published);
        past.count = 0;
        for (int i = 0; i < 200; i++) {
            if (draw(seed, &counter) % 100 >= trip_percent) {
                tt_ladder_pass(&ladder, published);
                past.events[past.count++] = (event){.kind = PASS, .step = published};
                published++;
                continue;
            }
            bool can = draw(seed, &counter) % 4 != 0;
            tt_action want = wanted(&past, initial, published, can);
            tt_action got = tt_ladder_trip(&ladder, published, can);
            if (got != want) {
                fail_msg("seed %llu event %d: %s instead of %s", (unsigned long long)seed, i,
                         tt_action_name(got), tt_action_name(want));
            }
            actions[got]++;
            past.events[past.count++] = (event){.kind = TRIP, .step = published, .action = got};
            if (got == TT_ACTION_ROLLBACK) {
                int64_t depth = draw(seed, &counter) % 4;
                published = depth > published ? 0 : published - depth;
                tt_ladder_rolled_back(&ladder, published);
                past.events[past.count++] = (event){.kind = LANDED, .step = published};
            }
            if (got == TT_ACTION_STOP) {
                break;
            }
        }
    }
    for (tt_action action = TT_ACTION_RETRY; action <= TT_ACTION_STOP; action++) {
        assert_true(actions[action] > 100); /* the walks went everywhere */
    }
}

/* ---- no endless loop ----------------------------------------------------------------------
 *
 * Every state that any adversary can reach without a step that never passed before. A cycle among
 * them would be a run that goes on for ever and gets nowhere. */

enum { WORLD = 5, STATES = 400000 };

typedef struct node {
    tt_ladder ladder;
    int64_t published;
    int color; /* 1: on the path, 2: done */
} node;

static node *nodes;
static int node_count;

static node *find(const tt_ladder *ladder, int64_t published)
{
    tt_ladder clean;
    memset(&clean, 0, sizeof clean);
    clean.trip_step = ladder->trip_step;
    clean.last = ladder->last;
    clean.furthest = ladder->furthest;
    clean.fruitless = ladder->fruitless;
    clean.rolled_to = ladder->rolled_to;
    for (int i = 0; i < node_count; i++) {
        if (nodes[i].published == published &&
            memcmp(&nodes[i].ladder, &clean, sizeof clean) == 0) {
            return &nodes[i];
        }
    }
    assert_true(node_count < STATES);
    nodes[node_count] = (node){.published = published};
    memcpy(&nodes[node_count].ladder, &clean, sizeof clean);
    return &nodes[node_count++];
}

static void explore(const tt_ladder *ladder, int64_t published);

static void after_a_trip(const tt_ladder *before, int64_t published, bool can)
{
    tt_ladder ladder = *before;
    switch (tt_ladder_trip(&ladder, published, can)) {
    case TT_ACTION_ROLLBACK:
        assert_true(can);
        for (int64_t landing = 0; landing <= published; landing++) {
            tt_ladder rolled = ladder;
            tt_ladder_rolled_back(&rolled, landing);
            explore(&rolled, landing);
        }
        break;
    case TT_ACTION_RETRY:
    case TT_ACTION_SKIP:
        explore(&ladder, published);
        break;
    case TT_ACTION_NONE:
        fail_msg("a trip that nothing follows");
        break;
    case TT_ACTION_STOP:
        break;
    }
}

static void explore(const tt_ladder *ladder, int64_t published)
{
    node *here = find(ladder, published);
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
        explore(&passed, published + 1);
    }
    after_a_trip(ladder, published, false);
    after_a_trip(ladder, published, true);
    here->color = 2;
}

static void no_adversary_holds_the_run(void **state)
{
    (void)state;
    nodes = calloc(STATES, sizeof *nodes);
    assert_non_null(nodes);
    tt_ladder ladder;
    tt_ladder_init(&ladder, WORLD);
    explore(&ladder, WORLD);
    assert_true(node_count > 100);
    print_message("%d states without progress, none on a cycle\n", node_count);
    free(nodes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rungs),
        cmocka_unit_test(nothing_to_go_back_to),
        cmocka_unit_test(an_unknown_rung_stops),
        cmocka_unit_test(deeper_while_nothing_was_replayed),
        cmocka_unit_test(passing_resets),
        cmocka_unit_test(rollbacks_without_progress_are_few),
        cmocka_unit_test(random_walks),
        cmocka_unit_test(no_adversary_holds_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
