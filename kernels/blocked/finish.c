/* What a product does with its sums once they are complete: GELU, and bf16. */
#include "gelu.h"
#include "product.h"
#include "vbf16.h"

/* n elements of an activation from element `at` on, n <= TT_LANES. */
TT_INLINE tt_vf load_act(const tt_product *product, const void *data, int64_t at, int64_t n)
{
    if (product->bf16) {
        const uint16_t *p = (const uint16_t *)data + at;
        return n == TT_LANES ? tt_vload_bf16(p) : tt_vload_bf16_part(p, n, 0);
    }
    const float *p = (const float *)data + at;
    return n == TT_LANES ? tt_vload(p) : tt_vload_part(p, n, 0);
}

TT_INLINE void store_act(const tt_product *product, void *data, int64_t at, tt_vf v, int64_t n)
{
    if (product->bf16) {
        uint16_t *p = (uint16_t *)data + at;
        if (n == TT_LANES)
            tt_vstore_bf16(p, v);
        else
            tt_vstore_bf16_part(p, v, n);
        return;
    }
    float *p = (float *)data + at;
    if (n == TT_LANES)
        tt_vstore(p, v);
    else
        tt_vstore_part(p, v, n);
}

/* Whole vectors of c that are in place; the others are stored as usual. */
static void stream_strip(const tt_product *product, int64_t i, int64_t rows, int64_t j,
                         int64_t columns, const float *sums, int64_t sums_row)
{
    for (int64_t r = 0; r < rows; r++, sums += sums_row) {
        float *c = (float *)product->c + (i + r) * product->columns + j;
        bool whole = columns == TT_NR && (uintptr_t)c % sizeof(tt_vf) == 0;
        if (whole) {
            tt_vstream(c, tt_vload(sums));
            tt_vstream(c + TT_LANES, tt_vload(sums + TT_LANES));
        } else {
            memcpy(c, sums, (size_t)columns * sizeof *c);
        }
    }
}

TT_INLINE void finish_vector(const tt_product *product, int64_t at, const float *sums, int64_t n)
{
    tt_vf v = n == TT_LANES ? tt_vload(sums) : tt_vload_part(sums, n, 0);
    if (product->gelu_x != NULL)
        v *= tt_vgelu_slope(load_act(product, product->gelu_x, at, n));
    store_act(product, product->c, at, v, n);
    if (product->gelu != NULL) /* of c as it is stored */
        store_act(product, product->gelu, at, tt_vgelu(product->bf16 ? tt_vround_bf16(v) : v), n);
}

void TT_BLOCKED(tt_product_finish)(const tt_product *product, int64_t i, int64_t rows, int64_t j,
                                   int64_t columns, const float *sums, int64_t sums_row)
{
    if (product->stream) {
        stream_strip(product, i, rows, j, columns, sums, sums_row);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < columns; v += TT_LANES)
            finish_vector(product, (i + r) * product->columns + j + v, sums + r * sums_row + v,
                          tt_min64(TT_LANES, columns - v));
}
