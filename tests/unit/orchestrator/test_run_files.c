/* What a run leaves on the disk, and what a later one makes of it. */
#include "fault.h"
#include "toy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const every_4[] = {"checkpoint.every_steps=4", NULL};

static const char *step_file(const toy *job, int step)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/checkpoints/step-%010d.h5", job->directory, step);
    return path;
}

static void resumes(void **state)
{
    for (int slots = 1; slots <= 3; slots++) {
        char setting[32];
        char name[32];
        snprintf(setting, sizeof setting, "snapshot.slots=%d", slots);
        snprintf(name, sizeof name, "resumes-%d", slots);
        const char *settings[] = {setting, "checkpoint.every_steps=4", NULL};
        toy job;
        toy_init(&job, toy_path(state, name));
        assert_ok(toy_open(&job, NULL, settings));
        char id[64];
        snprintf(id, sizeof id, "%s", tt_orchestrator_run_id(job.orchestrator));
        assert_ok(toy_steps(&job, 9));
        toy_abandon(&job); /* no goodbye */
        toy second;
        toy_init(&second, job.directory);
        memset(second.slot, 0x55, sizeof second.slot); /* all of it comes from the file */
        assert_ok(toy_open(&second, "auto", settings));
        assert_int_equal(tt_orchestrator_step(second.orchestrator), 8);
        assert_int_equal(tt_orchestrator_attempt(second.orchestrator), 2);
        assert_string_equal(tt_orchestrator_run_id(second.orchestrator), id);
        toy_state expected = toy_expected(8, NULL);
        toy_assert_same(toy_now(&second), &expected);
        assert_ok(toy_close(&second, toy_steps(&second, 11)));
        toy third;
        toy_init(&third, job.directory);
        assert_ok(toy_open(&third, step_file(&job, 8), settings));
        assert_int_equal(tt_orchestrator_step(third.orchestrator), 8);
        assert_int_equal(tt_orchestrator_attempt(third.orchestrator), 3);
        assert_ok(toy_steps(&third, 20));
        expected = toy_expected(20, NULL);
        toy_assert_same(toy_now(&third), &expected);
        assert_ok(toy_close(&third, TT_OK));
        toy_check_metrics(&third, 20);
        assert_int_equal(toy_count(&third, "start"), 3);
    }
}

static void stops_on_request(void **state)
{
    toy job;
    toy_init(&job, toy_path(state, "request"));
    assert_ok(toy_open(&job, NULL, every_4));
    assert_ok(toy_steps(&job, 6));
    tt_orchestrator_request_stop(job.orchestrator, 15);
    assert_int_equal(toy_steps(&job, 20), TT_EREQUEUE);
    assert_int_equal(tt_orchestrator_step(job.orchestrator), 6);
    assert_non_null(strstr(tt_error_message(), "signal 15"));
    assert_string_equal(tt_orchestrator_latest_checkpoint(job.orchestrator), step_file(&job, 6));
    assert_int_equal(toy_close(&job, TT_EREQUEUE), TT_EREQUEUE);
    toy again;
    toy_init(&again, job.directory);
    assert_ok(toy_open(&again, "auto", every_4));
    assert_int_equal(tt_orchestrator_step(again.orchestrator), 6);
    /* In the middle of a ladder as well. */
    toy_add_fault(
        &again,
        (toy_fault){.step = 9, .position = -1, .times = 1, .metric = TT_METRIC_LOSS, .value = NAN});
    assert_ok(toy_steps(&again, 9));
    tt_step_record record;
    assert_ok(toy_attempt(&again, &record));
    assert_int_equal(record.decision.action, TT_ACTION_RETRY);
    tt_orchestrator_request_stop(again.orchestrator, 2);
    assert_int_equal(toy_steps(&again, 20), TT_EREQUEUE);
    assert_int_equal(toy_close(&again, TT_EREQUEUE), TT_EREQUEUE);
    toy_init(&again, job.directory);
    assert_ok(toy_run(&again, "auto", every_4, 20));
    toy_state saved = toy_checkpoint(step_file(&job, 20));
    toy_state expected = toy_expected(20, NULL);
    toy_assert_same(&saved, &expected);
    toy_check_metrics(&again, 20);
}

