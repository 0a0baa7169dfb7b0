/* The child that walks a container may do anything at all: H5Fopen is replaced by code that
 * misbehaves, and the parent must come out unharmed, in time, with a clear verdict. */
#include "scratch.h"

#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum misbehaviour {
    BEHAVE,
    READ_PASSWORDS,
    OPEN_SOCKET,
    RUN_PROGRAM,
    FORK,
    KILL_PARENT,
    MAP_CODE,
    WRITE_ELSEWHERE,
    USE_OLD_CALL_NUMBERS,
    CRASH,
    ABORT,
    SPIN,
    SLEEP,
    DAWDLE,
    EAT_MEMORY,
    LEAVE,
};

static enum misbehaviour next;

static void eat_memory(void)
{
    enum { PIECE = 16 << 20 };
    for (;;) {
        char *memory = malloc(PIECE);
        if (!memory)
            _exit(9);
        memset(memory, 1, PIECE);
    }
}

static void misbehave(void)
{
    char *const arguments[] = {"true", NULL};
    switch (next) {
    case BEHAVE:
        return;
    case READ_PASSWORDS:
        (void)open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        return;
    case OPEN_SOCKET:
        (void)socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return;
    case RUN_PROGRAM:
        execv("/bin/true", arguments);
        return;
    case FORK:
        syscall(SYS_fork);
        return;
    case KILL_PARENT:
        kill(getppid(), SIGKILL);
        return;
    case MAP_CODE:
        (void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return;
    case WRITE_ELSEWHERE:
        (void)!write(200, "x", 1);
        return;
    case USE_OLD_CALL_NUMBERS:
#ifdef __x86_64__
        syscall(0x40000000 | SYS_getpid); /* the x32 table */
#else
        syscall(SYS_getpid);
#endif
        return;
    case CRASH:
        __builtin_trap(); /* a bad address would be reported by sanitizers first */
    case ABORT:
        abort();
    case SPIN:
        for (volatile unsigned i = 0;; i++)
            ;
    case SLEEP: { /* waiting is possible only on a lock; that must not last for ever either */
        int word = 0;
        for (;;)
            syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
    }
    case DAWDLE: /* a little work, much rest */
        for (;;)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    case EAT_MEMORY:
        eat_memory();
        return;
    case LEAVE:
        _exit(0);
    }
}

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c)
hid_t __real_H5Fopen(const char *name, unsigned flags, hid_t access);
hid_t __wrap_H5Fopen(const char *name, unsigned flags, hid_t access);
pid_t __real_fork(void);
pid_t __wrap_fork(void);

hid_t __wrap_H5Fopen(const char *name, unsigned flags, hid_t access)
{
    misbehave();
    return __real_H5Fopen(name, flags, access);
}

pid_t __wrap_fork(void)
{
    return __real_fork();
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c)

static tt_status open_with(void **state, enum misbehaviour how, unsigned stall_ms)
{
    const tt_walk_limits limits = {.cpu_seconds = 1,
                                   .wall_ms = 4000,
                                   .stall_ms = stall_ms,
                                   .objects = 1000,
                                   .memory_bytes = UINT64_C(256) << 20};
    tt_store *store = NULL;
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    next = how;
    tt_status status = tt_store_open_limited(scratch_path(*state, "a.h5"), &limits, &store);
    next = BEHAVE;
    tt_store_close(store);
    return status;
}

static void test_forbidden_calls(void **state)
{
    static const enum misbehaviour forbidden[] = {
        READ_PASSWORDS, OPEN_SOCKET, RUN_PROGRAM,     FORK,
        KILL_PARENT,    MAP_CODE,    WRITE_ELSEWHERE, USE_OLD_CALL_NUMBERS};
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        if (open_with(state, forbidden[i], 3000) != TT_EHOSTILE)
            fail_msg("misbehaviour %d: %s", (int)forbidden[i], tt_error_message());
        assert_message("forbidden system call");
    }
    assert_ok(open_with(state, BEHAVE, 3000));
}

