/* Compressed state, as two optimizations that the orchestrator steers: the moments in the slots,
 * and what the forward pass keeps for the backward pass. Their aim is memory. */
#include "../internal.h"

#include <math.h>
#include <stdlib.h>

/* compression.block is nobody's: both codecs use it, so that neither's breaker may move it. */
static const char *const moments_keys[] = {"compression.moments"};
static const char *const moments_baseline[] = {"f32"};
static const char *const activations_keys[] = {"compression.activations"};
static const char *const activations_baseline[] = {"f32"};

/* ---- does the codec do what it says? ---- */

enum { SAMPLE = 3 * TT_CODEC_BLOCK_MAX + 37 };

/* Normal, with a block of zeros and magnitudes that differ from block to block. */
static void fill_sample(float *x, bool positive)
{
    tt_random_normal_f32(1, 0, x, SAMPLE);
    for (int i = 0; i < SAMPLE; i++) {
        float scale = ldexpf(1.0f, i / TT_CODEC_BLOCK_MIN % 16 - 8);
        x[i] = i < TT_CODEC_BLOCK_MIN ? 0.0f : x[i] * scale;
        x[i] = positive ? fabsf(x[i]) : x[i];
    }
}

/* What one element may be off by, from the definition of the codec. */
static float bound_at(const float *x, int i, tt_codec codec, int64_t block)
{
    if (codec == TT_CODEC_BF16) {
        return fabsf(x[i]) / 256;
    }
    float top = 0;
    int64_t begin = i / block * block;
    for (int64_t k = begin; k < begin + block && k < SAMPLE; k++) {
        top = fmaxf(top, fabsf(x[k]));
    }
    return codec == TT_CODEC_INT8 ? top / 127 * 0.501f : top / 255 * 1.001f;
}

static tt_status compare(const float *x, const float *back, tt_codec codec, int64_t block)
{
    for (int i = 0; i < SAMPLE; i++) {
        bool lost = codec == TT_CODEC_UINT8_UP && x[i] > 0 && !(back[i] > 0);
        if (lost || !(fabsf(back[i] - x[i]) <= bound_at(x, i, codec, block))) {
            return tt_fail(TT_EGATE, "%s in blocks of %lld: element %d is %g, and decodes to %g",
                           tt_codec_name(codec), (long long)block, i, (double)x[i],
                           (double)back[i]);
        }
    }
    return TT_OK;
}

/* There and back, in a small context of its own. */
static tt_status round_trip(tt_training *training, tt_codec codec, int64_t block, float *x,
                            float *back)
{
    tt_context *context = NULL;
    tt_compressor *compressor = NULL;
    void *from = NULL;
    void *to = NULL;
    tt_encoded encoded = {.codec = codec, .block = block, .n = SAMPLE};
    tt_context_options options;
    tt_context_options_init(&options);
    options.dtype = TT_F32;
    options.threads = tt_context_threads(training->context);
    options.tensor_bytes = 4 * SAMPLE * sizeof(float);
    fill_sample(x, codec == TT_CODEC_UINT8_UP);
    tt_status status = tt_context_create(&options, &context);
    if (!status) {
        status = tt_compressor_create(context, &compressor);
    }
    if (!status) {
        status = tt_tensor_alloc(context, SAMPLE * sizeof(float), &from);
    }
    if (!status) {
        status = tt_tensor_alloc(context, SAMPLE * sizeof(float), &to);
    }
    if (!status) {
        status = tt_tensor_alloc(context, tt_codec_bytes(codec, block, SAMPLE), &encoded.data);
    }
    if (!status) {
        status = tt_tensor_write(context, from, x, SAMPLE * sizeof(float));
    }
    if (!status) {
        status = tt_encode(compressor, from, &encoded, NULL);
    }
    if (!status) {
        status = tt_decode(compressor, &encoded, to);
    }
    if (!status) {
        status = tt_tensor_read(context, back, to, SAMPLE * sizeof(float));
    }
    tt_compressor_destroy(compressor);
    tt_context_destroy(context);
    return status ? status : compare(x, back, codec, block);
}

