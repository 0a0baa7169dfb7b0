/* kernels/blocked/step.h: what is multiplied and added at a time: one element of k, or a pair of
 * bf16, neighbours in k. */
#ifndef TT_BLOCKED_STEP_H
#define TT_BLOCKED_STEP_H

#include "simd.h"

#if TT_PANELS_BF16
#include "avx512_bf16/pairs.h"

typedef tt_pair tt_step;

TT_INLINE tt_vf tt_multiply_add(tt_vf sum, tt_step a, tt_vf b)
{
    return tt_vdot(sum, a, b);
}

/* The same of element p of k alone: its neighbour is not multiplied, not even by zero. */
TT_INLINE tt_vf tt_multiply_add_one(tt_vf sum, tt_step a, tt_vf b, int64_t p)
{
    const uint32_t kept = p % 2 == 0 ? 0xffffu : 0xffff0000u;
    return tt_vdot(sum, a & kept, (tt_vf)((tt_vu)b & kept));
}
#else
typedef float tt_step;

TT_INLINE tt_vf tt_multiply_add(tt_vf sum, tt_step a, tt_vf b)
{
    return sum + a * b;
}

TT_INLINE tt_vf tt_multiply_add_one(tt_vf sum, tt_step a, tt_vf b, int64_t p)
{
    (void)p;
    return tt_multiply_add(sum, a, b);
}
#endif

#endif
