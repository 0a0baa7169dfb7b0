/* Contexts, tensor memory and its guard, the registry. */
#include "fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static tt_context *make_context(size_t bytes, bool guard)
{
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    options.tensor_bytes = bytes;
    options.guard = guard;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    return context;
}

static void count_bytes(void *user, int64_t bytes)
{
    *(int64_t *)user += bytes;
}

static void test_options(void **state)
{
    (void)state;
    tt_context_options options;
    tt_context *context = NULL;
    int64_t bytes = 0;
    tt_context_options_init(&options);
    options.tensor_bytes = 1 << 20;
    options.hook = count_bytes;
    options.hook_user = &bytes;
    options.threads = 3;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    assert_int_equal(bytes, 1 << 20);
    assert_int_equal(tt_context_threads(context), 3);
    assert_int_equal(tt_context_dtype(context), TT_F32);
    tt_context_destroy(context);
    assert_int_equal(bytes, 0);
    options.dtype = TT_U8;
    assert_int_equal(tt_context_create(&options, &context), TT_EINVAL);
    options.dtype = TT_F32;
    options.threads = -1;
    assert_int_equal(tt_context_create(&options, &context), TT_ECONFIG);
    options.threads = TT_MAX_THREADS + 1;
    assert_int_equal(tt_context_create(&options, &context), TT_ECONFIG);
    assert_non_null(strstr(tt_error_message(), "1025 threads: 1 to 1024"));
    options.threads = 0;
    options.size = 1;
    assert_int_equal(tt_context_create(&options, &context), TT_EINVAL);
    assert_int_equal(tt_context_create(NULL, &context), TT_EINVAL);
    tt_context_destroy(NULL);
}

