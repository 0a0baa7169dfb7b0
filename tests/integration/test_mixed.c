/* Runs in mixed precision: they learn what runs in float32 learn, under the same gates. */
#include "fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 200 };

static fixture shared;

/* The quick start's model, but for its length. */
static const char *const quickstart[] = {
    "model.layers=4",
    "model.heads=4",
    "model.channels=128",
    "model.context=32",
    "train.batch=4",
    "train.steps=200",
    "optim.warmup_steps=20",
    "checkpoint.every_steps=0",
    "train.validate_sequences=32",
    "adapt.every_steps=0",
};
enum { SETTINGS = sizeof quickstart / sizeof quickstart[0] };

static int setup(void **state)
{
    (void)state;
    fixture_init(&shared, 60000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_clear(&shared);
    return 0;
}

static double final_loss(const char *name, const char *compute, const char *more)
{
    const char *settings[SETTINGS + 3] = {0};
    fixture_run run;
    memcpy(settings, quickstart, sizeof quickstart);
    settings[SETTINGS] = compute;
    settings[SETTINGS + 1] = more;
    assert_int_equal(fixture_create(&shared, name, NULL, settings, NULL, &run), TT_OK);
    if (tt_training_run(run.training)) {
        fail_msg("%s", tt_error_message());
    }
    const double loss = run.training->held_out_loss;
    assert_int_equal(tt_orchestrator_step(run.training->orchestrator), STEPS);
    assert_int_equal(tt_context_compute(run.training->context),
                     strstr(compute, "bf16") ? TT_BF16 : TT_F32);
    fixture_destroy(&run);
    return loss;
}

static void the_same_is_learned(void **state)
{
    (void)state;
    double f32 = final_loss("f32", "kernels.compute=f32", NULL);
    double bf16 = final_loss("bf16", "kernels.compute=bf16", NULL);
    print_message("held out after %d steps: f32 %.5f, bf16 %.5f (%+.3f %%)\n", STEPS, f32, bf16,
                  100 * (bf16 / f32 - 1));
    assert_true(f32 < 2.5); /* of 5.5 at the start */
    assert_true(fabs(bf16 / f32 - 1) <= 0.01);
}

/* The codec has nothing to do, and its gate nothing to judge. */
static void a_codec_of_bf16_changes_nothing(void **state)
{
    (void)state;
    static const char *const plain[] = {"kernels.compute=bf16", NULL};
    static const char *const coded[] = {"kernels.compute=bf16", "compression.activations=bf16",
                                        NULL};
    assert_int_equal(fixture_train(&shared, "plain", NULL, plain), TT_OK);
    assert_int_equal(fixture_train(&shared, "coded", NULL, coded), TT_OK);
    assert_same_tensors(fixture_checkpoint(&shared, "plain", 12),
                        fixture_checkpoint(&shared, "coded", 12));
}

/* int8 of what is bf16: compression yields, to what is nearest. */
static void int8_yields_to_bf16(void **state)
{
    (void)state;
    static const char *const settings[] = {"kernels.compute=bf16", "compression.activations=int8",
                                           NULL};
    tt_config *config = fixture_config(&shared, settings);
    tt_config *moved = NULL;
    tt_resolve_options options;
    tt_resolve_options_init(&options);
    assert_int_equal(tt_config_resolve(config, &options, &moved, NULL), TT_OK);
    assert_non_null(moved);
    assert_string_equal(tt_config_string(moved, "compression.activations"), "bf16");
    assert_string_equal(tt_config_string(moved, "kernels.compute"), "bf16");
    options.strict = true;
    tt_config_destroy(moved);
    assert_int_equal(tt_config_resolve(config, &options, &moved, NULL), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "compression.activations"));
    tt_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_is_learned),
        cmocka_unit_test(a_codec_of_bf16_changes_nothing),
        cmocka_unit_test(int8_yields_to_bf16),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
