/* The search for a culprit, question by question. Random worlds: test_culprit_worlds.c. */
#include "unit.h"

#include "culprit.h"

enum { RLVR, CODEC, MOMENTS, TILE }; /* optimizations of the examples */

#define OFF(optimization) (UINT32_C(1) << (optimization))

static const tt_search_setup example = {
    /* Not in the order of asking; the moments act on state. */
    .suspects = {{TILE, TT_TIER_TILE, false},
                 {CODEC, TT_TIER_COMPRESSION, false},
                 {MOMENTS, TT_TIER_COMPRESSION, true},
                 {RLVR, TT_TIER_RLVR, false}},
    .suspect_count = 4,
    .steps = {1, 2, 3},
    .depth_count = 3,
};

static void answer(tt_search *search, bool cured)
{
    tt_search_outcome outcome = {.cured = cured, .same_bits = true};
    tt_search_report(search, &outcome);
}

/* Asks for a replay with this off, and answers. */
static void expect_off(tt_search *search, uint32_t off, int depth, bool cured)
{
    tt_search_replay replay;
    assert_true(tt_search_next(search, &replay));
    assert_int_equal(replay.off, off);
    assert_int_equal(replay.depth, depth);
    assert_false(replay.next_batch);
    assert_true(replay.rate_scale == 1);
    answer(search, cured);
}

static void expect_other(tt_search *search, bool next_batch, int depth, bool cured)
{
    tt_search_replay replay;
    assert_true(tt_search_next(search, &replay));
    assert_int_equal(replay.off, 0);
    assert_int_equal(replay.depth, depth);
    assert_int_equal(replay.next_batch, next_batch);
    assert_true(replay.rate_scale == (next_batch ? 1 : 0.1));
    answer(search, cured);
}

static void expect_verdict(tt_search *search, tt_verdict_of_search verdict, uint32_t guilty,
                           uint32_t disable, int depth)
{
    tt_search_replay replay;
    assert_false(tt_search_next(search, &replay));
    assert_string_equal(tt_search_verdict_name(search->verdict), tt_search_verdict_name(verdict));
    assert_int_equal(search->guilty, guilty);
    assert_int_equal(search->disable, disable);
    assert_int_equal(search->cured_depth, depth);
    /* It stands, whatever is reported. */
    int replays = search->replays;
    answer(search, true);
    assert_int_equal(search->verdict, verdict);
    assert_int_equal(search->replays, replays);
}

static void nobody_is_to_blame(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    assert_int_equal(search.verdict, TT_SEARCH_RUNNING);
    expect_off(&search, 0, 0, true);
    expect_verdict(&search, TT_SEARCH_TRANSIENT, 0, 0, 0);
    assert_int_equal(search.replayed, 1);
    /* Cured with other bits is transient too: something passed. */
    tt_search_begin(&search, &example);
    tt_search_report(&search, &(tt_search_outcome){.cured = true, .same_bits = false});
    expect_verdict(&search, TT_SEARCH_TRANSIENT, 0, 0, 0);
    tt_search_begin(&search, &example);
    tt_search_report(&search, &(tt_search_outcome){.cured = false, .same_bits = false});
    expect_verdict(&search, TT_SEARCH_NONDETERMINISM, 0, 0, 0);
}

static void one_culprit(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    expect_off(&search, 0, 0, false);
    expect_off(&search, OFF(RLVR), 0, false);
    expect_off(&search, OFF(CODEC), 0, true);
    expect_off(&search, OFF(TILE), 0, false); /* all are asked */
    expect_verdict(&search, TT_SEARCH_SINGLE, OFF(CODEC), OFF(CODEC), 0);
    assert_int_equal(search.replayed, 4);
}

static void a_replay_stays_asked_for(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    expect_off(&search, 0, 0, false);
    tt_search_replay once;
    tt_search_replay again;
    assert_true(tt_search_next(&search, &once));
    assert_true(tt_search_next(&search, &again));
    assert_int_equal(again.off, once.off);
    expect_off(&search, OFF(RLVR), 0, false);
    assert_int_equal(search.replays, 2);
}

static void harmful_only_together(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    expect_off(&search, 0, 0, false);
    expect_off(&search, OFF(RLVR), 0, false);
    expect_off(&search, OFF(CODEC), 0, true);
    expect_off(&search, OFF(TILE), 0, true);
    expect_verdict(&search, TT_SEARCH_EITHER, OFF(CODEC) | OFF(TILE), OFF(CODEC), 0);
}