static void test_tensors(void **state)
{
    (void)state;
    tt_context *context = make_context(4096, false);
    void *a, *b, *c;
    char host[100], back[100];
    assert_int_equal(tt_tensor_alloc(context, 100, &a), TT_OK);
    assert_int_equal(tt_tensor_alloc(context, 3000, &b), TT_OK);
    assert_int_equal((uintptr_t)b % 64, 0);
    assert_int_equal(tt_tensor_alloc(context, 2000, &c), TT_ENOMEM);
    assert_non_null(strstr(tt_error_message(), "2000"));
    assert_int_equal(tt_tensor_alloc(context, SIZE_MAX, &c), TT_ENOMEM);
    assert_int_equal(tt_tensor_bytes_used(context), 128 + 3008);
    memset(host, 7, sizeof host);
    assert_int_equal(tt_tensor_read(context, back, b, 100), TT_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(back[i], 0);
    assert_int_equal(tt_tensor_write(context, a, host, 100), TT_OK);
    assert_int_equal(tt_tensor_copy(context, b, a, 100), TT_OK);
    assert_int_equal(tt_tensor_read(context, back, b, 100), TT_OK);
    assert_memory_equal(back, host, 100);
    assert_int_equal(tt_tensor_zero(context, b, 50), TT_OK);
    assert_int_equal(tt_tensor_read(context, back, b, 100), TT_OK);
    assert_int_equal(back[49], 0);
    assert_int_equal(back[50], 7);
    /* Not in tensor memory, or past what was handed out. */
    assert_int_equal(tt_tensor_read(context, back, host, 100), TT_EINVAL);
    assert_int_equal(tt_tensor_write(context, b, host, 4096), TT_EINVAL);
    assert_int_equal(tt_tensor_copy(context, a, host, 10), TT_EINVAL);
    assert_int_equal(tt_tensor_write(context, a, NULL, 10), TT_EINVAL);
    assert_int_equal(tt_tensor_read(context, NULL, a, 10), TT_EINVAL);
    assert_int_equal(tt_tensor_zero(context, (char *)b + 3008, 1), TT_EINVAL);
    tt_context_destroy(context);
}

static void test_tile(void **state)
{
    (void)state;
    tt_context *context = make_context(64, false);
    assert_int_equal(tt_context_tile(context).k, 32);
    assert_int_equal(tt_context_set_tile(context, (tt_tile){512, 16, 64}), TT_OK);
    const tt_tile wrong[] = {{8, 32, 32}, {32, 1024, 32}, {32, 32, 48}, {0, 32, 32}, {-32, 32, 32}};
    for (int i = 0; i < 5; i++)
        assert_int_equal(tt_context_set_tile(context, wrong[i]), TT_EINVAL);
    assert_int_equal(tt_context_tile(context).m, 512);
    tt_context_destroy(context);
}

/* True if touching the byte kills a child. */
static bool touch_kills(volatile char *byte)
{
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        *byte = 1;
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_guard(void **state)
{
    (void)state;
    tt_context *context = make_context(1 << 16, true);
    void *a;
    float host[16] = {1, 2, 3};
    assert_int_equal(tt_tensor_alloc(context, sizeof host, &a), TT_OK);
    assert_true(touch_kills(a));
    assert_int_equal(tt_tensor_write(context, a, host, sizeof host), TT_OK);
    tt_add_args add = {16, a, a, a};
    assert_int_equal(tt_op_run(context, TT_OP_ADD, &add), TT_OK);
    assert_true(touch_kills(a));
    assert_int_equal(tt_tensor_read(context, host, a, sizeof host), TT_OK);
    assert_true(host[1] == 4);
    add.n = -1; /* a refused call leaves it closed too */
    assert_int_equal(tt_op_run(context, TT_OP_ADD, &add), TT_EINVAL);
    assert_true(touch_kills(a));
    tt_context_destroy(context);
    context = make_context(1 << 16, false);
    assert_int_equal(tt_tensor_alloc(context, 64, &a), TT_OK);
    assert_false(touch_kills(a));
    tt_context_destroy(context);
}

/* Operations of other modules open tensor memory themselves; opens nest. */
static void test_open(void **state)
{
    (void)state;
    tt_context *context = make_context(1 << 16, true);
    void *a;
    float host[16] = {1};
    assert_int_equal(tt_tensor_alloc(context, sizeof host, &a), TT_OK);
    assert_int_equal(tt_tensor_open(context), TT_OK);
    assert_int_equal(tt_tensor_write(context, a, host, sizeof host), TT_OK);
    assert_true(*(float *)a == 1);
    assert_int_equal(tt_tensor_open(context), TT_OK);
    tt_tensor_close(context);
    assert_false(touch_kills(a));
    tt_tensor_close(context);
    assert_true(touch_kills(a));
    tt_context_destroy(context);
}

/* Pages of [begin, begin + bytes) that are in memory. */
static size_t resident(char *begin, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = 0;
    unsigned char present[64];
    assert_true(bytes / page <= sizeof present);
    assert_int_equal(mincore(begin, bytes, present), 0);
    for (size_t i = 0; i < bytes / page; i++)
        count += present[i] & 1;
    return count;
}

/* Whole pages go back to the system; their neighbours' bytes stay. */
static void check_release(bool guard)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = 32 * page;
    tt_context *context = make_context(2 * bytes, guard);
    void *tensor;
    assert_int_equal(tt_tensor_alloc(context, bytes, &tensor), TT_OK); /* at the arena's start */
    char *host = malloc(bytes), *base = tensor;
    assert_non_null(host);
    memset(host, 7, bytes);
    assert_int_equal(tt_tensor_write(context, tensor, host, bytes), TT_OK);
    assert_int_equal(resident(base, bytes), 32);
    assert_int_equal(tt_tensor_release(context, base + 64, 20 * page), TT_OK);
    assert_int_equal(resident(base, bytes), 32 - 19);
    assert_int_equal(tt_tensor_release(context, base + 30 * page + 128, 256), TT_OK);
    assert_int_equal(tt_tensor_release(context, base + 31 * page - 64, 128), TT_OK);
    assert_int_equal(tt_tensor_release(context, base, 0), TT_OK);
    assert_int_equal(tt_tensor_read(context, host, tensor, bytes), TT_OK);
    for (size_t i = 0; i < bytes; i++) {
        bool gone = (i >= 64 && i < 64 + 20 * page) ||
                    (i >= 30 * page + 128 && i < 30 * page + 384) ||
                    (i >= 31 * page - 64 && i < 31 * page + 64);
        assert_int_equal(host[i], gone ? 0 : 7);
    }
    assert_int_equal(touch_kills(base + 64), guard);
    memset(host, 9, bytes);
    assert_int_equal(tt_tensor_write(context, tensor, host, bytes), TT_OK);
    assert_int_equal(tt_tensor_release(context, base, bytes), TT_OK);
    assert_int_equal(resident(base, bytes), 0);
    assert_int_equal(tt_tensor_release(context, base, bytes + 64), TT_EINVAL);
    assert_int_equal(tt_tensor_release(context, host, 64), TT_EINVAL);
    free(host);
    tt_context_destroy(context);
}

static void test_release(void **state)
{
    (void)state;
    check_release(false);
    check_release(true);
}

typedef struct reader {
    tt_context *context;
    void *tensor;
    bool fine;
} reader;

static void *read_often(void *user)
{
    reader *r = user;
    float host[64];
    r->fine = true;
    for (int i = 0; i < 300; i++)
        if (tt_tensor_read(r->context, host, r->tensor, sizeof host) != TT_OK || host[5] != 9)
            r->fine = false;
    return NULL;
}

/* A checkpoint reads one tensor while operations write others. */
static void test_guard_from_two_threads(void **state)
{
    (void)state;
    tt_context *context = make_context(1 << 16, true);
    void *a, *b;
    float host[64];
    for (int i = 0; i < 64; i++)
        host[i] = 9;
    assert_int_equal(tt_tensor_alloc(context, 256, &a), TT_OK);
    assert_int_equal(tt_tensor_alloc(context, 256, &b), TT_OK);
    assert_int_equal(tt_tensor_write(context, a, host, 256), TT_OK);
    reader r = {context, a, false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_often, &r), 0);
    tt_add_args add = {64, b, b, b};
    for (int i = 0; i < 300; i++)
        assert_int_equal(tt_op_run(context, TT_OP_ADD, &add), TT_OK);
    pthread_join(thread, NULL);
    assert_true(r.fine);
    tt_context_destroy(context);
}

