/* The operations' tensors and argument structs. */
#include "fixture.h"

static void add_tensor(kt_case *c, kt_kind kind, int64_t n)
{
    c->t[c->count++] = (kt_tensor){kind, n, NULL};
}

static void shape_rows(kt_case *c)
{
    const int64_t *s = c->size;
    int64_t n = s[0] * s[1];
    switch (c->op) {
    case TT_OP_LAYERNORM_FORWARD:
        add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INPUT, s[1]), add_tensor(c, KT_INPUT, s[1]);
        add_tensor(c, KT_OUTPUT, n), add_tensor(c, KT_OUTPUT, s[0]);
        add_tensor(c, KT_OUTPUT, s[0]);
        break;
    case TT_OP_LAYERNORM_BACKWARD:
        add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INPUT, s[1]);
        add_tensor(c, KT_INPUT, s[0]), add_tensor(c, KT_INPUT, s[0]), add_tensor(c, KT_BOTH, n);
        add_tensor(c, KT_BOTH, s[1]), add_tensor(c, KT_BOTH, s[1]);
        break;
    default: /* SOFTMAX_XENT */
        add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INDEX, s[0]);
        add_tensor(c, KT_OUTPUT, s[0]), add_tensor(c, KT_OUTPUT, n);
        break;
    }
}

static void shape_attention(kt_case *c)
{
    const int64_t *s = c->size;
    int64_t n = s[0] * s[1] * s[3], rows = s[0] * s[1] * s[2];
    switch (c->op) {
    case TT_OP_ATTENTION_FORWARD:
        add_tensor(c, KT_INPUT, 3 * n), add_tensor(c, KT_OUTPUT, n);
        add_tensor(c, KT_OUTPUT, rows);
        break;
    case TT_OP_ATTENTION_BACKWARD:
        add_tensor(c, KT_INPUT, 3 * n), add_tensor(c, KT_INPUT, n), add_tensor(c, KT_INPUT, rows);
        add_tensor(c, KT_INPUT, n), add_tensor(c, KT_OUTPUT, 3 * n);
        break;
    default: /* ATTENTION_CACHED: count, position, heads, channels, q_stride */
        add_tensor(c, KT_INPUT, s[0] * s[4]), add_tensor(c, KT_INPUT, (s[0] + s[1]) * s[3]);
        add_tensor(c, KT_INPUT, (s[0] + s[1]) * s[3]), add_tensor(c, KT_OUTPUT, s[0] * s[3]);
        break;
    }
}

static void shape_elements(kt_case *c)
{
    int64_t n = c->size[0];
    int inputs = c->op == TT_OP_ADAMW ? 4 : c->op == TT_OP_GELU_FORWARD ? 1 : 2;
    if (c->op == TT_OP_STATS)
        inputs = 1;
    for (int i = 0; i < inputs; i++)
        add_tensor(c, KT_INPUT, n);
    for (int i = 0; i < (c->op == TT_OP_ADAMW ? 3 : c->op == TT_OP_STATS ? 0 : 1); i++)
        add_tensor(c, KT_OUTPUT, n);
    if (c->op == TT_OP_ADAMW || c->op == TT_OP_STATS)
        add_tensor(c, KT_RESULT, 2);
}

