/* Whole runs that trip: retry and rollback are pure, skip is recorded, the end saves. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const slot_settings[] = {"snapshot.slots=1", "snapshot.slots=2",
                                            "snapshot.slots=3", "snapshot.slots=5"};
enum { SLOT_SETTINGS = 4, STEPS = 14 };

static const char *name_of(const char *what, int number)
{
    static char name[64];
    snprintf(name, sizeof name, "%s-%d", what, number);
    return name;
}

static void never_tripped(void **state)
{
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        const char *settings[] = {slot_settings[s], "checkpoint.every_steps=4", NULL};
        toy job;
        toy_init(&job, toy_path(state, name_of("clean", s)));
        assert_ok(toy_open(&job, NULL, settings));
        assert_int_equal(tt_orchestrator_attempt(job.orchestrator), 1);
        for (int64_t step = 0; step < STEPS; step++) {
            tt_step_record record;
            assert_ok(toy_attempt(&job, &record));
            assert_true(record.published);
            assert_int_equal(record.step, step);
            assert_int_equal(record.position, step * TOY_BATCH);
            assert_int_equal(record.decision.verdict, TT_PASS);
            assert_int_equal(record.decision.action, TT_ACTION_NONE);
            toy_state expected = toy_expected(step + 1, NULL);
            toy_assert_same(toy_now(&job), &expected);
        }
        assert_int_equal(tt_orchestrator_totals(job.orchestrator).trips, 0);
        assert_int_equal(tt_orchestrator_totals(job.orchestrator).published, STEPS);
        assert_ok(toy_close(&job, TT_OK));
        toy_check_metrics(&job, STEPS);
        assert_int_equal(job.warnings, 0);
    }
}

static const struct {
    tt_metric metric;
    double value;
    bool missing;
} trips[] = {
    {TT_METRIC_LOSS, NAN, false},
    {TT_METRIC_LOSS, 10.5, false},
    {TT_METRIC_LOSS, 0, true},
    {TT_METRIC_GRADIENT_NORM, 1e9, false},
    {TT_METRIC_GRADIENT_NONFINITE, 3, false},
    {TT_METRIC_UPDATE_NONFINITE, 1, false},
    {TT_METRIC_UPDATE_NONFINITE, 0, true},
};
enum { TRIPS = sizeof trips / sizeof *trips };

/* A trip publishes nothing. */
static void zero_updates(toy *job, const tt_step_record *record)
{
    assert_false(record->published);
    assert_int_equal(record->decision.verdict, TT_TRIP);
    if (record->decision.action == TT_ACTION_RETRY || record->decision.action == TT_ACTION_SKIP) {
        assert_int_equal(tt_orchestrator_step(job->orchestrator), record->step);
    }
    toy_state expected = toy_expected(tt_orchestrator_step(job->orchestrator), NULL);
    toy_assert_same(toy_now(job), &expected);
}

/* Steps to the end; after every attempt the published state is that of a run without faults. */
static void steps_purely(toy *job, int64_t until)
{
    for (int i = 0; tt_orchestrator_step(job->orchestrator) < until; i++) {
        tt_step_record record;
        assert_ok(toy_attempt(job, &record));
        if (!record.published) {
            zero_updates(job, &record);
        }
        toy_state expected = toy_expected(tt_orchestrator_step(job->orchestrator), NULL);
        toy_assert_same(toy_now(job), &expected);
        assert_true(i < 2000);
    }
}

