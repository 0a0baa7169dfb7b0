/* Every variant of variants.def that this machine can run, against the float64 reference, over
 * edge sizes. Bounds come from the number of roundings and the magnitude of what is summed. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double largest(const kt_tensor *t)
{
    double max = 0;
    for (int64_t i = 0; i < t->n; i++)
        max = fmax(max, fabs(t->value[i]));
    return max;
}

static double largest_row_norm(const double *x, int64_t rows, int64_t n)
{
    double max = 0;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++)
            sum += x[i * n + j] * x[i * n + j];
        max = fmax(max, sqrt(sum));
    }
    return max;
}

/* Sums of products: (terms + 2) u times the same sums over magnitudes. */
static void bound_sums(const kt_case *in, int k, int64_t terms, double *bound)
{
    kt_case magnitude = kt_clone(in);
    kt_setting setting = kt_f64();
    for (int j = 0; j < in->count; j++)
        for (int64_t i = 0; i < in->t[j].n; i++)
            magnitude.t[j].value[i] = fabs(in->t[j].value[i]);
    kt_run(&magnitude, &setting);
    for (int64_t i = 0; i < in->t[k].n; i++)
        bound[i] = (double)(terms + 2) * kt_unit * magnitude.t[k].value[i] + 1e-44;
    kt_clear(&magnitude);
}

static double gelu_argument(double x)
{
    return 1.5957691216057308 * (x + 0.044715 * x * x * x);
}

static void bound_gelu(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    for (int64_t i = 0; i < in->t[k].n; i++) {
        double x = in->t[0].value[i], z = gelu_argument(x), s = 1 / (1 + exp(-z));
        if (in->op == TT_OP_GELU_FORWARD)
            bound[i] = kt_unit * fabs(expected->t[k].value[i]) * (4 * fabs(z) + 8) + 1e-37;
        else
            bound[i] = kt_unit * fabs(in->t[1].value[i]) * (4 * fabs(z) + 16) *
                           (s + fabs(x) * s * (1 - s) * (1.6 + 0.22 * x * x)) +
                       1e-37;
    }
}

static void bound_layernorm(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    int64_t rows = in->size[0], n = in->size[1];
    double rounds = ((double)n / 4 + 32) * kt_unit;
    if (in->op == TT_OP_LAYERNORM_FORWARD) {
        double limit = rounds * fmax(largest(&expected->t[k]), k == 5 ? 0 : 1);
        for (int64_t i = 0; i < in->t[k].n; i++)
            bound[i] = limit;
        return;
    }
    const double *dy = in->t[0].value, *x = in->t[1].value;
    double h = largest(&in->t[0]) * largest(&in->t[2]), rstd = largest(&in->t[4]);
    for (int64_t i = 0; i < in->t[k].n; i++) {
        double sum = fabs(in->t[k].value[i]);
        for (int64_t r = 0; k > 5 && r < rows; r++) {
            double z = (fabs(x[r * n + i]) + fabs(in->t[3].value[r])) * in->t[4].value[r];
            sum += fabs(dy[r * n + i]) * (k == 6 ? z : 1);
        }
        bound[i] = k == 5 ? rounds * (sum + 8 * h * rstd) : ((double)rows + 8) * kt_unit * sum;
    }
}

/* A score has the error of its dot product (twenty times the usual one, as in tune_check.c); it is
 * what the exponential's relative error comes from. */
static void bound_attention(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    bool cached = in->op == TT_OP_ATTENTION_CACHED;
    int64_t heads = cached ? in->size[2] : in->size[2], channels = in->size[3];
    int64_t time = cached ? in->size[0] + in->size[1] : in->size[1], size = channels / heads;
    double norm = largest_row_norm(in->t[0].value, in->t[0].n / size, size), norm_k = norm;
    if (cached)
        norm_k = largest_row_norm(in->t[1].value, in->t[1].n / size, size);
    double score = 8 * kt_unit * norm * norm_k / sqrt((double)size);
    double rounds = 4 * score + ((double)time / 4 + 32) * kt_unit;
    double value = cached ? largest(&in->t[2]) : largest(&in->t[0]);
    double limit = rounds * value;
    if (in->op == TT_OP_ATTENTION_FORWARD && k == 2)
        limit = rounds * fmax(1, largest(&expected->t[2]));
    if (in->op == TT_OP_ATTENTION_BACKWARD) {
        double dout = largest_row_norm(in->t[3].value, in->t[3].n / size, size);
        limit = rounds * (largest(&expected->t[4]) + dout * norm * value / sqrt((double)size));
    }
    for (int64_t i = 0; i < in->t[k].n; i++)
        bound[i] = limit;
}

