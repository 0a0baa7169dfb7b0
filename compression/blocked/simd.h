/* compression/blocked/simd.h: vectors of floats in GCC's portable vector extension. Every source in
 * this folder is compiled three times, for the x86-64 psABI levels 1, 3 and 4 (TT_ISA_LEVEL), and
 * names its functions accordingly with TT_BLOCKED(). Other processors get level 1 only. Without
 * contraction: the same operations on floats as the reference give the same bits. */
#ifndef TT_COMPRESSION_SIMD_H
#define TT_COMPRESSION_SIMD_H

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "internal.h"

#if TT_ISA_LEVEL == 4
#define TT_LANES         16
#define TT_BLOCKED(name) name##__blocked_v4
#elif TT_ISA_LEVEL == 3
#define TT_LANES         8
#define TT_BLOCKED(name) name##__blocked_v3
#else
#define TT_LANES         4
#define TT_BLOCKED(name) name##__blocked_v1
#endif

#define TT_INLINE static inline __attribute__((always_inline, unused))

typedef float tt_vf __attribute__((vector_size(TT_LANES * 4)));
typedef int32_t tt_vi __attribute__((vector_size(TT_LANES * 4)));
typedef uint32_t tt_vu __attribute__((vector_size(TT_LANES * 4)));
typedef double tt_vd __attribute__((vector_size(TT_LANES * 4))); /* TT_LANES / 2 doubles */
typedef float tt_vh __attribute__((vector_size(TT_LANES * 2)));  /* half a vector of floats */
typedef int16_t tt_vs __attribute__((vector_size(TT_LANES * 2)));
typedef uint16_t tt_vus __attribute__((vector_size(TT_LANES * 2)));
typedef int8_t tt_vb __attribute__((vector_size(TT_LANES)));
typedef uint8_t tt_vub __attribute__((vector_size(TT_LANES)));
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
}

/* n <= TT_LANES elements of `size` bytes; the bytes after them are 0. */
TT_INLINE void tt_load_part(void *vector, size_t whole, const void *p, int64_t n, size_t size)
{
    memset(vector, 0, whole);
    memcpy(vector, p, (size_t)n * size);
}

TT_INLINE tt_vf tt_vload_up_to(const float *p, int64_t n)
{
    tt_vf v;
    if (n >= TT_LANES)
        return tt_vload(p);
    tt_load_part(&v, sizeof v, p, n, sizeof *p);
    return v;
}

TT_INLINE void tt_vstore_up_to(float *p, tt_vf v, int64_t n)
{
    if (n >= TT_LANES)
        tt_vstore(p, v);
    else
        memcpy(p, &v, (size_t)n * sizeof *p);
}

TT_INLINE tt_vf tt_vselect(tt_vi mask, tt_vf yes, tt_vf no)
{
    return (tt_vf)(((tt_vi)yes & mask) | ((tt_vi)no & ~mask));
}

TT_INLINE tt_vi tt_vmax_int(tt_vi a, tt_vi b)
{
#if TT_ISA_LEVEL == 4
    return (tt_vi)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif TT_ISA_LEVEL == 3
    return (tt_vi)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
    tt_vi mask = a > b;
    return (a & mask) | (b & ~mask);
#endif
}

/* Adding 1.5 * 2^23 rounds |x| < 2^22 to an integer, to nearest even; its bits are the integer. */
static const float tt_integer_bias = 12582912.0f;

/* To integers, to nearest even; |x| < 2^22. */
TT_INLINE tt_vi tt_vint(tt_vf x)
{
#if TT_ISA_LEVEL == 4
    return (tt_vi)_mm512_cvtps_epi32((__m512)x);
#elif TT_ISA_LEVEL == 3
    return (tt_vi)_mm256_cvtps_epi32((__m256)x);
#else
    return (tt_vi)(x + tt_integer_bias) - 0x4b400000;
#endif
}

