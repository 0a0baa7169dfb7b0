/* What it costs to be watched: policy, gates with their statistics, slots.
 *
 *   steering_bench [CONFIG] [--set KEY=VALUE,...] [--seconds S] [--steps N] [--pairs N]
 *                  [--threads N] [--json]
 *
 * Protections cannot be switched off in a run, so each cost is measured as a part, in the same run
 * and in turn with its real steps: after every step its statistics are taken once more, as the
 * product takes them and without what only gates need. See README.md for what is compared with
 * what. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "model_internal.h"

#include "calm.h"
#include "runs.h"
#include "uncounted.h"

enum { WARM_STEPS = 3, MAX_PAIRS = 101 };
/* Of a run: at least so many steps, and where the time suffices, so many. */
enum { LEAST_STEPS = 8, MOST_STEPS = 60 };

/* What must not be exceeded. */
static const double policy_us_max = 20, gates_share_max = 0.01, slots_share_max = 0.02;

typedef enum part {
    NORM,       /* statistics of the gradients: sum of squares, count of what is not finite */
    SQUARES,    /* the sum of squares alone, which clipping needs anyway */
    FLAGS,      /* of every microbatch's gradients, where there are several */
    UPDATE,     /* AdamW with its verdict and, over encoded moments, the error statistics */
    BARE,       /* the same without either */
    SAVED,      /* encoding of activations with error statistics, ... */
    SAVED_BARE, /* ... and without */
    PARTS
} part;

typedef struct options {
    const char *config;
    bench_settings settings;
    int pairs, threads, seconds;
    int steps; /* 0: as many as there is time for */
    bool json;
    char root[4096];
} options;

/* One run's, in microseconds. */
typedef struct run_result {
    int count; /* of steps, after the first few */
    double step[BENCH_VALUES], policy[BENCH_VALUES], update[BENCH_VALUES];
    double parts[PARTS][BENCH_VALUES];
    double trips, tokens_per_second;
} run_result;

/* A run in a child, and what its parts work with. */
typedef struct watch {
    tt_training *training;
    run_result *out;
    bool with_parts;
    void *partials;
    bench_adamw_fn *adamw;
    bench_stats_fn *stats;
    /* For activations: an encoder of its own, so as not to touch the run's. */
    tt_context *context;
    tt_compressor *compressor;
    tt_encoded saved;
    double saved_per_step; /* how many times `saved` one step's activations are */
} watch;

static double now_us(void)
{
    tt_clock clock = tt_clock_monotonic();
    return (double)tt_clock_now(&clock) * 1e-3;
}

/* ---- parts ---- */

/* Elements of a flat vector. */
static int64_t vector_elements(const watch *w)
{
    return tt_model_param_count(tt_model_get_dims(w->training->model));
}

static tt_status run_stats(watch *w, bool counted)
{
    tt_tensor_stats stats;
    const tt_stats_args args = {
        .n = vector_elements(w), .x = tt_model_gradients(w->training->model), .out = &stats};
    w->stats(tt_context_threads(w->training->context), w->partials, &args, counted);
    return TT_OK;
}

static tt_status run_flags(watch *w)
{
    const tt_param_tensor *tensor =
        tt_model_tensor(w->training->model, tt_model_lowest_gradient(w->training->model));
    tt_tensor_stats stats;
    const tt_stats_args args = {.n = tensor->count,
                                .x = (const float *)tt_model_gradients(w->training->model) +
                                     tensor->offset,
                                .out = &stats};
    tt_status status = TT_OK;
    for (int64_t i = 0; w->training->accumulate > 1 && i < w->training->accumulate; i++) {
        status = tt_op_run(w->training->context, TT_OP_STATS, &args);
    }
    return status;
}

