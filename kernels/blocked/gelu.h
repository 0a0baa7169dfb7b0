/* kernels/blocked/gelu.h: GELU in vectors, one code for the operations and for the products that
 * end in it: the same bits.
 *
 * The tanh form: x (1 + tanh u) / 2 = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). The sigmoid
 * has no cancellation where tanh u is near -1. */
#ifndef TT_BLOCKED_GELU_H
#define TT_BLOCKED_GELU_H

#include "simd.h"

#define TT_GELU_2A 1.5957691216057308f  /* 2 sqrt(2/pi) */
#define TT_GELU_2B 0.07135481627260025f /* 2 sqrt(2/pi) 0.044715 */

TT_INLINE tt_vf tt_vgelu(tt_vf x)
{
    return x * tt_vsigmoid(x * (TT_GELU_2A + TT_GELU_2B * (x * x)));
}

/* s + x s (1 - s) (2u)'. Beyond |x| = 20 it is 0 or 1, and clamping there keeps x^2 finite. */
TT_INLINE tt_vf tt_vgelu_slope(tt_vf x)
{
    x = tt_vmax(tt_vset(-20.0f), tt_vmin(tt_vset(20.0f), x));
    tt_vf s = tt_vsigmoid(x * (TT_GELU_2A + TT_GELU_2B * (x * x)));
    return s + x * (s * (1.0f - s)) * (TT_GELU_2A + 3.0f * TT_GELU_2B * (x * x));
}

#endif
