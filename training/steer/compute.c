/* Mixed precision, as an optimization that the orchestrator steers: products and activations in
 * bf16, all else in f32. `auto` tries it where the machine has tiles for it; without them bf16 is
 * mostly slower than f32, and is there for whom it is set. */
#include "../internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = {"kernels.compute"};
static const char *const baseline[] = {"f32"};

tt_dtype tt_compute_from(const tt_config *config)
{
    const bool is_bf16 = !tt_config_is_auto(config, keys[0]) &&
                         strcmp(tt_config_string(config, keys[0]), "bf16") == 0;
    return is_bf16 ? TT_BF16 : TT_F32;
}

/* Whether it pays is for the trial to find out. */
static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    (void)user;
    (void)config;
    const bool has_tiles = tt_isa_available(TT_ISA_AMX_BF16);
    json_t *evidence =
        json_pack("{s:s, s:b}", "isa", tt_isa_name(TT_ISA_AMX_BF16), "available", has_tiles);
    char *text = evidence ? json_dumps(evidence, JSON_COMPACT) : NULL;
    if (text) {
        tt_text_add(&out->evidence, text);
    }
    free(text);
    json_decref(evidence);
    out->changes[out->change_count].key = keys[0];
    snprintf(out->changes[out->change_count].value, sizeof out->changes[out->change_count].value,
             "%s", has_tiles ? "bf16" : "f32");
    out->change_count++;
    return text ? tt_text_check(&out->evidence)
                : tt_fail(TT_ENOMEM, "no memory for the record of a compute type");
}

static tt_status conform(void *user, const tt_config *config)
{
    return tt_products_conform(user, config, "compute");
}

static tt_status apply(void *user, const tt_config *config)
{
    tt_training *training = user;
    /* Of a step that ended before its backward pass nothing more will be asked. */
    tt_model_abandon_pass(training->model);
    return tt_model_set_compute(training->model, tt_compute_from(config));
}

tt_optimization tt_compute_optimization(tt_training *training)
{
    return (tt_optimization){
        .size = sizeof(tt_optimization),
        .user = training,
        .name = "compute",
        .tier = TT_TIER_TILE,
        .aim = TT_AIM_SPEED,
        .keys = keys,
        .key_count = 1,
        .baseline = baseline,
        .propose = propose,
        .conform = conform,
        .apply = apply,
    };
}
