/* trimtab/compression.h: codecs for saved activations and for the optimizer's state.
 *
 *   1. codecs and the place of an encoded tensor
 *   2. encoding, decoding, and what is lost
 *   3. AdamW over encoded moments
 *   4. variants
 *
 * Like every operation on tensors, these take a context and are the only code besides kernels that
 * touches tensor bytes. A block is `block` consecutive elements; the last one may be shorter. All
 * results are exact in the sense of tt_numerics: codes, scales and parameters have the same bits
 * for every thread count and every variant; sums have the same bits for every thread count, and
 * agree within 1e-12 among variants.
 */
#ifndef TRIMTAB_COMPRESSION_H
#define TRIMTAB_COMPRESSION_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. codecs ---------------------------------------------------------------------------- */

/* From most to fewest bits. Zeroed memory is an encoding of zeros in all of them. */
typedef enum tt_codec {
    TT_CODEC_F32, /* as it is */
    /* Round to nearest even: error <= 2^-8 |x| of normal floats. NaN stays NaN (quiet), infinity
     * infinity; what is finite stays finite (beyond the greatest bf16 it becomes that). */
    TT_CODEC_BF16,
    /* Per block: q = round(x * 127 / absmax), to nearest even; scale = absmax / 127, at least
     * 2^-126 where absmax is not 0 (Dettmers et al. 2022, 8-bit optimizers, with linear codes).
     * Error <= scale / 2 (1 + 2^-14). The sign of zeros is lost. */
    TT_CODEC_INT8,
    /* For values >= 0 of which none may vanish: q = ceil(x * 255 / max), scale = max / 255, at
     * least 2^-126 where max is not 0. Decoded >= x (where max > FLT_MAX (1 - 2^-22), decoded >= x
     * (1 - 2^-23)), so that x > 0 never decodes to 0; decoded - x < scale (1 + 2^-14). 0 stays 0. A
     * negative element is an error: it counts as non-finite. */
    TT_CODEC_UINT8_UP,
    TT_CODEC_COUNT
} tt_codec;

#define TT_CODEC_BLOCK_MIN 32
#define TT_CODEC_BLOCK_MAX 4096

/* "f32", "bf16", "int8", "uint8_up" */
TT_API const char *tt_codec_name(tt_codec codec);
/* False if there is no codec of that name. */
TT_API bool tt_codec_parse(const char *name, tt_codec *out);
/* Bytes of `n` elements: codes, padded to 64, then scales (f32, one a block; none for F32 and
 * BF16), padded to 64. Operations that write write zeros into the padding, so that equal tensors
 * are equal bytes; except F32, where nothing but the elements is touched (so that data may be part
 * of a larger tensor). */
TT_API size_t tt_codec_bytes(tt_codec codec, int64_t block, int64_t n);
/* Where the scales begin in these bytes. */
TT_API size_t tt_codec_scales_offset(tt_codec codec, int64_t n);

/* A tensor as some codec keeps it; `data` is tensor memory of tt_codec_bytes(...), aligned to 4
 * bytes (to 64 where speed counts). `block` is a power of two within the bounds above (ignored by
 * F32 and BF16). */
typedef struct tt_encoded {
    tt_codec codec;
    int64_t block, n;
    void *data;
} tt_encoded;

/* ---- 2. encoding and decoding ------------------------------------------------------------- */

/* What an encoding lost, in float64 sums in a fixed order; sums of several tensors add up. */
typedef struct tt_codec_loss {
    double error_squares; /* sum of (x - decoded)^2, each difference rounded to float */
    double norm_squares;  /* sum of x^2; both sums are not finite if an x is not */
    uint64_t nonfinite;   /* elements of x that are NaN or infinite (or negative: UINT8_UP) */
} tt_codec_loss;

/* ||x - x^|| / ||x||: 0 for 0/0; infinity if only ||x|| is 0, or if anything was not finite. */
TT_API double tt_codec_loss_ratio(const tt_codec_loss *loss);

/* The codecs of one context. */
typedef struct tt_compressor tt_compressor;
/* Starts with the best variants that the machine has. `context` (f32) is borrowed. One thread at a
 * time may use it. */
TT_API tt_status tt_compressor_create(tt_context *context, tt_compressor **out);
TT_API void tt_compressor_destroy(tt_compressor *compressor);

