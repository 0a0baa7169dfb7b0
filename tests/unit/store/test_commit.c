/* The commit protocol under failing operations: whichever fails, whenever, the old container and
 * `latest` are there, and no temporary is left. */
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- file operations that fail on demand -------------------------------------------------- */

enum op { OPEN, CLOSE, PREAD, PWRITE, FALLOCATE, FSYNC, RENAME, UNLINK, SYMLINK, OPS };

static const char *const op_names[OPS] = {"open",  "close",  "pread",  "pwrite", "fallocate",
                                          "fsync", "rename", "unlink", "symlink"};

enum { LOG_SIZE = 512 };

typedef struct faults {
    enum op op;     /* this one ... */
    int at;         /* ... at this call, from 0 (-1: never) ... */
    int error;      /* ... fails with this; 0: a short count of `part` bytes */
    size_t part;    /* of every read and write, if not 0 */
    bool flip;      /* instead of failing, the call changes one bit */
    int calls[OPS]; /* so far */
    char log[LOG_SIZE];
    size_t logged;
} faults;

static bool fails(void *user, enum op op, char mark)
{
    faults *plan = user;
    if (plan->logged < LOG_SIZE - 1)
        plan->log[plan->logged++] = mark;
    bool now = plan->op == op && plan->calls[op]++ == plan->at;
    if (plan->op != op)
        plan->calls[op]++;
    if (now && plan->error != 0)
        errno = plan->error;
    return now;
}

static int fault_open(void *user, const char *path, int flags, unsigned mode)
{
    return fails(user, OPEN, flags & O_DIRECTORY ? 'd' : 'o') ? -1 : open(path, flags, mode);
}

static int fault_close(void *user, int fd)
{
    bool fail = fails(user, CLOSE, 'c');
    int result = close(fd); /* as the kernel does it: closed even where it reports an error */
    return fail ? -1 : result;
}

static size_t cut(const faults *plan, size_t bytes)
{
    return plan->part > 0 && plan->part < bytes ? plan->part : bytes;
}

static int64_t fault_pread(void *user, int fd, void *data, size_t bytes, int64_t offset)
{
    const faults *plan = user;
    bool fail = fails(user, PREAD, 'r');
    if (fail && !plan->flip)
        return -1;
    int64_t got = pread(fd, data, cut(plan, bytes), offset);
    if (fail && got > 0)
        ((char *)data)[got / 2] ^= 4;
    return got;
}

static int64_t fault_pwrite(void *user, int fd, const void *data, size_t bytes, int64_t offset)
{
    const faults *plan = user;
    if (!fails(user, PWRITE, 'w'))
        return pwrite(fd, data, cut(plan, bytes), offset);
    if (!plan->flip)
        return plan->error ? -1 : 0;
    char *copy = malloc(bytes);
    memcpy(copy, data, bytes);
    copy[bytes / 2] ^= 4;
    int64_t put = pwrite(fd, copy, bytes, offset);
    free(copy);
    return put;
}

static int fault_fallocate(void *user, int fd, int64_t bytes)
{
    return fails(user, FALLOCATE, 'a') ? -1 : ftruncate(fd, bytes);
}

static int fault_fsync(void *user, int fd)
{
    struct stat info;
    bool directory = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
    return fails(user, FSYNC, directory ? 'D' : 's') ? -1 : 0;
}

static int fault_rename(void *user, const char *from, const char *to)
{
    return fails(user, RENAME, strstr(to, "/latest") ? 'L' : 'N') ? -1 : rename(from, to);
}

static int fault_unlink(void *user, const char *path)
{
    return fails(user, UNLINK, 'u') ? -1 : unlink(path);
}

static int fault_symlink(void *user, const char *target, const char *path)
{
    return fails(user, SYMLINK, 'l') ? -1 : symlink(target, path);
}

static tt_file_ops faulty(faults *plan)
{
    return (tt_file_ops){.size = sizeof(tt_file_ops),
                         .user = plan,
                         .open = fault_open,
                         .close = fault_close,
                         .pread = fault_pread,
                         .pwrite = fault_pwrite,
                         .fallocate = fault_fallocate,
                         .fsync = fault_fsync,
                         .rename = fault_rename,
                         .unlink = fault_unlink,
                         .symlink = fault_symlink};
}

