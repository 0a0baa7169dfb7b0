/* The dense key-value store: one piece of tensor memory, filled from position 0 on. */
#include "trimtab/kvcache.h"

#include <stdlib.h>

struct tt_kv_store {
    tt_context *context;
    int64_t layers, capacity, width;
    int64_t length;
    tt_dtype dtype;     /* of the tokens held */
    size_t plane_bytes; /* all tokens' keys (or values) of one layer, as real */
    unsigned char *memory;
};

enum { ALIGN_BYTES = 64 };

/* SIZE_MAX when beyond the address space. */
static size_t plane_size(int64_t capacity, int64_t width, tt_dtype dtype)
{
    size_t bytes;
    if (__builtin_mul_overflow((size_t)capacity, (size_t)width, &bytes) ||
        __builtin_mul_overflow(bytes, tt_dtype_size(dtype), &bytes) ||
        __builtin_add_overflow(bytes, (size_t)ALIGN_BYTES - 1, &bytes)) {
        return SIZE_MAX;
    }
    return bytes & ~((size_t)ALIGN_BYTES - 1);
}

size_t tt_kv_store_bytes(int64_t layers, int64_t capacity, int64_t width, tt_dtype dtype)
{
    size_t plane = plane_size(capacity, width, dtype);
    size_t bytes;
    if (plane == SIZE_MAX || __builtin_mul_overflow(plane, (size_t)layers, &bytes) ||
        __builtin_mul_overflow(bytes, (size_t)2, &bytes)) {
        return SIZE_MAX;
    }
    return bytes;
}

tt_status tt_kv_store_create(tt_context *context, int64_t layers, int64_t capacity, int64_t width,
                             tt_kv_store **out)
{
    *out = NULL;
    if (layers < 1 || capacity < 1 || width < 1) {
        return tt_fail(TT_EINVAL,
                       "a KV store of %lld layers and %lld tokens, %lld elements wide: all must be "
                       "positive",
                       (long long)layers, (long long)capacity, (long long)width);
    }
    const tt_dtype dtype = tt_context_dtype(context);
    const size_t bytes = tt_kv_store_bytes(layers, capacity, width, dtype);
    if (bytes == SIZE_MAX) {
        return tt_fail(TT_ENOMEM, "a KV store of %lld tokens is beyond the address space",
                       (long long)capacity);
    }
    tt_kv_store *store = calloc(1, sizeof *store);
    if (!store) {
        return tt_fail(TT_ENOMEM, "no memory for a KV store's record");
    }
    *store = (tt_kv_store){.context = context,
                           .layers = layers,
                           .capacity = capacity,
                           .width = width,
                           .dtype = dtype,
                           .plane_bytes = plane_size(capacity, width, dtype)};
    void *memory;
    tt_status status = tt_tensor_alloc(context, bytes, &memory);
    if (status) {
        free(store);
        return status;
    }
    store->memory = memory;
    *out = store;
    return TT_OK;
}

void tt_kv_store_destroy(tt_kv_store *store)
{
    free(store); /* the tensor memory is the context's */
}

int64_t tt_kv_store_length(const tt_kv_store *store)
{
    return store->length;
}

int64_t tt_kv_store_capacity(const tt_kv_store *store)
{
    return store->capacity;
}

tt_status tt_kv_store_truncate(tt_kv_store *store, int64_t length)
{
    if (length < 0 || length > store->length) {
        return tt_fail(TT_EINVAL, "cannot cut a KV store of %lld tokens to %lld",
                       (long long)store->length, (long long)length);
    }
    store->length = length;
    return TT_OK;
}

static tt_status check_room(const tt_kv_store *store, int64_t count)
{
    if (count >= 0 && count <= store->capacity - store->length) {
        return TT_OK;
    }
    return tt_fail(TT_EINVAL, "%lld more tokens do not fit a KV store that holds %lld of %lld",
                   (long long)count, (long long)store->length, (long long)store->capacity);
}

static unsigned char *keys_of(const tt_kv_store *store, int64_t layer)
{
    return store->memory + 2 * (size_t)layer * store->plane_bytes;
}

static unsigned char *values_of(const tt_kv_store *store, int64_t layer)
{
    return keys_of(store, layer) + store->plane_bytes;
}

tt_status tt_kv_store_append(tt_kv_store *store, int64_t layer, const void *qkv, int64_t row,
                             int64_t count)
{
    if (layer < 0 || layer >= store->layers) {
        return tt_fail(TT_EINVAL, "layer %lld of a KV store that has %lld", (long long)layer,
                       (long long)store->layers);
    }
    const tt_dtype compute = tt_context_compute(store->context);
    if (store->length > 0 && compute != store->dtype) {
        return tt_fail(TT_EINVAL, "a KV store that holds %s cannot take %s, too",
                       tt_dtype_name(store->dtype), tt_dtype_name(compute));
    }
    if (row < 2 * store->width) {
        return tt_fail(TT_EINVAL, "rows of %lld elements cannot end with keys and values of %lld",
                       (long long)row, (long long)store->width);
    }
    store->dtype = compute;
    tt_status status = check_room(store, count);
    const size_t element = tt_dtype_size(compute);
    const size_t bytes = (size_t)store->width * element;
    for (int64_t i = 0; i < count && !status; i++) {
        const unsigned char *end = (const unsigned char *)qkv + (size_t)((i + 1) * row) * element;
        const size_t to = (size_t)(store->length + i) * bytes;
        status = tt_tensor_copy(store->context, keys_of(store, layer) + to, end - 2 * bytes, bytes);
        if (!status) {
            status =
                tt_tensor_copy(store->context, values_of(store, layer) + to, end - bytes, bytes);
        }
    }
    return status;
}

tt_status tt_kv_store_advance(tt_kv_store *store, int64_t count)
{
    tt_status status = check_room(store, count);
    if (!status) {
        store->length += count;
    }
    return status;
}

const void *tt_kv_store_keys(const tt_kv_store *store, int64_t layer)
{
    return layer >= 0 && layer < store->layers ? keys_of(store, layer) : NULL;
}

const void *tt_kv_store_values(const tt_kv_store *store, int64_t layer)
{
    return layer >= 0 && layer < store->layers ? values_of(store, layer) : NULL;
}
