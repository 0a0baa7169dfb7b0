/* kernels/bf16.h: bfloat16 as its bits, the upper half of a float. */
#ifndef TT_KERNELS_BF16_H
#define TT_KERNELS_BF16_H

#include <stdint.h>
#include <string.h>

static inline float tt_bf16_to_f32(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To nearest, ties to even; a NaN stays a (quiet) NaN. */
static inline uint16_t tt_bf16_from_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* Up or down at random: of the two neighbours the one further from zero is taken with the
 * probability by which x has gone there from the other, so that it is right on average. `random` is
 * uniform in 16 bits. A bf16 stays itself, a NaN a NaN, and what is finite stays finite. */
static inline uint16_t tt_bf16_from_f32_randomly(float x, uint16_t random)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) >= 0x7f800000u)
        return tt_bf16_from_f32(x);
    uint32_t rounded = (bits + random) >> 16;
    return (uint16_t)(rounded - ((rounded & 0x7fffu) == 0x7f80u));
}

#endif