static void bound_softmax(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    int64_t vocab = in->size[1];
    double range = 2 * largest(&in->t[0]), rounds = ((double)vocab / 4 + 16 + 2 * range) * kt_unit;
    for (int64_t i = 0; i < in->t[k].n; i++)
        bound[i] = k == 2 ? rounds + 2 * kt_unit * range
                          : rounds * (fabs(expected->t[k].value[i]) + 1e-30) + 1e-44;
    for (int64_t row = 0; k == 3 && row < in->size[0]; row++)
        bound[row * vocab + (int64_t)in->t[1].value[row]] = rounds * 0.37;
}

static void bound_adamw(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    double changes = 0;
    for (int64_t i = 0; i < in->t[0].n; i++) {
        double p = in->t[0].value[i], change = expected->t[4].value[i] - p;
        double m = fabs(in->t[1].value[i]) + fabs(in->t[3].value[i]);
        double v = in->t[2].value[i] + in->t[3].value[i] * in->t[3].value[i];
        double limit[] = {2 * fabs(p) + 0.01 * 16 * m / (sqrt(v) * 0.2 + 1e-8) + 16 * fabs(change),
                          4 * m, 8 * v};
        changes += 2 * (fabs(change) + 2 * kt_unit * limit[0]) * limit[0];
        if (k < 7)
            bound[i] = kt_unit * limit[k - 4] + 1e-44;
    }
    if (k == 7) {
        bound[0] = kt_unit * changes;
        bound[1] = 0;
    }
}

/* The largest permitted error of each element of output k. */
static void bound_output(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    switch (in->op) {
    case TT_OP_LINEAR_FORWARD:
        bound_sums(in, k, in->size[2] + 1, bound);
        break;
    case TT_OP_LINEAR_DGRAD:
        bound_sums(in, k, in->size[1] + 1, bound);
        break;
    case TT_OP_LINEAR_WGRAD:
        bound_sums(in, k, in->size[0] + 1, bound);
        break;
    case TT_OP_EMBEDDING_BACKWARD:
        bound_sums(in, k, in->size[0] * in->size[1], bound);
        break;
    case TT_OP_GELU_FORWARD:
    case TT_OP_GELU_BACKWARD:
        bound_gelu(in, expected, k, bound);
        break;
    case TT_OP_LAYERNORM_FORWARD:
    case TT_OP_LAYERNORM_BACKWARD:
        bound_layernorm(in, expected, k, bound);
        break;
    case TT_OP_ATTENTION_FORWARD:
    case TT_OP_ATTENTION_BACKWARD:
    case TT_OP_ATTENTION_CACHED:
        bound_attention(in, expected, k, bound);
        break;
    case TT_OP_SOFTMAX_XENT:
        bound_softmax(in, expected, k, bound);
        break;
    case TT_OP_ADAMW:
        bound_adamw(in, expected, k, bound);
        break;
    case TT_OP_STATS:
        bound_sums(in, k, in->size[0], bound);
        bound[0] *= 0x1p-29; /* a float64 sum; the count is exact */
        bound[1] = 0;
        break;
    default: /* embedding forward, add: one rounding */
        for (int64_t i = 0; i < in->t[k].n; i++)
            bound[i] = kt_unit * fabs(expected->t[k].value[i]) + 1e-44;
        break;
    }
}