static void retry_and_rollback_are_pure(void **state)
{
    int number = 0;
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        for (int kind = 0; kind < TRIPS; kind++) {
            for (int times = 1; times <= 2; times++) {
                const char *settings[] = {slot_settings[s], "checkpoint.every_steps=3", NULL};
                toy job;
                toy_init(&job, toy_path(state, name_of("pure", number++)));
                toy_add_fault(&job, (toy_fault){.step = 7,
                                                .position = -1,
                                                .times = times,
                                                .metric = trips[kind].metric,
                                                .value = trips[kind].value,
                                                .missing = trips[kind].missing});
                bool in_place = s == 0 && trips[kind].metric == TT_METRIC_UPDATE_NONFINITE;
                assert_ok(toy_open(&job, NULL, settings));
                if (in_place && times == 2) {
                    /* In place there is nothing to try again, or to skip, from: the rollback is the
                     * retry, and the end comes one rung earlier. */
                    assert_int_equal(toy_steps(&job, STEPS), TT_EGATE);
                    assert_non_null(strstr(tt_error_message(), "snapshot.slots 1"));
                    assert_int_equal(toy_close(&job, TT_EGATE), TT_EGATE);
                    continue;
                }
                steps_purely(&job, STEPS);
                tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
                assert_int_equal(totals.retries, in_place ? 0 : 1);
                assert_int_equal(totals.rollbacks, in_place || times == 2 ? 1 : 0);
                assert_int_equal(totals.trips, times);
                assert_int_equal(totals.skips, 0);
                assert_ok(toy_close(&job, TT_OK));
                toy_check_metrics(&job, STEPS);
            }
        }
    }
}

static void random_faults_are_pure(void **state)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        uint32_t block[4];
        tt_philox(seed, 1, 0, block);
        char every[40];
        snprintf(every, sizeof every, "checkpoint.every_steps=%u", block[0] % 5);
        const char *settings[] = {slot_settings[block[1] % SLOT_SETTINGS], every, NULL};
        toy job;
        toy_init(&job, toy_path(state, name_of("random", (int)seed)));
        for (uint64_t step = 0; step < 30; step++) {
            tt_philox(seed, 2, step, block);
            if (block[0] % 3 == 0) {
                bool in_place = strstr(settings[0], "=1") != NULL;
                uint32_t kind = block[1] % (in_place ? 5 : TRIPS);
                toy_add_fault(&job, (toy_fault){.step = (int64_t)step,
                                                .position = -1,
                                                .times = 1 + (int)(block[2] % 2),
                                                .metric = trips[kind].metric,
                                                .value = trips[kind].value,
                                                .missing = trips[kind].missing});
            }
        }
        assert_ok(toy_open(&job, NULL, settings));
        steps_purely(&job, 30);
        assert_int_equal(tt_orchestrator_totals(job.orchestrator).skips, 0);
        assert_ok(toy_close(&job, TT_OK));
        toy_check_metrics(&job, 30);
    }
}

/* ---- the batch is the culprit ---- */

static void skip_is_recorded_and_followed(void **state)
{
    static const int64_t bad[] = {7 * TOY_BATCH, 10 * TOY_BATCH, -1};
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        const char *settings[] = {slot_settings[s], "checkpoint.every_steps=5", NULL};
        toy job;
        toy_init(&job, toy_path(state, name_of("skip", s)));
        for (int i = 0; bad[i] >= 0; i++) {
            toy_add_fault(&job, (toy_fault){.step = -1,
                                            .position = bad[i],
                                            .times = -1,
                                            .metric = TT_METRIC_LOSS,
                                            .value = 11});
        }
        assert_ok(toy_open(&job, NULL, settings));
        assert_ok(toy_steps(&job, 7));
        tt_step_record record;
        do {
            assert_int_equal(toy_count(&job, "skip"), 0);
            assert_ok(toy_attempt(&job, &record));
        } while (tt_orchestrator_step(job.orchestrator) < 8);
        assert_int_equal(record.position, 8 * TOY_BATCH);
        assert_int_equal(toy_count(&job, "skip"), 1);
        toy_state expected = toy_expected(8, bad);
        toy_assert_same(toy_now(&job), &expected);
        assert_ok(toy_steps(&job, 9));
        /* The process ends without a goodbye; the next one goes on from step 5. */
        toy_abandon(&job);
        toy again;
        toy_init(&again, job.directory);
        again.fault_count = job.fault_count;
        memcpy(again.faults, job.faults, sizeof job.faults);
        assert_ok(toy_open(&again, "auto", settings));
        assert_int_equal(tt_orchestrator_step(again.orchestrator), 5);
        assert_ok(toy_steps(&again, 9));
        assert_int_equal(tt_orchestrator_totals(again.orchestrator).trips, 0); /* it is known */
        expected = toy_expected(9, bad);
        toy_assert_same(toy_now(&again), &expected);
        assert_ok(toy_steps(&again, STEPS));
        assert_int_equal(tt_orchestrator_totals(again.orchestrator).skips, 1);
        expected = toy_expected(STEPS, bad);
        toy_assert_same(toy_now(&again), &expected);
        assert_ok(toy_close(&again, TT_OK));
        assert_int_equal(toy_count(&again, "skip"), 2);
    }
}

