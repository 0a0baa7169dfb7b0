/* Encoding and decoding of whole tensors. */
#include <omp.h>

#include "ranges.h"

static tt_codec_partial encode_sum_block(const void *body, int64_t begin, int64_t end)
{
    const tt_encode_args *g = body;
    loss_sums sums = {0};
    encode_range(g->x + begin, &g->to, begin, end, NULL, NULL, &sums);
    return (tt_codec_partial){.first = loss_total(&sums)};
}

static tt_codec_partial encode_unmeasured(const void *body, int64_t begin, int64_t end)
{
    const tt_encode_args *g = body;
    encode_range(g->x + begin, &g->to, begin, end, NULL, NULL, NULL);
    return (tt_codec_partial){0};
}

void TT_BLOCKED(tt_encode)(const tt_codec_exec *exec, const void *args)
{
    const tt_encode_args *g = args;
    tt_codec_partial total =
        sum_blocks(exec, g->to.n, g->loss == NULL ? encode_unmeasured : encode_sum_block, g);
    if (g->loss != NULL)
        tt_codec_loss_add(g->loss, &total.first);
}

/* What is decoded is used next: where it fits the caches, it should be there. */
static tt_codec_partial decode_sum_block(const void *body, int64_t begin, int64_t end)
{
    const tt_decode_args *g = body;
    decode_range(&g->from, begin, end, g->x + begin, false);
    return (tt_codec_partial){0};
}

static tt_codec_partial decode_streaming(const void *body, int64_t begin, int64_t end)
{
    const tt_decode_args *g = body;
    decode_range(&g->from, begin, end, g->x + begin, true);
    tt_vstream_fence();
    return (tt_codec_partial){0};
}

void TT_BLOCKED(tt_decode)(const tt_codec_exec *exec, const void *args)
{
    const tt_decode_args *g = args;
    bool stream = (size_t)g->from.n * sizeof(float) >= TT_CODEC_STREAM_BYTES &&
                  (uintptr_t)g->x % (TT_LANES * 4) == 0;
    (void)sum_blocks(exec, g->from.n, stream ? decode_streaming : decode_sum_block, g);
}
