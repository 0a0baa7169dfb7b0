/* The quickstart, whole, on the machine's own headers: it learns more than what follows a byte, and
 * is done in the time that a first look may take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "trimtab/training.h"

static const double seconds_max = 240, share_of_order1_max = 0.85;

static char root[] = "/tmp/trimtab-quickstart-XXXXXX";

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
    int64_t attempts, trips, finishes;
    int64_t steps;
    double held_out, order1, order2;
    size_t sample_bytes;
} watch;

static void on_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    watch *w = user;
    (void)plan;
    w->attempts++;
    w->trips += record->published ? 0 : 1;
}

static void on_finish(void *user, const tt_training_summary *summary, tt_status outcome)
{
    watch *w = user;
    assert_int_equal(outcome, TT_OK);
    assert_true(summary->bytes);
    w->finishes++;
    w->steps = summary->steps;
    w->held_out = summary->bits_per_byte;
    w->order1 = summary->order1_bits_per_byte;
    w->order2 = summary->order2_bits_per_byte;
    w->sample_bytes = summary->sample_bytes;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void run_example(watch *w)
{
    static const char *const settings[] = {"data.path=/usr/include", "data.limit_bytes=12000000"};
    tt_params *params = NULL;
    tt_config *config = NULL;
    tt_training *training = NULL;
    char folder[128];
    snprintf(folder, sizeof folder, "%s/run", root);
    assert_int_equal(tt_params_create(&params), TT_OK);
    assert_int_equal(tt_training_register(params), TT_OK);
    assert_int_equal(tt_config_create(params, &config), TT_OK);
    assert_int_equal(tt_config_load_file(config, TT_SOURCE_DIR "/examples/quickstart.yaml"), TT_OK);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, settings[i], "test"), TT_OK);
    }
    tt_training_observer observer = {
        .size = sizeof observer, .user = w, .on_step = on_step, .on_finish = on_finish};
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

static void quickstart(void **state)
{
    (void)state;
    watch w = {0};
    double begin = now();
    run_example(&w);
    double seconds = now() - begin;
    print_message("%lld steps in %.0f s; bits per byte: %.3f held out, order 1 %.3f, order 2 %.3f; "
                  "%lld trips\n",
                  (long long)w.steps, seconds, w.held_out, w.order1, w.order2, (long long)w.trips);
    assert_int_equal(w.finishes, 1);
    assert_int_equal(w.trips, 0);
    assert_int_equal(w.attempts, w.steps);
    assert_true(w.order1 > 0 && w.order2 < w.order1);
    assert_true(w.held_out < share_of_order1_max * w.order1);
    assert_int_equal(w.sample_bytes, 300);
    assert_true(seconds < seconds_max);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quickstart)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
