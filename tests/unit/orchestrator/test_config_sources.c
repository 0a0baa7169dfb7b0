/* Where values come from: precedence, pinning, environment, --set, derived versions, provenance. */
#include "test_config_table.h"

#include <stdio.h>
#include <string.h>

/* ---- precedence --------------------------------------------------------------------------- */

static const char *const by_source[] = {
    [TT_SOURCE_DEFAULT] = "32",     [TT_SOURCE_PRESET] = "16",       [TT_SOURCE_FILE] = "64",
    [TT_SOURCE_CHECKPOINT] = "128", [TT_SOURCE_ENVIRONMENT] = "256", [TT_SOURCE_COMMAND] = "512",
    [TT_SOURCE_RUN] = "33",
};

/* Gives kernels.tile_m its value of this source. */
static void apply(tt_config **config, tt_source source)
{
    char text[64];
    snprintf(text, sizeof(text), "kernels: {tile_m: %s}", by_source[source]);
    char variable[] = "TRIMTAB_KERNELS__TILE_M=256";
    char *environment[] = {variable, NULL};
    tt_config *derived = NULL;
    switch (source) {
    case TT_SOURCE_DEFAULT:
        return;
    case TT_SOURCE_PRESET:
        assert_ok(tt_config_set(*config, TT_SOURCE_COMMAND, "preset=small", "--preset"));
        return;
    case TT_SOURCE_FILE:
        assert_ok(tt_config_load_text(*config, source, "a.yaml", text, strlen(text)));
        return;
    case TT_SOURCE_CHECKPOINT:
        assert_ok(tt_config_resume_from(*config, "c.h5", text, strlen(text), NULL, NULL));
        return;
    case TT_SOURCE_ENVIRONMENT:
        assert_ok(tt_config_load_environment(*config, environment));
        return;
    case TT_SOURCE_COMMAND:
        assert_ok(tt_config_set(*config, source, "kernels.tile_m=512", "--set"));
        return;
    case TT_SOURCE_RUN:
        assert_ok(tt_config_derive(*config, "kernels.tile_m", "33", "tuner at step 0", &derived));
        tt_config_destroy(*config);
        *config = derived;
        return;
    }
}

/* Every pair, in both orders of loading; then all of them. */
static void test_precedence_of_every_pair(void **state)
{
    (void)state;
    tt_params *params = test_params();
    for (tt_source a = TT_SOURCE_DEFAULT; a <= TT_SOURCE_RUN; a++) {
        for (tt_source b = TT_SOURCE_DEFAULT; b <= TT_SOURCE_RUN; b++) {
            tt_config *config = test_config(params);
            tt_source winner = a > b ? a : b;
            apply(&config, a);
            apply(&config, b);
            assert_int_equal(tt_config_source(config, "kernels.tile_m"), winner);
            assert_value(config, "kernels.tile_m", by_source[winner]);
            tt_config_destroy(config);
        }
    }
    tt_config *config = test_config(params);
    for (tt_source a = TT_SOURCE_RUN; a > TT_SOURCE_DEFAULT; a--)
        apply(&config, a);
    assert_value(config, "kernels.tile_m", "33");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void test_preset_by_any_source(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    const char *file = "preset: large\noptim:\n  rate: 0.25\n";
    assert_string_equal(tt_config_string(config, "preset"), "none");
    assert_ok(tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", file, strlen(file)));
    assert_value(config, "kernels.tile_m", "256");
    assert_value(config, "model.dim", "1024");
    assert_string_equal(tt_config_origin(config, "model.dim"), "preset large");
    /* Another preset takes all of the first one's values back; the file still beats it. */
    char variable[] = "TRIMTAB_PRESET=small";
    char *environment[] = {variable, NULL};
    assert_ok(tt_config_load_environment(config, environment));
    assert_value(config, "kernels.tile_m", "16");
    assert_value(config, "model.dim", "256");
    assert_value(config, "optim.clip", "0");
    assert_value(config, "optim.rate", "0.25");
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "preset=none", "--preset"));
    assert_value(config, "kernels.tile_m", "32");
    assert_value(config, "optim.clip", "1");
    assert_fails(tt_config_set(config, TT_SOURCE_COMMAND, "preset=tiny", "--preset"), TT_ECONFIG,
                 "--preset: preset cannot be 'tiny'; write one of none|small|large");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void test_zero_is_a_value(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    assert_ok(tt_config_set(config, TT_SOURCE_FILE, "kernels.threads=2", "a.yaml:1"));
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "kernels.threads=0", "--set"));
    assert_int_equal(tt_config_int(config, "kernels.threads"), 0);
    assert_int_equal(tt_config_source(config, "kernels.threads"), TT_SOURCE_COMMAND);
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "gates.loss.max=0", "--set"));
    assert_true(tt_config_float(config, "gates.loss.max") == 0);
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "gates.warn=false", "--set"));
    assert_false(tt_config_bool(config, "gates.warn"));
    assert_ok(tt_config_set(config, TT_SOURCE_FILE, "run.name=x", "a.yaml:2"));
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "run.name=", "--set"));
    assert_string_equal(tt_config_string(config, "run.name"), "");
    assert_true(tt_config_is_pinned(config, "run.name"));
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void test_pinning(void **state)
{
    (void)state;
    tt_params *params = test_params();
    const char *key = "kernels.tile_m";
    for (tt_source source = TT_SOURCE_DEFAULT; source <= TT_SOURCE_RUN; source++) {
        tt_config *config = test_config(params);
        bool user = source == TT_SOURCE_FILE || source == TT_SOURCE_ENVIRONMENT ||
                    source == TT_SOURCE_COMMAND;
        apply(&config, source);
        assert_int_equal(tt_config_is_pinned(config, key), user);
        apply(&config, TT_SOURCE_RUN); /* a pin stays one when the resolver had to move it */
        assert_int_equal(tt_config_is_pinned(config, key), user);
        assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "kernels.tile_m=auto", "--set"));
        assert_false(tt_config_is_pinned(config, key));
        tt_config_destroy(config);
    }
    tt_config *config = test_config(params);
    assert_ok(tt_config_set(config, TT_SOURCE_FILE, "kernels.tile_m=auto", "a.yaml:1"));
    assert_true(tt_config_is_auto(config, key));
    assert_int_equal(tt_config_int(config, key), 0);
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "kernels.tile_m=32", "--set"));
    assert_true(tt_config_is_pinned(config, key)); /* the default's value, but set */
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* ---- environment and command line --------------------------------------------------------- */

