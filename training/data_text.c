/* Text files: every byte is a token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data_internal.h"

enum { SEPARATOR = '\n' };

tt_status tt_data_digest_name(tt_sha256 *digest, const char *name, int64_t bytes)
{
    char size[32];
    int length = snprintf(size, sizeof size, "%lld\n", (long long)bytes);
    TRY(tt_sha256_update(digest, name, strlen(name) + 1)); /* the NUL ends the name */
    return tt_sha256_update(digest, size, (size_t)length);
}

/* Room for all files up to the limit, each with a separator. */
static tt_status make_room(tt_dataset *data)
{
    const int64_t limit = data->options.limit_bytes;
    int64_t total = 0;
    for (size_t i = 0; i < data->files.count; i++) {
        if (__builtin_add_overflow(total, data->files.items[i].size, &total)) {
            return tt_fail(TT_ENOMEM, "data.path: the files are beyond the address space");
        }
    }
    total = limit && limit < total ? limit : total;
    size_t bytes = (size_t)total + data->files.count + 1; /* never 0 */
    data->text = malloc(bytes);
    return data->text ? TT_OK
                      : tt_fail(TT_ENOMEM,
                                "data.path: no memory for %lld bytes of text; set "
                                "data.limit_bytes",
                                (long long)total);
}

/* Reads what the limit leaves of one file to text + start. */
static tt_status read_file(tt_dataset *data, size_t index, int64_t start, int64_t bytes)
{
    int descriptor;
    TRY(tt_data_open_file(data, index, &descriptor));
    tt_status status =
        tt_data_read_at(data, index, descriptor, data->text + start, (size_t)bytes, 0);
    close(descriptor);
    return status;
}

static tt_status check_bytes(const tt_dataset *data, const tt_data_file *file)
{
    if (data->options.vocab > UINT8_MAX) {
        return TT_OK;
    }
    for (int64_t i = 0; i < file->units; i++) {
        int byte = data->text[file->start + i];
        if (byte >= data->options.vocab) {
            return tt_fail(TT_EDATA,
                           "data.path: byte %lld of %s is %d; model.vocab is %lld (256 takes any "
                           "text)",
                           (long long)i, file->name, byte, (long long)data->options.vocab);
        }
    }
    return TT_OK;
}

/* Decides whether what was read is text; a folder passes over what is not. */
static tt_status judge(const tt_dataset *data, const tt_data_file *file, bool *is_text)
{
    const uint8_t *bytes = data->text + file->start;
    const uint8_t *nul = memchr(bytes, 0, (size_t)file->units);
    *is_text = !nul;
    if (nul && !data->is_folder) {
        return tt_fail(TT_EDATA, "data.path: %s is not text: byte %lld is NUL", data->root,
                       (long long)(nul - bytes));
    }
    return *is_text ? check_bytes(data, file) : TT_OK;
}

static tt_status load_files(tt_dataset *data, tt_sha256 *digest, bool *keep)
{
    const int64_t limit = data->options.limit_bytes;
    int64_t used = 0;
    int64_t left = limit ? limit : INT64_MAX;
    for (size_t i = 0; i < data->files.count; i++) {
        tt_data_file *file = &data->files.items[i];
        file->start = used;
        file->units = file->size < left ? file->size : left;
        if (!file->units) {
            continue;
        }
        TRY(read_file(data, i, used, file->units));
        TRY(judge(data, file, &keep[i]));
        if (!keep[i]) {
            continue; /* the next file is read over it */
        }
        TRY(tt_data_digest_name(digest, file->name, file->units));
        TRY(tt_sha256_update(digest, data->text + used, (size_t)file->units));
        left -= file->units;
        used += file->units;
        data->text[used++] = SEPARATOR;
    }
    return TT_OK;
}

tt_status tt_data_load_text(tt_dataset *data, tt_sha256 *digest)
{
    data->is_bytes = true;
    bool *keep = calloc(data->files.count + 1, sizeof *keep);
    if (!keep) {
        return tt_fail(TT_ENOMEM, "no memory for the list of data files");
    }
    tt_status status = make_room(data);
    if (!status) {
        status = load_files(data, digest, keep);
    }
    if (!status) {
        tt_data_keep_files(&data->files, keep);
        if (!data->files.count) {
            status = tt_fail(TT_EDATA, "data.path: %s holds no text file (%lld files passed over)",
                             data->root, (long long)data->files.passed_over);
        }
    }
    free(keep);
    return status;
}
