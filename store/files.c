/* store/files.c: POSIX file operations, complete reads and writes, temporaries, tt_file_replace. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Orders, inside this process, "a temporary appears and is locked" and "a temporary is published"
 * against "a temporary is judged stale and removed". */
static pthread_mutex_t temporaries = PTHREAD_MUTEX_INITIALIZER;
/* tt_file_replace holds it throughout: two threads that replace one file follow each other instead
 * of meeting at the temporary's name. */
static pthread_mutex_t replacing = PTHREAD_MUTEX_INITIALIZER;

/* ---- POSIX -------------------------------------------------------------------------------- */

static int posix_open(void *user, const char *path, int flags, unsigned mode)
{
    (void)user;
    return open(path, flags, mode);
}

static int posix_close(void *user, int fd)
{
    (void)user;
    return close(fd);
}

static int64_t posix_pread(void *user, int fd, void *data, size_t bytes, int64_t offset)
{
    (void)user;
    return pread(fd, data, bytes, offset);
}

static int64_t posix_pwrite(void *user, int fd, const void *data, size_t bytes, int64_t offset)
{
    (void)user;
    return pwrite(fd, data, bytes, offset);
}

static int posix_fallocate_all(void *user, int fd, int64_t bytes)
{
    (void)user;
    /* posix_fallocate writes every block where the file system cannot reserve. */
    int error = posix_fallocate(fd, 0, bytes);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return 0;
}

static int posix_fsync(void *user, int fd)
{
    (void)user;
    return fsync(fd);
}

static int posix_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to);
}

static int posix_unlink(void *user, const char *path)
{
    (void)user;
    return unlink(path);
}

static int posix_symlink(void *user, const char *target, const char *path)
{
    (void)user;
    return symlink(target, path);
}

const tt_file_ops *tt_file_ops_posix(void)
{
    static const tt_file_ops ops = {
        .size = sizeof(tt_file_ops),
        .open = posix_open,
        .close = posix_close,
        .pread = posix_pread,
        .pwrite = posix_pwrite,
        .fallocate = posix_fallocate_all,
        .fsync = posix_fsync,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .symlink = posix_symlink,
    };
    return &ops;
}

/* ---- complete operations ------------------------------------------------------------------ */

