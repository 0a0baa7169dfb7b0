/* The format: names, places, known answers by hand, what is refused. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const ct_setting best = {"auto", 1, true, 0};

static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {"f32", "bf16", "int8", "uint8_up"};
    tt_codec codec = TT_CODEC_COUNT;
    for (int i = 0; i < TT_CODEC_COUNT; i++) {
        assert_string_equal(tt_codec_name((tt_codec)i), names[i]);
        assert_true(tt_codec_parse(names[i], &codec));
        assert_int_equal(codec, i);
    }
    assert_string_equal(tt_codec_name(TT_CODEC_COUNT), "?");
    assert_false(tt_codec_parse("int4", &codec));
    assert_false(tt_codec_parse("", &codec));
    assert_false(tt_codec_parse(NULL, &codec));
    assert_string_equal(tt_codec_op_name(TT_CODEC_ADAMW), "adamw_encoded");
    assert_string_equal(tt_codec_op_name(TT_CODEC_OP_COUNT), "?");
}

static void test_places(void **state)
{
    (void)state;
    assert_int_equal(tt_codec_bytes(TT_CODEC_F32, 64, 1), 64);
    assert_int_equal(tt_codec_bytes(TT_CODEC_F32, 0, 17), 128);
    assert_int_equal(tt_codec_bytes(TT_CODEC_BF16, 0, 33), 128);
    assert_int_equal(tt_codec_bytes(TT_CODEC_BF16, 0, 32), 64);
    assert_int_equal(tt_codec_bytes(TT_CODEC_INT8, 64, 64), 64 + 64);
    assert_int_equal(tt_codec_bytes(TT_CODEC_INT8, 64, 65), 128 + 64);
    assert_int_equal(tt_codec_bytes(TT_CODEC_UINT8_UP, 32, 32 * 17), 576 + 128);
    assert_int_equal(tt_codec_bytes(TT_CODEC_INT8, 64, 0), 0);
    assert_int_equal(tt_codec_scales_offset(TT_CODEC_INT8, 65), 128);
    assert_int_equal(tt_codec_scales_offset(TT_CODEC_INT8, 0), 0);
    /* Beyond 2^31 elements. */
    assert_int_equal(tt_codec_bytes(TT_CODEC_INT8, 64, (int64_t)3 << 30),
                     ((size_t)3 << 30) + ((size_t)3 << 26));
}

/* A block of 32 with `count` given values and zeros after them. */
static ct_bytes encode_few(tt_codec codec, const float *values, int count, tt_codec_loss *loss)
{
    float x[40] = {0};
    memcpy(x, values, (size_t)count * sizeof *x);
    return ct_encode(&best, codec, 32, x, 40, loss);
}

static void test_int8_by_hand(void **state)
{
    (void)state;
    /* absmax 254: scale 2. Ties to even: 1 -> 0.5 -> 0, 3 -> 1.5 -> 2, 5 -> 2.5 -> 2. */
    const float x[] = {254, -254, 1, 3, 5, -5, 2, -7, 0.9F, -0.0F};
    const int8_t codes[] = {127, -127, 0, 2, 2, -2, 1, -4, 0, 0};
    tt_codec_loss loss = {0};
    ct_bytes e = encode_few(TT_CODEC_INT8, x, 10, &loss);
    assert_memory_equal(e.data, codes, sizeof codes);
    assert_true(ct_scale(&e, 0) == 2);
    assert_true(ct_scale(&e, 1) == 0); /* the short last block: all zeros */
    for (size_t i = 10; i < 64; i++)
        assert_int_equal(e.data[i], 0); /* zeros, and the padding */
    for (size_t i = 64 + 8; i < e.size; i++)
        assert_int_equal(e.data[i], 0);
    double norm = 2 * 254.0 * 254 + 1 + 9 + 25 + 25 + 4 + 49 + (double)0.9F * (double)0.9F;
    assert_true(loss.error_squares == 5 + (double)0.9F * (double)0.9F); /* 1 1 1 1 and 1 of 7 */
    assert_true(fabs(loss.norm_squares - norm) < 1e-9);
    assert_int_equal(loss.nonfinite, 0);
    float *back = ct_decode(&best, &e);
    assert_true(back[0] == 254 && back[3] == 4 && back[7] == -8 && back[9] == 0);
    assert_false(signbit(back[9]));
    free(back);
    free(e.data);
}

static void test_uint8_up_by_hand(void **state)
{
    (void)state;
    /* max 510: scale 2, always up. */
    const float x[] = {510, 509, 508, 1, 2, 2.0000002F, 1e-30F, -0.0F, FLT_TRUE_MIN};
    const uint8_t codes[] = {255, 255, 254, 1, 1, 2, 1, 0, 1};
    tt_codec_loss loss = {0};
    ct_bytes e = encode_few(TT_CODEC_UINT8_UP, x, 9, &loss);
    assert_memory_equal(e.data, codes, sizeof codes);
    assert_true(ct_scale(&e, 0) == 2);
    double last = (double)(2.0000002F - 4);
    assert_true(fabs(loss.error_squares - (1 + 1 + last * last + 4 + 4)) < 1e-9);
    free(e.data);
}

