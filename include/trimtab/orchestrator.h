/* trimtab/orchestrator.h: steer a training job.
 *
 * A job keeps its own loop. The orchestrator tells it which slot to read and which to write, looks
 * at what the step measured, and decides whether the new state is published:
 *
 *     tt_orchestrator_create(&options, &orchestrator);
 *     tt_orchestrator_start(orchestrator);
 *     while (tt_orchestrator_step(orchestrator) < steps) {
 *         tt_step_plan plan;
 *         tt_step_begin(orchestrator, &plan);            // step, batch position, slots
 *         ... forward, backward ...
 *         tt_step_check(orchestrator, &measured, &go);   // loss and gradient gates
 *         if (go) ... update: read plan.read_slot, write plan.write_slot ...
 *         tt_step_end(orchestrator, &measured, &record); // publish, or climb the ladder
 *     }
 *     tt_orchestrator_finish(orchestrator, TT_OK);
 *
 * The previous slot is the snapshot: no copy is made, and "zero updates applied" means "not
 * published". When a gate trips, what follows climbs the ladder: the same step once more; a search
 * for the culprit, whose breaker opens; an older state; the next batch instead of this one, if that
 * was it; stop with a checkpoint.
 *
 *   1. what the job provides: the host
 *   2. what one speed-up provides: the optimization
 *   3. creating, starting, finishing
 *   4. the step
 *   5. gates
 *   6. optimizations as they stand
 *   7. files of a run
 *
 * docs/external-jobs.md is the same tour with a whole job, examples/external_job.c.
 *
 * Threads:
 *   - Orchestrators share nothing. Several may run in one process, each in a folder of its own, and
 *     the message of a failure belongs to the thread that saw it.
 *   - At any time between create and destroy any thread may call tt_orchestrator_request_stop (a
 *     signal handler too) and tt_orchestrator_stop_requested.
 *   - Everything else of one orchestrator is for one thread at a time, also what only asks (_step,
 *     _record, _totals, ...). Which thread it is may change from call to call, if the job
 *     synchronizes them.
 *   - A tt_params in which everything is registered, and a tt_config in which everything is set,
 *     are only read: threads and orchestrators may share them.
 *   - Callbacks run on the calling thread, inside these functions. The exceptions are `tensor_read`
 *     and the file operations: with two slots or more, the checkpoint thread calls them while
 *     steps go on. The slot that it reads is pinned meanwhile: neither written nor taken for
 *     anything else. So tensor_read may use nothing that a step changes (a staging buffer).
 *   - A callback may ask the tt_config that it is given, and request a stop. It calls nothing else
 *     of its orchestrator.
 */
#ifndef TRIMTAB_ORCHESTRATOR_H
#define TRIMTAB_ORCHESTRATOR_H

#include "base.h"
#include "config.h"
#include "store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tt_orchestrator tt_orchestrator;

#define TT_MAX_SLOTS   8
#define TT_TENSOR_NAME 128

/* ---- 1. the host -------------------------------------------------------------------------- */

/* One tensor of a slot: what a step changes (parameters, moments, residuals). */
typedef struct tt_tensor_info {
    char name[TT_TENSOR_NAME]; /* "params/wte.weight": a path below /tensors in checkpoints */
    tt_dtype dtype;
    int rank;
    int64_t dims[TT_STORE_MAX_RANK];
} tt_tensor_info;

/* A step that never advances the run: a replay in a search for a culprit, or one step of a trial's
 * fork. The optimizations have been applied as `config` says; the host goes through the step as it
 * would live, but calls none of tt_step_*. */
typedef struct tt_replay {
    size_t size;
    int64_t step, position; /* as in tt_step_plan */
    int read_slot;
    int write_slot; /* of the new state; may be read_slot; -1: no update at all, only what can be
                       measured before it */
    double learning_rate_scale; /* times the schedule's rate; 1 but in a search */
    bool name_tensors;          /* as in tt_step_plan */
    const tt_config *config;
} tt_replay;

struct tt_measurements;

/* The job's side. The host owns the bytes of its slots, the orchestrator owns which slot means
 * what. Slots 0..snapshot.slots-1 take part in the run; one more, `scratch_slot`, is where replays
 * and forks write. */
