/* kernels_bench: time per operation and variant on GPT shapes, beside what the machine can do.
 *
 *     kernels_bench [--json] [--threads N] [--op NAME] [--rounds N]
 *
 * All variants of an operation are timed in turn, round by round, so that a drifting clock meets
 * all of them; medians count. The peaks (multiply-adds from registers, copying of memory) are
 * measured in the same rounds. The slow references run on a part of the shape (1/scale). */
#include <getopt.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <trimtab/kernels.h>

enum { MAX_ENTRIES = 64, MAX_ROUNDS = 101, TENSORS = 8, TILES = 6 };

static const tt_tile tiles[TILES] = {{32, 32, 32},    {64, 64, 64},    {64, 256, 256},
                                     {128, 512, 256}, {256, 512, 256}, {512, 512, 512}};

typedef struct shape {
    tt_op op;
    int64_t a, b, c, d;
} shape;

/* examples/quickstart.yaml (128 channels, 512 rows, sequences of 64), examples/gpt-10m.yaml (384
 * channels, 2,048 rows, sequences of 256), and some of GPT-2's (768 channels, 50,257 tokens). */
static const shape shapes[] = {
    {TT_OP_LINEAR_FORWARD, 512, 384, 128, 0},
    {TT_OP_LINEAR_FORWARD, 512, 128, 512, 0},
    {TT_OP_LINEAR_DGRAD, 512, 384, 128, 0},
    {TT_OP_LINEAR_DGRAD, 512, 128, 512, 0},
    {TT_OP_LINEAR_WGRAD, 512, 384, 128, 0},
    {TT_OP_LINEAR_WGRAD, 512, 128, 512, 0},
    {TT_OP_ATTENTION_FORWARD, 8, 64, 4, 128},
    {TT_OP_ATTENTION_BACKWARD, 8, 64, 4, 128},
    {TT_OP_LAYERNORM_FORWARD, 512, 128, 0, 0},
    {TT_OP_LAYERNORM_BACKWARD, 512, 128, 0, 0},
    {TT_OP_GELU_FORWARD, 512 * 512, 0, 0, 0},
    {TT_OP_GELU_BACKWARD, 512 * 512, 0, 0, 0},
    {TT_OP_SOFTMAX_XENT, 512, 256, 0, 0},
    {TT_OP_STATS, 830000, 0, 0, 0},
    {TT_OP_ADAMW, 830000, 0, 0, 0},
    {TT_OP_LINEAR_FORWARD, 2048, 1152, 384, 0},
    {TT_OP_LINEAR_FORWARD, 2048, 384, 1536, 0},
    {TT_OP_LINEAR_FORWARD, 256, 2304, 768, 0},
    {TT_OP_LINEAR_FORWARD, 1, 1536, 384, 0},
    {TT_OP_LINEAR_DGRAD, 2048, 1152, 384, 0},
    {TT_OP_LINEAR_DGRAD, 2048, 384, 1536, 0},
    {TT_OP_LINEAR_WGRAD, 2048, 1152, 384, 0},
    {TT_OP_LINEAR_WGRAD, 2048, 384, 1536, 0},
    {TT_OP_ATTENTION_FORWARD, 8, 256, 6, 384},
    {TT_OP_ATTENTION_BACKWARD, 8, 256, 6, 384},
    {TT_OP_ATTENTION_CACHED, 1, 255, 6, 384},
    {TT_OP_LAYERNORM_FORWARD, 2048, 384, 0, 0},
    {TT_OP_LAYERNORM_BACKWARD, 2048, 384, 0, 0},
    {TT_OP_GELU_FORWARD, 2048 * 1536, 0, 0, 0},
    {TT_OP_GELU_BACKWARD, 2048 * 1536, 0, 0, 0},
    {TT_OP_ADD, 2048 * 384, 0, 0, 0},
    {TT_OP_SOFTMAX_XENT, 2048, 256, 0, 0},
    {TT_OP_SOFTMAX_XENT, 256, 50257, 0, 0},
    {TT_OP_EMBEDDING_FORWARD, 8, 256, 384, 256},
    {TT_OP_EMBEDDING_BACKWARD, 8, 256, 384, 256},
    {TT_OP_STATS, 10800000, 0, 0, 0},
    {TT_OP_ADAMW, 10800000, 0, 0, 0},
    {TT_OP_ADAMW, 150000, 0, 0, 0},
};

