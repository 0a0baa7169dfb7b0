/* Weights that are kept in bf16 alone: where they lie, what is computed with them, and how AdamW
 * changes them. */
#include "slots_support.h"

#include "model_internal.h"

static const tt_model_dims gpt = {
    .layers = 2, .heads = 3, .channels = 24, .context = 19, .vocab = 37};
static const tt_model_dims llama = {.layers = 2,
                                    .heads = 4,
                                    .channels = 24,
                                    .context = 19,
                                    .vocab = 37,
                                    .norm = TT_NORM_RMSNORM,
                                    .positions = TT_POSITIONS_ROTARY,
                                    .mlp = TT_MLP_SWIGLU,
                                    .kv_heads = 2,
                                    .mlp_width = 41,
                                    .unbiased = true,
                                    .untied = true};

static tt_model_dims with_bf16(tt_model_dims dims)
{
    dims.bf16_weights = true;
    return dims;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- where they lie ---- */

static void check_places(tt_model_dims dims)
{
    const tt_model_dims narrow = with_bf16(dims);
    tt_param_tensor tensors[64];
    const size_t count = tt_model_count_tensors(&narrow);
    assert_true(count <= 64);
    assert_int_equal(tt_model_lay_out_params(&narrow, tensors),
                     tt_model_lay_out_params(&dims, NULL));
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const tt_param_tensor *t = &tensors[i];
        assert_int_equal(t->bf16, t->rank == 2);
        assert_int_equal(tt_param_bytes(t, TT_F32), t->count * (t->bf16 ? 2 : 4));
        assert_int_equal(tt_param_at(t, TT_F32) % 64, 0);
        assert_true(tt_param_at(t, TT_F32) >= end && tt_param_at(t, TT_F32) < end + 64);
        end = tt_param_at(t, TT_F32) + tt_param_bytes(t, TT_F32);
    }
    const size_t all = tt_model_params_bytes(&narrow, TT_F32);
    assert_true(all >= end && all < end + 64);
    (void)tt_model_lay_out_params(&dims, tensors);
    for (size_t i = 0; i < count; i++) {
        assert_false(tensors[i].bf16);
        assert_int_equal(tt_param_at(&tensors[i], TT_F32), tensors[i].offset * 4);
        assert_int_equal(tt_param_at(&tensors[i], TT_F64), tensors[i].offset * 8);
    }
}

static void weights_take_two_bytes(void **state)
{
    (void)state;
    check_places(gpt);
    check_places(llama);
    const tt_model_dims small = gpt2_dims(12, 12, 768, 1024, 50304);
    const tt_model_dims narrow = with_bf16(small);
    const int64_t vectors = 12 * (4 * 768 + (3 + 1 + 4 + 1) * 768) + 2 * 768; /* stay f32 */
    const int64_t matrices = tt_model_param_elements(&small) - vectors;
    assert_int_equal(tt_model_params_bytes(&narrow, TT_F32), 2 * matrices + 4 * vectors);
}

static void only_in_f32(void **state)
{
    (void)state;
    tt_context_options options;
    tt_context *context = NULL;
    tt_model *model = NULL;
    const tt_model_dims dims = with_bf16(gpt);
    tt_context_options_init(&options);
    options.dtype = TT_F64;
    options.tensor_bytes = tt_model_bytes(&dims, 1, 4, TT_F64);
    assert_ok(tt_context_create(&options, &context));
    assert_fails(tt_model_create(context, &dims, 1, 4, &model), TT_EINVAL, "f64");
    assert_null(model);
    tt_context_destroy(context);
}

/* ---- what is computed with them ---- */

