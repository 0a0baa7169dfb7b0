/* Products of few rows over pairs (decoding), as in blocked/gemv.c: bound by reading the weights,
 * which pass by once, several streams far apart at a time. The chain of each column is that of the
 * blocked product, and so are its bits. */
#include <omp.h>

#include "blocked/product.h"
#include "pairs.h"

enum {
    ROWS = 4,
    LINE = 64,           /* bytes */
    PANELS = 4,          /* streams of packed weights, times rows */
    STREAMS = 8,         /* of row-major weights: no more than a set of L1 has ways */
    PANELS_AHEAD = 1024, /* bytes that each is prefetched ahead */
    LINES_AHEAD = 512,
    MOST_K = TT_SCRATCH_BYTES / (ROWS * sizeof(uint16_t)) - 1,
};

/* What a thread works on. */
typedef struct few_rows {
    const tt_product *product;
    const tt_pair *x; /* [rows][steps] */
    int64_t steps;    /* pairs of k, of which the last may be half zero */
} few_rows;

/* Sums start from the bias, if there is one, else from the zero that they are. */
static void start_sums(const tt_product *product, float *sums, int64_t j, int64_t columns)
{
    int64_t here = tt_min64(columns, product->columns - j);
    if (product->bias != NULL && here > 0)
        memcpy(sums, product->bias + j, (size_t)here * sizeof *sums);
}

static void finish(const tt_product *product, int64_t rows, int64_t j, const float *sums,
                   int64_t sums_row)
{
    int64_t columns = tt_min64(TT_NR, product->columns - j);
    if (columns > 0)
        TT_BLOCKED(tt_product_finish)(product, 0, rows, j, columns, sums, sums_row);
}

/* ---- packed ahead ---- */

/* Sums of `rows` rows by two vectors of columns of each stream, at most 8 in all. Named, as in
 * blocked/micro.c. */
#define TT_FOR_SUMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define TT_SUM_BEGIN(i)                                                                            \
    tt_vf sum##i = {0};                                                                            \
    if ((i) < rows * vectors)                                                                      \
        sum##i = tt_vload(sums + (i)*TT_LANES);
#define TT_SUM_STEP(i)                                                                             \
    if ((i) < rows * vectors)                                                                      \
        sum##i = tt_vdot(sum##i, w->x[(i) / vectors * w->steps + p],                               \
                         tt_vload(panel + (i) % vectors / 2 * apart + (i) % 2 * TT_LANES));
