/* Blocks other than GPT-2's: dims, names, counts, and what only they do. */
#include "blocks_support.h"

static void contradictions_are_named(void **state)
{
    (void)state;
    tt_model_dims d = llama_dims;
    assert_ok(tt_model_dims_check(&d));
    d.kv_heads = 3;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.kv_heads (3)");
    d.kv_heads = 8;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.kv_heads is 8; give a number from 1");
    d.kv_heads = -1;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.kv_heads is -1");
    d = llama_dims;
    d.mlp_width = -4;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.mlp_width is -4");
    d.mlp_width = INT64_C(1) << 40;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.mlp_width");
    d = llama_dims;
    d.channels = 12; /* heads of 3 */
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.positions is rotary");
    d.positions = TT_POSITIONS_LEARNED;
    assert_ok(tt_model_dims_check(&d));
    d = llama_dims;
    d.rope_theta = 0.5;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.rope_theta is 0.5");
    d.rope_theta = NAN;
    assert_fails(tt_model_dims_check(&d), TT_ECONFIG, "model.rope_theta");
}

static void zeros_stand_for_what_is_usual(void **state)
{
    (void)state;
    /* Llama 2 7B: 4096 channels, an MLP of 11008 (a multiple of 256; here of 64: 10944). */
    tt_model_dims d = {.heads = 32, .channels = 4096, .mlp = TT_MLP_SWIGLU};
    assert_int_equal(tt_model_mlp_width(&d), 10944);
    assert_int_equal(tt_model_kv_heads(&d), 32);
    d.channels = 384;
    assert_int_equal(tt_model_mlp_width(&d), 1024);
    d.channels = 16;
    assert_int_equal(tt_model_mlp_width(&d), 64);
    d.mlp = TT_MLP_GELU;
    assert_int_equal(tt_model_mlp_width(&d), 64);
    d.mlp_width = 7;
    assert_int_equal(tt_model_mlp_width(&d), 7);
    d.kv_heads = 4;
    d.channels = 64;
    assert_int_equal(tt_model_kv_width(&d), 8);
}

static void parameters_of_llama(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t rows, columns;
        bool gain, residual;
    } expected[] = {
        {"wte.weight", 17, 16, false, false},
        {"h.0.ln_1.weight", 16, 1, true, false},
        {"h.0.attn.c_attn.weight", 32, 16, false, false},
        {"h.0.attn.c_proj.weight", 16, 16, false, true},
        {"h.0.ln_2.weight", 16, 1, true, false},
        {"h.0.mlp.c_fc.weight", 40, 16, false, false},
        {"h.0.mlp.c_proj.weight", 16, 20, false, true},
        {"h.1.ln_1.weight", 16, 1, true, false},
        {"h.1.attn.c_attn.weight", 32, 16, false, false},
        {"h.1.attn.c_proj.weight", 16, 16, false, true},
        {"h.1.ln_2.weight", 16, 1, true, false},
        {"h.1.mlp.c_fc.weight", 40, 16, false, false},
        {"h.1.mlp.c_proj.weight", 16, 20, false, true},
        {"ln_f.weight", 16, 1, true, false},
        {"lm_head.weight", 17, 16, false, false},
    };
    bench b;
    bench_open(&b, llama_dims, 1, 2, TT_F32);
    assert_int_equal(tt_model_tensor_count(b.model), sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const tt_param_tensor *t = tt_model_tensor(b.model, i);
        assert_string_equal(t->name, expected[i].name);
        assert_int_equal(t->dims[0], expected[i].rows);
        assert_int_equal(t->dims[1], expected[i].columns);
        assert_int_equal(t->gain, expected[i].gain);
        assert_int_equal(t->residual, expected[i].residual);
        assert_int_equal(t->decay, !expected[i].gain);
    }
    bench_close(&b);
}

/* Each dims' tensors, one after another, and what is said of all. */
static void counts_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < BLOCK_DIMS; i++) {
        const tt_model_dims *d = &block_dims[i];
        tt_gemm_shape shapes[TT_MODEL_GEMM_SHAPES];
        int64_t elements = 0;
        int64_t largest = 0;
        int64_t end = 0;
        double matrices = 0.0; /* that a token is multiplied with */
        bench b;
        bench_open(&b, *d, 1, 2, TT_F32);
        for (size_t t = 0; t < tt_model_tensor_count(b.model); t++) {
            const tt_param_tensor *tensor = tt_model_tensor(b.model, t);
            const bool is_embedding = strncmp(tensor->name, "wte", 3) == 0;
            assert_true(tensor->offset >= end && tensor->offset < end + 16);
            assert_int_equal(tensor->count, tensor->dims[0] * tensor->dims[1]);
            end = tensor->offset + tensor->count;
            elements += tensor->count;
            largest = tensor->count > largest ? tensor->count : largest;
            if (tensor->rank == 2 && strncmp(tensor->name, "wpe", 3) != 0 &&
                !(is_embedding && d->untied)) {
                matrices += (double)tensor->count;
            }
        }
        assert_int_equal(tt_model_param_elements(d), elements);
        assert_int_equal(tt_model_largest_param(d), largest);
        assert_true(b.count >= end && b.count < end + 16);
        assert_int_equal(tt_model_gemm_shapes(d, 4, 8, shapes, TT_MODEL_GEMM_SHAPES),
                         TT_MODEL_GEMM_SHAPES);
        double per_op[3] = {0.0, 0.0, 0.0};
        for (size_t s = 0; s < TT_MODEL_GEMM_SHAPES; s++) {
            per_op[shapes[s].op - TT_OP_LINEAR_FORWARD] +=
                (double)shapes[s].count * (double)shapes[s].n * (double)shapes[s].k;
        }
        for (int op = 0; op < 3; op++) {
            assert_true(per_op[op] == matrices);
        }
        bench_close(&b);
    }
}

