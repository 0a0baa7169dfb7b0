/* NaN, infinities, denormals; arguments that break a contract. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where the reference has NaN the variant has NaN, and nowhere else; with an infinity, where the
 * reference is not finite the variant is not either. Counts of non-finite elements are equal. */
static bool same_nonfinite(const kt_case *expected, const kt_case *got, bool nan)
{
    for (int k = 0; k < got->count; k++) {
        if (got->t[k].kind == KT_INPUT || got->t[k].kind == KT_INDEX)
            continue;
        for (int64_t i = 0; i < got->t[k].n; i++) {
            double e = expected->t[k].value[i], g = got->t[k].value[i];
            bool wrong = nan ? isnan(e) != isnan(g) : !isfinite(e) && isfinite(g);
            if (got->t[k].kind == KT_RESULT && i == 1)
                wrong = e != g;
            if (wrong) {
                printf("tensor %d element %lld: %g, the reference has %g\n", k, (long long)i, g, e);
                return false;
            }
        }
    }
    return true;
}

static void check_poison(tt_op op, double poison, int k, int64_t at)
{
    kt_case in = kt_make(op, kt_size(op), 5);
    in.with.accumulate = true;
    in.t[k].value[at] = poison;
    kt_case expected = kt_clone(&in);
    kt_setting reference = kt_f64();
    kt_run(&expected, &reference);
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (!kt_is_testable(info, op))
            continue;
        kt_case got = kt_clone(&in);
        kt_setting setting = kt_setting_of(info);
        kt_run(&got, &setting);
        if (!same_nonfinite(&expected, &got, isnan(poison)))
            fail_msg("%s %s %s: %g in tensor %d at %lld", tt_op_name(op), info->name,
                     tt_dtype_name(info->dtype), poison, k, (long long)at);
        kt_clear(&got);
    }
    kt_clear(&in);
    kt_clear(&expected);
}

static void check_poisons(double poison)
{
    for (int op = 0; op < TT_OP_COUNT; op++) {
        kt_case c = kt_make((tt_op)op, kt_size((tt_op)op), 5);
        for (int k = 0; k < c.count; k++) {
            if (c.t[k].kind != KT_INPUT && c.t[k].kind != KT_BOTH)
                continue;
            const int64_t at[] = {0, c.t[k].n / 2, c.t[k].n - 1, c.t[k].n / 3};
            for (int i = 0; i < 4; i++)
                check_poison((tt_op)op, poison, k, at[i]);
        }
        kt_clear(&c);
    }
}

static void test_nan(void **state)
{
    (void)state;
    check_poisons(NAN);
}

static void test_infinity(void **state)
{
    (void)state;
    check_poisons(INFINITY);
    check_poisons(-INFINITY);
}

/* Rows [begin, end) of a matrix. */
typedef struct region {
    int k; /* tensor */
    int64_t stride, column, width, begin, end;
} region;

static void poison_row(kt_case *c, int k, int64_t stride, int64_t row, int64_t column, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        c->t[k].value[row * stride + column + i] = NAN;
}

static bool same_region(const kt_case *a, const kt_case *b, region r)
{
    for (int64_t row = r.begin; row < r.end; row++) {
        int64_t at = row * r.stride + r.column;
        if (memcmp(a->t[r.k].value + at, b->t[r.k].value + at, (size_t)r.width * sizeof(double)) !=
            0)
            return false;
    }
    return true;
}

enum { MASKED_TIME = 101, MASKED_HEADS = 2, MASKED_SIZE = 19 };
enum { MASKED_CHANNELS = MASKED_HEADS * MASKED_SIZE, MASKED_WIDE = 3 * MASKED_CHANNELS };
/* Around the sides of pairs, microkernels and blocks. */
static const int64_t masked_rows[] = {0, 1, 2, 5, 11, 12, 13, 15, 16, 64, 95, 96, 97, 99, 100};