static void folder_has_one_owner(void **state)
{
    toy job;
    toy other;
    toy_init(&job, toy_path(state, "deep/er/folder"));
    toy_init(&other, job.directory);
    assert_ok(toy_open(&job, NULL, every_4));
    assert_int_equal(toy_open(&other, NULL, every_4), TT_EBUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(tt_error_message(), pid));
    assert_int_equal(toy_open(&other, "auto", every_4), TT_EBUSY);
    assert_ok(toy_steps(&job, 5)); /* the attempts have not hurt it */
    assert_ok(toy_close(&job, TT_OK));
    toy_check_metrics(&job, 5);
    /* It holds a run now: not without asking for it. */
    assert_int_equal(toy_open(&other, NULL, every_4), TT_EUSAGE);
    assert_non_null(strstr(tt_error_message(), "--resume"));
    toy_state saved = toy_checkpoint(step_file(&job, 5));
    toy_state expected = toy_expected(5, NULL);
    toy_assert_same(&saved, &expected);
    assert_ok(toy_run(&other, "auto", every_4, 7));
    /* A folder that cannot be. */
    toy_init(&other, toy_path(state, "deep/er/folder/lock/inside"));
    assert_int_equal(toy_open(&other, NULL, every_4), TT_EIO);
    toy_init(&other, "");
    assert_int_equal(toy_open(&other, NULL, every_4), TT_EUSAGE);
}

