/* The trainer's parameters and presets. */
#include "trimtab/kernels.h"
#include "trimtab/training.h"

#include <string.h>

static const int64_t tile_lattice[] = {16, 32, 64, 128, 256, 512};
static const int64_t block_lattice[] = {32, 64, 128, 256, 512, 1024, 2048, 4096};

#define LATTICE(values) .lattice = (values), .lattice_count = sizeof(values) / sizeof *(values)

static const tt_param table[] = {
    /* What the model is. */
    {.key = "model.layers",
     .type = TT_TYPE_INT,
     .unit = "layers",
     .default_text = "4",
     .minimum = 1,
     .maximum = 1024,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "transformer blocks"},
    {.key = "model.heads",
     .type = TT_TYPE_INT,
     .unit = "heads",
     .default_text = "4",
     .minimum = 1,
     .maximum = 1024,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "attention heads; must divide model.channels"},
    {.key = "model.channels",
     .type = TT_TYPE_INT,
     .unit = "channels",
     .default_text = "128",
     .minimum = 1,
     .maximum = 65536,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "width of the residual stream"},
    {.key = "model.context",
     .type = TT_TYPE_INT,
     .unit = "tokens",
     .default_text = "128",
     .minimum = 1,
     .maximum = 1048576,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "tokens per sequence"},
    {.key = "model.vocab",
     .type = TT_TYPE_INT,
     .unit = "tokens",
     .default_text = "256",
     .minimum = 2,
     .maximum = 1048576,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "vocabulary; 256 for text files, which are read as bytes"},
    /* What it learns from. */
    {.key = "data.path",
     .type = TT_TYPE_STRING,
     .unit = "",
     .default_text = "",
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "a text file, a folder of text files, or token .bin files"},
    {.key = "data.held_out",
     .type = TT_TYPE_FLOAT,
     .unit = "share",
     .default_text = "0.1",
     .minimum = 0,
     .maximum = 0.5,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "share of the data kept for validation"},
    {.key = "data.limit_bytes",
     .type = TT_TYPE_INT,
     .unit = "bytes",
     .default_text = "0",
     .minimum = 0,
     .maximum = 1e15,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "use at most this much of the data; 0: all"},
    /* How long, and in what portions. */
    {.key = "train.steps",
     .type = TT_TYPE_INT,
     .unit = "steps",
     .default_text = "1000",
     .minimum = 0,
     .maximum = 1e12,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "optimizer steps in all; also the end of the learning-rate cosine"},
    {.key = "train.batch",
     .type = TT_TYPE_INT,
     .unit = "sequences",
     .default_text = "8",
     .minimum = 1,
     .maximum = 65536,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "sequences of one microbatch"},
    {.key = "train.accumulate",
     .type = TT_TYPE_INT,
     .unit = "microbatches",
     .default_text = "1",
     .minimum = 1,
     .maximum = 65536,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "microbatches whose gradients make one step"},
    {.key = "train.validate_every",
     .type = TT_TYPE_INT,
     .unit = "steps",
     .default_text = "250",
     .minimum = 0,
     .maximum = 1e12,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "steps between validations; 0: only at the end"},
    {.key = "train.validate_sequences",
     .type = TT_TYPE_INT,
     .unit = "sequences",
     .default_text = "64",
     .minimum = 0,
     .maximum = 1e9,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "held-out sequences of one validation; 0: never validate"},
    /* The optimizer. */
    {.key = "optim.learning_rate",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "0.001",
     .minimum = 0,
     .maximum = 100,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "peak learning rate, after warm-up"},
    {.key = "optim.minimum_rate",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "auto",
     .may_be_auto = true,
     .minimum = 0,
     .maximum = 100,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "learning rate at the end of the cosine; auto: a tenth of the peak"},
    {.key = "optim.warmup_steps",
     .type = TT_TYPE_INT,
     .unit = "steps",
     .default_text = "100",
     .minimum = 0,
     .maximum = 1e12,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "steps of linear warm-up"},
    {.key = "optim.beta1",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "0.9",
     .minimum = 0,
     .maximum = 0.999999,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "AdamW: decay of the first moment"},
    {.key = "optim.beta2",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "0.95",
     .minimum = 0,
     .maximum = 0.999999,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "AdamW: decay of the second moment"},
    {.key = "optim.epsilon",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "1e-8",
     .minimum = 1e-30,
     .maximum = 1,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "AdamW: added to the root of the second moment"},
    {.key = "optim.weight_decay",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "0.1",
     .minimum = 0,
     .maximum = 10,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "decoupled decay of matrices and embeddings; none on norms and biases"},
    {.key = "optim.clip",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "1",
     .minimum = 0,
     .maximum = 1e9,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "largest global gradient norm, longer gradients are scaled down; 0: no clipping"},
    /* Kernels. */
    {.key = "kernels.tile_m",
     .type = TT_TYPE_INT,
     .unit = "rows",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 4096,
     LATTICE(tile_lattice),
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_TILE,
     .owner = "kernels",
     .help = "matrix products: rows of a cache block; auto: tuned on this run's shapes"},
    {.key = "kernels.tile_n",
     .type = TT_TYPE_INT,
     .unit = "columns",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 4096,
     LATTICE(tile_lattice),
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_TILE,
     .owner = "kernels",
     .help = "matrix products: columns of a cache block"},
    {.key = "kernels.tile_k",
     .type = TT_TYPE_INT,
     .unit = "terms",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 4096,
     LATTICE(tile_lattice),
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_TILE,
     .owner = "kernels",
     .help = "matrix products: inner length of a cache block"},
    {.key = "kernels.variant",
     .type = TT_TYPE_STRING,
     .unit = "",
     .default_text = "auto",
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .owner = "kernels",
     .help = "implementation of every operation, by name, such as reference; auto: the best that "
             "the machine has"},
    {.key = "kernels.compute",
     .type = TT_TYPE_ENUM,
     .unit = "",
     .default_text = "f32",
     .choices = "bf16|f32",
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .owner = "kernels",
     .help = "what products and activations are computed in; parameters, residual stream and sums "
             "stay f32; auto: bf16, after a trial, where the machine has tiles for it"},
    {.key = "kernels.tune_seconds",
     .type = TT_TYPE_FLOAT,
     .unit = "s",
     .default_text = "5",
     .minimum = 0,
     .maximum = 3600,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "kernels",
     .help = "time budget of the tuner at start; 0: keep the default tile of 32"},
    /* Compressed state. */
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
    /* The sample at the end of a run. */
    {.key = "sample.tokens",
     .type = TT_TYPE_INT,
     .unit = "tokens",
     .default_text = "0",
     .minimum = 0,
     .maximum = 1e6,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "tokens generated when the run is done; 0: none"},
    {.key = "sample.temperature",
     .type = TT_TYPE_FLOAT,
     .unit = "",
     .default_text = "0.8",
     .minimum = 0,
     .maximum = 100,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "sampling temperature; 0: always the likeliest token"},
    {.key = "sample.top_k",
     .type = TT_TYPE_INT,
     .unit = "tokens",
     .default_text = "40",
     .minimum = 0,
     .maximum = 1048576,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "sample among this many likeliest tokens; 0: all"},
    /* The run. */
    {.key = "run.seed",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "1",
     .minimum = 0,
     .maximum = 9e15,
     .mutability = TT_MUTABLE_NEVER,
     .owner = "training",
     .help = "seed of initial weights and of the order of the data"},
    {.key = "run.threads",
     .type = TT_TYPE_INT,
     .unit = "threads",
     .default_text = "auto",
     .minimum = 1,
     .maximum = TT_MAX_THREADS,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "CPU threads; auto: all that this process may use"},
    {.key = TT_MEMORY_BUDGET_KEY,
     .type = TT_TYPE_INT,
     .unit = "bytes",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 9e15,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_RESUME,
     .owner = "training",
     .help = "what slots, model and activations may take together; the resolver makes them fit; "
             "auto: no limit"},
};

