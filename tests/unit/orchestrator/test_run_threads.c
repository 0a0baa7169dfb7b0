/* Two orchestrators in one process do not meet, and what may be called from another thread may. The
 * job is the example's, whose file is read in as it is. TSan is the better judge of this test. */
#include <string.h>
#include <time.h>

/* The checkpoint thread is slow with each tensor: the slot that it reads stays pinned for steps. */
static void *copy_slowly(void *to, const void *from, size_t bytes)
{
    struct timespec nap = {.tv_nsec = 10000000};
    memcpy(to, from, bytes / 2);
    nanosleep(&nap, NULL);
    memcpy((char *)to + bytes / 2, (const char *)from + bytes / 2, bytes - bytes / 2);
    return to;
}

#define main   external_main
#define memcpy copy_slowly
#include "../../../examples/external_job.c"
#undef memcpy
#undef main

#include "unit.h"

#include <ftw.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

enum { STEPS = 90, SETTINGS = 8 };

static int make_scratch(void **scratch)
{
    /* In memory where there is such a place: these tests sync a lot. */
    *scratch = strdup(access("/dev/shm", W_OK) == 0 ? "/dev/shm/trimtab-threads-XXXXXX"
                                                    : "/tmp/trimtab-threads-XXXXXX");
    return *scratch && mkdtemp(*scratch) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static int remove_scratch(void **scratch)
{
    int failed = nftw(*scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(*scratch);
    return failed;
}

/* One run, as a thread carries it out: asserts are left to the main thread. */
typedef struct task {
    arguments how;
    const char *settings[SETTINGS];
    char folder[128];
    tt_params *params;           /* shared with others; NULL: its own */
    tt_config *config;           /* the same */
    pthread_barrier_t *together; /* wait here when everything stands; NULL: do not */
    sem_t *asked;                /* half-way, wait until a stop was asked for; NULL: do not */
    _Atomic(tt_orchestrator *) running; /* while it may be stopped */
    tt_status status;
    char message[256];
    int64_t step;
    int guilty; /* steps for which the tiles were blamed */
    state end;  /* the published state */
} task;

static tt_status prepare(const task *t, tt_params **params, tt_config **config)
{
    tt_status status = tt_params_create(params);
    status = status ? status : tt_orchestrator_register(*params);
    status = status ? status : tt_params_register(*params, parameters, 2);
    status = status ? status : tt_config_create(*params, config);
    for (int i = 0; !status && t->settings[i]; i++) {
        status = tt_config_set(*config, TT_SOURCE_COMMAND, t->settings[i], "--set");
    }
    return status;
}

static tt_status carry_on(task *t, job *j, tt_orchestrator *orchestrator)
{
    tt_status status = TT_OK;
    while (!status && tt_orchestrator_step(orchestrator) < t->how.steps) {
        if (t->asked && tt_orchestrator_step(orchestrator) == t->how.steps / 2) {
            sem_wait(t->asked);
            t->asked = NULL;
        }
        status = live_step(j, orchestrator);
    }
    atomic_store(&t->running, NULL);
    if (t->together) {
        pthread_barrier_wait(t->together); /* whoever stops others has let go of them */
    }
    status = tt_orchestrator_finish(orchestrator, status);
    t->step = tt_orchestrator_step(orchestrator);
    t->guilty = (int)tt_orchestrator_optimization(orchestrator, 0).trips;
    t->end = j->slot[tt_orchestrator_slot(orchestrator)];
    return status;
}

static void *carry_out(void *user)
{
    task *t = user;
    tt_params *params = t->params;
    tt_config *config = t->config;
    tt_orchestrator *orchestrator = NULL;
    tt_resume resume;
    job *j = calloc(1, sizeof *j);
    tt_resume_init(&resume);
    t->how.folder = t->folder;
    t->status = !j ? TT_ENOMEM : config ? TT_OK : prepare(t, &params, &config);
    if (!t->status) {
        t->status = begin(j, &t->how, params, config, &resume, &orchestrator);
    }
    atomic_store(&t->running, t->status ? NULL : orchestrator);
    if (t->together) {
        pthread_barrier_wait(t->together);
    }
    if (!t->status) {
        t->status = carry_on(t, j, orchestrator);
    } else if (t->together) {
        pthread_barrier_wait(t->together);
    }
    snprintf(t->message, sizeof t->message, "%s", t->status ? tt_error_message() : "");
    tt_orchestrator_destroy(orchestrator);
    tt_resume_clear(&resume);
    if (!t->config) {
        tt_config_destroy(config);
        tt_params_destroy(params);
    }
    free(j);
    return NULL;
}

static void assert_done(const task *t, tt_status expected)
{
    if (t->status != expected) {
        fail_msg("%s: %s: %s", t->folder, tt_status_name(t->status), t->message);
    }
}

static void assert_same_end(const task *a, const task *b)
{
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->end.block, b->end.block);
    assert_memory_equal(a->end.weights, b->end.weights, sizeof a->end.weights);
    assert_memory_equal(a->end.packed, b->end.packed, sizeof a->end.packed);
}

/* A folder below the one of this test. */
static void put(task *t, void *const *scratch, const char *name)
{
    snprintf(t->folder, sizeof t->folder, "%s/%s", (const char *)*scratch, name);
}

/* Different in everything: slots, values, fault, and whether there are replays. Nothing rests on
 * timing. */
static const task jobs[] = {
    {.how = {.steps = STEPS, .fault = 20, .replay = true},
     .settings = {"job.tile=16", "job.block=32", "adapt.every_steps=0", "snapshot.slots=3",
                  "checkpoint.every_steps=4"}},
    {.how = {.steps = STEPS, .fault = 31, .replay = false},
     .settings = {"job.tile=64", "job.block=128", "adapt.every_steps=0", "snapshot.slots=2",
                  "checkpoint.every_steps=3"}},
    {.how = {.steps = STEPS, .fault = INT64_MAX, .replay = true},
     .settings = {"job.tile=8", "job.block=1", "adapt.every_steps=0", "snapshot.slots=1",
                  "checkpoint.every_steps=20"}},
};
enum { JOBS = sizeof jobs / sizeof *jobs };

static void jobs_do_not_meet(void **scratch)
{
    static task alone[JOBS];
    static task together[JOBS];
    pthread_t threads[JOBS];
    pthread_barrier_t barrier;
    char name[32];
    assert_int_equal(pthread_barrier_init(&barrier, NULL, JOBS), 0);
    for (int i = 0; i < JOBS; i++) {
        alone[i] = jobs[i];
        snprintf(name, sizeof name, "alone%d", i);
        put(&alone[i], scratch, name);
        carry_out(&alone[i]);
        assert_done(&alone[i], TT_OK);
        together[i] = jobs[i];
        together[i].together = &barrier;
        snprintf(name, sizeof name, "together%d", i);
        put(&together[i], scratch, name);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, carry_out, &together[i]), 0);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    pthread_barrier_destroy(&barrier);
    for (int i = 0; i < JOBS; i++) {
        assert_done(&together[i], TT_OK);
        assert_same_end(&together[i], &alone[i]);
        assert_int_equal(together[i].guilty, alone[i].guilty);
    }
    assert_int_equal(together[0].guilty, 1); /* proven at once */
    assert_true(together[1].guilty >= 5);    /* suspected often enough */
    assert_int_equal(together[2].guilty, 0);
}

