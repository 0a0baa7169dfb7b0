/* The peaks are measured: every figure is there, and nothing is left behind. */
#include <math.h>

#include "fixture.h"

static tt_context *make_context(void)
{
    tt_context_options options;
    tt_context *context;
    tt_context_options_init(&options);
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    return context;
}

static void test_peaks(void **state)
{
    (void)state;
    tt_context *context = make_context();
    tt_peaks peaks = {.size = sizeof peaks};
    assert_int_equal(tt_measure_peaks(context, 0, &peaks), TT_OK);
    /* A machine of any kind does more than a million of each in a second. */
    assert_true(isfinite(peaks.flops_f32) && peaks.flops_f32 > 1e6);
    assert_true(isfinite(peaks.read_bytes) && peaks.read_bytes > 1e6);
    assert_true(isfinite(peaks.copy_bytes) && peaks.copy_bytes > 1e6);
    assert_int_equal(peaks.flops_bf16 > 1e6, tt_isa_available(TT_ISA_AVX512_BF16));
    assert_int_equal(peaks.size, sizeof peaks);
    tt_context_destroy(context);
}

static void test_refusals(void **state)
{
    (void)state;
    tt_context *context = make_context();
    tt_peaks peaks = {.size = sizeof peaks}, old = {.size = sizeof peaks - 1};
    assert_int_equal(tt_measure_peaks(NULL, 0, &peaks), TT_EINVAL);
    assert_int_equal(tt_measure_peaks(context, 0, NULL), TT_EINVAL);
    assert_int_equal(tt_measure_peaks(context, 0, &old), TT_EINVAL);
    assert_int_equal(tt_measure_peaks(context, -1, &peaks), TT_EINVAL);
    assert_int_equal(tt_measure_peaks(context, (double)NAN, &peaks), TT_EINVAL);
    tt_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_peaks),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
