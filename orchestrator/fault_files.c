/* File operations that fail, fall short, dawdle or end the process at a chosen call. */
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static void dawdle(tt_file_fault *m)
{
    struct timespec delay = {.tv_sec = m->delay_ns / 1000000000,
                             .tv_nsec = m->delay_ns % 1000000000};
    atomic_fetch_add(&m->hits, 1);
    nanosleep(&delay, NULL);
}

/* True if this call is to fail. */
static bool strikes(tt_file_fault *m, bool writes)
{
    int64_t call = atomic_fetch_add(&m->calls, 1);
    switch (m->how) {
    case TT_FILE_FAULT_FAIL_ONCE:
        if (call != m->at) {
            return false;
        }
        break;
    case TT_FILE_FAULT_FAIL_FROM:
        if (call < m->at || call >= m->until || !writes) {
            return false;
        }
        break;
    case TT_FILE_FAULT_SLOW:
        if (call >= m->at && writes) {
            dawdle(m);
        }
        return false;
    case TT_FILE_FAULT_KILL:
        if (call == m->at) {
            raise(SIGKILL);
        }
        return false;
    case TT_FILE_FAULT_NONE:
    case TT_FILE_FAULT_HALF:
    case TT_FILE_FAULT_SHORT:
    case TT_FILE_FAULT_KILL_HALF:
        return false;
    }
    atomic_fetch_add(&m->hits, 1);
    errno = m->error;
    return true;
}

static const tt_file_ops *real(void)
{
    return tt_file_ops_posix();
}

static int my_open(void *user, const char *path, int flags, unsigned mode)
{
    return strikes(user, flags & O_CREAT) ? -1 : real()->open(NULL, path, flags, mode);
}

static int my_close(void *user, int fd)
{
    bool fails = strikes(user, false);
    int error = errno;
    int result = real()->close(NULL, fd); /* a close that fails has closed */
    errno = error;
    return fails ? -1 : result;
}

static int64_t my_pread(void *user, int fd, void *data, size_t bytes, int64_t offset)
{
    tt_file_fault *m = user;
    bool shorter = m->how == TT_FILE_FAULT_SHORT && bytes > 1;
    return strikes(m, false) ? -1 : real()->pread(NULL, fd, data, bytes - shorter, offset);
}

static int64_t my_pwrite(void *user, int fd, const void *data, size_t bytes, int64_t offset)
{
    tt_file_fault *m = user;
    bool here = atomic_load(&m->calls) == m->at;
    if (m->how == TT_FILE_FAULT_HALF && atomic_load(&m->half_done)) {
        atomic_store(&m->half_done, false);
        errno = m->error;
        return -1;
    }
    if (strikes(m, true)) {
        return -1;
    }
    if (m->how == TT_FILE_FAULT_HALF && here) {
        atomic_store(&m->half_done, true);
        atomic_fetch_add(&m->hits, 1);
        return real()->pwrite(NULL, fd, data, (bytes + 1) / 2, offset);
    }
    if (m->how == TT_FILE_FAULT_KILL_HALF && here) {
        (void)real()->pwrite(NULL, fd, data, bytes / 2, offset);
        raise(SIGKILL);
    }
    bool shorter = m->how == TT_FILE_FAULT_SHORT && bytes > 1;
    return real()->pwrite(NULL, fd, data, bytes - shorter, offset);
}

static int my_fallocate(void *user, int fd, int64_t bytes)
{
    return strikes(user, true) ? -1 : real()->fallocate(NULL, fd, bytes);
}

static int my_fsync(void *user, int fd)
{
    return strikes(user, true) ? -1 : real()->fsync(NULL, fd);
}

static int my_rename(void *user, const char *from, const char *to)
{
    return strikes(user, true) ? -1 : real()->rename(NULL, from, to);
}

static int my_unlink(void *user, const char *path)
{
    return strikes(user, false) ? -1 : real()->unlink(NULL, path);
}

static int my_symlink(void *user, const char *target, const char *path)
{
    return strikes(user, true) ? -1 : real()->symlink(NULL, target, path);
}

void tt_file_fault_init(tt_file_fault *m, tt_file_fault_how how, int64_t at, int error)
{
    memset(m, 0, sizeof *m);
    m->how = how;
    m->at = at;
    m->until = INT64_MAX;
    m->error = error;
    m->ops = (tt_file_ops){
        .size = sizeof m->ops,
        .user = m,
        .open = my_open,
        .close = my_close,
        .pread = my_pread,
        .pwrite = my_pwrite,
        .fallocate = my_fallocate,
        .fsync = my_fsync,
        .rename = my_rename,
        .unlink = my_unlink,
        .symlink = my_symlink,
    };
}
