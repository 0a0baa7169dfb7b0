/* Mixed precision, as an optimization that the orchestrator steers: products and activations in
 * bf16, all else in f32. `auto` is bf16 where the machine has tiles for it and they compute the
 * run's products right; without them bf16 is mostly slower than f32, and is there for whom it is
 * set. */
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

static tt_status conform(void *user, const tt_config *config)
{
    return tt_products_conform(user, config, "compute");
}

/* Whether the run's products are right in bf16. */
static tt_status prove(tt_training *training, const tt_config *config, bool *right)
{
    tt_config *candidate = NULL;
    tt_status status = tt_config_derive(config, keys[0], "bf16", "compute", &candidate);
    if (!status) {
        status = conform(training, candidate);
    }
    tt_config_destroy(candidate);
    *right = !status;
    if (status != TT_EGATE) {
        return status;
    }
    tt_log(training->log, TT_LOG_WARN, "%s; the run computes in f32", tt_error_message());
    return TT_OK;
}

static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    const bool has_tiles = tt_isa_available(TT_ISA_AMX_BF16);
    bool right = false;
    tt_status status = has_tiles ? prove(user, config, &right) : TT_OK;
    if (status) {
        return status;
    }
    json_t *evidence = json_pack("{s:s, s:b, s:b}", "isa", tt_isa_name(TT_ISA_AMX_BF16),
                                 "available", has_tiles, "conforms", right);
    char *text = evidence ? json_dumps(evidence, JSON_COMPACT) : NULL;
    if (text) {
        tt_text_add(&out->evidence, text);
    }
    free(text);
    json_decref(evidence);
    out->changes[out->change_count].key = keys[0];
    snprintf(out->changes[out->change_count].value, sizeof out->changes[out->change_count].value,
             "%s", right ? "bf16" : "f32");
    out->change_count++;
    return text ? tt_text_check(&out->evidence)
                : tt_fail(TT_ENOMEM, "no memory for the record of a compute type");
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
