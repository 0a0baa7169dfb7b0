/* trimtab/kvcache.h: keys and values of past tokens, kept for decoding.
 *
 * A dense store: for each layer two tensors [capacity, width], filled from position 0 on. Their
 * elements are what the context computes in when the first token comes.
 */
#ifndef TRIMTAB_KVCACHE_H
#define TRIMTAB_KVCACHE_H

#include "base.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tt_kv_store tt_kv_store;

/* Bytes of tensor memory that a store of this shape takes; `dtype` is the context's. */
TT_API size_t tt_kv_store_bytes(int64_t layers, int64_t capacity, int64_t width, tt_dtype dtype);
/* Room for `capacity` tokens with keys, and values, of `width` elements each; tensor memory comes
 * from `context`, which must outlive the store. */
TT_API tt_status tt_kv_store_create(tt_context *context, int64_t layers, int64_t capacity,
                                    int64_t width, tt_kv_store **out);
TT_API void tt_kv_store_destroy(tt_kv_store *store);
/* Tokens held (the same for every layer between steps). */
TT_API int64_t tt_kv_store_length(const tt_kv_store *store);
TT_API int64_t tt_kv_store_capacity(const tt_kv_store *store);
/* Forgets all tokens after the first `length`. */
TT_API tt_status tt_kv_store_truncate(tt_kv_store *store, int64_t length);
/* Copies keys and values of `count` new tokens of one layer, which end the rows of
 * qkv[count, row], to positions length..length+count-1. The length moves with tt_kv_store_advance,
 * once all layers have theirs. TT_EINVAL when the store would overflow, or when the context
 * computes in another type than the tokens held have. */
TT_API tt_status tt_kv_store_append(tt_kv_store *store, int64_t layer, const void *qkv, int64_t row,
                                    int64_t count);
TT_API tt_status tt_kv_store_advance(tt_kv_store *store, int64_t count);
/* [capacity, width]; tensor memory, borrowed. */
TT_API const void *tt_kv_store_keys(const tt_kv_store *store, int64_t layer);
TT_API const void *tt_kv_store_values(const tt_kv_store *store, int64_t layer);

#ifdef __cplusplus
}
#endif
#endif
