/* One matrix product: blocks for the caches, of the context's tile, and parts for the threads.
 *
 * Loops from the outside in: parts of C whose operand A, packed, fits what a thread has for it
 * (chunks), then the five loops of BLIS with the tile's n, k and m. A block of A is packed when the
 * first columns need it, a panel of B when the first rows do, just before it is used; where no
 * others need it, the next one takes its place, which so stays in the caches. */
#include <assert.h>
#include <omp.h>

#include "product.h"
#include "vbf16.h"

/* Multiply-adds that pay for a thread. */
#define TT_GRAIN_LINEAR 200000

/* A thread's scratch: packed panels of B, sums that are not floats in C yet, packed A, each of at
 * most: */
enum {
    B_BYTES = 1 << 20,
    SUMS_BYTES = 1 << 20,
    A_BYTES = (int)TT_SCRATCH_BYTES - B_BYTES - SUMS_BYTES,
    A_ELEMENTS = A_BYTES / (int)sizeof(tt_panel) - TT_LANES,
    SUMS = SUMS_BYTES / (int)sizeof(float),
    /* Rows and depth that a chunk of A has at least. */
    LEAST_ROWS = 256,
    LEAST_K = 1024,
};
static_assert(TT_PACKED_B(TT_TILE_MAX, TT_TILE_MAX) * sizeof(tt_panel) <= B_BYTES,
              "scratch holds the packed block of B of the largest tile");
static_assert(LEAST_ROWS * LEAST_K <= A_ELEMENTS && LEAST_ROWS % TT_KU == 0, "a chunk of A fits");

/* A part of rows, columns or k. */
typedef struct tt_span {
    int64_t begin, end;
} tt_span;

/* One thread's work. */
typedef struct tt_worker {
    const tt_product *product;
    tt_tile block; /* the tile in whole panels */
    int64_t chunk_rows, chunk_columns, chunk_k;
    tt_panel *packed_a, *packed_b;
    float *sums;              /* strips of TT_NR columns by chunk_rows; NULL: C holds them */
    tt_span rows, columns, k; /* of the current chunk */
    bool a_once;              /* each block of A is for one block of columns only */
    bool a_packed;            /* those of the chunk are there */
    tt_feed feed;             /* the next panels of B */
} tt_worker;

static int64_t padded_k(int64_t k)
{
    return TT_PADDED(k, TT_KU);
}

/* The block of A of rows from i on and of k from p on. */
static tt_panel *block_a(const tt_worker *w, int64_t i, int64_t p, int64_t k)
{
    int64_t rows = tt_round_up(w->rows.end - w->rows.begin, TT_MR);
    if (w->a_once)
        return w->packed_a;
    return w->packed_a + (p - w->k.begin) * rows + (i - w->rows.begin) * padded_k(k);
}

#if !TT_PANELS_BF16
static void widen_panel(float *to, const uint16_t *from, int64_t k)
{
    for (int64_t i = 0; i < k * TT_NR; i += TT_LANES)
        tt_vstore(to + i, tt_vload_bf16(from + i));
}
#endif

/* Panels of B that are packed at a time: of a row-major one several, for whole cache lines. */
static int64_t panels_at_once(const tt_product *product)
{
    return product->ahead.panels == NULL && product->b.column == 1 ? tt_max64(1, 64 / TT_NR) : 1;
}

/* Panels of B packed ahead: those of columns from j on and of k from p on. */
static const char *panel_ahead(const tt_product *product, int64_t p, int64_t j)
{
    int64_t at = j * padded_k(product->k) + p * TT_NR;
    return (const char *)product->ahead.panels +
           at * (product->ahead.bf16 ? 2 : (int64_t)sizeof(tt_panel));
}

/* Makes the panels of columns [j, end) and of k from p on the next to be fetched, in the time of
 * `micros` microkernels. */
