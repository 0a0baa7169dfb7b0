/* Optimizations at start: asked once, written down before it counts, followed afterwards. */
#include "toy.h"

#include <stdio.h>
#include <string.h>

/* A tuner whose answer is never the same twice, as measurements are not. */
typedef struct tuner {
    toy *job;
    int proposals, applications;
    int64_t applied_tile, applied_block;
    bool journal_knew; /* the choice was on the disk before it was applied */
    const char *evidence;
    bool also_block;
    tt_status propose_fails, apply_fails;
} tuner;

static int answers; /* of all tuners of this process */

static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    static const char *const tiles[] = {"16", "32", "64", "128", "256", "512"};
    tuner *mine = user;
    (void)config;
    mine->proposals++;
    if (mine->propose_fails) {
        return tt_fail(mine->propose_fails, "cannot measure");
    }
    out->changes[0].key = "toy.tile";
    snprintf(out->changes[0].value, sizeof out->changes[0].value, "%s", tiles[answers++ % 6]);
    out->change_count = 1;
    if (mine->also_block) {
        out->changes[1].key = "toy.block";
        snprintf(out->changes[1].value, sizeof out->changes[1].value, "16");
        out->change_count = 2;
    }
    if (mine->evidence) {
        tt_text_add(&out->evidence, mine->evidence);
    }
    return TT_OK;
}

static tt_status apply(void *user, const tt_config *config)
{
    tuner *mine = user;
    mine->applications++;
    mine->applied_tile =
        tt_config_is_auto(config, "toy.tile") ? -1 : tt_config_int(config, "toy.tile");
    mine->applied_block =
        tt_config_is_auto(config, "toy.block") ? -1 : tt_config_int(config, "toy.block");
    mine->journal_knew = toy_count(mine->job, "choice") > 0;
    return mine->apply_fails ? tt_fail(mine->apply_fails, "cannot apply") : TT_OK;
}

static const char *const keys[] = {"toy.tile", "toy.block"};
static const char *const baseline[] = {"32", "32"};

static void prepare(toy *job, tuner *mine, const char *directory, size_t key_count)
{
    memset(mine, 0, sizeof *mine);
    mine->job = job;
    toy_init(job, directory);
    job->optimization_count = 1;
    job->optimizations[0] = (tt_optimization){.size = sizeof(tt_optimization),
                                              .user = mine,
                                              .name = "tile",
                                              .tier = TT_TIER_TILE,
                                              .keys = keys,
                                              .key_count = key_count,
                                              .baseline = baseline,
                                              .propose = propose,
                                              .apply = apply};
}

static void decided_once(void **state)
{
    toy job;
    tuner mine;
    prepare(&job, &mine, toy_path(state, "once"), 1);
    mine.evidence = "{\"seconds\": [1.5, 2.5]}";
    assert_ok(toy_open(&job, NULL, NULL));
    assert_int_equal(mine.proposals, 1);
    assert_int_equal(mine.applications, 1);
    assert_true(mine.journal_knew);
    int64_t tile = mine.applied_tile;
    assert_int_equal(tt_config_int(tt_orchestrator_config(job.orchestrator), "toy.tile"), tile);
    assert_int_equal(tt_config_source(tt_orchestrator_config(job.orchestrator), "toy.tile"),
                     TT_SOURCE_RUN);
    assert_ok(toy_close(&job, toy_steps(&job, 3)));
    json_t *lines = toy_lines(&job, "decisions.jsonl");
    const json_t *choice = json_array_get(lines, 1);
    assert_string_equal(json_string_value(json_object_get(choice, "kind")), "choice");
    assert_string_equal(json_string_value(json_object_get(choice, "optimization")), "tile");
    assert_int_equal(
        json_array_size(json_object_get(json_object_get(choice, "evidence"), "seconds")), 2);
    json_decref(lines);
    /* A resumed run, and one that asks for `auto` again, follow it. */
    static const char *const again[] = {"toy.tile=auto", NULL};
    for (int i = 0; i < 2; i++) {
        prepare(&job, &mine, job.directory, 1);
        assert_ok(toy_open(&job, "auto", i ? again : NULL));
        assert_int_equal(mine.proposals, 0);
        assert_int_equal(mine.applications, 1);
        assert_int_equal(mine.applied_tile, tile);
        assert_ok(toy_close(&job, toy_steps(&job, 4 + i)));
        assert_int_equal(toy_count(&job, "choice"), 1);
    }
}

static void followed_before_the_first_checkpoint(void **state)
{
    /* The run ends between the decision and the first checkpoint. */
    toy job;
    tuner mine;
    prepare(&job, &mine, toy_path(state, "before"), 1);
    mine.apply_fails = TT_EUNSUPPORTED;
    assert_int_equal(toy_open(&job, NULL, NULL), TT_EUNSUPPORTED);
    assert_int_equal(mine.proposals, 1);
    int64_t tile = mine.applied_tile;
    prepare(&job, &mine, job.directory, 1);
    assert_ok(toy_open(&job, "auto", NULL));
    assert_int_equal(mine.proposals, 0);
    assert_int_equal(mine.applied_tile, tile);
    assert_int_equal(tt_orchestrator_attempt(job.orchestrator), 2);
    assert_ok(toy_close(&job, TT_OK));
    assert_int_equal(toy_count(&job, "choice"), 1);
}

