/* trimtab/training.h: the trainer, as a job under the orchestrator.
 *
 *   1. parameters
 *   2. what a run will take: the plan
 *   3. running
 *   4. generating text from a checkpoint
 *   5. drills: faults on purpose
 *   6. calibrating the gates
 *   7. the first bad step of a run
 *   8. tuning
 */
#ifndef TRIMTAB_TRAINING_H
#define TRIMTAB_TRAINING_H

#include "base.h"
#include "config.h"
#include "kernels.h"
#include "orchestrator.h"
#include "statistics.h"
#include "store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. parameters ------------------------------------------------------------------------ */

/* Registers model.*, data.*, train.*, optim.*, kernels.*, sample.*, run.*, the presets, and the
 * orchestrator's own parameters: everything that a configuration of `trimtab run` may hold. */
TT_API tt_status tt_training_register(tt_params *params);

/* ---- 2. the plan -------------------------------------------------------------------------- */

/* What the configuration amounts to; computed without touching data or memory. */
typedef struct tt_training_plan {
    size_t size;
    int64_t layers, heads, channels, context, vocab;
    int64_t kv_heads, mlp_width;
    int64_t parameters; /* scalars of the model */
    int64_t steps;
    int64_t tokens_per_step; /* batch x accumulation x context */
    int threads;
    int slots;
    int64_t state_bytes;      /* all slots: parameters and two moments */
    int64_t model_bytes;      /* gradients, activations, workspaces */
    int64_t checkpoint_bytes; /* one file, about */
    double flops_per_step;    /* multiply-adds counted as two, forward and backward */
} tt_training_plan;

TT_API tt_status tt_training_make_plan(const tt_config *config, tt_training_plan *out);

/* Bytes that slots, model and activations take together with this configuration, or INT64_MAX where
 * it makes no model: what the resolver holds against run.memory_budget. */
TT_API int64_t tt_training_memory_estimate(const tt_config *config);

/* ---- 3. running --------------------------------------------------------------------------- */

/* What was found of the data. */
typedef struct tt_training_data {
    const char *path;
    int64_t train_tokens, held_out_tokens, train_files, held_out_files;
    const char *sha256;
    bool bytes; /* one token is one byte of text */
} tt_training_data;

typedef struct tt_training_summary {
    size_t size;
    int64_t steps, tokens;             /* of this attempt */
    double seconds, tokens_per_second; /* wall time in steps; median rate over steps */
    double train_loss;                 /* mean of the last steps (up to 50) */
    double held_out_loss;              /* nats per token; NaN if never validated */
    bool bytes;                        /* the three below are known */
    double bits_per_byte;              /* held out */
    double order1_bits_per_byte, order2_bits_per_byte; /* byte models on the same targets */
    const char *sample; /* generated text, NUL-terminated; "" if none */
    size_t sample_bytes;
    int64_t peak_rss_bytes;
    tt_run_totals totals;
    const char *checkpoint; /* the newest */
    const char *run_directory;
} tt_training_summary;

/* Called on the running thread; any may be NULL. Strings live for the call only. */
typedef struct tt_training_observer {
    size_t size;
    void *user;
    void (*on_start)(void *user, const tt_training_plan *plan, const tt_training_data *data,
                     int64_t first_step);
    /* After every attempted step. */
    void (*on_step)(void *user, const tt_step_record *record, const tt_training_plan *plan);
    void (*on_held_out)(void *user, int64_t step, double loss, double bits_per_byte);
    void (*on_finish)(void *user, const tt_training_summary *summary, tt_status outcome);
} tt_training_observer;

typedef struct tt_training_options {
    size_t size;
    const tt_params *params;
    tt_config *config; /* loaded; a resume changes it */
    const char *run_directory;
    const char *resume; /* NULL: a new run; "auto"; or a checkpoint's path */
    bool strict;
    const tt_log_sink *log;
    const tt_training_observer *observer;
    const tt_file_ops *files; /* NULL: POSIX */
    const tt_clock *clock;    /* NULL: monotonic */
} tt_training_options;

typedef struct tt_training tt_training;

