/* AdamW and tensor statistics: one pass over memory, sums of TT_SUM_BLOCK elements in float64,
 * combined in order.
 *
 * What AdamW writes into another slot is not read again in this step, so from exec->stream_bytes
 * on it goes past the caches: a plain store would first read the line (28 bytes per element become
 * 40). Smaller tensors, which may stay in the cache, and updates in place use plain stores. On a
 * machine with 32 MiB of last-level cache, one thread, streaming took 1.2x the time of plain stores
 * at 64 KiB per output, broke even near 2 MiB and took 0.95x at 4 MiB and more. Parameters in bf16,
 * of which a line of the others' is half a line, are always stored plainly. */
#include <assert.h>
#include <omp.h>

#include "simd.h"
#include "vbf16.h"

/* Blocks that pay for a thread; elements of a cache line; how far ahead adamw asks for them. */
enum { GRAIN_BLOCKS = 4, LINE = 16, AHEAD = 128 };
static_assert(TT_SUM_BLOCK % LINE == 0, "blocks are whole lines");

/* Elements for which random numbers are drawn at a time. */
enum { DRAWN = 256 };
static_assert(DRAWN % LINE == 0, "whole lines are drawn for");

/* Runs body(block) for all blocks, in rounds of TT_SUM_ROUND, and adds the partial sums up. */
typedef tt_partial (*block_fn)(const void *body, int64_t begin, int64_t end);

static tt_partial sum_blocks(const tt_exec *exec, int64_t n, block_fn run, const void *body)
{
    tt_partial total = {0, 0};
    for (int64_t round = 0; round < n; round += (int64_t)TT_SUM_ROUND * TT_SUM_BLOCK) {
        int64_t left = (n - round + TT_SUM_BLOCK - 1) / TT_SUM_BLOCK;
        int64_t blocks = tt_min64(TT_SUM_ROUND, left);
        int threads = tt_threads_for(exec, blocks, GRAIN_BLOCKS);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
        for (int64_t block = 0; block < blocks; block++) {
            int64_t begin = round + block * TT_SUM_BLOCK;
            exec->partials[block] = run(body, begin, tt_min64(n, begin + TT_SUM_BLOCK));
        }
        for (int64_t block = 0; block < blocks; block++) {
            total.squares += exec->partials[block].squares;
            total.count += exec->partials[block].count;
        }
    }
    return total;
}

TT_INLINE uint64_t count_lanes(tt_vi mask)
{
    int64_t sum = 0;
    for (int i = 0; i < TT_LANES; i++)
        sum -= mask[i];
    return (uint64_t)sum;
}

typedef struct stats_sums {
    tt_vd squares_low, squares_high;
    tt_vi nonfinite;
} stats_sums;

TT_INLINE void stats_count(stats_sums *sums, tt_vf v)
{
    tt_vd low = tt_vwiden_low(v), high = tt_vwiden_high(v);
    sums->nonfinite += tt_vnonfinite(v);
    sums->squares_low += low * low;
    sums->squares_high += high * high;
}

static tt_partial stats_total(const stats_sums *sums)
{
    return (tt_partial){tt_vsum_double(sums->squares_low + sums->squares_high),
                        count_lanes(sums->nonfinite)};
}

static tt_partial stats_block(const void *body, int64_t begin, int64_t end)
{
    const float *x = body;
    stats_sums sums = {0};
    for (int64_t i = begin; i < end; i += TT_LANES) {
        int64_t here = tt_min64(TT_LANES, end - i);
        stats_count(&sums, here == TT_LANES ? tt_vload(x + i) : tt_vload_part(x + i, here, 0));
    }
    return stats_total(&sums);
}

static tt_partial stats_block_bf16(const void *body, int64_t begin, int64_t end)
{
    const uint16_t *x = body;
    stats_sums sums = {0};
    for (int64_t i = begin; i < end; i += TT_LANES) {
        int64_t here = tt_min64(TT_LANES, end - i);
        stats_count(&sums,
                    here == TT_LANES ? tt_vload_bf16(x + i) : tt_vload_bf16_part(x + i, here, 0));
    }
    return stats_total(&sums);
}

tt_status TT_BLOCKED(tt_stats_f32)(const tt_exec *exec, const void *args)
{
    const tt_stats_args *g = args;
    tt_partial total = sum_blocks(exec, g->n, g->bf16 ? stats_block_bf16 : stats_block, g->x);
    *g->out = (tt_tensor_stats){total.squares, total.count};
    return TT_OK;
}

