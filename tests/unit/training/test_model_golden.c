/* The model, its gradients and AdamW against tests/golden/gpt2_golden.py. */
#include "support.h"

typedef struct record {
    char name[64];
    uint64_t count;
    const double *values; /* unaligned in the file, so copied */
    double *owned;
} record;

typedef struct golden {
    record records[512];
    size_t count;
} golden;

static void load(golden *g)
{
    FILE *file = fopen(TT_SOURCE_DIR "/tests/golden/gpt2_golden.bin", "rb");
    assert_non_null(file);
    char line[17];
    assert_int_equal(fread(line, 1, sizeof line, file), sizeof line);
    assert_memory_equal(line, "trimtab golden 1\n", sizeof line);
    g->count = 0;
    for (;;) {
        record *r = &g->records[g->count];
        if (fread(r->name, 1, sizeof r->name, file) != sizeof r->name) {
            break;
        }
        assert_int_equal(fread(&r->count, sizeof r->count, 1, file), 1);
        assert_true(r->count < 1 << 20);
        r->owned = malloc((size_t)r->count * sizeof *r->owned);
        assert_non_null(r->owned);
        assert_int_equal(fread(r->owned, sizeof *r->owned, (size_t)r->count, file), r->count);
        r->values = r->owned;
        g->count++;
        assert_true(g->count < sizeof g->records / sizeof g->records[0]);
    }
    fclose(file);
}

static void unload(golden *g)
{
    for (size_t i = 0; i < g->count; i++) {
        free(g->records[i].owned);
    }
}

static const record *find(const golden *g, const char *prefix, const char *name)
{
    char wanted[160];
    snprintf(wanted, sizeof wanted, "%s%s", prefix, name);
    for (size_t i = 0; i < g->count; i++) {
        if (strcmp(g->records[i].name, wanted) == 0) {
            return &g->records[i];
        }
    }
    fail_msg("the fixture has no %s", wanted);
    return NULL;
}

static double value(const golden *g, const char *name)
{
    return find(g, "", name)->values[0];
}

/* Every element within `bound` of the record's largest. */
static void compare(const char *what, const record *expected, const double *actual, double bound)
{
    double largest = 0.0;
    for (uint64_t i = 0; i < expected->count; i++) {
        largest = fmax(largest, fabs(expected->values[i]));
    }
    for (uint64_t i = 0; i < expected->count; i++) {
        if (!(fabs(actual[i] - expected->values[i]) <= bound * largest)) {
            fail_msg("%s %s[%llu]: %.17g, expected %.17g", what, expected->name,
                     (unsigned long long)i, actual[i], expected->values[i]);
        }
    }
}

static void compare_vector(bench *b, const golden *g, const char *prefix, const void *vector,
                           double bound)
{
    double *all = read_reals(b, vector, b->count);
    for (size_t t = 0; t < tt_model_tensor_count(b->model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b->model, t);
        const record *expected = find(g, prefix, tensor->name);
        assert_int_equal(expected->count, tensor->count);
        compare("vector", expected, all + tensor->offset, bound);
    }
    free(all);
}

typedef struct bounds {
    double loss, logits, gradient, after;
} bounds;

static void open_golden(bench *b, const golden *g, tt_dtype dtype)
{
    const double *d = find(g, "", "dims")->values;
    const tt_model_dims dims = {(int64_t)d[0], (int64_t)d[1], (int64_t)d[2], (int64_t)d[3],
                                (int64_t)d[4]};
    bench_open(b, dims, (int64_t)d[5], (int64_t)d[6], dtype);
    double *params = calloc((size_t)b->count, sizeof *params);
    assert_non_null(params);
    for (size_t t = 0; t < tt_model_tensor_count(b->model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b->model, t);
        const record *from = find(g, "param.", tensor->name);
        assert_int_equal(from->count, tensor->count);
        memcpy(params + tensor->offset, from->values, (size_t)from->count * sizeof *params);
    }
    write_reals(b, b->slots[0].params, params, b->count);
    free(params);
}

