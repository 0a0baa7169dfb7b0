/* Resuming: the checkpoint's values against what is given now; written and read back. */
#include "test_config_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tt_params *params;
static tt_text warnings; /* what resuming warned of, a line each */

static int make_table(void **state)
{
    (void)state;
    params = test_params();
    tt_text_init(&warnings);
    return 0;
}

static int free_table(void **state)
{
    (void)state;
    tt_params_destroy(params);
    tt_text_clear(&warnings);
    return 0;
}

static void note_warning(void *user, tt_log_level level, const char *message)
{
    (void)user;
    assert_int_equal(level, TT_LOG_WARN);
    tt_text_addf(&warnings, "%s\n", message);
}

static const tt_log_sink sink = {.write = note_warning};

static void set(tt_config *config, tt_source source, const char *assignment)
{
    const char *origin = source == TT_SOURCE_FILE          ? "b.yaml:9"
                         : source == TT_SOURCE_ENVIRONMENT ? "TRIMTAB_X"
                                                           : "--set";
    assert_ok(tt_config_set(config, source, assignment, origin));
}

/* What a first run with a file, an option and a tuner leaves in its checkpoint. */
static void write_checkpoint(tt_text *yaml)
{
    tt_config *config = test_config(params);
    tt_config *derived = NULL;
    const char *file = "model:\n  dim: 128\nkernels: {tile_m: 48, threads: 3}\n";
    assert_ok(tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", file, strlen(file)));
    set(config, TT_SOURCE_COMMAND, "optim.rate=0.01");
    set(config, TT_SOURCE_COMMAND, "run.name=\xc3\xa9t\xc3\xa9");
    assert_ok(tt_config_derive(config, "kernels.tile_k", "64", "tuner at step 0", &derived));
    tt_config_destroy(config);
    assert_ok(tt_config_derive(derived, "kernels.tile_m", "64", "resolver", &config));
    tt_config_destroy(derived);
    assert_ok(tt_config_derive(config, "model.vocab", "512", "data", &derived));
    tt_config_destroy(config);
    tt_text_init(yaml);
    assert_ok(tt_config_write_yaml(derived, yaml));
    tt_config_destroy(derived);
}

/* Resumes, and compares the changes. */
static void resume(tt_config *config, const tt_text *yaml, const char *changes)
{
    tt_text found;
    tt_text_init(&found);
    tt_text_add(&found, "before\n");
    assert_ok(tt_config_resume_from(config, "c.h5", yaml->data, yaml->length, &found, &sink));
    assert_string_equal(found.data + strlen("before\n"), changes);
    tt_text_clear(&found);
}

static void test_nothing_given(void **state)
{
    (void)state;
    tt_text yaml;
    write_checkpoint(&yaml);
    tt_config *config = test_config(params);
    resume(config, &yaml, "");
    assert_value(config, "model.dim", "128");
    assert_value(config, "model.vocab", "512");
    assert_value(config, "kernels.tile_k", "64");
    assert_value(config, "optim.rate", "0.01");
    assert_value(config, "optim.clip", "1");
    assert_int_equal(tt_config_source(config, "optim.clip"), TT_SOURCE_CHECKPOINT);
    assert_string_equal(tt_config_origin(config, "optim.rate"), "c.h5 (--set)");
    assert_string_equal(tt_config_origin(config, "kernels.tile_k"), "c.h5 (tuner at step 0)");
    assert_string_equal(tt_config_origin(config, "run.name"), "c.h5 (--set)");
    /* Who pinned what is not forgotten, so adaptation goes on as it would have. */
    assert_true(tt_config_is_pinned(config, "kernels.tile_m"));
    assert_true(tt_config_is_pinned(config, "kernels.threads"));
    assert_true(tt_config_is_pinned(config, "optim.rate"));
    assert_false(tt_config_is_pinned(config, "kernels.tile_k"));
    assert_false(tt_config_is_pinned(config, "optim.clip"));
    tt_config_destroy(config);
    tt_text_clear(&yaml);
}

/* Resumed runs write what the first one wrote, however often. */
static void test_chain_of_resumes(void **state)
{
    (void)state;
    tt_text first;
    tt_text last;
    write_checkpoint(&first);
    tt_text_init(&last);
    tt_text_add(&last, first.data);
    for (int i = 0; i < 3; i++) {
        tt_config *config = test_config(params);
        resume(config, &last, "");
        tt_text_clear(&last);
        assert_ok(tt_config_write_yaml(config, &last));
        tt_config_destroy(config);
        assert_string_equal(strchr(last.data, '\n'), strchr(first.data, '\n'));
    }
    tt_text_clear(&first);
    tt_text_clear(&last);
}

static void test_changes(void **state)
{
    (void)state;
    tt_text yaml;
    write_checkpoint(&yaml);
    tt_config *config = test_config(params);
    set(config, TT_SOURCE_FILE, "optim.clip=7");           /* a file does not beat it */
    set(config, TT_SOURCE_FILE, "kernels.tile_m=auto");    /* nor unpins */
    set(config, TT_SOURCE_ENVIRONMENT, "optim.rate=0.02"); /* environment and command do */
    set(config, TT_SOURCE_COMMAND, "kernels.tile_k=auto"); /* as before: the tuner chose it */
    set(config, TT_SOURCE_COMMAND, "kernels.threads=3");   /* no change */
    set(config, TT_SOURCE_COMMAND, "run.name=winter");
    resume(config, &yaml,
           "optim.rate: 0.01 -> 0.02 (TRIMTAB_X)\n"
           "run.name: \"\xc3\xa9t\xc3\xa9\" -> \"winter\" (--set)\n");
    assert_value(config, "optim.clip", "1");
    assert_value(config, "optim.rate", "0.02");
    assert_true(tt_config_is_auto(config, "kernels.tile_k"));
    assert_true(tt_config_is_pinned(config, "kernels.tile_m"));
    assert_int_equal(tt_config_source(config, "kernels.threads"), TT_SOURCE_COMMAND);
    tt_config_destroy(config);
    tt_text_clear(&yaml);
}

/* What a user had set, or nobody, and is now left to the run. */
static void test_change_to_auto(void **state)
{
    (void)state;
    tt_text yaml;
    write_checkpoint(&yaml);
    tt_config *config = test_config(params);
    set(config, TT_SOURCE_ENVIRONMENT, "kernels.tile_m=auto");
    resume(config, &yaml, "kernels.tile_m: 64 -> auto (TRIMTAB_X)\n");
    assert_true(tt_config_is_auto(config, "kernels.tile_m"));
    tt_config_destroy(config);
    tt_text_clear(&yaml);
}

static void test_immutable(void **state)
{
    (void)state;
    tt_text yaml;
    tt_text changes;
    write_checkpoint(&yaml);
    tt_text_init(&changes);
    tt_config *config = test_config(params);
    set(config, TT_SOURCE_FILE, "model.dim=256");
    set(config, TT_SOURCE_COMMAND, "seed=2");
    set(config, TT_SOURCE_COMMAND, "preset=small");
    set(config, TT_SOURCE_COMMAND, "run.name=other");
    assert_fails(
        tt_config_resume_from(config, "c.h5", yaml.data, yaml.length, &changes, &sink), TT_ECONFIG,
        "model.dim cannot change on resume: 128 in c.h5, 256 by b.yaml:9; take that away, or start a "
        "new run; preset cannot change on resume: none in c.h5, small by --set; take that away, or "
        "start a new run; seed cannot change on resume: 1 in c.h5, 2 by --set; take that away, or "
        "start a new run");
    assert_int_equal(changes.length, 0); /* and nothing happened */
    assert_value(config, "model.dim", "256");
    assert_int_equal(tt_config_source(config, "optim.clip"), TT_SOURCE_PRESET);
    tt_config_destroy(config);
    /* The same value, `auto`, and what nobody set by hand are no change. */
    config = test_config(params);
    set(config, TT_SOURCE_COMMAND, "model.dim=128");
    set(config, TT_SOURCE_COMMAND, "model.vocab=auto");
    resume(config, &yaml, "");
    assert_value(config, "model.vocab", "512");
    tt_config_destroy(config);
    tt_text_clear(&yaml);
    tt_text_clear(&changes);
}

static void test_bad_checkpoint(void **state)
{
    (void)state;
    tt_config *config = test_config(params);
    const char *yaml = "seed: 1\nno_such: 2\n";
    assert_fails(tt_config_resume_from(config, "c.h5", yaml, strlen(yaml), NULL, NULL), TT_ECONFIG,
                 "c.h5:2: unknown key 'no_such'; see the list of parameters");
    assert_int_equal(tt_config_source(config, "seed"), TT_SOURCE_DEFAULT);
    /* Without the comments, values count all the same; the file then says what is pinned. */
    yaml = "kernels: {tile_m: 64}\n";
    set(config, TT_SOURCE_FILE, "kernels.tile_m=16");
    assert_ok(tt_config_resume_from(config, "c.h5", yaml, strlen(yaml), NULL, NULL));
    assert_value(config, "kernels.tile_m", "64");
    assert_string_equal(tt_config_origin(config, "kernels.tile_m"), "c.h5:1");
    assert_true(tt_config_is_pinned(config, "kernels.tile_m"));
    tt_config_destroy(config);
}

/* ---- round trip over random configurations ------------------------------------------------ */

static uint64_t next(uint64_t *state)
{
    uint32_t lanes[4];
    tt_philox(20260131, 7, (*state)++, lanes);
    return (uint64_t)lanes[0] << 32 | lanes[1];
}

/* Random text of valid UTF-8 without control characters, of what YAML has a meaning for. */
static void random_text(uint64_t *state, char *out, size_t limit)
{
    static const char *const pieces[] = {
        "\"",
        "'",
        "\\",
        ": ",
        " #",
        "#",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&",
        "*",
        "!",
        "|",
        ">",
        "%",
        "@",
        "`",
        " ",
        "~",
        "=",
        "a",
        "B",
        "7",
        "\xe2\x80\xa8",
        "\xef\xbb\xbf",
        "\xc2\xa0",
        "\xc3\xa9",
        "null",
        "auto",
        "...",
        "---",
        "\xf0\x9f\x98\x80",
        "\xef\xbf\xbe",
        "true",
    };
    size_t used = 0;
    size_t count = next(state) % 12;
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const char *piece = pieces[next(state) % (sizeof(pieces) / sizeof(pieces[0]))];
        if (used + strlen(piece) + 1 > limit)
            return;
        memcpy(out + used, piece, strlen(piece) + 1);
        used += strlen(piece);
    }
}

