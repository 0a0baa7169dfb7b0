/* Moments left to adaptation: trial by trial from f32 to int8, nothing that is pinned moves, and a
 * run that goes on from an earlier state makes the same decisions at the same steps. */
#include "fixture.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 160, LOOKS = 40 };

static fixture shared;

/* Every reading is a microsecond later: what a trial measures is the same on any machine. */
static atomic_llong readings;

static uint64_t count_up(void *user)
{
    (void)user;
    return (uint64_t)(atomic_fetch_add(&readings, 1) + 1) * 1000;
}

static const tt_clock counted = {.now_ns = count_up};

static const char *const settings[] = {
    "model.channels=64",
    "train.steps=160",
    "optim.warmup_steps=8",
    "kernels.tile_m=64",
    "kernels.tile_n=64",
    "kernels.tile_k=64",
    "compression.moments=auto",
    "compression.activations=bf16",
    "adapt.every_steps=40",
    "trials.pairs=10",
    "trials.budget_seconds=100",
    "checkpoint.every_steps=20",
    "checkpoint.keep=20",
    "run.threads=1",
    NULL,
};

static int setup(void **state)
{
    (void)state;
    fixture_init(&shared, 20000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_clear(&shared);
    return 0;
}

static void start(const char *folder, const char *resume, fixture_run *run)
{
    if (fixture_create(&shared, folder, resume, settings, NULL, run) ||
        tt_orchestrator_start(run->training->orchestrator)) {
        fail_msg("%s", tt_error_message());
    }
}

static void assert_value(const fixture_run *run, const char *key, const char *value)
{
    const tt_config *config = tt_orchestrator_config(run->training->orchestrator);
    char text[32];
    if (strncmp(key, "kernels.tile", 12) == 0) {
        snprintf(text, sizeof text, "%lld", (long long)tt_config_int(config, key));
    } else {
        snprintf(text, sizeof text, "%s",
                 tt_config_is_auto(config, key) ? "auto" : tt_config_string(config, key));
    }
    assert_string_equal(text, value);
}

/* Steps to the end; what the moments were kept in, step by step. */
static void go_on(fixture_run *run, tt_codec codecs[STEPS])
{
    tt_training *training = run->training;
    while (tt_orchestrator_step(training->orchestrator) < STEPS) {
        tt_step_record record;
        if (tt_training_step(training, &record)) {
            fail_msg("%s", tt_error_message());
        }
        assert_true(record.published);
        codecs[record.step] = training->moments.codec;
        assert_value(run, "compression.activations", "bf16");
        assert_value(run, "kernels.tile_m", "64");
        assert_value(run, "kernels.tile_k", "64");
    }
}

/* "f32>bf16 bf16>int8": what commits did to the moments, of the whole journal. */
static void list_commits(const char *folder, char *out, size_t bytes)
{
    char path[128];
    snprintf(path, sizeof path, "%s/decisions.jsonl", folder);
    char *text = fixture_read(fixture_path(&shared, path));
    char *rest = NULL;
    out[0] = '\0';
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *record = json_loads(line, 0, NULL);
        const char *kind = json_string_value(json_object_get(record, "kind"));
        const json_t *changes = json_object_get(record, "changes");
        for (size_t i = 0; kind && strcmp(kind, "commit") == 0 && i < json_array_size(changes);
             i++) {
            const json_t *change = json_array_get(changes, i);
            size_t used = strlen(out);
            snprintf(out + used, bytes - used, "%s%s:%s>%s", used ? " " : "",
                     json_string_value(json_array_get(change, 0)),
                     json_string_value(json_array_get(change, 1)),
                     json_string_value(json_array_get(change, 2)));
        }
        json_decref(record);
    }
    free(text);
}

static char *read_meta(const char *checkpoint, const char *entry)
{
    tt_store *store = NULL;
    tt_text text;
    tt_text_init(&text);
    assert_int_equal(tt_store_open(checkpoint, &store), TT_OK);
    assert_int_equal(tt_store_read_text(store, entry, &text), TT_OK);
    char *out = strdup(text.data);
    assert_non_null(out);
    tt_text_clear(&text);
    tt_store_close(store);
    return out;
}

static void moments_climb(void **state)
{
    (void)state;
    fixture_run run;
    tt_codec codecs[STEPS];
    tt_codec again[STEPS];
    char commits[512];
    char command[1200];
    shared.clock = &counted;
    start("climbs", NULL, &run);
    assert_int_equal(run.training->moments.codec, TT_CODEC_F32);
    go_on(&run, codecs);
    assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
    assert_int_equal(tt_orchestrator_totals(run.training->orchestrator).commits, 2);
    fixture_destroy(&run);
    list_commits("climbs", commits, sizeof commits);
    assert_string_equal(commits, "compression.moments:f32>bf16 compression.moments:bf16>int8");
    assert_int_equal(codecs[LOOKS - 1], TT_CODEC_F32);
    assert_int_equal(codecs[STEPS - 1], TT_CODEC_INT8);

    /* The checkpoint knows what was in force, and how it came to that. */
    char *yaml = read_meta(fixture_checkpoint(&shared, "climbs", STEPS), "/meta/config.yaml");
    char *meta = read_meta(fixture_checkpoint(&shared, "climbs", STEPS), "/meta/state.json");
    json_t *known = json_loads(meta, 0, NULL);
    assert_non_null(strstr(yaml, "int8"));
    assert_true(json_is_string(json_object_get(known, "resolution")));
    assert_true(json_array_size(json_object_get(known, "decisions")) >= 2);
    json_decref(known);
    free(yaml);
    free(meta);

    /* From before the first look, on a machine of other speed: the journal decides. */
    snprintf(command, sizeof command, "cp -r '%s' '%s'", fixture_path(&shared, "climbs"),
             fixture_path(&shared, "whole"));
    assert_int_equal(system(command), 0);
    static const int64_t from[] = {20, 60, 100};
    shared.clock = NULL;
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        start("climbs", fixture_checkpoint(&shared, "climbs", from[i]), &run);
        assert_int_equal(tt_orchestrator_step(run.training->orchestrator), from[i]);
        memcpy(again, codecs, sizeof again);
        go_on(&run, again);
        assert_memory_equal(again, codecs, sizeof codecs);
        assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
        fixture_destroy(&run);
        assert_same_tensors(fixture_checkpoint(&shared, "whole", STEPS),
                            fixture_checkpoint(&shared, "climbs", STEPS));
    }
}

/* What the user set stays, whatever adaptation would like. */
static void pinned_moments_stay(void **state)
{
    (void)state;
    const char *pinned[sizeof settings / sizeof *settings];
    fixture_run run;
    tt_codec codecs[STEPS];
    memcpy(pinned, settings, sizeof settings);
    for (size_t i = 0; pinned[i]; i++) {
        if (strcmp(pinned[i], "compression.moments=auto") == 0) {
            pinned[i] = "compression.moments=bf16";
        }
    }
    shared.clock = &counted;
    if (fixture_create(&shared, "pinned", NULL, pinned, NULL, &run) ||
        tt_orchestrator_start(run.training->orchestrator)) {
        fail_msg("%s", tt_error_message());
    }
    go_on(&run, codecs);
    assert_int_equal(tt_orchestrator_totals(run.training->orchestrator).commits, 0);
    assert_int_equal(codecs[STEPS - 1], TT_CODEC_BF16);
    fixture_destroy(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_climb),
        cmocka_unit_test(pinned_moments_stay),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
