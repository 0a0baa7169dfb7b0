/* Slots whose moments are in codecs: what the update does, what is spared, in place and apart. */
#include "slots_support.h"

/* ---- f32 is what it was ---- */

static void f32_is_plain_adamw(void **state)
{
    (void)state;
    slot_bench a;
    slot_bench b;
    slots_open(&a, slot_dims, 16);
    slots_open(&b, slot_dims, 16);
    for (int64_t step = 0; step < 5; step++) {
        int from = (int)step % 2;
        tt_moments_result result = slots_step(&a, step, from, 1 - from);
        tt_verdict verdict;
        double norm;
        uint64_t nonfinite;
        slots_gradients(&b, step, from);
        assert_ok(tt_gradient_norm(b.context, b.model, &norm, &nonfinite));
        assert_ok(tt_optim_step(b.context, b.model, &b.optim, step, norm, &b.memory.slots[from],
                                &b.memory.slots[1 - from], &verdict));
        assert_same_slots(&a, 1 - from, &b, 1 - from);
        assert_true(result.verdict.update_squares == verdict.update_squares);
        assert_int_equal(result.verdict.nonfinite, 0);
        assert_true(result.reconstruction == 0 && result.update == 0 && !result.changed);
        assert_false(a.memory.layouts[1 - from].decided);
    }
    slots_close(&a);
    slots_close(&b);
}

/* ---- codecs ---- */

static size_t count_codec(const slot_bench *b, int slot, tt_codec codec)
{
    size_t count = 0;
    for (size_t i = 0; i < tt_model_tensor_count(b->model); i++) {
        count += b->memory.layouts[slot].codec[i] == codec;
    }
    return count;
}

static size_t count_large(const slot_bench *b)
{
    size_t count = 0;
    for (size_t i = 0; i < tt_model_tensor_count(b->model); i++) {
        count += tt_model_tensor(b->model, i)->count >= TT_ENCODED_ELEMENTS;
    }
    return count;
}

static void tensors_settle_and_learn(void **state)
{
    (void)state;
    slot_bench plain;
    slot_bench packed;
    slots_open(&plain, slot_dims, 16);
    slots_open(&packed, slot_dims, 16);
    packed.policy.codec = TT_CODEC_INT8;
    double worst_update = 0;
    double worst_reconstruction = 0;
    for (int64_t step = 0; step < 70; step++) {
        int from = (int)step % 2;
        slots_step(&plain, step, from, 1 - from);
        tt_moments_result result = slots_step(&packed, step, from, 1 - from);
        assert_int_equal(result.verdict.nonfinite, 0);
        worst_update = fmax(worst_update, result.update);
        worst_reconstruction = fmax(worst_reconstruction, result.reconstruction);
        if (step == 0) { /* too few gradients for 8 bits, but not for 16 */
            assert_int_equal(count_codec(&packed, 1, TT_CODEC_INT8), 0);
            assert_int_equal(count_codec(&packed, 1, TT_CODEC_BF16), count_large(&packed));
            assert_true(result.changed);
        }
    }
    /* Below what gates allow at every step, by the margin that the rule keeps. */
    assert_true(worst_update > 0.002 && worst_update <= TT_MOMENTS_LEAVE * 0.05);
    assert_true(worst_reconstruction > 0.002 && worst_reconstruction <= TT_MOMENTS_LEAVE * 0.05);
    assert_int_equal(count_codec(&packed, 0, TT_CODEC_INT8), count_large(&packed));
    /* And the run goes where it would have gone. */
    double apart = 0;
    double norm = 0;
    for (size_t i = 0; i < tt_model_tensor_count(plain.model); i++) {
        tt_tensor_info info;
        float *x = (float *)part_bytes(&plain, 0, i, &info);
        float *y = (float *)part_bytes(&packed, 0, i, &info);
        for (size_t k = 0; k < info_bytes(&info) / sizeof *x; k++) {
            apart += (double)(x[k] - y[k]) * (double)(x[k] - y[k]);
            norm += (double)x[k] * (double)x[k];
        }
        free(x);
        free(y);
    }
    print_message("parameters are %.2f %% apart after 70 steps; update error at most %.2f %%\n",
                  100 * sqrt(apart / norm), 100 * worst_update);
    /* Without dithered roots it would be 2 %. */
    assert_true(apart > 0 && sqrt(apart / norm) < 0.012);
    slots_close(&plain);
    slots_close(&packed);
}