/* Every operation of the best variants runs under the guard: nothing else touches tensors. */
static void test_operations_under_guard(void **state)
{
    (void)state;
    for (int op = 0; op < TT_OP_COUNT; op++) {
        kt_case c = kt_make((tt_op)op, kt_size((tt_op)op), 3), same = kt_clone(&c);
        kt_setting setting = kt_f32("auto");
        kt_run(&same, &setting);
        setting.guard = true;
        kt_run(&c, &setting);
        assert_true(kt_same_bits(&same, &c));
        kt_clear(&c);
        kt_clear(&same);
    }
}

static void test_registry(void **state)
{
    (void)state;
    tt_context *context = make_context(64, false);
    for (int op = 0; op < TT_OP_COUNT; op++) {
        /* The best: the last listed that the machine has. */
        const tt_variant_info *best = NULL;
        for (size_t v = 0; v < tt_variant_count(); v++) {
            const tt_variant_info *info = tt_variant_at(v);
            for (size_t w = 0; w < v; w++) {
                const tt_variant_info *other = tt_variant_at(w);
                assert_false(other->op == info->op && other->dtype == info->dtype &&
                             strcmp(other->name, info->name) == 0);
            }
            if (info->op == (tt_op)op && info->dtype == TT_F32 && tt_variant_available(info))
                best = info;
        }
        assert_ptr_equal(tt_context_variant(context, (tt_op)op), best);
    }
    assert_string_equal(tt_op_name(TT_OP_ADAMW), "adamw");
    assert_string_equal(tt_op_name(TT_OP_COUNT), "?");
    assert_null(tt_variant_at(tt_variant_count()));
    assert_null(tt_context_variant(context, TT_OP_COUNT));
    assert_true(tt_isa_available(TT_ISA_ANY));
    assert_string_equal(tt_isa_name(TT_ISA_X86_64_V4), "x86-64-v4");
    tt_context_destroy(context);
}

static void test_force_variant(void **state)
{
    (void)state;
    tt_context *context = make_context(64, false);
    const tt_variant_info *best = tt_context_variant(context, TT_OP_ADD);
    assert_int_equal(tt_context_set_variant(context, TT_OP_ADD, "reference"), TT_OK);
    assert_string_equal(tt_context_variant(context, TT_OP_ADD)->name, "reference");
    assert_ptr_not_equal(tt_context_variant(context, TT_OP_STATS)->name, "reference");
    assert_int_equal(tt_context_set_variant(context, TT_OP_ADD, "fastest"), TT_ENOTFOUND);
    assert_non_null(strstr(tt_error_message(), "reference, blocked_v1"));
    assert_string_equal(tt_context_variant(context, TT_OP_ADD)->name, "reference");
    assert_int_equal(tt_context_set_variant(context, TT_OP_ADD, "auto"), TT_OK);
    assert_ptr_equal(tt_context_variant(context, TT_OP_ADD), best);
    assert_int_equal(tt_context_set_variant(context, TT_OP_COUNT, "auto"), TT_EINVAL);
    assert_int_equal(tt_context_set_variants(context, "fastest"), TT_ENOTFOUND);
    assert_int_equal(tt_context_set_variants(context, "blocked_v1"), TT_OK);
    for (int op = 0; op < TT_OP_COUNT; op++)
        assert_string_equal(tt_context_variant(context, (tt_op)op)->name, "blocked_v1");
    if (!tt_isa_available(TT_ISA_X86_64_V4)) {
        assert_int_equal(tt_context_set_variants(context, "blocked_v4"), TT_EUNSUPPORTED);
        assert_non_null(strstr(tt_error_message(), "x86-64-v4"));
        assert_string_equal(tt_context_variant(context, TT_OP_ADD)->name, "blocked_v1");
    }
    assert_int_equal(tt_context_set_variants(context, "auto"), TT_OK);
    assert_ptr_equal(tt_context_variant(context, TT_OP_ADD), best);
    tt_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_tile),
        cmocka_unit_test(test_guard),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_guard_from_two_threads),
        cmocka_unit_test(test_operations_under_guard),
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_force_variant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
