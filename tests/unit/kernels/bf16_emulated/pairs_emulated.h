/* Pairs of bf16 in portable C, to the letter of the instruction's definition: what
 * kernels/avx512_bf16 computes with in tests on machines without AVX512-BF16. */
#ifndef TT_PAIRS_EMULATED_H
#define TT_PAIRS_EMULATED_H

#include <string.h>

#include "blocked/vbf16.h"
#include "flushed.h"

static inline tt_vf tt_vdot(tt_vf sum, tt_pair a, tt_vf b)
{
    for (int i = 0; i < TT_LANES; i++) {
        uint32_t bits;
        memcpy(&bits, (const char *)&b + 4 * i, sizeof bits);
        for (int half = 1; half >= 0; half--)
            sum[i] = tt_flushed(fmaf(tt_factor((uint16_t)(a >> 16 * half)),
                                     tt_factor((uint16_t)(bits >> 16 * half)), tt_flushed(sum[i])));
    }
    return sum;
}

static inline void tt_load_first(void *to, const void *from, size_t element, int64_t n,
                                 int64_t most)
{
    memset(to, 0, (size_t)most * element);
    memcpy(to, from, (size_t)(n < most ? n : most) * element);
}

static inline tt_v32b tt_load_32(const uint16_t *from, int64_t n)
{
    tt_v32b v;
    tt_load_first(&v, from, sizeof *from, n, 32);
    return v;
}

static inline tt_v16b tt_load_16(const uint16_t *from, int64_t n)
{
    tt_v16b v;
    tt_load_first(&v, from, sizeof *from, n, 16);
    return v;
}

static inline tt_vf tt_load_floats(const float *from, int64_t n)
{
    tt_vf v;
    tt_load_first(&v, from, sizeof *from, n, 16);
    return v;
}

static inline tt_v32b tt_join_32(tt_v16b low, tt_v16b high)
{
    tt_v32b v;
    memcpy(&v, &low, sizeof low);
    memcpy((char *)&v + sizeof low, &high, sizeof high);
    return v;
}

static inline tt_v32b tt_round_32(tt_vf low, tt_vf high)
{
    return tt_join_32(tt_vnarrow_bf16(low), tt_vnarrow_bf16(high));
}

#endif
