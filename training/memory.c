/* What a configuration really takes: resident bytes, not address space. */
#include "internal.h"
#include "model_internal.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

/* Counts the pages that a walk in ascending order touches. */
typedef struct page_count {
    int64_t next; /* first page that has not been counted */
    int64_t pages;
} page_count;

static void touch(page_count *count, int64_t offset, int64_t bytes)
{
    int64_t first = offset / PAGE;
    int64_t end = (offset + bytes + PAGE - 1) / PAGE;
    first = first > count->next ? first : count->next;
    if (end > first) {
        count->pages += end - first;
        count->next = end;
    }
}

static tt_codec codec_of(const tt_param_tensor *tensor, size_t index, tt_codec codec,
                         const tt_slot_layout *exceptions)
{
    if (tensor->count < TT_ENCODED_ELEMENTS) {
        return TT_CODEC_F32;
    }
    return exceptions && exceptions->kept[index] ? exceptions->codec[index] : codec;
}

int64_t tt_slot_resident_bytes(const tt_model_dims *dims, tt_codec codec, int64_t block,
                               const tt_slot_layout *exceptions)
{
    int64_t vector = (int64_t)tt_slot_vector_bytes(dims);
    int64_t params = (int64_t)tt_slot_params_bytes(dims);
    if (codec == TT_CODEC_F32) {
        return params + 2 * vector;
    }
    size_t count = tt_model_count_tensors(dims);
    tt_param_tensor *tensors = calloc(count, sizeof *tensors);
    if (!tensors) {
        return params +
               2 * vector; /* no memory even for this: at the least it is no underestimate */
    }
    page_count moments = {0, 0};
    (void)tt_model_lay_out_params(dims, tensors);
    for (size_t i = 0; i < count; i++) {
        tt_codec own = codec_of(&tensors[i], i, codec, exceptions);
        touch(&moments, tensors[i].offset * (int64_t)sizeof(float),
              (int64_t)tt_codec_bytes(own, block, tensors[i].count));
    }
    free(tensors);
    return params + 2 * moments.pages * PAGE; /* both moments take the same */
}

tt_moments_policy tt_moments_policy_from(const tt_config *config)
{
    tt_moments_policy policy = {
        .codec = TT_CODEC_F32,
        .block = tt_config_int(config, "compression.block"),
        .reconstruction_max = tt_config_float(config, "compression.bound"),
        .update_max = tt_config_float(config, "gates.update_error.max"),
    };
    if (!tt_config_is_auto(config, "compression.moments")) {
        (void)tt_codec_parse(tt_config_string(config, "compression.moments"), &policy.codec);
    }
    return policy;
}

tt_codec tt_activation_codec_from(const tt_config *config)
{
    tt_codec codec = TT_CODEC_F32;
    if (!tt_config_is_auto(config, "compression.activations")) {
        (void)tt_codec_parse(tt_config_string(config, "compression.activations"), &codec);
    }
    return codec;
}

int64_t tt_staging_bytes(const tt_model_dims *dims, tt_codec codec)
{
    const int64_t largest = tt_model_largest_param(dims);
    const int64_t element = dims->bf16_weights ? sizeof(uint16_t) : sizeof(float);
    return codec == TT_CODEC_F32 ? 0 : largest * (element + 2 * (int64_t)sizeof(uint16_t));
}

int64_t tt_training_memory(const tt_training *training, const tt_config *config, bool fork)
{
    const tt_slot_memory *memory = &training->memory;
    const tt_model_dims *dims = tt_model_get_dims(training->model);
    const tt_slot_layout *written = &memory->layouts[memory->written];
    tt_moments_policy policy = tt_moments_policy_from(config);
    tt_moments_policy live = training->moments;
    int64_t slots = memory->count - 1;
    const tt_slot_layout *known = policy.codec == live.codec && written->decided ? written : NULL;
    int64_t one = tt_slot_resident_bytes(dims, policy.codec, policy.block, known);
    int64_t bytes = tt_training_memory_estimate(config);
    if (bytes == INT64_MAX) {
        return bytes;
    }
    bytes += slots * (one - tt_slot_resident_bytes(dims, policy.codec, policy.block, NULL));
    if (fork) {
        bytes += one + (slots > 1 ? tt_staging_bytes(dims, policy.codec) : 0);
    }
    return bytes;
}
