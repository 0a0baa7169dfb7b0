/* kernels/blocked/simd.h: vectors of floats in GCC's portable vector extension. Every source in
 * this folder is compiled three times, for the x86-64 psABI levels 1, 3 and 4 (TT_ISA_LEVEL), and
 * names its functions accordingly with TT_BLOCKED(). Other processors get level 1 only. Matrix
 * products of bf16 are also compiled at level 5, which is 4 with AVX512-BF16, and at level 6, which
 * is that with AMX, see gemm.h, and attention at level 5; and, for tests, with TT_BF16_EMULATED for
 * any processor. */
#ifndef TT_BLOCKED_SIMD_H
#define TT_BLOCKED_SIMD_H

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "internal.h"

/* TT_LANES floats per vector; TT_MR x TT_NR is what one register microkernel computes. TT_NR is
 * two vectors; TT_MR rows leave room for two vectors of B and one of A beside the accumulators. */
#if TT_ISA_LEVEL == 6
#define TT_LANES         16
#define TT_MR            32
#define TT_BLOCKED(name) name##__amx
#elif TT_ISA_LEVEL == 5
#define TT_LANES         16
#define TT_MR            12
#define TT_BLOCKED(name) name##__avx512_bf16
#elif TT_ISA_LEVEL == 4
#define TT_LANES         16
#define TT_MR            12
#define TT_BLOCKED(name) name##__blocked_v4
#elif TT_ISA_LEVEL == 3
#define TT_LANES         8
#define TT_MR            6
#define TT_BLOCKED(name) name##__blocked_v3
#else
#define TT_LANES         4
#define TT_MR            4
#define TT_BLOCKED(name) name##__blocked_v1
#endif
#define TT_NR (2 * TT_LANES)

/* Products multiply bf16 itself; and with tiles. */
#define TT_PANELS_BF16 (TT_ISA_LEVEL >= 5)
#define TT_TILES       (TT_ISA_LEVEL == 6)

/* Bits of the vector instructions that are sure to be there; 0: none. */
#if defined(TT_BF16_EMULATED) || !defined(__x86_64__)
#define TT_VECTOR_BITS 0
#else
#define TT_VECTOR_BITS (32 * TT_LANES)
#endif

#define TT_INLINE static inline __attribute__((always_inline, unused))

typedef float tt_vf __attribute__((vector_size(TT_LANES * 4)));
typedef int32_t tt_vi __attribute__((vector_size(TT_LANES * 4)));
typedef uint32_t tt_vu __attribute__((vector_size(TT_LANES * 4)));
typedef double tt_vd __attribute__((vector_size(TT_LANES * 4))); /* TT_LANES / 2 doubles */
typedef float tt_vh __attribute__((vector_size(TT_LANES * 2)));  /* half a vector of floats */
/* The same where it lies in a tensor: aligned to no more than its elements. */
typedef float tt_vf_unaligned __attribute__((vector_size(TT_LANES * 4), aligned(4), may_alias));

TT_INLINE tt_vf tt_vload(const float *p)
{
    return *(const tt_vf_unaligned *)p;
}
TT_INLINE void tt_vstore(float *p, tt_vf v)
{
    *(tt_vf_unaligned *)p = v;
}
TT_INLINE tt_vf tt_vset(float x)
{
    return x - (tt_vf){0};
} /* x - 0 keeps -0 */

