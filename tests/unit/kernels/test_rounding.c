/* Weights kept in bf16: AdamW's random rounding of them, and who cannot read them. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bf16.h"

typedef void (*variant_check)(const tt_variant_info *info);

/* Every AdamW but that of the float64 reference. */
static void for_variants(variant_check check)
{
    int count = 0;
    for (size_t v = 0; v < tt_variant_count(); v++) {
        if (kt_is_testable(tt_variant_at(v), TT_OP_ADAMW)) {
            check(tt_variant_at(v));
            count++;
        }
    }
    assert_true(count >= 2);
}

/* Tensors of ADAMW: p, m, v, g, p_next, m_next, v_next, verdict. */
enum { P, M, V, G, P_NEXT, M_NEXT, V_NEXT, VERDICT };

static kt_case make(int64_t n, bool bf16)
{
    kt_options with = {.bf16_weights = bf16};
    return kt_make_with(TT_OP_ADAMW, (int64_t[5]){n}, &with, 23);
}

/* The random numbers of the fixture's stream. */
static uint16_t random_at(int64_t i)
{
    uint16_t eight[8];
    tt_random_u16(11, (uint64_t)5 << 40 | 3, (uint64_t)(i / 8 * 8), eight, 8);
    return eight[i % 8];
}

/* ---- what a variant computes in f32, rounded by these numbers and no others ---- */

static void expect_rounded(const tt_variant_info *info, kt_case *bf16, int threads, long stream)
{
    kt_case f32 = make(bf16->size[0], false);
    kt_setting setting = kt_setting_of(info);
    setting.threads = threads;
    setting.stream_bytes = stream;
    for (int k = P; k <= G; k++)
        memcpy(f32.t[k].value, bf16->t[k].value, (size_t)f32.t[k].n * sizeof(double));
    kt_run(&f32, &setting);
    kt_run(bf16, &setting);
    double squares = 0, nonfinite = 0;
    for (int64_t i = 0; i < bf16->size[0]; i++) {
        uint16_t expected = tt_bf16_from_f32_randomly((float)f32.t[P_NEXT].value[i], random_at(i));
        uint16_t got = tt_bf16_from_f32((float)bf16->t[P_NEXT].value[i]);
        if (got != expected)
            fail_msg("%s: element %lld is %04x, not %04x (of %.9g)", info->name, (long long)i, got,
                     expected, f32.t[P_NEXT].value[i]);
        double change = bf16->t[P_NEXT].value[i] - bf16->t[P].value[i];
        squares += change * change;
        for (int k = P_NEXT; k <= V_NEXT; k++)
            nonfinite += isfinite(bf16->t[k].value[i]) ? 0 : 1;
    }
    for (int k = M_NEXT; k <= V_NEXT; k++)
        assert_memory_equal(bf16->t[k].value, f32.t[k].value, (size_t)f32.t[k].n * sizeof(double));
    assert_true(bf16->t[VERDICT].value[1] == nonfinite);
    if (nonfinite == 0) /* the change is rounded to float before it is squared */
        assert_true(fabs(bf16->t[VERDICT].value[0] - squares) <= 1e-6 * squares);
    kt_clear(&f32);
}

static void check_rounded(const tt_variant_info *info)
{
    static const int64_t sizes[] = {1,  3,   7,   8,   15,   16,   17,   33,
                                    63, 255, 256, 257, 4095, 4097, 20011};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        kt_case c = make(sizes[i], true);
        expect_rounded(info, &c, 1 + (int)i % 3, i % 2 == 0 ? -1 : 0);
        kt_clear(&c);
    }
}

static void test_rounded(void **state)
{
    (void)state;
    for_variants(check_rounded);
}

/* NaN and infinity in each operand, and what is next to overflow. */
static void check_special(const tt_variant_info *info)
{
    static const double poisons[] = {NAN, INFINITY, -INFINITY, 0x1.fep127, -0x1.fep127, 0x1p-133};
    for (int poison = 0; poison < 6; poison++) {
        kt_case c = make(301, true);
        for (int k = P; k <= G; k++)
            for (int64_t i = k; i < 301; i += 37)
                c.t[k].value[i] = k == V ? fabs(poisons[poison]) : poisons[poison];
        expect_rounded(info, &c, 2, -1);
        kt_clear(&c);
    }
}

static void test_special(void **state)
{
    (void)state;
    for_variants(check_special);
}

/* ---- the rounding itself ---- */

/* Over all random numbers x is hit on average, and nothing but its neighbours is. */
static void expect_unbiased(float x)
{
    double sum = 0;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    for (uint32_t random = 0; random < 0x10000u; random++) {
        uint16_t got = tt_bf16_from_f32_randomly(x, (uint16_t)random);
        assert_true(got == bits >> 16 || got == (bits >> 16) + 1);
        sum += (double)tt_bf16_to_f32(got);
    }
    assert_true(sum / 0x10000 == (double)x);
}

static void test_unbiased(void **state)
{
    (void)state;
    static const float values[] = {0.0F,      -0.0F,    1.0F,           0x1.000002p0F,
                                   0x1.01p0F, -3.1415F, 0x1.fffffep-1F, 0x1.234568p-130F,
                                   0x1p-149F, -1e-3F,   6.5e37F};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        expect_unbiased(values[i]);
    for (uint32_t random = 0; random < 0x10000u; random++) {
        assert_int_equal(tt_bf16_from_f32_randomly(FLT_MAX, (uint16_t)random), 0x7f7f);
        assert_int_equal(tt_bf16_from_f32_randomly(-FLT_MAX, (uint16_t)random), 0xff7f);
        assert_int_equal(tt_bf16_from_f32_randomly(INFINITY, (uint16_t)random), 0x7f80);
        assert_true(isnan(tt_bf16_to_f32(tt_bf16_from_f32_randomly(NAN, (uint16_t)random))));
    }
}