TT_API void tt_training_options_init(tt_training_options *options);
/* Reads data, builds model and slots, resumes. Nothing is trained yet. */
TT_API tt_status tt_training_create(const tt_training_options *options, tt_training **out);
TT_API void tt_training_destroy(tt_training *training);
/* Trains to train.steps. TT_OK; TT_EREQUEUE after a stop request (saved); TT_EGATE; or what went
 * wrong. Always leaves receipt.json. */
TT_API tt_status tt_training_run(tt_training *training);
/* Async-signal-safe. */
TT_API void tt_training_request_stop(tt_training *training, int signal_number);

/* ---- 4. generating text ------------------------------------------------------------------- */

typedef struct tt_generate_options {
    size_t size;
    const tt_store *store; /* the checkpoint, opened by tt_store_open */
    const char *name;      /* its path, for messages */
    const char *prompt;    /* bytes; "" means a line break */
    size_t prompt_bytes;
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: all */
    uint64_t seed;
    int64_t max_tokens;
    int threads; /* 0: all */
    /* Receives each new token (for byte models: one byte). Return false to stop. */
    bool (*emit)(void *user, int32_t token);
    void *user;
} tt_generate_options;

TT_API void tt_generate_options_init(tt_generate_options *options);
TT_API tt_status tt_generate_from_checkpoint(const tt_generate_options *options);

/* ---- 5. drills ---------------------------------------------------------------------------- */

/* A drill harms runs on purpose, on this machine and with this configuration, and judges what
 * became of them: was it noticed, was the right thing blamed, is everything still there? Each run
 * is a process of its own in a scratch folder; nothing of the user's is written. */
typedef struct tt_drill_scenario {
    const char *name; /* "nan-tensor" */
    const char *what; /* one line */
} tt_drill_scenario;

/* NULL beyond the last. */
TT_API const tt_drill_scenario *tt_drill_list(size_t index);

typedef struct tt_drill_result {
    const char *scenario;
    bool lost;             /* something was: a fault not noticed, bits, a checkpoint, the run */
    const char *detected;  /* by which gates or failures; "" if there was nothing to notice */
    const char *culprit;   /* "activations", "transient", "batch"; "" */
    const char *recovered; /* "bit-equal", "loss +0.12 %" */
    const char *why;       /* what was lost; "" */
    double seconds;
} tt_drill_result;

typedef struct tt_drill_options {
    size_t size;
    const tt_params *params; /* of tt_training_register */
    const tt_config *config; /* loaded; NULL: a small built-in model */
    int64_t steps;           /* of each run; 0: what its scenario needs */
    const char *keep;        /* a folder for the runs, which must be new or empty, and stays; NULL:
                                one below TMPDIR, removed in the end */
    const char *const *scenarios; /* names; none: all */
    size_t scenario_count;
    void *user;
    /* Once, after the first run without a fault: about how long all of it will take. */
    void (*on_estimate)(void *user, double seconds);
    /* A scenario begins. */
    void (*on_scenario)(void *user, const char *name, size_t index, size_t count);
    /* Strings live for the call only. */
    void (*on_result)(void *user, const tt_drill_result *result);
    /* Asked every few milliseconds; true ends the drill (TT_EREQUEUE), and removes the folder. */
    bool (*stop)(void *user);
} tt_drill_options;

TT_API void tt_drill_options_init(tt_drill_options *options);
/* The process must not have computed anything yet: it forks, and threads do not survive that.
 * TT_EGATE: something was lost (the message says in which scenarios). TT_EUSAGE: no such
 * scenario. */
TT_API tt_status tt_drill_run(const tt_drill_options *options);

/* ---- 6. calibrating the gates ------------------------------------------------------------- */

enum { TT_CALIBRATION_GATES = 16 };

