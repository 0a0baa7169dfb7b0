/* compression/internal.h: what the codecs' variants and the compressor know of each other.
 *
 * What decides the bits of codes and scales is written down here once, as operations on single
 * floats, each rounded (no contraction): a block's scale, the rounding to bf16, the constants of an
 * AdamW step. */
#ifndef TT_COMPRESSION_INTERNAL_H
#define TT_COMPRESSION_INTERNAL_H

#include <float.h>
#include <math.h>
#include <string.h>

#include <trimtab/compression.h>

/* Elements per partial sum, combined in order: the totals do not depend on how many threads made
 * them. A multiple of every block, so that no block is cut. */
#define TT_CODEC_SUM_BLOCK TT_CODEC_BLOCK_MAX
/* Partial sums kept at a time; longer tensors go in rounds. */
#define TT_CODEC_SUM_ROUND 1024

/* Bytes of float output from which decode and adamw write past the caches (as kernels' adamw). */
#define TT_CODEC_STREAM_BYTES ((size_t)8 << 20)

/* What one pass over some elements found. */
typedef struct tt_codec_partial {
    tt_codec_loss first, second, update; /* encode: the first; adamw: m, sqrt(v), u */
    tt_verdict verdict;
} tt_codec_partial;

/* All that a variant may use besides its arguments. Variants allocate nothing. */
typedef struct tt_codec_exec {
    int threads;
    tt_codec_partial *partials; /* TT_CODEC_SUM_ROUND of them */
} tt_codec_exec;

typedef struct tt_encode_args {
    const float *x;
    tt_encoded to;
    tt_codec_loss *loss; /* added to; NULL: not measured */
} tt_encode_args;

typedef struct tt_decode_args {
    tt_encoded from;
    float *x;
} tt_decode_args;

/* `args`: tt_encode_args, tt_decode_args, or tt_adamw_encoded_args with all losses or none. */
typedef void (*tt_codec_fn)(const tt_codec_exec *exec, const void *args);

#define TT_CODEC_VARIANT(op, name, isa, function)                                                  \
    void function(const tt_codec_exec *exec, const void *args);
#include "variants.def"
#undef TT_CODEC_VARIANT

static inline void tt_codec_loss_add(tt_codec_loss *to, const tt_codec_loss *from)
{
    to->error_squares += from->error_squares;
    to->norm_squares += from->norm_squares;
    to->nonfinite += from->nonfinite;
}

/* Bytes of one element's code. */
static inline size_t tt_codec_code_size(tt_codec codec)
{
    return codec == TT_CODEC_F32 ? 4 : codec == TT_CODEC_BF16 ? 2 : 1;
}

static inline bool tt_codec_has_scales(tt_codec codec)
{
    return codec == TT_CODEC_INT8 || codec == TT_CODEC_UINT8_UP;
}

static inline float *tt_codec_scales(const tt_encoded *e)
{
    return (float *)((char *)e->data + tt_codec_scales_offset(e->codec, e->n));
}

static inline uint32_t tt_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float tt_float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A block's scale, and what elements are multiplied with before they are rounded. */
typedef struct tt_codec_scale {
    float scale, inverse;
} tt_codec_scale;

/* For a finite absmax >= 0; `top` is the largest code. A block of zeros has scale 0, so that zeroed
 * memory is an encoding of zeros. A scale is never denormal: it would have too few bits to hold
 * the codes within `top`. */
static inline tt_codec_scale tt_codec_scale_of(float absmax, float top, bool up)
{
    if (absmax == 0)
        return (tt_codec_scale){0, 0};
    float scale = absmax / top;
    if (scale < FLT_MIN)
        return (tt_codec_scale){FLT_MIN, 1 / FLT_MIN};
    if (up && scale * top < absmax) /* the greatest element may not decode to less either */
        scale = tt_float_of(tt_float_bits(scale) + 1);
    if (isinf(scale * top)) /* absmax is within two ulp of FLT_MAX */
        scale = tt_float_of(tt_float_bits(scale) - 1);
    return (tt_codec_scale){scale, top / absmax};
}

/* What dithering adds to element i before it is rounded down, in steps of 2^-16 (so that sums with
 * codes are exact): i and the step both walk through [0, 1) evenly, by the golden ratio and sqrt 2,
 * so that an element's rounding is right on average over few steps. */
#define TT_DITHER_STRIDE 0x9e3779b9u

static inline uint32_t tt_codec_dither_base(uint64_t dither)
{
    return (uint32_t)(dither * 0x6a09e667f3bcc909u >> 32);
}

static inline float tt_codec_dither(uint32_t base, int64_t i)
{
    return (float)((base + (uint32_t)i * TT_DITHER_STRIDE) >> 16) * 0x1p-16F;
}

/* Round to nearest even; what is finite stays finite. */
static inline uint16_t tt_bf16_of(float x)
{
    uint32_t bits = tt_float_bits(x), magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40); /* a NaN, made quiet */
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    bool overflows = magnitude < 0x7f800000u && (rounded & 0x7fffu) == 0x7f80u;
    return (uint16_t)(rounded - overflows);
}

/* Up or down at random, right on average (see tt_rounding); what is finite stays finite. */
static inline uint16_t tt_bf16_at_random(float x, uint16_t random)
{
    uint32_t bits = tt_float_bits(x), rounded = (bits + random) >> 16;
    if ((bits & 0x7fffffffu) >= 0x7f800000u)
        return tt_bf16_of(x);
    return (uint16_t)(rounded - ((rounded & 0x7fffu) == 0x7f80u));
}

/* One step's constants as the variants use them. */
typedef struct tt_codec_step {
    float gradient_scale, beta1, beta2, one_less_beta1, one_less_beta2;
    float inverse_correction1;      /* 1 / bias_correction1 */
    float root_inverse_correction2; /* sqrt(1 / bias_correction2) */
    float epsilon, learning_rate, decay;
} tt_codec_step;

static inline tt_codec_step tt_codec_step_of(const tt_adamw_encoded_args *g)
{
    const tt_step_scalars *s = g->scalars;
    return (tt_codec_step){.gradient_scale = (float)s->gradient_scale,
                           .beta1 = (float)s->beta1,
                           .beta2 = (float)s->beta2,
                           .one_less_beta1 = (float)(1 - s->beta1),
                           .one_less_beta2 = (float)(1 - s->beta2),
                           .inverse_correction1 = (float)(1 / s->bias_correction1),
                           .root_inverse_correction2 = (float)sqrt(1 / s->bias_correction2),
                           .epsilon = (float)s->epsilon,
                           .learning_rate = (float)s->learning_rate,
                           .decay = (float)g->weight_decay};
}

#endif