/* ---- one failure at a time ---------------------------------------------------------------- */

static void assert_latest_is(const char *directory, const char *name)
{
    char target[256] = "";
    ssize_t length = readlink(scratch_path(directory, "latest"), target, sizeof target - 1);
    assert_true(length > 0);
    assert_string_equal(target, name);
}

static tt_status save_faulty(const char *directory, const char *name, faults *plan)
{
    const tt_file_ops ops = faulty(plan);
    return sample_save(directory, name, 2, &ops);
}

static void check_after_failure(const char *directory, const faults *plan, tt_status status)
{
    bool full = plan->error == ENOSPC;
    if (status != (full ? TT_ENOSPC : TT_EIO))
        fail_msg("%s #%d: %s: %s", op_names[plan->op], plan->at, tt_status_name(status),
                 tt_error_message());
    assert_true(strlen(tt_error_message()) > 10);
    assert_int_equal(scratch_count(directory, ".tmp."), 0);
    assert_latest_is(directory, "old.h5");
    sample_check(scratch_path(directory, "latest"), 1);
    /* From the rename on there may be a new one; then it is whole. */
    if (access(scratch_path(directory, "new.h5"), F_OK) == 0) {
        sample_check(scratch_path(directory, "new.h5"), 2);
        assert_int_equal(unlink(scratch_path(directory, "new.h5")), 0);
    }
}

/* Back to the state before a save that went through. */
static void restore_old(const char *directory)
{
    unlink(scratch_path(directory, "new.h5"));
    unlink(scratch_path(directory, "latest"));
    assert_int_equal(symlink("old.h5", scratch_path(directory, "latest")), 0);
}

static void test_each_operation_failing(void **state)
{
    static const int errors[] = {EIO, ENOSPC};
    int cases = 0;
    assert_ok(sample_save(*state, "old.h5", 1, NULL));
    for (enum op op = OPEN; op < OPS; op++) {
        for (int at = 0;; at++) {
            faults plan = {.op = op, .at = at, .error = errors[at % 2]};
            tt_status status = save_faulty(*state, "new.h5", &plan);
            if (plan.calls[op] <= at) { /* there is no such call */
                assert_ok(status);
                restore_old(*state);
                break;
            }
            if (op == CLOSE && status == TT_OK) { /* a directory's: nothing depends on it */
                assert_latest_is(*state, "new.h5");
                restore_old(*state);
                continue;
            }
            /* The very last sync comes after `latest` moved. */
            if (op == FSYNC && at == 2) {
                assert_int_not_equal(status, TT_OK);
                assert_latest_is(*state, "new.h5");
                sample_check(scratch_path(*state, "latest"), 2);
                restore_old(*state);
                continue;
            }
            if (op == OPEN && at == 2) {
                assert_latest_is(*state, "new.h5");
                restore_old(*state);
            }
            check_after_failure(*state, &plan, status);
            cases++;
        }
    }
    print_message("%d single failures\n", cases);
    assert_true(cases > 15);
}

static void test_a_failure_at_first(void **state)
{
    faults plan = {.op = FALLOCATE, .at = 0, .error = ENOSPC};
    assert_int_equal(save_faulty(*state, "a.h5", &plan), TT_ENOSPC);
    assert_message("cannot reserve");
    assert_message("free space");
    assert_int_equal(plan.calls[PWRITE], 0); /* known before any bulk was written */
    assert_int_equal(scratch_count(*state, "a.h5"), 0);
    assert_int_equal(scratch_count(*state, "latest"), 0);
    plan = (faults){.op = PWRITE, .at = 1, .error = 0}; /* writes nothing, gives no reason */
    assert_int_equal(save_faulty(*state, "a.h5", &plan), TT_EIO);
}

static void test_short_counts_are_no_failure(void **state)
{
    faults plan = {.at = -1, .part = 7};
    assert_ok(save_faulty(*state, "a.h5", &plan));
    assert_true(plan.calls[PWRITE] > 500);
    sample_check(scratch_path(*state, "a.h5"), 2);
}

