/* The trainer as a host: replays that are the live step, codecs through resume and rollback, memory
 * as it is said, and planted faults that the search pins on the optimization they belong to. */
#include "fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

static fixture shared;

/* Matrices of a size that is encoded. */
#define LARGE "model.channels=64", "optim.warmup_steps=4", "train.steps=24"

static const char *const plain[] = {LARGE, NULL};
static const char *const bf16[] = {LARGE, "compression.moments=bf16", NULL};
static const char *const int8[] = {LARGE, "compression.moments=int8", NULL};
static const char *const both[] = {LARGE, "compression.moments=int8",
                                   "compression.activations=int8", "train.accumulate=2", NULL};
static const char *const one_slot[] = {LARGE, "compression.moments=int8", "snapshot.slots=1", NULL};

static int setup(void **state)
{
    (void)state;
    fixture_init(&shared, 20000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_clear(&shared);
    return 0;
}

static void start(const char *folder, const char *resume, const char *const *settings,
                  fixture_run *run)
{
    if (fixture_create(&shared, folder, resume, settings, NULL, run) ||
        tt_orchestrator_start(run->training->orchestrator)) {
        fail_msg("%s", tt_error_message());
    }
}

static void step(fixture_run *run)
{
    tt_step_record record;
    if (tt_training_step(run->training, &record)) {
        fail_msg("%s", tt_error_message());
    }
    assert_true(record.published);
}

static void finish(fixture_run *run)
{
    tt_orchestrator *o = run->training->orchestrator;
    while (tt_orchestrator_step(o) < run->training->plan.steps) {
        step(run);
    }
    assert_int_equal(tt_orchestrator_finish(o, TT_OK), TT_OK);
    fixture_destroy(run);
}

/* ---- replays ---- */

static void assert_same_parts(const tt_slot_memory *memory, int left, int right)
{
    assert_int_equal(tt_slot_part_count(memory, left), tt_slot_part_count(memory, right));
    for (size_t i = 0; i < tt_slot_part_count(memory, left); i++) {
        tt_tensor_info info;
        tt_tensor_info other;
        tt_slot_part_info(memory, left, i, &info);
        tt_slot_part_info(memory, right, i, &other);
        assert_memory_equal(&info, &other, sizeof info);
        size_t bytes = tt_dtype_size(info.dtype);
        for (int k = 0; k < info.rank; k++) {
            bytes *= (size_t)info.dims[k];
        }
        char *one = malloc(bytes);
        char *two = malloc(bytes);
        assert_int_equal(tt_slot_part_read(memory, left, i, 0, one, bytes), TT_OK);
        assert_int_equal(tt_slot_part_read(memory, right, i, 0, two, bytes), TT_OK);
        if (memcmp(one, two, bytes) != 0) {
            fail_msg("%s of a replay differs from the live step's", info.name);
        }
        free(one);
        free(two);
    }
}

static void assert_same_measurements(const tt_measurements *a, const tt_step_record *b)
{
    assert_true(a->values[TT_METRIC_LOSS] == b->loss);
    assert_true(a->values[TT_METRIC_GRADIENT_NORM] == b->gradient_norm);
    assert_true(a->values[TT_METRIC_LEARNING_RATE] == b->learning_rate);
}

/* The step that comes next: replayed apart, in place, up to the update; then live. */
static void replay_next(fixture_run *run)
{
    tt_training *training = run->training;
    tt_orchestrator *o = training->orchestrator;
    tt_host host = tt_slot_memory_host(&training->memory);
    tt_measurements measured;
    tt_step_record record;
    tt_replay replay = {
        .size = sizeof replay,
        .step = tt_orchestrator_step(o),
        .position = tt_orchestrator_step(o) * training->batch * training->accumulate,
        .read_slot = tt_orchestrator_slot(o),
        .write_slot = -1,
        .learning_rate_scale = 1,
        .config = tt_orchestrator_config(o),
    };
    int failed = training->memory.failed_update;
    tt_measurements_init(&measured);
    assert_int_equal(host.run_step(host.user, &replay, &measured), TT_OK);
    assert_false(measured.updated || measured.present[TT_METRIC_UPDATE_NORM]);
    replay.write_slot = host.scratch_slot;
    assert_int_equal(host.run_step(host.user, &replay, &measured), TT_OK);
    assert_true(measured.updated && measured.present[TT_METRIC_UPDATE_NORM]);
    assert_int_equal(training->memory.failed_update, failed);
    assert_null(training->current);
    assert_int_equal(tt_training_step(training, &record), TT_OK);
    assert_true(record.published);
    assert_same_measurements(&measured, &record);
    assert_true(measured.values[TT_METRIC_UPDATE_NORM] == record.update_norm);
    assert_same_parts(&training->memory, tt_orchestrator_slot(o), host.scratch_slot);
    /* The next one in place, from there. */
    replay.step++;
    replay.position += training->batch * training->accumulate;
    replay.read_slot = host.scratch_slot;
    assert_int_equal(host.run_step(host.user, &replay, &measured), TT_OK);
    assert_int_equal(tt_training_step(training, &record), TT_OK);
    assert_same_measurements(&measured, &record);
    assert_same_parts(&training->memory, tt_orchestrator_slot(o), host.scratch_slot);
    /* A tenth of the rate moves less, and is no live step. */
    replay.learning_rate_scale = 0.1;
    double whole = measured.values[TT_METRIC_UPDATE_NORM];
    assert_int_equal(host.slot_copy(host.user, tt_orchestrator_slot(o), host.scratch_slot), TT_OK);
    assert_int_equal(host.run_step(host.user, &replay, &measured), TT_OK);
    assert_true(measured.values[TT_METRIC_UPDATE_NORM] < 0.5 * whole);
    assert_true(measured.values[TT_METRIC_LEARNING_RATE] < 0.2 * record.learning_rate);
    host.slot_release(host.user, host.scratch_slot);
}

static void check_replays(const char *name, const char *const *settings)
{
    char folder[64];
    fixture_run run;
    snprintf(folder, sizeof folder, "undisturbed-%s", name);
    assert_int_equal(fixture_train(&shared, folder, NULL, settings), TT_OK);
    const char *undisturbed = fixture_checkpoint(&shared, folder, 24);
    snprintf(folder, sizeof folder, "replayed-%s", name);
    start(folder, NULL, settings, &run);
    replay_next(&run);
    for (int i = 0; i < 7; i++) {
        step(&run);
    }
    replay_next(&run);
    finish(&run);
    assert_same_tensors(undisturbed, fixture_checkpoint(&shared, folder, 24));
}

static void a_replay_is_the_live_step(void **state)
{
    (void)state;
    check_replays("f32", plain);
    check_replays("bf16", bf16);
    check_replays("int8", int8);
    check_replays("both", both);
    check_replays("one", one_slot);
}

/* ---- checkpoints ---- */

static void cut_at(const char *folder, const char *const *settings, int64_t steps)
{
    fixture_run run;
    start(folder, NULL, settings, &run);
    while (tt_orchestrator_step(run.training->orchestrator) < steps) {
        step(&run);
    }
    assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
    fixture_destroy(&run);
}

static void an_encoded_checkpoint_goes_on_bit_for_bit(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *const *settings;
    } cases[] = {{"bf16", bf16}, {"int8", int8}, {"both", both}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int64_t at = 1; at < 12; at += 5) { /* tensors that are spared, and none */
            char folder[64];
            char whole[64];
            fixture_run run;
            snprintf(folder, sizeof folder, "cut-%s-%d", cases[i].name, (int)at);
            snprintf(whole, sizeof whole, "undisturbed-%s", cases[i].name);
            cut_at(folder, cases[i].settings, at);
            start(folder, "auto", cases[i].settings, &run);
            assert_int_equal(tt_orchestrator_step(run.training->orchestrator), at);
            finish(&run);
            assert_same_tensors(fixture_checkpoint(&shared, whole, 24),
                                fixture_checkpoint(&shared, folder, 24));
        }
    }
    assert_same_tensors(fixture_checkpoint(&shared, "undisturbed-int8", 24),
                        fixture_checkpoint(&shared, "undisturbed-one", 24));
}