/* The least integer >= x; |x| < 2^22. */
TT_INLINE tt_vf tt_vceil(tt_vf x)
{
#if TT_ISA_LEVEL == 4
    return (tt_vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
#elif TT_ISA_LEVEL == 3
    return (tt_vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
#else
    tt_vf nearest = x + tt_integer_bias - tt_integer_bias;
    return nearest + (tt_vf)((nearest < x) & (tt_vi)tt_vset(1));
#endif
}

/* The greatest integer <= x; |x| < 2^22. */
TT_INLINE tt_vf tt_vfloor(tt_vf x)
{
#if TT_ISA_LEVEL == 4
    return (tt_vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif TT_ISA_LEVEL == 3
    return (tt_vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
    tt_vf nearest = x + tt_integer_bias - tt_integer_bias;
    return nearest - (tt_vf)((nearest > x) & (tt_vi)tt_vset(1));
#endif
}

/* q + 1 where a < b. */
TT_INLINE tt_vf tt_vadd_one_where_less(tt_vf q, tt_vf a, tt_vf b)
{
#if TT_ISA_LEVEL == 4
    __mmask16 less = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
    return (tt_vf)_mm512_mask_add_ps((__m512)q, less, (__m512)q, _mm512_set1_ps(1));
#else
    return q + (tt_vf)((a < b) & (tt_vi)tt_vset(1));
#endif
}

/* Neither is NaN. */
TT_INLINE tt_vf tt_vmin(tt_vf a, tt_vf b)
{
#if TT_ISA_LEVEL == 4
    return (tt_vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif TT_ISA_LEVEL == 3
    return (tt_vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
    return (tt_vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return tt_vselect(a < b, a, b);
#endif
}

TT_INLINE tt_vf tt_vsqrt(tt_vf a)
{
#if TT_ISA_LEVEL == 4
    return (tt_vf)_mm512_sqrt_ps((__m512)a);
#elif TT_ISA_LEVEL == 3
    return (tt_vf)_mm256_sqrt_ps((__m256)a);
#elif defined(__x86_64__)
    return (tt_vf)_mm_sqrt_ps((__m128)a);
#else
    for (int i = 0; i < TT_LANES; i++)
        a[i] = sqrtf(a[i]);
    return a;
#endif
}

/* The low 8 bits of integers from -128 to 255. */
TT_INLINE tt_vb tt_vnarrow8(tt_vi v)
{
    tt_vb out;
#if TT_ISA_LEVEL == 4
    __m128i bytes = _mm512_cvtepi32_epi8((__m512i)v);
    memcpy(&out, &bytes, sizeof out);
#elif TT_ISA_LEVEL == 3
    __m256i low = (__m256i)(v & 0xff);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    __m128i bytes = _mm_packus_epi16(words, words);
    memcpy(&out, &bytes, sizeof out);
#elif defined(__x86_64__)
    __m128i low = (__m128i)(v & 0xff), words = _mm_packs_epi32(low, low);
    __m128i bytes = _mm_packus_epi16(words, words);
    memcpy(&out, &bytes, sizeof out);
#else
    out = __builtin_convertvector(v, tt_vb);
#endif
    return out;
}

/* The upper halves of 32 bits each. */
TT_INLINE tt_vs tt_vupper16(tt_vu v)
{
    tt_vi high = (tt_vi)v >> 16;
    tt_vs out;
#if TT_ISA_LEVEL == 4
    __m256i words = _mm512_cvtepi32_epi16((__m512i)high);
    memcpy(&out, &words, sizeof out);
#elif TT_ISA_LEVEL == 3
    __m256i all = (__m256i)high;
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    memcpy(&out, &words, sizeof out);
#elif defined(__x86_64__)
    __m128i words = _mm_packs_epi32((__m128i)high, (__m128i)high);
    memcpy(&out, &words, sizeof out);
#else
    out = __builtin_convertvector(high, tt_vs);
#endif
    return out;
}

/* 8-bit codes as floats. */
TT_INLINE tt_vf tt_vfloat_of_codes(tt_vb codes, bool up)
{
    tt_vi wide;
#if TT_ISA_LEVEL == 4
    wide =
        (tt_vi)(up ? _mm512_cvtepu8_epi32((__m128i)codes) : _mm512_cvtepi8_epi32((__m128i)codes));
#elif TT_ISA_LEVEL == 3
    __m128i bytes = _mm_setzero_si128();
    memcpy(&bytes, &codes, sizeof codes);
    wide = (tt_vi)(up ? _mm256_cvtepu8_epi32(bytes) : _mm256_cvtepi8_epi32(bytes));
#elif defined(__x86_64__)
    __m128i bytes = _mm_setzero_si128();
    memcpy(&bytes, &codes, sizeof codes);
    bytes = _mm_unpacklo_epi8(_mm_setzero_si128(), bytes);
    wide = (tt_vi)_mm_unpacklo_epi16(_mm_setzero_si128(), bytes); /* in the top 8 bits */
    wide = up ? (tt_vi)((tt_vu)wide >> 24) : wide >> 24;
#else
    wide =
        up ? __builtin_convertvector((tt_vub)codes, tt_vi) : __builtin_convertvector(codes, tt_vi);
#endif
    return __builtin_convertvector(wide, tt_vf);
}

/* 16-bit values as the upper halves of 32 bits. */
TT_INLINE tt_vu tt_vraise16(tt_vus v)
{
#if TT_ISA_LEVEL == 4
    return (tt_vu)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)v), 16);
#elif TT_ISA_LEVEL == 3
    return (tt_vu)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)v), 16);
#elif defined(__x86_64__)
    __m128i words = _mm_setzero_si128();
    memcpy(&words, &v, sizeof v);
    return (tt_vu)_mm_unpacklo_epi16(_mm_setzero_si128(), words);
#else
    return __builtin_convertvector(v, tt_vu) << 16;
#endif
}

/* Each lane as tt_bf16_at_random makes it, as a float. */
TT_INLINE tt_vf tt_vbf16_at_random(tt_vf x, const uint16_t *random)
{
    tt_vus loaded;
    memcpy(&loaded, random, sizeof loaded);
    tt_vu bits = (tt_vu)x, noise = tt_vraise16(loaded) >> 16;
    tt_vu rounded = (bits + noise) & 0xffff0000u;
    rounded -= (tt_vu)((rounded & 0x7fffffffu) == 0x7f800000u) & 0x10000u;
    tt_vi special = (tt_vi)((bits & 0x7f800000u) == 0x7f800000u);
    tt_vu kept = (bits | ((tt_vu)(x != x) & 0x400000u)) & 0xffff0000u;
    return tt_vselect(special, (tt_vf)kept, (tt_vf)rounded);
}

/* Non-temporal store; p is aligned to the vector. Needs tt_vstream_fence before others read. */
TT_INLINE void tt_vstream(float *p, tt_vf v)
{
#if TT_ISA_LEVEL == 4
    _mm512_stream_ps(p, (__m512)v);
#elif TT_ISA_LEVEL == 3
    _mm256_stream_ps(p, (__m256)v);
#elif defined(__x86_64__)
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

/* Whether any lane of the mask (-1 or 0 each) is set. */
TT_INLINE bool tt_vany(tt_vi mask)
{
#if TT_ISA_LEVEL == 4
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif TT_ISA_LEVEL == 3
    return _mm256_movemask_epi8((__m256i)mask) != 0;
#elif defined(__x86_64__)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    int32_t any = 0;
    for (int i = 0; i < TT_LANES; i++)
        any |= mask[i];
    return any != 0;
#endif
}

#if defined(__x86_64__)
TT_INLINE __m128i tt_max128(__m128i a, __m128i b)
{
#if TT_ISA_LEVEL >= 3
    return _mm_max_epi32(a, b);
#else
    __m128i mask = _mm_cmpgt_epi32(a, b);
    return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
#endif
}
#endif

TT_INLINE int32_t tt_vmax_lane(tt_vi v)
{
#if TT_ISA_LEVEL == 4
    __m256i half = _mm256_max_epi32(_mm512_castsi512_si256((__m512i)v),
                                    _mm512_extracti64x4_epi64((__m512i)v, 1));
    __m128i m = tt_max128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
#elif TT_ISA_LEVEL == 3
    __m256i all = (__m256i)v;
    __m128i m = tt_max128(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
#elif defined(__x86_64__)
    __m128i m = (__m128i)v;
#else
    int32_t most = v[0];
    for (int i = 1; i < TT_LANES; i++)
        most = most > v[i] ? most : v[i];
    return most;
#endif
#if defined(__x86_64__)
    m = tt_max128(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(tt_max128(m, _mm_shuffle_epi32(m, 0xb1)));
#endif
}

/* A float64 sum of squares of floats: each square is exact. */
typedef struct tt_vsum {
    tt_vd low, high;
} tt_vsum;

TT_INLINE tt_vd tt_vmultiply_add(tt_vd a, tt_vd sum)
{
#if TT_ISA_LEVEL == 4
    return (tt_vd)_mm512_fmadd_pd((__m512d)a, (__m512d)a, (__m512d)sum);
#elif TT_ISA_LEVEL == 3
    return (tt_vd)_mm256_fmadd_pd((__m256d)a, (__m256d)a, (__m256d)sum);
#else
    return sum + a * a;
#endif
}

TT_INLINE void tt_vadd_squares(tt_vsum *sum, tt_vf v)
{
#if TT_ISA_LEVEL == 4
    tt_vd low = (tt_vd)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v));
    tt_vd high = (tt_vd)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
#elif TT_ISA_LEVEL == 3
    tt_vd low = (tt_vd)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
    tt_vd high = (tt_vd)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
#elif defined(__x86_64__)
    tt_vd low = (tt_vd)_mm_cvtps_pd((__m128)v);
    tt_vd high = (tt_vd)_mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v));
#else
    tt_vh half[2];
    memcpy(half, &v, sizeof half);
    tt_vd low = __builtin_convertvector(half[0], tt_vd);
    tt_vd high = __builtin_convertvector(half[1], tt_vd);
#endif
    sum->low = tt_vmultiply_add(low, sum->low);
    sum->high = tt_vmultiply_add(high, sum->high);
}

