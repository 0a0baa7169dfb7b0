/* Without replays: an optimization is suspected when a step passes without it; five suspicions open
 * its breaker, and live steps probe it. */
#include "toy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CULPRIT = 3, BAD_FROM = 10, LIFE = 330 };

static tt_optimization_info knob(const toy *job, int number)
{
    return tt_orchestrator_optimization(job->orchestrator, (size_t)number);
}

static void begin(toy *job, const char *directory, int64_t until)
{
    toy_init(job, directory);
    toy_add_knobs(job, 7, false);
    job->knobs[CULPRIT].changes_state = true;
    job->knobs[6].changes_state = true;
    toy_add_harm(job, (toy_harm){.kind = TOY_HARM_EXPLODING,
                                 .with = 1 << CULPRIT,
                                 .from = BAD_FROM,
                                 .until = until,
                                 .position = -1,
                                 .strikes = -1});
}

#define ON "toy.k0=4", "toy.k3=4", "toy.k4=8", "toy.k6=2", "adapt.every_steps=0"
static const char *const settings[] = {ON, "checkpoint.every_steps=7", "checkpoint.keep=99", NULL};

static void five_suspicions(void **state)
{
    toy job;
    begin(&job, toy_path(state, "five"), 79);
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_steps(&job, BAD_FROM));
    /* Twice as it is, once without k6, which comes first in reverse precedence, once without k3. */
    tt_step_record record;
    static const tt_action actions[] = {TT_ACTION_RETRY, TT_ACTION_SEARCH, TT_ACTION_SEARCH,
                                        TT_ACTION_NONE};
    for (int i = 0; i < 4; i++) {
        assert_ok(toy_attempt(&job, &record));
        assert_int_equal(record.decision.action, actions[i]);
        assert_int_equal(record.published, i == 3);
        assert_int_equal(toy_knob_is_on(&job, 6), i != 2);
        assert_int_equal(toy_knob_is_on(&job, CULPRIT), i != 3);
    }
    for (int64_t step = BAD_FROM + 2; step <= BAD_FROM + 5; step++) {
        assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_CLOSED);
        assert_ok(toy_steps(&job, step));
    }
    assert_ok(toy_attempt(&job, &record));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_OPEN);
    assert_true(record.published); /* at once, from here on */
    tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
    assert_int_equal(totals.breakers_opened, 1);
    assert_int_equal(totals.trips, 15);
    for (int k = 0; k < 7; k++) {
        assert_int_equal(knob(&job, k).trips, k == CULPRIT ? 5 : 0);
    }
    /* The probe is a live step, of which the state is not when it trips. */
    assert_ok(toy_steps(&job, 79));
    assert_int_equal(tt_orchestrator_totals(job.orchestrator).trips, 15);
    assert_ok(toy_steps(&job, 82));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_HALF_OPEN);
    assert_true(knob(&job, CULPRIT).on);
    assert_ok(toy_steps(&job, 84));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_CLOSED);
    assert_ok(toy_close(&job, TT_OK));
}

static void a_live_probe_that_trips(void **state)
{
    toy job;
    begin(&job, toy_path(state, "relapse"), 100);
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_steps(&job, 79));
    assert_int_equal(knob(&job, CULPRIT).closed_at_the_earliest, 79);
    assert_ok(toy_steps(&job, 81));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_OPEN);
    assert_int_equal(knob(&job, CULPRIT).closed_at_the_earliest, 80 + 128);
    assert_ok(toy_steps(&job, 220));
    assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_CLOSED);
    assert_ok(toy_close(&job, TT_OK));
}

static void nobody_is_to_blame(void **state)
{
    /* Transient; the batch; in place. */
    for (int slots = 1; slots <= 3; slots++) {
        for (int times = 1; times <= 6; times++) {
            char name[32];
            char setting[32];
            toy job;
            snprintf(name, sizeof name, "nobody-%d-%d", slots, times);
            snprintf(setting, sizeof setting, "snapshot.slots=%d", slots);
            const char *const own[] = {ON, "checkpoint.every_steps=3", setting, NULL};
            toy_init(&job, toy_path(state, name));
            toy_add_knobs(&job, 7, false);
            toy_add_fault(&job, (toy_fault){.step = times == 6 ? -1 : 20,
                                            .position = 20 * TOY_BATCH,
                                            .times = times == 6 ? -1 : times,
                                            .metric = TT_METRIC_LOSS,
                                            .value = 30});
            assert_ok(toy_open(&job, NULL, own));
            assert_ok(toy_steps(&job, 40));
            static const int64_t left_out[] = {20 * TOY_BATCH, -1};
            toy_state expected = toy_expected(40, times == 6 ? left_out : NULL);
            toy_assert_same(toy_now(&job), &expected);
            for (int k = 0; k < 7; k++) {
                /* One suspicion of an innocent is possible, and harmless: nothing is proven here.
                 */
                assert_int_equal(knob(&job, k).breaker, TT_BREAKER_CLOSED);
                assert_true(knob(&job, k).trips <= (times > 1 && times < 6));
            }
            assert_ok(toy_close(&job, TT_OK));
        }
    }
}

