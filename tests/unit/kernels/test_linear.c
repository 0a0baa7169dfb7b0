/* The products of a linear layer with all their optional parts, in f32 and in mixed precision:
 * against the float64 reference at edge sizes, bit for bit against each other, with operands
 * anywhere in memory, and with what is not finite. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bf16.h"

static const double bf16_unit = 0x1p-8; /* unit roundoff of bf16 */
static const tt_op ops[] = {TT_OP_LINEAR_FORWARD, TT_OP_LINEAR_DGRAD, TT_OP_LINEAR_WGRAD};

/* What the operation has beside its plain form: bits of kt_options. */
static const kt_options options[] = {
    {.accumulate = false},
    {.packed = true},
    {.accumulate = true, .real_y = true, .overwrite = true},
    {.accumulate = true, .real_y = true, .packed = true},
    {.gelu = true},
    {.gelu = true, .packed = true},
    {.gelu = true, .bf16_weights = true},
    {.accumulate = true, .real_y = true, .packed = true, .bf16_weights = true},
};
enum { OPTIONS = sizeof options / sizeof *options };

typedef void (*setting_check)(const kt_setting *setting, tt_op op);

static const char *only; /* a variant's name; NULL: all */
enum { MOST_SETTINGS = 32 };

/* Every variant of the product that this machine has, in every type but float64. */
static int list_settings(tt_op op, bool exact, kt_setting list[MOST_SETTINGS])
{
    int count = 0;
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (info->op != op || info->dtype == TT_F64 || !tt_variant_available(info))
            continue;
        if (only != NULL && strcmp(info->name, only) != 0)
            continue;
        if (exact && only == NULL && info->numerics != TT_NUMERICS_EXACT)
            continue; /* one that is named keeps more than its class says: see test_amx.c */
        assert_true(count < MOST_SETTINGS);
        list[count++] = info->dtype == TT_BF16 ? kt_bf16(info->name) : kt_f32(info->name);
    }
    assert_true(count >= (only == NULL ? 4 : 1));
    return count;
}

static void for_settings(tt_op op, bool exact, setting_check check)
{
    kt_setting list[MOST_SETTINGS];
    int count = list_settings(op, exact, list);
    for (int i = 0; i < count; i++)
        check(&list[i], op);
}

static void for_all_settings(setting_check check)
{
    for (int i = 0; i < 3; i++)
        for_settings(ops[i], false, check);
}

/* Those of them that promise the same bits for every tile, thread count and batch split. */
static void for_exact_settings(setting_check check)
{
    for (int i = 0; i < 3; i++)
        for_settings(ops[i], true, check);
}

static double rounded(double x)
{
    return (double)tt_bf16_to_f32(tt_bf16_from_f32((float)x));
}

/* A case with its options and, beside it, the weights that a product in `dtype` sees. */
static kt_case make_seen(tt_op op, const int64_t size[5], const kt_options *with, tt_dtype dtype,
                         kt_case *seen)
{
    kt_case in = kt_make_with(op, size, with, 7);
    *seen = kt_clone(&in);
    if (dtype == TT_BF16 && op != TT_OP_LINEAR_WGRAD)
        for (int64_t i = 0; i < in.t[1].n; i++)
            seen->t[1].value[i] = rounded(in.t[1].value[i]);
    return in;
}

/* ---- against the reference --------------------------------------------------------------------
 */

/* The same sums of magnitudes, without GELU, whose tensor is the last. */
static kt_case magnitudes(const kt_case *in)
{
    kt_case sums = kt_clone(in);
    if (sums.with.gelu && sums.op != TT_OP_LINEAR_WGRAD) {
        sums.with.gelu = false;
        free(sums.t[--sums.count].value);
    }
    for (int k = 0; k < sums.count; k++)
        for (int64_t i = 0; i < sums.t[k].n; i++)
            sums.t[k].value[i] = fabs(in->t[k].value[i]);
    kt_setting reference = kt_f64();
    kt_run(&sums, &reference);
    return sums;
}

static double sigmoid_argument(double x)
{
    return 1.5957691216057308 * (x + 0.044715 * x * x * x);
}

