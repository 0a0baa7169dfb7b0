/* Moments in 8 bits train like those in 32, and take the memory that the plan says: the 10.8 M
 * parameter example twice from the same seed over the same text (the machine's own headers), with
 * compression.moments f32 and int8.
 *
 *   test_int8_moments [--steps N] [--batch N]
 *
 * Batches are of 2 sequences instead of 8, so that both runs of 2,000 steps take some 25 minutes on
 * two idle cores. A shorter run is a smoke check: its losses say little, and are not judged. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "internal.h"

enum { HELD_OUT_MAX = 32, WHOLE_RUN = 2000, EVERY = 250 };

static const double loss_difference_max = 0.01, memory_difference_max = 0.03;

static int steps = WHOLE_RUN;
static int batch = 2;
static char root[] = "/tmp/trimtab-int8-XXXXXX";

/* How a slot keeps its moments. `small`: never encoded. */
typedef struct kept {
    int64_t tensors, elements, small_tensors, small_elements;
    int64_t by_codec[TT_CODEC_COUNT], elements_by_codec[TT_CODEC_COUNT];
} kept;

/* What a run writes into its file. */
typedef struct outcome {
    int64_t published, trips, warnings;
    double held_out[HELD_OUT_MAX], final_loss, train_loss;
    int64_t held_out_steps[HELD_OUT_MAX];
    int held_outs;
    int64_t planned_bytes;  /* by the configuration alone */
    int64_t expected_bytes; /* knowing which tensors keep more bits */
    int64_t resident_bytes; /* after the last step */
    kept kept;
    double seconds;
} outcome;

typedef struct watch {
    tt_training *training;
    const tt_config *config;
    outcome *out;
} watch;

static int64_t resident_bytes(void)
{
    char line[256];
    long long kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    assert_non_null(file);
    while (kib == 0 && fgets(line, sizeof line, file)) {
        kib = strncmp(line, "Rss:", 4) == 0 ? strtoll(line + 4, NULL, 10) : 0;
    }
    fclose(file);
    assert_true(kib > 0);
    return kib * 1024;
}

static kept look_at_moments(const tt_training *training)
{
    kept k = {0};
    const tt_slot_layout *layout =
        &training->memory.layouts[tt_orchestrator_slot(training->orchestrator)];
    for (size_t i = 0; i < tt_model_tensor_count(training->model); i++) {
        int64_t count = tt_model_tensor(training->model, i)->count;
        bool small = count < TT_ENCODED_ELEMENTS;
        k.tensors++;
        k.elements += count;
        k.small_tensors += small;
        k.small_elements += small ? count : 0;
        k.by_codec[layout->codec[i]]++;
        k.elements_by_codec[layout->codec[i]] += count;
    }
    return k;
}

static void on_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    watch *w = user;
    if (record->published && record->step + 1 == plan->steps) {
        w->out->resident_bytes = resident_bytes();
        w->out->expected_bytes = tt_training_memory(w->training, w->config, false);
        w->out->kept = look_at_moments(w->training);
    }
}

static void on_held_out(void *user, int64_t step, double loss, double bits_per_byte)
{
    outcome *out = ((watch *)user)->out;
    (void)bits_per_byte;
    if (out->held_outs < HELD_OUT_MAX) {
        out->held_out_steps[out->held_outs] = step;
        out->held_out[out->held_outs++] = loss;
    }
}

static void on_finish(void *user, const tt_training_summary *summary, tt_status ended)
{
    outcome *out = ((watch *)user)->out;
    (void)ended;
    out->published = summary->totals.published;
    out->trips = summary->totals.trips;
    out->warnings = summary->totals.warnings;
    out->final_loss = summary->held_out_loss;
    out->train_loss = summary->train_loss;
}