typedef struct tt_host {
    size_t size; /* sizeof(tt_host) */
    void *user;
    int slot_count; /* that the job has, the scratch slot not counted: snapshot.slots may be less */
    /* The tensors of one slot, in graph order. They may differ from slot to slot and from step to
     * step (a state that is kept in fewer bits), but not while the slot is published or pinned. */
    size_t (*tensor_count)(void *user, int slot);
    tt_status (*tensor_info)(void *user, int slot, size_t index, tt_tensor_info *out);
    /* Bytes of a slot's tensor, to and from ordinary memory. */
    tt_status (*tensor_read)(void *user, int slot, size_t index, int64_t offset, void *out,
                             size_t bytes);
    tt_status (*tensor_write)(void *user, int slot, size_t index, int64_t offset, const void *data,
                              size_t bytes);
    /* A checkpoint with these tensors (sorted by name) is about to be written into `slot`: lay it
     * out so, such that tensor_info then gives the same set, or refuse with TT_ECONFIG. NULL: a
     * slot's tensors are always the same. */
    tt_status (*slot_prepare)(void *user, int slot, const tt_tensor_info *tensors, size_t count);
    /* After a trip: the first tensor, in graph order, that holds a NaN or an infinity, over all
     * that is still resident of the failed attempt; "" if none. May be NULL: then the tensor is
     * named only if the job does it in tt_measurements.first_bad. */
    tt_status (*locate_nonfinite)(void *user, int read_slot, int write_slot,
                                  char name[TT_TENSOR_NAME]);
    /* NULL: no replays. Then trials are alternating live steps, and a culprit is at most suspected.
     * Needs scratch_slot and slot_copy. `out` is initialised. An error ends the run; harm is to be
     * measured, not reported. */
    tt_status (*run_step)(void *user, const tt_replay *replay, struct tt_measurements *out);
    int scratch_slot; /* -1 without run_step */
    tt_status (*slot_copy)(void *user, int from, int to);
    /* The scratch slot's memory is not needed for now. May be NULL. */
    void (*slot_release)(void *user, int slot);
    /* Bytes that the job takes under `config`; `fork`: while a trial runs. May be NULL: then no
     * memory rule applies. */
    int64_t (*memory_estimate)(void *user, const tt_config *config, bool fork);
} tt_host;

/* ---- 2. the optimization ------------------------------------------------------------------ */

/* Values that an optimization asks for, and what they rest on. */
typedef struct tt_proposal {
    struct {
        const char *key;
        char value[32];
    } changes[8];
    size_t change_count;
    tt_text
        evidence; /* a JSON object: what was measured; owned by the orchestrator after propose */
} tt_proposal;

/* What a trial must show of it. */
typedef enum tt_aim {
    TT_AIM_SPEED,  /* faster by 2 % or more, beyond doubt */
    TT_AIM_MEMORY, /* less memory; it may cost time, within bounds */
} tt_aim;

/* One speed-up that the orchestrator may turn on and off. It is off when all its keys have their
 * baseline values: the path that is trusted. */
typedef struct tt_optimization {
    size_t size;
    void *user;
    const char *name; /* "tile" */
    tt_tier tier;
    tt_aim aim;
    const char *const *keys; /* the parameters that it acts on, and no other optimization does */
    size_t key_count;
    const char *const *baseline; /* a value for each key, as a user would write it */
    bool acts_on_state;          /* harm that it does may be in the slots before a gate sees it */
    /* Asked at start when one of its keys is `auto`: measure, and say what to use. Not asked when
     * the journal or the checkpoint already knows: a decision that rests on timing is made once.
     * NULL: the baseline is what an `auto` begins with. */
    tt_status (*propose)(void *user, const tt_config *config, tt_proposal *out);
    /* Proves, before a trial, that it computes what the baseline computes under `config`.
     * TT_EGATE: it does not (the message says where); the proposal is refused. May be NULL. */
    tt_status (*conform)(void *user, const tt_config *config);
    /* Make the job use these values from the next step on, also where nothing changed. Values are
     * resolved and legal. State in slots stays as it is: the step that reads it converts. */
    tt_status (*apply)(void *user, const tt_config *config);
} tt_optimization;

/* What a codec loses, as a share: measured by the job, judged by the gates. The gate is armed while
 * its optimization is on. */