static void gains_start_at_one(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, llama_dims, 0, 0, TT_F32);
    assert_ok(tt_model_init_params(b.model, 42, b.slots[0].params));
    double *p = read_reals(&b, b.slots[0].params, b.count);
    for (size_t t = 0; t < tt_model_tensor_count(b.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b.model, t);
        for (int64_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
            assert_true(tensor->gain ? p[i] == 1.0 : p[i] != 0.0 && fabs(p[i]) < 0.12);
        }
    }
    free(p);
    bench_close(&b);
}

/* Whatever lies in the gradients when a step begins, also in rows of tokens that do not occur. */
static void a_step_begins_anew(void **state)
{
    (void)state;
    for (size_t i = 0; i < BLOCK_DIMS; i++) {
        bench b;
        double loss;
        bench_open(&b, block_dims[i], 2, 7, TT_F64);
        fill_params(&b, 3);
        gradients(&b);
        double *once = read_reals(&b, tt_model_gradients(b.model), b.count);
        double *junk = malloc((size_t)b.count * sizeof *junk);
        assert_non_null(junk);
        for (int64_t k = 0; k < b.count; k++) {
            junk[k] = 1e6;
        }
        for (size_t t = 0; t < tt_model_tensor_count(b.model); t++) {
            const tt_param_tensor *tensor = tt_model_tensor(b.model, t);
            write_reals(&b, real_at(&b, tt_model_gradients(b.model), tensor->offset), junk,
                        tensor->count);
        }
        gradients(&b);
        double *again = read_reals(&b, tt_model_gradients(b.model), b.count);
        assert_memory_equal(once, again, (size_t)b.count * sizeof *once);
        /* A second pass adds. */
        assert_ok(tt_model_forward_train(b.model, b.slots[0].params, b.tokens, b.targets, 2, 7, 1.0,
                                         &loss));
        assert_ok(tt_model_backward(b.model, b.slots[0].params));
        double *twice = read_reals(&b, tt_model_gradients(b.model), b.count);
        for (int64_t k = 0; k < b.count; k++) {
            assert_true(fabs(twice[k] - 2.0 * once[k]) <= 1e-12 * (1.0 + fabs(once[k])));
        }
        free(once);
        free(junk);
        free(again);
        free(twice);
        bench_close(&b);
    }
}

/* Backward puts the gradient of fc in its place: from then on it is not listed. */
static void what_backward_takes_is_not_resident(void **state)
{
    (void)state;
    bench b;
    double loss;
    bench_open(&b, llama_dims, 2, 7, TT_F32);
    fill_params(&b, 3);
    assert_ok(
        tt_model_forward_train(b.model, b.slots[0].params, b.tokens, b.targets, 2, 7, 1.0, &loss));
    assert_int_equal(resident_named(&b, "act.h.0.fc").count, 14 * 40);
    assert_int_equal(resident_named(&b, "act.h.1.fc").count, 14 * 40);
    assert_ok(tt_model_backward(b.model, b.slots[0].params));
    assert_int_equal(resident_named(&b, "act.h.0.fc").count, 0);
    assert_int_equal(resident_named(&b, "act.h.1.fc").count, 0);
    assert_int_equal(resident_named(&b, "act.h.0.swiglu").count, 14 * 20);
    assert_ok(tt_model_forward(b.model, b.slots[0].params, b.tokens, b.targets, 2, 7, &loss));
    assert_int_equal(resident_named(&b, "act.h.0.fc").count, 14 * 40);
    bench_close(&b);
}

static double loss_with(double theta)
{
    const tt_model_dims turning = {SMALL, .positions = TT_POSITIONS_ROTARY, .rope_theta = theta};
    bench b;
    bench_open(&b, turning, 1, 9, TT_F64);
    fill_params(&b, 3);
    double loss = gradients(&b);
    bench_close(&b);
    return loss;
}

static void theta_turns_the_positions(void **state)
{
    (void)state;
    assert_true(loss_with(0.0) == loss_with(10000.0));
    assert_true(fabs(loss_with(50.0) - loss_with(10000.0)) > 1e-6);
}

static void memory_holds_fewer_keys(void **state)
{
    (void)state;
    tt_model_dims all = middle_llama_dims;
    all.kv_heads = 4;
    const int64_t saved = 3 * (4 * 24) * 2 * 2 * 16 * 4; /* layers, rows, k and v, heads, size */
    const size_t more = tt_model_resident_bytes(&all, 4, 24, (tt_act_form){.compute = TT_F32});
    const size_t less =
        tt_model_resident_bytes(&middle_llama_dims, 4, 24, (tt_act_form){.compute = TT_F32});
    const int64_t weights = 3 * 2 * 2 * 16 * 64 * 4;           /* their gradients */
    assert_int_equal((int64_t)(more - less), saved + weights); /* the MLP is the widest branch */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_named),
        cmocka_unit_test(zeros_stand_for_what_is_usual),
        cmocka_unit_test(parameters_of_llama),
        cmocka_unit_test(counts_agree),
        cmocka_unit_test(gains_start_at_one),
        cmocka_unit_test(a_step_begins_anew),
        cmocka_unit_test(what_backward_takes_is_not_resident),
        cmocka_unit_test(theta_turns_the_positions),
        cmocka_unit_test(memory_holds_fewer_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
