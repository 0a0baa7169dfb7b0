/* Every operation in float. */
#define TT_REAL        float
#define TT_ACT         float
#define TT_ACT_IS_BF16 0
#define TT_REAL_NAME   f32

#include "reference.h"

#include "linear.inc"

#include "norm.inc"

#include "rope.inc"

#include "attention.inc"

#include "pointwise.inc"

#include "softmax.inc"

#include "embedding.inc"

#include "optimizer.inc"
