/* Every variant that the machine has against the reference: the same codes, scales and padding, bit
 * by bit; the same decoded floats; the same losses within 1e-12; for every thread count. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ct_setting reference = {"reference", 1, false, 0};

static const int64_t sizes[] = {0,  1,  2,   3,   7,   15,  16,  17,   31,   32,   33,    63,
                                64, 65, 127, 128, 509, 512, 513, 4095, 4096, 4097, 12289, 20011};
enum { SIZES = sizeof sizes / sizeof *sizes };

static bool close(double a, double b)
{
    return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-12 * fabs(b);
}

static void expect_loss(const tt_codec_loss *got, const tt_codec_loss *want, const char *what)
{
    if (!close(got->error_squares, want->error_squares) ||
        !close(got->norm_squares, want->norm_squares) || got->nonfinite != want->nonfinite)
        fail_msg("%s: loss %.17g %.17g %llu instead of %.17g %.17g %llu", what, got->error_squares,
                 got->norm_squares, (unsigned long long)got->nonfinite, want->error_squares,
                 want->norm_squares, (unsigned long long)want->nonfinite);
}

static void expect_encoded(const ct_setting *setting, tt_codec codec, int64_t block, const float *x,
                           int64_t n)
{
    char what[128];
    tt_codec_loss want_loss = {0}, loss = {0};
    snprintf(what, sizeof what, "%s %s block %lld n %lld threads %d", setting->variant,
             tt_codec_name(codec), (long long)block, (long long)n, setting->threads);
    ct_bytes want = ct_encode(&reference, codec, block, x, n, &want_loss);
    ct_bytes got = ct_encode(setting, codec, block, x, n, &loss);
    ct_bytes unmeasured = ct_encode(setting, codec, block, x, n, NULL);
    for (size_t i = 0; i < want.size; i++)
        if (got.data[i] != want.data[i] || unmeasured.data[i] != want.data[i])
            fail_msg("%s: byte %zu is %d or %d instead of %d", what, i, got.data[i],
                     unmeasured.data[i], want.data[i]);
    free(unmeasured.data);
    expect_loss(&loss, &want_loss, what);
    float *back = ct_decode(setting, &want), *want_back = ct_decode(&reference, &want);
    for (int64_t i = 0; i < n; i++)
        if (memcmp(back + i, want_back + i, 4) != 0 && !(isnan(back[i]) && isnan(want_back[i])))
            fail_msg("%s: element %lld decodes to %g instead of %g", what, (long long)i,
                     (double)back[i], (double)want_back[i]);
    free(back);
    free(want_back);
    free(got.data);
    free(want.data);
}

static void check_sizes(const char *variant)
{
    for (int i = 0; i < SIZES; i++) {
        const ct_setting setting = {variant, 1 + i % 3, i % 2 == 0, i % 5};
        for (int codec = 0; codec < TT_CODEC_COUNT; codec++) {
            float *x = ct_values(sizes[i], (uint64_t)i, codec == TT_CODEC_UINT8_UP);
            int64_t block = TT_CODEC_BLOCK_MIN << i % 8;
            expect_encoded(&setting, (tt_codec)codec, block, x, sizes[i]);
            expect_encoded(&setting, (tt_codec)codec, 64, x, sizes[i]);
            free(x);
        }
    }
}

static void test_sizes(void **state)
{
    (void)state;
    ct_for_variants(check_sizes);
}

static void check_blocks(const char *variant)
{
    const int64_t n = 3 * 4096 + 77;
    for (int64_t block = TT_CODEC_BLOCK_MIN; block <= TT_CODEC_BLOCK_MAX; block *= 2)
        for (int codec = 0; codec < TT_CODEC_COUNT; codec++) {
            const ct_setting setting = {variant, 2, false, 0};
            float *x = ct_values(n, 7, codec == TT_CODEC_UINT8_UP);
            expect_encoded(&setting, (tt_codec)codec, block, x, n);
            free(x);
        }
}

static void test_blocks(void **state)
{
    (void)state;
    ct_for_variants(check_blocks);
}

/* One special value in otherwise ordinary blocks, at a place that moves through the vectors. */
static void check_specials(const char *variant)
{
    static const float specials[] = {NAN,
                                     -NAN,
                                     INFINITY,
                                     -INFINITY,
                                     FLT_MAX,
                                     -FLT_MAX,
                                     FLT_TRUE_MIN,
                                     -FLT_TRUE_MIN,
                                     FLT_MIN,
                                     -0.0F,
                                     3e38F,
                                     0x1.fffffep126F,
                                     0x1.fffffcp127F,
                                     0x1.fep127F,
                                     -1};
    const ct_setting setting = {variant, 1, false, 1};
    for (size_t s = 0; s < sizeof specials / sizeof *specials; s++)
        for (int codec = 0; codec < TT_CODEC_COUNT; codec++) {
            float *x = ct_values(200, 11 + s, codec == TT_CODEC_UINT8_UP);
            x[(s * 37) % 200] = specials[s];
            x[199] = specials[s];
            expect_encoded(&setting, (tt_codec)codec, 32, x, 200);
            free(x);
        }
}

