/* Layer and root-mean-square normalization, vectorised within rows. A row's sums go lane by lane in
 * four strands that are then folded: an order that depends on `channels` alone. The two differ in
 * the mean, which only the first takes off (`center`). */
#include <omp.h>

#include "act.h"

/* Elements that pay for a thread; elements of a block of rows that stays in the L2 cache between
 * the two passes of backward. */
enum { GRAIN_NORM = 16384, BLOCK_NORM = 32768 };

typedef struct norm_forward {
    int64_t rows, channels;
    const float *x, *gamma, *beta;
    const tt_act *branch;
    tt_act *y;
    float *mean, *rstd, *sum;
} norm_forward;

typedef struct norm_row {
    const float *x;       /* what is added up */
    const tt_act *branch; /* added to it before, if not NULL, and the sum stored */
    float *sum;
    int64_t n;
} norm_row;

/* x + branch - shift of one vector, or its square; 0 past the end. */
TT_INLINE tt_vf row_term(const norm_row *row, int64_t i, int64_t n, float shift, bool add,
                         bool square)
{
    tt_vf v = tt_vload_first(row->x + i, n, shift);
    if (add) {
        v += tt_aload_first(row->branch + i, n, 0);
        tt_vstore_first(row->sum + i, v, n);
    }
    v -= shift;
    return square ? v * v : v;
}

TT_INLINE float row_sum(const norm_row *row, float shift, bool add, bool square)
{
    tt_vf s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t i = 0;
    for (; i + 4 * TT_LANES <= row->n; i += 4 * TT_LANES) {
        s0 += row_term(row, i, TT_LANES, shift, add, square);
        s1 += row_term(row, i + TT_LANES, TT_LANES, shift, add, square);
        s2 += row_term(row, i + 2 * TT_LANES, TT_LANES, shift, add, square);
        s3 += row_term(row, i + 3 * TT_LANES, TT_LANES, shift, add, square);
    }
    for (; i < row->n; i += TT_LANES)
        s0 += row_term(row, i, row->n - i, shift, add, square);
    return tt_vsum((s0 + s1) + (s2 + s3));
}

TT_INLINE void normalize(const norm_forward *g, const float *x, tt_act *y, int64_t i, int64_t n,
                         float mean, float rstd, bool center)
{
    tt_vf z = (tt_vload_first(x + i, n, 0) - mean) * rstd;
    tt_vf v = z * tt_vload_first(g->gamma + i, n, 0);
    tt_astore_first(y + i, center ? v + tt_vload_first(g->beta + i, n, 0) : v, n);
}

TT_INLINE void forward_row(const norm_forward *g, int64_t at, bool center)
{
    int64_t n = g->channels, i = 0;
    norm_row row = {.x = g->x + at * n, .n = n};
    float first; /* LayerNorm's sum, RMSNorm's sum of squares */
    if (g->branch != NULL) {
        row.branch = g->branch + at * n;
        row.sum = g->sum + at * n;
        first = row_sum(&row, 0, true, !center);
        row.x = row.sum;
    } else {
        first = row_sum(&row, 0, false, !center);
    }
    float mean = center ? first / (float)n : 0;
    float squares = center ? row_sum(&row, mean, false, true) : first;
    float rstd = 1.0f / sqrtf(squares / (float)n + 1e-5f);
    for (; i + TT_LANES <= n; i += TT_LANES)
        normalize(g, row.x, g->y + at * n, i, TT_LANES, mean, rstd, center);
    if (i < n)
        normalize(g, row.x, g->y + at * n, i, n - i, mean, rstd, center);
    if (center)
        g->mean[at] = mean;
    g->rstd[at] = rstd;
}

TT_INLINE void forward(const tt_exec *exec, const norm_forward *g, bool center)
{
    int threads = tt_threads_for(exec, g->rows * g->channels, GRAIN_NORM);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t row = 0; row < g->rows; row++)
        forward_row(g, row, center);
}

