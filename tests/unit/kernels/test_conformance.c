/* Every variant of variants.def that this machine can run, against the float64 reference, over
 * edge sizes. Bounds come from the number of roundings and the magnitude of what is summed. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bf16.h"

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

/* What stood in output k before, which the operation adds to. */
static double before(const kt_case *in, int k, int64_t i)
{
    return in->t[k].kind == KT_BOTH ? in->t[k].value[i] : 0;
}

/* The sum with a branch is rounded before it is normalized: relative to the row's deviation that
 * is |sum| rstd times as much, for mean, rstd and y alike. */
static void bound_layernorm_forward(const kt_case *in, const kt_case *expected, int k,
                                    double *bound)
{
    double rounds = ((double)in->size[1] / 4 + 32) * kt_unit, sum = 0;
    double rstd = kt_largest(&expected->t[5]);
    if (in->with.branch)
        sum = 2 * kt_unit * kt_largest(&expected->t[7]);
    double from_sum = k == 3   ? sum * rstd * kt_largest(&in->t[1])
                      : k == 5 ? sum * rstd * rstd
                               : sum;
    double limit = rounds * fmax(kt_largest(&expected->t[k]), k == 5 ? 0 : 1) + from_sum;
    for (int64_t i = 0; i < in->t[k].n; i++)
        bound[i] = k == 7 ? kt_unit * fabs(expected->t[k].value[i]) + 1e-44 : limit;
}

/* Nothing is subtracted: every error is relative. */
static void bound_rmsnorm_forward(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    double rounds = k == 5 ? 1 : (double)in->size[1] / 4 + 32;
    for (int64_t i = 0; i < in->t[k].n; i++)
        bound[i] = rounds * kt_unit * fabs(expected->t[k].value[i]) + 1e-44;
}

/* dy, x, gamma, [mean], rstd, dx, dgamma, [dbeta], [dx_act] */
static void bound_norm_backward(const kt_case *in, int k, double *bound)
{
    int64_t rows = in->size[0], n = in->size[1];
    bool has_mean = in->op == TT_OP_LAYERNORM_BACKWARD;
    int at_rstd = has_mean ? 4 : 3, at_dx = at_rstd + 1, at_dgamma = at_dx + 1;
    bool is_dx = k == at_dx || k == at_dx + (has_mean ? 3 : 2);
    double rounds = ((double)n / 4 + 32) * kt_unit;
    const double *dy = in->t[0].value, *x = in->t[1].value, *rstd = in->t[at_rstd].value;
    double h = kt_largest(&in->t[0]) * kt_largest(&in->t[2]) * kt_largest(&in->t[at_rstd]);
    for (int64_t i = 0; i < in->t[k].n; i++) {
        double sum = fabs(before(in, is_dx ? at_dx : k, i));
        for (int64_t r = 0; !is_dx && r < rows; r++) {
            double z = (fabs(x[r * n + i]) + (has_mean ? fabs(in->t[3].value[r]) : 0)) * rstd[r];
            sum += fabs(dy[r * n + i]) * (k == at_dgamma ? z : 1);
        }
        bound[i] = is_dx ? rounds * (sum + 8 * h) : ((double)rows + 8) * kt_unit * sum;
    }
}

/* Cosine, sine, two products and their sum; values are left alone. */
static void bound_rope(const kt_case *in, double *bound)
{
    int64_t heads = in->size[3], size = in->size[4];
    int64_t kv = in->with.kv_heads > 0 ? in->with.kv_heads : heads;
    for (int64_t i = 0; i < in->t[0].n; i++) {
        int64_t at = i % ((heads + 2 * kv) * size), other = i + size / 2;
        if (at % size >= size / 2)
            other = i - size / 2;
        bound[i] = 0;
        if (at < (heads + kv) * size)
            bound[i] = 4 * kt_unit * (fabs(in->t[0].value[i]) + fabs(in->t[0].value[other]));
    }
}

