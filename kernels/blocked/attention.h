/* kernels/blocked/attention.h: what attention's two passes share. One head works block by block of
 * BLOCK queries and BLOCK keys; blocks start at multiples of BLOCK, and every output is a chain in
 * the order of keys (or queries), so a query has the same bits alone, in a batch, and from the
 * cache. What the causal mask hides is never multiplied, not even by zero: a NaN reaches nothing
 * before it. Scores, weights and sums are in float, whatever activations are; where products take
 * pairs of bf16 (TT_PANELS_BF16), weights are rounded to bf16 before they are multiplied. */
#ifndef TT_BLOCKED_ATTENTION_H
#define TT_BLOCKED_ATTENTION_H

#include <assert.h>
#include <omp.h>

#include "act.h"
#include "gemm.h"

/* HELD floats hold operands of several blocks, of which one is packed for all: four, or what fits
 * if heads are wide. */
enum { TT_BLOCK = TT_A_ROW, TT_HEAD = TT_BLOCKED_HEAD_MAX, TT_HELD = TT_BLOCK * TT_HEAD };
static_assert(TT_BLOCK % TT_MR == 0 && TT_BLOCK % TT_NR == 0, "whole microkernels");
static_assert(TT_BLOCK % (TT_KU * TT_LANES) == 0, "whole vectors of steps");
static_assert(TT_HEAD % TT_NR == 0, "whole panels");

/* Rows of queries or keys that are held at a time. */
TT_INLINE int64_t tt_held_rows(int64_t size)
{
    return TT_BLOCK * tt_min64(4, TT_HEAD / tt_round_up(size, TT_NR));
}

TT_INLINE tt_operand tt_act_operand(const tt_act *data, int64_t row, int64_t column)
{
    return (tt_operand){.data = data, .row = row, .column = column, .bf16 = TT_ACT_BF16};
}

/* Rows of one head, to be read or written later: they lie far apart, and nothing but software
 * foresees them. */
TT_INLINE void tt_fetch_rows(const tt_act *from, int64_t stride, int64_t rows, int64_t size,
                             const int write)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < size; c += TT_LINE / (int64_t)sizeof *from) {
            if (write)
                __builtin_prefetch(from + i * stride + c, 1, 2);
            else
                __builtin_prefetch(from + i * stride + c, 0, 2);
        }
}

/* out(rows x keys, row distance BLOCK) = a b^T where some query sees some key. `first` is the
 * position of the first query minus that of the first key. */
static inline void tt_scores(const tt_panel *packed_a, const tt_panel *packed_b, int64_t rows,
                             int64_t keys, int64_t size, int64_t first, float *out)
{
    const int64_t depth = TT_PADDED(size, TT_KU);
    for (int64_t j = 0; j < keys; j += TT_NR)
        for (int64_t i = 0; i < rows; i += TT_MR)
            if (j <= first + i + TT_MR - 1)
                TT_BLOCKED(tt_micro)
    (tt_min64(TT_MR, rows - i), TT_NR, depth, packed_a + i * depth, packed_b + j * depth,
     out + i * TT_BLOCK + j, TT_BLOCK, TT_ZERO_START, &(tt_feed){0});
}

/* A block whose weights took the place of scores, as an operand. */
TT_INLINE const tt_step *tt_weights(const float *block)
{
    return (const tt_step *)(const void *)block;
}

/* c += one row of weights times packed B, over [begin, end) of k in order, for `count` vectors of
 * columns; a constant wherever this is used. Step s of the row is w[s * column], and that of the
 * panels, `panel` floats apart, begins at b[s * TT_NR]. Of the last vector, `width` elements count.
 */
