/* One training run; shared by the files of the loop. */
#ifndef TRIMTAB_TRAINING_INTERNAL_H
#define TRIMTAB_TRAINING_INTERNAL_H

#include "data.h"
#include "generate.h"
#include "model.h"
#include "optim.h"
#include "trimtab/training.h"

enum { TT_LOSS_TAIL = 50 };

/* The slots' bytes, as the orchestrator's host. */
typedef struct tt_slot_memory {
    tt_context *context;
    const tt_model *model;
    tt_slot_tensors slots[TT_MAX_SLOTS];
    int count;
    int64_t elements;  /* of one flat vector */
    int failed_update; /* slot that the last attempt wrote, or -1: for scans */
} tt_slot_memory;

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
    int32_t *tokens, *targets; /* one microbatch */
    tt_orchestrator *orchestrator;
    tt_resume resume;

    /* A replay that names the first bad tensor. */
    char first_bad[TT_TENSOR_NAME];
    /* Set by tests only: sees every tensor before the run does, and the slots before each step. */
    tt_probe_fn plant;
    void (*plant_state)(void *user, tt_training *training, const tt_step_plan *plan);
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

/* host.c */
tt_status tt_slot_memory_create(tt_context *context, const tt_model *model, int count,
                                tt_slot_memory *out);
size_t tt_slot_memory_bytes(const tt_model_dims *dims, int count);
tt_host tt_slot_memory_host(tt_slot_memory *memory);
/* First tensor with a NaN or an infinity, over all that is resident. */
tt_status tt_slot_memory_locate(void *user, int read_slot, int write_slot,
                                char name[TT_TENSOR_NAME]);

/* step.c */
tt_status tt_training_step(tt_training *training, tt_step_record *record);
tt_status tt_training_validate(tt_training *training, double *loss);

/* steer/tile.c */
extern const char *const tt_tile_keys[3];
tt_optimization tt_tile_optimization(tt_training *training);

/* training.c */
tt_status tt_choose_attention(tt_context *context, const tt_model_dims *dims,
                              const tt_log_sink *log);
tt_status tt_context_from_config(const tt_config *config, size_t tensor_bytes, tt_context **out);

#endif
