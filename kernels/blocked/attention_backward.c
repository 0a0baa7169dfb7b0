/* Gradient of causal attention, after Dao, "FlashAttention-2" (2023): weights are recomputed from
 * the log-sum-exp, block by block. One work item is one key head of one sequence with the group of
 * query heads that read it. */
#include "attention.h"

/* One query head with its key head, or the first query head of the `group`. */
typedef struct backward_head {
    const tt_act *q, *k, *v, *out, *dout;
    const float *lse;
    tt_act *dq, *dk, *dv;
    int64_t stride, out_stride; /* of q, k, v and their gradients; of out and dout */
    int64_t group, count, size;
} backward_head;

/* What one thread works in. Keys are held and packed for all queries that see them; the sums of dq
 * go on from one range of keys to the next, in what is left of the scratch. */
typedef struct backward_scratch {
    float score[TT_BLOCK * TT_BLOCK], dscore[TT_BLOCK * TT_BLOCK];
    tt_panel queries_b[TT_BLOCK * TT_HEAD], douts_b[TT_BLOCK * TT_HEAD]; /* B over queries */
    tt_panel keys_t[TT_HELD], values_t[TT_HELD]; /* B operands over the head size */
    tt_panel keys[TT_HELD];                      /* B operands over keys, block by block */
    float sum_k[TT_HELD], sum_v[TT_HELD];        /* dk, dv */
    tt_panel queries[TT_PACKED_A(TT_BLOCK, TT_HEAD)], douts[TT_PACKED_A(TT_BLOCK, TT_HEAD)];
    float row_delta[TT_BLOCK], row_lse[TT_BLOCK];
    float sum_q[];
} backward_scratch;
static_assert(sizeof(backward_scratch) + TT_BLOCK * TT_HEAD * sizeof(float) <= TT_SCRATCH_BYTES,
              "attention fits the scratch");

/* c(keys x size) += w^T b over the queries that see each key, in order: first the triangle in
 * which only some rows of a microkernel are seen, then the steps that all of them are, and what is
 * left of a step. */
static void product_seeing(const tt_step *w, const tt_panel *packed_b, int64_t queries,
                           int64_t keys, int64_t size, int64_t first, float *c)
{
    const int64_t depth = TT_PADDED(queries, TT_KU);
    for (int64_t j = 0; j < keys; j += TT_MR) {
        int64_t here = tt_min64(TT_MR, keys - j);
        int64_t all = tt_max64(0, tt_min64(queries, j + here - 1 - first));
        int64_t begin = tt_min64(TT_PADDED(all, TT_KU), queries);
        int64_t end = tt_max64(begin, queries / TT_KU * TT_KU);
        for (int64_t r = 0; r < here; r++) {
            int64_t seen = tt_max64(0, j + r - first);
            if (seen < begin)
                tt_add_products(c + (j + r) * size, w + j + r, TT_A_COLUMN, packed_b, queries, seen,
                                begin, size);
        }
        for (int64_t n = 0; begin < end && n < size; n += TT_NR) {
            float *to = c + j * size + n;
            TT_BLOCKED(tt_micro_columns)
            (here, tt_min64(TT_NR, size - n), end - begin, w + begin * TT_A_ROW + j,
             packed_b + n * depth + begin * TT_NR, to, size, (tt_start){to, size});
        }
        for (int64_t r = 0; end < queries && r < here; r++)
            tt_add_products(c + (j + r) * size, w + j + r, TT_A_COLUMN, packed_b, queries, end,
                            queries, size);
    }
}

static float dot(const tt_act *a, const tt_act *b, int64_t n)
{
    tt_vf sum = {0};
    int64_t j = 0;
    for (; j + TT_LANES <= n; j += TT_LANES)
        sum += tt_aload(a + j) * tt_aload(b + j);
    if (j < n)
        sum += tt_aload_first(a + j, n - j, 0) * tt_aload_first(b + j, n - j, 0);
    return tt_vsum(sum);
}

/* One block of queries, with what their rows need: delta = dout . out. */
static void load_queries(const backward_head *h, backward_scratch *s, int64_t q0, int64_t rows)
{
    const tt_act *dout = h->dout + q0 * h->out_stride, *out = h->out + q0 * h->out_stride;
    tt_operand q = tt_act_operand(h->q + q0 * h->stride, h->stride, 1);
    tt_operand o = tt_act_operand(dout, h->out_stride, 1);
    tt_fetch_rows(out, h->out_stride, rows, h->size, 0);
    tt_fetch_rows(h->dq + q0 * h->stride, h->stride, rows, h->size, 1);
    TT_BLOCKED(tt_pack_a)(s->queries, rows, h->size, q);
    TT_BLOCKED(tt_pack_a)(s->douts, rows, h->size, o);
    TT_BLOCKED(tt_pack_b)(s->queries_b, rows, h->size, q);
    TT_BLOCKED(tt_pack_b)(s->douts_b, rows, h->size, o);
    for (int64_t i = 0; i < rows; i++) {
        s->row_delta[i] = dot(dout + i * h->out_stride, out + i * h->out_stride, h->size);
        s->row_lse[i] = h->lse[q0 + i];
    }
}

