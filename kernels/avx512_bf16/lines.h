/* kernels/avx512_bf16/lines.h: what blocked/gemv.c needs where pairs are multiplied: the rows of A,
 * and sums over row-major lines of B. */
#ifndef TT_AVX512_BF16_LINES_H
#define TT_AVX512_BF16_LINES_H

#include "blocked/product.h"
#include "pairs.h"

enum {
    TT_LINES = TT_LANES,    /* that are summed at a time */
    TT_LINES_AHEAD = 512,   /* bytes that each is prefetched ahead */
    TT_PANELS_AHEAD = 1024, /* and each panel packed ahead */
};

TT_INLINE void sum_kind(const int rows, const bool bf16, float *sums, const tt_pair *x, int64_t k,
                        const char *const lines[TT_LINES])
{
    const int64_t element = bf16 ? 2 : 4, steps = TT_PADDED(k, TT_KU) / TT_KU;
    tt_vf s[TT_FEW_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        s[r] = tt_vload(sums + r * TT_LINES);
    for (int64_t p = 0; p < k; p += 2 * TT_LANES) {
        tt_vf v[TT_LANES];
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            v[i] = (tt_vf)tt_load_line(lines[i], p, k - p, bf16);
        tt_transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++) {
            /* Not all at once: that would fill the line buffers. */
            for (int64_t at = 0; at < 2 * TT_LANES * element; at += TT_LINE)
                __builtin_prefetch(lines[i] + p * element + TT_LINES_AHEAD + at, 0, 3);
            if (p / 2 + i < steps)
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++)
                    s[r] = tt_vdot(s[r], x[r * steps + p / 2 + i], v[i]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        tt_vstore(sums + r * TT_LINES, s[r]);
}

/* sums[r][i] += the product of row r and line i, lines of b. */
TT_INLINE void tt_sum_lines(const int rows, float *sums, const tt_step *x, int64_t k, tt_operand b,
                            const char *const lines[TT_LINES])
{
    if (b.bf16)
        sum_kind(rows, true, sums, x, k, lines);
    else
        sum_kind(rows, false, sums, x, k, lines);
}

/* The rows of A, one after another, each of whole pairs. */
TT_INLINE const tt_step *tt_make_steps(const tt_product *product, void *scratch)
{
    const int64_t depth = TT_PADDED(product->k, TT_KU);
    const uint16_t *from = product->a.data;
    uint16_t *to = scratch;
    for (int64_t r = 0; r < product->rows; r++, to += depth, from += product->k) {
        to[depth - 1] = 0;
        memcpy(to, from, (size_t)product->k * sizeof *to);
    }
    return scratch;
}

#endif
