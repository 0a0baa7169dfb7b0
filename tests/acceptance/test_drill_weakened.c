/* A drill must be able to fail: with one protection left out, the scenario that it is there for
 * reports a loss; with all of them in place, nothing is lost. */
#include "trimtab/training.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Children are forked with what it says then. */
static int left_out = TT_PROTECTION_COUNT;

bool tt_weakened(tt_protection protection)
{
    return (int)protection == left_out;
}

static const struct {
    const char *scenario;
    tt_protection needs;
} pairs[] = {
    {"nan-tensor", TT_PROTECTION_FINITE},
    {"loss-spike", TT_PROTECTION_LOSS},
    {"exploding-gradient", TT_PROTECTION_GRADIENT_NORM},
    {"vanished-gradient", TT_PROTECTION_GRADIENT_NORM},
    {"corrupt-codec", TT_PROTECTION_RECONSTRUCTION},
    {"wrong-kernel", TT_PROTECTION_SEARCH},
    {"full-disk", TT_PROTECTION_KEEP},
    {"read-only-disk", TT_PROTECTION_KEEP},
    {"kill", TT_PROTECTION_RENAME},
    {"damaged-checkpoint", TT_PROTECTION_VERIFY},
    {"clock-jump", TT_PROTECTION_CLOCK},
    {"slow-disk", TT_PROTECTION_BACKGROUND},
};

enum { PAIRS = sizeof pairs / sizeof *pairs };

typedef struct tally {
    int results, lost;
} tally;

static void on_result(void *user, const tt_drill_result *result)
{
    tally *all = user;
    all->results++;
    all->lost += result->lost;
    print_message("  %-18s %s %s (%.1f s)\n", result->scenario, result->lost ? "LOST" : "ok",
                  result->why, result->seconds);
}

static tt_status drill(const char *const *names, size_t count, tally *all)
{
    tt_drill_options options;
    tt_drill_options_init(&options);
    options.scenarios = names;
    options.scenario_count = count;
    options.user = all;
    options.on_result = on_result;
    *all = (tally){0};
    return tt_drill_run(&options);
}

static void without_one_something_is_lost(void **state)
{
    (void)state;
    for (int i = 0; i < PAIRS; i++) {
        tally all;
        left_out = (int)pairs[i].needs;
        tt_status status = drill(&pairs[i].scenario, 1, &all);
        left_out = TT_PROTECTION_COUNT;
        if (status != TT_EGATE || all.lost != 1) {
            fail_msg("%s loses nothing without what protects from it: %s", pairs[i].scenario,
                     status ? tt_error_message() : "");
        }
    }
}

static void with_all_nothing_is_lost(void **state)
{
    (void)state;
    tally all;
    if (drill(NULL, 0, &all)) {
        fail_msg("%s", tt_error_message());
    }
    assert_int_equal(all.results, PAIRS);
}

/* Every scenario has a protection that it needs, and every protection a scenario. */
static void pairs_are_complete(void **state)
{
    (void)state;
    for (size_t i = 0; tt_drill_list(i); i++) {
        assert_true(i < PAIRS);
        assert_string_equal(tt_drill_list(i)->name, pairs[i].scenario);
    }
    assert_null(tt_drill_list(PAIRS));
    for (int protection = 0; protection < TT_PROTECTION_COUNT; protection++) {
        bool found = false;
        for (int i = 0; i < PAIRS; i++) {
            found = found || (int)pairs[i].needs == protection;
        }
        assert_true(found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_complete),
        cmocka_unit_test(without_one_something_is_lost),
        cmocka_unit_test(with_all_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
