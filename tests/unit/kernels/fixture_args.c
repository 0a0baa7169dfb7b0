/* The operations' tensors and argument structs. */
#include "fixture.h"

static void add_tensor(kt_case *c, kt_kind kind, int64_t n)
{
    c->t[c->count++] = (kt_tensor){.kind = kind, .n = n};
}

/* An activation. */
static void add_act(kt_case *c, kt_kind kind, int64_t n)
{
    c->t[c->count++] = (kt_tensor){.kind = kind, .act = true, .n = n};
}

static void shape_norm(kt_case *c)
{
    const int64_t *s = c->size;
    int64_t n = s[0] * s[1];
    bool has_mean = c->op == TT_OP_LAYERNORM_FORWARD || c->op == TT_OP_LAYERNORM_BACKWARD;
    if (c->op == TT_OP_LAYERNORM_FORWARD || c->op == TT_OP_RMSNORM_FORWARD) {
        add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INPUT, s[1]);
        if (has_mean)
            add_tensor(c, KT_INPUT, s[1]), add_act(c, KT_OUTPUT, n), add_tensor(c, KT_OUTPUT, s[0]);
        else
            add_act(c, KT_OUTPUT, n);
        add_tensor(c, KT_OUTPUT, s[0]);
        if (c->with.branch)
            add_act(c, KT_INPUT, n), add_tensor(c, KT_OUTPUT, n);
        return;
    }
    kt_kind parameters = c->with.overwrite ? KT_OUTPUT : KT_BOTH;
    add_act(c, KT_INPUT, n), add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INPUT, s[1]);
    if (has_mean)
        add_tensor(c, KT_INPUT, s[0]);
    add_tensor(c, KT_INPUT, s[0]), add_tensor(c, parameters, n), add_tensor(c, parameters, s[1]);
    if (has_mean)
        add_tensor(c, parameters, s[1]);
    if (c->with.dx_act)
        add_act(c, KT_OUTPUT, n);
}

static void shape_softmax(kt_case *c)
{
    int64_t n = c->size[0] * c->size[1];
    add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INDEX, c->size[0]);
    add_tensor(c, KT_OUTPUT, c->size[0]), add_act(c, KT_OUTPUT, n);
}

static int64_t kv_heads(const kt_case *c)
{
    return c->with.kv_heads > 0 ? c->with.kv_heads : c->size[2];
}

static void shape_attention(kt_case *c)
{
    const int64_t *s = c->size;
    int64_t kv = s[3] / s[2] * kv_heads(c); /* width of keys, and of values */
    int64_t n = s[0] * s[1] * s[3], rows = s[0] * s[1] * s[2];
    int64_t wide = s[0] * s[1] * (s[3] + 2 * kv);
    switch (c->op) {
    case TT_OP_ATTENTION_FORWARD:
        add_act(c, KT_INPUT, wide), add_act(c, KT_OUTPUT, n);
        add_tensor(c, KT_OUTPUT, rows);
        break;
    case TT_OP_ATTENTION_BACKWARD:
        add_act(c, KT_INPUT, wide), add_act(c, KT_INPUT, n), add_tensor(c, KT_INPUT, rows);
        add_act(c, KT_INPUT, n), add_act(c, KT_OUTPUT, wide);
        break;
    default: /* ATTENTION_CACHED: count, position, heads, channels, q_stride */
        add_act(c, KT_INPUT, s[0] * s[4]), add_act(c, KT_INPUT, (s[0] + s[1]) * kv);
        add_act(c, KT_INPUT, (s[0] + s[1]) * kv), add_act(c, KT_OUTPUT, s[0] * s[3]);
        break;
    }
}