static void two_runs_do_not_meet(void **state)
{
    toy jobs[2];
    for (int i = 0; i < 2; i++) {
        toy_init(&jobs[i], toy_path(state, i ? "one" : "two"));
        toy_add_fault(&jobs[i], (toy_fault){.step = 3 + i,
                                            .position = -1,
                                            .times = 1 + i,
                                            .metric = TT_METRIC_LOSS,
                                            .value = NAN});
        assert_ok(toy_open(&jobs[i], NULL, every_4));
    }
    assert_string_not_equal(tt_orchestrator_run_id(jobs[0].orchestrator),
                            tt_orchestrator_run_id(jobs[1].orchestrator));
    tt_orchestrator_request_stop(jobs[1].orchestrator, 15);
    for (int i = 0; i < 10; i++) {
        assert_ok(toy_attempt(&jobs[0], NULL));
        if (i == 0) {
            assert_int_equal(toy_attempt(&jobs[1], NULL), TT_EREQUEUE);
            assert_int_equal(toy_close(&jobs[1], TT_EREQUEUE), TT_EREQUEUE);
            assert_ok(toy_open(&jobs[1], "auto", every_4));
        }
        assert_ok(toy_attempt(&jobs[1], NULL));
    }
    assert_int_equal(tt_orchestrator_totals(jobs[0].orchestrator).trips, 1);
    assert_int_equal(tt_orchestrator_totals(jobs[1].orchestrator).trips, 2);
    for (int i = 0; i < 2; i++) {
        assert_ok(toy_steps(&jobs[i], 12));
        toy_state expected = toy_expected(12, NULL);
        toy_assert_same(toy_now(&jobs[i]), &expected);
        assert_ok(toy_close(&jobs[i], TT_OK));
        toy_check_metrics(&jobs[i], 12);
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

static void damaged_checkpoints(void **state)
{
    toy job;
    toy_init(&job, toy_path(state, "damaged"));
    assert_ok(toy_run(&job, NULL, every_4, 9));
    damage(step_file(&job, 9));
    toy again;
    toy_init(&again, job.directory);
    assert_ok(toy_open(&again, "auto", every_4));
    assert_int_equal(tt_orchestrator_step(again.orchestrator), 8);
    assert_true(again.warnings > 0);
    assert_ok(toy_close(&again, toy_steps(&again, 11)));
    /* None is left: days of training do not begin again by themselves. */
    damage(step_file(&job, 11));
    damage(step_file(&job, 8));
    damage(step_file(&job, 4));
    (void)unlink(step_file(&job, 0));
    assert_int_equal(toy_open(&again, "auto", every_4), TT_ECORRUPT);
    assert_int_equal(toy_open(&again, step_file(&job, 8), every_4), TT_ECORRUPT);
}

static void a_future_that_is_not_continued(void **state)
{
    toy job;
    toy_init(&job, toy_path(state, "future"));
    assert_ok(toy_run(&job, NULL, every_4, 14));
    /* Back to step 4, on purpose: 8, 12 and 14 are of another future from now on. */
    const char *settings[] = {"checkpoint.every_steps=0", "gates.loss.max=6", NULL};
    toy second;
    toy_init(&second, job.directory);
    char path[256];
    snprintf(path, sizeof path, "%s", step_file(&job, 8));
    assert_ok(toy_open(&second, path, settings));
    assert_int_equal(access(step_file(&job, 14), F_OK), -1);
    assert_int_equal(access(step_file(&job, 12), F_OK), -1);
    snprintf(path, sizeof path, "%.200s.set-aside-1", step_file(&job, 14));
    assert_int_equal(access(path, F_OK), 0); /* kept, out of the way */
    snprintf(path, sizeof path, "%s/checkpoints/latest", job.directory);
    assert_int_equal(access(path, F_OK), 0);
    assert_ok(toy_steps(&second, 10));
    toy_abandon(&second);
    toy third;
    toy_init(&third, job.directory);
    assert_ok(toy_open(&third, "auto", settings));
    assert_int_equal(tt_orchestrator_step(third.orchestrator), 8);
    assert_ok(toy_close(&third, toy_steps(&third, 16)));
    toy_check_metrics(&third, 16);
}

static void another_runs_checkpoint(void **state)
{
    /* One run begins where another one was, in a folder that holds a third. */
    toy teacher;
    toy third;
    toy_init(&teacher, toy_path(state, "teacher"));
    assert_ok(toy_run(&teacher, NULL, every_4, 9));
    toy_init(&third, toy_path(state, "third"));
    const char *settings[] = {"checkpoint.every_steps=2", "checkpoint.keep=9", NULL};
    assert_ok(toy_run(&third, NULL, settings, 8));
    toy pupil;
    toy_init(&pupil, third.directory);
    const char *slow[] = {"checkpoint.every_steps=0", "snapshot.slots=1", NULL};
    assert_ok(toy_open(&pupil, step_file(&teacher, 8), slow));
    assert_int_equal(tt_orchestrator_step(pupil.orchestrator), 8);
    toy_state expected = toy_expected(8, NULL);
    toy_assert_same(toy_now(&pupil), &expected);
    /* Going back ends at its own beginning, never in the other run. */
    toy_add_fault(
        &pupil,
        (toy_fault){.step = 8, .position = -1, .times = 3, .metric = TT_METRIC_LOSS, .value = NAN});
    while (tt_orchestrator_step(pupil.orchestrator) < 12) {
        assert_ok(toy_attempt(&pupil, NULL));
        assert_true(tt_orchestrator_step(pupil.orchestrator) >= 8);
    }
    static const int64_t left_out[] = {8 * TOY_BATCH, -1};
    expected = toy_expected(12, left_out);
    assert_int_equal(tt_orchestrator_totals(pupil.orchestrator).rollbacks, 1);
    toy_assert_same(toy_now(&pupil), &expected);
    assert_ok(toy_close(&pupil, TT_OK));
}

static void attempts_keep_apart(void **state)
{
    /* A rollback begins an attempt; a kill before the next checkpoint must not lose that. */
    const char *settings[] = {"checkpoint.every_steps=0", "snapshot.slots=2", NULL};
    toy job;
    toy_init(&job, toy_path(state, "attempts"));
    toy_add_fault(
        &job,
        (toy_fault){.step = 3, .position = -1, .times = 2, .metric = TT_METRIC_LOSS, .value = NAN});
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_steps(&job, 7));
    assert_int_equal(tt_orchestrator_attempt(job.orchestrator), 2);
    toy_abandon(&job);
    toy again;
    toy_init(&again, job.directory);
    assert_ok(toy_open(&again, "auto", settings));
    assert_int_equal(tt_orchestrator_attempt(again.orchestrator), 3);
    assert_ok(toy_close(&again, toy_steps(&again, 9)));
    toy_check_metrics(&again, 9);
}

static void immutable_and_changed_keys(void **state)
{
    toy job;
    toy_init(&job, toy_path(state, "changes"));
    assert_ok(toy_run(&job, NULL, every_4, 5));
    const char *seed[] = {"toy.seed=2", NULL};
    assert_int_equal(toy_open(&job, "auto", seed), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "toy.seed"));
    const char *faster[] = {"checkpoint.every_steps=2", NULL};
    assert_ok(toy_open(&job, "auto", faster));
    json_t *lines = toy_lines(&job, "decisions.jsonl");
    const json_t *last = json_array_get(lines, json_array_size(lines) - 1);
    assert_non_null(
        strstr(json_string_value(json_object_get(last, "changes")), "checkpoint.every_steps"));
    json_decref(lines);
    assert_ok(toy_close(&job, toy_steps(&job, 6)));
    /* A limit below ln V cannot hold at the start; a run that has learned may well keep it. */
    const char *low[] = {"gates.loss.max=5", NULL};
    toy fresh;
    toy_init(&fresh, toy_path(state, "low"));
    assert_int_equal(toy_open(&fresh, NULL, low), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "gates.loss.max"));
    assert_ok(toy_run(&job, "auto", low, 8));
}

