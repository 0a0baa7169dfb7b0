/* Whole training runs for measuring; see runs.h. */
#include "runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- settings ---- */

static bool add_one(bench_settings *s, const char *item, size_t length)
{
    const char *prefix = memchr(item, '=', length) ? "" : "kernels.variant=";
    size_t room = sizeof s->text - s->used;
    if (length == 0 || s->count == BENCH_SETTINGS || strlen(prefix) + length + 1 > room) {
        return false;
    }
    s->list[s->count++] = s->text + s->used;
    s->used += (size_t)snprintf(s->text + s->used, room, "%s%.*s", prefix, (int)length, item) + 1;
    return true;
}

bool bench_settings_add(bench_settings *settings, const char *option)
{
    for (;;) {
        size_t length = strcspn(option, ",");
        if (!add_one(settings, option, length)) {
            return false;
        }
        if (option[length] == '\0') {
            return true;
        }
        option += length + 1;
    }
}

void bench_settings_print(const bench_settings *settings, FILE *file)
{
    for (int i = 0; i < settings->count; i++) {
        fprintf(file, "%s%s", i > 0 ? "," : "", settings->list[i]);
    }
    if (settings->count == 0) {
        fputs("as it stands", file);
    }
}

/* ---- runs ---- */

static bool write_corpus(const char *root)
{
    enum { CORPUS_BYTES = 1 << 21 };
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

/* The same for models of other vocabularies: a file of llm.c's tokens. */
static bool write_tokens(const char *path, int64_t vocab)
{
    enum { TOKENS = 1 << 20, HEADER = 256 };
    static int32_t header[HEADER] = {20240520, 1, TOKENS};
    static uint16_t tokens[TOKENS];
    const uint32_t bound = (uint32_t)(vocab < 65536 ? vocab : 65536);
    for (uint64_t i = 0; i < TOKENS / 4; i++) {
        uint32_t block[4];
        tt_philox(1, 2, i, block);
        for (uint64_t lane = 0; lane < 4; lane++) {
            tokens[4 * i + lane] = (uint16_t)(block[lane] % bound);
        }
    }
    FILE *file = fopen(path, "wb");
    if (!file) {
        return false;
    }
    bool written =
        fwrite(header, sizeof header, 1, file) == 1 && fwrite(tokens, sizeof tokens, 1, file) == 1;
    return fclose(file) == 0 && written;
}

bool bench_folder_make(char *root, size_t bytes)
{
    const char *base = getenv("TMPDIR");
    int length = snprintf(root, bytes, "%s/trimtab-bench-XXXXXX", base ? base : "/tmp");
    return length > 0 && (size_t)length < bytes && mkdtemp(root) && write_corpus(root);
}

bool bench_folder_remove(const char *root)
{
    char command[4300];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command) == 0;
}

static void print_log(void *user, tt_log_level level, const char *message)
{
    (void)user;
    if (level >= TT_LOG_WARN) {
        fprintf(stderr, "%s\n", message);
    }
}

static tt_status set(tt_config *config, const char *assignment)
{
    return tt_config_set(config, TT_SOURCE_COMMAND, assignment, "bench");
}

/* Text is of 256 tokens; every other vocabulary gets tokens. Data of one's own stay. */
static tt_status choose_data(const bench_job *job, tt_config *config)
{
    enum { BYTES = 256 };
    char assignment[4300];
    const int64_t vocab = tt_config_int(config, "model.vocab");
    snprintf(assignment, sizeof assignment, "%s/corpus.txt", job->root);
    const bool ours = strcmp(tt_config_string(config, "data.path"), assignment) == 0;
    snprintf(assignment, sizeof assignment, "data.path=%s/tokens.bin", job->root);
    if (vocab == BYTES || !ours) {
        return TT_OK;
    }
    if (!write_tokens(strchr(assignment, '=') + 1, vocab)) {
        return tt_fail_errno(errno, "cannot write the tokens to train on");
    }
    return set(config, assignment);
}