static void test_interruptions_are_no_failure(void **state)
{
    static const enum op retried[] = {PREAD, PWRITE, FALLOCATE, FSYNC};
    for (size_t i = 0; i < sizeof retried / sizeof retried[0]; i++) {
        faults plan = {.op = retried[i], .at = 0, .error = EINTR};
        assert_ok(save_faulty(*state, "a.h5", &plan));
        sample_check(scratch_path(*state, "a.h5"), 2);
    }
}

/* A disk that stores something else, or a memory that does: found before anything is replaced. */
static void test_a_lying_disk_is_found(void **state)
{
    assert_ok(sample_save(*state, "old.h5", 1, NULL));
    int lies = 0;
    for (enum op op = PREAD; op <= PWRITE; op++) {
        for (int at = 0;; at++) {
            faults plan = {.op = op, .at = at, .flip = true};
            tt_status status = save_faulty(*state, "new.h5", &plan);
            if (plan.calls[op] <= at) {
                assert_ok(status);
                restore_old(*state);
                break;
            }
            if (status == TT_OK) { /* a lie about bytes that were then written over */
                sample_check(scratch_path(*state, "new.h5"), 2);
                restore_old(*state);
                continue;
            }
            assert_int_equal(status, TT_ECORRUPT);
            assert_message("did not survive being written");
            assert_int_equal(scratch_count(*state, "new.h5"), 0);
            assert_latest_is(*state, "old.h5");
            lies++;
        }
    }
    assert_true(lies > 5);
}

/* An orderly writer's payload is read once, after the sync: the digest was taken on the way. */
static void test_the_digest_grows_with_the_puts(void **state)
{
    faults plan = {.at = -1};
    assert_ok(save_faulty(*state, "a.h5", &plan));
    assert_true(strchr(plan.log, 'r') > strchr(plan.log, 's'));
}

/* What a power cut needs: contents reach the disk before names, names before `latest`. */
static void test_the_order_of_operations(void **state)
{
    faults plan = {.at = -1};
    assert_ok(save_faulty(*state, "a.h5", &plan));
    const char *log = plan.log;
    const char *reserve = strchr(log, 'a'), *last_write = strrchr(log, 'w');
    const char *sync = strchr(log, 's'), *name = strchr(log, 'N');
    const char *first_directory = strchr(log, 'D'), *link = strchr(log, 'l');
    const char *latest = strchr(log, 'L'), *last_directory = strrchr(log, 'D');
    const char *check = strrchr(log, 'r');
    assert_true(reserve && reserve < strchr(log, 'w'));
    assert_true(last_write < sync && sync < check && check < name);
    assert_true(name < first_directory && first_directory < link && link < latest);
    assert_true(latest < last_directory);
    assert_null(strchr(log, 'u'));
}

static void test_a_same_name_is_replaced_whole(void **state)
{
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    faults plan = {.op = RENAME, .at = 0, .error = EIO};
    assert_int_equal(save_faulty(*state, "a.h5", &plan), TT_EIO);
    sample_check(scratch_path(*state, "a.h5"), 1);
    assert_ok(sample_save(*state, "a.h5", 2, NULL));
    sample_check(scratch_path(*state, "a.h5"), 2);
}

/* ---- no memory ---------------------------------------------------------------------------- */

static int callocs_left = -1; /* before one fails; -1: none does */

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c)
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

void *__wrap_calloc(size_t count, size_t bytes)
{
    if (callocs_left >= 0 && callocs_left-- == 0)
        return NULL;
    return __real_calloc(count, bytes);
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c)

/* Also while HDF5 writes its metadata: nothing of it may stay open in the library. */
static void test_no_memory(void **state)
{
    int failures = 0;
    assert_ok(sample_save(*state, "old.h5", 1, NULL));
    for (;; failures++) {
        callocs_left = failures;
        tt_status status = sample_save(*state, "new.h5", 2, NULL);
        bool reached = callocs_left < 0;
        callocs_left = -1;
        assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
        if (!reached) {
            assert_ok(status);
            break;
        }
        if (status == TT_OK) { /* HDF5 opens a file in two attempts */
            sample_check(scratch_path(*state, "new.h5"), 2);
            restore_old(*state);
            continue;
        }
        if (status != TT_ENOMEM && status != TT_EINTERNAL) /* HDF5 gives no reason */
            fail_msg("calloc %d: %s", failures, tt_status_name(status));
        assert_int_equal(scratch_count(*state, ".tmp."), 0);
        assert_latest_is(*state, "old.h5");
    }
    assert_true(failures >= 4);
    sample_check(scratch_path(*state, "latest"), 2);
}