/* A fault of one size: made `trials` times, each on another batch, in a fork of the run. */
typedef struct tt_calibration_row {
    const char *fault; /* "loss", "gradient up", ... rows of one fault follow each other */
    const char *what;  /* how it is made: "act.ln_f scaled, in one batch" */
    char size[48];     /* "x1.4", "5 %", "NaN in a gradient" */
    double magnitude;  /* the same as a number */
    double observed;   /* what it made of loss or norm, as a multiple (median); NaN: of neither */
    int64_t trials;
    int64_t seen;                          /* in how many of them some gate tripped */
    int64_t seen_by[TT_CALIBRATION_GATES]; /* the same by gate, numbered as in tt_gate_list */
    tt_interval power;                     /* of seen / trials, 95 % (Clopper-Pearson) */
    char missed[TT_TENSOR_NAME];           /* where it was not seen, the last such tensor; "" */
    double steps_until; /* drift: steps from its start until it was seen, on average; else NaN */
} tt_calibration_row;

typedef struct tt_calibration_gate {
    const char *name;
    bool armed;
    double minimum, maximum;    /* in force at the end */
    int64_t evaluations, trips; /* on clean steps, live and shadow */
    tt_interval false_rate;     /* 95 % */
} tt_calibration_gate;

typedef struct tt_calibration {
    size_t size;
    int64_t first_step, live_steps, shadow_steps; /* clean ones */
    int64_t rounds;                               /* each makes every fault once */
    int64_t resampled_steps,
        resampled_trips; /* of series without a rise, for comparison with drift */
    const tt_calibration_row *rows;
    size_t row_count;
    tt_calibration_gate gates[TT_CALIBRATION_GATES]; /* the step gates of tt_gate_list */
    size_t gate_count;
    const char *const *findings; /* plain sentences */
    size_t finding_count;
    bool complete; /* false: the time was up before all rounds were made */
    double seconds;
} tt_calibration;

typedef struct tt_calibrate_options {
    size_t size;
    const tt_params *params; /* of tt_training_register */
    tt_config *config;       /* loaded; is changed: what would cost disk and time is turned off */
    const char *resume;      /* begin at this checkpoint; NULL: train from the start */
    int64_t steps;           /* live ones; 0: until every gate that can be is armed, 256 at least */
    int64_t rounds;          /* trials of each fault; 0: 50 */
    double seconds;          /* stop after about so many; 0: no limit */
    const tt_log_sink *log;  /* may be NULL */
    void *user;
    /* Both may be NULL. What is being done ("training", "faults"), how far. */
    void (*on_progress)(void *user, const char *phase, int64_t done, int64_t of);
    /* Asked at every step; true: TT_EREQUEUE, and no trace is left. */
    bool (*stop)(void *user);
} tt_calibrate_options;

TT_API void tt_calibrate_options_init(tt_calibrate_options *options);
/* Trains in a scratch folder below TMPDIR, which is removed, and measures what the gates see of
 * faults and how often they trip without one. TT_EGATE: they stopped the clean run. */
TT_API tt_status tt_calibrate(const tt_calibrate_options *options, tt_calibration **out);
TT_API void tt_calibration_destroy(tt_calibration *calibration);

/* ---- 7. the first bad step of a run ------------------------------------------------------- */

typedef struct tt_bisect_options {
    size_t size;
    const tt_params *params;   /* of tt_training_register */
    const char *run_directory; /* of the run; only read */
    const char *data_path;     /* where its data are now; NULL: where they were */
    double loss_limit;         /* a step with a larger loss is bad as well; 0: none */
    double held_out_rise;      /* so is one that raises the held-out loss by more than this share
                                  above the lowest of the checkpoints; 0: never */
    const tt_log_sink *log;    /* may be NULL */
    void *user;
    /* All may be NULL. Each time a checkpoint was loaded, before anything is done with it. */
    void (*on_training)(void *user, tt_training *training);
    /* What is being done ("checkpoints", "steps", "sequences"), how far. */
    void (*on_progress)(void *user, const char *phase, int64_t done, int64_t of);
    bool (*stop)(void *user); /* asked at every step; true: TT_EREQUEUE */
} tt_bisect_options;

