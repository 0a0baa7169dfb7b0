/* Causal attention without a time x time matrix, block by block with a running maximum and sum:
 * Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018); Dao et al.,
 * "FlashAttention" (2022). One work item is one head of one sequence.
 *
 * Blocks of keys start at multiples of BLOCK, and every output is a chain in the order of keys (or
 * queries), so a query has the same bits alone, in a batch, and from the cache. What the causal
 * mask hides is never multiplied, not even by zero: a NaN reaches nothing before it. */
#include <assert.h>
#include <omp.h>

#include "gemm.h"

enum { BLOCK = TT_A_ROW, HEAD = TT_BLOCKED_HEAD_MAX };
static_assert(BLOCK % TT_MR == 0 && BLOCK % TT_NR == 0, "whole microkernels");
static_assert(HEAD % TT_NR == 0, "whole panels");

/* One query head with the key head that it reads, or the first of the `group` that read it: rows
 * are `stride` elements apart. */
typedef struct tt_head {
    const float *q, *k, *v, *out, *lse, *dout;
    float *out_w, *lse_w, *dq, *dk, *dv;
    int64_t q_stride, kv_stride, out_stride;
    int64_t group;
    int64_t position, count; /* queries are at position .. position + count - 1 */
    int64_t size;            /* head size */
    float scale;
} tt_head;

/* What one thread works in. */
typedef struct tt_attention_scratch {
    float score[BLOCK * BLOCK], dscore[BLOCK * BLOCK];
    float packed_q[TT_PACKED_A(BLOCK, HEAD)], packed_dout[TT_PACKED_A(BLOCK, HEAD)];
    float keys_t[BLOCK * HEAD], values_t[BLOCK * HEAD]; /* B operands over the head size */
    float keys[BLOCK * HEAD], values[BLOCK * HEAD];     /* B operands over keys */
    float queries[BLOCK * HEAD], douts[BLOCK * HEAD];   /* B operands over queries */
    float sum_k[BLOCK * HEAD], sum_v[BLOCK * HEAD];     /* dk, dv of one block of keys */
    float row_max[BLOCK], row_sum[BLOCK], row_delta[BLOCK];
} tt_attention_scratch;
static_assert(sizeof(tt_attention_scratch) <= TT_SCRATCH_BYTES, "attention fits the scratch");

/* out(rows x keys, row distance BLOCK) = a b^T where some query sees some key. `first` is the
 * position of the first query minus that of the first key. */
static void scores(const float *packed_a, const float *packed_b, int64_t rows, int64_t keys,
                   int64_t size, int64_t first, float *out)
{
    for (int64_t j = 0; j < keys; j += TT_NR)
        for (int64_t i = 0; i < rows; i += TT_MR)
            if (j <= first + i + TT_MR - 1)
                TT_BLOCKED(tt_micro)
    (tt_min64(TT_MR, rows - i), TT_NR, size, packed_a + i * size, packed_b + j * size,
     out + i * BLOCK + j, BLOCK, TT_ZERO_START);
}

/* c[0..n) += factor * row of packed B panels: row p of `k`. */
static void add_packed_row(float *c, float factor, const float *b, int64_t p, int64_t k, int64_t n)
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
static void product_seen(const float *w, const float *packed_b, int64_t rows, int64_t keys,
                         int64_t size, int64_t first, bool from_zero, float *c, int64_t c_row)
{
    for (int64_t i = 0; i < rows; i += TT_MR) {
        int64_t here = tt_min64(TT_MR, rows - i);
        int64_t common = tt_max64(0, tt_min64(keys, first + i + 1));
        for (int64_t j = 0; common > 0 && j < size; j += TT_NR) {
            float *to = c + i * c_row + j;
            TT_BLOCKED(tt_micro_rows)
            (here, tt_min64(TT_NR, size - j), common, w + i * BLOCK, packed_b + j * keys, to, c_row,
             from_zero ? TT_ZERO_START : (tt_start){to, c_row});
        }
        for (int64_t r = 1; r < here; r++)
            for (int64_t p = common; p < tt_min64(keys, first + i + r + 1); p++)
                add_packed_row(c + (i + r) * c_row, w[(i + r) * BLOCK + p], packed_b, p, keys,
                               size);
    }
}

/* c(keys x size) += w^T b over the queries that see each key, in order: first the triangle in
 * which only some rows of a microkernel are seen, then the rest. */