/* Many equal weights, all of which take the same small step: where rounding to nearest would leave
 * them as they are, their mean moves as far as f32 would, and each stays or goes to the next bf16.
 */
static void check_mean(const tt_variant_info *info)
{
    enum { N = 1 << 16 };
    kt_case c = make(N, true);
    kt_case exact = make(N, false);
    kt_setting setting = kt_setting_of(info);
    for (int64_t i = 0; i < N; i++) {
        c.t[P].value[i] = exact.t[P].value[i] = 16;
        c.t[M].value[i] = exact.t[M].value[i] = 0.01;
        c.t[V].value[i] = exact.t[V].value[i] = 0.01;
        c.t[G].value[i] = exact.t[G].value[i] = -0.01;
    }
    kt_run(&c, &setting);
    kt_run(&exact, &setting);
    const double step = 16 - exact.t[P_NEXT].value[0], gap = 0.0625; /* below 16 */
    double mean = 0;
    assert_true(step > 0.001 && step < gap / 2);
    for (int64_t i = 0; i < N; i++) {
        double moved = 16 - c.t[P_NEXT].value[i];
        assert_true(moved == 0 || moved == gap);
        mean += moved / N;
    }
    const double deviation = sqrt(step * (gap - step) / N); /* of a binomial mean */
    assert_true(fabs(mean - step) <= 4 * deviation);
    kt_clear(&c);
    kt_clear(&exact);
}

static void test_mean(void **state)
{
    (void)state;
    for_variants(check_mean);
}

/* Seeds and streams draw other numbers; the same ones the same, wherever a call begins. */
static void test_streams(void **state)
{
    (void)state;
    enum { N = 4096 };
    uint16_t a[N], b[N];
    tt_random_u16(1, 2, 0, a, N);
    static const uint64_t others[][2] = {{1, 3}, {2, 2}, {1, (uint64_t)1 << 40 | 2}};
    for (int i = 0; i < 3; i++) {
        int same = 0;
        tt_random_u16(others[i][0], others[i][1], 0, b, N);
        for (int k = 0; k < N; k++)
            same += a[k] == b[k];
        assert_true(same < 8);
    }
    for (size_t first = 0; first < 64; first += 8) {
        tt_random_u16(1, 2, first, b, 101);
        assert_memory_equal(b, a + first, 101 * sizeof *a);
    }
}

/* ---- who reads them ---- */

static void test_libraries(void **state)
{
    (void)state;
    static const tt_op ops[] = {TT_OP_LINEAR_FORWARD, TT_OP_LINEAR_DGRAD};
    const kt_options with = {.bf16_weights = true};
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        for (int i = 0; i < 2; i++) {
            if (info->library == TT_LIBRARY_NONE || !kt_is_testable(info, ops[i]))
                continue;
            kt_case c = kt_make_with(ops[i], (int64_t[5]){5, 6, 7}, &with, 1);
            kt_setting setting = kt_setting_of(info);
            assert_int_equal(kt_try(&c, &setting), TT_EUNSUPPORTED);
            assert_non_null(strstr(tt_error_message(), info->name));
            kt_clear(&c);
        }
    }
}

static tt_library library_of(const char *variant)
{
    for (size_t i = 0; i < tt_variant_count(); i++)
        if (strcmp(tt_variant_at(i)->name, variant) == 0)
            return tt_variant_at(i)->library;
    fail_msg("no variant %s", variant);
    return TT_LIBRARY_NONE;
}

/* The tuner finds all others right, and does not ask libraries. */
static void check_tuner(tt_dtype compute)
{
    static const tt_gemm_shape shapes[] = {{TT_OP_LINEAR_FORWARD, 70, 50, 90, 1},
                                           {TT_OP_LINEAR_DGRAD, 70, 50, 90, 1},
                                           {TT_OP_LINEAR_WGRAD, 70, 50, 90, 1}};
    static const tt_tile tile = {32, 32, 32};
    tt_context_options with;
    tt_context *context = NULL;
    tt_tune_options options;
    tt_tuning tuning;
    tt_context_options_init(&with);
    assert_int_equal(tt_context_create(&with, &context), TT_OK);
    assert_int_equal(tt_context_set_compute(context, compute), TT_OK);
    tt_tune_options_init(&options);
    options.shapes = shapes;
    options.shape_count = 3;
    options.tiles = &tile;
    options.tile_count = 1;
    options.budget_seconds = 100;
    options.show_all = true;
    options.weights_bf16 = true;
    assert_int_equal(tt_tune(context, &options, &tuning), TT_OK);
    assert_true(tuning.complete);
    for (size_t i = 0; i < 3 * tuning.candidate_count; i++) {
        const char *name = tuning.candidates[i % tuning.candidate_count].variant;
        const tt_gemm_shape *shape = &tuning.shapes[i / tuning.candidate_count];
        assert_true(tuning.cells[i].state != TT_TUNE_WRONG && tuning.cells[i].error < 1);
        if (shape->op != TT_OP_LINEAR_WGRAD && library_of(name) != TT_LIBRARY_NONE)
            assert_int_equal(tuning.cells[i].state, TT_TUNE_ABSENT);
    }
    tt_tuning_clear(&tuning);
    tt_context_destroy(context);
}

static void test_tuner(void **state)
{
    (void)state;
    check_tuner(TT_F32);
    check_tuner(TT_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounded),  cmocka_unit_test(test_special),
        cmocka_unit_test(test_unbiased), cmocka_unit_test(test_mean),
        cmocka_unit_test(test_streams),  cmocka_unit_test(test_libraries),
        cmocka_unit_test(test_tuner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