typedef struct adamw_body {
    const void *p;
    const float *m, *v, *g;
    void *p_next;
    float *m_next, *v_next;
    const tt_rounding *rounding; /* p is bf16; NULL: f32 */
    float gradient_scale, beta1, beta2, one_less_beta1, one_less_beta2;
    float inverse_correction1, inverse_correction2, epsilon, learning_rate, decay;
    bool stream;
} adamw_body;

typedef struct adamw_lanes {
    tt_vf p, m, v;
} adamw_lanes;

TT_INLINE adamw_lanes adamw_step(const adamw_body *body, adamw_lanes old, tt_vf g)
{
    g = g * body->gradient_scale;
    tt_vf m = body->beta1 * old.m + body->one_less_beta1 * g;
    tt_vf v = body->beta2 * old.v + body->one_less_beta2 * (g * g);
    tt_vf denominator = tt_vsqrt(v * body->inverse_correction2) + body->epsilon;
    tt_vf update = m * body->inverse_correction1 / denominator + body->decay * old.p;
    return (adamw_lanes){old.p - body->learning_rate * update, m, v};
}

typedef struct adamw_sums {
    tt_vd update_low, update_high;
    tt_vi nonfinite;
} adamw_sums;

TT_INLINE void adamw_count(adamw_sums *sums, adamw_lanes old, adamw_lanes next)
{
    tt_vf change = next.p - old.p;
    tt_vd low = tt_vwiden_low(change), high = tt_vwiden_high(change);
    sums->update_low += low * low;
    sums->update_high += high * high;
    sums->nonfinite += tt_vnonfinite(next.p) + tt_vnonfinite(next.m) + tt_vnonfinite(next.v);
}

TT_INLINE tt_vf adamw_load_p(const adamw_body *body, int64_t i, int64_t here, bool narrow)
{
    const float *real = (const float *)body->p + i;
    const uint16_t *bf16 = (const uint16_t *)body->p + i;
    if (here < TT_LANES)
        return narrow ? tt_vload_bf16_part(bf16, here, 0) : tt_vload_part(real, here, 0);
    return narrow ? tt_vload_bf16(bf16) : tt_vload(real);
}

/* The lanes past the end compute with v = 1 (a harmless division) and are not counted. */
TT_INLINE void adamw_tail(const adamw_body *body, int64_t i, int64_t here, bool narrow,
                          const uint16_t *random, adamw_sums *sums)
{
    adamw_lanes old = {adamw_load_p(body, i, here, narrow), tt_vload_part(body->m + i, here, 0),
                       tt_vload_part(body->v + i, here, 1)};
    adamw_lanes next = adamw_step(body, old, tt_vload_part(body->g + i, here, 0));
    if (narrow) {
        next.p = tt_vround_bf16_randomly(next.p, random);
        tt_vstore_bf16_part((uint16_t *)body->p_next + i, next.p, here);
    } else {
        tt_vstore_part((float *)body->p_next + i, next.p, here);
    }
    tt_vstore_part(body->m_next + i, next.m, here);
    tt_vstore_part(body->v_next + i, next.v, here);
    for (int64_t lane = here; lane < TT_LANES; lane++)
        next.p[lane] = next.m[lane] = next.v[lane] = 0;
    adamw_count(sums, old, next);
}

TT_INLINE void adamw_put(float *p, tt_vf v, bool stream)
{
    if (stream)
        tt_vstream(p, v);
    else
        tt_vstore(p, v);
}

/* LINE elements: streamed stores fill a whole line before they turn to the next tensor's, so that
 * no line leaves the write-combining buffers in parts. */
