#include "test_config_table.h"

#include "config/value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const int64_t tiles[] = {16, 32, 64, 128, 256, 512};

static const tt_param table[] = {
    {.key = "kernels.tile_m",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "32",
     .minimum = 1,
     .maximum = 512,
     .lattice = tiles,
     .lattice_count = 6,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_TILE,
     .owner = "kernels",
     .help = "rows of an output tile"},
    {.key = "kernels.tile_k",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "auto",
     .minimum = 16,
     .maximum = 512,
     .lattice = tiles,
     .lattice_count = 6,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_NONE,
     .owner = "kernels",
     .help = "depth of a tile"},
    {.key = "kernels.threads",
     .type = TT_TYPE_INT,
     .unit = "threads",
     .default_text = "0",
     .minimum = -4,
     .maximum = 1024,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "kernels",
     .help = "threads; 0: as many as there are processors"},
    {.key = "kernels.backend",
     .type = TT_TYPE_ENUM,
     .unit = "",
     .default_text = "auto",
     .choices = "cpu|cuda",
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "kernels",
     .help = "where tensors live"},
    {.key = "gates.loss.max",
     .type = TT_TYPE_FLOAT,
     .unit = "nats",
     .default_text = "10",
     .minimum = 0,
     .maximum = INFINITY,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "gates",
     .help = "largest loss"},
    {.key = "gates.warn",
     .type = TT_TYPE_BOOL,
     .unit = "",
     .default_text = "true",
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "gates",
     .help = "warn before a gate trips"},
    {.key = "optim.rate",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "3e-4",
     .minimum = 0,
     .maximum = 10,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "learning rate"},
    {.key = "optim.clip",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "1",
     .minimum = -1e300,
     .maximum = 1e300,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "gradient norm is clipped to this | 0: off"},
    {.key = "model.dim",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "256",
     .minimum = 1,
     .maximum = 65536,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "width of the model"},
    {.key = "model.vocab",
     .type = TT_TYPE_INT,
     .unit = "tokens",
     .default_text = "auto",
     .minimum = 2,
     .maximum = 1e6,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "vocabulary; auto: what the data has"},
    {.key = "seed",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "1",
     .minimum = 0,
     .maximum = 9223372036854775807.0,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "seed of every random number"},
    {.key = "data.path",
     .type = TT_TYPE_STRING,
     .unit = "",
     .default_text = "",
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "training text"},
    {.key = "run.name",
     .type = TT_TYPE_STRING,
     .unit = "",
     .default_text = "run",
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "cli",
     .help = "name of the run"},
    {.key = "run.tag",
     .type = TT_TYPE_STRING,
     .unit = "",
     .default_text = "auto",
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "cli",
     .help = "tag of the run"},
};

static const char *const small_values[][2] = {
    {"kernels.tile_m", "16"}, {"optim.rate", "0.5"}, {"optim.clip", "0"}};
static const char *const large_values[][2] = {{"kernels.tile_m", "256"}, {"model.dim", "1024"}};

static const tt_preset presets[] = {
    {"small", "a laptop", small_values, 3},
    {"large", "a big machine", large_values, 2},
};

tt_params *test_params(void)
{
    tt_params *params = NULL;
    assert_ok(tt_params_create(&params));
    assert_ok(tt_params_register(params, table, sizeof(table) / sizeof(table[0])));
    assert_ok(tt_params_register_presets(params, presets, 2));
    return params;
}

tt_config *test_config(const tt_params *params)
{
    tt_config *config = NULL;
    assert_ok(tt_config_create(params, &config));
    return config;
}

const char *value_text(const tt_config *config, const char *key, char out[256])
{
    tt_text text;
    tt_value value = tt_config_get(config, key);
    tt_text_init(&text);
    tt_value_add(&text, &value);
    assert_ok(tt_text_check(&text));
    snprintf(out, 256, "%s", text.data);
    tt_text_clear(&text);
    return out;
}