static void shape_elements(kt_case *c)
{
    int64_t n = c->size[0];
    switch (c->op) {
    case TT_OP_GELU_FORWARD:
        add_act(c, KT_INPUT, n), add_act(c, KT_OUTPUT, n);
        break;
    case TT_OP_GELU_BACKWARD:
        add_act(c, KT_INPUT, n), add_act(c, KT_INPUT, n), add_act(c, KT_OUTPUT, n);
        break;
    case TT_OP_SWIGLU_FORWARD:
        n *= c->size[1];
        add_act(c, KT_INPUT, 2 * n), add_act(c, KT_OUTPUT, n);
        break;
    case TT_OP_SWIGLU_BACKWARD:
        n *= c->size[1];
        add_act(c, KT_INPUT, 2 * n), add_act(c, KT_INPUT, n), add_act(c, KT_OUTPUT, 2 * n);
        break;
    case TT_OP_ADD:
        add_tensor(c, KT_INPUT, n), add_act(c, KT_INPUT, n), add_tensor(c, KT_OUTPUT, n);
        break;
    case TT_OP_STATS:
        add_tensor(c, KT_INPUT, n), add_tensor(c, KT_RESULT, 2);
        break;
    default: /* ADAMW */
        for (int i = 0; i < 7; i++)
            add_tensor(c, i < 4 ? KT_INPUT : KT_OUTPUT, n);
        add_tensor(c, KT_RESULT, 2);
        break;
    }
}

static void mark_weights(kt_case *c)
{
    if (!c->with.bf16_weights)
        return;
    if (c->op == TT_OP_LINEAR_FORWARD || c->op == TT_OP_LINEAR_DGRAD)
        c->t[1].weight = true;
    else if (c->op == TT_OP_EMBEDDING_FORWARD)
        c->t[1].weight = c->t[2].weight = true;
    else if (c->op == TT_OP_ADAMW)
        c->t[0].weight = c->t[4].weight = true;
}

void kt_shape(kt_case *c)
{
    const int64_t *s = c->size;
    switch (c->op) {
    case TT_OP_LINEAR_FORWARD:
        add_act(c, KT_INPUT, s[0] * s[2]), add_tensor(c, KT_INPUT, s[1] * s[2]);
        add_tensor(c, KT_INPUT, s[1]), add_act(c, KT_OUTPUT, s[0] * s[1]);
        c->t[3].act = !c->with.real_y;
        if (c->with.gelu)
            add_act(c, KT_OUTPUT, s[0] * s[1]);
        break;
    case TT_OP_LINEAR_DGRAD:
        add_act(c, KT_INPUT, s[0] * s[1]), add_tensor(c, KT_INPUT, s[1] * s[2]);
        add_act(c, c->with.accumulate ? KT_BOTH : KT_OUTPUT, s[0] * s[2]);
        if (c->with.gelu)
            add_act(c, KT_INPUT, s[0] * s[2]);
        break;
    case TT_OP_LINEAR_WGRAD:
        add_act(c, KT_INPUT, s[0] * s[1]), add_act(c, KT_INPUT, s[0] * s[2]);
        add_tensor(c, c->with.overwrite ? KT_OUTPUT : KT_BOTH, s[1] * s[2]);
        add_tensor(c, c->with.overwrite ? KT_OUTPUT : KT_BOTH, s[1]);
        break;
    case TT_OP_EMBEDDING_FORWARD:
        add_tensor(c, KT_INDEX, s[0] * s[1]), add_tensor(c, KT_INPUT, s[3] * s[2]);
        add_tensor(c, KT_INPUT, (s[1] + s[4]) * s[2]);
        add_tensor(c, KT_OUTPUT, s[0] * s[1] * s[2]);
        break;
    case TT_OP_EMBEDDING_BACKWARD:
        add_tensor(c, KT_INDEX, s[0] * s[1]), add_tensor(c, KT_INPUT, s[0] * s[1] * s[2]);
        add_tensor(c, KT_BOTH, s[3] * s[2]), add_tensor(c, KT_BOTH, s[1] * s[2]);
        break;
    case TT_OP_LAYERNORM_FORWARD:
    case TT_OP_LAYERNORM_BACKWARD:
    case TT_OP_RMSNORM_FORWARD:
    case TT_OP_RMSNORM_BACKWARD:
        shape_norm(c);
        break;
    case TT_OP_SOFTMAX_XENT:
        shape_softmax(c);
        break;
    case TT_OP_ROPE: /* batch, time, position, heads, size */
        add_act(c, KT_BOTH,
                s[0] * s[1] * s[4] * (s[3] + 2 * (c->with.kv_heads > 0 ? c->with.kv_heads : s[3])));
        break;
    case TT_OP_ATTENTION_FORWARD:
    case TT_OP_ATTENTION_BACKWARD:
    case TT_OP_ATTENTION_CACHED:
        shape_attention(c);
        break;
    default:
        shape_elements(c);
        break;
    }
    mark_weights(c);
}

