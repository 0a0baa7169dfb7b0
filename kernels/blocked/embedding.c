/* Token and position embeddings: real in every compute type. */
#include <omp.h>

#include "simd.h"
#include "vbf16.h"

enum { GRAIN_EMBEDDING = 32768 }; /* elements that pay for a thread */

/* out = a + b, or a where there is no b. */
TT_INLINE void add_range(const float *a, const float *b, float *out, int64_t n)
{
    int64_t i = 0;
    if (b == NULL) {
        memcpy(out, a, (size_t)n * sizeof *out);
        return;
    }
    for (; i + TT_LANES <= n; i += TT_LANES)
        tt_vstore(out + i, tt_vload(a + i) + tt_vload(b + i));
    for (; i < n; i++)
        out[i] = a[i] + b[i];
}

/* The same of weights in bf16. */
TT_INLINE void add_range_bf16(const uint16_t *a, const uint16_t *b, float *out, int64_t n)
{
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES)
        tt_vstore(out + i,
                  b != NULL ? tt_vload_bf16(a + i) + tt_vload_bf16(b + i) : tt_vload_bf16(a + i));
    for (; i < n; i++)
        out[i] = b != NULL ? tt_bf16_to_f32(a[i]) + tt_bf16_to_f32(b[i]) : tt_bf16_to_f32(a[i]);
}

/* One row: a token's vector, and that of its place where there are such. */
TT_INLINE void embed(const tt_embedding_forward_args *g, int64_t token, int64_t place, float *out)
{
    const uint16_t *wte_bf16 = g->wte, *wpe_bf16 = g->wpe;
    const float *wte = g->wte, *wpe = g->wpe;
    int64_t channels = g->channels;
    if (g->w_bf16)
        add_range_bf16(wte_bf16 + token * channels,
                       wpe_bf16 != NULL ? wpe_bf16 + place * channels : NULL, out, channels);
    else
        add_range(wte + token * channels, wpe != NULL ? wpe + place * channels : NULL, out,
                  channels);
}

tt_status TT_BLOCKED(tt_embedding_forward_f32)(const tt_exec *exec, const void *args)
{
    const tt_embedding_forward_args *g = args;
    const int32_t *tokens = g->tokens;
    float *out = g->out;
    int64_t rows = g->batch * g->time, channels = g->channels;
    int threads = tt_threads_for(exec, rows * channels, GRAIN_EMBEDDING);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t row = 0; row < rows; row++)
        embed(g, tokens[row], g->position + row % g->time, out + row * channels);
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
    int threads = tt_threads_for(exec, 2 * rows * channels, GRAIN_EMBEDDING);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        tt_part(channels, 16, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
        for (int64_t row = 0; row < rows; row++) {
            const float *from = dout + row * channels + begin;
            float *token = dwte + tokens[row] * channels + begin;
            add_range(token, from, token, end - begin);
            if (dwpe != NULL) {
                float *place = dwpe + row % g->time * channels + begin;
                add_range(place, from, place, end - begin);
            }
        }
    }
    return TT_OK;
}
