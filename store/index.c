/* store/index.c: the parent's own check of the index that the child sent. The child parsed hostile
 * bytes, so what it says is a claim like any other. */
#include "layout.h"

#include <stdlib.h>
#include <string.h>

static int by_path(const void *a, const void *b)
{
    return strcmp(((const tt_store_entry *)a)->path, ((const tt_store_entry *)b)->path);
}

static int by_offset(const void *a, const void *b)
{
    const tt_store_entry *left = *(const tt_store_entry *const *)a;
    const tt_store_entry *right = *(const tt_store_entry *const *)b;
    return (left->file_offset > right->file_offset) - (left->file_offset < right->file_offset);
}

static tt_status check_entry(const tt_store_entry *entry, int64_t file_bytes, const char *path)
{
    int64_t bytes;
    /* Without a NUL in the array, strnlen in the path check stops at its end. */
    const char *fault = tt_store_path_fault(entry->path);
    if (fault)
        return tt_fail(TT_EHOSTILE, "'%s': refused a dataset's path: %s", path, fault);
    if (!tt_store_shape_bytes(entry->dtype, entry->rank, entry->dims, &bytes) ||
        bytes != entry->bytes)
        return tt_fail(TT_EHOSTILE, "'%s': dataset '%s' has an impossible shape", path,
                       entry->path);
    if (bytes > 0 && (entry->file_offset < TT_STORE_PREFIX_BYTES ||
                      entry->file_offset > file_bytes || bytes > file_bytes - entry->file_offset))
        return tt_fail(TT_EHOSTILE,
                       "'%s': dataset '%s' claims bytes %lld to %lld, outside the file's payload",
                       path, entry->path, (long long)entry->file_offset,
                       (long long)entry->file_offset + (long long)bytes);
    return TT_OK;
}

static tt_status check_overlap(const tt_store_entry *entries, size_t count, const char *path)
{
    const tt_store_entry **order = malloc((count + 1) * sizeof(const void *));
    if (!order)
        return tt_fail(TT_ENOMEM, "no memory to check the index of '%s'", path);
    tt_status status = TT_OK;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].bytes > 0)
            order[used++] = &entries[i];
    }
    qsort(order, used, sizeof(const void *), by_offset);
    for (size_t i = 1; i < used && status == TT_OK; i++) {
        if (order[i]->file_offset < order[i - 1]->file_offset + order[i - 1]->bytes)
            status = tt_fail(TT_EHOSTILE, "'%s': datasets '%s' and '%s' share bytes of the file",
                             path, order[i - 1]->path, order[i]->path);
    }
    free(order);
    return status;
}

tt_status tt_store_index_check(tt_store_entry *entries, size_t count, int64_t file_bytes,
                               const char *path)
{
    tt_status status = TT_OK;
    if (count > TT_STORE_MAX_OBJECTS)
        return tt_fail(TT_EHOSTILE, "'%s' holds more than %d objects", path, TT_STORE_MAX_OBJECTS);
    for (size_t i = 0; i < count && status == TT_OK; i++)
        status = check_entry(&entries[i], file_bytes, path);
    if (status != TT_OK || count == 0)
        return status;
    qsort(entries, count, sizeof *entries, by_path);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(entries[i - 1].path, entries[i].path) == 0)
            return tt_fail(TT_EHOSTILE, "'%s': dataset '%s' appears twice", path, entries[i].path);
    }
    return check_overlap(entries, count, path);
}
