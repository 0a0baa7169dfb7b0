/* The three products of a linear layer, blocked for caches by the context's tile. */
#include <assert.h>
#include <omp.h>

#include "gemm.h"

/* Multiply-adds that pay for a thread. */
#define TT_GRAIN_LINEAR 200000

typedef struct tt_product {
    int64_t rows, columns, k;
    tt_operand a;      /* a(i, p) */
    tt_operand b;      /* b(p, j) */
    float *c;          /* rows x columns, row-major */
    bool from_c;       /* starts from what stands in c */
    const float *bias; /* or from this row; or (NULL) from zero */
} tt_product;

static_assert((TT_PACKED_A(TT_TILE_MAX, TT_TILE_MAX) + 16 + TT_PACKED_B(TT_TILE_MAX, TT_TILE_MAX)) *
                      sizeof(float) <=
                  TT_SCRATCH_BYTES,
              "scratch holds the packed operands of the largest tile");

/* The rectangle of C that one thread computes. */
typedef struct tt_range {
    int64_t row_begin, row_end, column_begin, column_end;
} tt_range;

/* One block of C: rows x columns from packed operands. The panel of B stays in L1 while the
 * panels of A pass by. */
static void run_block(const float *a, const float *b, int64_t rows, int64_t columns, int64_t k,
                      float *c, int64_t c_row, tt_start start)
{
    for (int64_t j = 0; j < columns; j += TT_NR) {
        for (int64_t i = 0; i < rows; i += TT_MR) {
            tt_start here = {start.data + i * start.row + j, start.row};
            if (start.data == TT_BLOCKED(tt_zeros))
                here.data = start.data;
            TT_BLOCKED(tt_micro)
            (tt_min64(TT_MR, rows - i), tt_min64(TT_NR, columns - j), k, a + i * k, b + j * k,
             c + i * c_row + j, c_row, here);
        }
    }
}

static void run_range(const tt_product *product, tt_tile tile, char *scratch, tt_range range)
{
    int64_t block_rows = tt_round_up(tile.m, TT_MR);
    int64_t block_columns = tt_round_up(tile.n, TT_NR);
    int64_t block_k = tile.k;
    float *packed_a = (float *)scratch;
    float *packed_b = packed_a + tt_round_up(TT_PACKED_A(block_rows, block_k), 16);
    float bias[TT_TILE_MAX + TT_NR];
    for (int64_t j = range.column_begin; j < range.column_end; j += block_columns) {
        int64_t columns = tt_min64(block_columns, range.column_end - j);
        if (product->bias != NULL) { /* padded: the microkernel reads whole vectors */
            memcpy(bias, product->bias + j, (size_t)columns * sizeof *bias);
            memset(bias + columns, 0, TT_NR * sizeof *bias);
        }
        /* k == 0 still writes the start values. */
        for (int64_t p = 0; p == 0 || p < product->k; p += block_k) {
            int64_t k = tt_min64(block_k, product->k - p);
            tt_operand b = product->b;
            b.data += p * b.row + j * b.column;
            TT_BLOCKED(tt_pack_b)(packed_b, k, columns, b);
            for (int64_t i = range.row_begin; i < range.row_end; i += block_rows) {
                int64_t rows = tt_min64(block_rows, range.row_end - i);
                tt_operand a = product->a;
                a.data += i * a.row + p * a.column;
                TT_BLOCKED(tt_pack_a)(packed_a, rows, k, a);
                float *c = product->c + i * product->columns + j;
                tt_start start = {c, product->columns};
                if (p == 0 && !product->from_c)
                    start = product->bias != NULL ? (tt_start){bias, 0} : TT_ZERO_START;
                run_block(packed_a, packed_b, rows, columns, k, c, product->columns, start);
            }
        }
    }
}

/* Cuts C into a grid of `threads` rectangles. Each thread packs all of A for its rows and all of
 * B for its columns, so the grid with the least rows + columns per thread wins. */
