/* Decisions that a run finds in its folder: of optimizations that are gone, made up, or damaged. */
#include "toy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const settings[] = {"toy.k0=4", "adapt.every_steps=0",
                                       "checkpoint.every_steps=10", NULL};

static void begin(toy *job, const char *directory, int knobs)
{
    toy_init(job, directory);
    toy_add_knobs(job, knobs, true);
    for (int k = 3; k < knobs; k++) {
        job->knobs[k].initial = 4;
    }
}

static void harm_of(toy *job, int knob, int64_t from)
{
    job->harm_count = 0;
    toy_add_harm(job, (toy_harm){.kind = TOY_HARM_NAN_LOSS,
                                 .with = UINT32_C(1) << knob,
                                 .from = from,
                                 .until = from + 30,
                                 .position = -1,
                                 .strikes = -1});
}

static tt_breaker_state breaker(const toy *job, int knob)
{
    return tt_orchestrator_optimization(job->orchestrator, (size_t)knob).breaker;
}

/* k4 was convicted; then it is gone, another one is convicted, and it comes back. */
static void of_an_optimization_that_is_gone(void **state)
{
    toy job;
    begin(&job, toy_path(state, "gone"), 5);
    harm_of(&job, 4, 5);
    assert_ok(toy_open(&job, NULL, settings));
    assert_ok(toy_close(&job, toy_steps(&job, 12)));
    begin(&job, job.directory, 5);
    job.knobs[4].is_gone = true;
    harm_of(&job, 3, 15);
    assert_ok(toy_open(&job, "auto", NULL));
    assert_ok(toy_steps(&job, 20));
    assert_int_equal(breaker(&job, 3), TT_BREAKER_OPEN);
    assert_ok(toy_close(&job, TT_OK));
    begin(&job, job.directory, 5);
    assert_ok(toy_open(&job, "auto", NULL));
    assert_int_equal(breaker(&job, 3), TT_BREAKER_OPEN);
    assert_ok(toy_steps(&job, 22));
    assert_int_equal(breaker(&job, 4), TT_BREAKER_OPEN); /* the journal knows */
    json_t *lines = toy_lines(&job, "decisions.jsonl");
    size_t index;
    const json_t *line;
    json_int_t last = 0;
    json_array_foreach(lines, index, line)
    {
        const json_t *sequence = json_object_get(line, "sequence");
        assert_true(!sequence || json_integer_value(sequence) == ++last); /* no number twice */
    }
    assert_int_equal(last, 2);
    json_decref(lines);
    toy_state expected = toy_expected(22, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_ok(toy_close(&job, TT_OK));
}

/* Lines at the end of a journal, for steps that lie ahead. */
static void made_up(void **state)
{
    static const char *const lines[] = {
        "{\"kind\":\"commit\"}",
        "{\"kind\":\"commit\",\"sequence\":1}",
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\"}",
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":7}",
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.none\",\"4\",\"8\"]]}",
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.k0\",\"4\",\"8\"]]}", /* which the user has set */
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.k3\",\"4\",\"four\"]]}",
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.k3\",\"4\",\"77777\"]]}",
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.seed\",\"1\",\"2\"]]}",
        "{\"kind\":\"commit\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":[]}",
        "{\"kind\":\"switch\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.none\",\"4\",\"8\"]]}",
        "{\"kind\":\"switch\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.k0\",\"4\",\"1\"]]}",
        "{\"kind\":\"switch\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"changes\":"
        "[[\"toy.k3\",\"4\",\"\"]]}",
        "{\"kind\":\"breaker\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"event\":\"x\"}",
        "{\"kind\":\"breaker\",\"sequence\":1,\"step\":11,\"optimization\":7,\"event\":\"probe\"}",
        "{\"kind\":\"breaker\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\","
        "\"event\":\"probe good\"}",
        "{\"kind\":\"breaker\",\"sequence\":-1,\"step\":11,\"optimization\":\"k3\","
        "\"event\":\"convict\"}",
        "{\"kind\":\"breaker\",\"sequence\":9223372036854775807,\"step\":11,"
        "\"optimization\":\"k3\",\"event\":\"suspect\"}",
        "{\"kind\":\"breaker\",\"sequence\":9007199254740992,\"step\":11,"
        "\"optimization\":\"k3\",\"event\":\"suspect\"}",
        "{\"kind\":\"breaker\",\"sequence\":1,\"step\":9223372036854775807,"
        "\"optimization\":\"k3\",\"event\":\"convict\"}",
        "{\"kind\":\"trial\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\",\"outcome\":\"x\","
        "\"changes\":[]}",
        "{\"kind\":\"trial\",\"sequence\":1,\"step\":11,\"optimization\":\"k3\","
        "\"outcome\":\"refused\",\"changes\":[],\"move\":\"sideways\",\"input\":\"x\"}",
        "{\"kind\":\"baseline\",\"sequence\":1,\"step\":11,\"speedup\":-3}",
        "{\"kind\":\"overhead\",\"sequence\":1,\"step\":-4}",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char name[32];
        char path[256];
        toy job;
        snprintf(name, sizeof name, "made-up-%zu", i);
        begin(&job, toy_path(state, name), 4);
        assert_ok(toy_open(&job, NULL, settings));
        assert_ok(toy_steps(&job, 10));
        toy_abandon(&job);
        snprintf(path, sizeof path, "%.200s/decisions.jsonl", job.directory);
        FILE *stream = fopen(path, "ae");
        assert_non_null(stream);
        fprintf(stream, "%s\n", lines[i]);
        fclose(stream);
        begin(&job, job.directory, 4);
        harm_of(&job, 3, 14);
        assert_ok(toy_open(&job, "auto", NULL));
        tt_status status = toy_steps(&job, 20);
        /* It makes no difference, or the run says which step it cannot follow. */
        if (status) {
            assert_int_equal(status, TT_ECONFIG);
            assert_non_null(strstr(tt_error_message(), "step 11"));
        } else {
            toy_state expected = toy_expected(20, NULL);
            toy_assert_same(toy_now(&job), &expected);
            assert_int_equal(tt_config_int(tt_orchestrator_config(job.orchestrator), "toy.k0"), 4);
            assert_int_equal(breaker(&job, 3), TT_BREAKER_OPEN);
        }
        (void)toy_close(&job, status);
    }
}

