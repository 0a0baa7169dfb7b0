/* Products of few rows (decoding): bound by reading the weights, which pass by once and are packed
 * nowhere. A thread reads several streams at once, far apart: one does not keep memory busy, and
 * many in one page slow each other down. Vectors run along columns of C, the chain of each along k,
 * so that the bits are those of the blocked product. */
#include <assert.h>
#include <omp.h>

#include "product.h"
#include "vbf16.h"
#if TT_PANELS_BF16
#include "avx512_bf16/lines.h"
#else
#include "lines.h"
#endif

enum {
    PANELS = 4,  /* streams of packed weights, times rows */
    STREAMS = 8, /* of row-major weights: no more than a set of L1 has ways */
};
static_assert(TT_NR % TT_LINES == 0 && TT_LINES % STREAMS == 0, "as many lines of each stream");

/* What a thread works on. */
typedef struct few_rows {
    const tt_product *product;
    const tt_step *x; /* [rows][steps] */
    int64_t steps;    /* of k */
} few_rows;

/* Sums start from the bias, if there is one, else from the zero that they are. */
static void start_sums(const tt_product *product, int64_t rows, int64_t j, float *sums,
                       int64_t sums_row)
{
    int64_t columns = tt_min64(TT_NR, product->columns - j);
    for (int64_t r = 0; r < rows && product->bias != NULL; r++)
        memcpy(sums + r * sums_row, product->bias + j, (size_t)columns * sizeof *sums);
}

static void finish(const tt_product *product, int64_t rows, int64_t j, const float *sums,
                   int64_t sums_row)
{
    int64_t columns = tt_min64(TT_NR, product->columns - j);
    TT_BLOCKED(tt_product_finish)(product, 0, rows, j, columns, sums, sums_row);
}

/* ---- packed ahead ---- */

/* Sums of `rows` rows by two vectors of columns of each stream, at most 8 in all. Named, as in
 * micro.c. */
#define TT_FOR_SUMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define TT_SUM_BEGIN(i)                                                                            \
    tt_vf sum##i = {0};                                                                            \
    if ((i) < rows * vectors)                                                                      \
        sum##i = tt_vload(sums + (i)*TT_LANES);
#define TT_SUM_STEP(i)                                                                             \
    if ((i) < rows * vectors)                                                                      \
        sum##i = tt_multiply_add(                                                                  \
            sum##i, x[(i) / vectors * steps + p],                                                  \
            load_panel(bf16, panel + (i) % vectors / 2 * apart, (i) % 2 * TT_LANES));