/* A key and its value that are NaN change no bit of what queries before them get. */
static void check_masked_key(const tt_variant_info *info)
{
    const int64_t size[5] = {1, MASKED_TIME, MASKED_HEADS, MASKED_CHANNELS};
    const bool backward = info->op == TT_OP_ATTENTION_BACKWARD;
    kt_setting setting = kt_setting_of(info);
    kt_case in = kt_make(info->op, size, 5), expected = kt_clone(&in);
    kt_run(&expected, &setting);
    for (size_t n = 0; n < sizeof masked_rows / sizeof *masked_rows; n++) {
        int64_t row = masked_rows[n];
        for (int of_v = 0; of_v < 2; of_v++) {
            kt_case got = kt_clone(&in);
            poison_row(&got, 0, MASKED_WIDE, row, (1 + of_v) * MASKED_CHANNELS, MASKED_CHANNELS);
            kt_run(&got, &setting);
            region r = {backward ? 4 : 1,
                        backward ? MASKED_WIDE : MASKED_CHANNELS,
                        0,
                        MASKED_CHANNELS,
                        0,
                        row};
            if (!same_region(&got, &expected, r))
                fail_msg("%s %s %s: %s %lld reaches before it", tt_op_name(info->op), info->name,
                         tt_dtype_name(info->dtype), of_v ? "value" : "key", (long long)row);
            kt_clear(&got);
        }
    }
    kt_clear(&in);
    kt_clear(&expected);
}

/* A query and its gradient that are NaN change no bit of the gradients of keys after them. */
static void check_masked_query(const tt_variant_info *info)
{
    const int64_t size[5] = {1, MASKED_TIME, MASKED_HEADS, MASKED_CHANNELS};
    kt_setting setting = kt_setting_of(info);
    kt_case in = kt_make(info->op, size, 5), expected = kt_clone(&in);
    kt_run(&expected, &setting);
    for (size_t n = 0; n < sizeof masked_rows / sizeof *masked_rows; n++) {
        int64_t row = masked_rows[n];
        kt_case got = kt_clone(&in);
        poison_row(&got, 0, MASKED_WIDE, row, 0, MASKED_CHANNELS);
        poison_row(&got, 3, MASKED_CHANNELS, row, 0, MASKED_CHANNELS);
        kt_run(&got, &setting);
        region r = {4, MASKED_WIDE, MASKED_CHANNELS, 2 * MASKED_CHANNELS, row + 1, MASKED_TIME};
        if (!same_region(&got, &expected, r))
            fail_msg("%s %s %s: query %lld reaches beyond it", tt_op_name(info->op), info->name,
                     tt_dtype_name(info->dtype), (long long)row);
        kt_clear(&got);
    }
    kt_clear(&in);
    kt_clear(&expected);
}

static void test_the_mask_stops_nan(void **state)
{
    (void)state;
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (kt_is_testable(info, TT_OP_ATTENTION_FORWARD) ||
            kt_is_testable(info, TT_OP_ATTENTION_BACKWARD))
            check_masked_key(info);
        if (kt_is_testable(info, TT_OP_ATTENTION_BACKWARD))
            check_masked_query(info);
    }
}

typedef void (*variant_check)(const kt_setting *setting);

static void for_variants(tt_op op, variant_check check)
{
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        kt_setting setting = kt_setting_of(info);
        if (kt_is_testable(info, op))
            check(&setting);
    }
}

/* A mean of equal values is that value, however their weights are rounded: all but the first are
 * exp(-n/128), which the nearest bf16 misses by up to 2^-8. */
static void check_equal_values(const kt_setting *setting)
{
    enum { TIME = 33 };
    for (int n = 1; n <= 128; n++) {
        kt_case c = kt_make(TT_OP_ATTENTION_FORWARD, (int64_t[5]){1, TIME, 1, 1}, 1);
        for (int t = 0; t < TIME; t++) {
            const double row[] = {1, t == 0 ? 0 : -n / 128.0, 1}; /* q, k, v */
            memcpy(c.t[0].value + 3 * t, row, sizeof row);
        }
        kt_run(&c, setting);
        for (int t = 0; t < TIME; t++)
            if (!(fabs(c.t[1].value[t] - 1) < 1e-6))
                fail_msg("%s: %.9g, not 1", setting->variant, c.t[1].value[t]);
        kt_clear(&c);
    }
}

static void test_equal_values(void **state)
{
    (void)state;
    for_variants(TT_OP_ATTENTION_FORWARD, check_equal_values);
}

/* Unit roundoff and smallest denormal of what an activation is stored in. */
static double act_unit(const kt_setting *setting)
{
    return setting->dtype == TT_BF16 ? 0x1p-8 : kt_unit;
}

static double act_least(const kt_setting *setting)
{
    return setting->dtype == TT_BF16 ? 0x1p-133 : 0x1p-149;
}

/* exp over its whole range, as the probabilities of a softmax with one logit at 0: to 2 ulp, and to
 * the last denormal. */
