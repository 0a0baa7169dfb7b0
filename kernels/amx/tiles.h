/* kernels/amx/tiles.h: the eight tile registers of AMX, all of 16 rows of 64 bytes: 16 x 16 floats,
 * 16 rows of 32 bf16 of A, or 32 rows of 16 bf16 of B as pairs of rows (VNNI). `tile` is a literal.
 *
 * tt_tile_dot adds 32 products to each float: those of even k and those of odd k are summed apart,
 * in the order of k by fused multiply-adds, and the sum of both sums is added to what was there. It
 * rounds to nearest even, takes denormal operands for zero and flushes denormal results to zero,
 * whatever MXCSR says (Intel SDM, TDPBF16PS). */
#ifndef TT_AMX_TILES_H
#define TT_AMX_TILES_H

#include <stdint.h>

#define TT_TILE_ROWS 16
#define TT_TILE_ROW  64 /* bytes */

#if defined(TT_BF16_EMULATED)
#include "tiles_emulated.h"
#else
#include <immintrin.h>

/* The operand of LDTILECFG for palette 1. */
typedef struct tt_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tt_tile_config;

/* Gives the calling thread its tiles, and back: before the first and after the last of the
 * others. Without tiles a thread's context switches are cheaper and its core may clock higher. */
static inline void tt_tile_begin(void)
{
    tt_tile_config config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.row_bytes[tile] = TT_TILE_ROW;
        config.rows[tile] = TT_TILE_ROWS;
    }
    /* gcc 12 believes that only the first 8 bytes are read, and drops the stores to the others. */
    __asm__ volatile("" : "+m"(config)::"memory");
    _tile_loadconfig(&config);
}

static inline void tt_tile_end(void)
{
    _tile_release();
}

/* gcc does not know that tiles are loaded from memory: what was stored comes before. */
static inline void tt_tile_fence(void)
{
    __asm__ volatile("" ::: "memory");
}

#define tt_tile_load(tile, from, stride) _tile_loadd(tile, from, stride)
#define tt_tile_store(tile, to, stride)  _tile_stored(tile, to, stride)
#define tt_tile_dot(c, a, b)             _tile_dpbf16ps(c, a, b)
#endif

#endif
