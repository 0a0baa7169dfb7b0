/* The resolver on the keys it was made for; what it says; what it refuses. */
#include "trimtab/config.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <string.h>
#include <time.h>

static const int64_t tiles[] = {16, 32, 64, 128, 256, 512};
static const int64_t blocks[] = {32, 64, 128, 256, 512, 1024, 2048, 4096};
static const int64_t pages[] = {8, 16, 32, 64};
static const int64_t groups[] = {1, 2, 4, 8, 16};

enum { TILE_M, TILE_K, BLOCK, PAGE, GROUP, KEYS };

typedef struct setup {
    tt_resolve_key keys[KEYS];
    tt_resolve_rule rules[3];
    int64_t head_dim;
    int64_t budget;
} setup;

static bool divides(const void *user, const int64_t *v)
{
    (void)user;
    return v[0] % v[1] == 0 || v[1] % v[0] == 0;
}

static bool page_fits_block(const void *user, const int64_t *v)
{
    const setup *s = user;
    return v[0] * s->head_dim % v[1] == 0;
}

static bool within_budget(const void *user, const int64_t *v)
{
    const setup *s = user;
    return v[TILE_M] * 100 + v[TILE_K] * 100 + v[BLOCK] * 10 + v[PAGE] + v[GROUP] * 50 <= s->budget;
}

#define KEY(id, tier_, values_, request_)                                                          \
    {                                                                                              \
        .name = id, .tier = tier_, .values = values_,                                              \
        .value_count = sizeof(values_) / sizeof((values_)[0]), .request = request_,                \
        .origin = "default"                                                                        \
    }

static void make(setup *s)
{
    const setup fresh = {
        .keys = {KEY("kernels.tile_m", TT_TIER_TILE, tiles, 32),
                 KEY("kernels.tile_k", TT_TIER_TILE, tiles, 32),
                 KEY("compression.block", TT_TIER_COMPRESSION, blocks, 64),
                 KEY("rlvr.page_tokens", TT_TIER_RLVR, pages, 16),
                 KEY("rlvr.group", TT_TIER_RLVR, groups, 8)},
        .rules =
            {{"block divides tile_k or the reverse", {BLOCK, TILE_K}, 2, divides, s, false, NULL},
             {"page_tokens x head_dim is a multiple of block",
              {PAGE, BLOCK},
              2,
              page_fits_block,
              s,
              false,
              NULL},
             {"memory budget", {0}, 0, within_budget, s, true, NULL}},
        .head_dim = 64,
        .budget = 1000000,
    };
    *s = fresh;
}

/* Resolves and compares values and trace. */
static void expect(const setup *s, const int64_t *values, const char *trace)
{
    tt_resolution got;
    tt_text text;
    tt_text_init(&text);
    assert_int_equal(tt_resolve(s->keys, KEYS, s->rules, 3, &got, &text), TT_OK);
    assert_string_equal(text.data, trace);
    for (size_t k = 0; k < KEYS; k++)
        assert_int_equal(got.values[k], values[k]);
    tt_text_clear(&text);
}

static void test_defaults_stay(void **state)
{
    (void)state;
    setup s;
    make(&s);
    expect(&s, (int64_t[]){32, 32, 64, 16, 8}, "");
}

static void test_nearest_and_ties(void **state)
{
    (void)state;
    setup s;
    make(&s);
    s.keys[TILE_M].request = 48; /* as near to 32 as to 64: the larger */
    s.keys[TILE_K].request = 47;
    s.keys[PAGE].request = 1000;
    s.keys[GROUP].request = -3;
    expect(&s, (int64_t[]){64, 32, 64, 64, 1},
           "kernels.tile_m 48 -> 64 (nearest on the lattice)\n"
           "kernels.tile_k 47 -> 32 (nearest on the lattice)\n"
           "rlvr.page_tokens 1000 -> 64 (nearest on the lattice)\n"
           "rlvr.group -3 -> 1 (nearest on the lattice)\n");
}

static void test_extreme_requests(void **state)
{
    (void)state;
    setup s;
    make(&s);
    s.keys[TILE_M].request = INT64_MAX;
    s.keys[TILE_K].request = INT64_MIN;
    expect(&s, (int64_t[]){512, 16, 64, 16, 8},
           "kernels.tile_m 9223372036854775807 -> 512 (nearest on the lattice)\n"
           "kernels.tile_k -9223372036854775808 -> 16 (nearest on the lattice)\n");
}