static bool collect(void *user, int32_t token)
{
    int *count = user;
    assert_true(token >= 0 && token < 256);
    ++*count;
    return true;
}

static void an_encoded_checkpoint_generates(void **state)
{
    (void)state;
    tt_store *store = NULL;
    const char *path = fixture_checkpoint(&shared, "undisturbed-int8", 24);
    int count = 0;
    assert_int_equal(tt_store_open(path, &store), TT_OK);
    assert_non_null(tt_store_find(store, "/tensors/adam_m.int8/wte.weight"));
    assert_non_null(tt_store_find(store, "/tensors/moments/kept"));
    tt_generate_options options;
    tt_generate_options_init(&options);
    options.store = store;
    options.name = path;
    options.max_tokens = 20;
    options.emit = collect;
    options.user = &count;
    if (tt_generate_from_checkpoint(&options)) {
        fail_msg("%s", tt_error_message());
    }
    assert_int_equal(count, 20);
    tt_store_close(store);
}

/* From f32 to int8 and back, at resumes: the state is taken as it is. */
static void a_resume_may_change_the_codec(void **state)
{
    (void)state;
    fixture_run run;
    cut_at("changes", plain, 8);
    start("changes", "auto", int8, &run);
    while (tt_orchestrator_step(run.training->orchestrator) < 16) {
        step(&run);
    }
    const tt_slot_layout *layout =
        &run.training->memory.layouts[tt_orchestrator_slot(run.training->orchestrator)];
    assert_int_equal(layout->codec[TT_MODEL_WTE], TT_CODEC_INT8);
    assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
    fixture_destroy(&run);
    static const char *const back[] = {LARGE, "compression.moments=f32", NULL};
    start("changes", "auto", back, &run);
    layout = &run.training->memory.layouts[0];
    assert_int_equal(layout->codec[TT_MODEL_WTE], TT_CODEC_INT8); /* until the next step */
    step(&run);
    layout = &run.training->memory.layouts[tt_orchestrator_slot(run.training->orchestrator)];
    assert_int_equal(layout->codec[TT_MODEL_WTE], TT_CODEC_F32);
    finish(&run);
}

