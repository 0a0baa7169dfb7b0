/* Packing and the register microkernel; see gemm.h. */
#include "gemm.h"

const float TT_BLOCKED(tt_zeros)[TT_NR] __attribute__((aligned(64))) = {0};

/* Rows are contiguous in k: transposed in registers, TT_LANES of k at a time. Storing whole
 * vectors at a distance of TT_MR leaves rubbish behind each row of the panel, which the next one
 * overwrites (hence the slack in TT_PACKED_A). */
static void pack_a_panel_rows(float *to, int64_t rows, int64_t k, const float *from, int64_t stride)
{
    int64_t p = 0;
    for (; p + TT_LANES <= k; p += TT_LANES) {
        tt_vf v[TT_LANES];
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            v[i] = i < TT_MR && i < rows ? tt_vload(from + i * stride + p) : (tt_vf){0};
        tt_transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            tt_vstore(to + (p + i) * TT_MR, v[i]);
    }
    for (; p < k; p++)
        for (int64_t i = 0; i < TT_MR; i++)
            to[p * TT_MR + i] = i < rows ? from[i * stride + p] : 0;
}

static void pack_a_panel_columns(float *to, int64_t rows, int64_t k, const float *from,
                                 int64_t stride)
{
    if (rows == TT_MR) {
        for (int64_t p = 0; p < k; p++)
            memcpy(to + p * TT_MR, from + p * stride, TT_MR * sizeof *to);
        return;
    }
    for (int64_t p = 0; p < k; p++)
        for (int64_t i = 0; i < TT_MR; i++)
            to[p * TT_MR + i] = i < rows ? from[p * stride + i] : 0;
}

void TT_BLOCKED(tt_pack_a)(float *to, int64_t rows, int64_t k, tt_operand a)
{
    for (int64_t i = 0; i < rows; i += TT_MR) {
        int64_t here = tt_min64(TT_MR, rows - i);
        if (a.column == 1)
            pack_a_panel_rows(to + i * k, here, k, a.data + i * a.row, a.row);
        else
            pack_a_panel_columns(to + i * k, here, k, a.data + i, a.column);
    }
}

/* Columns are contiguous in k: transposed in registers. */
static void pack_b_panel_columns(float *to, int64_t k, int64_t columns, const float *from,
                                 int64_t stride)
{
    for (int64_t j = 0; j < TT_NR; j += TT_LANES) {
        int64_t p = 0;
        for (; p + TT_LANES <= k; p += TT_LANES) {
            tt_vf v[TT_LANES];
#pragma GCC unroll 16
            for (int i = 0; i < TT_LANES; i++)
                v[i] = j + i < columns ? tt_vload(from + (j + i) * stride + p) : (tt_vf){0};
            tt_transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < TT_LANES; i++)
                tt_vstore(to + (p + i) * TT_NR + j, v[i]);
        }
        for (; p < k; p++)
            for (int64_t i = 0; i < TT_LANES; i++)
                to[p * TT_NR + j + i] = j + i < columns ? from[(j + i) * stride + p] : 0;
    }
}

static void pack_b_panel_rows(float *to, int64_t k, int64_t columns, const float *from,
                              int64_t stride)
{
    if (columns == TT_NR) {
        for (int64_t p = 0; p < k; p++)
            memcpy(to + p * TT_NR, from + p * stride, TT_NR * sizeof *to);
        return;
    }
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < TT_NR; j++)
            to[p * TT_NR + j] = j < columns ? from[p * stride + j] : 0;
}

void TT_BLOCKED(tt_pack_b)(float *to, int64_t k, int64_t columns, tt_operand b)
{
    for (int64_t j = 0; j < columns; j += TT_NR) {
        int64_t here = tt_min64(TT_NR, columns - j);
        if (b.column == 1)
            pack_b_panel_rows(to + j * k, k, here, b.data + j, b.row);
        else
            pack_b_panel_columns(to + j * k, k, here, b.data + j * b.column, b.column);
    }
}

/* Named accumulators: gcc keeps them in registers, an array of them it spills. */
#if TT_MR == 12
#define TT_FOR_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#elif TT_MR == 6
#define TT_FOR_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#else
#define TT_FOR_ROWS(X) X(0) X(1) X(2) X(3)
#endif