static void plan_feed(tt_worker *w, int64_t p, int64_t k, int64_t j, int64_t end, int64_t micros)
{
    const tt_product *product = w->product;
    int64_t columns = tt_min64(end, product->columns) - j;
    w->feed = (tt_feed){0};
    if (columns <= 0 || k <= 0)
        return;
    if (product->ahead.panels != NULL) {
        const char *panel = panel_ahead(product, p, j);
        w->feed =
            (tt_feed){.at = panel, .length = panel_ahead(product, p + k, j) - panel, .lines = 1};
    } else {
        tt_operand b = tt_operand_at(product->b, p, j);
        int64_t unit = b.bf16 ? 2 : 4;
        bool by_row = b.column == 1;
        w->feed = (tt_feed){.at = b.data,
                            .stride = (by_row ? b.row : b.column) * unit,
                            .length = (by_row ? columns : k) * unit,
                            .lines = by_row ? k : columns};
    }
    w->feed.pace = w->feed.lines * ((w->feed.length + TT_LINE - 1) / TT_LINE) / micros + 1;
}

/* What follows the panels of B of columns [.., s) of [j, end) and of k from p on, in the time of
 * `micros` microkernels for each: panels beside them, else the first of the next block of k. */
static void plan_next(tt_worker *w, int64_t j, int64_t end, int64_t s, int64_t p, int64_t k,
                      int64_t micros)
{
    const int64_t panels = panels_at_once(w->product), group = panels * TT_NR;
    if (s >= end) {
        s = j;
        p += k;
        k = tt_min64(w->block.k, w->product->k - p);
    }
    plan_feed(w, p, k, s, tt_min64(s + group, end), micros * panels);
}

/* Brings the panels of B of columns [j, end) and of k from p on into their place `to`. */
static void fetch_panels(const tt_worker *w, int64_t p, int64_t k, int64_t j, int64_t end,
                         tt_panel *to)
{
    const tt_product *product = w->product;
#if !TT_PANELS_BF16
    if (product->ahead.bf16 && product->ahead.panels != NULL) {
        widen_panel(to, (const uint16_t *)(const void *)panel_ahead(product, p, j), k);
        return;
    }
#endif
    if (product->ahead.panels == NULL)
        TT_BLOCKED(tt_pack_b)
    (to, k, tt_min64(end, product->columns) - j, tt_operand_at(product->b, p, j));
}

/* Sums start from bf16 in C. */
static void load_sums(const tt_product *product, int64_t i, int64_t rows, int64_t j,
                      int64_t columns, float *sums, int64_t sums_row)
{
    const uint16_t *c = (const uint16_t *)product->c + i * product->columns + j;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t s = 0; s < TT_NR; s++)
            sums[r * sums_row + s] = s < columns ? tt_bf16_to_f32(c[r * product->columns + s]) : 0;
}

/* One microkernel; where rows of C follow (`more`), they are fetched (that of AMX does it). */
static void run_micro(tt_worker *w, int64_t rows, int64_t columns, int64_t k, const tt_panel *a,
                      const tt_panel *b, float *c, int64_t c_row, tt_start start, bool more)
{
    for (int64_t next = TT_MR; !TT_TILES && more && next < 2 * TT_MR; next++)
        __builtin_prefetch(c + next * c_row, 1, 3);
    TT_BLOCKED(tt_micro)(rows, columns, k, a, b, c, c_row, start, &w->feed);
}

/* One strip of a block of C: rows x at most TT_NR columns, k from p on. The panel of B stays in L1
 * while the panels of A pass by. */
static void run_strip(tt_worker *w, int64_t i, int64_t rows, int64_t j, int64_t p, int64_t k,
                      const tt_panel *a, const tt_panel *b)
{
    const tt_product *product = w->product;
    int64_t columns = tt_min64(TT_NR, product->columns - j), width = columns;
    int64_t c_row = product->columns, depth = padded_k(k);
    float *c = (float *)product->c + i * c_row + j;
    float bias[TT_NR] = {0};
    if (w->sums != NULL) { /* there is room for whole panels */
        width = TT_NR;
        c_row = TT_NR;
        c = w->sums + (j - w->columns.begin) * w->chunk_rows + (i - w->rows.begin) * c_row;
    }
    tt_start start = {c, c_row};
    if (p == 0 && product->from_c) {
        if (product->bf16)
            load_sums(product, i, rows, j, columns, c, c_row);
    } else if (p == 0) {
        start = (tt_start){TT_BLOCKED(tt_zeros), 0};
        if (product->bias != NULL) {
            memcpy(bias, product->bias + j, (size_t)columns * sizeof *bias);
            start.data = bias;
        }
    }
    for (int64_t r = 0; r < rows; r += TT_MR) {
        tt_start here = {start.data + r * start.row, start.row};
        run_micro(w, tt_min64(TT_MR, rows - r), width, depth, a + r * depth, b, c + r * c_row,
                  c_row, here, r + TT_MR < rows);
    }
    bool more =
        product->bf16 || product->stream || product->gelu != NULL || product->gelu_x != NULL;
    if (more && p + k == product->k)
        TT_BLOCKED(tt_product_finish)(product, i, rows, j, columns, c, c_row);
}

