/* kernels/blocked/lines.h: what gemv.c needs where floats are multiplied: the rows of A, and sums
 * over row-major lines of B. */
#ifndef TT_BLOCKED_LINES_H
#define TT_BLOCKED_LINES_H

#include "product.h"
#include "vbf16.h"

enum {
    TT_LINES = 8,          /* that are summed at a time */
    TT_LINES_AHEAD = 256,  /* bytes that each is prefetched ahead */
    TT_PANELS_AHEAD = 512, /* and each panel packed ahead */
};

/* An element of each line, whatever the level's vectors are. */
typedef float tt_eight __attribute__((vector_size(32)));
typedef uint32_t tt_eight_bits __attribute__((vector_size(32)));
typedef float tt_quad __attribute__((vector_size(16)));
typedef float tt_quad_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

/* What tt_vround_bf16 does. */
TT_INLINE tt_eight round_eight(tt_eight x)
{
    tt_eight_bits bits = (tt_eight_bits)x, near = bits + 0x7fffu + ((bits >> 16) & 1u);
    tt_eight_bits nan = (tt_eight_bits)(x != x);
    return (tt_eight)(((nan & (bits | 0x400000u)) | (~nan & near)) & 0xffff0000u);
}

/* The elements of a line: a constant wherever it is used. */
typedef enum tt_line { LINE_F32, LINE_ROUNDED, LINE_BF16 } tt_line;

TT_INLINE tt_line line_of(tt_operand b)
{
    return b.bf16 ? LINE_BF16 : b.round ? LINE_ROUNDED : LINE_F32;
}

TT_INLINE int64_t element_bytes(const tt_line kind)
{
    return kind == LINE_BF16 ? 2 : 4;
}

/* Four bf16 from each of two places. */
TT_INLINE tt_eight widen_quads(const char *low, const char *high)
{
    uint64_t halves[2];
    memcpy(&halves[0], low, sizeof halves[0]);
    memcpy(&halves[1], high, sizeof halves[1]);
#if TT_VECTOR_BITS >= 256
    __m128i v = _mm_set_epi64x((long long)halves[1], (long long)halves[0]);
    return (tt_eight)_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16);
#else
    tt_eight_bits v;
    for (int i = 0; i < 8; i++)
        v[i] = (uint32_t)(halves[i / 4] >> (i % 4 * 16)) << 16;
    return (tt_eight)v;
#endif
}

/* Four elements of a line, and of the fourth after it. */
TT_INLINE tt_eight load_quads(const tt_line kind, const char *const *line, int64_t p)
{
    const char *first = line[0] + p * element_bytes(kind);
    const char *second = line[4] + p * element_bytes(kind);
    if (kind == LINE_BF16)
        return widen_quads(first, second);
    tt_quad low = *(const tt_quad_unaligned *)(const void *)first;
    tt_quad high = *(const tt_quad_unaligned *)(const void *)second;
    tt_eight v = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
    return kind == LINE_ROUNDED ? round_eight(v) : v;
}

/* Element p of every line. */
TT_INLINE tt_eight load_column(const tt_line kind, const char *const *lines, int64_t p)
{
    tt_eight v = {0};
    for (int i = 0; i < TT_LINES; i++)
        v[i] = kind == LINE_BF16 ? tt_bf16_to_f32(((const uint16_t *)(const void *)lines[i])[p])
                                 : ((const float *)(const void *)lines[i])[p];
    return kind == LINE_ROUNDED ? round_eight(v) : v;
}

/* Elements i and j of both quads of a, then those of b. */
#define TT_PICK(a, b, i, j)                                                                        \
    __builtin_shufflevector(a, b, i, j, (i) + 8, (j) + 8, (i) + 4, (j) + 4, (i) + 12, (j) + 12)

/* Elements [p, p + 4) of the lines, each as a vector along the lines: transposed in registers. */
TT_INLINE void load_columns(const tt_line kind, tt_eight v[4], const char *const *lines, int64_t p)
{
    tt_eight a = load_quads(kind, lines, p), b = load_quads(kind, lines + 1, p);
    tt_eight c = load_quads(kind, lines + 2, p), d = load_quads(kind, lines + 3, p);
    tt_eight ab = TT_PICK(a, b, 0, 1), cd = TT_PICK(c, d, 0, 1);
    v[0] = TT_PICK(ab, cd, 0, 2);
    v[1] = TT_PICK(ab, cd, 1, 3);
    ab = TT_PICK(a, b, 2, 3);
    cd = TT_PICK(c, d, 2, 3);
    v[2] = TT_PICK(ab, cd, 0, 2);
    v[3] = TT_PICK(ab, cd, 1, 3);
}

TT_INLINE void sum_kind(const int rows, const tt_line kind, float *sums, const float *x, int64_t k,
                        const char *const lines[TT_LINES])
{
    tt_eight v[4], s[TT_FEW_ROWS];
    int64_t p = 0;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        memcpy(&s[r], sums + r * TT_LINES, sizeof s[r]);
    for (; p + 4 <= k; p += 4) {
        for (int i = 0; i < 2; i++) /* every line in turn */
            __builtin_prefetch(
                lines[p / 2 % TT_LINES + i] + p * element_bytes(kind) + TT_LINES_AHEAD, 0, 3);
        load_columns(kind, v, lines, p);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const float *at = x + r * k + p;
            s[r] += at[0] * v[0];
            s[r] += at[1] * v[1];
            s[r] += at[2] * v[2];
            s[r] += at[3] * v[3];
        }
    }
    for (; p < k; p++) {
        tt_eight rest = load_column(kind, lines, p);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            s[r] += x[r * k + p] * rest;
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        memcpy(sums + r * TT_LINES, &s[r], sizeof s[r]);
}

/* sums[r][i] += the product of row r and line i, lines of b. */
TT_INLINE void tt_sum_lines(const int rows, float *sums, const tt_step *x, int64_t k, tt_operand b,
                            const char *const lines[TT_LINES])
{
    switch (line_of(b)) {
    case LINE_F32:
        sum_kind(rows, LINE_F32, sums, x, k, lines);
        break;
    case LINE_ROUNDED:
        sum_kind(rows, LINE_ROUNDED, sums, x, k, lines);
        break;
    case LINE_BF16:
        sum_kind(rows, LINE_BF16, sums, x, k, lines);
        break;
    }
}

/* The rows of A, one after another. */
TT_INLINE const tt_step *tt_make_steps(const tt_product *product, void *scratch)
{
    if (!product->a.bf16)
        return product->a.data;
    const uint16_t *from = product->a.data;
    float *to = scratch;
    for (int64_t i = 0; i < product->rows * product->k; i++)
        to[i] = tt_bf16_to_f32(from[i]);
    return to;
}

#endif