static void product_seeing(const float *w, const float *packed_b, int64_t queries, int64_t keys,
                           int64_t size, int64_t first, float *c)
{
    for (int64_t j = 0; j < keys; j += TT_MR) {
        int64_t here = tt_min64(TT_MR, keys - j);
        int64_t begin = tt_max64(0, tt_min64(queries, j - first));
        int64_t all = tt_max64(0, tt_min64(queries, j + here - 1 - first));
        for (int64_t q = begin; q < all; q++)
            for (int64_t r = 0; r <= first + q - j; r++)
                add_packed_row(c + (j + r) * size, w[q * BLOCK + j + r], packed_b, q, queries,
                               size);
        for (int64_t n = 0; all < queries && n < size; n += TT_NR) {
            float *to = c + j * size + n;
            TT_BLOCKED(tt_micro_columns)
            (here, tt_min64(TT_NR, size - n), queries - all, w + all * BLOCK + j,
             packed_b + n * queries + all * TT_NR, to, size, (tt_start){to, size});
        }
    }
}

/* Turns one row of scores into exp(score - running maximum), updates maximum and sum, and returns
 * the factor by which what was summed before must shrink. A NaN among the scores does not show in
 * the maximum but makes the sum NaN. */
static float soften_row(float *score, int64_t seen, float scale, float *row_max, float *row_sum)
{
    int64_t padded = tt_round_up(seen, TT_LANES);
    for (int64_t j = seen; j < padded; j++)
        score[j] = -INFINITY;
    tt_vf peak = tt_vset(-INFINITY);
    for (int64_t j = 0; j < padded; j += TT_LANES) {
        tt_vf s = tt_vload(score + j) * scale;
        tt_vstore(score + j, s);
        peak = tt_vmax(s, peak);
    }
    float before = *row_max, now = tt_vmax_lane(peak);
    now = now > before ? now : before;
    tt_vf sum = {0};
    for (int64_t j = 0; j < padded; j += TT_LANES) {
        tt_vf p = tt_vexp(tt_vload(score + j) - now);
        tt_vstore(score + j, p);
        sum += p;
    }
    float shrink = tt_exp_one(before - now);
    *row_max = now;
    *row_sum = *row_sum * shrink + tt_vsum(sum);
    return shrink;
}

static void scale_row(float *row, int64_t n, float factor)
{
    int64_t j = 0;
    for (; j + TT_LANES <= n; j += TT_LANES)
        tt_vstore(row + j, tt_vload(row + j) * factor);
    for (; j < n; j++)
        row[j] *= factor;
}

static void forward_block(const tt_head *h, tt_attention_scratch *s, int64_t q0, int64_t rows)
{
    int64_t position = h->position + q0;
    float *out = h->out_w + q0 * h->out_stride;
    TT_BLOCKED(tt_pack_a)
    (s->packed_q, rows, h->size, (tt_operand){h->q + q0 * h->q_stride, h->q_stride, 1, false, false});
    for (int64_t i = 0; i < rows; i++) {
        s->row_max[i] = -INFINITY;
        s->row_sum[i] = 0;
    }
    for (int64_t j0 = 0; j0 < position + rows; j0 += BLOCK) {
        int64_t keys = tt_min64(BLOCK, position + rows - j0), first = position - j0;
        const float *k = h->k + j0 * h->kv_stride, *v = h->v + j0 * h->kv_stride;
        TT_BLOCKED(tt_pack_b)(s->keys_t, h->size, keys, (tt_operand){k, 1, h->kv_stride, false, false});
        TT_BLOCKED(tt_pack_b)(s->values, keys, h->size, (tt_operand){v, h->kv_stride, 1, false, false});
        scores(s->packed_q, s->keys_t, rows, keys, h->size, first, s->score);
        for (int64_t i = tt_max64(0, -first); i < rows; i++) {
            float shrink = soften_row(s->score + i * BLOCK, tt_min64(keys, first + i + 1), h->scale,
                                      s->row_max + i, s->row_sum + i);
            if (j0 > 0 && !(shrink == 1.0f))
                scale_row(out + i * h->out_stride, h->size, shrink);
        }
        product_seen(s->score, s->values, rows, keys, h->size, first, j0 == 0, out, h->out_stride);
    }
    for (int64_t i = 0; i < rows; i++) {
        scale_row(out + i * h->out_stride, h->size, 1.0f / s->row_sum[i]);
        if (h->lse_w != NULL)
            h->lse_w[q0 + i] = s->row_max[i] + logf(s->row_sum[i]);
    }
}

/* dscore = p * (dp - delta) * scale and score = p, for the keys that each query sees. */
static void backward_rows(const tt_head *h, tt_attention_scratch *s, int64_t q0, int64_t rows,
                          int64_t keys, int64_t first)
{
    for (int64_t i = tt_max64(0, -first); i < rows; i++) {
        float *score = s->score + i * BLOCK, *dscore = s->dscore + i * BLOCK;
        float lse = h->lse[q0 + i], delta = s->row_delta[i];
        for (int64_t j = 0; j < tt_min64(keys, first + i + 1); j += TT_LANES) {
            tt_vf p = tt_vexp(tt_vload(score + j) * h->scale - lse);
            tt_vstore(score + j, p);
            tt_vstore(dscore + j, p * (tt_vload(dscore + j) - delta) * h->scale);
        }
    }
}