/* The blocks of C with columns [j, end), k from p on. The first columns bring A along, the first
 * rows B. */
static void run_blocks(tt_worker *w, int64_t j, int64_t end, int64_t p, int64_t k)
{
    const tt_product *product = w->product;
    bool in_place = product->ahead.panels != NULL && !product->ahead.bf16;
    bool b_once = w->rows.end - w->rows.begin <= w->block.m;
    int64_t depth = padded_k(k), group = panels_at_once(product) * TT_NR;
    for (int64_t i = w->rows.begin; i < w->rows.end; i += w->block.m) {
        int64_t rows = tt_min64(w->block.m, w->rows.end - i);
        tt_panel *a = block_a(w, i, p, k);
        if (!w->a_packed)
            TT_BLOCKED(tt_pack_a)(a, rows, k, tt_operand_at(product->a, i, p));
        for (int64_t s = j; s < end; s += TT_NR) {
            tt_panel *b = w->packed_b + (b_once ? (s - j) % group : s - j) * depth;
            if (i == w->rows.begin && (s - j) % group == 0) {
                fetch_panels(w, p, k, s, tt_min64(s + group, end), b);
                plan_next(w, j, end, s + group, p, k, tt_round_up(rows, TT_MR) / TT_MR);
            }
            run_strip(w, i, rows, s, p, k, a,
                      in_place ? (const tt_panel *)(const void *)panel_ahead(product, p, s) : b);
        }
    }
}

static void run_chunk(tt_worker *w)
{
    for (int64_t j = w->columns.begin; j < w->columns.end; j += w->block.n) {
        int64_t end = tt_min64(j + w->block.n, w->columns.end);
        /* k == 0 still writes the start values. */
        int64_t p = w->k.begin;
        do {
            int64_t k = tt_min64(w->block.k, w->k.end - p);
            run_blocks(w, j, end, p, k);
            p += w->block.k;
        } while (p < w->k.end);
        w->a_packed = true;
    }
}

/* The next part of at most `most` from begin on. */
static tt_span next_part(int64_t begin, int64_t end, int64_t most)
{
    return (tt_span){begin, tt_min64(begin + most, end)};
}

static void run_worker(tt_worker *w, tt_span rows, tt_span columns)
{
    int64_t all_k = w->product->k;
    bool all_columns = w->chunk_columns >= columns.end - columns.begin;
    bool kept = w->chunk_k >= all_k && !all_columns; /* A, for the next chunk of columns */
    for (int64_t i = rows.begin; i < rows.end; i += w->chunk_rows) {
        w->rows = next_part(i, rows.end, w->chunk_rows);
        for (int64_t j = columns.begin; j < columns.end; j += w->chunk_columns) {
            w->columns = next_part(j, columns.end, w->chunk_columns);
            w->a_once = !kept && w->columns.end - j <= w->block.n;
            int64_t p = 0;
            do {
                w->k = next_part(p, all_k, w->chunk_k);
                w->a_packed = kept && j > columns.begin;
                run_chunk(w);
                p += w->chunk_k;
            } while (p < all_k);
        }
    }
}

/* At most `most`, in equal parts of n, of whole units. */
static int64_t even_part(int64_t n, int64_t most, int64_t unit)
{
    int64_t parts = (n + most - 1) / most;
    return tt_round_up((n + parts - 1) / parts, unit);
}

/* Chunks as large as scratch allows. Sums in C may be continued later, so there all rows come
 * first, and then k; sums in scratch are continued at once, so k comes first. */