static void slots_of_one_step_back(void **state)
{
    /* Where a gate before the update trips, two slots are enough to go one step back. */
    const char *settings[] = {"snapshot.slots=2", "checkpoint.every_steps=0", NULL};
    toy job;
    toy_init(&job, toy_path(state, "back"));
    toy_flip_bits(&job, 9, false);
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_steps(&job, 9));
    tt_step_record record;
    assert_ok(toy_attempt(&job, &record));
    assert_int_equal(record.decision.action, TT_ACTION_RETRY);
    assert_ok(toy_attempt(&job, &record));
    assert_int_equal(record.decision.action, TT_ACTION_ROLLBACK);
    assert_int_equal(tt_orchestrator_step(job.orchestrator), 8);
    assert_int_equal(tt_orchestrator_attempt(job.orchestrator), 2);
    assert_ok(toy_steps(&job, STEPS));
    toy_state expected = toy_expected(STEPS, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
    toy_check_metrics(&job, STEPS);
}

static void rollback_over_a_skip(void **state)
{
    /* Step 4 leaves a batch out; step 6 then trips twice and goes back to before it. */
    static const int64_t bad[] = {4 * TOY_BATCH, 5 * TOY_BATCH, -1};
    const char *settings[] = {"snapshot.slots=2", "checkpoint.every_steps=3", NULL};
    toy job;
    toy_init(&job, toy_path(state, "over"));
    toy_add_fault(&job, (toy_fault){.step = 4,
                                    .position = 4 * TOY_BATCH,
                                    .times = -1,
                                    .metric = TT_METRIC_LOSS,
                                    .value = NAN});
    toy_add_fault(&job, (toy_fault){.step = -1,
                                    .position = 5 * TOY_BATCH,
                                    .times = -1,
                                    .metric = TT_METRIC_LOSS,
                                    .value = NAN});
    toy_add_fault(
        &job,
        (toy_fault){.step = 8, .position = -1, .times = 2, .metric = TT_METRIC_LOSS, .value = NAN});
    tt_status status = toy_run(&job, NULL, settings, 6);
    /* Two bad batches in a row are beyond what one skip can mend. */
    assert_int_equal(status, TT_EGATE);
    job.faults[1].times = 0;
    toy_init(&job, toy_path(state, "over2"));
    toy_add_fault(
        &job,
        (toy_fault){
            .step = -1, .position = bad[0], .times = -1, .metric = TT_METRIC_LOSS, .value = NAN});
    toy_add_fault(
        &job,
        (toy_fault){.step = 5, .position = -1, .times = 2, .metric = TT_METRIC_LOSS, .value = NAN});
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_steps(&job, STEPS));
    static const int64_t one[] = {4 * TOY_BATCH, -1};
    toy_state expected = toy_expected(STEPS, one);
    toy_assert_same(toy_now(&job), &expected);
    assert_int_equal(tt_orchestrator_totals(job.orchestrator).skips, 1);
    assert_true(tt_orchestrator_totals(job.orchestrator).rollbacks >= 2);
    assert_ok(toy_close(&job, TT_OK));
}

static void stop_saves_the_last_good_state(void **state)
{
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        for (int kind = 0; kind < TRIPS; kind++) {
            const char *settings[] = {slot_settings[s], "checkpoint.every_steps=3", NULL};
            toy job;
            toy_init(&job, toy_path(state, name_of("stop", s * TRIPS + kind)));
            toy_add_fault(&job, (toy_fault){.step = 7,
                                            .position = -1,
                                            .times = -1,
                                            .metric = trips[kind].metric,
                                            .value = trips[kind].value,
                                            .missing = trips[kind].missing});
            assert_ok(toy_open(&job, NULL, settings));
            assert_int_equal(toy_steps(&job, STEPS), TT_EGATE);
            assert_non_null(strstr(tt_error_message(), "step 7"));
            char latest[256];
            snprintf(latest, sizeof latest, "%s",
                     tt_orchestrator_latest_checkpoint(job.orchestrator));
            int64_t step = s == 0 && trips[kind].metric == TT_METRIC_UPDATE_NONFINITE ? 6 : 7;
            assert_int_equal(toy_close(&job, TT_EGATE), TT_EGATE);
            assert_non_null(strstr(tt_error_message(), "step 7"));
            char expected_path[256];
            snprintf(expected_path, sizeof expected_path, "%s/checkpoints/step-%010d.h5",
                     job.directory, (int)step);
            assert_string_equal(latest, expected_path);
            toy_state saved = toy_checkpoint(latest);
            toy_state expected = toy_expected(step, NULL);
            toy_assert_same(&saved, &expected);
            /* The cause is gone: the run goes on. */
            toy again;
            toy_init(&again, job.directory);
            assert_ok(toy_run(&again, "auto", settings, STEPS));
            toy_check_metrics(&again, STEPS);
        }
    }
}

