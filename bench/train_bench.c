/* Whole training steps of a configuration, some settings against others, in turn.
 *
 *   train_bench CONFIG [--a SETTINGS] [--b SETTINGS] [--set SETTINGS] [--pairs N] [--steps N]
 *                      [--threads N] [--json]
 *   train_bench CONFIG --alone | --contexts T,T,... [--tokens N] ...
 *
 * SETTINGS: key=value[,key=value...], or a choice of kernels alone (NAME is kernels.variant=NAME);
 * the options repeat. --set is for both sides. A side without settings is the configuration as it
 * stands; with neither --a nor --b: auto against reference.
 *
 * Every run is a process of its own (so that its peak memory is its own), A and B alternate, and
 * the ratio is taken pair by pair. Tokens per second is the run's median over steps. Beside it,
 * what the orchestrator's policy takes of the step.
 *
 * --alone: only the configuration with --set, no other side. --contexts: the same once for each
 * length of sequences, in batches that keep the tokens of a step (--tokens, 4096) the same. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "calm.h"
#include "runs.h"

enum { MAX_PAIRS = 101, MAX_CONTEXTS = 16 };

typedef struct settings {
    const char *config;
    bench_settings sides[2], both;
    int pairs, steps, threads;
    int contexts[MAX_CONTEXTS], context_count, tokens;
    bool json, alone;
} settings;

typedef struct result {
    double tokens_per_second, policy_share, policy_us, policy_mean_us, peak_mib;
} result;

/* ---- one run, in a child ---- */

typedef struct watch {
    result *out;
    int steps;
    double policy_us[BENCH_VALUES]; /* of the first steps */
} watch;

static void keep_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    watch *w = user;
    (void)plan;
    if (w->steps < BENCH_VALUES) {
        w->policy_us[w->steps++] = 1e6 * record->policy_seconds;
    }
}

static void keep_summary(void *user, const tt_training_summary *summary, tt_status outcome)
{
    watch *w = user;
    const tt_run_totals *totals = &summary->totals;
    (void)outcome;
    w->out->tokens_per_second = summary->tokens_per_second;
    w->out->policy_share = totals->policy_seconds / totals->step_seconds;
    w->out->policy_mean_us =
        1e6 * totals->policy_seconds / (double)(totals->published + totals->trips);
    w->out->policy_us = bench_quantile(w->policy_us, w->steps, 0.5);
}

static tt_status train(void *user, void *out)
{
    static watch w;
    bench_job job = *(const bench_job *)user;
    tt_training_observer observer = {
        .size = sizeof observer, .user = &w, .on_step = keep_step, .on_finish = keep_summary};
    w = (watch){.out = out};
    job.observer = &observer;
    return bench_train(&job);
}

static bool run_side(const settings *s, int side, const char *root, result *out)
{
    bench_job job = {.config = s->config,
                     .root = root,
                     .sides = {&s->both, &s->sides[side]},
                     .steps = s->steps,
                     .threads = s->threads};
    double peak = 0;
    if (!bench_in_child(train, &job, out, sizeof *out, &peak)) {
        fprintf(stderr, "train_bench: no figures of: ");
        bench_settings_print(&s->sides[side], stderr);
        fputc('\n', stderr);
        return false;
    }
    out->peak_mib = peak;
    return true;
}

/* ---- the report ---- */

typedef struct figures {
    bench_figure rates[2], ratio;
    bench_figure memory[2], memory_ratio;
    bench_figure policy[2], policy_us[2], policy_mean_us[2];
} figures;

/* Of one field, given by its offset, on one side. */
static bench_figure of_side(const settings *s, result runs[][2], int side, size_t field)
{
    double values[MAX_PAIRS];
    for (int i = 0; i < s->pairs; i++) {
        memcpy(&values[i], (const char *)&runs[i][side] + field, sizeof *values);
    }
    return bench_summarise(values, s->pairs);
}

/* Of a field's ratio, A over B. */
static bench_figure of_pairs(const settings *s, result runs[][2], size_t field)
{
    double values[MAX_PAIRS];
    for (int i = 0; i < s->pairs; i++) {
        double a, b;
        memcpy(&a, (const char *)&runs[i][0] + field, sizeof a);
        memcpy(&b, (const char *)&runs[i][1] + field, sizeof b);
        values[i] = a / b;
    }
    return bench_summarise(values, s->pairs);
}

static figures summarise_all(const settings *s, result runs[][2])
{
    figures f = {.ratio = of_pairs(s, runs, offsetof(result, tokens_per_second)),
                 .memory_ratio = of_pairs(s, runs, offsetof(result, peak_mib))};
    for (int side = 0; side < 2; side++) {
        f.rates[side] = of_side(s, runs, side, offsetof(result, tokens_per_second));
        f.memory[side] = of_side(s, runs, side, offsetof(result, peak_mib));
        f.policy[side] = of_side(s, runs, side, offsetof(result, policy_share));
        f.policy_us[side] = of_side(s, runs, side, offsetof(result, policy_us));
        f.policy_mean_us[side] = of_side(s, runs, side, offsetof(result, policy_mean_us));
    }
    return f;
}

