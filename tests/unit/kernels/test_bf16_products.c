/* Products with instructions for bf16, bit for bit against their definitions in amx/tiles.h and
 * avx512_bf16/pairs.h, for any tile, number of threads and packing. Emulated (bf16_emulated/), this
 * runs on every x86-64; else only where the instructions are there. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bf16.h"

/* Tiles: the products of 32 elements, even and odd ones apart, and then the sum. */
static float add_tile(float sum, int64_t k, const double *a, int64_t a_step, const double *b,
                      int64_t b_step);
/* Pairs: one after the other, the odd one first. */
static float add_pair(float sum, int64_t k, const double *a, int64_t a_step, const double *b,
                      int64_t b_step);

typedef struct family {
    const char *name;
    tt_isa isa;
    int64_t block; /* elements of k that are added at a time */
    float (*add)(float sum, int64_t k, const double *a, int64_t a_step, const double *b,
                 int64_t b_step);
} family;

static const family families[] = {{"amx", TT_ISA_AMX_BF16, 32, add_tile},
                                  {"avx512_bf16", TT_ISA_AVX512_BF16, 2, add_pair}};
static const family *tested;

static const tt_op ops[] = {TT_OP_LINEAR_FORWARD, TT_OP_LINEAR_DGRAD, TT_OP_LINEAR_WGRAD};

static float flushed(float x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}

/* What a product makes of an operand's element. */
static float operand(double x)
{
    return tt_bf16_to_f32(tt_bf16_from_f32(flushed((float)x)));
}

static float add_tile(float sum, int64_t k, const double *a, int64_t a_step, const double *b,
                      int64_t b_step)
{
    float part[2] = {0, 0};
    for (int64_t p = 0; p < k; p++)
        part[p % 2] = flushed(fmaf(operand(a[p * a_step]), operand(b[p * b_step]), part[p % 2]));
    return flushed(flushed(sum) + flushed(part[0] + part[1]));
}

static float add_pair(float sum, int64_t k, const double *a, int64_t a_step, const double *b,
                      int64_t b_step)
{
    sum = flushed(sum);
    for (int64_t p = k; p-- > 0;)
        sum = flushed(fmaf(operand(a[p * a_step]), operand(b[p * b_step]), sum));
    return sum;
}

/* sum + the products of k elements. */
static float dot(float sum, int64_t k, const double *a, int64_t a_step, const double *b,
                 int64_t b_step)
{
    for (int64_t p = 0; p < k; p += tested->block)
        sum = tested->add(sum, k - p < tested->block ? k - p : tested->block, a + p * a_step,
                          a_step, b + p * b_step, b_step);
    return sum;
}

/* Fills in what the operation has to give. */
static void define(kt_case *c)
{
    int64_t m = c->size[0], n = c->size[1], k = c->size[2];
    double *x = c->t[0].value, *w = c->t[1].value;
    if (c->op == TT_OP_LINEAR_FORWARD)
        for (int64_t i = 0; i < m * n; i++)
            c->t[3].value[i] =
                (double)dot((float)c->t[2].value[i % n], k, x + i / n * k, 1, w + i % n * k, 1);
    else if (c->op == TT_OP_LINEAR_DGRAD)
        for (int64_t i = 0; i < m * k; i++)
            c->t[2].value[i] =
                (double)operand((double)dot(c->with.accumulate ? (float)c->t[2].value[i] : 0, n,
                                            x + i / k * n, 1, w + i % k, k));
    else
        for (int64_t i = 0; i < n * k; i++)
            c->t[2].value[i] = (double)dot(c->with.overwrite ? 0 : (float)c->t[2].value[i], m,
                                           x + i / k, n, w + i % k, k);
}

static kt_case make(tt_op op, const int64_t size[5], const kt_options *with)
{
    /* Denormal operands and products. The last, of f32, would round up to a bf16 that is none. */
    static const double tiny[] = {0x1.8p-130, 0x1.4p-120, 0x1.fffffcp-127};
    kt_case c = kt_make_with(op, size, with, 11);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < c.t[k].n; i += 7)
            c.t[k].value[i] = tiny[i / 7 % (c.t[k].act ? 2 : 3)];
    return c;
}

