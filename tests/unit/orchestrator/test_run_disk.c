/* A disk that fails at any one call, or from some call on. */
#include "fault.h"
#include "toy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 7 };

static bool holds(const toy *job, int64_t step)
{
    char path[256];
    snprintf(path, sizeof path, "%s/checkpoints/step-%010d.h5", job->directory, (int)step);
    if (access(path, F_OK) != 0) {
        return false;
    }
    toy_state saved = toy_checkpoint(path);
    toy_state expected = toy_expected(step, NULL);
    return memcmp(&saved, &expected, sizeof saved) == 0;
}

static bool is_of_the_disk(tt_status status)
{
    return status == TT_EIO || status == TT_ENOSPC;
}

typedef struct outcome {
    tt_status start, steps, finish;
    int64_t calls_of_start, calls_of_steps, calls;
    int64_t checkpoint_failures;
    int warnings;
} outcome;

static outcome run_on(toy *job, tt_file_fault *disk, const char *const *settings)
{
    outcome out = {.start = TT_EINTERNAL};
    job->files = &disk->ops;
    out.start = toy_open(job, NULL, settings);
    out.calls_of_start = atomic_load(&disk->calls);
    if (out.start) {
        return out;
    }
    assert_true(holds(job, 0)); /* there is always a state to go back to */
    out.steps = toy_steps(job, STEPS);
    out.calls_of_steps = atomic_load(&disk->calls);
    assert_ok(out.steps); /* nothing in between ends a run that does not trip */
    toy_state expected = toy_expected(STEPS, NULL);
    toy_assert_same(toy_now(job), &expected);
    out.checkpoint_failures = tt_orchestrator_totals(job->orchestrator).checkpoint_failures;
    out.finish = toy_close(job, TT_OK);
    out.calls = atomic_load(&disk->calls);
    out.warnings = job->warnings;
    if (!out.finish) {
        assert_true(holds(job, STEPS));
    }
    return out;
}

static void goes_on(const toy *job, const char *const *settings)
{
    toy again;
    toy_init(&again, job->directory);
    /* Where the folder was never made a run's, it is none to resume. */
    assert_ok(toy_run(&again, "auto", settings, STEPS + 3));
    assert_true(holds(&again, STEPS + 3));
}

static void every_call(void *const *state, const char *const *settings, const char *name,
                       tt_file_fault_how how, int error, int stride)
{
    char label[64];
    int64_t silent = 0;
    int64_t failed = 0;
    snprintf(label, sizeof label, "%s-clean", name);
    toy job;
    tt_file_fault disk;
    tt_file_fault_init(&disk, TT_FILE_FAULT_NONE, 0, 0);
    toy_init(&job, toy_path(state, label));
    outcome clean = run_on(&job, &disk, settings);
    assert_ok(clean.start);
    assert_ok(clean.finish);
    for (int64_t at = 0; at < clean.calls; at += stride) {
        snprintf(label, sizeof label, "%s-%d", name, (int)at);
        tt_file_fault_init(&disk, how, at, error);
        toy_init(&job, toy_path(state, label));
        outcome out = run_on(&job, &disk, settings);
        assert_true(!out.start || is_of_the_disk(out.start));
        assert_true(!out.finish || is_of_the_disk(out.finish) || out.start);
        if (out.start || out.finish) {
            failed++;
            assert_non_null(strstr(tt_error_message(), job.directory)); /* it says where */
        }
        silent += !out.start && !out.finish && !out.warnings && atomic_load(&disk.hits) > 0;
        goes_on(&job, settings);
    }
    assert_true(failed > 4);
    print_message("%s: %d calls, %d of them end the run, %d make no difference\n", name,
                  (int)clean.calls, (int)failed, (int)silent);
}

static const char *const in_place[] = {"checkpoint.every_steps=3", "snapshot.slots=1", NULL};
static const char *const two_slots[] = {"checkpoint.every_steps=3", "snapshot.slots=2",
                                        "checkpoint.keep=1", NULL};

static void one_call_fails(void **state)
{
    every_call(state, in_place, "once-in-place", TT_FILE_FAULT_FAIL_ONCE, EIO, 1);
    every_call(state, two_slots, "once", TT_FILE_FAULT_FAIL_ONCE, ENOSPC, 2);
}

