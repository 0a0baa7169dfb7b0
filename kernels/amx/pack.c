/* Packing for the tiles. Both operands become panels of 32 rows or columns, in blocks of 32 k that
 * are two tiles of 1 KiB: A as [row][k], B as [k / 2][column][2]. What is missing is zero.
 *
 * f32 is rounded to nearest even, as VCVTNE2PS2BF16 does: denormals become zero, which is what
 * the products would make of them anyway. */
#include <assert.h>

#include "blocked/gemm.h"

/* Side of a block. */
enum { SIDE = TT_KU };
static_assert(TT_MR == SIDE && TT_NR == SIDE && SIDE == 2 * TT_LANES, "blocks are square");

typedef uint16_t tt_v16b __attribute__((vector_size(32)));
typedef uint16_t tt_v32b __attribute__((vector_size(64)));
/* Where it lies in a tensor. */
typedef uint16_t tt_v32b_unaligned __attribute__((vector_size(64), aligned(2), may_alias));

/* low's 16 elements, then high's. */
TT_INLINE tt_v32b to_bf16(tt_vf low, tt_vf high)
{
#if defined(TT_BF16_EMULATED)
    tt_vf part[2] = {low, high};
    tt_v16b converted[2];
    for (int i = 0; i < 2; i++) {
        tt_vu bits = (tt_vu)part[i], magnitude = bits & 0x7fffffffu;
        tt_vu nan = (tt_vu)(magnitude > 0x7f800000u), tiny = (tt_vu)(magnitude < 0x00800000u);
        tt_vu rounded = bits + 0x7fffu + (bits >> 16 & 1u);
        rounded = (nan & (bits | 0x400000u)) | (~nan & rounded);
        rounded = (tiny & bits & 0x80000000u) | (~tiny & rounded);
        converted[i] = __builtin_convertvector(rounded >> 16, tt_v16b);
    }
    tt_v32b both;
    memcpy(&both, converted, sizeof both);
    return both;
#else
    return (tt_v32b)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
#endif
}

TT_INLINE void store(tt_panel *to, tt_v32b v)
{
    *(tt_v32b_unaligned *)to = v;
}

/* 32 elements side by side. */
TT_INLINE tt_v32b load(const void *data, int64_t at, bool bf16)
{
    const float *f32 = (const float *)data + at;
    if (bf16)
        return *(const tt_v32b_unaligned *)((const uint16_t *)data + at);
    return to_bf16(tt_vload(f32), tt_vload(f32 + 16));
}

/* 16 bytes from each of four places, and 32 from each of two, `apart` bytes apart. gcc makes of
 * shuffles what these instructions do at once. */
TT_INLINE tt_v32b load_quarters(const void *from, int64_t apart)
{
    const char *p = from;
#if defined(TT_BF16_EMULATED)
    char v[64];
    for (int i = 0; i < 4; i++)
        memcpy(v + 16 * i, p + i * apart, 16);
    return *(const tt_v32b_unaligned *)v;
#else
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + apart)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 2 * apart)), 2);
    return (tt_v32b)_mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 3 * apart)), 3);
#endif
}

TT_INLINE tt_vf load_halves(const void *from, int64_t apart)
{
    const char *p = from;
#if defined(TT_BF16_EMULATED)
    float v[TT_LANES];
    memcpy(v, p, 32);
    memcpy(v + 8, p + apart, 32);
    return tt_vload(v);
#else
    __m512 v = _mm512_castps256_ps512(_mm256_loadu_ps((const float *)p));
    return (tt_vf)_mm512_insertf32x8(v, _mm256_loadu_ps((const float *)(p + apart)), 1);
#endif
}

/* Eight elements from each of four places, `apart` elements apart. */
TT_INLINE tt_v32b load_lines(const void *data, int64_t at, int64_t apart, bool bf16)
{
    const float *f32 = (const float *)data + at;
    if (bf16)
        return load_quarters((const uint16_t *)data + at, 2 * apart);
    return to_bf16(load_halves(f32, 4 * apart), load_halves(f32 + 2 * apart, 4 * apart));
}