TT_INLINE void adamw_line(const adamw_body *body, int64_t i, bool stream, bool narrow,
                          const uint16_t *random, adamw_sums *sums)
{
    adamw_lanes next[LINE / TT_LANES];
    const float *const read[] = {body->m, body->v, body->g};
    __builtin_prefetch((const char *)body->p + (i + AHEAD) * (narrow ? 2 : 4));
    for (int k = 0; k < 3; k++)
        __builtin_prefetch(read[k] + i + AHEAD);
#pragma GCC unroll 4
    for (int n = 0; n < LINE / TT_LANES; n++) {
        int64_t at = i + n * TT_LANES;
        adamw_lanes old = {adamw_load_p(body, at, TT_LANES, narrow), tt_vload(body->m + at),
                           tt_vload(body->v + at)};
        next[n] = adamw_step(body, old, tt_vload(body->g + at));
        if (narrow)
            next[n].p = tt_vround_bf16_randomly(next[n].p, random + n * TT_LANES);
        adamw_count(sums, old, next[n]);
    }
#pragma GCC unroll 4
    for (int n = 0; n < LINE / TT_LANES; n++) {
        int64_t at = i + n * TT_LANES;
        if (narrow)
            tt_vput_bf16((uint16_t *)body->p_next + at, next[n].p);
        else
            adamw_put((float *)body->p_next + at, next[n].p, stream);
    }
#pragma GCC unroll 4
    for (int n = 0; n < LINE / TT_LANES; n++)
        adamw_put(body->m_next + i + n * TT_LANES, next[n].m, stream);
#pragma GCC unroll 4
    for (int n = 0; n < LINE / TT_LANES; n++)
        adamw_put(body->v_next + i + n * TT_LANES, next[n].v, stream);
}

/* Elements [i, end), which take their random numbers (if `narrow`) from the first one on. */
TT_INLINE void adamw_part(const adamw_body *body, int64_t i, int64_t end, bool stream, bool narrow,
                          const uint16_t *random, adamw_sums *sums)
{
    for (; i + LINE <= end; i += LINE, random += narrow ? LINE : 0)
        adamw_line(body, i, stream, narrow, random, sums);
    for (; i < end; i += TT_LANES, random += narrow ? TT_LANES : 0)
        adamw_tail(body, i, tt_min64(TT_LANES, end - i), narrow, random, sums);
}

TT_INLINE tt_partial adamw_range(const adamw_body *body, int64_t begin, int64_t end, bool stream,
                                 bool narrow)
{
    adamw_sums sums = {{0}, {0}, {0}};
    uint16_t random[DRAWN] = {0};
    const int64_t most = narrow ? DRAWN : end - begin;
    for (int64_t i = begin; i < end; i += most) {
        const int64_t here = tt_min64(most, end - i);
        if (narrow)
            tt_random_u16(body->rounding->seed, body->rounding->stream, (uint64_t)i, random,
                          (size_t)here);
        adamw_part(body, i, i + here, stream, narrow, random, &sums);
    }
    if (stream)
        tt_vstream_fence();
    return (tt_partial){tt_vsum_double(sums.update_low + sums.update_high),
                        count_lanes(sums.nonfinite)};
}

static tt_partial adamw_block(const void *data, int64_t begin, int64_t end)
{
    const adamw_body *body = data;
    if (body->rounding != NULL)
        return body->stream ? adamw_range(body, begin, end, true, true)
                            : adamw_range(body, begin, end, false, true);
    return body->stream ? adamw_range(body, begin, end, true, false)
                        : adamw_range(body, begin, end, false, false);
}

static bool streams(const tt_exec *exec, const tt_adamw_args *g)
{
    uintptr_t low_bits = (uintptr_t)g->m_next | (uintptr_t)g->v_next;
    if (g->rounding == NULL)
        low_bits |= (uintptr_t)g->p_next;
    bool in_place = g->p_next == g->p || g->m_next == g->m || g->v_next == g->v;
    return !in_place && low_bits % (LINE * sizeof(float)) == 0 &&
           (size_t)g->n * 3 * sizeof(float) >= exec->stream_bytes;
}

tt_status TT_BLOCKED(tt_adamw_f32)(const tt_exec *exec, const void *args)
{
    const tt_adamw_args *g = args;
    const tt_step_scalars *s = g->scalars;
    adamw_body body = {g->p,
                       g->m,
                       g->v,
                       g->g,
                       g->p_next,
                       g->m_next,
                       g->v_next,
                       g->rounding,
                       (float)s->gradient_scale,
                       (float)s->beta1,
                       (float)s->beta2,
                       (float)(1 - s->beta1),
                       (float)(1 - s->beta2),
                       (float)(1 / s->bias_correction1),
                       (float)(1 / s->bias_correction2),
                       (float)s->epsilon,
                       (float)s->learning_rate,
                       (float)g->weight_decay,
                       streams(exec, g)};
    tt_partial total = sum_blocks(exec, g->n, adamw_block, &body);
    g->verdict->update_squares += total.squares;
    g->verdict->nonfinite += total.count;
    return TT_OK;
}
