/* Activations in a codec: exact forward, gradients within bounds, no trace of a change. */
#include "saved_support.h"

static double *gradient_copy(rig *r)
{
    return read_reals(&r->b, tt_model_gradients(r->b.model), r->b.count);
}

/* Some steps away from the initial parameters, where all projections have a gradient. */
static void train_a_little(rig *r)
{
    static const tt_optim_options options = {.learning_rate = 1e-2,
                                             .minimum_rate = 1e-2,
                                             .total_steps = 100,
                                             .beta1 = 0.9,
                                             .beta2 = 0.95,
                                             .epsilon = 1e-8,
                                             .clip = 1.0};
    for (int64_t step = 0; step < 8; step++) {
        double norm;
        uint64_t nonfinite;
        tt_verdict verdict;
        gradients(&r->b);
        assert_ok(tt_gradient_norm(r->b.context, r->b.model, &norm, &nonfinite));
        assert_ok(tt_optim_step(r->b.context, r->b.model, &options, step, norm, &r->b.slots[0],
                                &r->b.slots[0], &verdict));
    }
}

/* ---- the forward pass ---- */

static void loss_and_logits_stay_the_same_to_the_bit(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, middle_dims, 4, 24);
    const void *params = r.b.slots[0].params;
    double exact, evaluated;
    assert_ok(tt_model_forward(r.b.model, params, r.b.tokens, r.b.targets, 4, 24, &exact));
    assert_true(gradients(&r.b) == exact);
    assert_ok(tt_model_forward(r.b.model, params, r.b.tokens, NULL, 4, 24, NULL));
    tt_resident logits = resident_named(&r.b, "act.logits");
    double *expected = read_reals(&r.b, logits.data, logits.count);
    for (int i = 0; i < CASES; i++) {
        keep_as(&r, cases[i]);
        assert_true(gradients(&r.b) == exact);
        assert_true(tt_model_activation_error(r.b.model) > 0.0);
        assert_ok(tt_model_forward(r.b.model, params, r.b.tokens, r.b.targets, 4, 24, &evaluated));
        assert_true(evaluated == exact);
        assert_ok(tt_model_forward(r.b.model, params, r.b.tokens, NULL, 4, 24, NULL));
        double *got = read_reals(&r.b, logits.data, logits.count);
        assert_memory_equal(got, expected, (size_t)logits.count * sizeof *got);
        free(got);
    }
    free(expected);
    rig_close(&r);
}

/* ---- gradients ---- */

typedef struct distance {
    double cosine;  /* of the whole vector */
    double largest; /* ||g - g'|| / ||g|| of a tensor */
    const char *where;
} distance;

static distance compare(const rig *r, const double *exact, const double *lossy)
{
    double dot = 0.0, a = 0.0, b = 0.0;
    distance d = {0};
    for (int64_t i = 0; i < r->b.count; i++) {
        dot += exact[i] * lossy[i];
        a += exact[i] * exact[i];
        b += lossy[i] * lossy[i];
    }
    d.cosine = dot / sqrt(a * b);
    for (size_t t = 0; t < tt_model_tensor_count(r->b.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(r->b.model, t);
        double squares = 0.0, error = 0.0;
        for (int64_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
            squares += exact[i] * exact[i];
            error += (exact[i] - lossy[i]) * (exact[i] - lossy[i]);
        }
        double ratio = sqrt(error / squares);
        if (ratio > d.largest) {
            d.largest = ratio;
            d.where = tensor->name;
        }
    }
    return d;
}

static void gradients_are_close(void **state)
{
    (void)state;
    static const struct {
        codec_case c;
        double cosine, tensor;
    } bounds[] = {{{TT_CODEC_BF16, 0}, 0.9999, 0.004},
                  {{TT_CODEC_INT8, 32}, 0.999, 0.013},
                  {{TT_CODEC_INT8, 64}, 0.999, 0.015},
                  {{TT_CODEC_INT8, 4096}, 0.999, 0.04}};
    rig r;
    rig_open(&r, middle_dims, 4, 24);
    train_a_little(&r);
    gradients(&r.b);
    double *exact = gradient_copy(&r);
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        keep_as(&r, bounds[i].c);
        gradients(&r.b);
        double *lossy = gradient_copy(&r);
        distance d = compare(&r, exact, lossy);
        if (d.cosine < bounds[i].cosine || d.largest > bounds[i].tensor || d.largest == 0.0) {
            fail_msg("%s/%lld: cosine %.6f, worst tensor %.4f (%s)",
                     tt_codec_name(bounds[i].c.codec), (long long)bounds[i].c.block, d.cosine,
                     d.largest, d.where);
        }
        free(lossy);
    }
    free(exact);
    rig_close(&r);
}

/* Also the error and its place; a pass over fewer rows than there is room for in between. */
static void a_change_of_codec_leaves_no_trace(void **state)
{
    (void)state;
    static const codec_case order[] = {{TT_CODEC_INT8, 64},  {TT_CODEC_F32, 0},  {TT_CODEC_BF16, 0},
                                       {TT_CODEC_INT8, 128}, {TT_CODEC_BF16, 0}, {TT_CODEC_F32, 0},
                                       {TT_CODEC_INT8, 32}};
    rig r;
    double ignored;
    rig_open(&r, middle_dims, 4, 24);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        rig fresh;
        rig_open(&fresh, middle_dims, 4, 24);
        keep_as(&fresh, order[i]);
        keep_as(&r, order[i]);
        assert_ok(tt_model_forward_train(r.b.model, r.b.slots[0].params, r.b.targets, r.b.tokens, 3,
                                         17, 1.0, &ignored));
        assert_ok(tt_model_backward(r.b.model, r.b.slots[0].params));
        assert_true(gradients(&r.b) == gradients(&fresh.b));
        double *got = gradient_copy(&r);
        double *expected = gradient_copy(&fresh);
        assert_memory_equal(got, expected, (size_t)r.b.count * sizeof *got);
        assert_true(tt_model_activation_error(r.b.model) ==
                    tt_model_activation_error(fresh.b.model));
        assert_string_equal(tt_model_activation_worst(r.b.model),
                            tt_model_activation_worst(fresh.b.model));
        free(got);
        free(expected);
        rig_close(&fresh);
    }
    rig_close(&r);
}

