#include "jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the last complete line ends. */
static tt_status complete_length(const tt_file_ops *ops, int fd, const char *path, int64_t *length)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return tt_fail_errno(errno, "cannot read the size of %s", path);
    }
    int64_t end = info.st_size;
    char block[4096];
    while (end > 0) {
        int64_t start = end > (int64_t)sizeof block ? end - (int64_t)sizeof block : 0;
        tt_status status = tt_file_read_all(ops, fd, path, block, (size_t)(end - start), start);
        if (status) {
            return status;
        }
        for (int64_t i = end - start - 1; i >= 0; i--) {
            if (block[i] == '\n') {
                *length = start + i + 1;
                return TT_OK;
            }
        }
        end = start;
    }
    *length = 0;
    return TT_OK;
}

tt_status tt_jsonl_open(tt_jsonl *file, const tt_file_ops *ops, const char *path, bool fresh)
{
    *file = (tt_jsonl){.ops = ops, .fd = -1};
    snprintf(file->path, sizeof file->path, "%s", path);
    int fd = ops->open(ops->user, path, O_RDWR | O_CREAT | O_CLOEXEC | (fresh ? O_TRUNC : 0), 0644);
    if (fd < 0) {
        return tt_fail_errno(errno, "cannot open %s", path);
    }
    tt_status status = complete_length(ops, fd, path, &file->length);
    if (!status && ftruncate(fd, file->length) != 0) {
        status = tt_fail_errno(errno, "cannot cut the unfinished last line off %s", path);
    }
    if (status) {
        ops->close(ops->user, fd);
        return status;
    }
    file->fd = fd;
    return TT_OK;
}

void tt_jsonl_close(tt_jsonl *file)
{
    if (file->ops && file->fd >= 0) {
        file->ops->close(file->ops->user, file->fd);
        file->fd = -1;
    }
}

tt_status tt_jsonl_append_lines(tt_jsonl *file, const char *lines, size_t length, bool sync)
{
    tt_status status =
        tt_file_write_all(file->ops, file->fd, file->path, lines, length, file->length);
    if (!status && sync) {
        status = tt_file_sync(file->ops, file->fd, file->path);
    }
    if (status) {
        /* Half a line must not stay; that it may have to is why readers skip what does not parse.
         */
        (void)!ftruncate(file->fd, file->length);
        return status;
    }
    file->length += (int64_t)length;
    return TT_OK;
}

tt_status tt_jsonl_append(tt_jsonl *file, const char *line, size_t length, bool sync)
{
    char small[4096];
    char *whole = length < sizeof small ? small : malloc(length + 1);
    if (!whole) {
        return tt_fail(TT_ENOMEM, "no memory for a line of %zu bytes in %s", length, file->path);
    }
    memcpy(whole, line, length);
    whole[length] = '\n';
    tt_status status = tt_jsonl_append_lines(file, whole, length + 1, sync);
    if (whole != small) {
        free(whole);
    }
    return status;
}

tt_status tt_jsonl_read(const char *path, tt_status (*each)(void *user, const char *line),
                        void *user)
{
    FILE *stream = fopen(path, "re");
    if (!stream) {
        return tt_fail_errno(errno, "cannot open %s", path);
    }
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    tt_status status = TT_OK;
    while (!status && (length = getline(&line, &capacity, stream)) > 0) {
        if (line[length - 1] != '\n') {
            break; /* cut by a crash */
        }
        line[length - 1] = '\0';
        status = each(user, line);
    }
    free(line);
    fclose(stream);
    return status;
}