/* All of one tensor's parameters, as floats. */
static float *read_param(const bench *b, const void *params, const tt_param_tensor *tensor)
{
    const size_t bytes = tt_param_bytes(tensor, TT_F32);
    float *out = malloc(sizeof *out * (size_t)tensor->count);
    uint16_t *raw = malloc(bytes);
    assert_non_null(out);
    assert_non_null(raw);
    const unsigned char *at = (const unsigned char *)params + tt_param_at(tensor, TT_F32);
    assert_ok(tt_tensor_read(b->context, tensor->bf16 ? (void *)raw : (void *)out, at, bytes));
    for (int64_t i = 0; tensor->bf16 && i < tensor->count; i++) {
        out[i] = float_of((uint32_t)raw[i] << 16);
    }
    free(raw);
    return out;
}

static void write_param(const bench *b, void *params, const tt_param_tensor *tensor,
                        const float *values)
{
    uint16_t *raw = malloc(sizeof *raw * (size_t)tensor->count);
    assert_non_null(raw);
    for (int64_t i = 0; i < tensor->count; i++) {
        raw[i] = (uint16_t)(bits_of(values[i]) >> 16);
    }
    assert_ok(tt_tensor_write(b->context, (unsigned char *)params + tt_param_at(tensor, TT_F32),
                              tensor->bf16 ? (const void *)raw : values,
                              tt_param_bytes(tensor, TT_F32)));
    free(raw);
}

/* A model with weights in bf16, and one of the same values in f32. */
typedef struct pair {
    bench narrow, wide;
} pair;

static void open_pair(pair *p, tt_model_dims dims, bool bf16)
{
    const bench_options options = {.dtype = TT_F32, .threads = 2, .guard = true, .bf16 = bf16};
    bench_open_with(&p->narrow, with_bf16(dims), 3, dims.context - 2, options);
    bench_open_with(&p->wide, dims, 3, dims.context - 2, options);
    for (size_t t = 0; t < tt_model_tensor_count(p->wide.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(p->wide.model, t);
        float *values = malloc(sizeof *values * (size_t)tensor->count);
        assert_non_null(values);
        tt_random_normal_f32(3, t, values, (size_t)tensor->count);
        for (int64_t i = 0; i < tensor->count; i++) {
            const float x = (tensor->gain ? 1.0f : 0.0f) + 0.3f * values[i];
            values[i] = tensor->rank == 2 ? float_of(bits_of(x) & 0xffff0000u) : x;
        }
        write_param(&p->wide, p->wide.slots[0].params, tensor, values);
        write_param(&p->narrow, p->narrow.slots[0].params, tt_model_tensor(p->narrow.model, t),
                    values);
        free(values);
    }
}

static void close_pair(pair *p)
{
    bench_close(&p->narrow);
    bench_close(&p->wide);
}

static void assert_same_gradients(pair *p)
{
    double *narrow = read_reals(&p->narrow, tt_model_gradients(p->narrow.model), p->narrow.count);
    double *wide = read_reals(&p->wide, tt_model_gradients(p->wide.model), p->wide.count);
    assert_int_equal(p->narrow.count, p->wide.count);
    assert_memory_equal(narrow, wide, sizeof *wide * (size_t)p->wide.count);
    free(narrow);
    free(wide);
}

static void check_passes(tt_model_dims dims, bool bf16, bool packed)
{
    pair p;
    open_pair(&p, dims, bf16);
    bench *const both[] = {&p.narrow, &p.wide};
    double loss[2];
    for (int i = 0; i < 2; i++) {
        bench *b = both[i];
        assert_ok(tt_model_begin_step(b->model));
        if (packed) {
            assert_ok(tt_model_pack_weights(b->model, b->slots[0].params));
        }
        for (int portion = 0; portion < 2; portion++) {
            assert_ok(tt_model_forward_train(b->model, b->slots[0].params, b->tokens, b->targets,
                                             2 + portion, b->time, 0.5, &loss[i]));
            assert_ok(tt_model_backward(b->model, b->slots[0].params));
        }
        tt_model_unpack_weights(b->model);
    }
    assert_true(isfinite(loss[0]) && loss[0] == loss[1]);
    assert_same_gradients(&p);
    close_pair(&p);
}

static void check_decode(tt_model_dims dims, bool bf16)
{
    pair p;
    open_pair(&p, dims, bf16);
    bench *const both[] = {&p.narrow, &p.wide};
    float logits[2][64];
    assert_true(dims.vocab <= 64);
    for (int i = 0; i < 2; i++) {
        bench *b = both[i];
        tt_kv_store *store = NULL;
        assert_ok(tt_kv_store_create(b->context, dims.layers, dims.context,
                                     tt_model_kv_width(&b->dims), &store));
        for (int64_t at = 0; at < 9; at += 3) { /* several, then one, then two */
            const int64_t counts[] = {6, 1, 2};
            assert_ok(tt_model_decode(b->model, b->slots[0].params, store,
                                      b->tokens + tt_kv_store_length(store), counts[at / 3],
                                      logits[i]));
        }
        tt_kv_store_destroy(store);
    }
    assert_memory_equal(logits[0], logits[1], sizeof(float) * (size_t)dims.vocab);
    close_pair(&p);
}

static void passes_have_the_bits_of_f32(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const tt_model_dims dims = i == 0 ? gpt : llama;
        check_passes(dims, false, false);
        check_passes(dims, true, false);
        check_passes(dims, true, true);
        check_decode(dims, false);
        check_decode(dims, true);
    }
}

