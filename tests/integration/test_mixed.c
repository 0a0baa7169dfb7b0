/* Runs in mixed precision: they learn what runs in float32 learn, under the same gates. */
#include "fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
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

/* ---- weights packed ahead ---- */

/* A NaN at the first attempt at step 5. */
typedef struct once {
    const tt_training *training;
    int times;
} once;

static tt_status plant_once(void *user, const char *name, void *data, tt_dtype dtype, int64_t count)
{
    static const uint16_t not_a_number = 0x7fc0;
    once *planted = user;
    const tt_step_plan *plan = planted->training->current;
    if (planted->times || !plan || plan->step != 5 || strcmp(name, "act.h.1.gelu") != 0) {
        return TT_OK;
    }
    assert_int_equal(dtype, TT_BF16);
    planted->times++;
    return tt_tensor_write(planted->training->context, (uint16_t *)data + count / 3, &not_a_number,
                           sizeof not_a_number);
}

/* The linker leads here what packs, so that it can be left out. */
static bool packs = true;
static int packed_times;
tt_status __real_tt_model_pack_weights(tt_model *model, const void *params);
tt_status __wrap_tt_model_pack_weights(tt_model *model, const void *params);

tt_status __wrap_tt_model_pack_weights(tt_model *model, const void *params)
{
    packed_times += packs;
    return packs ? __real_tt_model_pack_weights(model, params) : TT_OK;
}

static void train_in_portions(const char *name, const char *slots, bool plants)
{
    const char *const settings[] = {"kernels.compute=bf16",
                                    "train.batch=1",
                                    "train.accumulate=4",
                                    "train.validate_every=4",
                                    "train.validate_sequences=3",
                                    slots,
                                    NULL};
    fixture_run run;
    once planted = {.times = !plants};
    assert_int_equal(fixture_create(&shared, name, NULL, settings, NULL, &run), TT_OK);
    planted.training = run.training;
    run.training->plant = plant_once;
    run.training->plant_user = &planted;
    if (tt_training_run(run.training)) {
        fail_msg("%s", tt_error_message());
    }
    assert_int_equal(planted.times, 1);
    fixture_destroy(&run);
}

/* Also where a step had to be done again, from the state before, and where updates are in place. */
static void packed_weights_change_no_bit(void **state)
{
    (void)state;
    static const char *const slots[] = {"snapshot.slots=2", "snapshot.slots=1"};
    packs = false;
    train_in_portions("unpacked", slots[0], false);
    packs = true;
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "packed-%d", i);
        packed_times = 0;
        train_in_portions(name, slots[i / 2], i == 1);
        assert_true(packed_times >= 12 + 2 + (i == 1)); /* steps and validations */
        assert_same_tensors(fixture_checkpoint(&shared, "unpacked", 12),
                            fixture_checkpoint(&shared, name, 12));
    }
}

/* ---- as an optimization ---- */

static void start(const char *folder, const char *const *settings, fixture_run *run)
{
    if (fixture_create(&shared, folder, NULL, settings, NULL, run) ||
        tt_orchestrator_start(run->training->orchestrator)) {
        fail_msg("%s", tt_error_message());
    }
}

/* Shadow steps in the other compute type between live ones leave no trace in them. */
static void a_trial_leaves_no_trace(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "bf16"};
    for (int i = 0; i < 2; i++) {
        char name[16], compute[32];
        const char *const settings[] = {compute, "train.accumulate=2", NULL};
        fixture_run run;
        tt_config *other = NULL;
        snprintf(compute, sizeof compute, "kernels.compute=%s", types[i]);
        snprintf(name, sizeof name, "alone-%d", i);
        assert_int_equal(fixture_train(&shared, name, NULL, settings), TT_OK);
        snprintf(name, sizeof name, "trial-%d", i);
        start(name, settings, &run);
        tt_training *training = run.training;
        tt_orchestrator *o = training->orchestrator;
        const tt_host host = tt_slot_memory_host(&training->memory);
        const tt_optimization what = tt_compute_optimization(training);
        assert_int_equal(tt_config_derive(tt_orchestrator_config(o), "kernels.compute",
                                          types[1 - i], "test", &other),
                         TT_OK);
        while (tt_orchestrator_step(o) < 12) {
            tt_measurements shadow;
            tt_step_record live;
            const tt_replay replay = {.size = sizeof replay,
                                      .step = tt_orchestrator_step(o),
                                      .position = tt_orchestrator_step(o) * training->batch * 2,
                                      .read_slot = tt_orchestrator_slot(o),
                                      .write_slot = host.scratch_slot,
                                      .learning_rate_scale = 1,
                                      .config = other};
            tt_measurements_init(&shadow);
            assert_int_equal(what.apply(what.user, other), TT_OK);
            assert_int_equal(host.run_step(host.user, &replay, &shadow), TT_OK);
            assert_int_equal(what.apply(what.user, tt_orchestrator_config(o)), TT_OK);
            assert_int_equal(tt_training_step(training, &live), TT_OK);
            assert_true(live.published);
            const double loss = shadow.values[TT_METRIC_LOSS];
            assert_true(loss != live.loss && fabs(loss / live.loss - 1) < 0x1p-8);
        }
        tt_config_destroy(other);
        assert_int_equal(tt_orchestrator_finish(o, TT_OK), TT_OK);
        fixture_destroy(&run);
        char alone[16];
        snprintf(alone, sizeof alone, "alone-%d", i);
        assert_same_tensors(fixture_checkpoint(&shared, alone, 12),
                            fixture_checkpoint(&shared, name, 12));
    }
}

