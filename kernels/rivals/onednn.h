/* kernels/rivals/onednn.h: oneDNN's matrix products in bf16, through its primitives. */
#ifndef TT_RIVALS_ONEDNN_H
#define TT_RIVALS_ONEDNN_H

#include "internal.h"

/* out[rows, columns] = a b over k, all row-major; a bf16, out bf16, sums in f32. */
enum {
    TT_ONEDNN_A_TRANSPOSED = 1, /* as stored: a[k, rows] */
    TT_ONEDNN_B_TRANSPOSED = 2, /* as stored: b[columns, k] */
    TT_ONEDNN_WEIGHTS = 4,      /* b is f32: rounded, and laid out as the library likes it */
    TT_ONEDNN_BIAS = 8,         /* f32, one for each column */
    TT_ONEDNN_ACCUMULATE = 16,  /* += */
    TT_ONEDNN_F32 = 32          /* out is f32 */
};

typedef struct tt_onednn_product {
    int64_t rows, columns, k; /* none is 0 */
    int threads;
    unsigned flags;
} tt_onednn_product;

typedef struct tt_onednn_operands {
    const void *a, *b, *bias;
    const void *packed; /* b as tt_onednn_pack left it; NULL: read b */
    void *out;
} tt_onednn_operands;

tt_status tt_onednn_run(const tt_onednn_product *product, const tt_onednn_operands *operands);
/* Bytes of packed weights; 0 where the library has no product of this shape. */
size_t tt_onednn_packed_bytes(int64_t columns, int64_t k);
/* Of `product` only columns, k, threads and how b is stored count. */
tt_status tt_onednn_pack(const tt_onednn_product *product, const void *b, void *packed);

/* Finds the functions that these need in the library; false where it lacks one. */
bool tt_onednn_find(void *handle);

#endif
