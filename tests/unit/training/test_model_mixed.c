/* Mixed precision: close to float32, to the same bits every time, and off again without a trace. */
#include "saved_support.h"

static const bench_options mixed = {.dtype = TT_F32, .threads = 2, .bf16 = true};

static double *gradient_copy(rig *r)
{
    return read_reals(&r->b, tt_model_gradients(r->b.model), r->b.count);
}

static void compute_in(rig *r, tt_dtype compute)
{
    assert_ok(tt_model_set_compute(r->b.model, compute));
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

/* ---- close ---- */

static double cosine(const double *a, const double *b, int64_t begin, int64_t end)
{
    double dot = 0.0, aa = 0.0, bb = 0.0;
    for (int64_t i = begin; i < end; i++) {
        dot += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return dot / sqrt(aa * bb);
}

/* A loss is a mean of sums whose terms are off by 2^-9 each: far less than 2^-8 of it. */
static void check_close(tt_model_dims dims)
{
    rig r;
    double evaluated;
    rig_open(&r, dims, 4, 24);
    train_a_little(&r);
    double exact_loss = gradients(&r.b);
    double *exact = gradient_copy(&r);
    compute_in(&r, TT_BF16);
    double loss = gradients(&r.b);
    double *got = gradient_copy(&r);
    assert_true(loss != exact_loss && fabs(loss / exact_loss - 1.0) < 0x1p-8);
    assert_true(tt_model_activation_error(r.b.model) == 0.0);
    assert_ok(tt_model_forward(r.b.model, r.b.slots[0].params, r.b.tokens, r.b.targets, 4, 24,
                               &evaluated));
    assert_true(evaluated == loss);
    double whole = cosine(exact, got, 0, r.b.count);
    if (!(whole >= 0.999)) {
        fail_msg("cosine of the gradients: %.6f", whole);
    }
    for (size_t t = 0; t < tt_model_tensor_count(r.b.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(r.b.model, t);
        double own = cosine(exact, got, tensor->offset, tensor->offset + tensor->count);
        if (!(own >= 0.998)) {
            fail_msg("%s: cosine %.6f", tensor->name, own);
        }
    }
    free(exact);
    free(got);
    rig_close(&r);
}

static void loss_and_gradients_are_close(void **state)
{
    (void)state;
    check_close(middle_dims);
    check_close(middle_llama_dims);
}

/* ---- the same bits ---- */

static void check_bits(tt_model_dims dims)
{
    static const int threads[] = {1, 2, 3, 2};
    double *first = NULL;
    double first_loss = 0.0;
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        rig r;
        bench_options options = mixed;
        options.threads = threads[i];
        options.guard = i == 3;
        rig_open_with(&r, dims, 4, 24, options);
        double loss = gradients(&r.b);
        double *got = gradient_copy(&r);
        if (!first) {
            first = got;
            first_loss = loss;
        } else {
            assert_true(loss == first_loss);
            assert_memory_equal(got, first, (size_t)r.b.count * sizeof *got);
            free(got);
        }
        rig_close(&r);
    }
    free(first);
}

static void bits_do_not_depend_on_threads_or_portions(void **state)
{
    (void)state;
    check_bits(middle_dims);
    check_bits(middle_llama_dims);
}

static void check_changes(tt_model_dims dims)
{
    static const struct {
        tt_dtype compute;
        codec_case codec;
    } order[] = {{TT_BF16, {TT_CODEC_F32, 0}},  {TT_F32, {TT_CODEC_F32, 0}},
                 {TT_BF16, {TT_CODEC_BF16, 0}}, {TT_F32, {TT_CODEC_INT8, 64}},
                 {TT_BF16, {TT_CODEC_F32, 0}},  {TT_F32, {TT_CODEC_BF16, 0}},
                 {TT_BF16, {TT_CODEC_BF16, 0}}};
    rig r;
    double ignored;
    rig_open(&r, dims, 4, 24);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        rig fresh;
        rig_open(&fresh, dims, 4, 24);
        rig *const both[] = {&r, &fresh};
        for (int k = 0; k < 2; k++) {
            compute_in(both[k], order[i].compute);
            keep_as(both[k], order[i].codec);
        }
        assert_ok(tt_model_begin_step(r.b.model));
        assert_ok(tt_model_forward_train(r.b.model, r.b.slots[0].params, r.b.targets, r.b.tokens, 3,
                                         17, 1.0, &ignored));
        assert_ok(tt_model_backward(r.b.model, r.b.slots[0].params));
        assert_true(gradients(&r.b) == gradients(&fresh.b));
        double *got = gradient_copy(&r);
        double *expected = gradient_copy(&fresh);
        assert_memory_equal(got, expected, (size_t)r.b.count * sizeof *got);
        free(got);
        free(expected);
        rig_close(&fresh);
    }
    rig_close(&r);
}

static void a_change_of_form_leaves_no_trace(void **state)
{
    (void)state;
    check_changes(middle_dims);
    check_changes(middle_llama_dims);
}

/* ---- weights packed ahead ---- */

/* A step of three passes; with `pack` from weights packed once. */
static void three_passes(rig *r, const void *params, bool pack)
{
    double loss;
    tt_model *model = r->b.model;
    assert_ok(tt_model_begin_step(model));
    if (pack) {
        assert_ok(tt_model_pack_weights(model, params));
    }
    for (int i = 0; i < 3; i++) {
        const bool swap = i == 1;
        assert_ok(tt_model_forward_train(model, params, swap ? r->b.targets : r->b.tokens,
                                         swap ? r->b.tokens : r->b.targets, r->b.batch, r->b.time,
                                         1.0 / 3, &loss));
        assert_ok(tt_model_backward(model, params));
    }
}

static void assert_packing_changes_nothing(rig *r, const void *params)
{
    const size_t bytes = (size_t)r->b.count * sizeof(double);
    three_passes(r, params, false);
    double *plain = gradient_copy(r);
    three_passes(r, params, true);
    double *packed = gradient_copy(r);
    assert_memory_equal(plain, packed, bytes);
    free(plain);
    free(packed);
}

static void packed_weights_change_no_bit(void **state)
{
    (void)state;
    static const tt_model_dims llama = {.layers = 2,
                                        .heads = 4,
                                        .channels = 64,
                                        .context = 24,
                                        .vocab = 131,
                                        .norm = TT_NORM_RMSNORM,
                                        .positions = TT_POSITIONS_ROTARY,
                                        .mlp = TT_MLP_SWIGLU,
                                        .kv_heads = 2,
                                        .unbiased = true,
                                        .untied = true};
    const tt_model_dims all[] = {middle_dims, small_dims, llama};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        for (int guard = 0; guard < 2; guard++) {
            rig r;
            bench_options options = mixed;
            options.guard = guard;
            rig_open_with(&r, all[i], 3, all[i].context, options);
            assert_packing_changes_nothing(&r, r.b.slots[0].params);
            compute_in(&r, TT_F32); /* where nothing is packed */
            assert_packing_changes_nothing(&r, r.b.slots[0].params);
            rig_close(&r);
        }
    }
}