typedef union bench_args {
    tt_linear_forward_args linear_forward;
    tt_linear_dgrad_args linear_dgrad;
    tt_linear_wgrad_args linear_wgrad;
    tt_embedding_forward_args embedding_forward;
    tt_embedding_backward_args embedding_backward;
    tt_layernorm_forward_args layernorm_forward;
    tt_layernorm_backward_args layernorm_backward;
    tt_attention_forward_args attention_forward;
    tt_attention_backward_args attention_backward;
    tt_attention_cached_args attention_cached;
    tt_gelu_forward_args gelu_forward;
    tt_gelu_backward_args gelu_backward;
    tt_add_args add;
    tt_softmax_xent_args softmax_xent;
    tt_stats_args stats;
    tt_adamw_args adamw;
} bench_args;

/* What an operation does: floating-point operations (multiply-adds count two; 0 where memory is
 * what counts) and bytes that must move. */
typedef struct work {
    double flops, bytes;
} work;

typedef struct bench {
    tt_context *context;
    char *memory; /* TENSORS tensors of `stride` bytes, and a spare one */
    size_t stride;
    int threads, rounds;
    bool json, first;
} bench;

static double now(void)
{
    tt_clock clock = tt_clock_monotonic();
    return (double)tt_clock_now(&clock) * 1e-9;
}

static void *tensor(const bench *b, int index)
{
    return b->memory + (size_t)index * b->stride;
}

static tt_tensor_stats stats_out;
static tt_verdict verdict;
static const tt_step_scalars scalars = {1e-3, 0.9, 0.95, 1e-8, 0.5, 0.5, 1};