static void update_f32(watch *w, const tt_step_scalars *scalars, size_t index, int from, int to,
                       bool counted)
{
    const tt_slot_memory *memory = &w->training->memory;
    const tt_param_tensor *tensor = tt_model_tensor(w->training->model, index);
    const tt_slot_tensors *a = &memory->slots[from], *b = &memory->slots[to];
    const int64_t at = tensor->offset;
    tt_verdict verdict = {0};
    const tt_adamw_args args = {
        .n = tensor->count,
        .p = (const float *)a->params + at,
        .m = (const float *)a->m + at,
        .v = (const float *)a->v + at,
        .g = (const float *)tt_model_gradients(w->training->model) + at,
        .p_next = (float *)b->params + at,
        .m_next = (float *)b->m + at,
        .v_next = (float *)b->v + at,
        .weight_decay = tensor->decay ? w->training->optim.weight_decay : 0,
        .scalars = scalars,
        .verdict = &verdict,
    };
    w->adamw(tt_context_threads(w->training->context), w->partials, &args, counted);
}

static tt_status update_encoded(watch *w, const tt_step_scalars *scalars, size_t index, int from,
                                int to, bool counted)
{
    const tt_slot_memory *memory = &w->training->memory;
    const tt_param_tensor *tensor = tt_model_tensor(w->training->model, index);
    const tt_slot_layout *layout = &memory->layouts[from];
    tt_verdict verdict = {0};
    tt_codec_loss lost[3] = {0};
    tt_adamw_encoded_args args = {
        .n = tensor->count,
        .p = (const float *)memory->slots[from].params + tensor->offset,
        .g = (const float *)tt_model_gradients(w->training->model) + tensor->offset,
        .m = tt_slot_moment(memory, from, index, false),
        .v = tt_slot_moment(memory, from, index, true),
        .p_next = (float *)memory->slots[to].params + tensor->offset,
        .weight_decay = tensor->decay ? w->training->optim.weight_decay : 0,
        .scalars = scalars,
        .verdict = &verdict,
        .m_loss = counted ? &lost[0] : NULL,
        .v_loss = counted ? &lost[1] : NULL,
        .u_loss = counted ? &lost[2] : NULL,
        .dither = 1,
    };
    tt_codec codec = layout->codec[index];
    args.m_next = tt_slot_moment_as(memory, to, index, false, codec, layout->block);
    args.v_next = tt_slot_moment_as(memory, to, index, true, codec, layout->block);
    return tt_adamw_encoded(w->training->compressor, &args);
}

/* From the published slot to the scratch slot, which nothing else uses in this run. */
static tt_status run_update(watch *w, const tt_step_record *record, bool counted)
{
    const tt_training *t = w->training;
    int from = tt_orchestrator_slot(t->orchestrator), to = t->memory.count - 1;
    tt_step_scalars scalars = tt_optim_scalars(&t->optim, record->step, record->gradient_norm, 1.0);
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < tt_model_tensor_count(t->model); i++) {
        if (t->memory.layouts[from].codec[i] == TT_CODEC_F32) {
            update_f32(w, &scalars, i, from, to, counted);
        } else {
            status = update_encoded(w, &scalars, i, from, to, counted);
        }
    }
    return status;
}

static tt_status run_saved(watch *w, bool counted)
{
    tt_codec_loss loss = {0};
    return w->saved.data ? tt_encode(w->compressor, tt_model_gradients(w->training->model),
                                     &w->saved, counted ? &loss : NULL)
                         : TT_OK;
}

static tt_status run_part(watch *w, part which, const tt_step_record *record)
{
    if (tt_model_get_dims(w->training->model)->bf16_weights) {
        return tt_fail(TT_ECONFIG, "parts of a step are timed with compression.weights f32 only");
    }
    switch (which) {
    case NORM:
        return run_stats(w, true);
    case SQUARES:
        return run_stats(w, false);
    case FLAGS:
        return run_flags(w);
    case UPDATE:
        return run_update(w, record, true);
    case BARE:
        return run_update(w, record, false);
    case SAVED:
        return run_saved(w, true);
    default:
        return run_saved(w, false);
    }
}

/* ---- a run ---- */

