/* SIGKILL at every system call of a save: what is on the disk is always the old state or the new.
 */
#include "scratch.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Saves `name` in a traced child and kills it at the n-th stop (each system call stops twice: on
 * its way in and out). True if it was killed, false if it had finished before. */
static bool save_and_kill(const char *directory, const char *name, int64_t step, int n)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        _exit(sample_save(directory, name, step, NULL) == TT_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    for (int stop = 0;; stop++) {
        if (stop == n) {
            kill(pid, SIGKILL);
            assert_int_equal(waitpid(pid, &status, 0), pid);
            return true;
        }
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return false;
        }
        assert_true(WIFSTOPPED(status));
    }
}

static bool tracing_is_permitted(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    bool permitted = WIFSTOPPED(status) && ptrace(PTRACE_SYSCALL, pid, NULL, NULL) == 0;
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    return permitted;
}

/* The old state (step 1) is whole, or the new one (step 2) is. */
static int64_t check_state(const char *directory)
{
    char path[PATH_MAX];
    tt_store_header header;
    assert_ok(tt_store_newest(directory, "step-#.h5", NULL, path, sizeof path));
    assert_ok(tt_store_verify(path, &header));
    assert_in_range(header.step, 1, 2);
    sample_check(path, header.step);
    assert_ok(tt_store_verify(scratch_path(directory, "latest"), NULL));
    return header.step;
}

static void kill_everywhere(const char *directory, const char *name)
{
    int stops = 0, old = 0;
    for (bool killed = true; killed; stops++) {
        scratch_empty(directory);
        assert_ok(sample_save(directory, "step-1.h5", 1, NULL));
        killed = save_and_kill(directory, name, 2, stops);
        int64_t step = check_state(directory);
        old += step == 1;
        /* The next save is not disturbed by what the killed one left, nor is anything left by it.
         */
        assert_ok(sample_save(directory, name, 3, NULL));
        assert_ok(tt_store_verify(scratch_path(directory, "latest"), NULL));
        assert_ok(tt_store_prune(directory, "step-#.h5", 5, NULL, NULL));
        assert_int_equal(scratch_count(directory, ".tmp."), 0);
    }
    print_message("killed at %d stops: %d left the old state, %d the new\n", stops - 1, old,
                  stops - 1 - old);
    assert_true(old > 30 && stops - old > 5);
}

static void test_killed_saving_a_new_one(void **state)
{
    if (!tracing_is_permitted()) {
        print_message("ptrace is not permitted here\n");
        skip();
    }
    kill_everywhere(*state, "step-2.h5");
}

static void test_killed_replacing_one(void **state)
{
    if (!tracing_is_permitted()) {
        print_message("ptrace is not permitted here\n");
        skip();
    }
    kill_everywhere(*state, "step-1.h5");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_killed_saving_a_new_one),
        TEST(test_killed_replacing_one),
    };
    return cmocka_run_group_tests_name("store: kill", tests, NULL, NULL);
}