/* The arguments, at 1/scale of the shape's first size (for attention: of the heads' batch). */
static work build(const bench *b, const shape *s, int64_t scale, bench_args *g)
{
    void *t[TENSORS];
    for (int i = 0; i < TENSORS; i++)
        t[i] = tensor(b, i);
    int64_t first = s->a / scale > 0 ? s->a / scale : 1;
    double n = (double)first, rows = n * (double)s->b;
    switch (s->op) {
    case TT_OP_LINEAR_FORWARD:
        g->linear_forward = (tt_linear_forward_args){
            .m = first, .n = s->b, .k = s->c, .x = t[0], .w = t[1], .bias = t[2], .y = t[3]};
        break;
    case TT_OP_LINEAR_DGRAD:
        g->linear_dgrad = (tt_linear_dgrad_args){
            .m = first, .n = s->b, .k = s->c, .dy = t[0], .w = t[1], .dx = t[2]};
        break;
    case TT_OP_LINEAR_WGRAD:
        g->linear_wgrad = (tt_linear_wgrad_args){
            .m = first, .n = s->b, .k = s->c, .dy = t[0], .x = t[1], .dw = t[2], .dbias = t[3]};
        break;
    case TT_OP_ATTENTION_FORWARD: /* the causal half */
        g->attention_forward =
            (tt_attention_forward_args){first, s->b, s->c, s->d, t[0], t[1], t[2], s->c};
        return (work){2 * rows * (double)(s->b + 1) * (double)s->d, 0};
    case TT_OP_ATTENTION_BACKWARD:
        g->attention_backward = (tt_attention_backward_args){first, s->b, s->c, s->d, t[0],
                                                             t[1],  t[2], t[3], t[4], s->c};
        return (work){5 * rows * (double)(s->b + 1) * (double)s->d, 0};
    case TT_OP_ATTENTION_CACHED:
        g->attention_cached =
            (tt_attention_cached_args){first, s->b, s->c, s->d, s->d, t[0], t[1], t[2], t[3], s->c};
        return (work){0, 8 * (double)(s->b + 1) * (double)s->d};
    case TT_OP_LAYERNORM_FORWARD:
        g->layernorm_forward = (tt_layernorm_forward_args){.rows = first,
                                                           .channels = s->b,
                                                           .x = t[0],
                                                           .gamma = t[1],
                                                           .beta = t[2],
                                                           .y = t[3],
                                                           .mean = t[4],
                                                           .rstd = t[5]};
        return (work){0, 8 * rows};
    case TT_OP_LAYERNORM_BACKWARD:
        g->layernorm_backward = (tt_layernorm_backward_args){.rows = first,
                                                             .channels = s->b,
                                                             .dy = t[0],
                                                             .x = t[1],
                                                             .gamma = t[2],
                                                             .mean = t[3],
                                                             .rstd = t[4],
                                                             .dx = t[5],
                                                             .dgamma = t[6],
                                                             .dbeta = t[7]};
        return (work){0, 16 * rows};
    case TT_OP_GELU_FORWARD:
        g->gelu_forward = (tt_gelu_forward_args){first, t[0], t[1]};
        return (work){0, 8 * n};
    case TT_OP_GELU_BACKWARD:
        g->gelu_backward = (tt_gelu_backward_args){first, t[0], t[1], t[2]};
        return (work){0, 12 * n};
    case TT_OP_ADD:
        g->add = (tt_add_args){first, t[0], t[1], t[2]};
        return (work){0, 12 * n};
    case TT_OP_SOFTMAX_XENT:
        g->softmax_xent = (tt_softmax_xent_args){first, s->b, t[0], t[4], t[1], t[2], 1e-3};
        return (work){0, 8 * rows};
    case TT_OP_EMBEDDING_FORWARD:
        g->embedding_forward =
            (tt_embedding_forward_args){first, s->b, s->c, 0, t[4], t[0], t[1], t[2]};
        return (work){0, 12 * rows * (double)s->c};
    case TT_OP_EMBEDDING_BACKWARD:
        g->embedding_backward =
            (tt_embedding_backward_args){first, s->b, s->c, t[4], t[0], t[1], t[2]};
        return (work){0, 20 * rows * (double)s->c};
    case TT_OP_STATS:
        g->stats = (tt_stats_args){first, t[0], &stats_out};
        return (work){0, 4 * n};
    default:
        g->adamw = (tt_adamw_args){first, t[0], t[1], t[2],     t[3],    t[5],
                                   t[6],  t[7], 0.1,  &scalars, &verdict};
        return (work){0, 28 * n};
    }
    return (work){2 * n * (double)s->b * (double)s->c, 0};
}

/* Small positive values everywhere: valid second moments and rstd; t[4] doubles as token and target
 * indices (the bits of zero). */
static void fill(const bench *b)
{
    size_t n = b->stride / sizeof(float);
    float *host = malloc(b->stride);
    if (host == NULL)
        return;
    for (int t = 0; t < TENSORS; t++) {
        for (size_t i = 0; i < n; i++)
            host[i] = t == 4 ? 0 : (float)((i * 2654435761u + (size_t)t) % 1021) * 1e-3f;
        (void)tt_tensor_write(b->context, tensor(b, t), host, b->stride);
    }
    free(host);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2]; /* sorted: values[0] is the best */
}