typedef enum tt_error_kind {
    TT_ERROR_RECONSTRUCTION, /* max over the target's tensors of ||x - x^|| / ||x|| */
    TT_ERROR_UPDATE,         /* ||u - u^|| / ||u|| of the parameter update */
} tt_error_kind;

typedef struct tt_error_target {
    size_t size;
    const char *name;         /* "activations"; borrowed */
    const char *optimization; /* name of the one that it watches; borrowed */
    tt_error_kind kind;
    bool after_update; /* known at tt_step_end only */
    int64_t cadence;   /* steps between two measurements, >= 1 */
} tt_error_target;

#define TT_MAX_TARGETS 8

/* ---- 3. creating, starting, finishing ----------------------------------------------------- */

/* Where a resumed run goes on from. */
typedef struct tt_resume {
    char path[4096]; /* the checkpoint; "" when there is none yet: then from the start */
    tt_store *store; /* the same, verified and open; NULL when there is none */
    int lock;        /* of the run folder, so that nobody goes on with it meanwhile; -1: none */
    tt_text changes; /* "key: old -> new (origin)\n" for every value that differs from its run's */
} tt_resume;

/* Before the job builds anything: locks the folder, finds the checkpoint (`how`: "auto" for the
 * newest in run_directory that verifies, or a path) and gives `config` the values that its run
 * used, but for those that environment or command line set. TT_ECONFIG names a key that may not
 * change. */
TT_API tt_status tt_resume_prepare(const char *run_directory, const char *how, tt_config *config,
                                   const tt_log_sink *log, tt_resume *out);
/* Makes it empty, as before tt_resume_prepare. */
TT_API void tt_resume_init(tt_resume *resume);
/* Closes the checkpoint, and gives up the lock if no orchestrator took it over. */
TT_API void tt_resume_clear(tt_resume *resume);

typedef struct tt_orchestrator_options {
    size_t size;               /* sizeof(tt_orchestrator_options) */
    const tt_params *params;   /* with tt_orchestrator_register's and the job's parameters */
    const tt_config *config;   /* version 1; copied where it changes, borrowed until finish */
    const tt_host *host;       /* copied */
    const char *run_directory; /* made if missing; locked while the orchestrator lives */
    tt_resume *resume;         /* NULL: a new run, and the folder must not hold one. Its lock passes
                                  to the orchestrator; its store is read by tt_orchestrator_start */
    bool strict;               /* a pinned value that the resolver must move is an error */
    int64_t batch_sequences;   /* data positions that one step consumes */
    int64_t warmup_steps;      /* of the learning rate: the gradient gate is wider meanwhile */
    double initial_loss;       /* what an untrained model scores (ln V); 0 if unknown */
    const tt_log_sink *log;    /* may be NULL */
    const tt_clock *clock;     /* NULL: monotonic */
    const tt_file_ops *files;  /* NULL: POSIX */
} tt_orchestrator_options;

TT_API void tt_orchestrator_options_init(tt_orchestrator_options *options);
/* Registers gates.*, snapshot.* and checkpoint.*. */
TT_API tt_status tt_orchestrator_register(tt_params *params);

/* Makes and locks the run folder. TT_EBUSY: another process owns it; TT_EUSAGE: it holds a run
 * and `resume` is not set; TT_ECONFIG: a limit that cannot hold. */
TT_API tt_status tt_orchestrator_create(const tt_orchestrator_options *options,
                                        tt_orchestrator **out);
/* Without tt_orchestrator_finish: nothing more is saved. NULL is fine. */
TT_API void tt_orchestrator_destroy(tt_orchestrator *orchestrator);
/* Before start. The struct is copied, its keys are borrowed. */
TT_API tt_status tt_orchestrator_add(tt_orchestrator *orchestrator,
                                     const tt_optimization *optimization);
/* Before start, after the optimization that it watches. *index: for tt_measurements_set_error. */
TT_API tt_status tt_orchestrator_add_target(tt_orchestrator *orchestrator,
                                            const tt_error_target *target, int *index);
/* A fact for the reproducibility record of checkpoints and receipt: `json` is any JSON value. */
TT_API tt_status tt_orchestrator_note(tt_orchestrator *orchestrator, const char *name,
                                      const char *json);
