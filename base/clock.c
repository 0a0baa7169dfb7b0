#include "trimtab/base.h"

#include <time.h>

static uint64_t monotonic_ns(void *user)
{
    (void)user;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

tt_clock tt_clock_monotonic(void)
{
    return (tt_clock){.now_ns = monotonic_ns};
}

uint64_t tt_clock_now(const tt_clock *clock)
{
    return clock->now_ns(clock->user);
}