static tt_status make_encoder(watch *w)
{
    const tt_model *model = w->training->model;
    const tt_act_form form = model->saving.form;
    int64_t rows = w->training->batch * w->training->plan.context, elements = 0;
    if (form.codec == TT_CODEC_F32) {
        return TT_OK;
    }
    for (size_t i = 0; i < model->act_count; i++) {
        elements += model->acts[i].encoded ? rows * model->acts[i].width : 0;
    }
    int64_t n = rows * 4 * w->training->plan.channels; /* the largest kind of tensor */
    n = n < vector_elements(w) ? n : vector_elements(w);
    size_t bytes = tt_codec_bytes(form.codec, form.block, n);
    tt_context_options own;
    tt_context_options_init(&own);
    own.threads = tt_context_threads(w->training->context);
    own.tensor_bytes = bytes + 4096;
    tt_status status = tt_context_create(&own, &w->context);
    status = status ? status : tt_compressor_create(w->context, &w->compressor);
    void *data = NULL;
    status = status ? status : tt_tensor_alloc(w->context, bytes, &data);
    w->saved = (tt_encoded){form.codec, form.block, n, data};
    w->saved_per_step = (double)(elements * w->training->accumulate) / (double)n;
    return status;
}

static void time_parts(watch *w, const tt_step_record *record, double *out)
{
    for (int i = 0; i < PARTS; i++) {
        part which = (part)(record->step % 2 == 0 ? i : PARTS - 1 - i);
        double begin = now_us();
        if (run_part(w, which, record)) {
            fprintf(stderr, "steering_bench: %s\n", tt_error_message());
            _Exit(1);
        }
        out[which] = now_us() - begin;
    }
    out[SAVED] *= w->saved_per_step;
    out[SAVED_BARE] *= w->saved_per_step;
}

static void on_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    watch *w = user;
    run_result *r = w->out;
    double parts[PARTS] = {0};
    (void)plan;
    r->trips += record->published ? 0 : 1;
    if (w->with_parts && record->step == 0 && make_encoder(w)) {
        fprintf(stderr, "steering_bench: %s\n", tt_error_message());
        _Exit(1);
    }
    if (w->with_parts) {
        time_parts(w, record, parts);
    }
    if (record->step < WARM_STEPS || r->count == BENCH_VALUES) {
        return;
    }
    r->step[r->count] = 1e6 * record->seconds;
    r->policy[r->count] = 1e6 * record->policy_seconds;
    r->update[r->count] = 1e6 * record->update_seconds;
    for (int i = 0; i < PARTS; i++) {
        r->parts[i][r->count] = parts[i];
    }
    r->count++;
}

static void on_finish(void *user, const tt_training_summary *summary, tt_status outcome)
{
    (void)outcome;
    ((watch *)user)->out->tokens_per_second = summary->tokens_per_second;
}

typedef struct job {
    const options *options;
    const bench_settings *side; /* may be NULL */
    bool with_parts;
} job;

static void choose_level(watch *w)
{
    w->adamw = bench_adamw__blocked_v1;
    w->stats = bench_stats__blocked_v1;
#if defined(__x86_64__)
    if (tt_isa_available(TT_ISA_X86_64_V3)) {
        w->adamw = bench_adamw__blocked_v3;
        w->stats = bench_stats__blocked_v3;
    }
    if (tt_isa_available(TT_ISA_X86_64_V4)) {
        w->adamw = bench_adamw__blocked_v4;
        w->stats = bench_stats__blocked_v4;
    }
#endif
}

static tt_status run_job(void *user, void *result)
{
    const job *j = user;
    watch w = {.out = result, .with_parts = j->with_parts, .saved_per_step = 1};
    tt_training_observer observer = {
        .size = sizeof observer, .user = &w, .on_step = on_step, .on_finish = on_finish};
    bench_job b = {.config = j->options->config,
                   .root = j->options->root,
                   .sides = {&j->options->settings, j->side},
                   .steps = j->options->steps,
                   .threads = j->options->threads,
                   .observer = &observer,
                   .training = &w.training};
    choose_level(&w);
    w.partials = malloc(BENCH_PARTIALS_BYTES);
    if (!w.partials) {
        return tt_fail(TT_ENOMEM, "no memory");
    }
    memset(result, 0, sizeof(run_result)); /* what the run before left here */
    tt_status status = bench_train(&b);
    tt_compressor_destroy(w.compressor);
    tt_context_destroy(w.context);
    free(w.partials);
    return status;
}