static tt_gate_info gate(const toy *job, const char *name)
{
    for (size_t i = 0; i < tt_orchestrator_gate_count(job->orchestrator); i++) {
        tt_gate_info info = tt_orchestrator_gate(job->orchestrator, i);
        if (strcmp(info.name, name) == 0) {
            return info;
        }
    }
    fail_msg("no gate %s", name);
    return (tt_gate_info){0};
}

static void gates_remember(void **state)
{
    toy job;
    toy_init(&job, toy_path(state, "gates"));
    job.initial_loss = 12;
    assert_ok(toy_open(&job, NULL, every_4));
    assert_true(gate(&job, "loss").maximum == 13);
    assert_string_equal(gate(&job, "loss").reason, "start-up");
    assert_false(gate(&job, "update_finite").armed);
    assert_ok(toy_steps(&job, 19));
    assert_true(gate(&job, "loss").maximum == 13);
    assert_true(gate(&job, "update_finite").armed);
    assert_int_equal(gate(&job, "loss").evaluations, 19);
    assert_int_equal(gate(&job, "loss").trips, 0);
    assert_ok(toy_close(&job, TT_OK));
    toy again;
    toy_init(&again, job.directory);
    again.initial_loss = 12;
    assert_ok(toy_open(&again, "auto", every_4));
    assert_true(gate(&again, "update_finite").armed); /* and trips when missing, from here on */
    assert_true(gate(&again, "loss").maximum == 13);
    assert_ok(toy_steps(&again, 20));
    assert_true(gate(&again, "loss").maximum == 10);
    assert_true(gate(&again, "gradient_norm").maximum == 100);
    assert_ok(toy_steps(&again, 100));
    assert_true(gate(&again, "gradient_norm").maximum == 10);
    /* A rollback takes it back. */
    toy_add_fault(&again, (toy_fault){.step = 100,
                                      .position = -1,
                                      .times = 2,
                                      .metric = TT_METRIC_GRADIENT_NORM,
                                      .value = 50});
    tt_step_record record;
    assert_ok(toy_attempt(&again, &record));
    assert_true(record.decision.limit == 10);
    assert_ok(toy_attempt(&again, &record));
    assert_int_equal(record.decision.action, TT_ACTION_ROLLBACK);
    assert_true(gate(&again, "gradient_norm").maximum == 100);
    assert_ok(toy_steps(&again, 104));
    assert_true(gate(&again, "gradient_norm").maximum == 10);
    assert_int_equal(gate(&again, "gradient_norm").trips, 2);
    assert_ok(toy_close(&again, TT_OK));
}

