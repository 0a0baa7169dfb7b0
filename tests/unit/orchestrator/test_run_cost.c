/* What a step costs when nothing happens: no allocation, microseconds. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Sanitizers have an allocator of their own; there only the costs are printed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef COUNTS_ALLOCATIONS
#define COUNTS_ALLOCATIONS 1
#endif

static atomic_long allocations;

#if COUNTS_ALLOCATIONS
/* The C library's own names; every allocation of the process comes through here. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);

__attribute__((visibility("default"))) void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, bytes);
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(memory, bytes);
}
#endif

static void no_allocation_in_a_warm_step(void **state)
{
    static const char *const settings[] = {"checkpoint.every_steps=0", NULL};
    toy job;
    toy_init(&job, toy_path(state, "warm"));
    long before = atomic_load(&allocations);
    assert_ok(toy_open(&job, NULL, settings));
    if (!COUNTS_ALLOCATIONS) {
        toy_abandon(&job);
        skip();
    }
    assert_true(atomic_load(&allocations) > before + 10); /* the counting works */
    assert_ok(toy_steps(&job, 3));
    before = atomic_load(&allocations);
    for (int i = 0; i < 2000; i++) {
        tt_step_record record;
        assert_ok(toy_attempt(&job, &record));
        (void)tt_orchestrator_gate(job.orchestrator, 0);
    }
    assert_int_equal(atomic_load(&allocations) - before, 0);
    assert_ok(toy_close(&job, TT_OK));
}

/* Four optimizations are on, their errors are measured, and adaptation looks every 50 steps and
 * proposes nothing. */
static void no_allocation_while_adaptation_looks(void **state)
{
    static const char *const settings[] = {"checkpoint.every_steps=0",
                                           "adapt.every_steps=50",
                                           "toy.k0=1",
                                           "toy.k1=1",
                                           "toy.k2=1",
                                           NULL};
    toy job;
    toy_init(&job, toy_path(state, "looks"));
    toy_add_knobs(&job, 7, true);
    for (int k = TOY_TILES; k < 7; k++) {
        job.knobs[k].initial = 4;
        job.knobs[k].measured = true;
        job.knobs[k].error = 0.015; /* with two powers: 0.03 of 0.05 */
    }
    assert_ok(toy_open(&job, NULL, settings));
    if (!COUNTS_ALLOCATIONS) {
        toy_abandon(&job);
        skip();
    }
    assert_ok(toy_steps(&job, 3));
    long before = atomic_load(&allocations);
    for (int i = 0; i < 2000; i++) {
        assert_ok(toy_attempt(&job, NULL));
    }
    assert_int_equal(atomic_load(&allocations) - before, 0);
    assert_int_equal(job.replays_done, 0);
    assert_ok(toy_close(&job, TT_OK));
}

/* Steps of the file that are published. */
static size_t lines_on_disk(const toy *job)
{
    json_t *lines = toy_lines(job, "metrics.jsonl");
    size_t count = 0;
    size_t index;
    const json_t *line;
    json_array_foreach(lines, index, line)
    {
        count += json_is_true(json_object_get(line, "published"));
    }
    json_decref(lines);
    return count;
}

/* Few writes; at once where something happens. */
static void metrics_are_gathered(void **state)
{
    static const char *const settings[] = {"checkpoint.every_steps=0", "adapt.every_steps=0", NULL};
    toy job;
    toy_init(&job, toy_path(state, "gathered"));
    toy_add_knobs(&job, 1, false); /* steps take 1 ms */
    assert_ok(toy_open(&job, NULL, settings));
    for (int64_t step = 1; step <= 3500; step++) {
        assert_ok(toy_steps(&job, step));
        if (step % 100 == 50) {
            size_t there = lines_on_disk(&job);
            assert_true(there <= (size_t)step && (size_t)step - there <= 256);
            assert_true(step < 500 || there < (size_t)step);
        }
    }
    tt_orchestrator_report_held_out(job.orchestrator, 2.5);
    assert_int_equal(lines_on_disk(&job), 3500);
    assert_ok(toy_steps(&job, 3600));
    assert_true(lines_on_disk(&job) < 3600);
    assert_ok(tt_orchestrator_checkpoint(job.orchestrator));
    assert_int_equal(lines_on_disk(&job), 3600);
    toy_add_fault(
        &job, (toy_fault){
                  .step = 3650, .position = -1, .times = 1, .metric = TT_METRIC_LOSS, .value = 30});
    assert_ok(toy_steps(&job, 3651));
    assert_int_equal(lines_on_disk(&job), 3650); /* with the trip in the journal */
    assert_ok(toy_steps(&job, 3660));
    assert_ok(toy_close(&job, TT_OK));
    assert_int_equal(lines_on_disk(&job), 3660);
    toy_check_metrics(&job, 3660);
}

static double now(void)
{
    tt_clock clock = tt_clock_monotonic();
    return (double)tt_clock_now(&clock) * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void policy_costs_little(void **state)
{
    enum { N = 5000 };
    static double costs[N];
    static double said[N];
    static const char *const settings[] = {"checkpoint.every_steps=0", NULL};
    toy job;
    toy_init(&job, toy_path(state, "cost"));
    assert_ok(toy_open(&job, NULL, settings));
    double outside = 0;
    for (int i = 0; i < N; i++) {
        tt_step_plan plan;
        tt_measurements measured;
        bool proceed;
        tt_measurements_init(&measured);
        for (tt_metric metric = 0; metric < TT_METRIC_COUNT; metric++) {
            tt_measurements_set(&measured, metric, 1.2345678901234567);
        }
        tt_measurements_set(&measured, TT_METRIC_GRADIENT_NONFINITE, 0);
        tt_measurements_set(&measured, TT_METRIC_UPDATE_NONFINITE, 0);
        measured.updated = true;
        double start = now();
        assert_ok(tt_step_begin(job.orchestrator, &plan));
        assert_ok(tt_step_check(job.orchestrator, &measured, &proceed));
        tt_step_record record;
        assert_ok(tt_step_end(job.orchestrator, &measured, &record));
        costs[i] = now() - start;
        said[i] = record.policy_seconds;
        outside += costs[i];
    }
    double total = tt_orchestrator_totals(job.orchestrator).policy_seconds;
    qsort(costs, N, sizeof *costs, by_value);
    qsort(said, N, sizeof *said, by_value);
    print_message("policy per step: median %.2f us, 99 %% %.2f us, mean %.2f us; "
                  "the orchestrator says %.2f us\n",
                  costs[N / 2] * 1e6, costs[N * 99 / 100] * 1e6, outside / N * 1e6,
                  said[N / 2] * 1e6);
    /* What it reports is what it takes: the stream of metrics is not left out. (Medians: another
     * process may take the processor between two looks at the clock.) */
    assert_true(said[N / 2] > 0.6 * costs[N / 2]);
    assert_true(total <= outside);
    assert_ok(toy_close(&job, TT_OK));
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(no_allocation_in_a_warm_step),
        RUN_TEST(no_allocation_while_adaptation_looks),
        RUN_TEST(metrics_are_gathered),
        RUN_TEST(policy_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