const int64_t *kt_size(tt_op op)
{
    static const int64_t sizes[TT_OP_COUNT][5] = {
        [TT_OP_LINEAR_FORWARD] = {21, 37, 19},
        [TT_OP_LINEAR_DGRAD] = {21, 37, 19},
        [TT_OP_LINEAR_WGRAD] = {21, 37, 19},
        [TT_OP_EMBEDDING_FORWARD] = {2, 9, 21, 5, 0},
        [TT_OP_EMBEDDING_BACKWARD] = {2, 9, 21, 5},
        [TT_OP_LAYERNORM_FORWARD] = {9, 83},
        [TT_OP_LAYERNORM_BACKWARD] = {9, 83},
        [TT_OP_RMSNORM_FORWARD] = {9, 83},
        [TT_OP_RMSNORM_BACKWARD] = {9, 83},
        [TT_OP_ROPE] = {2, 7, 3, 3, 38},
        [TT_OP_ATTENTION_FORWARD] = {2, 101, 2, 38},
        [TT_OP_ATTENTION_BACKWARD] = {2, 101, 2, 38},
        [TT_OP_ATTENTION_CACHED] = {7, 95, 2, 38, 38},
        [TT_OP_GELU_FORWARD] = {101},
        [TT_OP_GELU_BACKWARD] = {101},
        [TT_OP_SWIGLU_FORWARD] = {5, 37},
        [TT_OP_SWIGLU_BACKWARD] = {5, 37},
        [TT_OP_ADD] = {101},
        [TT_OP_SOFTMAX_XENT] = {9, 101},
        [TT_OP_STATS] = {5001},
        [TT_OP_ADAMW] = {5001},
    };
    return sizes[op];
}

static void build_norm(const kt_case *c, void *const t[], kt_args *a)
{
    const int64_t *s = c->size;
    const kt_options *with = &c->with;
    switch (c->op) {
    case TT_OP_LAYERNORM_FORWARD:
        a->layernorm_forward =
            (tt_layernorm_forward_args){s[0], s[1], t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]};
        if (with->branch && with->in_place)
            a->layernorm_forward.x = t[7];
        break;
    case TT_OP_LAYERNORM_BACKWARD:
        a->layernorm_backward =
            (tt_layernorm_backward_args){s[0],           s[1], t[0], t[1], t[2], t[3],
                                         t[4],           t[5], t[6], t[7], t[8], with->overwrite,
                                         with->overwrite};
        break;
    case TT_OP_RMSNORM_FORWARD:
        a->rmsnorm_forward =
            (tt_rmsnorm_forward_args){s[0], s[1], t[0], t[1], t[2], t[3], t[4], t[5]};
        if (with->branch && with->in_place)
            a->rmsnorm_forward.x = t[5];
        break;
    default: /* RMSNORM_BACKWARD */
        a->rmsnorm_backward = (tt_rmsnorm_backward_args){
            s[0], s[1], t[0], t[1], t[2], t[3], t[4], t[5], t[6], with->overwrite, with->overwrite};
        break;
    }
}

static void build_rows(const kt_case *c, void *const t[], kt_args *a)
{
    const int64_t *s = c->size;
    switch (c->op) {
    case TT_OP_SOFTMAX_XENT:
        a->softmax_xent = (tt_softmax_xent_args){
            s[0], s[1], c->with.in_place ? t[3] : t[0], t[1], t[2], t[3], 0.37};
        break;
    case TT_OP_ROPE:
        a->rope = (tt_rope_args){
            s[0], s[1],  s[2], s[3],           c->with.kv_heads > 0 ? c->with.kv_heads : s[3],
            s[4], 10000, t[0], c->with.inverse};
        break;
    case TT_OP_ATTENTION_FORWARD:
        a->attention_forward =
            (tt_attention_forward_args){s[0], s[1], s[2], s[3], t[0], t[1], t[2], kv_heads(c)};
        break;
    case TT_OP_ATTENTION_BACKWARD:
        a->attention_backward = (tt_attention_backward_args){s[0], s[1], s[2], s[3], t[0],
                                                             t[1], t[2], t[3], t[4], kv_heads(c)};
        break;
    case TT_OP_ATTENTION_CACHED:
        a->attention_cached = (tt_attention_cached_args){s[0], s[1], s[2], s[3], s[4],
                                                         t[0], t[1], t[2], t[3], kv_heads(c)};
        break;
    default:
        build_norm(c, t, a);
        break;
    }
}