/* Within each 128 bits: elements of 2, 4 and 8 bytes of a and b in turn, of their lower halves and
 * of their upper halves. */
TT_INLINE void zip_2(tt_v32b a, tt_v32b b, tt_v32b *low, tt_v32b *high)
{
    *low = __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40, 9, 41, 10, 42, 11, 43,
                                   16, 48, 17, 49, 18, 50, 19, 51, 24, 56, 25, 57, 26, 58, 27, 59);
    *high =
        __builtin_shufflevector(a, b, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44, 13, 45, 14, 46, 15, 47,
                                20, 52, 21, 53, 22, 54, 23, 55, 28, 60, 29, 61, 30, 62, 31, 63);
}

TT_INLINE void zip_4(tt_v32b a, tt_v32b b, tt_v32b *low, tt_v32b *high)
{
    *low = (tt_v32b)__builtin_shufflevector((tt_vf)a, (tt_vf)b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24,
                                            9, 25, 12, 28, 13, 29);
    *high = (tt_v32b)__builtin_shufflevector((tt_vf)a, (tt_vf)b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26,
                                             11, 27, 14, 30, 15, 31);
}

TT_INLINE void zip_8(tt_v32b a, tt_v32b b, tt_v32b *low, tt_v32b *high)
{
    *low = (tt_v32b)__builtin_shufflevector((tt_vd)a, (tt_vd)b, 0, 8, 2, 10, 4, 12, 6, 14);
    *high = (tt_v32b)__builtin_shufflevector((tt_vd)a, (tt_vd)b, 1, 9, 3, 11, 5, 13, 7, 15);
}

/* A block of A; its lines are rows. */
TT_INLINE void block_of_rows(tt_panel *to, const void *data, int64_t stride, bool bf16)
{
    for (int64_t i = 0; i < SIDE; i++)
        store(to + i * SIDE, load(data, i * stride, bf16));
}

/* A block of A; its lines are columns. Eight rows at a time: a transposition of 8 x 8 in each of
 * the four parts of the registers, which hold 8 k each. */
TT_INLINE void block_of_columns(tt_panel *to, const void *data, int64_t stride, bool bf16)
{
    for (int64_t i = 0; i < SIDE; i += 8, to += 8 * SIDE) {
        tt_v32b v[8], t[8];
        /* Else gcc keeps the addresses of all 32 columns from one turn to the next, in vectors. */
        __asm__("" : "+r"(stride));
#pragma GCC unroll 8
        for (int64_t p = 0; p < 8; p++)
            v[p] = load_lines(data, p * stride + i, 8 * stride, bf16);
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) /* k = 2p, 2p + 1 */
            zip_2(v[2 * p], v[2 * p + 1], &t[2 * p], &t[2 * p + 1]);
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++) /* rows 4 (h % 2) ..., k = 4 (h / 2) ... */
            zip_4(t[h / 2 * 4 + h % 2], t[h / 2 * 4 + h % 2 + 2], &v[2 * h], &v[2 * h + 1]);
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++) /* rows 2h, 2h + 1 */
            zip_8(v[h], v[h + 4], &t[2 * h], &t[2 * h + 1]);
#pragma GCC unroll 8
        for (int row = 0; row < 8; row++)
            store(to + row * SIDE, t[row]);
    }
}

/* A block of B; its lines are columns. Of 16 columns four pairs of k at a time: a transposition of
 * 4 x 4 pairs in each of the four parts of the registers, which hold every fourth column. */
TT_INLINE void block_of_b_columns(tt_panel *to, const void *data, int64_t stride, bool bf16)
{
    for (int64_t j = 0; j < SIDE; j += 16) {
        for (int64_t p = 0; p < SIDE; p += 8, to += 4 * SIDE) {
            tt_v32b v[4], t[4];
            __asm__("" : "+r"(stride)); /* as above */
#pragma GCC unroll 4
            for (int64_t i = 0; i < 4; i++)
                v[i] = load_lines(data, (j + i) * stride + p, 4 * stride, bf16);
            zip_4(v[0], v[1], &t[0], &t[1]);
            zip_4(v[2], v[3], &t[2], &t[3]);
            zip_8(t[0], t[2], &v[0], &v[1]);
            zip_8(t[1], t[3], &v[2], &v[3]);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                store(to + i * SIDE, v[i]);
        }
    }
}

