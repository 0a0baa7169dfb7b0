/* The contracts of the operations' arguments, checked once per call whatever variant runs. */
#include "internal.h"

/* A tensor may be NULL only where it has no elements. */
static bool has(int64_t elements, const void *tensor)
{
    return elements == 0 || tensor != NULL;
}

static tt_status refuse(tt_op op, const char *what)
{
    return tt_fail(TT_EINVAL, "%s: %s", tt_op_name(op), what);
}

static tt_status check_linear(tt_op op, int64_t m, int64_t n, int64_t k, bool tensors)
{
    if (m < 0 || n < 0 || k < 0)
        return refuse(op, "m, n or k is negative");
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_linear_forward(tt_op op, const tt_linear_forward_args *g)
{
    if (g->gelu != NULL && g->real_y)
        return refuse(op, "gelu is of a y that is an activation, not real_y");
    return check_linear(op, g->m, g->n, g->k,
                        has(g->m * g->k, g->x) && (g->packed != NULL || has(g->n * g->k, g->w)) &&
                            has(g->m * g->n, g->y));
}

static tt_status check_linear_dgrad(tt_op op, const tt_linear_dgrad_args *g)
{
    if (g->gelu_x != NULL && g->accumulate)
        return refuse(op, "accumulate does not go with gelu_x");
    return check_linear(op, g->m, g->n, g->k,
                        has(g->m * g->n, g->dy) && (g->packed != NULL || has(g->n * g->k, g->w)) &&
                            has(g->m * g->k, g->dx));
}

static tt_status check_linear_wgrad(tt_op op, const tt_linear_wgrad_args *g)
{
    return check_linear(op, g->m, g->n, g->k,
                        has(g->m * g->n, g->dy) && has(g->m * g->k, g->x) &&
                            has(g->n * g->k, g->dw));
}

static tt_status check_embedding_forward(tt_op op, const tt_embedding_forward_args *g)
{
    if (g->batch < 0 || g->time < 0 || g->channels < 0 || g->position < 0)
        return refuse(op, "batch, time, channels or position is negative");
    int64_t n = g->batch * g->time * g->channels;
    bool tensors = has(n, g->tokens) && has(n, g->wte) && has(n, g->out);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_embedding_backward(tt_op op, const tt_embedding_backward_args *g)
{
    if (g->batch < 0 || g->time < 0 || g->channels < 0)
        return refuse(op, "batch, time or channels is negative");
    int64_t n = g->batch * g->time * g->channels;
    bool tensors = has(n, g->tokens) && has(n, g->dout) && has(n, g->dwte);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_layernorm_forward(tt_op op, const tt_layernorm_forward_args *g)
{
    if (g->rows < 0 || g->channels < 0)
        return refuse(op, "rows or channels is negative");
    int64_t n = g->rows * g->channels;
    if (g->branch != NULL && !has(n, g->sum))
        return refuse(op, "a branch needs a place for the sum");
    bool tensors = has(n, g->x) && has(n, g->gamma) && has(n, g->beta) && has(n, g->y) &&
                   has(n, g->mean) && has(n, g->rstd);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_layernorm_backward(tt_op op, const tt_layernorm_backward_args *g)
{
    if (g->rows < 0 || g->channels < 0)
        return refuse(op, "rows or channels is negative");
    int64_t n = g->rows * g->channels;
    bool tensors = has(n, g->dy) && has(n, g->x) && has(n, g->gamma) && has(n, g->mean) &&
                   has(n, g->rstd) && has(n, g->dx) && has(n, g->dgamma) && has(n, g->dbeta);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_rmsnorm_forward(tt_op op, const tt_rmsnorm_forward_args *g)
{
    if (g->rows < 0 || g->channels < 0)
        return refuse(op, "rows or channels is negative");
    int64_t n = g->rows * g->channels;
    if (g->branch != NULL && !has(n, g->sum))
        return refuse(op, "a branch needs a place for the sum");
    bool tensors = has(n, g->x) && has(n, g->gamma) && has(n, g->y) && has(n, g->rstd);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_rmsnorm_backward(tt_op op, const tt_rmsnorm_backward_args *g)
{
    if (g->rows < 0 || g->channels < 0)
        return refuse(op, "rows or channels is negative");
    int64_t n = g->rows * g->channels;
    bool tensors = has(n, g->dy) && has(n, g->x) && has(n, g->gamma) && has(n, g->rstd) &&
                   has(n, g->dx) && has(n, g->dgamma);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_kv_heads(tt_op op, int64_t heads, int64_t kv_heads)
{
    if (kv_heads <= 0 || heads % kv_heads != 0)
        return tt_fail(TT_EINVAL, "%s: %lld heads do not share %lld key heads evenly",
                       tt_op_name(op), (long long)heads, (long long)kv_heads);
    return TT_OK;
}

static tt_status check_rope(tt_op op, const tt_rope_args *g)
{
    if (g->batch < 0 || g->time < 0 || g->position < 0 || g->size < 0)
        return refuse(op, "batch, time, position or size is negative");
    if (g->heads <= 0 || check_kv_heads(op, g->heads, g->kv_heads) != TT_OK)
        return TT_EINVAL;
    if (g->size % 2 != 0 || !(g->theta > 0))
        return refuse(op, "size must be even and theta positive");
    return has(g->batch * g->time * g->size, g->qkv) ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_heads(tt_op op, int64_t heads, int64_t channels)
{
    if (heads <= 0 || channels < 0 || channels % heads != 0)
        return tt_fail(TT_EINVAL, "%s: %lld channels do not divide into %lld heads", tt_op_name(op),
                       (long long)channels, (long long)heads);
    return TT_OK;
}

static tt_status check_attention_forward(tt_op op, const tt_attention_forward_args *g)
{
    if (g->batch < 0 || g->time < 0)
        return refuse(op, "batch or time is negative");
    if (check_heads(op, g->heads, g->channels) != TT_OK ||
        check_kv_heads(op, g->heads, g->kv_heads) != TT_OK)
        return TT_EINVAL;
    int64_t n = g->batch * g->time * g->channels;
    bool tensors = has(n, g->qkv) && has(n, g->out) && has(n, g->lse);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_attention_backward(tt_op op, const tt_attention_backward_args *g)
{
    if (g->batch < 0 || g->time < 0)
        return refuse(op, "batch or time is negative");
    if (check_heads(op, g->heads, g->channels) != TT_OK ||
        check_kv_heads(op, g->heads, g->kv_heads) != TT_OK)
        return TT_EINVAL;
    int64_t n = g->batch * g->time * g->channels;
    bool tensors =
        has(n, g->qkv) && has(n, g->out) && has(n, g->lse) && has(n, g->dout) && has(n, g->dqkv);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_attention_cached(tt_op op, const tt_attention_cached_args *g)
{
    if (g->count < 0 || g->position < 0)
        return refuse(op, "count or position is negative");
    if (check_heads(op, g->heads, g->channels) != TT_OK ||
        check_kv_heads(op, g->heads, g->kv_heads) != TT_OK)
        return TT_EINVAL;
    if (g->count > 1 && g->q_stride < g->channels)
        return refuse(op, "q_stride is less than channels");
    int64_t n = g->count * g->channels;
    bool tensors = has(n, g->q) && has(n, g->keys) && has(n, g->values) && has(n, g->out);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_elements(tt_op op, int64_t n, bool tensors)
{
    if (n < 0)
        return refuse(op, "n is negative");
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_gelu_forward(tt_op op, const tt_gelu_forward_args *g)
{
    return check_elements(op, g->n, has(g->n, g->x) && has(g->n, g->y));
}

static tt_status check_gelu_backward(tt_op op, const tt_gelu_backward_args *g)
{
    return check_elements(op, g->n, has(g->n, g->x) && has(g->n, g->dy) && has(g->n, g->dx));
}

static tt_status check_swiglu_forward(tt_op op, const tt_swiglu_forward_args *g)
{
    if (g->rows < 0 || g->width < 0)
        return refuse(op, "rows or width is negative");
    int64_t n = g->rows * g->width;
    return has(n, g->x) && has(n, g->y) ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_swiglu_backward(tt_op op, const tt_swiglu_backward_args *g)
{
    if (g->rows < 0 || g->width < 0)
        return refuse(op, "rows or width is negative");
    int64_t n = g->rows * g->width;
    bool tensors = has(n, g->x) && has(n, g->dy) && has(n, g->dx);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_add(tt_op op, const tt_add_args *g)
{
    return check_elements(op, g->n, has(g->n, g->a) && has(g->n, g->b) && has(g->n, g->out));
}

static tt_status check_softmax_xent(tt_op op, const tt_softmax_xent_args *g)
{
    if (g->rows < 0 || g->vocab < 0)
        return refuse(op, "rows or vocab is negative");
    int64_t n = g->rows * g->vocab;
    bool tensors = has(n, g->logits) && has(n, g->targets) && has(n, g->losses);
    return tensors ? TT_OK : refuse(op, "a tensor is NULL");
}

static tt_status check_stats(tt_op op, const tt_stats_args *g)
{
    return check_elements(op, g->n, has(g->n, g->x) && g->out != NULL);
}

static tt_status check_adamw(tt_op op, const tt_adamw_args *g)
{
    bool reads = has(g->n, g->p) && has(g->n, g->m) && has(g->n, g->v) && has(g->n, g->g);
    bool writes = has(g->n, g->p_next) && has(g->n, g->m_next) && has(g->n, g->v_next);
    if (g->scalars == NULL || g->verdict == NULL)
        return refuse(op, "scalars or verdict is NULL");
    return check_elements(op, g->n, reads && writes);
}

tt_status tt_op_validate(tt_op op, const void *args)
{
    switch (op) {
#define TT_OP(id, name, type)                                                                      \
    case TT_OP_##id:                                                                               \
        return check_##name(op, (const type *)args);
#include <trimtab/kernels_ops.def>
#undef TT_OP
    case TT_OP_COUNT:
        break;
    }
    return tt_fail(TT_EINVAL, "no operation %d", (int)op);
}

/* The vocabulary is not known to the embeddings: only a negative token is certainly wrong. */
static tt_status check_indices(tt_op op, const int32_t *indices, int64_t n, int64_t limit)
{
    for (int64_t i = 0; i < n; i++)
        if (indices[i] < 0 || indices[i] >= limit)
            return tt_fail(TT_EDATA, "%s: index %d in row %lld is out of range", tt_op_name(op),
                           (int)indices[i], (long long)i);
    return TT_OK;
}

tt_status tt_op_validate_data(tt_op op, const void *args)
{
    if (op == TT_OP_EMBEDDING_FORWARD) {
        const tt_embedding_forward_args *g = args;
        return check_indices(op, g->tokens, g->channels > 0 ? g->batch * g->time : 0, INT64_MAX);
    }
    if (op == TT_OP_EMBEDDING_BACKWARD) {
        const tt_embedding_backward_args *g = args;
        return check_indices(op, g->tokens, g->channels > 0 ? g->batch * g->time : 0, INT64_MAX);
    }
    if (op == TT_OP_SOFTMAX_XENT) {
        const tt_softmax_xent_args *g = args;
        return check_indices(op, g->targets, g->vocab > 0 ? g->rows : 0, g->vocab);
    }
    return TT_OK;
}
