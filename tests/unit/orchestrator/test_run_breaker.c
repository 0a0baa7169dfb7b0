/* The life of a breaker in a run: opened by proof or by suspicion, probed, closed, opened again;
 * and the same when the process ends anywhere in between. */
#include "toy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tt_optimization_info knob(const toy *job, int number)
{
    return tt_orchestrator_optimization(job->orchestrator, (size_t)number);
}

/* ---- proven ---- */

enum { LIFE = 420, BAD_FROM = 10, BAD_UNTIL = 90, CULPRIT = 3 };

/* Harm while k3 is on, up to step 90: convicted at 10, probed at 74 and still bad, probed again
 * 128 steps later and good. `mixed`: k3 changes the state. */
static void begin_life(toy *job, const char *directory, bool mixed)
{
    toy_init(job, directory);
    toy_add_knobs(job, 5, true);
    job->knobs[CULPRIT].changes_state = mixed;
    toy_add_harm(job, (toy_harm){.kind = TOY_HARM_EXPLODING,
                                 .with = 1 << CULPRIT,
                                 .from = BAD_FROM,
                                 .until = BAD_UNTIL,
                                 .position = -1,
                                 .strikes = -1});
}

#define LIFE_SETTINGS "toy.k0=4", "toy.k3=4", "toy.k4=8", "adapt.every_steps=0"
static const char *const life_settings[] = {LIFE_SETTINGS, "checkpoint.every_steps=16",
                                            "checkpoint.keep=100", NULL};
/* 205 is in the middle of a probe. */
static const char *const every_5[] = {LIFE_SETTINGS, "checkpoint.every_steps=5",
                                      "checkpoint.keep=100", NULL};

static void convicted_probed_closed(void **state)
{
    toy job;
    begin_life(&job, toy_path(state, "life"), false);
    assert_ok(toy_open(&job, NULL, life_settings));
    assert_ok(toy_steps(&job, BAD_FROM + 1));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_OPEN);
    assert_false(knob(&job, CULPRIT).on);
    assert_true(knob(&job, 0).on && knob(&job, 4).on);
    assert_int_equal(knob(&job, CULPRIT).closed_at_the_earliest, BAD_FROM + 64);
    assert_ok(toy_steps(&job, 74));
    assert_int_equal(tt_orchestrator_totals(job.orchestrator).trials, 0);
    /* The probe is a shadow: the live run stays without it. */
    int copies = job.copies;
    assert_ok(toy_steps(&job, 75));
    assert_int_equal(job.copies, copies + 1);
    assert_false(toy_knob_is_on(&job, CULPRIT));
    assert_ok(toy_steps(&job, 76));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_OPEN);
    assert_int_equal(knob(&job, CULPRIT).closed_at_the_earliest, 75 + 128);
    assert_ok(toy_steps(&job, 204));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_HALF_OPEN);
    assert_string_equal(knob(&job, CULPRIT).trial, "probe");
    assert_false(knob(&job, CULPRIT).on);
    assert_ok(toy_steps(&job, 207));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_CLOSED);
    assert_true(knob(&job, CULPRIT).on);
    assert_string_equal(knob(&job, CULPRIT).trial, "");
    assert_int_equal(job.copies, job.releases - 1); /* the search has released too */
    assert_ok(toy_steps(&job, LIFE));
    toy_state expected = toy_expected(LIFE, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_int_equal(tt_orchestrator_totals(job.orchestrator).trips, 2);
    assert_ok(toy_close(&job, TT_OK));
    toy_check_metrics(&job, LIFE);
}

/* Closed again at 77, it does harm that shows three steps later, and the state to go back to is one
 * from before it was closed: open, or half-open at that time. */
