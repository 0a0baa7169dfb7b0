/* Files for the data tests: a scratch folder, text, token files. */
#ifndef TRIMTAB_TESTS_TRAINING_DATA_SUPPORT_H
#define TRIMTAB_TESTS_TRAINING_DATA_SUPPORT_H

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data.h"
#include "support.h"

static char scratch[256];

static inline int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/trimtab-data-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int remove_entry(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

static inline int remove_scratch(void **state)
{
    (void)state;
    return nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* "<scratch>/<name>"; a few may be in use at a time. */
static inline const char *in_scratch(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch, name);
    return path;
}

static inline void make_folder(const char *name)
{
    assert_int_equal(mkdir(in_scratch(name), 0755), 0);
}

static inline void put_file(const char *name, const void *bytes, size_t count)
{
    FILE *file = fopen(in_scratch(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static inline void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

/* A token file whose header says `said` tokens. */
static inline void put_token_file(const char *name, int32_t magic, int32_t version, int32_t said,
                                  const uint16_t *tokens, size_t count)
{
    int32_t header[256] = {magic, version, said};
    FILE *file = fopen(in_scratch(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(header, sizeof header, 1, file), 1);
    assert_int_equal(fwrite(tokens, sizeof *tokens, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* Tokens first, first + 1, ...: a window tells where it was taken. */
static inline void put_counting_file(const char *name, int first, int count)
{
    uint16_t *tokens = malloc((size_t)count * sizeof *tokens);
    assert_non_null(tokens);
    for (int i = 0; i < count; i++) {
        tokens[i] = (uint16_t)(first + i);
    }
    put_token_file(name, 20240520, 1, count, tokens, (size_t)count);
    free(tokens);
}

static inline tt_data_options options_for(const char *name, int64_t context, double held_out)
{
    return (tt_data_options){.path = in_scratch(name),
                             .context = context,
                             .vocab = 65536,
                             .seed = 9,
                             .held_out = held_out};
}

/* Opens what must open. */
static inline tt_dataset *open_data(const tt_data_options *options)
{
    tt_dataset *data = NULL;
    assert_ok(tt_dataset_open(options, &data));
    return data;
}

/* Everything in a training split that is one window long, as text. */
static inline void assert_training_text(const char *name, int64_t limit, const char *expected)
{
    int32_t tokens[512], targets[512];
    char text[512];
    const int64_t count = (int64_t)strlen(expected);
    tt_data_options o = options_for(name, count - 1, 0.0);
    o.limit_bytes = limit;
    tt_dataset *data = open_data(&o);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_TRAIN), count);
    assert_true(tt_dataset_is_bytes(data));
    assert_ok(tt_dataset_batch(data, 5, 1, tokens, targets));
    for (int64_t i = 0; i < count - 1; i++) {
        text[i] = (char)tokens[i];
        assert_int_equal(targets[i], i + 1 < count - 1 ? tokens[i + 1] : expected[count - 1]);
    }
    assert_memory_equal(text, expected, (size_t)count - 1);
    tt_dataset_close(data);
}

#endif