static float dot(const float *a, const float *b, int64_t n)
{
    tt_vf sum = {0};
    int64_t j = 0;
    for (; j + TT_LANES <= n; j += TT_LANES)
        sum += tt_vload(a + j) * tt_vload(b + j);
    if (j < n)
        sum += tt_vload_part(a + j, n - j, 0) * tt_vload_part(b + j, n - j, 0);
    return tt_vsum(sum);
}

/* One block of queries against one block of keys. */
static void backward_pair(const tt_head *h, tt_attention_scratch *s, int64_t j0, int64_t keys,
                          int64_t q0, int64_t rows)
{
    int64_t size = h->size, first = q0 - j0;
    const float *dout = h->dout + q0 * h->out_stride, *out = h->out + q0 * h->out_stride;
    tt_operand q = {h->q + q0 * h->q_stride, h->q_stride, 1, false, false};
    tt_operand o = {dout, h->out_stride, 1, false, false};
    TT_BLOCKED(tt_pack_a)(s->packed_q, rows, size, q);
    TT_BLOCKED(tt_pack_a)(s->packed_dout, rows, size, o);
    TT_BLOCKED(tt_pack_b)(s->queries, rows, size, q);
    TT_BLOCKED(tt_pack_b)(s->douts, rows, size, o);
    for (int64_t i = 0; i < rows; i++)
        s->row_delta[i] = dot(dout + i * h->out_stride, out + i * h->out_stride, size);
    scores(s->packed_q, s->keys_t, rows, keys, size, first, s->score);
    scores(s->packed_dout, s->values_t, rows, keys, size, first, s->dscore);
    backward_rows(h, s, q0, rows, keys, first);
    product_seeing(s->score, s->douts, rows, keys, size, first, s->sum_v);
    product_seeing(s->dscore, s->queries, rows, keys, size, first, s->sum_k);
    product_seen(s->dscore, s->keys, rows, keys, size, first, j0 == 0, h->dq + q0 * h->q_stride,
                 h->q_stride);
}

/* Query head `r` of the group. */
static tt_head group_head(const tt_head *h, int64_t r)
{
    tt_head one = *h;
    one.q += r * h->size;
    one.out += r * h->size;
    one.dout += r * h->size;
    one.lse += r * h->count;
    one.dq += r * h->size;
    return one;
}

/* All query heads of one key head, in order. */
static void backward_group(const tt_head *h, tt_attention_scratch *s)
{
    size_t bytes = (size_t)h->size * sizeof(float);
    for (int64_t j0 = 0; j0 < h->count; j0 += BLOCK) {
        int64_t keys = tt_min64(BLOCK, h->count - j0);
        const float *k = h->k + j0 * h->kv_stride, *v = h->v + j0 * h->kv_stride;
        TT_BLOCKED(tt_pack_b)(s->keys_t, h->size, keys, (tt_operand){k, 1, h->kv_stride, false, false});
        TT_BLOCKED(tt_pack_b)(s->values_t, h->size, keys, (tt_operand){v, 1, h->kv_stride, false, false});
        TT_BLOCKED(tt_pack_b)(s->keys, keys, h->size, (tt_operand){k, h->kv_stride, 1, false, false});
        memset(s->sum_k, 0, (size_t)keys * bytes);
        memset(s->sum_v, 0, (size_t)keys * bytes);
        for (int64_t r = 0; r < h->group; r++) {
            tt_head one = group_head(h, r);
            for (int64_t q0 = j0; q0 < h->count; q0 += BLOCK)
                backward_pair(&one, s, j0, keys, q0, tt_min64(BLOCK, h->count - q0));
        }
        for (int64_t i = 0; i < keys; i++) {
            memcpy(h->dk + (j0 + i) * h->kv_stride, s->sum_k + i * h->size, bytes);
            memcpy(h->dv + (j0 + i) * h->kv_stride, s->sum_v + i * h->size, bytes);
        }
    }
}

static void forward_head(const tt_head *h, tt_attention_scratch *s)
{
    for (int64_t q0 = 0; q0 < h->count; q0 += BLOCK)
        forward_block(h, s, q0, tt_min64(BLOCK, h->count - q0));
}