TT_INLINE void tt_add_vectors(const int count, float *c, const tt_step *w, int64_t column,
                              const float *b, int64_t panel, int64_t begin, int64_t end,
                              int64_t width)
{
    enum { MOST = 4 };
    tt_vf sum[MOST];
    int64_t p = begin;
#pragma GCC unroll 4
    for (int v = 0; v < count; v++)
        sum[v] = tt_vload_first(c + v * TT_LANES, v + 1 < count ? TT_LANES : width, 0);
#define TT_COLUMNS(v) tt_vload(b + (v) / 2 * panel + p / TT_KU * TT_NR + (v) % 2 * TT_LANES)
    if (p % TT_KU != 0 && p < end) {
#pragma GCC unroll 4
        for (int v = 0; v < count; v++)
            sum[v] = tt_multiply_add_one(sum[v], w[p / TT_KU * column], TT_COLUMNS(v), p);
        p++;
    }
    for (; p + TT_KU <= end; p += TT_KU) {
#pragma GCC unroll 4
        for (int v = 0; v < count; v++)
            sum[v] = tt_multiply_add(sum[v], w[p / TT_KU * column], TT_COLUMNS(v));
    }
    if (p < end) {
#pragma GCC unroll 4
        for (int v = 0; v < count; v++)
            sum[v] = tt_multiply_add_one(sum[v], w[p / TT_KU * column], TT_COLUMNS(v), p);
    }
#undef TT_COLUMNS
#pragma GCC unroll 4
    for (int v = 0; v < count; v++)
        tt_vstore_first(c + v * TT_LANES, sum[v], v + 1 < count ? TT_LANES : width);
}

/* c[0..n) += one row of weights times packed B panels of `k`, over [begin, end) of k in order. Step
 * s of the row is w[s * column]. */
static inline void tt_add_products(float *c, const tt_step *w, int64_t column, const tt_panel *b,
                                   int64_t k, int64_t begin, int64_t end, int64_t n)
{
    const int64_t panel = TT_PADDED(k, TT_KU) / TT_KU * TT_NR;
    const float *from = (const float *)(const void *)b;
    int64_t j = 0;
    for (; j + 2 * TT_NR <= n; j += 2 * TT_NR)
        tt_add_vectors(4, c + j, w, column, from + j / TT_NR * panel, panel, begin, end, TT_LANES);
    for (; j + TT_NR <= n; j += TT_NR)
        tt_add_vectors(2, c + j, w, column, from + j / TT_NR * panel, panel, begin, end, TT_LANES);
    for (; j < n; j += TT_LANES)
        tt_add_vectors(1, c + j, w, column, from + j / TT_NR * panel + j % TT_NR, panel, begin, end,
                       tt_min64(n - j, TT_LANES));
}

/* c(rows x size) += w b over the keys that each query sees, in order: the steps that all rows of a
 * microkernel see, then the rest of the triangle row by row. */
static inline void tt_product_seen(const tt_step *w, const tt_panel *packed_b, int64_t rows,
                                   int64_t keys, int64_t size, int64_t first, bool from_zero,
                                   float *c)
{
    const int64_t depth = TT_PADDED(keys, TT_KU);
    for (int64_t i = 0; i < rows; i += TT_MR) {
        int64_t here = tt_min64(TT_MR, rows - i);
        int64_t common = tt_max64(0, tt_min64(keys, first + i + 1)) / TT_KU * TT_KU;
        for (int64_t j = 0; (common > 0 || from_zero) && j < size; j += TT_NR) {
            float *to = c + i * size + j;
            TT_BLOCKED(tt_micro_rows)
            (here, tt_min64(TT_NR, size - j), common, w + i * TT_A_ROW, packed_b + j * depth, to,
             size, from_zero ? TT_ZERO_START : (tt_start){to, size});
        }
        for (int64_t r = 0; r < here; r++) {
            int64_t seen = tt_min64(keys, first + i + r + 1);
            if (common < seen)
                tt_add_products(c + (i + r) * size, w + (i + r) * TT_A_ROW, 1, packed_b, keys,
                                common, seen, size);
        }
    }
}

TT_INLINE int tt_item_threads(const tt_exec *exec, int64_t items, int64_t work_per_item)
{
    int threads = tt_threads_for(exec, items * work_per_item, 100000);
    return (int)tt_min64(threads, items);
}

TT_INLINE void *tt_my_scratch(const tt_exec *exec)
{
    return exec->scratch + (size_t)omp_get_thread_num() * exec->scratch_stride;
}

TT_INLINE tt_status tt_check_head(int64_t size)
{
    if (size > TT_HEAD)
        return tt_fail(TT_EUNSUPPORTED,
                       "attention: head size %lld exceeds %d, the most that the blocked variants "
                       "hold; choose the variant 'reference'",
                       (long long)size, (int)TT_HEAD);
    return TT_OK;
}

#endif