/* Block `at` of the held keys, which are those from j0 on. */
static void load_keys(const backward_head *h, backward_scratch *s, int64_t j0, int64_t keys,
                      int64_t at)
{
    int64_t offset = at * TT_BLOCK * tt_round_up(h->size, TT_NR);
    const tt_act *k = h->k + j0 * h->stride, *v = h->v + j0 * h->stride;
    tt_fetch_rows(h->dk + j0 * h->stride, h->stride, keys, h->size, 1);
    tt_fetch_rows(h->dv + j0 * h->stride, h->stride, keys, h->size, 1);
    TT_BLOCKED(tt_pack_b)(s->keys_t + offset, h->size, keys, tt_act_operand(k, 1, h->stride));
    TT_BLOCKED(tt_pack_b)(s->values_t + offset, h->size, keys, tt_act_operand(v, 1, h->stride));
    TT_BLOCKED(tt_pack_b)(s->keys + offset, keys, h->size, tt_act_operand(k, h->stride, 1));
}

/* Of the keys that each query sees: p, and p * (dp - delta) * scale. */
TT_INLINE tt_vf weight(const backward_scratch *s, int64_t i, int64_t j, float scale, tt_vf *dscore)
{
    int64_t at = i * TT_BLOCK + j;
    tt_vf p = tt_vexp(tt_vload(s->score + at) * scale - s->row_lse[i]);
    *dscore = p * (tt_vload(s->dscore + at) - s->row_delta[i]) * scale;
    return p;
}

#if TT_PANELS_BF16
/* Rows come in pairs. In the place of their scores, pairs over queries: of p in that of the first,
 * of dscore in that of the second. In the place of dscore, dscore: pairs over keys. */
static void weigh(const backward_head *h, backward_scratch *s, int64_t rows, int64_t keys,
                  int64_t first)
{
    float scale = (float)(1 / sqrt((double)h->size));
    for (int64_t i = 0; i < rows; i += 2) {
        float *score = s->score + i * TT_BLOCK, *dscore = s->dscore + i * TT_BLOCK;
        int64_t here = tt_min64(2, rows - i);
        for (int64_t j = 0; j < tt_min64(keys, first + i + here); j += TT_LANES) {
            tt_vf p[2] = {{0}}, d[2] = {{0}};
            for (int64_t r = 0; r < here; r++)
                p[r] = weight(s, i + r, j, scale, &d[r]);
            tt_v32b rounded = tt_round_32(d[0], d[1]);
            tt_vstore(score + j, tt_zip_halves(tt_round_32(p[0], p[1])));
            tt_vstore(score + TT_BLOCK + j, tt_zip_halves(rounded));
            memcpy((char *)dscore + 2 * j, &rounded, sizeof rounded / 2);
            memcpy((char *)(dscore + TT_BLOCK) + 2 * j, (const char *)&rounded + sizeof rounded / 2,
                   sizeof rounded / 2);
        }
    }
}
#else
/* p in the place of the scores, dscore in its own. */
static void weigh(const backward_head *h, backward_scratch *s, int64_t rows, int64_t keys,
                  int64_t first)
{
    float scale = (float)(1 / sqrt((double)h->size));
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < tt_min64(keys, first + i + 1); j += TT_LANES) {
            tt_vf d, p = weight(s, i, j, scale, &d);
            tt_vstore(s->score + i * TT_BLOCK + j, p);
            tt_vstore(s->dscore + i * TT_BLOCK + j, d);
        }
    }
}
#endif

/* The loaded queries against block `at` of the held keys: their weights, and their part of dq. */
static void pair_queries(const backward_head *h, backward_scratch *s, int64_t rows, int64_t keys,
                         int64_t at, int64_t first, float *sum_q, bool from_zero)
{
    int64_t offset = at * TT_BLOCK * tt_round_up(h->size, TT_NR);
    tt_scores(s->queries, s->keys_t + offset, rows, keys, h->size, first, s->score);
    tt_scores(s->douts, s->values_t + offset, rows, keys, h->size, first, s->dscore);
    weigh(h, s, rows, keys, first);
    if (sum_q != NULL)
        tt_product_seen(tt_weights(s->dscore), s->keys + offset, rows, keys, h->size, first,
                        from_zero, sum_q);
}

static void store_rows(tt_act *to, int64_t stride, const float *from, int64_t rows, int64_t size)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < size; c += TT_LANES)
            tt_astore_first(to + i * stride + c, tt_vload_first(from + i * size + c, size - c, 0),
                            size - c);
}

/* Query head `r` of the group. */
static backward_head group_head(const backward_head *h, int64_t r)
{
    backward_head one = *h;
    one.q += r * h->size;
    one.out += r * h->size;
    one.dout += r * h->size;
    one.lse += r * h->count;
    one.dq += r * h->size;
    return one;
}

/* The held keys, `keys` from j0 on, against every query of one head that sees them. Sums of dq
 * begin at sum_q; NULL: there is no room for them. */