static void convicted_behind_its_closing(void **state)
{
    for (int every = 73; every <= 76; every++) { /* further back, 64 steps do not suffice */
        char name[32];
        char setting[40];
        snprintf(name, sizeof name, "behind-%d", every);
        snprintf(setting, sizeof setting, "checkpoint.every_steps=%d", every);
        const char *const settings[] = {LIFE_SETTINGS, setting, NULL};
        toy job;
        begin_life(&job, toy_path(state, name), true);
        job.harms[0].until = 20;
        toy_add_harm(&job, (toy_harm){.kind = TOY_HARM_STATE,
                                      .with = 1 << CULPRIT,
                                      .from = 77,
                                      .until = 250,
                                      .position = -1,
                                      .strikes = -1,
                                      .delay = 3});
        assert_ok(toy_open(&job, NULL, settings));
        assert_ok(toy_steps(&job, 77));
        assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_HALF_OPEN);
        for (int64_t step = 81; step < every + 128; step += 3) {
            assert_ok(toy_steps(&job, step));
            assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_OPEN);
            assert_int_equal(knob(&job, CULPRIT).closed_at_the_earliest, every + 128);
        }
        assert_int_equal(tt_orchestrator_totals(job.orchestrator).breakers_opened, 2);
        assert_int_equal(toy_now(&job)->poison, 0);
        assert_ok(toy_close(&job, TT_OK));
    }
}

static int64_t attempts_until(toy *job, int64_t steps, int64_t most)
{
    int64_t attempts = 0;
    while (tt_orchestrator_step(job->orchestrator) < steps && attempts < most) {
        assert_ok(toy_attempt(job, NULL));
        attempts++;
    }
    return attempts;
}

static void same_text(const char *got, const char *expected, int64_t at)
{
    if (strcmp(got, expected) != 0) {
        fail_msg("ended after attempt %d:\n%s\ninstead of\n%s", (int)at, got, expected);
    }
}

static void ended_anywhere(void *const *state, bool mixed, int64_t stride,
                           const char *const *settings)
{
    toy whole;
    char name[48];
    snprintf(name, sizeof name, "whole-%d", mixed);
    begin_life(&whole, toy_path(state, name), mixed);
    assert_ok(toy_open(&whole, NULL, settings));
    int64_t attempts = attempts_until(&whole, LIFE, INT64_MAX);
    toy_state last = *toy_now(&whole);
    char *expected = toy_decisions(&whole);
    assert_ok(toy_close(&whole, TT_OK));
    int ends = 0;
    for (int64_t at = 1; at < attempts;
         at += at < 20 || (at > 70 && at < 82) || (at > 200 && at < 216) ? 1 : stride) {
        toy job;
        snprintf(name, sizeof name, "end-%d-%d", mixed, (int)at);
        begin_life(&job, toy_path(state, name), mixed);
        assert_ok(toy_open(&job, NULL, settings));
        (void)attempts_until(&job, LIFE, at);
        toy_abandon(&job);
        begin_life(&job, job.directory, mixed);
        assert_ok(toy_open(&job, "auto", NULL));
        assert_ok(toy_steps(&job, LIFE));
        toy_assert_same(toy_now(&job), &last);
        char *got = toy_decisions(&job);
        same_text(got, expected, at);
        free(got);
        assert_ok(toy_close(&job, TT_OK));
        if (!mixed) {
            toy_check_metrics(&job, LIFE);
        }
        ends++;
    }
    print_message("ended %d times\n%s", ends, expected);
    free(expected);
}

static void the_process_ends_anywhere(void **state)
{
    ended_anywhere(state, false, 13, life_settings);
}

static void the_process_ends_anywhere_mixed(void **state)
{
    ended_anywhere(state, true, 37, every_5);
}

static void copy_file(const char *from, const char *to)
{
    FILE *in = fopen(from, "rbe");
    FILE *out = fopen(to, "wbe");
    char block[4096];
    size_t got;
    assert_true(in && out);
    while ((got = fread(block, 1, sizeof block, in)) > 0) {
        assert_int_equal(fwrite(block, 1, got, out), got);
    }
    fclose(in);
    fclose(out);
}

/* From each checkpoint of a run that is over: in its own folder, where the journal is followed, and
 * as a copy in another one, where all there is to know is in the file. */