/* Parameters and configuration are only read, also by whoever decides something. */
static void jobs_share_a_configuration(void **scratch)
{
    static task sharing[2];
    pthread_t threads[2];
    tt_params *params = NULL;
    tt_config *config = NULL;
    assert_int_equal(prepare(&jobs[0], &params, &config), TT_OK);
    for (int i = 0; i < 2; i++) {
        sharing[i] = jobs[0];
        sharing[i].params = params;
        sharing[i].config = config;
        put(&sharing[i], scratch, i ? "sharing1" : "sharing0");
        assert_int_equal(pthread_create(&threads[i], NULL, carry_out, &sharing[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_done(&sharing[i], TT_OK);
    }
    assert_same_end(&sharing[0], &sharing[1]);
    tt_config_destroy(config);
    tt_params_destroy(params);
}

/* The message of a failure is its thread's own. */
static void messages_do_not_meet(void **scratch)
{
    static task wrong[2];
    pthread_t threads[2];
    wrong[0] = jobs[0];
    wrong[1] = jobs[1];
    wrong[0].settings[0] = "job.tyle=16";
    wrong[1].settings[0] = "job.blok=32";
    for (int i = 0; i < 2; i++) {
        put(&wrong[i], scratch, "never");
        assert_int_equal(pthread_create(&threads[i], NULL, carry_out, &wrong[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_done(&wrong[i], TT_ECONFIG);
    }
    assert_non_null(strstr(wrong[0].message, "job.tile"));
    assert_non_null(strstr(wrong[1].message, "job.block"));
}

/* Two that want the same folder: one gets it, whichever. */
static void one_folder_has_one_owner(void **scratch)
{
    static task rivals[2];
    pthread_t threads[2];
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    for (int i = 0; i < 2; i++) {
        rivals[i] = jobs[2];
        rivals[i].how.steps = 3;
        rivals[i].together = &barrier;
        put(&rivals[i], scratch, "rivals");
        assert_int_equal(pthread_create(&threads[i], NULL, carry_out, &rivals[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    pthread_barrier_destroy(&barrier);
    int winner = rivals[0].status ? 1 : 0;
    assert_done(&rivals[winner], TT_OK);
    if (rivals[!winner].status != TT_EBUSY) {
        assert_done(&rivals[!winner], TT_EUSAGE); /* it came when the folder held a run */
    }
}

/* A stop that is asked for from another thread, at any moment; the run that goes on from there ends
 * where the unbroken one ends. Meanwhile the checkpoint thread reads pinned slots. On a busy
 * machine the run can be done before anybody asks: in the first round it waits for that. */
static void another_thread_stops_it(void **scratch)
{
    static task unbroken;
    static task t;
    pthread_barrier_t barrier;
    sem_t asked;
    int stops = 0;
    unbroken = jobs[0];
    put(&unbroken, scratch, "unbroken");
    carry_out(&unbroken);
    assert_done(&unbroken, TT_OK);
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    assert_int_equal(sem_init(&asked, 0, 0), 0);
    for (int round = 0; round < 40; round++) {
        pthread_t thread;
        t = jobs[0];
        t.how.resume = round > 0;
        t.together = &barrier;
        t.asked = round == 0 ? &asked : NULL;
        put(&t, scratch, "stopped");
        assert_int_equal(pthread_create(&thread, NULL, carry_out, &t), 0);
        pthread_barrier_wait(&barrier);
        struct timespec moment = {.tv_nsec = 1000000 * (2 + 7 * (round % 5))};
        nanosleep(&moment, NULL);
        tt_orchestrator *running = atomic_load(&t.running);
        if (running && !tt_orchestrator_stop_requested(running)) {
            tt_orchestrator_request_stop(running, 15);
        }
        sem_post(&asked);
        pthread_barrier_wait(&barrier);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (t.status == TT_OK) {
            break;
        }
        assert_done(&t, TT_EREQUEUE);
        stops++;
    }
    pthread_barrier_destroy(&barrier);
    sem_destroy(&asked);
    if (t.status != TT_OK) { /* a machine too slow to get there: go on undisturbed */
        t = jobs[0];
        t.how.resume = true;
        put(&t, scratch, "stopped");
        carry_out(&t);
        assert_done(&t, TT_OK);
    }
    assert_same_end(&t, &unbroken);
    assert_true(stops > 0);
    print_message("stopped %d times\n", stops);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, make_scratch, remove_scratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(jobs_do_not_meet),        RUN_TEST(jobs_share_a_configuration),
        RUN_TEST(messages_do_not_meet),    RUN_TEST(one_folder_has_one_owner),
        RUN_TEST(another_thread_stops_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
