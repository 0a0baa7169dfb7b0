/* kernels/blocked/act.h: activations in memory. A source that touches them is compiled once for
 * float and once for bfloat16 (TT_ACT_BF16), and names its functions with TT_BLOCKED_ACT(): loads
 * widen, stores round to nearest even, and what lies between is the same arithmetic in float. */
#ifndef TT_BLOCKED_ACT_H
#define TT_BLOCKED_ACT_H

#include "vbf16.h"

#if TT_ACT_BF16

#define TT_BLOCKED_ACT(name) TT_BLOCKED(name##_bf16)

typedef uint16_t tt_act;

TT_INLINE tt_vf tt_aload(const tt_act *p)
{
    return tt_vload_bf16(p);
}

TT_INLINE void tt_astore(tt_act *p, tt_vf v)
{
    tt_vstore_bf16(p, v);
}

TT_INLINE tt_vf tt_aload_first(const tt_act *p, int64_t n, float fill)
{
    return n >= TT_LANES ? tt_vload_bf16(p) : tt_vload_bf16_part(p, n, fill);
}

TT_INLINE void tt_astore_first(tt_act *p, tt_vf v, int64_t n)
{
    if (n >= TT_LANES)
        tt_vstore_bf16(p, v);
    else
        tt_vstore_bf16_part(p, v, n);
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
