/* The arguments of a case, laid out in tensor memory; its work. */
#include "bench_case.h"

#include <string.h>

/* What a tensor is filled with. */
typedef enum content {
    REAL,     /* from -0.5 to 0.5, the context's type */
    POSITIVE, /* from 0.001 to 1 */
    ACT,      /* as REAL, the type of activations */
    INDEX     /* int32, below a bound */
} content;

enum { ALIGN = 4096, PATTERN = 1 << 16 };

static size_t element(const bench_place *place, content what)
{
    return what == ACT ? tt_dtype_size(place->act) : sizeof(float);
}

static uint32_t hash(uint32_t i)
{
    return (i * 2654435761U) >> 7;
}

/* The i-th element of every tensor of this content. */
static void put(const bench_place *place, content what, int64_t bound, uint32_t i, char *out)
{
    float number = (float)(hash(i) % 1021 + 1) * 1e-3F - (what == POSITIVE ? 0 : 0.5F);
    int32_t index = (int32_t)((int64_t)hash(i) % (bound > 0 ? bound : 1));
    if (what == INDEX) {
        memcpy(out, &index, sizeof index);
    } else if (what == ACT && place->act == TT_BF16) {
        memcpy(out, (const char *)&number + 2, 2); /* little endian: the upper half */
    } else {
        memcpy(out, &number, sizeof number);
    }
}

static void fill(bench_place *place, void *tensor, int64_t count, content what, int64_t bound)
{
    static char pattern[PATTERN * sizeof(float)];
    size_t bytes = element(place, what);
    size_t left = (size_t)count * bytes;
    for (uint32_t i = 0; i < PATTERN; i++) {
        put(place, what, bound, i, pattern + i * bytes);
    }
    for (char *at = tensor; left > 0 && !place->status;) {
        size_t here = left < PATTERN * bytes ? left : PATTERN * bytes;
        place->status = tt_tensor_write(place->filler, at, pattern, here);
        at += here;
        left -= here;
    }
}

static void *take_below(bench_place *place, int64_t count, content what, int64_t bound)
{
    const int index = place->count++;
    if (place->laid_out) {
        return place->base + place->offsets[index];
    }
    size_t bytes = (size_t)count * element(place, what);
    char *tensor = place->base ? place->base + place->used : NULL;
    place->offsets[index] = place->used;
    place->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (tensor && place->filler) {
        fill(place, tensor, count, what, bound);
    }
    return tensor;
}

static void *take(bench_place *place, int64_t count, content what)
{
    return take_below(place, count, what, 0);
}

/* ---- by operation; R and A are the bytes of a real and an activation ---- */

static const double R = sizeof(float);

static void build_linear(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t m = c->size[0], n = c->size[1], k = c->size[2];
    const double A = (double)element(p, ACT), mn = (double)(m * n), nk = (double)(n * k),
                 mk = (double)(m * k);
    *w = (bench_work){.flops = 2 * mn * (double)k, .products = m >= 16};
    if (c->op == TT_OP_LINEAR_FORWARD) {
        g->linear_forward = (tt_linear_forward_args){.m = m,
                                                     .n = n,
                                                     .k = k,
                                                     .x = take(p, m * k, ACT),
                                                     .w = take(p, n * k, REAL),
                                                     .bias = take(p, n, REAL),
                                                     .y = take(p, m * n, ACT)};
        g->linear_forward.gelu = c->gelu ? take(p, m * n, ACT) : NULL;
        w->read = A * mk + R * nk;
        w->written = (c->gelu ? 2 : 1) * A * mn;
    } else if (c->op == TT_OP_LINEAR_DGRAD) {
        g->linear_dgrad = (tt_linear_dgrad_args){.m = m,
                                                 .n = n,
                                                 .k = k,
                                                 .dy = take(p, m * n, ACT),
                                                 .w = take(p, n * k, REAL),
                                                 .dx = take(p, m * k, ACT)};
        g->linear_dgrad.gelu_x = c->gelu ? take(p, m * k, ACT) : NULL;
        w->read = A * mn + R * nk + (c->gelu ? A * mk : 0);
        w->written = A * mk;
    } else {
        g->linear_wgrad = (tt_linear_wgrad_args){.m = m,
                                                 .n = n,
                                                 .k = k,
                                                 .dy = take(p, m * n, ACT),
                                                 .x = take(p, m * k, ACT),
                                                 .dw = take(p, n * k, REAL),
                                                 .dbias = take(p, n, REAL),
                                                 .overwrite = true};
        w->read = A * (mn + mk);
        w->written = R * nk;
    }
}

