/* The resolver relies on it: a step down on a ladder, or a larger block, never needs more memory.
 */
#include "trimtab/training.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
// clang-format on
#include <inttypes.h>
#include <stdio.h>

static const char *const codecs[] = {"int8", "bf16", "f32"};

enum { BLOCKS = 8, SETTINGS = 8 };

static const char *const models[][SETTINGS] = {
    {"model.layers=2", "model.channels=32", "model.vocab=256", "model.context=32"},
    {"model.layers=6", "model.channels=384", "model.vocab=256", "model.context=256"},
    /* Nearly all of it is the embedding. */
    {"model.layers=1", "model.channels=32", "model.vocab=50304", "model.context=16"},
    {"model.layers=12", "model.channels=768", "model.vocab=50304", "model.context=1024"},
    /* Rows that fill no block. */
    {"model.layers=3", "model.channels=20", "model.vocab=300", "model.context=7"},
    {"preset=llama-10m"},
    {"model.layers=3", "model.channels=20", "model.mlp=swiglu", "model.mlp_width=7",
     "model.kv_heads=1", "model.tied=false", "model.norm=rmsnorm", "model.bias=false"},
};

static void set(tt_config *config, const char *assignment)
{
    if (tt_config_set(config, TT_SOURCE_COMMAND, assignment, "test") != TT_OK)
        fail_msg("%s: %s", assignment, tt_error_message());
}

static int64_t estimate(tt_config *config, int moments, int activations, int block)
{
    char text[64];
    snprintf(text, sizeof text, "compression.moments=%s", codecs[moments]);
    set(config, text);
    snprintf(text, sizeof text, "compression.activations=%s", codecs[activations]);
    set(config, text);
    snprintf(text, sizeof text, "compression.block=%d", 32 << block);
    set(config, text);
    return tt_training_memory_estimate(config);
}

/* All of one model. */
static void check(tt_config *config, const char *name)
{
    static int64_t bytes[3][3][BLOCKS];
    for (int m = 0; m < 3; m++)
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < BLOCKS; b++) {
                bytes[m][a][b] = estimate(config, m, a, b);
                assert_true(bytes[m][a][b] > 0 && bytes[m][a][b] < INT64_MAX);
                if (m > 0 && bytes[m - 1][a][b] > bytes[m][a][b])
                    fail_msg("%s: moments %s %" PRId64 ", %s %" PRId64, name, codecs[m - 1],
                             bytes[m - 1][a][b], codecs[m], bytes[m][a][b]);
                if (a > 0 && bytes[m][a - 1][b] > bytes[m][a][b])
                    fail_msg("%s: activations %s %" PRId64 ", %s %" PRId64, name, codecs[a - 1],
                             bytes[m][a - 1][b], codecs[a], bytes[m][a][b]);
                if (b > 0 && bytes[m][a][b] > bytes[m][a][b - 1])
                    fail_msg("%s: moments %s, activations %s, block %d %" PRId64 ", %d %" PRId64,
                             name, codecs[m], codecs[a], 32 << b, bytes[m][a][b], 16 << b,
                             bytes[m][a][b - 1]);
            }
}

static void test_monotone(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (int slots = 1; slots <= 3; slots++) {
            tt_params *params = NULL;
            tt_config *config = NULL;
            char text[64];
            assert_int_equal(tt_params_create(&params), TT_OK);
            assert_int_equal(tt_training_register(params), TT_OK);
            assert_int_equal(tt_config_create(params, &config), TT_OK);
            for (int k = 0; k < SETTINGS && models[i][k]; k++)
                set(config, models[i][k]);
            snprintf(text, sizeof text, "snapshot.slots=%d", slots);
            set(config, text);
            snprintf(text, sizeof text, "model %zu with %d slots", i, slots);
            check(config, text);
            set(config, "kernels.compute=bf16");
            snprintf(text, sizeof text, "model %zu with %d slots in bf16", i, slots);
            check(config, text);
            set(config, "compression.weights=bf16");
            snprintf(text, sizeof text, "model %zu with %d slots, all in bf16", i, slots);
            check(config, text);
            tt_config_destroy(config);
            tt_params_destroy(params);
        }
}

/* A model that cannot be has no size. */
static void test_impossible(void **state)
{
    (void)state;
    tt_params *params = NULL;
    tt_config *config = NULL;
    assert_int_equal(tt_params_create(&params), TT_OK);
    assert_int_equal(tt_training_register(params), TT_OK);
    assert_int_equal(tt_config_create(params, &config), TT_OK);
    set(config, "model.heads=3");
    assert_true(tt_training_memory_estimate(config) == INT64_MAX);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_impossible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