/* The same of n elements in memory. */
TT_INLINE void tt_vadd_squares_of(tt_vsum *sum, const float *p, int64_t n)
{
#if TT_ISA_LEVEL == 4
    if (n >= TT_LANES) { /* converts as it loads */
        sum->low = tt_vmultiply_add((tt_vd)_mm512_cvtps_pd(_mm256_loadu_ps(p)), sum->low);
        sum->high = tt_vmultiply_add((tt_vd)_mm512_cvtps_pd(_mm256_loadu_ps(p + 8)), sum->high);
        return;
    }
#elif TT_ISA_LEVEL == 3
    if (n >= TT_LANES) {
        sum->low = tt_vmultiply_add((tt_vd)_mm256_cvtps_pd(_mm_loadu_ps(p)), sum->low);
        sum->high = tt_vmultiply_add((tt_vd)_mm256_cvtps_pd(_mm_loadu_ps(p + 4)), sum->high);
        return;
    }
#endif
    tt_vadd_squares(sum, tt_vload_up_to(p, n));
}

TT_INLINE void tt_vsum_add(tt_vsum *to, tt_vsum from)
{
    to->low += from.low;
    to->high += from.high;
}

/* Lanes in order. */
TT_INLINE double tt_vtotal(const tt_vsum *sum)
{
    double total = 0;
    tt_vd both = sum->low + sum->high;
    for (int i = 0; i < TT_LANES / 2; i++)
        total += both[i];
    return total;
}

TT_INLINE int64_t tt_min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
TT_INLINE int64_t tt_max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
