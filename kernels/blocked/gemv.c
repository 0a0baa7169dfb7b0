/* Products of few rows (decoding): bound by reading the weights, which pass by once and are packed
 * nowhere. Vectors run along the columns of C, the chain of each along k, so that the bits are
 * those of the blocked product: row-major weights are transposed in registers on the way. */
#include <omp.h>

#include "product.h"
#include "vbf16.h"

#if TT_ISA_LEVEL < 5

enum {
    ROWS = 4,
    GROUPS = 2,                /* vectors of columns at a time */
    WIDTH = GROUPS * TT_LANES, /* a panel */
    AHEAD = 512,               /* bytes that lines are prefetched ahead, panels twice as many */
    MOST_K = TT_SCRATCH_BYTES / (ROWS * sizeof(float)),
};

/* acc += x(r, p) * v, for every row. */
TT_INLINE void add_step(const int rows, tt_vf acc[ROWS][GROUPS], int group, const float *x,
                        int64_t k, int64_t p, tt_vf v)
{
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        acc[r][group] += x[r * k + p] * v;
}

/* Lines of the weights, contiguous in k; `lines` are those of WIDTH columns, `step` is the distance
 * to those of the next. */
TT_INLINE void sum_lines(const int rows, const bool round, tt_vf acc[ROWS][GROUPS], const float *x,
                         int64_t k, const float *const lines[WIDTH], int64_t step)
{
    const int64_t ahead = AHEAD / (int64_t)sizeof(float);
    int64_t p = 0;
    for (; p + TT_LANES <= k; p += TT_LANES) {
        int64_t next = p + ahead < k ? p + ahead : p + ahead - k + step;
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; g++) {
            tt_vf v[TT_LANES];
            if (p % 16 == 0)
                for (int i = 0; i < TT_LANES; i++)
                    __builtin_prefetch(lines[g * TT_LANES + i] + next, 0, 2);
#pragma GCC unroll 16
            for (int i = 0; i < TT_LANES; i++) {
                v[i] = tt_vload(lines[g * TT_LANES + i] + p);
                v[i] = round ? tt_vround_bf16(v[i]) : v[i];
            }
            tt_transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < TT_LANES; i++)
                add_step(rows, acc, g, x, k, p + i, v[i]);
        }
    }
    for (; p < k; p++)
        for (int g = 0; g < GROUPS; g++) {
            tt_vf v = {0};
            for (int i = 0; i < TT_LANES; i++)
                v[i] = lines[g * TT_LANES + i][p];
            add_step(rows, acc, g, x, k, p, round ? tt_vround_bf16(v) : v);
        }
}

/* A panel packed ahead. */
TT_INLINE void sum_panel(const int rows, const bool bf16, tt_vf acc[ROWS][GROUPS], const float *x,
                         int64_t k, const char *panel)
{
    const int64_t unit = bf16 ? 2 : 4;
    for (int64_t p = 0; p < k; p++)
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; g++) {
            const char *at = panel + (p * TT_NR + g * TT_LANES) * unit;
            if (g == 0)
                __builtin_prefetch(at + 2 * AHEAD, 0, 3);
            add_step(rows, acc, g, x, k, p,
                     bf16 ? tt_vload_bf16((const uint16_t *)(const void *)at)
                          : tt_vload((const float *)(const void *)at));
        }
}

/* C's columns from j on, at most WIDTH of them. What is beyond the last is the last again. */
TT_INLINE void run_columns(const int rows, const tt_product *product, const float *x, int64_t j)
{
    int64_t k = product->k, columns = tt_min64(WIDTH, product->columns - j);
    float sums[ROWS * WIDTH];
    tt_vf acc[ROWS][GROUPS];
    for (int64_t s = 0; s < WIDTH; s++)
        sums[s] = product->bias != NULL && s < columns ? product->bias[j + s] : 0;
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < GROUPS; g++)
            acc[r][g] = tt_vload(sums + g * TT_LANES);
    if (product->ahead.panels != NULL) {
        int64_t unit = product->ahead.bf16 ? 2 : 4;
        const char *panel = (const char *)product->ahead.panels + j * k * unit;
        if (product->ahead.bf16)
            sum_panel(rows, true, acc, x, k, panel);
        else
            sum_panel(rows, false, acc, x, k, panel);
    } else {
        const float *lines[WIDTH];
        for (int64_t s = 0; s < WIDTH; s++)
            lines[s] = (const float *)product->b.data + tt_min64(j + s, product->columns - 1) * k;
        if (product->b.round)
            sum_lines(rows, true, acc, x, k, lines, WIDTH * k);
        else
            sum_lines(rows, false, acc, x, k, lines, WIDTH * k);
    }
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < GROUPS; g++)
            tt_vstore(sums + r * WIDTH + g * TT_LANES, acc[r][g]);
    TT_BLOCKED(tt_product_finish)(product, 0, rows, j, columns, sums, WIDTH);
}

#define TT_CASE(count)                                                                             \
    case count:                                                                                    \
        for (int64_t j = begin; j < end; j += WIDTH)                                               \
            run_columns(count, product, x, j);                                                     \
        break;

static void run_rows(const tt_product *product, const float *x, int64_t begin, int64_t end)
{
    switch (product->rows) {
        TT_CASE(1)
        TT_CASE(2)
        TT_CASE(3)
        TT_CASE(4)
    default:
        break;
    }
}

/* The rows of A as floats, one after another. */
static const float *floats(const tt_product *product, void *scratch)
{
    if (!product->a.bf16)
        return product->a.data;
    const uint16_t *from = product->a.data;
    float *to = scratch;
    for (int64_t i = 0; i < product->rows * product->k; i++)
        to[i] = tt_bf16_to_f32(from[i]);
    return to;
}

bool TT_BLOCKED(tt_gemv_suits)(const tt_product *product)
{
    bool rows = product->rows <= ROWS && product->a.column == 1 && product->k <= MOST_K;
    bool lines = product->b.row == 1 && product->b.column == product->k;
    return rows && !product->from_c && (product->ahead.panels != NULL || lines);
}

void TT_BLOCKED(tt_gemv_run)(const tt_exec *exec, const tt_product *product, int threads)
{
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int self = omp_get_thread_num();
        int64_t begin, end;
        tt_part(product->columns, WIDTH, omp_get_num_threads(), self, &begin, &end);
        if (begin < end)
            run_rows(product, floats(product, exec->scratch + (size_t)self * exec->scratch_stride),
                     begin, end);
    }
}

#endif