/* ---- a disk that is really full ----------------------------------------------------------- */

static tt_status save_large(const char *directory, const char *name)
{
    static char data[300000];
    const int64_t dims[] = {sizeof data};
    tt_store_writer *writer = NULL;
    const tt_store_write_options options = {
        .size = sizeof options, .directory = directory, .name = name, .run_id = "full"};
    tt_status status = tt_store_writer_create(&options, &writer);
    if (status == TT_OK)
        status = tt_store_writer_declare(writer, "/large", TT_U8, 1, dims);
    if (status == TT_OK)
        status = tt_store_writer_put(writer, "/large", 0, data, sizeof data);
    if (status == TT_OK)
        status = tt_store_writer_commit(writer, NULL);
    tt_store_writer_destroy(writer);
    return status;
}

static bool write_line(const char *path, const char *line)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line);
    if (fd >= 0)
        close(fd);
    return good;
}

/* Mounts of our own, as root or by a user namespace; nothing shows outside. */
static bool own_mounts(void)
{
    char user[64], group[64];
    snprintf(user, sizeof user, "0 %u 1", geteuid());
    snprintf(group, sizeof group, "0 %u 1", getegid());
    if (unshare(CLONE_NEWNS) != 0 &&
        (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !write_line("/proc/self/uid_map", user) ||
         !write_line("/proc/self/setgroups", "deny") || !write_line("/proc/self/gid_map", group)))
        return false;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* 0: as it should be; 77: cannot mount; otherwise the line that found a fault. */
static int in_small_disks(const char *directory)
{
    if (!own_mounts())
        return 77;
    int full = 0, good = 0;
    for (int pages = 2; pages <= 160; pages += 1 + pages / 8) {
        char size[32];
        snprintf(size, sizeof size, "size=%dk", 4 * pages);
        if (mount("tmpfs", directory, "tmpfs", 0, size) != 0)
            return 77;
        bool old = sample_save(directory, "old.h5", 1, NULL) == TT_OK;
        tt_status status = save_large(directory, "large.h5");
        bool there = access(scratch_path(directory, "large.h5"), F_OK) == 0;
        if (status != TT_OK && status != TT_ENOSPC)
            return __LINE__ % 256;
        if (there != (status == TT_OK) || scratch_count(directory, ".tmp.") != 0)
            return __LINE__ % 256;
        if (old && tt_store_verify(scratch_path(directory, "old.h5"), NULL) != TT_OK)
            return __LINE__ % 256;
        if (status == TT_OK && tt_store_verify(scratch_path(directory, "latest"), NULL) != TT_OK)
            return __LINE__ % 256;
        full += status == TT_ENOSPC;
        good += status == TT_OK;
        if (umount2(directory, MNT_DETACH) != 0)
            return __LINE__ % 256;
    }
    return full > 5 && good > 0 ? 0 : __LINE__ % 256;
}

static void test_a_full_disk(void **state)
{
    int result = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_small_disks(*state));
    assert_int_equal(waitpid(pid, &result, 0), pid);
    if (WIFEXITED(result) && WEXITSTATUS(result) == 77) {
        print_message("mounting a small tmpfs is not permitted here\n");
        skip();
    }
    assert_int_equal(result, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_each_operation_failing),
        TEST(test_a_failure_at_first),
        TEST(test_short_counts_are_no_failure),
        TEST(test_interruptions_are_no_failure),
        TEST(test_a_lying_disk_is_found),
        TEST(test_the_digest_grows_with_the_puts),
        TEST(test_the_order_of_operations),
        TEST(test_a_same_name_is_replaced_whole),
        TEST(test_no_memory),
        TEST(test_a_full_disk),
    };
    return cmocka_run_group_tests_name("store: commit", tests, NULL, NULL);
}
