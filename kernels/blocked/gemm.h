/* kernels/blocked/gemm.h: packing and the register microkernel, after Goto & van de Geijn,
 * "Anatomy of high-performance matrix multiplication" (TOMS 2008) and BLIS (Van Zee & van de Geijn,
 * TOMS 2015). Every element of a product is one chain of multiply-adds in the order of k, started
 * from what stands in C, the bias or zero: so no blocking changes its bits. */
#ifndef TT_BLOCKED_GEMM_H
#define TT_BLOCKED_GEMM_H

#include "feed.h"
#include "simd.h"
#include "step.h"

/* What panels hold: floats, or bf16 whose k is padded with zeros to what is summed at a time. */
#if TT_TILES
typedef uint16_t tt_panel;
#define TT_KU 32
#elif TT_PANELS_BF16
typedef uint16_t tt_panel;
#define TT_KU 2
#else
typedef float tt_panel;
#define TT_KU 1
#endif

/* a(i, p) is element i * row + p * column of data; one of the two strides is 1. */
typedef struct tt_operand {
    const void *data;
    int64_t row, column;
    bool bf16;  /* the elements are bf16; else f32 */
    bool round; /* f32 elements are rounded to bf16 */
} tt_operand;

/* The operand from its element (i, p) on. */
TT_INLINE tt_operand tt_operand_at(tt_operand a, int64_t i, int64_t p)
{
    a.data = (const char *)a.data + (i * a.row + p * a.column) * (a.bf16 ? 2 : 4);
    return a;
}

/* Lanes of a and b in turn: of their first halves, of their second halves. */
#if TT_LANES == 16
#define TT_ZIP_LOW(a, b)                                                                           \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define TT_ZIP_HIGH(a, b)                                                                          \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif TT_LANES == 8
#define TT_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define TT_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define TT_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define TT_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

/* In-register transposition of TT_LANES x TT_LANES. */
#if TT_LANES == 8
/* Pairs of lanes, then quarters, within halves of a vector; halves last: those cost most. */
#define TT_PAIRS_LOW(a, b)   __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define TT_PAIRS_HIGH(a, b)  __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define TT_FOURS_LOW(a, b)   __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define TT_FOURS_HIGH(a, b)  __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define TT_HALVES_LOW(a, b)  __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define TT_HALVES_HIGH(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)

TT_INLINE void tt_transpose(tt_vf v[TT_LANES])
{
    tt_vf t[TT_LANES];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = TT_PAIRS_LOW(v[i], v[i + 1]);
        t[i + 1] = TT_PAIRS_HIGH(v[i], v[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        v[i] = TT_FOURS_LOW(t[i], t[i + 2]);
        v[i + 1] = TT_FOURS_HIGH(t[i], t[i + 2]);
        v[i + 2] = TT_FOURS_LOW(t[i + 1], t[i + 3]);
        v[i + 3] = TT_FOURS_HIGH(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = TT_HALVES_LOW(v[i], v[i + 4]);
        t[i + 4] = TT_HALVES_HIGH(v[i], v[i + 4]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        v[i] = t[i];
}
#else
/* log2(TT_LANES) perfect shuffles. */
#define TT_LOG2_LANES (TT_LANES == 16 ? 4 : 2)

TT_INLINE void tt_transpose(tt_vf v[TT_LANES])
{
    tt_vf t[TT_LANES];
#pragma GCC unroll 4
    for (int stage = 0; stage < TT_LOG2_LANES; stage++) {
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES / 2; i++) {
            t[2 * i] = TT_ZIP_LOW(v[i], v[i + TT_LANES / 2]);
            t[2 * i + 1] = TT_ZIP_HIGH(v[i], v[i + TT_LANES / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            v[i] = t[i];
    }
}
#endif

/* Elements that tt_pack_a and tt_pack_b write for a block. */
#define TT_PADDED(n, unit)      (((n) + (unit)-1) / (unit) * (unit))
#define TT_PACKED_A(rows, k)    (TT_PADDED(rows, TT_MR) * TT_PADDED(k, TT_KU) + TT_LANES)
#define TT_PACKED_B(k, columns) (TT_PADDED(columns, TT_NR) * TT_PADDED(k, TT_KU))

/* Panels of TT_MR rows, one after another, of TT_MR * TT_PADDED(k, TT_KU) elements each:
 * [k][TT_MR], or what the microkernel of amx or avx512_bf16 wants. Missing rows are zero. */
void TT_BLOCKED(tt_pack_a)(tt_panel *to, int64_t rows, int64_t k, tt_operand a);
/* Panels of TT_NR columns likewise; b(p, j), missing columns are zero. A panel of any k is made of
 * those of its parts of a multiple of TT_KU, one after another. */
void TT_BLOCKED(tt_pack_b)(tt_panel *to, int64_t k, int64_t columns, tt_operand b);

/* Where a product starts from: element (i, j) is data[i * row + j]. */
typedef struct tt_start {
    const float *data;
    int64_t row; /* 0: the same for every row */
} tt_start;

#define TT_ZERO_START ((tt_start){TT_BLOCKED(tt_zeros), 0})
extern const float TT_BLOCKED(tt_zeros)[TT_NR];

/* Before a thread's first tt_micro of a product, and after its last. */
#if TT_TILES
void TT_BLOCKED(tt_begin)(void);
void TT_BLOCKED(tt_end)(void);
#else
TT_INLINE void TT_BLOCKED(tt_begin)(void) {}
TT_INLINE void TT_BLOCKED(tt_end)(void) {}
#endif

/* c(rows x columns) = start + a b over k in order, for at most TT_MR x TT_NR. a is a packed panel.
 * b is a packed panel: TT_NR columns, of which `columns` count. k is a multiple of TT_KU. Of start
 * and c only what counts is touched; start may be c. Meanwhile `feed` goes on at its pace. */
void TT_BLOCKED(tt_micro)(int64_t rows, int64_t columns, int64_t k, const tt_panel *a,
                          const tt_panel *b, float *c, int64_t c_row, tt_start start,
                          tt_feed *feed);
#if !TT_TILES
/* The same with a row-major block: step s of row i, which holds TT_KU elements of k, is
 * a[i * TT_A_ROW + s]. */
#define TT_A_ROW 96
void TT_BLOCKED(tt_micro_rows)(int64_t rows, int64_t columns, int64_t k, const tt_step *a,
                               const tt_panel *b, float *c, int64_t c_row, tt_start start);
/* The same with the transpose: step s of row i is a[s * TT_A_COLUMN + i]. It takes the room of the
 * TT_KU rows that it was made of. */
#define TT_A_COLUMN (TT_KU * TT_A_ROW)
void TT_BLOCKED(tt_micro_columns)(int64_t rows, int64_t columns, int64_t k, const tt_step *a,
                                  const tt_panel *b, float *c, int64_t c_row, tt_start start);
#endif

#endif
