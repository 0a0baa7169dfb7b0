/* Backward operations against central differences of the forward ones, on the reference in double;
 * and the forward ones against values known without them. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The objective: the sum of weight x output over output `k` of the forward case. */
static double objective(const kt_case *forward, int k, const double *weight)
{
    kt_case c = kt_clone(forward);
    kt_setting setting = kt_f64();
    double sum = 0;
    kt_run(&c, &setting);
    for (int64_t i = 0; i < c.t[k].n; i++)
        sum += weight[i] * c.t[k].value[i];
    kt_clear(&c);
    return sum;
}

/* d objective / d input `k` must be `gradient`. The step balances truncation (h^2) with rounding
 * (1e-16 / h); errors count relative to the largest gradient. */
static void check_input(kt_case *forward, int output, const double *weight, int k,
                        const double *gradient)
{
    const double h = 3e-5;
    double scale = 0;
    for (int64_t i = 0; i < forward->t[k].n; i++)
        scale = fmax(scale, fabs(gradient[i]));
    assert_true(scale > 0);
    for (int64_t i = 0; i < forward->t[k].n; i++) {
        double *x = &forward->t[k].value[i], kept = *x;
        *x = kept + h;
        double above = objective(forward, output, weight);
        *x = kept - h;
        double below = objective(forward, output, weight);
        *x = kept;
        double difference = (above - below) / (2 * h);
        if (!(fabs(difference - gradient[i]) <= 2e-8 * scale))
            fail_msg("%s input %d element %lld: %.12g by differences, %.12g by the operation",
                     tt_op_name(forward->op), k, (long long)i, difference, gradient[i]);
    }
}

static void zero(kt_tensor *t)
{
    memset(t->value, 0, (size_t)t->n * sizeof(double));
}

static void give(kt_tensor *to, const kt_tensor *from)
{
    assert_int_equal(to->n, from->n);
    memcpy(to->value, from->value, (size_t)to->n * sizeof(double));
}

static void test_linear(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {4, 3, 5};
    kt_case forward = kt_make(TT_OP_LINEAR_FORWARD, size, 1);
    kt_case dgrad = kt_make(TT_OP_LINEAR_DGRAD, size, 2);
    kt_case wgrad = kt_make(TT_OP_LINEAR_WGRAD, size, 3);
    give(&dgrad.t[1], &forward.t[1]);
    give(&wgrad.t[0], &dgrad.t[0]);
    give(&wgrad.t[1], &forward.t[0]);
    zero(&wgrad.t[2]);
    zero(&wgrad.t[3]);
    const double *weight = dgrad.t[0].value;
    kt_run(&dgrad, &f64);
    kt_run(&wgrad, &f64);
    check_input(&forward, 3, weight, 0, dgrad.t[2].value);
    check_input(&forward, 3, weight, 1, wgrad.t[2].value);
    check_input(&forward, 3, weight, 2, wgrad.t[3].value);
    kt_clear(&forward);
    kt_clear(&dgrad);
    kt_clear(&wgrad);
}

static void test_embedding(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {2, 5, 3, 4, 0};
    kt_case forward = kt_make(TT_OP_EMBEDDING_FORWARD, size, 1);
    kt_case backward = kt_make(TT_OP_EMBEDDING_BACKWARD, size, 2);
    give(&backward.t[0], &forward.t[0]);
    zero(&backward.t[2]);
    zero(&backward.t[3]);
    kt_run(&backward, &f64);
    check_input(&forward, 3, backward.t[1].value, 1, backward.t[2].value);
    check_input(&forward, 3, backward.t[1].value, 2, backward.t[3].value);
    kt_clear(&forward);
    kt_clear(&backward);
}

static void test_embedding_without_places(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {2, 5, 3, 4, 0};
    const kt_options with = {.placeless = true};
    kt_case forward = kt_make_with(TT_OP_EMBEDDING_FORWARD, size, &with, 1);
    kt_case backward = kt_make_with(TT_OP_EMBEDDING_BACKWARD, size, &with, 2);
    give(&backward.t[0], &forward.t[0]);
    zero(&backward.t[2]);
    kt_run(&backward, &f64);
    check_input(&forward, 3, backward.t[1].value, 1, backward.t[2].value);
    kt_clear(&forward);
    kt_clear(&backward);
}

