/* Rotary position embedding. Angles are computed in double, once per position and call, not per
 * head and sequence: a thread has its own range of time. */
#include <omp.h>

#include "act.h"

/* Elements that pay for a thread; angles at a time. */
enum { GRAIN_ROPE = 16384, PIECE = 256 };

/* Of one position, for elements i0 .. i0 + n of the halves. */
typedef struct turn {
    float cosine[PIECE], sine[PIECE];
    int64_t i0, n;
} turn;

TT_INLINE void turn_vector(const turn *by, tt_act *low, tt_act *high, int64_t i, int64_t n)
{
    tt_vf c = tt_vload_first(by->cosine + i, n, 0), s = tt_vload_first(by->sine + i, n, 0);
    tt_vf a = tt_aload_first(low + i, n, 0), b = tt_aload_first(high + i, n, 0);
    tt_astore_first(low + i, a * c - b * s, n);
    tt_astore_first(high + i, b * c + a * s, n);
}

/* All queries and keys of one row. */
static void turn_row(const tt_rope_args *g, tt_act *row, const turn *by)
{
    for (int64_t h = 0; h < g->heads + g->kv_heads; h++) {
        tt_act *low = row + h * g->size + by->i0, *high = low + g->size / 2;
        int64_t i = 0;
        for (; i + TT_LANES <= by->n; i += TT_LANES)
            turn_vector(by, low, high, i, TT_LANES);
        if (i < by->n)
            turn_vector(by, low, high, i, by->n - i);
    }
}

/* Positions [begin, end) of every sequence, elements i0 .. i0 + n of each half. */
static void turn_piece(const tt_rope_args *g, int64_t i0, int64_t n, int64_t begin, int64_t end)
{
    int64_t width = (g->heads + 2 * g->kv_heads) * g->size;
    double frequency[PIECE];
    turn by = {.i0 = i0, .n = n};
    for (int64_t i = 0; i < n; i++)
        frequency[i] = pow(g->theta, -2.0 * (double)(i0 + i) / (double)g->size);
    for (int64_t t = begin; t < end; t++) {
        for (int64_t i = 0; i < n; i++) {
            double angle = (double)(g->position + t) * frequency[i];
            by.cosine[i] = (float)cos(angle);
            by.sine[i] = (float)(g->inverse ? -sin(angle) : sin(angle));
        }
        for (int64_t b = 0; b < g->batch; b++)
            turn_row(g, (tt_act *)g->qkv + (b * g->time + t) * width, &by);
    }
}

tt_status TT_BLOCKED_ACT(tt_rope)(const tt_exec *exec, const void *args)
{
    const tt_rope_args *g = args;
    int64_t half = g->size / 2;
    int threads = tt_threads_for(exec, g->batch * g->time * (g->heads + g->kv_heads + 4) * g->size,
                                 GRAIN_ROPE);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        tt_part(g->time, 1, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
        for (int64_t i0 = 0; i0 < half && begin < end; i0 += PIECE)
            turn_piece(g, i0, tt_min64(PIECE, half - i0), begin, end);
    }
    return TT_OK;
}