static void build_embedding(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t batch = c->size[0], time = c->size[1], channels = c->size[2];
    const double elements = (double)(batch * time * channels);
    const void *tokens = take_below(p, batch * time, INDEX, c->size[3]);
    void *rows = take(p, batch * time * channels, REAL);
    void *wte = take(p, c->size[3] * channels, REAL), *wpe = take(p, time * channels, REAL);
    if (c->op == TT_OP_EMBEDDING_FORWARD) {
        g->embedding_forward =
            (tt_embedding_forward_args){batch, time, channels, 0, tokens, wte, wpe, rows, false};
        *w = (bench_work){.flops = elements, .read = R * elements, .written = R * elements};
    } else {
        g->embedding_backward =
            (tt_embedding_backward_args){batch, time, channels, tokens, rows, wte, wpe};
        *w = (bench_work){.flops = 2 * elements, .read = 2 * R * elements, .written = R * elements};
    }
}

/* Forward as in a block: with the residual addition. */
static void build_layernorm(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t rows = c->size[0], n = c->size[1];
    const double A = (double)element(p, ACT), elements = (double)(rows * n);
    if (c->op == TT_OP_LAYERNORM_FORWARD) {
        g->layernorm_forward = (tt_layernorm_forward_args){.rows = rows,
                                                           .channels = n,
                                                           .x = take(p, rows * n, REAL),
                                                           .gamma = take(p, n, REAL),
                                                           .beta = take(p, n, REAL),
                                                           .y = take(p, rows * n, ACT),
                                                           .mean = take(p, rows, REAL),
                                                           .rstd = take(p, rows, POSITIVE),
                                                           .branch = take(p, rows * n, ACT),
                                                           .sum = take(p, rows * n, REAL)};
        *w = (bench_work){
            .flops = 9 * elements, .read = (R + A) * elements, .written = (R + A) * elements};
    } else {
        g->layernorm_backward = (tt_layernorm_backward_args){.rows = rows,
                                                             .channels = n,
                                                             .dy = take(p, rows * n, ACT),
                                                             .x = take(p, rows * n, REAL),
                                                             .gamma = take(p, n, REAL),
                                                             .mean = take(p, rows, REAL),
                                                             .rstd = take(p, rows, POSITIVE),
                                                             .dx = take(p, rows * n, REAL),
                                                             .dgamma = take(p, n, REAL),
                                                             .dbeta = take(p, n, REAL)};
        *w = (bench_work){
            .flops = 15 * elements, .read = (A + 2 * R) * elements, .written = R * elements};
    }
}

static void build_rmsnorm(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t rows = c->size[0], n = c->size[1];
    const double A = (double)element(p, ACT), elements = (double)(rows * n);
    if (c->op == TT_OP_RMSNORM_FORWARD) {
        g->rmsnorm_forward = (tt_rmsnorm_forward_args){.rows = rows,
                                                       .channels = n,
                                                       .x = take(p, rows * n, REAL),
                                                       .gamma = take(p, n, REAL),
                                                       .y = take(p, rows * n, ACT),
                                                       .rstd = take(p, rows, POSITIVE),
                                                       .branch = take(p, rows * n, ACT),
                                                       .sum = take(p, rows * n, REAL)};
        *w = (bench_work){
            .flops = 5 * elements, .read = (R + A) * elements, .written = (R + A) * elements};
    } else {
        g->rmsnorm_backward = (tt_rmsnorm_backward_args){.rows = rows,
                                                         .channels = n,
                                                         .dy = take(p, rows * n, ACT),
                                                         .x = take(p, rows * n, REAL),
                                                         .gamma = take(p, n, REAL),
                                                         .rstd = take(p, rows, POSITIVE),
                                                         .dx = take(p, rows * n, REAL),
                                                         .dgamma = take(p, n, REAL)};
        *w = (bench_work){
            .flops = 11 * elements, .read = (A + 2 * R) * elements, .written = R * elements};
    }
}

static void build_rope(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t *s = c->size;
    const double turned = (double)(s[0] * s[1] * (s[2] + s[3]) * s[4]);
    const double bytes = (double)element(p, ACT) * turned;
    g->rope = (tt_rope_args){.batch = s[0],
                             .time = s[1],
                             .heads = s[2],
                             .kv_heads = s[3],
                             .size = s[4],
                             .theta = 10000,
                             .qkv = take(p, s[0] * s[1] * (s[2] + 2 * s[3]) * s[4], ACT)};
    *w = (bench_work){.flops = 3 * turned, .read = bytes, .written = bytes};
}

