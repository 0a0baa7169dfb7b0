/* AdamW over encoded moments: chunks of a few blocks go through decoding, update, encoding and
 * measuring while they lie in the first-level cache. */
#include <omp.h>

#include "ranges.h"

/* Elements of a chunk, unless a block is larger. */
enum { CHUNK = 512 };

typedef struct adamw_body {
    const tt_adamw_encoded_args *g;
    tt_codec_step step;
    int64_t chunk;
    uint32_t dither;
    bool stream; /* p_next past the caches */
} adamw_body;

/* A chunk on its way. */
typedef struct buffers {
    float m[TT_CODEC_BLOCK_MAX], root[TT_CODEC_BLOCK_MAX]; /* decoded, then exact */
    float u[TT_CODEC_BLOCK_MAX];
    float p[TT_CODEC_BLOCK_MAX]; /* where it is bf16: decoded, then as it is rounded */
    uint16_t random[TT_CODEC_BLOCK_MAX];
    float m_decoded[TT_CODEC_BLOCK_MAX], root_decoded[TT_CODEC_BLOCK_MAX];
} buffers;

typedef struct adamw_sums {
    loss_sums m, root, u;
    tt_vsum change;
    uint64_t nonfinite; /* parameters; moments too where no loss is measured */
} adamw_sums;

TT_INLINE tt_vf update_of(const tt_codec_step *s, tt_vf m, tt_vf root)
{
    return m * s->inverse_correction1 / (root * s->root_inverse_correction2 + s->epsilon);
}

/* The parameters of the chunk that begins at element `at`. */
TT_INLINE const float *old_parameters(const adamw_body *body, const buffers *b, int64_t at)
{
    return body->g->rounding != NULL ? b->p : (const float *)body->g->p + at;
}

TT_INLINE float *new_parameters(const adamw_body *body, buffers *b, int64_t at)
{
    return body->g->rounding != NULL ? b->p : (float *)body->g->p_next + at;
}

/* Lanes past the end have all zeros, and a change of 0 whatever epsilon is. */
TT_INLINE void update_lanes(const adamw_body *body, int64_t at, int64_t i, int64_t here, buffers *b,
                            tt_vsum *change, tt_vf *probe)
{
    const tt_adamw_encoded_args *g = body->g;
    const tt_codec_step *s = &body->step;
    tt_vf p = tt_vload_up_to(old_parameters(body, b, at) + i, here);
    tt_vf d = tt_vload_up_to((const float *)g->g + at + i, here) * s->gradient_scale;
    tt_vf kept = tt_vload_up_to(b->root + i, here);
    tt_vf before = g->v.codec == TT_CODEC_F32 ? kept : kept * kept;
    tt_vf m = s->beta1 * tt_vload_up_to(b->m + i, here) + s->one_less_beta1 * d;
    tt_vf v = s->beta2 * before + s->one_less_beta2 * (d * d);
    tt_vf root = tt_vsqrt(v), u = update_of(s, m, root);
    tt_vf next = p - s->learning_rate * (u + s->decay * p);
    float *p_next = new_parameters(body, b, at) + i;
    if (g->rounding != NULL)
        next = tt_vbf16_at_random(next, b->random + i);
    put(p_next, next, here, body->stream);
    if (g->v_next.codec == TT_CODEC_F32)
        tt_vstore_up_to((float *)g->v_next.data + at + i, v, here);
    tt_vstore_up_to(b->m + i, m, here);
    tt_vstore_up_to(b->root + i, root, here);
    tt_vstore_up_to(b->u + i, u, here);
    if (here < TT_LANES)
        next = tt_vload_up_to(p_next, here);
    tt_vadd_squares(change, next - p);
    if (probe != NULL)
        *probe += (m + root) * 0; /* NaN where one is not finite (or their sum is not) */
}

TT_INLINE void update_range(const adamw_body *body, int64_t begin, int64_t n, bool measured,
                            buffers *b, adamw_sums *sums)
{
    const adamw_body local = *body; /* which no store through a float can change */
    tt_vsum change = {{0}, {0}};
    tt_vf moments = {0}, *probe = measured ? NULL : &moments;
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES)
        update_lanes(&local, begin, i, TT_LANES, b, &change, probe);
    if (i < n)
        update_lanes(&local, begin, i, n - i, b, &change, probe);
    tt_vsum_add(&sums->change, change);
    if (!isfinite(tt_vtotal(&change))) /* exactly where a new parameter is not finite */
        sums->nonfinite += count_nonfinite(new_parameters(body, b, begin), n);
    if (!measured && tt_vany(moments != 0))
        sums->nonfinite += count_nonfinite(b->m, n) + count_nonfinite(b->root, n);
}

TT_INLINE void measure_update(const tt_codec_step *step, const float *m, const float *root,
                              const float *u, int64_t here, tt_vsum *error, tt_vsum *norm)
{
    tt_vf exact = tt_vload_up_to(u, here);
    tt_vf decoded = update_of(step, tt_vload_up_to(m, here), tt_vload_up_to(root, here));
    for (int64_t lane = here; lane < TT_LANES; lane++)
        decoded[lane] = 0; /* 0/0 if epsilon is 0 */
    tt_vadd_squares(error, exact - decoded);
    tt_vadd_squares_of(norm, u, here);
}

