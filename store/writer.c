/* store/writer.c: datasets are declared, then put. */
#include "writer.h"

#include "layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Datasets are written as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "containers hold little-endian data");

/* ---- create, destroy ---------------------------------------------------------------------- */

static tt_status check_options(const tt_store_write_options *options)
{
    if (!options || options->size < sizeof *options || !options->directory || !options->name)
        return tt_fail(TT_EINVAL, "tt_store_writer_create: size, directory and name must be set");
    if (options->ops && options->ops->size < sizeof(tt_file_ops))
        return tt_fail(TT_EINVAL, "tt_store_writer_create: ops.size is not that of tt_file_ops");
    size_t length = strlen(options->name), suffix = strlen(TT_STORE_SUFFIX);
    if (!tt_store_is_name(options->name, length) || options->name[0] == '.' ||
        length > TT_STORE_MAX_FILE_NAME || length <= suffix ||
        strcmp(options->name + length - suffix, TT_STORE_SUFFIX) != 0)
        return tt_fail(TT_EINVAL,
                       "container name '%s': use at most %d printable characters without '/', not "
                       "starting with '.', ending in " TT_STORE_SUFFIX,
                       options->name, TT_STORE_MAX_FILE_NAME);
    return TT_OK;
}

tt_status tt_store_writer_create(const tt_store_write_options *options, tt_store_writer **out)
{
    tt_status status = check_options(options);
    if (status != TT_OK)
        return status;
    const char *run_id = options->run_id ? options->run_id : "";
    const char *parent = options->parent_sha256 ? options->parent_sha256 : "";
    char block[TT_STORE_PREFIX_BYTES];
    tt_store_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return tt_fail(TT_ENOMEM, "no memory for a container writer");
    writer->fd = -1;
    writer->ops = options->ops ? options->ops : tt_file_ops_posix();
    writer->header.version = TT_STORE_VERSION;
    writer->header.step = options->step;
    /* Cut too long ones at one byte over what the encoder accepts, which then refuses them. */
    strncpy(writer->header.run_id, run_id, sizeof writer->header.run_id - 1);
    strncpy(writer->header.parent_sha256, parent, TT_SHA256_HEX - 1);
    if (strlen(run_id) >= sizeof writer->header.run_id || strlen(parent) >= TT_SHA256_HEX)
        status = tt_fail(TT_EINVAL, "run id '%s' or parent digest '%s' is longer than 63 or 64",
                         run_id, parent);
    else
        status = tt_store_prefix_encode(&writer->header, block); /* refuses what commit would */
    if (status != TT_OK)
        goto out;
    writer->directory = strdup(options->directory);
    writer->name = strdup(options->name);
    writer->path = tt_store_join(options->directory, options->name);
    writer->temporary = TT_PROTECTED(RENAME) ? tt_store_temp_path(options->directory, options->name)
                                             : tt_store_join(options->directory, options->name);
    if (!writer->directory || !writer->name || !writer->path || !writer->temporary)
        status = tt_fail(TT_ENOMEM, "no memory for a container writer");
out:
    if (status != TT_OK) {
        tt_store_writer_destroy(writer);
        writer = NULL;
    }
    *out = writer;
    return status;
}

void tt_store_writer_abandon(tt_store_writer *writer)
{
    if (writer->fd >= 0)
        tt_store_temp_discard(writer->ops, &writer->fd, writer->temporary);
    writer->state = WRITER_DONE;
}

void tt_store_writer_destroy(tt_store_writer *writer)
{
    if (!writer)
        return;
    tt_store_writer_abandon(writer);
    for (size_t i = 0; i < writer->count; i++) {
        free(writer->datasets[i].path);
        free(writer->datasets[i].text);
        tt_extent_clear(&writer->datasets[i].written);
    }
    free(writer->datasets);
    free(writer->sorted);
    free(writer->placed);
    tt_sha256_destroy(writer->hash);
    tt_image_clear(&writer->image);
    free(writer->directory);
    free(writer->name);
    free(writer->path);
    free(writer->temporary);
    free(writer);
}