/* ---- memory ---- */

static int64_t resident_tensors(const tt_training *training)
{
    /* The arena's end is known by what was taken last. */
    size_t used = tt_tensor_bytes_used(training->context);
    int64_t largest = tt_model_tensor(training->model, TT_MODEL_WTE)->count;
    const tt_model_dims *dims = tt_model_get_dims(training->model);
    largest = largest > 4 * dims->channels * dims->channels ? largest
                                                            : 4 * dims->channels * dims->channels;
    char *end = (char *)training->memory.staging.v + (largest * 2 + 63) / 64 * 64;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (used + page - 1) / page;
    unsigned char *found = malloc(pages + 1);
    int64_t count = 0;
    assert_true((uintptr_t)(end - used) % page == 0);
    assert_int_equal(mincore(end - used, pages * page, found), 0);
    for (size_t i = 0; i < pages; i++) {
        count += found[i] & 1;
    }
    free(found);
    return count * (int64_t)page;
}

/* `mixed`: in bf16, where two passes share weights packed ahead. */
static void check_memory(const char *moments, const char *activations, const char *slots,
                         bool mixed)
{
    const char *const settings[] = {"model.channels=256",
                                    "model.layers=4",
                                    "model.context=32",
                                    "train.batch=4",
                                    "train.steps=1000",
                                    moments,
                                    activations,
                                    slots,
                                    mixed ? "kernels.compute=bf16" : "kernels.compute=f32",
                                    mixed ? "train.accumulate=2" : "train.accumulate=1",
                                    NULL};
    char folder[128];
    fixture_run run;
    snprintf(folder, sizeof folder, "memory-%s-%s-%s-%s", strchr(moments, '=') + 1,
             strchr(activations, '=') + 1, strchr(slots, '=') + 1, mixed ? "mixed" : "f32");
    start(folder, NULL, settings, &run);
    for (int i = 0; i < 10; i++) {
        step(&run);
    }
    const tt_config *config = tt_orchestrator_config(run.training->orchestrator);
    double measured = (double)resident_tensors(run.training);
    double said = (double)tt_training_memory(run.training, config, false);
    double plan = (double)tt_training_memory_estimate(config);
    print_message("%-28s %8.2f MiB resident, %8.2f said, %+.2f %%; planned %8.2f\n",
                  strchr(folder, '-') + 1, measured / (1 << 20), said / (1 << 20),
                  100 * (measured / said - 1), plan / (1 << 20));
    assert_true(fabs(measured / said - 1) < 0.03);
    assert_true(fabs(measured / plan - 1) < 0.03);
    fixture_destroy(&run);
}

