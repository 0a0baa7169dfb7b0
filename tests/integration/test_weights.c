/* Runs whose weights are kept in bf16 alone: they learn what runs in float32 learn, also by steps
 * far below what bf16 can tell apart, and every bit of them can be had again. */
#include "fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define BF16 "compression.weights=bf16"

static fixture shared;

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

/* The linker leads here what rounding draws: with this it rounds to nearest, as nobody should. */
static bool rounds_to_nearest;
void __real_tt_random_u16(uint64_t seed, uint64_t stream, uint64_t first, uint16_t *out, size_t n);
void __wrap_tt_random_u16(uint64_t seed, uint64_t stream, uint64_t first, uint16_t *out, size_t n);

void __wrap_tt_random_u16(uint64_t seed, uint64_t stream, uint64_t first, uint16_t *out, size_t n)
{
    __real_tt_random_u16(seed, stream, first, out, n);
    for (size_t i = 0; rounds_to_nearest && i < n; i++) {
        out[i] = 0x8000;
    }
}

/* ---- what is learned ---- */

/* The held-out loss after 200 steps of the quick start's model. */
static double final_loss(const char *name, const char *const *more)
{
    enum { MOST = 24 };
    const char *settings[MOST] = {
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
        "optim.weight_decay=0",
    };
    size_t count = 0;
    fixture_run run;
    while (settings[count]) {
        count++;
    }
    for (; *more; more++) {
        assert_true(count < MOST - 1);
        settings[count++] = *more;
    }
    assert_int_equal(fixture_create(&shared, name, NULL, settings, NULL, &run), TT_OK);
    if (tt_training_run(run.training)) {
        fail_msg("%s", tt_error_message());
    }
    const double loss = run.training->held_out_loss;
    assert_int_equal(tt_orchestrator_step(run.training->orchestrator), 200);
    fixture_destroy(&run);
    return loss;
}

static void the_same_is_learned(void **state)
{
    (void)state;
    static const char *const f32[] = {"kernels.compute=f32", NULL};
    static const char *const weights[] = {"kernels.compute=f32", BF16, NULL};
    static const char *const all[] = {"kernels.compute=bf16", BF16, "compression.moments=int8",
                                      NULL};
    const double exact = final_loss("f32", f32);
    const double kept = final_loss("weights", weights);
    const double least = final_loss("all", all);
    print_message("held out after 200 steps: f32 %.5f, bf16 weights %.5f (%+.3f %%), and computed "
                  "in bf16 with int8 moments %.5f (%+.3f %%)\n",
                  exact, kept, 100 * (kept / exact - 1), least, 100 * (least / exact - 1));
    assert_true(exact < 2.5); /* of 5.5 at the start */
    assert_true(fabs(kept / exact - 1) <= 0.01);
    assert_true(fabs(least / exact - 1) <= 0.01);
}

/* Steps of about 3e-6 where neighbours in bf16 are 6e-5 to 2.4e-4 apart. */
static void steps_too_small_for_bf16_count(void **state)
{
    (void)state;
    static const char *const still[] = {"optim.learning_rate=0", NULL};
    static const char *const f32[] = {"optim.learning_rate=3e-6", "optim.minimum_rate=3e-6", NULL};
    static const char *const bf16[] = {"optim.learning_rate=3e-6", "optim.minimum_rate=3e-6", BF16,
                                       NULL};
    const double before = final_loss("still", still);
    const double exact = before - final_loss("small-f32", f32);
    const double kept = before - final_loss("small-bf16", bf16);
    rounds_to_nearest = true;
    const double lost = before - final_loss("small-nearest", bf16);
    rounds_to_nearest = false;
    print_message("gain of 200 small steps: f32 %.5f, bf16 weights %.5f (%.3f of it), rounded to "
                  "nearest %.5f (%.3f)\n",
                  exact, kept, kept / exact, lost, lost / exact);
    assert_true(exact > 0.1);
    assert_true(fabs(kept / exact - 1) <= 0.03);
    assert_true(lost / exact < 0.5); /* what the norms and biases, which are f32, still gain */
}

/* ---- every bit again ---- */

static void train(const char *name, const char *resume, const char *const *settings)
{
    if (fixture_train(&shared, name, resume, settings)) {
        fail_msg("%s: %s", name, tt_error_message());
    }
}

