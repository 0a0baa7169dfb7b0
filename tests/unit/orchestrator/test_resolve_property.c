/* The resolver's properties over random requests and rule sets, most of them against brute force.
 *
 *     test_resolve_property [first case [cases]]
 */
#include "test_resolve_oracle.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW_BUILD 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SLOW_BUILD 1
#endif
#ifdef SLOW_BUILD
enum { CASES = 100000 };
#else
enum { CASES = 1000000 };
#endif

static uint64_t first_case;
static uint64_t case_count = CASES;

typedef struct tally {
    uint64_t cases, moved, for_memory, pinned_moved, refused, against_oracle, metamorphic;
} tally;

#define CHECK(number, condition)                                                                   \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("case %llu: not so: %s", (unsigned long long)(number), #condition);           \
    } while (0)

static bool same(const random_case *c, const int64_t *a, const int64_t *b)
{
    return memcmp(a, b, c->key_count * sizeof(*a)) == 0;
}

static unsigned rules_that(const random_case *c, bool memory)
{
    unsigned mask = 0;
    for (size_t r = 0; r < c->rule_count; r++)
        if (memory || !c->rules[r].is_memory)
            mask |= 1U << r;
    return mask;
}

/* Every value is on its lattice, every rule holds, and the flags say what is. */
static void check_legal(uint64_t number, const random_case *c, const tt_resolution *got)
{
    CHECK(number, oracle_is_legal(c, got->values, true));
    for (size_t k = 0; k < c->key_count; k++) {
        bool found = false;
        for (size_t i = 0; i < c->keys[k].value_count; i++)
            found = found || c->keys[k].values[i] == got->values[k];
        CHECK(number, found);
        CHECK(number, got->moved[k] == (got->values[k] != c->keys[k].request));
        CHECK(number, got->moved[k] || !got->for_memory[k]);
    }
}

static void check_idempotent(uint64_t number, random_case *c, const tt_resolution *got)
{
    tt_resolution again;
    int64_t requests[CASE_KEYS] = {0};
    for (size_t k = 0; k < c->key_count; k++) {
        requests[k] = c->keys[k].request;
        c->keys[k].request = got->values[k];
    }
    CHECK(number,
          tt_resolve(c->keys, c->key_count, c->rules, c->rule_count, &again, NULL) == TT_OK);
    CHECK(number, same(c, again.values, got->values));
    for (size_t k = 0; k < c->key_count; k++) {
        CHECK(number, !again.moved[k]);
        c->keys[k].request = requests[k];
    }
}

/* Without pins, what lower tiers ask for cannot move a higher one, memory or not: only that nothing
 * legal is left can. */
static void check_lower_requests(uint64_t number, random_case *c, const tt_resolution *got)
{
    uint64_t state = number;
    tt_tier tier = TT_TIER_TILE + (tt_tier)(random_next(&state) % 2);
    int64_t requests[CASE_KEYS] = {0};
    for (size_t k = 0; k < c->key_count; k++) {
        requests[k] = c->keys[k].request;
        if (c->keys[k].tier > tier)
            c->keys[k].request = (int64_t)(random_next(&state) % 100) - 10;
    }
    tt_resolution other;
    CHECK(number,
          tt_resolve(c->keys, c->key_count, c->rules, c->rule_count, &other, NULL) == TT_OK);
    for (size_t k = 0; k < c->key_count; k++) {
        if (c->keys[k].tier <= tier)
            CHECK(number, other.values[k] == got->values[k]);
        c->keys[k].request = requests[k];
    }
}

/* Memory is blamed exactly for what would be elsewhere without it. */
static void check_memory(uint64_t number, const random_case *c, const tt_resolution *got)
{
    int64_t free_values[CASE_KEYS] = {0};
    CHECK(number, oracle_resolve(c, rules_that(c, false), free_values));
    for (size_t k = 0; k < c->key_count; k++)
        CHECK(number, got->for_memory[k] == (got->moved[k] && got->values[k] != free_values[k]));
}

