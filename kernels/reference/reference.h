/* kernels/reference/reference.h: the definition of every operation, as plain loops. Compiled
 * for float, for double (gradients are checked in it), and for mixed precision: TT_REAL is the type
 * of real tensors, TT_ACT that of activations.
 *
 * Arithmetic is in double whatever TT_REAL is. A sum that ends within one call (a dot product, a
 * row's mean) is rounded once, when it is stored. A sum that later calls continue (a weight
 * gradient) is rounded to TT_REAL after each row, so that microbatches give the bits of one batch.
 */
#ifndef TT_REFERENCE_H
#define TT_REFERENCE_H

#include <math.h>
#include <string.h>

#include "bf16.h"
#include "internal.h"

/* TT_NAME(add) is tt_add_f32__reference, tt_add_f64__reference or tt_add_bf16__reference. */
#define TT_JOIN_(name, dtype) tt_##name##_##dtype##__reference
#define TT_JOIN(name, dtype)  TT_JOIN_(name, dtype)
#define TT_NAME(name)         TT_JOIN(name, TT_REAL_NAME)

typedef TT_REAL real;
typedef TT_ACT act;

/* An activation's value, and a value as an activation. */
#if TT_ACT_IS_BF16
static inline double TT_NAME(get)(act x)
{
    return (double)tt_bf16_to_f32(x);
}
static inline act TT_NAME(put)(double x)
{
    return tt_bf16_from_f32((float)x);
}
/* What a product makes of a real operand. */
static inline double TT_NAME(rounded)(real x)
{
    return TT_NAME(get)(TT_NAME(put)((double)x));
}
#else
static inline double TT_NAME(get)(act x)
{
    return (double)x;
}
static inline act TT_NAME(put)(double x)
{
    return (act)x;
}
static inline double TT_NAME(rounded)(real x)
{
    return (double)x;
}
#endif
/* Element i of a weight: as a product sees it, and as it is. */
static inline double TT_NAME(w_in_product)(const void *w, bool bf16, int64_t i)
{
    return bf16 ? (double)tt_bf16_to_f32(((const uint16_t *)w)[i])
                : TT_NAME(rounded)(((const real *)w)[i]);
}
static inline real TT_NAME(w_at)(const void *w, bool bf16, int64_t i)
{
    return bf16 ? (real)tt_bf16_to_f32(((const uint16_t *)w)[i]) : ((const real *)w)[i];
}
#define TT_GET(x) TT_NAME(get)(x)
#define TT_PUT(x) TT_NAME(put)(x)

#endif
