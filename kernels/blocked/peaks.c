/* What this level can do at most: multiply-adds from registers, reading, copying. */
#include "peaks.h"
#include "simd.h"

/* Twelve chains hide the latency of two units; with their two constants they fit into the sixteen
 * registers of levels 1 and 3. Named one by one: gcc spills an array of them. */
static double multiply_adds(int64_t turns)
{
    const tt_vf x = tt_vset(0.999f), y = tt_vset(1e-3f);
    tt_vf a = y, b = a + y, c = b + y, d = c + y, e = d + y, f = e + y;
    tt_vf g = f + y, h = g + y, i = h + y, j = i + y, k = j + y, l = k + y;
    for (int64_t turn = 0; turn < turns; turn++) {
        a = a * x + y;
        b = b * x + y;
        c = c * x + y;
        d = d * x + y;
        e = e * x + y;
        f = f * x + y;
        g = g * x + y;
        h = h * x + y;
        i = i * x + y;
        j = j * x + y;
        k = k * x + y;
        l = l * x + y;
    }
    float sum = tt_vsum(a + b + c + d + e + f + g + h + i + j + k + l);
    __asm__ volatile("" : : "r"(&sum) : "memory"); /* somebody wants it */
    return (double)turns * 12 * TT_LANES * 2;
}

enum {
    LINE = 64, /* bytes */
    VECTORS = LINE / (TT_LANES * 4),
    AHEAD = 512, /* bytes: where hardware prefetchers alone do not keep up */
    STREAMS = 4
};

/* A line of each stream in turn. */
static float read_streams(const char *from, size_t bytes)
{
    size_t part = bytes / STREAMS;
    tt_vf sums[STREAMS] = {{0}};
    for (size_t at = 0; at < part; at += LINE) {
#pragma GCC unroll 4
        for (int s = 0; s < STREAMS; s++) {
            const char *line = from + (size_t)s * part + at;
            __builtin_prefetch(line + AHEAD);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                sums[s] += tt_vload((const float *)(line + v * TT_LANES * 4));
        }
    }
    return tt_vsum(sums[0] + sums[1] + sums[2] + sums[3]);
}

static void copy_streaming(char *to, const char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += LINE) {
        __builtin_prefetch(from + at + AHEAD);
#pragma GCC unroll 4
        for (size_t v = 0; v < VECTORS; v++) {
            size_t here = at + v * TT_LANES * 4;
            tt_vstream((float *)(to + here), tt_vload((const float *)(from + here)));
        }
    }
    tt_vstream_fence();
}

const tt_peak_loops TT_BLOCKED(tt_peak_loops) = {multiply_adds, read_streams, copy_streaming};