static void plan_chunks(tt_worker *w, int64_t rows, int64_t columns)
{
    int64_t k = tt_max64(padded_k(w->product->k), TT_KU), unit = w->block.k;
    int64_t least = w->sums != NULL ? LEAST_ROWS : tt_max64(LEAST_ROWS, tt_round_up(rows, TT_MR));
    int64_t most_k = tt_max64(LEAST_K, A_ELEMENTS / least / unit * unit);
    if (w->sums != NULL && k > most_k)
        most_k = LEAST_K;
    w->chunk_k = k <= most_k ? tt_round_up(k, unit) : tt_max64(unit, most_k / unit * unit);
    int64_t most_rows = A_ELEMENTS / tt_min64(k, w->chunk_k) / TT_MR * TT_MR;
    w->chunk_columns = columns;
    if (w->sums != NULL)
        most_rows = tt_min64(most_rows, TT_TILE_MAX * 2 / TT_MR * TT_MR);
    w->chunk_rows = even_part(rows, most_rows, TT_MR);
    if (w->sums != NULL) {
        int64_t most_columns = SUMS / w->chunk_rows / TT_NR * TT_NR;
        w->chunk_columns = tt_min64(tt_round_up(columns, TT_NR), most_columns);
    }
}

/* The rectangle of C that one thread computes. */
static void run_range(const tt_product *product, tt_tile tile, char *scratch, tt_span rows,
                      tt_span columns)
{
    tt_worker w = {
        .product = product,
        .block = {(int)tt_round_up(tile.m, TT_MR), (int)tt_round_up(tile.n, TT_NR),
                  (int)tt_round_up(tile.k, TT_KU)},
        .packed_b = (tt_panel *)(void *)scratch,
    };
    /* Close together: a small product touches little memory. */
    scratch += tt_round_up(TT_PACKED_B(w.block.k, w.block.n) * (int64_t)sizeof(tt_panel), TT_LINE);
    w.sums = product->bf16 || product->stream ? (float *)(void *)scratch : NULL;
    plan_chunks(&w, rows.end - rows.begin, columns.end - columns.begin);
    if (w.sums != NULL)
        scratch += tt_round_up(w.chunk_rows * w.chunk_columns * (int64_t)sizeof(float), TT_LINE);
    w.packed_a = (tt_panel *)(void *)scratch;
    run_worker(&w, rows, columns);
}

/* Cuts C into a grid of `threads` rectangles. Each thread packs all of A for its rows and all of
 * B for its columns, so the grid with the least rows + columns per thread wins. */
static int grid_rows(const tt_product *product, int threads)
{
    double least = INFINITY;
    int best = 1;
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
            best = r;
        }
    }
    return best;
}

/* Large results of floats that start from nothing go past the caches: next to products of bf16
 * storing them takes long, and a store that fetches what it overwrites moves twice the bytes. */
static bool streams(const tt_exec *exec, const tt_product *product)
{
    double bytes = (double)product->rows * (double)product->columns * sizeof(float);
    return TT_PANELS_BF16 && !product->bf16 && !product->from_c && product->gelu == NULL &&
           product->gelu_x == NULL && bytes >= (double)exec->stream_bytes;
}

void TT_BLOCKED(tt_product_run)(const tt_exec *exec, const tt_product *what)
{
    tt_product streamed = *what, *product = &streamed;
    product->stream = streams(exec, what);
    if (product->rows == 0 || product->columns == 0)
        return;
    double work = (double)product->rows * (double)product->columns * (double)(product->k + 1);
    int threads = tt_threads_for(exec, work > 1e15 ? INT64_MAX : (int64_t)work, TT_GRAIN_LINEAR);
#if !TT_TILES
    if (TT_BLOCKED(tt_gemv_suits)(what)) {
        TT_BLOCKED(tt_gemv_run)(exec, what, threads);
        return;
    }
#endif
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int team = omp_get_num_threads(), self = omp_get_thread_num();
        int r = grid_rows(product, team);
        tt_span rows, columns;
        tt_part(product->rows, TT_MR, r, self % r, &rows.begin, &rows.end);
        tt_part(product->columns, TT_NR, team / r, self / r, &columns.begin, &columns.end);
        if (rows.begin < rows.end && columns.begin < columns.end) {
            TT_BLOCKED(tt_begin)();
            run_range(product, exec->tile, exec->scratch + (size_t)self * exec->scratch_stride,
                      rows, columns);
            TT_BLOCKED(tt_end)();
            if (product->stream)
                tt_vstream_fence();
        }
    }
}
