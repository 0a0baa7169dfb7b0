/* kernels/blocked/vbf16.h: bfloat16 in vectors of floats, with the bits of ../bf16.h. */
#ifndef TT_BLOCKED_VBF16_H
#define TT_BLOCKED_VBF16_H

#include "bf16.h"
#include "simd.h"

typedef uint16_t tt_vs __attribute__((vector_size(TT_LANES * 2)));
/* Where it lies in a tensor. */
typedef uint16_t tt_vs_unaligned __attribute__((vector_size(TT_LANES * 2), aligned(2), may_alias));

/* What gcc 12 makes of __builtin_convertvector takes several times as long. */
TT_INLINE tt_vf tt_vwiden_bf16(tt_vs v)
{
#if TT_VECTOR_BITS == 512
    return (tt_vf)_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)v), 16));
#elif TT_VECTOR_BITS == 256
    return (tt_vf)_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)v), 16));
#else
    return (tt_vf)(__builtin_convertvector(v, tt_vu) << 16);
#endif
}

/* The upper halves. */
TT_INLINE tt_vs tt_vupper(tt_vf x)
{
#if TT_VECTOR_BITS == 512
    return (tt_vs)_mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)x, 16));
#elif TT_VECTOR_BITS == 256
    __m256i upper = _mm256_srli_epi32((__m256i)x, 16);
    return (tt_vs)_mm_packus_epi32(_mm256_castsi256_si128(upper),
                                   _mm256_extracti128_si256(upper, 1));
#else
    return __builtin_convertvector((tt_vu)x >> 16, tt_vs);
#endif
}

TT_INLINE tt_vf tt_vload_bf16(const uint16_t *p)
{
    return tt_vwiden_bf16(*(const tt_vs_unaligned *)p);
}

#if TT_PANELS_BF16
/* The nearest bf16, ties to even; a NaN stays a NaN. Denormals become zero, as in the products. */
TT_INLINE tt_vs tt_vnarrow_bf16(tt_vf x)
{
#if TT_VECTOR_BITS == 512
    return (tt_vs)_mm512_cvtneps_pbh((__m512)x);
#else
    tt_vu bits = (tt_vu)x, near = bits + 0x7fffu + ((bits >> 16) & 1u);
    tt_vi nan = x != x, tiny = (tt_vi)((bits & 0x7f800000u) == 0);
    tt_vf kept = tt_vselect(nan, (tt_vf)(bits | 0x400000u), (tt_vf)near);
    kept = tt_vselect(tiny, (tt_vf)(bits & 0x80000000u), kept);
    return tt_vupper(kept);
#endif
}

TT_INLINE tt_vf tt_vround_bf16(tt_vf x)
{
    return tt_vwiden_bf16(tt_vnarrow_bf16(x));
}

TT_INLINE void tt_vstore_bf16(uint16_t *p, tt_vf x)
{
    *(tt_vs_unaligned *)p = tt_vnarrow_bf16(x);
}
#else
/* The nearest bf16, ties to even; a NaN stays a NaN. */
TT_INLINE tt_vf tt_vround_bf16(tt_vf x)
{
    tt_vu bits = (tt_vu)x;
    tt_vu near = bits + 0x7fffu + ((bits >> 16) & 1u);
    tt_vi nan = x != x;
    return tt_vselect(nan, (tt_vf)((bits | 0x400000u) & 0xffff0000u), (tt_vf)(near & 0xffff0000u));
}

/* x is a bf16 already. */
TT_INLINE void tt_vput_bf16(uint16_t *p, tt_vf x)
{
    *(tt_vs_unaligned *)p = tt_vupper(x);
}

TT_INLINE void tt_vstore_bf16(uint16_t *p, tt_vf x)
{
    tt_vput_bf16(p, tt_vround_bf16(x));
}
#endif

/* A bf16 by chance, as tt_bf16_from_f32_randomly makes it of each lane. */
TT_INLINE tt_vf tt_vround_bf16_randomly(tt_vf x, const uint16_t *random)
{
    tt_vu bits = (tt_vu)x;
    tt_vu noise = (tt_vu)tt_vload_bf16(random) >> 16;
    tt_vu rounded = (bits + noise) & 0xffff0000u;
    rounded -= (tt_vu)((rounded & 0x7fffffffu) == 0x7f800000u) & 0x10000u;
    tt_vu special = (tt_vu)tt_vnonfinite(x);
    tt_vu kept = (bits | ((tt_vu)(x != x) & 0x400000u)) & 0xffff0000u;
    return (tt_vf)((special & kept) | (~special & rounded));
}

/* n < TT_LANES elements; the other lanes are `fill`. */
TT_INLINE tt_vf tt_vload_bf16_part(const uint16_t *p, int64_t n, float fill)
{
    tt_vf v = tt_vset(fill);
    for (int64_t i = 0; i < n; i++)
        v[i] = tt_bf16_to_f32(p[i]);
    return v;
}

TT_INLINE void tt_vstore_bf16_part(uint16_t *p, tt_vf v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = tt_bf16_from_f32(v[i]);
}

#endif
