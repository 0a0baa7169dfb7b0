/* Calibration of the gates: power rises with the fault, a clean run trips nothing, and neither the
 * run that is looked at nor the disk keeps a trace. */
#include "calibrate/calibrate.h"
#include "fixture.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static fixture shared;
static char scratch[512]; /* TMPDIR of the calibrations */

static int setup(void **state)
{
    (void)state;
    fixture_init(&shared, 60000);
    snprintf(scratch, sizeof scratch, "%s", fixture_path(&shared, "scratch"));
    assert_int_equal(mkdir(scratch, 0777), 0);
    assert_int_equal(setenv("TMPDIR", scratch, 1), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_clear(&shared);
    return 0;
}

static int entries(const char *path)
{
    DIR *folder = opendir(path);
    int count = 0;
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count;
}

#define SMALL                                                                                      \
    "model.channels=64", "train.steps=2000", "train.batch=4", "optim.learning_rate=0.003",         \
        "optim.warmup_steps=20"

static const char *const small[] = {SMALL, NULL};
static const char *const codecs[] = {SMALL, "compression.moments=int8",
                                     "compression.activations=int8", "train.accumulate=2", NULL};

static tt_calibrate_options options_for(tt_config *config)
{
    tt_calibrate_options options;
    tt_calibrate_options_init(&options);
    options.params = shared.params;
    options.config = config;
    return options;
}

static const tt_calibration_row *row_of(const tt_calibration *result, const char *fault,
                                        const char *size)
{
    for (size_t i = 0; i < result->row_count; i++) {
        if (strcmp(result->rows[i].fault, fault) == 0 && strcmp(result->rows[i].size, size) == 0) {
            return &result->rows[i];
        }
    }
    fail_msg("no row '%s' %s", fault, size);
    return NULL;
}

static int64_t seen_by(const tt_calibration *result, const tt_calibration_row *row,
                       const char *gate)
{
    for (size_t g = 0; g < result->gate_count; g++) {
        if (strcmp(result->gates[g].name, gate) == 0) {
            return row->seen_by[g];
        }
    }
    fail_msg("no gate %s", gate);
    return 0;
}

static bool has_finding(const tt_calibration *result, const char *part)
{
    for (size_t i = 0; i < result->finding_count; i++) {
        if (strstr(result->findings[i], part)) {
            return true;
        }
    }
    return false;
}

/* ---- power -------------------------------------------------------------------------------- */

/* Each size of a fault is seen at least as often as the milder one before it, but for one trial
 * (batches differ). */
static void assert_power_rises(const tt_calibration *result, const char *fault)
{
    const tt_calibration_row *before = NULL;
    for (size_t i = 0; i < result->row_count; i++) {
        const tt_calibration_row *row = &result->rows[i];
        if (strcmp(row->fault, fault) != 0) {
            continue;
        }
        if (before && row->seen + 1 + row->trials / 20 < before->seen) {
            fail_msg("%s: %s is seen %d times, %s %d times", fault, before->size, (int)before->seen,
                     row->size, (int)row->seen);
        }
        assert_true(row->power.low <= (double)row->seen / (double)row->trials);
        assert_true(row->power.high >= (double)row->seen / (double)row->trials);
        before = row;
    }
    assert_non_null(before);
}

static void assert_clean(const tt_calibration *result)
{
    for (size_t g = 0; g < result->gate_count; g++) {
        const tt_calibration_gate *gate = &result->gates[g];
        if (gate->trips > 0) {
            fail_msg("%s tripped %d times without a fault", gate->name, (int)gate->trips);
        }
        assert_true(gate->armed == (gate->evaluations > 0));
        assert_true(gate->false_rate.low == 0 && gate->false_rate.high > 0);
    }
    assert_int_equal(result->resampled_trips, 0);
    assert_true(has_finding(result, "no gate tripped without a fault"));
}

static void power_rises_with_size(void **state)
{
    (void)state;
    tt_config *config = fixture_config(&shared, small);
    tt_calibrate_options options = options_for(config);
    tt_calibration *result = NULL;
    options.rounds = 8;
    if (tt_calibrate(&options, &result)) {
        fail_msg("%s", tt_error_message());
    }
    assert_true(result->complete);
    assert_int_equal(result->live_steps, TT_CALIBRATE_STEPS + 8);
    assert_int_equal(result->shadow_steps, 8);
    assert_clean(result);
    assert_power_rises(result, "loss");
    assert_power_rises(result, "gradient up");
    assert_power_rises(result, "gradient down");
    assert_power_rises(result, "loss rises for good");
    assert_int_equal(row_of(result, "loss", "x1.2")->seen, 0);
    assert_int_equal(row_of(result, "gradient up", "x1.5")->seen, 0);
    assert_int_equal(row_of(result, "gradient up", "x1e+06")->seen, 8);
    assert_int_equal(row_of(result, "gradient down", "x0.1")->seen, 0);
    assert_int_equal(row_of(result, "gradient down", "x1e-12")->seen, 8);
    assert_int_equal(row_of(result, "loss rises for good", "1 %")->seen, 0);
    assert_int_equal(row_of(result, "loss rises for good", "20 %")->seen, 100);
    const tt_calibration_row *nan = row_of(result, "not a number", "NaN in a gradient");
    assert_int_equal(nan->seen, 8);
    assert_int_equal(seen_by(result, nan, "gradient_finite"), 8);
    assert_int_equal(
        seen_by(result, row_of(result, "not a number", "NaN in a moment"), "update_finite"), 8);
    /* What was asked for is what was made. */
    double times = row_of(result, "gradient up", "x30")->observed;
    assert_true(fabs(times - 30) < 0.01);
    times = row_of(result, "loss", "x2")->observed;
    assert_true(times > 1.6 && times < 2.5);
    assert_true(has_finding(result, "a NaN or an infinity"));
    assert_true(has_finding(result, "not armed in this run, so not measured: reconstruction"));
    tt_calibration_destroy(result);
    tt_config_destroy(config);
    assert_int_equal(entries(scratch), 0);
}

static void codecs_have_gates_of_their_own(void **state)
{
    (void)state;
    tt_config *config = fixture_config(&shared, codecs);
    tt_calibrate_options options = options_for(config);
    tt_calibration *result = NULL;
    options.rounds = 3;
    options.steps = 20;
    if (tt_calibrate(&options, &result)) {
        fail_msg("%s", tt_error_message());
    }
    static const char *const faults[] = {"activations lose", "moments lose", "update error"};
    for (size_t i = 0; i < 3; i++) {
        const char *gate = i < 2 ? "reconstruction" : "update_error";
        assert_power_rises(result, faults[i]);
        assert_int_equal(row_of(result, faults[i], "1 %")->seen, 0);
        assert_int_equal(seen_by(result, row_of(result, faults[i], "8 %"), gate), 3);
        assert_int_equal(row_of(result, faults[i], "20 %")->seen, 3);
    }
    /* Gradients of two microbatches are scaled once. */
    double times = row_of(result, "gradient up", "x30")->observed;
    assert_true(fabs(times - 30) < 0.01);
    assert_false(has_finding(result, "so not measured: reconstruction"));
    assert_true(has_finding(result, "so not measured: spike_loss"));
    tt_calibration_destroy(result);
    tt_config_destroy(config);
    assert_int_equal(entries(scratch), 0);
}

/* ---- no trace ----------------------------------------------------------------------------- */

static uint64_t digest_of(const tt_slot_memory *memory, int slot)
{
    uint64_t digest = 0;
    for (size_t i = 0; i < tt_slot_part_count(memory, slot); i++) {
        tt_tensor_info info;
        tt_slot_part_info(memory, slot, i, &info);
        size_t bytes = tt_dtype_size(info.dtype);
        for (int k = 0; k < info.rank; k++) {
            bytes *= (size_t)info.dims[k];
        }
        char *data = malloc(bytes + 1);
        assert_non_null(data);
        assert_int_equal(tt_slot_part_read(memory, slot, i, 0, data, bytes), TT_OK);
        digest = tt_hash64(data, bytes, digest);
        free(data);
    }
    return digest;
}

static void check_untouched(const char *name, const char *const *settings)
{
    static tt_calibration_whole whole;
    static char names[TT_CALIBRATE_NAMES][TT_TENSOR_NAME];
    tt_calibrate_options options = options_for(NULL);
    fixture_run run;
    assert_int_equal(fixture_create(&shared, name, NULL, settings, NULL, &run), TT_OK);
    tt_orchestrator *o = run.training->orchestrator;
    assert_int_equal(tt_orchestrator_start(o), TT_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tt_training_step(run.training, NULL), TT_OK);
    }
    memset(&whole, 0, sizeof whole);
    whole.public.gate_count = 10;
    tt_calibrator c = {.options = &options,
                       .training = run.training,
                       .host = tt_slot_memory_host(&run.training->memory),
                       .result = &whole,
                       .names.list = names,
                       .rounds = 1};
    uint64_t before = digest_of(&run.training->memory, tt_orchestrator_slot(o));
    assert_int_equal(tt_plant_attach(&c.plant, run.training), TT_OK);
    assert_int_equal(tt_gate_memory_create(o, &c.gates), TT_OK);
    assert_int_equal(tt_calibrate_list_faults(&c), TT_OK);
    assert_int_equal(tt_calibrate_make_faults(&c, 0, 100), TT_OK);
    assert_true(digest_of(&run.training->memory, tt_orchestrator_slot(o)) == before);
    assert_int_equal(tt_orchestrator_step(o), 3);
    assert_int_equal(tt_orchestrator_totals(o).trips, 0);
    tt_gate_memory_destroy(c.gates);
    free(c.observed);
    fixture_destroy(&run);
}

