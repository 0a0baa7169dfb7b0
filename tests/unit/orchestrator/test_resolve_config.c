/* tt_config_resolve: registered rules, ladders, memory, pins, strictness, advice; and random
 * configurations against brute force. */
#include "test_resolve_table.h"
#include "unit/starve.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
// clang-format on
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != TT_OK)                                                                       \
            fail_msg("%s: %s", #call, tt_error_message());                                         \
    } while (0)

/* ---- one configuration at a time ---------------------------------------------------------- */

static tt_config *configure(const tt_params *params, const char *const *assignments)
{
    tt_config *config = NULL;
    assert_ok(tt_config_create(params, &config));
    for (; *assignments != NULL; assignments++)
        assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, *assignments, "--set"));
    return config;
}

#define SET(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct warnings {
    char text[1024];
    size_t count;
} warnings;

static void take_warning(void *user, tt_log_level level, const char *message)
{
    warnings *w = user;
    assert_int_equal(level, TT_LOG_WARN);
    snprintf(w->text, sizeof w->text, "%s", message);
    w->count++;
}

/* Resolves; compares the values, the trace and the last warning. */
static void expect(const char *const *assignments, const int64_t values[STEERED], const char *trace,
                   const char *warning)
{
    tt_params *params = steered_params();
    tt_config *config = configure(params, assignments);
    tt_config *out = (tt_config *)-1;
    warnings seen = {.count = 0};
    const tt_log_sink log = {take_warning, &seen};
    tt_resolve_options options = steered_options(false);
    options.log = &log;
    tt_text text;
    tt_text_init(&text);
    assert_ok(tt_config_resolve(config, &options, &out, &text));
    assert_string_equal(text.data, trace);
    assert_string_equal(seen.text, warning);
    assert_true((out == NULL) == (*trace == '\0'));
    int64_t got[STEERED];
    steered_values(out != NULL ? out : config, got);
    for (size_t k = 0; k < STEERED; k++)
        assert_int_equal(got[k], values[k]);
    if (out != NULL) { /* it stays as it is, and knows who moved it */
        tt_config *again = (tt_config *)-1;
        assert_true(tt_config_version(out) > tt_config_version(config));
        assert_ok(tt_config_resolve(out, &options, &again, NULL));
        assert_null(again);
    }
    tt_config_destroy(out);
    tt_text_clear(&text);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

#define VALUES(...) ((const int64_t[STEERED]){__VA_ARGS__})
enum { INT8, BF16, F32 };

static void test_defaults_stay(void **state)
{
    (void)state;
    expect(SET("model.head_dim=64"), VALUES(64, F32, 64, F32, 8, 16), "", "");
}

static void test_moves_to_the_lattice(void **state)
{
    (void)state;
    expect(SET("kernels.tile_k=100", "compression.block=30"), VALUES(128, F32, 32, F32, 8, 16),
           "warning: kernels.tile_k 100 -> 128 (set by --set; nearest on the lattice)\n"
           "warning: compression.block 30 -> 32 (set by --set; nearest on the lattice)\n",
           "--set: compression.block 30 is not possible, using the nearest legal value 32");
}

static void test_a_rule_between_tiers(void **state)
{
    (void)state;
    /* The user's block of 48 stands in the way of no pinned tile: the tile moves, being free. */
    expect(SET("compression.block=48", "model.head_dim=96"), VALUES(16, F32, 48, F32, 8, 16),
           "kernels.tile_k 64 -> 16 (rule 'block divides tile_k or the reverse')\n", "");
    /* Two pins: the higher tier keeps its value. */
    expect(SET("compression.block=48", "kernels.tile_k=64", "model.head_dim=96"),
           VALUES(64, F32, 64, F32, 8, 16),
           "warning: compression.block 48 -> 64 (set by --set; rule 'block divides tile_k or the "
           "reverse')\n",
           "--set: compression.block 48 is not possible, using the nearest legal value 64");
}

static void test_a_ladder_in_a_rule(void **state)
{
    (void)state;
    expect(SET("compression.moments=int8", "compression.block=128"),
           VALUES(64, F32, 128, BF16, 8, 16),
           "warning: compression.moments int8 -> bf16 (set by --set; rule 'int8 moments have small "
           "blocks')\n",
           "--set: compression.moments int8 is not possible, using the nearest legal value bf16");
}

static void test_memory_takes_the_lowest_tier_first(void **state)
{
    (void)state;
    /* 64*2 + 800 + 400 + 150 + 8*16*4 = 1990 */
    expect(SET("run.memory_budget=1990"), VALUES(64, F32, 64, F32, 8, 16), "", "");
    expect(SET("run.memory_budget=1989"), VALUES(64, F32, 64, F32, 8, 8),
           "rlvr.page_tokens 16 -> 8 (memory: rule 'memory budget')\n", "");
    expect(SET("run.memory_budget=1500"), VALUES(64, F32, 64, BF16, 8, 8),
           "compression.moments f32 -> bf16 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n"
           "rlvr.page_tokens 16 -> 8 (memory: rule 'memory budget')\n",
           "");
    /* The last: 32 + 200 + 100 + 75 + 32 = 439, but int8 moments forbid the large block. */
    expect(SET("run.memory_budget=514"), VALUES(16, INT8, 64, INT8, 1, 8),
           "kernels.tile_k 64 -> 16 (memory: rule 'memory budget'; lower keys cannot make room)\n"
           "compression.activations f32 -> int8 (memory: rule 'memory budget'; lower keys cannot "
           "make room)\n"
           "compression.moments f32 -> int8 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n"
           "rlvr.group 8 -> 1 (memory: rule 'memory budget')\n"
           "rlvr.page_tokens 16 -> 8 (memory: rule 'memory budget')\n",
           "");
}

/* Larger blocks need less: that is the direction in which memory moves this key. */
static void test_memory_that_falls(void **state)
{
    (void)state;
    /* 32 + 800 + 400 + 150 + 32 = 1414; 96 would do, but divides no page */
    expect(SET("rlvr.group=1", "rlvr.page_tokens=8", "compression.moments=f32",
               "compression.activations=f32", "kernels.tile_k=16", "run.memory_budget=1413"),
           VALUES(16, F32, 128, F32, 1, 8),
           "compression.block 64 -> 128 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n",
           "");
}

static void test_memory_without_an_estimate(void **state)
{
    (void)state;
    tt_params *params = steered_params();
    tt_config *config = configure(params, SET("run.memory_budget=1"));
    tt_config *out = (tt_config *)-1;
    tt_resolve_options options;
    tt_resolve_options_init(&options);
    assert_ok(tt_config_resolve(config, &options, &out, NULL));
    assert_null(out);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* A registered memory rule is one like the budget. */
static void test_a_registered_memory_rule(void **state)
{
    (void)state;
    expect(SET("rlvr.pool=64"), VALUES(64, F32, 64, F32, 8, 8),
           "rlvr.page_tokens 16 -> 8 (memory: rule 'pages fit into the pool')\n", "");
}

static void test_auto_is_left_out(void **state)
{
    (void)state;
    expect(SET("kernels.tile_k=auto", "compression.block=48", "model.head_dim=96"),
           VALUES(64, F32, 48, F32, 8, 16), "", ""); /* no rule about tile_k yet */
    expect(SET("compression.moments=auto", "rlvr.pool=auto", "model.head_dim=auto"),
           VALUES(64, F32, 64, F32, 8, 16), "", "");
}

static void refused(const char *const *assignments, bool strict, const char *message)
{
    tt_params *params = steered_params();
    tt_config *config = configure(params, assignments);
    tt_config *out = (tt_config *)-1;
    tt_resolve_options options = steered_options(strict);
    assert_int_equal(tt_config_resolve(config, &options, &out, NULL), TT_ECONFIG);
    assert_string_equal(tt_error_message(), message);
    assert_ptr_equal(out, (tt_config *)-1);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void test_refusals(void **state)
{
    (void)state;
    /* No key of it can move: all are named, with their places. */
    refused(SET("compression.bound=0.06"), false,
            "'bound is at most the gate's' does not hold: compression.bound = 0.06 (--set), "
            "gates.max = 0.05 (default); change one of them");
    /* Some can, but not far enough: what they rest on is named too. */
    refused(
        SET("model.head_dim=5", "rlvr.pool=8", "rlvr.group=2"), false,
        "'a page is a multiple of the block' and 'pages fit into the pool' cannot hold together "
        "for any legal value of compression.block = 64 (default), rlvr.group = 2 (--set), "
        "rlvr.page_tokens = 16 (default); change model.head_dim = 5 (--set), rlvr.pool = 8 "
        "(--set)");
    refused(SET("run.memory_budget=300"), false,
            "'memory budget' cannot hold for any legal value of kernels.tile_k = 64 (default), "
            "compression.activations = f32 (default), compression.block = 64 (default), "
            "compression.moments = f32 (default), rlvr.group = 8 (default), rlvr.page_tokens = 16 "
            "(default); change run.memory_budget = 300 (--set): at least 439 is needed");
}

static void test_strict(void **state)
{
    (void)state;
    refused(SET("kernels.tile_k=48"), true,
            "--set: kernels.tile_k 48 is not possible, the nearest legal value is 64 (--strict "
            "refuses to move it)");
    refused(SET("compression.moments=int8", "compression.block=128"), true,
            "--set: compression.moments int8 is not possible, the nearest legal value is bf16 "
            "(--strict refuses to move it)");
    /* What nobody set may move. */
    tt_params *params = steered_params();
    tt_config *config = configure(params, SET("run.memory_budget=1989"));
    tt_config *out = NULL;
    tt_resolve_options options = steered_options(true);
    assert_ok(tt_config_resolve(config, &options, &out, NULL));
    assert_int_equal(tt_config_int(out, "rlvr.page_tokens"), 8);
    assert_string_equal(tt_config_origin(out, "rlvr.page_tokens"), "resolver");
    tt_config_destroy(out);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* A pin that had to move is still the user's: messages name the user's place, not the resolver. */
static void test_a_moved_pin_keeps_its_origin(void **state)
{
    (void)state;
    tt_params *params = steered_params();
    tt_config *config = configure(params, SET("compression.block=100"));
    tt_config *moved = NULL;
    tt_config *tighter = NULL;
    tt_config *out = NULL;
    tt_text trace;
    tt_text_init(&trace);
    tt_resolve_options options = steered_options(false);
    assert_ok(tt_config_resolve(config, &options, &moved, NULL));
    assert_int_equal(tt_config_int(moved, "compression.block"), 128);
    assert_ok(tt_config_derive(moved, "model.head_dim", "1", "a test", &tighter));
    assert_ok(tt_config_resolve(tighter, &options, &out, &trace));
    assert_string_equal(trace.data, "warning: compression.block 128 -> 64 (set by --set; rule 'a "
                                    "page is a multiple of the block')\n"
                                    "rlvr.page_tokens 16 -> 64 (rule 'a page is a multiple of the "
                                    "block')\n");
    tt_text_clear(&trace);
    tt_config_destroy(out);
    tt_config_destroy(tighter);
    tt_config_destroy(moved);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void test_advice(void **state)
{
    (void)state;
    tt_params *params = steered_params();
    tt_text text;
    tt_text_init(&text);
    static const char *const cases[][2] = {
        {"compression.bound=0.1", ""},
        {"compression.bound=0.2", "compression.bound = 0.2 (--set): prefer 0.1\n"},
        {"compression.bound=auto", ""},
    };
    for (size_t i = 0; i < 3; i++) {
        tt_config *config = configure(params, SET(cases[i][0]));
        assert_ok(tt_config_advise(config, &text));
        assert_string_equal(text.data, cases[i][1]);
        tt_text_clear(&text);
        tt_config_destroy(config);
    }
    tt_params_destroy(params);
}

/* ---- registering -------------------------------------------------------------------------- */

static bool always(const void *user, const tt_value *values)
{
    (void)user;
    (void)values;
    return true;
}

static void test_registering(void **state)
{
    (void)state;
    static const tt_param extra[] = {
        {.key = "a.text",
         .type = TT_TYPE_STRING,
         .unit = "",
         .default_text = "",
         .mutability = TT_MUTABLE_NEVER,
         .owner = "test",
         .help = "text"},
        {.key = "a.flag",
         .type = TT_TYPE_BOOL,
         .unit = "",
         .default_text = "true",
         .mutability = TT_MUTABLE_NEVER,
         .owner = "test",
         .help = "a switch"},
    };
    static const struct {
        tt_rule rule;
        const char *message;
    } rules[] = {
        {{.keys = {"a.flag"}, .holds = always}, "rule 0 of a table lacks a name or a function"},
        {{.name = "x", .keys = {"a.flag"}}, "rule 0 of a table lacks a name or a function"},
        {{.name = "x", .holds = always}, "rule 'x' names no key"},
        {{.name = "x", .keys = {"a.b"}, .holds = always},
         "rule 'x' names 'a.b', which is not registered"},
        {{.name = "x", .keys = {"a.flag", "a.text"}, .holds = always},
         "rule 'x' names a.text, which is text"},
        {{.name = "x", .keys = {"a.flag", "a.flag", "a.flag", "a.flag"}, .holds = always}, NULL},
    };
    static const struct {
        tt_advice advice;
        const char *message;
    } advice[] = {
        {{.keys = {"a.flag"}, .applies = always}, "advice 0 of a table lacks a text or a function"},
        {{.keys = {"a.flag"}, .text = "x"}, "advice 0 of a table lacks a text or a function"},
        {{.text = "x", .applies = always}, "an advice names no key"},
        {{.keys = {"a.flag"}, .text = "x", .applies = always}, NULL},
    };
    tt_params *params = NULL;
    assert_ok(tt_params_create(&params));
    assert_ok(tt_params_register(params, extra, 2));
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        tt_status status = tt_params_register_rules(params, &rules[i].rule, 1);
        assert_int_equal(status, rules[i].message != NULL ? TT_EINTERNAL : TT_OK);
        if (rules[i].message != NULL)
            assert_string_equal(tt_error_message(), rules[i].message);
    }
    for (size_t i = 0; i < sizeof advice / sizeof *advice; i++) {
        tt_status status = tt_params_register_advice(params, &advice[i].advice, 1);
        assert_int_equal(status, advice[i].message != NULL ? TT_EINTERNAL : TT_OK);
        if (advice[i].message != NULL)
            assert_string_equal(tt_error_message(), advice[i].message);
    }
    for (int i = 0; i < TT_RESOLVE_MAX_RULES - 2; i++)
        assert_ok(tt_params_register_rules(params, &rules[5].rule, 1));
    assert_int_equal(tt_params_register_rules(params, &rules[5].rule, 1), TT_EINTERNAL);
    assert_string_equal(tt_error_message(),
                        "64 rules are more than the 63 that the resolver takes");
    tt_params_destroy(params);
}

static void test_ladders_are_checked(void **state)
{
    (void)state;
    static const char *const wrong = "parameter a.b: a ladder is a few choices of an enum with a "
                                     "tier";
    static const struct {
        tt_type type;
        tt_tier tier;
        const char *choices;
        bool fine;
    } cases[] = {
        {TT_TYPE_ENUM, TT_TIER_RLVR, "a|b|c|d|e|f|g|h", true},
        {TT_TYPE_ENUM, TT_TIER_RLVR, "a|b|c|d|e|f|g|h|i", false},
        {TT_TYPE_ENUM, TT_TIER_NONE, "a|b", false},
        {TT_TYPE_ENUM, TT_TIER_TILE,
         "a|bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", false},
        {TT_TYPE_STRING, TT_TIER_TILE, NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tt_params *params = NULL;
        const tt_param param = {.key = "a.b",
                                .type = cases[i].type,
                                .unit = "",
                                .default_text = "a",
                                .choices = cases[i].choices,
                                .ladder = true,
                                .tier = cases[i].tier,
                                .mutability = TT_MUTABLE_AT_STEP,
                                .owner = "test",
                                .help = "a ladder"};
        assert_ok(tt_params_create(&params));
        tt_status status = tt_params_register(params, &param, 1);
        assert_int_equal(status, cases[i].fine ? TT_OK : TT_EINTERNAL);
        if (!cases[i].fine)
            assert_string_equal(tt_error_message(), wrong);
        tt_params_destroy(params);
    }
}

/* One key more than the resolver takes; and keys with a tier that it has no way to move. */
static void test_too_many_keys(void **state)
{
    (void)state;
    enum { COUNT = TT_RESOLVE_MAX_KEYS + 1 };
    static const int64_t two[] = {1, 2};
    static char names[COUNT + 1][16];
    static tt_param table[COUNT + 1];
    for (int i = 0; i <= COUNT; i++) {
        snprintf(names[i], sizeof names[i], "a.k%02d", i);
        table[i] = (tt_param){.key = names[i],
                              .type = TT_TYPE_INT,
                              .unit = "",
                              .default_text = "1",
                              .minimum = 1,
                              .maximum = 2,
                              .lattice = i < COUNT ? two : NULL,
                              .lattice_count = i < COUNT ? 2 : 0,
                              .mutability = TT_MUTABLE_AT_STEP,
                              .tier = TT_TIER_RLVR,
                              .owner = "test",
                              .help = "a key"};
    }
    for (int less = 0; less < 2; less++) {
        tt_params *params = NULL;
        tt_config *config = NULL;
        tt_config *out = NULL;
        tt_resolve_options options;
        tt_resolve_options_init(&options);
        assert_ok(tt_params_create(&params));
        assert_ok(tt_params_register(params, table + less, COUNT));
        assert_ok(tt_config_create(params, &config));
        tt_status status = tt_config_resolve(config, &options, &out, NULL);
        assert_int_equal(status, less == 1 ? TT_OK : TT_EINTERNAL);
        if (status != TT_OK)
            assert_string_equal(tt_error_message(), "a.k16 is one steered parameter more than the "
                                                    "16 that the resolver takes");
        tt_config_destroy(config);
        tt_params_destroy(params);
    }
}

static bool only_two_of_four(const void *user, const tt_value *v)
{
    (void)user;
    return v[0].as.boolean + v[1].as.boolean + v[2].as.boolean + v[3].as.boolean == 2;
}

/* As many keys as a rule can have; and no parameter for a memory budget. */
static void test_four_keys(void **state)
{
    (void)state;
    static const char *const names[] = {"a.a", "a.b", "a.c", "a.d"};
    static const tt_rule rule = {
        .name = "two of four", .keys = {"a.a", "a.b", "a.c", "a.d"}, .holds = only_two_of_four};
    tt_param table[4];
    tt_params *params = NULL;
    tt_config *out = NULL;
    tt_resolve_options options = steered_options(false);
    for (int i = 0; i < 4; i++)
        table[i] = (tt_param){.key = names[i],
                              .type = TT_TYPE_BOOL,
                              .unit = "",
                              .default_text = i < 2 ? "true" : "false",
                              .mutability = TT_MUTABLE_AT_RESUME,
                              .owner = "test",
                              .help = "a switch"};
    assert_ok(tt_params_create(&params));
    assert_ok(tt_params_register(params, table, 4));
    assert_ok(tt_params_register_rules(params, &rule, 1));
    tt_config *config = configure(params, SET("a.a=true"));
    assert_ok(tt_config_resolve(config, &options, &out, NULL));
    assert_null(out);
    tt_config_destroy(config);
    config = configure(params, SET("a.a=false"));
    assert_int_equal(tt_config_resolve(config, &options, &out, NULL), TT_ECONFIG);
    assert_string_equal(tt_error_message(),
                        "'two of four' does not hold: a.a = false (--set), a.b = true (default), "
                        "a.c = false (default), a.d = false (default); change one of them");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* ---- without memory ----------------------------------------------------------------------- */

/* Whatever allocation fails: TT_ENOMEM, and nothing was changed. */
static void test_starvation(void **state)
{
    (void)state;
    const char *const *const cases[] = {
        SET("run.memory_budget=1500", "kernels.tile_k=48"), /* moves, with a trace */
        SET("compression.bound=0.06"),                      /* a rule of standing keys breaks */
        SET("run.memory_budget=300"),                       /* no legal value */
    };
    for (size_t c = 0; c < 3; c++) {
        tt_params *params = steered_params();
        tt_config *config = configure(params, cases[c]);
        tt_resolve_options options = steered_options(false);
        bool starved = true;
        for (int at = 0; starved; at++) {
            tt_config *out = NULL;
            tt_text trace;
            tt_text_init(&trace);
            starve_at(at, at % 2 != 0);
            tt_status status = tt_config_resolve(config, &options, &out, &trace);
            starved = starve_end();
            assert_int_equal(status, starved ? TT_ENOMEM : c == 0 ? TT_OK : TT_ECONFIG);
            assert_true(status == TT_OK || out == NULL);
            tt_config_destroy(out);
            tt_text_clear(&trace);
            assert_true(at < 10000);
        }
        tt_config_destroy(config);
        tt_params_destroy(params);
    }
}

static void test_starved_tables(void **state)
{
    (void)state;
    static const tt_rule rule = {.name = "x", .keys = {"preset"}, .holds = always};
    static const tt_advice advice = {.keys = {"preset"}, .text = "x", .applies = always};
    tt_params *params = NULL;
    tt_text text;
    tt_text_init(&text);
    assert_ok(tt_params_create(&params));
    starve_at(0, false);
    assert_int_equal(tt_params_register_rules(params, &rule, 1), TT_ENOMEM);
    starve_at(0, false);
    assert_int_equal(tt_params_register_advice(params, &advice, 1), TT_ENOMEM);
    assert_true(starve_end());
    assert_ok(tt_params_register_advice(params, &advice, 1));
    tt_config *config = NULL;
    assert_ok(tt_config_create(params, &config));
    starve_at(0, true);
    assert_int_equal(tt_config_advise(config, &text), TT_ENOMEM);
    assert_true(starve_end());
    tt_text_clear(&text);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* ---- random configurations ---------------------------------------------------------------- */

#ifdef __OPTIMIZE__
enum { CASES = 4000 };
#else
enum { CASES = 500 };
#endif

static size_t below(uint64_t *state, size_t bound)
{
    return (size_t)(random_next(state) % bound);
}

static tt_config *random_config(const tt_params *params, uint64_t *state)
{
    tt_config *config = configure(params, (const char *const[]){NULL});
    static const tt_source sources[] = {TT_SOURCE_ENVIRONMENT, TT_SOURCE_COMMAND};
    char text[96];
    char value[32];
    for (size_t k = 0; k < STEERED; k++) {
        size_t count;
        const int64_t *lattice = steered_lattice(k, &count);
        size_t kind = below(state, 8);
        bool ladder = k == MOMENTS || k == ACTIVATIONS;
        int64_t wanted = lattice[below(state, count)];
        if (kind == 1 && !ladder)
            wanted = 1 + (int64_t)below(state, 200); /* beside the lattice, mostly */
        snprintf(text, sizeof text, "%s=%s", steered_keys[k],
                 kind == 0 ? "auto" : steered_text(k, wanted, value));
        if (kind < 5)
            assert_ok(tt_config_set(config, sources[kind % 2], text, "user"));
    }
    static const char *const head_dims[] = {"8", "12", "48", "64", "96"};
    snprintf(text, sizeof text, "model.head_dim=%s", head_dims[below(state, 5)]);
    assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, text, "user"));
    if (below(state, 2) == 0) {
        snprintf(text, sizeof text, "rlvr.pool=%zu", 8 + below(state, 200));
        assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, text, "user"));
    }
    if (below(state, 4) != 0) {
        snprintf(text, sizeof text, TT_MEMORY_BUDGET_KEY "=%zu", 400 + below(state, 2000));
        assert_ok(tt_config_set(config, TT_SOURCE_COMMAND, text, "user"));
    }
    return config;
}

static size_t count_lines(const char *text, const char *start)
{
    size_t count = 0;
    for (; *text != '\0'; text = strchr(text, '\n') + 1)
        count += strncmp(text, start, strlen(start)) == 0;
    return count;
}

#define CHECK(number, condition)                                                                   \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("case %d: not so: %s", number, #condition);                                   \
    } while (0)

static void test_random_configurations(void **state)
{
    (void)state;
    tt_params *params = steered_params();
    size_t refusals = 0, moves = 0, pinned_moves = 0;
    for (int number = 0; number < CASES; number++) {
        static random_case c;
        uint64_t random = (uint64_t)number;
        tt_config *config = random_config(params, &random);
        tt_config *out = NULL;
        size_t places[STEERED];
        int64_t expected[CASE_KEYS];
        tt_text trace;
        tt_text_init(&trace);
        tt_resolve_options options = steered_options(false);
        tt_status status = tt_config_resolve(config, &options, &out, &trace);
        steered_case(config, &c, places);
        bool possible = oracle_resolve(&c, (1U << c.rule_count) - 1, expected);
        CHECK(number, status == (possible ? TT_OK : TT_ECONFIG));
        size_t moved = 0, pinned = 0;
        int64_t got[STEERED];
        steered_values(out != NULL ? out : config, got);
        for (size_t i = 0; possible && i < c.key_count; i++) {
            CHECK(number, got[places[i]] == expected[i]);
            moved += expected[i] != c.keys[i].request;
            pinned += expected[i] != c.keys[i].request && c.keys[i].pinned;
        }
        if (possible) {
            CHECK(number, steered_is_legal(out != NULL ? out : config));
            CHECK(number, (out != NULL) == (moved > 0));
            CHECK(number, count_lines(trace.data, "") == moved);
            CHECK(number, count_lines(trace.data, "warning: ") == pinned);
            tt_config *again = NULL;
            options.strict = true;
            status = tt_config_resolve(config, &options, &again, NULL);
            CHECK(number, status == (pinned > 0 ? TT_ECONFIG : TT_OK));
            tt_config_destroy(again);
        }
        refusals += !possible;
        moves += moved;
        pinned_moves += pinned;
        tt_config_destroy(out);
        tt_text_clear(&trace);
        tt_config_destroy(config);
    }
    print_message("%d configurations: %zu keys moved (%zu pinned), %zu refused\n", CASES, moves,
                  pinned_moves, refusals);
    assert_true(moves > CASES && pinned_moves > CASES / 4);
    assert_true(refusals > CASES / 50 && refusals < CASES / 2);
    tt_params_destroy(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_stay),
        cmocka_unit_test(test_moves_to_the_lattice),
        cmocka_unit_test(test_a_rule_between_tiers),
        cmocka_unit_test(test_a_ladder_in_a_rule),
        cmocka_unit_test(test_memory_takes_the_lowest_tier_first),
        cmocka_unit_test(test_memory_that_falls),
        cmocka_unit_test(test_memory_without_an_estimate),
        cmocka_unit_test(test_a_registered_memory_rule),
        cmocka_unit_test(test_auto_is_left_out),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_a_moved_pin_keeps_its_origin),
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_registering),
        cmocka_unit_test(test_ladders_are_checked),
        cmocka_unit_test(test_too_many_keys),
        cmocka_unit_test(test_four_keys),
        cmocka_unit_test(test_starvation),
        cmocka_unit_test(test_starved_tables),
        cmocka_unit_test(test_random_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