/* Resumes if asked (filling slot 0 by tensor_write, after comparing names, types and shapes;
 * otherwise slot 0 must already hold the initial state), resolves, asks and applies optimizations,
 * writes resolved.yaml, and for a new run a checkpoint of step 0, so that there is always a state
 * to go back to. */
TT_API tt_status tt_orchestrator_start(tt_orchestrator *orchestrator);
/* Saves the published state now (unless that step is already on disk) and waits for it. */
TT_API tt_status tt_orchestrator_checkpoint(tt_orchestrator *orchestrator);
/* Saves as above, writes receipt.json. `outcome` is how the job ended. Returns the first failure,
 * or `outcome`. */
TT_API tt_status tt_orchestrator_finish(tt_orchestrator *orchestrator, tt_status outcome);

/* Async-signal-safe and thread-safe: the next tt_step_begin saves and returns TT_EREQUEUE. */
TT_API void tt_orchestrator_request_stop(tt_orchestrator *orchestrator, int signal_number);

/* True once a stop was requested: long work outside of steps should end. */
TT_API bool tt_orchestrator_stop_requested(const tt_orchestrator *orchestrator);

/* A loss on held-out data of the published state: a line in metrics.jsonl, and in the receipt. */
TT_API void tt_orchestrator_report_held_out(tt_orchestrator *orchestrator, double loss);

/* Steps published so far. */
TT_API int64_t tt_orchestrator_step(const tt_orchestrator *orchestrator);
/* The slot that holds the published state. */
TT_API int tt_orchestrator_slot(const tt_orchestrator *orchestrator);
/* The configuration in force; borrowed until the next call that steps. */
TT_API const tt_config *tt_orchestrator_config(const tt_orchestrator *orchestrator);
TT_API const char *tt_orchestrator_run_id(const tt_orchestrator *orchestrator);
TT_API const char *tt_orchestrator_run_directory(const tt_orchestrator *orchestrator);
/* 1 for a fresh run, one more for each resume and rollback. */
TT_API int tt_orchestrator_attempt(const tt_orchestrator *orchestrator);
/* Path of the newest checkpoint that is complete; "" if none. */
TT_API const char *tt_orchestrator_latest_checkpoint(const tt_orchestrator *orchestrator);

/* ---- 4. the step -------------------------------------------------------------------------- */

typedef enum tt_step_kind {
    TT_STEP_NORMAL,
    TT_STEP_RETRY,    /* the same step, state and batch again */
    TT_STEP_SUSPECT,  /* the same again with one optimization off (only without run_step) */
    TT_STEP_SKIPPING, /* the same step and state, the next batch */
} tt_step_kind;

typedef struct tt_step_plan {
    int64_t step;              /* 0-based: the first step is 0 */
    int64_t position;          /* data position of its batch, in sequences */
    int read_slot, write_slot; /* equal when snapshot.slots is 1 */
    tt_step_kind kind;
    bool name_tensors; /* run with probes and report the first bad tensor in first_bad */
    const tt_config *config;
} tt_step_plan;

typedef enum tt_metric {
    TT_METRIC_LOSS,               /* mean cross-entropy, nats */
    TT_METRIC_GRADIENT_NORM,      /* global L2 norm before clipping */
    TT_METRIC_GRADIENT_NONFINITE, /* NaN and infinite elements of the gradients */
    TT_METRIC_UPDATE_NONFINITE,   /* the same of the slot that was written */
    TT_METRIC_UPDATE_NORM,        /* L2 norm of the parameter change; recorded, no gate */
    TT_METRIC_LEARNING_RATE,      /* recorded, no gate */
    TT_METRIC_COUNT
} tt_metric;

typedef struct tt_measurements {
    size_t size; /* sizeof(tt_measurements) */
    double values[TT_METRIC_COUNT];
    bool present[TT_METRIC_COUNT]; /* zero is a value: presence is explicit */
    double errors[TT_MAX_TARGETS]; /* by index of the target */
    bool error_present[TT_MAX_TARGETS];
    bool updated;   /* the write slot was written */
    int64_t tokens; /* of this step, for the rate */
    double forward_seconds, backward_seconds, update_seconds;
    char first_bad[TT_TENSOR_NAME]; /* with name_tensors: the first non-finite tensor, or "" */
} tt_measurements;