/* A block of B; its lines are rows: two of them in turn are a row of both tiles. */
TT_INLINE void block_of_b_rows(tt_panel *to, const void *data, int64_t stride, bool bf16)
{
    for (int64_t q = 0; q < SIDE / 2; q++, to += SIDE) {
        tt_v32b even = load(data, 2 * q * stride, bf16);
        tt_v32b odd = load(data, (2 * q + 1) * stride, bf16);
        store(to, __builtin_shufflevector(even, odd, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6,
                                          38, 7, 39, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45,
                                          14, 46, 15, 47));
        store(to + SIDE * SIDE / 2,
              __builtin_shufflevector(even, odd, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22,
                                      54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61,
                                      30, 62, 31, 63));
    }
}

typedef void (*tt_block_packer)(tt_panel *to, const void *data, int64_t stride, bool bf16);

/* A block of which only `lines` lines of `n` elements are there, through a copy. */
TT_INLINE void pack_edge(tt_panel *to, const void *data, int64_t stride, int64_t lines, int64_t n,
                         tt_block_packer pack_block, bool bf16)
{
    float copy[SIDE * SIDE] __attribute__((aligned(64)));
    const size_t element = bf16 ? sizeof(uint16_t) : sizeof(float);
    memset(copy, 0, sizeof copy);
    for (int64_t line = 0; line < lines; line++)
        memcpy((char *)copy + (size_t)(line * SIDE) * element,
               (const char *)data + line * stride * (int64_t)element, (size_t)n * element);
    pack_block(to, copy, SIDE, bf16);
}

/* The lines of a block to come: nothing but software foresees them where they are far apart. */
TT_INLINE void fetch_block(const char *data, int64_t stride)
{
#pragma GCC unroll 4
    for (int64_t line = 0; line < SIDE; line++)
        __builtin_prefetch(data + line * stride);
}

/* Panels of `width` rows or columns; o(i, p) is element p of row or column i. */
TT_INLINE void pack(tt_panel *to, int64_t width, int64_t k, tt_operand o,
                    tt_block_packer pack_block, bool k_contiguous, bool bf16)
{
    const int64_t stride = k_contiguous ? o.row : o.column, element = bf16 ? 2 : 4;
    const int64_t ahead = k_contiguous ? 4 * SIDE : 2 * SIDE * stride;
    for (int64_t i = 0; i < width; i += SIDE) {
        for (int64_t p = 0; p < k; p += SIDE, to += SIDE * SIDE) {
            const char *data = tt_operand_at(o, i, p).data;
            int64_t here = tt_min64(SIDE, width - i), deep = tt_min64(SIDE, k - p);
            fetch_block(data + ahead * element, stride * element);
            if (here == SIDE && deep == SIDE)
                pack_block(to, data, stride, bf16);
            else if (k_contiguous)
                pack_edge(to, data, stride, here, deep, pack_block, bf16);
            else
                pack_edge(to, data, stride, deep, here, pack_block, bf16);
        }
    }
}

/* A is always made of activations. */
void TT_BLOCKED(tt_pack_a)(tt_panel *to, int64_t rows, int64_t k, tt_operand a)
{
    assert(a.bf16);
    if (a.column == 1)
        pack(to, rows, k, a, block_of_rows, true, true);
    else
        pack(to, rows, k, a, block_of_columns, false, true);
}

void TT_BLOCKED(tt_pack_b)(tt_panel *to, int64_t k, int64_t columns, tt_operand b)
{
    const tt_operand o = {b.data, b.column, b.row, b.bf16, b.round}; /* o(j, p) = b(p, j) */
    if (b.column == 1)
        b.bf16 ? pack(to, columns, k, o, block_of_b_rows, false, true)
               : pack(to, columns, k, o, block_of_b_rows, false, false);
    else
        b.bf16 ? pack(to, columns, k, o, block_of_b_columns, true, true)
               : pack(to, columns, k, o, block_of_b_columns, true, false);
}
