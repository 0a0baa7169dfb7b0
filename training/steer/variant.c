/* The implementation of every operation, as an optimization that the orchestrator steers: `auto` is
 * the best that the machine has, wherever the run goes on; the baseline is the plain reference. */
#include "../internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = {"kernels.variant"};
static const char *const baseline[] = {"reference"};

const char *tt_variant_from(const tt_config *config)
{
    return tt_config_is_auto(config, keys[0]) ? "auto" : tt_config_string(config, keys[0]);
}

/* Codecs have variants of the same names; one that they lack leaves them with their best. */
static tt_status set_codecs(tt_compressor *compressor, const char *name)
{
    tt_status status = tt_compressor_set_variants(compressor, "auto");
    if (!status && strcmp(name, "auto") != 0) {
        status = tt_compressor_set_variants(compressor, name);
    }
    return status == TT_ENOTFOUND ? TT_OK : status;
}

tt_status tt_variant_use(tt_training *training, const char *name)
{
    if (strcmp(training->variant, name) == 0) {
        return TT_OK;
    }
    /* An operation that has no variant of this name keeps its best. */
    tt_status status = tt_context_set_variants(training->context, "auto");
    if (!status && strcmp(name, "auto") != 0) {
        status = tt_context_set_variants(training->context, name);
    }
    if (!status && strcmp(name, "auto") == 0) {
        status = tt_choose_attention(training->context, tt_model_get_dims(training->model), NULL);
    }
    if (!status) {
        status = set_codecs(training->compressor, name);
    }
    if (!status) {
        snprintf(training->variant, sizeof training->variant, "%s", name);
    }
    return status;
}

/* Nothing to measure, and nothing to change: the journal notes what `auto` was on this machine. */
static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    const tt_training *training = user;
    json_t *list = json_object();
    (void)config;
    for (tt_op op = 0; op < TT_OP_COUNT; op++) {
        json_object_set_new(list, tt_op_name(op),
                            json_string(tt_context_variant(training->context, op)->name));
    }
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    if (text) {
        tt_text_add(&out->evidence, text);
    }
    free(text);
    json_decref(list);
    return text ? tt_text_check(&out->evidence)
                : tt_fail(TT_ENOMEM, "no memory for the list of variants");
}

static tt_status conform(void *user, const tt_config *config)
{
    return tt_products_conform(user, config, "variant");
}

static tt_status apply(void *user, const tt_config *config)
{
    return tt_variant_use(user, tt_variant_from(config));
}

tt_optimization tt_variant_optimization(tt_training *training)
{
    return (tt_optimization){
        .size = sizeof(tt_optimization),
        .user = training,
        .name = "variant",
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