#define TT_ROW_BEGIN(i)                                                                            \
    tt_vf low##i = tt_vload(start.data + (i)*start.row);                                           \
    tt_vf high##i = tt_vload(start.data + (i)*start.row + TT_LANES);
#define TT_ROW_STEP(i)                                                                             \
    low##i += a[(i)*row] * b_low;                                                                  \
    high##i += a[(i)*row] * b_high;
#define TT_ROW_END(i)                                                                              \
    tt_vstore(c + (i)*c_row, low##i);                                                              \
    tt_vstore(c + (i)*c_row + TT_LANES, high##i);

/* TT_MR x TT_NR with a(i, p) = a[i * row + p * column]. */
TT_INLINE void micro_full(int64_t k, const float *a, int64_t row, int64_t column, const float *b,
                          float *c, int64_t c_row, tt_start start)
{
    TT_FOR_ROWS(TT_ROW_BEGIN)
    for (int64_t p = 0; p < k; p++) {
        tt_vf b_low = tt_vload(b);
        tt_vf b_high = tt_vload(b + TT_LANES);
        TT_FOR_ROWS(TT_ROW_STEP)
        a += column;
        b += TT_NR;
    }
    TT_FOR_ROWS(TT_ROW_END)
}

/* One row: for the few rows of decoding. */
TT_INLINE void micro_row(int64_t k, const float *a, int64_t column, const float *b, float *c,
                         const float *start)
{
    tt_vf low = tt_vload(start);
    tt_vf high = tt_vload(start + TT_LANES);
    for (int64_t p = 0; p < k; p++) {
        low += a[p * column] * tt_vload(b + p * TT_NR);
        high += a[p * column] * tt_vload(b + p * TT_NR + TT_LANES);
    }
    tt_vstore(c, low);
    tt_vstore(c + TT_LANES, high);
}

/* At the edges of C the same code works on a copy. */
TT_INLINE void micro_edge(int64_t rows, int64_t columns, int64_t k, const float *a, int64_t row,
                          int64_t column, const float *b, float *c, int64_t c_row, tt_start start)
{
    float block[TT_MR * TT_NR] __attribute__((aligned(64)));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < TT_NR; j++)
            block[i * TT_NR + j] = j < columns ? start.data[i * start.row + j] : 0;
    if (rows <= 2) {
        for (int64_t i = 0; i < rows; i++)
            micro_row(k, a + i * row, column, b, block + i * TT_NR, block + i * TT_NR);
    } else {
        memset(block + rows * TT_NR, 0, (size_t)((TT_MR - rows) * TT_NR) * sizeof *block);
        micro_full(k, a, row, column, b, block, TT_NR, (tt_start){block, TT_NR});
    }
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * c_row, block + i * TT_NR, (size_t)columns * sizeof *c);
}

void TT_BLOCKED(tt_micro)(int64_t rows, int64_t columns, int64_t k, const float *a, const float *b,
                          float *c, int64_t c_row, tt_start start)
{
    if (rows == TT_MR && columns == TT_NR)
        micro_full(k, a, 1, TT_MR, b, c, c_row, start);
    else
        micro_edge(rows, columns, k, a, 1, TT_MR, b, c, c_row, start);
}

void TT_BLOCKED(tt_micro_rows)(int64_t rows, int64_t columns, int64_t k, const float *a,
                               const float *b, float *c, int64_t c_row, tt_start start)
{
    if (rows == TT_MR && columns == TT_NR)
        micro_full(k, a, TT_A_ROW, 1, b, c, c_row, start);
    else
        micro_edge(rows, columns, k, a, TT_A_ROW, 1, b, c, c_row, start);
}

void TT_BLOCKED(tt_micro_columns)(int64_t rows, int64_t columns, int64_t k, const float *a,
                                  const float *b, float *c, int64_t c_row, tt_start start)
{
    if (rows == TT_MR && columns == TT_NR)
        micro_full(k, a, 1, TT_A_ROW, b, c, c_row, start);
    else
        micro_edge(rows, columns, k, a, 1, TT_A_ROW, b, c, c_row, start);
}
