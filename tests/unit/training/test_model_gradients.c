/* Gradients against central differences in float64; float32 against float64. */
#include "support.h"

/* Fourth-order central difference of the loss in one element of the parameters. */
static double numeric_gradient(bench *b, int64_t index, double h)
{
    static const double at[] = {-2, -1, 1, 2};
    static const double weight[] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
    void *where = real_at(b, b->slots[0].params, index);
    double kept;
    double sum = 0.0;
    assert_ok(tt_tensor_read(b->context, &kept, where, sizeof kept));
    for (size_t i = 0; i < 4; i++) {
        double moved = kept + at[i] * h;
        double loss;
        assert_ok(tt_tensor_write(b->context, where, &moved, sizeof moved));
        assert_ok(tt_model_forward(b->model, b->slots[0].params, b->tokens, b->targets, b->batch,
                                   b->time, &loss));
        sum += weight[i] * loss;
    }
    assert_ok(tt_tensor_write(b->context, where, &kept, sizeof kept));
    return sum / h;
}

/* Compares up to `samples` elements of every tensor (0: all). */
static void check_every_tensor(tt_model_dims dims, int64_t batch, int64_t time, int64_t samples)
{
    bench b;
    bench_open_with(&b, dims, batch, time, (bench_options){.dtype = TT_F64, .threads = 1});
    fill_params(&b, 3);
    gradients(&b);
    double *g = read_reals(&b, tt_model_gradients(b.model), b.count);
    for (size_t t = 0; t < tt_model_tensor_count(b.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b.model, t);
        int64_t checks = samples && samples < tensor->count ? samples : tensor->count;
        double largest = 0.0;
        for (int64_t i = 0; i < tensor->count; i++) {
            largest = fmax(largest, fabs(g[tensor->offset + i]));
        }
        for (int64_t i = 0; i < checks; i++) {
            int64_t at =
                tensor->offset +
                (checks == tensor->count
                     ? i
                     : (int64_t)(tt_random_uniform(7, t, (uint64_t)i) * (double)tensor->count));
            double numeric = numeric_gradient(&b, at, 2e-4);
            double bound = 1e-8 * fabs(numeric) + 1e-9 * largest + 1e-12;
            if (!(fabs(numeric - g[at]) <= bound)) {
                fail_msg("%s[%lld]: backward %.15g, difference %.15g", tensor->name,
                         (long long)(at - tensor->offset), g[at], numeric);
            }
        }
        /* The key's bias cancels in the softmax; every other tensor must have a gradient. */
        assert_true(largest > 1e-6);
    }
    free(g);
    bench_close(&b);
}

static void every_element_of_tiny_models(void **state)
{
    (void)state;
    check_every_tensor((tt_model_dims){1, 1, 4, 3, 5}, 1, 3, 0);
    check_every_tensor((tt_model_dims){2, 2, 4, 5, 7}, 2, 4, 0);
    check_every_tensor((tt_model_dims){1, 3, 3, 4, 2}, 2, 1, 0); /* head size 1, one token */
}

static void samples_of_larger_models(void **state)
{
    (void)state;
    check_every_tensor(small_dims, 2, 7, 12);
    check_every_tensor((tt_model_dims){3, 2, 20, 33, 65}, 1, 33, 4);
    check_every_tensor((tt_model_dims){1, 5, 35, 19, 129}, 3, 18, 4);
}

/* Relative error in the 2-norm, tensor by tensor. */
static void f32_follows_f64(void **state)
{
    (void)state;
    const tt_model_dims dims = {2, 4, 64, 32, 99};
    bench wide, narrow;
    bench_open(&wide, dims, 3, 32, TT_F64);
    bench_open(&narrow, dims, 3, 32, TT_F32);
    fill_params(&narrow, 3);
    double *params = read_reals(&narrow, narrow.slots[0].params, narrow.count);
    write_reals(&wide, wide.slots[0].params, params, wide.count);
    double loss = gradients(&wide);
    assert_true(fabs(gradients(&narrow) - loss) < 1e-5 * loss);
    double *exact = read_reals(&wide, tt_model_gradients(wide.model), wide.count);
    double *close = read_reals(&narrow, tt_model_gradients(narrow.model), narrow.count);
    for (size_t t = 0; t < tt_model_tensor_count(wide.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(wide.model, t);
        double error = 0.0;
        double norm = 0.0;
        for (int64_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
            error += (close[i] - exact[i]) * (close[i] - exact[i]);
            norm += exact[i] * exact[i];
        }
        if (!(sqrt(error) < 2e-5 * sqrt(norm))) {
            fail_msg("%s: relative error %.3g", tensor->name, sqrt(error / norm));
        }
    }
    free(params);
    free(exact);
    free(close);
    bench_close(&wide);
    bench_close(&narrow);
}

/* A batch smaller than the model was created for: the same numbers, and nothing read beyond it. */
static void smaller_batches_fit_in(void **state)
{
    (void)state;
    bench full, large;
    bench_open(&full, small_dims, 2, 5, TT_F32);
    bench_open(&large, small_dims, 4, 9, TT_F32);
    fill_params(&full, 3);
    fill_params(&large, 3);
    assert_true(isfinite(gradients(&large))); /* leaves something in the larger buffers */
    double loss = gradients(&full);
    double again;
    assert_ok(tt_model_begin_step(large.model));
    assert_ok(tt_model_forward_train(large.model, large.slots[0].params, full.tokens, full.targets,
                                     2, 5, 1.0, &again));
    assert_ok(tt_model_backward(large.model, large.slots[0].params));
    assert_true(loss == again);
    double *a = read_reals(&full, tt_model_gradients(full.model), full.count);
    double *b = read_reals(&large, tt_model_gradients(large.model), large.count);
    assert_memory_equal(a, b, (size_t)full.count * sizeof *a);
    free(a);
    free(b);
    bench_close(&full);
    bench_close(&large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_of_tiny_models),
        cmocka_unit_test(samples_of_larger_models),
        cmocka_unit_test(f32_follows_f64),
        cmocka_unit_test(smaller_batches_fit_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