static void random_assignment(uint64_t *state, const tt_param *param, char *out, size_t limit)
{
    char text[128];
    char number[32];
    random_text(state, text, sizeof(text));
    double unit = (double)(next(state) >> 11) / 9007199254740992.0;
    double low = param->minimum < -1e300 ? -1e300 : param->minimum;
    double high = param->maximum > 1e300 ? 1e300 : param->maximum;
    if (param->may_be_auto && next(state) % 8 == 0)
        snprintf(text, sizeof(text), "auto");
    else if (param->type == TT_TYPE_BOOL)
        snprintf(text, sizeof(text), "%s", unit < 0.5 ? "true" : "false");
    else if (param->type == TT_TYPE_INT && param->lattice != NULL)
        snprintf(text, sizeof(text), "%lld",
                 (long long)param->lattice[next(state) % param->lattice_count]);
    else if (param->type == TT_TYPE_INT)
        snprintf(text, sizeof(text), "%.0f", low + unit * (high * 0.999 - low));
    else if (param->type == TT_TYPE_FLOAT)
        snprintf(
            text, sizeof(text), "%s",
            tt_format_double((low + unit * (high - low)) * (next(state) % 2 ? 1 : 1e-300), number));
    else if (param->type == TT_TYPE_ENUM)
        snprintf(text, sizeof(text), "%.*s", (int)strcspn(param->choices, "|"), param->choices);
    snprintf(out, limit, "%s=%s", param->key, text);
}

