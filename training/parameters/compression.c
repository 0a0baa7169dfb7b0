/* Compressed state. */
#include "tables.h"

static const int64_t block_lattice[] = {32, 64, 128, 256, 512, 1024, 2048, 4096};

static const tt_param table[] = {
    {.key = "compression.moments",
     .type = TT_TYPE_ENUM,
     .unit = "",
     .default_text = "f32",
     .choices = "int8|bf16|f32",
     .ladder = true,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_COMPRESSION,
     .owner = "compression",
     .help = "how both Adam moments are kept; auto: adaptation chooses"},
    {.key = "compression.activations",
     .type = TT_TYPE_ENUM,
     .unit = "",
     .default_text = "f32",
     .choices = "int8|bf16|f32",
     .ladder = true,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_COMPRESSION,
     .owner = "compression",
     .help = "how activations are saved for the backward pass; auto: adaptation chooses"},
    {.key = "compression.block",
     .type = TT_TYPE_INT,
     .unit = "elements",
     .default_text = "64",
     .minimum = 1,
     .maximum = 65536,
     LATTICE(block_lattice),
     .memory_falls = true, /* fewer scales */
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_COMPRESSION,
     .owner = "compression",
     .help = "elements that share a scale"},
    {.key = "compression.bound",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "0.05",
     .minimum = 1e-6,
     .maximum = 1,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "compression",
     .help = "largest relative reconstruction error that a codec is used with"},
};

const tt_param_table tt_compression_parameters = {table, sizeof table / sizeof *table};
