/* Trials and adaptation in a run whose clock shows what the test wants it to. */
#include "toy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TUNED = 3 }; /* the knob that most tests are about: compression, off at 16 */

/* (No tile may be adapted: nobody needs to know how fast it is without any optimization.) */
#define NO_TILES "toy.k0=1", "toy.k1=1", "toy.k2=1"
#define TRIALS   NO_TILES, "adapt.every_steps=20", "trials.pairs=12", "checkpoint.every_steps=0"
static const char *const trials[] = {TRIALS, NULL};

/* k3 begins at 8, loses little, and makes a step `factor` as long per power of two. */
static void begin(toy *job, const char *directory, bool replays, double factor)
{
    toy_init(job, directory);
    toy_add_knobs(job, 4, replays);
    job->knobs[TUNED].initial = 8;
    job->knobs[TUNED].measured = true;
    job->knobs[TUNED].error = 0.001;
    job->knobs[TUNED].factor = factor;
    job->calm = !replays; /* where live steps are compared, they must be comparable */
}

static int64_t value_of(const toy *job, const char *key)
{
    return tt_config_int(tt_orchestrator_config(job->orchestrator), key);
}

static json_t *last_of_kind(const toy *job, const char *kind)
{
    json_t *lines = toy_lines(job, "decisions.jsonl");
    json_t *found = NULL;
    size_t index;
    json_t *line;
    json_array_foreach(lines, index, line)
    {
        if (strcmp(json_string_value(json_object_get(line, "kind")), kind) == 0) {
            found = line;
        }
    }
    json_incref(found);
    json_decref(lines);
    return found;
}

static void assert_outcome(const toy *job, const char *outcome, int64_t step)
{
    json_t *trial = last_of_kind(job, "trial");
    assert_non_null(trial);
    assert_string_equal(json_string_value(json_object_get(trial, "outcome")), outcome);
    assert_int_equal(json_integer_value(json_object_get(trial, "step")), step);
    json_decref(trial);
}