static void test_bf16_by_hand(void **state)
{
    (void)state;
    const struct {
        uint32_t bits;
        uint16_t code;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
        {0xbf808001, 0xbf81}, {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x00008000, 0x0000},
        {0x00008001, 0x0001}, {0x7f7f8000, 0x7f7f}, {0x7f7fffff, 0x7f7f}, {0xff7fffff, 0xff7f},
        {0x7f7f7fff, 0x7f7f}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0},
        {0x7fc12345, 0x7fc1}, {0xffffffff, 0xffff}, {0x7f7e8000, 0x7f7e}, {0x7f7e8001, 0x7f7f}};
    enum { COUNT = sizeof cases / sizeof *cases };
    float x[COUNT];
    for (int i = 0; i < COUNT; i++)
        memcpy(&x[i], &cases[i].bits, 4);
    tt_codec_loss loss = {0};
    ct_bytes e = ct_encode(&best, TT_CODEC_BF16, 0, x, COUNT, &loss);
    for (int i = 0; i < COUNT; i++) {
        uint16_t code;
        memcpy(&code, e.data + 2 * i, 2);
        assert_int_equal(code, cases[i].code);
    }
    assert_int_equal(loss.nonfinite, 5);
    assert_true(isinf(tt_codec_loss_ratio(&loss)));
    free(e.data);
}