static void independently_harmful(void **state)
{
    (void)state;
    tt_search search;
    tt_search_setup setup = example;
    setup.gate_after_update = true; /* all four from the start */
    tt_search_begin(&search, &setup);
    expect_off(&search, 0, 0, false);
    expect_off(&search, OFF(RLVR), 0, false);
    expect_off(&search, OFF(CODEC), 0, false);
    expect_off(&search, OFF(MOMENTS), 0, false);
    expect_off(&search, OFF(TILE), 0, false);
    expect_off(&search, OFF(RLVR) | OFF(CODEC), 0, false);
    expect_off(&search, OFF(RLVR) | OFF(CODEC) | OFF(MOMENTS), 0, false);
    expect_off(&search, OFF(RLVR) | OFF(CODEC) | OFF(MOMENTS) | OFF(TILE), 0, true);
    expect_off(&search, OFF(CODEC) | OFF(MOMENTS) | OFF(TILE), 0, true);
    expect_off(&search, OFF(MOMENTS) | OFF(TILE), 0, true); /* no smaller: none alone cured */
    expect_verdict(&search, TT_SEARCH_JOINT, OFF(MOMENTS) | OFF(TILE), OFF(MOMENTS) | OFF(TILE), 0);
    assert_int_equal(search.replayed, 10);
}

static void three_independently_harmful(void **state)
{
    (void)state;
    tt_search search;
    tt_search_setup setup = example;
    setup.gate_after_update = true;
    tt_search_begin(&search, &setup);
    for (int i = 0; i < 7; i++) { /* (0), four alone, two together, three together */
        answer(&search, false);
    }
    expect_off(&search, OFF(RLVR) | OFF(CODEC) | OFF(MOMENTS) | OFF(TILE), 0, true);
    expect_off(&search, OFF(CODEC) | OFF(MOMENTS) | OFF(TILE), 0, false); /* stays off */
    expect_off(&search, OFF(RLVR) | OFF(MOMENTS) | OFF(TILE), 0, true);
    expect_off(&search, OFF(RLVR) | OFF(TILE), 0, false);
    uint32_t guilty = OFF(RLVR) | OFF(MOMENTS) | OFF(TILE);
    expect_verdict(&search, TT_SEARCH_JOINT, guilty, guilty, 0);
}

/* All of a depth, and none of it cures. */
static void nothing_at(tt_search *search, int depth)
{
    expect_off(search, 0, depth, false);
    expect_off(search, OFF(RLVR), depth, false);
    expect_off(search, OFF(CODEC), depth, false);
    expect_off(search, OFF(MOMENTS), depth, false);
    expect_off(search, OFF(TILE), depth, false);
    expect_off(search, OFF(RLVR) | OFF(CODEC), depth, false);
    expect_off(search, OFF(RLVR) | OFF(CODEC) | OFF(MOMENTS), depth, false);
    expect_off(search, OFF(RLVR) | OFF(CODEC) | OFF(MOMENTS) | OFF(TILE), depth, false);
}

/* The first depth of the example: what acts on state is left out, and so is the rate. */
static void first_depth(tt_search *search, bool batch_cures)
{
    expect_off(search, 0, 0, false);
    expect_off(search, OFF(RLVR), 0, false);
    expect_off(search, OFF(CODEC), 0, false);
    expect_off(search, OFF(TILE), 0, false);
    expect_off(search, OFF(RLVR) | OFF(CODEC), 0, false);
    expect_off(search, OFF(RLVR) | OFF(CODEC) | OFF(TILE), 0, false);
    expect_other(search, true, 0, batch_cures);
}

static void the_batch(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    first_depth(&search, true);
    expect_verdict(&search, TT_SEARCH_BATCH, 0, 0, 0);
}

static void the_rate(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    first_depth(&search, false);
    nothing_at(&search, 1);
    expect_other(&search, false, 1, true); /* the batch is not asked for again */
    nothing_at(&search, 2);                /* nor the rate */
    expect_verdict(&search, TT_SEARCH_RATE, 0, 0, 1);
    /* Where the gate judges what the step wrote, the rate may be it at once. */
    tt_search_setup setup = example;
    setup.gate_after_update = true;
    setup.depth_count = 1;
    tt_search_begin(&search, &setup);
    nothing_at(&search, 0);
    expect_other(&search, true, 0, false);
    expect_other(&search, false, 0, true);
    expect_verdict(&search, TT_SEARCH_RATE, 0, 0, 0);
    /* A lower rate also lessens what harmed moments do: an older state tells. */
    tt_search_begin(&search, &example);
    first_depth(&search, false);
    nothing_at(&search, 1);
    expect_other(&search, false, 1, true);
    expect_off(&search, 0, 2, true);
    expect_verdict(&search, TT_SEARCH_TRANSIENT, 0, 0, 2);
}

