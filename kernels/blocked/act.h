/* kernels/blocked/act.h: activations in memory. A source that touches them is compiled once for
 * float and once for bfloat16 (TT_ACT_BF16), and names its functions with TT_BLOCKED_ACT(): loads
 * widen, stores round to nearest even, and what lies between is the same arithmetic in float. */
#ifndef TT_BLOCKED_ACT_H
#define TT_BLOCKED_ACT_H

#include "vbf16.h"

#if TT_ACT_BF16
typedef uint16_t tt_act;
#define TT_BLOCKED_ACT(name) TT_BLOCKED(name##_bf16)
#else
typedef float tt_act;
#define TT_BLOCKED_ACT(name) TT_BLOCKED(name##_f32)
#endif

TT_INLINE tt_vf tt_aload(const tt_act *p)
{
#if TT_ACT_BF16
    return tt_vload_bf16(p);
#else
    return tt_vload(p);
#endif
}

TT_INLINE void tt_astore(tt_act *p, tt_vf v)
{
#if TT_ACT_BF16
    tt_vstore_bf16(p, v);
#else
    tt_vstore(p, v);
#endif
}

/* As tt_vload_first. */
TT_INLINE tt_vf tt_aload_first(const tt_act *p, int64_t n, float fill)
{
#if TT_ACT_BF16
    return n >= TT_LANES ? tt_vload_bf16(p) : tt_vload_bf16_part(p, n, fill);
#else
    return tt_vload_first(p, n, fill);
#endif
}

TT_INLINE void tt_astore_first(tt_act *p, tt_vf v, int64_t n)
{
#if TT_ACT_BF16
    if (n >= TT_LANES)
        tt_vstore_bf16(p, v);
    else
        tt_vstore_bf16_part(p, v, n);
#else
    tt_vstore_first(p, v, n);
#endif
}

#endif
