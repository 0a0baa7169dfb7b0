/* The learning rate, clipping, decay flags, norm and verdict. */
#include "support.h"

static const tt_optim_options schedule = {
    .learning_rate = 0.1, .minimum_rate = 0.02, .warmup_steps = 4, .total_steps = 12};

static void the_rate_warms_up_and_falls(void **state)
{
    (void)state;
    const double pi = 3.14159265358979323846;
    for (int64_t step = 0; step < 4; step++) {
        assert_true(fabs(tt_learning_rate(&schedule, step) - 0.025 * (double)(step + 1)) < 1e-16);
    }
    assert_true(tt_learning_rate(&schedule, 4) == 0.1);
    assert_true(fabs(tt_learning_rate(&schedule, 8) - 0.06) < 1e-15);
    assert_true(fabs(tt_learning_rate(&schedule, 11) -
                     (0.02 + 0.04 * (1.0 + cos(pi * 7.0 / 8.0)))) < 1e-15);
    assert_true(tt_learning_rate(&schedule, 12) == 0.02);
    assert_true(tt_learning_rate(&schedule, INT64_C(1) << 40) == 0.02);
    tt_optim_options no_warmup = schedule;
    no_warmup.warmup_steps = 0;
    assert_true(tt_learning_rate(&no_warmup, 0) == 0.1);
    tt_optim_options all_warmup = schedule;
    all_warmup.warmup_steps = all_warmup.total_steps;
    assert_true(fabs(tt_learning_rate(&all_warmup, 11) - 0.1) < 1e-16);
    assert_true(tt_learning_rate(&all_warmup, 12) == 0.02);
}

/* Known gradients everywhere: what each element becomes can be written down. */
typedef struct planted {
    double *p, *m, *v, *g;
} planted;

static planted plant(bench *b)
{
    const size_t n = (size_t)b->count;
    planted x = {calloc(n, 8), calloc(n, 8), calloc(n, 8), calloc(n, 8)};
    for (size_t t = 0; t < tt_model_tensor_count(b->model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b->model, t);
        for (int64_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
            x.p[i] = tt_random_uniform(1, 1, (uint64_t)i) - 0.5;
            x.m[i] = tt_random_uniform(1, 2, (uint64_t)i) - 0.5;
            x.v[i] = tt_random_uniform(1, 3, (uint64_t)i);
            x.g[i] = tt_random_uniform(1, 4, (uint64_t)i) - 0.5;
        }
    }
    write_reals(b, b->slots[0].params, x.p, b->count);
    write_reals(b, b->slots[0].m, x.m, b->count);
    write_reals(b, b->slots[0].v, x.v, b->count);
    write_reals(b, tt_model_gradients(b->model), x.g, b->count);
    return x;
}

static void unplant(planted *x)
{
    free(x->p);
    free(x->m);
    free(x->v);
    free(x->g);
}

static void a_step_is_adamw(double clip)
{
    const tt_optim_options o = {.learning_rate = 0.01,
                                .minimum_rate = 0.01,
                                .total_steps = 100,
                                .beta1 = 0.8,
                                .beta2 = 0.9,
                                .epsilon = 1e-3,
                                .weight_decay = 0.5,
                                .clip = clip};
    const int64_t step = 6;
    bench b;
    bench_open(&b, small_dims, 1, 2, TT_F64);
    planted x = plant(&b);
    double norm, squares = 0.0;
    uint64_t nonfinite;
    tt_verdict verdict;
    assert_ok(tt_gradient_norm(b.context, b.model, &norm, &nonfinite));
    for (int64_t i = 0; i < b.count; i++) {
        squares += x.g[i] * x.g[i];
    }
    assert_true(fabs(norm - sqrt(squares)) < 1e-13 * norm);
    assert_true(norm > 2.0);
    assert_ok(
        tt_optim_step(b.context, b.model, &o, step, norm, &b.slots[0], &b.slots[1], &verdict));
    double *after = read_reals(&b, b.slots[1].params, b.count);
    const double factor = clip > 0.0 && norm > clip ? clip / norm : 1.0;
    double moved = 0.0;
    for (size_t t = 0; t < tt_model_tensor_count(b.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b.model, t);
        for (int64_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
            double g = factor * x.g[i];
            double m = (0.8 * x.m[i] + 0.2 * g) / (1.0 - pow(0.8, 7));
            double v = (0.9 * x.v[i] + 0.1 * g * g) / (1.0 - pow(0.9, 7));
            double decay = tensor->decay ? 0.5 : 0.0;
            double expected = x.p[i] - 0.01 * (m / (sqrt(v) + 1e-3) + decay * x.p[i]);
            assert_true(fabs(after[i] - expected) < 1e-13);
            moved += (expected - x.p[i]) * (expected - x.p[i]);
        }
    }
    assert_true(fabs(verdict.update_squares - moved) < 1e-11 * moved);
    assert_int_equal(verdict.nonfinite, 0);
    free(after);
    unplant(&x);
    bench_close(&b);
}

static void unclipped(void **state)
{
    (void)state;
    a_step_is_adamw(0.0);
    a_step_is_adamw(1e6); /* a limit that is not reached */
}

static void clipped(void **state)
{
    (void)state;
    a_step_is_adamw(1.5);
}

static void nonfinite_values_are_counted(void **state)
{
    (void)state;
    const tt_optim_options o = {.learning_rate = 0.01,
                                .minimum_rate = 0.01,
                                .total_steps = 100,
                                .beta1 = 0.8,
                                .beta2 = 0.9,
                                .epsilon = 1e-3};
    bench b;
    double norm;
    uint64_t nonfinite;
    tt_verdict verdict;
    bench_open(&b, small_dims, 1, 2, TT_F64);
    planted x = plant(&b);
    x.g[40] = INFINITY;
    x.g[41] = NAN;
    write_reals(&b, tt_model_gradients(b.model), x.g, b.count);
    assert_ok(tt_gradient_norm(b.context, b.model, &norm, &nonfinite));
    assert_int_equal(nonfinite, 2);
    assert_true(!isfinite(norm));
    assert_ok(tt_optim_step(b.context, b.model, &o, 0, 1.0, &b.slots[0], &b.slots[1], &verdict));
    /* Of element 40: m and v infinite, p = inf / inf; of 41 all three. */
    assert_int_equal(verdict.nonfinite, 6);
    unplant(&x);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_warms_up_and_falls),
        cmocka_unit_test(unclipped),
        cmocka_unit_test(clipped),
        cmocka_unit_test(nonfinite_values_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