/* The reference's products, which the linker leads here. */
typedef enum fault { AS_IT_IS, SLOW_F32, SLOW_BF16, WRONG_BF16 } fault;
static fault product;
tt_status __real_tt_linear_forward_f32__reference(const void *exec, const void *args);
tt_status __wrap_tt_linear_forward_f32__reference(const void *exec, const void *args);
tt_status __real_tt_linear_forward_bf16__reference(const void *exec, const void *args);
tt_status __wrap_tt_linear_forward_bf16__reference(const void *exec, const void *args);

static void lose_time(void)
{
    tt_clock clock = tt_clock_monotonic();
    const uint64_t begin = tt_clock_now(&clock), lost = 5000000;
    while (tt_clock_now(&clock) - begin < lost) {
    }
}

tt_status __wrap_tt_linear_forward_f32__reference(const void *exec, const void *args)
{
    if (product == SLOW_F32) {
        lose_time();
    }
    return __real_tt_linear_forward_f32__reference(exec, args);
}

tt_status __wrap_tt_linear_forward_bf16__reference(const void *exec, const void *args)
{
    const tt_linear_forward_args *g = args;
    const tt_status status = __real_tt_linear_forward_bf16__reference(exec, args);
    if (product == SLOW_BF16) {
        lose_time();
    }
    if (product == WRONG_BF16 && !g->real_y) {
        ((uint16_t *)g->y)[g->m * g->n / 2] ^= 0x80; /* twice as much, or half */
    }
    return status;
}

/* The compute type that `auto` comes to, as the record of the choice explains it. */
static tt_dtype begin_with_auto(const char *folder, const char *seconds, fault what,
                                const char *record)
{
    const char *const settings[] = {"kernels.compute=auto",
                                    "kernels.variant=reference",
                                    "kernels.tune_cache=off",
                                    "train.accumulate=2",
                                    seconds,
                                    NULL};
    fixture_run run;
    char journal[64];
    product = what;
    assert_int_equal(fixture_create(&shared, folder, NULL, settings, NULL, &run), TT_OK);
    tt_training *training = run.training;
    if (tt_orchestrator_start(training->orchestrator)) {
        fail_msg("%s", tt_error_message());
    }
    tt_step_record step;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tt_training_step(training, &step), TT_OK);
        assert_true(step.published);
    }
    product = AS_IT_IS;
    const tt_dtype compute = tt_context_compute(training->context);
    assert_string_equal(tt_context_variant(training->context, TT_OP_LINEAR_FORWARD)->name,
                        "reference");
    fixture_destroy(&run);
    snprintf(journal, sizeof journal, "%s/decisions.jsonl", folder);
    char *text = fixture_read(fixture_path(&shared, journal));
    if (!strstr(text, record)) {
        fail_msg("not recorded: %s in %s", record, text);
    }
    free(text);
    return compute;
}

/* A run that accepts only exact results has no weaker variant, whatever it computes in, and its
 * records say so. */
static void exact_is_all_that_it_gets(void **state)
{
    (void)state;
    static const char *const computes[] = {"kernels.compute=f32", "kernels.compute=bf16",
                                           "kernels.compute=auto"};
    for (int i = 0; i < 3; i++) {
        const char *const settings[] = {computes[i], "kernels.numerics=exact",
                                        "kernels.tune_cache=off", "kernels.tune_seconds=5", NULL};
        fixture_run run;
        char name[16], journal[64];
        snprintf(name, sizeof name, "exact-%d", i);
        start(name, settings, &run);
        tt_context *context = run.training->context;
        const tt_dtype compute = tt_context_compute(context);
        assert_int_equal(tt_context_numerics(context), TT_NUMERICS_EXACT);
        for (int which = 0; which < 2; which++) {
            assert_int_equal(tt_context_set_compute(context, which ? TT_BF16 : TT_F32), TT_OK);
            for (int op = 0; op < TT_OP_COUNT; op++) {
                assert_int_equal(tt_context_variant(context, (tt_op)op)->numerics,
                                 TT_NUMERICS_EXACT);
            }
        }
        assert_int_equal(tt_context_set_compute(context, compute), TT_OK);
        fixture_destroy(&run);
        snprintf(journal, sizeof journal, "%s/decisions.jsonl", name);
        char *text = fixture_read(fixture_path(&shared, journal));
        assert_non_null(strstr(text, "\"numerics\":\"exact\""));
        assert_null(strstr(text, "\"repeatable\""));
        free(text);
    }
    const char *const forced[] = {"kernels.linear_wgrad=openblas", "kernels.numerics=exact", NULL};
    fixture_run run;
    assert_int_equal(fixture_create(&shared, "forced", NULL, forced, NULL, &run), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "kernels.linear_wgrad is openblas"));
    fixture_destroy(&run);
}