TT_API void tt_measurements_init(tt_measurements *measured);
TT_API void tt_measurements_set(tt_measurements *measured, tt_metric metric, double value);
TT_API void tt_measurements_set_error(tt_measurements *measured, int target, double value);

typedef enum tt_verdict_kind { TT_PASS, TT_WARN, TT_TRIP } tt_verdict_kind;
typedef enum tt_action {
    TT_ACTION_NONE, /* published */
    TT_ACTION_RETRY,
    TT_ACTION_SEARCH,   /* for the culprit; what it finds decides what follows */
    TT_ACTION_DISABLE,  /* the culprit's breaker is open; from the state that it had not harmed */
    TT_ACTION_ROLLBACK, /* an older state */
    TT_ACTION_SKIP,
    TT_ACTION_STOP,
} tt_action;
TT_API const char *tt_action_name(tt_action action);

/* What a gate said. */
typedef struct tt_gate_decision {
    tt_verdict_kind verdict;
    const char *gate;   /* "loss", "gradient_norm", ... (tt_gate_list); "" on pass */
    const char *target; /* of reconstruction and update_error: which; else "" */
    double observed;    /* NaN when missing */
    double limit;
    bool missing;                /* armed, and not measured */
    tt_action action;            /* what follows */
    char tensor[TT_TENSOR_NAME]; /* the first non-finite tensor, or "" */
} tt_gate_decision;

/* One line for a person: "loss 10.5 is above its limit 10". */
TT_API char *tt_gate_describe(const tt_gate_decision *decision, char out[256]);

typedef struct tt_step_record {
    int64_t step; /* the step that was attempted */
    int64_t position;
    int attempt;
    double loss, gradient_norm, update_norm, learning_rate;
    int64_t tokens;
    double seconds; /* begin to end */
    double forward_seconds, backward_seconds, update_seconds;
    double policy_seconds; /* spent inside the orchestrator, checkpoint waits excluded */
    bool published;
    tt_gate_decision decision;
} tt_step_record;

/* Fills the plan. TT_EREQUEUE after a stop request (saved), TT_EGATE at the end of the ladder
 * (saved; the message says which gate). A failed periodic checkpoint is a warning, not an error. */
TT_API tt_status tt_step_begin(tt_orchestrator *orchestrator, tt_step_plan *plan);
/* Looks at the gates that can be judged before the update. *proceed false: do not update. */
TT_API tt_status tt_step_check(tt_orchestrator *orchestrator, const tt_measurements *measured,
                               bool *proceed);
/* All gates; publishes or prepares what follows. `record` may be NULL. */
TT_API tt_status tt_step_end(tt_orchestrator *orchestrator, const tt_measurements *measured,
                             tt_step_record *record);
/* The record `back` attempts ago (0: the last); NULL beyond the ring of 1,024. */
TT_API const tt_step_record *tt_orchestrator_record(const tt_orchestrator *orchestrator,
                                                    size_t back);

/* ---- 5. gates ----------------------------------------------------------------------------- */

/* Refuses gates.* limits with which no step could pass, naming the key (TT_ECONFIG).
 * `initial_loss` as in tt_orchestrator_options; tt_orchestrator_create does the same. */
TT_API tt_status tt_gates_validate(const tt_config *config, double initial_loss);

/* Every gate that there is, whether armed or not: for `trimtab gate list` and the documentation. */
typedef struct tt_gate_description {
    const char *name;
    const char *watches;  /* "mean cross-entropy of the step" */
    const char *trips_on; /* "not finite, below gates.loss.min or above gates.loss.max" */
    const char *arming;   /* "always", "once 128 steps were accepted" */
    const char *keys;     /* "gates.loss.min, gates.loss.max" */
    bool hard;            /* judged before anything is published, on one step alone */
} tt_gate_description;
/* NULL beyond the last. */
TT_API const tt_gate_description *tt_gate_list(size_t index);

/* One gate as it stands. */
typedef struct tt_gate_info {
    const char *name;
    bool armed;
    double minimum, maximum; /* in force now */
    const char *reason;      /* why these limits: "set by gates.loss.max", "start-up", "default" */
    int64_t evaluations, trips;
} tt_gate_info;

