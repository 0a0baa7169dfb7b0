/* kernels/reference/reference.h: the definition of every operation, as plain loops. Compiled
 * twice, with TT_REAL float and double; gradients are checked in double.
 *
 * Arithmetic is in double whatever TT_REAL is. A sum that ends within one call (a dot product, a
 * row's mean) is rounded once, when it is stored. A sum that later calls continue (a weight
 * gradient) is rounded to TT_REAL after each row, so that microbatches give the bits of one batch.
 */
#ifndef TT_REFERENCE_H
#define TT_REFERENCE_H

#include <math.h>
#include <string.h>

#include "internal.h"

/* TT_NAME(add) is tt_add_f32__reference or tt_add_f64__reference. */
#define TT_JOIN_(name, dtype) tt_##name##_##dtype##__reference
#define TT_JOIN(name, dtype)  TT_JOIN_(name, dtype)
#define TT_NAME(name)         TT_JOIN(name, TT_REAL_NAME)

typedef TT_REAL real;

#endif
