/* The background thread, the processor count, the clock. */
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct job {
    sem_t go;
    atomic_int runs;
    tt_status result;
    pthread_t thread;
} job;

static tt_status work(void *user)
{
    job *mine = user;
    sem_wait(&mine->go);
    mine->thread = pthread_self();
    atomic_fetch_add(&mine->runs, 1);
    return mine->result ? tt_fail(mine->result, "job %d failed", atomic_load(&mine->runs)) : TT_OK;
}

static int setup(void **state)
{
    static job shared;
    memset(&shared, 0, sizeof shared);
    sem_init(&shared.go, 0, 0);
    *state = &shared;
    return 0;
}

static int teardown(void **state)
{
    return sem_destroy(&((job *)*state)->go);
}

static void wait_until_finished(tt_worker *worker)
{
    while (!tt_worker_finished(worker)) {
        sched_yield();
    }
}

static void carries_status_and_message(void **state)
{
    job *mine = *state;
    tt_worker *worker = NULL;
    assert_int_equal(tt_worker_create(&worker), TT_OK);
    assert_false(tt_worker_pending(worker));
    assert_false(tt_worker_finished(worker));
    assert_int_equal(tt_worker_wait(worker), TT_OK); /* there is none */
    mine->result = TT_ENOSPC;
    assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
    assert_true(tt_worker_pending(worker));
    assert_false(tt_worker_finished(worker));
    tt_error_clear();
    sem_post(&mine->go);
    assert_int_equal(tt_worker_wait(worker), TT_ENOSPC);
    assert_string_equal(tt_error_message(), "job 1 failed");
    assert_false(pthread_equal(mine->thread, pthread_self()));
    assert_false(tt_worker_pending(worker));
    assert_int_equal(tt_worker_wait(worker), TT_OK); /* collected once */
    /* A success leaves the caller's message alone. */
    mine->result = TT_OK;
    tt_fail(TT_EIO, "the caller's");
    sem_post(&mine->go);
    assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
    assert_int_equal(tt_worker_wait(worker), TT_OK);
    assert_string_equal(tt_error_message(), "the caller's");
    tt_worker_destroy(worker);
    assert_int_equal(atomic_load(&mine->runs), 2);
}

static void one_job_at_a_time(void **state)
{
    job *mine = *state;
    tt_worker *worker = NULL;
    assert_int_equal(tt_worker_create(&worker), TT_OK);
    assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
    assert_int_equal(tt_worker_start(worker, work, mine), TT_EBUSY);
    sem_post(&mine->go);
    wait_until_finished(worker);
    assert_true(tt_worker_pending(worker)); /* its result is not collected */
    assert_int_equal(tt_worker_start(worker, work, mine), TT_EBUSY);
    assert_int_equal(tt_worker_wait(worker), TT_OK);
    assert_false(tt_worker_finished(worker));
    sem_post(&mine->go);
    assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
    assert_int_equal(tt_worker_wait(worker), TT_OK);
    tt_worker_destroy(worker);
    assert_int_equal(atomic_load(&mine->runs), 2);
}

static void *post_later(void *user)
{
    usleep(20000);
    sem_post(user);
    return NULL;
}

static void destroy_waits(void **state)
{
    job *mine = *state;
    tt_worker *worker = NULL;
    pthread_t helper;
    /* Running, ... */
    assert_int_equal(tt_worker_create(&worker), TT_OK);
    assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
    assert_int_equal(pthread_create(&helper, NULL, post_later, &mine->go), 0);
    tt_worker_destroy(worker);
    assert_int_equal(atomic_load(&mine->runs), 1);
    pthread_join(helper, NULL);
    /* ... finished and never collected, ... */
    assert_int_equal(tt_worker_create(&worker), TT_OK);
    sem_post(&mine->go);
    assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
    wait_until_finished(worker);
    tt_worker_destroy(worker);
    /* ... just started, ... */
    for (int i = 0; i < 200; i++) {
        sem_post(&mine->go);
        assert_int_equal(tt_worker_create(&worker), TT_OK);
        assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
        tt_worker_destroy(worker);
    }
    assert_int_equal(atomic_load(&mine->runs), 202);
    /* ... never used, ... never made. */
    assert_int_equal(tt_worker_create(&worker), TT_OK);
    tt_worker_destroy(worker);
    tt_worker_destroy(NULL);
}

static void many_jobs(void **state)
{
    job *mine = *state;
    tt_worker *worker = NULL;
    assert_int_equal(tt_worker_create(&worker), TT_OK);
    for (int i = 0; i < 2000; i++) {
        mine->result = i % 2 ? TT_EIO : TT_OK;
        sem_post(&mine->go);
        assert_int_equal(tt_worker_start(worker, work, mine), TT_OK);
        if (i % 3 == 0) {
            wait_until_finished(worker);
        }
        assert_int_equal(tt_worker_wait(worker), mine->result);
    }
    tt_worker_destroy(worker);
    assert_int_equal(atomic_load(&mine->runs), 2000);
}

static void affinity(void **state)
{
    (void)state;
    int all = tt_threads_available();
    assert_true(all >= 1 && all <= sysconf(_SC_NPROCESSORS_CONF));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* the mask of this process stays as it is */
        cpu_set_t mask;
        cpu_set_t one;
        if (sched_getaffinity(0, sizeof mask, &mask) != 0) {
            _exit(2);
        }
        CPU_ZERO(&one);
        for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
            if (CPU_ISSET(i, &mask)) {
                CPU_SET(i, &one);
            }
        }
        if (sched_setaffinity(0, sizeof one, &one) != 0) {
            _exit(3);
        }
        _exit(tt_threads_available() == 1 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(tt_threads_available(), all);
}

static uint64_t fixed_time(void *user)
{
    return *(uint64_t *)user;
}

static void clocks(void **state)
{
    (void)state;
    tt_clock monotonic = tt_clock_monotonic();
    uint64_t before = tt_clock_now(&monotonic);
    usleep(1000);
    uint64_t after = tt_clock_now(&monotonic);
    assert_true(after - before >= 1000000);
    assert_true(after - before < UINT64_C(60000000000));
    uint64_t now = 42;
    tt_clock fake = {.now_ns = fixed_time, .user = &now};
    assert_int_equal(tt_clock_now(&fake), 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(carries_status_and_message, setup, teardown),
        cmocka_unit_test_setup_teardown(one_job_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(destroy_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(many_jobs, setup, teardown),
        cmocka_unit_test(affinity),
        cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
