/* One training run; shared by the files of the loop. */
#ifndef TRIMTAB_TRAINING_INTERNAL_H
#define TRIMTAB_TRAINING_INTERNAL_H

#include "data.h"
#include "generate.h"
#include "model.h"
#include "moments.h"
#include "optim.h"
#include "slots.h"
#include "trimtab/training.h"

enum { TT_LOSS_TAIL = 50 };

/* The variants in force, by name: of all operations, and of each matrix product. */
enum { TT_VARIANT_NAME = 64 };
typedef struct tt_variant_choice {
    char all[TT_VARIANT_NAME];        /* "auto": the best that the machine has */
    char product[3][TT_VARIANT_NAME]; /* "preferred": as all */
} tt_variant_choice;

struct tt_training {
    const tt_params *params;
    const tt_log_sink *log;
    tt_training_observer observer;
    tt_clock clock;

    tt_training_plan plan;
    tt_optim_options optim;
    int64_t batch, accumulate;
    int64_t validate_every, validate_sequences;
    double tune_seconds;

    tt_context *context;
    tt_model *model;
    tt_dataset *data;
    tt_slot_memory memory;
    tt_compressor *compressor;
    tt_moments_policy moments; /* in force */
    tt_variant_choice variant; /* in force */
    tt_tuning tuning[2];       /* of this run's products in f32 and in bf16, where tuned */
    bool tuned[2];
    double activation_error;                                 /* of this step's passes, the worst */
    int moments_reconstruction, moments_update, activations; /* indices of error targets */
    int32_t *tokens, *targets;                               /* one microbatch */
    tt_orchestrator *orchestrator;
    tt_resume resume;

    /* The step in progress, live or replayed, with its configuration; NULL between steps. */
    const tt_step_plan *current;
    bool replaying;
    char first_bad[TT_TENSOR_NAME]; /* of a step that names it */
    /* Faults, set by tests and drills only; they also act in replays. `plant` sees every tensor of
     * a pass (act.*, grad.*) before the run does, `plant_state` the slots before each step,
     * `plant_update` the slot that was written, after its last tensor. `current` tells them the
     * step and the configuration. */
    tt_probe_fn plant;
    void (*plant_state)(void *user, tt_training *training, const tt_step_plan *plan);
    void (*plant_update)(void *user, tt_training *training, const tt_step_plan *plan);
    void *plant_user;

    double losses[TT_LOSS_TAIL]; /* ring of the last published losses */
    int64_t published;           /* by this process */
    double *rates;               /* tokens per second of each published step, a ring */
    double held_out_loss;
    tt_kv_store *sample_store; /* NULL: no sample is wanted */
    tt_text sample;
};

enum { TT_RATE_RING = 4096 };

/* plan.c */
tt_model_dims tt_dims_from_config(const tt_config *config);
/* Bytes of the context's tensor arena. */
size_t tt_training_tensor_bytes(const tt_config *config);

/* memory.c: what is resident */
/* Bytes of one slot's parameters and moments. `exceptions` (may be NULL) is the layout of a slot
 * that an update under the same codec has written: what it keeps in more bits counts so. */
int64_t tt_slot_resident_bytes(const tt_model_dims *dims, tt_codec codec, int64_t block,
                               const tt_slot_layout *exceptions);
/* The moments' codec and block in `config`; `auto` begins with f32. */
tt_moments_policy tt_moments_policy_from(const tt_config *config);
tt_codec tt_activation_codec_from(const tt_config *config);
/* What updates in place touch beside their slot: they go by way of the largest encoded tensor's
 * staging area. */
int64_t tt_staging_bytes(const tt_model_dims *dims, tt_codec codec);
/* For tt_host.memory_estimate. */
int64_t tt_training_memory(const tt_training *training, const tt_config *config, bool fork);

/* step.c */
tt_status tt_training_step(tt_training *training, tt_step_record *record);
/* A step that never advances the run; leaves no trace but in the model's activations and gradients,
 * and in replay->write_slot. */
tt_status tt_training_replay(tt_training *training, const tt_replay *replay, tt_measurements *out);
/* The forward and backward pass of that step over one sequence of its batch alone. */
tt_status tt_training_replay_sequence(tt_training *training, const tt_replay *replay, int64_t index,
                                      tt_measurements *out);
tt_status tt_training_validate(tt_training *training, double *loss);

/* steer/: optimizations */
extern const char *const tt_tile_keys[3];
tt_tile tt_tile_from(const tt_config *config);
/* kernels.compute; `auto` is f32 until it has been measured. */
tt_dtype tt_compute_from(const tt_config *config);
/* Says so where kernels.numerics rules out what this machine would be faster with. */
void tt_compute_tell_ruled_out(const tt_context *context, const tt_log_sink *log);
extern const char *const tt_product_keys[3];
tt_variant_choice tt_variant_from(const tt_config *config);
/* kernels.numerics: the weakest class of variants that a run accepts. */
tt_numerics tt_numerics_from(const tt_config *config);
/* TT_ECONFIG names a variant that is set and whose class is weaker. */
tt_status tt_variant_check(const tt_config *config);
tt_status tt_variant_use(tt_training *training, const tt_variant_choice *choice);
/* The same for operations alone; *key is the one whose value failed. */
tt_status tt_variant_apply(tt_context *context, const tt_variant_choice *choice, const char **key);
/* TT_EGATE: a matrix product of the run's shapes is wrong with the compute type, the tile and the
 * variants of `config`; `who` begins the message. Leaves the run's own as they were. */
tt_status tt_products_conform(tt_training *training, const tt_config *config, const char *who);
tt_optimization tt_compute_optimization(tt_training *training);
tt_optimization tt_tile_optimization(tt_training *training);
tt_optimization tt_variant_optimization(tt_training *training);
tt_optimization tt_moments_optimization(tt_training *training);
tt_optimization tt_activations_optimization(tt_training *training);
/* Adds all of them, in order of precedence, and their error targets. */
tt_status tt_training_add_optimizations(tt_training *training);

/* training.c */
tt_status tt_choose_attention(tt_context *context, const tt_model_dims *dims,
                              const tt_log_sink *log);
tt_status tt_context_from_config(const tt_config *config, size_t tensor_bytes, tt_context **out);

#endif
