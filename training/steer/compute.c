/* Mixed precision, as an optimization that the orchestrator steers: products and activations in
 * bf16, all else in f32. `auto` is bf16 where the run's own products prove right in it and take
 * less time than in f32, each with the tile and the variants that the tuner finds for it: whether
 * they do depends on the machine and on the shapes. */
#include "tuner.h"

#include <jansson.h>
#include <math.h>
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

void tt_compute_tell_ruled_out(const tt_context *context, const tt_log_sink *log)
{
    for (size_t i = tt_variant_count(); i-- > 0;) {
        const tt_variant_info *info = tt_variant_at(i);
        if (info->op == TT_OP_LINEAR_FORWARD && info->dtype == tt_context_compute(context) &&
            info->numerics > tt_context_numerics(context) && info->library == TT_LIBRARY_NONE &&
            tt_variant_available(info)) {
            tt_log(log, TT_LOG_INFO,
                   "%s: products do without %s, which is of class %s and not %s "
                   "(kernels.numerics)",
                   tt_dtype_name(info->dtype), info->name, tt_numerics_name(info->numerics),
                   tt_numerics_name(tt_context_numerics(context)));
            return;
        }
    }
}

/* ---- the record of a comparison ---- */

enum { PRODUCTS = 3, SIDES = 2 };

/* What a product's choice is, in a tuning for `compute`. */
static const tt_variant_info *chosen_variant(const tt_tuning *tuning, tt_op op, tt_dtype compute)
{
    const char *name = tuning->candidates[tuning->chosen[op]].variant;
    for (size_t i = 0; i < tt_variant_count(); i++) {
        const tt_variant_info *info = tt_variant_at(i);
        if (info->op == op && info->dtype == compute && strcmp(info->name, name) == 0) {
            return info;
        }
    }
    return NULL;
}

tt_isa tt_compute_isa(const tt_tuning tunings[2])
{
    tt_isa isa = TT_ISA_ANY;
    for (int op = 0; op < PRODUCTS; op++) {
        const tt_variant_info *info = chosen_variant(&tunings[1], (tt_op)op, TT_BF16);
        isa = info && info->isa > isa ? info->isa : isa;
    }
    return isa;
}

tt_numerics tt_tuning_numerics(const tt_tuning *tuning, tt_dtype compute)
{
    tt_numerics weakest = TT_NUMERICS_EXACT;
    for (int op = 0; op < PRODUCTS; op++) {
        const tt_variant_info *info = chosen_variant(tuning, (tt_op)op, compute);
        weakest = info && info->numerics > weakest ? info->numerics : weakest;
    }
    return weakest;
}

double tt_compute_seconds(const tt_tuning *comparison, int side)
{
    double seconds = 0;
    for (int op = 0; op < PRODUCTS; op++) {
        seconds += tt_tuning_seconds(comparison, (tt_op)op, (size_t)side);
    }
    return seconds;
}

/* The first shape on which bf16 is wrong, or shape_count. */
static size_t wrong_shape(const tt_tuning *comparison)
{
    size_t s = 0;
    while (s < comparison->shape_count && comparison->cells[s * SIDES + 1].state != TT_TUNE_WRONG) {
        s++;
    }
    return s;
}

/* Right on every shape; not yet, where the time was up. */
static bool bf16_conforms(const tt_tuning *comparison)
{
    bool all = true;
    for (size_t s = 0; s < comparison->shape_count; s++) {
        all = all && comparison->cells[s * SIDES + 1].state >= TT_TUNE_PROVEN;
    }
    return all;
}

static json_t *number_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *side_json(const tt_tuning *tuning, const tt_tuning *comparison, int side)
{
    json_t *variants = json_object();
    double error = 0;
    for (int op = 0; op < PRODUCTS; op++) {
        json_object_set_new(variants, tt_op_name((tt_op)op),
                            json_string(tuning->candidates[tuning->chosen[op]].variant));
    }
    for (size_t s = 0; s < comparison->shape_count; s++) {
        error = fmax(error, comparison->cells[s * SIDES + (size_t)side].error);
    }
    return json_pack("{s:o, s:o, s:[i, i, i], s:o, s:s}", "seconds_per_step",
                     number_json(tt_compute_seconds(comparison, side)), "error_share",
                     number_json(error), "tile", tuning->tile.m, tuning->tile.n, tuning->tile.k,
                     "variants", variants, "numerics",
                     tt_numerics_name(tt_tuning_numerics(tuning, side ? TT_BF16 : TT_F32)));
}

tt_status tt_compute_evidence(const tt_tuning tunings[2], const tt_tuning *comparison, tt_text *out)
{
    json_t *evidence = json_pack(
        "{s:s, s:o, s:o, s:o, s:b, s:s, s:b, s:b, s:f}", "chosen",
        comparison->candidates[comparison->chosen[0]].variant, "f32",
        side_json(&tunings[0], comparison, 0), "bf16", side_json(&tunings[1], comparison, 1),
        "ratio", number_json(tt_compute_seconds(comparison, 1) / tt_compute_seconds(comparison, 0)),
        "conforms", bf16_conforms(comparison), "isa", tt_isa_name(tt_compute_isa(tunings)),
        "complete", comparison->complete, "from_cache", comparison->cached, "seconds",
        tunings[0].seconds + tunings[1].seconds + comparison->seconds);
    char *text = evidence ? json_dumps(evidence, JSON_COMPACT) : NULL;
    if (text) {
        tt_text_add(out, text);
    }
    free(text);
    json_decref(evidence);
    return text ? tt_text_check(out)
                : tt_fail(TT_ENOMEM, "no memory for the record of a compute type");
}

/* ---- the optimization ---- */

static void tell(const tt_training *training, const tt_tuning *comparison)
{
    const tt_numerics numerics = tt_tuning_numerics(&training->tuning[1], TT_BF16);
    const size_t wrong = wrong_shape(comparison);
    const double ratio = tt_compute_seconds(comparison, 1) / tt_compute_seconds(comparison, 0);
    if (wrong < comparison->shape_count) {
        const tt_gemm_shape *shape = &comparison->shapes[wrong];
        tt_log(training->log, TT_LOG_WARN,
               "compute: %s of %lld x %lld x %lld in bf16 is off by %g times its rounding bound; "
               "the run computes in f32",
               tt_op_name(shape->op), (long long)shape->m, (long long)shape->n, (long long)shape->k,
               comparison->cells[wrong * SIDES + 1].error);
    } else if (!comparison->complete) {
        tt_log(training->log, TT_LOG_INFO,
               "compute: f32; the time was up before bf16 was compared with it "
               "(kernels.tune_seconds)");
    } else {
        tt_log(training->log, TT_LOG_INFO,
               "compute: %s; matrix products in bf16 (%s) take %.2f of their time in f32%s",
               comparison->candidates[comparison->chosen[0]].variant, tt_numerics_name(numerics),
               ratio, comparison->cached ? " (measured before)" : "");
    }
}

static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    tt_training *training = user;
    tt_tuning comparison;
    tt_status status = tt_tuner_compare(training, config, &comparison);
    if (status) {
        return status;
    }
    tell(training, &comparison);
    out->changes[out->change_count].key = keys[0];
    snprintf(out->changes[out->change_count].value, sizeof out->changes[out->change_count].value,
             "%s", comparison.candidates[comparison.chosen[0]].variant);
    out->change_count++;
    status = tt_compute_evidence(training->tuning, &comparison, &out->evidence);
    tt_tuning_clear(&comparison);
    return status;
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
