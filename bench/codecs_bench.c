/* codecs_bench: time per codec, operation and variant, beside copying and reading memory.
 *
 *     codecs_bench [--json] [--threads N] [--n ELEMENTS] [--block N] [--rounds N]
 *
 * As trimtab bench kernels: all variants of a row are timed in turn, round by round, and medians
 * count; the peaks are measured in the same rounds. Rates are GB/s of the bytes that must move, and
 * of float32 (4 bytes per element, whatever its code). The rows of AdamW begin with the kernels'
 * own on f32.
 */
#include <getopt.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <trimtab/compression.h>

#include "calm.h"

enum { MAX_ROUNDS = 101, MAX_VARIANTS = 8, TENSORS = 8 };

/* What a row times: PLAIN_ADAMW is TT_OP_ADAMW. */
typedef enum kind { ENCODE, DECODE, PLAIN_ADAMW, ADAMW, ADAMW_IN_PLACE } kind;

typedef struct row {
    kind kind;
    tt_codec codec; /* of m; of v: UINT8_UP where m is INT8, else the same */
} row;

static const row rows[] = {
    {ENCODE, TT_CODEC_INT8},     {ENCODE, TT_CODEC_UINT8_UP},    {ENCODE, TT_CODEC_BF16},
    {DECODE, TT_CODEC_INT8},     {DECODE, TT_CODEC_UINT8_UP},    {DECODE, TT_CODEC_BF16},
    {PLAIN_ADAMW, TT_CODEC_F32}, {ADAMW, TT_CODEC_F32},          {ADAMW, TT_CODEC_BF16},
    {ADAMW, TT_CODEC_INT8},      {ADAMW_IN_PLACE, TT_CODEC_INT8}};
static const char *const kinds[] = {"encode", "decode", "adamw (kernels)", "adamw",
                                    "adamw in place"};

typedef struct bench {
    tt_context *context;
    tt_compressor *compressor;
    int64_t n, block;
    int threads, rounds;
    bool json, first;
    char *t[TENSORS];
    const char *variants[MAX_VARIANTS];
    int variant_count;
} bench;