static void test_a_crash_is_a_verdict(void **state)
{
    assert_int_equal(open_with(state, CRASH, 3000), TT_ECORRUPT);
    assert_message("crashes HDF5");
    assert_int_not_equal(open_with(state, ABORT, 3000), TT_OK);
    assert_int_equal(open_with(state, LEAVE, 3000), TT_ECORRUPT);
    assert_message("no answer");
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void test_a_hang_ends(void **state)
{
    double start = now();
    assert_int_equal(open_with(state, SLEEP, 300), TT_ECORRUPT);
    /* The thread sanitizer's own thread keeps working: then it is the wall clock that ends it. */
    assert_message(SANITIZED ? "inspecting it" : "standstill 3 times");
    assert_true(now() - start < 15);
    assert_int_equal(open_with(state, SPIN, 3000), TT_ECORRUPT); /* the CPU limit, usually first */
    assert_message("HDF5 hang");
    start = now();
    assert_int_equal(open_with(state, DAWDLE, 3000), TT_ECORRUPT); /* the wall clock */
    assert_message("took more than 4000 ms");
    assert_true(now() - start < 15);
}

static void test_memory_ends(void **state)
{
    if (SANITIZED) {
        print_message("sanitizers need address space without limit\n");
        skip();
    }
    assert_int_equal(open_with(state, EAT_MEMORY, 3000), TT_ECORRUPT);
}

/* An application may ignore SIGCHLD or collect every child itself. */
static void collect_all(int signal_number)
{
    int before = errno;
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = before;
}

static void test_other_sigchld_policies(void **state)
{
    struct sigaction policy = {.sa_handler = SIG_IGN}, before;
    assert_int_equal(sigaction(SIGCHLD, &policy, &before), 0);
    assert_ok(open_with(state, BEHAVE, 3000));
    assert_int_equal(open_with(state, CRASH, 3000), TT_ECORRUPT);
    policy.sa_handler = collect_all;
    assert_int_equal(sigaction(SIGCHLD, &policy, NULL), 0);
    assert_ok(open_with(state, BEHAVE, 3000));
    assert_int_equal(open_with(state, LEAVE, 3000), TT_ECORRUPT);
    assert_int_equal(sigaction(SIGCHLD, &before, NULL), 0);
}

/* No child stays behind, no descriptor is lost. */
static void test_nothing_is_left(void **state)
{
    int lowest = dup(0);
    close(lowest);
    for (int i = 0; i < 5; i++) {
        assert_ok(open_with(state, BEHAVE, 3000));
        assert_int_equal(open_with(state, CRASH, 3000), TT_ECORRUPT);
        assert_int_equal(open_with(state, SLEEP, 50), TT_ECORRUPT);
    }
    int again = dup(0);
    close(again);
    assert_int_equal(lowest, again);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* Descriptors 0 and 1 may be closed: the container and the pipe then take their place. */
static void test_without_standard_files(void **state)
{
    pid_t pid = __real_fork();
    if (pid == 0) {
        close(0);
        close(1);
        tt_store *store = NULL;
        tt_status status = sample_save(*state, "a.h5", 1, NULL);
        if (status == TT_OK)
            status = tt_store_open(scratch_path(*state, "a.h5"), &store);
        tt_store_close(store);
        _exit((int)status);
    }
    int result = -1;
    assert_int_equal(waitpid(pid, &result, 0), pid);
    assert_int_equal(result, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_forbidden_calls),
        TEST(test_a_crash_is_a_verdict),
        TEST(test_a_hang_ends),
        TEST(test_memory_ends),
        TEST(test_other_sigchld_policies),
        TEST(test_nothing_is_left),
        TEST(test_without_standard_files),
    };
    return cmocka_run_group_tests_name("store: sandbox", tests, NULL, NULL);
}
