/* Token files (llm.c's .bin). They stay on disk: windows are read when they are asked for, so that
 * a file larger than memory can be trained on. Opening reads each once, for the digest and to check
 * every token. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data_internal.h"

enum { STREAM_TOKENS = 1 << 17, WINDOW_TOKENS = 2048 };

static bool is_named_bin(const char *name)
{
    size_t length = strlen(name);
    return length >= 4 && strcmp(name + length - 4, ".bin") == 0;
}

bool tt_data_is_named_held_out(const char *name)
{
    const char *slash = strrchr(name, '/');
    return strstr(slash ? slash + 1 : name, "val") != NULL;
}

static int32_t little_endian(const uint8_t *bytes)
{
    return (int32_t)((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                     (uint32_t)bytes[3] << 24);
}

/* The header's first three numbers; all zero for a file too short to have one. */
static tt_status read_header(const tt_dataset *data, size_t index, int32_t header[3])
{
    uint8_t bytes[12] = {0};
    if (data->files.items[index].size >= TOKEN_FILE_HEADER) {
        int descriptor;
        TRY(tt_data_open_file(data, index, &descriptor));
        tt_status status = tt_data_read_at(data, index, descriptor, bytes, sizeof bytes, 0);
        close(descriptor);
        TRY(status);
    }
    for (size_t i = 0; i < 3; i++) {
        header[i] = little_endian(bytes + 4 * i);
    }
    return TT_OK;
}

tt_status tt_data_has_token_files(const tt_dataset *data, bool *found)
{
    *found = false;
    for (size_t i = 0; i < data->files.count && !*found; i++) {
        bool is_named = is_named_bin(data->files.items[i].name);
        int32_t header[3] = {0};
        if (is_named || !data->is_folder) {
            TRY(read_header(data, i, header));
        }
        *found = header[0] == TOKEN_FILE_MAGIC || (is_named && !data->is_folder);
    }
    return TT_OK;
}

static tt_status check_header(const tt_dataset *data, size_t index, int64_t *tokens)
{
    const tt_data_file *file = &data->files.items[index];
    int32_t header[3];
    TRY(read_header(data, index, header));
    if (header[0] != TOKEN_FILE_MAGIC) {
        return tt_fail(TT_EDATA, "data.path: %s is not a token file: it starts with %d, not %d",
                       file->name, header[0], TOKEN_FILE_MAGIC);
    }
    if (header[1] != TOKEN_FILE_VERSION) {
        return tt_fail(TT_EDATA,
                       "data.path: %s is a token file of version %d; only version %d is "
                       "known",
                       file->name, header[1], TOKEN_FILE_VERSION);
    }
    const int64_t held = file->size - TOKEN_FILE_HEADER;
    if (header[2] < 0 || held != 2 * (int64_t)header[2]) {
        return tt_fail(TT_EDATA,
                       "data.path: the header of %s says %d tokens, but %lld bytes follow it",
                       file->name, header[2], (long long)held);
    }
    *tokens = header[2];
    return TT_OK;
}

static tt_status check_token(const tt_dataset *data, size_t index, int64_t position, int32_t token)
{
    if (token < data->options.vocab) {
        return TT_OK;
    }
    return tt_fail(TT_EDATA, "data.path: token %lld of %s is %d; model.vocab is %lld",
                   (long long)position, data->files.items[index].name, token,
                   (long long)data->options.vocab);
}

/* Reads tokens as they are on disk: little-endian uint16. */
static tt_status read_raw(const tt_dataset *data, size_t index, int descriptor, int64_t first,
                          int64_t count, uint8_t *out)
{
    return tt_data_read_at(data, index, descriptor, out, 2 * (size_t)count,
                           TOKEN_FILE_HEADER + 2 * first);
}

static int32_t raw_token(const uint8_t *raw, int64_t index)
{
    return raw[2 * index] | raw[2 * index + 1] << 8;
}

tt_status tt_data_read_tokens(const tt_dataset *data, size_t file, int64_t first, int64_t count,
                              int32_t *out)
{
    uint8_t raw[2 * WINDOW_TOKENS];
    int descriptor;
    TRY(tt_data_open_file(data, file, &descriptor));
    tt_status status = TT_OK;
    for (int64_t done = 0; done < count && !status;) {
        int64_t part = count - done < WINDOW_TOKENS ? count - done : WINDOW_TOKENS;
        status = read_raw(data, file, descriptor, first + done, part, raw);
        for (int64_t i = 0; i < part && !status; i++) {
            out[done + i] = raw_token(raw, i);
            /* Checked when opened; but the file may have changed since. */
            status = check_token(data, file, first + done + i, out[done + i]);
        }
        done += part;
    }
    close(descriptor);
    return status;
}

static tt_status stream_file(const tt_dataset *data, size_t index, int descriptor, uint8_t *raw,
                             tt_sha256 *digest)
{
    const int64_t count = data->files.items[index].units;
    for (int64_t done = 0; done < count;) {
        int64_t part = count - done < STREAM_TOKENS ? count - done : STREAM_TOKENS;
        TRY(read_raw(data, index, descriptor, done, part, raw));
        TRY(tt_sha256_update(digest, raw, 2 * (size_t)part));
        for (int64_t i = 0; i < part; i++) {
            TRY(check_token(data, index, done + i, raw_token(raw, i)));
        }
        done += part;
    }
    return TT_OK;
}

static tt_status load_file(tt_dataset *data, size_t index, int64_t *left, uint8_t *raw,
                           tt_sha256 *digest)
{
    tt_data_file *file = &data->files.items[index];
    TRY(check_header(data, index, &file->units));
    /* What is held out by name costs nothing of the limit: it often comes last. */
    if (!(data->is_folder && tt_data_is_named_held_out(file->name))) {
        file->units = file->units < *left ? file->units : *left;
        *left -= file->units;
    }
    if (!file->units) {
        return TT_OK;
    }
    TRY(tt_data_digest_name(digest, file->name, 2 * file->units));
    int descriptor;
    TRY(tt_data_open_file(data, index, &descriptor));
    tt_status status = stream_file(data, index, descriptor, raw, digest);
    close(descriptor);
    return status;
}

static void keep_token_files(tt_dataset *data, bool *keep)
{
    for (size_t i = 0; i < data->files.count; i++) {
        keep[i] = !data->is_folder || is_named_bin(data->files.items[i].name);
    }
    tt_data_keep_files(&data->files, keep);
}

tt_status tt_data_load_tokens(tt_dataset *data, tt_sha256 *digest)
{
    const int64_t limit = data->options.limit_bytes;
    bool *keep = calloc(data->files.count + 1, sizeof *keep);
    uint8_t *raw = malloc(2 * STREAM_TOKENS);
    tt_status status = TT_OK;
    if (!keep || !raw) {
        status = tt_fail(TT_ENOMEM, "no memory to read token files");
        goto out;
    }
    keep_token_files(data, keep);
    int64_t left = limit ? limit / 2 : INT64_MAX;
    for (size_t i = 0; i < data->files.count && !status; i++) {
        status = load_file(data, i, &left, raw, digest);
        keep[i] = data->files.items[i].units > 0;
    }
    if (!status) {
        tt_data_keep_files(&data->files, keep);
        if (!data->files.count) {
            status = tt_fail(TT_EDATA, "data.path: %s holds no tokens", data->root);
        }
    }
out:
    free(raw);
    free(keep);
    return status;
}