/* The causal half counts: two products forward, five backward. */
static void build_attention(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t *s = c->size;
    const int64_t rows = s[0] * s[1], out = rows * s[2] * s[4],
                  qkv = rows * (s[2] + 2 * s[3]) * s[4];
    const double A = (double)element(p, ACT), pairs = (double)out * (double)(s[1] + 1);
    if (c->op == TT_OP_ATTENTION_FORWARD) {
        g->attention_forward = (tt_attention_forward_args){.batch = s[0],
                                                           .time = s[1],
                                                           .heads = s[2],
                                                           .channels = s[2] * s[4],
                                                           .qkv = take(p, qkv, ACT),
                                                           .out = take(p, out, ACT),
                                                           .lse = take(p, rows * s[2], POSITIVE),
                                                           .kv_heads = s[3]};
        *w = (bench_work){.flops = 2 * pairs,
                          .read = A * (double)qkv,
                          .written = A * (double)out,
                          .products = true};
    } else {
        g->attention_backward = (tt_attention_backward_args){.batch = s[0],
                                                             .time = s[1],
                                                             .heads = s[2],
                                                             .channels = s[2] * s[4],
                                                             .qkv = take(p, qkv, ACT),
                                                             .out = take(p, out, ACT),
                                                             .lse = take(p, rows * s[2], POSITIVE),
                                                             .dout = take(p, out, ACT),
                                                             .dqkv = take(p, qkv, ACT),
                                                             .kv_heads = s[3]};
        *w = (bench_work){.flops = 5 * pairs,
                          .read = A * (double)(qkv + 2 * out),
                          .written = A * (double)qkv,
                          .products = true};
    }
}

static void build_attention_cached(const bench_case *c, bench_place *p, bench_args *g,
                                   bench_work *w)
{
    const int64_t *s = c->size;
    const int64_t channels = s[2] * s[4], kept = (s[1] + s[0]) * s[3] * s[4];
    const double A = (double)element(p, ACT), queries = (double)(s[0] * channels);
    g->attention_cached = (tt_attention_cached_args){.count = s[0],
                                                     .position = s[1],
                                                     .heads = s[2],
                                                     .channels = channels,
                                                     .q_stride = channels,
                                                     .q = take(p, s[0] * channels, ACT),
                                                     .keys = take(p, kept, ACT),
                                                     .values = take(p, kept, ACT),
                                                     .out = take(p, s[0] * channels, ACT),
                                                     .kv_heads = s[3]};
    *w = (bench_work){.flops = 4 * queries * (double)(s[1] + 1),
                      .read = A * (queries + 2 * (double)kept),
                      .written = A * queries};
}

static void build_gelu(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t n = c->size[0];
    const double bytes = (double)element(p, ACT) * (double)n;
    const void *x = take(p, n, ACT);
    if (c->op == TT_OP_GELU_FORWARD) {
        g->gelu_forward = (tt_gelu_forward_args){n, x, take(p, n, ACT)};
        *w = (bench_work){.flops = 11 * (double)n, .read = bytes, .written = bytes};
    } else {
        const void *dy = take(p, n, ACT);
        g->gelu_backward = (tt_gelu_backward_args){n, x, dy, take(p, n, ACT)};
        *w = (bench_work){.flops = 19 * (double)n, .read = 2 * bytes, .written = bytes};
    }
}

static void build_swiglu(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t rows = c->size[0], width = c->size[1], n = rows * width;
    const double bytes = (double)element(p, ACT) * (double)n;
    const void *x = take(p, 2 * n, ACT);
    if (c->op == TT_OP_SWIGLU_FORWARD) {
        g->swiglu_forward = (tt_swiglu_forward_args){rows, width, x, take(p, n, ACT)};
        *w = (bench_work){.flops = 5 * (double)n, .read = 2 * bytes, .written = bytes};
    } else {
        const void *dy = take(p, n, ACT);
        g->swiglu_backward = (tt_swiglu_backward_args){rows, width, x, dy, take(p, 2 * n, ACT)};
        *w = (bench_work){.flops = 11 * (double)n, .read = 3 * bytes, .written = 2 * bytes};
    }
}