static double gelu_of(double x)
{
    return x / (1 + exp(-sigmoid_argument(x)));
}

/* The largest permitted error of element i of output k: a rounding per term and two more, that of
 * bf16 where it is stored so; GELU's as in test_conformance.c. */
static double bound_of(const kt_case *expected, const kt_case *sums, tt_dtype dtype, int k,
                       int64_t i)
{
    static const int depth[] = {2, 1, 0}; /* which size is summed over */
    double value = fabs(expected->t[k].value[i]);
    double store = dtype == TT_BF16 && expected->t[k].act ? bf16_unit : 0;
    double rounds = (double)expected->size[depth[expected->op - TT_OP_LINEAR_FORWARD]] + 3;
    double error = 0;
    if (expected->op == TT_OP_LINEAR_FORWARD && k == 4) {
        double y = fabs(expected->t[3].value[i]); /* the reference's 1 + tanh cancels, in float64 */
        error = kt_unit * value * (4 * fabs(sigmoid_argument(y)) + 8) + 0x1p-52 * y;
    } else if (expected->op == TT_OP_LINEAR_DGRAD && expected->with.gelu) {
        double x = expected->t[3].value[i], z = sigmoid_argument(x), s = 1 / (1 + exp(-z));
        double slope = s + fabs(x) * s * (1 - s) * (1.6 + 0.22 * x * x);
        error = (rounds + 4 * fabs(z) + 16) * kt_unit * slope * sums->t[k].value[i];
    } else {
        error = rounds * kt_unit * sums->t[k].value[i];
    }
    return error + store * (value + error) + 1e-37;
}

static void compare(kt_case *expected, const kt_case *sums, const kt_case *got,
                    const kt_setting *setting)
{
    for (int k = 0; k < expected->count; k++) {
        if (expected->t[k].kind == KT_INPUT)
            continue;
        for (int64_t i = 0; i < expected->t[k].n; i++) {
            double bound = bound_of(expected, sums, setting->dtype, k, i);
            if (!(fabs(got->t[k].value[i] - expected->t[k].value[i]) <= bound))
                fail_msg("%s %s %s %lldx%lldx%lld: tensor %d element %lld: %.9g, not %.9g +- %.3g",
                         tt_op_name(expected->op), setting->variant, tt_dtype_name(setting->dtype),
                         (long long)expected->size[0], (long long)expected->size[1],
                         (long long)expected->size[2], k, (long long)i, got->t[k].value[i],
                         expected->t[k].value[i], bound);
        }
        if (expected->op == TT_OP_LINEAR_FORWARD && k == 3 && expected->with.gelu)
            for (int64_t i = 0; i < expected->t[4].n; i++) { /* of y as it is stored */
                expected->t[3].value[i] = got->t[3].value[i];
                expected->t[4].value[i] = gelu_of(got->t[3].value[i]);
            }
    }
}

/* One case in all settings of a type: building it takes longer than running it. */
static void check_in(const kt_setting *list, int count, tt_dtype dtype, tt_op op,
                     const int64_t size[5], const kt_options *with)
{
    kt_case expected, in = make_seen(op, size, with, dtype, &expected);
    kt_setting reference = kt_f64();
    kt_run(&expected, &reference);
    kt_case sums = magnitudes(&expected);
    for (int i = 0; i < count; i++) {
        if (list[i].dtype != dtype || !kt_reads_weights(with, list[i].variant))
            continue;
        kt_case got = kt_clone(&in), wanted = kt_clone(&expected);
        kt_run(&got, &list[i]);
        compare(&wanted, &sums, &got, &list[i]);
        kt_clear(&got);
        kt_clear(&wanted);
    }
    kt_clear(&in);
    kt_clear(&expected);
    kt_clear(&sums);
}

static void check_size(const kt_setting *list, int count, tt_op op, const int64_t size[5],
                       const kt_options *with)
{
    bool has[2] = {false, false};
    for (int i = 0; i < count; i++)
        has[list[i].dtype == TT_BF16] = true;
    if (has[0])
        check_in(list, count, TT_F32, op, size, with);
    if (has[1])
        check_in(list, count, TT_BF16, op, size, with);
}

