/* What a configuration amounts to. */
#include "internal.h"

#include <string.h>

static bool is(const tt_config *config, const char *key, const char *choice)
{
    return strcmp(tt_config_string(config, key), choice) == 0;
}

tt_model_dims tt_dims_from_config(const tt_config *config)
{
    const bool has_kv_heads = !tt_config_is_auto(config, "model.kv_heads");
    const bool has_mlp_width = !tt_config_is_auto(config, "model.mlp_width");
    return (tt_model_dims){
        .layers = tt_config_int(config, "model.layers"),
        .heads = tt_config_int(config, "model.heads"),
        .channels = tt_config_int(config, "model.channels"),
        .context = tt_config_int(config, "model.context"),
        .vocab = tt_config_int(config, "model.vocab"),
        .norm = is(config, "model.norm", "rmsnorm") ? TT_NORM_RMSNORM : TT_NORM_LAYERNORM,
        .positions =
            is(config, "model.positions", "rotary") ? TT_POSITIONS_ROTARY : TT_POSITIONS_LEARNED,
        .mlp = is(config, "model.mlp", "swiglu") ? TT_MLP_SWIGLU : TT_MLP_GELU,
        .kv_heads = has_kv_heads ? tt_config_int(config, "model.kv_heads") : 0,
        .mlp_width = has_mlp_width ? tt_config_int(config, "model.mlp_width") : 0,
        .rope_theta = tt_config_float(config, "model.rope_theta"),
        .unbiased = !tt_config_bool(config, "model.bias"),
        .untied = !tt_config_bool(config, "model.tied"),
        .bf16_weights = is(config, "compression.weights", "bf16"),
    };
}

/* Multiplies and adds of one step: 6 per matrix parameter and token (2 forward, 4 backward), and
 * causal attention's 12 x layers x channels x context/2 per token (Kaplan et al. 2020, table 1). */
static double step_flops(const tt_model_dims *dims, double tokens)
{
    tt_gemm_shape shapes[TT_MODEL_GEMM_SHAPES];
    const size_t count = tt_model_gemm_shapes(dims, 1, 1, shapes, TT_MODEL_GEMM_SHAPES);
    double products = 0.0; /* of one token, forward and backward */
    for (size_t i = 0; i < count; i++) {
        products += (double)shapes[i].count * (double)shapes[i].n * (double)shapes[i].k;
    }
    double attention = 6 * (double)dims->layers * (double)dims->channels * (double)dims->context;
    return tokens * (2 * products + attention);
}

