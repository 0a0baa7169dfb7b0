/* The first bad step of a run: planted faults are found at their step, tensor and sequence, with
 * the right verdict; the run is only read. */
#include "drill/plant.h"
#include "fixture.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static fixture shared;
static char scratch[512]; /* TMPDIR */

#define KEPT "train.batch=4", "checkpoint.keep=10"
static const char *const plain[] = {KEPT, NULL};

static void make_run(const char *name, const char *const *settings)
{
    if (fixture_train(&shared, name, NULL, settings)) {
        fail_msg("%s", tt_error_message());
    }
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&shared, 30000);
    shared.data_in_file = true;
    make_run("clean", plain);
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

/* Of every file of a folder: name, size, times. */
static uint64_t look_of(const char *path)
{
    char name[1024];
    uint64_t sum = 0;
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        struct stat info;
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        assert_int_equal(lstat(name, &info), 0);
        uint64_t here = tt_hash64(entry->d_name, strlen(entry->d_name), 1);
        here = tt_hash64(&info.st_size, sizeof info.st_size, here);
        here = tt_hash64(&info.st_mtim, sizeof info.st_mtim, here);
        here = tt_hash64(&info.st_ctim, sizeof info.st_ctim, here);
        sum += S_ISDIR(info.st_mode) ? here + look_of(name) : here; /* in any order */
    }
    closedir(folder);
    return sum;
}

/* ---- faults that act in the forks, too ---- */

/* Bad data: what harms is a sequence, whichever batch it is in. */
typedef struct poison {
    tt_plant plant;
    tt_tensor_fault fault;
    int64_t position; /* of the sequence; -1: `fault` as it is */
} poison;

static tt_status in_pass(void *user, const char *name, void *data, int64_t count)
{
    poison *p = user;
    const tt_training *training = p->plant.training;
    const tt_step_plan *plan = training->current;
    bool here = plan->position <= p->position && p->position < plan->position + training->batch;
    if (!here || strcmp(name, p->fault.tensor) != 0) {
        return TT_OK;
    }
    float *copy = malloc((size_t)count * sizeof *copy);
    assert_non_null(copy);
    tt_status status = tt_tensor_read(training->context, copy, data, (size_t)count * sizeof *copy);
    /* All of a microbatch's positions lie one after the other: only this sequence's are harmed. */
    int64_t each = count / training->batch;
    tt_fault_harm(&p->fault, copy + (p->position - plan->position) * each, each);
    if (!status) {
        status = tt_tensor_write(training->context, data, copy, (size_t)count * sizeof *copy);
    }
    free(copy);
    return status;
}

static void plant(void *user, tt_training *training)
{
    poison *p = user;
    if (p->position >= 0) {
        p->plant.training = training;
        training->plant = in_pass;
        training->plant_user = p;
        return;
    }
    tt_tensor_fault fault = p->fault;
    fault.position = -1;
    p->plant.fault = fault;
    assert_int_equal(tt_plant_attach(&p->plant, training), TT_OK);
}

static poison fault_from(tt_fault_kind kind, const char *tensor, int64_t step)
{
    return (poison){.fault = {.kind = kind,
                              .tensor = tensor,
                              .step = step,
                              .last = INT64_MAX,
                              .position = -1,
                              .strikes = -1},
                    .position = -1};
}

static tt_bisection *bisect_with(const char *name, poison *p, double loss, double held_out)
{
    tt_bisect_options options;
    tt_bisection *result = NULL;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", fixture_path(&shared, name));
    tt_bisect_options_init(&options);
    options.params = shared.params;
    options.run_directory = folder;
    options.loss_limit = loss;
    options.held_out_rise = held_out;
    options.user = p;
    options.on_training = p ? plant : NULL;
    uint64_t before = look_of(folder);
    if (tt_bisect(&options, &result)) {
        fail_msg("%s", tt_error_message());
    }
    assert_true(look_of(folder) == before);
    assert_int_equal(rmdir(scratch), 0); /* it is empty */
    assert_int_equal(mkdir(scratch, 0777), 0);
    return result;
}

