/* kernels/blocked/product.h: one matrix product, blocked for caches and threads. */
#ifndef TT_BLOCKED_PRODUCT_H
#define TT_BLOCKED_PRODUCT_H

#include "gemm.h"

/* Panels that weights are packed into ahead, each of the whole k: those of gemm.h or, where they
 * hold floats, in mixed precision bf16 that is widened to them block by block. */
typedef struct tt_ahead {
    const void *panels; /* NULL: none */
    bool bf16;          /* [k][TT_NR] of bf16 where a panel is of floats */
} tt_ahead;

/* c(rows x columns, row-major) = start + a b, and what follows from it. */
typedef struct tt_product {
    int64_t rows, columns, k;
    tt_operand a;       /* a(i, p) */
    tt_operand b;       /* b(p, j) */
    tt_ahead ahead;     /* or b packed ahead */
    void *c;            /* f32 */
    bool bf16;          /* or bf16: c, gelu and gelu_x */
    bool from_c;        /* starts from what stands in c */
    bool stream;        /* c is stored past the caches */
    const float *bias;  /* or from this row; or (NULL) from zero */
    void *gelu;         /* GELU(c) is stored, too; or NULL */
    const void *gelu_x; /* c is multiplied by gelu'(gelu_x); or NULL */
} tt_product;

void TT_BLOCKED(tt_product_run)(const tt_exec *exec, const tt_product *product);

/* Rows [.., columns) of c as they are to be stored, from a strip of at most TT_NR columns whose
 * sums are complete: (i, j) is its first element in c. */
void TT_BLOCKED(tt_product_finish)(const tt_product *product, int64_t i, int64_t rows, int64_t j,
                                   int64_t columns, const float *sums, int64_t sums_row);

#if !TT_TILES
/* Products of few rows (gemv.c), at most so many, with the same bits. */
#define TT_FEW_ROWS 4
bool TT_BLOCKED(tt_gemv_suits)(const tt_product *product);
void TT_BLOCKED(tt_gemv_run)(const tt_exec *exec, const tt_product *product, int threads);
#endif

#endif
