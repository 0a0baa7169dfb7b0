/* store/verify.c: is this file, to the last bit, what a writer committed? Nothing here parses. */
#include "prefix.h"

#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HASH_BLOCK = 1 << 20 };

tt_status tt_store_open_file(const char *path, int *fd, int64_t *file_bytes)
{
    struct stat info;
    /* Non-blocking: opening a FIFO that was put in a container's place must not hang. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return tt_fail_errno(errno, "cannot open '%s'", path);
    tt_status status = TT_OK;
    if (fstat(*fd, &info) != 0)
        status = tt_fail_errno(errno, "cannot examine '%s'", path);
    else if (!S_ISREG(info.st_mode))
        status = tt_fail(TT_ECORRUPT, "'%s' is not a regular file", path);
    if (status != TT_OK) {
        close(*fd);
        *fd = -1;
        return status;
    }
    *file_bytes = info.st_size;
    return TT_OK;
}

tt_status tt_store_read_prefix(const tt_file_ops *ops, int fd, const char *path, int64_t file_bytes,
                               tt_store_header *header)
{
    char block[TT_STORE_PREFIX_BYTES];
    if (file_bytes < TT_STORE_PREFIX_BYTES)
        return tt_fail(TT_ECORRUPT,
                       "'%s' is truncated: %lld bytes, less than the %d of a container's header",
                       path, (long long)file_bytes, TT_STORE_PREFIX_BYTES);
    tt_status status = tt_file_read_all(ops, fd, path, block, sizeof block, 0);
    return status == TT_OK ? tt_store_prefix_decode(block, path, header) : status;
}

tt_status tt_store_hash_range(const tt_file_ops *ops, int fd, const char *path, int64_t from,
                              int64_t to, tt_sha256 *hash)
{
    size_t capacity = to - from < HASH_BLOCK ? (size_t)(to - from) : HASH_BLOCK;
    char *block = malloc(capacity + 1);
    if (!block)
        return tt_fail(TT_ENOMEM, "no memory to check '%s'", path);
    tt_status status = TT_OK;
    while (status == TT_OK && from < to) {
        size_t bytes = to - from < (int64_t)capacity ? (size_t)(to - from) : capacity;
        status = tt_file_read_all(ops, fd, path, block, bytes, from);
        if (status == TT_OK)
            status = tt_sha256_update(hash, block, bytes);
        from += (int64_t)bytes;
    }
    free(block);
    return status;
}

tt_status tt_store_verify_fd(const tt_file_ops *ops, int fd, const char *path, int64_t file_bytes,
                             tt_store_header *header)
{
    memset(header, 0, sizeof *header);
    tt_status status = tt_store_read_prefix(ops, fd, path, file_bytes, header);
    if (status != TT_OK)
        return status;
    int64_t payload = file_bytes - TT_STORE_PREFIX_BYTES;
    if (payload != header->payload_bytes)
        return tt_fail(TT_ECORRUPT, "'%s': payload length is %lld bytes, the header says %lld: %s",
                       path, (long long)payload, (long long)header->payload_bytes,
                       payload < header->payload_bytes ? "truncated" : "something was appended");
    tt_sha256 *hash = NULL;
    char digest[TT_SHA256_HEX];
    status = tt_sha256_create(&hash);
    if (status != TT_OK)
        return status;
    status = tt_store_hash_range(ops, fd, path, TT_STORE_PREFIX_BYTES, file_bytes, hash);
    if (status == TT_OK)
        status = tt_sha256_finish(hash, digest);
    tt_sha256_destroy(hash);
    if (status == TT_OK && TT_PROTECTED(VERIFY) && strcmp(digest, header->payload_sha256) != 0)
        status =
            tt_fail(TT_ECORRUPT, "'%s': payload digest does not match: the file is damaged", path);
    return status;
}

tt_status tt_store_verify(const char *path, tt_store_header *header)
{
    tt_store_header own;
    int fd = -1;
    int64_t file_bytes = 0;
    if (!path)
        return tt_fail(TT_EINVAL, "tt_store_verify: path must be given");
    tt_status status = tt_store_open_file(path, &fd, &file_bytes);
    if (status != TT_OK)
        return status;
    status = tt_store_verify_fd(tt_file_ops_posix(), fd, path, file_bytes, header ? header : &own);
    close(fd);
    return status;
}
