/* SIGKILL at random moments and at every call of the commit protocol: the run always resumes, and
 * ends with the bits of the run that was never killed. */
#include "fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { RANDOM_KILLS = 50 };

static fixture shared;
/* A single thread: children are forked, and OpenMP's threads do not survive a fork. */
static const char *const settings[] = {"run.threads=1", "train.steps=60",
                                       "checkpoint.every_steps=6", NULL};
static const char *const short_run[] = {"run.threads=1", "train.steps=1", "checkpoint.keep=1",
                                        "checkpoint.every_steps=1", NULL};

static int setup(void **state)
{
    (void)state;
    fixture_init(&shared, 20000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_clear(&shared);
    return 0;
}

/* ---- file operations that end the process at the n-th call ---- */

static long calls;
static long deadly_call; /* 0: never */
static const tt_file_ops *real;

static void count_call(void)
{
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == deadly_call) {
        kill(getpid(), SIGKILL);
    }
}

static int deadly_open(void *user, const char *path, int flags, unsigned mode)
{
    count_call();
    return real->open(user, path, flags, mode);
}

static int deadly_close(void *user, int fd)
{
    count_call();
    return real->close(user, fd);
}

static int64_t deadly_pread(void *user, int fd, void *data, size_t bytes, int64_t offset)
{
    count_call();
    return real->pread(user, fd, data, bytes, offset);
}

/* Dies half-way through a write: the first half is on its way to the disk. */
static int64_t deadly_pwrite(void *user, int fd, const void *data, size_t bytes, int64_t offset)
{
    if (__atomic_load_n(&calls, __ATOMIC_SEQ_CST) + 1 == deadly_call) {
        (void)real->pwrite(user, fd, data, bytes / 2, offset);
    }
    count_call();
    return real->pwrite(user, fd, data, bytes, offset);
}

static int deadly_fallocate(void *user, int fd, int64_t bytes)
{
    count_call();
    return real->fallocate(user, fd, bytes);
}

static int deadly_fsync(void *user, int fd)
{
    count_call();
    return real->fsync(user, fd);
}

static int deadly_rename(void *user, const char *from, const char *to)
{
    count_call();
    return real->rename(user, from, to);
}

static int deadly_unlink(void *user, const char *path)
{
    count_call();
    return real->unlink(user, path);
}

static int deadly_symlink(void *user, const char *target, const char *path)
{
    count_call();
    return real->symlink(user, target, path);
}

static tt_file_ops deadly_ops(void)
{
    real = tt_file_ops_posix();
    return (tt_file_ops){
        .size = sizeof(tt_file_ops),
        .user = real->user,
        .open = deadly_open,
        .close = deadly_close,
        .pread = deadly_pread,
        .pwrite = deadly_pwrite,
        .fallocate = deadly_fallocate,
        .fsync = deadly_fsync,
        .rename = deadly_rename,
        .unlink = deadly_unlink,
        .symlink = deadly_symlink,
    };
}

/* Runs in a child; `deadly` 0 for none. Returns the wait status. */
static int run_in_child(const char *folder, const char *const *with, long deadly, int64_t kill_ns)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        tt_file_ops ops = deadly_ops();
        calls = 0;
        deadly_call = deadly;
        fixture_run run;
        tt_status status = fixture_create(&shared, folder, "auto", with, &ops, &run);
        if (!status) {
            status = tt_training_run(run.training);
        }
        if (status) {
            fprintf(stderr, "child: %s\n", tt_error_message());
        }
        if (!status && deadly < 0) {
            char path[512];
            snprintf(path, sizeof path, "%s/calls", shared.root);
            FILE *file = fopen(path, "w");
            fprintf(file, "%ld", calls);
            fclose(file);
        }
        _exit(tt_status_exit_code(status));
    }
    if (kill_ns > 0) {
        struct timespec wait = {.tv_nsec = (long)(kill_ns % 1000000000),
                                .tv_sec = (time_t)(kill_ns / 1000000000)};
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    return result;
}

static void random_moments(void **state)
{
    (void)state;
    assert_int_equal(run_in_child("clean", settings, 0, 0), 0);
    struct timespec start;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    assert_int_equal(run_in_child("timing", settings, 0, 0), 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double whole =
        (double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec);
    int killed = 0;
    int finished = 0;
    for (int i = 0; killed < RANDOM_KILLS; i++) {
        assert_true(i < 40 * RANDOM_KILLS);
        char folder[32];
        snprintf(folder, sizeof folder, "random%d", finished);
        int64_t moment = 1 + (int64_t)(whole * tt_random_uniform(11, 0, (uint64_t)i));
        int result = run_in_child(folder, settings, 0, moment);
        if (WIFSIGNALED(result)) {
            killed++;
            continue;
        }
        assert_int_equal(result, 0);
        assert_same_tensors(fixture_checkpoint(&shared, "clean", 60),
                            fixture_checkpoint(&shared, folder, 60));
        finished++; /* this run is complete: harm a new one */
    }
    char folder[32];
    snprintf(folder, sizeof folder, "random%d", finished);
    assert_int_equal(run_in_child(folder, settings, 0, 0), 0);
    assert_same_tensors(fixture_checkpoint(&shared, "clean", 60),
                        fixture_checkpoint(&shared, folder, 60));
    print_message("%d runs ended after %d kills\n", finished + 1, killed);
}

static void every_call(void **state)
{
    (void)state;
    assert_int_equal(run_in_child("short", short_run, -1, 0), 0);
    char *text = fixture_read(fixture_path(&shared, "calls"));
    long total = strtol(text, NULL, 10);
    free(text);
    print_message("%ld file operations in a run\n", total);
    assert_true(total > 50);
    for (long n = 1; n <= total; n++) {
        char folder[32];
        snprintf(folder, sizeof folder, "call%ld", n);
        int result = run_in_child(folder, short_run, n, 0);
        assert_true(WIFSIGNALED(result));
        result = run_in_child(folder, short_run, 0, 0);
        if (result != 0) {
            fail_msg("killed at file operation %ld of %ld: the run does not resume", n, total);
        }
        assert_same_tensors(fixture_checkpoint(&shared, "short", 1),
                            fixture_checkpoint(&shared, folder, 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_moments),
        cmocka_unit_test(every_call),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
