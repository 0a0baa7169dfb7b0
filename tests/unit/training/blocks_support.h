/* Models with other blocks than GPT-2's: each part by itself, then all of Llama's. */
#ifndef TRIMTAB_TESTS_TRAINING_BLOCKS_SUPPORT_H
#define TRIMTAB_TESTS_TRAINING_BLOCKS_SUPPORT_H

#include "support.h"

#define SMALL .layers = 2, .heads = 4, .channels = 16, .context = 9, .vocab = 17
#define LLAMA                                                                                      \
    .norm = TT_NORM_RMSNORM, .positions = TT_POSITIONS_ROTARY, .mlp = TT_MLP_SWIGLU,               \
    .unbiased = true, .untied = true

static const tt_model_dims block_dims[] = {
    {SMALL, .norm = TT_NORM_RMSNORM},
    {SMALL, .positions = TT_POSITIONS_ROTARY, .rope_theta = 50},
    {SMALL, .mlp = TT_MLP_SWIGLU},
    {SMALL, .kv_heads = 1},
    {SMALL, .kv_heads = 2},
    {SMALL, .mlp_width = 21},
    {SMALL, .unbiased = true},
    {SMALL, .untied = true},
    {SMALL, LLAMA, .kv_heads = 2, .mlp_width = 20, .rope_theta = 50},
    {SMALL, LLAMA, .kv_heads = 1},
};
enum { BLOCK_DIMS = sizeof block_dims / sizeof block_dims[0] };

static const tt_model_dims llama_dims = {SMALL, LLAMA, .kv_heads = 2, .mlp_width = 20};
/* As large as what codecs and mixed precision are tried on. */
static const tt_model_dims middle_llama_dims = {
    .layers = 3, .heads = 4, .channels = 64, .context = 24, .vocab = 131, LLAMA, .kv_heads = 2};

#endif