/* The loss of one evaluation, from what is packed or not. */
static double evaluate(rig *r, const void *params)
{
    double loss;
    assert_ok(tt_model_forward(r->b.model, params, r->b.tokens, r->b.targets, r->b.batch, r->b.time,
                               &loss));
    return loss;
}

static void packed_weights_are_read_where_they_are_good(void **state)
{
    (void)state;
    rig r;
    rig_open_with(&r, middle_dims, 2, 24, mixed);
    tt_model *model = r.b.model;
    void *params = r.b.slots[0].params, *other = r.b.slots[1].params;
    assert_ok(tt_model_init_params(model, 22, other));
    const double loss = evaluate(&r, params), other_loss = evaluate(&r, other);
    assert_ok(tt_model_pack_weights(model, params));
    assert_true(evaluate(&r, other) == other_loss);
    assert_true(evaluate(&r, params) == loss);
    /* Behind its back: they are packed ones that are read. */
    assert_ok(tt_model_init_params(model, 22, params));
    if (tt_linear_packed_bytes(r.b.context, TT_OP_LINEAR_FORWARD, 64, 64) > 0) {
        assert_true(evaluate(&r, params) != other_loss);
    }
    tt_model_unpack_weights(model);
    assert_true(evaluate(&r, params) == other_loss);
    /* A step begins, another compute type, another variant: each reads them anew. */
    for (int how = 0; how < 3; how++) {
        assert_ok(tt_model_init_params(model, 21, params));
        assert_ok(tt_model_pack_weights(model, params));
        assert_ok(tt_model_init_params(model, 22, params));
        if (how == 0) {
            assert_ok(tt_model_begin_step(model));
        } else if (how == 1) {
            compute_in(&r, TT_F32);
            compute_in(&r, TT_BF16);
        } else {
            assert_ok(tt_context_set_variants(r.b.context, "reference"));
        }
        assert_true(fabs(evaluate(&r, params) / other_loss - 1) <= (how < 2 ? 0 : 0x1p-8));
    }
    rig_close(&r);
}

