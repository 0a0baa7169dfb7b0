/* Sampling from next-token logits. */
#ifndef TRIMTAB_TRAINING_GENERATE_H
#define TRIMTAB_TRAINING_GENERATE_H

#include "model.h"

/* One token: temperature 0 is greedy (ties: lowest index); top_k 0 is all; of equal logits at the
 * border of top_k the lowest indices stay. `uniform` in [0,1) picks by the cumulative probability
 * in index order. NaN is never picked while there is a number. scratch [vocab]. */
int32_t tt_sample_token(const float *logits, int64_t vocab, double temperature, int64_t top_k,
                        double uniform, float *scratch_probabilities);

typedef struct tt_generation_options {
    double temperature;
    int64_t top_k;
    uint64_t seed;
    int64_t max_tokens; /* new tokens */
} tt_generation_options;

/* Calls `emit` for each new token; stops early if it returns false. `store` is emptied first; it
 * is the caller's because tensor memory is given back only with its context. A prompt (at least one
 * token) longer than the context, or the store, keeps its last tokens; when the store is full the
 * last half is decoded again from position 0. A pure function of parameters, prompt and options.
 * Where that pays, weights are packed first (tt_model_pack_for_decoding says at what expense). */
tt_status tt_generate(tt_model *model, const void *params, tt_kv_store *store,
                      const int32_t *prompt, int64_t prompt_tokens,
                      const tt_generation_options *options, bool (*emit)(void *user, int32_t token),
                      void *user);

#endif
