/* No operation allocates once its threads run: malloc and its kin, counted in this program. */
#include "fixture.h"

#include <malloc.h>
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

/* Enough work for two threads. */
static const int64_t sizes[TT_OP_COUNT][5] = {
    [TT_OP_LINEAR_FORWARD] = {256, 256, 128},
    [TT_OP_LINEAR_DGRAD] = {256, 256, 128},
    [TT_OP_LINEAR_WGRAD] = {256, 256, 128},
    [TT_OP_EMBEDDING_FORWARD] = {4, 64, 256, 5, 0},
    [TT_OP_EMBEDDING_BACKWARD] = {4, 64, 256, 5},
    [TT_OP_LAYERNORM_FORWARD] = {256, 256},
    [TT_OP_LAYERNORM_BACKWARD] = {256, 256},
    [TT_OP_RMSNORM_FORWARD] = {256, 256},
    [TT_OP_RMSNORM_BACKWARD] = {256, 256},
    [TT_OP_ROPE] = {4, 64, 0, 2, 64},
    [TT_OP_ATTENTION_FORWARD] = {4, 100, 2, 64},
    [TT_OP_ATTENTION_BACKWARD] = {4, 100, 2, 64},
    [TT_OP_ATTENTION_CACHED] = {40, 60, 2, 64, 64},
    [TT_OP_GELU_FORWARD] = {65536},
    [TT_OP_GELU_BACKWARD] = {65536},
    [TT_OP_SWIGLU_FORWARD] = {64, 1024},
    [TT_OP_SWIGLU_BACKWARD] = {64, 1024},
    [TT_OP_ADD] = {65536},
    [TT_OP_SOFTMAX_XENT] = {64, 1000},
    [TT_OP_STATS] = {65536},
    [TT_OP_ADAMW] = {65536},
};

static void check_no_allocation(tt_dtype compute)
{
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    options.threads = 2;
    options.tensor_bytes = 8 << 20;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    void *memory;
    assert_int_equal(tt_tensor_alloc(context, 5 << 20, &memory), TT_OK);
    assert_int_equal(tt_context_set_compute(context, compute), TT_OK);
    for (int op = 0; op < TT_OP_COUNT; op++) {
        kt_case c = kt_make((tt_op)op, sizes[op], 1);
        kt_results results = {0};
        kt_args args;
        void *tensor[KT_TENSORS] = {NULL};
        char *next = memory;
        for (int k = 0; k < c.count; k++) {
            tensor[k] = next;
            next += (c.t[k].n * 4 + 63) / 64 * 64;
        }
        assert_true(next <= (char *)memory + (5 << 20));
        kt_build(&c, tensor, &results, &args);
        assert_int_equal(tt_op_run(context, (tt_op)op, &args), TT_OK);
        long before = atomic_load(&allocations);
        assert_true(before > 0); /* the counter works */
        for (int i = 0; i < 3; i++)
            assert_int_equal(tt_op_run(context, (tt_op)op, &args), TT_OK);
        if (atomic_load(&allocations) != before)
            fail_msg("%s allocates", tt_op_name((tt_op)op));
        kt_clear(&c);
    }
    tt_context_destroy(context);
}

static void test_no_allocation(void **state)
{
    (void)state;
#if !OWN_MALLOC
    skip();
#endif
    check_no_allocation(TT_F32);
    check_no_allocation(TT_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