void kt_shape(kt_case *c)
{
    const int64_t *s = c->size;
    switch (c->op) {
    case TT_OP_LINEAR_FORWARD:
        add_tensor(c, KT_INPUT, s[0] * s[2]), add_tensor(c, KT_INPUT, s[1] * s[2]);
        add_tensor(c, KT_INPUT, s[1]), add_tensor(c, KT_OUTPUT, s[0] * s[1]);
        break;
    case TT_OP_LINEAR_DGRAD:
        add_tensor(c, KT_INPUT, s[0] * s[1]), add_tensor(c, KT_INPUT, s[1] * s[2]);
        add_tensor(c, KT_BOTH, s[0] * s[2]);
        break;
    case TT_OP_LINEAR_WGRAD:
        add_tensor(c, KT_INPUT, s[0] * s[1]), add_tensor(c, KT_INPUT, s[0] * s[2]);
        add_tensor(c, KT_BOTH, s[1] * s[2]), add_tensor(c, KT_BOTH, s[1]);
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
    case TT_OP_SOFTMAX_XENT:
        shape_rows(c);
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
}

static void build_rows(const kt_case *c, void *const t[], kt_args *a)
{
    const int64_t *s = c->size;
    switch (c->op) {
    case TT_OP_LAYERNORM_FORWARD:
        a->layernorm_forward =
            (tt_layernorm_forward_args){s[0], s[1], t[0], t[1], t[2], t[3], t[4], t[5]};
        break;
    case TT_OP_LAYERNORM_BACKWARD:
        a->layernorm_backward = (tt_layernorm_backward_args){s[0], s[1], t[0], t[1], t[2],
                                                             t[3], t[4], t[5], t[6], t[7]};
        break;
    case TT_OP_SOFTMAX_XENT:
        a->softmax_xent =
            (tt_softmax_xent_args){s[0], s[1], c->in_place ? t[3] : t[0], t[1], t[2], t[3], 0.37};
        break;
    case TT_OP_ATTENTION_FORWARD:
        a->attention_forward =
            (tt_attention_forward_args){s[0], s[1], s[2], s[3], t[0], t[1], t[2]};
        break;
    case TT_OP_ATTENTION_BACKWARD:
        a->attention_backward =
            (tt_attention_backward_args){s[0], s[1], s[2], s[3], t[0], t[1], t[2], t[3], t[4]};
        break;
    default: /* ATTENTION_CACHED */
        a->attention_cached =
            (tt_attention_cached_args){s[0], s[1], s[2], s[3], s[4], t[0], t[1], t[2], t[3]};
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
        a->gelu_backward = (tt_gelu_backward_args){n, t[0], c->in_place ? t[2] : t[1], t[2]};
        break;
    case TT_OP_ADD:
        a->add = (tt_add_args){n, t[0], c->in_place ? t[2] : t[1], t[2]};
        break;
    case TT_OP_STATS:
        a->stats = (tt_stats_args){n, t[0], &r->stats};
        break;
    default: /* ADAMW, step 3 */
        r->scalars = (tt_step_scalars){
            0.01, 0.9, 0.95, 1e-8, 1 - 0.9 * 0.9 * 0.9, 1 - 0.95 * 0.95 * 0.95, 0.5};
        a->adamw = (tt_adamw_args){n,
                                   c->in_place ? t[4] : t[0],
                                   c->in_place ? t[5] : t[1],
                                   c->in_place ? t[6] : t[2],
                                   t[3],
                                   t[4],
                                   t[5],
                                   t[6],
                                   0.1,
                                   &r->scalars,
                                   &r->verdict};
        break;
    }
}

void kt_build(const kt_case *c, void *const t[KT_TENSORS], kt_results *results, kt_args *a)
{
    const int64_t *s = c->size;
    switch (c->op) {
    case TT_OP_LINEAR_FORWARD:
        a->linear_forward = (tt_linear_forward_args){s[0], s[1], s[2], t[0], t[1], t[2], t[3]};
        break;
    case TT_OP_LINEAR_DGRAD:
        a->linear_dgrad = (tt_linear_dgrad_args){s[0], s[1], s[2], t[0], t[1], t[2], c->accumulate};
        break;
    case TT_OP_LINEAR_WGRAD:
        a->linear_wgrad = (tt_linear_wgrad_args){s[0], s[1], s[2], t[0], t[1], t[2], t[3]};
        break;
    case TT_OP_EMBEDDING_FORWARD:
        a->embedding_forward =
            (tt_embedding_forward_args){s[0], s[1], s[2], s[4], t[0], t[1], t[2], t[3]};
        break;
    case TT_OP_EMBEDDING_BACKWARD:
        a->embedding_backward =
            (tt_embedding_backward_args){s[0], s[1], s[2], t[0], t[1], t[2], t[3]};
        break;
    case TT_OP_GELU_FORWARD:
    case TT_OP_GELU_BACKWARD:
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
