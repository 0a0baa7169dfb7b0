/* The dense KV store: what goes in comes out, at its place; limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "trimtab/kvcache.h"

/* Three heads of queries for each one of keys and values. */
enum { LAYERS = 3, CAPACITY = 7, CHANNELS = 5, PARTS = 5, ROW = PARTS * CHANNELS };

static tt_context *open_context(size_t bytes, bool guard)
{
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    options.dtype = TT_F32;
    options.threads = 1;
    options.tensor_bytes = bytes;
    options.guard = guard;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    return context;
}

/* Distinct for every layer, position, part (q, q, q, k, v) and channel. */
static float mark(int64_t layer, int64_t position, int part, int64_t channel)
{
    return (float)(((layer * 100 + position) * PARTS + part) * 10 + channel);
}

static void append(tt_context *context, tt_kv_store *store, void *qkv, int64_t count)
{
    const int64_t first = tt_kv_store_length(store);
    for (int64_t layer = 0; layer < LAYERS; layer++) {
        float rows[CAPACITY][PARTS][CHANNELS];
        for (int64_t i = 0; i < count; i++) {
            for (int part = 0; part < PARTS; part++) {
                for (int64_t c = 0; c < CHANNELS; c++) {
                    rows[i][part][c] = mark(layer, first + i, part, c);
                }
            }
        }
        size_t bytes = (size_t)count * sizeof rows[0];
        assert_int_equal(tt_tensor_write(context, qkv, rows, bytes), TT_OK);
        assert_int_equal(tt_kv_store_append(store, layer, qkv, ROW, count), TT_OK);
        assert_int_equal(tt_kv_store_length(store), first); /* until all layers have theirs */
    }
    assert_int_equal(tt_kv_store_advance(store, count), TT_OK);
    assert_int_equal(tt_kv_store_length(store), first + count);
}

static void check(tt_context *context, const tt_kv_store *store)
{
    for (int64_t layer = 0; layer < LAYERS; layer++) {
        float keys[CAPACITY][CHANNELS];
        float values[CAPACITY][CHANNELS];
        assert_int_equal(tt_tensor_read(context, keys, tt_kv_store_keys(store, layer), sizeof keys),
                         TT_OK);
        assert_int_equal(
            tt_tensor_read(context, values, tt_kv_store_values(store, layer), sizeof values),
            TT_OK);
        for (int64_t i = 0; i < tt_kv_store_length(store); i++) {
            for (int64_t c = 0; c < CHANNELS; c++) {
                assert_true(keys[i][c] == mark(layer, i, PARTS - 2, c));
                assert_true(values[i][c] == mark(layer, i, PARTS - 1, c));
            }
        }
    }
}

static void what_goes_in_comes_out(void **state)
{
    (void)state;
    const size_t bytes = tt_kv_store_bytes(LAYERS, CAPACITY, CHANNELS, TT_F32);
    tt_context *context = open_context(bytes + 4096, true);
    tt_kv_store *store;
    void *qkv;
    assert_int_equal(tt_kv_store_create(context, LAYERS, CAPACITY, CHANNELS, &store), TT_OK);
    assert_int_equal(tt_tensor_bytes_used(context), bytes);
    assert_int_equal(tt_tensor_alloc(context, ROW * CAPACITY * sizeof(float), &qkv), TT_OK);
    assert_int_equal(tt_kv_store_capacity(store), CAPACITY);
    append(context, store, qkv, 3);
    append(context, store, qkv, 1);
    append(context, store, qkv, 0);
    append(context, store, qkv, 3);
    check(context, store);
    assert_int_equal(tt_kv_store_truncate(store, 2), TT_OK);
    append(context, store, qkv, 5);
    check(context, store);
    tt_kv_store_destroy(store);
    tt_context_destroy(context);
}

static void limits_hold(void **state)
{
    (void)state;
    tt_context *context = open_context(1 << 16, false);
    tt_kv_store *store;
    void *qkv;
    assert_int_equal(tt_kv_store_create(context, LAYERS, CAPACITY, CHANNELS, &store), TT_OK);
    assert_int_equal(tt_tensor_alloc(context, ROW * 8 * sizeof(float), &qkv), TT_OK);
    assert_int_equal(tt_kv_store_append(store, 0, qkv, ROW, CAPACITY + 1), TT_EINVAL);
    assert_int_equal(tt_kv_store_append(store, LAYERS, qkv, ROW, 1), TT_EINVAL);
    assert_int_equal(tt_kv_store_append(store, -1, qkv, ROW, 1), TT_EINVAL);
    assert_int_equal(tt_kv_store_append(store, 0, qkv, ROW, -1), TT_EINVAL);
    assert_int_equal(tt_kv_store_append(store, 0, qkv, 2 * CHANNELS - 1, 1), TT_EINVAL);
    assert_int_equal(tt_kv_store_advance(store, CAPACITY + 1), TT_EINVAL);
    assert_int_equal(tt_kv_store_advance(store, CAPACITY), TT_OK);
    assert_int_equal(tt_kv_store_append(store, 0, qkv, ROW, 1), TT_EINVAL);
    assert_non_null(strstr(tt_error_message(), "holds 7 of 7"));
    assert_int_equal(tt_kv_store_truncate(store, CAPACITY + 1), TT_EINVAL);
    assert_int_equal(tt_kv_store_truncate(store, -1), TT_EINVAL);
    assert_null(tt_kv_store_keys(store, LAYERS));
    assert_null(tt_kv_store_values(store, -1));
    tt_kv_store_destroy(store);
    assert_int_equal(tt_kv_store_create(context, 0, 7, 5, &store), TT_EINVAL);
    assert_null(store);
    assert_int_equal(tt_kv_store_create(context, 1, 1 << 20, 1 << 10, &store), TT_ENOMEM);
    assert_int_equal(tt_kv_store_create(context, 1, INT64_MAX, 1 << 10, &store), TT_ENOMEM);
    assert_true(tt_kv_store_bytes(1 << 20, INT64_C(1) << 40, 1 << 10, TT_F32) == SIZE_MAX);
    tt_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