static void faults_do_not_reach_the_live_state(void **state)
{
    (void)state;
    static const char *const one_slot[] = {SMALL, "snapshot.slots=1", NULL};
    check_untouched("untouched", small);
    check_untouched("untouched-codecs", codecs);
    check_untouched("untouched-one", one_slot);
}

static void a_checkpoint_is_begun_from_and_left_alone(void **state)
{
    (void)state;
    char path[512];
    struct stat before;
    struct stat after;
    assert_int_equal(fixture_train(&shared, "earlier", NULL, NULL), TT_OK);
    snprintf(path, sizeof path, "%s", fixture_checkpoint(&shared, "earlier", 12));
    assert_int_equal(stat(path, &before), 0);
    int files = entries(fixture_path(&shared, "earlier"));
    tt_config *config = fixture_config(&shared, NULL);
    tt_calibrate_options options = options_for(config);
    tt_calibration *result = NULL;
    options.resume = path;
    options.rounds = 1;
    options.steps = 2;
    if (tt_calibrate(&options, &result)) {
        fail_msg("%s", tt_error_message());
    }
    assert_int_equal(result->first_step, 12);
    assert_int_equal(result->live_steps, 3);
    assert_int_equal(result->gates[0].evaluations, 4);
    tt_calibration_destroy(result);
    tt_config_destroy(config);
    assert_int_equal(stat(path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim);
    assert_int_equal(entries(fixture_path(&shared, "earlier")), files);
    assert_int_equal(entries(scratch), 0);
}

/* ---- ends --------------------------------------------------------------------------------- */

static bool stop_later(void *user)
{
    int *left = user;
    return --*left < 0;
}

static void it_can_be_stopped_anywhere(void **state)
{
    (void)state;
    static const int after[] = {0, 3, 6, 20};
    for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
        tt_config *config = fixture_config(&shared, NULL);
        tt_calibrate_options options = options_for(config);
        tt_calibration *result = NULL;
        int left = after[i];
        options.user = &left;
        options.stop = stop_later;
        options.steps = 5;
        options.rounds = 2;
        assert_int_equal(tt_calibrate(&options, &result), TT_EREQUEUE);
        assert_null(result);
        assert_int_equal(entries(scratch), 0);
        tt_config_destroy(config);
    }
}