/* ---- what it is made of ---- */

static tt_status types(void *user, const char *name, void *data, tt_dtype dtype, int64_t count)
{
    static const char *const narrow[] = {".ln_1", ".qkv",  ".attn",   ".ln_2",
                                         ".fc",   ".gelu", ".swiglu", ".ln_f"};
    bool is_bf16 = false;
    (void)data;
    for (size_t i = 0; strncmp(name, "act.", 4) == 0 && i < sizeof narrow / sizeof narrow[0]; i++) {
        const char *end = strrchr(name, '.');
        is_bf16 = is_bf16 || strcmp(end, narrow[i]) == 0;
    }
    assert_true(count > 0);
    if (dtype != (is_bf16 ? TT_BF16 : TT_F32)) {
        fail_msg("%s is shown as %s", name, tt_dtype_name(dtype));
    }
    *(int *)user += is_bf16;
    return TT_OK;
}

static void activations_are_bf16_and_all_else_is_not(void **state)
{
    (void)state;
    rig r;
    int narrow = 0;
    rig_open_with(&r, small_dims, 2, 7, mixed);
    tt_model_set_probe(r.b.model, types, &narrow);
    gradients(&r.b);
    tt_model_set_probe(r.b.model, NULL, NULL);
    assert_int_equal(narrow, 2 * 6 + 1);
    tt_resident norm = resident_named(&r.b, "act.ln_f");
    assert_int_equal(norm.dtype, TT_BF16);
    double *values = read_bf16(&r.b, norm.data, norm.count);
    double squares = 0.0;
    for (int64_t i = 0; i < norm.count; i++) {
        squares += values[i] * values[i];
    }
    free(values);
    /* Rows of unit variance. */
    assert_true(fabs(squares / (double)norm.count - 1.0) < 0.02);
    rig_close(&r);
    narrow = 0;
    rig_open_with(&r, llama_dims, 2, 7, mixed);
    tt_model_set_probe(r.b.model, types, &narrow);
    gradients(&r.b);
    assert_int_equal(narrow, 2 * 6 + 1);
    tt_model_set_probe(r.b.model, NULL, NULL);
    assert_int_equal(resident_named(&r.b, "act.h.1.resid").dtype, TT_F32);
    rig_close(&r);
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
    assert_fails(tt_model_set_compute(model, TT_F64), TT_EINVAL, "f32 cannot compute in f64");
    assert_ok(tt_model_forward_train(model, params, r.b.tokens, r.b.targets, 2, 7, 1.0, &loss));
    assert_fails(tt_model_set_compute(model, TT_BF16), TT_EINVAL,
                 "between forward_train and backward");
    assert_ok(tt_model_backward(model, params)); /* refused: nothing happened */
    /* Behind the model's back. */
    assert_ok(tt_context_set_compute(r.b.context, TT_BF16));
    assert_fails(tt_model_forward(model, params, r.b.tokens, r.b.targets, 2, 7, &loss), TT_EINVAL,
                 "the context now computes in bf16, the model in f32");
    assert_ok(tt_context_set_compute(r.b.context, TT_F32));
    /* int8 waits for f32. */
    keep_as(&r, (codec_case){TT_CODEC_INT8, 64});
    compute_in(&r, TT_BF16);
    assert_fails(tt_model_forward_train(model, params, r.b.tokens, r.b.targets, 2, 7, 1.0, &loss),
                 TT_EINVAL, "cannot be kept as int8");
    assert_ok(tt_model_forward(model, params, r.b.tokens, r.b.targets, 2, 7, &loss));
    compute_in(&r, TT_F32);
    gradients(&r.b);
    assert_true(tt_model_activation_error(model) > 0.0);
    bench_open(&other, small_dims, 2, 7, TT_F64);
    assert_fails(tt_model_set_compute(other.model, TT_BF16), TT_EINVAL, "f64 cannot compute");
    bench_close(&other);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_gradients_are_close),
        cmocka_unit_test(bits_do_not_depend_on_threads_or_portions),
        cmocka_unit_test(a_change_of_form_leaves_no_trace),
        cmocka_unit_test(packed_weights_change_no_bit),
        cmocka_unit_test(packed_weights_are_read_where_they_are_good),
        cmocka_unit_test(activations_are_bf16_and_all_else_is_not),
        cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
