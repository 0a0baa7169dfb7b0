/* Products of bfloat16 from registers: what a processor with AMX, or with AVX512-BF16, can do at
 * most. */
#include "peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

/* The argument of LDTILECFG. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

_Static_assert(sizeof(tile_config) == 64, "as LDTILECFG reads it");

/* Four accumulators, two tiles of either operand: the most that eight tiles can hold. */
__attribute__((target("amx-tile,amx-bf16"))) double tt_peak_tile_products(int64_t turns)
{
    tile_config config;
    uint16_t numbers[512]; /* not zeros, which cost less power, hence more speed */
    for (int i = 0; i < 512; i++)
        numbers[i] = 0x3c00;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    /* gcc 12 believes that eight bytes are read of it, and drops the stores to the others; the
     * same goes for what tiles are loaded from. */
    __asm__ volatile("" : "+m"(config), "+m"(numbers) : : "memory");
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, numbers, 64);
    _tile_loadd(5, numbers, 64);
    _tile_loadd(6, numbers, 64);
    _tile_loadd(7, numbers, 64);
    for (int64_t turn = 0; turn < turns; turn++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return (double)turns * 4 * (16 * 16 * 32) * 2;
}

/* Chains that hide the latency of two units. Named one by one: gcc spills an array of them. */
#define TT_FOR_CHAINS(X)  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define TT_CHAIN_BEGIN(i) __m512 sum##i = _mm512_setzero_ps();
#define TT_CHAIN_STEP(i)  sum##i = _mm512_dpbf16_ps(sum##i, (__m512bh)a, (__m512bh)b);
#define TT_CHAIN_END(i)   total = _mm512_add_ps(total, sum##i);

__attribute__((target("avx512f,avx512bf16"))) double tt_peak_pair_products(int64_t turns)
{
    __m512i a = _mm512_set1_epi16(0x3c00), b = a;
    __m512 total = _mm512_setzero_ps();
    TT_FOR_CHAINS(TT_CHAIN_BEGIN)
    for (int64_t turn = 0; turn < turns; turn++) {
        /* Else clang computes one chain for all. */
        __asm__ volatile("" : "+v"(a), "+v"(b));
        TT_FOR_CHAINS(TT_CHAIN_STEP)
    }
    TT_FOR_CHAINS(TT_CHAIN_END)
    __asm__ volatile("" : : "v"(total)); /* somebody wants it */
    return (double)turns * 12 * (16 * 2) * 2;
}
#else
double tt_peak_pair_products(int64_t turns)
{
    (void)turns;
    return 0;
}

double tt_peak_tile_products(int64_t turns)
{
    (void)turns;
    return 0;
}
#endif
