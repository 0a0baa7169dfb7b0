/* How many threads a context gets by itself. */
#include "fixture.h"

#include <sched.h>
#include <stdlib.h>

static tt_topology read_topology(void)
{
    tt_topology t;
    tt_topology_read(&t);
    assert_int_equal(t.size, sizeof t);
    return t;
}

static void test_machine(void **state)
{
    (void)state;
    unsetenv("OMP_NUM_THREADS");
    tt_topology t = read_topology();
    assert_true(t.packages >= 1 && t.cores >= t.packages && t.processors >= t.cores);
    assert_true(t.nodes >= 1);
    assert_true(t.cores_available >= 1 && t.cores_available <= t.cores);
    assert_true(t.threads >= 1 && t.threads <= t.cores_available);
    assert_true(t.threads <= t.processors_available);
    assert_int_equal(t.processors_available, tt_threads_available());
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    assert_int_equal(tt_context_threads(context), t.threads);
    tt_context_destroy(context);
}

static void test_environment(void **state)
{
    (void)state;
    unsetenv("OMP_NUM_THREADS");
    int all = read_topology().threads;
    setenv("OMP_NUM_THREADS", "1,4", 1);
    assert_int_equal(read_topology().threads, 1);
    setenv("OMP_NUM_THREADS", "100000", 1); /* more than a context can have */
    assert_int_equal(read_topology().threads, all);
    setenv("OMP_NUM_THREADS", "1000", 1); /* no more than there are processors */
    assert_int_equal(read_topology().threads, read_topology().processors_available);
    setenv("OMP_NUM_THREADS", "many", 1);
    assert_int_equal(read_topology().threads, all);
    unsetenv("OMP_NUM_THREADS");
}

static void test_affinity(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    tt_topology t = read_topology();
    assert_int_equal(t.threads, 1);
    assert_int_equal(t.cores_available, 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(read_topology().processors_available, tt_threads_available());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
