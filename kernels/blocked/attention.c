/* Causal attention without a time x time matrix, block by block with a running maximum and sum:
 * Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018); Dao et al.,
 * "FlashAttention" (2022). One work item is one query head of one sequence. */
#include "attention.h"

/* One query head with the key head that it reads: rows are `stride` elements apart. */
typedef struct forward_head {
    const tt_act *q, *k, *v;
    tt_act *out;
    float *lse; /* NULL: not wanted */
    int64_t q_stride, kv_stride, out_stride;
    int64_t position, count; /* queries are at position .. position + count - 1 */
    int64_t size;            /* head size */
} forward_head;

/* Sums of a row's weights: as they are, which is what the log-sum-exp wants, and as they are
 * multiplied. By the latter the weighted sum of values is divided: so what rounding does to all
 * weights alike does nothing to their mean. */
enum { PLAIN, MULTIPLIED = TT_PANELS_BF16, SUMS };

/* What one thread works in. */
typedef struct forward_scratch {
    float score[TT_BLOCK * TT_BLOCK];
    float sum[TT_HELD];                               /* of weighted values, for each held query */
    tt_panel keys[TT_BLOCK * TT_HEAD];                /* B operand over the head size */
    tt_panel values[TT_BLOCK * TT_HEAD];              /* B operand over keys */
    tt_panel queries[TT_PACKED_A(TT_BLOCK, TT_HEAD)]; /* A operands, of tt_held_rows queries */
    float row_max[4 * TT_BLOCK], row_sum[SUMS][4 * TT_BLOCK];
} forward_scratch;
static_assert(sizeof(forward_scratch) <= TT_SCRATCH_BYTES, "attention fits the scratch");
static_assert(TT_BLOCK % TT_LANES == 0, "whole vectors of rows");