static void build_add(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t n = c->size[0];
    const double A = (double)element(p, ACT), elements = (double)n;
    g->add =
        (tt_add_args){.n = n, .a = take(p, n, REAL), .b = take(p, n, ACT), .out = take(p, n, REAL)};
    *w = (bench_work){.flops = elements, .read = (R + A) * elements, .written = R * elements};
}

static void build_softmax_xent(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    const int64_t rows = c->size[0], vocab = c->size[1];
    const double A = (double)element(p, ACT), elements = (double)(rows * vocab);
    g->softmax_xent = (tt_softmax_xent_args){.rows = rows,
                                             .vocab = vocab,
                                             .logits = take(p, rows * vocab, REAL),
                                             .targets = take_below(p, rows, INDEX, vocab),
                                             .losses = take(p, rows, REAL),
                                             .dlogits = take(p, rows * vocab, ACT),
                                             .scale = 1.0 / (double)rows};
    *w = (bench_work){.flops = 6 * elements, .read = R * elements, .written = A * elements};
}

static void build_stats(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    static tt_tensor_stats found;
    const double elements = (double)c->size[0];
    g->stats = (tt_stats_args){c->size[0], take(p, c->size[0], REAL), &found, false};
    *w = (bench_work){.flops = 2 * elements, .read = R * elements};
}

static void build_adamw(const bench_case *c, bench_place *p, bench_args *g, bench_work *w)
{
    static tt_verdict verdict;
    static const tt_step_scalars scalars = {1e-3, 0.9, 0.95, 1e-8, 0.5, 0.5, 1};
    const int64_t n = c->size[0];
    g->adamw = (tt_adamw_args){.n = n,
                               .p = take(p, n, REAL),
                               .m = take(p, n, REAL),
                               .v = take(p, n, POSITIVE),
                               .g = take(p, n, REAL),
                               .p_next = take(p, n, REAL),
                               .m_next = take(p, n, REAL),
                               .v_next = take(p, n, POSITIVE),
                               .weight_decay = 0.1,
                               .scalars = &scalars,
                               .verdict = &verdict};
    *w = (bench_work){
        .flops = 17 * (double)n, .read = 4 * R * (double)n, .written = 3 * R * (double)n};
}

static void run_builder(const bench_case *c, bench_place *place, bench_args *args, bench_work *work)
{
    static void (*const builders[TT_OP_COUNT])(const bench_case *, bench_place *, bench_args *,
                                               bench_work *) = {
        [TT_OP_LINEAR_FORWARD] = build_linear,
        [TT_OP_LINEAR_DGRAD] = build_linear,
        [TT_OP_LINEAR_WGRAD] = build_linear,
        [TT_OP_EMBEDDING_FORWARD] = build_embedding,
        [TT_OP_EMBEDDING_BACKWARD] = build_embedding,
        [TT_OP_LAYERNORM_FORWARD] = build_layernorm,
        [TT_OP_LAYERNORM_BACKWARD] = build_layernorm,
        [TT_OP_RMSNORM_FORWARD] = build_rmsnorm,
        [TT_OP_RMSNORM_BACKWARD] = build_rmsnorm,
        [TT_OP_ROPE] = build_rope,
        [TT_OP_ATTENTION_FORWARD] = build_attention,
        [TT_OP_ATTENTION_BACKWARD] = build_attention,
        [TT_OP_ATTENTION_CACHED] = build_attention_cached,
        [TT_OP_GELU_FORWARD] = build_gelu,
        [TT_OP_GELU_BACKWARD] = build_gelu,
        [TT_OP_SWIGLU_FORWARD] = build_swiglu,
        [TT_OP_SWIGLU_BACKWARD] = build_swiglu,
        [TT_OP_ADD] = build_add,
        [TT_OP_SOFTMAX_XENT] = build_softmax_xent,
        [TT_OP_STATS] = build_stats,
        [TT_OP_ADAMW] = build_adamw,
    };
    place->count = 0;
    builders[c->op](c, place, args, work);
}

void bench_case_lay_out(const bench_case *c, bench_place *place, bench_args *args, bench_work *work)
{
    place->laid_out = false;
    place->used = 0;
    place->status = TT_OK;
    run_builder(c, place, args, work);
}

void bench_case_build(const bench_case *c, const bench_place *place, bench_args *args,
                      bench_work *work)
{
    bench_place again = *place;
    again.laid_out = true;
    run_builder(c, &again, args, work);
}
