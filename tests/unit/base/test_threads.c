/* The CPU quota of a process, by a planted tree of cgroups. */
#include "unit.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "threads.h"

static char root[64];

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/trimtab-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* root/name holds `text`; its folders are made. */
static void plant(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static double quota(const char *membership)
{
    char path[512];
    plant("membership", membership);
    snprintf(path, sizeof path, "%s/membership", root);
    return tt_cpu_quota(path, root);
}

static void assert_near(double value, double expected)
{
    if (!(value > expected - 1e-9 && value < expected + 1e-9)) {
        fail_msg("%g, not %g", value, expected);
    }
}

static void no_quota(void **state)
{
    (void)state;
    assert_near(tt_cpu_quota("/nonexistent/cgroup", root), 0);
    assert_near(quota(""), 0);
    assert_near(quota("nonsense\n0:\n:\n"), 0);
    assert_near(quota("0::/\n"), 0);
    plant("cpu.max", "max 100000\n");
    assert_near(quota("0::/\n"), 0);
    plant("cpu.max", "nonsense");
    assert_near(quota("0::/\n"), 0);
    plant("cpu.max", "100000 0\n");
    assert_near(quota("0::/\n"), 0);
}

static void v2_takes_the_smallest_above(void **state)
{
    (void)state;
    plant("job.slice/cpu.max", "300000 100000\n");
    plant("job.slice/step/cpu.max", "max 100000\n");
    plant("job.slice/step/task/cpu.max", "800000 100000\n");
    plant("job.slice/tight/cpu.max", "50000 100000\n");
    plant("other/cpu.max", "10000 100000\n");
    assert_near(quota("0::/job.slice/step/task\n"), 3);
    assert_near(quota("0::/job.slice/step/task/\n"), 3);
    assert_near(quota("0::/job.slice/tight\n"), 0.5);
    assert_near(quota("0::/\n"), 0);
    plant("cpu.max", "200000 100000\n");
    assert_near(quota("0::/job.slice/step/task\n"), 2);
    /* The name outside the container, of which only the root is here. */
    assert_near(quota("0::/kubepods/pod1/abc\n"), 2);
    assert_near(quota("0::/../../other\n"), 2);
}

static void v1_reads_the_cpu_hierarchy(void **state)
{
    (void)state;
    plant("cpu/cpu.cfs_quota_us", "-1\n");
    plant("cpu/cpu.cfs_period_us", "100000\n");
    plant("cpu/job/cpu.cfs_quota_us", "150000\n");
    plant("cpu/job/cpu.cfs_period_us", "100000\n");
    plant("cpu/job/step/cpu.cfs_quota_us", "-1\n");
    plant("cpu/job/step/cpu.cfs_period_us", "100000\n");
    assert_near(quota("3:cpuset:/job/step\n2:cpuacct:/job\n1:name=cpu:/job\n"), 0);
    assert_near(quota("5:memory:/\n4:cpu,cpuacct:/job/step\n"), 1.5);
    assert_near(quota("4:cpuacct,cpu:/job/step\n"), 1.5);
    assert_near(quota("1:cpu:/\n0::/job\n"), 0);
    /* Both kinds: the smaller one holds. */
    plant("unit/cpu.max", "100000 100000\n");
    assert_near(quota("1:cpu:/job\n0::/unit\n"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(v2_takes_the_smallest_above, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_reads_the_cpu_hierarchy, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
