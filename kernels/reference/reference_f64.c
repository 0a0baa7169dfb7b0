/* Every operation in double. */
#define TT_REAL      double
#define TT_REAL_NAME f64

#include "reference.h"

#include "linear.inc"

#include "embedding.inc"

#include "layernorm.inc"

#include "attention.inc"

#include "pointwise.inc"

#include "softmax.inc"

#include "optimizer.inc"
