/* The run folder: made if missing, and locked by its owner. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static tt_status make_folders(const char *path)
{
    char partial[TT_PATH_BYTES];
    size_t length = strlen(path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(partial, path, i);
        partial[i] = '\0';
        if (mkdir(partial, 0777) != 0 && errno != EEXIST) {
            return tt_fail_errno(
                errno, "cannot make the run folder %s; choose another with --run-dir", partial);
        }
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return tt_fail(TT_EIO, "the run folder %s is a file; choose another with --run-dir", path);
    }
    return TT_OK;
}

/* The process that holds the lock, as it wrote itself down; 0 if unknown. */
static long lock_owner(int lock)
{
    char text[32] = "";
    ssize_t got = pread(lock, text, sizeof text - 1, 0);
    return got > 0 ? strtol(text, NULL, 10) : 0;
}

/* Takes the lock, patiently where the owner is dead: a child that it had forked to look into a
 * checkpoint may outlive it by a moment, and holds the lock as long. */
static bool take_lock(int lock)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int tries = 0; tries < 500; tries++) {
        if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        long owner = lock_owner(lock);
        if (errno != EWOULDBLOCK || owner <= 0 || kill((pid_t)owner, 0) == 0 || errno != ESRCH) {
            return false;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

tt_status tt_folder_lock(const char *path, int *fd)
{
    char name[TT_PATH_BYTES + 8];
    *fd = -1;
    if (access(path, F_OK) != 0) {
        return TT_OK;
    }
    snprintf(name, sizeof name, "%s/lock", path);
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock < 0) {
        return tt_fail_errno(errno, "cannot write in the run folder: %s", name);
    }
    if (!take_lock(lock)) {
        long owner = lock_owner(lock);
        close(lock);
        return tt_fail(TT_EBUSY,
                       "the run folder %s is in use by process %ld; wait for it, or choose another "
                       "with --run-dir",
                       path, owner);
    }
    char pid[32];
    int length = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(lock, 0) != 0 || pwrite(lock, pid, (size_t)length, 0) != length) {
        int error = errno;
        close(lock);
        return tt_fail_errno(error, "cannot write %s", name);
    }
    *fd = lock;
    return TT_OK;
}

bool tt_folder_holds_checkpoints(const char *checkpoints)
{
    DIR *folder = opendir(checkpoints);
    bool found = false;
    for (const struct dirent *entry; folder && !found && (entry = readdir(folder)) != NULL;) {
        found = tt_checkpoint_step_of(entry->d_name) >= 0;
    }
    if (folder) {
        closedir(folder);
    }
    return found;
}

tt_status tt_folder_open(tt_folder *folder, const char *path, bool resuming, int lock)
{
    folder->lock_fd = -1;
    if (!path || !path[0] || strlen(path) >= TT_PATH_BYTES - 32) {
        return tt_fail(TT_EUSAGE, "the run folder's path is %s",
                       path && path[0] ? "too long" : "empty; give one with --run-dir");
    }
    snprintf(folder->path, sizeof folder->path, "%s", path);
    snprintf(folder->checkpoints, sizeof folder->checkpoints, "%.*s/checkpoints",
             TT_PATH_BYTES - 32, path);
    tt_status status = make_folders(folder->path);
    if (!status && lock >= 0) {
        folder->lock_fd = lock;
    } else if (!status) {
        status = tt_folder_lock(folder->path, &folder->lock_fd);
    }
    /* Without a checkpoint there is nothing to go on with: a start that failed leaves no run. */
    if (!status && !resuming && tt_folder_holds_checkpoints(folder->checkpoints)) {
        status =
            tt_fail(TT_EUSAGE,
                    "%s already holds a run; go on with it by --resume auto, or choose another "
                    "folder with --run-dir",
                    folder->path);
    }
    if (!status) {
        status = make_folders(folder->checkpoints);
    }
    if (status) {
        tt_folder_close(folder);
    }
    return status;
}

void tt_folder_close(tt_folder *folder)
{
    if (folder->lock_fd >= 0) {
        close(folder->lock_fd); /* releases the lock */
        folder->lock_fd = -1;
    }
}