/* Stopped in the middle or not, with one thread or two. */
static void check_resumed(const char *label, const char *compute, const char *moments,
                          const char *slots)
{
    char whole[48];
    char parts[48];
    char alone[48];
    const char *const all[] = {BF16, compute, moments, slots, NULL};
    const char *const one[] = {BF16, compute, moments, slots, "run.threads=1", NULL};
    fixture_run run;
    snprintf(whole, sizeof whole, "whole-%s", label);
    snprintf(parts, sizeof parts, "parts-%s", label);
    snprintf(alone, sizeof alone, "alone-%s", label);
    train(whole, NULL, all);
    train(alone, NULL, one);
    assert_same_tensors(fixture_checkpoint(&shared, whole, 12),
                        fixture_checkpoint(&shared, alone, 12));
    assert_int_equal(fixture_create(&shared, parts, NULL, all, NULL, &run), TT_OK);
    assert_int_equal(tt_orchestrator_start(run.training->orchestrator), TT_OK);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(tt_training_step(run.training, NULL), TT_OK);
    }
    assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
    fixture_destroy(&run);
    assert_int_equal(access(fixture_checkpoint(&shared, parts, 7), R_OK), 0);
    train(parts, "auto", all);
    assert_same_tensors(fixture_checkpoint(&shared, whole, 12),
                        fixture_checkpoint(&shared, parts, 12));
}

static void a_resumed_run_has_the_same_bits(void **state)
{
    (void)state;
    check_resumed("f32", "kernels.compute=f32", "compression.moments=f32", "snapshot.slots=2");
    check_resumed("bf16", "kernels.compute=bf16", "compression.moments=f32", "snapshot.slots=1");
    check_resumed("int8", "kernels.compute=bf16", "compression.moments=int8", "snapshot.slots=3");
}

/* A NaN at the first attempt at step 5, in an activation or in a weight. */
typedef struct once {
    int times;
    bool in_weight;
} once;

static tt_status plant_once(void *user, const char *name, void *data, tt_dtype dtype, int64_t count)
{
    static const float not_a_number = NAN;
    once *planted = user;
    (void)count;
    if (planted->times != 1 || planted->in_weight || strcmp(name, "act.h.1.resid") != 0) {
        return TT_OK;
    }
    planted->times++;
    assert_int_equal(dtype, TT_F32);
    memcpy(data, &not_a_number, sizeof not_a_number);
    return TT_OK;
}

static void plant_state_once(void *user, tt_training *training, const tt_step_plan *plan)
{
    (void)training;
    once *planted = user;
    planted->times += plan->step == 5 && planted->times == 0;
}

static void plant_update_once(void *user, tt_training *training, const tt_step_plan *plan)
{
    static const uint16_t not_a_number = 0x7fc0;
    once *planted = user;
    if (planted->times != 1 || !planted->in_weight) {
        return;
    }
    planted->times++;
    for (size_t i = 0; i < tt_slot_part_count(&training->memory, plan->write_slot); i++) {
        tt_tensor_info info;
        tt_slot_part_info(&training->memory, plan->write_slot, i, &info);
        if (strcmp(info.name, "params.bf16/h.0.mlp.c_fc.weight") == 0) {
            assert_int_equal(tt_slot_part_write(&training->memory, plan->write_slot, i, 2 * 77,
                                                &not_a_number, sizeof not_a_number),
                             TT_OK);
        }
    }
}

/* What was tripped over is done again from the state before, to the same bits. */
static void check_retried(const char *name, bool in_weight)
{
    const char *const settings[] = {BF16, "kernels.compute=bf16", NULL};
    fixture_run run;
    once planted = {.in_weight = in_weight};
    assert_int_equal(fixture_create(&shared, name, NULL, settings, NULL, &run), TT_OK);
    run.training->plant = plant_once;
    run.training->plant_state = plant_state_once;
    run.training->plant_update = plant_update_once;
    run.training->plant_user = &planted;
    if (tt_training_run(run.training)) {
        fail_msg("%s", tt_error_message());
    }
    assert_int_equal(planted.times, 2);
    fixture_destroy(&run);
    assert_same_tensors(fixture_checkpoint(&shared, "clean", 12),
                        fixture_checkpoint(&shared, name, 12));
}

static void a_step_done_again_has_the_same_bits(void **state)
{
    (void)state;
    static const char *const settings[] = {BF16, "kernels.compute=bf16", NULL};
    train("clean", NULL, settings);
    check_retried("bad-activation", false);
    check_retried("bad-weight", true);
}

/* What only computing in bf16 does wrong, time and again: then the run computes in f32, with its
 * weights as they are. */
static tt_status plant_in_bf16(void *user, const char *name, void *data, tt_dtype dtype,
                               int64_t count)
{
    static const uint16_t not_a_number = 0x7fc0;
    const tt_training *training = user;
    const tt_step_plan *plan = training->current;
    if (!plan || plan->step < 5 || dtype != TT_BF16 || strcmp(name, "act.h.1.gelu") != 0) {
        return TT_OK;
    }
    return tt_tensor_write(training->context, (uint16_t *)data + count / 3, &not_a_number,
                           sizeof not_a_number);
}

