/* The codecs allocate nothing once their threads run: malloc and its kin, counted in this program.
 */
#include "support.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

static atomic_long allocations;

#if OWN_MALLOC
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(old, bytes);
}

int posix_memalign(void **out, size_t align, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    *out = __libc_memalign(align, bytes);
    return *out == NULL;
}

void *aligned_alloc(size_t align, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(align, bytes);
}
#endif

static void run_all(const ct_bench *b, char *t[6], int64_t n)
{
    const tt_encoded m = {TT_CODEC_INT8, 64, n, t[2]}, v = {TT_CODEC_UINT8_UP, 4096, n, t[3]};
    tt_verdict verdict = {0};
    tt_codec_loss loss = {0};
    const tt_adamw_encoded_args args = {.n = n,
                                        .p = t[0],
                                        .g = t[1],
                                        .m = m,
                                        .v = v,
                                        .p_next = t[4],
                                        .m_next = m,
                                        .v_next = v,
                                        .scalars = &ct_scalars,
                                        .verdict = &verdict,
                                        .m_loss = &loss,
                                        .v_loss = &loss,
                                        .u_loss = &loss};
    for (int codec = 0; codec < TT_CODEC_COUNT; codec++) {
        const tt_encoded e = {(tt_codec)codec, 64, n, t[2]};
        assert_int_equal(tt_encode(b->compressor, t[0], &e, &loss), TT_OK);
        assert_int_equal(tt_decode(b->compressor, &e, t[5]), TT_OK);
    }
    assert_int_equal(tt_tensor_zero(b->context, t[2], (size_t)n), TT_OK);
    assert_int_equal(tt_adamw_encoded(b->compressor, &args), TT_OK);
}

static void check_variant(const char *variant)
{
    const int64_t n = 65536;
    const ct_setting setting = {variant, 2, false, 0};
    ct_bench b = ct_open(&setting, 8 * n);
    char *t[6];
    for (int i = 0; i < 6; i++)
        t[i] = ct_tensor(&b, NULL, (size_t)n * 5, 0);
    run_all(&b, t, n);
    long before = atomic_load(&allocations);
    assert_true(before > 0); /* the counter works */
    for (int i = 0; i < 3; i++)
        run_all(&b, t, n);
    if (atomic_load(&allocations) != before)
        fail_msg("%s allocates", variant);
    ct_close(&b);
}

static void test_no_allocation(void **state)
{
    (void)state;
#if !OWN_MALLOC
    skip();
#endif
    ct_for_variants(check_variant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