static void receipt(void **state)
{
    toy job;
    toy_init(&job, toy_path(state, "re\xe7u-\xff")); /* a path need not be UTF-8 */
    assert_ok(toy_open(&job, NULL, every_4));
    assert_ok(tt_orchestrator_note(job.orchestrator, "answer", "42"));
    assert_int_equal(tt_orchestrator_note(job.orchestrator, "broken", "{"), TT_EINVAL);
    tt_status outcome = toy_steps(&job, 6);
    assert_ok(outcome);
    assert_int_equal(toy_close(&job, tt_fail(TT_EDATA, "no more text in \xff")), TT_EDATA);
    assert_string_equal(tt_error_message(), "no more text in \xff");
    char path[256];
    snprintf(path, sizeof path, "%s/receipt.json", job.directory);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "exit_code")), 65);
    assert_int_equal(json_integer_value(json_object_get(root, "steps")), 6);
    assert_string_equal(json_string_value(json_object_get(root, "message")), "no more text in ?");
    json_t *record = json_object_get(root, "reproducibility");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(record, "facts"), "answer")), 42);
    assert_int_equal(strlen(json_string_value(json_object_get(record, "config_sha256"))), 64);
    json_decref(root);
    toy again;
    toy_init(&again, job.directory);
    assert_ok(toy_run(&again, "auto", every_4, 9));
    toy_check_metrics(&again, 9);
}

/* ---- a checkpoint that is intact and means harm ---- */

/* Writes the checkpoint again, in place, with another state. */
static void forge(const char *path, const char *state_text)
{
    tt_store *store = NULL;
    tt_store_writer *writer = NULL;
    char folder[256];
    assert_ok(tt_store_open(path, &store));
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    const tt_store_header *header = tt_store_get_header(store);
    const tt_store_write_options options = {.size = sizeof options,
                                            .directory = folder,
                                            .name = strrchr(path, '/') + 1,
                                            .run_id = header->run_id,
                                            .step = header->step};
    assert_ok(tt_store_writer_create(&options, &writer));
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < tt_store_entry_count(store); i++) {
            const tt_store_entry *entry = tt_store_entry_at(store, i);
            bool text = strncmp(entry->path, "/meta/", 6) == 0;
            char bytes[65536];
            assert_true(entry->bytes <= (int64_t)sizeof bytes);
            assert_ok(tt_store_read(store, entry, 0, bytes, (size_t)entry->bytes));
            if (text && pass == 0) {
                bool is_state = strcmp(entry->path, "/meta/state.json") == 0;
                assert_ok(
                    tt_store_writer_add_text(writer, entry->path, is_state ? state_text : bytes,
                                             is_state ? strlen(state_text) : (size_t)entry->bytes));
            } else if (!text && pass == 0) {
                assert_ok(tt_store_writer_declare(writer, entry->path, entry->dtype, entry->rank,
                                                  entry->dims));
            } else if (!text && entry->bytes) {
                assert_ok(tt_store_writer_put(writer, entry->path, 0, bytes, (size_t)entry->bytes));
            }
        }
    }
    assert_ok(tt_store_writer_commit(writer, NULL));
    tt_store_writer_destroy(writer);
    tt_store_close(store);
}

/* The state that a checkpoint holds. */
static json_t *state_of(const char *path)
{
    tt_store *store = NULL;
    tt_text text;
    tt_text_init(&text);
    assert_ok(tt_store_open(path, &store));
    assert_ok(tt_store_read_text(store, "/meta/state.json", &text));
    json_t *root = json_loads(text.data, 0, NULL);
    assert_non_null(root);
    tt_text_clear(&text);
    tt_store_close(store);
    return root;
}

