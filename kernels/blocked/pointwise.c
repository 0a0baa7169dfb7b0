/* Elementwise operations and embeddings. Each element is computed by the same vector code wherever
 * it lies, so cutting the range differently changes no bits. */
#include <omp.h>

#include "gelu.h"

/* Elements that pay for a thread: of an exponential, of an addition. */
enum { GRAIN_EXP = 8192, GRAIN_ADD = 32768 };

tt_status TT_BLOCKED(tt_gelu_forward_f32)(const tt_exec *exec, const void *args)
{
    const tt_gelu_forward_args *g = args;
    const float *x = g->x;
    float *y = g->y;
    int threads = tt_threads_for(exec, g->n, GRAIN_EXP);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t i, end;
        tt_part(g->n, 16, omp_get_num_threads(), omp_get_thread_num(), &i, &end);
        for (; i + TT_LANES <= end; i += TT_LANES)
            tt_vstore(y + i, tt_vgelu(tt_vload(x + i)));
        if (i < end)
            tt_vstore_part(y + i, tt_vgelu(tt_vload_part(x + i, end - i, 0)), end - i);
    }
    return TT_OK;
}

tt_status TT_BLOCKED(tt_gelu_backward_f32)(const tt_exec *exec, const void *args)
{
    const tt_gelu_backward_args *g = args;
    const float *x = g->x, *dy = g->dy;
    float *dx = g->dx;
    int threads = tt_threads_for(exec, g->n, GRAIN_EXP);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t i, end;
        tt_part(g->n, 16, omp_get_num_threads(), omp_get_thread_num(), &i, &end);
        for (; i + TT_LANES <= end; i += TT_LANES)
            tt_vstore(dx + i, tt_vload(dy + i) * tt_vgelu_slope(tt_vload(x + i)));
        if (i < end) {
            tt_vf slope = tt_vgelu_slope(tt_vload_part(x + i, end - i, 0));
            tt_vstore_part(dx + i, tt_vload_part(dy + i, end - i, 0) * slope, end - i);
        }
    }
    return TT_OK;
}

TT_INLINE void add_range(const float *a, const float *b, float *out, int64_t n)
{
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES)
        tt_vstore(out + i, tt_vload(a + i) + tt_vload(b + i));
    for (; i < n; i++)
        out[i] = a[i] + b[i];
}

tt_status TT_BLOCKED(tt_add_f32)(const tt_exec *exec, const void *args)
{
    const tt_add_args *g = args;
    const float *a = g->a, *b = g->b;
    float *out = g->out;
    int threads = tt_threads_for(exec, g->n, GRAIN_ADD);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        tt_part(g->n, 16, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
        add_range(a + begin, b + begin, out + begin, end - begin);
    }
    return TT_OK;
}

tt_status TT_BLOCKED(tt_embedding_forward_f32)(const tt_exec *exec, const void *args)
{
    const tt_embedding_forward_args *g = args;
    const int32_t *tokens = g->tokens;
    const float *wte = g->wte, *wpe = g->wpe;
    float *out = g->out;
    int64_t rows = g->batch * g->time, channels = g->channels;
    int threads = tt_threads_for(exec, rows * channels, GRAIN_ADD);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t row = 0; row < rows; row++)
        add_range(wte + tokens[row] * channels, wpe + (g->position + row % g->time) * channels,
                  out + row * channels, channels);
    return TT_OK;
}

/* Channels in parallel, rows in order: tokens repeat, and their sum must not depend on who came
 * first. */
tt_status TT_BLOCKED(tt_embedding_backward_f32)(const tt_exec *exec, const void *args)
{
    const tt_embedding_backward_args *g = args;
    const int32_t *tokens = g->tokens;
    const float *dout = g->dout;
    float *dwte = g->dwte, *dwpe = g->dwpe;
    int64_t rows = g->batch * g->time, channels = g->channels;
    int threads = tt_threads_for(exec, 2 * rows * channels, GRAIN_ADD);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        tt_part(channels, 16, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
        for (int64_t row = 0; row < rows; row++) {
            const float *from = dout + row * channels + begin;
            float *token = dwte + tokens[row] * channels + begin;
            float *place = dwpe + row % g->time * channels + begin;
            add_range(token, from, token, end - begin);
            add_range(place, from, place, end - begin);
        }
    }
    return TT_OK;
}