/* n < TT_LANES elements; the other lanes are `fill`. */
TT_INLINE tt_vf tt_vload_part(const float *p, int64_t n, float fill)
{
    tt_vf v = tt_vset(fill);
    for (int64_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}

TT_INLINE void tt_vstore_part(float *p, tt_vf v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = v[i];
}

/* The first n elements, at most a vector's: one body serves whole vectors (where n is known to be
 * TT_LANES and the choice disappears) and the end of a row. */
TT_INLINE tt_vf tt_vload_first(const float *p, int64_t n, float fill)
{
    return n >= TT_LANES ? tt_vload(p) : tt_vload_part(p, n, fill);
}

TT_INLINE void tt_vstore_first(float *p, tt_vf v, int64_t n)
{
    if (n >= TT_LANES)
        tt_vstore(p, v);
    else
        tt_vstore_part(p, v, n);
}

TT_INLINE tt_vf tt_vselect(tt_vi mask, tt_vf yes, tt_vf no)
{
    return (tt_vf)(((tt_vi)yes & mask) | ((tt_vi)no & ~mask));
}

/* The first n lanes of v; the others are `fill`. */
TT_INLINE tt_vf tt_vfirst(tt_vf v, int64_t n, float fill)
{
    static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    tt_vi lane;
    memcpy(&lane, numbers, sizeof lane);
    return tt_vselect(lane < (int32_t)n, v, tt_vset(fill));
}

/* a > b ? a : b, hence b when either is NaN (what maxps does). */
TT_INLINE tt_vf tt_vmax(tt_vf a, tt_vf b)
{
#if TT_VECTOR_BITS == 512
    return (tt_vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif TT_VECTOR_BITS == 256
    return (tt_vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif TT_VECTOR_BITS == 128
    return (tt_vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return tt_vselect(a > b, a, b);
#endif
}

TT_INLINE tt_vf tt_vmin(tt_vf a, tt_vf b)
{
#if TT_VECTOR_BITS == 512
    return (tt_vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif TT_VECTOR_BITS == 256
    return (tt_vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif TT_VECTOR_BITS == 128
    return (tt_vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return tt_vselect(a < b, a, b);
#endif
}

TT_INLINE tt_vf tt_vsqrt(tt_vf a)
{
#if TT_VECTOR_BITS == 512
    return (tt_vf)_mm512_sqrt_ps((__m512)a);
#elif TT_VECTOR_BITS == 256
    return (tt_vf)_mm256_sqrt_ps((__m256)a);
#elif TT_VECTOR_BITS == 128
    return (tt_vf)_mm_sqrt_ps((__m128)a);
#else
    for (int i = 0; i < TT_LANES; i++)
        a[i] = sqrtf(a[i]);
    return a;
#endif
}

/* Non-temporal store; p is aligned to the vector. Needs tt_vstream_fence before others read. */
TT_INLINE void tt_vstream(float *p, tt_vf v)
{
#if TT_VECTOR_BITS == 512
    _mm512_stream_ps(p, (__m512)v);
#elif TT_VECTOR_BITS == 256
    _mm256_stream_ps(p, (__m256)v);
#elif TT_VECTOR_BITS == 128
    _mm_stream_ps(p, (__m128)v);
#else
    tt_vstore(p, v);
#endif
}

TT_INLINE void tt_vstream_fence(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* Lane i of the result is lane i + width of v, for i < width. */
#if TT_LANES == 16
#define TT_FOLD_8(v)                                                                               \
    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15)
#define TT_FOLD_4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7)
#define TT_FOLD_2(v) __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3)
#define TT_FOLD_1(v) __builtin_shufflevector(v, v, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
#elif TT_LANES == 8
#define TT_FOLD_4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7)
#define TT_FOLD_2(v) __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3)
#define TT_FOLD_1(v) __builtin_shufflevector(v, v, 1, 1, 1, 1, 1, 1, 1, 1)
#else
#define TT_FOLD_2(v) __builtin_shufflevector(v, v, 2, 3, 2, 3)
#define TT_FOLD_1(v) __builtin_shufflevector(v, v, 1, 1, 1, 1)
#endif

/* Lanes folded in halves: a fixed order. */
TT_INLINE float tt_vsum(tt_vf v)
{
#if TT_LANES == 16
    v += TT_FOLD_8(v);
#endif
#if TT_LANES >= 8
    v += TT_FOLD_4(v);
#endif
    v += TT_FOLD_2(v);
    v += TT_FOLD_1(v);
    return v[0];
}

TT_INLINE float tt_vmax_lane(tt_vf v)
{
#if TT_LANES == 16
    v = tt_vmax(v, TT_FOLD_8(v));
#endif
#if TT_LANES >= 8
    v = tt_vmax(v, TT_FOLD_4(v));
#endif
    v = tt_vmax(v, TT_FOLD_2(v));
    return tt_vmax(v, TT_FOLD_1(v))[0];
}

/* Lower and upper halves as doubles. */
TT_INLINE tt_vd tt_vwiden_low(tt_vf v)
{
    tt_vh half;
    memcpy(&half, &v, sizeof half);
    return __builtin_convertvector(half, tt_vd);
}

TT_INLINE tt_vd tt_vwiden_high(tt_vf v)
{
    tt_vh half;
    memcpy(&half, (const char *)&v + sizeof half, sizeof half);
    return __builtin_convertvector(half, tt_vd);
}

TT_INLINE double tt_vsum_double(tt_vd v)
{
    double sum = 0;
    for (int i = 0; i < TT_LANES / 2; i++)
        sum += v[i];
    return sum;
}

/* -1 in the lanes that hold NaN or infinity. */
TT_INLINE tt_vi tt_vnonfinite(tt_vf v)
{
    return (tt_vi)(((tt_vu)v & 0x7f800000u) == 0x7f800000u);
}

/* exp(x), about 1 ulp: 2^n exp(r), |r| <= ln(2)/2, with the minimax polynomial of Cephes' expf
 * (Moshier). NaN stays NaN: vmax and vmin return their second operand for it, and the scaling is
 * by multiplication. Two factors reach the denormals; below them 0, above the range infinity. */
TT_INLINE tt_vf tt_vexp(tt_vf x)
{
    const float rounding = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = tt_vmax(tt_vset(-105.0f), tt_vmin(tt_vset(89.0f), x));
    tt_vf shifted = x * 1.44269504088896341f + rounding;
    tt_vf n = shifted - rounding;
    tt_vf r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    tt_vf p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
#if TT_VECTOR_BITS == 512 /* the same bits: the result is rounded once */
    return (tt_vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    tt_vi exponent = (tt_vi)((tt_vu)shifted - 0x4b400000u); /* the integer n */
    tt_vi half = exponent >> 1;
    tt_vf scale_a = (tt_vf)((tt_vu)(half + 127) << 23);
    tt_vf scale_b = (tt_vf)((tt_vu)(exponent - half + 127) << 23);
    return p * scale_a * scale_b;
#endif
}

/* 1 / (1 + exp(-x)) */
TT_INLINE tt_vf tt_vsigmoid(tt_vf x)
{
    return 1.0f / (1.0f + tt_vexp(-x));
}

TT_INLINE float tt_exp_one(float x)
{
    return tt_vexp(tt_vset(x))[0];
}

TT_INLINE int64_t tt_min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
TT_INLINE int64_t tt_max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
TT_INLINE int64_t tt_round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Threads worth starting for `work` elementary steps, `grain` of which pay for one thread. */
TT_INLINE int tt_threads_for(const tt_exec *exec, int64_t work, int64_t grain)
{
    return (int)tt_max64(1, tt_min64(exec->threads, work / grain));
}

/* Part `index` of `parts` of [0, n), cut at multiples of `unit`. */
TT_INLINE void tt_part(int64_t n, int64_t unit, int parts, int index, int64_t *begin, int64_t *end)
{
    int64_t units = (n + unit - 1) / unit;
    *begin = tt_min64(n, units * index / parts * unit);
    *end = tt_min64(n, units * (index + 1) / parts * unit);
}

#endif