static tt_status load_variable(tt_config *config, const char *entry)
{
    char copy[512];
    char other[] = "PATH=/bin";
    char *environment[] = {other, copy, NULL};
    snprintf(copy, sizeof(copy), "%s", entry);
    return tt_config_load_environment(config, environment);
}

static void test_environment(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    assert_ok(tt_config_load_environment(config, NULL));
    assert_ok(load_variable(config, "TRIMTAB_GATES__LOSS__MAX=1e-8"));
    assert_true(tt_config_float(config, "gates.loss.max") == 1e-8);
    assert_string_equal(tt_config_origin(config, "gates.loss.max"), "TRIMTAB_GATES__LOSS__MAX");
    assert_ok(load_variable(config, "TRIMTAB_SEED=7"));
    assert_ok(load_variable(config, "TRIMTAB_DATA__PATH=a=b # c: \"d\""));
    assert_string_equal(tt_config_string(config, "data.path"), "a=b # c: \"d\"");
    assert_ok(load_variable(config, "TRIMTABX=7")); /* not ours */
    assert_ok(load_variable(config, "TRIMTAB_NO_VALUE_AT_ALL"));
    assert_fails(load_variable(config, "TRIMTAB_KERNELS__TILE_N=1"), TT_ECONFIG,
                 "environment: TRIMTAB_KERNELS__TILE_N names no parameter; did you mean "
                 "TRIMTAB_KERNELS__TILE_K?");
    assert_fails(load_variable(config, "TRIMTAB_kernels__tile_m=16"), TT_ECONFIG,
                 "environment: TRIMTAB_kernels__tile_m names no parameter; did you mean "
                 "TRIMTAB_KERNELS__TILE_M?");
    assert_fails(load_variable(config, "TRIMTAB_KERNELS_TILE_M=16"), TT_ECONFIG,
                 "environment: TRIMTAB_KERNELS_TILE_M names no parameter; did you mean "
                 "TRIMTAB_KERNELS__TILE_M?");
    assert_fails(load_variable(config, "TRIMTAB_DEBUG_EVERYTHING=1"), TT_ECONFIG,
                 "environment: TRIMTAB_DEBUG_EVERYTHING names no parameter; unset it");
    assert_fails(load_variable(config, "TRIMTAB_=1"), TT_ECONFIG,
                 "environment: TRIMTAB_ names no parameter; unset it");
    assert_fails(load_variable(config, "TRIMTAB_KERNELS__THREADS="), TT_ECONFIG,
                 "TRIMTAB_KERNELS__THREADS: kernels.threads is empty; write a value, or leave it "
                 "unset");
    assert_fails(load_variable(config, "TRIMTAB_KERNELS__THREADS=four"), TT_ECONFIG,
                 "TRIMTAB_KERNELS__THREADS: kernels.threads must be a whole number, not 'four'; "
                 "write decimal digits only, as in -4");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* A source counts as a whole or not at all. */
static void test_environment_is_all_or_nothing(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    char good[] = "TRIMTAB_SEED=9";
    char again[] = "TRIMTAB_SEED=10";
    char wrong[] = "TRIMTAB_MODEL__DIM=0";
    char unknown[] = "TRIMTAB_SEEDS=1";
    char *environment[] = {good, wrong, unknown, NULL};
    assert_fails(
        tt_config_load_environment(config, environment), TT_ECONFIG,
        "TRIMTAB_MODEL__DIM: model.dim is 0, below its minimum 1; write a value from 1 to "
        "65536; environment: TRIMTAB_SEEDS names no parameter; did you mean TRIMTAB_SEED?");
    assert_value(config, "seed", "1");
    environment[1] = again; /* as with getenv, the first counts */
    environment[2] = NULL;
    assert_ok(tt_config_load_environment(config, environment));
    assert_value(config, "seed", "9");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void test_set(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    const tt_source command = TT_SOURCE_COMMAND;
    assert_ok(tt_config_set(config, command, "data.path=a=b=c", "--set"));
    assert_string_equal(tt_config_string(config, "data.path"), "a=b=c");
    assert_ok(tt_config_set(config, command, "seed=3", "--set"));
    assert_ok(tt_config_set(config, command, "seed=4", "--set")); /* the last one counts */
    assert_int_equal(tt_config_int(config, "seed"), 4);
    assert_fails(tt_config_set(config, command, "seed", "--set"), TT_EUSAGE,
                 "--set 'seed' has no '='; write --set key=value");
    assert_fails(tt_config_set(config, command, "sed=1", "--set"), TT_ECONFIG,
                 "--set: unknown key 'sed'; did you mean 'seed'?");
    assert_fails(tt_config_set(config, command, "tile_m=1", "--set"), TT_ECONFIG,
                 "--set: unknown key 'tile_m'; did you mean 'kernels.tile_m'?");
    assert_fails(tt_config_set(config, command, "zzzzzzzz=1", "--set"), TT_ECONFIG,
                 "--set: unknown key 'zzzzzzzz'; see the list of parameters");
    assert_fails(tt_config_set(config, command, "kernels=1", "--set"), TT_ECONFIG,
                 "--set: 'kernels' is a section; write --set kernels.<key>=value");
    assert_int_equal(tt_config_set(config, command, "=1", "--set"), TT_ECONFIG);
    assert_int_equal(tt_config_set(config, command, "seed =1", "--set"), TT_ECONFIG);
    assert_fails(
        tt_config_set(config, command, "seed= 1", "--set"), TT_ECONFIG,
        "--set: seed must be a whole number, not ' 1'; write decimal digits only, as in 0");
    assert_int_equal(tt_config_set(config, TT_SOURCE_DEFAULT, "seed=1", "x"), TT_EINVAL);
    assert_int_equal(tt_config_set(config, TT_SOURCE_PRESET, "seed=1", "x"), TT_EINVAL);
    assert_int_equal(tt_config_set(config, TT_SOURCE_RUN, "seed=1", "x"), TT_EINVAL);
    assert_int_equal(tt_config_int(config, "seed"), 4);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* A key without its section is only suggested where one section has it. */
static void test_ambiguous_suggestion(void **state)
{
    (void)state;
    static const tt_param pair[] = {
        {.key = "first.window",
         .type = TT_TYPE_BOOL,
         .unit = "",
         .default_text = "true",
         .mutability = TT_MUTABLE_NEVER,
         .owner = "test",
         .help = ""},
        {.key = "second.window",
         .type = TT_TYPE_BOOL,
         .unit = "",
         .default_text = "true",
         .mutability = TT_MUTABLE_NEVER,
         .owner = "test",
         .help = ""},
    };
    tt_params *params = test_params();
    assert_ok(tt_params_register(params, pair, 2));
    tt_config *config = test_config(params);
    assert_fails(tt_config_set(config, TT_SOURCE_COMMAND, "window=true", "--set"), TT_ECONFIG,
                 "--set: unknown key 'window'; see the list of parameters");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* ---- what a value may look like ----------------------------------------------------------- */

static void test_values(void **state)
{
    (void)state;
    static const struct {
        const char *assignment;
        const char *value; /* NULL: refused */
    } cases[] = {
        {"kernels.threads=-4", "-4"},
        {"kernels.threads=-0", "0"},
        {"kernels.threads=1024", "1024"},
        {"kernels.threads=1025", NULL},
        {"kernels.threads=-5", NULL},
        {"kernels.threads=+4", NULL},
        {"kernels.threads=04", NULL},
        {"kernels.threads=0x10", NULL},
        {"kernels.threads=1_0", NULL},
        {"kernels.threads=1k", NULL},
        {"kernels.threads=4.0", NULL},
        {"kernels.threads=1e2", NULL},
        {"kernels.threads=auto", NULL},
        {"kernels.threads=-", NULL},
        {"kernels.threads=99999999999999999999999999", NULL},
        {"seed=9223372036854775807", "9223372036854775807"},
        {"seed=9223372036854775808", NULL},
        {"seed=99999999999999999999999999999999999999999", NULL},
        {"kernels.tile_m=48", "48"}, /* the resolver moves it */
        {"kernels.tile_k=48", NULL}, /* nothing would */
        {"kernels.tile_k=64", "64"},
        {"optim.rate=3e-4", "0.0003"},
        {"optim.rate=0.10", "0.1"},
        {"optim.rate=1E-2", "0.01"},
        {"optim.rate=10", "10"},
        {"optim.rate=10.000001", NULL},
        {"optim.rate=.5", NULL},
        {"optim.rate=5.", NULL},
        {"optim.rate=1e", NULL},
        {"optim.rate=nan", NULL},
        {"optim.rate=inf", NULL},
        {"optim.rate=.inf", NULL},
        {"optim.rate=0x1p-2", NULL},
        {"optim.rate=0,5", NULL},
        {"optim.rate=1e-999", NULL},
        {"optim.rate=0e-999", "0"},
        {"gates.loss.max=1e999", NULL},
        {"gates.loss.max=1e308", "1e+308"},
        {"gates.loss.max=123456789012345", "123456789012345"},
        {"gates.loss.max=1e15", "1e+15"},
        {"optim.clip=-0", "-0"},
        {"optim.clip=-1230", "-1230"},
        {"optim.clip=auto", "auto"},
        {"gates.warn=true", "true"},
        {"gates.warn=yes", NULL},
        {"gates.warn=1", NULL},
        {"gates.warn=True", NULL},
        {"kernels.backend=cuda", "cuda"},
        {"kernels.backend=auto", "auto"},
        {"kernels.backend=CUDA", NULL},
        {"kernels.backend=cpu|cuda", NULL},
        {"kernels.backend=cp", NULL},
        {"run.name=auto", "\"auto\""},
        {"run.tag=auto", "auto"},
        {"run.name=null", "\"null\""},
        {"run.name=a\tb", NULL},
        {"run.name=a\nb", NULL},
        {"run.name=\xff", NULL},
        {"run.name=\xc0\x80", NULL},
        {"run.name=\xed\xa0\x80", NULL},
        {"run.name=\xc2\x85", NULL},
        {"run.name=\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
        {"run.name=a \"b\" \\ #c", "\"a \\\"b\\\" \\\\ #c\""},
        {"run.name=\xe2\x80\xa8", "\"\\u2028\""},
    };
    tt_params *params = test_params();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tt_config *config = test_config(params);
        char key[64];
        snprintf(key, sizeof(key), "%.*s", (int)strcspn(cases[i].assignment, "="),
                 cases[i].assignment);
        tt_status status = tt_config_set(config, TT_SOURCE_COMMAND, cases[i].assignment, "--set");
        if (status != (cases[i].value != NULL ? TT_OK : TT_ECONFIG))
            fail_msg("%s: status %d", cases[i].assignment, status);
        if (cases[i].value != NULL)
            assert_value(config, key, cases[i].value);
        tt_config_destroy(config);
    }
    tt_params_destroy(params);
}

static void test_hints(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"kernels.threads=1e2",
         "--set: kernels.threads must be a whole number, not '1e2'; write 100"},
        {"kernels.threads=4.0",
         "--set: kernels.threads must be a whole number, not '4.0'; write 4"},
        {"kernels.tile_k=100",
         "--set: kernels.tile_k is 100, which is not one of its values; the nearest is 128"},
        {"kernels.threads=9999", "--set: kernels.threads is 9999, above its maximum 1024; write a "
                                 "value from -4 to 1024"},
        {"optim.rate=.inf", "--set: optim.rate must be a finite decimal number, not '.inf'; write "
                            "it as in 0.05, 10 or 1e-8"},
        {"optim.rate=1e-999", "--set: optim.rate is 1e-999, too small to represent; write 0"},
        {"gates.warn=yes", "--set: gates.warn must be true or false, not 'yes'; write true"},
        {"gates.warn=Off", "--set: gates.warn must be true or false, not 'Off'; write false"},
        {"gates.warn=2", "--set: gates.warn must be true or false, not '2'; write true or false"},
        {"kernels.backend=gpu", "--set: kernels.backend cannot be 'gpu'; write one of cpu|cuda"},
        {"kernels.threads=auto", "--set: kernels.threads cannot be auto; write a value, as in 0"},
        {"run.name=a\x01", "--set: run.name holds a control character at byte 2; write plain text"},
    };
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_fails(tt_config_set(config, TT_SOURCE_COMMAND, cases[i][0], "--set"), TT_ECONFIG,
                     cases[i][1]);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* ---- versions ----------------------------------------------------------------------------- */

static void test_derive(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *first = test_config(params);
    tt_config *second = NULL;
    tt_config *third = NULL;
    char before[TT_SHA256_HEX];
    char after[TT_SHA256_HEX];
    assert_ok(tt_config_set(first, TT_SOURCE_COMMAND, "run.name=original", "--set"));
    assert_ok(tt_config_digest(first, before));
    assert_ok(tt_config_derive(first, "kernels.tile_m", "64", "tuner at step 0", &second));
    assert_ok(tt_config_derive(second, "kernels.tile_m", "128", "adaptation at step 9", &third));
    assert_ok(tt_config_digest(first, after));
    assert_string_equal(before, after); /* the old version stays as it was */
    assert_int_equal(tt_config_version(first), 1);
    assert_int_equal(tt_config_version(third), 3);
    assert_value(first, "kernels.tile_m", "32");
    assert_value(second, "kernels.tile_m", "64");
    assert_value(third, "kernels.tile_m", "128");
    assert_string_equal(tt_config_origin(third, "kernels.tile_m"), "adaptation at step 9");
    tt_text text; /* what the run had before is the journal's, not a growing list of losers */
    tt_text_init(&text);
    assert_ok(tt_config_explain(third, "kernels.tile_m", &text));
    assert_null(strstr(text.data, "tuner at step 0"));
    tt_text_clear(&text);
    tt_config_destroy(first);
    tt_config_destroy(second);
    assert_string_equal(tt_config_string(third, "run.name"), "original"); /* its own copy */
    tt_config *none = NULL;
    assert_fails(tt_config_derive(third, "model.dim", "8", "tuner", &none), TT_ECONFIG,
                 "tuner: model.dim is part of what the run is and cannot change");
    assert_fails(tt_config_derive(third, "optim.rate", "11", "tuner", &none), TT_ECONFIG,
                 "tuner: optim.rate is 11, above its maximum 10; write a value from 0 to 10");
    assert_int_equal(tt_config_derive(third, "no.key", "1", "tuner", &none), TT_EINTERNAL);
    assert_null(none);
    assert_ok(tt_config_derive(third, "model.vocab", "512", "data", &none)); /* it was auto */
    assert_int_equal(tt_config_int(none, "model.vocab"), 512);
    tt_config_destroy(none);
    tt_config_destroy(third);
    tt_params_destroy(params);
}

static void test_digest(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    char digest[TT_SHA256_HEX];
    char other[TT_SHA256_HEX];
    assert_ok(tt_config_digest(config, digest));
    /* sha256sum over the lines that config.h names. */
    const char *lines = "data.path=\"\"\ngates.loss.max=10\ngates.warn=true\nkernels.backend=auto\n"
                        "kernels.threads=0\nkernels.tile_k=auto\nkernels.tile_m=32\nmodel.dim=256\n"
                        "model.vocab=auto\noptim.clip=1\noptim.rate=0.0003\npreset=none\n"
                        "run.name=\"run\"\nrun.tag=auto\nseed=1\n";
    assert_ok(tt_sha256_of(lines, strlen(lines), other));
    assert_string_equal(digest, other);
    assert_string_equal(digest, "7da731e79181b490483c331cfe1c67bee9864e6679a7d00274e0e145a5695242");
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "seed=1", "--set"));
    assert_ok(tt_config_digest(config, other));
    assert_string_equal(digest, other); /* where a value comes from is not part of it */
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "seed=2", "--set"));
    assert_ok(tt_config_digest(config, other));
    assert_string_not_equal(digest, other);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* ---- provenance --------------------------------------------------------------------------- */