/* ---- what must hold between them ---- */

static bool one_divides_the_other(const void *user, const tt_value *values)
{
    (void)user;
    int64_t a = values[0].as.integer;
    int64_t b = values[1].as.integer;
    return a % b == 0 || b % a == 0;
}

static bool first_is_at_most_second(const void *user, const tt_value *values)
{
    (void)user;
    return values[0].as.real <= values[1].as.real;
}

/* What is computed in bf16 is kept in it; eight bits of what has eight would be another codec. */
static bool activations_are_no_int8_of_bf16(const void *user, const tt_value *values)
{
    (void)user;
    return strcmp(values[0].as.string, "int8") != 0 || strcmp(values[1].as.string, "bf16") != 0;
}

static const tt_rule rules[] = {
    {.name = "compression.activations is not int8 where kernels.compute is bf16",
     .keys = {"compression.activations", "kernels.compute"},
     .holds = activations_are_no_int8_of_bf16},
    {.name = "compression.block divides kernels.tile_k, or the reverse",
     .keys = {"compression.block", "kernels.tile_k"},
     .holds = one_divides_the_other},
    {.name = "compression.bound is at most gates.reconstruction.max",
     .keys = {"compression.bound", "gates.reconstruction.max"},
     .holds = first_is_at_most_second},
};

static bool is_above_a_tenth(const void *user, const tt_value *values)
{
    (void)user;
    return values[0].as.real > 0.1;
}

static const tt_advice advice[] = {
    {.keys = {"compression.bound"},
     .applies = is_above_a_tenth,
     .text = "a codec may then lose more than a tenth of what it holds; expect a slower or worse "
             "run, and prefer 0.1 or less"},
};

/* ---- presets ---- */

static const char *const gpt_10m[][2] = {
    {"model.layers", "6"},    {"model.heads", "6"},   {"model.channels", "384"},
    {"model.context", "256"}, {"model.vocab", "256"},
};

static const char *const gpt2_124m[][2] = {
    {"model.layers", "12"},    {"model.heads", "12"},    {"model.channels", "768"},
    {"model.context", "1024"}, {"model.vocab", "50304"},
};

#define VALUES(pairs) .values = (pairs), .value_count = sizeof(pairs) / sizeof *(pairs)

static const tt_preset presets[] = {
    {.name = "gpt-10m", .help = "a byte-level GPT of 10.8 million parameters", VALUES(gpt_10m)},
    {.name = "gpt2-124m", .help = "the dimensions of GPT-2 small", VALUES(gpt2_124m)},
};

tt_status tt_training_register(tt_params *params)
{
    tt_status status = tt_orchestrator_register(params);
    if (!status) {
        status = tt_params_register(params, table, sizeof table / sizeof *table);
    }
    if (!status) {
        status = tt_params_register_presets(params, presets, sizeof presets / sizeof *presets);
    }
    if (!status) {
        status = tt_params_register_rules(params, rules, sizeof rules / sizeof *rules);
    }
    if (!status) {
        status = tt_params_register_advice(params, advice, sizeof advice / sizeof *advice);
    }
    return status;
}
