/* kernels/avx512_bf16/pairs.h: lanes that hold two neighbours in k, as bf16: the lower half that of
 * even k.
 *
 * tt_vdot adds a lane's two products to its float one after the other, that of odd k first. It
 * rounds to nearest even, takes denormal operands for zero and flushes denormal results to zero,
 * whatever MXCSR says (Intel SDM, VDPBF16PS; AMD's processors give the same bits). */
#ifndef TT_AVX512_BF16_PAIRS_H
#define TT_AVX512_BF16_PAIRS_H

#include "blocked/simd.h"

typedef uint32_t tt_pair __attribute__((may_alias));
typedef uint16_t tt_v16b __attribute__((vector_size(32)));
typedef uint16_t tt_v32b __attribute__((vector_size(64)));

#if defined(TT_BF16_EMULATED)
#include "pairs_emulated.h"
#else
TT_INLINE tt_vf tt_vdot(tt_vf sum, tt_pair a, tt_vf b)
{
    return (tt_vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
}

/* The first n of 32 elements, 0 <= n; the others are zero, and not touched. */
TT_INLINE tt_v32b tt_load_32(const uint16_t *from, int64_t n)
{
    if (n >= 32)
        return (tt_v32b)_mm512_loadu_si512(from);
    return (tt_v32b)_mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), from);
}

/* The same of 16. */
TT_INLINE tt_v16b tt_load_16(const uint16_t *from, int64_t n)
{
    if (n >= 16)
        return (tt_v16b)_mm256_loadu_si256((const __m256i *)(const void *)from);
    return (tt_v16b)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), from);
}

/* The same of floats. */
TT_INLINE tt_vf tt_load_floats(const float *from, int64_t n)
{
    if (n >= 16)
        return tt_vload(from);
    return (tt_vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), from);
}

/* low's 16 elements, rounded to nearest even, then high's. */
TT_INLINE tt_v32b tt_round_32(tt_vf low, tt_vf high)
{
    return (tt_v32b)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

TT_INLINE tt_v32b tt_join_32(tt_v16b low, tt_v16b high)
{
    return (tt_v32b)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)low), (__m256i)high, 1);
}
#endif

/* 32 elements of a line from element `at` on, of which n count. */
TT_INLINE tt_v32b tt_load_line(const void *data, int64_t at, int64_t n, bool bf16)
{
    if (bf16)
        return tt_load_32((const uint16_t *)data + at, n);
    const float *from = (const float *)data + at;
    return tt_round_32(tt_load_floats(from, n), tt_load_floats(from + 16, tt_max64(n - 16, 0)));
}

/* The first half's elements and the second half's in turn. */
TT_INLINE tt_vf tt_zip_halves(tt_v32b v)
{
    return (tt_vf)__builtin_shufflevector(v, v, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                          23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,
                                          15, 31);
}

#endif
