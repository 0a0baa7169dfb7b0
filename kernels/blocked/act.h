/* kernels/blocked/act.h: activations in memory. A source that touches them is compiled once for
 * float and once for bfloat16 (TT_ACT_BF16), and names its functions with TT_BLOCKED_ACT(): loads
 * widen, stores round to nearest even, and what lies between is the same arithmetic in float. */
#ifndef TT_BLOCKED_ACT_H
#define TT_BLOCKED_ACT_H

#include "simd.h"

#if TT_ACT_BF16

#define TT_BLOCKED_ACT(name) TT_BLOCKED(name##_bf16)

typedef uint16_t tt_act;
typedef uint16_t tt_vs __attribute__((vector_size(TT_LANES * 2)));
typedef uint16_t tt_vs_unaligned __attribute__((vector_size(TT_LANES * 2), aligned(2), may_alias));

TT_INLINE tt_vf tt_widen(tt_vs v)
{
    return (tt_vf)(__builtin_convertvector(v, tt_vu) << 16);
}

/* A NaN keeps its upper bits and becomes quiet; see bf16.h. */
TT_INLINE tt_vs tt_narrow(tt_vf v)
{
    tt_vu bits = (tt_vu)v;
    tt_vu rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    tt_vu nan = (tt_vu)(v != v);
    return __builtin_convertvector((rounded & ~nan) | ((bits >> 16 | 0x40u) & nan), tt_vs);
}

TT_INLINE tt_vf tt_aload(const tt_act *p)
{
    return tt_widen(*(const tt_vs_unaligned *)p);
}

TT_INLINE void tt_astore(tt_act *p, tt_vf v)
{
    *(tt_vs_unaligned *)p = tt_narrow(v);
}

TT_INLINE tt_vf tt_aload_first(const tt_act *p, int64_t n, float fill)
{
    if (n >= TT_LANES)
        return tt_aload(p);
    tt_vs v = {0};
    for (int64_t i = 0; i < n; i++)
        v[i] = p[i];
    tt_vf wide = tt_widen(v);
    for (int64_t i = n; i < TT_LANES; i++)
        wide[i] = fill;
    return wide;
}

TT_INLINE void tt_astore_first(tt_act *p, tt_vf v, int64_t n)
{
    tt_vs narrow = tt_narrow(v);
    if (n >= TT_LANES)
        *(tt_vs_unaligned *)p = narrow;
    else
        for (int64_t i = 0; i < n; i++)
            p[i] = narrow[i];
}

#else

#define TT_BLOCKED_ACT(name) TT_BLOCKED(name##_f32)

typedef float tt_act;

TT_INLINE tt_vf tt_aload(const tt_act *p)
{
    return tt_vload(p);
}

TT_INLINE void tt_astore(tt_act *p, tt_vf v)
{
    tt_vstore(p, v);
}

TT_INLINE tt_vf tt_aload_first(const tt_act *p, int64_t n, float fill)
{
    return tt_vload_first(p, n, fill);
}

TT_INLINE void tt_astore_first(tt_act *p, tt_vf v, int64_t n)
{
    tt_vstore_first(p, v, n);
}

#endif

#endif