tt_status TT_BLOCKED_ACT(tt_layernorm_forward)(const tt_exec *exec, const void *args)
{
    const tt_layernorm_forward_args *g = args;
    const norm_forward all = {.rows = g->rows,
                              .channels = g->channels,
                              .x = g->x,
                              .gamma = g->gamma,
                              .beta = g->beta,
                              .branch = g->branch,
                              .y = g->y,
                              .mean = g->mean,
                              .rstd = g->rstd,
                              .sum = g->sum};
    if (g->channels > 0)
        forward(exec, &all, true);
    return TT_OK;
}

tt_status TT_BLOCKED_ACT(tt_rmsnorm_forward)(const tt_exec *exec, const void *args)
{
    const tt_rmsnorm_forward_args *g = args;
    const norm_forward all = {.rows = g->rows,
                              .channels = g->channels,
                              .x = g->x,
                              .gamma = g->gamma,
                              .branch = g->branch,
                              .y = g->y,
                              .rstd = g->rstd,
                              .sum = g->sum};
    if (g->channels > 0)
        forward(exec, &all, false);
    return TT_OK;
}

typedef struct norm_backward {
    int64_t rows, channels;
    const tt_act *dy;
    const float *x, *gamma, *mean, *rstd;
    float *dx, *dgamma, *dbeta;
    tt_act *dx_act;
    bool overwrite_dx, overwrite_parameters;
} norm_backward;

typedef struct norm_terms {
    tt_vf h, z;
} norm_terms;

/* h = gamma dy and z = (x - mean) rstd; both 0 past the end. */
TT_INLINE norm_terms terms_at(const norm_backward *g, int64_t row, int64_t i, int64_t n,
                              bool center)
{
    int64_t at = row * g->channels + i;
    float mean = center ? g->mean[row] : 0;
    tt_vf dy = tt_aload_first(g->dy + at, n, 0);
    return (norm_terms){tt_vload_first(g->gamma + i, n, 0) * dy,
                        (tt_vload_first(g->x + at, n, mean) - mean) * g->rstd[row]};
}

/* dx += rstd (h - mean(h) - z mean(h z)), without mean(h) where nothing was centered. */
TT_INLINE void change_dx(const norm_backward *g, int64_t row, int64_t i, int64_t n, float mean_h,
                         float mean_hz, bool center)
{
    int64_t at = row * g->channels + i;
    norm_terms t = terms_at(g, row, i, n, center);
    tt_vf change = (t.h - mean_h - t.z * mean_hz) * g->rstd[row];
    if (!g->overwrite_dx)
        change += tt_vload_first(g->dx + at, n, 0);
    tt_vstore_first(g->dx + at, change, n);
    if (g->dx_act != NULL)
        tt_astore_first(g->dx_act + at, change, n);
}

TT_INLINE void backward_row(const norm_backward *g, int64_t row, bool center)
{
    int64_t n = g->channels, i = 0;
    tt_vf h0 = {0}, h1 = {0}, hz0 = {0}, hz1 = {0};
    for (; i + 2 * TT_LANES <= n; i += 2 * TT_LANES) {
        norm_terms a = terms_at(g, row, i, TT_LANES, center);
        norm_terms b = terms_at(g, row, i + TT_LANES, TT_LANES, center);
        h0 += a.h, h1 += b.h;
        hz0 += a.h * a.z, hz1 += b.h * b.z;
    }
    for (; i < n; i += TT_LANES) {
        norm_terms a = terms_at(g, row, i, n - i, center);
        h0 += a.h;
        hz0 += a.h * a.z;
    }
    float mean_h = center ? tt_vsum(h0 + h1) / (float)n : 0;
    float mean_hz = tt_vsum(hz0 + hz1) / (float)n;
    for (i = 0; i + TT_LANES <= n; i += TT_LANES)
        change_dx(g, row, i, TT_LANES, mean_h, mean_hz, center);
    if (i < n)
        change_dx(g, row, i, n - i, mean_h, mean_hz, center);
}

/* Adds rows [first, last) to the gradients of `count` vectors of parameters from column i on, which
 * stay in registers; n columns are left. */