static void check_exp(const kt_setting *setting)
{
    enum { N = 2000 };
    kt_case c = kt_make(TT_OP_SOFTMAX_XENT, (int64_t[5]){N, 2}, 1);
    for (int i = 0; i < N; i++) {
        c.t[0].value[2 * i] = (double)(float)(-0.055 * i); /* down to -110 */
        c.t[0].value[2 * i + 1] = 0;
        c.t[1].value[i] = 1;
    }
    kt_run(&c, setting);
    for (int i = 0; i < N; i++) {
        double e = exp(c.t[0].value[2 * i]), expected = 0.37 * e / (1 + e);
        double error = fabs(c.t[3].value[2 * i] - expected);
        if (!(error <= expected * (4 * 0x1p-23 + act_unit(setting)) + act_least(setting)))
            fail_msg("%s: exp(%g): error %g", setting->variant, c.t[0].value[2 * i], error);
    }
    kt_clear(&c);
}

static void check_denormals(const kt_setting *setting)
{
    kt_case c = kt_make(TT_OP_ADD, (int64_t[5]){40}, 1);
    for (int i = 0; i < 40; i++) {
        c.t[0].value[i] = 0x1p-149 * (i + 1);
        c.t[1].value[i] = 0x1p-133; /* bf16's smallest */
    }
    kt_run(&c, setting);
    for (int i = 0; i < 40; i++)
        assert_true(c.t[2].value[i] == 0x1p-149 * (i + 1) + 0x1p-133);
    kt_clear(&c);
}

static void check_denormal_product(const kt_setting *setting)
{
    if (setting->dtype != TT_F32) /* matrix units for bf16 take denormals for zero */
        return;
    kt_case c = kt_make(TT_OP_LINEAR_FORWARD, (int64_t[5]){20, 40, 1}, 1);
    for (int i = 0; i < 20; i++)
        c.t[0].value[i] = 0x1p-149 * (i + 1);
    for (int j = 0; j < 40; j++) {
        c.t[1].value[j] = 1;
        c.t[2].value[j] = 0x1p-149 * j;
    }
    kt_run(&c, setting);
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 40; j++)
            assert_true(c.t[3].value[i * 40 + j] == 0x1p-149 * (i + 1 + j));
    kt_clear(&c);
}

/* GELU where x^3 overflows, and far out on both sides. */
static void check_gelu_far(const kt_setting *setting)
{
    const double x[] = {1e30, -1e30, 3e38, -3e38, 30, -30, 0, -0.0, 1e-40, 13, -13};
    kt_case f = kt_make(TT_OP_GELU_FORWARD, (int64_t[5]){11}, 1);
    kt_case b = kt_make(TT_OP_GELU_BACKWARD, (int64_t[5]){11}, 1);
    for (int i = 0; i < 11; i++) {
        f.t[0].value[i] = b.t[0].value[i] = x[i];
        b.t[1].value[i] = 1;
    }
    kt_run(&f, setting);
    kt_run(&b, setting);
    for (int i = 0; i < 11; i++) {
        double y = f.t[1].value[i], slope = b.t[2].value[i];
        double expected = x[i] > 1 ? (double)(float)x[i] : x[i] == 1e-40 ? 5e-41 : 0;
        double unit = setting->dtype == TT_BF16 ? 2 * act_unit(setting) : 0; /* of x and of y */
        assert_true(fabs(y - expected) <= (2e-7 + unit) * expected + act_least(setting) + 1e-44);
        assert_true(fabs(slope - (x[i] > 1 ? 1 : x[i] < -1 ? 0 : 0.5)) < 1e-6);
    }
    kt_clear(&f);
    kt_clear(&b);
}