#define TT_SUM_END(i)                                                                              \
    if ((i) < rows * vectors)                                                                      \
        tt_vstore(sums + (i)*TT_LANES, sum##i);

/* Panels `apart` pairs from each other: one of each stream. */
TT_INLINE void sum_panels(const int rows, const int streams, const few_rows *w, float *sums,
                          const float *panel, int64_t apart)
{
    const int vectors = 2 * streams;
    TT_FOR_SUMS(TT_SUM_BEGIN)
    for (int64_t p = 0; p < w->steps; p++, panel += TT_NR) {
#pragma GCC unroll 4
        for (int i = 0; i < streams; i++)
            for (int at = 0; at < TT_NR * 4; at += LINE)
                __builtin_prefetch((const char *)(panel + i * apart) + at + PANELS_AHEAD, 0, 3);
        TT_FOR_SUMS(TT_SUM_STEP)
    }
    TT_FOR_SUMS(TT_SUM_END)
}

/* A panel of each stream; they are `apart` columns from each other, the first at column j. */
TT_INLINE void run_panels(const int rows, const int streams, const few_rows *w, int64_t j,
                          int64_t apart)
{
    const int64_t width = streams * TT_NR;
    float sums[2 * PANELS * TT_LANES] = {0};
    for (int64_t i = 0; i < streams; i++)
        for (int64_t r = 0; r < rows; r++)
            start_sums(w->product, sums + r * width + i * TT_NR, j + i * apart, TT_NR);
    sum_panels(rows, streams, w, sums, (const float *)w->product->ahead.panels + j * w->steps,
               apart * w->steps);
    for (int64_t i = 0; i < streams; i++)
        finish(w->product, rows, j + i * apart, sums + i * TT_NR, width);
}

/* ---- as they are ---- */

/* Where the sum of line i stands: lines are those of `streams` streams in turn. */
TT_INLINE int64_t sum_at(int64_t i, const int streams)
{
    return i % streams * TT_NR + i / streams;
}

/* sums[r][sum_at(i)] += the product of row r and line i. */
TT_INLINE void sum_lines(const int rows, const int streams, const bool bf16, const few_rows *w,
                         float *sums, const void *const lines[TT_LANES])
{
    const int64_t element = bf16 ? 2 : 4, k = w->product->k, row = streams * TT_NR;
    float here[ROWS][TT_LANES];
    tt_vf s[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        for (int64_t i = 0; i < TT_LANES; i++)
            here[r][i] = sums[r * row + sum_at(i, streams)];
        s[r] = tt_vload(here[r]);
    }
    for (int64_t p = 0; p < k; p += 2 * TT_LANES) {
        tt_vf v[TT_LANES];
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            v[i] = (tt_vf)tt_load_line(lines[i], p, k - p, bf16);
        tt_transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++) {
            /* Not all at once: that would fill the line buffers. */
            for (int64_t at = 0; at < 2 * TT_LANES * element; at += LINE)
                __builtin_prefetch((const char *)lines[i] + p * element + LINES_AHEAD + at, 0, 3);
            if (p / 2 + i < w->steps)
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++)
                    s[r] = tt_vdot(s[r], w->x[r * w->steps + p / 2 + i], v[i]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        tt_vstore(here[r], s[r]);
        for (int64_t i = 0; i < TT_LANES; i++)
            sums[r * row + sum_at(i, streams)] = here[r][i];
    }
}

/* TT_NR columns of each of `streams` streams that begin `apart` columns from each other, the first
 * at column j. */
TT_INLINE void run_lines(const int rows, const int streams, const bool bf16, const few_rows *w,
                         int64_t j, int64_t apart)
{
    const int64_t width = streams * TT_NR, last = w->product->columns - 1;
    float sums[ROWS * STREAMS * TT_NR];
    memset(sums, 0, sizeof sums);
    for (int64_t i = 0; i < streams; i++)
        for (int r = 0; r < rows; r++)
            start_sums(w->product, sums + r * width + i * TT_NR, j + i * apart, TT_NR);
    for (int64_t s = 0; s < TT_NR; s += TT_LANES / streams) {
        const void *lines[TT_LANES];
        for (int64_t i = 0; i < TT_LANES; i++) { /* beyond the last column the last again */
            int64_t column = j + s + i % streams * apart + i / streams;
            lines[i] = tt_operand_at(w->product->b, 0, tt_min64(column, last)).data;
        }
        sum_lines(rows, streams, bf16, w, sums + s, lines);
    }
    for (int64_t i = 0; i < streams; i++)
        finish(w->product, rows, j + i * apart, sums + i * TT_NR, width);
}

/* ---- columns [begin, end) ---- */

/* The streams first, then what they leave. */
TT_INLINE void run_ahead(const int rows, const few_rows *w, int64_t begin, int64_t end)
{
    const int streams = rows < PANELS ? PANELS / rows : 1;
    int64_t apart = (end - begin) / TT_NR / streams * TT_NR;
    for (int64_t j = begin; j < begin + apart; j += TT_NR)
        run_panels(rows, streams, w, j, apart);
    for (int64_t j = begin + streams * apart; j < end; j += TT_NR)
        run_panels(rows, 1, w, j, TT_NR);
}

TT_INLINE void run_plain(const int rows, const bool bf16, const few_rows *w, int64_t begin,
                         int64_t end)
{
    int64_t apart = (end - begin) / TT_NR / STREAMS * TT_NR;
    for (int64_t j = begin; j < begin + apart; j += TT_NR)
        run_lines(rows, STREAMS, bf16, w, j, apart);
    for (int64_t j = begin + STREAMS * apart; j < end; j += TT_NR)
        run_lines(rows, 1, bf16, w, j, TT_NR);
}

#define TT_CASE(count)                                                                             \
    case count:                                                                                    \
        if (w->product->ahead.panels != NULL)                                                      \
            run_ahead(count, w, begin, end);                                                       \
        else if (w->product->b.bf16)                                                               \
            run_plain(count, true, w, begin, end);                                                 \
        else                                                                                       \
            run_plain(count, false, w, begin, end);                                                \
        break;

static void run_rows(const few_rows *w, int64_t begin, int64_t end)
{
    switch (w->product->rows) {
        TT_CASE(1)
        TT_CASE(2)
        TT_CASE(3)
        TT_CASE(4)
    default:
        break;
    }
}

/* The rows of A, each of whole pairs. */
static const tt_pair *make_pairs(const tt_product *product, int64_t steps, void *scratch)
{
    const uint16_t *from = product->a.data;
    uint16_t *to = scratch;
    for (int64_t r = 0; r < product->rows; r++, to += 2 * steps, from += product->k) {
        to[2 * steps - 1] = 0;
        memcpy(to, from, (size_t)product->k * sizeof *to);
    }
    return scratch;
}

bool TT_BLOCKED(tt_gemv_suits)(const tt_product *product)
{
    bool rows = product->rows <= ROWS && product->a.column == 1 && product->a.row == product->k &&
                product->k > 0 && product->k <= MOST_K;
    bool lines = product->b.row == 1 && product->b.column == product->k;
    return rows && !product->from_c && (product->ahead.panels != NULL || lines);
}

void TT_BLOCKED(tt_gemv_run)(const tt_exec *exec, const tt_product *product, int threads)
{
    const int64_t steps = TT_PADDED(product->k, TT_KU) / 2;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int self = omp_get_thread_num();
        void *scratch = exec->scratch + (size_t)self * exec->scratch_stride;
        int64_t begin, end;
        tt_part(product->columns, TT_NR, omp_get_num_threads(), self, &begin, &end);
        if (begin < end) {
            few_rows w = {product, make_pairs(product, steps, scratch), steps};
            run_rows(&w, begin, end);
        }
    }
}
