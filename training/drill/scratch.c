/* The folder in which a drill's runs live, and a model for those who bring none. */
#include "drill.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the folder ---- */

static bool is_empty(const char *path)
{
    DIR *listing = opendir(path);
    int count = 0;
    while (listing && readdir(listing)) {
        count++;
    }
    if (listing) {
        closedir(listing);
    }
    return count <= 2; /* itself, and the one above */
}

static tt_status make_kept(tt_drill *drill, const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        return tt_fail_errno(errno, "cannot make the folder %s", path);
    }
    if (!is_empty(path)) {
        return tt_fail(TT_EUSAGE, "%s is not empty; the runs of a drill need a folder of their own",
                       path);
    }
    if (access(path, W_OK | X_OK) != 0) {
        return tt_fail_errno(errno, "cannot write into %s", path);
    }
    if (!realpath(path, drill->root)) {
        return tt_fail_errno(errno, "cannot find %s", path);
    }
    return TT_OK;
}

tt_status tt_drill_make_scratch(tt_drill *drill)
{
    if (drill->options->keep) {
        return make_kept(drill, drill->options->keep);
    }
    const char *base = getenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe)
    snprintf(drill->root, sizeof drill->root, "%.*s/trimtab-drill-XXXXXX", TT_DRILL_PATH / 2,
             base && *base ? base : "/tmp");
    if (!mkdtemp(drill->root)) {
        int error = errno;
        drill->root[0] = '\0';
        return tt_fail_errno(error, "cannot make a scratch folder in %s (TMPDIR)",
                             base && *base ? base : "/tmp");
    }
    return TT_OK;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

void tt_drill_remove_scratch(const tt_drill *drill)
{
    if (drill->root[0] && !drill->options->keep) {
        nftw(drill->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}

/* ---- the built-in model ---- */

enum { TEXT_BYTES = 96 << 10 };

static tt_status write_text(const char *path)
{
    static const char *const words[] = {"the ",    "tab ",  "steers ", "a ",     "rudder ", "and ",
                                        "trims ",  "it ",   "slowly ", "each ",  "step ",   "of ",
                                        "every\n", "wind ", "turns ",  "back.\n"};
    FILE *file = fopen(path, "we");
    if (!file) {
        return tt_fail_errno(errno, "cannot write %s", path);
    }
    size_t written = 0;
    for (uint64_t i = 0; written < TEXT_BYTES; i++) {
        uint32_t block[4];
        tt_philox(7, 1, i, block);
        const char *word = words[block[0] % (sizeof words / sizeof *words)];
        written += strlen(word);
        fputs(word, file);
    }
    return fclose(file) == 0 ? TT_OK : tt_fail_errno(errno, "cannot write %s", path);
}

/* 71,000 parameters; every optimization is on. */
static tt_status set_model(tt_config *config, const char *data)
{
    static const char *const values[] = {
        "model.layers=2",
        "model.heads=3",
        "model.channels=48",
        "model.context=32",
        "model.vocab=256",
        "train.batch=4",
        "train.validate_sequences=32",
        "optim.warmup_steps=16",
        "optim.learning_rate=0.003",
        "kernels.tile_m=64",
        "kernels.tile_n=64",
        "kernels.tile_k=64",
        "compression.moments=int8",
        "compression.activations=int8",
        "run.threads=1",
    };
    char path[TT_DRILL_PATH + 16];
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < sizeof values / sizeof *values; i++) {
        status = tt_config_set(config, TT_SOURCE_COMMAND, values[i], "drill");
    }
    snprintf(path, sizeof path, "data.path=%s", data);
    return status ? status : tt_config_set(config, TT_SOURCE_COMMAND, path, "drill");
}

tt_status tt_drill_make_model(tt_drill *drill)
{
    char data[TT_DRILL_PATH];
    tt_drill_path(drill, "text.txt", "", data);
    tt_status status = write_text(data);
    if (!status) {
        status = tt_params_create(&drill->own_params);
    }
    if (!status) {
        status = tt_training_register(drill->own_params);
    }
    if (!status) {
        status = tt_config_create(drill->own_params, &drill->own_config);
    }
    if (!status) {
        status = set_model(drill->own_config, data);
    }
    drill->params = drill->own_params;
    drill->config = drill->own_config;
    return status;
}