static const int64_t edges[] = {1, 2, 3, 7, 11, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, 127};
enum { EDGES = sizeof edges / sizeof *edges };

/* GELU and accumulation exclude each other, and real_y and GELU. */
static void check_edges(tt_op op)
{
    kt_setting list[MOST_SETTINGS];
    int count = list_settings(op, false, list);
    for (int i = 0; i < EDGES; i++)
        for (int o = i % 2; o < OPTIONS; o += 2)
            check_size(list, count, op,
                       (int64_t[5]){edges[(i + 4 * o) % EDGES], edges[(5 * i + o + 3) % EDGES],
                                    edges[(7 * i + 2 * o + 1) % EDGES]},
                       &options[o]);
    static const int64_t more[][5] = {{257, 131, 301}, {1, 384, 771}, {2, 387, 130}, {4, 530, 66},
                                      {0, 5, 3},       {5, 3, 0},     {5, 0, 3}};
    for (int o = 0; o < OPTIONS; o++)
        for (size_t i = 0; i < sizeof more / sizeof *more; i++)
            check_size(list, count, op, more[i], &options[o]);
}

static void test_edge_sizes(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        check_edges(ops[i]);
}

/* Deeper, longer and wider than what is packed at a time. */
static void check_chunks(tt_op op)
{
    static const int64_t large[][5] = {{5, 37, 9001},   {9001, 37, 5},   {37, 9001, 5},
                                       {1020, 300, 20}, {1100, 3, 1200}, {1100, 1200, 3},
                                       {1200, 1100, 3}, {9, 40, 4500}};
    kt_setting all[MOST_SETTINGS], list[2 * MOST_SETTINGS];
    int count = 0, candidates = list_settings(op, false, all);
    for (int i = 0; i < candidates; i++) {
        if (strcmp(all[i].variant, "reference") == 0)
            continue;
        list[count++] = all[i];
        list[count] = all[i];
        list[count++].tile = (tt_tile){512, 512, 512};
    }
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        check_size(list, count, op, large[i], &options[i % OPTIONS]);
}

static void test_chunks(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        check_chunks(ops[i]);
}

/* ---- bit for bit ------------------------------------------------------------------------------
 */

static void expect_same(const kt_case *in, const kt_case *expected, const kt_setting *setting)
{
    kt_case got = kt_clone(in);
    kt_run(&got, setting);
    if (!kt_same_bits(expected, &got))
        fail_msg("%s %s %s, tile %dx%dx%d, %d threads", tt_op_name(in->op), setting->variant,
                 tt_dtype_name(setting->dtype), setting->tile.m, setting->tile.n, setting->tile.k,
                 setting->threads);
    kt_clear(&got);
}

/* Tiles, threads, weights packed ahead or not; weights that are bf16 already or become it. */
static void check_same(const kt_setting *base, tt_op op)
{
    static const int sides[] = {16, 64, 512};
    for (int o = 0; o < OPTIONS; o++) {
        kt_case seen,
            in = make_seen(op, (int64_t[5]){61, 157, 143}, &options[o], base->dtype, &seen);
        kt_case expected = kt_clone(&in);
        kt_setting setting = *base;
        kt_run(&expected, &setting);
        expect_same(&seen, &expected, &setting);
        in.with.packed = !in.with.packed;
        for (int i = 0; i < 9; i++) {
            setting.threads = 1 + i % 4;
            setting.tile = (tt_tile){sides[i % 3], sides[i / 3], sides[(i + i / 3) % 3]};
            expect_same(&in, &expected, &setting);
        }
        kt_clear(&in);
        kt_clear(&seen);
        kt_clear(&expected);
    }
}

static void test_same_bits(void **state)
{
    (void)state;
    for_exact_settings(check_same);
}

/* Deeper than what is packed at a time, and wider than what is summed at a time: but not for each
 * of several threads. */
static void check_deep(const kt_setting *base, tt_op op)
{
    kt_setting setting = *base;
    bool blocked = strncmp(base->variant, "blocked", 7) == 0;
    if (op != TT_OP_LINEAR_FORWARD || base->dtype != TT_BF16 || !blocked)
        return;
    kt_case in = kt_make_with(op, (int64_t[5]){1020, 300, 3700}, &options[0], 3);
    kt_case expected = kt_clone(&in);
    setting.tile = (tt_tile){512, 512, 512};
    setting.threads = 4;
    kt_run(&expected, &setting);
    setting.threads = 1;
    expect_same(&in, &expected, &setting);
    kt_clear(&in);
    kt_clear(&expected);
}

