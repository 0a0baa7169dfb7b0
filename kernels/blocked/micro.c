/* The register microkernel; see gemm.h. */
#include "gemm.h"

const float TT_BLOCKED(tt_zeros)[TT_NR] __attribute__((aligned(64))) = {0};

/* Named accumulators: gcc keeps them in registers, an array of them it spills. `rows` is a constant
 * wherever the code below is used; what lies beyond it is dropped. */
#define TT_FOR_4(X) X(0) X(1) X(2) X(3)
#if TT_MR == 12
#define TT_FOR_ROWS(X)   TT_FOR_4(X) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define TT_FOR_COUNTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif TT_MR == 6
#define TT_FOR_ROWS(X)   TT_FOR_4(X) X(4) X(5)
#define TT_FOR_COUNTS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define TT_FOR_ROWS(X)   TT_FOR_4(X)
#define TT_FOR_COUNTS(X) X(1) X(2) X(3) X(4)
#endif

#define TT_ROW_BEGIN(i)                                                                            \
    tt_vf low##i = {0}, high##i = {0};                                                             \
    if ((i) < rows) {                                                                              \
        low##i = tt_vload(start.data + (i)*start.row);                                             \
        high##i = tt_vload(start.data + (i)*start.row + TT_LANES);                                 \
    }
#define TT_ROW_STEP(i)                                                                             \
    if ((i) < rows) {                                                                              \
        low##i = tt_multiply_add(low##i, a[(i)*row], b_low);                                       \
        high##i = tt_multiply_add(high##i, a[(i)*row], b_high);                                    \
    }
#define TT_ROW_END(i)                                                                              \
    if ((i) < rows) {                                                                              \
        tt_vstore(c + (i)*c_row, low##i);                                                          \
        tt_vstore(c + (i)*c_row + TT_LANES, high##i);                                              \
    }

/* Steps after which a few more lines are fetched: all at once would fill the line buffers. */
enum { FEED_STEPS = 32 };

/* rows x TT_NR with a(i, p) = a[i * row + p * column], in `k` steps. */
TT_INLINE void micro_rows(const int rows, int64_t k, const tt_step *a, int64_t row, int64_t column,
                          const float *b, float *c, int64_t c_row, tt_start start, tt_feed *feed)
{
    const int64_t parts = (k + FEED_STEPS - 1) / FEED_STEPS;
    const int64_t lines = feed != NULL && parts > 0 ? (feed->pace + parts - 1) / parts : 0;
    TT_FOR_ROWS(TT_ROW_BEGIN)
    for (int64_t rest = k; rest > 0; rest -= FEED_STEPS) {
        const int64_t steps = tt_min64(rest, FEED_STEPS);
        if (feed != NULL)
            tt_feed_some(feed, lines);
#pragma GCC unroll 4
        for (int64_t p = 0; p < steps; p++) {
            tt_vf b_low = tt_vload(b);
            tt_vf b_high = tt_vload(b + TT_LANES);
            TT_FOR_ROWS(TT_ROW_STEP)
            a += column;
            b += TT_NR;
        }
    }
    TT_FOR_ROWS(TT_ROW_END)
}

#define TT_CASE(count)                                                                             \
    case count:                                                                                    \
        micro_rows(count, k, a, row, column, b, c, c_row, start, feed);                            \
        break;

TT_INLINE void micro_whole(int64_t rows, int64_t k, const tt_step *a, int64_t row, int64_t column,
                           const float *b, float *c, int64_t c_row, tt_start start, tt_feed *feed)
{
    switch (rows) {
        TT_FOR_COUNTS(TT_CASE)
    default:
        break;
    }
}

/* At the right edge of C the same code works on a copy. */
TT_INLINE void micro(int64_t rows, int64_t columns, int64_t k, const tt_step *a, int64_t row,
                     int64_t column, const float *b, float *c, int64_t c_row, tt_start start,
                     tt_feed *feed)
{
    if (columns == TT_NR) {
        micro_whole(rows, k, a, row, column, b, c, c_row, start, feed);
        return;
    }
    float block[TT_MR * TT_NR] __attribute__((aligned(64)));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < TT_NR; j++)
            block[i * TT_NR + j] = j < columns ? start.data[i * start.row + j] : 0;
    micro_whole(rows, k, a, row, column, b, block, TT_NR, (tt_start){block, TT_NR}, feed);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * c_row, block + i * TT_NR, (size_t)columns * sizeof *c);
}

void TT_BLOCKED(tt_micro)(int64_t rows, int64_t columns, int64_t k, const tt_panel *a,
                          const tt_panel *b, float *c, int64_t c_row, tt_start start, tt_feed *feed)
{
    micro(rows, columns, k / TT_KU, (const tt_step *)(const void *)a, 1, TT_MR,
          (const float *)(const void *)b, c, c_row, start, feed);
}

void TT_BLOCKED(tt_micro_rows)(int64_t rows, int64_t columns, int64_t k, const tt_step *a,
                               const tt_panel *b, float *c, int64_t c_row, tt_start start)
{
    micro(rows, columns, k / TT_KU, a, TT_A_ROW, 1, (const float *)(const void *)b, c, c_row, start,
          NULL);
}

void TT_BLOCKED(tt_micro_columns)(int64_t rows, int64_t columns, int64_t k, const tt_step *a,
                                  const tt_panel *b, float *c, int64_t c_row, tt_start start)
{
    micro(rows, columns, k / TT_KU, a, 1, TT_A_COLUMN, (const float *)(const void *)b, c, c_row,
          start, NULL);
}