static void another_compute_type_reads_them(void **state)
{
    (void)state;
    static const char *const settings[] = {BF16, "kernels.compute=bf16", "train.accumulate=2",
                                           NULL};
    fixture_run run;
    assert_int_equal(fixture_create(&shared, "convicted", NULL, settings, NULL, &run), TT_OK);
    tt_orchestrator *o = run.training->orchestrator;
    assert_int_equal(tt_orchestrator_start(o), TT_OK);
    run.training->plant = plant_in_bf16;
    run.training->plant_user = run.training;
    for (int i = 0; i < 100 && tt_orchestrator_step(o) < 10; i++) {
        assert_int_equal(tt_training_step(run.training, NULL), TT_OK);
    }
    assert_int_equal(tt_orchestrator_step(o), 10);
    assert_int_equal(tt_context_compute(run.training->context), TT_F32);
    for (size_t i = 0; i < tt_orchestrator_optimization_count(o); i++) {
        const tt_optimization_info info = tt_orchestrator_optimization(o, i);
        assert_int_equal(info.breaker == TT_BREAKER_OPEN, strcmp(info.name, "compute") == 0);
    }
    fixture_destroy(&run);
}

/* ---- what checkpoints hold, and what is refused ---- */

enum { TOKENS = 40 };

typedef struct written {
    int32_t tokens[TOKENS];
    int count;
} written;

static bool collect(void *user, int32_t token)
{
    written *out = user;
    assert_true(out->count < TOKENS);
    out->tokens[out->count++] = token;
    return true;
}

/* And generation reads them: the likeliest tokens are those that the run itself wrote at its end.
 */
static void checkpoints_hold_them_as_they_are(void **state)
{
    (void)state;
    static const char *const settings[] = {BF16, LLAMA, "sample.tokens=40", "sample.temperature=0",
                                           NULL};
    tt_store *store = NULL;
    fixture_run run;
    assert_int_equal(fixture_create(&shared, "kept", NULL, settings, NULL, &run), TT_OK);
    assert_int_equal(tt_training_run(run.training), TT_OK);
    assert_int_equal(tt_store_open(fixture_checkpoint(&shared, "kept", 12), &store), TT_OK);
    const tt_store_entry *weight = tt_store_find(store, "/tensors/params.bf16/lm_head.weight");
    const tt_store_entry *gain = tt_store_find(store, "/tensors/params/ln_f.weight");
    assert_non_null(weight);
    assert_non_null(gain);
    assert_int_equal(weight->dtype, TT_U16);
    assert_int_equal(weight->bytes, 256 * 16 * 2);
    assert_int_equal(gain->dtype, TT_F32);
    assert_null(tt_store_find(store, "/tensors/params/lm_head.weight"));
    written text = {.count = 0};
    tt_generate_options options;
    tt_generate_options_init(&options);
    options.store = store;
    options.name = "kept";
    options.temperature = 0;
    options.max_tokens = TOKENS;
    options.emit = collect;
    options.user = &text;
    assert_int_equal(tt_generate_from_checkpoint(&options), TT_OK);
    tt_store_close(store);
    assert_int_equal(text.count, TOKENS);
    assert_int_equal(run.training->sample.length, TOKENS);
    for (int i = 0; i < TOKENS; i++) {
        assert_int_equal((unsigned char)run.training->sample.data[i], text.tokens[i]);
    }
    fixture_destroy(&run);
}

static void the_form_stays(void **state)
{
    (void)state;
    static const char *const bf16[] = {BF16, NULL};
    static const char *const f32[] = {"compression.weights=f32", NULL};
    train("stays", NULL, bf16);
    assert_int_equal(fixture_train(&shared, "stays", "auto", f32), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "compression.weights"));
}

static void libraries_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"kernels.linear_forward=openblas",
                                        "kernels.linear_dgrad=onednn", "kernels.variant=openblas"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *const settings[] = {BF16, names[i], NULL};
        assert_int_equal(fixture_train(&shared, "refused", NULL, settings), TT_ECONFIG);
        assert_non_null(strstr(tt_error_message(), "compression.weights is bf16"));
        assert_null(strchr(tt_error_message(), '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_is_learned),
        cmocka_unit_test(steps_too_small_for_bf16_count),
        cmocka_unit_test(a_resumed_run_has_the_same_bits),
        cmocka_unit_test(a_step_done_again_has_the_same_bits),
        cmocka_unit_test(another_compute_type_reads_them),
        cmocka_unit_test(checkpoints_hold_them_as_they_are),
        cmocka_unit_test(the_form_stays),
        cmocka_unit_test(libraries_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
