/* Mixed precision trains like float32: the 10.8 M parameter example twice from the same seed over
 * the same text (a copy of the machine's own headers, which may change under a run this long), with
 * kernels.compute f32 and bf16.
 *
 *   test_mixed_precision [--steps N] [--batch N]
 *
 * A shorter run than 2,000 steps is a smoke check: its losses say little, and are not judged. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "internal.h"

enum { WHOLE_RUN = 2000, EVERY = 250 };

static const double loss_difference_max = 0.005;

static int steps = WHOLE_RUN;
static int batch = 8;
static char root[] = "/tmp/trimtab-mixed-XXXXXX";

/* Of a whole run. */
typedef struct outcome {
    int64_t published, trips;
    double held_out;
} outcome;

static void on_held_out(void *user, int64_t step, double loss, double bits_per_byte)
{
    (void)user;
    (void)bits_per_byte;
    print_message("  step %lld: held out %.4f\n", (long long)step, loss);
}

static void on_finish(void *user, const tt_training_summary *summary, tt_status ended)
{
    outcome *out = user;
    (void)ended;
    out->published = summary->totals.published;
    out->trips = summary->totals.trips;
    out->held_out = summary->held_out_loss;
}

static tt_config *configure(const tt_params *params, const char *compute)
{
    /* Nothing that is decided by a clock: both runs are to differ in the compute type alone. */
    static const char *const fixed[] = {
        "data.limit_bytes=12000000", "snapshot.slots=2", "adapt.every_steps=0",
        /* To the end of the cosine: what is left of the last
         * batches' noise is no property of the precision. */
        "optim.minimum_rate=0", "kernels.tune_seconds=0", "kernels.tile_m=128",
        "kernels.tile_n=256", "kernels.tile_k=256", "checkpoint.every_steps=0",
        "train.validate_sequences=128", "sample.tokens=0"};
    char changing[5][64];
    tt_config *config = NULL;
    snprintf(changing[0], sizeof *changing, "kernels.compute=%s", compute);
    snprintf(changing[1], sizeof *changing, "train.steps=%d", steps);
    snprintf(changing[2], sizeof *changing, "train.batch=%d", batch);
    snprintf(changing[3], sizeof *changing, "train.validate_every=%d", EVERY);
    snprintf(changing[4], sizeof *changing, "data.path=%s/corpus", root);
    assert_int_equal(tt_config_create(params, &config), TT_OK);
    assert_int_equal(tt_config_load_file(config, TT_SOURCE_DIR "/examples/gpt-10m.yaml"), TT_OK);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, fixed[i], "test"), TT_OK);
    }
    for (size_t i = 0; i < sizeof changing / sizeof *changing; i++) {
        assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, changing[i], "test"), TT_OK);
    }
    return config;
}

static outcome run(const char *compute)
{
    outcome out = {0};
    char folder[128];
    tt_params *params = NULL;
    tt_training *training = NULL;
    snprintf(folder, sizeof folder, "%s/%s", root, compute);
    assert_int_equal(tt_params_create(&params), TT_OK);
    assert_int_equal(tt_training_register(params), TT_OK);
    tt_config *config = configure(params, compute);
    tt_training_observer observer = {
        .size = sizeof observer, .user = &out, .on_held_out = on_held_out, .on_finish = on_finish};
    tt_training_options options;
    tt_training_options_init(&options);
    options.params = params;
    options.config = config;
    options.run_directory = folder;
    options.observer = &observer;
    print_message("%s\n", compute);
    tt_status status = tt_training_create(&options, &training);
    if (!status) {
        status = tt_training_run(training);
    }
    if (status) {
        fail_msg("%s: %s", compute, tt_error_message());
    }
    tt_training_destroy(training);
    tt_config_destroy(config);
    tt_params_destroy(params);
    return out;
}

static void bf16_trains_like_f32(void **state)
{
    (void)state;
    outcome f32 = run("f32");
    outcome bf16 = run("bf16");
    double difference = bf16.held_out / f32.held_out - 1;
    printf("{\"test\":\"mixed_precision\",\"steps\":%d,\"batch\":%d,\"f32\":%.6f,\"bf16\":%.6f,"
           "\"loss_difference\":%.6f}\n",
           steps, batch, f32.held_out, bf16.held_out, difference);
    fflush(stdout);
    assert_int_equal(f32.published, steps);
    assert_int_equal(bf16.published, steps);
    assert_int_equal(f32.trips, 0);
    assert_int_equal(bf16.trips, 0);
    assert_true(isfinite(difference));
    assert_true(steps < WHOLE_RUN || fabs(difference) <= loss_difference_max);
}

static int setup(void **state)
{
    (void)state;
    char command[128];
    if (!mkdtemp(root)) {
        return -1;
    }
    snprintf(command, sizeof command, "cp -r /usr/include '%s/corpus'", root);
    return system(command);
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        int *value = strcmp(argv[i], "--steps") == 0   ? &steps
                     : strcmp(argv[i], "--batch") == 0 ? &batch
                                                       : NULL;
        if (value) {
            *value = (int)strtol(argv[i + 1], NULL, 10);
        }
    }
    if (argc % 2 == 0 || steps < 1 || batch < 1) {
        fprintf(stderr, "usage: test_mixed_precision [--steps N] [--batch N]\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_trains_like_f32)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