static tt_status check_head(int64_t size)
{
    if (size > HEAD)
        return tt_fail(TT_EUNSUPPORTED,
                       "attention: head size %lld exceeds %d, the most that the blocked variants "
                       "hold; choose the variant 'reference'",
                       (long long)size, (int)HEAD);
    return TT_OK;
}

/* Query head `item` of a batch of whole sequences with q, k, v side by side. */
static tt_head batch_head(const float *qkv, int64_t time, int64_t heads, int64_t kv_heads,
                          int64_t channels, int64_t item)
{
    int64_t size = channels / heads, b = item / heads, at = item % heads, group = heads / kv_heads;
    int64_t stride = channels + 2 * kv_heads * size;
    const float *row = qkv + b * time * stride, *k = row + channels + at / group * size;
    return (tt_head){.q = row + at * size,
                     .k = k,
                     .v = k + kv_heads * size,
                     .q_stride = stride,
                     .kv_stride = stride,
                     .out_stride = channels,
                     .group = group,
                     .count = time,
                     .size = size,
                     .scale = (float)(1 / sqrt((double)size))};
}

static int item_threads(const tt_exec *exec, int64_t items, int64_t work_per_item)
{
    int threads = tt_threads_for(exec, items * work_per_item, 100000);
    return (int)tt_min64(threads, items);
}

static tt_attention_scratch *my_scratch(const tt_exec *exec)
{
    char *piece = exec->scratch + (size_t)omp_get_thread_num() * exec->scratch_stride;
    return (tt_attention_scratch *)(void *)piece;
}

tt_status TT_BLOCKED(tt_attention_forward_f32)(const tt_exec *exec, const void *args)
{
    const tt_attention_forward_args *g = args;
    int64_t items = g->batch * g->heads, size = g->channels / g->heads;
    if (items * g->time * size == 0)
        return TT_OK;
    if (check_head(size) != TT_OK)
        return TT_EUNSUPPORTED;
    int threads = item_threads(exec, items, g->time * g->time * size);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t item = 0; item < items; item++) {
        tt_head h = batch_head(g->qkv, g->time, g->heads, g->kv_heads, g->channels, item);
        h.out_w =
            (float *)g->out + item / g->heads * g->time * g->channels + item % g->heads * size;
        h.lse_w = (float *)g->lse + item * g->time;
        forward_head(&h, my_scratch(exec));
    }
    return TT_OK;
}

tt_status TT_BLOCKED(tt_attention_backward_f32)(const tt_exec *exec, const void *args)
{
    const tt_attention_backward_args *g = args;
    int64_t items = g->batch * g->kv_heads, group = g->heads / g->kv_heads;
    int64_t size = g->channels / g->heads;
    if (items * g->time * size == 0)
        return TT_OK;
    if (check_head(size) != TT_OK)
        return TT_EUNSUPPORTED;
    int threads = item_threads(exec, items, 3 * group * g->time * g->time * size);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t item = 0; item < items; item++) {
        int64_t first = item * group; /* query head */
        tt_head h = batch_head(g->qkv, g->time, g->heads, g->kv_heads, g->channels, first);
        int64_t at = first / g->heads * g->time * g->channels + first % g->heads * size;
        h.out = (const float *)g->out + at;
        h.dout = (const float *)g->dout + at;
        h.lse = (const float *)g->lse + first * g->time;
        h.dq = (float *)g->dqkv + (h.q - (const float *)g->qkv);
        h.dk = (float *)g->dqkv + (h.k - (const float *)g->qkv);
        h.dv = (float *)g->dqkv + (h.v - (const float *)g->qkv);
        backward_group(&h, my_scratch(exec));
    }
    return TT_OK;
}

tt_status TT_BLOCKED(tt_attention_cached_f32)(const tt_exec *exec, const void *args)
{
    const tt_attention_cached_args *g = args;
    int64_t size = g->channels / g->heads, group = g->heads / g->kv_heads;
    if (g->count * g->channels == 0)
        return TT_OK;
    if (check_head(size) != TT_OK)
        return TT_EUNSUPPORTED;
    int threads =
        item_threads(exec, g->heads, 2 * (g->position + g->count) * (g->count + 4) * size);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t item = 0; item < g->heads; item++) {
        tt_head h = {.q = (const float *)g->q + item * size,
                     .k = (const float *)g->keys + item / group * size,
                     .v = (const float *)g->values + item / group * size,
                     .out_w = (float *)g->out + item * size,
                     .q_stride = g->q_stride,
                     .kv_stride = g->kv_heads * size,
                     .out_stride = g->channels,
                     .position = g->position,
                     .count = g->count,
                     .size = size,
                     .scale = (float)(1 / sqrt((double)size))};
        forward_head(&h, my_scratch(exec));
    }
    return TT_OK;
}
