/* How many processors this process may use. */
#include "trimtab/base.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Quota in processors by cgroup v2's "MAX PERIOD"; 0 if there is none. */
static double quota_v2(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file) {
        return 0;
    }
    char line[64] = "";
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    if (!got || strncmp(line, "max", 3) == 0) {
        return 0;
    }
    char *rest = NULL;
    double quota = strtod(line, &rest);
    double period = strtod(rest, NULL);
    return period > 0 ? quota / period : 0;
}

static double read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return 0;
    }
    char line[64] = "";
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    return got ? strtod(line, NULL) : 0;
}

static double quota_v1(void)
{
    double quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    double period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    return quota > 0 && period > 0 ? quota / period : 0;
}

int tt_threads_available(void)
{
    int count = 1;
    /* A fixed cpu_set_t holds 1,024 processors; larger machines need a larger mask. */
    for (size_t processors = CPU_SETSIZE; processors <= 65536; processors *= 2) {
        cpu_set_t *mask = CPU_ALLOC(processors);
        size_t bytes = CPU_ALLOC_SIZE(processors);
        bool known = mask && sched_getaffinity(0, bytes, mask) == 0;
        if (known) {
            count = CPU_COUNT_S(bytes, mask);
        }
        if (mask) {
            CPU_FREE(mask);
        }
        if (known) {
            break;
        }
    }
    double quota = quota_v2();
    if (quota <= 0) {
        quota = quota_v1();
    }
    if (quota > 0 && quota < count) {
        count = (int)ceil(quota);
    }
    return count < 1 ? 1 : count;
}