static void memory_is_what_was_said(void **state)
{
    /* A huge page at the edge of what is used counts whole: 2 MiB of so little would be 4 %. */
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    (void)state;
    check_memory("compression.moments=f32", "compression.activations=f32", "snapshot.slots=2",
                 false);
    check_memory("compression.moments=bf16", "compression.activations=f32", "snapshot.slots=2",
                 false);
    check_memory("compression.moments=int8", "compression.activations=f32", "snapshot.slots=2",
                 false);
    check_memory("compression.moments=int8", "compression.activations=int8", "snapshot.slots=2",
                 false);
    check_memory("compression.moments=int8", "compression.activations=f32", "snapshot.slots=1",
                 false);
    check_memory("compression.moments=f32", "compression.activations=bf16", "snapshot.slots=3",
                 false);
    check_memory("compression.moments=f32", "compression.activations=f32", "snapshot.slots=2",
                 true);
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
}

/* ---- conformance ---- */

static tt_config *derived(const tt_config *config, const char *key, const char *value)
{
    tt_config *out = NULL;
    if (tt_config_derive(config, key, value, "test", &out)) {
        fail_msg("%s", tt_error_message());
    }
    return out;
}

static void what_is_there_conforms(void **state)
{
    (void)state;
    static const char *const values[][2] = {
        {"kernels.variant", "reference"},   {"kernels.variant", "auto"},
        {"kernels.tile_k", "256"},          {"compression.moments", "int8"},
        {"compression.moments", "bf16"},    {"compression.activations", "int8"},
        {"compression.activations", "f32"}, {"compression.block", "32"},
        {"compression.block", "4096"},      {"kernels.compute", "bf16"},
    };
    fixture_run run;
    start("conform", NULL, both, &run);
    tt_training *training = run.training;
    const tt_optimization all[] = {
        tt_compute_optimization(training), tt_variant_optimization(training),
        tt_tile_optimization(training), tt_moments_optimization(training),
        tt_activations_optimization(training)};
    tt_tile tile = tt_context_tile(training->context);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        tt_config *config =
            derived(tt_orchestrator_config(training->orchestrator), values[i][0], values[i][1]);
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            if (all[k].conform(all[k].user, config)) {
                fail_msg("%s with %s=%s: %s", all[k].name, values[i][0], values[i][1],
                         tt_error_message());
            }
        }
        tt_config_destroy(config);
    }
    /* The run's own are in force as before. */
    tt_tile after = tt_context_tile(training->context);
    assert_memory_equal(&tile, &after, sizeof tile);
    assert_int_equal(tt_context_compute(training->context), TT_F32);
    assert_string_equal(training->variant.all, "auto");
    assert_string_not_equal(tt_context_variant(training->context, TT_OP_LINEAR_FORWARD)->name,
                            "reference");
    finish(&run);
    assert_same_tensors(fixture_checkpoint(&shared, "undisturbed-both", 24),
                        fixture_checkpoint(&shared, "conform", 24));
}

/* ---- faults that belong to an optimization ---- */

typedef struct fault {
    int64_t from; /* step */
    int times;
} fault;

