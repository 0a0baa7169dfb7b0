/* store/reader.c: an open container. The parent only ever reads bytes at checked offsets. */
#include "files.h"
#include "layout.h"
#include "prefix.h"
#include "walk.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TEXT = 64 << 20 };

struct tt_store {
    int fd;
    char *path;
    tt_store_header header;
    tt_store_entry *entries; /* sorted by path */
    size_t count;
};

tt_status tt_store_open_limited(const char *path, const tt_walk_limits *limits, tt_store **out)
{
    int64_t file_bytes = 0;
    if (!path || !out)
        return tt_fail(TT_EINVAL, "tt_store_open: path and out must be given");
    *out = NULL;
    tt_store *store = calloc(1, sizeof *store);
    if (!store)
        return tt_fail(TT_ENOMEM, "no memory to open '%s'", path);
    /* One descriptor from the check to the last read: what was verified is what is read. */
    tt_status status = tt_store_open_file(path, &store->fd, &file_bytes);
    if (status != TT_OK)
        goto out;
    status = tt_store_verify_fd(tt_file_ops_posix(), store->fd, path, file_bytes, &store->header);
    if (status == TT_OK)
        status = tt_store_walk(store->fd, file_bytes, path, limits, &store->entries, &store->count);
    if (status != TT_OK)
        goto out;
    store->path = strdup(path);
    if (!store->path)
        status = tt_fail(TT_ENOMEM, "no memory to open '%s'", path);
out:
    if (status != TT_OK) {
        tt_store_close(store);
        store = NULL;
    }
    *out = store;
    return status;
}

tt_status tt_store_open(const char *path, tt_store **out)
{
    return tt_store_open_limited(path, &TT_WALK_LIMITS, out);
}

void tt_store_close(tt_store *store)
{
    if (!store)
        return;
    if (store->fd >= 0)
        close(store->fd);
    free(store->entries);
    free(store->path);
    free(store);
}

const tt_store_header *tt_store_get_header(const tt_store *store)
{
    return &store->header;
}

size_t tt_store_entry_count(const tt_store *store)
{
    return store->count;
}

const tt_store_entry *tt_store_entry_at(const tt_store *store, size_t index)
{
    return index < store->count ? &store->entries[index] : NULL;
}

static int compare_path(const void *key, const void *entry)
{
    return strcmp(key, ((const tt_store_entry *)entry)->path);
}

const tt_store_entry *tt_store_find(const tt_store *store, const char *path)
{
    if (store->count == 0)
        return NULL;
    return bsearch(path, store->entries, store->count, sizeof *store->entries, compare_path);
}

tt_status tt_store_read(const tt_store *store, const tt_store_entry *entry, int64_t offset,
                        void *out, size_t bytes)
{
    if (!store || !entry || (!out && bytes > 0))
        return tt_fail(TT_EINVAL, "tt_store_read: store, entry and out must be given");
    if (offset < 0 || offset > entry->bytes || bytes > (size_t)(entry->bytes - offset))
        return tt_fail(TT_EINVAL, "'%s': dataset '%s' has %lld bytes: %zu at %lld are not in it",
                       store->path, entry->path, (long long)entry->bytes, bytes, (long long)offset);
    return tt_file_read_all(tt_file_ops_posix(), store->fd, store->path, out, bytes,
                            entry->file_offset + offset);
}

tt_status tt_store_read_text(const tt_store *store, const char *path, tt_text *out)
{
    if (!store || !path || !out)
        return tt_fail(TT_EINVAL, "tt_store_read_text: store, path and out must be given");
    const tt_store_entry *entry = tt_store_find(store, path);
    if (!entry)
        return tt_fail(TT_EDATA, "'%s' has no dataset '%s'", store->path, path);
    if (entry->dtype != TT_U8 || entry->rank != 1 || entry->bytes > MAX_TEXT)
        return tt_fail(TT_EDATA, "'%s': dataset '%s' is not text of at most 64 MiB", store->path,
                       path);
    char *text = malloc((size_t)entry->bytes + 1);
    if (!text)
        return tt_fail(TT_ENOMEM, "no memory to read '%s' of '%s'", path, store->path);
    tt_status status = tt_store_read(store, entry, 0, text, (size_t)entry->bytes);
    if (status == TT_OK) {
        tt_text_add_bytes(out, text, (size_t)entry->bytes);
        status = tt_text_check(out);
    }
    free(text);
    return status;
}
