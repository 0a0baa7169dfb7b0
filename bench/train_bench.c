/* Whole training steps of a configuration, one choice of kernels against another, in turn.
 *
 *   train_bench CONFIG [--a VARIANT] [--b VARIANT] [--pairs N] [--steps N] [--threads N] [--json]
 *
 * Every run is a process of its own (so that its peak memory is its own), A and B alternate, and
 * the ratio is taken pair by pair. Default: blocked (auto) against reference. Tokens per second is
 * the run's median over steps. Beside it, the share of the step that the orchestrator's policy
 * takes. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trimtab/training.h"

enum { MAX_PAIRS = 101, CORPUS_BYTES = 1 << 21 };

typedef struct settings {
    const char *config;
    const char *variants[2];
    int pairs, steps, threads;
    bool json;
} settings;

typedef struct result {
    double tokens_per_second, policy_share, peak_mib;
} result;

/* ---- one run, in a child ---- */

static void keep_summary(void *user, const tt_training_summary *summary, tt_status outcome)
{
    result *out = user;
    (void)outcome;
    out->tokens_per_second = summary->tokens_per_second;
    out->policy_share = summary->totals.policy_seconds / summary->totals.step_seconds;
}

static void print_log(void *user, tt_log_level level, const char *message)
{
    (void)user;
    if (level >= TT_LOG_WARN) {
        fprintf(stderr, "%s\n", message);
    }
}

static tt_status set(tt_config *config, const char *key, const char *value)
{
    char assignment[4600];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    return tt_config_set(config, TT_SOURCE_COMMAND, assignment, "train_bench");
}

static tt_status configure(const settings *s, const char *variant, const char *root,
                           tt_config *config)
{
    char corpus[4200];
    char steps[32];
    char threads[32];
    snprintf(corpus, sizeof corpus, "%s/corpus.txt", root);
    snprintf(steps, sizeof steps, "%d", s->steps);
    snprintf(threads, sizeof threads, "%d", s->threads);
    const char *const values[][2] = {
        {"data.path", corpus},           {"train.steps", steps},
        {"train.validate_every", "0"},   {"train.validate_sequences", "0"},
        {"checkpoint.every_steps", "0"}, {"sample.tokens", "0"},
        {"kernels.variant", variant},    {"run.threads", threads},
    };
    tt_status status = tt_config_load_file(config, s->config);
    for (size_t i = 0; !status && i < sizeof values / sizeof *values; i++) {
        status = set(config, values[i][0], values[i][1]);
    }
    return status;
}

static tt_status train(const settings *s, const char *variant, const char *root, const char *folder,
                       result *out)
{
    tt_params *params = NULL;
    tt_config *config = NULL;
    tt_training *training = NULL;
    tt_log_sink log = {.write = print_log};
    tt_training_observer observer = {
        .size = sizeof observer, .user = out, .on_finish = keep_summary};
    tt_training_options options;
    tt_training_options_init(&options);
    tt_status status = tt_params_create(&params);
    if (!status) {
        status = tt_training_register(params);
    }
    if (!status) {
        status = tt_config_create(params, &config);
    }
    if (!status) {
        status = configure(s, variant, root, config);
    }
    if (!status) {
        options.params = params;
        options.config = config;
        options.run_directory = folder;
        options.observer = &observer;
        options.log = &log;
        status = tt_training_create(&options, &training);
    }
    if (!status) {
        status = tt_training_run(training);
    }
    tt_training_destroy(training);
    tt_config_destroy(config);
    tt_params_destroy(params);
    return status;
}

static bool run_child(const settings *s, const char *variant, const char *root, int number,
                      result *out)
{
    int ends[2];
    char folder[4200];
    snprintf(folder, sizeof folder, "%s/run%d", root, number);
    if (pipe(ends) != 0) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        result mine = {0};
        if (train(s, variant, root, folder, &mine)) {
            fprintf(stderr, "train_bench: %s: %s\n", variant, tt_error_message());
            _exit(1);
        }
        _exit(write(ends[1], &mine, sizeof mine) == (ssize_t)sizeof mine ? 0 : 1);
    }
    close(ends[1]);
    bool read_all = read(ends[0], out, sizeof *out) == (ssize_t)sizeof *out;
    close(ends[0]);
    int exit_status = 0;
    struct rusage usage = {0};
    bool waited = child > 0 && wait4(child, &exit_status, 0, &usage) == child;
    out->peak_mib = (double)usage.ru_maxrss / 1024;
    char command[4300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 && read_all && waited && exit_status == 0;
}

/* ---- statistics ---- */

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

typedef struct figure {
    double median, low, high;
} figure;

static figure summarise(const double *values, int count)
{
    double sorted[MAX_PAIRS] = {0};
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    double middle = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
    return (figure){middle, sorted[0], sorted[count - 1]};
}

typedef struct figures {
    figure rates[2], ratio;
    figure memory[2], memory_ratio;
    figure policy;
} figures;

