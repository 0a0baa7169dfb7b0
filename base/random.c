/* Counter-based random numbers: nothing here has state. */
#include "trimtab/base.h"

#include <math.h>
#include <Random123/philox.h>

void tt_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    philox4x32_ctr_t position = {
        {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t block = philox4x32(position, key);
    for (int i = 0; i < 4; i++) {
        out[i] = block.v[i];
    }
}

/* 53 bits of two words, in [0, 1). */
static double unit(uint32_t high, uint32_t low)
{
    uint64_t bits = ((uint64_t)high << 32 | low) >> 11;
    return (double)bits * 0x1p-53;
}

double tt_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t block[4];
    tt_philox(seed, stream, counter, block);
    return unit(block[0], block[1]);
}

void tt_random_normal_f32(uint64_t seed, uint64_t stream, float *out, size_t n)
{
    const double two_pi = 6.28318530717958647692;
    for (size_t i = 0; i < n; i += 2) {
        uint32_t block[4];
        tt_philox(seed, stream, i / 2, block);
        double radius = sqrt(-2.0 * log(1.0 - unit(block[0], block[1])));
        double angle = two_pi * unit(block[2], block[3]);
        out[i] = (float)(radius * cos(angle));
        if (i + 1 < n) {
            out[i + 1] = (float)(radius * sin(angle));
        }
    }
}

/* Four rounds of a balanced Feistel network on 2*half bits. */
static uint64_t feistel(uint64_t seed, uint64_t stream, int half, uint64_t value)
{
    uint64_t mask = (UINT64_C(1) << half) - 1;
    uint64_t left = value >> half;
    uint64_t right = value & mask;
    for (uint64_t round = 0; round < 4; round++) {
        uint32_t block[4];
        tt_philox(seed ^ UINT64_C(0x9e3779b97f4a7c15), stream, right << 2 | round, block);
        uint64_t mixed = ((uint64_t)block[0] << 32 | block[1]) & mask;
        uint64_t next = left ^ mixed;
        left = right;
        right = next;
    }
    return left << half | right;
}

uint64_t tt_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t index)
{
    int half = 1;
    while (half < 31 && (UINT64_C(1) << (2 * half)) < n) {
        half++;
    }
    /* Walk the cycle until the value is in range: the domain is under 4 n, so few steps. */
    uint64_t value = index;
    do {
        value = feistel(seed, stream, half, value);
    } while (value >= n);
    return value;
}
