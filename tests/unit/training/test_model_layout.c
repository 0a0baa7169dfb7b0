/* Names, shapes, places; initial parameters; memory; what the tuner is told. */
#include "support.h"

static void dims_are_checked_by_key(void **state)
{
    (void)state;
    const tt_model_dims good = small_dims;
    tt_model_dims d = good;
    assert_ok(tt_model_dims_check(&d));
    d.layers = 0;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.layers is 0");
    d = good;
    d.heads = 5;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.channels (12)");
    d.heads = -1;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.heads is -1");
    d = good;
    d.context = INT64_C(1) << 40;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.context");
    d = good;
    d.vocab = INT64_C(1) << 31;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.vocab");
    d = good;
    d.channels = INT64_C(1) << 32;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.channels");
}

static void parameters_are_gpt2s(void **state)
{
    (void)state;
    /* GPT-2 124M: 124,439,808 parameters. */
    const tt_model_dims gpt2 = gpt2_dims(12, 12, 768, 1024, 50257);
    bench b;
    bench_open(&b, small_dims, 1, 2, TT_F32);
    static const char *const names[] = {
        "wte.weight",
        "wpe.weight",
        "h.0.ln_1.weight",
        "h.0.ln_1.bias",
        "h.0.attn.c_attn.weight",
        "h.0.attn.c_attn.bias",
        "h.0.attn.c_proj.weight",
        "h.0.attn.c_proj.bias",
        "h.0.ln_2.weight",
        "h.0.ln_2.bias",
        "h.0.mlp.c_fc.weight",
        "h.0.mlp.c_fc.bias",
        "h.0.mlp.c_proj.weight",
        "h.0.mlp.c_proj.bias",
        "h.1.ln_1.weight",
    };
    int64_t end = 0;
    int64_t elements = 0;
    for (size_t i = 0; i < tt_model_tensor_count(b.model); i++) {
        const tt_param_tensor *t = tt_model_tensor(b.model, i);
        if (i < sizeof names / sizeof names[0]) {
            assert_string_equal(t->name, names[i]);
        }
        assert_int_equal(t->count, t->dims[0] * t->dims[1]);
        assert_int_equal(t->offset % 16, 0);
        assert_true(t->offset >= end && t->offset < end + 16);
        assert_int_equal(t->decay, t->rank == 2);
        assert_int_equal(t->residual, strstr(t->name, "c_proj.weight") != NULL);
        end = t->offset + t->count;
        elements += t->count;
    }
    assert_int_equal(tt_model_tensor_count(b.model), 2 + 2 * 12 + 2);
    assert_null(tt_model_tensor(b.model, 28));
    assert_string_equal(tt_model_tensor(b.model, 27)->name, "ln_f.bias");
    assert_int_equal(elements, 2 * (12 * 144 + 13 * 12) + (17 + 9) * 12 + 2 * 12);
    assert_int_equal(tt_model_param_count(&gpt2), 124439808); /* no gaps: all multiples of 16 */
    bench_close(&b);
}

static void initial_parameters_are_gpt2s(void **state)
{
    (void)state;
    const tt_model_dims dims = gpt2_dims(4, 2, 36, 41, 301); /* with gaps */
    bench b, wide;
    bench_open(&b, dims, 0, 0, TT_F32);
    bench_open(&wide, dims, 0, 0, TT_F64);
    double *junk = malloc((size_t)b.count * sizeof *junk);
    for (int64_t i = 0; i < b.count; i++) {
        junk[i] = 7.0; /* a slot that held something else */
    }
    write_reals(&b, b.slots[0].params, junk, b.count);
    free(junk);
    assert_ok(tt_model_init_params(b.model, 42, b.slots[0].params));
    assert_ok(tt_model_init_params(b.model, 43, b.slots[1].params));
    assert_ok(tt_model_init_params(wide.model, 42, wide.slots[0].params));
    double *p = read_reals(&b, b.slots[0].params, b.count);
    double *other = read_reals(&b, b.slots[1].params, b.count);
    double *same = read_reals(&wide, wide.slots[0].params, wide.count);
    assert_memory_equal(p, same, (size_t)b.count * sizeof *p);
    assert_memory_not_equal(p, other, (size_t)b.count * sizeof *p);
    int64_t end = 0;
    for (size_t i = 0; i < tt_model_tensor_count(b.model); i++) {
        const tt_param_tensor *t = tt_model_tensor(b.model, i);
        for (; end < t->offset; end++) {
            assert_true(p[end] == 0.0); /* gaps */
        }
        end += t->count;
        double sum = 0.0;
        double squares = 0.0;
        for (int64_t j = t->offset; j < end; j++) {
            sum += p[j];
            squares += p[j] * p[j];
        }
        const double n = (double)t->count;
        if (t->rank == 1) {
            double constant = strstr(t->name, "ln_") && strstr(t->name, "weight") ? 1.0 : 0.0;
            assert_true(sum == constant * n && squares == constant * n);
            continue;
        }
        double std = 0.02 / (t->residual ? sqrt(8.0) : 1.0);
        assert_true(fabs(sum / n) < 5.0 * std / sqrt(n));
        assert_true(fabs(squares / n / (std * std) - 1.0) < 5.0 * sqrt(2.0 / n));
    }
    free(p);
    free(other);
    free(same);
    bench_close(&b);
    bench_close(&wide);
}