static void test_deep(void **state)
{
    (void)state;
    for_exact_settings(check_deep);
}

/* Rows of a batch have the bits that they have alone or in a smaller batch. */
static void check_rows(const kt_setting *setting, tt_op op)
{
    enum { M = 41, N = 331, K = 70 };
    for (int o = 0; op != TT_OP_LINEAR_WGRAD && o < OPTIONS; o++) {
        kt_case all = kt_make_with(op, (int64_t[5]){M, N, K}, &options[o], 3);
        kt_case expected = kt_clone(&all);
        kt_run(&expected, setting);
        for (int64_t begin = 0, count = 1; begin < M; begin += count, count = count % 9 + 1) {
            int64_t rows = begin + count < M ? count : M - begin;
            kt_case part = kt_make_with(op, (int64_t[5]){rows, N, K}, &options[o], 3);
            for (int k = 0; k < part.count; k++) {
                bool by_row = all.t[k].n != part.t[k].n;
                int64_t at = by_row ? begin * (all.t[k].n / M) : 0;
                if (part.t[k].kind != KT_OUTPUT)
                    memcpy(part.t[k].value, all.t[k].value + at,
                           (size_t)part.t[k].n * sizeof(double));
            }
            kt_run(&part, setting);
            for (int k = 0; k < part.count; k++)
                if (part.t[k].kind != KT_INPUT)
                    assert_memory_equal(part.t[k].value,
                                        expected.t[k].value + begin * (all.t[k].n / M),
                                        (size_t)part.t[k].n * sizeof(double));
            kt_clear(&part);
        }
        kt_clear(&all);
        kt_clear(&expected);
    }
}

/* Variants with instructions for bf16 sum several rows at a time, with denormals as zero. */
static bool sums_blocks(const kt_setting *setting)
{
    static const char *const names[] = {"amx", "avx512_bf16", "onednn"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setting->dtype == TT_BF16 && strcmp(setting->variant, names[i]) == 0)
            return true;
    return false;
}

/* Weight gradients of microbatches add up to those of the batch. */
static void check_microbatches(const kt_setting *setting, tt_op op)
{
    enum { M = 83, N = 35, K = 50 };
    kt_options first = {.overwrite = true}, later = {.overwrite = false};
    if (op != TT_OP_LINEAR_WGRAD || sums_blocks(setting))
        return; /* see test_bf16_products.c */
    kt_case expected = kt_make_with(op, (int64_t[5]){M, N, K}, &first, 3),
            all = kt_clone(&expected);
    kt_run(&expected, setting);
    for (int64_t begin = 0, rows; begin < M; begin += rows) {
        rows = begin + 1 + begin % 5 * 3 < M ? 1 + begin % 5 * 3 : M - begin;
        kt_case part = kt_make_with(op, (int64_t[5]){rows, N, K}, begin == 0 ? &first : &later, 3);
        memcpy(part.t[0].value, all.t[0].value + begin * N, (size_t)(rows * N) * sizeof(double));
        memcpy(part.t[1].value, all.t[1].value + begin * K, (size_t)(rows * K) * sizeof(double));
        for (int k = 2; k < 4; k++)
            memcpy(part.t[k].value, all.t[k].value, (size_t)part.t[k].n * sizeof(double));
        kt_run(&part, setting);
        for (int k = 2; k < 4; k++)
            memcpy(all.t[k].value, part.t[k].value, (size_t)part.t[k].n * sizeof(double));
        kt_clear(&part);
    }
    assert_true(kt_same_bits(&expected, &all));
    kt_clear(&expected);
    kt_clear(&all);
}

static void test_batch_splits(void **state)
{
    (void)state;
    for_exact_settings(check_rows);
    for_exact_settings(check_microbatches);
}

