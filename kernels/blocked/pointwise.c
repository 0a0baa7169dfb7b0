/* Elementwise operations. Each element is computed by the same vector code wherever it lies, so
 * cutting the range differently changes no bits. */
#include <omp.h>

#include "act.h"
#include "gelu.h"

/* Elements that pay for a thread: of an exponential, of an addition. */
enum { GRAIN_EXP = 8192, GRAIN_ADD = 32768 };

tt_status TT_BLOCKED_ACT(tt_gelu_forward)(const tt_exec *exec, const void *args)
{
    const tt_gelu_forward_args *g = args;
    const tt_act *x = g->x;
    tt_act *y = g->y;
    int threads = tt_threads_for(exec, g->n, GRAIN_EXP);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t i, end;
        tt_part(g->n, 16, omp_get_num_threads(), omp_get_thread_num(), &i, &end);
        for (; i + TT_LANES <= end; i += TT_LANES)
            tt_astore(y + i, tt_vgelu(tt_aload(x + i)));
        if (i < end)
            tt_astore_first(y + i, tt_vgelu(tt_aload_first(x + i, end - i, 0)), end - i);
    }
    return TT_OK;
}

tt_status TT_BLOCKED_ACT(tt_gelu_backward)(const tt_exec *exec, const void *args)
{
    const tt_gelu_backward_args *g = args;
    const tt_act *x = g->x, *dy = g->dy;
    tt_act *dx = g->dx;
    int threads = tt_threads_for(exec, g->n, GRAIN_EXP);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t i, end;
        tt_part(g->n, 16, omp_get_num_threads(), omp_get_thread_num(), &i, &end);
        for (; i + TT_LANES <= end; i += TT_LANES)
            tt_astore(dx + i, tt_aload(dy + i) * tt_vgelu_slope(tt_aload(x + i)));
        if (i < end) {
            tt_vf slope = tt_vgelu_slope(tt_aload_first(x + i, end - i, 0));
            tt_astore_first(dx + i, tt_aload_first(dy + i, end - i, 0) * slope, end - i);
        }
    }
    return TT_OK;
}

/* silu(gate) up */
TT_INLINE void swiglu(const tt_act *gate, const tt_act *up, tt_act *y, int64_t n)
{
    tt_vf a = tt_aload_first(gate, n, 0);
    tt_astore_first(y, a * tt_vsigmoid(a) * tt_aload_first(up, n, 0), n);
}

/* Gradients of gate and up, which may take their places: silu'(a) = s + a s (1 - s). */
TT_INLINE void swiglu_slope(const tt_act *gate, const tt_act *up, const tt_act *dy, tt_act *dgate,
                            tt_act *dup, int64_t n)
{
    tt_vf a = tt_aload_first(gate, n, 0), b = tt_aload_first(up, n, 0);
    tt_vf d = tt_aload_first(dy, n, 0), s = tt_vsigmoid(a);
    tt_astore_first(dgate, d * b * (s + a * s * (1.0f - s)), n);
    tt_astore_first(dup, d * a * s, n);
}

tt_status TT_BLOCKED_ACT(tt_swiglu_forward)(const tt_exec *exec, const void *args)
{
    const tt_swiglu_forward_args *g = args;
    int64_t width = g->width;
    int threads = tt_threads_for(exec, g->rows * width, GRAIN_EXP);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t row = 0; row < g->rows; row++) {
        const tt_act *gate = (const tt_act *)g->x + row * 2 * width, *up = gate + width;
        tt_act *y = (tt_act *)g->y + row * width;
        int64_t i = 0;
        for (; i + TT_LANES <= width; i += TT_LANES)
            swiglu(gate + i, up + i, y + i, TT_LANES);
        if (i < width)
            swiglu(gate + i, up + i, y + i, width - i);
    }
    return TT_OK;
}

tt_status TT_BLOCKED_ACT(tt_swiglu_backward)(const tt_exec *exec, const void *args)
{
    const tt_swiglu_backward_args *g = args;
    int64_t width = g->width;
    int threads = tt_threads_for(exec, g->rows * width, GRAIN_EXP);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t row = 0; row < g->rows; row++) {
        const tt_act *gate = (const tt_act *)g->x + row * 2 * width, *up = gate + width;
        const tt_act *dy = (const tt_act *)g->dy + row * width;
        tt_act *dgate = (tt_act *)g->dx + row * 2 * width, *dup = dgate + width;
        int64_t i = 0;
        for (; i + TT_LANES <= width; i += TT_LANES)
            swiglu_slope(gate + i, up + i, dy + i, dgate + i, dup + i, TT_LANES);
        if (i < width)
            swiglu_slope(gate + i, up + i, dy + i, dgate + i, dup + i, width - i);
    }
    return TT_OK;
}

tt_status TT_BLOCKED_ACT(tt_add)(const tt_exec *exec, const void *args)
{
    const tt_add_args *g = args;
    const float *a = g->a;
    const tt_act *b = g->b;
    float *out = g->out;
    int threads = tt_threads_for(exec, g->n, GRAIN_ADD);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t i, end;
        tt_part(g->n, 16, omp_get_num_threads(), omp_get_thread_num(), &i, &end);
        for (; i + TT_LANES <= end; i += TT_LANES)
            tt_vstore(out + i, tt_vload(a + i) + tt_aload(b + i));
        if (i < end) {
            tt_vf sum = tt_vload_first(a + i, end - i, 0) + tt_aload_first(b + i, end - i, 0);
            tt_vstore_first(out + i, sum, end - i);
        }
    }
    return TT_OK;
}
