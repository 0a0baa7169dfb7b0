/* The larger examples run their first steps as they stand, without a trip. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trimtab/training.h"

typedef struct watch {
    tt_training *training;
    int64_t stop_after;
    int64_t trips;
    double first, last;
} watch;

static void on_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    watch *w = user;
    (void)plan;
    if (record->step == 0) {
        w->first = record->loss;
    }
    w->last = record->loss;
    w->trips += record->published ? 0 : 1;
    if (record->step % 10 == 0) {
        print_message("step %lld loss %.4f grad norm %.3f, %.2f s\n", (long long)record->step,
                      record->loss, record->gradient_norm, record->seconds);
    }
    if (record->step + 1 == w->stop_after) {
        tt_training_request_stop(w->training, 15);
    }
}

static void run_example(const char *example, const char *data, const char *folder, int64_t steps)
{
    static const char *const quiet[] = {"train.validate_sequences=0", "checkpoint.every_steps=0",
                                        "data.limit_bytes=8000000"};
    tt_params *params = NULL;
    tt_config *config = NULL;
    char path[512];
    char setting[512];
    assert_int_equal(tt_params_create(&params), TT_OK);
    assert_int_equal(tt_training_register(params), TT_OK);
    assert_int_equal(tt_config_create(params, &config), TT_OK);
    snprintf(path, sizeof path, "%s/examples/%s", TT_SOURCE_DIR, example);
    assert_int_equal(tt_config_load_file(config, path), TT_OK);
    for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++) {
        assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, quiet[i], "test"), TT_OK);
    }
    snprintf(setting, sizeof setting, "data.path=%s", data);
    assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, setting, "test"), TT_OK);
    watch w = {.stop_after = steps};
    tt_training_observer observer = {.size = sizeof observer, .user = &w, .on_step = on_step};
    tt_training_options options;
    tt_training_options_init(&options);
    options.params = params;
    options.config = config;
    options.run_directory = folder;
    options.observer = &observer;
    if (tt_training_create(&options, &w.training)) {
        fail_msg("%s: %s", example, tt_error_message());
    }
    tt_status status = tt_training_run(w.training);
    if (status != TT_EREQUEUE) {
        fail_msg("%s: %s", example, tt_error_message());
    }
    print_message("%s: loss %.4f to %.4f in %lld steps\n", example, w.first, w.last,
                  (long long)steps);
    assert_int_equal(w.trips, 0);
    assert_true(w.last < w.first);
    tt_training_destroy(w.training);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

static char root[] = "/tmp/trimtab-examples-XXXXXX";

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

static void gpt_10m(void **state)
{
    (void)state;
    char folder[128];
    snprintf(folder, sizeof folder, "%s/gpt-10m", root);
    run_example("gpt-10m.yaml", "/usr/include", folder, 200);
}

static void llama_10m(void **state)
{
    (void)state;
    char folder[128];
    snprintf(folder, sizeof folder, "%s/llama-10m", root);
    run_example("llama-10m.yaml", "/usr/include", folder, 100);
}

/* Tokens of a Zipf-like distribution, in llm.c's format. */
static void write_tokens(const char *path, int32_t count)
{
    int32_t header[256] = {20240520, 1, count};
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(header, sizeof header, 1, file), 1);
    for (int32_t i = 0; i < count; i++) {
        uint16_t token = (uint16_t)(pow(50257, tt_random_uniform(5, 0, (uint64_t)i)) - 1);
        assert_int_equal(fwrite(&token, sizeof token, 1, file), 1);
    }
    assert_int_equal(fclose(file), 0);
}

static void gpt2_124m(void **state)
{
    (void)state;
    char folder[128];
    char tokens[128];
    snprintf(folder, sizeof folder, "%s/gpt2-124m", root);
    snprintf(tokens, sizeof tokens, "%s/tokens.bin", root);
    write_tokens(tokens, 1000000);
    run_example("gpt2-124m.yaml", tokens, folder, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gpt_10m), cmocka_unit_test(llama_10m),
                                       cmocka_unit_test(gpt2_124m)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