/* Silu far out on both sides, where exp overflows or a s (1 - s) cancels. */
static void check_swiglu_far(const kt_setting *setting)
{
    const double x[] = {0x1p100, -0x1p100, 0x1p127, -0x1p127, 96, -96, 0, -0.0, 32, -32};
    kt_case f = kt_make(TT_OP_SWIGLU_FORWARD, (int64_t[5]){10, 1}, 1);
    kt_case b = kt_make(TT_OP_SWIGLU_BACKWARD, (int64_t[5]){10, 1}, 1);
    for (int i = 0; i < 10; i++) {
        f.t[0].value[2 * i] = b.t[0].value[2 * i] = x[i];
        f.t[0].value[2 * i + 1] = b.t[0].value[2 * i + 1] = 0.5;
        b.t[1].value[i] = 1;
    }
    kt_run(&f, setting);
    kt_run(&b, setting);
    for (int i = 0; i < 10; i++) {
        double silu = x[i] > 1 ? x[i] : 0, slope = x[i] > 1 ? 1 : x[i] < -1 ? 0 : 0.5;
        assert_true(fabs(f.t[1].value[i] - 0.5 * silu) <= 1e-6 * silu + 1e-12);
        assert_true(fabs(b.t[2].value[2 * i] - 0.5 * slope) <= 1e-6);
        assert_true(fabs(b.t[2].value[2 * i + 1] - silu) <= 1e-6 * silu + 1e-12);
    }
    kt_clear(&f);
    kt_clear(&b);
}

static void test_ranges(void **state)
{
    (void)state;
    for_variants(TT_OP_SOFTMAX_XENT, check_exp);
    for_variants(TT_OP_ADD, check_denormals);
    for_variants(TT_OP_LINEAR_FORWARD, check_denormal_product);
    for_variants(TT_OP_GELU_FORWARD, check_gelu_far);
    for_variants(TT_OP_SWIGLU_FORWARD, check_swiglu_far);
}

static tt_context *make_context(void)
{
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    options.tensor_bytes = 1 << 20;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    return context;
}

/* Every operation refuses: no arguments, each missing tensor, a negative first size. */
static void test_missing_tensors(void **state)
{
    (void)state;
    tt_context *context = make_context();
    void *memory;
    const size_t bytes = 1 << 19;
    assert_int_equal(tt_tensor_alloc(context, bytes, &memory), TT_OK);
    for (int op = 0; op < TT_OP_COUNT; op++) {
        kt_case c = kt_make((tt_op)op, kt_size((tt_op)op), 1);
        kt_results results;
        kt_args args;
        void *tensor[KT_TENSORS];
        for (int k = 0; k < KT_TENSORS; k++)
            tensor[k] = memory;
        kt_build(&c, tensor, &results, &args);
        assert_int_equal(tt_op_run(context, (tt_op)op, NULL), TT_EINVAL);
        int64_t *first = (int64_t *)(void *)&args, kept = *first;
        *first = -1;
        assert_int_equal(tt_op_run(context, (tt_op)op, &args), TT_EINVAL);
        *first = kept;
        for (int k = 0; k < c.count; k++) {
            bool optional = (op == TT_OP_LINEAR_FORWARD && k == 2) ||
                            (op == TT_OP_LINEAR_WGRAD && k == 3) ||
                            (op == TT_OP_EMBEDDING_FORWARD && k == 2) ||
                            (op == TT_OP_EMBEDDING_BACKWARD && k == 3) ||
                            (op == TT_OP_SOFTMAX_XENT && k == 3) || c.t[k].kind == KT_RESULT;
            tensor[k] = NULL;
            assert_int_equal(tt_tensor_zero(context, memory, bytes), TT_OK); /* tokens, targets */
            kt_build(&c, tensor, &results, &args);
            tt_status status = tt_op_run(context, (tt_op)op, &args);
            assert_int_equal(status, optional ? TT_OK : TT_EINVAL);
            if (!optional)
                assert_non_null(strstr(tt_error_message(), tt_op_name((tt_op)op)));
            tensor[k] = memory;
        }
        kt_clear(&c);
    }
    tt_context_destroy(context);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    tt_context *context = make_context();
    char *t;
    void *memory;
    assert_int_equal(tt_tensor_alloc(context, 4096, &memory), TT_OK);
    t = memory;
    tt_attention_forward_args heads = {1, 2, 3, 8, t, t, t, 3};
    assert_int_equal(tt_op_run(context, TT_OP_ATTENTION_FORWARD, &heads), TT_EINVAL);
    assert_non_null(strstr(tt_error_message(), "8 channels"));
    heads.heads = 0;
    assert_int_equal(tt_op_run(context, TT_OP_ATTENTION_FORWARD, &heads), TT_EINVAL);
    tt_attention_cached_args stride = {2, 0, 1, 8, 7, t, t, t, t, 1};
    assert_int_equal(tt_op_run(context, TT_OP_ATTENTION_CACHED, &stride), TT_EINVAL);
    stride = (tt_attention_cached_args){2, -1, 1, 8, 8, t, t, t, t, 1};
    assert_int_equal(tt_op_run(context, TT_OP_ATTENTION_CACHED, &stride), TT_EINVAL);
    tt_attention_forward_args groups = {1, 2, 4, 8, t, t, t, 3};
    assert_int_equal(tt_op_run(context, TT_OP_ATTENTION_FORWARD, &groups), TT_EINVAL);
    assert_non_null(strstr(tt_error_message(), "3 key heads"));
    tt_rope_args odd = {1, 2, 0, 1, 1, 7, 10000, t, false};
    assert_int_equal(tt_op_run(context, TT_OP_ROPE, &odd), TT_EINVAL);
    odd.size = 8;
    odd.theta = NAN;
    assert_int_equal(tt_op_run(context, TT_OP_ROPE, &odd), TT_EINVAL);
    tt_layernorm_forward_args sumless = {
        .rows = 1, .channels = 2, .x = t, .gamma = t, .beta = t, .y = t, .mean = t, .rstd = t};
    sumless.branch = t;
    assert_int_equal(tt_op_run(context, TT_OP_LAYERNORM_FORWARD, &sumless), TT_EINVAL);
    tt_rmsnorm_forward_args unsummed = {
        .rows = 1, .channels = 2, .x = t, .gamma = t, .y = t, .rstd = t, .branch = t};
    assert_int_equal(tt_op_run(context, TT_OP_RMSNORM_FORWARD, &unsummed), TT_EINVAL);
    tt_linear_forward_args unreal = {
        .m = 1, .n = 1, .k = 1, .x = t, .w = t, .y = t, .gelu = t, .real_y = true};
    assert_int_equal(tt_op_run(context, TT_OP_LINEAR_FORWARD, &unreal), TT_EINVAL);
    tt_stats_args stats = {.n = 4, .x = t};
    assert_int_equal(tt_op_run(context, TT_OP_STATS, &stats), TT_EINVAL);
    tt_adamw_args adamw = {
        .n = 1, .p = t, .m = t, .v = t, .g = t, .p_next = t, .m_next = t, .v_next = t};
    assert_int_equal(tt_op_run(context, TT_OP_ADAMW, &adamw), TT_EINVAL);
    assert_int_equal(tt_op_run(context, TT_OP_COUNT, &adamw), TT_EINVAL);
    assert_int_equal(tt_op_run(NULL, TT_OP_ADAMW, &adamw), TT_EINVAL);
    tt_context_destroy(context);
}

