/* kernels/blocked/attention.h: what attention's two passes share. One head works block by block of
 * BLOCK queries and BLOCK keys; blocks start at multiples of BLOCK, and every output is a chain in
 * the order of keys (or queries), so a query has the same bits alone, in a batch, and from the
 * cache. What the causal mask hides is never multiplied, not even by zero: a NaN reaches nothing
 * before it. Scores, weights and sums are in float, whatever activations are. */
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

/* out(rows x keys, row distance BLOCK) = a b^T where some query sees some key. `first` is the
 * position of the first query minus that of the first key. */
static inline void tt_scores(const float *packed_a, const float *packed_b, int64_t rows,
                             int64_t keys, int64_t size, int64_t first, float *out)
{
    for (int64_t j = 0; j < keys; j += TT_NR)
        for (int64_t i = 0; i < rows; i += TT_MR)
            if (j <= first + i + TT_MR - 1)
                TT_BLOCKED(tt_micro)
    (tt_min64(TT_MR, rows - i), TT_NR, size, packed_a + i * size, packed_b + j * size,
     out + i * TT_BLOCK + j, TT_BLOCK, TT_ZERO_START);
}

/* c[0..n) += factor * row of packed B panels: row p of `k`. */
TT_INLINE void tt_add_packed_row(float *c, float factor, const float *b, int64_t p, int64_t k,
                                 int64_t n)
{
    for (int64_t j = 0; j < n; j += TT_NR) {
        const float *from = b + j * k + p * TT_NR;
        int64_t i = 0;
        for (; i + TT_LANES <= TT_NR && j + i + TT_LANES <= n; i += TT_LANES)
            tt_vstore(c + j + i, tt_vload(c + j + i) + factor * tt_vload(from + i));
        if (i < TT_NR && j + i < n) { /* the same operations on a padded vector */
            tt_vf sum = tt_vload_part(c + j + i, n - j - i, 0) + factor * tt_vload(from + i);
            tt_vstore_part(c + j + i, sum, n - j - i);
        }
    }
}

/* c(rows x size) += w b over the keys that each query sees, in order: the keys that all rows of a
 * microkernel see, then the rest of the triangle row by row. */
static inline void tt_product_seen(const float *w, const float *packed_b, int64_t rows,
                                   int64_t keys, int64_t size, int64_t first, bool from_zero,
                                   float *c)
{
    for (int64_t i = 0; i < rows; i += TT_MR) {
        int64_t here = tt_min64(TT_MR, rows - i);
        int64_t common = tt_max64(0, tt_min64(keys, first + i + 1));
        for (int64_t j = 0; common > 0 && j < size; j += TT_NR) {
            float *to = c + i * size + j;
            TT_BLOCKED(tt_micro_rows)
            (here, tt_min64(TT_NR, size - j), common, w + i * TT_BLOCK, packed_b + j * keys, to,
             size, from_zero ? TT_ZERO_START : (tt_start){to, size});
        }
        for (int64_t r = 1; r < here; r++)
            for (int64_t p = common; p < tt_min64(keys, first + i + r + 1); p++)
                tt_add_packed_row(c + (i + r) * size, w[(i + r) * TT_BLOCK + p], packed_b, p, keys,
                                  size);
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