static double now(void)
{
    tt_clock clock = tt_clock_monotonic();
    return (double)tt_clock_now(&clock) * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

/* Bytes read and written per second. */
static double peak_copy(const bench *b)
{
    size_t part = (size_t)b->n * 4 / 64;
    double begin = now();
#pragma omp parallel for num_threads(b->threads) schedule(static)
    for (size_t i = 0; i < 64; i++)
        memcpy(b->t[7] + i * part, b->t[0] + i * part, part);
    return 128 * (double)part / (now() - begin);
}

/* Bytes read per second. */
static double peak_read(const bench *b)
{
    tt_tensor_stats stats;
    tt_stats_args args = {.n = b->n, .x = b->t[0], .out = &stats};
    double begin = now();
    (void)tt_op_run(b->context, TT_OP_STATS, &args);
    return 4 * (double)b->n / (now() - begin);
}

static tt_codec root_codec(tt_codec codec)
{
    return codec == TT_CODEC_INT8 ? TT_CODEC_UINT8_UP : codec;
}

static tt_encoded encoded(const bench *b, tt_codec codec, int tensor)
{
    return (tt_encoded){codec, b->block, b->n, b->t[tensor]};
}

static double code_bytes(const bench *b, tt_codec codec)
{
    return (double)tt_codec_bytes(codec, b->block, b->n);
}

/* What must move. */
static double bytes_of(const bench *b, const row *r)
{
    double floats = 4 * (double)b->n;
    if (r->kind == ENCODE || r->kind == DECODE)
        return floats + code_bytes(b, r->codec);
    return 3 * floats + 2 * (code_bytes(b, r->codec) + code_bytes(b, root_codec(r->codec)));
}

static const tt_step_scalars scalars = {1e-3, 0.9, 0.95, 1e-8, 0.5, 0.5, 1};
static tt_verdict verdict;
static tt_codec_loss losses[3];

static tt_status run_adamw(const bench *b, const row *r)
{
    bool in_place = r->kind == ADAMW_IN_PLACE;
    tt_codec v = root_codec(r->codec);
    if (r->kind == PLAIN_ADAMW) {
        tt_adamw_args args = {b->n,    b->t[0], b->t[1], b->t[2],  b->t[3],  b->t[4],
                              b->t[5], b->t[6], 0.1,     &scalars, &verdict, NULL};
        return tt_op_run(b->context, TT_OP_ADAMW, &args);
    }
    tt_adamw_encoded_args args = {.n = b->n,
                                  .p = b->t[0],
                                  .g = b->t[3],
                                  .m = encoded(b, r->codec, 1),
                                  .v = encoded(b, v, 2),
                                  .p_next = b->t[in_place ? 0 : 4],
                                  .m_next = encoded(b, r->codec, in_place ? 1 : 5),
                                  .v_next = encoded(b, v, in_place ? 2 : 6),
                                  .weight_decay = 0.1,
                                  .scalars = &scalars,
                                  .verdict = &verdict,
                                  .m_loss = &losses[0],
                                  .v_loss = &losses[1],
                                  .u_loss = &losses[2]};
    return tt_adamw_encoded(b->compressor, &args);
}

static double run_row(const bench *b, const row *r, const char *variant)
{
    tt_encoded e = encoded(b, r->codec, 1);
    (void)tt_compressor_set_variants(b->compressor, variant);
    (void)tt_context_set_variant(b->context, TT_OP_ADAMW, variant);
    double begin = now();
    tt_status status = r->kind == ENCODE   ? tt_encode(b->compressor, b->t[0], &e, &losses[0])
                       : r->kind == DECODE ? tt_decode(b->compressor, &e, b->t[4])
                                           : run_adamw(b, r);
    double seconds = now() - begin;
    if (status != TT_OK)
        fprintf(stderr, "%s %s: %s\n", kinds[r->kind], variant, tt_error_message());
    return status == TT_OK ? seconds : NAN;
}

/* Ordinary values in p, g; m and v as the row keeps them. */
static void fill(const bench *b, const row *r)
{
    size_t bytes = (size_t)b->n * 4;
    float *host = malloc(bytes);
    if (host == NULL)
        return;
    for (int t = 0; t < 5; t++) {
        for (int64_t i = 0; i < b->n; i++)
            host[i] = (float)((i * 2654435761 + t) % 1021 + 1) * 1e-3F;
        (void)tt_tensor_write(b->context, b->t[t], host, bytes);
    }
    free(host);
    const tt_encoded m = encoded(b, r->codec, 1), v = encoded(b, root_codec(r->codec), 2);
    if (r->kind != ENCODE && r->kind != PLAIN_ADAMW) {
        (void)tt_encode(b->compressor, b->t[3], &m, NULL);
        (void)tt_encode(b->compressor, b->t[3], &v, NULL);
    }
}

static void report(bench *b, const row *r, const char *variant, double *seconds, double reference,
                   double copy)
{
    double time = median(seconds, b->rounds), bytes = bytes_of(b, r), f32 = 4 * (double)b->n;
    if (b->json)
        printf("%s\n    {\"op\": \"%s\", \"codec\": \"%s\", \"variant\": \"%s\", \"seconds\": "
               "%.9g, \"best_seconds\": %.9g, \"gbs\": %.6g, \"f32_gbs\": %.6g, \"of_copy\": "
               "%.4g, \"over_reference\": %.5g}",
               b->first ? "" : ",", kinds[r->kind], tt_codec_name(r->codec), variant, time,
               seconds[0], bytes / time * 1e-9, f32 / time * 1e-9, bytes / time / copy,
               reference / time);
    else
        printf("%-16s %-9s %-11s %10.1f us (best %10.1f) %7.1f GB/s %7.1f GB/s of f32 %6.1f %% of "
               "copy %7.1fx\n",
               kinds[r->kind], tt_codec_name(r->codec), variant, time * 1e6, seconds[0] * 1e6,
               bytes / time * 1e-9, f32 / time * 1e-9, 100 * bytes / time / copy, reference / time);
    b->first = false;
}

static void bench_row(bench *b, const row *r, double *copy, double *read)
{
    static double seconds[MAX_VARIANTS][MAX_ROUNDS];
    double copies[MAX_ROUNDS], reads[MAX_ROUNDS];
    fill(b, r);
    for (int v = 0; v < b->variant_count; v++)
        (void)run_row(b, r, b->variants[v]);
    for (int round = 0; round < b->rounds; round++) {
        copies[round] = peak_copy(b);
        reads[round] = peak_read(b);
        for (int v = 0; v < b->variant_count; v++)
            seconds[v][round] = run_row(b, r, b->variants[v]);
    }
    *copy = median(copies, b->rounds);
    *read = median(reads, b->rounds);
    double reference = median(seconds[0], b->rounds);
    for (int v = 0; v < b->variant_count; v++)
        report(b, r, b->variants[v], seconds[v], reference, *copy);
}

static int parse(int argc, char **argv, bench *b)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},         {"threads", required_argument, NULL, 't'},
        {"n", required_argument, NULL, 'n'},      {"block", required_argument, NULL, 'b'},
        {"rounds", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'j')
            b->json = true;
        else if (c == 't')
            b->threads = (int)strtol(optarg, NULL, 10);
        else if (c == 'n')
            b->n = strtoll(optarg, NULL, 10);
        else if (c == 'b')
            b->block = strtoll(optarg, NULL, 10);
        else if (c == 'r')
            b->rounds = (int)strtol(optarg, NULL, 10);
        else
            return 2;
    }
    return b->rounds < 1 || b->rounds > MAX_ROUNDS || b->threads < 0 || b->n < 64 ||
                   b->n > (int64_t)1 << 32 || optind < argc
               ? 2
               : 0;
}

