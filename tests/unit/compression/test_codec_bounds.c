/* What the format promises of every element, checked on the reference (which the other variants
 * equal): error bounds, what may not vanish, blocks that cannot be encoded. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const ct_setting setting = {"reference", 1, false, 0};

typedef void (*element_check)(double x, double decoded, double scale);

static void check_elements(tt_codec codec, const float *x, int64_t n, int64_t block,
                           element_check check)
{
    ct_bytes e = ct_encode(&setting, codec, block, x, n, NULL);
    float *back = ct_decode(&setting, &e);
    for (int64_t i = 0; i < n; i++) {
        assert_true(isfinite(back[i]));
        check((double)x[i], (double)back[i],
              codec >= TT_CODEC_INT8 ? (double)ct_scale(&e, i / block) : 0);
    }
    free(back);
    free(e.data);
}

/* All magnitudes, FLT_MAX too. */
static void check_everywhere(tt_codec codec, element_check check)
{
    const bool up = codec == TT_CODEC_UINT8_UP;
    for (uint64_t seed = 0; seed < 12; seed++) {
        float *x = ct_values(5000, seed, up);
        for (int64_t i = 0; i < 5000; i++) {
            double place = tt_random_uniform(seed, 8, (uint64_t)(i / 64));
            double scaled = (double)x[i] * pow(2, 280 * place - 140);
            x[i] = fabs(scaled) < (double)FLT_MAX ? (float)scaled : up ? FLT_MAX : -FLT_MAX;
        }
        check_elements(codec, x, 5000, 64, check);
        free(x);
    }
    for (int ulps = 0; ulps < 40; ulps++) { /* next to the greatest float */
        float few[4] = {FLT_MAX, 1, 3e38F, 1e30F};
        for (int i = 0; i < ulps; i++)
            few[0] = nextafterf(few[0], 0);
        check_elements(codec, few, 4, 32, check);
    }
}

static void int8_within_half_a_scale(double x, double decoded, double scale)
{
    assert_true(fabs(x - decoded) <= scale / 2 * (1 + 0x1p-14));
}

static void uint8_up_within_a_scale(double x, double decoded, double scale)
{
    assert_true(decoded - x < scale * (1 + 0x1p-14) || decoded == x);
    assert_true(decoded >= x * (1 - (x > 3.4e38 ? 0x1p-23 : 0)));
    assert_true((x > 0) == (decoded > 0));
}

static void bf16_within_half_an_ulp(double x, double decoded, double scale)
{
    (void)scale;
    assert_true(fabs(x - decoded) <= fmax(0x1p-8 * fabs(x), 0x1p-134));
    assert_true(x * decoded >= 0);
}

static void test_bounds(void **state)
{
    (void)state;
    check_everywhere(TT_CODEC_INT8, int8_within_half_a_scale);
    check_everywhere(TT_CODEC_UINT8_UP, uint8_up_within_a_scale);
    check_everywhere(TT_CODEC_BF16, bf16_within_half_an_ulp);
}

/* The loss is that of what tt_decode gives, computed apart in double. */
static void test_loss_is_what_is_lost(void **state)
{
    (void)state;
    for (int codec = 0; codec < TT_CODEC_COUNT; codec++) {
        const int64_t n = 70001;
        double error = 0, norm = 0;
        tt_codec_loss loss = {0};
        float *x = ct_values(n, 31, codec == TT_CODEC_UINT8_UP);
        ct_bytes e = ct_encode(&setting, (tt_codec)codec, 128, x, n, &loss);
        float *back = ct_decode(&setting, &e);
        for (int64_t i = 0; i < n; i++) {
            double d = (double)x[i] - (double)back[i];
            error += d * d;
            norm += (double)x[i] * (double)x[i];
        }
        assert_true(fabs(loss.error_squares - error) <= 1e-6 * error);
        assert_true(fabs(loss.norm_squares - norm) <= 1e-10 * norm);
        assert_true(codec == TT_CODEC_F32 ? error == 0 : error > 0);
        assert_true(fabs(tt_codec_loss_ratio(&loss) - sqrt(error / norm)) <= 1e-6);
        free(back);
        free(x);
        free(e.data);
    }
}

/* Gaussian tensors in blocks of 64: absmax is about 2.4 deviations, the step absmax / 127, its
 * error uniform: 2.4 / 127 / sqrt(12) = 0.0055. */
static void test_gaussian(void **state)
{
    (void)state;
    enum { N = 100000 };
    float *x = malloc(N * sizeof *x);
    tt_codec_loss loss = {0};
    assert_non_null(x);
    tt_random_normal_f32(1, 2, x, N);
    free(ct_encode(&setting, TT_CODEC_INT8, 64, x, N, &loss).data);
    assert_true(fabs(tt_codec_loss_ratio(&loss) - 0.0058) < 0.0005);
    free(x);
}

static void test_zeros(void **state)
{
    (void)state;
    float x[100] = {0};
    x[3] = -0.0F;
    for (int codec = TT_CODEC_INT8; codec <= TT_CODEC_UINT8_UP; codec++) {
        tt_codec_loss loss = {0};
        ct_bytes e = ct_encode(&setting, (tt_codec)codec, 32, x, 100, &loss);
        for (size_t i = 0; i < e.size; i++)
            assert_int_equal(e.data[i], 0);
        assert_true(tt_codec_loss_ratio(&loss) == 0);
        float *back = ct_decode(&setting, &e);
        for (int i = 0; i < 100; i++)
            assert_true(back[i] == 0 && !signbit(back[i]));
        free(back);
        free(e.data);
    }
}

static void check_spoiled(tt_codec codec, float value)
{
    float x[96];
    tt_codec_loss loss = {0};
    for (int i = 0; i < 96; i++)
        x[i] = (float)i;
    x[40] = value;
    ct_bytes e = ct_encode(&setting, codec, 32, x, 96, &loss);
    float *back = ct_decode(&setting, &e);
    assert_int_equal(loss.nonfinite, 1);
    assert_true(isinf(tt_codec_loss_ratio(&loss)));
    for (int i = 0; i < 96; i++) /* its block, and no other */
        assert_int_equal(isnan(back[i]) != 0, i / 32 == 1);
    free(back);
    free(e.data);
}

static void test_spoiled_blocks(void **state)
{
    (void)state;
    for (int codec = TT_CODEC_INT8; codec <= TT_CODEC_UINT8_UP; codec++) {
        check_spoiled((tt_codec)codec, NAN);
        check_spoiled((tt_codec)codec, INFINITY);
        check_spoiled((tt_codec)codec, -INFINITY);
    }
    check_spoiled(TT_CODEC_UINT8_UP, -1e-30F);
}

/* All bytes decode to something. */
static void test_any_bytes_decode(void **state)
{
    (void)state;
    for (int codec = 0; codec < TT_CODEC_COUNT; codec++) {
        ct_bytes e = {(tt_codec)codec, 32, 1000, tt_codec_bytes((tt_codec)codec, 32, 1000), NULL};
        e.data = malloc(e.size);
        assert_non_null(e.data);
        for (size_t i = 0; i < e.size; i++)
            e.data[i] = (uint8_t)(tt_random_uniform(4, 4, i) * 256);
        free(ct_decode(&setting, &e));
        free(ct_decode(&(ct_setting){"auto", 2, true, 0}, &e));
        free(e.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),         cmocka_unit_test(test_loss_is_what_is_lost),
        cmocka_unit_test(test_gaussian),       cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_spoiled_blocks), cmocka_unit_test(test_any_bytes_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
