/* store/walker.c: the parent's side: start the child, collect its answer in time, judge its end. */
#include "walk.h"

#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What goes through the pipe before the entries. Both ends are one program: same layout. */
typedef struct answer {
    uint64_t mark;
    uint64_t count;
    int64_t status;
    char message[512];
} answer;

#define ANSWER_MARK UINT64_C(0x7472696d77616c6b)

typedef struct child {
    pid_t pid;
    int from; /* read end of its pipe */
    bool ended;
    bool reaped_elsewhere; /* the application takes every child's status: ours is not known */
    int wait_status;
    uint64_t deadline; /* of the monotonic clock, ns */
    uint64_t stall;    /* ns without progress that it is allowed */
    uint64_t moved;    /* when it last made progress ... */
    uint64_t cpu_time; /* ... having used so much CPU time, ns */
    bool stalled;
} child;

/* A child that neither computes nor answers waits for a lock that another thread of ours held at
 * the fork: glibc's allocator takes care of that, others and some memory hooks do not. It says
 * nothing about the file, so the walk is tried again. */
enum { ATTEMPTS = 3 };

void tt_walk_result_clear(tt_walk_result *result)
{
    free(result->entries);
    *result = (tt_walk_result){0};
}

/* ---- the child ---------------------------------------------------------------------------- */

static bool send_all(int to, const void *data, size_t bytes)
{
    for (const char *from = data; bytes > 0;) {
        ssize_t put = write(to, from, bytes);
        if (put <= 0)
            return false;
        from += put;
        bytes -= (size_t)put;
    }
    return true;
}

static _Noreturn void child_main(int fd, int to, int64_t file_bytes, const tt_walk_limits *limits)
{
    tt_walk_result result = {0};
    if (!tt_walk_prepare()) {
        result.status = TT_EINTERNAL;
        snprintf(result.message, sizeof result.message, "HDF5 cannot be started");
    } else if (!tt_sandbox_enter(fd, to, limits, result.message)) {
        result.status = TT_EUNSUPPORTED;
    } else {
        tt_walk_file(fd, file_bytes, limits, &result);
    }
    answer head = {.mark = ANSWER_MARK, .status = result.status};
    head.count = result.status == TT_OK ? result.count : 0;
    memcpy(head.message, result.message, sizeof head.message);
    bool sent = send_all(to, &head, sizeof head) &&
                send_all(to, result.entries, (size_t)head.count * sizeof *result.entries);
    _exit(sent ? 0 : 1);
}

static tt_status start_child(int fd, int64_t file_bytes, const tt_walk_limits *limits,
                             child *started)
{
    int ends[2];
    sigset_t all, before;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return tt_fail_errno(errno, "cannot make a pipe to inspect a container");
    sigfillset(&all);
    /* The child must find HDF5 at rest, whatever other threads do, and run no signal handler. */
    tt_hdf5_lock();
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        child_main(fd, ends[1], file_bytes, limits);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    tt_hdf5_unlock();
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return tt_fail_errno(error, "cannot start a process to inspect a container");
    }
    tt_clock clock = tt_clock_monotonic();
    *started = (child){.pid = pid, .from = ends[0]};
    started->moved = tt_clock_now(&clock);
    started->deadline = started->moved + UINT64_C(1000000) * limits->wall_ms;
    started->stall = UINT64_C(1000000) * limits->stall_ms;
    return TT_OK;
}

/* ---- the answer --------------------------------------------------------------------------- */

static void reap(child *of, int options)
{
    pid_t got;
    if (of->ended)
        return;
    do {
        got = waitpid(of->pid, &of->wait_status, options);
    } while (got < 0 && errno == EINTR);
    of->reaped_elsewhere = got < 0;
    of->ended = got != 0;
}

static uint64_t cpu_time_of(pid_t pid)
{
    clockid_t clock;
    struct timespec used = {0};
    if (clock_getcpuclockid(pid, &clock) == 0)
        clock_gettime(clock, &used);
    return (uint64_t)used.tv_sec * UINT64_C(1000000000) + (uint64_t)used.tv_nsec;
}

/* True when nothing has moved for too long. */
static bool is_stalled(child *of, uint64_t now)
{
    uint64_t cpu_time = cpu_time_of(of->pid);
    if (cpu_time != of->cpu_time) {
        of->cpu_time = cpu_time;
        of->moved = now;
    }
    of->stalled = now - of->moved > of->stall;
    return of->stalled;
}

/* Reads up to `bytes`; fewer when the child ends, stalls or time runs out. */
static size_t receive(child *of, void *out, size_t bytes)
{
    size_t got = 0;
    tt_clock clock = tt_clock_monotonic();
    while (got < bytes) {
        struct pollfd ready = {.fd = of->from, .events = POLLIN};
        /* Short turns: another thread's fork may hold the pipe open when the child has died. */
        int events = poll(&ready, 1, 50);
        if (events > 0) {
            ssize_t part = read(of->from, (char *)out + got, bytes - got);
            if (part == 0 || (part < 0 && errno != EINTR))
                break;
            got += part > 0 ? (size_t)part : 0;
            of->moved = tt_clock_now(&clock);
            continue;
        }
        uint64_t now = tt_clock_now(&clock);
        if (of->ended || now > of->deadline || is_stalled(of, now))
            break;
        reap(of, WNOHANG); /* and one more turn for what is in the pipe */
    }
    return got;
}

