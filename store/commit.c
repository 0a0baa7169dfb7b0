/* store/commit.c: the protocol that makes a container durable, or leaves no trace of it.
 *
 *   text, digest, header | fsync | re-read and verify | rename | fsync directory | move `latest` |
 *   fsync directory
 *
 * Before the rename a failure removes the temporary. From the rename on the new container is whole
 * and verified, so it stays even if a later step fails; `latest` then still names the one before.
 */
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static tt_status check_complete(const tt_store_writer *writer)
{
    for (size_t i = 0; i < writer->count; i++) {
        const tt_store_dataset *dataset = &writer->datasets[i];
        int64_t gap = tt_extent_first_gap(&dataset->written, dataset->bytes);
        if (!dataset->text && gap < dataset->bytes)
            return tt_fail(TT_EINVAL, "dataset '%s' is incomplete: byte %lld of %lld was never put",
                           dataset->path, (long long)gap, (long long)dataset->bytes);
    }
    return TT_OK;
}

static tt_status write_texts(tt_store_writer *writer)
{
    tt_status status = TT_OK;
    for (size_t i = 0; i < writer->count && status == TT_OK; i++) {
        const tt_store_dataset *dataset = &writer->datasets[i];
        if (dataset->text)
            status = tt_file_write_all(writer->ops, writer->fd, writer->temporary, dataset->text,
                                       (size_t)dataset->bytes, dataset->file_offset);
    }
    return status;
}

static tt_status hash_payload(tt_store_writer *writer)
{
    tt_status status = TT_OK;
    if (writer->reread) {
        tt_sha256_destroy(writer->hash);
        writer->hash = NULL;
        writer->hashed = TT_STORE_PREFIX_BYTES;
        status = tt_sha256_create(&writer->hash);
    } else {
        status = tt_store_writer_hash_to(writer, writer->file_bytes);
    }
    if (status == TT_OK)
        status = tt_store_hash_range(writer->ops, writer->fd, writer->temporary, writer->hashed,
                                     writer->file_bytes, writer->hash);
    return status == TT_OK ? tt_sha256_finish(writer->hash, writer->header.payload_sha256) : status;
}

static tt_status write_prefix(tt_store_writer *writer)
{
    char block[TT_STORE_PREFIX_BYTES];
    tt_status status = hash_payload(writer);
    if (status != TT_OK)
        return status;
    writer->header.payload_bytes = writer->file_bytes - TT_STORE_PREFIX_BYTES;
    status = tt_store_prefix_encode(&writer->header, block);
    if (status == TT_OK)
        status =
            tt_file_write_all(writer->ops, writer->fd, writer->temporary, block, sizeof block, 0);
    return status;
}

/* What is on the disk, not what we meant to put there. */
static tt_status verify_written(tt_store_writer *writer)
{
    tt_store_header found;
    /* Asks the kernel to forget the clean pages, so that the read reaches the disk; it may decline.
     */
    (void)posix_fadvise(writer->fd, 0, 0, POSIX_FADV_DONTNEED);
    tt_status status =
        tt_store_verify_fd(writer->ops, writer->fd, writer->temporary, writer->file_bytes, &found);
    if (status == TT_OK && strcmp(found.header_sha256, writer->header.header_sha256) != 0)
        status = tt_fail(TT_ECORRUPT, "'%s' reads back with another header", writer->temporary);
    return status == TT_OK
               ? TT_OK
               : tt_fail_in(status, "container '%s' did not survive being written", writer->path);
}

tt_status tt_store_writer_commit(tt_store_writer *writer, char digest[TT_SHA256_HEX])
{
    if (!writer || writer->state == WRITER_DONE)
        return tt_fail(TT_EINVAL, "tt_store_writer_commit: the writer has committed or failed");
    tt_status status = check_complete(writer);
    if (status == TT_OK)
        status = tt_store_writer_start(writer);
    if (status == TT_OK)
        status = write_texts(writer);
    if (status == TT_OK)
        status = write_prefix(writer);
    if (status == TT_OK)
        status = tt_file_sync(writer->ops, writer->fd, writer->temporary);
    if (status == TT_OK)
        status = verify_written(writer);
    if (status != TT_OK)
        goto out;
    status = tt_store_temp_publish(writer->ops, &writer->fd, writer->temporary, writer->path);
    if (status != TT_OK) {
        tt_store_temp_discard(writer->ops, &writer->fd, writer->temporary);
        goto out;
    }
    status = tt_store_sync_directory(writer->ops, writer->directory);
    if (status == TT_OK)
        status = tt_store_move_latest(writer->ops, writer->directory, writer->name);
    if (status == TT_OK)
        status = tt_store_sync_directory(writer->ops, writer->directory);
    if (status == TT_OK && digest)
        memcpy(digest, writer->header.header_sha256, TT_SHA256_HEX);
out:
    tt_store_writer_abandon(writer);
    return status;
}