/* bf16 only where the run's own products prove right in it and it is faster at them. */
static void auto_is_bf16_where_it_is_faster(void **state)
{
    (void)state;
    static const char *const enough = "kernels.tune_seconds=60";
    assert_int_equal(begin_with_auto("auto-fast", enough, SLOW_F32, "\"chosen\":\"bf16\""),
                     TT_BF16);
    assert_int_equal(begin_with_auto("auto-slow", enough, SLOW_BF16, "\"conforms\":true"), TT_F32);
    assert_int_equal(begin_with_auto("auto-wrong", enough, WRONG_BF16, "\"conforms\":false"),
                     TT_F32);
    assert_int_equal(
        begin_with_auto("auto-none", "kernels.tune_seconds=0", SLOW_F32, "\"complete\":false"),
        TT_F32);
}

static void a_wrong_product_does_not_conform(void **state)
{
    (void)state;
    static const char *const settings[] = {"kernels.variant=reference", NULL};
    fixture_run run;
    tt_config *candidate = NULL;
    assert_int_equal(fixture_create(&shared, "wrong", NULL, settings, NULL, &run), TT_OK);
    tt_training *training = run.training;
    const tt_optimization what = tt_compute_optimization(training);
    assert_int_equal(tt_config_derive(run.config, "kernels.compute", "bf16", "test", &candidate),
                     TT_OK);
    assert_int_equal(what.conform(what.user, candidate), TT_OK);
    product = WRONG_BF16;
    assert_int_equal(what.conform(what.user, candidate), TT_EGATE);
    assert_non_null(strstr(tt_error_message(), "compute: linear_forward"));
    assert_int_equal(what.conform(what.user, run.config), TT_OK); /* in f32 */
    product = AS_IT_IS;
    assert_int_equal(tt_context_compute(training->context), TT_F32);
    tt_config_destroy(candidate);
    fixture_destroy(&run);
}

/* What only bf16 does wrong, time and again. */
static tt_status plant_in_bf16(void *user, const char *name, void *data, tt_dtype dtype,
                               int64_t count)
{
    static const uint16_t not_a_number = 0x7fc0;
    once *planted = user;
    const tt_step_plan *plan = planted->training->current;
    if (!plan || plan->step < 5 || dtype != TT_BF16 || strcmp(name, "act.h.1.gelu") != 0) {
        return TT_OK;
    }
    planted->times++;
    return tt_tensor_write(planted->training->context, (uint16_t *)data + count / 3, &not_a_number,
                           sizeof not_a_number);
}

static void wrong_bf16_convicts_compute(void **state)
{
    (void)state;
    static const char *const settings[] = {"kernels.compute=bf16", "train.accumulate=2", NULL};
    fixture_run run;
    once planted = {.times = 0};
    start("convicted", settings, &run);
    tt_orchestrator *o = run.training->orchestrator;
    planted.training = run.training;
    run.training->plant = plant_in_bf16;
    run.training->plant_user = &planted;
    for (int i = 0; i < 100 && tt_orchestrator_step(o) < 10; i++) {
        assert_int_equal(tt_training_step(run.training, NULL), TT_OK);
    }
    assert_int_equal(tt_orchestrator_step(o), 10);
    assert_true(planted.times >= 2);
    assert_int_equal(tt_context_compute(run.training->context), TT_F32);
    for (size_t i = 0; i < tt_orchestrator_optimization_count(o); i++) {
        const tt_optimization_info info = tt_orchestrator_optimization(o, i);
        assert_int_equal(info.breaker == TT_BREAKER_OPEN, strcmp(info.name, "compute") == 0);
    }
    fixture_destroy(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_is_learned),
        cmocka_unit_test(a_codec_of_bf16_changes_nothing),
        cmocka_unit_test(int8_yields_to_bf16),
        cmocka_unit_test(packed_weights_change_no_bit),
        cmocka_unit_test(a_trial_leaves_no_trace),
        cmocka_unit_test(exact_is_all_that_it_gets),
        cmocka_unit_test(auto_is_bf16_where_it_is_faster),
        cmocka_unit_test(a_wrong_product_does_not_conform),
        cmocka_unit_test(wrong_bf16_convicts_compute),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