static void check_trace(uint64_t number, const random_case *c, const tt_resolution *got,
                        const char *trace)
{
    size_t lines = 0;
    size_t warnings = 0;
    size_t moved = 0;
    size_t pinned = 0;
    for (const char *line = trace; *line != '\0'; line = strchr(line, '\n') + 1) {
        lines++;
        warnings += strncmp(line, "warning: ", 9) == 0;
        CHECK(number, strchr(line, '\n') != NULL);
    }
    for (size_t k = 0; k < c->key_count; k++) {
        moved += got->moved[k];
        pinned += got->moved[k] && c->keys[k].pinned;
        if (got->moved[k])
            CHECK(number, strstr(trace, c->keys[k].name) != NULL);
    }
    CHECK(number, lines == moved);
    CHECK(number, warnings == pinned);
}

/* The rules of the message cannot hold together, no smaller set of them is to blame, and every key
 * that they bind is named with its origin. */
static void check_refusal(uint64_t number, const random_case *c)
{
    const char *message = tt_error_message();
    unsigned named = 0;
    int64_t ignored[CASE_KEYS];
    for (size_t r = 0; r < c->rule_count; r++) {
        char quoted[40];
        snprintf(quoted, sizeof(quoted), "'%s'", c->rules[r].name);
        if (strstr(message, quoted) == NULL)
            continue;
        named |= 1U << r;
        for (size_t i = 0; i < (c->rules[r].key_count > 0 ? c->rules[r].key_count : c->key_count);
             i++) {
            size_t key = c->rules[r].key_count > 0 ? c->rules[r].keys[i] : i;
            CHECK(number, strstr(message, c->keys[key].name) != NULL);
            CHECK(number, strstr(message, c->keys[key].origin) != NULL);
        }
    }
    CHECK(number, named != 0);
    CHECK(number, !oracle_resolve(c, named, ignored));
    for (size_t r = 0; r < c->rule_count; r++)
        if (named & (1U << r))
            CHECK(number, oracle_resolve(c, named & ~(1U << r), ignored));
}

static void check_case(uint64_t number, tally *t)
{
    static random_case c;
    random_case_make(&c, number);
    /* Brute force for all but the large cases, and for every 16th of those. */
    bool oracle = random_case_size(&c) <= 256 || number % 16 == 0;
    bool traced = number % 4 == 0;
    int64_t expected[CASE_KEYS] = {0};
    tt_resolution got;
    tt_text trace;
    tt_text_init(&trace);
    tt_status status =
        tt_resolve(c.keys, c.key_count, c.rules, c.rule_count, &got, traced ? &trace : NULL);
    CHECK(number, status == TT_OK || status == TT_ECONFIG);
    t->cases++;
    if (oracle) {
        t->against_oracle++;
        bool possible = oracle_resolve(&c, rules_that(&c, true), expected);
        CHECK(number, possible == (status == TT_OK));
        CHECK(number, !possible || same(&c, expected, got.values));
        if (possible)
            check_memory(number, &c, &got);
        else
            check_refusal(number, &c);
    }
    if (status == TT_OK) {
        bool pins = false;
        check_legal(number, &c, &got);
        check_idempotent(number, &c, &got);
        if (traced)
            check_trace(number, &c, &got, trace.data);
        for (size_t k = 0; k < c.key_count; k++) {
            pins = pins || c.keys[k].pinned;
            t->moved += got.moved[k];
            t->for_memory += got.for_memory[k];
            t->pinned_moved += got.moved[k] && c.keys[k].pinned;
        }
        if (!pins) {
            t->metamorphic++;
            check_lower_requests(number, &c, &got);
        }
    } else {
        t->refused++;
    }
    tt_text_clear(&trace);
}

static void test_random_cases(void **state)
{
    (void)state;
    tally t = {0};
    for (uint64_t i = 0; i < case_count; i++)
        check_case(first_case + i, &t);
    print_message("%llu cases, %llu against brute force, %llu with other lower requests; "
                  "%llu keys moved (%llu for memory, %llu pinned), %llu cases refused\n",
                  (unsigned long long)t.cases, (unsigned long long)t.against_oracle,
                  (unsigned long long)t.metamorphic, (unsigned long long)t.moved,
                  (unsigned long long)t.for_memory, (unsigned long long)t.pinned_moved,
                  (unsigned long long)t.refused);
    /* The generator reaches everything it is there for. */
    if (case_count >= CASES) {
        assert_true(t.against_oracle > t.cases / 2);
        assert_true(t.for_memory > t.cases / 20);
        assert_true(t.pinned_moved > t.cases / 20);
        assert_true(t.refused > t.cases / 20 && t.refused < t.cases / 2);
        assert_true(t.metamorphic > t.cases / 20);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_case = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        case_count = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
