/* Philox against its published vectors, what is made of it, and the permutation. */
#include "unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void known_answers(void **state)
{
    (void)state;
    /* Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result. */
    static const struct {
        uint32_t counter[4], key[2], result[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const uint32_t *c = vectors[i].counter;
        const uint32_t *k = vectors[i].key;
        uint32_t out[4];
        tt_philox((uint64_t)k[1] << 32 | k[0], (uint64_t)c[3] << 32 | c[2],
                  (uint64_t)c[1] << 32 | c[0], out);
        assert_memory_equal(out, vectors[i].result, sizeof out);
    }
}

/* The halves of Philox's words, lower first, from any block on and to any number. */
static void sixteen_bits(void **state)
{
    (void)state;
    enum { MOST = 210 };
    /* The last: where the counter's lower word overflows. */
    const uint64_t firsts[] = {0, 8, (uint64_t)1 << 36, ((uint64_t)1 << 35) - 40};
    for (int i = 0; i < 4; i++) {
        for (size_t n = 0; n < MOST; n++) {
            uint16_t got[MOST + 1];
            got[n] = 0x5a5a;
            tt_random_u16(3, (uint64_t)7 << 40 | 5, firsts[i], got, n);
            assert_int_equal(got[n], 0x5a5a);
            for (size_t k = 0; k < n; k++) {
                uint32_t block[4];
                tt_philox(3, (uint64_t)7 << 40 | 5, (firsts[i] + k) / 8, block);
                assert_int_equal(got[k], block[k % 8 / 2] >> (k % 2 * 16) & 0xffff);
            }
        }
    }
}

static void uniform(void **state)
{
    (void)state;
    enum { N = 200000 };
    double sum = 0;
    double squares = 0;
    int bins[64] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double value = tt_random_uniform(5, 6, i);
        assert_true(value >= 0 && value < 1);
        sum += value;
        squares += value * value;
        bins[(int)(value * 64)]++;
    }
    assert_true(fabs(sum / N - 0.5) < 0.004);
    assert_true(fabs(squares / N - 1.0 / 3) < 0.004);
    double chi = 0;
    for (int i = 0; i < 64; i++) {
        chi += (bins[i] - N / 64.0) * (bins[i] - N / 64.0) / (N / 64.0);
    }
    assert_true(chi > 20 && chi < 130); /* 63 degrees of freedom */
    assert_true(tt_random_uniform(5, 6, 7) == tt_random_uniform(5, 6, 7));
    assert_true(tt_random_uniform(5, 6, 7) != tt_random_uniform(6, 6, 7));
    assert_true(tt_random_uniform(5, 6, 7) != tt_random_uniform(5, 7, 7));
}

static void normal(void **state)
{
    (void)state;
    enum { N = 400001 };
    float *values = malloc(N * sizeof *values);
    assert_non_null(values);
    tt_random_normal_f32(11, 3, values, N);
    double moments[5] = {0};
    double neighbours = 0;
    for (size_t i = 0; i < N; i++) {
        double power = 1;
        assert_true(isfinite(values[i]));
        for (int k = 1; k <= 4; k++) {
            power *= (double)values[i];
            moments[k] += power / N;
        }
        neighbours += i ? (double)values[i] * (double)values[i - 1] / N : 0;
    }
    assert_true(fabs(moments[1]) < 0.008);
    assert_true(fabs(moments[2] - 1) < 0.012);
    assert_true(fabs(moments[3]) < 0.03);
    assert_true(fabs(moments[4] - 3) < 0.12);
    assert_true(fabs(neighbours) < 0.01);
    /* Element i is the same however many are drawn. */
    static const size_t lengths[] = {0, 1, 2, 3, 64, 99, 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        float few[1001];
        memset(few, 0x7f, sizeof few);
        tt_random_normal_f32(11, 3, few, lengths[i]);
        assert_memory_equal(few, values, lengths[i] * sizeof *few);
        unsigned char after[sizeof *few];
        memcpy(after, &few[lengths[i]], sizeof after);
        assert_int_equal(after[0], 0x7f);
    }
    free(values);
}

static void permutation(void **state)
{
    (void)state;
    enum { MOST = 70000 };
    static unsigned char seen[MOST];
    static const uint64_t large[] = {1023, 1024, 1025, 4096, 4097, 65535, 65536, 65537, 69999};
    for (size_t i = 0; i < 300 + sizeof large / sizeof *large; i++) {
        uint64_t n = i < 300 ? i + 1 : large[i - 300];
        memset(seen, 0, sizeof seen);
        for (uint64_t index = 0; index < n; index++) {
            uint64_t image = tt_permute(i, 17, n, index);
            assert_true(image < n);
            assert_int_equal(seen[image]++, 0);
        }
    }
}

static void permutation_mixes(void **state)
{
    (void)state;
    /* Fixed points of a random permutation: one on average. */
    int fixed = 0;
    int same_under_another_key = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        for (uint64_t i = 0; i < 100; i++) {
            fixed += tt_permute(seed, 0, 100, i) == i;
            same_under_another_key += tt_permute(seed, 0, 100, i) == tt_permute(seed, 1, 100, i);
        }
    }
    assert_true(fixed > 120 && fixed < 290);
    assert_true(same_under_another_key > 120 && same_under_another_key < 290);
    /* Where an element goes is roughly uniform. */
    double sum = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        sum += (double)tt_permute(3, 4, UINT64_C(1) << 40, i) / 0x1p40 / 10000;
    }
    assert_true(fabs(sum - 0.5) < 0.015);
}

static void permutation_of_the_largest(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {UINT64_C(1) << 40, (UINT64_C(1) << 61) + 1, UINT64_C(1) << 62};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t images[200];
        for (uint64_t k = 0; k < 200; k++) {
            images[k] = tt_permute(9, 9, sizes[i], k < 100 ? k : sizes[i] - 200 + k);
            assert_true(images[k] < sizes[i]);
            for (uint64_t j = 0; j < k; j++) {
                assert_true(images[j] != images[k]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(sixteen_bits),
        cmocka_unit_test(uniform),
        cmocka_unit_test(normal),
        cmocka_unit_test(permutation),
        cmocka_unit_test(permutation_mixes),
        cmocka_unit_test(permutation_of_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