static void a_faster_one_is_committed(void **state)
{
    toy job;
    begin(&job, toy_path(state, "faster"), true, 0.8);
    assert_ok(toy_open(&job, NULL, trials));
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    assert_ok(toy_steps(&job, 20));
    assert_int_equal(job.replays_done, 0);
    /* Twelve pairs, whose order alternates. */
    job.order_length = 0;
    assert_ok(toy_steps(&job, 26));
    assert_string_equal(job.order, "LSSLLSSLLSSL");
    assert_string_equal(tt_orchestrator_optimization(job.orchestrator, TUNED).trial, "trial");
    assert_ok(toy_steps(&job, 31));
    assert_int_equal(toy_count(&job, "commit"), 0);
    assert_ok(toy_steps(&job, 32));
    /* In the journal, not yet in force. */
    assert_int_equal(toy_count(&job, "commit"), 1);
    assert_int_equal(job.replays_done, 12);
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    assert_ok(toy_steps(&job, 33));
    assert_int_equal(value_of(&job, "toy.k3"), 4);
    assert_int_equal(job.replays_done, 12);
    json_t *commit = last_of_kind(&job, "commit");
    assert_int_equal(json_integer_value(json_object_get(commit, "step")), 32);
    assert_close(json_number_value(json_object_get(commit, "speedup")), 1.25, 1e-6);
    assert_close(json_number_value(json_object_get(commit, "gain_seconds")), 0.8e-3 * 0.2, 1e-9);
    json_decref(commit);
    /* On to the end of the lattice; then nothing is left to propose. */
    assert_ok(toy_steps(&job, 300));
    assert_int_equal(value_of(&job, "toy.k3"), 1);
    assert_int_equal(toy_count(&job, "commit"), 3);
    assert_int_equal(job.replays_done, 36);
    assert_int_equal(job.copies, 3);
    assert_int_equal(job.releases, 3);
    assert_int_equal(tt_orchestrator_totals(job.orchestrator).commits, 3);
    toy_state expected = toy_expected(300, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
    toy_check_metrics(&job, 300);
}

static void a_slower_one_is_refused(void **state)
{
    toy job;
    begin(&job, toy_path(state, "slower"), true, 1.2);
    assert_ok(toy_open(&job, NULL, trials));
    assert_ok(toy_steps(&job, 1039));
    assert_int_equal(toy_count(&job, "trial"), 1);
    assert_outcome(&job, "too slow", 32);
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    /* It returns after 1,000 steps, or when its input has moved by a quarter. */
    assert_ok(toy_steps(&job, 1060));
    assert_outcome(&job, "too slow", 1052);
    job.knobs[TUNED].error = 0.0012;
    assert_ok(toy_steps(&job, 1120));
    assert_int_equal(toy_count(&job, "trial"), 2);
    job.knobs[TUNED].error = 0.0013;
    assert_ok(toy_steps(&job, 1160));
    assert_outcome(&job, "too slow", 1152);
    assert_int_equal(toy_count(&job, "trial"), 3);
    assert_int_equal(toy_count(&job, "commit"), 0);
    toy_state expected = toy_expected(1160, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
}

static void less_compression_for_memory_or_not(void **state)
{
    /* An error above 80 % of its bound: less compression, which is slower. For speed that is
     * refused; with the aim of memory it may cost a fifth. */
    for (int memory = 0; memory < 2; memory++) {
        toy job;
        begin(&job, toy_path(state, memory ? "memory" : "speed"), true, 0.9);
        job.knobs[TUNED].initial = 4;
        job.knobs[TUNED].error = 0.021;
        job.knobs[TUNED].aim = memory ? TT_AIM_MEMORY : TT_AIM_SPEED;
        assert_ok(toy_open(&job, NULL, trials));
        assert_ok(toy_steps(&job, 40));
        assert_int_equal(value_of(&job, "toy.k3"), memory ? 8 : 4);
        assert_int_equal(toy_count(&job, "trial"), !memory);
        assert_ok(toy_close(&job, TT_OK));
    }
}

static void one_that_trips(void **state)
{
    toy job;
    begin(&job, toy_path(state, "trips"), true, 0.8);
    toy_add_harm(&job, (toy_harm){.kind = TOY_HARM_EXPLODING,
                                  .with = 1 << TUNED,
                                  .value = 4,
                                  .from = 25,
                                  .until = INT64_MAX,
                                  .position = -1,
                                  .strikes = -1});
    assert_ok(toy_open(&job, NULL, trials));
    assert_ok(toy_steps(&job, 100));
    assert_outcome(&job, "tripped", 25); /* shadow first */
    assert_int_equal(toy_count(&job, "trial"), 1);
    assert_int_equal(tt_orchestrator_totals(job.orchestrator).trips, 0);
    assert_int_equal(job.releases, job.copies);
    toy_state expected = toy_expected(100, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
}

static void abandoned_when_the_run_trips(void **state)
{
    toy job;
    begin(&job, toy_path(state, "abandoned"), true, 0.8);
    toy_add_fault(
        &job,
        (toy_fault){.step = 24, .position = -1, .times = 1, .metric = TT_METRIC_LOSS, .value = 30});
    assert_ok(toy_open(&job, NULL, trials));
    assert_ok(toy_steps(&job, 39));
    assert_outcome(&job, "abandoned", 24);
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    assert_int_equal(job.releases, job.copies);
    /* That is no finding: it is tried again at the next look. */
    assert_ok(toy_steps(&job, 53));
    assert_int_equal(value_of(&job, "toy.k3"), 4);
    /* Nothing of the attempt is in the live state. */
    toy_state expected = toy_expected(53, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
}

static void refused_before_it_begins(void **state)
{
    toy job;
    begin(&job, toy_path(state, "conforms"), true, 0.8);
    job.knobs[TUNED].fails_to_conform = true;
    assert_ok(toy_open(&job, NULL, trials));
    assert_ok(toy_steps(&job, 200));
    assert_outcome(&job, "refused", 20);
    assert_int_equal(toy_count(&job, "trial"), 1);
    assert_int_equal(job.replays_done, 0);
    assert_ok(toy_close(&job, TT_OK));
    /* The fork does not fit: 1000 + 100 * 4, and 500 for the fork. */
    static const char *const tight[] = {TRIALS, "run.memory_budget=1899", NULL};
    begin(&job, toy_path(state, "fits"), true, 0.8);
    job.fork_memory = 500;
    assert_ok(toy_open(&job, NULL, tight));
    assert_ok(toy_steps(&job, 200));
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    assert_outcome(&job, "refused", 20);
    json_t *trial = last_of_kind(&job, "trial");
    const char *why = json_string_value(json_object_get(trial, "why"));
    assert_non_null(strstr(why, "needs 1900 bytes, the budget is 1899"));
    json_decref(trial);
    assert_ok(toy_close(&job, TT_OK));
}

static void pinned_keys_stay(void **state)
{
    static const char *const pinned[] = {TRIALS, "toy.k3=8", NULL};
    toy job;
    begin(&job, toy_path(state, "pinned"), true, 0.8);
    assert_ok(toy_open(&job, NULL, pinned));
    assert_ok(toy_steps(&job, 100));
    assert_int_equal(job.replays_done, 0);
    assert_ok(toy_close(&job, TT_OK));
    /* Pinned on a resume, among commits that the journal knows: before, amid and behind. */
    begin(&job, toy_path(state, "pinned-later"), true, 0.8);
    static const char *const saved[] = {NO_TILES,
                                        "adapt.every_steps=20",
                                        "trials.pairs=12",
                                        "checkpoint.every_steps=20",
                                        "checkpoint.keep=20",
                                        NULL};
    assert_ok(toy_open(&job, NULL, saved));
    assert_ok(toy_close(&job, toy_steps(&job, 100)));
    assert_int_equal(toy_count(&job, "commit"), 3);
    for (int from = 100; from >= 0; from -= 20) {
        char path[256];
        static const char *const later[] = {"toy.k3=2", NULL};
        snprintf(path, sizeof path, "%.200s/checkpoints/step-%010d.h5", job.directory, from);
        begin(&job, job.directory, true, 0.8);
        assert_ok(toy_open(&job, path, later));
        for (int64_t step = from; step < 130; step++) {
            assert_ok(toy_steps(&job, step + 1));
            assert_int_equal(value_of(&job, "toy.k3"), 2);
        }
        toy_flip_bits(&job, 131, true); /* back over all of it, as far as states go */
        assert_ok(toy_steps(&job, 140));
        assert_int_equal(value_of(&job, "toy.k3"), 2);
        assert_ok(toy_close(&job, TT_OK));
        assert_int_equal(toy_count(&job, "commit"), 3);
    }
}

static void precedence_moves_others_along(void **state)
{
    toy job;
    begin(&job, toy_path(state, "along"), true, 1);
    job.ruled = true;
    job.knobs[TUNED].initial = 0;
    job.knobs[0].initial = 4;
    job.knobs[0].factor = 0.5;
    static const char *const with_tiles[] = {"adapt.every_steps=20", "trials.pairs=12",
                                             "checkpoint.every_steps=0", NULL};
    assert_ok(toy_open(&job, NULL, with_tiles));
    assert_ok(toy_steps(&job, 21));
    assert_string_equal(tt_orchestrator_optimization(job.orchestrator, 0).trial, "");
    assert_ok(toy_steps(&job, 25)); /* how fast it is without any */
    json_t *baseline = last_of_kind(&job, "baseline");
    assert_close(json_number_value(json_object_get(baseline, "speedup")), 4, 1e-9);
    json_decref(baseline);
    assert_ok(toy_steps(&job, 54));
    json_t *commit = last_of_kind(&job, "commit");
    json_t *changes = json_object_get(commit, "changes");
    assert_int_equal(json_array_size(changes), 2);
    assert_string_equal(json_string_value(json_array_get(json_array_get(changes, 0), 0)), "toy.k0");
    json_decref(commit);
    assert_int_equal(value_of(&job, "toy.k0"), 8);
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    assert_int_equal(toy_count(&job, "resolution"), 1);
    toy_state expected = toy_expected(54, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
    begin(&job, job.directory, true, 1);
    job.ruled = true;
    assert_ok(toy_open(&job, "auto", NULL));
    assert_int_equal(value_of(&job, "toy.k0"), 8);
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    assert_ok(toy_close(&job, TT_OK));
}

/* ---- overhead ---- */

static void nothing_is_spent_that_is_not_there(void **state)
{
    static const char *const poor[] = {TRIALS, "trials.budget_seconds=0", NULL};
    toy job;
    begin(&job, toy_path(state, "poor"), true, 0.8);
    assert_ok(toy_open(&job, NULL, poor));
    /* 12 ms of trial are 1 % of 1,200 steps. */
    assert_ok(toy_steps(&job, 1180));
    assert_int_equal(job.replays_done, 0);
    assert_ok(toy_steps(&job, 1300));
    assert_true(job.replays_done > 0);
    assert_ok(toy_close(&job, TT_OK));
}

static void the_overhead_gate(void **state)
{
    static const char *const settings[] = {"adapt.every_steps=20",       "trials.pairs=12",
                                           "checkpoint.every_steps=20",  "checkpoint.keep=99",
                                           "trials.budget_seconds=0.05", NULL};
    toy job;
    begin(&job, toy_path(state, "overhead"), true, 0.8);
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_steps(&job, 33));
    assert_int_equal(value_of(&job, "toy.k3"), 4);
    /* From now on nothing is what it was: everything takes longer, the next trial very long. */
    job.slowness = 2;
    job.knobs[TUNED].factor = 1.5;
    assert_ok(toy_steps(&job, 120));
    assert_int_equal(toy_count(&job, "overhead"), 1);
    assert_int_equal(toy_count(&job, "revert"), 1);
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    tt_gate_info gate =
        tt_orchestrator_gate(job.orchestrator, tt_orchestrator_gate_count(job.orchestrator) - 1);
    assert_string_equal(gate.name, "overhead");
    assert_int_equal(gate.trips, 1);
    int64_t replays = job.replays_done;
    job.knobs[TUNED].error = 0.003;
    assert_ok(toy_steps(&job, 1500));
    assert_int_equal(job.replays_done, replays); /* no more trials */
    assert_ok(toy_close(&job, TT_OK));
    /* Nor after a resume; and what was reverted stays so, also when it is gone over again. */
    for (int from = 1500; from >= 0; from -= 740) {
        char path[256];
        snprintf(path, sizeof path, "%.200s/checkpoints/step-%010d.h5", job.directory, from);
        begin(&job, job.directory, true, 0.8);
        assert_ok(toy_open(&job, path, NULL));
        assert_ok(toy_steps(&job, 1600));
        assert_int_equal(value_of(&job, "toy.k3"), 8);
        assert_int_equal(job.replays_done, 0);
        assert_ok(toy_close(&job, TT_OK));
    }
}

/* ---- without run_step ---- */

static void live_steps_take_turns(void **state)
{
    for (int slower = 0; slower < 2; slower++) {
        toy job;
        begin(&job, toy_path(state, slower ? "turns-slower" : "turns"), false, slower ? 1.2 : 0.8);
        job.knobs[TUNED].changes_state = true;
        assert_ok(toy_open(&job, NULL, trials));
        toy_state expected = toy_expected(0, NULL);
        for (int64_t step = 0; step < 80; step++) {
            assert_ok(toy_steps(&job, step + 1));
            /* ABBAABBA... */
            int64_t pair = (step - 20) / 2;
            bool candidate = step >= 20 && step < 44 && (step - 20 + pair) % 2 == 1;
            if (slower || step < 44) {
                assert_int_equal(job.knobs[TUNED].value, candidate ? 4 : 8);
            }
            toy_advance(&expected, &expected, step * TOY_BATCH);
            expected.a[3] += 1e-3 * (double)job.knobs[TUNED].value;
        }
        toy_assert_same(toy_now(&job), &expected);
        assert_int_equal(job.copies, 0);
        assert_int_equal(toy_count(&job, "switch"), slower ? 12 : 22); /* 60: the next trial */
        assert_int_equal(toy_count(&job, "commit"), !slower);
        assert_int_equal(toy_count(&job, "trial"), slower);
        assert_ok(toy_close(&job, TT_OK));
    }
}

static void a_candidate_that_trips_live(void **state)
{
    toy job;
    begin(&job, toy_path(state, "turns-trip"), false, 0.8);
    toy_add_harm(&job, (toy_harm){.kind = TOY_HARM_EXPLODING,
                                  .with = 1 << TUNED,
                                  .value = 4,
                                  .from = 25,
                                  .until = INT64_MAX,
                                  .position = -1,
                                  .strikes = -1});
    assert_ok(toy_open(&job, NULL, trials));
    assert_ok(toy_steps(&job, 100));
    assert_outcome(&job, "tripped", 25);
    tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
    assert_int_equal(totals.trips, 1);
    assert_int_equal(totals.retries, 1); /* the same step, without it */
    assert_int_equal(toy_count(&job, "breaker"), 0);
    assert_int_equal(value_of(&job, "toy.k3"), 8);
    toy_state expected = toy_expected(100, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
}

/* ---- ends ---- */

static void ended_anywhere(void *const *state, bool replays)
{
    static const char *const settings[] = {NO_TILES,
                                           "adapt.every_steps=20",
                                           "trials.pairs=10",
                                           "checkpoint.every_steps=20",
                                           "checkpoint.keep=20",
                                           NULL};
    enum { STEPS = 90 };
    toy job;
    begin(&job, toy_path(state, replays ? "ends-whole" : "turns-whole"), replays, 0.8);
    job.knobs[TUNED].changes_state = true;
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_steps(&job, STEPS));
    toy_state last = *toy_now(&job);
    char *expected = toy_decisions(&job);
    assert_ok(toy_close(&job, TT_OK));
    for (int at = 1; at<STEPS; at += at> 18 && at < 32 ? 1 : 5) {
        char name[32];
        snprintf(name, sizeof name, "ends-%d-%d", replays, at);
        begin(&job, toy_path(state, name), replays, 0.8);
        job.knobs[TUNED].changes_state = true;
        assert_ok(toy_open(&job, NULL, settings));
        assert_ok(toy_steps(&job, at));
        if (at % 3 != 0) {
            toy_abandon(&job);
        } else {
            /* On request: the state is saved in the middle of a trial, which is over then. */
            tt_orchestrator_request_stop(job.orchestrator, 15);
            assert_int_equal(toy_steps(&job, STEPS), TT_EREQUEUE);
            assert_int_equal(toy_close(&job, TT_EREQUEUE), TT_EREQUEUE);
        }
        begin(&job, job.directory, replays, 0.8);
        job.knobs[TUNED].changes_state = true;
        assert_ok(toy_open(&job, "auto", NULL));
        assert_ok(toy_steps(&job, STEPS));
        char *got = toy_decisions(&job);
        if (at % 3 != 0 && replays) {
            if (strcmp(got, expected) != 0) {
                fail_msg("ended at %d:\n%s\ninstead of\n%s", at, got, expected);
            }
            toy_assert_same(toy_now(&job), &last);
        }
        free(got);
        assert_ok(toy_close(&job, TT_OK));
        char latest[256];
        snprintf(latest, sizeof latest, "%.200s/checkpoints/step-%010d.h5", job.directory, STEPS);
        /* Whoever goes over all of it again comes to the same state, and decides nothing. */
        toy_state reached = toy_checkpoint(latest);
        char *all = toy_decisions(&job);
        begin(&job, job.directory, replays, 0.8);
        job.knobs[TUNED].changes_state = true;
        snprintf(latest, sizeof latest, "%.200s/checkpoints/step-%010d.h5", job.directory, 0);
        assert_ok(toy_open(&job, latest, NULL));
        assert_ok(toy_steps(&job, STEPS));
        toy_assert_same(toy_now(&job), &reached);
        char *same = toy_decisions(&job);
        assert_string_equal(same, all);
        free(all);
        free(same);
        assert_ok(toy_close(&job, TT_OK));
    }
    free(expected);
}

static void the_process_ends_anywhere(void **state)
{
    ended_anywhere(state, true);
}

static void the_process_ends_anywhere_in_turns(void **state)
{
    ended_anywhere(state, false);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(a_faster_one_is_committed),
        RUN_TEST(a_slower_one_is_refused),
        RUN_TEST(less_compression_for_memory_or_not),
        RUN_TEST(one_that_trips),
        RUN_TEST(abandoned_when_the_run_trips),
        RUN_TEST(refused_before_it_begins),
        RUN_TEST(pinned_keys_stay),
        RUN_TEST(precedence_moves_others_along),
        RUN_TEST(nothing_is_spent_that_is_not_there),
        RUN_TEST(the_overhead_gate),
        RUN_TEST(live_steps_take_turns),
        RUN_TEST(a_candidate_that_trips_live),
        RUN_TEST(the_process_ends_anywhere),
        RUN_TEST(the_process_ends_anywhere_in_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