static void from_older_checkpoints(void **state)
{
    static const int from[] = {0, 16, 80, 192, 208, 416};
    toy whole;
    begin_life(&whole, toy_path(state, "older"), true);
    assert_ok(toy_open(&whole, NULL, life_settings));
    assert_ok(toy_steps(&whole, LIFE));
    toy_state last = *toy_now(&whole);
    char *expected = toy_decisions(&whole);
    assert_ok(toy_close(&whole, TT_OK));
    for (int i = 5; i >= 0; i--) {
        char path[256];
        char copy[256];
        char name[32];
        snprintf(path, sizeof path, "%.200s/checkpoints/step-%010d.h5", whole.directory, from[i]);
        snprintf(name, sizeof name, "copy-%d", from[i]);
        snprintf(copy, sizeof copy, "%s", toy_path(state, "copy-of-a-state.h5"));
        copy_file(path, copy);
        toy job;
        begin_life(&job, whole.directory, true);
        assert_ok(toy_open(&job, path, life_settings));
        assert_int_equal(tt_orchestrator_step(job.orchestrator), from[i]);
        assert_ok(toy_steps(&job, LIFE));
        toy_assert_same(toy_now(&job), &last);
        char *got = toy_decisions(&job);
        same_text(got, expected, from[i]);
        free(got);
        assert_ok(toy_close(&job, TT_OK));
        begin_life(&job, toy_path(state, name), true);
        assert_ok(toy_open(&job, copy, life_settings));
        assert_ok(toy_steps(&job, LIFE));
        toy_assert_same(toy_now(&job), &last);
        /* What it decides itself are the last of the same decisions. */
        got = toy_decisions(&job);
        assert_true(strlen(got) <= strlen(expected));
        same_text(got, expected + strlen(expected) - strlen(got), from[i]);
        assert_true((got[0] == '\0') == (from[i] >= 208));
        free(got);
        assert_ok(toy_close(&job, TT_OK));
    }
    free(expected);
}

/* Bits flip in memory while optimizations are on: none of them is to blame, and the run goes back
 * to a state that is clean, over probes that it has gone through before. */
static void rolled_back_in_between(void **state)
{
    static const int64_t steps[] = {12, 30, 74, 76, 203, 205, 207, 300};
    toy whole;
    begin_life(&whole, toy_path(state, "unbroken"), true);
    assert_ok(toy_open(&whole, NULL, life_settings));
    assert_ok(toy_steps(&whole, LIFE));
    toy_state last = *toy_now(&whole);
    char *expected = toy_decisions(&whole);
    assert_ok(toy_close(&whole, TT_OK));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        for (int slots = 1; slots <= 4; slots += slots) {
            char name[48];
            char setting[32];
            toy job;
            snprintf(name, sizeof name, "flip-%d-%d", (int)steps[i], slots);
            snprintf(setting, sizeof setting, "snapshot.slots=%d", slots);
            const char *settings[] = {LIFE_SETTINGS, "checkpoint.every_steps=5", setting, NULL};
            begin_life(&job, toy_path(state, name), true);
            toy_flip_bits(&job, steps[i], true);
            assert_ok(toy_open(&job, NULL, settings));
            assert_ok(toy_steps(&job, LIFE));
            tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
            assert_int_equal(totals.rollbacks, 1);
            assert_int_equal(totals.skips, 0);
            assert_int_equal(totals.breakers_opened, 1); /* the one that was planted */
            bool probing = steps[i] >= 73 && steps[i] <= 206 && (steps[i] < 78 || steps[i] > 201);
            if (!probing) {
                /* (A probe in which the live run trips is lost, and made again later.) */
                toy_assert_same(toy_now(&job), &last);
                char *got = toy_decisions(&job);
                same_text(got, expected, steps[i]);
                free(got);
            }
            assert_ok(toy_close(&job, TT_OK));
        }
    }
    free(expected);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(convicted_probed_closed),   RUN_TEST(convicted_behind_its_closing),
        RUN_TEST(the_process_ends_anywhere), RUN_TEST(the_process_ends_anywhere_mixed),
        RUN_TEST(from_older_checkpoints),    RUN_TEST(rolled_back_in_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
