/* Rows of random numbers of 16 bits: one for each weight in each step, so eight blocks of Philox go
 * through the vectors of AVX2 together, where the processor has them (0.4 of the time). */
#include "trimtab/base.h"

#include <Random123/philox.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { OF_BLOCK = 8 }; /* numbers */

static inline void draw_block(uint64_t seed, uint64_t stream, uint64_t counter,
                              uint16_t out[OF_BLOCK])
{
    const philox4x32_ctr_t position = {
        {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    const philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    const philox4x32_ctr_t block = philox4x32(position, key);
    for (int i = 0; i < OF_BLOCK; i++) {
        out[i] = (uint16_t)(block.v[i / 2] >> (i % 2 * 16));
    }
}

#if defined(__x86_64__)
#define TT_AVX2 __attribute__((target("avx2")))

/* One word of each of eight blocks. */
typedef uint32_t words __attribute__((vector_size(32)));
enum { ROUNDS = 10, TOGETHER = 8 * OF_BLOCK };

TT_AVX2 static inline void multiply(words a, uint32_t factor, words *high, words *low)
{
    const __m256i f = _mm256_set1_epi32((int)factor);
    const __m256i even = _mm256_mul_epu32((__m256i)a, f);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), f);
    *low = (words)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    *high = (words)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

/* The blocks one after another: a transposition of 4 x 4 words in each half, then the halves. */
TT_AVX2 static inline void store_blocks(const words c[4], uint16_t out[TOGETHER])
{
    const __m256i low_01 = _mm256_unpacklo_epi32((__m256i)c[0], (__m256i)c[1]);
    const __m256i high_01 = _mm256_unpackhi_epi32((__m256i)c[0], (__m256i)c[1]);
    const __m256i low_23 = _mm256_unpacklo_epi32((__m256i)c[2], (__m256i)c[3]);
    const __m256i high_23 = _mm256_unpackhi_epi32((__m256i)c[2], (__m256i)c[3]);
    const __m256i blocks_04 = _mm256_unpacklo_epi64(low_01, low_23);
    const __m256i blocks_15 = _mm256_unpackhi_epi64(low_01, low_23);
    const __m256i blocks_26 = _mm256_unpacklo_epi64(high_01, high_23);
    const __m256i blocks_37 = _mm256_unpackhi_epi64(high_01, high_23);
    const __m256i in_order[4] = {_mm256_permute2x128_si256(blocks_04, blocks_15, 0x20),
                                 _mm256_permute2x128_si256(blocks_26, blocks_37, 0x20),
                                 _mm256_permute2x128_si256(blocks_04, blocks_15, 0x31),
                                 _mm256_permute2x128_si256(blocks_26, blocks_37, 0x31)};
    memcpy(out, in_order, sizeof in_order);
}

/* Blocks counter ... counter + 7. */
TT_AVX2 static inline void draw_together(uint64_t seed, uint64_t stream, uint64_t counter,
                                         uint16_t out[TOGETHER])
{
    const words first = (words){0} + (uint32_t)counter;
    words c[4] = {first + (words){0, 1, 2, 3, 4, 5, 6, 7}, (words){0} + (uint32_t)(counter >> 32),
                  (words){0} + (uint32_t)stream, (words){0} + (uint32_t)(stream >> 32)};
    c[1] -= (words)(c[0] < first); /* the carry: where it is true, -1 */
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < ROUNDS; round++) {
        words high[2];
        words low[2];
        multiply(c[0], PHILOX_M4x32_0, &high[0], &low[0]);
        multiply(c[2], PHILOX_M4x32_1, &high[1], &low[1]);
        c[0] = high[1] ^ c[1] ^ key[0];
        c[1] = low[1];
        c[2] = high[0] ^ c[3] ^ key[1];
        c[3] = low[0];
        key[0] += PHILOX_W32_0;
        key[1] += PHILOX_W32_1;
    }
    store_blocks(c, out);
}

/* As many whole groups of blocks as there are; returns the numbers drawn. */
TT_AVX2 static size_t draw_groups(uint64_t seed, uint64_t stream, uint64_t first, uint16_t *out,
                                  size_t n)
{
    size_t i = 0;
    for (; i + TOGETHER <= n; i += TOGETHER) {
        draw_together(seed, stream, (first + i) / OF_BLOCK, out + i);
    }
    return i;
}
#endif

void tt_random_u16(uint64_t seed, uint64_t stream, uint64_t first, uint16_t *out, size_t n)
{
    size_t i = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        i = draw_groups(seed, stream, first, out, n);
    }
#endif
    for (; i + OF_BLOCK <= n; i += OF_BLOCK) {
        draw_block(seed, stream, (first + i) / OF_BLOCK, out + i);
    }
    if (i < n) {
        uint16_t last[OF_BLOCK];
        draw_block(seed, stream, (first + i) / OF_BLOCK, last);
        memcpy(out + i, last, (n - i) * sizeof *last);
    }
}