static void expect_defined(const kt_case *in, const kt_case *expected, const kt_setting *setting)
{
    kt_case got = kt_clone(in);
    int out = in->op == TT_OP_LINEAR_FORWARD ? 3 : 2;
    kt_run(&got, setting);
    for (int64_t i = 0; i < got.t[out].n; i++)
        if (memcmp(&got.t[out].value[i], &expected->t[out].value[i], sizeof(double)) != 0)
            fail_msg("%s %lldx%lldx%lld, tile %d, %d threads: element %lld is %.9g, not %.9g",
                     tt_op_name(in->op), (long long)in->size[0], (long long)in->size[1],
                     (long long)in->size[2], setting->tile.m, setting->threads, (long long)i,
                     got.t[out].value[i], expected->t[out].value[i]);
    kt_clear(&got);
}

/* Accumulating and not, packed ahead and not, streamed and not, over tiles and threads. */
static void check_size(tt_op op, const int64_t size[5])
{
    static const int sides[] = {16, 32, 512};
    for (int o = 0; o < 2; o++) {
        kt_options with = {.accumulate = o == 0, .overwrite = o == 1, .real_y = true};
        kt_case in = make(op, size, &with), expected = kt_clone(&in);
        define(&expected);
        for (int i = 0; i < 3; i++) {
            kt_setting setting = kt_bf16(tested->name);
            setting.threads = 1 + i;
            setting.stream_bytes = i == 1 ? 0 : -1;
            setting.tile = (tt_tile){sides[i], sides[(i + o) % 3], sides[(i + 2 * o) % 3]};
            in.with.packed = i != o;
            expect_defined(&in, &expected, &setting);
        }
        kt_clear(&in);
        kt_clear(&expected);
    }
}

static void test_definition(void **state)
{
    (void)state;
    static const int64_t edges[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 65, 97};
    enum { EDGES = sizeof edges / sizeof *edges };
    for (int o = 0; o < 3; o++) {
        for (int i = 0; i < EDGES; i++)
            check_size(ops[o], (int64_t[5]){edges[i], edges[(5 * i + 2) % EDGES],
                                            edges[(7 * i + 1) % EDGES]});
        check_size(ops[o], (int64_t[5]){64, 96, 128}); /* no edges */
        for (int rows = 1; rows <= 5;
             rows++) /* few rows: streams of columns, and what they leave */
            check_size(ops[o], (int64_t[5]){rows, 1100 + rows, 67});
        check_size(ops[o], (int64_t[5]){3, 5, 0});
        check_size(ops[o], (int64_t[5]){0, 5, 3});
        check_size(ops[o], (int64_t[5]){5, 0, 3});
    }
}

/* Microbatches of whole blocks of rows add up to the bits of one batch. */
static void test_microbatches(void **state)
{
    (void)state;
    enum { M = 130, N = 35, K = 50, PART = 64 };
    kt_options with = {.overwrite = false};
    kt_setting setting = kt_bf16(tested->name);
    kt_case all = make(TT_OP_LINEAR_WGRAD, (int64_t[5]){M, N, K}, &with), expected = kt_clone(&all);
    kt_run(&expected, &setting);
    for (int64_t begin = 0; begin < M; begin += PART) {
        int64_t rows = begin + PART < M ? PART : M - begin;
        kt_case part = make(TT_OP_LINEAR_WGRAD, (int64_t[5]){rows, N, K}, &with);
        memcpy(part.t[0].value, all.t[0].value + begin * N, (size_t)(rows * N) * sizeof(double));
        memcpy(part.t[1].value, all.t[1].value + begin * K, (size_t)(rows * K) * sizeof(double));
        for (int k = 2; k < 4; k++)
            memcpy(part.t[k].value, all.t[k].value, (size_t)part.t[k].n * sizeof(double));
        kt_run(&part, &setting);
        for (int k = 2; k < 4; k++)
            memcpy(all.t[k].value, part.t[k].value, (size_t)part.t[k].n * sizeof(double));
        kt_clear(&part);
    }
    assert_true(kt_same_bits(&expected, &all));
    kt_clear(&expected);
    kt_clear(&all);
}