static void split_grid(const tt_product *product, int threads, int *grid_rows)
{
    double least = INFINITY;
    for (int r = 1; r <= threads; r++) {
        if (threads % r != 0)
            continue;
        int c = threads / r;
        int64_t rows = tt_round_up((product->rows + r - 1) / r, TT_MR);
        int64_t columns = tt_round_up((product->columns + c - 1) / c, TT_NR);
        /* The multiply-adds of the largest part first, then the packing. */
        double cost = (double)rows * (double)columns + 8.0 * (double)(rows + columns);
        if (cost < least) {
            least = cost;
            *grid_rows = r;
        }
    }
}

static void run_product(const tt_exec *exec, const tt_product *product)
{
    if (product->rows == 0 || product->columns == 0)
        return;
    double work = (double)product->rows * (double)product->columns * (double)(product->k + 1);
    int threads = tt_threads_for(exec, work > 1e15 ? INT64_MAX : (int64_t)work, TT_GRAIN_LINEAR);
    if (threads == 1) {
        run_range(product, exec->tile, exec->scratch,
                  (tt_range){0, product->rows, 0, product->columns});
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        int team = omp_get_num_threads(), self = omp_get_thread_num(), grid_rows = 1;
        split_grid(product, team, &grid_rows);
        tt_range range;
        tt_part(product->rows, TT_MR, grid_rows, self % grid_rows, &range.row_begin,
                &range.row_end);
        tt_part(product->columns, TT_NR, team / grid_rows, self / grid_rows, &range.column_begin,
                &range.column_end);
        if (range.row_begin < range.row_end)
            run_range(product, exec->tile, exec->scratch + (size_t)self * exec->scratch_stride,
                      range);
    }
}

tt_status TT_BLOCKED(tt_linear_forward_f32)(const tt_exec *exec, const void *args)
{
    const tt_linear_forward_args *g = args;
    run_product(exec, &(tt_product){.rows = g->m,
                                    .columns = g->n,
                                    .k = g->k,
                                    .a = {g->x, g->k, 1},
                                    .b = {g->w, 1, g->k},
                                    .c = g->y,
                                    .bias = g->bias});
    return TT_OK;
}

tt_status TT_BLOCKED(tt_linear_dgrad_f32)(const tt_exec *exec, const void *args)
{
    const tt_linear_dgrad_args *g = args;
    run_product(exec, &(tt_product){.rows = g->m,
                                    .columns = g->k,
                                    .k = g->n,
                                    .a = {g->dy, g->n, 1},
                                    .b = {g->w, g->k, 1},
                                    .c = g->dx,
                                    .from_c = g->accumulate});
    return TT_OK;
}

/* Columns in parallel, rows in order: in cache-sized strips of columns. */
static void add_column_sums(const tt_exec *exec, int64_t rows, int64_t columns, const float *dy,
                            float *sums)
{
    int threads = tt_threads_for(exec, rows * columns, 65536);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        tt_part(columns, 16, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
        for (int64_t i = 0; i < rows; i++) {
            const float *row = dy + i * columns;
            int64_t j = begin;
            for (; j + TT_LANES <= end; j += TT_LANES)
                tt_vstore(sums + j, tt_vload(sums + j) + tt_vload(row + j));
            for (; j < end; j++)
                sums[j] += row[j];
        }
    }
}

tt_status TT_BLOCKED(tt_linear_wgrad_f32)(const tt_exec *exec, const void *args)
{
    const tt_linear_wgrad_args *g = args;
    run_product(exec, &(tt_product){.rows = g->n,
                                    .columns = g->k,
                                    .k = g->m,
                                    .a = {g->dy, 1, g->n},
                                    .b = {g->x, g->k, 1},
                                    .c = g->dw,
                                    .from_c = true});
    if (g->dbias != NULL)
        add_column_sums(exec, g->m, g->n, g->dy, g->dbias);
    return TT_OK;
}
