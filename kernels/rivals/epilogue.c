/* Bias, its gradient, and GELU, after a library's product. */
#include "epilogue.h"

#include <omp.h>

#include "bf16.h"

/* Elements that pay for a thread. */
enum { GRAIN = 65536 };

static int threads_for(const tt_exec *exec, int64_t elements)
{
    int64_t most = elements / GRAIN + 1;
    return most < exec->threads ? (int)most : exec->threads;
}

void tt_rival_add_bias(const tt_exec *exec, int64_t m, int64_t n, const float *bias, float *y)
{
    if (bias == NULL)
        return;
#pragma omp parallel for num_threads(threads_for(exec, m *n)) schedule(static)
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            y[i * n + j] += bias[j];
}

/* This thread's columns, in whole cache lines. */
static void own_columns(int64_t n, int64_t *begin, int64_t *end)
{
    int64_t lines = (n + 15) / 16, team = omp_get_num_threads(), self = omp_get_thread_num();
    *begin = lines * self / team * 16;
    *end = lines * (self + 1) / team * 16;
    *begin = *begin < n ? *begin : n;
    *end = *end < n ? *end : n;
}

void tt_rival_add_columns_f32(const tt_exec *exec, int64_t m, int64_t n, const float *dy,
                              bool overwrite, float *sums)
{
    if (sums == NULL)
        return;
#pragma omp parallel num_threads(threads_for(exec, m *n))
    {
        int64_t begin, end;
        own_columns(n, &begin, &end);
        for (int64_t j = begin; overwrite && j < end; j++)
            sums[j] = 0;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = begin; j < end; j++)
                sums[j] += dy[i * n + j];
    }
}

void tt_rival_add_columns_bf16(const tt_exec *exec, int64_t m, int64_t n, const uint16_t *dy,
                               bool overwrite, float *sums)
{
    if (sums == NULL)
        return;
#pragma omp parallel num_threads(threads_for(exec, m *n))
    {
        int64_t begin, end;
        own_columns(n, &begin, &end);
        for (int64_t j = begin; overwrite && j < end; j++)
            sums[j] = 0;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = begin; j < end; j++)
                sums[j] += tt_bf16_to_f32(dy[i * n + j]);
    }
}

tt_status tt_rival_gelu(const tt_exec *exec, tt_dtype act, int64_t n, const void *y, void *gelu)
{
    if (gelu == NULL)
        return TT_OK;
    return tt_variant_best(TT_OP_GELU_FORWARD, act, TT_NUMERICS_EXACT)
        ->run(exec, &(tt_gelu_forward_args){.n = n, .x = y, .y = gelu});
}

tt_status tt_rival_gelu_slope(const tt_exec *exec, tt_dtype act, int64_t n, const void *gelu_x,
                              void *dx)
{
    if (gelu_x == NULL)
        return TT_OK;
    return tt_variant_best(TT_OP_GELU_BACKWARD, act, TT_NUMERICS_EXACT)
        ->run(exec, &(tt_gelu_backward_args){.n = n, .x = gelu_x, .dy = dx, .dx = dx});
}

/* Blocks that stay in the first cache on their way through float. */
enum { BLOCK = 1024 };

tt_status tt_rival_gelu_slope_to_bf16(const tt_exec *exec, int64_t n, const uint16_t *gelu_x,
                                      float *sums, uint16_t *dx)
{
    const tt_variant *slope = tt_variant_best(TT_OP_GELU_BACKWARD, TT_F32, TT_NUMERICS_EXACT);
    tt_exec alone = *exec;
    alone.threads = 1;
    int failed = TT_OK;
#pragma omp parallel for num_threads(threads_for(exec, n)) schedule(static) reduction(max : failed)
    for (int64_t at = 0; at < n; at += BLOCK) {
        float x[BLOCK];
        int64_t count = n - at < BLOCK ? n - at : BLOCK;
        for (int64_t i = 0; i < count; i++)
            x[i] = tt_bf16_to_f32(gelu_x[at + i]);
        int status = (int)slope->run(
            &alone, &(tt_gelu_backward_args){.n = count, .x = x, .dy = sums + at, .dx = sums + at});
        failed = status > failed ? status : failed;
        for (int64_t i = 0; i < count; i++)
            dx[at + i] = tt_bf16_from_f32(sums[at + i]);
    }
    return (tt_status)failed;
}