/* Waits for the child's end, which is due now; kills it if need be. True if it was killed. */
static bool end_child(child *of)
{
    reap(of, WNOHANG);
    if (of->ended)
        return false;
    tt_clock clock = tt_clock_monotonic();
    bool late = tt_clock_now(&clock) > of->deadline;
    /* It has answered, or never will. */
    kill(of->pid, SIGKILL);
    reap(of, 0);
    return late;
}

static tt_status judge_silence(const child *of, bool late, const char *path,
                               const tt_walk_limits *limits)
{
    int signal_number = of->ended && !of->reaped_elsewhere && WIFSIGNALED(of->wait_status)
                            ? WTERMSIG(of->wait_status)
                            : 0;
    if (of->stalled)
        return tt_fail(TT_ECORRUPT, "'%s': inspecting it came to a standstill %d times", path,
                       ATTEMPTS);
    if (late)
        return tt_fail(TT_ECORRUPT,
                       "'%s': inspecting it took more than %u ms: its structure makes "
                       "HDF5 hang",
                       path, limits->wall_ms);
    if (signal_number == SIGSYS)
        return tt_fail(TT_EHOSTILE, "'%s': its structure made HDF5 attempt a forbidden system call",
                       path);
    if (signal_number == SIGXCPU || signal_number == SIGKILL)
        return tt_fail(TT_ECORRUPT,
                       "'%s': inspecting it exceeded %u s of CPU time or the memory: "
                       "its structure makes HDF5 hang",
                       path, limits->cpu_seconds);
    return tt_fail(TT_ECORRUPT, "'%s': its structure crashes HDF5 (signal %d, %s)", path,
                   signal_number, signal_number ? strsignal(signal_number) : "no answer");
}

/* Whether the answer is one that the child's code gives. */
static bool is_answer(const answer *head)
{
    return head->mark == ANSWER_MARK && head->count <= TT_STORE_MAX_OBJECTS &&
           memchr(head->message, '\0', sizeof head->message) != NULL &&
           (head->status == TT_OK || head->status == TT_ECORRUPT || head->status == TT_EHOSTILE ||
            head->status == TT_ENOMEM || head->status == TT_EINTERNAL ||
            head->status == TT_EUNSUPPORTED);
}

static tt_status collect(child *of, const char *path, const tt_walk_limits *limits,
                         tt_walk_result *result)
{
    answer head;
    if (receive(of, &head, sizeof head) < sizeof head) {
        bool late = end_child(of);
        return judge_silence(of, late, path, limits);
    }
    if (!is_answer(&head))
        return tt_fail(TT_EHOSTILE, "'%s': the process that inspected it gave a false answer",
                       path);
    if (head.status != TT_OK)
        return tt_fail((tt_status)head.status, "'%s': %s", path, head.message);
    size_t bytes = (size_t)head.count * sizeof *result->entries;
    result->entries = calloc(head.count + 1, sizeof *result->entries);
    if (!result->entries)
        return tt_fail(TT_ENOMEM, "no memory for the index of '%s'", path);
    result->count = (size_t)head.count;
    if (receive(of, result->entries, bytes) < bytes) {
        bool late = end_child(of);
        return judge_silence(of, late, path, limits);
    }
    return TT_OK;
}

/* One child, from its start to its end. */
static tt_status walk_once(int fd, int64_t file_bytes, const char *path,
                           const tt_walk_limits *limits, tt_walk_result *result, bool *stalled)
{
    child started = {.pid = -1, .from = -1};
    tt_status status = start_child(fd, file_bytes, limits, &started);
    if (status != TT_OK)
        return status;
    status = collect(&started, path, limits, result);
    end_child(&started);
    close(started.from);
    *stalled = started.stalled;
    return status;
}

tt_status tt_store_walk(int fd, int64_t file_bytes, const char *path, const tt_walk_limits *limits,
                        tt_store_entry **entries, size_t *count)
{
    tt_walk_result result = {0};
    tt_status status = TT_OK;
    bool again = true;
    for (int attempt = 0; again && attempt < ATTEMPTS; attempt++) {
        tt_walk_result_clear(&result);
        again = false;
        status = walk_once(fd, file_bytes, path, limits, &result, &again);
    }
    if (status == TT_OK)
        status = tt_store_index_check(result.entries, result.count, file_bytes, path);
    if (status != TT_OK) {
        tt_walk_result_clear(&result);
        return status;
    }
    *entries = result.entries;
    *count = result.count;
    return TT_OK;
}