/* The update is in the only copy: nobody is tried from it, the run goes back. */
static void in_place(void **state)
{
    static const char *const own[] = {ON, "checkpoint.every_steps=3", "snapshot.slots=1", NULL};
    toy job;
    toy_init(&job, toy_path(state, "in-place"));
    toy_add_knobs(&job, 7, false);
    toy_add_fault(&job, (toy_fault){.step = 20,
                                    .position = -1,
                                    .times = 1,
                                    .metric = TT_METRIC_UPDATE_NONFINITE,
                                    .value = 3});
    assert_ok(toy_open(&job, NULL, own));
    assert_ok(toy_steps(&job, 40));
    tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
    assert_int_equal(totals.rollbacks, 1);
    assert_int_equal(toy_count(&job, "switch"), 0);
    toy_state expected = toy_expected(40, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
}

/* After every attempt of it the process ends; what goes on comes to the same state by the same
 * decisions. */
static void the_process_ends_anywhere(void **state)
{
    toy job;
    begin(&job, toy_path(state, "whole"), 100);
    assert_ok(toy_open(&job, NULL, settings));
    int attempts = 0;
    while (tt_orchestrator_step(job.orchestrator) < LIFE) {
        assert_ok(toy_attempt(&job, NULL));
        attempts++;
    }
    toy_state last = *toy_now(&job);
    char *expected = toy_decisions(&job);
    assert_ok(toy_close(&job, TT_OK));
    int ends = 0;
    for (int at = 1; at < attempts; at += at < 32 || (at > 90 && at < 104) || at > 220 ? 1 : 9) {
        if (at > 250) {
            break;
        }
        char name[32];
        snprintf(name, sizeof name, "end-%d", at);
        begin(&job, toy_path(state, name), 100);
        assert_ok(toy_open(&job, NULL, settings));
        for (int i = 0; i < at; i++) {
            assert_ok(toy_attempt(&job, NULL));
        }
        toy_abandon(&job);
        begin(&job, job.directory, 100);
        assert_ok(toy_open(&job, "auto", NULL));
        assert_ok(toy_steps(&job, LIFE));
        toy_assert_same(toy_now(&job), &last);
        char *got = toy_decisions(&job);
        if (strcmp(got, expected) != 0) {
            fail_msg("ended after attempt %d:\n%s\ninstead of\n%s", at, got, expected);
        }
        free(got);
        assert_ok(toy_close(&job, TT_OK));
        ends++;
    }
    print_message("ended %d times of %d attempts\n%s", ends, attempts, expected);
    free(expected);
}

/* Five suspicions need five harmful steps: a rollback in between takes none of them twice. */
static void rolled_back_in_between(void **state)
{
    toy whole;
    begin(&whole, toy_path(state, "unbroken"), 100);
    assert_ok(toy_open(&whole, NULL, settings));
    assert_ok(toy_steps(&whole, 60));
    toy_state last = *toy_now(&whole);
    char *expected = toy_decisions(&whole);
    assert_ok(toy_close(&whole, TT_OK));
    for (int64_t step = 2; step < 22; step++) {
        if (step >= 8 && step < 15) {
            continue; /* damage and harm in the same step are more than can be told apart */
        }
        for (int slots = 1; slots <= 3; slots++) {
            char name[32];
            char setting[32];
            toy job;
            snprintf(name, sizeof name, "back-%d-%d", (int)step, slots);
            snprintf(setting, sizeof setting, "snapshot.slots=%d", slots);
            const char *const own[] = {ON, "checkpoint.every_steps=4", setting, NULL};
            begin(&job, toy_path(state, name), 100);
            toy_flip_bits(&job, step, true);
            assert_ok(toy_open(&job, NULL, own));
            assert_ok(toy_steps(&job, 60));
            assert_true(tt_orchestrator_totals(job.orchestrator).rollbacks >= 1);
            assert_int_equal(knob(&job, CULPRIT).breaker, TT_BREAKER_OPEN);
            toy_assert_same(toy_now(&job), &last);
            char *got = toy_decisions(&job);
            for (int k = 0; k < 7; k++) {
                assert_int_equal(knob(&job, k).trips, k == CULPRIT ? 5 : 0);
            }
            free(got);
            assert_ok(toy_close(&job, TT_OK));
        }
    }
    free(expected);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(five_suspicions),           RUN_TEST(a_live_probe_that_trips),
        RUN_TEST(nobody_is_to_blame),        RUN_TEST(in_place),
        RUN_TEST(the_process_ends_anywhere), RUN_TEST(rolled_back_in_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