static void print_name(const char *name, const bench_settings *side)
{
    printf("\"%s\":\"", name);
    bench_settings_print(side, stdout);
    printf("\",");
}

static void print_json(const settings *s, const figures *f)
{
    const struct {
        const char *name;
        bench_figure figure;
    } all[] = {
        {"a_tokens_per_second", f->rates[0]},
        {"b_tokens_per_second", f->rates[1]},
        {"ratio", f->ratio},
        {"a_peak_mib", f->memory[0]},
        {"b_peak_mib", f->memory[1]},
        {"memory_ratio", f->memory_ratio},
        {"a_policy_share", f->policy[0]},
        {"b_policy_share", f->policy[1]},
        {"a_policy_us", f->policy_us[0]},
        {"b_policy_us", f->policy_us[1]},
        {"a_policy_mean_us", f->policy_mean_us[0]},
        {"b_policy_mean_us", f->policy_mean_us[1]},
    };
    printf("{\"config\":\"%s\",", s->config);
    print_name("a", &s->sides[0]);
    print_name("b", &s->sides[1]);
    print_name("both", &s->both);
    printf("\"pairs\":%d,\"steps\":%d,\"threads\":%d", s->pairs, s->steps, s->threads);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        putchar(',');
        bench_print_figure(all[i].name, all[i].figure);
    }
    printf("}\n");
}

static void print_table(const settings *s, const figures *f)
{
    printf("%s, A: ", s->config);
    bench_settings_print(&s->sides[0], stdout);
    printf("; B: ");
    bench_settings_print(&s->sides[1], stdout);
    printf("; both: ");
    bench_settings_print(&s->both, stdout);
    printf("\n%d pairs of %d steps, %d threads; median (lowest to highest), A against B\n",
           s->pairs, s->steps, s->threads);
    printf("tokens/s      %.0f (%.0f to %.0f) against %.0f (%.0f to %.0f)\n", f->rates[0].median,
           f->rates[0].low, f->rates[0].high, f->rates[1].median, f->rates[1].low,
           f->rates[1].high);
    printf("  ratio       %.3f (%.3f to %.3f)\n", f->ratio.median, f->ratio.low, f->ratio.high);
    printf("peak memory   %.1f against %.1f MiB, ratio %.3f (%.3f to %.3f)\n", f->memory[0].median,
           f->memory[1].median, f->memory_ratio.median, f->memory_ratio.low, f->memory_ratio.high);
    for (int side = 0; side < 2; side++) {
        const bench_figure *own = &f->policy_us[side], *mean = &f->policy_mean_us[side];
        const bench_figure *share = &f->policy[side];
        printf("policy of %c   %.1f us (%.1f to %.1f) a step, mean %.1f us (%.1f to %.1f), %.5f "
               "(%.5f to %.5f) of the step\n",
               side == 0 ? 'A' : 'B', own->median, own->low, own->high, mean->median, mean->low,
               mean->high, share->median, share->low, share->high);
    }
}

/* ---- one side alone, and over lengths of sequences ---- */

/* Several runs of the configuration with `more` settings. */
static bool run_alone(const settings *s, const char *more, const char *root, bench_figure *rate,
                      bench_figure *memory)
{
    static settings one; /* its lists point into it */
    static result runs[MAX_PAIRS][2];
    one = *s;
    one.sides[0] = (bench_settings){0};
    one.both = (bench_settings){0};
    bool good = true;
    for (int i = 0; good && i < s->both.count; i++) {
        good = bench_settings_add(&one.both, s->both.list[i]);
    }
    good = good && (!more || bench_settings_add(&one.both, more));
    for (int i = 0; good && i < s->pairs; i++) {
        good = run_side(&one, 0, root, &runs[i][0]);
    }
    if (good) {
        *rate = of_side(&one, runs, 0, offsetof(result, tokens_per_second));
        *memory = of_side(&one, runs, 0, offsetof(result, peak_mib));
    }
    return good;
}

static void print_alone(const settings *s, int context, bench_figure rate, bench_figure memory)
{
    if (s->json) {
        printf("{\"config\":\"%s\",", s->config);
        print_name("set", &s->both);
        printf("\"context\":%d,\"runs\":%d,\"steps\":%d,\"threads\":%d,", context, s->pairs,
               s->steps, s->threads);
        bench_print_figure("tokens_per_second", rate);
        putchar(',');
        bench_print_figure("peak_mib", memory);
        printf("}\n");
        return;
    }
    if (context > 0) {
        printf("context %5d  ", context);
    }
    printf("tokens/s %.0f (%.0f to %.0f), peak memory %.1f MiB\n", rate.median, rate.low, rate.high,
           memory.median);
}

