/* kernels/blocked/vbf16.h: bfloat16 in vectors of floats, with the bits of ../bf16.h. */
#ifndef TT_BLOCKED_VBF16_H
#define TT_BLOCKED_VBF16_H

#include "bf16.h"
#include "simd.h"

typedef uint16_t tt_vs __attribute__((vector_size(TT_LANES * 2)));
/* Where it lies in a tensor. */
typedef uint16_t tt_vs_unaligned __attribute__((vector_size(TT_LANES * 2), aligned(2), may_alias));

TT_INLINE tt_vf tt_vload_bf16(const uint16_t *p)
{
    return (tt_vf)(__builtin_convertvector(*(const tt_vs_unaligned *)p, tt_vu) << 16);
}

/* The nearest bf16, ties to even; a NaN stays a NaN. */
TT_INLINE tt_vf tt_vround_bf16(tt_vf x)
{
    tt_vu bits = (tt_vu)x;
    tt_vu near = bits + 0x7fffu + ((bits >> 16) & 1u);
    tt_vi nan = x != x;
    return tt_vselect(nan, (tt_vf)((bits | 0x400000u) & 0xffff0000u), (tt_vf)(near & 0xffff0000u));
}

/* x is a bf16 already. */
TT_INLINE void tt_vput_bf16(uint16_t *p, tt_vf x)
{
    *(tt_vs_unaligned *)p = __builtin_convertvector((tt_vu)x >> 16, tt_vs);
}

TT_INLINE void tt_vstore_bf16(uint16_t *p, tt_vf x)
{
    tt_vput_bf16(p, tt_vround_bf16(x));
}

/* n < TT_LANES elements; the other lanes are `fill`. */
TT_INLINE tt_vf tt_vload_bf16_part(const uint16_t *p, int64_t n, float fill)
{
    tt_vf v = tt_vset(fill);
    for (int64_t i = 0; i < n; i++)
        v[i] = tt_bf16_to_f32(p[i]);
    return v;
}

TT_INLINE void tt_vstore_bf16_part(uint16_t *p, tt_vf v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = tt_bf16_from_f32(v[i]);
}

#endif