static void it_ends_when_the_time_is_up(void **state)
{
    (void)state;
    tt_config *config = fixture_config(&shared, NULL);
    tt_calibrate_options options = options_for(config);
    tt_calibration *result = NULL;
    options.seconds = 1e-9;
    assert_int_equal(tt_calibrate(&options, &result), TT_OK);
    assert_false(result->complete);
    assert_int_equal(result->rounds, 0);
    assert_true(has_finding(result, "the time was up after 0 of 50 rounds"));
    tt_calibration_destroy(result);
    tt_config_destroy(config);
}

static void gates_that_stop_the_run_are_said_so(void **state)
{
    (void)state;
    static const char *const tight[] = {"gates.grad_norm.max=0.001", NULL};
    tt_config *config = fixture_config(&shared, tight);
    tt_calibrate_options options = options_for(config);
    tt_calibration *result = NULL;
    assert_int_equal(tt_calibrate(&options, &result), TT_EGATE);
    assert_non_null(strstr(tt_error_message(), "without a fault"));
    assert_non_null(strstr(tt_error_message(), "gradient_norm"));
    tt_config_destroy(config);
    assert_int_equal(entries(scratch), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_rises_with_size),
        cmocka_unit_test(codecs_have_gates_of_their_own),
        cmocka_unit_test(faults_do_not_reach_the_live_state),
        cmocka_unit_test(a_checkpoint_is_begun_from_and_left_alone),
        cmocka_unit_test(it_can_be_stopped_anywhere),
        cmocka_unit_test(it_ends_when_the_time_is_up),
        cmocka_unit_test(gates_that_stop_the_run_are_said_so),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