static void key_gradients(const backward_head *h, backward_scratch *s, int64_t j0, int64_t keys,
                          float *sum_q)
{
    for (int64_t q0 = j0; q0 < h->count; q0 += TT_BLOCK) {
        int64_t rows = tt_min64(TT_BLOCK, h->count - q0);
        const float *dscore = TT_PANELS_BF16 ? s->score + TT_BLOCK : s->dscore;
        load_queries(h, s, q0, rows);
        for (int64_t j = 0; j < keys && j0 + j <= q0; j += TT_BLOCK) {
            int64_t here = tt_min64(TT_BLOCK, keys - j), first = q0 - j0 - j;
            pair_queries(h, s, rows, here, j / TT_BLOCK, first,
                         sum_q != NULL ? sum_q + q0 * h->size : NULL, j0 + j == 0);
            product_seeing(tt_weights(s->score), s->douts_b, rows, here, h->size, first,
                           s->sum_v + j * h->size);
            product_seeing(tt_weights(dscore), s->queries_b, rows, here, h->size, first,
                           s->sum_k + j * h->size);
        }
    }
}

/* dq of one head by itself, for which the weights are computed once more. */
static void query_gradients(const backward_head *h, backward_scratch *s)
{
    for (int64_t q0 = 0; q0 < h->count; q0 += TT_BLOCK) {
        int64_t rows = tt_min64(TT_BLOCK, h->count - q0);
        load_queries(h, s, q0, rows);
        for (int64_t j0 = 0; j0 <= q0; j0 += TT_BLOCK) {
            int64_t keys = tt_min64(TT_BLOCK, h->count - j0);
            load_keys(h, s, j0, keys, 0);
            pair_queries(h, s, rows, keys, 0, q0 - j0, s->sum_q, j0 == 0);
        }
        store_rows(h->dq + q0 * h->stride, h->stride, s->sum_q, rows, h->size);
    }
}

/* All query heads of one key head, in order. There is room for the sums of the first `held` heads;
 * the others' dq come afterwards. */
static void backward_group(const backward_head *h, backward_scratch *s, int64_t held)
{
    int64_t at_once = tt_held_rows(h->size), size = h->size;
    for (int64_t j0 = 0; j0 < h->count; j0 += at_once) {
        int64_t keys = tt_min64(at_once, h->count - j0);
        for (int64_t j = 0; j < keys; j += TT_BLOCK)
            load_keys(h, s, j0 + j, tt_min64(TT_BLOCK, keys - j), j / TT_BLOCK);
        memset(s->sum_k, 0, (size_t)(keys * size) * sizeof(float));
        memset(s->sum_v, 0, (size_t)(keys * size) * sizeof(float));
        for (int64_t r = 0; r < h->group; r++) {
            backward_head one = group_head(h, r);
            key_gradients(&one, s, j0, keys, r < held ? s->sum_q + r * h->count * size : NULL);
        }
        store_rows(h->dk + j0 * h->stride, h->stride, s->sum_k, keys, size);
        store_rows(h->dv + j0 * h->stride, h->stride, s->sum_v, keys, size);
    }
    for (int64_t r = 0; r < h->group; r++) {
        backward_head one = group_head(h, r);
        if (r < held)
            store_rows(one.dq, h->stride, s->sum_q + r * h->count * size, h->count, size);
    }
    for (int64_t r = held; r < h->group; r++) {
        backward_head one = group_head(h, r);
        query_gradients(&one, s);
    }
}

tt_status TT_BLOCKED_ACT(tt_attention_backward)(const tt_exec *exec, const void *args)
{
    const tt_attention_backward_args *g = args;
    int64_t items = g->batch * g->kv_heads, group = g->heads / g->kv_heads;
    int64_t size = g->channels / g->heads, stride = g->channels + 2 * g->kv_heads * size;
    if (items * g->time * size == 0)
        return TT_OK;
    if (tt_check_head(size) != TT_OK)
        return TT_EUNSUPPORTED;
    int threads = tt_item_threads(exec, items, 3 * group * g->time * g->time * size);
    int64_t room = (int64_t)((exec->scratch_stride - sizeof(backward_scratch)) / sizeof(float));
    int64_t held = tt_min64(group, room / (g->time * size));
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t item = 0; item < items; item++) {
        int64_t first = item / g->kv_heads * g->time, at = item % g->kv_heads;
        int64_t q = first * stride + at * group * size;
        int64_t k = first * stride + g->channels + at * size, v = k + g->kv_heads * size;
        int64_t out = first * g->channels + at * group * size;
        const tt_act *qkv = g->qkv;
        tt_act *dqkv = g->dqkv;
        backward_head h = {.q = qkv + q,
                           .k = qkv + k,
                           .v = qkv + v,
                           .out = (const tt_act *)g->out + out,
                           .dout = (const tt_act *)g->dout + out,
                           .lse = (const float *)g->lse + item * group * g->time,
                           .dq = dqkv + q,
                           .dk = dqkv + k,
                           .dv = dqkv + v,
                           .stride = stride,
                           .out_stride = g->channels,
                           .group = group,
                           .count = g->time,
                           .size = size};
        backward_group(&h, tt_my_scratch(exec), held);
    }
    return TT_OK;
}