/* The lower tier yields: a block of 2048 does not go into a page of 16 x 64. */
static void test_lower_tier_yields(void **state)
{
    (void)state;
    setup s;
    make(&s);
    s.keys[BLOCK].request = 2048;
    expect(&s, (int64_t[]){32, 32, 2048, 32, 8},
           "rlvr.page_tokens 16 -> 32 (rule 'page_tokens x head_dim is a multiple of block')\n");
    s.head_dim = 1; /* 64 is all a page can be a multiple of */
    expect(&s, (int64_t[]){32, 32, 64, 64, 8},
           "compression.block 2048 -> 64 (rule 'page_tokens x head_dim is a multiple of block')\n"
           "rlvr.page_tokens 16 -> 64 (rule 'page_tokens x head_dim is a multiple of block')\n");
}

static void test_memory_takes_rlvr_first(void **state)
{
    (void)state;
    setup s;
    make(&s);
    int64_t used = 32 * 100 + 32 * 100 + 64 * 10 + 16 + 8 * 50;
    s.budget = used;
    expect(&s, (int64_t[]){32, 32, 64, 16, 8}, "");
    s.budget = used - 1; /* the last key in position gives first */
    expect(&s, (int64_t[]){32, 32, 64, 16, 4},
           "rlvr.group 8 -> 4 (memory: rule 'memory budget')\n");
    s.budget = used - 7 * 50 - 1; /* group at its minimum is not enough */
    expect(&s, (int64_t[]){32, 32, 64, 8, 1},
           "rlvr.page_tokens 16 -> 8 (memory: rule 'memory budget')\n"
           "rlvr.group 8 -> 1 (memory: rule 'memory budget')\n");
    s.budget = used - 7 * 50 - 8 - 1; /* nor are all RLVR keys; the room left goes back to them */
    expect(&s, (int64_t[]){32, 32, 32, 16, 4},
           "compression.block 64 -> 32 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n"
           "rlvr.group 8 -> 4 (memory: rule 'memory budget')\n");
    s.budget = 16 * 100 + 16 * 100 + 320 + 8 + 50; /* everything at its minimum */
    expect(&s, (int64_t[]){16, 16, 32, 8, 1},
           "kernels.tile_m 32 -> 16 (memory: rule 'memory budget'; lower keys cannot make room)\n"
           "kernels.tile_k 32 -> 16 (memory: rule 'memory budget'; lower keys cannot make room)\n"
           "compression.block 64 -> 32 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n"
           "rlvr.page_tokens 16 -> 8 (memory: rule 'memory budget')\n"
           "rlvr.group 8 -> 1 (memory: rule 'memory budget')\n");
}

/* Where a move for memory would break another rule too, memory is named. */
static void test_memory_is_named_first(void **state)
{
    (void)state;
    setup s;
    make(&s);
    s.head_dim = 2; /* a block of 64 needs a page of 32 */
    s.budget = 32 * 100 + 32 * 100 + 64 * 10 + 32 + 50 - 1;
    expect(&s, (int64_t[]){32, 32, 32, 16, 4},
           "compression.block 64 -> 32 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n"
           "rlvr.group 8 -> 4 (memory: rule 'memory budget')\n");
}

static void test_pins(void **state)
{
    (void)state;
    setup s;
    make(&s);
    int64_t used = 32 * 100 + 32 * 100 + 64 * 10 + 16 + 8 * 50;
    s.budget = used - 1;
    s.keys[GROUP].pinned = true; /* another key yields for it, of its tier first */
    s.keys[GROUP].origin = "a.yaml:7";
    expect(&s, (int64_t[]){32, 32, 64, 8, 8},
           "rlvr.page_tokens 16 -> 8 (memory: rule 'memory budget')\n");
    s.budget = used - 9; /* and then even a higher one */
    expect(&s, (int64_t[]){32, 32, 32, 16, 8},
           "compression.block 64 -> 32 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n");
    s.budget = 16 * 100 + 16 * 100 + 320 + 8 + 7 * 50; /* nothing keeps it: moved, with a warning */
    expect(&s, (int64_t[]){16, 16, 32, 16, 4},
           "kernels.tile_m 32 -> 16 (memory: rule 'memory budget'; lower keys cannot make room)\n"
           "kernels.tile_k 32 -> 16 (memory: rule 'memory budget'; lower keys cannot make room)\n"
           "compression.block 64 -> 32 (memory: rule 'memory budget'; lower keys cannot make "
           "room)\n"
           "warning: rlvr.group 8 -> 4 (set by a.yaml:7; memory: rule 'memory budget')\n");
}