static tt_status create(bench *b)
{
    tt_context_options options;
    size_t bytes = tt_codec_bytes(TT_CODEC_F32, 64, b->n) + 4096;
    tt_context_options_init(&options);
    options.threads = b->threads;
    options.tensor_bytes = TENSORS * bytes;
    tt_status status = tt_context_create(&options, &b->context);
    if (status == TT_OK)
        status = tt_compressor_create(b->context, &b->compressor);
    for (int t = 0; t < TENSORS && status == TT_OK; t++) {
        void *tensor;
        status = tt_tensor_alloc(b->context, bytes, &tensor);
        b->t[t] = tensor;
    }
    for (size_t i = 0; i < tt_codec_variant_count() && b->variant_count < MAX_VARIANTS; i++) {
        const tt_codec_variant_info *info = tt_codec_variant_at(i);
        if (info->op == TT_CODEC_ENCODE && tt_isa_available(info->isa))
            b->variants[b->variant_count++] = info->name;
    }
    return status;
}

int main(int argc, char **argv)
{
    bench b = {.rounds = 7, .first = true, .n = 10800000, .block = 64};
    double copy = NAN, read = NAN;
    cli_calm_threads(argv);
    tt_threads_release_caller();
    if (parse(argc, argv, &b) != 0) {
        fprintf(stderr, "usage: codecs_bench [--json] [--threads N] [--n ELEMENTS] [--block N] "
                        "[--rounds N]\n");
        return 2;
    }
    if (create(&b) != TT_OK) {
        fprintf(stderr, "%s\n", tt_error_message());
        return 70;
    }
    b.threads = tt_context_threads(b.context);
    if (b.json)
        printf("{\"threads\": %d, \"n\": %lld, \"block\": %lld, \"results\": [", b.threads,
               (long long)b.n, (long long)b.block);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        bench_row(&b, &rows[i], &copy, &read);
    if (b.json)
        printf("\n], \"copy_gbs\": %.5g, \"read_gbs\": %.5g}\n", copy * 1e-9, read * 1e-9);
    else
        printf("measured peaks, %d threads: %.1f GB/s copy, %.1f GB/s read\n", b.threads,
               copy * 1e-9, read * 1e-9);
    tt_compressor_destroy(b.compressor);
    tt_context_destroy(b.context);
    return 0;
}