static void they_begin_as_the_nearest(void **state)
{
    (void)state;
    pair p;
    open_pair(&p, gpt, false);
    assert_ok(tt_model_init_params(p.narrow.model, 5, p.narrow.slots[0].params));
    assert_ok(tt_model_init_params(p.wide.model, 5, p.wide.slots[0].params));
    for (size_t t = 0; t < tt_model_tensor_count(p.wide.model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(p.wide.model, t);
        float *wide = read_param(&p.wide, p.wide.slots[0].params, tensor);
        float *narrow =
            read_param(&p.narrow, p.narrow.slots[0].params, tt_model_tensor(p.narrow.model, t));
        for (int64_t i = 0; i < tensor->count; i++) {
            assert_true(fabsf(narrow[i] - wide[i]) <=
                        (tensor->rank == 2 ? 0x1p-8f * fabsf(wide[i]) : 0.0f));
        }
        free(wide);
        free(narrow);
    }
    close_pair(&p);
}

static void a_bad_one_is_named(void **state)
{
    (void)state;
    slot_bench b;
    const uint16_t not_a_number = 0x7fc0;
    char name[TT_TENSOR_NAME];
    slots_open(&b, with_bf16(slot_dims), 16);
    slots_gradients(&b, 0, 0);
    const size_t bad = tt_model_layer_param(&b.dims, 1, PARAM_FC);
    unsigned char *at = (unsigned char *)b.memory.slots[0].params +
                        tt_param_at(tt_model_tensor(b.model, bad), TT_F32);
    assert_ok(tt_slot_memory_locate(&b.memory, 0, 1, name));
    assert_string_equal(name, "");
    assert_ok(tt_tensor_write(b.context, at + 2 * 100, &not_a_number, sizeof not_a_number));
    assert_ok(tt_slot_memory_locate(&b.memory, 0, 1, name));
    assert_string_equal(name, "params.bf16/h.1.mlp.c_fc.weight");
    slots_close(&b);
}

/* ---- how they change ---- */

static const tt_optim_options optim = {.learning_rate = 1e-3,
                                       .minimum_rate = 1e-4,
                                       .total_steps = 100,
                                       .beta1 = 0.9,
                                       .beta2 = 0.95,
                                       .epsilon = 1e-8,
                                       .weight_decay = 0.1,
                                       .clip = 1,
                                       .seed = 7};

/* Each by the numbers of its tensor and step. */
static void assert_rounded(pair *p, size_t t, int64_t step)
{
    const tt_param_tensor *tensor = tt_model_tensor(p->wide.model, t);
    const tt_rounding how = tt_optim_rounding(&optim, step, t);
    float *wide = read_param(&p->wide, p->wide.slots[1].params, tensor);
    float *narrow =
        read_param(&p->narrow, p->narrow.slots[1].params, tt_model_tensor(p->narrow.model, t));
    uint16_t *random = malloc(sizeof *random * (size_t)tensor->count);
    assert_non_null(random);
    tt_random_u16(how.seed, how.stream, 0, random, (size_t)tensor->count);
    for (int64_t i = 0; i < tensor->count; i++) {
        const uint32_t expected =
            tensor->rank == 2 ? (bits_of(wide[i]) + random[i]) & 0xffff0000u : bits_of(wide[i]);
        if (bits_of(narrow[i]) != expected) {
            fail_msg("%s %lld: %.9g of %.9g", tensor->name, (long long)i, (double)narrow[i],
                     (double)wide[i]);
        }
    }
    free(wide);
    free(narrow);
    free(random);
}

static void a_step_is_that_of_f32_rounded(void **state)
{
    (void)state;
    enum { STEP = 41 };
    pair p;
    open_pair(&p, gpt, false);
    bench *const both[] = {&p.narrow, &p.wide};
    tt_verdict verdict[2];
    for (int i = 0; i < 2; i++) {
        double norm;
        uint64_t nonfinite;
        gradients(both[i]);
        assert_ok(tt_gradient_norm(both[i]->context, both[i]->model, &norm, &nonfinite));
        assert_ok(tt_optim_step(both[i]->context, both[i]->model, &optim, STEP, norm,
                                &both[i]->slots[0], &both[i]->slots[1], &verdict[i]));
        assert_int_equal(verdict[i].nonfinite, 0);
    }
    for (size_t t = 0; t < tt_model_tensor_count(p.wide.model); t++) {
        assert_rounded(&p, t, STEP);
    }
    assert_true(verdict[0].update_squares > verdict[1].update_squares); /* what rounding adds */
    close_pair(&p);
}

/* Tensors and steps draw numbers of their own; the initial weights' are others, too. */
static void streams_differ(void **state)
{
    (void)state;
    const tt_rounding one = tt_optim_rounding(&optim, 3, 5);
    const tt_rounding others[] = {tt_optim_rounding(&optim, 4, 5), tt_optim_rounding(&optim, 3, 6),
                                  tt_optim_rounding(&optim, 999999999999, 5)};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_true(one.seed == others[i].seed && one.stream != others[i].stream);
    }
    assert_true(one.seed != optim.seed);
}