/* Memory is given back when a step begins: the steps before and after have the same bits. */
static void giving_memory_back_takes_nothing_that_is_used(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, middle_dims, 4, 24);
    for (int i = CASES - 1; i >= 0; i--) {
        keep_as(&r, cases[i]);
        gradients(&r.b);
        double *got = gradient_copy(&r);
        for (int step = 0; step < 4; step++) {
            assert_ok(tt_model_begin_step(r.b.model));
        }
        gradients(&r.b);
        double *expected = gradient_copy(&r);
        assert_memory_equal(got, expected, (size_t)r.b.count * sizeof *got);
        free(got);
        free(expected);
    }
    rig_close(&r);
}

static void bits_do_not_depend_on_threads_or_guard(void **state)
{
    (void)state;
    static const bench_options options[] = {{TT_F32, 1, false, NULL},
                                            {TT_F32, 2, false, NULL},
                                            {TT_F32, 3, false, NULL},
                                            {TT_F32, 2, true, NULL}};
    for (int c = 0; c < CASES; c++) {
        double *first = NULL;
        double error = 0.0;
        for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
            rig r;
            rig_open_with(&r, middle_dims, 4, 24, options[i]);
            keep_as(&r, cases[c]);
            gradients(&r.b);
            double *got = gradient_copy(&r);
            if (!first) {
                first = got;
                error = tt_model_activation_error(r.b.model);
            } else {
                assert_memory_equal(got, first, (size_t)r.b.count * sizeof *got);
                assert_true(tt_model_activation_error(r.b.model) == error);
                free(got);
            }
            rig_close(&r);
        }
        free(first);
    }
}

/* ---- misuse ---- */

static void misuse_is_refused(void **state)
{
    (void)state;
    rig r;
    bench other;
    double loss;
    rig_open(&r, small_dims, 2, 7);
    tt_model *model = r.b.model;
    const void *params = r.b.slots[0].params;
    assert_fails(tt_model_set_activation_codec(model, NULL, TT_CODEC_INT8, 64), TT_EINVAL,
                 "needs a compressor");
    assert_fails(tt_model_set_activation_codec(model, r.compressor, TT_CODEC_UINT8_UP, 64),
                 TT_EINVAL, "uint8_up; there are: f32, bf16, int8");
    assert_fails(tt_model_set_activation_codec(model, r.compressor, (tt_codec)77, 64), TT_EINVAL,
                 "there are: f32, bf16, int8");
    static const int64_t blocks[] = {0, 16, 48, 8192, -64};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        assert_fails(tt_model_set_activation_codec(model, r.compressor, TT_CODEC_INT8, blocks[i]),
                     TT_EINVAL, "power of two from 32 to 4096");
    }
    assert_ok(tt_model_set_activation_codec(model, r.compressor, TT_CODEC_BF16, -1));
    assert_ok(tt_model_forward_train(model, params, r.b.tokens, r.b.targets, 2, 7, 1.0, &loss));
    assert_fails(tt_model_set_activation_codec(model, r.compressor, TT_CODEC_INT8, 64), TT_EINVAL,
                 "between forward_train and backward");
    assert_fails(tt_model_set_activation_codec(model, NULL, TT_CODEC_F32, 0), TT_EINVAL,
                 "between forward_train and backward");
    assert_ok(tt_model_set_activation_codec(model, r.compressor, TT_CODEC_BF16, 32));
    assert_ok(tt_model_backward(model, params)); /* refused or unchanged: nothing happened */
    assert_ok(tt_model_forward_train(model, params, r.b.tokens, r.b.targets, 2, 7, 1.0, &loss));
    tt_model_abandon_pass(model);
    assert_fails(tt_model_backward(model, params), TT_EINVAL, "forward_train");
    assert_ok(tt_model_set_activation_codec(model, r.compressor, TT_CODEC_INT8, 64));
    assert_fails(tt_model_backward(model, params), TT_EINVAL, "forward_train");

    bench_open(&other, small_dims, 2, 7, TT_F64);
    assert_fails(tt_model_set_activation_codec(other.model, r.compressor, TT_CODEC_BF16, 0),
                 TT_EUNSUPPORTED, "activations of f64");
    assert_ok(tt_model_set_activation_codec(other.model, NULL, TT_CODEC_F32, 0));
    bench_close(&other);
    bench_open(&other, small_dims, 0, 0, TT_F32);
    assert_fails(tt_model_set_activation_codec(other.model, r.compressor, TT_CODEC_BF16, 0),
                 TT_EINVAL, "decoding only");
    bench_close(&other);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_logits_stay_the_same_to_the_bit),
        cmocka_unit_test(gradients_are_close),
        cmocka_unit_test(a_change_of_codec_leaves_no_trace),
        cmocka_unit_test(giving_memory_back_takes_nothing_that_is_used),
        cmocka_unit_test(bits_do_not_depend_on_threads_or_guard),
        cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