/* ---- progress ---- */

/* Runs that are done, of how many; on standard error, because the report comes at the very end. */
typedef struct progress {
    double begin_us;
    int done, runs;
    double seconds; /* that all of it should take; INFINITY where the user has set the steps */
} progress;

static double seconds_spent(const progress *p)
{
    return 1e-6 * (now_us() - p->begin_us);
}

static int count_runs(const options *o)
{
    return 2 + 2 * o->pairs;
}

static bool run_one(job *j, progress *p, const char *what, run_result *r, double *memory)
{
    fprintf(stderr, "steering_bench: run %d of %d (%s), %d steps; %.0f s so far\n", ++p->done,
            p->runs, what, j->options->steps, seconds_spent(p));
    return bench_in_child(run_job, j, r, sizeof *r, memory);
}

/* What fits into the time: a short run tells how long a step takes, and leaves what the tuner has
 * measured to the others. */
static bool choose_steps(options *o, progress *p, run_result *r)
{
    o->steps = LEAST_STEPS;
    p->runs = 1 + count_runs(o);
    job j = {.options = o};
    if (!run_one(&j, p, "how long a step takes", r, NULL)) {
        return false;
    }
    const double step = 1e-6 * bench_quantile(r->step, r->count, 0.5);
    const double fit = (o->seconds - seconds_spent(p)) / (step * count_runs(o));
    o->steps = (int)fmin(fmax(fit, LEAST_STEPS), MOST_STEPS);
    p->seconds = o->seconds;
    return true;
}

/* ---- figures ---- */

typedef struct figures {
    int steps;
    double trips;
    double step_us, policy_us, policy_p99_us, policy_share;
    double parts_step_us, update_us;
    bench_figure parts[PARTS];
    /* With a thing less without it, step by step. */
    bench_figure nonfinite, verdict, saved;
    double gates_share, gates_and_norm_share;
    int pairs; /* that there was time for */
    bench_figure slots_ratio, slots_mib[2];
} figures;

static bench_figure differences(const run_result *r, part with, part without)
{
    double values[BENCH_VALUES];
    for (int i = 0; i < r->count; i++) {
        values[i] = r->parts[with][i] - r->parts[without][i];
    }
    return bench_summarise(values, r->count);
}

static void summarise_policy(run_result *r, figures *f)
{
    f->steps = r->count;
    f->trips += r->trips;
    f->step_us = bench_quantile(r->step, r->count, 0.5);
    f->policy_us = bench_quantile(r->policy, r->count, 0.5);
    f->policy_p99_us = bench_quantile(r->policy, r->count, 0.99);
    f->policy_share = f->policy_us / f->step_us;
}

static void summarise_parts(const run_result *r, figures *f)
{
    f->trips += r->trips;
    for (int i = 0; i < PARTS; i++) {
        f->parts[i] = bench_summarise(r->parts[i], r->count);
    }
    f->parts_step_us = bench_summarise(r->step, r->count).median;
    f->update_us = bench_summarise(r->update, r->count).median;
    f->nonfinite = differences(r, NORM, SQUARES);
    f->verdict = differences(r, UPDATE, BARE);
    f->saved = differences(r, SAVED, SAVED_BARE);
    double own = f->parts[FLAGS].median + f->verdict.median + f->saved.median;
    f->gates_share = (own + f->nonfinite.median) / f->parts_step_us + f->policy_share;
    f->gates_and_norm_share = (own + f->parts[NORM].median) / f->parts_step_us + f->policy_share;
}

