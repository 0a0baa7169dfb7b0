/* kernels/peaks.h: the loops that tt_measure_peaks times, each run by every thread on its own. */
#ifndef TT_KERNELS_PEAKS_H
#define TT_KERNELS_PEAKS_H

#include "internal.h"

/* What a thread reads or copies is a multiple of this. */
#define TT_PEAK_BYTES ((size_t)4096)

/* At one instruction set level. */
typedef struct tt_peak_loops {
    /* Multiply-adds in registers; returns the operations done. */
    double (*multiply_adds)(int64_t turns);
    /* Reads everything once, several streams at a time, prefetched; returns a sum of it. */
    float (*read)(const char *from, size_t bytes);
    /* Copies with stores that go past the caches. */
    void (*copy)(char *to, const char *from, size_t bytes);
} tt_peak_loops;

extern const tt_peak_loops tt_peak_loops__blocked_v1, tt_peak_loops__blocked_v3,
    tt_peak_loops__blocked_v4;

/* Products of bf16 in registers, some 10 to 60 ns a turn; return the operations done. Only where
 * TT_ISA_AMX_BF16 is available: */
double tt_peak_tile_products(int64_t turns);
/* and TT_ISA_AVX512_BF16. */
double tt_peak_pair_products(int64_t turns);

#endif