/* Three rows of our own; repeatable, since rows are summed a block at a time. */
static void test_rows(void **state)
{
    (void)state;
    int rows = 0;
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        bool product = info->op == ops[0] || info->op == ops[1] || info->op == ops[2];
        if (info->isa != tested->isa || info->library != TT_LIBRARY_NONE || !product)
            continue;
        assert_string_equal(info->name, tested->name);
        assert_int_equal(info->dtype, TT_BF16);
        assert_int_equal(info->numerics, TT_NUMERICS_REPEATABLE);
        assert_true(info->tiled);
        rows++;
    }
    assert_int_equal(rows, 3);
}

static tt_context *context_of(tt_numerics numerics)
{
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    options.numerics = numerics;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    assert_int_equal(tt_context_set_compute(context, TT_BF16), TT_OK);
    return context;
}

static void expect_exact(const tt_context *context)
{
    for (int op = 0; op < TT_OP_COUNT; op++)
        assert_int_equal(tt_context_variant(context, (tt_op)op)->numerics, TT_NUMERICS_EXACT);
}

/* Whoever accepts only exact results does not get this family's unless he says its name. */
static void test_accepted_class(void **state)
{
    (void)state;
    tt_context *context = context_of(TT_NUMERICS_REPEATABLE);
    assert_int_equal(tt_context_variant(context, ops[0])->numerics, TT_NUMERICS_REPEATABLE);
    tt_context_destroy(context);
    context = context_of(TT_NUMERICS_EXACT);
    assert_int_equal(tt_context_numerics(context), TT_NUMERICS_EXACT);
    expect_exact(context);
    assert_int_equal(tt_context_set_variants(context, tested->name), TT_OK);
    assert_string_equal(tt_context_variant(context, ops[2])->name, tested->name);
    assert_int_equal(tt_context_set_variants(context, "auto"), TT_OK);
    expect_exact(context);
    assert_int_equal(tt_context_set_variant(context, ops[1], "auto"), TT_OK);
    expect_exact(context);
    tt_context_destroy(context);
}

/* Nor from the tuner, which may be asked to measure it all the same. */
static void test_tuner_keeps_to_class(void **state)
{
    (void)state;
    static const tt_tile tile = {32, 32, 32};
    static const tt_gemm_shape shape = {TT_OP_LINEAR_FORWARD, 64, 64, 64, 1};
    for (int i = 0; i < 3; i++) {
        const bool accepts = i == 2, shows = i == 1;
        tt_context *context = context_of(accepts ? TT_NUMERICS_REPEATABLE : TT_NUMERICS_EXACT);
        tt_tune_options options;
        tt_tuning tuning;
        bool listed = false;
        tt_tune_options_init(&options);
        options.shapes = &shape;
        options.shape_count = 1;
        options.tiles = &tile;
        options.tile_count = 1;
        options.show_all = shows;
        assert_int_equal(tt_tune(context, &options, &tuning), TT_OK);
        for (size_t c = 0; c < tuning.candidate_count; c++)
            listed = listed || strcmp(tuning.candidates[c].variant, tested->name) == 0;
        assert_int_equal(listed, accepts || shows);
        for (int op = 0; op < 3 && !accepts; op++)
            assert_string_not_equal(tuning.candidates[tuning.chosen[op]].variant, tested->name);
        tt_tuning_clear(&tuning);
        tt_context_destroy(context);
    }
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (argc == 2 && strcmp(argv[1], families[i].name) == 0)
            tested = &families[i];
    if (tested == NULL) {
        fputs("usage: test_bf16_products amx|avx512_bf16\n", stderr);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_microbatches),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_accepted_class),
        cmocka_unit_test(test_tuner_keeps_to_class),
    };
    if (!tt_isa_available(tested->isa)) {
        printf("skipped: this machine has no %s, or does not lend it\n", tt_isa_name(tested->isa));
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