/* ---- memory ---- */

static void corruption_at_rest(void **state)
{
    int number = 0;
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        for (int64_t step = 1; step < 10; step++) {
            if (s > 0 && step % 4 == 0) {
                continue; /* a checkpoint may be reading this very slot: see below */
            }
            const char *settings[] = {slot_settings[s], "checkpoint.every_steps=4", NULL};
            toy job;
            toy_init(&job, toy_path(state, name_of("rest", number++)));
            toy_flip_bits(&job, step, false);
            assert_ok(toy_open(&job, NULL, settings));
            assert_ok(toy_steps(&job, STEPS));
            toy_state expected = toy_expected(STEPS, NULL);
            toy_assert_same(toy_now(&job), &expected);
            tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
            assert_int_equal(totals.retries, 1);
            assert_int_equal(totals.rollbacks, 1);
            assert_int_equal(totals.skips, 0);
            assert_ok(toy_close(&job, TT_OK));
            toy_check_metrics(&job, STEPS);
        }
    }
}

static void the_checkpoint_has_it_too(void **state)
{
    /* Bits flip in the state of step 8 before it is saved: going back to that copy is no help. */
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        const char *settings[] = {slot_settings[s], "checkpoint.every_steps=4", NULL};
        toy job;
        toy_init(&job, toy_path(state, name_of("both", s)));
        toy_flip_bits(&job, 7, true);
        assert_ok(toy_open(&job, NULL, settings));
        assert_ok(toy_steps(&job, STEPS));
        toy_state expected = toy_expected(STEPS, NULL);
        toy_assert_same(toy_now(&job), &expected);
        tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
        assert_int_equal(totals.skips, 0);
        assert_int_equal(totals.rollbacks, s == 0 ? 2 : 1);
        /* The bad copy is not on the disk any more. */
        char path[256];
        snprintf(path, sizeof path, "%s/checkpoints/step-0000000008.h5", job.directory);
        assert_ok(toy_close(&job, TT_OK));
        toy_state saved = toy_checkpoint(path);
        expected = toy_expected(8, NULL);
        toy_assert_same(&saved, &expected);
    }
    /* The same after a resume, when there is nothing else in memory. */
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        const char *settings[] = {slot_settings[s], "checkpoint.every_steps=4", NULL};
        toy job;
        toy_init(&job, toy_path(state, name_of("resumed", s)));
        toy_flip_bits(&job, 7, true);
        assert_ok(toy_run(&job, NULL, settings, 8));
        toy again;
        toy_init(&again, job.directory);
        assert_ok(toy_open(&again, "auto", settings));
        assert_int_equal(tt_orchestrator_step(again.orchestrator), 8);
        assert_ok(toy_steps(&again, STEPS));
        toy_state expected = toy_expected(STEPS, NULL);
        toy_assert_same(toy_now(&again), &expected);
        assert_int_equal(tt_orchestrator_totals(again.orchestrator).rollbacks, 2);
        assert_ok(toy_close(&again, TT_OK));
    }
}

static void damage(const char *path)
{
    FILE *stream = fopen(path, "r+e");
    assert_non_null(stream);
    fseek(stream, 5000, SEEK_SET);
    fputc('#', stream);
    fclose(stream);
}