/* ---- found -------------------------------------------------------------------------------- */

static void a_lasting_nan_is_found_at_its_first_step(void **state)
{
    (void)state;
    for (int64_t step = 1; step < 12; step += 3) {
        poison p = fault_from(TT_FAULT_NAN, "act.h.1.gelu", step);
        tt_bisection *result = bisect_with("clean", &p, 0, 0);
        assert_true(result->found);
        assert_int_equal(result->checkpoints, 4);
        assert_int_equal(result->bad_step, step);
        assert_int_equal(result->position, 4 * step);
        assert_int_equal(result->from_step, step > 1 ? (step - 2) / 4 * 4 : 0);
        assert_string_equal(result->gate, "loss");
        assert_string_equal(result->tensor, "act.h.1.gelu");
        assert_int_equal(result->sample, -1); /* it is in all of them */
        assert_int_equal(result->samples_nonfinite, 4);
        assert_string_equal(result->verdict, "unresolved");
        assert_false(result->nothing_good);
        tt_bisection_destroy(result);
    }
}

static void bad_from_the_oldest_checkpoint_on(void **state)
{
    (void)state;
    poison p = fault_from(TT_FAULT_NAN, "act.embed", 0);
    tt_bisection *result = bisect_with("clean", &p, 0, 0);
    assert_true(result->found && result->nothing_good);
    assert_int_equal(result->bad_step, 0);
    assert_string_equal(result->tensor, "act.embed");
    tt_bisection_destroy(result);
}

static void check_sequence(const char *run, tt_fault_kind kind, double strength)
{
    poison p = fault_from(kind, kind == TT_FAULT_NAN ? "act.h.0.gelu" : "act.ln_f", 0);
    p.fault.magnitude = strength;
    p.position = 4 * 6 + 2; /* the third of step 6 */
    tt_bisection *result = bisect_with(run, &p, 0, 0);
    assert_true(result->found);
    assert_int_equal(result->bad_step, 6);
    assert_int_equal(result->sample, p.position);
    assert_int_equal(result->sequences, 4);
    assert_string_equal(result->verdict, "batch");
    assert_non_null(strstr(result->advice, "data"));
    /* It is there, in the file. */
    assert_string_equal(result->file, shared.data);
    char *text = fixture_read(shared.data);
    assert_int_equal(result->excerpt_bytes, 16);
    assert_memory_equal(text + result->offset, result->excerpt, 16);
    free(text);
    if (kind == TT_FAULT_NAN) {
        assert_string_equal(result->tensor, "act.h.0.gelu");
        assert_int_equal(result->samples_nonfinite, 1);
        assert_true(isnan(result->sample_loss) && isfinite(result->median_loss));
    } else {
        assert_true(result->sample_loss > 10 && result->median_loss < 6);
    }
    tt_bisection_destroy(result);
}

static void the_sequence_that_harms_is_named(void **state)
{
    (void)state;
    /* Stopped before that batch: a run that met it would have left it out. */
    static const char *const two_slots[] = {KEPT, "train.steps=6", NULL};
    static const char *const one_slot[] = {KEPT, "train.steps=6", "snapshot.slots=1", NULL};
    make_run("six", two_slots);
    make_run("one-slot", one_slot);
    check_sequence("six", TT_FAULT_NAN, 0);
    check_sequence("six", TT_FAULT_SCALE, 1e4);
    check_sequence("one-slot", TT_FAULT_NAN, 0);
}

