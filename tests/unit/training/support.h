/* What the training module's tests share: a context, a model, parameters in ordinary memory. */
#ifndef TRIMTAB_TESTS_TRAINING_SUPPORT_H
#define TRIMTAB_TESTS_TRAINING_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model.h"
#include "optim.h"

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        tt_status ok_status = (call);                                                              \
        if (ok_status) {                                                                           \
            fail_msg("%s: %s (%s)", #call, tt_status_name(ok_status), tt_error_message());         \
        }                                                                                          \
    } while (0)

/* Fails unless `call` gives `expected` and the message contains `text`. */
#define assert_fails(call, expected, text)                                                         \
    do {                                                                                           \
        tt_status fails_status = (call);                                                           \
        if (fails_status != (expected) || !strstr(tt_error_message(), (text))) {                   \
            fail_msg("%s: %s (%s), wanted %s with \"%s\"", #call, tt_status_name(fails_status),    \
                     fails_status ? tt_error_message() : "", tt_status_name(expected), (text));    \
        }                                                                                          \
    } while (0)

/* A model with two slots, batches of its full size, and their tokens. */
typedef struct bench {
    tt_context *context;
    tt_model *model;
    tt_model_dims dims;
    int64_t batch, time, count;
    size_t element;
    tt_slot_tensors slots[2];
    int32_t *tokens, *targets;
} bench;

typedef struct bench_options {
    tt_dtype dtype;
    int threads;
    bool guard;
    const char *variants; /* NULL: the context's choice */
} bench_options;

static inline void bench_open_with(bench *b, tt_model_dims dims, int64_t batch, int64_t time,
                                   bench_options options)
{
    *b = (bench){.dims = dims, .batch = batch, .time = time};
    b->element = tt_dtype_size(options.dtype);
    b->count = tt_model_param_count(&dims);
    tt_context_options co;
    tt_context_options_init(&co);
    co.dtype = options.dtype;
    co.threads = options.threads;
    co.guard = options.guard;
    const size_t vector = (size_t)b->count * b->element;
    co.tensor_bytes =
        tt_model_bytes(&dims, batch, time, options.dtype) + 6 * (vector + 4096) +
        2 * tt_kv_store_bytes(dims.layers, dims.context, dims.channels, options.dtype) + (1 << 16);
    assert_ok(tt_context_create(&co, &b->context));
    if (options.variants) {
        assert_ok(tt_context_set_variants(b->context, options.variants));
    }
    assert_ok(tt_model_create(b->context, &dims, batch, time, &b->model));
    for (int i = 0; i < 2; i++) {
        assert_ok(tt_tensor_alloc(b->context, vector, &b->slots[i].params));
        assert_ok(tt_tensor_alloc(b->context, vector, &b->slots[i].m));
        assert_ok(tt_tensor_alloc(b->context, vector, &b->slots[i].v));
    }
    const int64_t rows = batch * time;
    b->tokens = calloc((size_t)rows + 1, sizeof *b->tokens);
    b->targets = calloc((size_t)rows + 1, sizeof *b->targets);
    for (int64_t i = 0; i < rows; i++) {
        double draw = tt_random_uniform(5, 1, (uint64_t)i);
        double other = tt_random_uniform(5, 2, (uint64_t)i);
        b->tokens[i] = (int32_t)(draw * (double)dims.vocab);
        b->targets[i] = (int32_t)(other * (double)dims.vocab);
    }
}

static inline void bench_open(bench *b, tt_model_dims dims, int64_t batch, int64_t time,
                              tt_dtype dtype)
{
    bench_open_with(b, dims, batch, time, (bench_options){.dtype = dtype, .threads = 2});
}

static inline void bench_close(bench *b)
{
    tt_model_destroy(b->model);
    tt_context_destroy(b->context);
    free(b->tokens);
    free(b->targets);
}

/* `count` elements of tensor memory as doubles; the caller frees. */
static inline double *read_reals(bench *b, const void *tensor, int64_t count)
{
    double *out = malloc(((size_t)count + 1) * sizeof *out);
    assert_non_null(out);
    if (b->element == sizeof(double)) {
        assert_ok(tt_tensor_read(b->context, out, tensor, (size_t)count * sizeof *out));
        return out;
    }
    float *narrow = malloc(((size_t)count + 1) * sizeof *narrow);
    assert_non_null(narrow);
    assert_ok(tt_tensor_read(b->context, narrow, tensor, (size_t)count * sizeof *narrow));
    for (int64_t i = 0; i < count; i++) {
        out[i] = (double)narrow[i];
    }
    free(narrow);
    return out;
}

static inline void write_reals(bench *b, void *tensor, const double *values, int64_t count)
{
    if (b->element == sizeof(double)) {
        assert_ok(tt_tensor_write(b->context, tensor, values, (size_t)count * sizeof *values));
        return;
    }
    float *narrow = malloc(((size_t)count + 1) * sizeof *narrow);
    assert_non_null(narrow);
    for (int64_t i = 0; i < count; i++) {
        narrow[i] = (float)values[i];
    }
    assert_ok(tt_tensor_write(b->context, tensor, narrow, (size_t)count * sizeof *narrow));
    free(narrow);
}

static inline void *real_at(const bench *b, const void *vector, int64_t index)
{
    return (unsigned char *)vector + (size_t)index * b->element;
}

/* Parameters far from initialisation, so that every term of every gradient matters. */
static inline void fill_params(bench *b, uint64_t seed)
{
    double *values = calloc((size_t)b->count, sizeof *values);
    float *normals = malloc((size_t)b->count * sizeof *normals);
    assert_non_null(values);
    assert_non_null(normals);
    tt_random_normal_f32(seed, 9, normals, (size_t)b->count);
    for (size_t t = 0; t < tt_model_tensor_count(b->model); t++) {
        const tt_param_tensor *tensor = tt_model_tensor(b->model, t);
        bool is_gain =
            tensor->rank == 1 && strstr(tensor->name, "ln_") && strstr(tensor->name, "weight");
        for (int64_t i = 0; i < tensor->count; i++) {
            double draw = (double)normals[tensor->offset + i];
            values[tensor->offset + i] = (is_gain ? 1.0 : 0.0) + 0.3 * draw;
        }
    }
    write_reals(b, b->slots[0].params, values, b->count);
    free(values);
    free(normals);
}

/* A step's forward_train and, as in a run, with a finite loss its backward; returns the loss. */
static inline double gradients(bench *b)
{
    double loss = NAN;
    assert_ok(tt_model_begin_step(b->model));
    assert_ok(tt_model_forward_train(b->model, b->slots[0].params, b->tokens, b->targets, b->batch,
                                     b->time, 1.0, &loss));
    if (isfinite(loss)) {
        assert_ok(tt_model_backward(b->model, b->slots[0].params));
    }
    return loss;
}

/* The resident tensor of that name. */
static inline tt_resident resident_named(const bench *b, const char *name)
{
    tt_resident found;
    for (size_t i = 0; tt_model_resident(b->model, b->slots[0].params, i, &found); i++) {
        if (strcmp(found.name, name) == 0) {
            return found;
        }
    }
    fail_msg("no resident tensor %s", name);
    return found;
}

static const tt_model_dims small_dims = {
    .layers = 2, .heads = 3, .channels = 12, .context = 9, .vocab = 17};

#endif
