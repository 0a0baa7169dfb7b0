/* The codecs as plain loops: what every other variant is compared with. */
#include "internal.h"

static bool usable(float x, bool up)
{
    return isfinite(x) && (!up || x >= 0);
}

/* `scaled` rounded up; with dither, up or down so that it is right on average, but not to 0. */
static float round_up(float x, float scaled, float scale, const uint32_t *dither, int64_t i)
{
    float q = ceilf(scaled);
    if (dither != NULL) {
        q = floorf(scaled + tt_codec_dither(*dither, i));
        return q == 0 && x > 0 ? 1 : fminf(q, 255);
    }
    if (q * scale < x) /* the product was rounded down (or to 0) */
        q += 1;
    return fminf(q, 255);
}

/* A block of n elements in 8 bits, the first of which is element `first`; returns its scale. */
static float encode_block(const float *x, int64_t n, bool up, uint8_t *codes,
                          const uint32_t *dither, int64_t first)
{
    float absmax = 0, top = up ? 255 : 127;
    bool fine = true;
    for (int64_t i = 0; i < n; i++) {
        fine = fine && usable(x[i], up);
        absmax = fmaxf(absmax, fabsf(x[i]));
    }
    tt_codec_scale s = fine ? tt_codec_scale_of(absmax, top, up) : (tt_codec_scale){NAN, 0};
    for (int64_t i = 0; i < n; i++) {
        float scaled = x[i] * s.inverse;
        if (!fine)
            codes[i] = 0;
        else if (up)
            codes[i] = (uint8_t)round_up(x[i], scaled, s.scale, dither, first + i);
        else
            codes[i] = (uint8_t)(int8_t)lrintf(scaled);
    }
    return s.scale;
}

/* Elements [begin, end) of `to`, of which x is the first; begin is a multiple of the block. */
static void encode_range(const float *x, const tt_encoded *to, int64_t begin, int64_t end,
                         const uint32_t *dither)
{
    bool up = to->codec == TT_CODEC_UINT8_UP;
    if (to->codec == TT_CODEC_F32) {
        memcpy((float *)to->data + begin, x, (size_t)(end - begin) * sizeof *x);
        return;
    }
    if (to->codec == TT_CODEC_BF16) {
        for (int64_t i = begin; i < end; i++)
            ((uint16_t *)to->data)[i] = tt_bf16_of(x[i - begin]);
        return;
    }
    for (int64_t i = begin; i < end; i += to->block) {
        int64_t here = end - i < to->block ? end - i : to->block;
        tt_codec_scales(to)[i / to->block] =
            encode_block(x + (i - begin), here, up, (uint8_t *)to->data + i, dither, i);
    }
}

static float decode_one(const tt_encoded *from, int64_t i)
{
    if (from->codec == TT_CODEC_F32)
        return ((const float *)from->data)[i];
    if (from->codec == TT_CODEC_BF16)
        return tt_float_of((uint32_t)((const uint16_t *)from->data)[i] << 16);
    float scale = tt_codec_scales(from)[i / from->block];
    return scale * (from->codec == TT_CODEC_INT8 ? (float)((const int8_t *)from->data)[i]
                                                 : (float)((const uint8_t *)from->data)[i]);
}

static void measure(tt_codec_loss *loss, float x, float decoded, bool up)
{
    double error = x - decoded;
    loss->error_squares += error * error;
    loss->norm_squares += (double)x * (double)x;
    loss->nonfinite += (uint64_t)!usable(x, up);
}

void tt_encode__reference(const tt_codec_exec *exec, const void *args)
{
    (void)exec;
    const tt_encode_args *g = args;
    bool up = g->to.codec == TT_CODEC_UINT8_UP;
    encode_range(g->x, &g->to, 0, g->to.n, NULL);
    for (int64_t begin = 0; g->loss != NULL && begin < g->to.n; begin += TT_CODEC_SUM_BLOCK) {
        tt_codec_loss here = {0};
        for (int64_t i = begin; i < g->to.n && i < begin + TT_CODEC_SUM_BLOCK; i++)
            measure(&here, g->x[i], decode_one(&g->to, i), up);
        tt_codec_loss_add(g->loss, &here);
    }
}

void tt_decode__reference(const tt_codec_exec *exec, const void *args)
{
    (void)exec;
    const tt_decode_args *g = args;
    for (int64_t i = 0; i < g->from.n; i++)
        g->x[i] = decode_one(&g->from, i);
}