static void test_explain(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    tt_text text;
    tt_text_init(&text);
    assert_ok(tt_config_explain(config, "kernels.backend", &text));
    assert_string_equal(text.data,
                        "kernels.backend = auto\n"
                        "  from default\n"
                        "where tensors live\n"
                        "enum: one of cpu, cuda; or auto; may change on resume; acted on "
                        "by kernels\n");
    tt_text_clear(&text);
    const char *file = "preset: small\n\nkernels:\n  tile_m: 64\n";
    assert_ok(tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", file, strlen(file)));
    apply(&config, TT_SOURCE_ENVIRONMENT);
    apply(&config, TT_SOURCE_CHECKPOINT);
    apply(&config, TT_SOURCE_COMMAND);
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "kernels.tile_m=16", "--tile"));
    assert_ok(tt_config_explain(config, "kernels.tile_m", &text));
    assert_string_equal(text.data,
                        "kernels.tile_m = 16\n"
                        "  from --tile (command line), pinned\n"
                        "  beats --set (command line): 512\n"
                        "  beats TRIMTAB_KERNELS__TILE_M (environment): 256\n"
                        "  beats c.h5:1 (checkpoint): 128\n"
                        "  beats a.yaml:4 (file): 64\n"
                        "  beats preset small: 16\n"
                        "  beats default: 32\n"
                        "rows of an output tile\n"
                        "int: one of 16, 32, 64, 128, 256, 512; or auto; may change at a "
                        "step; acted on by kernels\n");
    tt_text_clear(&text);
    assert_fails(tt_config_explain(config, "kernels.tile_n", &text), TT_ECONFIG,
                 "unknown key 'kernels.tile_n'; did you mean 'kernels.tile_k'?");
    assert_fails(tt_config_explain(config, "kernels", &text), TT_ECONFIG,
                 "'kernels' is a section; name one of its keys");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void test_write_yaml(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    tt_text text;
    tt_text_init(&text);
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, "preset=small", "--preset"));
    assert_ok(tt_config_set(config, TT_SOURCE_FILE, "run.name=it's # \"me\"",
                            "a\nb\xff\xc2\x85\xc3\xa9.yaml:3"));
    assert_ok(tt_config_set(config, TT_SOURCE_FILE, "kernels.tile_m=48", "a.yaml:4"));
    apply(&config, TT_SOURCE_RUN);
    assert_ok(tt_config_write_yaml(config, &text));
    assert_string_equal(text.data,
                        "# trimtab configuration, version 2: every value and where it came from\n"
                        "data:\n"
                        "  path: \"\" # from default\n"
                        "gates:\n"
                        "  loss:\n"
                        "    max: 10 # from default\n"
                        "  warn: true # from default\n"
                        "kernels:\n"
                        "  backend: auto # from default\n"
                        "  threads: 0 # from default\n"
                        "  tile_k: auto # from default\n"
                        "  tile_m: 33 # pinned by a.yaml:4, moved by tuner at step 0\n"
                        "model:\n"
                        "  dim: 256 # from default\n"
                        "  vocab: auto # from default\n"
                        "optim:\n"
                        "  clip: 0 # from preset small\n"
                        "  rate: 0.5 # from preset small\n"
                        "preset: small # pinned by --preset\n"
                        "run:\n"
                        "  name: \"it's # \\\"me\\\"\" # pinned by a?b??\xc3\xa9.yaml:3\n"
                        "  tag: auto # from default\n"
                        "seed: 1 # from default\n");
    tt_text_clear(&text);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_precedence_of_every_pair),
        cmocka_unit_test(test_preset_by_any_source),
        cmocka_unit_test(test_zero_is_a_value),
        cmocka_unit_test(test_pinning),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_environment_is_all_or_nothing),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_ambiguous_suggestion),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_derive),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_write_yaml),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