TT_INLINE void add_parameters(const norm_backward *g, int64_t first, int64_t last, int64_t i,
                              int64_t n, int count, bool center)
{
    tt_vf dgamma[4], dbeta[4];
#pragma GCC unroll 4
    for (int v = 0; v < count; v++) {
        dgamma[v] = tt_vload_first(g->dgamma + i + v * TT_LANES, n, 0);
        dbeta[v] = center ? tt_vload_first(g->dbeta + i + v * TT_LANES, n, 0) : (tt_vf){0};
    }
    for (int64_t row = first; row < last; row++) {
        float mean = center ? g->mean[row] : 0, rstd = g->rstd[row];
        int64_t at = row * g->channels + i;
#pragma GCC unroll 4
        for (int v = 0; v < count; v++) {
            tt_vf dy = tt_aload_first(g->dy + at + v * TT_LANES, n, 0);
            dgamma[v] += dy * ((tt_vload_first(g->x + at + v * TT_LANES, n, mean) - mean) * rstd);
            dbeta[v] += dy;
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < count; v++) {
        tt_vstore_first(g->dgamma + i + v * TT_LANES, dgamma[v], n);
        if (center)
            tt_vstore_first(g->dbeta + i + v * TT_LANES, dbeta[v], n);
    }
}

/* Channels in parallel, rows in order. */
TT_INLINE void backward_columns(const norm_backward *g, int64_t first, int64_t last, int64_t begin,
                                int64_t end, bool center)
{
    int64_t i = begin;
    for (; i + 4 * TT_LANES <= end; i += 4 * TT_LANES)
        add_parameters(g, first, last, i, TT_LANES, 4, center);
    for (; i + TT_LANES <= end; i += TT_LANES)
        add_parameters(g, first, last, i, TT_LANES, 1, center);
    if (i < end)
        add_parameters(g, first, last, i, end - i, 1, center);
}

/* Both passes go block by block, so that the second finds what the first has read in a cache. */
TT_INLINE void backward(const tt_exec *exec, const norm_backward *g, bool center)
{
    int threads = tt_threads_for(exec, 2 * g->rows * g->channels, GRAIN_NORM);
    int64_t block = tt_max64(1, threads * BLOCK_NORM / g->channels);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int index = omp_get_thread_num(), parts = omp_get_num_threads();
        int64_t left, right, begin, end;
        tt_part(g->channels, 16, parts, index, &left, &right);
        if (g->overwrite_parameters && left < right) {
            memset(g->dgamma + left, 0, (size_t)(right - left) * sizeof(float));
            if (center)
                memset(g->dbeta + left, 0, (size_t)(right - left) * sizeof(float));
        }
        for (int64_t first = 0; first < g->rows; first += block) {
            int64_t last = tt_min64(g->rows, first + block);
            tt_part(last - first, 1, parts, index, &begin, &end);
            for (int64_t row = first + begin; row < first + end; row++)
                backward_row(g, row, center);
            backward_columns(g, first, last, left, right, center);
        }
    }
}

tt_status TT_BLOCKED_ACT(tt_layernorm_backward)(const tt_exec *exec, const void *args)
{
    const tt_layernorm_backward_args *g = args;
    const norm_backward all = {.rows = g->rows,
                               .channels = g->channels,
                               .dy = g->dy,
                               .x = g->x,
                               .gamma = g->gamma,
                               .mean = g->mean,
                               .rstd = g->rstd,
                               .dx = g->dx,
                               .dgamma = g->dgamma,
                               .dbeta = g->dbeta,
                               .dx_act = g->dx_act,
                               .overwrite_dx = g->overwrite_dx,
                               .overwrite_parameters = g->overwrite_parameters};
    if (g->channels > 0)
        backward(exec, &all, true);
    return TT_OK;
}

tt_status TT_BLOCKED_ACT(tt_rmsnorm_backward)(const tt_exec *exec, const void *args)
{
    const tt_rmsnorm_backward_args *g = args;
    const norm_backward all = {.rows = g->rows,
                               .channels = g->channels,
                               .dy = g->dy,
                               .x = g->x,
                               .gamma = g->gamma,
                               .rstd = g->rstd,
                               .dx = g->dx,
                               .dgamma = g->dgamma,
                               .dx_act = g->dx_act,
                               .overwrite_dx = g->overwrite_dx,
                               .overwrite_parameters = g->overwrite_parameters};
    if (g->channels > 0)
        backward(exec, &all, false);
    return TT_OK;
}
