/* compression/blocked/ranges.h: encoding and decoding of ranges that start at a block, and the sums
 * over a tensor. Ranges go through the cache twice at most: a block is read for its maximum, then
 * (from the first-level cache) for its codes. */
#ifndef TT_COMPRESSION_RANGES_H
#define TT_COMPRESSION_RANGES_H

#include "simd.h"

enum { GRAIN_BLOCKS = 4 }; /* sum blocks that pay for a thread */

/* ---- sums --------------------------------------------------------------------------------- */

typedef struct loss_sums {
    tt_vsum error, norm;
    tt_codec_loss bad; /* of blocks that cannot be encoded; elements that are not finite */
} loss_sums;

TT_INLINE tt_codec_loss loss_total(const loss_sums *sums)
{
    tt_codec_loss loss = {tt_vtotal(&sums->error), tt_vtotal(&sums->norm), 0};
    tt_codec_loss_add(&loss, &sums->bad);
    return loss;
}

static uint64_t count_nonfinite(const float *x, int64_t n)
{
    uint64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += (uint64_t)!isfinite(x[i]);
    return count;
}

/* Loops over a range take a loss_sums, or NULL (known where they are inlined) if nothing is to be
 * measured.
 *
 * Adds a range's sums, which loops keep in variables of their own (registers). Whether anything is
 * not finite is seen from the sum: squares of floats do not overflow in float64. */
TT_INLINE void loss_sums_add(loss_sums *to, tt_vsum error, tt_vsum norm, const float *x, int64_t n)
{
    if (to == NULL)
        return;
    tt_vsum_add(&to->error, error);
    tt_vsum_add(&to->norm, norm);
    if (!isfinite(tt_vtotal(&norm)))
        to->bad.nonfinite += count_nonfinite(x, n);
}

/* Elements [begin, end): whole sum blocks, or the last one. */
typedef tt_codec_partial (*block_fn)(const void *body, int64_t begin, int64_t end);

/* Runs all sum blocks, in rounds of TT_CODEC_SUM_ROUND, and adds up in their order. */
static tt_codec_partial sum_blocks(const tt_codec_exec *exec, int64_t n, block_fn run,
                                   const void *body)
{
    tt_codec_partial total = {0};
    for (int64_t round = 0; round < n; round += (int64_t)TT_CODEC_SUM_ROUND * TT_CODEC_SUM_BLOCK) {
        int64_t left = (n - round + TT_CODEC_SUM_BLOCK - 1) / TT_CODEC_SUM_BLOCK;
        int64_t blocks = tt_min64(TT_CODEC_SUM_ROUND, left);
        int threads = (int)tt_max64(1, tt_min64(exec->threads, blocks / GRAIN_BLOCKS));
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
        for (int64_t block = 0; block < blocks; block++) {
            int64_t begin = round + block * TT_CODEC_SUM_BLOCK;
            exec->partials[block] = run(body, begin, tt_min64(n, begin + TT_CODEC_SUM_BLOCK));
        }
        for (int64_t block = 0; block < blocks; block++) {
            const tt_codec_partial *p = &exec->partials[block];
            tt_codec_loss_add(&total.first, &p->first);
            tt_codec_loss_add(&total.second, &p->second);
            tt_codec_loss_add(&total.update, &p->update);
            total.verdict.nonfinite += p->verdict.nonfinite;
            total.verdict.update_squares += p->verdict.update_squares;
        }
    }
    return total;
}

/* ---- encoding ----------------------------------------------------------------------------- */

typedef struct quantized {
    tt_vi codes;
    tt_vf decoded;
} quantized;

/* As tt_codec_dither, of elements i, i + 1, ... */
TT_INLINE tt_vf dither_lanes(uint32_t base, int64_t i)
{
    tt_vu bits;
    for (int lane = 0; lane < TT_LANES; lane++)
        bits[lane] = (uint32_t)lane * TT_DITHER_STRIDE;
    bits += base + (uint32_t)i * TT_DITHER_STRIDE;
    return __builtin_convertvector((tt_vi)(bits >> 16), tt_vf) * 0x1p-16F;
}