static void the_optimization_that_harms_is_named(void **state)
{
    (void)state;
    static const char *const codec[] = {KEPT, "model.channels=64", "compression.moments=int8",
                                        NULL};
    make_run("codec", codec);
    poison p = fault_from(TT_FAULT_NAN, "params/h.0.mlp.c_fc.weight", 6);
    p.plant.site = TT_PLANT_WRITTEN;
    p.plant.with[0] = "moments";
    tt_bisection *result = bisect_with("codec", &p, 0, 0);
    assert_true(result->found);
    assert_int_equal(result->bad_step, 7); /* that reads what step 6 wrote */
    assert_string_equal(result->gate, "loss");
    assert_string_equal(result->tensor, "params/h.0.mlp.c_fc.weight");
    assert_string_equal(result->verdict, "culprit");
    assert_non_null(strstr(result->verdict_says, "moments"));
    assert_non_null(strstr(result->advice, "go on without moments"));
    tt_bisection_destroy(result);
}

static void what_passes_when_run_again_is_transient(void **state)
{
    (void)state;
    poison p = fault_from(TT_FAULT_NAN, "act.h.0.attn", 12);
    p.fault.strikes = 1;
    tt_bisection *result = bisect_with("clean", &p, 0, 0);
    assert_true(result->found);
    assert_int_equal(result->bad_step, 12);
    assert_int_equal(result->from_step, 8);
    assert_string_equal(result->verdict, "transient");
    tt_bisection_destroy(result);
}

/* ---- gone wrong unnoticed ---- */

/* A run with the fault in it, to its end. */
static void make_harmed_run(const char *name, poison *p)
{
    fixture_run run;
    assert_int_equal(fixture_create(&shared, name, NULL, plain, NULL, &run), TT_OK);
    plant(p, run.training);
    if (tt_training_run(run.training)) {
        fail_msg("%s", tt_error_message());
    }
    fixture_destroy(&run);
}

static void a_loss_or_a_held_out_loss_says_what_no_gate_said(void **state)
{
    (void)state;
    poison p = fault_from(TT_FAULT_SCALE, "params/ln_f.weight", 5);
    p.fault.last = 5;
    p.fault.magnitude = -20;
    p.plant.site = TT_PLANT_WRITTEN;
    make_harmed_run("scaled", &p);
    tt_bisection *result = bisect_with("scaled", &p, 0, 0);
    assert_false(result->found);
    tt_bisection_destroy(result);
    result = bisect_with("scaled", &p, 0, 0.05);
    assert_true(result->found);
    assert_string_equal(result->gate, "held_out");
    assert_int_equal(result->bad_step, 5);
    assert_int_equal(result->from_step, 4);
    tt_bisection_destroy(result);
    result = bisect_with("scaled", &p, 5.8, 0);
    assert_true(result->found);
    assert_string_equal(result->gate, "loss");
    assert_int_equal(result->bad_step, 6); /* the first that saw it */
    tt_bisection_destroy(result);
}

/* ---- not found ---------------------------------------------------------------------------- */

static bool has_note(const tt_bisection *result, const char *part)
{
    for (size_t i = 0; i < result->note_count; i++) {
        if (strstr(result->notes[i], part)) {
            return true;
        }
    }
    return false;
}

static void a_clean_run_has_no_bad_step(void **state)
{
    (void)state;
    tt_bisection *result = bisect_with("clean", NULL, 0, 0.5);
    assert_false(result->found);
    assert_int_equal(result->note_count, 0);
    assert_int_equal(result->first_step, 0);
    assert_int_equal(result->last_step, 12);
    assert_int_equal(result->bad_step, -1);
    tt_bisection_destroy(result);
}

/* What the run left out, its replay leaves out. */
static void decisions_of_the_run_are_followed(void **state)
{
    (void)state;
    poison p = fault_from(TT_FAULT_NAN, "act.h.1.gelu", 0);
    p.position = 4 * 9 + 1;
    make_harmed_run("skipped", &p);
    tt_bisection *result = bisect_with("skipped", &p, 0, 0);
    assert_false(result->found);
    assert_true(has_note(result, "loss tripped at step 9"));
    tt_bisection_destroy(result);
}