/* A run as far as `steps`, whatever it goes through; the name of the breaker that is open. */
static const char *open_breaker(tt_training *training)
{
    for (size_t i = 0; i < tt_orchestrator_optimization_count(training->orchestrator); i++) {
        tt_optimization_info info = tt_orchestrator_optimization(training->orchestrator, i);
        if (info.breaker == TT_BREAKER_OPEN) {
            return info.name;
        }
    }
    return "";
}

static void run_on(tt_training *training, int64_t steps)
{
    for (int i = 0; i < 100 && tt_orchestrator_step(training->orchestrator) < steps; i++) {
        if (tt_training_step(training, NULL)) {
            fail_msg("%s", tt_error_message());
        }
    }
    assert_int_equal(tt_orchestrator_step(training->orchestrator), steps);
}

/* int8 moments go bad: a scale is far too large. What it does to the parameters shows a step later.
 */
static void corrupt_scale(void *user, tt_training *training, const tt_step_plan *plan)
{
    fault *f = user;
    tt_slot_memory *memory = &training->memory;
    if (plan->step < f->from ||
        strcmp(tt_config_string(training->current->config, "compression.moments"), "int8") != 0) {
        return;
    }
    for (size_t i = 0; i < tt_slot_part_count(memory, plan->write_slot); i++) {
        tt_tensor_info info;
        tt_slot_part_info(memory, plan->write_slot, i, &info);
        if (strcmp(info.name, "adam_m.int8.scale/wte.weight") == 0) {
            float scales[64];
            for (int k = 0; k < 64; k++) {
                scales[k] = 1e12f;
            }
            assert_int_equal(
                tt_slot_part_write(memory, plan->write_slot, i, 0, scales, sizeof scales), TT_OK);
            f->times++;
        }
    }
}

static void corrupt_moments_convict_moments(void **state)
{
    (void)state;
    fault f = {.from = 14};
    fixture_run run;
    start("fault-moments", NULL, int8, &run);
    run.training->plant_update = corrupt_scale;
    run.training->plant_user = &f;
    run_on(run.training, 20);
    assert_true(f.times >= 1);
    assert_string_equal(open_breaker(run.training), "moments");
    assert_int_equal(run.training->moments.codec, TT_CODEC_F32);
    fixture_destroy(&run);
}

/* A variant that is wrong at one place. */
static tt_status corrupt_op(void *user, const char *name, void *data, tt_dtype dtype, int64_t count)
{
    (void)dtype;
    struct {
        fault f;
        tt_training *training;
    } *planted = user;
    const tt_step_plan *plan = planted->training->current;
    if (plan && plan->step >= planted->f.from && strcmp(name, "act.h.1.gelu") == 0 &&
        strcmp(planted->training->variant.all, "reference") != 0) {
        const float wrong = NAN;
        planted->f.times++;
        return tt_tensor_write(planted->training->context, (float *)data + count / 3, &wrong,
                               sizeof wrong);
    }
    return TT_OK;
}

static void a_wrong_variant_convicts_variant(void **state)
{
    (void)state;
    struct {
        fault f;
        tt_training *training;
    } planted = {.f = {.from = 9}};
    fixture_run run;
    start("fault-variant", NULL, int8, &run);
    planted.training = run.training;
    run.training->plant = corrupt_op;
    run.training->plant_user = &planted;
    run_on(run.training, 16);
    assert_true(planted.f.times >= 2);
    assert_string_equal(open_breaker(run.training), "variant");
    assert_string_equal(run.training->variant.all, "reference");
    fixture_destroy(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_is_the_live_step),
        cmocka_unit_test(an_encoded_checkpoint_goes_on_bit_for_bit),
        cmocka_unit_test(an_encoded_checkpoint_generates),
        cmocka_unit_test(a_resume_may_change_the_codec),
        cmocka_unit_test(memory_is_what_was_said),
        cmocka_unit_test(what_is_there_conforms),
        cmocka_unit_test(corrupt_moments_convict_moments),
        cmocka_unit_test(a_wrong_variant_convicts_variant),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