static figures summarise_all(const settings *s, result runs[][2])
{
    double rates[2][MAX_PAIRS], ratio[MAX_PAIRS];
    double memory[2][MAX_PAIRS], memory_ratio[MAX_PAIRS];
    double policy[MAX_PAIRS];
    for (int i = 0; i < s->pairs; i++) {
        const result *a = &runs[i][0], *b = &runs[i][1];
        rates[0][i] = a->tokens_per_second;
        rates[1][i] = b->tokens_per_second;
        ratio[i] = a->tokens_per_second / b->tokens_per_second;
        memory[0][i] = a->peak_mib;
        memory[1][i] = b->peak_mib;
        memory_ratio[i] = a->peak_mib / b->peak_mib;
        policy[i] = a->policy_share;
    }
    return (figures){
        .rates = {summarise(rates[0], s->pairs), summarise(rates[1], s->pairs)},
        .ratio = summarise(ratio, s->pairs),
        .memory = {summarise(memory[0], s->pairs), summarise(memory[1], s->pairs)},
        .memory_ratio = summarise(memory_ratio, s->pairs),
        .policy = summarise(policy, s->pairs),
    };
}

static void print_figure(const char *name, figure f, bool last)
{
    printf("\"%s\":{\"median\":%.6g,\"low\":%.6g,\"high\":%.6g}%s", name, f.median, f.low, f.high,
           last ? "}\n" : ",");
}

static void report(const settings *s, result runs[][2])
{
    figures f = summarise_all(s, runs);
    if (s->json) {
        printf("{\"config\":\"%s\",\"a\":\"%s\",\"b\":\"%s\",\"pairs\":%d,\"steps\":%d,"
               "\"threads\":%d,",
               s->config, s->variants[0], s->variants[1], s->pairs, s->steps, s->threads);
        print_figure("a_tokens_per_second", f.rates[0], false);
        print_figure("b_tokens_per_second", f.rates[1], false);
        print_figure("ratio", f.ratio, false);
        print_figure("a_peak_mib", f.memory[0], false);
        print_figure("b_peak_mib", f.memory[1], false);
        print_figure("memory_ratio", f.memory_ratio, false);
        print_figure("a_policy_share", f.policy, true);
        return;
    }
    printf("%s, %s against %s, %d pairs of %d steps, %d threads; median (lowest to highest)\n",
           s->config, s->variants[0], s->variants[1], s->pairs, s->steps, s->threads);
    printf("tokens/s      %.0f (%.0f to %.0f) against %.0f (%.0f to %.0f)\n", f.rates[0].median,
           f.rates[0].low, f.rates[0].high, f.rates[1].median, f.rates[1].low, f.rates[1].high);
    printf("  ratio       %.2f (%.2f to %.2f)\n", f.ratio.median, f.ratio.low, f.ratio.high);
    printf("peak memory   %.1f against %.1f MiB, ratio %.3f (%.3f to %.3f)\n", f.memory[0].median,
           f.memory[1].median, f.memory_ratio.median, f.memory_ratio.low, f.memory_ratio.high);
    printf("policy        %.5f (%.5f to %.5f) of the step\n", f.policy.median, f.policy.low,
           f.policy.high);
}

/* ---- setup ---- */

static bool write_corpus(const char *root)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/corpus.txt", root);
    FILE *file = fopen(path, "w");
    if (!file) {
        return false;
    }
    for (uint64_t i = 0; i < CORPUS_BYTES / 8; i++) {
        uint32_t block[4];
        tt_philox(1, 2, i, block); /* fixed, so that every machine gets the same bytes */
        fprintf(file, "%07x\n", block[0] & 0xfffffff);
    }
    return fclose(file) == 0;
}

static bool parse(int argc, char **argv, settings *s)
{
    *s = (settings){.variants = {"auto", "reference"}, .pairs = 5, .steps = 20};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0) {
            s->json = true;
            continue;
        }
        if (argv[i][0] != '-') {
            s->config = argv[i];
            continue;
        }
        if (!value) {
            return false;
        }
        i++;
        if (strcmp(argv[i - 1], "--a") == 0) {
            s->variants[0] = value;
        } else if (strcmp(argv[i - 1], "--b") == 0) {
            s->variants[1] = value;
        } else if (strcmp(argv[i - 1], "--pairs") == 0) {
            s->pairs = (int)strtol(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--steps") == 0) {
            s->steps = (int)strtol(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--threads") == 0) {
            s->threads = (int)strtol(value, NULL, 10);
        } else {
            return false;
        }
    }
    if (s->threads == 0) {
        s->threads = tt_threads_available();
    }
    return s->config && s->pairs >= 1 && s->pairs <= MAX_PAIRS && s->steps >= 1;
}

int main(int argc, char **argv)
{
    settings s;
    if (!parse(argc, argv, &s)) {
        fprintf(stderr, "usage: train_bench CONFIG [--a VARIANT] [--b VARIANT] [--pairs N] "
                        "[--steps N] [--threads N] [--json]\n");
        return 2;
    }
    char root[256];
    const char *base = getenv("TMPDIR");
    int length = snprintf(root, sizeof root, "%s/train-bench-XXXXXX", base ? base : "/tmp");
    if (length < 0 || (size_t)length >= sizeof root) {
        fprintf(stderr, "train_bench: TMPDIR is too long\n");
        return 2;
    }
    static result runs[MAX_PAIRS][2];
    if (!mkdtemp(root) || !write_corpus(root)) {
        fprintf(stderr, "train_bench: %s: %s\n", root, strerror(errno));
        return 74;
    }
    bool good = true;
    for (int i = 0; good && i < s.pairs; i++) {
        for (int turn = 0; good && turn < 2; turn++) {
            int side = (turn + i) % 2; /* who goes first alternates too */
            good = run_child(&s, s.variants[side], root, 2 * i + turn, &runs[i][side]);
        }
    }
    if (good) {
        report(&s, runs);
    }
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command) == 0 && good ? 0 : 1;
}