static void measure_updates(const adamw_body *body, const float *m, const float *root,
                            const float *u, int64_t n, loss_sums *sums)
{
    const tt_codec_step step = body->step;
    tt_vsum error = {{0}, {0}}, norm = {{0}, {0}};
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES)
        measure_update(&step, m + i, root + i, u + i, TT_LANES, &error, &norm);
    if (i < n)
        measure_update(&step, m + i, root + i, u + i, n - i, &error, &norm);
    loss_sums_add(sums, error, norm, u, n);
}

/* Parameters in bf16 go through the buffer. */
TT_INLINE void begin_parameters(const tt_adamw_encoded_args *g, int64_t begin, int64_t end,
                                buffers *b)
{
    if (g->rounding == NULL)
        return;
    decode_bf16((const uint16_t *)g->p + begin, b->p, end - begin, false);
    tt_random_u16(g->rounding->seed, g->rounding->stream, (uint64_t)begin, b->random,
                  (size_t)(end - begin));
}

TT_INLINE void end_parameters(const tt_adamw_encoded_args *g, int64_t begin, int64_t end,
                              const buffers *b)
{
    if (g->rounding != NULL)
        encode_bf16(b->p, (uint16_t *)g->p_next + begin, end - begin, NULL, NULL);
}

TT_INLINE void adamw_chunk(const adamw_body *body, int64_t begin, int64_t end, bool measured,
                           buffers *b, adamw_sums *sums)
{
    const tt_adamw_encoded_args *g = body->g;
    int64_t n = end - begin;
    const float *root_decoded = b->root_decoded;
    decode_range(&g->m, begin, end, b->m, false);
    decode_range(&g->v, begin, end, b->root, false);
    begin_parameters(g, begin, end, b);
    update_range(body, begin, n, measured, b, sums);
    end_parameters(g, begin, end, b);
    encode_range(b->m, &g->m_next, begin, end, NULL, measured ? b->m_decoded : NULL,
                 measured ? &sums->m : NULL);
    if (g->v_next.codec != TT_CODEC_F32) {
        encode_range(b->root, &g->v_next, begin, end, g->dither != 0 ? &body->dither : NULL,
                     measured ? b->root_decoded : NULL, measured ? &sums->root : NULL);
    } else if (measured) {
        measure_kept(b->root, n, &sums->root); /* it is v that is kept */
        root_decoded = b->root;
    }
    if (measured)
        measure_updates(body, b->m_decoded, root_decoded, b->u, n, &sums->u);
}

TT_INLINE tt_codec_partial adamw_range(const adamw_body *body, int64_t begin, int64_t end,
                                       bool measured)
{
    adamw_sums sums = {0};
    buffers b;
    for (int64_t i = begin; i < end; i += body->chunk)
        adamw_chunk(body, i, tt_min64(end, i + body->chunk), measured, &b, &sums);
    if (body->stream)
        tt_vstream_fence();
    tt_codec_partial found = {loss_total(&sums.m),
                              loss_total(&sums.root),
                              loss_total(&sums.u),
                              {sums.nonfinite, tt_vtotal(&sums.change)}};
    found.verdict.nonfinite += found.first.nonfinite + found.second.nonfinite;
    return found;
}

static tt_codec_partial adamw_sum_block(const void *data, int64_t begin, int64_t end)
{
    return adamw_range(data, begin, end, true);
}

static tt_codec_partial adamw_unmeasured(const void *data, int64_t begin, int64_t end)
{
    return adamw_range(data, begin, end, false);
}

static int64_t chunk_of(const tt_adamw_encoded_args *g)
{
    const tt_encoded *all[] = {&g->m, &g->v, &g->m_next, &g->v_next};
    int64_t chunk = CHUNK;
    for (int i = 0; i < 4; i++)
        if (tt_codec_has_scales(all[i]->codec))
            chunk = tt_max64(chunk, all[i]->block);
    return chunk;
}

void TT_BLOCKED(tt_adamw_encoded)(const tt_codec_exec *exec, const void *args)
{
    const tt_adamw_encoded_args *g = args;
    bool stream = g->rounding == NULL && g->p_next != g->p &&
                  (uintptr_t)g->p_next % (TT_LANES * 4) == 0 &&
                  (size_t)g->n * sizeof(float) >= TT_CODEC_STREAM_BYTES;
    adamw_body body = {g, tt_codec_step_of(g), chunk_of(g), tt_codec_dither_base(g->dither),
                       stream};
    bool measured = g->m_loss != NULL;
    tt_codec_partial total =
        sum_blocks(exec, g->n, measured ? adamw_sum_block : adamw_unmeasured, &body);
    if (measured) {
        tt_codec_loss_add(g->m_loss, &total.first);
        tt_codec_loss_add(g->v_loss, &total.second);
        tt_codec_loss_add(g->u_loss, &total.update);
    }
    g->verdict->nonfinite += total.verdict.nonfinite;
    g->verdict->update_squares += total.verdict.update_squares;
}