static bool has_row(tt_op op, const kt_setting *setting)
{
    for (size_t v = 0; v < tt_variant_count(); v++)
        if (tt_variant_at(v)->op == op && tt_variant_at(v)->dtype == setting->dtype &&
            strcmp(tt_variant_at(v)->name, setting->variant) == 0)
            return true;
    return false;
}

/* With GELU in the product as with GELU after it. */
static void check_fused(const kt_setting *setting, tt_op op)
{
    const int64_t size[5] = {29, 45, 67};
    kt_options gelu = {.gelu = true}, plain = {.gelu = false};
    if (op == TT_OP_LINEAR_WGRAD || (op == TT_OP_LINEAR_DGRAD && setting->dtype == TT_BF16))
        return; /* in bf16 what comes before gelu' is not rounded when fused */
    if (op == TT_OP_LINEAR_DGRAD && strcmp(setting->variant, "reference") == 0)
        return; /* neither is it here */
    bool forward = op == TT_OP_LINEAR_FORWARD;
    if (!has_row(forward ? TT_OP_GELU_FORWARD : TT_OP_GELU_BACKWARD, setting))
        return;
    kt_case fused = kt_make_with(op, size, &gelu, 7), product = kt_make_with(op, size, &plain, 7);
    for (int k = 0; k < product.count; k++)
        memcpy(product.t[k].value, fused.t[k].value, (size_t)product.t[k].n * sizeof(double));
    kt_run(&fused, setting);
    kt_run(&product, setting);
    int y = forward ? 3 : 2;
    kt_case after = kt_make(forward ? TT_OP_GELU_FORWARD : TT_OP_GELU_BACKWARD,
                            (int64_t[5]){product.t[y].n}, 1);
    const double *x = forward ? product.t[y].value : fused.t[3].value;
    memcpy(after.t[0].value, x, (size_t)after.t[0].n * sizeof(double));
    if (!forward)
        memcpy(after.t[1].value, product.t[y].value, (size_t)after.t[1].n * sizeof(double));
    kt_run(&after, setting);
    assert_memory_equal(after.t[forward ? 1 : 2].value, fused.t[forward ? 4 : 2].value,
                        (size_t)after.t[0].n * sizeof(double));
    kt_clear(&fused);
    kt_clear(&product);
    kt_clear(&after);
}

static void test_fused_gelu(void **state)
{
    (void)state;
    for_all_settings(check_fused);
}

/* ---- operands anywhere ------------------------------------------------------------------------
 */

/* Tensors that begin at odd elements, between canaries, have the bits of aligned ones. */
static void check_unaligned(const kt_setting *setting, tt_op op)
{
    enum { M = 13, N = 39, K = 41, ROOM = 64 };
    tt_context_options with;
    tt_context *context = NULL;
    kt_case in = kt_make(op, (int64_t[5]){M, N, K}, 9), expected = kt_clone(&in);
    void *tensor[KT_TENSORS] = {NULL}, *base[KT_TENSORS];
    kt_results results = {0};
    kt_args args;
    kt_run(&expected, setting);
    tt_context_options_init(&with);
    with.threads = 2;
    with.tensor_bytes = 1 << 18;
    assert_int_equal(tt_context_create(&with, &context), TT_OK);
    assert_int_equal(tt_context_set_compute(context, setting->dtype), TT_OK);
    assert_int_equal(tt_context_set_variants(context, setting->variant), TT_OK);
    char bytes[(N * K + 2 * ROOM) * 4], after[sizeof bytes];
    for (int round = 0; round < 2; round++) { /* plain tensors, then what came out of them */
        for (int k = 0; k < in.count; k++) {
            bool narrow = setting->dtype == TT_BF16 && in.t[k].act;
            size_t unit = narrow ? 2 : 4, size = ((size_t)in.t[k].n + 2 * ROOM) * unit;
            memset(bytes, 0x5a, sizeof bytes);
            const kt_case *from = round == 0 ? &in : &expected;
            for (int64_t i = 0; i < in.t[k].n; i++) {
                float f32 = (float)from->t[k].value[i];
                uint16_t bf16 = tt_bf16_from_f32(f32);
                memcpy(bytes + ((size_t)i + ROOM - 2 * (size_t)k - 3) * unit,
                       narrow ? (void *)&bf16 : (void *)&f32, unit);
            }
            if (round == 0) {
                assert_int_equal(tt_tensor_alloc(context, size, &base[k]), TT_OK);
                assert_int_equal(tt_tensor_write(context, base[k], bytes, size), TT_OK);
                tensor[k] = (char *)base[k] + (ROOM - 2 * (size_t)k - 3) * unit;
                continue;
            }
            assert_int_equal(tt_tensor_read(context, after, base[k], size), TT_OK);
            assert_memory_equal(bytes, after, size);
        }
        if (round == 0) {
            kt_build(&in, tensor, &results, &args);
            assert_int_equal(tt_op_run(context, op, &args), TT_OK);
        }
    }
    tt_context_destroy(context);
    kt_clear(&in);
    kt_clear(&expected);
}