static tt_config *configure(const tt_params *params, const char *codec)
{
    /* Nothing that is decided by a clock: both runs are to differ in the codec alone. */
    static const char *const fixed[] = {"data.path=/usr/include", "data.limit_bytes=12000000",
                                        "snapshot.slots=2", "adapt.every_steps=0",
                                        /* batches of 2: healthy norms go beyond 10 at times */
                                        "gates.grad_norm.max=100", "kernels.tune_seconds=0",
                                        "kernels.tile_m=128", "kernels.tile_n=256",
                                        "kernels.tile_k=256", "checkpoint.every_steps=0",
                                        "train.validate_sequences=128", "sample.tokens=0"};
    char changing[4][64];
    tt_config *config = NULL;
    snprintf(changing[0], sizeof *changing, "compression.moments=%s", codec);
    snprintf(changing[1], sizeof *changing, "train.steps=%d", steps);
    snprintf(changing[2], sizeof *changing, "train.batch=%d", batch);
    snprintf(changing[3], sizeof *changing, "train.validate_every=%d", EVERY);
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

/* ---- in a child ---- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static tt_status train(const char *codec, const char *folder, outcome *out)
{
    tt_params *params = NULL;
    assert_int_equal(tt_params_create(&params), TT_OK);
    assert_int_equal(tt_training_register(params), TT_OK);
    tt_config *config = configure(params, codec);
    watch w = {.config = config, .out = out};
    tt_training_observer observer = {.size = sizeof observer,
                                     .user = &w,
                                     .on_step = on_step,
                                     .on_held_out = on_held_out,
                                     .on_finish = on_finish};
    tt_training_options options;
    tt_training_options_init(&options);
    options.params = params;
    options.config = config;
    options.run_directory = folder;
    options.observer = &observer;
    double begin = now();
    out->planned_bytes = tt_training_memory_estimate(config);
    tt_status status = tt_training_create(&options, &w.training);
    if (!status) {
        status = tt_training_run(w.training);
    }
    out->seconds = now() - begin;
    tt_training_destroy(w.training);
    tt_config_destroy(config);
    tt_params_destroy(params);
    return status;
}

static int be_child(const char *codec, const char *path)
{
    char folder[128];
    outcome out = {0};
    snprintf(folder, sizeof folder, "%s/%s", root, codec);
    if (train(codec, folder, &out)) {
        fprintf(stderr, "%s: %s\n", codec, tt_error_message());
        return 1;
    }
    FILE *file = fopen(path, "wb");
    return file && fwrite(&out, sizeof out, 1, file) == 1 && fclose(file) == 0 ? 0 : 1;
}

static outcome run(const char *codec)
{
    char path[128];
    outcome out;
    int ended = 0;
    snprintf(path, sizeof path, "%s/%s.outcome", root, codec);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        _exit(be_child(codec, path));
    }
    assert_true(child > 0 && waitpid(child, &ended, 0) == child);
    assert_int_equal(ended, 0);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(&out, sizeof out, 1, file), 1);
    fclose(file);
    return out;
}

/* ---- judged by the parent ---- */

static void print_run(const char *codec, const outcome *o)
{
    const kept *k = &o->kept;
    print_message("%s: %lld steps in %.0f s, %lld trips, %lld warnings; held out after the last "
                  "%.4f; resident %.1f MiB, planned %.1f, expected of its tensors %.1f\n",
                  codec, (long long)o->published, o->seconds, (long long)o->trips,
                  (long long)o->warnings, o->final_loss, (double)o->resident_bytes / 0x1p20,
                  (double)o->planned_bytes / 0x1p20, (double)o->expected_bytes / 0x1p20);
    print_message(
        "  moments at the end: int8 %lld tensors (%lld elements), bf16 %lld (%lld), f32 "
        "%lld (%lld), of which too small to encode: %lld (%lld)\n",
        (long long)k->by_codec[TT_CODEC_INT8], (long long)k->elements_by_codec[TT_CODEC_INT8],
        (long long)k->by_codec[TT_CODEC_BF16], (long long)k->elements_by_codec[TT_CODEC_BF16],
        (long long)k->by_codec[TT_CODEC_F32], (long long)k->elements_by_codec[TT_CODEC_F32],
        (long long)k->small_tensors, (long long)k->small_elements);
}

static void print_json_run(const char *name, const outcome *o)
{
    const kept *k = &o->kept;
    printf("\"%s\":{\"seconds\":%.1f,\"published\":%lld,\"trips\":%lld,\"warnings\":%lld,"
           "\"train_loss\":%.6f,\"held_out\":%.6f,\"resident_bytes\":%lld,\"planned_bytes\":%lld,"
           "\"expected_bytes\":%lld,",
           name, o->seconds, (long long)o->published, (long long)o->trips, (long long)o->warnings,
           o->train_loss, o->final_loss, (long long)o->resident_bytes, (long long)o->planned_bytes,
           (long long)o->expected_bytes);
    printf("\"tensors\":%lld,\"elements\":%lld,\"f32_tensors\":%lld,\"f32_elements\":%lld,"
           "\"small_tensors\":%lld,\"small_elements\":%lld,\"bf16_tensors\":%lld,"
           "\"bf16_elements\":%lld,\"held_outs\":[",
           (long long)k->tensors, (long long)k->elements, (long long)k->by_codec[TT_CODEC_F32],
           (long long)k->elements_by_codec[TT_CODEC_F32], (long long)k->small_tensors,
           (long long)k->small_elements, (long long)k->by_codec[TT_CODEC_BF16],
           (long long)k->elements_by_codec[TT_CODEC_BF16]);
    for (int i = 0; i < o->held_outs; i++) {
        printf("%s[%lld,%.6f]", i > 0 ? "," : "", (long long)o->held_out_steps[i], o->held_out[i]);
    }
    printf("]}");
}

typedef struct comparison {
    double loss_difference;   /* int8's held-out loss less f32's, as a share of that */
    double measured, planned; /* bytes saved */
    double expected;          /* bytes saved, by the tensors that were encoded */
    double planned_off, expected_off;
} comparison;

static comparison compare(const outcome *f32, const outcome *int8)
{
    comparison c = {
        .loss_difference = int8->final_loss / f32->final_loss - 1,
        .measured = (double)(f32->resident_bytes - int8->resident_bytes),
        .planned = (double)(f32->planned_bytes - int8->planned_bytes),
        .expected = (double)(f32->expected_bytes - int8->expected_bytes),
    };
    c.planned_off = c.measured / c.planned - 1;
    c.expected_off = c.measured / c.expected - 1;
    return c;
}

static void print_comparison(const outcome *f32, const outcome *int8, const comparison *c)
{
    print_run("f32", f32);
    print_run("int8", int8);
    for (int i = 0; i < f32->held_outs && i < int8->held_outs; i++) {
        print_message("  step %lld: held out f32 %.4f, int8 %.4f (%+.2f %%)\n",
                      (long long)f32->held_out_steps[i], f32->held_out[i], int8->held_out[i],
                      100 * (int8->held_out[i] / f32->held_out[i] - 1));
    }
    print_message("held-out loss %+.3f %%; saved: measured %.1f MiB, planned %.1f (%+.2f %%), "
                  "expected of the tensors that were encoded %.1f (%+.2f %%)\n",
                  100 * c->loss_difference, c->measured / 0x1p20, c->planned / 0x1p20,
                  100 * c->planned_off, c->expected / 0x1p20, 100 * c->expected_off);
    printf("{\"test\":\"int8_moments\",\"steps\":%d,\"batch\":%d,\"loss_difference\":%.6f,"
           "\"saved_bytes\":%.0f,\"planned_saved_bytes\":%.0f,\"expected_saved_bytes\":%.0f,"
           "\"planned_off\":%.6f,\"expected_off\":%.6f,",
           steps, batch, c->loss_difference, c->measured, c->planned, c->expected, c->planned_off,
           c->expected_off);
    print_json_run("f32", f32);
    printf(",");
    print_json_run("int8", int8);
    printf("}\n");
    fflush(stdout);
}

static void int8_trains_like_f32(void **state)
{
    (void)state;
    outcome f32 = run("f32");
    outcome int8 = run("int8");
    comparison c = compare(&f32, &int8);
    print_comparison(&f32, &int8, &c);
    assert_int_equal(f32.published, steps);
    assert_int_equal(int8.published, steps);
    assert_int_equal(f32.trips, 0);
    assert_int_equal(int8.trips, 0);
    assert_true(isfinite(c.loss_difference));
    assert_true(int8.kept.by_codec[TT_CODEC_INT8] > 0);
    if (steps >= WHOLE_RUN) {
        assert_true(fabs(c.loss_difference) <= loss_difference_max);
        assert_true(fabs(c.planned_off) <= memory_difference_max);
    } else {
        assert_true(fabs(c.expected_off) <= memory_difference_max);
    }
}

/* ---- setup ---- */

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
        fprintf(stderr, "usage: test_int8_moments [--steps N] [--batch N]\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(int8_trains_like_f32)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