static bool report_alone(const settings *s, const char *root)
{
    bench_figure rate, memory;
    if (s->context_count == 0) {
        bool good = run_alone(s, NULL, root, &rate, &memory);
        if (good) {
            print_alone(s, 0, rate, memory);
        }
        return good;
    }
    bool good = true;
    for (int i = 0; good && i < s->context_count; i++) {
        char more[96];
        const int context = s->contexts[i];
        snprintf(more, sizeof more, "model.context=%d,train.batch=%d", context,
                 s->tokens / context);
        good = run_alone(s, more, root, &rate, &memory);
        if (good) {
            print_alone(s, context, rate, memory);
        }
    }
    return good;
}

/* ---- setup ---- */

static bool parse_count(const char *value, int *out)
{
    char *end;
    long number = strtol(value, &end, 10);
    *out = (int)number;
    return end != value && *end == '\0' && number >= 0 && number <= 1000000;
}

/* Whether they divide the tokens of a step is seen when these are known. */
static bool parse_contexts(settings *s, const char *value)
{
    for (char *end; s->context_count < MAX_CONTEXTS; value = end + 1) {
        long number = strtol(value, &end, 10);
        if (end == value || number < 1 || number > 1000000) {
            return false;
        }
        s->contexts[s->context_count++] = (int)number;
        if (*end == '\0') {
            return true;
        }
        if (*end != ',') {
            return false;
        }
    }
    return false;
}

static bool contexts_fit(const settings *s)
{
    for (int i = 0; i < s->context_count; i++) {
        if (s->tokens % s->contexts[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool parse_option(settings *s, const char *option, const char *value)
{
    if (strcmp(option, "--a") == 0) {
        return bench_settings_add(&s->sides[0], value);
    }
    if (strcmp(option, "--b") == 0) {
        return bench_settings_add(&s->sides[1], value);
    }
    if (strcmp(option, "--set") == 0) {
        return bench_settings_add(&s->both, value);
    }
    if (strcmp(option, "--contexts") == 0) {
        return parse_contexts(s, value);
    }
    int *count = strcmp(option, "--pairs") == 0     ? &s->pairs
                 : strcmp(option, "--tokens") == 0  ? &s->tokens
                 : strcmp(option, "--steps") == 0   ? &s->steps
                 : strcmp(option, "--threads") == 0 ? &s->threads
                                                    : NULL;
    return count && parse_count(value, count);
}

static bool parse(int argc, char **argv, settings *s)
{
    *s = (settings){.pairs = 5, .steps = 20, .tokens = 4096};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            s->json = true;
        } else if (strcmp(argv[i], "--alone") == 0) {
            s->alone = true;
        } else if (argv[i][0] != '-') {
            s->config = argv[i];
        } else if (i + 1 == argc || !parse_option(s, argv[i], argv[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    if (s->threads == 0) {
        s->threads = tt_threads_available();
    }
    const bool sides = s->sides[0].count > 0 || s->sides[1].count > 0;
    s->alone = s->alone || s->context_count > 0;
    if (s->alone && (sides || !contexts_fit(s))) {
        return false;
    }
    if (!s->alone && !sides) {
        (void)bench_settings_add(&s->sides[0], "auto");
        (void)bench_settings_add(&s->sides[1], "reference");
    }
    return s->config && s->pairs >= 1 && s->pairs <= MAX_PAIRS && s->steps >= 1;
}

int main(int argc, char **argv)
{
    static settings s; /* its lists point into it */
    static result runs[MAX_PAIRS][2];
    cli_calm_threads(argv); /* as the command's own */
    tt_threads_release_caller();
    if (!parse(argc, argv, &s)) {
        fprintf(stderr, "usage: train_bench CONFIG [--a KEY=VALUE,...] [--b KEY=VALUE,...] [--set "
                        "KEY=VALUE,...] [--alone | --contexts T,T,... [--tokens N]] [--pairs N] "
                        "[--steps N] [--threads N] [--json]\n");
        return 2;
    }
    char root[4096];
    if (!bench_folder_make(root, sizeof root)) {
        fprintf(stderr, "train_bench: no scratch folder: %s\n", strerror(errno));
        return 74;
    }
    if (s.alone) {
        bool done = report_alone(&s, root);
        return bench_folder_remove(root) && done ? 0 : 1;
    }
    bool good = true;
    for (int i = 0; good && i < s.pairs; i++) {
        for (int turn = 0; good && turn < 2; turn++) {
            int side = (turn + i) % 2; /* who goes first alternates too */
            good = run_side(&s, side, root, &runs[i][side]);
        }
    }
    if (good) {
        figures f = summarise_all(&s, runs);
        (s.json ? print_json : print_table)(&s, &f);
    }
    return bench_folder_remove(root) && good ? 0 : 1;
}