/* With moments in every codec: from slot to slot as in place, and with copies on the way. */
static void check_slots(tt_codec codec)
{
    slot_bench apart;
    slot_bench in_place;
    slots_open(&apart, with_bf16(slot_dims), 16);
    slots_open(&in_place, with_bf16(slot_dims), 16);
    apart.policy.codec = in_place.policy.codec = codec;
    for (int64_t step = 0; step < 12; step++) {
        slots_step(&apart, step, (int)step % 2, 1 - (int)step % 2);
        slots_step(&in_place, step, 0, 0);
        if (step % 2 == 1) {
            assert_same_slots(&apart, 0, &in_place, 0);
        }
        if (step == 7) {
            assert_ok(tt_slot_copy(&in_place.memory, 0, 1));
            assert_same_slots(&in_place, 0, &in_place, 1);
            assert_ok(tt_slot_release(&in_place.memory, 0));
            assert_ok(tt_slot_copy(&in_place.memory, 1, 0));
        }
    }
    slots_close(&apart);
    slots_close(&in_place);
}

static void slots_keep_every_bit(void **state)
{
    (void)state;
    check_slots(TT_CODEC_F32);
    check_slots(TT_CODEC_BF16);
    check_slots(TT_CODEC_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_take_two_bytes),
        cmocka_unit_test(only_in_f32),
        cmocka_unit_test(passes_have_the_bits_of_f32),
        cmocka_unit_test(they_begin_as_the_nearest),
        cmocka_unit_test(a_bad_one_is_named),
        cmocka_unit_test(a_step_is_that_of_f32_rounded),
        cmocka_unit_test(streams_differ),
        cmocka_unit_test(slots_keep_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