static void memory_is_as_announced(void **state)
{
    (void)state;
    tt_context_options co;
    tt_context *context;
    tt_model *model;
    tt_context_options_init(&co);
    co.dtype = TT_F32;
    co.tensor_bytes = tt_model_bytes(&small_dims, 3, 8, TT_F32);
    assert_ok(tt_context_create(&co, &context));
    assert_ok(tt_model_create(context, &small_dims, 3, 8, &model));
    assert_int_equal(tt_tensor_bytes_used(context), co.tensor_bytes);
    tt_model_destroy(model);
    assert_int_equal(tt_model_create(context, &small_dims, 3, 8, &model), TT_ENOMEM);
    assert_null(model);
    assert_fails(tt_model_create(context, &small_dims, 1, 10, &model), TT_EINVAL, "model.context");
    assert_fails(tt_model_create(context, &small_dims, -1, 4, &model), TT_EINVAL, "negative");
    assert_int_equal(tt_model_create(context, &small_dims, INT64_MAX / 4, 9, &model), TT_ENOMEM);
    tt_context_destroy(context);
    /* 124M, 4 sequences of 256 in float32: activations 16 C per layer and token, logits of a
     * quarter of the tokens (64 MiB hold those of 333), gradients and little else. */
    const tt_model_dims gpt2 = gpt2_dims(12, 12, 768, 1024, 50257);
    const double rows = 1024;
    double least = 4.0 * (rows * (12 * 16 * 768) + rows / 4 * 50257 + 124439808.0);
    double packed = (double)tt_model_packed_bytes(&gpt2, TT_BF16);
    double bytes = (double)tt_model_bytes(&gpt2, 4, 256, TT_F32) - packed;
    assert_true(bytes > least && bytes < 1.04 * least);
    /* Weights packed ahead: each of the products' twice, as bf16, up to whole panels. */
    double weights = 12 * 12 * 768.0 * 768 + 50257.0 * 768;
    assert_true(packed >= 4 * weights && packed < 4.01 * weights);
    /* For decoding each once, in a model for nothing else; they fit where the gradients are. */
    double forward = (double)tt_model_packed_for_decoding(&gpt2, TT_BF16);
    assert_true(forward >= 2 * weights && forward < 2.01 * weights);
    assert_true((double)tt_model_bytes(&gpt2, 0, 1024, TT_F32) > forward);
    assert_true((double)tt_model_bytes(&gpt2, 0, 1024, TT_F32) < forward + 0x1p24);
    assert_true(forward < 4 * (double)tt_model_param_count(&gpt2));
    assert_true(tt_model_bytes(&gpt2, INT64_MAX, 2, TT_F32) == SIZE_MAX);
    assert_true(tt_model_bytes(&gpt2, INT64_C(1) << 50, 1024, TT_F32) == SIZE_MAX);
}

static void the_tuner_sees_every_product(void **state)
{
    (void)state;
    tt_gemm_shape shapes[15];
    const tt_model_dims gpt2 = gpt2_dims(12, 12, 768, 1024, 50257);
    assert_int_equal(tt_model_gemm_shapes(&gpt2, 4, 64, shapes, 15), 15);
    assert_int_equal(tt_model_gemm_shapes(&gpt2, 4, 64, NULL, 0), 15);
    /* Each of the three kinds multiplies every matrix parameter but wpe once per token. */
    double per_op[3] = {0.0, 0.0, 0.0};
    for (size_t i = 0; i < 15; i++) {
        assert_int_equal(shapes[i].m, 256);
        per_op[shapes[i].op - TT_OP_LINEAR_FORWARD] +=
            (double)shapes[i].count * (double)shapes[i].n * (double)shapes[i].k;
    }
    for (int op = 0; op < 3; op++) {
        assert_true(per_op[op] == 12.0 * 12 * 768 * 768 + 50257.0 * 768);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dims_are_checked_by_key),      cmocka_unit_test(parameters_are_gpt2s),
        cmocka_unit_test(initial_parameters_are_gpt2s), cmocka_unit_test(memory_is_as_announced),
        cmocka_unit_test(the_tuner_sees_every_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