static void test_specials(void **state)
{
    (void)state;
    ct_for_variants(check_specials);
}

/* Blocks whose greatest element is tiny, so that 1 / scale or the scale could leave the range. */
static void check_magnitudes(const char *variant)
{
    const ct_setting setting = {variant, 1, false, 0};
    for (int exponent = -149; exponent <= 127; exponent++) {
        float *x = ct_values(70, (uint64_t)(exponent + 200), false), *up = malloc(70 * sizeof *up);
        float most = 0;
        assert_non_null(up);
        for (int i = 0; i < 70; i++)
            most = fmaxf(most, fabsf(x[i]));
        for (int i = 0; i < 70; i++) {
            x[i] = ldexpf(x[i] / most * 0.99999994F, exponent + 1);
            up[i] = fabsf(x[i]);
        }
        expect_encoded(&setting, TT_CODEC_INT8, 32, x, 70);
        expect_encoded(&setting, TT_CODEC_UINT8_UP, 32, up, 70);
        expect_encoded(&setting, TT_CODEC_BF16, 32, x, 70);
        free(x);
        free(up);
    }
}

static void test_magnitudes(void **state)
{
    (void)state;
    ct_for_variants(check_magnitudes);
}

/* Elements whose scaled value lies on or next to a tie or an integer: where contraction or another
 * order of roundings would show. */
static void check_near_ties(const char *variant)
{
    const ct_setting setting = {variant, 1, false, 0};
    float x[512];
    for (int round = 0; round < 40; round++) {
        float most = 1 + (float)tt_random_uniform(3, 9, (uint64_t)round);
        for (int codec = TT_CODEC_INT8; codec <= TT_CODEC_UINT8_UP; codec++) {
            float top = codec == TT_CODEC_INT8 ? 127 : 255;
            for (int i = 0; i < 512; i++) {
                float q = (float)(i / 2 % 255) / 2 + (codec == TT_CODEC_INT8 ? 0.0F : 0.5F);
                uint32_t bits;
                x[i] = most / top * q;
                memcpy(&bits, &x[i], 4);
                bits += (uint32_t)(i % 5) - 2;
                memcpy(&x[i], &bits, 4);
                if (!(x[i] >= 0 && x[i] <= most))
                    x[i] = most;
            }
            expect_encoded(&setting, (tt_codec)codec, 512, x, 512);
        }
    }
}

static void test_near_ties(void **state)
{
    (void)state;
    ct_for_variants(check_near_ties);
}

/* Whole sum blocks for several threads, and more than one round of them; streaming stores. */
static void check_threads(const char *variant)
{
    if (strcmp(variant, "reference") == 0)
        return;
    const int64_t n = (int64_t)1025 * 4096 + 333;
    float *x = ct_values(n, 21, true);
    for (int codec = 0; codec < TT_CODEC_COUNT; codec++) {
        tt_codec_loss first = {0}, loss = {0};
        ct_setting setting = {variant, 1, false, 0};
        ct_bytes want = ct_encode(&setting, (tt_codec)codec, 256, x, n, &first);
        float *want_back = ct_decode(&setting, &want);
        ct_bytes plain = ct_encode(&reference, (tt_codec)codec, 256, x, n, &loss);
        float *plain_back = ct_decode(&reference, &want);
        assert_memory_equal(plain.data, want.data, want.size);
        assert_memory_equal(plain_back, want_back, (size_t)n * 4);
        expect_loss(&first, &loss, variant);
        free(plain.data);
        free(plain_back);
        for (setting.threads = 2; setting.threads <= 3; setting.threads++) {
            loss = (tt_codec_loss){0};
            setting.shift = setting.threads - 2;
            ct_bytes got = ct_encode(&setting, (tt_codec)codec, 256, x, n, &loss);
            float *back = ct_decode(&setting, &got);
            assert_memory_equal(got.data, want.data, want.size);
            assert_memory_equal(back, want_back, (size_t)n * 4);
            assert_memory_equal(&loss, &first, sizeof loss);
            free(got.data);
            free(back);
        }
        free(want.data);
        free(want_back);
    }
    free(x);
}

static void test_threads(void **state)
{
    (void)state;
    ct_for_variants(check_threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),     cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_specials),  cmocka_unit_test(test_magnitudes),
        cmocka_unit_test(test_near_ties), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
