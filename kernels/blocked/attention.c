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

/* What one thread works in. */
typedef struct forward_scratch {
    float score[TT_BLOCK * TT_BLOCK];
    float queries[TT_PACKED_A(TT_BLOCK, TT_HEAD)]; /* A operands, of tt_held_rows queries */
    float sum[TT_HELD];                            /* of weighted values, for each of them */
    float keys[TT_BLOCK * TT_HEAD];                /* B operand over the head size */
    float values[TT_BLOCK * TT_HEAD];              /* B operand over keys */
    float row_max[4 * TT_BLOCK], row_sum[4 * TT_BLOCK];
} forward_scratch;
static_assert(sizeof(forward_scratch) <= TT_SCRATCH_BYTES, "attention fits the scratch");

/* Turns one row of scores into exp(scale score - running maximum), updates maximum and sum, and
 * returns the factor by which what was summed before must shrink. A NaN among the scores does not
 * show in the maximum but makes the sum NaN. */
static float soften_row(float *score, int64_t seen, float scale, float *row_max, float *row_sum)
{
    int64_t padded = tt_round_up(seen, TT_LANES);
    for (int64_t j = seen; j < padded; j++)
        score[j] = -INFINITY;
    tt_vf peak = tt_vset(-INFINITY);
    for (int64_t j = 0; j < padded; j += TT_LANES)
        peak = tt_vmax(tt_vload(score + j), peak);
    float before = *row_max, now = tt_vmax_lane(peak) * scale;
    now = now > before ? now : before;
    tt_vf sum = {0};
    for (int64_t j = 0; j < padded; j += TT_LANES) {
        tt_vf p = tt_vexp(tt_vload(score + j) * scale - now);
        tt_vstore(score + j, p);
        sum += p;
    }
    float shrink = now == before ? 1.0f : tt_exp_one(before - now);
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

/* One block of the held queries, from row i0 on, against the packed keys. */
static void forward_pair(const forward_head *h, forward_scratch *s, int64_t i0, int64_t rows,
                         int64_t keys, int64_t first, bool from_zero)
{
    float *sum = s->sum + i0 * h->size, scale = (float)(1 / sqrt((double)h->size));
    tt_scores(s->queries + i0 * h->size, s->keys, rows, keys, h->size, first, s->score);
    for (int64_t i = tt_max64(0, -first); i < rows; i++) {
        float shrink = soften_row(s->score + i * TT_BLOCK, tt_min64(keys, first + i + 1), scale,
                                  s->row_max + i0 + i, s->row_sum + i0 + i);
        if (!from_zero && !(shrink == 1.0f))
            scale_row(sum + i * h->size, h->size, shrink);
    }
    tt_product_seen(s->score, s->values, rows, keys, h->size, first, from_zero, sum);
}

static void store_rows(const forward_head *h, const forward_scratch *s, int64_t q0, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *sum = s->sum + i * h->size;
        tt_act *out = h->out + (q0 + i) * h->out_stride;
        float factor = 1.0f / s->row_sum[i];
        for (int64_t c = 0; c < h->size; c += TT_LANES)
            tt_astore_first(out + c, tt_vload_first(sum + c, h->size - c, 0) * factor, h->size - c);
        if (h->lse != NULL)
            h->lse[q0 + i] = s->row_max[i] + logf(s->row_sum[i]);
    }
}

/* As many queries as are held at a time, from q0 on: each block of keys is packed once for them. */
static void forward_rows(const forward_head *h, forward_scratch *s, int64_t q0, int64_t rows)
{
    int64_t size = h->size, position = h->position + q0;
    for (int64_t i = 0; i < rows; i++) {
        s->row_max[i] = -INFINITY;
        s->row_sum[i] = 0;
    }
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