/* `dither` (UINT8_UP): what is to be added, or NULL. */
TT_INLINE quantized quantize(tt_vf x, tt_codec_scale s, bool up, const tt_vf *dither)
{
    tt_vf scaled = x * s.inverse;
    if (!up) {
        tt_vi codes = tt_vint(scaled);
        return (quantized){codes, __builtin_convertvector(codes, tt_vf) * s.scale};
    }
    tt_vf q;
    if (dither == NULL) {
        q = tt_vceil(scaled);
        q = tt_vadd_one_where_less(q, q * s.scale, x); /* the product was rounded down (or to 0) */
    } else {
        q = tt_vfloor(scaled + *dither);
        q = tt_vadd_one_where_less(q, q * FLT_MAX, x); /* 0, where x is not */
    }
    q = tt_vmin(q, tt_vset(255));
    return (quantized){tt_vint(q), q * s.scale};
}

TT_INLINE int32_t greatest_magnitude(const float *x, int64_t n)
{
    tt_vi most = {0};
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES)
        most = tt_vmax_int(most, (tt_vi)tt_vload(x + i) & 0x7fffffff);
    if (i < n)
        most = tt_vmax_int(most, (tt_vi)tt_vload_up_to(x + i, n - i) & 0x7fffffff);
    return tt_vmax_lane(most);
}

/* Where a sign was seen: it may be that of a zero. */
static int32_t greatest_if_nonnegative(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(x[i] >= 0))
            return 0x7f800000;
    return greatest_magnitude(x, n);
}

/* Bits of the greatest |x|, as an integer: from 0x7f800000 on, the block has no scale. */
TT_INLINE int32_t greatest(const float *x, int64_t n, bool up)
{
    if (!up)
        return greatest_magnitude(x, n);
    tt_vi most = {0}, signs = {0};
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES) {
        tt_vi v = (tt_vi)tt_vload(x + i);
        most = tt_vmax_int(most, v); /* what is negative is a negative integer */
        signs |= v;
    }
    if (i < n) {
        tt_vi v = (tt_vi)tt_vload_up_to(x + i, n - i);
        most = tt_vmax_int(most, v);
        signs |= v;
    }
    if (__builtin_expect(tt_vany(signs < 0), 0))
        return greatest_if_nonnegative(x, n);
    return tt_vmax_lane(most);
}

/* A block that cannot be encoded. */
static void spoil(const float *x, int64_t n, bool up, int8_t *codes, float *decoded,
                  tt_codec_loss *loss)
{
    memset(codes, 0, (size_t)n);
    for (int64_t i = 0; loss != NULL && i < n; i++) {
        loss->norm_squares += (double)x[i] * (double)x[i];
        loss->nonfinite += !isfinite(x[i]) || (up && x[i] < 0);
        if (decoded != NULL)
            decoded[i] = NAN;
    }
    if (loss != NULL)
        loss->error_squares = NAN;
}

/* `decoded` may be NULL. */
TT_INLINE void encode_lanes(const float *x, int64_t here, bool up, tt_codec_scale s,
                            const tt_vf *dither, int8_t *codes, float *decoded, tt_vsum *error,
                            tt_vsum *norm)
{
    tt_vf v = tt_vload_up_to(x, here);
    quantized q = quantize(v, s, up, dither);
    tt_vb narrow = tt_vnarrow8(q.codes);
    if (here == TT_LANES)
        memcpy(codes, &narrow, sizeof narrow);
    else
        memcpy(codes, &narrow, (size_t)here % sizeof narrow);
    if (decoded != NULL)
        tt_vstore_up_to(decoded, q.decoded, here);
    if (error != NULL) {
        tt_vadd_squares(error, v - q.decoded);
        tt_vadd_squares_of(norm, x, here);
    }
}

/* x[0] is element `first`; `dither` is its base, or NULL. */
TT_INLINE void encode_block(const float *x, int64_t n, bool up, tt_codec_scale s,
                            const uint32_t *dither, int64_t first, int8_t *codes, float *decoded,
                            tt_vsum *error, tt_vsum *norm)
{
    tt_vf add = {0}, *dithering = dither == NULL ? NULL : &add;
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES) {
        if (dither != NULL)
            add = dither_lanes(*dither, first + i);
        encode_lanes(x + i, TT_LANES, up, s, dithering, codes + i,
                     decoded == NULL ? NULL : decoded + i, error, norm);
    }
    if (dither != NULL)
        add = dither_lanes(*dither, first + i);
    if (i < n)
        encode_lanes(x + i, n - i, up, s, dithering, codes + i,
                     decoded == NULL ? NULL : decoded + i, error, norm);
}