/* The gate that tripped judges the codec's own error, and looks at nothing once it is off. */
static void who_disarms_the_gate(void **state)
{
    (void)state;
    tt_search search;
    tt_search_setup setup = example;
    setup.disarms = OFF(CODEC);
    /* The moments of an earlier step made tensors that the codec cannot hold. */
    tt_search_begin(&search, &setup);
    expect_off(&search, 0, 0, false);
    expect_off(&search, OFF(RLVR), 0, false);
    expect_off(&search, OFF(CODEC), 0, true);
    expect_off(&search, OFF(TILE), 0, false);
    expect_off(&search, 0, 1, false);
    expect_off(&search, OFF(RLVR), 1, false);
    expect_off(&search, OFF(CODEC), 1, true);
    expect_off(&search, OFF(MOMENTS), 1, true);
    expect_off(&search, OFF(TILE), 1, false);
    expect_verdict(&search, TT_SEARCH_SINGLE, OFF(MOMENTS), OFF(MOMENTS), 1);
    /* It cures where it is the last state, and from no older one does anybody: it is the codec. */
    tt_search_begin(&search, &setup);
    expect_off(&search, 0, 0, false);
    expect_off(&search, OFF(RLVR), 0, false);
    expect_off(&search, OFF(CODEC), 0, true);
    expect_off(&search, OFF(TILE), 0, false);
    for (int depth = 1; depth < setup.depth_count; depth++) {
        expect_off(&search, 0, depth, false);
        expect_off(&search, OFF(RLVR), depth, false);
        expect_off(&search, OFF(CODEC), depth, false);
        expect_off(&search, OFF(MOMENTS), depth, false);
        expect_off(&search, OFF(TILE), depth, false);
    }
    expect_verdict(&search, TT_SEARCH_SINGLE, OFF(CODEC), OFF(CODEC), 0);
    /* So did damage to a younger state. */
    tt_search_begin(&search, &setup);
    expect_off(&search, 0, 0, false);
    expect_off(&search, OFF(RLVR), 0, false);
    expect_off(&search, OFF(CODEC), 0, true);
    expect_off(&search, OFF(TILE), 0, false);
    expect_off(&search, 0, 1, true);
    expect_verdict(&search, TT_SEARCH_TRANSIENT, 0, 0, 1);
    /* Nobody else at all: it is the codec, from the youngest state on. */
    tt_search_begin(&search, &setup);
    for (int depth = 0; depth < setup.depth_count; depth++) {
        expect_off(&search, 0, depth, false);
        expect_off(&search, OFF(RLVR), depth, false);
        expect_off(&search, OFF(CODEC), depth, true);
        if (depth > 0) {
            expect_off(&search, OFF(MOMENTS), depth, false);
        }
        expect_off(&search, OFF(TILE), depth, false);
    }
    expect_verdict(&search, TT_SEARCH_SINGLE, OFF(CODEC), OFF(CODEC), 0);
    /* Someone else cures from the same state: each is of use. */
    tt_search_begin(&search, &setup);
    expect_off(&search, 0, 0, false);
    expect_off(&search, OFF(RLVR), 0, false);
    expect_off(&search, OFF(CODEC), 0, true);
    expect_off(&search, OFF(TILE), 0, true);
    expect_verdict(&search, TT_SEARCH_EITHER, OFF(CODEC) | OFF(TILE), OFF(CODEC), 0);
}

static void harm_in_the_state(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    first_depth(&search, false);
    expect_off(&search, 0, 1, false);
    expect_off(&search, OFF(RLVR), 1, false);
    expect_off(&search, OFF(CODEC), 1, false);
    expect_off(&search, OFF(MOMENTS), 1, true);
    expect_off(&search, OFF(TILE), 1, false);
    expect_verdict(&search, TT_SEARCH_SINGLE, OFF(MOMENTS), OFF(MOMENTS), 1);
    assert_int_equal(search.replayed, 7 + 2 * 5);
}

