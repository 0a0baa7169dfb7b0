/* A NaN planted in any named tensor at any step: caught in that step, the tensor named, nothing
 * published, and the run ends with the bits of a run that was never harmed. */
#include "fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 12, MAX_NAMES = 400 };

static fixture shared;
static char names[MAX_NAMES][TT_TENSOR_NAME];
static size_t name_count;
static const char *yardstick = "clean";

typedef struct plant {
    fixture_run run;
    const char *name;
    int64_t step;
    bool lasting; /* at every attempt of the step, not only at the first */
    bool active;  /* the current attempt is one that is harmed */
    int planted;
} plant;

static const char *const settings[] = {"train.accumulate=2", NULL};

static void collect(const char *name)
{
    for (size_t i = 0; i < name_count; i++) {
        if (strcmp(names[i], name) == 0) {
            return;
        }
    }
    assert_true(name_count < MAX_NAMES);
    snprintf(names[name_count++], TT_TENSOR_NAME, "%s", name);
}

static tt_status collect_probe(void *user, const char *name, void *data, tt_dtype dtype,
                               int64_t count)
{
    (void)user;
    (void)data;
    (void)dtype;
    assert_true(count > 0);
    collect(name);
    return TT_OK;
}

static void write_nan(tt_context *context, void *data, tt_dtype dtype, int64_t count)
{
    const float nan_value = NAN;
    const uint16_t nan_bf16 = 0x7fc0;
    const size_t bytes = tt_dtype_size(dtype);
    const void *value = dtype == TT_BF16 ? (const void *)&nan_bf16 : &nan_value;
    assert_int_equal(
        tt_tensor_write(context, (char *)data + (size_t)(count / 2) * bytes, value, bytes), TT_OK);
}

static bool wanted(const plant *p, const char *name)
{
    return p->active && strcmp(name, p->name) == 0 && (p->lasting || p->planted == 0);
}

static tt_status plant_in_pass(void *user, const char *name, void *data, tt_dtype dtype,
                               int64_t count)
{
    plant *p = user;
    if (wanted(p, name)) {
        write_nan(p->run.training->context, data, dtype, count);
        p->planted++;
    }
    return TT_OK;
}

static void plant_in_state(void *user, tt_training *training, const tt_step_plan *step)
{
    plant *p = user;
    p->active = step->step == p->step;
    tt_host host = tt_slot_memory_host(&training->memory);
    for (size_t i = 0; i < host.tensor_count(host.user, step->read_slot); i++) {
        tt_tensor_info info;
        assert_int_equal(host.tensor_info(host.user, step->read_slot, i, &info), TT_OK);
        if (wanted(p, info.name)) {
            int64_t count = info.dims[0] * (info.rank > 1 ? info.dims[1] : 1);
            const float nan_value = NAN;
            assert_int_equal(host.tensor_write(host.user, step->read_slot, i,
                                               count / 2 * (int64_t)sizeof(float), &nan_value,
                                               sizeof nan_value),
                             TT_OK);
            p->planted++;
        }
    }
}

/* Of a run in `folder`. */
static void collect_names(const char *folder, const char *const *with)
{
    fixture_run run;
    name_count = 0;
    assert_int_equal(fixture_create(&shared, folder, NULL, with, NULL, &run), TT_OK);
    run.training->plant = collect_probe;
    assert_int_equal(tt_orchestrator_start(run.training->orchestrator), TT_OK);
    assert_int_equal(tt_training_step(run.training, NULL), TT_OK);
    tt_host host = tt_slot_memory_host(&run.training->memory);
    for (size_t i = 0; i < host.tensor_count(host.user, 0); i++) {
        tt_tensor_info info;
        assert_int_equal(host.tensor_info(host.user, 0, i, &info), TT_OK);
        collect(info.name);
    }
    fixture_destroy(&run);
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&shared, 20000);
    assert_int_equal(fixture_train(&shared, "clean", NULL, settings), TT_OK);
    collect_names("names", settings);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_clear(&shared);
    return 0;
}

static void start(plant *p, const char *folder, const char *const *with)
{
    if (fixture_create(&shared, folder, NULL, with, NULL, &p->run) ||
        tt_orchestrator_start(p->run.training->orchestrator)) {
        fail_msg("%s", tt_error_message());
    }
    p->run.training->plant = plant_in_pass;
    p->run.training->plant_state = plant_in_state;
    p->run.training->plant_user = p;
}

