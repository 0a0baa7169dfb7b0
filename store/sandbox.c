/* store/sandbox.c: what the child gives up before it looks at a file. */
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* Sanitizers map terabytes of shadow and report on standard error. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TT_SANITIZED 1
#endif
#endif
#ifndef TT_SANITIZED
#define TT_SANITIZED 0
#endif

static bool set_limit(__rlimit_resource_t which, rlim_t soft, rlim_t hard)
{
    struct rlimit limit, now;
    if (getrlimit(which, &now) != 0)
        return false;
    limit.rlim_max = hard < now.rlim_max ? hard : now.rlim_max;
    limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
    return setrlimit(which, &limit) == 0;
}

/* Bytes of address space in use; 0 if unknown. The limit counts what the parent had mapped. */
static uint64_t mapped_bytes(void)
{
    char text[64];
    unsigned long long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    for (ssize_t i = 0; i < got && text[i] >= '0' && text[i] <= '9'; i++)
        pages = pages * 10 + (unsigned long long)(text[i] - '0');
    return pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

static bool limit_resources(const tt_walk_limits *limits)
{
    uint64_t mapped = mapped_bytes();
    bool good = set_limit(RLIMIT_CPU, limits->cpu_seconds, limits->cpu_seconds + 1) &&
                set_limit(RLIMIT_CORE, 0, 0) && set_limit(RLIMIT_FSIZE, 0, 0);
    if (!TT_SANITIZED && mapped > 0)
        good = good &&
               set_limit(RLIMIT_AS, mapped + limits->memory_bytes, mapped + limits->memory_bytes);
    /* Without /proc the heap alone is limited; nothing else of the child's can grow. */
    if (!TT_SANITIZED && mapped == 0)
        good = good && set_limit(RLIMIT_DATA, limits->memory_bytes, limits->memory_bytes);
    return good;
}

/* The parent's other descriptors are none of the child's business. */
static bool close_others(int fd, int to)
{
    unsigned low = (unsigned)(fd < to ? fd : to), high = (unsigned)(fd < to ? to : fd);
    unsigned first = TT_SANITIZED ? 3 : 0;
    bool good = true;
    if (low > first)
        good = close_range(first, low - 1, 0) == 0;
    if (high > low + 1 && high > first)
        good = good && close_range(low + 1 > first ? low + 1 : first, high - 1, 0) == 0;
    good = good && close_range(high + 1 > first ? high + 1 : first, ~0U, 0) == 0;
    /* Kernels before 5.9: the filter below forbids the use of all but these two in any case. */
    return good || errno == ENOSYS;
}

/* Allows `call` where the bits of argument `n` that `mask` selects are `value`. */
static int allow_if(scmp_filter_ctx filter, int call, unsigned n, uint64_t mask, uint64_t value)
{
    const struct scmp_arg_cmp is = {
        .arg = n, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &is);
}

/* Memory that is not executable, time (HDF5 naps for a nanosecond before it gives up a block with a
 * wrong checksum), the two descriptors, the end. */
static int allow(scmp_filter_ctx filter, int fd, int to)
{
    static const int plain[] = {
        SCMP_SYS(brk),          SCMP_SYS(munmap),     SCMP_SYS(mremap),
        SCMP_SYS(madvise),      SCMP_SYS(exit_group), SCMP_SYS(futex),
        SCMP_SYS(getrandom),    SCMP_SYS(sysinfo),    SCMP_SYS(clock_gettime),
        SCMP_SYS(gettimeofday), SCMP_SYS(nanosleep),  SCMP_SYS(clock_nanosleep)};
    int failed = 0;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, plain[i], 0);
    const uint64_t descriptor = UINT32_MAX; /* the kernel takes the low half */
    failed |= allow_if(filter, SCMP_SYS(pread64), 0, descriptor, (unsigned)fd);
    failed |= allow_if(filter, SCMP_SYS(write), 0, descriptor, (unsigned)to);
    if (TT_SANITIZED) {
        failed |= allow_if(filter, SCMP_SYS(write), 0, descriptor, STDERR_FILENO);
        failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sigaltstack), 0);
    }
    failed |= allow_if(filter, SCMP_SYS(mprotect), 2, PROT_EXEC, 0);
    const struct scmp_arg_cmp anonymous_data[] = {
        {.arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0},
        {.arg = 3, .op = SCMP_CMP_MASKED_EQ, .datum_a = MAP_ANONYMOUS, .datum_b = MAP_ANONYMOUS}};
    failed |= seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, anonymous_data);
    return failed;
}

static bool filter_calls(int fd, int to)
{
    /* Killed, not refused: a file that makes HDF5 ask for more is hostile, and is to be named so.
     */
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return false;
    bool good =
        /* Calls by another architecture's numbers too: by default only the thread would die. */
        seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0 &&
        allow(filter, fd, to) == 0 && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return good;
}

bool tt_sandbox_enter(int fd, int to, const tt_walk_limits *limits, char message[512])
{
    const char *failed = NULL;
    sigset_t signals;
    /* All signals are blocked since before the fork, so no handler of the parent's runs here; the
     * CPU limit's must end the process. */
    signal(SIGXCPU, SIG_DFL);
    sigemptyset(&signals);
    sigaddset(&signals, SIGXCPU);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || sigprocmask(SIG_UNBLOCK, &signals, NULL) != 0)
        failed = "tie its life to the parent's";
    else if (!close_others(fd, to))
        failed = "close inherited files";
    else if (!limit_resources(limits))
        failed = "limit its CPU time and memory";
    else if (!filter_calls(fd, to))
        failed = "load a system-call filter (seccomp)";
    if (failed)
        snprintf(message, 512,
                 "the process that inspects containers cannot %s: run where the kernel allows it",
                 failed);
    return failed == NULL;
}
