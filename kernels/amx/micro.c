/* The register microkernel of mixed precision: 32 x 32 of C in four tiles, from panels packed by
 * pack.c. Four products of tiles (16 cycles each) need four loads (8 cycles each from L1): the tile
 * unit is the bottleneck as long as no more than one of the two operands comes from L2.
 *
 * An element of C is a chain over blocks of 32 k, started from `start`: so neither blocking nor
 * the number of threads changes its bits, but another grouping of k does. */
#include <assert.h>

#include "blocked/gemm.h"
#include "tiles.h"

const float TT_BLOCKED(tt_zeros)[TT_NR] __attribute__((aligned(64))) = {0};

/* Elements of a tile of A or B, and of the two that make a panel's block of 32 k. */
#define TT_TILE_BF16 (TT_TILE_ROWS * TT_TILE_ROW / 2)
#define TT_STEP      (2 * TT_TILE_BF16)
/* Blocks between the fetching of a block of A and its use. The next panel of A lies behind this. */
#define TT_AHEAD 3

static_assert(TT_MR == 2 * TT_TILE_ROWS && TT_NR == 2 * TT_TILE_ROWS && TT_KU == TT_TILE_ROW / 2,
              "a panel is two tiles wide");

/* One block of 32 k. `both`: rows 16 to 31 count, too. */
TT_INLINE void micro_step(const tt_panel *a, const tt_panel *b, bool both)
{
    tt_tile_load(4, a, TT_TILE_ROW);
    tt_tile_load(6, b, TT_TILE_ROW);
    tt_tile_dot(0, 4, 6);
    tt_tile_load(7, b + TT_TILE_BF16, TT_TILE_ROW);
    tt_tile_dot(1, 4, 7);
    if (both) {
        tt_tile_load(5, a + TT_TILE_BF16, TT_TILE_ROW);
        tt_tile_dot(2, 5, 6);
        tt_tile_dot(3, 5, 7);
    }
}

/* What comes next, for one of the blocks of 32 k: the block of A that is TT_AHEAD further, and four
 * rows of the C below (eight times is all of it). All at once would fill the line buffers. */
TT_INLINE void fetch(const tt_panel *a, const float *c, int64_t c_row, int64_t block)
{
    c += (TT_MR + block % 8 * 4) * c_row;
#pragma GCC unroll 32
    for (int line = 0; line < 32; line++)
        __builtin_prefetch(a + TT_AHEAD * TT_STEP + 32 * line);
#pragma GCC unroll 4
    for (int row = 0; row < 4; row++) {
        __builtin_prefetch(c + row * c_row, 1);
        __builtin_prefetch(c + row * c_row + 16, 1);
    }
}

/* A stride of 0 loads one row 16 times: how a row of bias or zeros starts all rows. */
TT_INLINE void micro_tiles(int64_t k, const tt_panel *a, const tt_panel *b, float *c, int64_t c_row,
                           tt_start start, bool both)
{
    const int64_t from_row = start.row * (int64_t)sizeof(float);
    const int64_t to_row = c_row * (int64_t)sizeof(float);
    tt_tile_fence();
    tt_tile_load(0, start.data, from_row);
    tt_tile_load(1, start.data + 16, from_row);
    if (both) {
        tt_tile_load(2, start.data + 16 * start.row, from_row);
        tt_tile_load(3, start.data + 16 * start.row + 16, from_row);
    }
    for (int64_t block = 0; block < k / TT_KU; block++) {
        fetch(a, c, c_row, block);
        micro_step(a, b, both);
        a += TT_STEP;
        b += TT_STEP;
    }
    tt_tile_store(0, c, to_row);
    tt_tile_store(1, c + 16, to_row);
    if (both) {
        tt_tile_store(2, c + 16 * c_row, to_row);
        tt_tile_store(3, c + 16 * c_row + 16, to_row);
    }
}

/* At the edges of C the same code works on a copy. */
static void micro_edge(int64_t rows, int64_t columns, int64_t k, const tt_panel *a,
                       const tt_panel *b, float *c, int64_t c_row, tt_start start)
{
    float block[TT_MR * TT_NR] __attribute__((aligned(64)));
    memset(block, 0, sizeof block);
    for (int64_t i = 0; i < rows; i++)
        memcpy(block + i * TT_NR, start.data + i * start.row, (size_t)columns * sizeof *block);
    if (rows > TT_TILE_ROWS)
        micro_tiles(k, a, b, block, TT_NR, (tt_start){block, TT_NR}, true);
    else
        micro_tiles(k, a, b, block, TT_NR, (tt_start){block, TT_NR}, false);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * c_row, block + i * TT_NR, (size_t)columns * sizeof *c);
}

void TT_BLOCKED(tt_micro)(int64_t rows, int64_t columns, int64_t k, const tt_panel *a,
                          const tt_panel *b, float *c, int64_t c_row, tt_start start)
{
    if (rows == TT_MR && columns == TT_NR)
        micro_tiles(k, a, b, c, c_row, start, true);
    else
        micro_edge(rows, columns, k, a, b, c, c_row, start);
}

void TT_BLOCKED(tt_begin)(void)
{
    tt_tile_begin();
}

void TT_BLOCKED(tt_end)(void)
{
    tt_tile_end();
}