/* Runs to the end; returns how many attempts were refused. */
static int run_to_end(plant *p, int64_t *first_refused, tt_gate_decision *first)
{
    int refused = 0;
    while (tt_orchestrator_step(p->run.training->orchestrator) < STEPS) {
        tt_step_record record;
        int64_t before = tt_orchestrator_step(p->run.training->orchestrator);
        if (tt_training_step(p->run.training, &record)) {
            fail_msg("%s at step %lld: %s", p->name, (long long)p->step, tt_error_message());
        }
        if (!record.published) {
            if (refused++ == 0) {
                *first_refused = record.step;
                *first = record.decision;
            }
            /* Nothing was published: the run stands where it stood, or further back. */
            assert_true(tt_orchestrator_step(p->run.training->orchestrator) <= before);
        }
    }
    assert_int_equal(tt_orchestrator_finish(p->run.training->orchestrator, TT_OK), TT_OK);
    return refused;
}

/* In place, moments that an update has spoilt are kept in f32 by the time they are looked at: it is
 * the same tensor, under another name. */
static bool is_same_tensor(const char *named, const char *planted)
{
    return strcmp(named, planted) == 0 ||
           (strncmp(planted, "adam_", 5) == 0 && strncmp(named, planted, 6) == 0 &&
            strcmp(strchr(named, '/'), strchr(planted, '/')) == 0);
}

static void check_planted(const char *name, int64_t step, const char *const *with, int index)
{
    char folder[64];
    snprintf(folder, sizeof folder, "plant%d", index);
    plant p = {.name = name, .step = step};
    start(&p, folder, with);
    int64_t refused_step = -1;
    tt_gate_decision decision = {0};
    int refused = run_to_end(&p, &refused_step, &decision);
    if (p.planted != 1 || refused < 1 || refused_step != step ||
        !is_same_tensor(decision.tensor, name)) {
        fail_msg("%s at step %lld: planted %d, refused %d, first at step %lld, gate %s named '%s'",
                 name, (long long)step, p.planted, refused, (long long)refused_step, decision.gate,
                 decision.tensor);
    }
    fixture_destroy(&p.run);
    assert_same_tensors(fixture_checkpoint(&shared, yardstick, STEPS),
                        fixture_checkpoint(&shared, folder, STEPS));
}

static void every_tensor_is_named(void **state)
{
    (void)state;
    static const char *const three_slots[] = {"train.accumulate=2", "snapshot.slots=3", NULL};
    print_message("%zu named tensors\n", name_count);
    assert_true(name_count > 100);
    for (size_t i = 0; i < name_count; i++) {
        int64_t step = (int64_t)(tt_random_uniform(3, 0, i) * STEPS);
        check_planted(names[i], step, i % 2 ? settings : three_slots, (int)i);
    }
}

static void one_slot_goes_back_to_the_checkpoint(void **state)
{
    (void)state;
    static const char *const one_slot[] = {"train.accumulate=2", "snapshot.slots=1", NULL};
    for (size_t i = 0; i < name_count; i += 7) {
        check_planted(names[i], 6, one_slot, 1000 + (int)i);
    }
}

/* By the time of the scan, other layers have the memory in which it was. */
static void encoded_activations_are_named(void **state)
{
    (void)state;
    static const char *const with[] = {"train.accumulate=2", "compression.activations=int8", NULL};
    assert_int_equal(fixture_train(&shared, "clean-encoded", NULL, with), TT_OK);
    yardstick = "clean-encoded";
    for (size_t i = 0; i < name_count; i++) {
        if (strncmp(names[i], "act.", 4) == 0) {
            check_planted(names[i], 1 + (int64_t)i % (STEPS - 1), with, 2000 + (int)i);
        }
    }
    yardstick = "clean";
}