/* A range of at most TT_CODEC_BLOCK_MAX elements; first all maxima, then all scales, then all
 * codes: what one block waits for, others do not. */
TT_INLINE void encode_blocks(const float *x, const tt_encoded *to, int64_t begin, int64_t end,
                             bool up, const uint32_t *dither, float *decoded, loss_sums *sums)
{
    int32_t most[TT_CODEC_BLOCK_MAX / TT_CODEC_BLOCK_MIN];
    tt_codec_scale s[TT_CODEC_BLOCK_MAX / TT_CODEC_BLOCK_MIN];
    int shift = __builtin_ctzll((unsigned long long)to->block);
    int64_t n = end - begin, step = to->block, blocks = (n + step - 1) >> shift;
    float *scales = tt_codec_scales(to) + (begin >> shift);
    int8_t *codes = (int8_t *)to->data + begin;
    tt_vsum error = {{0}, {0}}, norm = {{0}, {0}};
    for (int64_t k = 0; k < blocks; k++)
        most[k] = greatest(x + (k << shift), tt_min64(step, n - (k << shift)), up);
    for (int64_t k = 0; k < blocks; k++) {
        float absmax = tt_float_of((uint32_t)most[k]);
        s[k] = most[k] < 0x7f800000 ? tt_codec_scale_of(absmax, up ? 255 : 127, up)
                                    : (tt_codec_scale){NAN, 0};
        scales[k] = s[k].scale;
    }
    for (int64_t k = 0; k < blocks; k++) {
        int64_t at = k << shift, here = tt_min64(step, n - at);
        float *out = decoded == NULL ? NULL : decoded + at;
        if (most[k] < 0x7f800000)
            encode_block(x + at, here, up, s[k], dither, begin + at, codes + at, out,
                         sums == NULL ? NULL : &error, &norm);
        else
            spoil(x + at, here, up, codes + at, out, sums == NULL ? NULL : &sums->bad);
    }
    loss_sums_add(sums, error, norm, x, 0); /* spoil() counts */
}

/* As tt_bf16_of, in the upper halves. */
TT_INLINE tt_vu bf16_bits(tt_vf v)
{
    tt_vu bits = (tt_vu)v, magnitude = bits & 0x7fffffffu;
    tt_vu rounded = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    tt_vi beyond = (tt_vi)magnitude > 0x7f7f7fff; /* would become infinite, or is not finite */
    if (__builtin_expect(tt_vany(beyond), 0)) {
        tt_vu finite = (tt_vu)beyond & (tt_vu)(magnitude < 0x7f800000u);
        tt_vu nan = (tt_vu)(magnitude > 0x7f800000u);
        rounded = (((bits & 0x80000000u) | 0x7f7f0000u) & finite) | (rounded & ~finite);
        rounded = (((bits & 0xffff0000u) | 0x400000u) & nan) | (rounded & ~nan);
    }
    return rounded;
}

TT_INLINE void encode_bf16_lanes(const float *x, uint16_t *codes, int64_t here, float *decoded,
                                 tt_vsum *error, tt_vsum *norm)
{
    tt_vf v = tt_vload_up_to(x, here);
    tt_vu bits = bf16_bits(v);
    tt_vs narrow = tt_vupper16(bits);
    if (here == TT_LANES)
        memcpy(codes, &narrow, sizeof narrow);
    else
        memcpy(codes, &narrow, (size_t)here * sizeof *codes % sizeof narrow);
    if (decoded != NULL)
        tt_vstore_up_to(decoded, (tt_vf)bits, here);
    if (error != NULL) {
        tt_vadd_squares(error, v - (tt_vf)bits);
        tt_vadd_squares_of(norm, x, here);
    }
}

TT_INLINE void encode_bf16(const float *x, uint16_t *codes, int64_t n, float *decoded,
                           loss_sums *sums)
{
    tt_vsum error = {{0}, {0}}, norm = {{0}, {0}};
    int64_t i = 0;
    for (; i + TT_LANES <= n; i += TT_LANES)
        encode_bf16_lanes(x + i, codes + i, TT_LANES, decoded == NULL ? NULL : decoded + i,
                          sums == NULL ? NULL : &error, &norm);
    if (i < n)
        encode_bf16_lanes(x + i, codes + i, n - i, decoded == NULL ? NULL : decoded + i,
                          sums == NULL ? NULL : &error, &norm);
    loss_sums_add(sums, error, norm, x, n);
}

