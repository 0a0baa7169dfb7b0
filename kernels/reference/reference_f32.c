/* Every operation in float. */
#define TT_REAL      float
#define TT_REAL_NAME f32

#include "reference.h"

#include "linear.inc"

#include "embedding.inc"

#include "layernorm.inc"

#include "attention.inc"

#include "pointwise.inc"

#include "softmax.inc"

#include "optimizer.inc"