static void build_elements(const kt_case *c, void *const t[], kt_results *r, kt_args *a)
{
    int64_t n = c->size[0];
    switch (c->op) {
    case TT_OP_GELU_FORWARD:
        a->gelu_forward = (tt_gelu_forward_args){n, t[0], t[1]};
        break;
    case TT_OP_GELU_BACKWARD:
        a->gelu_backward = (tt_gelu_backward_args){n, t[0], c->with.in_place ? t[2] : t[1], t[2]};
        break;
    case TT_OP_SWIGLU_FORWARD:
        a->swiglu_forward = (tt_swiglu_forward_args){n, c->size[1], t[0], t[1]};
        break;
    case TT_OP_SWIGLU_BACKWARD:
        a->swiglu_backward =
            (tt_swiglu_backward_args){n, c->size[1], c->with.in_place ? t[2] : t[0], t[1], t[2]};
        break;
    case TT_OP_ADD:
        a->add = (tt_add_args){n, c->with.in_place ? t[2] : t[0], t[1], t[2]};
        break;
    case TT_OP_STATS:
        a->stats = (tt_stats_args){.n = n, .x = t[0], .out = &r->stats};
        break;
    default: /* ADAMW, step 3 */
        r->scalars = (tt_step_scalars){
            0.01, 0.9, 0.95, 1e-8, 1 - 0.9 * 0.9 * 0.9, 1 - 0.95 * 0.95 * 0.95, 0.5};
        a->adamw = (tt_adamw_args){n,
                                   c->with.in_place ? t[4] : t[0],
                                   c->with.in_place ? t[5] : t[1],
                                   c->with.in_place ? t[6] : t[2],
                                   t[3],
                                   t[4],
                                   t[5],
                                   t[6],
                                   0.1,
                                   &r->scalars,
                                   &r->verdict,
                                   c->with.bf16_weights ? &r->rounding : NULL};
        r->rounding = (tt_rounding){11, (uint64_t)5 << 40 | 3};
        break;
    }
}

void kt_build(const kt_case *c, void *const t[KT_TENSORS], kt_results *results, kt_args *a)
{
    const int64_t *s = c->size;
    switch (c->op) {
    case TT_OP_LINEAR_FORWARD:
        a->linear_forward = (tt_linear_forward_args){s[0],
                                                     s[1],
                                                     s[2],
                                                     t[0],
                                                     t[1],
                                                     t[2],
                                                     t[3],
                                                     t[4],
                                                     NULL,
                                                     c->with.real_y,
                                                     c->with.bf16_weights};
        break;
    case TT_OP_LINEAR_DGRAD:
        a->linear_dgrad = (tt_linear_dgrad_args){s[0],
                                                 s[1],
                                                 s[2],
                                                 t[0],
                                                 t[1],
                                                 t[2],
                                                 c->with.accumulate,
                                                 t[3],
                                                 NULL,
                                                 c->with.bf16_weights};
        break;
    case TT_OP_LINEAR_WGRAD:
        a->linear_wgrad =
            (tt_linear_wgrad_args){s[0], s[1], s[2], t[0], t[1], t[2], t[3], c->with.overwrite};
        break;
    case TT_OP_EMBEDDING_FORWARD:
        a->embedding_forward = (tt_embedding_forward_args){s[0],
                                                           s[1],
                                                           s[2],
                                                           s[4],
                                                           t[0],
                                                           t[1],
                                                           c->with.placeless ? NULL : t[2],
                                                           t[3],
                                                           c->with.bf16_weights};
        break;
    case TT_OP_EMBEDDING_BACKWARD:
        a->embedding_backward = (tt_embedding_backward_args){
            s[0], s[1], s[2], t[0], t[1], t[2], c->with.placeless ? NULL : t[3]};
        break;
    case TT_OP_GELU_FORWARD:
    case TT_OP_GELU_BACKWARD:
    case TT_OP_SWIGLU_FORWARD:
    case TT_OP_SWIGLU_BACKWARD:
    case TT_OP_ADD:
    case TT_OP_STATS:
    case TT_OP_ADAMW:
        build_elements(c, t, results, a);
        break;
    default:
        build_rows(c, t, a);
        break;
    }
}
