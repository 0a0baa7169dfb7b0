/* A model out of a checkpoint, for generation. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGING_BYTES = 4 << 20 };

void tt_generate_options_init(tt_generate_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    options->prompt = "";
    options->temperature = 0.8;
    options->top_k = 40;
    options->seed = 1;
    options->max_tokens = 256;
}

/* The configuration that the checkpoint's run used. */
static tt_status read_config(const tt_store *store, const char *where, tt_params **params,
                             tt_config **config)
{
    tt_text yaml;
    tt_text changes;
    tt_text_init(&yaml);
    tt_text_init(&changes);
    tt_status status = tt_params_create(params);
    if (!status) {
        status = tt_training_register(*params);
    }
    if (!status) {
        status = tt_config_create(*params, config);
    }
    if (!status) {
        status = tt_store_read_text(store, "/meta/config.yaml", &yaml);
    }
    if (!status) {
        status = tt_config_resume_from(*config, where, yaml.data, yaml.length, &changes, NULL);
    }
    tt_text_clear(&yaml);
    tt_text_clear(&changes);
    return status;
}

static tt_status read_tensor(const tt_store *store, const char *where, tt_context *context,
                             const tt_param_tensor *tensor, unsigned char *params,
                             unsigned char *staging)
{
    char path[TT_STORE_MAX_NAME];
    snprintf(path, sizeof path, "/tensors/%s/%s", tt_slot_params_folder(tensor->bf16),
             tensor->name);
    const tt_store_entry *entry = tt_store_find(store, path);
    const int64_t bytes = (int64_t)tt_param_bytes(tensor, TT_F32);
    const tt_dtype dtype = tensor->bf16 ? TT_U16 : TT_F32;
    if (!entry || entry->dtype != dtype || entry->bytes != bytes) {
        return tt_fail(TT_ECORRUPT, "%s: %s is missing or does not fit the saved configuration",
                       where, path);
    }
    tt_status status = TT_OK;
    for (int64_t offset = 0; !status && offset < bytes; offset += STAGING_BYTES) {
        size_t part = bytes - offset < STAGING_BYTES ? (size_t)(bytes - offset) : STAGING_BYTES;
        status = tt_store_read(store, entry, offset, staging, part);
        if (!status) {
            status = tt_tensor_write(context, params + tt_param_at(tensor, TT_F32) + offset,
                                     staging, part);
        }
    }
    return status;
}

static tt_status read_params(const tt_store *store, const char *where, tt_context *context,
                             const tt_model *model, void *params)
{
    unsigned char *staging = malloc(STAGING_BYTES);
    tt_status status = staging ? TT_OK : tt_fail(TT_ENOMEM, "no memory for a staging buffer");
    for (size_t i = 0; !status && i < tt_model_tensor_count(model); i++) {
        status = read_tensor(store, where, context, tt_model_tensor(model, i), params, staging);
    }
    free(staging);
    return status;
}

static tt_status generate_with(const tt_generate_options *options, tt_model *model,
                               const void *params, tt_kv_store *store)
{
    int64_t vocab = tt_model_get_dims(model)->vocab;
    size_t count = options->prompt_bytes ? options->prompt_bytes : 1;
    int32_t *prompt = malloc(count * sizeof *prompt);
    if (!prompt) {
        return tt_fail(TT_ENOMEM, "no memory for a prompt of %zu tokens", count);
    }
    tt_status status = TT_OK;
    prompt[0] = '\n';
    for (size_t i = 0; i < options->prompt_bytes; i++) {
        prompt[i] = (unsigned char)options->prompt[i];
    }
    for (size_t i = 0; !status && i < count; i++) {
        if (prompt[i] >= vocab) {
            status = tt_fail(TT_EDATA,
                             "byte %zu of the prompt is %d, the model knows tokens below "
                             "%lld",
                             i, prompt[i], (long long)vocab);
        }
    }
    if (!status) {
        tt_generation_options generation = {
            .temperature = options->temperature,
            .top_k = options->top_k,
            .seed = options->seed,
            .max_tokens = options->max_tokens,
        };
        status = tt_generate(model, params, store, prompt, (int64_t)count, &generation,
                             options->emit, options->user);
    }
    free(prompt);
    return status;
}

static tt_status build(const tt_generate_options *options, const tt_store *store,
                       const tt_config *config)
{
    tt_model_dims dims = tt_dims_from_config(config);
    tt_status status = tt_model_dims_check(&dims);
    if (status) {
        return status;
    }
    tt_context *context = NULL;
    tt_model *model = NULL;
    tt_kv_store *cache = NULL;
    void *params = NULL;
    const size_t bytes = tt_model_params_bytes(&dims, TT_F32);
    tt_context_options context_options;
    tt_context_options_init(&context_options);
    context_options.dtype = TT_F32;
    context_options.numerics = tt_numerics_from(config);
    context_options.threads = options->threads;
    context_options.tensor_bytes =
        bytes + tt_model_bytes(&dims, 0, dims.context, TT_F32) +
        tt_kv_store_bytes(dims.layers, dims.context, tt_model_kv_width(&dims), TT_F32) + (1 << 16);
    status = tt_context_create(&context_options, &context);
    if (!status) {
        status = tt_choose_attention(context, &dims, NULL);
    }
    if (!status) {
        status = tt_model_create(context, &dims, 0, dims.context, &model);
    }
    if (!status) {
        status = tt_model_set_compute(model, tt_compute_from(config));
    }
    if (!status) {
        status = tt_tensor_alloc(context, bytes, &params);
    }
    if (!status) {
        status = read_params(store, options->name, context, model, params);
    }
    if (!status) {
        status = tt_kv_store_create(context, dims.layers, dims.context, tt_model_kv_width(&dims),
                                    &cache);
    }
    if (!status) {
        status = generate_with(options, model, params, cache);
    }
    tt_kv_store_destroy(cache);
    tt_model_destroy(model);
    tt_context_destroy(context);
    return status;
}

tt_status tt_generate_from_checkpoint(const tt_generate_options *options)
{
    if (options->size != sizeof *options || !options->store || !options->name || !options->emit) {
        return tt_fail(TT_EINVAL, "tt_generate_from_checkpoint needs store, name and emit");
    }
    tt_params *params = NULL;
    tt_config *config = NULL;
    tt_status status = read_config(options->store, options->name, &params, &config);
    if (!status) {
        status = build(options, options->store, config);
    }
    tt_config_destroy(config);
    tt_params_destroy(params);
    return status;
}