static float update_of(const tt_codec_step *s, float m, float root)
{
    return m * s->inverse_correction1 / (root * s->root_inverse_correction2 + s->epsilon);
}

static float parameter(const tt_adamw_encoded_args *g, const void *p, int64_t i)
{
    return g->rounding != NULL ? tt_float_of((uint32_t)((const uint16_t *)p)[i] << 16)
                               : ((const float *)p)[i];
}

/* Returns what it became. */
static float put_parameter(const tt_adamw_encoded_args *g, int64_t i, float x)
{
    uint16_t random[8];
    if (g->rounding == NULL) {
        ((float *)g->p_next)[i] = x;
        return x;
    }
    tt_random_u16(g->rounding->seed, g->rounding->stream, (uint64_t)(i / 8 * 8), random, 8);
    ((uint16_t *)g->p_next)[i] = tt_bf16_at_random(x, random[i % 8]);
    return parameter(g, g->p_next, i);
}

/* Steps p; leaves the exact new moments (v as it is kept: F32 itself, else its root) in m and v. */
static void step_range(const tt_adamw_encoded_args *g, const tt_codec_step *s, int64_t begin,
                       int64_t end, float *m, float *v, tt_verdict *verdict)
{
    for (int64_t i = begin; i < end; i++) {
        float p = parameter(g, g->p, i), d = ((const float *)g->g)[i] * s->gradient_scale;
        float kept = decode_one(&g->v, i), before = g->v.codec == TT_CODEC_F32 ? kept : kept * kept;
        float m1 = s->beta1 * decode_one(&g->m, i) + s->one_less_beta1 * d;
        float v1 = s->beta2 * before + s->one_less_beta2 * (d * d);
        float p1 = p - s->learning_rate * (update_of(s, m1, sqrtf(v1)) + s->decay * p);
        p1 = put_parameter(g, i, p1);
        double change = p1 - p;
        m[i - begin] = m1;
        v[i - begin] = g->v_next.codec == TT_CODEC_F32 ? v1 : sqrtf(v1);
        verdict->update_squares += change * change;
        verdict->nonfinite +=
            (uint64_t)!isfinite(p1) + (uint64_t)!isfinite(m1) + (uint64_t)!isfinite(sqrtf(v1));
    }
}

void tt_adamw_encoded__reference(const tt_codec_exec *exec, const void *args)
{
    (void)exec;
    const tt_adamw_encoded_args *g = args;
    tt_codec_step s = tt_codec_step_of(g);
    uint32_t dither = tt_codec_dither_base(g->dither);
    bool squared = g->v_next.codec == TT_CODEC_F32, up = g->v_next.codec == TT_CODEC_UINT8_UP;
    float m[TT_CODEC_BLOCK_MAX], v[TT_CODEC_BLOCK_MAX];
    for (int64_t begin = 0; begin < g->n; begin += TT_CODEC_BLOCK_MAX) {
        int64_t left = g->n - begin;
        int64_t end = begin + (left < TT_CODEC_BLOCK_MAX ? left : TT_CODEC_BLOCK_MAX);
        tt_verdict verdict = {0};
        tt_codec_loss lost[3] = {{0}};
        step_range(g, &s, begin, end, m, v, &verdict);
        g->verdict->nonfinite += verdict.nonfinite;
        g->verdict->update_squares += verdict.update_squares;
        encode_range(m, &g->m_next, begin, end, NULL);
        encode_range(v, &g->v_next, begin, end, g->dither != 0 ? &dither : NULL);
        for (int64_t i = begin; g->m_loss != NULL && i < end; i++) {
            float m1 = m[i - begin], m2 = decode_one(&g->m_next, i);
            float v1 = v[i - begin], v2 = decode_one(&g->v_next, i);
            float r1 = squared ? sqrtf(v1) : v1, r2 = squared ? sqrtf(v2) : v2;
            measure(&lost[0], m1, m2, false);
            measure(&lost[1], r1, squared ? r1 : r2, up);
            measure(&lost[2], update_of(&s, m1, r1), update_of(&s, m2, r2), false);
        }
        if (g->m_loss == NULL)
            continue;
        tt_codec_loss_add(g->m_loss, &lost[0]);
        tt_codec_loss_add(g->v_loss, &lost[1]);
        tt_codec_loss_add(g->u_loss, &lost[2]);
    }
}