/* With a branch, what is normalized is the sum; its gradient is that of both addends. */
static void check_layernorm(bool branch, bool overwrite)
{
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {3, 7};
    const kt_options fused = {.branch = branch};
    const kt_options written = {.overwrite = overwrite, .dx_act = true};
    kt_case forward = kt_make_with(TT_OP_LAYERNORM_FORWARD, size, &fused, 1);
    kt_case ran = kt_clone(&forward);
    kt_case backward = kt_make_with(TT_OP_LAYERNORM_BACKWARD, size, &written, 2);
    kt_run(&ran, &f64);
    give(&backward.t[1], branch ? &ran.t[7] : &forward.t[0]);
    give(&backward.t[2], &forward.t[1]);
    give(&backward.t[3], &ran.t[4]);
    give(&backward.t[4], &ran.t[5]);
    for (int k = 5; k <= 7 && !overwrite; k++)
        zero(&backward.t[k]);
    kt_run(&backward, &f64);
    check_input(&forward, 3, backward.t[0].value, 0, backward.t[5].value);
    check_input(&forward, 3, backward.t[0].value, 0, backward.t[8].value);
    check_input(&forward, 3, backward.t[0].value, 1, backward.t[6].value);
    check_input(&forward, 3, backward.t[0].value, 2, backward.t[7].value);
    if (branch)
        check_input(&forward, 3, backward.t[0].value, 6, backward.t[5].value);
    kt_clear(&forward);
    kt_clear(&ran);
    kt_clear(&backward);
}

static void test_layernorm(void **state)
{
    (void)state;
    check_layernorm(false, false);
    check_layernorm(true, true);
}

static void check_rmsnorm(bool branch, bool overwrite)
{
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {3, 7};
    const kt_options fused = {.branch = branch};
    const kt_options written = {.overwrite = overwrite, .dx_act = true};
    kt_case forward = kt_make_with(TT_OP_RMSNORM_FORWARD, size, &fused, 1);
    kt_case ran = kt_clone(&forward);
    kt_case backward = kt_make_with(TT_OP_RMSNORM_BACKWARD, size, &written, 2);
    kt_run(&ran, &f64);
    give(&backward.t[1], branch ? &ran.t[5] : &forward.t[0]);
    give(&backward.t[2], &forward.t[1]);
    give(&backward.t[3], &ran.t[3]);
    for (int k = 4; k <= 5 && !overwrite; k++)
        zero(&backward.t[k]);
    kt_run(&backward, &f64);
    check_input(&forward, 2, backward.t[0].value, 0, backward.t[4].value);
    check_input(&forward, 2, backward.t[0].value, 0, backward.t[6].value);
    check_input(&forward, 2, backward.t[0].value, 1, backward.t[5].value);
    if (branch)
        check_input(&forward, 2, backward.t[0].value, 4, backward.t[4].value);
    kt_clear(&forward);
    kt_clear(&ran);
    kt_clear(&backward);
}

static void test_rmsnorm(void **state)
{
    (void)state;
    check_rmsnorm(false, false);
    check_rmsnorm(true, true);
}

/* The gradient of a rotation is the rotation back. */
static void test_rope(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {2, 3, 4, 4, 6};
    const kt_options there = {.kv_heads = 2}, back = {.kv_heads = 2, .inverse = true};
    kt_case forward = kt_make_with(TT_OP_ROPE, size, &there, 1);
    kt_case backward = kt_make_with(TT_OP_ROPE, size, &back, 2), weight = kt_clone(&backward);
    kt_run(&backward, &f64);
    check_input(&forward, 0, weight.t[0].value, 0, backward.t[0].value);
    kt_clear(&forward);
    kt_clear(&backward);
    kt_clear(&weight);
}

static void check_attention(const int64_t size[5], int64_t kv_heads)
{
    kt_setting f64 = kt_f64();
    const kt_options with = {.kv_heads = kv_heads};
    kt_case forward = kt_make_with(TT_OP_ATTENTION_FORWARD, size, &with, 1);
    kt_case ran = kt_clone(&forward);
    kt_case backward = kt_make_with(TT_OP_ATTENTION_BACKWARD, size, &with, 2);
    kt_run(&ran, &f64);
    give(&backward.t[0], &forward.t[0]);
    give(&backward.t[1], &ran.t[1]);
    give(&backward.t[2], &ran.t[2]);
    kt_run(&backward, &f64);
    check_input(&forward, 1, backward.t[3].value, 0, backward.t[4].value);
    kt_clear(&forward);
    kt_clear(&ran);
    kt_clear(&backward);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention((int64_t[5]){2, 5, 2, 6}, 0);
    check_attention((int64_t[5]){2, 4, 4, 12}, 2);
    check_attention((int64_t[5]){1, 4, 3, 6}, 1);
}