static void test_round_trip(void **state)
{
    (void)state;
    uint64_t random = 0;
    size_t count = tt_params_count(params);
    for (int i = 0; i < 3000; i++) {
        tt_config *config = test_config(params);
        tt_config *back = test_config(params);
        tt_text yaml;
        tt_text again;
        char digest[TT_SHA256_HEX];
        char other[TT_SHA256_HEX];
        tt_text_init(&yaml);
        tt_text_init(&again);
        for (size_t k = 0; k < count; k++) {
            char assignment[512];
            tt_source source = next(&random) % 2 ? TT_SOURCE_FILE : TT_SOURCE_COMMAND;
            if (next(&random) % 3 == 0)
                continue;
            random_assignment(&random, tt_params_at(params, k), assignment, sizeof(assignment));
            assert_ok(tt_config_set(config, source, assignment, "an: \"origin\" # 'of' \xff"));
        }
        assert_ok(tt_config_write_yaml(config, &yaml));
        assert_ok(tt_config_load_text(back, TT_SOURCE_FILE, "r", yaml.data, yaml.length));
        assert_ok(tt_config_digest(config, digest));
        assert_ok(tt_config_digest(back, other));
        assert_string_equal(digest, other);
        /* And as a checkpoint, with who pinned what. */
        tt_config_destroy(back);
        back = test_config(params);
        assert_ok(tt_config_resume_from(back, "c", yaml.data, yaml.length, NULL, NULL));
        for (size_t k = 0; k < count; k++) {
            const char *key = tt_params_at(params, k)->key;
            assert_int_equal(tt_config_is_pinned(config, key), tt_config_is_pinned(back, key));
        }
        assert_ok(tt_config_write_yaml(back, &again));
        assert_string_equal(yaml.data, again.data);
        tt_text_clear(&yaml);
        tt_text_clear(&again);
        tt_config_destroy(config);
        tt_config_destroy(back);
    }
}

