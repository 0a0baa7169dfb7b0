/* How the products of bf16 treat denormals. */
#ifndef TT_FLUSHED_H
#define TT_FLUSHED_H

#include <math.h>

#include "bf16.h"

/* A denormal becomes a zero of its sign. */
static inline float tt_flushed(float x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}

/* An element as an operand. */
static inline float tt_factor(uint16_t bits)
{
    return tt_flushed(tt_bf16_to_f32(bits));
}

#endif