static void no_checkpoint_verifies(void **state)
{
    /* Going back turns out to be impossible: the ladder goes on to the next rung. */
    for (int s = 0; s < 2; s++) {
        const char *settings[] = {slot_settings[s], "checkpoint.every_steps=0", NULL};
        for (int cured = 0; cured < 2; cured++) {
            toy job;
            toy_init(&job, toy_path(state, name_of("none", 2 * s + cured)));
            int64_t bad[] = {0, -1};
            toy_add_fault(&job, (toy_fault){.step = 0,
                                            .position = cured ? 0 : -1,
                                            .times = -1,
                                            .metric = TT_METRIC_LOSS,
                                            .value = NAN});
            assert_ok(toy_open(&job, NULL, settings));
            damage(tt_orchestrator_latest_checkpoint(job.orchestrator));
            tt_status status = toy_steps(&job, 5);
            assert_int_equal(status, cured ? TT_OK : TT_EGATE);
            if (cured) {
                toy_state expected = toy_expected(5, bad);
                toy_assert_same(toy_now(&job), &expected);
            }
            assert_int_equal(toy_close(&job, status), status);
        }
    }
}

static void a_rollback_breaks_halfway(void **state)
{
    /* The device refuses half of the tensors of the checkpoint: what is in the slot is neither the
     * old nor the new state, and must not be saved as either. */
    for (int s = 0; s < 2; s++) {
        const char *settings[] = {slot_settings[s], "checkpoint.every_steps=4", NULL};
        toy job;
        toy_init(&job, toy_path(state, name_of("halfway", s)));
        toy_add_fault(
            &job,
            (toy_fault){
                .step = 1, .position = -1, .times = 2, .metric = TT_METRIC_LOSS, .value = NAN});
        assert_ok(toy_open(&job, NULL, settings));
        job.write_fails = TT_EINTERNAL;
        tt_status status = toy_steps(&job, 3);
        (void)toy_close(&job, status);
        toy again;
        toy_init(&again, job.directory);
        assert_ok(toy_run(&again, "auto", settings, 6));
        char path[256];
        snprintf(path, sizeof path, "%s/checkpoints/step-%010d.h5", job.directory, 6);
        toy_state saved = toy_checkpoint(path);
        toy_state expected = toy_expected(6, NULL);
        toy_assert_same(&saved, &expected);
    }
}

static void the_job_breaks_in_its_update(void **state)
{
    /* In place, half an update is in the only copy: it must not become a checkpoint. */
    for (int s = 0; s < SLOT_SETTINGS; s++) {
        const char *settings[] = {slot_settings[s], "checkpoint.every_steps=4", NULL};
        toy job;
        toy_init(&job, toy_path(state, name_of("broke", s)));
        job.fail_step = 6;
        assert_int_equal(toy_run(&job, NULL, settings, STEPS), TT_EINTERNAL);
        assert_string_equal(tt_error_message(), "the job broke in its update");
        toy again;
        toy_init(&again, job.directory);
        assert_ok(toy_open(&again, "auto", settings));
        int64_t step = tt_orchestrator_step(again.orchestrator);
        assert_int_equal(step, s == 0 ? 4 : 6);
        toy_state expected = toy_expected(step, NULL);
        toy_assert_same(toy_now(&again), &expected);
        assert_ok(toy_close(&again, toy_steps(&again, STEPS)));
        toy_check_metrics(&again, STEPS);
    }
}

/* ---- what is said about it ---- */

