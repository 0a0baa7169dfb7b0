/* The product's own AdamW and statistics once more, in a form that can leave out what gates look
 * at: the same source, inlined where nobody asks for the sums, so that the compiler drops them. */
#include "simd.h"

/* Beside the product's. */
#define tt_stats_f32__blocked_v1 bench_own_stats_v1
#define tt_stats_f32__blocked_v3 bench_own_stats_v3
#define tt_stats_f32__blocked_v4 bench_own_stats_v4
#define tt_adamw_f32__blocked_v1 bench_own_adamw_v1
#define tt_adamw_f32__blocked_v3 bench_own_adamw_v3
#define tt_adamw_f32__blocked_v4 bench_own_adamw_v4
#include "../kernels/blocked/optimizer.c" /* NOLINT(bugprone-suspicious-include): on purpose */
#include "uncounted.h"

_Static_assert(BENCH_PARTIALS_BYTES >= TT_SUM_ROUND * sizeof(tt_partial), "room for partial sums");

static tt_exec exec_of(int threads, void *partials)
{
    return (tt_exec){.threads = threads, .stream_bytes = TT_STREAM_BYTES, .partials = partials};
}

static tt_partial squares_block(const void *body, int64_t begin, int64_t end)
{
    return (tt_partial){stats_block(body, begin, end).squares, 0};
}

void TT_BLOCKED(bench_stats)(int threads, void *partials, const tt_stats_args *args, bool counted)
{
    tt_exec exec = exec_of(threads, partials);
    tt_partial total = sum_blocks(&exec, args->n, counted ? stats_block : squares_block, args->x);
    *args->out = (tt_tensor_stats){total.squares, total.count};
}

static tt_partial adamw_block_uncounted(const void *data, int64_t begin, int64_t end)
{
    const adamw_body *body = data;
    if (body->stream)
        (void)adamw_range(body, begin, end, true, false);
    else
        (void)adamw_range(body, begin, end, false, false);
    return (tt_partial){0, 0};
}

void TT_BLOCKED(bench_adamw)(int threads, void *partials, const tt_adamw_args *g, bool counted)
{
    tt_exec exec = exec_of(threads, partials);
    const tt_step_scalars *s = g->scalars;
    const adamw_body body = {.p = g->p,
                             .m = g->m,
                             .v = g->v,
                             .g = g->g,
                             .p_next = g->p_next,
                             .m_next = g->m_next,
                             .v_next = g->v_next,
                             .gradient_scale = (float)s->gradient_scale,
                             .beta1 = (float)s->beta1,
                             .beta2 = (float)s->beta2,
                             .one_less_beta1 = (float)(1 - s->beta1),
                             .one_less_beta2 = (float)(1 - s->beta2),
                             .inverse_correction1 = (float)(1 / s->bias_correction1),
                             .inverse_correction2 = (float)(1 / s->bias_correction2),
                             .epsilon = (float)s->epsilon,
                             .learning_rate = (float)s->learning_rate,
                             .decay = (float)g->weight_decay,
                             .stream = streams(&exec, g)};
    tt_partial total =
        sum_blocks(&exec, g->n, counted ? adamw_block : adamw_block_uncounted, &body);
    g->verdict->update_squares += total.squares;
    g->verdict->nonfinite += total.count;
}