#define TT_SUM_END(i)                                                                              \
    if ((i) < rows * vectors)                                                                      \
        tt_vstore(sums + (i)*TT_LANES, sum##i);

TT_INLINE tt_vf load_panel(const bool bf16, const char *panel, int64_t i)
{
    return bf16 ? tt_vload_bf16((const uint16_t *)(const void *)panel + i)
                : tt_vload((const float *)(const void *)panel + i);
}

/* Panels of steps, or of bf16 that are widened to floats, `apart` bytes from each other: one of
 * each stream. */
TT_INLINE void sum_panels(const int rows, const int streams, const bool bf16, float *sums,
                          const tt_step *x, int64_t steps, const char *panel, int64_t apart)
{
    const int vectors = 2 * streams;
    const int64_t row = TT_NR * (bf16 ? 2 : 4), rows_of_line = row < TT_LINE ? TT_LINE / row : 1;
    TT_FOR_SUMS(TT_SUM_BEGIN)
    for (int64_t p = 0; p < steps; p++, panel += row) {
        if (p % rows_of_line == 0)
#pragma GCC unroll 4
            for (int i = 0; i < streams; i++)
                for (int64_t at = 0; at < row; at += TT_LINE)
                    __builtin_prefetch(panel + i * apart + at + TT_PANELS_AHEAD, 0, 3);
        TT_FOR_SUMS(TT_SUM_STEP)
    }
    TT_FOR_SUMS(TT_SUM_END)
}

/* A panel of each stream; they are `apart` columns from each other, the first at column j. */
TT_INLINE void run_panels(const int rows, const int streams, const few_rows *w, int64_t j,
                          int64_t apart)
{
    const tt_product *product = w->product;
    const bool narrow = !TT_PANELS_BF16 && product->ahead.bf16;
    const int64_t width = streams * TT_NR, column = w->steps * (narrow ? 2 : 4);
    const char *panel = (const char *)product->ahead.panels + j * column;
    float sums[2 * PANELS * TT_LANES] = {0};
    for (int64_t i = 0; i < streams; i++)
        start_sums(product, rows, j + i * apart, sums + i * TT_NR, width);
    if (narrow)
        sum_panels(rows, streams, true, sums, w->x, w->steps, panel, apart * column);
    else
        sum_panels(rows, streams, false, sums, w->x, w->steps, panel, apart * column);
    for (int64_t i = 0; i < streams; i++)
        finish(product, rows, j + i * apart, sums + i * TT_NR, width);
}

/* ---- as they are ---- */

/* `count` columns of each of the streams, which begin `apart` columns from each other, the first at
 * column j: a panel's width of each, or of all. Lines are those of the streams in turn. */
TT_INLINE void run_lines(const int rows, const few_rows *w, int64_t j, int64_t apart, int64_t count)
{
    enum { WIDTH = STREAMS * TT_NR };
    const tt_product *product = w->product;
    const int64_t last = product->columns - 1;
    float sums[TT_FEW_ROWS * WIDTH] = {0};
    for (int64_t i = 0; i < STREAMS * count; i += TT_NR)
        start_sums(product, rows, j + i / count * apart, sums + i, WIDTH);
    for (int64_t s = 0; s < count; s += TT_LINES / STREAMS) {
        const char *lines[TT_LINES];
        float here[TT_FEW_ROWS * TT_LINES], *at[TT_LINES];
        for (int64_t i = 0; i < TT_LINES; i++) { /* beyond the last column the last again */
            int64_t stream = i % STREAMS, column = s + i / STREAMS;
            int64_t line = tt_min64(j + stream * apart + column, last);
            lines[i] = tt_operand_at(product->b, 0, line).data;
            at[i] = sums + stream * count + column;
            for (int r = 0; r < rows; r++)
                here[r * TT_LINES + i] = at[i][r * WIDTH];
        }
        tt_sum_lines(rows, here, w->x, product->k, product->b, lines);
        for (int64_t i = 0; i < TT_LINES; i++)
            for (int r = 0; r < rows; r++)
                at[i][r * WIDTH] = here[r * TT_LINES + i];
    }
    for (int64_t i = 0; i < STREAMS * count; i += TT_NR)
        finish(product, rows, j + i / count * apart, sums + i, WIDTH);
}

/* ---- all of them ---- */

/* Columns [begin, end): the streams first, then what they leave. */
TT_INLINE void run_range(const int rows, const few_rows *w, int64_t begin, int64_t end)
{
    const bool ahead = w->product->ahead.panels != NULL;
    const int panels = rows < PANELS ? PANELS / rows : 1, streams = ahead ? panels : STREAMS;
    int64_t apart = (end - begin) / TT_NR / streams * TT_NR, j = begin;
    for (; j < begin + apart; j += TT_NR)
        if (ahead)
            run_panels(rows, panels, w, j, apart);
        else
            run_lines(rows, w, j, apart, TT_NR);
    for (j = begin + streams * apart; j < end; j += TT_NR)
        if (ahead)
            run_panels(rows, 1, w, j, TT_NR);
        else
            run_lines(rows, w, j, TT_NR / STREAMS, TT_NR / STREAMS);
}

#define TT_CASE(count)                                                                             \
    case count:                                                                                    \
        run_range(count, w, begin, end);                                                           \
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

bool TT_BLOCKED(tt_gemv_suits)(const tt_product *product)
{
    const int64_t most = (int64_t)(TT_SCRATCH_BYTES / (TT_FEW_ROWS * sizeof(tt_step))) * TT_KU;
    bool rows = product->rows <= TT_FEW_ROWS && product->a.column == 1 &&
                product->a.row == product->k && product->k > 0 && product->k <= most;
    bool lines = product->b.row == 1 && product->b.column == product->k;
    return rows && !product->from_c && (product->ahead.panels != NULL || lines);
}

void TT_BLOCKED(tt_gemv_run)(const tt_exec *exec, const tt_product *product, int threads)
{
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int self = omp_get_thread_num();
        void *scratch = exec->scratch + (size_t)self * exec->scratch_stride;
        int64_t begin, end;
        tt_part(product->columns, TT_NR, omp_get_num_threads(), self, &begin, &end);
        if (begin < end) {
            few_rows w = {product, tt_make_steps(product, scratch),
                          TT_PADDED(product->k, TT_KU) / TT_KU};
            run_rows(&w, begin, end);
        }
    }
}