/* ---- declare ------------------------------------------------------------------------------ */

/* The first place in `sorted` whose path is not below `path`. */
static size_t lower_bound(const tt_store_writer *writer, const char *path)
{
    size_t low = 0, high = writer->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(writer->datasets[writer->sorted[middle]].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const char *path_at(const tt_store_writer *writer, size_t place)
{
    return place < writer->count ? writer->datasets[writer->sorted[place]].path : "";
}

/* Whether `path` is taken, is a group of an announced dataset, or needs a dataset as its group. */
static bool conflicts(const tt_store_writer *writer, const char *path)
{
    char other[TT_STORE_MAX_NAME + 1];
    size_t length = strlen(path);
    if (strcmp(path_at(writer, lower_bound(writer, path)), path) == 0)
        return true;
    memcpy(other, path, length);
    memcpy(other + length, "/", 2);
    if (strncmp(path_at(writer, lower_bound(writer, other)), other, length + 1) == 0)
        return true;
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        memcpy(other, path, (size_t)(slash - path));
        other[slash - path] = '\0';
        if (strcmp(path_at(writer, lower_bound(writer, other)), other) == 0)
            return true;
    }
    return false;
}

static tt_status reserve_one(tt_store_writer *writer)
{
    if (writer->count < writer->capacity)
        return TT_OK;
    size_t capacity = writer->capacity ? 2 * writer->capacity : 32;
    tt_store_dataset *datasets = realloc(writer->datasets, capacity * sizeof *datasets);
    if (datasets)
        writer->datasets = datasets;
    size_t *sorted = realloc(writer->sorted, capacity * sizeof *sorted);
    if (sorted)
        writer->sorted = sorted;
    if (!datasets || !sorted)
        return tt_fail(TT_ENOMEM, "no memory to declare a dataset");
    writer->capacity = capacity;
    return TT_OK;
}

static tt_status declare(tt_store_writer *writer, const char *path, tt_dtype dtype, int rank,
                         const int64_t *dims, tt_store_dataset **out)
{
    int64_t bytes;
    if (!writer || !path || (rank > 0 && !dims))
        return tt_fail(TT_EINVAL, "declaring a dataset: writer, path and dims must be given");
    if (writer->state != WRITER_DECLARING)
        return tt_fail(TT_EINVAL, "dataset '%s': declare it before the first put", path);
    const char *fault = tt_store_path_fault(path);
    if (fault)
        return tt_fail(TT_EINVAL, "dataset path '%s' cannot be used: %s", path, fault);
    if (!tt_store_shape_bytes(dtype, rank, dims, &bytes))
        return tt_fail(TT_EINVAL,
                       "dataset '%s': type %d or rank %d is unknown, or its size overflows", path,
                       (int)dtype, rank);
    if (conflicts(writer, path))
        return tt_fail(TT_EINVAL, "dataset '%s': the path, or a group of it, is already declared",
                       path);
    if (writer->count >= TT_STORE_MAX_OBJECTS)
        return tt_fail(TT_EINVAL, "dataset '%s': a container holds at most %d objects", path,
                       TT_STORE_MAX_OBJECTS);
    tt_status status = reserve_one(writer);
    if (status != TT_OK)
        return status;
    tt_store_dataset *dataset = &writer->datasets[writer->count];
    *dataset = (tt_store_dataset){.dtype = dtype, .rank = rank, .bytes = bytes};
    for (int i = 0; i < rank; i++)
        dataset->dims[i] = dims[i];
    dataset->path = strdup(path);
    if (!dataset->path)
        return tt_fail(TT_ENOMEM, "no memory to declare dataset '%s'", path);
    size_t place = lower_bound(writer, path);
    memmove(&writer->sorted[place + 1], &writer->sorted[place],
            (writer->count - place) * sizeof *writer->sorted);
    writer->sorted[place] = writer->count++;
    *out = dataset;
    return TT_OK;
}

tt_status tt_store_writer_declare(tt_store_writer *writer, const char *path, tt_dtype dtype,
                                  int rank, const int64_t *dims)
{
    tt_store_dataset *dataset = NULL;
    return declare(writer, path, dtype, rank, dims, &dataset);
}

tt_status tt_store_writer_add_text(tt_store_writer *writer, const char *path, const char *text,
                                   size_t bytes)
{
    const int64_t dims[1] = {(int64_t)bytes};
    tt_store_dataset *dataset = NULL;
    if (!text && bytes > 0)
        return tt_fail(TT_EINVAL, "tt_store_writer_add_text: text must be given");
    char *copy = malloc(bytes + 1);
    if (!copy)
        return tt_fail(TT_ENOMEM, "no memory to keep %zu bytes of text", bytes);
    if (bytes > 0)
        memcpy(copy, text, bytes);
    tt_status status = declare(writer, path, TT_U8, 1, dims, &dataset);
    if (dataset)
        dataset->text = copy;
    else
        free(copy);
    return status;
}

/* ---- put ---------------------------------------------------------------------------------- */

static tt_status write_metadata(tt_store_writer *writer)
{
    /* Pages that follow each other go out in one write. */
    const tt_image *image = &writer->image;
    tt_status status = TT_OK;
    char *run = malloc(64 * (size_t)TT_IMAGE_PAGE);
    if (!run)
        return tt_fail(TT_ENOMEM, "no memory to write '%s'", writer->temporary);
    for (size_t i = 0; i < image->count && status == TT_OK;) {
        size_t pages = 0;
        uint64_t offset = image->pages[i].offset;
        for (; i < image->count && pages < 64; i++, pages++) {
            if (image->pages[i].offset != offset + pages * TT_IMAGE_PAGE)
                break;
            memcpy(run + pages * TT_IMAGE_PAGE, image->pages[i].data, TT_IMAGE_PAGE);
        }
        /* The file does not end on a page. */
        uint64_t bytes = pages * TT_IMAGE_PAGE;
        if (offset >= image->bytes)
            break;
        if (bytes > image->bytes - offset)
            bytes = image->bytes - offset;
        status = tt_file_write_all(writer->ops, writer->fd, writer->temporary, run, bytes,
                                   (int64_t)offset);
    }
    free(run);
    return status;
}

static int by_offset(const void *a, const void *b, void *user)
{
    const tt_store_dataset *datasets = user;
    int64_t left = datasets[*(const size_t *)a].file_offset;
    int64_t right = datasets[*(const size_t *)b].file_offset;
    return (left > right) - (left < right);
}

static tt_status start_digest(tt_store_writer *writer)
{
    writer->placed = malloc((writer->count + 1) * sizeof *writer->placed);
    if (!writer->placed)
        return tt_fail(TT_ENOMEM, "no memory to write '%s'", writer->path);
    for (size_t i = 0; i < writer->count; i++) {
        if (writer->datasets[i].bytes > 0)
            writer->placed[writer->placed_count++] = i;
    }
    qsort_r(writer->placed, writer->placed_count, sizeof *writer->placed, by_offset,
            writer->datasets);
    writer->hashed = TT_STORE_PREFIX_BYTES;
    return tt_sha256_create(&writer->hash);
}

tt_status tt_store_writer_start(tt_store_writer *writer)
{
    int result;
    if (writer->state != WRITER_DECLARING)
        return TT_OK;
    tt_status status =
        tt_store_skeleton_build(writer->datasets, writer->sorted, writer->count, &writer->image);
    if (status == TT_OK)
        status = start_digest(writer);
    if (status == TT_OK)
        status = tt_store_temp_create(writer->ops, writer->temporary, &writer->fd);
    if (status != TT_OK)
        goto out;
    writer->state = WRITER_WRITING;
    writer->file_bytes = (int64_t)writer->image.bytes;
    do {
        result = writer->ops->fallocate(writer->ops->user, writer->fd, writer->file_bytes);
    } while (result != 0 && errno == EINTR);
    if (result != 0)
        status = tt_fail_errno(errno,
                               "cannot reserve the %lld bytes of container '%s' (free space, keep "
                               "fewer checkpoints or use another directory)",
                               (long long)writer->file_bytes, writer->path);
    else
        status = write_metadata(writer);
out:
    if (status != TT_OK)
        tt_store_writer_abandon(writer);
    return status;
}

/* Metadata and gaps of the payload, in pieces. */
static tt_status hash_image(tt_store_writer *writer, int64_t to)
{
    unsigned char piece[TT_IMAGE_PAGE];
    tt_status status = TT_OK;
    while (status == TT_OK && writer->hashed < to) {
        int64_t left = to - writer->hashed;
        size_t bytes = left < TT_IMAGE_PAGE ? (size_t)left : TT_IMAGE_PAGE;
        tt_image_read(&writer->image, (uint64_t)writer->hashed, piece, bytes);
        status = tt_sha256_update(writer->hash, piece, bytes);
        writer->hashed += (int64_t)bytes;
    }
    return status;
}

tt_status tt_store_writer_hash_to(tt_store_writer *writer, int64_t offset)
{
    tt_status status = TT_OK;
    while (status == TT_OK && writer->hashed < offset) {
        const tt_store_dataset *next = writer->hash_next < writer->placed_count
                                           ? &writer->datasets[writer->placed[writer->hash_next]]
                                           : NULL;
        if (!next || next->file_offset > writer->hashed) {
            status =
                hash_image(writer, next && next->file_offset < offset ? next->file_offset : offset);
        } else if (writer->hashed >= next->file_offset + next->bytes) {
            writer->hash_next++;
        } else if (next->text) { /* always as a whole */
            status = tt_sha256_update(writer->hash, next->text, (size_t)next->bytes);
            writer->hashed += next->bytes;
        } else {
            break; /* a dataset whose bytes were not put yet, or not in order */
        }
    }
    return status;
}

/* Feeds a put to the digest if it is the next piece of the file. */
static tt_status hash_put(tt_store_writer *writer, int64_t offset, const void *data, size_t bytes)
{
    /* Bytes that the digest covers were written again: only the file knows them all now. */
    if (offset < writer->hashed)
        writer->reread = true;
    if (writer->reread)
        return TT_OK;
    tt_status status = tt_store_writer_hash_to(writer, offset);
    if (status != TT_OK || writer->hashed != offset)
        return status;
    writer->hashed += (int64_t)bytes;
    return tt_sha256_update(writer->hash, data, bytes);
}

tt_status tt_store_writer_put(tt_store_writer *writer, const char *path, int64_t offset,
                              const void *data, size_t bytes)
{
    if (!writer || !path || (!data && bytes > 0))
        return tt_fail(TT_EINVAL, "tt_store_writer_put: writer, path and data must be given");
    if (writer->state == WRITER_DONE)
        return tt_fail(TT_EINVAL, "dataset '%s': this writer has committed or failed", path);
    size_t place = lower_bound(writer, path);
    if (strcmp(path_at(writer, place), path) != 0)
        return tt_fail(TT_EINVAL, "dataset '%s' was not declared", path);
    tt_store_dataset *dataset = &writer->datasets[writer->sorted[place]];
    if (dataset->text)
        return tt_fail(TT_EINVAL, "dataset '%s' is text: its content was given already", path);
    if (offset < 0 || offset > dataset->bytes || bytes > (size_t)(dataset->bytes - offset))
        return tt_fail(TT_EINVAL, "dataset '%s' has %lld bytes: %zu at %lld do not fit", path,
                       (long long)dataset->bytes, bytes, (long long)offset);
    tt_status status = tt_store_writer_start(writer);
    if (status != TT_OK || bytes == 0)
        return status;
    int64_t at = dataset->file_offset + offset;
    status = tt_file_write_all(writer->ops, writer->fd, writer->temporary, data, bytes, at);
    if (status == TT_OK)
        status = hash_put(writer, at, data, bytes);
    if (status == TT_OK)
        status = tt_extent_add(&dataset->written, offset, offset + (int64_t)bytes);
    if (status != TT_OK)
        tt_store_writer_abandon(writer);
    return status;
}