/* The gate that tt_gate_list has at `index`, as `config` sets it: at the start of a run
 * (`starting`), or once the run is under way. Not armed, nothing counted. A gate without a name for
 * an index beyond the last. */
TT_API tt_gate_info tt_gate_configured(const tt_config *config, double initial_loss, bool starting,
                                       size_t index);

TT_API size_t tt_orchestrator_gate_count(const tt_orchestrator *orchestrator);
/* A gate without a name for an index beyond the count. */
TT_API tt_gate_info tt_orchestrator_gate(const tt_orchestrator *orchestrator, size_t index);

/* The gates apart from a run, with what they remember: for measurements that are no steps of it.
 * What they say is what a live step with these measurements would hear; the run takes no notice. */
typedef struct tt_gate_memory tt_gate_memory;
/* A copy of the published state's, with the limits and targets in force. */
TT_API tt_status tt_gate_memory_create(const tt_orchestrator *orchestrator, tt_gate_memory **out);
TT_API void tt_gate_memory_destroy(tt_gate_memory *memory);
/* Makes it the same as `from`. */
TT_API void tt_gate_memory_copy(tt_gate_memory *memory, const tt_gate_memory *from);
#define TT_ANY_GATE SIZE_MAX
/* What the gate that tt_gate_list has at `index` says of a step; TT_ANY_GATE: what they say
 * together. A pass for `overhead`, which judges no steps, and for a gate that is not armed. */
TT_API tt_gate_decision tt_gate_memory_judge(const tt_gate_memory *memory, size_t index,
                                             const tt_measurements *measured);
TT_API bool tt_gate_memory_armed(const tt_gate_memory *memory, size_t index);
/* Takes a step in, as if it had been published. */
TT_API void tt_gate_memory_accept(tt_gate_memory *memory, const tt_measurements *measured);

/* Totals of this process: a resumed run counts anew (the journal has the whole history). */
typedef struct tt_run_totals {
    int64_t published, trips, retries, rollbacks, skips, checkpoints, checkpoint_failures;
    int64_t warnings, searches, replayed_steps, breakers_opened, trials, commits;
    double policy_seconds, step_seconds;
    double search_seconds, trial_seconds; /* in replays and shadow steps */
} tt_run_totals;
TT_API tt_run_totals tt_orchestrator_totals(const tt_orchestrator *orchestrator);

/* ---- 6. optimizations as they stand ------------------------------------------------------- */

typedef enum tt_breaker_state {
    TT_BREAKER_CLOSED,
    TT_BREAKER_OPEN,
    TT_BREAKER_HALF_OPEN
} tt_breaker_state;

typedef struct tt_optimization_info {
    const char *name;
    tt_tier tier;
    bool on; /* a key differs from its baseline in the configuration in force */
    tt_breaker_state breaker;
    int64_t closed_at_the_earliest; /* step of the next probe, while open */
    int64_t trips;                  /* that it was convicted or suspected of */
    const char *trial;              /* "" or the running trial's kind: "trial", "probe" */
} tt_optimization_info;

TT_API size_t tt_orchestrator_optimization_count(const tt_orchestrator *orchestrator);
/* One without a name for an index beyond the count. */
TT_API tt_optimization_info tt_orchestrator_optimization(const tt_orchestrator *orchestrator,
                                                         size_t index);

/* ---- 7. files of a run --------------------------------------------------------------------
 *
 *   lock              held by the owner (its process id inside)
 *   metrics.jsonl     a line per attempted step and per event; lines of a lower attempt are
 *                     superseded from the step at which a higher attempt begins. Lines are gathered
 *                     and written together: when 256 steps wait, five seconds of the run's clock
 *                     have passed, or an event, a record of the journal or a checkpoint is written,
 *                     and at the end. Who is killed loses those that wait, and none that a
 *                     checkpoint on disk has behind it
 *   decisions.jsonl   the journal: appended and synced before a decision takes effect
 *   resolved.yaml     every parameter with its origin
 *   receipt.json      how the run ended
 *   checkpoints/      step-<10 digits>.h5, `latest`
 *
 * Inside a checkpoint: /tensors/<host's names>, /meta/config.yaml, /meta/state.json,
 * /meta/reproducibility.json, /meta/decisions.json. */

#ifdef __cplusplus
}
#endif
#endif