static void pinned_values_stay(void **state)
{
    static const char *const both[] = {"toy.tile=128", "toy.block=64", NULL};
    static const char *const block[] = {"toy.block=64", NULL};
    toy job;
    tuner mine;
    prepare(&job, &mine, toy_path(state, "pinned"), 2);
    assert_ok(toy_open(&job, NULL, both));
    assert_int_equal(mine.proposals, 0); /* nothing to ask */
    assert_int_equal(mine.applied_tile, 128);
    assert_ok(toy_close(&job, TT_OK));
    /* One of two: the tuner may move the other only, whatever it says. */
    for (int resumed = 0; resumed < 2; resumed++) {
        prepare(&job, &mine, toy_path(state, "half"), 2);
        mine.also_block = true;
        assert_ok(toy_open(&job, resumed ? "auto" : NULL, block));
        assert_int_equal(mine.proposals, !resumed);
        assert_int_equal(mine.applied_block, 64);
        assert_int_equal(tt_config_int(tt_orchestrator_config(job.orchestrator), "toy.block"), 64);
        assert_true(mine.applied_tile > 0);
        assert_ok(toy_close(&job, TT_OK));
    }
}

static void what_is_wrong_with_one(void **state)
{
    toy job;
    tuner mine;
    static const char *const bad_evidence[] = {"{", "not json", "{\"a\":nan}"};
    for (size_t i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "evidence-%zu", i);
        prepare(&job, &mine, toy_path(state, name), 1);
        mine.evidence = bad_evidence[i];
        assert_int_equal(toy_open(&job, NULL, NULL), TT_EINTERNAL);
        assert_non_null(strstr(tt_error_message(), "tile"));
    }
    prepare(&job, &mine, toy_path(state, "cannot"), 1);
    mine.propose_fails = TT_ENOMEM;
    assert_int_equal(toy_open(&job, NULL, NULL), TT_ENOMEM);
    assert_int_equal(mine.applications, 0);
    prepare(&job, &mine, toy_path(state, "size"), 1);
    job.optimizations[0].size--;
    assert_int_equal(toy_open(&job, NULL, NULL), TT_EINVAL);
    prepare(&job, &mine, toy_path(state, "baseline"), 1);
    job.optimizations[0].baseline = NULL;
    assert_int_equal(toy_open(&job, NULL, NULL), TT_EINVAL);
    prepare(&job, &mine, toy_path(state, "key"), 1);
    static const char *const unknown[] = {"toy.none"};
    job.optimizations[0].keys = unknown;
    assert_int_equal(toy_open(&job, NULL, NULL), TT_EINTERNAL);
    /* After the start it is too late; without `propose` the key begins at its baseline. */
    prepare(&job, &mine, toy_path(state, "late"), 1);
    job.optimizations[0].propose = NULL;
    assert_ok(toy_open(&job, NULL, NULL));
    assert_int_equal(mine.applied_tile, 32);
    assert_int_equal(tt_orchestrator_add(job.orchestrator, &job.optimizations[0]), TT_EINVAL);
    assert_ok(toy_close(&job, TT_OK));
}

static void a_journal_that_lies(void **state)
{
    toy job;
    tuner mine;
    static const char *const lines[] = {
        "{\"kind\":\"choice\",\"optimization\":\"tile\",\"changes\":{\"toy.none\":\"64\"}}\n",
        "{\"kind\":\"choice\",\"optimization\":\"tile\",\"changes\":{\"toy.tile\":64}}\n",
        "{\"kind\":\"choice\",\"optimization\":\"tile\",\"changes\":{\"toy.tile\":\"77777\"}}\n",
    };
    for (size_t i = 0; i < 3; i++) {
        char name[32];
        char path[256];
        snprintf(name, sizeof name, "lies-%zu", i);
        prepare(&job, &mine, toy_path(state, name), 1);
        mine.propose_fails = TT_ENOMEM;
        assert_int_equal(toy_open(&job, NULL, NULL), TT_ENOMEM);
        snprintf(path, sizeof path, "%s/decisions.jsonl", job.directory);
        FILE *stream = fopen(path, "ae");
        assert_non_null(stream);
        /* Noise that is passed over, then the line. */
        fprintf(stream, "garbage\n{}\n[1,2]\n7\n{\"kind\":7,\"attempt\":\"x\"}\n%s", lines[i]);
        fclose(stream);
        prepare(&job, &mine, job.directory, 1);
        tt_status status = toy_open(&job, "auto", NULL);
        assert_true(status == TT_ECORRUPT || status == TT_ECONFIG);
        assert_int_equal(mine.applications, 0);
    }
}

static void conflicts(void **state)
{
    /* A pinned value off the lattice moves with a warning, or not at all if that is asked for. */
    static const char *const off[] = {"toy.tile=48", NULL};
    toy job;
    toy_init(&job, toy_path(state, "moved"));
    tt_status status = toy_open(&job, NULL, off);
    if (status == TT_ECONFIG) {
        return; /* refused at the parser already */
    }
    assert_ok(status);
    assert_int_equal(tt_config_int(tt_orchestrator_config(job.orchestrator), "toy.tile"), 64);
    assert_true(job.warnings > 0);
    assert_ok(toy_close(&job, TT_OK));
    assert_int_equal(toy_count(&job, "resolution"), 1);
    toy_init(&job, toy_path(state, "strict"));
    job.strict = true;
    assert_int_equal(toy_open(&job, NULL, off), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "toy.tile"));
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(decided_once),        RUN_TEST(followed_before_the_first_checkpoint),
        RUN_TEST(pinned_values_stay),  RUN_TEST(what_is_wrong_with_one),
        RUN_TEST(a_journal_that_lies), RUN_TEST(conflicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