static void harmed_in_memory(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    first_depth(&search, false);
    expect_off(&search, 0, 1, true);
    expect_verdict(&search, TT_SEARCH_TRANSIENT, 0, 0, 1);
    /* From an older state it is not the same step any more, and trips all the same. */
    tt_search_begin(&search, &example);
    first_depth(&search, false);
    tt_search_report(&search, &(tt_search_outcome){.cured = false, .same_bits = false});
    expect_verdict(&search, TT_SEARCH_NONDETERMINISM, 0, 0, 1);
}

static void no_answer(void **state)
{
    (void)state;
    tt_search search;
    tt_search_begin(&search, &example);
    first_depth(&search, false);
    nothing_at(&search, 1);
    expect_other(&search, false, 1, false);
    nothing_at(&search, 2);
    expect_other(&search, false, 2, false);
    expect_verdict(&search, TT_SEARCH_UNRESOLVED, 0, 0, 0);
    assert_false(search.truncated);
    assert_int_equal(search.replayed, 7 + 2 * 9 + 3 * 9);
    /* Nothing to replay from. */
    tt_search_setup setup = example;
    setup.depth_count = 0;
    tt_search_begin(&search, &setup);
    expect_verdict(&search, TT_SEARCH_UNRESOLVED, 0, 0, 0);
    assert_false(search.truncated);
}

static void no_suspects(void **state)
{
    (void)state;
    tt_search search;
    tt_search_setup setup = example;
    setup.suspect_count = 0;
    setup.depth_count = 2;
    tt_search_begin(&search, &setup);
    expect_off(&search, 0, 0, false);
    expect_other(&search, true, 0, false);
    expect_off(&search, 0, 1, false);
    expect_other(&search, false, 1, false);
    expect_verdict(&search, TT_SEARCH_UNRESOLVED, 0, 0, 0);
    /* One, and it acts on state. */
    setup.suspects[0] = (tt_suspect){31, TT_TIER_COMPRESSION, true};
    setup.suspect_count = 1;
    tt_search_begin(&search, &setup);
    expect_off(&search, 0, 0, false);
    expect_other(&search, true, 0, false);
    expect_off(&search, 0, 1, false);
    expect_off(&search, OFF(31), 1, true);
    expect_verdict(&search, TT_SEARCH_SINGLE, OFF(31), OFF(31), 1);
}

static void the_budget(void **state)
{
    (void)state;
    tt_search search;
    tt_search_setup setup = example;
    setup.steps[1] = 19; /* three of them: 7 + 57 = 64 */
    tt_search_begin(&search, &setup);
    first_depth(&search, false);
    expect_off(&search, 0, 1, false);
    expect_off(&search, OFF(RLVR), 1, false);
    expect_off(&search, OFF(CODEC), 1, true);
    /* The tile may cure as well: no verdict, but a suspect. */
    expect_verdict(&search, TT_SEARCH_UNRESOLVED, 0, 0, 0);
    assert_true(search.truncated);
    assert_int_equal(search.replayed, TT_CULPRIT_MAX_REPLAYED);
    assert_int_equal(search.cured_alone, OFF(CODEC));
    setup.steps[1] = 58;
    tt_search_begin(&search, &setup);
    first_depth(&search, false);
    expect_verdict(&search, TT_SEARCH_UNRESOLVED, 0, 0, 0);
    assert_true(search.truncated);
    assert_int_equal(search.replayed, 7);
    setup.steps[0] = 65;
    tt_search_begin(&search, &setup);
    expect_verdict(&search, TT_SEARCH_UNRESOLVED, 0, 0, 0);
    assert_int_equal(search.replayed, 0);
}

static void names(void **state)
{
    (void)state;
    static const char *const wanted[] = {
        "running",     "transient", "nondeterminism", "culprit",    "interaction (either)",
        "interaction", "batch",     "learning rate",  "unresolved", "?"};
    for (int i = 0; i < (int)(sizeof wanted / sizeof *wanted); i++) {
        assert_string_equal(tt_search_verdict_name((tt_verdict_of_search)i), wanted[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_to_blame),
        cmocka_unit_test(one_culprit),
        cmocka_unit_test(a_replay_stays_asked_for),
        cmocka_unit_test(harmful_only_together),
        cmocka_unit_test(independently_harmful),
        cmocka_unit_test(three_independently_harmful),
        cmocka_unit_test(the_batch),
        cmocka_unit_test(the_rate),
        cmocka_unit_test(who_disarms_the_gate),
        cmocka_unit_test(harm_in_the_state),
        cmocka_unit_test(harmed_in_memory),
        cmocka_unit_test(no_answer),
        cmocka_unit_test(no_suspects),
        cmocka_unit_test(the_budget),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
