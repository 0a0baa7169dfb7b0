/* Adaptation and resolver together: from random configurations, a million proposals that step one
 * or two free keys to a neighbour on their lattices. After each the resolver is asked, as in a run.
 * Always every rule holds, what a user pinned never moves, and every value is on its lattice.
 *
 *     test_resolve_walks [first walk [walks]]
 */
#include "test_resolve_table.h"

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
enum { WALKS = 200 };
#else
enum { WALKS = 10500 };
#endif
enum { STEPS = 100 };

static uint64_t first_walk;
static uint64_t walk_count = WALKS;

#define CHECK(number, condition)                                                                   \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("walk %llu: not so: %s (%s)", (unsigned long long)(number), #condition,       \
                     tt_error_message());                                                          \
    } while (0)

typedef struct tally {
    uint64_t walks, refused, proposals, kept, moved_others;
} tally;

static size_t below(uint64_t *state, size_t bound)
{
    return (size_t)(random_next(state) % bound);
}

static void set(tt_config *config, const char *key, const char *value)
{
    char text[96];
    snprintf(text, sizeof text, "%s=%s", key, value);
    if (tt_config_set(config, TT_SOURCE_COMMAND, text, "user") != TT_OK)
        fail_msg("%s: %s", text, tt_error_message());
}

/* Some keys pinned, some free, perhaps one `auto`; some budget. */
static tt_config *start(const tt_params *params, uint64_t *state)
{
    tt_config *config = NULL;
    char number[32];
    if (tt_config_create(params, &config) != TT_OK)
        fail();
    for (size_t k = 0; k < STEERED; k++) {
        size_t count;
        const int64_t *lattice = steered_lattice(k, &count);
        size_t kind = below(state, 10);
        if (kind == 0)
            set(config, steered_keys[k], "auto");
        else if (kind < 4)
            set(config, steered_keys[k], steered_text(k, lattice[below(state, count)], number));
    }
    static const char *const head_dims[] = {"12", "48", "64", "96"};
    set(config, "model.head_dim", head_dims[below(state, 4)]);
    snprintf(number, sizeof number, "%zu", 8 + below(state, 250));
    if (below(state, 2) == 0)
        set(config, "rlvr.pool", number);
    snprintf(number, sizeof number, "%zu", 600 + below(state, 3000));
    set(config, TT_MEMORY_BUDGET_KEY, number);
    return config;
}

/* Replaces *config by what the resolver makes of it, where that is something else. */
static tt_status resolve(tt_config **config)
{
    tt_config *out = NULL;
    tt_resolve_options options = steered_options(false);
    tt_status status = tt_config_resolve(*config, &options, &out, NULL);
    if (status == TT_OK && out != NULL) {
        tt_config_destroy(*config);
        *config = out;
    }
    return status;
}

/* Steps `key` of *config to a neighbour. */
static void propose(uint64_t walk, tt_config **config, size_t key, uint64_t *state)
{
    size_t count;
    size_t at = 0;
    int64_t values[STEERED];
    char text[32];
    const int64_t *lattice = steered_lattice(key, &count);
    steered_values(*config, values);
    while (at < count && lattice[at] != values[key])
        at++;
    CHECK(walk, at < count);
    bool up = at == 0 || (at + 1 < count && below(state, 2) == 0);
    tt_config *next = NULL;
    CHECK(walk, tt_config_derive(*config, steered_keys[key],
                                 steered_text(key, lattice[up ? at + 1 : at - 1], text),
                                 "adaptation", &next) == TT_OK);
    tt_config_destroy(*config);
    *config = next;
}

static void walk(const tt_params *params, uint64_t number, tally *t)
{
    uint64_t state = number * 977 + 5;
    tt_config *config = start(params, &state);
    size_t free_keys[STEERED];
    size_t free_count = 0;
    bool pinned[STEERED];
    int64_t before[STEERED];
    t->walks++;
    if (resolve(&config) != TT_OK) {
        t->refused++;
        tt_config_destroy(config);
        return;
    }
    steered_values(config, before);
    for (size_t k = 0; k < STEERED; k++) {
        pinned[k] = tt_config_is_pinned(config, steered_keys[k]);
        if (!pinned[k] && !tt_config_is_auto(config, steered_keys[k]))
            free_keys[free_count++] = k;
    }
    for (int step = 0; step < STEPS && free_count > 0; step++) {
        size_t key = free_keys[below(&state, free_count)];
        size_t other = free_keys[below(&state, free_count)];
        int64_t asked[STEERED];
        int64_t now[STEERED];
        propose(number, &config, key, &state);
        if (other != key && below(&state, 3) == 0)
            propose(number, &config, other, &state);
        steered_values(config, asked);
        /* What was legal before still is, so there always is an answer. */
        CHECK(number, resolve(&config) == TT_OK);
        steered_values(config, now);
        CHECK(number, steered_is_legal(config));
        for (size_t k = 0; k < STEERED; k++) {
            CHECK(number, !pinned[k] || now[k] == before[k]);
            t->moved_others += now[k] != asked[k];
        }
        t->proposals++;
        t->kept += now[key] == asked[key];
    }
    tt_config_destroy(config);
}

static void test_walks(void **state)
{
    (void)state;
    tally t = {0};
    tt_params *params = steered_params();
    for (uint64_t i = 0; i < walk_count; i++)
        walk(params, first_walk + i, &t);
    tt_params_destroy(params);
    print_message("%llu walks (%llu without a legal start), %llu proposals: %llu as asked, %llu "
                  "keys moved by the resolver\n",
                  (unsigned long long)t.walks, (unsigned long long)t.refused,
                  (unsigned long long)t.proposals, (unsigned long long)t.kept,
                  (unsigned long long)t.moved_others);
    if (walk_count >= WALKS) {
        assert_true(t.proposals >= WALKS / 21 * 20 * STEPS);
        assert_true(t.refused < t.walks / 4);
        assert_true(t.kept > t.proposals / 10 && t.kept < t.proposals);
        assert_true(t.moved_others > t.proposals / 20);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_walk = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        walk_count = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