/* Indices lie in tensor memory: checked before anything is read through them. */
static void test_bad_indices(void **state)
{
    (void)state;
    kt_setting setting = kt_f32("auto");
    kt_case c = kt_make(TT_OP_SOFTMAX_XENT, (int64_t[5]){3, 5}, 1);
    c.t[1].value[2] = 5;
    assert_int_equal(kt_try(&c, &setting), TT_EDATA);
    assert_non_null(strstr(tt_error_message(), "row 2"));
    c.t[1].value[2] = -1;
    assert_int_equal(kt_try(&c, &setting), TT_EDATA);
    kt_clear(&c);
    c = kt_make(TT_OP_EMBEDDING_FORWARD, (int64_t[5]){1, 3, 4, 5, 0}, 1);
    c.t[0].value[1] = -7;
    assert_int_equal(kt_try(&c, &setting), TT_EDATA);
    kt_clear(&c);
}

/* A head that the blocked scratch does not hold is refused, not computed wrongly. */
static void test_wide_head(void **state)
{
    (void)state;
    kt_setting setting = kt_f32("blocked_v1");
    kt_case c = kt_make(TT_OP_ATTENTION_FORWARD, (int64_t[5]){1, 3, 1, 513}, 1);
    assert_int_equal(kt_try(&c, &setting), TT_EUNSUPPORTED);
    assert_non_null(strstr(tt_error_message(), "reference"));
    setting.variant = "reference";
    assert_int_equal(kt_try(&c, &setting), TT_OK);
    kt_clear(&c);
    setting.variant = "blocked_v1";
    c = kt_make(TT_OP_ATTENTION_BACKWARD, (int64_t[5]){1, 3, 1, 512}, 1);
    assert_int_equal(kt_try(&c, &setting), TT_OK);
    kt_clear(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_infinity),
        cmocka_unit_test(test_the_mask_stops_nan),
        cmocka_unit_test(test_equal_values),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_missing_tensors),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_bad_indices),
        cmocka_unit_test(test_wide_head),
    };
    kt_select(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
