/* A healthy run is left alone: the quickstart's model for 20,000 steps, all gates armed, adaptation
 * as it is by default, and not one step is refused.
 *
 *     test_no_false_trip [steps]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trimtab/training.h"

static long steps = 20000;

static char root[] = "/tmp/trimtab-long-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

typedef struct watch {
    int64_t published, refused, warned;
    double first, last; /* loss, smoothed */
} watch;

static void on_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    watch *w = user;
    char reason[256];
    (void)plan;
    if (record->decision.verdict != TT_PASS) {
        print_message("step %lld: %s\n", (long long)record->step,
                      tt_gate_describe(&record->decision, reason));
    }
    w->refused += record->decision.verdict == TT_TRIP;
    w->warned += record->decision.verdict == TT_WARN;
    w->published += record->published;
    w->first = record->step == 0 ? record->loss : w->first;
    w->last = record->step == 0 ? record->loss : 0.99 * w->last + 0.01 * record->loss;
}

static void run_long(watch *w)
{
    char settings[3][64] = {"data.path=/usr/include", "data.limit_bytes=12000000"};
    tt_params *params = NULL;
    tt_config *config = NULL;
    tt_training *training = NULL;
    char folder[128];
    snprintf(settings[2], sizeof settings[2], "train.steps=%ld", steps);
    snprintf(folder, sizeof folder, "%s/run", root);
    assert_int_equal(tt_params_create(&params), TT_OK);
    assert_int_equal(tt_training_register(params), TT_OK);
    assert_int_equal(tt_config_create(params, &config), TT_OK);
    assert_int_equal(tt_config_load_file(config, TT_SOURCE_DIR "/examples/quickstart.yaml"), TT_OK);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, settings[i], "test"), TT_OK);
    }
    tt_training_observer observer = {.size = sizeof observer, .user = w, .on_step = on_step};
    tt_training_options options;
    tt_training_options_init(&options);
    options.params = params;
    options.config = config;
    options.run_directory = folder;
    options.observer = &observer;
    if (tt_training_create(&options, &training) || tt_training_run(training)) {
        fail_msg("%s", tt_error_message());
    }
    tt_training_destroy(training);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static void no_step_is_refused(void **state)
{
    (void)state;
    watch w = {0};
    run_long(&w);
    print_message("%lld steps, %lld refused, %lld warnings; loss %.3f -> %.3f\n",
                  (long long)w.published, (long long)w.refused, (long long)w.warned, w.first,
                  w.last);
    assert_int_equal(w.published, steps);
    assert_int_equal(w.refused, 0);
    assert_true(w.last < 0.6 * w.first); /* it was a run that learns */
}

int main(int argc, char **argv)
{
    steps = argc > 1 ? atol(argv[1]) : steps;
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_step_is_refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