#if defined(__x86_64__)
/* Independent chains of multiply-adds in registers; returns the operations done. */
__attribute__((target("avx512f"))) static double chains_v4(long turns)
{
    __m512 sum[12], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < 12; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (long turn = 0; turn < turns; turn++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            sum[i] = _mm512_fmadd_ps(sum[i], x, y);
    for (int i = 1; i < 12; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    __asm__ volatile("" : : "x"(sum[0]));
    return (double)turns * 12 * 16 * 2;
}

__attribute__((target("avx2,fma"))) static double chains_v3(long turns)
{
    __m256 sum[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < 12; i++)
        sum[i] = _mm256_set1_ps((float)i);
    for (long turn = 0; turn < turns; turn++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            sum[i] = _mm256_fmadd_ps(sum[i], x, y);
    for (int i = 1; i < 12; i++)
        sum[0] = _mm256_add_ps(sum[0], sum[i]);
    __asm__ volatile("" : : "x"(sum[0]));
    return (double)turns * 12 * 8 * 2;
}
#endif

/* Multiply-adds per second of all threads together; NAN where it cannot be measured. */
static double peak_flops(int threads, tt_isa isa)
{
    double done = 0, begin = now();
    (void)isa;
#if defined(__x86_64__)
#pragma omp parallel num_threads(threads) reduction(+ : done)
    done += isa == TT_ISA_X86_64_V4 ? chains_v4(200000) : chains_v3(200000);
#else
    (void)threads;
#endif
    return done > 0 ? done / (now() - begin) : NAN;
}

/* Bytes read and written per second by copying the first tensor into a spare one. */
static double peak_copy(const bench *b)
{
    size_t part = b->stride / 64;
    double begin = now();
#pragma omp parallel for num_threads(b->threads) schedule(static)
    for (size_t i = 0; i < 64; i++)
        memcpy((char *)tensor(b, TENSORS) + i * part, (char *)tensor(b, 0) + i * part, part);
    return 2 * (double)b->stride / (now() - begin);
}

/* One thing that is timed: a variant, with a tile where that matters. */
typedef struct entry {
    const tt_variant_info *info;
    int tile; /* -1: untiled */
    int64_t scale;
    work work;
    double seconds[MAX_ROUNDS];
} entry;

static int list_entries(const shape *s, entry *entries)
{
    int count = 0;
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (info->op != s->op || info->dtype != TT_F32 || !tt_variant_available(info))
            continue;
        for (int tile = info->tiled ? 0 : -1; tile < (info->tiled ? TILES : 0); tile++)
            if (count < MAX_ENTRIES)
                entries[count++] = (entry){.info = info, .tile = tile, .scale = 1};
    }
    return count;
}

static double run_entry(const bench *b, const shape *s, entry *e)
{
    bench_args args;
    e->work = build(b, s, e->scale, &args);
    (void)tt_context_set_variant(b->context, s->op, e->info->name);
    if (e->tile >= 0)
        (void)tt_context_set_tile(b->context, tiles[e->tile]);
    double begin = now();
    tt_status status = tt_op_run(b->context, s->op, &args);
    double seconds = now() - begin;
    if (status != TT_OK)
        fprintf(stderr, "%s %s: %s\n", tt_op_name(s->op), e->info->name, tt_error_message());
    return status == TT_OK ? seconds : NAN;
}

static double rate(const entry *e, double seconds)
{
    return (e->work.flops > 0 ? e->work.flops : e->work.bytes) / seconds * 1e-9;
}

static void report(bench *b, const shape *s, entry *e, double reference, double peak)
{
    char tile[32] = "-";
    double seconds = median(e->seconds, b->rounds), best = e->seconds[0], r = rate(e, seconds);
    const char *unit = e->work.flops > 0 ? "GFLOP/s" : "GB/s";
    if (e->tile >= 0)
        snprintf(tile, sizeof tile, "%dx%dx%d", tiles[e->tile].m, tiles[e->tile].n,
                 tiles[e->tile].k);
    if (b->json) {
        printf("%s\n    {\"op\": \"%s\", \"shape\": [%lld, %lld, %lld, %lld], \"variant\": \"%s\", "
               "\"tile\": \"%s\", \"scale\": %lld, \"seconds\": %.9g, \"best_seconds\": %.9g, "
               "\"rate\": %.6g, "
               "\"unit\": \"%s\", \"of_peak\": %.4g, \"over_reference\": %.5g}",
               b->first ? "" : ",", tt_op_name(s->op), (long long)s->a, (long long)s->b,
               (long long)s->c, (long long)s->d, e->info->name, tile, (long long)e->scale, seconds,
               best, r, unit, r / peak, r / reference);
        b->first = false;
        return;
    }
    printf(
        "%-18s %8lld %6lld %5lld %4lld  %-11s %-11s %10.1f us (best %10.1f) %8.1f %-7s %5.1f %% %8.1fx\n",
        tt_op_name(s->op), (long long)s->a, (long long)s->b, (long long)s->c, (long long)s->d,
        e->info->name, tile, seconds * 1e6, best * 1e6, r, unit, 100 * r / peak, r / reference);
}

static void bench_shape(bench *b, const shape *s, double *flops, double *copy)
{
    static entry entries[MAX_ENTRIES];
    double peaks[MAX_ROUNDS], copies[MAX_ROUNDS];
    fill(b);
    int count = list_entries(s, entries);
    tt_isa isa = tt_isa_available(TT_ISA_X86_64_V4) ? TT_ISA_X86_64_V4 : TT_ISA_X86_64_V3;
    for (int i = 0; i < count; i++) { /* warm up; shrink what would take more than a second */
        if (strcmp(entries[i].info->name, "reference") == 0 && s->a >= 256)
            entries[i].scale = s->a / 64 > 64 ? 64 : s->a / 64;
        else if (strcmp(entries[i].info->name, "reference") == 0)
            entries[i].scale = s->a;
        (void)run_entry(b, s, &entries[i]);
    }
    for (int round = 0; round < b->rounds; round++) {
        peaks[round] = tt_isa_available(isa) ? peak_flops(b->threads, isa) : NAN;
        copies[round] = peak_copy(b);
        for (int i = 0; i < count; i++)
            entries[i].seconds[round] = run_entry(b, s, &entries[i]);
    }
    *flops = median(peaks, b->rounds);
    *copy = median(copies, b->rounds);
    double reference = rate(&entries[0], median(entries[0].seconds, b->rounds));
    for (int i = 0; i < count; i++)
        report(b, s, &entries[i], reference, (entries[i].work.flops > 0 ? *flops : *copy) * 1e-9);
}

static int parse(int argc, char **argv, bench *b, const char **op)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"op", required_argument, NULL, 'o'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'j')
            b->json = true;
        else if (c == 't')
            b->threads = (int)strtol(optarg, NULL, 10);
        else if (c == 'o')
            *op = optarg;
        else if (c == 'r')
            b->rounds = (int)strtol(optarg, NULL, 10);
        else
            return 2;
    }
    return b->rounds < 1 || b->rounds > MAX_ROUNDS || b->threads < 0 || optind < argc ? 2 : 0;
}