/* What is kept as it is loses nothing (x - x is NaN where x is not finite). */
static void measure_kept(const float *x, int64_t n, loss_sums *sums)
{
    tt_vsum none = {{0}, {0}}, norm = {{0}, {0}};
    for (int64_t i = 0; i < n; i += TT_LANES)
        tt_vadd_squares_of(&norm, x + i, n - i);
    loss_sums_add(sums, none, norm, x, n);
    if (!isfinite(tt_vtotal(&norm)))
        sums->bad.error_squares = NAN;
}

TT_INLINE void encode_f32(const float *x, float *codes, int64_t n, float *decoded, loss_sums *sums)
{
    memcpy(codes, x, (size_t)n * sizeof *codes);
    if (decoded != NULL)
        memcpy(decoded, x, (size_t)n * sizeof *decoded);
    if (sums != NULL)
        measure_kept(x, n, sums);
}

/* Elements [begin, end) of `to`, of which x is the first (and decoded, which may be NULL). */
TT_INLINE void encode_range(const float *x, const tt_encoded *to, int64_t begin, int64_t end,
                            const uint32_t *dither, float *decoded, loss_sums *sums)
{
    switch (to->codec) {
    case TT_CODEC_F32:
        encode_f32(x, (float *)to->data + begin, end - begin, decoded, sums);
        break;
    case TT_CODEC_BF16:
        encode_bf16(x, (uint16_t *)to->data + begin, end - begin, decoded, sums);
        break;
    case TT_CODEC_INT8:
        encode_blocks(x, to, begin, end, false, NULL, decoded, sums);
        break;
    default:
        if (dither != NULL)
            encode_blocks(x, to, begin, end, true, dither, decoded, sums);
        else
            encode_blocks(x, to, begin, end, true, NULL, decoded, sums);
    }
}

/* ---- decoding ----------------------------------------------------------------------------- */

TT_INLINE void put(float *x, tt_vf v, int64_t n, bool stream)
{
    if (stream && n >= TT_LANES)
        tt_vstream(x, v);
    else
        tt_vstore_up_to(x, v, n);
}

TT_INLINE void decode_block(const int8_t *codes, float scale, bool up, float *x, int64_t n,
                            bool stream)
{
    for (int64_t i = 0; i < n; i += TT_LANES) {
        int64_t here = tt_min64(TT_LANES, n - i);
        tt_vb c;
        if (here == TT_LANES)
            memcpy(&c, codes + i, sizeof c);
        else
            tt_load_part(&c, sizeof c, codes + i, here, 1);
        put(x + i, tt_vfloat_of_codes(c, up) * scale, here, stream);
    }
}

TT_INLINE void decode_bf16(const uint16_t *codes, float *x, int64_t n, bool stream)
{
    for (int64_t i = 0; i < n; i += TT_LANES) {
        int64_t here = tt_min64(TT_LANES, n - i);
        tt_vus c;
        if (here == TT_LANES)
            memcpy(&c, codes + i, sizeof c);
        else
            tt_load_part(&c, sizeof c, codes + i, here, sizeof *codes);
        put(x + i, (tt_vf)tt_vraise16(c), here, stream);
    }
}

TT_INLINE void decode_f32(const float *codes, float *x, int64_t n, bool stream)
{
    for (int64_t i = 0; i < n; i += TT_LANES)
        put(x + i, tt_vload_up_to(codes + i, n - i), n - i, stream);
}

/* Elements [begin, end) of `from`, to x. */
TT_INLINE void decode_range(const tt_encoded *from, int64_t begin, int64_t end, float *x,
                            bool stream)
{
    if (from->codec == TT_CODEC_F32) {
        decode_f32((const float *)from->data + begin, x, end - begin, stream);
        return;
    }
    if (from->codec == TT_CODEC_BF16) {
        decode_bf16((const uint16_t *)from->data + begin, x, end - begin, stream);
        return;
    }
    const float *scales = tt_codec_scales(from);
    const int8_t *codes = from->data;
    for (int64_t i = begin; i < end; i += from->block) {
        int64_t n = tt_min64(from->block, end - i);
        float scale = scales[i / from->block];
        if (from->codec == TT_CODEC_INT8)
            decode_block(codes + i, scale, false, x + (i - begin), n, stream);
        else
            decode_block(codes + i, scale, true, x + (i - begin), n, stream);
    }
}

#endif
