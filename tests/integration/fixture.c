#include "fixture.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void write_text(const char *path, size_t bytes)
{
    static const char *const words[] = {"the ",    "tab ",  "steers ", "a ",
                                        "rudder ", "and ",  "trims ",  "slowly ",
                                        "each ",   "step ", "of ",     "it.\n"};
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    size_t written = 0;
    for (uint64_t i = 0; written < bytes; i++) {
        uint32_t block[4];
        tt_philox(7, 1, i, block);
        const char *word = words[block[0] % (sizeof words / sizeof *words)];
        written += strlen(word);
        fputs(word, file);
    }
    assert_int_equal(fclose(file), 0);
}

void fixture_init(fixture *f, size_t bytes)
{
    const char *base = getenv("TMPDIR");
    *f = (fixture){0};
    snprintf(f->root, sizeof f->root, "%s/trimtab-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->data, sizeof f->data, "%s/text.txt", f->root);
    write_text(f->data, bytes);
    assert_int_equal(tt_params_create(&f->params), TT_OK);
    assert_int_equal(tt_training_register(f->params), TT_OK);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

void fixture_clear(fixture *f)
{
    tt_params_destroy(f->params);
    nftw(f->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fixture_path(const fixture *f, const char *name)
{
    static char buffers[4][512];
    static int next;
    char *out = buffers[next++ % 4];
    snprintf(out, sizeof buffers[0], "%s/%s", f->root, name);
    return out;
}

tt_config *fixture_config(const fixture *f, const char *const *settings)
{
    static const char *const defaults[] = {
        "model.layers=2",
        "model.heads=2",
        "model.channels=16",
        "model.context=16",
        "model.vocab=256",
        "train.batch=2",
        "train.steps=12",
        "train.validate_every=0",
        "train.validate_sequences=4",
        "optim.warmup_steps=4",
        "checkpoint.every_steps=4",
        "kernels.tune_seconds=0",
        "run.threads=2",
    };
    tt_config *config = NULL;
    char data[512];
    assert_int_equal(tt_config_create(f->params, &config), TT_OK);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, defaults[i], "--set"), TT_OK);
    }
    if (f->data_in_file) {
        int length = snprintf(data, sizeof data, "data:\n  path: %s\n", f->data);
        assert_int_equal(
            tt_config_load_text(config, TT_SOURCE_FILE, "run.yaml", data, (size_t)length), TT_OK);
    } else {
        snprintf(data, sizeof data, "data.path=%s", f->data);
        assert_int_equal(tt_config_set(config, TT_SOURCE_COMMAND, data, "--data"), TT_OK);
    }
    for (; settings && *settings; settings++) {
        if (tt_config_set(config, TT_SOURCE_COMMAND, *settings, "--set")) {
            fail_msg("%s: %s", *settings, tt_error_message());
        }
    }
    return config;
}

tt_status fixture_create(const fixture *f, const char *name, const char *resume,
                         const char *const *settings, const tt_file_ops *files, fixture_run *out)
{
    out->config = fixture_config(f, settings);
    tt_training_options options;
    tt_training_options_init(&options);
    options.params = f->params;
    options.config = out->config;
    options.run_directory = fixture_path(f, name);
    options.resume = resume;
    options.files = files;
    options.strict = f->strict;
    options.observer = f->observer;
    options.clock = f->clock;
    return tt_training_create(&options, &out->training);
}

void fixture_destroy(fixture_run *run)
{
    tt_training_destroy(run->training);
    tt_config_destroy(run->config);
    *run = (fixture_run){0};
}

tt_status fixture_train(const fixture *f, const char *name, const char *resume,
                        const char *const *settings)
{
    fixture_run run;
    tt_status status = fixture_create(f, name, resume, settings, NULL, &run);
    if (!status) {
        status = tt_training_run(run.training);
    }
    fixture_destroy(&run);
    return status;
}

const char *fixture_checkpoint(const fixture *f, const char *name, int64_t step)
{
    char tail[256];
    snprintf(tail, sizeof tail, "%s/checkpoints/step-%010lld.h5", name, (long long)step);
    return fixture_path(f, tail);
}

void assert_same_tensors(const char *a, const char *b)
{
    tt_store *left = NULL;
    tt_store *right = NULL;
    if (tt_store_open(a, &left) || tt_store_open(b, &right)) {
        fail_msg("%s", tt_error_message());
    }
    size_t tensors = 0;
    for (size_t i = 0; i < tt_store_entry_count(left); i++) {
        const tt_store_entry *entry = tt_store_entry_at(left, i);
        if (strncmp(entry->path, "/tensors/", 9) != 0) {
            continue;
        }
        const tt_store_entry *other = tt_store_find(right, entry->path);
        assert_non_null(other);
        assert_int_equal(entry->bytes, other->bytes);
        size_t bytes = (size_t)entry->bytes;
        char *one = malloc(bytes + 1);
        char *two = malloc(bytes + 1);
        assert_non_null(one);
        assert_non_null(two);
        assert_int_equal(tt_store_read(left, entry, 0, one, bytes), TT_OK);
        assert_int_equal(tt_store_read(right, other, 0, two, bytes), TT_OK);
        if (memcmp(one, two, bytes) != 0) {
            fail_msg("%s differs between %s and %s", entry->path, a, b);
        }
        free(one);
        free(two);
        tensors++;
    }
    assert_true(tensors > 0);
    tt_store_close(left);
    tt_store_close(right);
}

char *fixture_read(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t capacity = 1 << 16;
    size_t length = 0;
    char *text = malloc(capacity + 1);
    assert_non_null(text);
    size_t got;
    while ((got = fread(text + length, 1, capacity - length, file)) > 0) {
        length += got;
        if (length == capacity) {
            capacity *= 2;
            text = realloc(text, capacity + 1);
            assert_non_null(text);
        }
    }
    text[length] = '\0';
    fclose(file);
    return text;
}