static tt_status configure(const bench_job *job, tt_config *config)
{
    static const char *const quiet[] = {"train.validate_every=0", "train.validate_sequences=0",
                                        "checkpoint.every_steps=0", "sample.tokens=0"};
    char assignment[4300];
    tt_status status = tt_config_load_file(config, job->config);
    for (size_t i = 0; !status && i < sizeof quiet / sizeof *quiet; i++) {
        status = set(config, quiet[i]);
    }
    if (!status) {
        snprintf(assignment, sizeof assignment, "data.path=%s/corpus.txt", job->root);
        status = set(config, assignment);
    }
    if (!status) {
        snprintf(assignment, sizeof assignment, "train.steps=%d", job->steps);
        status = set(config, assignment);
    }
    if (!status) {
        snprintf(assignment, sizeof assignment, "run.threads=%d", job->threads);
        status = set(config, assignment);
    }
    for (int side = 0; side < 2; side++) {
        for (int i = 0; !status && job->sides[side] && i < job->sides[side]->count; i++) {
            status = set(config, job->sides[side]->list[i]);
        }
    }
    return status ? status : choose_data(job, config);
}

static tt_status run(const bench_job *job, tt_params *params, tt_config *config, const char *folder)
{
    tt_log_sink log = {.write = print_log};
    tt_training *training = NULL;
    tt_training_options options;
    tt_training_options_init(&options);
    options.params = params;
    options.config = config;
    options.run_directory = folder;
    options.observer = job->observer;
    options.log = &log;
    tt_status status = tt_training_create(&options, &training);
    if (!status) {
        if (job->training) {
            *job->training = training;
        }
        status = tt_training_run(training);
    }
    tt_training_destroy(training);
    return status;
}

tt_status bench_train(const bench_job *job)
{
    tt_params *params = NULL;
    tt_config *config = NULL;
    char folder[4200];
    snprintf(folder, sizeof folder, "%s/run%ld", job->root, (long)getpid());
    tt_status status = tt_params_create(&params);
    if (!status) {
        status = tt_training_register(params);
    }
    if (!status) {
        status = tt_config_create(params, &config);
    }
    if (!status) {
        status = configure(job, config);
    }
    if (!status) {
        status = run(job, params, config, folder);
    }
    tt_config_destroy(config);
    tt_params_destroy(params);
    return bench_folder_remove(folder) ? status : TT_EIO;
}

static int be_child(bench_run_fn work, void *user, void *result, size_t bytes, int end)
{
    if (work(user, result)) {
        fprintf(stderr, "%s\n", tt_error_message());
        return 1;
    }
    return write(end, result, bytes) == (ssize_t)bytes ? 0 : 1;
}

bool bench_in_child(bench_run_fn work, void *user, void *result, size_t bytes, double *peak_mib)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(be_child(work, user, result, bytes, ends[1]));
    }
    close(ends[1]);
    size_t have = 0;
    for (ssize_t got = 1; have < bytes && got > 0; have += got > 0 ? (size_t)got : 0) {
        got = read(ends[0], (char *)result + have, bytes - have);
    }
    close(ends[0]);
    int exit_status = 0;
    struct rusage usage = {0};
    bool waited = child > 0 && wait4(child, &exit_status, 0, &usage) == child;
    if (peak_mib) {
        *peak_mib = (double)usage.ru_maxrss / 1024;
    }
    return have == bytes && waited && exit_status == 0;
}

/* ---- statistics ---- */

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

bench_figure bench_summarise(const double *values, int count)
{
    static double sorted[BENCH_VALUES];
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    double middle = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
    return (bench_figure){middle, sorted[0], sorted[count - 1]};
}

double bench_quantile(double *values, int count, double share)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    int at = (int)(share * (double)count);
    return values[at < count ? at : count - 1];
}

void bench_print_figure(const char *name, bench_figure figure)
{
    printf("\"%s\":{\"median\":%.6g,\"low\":%.6g,\"high\":%.6g}", name, figure.median, figure.low,
           figure.high);
}
