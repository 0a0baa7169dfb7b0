/* Every operation with activations in bf16. */
#define TT_REAL        float
#define TT_ACT         uint16_t
#define TT_ACT_IS_BF16 1
#define TT_REAL_NAME   bf16

#include "reference.h"

#include "linear.inc"

#include "norm.inc"

#include "rope.inc"

#include "attention.inc"

#include "pointwise.inc"

#include "softmax.inc"