/* Codec and block change at run time, both ways: what the next step reads is what this one wrote.
 */
static const struct {
    tt_codec codec;
    int64_t block;
} switches[] = {
    {TT_CODEC_F32, 64},   {TT_CODEC_F32, 64},  {TT_CODEC_INT8, 64}, {TT_CODEC_INT8, 64},
    {TT_CODEC_BF16, 64},  {TT_CODEC_BF16, 64}, {TT_CODEC_INT8, 32}, {TT_CODEC_INT8, 128},
    {TT_CODEC_INT8, 128}, {TT_CODEC_F32, 128}, {TT_CODEC_BF16, 64}, {TT_CODEC_F32, 64},
    {TT_CODEC_INT8, 256}, {TT_CODEC_F32, 64},  {TT_CODEC_F32, 64},
};
enum { SWITCHES = sizeof switches / sizeof *switches, LEAD = 16 };

static void in_place_and_apart_are_the_same(void **state)
{
    (void)state;
    slot_bench apart;
    slot_bench place;
    slots_open(&apart, slot_dims, 16);
    slots_open(&place, slot_dims, 16);
    int slot = 0;
    for (int64_t step = 0; step < LEAD + SWITCHES; step++) {
        size_t at = step < LEAD ? 0 : (size_t)(step - LEAD);
        apart.policy.codec = place.policy.codec = switches[at].codec;
        apart.policy.block = place.policy.block = switches[at].block;
        tt_moments_result a = slots_step(&apart, step, slot, 1 - slot);
        tt_moments_result b = slots_step(&place, step, 0, 0);
        slot = 1 - slot;
        assert_same_slots(&apart, slot, &place, 0);
        assert_true(a.reconstruction == b.reconstruction && a.update == b.update);
        assert_true(a.verdict.update_squares == b.verdict.update_squares);
        assert_int_equal(a.verdict.nonfinite, b.verdict.nonfinite);
        assert_int_equal(a.changed, b.changed);
        bool f32 = switches[at].codec == TT_CODEC_F32;
        assert_int_equal(count_codec(&place, 0, switches[at].codec),
                         f32 ? tt_model_tensor_count(place.model) : count_large(&place));
    }
    slots_close(&apart);
    slots_close(&place);
}

/* After `steps` (an even number) under the limit `update_max`; it is the usual one from then on. */
static void check_copy(int64_t steps, int64_t block, double update_max)
{
    slot_bench a;
    slots_open(&a, slot_dims, 16);
    a.policy.codec = TT_CODEC_INT8;
    a.policy.block = block;
    a.policy.update_max = update_max;
    for (int64_t step = 0; step < steps; step++) {
        slots_step(&a, step, (int)step % 2, 1 - (int)step % 2);
    }
    a.policy.update_max = 0.05;
    const int scratch = SLOT_COUNT;
    assert_ok(tt_slot_copy(&a.memory, 0, scratch));
    assert_same_slots(&a, 0, &a, scratch);
    slots_gradients(&a, steps, 0);
    slots_update(&a, steps, scratch, scratch);
    slots_update(&a, steps, 0, 1);
    assert_same_slots(&a, 1, &a, scratch);
    /* Released, it is zero and f32, and can be used again. */
    assert_ok(tt_slot_release(&a.memory, scratch));
    assert_int_equal(count_codec(&a, scratch, TT_CODEC_F32), tt_model_tensor_count(a.model));
    tt_tensor_info info;
    float *zero = (float *)part_bytes(&a, scratch, 0, &info);
    assert_true(zero[0] == 0 && zero[80 * 64 - 1] == 0);
    free(zero);
    assert_ok(tt_slot_copy(&a.memory, 1, scratch));
    assert_same_slots(&a, 1, &a, scratch);
    slots_close(&a);
}