static void copy_checkpoints(const char *to, int64_t newest)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", fixture_path(&shared, to));
    assert_int_equal(mkdir(folder, 0777), 0);
    snprintf(folder, sizeof folder, "%s/checkpoints", fixture_path(&shared, to));
    assert_int_equal(mkdir(folder, 0777), 0);
    for (int64_t step = 0; step <= newest; step += 4) {
        assert_int_equal(
            link(fixture_checkpoint(&shared, "clean", step), fixture_checkpoint(&shared, to, step)),
            0);
    }
}

static void damaged_checkpoints_are_passed_over(void **state)
{
    (void)state;
    copy_checkpoints("damaged", 12);
    const char *newest = fixture_checkpoint(&shared, "damaged", 12);
    assert_int_equal(unlink(newest), 0);
    FILE *file = fopen(newest, "w");
    assert_non_null(file);
    fputs("no checkpoint", file);
    assert_int_equal(fclose(file), 0);
    /* One that says to be another step's. */
    assert_int_equal(
        link(fixture_checkpoint(&shared, "clean", 4), fixture_checkpoint(&shared, "damaged", 6)),
        0);
    poison p = fault_from(TT_FAULT_NAN, "act.h.1.gelu", 7);
    tt_bisection *result = bisect_with("damaged", &p, 0, 0);
    assert_true(result->found);
    assert_int_equal(result->checkpoints, 3);
    assert_int_equal(result->bad_step, 7);
    assert_int_equal(result->note_count, 2);
    assert_true(has_note(result, "step-0000000012.h5"));
    assert_true(has_note(result, "its header says step 4"));
    tt_bisection_destroy(result);
}

static bool stop_later(void *user)
{
    int *left = user;
    return --*left < 0;
}

static void what_cannot_be_searched_is_refused(void **state)
{
    (void)state;
    tt_bisect_options options;
    tt_bisection *result = NULL;
    tt_bisect_options_init(&options);
    options.params = shared.params;
    options.run_directory = fixture_path(&shared, "nowhere");
    assert_int_equal(tt_bisect(&options, &result), TT_ENOTFOUND);
    copy_checkpoints("none", -1);
    options.run_directory = fixture_path(&shared, "none");
    assert_int_equal(tt_bisect(&options, &result), TT_ENOTFOUND);
    assert_non_null(strstr(tt_error_message(), "holds no checkpoint"));
    FILE *file = fopen(fixture_checkpoint(&shared, "none", 3), "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(tt_bisect(&options, &result), TT_ECORRUPT);
    char clean[512];
    snprintf(clean, sizeof clean, "%s", fixture_path(&shared, "clean"));
    for (int after = 0; after < 12; after += 3) {
        int left = after;
        options.run_directory = clean;
        options.user = &left;
        options.stop = stop_later;
        options.loss_limit = after > 6 ? 1 : 0; /* then there is a bad step to look into */
        assert_int_equal(tt_bisect(&options, &result), TT_EREQUEUE);
        assert_null(result);
    }
    assert_int_equal(rmdir(scratch), 0);
    assert_int_equal(mkdir(scratch, 0777), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lasting_nan_is_found_at_its_first_step),
        cmocka_unit_test(bad_from_the_oldest_checkpoint_on),
        cmocka_unit_test(the_sequence_that_harms_is_named),
        cmocka_unit_test(the_optimization_that_harms_is_named),
        cmocka_unit_test(what_passes_when_run_again_is_transient),
        cmocka_unit_test(a_loss_or_a_held_out_loss_says_what_no_gate_said),
        cmocka_unit_test(a_clean_run_has_no_bad_step),
        cmocka_unit_test(decisions_of_the_run_are_followed),
        cmocka_unit_test(damaged_checkpoints_are_passed_over),
        cmocka_unit_test(what_cannot_be_searched_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