static void test_pins_against_each_other(void **state)
{
    (void)state;
    setup s;
    make(&s);
    s.head_dim = 2;
    s.keys[BLOCK].request = 128; /* needs a page of 64 */
    s.keys[BLOCK].pinned = true;
    s.keys[PAGE].pinned = true;
    s.keys[PAGE].origin = "TRIMTAB_RLVR__PAGE_TOKENS";
    expect(&s, (int64_t[]){32, 32, 128, 64, 8},
           "warning: rlvr.page_tokens 16 -> 64 (set by TRIMTAB_RLVR__PAGE_TOKENS; rule "
           "'page_tokens x head_dim is a multiple of block')\n");
    s.keys[BLOCK].pinned = false; /* now the page stays and the block of the higher tier moves */
    expect(&s, (int64_t[]){32, 32, 32, 16, 8},
           "compression.block 128 -> 32 (rule 'page_tokens x head_dim is a multiple of block')\n");
    s.keys[BLOCK].request = 100; /* a pin beside its lattice cannot stay */
    s.keys[BLOCK].pinned = true;
    s.keys[BLOCK].origin = "--set";
    s.head_dim = 64;
    expect(&s, (int64_t[]){32, 32, 128, 16, 8},
           "warning: compression.block 100 -> 128 (set by --set; nearest on the lattice)\n");
}

/* Tier, then position, whatever the order of the array. */
static void test_order_of_array(void **state)
{
    (void)state;
    setup s;
    make(&s);
    tt_resolve_key keys[2] = {s.keys[PAGE], s.keys[BLOCK]};
    keys[1].request = 2048;
    const tt_resolve_rule rule = {"page", {0, 1}, 2, page_fits_block, &s, false, NULL};
    tt_resolution got;
    assert_int_equal(tt_resolve(keys, 2, &rule, 1, &got, NULL), TT_OK);
    assert_int_equal(got.values[0], 32);
    assert_int_equal(got.values[1], 2048);
}

static void test_refusal_names_keys(void **state)
{
    (void)state;
    setup s;
    make(&s);
    tt_resolution got = {.values = {-1}};
    s.head_dim =
        5; /* no block divides 5 x page: 40, 80, 160, 320 hold 32 and 64 only as 160, 320 */
    s.keys[BLOCK].values = blocks + 2;
    s.keys[BLOCK].value_count = 6;
    s.keys[BLOCK].origin = "a.yaml:4";
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_ECONFIG);
    assert_string_equal(tt_error_message(),
                        "'page_tokens x head_dim is a multiple of block' cannot hold for any legal "
                        "value of compression.block = 64 (a.yaml:4), rlvr.page_tokens = 16 "
                        "(default); change what the rule depends on");
    assert_int_equal(got.values[0], -1);
    make(&s);
    s.budget = 100;
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "'memory budget' cannot hold for any legal value of "
                                               "kernels.tile_m = 32 (default), kernels.tile_k"));
    assert_non_null(strstr(tt_error_message(), "rlvr.group = 8 (default)"));
}

static bool odd_sum(const void *user, const int64_t *v)
{
    (void)user;
    return (v[0] + v[1] + v[2]) % 2 != 0;
}

static bool never_three(const void *user, const int64_t *v)
{
    (void)user;
    (void)v;
    return false;
}

/* Thirteen keys stand before three that cannot agree: what they ask for must not be tried out, as
 * there are 64^13 ways. */
static void test_dead_end_is_short(void **state)
{
    (void)state;
    int64_t lattice[TT_RESOLVE_MAX_VALUES];
    tt_resolve_key keys[TT_RESOLVE_MAX_KEYS];
    for (int i = 0; i < TT_RESOLVE_MAX_VALUES; i++)
        lattice[i] = 2 * i;
    for (int k = 0; k < TT_RESOLVE_MAX_KEYS; k++)
        keys[k] = (tt_resolve_key)KEY("a.key", TT_TIER_TILE, lattice, 40);
    tt_resolve_rule rules[] = {
        {"first", {0, 1, 2}, 3, odd_sum, NULL, false, NULL},
        {"last", {13, 14, 15}, 3, odd_sum, NULL, false, NULL},
        {"never", {3, 9, 15}, 3, never_three, NULL, false, NULL},
    };
    rules[0].holds = divides; /* of keys 0 and 1: can hold */
    tt_resolution got;
    clock_t before = clock();
    assert_int_equal(tt_resolve(keys, TT_RESOLVE_MAX_KEYS, rules, 3, &got, NULL), TT_ECONFIG);
    assert_int_equal(tt_resolve(keys, TT_RESOLVE_MAX_KEYS, rules, 2, &got, NULL), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "'last' cannot hold"));
    assert_true((double)(clock() - before) / CLOCKS_PER_SEC < 5);
}

