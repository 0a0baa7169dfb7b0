/* Softmax cross-entropy, row by row: maximum, sum of exponentials, then the gradient. */
#include <omp.h>

#include "act.h"

enum { GRAIN_SOFTMAX = 8192 };

/* A NaN hides from the maximum but not from the sum; +inf makes inf - inf there. */
static void run_row(const tt_softmax_xent_args *g, int64_t row)
{
    int64_t n = g->vocab, i = 0;
    const float *logits = (const float *)g->logits + row * n;
    int32_t target = ((const int32_t *)g->targets)[row];
    float target_logit = logits[target];
    tt_vf peak = tt_vset(-INFINITY);
    for (; i + TT_LANES <= n; i += TT_LANES)
        peak = tt_vmax(tt_vload(logits + i), peak);
    if (i < n)
        peak = tt_vmax(tt_vload_part(logits + i, n - i, -INFINITY), peak);
    float max = tt_vmax_lane(peak);
    tt_vf even = {0}, odd = {0};
    for (i = 0; i + 2 * TT_LANES <= n; i += 2 * TT_LANES) {
        even += tt_vexp(tt_vload(logits + i) - max);
        odd += tt_vexp(tt_vload(logits + i + TT_LANES) - max);
    }
    for (; i < n; i += TT_LANES)
        even += tt_vexp(tt_vload_part(logits + i, tt_min64(TT_LANES, n - i), -INFINITY) - max);
    float sum = tt_vsum(even + odd);
    ((float *)g->losses)[row] = logf(sum) + max - target_logit;
    if (g->dlogits == NULL)
        return;
    tt_act *dlogits = (tt_act *)g->dlogits + row * n;
    float scale = (float)g->scale, factor = scale / sum;
    for (i = 0; i + TT_LANES <= n; i += TT_LANES)
        tt_astore(dlogits + i, tt_vexp(tt_vload(logits + i) - max) * factor);
    if (i < n) {
        tt_vf p = tt_vexp(tt_vload_part(logits + i, n - i, -INFINITY) - max) * factor;
        tt_astore_first(dlogits + i, p, n - i);
    }
    /* Not p * scale - scale: the target's own gradient is scale (p - 1). */
    float p = tt_exp_one(target_logit - max) / sum;
    tt_astore_first(dlogits + target, tt_vset((p - 1.0f) * scale), 1);
}

tt_status TT_BLOCKED_ACT(tt_softmax_xent)(const tt_exec *exec, const void *args)
{
    const tt_softmax_xent_args *g = args;
    int threads = tt_threads_for(exec, g->rows * g->vocab, GRAIN_SOFTMAX);
    if (g->vocab == 0)
        return TT_OK;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t row = 0; row < g->rows; row++)
        run_row(g, row);
    return TT_OK;
}
