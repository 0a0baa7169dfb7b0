/* The head takes its rows some at a time: what depends on how many, and what must not. */
#include "support.h"

#include "model_internal.h"

enum { BATCH = 2, TIME = 7, ROWS = BATCH * TIME };

static const int64_t portions[] = {14, 13, 7, 5, 1};
enum { PORTIONS = sizeof portions / sizeof portions[0] };

/* Rows are added in order, so that portions change no bit; the same with what was there before. */
static void portions_change_no_bit(void **state)
{
    (void)state;
    double *whole = NULL;
    double expected = NAN;
    for (size_t i = 0; i < PORTIONS; i++) {
        bench b;
        double evaluated;
        bench_open(&b, small_dims, BATCH, TIME, TT_F32);
        fill_params(&b, 3);
        assert_int_equal(b.model->plan.pass.head_rows, ROWS);
        b.model->plan.pass.head_rows = portions[i];
        gradients(&b);
        double loss = gradients(&b);
        double *got = read_reals(&b, tt_model_gradients(b.model), b.count);
        assert_ok(tt_model_forward(b.model, b.slots[0].params, b.tokens, b.targets, BATCH, TIME,
                                   &evaluated));
        assert_true(evaluated == loss);
        if (!whole) {
            whole = got;
            expected = loss;
        } else {
            assert_true(loss == expected);
            assert_memory_equal(got, whole, (size_t)b.count * sizeof *got);
            free(got);
        }
        bench_close(&b);
    }
    free(whole);
}

/* How often the probe saw logits and losses, and where it puts a NaN. */
typedef struct watcher {
    bench *b;
    const char *name; /* of what gets a NaN */
    int at;           /* the how manieth of these */
    int logits, losses;
} watcher;

static tt_status watch(void *user, const char *name, void *data, int64_t count)
{
    static const float not_a_number = NAN;
    watcher *w = user;
    const bool is_logits = strcmp(name, "act.logits") == 0;
    const bool is_losses = strcmp(name, "act.losses") == 0;
    w->logits += is_logits;
    w->losses += is_losses;
    if (w->name && strcmp(name, w->name) == 0 && w->at == (is_logits ? w->logits : w->losses)) {
        assert_ok(tt_tensor_write(w->b->context, real_at(w->b, data, count / 2), &not_a_number,
                                  sizeof not_a_number));
    }
    return TT_OK;
}

static const char *first_bad(bench *b)
{
    static tt_resident found;
    for (size_t i = 0; tt_model_resident(b->model, b->slots[0].params, i, &found); i++) {
        tt_tensor_stats stats;
        const tt_stats_args args = {.n = found.count, .x = found.data, .out = &stats};
        assert_ok(tt_op_run(b->context, TT_OP_STATS, &args));
        if (stats.nonfinite) {
            return found.name;
        }
    }
    return "";
}

/* In rows that are neither the first nor the last: the pass ends with them. */
static void a_bad_row_is_still_there(void **state)
{
    (void)state;
    static const char *const names[] = {"act.logits", "act.losses"};
    bench b;
    double loss;
    bench_open(&b, small_dims, BATCH, TIME, TT_F32);
    fill_params(&b, 3);
    double clean = gradients(&b);
    b.model->plan.pass.head_rows = 3; /* 3, 3, 3, 3, 2 */
    for (int i = 0; i < 2; i++) {
        watcher w = {.b = &b, .name = names[i], .at = 3};
        tt_model_set_probe(b.model, watch, &w);
        assert_true(isnan(gradients(&b)));
        assert_int_equal(w.logits, 3);
        assert_int_equal(w.losses, 3);
        assert_string_equal(first_bad(&b), names[i]);
        assert_int_equal(resident_named(&b, "act.logits").count, 3 * 17);
        assert_int_equal(resident_named(&b, "act.losses").count, 9);
        assert_fails(tt_model_backward(b.model, b.slots[0].params), TT_EINVAL, "finite loss");
        w = (watcher){.b = &b};
        assert_true(gradients(&b) == clean);
        assert_int_equal(w.logits, 5);
        assert_int_equal(w.losses, 5);
        assert_string_equal(first_bad(&b), "");
        assert_int_equal(resident_named(&b, "act.logits").count, 0);
        assert_int_equal(resident_named(&b, "act.losses").count, ROWS);
        tt_model_set_probe(b.model, NULL, NULL);
    }
    assert_ok(tt_model_forward(b.model, b.slots[0].params, b.tokens, b.targets, 1, TIME, &loss));
    assert_int_equal(resident_named(&b, "act.logits").count, 17); /* of the last of 3, 3, 1 */
    bench_close(&b);
}

/* What earlier steps left, or a pass that was given up, is never read. */
static void the_first_pass_of_a_step_overwrites(void **state)
{
    (void)state;
    bench b;
    double loss;
    bench_open(&b, small_dims, BATCH, TIME, TT_F32);
    fill_params(&b, 3);
    const void *params = b.slots[0].params;
    gradients(&b);
    double *clean = read_reals(&b, tt_model_gradients(b.model), b.count);
    double *junk = malloc((size_t)b.count * sizeof *junk);
    for (int64_t i = 0; i < b.count; i++) {
        junk[i] = NAN;
    }
    for (size_t t = 0; t < tt_model_tensor_count(b.model); t++) {
        write_reals(&b, tt_model_grad(b.model, t), junk, tt_model_tensor(b.model, t)->count);
    }
    free(junk);
    assert_ok(tt_model_begin_step(b.model));
    assert_int_equal(resident_named(&b, "grad.wte.weight").count, 0);
    for (int i = 0; i < 2; i++) { /* the first is given up */
        assert_ok(
            tt_model_forward_train(b.model, params, b.tokens, b.targets, BATCH, TIME, 1.0, &loss));
    }
    assert_ok(tt_model_backward(b.model, params));
    double *got = read_reals(&b, tt_model_gradients(b.model), b.count);
    assert_memory_equal(got, clean, (size_t)b.count * sizeof *got);
    /* And the second adds. */
    assert_ok(
        tt_model_forward_train(b.model, params, b.tokens, b.targets, BATCH, TIME, 1.0, &loss));
    assert_ok(tt_model_backward(b.model, params));
    double *twice = read_reals(&b, tt_model_gradients(b.model), b.count);
    for (int64_t i = 0; i < b.count; i++) {
        assert_true(fabs(twice[i] - 2.0 * clean[i]) <= 1e-5 * fabs(clean[i]) + 1e-6);
    }
    free(clean);
    free(got);
    free(twice);
    bench_close(&b);
}

/* 64 MiB of logits, or 64 rows, in portions of about the same size. */
static void portions_are_bounded(void **state)
{
    (void)state;
    static const struct {
        int64_t vocab, batch, rows;
    } cases[] = {
        {50304, 1, 256}, {50304, 2, 256}, {50304, 5, 320}, {256, 40, 10240}, {1 << 20, 1, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const tt_model_dims dims = {1, 1, 16, 256, cases[i].vocab};
        tt_model_plan plan;
        tt_model_lay_out_memory(&dims, cases[i].batch, 256, TT_F32, NULL, &plan);
        assert_int_equal(plan.pass.head_rows, cases[i].rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portions_change_no_bit),
        cmocka_unit_test(a_bad_row_is_still_there),
        cmocka_unit_test(the_first_pass_of_a_step_overwrites),
        cmocka_unit_test(portions_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