/* Encodes to->n floats of tensor memory and, in the same pass, decodes and measures. `loss` is
 * added to; NULL: nothing is measured, which takes less time. Blocks (INT8, UINT8_UP) with a NaN or
 * an infinity have scale NaN and codes 0: they decode to NaN throughout. `x` may not overlap
 * to->data. TT_EINVAL for what breaks this; nothing in the data is an error. */
TT_API tt_status tt_encode(tt_compressor *compressor, const void *x, const tt_encoded *to,
                           tt_codec_loss *loss);
/* Any bytes decode to something. `x` may not overlap from->data. */
TT_API tt_status tt_decode(tt_compressor *compressor, const tt_encoded *from, void *x);

/* ---- 3. AdamW over encoded moments -------------------------------------------------------- */

/* As tt_adamw_args, with both moments in any codec on either side (m has signs: not UINT8_UP):
 * decode, update, encode, decode again and measure, block by block in one pass, so that nothing of
 * float size is kept and a change of codec is just another step. The second moment is kept as its
 * square root (UINT8_UP, or any other codec; F32 keeps v itself). g is f32; so are p
 * and p_next or, with `rounding`, bf16 as in TT_OP_ADAMW. Arrays may be the same on both sides
 * where codec and block are the same too. With F32 on all sides the results are TT_OP_ADAMW's
 * within rounding (8 ulp of m, v and the update).
 *
 * A moving average that is rounded up at every step does not come down: where beta2 takes less than
 * one code per step (the root of 0.999: codes below 2000, all of them), a root stays at its
 * greatest until the block's scale shrinks, and no error of a single step shows it. With `dither` =
 * the step, counted from 1, roots are rounded up or down so that they are right on average (but x >
 * 0 not to 0; error < scale either way). Set it in training. */
typedef struct tt_adamw_encoded_args {
    int64_t n;
    const void *p, *g;
    tt_encoded m, v;
    void *p_next;
    tt_encoded m_next, v_next;
    double weight_decay;
    const tt_step_scalars *scalars;
    tt_verdict *verdict;   /* added to, as in TT_OP_ADAMW: p, m and v before they are encoded */
    tt_codec_loss *m_loss; /* of m; added to; may be NULL (all three: not measured, faster) */
    tt_codec_loss *v_loss; /* of sqrt(v); likewise */
    tt_codec_loss *u_loss; /* of the update u = m^ / (sqrt(v^) + epsilon), exact against decoded */
    /* Not 0: UINT8_UP roots are dithered, with a number that counts steps (see above). */
    uint64_t dither;
    const tt_rounding *rounding; /* p is bf16; NULL: f32 */
} tt_adamw_encoded_args;

/* The parameters are updated with the exact moments of this step; what is lost acts on the next. */
TT_API tt_status tt_adamw_encoded(tt_compressor *compressor, const tt_adamw_encoded_args *args);

/* ---- 4. variants -------------------------------------------------------------------------- */

typedef enum tt_codec_op {
    TT_CODEC_ENCODE,
    TT_CODEC_DECODE,
    TT_CODEC_ADAMW,
    TT_CODEC_OP_COUNT
} tt_codec_op;

/* "encode", "decode", "adamw_encoded" */
TT_API const char *tt_codec_op_name(tt_codec_op op);

typedef struct tt_codec_variant_info {
    tt_codec_op op;
    const char *name; /* "reference", "blocked_v1", "blocked_v3", "blocked_v4" */
    tt_isa isa;
} tt_codec_variant_info;

TT_API size_t tt_codec_variant_count(void);
TT_API const tt_codec_variant_info *tt_codec_variant_at(size_t index);
/* The variant that `compressor` now runs for `op`. */
TT_API const tt_codec_variant_info *tt_compressor_variant(const tt_compressor *compressor,
                                                          tt_codec_op op);
/* As tt_context_set_variants: "auto" is the best that the machine has. TT_ENOTFOUND names those
 * there are; TT_EUNSUPPORTED when the machine lacks the instruction set. */
TT_API tt_status tt_compressor_set_variants(tt_compressor *compressor, const char *name);

#ifdef __cplusplus
}
#endif
#endif
