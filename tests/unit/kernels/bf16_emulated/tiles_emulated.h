/* Tile registers in portable C, to the letter of the instructions' definition: what kernels/amx
 * computes with in tests on machines without AMX. */
#ifndef TT_TILES_EMULATED_H
#define TT_TILES_EMULATED_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "flushed.h"

static _Thread_local struct {
    bool configured;
    uint8_t byte[8][TT_TILE_ROWS][TT_TILE_ROW];
} tt_tiles;

static inline void tt_tile_begin(void)
{
    memset(&tt_tiles, 0, sizeof tt_tiles);
    tt_tiles.configured = true;
}

static inline void tt_tile_end(void)
{
    tt_tiles.configured = false;
}

static inline void tt_tile_fence(void) {}

/* Without tiles these instructions are invalid. */
static inline void tt_check_configured(void)
{
    if (!tt_tiles.configured)
        abort();
}

static inline void tt_tile_load(int tile, const void *from, int64_t stride)
{
    tt_check_configured();
    for (int64_t row = 0; row < TT_TILE_ROWS; row++)
        memcpy(tt_tiles.byte[tile][row], (const char *)from + row * stride, TT_TILE_ROW);
}

static inline void tt_tile_store(int tile, void *to, int64_t stride)
{
    tt_check_configured();
    for (int64_t row = 0; row < TT_TILE_ROWS; row++)
        memcpy((char *)to + row * stride, tt_tiles.byte[tile][row], TT_TILE_ROW);
}

static inline float tt_bf16_at(const uint8_t *row, int element)
{
    uint16_t bits;
    memcpy(&bits, row + 2 * element, sizeof bits);
    return tt_factor(bits);
}

static inline void tt_tile_dot(int c, int a, int b)
{
    tt_check_configured();
    for (int m = 0; m < TT_TILE_ROWS; m++) {
        for (int n = 0; n < 16; n++) {
            float even = 0, odd = 0, sum;
            for (int q = 0; q < 16; q++) {
                const uint8_t *of_a = tt_tiles.byte[a][m], *of_b = tt_tiles.byte[b][q];
                even = tt_flushed(fmaf(tt_bf16_at(of_a, 2 * q), tt_bf16_at(of_b, 2 * n), even));
                odd =
                    tt_flushed(fmaf(tt_bf16_at(of_a, 2 * q + 1), tt_bf16_at(of_b, 2 * n + 1), odd));
            }
            memcpy(&sum, tt_tiles.byte[c][m] + 4 * n, sizeof sum);
            sum = tt_flushed(tt_flushed(sum) + tt_flushed(even + odd));
            memcpy(tt_tiles.byte[c][m] + 4 * n, &sum, sizeof sum);
        }
    }
}

#endif