/* The sigmoid has a relative error of a few roundings, 1 - sigmoid an absolute one. */
static void bound_swiglu(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    int64_t width = in->size[1];
    for (int64_t i = 0; i < in->t[k].n; i++) {
        bound[i] = 16 * kt_unit * fabs(expected->t[k].value[i]) + 1e-37;
        if (in->op == TT_OP_SWIGLU_FORWARD || i % (2 * width) >= width)
            continue;
        double gate = in->t[0].value[i], up = in->t[0].value[i + width], s = 1 / (1 + exp(-gate));
        double d = in->t[1].value[i / (2 * width) * width + i % (2 * width)];
        bound[i] = 16 * kt_unit * fabs(d * up) * s * (1 + fabs(gate)) + 1e-37;
    }
}

static void bound_softmax(const kt_case *in, const kt_case *expected, int k, double *bound)
{
    int64_t vocab = in->size[1];
    double range = 2 * kt_largest(&in->t[0]),
           rounds = ((double)vocab / 4 + 16 + 2 * range) * kt_unit;
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
        if (in->with.bf16_weights) /* by chance to the other neighbour: see test_rounding.c */
            limit[0] += 0x1p17 * (fabs(p) + fabs(change));
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
static void bound_output(const kt_case *in, const kt_case *expected, int k,
                         const tt_variant_info *info, double *bound)
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
        bound_layernorm_forward(in, expected, k, bound);
        break;
    case TT_OP_RMSNORM_FORWARD:
        bound_rmsnorm_forward(in, expected, k, bound);
        break;
    case TT_OP_LAYERNORM_BACKWARD:
    case TT_OP_RMSNORM_BACKWARD:
        bound_norm_backward(in, k, bound);
        break;
    case TT_OP_ROPE:
        bound_rope(in, bound);
        break;
    case TT_OP_SWIGLU_FORWARD:
    case TT_OP_SWIGLU_BACKWARD:
        bound_swiglu(in, expected, k, bound);
        break;
    case TT_OP_ATTENTION_FORWARD:
    case TT_OP_ATTENTION_BACKWARD:
    case TT_OP_ATTENTION_CACHED:
        kt_bound_attention(in, expected, k, info->isa == TT_ISA_AVX512_BF16, bound);
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

/* An activation in bf16 is the float rounded once more: 8 bits, down to the denormals. */
static void bound_rounding(const kt_tensor *expected, double *bound)
{
    for (int64_t i = 0; i < expected->n && expected->act; i++)
        bound[i] += 0x1p-8 * (fabs(expected->value[i]) + bound[i]) + 0x1p-134;
}

/* Worst error as a share of its bound. */
static double compare(const kt_case *in, const kt_case *expected, const kt_case *got,
                      const tt_variant_info *info)
{
    double worst = 0;
    for (int k = 0; k < in->count; k++) {
        if (in->t[k].kind == KT_INPUT || in->t[k].kind == KT_INDEX)
            continue;
        double *bound = calloc((size_t)in->t[k].n + 1, sizeof *bound);
        bound_output(in, expected, k, info, bound);
        if (info->dtype == TT_BF16)
            bound_rounding(&expected->t[k], bound);
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

/* Products round their weights where the context computes in bf16. */
static kt_case with_rounded_weights(const kt_case *in)
{
    kt_case rounded = kt_clone(in);
    bool product = in->op == TT_OP_LINEAR_FORWARD || in->op == TT_OP_LINEAR_DGRAD;
    for (int64_t i = 0; product && i < in->t[1].n; i++)
        rounded.t[1].value[i] = (double)tt_bf16_to_f32(tt_bf16_from_f32((float)in->t[1].value[i]));
    return rounded;
}

/* All variants of one compute type, on tensors that are aligned and on such that are not. */
static void check_variants(const kt_case *in, tt_dtype compute)
{
    kt_setting reference = kt_f64();
    kt_case exact = compute == TT_BF16 ? with_rounded_weights(in) : kt_clone(in);
    kt_case expected = kt_clone(&exact);
    kt_run(&expected, &reference);
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (!kt_is_testable(info, in->op) || info->dtype != compute)
            continue;
        for (int misaligned = 0; misaligned < 2; misaligned++) {
            kt_setting setting = kt_setting_of(info);
            setting.misaligned = misaligned == 1;
            kt_case got = kt_clone(in);
            kt_run(&got, &setting);
            if (compare(&exact, &expected, &got, info) > 1)
                fail_msg("%s %s %s at %lld %lld %lld %lld %lld%s", tt_op_name(in->op), info->name,
                         tt_dtype_name(compute), (long long)in->size[0], (long long)in->size[1],
                         (long long)in->size[2], (long long)in->size[3], (long long)in->size[4],
                         misaligned ? ", misaligned" : "");
            kt_clear(&got);
        }
    }
    kt_clear(&exact);
    kt_clear(&expected);
}

/* All variants of one operation on one size. */
static void check_options(tt_op op, const int64_t size[5], kt_options with)
{
    kt_case in = kt_make_with(op, size, &with, 7);
    check_variants(&in, TT_F32);
    if (!(op == TT_OP_SOFTMAX_XENT && with.in_place))
        check_variants(&in, TT_BF16);
    kt_clear(&in);
}

static void check_size(tt_op op, const int64_t size[5], bool accumulate, bool in_place)
{
    check_options(op, size, (kt_options){.accumulate = accumulate, .in_place = in_place});
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
        check_options(TT_OP_EMBEDDING_FORWARD, (int64_t[5]){1, time, channels, 11, i},
                      (kt_options){.placeless = true});
        check_options(TT_OP_EMBEDDING_FORWARD, (int64_t[5]){1 + i % 3, time, channels, 11, i},
                      (kt_options){.placeless = i % 2 == 1, .bf16_weights = true});
        check_options(TT_OP_EMBEDDING_BACKWARD, (int64_t[5]){1, time, channels, 11},
                      (kt_options){.placeless = true});
    }
    check_size(TT_OP_EMBEDDING_BACKWARD, (int64_t[5]){8, 128, 384, 65}, false, false);
    check_size(TT_OP_EMBEDDING_FORWARD, (int64_t[5]){0, 3, 4, 5, 0}, false, false);
}

/* Every combination of a norm's options. */
static void check_norms(const int64_t size[5])
{
    static const tt_op forward[] = {TT_OP_LAYERNORM_FORWARD, TT_OP_RMSNORM_FORWARD};
    static const tt_op backward[] = {TT_OP_LAYERNORM_BACKWARD, TT_OP_RMSNORM_BACKWARD};
    for (int norm = 0; norm < 2; norm++) {
        check_options(forward[norm], size, (kt_options){0});
        check_options(forward[norm], size, (kt_options){.branch = true});
        check_options(forward[norm], size, (kt_options){.branch = true, .in_place = true});
        for (int with = 0; with < 4; with++)
            check_options(backward[norm], size,
                          (kt_options){.overwrite = with % 2 == 1, .dx_act = with / 2 == 1});
    }
}

static void test_norms(void **state)
{
    (void)state;
    for (int i = 0; i < EDGES; i++)
        check_norms((int64_t[5]){edges[(3 * i + 1) % EDGES], edges[i]});
    check_norms((int64_t[5]){301, 768});
    check_norms((int64_t[5]){0, 16});
}

static void test_rope(void **state)
{
    (void)state;
    for (int i = 0; i < EDGES; i++) {
        int64_t kv_heads = 1 + i % 3, size = 2 * edges[i];
        const int64_t whole[5] = {1 + i % 2, edges[(3 * i + 1) % EDGES], 0, 2 * kv_heads, size};
        check_options(TT_OP_ROPE, whole, (kt_options){.kv_heads = kv_heads});
        check_options(TT_OP_ROPE, (int64_t[5]){1, 1, 1000 * i, kv_heads, size},
                      (kt_options){.inverse = true});
    }
    check_options(TT_OP_ROPE, (int64_t[5]){1, 2, 5, 1, 1030}, (kt_options){0});
    check_options(TT_OP_ROPE, (int64_t[5]){0, 2, 5, 1, 8}, (kt_options){0});
}

static void check_attention(const int64_t size[5], int64_t kv_heads)
{
    check_options(TT_OP_ATTENTION_FORWARD, size, (kt_options){.kv_heads = kv_heads});
    check_options(TT_OP_ATTENTION_BACKWARD, size, (kt_options){.kv_heads = kv_heads});
}

static void test_attention(void **state)
{
    (void)state;
    static const int64_t head_sizes[] = {1, 3, 8, 16, 24, 33, 64};
    for (int i = 0; i < EDGES; i++) {
        int64_t kv_heads = 1 + i % 3, group = 1 + i % 2, heads = kv_heads * group;
        int64_t channels = heads * head_sizes[i % 7],
                wide = channels + 2 * kv_heads * head_sizes[i % 7];
        kt_options with = {.kv_heads = kv_heads};
        check_attention((int64_t[5]){1 + i % 2, edges[i], heads, channels}, kv_heads);
        check_options(TT_OP_ATTENTION_CACHED,
                      (int64_t[5]){edges[i], edges[(5 * i + 2) % EDGES], heads, channels,
                                   i % 2 == 0 ? channels : wide},
                      with);
        check_options(TT_OP_ATTENTION_CACHED,
                      (int64_t[5]){1, edges[i] - 1, heads, channels, channels}, with);
    }
    check_attention((int64_t[5]){2, 307, 2, 80}, 0);
    check_attention((int64_t[5]){1, 211, 4, 64}, 1);
    check_attention((int64_t[5]){0, 3, 1, 8}, 0);
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
    for (int i = 0; i < EDGES; i++)
        check_options(TT_OP_ADAMW, (int64_t[5]){edges[i]},
                      (kt_options){.in_place = i % 2 == 1, .bf16_weights = true});
}

static void test_swiglu(void **state)
{
    (void)state;
    for (int i = 0; i < EDGES; i++) {
        const int64_t size[5] = {edges[(3 * i + 1) % EDGES], edges[i]};
        check_size(TT_OP_SWIGLU_FORWARD, size, false, false);
        check_size(TT_OP_SWIGLU_BACKWARD, size, false, i % 2 == 0);
    }
    check_size(TT_OP_SWIGLU_FORWARD, (int64_t[5]){31, 2051}, false, false);
    check_size(TT_OP_SWIGLU_BACKWARD, (int64_t[5]){31, 2051}, false, true);
    check_size(TT_OP_SWIGLU_FORWARD, (int64_t[5]){0, 4}, false, false);
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
        int f32 = 0, f64 = 0, bf16 = 0;
        for (size_t v = 0; v < tt_variant_count(); v++) {
            const tt_variant_info *info = tt_variant_at(v);
            f32 += info->op == (tt_op)op && info->dtype == TT_F32;
            f64 += info->op == (tt_op)op && info->dtype == TT_F64;
            bf16 += info->op == (tt_op)op && info->dtype == TT_BF16;
        }
        assert_true(f32 >= 2); /* the reference and at least one more */
        assert_int_equal(f64, 1);
        bool has_act = false;
        kt_case c = {.op = (tt_op)op};
        memcpy(c.size, kt_size((tt_op)op), sizeof c.size);
        kt_shape(&c);
        for (int k = 0; k < c.count; k++)
            has_act = has_act || c.t[k].act;
        assert_true(has_act ? bf16 >= 1 : bf16 == 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_forward),
        cmocka_unit_test(test_linear_dgrad),
        cmocka_unit_test(test_linear_wgrad),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_every_row_is_covered),
    };
    kt_select(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