static void test_ratio(void **state)
{
    (void)state;
    const struct {
        tt_codec_loss loss;
        double ratio;
    } cases[] = {{{0, 0, 0}, 0},
                 {{0, 4, 0}, 0},
                 {{1, 4, 0}, 0.5},
                 {{1, 0, 0}, INFINITY},
                 {{0, 0, 1}, INFINITY},
                 {{0, 4, 2}, INFINITY},
                 {{NAN, 4, 0}, INFINITY},
                 {{1, NAN, 0}, INFINITY},
                 {{INFINITY, 1, 0}, INFINITY},
                 {{1, INFINITY, 0}, INFINITY}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(tt_codec_loss_ratio(&cases[i].loss) == cases[i].ratio);
}

/* Losses of several tensors add up; a NULL loss is possible. */
static void test_loss_is_added_to(void **state)
{
    (void)state;
    float *x = ct_values(1000, 5, false);
    tt_codec_loss once = {0}, twice = {1, 2, 3};
    free(ct_encode(&best, TT_CODEC_INT8, 64, x, 1000, &once).data);
    free(ct_encode(&best, TT_CODEC_INT8, 64, x, 1000, &twice).data);
    free(ct_encode(&best, TT_CODEC_INT8, 64, x, 1000, NULL).data);
    assert_true(twice.error_squares == 1 + once.error_squares);
    assert_true(twice.norm_squares == 2 + once.norm_squares);
    assert_int_equal(twice.nonfinite, 3);
    free(x);
}

static void test_refusals(void **state)
{
    (void)state;
    ct_bench b = ct_open(&best, 4096);
    char *memory = ct_tensor(&b, NULL, 8192, 0);
    float *x = (float *)(void *)(memory + 4096);
    const int64_t blocks[] = {0, -64, 16, 48, 65, 8192};
    tt_encoded e = {TT_CODEC_INT8, 64, 100, memory};
    assert_int_equal(tt_encode(b.compressor, x, &e, NULL), TT_OK);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        e.block = blocks[i];
        assert_int_equal(tt_encode(b.compressor, x, &e, NULL), TT_EINVAL);
        assert_int_equal(tt_decode(b.compressor, &e, x), TT_EINVAL);
        e.codec = TT_CODEC_BF16; /* has no blocks */
        assert_int_equal(tt_encode(b.compressor, x, &e, NULL), TT_OK);
        e.codec = TT_CODEC_INT8;
    }
    e.block = 64;
    assert_int_equal(tt_encode(b.compressor, memory + 128, &e, NULL), TT_EINVAL);
    assert_non_null(strstr(tt_error_message(), "overlaps"));
    assert_int_equal(tt_decode(b.compressor, &e, memory + 64), TT_EINVAL);
    assert_int_equal(tt_encode(b.compressor, NULL, &e, NULL), TT_EINVAL);
    assert_int_equal(tt_encode(NULL, x, &e, NULL), TT_EINVAL);
    assert_int_equal(tt_encode(b.compressor, x, NULL, NULL), TT_EINVAL);
    const tt_encoded wrong[] = {{TT_CODEC_COUNT, 64, 100, memory},
                                {TT_CODEC_INT8, 64, -1, memory},
                                {TT_CODEC_INT8, 64, INT64_MAX, memory},
                                {TT_CODEC_INT8, 64, 100, NULL},
                                {TT_CODEC_INT8, 64, 100, memory + 2}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(tt_encode(b.compressor, x, &wrong[i], NULL), TT_EINVAL);
    e = (tt_encoded){TT_CODEC_INT8, 64, 0, NULL};
    assert_int_equal(tt_encode(b.compressor, NULL, &e, NULL), TT_OK);
    assert_int_equal(tt_decode(b.compressor, &e, NULL), TT_OK);
    ct_close(&b);
    tt_compressor_destroy(NULL);
}

static void test_adamw_refusals(void **state)
{
    (void)state;
    ct_bench b = ct_open(&best, 16384);
    char *t[6];
    tt_verdict verdict = {0};
    for (int i = 0; i < 6; i++)
        t[i] = ct_tensor(&b, NULL, 4096, 0);
    const tt_encoded m = {TT_CODEC_INT8, 64, 1000, t[2]}, v = {TT_CODEC_UINT8_UP, 64, 1000, t[3]};
    const tt_adamw_encoded_args good = {.n = 1000,
                                        .p = t[0],
                                        .g = t[1],
                                        .m = m,
                                        .v = v,
                                        .p_next = t[0],
                                        .m_next = m,
                                        .v_next = v,
                                        .scalars = &ct_scalars,
                                        .verdict = &verdict};
    assert_int_equal(tt_adamw_encoded(b.compressor, &good), TT_OK);
    tt_adamw_encoded_args a = good;
    a.m_next.block = 128; /* in place, in another layout */
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    a = good;
    a.v_next.codec = TT_CODEC_INT8;
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    a = good;
    a.v_next.data = t[3] + 64;
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    a = good;
    a.m_next = (tt_encoded){TT_CODEC_UINT8_UP, 64, 1000, t[4]}; /* has no signs */
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    a = good;
    a.m.n = 999;
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    a = good;
    a.g = NULL;
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    a = good;
    a.scalars = NULL;
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    a = good;
    a.verdict = NULL;
    assert_int_equal(tt_adamw_encoded(b.compressor, &a), TT_EINVAL);
    assert_int_equal(tt_adamw_encoded(b.compressor, NULL), TT_EINVAL);
    ct_close(&b);
}

static void test_variants(void **state)
{
    (void)state;
    ct_bench b = ct_open(&best, 64);
    const char *last = tt_compressor_variant(b.compressor, TT_CODEC_ADAMW)->name;
    assert_string_not_equal(last, "reference");
    assert_int_equal(tt_compressor_set_variants(b.compressor, "blocked_v9"), TT_ENOTFOUND);
    assert_non_null(strstr(tt_error_message(), "auto, reference, blocked_v1"));
    assert_string_equal(tt_compressor_variant(b.compressor, TT_CODEC_ADAMW)->name, last);
    assert_int_equal(tt_compressor_set_variants(b.compressor, "reference"), TT_OK);
    for (int op = 0; op < TT_CODEC_OP_COUNT; op++)
        assert_string_equal(tt_compressor_variant(b.compressor, (tt_codec_op)op)->name,
                            "reference");
    assert_int_equal(tt_compressor_set_variants(b.compressor, "auto"), TT_OK);
    assert_string_equal(tt_compressor_variant(b.compressor, TT_CODEC_ENCODE)->name, last);
    assert_int_equal(tt_compressor_set_variants(b.compressor, NULL), TT_EINVAL);
    assert_null(tt_codec_variant_at(tt_codec_variant_count()));
    for (size_t i = 0; i < tt_codec_variant_count(); i++)
        if (!tt_isa_available(tt_codec_variant_at(i)->isa))
            assert_int_equal(tt_compressor_set_variants(b.compressor, tt_codec_variant_at(i)->name),
                             TT_EUNSUPPORTED);
    ct_close(&b);
}

static void test_f64_contexts_have_no_compressor(void **state)
{
    (void)state;
    tt_context_options options;
    tt_context *context;
    tt_compressor *compressor = NULL;
    tt_context_options_init(&options);
    options.dtype = TT_F64;
    options.threads = 1;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    assert_int_equal(tt_compressor_create(context, &compressor), TT_EINVAL);
    assert_int_equal(tt_compressor_create(NULL, &compressor), TT_EINVAL);
    tt_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_int8_by_hand),
        cmocka_unit_test(test_uint8_up_by_hand),
        cmocka_unit_test(test_bf16_by_hand),
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_loss_is_added_to),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_adamw_refusals),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_f64_contexts_have_no_compressor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
