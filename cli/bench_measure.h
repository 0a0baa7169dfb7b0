/* Times every variant of operations, in turn, beside the machine's peaks. */
#ifndef TRIMTAB_CLI_BENCH_MEASURE_H
#define TRIMTAB_CLI_BENCH_MEASURE_H

#include "bench_case.h"

enum { BENCH_ENTRIES = 32, BENCH_ROUNDS = 101, BENCH_PEAKS = 64 };

/* A variant on a case. */
typedef struct bench_entry {
    const tt_variant_info *info;
    bool packed;   /* with weights packed ahead */
    tt_tile tile;  /* the fastest; of tiled variants only */
    int64_t scale; /* it ran on this part of the first size: 1/scale */
    bench_work work;
    int timed; /* of `seconds` */
    double seconds[BENCH_ROUNDS];
    double median, low, high; /* of the whole shape */
} bench_entry;

/* A case in one compute type. */
typedef struct bench_result {
    bench_case bench;
    tt_dtype compute;
    size_t count; /* 0: nothing runs it in this type */
    bench_entry entries[BENCH_ENTRIES];
} bench_result;

typedef struct bench_machine {
    tt_context *context;
    tt_context *sweeper; /* has what washes the caches */
    char *memory;        /* of the context: a case's tensors */
    bench_place place;   /* where they lie */
    size_t bytes;
    char *packed; /* and its packed weights */
    size_t packed_bytes;
    void *swept;
    int64_t swept_count;
    int rounds;
    tt_peaks peaks[BENCH_PEAKS];
    size_t peak_count;
} bench_machine;

/* With room for all of these cases. */
tt_status bench_machine_init(bench_machine *machine, const bench_cases *cases, int threads,
                             int rounds);
void bench_machine_clear(bench_machine *machine);

/* Measures the peaks once more. */
tt_status bench_machine_peaks(bench_machine *machine);
/* Medians of what was measured so far. */
tt_peaks bench_peaks(const bench_machine *machine);

tt_status bench_measure(bench_machine *machine, const bench_case *c, tt_dtype compute,
                        bench_result *out);

/* ---- figures ---- */

/* Operations per second, or bytes per second where these are what counts. */
double bench_rate(const bench_entry *entry);
/* The peak that it stands against. */
double bench_bar(const bench_entry *entry, tt_dtype compute, const tt_peaks *peaks);
/* Another library's implementation. */
bool bench_is_rival(const bench_entry *entry);
/* Neither a rival nor the reference. */
bool bench_is_own(const bench_entry *entry);
/* The fastest rival of `entry`, packed ahead as it is if there is one such; NULL: none. */
const bench_entry *bench_rival_of(const bench_result *result, const bench_entry *entry);
/* The fastest of our own; NULL: only the reference is there. */
const bench_entry *bench_best_own(const bench_result *result);

#endif