int main(int argc, char **argv)
{
    bench b = {.rounds = 7, .first = true, .stride = (size_t)56 << 20};
    const char *op = NULL;
    double flops = NAN, copy = NAN;
    void *memory = NULL;
    tt_context_options options;
    if (parse(argc, argv, &b, &op) != 0) {
        fprintf(stderr, "usage: kernels_bench [--json] [--threads N] [--op NAME] [--rounds N]\n");
        return 2;
    }
    tt_context_options_init(&options);
    options.threads = b.threads;
    options.tensor_bytes = b.stride * (TENSORS + 1);
    if (tt_context_create(&options, &b.context) != TT_OK ||
        tt_tensor_alloc(b.context, b.stride * (TENSORS + 1), &memory) != TT_OK) {
        fprintf(stderr, "%s\n", tt_error_message());
        return 70;
    }
    b.memory = memory;
    b.threads = tt_context_threads(b.context);
    if (b.json)
        printf("{\"threads\": %d, \"results\": [", b.threads);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (op == NULL || strcmp(op, tt_op_name(shapes[i].op)) == 0)
            bench_shape(&b, &shapes[i], &flops, &copy);
    }
    if (b.json)
        printf("\n], \"fma_gflops\": %.5g, \"copy_gbs\": %.5g}\n", flops * 1e-9, copy * 1e-9);
    else
        printf("measured peaks, %d threads: %.1f GFLOP/s multiply-add, %.1f GB/s copy\n", b.threads,
               flops * 1e-9, copy * 1e-9);
    tt_context_destroy(b.context);
    return 0;
}
