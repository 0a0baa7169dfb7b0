/* A model with real slots, and steps over them. */
#ifndef TRIMTAB_TESTS_TRAINING_SLOTS_SUPPORT_H
#define TRIMTAB_TESTS_TRAINING_SLOTS_SUPPORT_H

#include "support.h"

#include "moments.h"

/* Matrices are large enough to be encoded, but for wpe [16, 64] and attn.c_proj of the small one.
 */
static const tt_model_dims slot_dims = {
    .layers = 2, .heads = 2, .channels = 64, .context = 16, .vocab = 80};

enum { SLOT_BATCH = 2, SLOT_COUNT = 2 };

typedef struct slot_bench {
    tt_context *context;
    tt_model *model;
    tt_compressor *compressor;
    tt_slot_memory memory;
    tt_model_dims dims;
    int64_t time;
    tt_optim_options optim;
    tt_moments_policy policy;
    int32_t *tokens, *targets;
} slot_bench;

static inline void slots_open(slot_bench *b, tt_model_dims dims, int64_t time)
{
    *b = (slot_bench){.dims = dims, .time = time};
    b->optim = (tt_optim_options){.learning_rate = 3e-3,
                                  .minimum_rate = 3e-4,
                                  .total_steps = 1000,
                                  .beta1 = 0.9,
                                  .beta2 = 0.95,
                                  .epsilon = 1e-8,
                                  .weight_decay = 0.1,
                                  .clip = 1};
    b->policy = (tt_moments_policy){
        .codec = TT_CODEC_F32, .block = 64, .reconstruction_max = 0.05, .update_max = 0.05};
    tt_context_options co;
    tt_context_options_init(&co);
    co.dtype = TT_F32;
    co.threads = 2;
    co.tensor_bytes = tt_model_bytes(&dims, SLOT_BATCH, time, TT_F32) +
                      tt_slot_memory_bytes(&dims, SLOT_COUNT) + (1 << 16);
    assert_ok(tt_context_create(&co, &b->context));
    assert_ok(tt_model_create(b->context, &dims, SLOT_BATCH, time, &b->model));
    assert_ok(tt_compressor_create(b->context, &b->compressor));
    assert_ok(tt_slot_memory_create(b->context, b->model, SLOT_COUNT, &b->memory));
    assert_ok(tt_model_init_params(b->model, 1, b->memory.slots[0].params));
    b->tokens = calloc((size_t)(SLOT_BATCH * time), sizeof *b->tokens);
    b->targets = calloc((size_t)(SLOT_BATCH * time), sizeof *b->targets);
}

static inline void slots_close(slot_bench *b)
{
    tt_slot_memory_destroy(&b->memory);
    tt_compressor_destroy(b->compressor);
    tt_model_destroy(b->model);
    tt_context_destroy(b->context);
    free(b->tokens);
    free(b->targets);
}

/* Gradients of a batch that depends on the step only: a next token that can be learned, with noise.
 */
static inline void slots_gradients(slot_bench *b, int64_t step, int slot)
{
    double loss = NAN;
    const int64_t rows = SLOT_BATCH * b->time;
    for (int64_t i = 0; i < rows; i++) {
        uint64_t at = (uint64_t)(step * rows + i);
        double draw = tt_random_uniform(5, 1, at);
        b->tokens[i] = (int32_t)(draw * (double)b->dims.vocab);
        b->targets[i] = tt_random_uniform(5, 2, at) < 0.7
                            ? (b->tokens[i] * 7 + 3) % (int32_t)b->dims.vocab
                            : (int32_t)(tt_random_uniform(5, 3, at) * (double)b->dims.vocab);
    }
    assert_ok(tt_model_begin_step(b->model));
    assert_ok(tt_model_forward_train(b->model, b->memory.slots[slot].params, b->tokens, b->targets,
                                     SLOT_BATCH, b->time, 1.0, &loss));
    assert_ok(tt_model_backward(b->model, b->memory.slots[slot].params));
}

/* The update alone, on the gradients that are there. */
static inline tt_moments_result slots_update(slot_bench *b, int64_t step, int from, int to)
{
    tt_moments_result result;
    double norm;
    uint64_t nonfinite;
    assert_ok(tt_gradient_norm(b->context, b->model, &norm, &nonfinite));
    const tt_moments_update update = {.memory = &b->memory,
                                      .model = b->model,
                                      .compressor = b->compressor,
                                      .optim = &b->optim,
                                      .policy = &b->policy,
                                      .step = step,
                                      .norm = norm,
                                      .rate_scale = 1,
                                      .read_slot = from,
                                      .write_slot = to};
    assert_ok(tt_moments_run(&update, &result));
    return result;
}

static inline tt_moments_result slots_step(slot_bench *b, int64_t step, int from, int to)
{
    slots_gradients(b, step, from);
    return slots_update(b, step, from, to);
}

static inline size_t info_bytes(const tt_tensor_info *info)
{
    size_t bytes = tt_dtype_size(info->dtype);
    for (int i = 0; i < info->rank; i++) {
        bytes *= (size_t)info->dims[i];
    }
    return bytes;
}

/* The bytes of a part; the caller frees. */
static inline unsigned char *part_bytes(const slot_bench *b, int slot, size_t index,
                                        tt_tensor_info *info)
{
    tt_slot_part_info(&b->memory, slot, index, info);
    unsigned char *out = malloc(info_bytes(info) + 1);
    assert_non_null(out);
    assert_ok(tt_slot_part_read(&b->memory, slot, index, 0, out, info_bytes(info)));
    return out;
}

/* Fails unless both slots have the same parts with the same bits. */
static inline void assert_same_slots(const slot_bench *a, int left, const slot_bench *b, int right)
{
    assert_int_equal(tt_slot_part_count(&a->memory, left), tt_slot_part_count(&b->memory, right));
    for (size_t i = 0; i < tt_slot_part_count(&a->memory, left); i++) {
        tt_tensor_info one;
        tt_tensor_info two;
        unsigned char *x = part_bytes(a, left, i, &one);
        unsigned char *y = part_bytes(b, right, i, &two);
        if (memcmp(&one, &two, sizeof one) != 0) {
            fail_msg("%s beside %s", one.name, two.name);
        }
        if (memcmp(x, y, info_bytes(&one)) != 0) {
            fail_msg("%s differs", one.name);
        }
        free(x);
        free(y);
    }
}

#endif
