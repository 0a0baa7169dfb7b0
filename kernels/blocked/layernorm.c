/* Layer normalization, vectorised within rows. A row's sums go lane by lane and are then folded:
 * an order that depends on `channels` alone. */
#include <omp.h>

#include "simd.h"

enum { GRAIN_NORM = 16384 };

/* Sum of x - shift, or of its square. */
TT_INLINE float sum_row(const float *x, int64_t n, float shift, bool square)
{
    tt_vf even = {0}, odd = {0};
    int64_t i = 0;
    for (; i + 2 * TT_LANES <= n; i += 2 * TT_LANES) {
        tt_vf a = tt_vload(x + i) - shift, b = tt_vload(x + i + TT_LANES) - shift;
        even += square ? a * a : a;
        odd += square ? b * b : b;
    }
    for (; i < n; i += TT_LANES) {
        int64_t here = tt_min64(TT_LANES, n - i);
        tt_vf a = (here == TT_LANES ? tt_vload(x + i) : tt_vload_part(x + i, here, shift)) - shift;
        even += square ? a * a : a;
    }
    return tt_vsum(even + odd);
}

static void forward_row(const tt_layernorm_forward_args *g, int64_t row)
{
    int64_t n = g->channels;
    const float *x = (const float *)g->x + row * n, *gamma = g->gamma, *beta = g->beta;
    float *y = (float *)g->y + row * n;
    float mean = sum_row(x, n, 0, false) / (float)n;
    float rstd = 1.0f / sqrtf(sum_row(x, n, mean, true) / (float)n + 1e-5f);
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES)
        tt_vstore(y + i,
                  (tt_vload(x + i) - mean) * rstd * tt_vload(gamma + i) + tt_vload(beta + i));
    for (; i < n; i++)
        y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
    ((float *)g->mean)[row] = mean;
    ((float *)g->rstd)[row] = rstd;
}

tt_status TT_BLOCKED(tt_layernorm_forward_f32)(const tt_exec *exec, const void *args)
{
    const tt_layernorm_forward_args *g = args;
    int threads = tt_threads_for(exec, g->rows * g->channels, GRAIN_NORM);
    if (g->channels == 0)
        return TT_OK;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t row = 0; row < g->rows; row++)
        forward_row(g, row);
    return TT_OK;
}

/* With h = gamma dy and z = (x - mean) rstd: dx += rstd (h - mean(h) - z mean(h z)). */
static void backward_row(const tt_layernorm_backward_args *g, int64_t row)
{
    int64_t n = g->channels;
    const float *x = (const float *)g->x + row * n, *dy = (const float *)g->dy + row * n;
    const float *gamma = g->gamma;
    float *dx = (float *)g->dx + row * n;
    float mean = ((const float *)g->mean)[row], rstd = ((const float *)g->rstd)[row];
    tt_vf sum_h = {0}, sum_hz = {0};
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES) {
        tt_vf h = tt_vload(gamma + i) * tt_vload(dy + i);
        sum_h += h;
        sum_hz += h * ((tt_vload(x + i) - mean) * rstd);
    }
    if (i < n) {
        tt_vf h = tt_vload_part(gamma + i, n - i, 0) * tt_vload_part(dy + i, n - i, 0);
        sum_h += h;
        sum_hz += h * ((tt_vload_part(x + i, n - i, mean) - mean) * rstd);
    }
    float mean_h = tt_vsum(sum_h) / (float)n, mean_hz = tt_vsum(sum_hz) / (float)n;
    for (i = 0; i + TT_LANES <= n; i += TT_LANES) {
        tt_vf h = tt_vload(gamma + i) * tt_vload(dy + i);
        tt_vf z = (tt_vload(x + i) - mean) * rstd;
        tt_vstore(dx + i, tt_vload(dx + i) + (h - mean_h - z * mean_hz) * rstd);
    }
    for (; i < n; i++) {
        float h = gamma[i] * dy[i], z = (x[i] - mean) * rstd;
        dx[i] += (h - mean_h - z * mean_hz) * rstd;
    }
}

/* Channels in parallel, rows in order. */
static void backward_columns(const tt_layernorm_backward_args *g, int64_t begin, int64_t end)
{
    float *dgamma = g->dgamma, *dbeta = g->dbeta;
    for (int64_t row = 0; row < g->rows; row++) {
        const float *x = (const float *)g->x + row * g->channels;
        const float *dy = (const float *)g->dy + row * g->channels;
        float mean = ((const float *)g->mean)[row], rstd = ((const float *)g->rstd)[row];
        int64_t i = begin;
        for (; i + TT_LANES <= end; i += TT_LANES) {
            tt_vf d = tt_vload(dy + i), z = (tt_vload(x + i) - mean) * rstd;
            tt_vstore(dgamma + i, tt_vload(dgamma + i) + d * z);
            tt_vstore(dbeta + i, tt_vload(dbeta + i) + d);
        }
        for (; i < end; i++) {
            dgamma[i] += dy[i] * ((x[i] - mean) * rstd);
            dbeta[i] += dy[i];
        }
    }
}

tt_status TT_BLOCKED(tt_layernorm_backward_f32)(const tt_exec *exec, const void *args)
{
    const tt_layernorm_backward_args *g = args;
    int threads = tt_threads_for(exec, 2 * g->rows * g->channels, GRAIN_NORM);
    if (g->channels == 0)
        return TT_OK;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static) nowait
        for (int64_t row = 0; row < g->rows; row++)
            backward_row(g, row);
        int64_t begin, end;
        tt_part(g->channels, 16, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
        backward_columns(g, begin, end);
    }
    return TT_OK;
}