/* Worst error as a share of its bound. */
static double compare(const kt_case *in, const kt_case *expected, const kt_case *got)
{
    double worst = 0;
    for (int k = 0; k < in->count; k++) {
        if (in->t[k].kind == KT_INPUT || in->t[k].kind == KT_INDEX)
            continue;
        double *bound = calloc((size_t)in->t[k].n + 1, sizeof *bound);
        bound_output(in, expected, k, bound);
        for (int64_t i = 0; i < in->t[k].n; i++) {
            double error = fabs(got->t[k].value[i] - expected->t[k].value[i]);
            if (error <= bound[i]) {
                worst = fmax(worst, bound[i] > 0 ? error / bound[i] : 0);
                continue;
            }
            printf("tensor %d element %lld of %lld: %.9g, expected %.9g +- %.3g\n", k, (long long)i,
                   (long long)in->t[k].n, got->t[k].value[i], expected->t[k].value[i], bound[i]);
            free(bound);
            return INFINITY;
        }
        free(bound);
    }
    return worst;
}

/* All variants of one operation on one size. */
static void check_size(tt_op op, const int64_t size[5], bool accumulate, bool in_place)
{
    kt_options with = {.accumulate = accumulate, .in_place = in_place};
    kt_case in = kt_make_with(op, size, &with, 7);
    kt_case expected = kt_clone(&in);
    kt_setting reference = kt_f64();
    kt_run(&expected, &reference);
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (info->op != op || info->dtype != TT_F32 || !tt_variant_available(info))
            continue;
        kt_setting setting = kt_f32(info->name);
        kt_case got = kt_clone(&in);
        kt_run(&got, &setting);
        if (compare(&in, &expected, &got) > 1)
            fail_msg("%s %s at %lld %lld %lld %lld %lld", tt_op_name(op), info->name,
                     (long long)size[0], (long long)size[1], (long long)size[2], (long long)size[3],
                     (long long)size[4]);
        kt_clear(&got);
    }
    kt_clear(&in);
    kt_clear(&expected);
}

static const int64_t edges[] = {1, 2, 3, 7, 12, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, 129};
enum { EDGES = sizeof edges / sizeof *edges };

/* Edge sizes against each other, without all their products: (i, 5i + 3, 7i + 1). */
static void check_linear(tt_op op)
{
    for (int i = 0; i < EDGES; i++) {
        check_size(op,
                   (int64_t[5]){edges[i], edges[(5 * i + 3) % EDGES], edges[(7 * i + 1) % EDGES]},
                   i % 2 == 1, false);
        check_size(op,
                   (int64_t[5]){edges[(3 * i + 5) % EDGES], edges[i], edges[(11 * i + 2) % EDGES]},
                   i % 2 == 0, false);
    }
    check_size(op, (int64_t[5]){257, 131, 301}, false, false);
    check_size(op, (int64_t[5]){1, 384, 771}, true, false);
    check_size(op, (int64_t[5]){0, 5, 3}, false, false);
    check_size(op, (int64_t[5]){5, 3, 0}, false, false);
    check_size(op, (int64_t[5]){5, 0, 3}, false, false);
}

static void test_linear_forward(void **state)
{
    (void)state;
    check_linear(TT_OP_LINEAR_FORWARD);
}

static void test_linear_dgrad(void **state)
{
    (void)state;
    check_linear(TT_OP_LINEAR_DGRAD);
}

static void test_linear_wgrad(void **state)
{
    (void)state;
    check_linear(TT_OP_LINEAR_WGRAD);
}

static void test_embedding(void **state)
{
    (void)state;
    for (int i = 0; i < EDGES; i++) {
        int64_t channels = edges[i], time = edges[(3 * i + 1) % EDGES];
        check_size(TT_OP_EMBEDDING_FORWARD, (int64_t[5]){1 + i % 3, time, channels, 11, i}, false,
                   false);
        check_size(TT_OP_EMBEDDING_BACKWARD, (int64_t[5]){1 + i % 3, time, channels, 11}, false,
                   false);
    }
    check_size(TT_OP_EMBEDDING_BACKWARD, (int64_t[5]){8, 128, 384, 65}, false, false);
    check_size(TT_OP_EMBEDDING_FORWARD, (int64_t[5]){0, 3, 4, 5, 0}, false, false);
}

