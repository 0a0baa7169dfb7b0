/* The tile of the blocked matrix products, as an optimization that the orchestrator steers: chosen
 * by measurement on the run's own shapes, where the user left it to `auto`. */
#include "tuner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_TILE = 32 };

const char *const tt_tile_keys[3] = {"kernels.tile_m", "kernels.tile_n", "kernels.tile_k"};

static void propose_tile(tt_tile tile, const tt_config *config, tt_proposal *out)
{
    const int parts[3] = {tile.m, tile.n, tile.k};
    for (int i = 0; i < 3; i++) {
        if (tt_config_is_auto(config, tt_tile_keys[i])) {
            out->changes[out->change_count].key = tt_tile_keys[i];
            snprintf(out->changes[out->change_count].value,
                     sizeof out->changes[out->change_count].value, "%d", parts[i]);
            out->change_count++;
        }
    }
}

static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    tt_training *training = user;
    const tt_tuning *tuning;
    tt_status status = tt_tuner_answer(training, config, &tuning);
    if (status) {
        return status;
    }
    propose_tile(tuning->tile, config, out);
    double gain = tt_tuner_gain(tuning);
    if (gain < 1) {
        tt_log(training->log, TT_LOG_INFO,
               "tile %d x %d x %d: matrix products take %.2f of the default tile's time%s",
               tuning->tile.m, tuning->tile.n, tuning->tile.k, gain,
               tuning->cached ? " (measured before)" : "");
    }
    return tt_tuner_evidence(tuning, tt_compute_from(config), &out->evidence);
}

tt_tile tt_tile_from(const tt_config *config)
{
    int parts[3];
    for (int i = 0; i < 3; i++) {
        parts[i] = tt_config_is_auto(config, tt_tile_keys[i])
                       ? DEFAULT_TILE
                       : (int)tt_config_int(config, tt_tile_keys[i]);
    }
    return (tt_tile){.m = parts[0], .n = parts[1], .k = parts[2]};
}

static tt_status apply(void *user, const tt_config *config)
{
    tt_training *training = user;
    return tt_context_set_tile(training->context, tt_tile_from(config));
}

/* Products at the run's shapes with what `config` says of compute type, tile and variant, against
 * float64. */
tt_status tt_products_conform(tt_training *training, const tt_config *config, const char *who)
{
    const tt_model_dims *dims = tt_model_get_dims(training->model);
    tt_gemm_shape shapes[TT_TUNER_SHAPES];
    tt_variant_choice before = training->variant, wanted = tt_variant_from(config);
    tt_tile tile = tt_context_tile(training->context);
    tt_dtype compute = tt_context_compute(training->context);
    double error = 0;
    size_t wrong = 0;
    size_t count = tt_tuner_shapes(dims, training->batch, training->plan.context,
                                   tt_context_threads(training->context), shapes);
    tt_status status = tt_variant_use(training, &wanted);
    if (!status) {
        status = tt_context_set_tile(training->context, tt_tile_from(config));
    }
    if (!status) {
        status = tt_context_set_compute(training->context, tt_compute_from(config));
    }
    if (!status) {
        status =
            tt_check_products(training->context, shapes, count, dims->bf16_weights, &error, &wrong);
    }
    tt_status restored = tt_variant_use(training, &before);
    if (!restored) {
        restored = tt_context_set_tile(training->context, tile);
    }
    if (!restored) {
        restored = tt_context_set_compute(training->context, compute);
    }
    if (!status && wrong < count) {
        status =
            tt_fail(TT_EGATE, "%s: %s of %lld x %lld x %lld is off by %g times its rounding bound",
                    who, tt_op_name(shapes[wrong].op), (long long)shapes[wrong].m,
                    (long long)shapes[wrong].n, (long long)shapes[wrong].k, error);
    }
    return status ? status : restored;
}

static tt_status conform(void *user, const tt_config *config)
{
    return tt_products_conform(user, config, "tile");
}

tt_optimization tt_tile_optimization(tt_training *training)
{
    static const char *const baseline[3] = {"32", "32", "32"};
    return (tt_optimization){
        .size = sizeof(tt_optimization),
        .user = training,
        .name = "tile",
        .tier = TT_TIER_TILE,
        .aim = TT_AIM_SPEED,
        .keys = tt_tile_keys,
        .key_count = 3,
        .baseline = baseline,
        .propose = propose,
        .conform = conform,
        .apply = apply,
    };
}
