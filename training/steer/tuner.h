/* training/steer/tuner.h: what a run asks the tuner. */
#ifndef TT_TRAINING_STEER_TUNER_H
#define TT_TRAINING_STEER_TUNER_H

#include "../internal.h"

enum { TT_TUNER_SHAPES = 64, TT_TUNER_TILES = 16 };

/* Points into itself: it is not copied. */
typedef struct tt_tuner_question {
    tt_gemm_shape shapes[TT_TUNER_SHAPES];
    tt_tile tiles[TT_TUNER_TILES];
    tt_text cache;
    tt_tune_options options;
} tt_tuner_question;

/* A run's products, each at most as long as is of use; returns how many. */
size_t tt_tuner_shapes(const tt_model_dims *dims, int64_t batch, int64_t time, int threads,
                       tt_gemm_shape *out);
/* What `config` leaves to the tuner. */
tt_status tt_tuner_ask(const tt_config *config, const tt_model_dims *dims, int64_t batch,
                       int64_t time, const tt_context *context, tt_tuner_question *out);
void tt_tuner_question_clear(tt_tuner_question *question);

/* The answer for this run in `config`'s compute type, which is found once; *out lives as long as
 * `training`. */
tt_status tt_tuner_answer(tt_training *training, const tt_config *config, const tt_tuning **out);
/* Both, and f32 against bf16; *comparison is the caller's to clear. */
tt_status tt_tuner_compare(tt_training *training, const tt_config *config, tt_tuning *comparison);
/* As a JSON object, for the journal; `compute`: what was tuned in. */
tt_status tt_tuner_evidence(const tt_tuning *tuning, tt_dtype compute, tt_text *out);
/* What the products now take as a share of what they took; NaN where that was not measured. */
double tt_tuner_gain(const tt_tuning *tuning);

#endif