/* A value that was changed in the file only: the checkpoint's counts, and that is said. */
static void test_file_is_ignored(void **state)
{
    (void)state;
    const char *file = "model:\n  dim: 128\nkernels:\n  tile_m: 32\n  tile_k: auto\n  threads: 5\n"
                       "optim: {rate: 0.02}\nrun:\n  name: it's new\n";
    tt_text yaml;
    write_checkpoint(&yaml);
    tt_config *config = test_config(params);
    assert_ok(tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", file, strlen(file)));
    set(config, TT_SOURCE_COMMAND, "optim.rate=0.5"); /* not the file's, so not ignored */
    tt_text_clear(&warnings);
    resume(config, &yaml, "optim.rate: 0.01 -> 0.5 (--set)\n");
    assert_string_equal(
        warnings.data,
        "a.yaml:6: kernels.threads 5 is ignored: the checkpoint's 3 counts; use --set "
        "kernels.threads=5\n"
        "a.yaml:4: kernels.tile_m 32 is ignored: the checkpoint's 64 counts; use --set "
        "kernels.tile_m=32\n"
        "a.yaml:9: run.name \"it's new\" is ignored: the checkpoint's \"\xc3\xa9t\xc3\xa9\" counts; "
        "use --set 'run.name=it'\\''s new'\n");
    assert_value(config, "kernels.threads", "3");
    tt_config_destroy(config);
    /* A refused resume says only why. */
    config = test_config(params);
    tt_text_clear(&warnings);
    assert_ok(tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", file, strlen(file)));
    set(config, TT_SOURCE_COMMAND, "model.dim=256");
    assert_fails(tt_config_resume_from(config, "c.h5", yaml.data, yaml.length, NULL, &sink),
                 TT_ECONFIG,
                 "model.dim cannot change on resume: 128 in c.h5, 256 by --set; take that away, or "
                 "start a new run");
    assert_string_equal(warnings.data, "");
    tt_config_destroy(config);
    tt_text_clear(&yaml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_given), cmocka_unit_test(test_chain_of_resumes),
        cmocka_unit_test(test_changes),       cmocka_unit_test(test_change_to_auto),
        cmocka_unit_test(test_immutable),     cmocka_unit_test(test_bad_checkpoint),
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_file_is_ignored),
    };
    return cmocka_run_group_tests(tests, make_table, free_table);
}
