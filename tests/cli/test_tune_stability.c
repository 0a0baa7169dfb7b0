/* Twenty processes with empty caches choose the same kernels for GPT-2. For a machine that is not
 * busy otherwise. */
#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROCESSES = 20 };

static char *choice(void)
{
    outcome o = expect_success("tune " TT_SOURCE_DIR
                               "/examples/gpt2-124m.yaml --json -s kernels.tune_cache=off");
    json_t *root = json_loads(o.out, 0, NULL);
    assert_non_null(root);
    assert_true(json_is_true(json_object_get(root, "complete")));
    json_t *both =
        json_pack("[O, O]", json_object_get(root, "tile"), json_object_get(root, "variants"));
    char *text = json_dumps(both, JSON_COMPACT | JSON_SORT_KEYS);
    print_message("%s, %.2f of the default's time, in %.1f s\n", text,
                  json_number_value(json_object_get(root, "of_default")),
                  json_number_value(json_object_get(root, "seconds")));
    json_decref(both);
    json_decref(root);
    outcome_clear(&o);
    return text;
}

static void test_same_choice(void **state)
{
    (void)state;
    char *first = choice();
    int others = 0;
    for (int i = 1; i < PROCESSES; i++) {
        char *next = choice();
        others += strcmp(first, next) != 0;
        free(next);
    }
    free(first);
    if (others > 0)
        fail_msg("%d of %d processes chose other kernels than the first", others, PROCESSES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_choice)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