static bool divides_nonzero(const void *user, const int64_t *v)
{
    return v[0] != 0 && v[1] != 0 && divides(user, v);
}

/* A ladder: values are numbers of words. */
static void test_values_with_names(void **state)
{
    (void)state;
    static const int64_t rungs[] = {0, 1, 2};
    static const char *const names[] = {"int8", "bf16", "f32"};
    tt_resolve_key key = KEY("codec", TT_TIER_COMPRESSION, rungs, 7);
    tt_resolution got;
    tt_text text;
    tt_text_init(&text);
    key.value_names = names;
    assert_int_equal(tt_resolve(&key, 1, NULL, 0, &got, &text), TT_OK);
    assert_string_equal(text.data, "codec 7 -> f32 (nearest on the lattice)\n");
    tt_text_clear(&text);
}

static void malformed(const setup *s, size_t key_count, size_t rule_count, const char *message)
{
    tt_resolution got;
    assert_int_equal(tt_resolve(s->keys, key_count, s->rules, rule_count, &got, NULL), TT_EINVAL);
    assert_non_null(strstr(tt_error_message(), message));
}

static void test_malformed_keys(void **state)
{
    (void)state;
    setup s;
    make(&s);
    malformed(&s, TT_RESOLVE_MAX_KEYS + 1, 0, "17 keys and 0 rules");
    malformed(&s, KEYS, TT_RESOLVE_MAX_RULES + 1, "5 keys and 65 rules");
    s.keys[1].name = NULL;
    malformed(&s, KEYS, 0, "key 1 lacks a name");
    make(&s);
    s.keys[1].origin = NULL;
    malformed(&s, KEYS, 0, "key 1 lacks a name, an origin");
    make(&s);
    s.keys[1].values = NULL;
    malformed(&s, KEYS, 0, "key 1 lacks a name, an origin or values");
    make(&s);
    s.keys[1].tier = TT_TIER_RLVR + 1;
    malformed(&s, KEYS, 0, "kernels.tile_k has no tier");
    make(&s);
    s.keys[1].value_count = TT_RESOLVE_MAX_VALUES + 1;
    malformed(&s, KEYS, 0, "kernels.tile_k has 65 values");
    make(&s);
    s.rules[0].name = NULL;
    malformed(&s, KEYS, 1, "rule 0 lacks a name");
}

static void test_arguments(void **state)
{
    (void)state;
    setup s;
    tt_resolution got;
    make(&s);
    assert_int_equal(tt_resolve(NULL, 0, NULL, 0, &got, NULL), TT_OK);
    assert_int_equal(tt_resolve(s.keys, KEYS, NULL, 0, &got, NULL), TT_OK);
    assert_int_equal(tt_resolve(s.keys, TT_RESOLVE_MAX_KEYS + 1, NULL, 0, &got, NULL), TT_EINVAL);
    s.keys[1].tier = TT_TIER_NONE;
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_EINVAL);
    make(&s);
    s.keys[1].value_count = 0;
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_EINVAL);
    make(&s);
    s.keys[1].values = (const int64_t[]){16, 16, 64, 128, 256, 512};
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_EINVAL);
    make(&s);
    s.rules[0].keys[1] = KEYS;
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_EINVAL);
    s.rules[0].keys[1] = 0;
    s.rules[0].key_count = 0; /* only a memory rule may see all */
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_EINVAL);
    s.rules[0].key_count = 5;
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_EINVAL);
    s.rules[0].key_count = 2;
    s.rules[0].holds = NULL;
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_EINVAL);
    s.rules[0].holds = divides_nonzero;
    assert_int_equal(tt_resolve(s.keys, KEYS, s.rules, 3, &got, NULL), TT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_stay),
        cmocka_unit_test(test_nearest_and_ties),
        cmocka_unit_test(test_extreme_requests),
        cmocka_unit_test(test_lower_tier_yields),
        cmocka_unit_test(test_memory_takes_rlvr_first),
        cmocka_unit_test(test_memory_is_named_first),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_pins_against_each_other),
        cmocka_unit_test(test_order_of_array),
        cmocka_unit_test(test_refusal_names_keys),
        cmocka_unit_test(test_dead_end_is_short),
        cmocka_unit_test(test_values_with_names),
        cmocka_unit_test(test_malformed_keys),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