static void load_batch(bench *b, const golden *g, int step)
{
    char name[32];
    snprintf(name, sizeof name, "%d.tokens", step);
    const record *tokens = find(g, "", name);
    snprintf(name, sizeof name, "%d.targets", step);
    const record *targets = find(g, "", name);
    for (int64_t i = 0; i < b->batch * b->time; i++) {
        b->tokens[i] = (int32_t)tokens->values[i];
        b->targets[i] = (int32_t)targets->values[i];
    }
}

/* One training step from slot `step % 2` to the other. */
static void train_step(bench *b, const golden *g, const tt_optim_options *options, int step,
                       const bounds *bound)
{
    char name[32];
    load_batch(b, g, step);
    double norm, loss;
    uint64_t nonfinite;
    tt_verdict verdict;
    const tt_slot_tensors *from = &b->slots[step % 2];
    assert_ok(
        tt_model_forward(b->model, from->params, b->tokens, b->targets, b->batch, b->time, &loss));
    snprintf(name, sizeof name, "%d.loss", step);
    assert_true(fabs(loss - value(g, name)) <= bound->loss * loss);
    if (step == 0) {
        tt_resident logits = resident_named(b, "act.logits");
        double *actual = read_reals(b, logits.data, logits.count);
        compare("logits", find(g, "", "0.logits"), actual, bound->logits);
        free(actual);
    }
    double train_loss;
    assert_ok(tt_model_begin_step(b->model));
    assert_ok(tt_model_forward_train(b->model, from->params, b->tokens, b->targets, b->batch,
                                     b->time, 1.0, &train_loss));
    assert_true(train_loss == loss);
    assert_ok(tt_model_backward(b->model, from->params));
    if (step == 0) {
        compare_vector(b, g, "grad.", tt_model_gradients(b->model), bound->gradient);
    }
    assert_ok(tt_gradient_norm(b->context, b->model, &norm, &nonfinite));
    snprintf(name, sizeof name, "%d.norm", step);
    assert_int_equal(nonfinite, 0);
    assert_true(fabs(norm - value(g, name)) <= bound->gradient * norm);
    assert_ok(tt_optim_step(b->context, b->model, options, step, norm, from,
                            &b->slots[(step + 1) % 2], &verdict));
    assert_int_equal(verdict.nonfinite, 0);
}

static void train(tt_dtype dtype, const bounds *bound)
{
    golden g;
    bench b;
    load(&g);
    open_golden(&b, &g, dtype);
    const double *o = find(&g, "", "optim")->values;
    const tt_optim_options options = {.learning_rate = o[0],
                                      .minimum_rate = o[1],
                                      .warmup_steps = (int64_t)o[2],
                                      .total_steps = (int64_t)o[3],
                                      .beta1 = o[4],
                                      .beta2 = o[5],
                                      .epsilon = o[6],
                                      .weight_decay = o[7],
                                      .clip = o[8]};
    const int steps = (int)find(&g, "", "dims")->values[7];
    for (int step = 0; step < steps; step++) {
        train_step(&b, &g, &options, step, bound);
    }
    const tt_slot_tensors *last = &b.slots[steps % 2];
    compare_vector(&b, &g, "after.", last->params, bound->after);
    compare_vector(&b, &g, "m.", last->m, bound->gradient);
    compare_vector(&b, &g, "v.", last->v, bound->gradient);
    bench_close(&b);
    unload(&g);
}

static void f64_is_the_same(void **state)
{
    (void)state;
    train(TT_F64, &(bounds){.loss = 1e-14, .logits = 1e-14, .gradient = 1e-12, .after = 1e-12});
}

static void f32_is_close(void **state)
{
    (void)state;
    train(TT_F32, &(bounds){.loss = 1e-6, .logits = 2e-6, .gradient = 1e-5, .after = 3e-6});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f64_is_the_same),
        cmocka_unit_test(f32_is_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
