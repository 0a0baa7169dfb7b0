/* SIGKILL at every file operation of a run that trips, rolls back, skips and tunes: what goes on
 * from there ends bit for bit where the run that was never killed ends. */
#include "fault.h"
#include "toy.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STEPS = 8 };

static const int64_t culprit[] = {5 * TOY_BATCH, -1};

/* Another answer each time it is asked, as a measurement would give. */
static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    static const char *const tiles[] = {"16", "32", "64", "128", "256", "512"};
    (void)user;
    (void)config;
    out->changes[0].key = "toy.tile";
    snprintf(out->changes[0].value, sizeof out->changes[0].value, "%s", tiles[getpid() % 6]);
    out->change_count = 1;
    return TT_OK;
}

static int64_t applied;

static tt_status apply(void *user, const tt_config *config)
{
    (void)user;
    applied = tt_config_int(config, "toy.tile");
    return TT_OK;
}

static void prepare(toy *job, const char *directory)
{
    static const char *const keys[] = {"toy.tile"};
    static const char *const baseline[] = {"32"};
    toy_init(job, directory);
    job->optimization_count = 1;
    job->optimizations[0] = (tt_optimization){.size = sizeof(tt_optimization),
                                              .name = "tile",
                                              .tier = TT_TIER_TILE,
                                              .keys = keys,
                                              .key_count = 1,
                                              .baseline = baseline,
                                              .propose = propose,
                                              .apply = apply};
    toy_add_fault(
        job,
        (toy_fault){.step = 2, .position = -1, .times = 2, .metric = TT_METRIC_LOSS, .value = 30});
    toy_add_fault(job, (toy_fault){.step = -1,
                                   .position = culprit[0],
                                   .times = -1,
                                   .metric = TT_METRIC_GRADIENT_NORM,
                                   .value = 1e6});
}

/* A process that runs until it is killed, or done (0), or fails (its exit code). */
static int in_a_child(const char *directory, const char *resume, const char *const *settings,
                      tt_file_fault_how how, int64_t at)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        toy job;
        tt_file_fault disk;
        tt_file_fault_init(&disk, how, at, 0);
        prepare(&job, directory);
        job.files = &disk.ops;
        tt_status status = toy_run(&job, resume, settings, STEPS);
        _exit(tt_status_exit_code(status));
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* One choice was made, however often the process died, and it is the one in force. */
static void check_the_end(const char *directory)
{
    toy job;
    prepare(&job, directory);
    assert_ok(toy_open(&job, "auto", NULL));
    assert_int_equal(tt_orchestrator_step(job.orchestrator), STEPS);
    toy_state expected = toy_expected(STEPS, culprit);
    toy_assert_same(toy_now(&job), &expected);
    json_t *lines = toy_lines(&job, "decisions.jsonl");
    int choices = 0;
    int64_t last_attempt = 0;
    size_t index;
    const json_t *line;
    json_array_foreach(lines, index, line)
    {
        const char *kind = json_string_value(json_object_get(line, "kind"));
        int64_t attempt = json_integer_value(json_object_get(line, "attempt"));
        assert_true(attempt >= last_attempt); /* attempts never repeat */
        assert_true(strcmp(kind, "start") != 0 || attempt > last_attempt);
        last_attempt = attempt;
        if (strcmp(kind, "choice") == 0) {
            choices++;
            const char *tile =
                json_string_value(json_object_get(json_object_get(line, "changes"), "toy.tile"));
            char text[32];
            snprintf(text, sizeof text, "%lld", (long long)applied);
            assert_string_equal(tile, text);
        }
    }
    assert_int_equal(choices, 1);
    json_decref(lines);
    json_decref(toy_lines(&job, "metrics.jsonl"));
    assert_ok(toy_close(&job, TT_OK));
}

static void killed(void *const *state, const char *const *settings, const char *name, int stride)
{
    char label[64];
    int kills = 0;
    for (int64_t at = 0;; at += stride) {
        snprintf(label, sizeof label, "%s-%d", name, (int)at);
        const char *directory = toy_path(state, label);
        tt_file_fault_how how = at % 2 ? TT_FILE_FAULT_KILL_HALF : TT_FILE_FAULT_KILL;
        int ended = in_a_child(directory, NULL, settings, how, at);
        if (ended == 0 && how == TT_FILE_FAULT_KILL) {
            break; /* beyond the last call */
        }
        kills += ended == -SIGKILL;
        assert_true(ended == 0 || ended == -SIGKILL);
        if (ended != 0) {
            /* Every other time the second process dies as well. */
            int again =
                in_a_child(directory, "auto", settings,
                           at % 4 < 2 ? TT_FILE_FAULT_NONE : TT_FILE_FAULT_KILL, at * 7 % 60);
            assert_true(again == 0 || again == -SIGKILL);
            if (again != 0) {
                assert_int_equal(in_a_child(directory, "auto", settings, TT_FILE_FAULT_NONE, 0), 0);
            }
        }
        check_the_end(directory);
    }
    assert_true(kills > 10);
    print_message("%s: killed %d times\n", name, kills);
}

static void anywhere_in_place(void **state)
{
    static const char *const settings[] = {"snapshot.slots=1", "checkpoint.every_steps=3", NULL};
    killed(state, settings, "in-place", 3);
}

static void anywhere_with_slots(void **state)
{
    static const char *const settings[] = {"snapshot.slots=3", "checkpoint.every_steps=3",
                                           "checkpoint.keep=2", NULL};
    killed(state, settings, "slots", 1);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(anywhere_in_place),
        RUN_TEST(anywhere_with_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
