/* The tile of the blocked matrix products, as an optimization that the orchestrator steers: chosen
 * by measurement on the run's own shapes, where the user left it to `auto`. */
#include "../internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TILE = 32, MAX_SHAPES = 64 };

/* Beyond these a product only repeats what its cache blocks do: longer ones are timed in part. */
enum { LONGEST_M = 1024, LONGEST_N = 2048, LONGEST_K = 2048 };

const char *const tt_tile_keys[3] = {"kernels.tile_m", "kernels.tile_n", "kernels.tile_k"};

/* The first is the incumbent (the default); then those that have most often won, so that a short
 * budget looks at them; then their neighbours, down and up. */
static const tt_tile lattice_walk[] = {
    {32, 32, 32},   {64, 256, 256}, {128, 128, 256}, {64, 64, 128},   {128, 256, 256},
    {64, 128, 256}, {64, 128, 128}, {256, 256, 256}, {128, 128, 128}, {64, 64, 64},
    {128, 64, 128}, {32, 64, 64},   {256, 512, 256}, {512, 512, 512},
};
enum { WALK = sizeof lattice_walk / sizeof *lattice_walk };

/* Keys that the user pinned stay; the others follow the walk. Doubles fall out. */
static size_t candidates(const tt_config *config, tt_tile out[WALK])
{
    size_t count = 0;
    for (size_t i = 0; i < WALK; i++) {
        tt_tile tile = lattice_walk[i];
        int *const parts[3] = {&tile.m, &tile.n, &tile.k};
        for (int part = 0; part < 3; part++) {
            if (!tt_config_is_auto(config, tt_tile_keys[part])) {
                *parts[part] = (int)tt_config_int(config, tt_tile_keys[part]);
            }
        }
        bool known = false;
        for (size_t j = 0; j < count; j++) {
            known = known || memcmp(&out[j], &tile, sizeof tile) == 0;
        }
        if (!known) {
            out[count++] = tile;
        }
    }
    return count;
}

static json_t *tile_json(tt_tile tile)
{
    return json_pack("[i, i, i]", tile.m, tile.n, tile.k);
}

static tt_status write_evidence(const tt_tune_candidate *results, size_t count, size_t chosen,
                                tt_text *out)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const tt_tune_candidate *result = &results[i];
        /* Nothing wrong was seen, but the time was up before all was looked at. */
        bool unknown = !result->conforms && result->error <= 1;
        bool measured = !unknown && isfinite(result->error);
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o}", "tile", tile_json(result->tile), "conforms",
                            unknown ? json_null() : json_boolean(result->conforms), "error_share",
                            measured ? json_real(result->error) : json_null(), "seconds_per_step",
                            result->timed ? json_real(result->seconds) : json_null()));
    }
    json_t *evidence = json_pack("{s:o, s:o, s:o}", "chosen", tile_json(results[chosen].tile),
                                 "incumbent", tile_json(results[0].tile), "candidates", list);
    char *text = evidence ? json_dumps(evidence, JSON_COMPACT) : NULL;
    if (text) {
        tt_text_add(out, text);
    }
    free(text);
    json_decref(evidence);
    return text ? tt_text_check(out) : tt_fail(TT_ENOMEM, "no memory for the tuner's record");
}

static int64_t cut(int64_t length, int64_t longest)
{
    return length < longest ? length : longest;
}

/* A part of the product, counted as often as its share of the whole asks for. */
static void shorten(tt_gemm_shape *shape)
{
    tt_gemm_shape whole = *shape;
    shape->m = cut(whole.m, LONGEST_M);
    shape->n = cut(whole.n, LONGEST_N);
    shape->k = cut(whole.k, LONGEST_K);
    double parts = (double)whole.m / (double)shape->m * ((double)whole.n / (double)shape->n) *
                   ((double)whole.k / (double)shape->k);
    shape->count = (int)fmin(round(parts * whole.count), 1e9);
}

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

/* The run's own products, each at most as long as is of use; returns how many. */
static size_t list_shapes(const tt_training *training, tt_gemm_shape shapes[MAX_SHAPES])
{
    size_t count = tt_model_gemm_shapes(tt_model_get_dims(training->model), training->batch,
                                        training->plan.context, shapes, MAX_SHAPES);
    count = count < MAX_SHAPES ? count : MAX_SHAPES;
    for (size_t i = 0; i < count; i++) {
        shorten(&shapes[i]);
    }
    return count;
}

static tt_status propose(void *user, const tt_config *config, tt_proposal *out)
{
    tt_training *training = user;
    tt_tile tiles[WALK];
    tt_tune_candidate results[WALK];
    tt_gemm_shape shapes[MAX_SHAPES];
    tt_tune_options options;
    tt_tune_options_init(&options);
    options.shape_count = list_shapes(training, shapes);
    options.shapes = shapes;
    options.candidates = tiles;
    options.candidate_count = candidates(config, tiles);
    options.budget_seconds = training->tune_seconds;
    options.clock = &training->clock;
    size_t chosen = 0;
    tt_status status = tt_tune_tile(training->context, &options, results, &chosen);
    if (status) {
        return status;
    }
    propose_tile(results[chosen].tile, config, out);
    if (results[0].timed && results[chosen].timed && chosen != 0) {
        tt_log(training->log, TT_LOG_INFO,
               "tile %d x %d x %d: matrix products take %.2f of the default tile's time",
               results[chosen].tile.m, results[chosen].tile.n, results[chosen].tile.k,
               results[chosen].seconds / results[0].seconds);
    }
    return write_evidence(results, options.candidate_count, chosen, &out->evidence);
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
    tt_gemm_shape shapes[MAX_SHAPES];
    char before[sizeof training->variant];
    tt_tile tile = tt_context_tile(training->context);
    tt_dtype compute = tt_context_compute(training->context);
    double error = 0;
    size_t wrong = 0;
    size_t count = list_shapes(training, shapes);
    memcpy(before, training->variant, sizeof before);
    tt_status status = tt_variant_use(training, tt_variant_from(config));
    if (!status) {
        status = tt_context_set_tile(training->context, tt_tile_from(config));
    }
    if (!status) {
        status = tt_context_set_compute(training->context, tt_compute_from(config));
    }
    if (!status) {
        status = tt_check_products(training->context, shapes, count, &error, &wrong);
    }
    tt_status restored = tt_variant_use(training, before);
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