/* SIZE_MAX stands for more than can be addressed. */
static size_t add_bytes(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

size_t tt_training_tensor_bytes(const tt_config *config)
{
    tt_model_dims dims = tt_dims_from_config(config);
    int64_t batch = tt_config_int(config, "train.batch");
    int slots = (int)tt_config_int(config, "snapshot.slots");
    size_t bytes = tt_model_bytes(&dims, batch, dims.context, TT_F32);
    bytes = add_bytes(bytes, tt_slot_memory_bytes(&dims, slots));
    if (tt_config_int(config, "sample.tokens") > 0) {
        bytes = add_bytes(
            bytes, tt_kv_store_bytes(dims.layers, dims.context, tt_model_kv_width(&dims), TT_F32));
    }
    return add_bytes(bytes, 1 << 16);
}

/* All slots; with one, a codec needs room to decode a tensor beside them. */
static int64_t state_bytes(const tt_model_dims *dims, int slots, tt_codec codec, int64_t block)
{
    return slots * tt_slot_resident_bytes(dims, codec, block, NULL) +
           (slots == 1 ? tt_staging_bytes(dims, codec) : 0);
}

/* Of weights packed ahead, as step.c does. */
static int64_t packed_bytes(const tt_config *config, const tt_model_dims *dims)
{
    const bool packs =
        tt_compute_from(config) == TT_BF16 && tt_config_int(config, "train.accumulate") > 1;
    return packs ? (int64_t)tt_model_packed_bytes(dims, TT_BF16) : 0;
}

static int64_t model_bytes(const tt_model_dims *dims, int64_t batch, tt_act_form form)
{
    return (int64_t)tt_model_resident_bytes(dims, batch, dims->context, form);
}

/* The products of libraries read weights in f32 only. (A rule would not do: what a variant is
 * called is text.) */
static tt_status check_readers(const tt_config *config, const tt_model_dims *dims)
{
    const char *const keys[] = {"kernels.variant", tt_product_keys[TT_OP_LINEAR_FORWARD],
                                tt_product_keys[TT_OP_LINEAR_DGRAD]};
    for (size_t i = 0; i < sizeof keys / sizeof *keys && dims->bf16_weights; i++) {
        const char *name =
            tt_config_is_auto(config, keys[i]) ? "auto" : tt_config_string(config, keys[i]);
        for (size_t v = 0; v < tt_variant_count(); v++) {
            const tt_variant_info *info = tt_variant_at(v);
            if (info->library != TT_LIBRARY_NONE && strcmp(info->name, name) == 0) {
                return tt_fail(TT_ECONFIG,
                               "%s: %s is %s, which reads weights in f32, and compression.weights "
                               "is bf16 (%s); set one of them otherwise",
                               tt_config_origin(config, keys[i]), keys[i], name,
                               tt_config_origin(config, "compression.weights"));
            }
        }
    }
    return TT_OK;
}

/* More than any machine's memory, and far from overflow. */
static const size_t absurd_bytes = (size_t)1 << 56;

/* What does not go together, or is beyond all bounds. */
static tt_status check(const tt_config *config, const tt_model_dims *dims)
{
    if (tt_training_tensor_bytes(config) > absurd_bytes) {
        return tt_fail(TT_ECONFIG,
                       "a model of %lld layers, %lld channels, vocabulary %lld, with batches of "
                       "%lld x %lld tokens, is beyond any memory; make it smaller",
                       (long long)dims->layers, (long long)dims->channels, (long long)dims->vocab,
                       (long long)tt_config_int(config, "train.batch"), (long long)dims->context);
    }
    if (!tt_config_is_auto(config, "optim.minimum_rate") &&
        tt_config_float(config, "optim.minimum_rate") >
            tt_config_float(config, "optim.learning_rate")) {
        return tt_fail(TT_ECONFIG,
                       "%s: optim.minimum_rate %g is above optim.learning_rate %g; the cosine goes "
                       "down",
                       tt_config_origin(config, "optim.minimum_rate"),
                       tt_config_float(config, "optim.minimum_rate"),
                       tt_config_float(config, "optim.learning_rate"));
    }
    tt_status status = check_readers(config, dims);
    return status ? status : tt_variant_check(config);
}

tt_status tt_training_make_plan(const tt_config *config, tt_training_plan *out)
{
    tt_model_dims dims = tt_dims_from_config(config);
    tt_status status = tt_model_dims_check(&dims);
    if (!status) {
        status = check(config, &dims);
    }
    if (status) {
        return status;
    }
    int64_t batch = tt_config_int(config, "train.batch");
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    out->layers = dims.layers;
    out->heads = dims.heads;
    out->channels = dims.channels;
    out->context = dims.context;
    out->vocab = dims.vocab;
    out->kv_heads = tt_model_kv_heads(&dims);
    out->mlp_width = tt_model_mlp_width(&dims);
    out->parameters = tt_model_param_elements(&dims);
    out->steps = tt_config_int(config, "train.steps");
    out->tokens_per_step = batch * tt_config_int(config, "train.accumulate") * dims.context;
    tt_topology topology;
    tt_topology_read(&topology);
    out->threads = tt_config_is_auto(config, "run.threads")
                       ? topology.threads
                       : (int)tt_config_int(config, "run.threads");
    out->slots = (int)tt_config_int(config, "snapshot.slots");
    tt_moments_policy moments = tt_moments_policy_from(config);
    tt_codec activations = tt_activation_codec_from(config);
    out->checkpoint_bytes = tt_slot_resident_bytes(&dims, moments.codec, moments.block, NULL);
    out->state_bytes = state_bytes(&dims, out->slots, moments.codec, moments.block);
    out->model_bytes =
        packed_bytes(config, &dims) +
        model_bytes(&dims, batch,
                    (tt_act_form){tt_compute_from(config), activations, moments.block});
    out->flops_per_step = step_flops(&dims, (double)out->tokens_per_step);
    return TT_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

int64_t tt_training_memory_estimate(const tt_config *config)
{
    static const tt_codec ladder[] = {TT_CODEC_F32, TT_CODEC_BF16, TT_CODEC_INT8};
    tt_training_plan plan;
    if (tt_training_make_plan(config, &plan)) {
        return INT64_MAX;
    }
    tt_model_dims dims = tt_dims_from_config(config);
    tt_moments_policy moments = tt_moments_policy_from(config);
    tt_codec activations = tt_activation_codec_from(config);
    const tt_dtype compute = tt_compute_from(config);
    int64_t batch = tt_config_int(config, "train.batch");
    const int64_t packed = packed_bytes(config, &dims);
    int64_t state = plan.state_bytes;
    int64_t model = plan.model_bytes;
    bool below_moments = false;
    bool below_activations = false;
    /* The resolver wants an estimate that no step down a ladder raises. In small models it can:
     * what a codec works with may take more than it saves. Then a step counts as what is below it.
     */
    for (size_t i = 0; i < sizeof ladder / sizeof *ladder; i++) {
        if (below_moments) {
            state = larger(state, state_bytes(&dims, plan.slots, ladder[i], moments.block));
        }
        if (below_activations) {
            model = larger(model,
                           packed + model_bytes(&dims, batch,
                                                (tt_act_form){compute, ladder[i], moments.block}));
        }
        below_moments = below_moments || ladder[i] == moments.codec;
        below_activations = below_activations || ladder[i] == activations;
    }
    return state + model;
}