static void a_copy_goes_on_like_the_original(void **state)
{
    (void)state;
    check_copy(12, 64, 0.05);
    check_copy(12, 256, 0.05);
    /* Step 6 is none at which a spared tensor is tried. */
    check_copy(6, 64, 0.008);
}

/* ---- what is spared ---- */

/* Between 40 % and 80 % of what is allowed: not encoded, but not given up either. */
static void what_is_encoded_stays_so_longer(void **state)
{
    (void)state;
    slot_bench b;
    slots_open(&b, slot_dims, 16);
    for (int64_t step = 0; step < 20; step++) {
        slots_step(&b, step, (int)step % 2, 1 - (int)step % 2);
    }
    const int scratch = SLOT_COUNT;
    b.policy.codec = TT_CODEC_INT8;
    b.policy.reconstruction_max = 1;
    slots_gradients(&b, 20, 0);
    b.policy.update_max = 1;
    tt_moments_result measured = slots_update(&b, 20, 0, scratch);
    assert_int_equal(count_codec(&b, scratch, TT_CODEC_INT8), count_large(&b));
    /* The worst tensor is at 60 % of this. */
    b.policy.update_max = measured.update / 0.6;
    slots_update(&b, 20, 0, 1);
    assert_true(count_codec(&b, 1, TT_CODEC_BF16) > 0);
    /* From the encoded state the next step keeps all of them, from the other one it does not. */
    slots_gradients(&b, 21, 0);
    measured = slots_update(&b, 21, scratch, scratch);
    assert_true(measured.update < TT_MOMENTS_LEAVE * b.policy.update_max);
    assert_true(measured.update > TT_MOMENTS_ENTER * b.policy.update_max);
    assert_int_equal(count_codec(&b, scratch, TT_CODEC_INT8), count_large(&b));
    slots_update(&b, 21, 1, 1);
    assert_true(count_codec(&b, 1, TT_CODEC_BF16) > 0);
    slots_close(&b);
}

/* All gradients of one tensor alike (the update of which any codec keeps), or, where `hard`, one
 * element in a block a thousand times the others: linear codes of m then lose the others. */
static void plant_gradients(slot_bench *b, bool hard)
{
    int64_t count = tt_model_param_count(&b->dims);
    float *g = calloc((size_t)count, sizeof *g);
    for (size_t t = 0; t < tt_model_tensor_count(b->model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b->model, t);
        for (int64_t i = 0; i < tensor->count; i++) {
            g[tensor->offset + i] = hard && t == 0 && i % 64 == 5 ? 1.0f : 1e-3f;
        }
    }
    assert_ok(
        tt_tensor_write(b->context, tt_model_gradients(b->model), g, (size_t)count * sizeof *g));
    free(g);
}

static void a_hard_tensor_is_spared_until_it_is_not(void **state)
{
    (void)state;
    slot_bench b;
    char line[512];
    slots_open(&b, slot_dims, 16);
    b.policy.codec = TT_CODEC_INT8;
    b.optim.beta2 = 0.8; /* forgets in time */
    int slot = 0;
    for (int64_t step = 0; step < 200; step++, slot = 1 - slot) {
        /* Hard until step 90; by step 128 the large elements have faded from m and v. */
        plant_gradients(&b, step < 90);
        tt_moments_result result = slots_update(&b, step, slot, 1 - slot);
        const tt_slot_layout *layout = &b.memory.layouts[1 - slot];
        assert_true(result.update <= TT_MOMENTS_LEAVE * b.policy.update_max);
        assert_true(layout->decided);
        bool spared = layout->codec[0] == TT_CODEC_BF16;
        assert_int_equal(layout->kept[0], spared);
        assert_int_equal(layout->codec[2 + 2], TT_CODEC_INT8); /* h.0.attn.c_attn.weight */
        if (step < 128) {
            assert_true(spared);
            assert_true(tt_moments_describe(&b.memory, 1 - slot, TT_CODEC_INT8, line, sizeof line));
            assert_non_null(strstr(line, "wte.weight"));
            assert_null(strstr(line, "c_attn"));
        } else if (step >= 192) {
            assert_false(spared);
            assert_false(
                tt_moments_describe(&b.memory, 1 - slot, TT_CODEC_INT8, line, sizeof line));
        }
        assert_int_equal(result.changed, step == 0 || (step % 64 == 0 && step >= 128 && !spared &&
                                                       b.memory.layouts[slot].kept[0]));
    }
    /* Hard again: spared in that very step, not in the next one that is due. */
    plant_gradients(&b, true);
    tt_moments_result result = slots_update(&b, 201, slot, 1 - slot);
    assert_int_equal(b.memory.layouts[1 - slot].codec[0], TT_CODEC_BF16);
    assert_true(result.changed && result.update <= TT_MOMENTS_LEAVE * b.policy.update_max);
    slots_close(&b);
}

