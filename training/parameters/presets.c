/* The presets. */
#include "tables.h"

static const char *const gpt_10m[][2] = {
    {"model.layers", "6"},    {"model.heads", "6"},   {"model.channels", "384"},
    {"model.context", "256"}, {"model.vocab", "256"},
};

static const char *const llama_10m[][2] = {
    {"model.layers", "6"},       {"model.heads", "6"},          {"model.channels", "384"},
    {"model.context", "256"},    {"model.vocab", "256"},        {"model.norm", "rmsnorm"},
    {"model.kv_heads", "2"},     {"model.positions", "rotary"}, {"model.mlp", "swiglu"},
    {"model.mlp_width", "1024"}, {"model.bias", "false"},
};

static const char *const gpt2_124m[][2] = {
    {"model.layers", "12"},    {"model.heads", "12"},    {"model.channels", "768"},
    {"model.context", "1024"}, {"model.vocab", "50304"},
};

#define VALUES(pairs) .values = (pairs), .value_count = sizeof(pairs) / sizeof *(pairs)

static const tt_preset presets[] = {
    {.name = "gpt-10m", .help = "a byte-level GPT of 10.8 million parameters", VALUES(gpt_10m)},
    {.name = "llama-10m",
     .help = "the same with Llama's blocks: 9.5 million parameters",
     VALUES(llama_10m)},
    {.name = "gpt2-124m", .help = "the dimensions of GPT-2 small", VALUES(gpt2_124m)},
};

tt_status tt_presets_register(tt_params *params)
{
    return tt_params_register_presets(params, presets, sizeof presets / sizeof *presets);
}