typedef struct tt_bisection {
    size_t size;
    int64_t checkpoints;           /* that could be used */
    int64_t first_step, last_step; /* of these */
    const char *const *notes;      /* checkpoints that were passed over, and why; trips that
                                      the run met, and did not meet again */
    size_t note_count;
    bool found;
    int64_t from_step; /* of the checkpoint from which steps were replayed */
    int64_t to_step;   /* replayed up to here (exclusive) */
    /* Where `found`: */
    int64_t bad_step, position;  /* and the data position of its batch */
    bool nothing_good;           /* the oldest checkpoint that is there is bad already */
    char gate[32];               /* that tripped, or "held_out" */
    char says[256];              /* "loss 10.5 is above its limit 10" */
    char tensor[TT_TENSOR_NAME]; /* the first that was not finite; "" */
    int64_t sequences;           /* of the batch */
    int64_t sample;              /* data position of the one that stands out; -1: none does */
    int64_t samples_nonfinite;   /* sequences that by themselves make NaN or infinity */
    double sample_loss, sample_norm, median_loss, median_norm;
    const char *file;    /* where it is from; "" */
    int64_t offset;      /* of its first byte in the file */
    const char *excerpt; /* of text, not NUL-terminated; NULL for tokens */
    size_t excerpt_bytes;
    char verdict[32]; /* of the search for the culprit; "" if none was made */
    char verdict_says[256];
    const char *advice;
    double seconds;
} tt_bisection;

TT_API void tt_bisect_options_init(tt_bisect_options *options);
/* Finds the first step of a run that is bad, from its checkpoints, in scratch folders below TMPDIR
 * that are removed: goes over the checkpoints from the oldest to the newest and looks at the step
 * that follows each; then replays, with the run's configuration, data and decisions, from the last
 * that is good until a gate trips, and lets the ladder look for the culprit. That nothing bad is
 * found is TT_OK. TT_ENOTFOUND: there is no checkpoint; TT_ECORRUPT: none that can be used. */
TT_API tt_status tt_bisect(const tt_bisect_options *options, tt_bisection **out);
TT_API void tt_bisection_destroy(tt_bisection *bisection);

/* ---- 8. tuning ---------------------------------------------------------------------------- */

/* The tuner on the products of a configuration, as at the start of its run. */
typedef struct tt_tuner tt_tuner;

typedef struct tt_tuner_options {
    size_t size;
    const tt_config *config; /* loaded; borrowed */
    double seconds;          /* the budget; negative: kernels.tune_seconds */
    bool show_all;           /* also measure variants whose class kernels.numerics rules out */
    const tt_log_sink *log;  /* may be NULL */
} tt_tuner_options;

TT_API void tt_tuner_options_init(tt_tuner_options *options);
TT_API tt_status tt_tuner_create(const tt_tuner_options *options, tt_tuner **out);
TT_API void tt_tuner_destroy(tt_tuner *tuner);
/* Threads and compute type are the configuration's. */
TT_API tt_context *tt_tuner_context(tt_tuner *tuner);
/* What is asked: for tt_tune, tt_tune_compute and tt_tune_cache_*. `fresh` may be set, and `cache`
 * be NULL. */
TT_API tt_tune_options *tt_tuner_question_of(tt_tuner *tuner);
/* What tt_tune_compute found, added to *out as one JSON object: {"chosen", "f32" and "bf16":
 * {"seconds_per_step": null unless timed, "error_share", "tile", "variants", "numerics"}, "ratio":
 * of bf16's time to f32's, "conforms", "isa", "complete", "from_cache", "seconds"}. */
TT_API tt_status tt_compute_evidence(const tt_tuning tunings[2], const tt_tuning *comparison,
                                     tt_text *out);
/* Seconds that a step's products take on a side of it (0: f32, 1: bf16); INFINITY unless timed. */
TT_API double tt_compute_seconds(const tt_tuning *comparison, int side);
/* The strongest instruction set among the variants that bf16 was compared with. */
TT_API tt_isa tt_compute_isa(const tt_tuning tunings[2]);
/* The weakest class of numerics among the chosen variants of a tuning for `compute`. */
TT_API tt_numerics tt_tuning_numerics(const tt_tuning *tuning, tt_dtype compute);

#ifdef __cplusplus
}
#endif
#endif