/* Puts `value` (JSON; NULL: nothing) at "a/b/3". */
static void put(json_t *root, const char *where, const char *value)
{
    char path[128];
    snprintf(path, sizeof path, "%s", where);
    json_t *at = root;
    char *name = path;
    for (char *slash = strchr(name, '/'); slash; slash = strchr(name, '/')) {
        *slash = '\0';
        at = json_object_get(at, name);
        assert_non_null(at);
        name = slash + 1;
    }
    json_t *new_value = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(new_value || !value);
    if (json_is_array(at)) {
        assert_int_equal(json_array_set_new(at, (size_t)strtol(name, NULL, 10), new_value), 0);
    } else if (new_value) {
        assert_int_equal(json_object_set_new(at, name, new_value), 0);
    } else {
        assert_int_equal(json_object_del(at, name), 0);
    }
}

static const struct {
    const char *where, *value;
    tt_status status;
} hostile[] = {
    {"step", "-1", TT_ECORRUPT},
    {"step", "9223372036854775807", TT_ECORRUPT},
    {"step", "\"4\"", TT_ECORRUPT},
    {"position", "9223372036854775807", TT_ECORRUPT},
    {"position", "-4", TT_ECORRUPT},
    {"attempt", "2147483647", TT_OK},
    {"attempt", "{}", TT_ECORRUPT},
    {"schema", "1", TT_ECORRUPT},
    {"schema", "3", TT_ECORRUPT},
    {"run_id", "7", TT_ECORRUPT},
    {"run_id", NULL, TT_ECORRUPT},
    {"gates", "{}", TT_ECORRUPT},
    {"gates", "7", TT_ECORRUPT},
    {"gates", NULL, TT_ECORRUPT},
    {"gates/accepted", "9223372036854775807", TT_ECORRUPT},
    {"gates/accepted", "-1", TT_ECORRUPT},
    {"gates/losses", "[]", TT_ECORRUPT},
    {"gates/losses", "{}", TT_ECORRUPT},
    {"gates/losses/19", "\"2\"", TT_ECORRUPT},
    {"gates/losses/0", "null", TT_ECORRUPT},
    {"gates/loss_settled", "1", TT_ECORRUPT},
    {"gates/update_armed", NULL, TT_ECORRUPT},
    {"gates/loss_watch", "[]", TT_ECORRUPT},
    {"gates/loss_watch/count", "-1", TT_ECORRUPT},
    {"gates/loss_watch/count", "9007199254740993", TT_ECORRUPT},
    {"gates/loss_watch/count", "1e3", TT_ECORRUPT},
    {"gates/loss_watch/count", "9007199254740992", TT_OK},
    {"gates/loss_watch/window", "[1,2,3]", TT_ECORRUPT},
    {"gates/loss_watch/window/127", "{}", TT_ECORRUPT},
    {"gates/loss_watch/levels", "[1,2,3]", TT_ECORRUPT},
    {"gates/loss_watch/levels/7", "false", TT_ECORRUPT},
    {"gates/loss_watch/cusum", "-1.5", TT_ECORRUPT},
    {"gates/loss_watch/cusum", "null", TT_ECORRUPT},
    {"gates/norm_watch", NULL, TT_ECORRUPT},
    {"gates/norm_watch/window/0", "\"x\"", TT_ECORRUPT},
    {"gates/unmeasured", "[0]", TT_ECORRUPT},
    {"gates/unmeasured/3", "-1", TT_ECORRUPT},
    {"gates/unmeasured/3", "9223372036854775807", TT_ECORRUPT},
    {"gates/unmeasured/7", "0.5", TT_ECORRUPT},
    {"skips", NULL, TT_ECORRUPT},
    {"skips", "7", TT_OK},
    {"skips",
     "[{\"step\":4,\"from\":16,\"to\":9223372036854775807},{},[],7,"
     "{\"step\":5,\"from\":20,\"to\":20},{\"step\":5,\"from\":20,\"to\":-1}]",
     TT_OK},
    {"decisions", "7", TT_OK},
    {"decisions", NULL, TT_OK},
    {"decisions",
     "[7,[],{},{\"kind\":\"commit\"},{\"kind\":\"breaker\",\"sequence\":1,\"step\":2,"
     "\"optimization\":\"nobody\",\"event\":\"convict\"}]",
     TT_OK},
    {"breakers", "[]", TT_OK}, /* for people: they follow from the decisions */
    {"adaptable", "[7,\"toy.none\",null]", TT_OK},
    {"adaptable", "{}", TT_OK},
    {"events", "{}", TT_OK},
    {"gate_counts", "[]", TT_OK},
    {"resolution", "7", TT_OK},
};