static void names_the_tensor(void **state)
{
    toy job;
    toy_init(&job, toy_path(state, "names"));
    job.bad_tensor = "params/b";
    toy_add_fault(&job, (toy_fault){.step = 1,
                                    .position = -1,
                                    .times = 1,
                                    .metric = TT_METRIC_GRADIENT_NONFINITE,
                                    .value = 2});
    toy_add_fault(
        &job,
        (toy_fault){.step = 2, .position = -1, .times = 1, .metric = TT_METRIC_LOSS, .value = 20});
    toy_add_fault(&job, (toy_fault){.step = 3,
                                    .position = -1,
                                    .times = 1,
                                    .metric = TT_METRIC_LOSS,
                                    .value = 20,
                                    .missing = true});
    assert_ok(toy_open(&job, NULL, NULL));
    tt_step_record record;
    assert_ok(toy_attempt(&job, NULL));
    assert_ok(toy_attempt(&job, &record));
    assert_string_equal(record.decision.tensor, "params/b");
    assert_non_null(strstr(job.last_log, "params/b"));
    tt_step_plan plan;
    assert_ok(tt_step_begin(job.orchestrator, &plan));
    assert_int_equal(plan.kind, TT_STEP_RETRY);
    assert_true(plan.name_tensors);
    assert_int_equal(plan.step, 1);
    assert_int_equal(plan.position, TOY_BATCH);
    tt_measurements measured;
    tt_measurements_init(&measured);
    tt_measurements_set(&measured, TT_METRIC_LOSS, NAN);
    snprintf(measured.first_bad, sizeof measured.first_bad, "activations/h.3 \"quoted\"\xff");
    assert_ok(tt_step_end(job.orchestrator, &measured, &record));
    assert_string_equal(record.decision.tensor, "activations/h.3 \"quoted\"\xff");
    assert_int_equal(job.locate_calls, 1);
    assert_ok(toy_steps(&job, 2));
    assert_ok(toy_attempt(&job, &record)); /* finite, or missing: no tensor to name */
    assert_string_equal(record.decision.tensor, "");
    assert_ok(toy_steps(&job, 3));
    assert_ok(toy_attempt(&job, &record));
    assert_true(record.decision.missing);
    assert_string_equal(record.decision.tensor, "");
    assert_int_equal(job.locate_calls, 1);
    assert_ok(toy_steps(&job, 5));
    assert_ok(toy_close(&job, TT_OK));
    json_decref(toy_lines(&job, "decisions.jsonl")); /* every line parses */
    json_decref(toy_lines(&job, "metrics.jsonl"));
}

static void misuse_is_refused(void **state)
{
    toy job;
    tt_step_plan plan;
    tt_measurements measured;
    bool proceed = true;
    toy_init(&job, toy_path(state, "misuse"));
    assert_ok(toy_open(&job, NULL, NULL));
    tt_measurements_init(&measured);
    assert_int_equal(tt_step_end(job.orchestrator, &measured, NULL), TT_EINVAL);
    assert_int_equal(tt_step_check(job.orchestrator, &measured, &proceed), TT_EINVAL);
    assert_false(proceed);
    assert_int_equal(tt_orchestrator_start(job.orchestrator), TT_EINVAL);
    assert_ok(tt_step_begin(job.orchestrator, &plan));
    assert_int_equal(tt_step_begin(job.orchestrator, &plan), TT_EINVAL);
    measured.size = 3;
    assert_int_equal(tt_step_end(job.orchestrator, &measured, NULL), TT_EINVAL);
    tt_measurements_init(&measured);
    tt_measurements_set(&measured, TT_METRIC_LOSS, 3);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NORM, 1);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NONFINITE, 0);
    /* All gates pass, but nothing was written: there is nothing to publish. */
    assert_int_equal(tt_step_end(job.orchestrator, &measured, NULL), TT_EINVAL);
    assert_int_equal(tt_orchestrator_step(job.orchestrator), 0);
    assert_null(tt_orchestrator_record(job.orchestrator, 1));
    assert_non_null(tt_orchestrator_record(job.orchestrator, 0));
    assert_false(tt_orchestrator_record(job.orchestrator, 0)->published);
    assert_ok(toy_steps(&job, 1100));
    assert_int_equal(tt_orchestrator_record(job.orchestrator, 1023)->step, 1100 - 1024);
    assert_null(tt_orchestrator_record(job.orchestrator, 1024));
    toy_state expected = toy_expected(1100, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(never_tripped),
        RUN_TEST(retry_and_rollback_are_pure),
        RUN_TEST(random_faults_are_pure),
        RUN_TEST(skip_is_recorded_and_followed),
        RUN_TEST(slots_of_one_step_back),
        RUN_TEST(rollback_over_a_skip),
        RUN_TEST(stop_saves_the_last_good_state),
        RUN_TEST(corruption_at_rest),
        RUN_TEST(the_checkpoint_has_it_too),
        RUN_TEST(no_checkpoint_verifies),
        RUN_TEST(a_rollback_breaks_halfway),
        RUN_TEST(the_job_breaks_in_its_update),
        RUN_TEST(names_the_tensor),
        RUN_TEST(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