static void full_from_some_call_on(void **state)
{
    every_call(state, in_place, "full-in-place", TT_FILE_FAULT_FAIL_FROM, ENOSPC, 3);
    every_call(state, two_slots, "full", TT_FILE_FAULT_FAIL_FROM, ENOSPC, 5);
}

static void half_a_write(void **state)
{
    every_call(state, two_slots, "half", TT_FILE_FAULT_HALF, ENOSPC, 3);
}

static void short_calls_are_no_failures(void **state)
{
    toy job;
    tt_file_fault disk;
    tt_file_fault_init(&disk, TT_FILE_FAULT_SHORT, 0, 0);
    toy_init(&job, toy_path(state, "short"));
    outcome out = run_on(&job, &disk, two_slots);
    assert_ok(out.start);
    assert_ok(out.finish);
    assert_int_equal(out.warnings, 0);
    toy_check_metrics(&job, STEPS);
}

static void periodic_failures_are_warnings(void **state)
{
    for (int i = 0; i < 2; i++) {
        const char *const *settings = i ? two_slots : in_place;
        toy job;
        tt_file_fault disk;
        tt_file_fault_init(&disk, TT_FILE_FAULT_NONE, 0, ENOSPC);
        toy_init(&job, toy_path(state, i ? "periodic" : "periodic-in-place"));
        job.files = &disk.ops;
        assert_ok(toy_open(&job, NULL, settings));
        assert_ok(toy_steps(&job, 1));
        disk.how = TT_FILE_FAULT_FAIL_FROM; /* full, ... */
        disk.at = atomic_load(&disk.calls);
        assert_ok(toy_steps(&job, 8));
        tt_orchestrator_request_stop(job.orchestrator, 15);
        /* ... so a stop cannot save, and says so instead of asking to be run again. */
        assert_int_equal(toy_attempt(&job, NULL), TT_ENOSPC);
        assert_int_equal(tt_orchestrator_totals(job.orchestrator).checkpoint_failures, 3);
        assert_true(job.warnings >= 3);
        assert_non_null(strstr(tt_orchestrator_latest_checkpoint(job.orchestrator), "0000000000"));
        disk.how = TT_FILE_FAULT_NONE; /* Room again. */
        assert_int_equal(toy_attempt(&job, NULL), TT_EREQUEUE);
        assert_int_equal(toy_close(&job, TT_EREQUEUE), TT_EREQUEUE);
        assert_true(holds(&job, 8));
        goes_on(&job, settings);
    }
}

static void a_trip_that_cannot_be_written_down(void **state)
{
    /* A decision that is not on the disk does not take effect. */
    for (int i = 0; i < 2; i++) {
        toy job;
        tt_file_fault disk;
        tt_file_fault_init(&disk, TT_FILE_FAULT_NONE, 0, ENOSPC);
        toy_init(&job, toy_path(state, i ? "trip" : "trip-in-place"));
        job.files = &disk.ops;
        toy_add_fault(&job, (toy_fault){.step = -1,
                                        .position = 5 * TOY_BATCH,
                                        .times = -1,
                                        .metric = TT_METRIC_LOSS,
                                        .value = 20});
        assert_ok(toy_open(&job, NULL, i ? two_slots : in_place));
        assert_ok(toy_steps(&job, 5));
        tt_step_record record;
        do {
            assert_ok(toy_attempt(&job, &record));
        } while (record.decision.action != TT_ACTION_SKIP);
        disk.how = TT_FILE_FAULT_FAIL_FROM;
        disk.at = atomic_load(&disk.calls);
        assert_int_equal(toy_attempt(&job, &record), TT_ENOSPC);
        assert_int_equal(tt_orchestrator_step(job.orchestrator), 5); /* the skip is not published */
        disk.how = TT_FILE_FAULT_NONE;
        (void)toy_close(&job, TT_ENOSPC);
        assert_int_equal(toy_count(&job, "skip"), 0);
        goes_on(&job, i ? two_slots : in_place);
    }
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(one_call_fails),
        RUN_TEST(full_from_some_call_on),
        RUN_TEST(half_a_write),
        RUN_TEST(short_calls_are_no_failures),
        RUN_TEST(periodic_failures_are_warnings),
        RUN_TEST(a_trip_that_cannot_be_written_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