static void open_hostile(const toy *first, const char *what, const char *text, tt_status expected)
{
    toy job;
    forge(step_file(first, 4), text);
    toy_init(&job, first->directory);
    tt_status status = toy_open(&job, "auto", every_4);
    if (status != expected) {
        fail_msg("%s: %s: %s", what, tt_status_name(status), tt_error_message());
    }
    if (!status) {
        assert_ok(toy_steps(&job, 8));
        toy_state expected_state = toy_expected(8, NULL);
        toy_assert_same(toy_now(&job), &expected_state);
        assert_ok(toy_close(&job, TT_OK));
    }
}

static void hostile_state(void **state)
{
    static const char *const no_state[] = {"", "{", "[]", "null", "{\"schema\":2}"};
    enum { ROWS = sizeof hostile / sizeof *hostile, NONE = sizeof no_state / sizeof *no_state };
    for (size_t i = 0; i < ROWS + NONE; i++) {
        char name[32];
        toy job;
        snprintf(name, sizeof name, "hostile-%zu", i);
        toy_init(&job, toy_path(state, name));
        assert_ok(toy_run(&job, NULL, every_4, 4));
        if (i >= ROWS) {
            open_hostile(&job, no_state[i - ROWS], no_state[i - ROWS], TT_ECORRUPT);
            continue;
        }
        json_t *root = state_of(step_file(&job, 4));
        put(root, hostile[i].where, hostile[i].value);
        char *text = json_dumps(root, 0);
        open_hostile(&job, hostile[i].where, text, hostile[i].status);
        free(text);
        json_decref(root);
    }
}

static uint64_t jumping_clock(void *user)
{
    int64_t *calls = user;
    ++*calls;
    /* Hours ahead, then back again. */
    return *calls % 3 == 0 ? UINT64_C(1000) : (uint64_t)*calls * 3600 * UINT64_C(1000000000);
}

static uint64_t backward_clock(void *user)
{
    int64_t *calls = user;
    return UINT64_C(1) << 60 >> (++*calls % 60);
}

static void clocks_may_jump(void **state)
{
    int64_t calls = 0;
    tt_clock clocks[] = {{.now_ns = jumping_clock, .user = &calls},
                         {.now_ns = backward_clock, .user = &calls}};
    for (int i = 0; i < 2; i++) {
        toy job;
        toy_init(&job, toy_path(state, i ? "jumps" : "backward"));
        job.clock = &clocks[i];
        assert_ok(toy_open(&job, NULL, every_4));
        for (int k = 0; k < 30; k++) {
            tt_step_record record;
            assert_ok(toy_attempt(&job, &record));
            assert_true(record.seconds >= 0 && isfinite(record.seconds));
            assert_true(record.policy_seconds >= 0 && record.policy_seconds < 2e10 / 2);
        }
        assert_ok(toy_close(&job, TT_OK));
        toy_check_metrics(&job, 30);
    }
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(resumes),
        RUN_TEST(stops_on_request),
        RUN_TEST(folder_has_one_owner),
        RUN_TEST(two_runs_do_not_meet),
        RUN_TEST(damaged_checkpoints),
        RUN_TEST(a_future_that_is_not_continued),
        RUN_TEST(another_runs_checkpoint),
        RUN_TEST(attempts_keep_apart),
        RUN_TEST(immutable_and_changed_keys),
        RUN_TEST(gates_remember),
        RUN_TEST(receipt),
        RUN_TEST(hostile_state),
        RUN_TEST(clocks_may_jump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