static void what_no_codec_can_hold_stays_f32(void **state)
{
    (void)state;
    slot_bench b;
    slots_open(&b, slot_dims, 16);
    b.policy.codec = TT_CODEC_INT8;
    b.policy.update_max = 1e-4; /* below what bf16 loses */
    slots_step(&b, 0, 0, 1);
    tt_moments_result result = slots_step(&b, 1, 1, 0);
    assert_int_equal(count_codec(&b, 0, TT_CODEC_F32), tt_model_tensor_count(b.model));
    assert_true(result.update == 0 && result.reconstruction == 0);
    size_t kept = 0;
    for (size_t i = 0; i < tt_model_tensor_count(b.model); i++) {
        kept += b.memory.layouts[0].kept[i];
    }
    assert_int_equal(kept, count_large(&b));
    slots_close(&b);
}

/* ---- a NaN is named ---- */

static void plant_nan(slot_bench *b, int slot, const char *name)
{
    for (size_t i = 0; i < tt_slot_part_count(&b->memory, slot); i++) {
        tt_tensor_info info;
        tt_slot_part_info(&b->memory, slot, i, &info);
        if (strcmp(info.name, name) == 0) {
            const float nan_f32 = NAN;
            const uint16_t nan_bf16 = 0x7fc0;
            bool half = info.dtype == TT_U16;
            assert_ok(tt_slot_part_write(&b->memory, slot, i, (int64_t)(half ? 2 : 4) * 3,
                                         half ? (const void *)&nan_bf16 : &nan_f32, half ? 2 : 4));
            return;
        }
    }
    fail_msg("no part %s", name);
}

static void a_nan_in_codes_is_named(void **state)
{
    (void)state;
    static const struct {
        tt_codec codec;
        const char *name;
    } cases[] = {
        {TT_CODEC_INT8, "adam_m.int8.scale/h.1.mlp.c_fc.weight"},
        {TT_CODEC_INT8, "adam_v.sqrt_uint8.scale/wte.weight"},
        {TT_CODEC_INT8, "adam_m/h.0.ln_1.weight"},
        {TT_CODEC_BF16, "adam_m.bf16/h.0.attn.c_attn.weight"},
        {TT_CODEC_BF16, "adam_v.sqrt_bf16/h.1.mlp.c_proj.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[TT_TENSOR_NAME];
        slot_bench b;
        slots_open(&b, slot_dims, 16);
        b.policy.codec = cases[i].codec;
        for (int64_t step = 0; step < 12; step++) {
            slots_step(&b, step, (int)step % 2, 1 - (int)step % 2);
        }
        assert_ok(tt_slot_memory_locate(&b.memory, 0, 1, name));
        assert_string_equal(name, "");
        plant_nan(&b, 0, cases[i].name);
        assert_ok(tt_slot_memory_locate(&b.memory, 0, 1, name));
        assert_string_equal(name, cases[i].name);
        tt_moments_result result = slots_step(&b, 12, 0, 1);
        assert_true(result.verdict.nonfinite > 0);
        slots_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_is_plain_adamw),
        cmocka_unit_test(tensors_settle_and_learn),
        cmocka_unit_test(in_place_and_apart_are_the_same),
        cmocka_unit_test(a_copy_goes_on_like_the_original),
        cmocka_unit_test(what_is_encoded_stays_so_longer),
        cmocka_unit_test(a_hard_tensor_is_spared_until_it_is_not),
        cmocka_unit_test(what_no_codec_can_hold_stays_f32),
        cmocka_unit_test(a_nan_in_codes_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