static tt_status codec_conforms(tt_training *training, tt_codec codec, int64_t block)
{
    if (codec == TT_CODEC_F32) {
        return TT_OK;
    }
    float *x = malloc(2 * SAMPLE * sizeof *x);
    if (!x) {
        return tt_fail(TT_ENOMEM, "no memory for a sample of a codec");
    }
    tt_status status = round_trip(training, codec, block, x, x + SAMPLE);
    free(x);
    return status;
}

/* ---- moments ---- */

static tt_status conform_moments(void *user, const tt_config *config)
{
    tt_moments_policy policy = tt_moments_policy_from(config);
    tt_status status = codec_conforms(user, policy.codec, policy.block);
    return status ? status : codec_conforms(user, tt_codec_of_v(policy.codec), policy.block);
}

static tt_status apply_moments(void *user, const tt_config *config)
{
    tt_training *training = user;
    training->moments = tt_moments_policy_from(config);
    return TT_OK;
}

tt_optimization tt_moments_optimization(tt_training *training)
{
    return (tt_optimization){
        .size = sizeof(tt_optimization),
        .user = training,
        .name = "moments",
        .tier = TT_TIER_COMPRESSION,
        .aim = TT_AIM_MEMORY,
        .keys = moments_keys,
        .key_count = 1,
        .baseline = moments_baseline,
        .acts_on_state = true,
        .conform = conform_moments,
        .apply = apply_moments,
    };
}

/* ---- activations ---- */

static tt_status conform_activations(void *user, const tt_config *config)
{
    return codec_conforms(user, tt_activation_codec_from(config),
                          tt_config_int(config, "compression.block"));
}

static tt_status apply_activations(void *user, const tt_config *config)
{
    tt_training *training = user;
    /* Of a step that ended before its backward pass nothing more will be asked. */
    tt_model_abandon_pass(training->model);
    return tt_model_set_activation_codec(training->model, training->compressor,
                                         tt_activation_codec_from(config),
                                         tt_config_int(config, "compression.block"));
}

tt_optimization tt_activations_optimization(tt_training *training)
{
    return (tt_optimization){
        .size = sizeof(tt_optimization),
        .user = training,
        .name = "activations",
        .tier = TT_TIER_COMPRESSION,
        .aim = TT_AIM_MEMORY,
        .keys = activations_keys,
        .key_count = 1,
        .baseline = activations_baseline,
        .conform = conform_activations,
        .apply = apply_activations,
    };
}

/* ---- all of them ---- */

static tt_status add_targets(tt_training *training)
{
    const struct {
        tt_error_target target;
        int *index;
    } rows[] = {
        {{.name = "activations", .optimization = "activations", .kind = TT_ERROR_RECONSTRUCTION},
         &training->activations},
        {{.name = "moments",
          .optimization = "moments",
          .kind = TT_ERROR_RECONSTRUCTION,
          .after_update = true},
         &training->moments_reconstruction},
        {{.name = "moments",
          .optimization = "moments",
          .kind = TT_ERROR_UPDATE,
          .after_update = true},
         &training->moments_update},
    };
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < sizeof rows / sizeof *rows; i++) {
        tt_error_target target = rows[i].target;
        target.size = sizeof target;
        target.cadence = 1;
        status = tt_orchestrator_add_target(training->orchestrator, &target, rows[i].index);
    }
    return status;
}

tt_status tt_training_add_optimizations(tt_training *training)
{
    const tt_optimization all[] = {
        tt_compute_optimization(training),     tt_variant_optimization(training),
        tt_tile_optimization(training),        tt_moments_optimization(training),
        tt_activations_optimization(training),
    };
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < sizeof all / sizeof *all; i++) {
        status = tt_orchestrator_add(training->orchestrator, &all[i]);
    }
    return status ? status : add_targets(training);
}