/* A shadow step that breaks ends the run; what is in force is applied, and nothing is lost. */
static void a_shadow_that_fails(void **state)
{
    static const char *const own[] = {"toy.k0=1", "toy.k1=1", "toy.k2=1", "adapt.every_steps=10",
                                      NULL};
    for (int at = 0; at < 4; at++) {
        char name[32];
        toy job;
        snprintf(name, sizeof name, "shadow-%d", at);
        begin(&job, toy_path(state, name), 4);
        job.knobs[3].measured = true;
        job.knobs[3].error = 0.001;
        job.replay_fails = TT_EIO;
        job.replay_fails_at = at;
        assert_ok(toy_open(&job, NULL, own));
        assert_int_equal(toy_steps(&job, 20), TT_EIO);
        toy_check_applied(&job, tt_orchestrator_config(job.orchestrator));
        int64_t reached = tt_orchestrator_step(job.orchestrator);
        assert_int_equal(toy_close(&job, TT_EIO), TT_EIO);
        begin(&job, job.directory, 4);
        job.knobs[3].measured = true;
        assert_ok(toy_open(&job, "auto", NULL));
        assert_int_equal(tt_orchestrator_step(job.orchestrator), reached);
        toy_state expected = toy_expected(reached, NULL);
        toy_assert_same(toy_now(&job), &expected);
        assert_ok(toy_close(&job, TT_OK));
    }
}

/* A run that begins in a folder where another one was takes none of its decisions. */
static void of_another_run(void **state)
{
    toy teacher;
    toy other;
    begin(&teacher, toy_path(state, "teacher"), 4);
    assert_ok(toy_open(&teacher, NULL, settings));
    assert_ok(toy_close(&teacher, toy_steps(&teacher, 10)));
    begin(&other, toy_path(state, "other"), 4);
    harm_of(&other, 3, 15);
    assert_ok(toy_open(&other, NULL, settings));
    assert_ok(toy_close(&other, toy_steps(&other, 20)));
    char path[256];
    snprintf(path, sizeof path, "%.200s/checkpoints/step-0000000010.h5", teacher.directory);
    begin(&other, other.directory, 4);
    assert_ok(toy_open(&other, path, NULL));
    assert_ok(toy_steps(&other, 40));
    assert_int_equal(breaker(&other, 3), TT_BREAKER_CLOSED);
    assert_ok(toy_close(&other, TT_OK));
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(of_an_optimization_that_is_gone),
        RUN_TEST(made_up),
        RUN_TEST(a_shadow_that_fails),
        RUN_TEST(of_another_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
