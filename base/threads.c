/* How many processors this process may use. */
#include "threads.h"

#include "trimtab/base.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 8192 };

/* The first line of root + path + name; false if there is none. */
static bool read_line(const char *root, const char *path, const char *name, char *line, int bytes)
{
    char file_name[PATH_BYTES];
    int length = snprintf(file_name, sizeof file_name, "%s%s/%s", root, path, name);
    if (length < 0 || (size_t)length >= sizeof file_name) {
        return false;
    }
    FILE *file = fopen(file_name, "re");
    if (!file) {
        return false;
    }
    bool got = fgets(line, bytes, file) != NULL;
    fclose(file);
    return got;
}

/* Of one cgroup, in processors: v2's "QUOTA PERIOD" or "max PERIOD"; 0 if there is none. */
static double quota_v2(const char *root, const char *path)
{
    char line[64];
    if (!read_line(root, path, "cpu.max", line, sizeof line) || strncmp(line, "max", 3) == 0) {
        return 0;
    }
    char *rest = NULL;
    double quota = strtod(line, &rest);
    double period = strtod(rest, NULL);
    return quota > 0 && period > 0 ? quota / period : 0;
}

static double quota_v1(const char *root, const char *path)
{
    char quota[64];
    char period[64];
    if (!read_line(root, path, "cpu.cfs_quota_us", quota, sizeof quota) ||
        !read_line(root, path, "cpu.cfs_period_us", period, sizeof period)) {
        return 0;
    }
    double share = strtod(quota, NULL) / strtod(period, NULL);
    return share > 0 && isfinite(share) ? share : 0; /* a quota of -1 is none */
}

typedef double (*quota_fn)(const char *root, const char *path);

/* The smallest quota from `path` up to the root. A path that is not there (a container sees its own
 * cgroup as the root, but may be told its name outside) leads up to one that is. */
static double smallest(quota_fn quota, const char *root, char *path)
{
    double least = 0;
    if (strstr(path, "/..")) {
        path[0] = '\0'; /* outside of what this process can see */
    }
    for (;;) {
        size_t length = strlen(path);
        while (length > 0 && path[length - 1] == '/') {
            path[--length] = '\0';
        }
        double here = quota(root, path);
        if (here > 0 && (least <= 0 || here < least)) {
            least = here;
        }
        char *last = strrchr(path, '/');
        if (!last) {
            return least;
        }
        *last = '\0';
    }
}

/* Whether the comma-separated list holds "cpu". */
static bool has_cpu(const char *controllers)
{
    for (const char *at = controllers; (at = strstr(at, "cpu")); at += 3) {
        bool begins = at == controllers || at[-1] == ',';
        if (begins && (at[3] == '\0' || at[3] == ',')) {
            return true;
        }
    }
    return false;
}

/* One line of /proc/self/cgroup: "ID:CONTROLLERS:PATH"; v2 has id 0 and no controllers. */
static double line_quota(char *line, const char *root)
{
    char cpu_root[PATH_BYTES];
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) {
        return 0;
    }
    *controllers++ = '\0';
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (*controllers == '\0') {
        return smallest(quota_v2, root, path);
    }
    int length = snprintf(cpu_root, sizeof cpu_root, "%s/cpu", root);
    if (!has_cpu(controllers) || length < 0 || (size_t)length >= sizeof cpu_root) {
        return 0;
    }
    return smallest(quota_v1, cpu_root, path);
}

double tt_cpu_quota(const char *membership, const char *root)
{
    char line[PATH_BYTES];
    FILE *file = fopen(membership, "re");
    if (!file) {
        return 0;
    }
    double least = 0;
    while (fgets(line, sizeof line, file)) {
        double here = line_quota(line, root);
        if (here > 0 && (least <= 0 || here < least)) {
            least = here;
        }
    }
    fclose(file);
    return least;
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
    double quota = tt_cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota > 0 && quota < count) {
        count = (int)ceil(quota);
    }
    return count < 1 ? 1 : count;
}
