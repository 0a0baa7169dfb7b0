/* What must hold between the parameters. */
#include "tables.h"

#include <string.h>

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

tt_status tt_rules_register(tt_params *params)
{
    tt_status status = tt_params_register_rules(params, rules, sizeof rules / sizeof *rules);
    if (!status) {
        status = tt_params_register_advice(params, advice, sizeof advice / sizeof *advice);
    }
    return status;
}