static void test_swiglu(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {3, 11};
    kt_case forward = kt_make(TT_OP_SWIGLU_FORWARD, size, 1);
    kt_case backward = kt_make(TT_OP_SWIGLU_BACKWARD, size, 2);
    give(&backward.t[0], &forward.t[0]);
    kt_run(&backward, &f64);
    check_input(&forward, 1, backward.t[1].value, 0, backward.t[2].value);
    kt_clear(&forward);
    kt_clear(&backward);
}

static void test_gelu(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {41};
    kt_case forward = kt_make(TT_OP_GELU_FORWARD, size, 1);
    kt_case backward = kt_make(TT_OP_GELU_BACKWARD, size, 2);
    for (int i = 0; i < 41; i++)
        forward.t[0].value[i] = 0.25 * (i - 20);
    give(&backward.t[0], &forward.t[0]);
    kt_run(&backward, &f64);
    check_input(&forward, 1, backward.t[1].value, 0, backward.t[2].value);
    kt_clear(&forward);
    kt_clear(&backward);
}

static void test_softmax(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    const int64_t size[5] = {4, 6};
    kt_case forward = kt_make(TT_OP_SOFTMAX_XENT, size, 1), ran = kt_clone(&forward);
    const double scale[4] = {0.37, 0.37, 0.37, 0.37}; /* the fixture's */
    kt_run(&ran, &f64);
    check_input(&forward, 2, scale, 0, ran.t[3].value);
    kt_clear(&forward);
    kt_clear(&ran);
}

/* Values that do not come from this code. */
static void test_known_values(void **state)
{
    (void)state;
    kt_setting f64 = kt_f64();
    kt_case c = kt_make(TT_OP_GELU_FORWARD, (int64_t[5]){1}, 1);
    c.t[0].value[0] = 1;
    kt_run(&c, &f64);
    assert_true(fabs(c.t[1].value[0] - 0.841191990607477) < 1e-12); /* scipy, tanh form */
    kt_clear(&c);
    c = kt_make(TT_OP_SOFTMAX_XENT, (int64_t[5]){1, 7}, 1);
    zero(&c.t[0]);
    kt_run(&c, &f64);
    assert_true(fabs(c.t[2].value[0] - log(7)) < 1e-14);
    kt_clear(&c);
    c = kt_make(TT_OP_ATTENTION_FORWARD, (int64_t[5]){1, 3, 1, 2}, 1);
    for (int i = 0; i < 18; i++) /* equal scores: out is the running mean of v */
        c.t[0].value[i] = i % 6 < 4 ? 0 : (double)(i / 6);
    kt_run(&c, &f64);
    for (int t = 0; t < 3; t++) {
        assert_true(fabs(c.t[1].value[2 * t] - 0.5 * t) < 1e-14);
        assert_true(fabs(c.t[2].value[t] - log(t + 1)) < 1e-14);
    }
    kt_clear(&c);
    c = kt_make(TT_OP_ADAMW, (int64_t[5]){1}, 1);
    for (int k = 0; k < 4; k++)
        c.t[k].value[0] = (double[]){1, 0, 0, 2}[k];
    kt_run(&c, &f64); /* gradient 2 x 0.5; see the fixture's scalars */
    double m = 0.1, v = 0.05, change = m / 0.271 / (sqrt(v / 0.142625) + 1e-8) + 0.1;
    assert_true(fabs(c.t[5].value[0] - m) < 1e-15 && fabs(c.t[6].value[0] - v) < 1e-15);
    assert_true(fabs(c.t[4].value[0] - (1 - 0.01 * change)) < 1e-12);
    assert_true(fabs(c.t[7].value[0] - 1e-4 * change * change) < 1e-12);
    kt_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_embedding_without_places),
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_known_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