tt_status tt_file_read_all(const tt_file_ops *ops, int fd, const char *path, void *data,
                           size_t bytes, int64_t offset)
{
    char *to = data;
    while (bytes > 0) {
        int64_t got = ops->pread(ops->user, fd, to, bytes, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tt_fail_errno(errno, "cannot read '%s' at byte %lld", path, (long long)offset);
        if (got == 0)
            return tt_fail(TT_ECORRUPT, "'%s' ends at byte %lld, %zu bytes too early: truncated",
                           path, (long long)offset, bytes);
        to += got;
        offset += got;
        bytes -= (size_t)got;
    }
    return TT_OK;
}

tt_status tt_file_write_all(const tt_file_ops *ops, int fd, const char *path, const void *data,
                            size_t bytes, int64_t offset)
{
    const char *from = data;
    while (bytes > 0) {
        int64_t put = ops->pwrite(ops->user, fd, from, bytes, offset);
        if (put < 0 && errno == EINTR)
            continue;
        /* A write of nothing with no reason given would loop for ever: an I/O error. */
        if (put <= 0)
            return tt_fail_errno(put < 0 ? errno : EIO, "cannot write '%s' at byte %lld", path,
                                 (long long)offset);
        from += put;
        offset += put;
        bytes -= (size_t)put;
    }
    return TT_OK;
}

tt_status tt_file_sync(const tt_file_ops *ops, int fd, const char *path)
{
    int result;
    do {
        result = ops->fsync(ops->user, fd);
    } while (result != 0 && errno == EINTR);
    /* Never tried again: after a failed fsync the kernel may have dropped the dirty pages, and a
     * second fsync would then report success for data that never reached the disk. */
    return result == 0 ? TT_OK : tt_fail_errno(errno, "cannot sync '%s' to disk", path);
}

tt_status tt_store_sync_directory(const tt_file_ops *ops, const char *directory)
{
    int fd = ops->open(ops->user, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return tt_fail_errno(errno, "cannot open directory '%s' to sync it", directory);
    tt_status status = TT_OK;
    /* EINVAL: a file system whose directories need no sync (some network and FUSE ones). */
    if (ops->fsync(ops->user, fd) != 0 && errno != EINVAL)
        status = tt_fail_errno(errno, "cannot sync directory '%s' to disk", directory);
    ops->close(ops->user, fd);
    return status;
}

/* ---- temporaries -------------------------------------------------------------------------- */

char *tt_store_join(const char *directory, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

char *tt_store_temp_path(const char *directory, const char *name)
{
    char *path = NULL;
    int length =
        asprintf(&path, "%s/.%s" TT_STORE_TEMP_MARK "%lld", directory, name, (long long)getpid());
    return length < 0 ? NULL : path;
}

int64_t tt_store_temp_owner(const char *name)
{
    static const char mark[] = TT_STORE_TEMP_MARK;
    if (name[0] != '.')
        return 0;
    const char *at = NULL;
    for (const char *next = strstr(name + 1, mark); next; next = strstr(next + 1, mark))
        at = next;
    if (!at || at == name + 1)
        return 0;
    const char *digits = at + sizeof mark - 1;
    size_t length = strspn(digits, "0123456789");
    if (length == 0 || length > 10 || digits[length] != '\0')
        return 0;
    return strtoll(digits, NULL, 10);
}

static bool process_is_alive(int64_t pid)
{
    return pid > INT32_MAX || kill((pid_t)pid, 0) == 0 || errno != ESRCH;
}

/* Whether nobody holds the temporary's lock. Where locks are not supported: not known, so no. */
static bool temp_is_unlocked(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool unlocked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return unlocked;
}

tt_status tt_store_temp_create(const tt_file_ops *ops, const char *path, int *fd)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
    tt_status status = TT_OK;
    pthread_mutex_lock(&temporaries);
    *fd = ops->open(ops->user, path, flags, 0644);
    if (*fd < 0 && errno == EEXIST) {
        /* Our own process number: either another thread's, or a dead process's that had it. */
        if (!temp_is_unlocked(path)) {
            status = tt_fail(TT_EBUSY,
                             "'%s' is being written by another thread: write one file "
                             "of a name at a time",
                             path);
            goto out;
        }
        ops->unlink(ops->user, path);
        *fd = ops->open(ops->user, path, flags, 0644);
    }
    if (*fd < 0)
        status = tt_fail_errno(errno, "cannot create '%s'", path);
    else
        (void)flock(*fd, LOCK_EX | LOCK_NB); /* without locks the process number must do */
out:
    pthread_mutex_unlock(&temporaries);
    return status;
}

tt_status tt_store_temp_publish(const tt_file_ops *ops, int *fd, const char *temporary,
                                const char *path)
{
    tt_status status = TT_OK;
    pthread_mutex_lock(&temporaries); /* unlocked by close, not yet renamed: hidden from pruning */
    int result = ops->close(ops->user, *fd);
    *fd = -1;
    if (result != 0)
        status = tt_fail_errno(errno, "cannot close '%s'", temporary);
    else if (ops->rename(ops->user, temporary, path) != 0)
        status = tt_fail_errno(errno, "cannot rename '%s' to '%s'", temporary, path);
    pthread_mutex_unlock(&temporaries);
    return status;
}

void tt_store_temp_discard(const tt_file_ops *ops, int *fd, const char *temporary)
{
    pthread_mutex_lock(&temporaries);
    ops->unlink(ops->user, temporary);
    if (*fd >= 0)
        ops->close(ops->user, *fd);
    *fd = -1;
    pthread_mutex_unlock(&temporaries);
}

tt_status tt_store_temp_remove_stale(const tt_file_ops *ops, const char *directory,
                                     const char *name)
{
    int64_t owner = tt_store_temp_owner(name);
    bool ours = owner == getpid();
    if (owner <= 0 || (!ours && process_is_alive(owner)))
        return TT_OK;
    char *path = tt_store_join(directory, name);
    if (!path)
        return tt_fail(TT_ENOMEM, "no memory to clean up '%s'", directory);
    tt_status status = TT_OK;
    struct stat info;
    pthread_mutex_lock(&temporaries);
    if (lstat(path, &info) == 0) {
        /* A link (the new `latest`) lives within one hold of the mutex, so ours is stale too. */
        bool stale = S_ISLNK(info.st_mode) || (S_ISREG(info.st_mode) && temp_is_unlocked(path));
        if (stale && ops->unlink(ops->user, path) != 0 && errno != ENOENT)
            status = tt_fail_errno(errno, "cannot remove stale '%s'", path);
    }
    pthread_mutex_unlock(&temporaries);
    free(path);
    return status;
}

tt_status tt_store_move_latest(const tt_file_ops *ops, const char *directory, const char *name)
{
    char *temporary = tt_store_temp_path(directory, TT_STORE_LATEST);
    char *latest = tt_store_join(directory, TT_STORE_LATEST);
    tt_status status = TT_OK;
    pthread_mutex_lock(&temporaries);
    if (!temporary || !latest) {
        status = tt_fail(TT_ENOMEM, "no memory to move '%s/" TT_STORE_LATEST "'", directory);
        goto out;
    }
    int result = ops->symlink(ops->user, name, temporary);
    if (result != 0 && errno == EEXIST) { /* a dead process with our number left it */
        ops->unlink(ops->user, temporary);
        result = ops->symlink(ops->user, name, temporary);
    }
    if (result != 0) {
        status = tt_fail_errno(errno, "cannot make the link '%s'", temporary);
    } else if (ops->rename(ops->user, temporary, latest) != 0) {
        status = tt_fail_errno(errno, "cannot move '%s' to '%s'", latest, name);
        ops->unlink(ops->user, temporary);
    }
out:
    pthread_mutex_unlock(&temporaries);
    free(temporary);
    free(latest);
    return status;
}

/* ---- tt_file_replace ---------------------------------------------------------------------- */

static tt_status replace_in(const tt_file_ops *ops, const char *directory, const char *name,
                            const char *path, const void *data, size_t bytes)
{
    char *temporary = tt_store_temp_path(directory, name);
    if (!temporary)
        return tt_fail(TT_ENOMEM, "no memory to write '%s'", path);
    int fd = -1;
    tt_status status = tt_store_temp_create(ops, temporary, &fd);
    if (status != TT_OK)
        goto out;
    status = tt_file_write_all(ops, fd, temporary, data, bytes, 0);
    if (status == TT_OK)
        status = tt_file_sync(ops, fd, temporary);
    if (status == TT_OK)
        status = tt_store_temp_publish(ops, &fd, temporary, path);
    if (status != TT_OK)
        tt_store_temp_discard(ops, &fd, temporary);
    else
        status = tt_store_sync_directory(ops, directory);
out:
    free(temporary);
    return status;
}

tt_status tt_file_replace(const tt_file_ops *ops, const char *path, const void *data, size_t bytes)
{
    if (!path || (!data && bytes > 0))
        return tt_fail(TT_EINVAL, "tt_file_replace: path and data must be given");
    if (!ops)
        ops = tt_file_ops_posix();
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (name[0] == '\0' || strlen(name) > TT_STORE_MAX_FILE_NAME)
        return tt_fail(TT_EINVAL, "'%s': the file name must have 1 to %d bytes", path,
                       TT_STORE_MAX_FILE_NAME);
    size_t length = slash ? (size_t)(slash - path) : 0;
    char *directory = slash == path ? strdup("/") : strndup(slash ? path : ".", slash ? length : 1);
    if (!directory)
        return tt_fail(TT_ENOMEM, "no memory to write '%s'", path);
    pthread_mutex_lock(&replacing);
    tt_status status = replace_in(ops, directory, name, path, data, bytes);
    pthread_mutex_unlock(&replacing);
    free(directory);
    return status;
}