/* Some activations are bf16 then, and more of them have working copies. */
static void mixed_precision_is_named(void **state)
{
    (void)state;
    static const char *const with[] = {"train.accumulate=2", "kernels.compute=bf16", NULL};
    assert_int_equal(fixture_train(&shared, "clean-mixed", NULL, with), TT_OK);
    yardstick = "clean-mixed";
    for (size_t i = 0; i < name_count; i += 3) {
        check_planted(names[i], 1 + (int64_t)i % (STEPS - 1), with, 4000 + (int)i);
    }
    yardstick = "clean";
}

static void other_blocks_are_named(void **state)
{
    (void)state;
    static const char *const with[] = {LLAMA, "train.accumulate=2", NULL};
    assert_int_equal(fixture_train(&shared, "clean-llama", NULL, with), TT_OK);
    collect_names("names-llama", with);
    assert_true(name_count > 0);
    yardstick = "clean-llama";
    for (size_t i = 0; i < name_count; i += 3) {
        check_planted(names[i], 1 + (int64_t)i % (STEPS - 1), with, 5000 + (int)i);
    }
    yardstick = "clean";
}

/* Moments and activations in int8, and any number of slots: what is retried, rolled back and
 * replayed leaves no trace. */
static void encoded_state_leaves_no_trace(void **state)
{
    (void)state;
    static const char *const harmed[] = {
        "act.h.1.gelu",
        "grad.h.0.mlp.c_fc.weight",
        "params/wte.weight",
        "adam_m/ln_f.weight",
        "adam_m.int8.scale/wte.weight",
        "adam_v.sqrt_uint8.scale/h.1.attn.c_attn.weight",
    };
    static const char *const counts[] = {"snapshot.slots=1", "snapshot.slots=2",
                                         "snapshot.slots=3"};
    int index = 3000;
    yardstick = "clean-int8";
    for (size_t slots = 0; slots < sizeof counts / sizeof *counts; slots++) {
        const char *const with[] = {"model.channels=64", "compression.moments=int8",
                                    "compression.activations=int8", counts[slots], NULL};
        if (slots == 0) {
            assert_int_equal(fixture_train(&shared, yardstick, NULL, with), TT_OK);
        }
        for (size_t i = 0; i < sizeof harmed / sizeof *harmed; i += 3) {
            for (int64_t step = 6; step < STEPS; step += 5) { /* far from a checkpoint, and near */
                check_planted(harmed[i], step, with, index++);
            }
        }
    }
    yardstick = "clean";
}

static void a_lasting_fault_stops_the_run(void **state)
{
    (void)state;
    plant p = {.name = "act.h.1.gelu", .step = 6, .lasting = true};
    start(&p, "lasting", settings);
    tt_status status = TT_OK;
    tt_action actions[16] = {0};
    int refused = 0;
    while (!status) {
        tt_step_record record;
        status = tt_training_step(p.run.training, &record);
        if (!status && !record.published) {
            assert_string_equal(record.decision.tensor, p.name);
            actions[refused++] = record.decision.action;
        }
    }
    assert_int_equal(status, TT_EGATE);
    assert_non_null(strstr(tt_error_message(), p.name));
    assert_int_equal(refused, 4);
    assert_int_equal(actions[0], TT_ACTION_RETRY);
    assert_int_equal(actions[1], TT_ACTION_ROLLBACK);
    assert_int_equal(actions[2], TT_ACTION_SKIP);
    assert_int_equal(actions[3], TT_ACTION_STOP);
    assert_int_equal(tt_orchestrator_step(p.run.training->orchestrator), 6);
    assert_int_equal(tt_orchestrator_finish(p.run.training->orchestrator, status), TT_EGATE);
    fixture_destroy(&p.run);
    /* What was saved is the last good state: a run without the fault goes on from it. */
    assert_int_equal(fixture_train(&shared, "lasting", "auto", settings), TT_OK);
    assert_same_tensors(fixture_checkpoint(&shared, "clean", STEPS),
                        fixture_checkpoint(&shared, "lasting", STEPS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_is_named),
        cmocka_unit_test(one_slot_goes_back_to_the_checkpoint),
        cmocka_unit_test(encoded_activations_are_named),
        cmocka_unit_test(mixed_precision_is_named),
        cmocka_unit_test(encoded_state_leaves_no_trace),
        cmocka_unit_test(a_lasting_fault_stops_the_run),
        cmocka_unit_test(other_blocks_are_named), /* its names are not the others' */
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
