/* The implementation of every operation, as an optimization that the orchestrator steers: `auto` is
 * the best that the machine has, wherever the run goes on, and for the matrix products what the
 * tuner finds; the baseline is the plain reference. */
#include "tuner.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tt_product_keys[3] = {"kernels.linear_forward", "kernels.linear_dgrad",
                                        "kernels.linear_wgrad"};
static const char *const keys[] = {"kernels.variant", "kernels.linear_forward",
                                   "kernels.linear_dgrad", "kernels.linear_wgrad"};
static const char *const baseline[] = {"reference", "reference", "reference", "reference"};
enum { KEYS = sizeof keys / sizeof *keys };

/* A product that runs what kernels.variant says. */
static const char preferred[] = "preferred";

static void read_name(const tt_config *config, const char *key, const char *automatic,
                      char out[TT_VARIANT_NAME])
{
    snprintf(out, TT_VARIANT_NAME, "%s",
             tt_config_is_auto(config, key) ? automatic : tt_config_string(config, key));
}

tt_variant_choice tt_variant_from(const tt_config *config)
{
    tt_variant_choice choice;
    memset(&choice, 0, sizeof choice);
    read_name(config, keys[0], "auto", choice.all);
    for (int op = 0; op < 3; op++) {
        read_name(config, tt_product_keys[op], preferred, choice.product[op]);
    }
    return choice;
}

tt_numerics tt_numerics_from(const tt_config *config)
{
    if (tt_config_is_auto(config, "kernels.numerics")) {
        const char *compute = "kernels.compute";
        const bool f32 = !tt_config_is_auto(config, compute) &&
                         strcmp(tt_config_string(config, compute), "f32") == 0;
        return f32 ? TT_NUMERICS_EXACT : TT_NUMERICS_REPEATABLE;
    }
    const char *name = tt_config_string(config, "kernels.numerics");
    return strcmp(name, "fast") == 0         ? TT_NUMERICS_FAST
           : strcmp(name, "repeatable") == 0 ? TT_NUMERICS_REPEATABLE
                                             : TT_NUMERICS_EXACT;
}

tt_status tt_variant_check(const tt_config *config)
{
    const tt_variant_choice choice = tt_variant_from(config);
    for (size_t i = 0; i < tt_variant_count(); i++) {
        const tt_variant_info *info = tt_variant_at(i);
        const bool own = info->op < 3 && strcmp(choice.product[info->op], preferred) != 0;
        const char *name = own ? choice.product[info->op] : choice.all;
        const char *key = own ? tt_product_keys[info->op] : keys[0];
        if (info->numerics > tt_numerics_from(config) && strcmp(info->name, name) == 0) {
            return tt_fail(TT_ECONFIG,
                           "%s: %s is %s, whose %s is of class %s, and kernels.numerics accepts %s "
                           "(%s); set one of them otherwise",
                           tt_config_origin(config, key), key, name, tt_op_name(info->op),
                           tt_numerics_name(info->numerics),
                           tt_numerics_name(tt_numerics_from(config)),
                           tt_config_origin(config, "kernels.numerics"));
        }
    }
    return TT_OK;
}

tt_status tt_variant_apply(tt_context *context, const tt_variant_choice *choice, const char **key)
{
    /* An operation that has no variant of this name keeps its best. */
    *key = keys[0];
    tt_status status = tt_context_set_variants(context, "auto");
    if (!status && strcmp(choice->all, "auto") != 0) {
        status = tt_context_set_variants(context, choice->all);
    }
    for (int op = 0; !status && op < 3; op++) {
        *key = tt_product_keys[op];
        if (strcmp(choice->product[op], preferred) != 0) {
            status = tt_context_set_variant(context, (tt_op)op, choice->product[op]);
        }
    }
    return status;
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

tt_status tt_variant_use(tt_training *training, const tt_variant_choice *choice)
{
    const char *key;
    if (memcmp(&training->variant, choice, sizeof *choice) == 0) {
        return TT_OK;
    }
    tt_status status = tt_variant_apply(training->context, choice, &key);
    if (!status && strcmp(choice->all, "auto") == 0) {
        status = tt_choose_attention(training->context, tt_model_get_dims(training->model), NULL);
    }
    if (!status) {
        status = set_codecs(training->compressor, choice->all);
    }
    if (!status) {
        training->variant = *choice;
    }
    return status;
}

/* The products' variants are measured where they are left to the run; of the others the journal
 * notes what `auto` was on this machine. */
static tt_status propose_products(tt_training *training, const tt_config *config, tt_proposal *out)
{
    const tt_tuning *tuning;
    bool any = false;
    for (int op = 0; op < 3; op++) {
        any = any || tt_config_is_auto(config, tt_product_keys[op]);
    }
    if (!any || !tt_config_is_auto(config, keys[0])) {
        return TT_OK;
    }
    tt_status status = tt_tuner_answer(training, config, &tuning);
    for (int op = 0; !status && op < 3; op++) {
        if (tt_config_is_auto(config, tt_product_keys[op])) {
            const char *name = tuning->candidates[tuning->chosen[op]].variant;
            const char *own = tuning->candidates[tuning->incumbent[op]].variant;
            out->changes[out->change_count].key = tt_product_keys[op];
            snprintf(out->changes[out->change_count].value,
                     sizeof out->changes[out->change_count].value, "%s",
                     strcmp(name, own) == 0 ? preferred : name);
            out->change_count++;
        }
    }
    return status;
}

static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    tt_training *training = user;
    tt_status status = propose_products(training, config, out);
    json_t *list = json_object();
    for (tt_op op = 0; op < TT_OP_COUNT; op++) {
        json_object_set_new(list, tt_op_name(op),
                            json_string(tt_context_variant(training->context, op)->name));
    }
    json_object_set_new(list, "numerics",
                        json_string(tt_numerics_name(tt_context_numerics(training->context))));
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    if (text) {
        tt_text_add(&out->evidence, text);
    }
    free(text);
    json_decref(list);
    if (status) {
        return status;
    }
    return text ? tt_text_check(&out->evidence)
                : tt_fail(TT_ENOMEM, "no memory for the list of variants");
}

static tt_status conform(void *user, const tt_config *config)
{
    return tt_products_conform(user, config, "variant");
}

static tt_status apply(void *user, const tt_config *config)
{
    tt_variant_choice choice = tt_variant_from(config);
    return tt_variant_use(user, &choice);
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
        .key_count = KEYS,
        .baseline = baseline,
        .propose = propose,
        .conform = conform,
        .apply = apply,
    };
}
