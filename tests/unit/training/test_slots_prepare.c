/* A slot laid out for a checkpoint's tensors, and checkpoints that are refused. */
#include "slots_support.h"

enum { MAX_PARTS = 256 };

typedef struct listing {
    tt_tensor_info infos[MAX_PARTS];
    size_t count;
} listing;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tt_tensor_info *)a)->name, ((const tt_tensor_info *)b)->name);
}

static void list(const slot_bench *b, int slot, listing *out)
{
    out->count = tt_slot_part_count(&b->memory, slot);
    assert_true(out->count < MAX_PARTS);
    for (size_t i = 0; i < out->count; i++) {
        tt_slot_part_info(&b->memory, slot, i, &out->infos[i]);
    }
    qsort(out->infos, out->count, sizeof *out->infos, by_name);
}

/* 12 steps; the state is in slot 0. */
static void open_dims(slot_bench *b, bool bf16_weights, tt_codec codec, int64_t block)
{
    tt_model_dims dims = slot_dims;
    dims.bf16_weights = bf16_weights;
    slots_open(b, dims, 16);
    b->policy.codec = codec;
    b->policy.block = block;
    for (int64_t step = 0; step < 12; step++) {
        slots_step(b, step, (int)step % 2, 1 - (int)step % 2);
    }
}

static void open_with(slot_bench *b, tt_codec codec, int64_t block)
{
    open_dims(b, false, codec, block);
}