static void test_layernorm(void **state)
{
    (void)state;
    for (int i = 0; i < EDGES; i++) {
        const int64_t size[5] = {edges[(3 * i + 1) % EDGES], edges[i]};
        check_size(TT_OP_LAYERNORM_FORWARD, size, false, false);
        check_size(TT_OP_LAYERNORM_BACKWARD, size, false, false);
    }
    check_size(TT_OP_LAYERNORM_FORWARD, (int64_t[5]){301, 768}, false, false);
    check_size(TT_OP_LAYERNORM_BACKWARD, (int64_t[5]){301, 768}, false, false);
    check_size(TT_OP_LAYERNORM_BACKWARD, (int64_t[5]){0, 16}, false, false);
}

static void test_attention(void **state)
{
    (void)state;
    static const int64_t head_sizes[] = {1, 3, 8, 16, 24, 33, 64};
    for (int i = 0; i < EDGES; i++) {
        int64_t heads = 1 + i % 3, channels = heads * head_sizes[i % 7];
        const int64_t size[5] = {1 + i % 2, edges[i], heads, channels};
        check_size(TT_OP_ATTENTION_FORWARD, size, false, false);
        check_size(TT_OP_ATTENTION_BACKWARD, size, false, false);
        check_size(TT_OP_ATTENTION_CACHED,
                   (int64_t[5]){edges[i], edges[(5 * i + 2) % EDGES], heads, channels,
                                i % 2 == 0 ? channels : 3 * channels},
                   false, false);
        check_size(TT_OP_ATTENTION_CACHED, (int64_t[5]){1, edges[i] - 1, heads, channels, channels},
                   false, false);
    }
    check_size(TT_OP_ATTENTION_FORWARD, (int64_t[5]){2, 307, 2, 80}, false, false);
    check_size(TT_OP_ATTENTION_BACKWARD, (int64_t[5]){2, 307, 2, 80}, false, false);
    check_size(TT_OP_ATTENTION_FORWARD, (int64_t[5]){0, 3, 1, 8}, false, false);
}

static void test_elementwise(void **state)
{
    (void)state;
    static const tt_op ops[] = {TT_OP_GELU_FORWARD, TT_OP_GELU_BACKWARD, TT_OP_ADD, TT_OP_STATS,
                                TT_OP_ADAMW};
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
        for (int i = 0; i < EDGES; i++) {
            check_size(ops[o], (int64_t[5]){edges[i]}, false, false);
            if (ops[o] != TT_OP_GELU_FORWARD && ops[o] != TT_OP_STATS)
                check_size(ops[o], (int64_t[5]){edges[i]}, false, true);
        }
        check_size(ops[o], (int64_t[5]){100003}, false, false);
        check_size(ops[o], (int64_t[5]){0}, false, false);
    }
    check_size(TT_OP_ADAMW, (int64_t[5]){100003}, false, true);
}

static void test_softmax(void **state)
{
    (void)state;
    for (int i = 0; i < EDGES; i++)
        check_size(TT_OP_SOFTMAX_XENT, (int64_t[5]){edges[(3 * i + 1) % EDGES], edges[i]}, false,
                   i % 2 == 0);
    check_size(TT_OP_SOFTMAX_XENT, (int64_t[5]){63, 5003}, false, false);
}

/* A row of variants.def without an operation, or an operation without variants, is a mistake. */
static void test_every_row_is_covered(void **state)
{
    (void)state;
    for (int op = 0; op < TT_OP_COUNT; op++) {
        int rows[2] = {0, 0};
        for (size_t v = 0; v < tt_variant_count(); v++)
            if (tt_variant_at(v)->op == (tt_op)op)
                rows[tt_variant_at(v)->dtype == TT_F64]++;
        assert_true(rows[0] >= 2); /* the reference and at least one more */
        assert_int_equal(rows[1], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_forward),
        cmocka_unit_test(test_linear_dgrad),
        cmocka_unit_test(test_linear_wgrad),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_every_row_is_covered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