/* Lanes of each vector folded in halves, as tt_vsum and tt_vmax_lane do: lane r is that of v[r]. */
TT_INLINE tt_vf sum_each(tt_vf v[TT_LANES])
{
    for (int n = TT_LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            v[i] = TT_ZIP_LOW(v[i], v[i + n]) + TT_ZIP_HIGH(v[i], v[i + n]);
    return v[0];
}

TT_INLINE tt_vf max_each(tt_vf v[TT_LANES])
{
    for (int n = TT_LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            v[i] = tt_vmax(TT_ZIP_LOW(v[i], v[i + n]), TT_ZIP_HIGH(v[i], v[i + n]));
    return v[0];
}

/* The largest of the scores that count. Those beside them become -infinity, to whole vectors of
 * steps. */
TT_INLINE tt_vf find_peak(float *score, int64_t seen)
{
    tt_vf peak = tt_vset(-INFINITY);
    int64_t j = 0;
    for (; j + TT_LANES <= seen; j += TT_LANES)
        peak = tt_vmax(tt_vload(score + j), peak);
    for (; j < tt_round_up(seen, TT_KU * TT_LANES); j += TT_LANES) {
        tt_vf last = tt_vfirst(tt_vload(score + j), tt_max64(seen - j, 0), -INFINITY);
        tt_vstore(score + j, last);
        peak = tt_vmax(last, peak);
    }
    return peak;
}

/* Weights from j on, a vector of steps, take the place of scores that are read already. */
TT_INLINE void put_weights(float *score, int64_t j, const tt_vf p[TT_KU], tt_vf sum[SUMS])
{
    for (int v = 0; v < TT_KU; v++)
        sum[PLAIN] += p[v];
#if TT_PANELS_BF16
    const tt_pair ones = 0x3f803f80u;
    tt_vf pairs = (tt_vf)tt_round_32(p[0], p[1]);
    sum[MULTIPLIED] = tt_vdot(sum[MULTIPLIED], ones, pairs);
    tt_vstore(score + j / TT_KU, pairs);
#else
    tt_vstore(score + j, p[0]);
#endif
}

/* Scores into weights, exp(scale score - running maximum). */
TT_INLINE void soften_row(float *score, int64_t seen, float scale, float now, tt_vf sum[SUMS])
{
    for (int64_t j = 0; j < seen; j += TT_KU * TT_LANES) {
        tt_vf p[TT_KU];
        for (int v = 0; v < TT_KU; v++)
            p[v] = tt_vexp(tt_vload(score + j + v * TT_LANES) * scale - now);
        put_weights(score, j, p, sum);
    }
}

/* TT_LANES rows of scores into weights, from held row i on, of which `rows` are there; maxima and
 * sums are updated, and `shrink` becomes the factors for what was summed before. A NaN among the
 * scores does not show in the maximum but makes the sums NaN. A row that sees no key stays as it
 * is. */
static void soften_rows(forward_scratch *s, int64_t i, int64_t rows, float *score, int64_t keys,
                        int64_t first, float scale, float shrink[TT_LANES])
{
    int64_t seen[TT_LANES];
    tt_vf peak[TT_LANES], sum[SUMS][TT_LANES] = {{{0}}};
    for (int64_t r = 0; r < TT_LANES; r++) {
        seen[r] = r < rows ? tt_max64(tt_min64(keys, first + r + 1), 0) : 0;
        peak[r] = find_peak(score + r * TT_BLOCK, seen[r]);
    }
    tt_vf before = tt_vload(s->row_max + i), now = tt_vmax(max_each(peak) * scale, before);
    tt_vf factor = tt_vselect(now == before, tt_vset(1.0f), tt_vexp(before - now));
    tt_vstore(s->row_max + i, now);
    tt_vstore(shrink, factor);
    for (int64_t r = 0; r < rows; r++) {
        tt_vf of_row[SUMS] = {{0}};
        soften_row(score + r * TT_BLOCK, seen[r], scale, s->row_max[i + r], of_row);
        for (int n = 0; n < SUMS; n++)
            sum[n][r] = of_row[n];
    }
    for (int n = 0; n < SUMS; n++) {
        tt_vf here = sum_each(sum[n]);
        tt_vstore(s->row_sum[n] + i, tt_vload(s->row_sum[n] + i) * factor + here);
    }
}

static void scale_row(float *row, int64_t n, float factor)
{
    int64_t j = 0;
    for (; j + TT_LANES <= n; j += TT_LANES)
        tt_vstore(row + j, tt_vload(row + j) * factor);
    for (; j < n; j++)
        row[j] *= factor;
}

/* One block of the held queries, from row i0 on, against the packed keys. */
static void forward_pair(const forward_head *h, forward_scratch *s, int64_t i0, int64_t rows,
                         int64_t keys, int64_t first, bool from_zero)
{
    float *sum = s->sum + i0 * h->size, scale = (float)(1 / sqrt((double)h->size));
    tt_scores(s->queries + i0 * TT_PADDED(h->size, TT_KU), s->keys, rows, keys, h->size, first,
              s->score);
    for (int64_t i = 0; i < rows; i += TT_LANES) {
        float shrink[TT_LANES];
        int64_t here = tt_min64(TT_LANES, rows - i);
        soften_rows(s, i0 + i, here, s->score + i * TT_BLOCK, keys, first + i, scale, shrink);
        for (int64_t r = 0; r < here && !from_zero; r++)
            if (!(shrink[r] == 1.0f))
                scale_row(sum + (i + r) * h->size, h->size, shrink[r]);
    }
    tt_product_seen(tt_weights(s->score), s->values, rows, keys, h->size, first, from_zero, sum);
}

static void store_rows(const forward_head *h, const forward_scratch *s, int64_t q0, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *sum = s->sum + i * h->size;
        tt_act *out = h->out + (q0 + i) * h->out_stride;
        float factor = 1.0f / s->row_sum[MULTIPLIED][i];
        for (int64_t c = 0; c < h->size; c += TT_LANES)
            tt_astore_first(out + c, tt_vload_first(sum + c, h->size - c, 0) * factor, h->size - c);
        if (h->lse != NULL)
            h->lse[q0 + i] = s->row_max[i] + logf(s->row_sum[PLAIN][i]);
    }
}

/* As many queries as are held at a time, from q0 on: each block of keys is packed once for them. */
static void forward_rows(const forward_head *h, forward_scratch *s, int64_t q0, int64_t rows)
{
    int64_t size = h->size, position = h->position + q0;
    for (int64_t i = 0; i < tt_round_up(rows, TT_LANES); i++) {
        s->row_max[i] = -INFINITY;
        for (int n = 0; n < SUMS; n++)
            s->row_sum[n][i] = 0;
    }
    tt_fetch_rows(h->out + q0 * h->out_stride, h->out_stride, rows, size, 1);
    TT_BLOCKED(tt_pack_a)
    (s->queries, rows, size, tt_act_operand(h->q + q0 * h->q_stride, h->q_stride, 1));
    for (int64_t j0 = 0; j0 < position + rows; j0 += TT_BLOCK) {
        int64_t keys = tt_min64(TT_BLOCK, position + rows - j0);
        const tt_act *k = h->k + j0 * h->kv_stride, *v = h->v + j0 * h->kv_stride;
        TT_BLOCKED(tt_pack_b)(s->keys, size, keys, tt_act_operand(k, 1, h->kv_stride));
        TT_BLOCKED(tt_pack_b)(s->values, keys, size, tt_act_operand(v, h->kv_stride, 1));
        for (int64_t i0 = 0; i0 < rows; i0 += TT_BLOCK) {
            int64_t here = tt_min64(TT_BLOCK, rows - i0), first = position + i0 - j0;
            if (first + here > 0)
                forward_pair(h, s, i0, here, keys, first, j0 == 0);
        }
    }
    store_rows(h, s, q0, rows);
}

static void run_head(const tt_exec *exec, const forward_head *h)
{
    int64_t held = tt_held_rows(h->size);
    for (int64_t q0 = 0; q0 < h->count; q0 += held)
        forward_rows(h, tt_my_scratch(exec), q0, tt_min64(held, h->count - q0));
}

tt_status TT_BLOCKED_ACT(tt_attention_forward)(const tt_exec *exec, const void *args)
{
    const tt_attention_forward_args *g = args;
    int64_t items = g->batch * g->heads, size = g->channels / g->heads;
    int64_t group = g->heads / g->kv_heads, stride = g->channels + 2 * g->kv_heads * size;
    if (items * g->time * size == 0)
        return TT_OK;
    if (tt_check_head(size) != TT_OK)
        return TT_EUNSUPPORTED;
    int threads = tt_item_threads(exec, items, g->time * g->time * size);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t item = 0; item < items; item++) {
        int64_t first = item / g->heads * g->time, at = item % g->heads;
        const tt_act *row = (const tt_act *)g->qkv + first * stride;
        const tt_act *k = row + g->channels + at / group * size;
        forward_head h = {.q = row + at * size,
                          .k = k,
                          .v = k + g->kv_heads * size,
                          .out = (tt_act *)g->out + first * g->channels + at * size,
                          .lse = (float *)g->lse + item * g->time,
                          .q_stride = stride,
                          .kv_stride = stride,
                          .out_stride = g->channels,
                          .count = g->time,
                          .size = size};
        run_head(exec, &h);
    }
    return TT_OK;
}

tt_status TT_BLOCKED_ACT(tt_attention_cached)(const tt_exec *exec, const void *args)
{
    const tt_attention_cached_args *g = args;
    int64_t size = g->channels / g->heads, group = g->heads / g->kv_heads;
    if (g->count * g->channels == 0)
        return TT_OK;
    if (tt_check_head(size) != TT_OK)
        return TT_EUNSUPPORTED;
    int threads =
        tt_item_threads(exec, g->heads, 2 * (g->position + g->count) * (g->count + 4) * size);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t item = 0; item < g->heads; item++) {
        forward_head h = {.q = (const tt_act *)g->q + item * size,
                          .k = (const tt_act *)g->keys + item / group * size,
                          .v = (const tt_act *)g->values + item / group * size,
                          .out = (tt_act *)g->out + item * size,
                          .q_stride = g->q_stride,
                          .kv_stride = g->kv_heads * size,
                          .out_stride = g->channels,
                          .position = g->position,
                          .count = g->count,
                          .size = size};
        run_head(exec, &h);
    }
    return TT_OK;
}