/* Two slots against one (in place), in turn; on a machine that has become slow, fewer pairs. */
static bool measure_slots(const options *o, progress *p, run_result *r, figures *f)
{
    static bench_settings sides[2];
    double ratio[MAX_PAIRS], memory[2][MAX_PAIRS];
    (void)bench_settings_add(&sides[0], "snapshot.slots=2");
    (void)bench_settings_add(&sides[1], "snapshot.slots=1");
    for (int i = 0; i < o->pairs && (i == 0 || seconds_spent(p) < p->seconds); i++) {
        double step[2] = {0, 0};
        for (int turn = 0; turn < 2; turn++) {
            int side = (turn + i) % 2;
            job j = {.options = o, .side = &sides[side]};
            const char *what = side == 0 ? "two slots" : "one slot";
            if (!run_one(&j, p, what, r, &memory[side][i])) {
                return false;
            }
            step[side] = bench_quantile(r->step, r->count, 0.5);
            f->trips += r->trips;
        }
        ratio[i] = step[0] / step[1];
        f->pairs = i + 1;
    }
    f->slots_ratio = bench_summarise(ratio, f->pairs);
    f->slots_mib[0] = bench_summarise(memory[0], f->pairs);
    f->slots_mib[1] = bench_summarise(memory[1], f->pairs);
    return true;
}

static bool measure(options *o, figures *f)
{
    static run_result r;
    progress p = {.begin_us = now_us(), .runs = count_runs(o), .seconds = (double)INFINITY};
    if (o->steps == 0 && !choose_steps(o, &p, &r)) {
        return false;
    }
    job plain = {.options = o}, parts = {.options = o, .with_parts = true};
    if (!run_one(&plain, &p, "policy", &r, NULL)) {
        return false;
    }
    summarise_policy(&r, f);
    if (!run_one(&parts, &p, "gates", &r, NULL)) {
        return false;
    }
    summarise_parts(&r, f);
    return o->pairs == 0 || measure_slots(o, &p, &r, f);
}

/* ---- the report ---- */

static const char *verdict_of(bool good)
{
    return good ? "kept" : "NOT KEPT";
}

static void print_part(const figures *f, const char *name, bench_figure figure)
{
    printf("  %-46s %9.1f us (%.1f to %.1f)  %7.4f %%\n", name, figure.median, figure.low,
           figure.high, 100 * figure.median / f->parts_step_us);
}

static void print_table(const options *o, const figures *f)
{
    printf("%s, ", o->config);
    bench_settings_print(&o->settings, stdout);
    printf("; %d steps of %.0f us, %d threads, %.0f trips; median (lowest to highest), share of "
           "the step\n",
           f->steps, f->step_us, o->threads, f->trips);
    printf("policy: %.1f us, 99th percentile %.1f us, %.4f %% of the step (bar: %.0f us): %s\n",
           f->policy_us, f->policy_p99_us, 100 * f->policy_share, policy_us_max,
           verdict_of(f->policy_us <= policy_us_max));
    printf("gates with their statistics, in steps of %.0f us:\n", f->parts_step_us);
    print_part(f, "gradients: squares (clipping needs them) and count", f->parts[NORM]);
    print_part(f, "  of that, the count of non-finite", f->nonfinite);
    print_part(f, "gradients of each microbatch", f->parts[FLAGS]);
    print_part(f, "update, with verdict and errors of codecs", f->parts[UPDATE]);
    print_part(f, "  of that, verdict and errors", f->verdict);
    print_part(f, "activations: errors of the codec", f->saved);
    printf("  the product's own update: %.1f us\n", f->update_us);
    printf("  sum, with policy: %.4f %% (bar: %.0f %%): %s; %.4f %% with the squares\n",
           100 * f->gates_share, 100 * gates_share_max,
           verdict_of(f->gates_share <= gates_share_max), 100 * f->gates_and_norm_share);
    if (o->pairs > 0) {
        printf("slots: 2 against 1, %d pairs, step time %.4f (%.4f to %.4f) (bar: %.2f): %s; peak "
               "memory %.1f against %.1f MiB\n",
               f->pairs, f->slots_ratio.median, f->slots_ratio.low, f->slots_ratio.high,
               1 + slots_share_max, verdict_of(f->slots_ratio.median <= 1 + slots_share_max),
               f->slots_mib[0].median, f->slots_mib[1].median);
    }
}