static size_t find(const listing *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->infos[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no tensor %s", name);
    return 0;
}

static void names_say_what_it_is(void **state)
{
    (void)state;
    slot_bench b;
    listing l;
    open_with(&b, TT_CODEC_INT8, 128);
    list(&b, 0, &l);
    const tt_tensor_info *m = &l.infos[find(&l, "adam_m.int8/h.0.attn.c_attn.weight")];
    assert_int_equal(m->dtype, TT_I8);
    assert_int_equal(m->rank, 2);
    assert_true(m->dims[0] == 192 && m->dims[1] == 64);
    assert_int_equal(l.infos[find(&l, "adam_v.sqrt_uint8/h.0.attn.c_attn.weight")].dtype, TT_U8);
    const tt_tensor_info *scale = &l.infos[find(&l, "adam_v.sqrt_uint8.scale/wte.weight")];
    assert_true(scale->dtype == TT_F32 && scale->rank == 1 && scale->dims[0] == 80 * 64 / 128);
    find(&l, "adam_m.int8.scale/wte.weight");
    find(&l, "adam_m/wpe.weight"); /* too small to be encoded */
    find(&l, "adam_v/h.1.ln_2.bias");
    assert_int_equal(l.infos[find(&l, "moments/kept")].dims[0],
                     (int64_t)tt_model_tensor_count(b.model));
    slots_close(&b);
    open_with(&b, TT_CODEC_BF16, 64);
    list(&b, 0, &l);
    assert_int_equal(l.infos[find(&l, "adam_m.bf16/wte.weight")].dtype, TT_U16);
    assert_int_equal(l.infos[find(&l, "adam_v.sqrt_bf16/wte.weight")].dtype, TT_U16);
    slots_close(&b);
    open_with(&b, TT_CODEC_F32, 64);
    list(&b, 0, &l);
    assert_int_equal(l.count, 3 * tt_model_tensor_count(b.model));
    slots_close(&b);
    open_dims(&b, true, TT_CODEC_F32, 64);
    list(&b, 0, &l);
    assert_int_equal(l.infos[find(&l, "params.bf16/wte.weight")].dtype, TT_U16);
    assert_int_equal(l.infos[find(&l, "params/h.1.ln_1.weight")].dtype, TT_F32);
    assert_int_equal(l.infos[find(&l, "params/h.1.attn.c_attn.bias")].dtype, TT_F32);
    assert_int_equal(l.count, 3 * tt_model_tensor_count(b.model));
    slots_close(&b);
}

/* What a checkpoint does: names, types and bytes through ordinary memory. */
static void carry_over(const slot_bench *from, int slot, slot_bench *to, int target)
{
    listing l;
    list(from, slot, &l);
    assert_ok(tt_slot_prepare(&to->memory, target, l.infos, l.count));
    assert_int_equal(tt_slot_part_count(&to->memory, target), l.count);
    for (size_t i = 0; i < l.count; i++) {
        tt_tensor_info info;
        unsigned char *bytes = part_bytes(from, slot, i, &info);
        assert_ok(tt_slot_part_write(&to->memory, target, i, 0, bytes, info_bytes(&info)));
        free(bytes);
    }
    assert_same_slots(from, slot, to, target);
}

static void a_laid_out_slot_goes_on(void **state)
{
    (void)state;
    static const struct {
        tt_codec codec;
        int64_t block;
        bool bf16_weights;
    } cases[] = {
        {TT_CODEC_F32, 64, false},    {TT_CODEC_BF16, 64, false},  {TT_CODEC_INT8, 32, false},
        {TT_CODEC_INT8, 64, false},   {TT_CODEC_INT8, 512, false}, {TT_CODEC_INT8, 2048, false},
        {TT_CODEC_INT8, 4096, false}, {TT_CODEC_F32, 64, true},    {TT_CODEC_INT8, 64, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        slot_bench a;
        slot_bench b;
        open_dims(&a, cases[i].bf16_weights, cases[i].codec, cases[i].block);
        open_dims(&b, cases[i].bf16_weights, TT_CODEC_INT8, 64); /* whatever lay there before */
        b.policy = a.policy;
        carry_over(&a, 0, &b, 1);
        for (int64_t step = 12; step < 70; step++) {
            slots_step(&a, step, (int)step % 2, 1 - (int)step % 2);
            slots_step(&b, step, 1 - (int)step % 2, (int)step % 2);
        }
        assert_same_slots(&a, 0, &b, 1);
        slots_close(&a);
        slots_close(&b);
    }
}

/* ---- refused ---- */

static void refused(slot_bench *b, const listing *l, const char *words, const char *name)
{
    assert_fails(tt_slot_prepare(&b->memory, 1, l->infos, l->count), TT_ECONFIG, words);
    assert_non_null(strstr(tt_error_message(), name));
}

static void check_missing(bool bf16_weights)
{
    slot_bench b;
    listing whole;
    open_dims(&b, bf16_weights, TT_CODEC_INT8, 64);
    list(&b, 0, &whole);
    for (size_t i = 0; i < whole.count; i++) {
        listing l = whole;
        l.count--;
        memmove(&l.infos[i], &l.infos[i + 1], (l.count - i) * sizeof *l.infos);
        const char *name = whole.infos[i].name;
        if (strcmp(name, "moments/kept") == 0) {
            /* A checkpoint of a run that did not decide: nothing is missing. */
            assert_ok(tt_slot_prepare(&b.memory, 1, l.infos, l.count));
            continue;
        }
        /* Without its codes a tensor may be there in another form: f32 is what is missed. */
        const char *codes = strncmp(name, "adam_m.int8/", 12) == 0 ? strchr(name, '/') : NULL;
        refused(&b, &l, "holds no tensor", codes ? codes : name);
    }
    slots_close(&b);
}

static void every_missing_tensor_is_named(void **state)
{
    (void)state;
    check_missing(false);
    check_missing(true);
}

static void check_wrong(bool bf16_weights)
{
    slot_bench b;
    listing whole;
    open_dims(&b, bf16_weights, TT_CODEC_INT8, 64);
    list(&b, 0, &whole);
    for (size_t i = 0; i < whole.count; i++) {
        listing l = whole;
        l.infos[i].dims[0]++;
        refused(&b, &l, "another type or shape", l.infos[i].name);
        l = whole;
        l.infos[i].dtype = l.infos[i].dtype == TT_F64 ? TT_F32 : TT_F64;
        refused(&b, &l, "another type or shape", l.infos[i].name);
        l = whole;
        l.infos[i].rank++;
        l.infos[i].dims[l.infos[i].rank - 1] = 1;
        refused(&b, &l, "another type or shape", l.infos[i].name);
    }
    slots_close(&b);
}

static void every_wrong_tensor_is_named(void **state)
{
    (void)state;
    check_wrong(false);
    check_wrong(true);
}

/* Weights of one form do not become those of the other. */
static void weights_of_the_other_form_are_refused(void **state)
{
    (void)state;
    static const char *const wanted[] = {"params/wte.weight", "params.bf16/wte.weight"};
    for (int i = 0; i < 2; i++) {
        slot_bench from;
        slot_bench to;
        listing l;
        open_dims(&from, i == 0, TT_CODEC_F32, 64);
        open_dims(&to, i == 1, TT_CODEC_F32, 64);
        list(&from, 0, &l);
        refused(&to, &l, "holds no tensor", wanted[i]);
        slots_close(&from);
        slots_close(&to);
    }
}

static void strangers_and_mixtures(void **state)
{
    (void)state;
    slot_bench b;
    listing l;
    open_with(&b, TT_CODEC_INT8, 64);
    list(&b, 0, &l);
    /* One more than the model has. */
    l.infos[l.count] = l.infos[0];
    snprintf(l.infos[l.count].name, TT_TENSOR_NAME, "params/zzz");
    l.count++;
    refused(&b, &l, "holds a tensor", "params/zzz");
    /* Two blocks. */
    list(&b, 0, &l);
    l.infos[find(&l, "adam_m.int8.scale/wte.weight")].dims[0] *= 2;
    assert_int_equal(tt_slot_prepare(&b.memory, 1, l.infos, l.count), TT_ECONFIG);
    /* v in another codec than m. */
    list(&b, 0, &l);
    snprintf(l.infos[find(&l, "adam_v.sqrt_uint8/wte.weight")].name, TT_TENSOR_NAME,
             "adam_v.sqrt_bf16/wte.weight");
    qsort(l.infos, l.count, sizeof *l.infos, by_name);
    refused(&b, &l, "holds no tensor", "adam_v.sqrt_uint8/wte.weight");
    /* A tensor that is never encoded. */
    list(&b, 0, &l);
    snprintf(l.infos[find(&l, "adam_m/h.0.ln_1.bias")].name, TT_TENSOR_NAME,
             "adam_m.bf16/h.0.ln_1.bias");
    qsort(l.infos, l.count, sizeof *l.infos, by_name);
    refused(&b, &l, "another type or shape", "adam_m.bf16/h.0.ln_1.bias");
    assert_int_equal(tt_slot_prepare(&b.memory, 1, l.infos, 0), TT_ECONFIG);
    slots_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_say_what_it_is),
        cmocka_unit_test(a_laid_out_slot_goes_on),
        cmocka_unit_test(every_missing_tensor_is_named),
        cmocka_unit_test(every_wrong_tensor_is_named),
        cmocka_unit_test(weights_of_the_other_form_are_refused),
        cmocka_unit_test(strangers_and_mixtures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
