/* Scratch directories, sample containers and resealing. */
#include "scratch.h"

#include "prefix.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int scratch_make(void **state)
{
    /* In memory where there is such a place: these tests sync a lot. */
    char *path = strdup(access("/dev/shm", W_OK) == 0 ? "/dev/shm/trimtab-store-XXXXXX"
                                                      : "/tmp/trimtab-store-XXXXXX");
    *state = path;
    return path && mkdtemp(path) ? 0 : -1;
}

void scratch_empty(const char *directory)
{
    DIR *stream = opendir(directory);
    assert_non_null(stream);
    for (const struct dirent *item = readdir(stream); item; item = readdir(stream)) {
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0)
            unlink(scratch_path(directory, item->d_name));
    }
    closedir(stream);
}

int scratch_remove(void **state)
{
    scratch_empty(*state);
    int result = rmdir(*state);
    free(*state);
    return result;
}

const char *scratch_path(const char *directory, const char *name)
{
    static _Thread_local char paths[4][PATH_MAX];
    static _Thread_local unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return path;
}

int scratch_count(const char *directory, const char *part)
{
    int count = 0;
    DIR *stream = opendir(directory);
    assert_non_null(stream);
    for (const struct dirent *item = readdir(stream); item; item = readdir(stream))
        count += strstr(item->d_name, part) != NULL;
    closedir(stream);
    return count;
}

void scratch_assert_ok(tt_status status, const char *what, const char *file, int line)
{
    if (status != TT_OK) {
        print_error("%s: %s: %s\n", what, tt_status_name(status), tt_error_message());
        _fail(file, line);
    }
}

void scratch_assert_message(const char *part, const char *file, int line)
{
    if (!strstr(tt_error_message(), part)) {
        print_error("no '%s' in: %s\n", part, tt_error_message());
        _fail(file, line);
    }
}

/* ---- the sample container ----------------------------------------------------------------- */

static const char sample_config[] = "kernel.tile: 32\ncompression.block: 64\n";

tt_status sample_save(const char *directory, const char *name, int64_t step, const tt_file_ops *ops)
{
    const int64_t dims[] = {3, 5};
    float weights[15];
    tt_store_writer *writer = NULL;
    const tt_store_write_options options = {.size = sizeof options,
                                            .directory = directory,
                                            .name = name,
                                            .run_id = "sample",
                                            .step = step,
                                            .parent_sha256 = "",
                                            .ops = ops};
    for (int i = 0; i < 15; i++)
        weights[i] = (float)step + (float)i;
    tt_status status = tt_store_writer_create(&options, &writer);
    if (status == TT_OK)
        status = tt_store_writer_declare(writer, "/params/w", TT_F32, 2, dims);
    if (status == TT_OK)
        status = tt_store_writer_declare(writer, "/state/cursor", TT_I64, 0, NULL);
    if (status == TT_OK)
        status =
            tt_store_writer_add_text(writer, "/config", sample_config, sizeof sample_config - 1);
    if (status == TT_OK)
        status = tt_store_writer_put(writer, "/params/w", 0, weights, 24);
    if (status == TT_OK)
        status = tt_store_writer_put(writer, "/params/w", 24, (char *)weights + 24, 36);
    if (status == TT_OK)
        status = tt_store_writer_put(writer, "/state/cursor", 0, &step, sizeof step);
    if (status == TT_OK)
        status = tt_store_writer_commit(writer, NULL);
    tt_store_writer_destroy(writer);
    return status;
}

void sample_check(const char *path, int64_t step)
{
    tt_store *store = NULL;
    float weights[15];
    int64_t cursor = -1;
    tt_text text;
    assert_ok(tt_store_open(path, &store));
    assert_int_equal(tt_store_get_header(store)->step, step);
    assert_int_equal(tt_store_entry_count(store), 3);
    const tt_store_entry *entry = tt_store_find(store, "/params/w");
    assert_non_null(entry);
    assert_int_equal(entry->rank, 2);
    assert_int_equal(entry->dims[0], 3);
    assert_int_equal(entry->dims[1], 5);
    assert_ok(tt_store_read(store, entry, 0, weights, sizeof weights));
    for (int i = 0; i < 15; i++)
        assert_true(weights[i] == (float)step + (float)i);
    assert_ok(tt_store_read(store, tt_store_find(store, "/state/cursor"), 0, &cursor, 8));
    assert_int_equal(cursor, step);
    tt_text_init(&text);
    assert_ok(tt_store_read_text(store, "/config", &text));
    assert_string_equal(text.data, sample_config);
    tt_text_clear(&text);
    tt_store_close(store);
}

/* ---- files -------------------------------------------------------------------------------- */

void *read_file(const char *path, size_t *bytes)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    struct stat info;
    assert_int_equal(fstat(fileno(stream), &info), 0);
    *bytes = (size_t)info.st_size;
    char *data = malloc(*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *bytes, stream), *bytes);
    fclose(stream);
    return data;
}

void write_file(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    close(fd);
}

void reseal(const char *path)
{
    size_t bytes;
    char *data = read_file(path, &bytes);
    tt_store_header header = {.version = TT_STORE_VERSION, .run_id = "sealed", .step = 1};
    assert_true(bytes >= TT_STORE_PREFIX_BYTES);
    header.payload_bytes = (int64_t)bytes - TT_STORE_PREFIX_BYTES;
    assert_ok(tt_sha256_of(data + TT_STORE_PREFIX_BYTES, bytes - TT_STORE_PREFIX_BYTES,
                           header.payload_sha256));
    assert_ok(tt_store_prefix_encode(&header, data));
    write_file(path, data, bytes);
    free(data);
    assert_ok(tt_store_verify(path, NULL));
}