static void print_json(const options *o, const figures *f)
{
    static const char *const names[PARTS] = {
        "gradient_statistics_us", "gradient_squares_us", "microbatch_flags_us", "update_us",
        "update_bare_us",         "activations_us",      "activations_bare_us"};
    printf("{\"config\":\"%s\",\"settings\":\"", o->config);
    bench_settings_print(&o->settings, stdout);
    printf("\",\"threads\":%d,\"steps\":%d,\"pairs\":%d,\"trips\":%.0f,\"step_us\":%.6g,"
           "\"policy_us\":%.6g,\"policy_p99_us\":%.6g,\"policy_share\":%.6g,\"parts_step_us\":%.6g,"
           "\"product_update_us\":%.6g,\"gates_share\":%.6g,\"gates_and_squares_share\":%.6g",
           o->threads, f->steps, f->pairs, f->trips, f->step_us, f->policy_us, f->policy_p99_us,
           f->policy_share, f->parts_step_us, f->update_us, f->gates_share,
           f->gates_and_norm_share);
    for (int i = 0; i < PARTS; i++) {
        putchar(',');
        bench_print_figure(names[i], f->parts[i]);
    }
    putchar(',');
    bench_print_figure("nonfinite_count_us", f->nonfinite);
    putchar(',');
    bench_print_figure("verdict_and_errors_us", f->verdict);
    if (o->pairs > 0) {
        putchar(',');
        bench_print_figure("slots_step_ratio", f->slots_ratio);
        putchar(',');
        bench_print_figure("two_slots_peak_mib", f->slots_mib[0]);
        putchar(',');
        bench_print_figure("one_slot_peak_mib", f->slots_mib[1]);
    }
    printf("}\n");
}

/* ---- setup ---- */

static bool parse_option(options *o, const char *option, const char *value)
{
    if (strcmp(option, "--set") == 0) {
        return bench_settings_add(&o->settings, value);
    }
    int *count = strcmp(option, "--pairs") == 0     ? &o->pairs
                 : strcmp(option, "--steps") == 0   ? &o->steps
                 : strcmp(option, "--seconds") == 0 ? &o->seconds
                 : strcmp(option, "--threads") == 0 ? &o->threads
                                                    : NULL;
    char *end = NULL;
    long number = strtol(value, &end, 10);
    if (!count || *end != '\0' || end == value || number < 0 || number > BENCH_VALUES) {
        return false;
    }
    *count = (int)number;
    return true;
}

static bool parse(int argc, char **argv, options *o)
{
    o->config = "examples/gpt-10m.yaml";
    o->seconds = 90;
    o->pairs = 5;
    /* A trial's steps would be compared with others. */
    (void)bench_settings_add(&o->settings, "adapt.every_steps=0");
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            o->json = true;
        } else if (argv[i][0] != '-') {
            o->config = argv[i];
        } else if (i + 1 == argc || !parse_option(o, argv[i], argv[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    if (o->threads == 0) {
        o->threads = tt_threads_available();
    }
    return (o->steps == 0 || o->steps > WARM_STEPS) && o->pairs <= MAX_PAIRS;
}

int main(int argc, char **argv)
{
    static options o; /* its settings point into it */
    figures f = {0};
    cli_calm_threads(argv); /* as the command's own */
    tt_threads_release_caller();
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: steering_bench [CONFIG] [--set KEY=VALUE,...] [--seconds S] "
                        "[--steps N] [--pairs N] [--threads N] [--json]\n");
        return 2;
    }
    if (!bench_folder_make(o.root, sizeof o.root)) {
        fprintf(stderr, "steering_bench: no scratch folder: %s\n", strerror(errno));
        return 74;
    }
    bool good = measure(&o, &f);
    if (good) {
        (o.json ? print_json : print_table)(&o, &f);
    }
    return bench_folder_remove(o.root) && good ? 0 : 1;
}
