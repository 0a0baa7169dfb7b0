#include "disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct target {
    tt_disk_file file;
    int64_t step;
} target;

/* Also of a temporary: its name holds the one that it will have. */
static target target_of(const char *path)
{
    static const char form[] = "step-";
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    const char *at = strstr(name, form);
    if (at) {
        return (target){TT_DISK_CHECKPOINT, strtoll(at + sizeof form - 1, NULL, 10)};
    }
    if (strstr(name, "latest")) {
        return (target){TT_DISK_LATEST, -1};
    }
    if (strcmp(name, "checkpoints") == 0) {
        return (target){TT_DISK_FOLDER, -1};
    }
    return (target){strstr(name, "decisions.jsonl") ? TT_DISK_JOURNAL : TT_DISK_OTHER, -1};
}

static bool is_place(const tt_disk_place *place, tt_disk_call call, target at, int *seen)
{
    bool is = place->call != TT_DISK_ANY && place->call == call && place->file == at.file &&
              (place->step < 0 || place->step == at.step);
    return is && (*seen)++ == place->nth;
}

/* Before each call: where the fault begins, or ends, it is told so. Only `fault` counts calls. */
static const tt_file_ops *ops_for(tt_disk *d, tt_disk_call call, target at)
{
    if (d->how == TT_FILE_FAULT_SLOW) {
        bool like =
            d->from.call == TT_DISK_ANY || (d->from.call == call && d->from.file == at.file);
        return like ? &d->fault.ops : tt_file_ops_posix();
    }
    pthread_mutex_lock(&d->mutex);
    if (!atomic_load(&d->asleep) && is_place(&d->from, call, at, &d->seen_from)) {
        d->fault.at = atomic_load(&d->fault.calls);
        d->fault.how = d->how;
    }
    if (is_place(&d->until, call, at, &d->seen_until)) {
        d->fault.how = TT_FILE_FAULT_NONE;
    }
    return &d->fault.ops;
}

static void done(tt_disk *d)
{
    if (d->how != TT_FILE_FAULT_SLOW) {
        pthread_mutex_unlock(&d->mutex);
    }
}

static target target_at(const tt_disk *d, int fd)
{
    bool known = fd >= 0 && fd < TT_DISK_FILES;
    return known ? (target){(tt_disk_file)d->file[fd], d->step[fd]} : (target){TT_DISK_OTHER, -1};
}

static int disk_open(void *user, const char *path, int flags, unsigned mode)
{
    tt_disk *d = user;
    target at = target_of(path);
    if (at.file == TT_DISK_CHECKPOINT && flags & O_CREAT) {
        d->newest = at.step;
    }
    const tt_file_ops *ops = ops_for(d, flags & O_CREAT ? TT_DISK_CREATE : TT_DISK_ANY, at);
    int fd = ops->open(ops->user, path, flags, mode);
    if (fd >= 0 && fd < TT_DISK_FILES) {
        d->file[fd] = (unsigned char)at.file;
        d->step[fd] = at.step;
    }
    done(d);
    return fd;
}

static int disk_close(void *user, int fd)
{
    tt_disk *d = user;
    const tt_file_ops *ops = ops_for(d, TT_DISK_ANY, target_at(d, fd));
    int result = ops->close(ops->user, fd);
    done(d);
    return result;
}

static int64_t disk_pread(void *user, int fd, void *data, size_t bytes, int64_t offset)
{
    tt_disk *d = user;
    const tt_file_ops *ops = ops_for(d, TT_DISK_READ, target_at(d, fd));
    int64_t result = ops->pread(ops->user, fd, data, bytes, offset);
    done(d);
    return result;
}

static int64_t disk_pwrite(void *user, int fd, const void *data, size_t bytes, int64_t offset)
{
    tt_disk *d = user;
    const tt_file_ops *ops = ops_for(d, TT_DISK_WRITE, target_at(d, fd));
    int64_t result = ops->pwrite(ops->user, fd, data, bytes, offset);
    done(d);
    return result;
}

static int disk_fallocate(void *user, int fd, int64_t bytes)
{
    tt_disk *d = user;
    const tt_file_ops *ops = ops_for(d, TT_DISK_ANY, target_at(d, fd));
    int result = ops->fallocate(ops->user, fd, bytes);
    done(d);
    return result;
}

static int disk_fsync(void *user, int fd)
{
    tt_disk *d = user;
    target at = target_at(d, fd);
    at.step = at.file == TT_DISK_FOLDER ? d->newest : at.step;
    const tt_file_ops *ops = ops_for(d, TT_DISK_SYNC, at);
    int result = ops->fsync(ops->user, fd);
    done(d);
    return result;
}

static int disk_rename(void *user, const char *from, const char *to)
{
    tt_disk *d = user;
    const tt_file_ops *ops = ops_for(d, TT_DISK_RENAME, target_of(to));
    int result = ops->rename(ops->user, from, to);
    done(d);
    return result;
}

static int disk_unlink(void *user, const char *path)
{
    tt_disk *d = user;
    const tt_file_ops *ops = ops_for(d, TT_DISK_UNLINK, target_of(path));
    int result = ops->unlink(ops->user, path);
    done(d);
    return result;
}

static int disk_symlink(void *user, const char *to, const char *path)
{
    tt_disk *d = user;
    const tt_file_ops *ops = ops_for(d, TT_DISK_LINK, target_of(path));
    int result = ops->symlink(ops->user, to, path);
    done(d);
    return result;
}

void tt_disk_init(tt_disk *d)
{
    bool slow = d->how == TT_FILE_FAULT_SLOW;
    tt_file_fault_init(&d->fault, slow ? TT_FILE_FAULT_SLOW : TT_FILE_FAULT_NONE, 0, d->error);
    d->fault.delay_ns = d->delay_ns;
    pthread_mutex_init(&d->mutex, NULL);
    d->ops = (tt_file_ops){
        .size = sizeof d->ops,
        .user = d,
        .open = disk_open,
        .close = disk_close,
        .pread = disk_pread,
        .pwrite = disk_pwrite,
        .fallocate = disk_fallocate,
        .fsync = disk_fsync,
        .rename = disk_rename,
        .unlink = disk_unlink,
        .symlink = disk_symlink,
    };
}
