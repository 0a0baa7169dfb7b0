/* What the machine can do at most, measured: see tt_measure_peaks. */
#include "peaks.h"

#include <stdlib.h>
#include <unistd.h>

enum { SLICES = 7 }; /* of each figure's time; the median counts */

typedef struct machine {
    const tt_peak_loops *loops;
    int threads;
    char *memory; /* `half` bytes for each thread, twice */
    size_t half;
    double seconds; /* of one slice */
} machine;

static double now(void)
{
    tt_clock clock = tt_clock_monotonic();
    return (double)tt_clock_now(&clock) * 1e-9;
}

static const tt_peak_loops *best_loops(void)
{
#if defined(__x86_64__)
    if (tt_isa_available(TT_ISA_X86_64_V4))
        return &tt_peak_loops__blocked_v4;
    if (tt_isa_available(TT_ISA_X86_64_V3))
        return &tt_peak_loops__blocked_v3;
#endif
    return &tt_peak_loops__blocked_v1;
}

/* ---- memory ---- */

/* Of both halves together: four times the last cache, so that nothing of it is met again; 256 MiB
 * where the system does not tell, 1 GiB at most. */
static size_t memory_bytes(void)
{
    const size_t least = (size_t)256 << 20, most = (size_t)1 << 30;
    size_t bytes = least;
#ifdef _SC_LEVEL3_CACHE_SIZE
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (cache > 0)
        bytes = 4 * (size_t)cache;
#endif
    return bytes < least ? least : bytes > most ? most : bytes;
}

static char *part_of(const machine *m, int thread, int half)
{
    return m->memory + (size_t)(2 * thread + half) * m->half;
}

/* Every thread touches its own first, so that it lies near it; and not with zeros that a system
 * might keep in one page. */
static void touch(const machine *m)
{
#pragma omp parallel for num_threads(m->threads) schedule(static, 1)
    for (int thread = 0; thread < m->threads; thread++) {
        float *at = (float *)part_of(m, thread, 0);
        for (size_t i = 0; i < 2 * m->half / sizeof *at; i++)
            at[i] = 1;
    }
}

static tt_status have_memory(machine *m, tt_arena **arena)
{
    size_t bytes = memory_bytes();
    m->half = bytes / 2 / (size_t)m->threads / TT_PEAK_BYTES * TT_PEAK_BYTES;
    bytes = m->half * 2 * (size_t)m->threads;
    tt_status status = tt_arena_create(bytes, NULL, NULL, arena);
    if (status == TT_OK && (m->memory = tt_arena_take(*arena, bytes, TT_PEAK_BYTES)) == NULL)
        status = tt_fail(TT_EINTERNAL, "a fresh arena of %zu bytes has no room for as many", bytes);
    if (status != TT_OK)
        return tt_fail_in(status, "measuring the peaks of memory");
    touch(m);
    return TT_OK;
}

/* ---- one pass of each, by all threads; returns operations or bytes ---- */

/* Lasts about a millisecond, far longer than it takes to start the threads. */
static double multiply_adds(const machine *m)
{
    double done = 0;
#pragma omp parallel for num_threads(m->threads) schedule(static, 1) reduction(+ : done)
    for (int thread = 0; thread < m->threads; thread++)
        done += m->loops->multiply_adds(500000);
    return done;
}

static double tile_products(const machine *m)
{
    double done = 0;
#pragma omp parallel for num_threads(m->threads) schedule(static, 1) reduction(+ : done)
    for (int thread = 0; thread < m->threads; thread++)
        done += tt_peak_tile_products(50000);
    return done;
}

static double pair_products(const machine *m)
{
    double done = 0;
#pragma omp parallel for num_threads(m->threads) schedule(static, 1) reduction(+ : done)
    for (int thread = 0; thread < m->threads; thread++)
        done += tt_peak_pair_products(500000);
    return done;
}

static double read_memory(const machine *m)
{
    float sum = 0;
#pragma omp parallel for num_threads(m->threads) schedule(static, 1) reduction(+ : sum)
    for (int thread = 0; thread < m->threads; thread++)
        sum += m->loops->read(part_of(m, thread, 0), 2 * m->half);
    __asm__ volatile("" : : "r"(&sum) : "memory");
    return (double)(2 * m->half) * m->threads;
}

static double copy_memory(const machine *m)
{
#pragma omp parallel for num_threads(m->threads) schedule(static, 1)
    for (int thread = 0; thread < m->threads; thread++)
        m->loops->copy(part_of(m, thread, 1), part_of(m, thread, 0), m->half);
    return (double)(2 * m->half) * m->threads; /* read and written */
}

/* ---- rates ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double rate_of(const machine *m, double (*pass)(const machine *))
{
    double rates[SLICES];
    (void)pass(m); /* threads are there, clocks are up */
    for (int slice = 0; slice < SLICES; slice++) {
        double begin = now(), spent = 0, done = 0;
        do {
            done += pass(m);
            spent = now() - begin;
        } while (spent < m->seconds);
        rates[slice] = done / spent;
    }
    qsort(rates, SLICES, sizeof *rates, compare_doubles);
    return rates[SLICES / 2];
}

tt_status tt_measure_peaks(tt_context *context, double seconds, tt_peaks *out)
{
    if (context == NULL || out == NULL || out->size < sizeof *out)
        return tt_fail(TT_EINVAL, "measure_peaks: no context, or no place for the result");
    if (!(seconds >= 0))
        return tt_fail(TT_EINVAL, "measure_peaks: %g seconds", seconds);
    double (*products)(const machine *) = tt_isa_available(TT_ISA_AMX_BF16)      ? tile_products
                                          : tt_isa_available(TT_ISA_AVX512_BF16) ? pair_products
                                                                                 : NULL;
    machine m = {.loops = best_loops(),
                 .threads = context->exec.threads,
                 .seconds = seconds / ((products != NULL ? 4 : 3) * SLICES)};
    tt_arena *arena = NULL;
    tt_status status = have_memory(&m, &arena);
    if (status == TT_OK) {
        *out = (tt_peaks){.size = out->size,
                          .flops_f32 = rate_of(&m, multiply_adds),
                          .flops_bf16 = products != NULL ? rate_of(&m, products) : 0,
                          .read_bytes = rate_of(&m, read_memory),
                          .copy_bytes = rate_of(&m, copy_memory)};
    }
    tt_arena_destroy(arena);
    return status;
}