static void test_unaligned(void **state)
{
    (void)state;
    for_all_settings(check_unaligned);
}

/* ---- what is not finite, and what is tiny -----------------------------------------------------
 */

/* Where the reference has NaN the variant has it, and nowhere else. */
static void check_poison(const kt_setting *setting, tt_op op)
{
    static const double poisons[] = {NAN, INFINITY, -INFINITY};
    const int64_t size[5] = {21, 37, 19};
    for (int i = 0; i < 3 * OPTIONS; i++) {
        if (!kt_reads_weights(&options[i % OPTIONS], setting->variant))
            continue;
        kt_case in = kt_make_with(op, size, &options[i % OPTIONS], 5);
        for (int k = 0; k < 2; k++)
            in.t[k].value[in.t[k].n / (k + 2)] = poisons[i / OPTIONS];
        kt_case expected = kt_clone(&in);
        kt_setting reference = kt_f64();
        kt_run(&expected, &reference);
        kt_run(&in, setting);
        for (int k = 0; k < in.count; k++)
            for (int64_t j = 0; in.t[k].kind != KT_INPUT && j < in.t[k].n; j++)
                if (isnan(expected.t[k].value[j]) != isnan(in.t[k].value[j]) ||
                    isfinite(expected.t[k].value[j]) != isfinite(in.t[k].value[j]))
                    fail_msg("%s %s %s: %g gives %g at %lld of tensor %d, not %g", tt_op_name(op),
                             setting->variant, tt_dtype_name(setting->dtype), poisons[i / OPTIONS],
                             in.t[k].value[j], (long long)j, k, expected.t[k].value[j]);
        kt_clear(&in);
        kt_clear(&expected);
    }
}

/* Products that are denormal, of operands that are: exact, and never zero, or (sums_blocks) always.
 */
static void check_denormals(const kt_setting *setting, tt_op op)
{
    kt_options with = {.overwrite = true};
    kt_case c = kt_make_with(op, (int64_t[5]){17, 19, 23}, &with, 5);
    static const int depth[] = {2, 1, 0};
    int out = op == TT_OP_LINEAR_FORWARD ? 3 : 2;
    for (int64_t i = 0; i < c.t[0].n; i++)
        c.t[0].value[i] = 0x1p-130; /* bf16 and float hold it, as a denormal */
    for (int64_t i = 0; i < c.t[1].n; i++)
        c.t[1].value[i] = 1;
    for (int64_t i = 0; op == TT_OP_LINEAR_FORWARD && i < c.t[2].n; i++)
        c.t[2].value[i] = 0;
    kt_run(&c, setting);
    double expected = 0x1p-130 * (double)c.size[depth[op - TT_OP_LINEAR_FORWARD]];
    if (sums_blocks(setting))
        expected = 0;
    for (int64_t i = 0; i < c.t[out].n; i++)
        assert_true(c.t[out].value[i] == expected);
    kt_clear(&c);
}

static void test_special_values(void **state)
{
    (void)state;
    for_all_settings(check_poison);
    for_all_settings(check_denormals);
}

int main(int argc, char **argv)
{
    only = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edge_sizes),   cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_same_bits),    cmocka_unit_test(test_deep),
        cmocka_unit_test(test_batch_splits), cmocka_unit_test(test_fused_gelu),
        cmocka_unit_test(test_unaligned),    cmocka_unit_test(test_special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
