/* The orchestrator's record; shared by its files only. */
#ifndef TRIMTAB_ORCHESTRATOR_INTERNAL_H
#define TRIMTAB_ORCHESTRATOR_INTERNAL_H

#include "adapt.h"
#include "culprit.h"
#include "gates.h"
#include "history.h"
#include "jsonl.h"
#include "ladder.h"
#include "overhead.h"
#include "slots.h"
#include "trial.h"
#include "trimtab/orchestrator.h"
#include "trimtab/statistics.h"

#include <jansson.h>
#include <stdatomic.h>

enum {
    TT_RECORD_RING = 1024,
    TT_EVENT_RING = 64,
    TT_MAX_OPTIMIZATIONS = 16,
    TT_OPTIMIZATION_KEYS = 8,
    TT_MAX_SKIPS = 4096,
    TT_PATH_BYTES = 4096,
    TT_MAX_ATTEMPTS = 1000000000,
    TT_METRICS_BYTES = 64 << 10,
};

/* The names of a run's checkpoints. */
#define TT_CHECKPOINT_FORM "step-##########.h5"

/* Steps and positions of files beyond this are refused: sums of them must not overflow. */
#define TT_MAX_STEP ((int64_t)1 << 53)

/* A batch that was left out: part of the run's history, so a resumed run leaves it out too. */
typedef struct tt_skip {
    int64_t step, from, to; /* data positions */
} tt_skip;

/* A checkpoint on its way to the disk. */
typedef struct tt_checkpoint_job {
    tt_store_writer *writer;
    int slot;
    int64_t step;
    char name[64];
    char digest[TT_SHA256_HEX];
    tt_orchestrator *orchestrator;
    unsigned char *staging;
    tt_status unpruned; /* the checkpoint is whole, but old ones could not be removed: why */
    char message[256];
    bool active;
} tt_checkpoint_job;

typedef struct tt_folder {
    char path[TT_PATH_BYTES];
    char checkpoints[TT_PATH_BYTES];
    int lock_fd;
} tt_folder;

/* A trial, a probe of a half-open breaker, or a measurement of the baseline, in progress. */
typedef enum tt_fork_kind {
    TT_FORK_NONE,
    TT_FORK_TRIAL,
    TT_FORK_PROBE,
    TT_FORK_BASELINE
} tt_fork_kind;

typedef struct tt_fork {
    tt_fork_kind kind;
    bool alternating;   /* no shadow: live steps take turns */
    int optimization;   /* index; -1 for the baseline */
    tt_config *config;  /* the candidate; owned */
    tt_decision commit; /* what a commit would decide */
    tt_trial trial;
    tt_gate_state gates; /* the fork's own memory */
    int64_t step;        /* that the next pair is of */
    bool shadow_done, live_done;
    double shadow_seconds, shadow_loss, live_seconds, live_loss;
} tt_fork;

/* What the configuration in force was made from. */
typedef struct tt_in_force {
    int version;      /* of the requested configuration */
    uint32_t off;     /* optimizations at their baselines, a bit each */
    int64_t switched; /* sequence of the switch that holds for this step; 0: none */
} tt_in_force;

struct tt_orchestrator {
    const tt_params *params;
    const tt_config *requested; /* what start settled and commits moved */
    tt_config *derived;         /* owned: `requested` once it differs from the job's */
    const tt_config *config;    /* in force: with what is off at its baseline */
    tt_config *overlaid;        /* owned: `config` where it differs from `requested` */
    tt_in_force in_force;
    tt_host host;
    const tt_log_sink *log;
    tt_clock clock;
    const tt_file_ops *files;
    int64_t batch_sequences;
    bool strict;
    bool resuming;
    bool started;
    char resume_path[TT_PATH_BYTES];
    const tt_store *resume_store; /* borrowed until the start is over */
    char *resume_changes;
    char run_id[40];
    char started_at[24];

    tt_folder folder;
    tt_jsonl journal, metrics;
    bool metrics_failed;                  /* warned once */
    char metrics_lines[TT_METRICS_BYTES]; /* not written yet */
    size_t metrics_length;
    uint64_t metrics_flushed_ns;
    uint64_t metrics_due, metrics_formatted; /* records that are complete; that have a line */

    tt_optimization optimizations[TT_MAX_OPTIMIZATIONS];
    size_t optimization_count;
    tt_breaker breakers[TT_MAX_OPTIMIZATIONS];
    tt_gate_targets targets;
    double target_peaks[TT_MAX_TARGETS]; /* largest error since adaptation last looked; -1: none */
    tt_history history;
    json_t *unread;       /* decisions of optimizations that are not there, in order */
    int64_t follow_until; /* steps before this were gone through before: the journal is followed */
    bool adaptable[TT_MAX_OPTIMIZATIONS][TT_OPTIMIZATION_KEYS]; /* the user left it to the run */
    tt_adapt_refusal refusals[TT_MAX_OPTIMIZATIONS];
    int turn[TT_MAX_OPTIMIZATIONS]; /* which key adaptation moves next */
    tt_adapt_input speedup;         /* all-off step time / current, as last trialled */
    int64_t speedup_step;
    int64_t adapt_every, adapted_step, overhead_step;
    int trial_pairs;
    double trial_budget;
    bool trials_stopped; /* they cost more than they gained */
    int64_t overhead_evaluations, overhead_trips;
    double earlier_orchestration_seconds, earlier_run_seconds; /* of earlier attempts */
    tt_fork fork;
    json_t *replayed; /* records of earlier attempts, until the start is over */
    tt_text trace;    /* of the last resolution that moved anything */
    json_t *notes;    /* facts for the reproducibility record */
    json_t *events;   /* the last TT_EVENT_RING trips and actions, for checkpoints */

    tt_slots slots;
    tt_gate_limits limits;
    tt_gate_counts gate_counts;
    tt_ladder ladder;
    int attempt;

    /* The step in flight. */
    bool in_step;
    tt_step_plan plan;
    bool taken_valid; /* the slot to be written meant something before */
    uint64_t begin_ns, policy_ns;
    double waited_seconds;  /* for a checkpoint, since begin_ns */
    uint64_t carried_ns;    /* policy time after the last record was made: the next one's */
    tt_step_kind next_kind; /* what the next plan is */
    bool name_next;
    tt_gate_decision last_trip;
    double tripped_loss, tripped_norm; /* of the attempt that is being looked into */
    int suspect;                       /* without run_step: the next one to leave out */
    bool row_resumed;                  /* suspects are left out in turn since an earlier process */
    char verdict[256];                 /* of the last search, for messages; "" */
    bool stopping;                     /* the ladder's end */
    bool dirty;                        /* one slot only, and it holds an update that was refused */
    tt_skip skips[TT_MAX_SKIPS];
    size_t skip_count;
    atomic_int stop_signal;

    tt_worker *worker;
    tt_checkpoint_job job;
    int64_t checkpoint_every;
    int checkpoint_keep;
    int64_t saved_step; /* the step whose state the newest complete checkpoint holds; -1: none */
    char latest[TT_PATH_BYTES];
    char parent_sha256[TT_SHA256_HEX];

    double held_out_loss; /* NaN: never reported */
    tt_step_record records[TT_RECORD_RING];
    uint64_t record_count;
    tt_run_totals totals;
};

/* runfolder.c */
/* `lock`: of this folder, if the caller has it already, else -1; taken over. */
tt_status tt_folder_open(tt_folder *folder, const char *path, bool resuming, int lock);
/* Locks an existing folder; *fd is -1 if there is none. */
tt_status tt_folder_lock(const char *path, int *fd);
bool tt_folder_holds_checkpoints(const char *checkpoints);
void tt_folder_close(tt_folder *folder);

/* events.c: the journal */
json_t *tt_json_text(const char *text); /* a string also of bytes that are no UTF-8 */
tt_status tt_journal_write(tt_orchestrator *o, json_t *record); /* steals `record`; synced */
/* Reads the journal of earlier attempts: numbers of attempts, and the name of the last run. */
tt_status tt_journal_replay(tt_orchestrator *o);
/* Takes in what it says of this run (o->run_id is final): batches left out, decisions. */
tt_status tt_journal_take(tt_orchestrator *o);
/* The values that the journal says an optimization chose; NULL if it did not. Borrowed. */
tt_status tt_journal_find_choice(tt_orchestrator *o, const char *optimization, json_t **out);

/* metrics.c: the stream */
/* The last record is complete. */
void tt_metrics_write_step(tt_orchestrator *o, uint64_t now_ns);
void tt_metrics_write_event(tt_orchestrator *o, json_t *event); /* steals `event` */
void tt_metrics_flush(tt_orchestrator *o);

/* state.c */
json_t *tt_state_to_json(const tt_orchestrator *o);
/* Adds it to what was left out, unless it is known or makes no sense. */
void tt_add_skip(tt_orchestrator *o, const tt_skip *skip);
tt_status tt_state_from_json(tt_orchestrator *o, const char *text, const char *where,
                             tt_slot *meaning);

/* reproducibility.c */
json_t *tt_reproducibility_record(const tt_orchestrator *o);

/* resolution.c: precedence and optimizations at start */
tt_status tt_orchestrator_settle(tt_orchestrator *o);
/* Resolves `config`, journals the trace; *out is a derived configuration or NULL if nothing moved.
 */
tt_status tt_orchestrator_resolve(tt_orchestrator *o, const tt_config *config, tt_config **out);

/* configure.c: the configuration in force */
/* A value as a user would write it. */
void tt_configured_text(const tt_config *config, const char *key, char out[32]);
bool tt_optimization_is_on(const tt_optimization *optimization, const tt_config *config);
/* A bit for each optimization that is on. */
uint32_t tt_configured_on(const tt_orchestrator *o, const tt_config *config);
/* `config` with the keys of `off` at their baselines; *out is NULL if they are there already. */
tt_status tt_configure_off(const tt_orchestrator *o, const tt_config *config, uint32_t off,
                           tt_config **out);
/* Derives one value after the other; *out as above. */
tt_status tt_configure_changes(const tt_config *config, const tt_change *changes, int count,
                               const char *origin, tt_config **out);
/* Brings the configuration in force up to date with the requested one, the breakers and what is
 * switched at `step`, and applies it if it is another than before, or if `anyway`. */
tt_status tt_configure(tt_orchestrator *o, int64_t step, bool anyway);
/* Has every optimization apply `config`. */
tt_status tt_apply(tt_orchestrator *o, const tt_config *config);
/* Which error targets are armed under `config`. */
void tt_arm_targets(const tt_orchestrator *o, const tt_config *config, tt_gate_targets *targets);
/* The optimizations that their breakers keep off, a bit each. */
uint32_t tt_breakers_off(const tt_orchestrator *o, const tt_breaker *breakers);
uint32_t tt_breakers_open(const tt_orchestrator *o);
/* resolved.yaml */
tt_status tt_write_resolved(tt_orchestrator *o);

/* follow.c: decisions; and what follows from those that are applied (breakers, refusals, turns, the
 * speed-up, whether trials have stopped) */
/* Journals, and remembers. `extra` (stolen, may be NULL) goes into the journal's line too. */
tt_status tt_decide(tt_orchestrator *o, tt_decision *decision, json_t *extra);
tt_status tt_decide_breaker(tt_orchestrator *o, int optimization, tt_breaker_event event,
                            int64_t step, const char *why);
/* Takes back decisions of later steps, follows those of this one and before, and configures. */
tt_status tt_follow(tt_orchestrator *o, int64_t step);
/* Since it was made, the user may have set one of its values anew, or run a build without one. What
 * was proven together is then left alone together. (A suspect is left out whoever set its value.)
 */
bool tt_may_move(const tt_orchestrator *o, const tt_decision *decision);
/* What was in force at an older `step`, with the optimizations of `off` at their baselines; *out is
 * NULL if it is the requested configuration. */
tt_status tt_config_at(const tt_orchestrator *o, int64_t step, uint32_t off, tt_config **out);
/* Takes what a checkpoint or a journal says; those up to `applied_step` are in force already. */
tt_status tt_history_read(tt_orchestrator *o, const json_t *records, int64_t applied_step);
json_t *tt_history_to_json(const tt_orchestrator *o);
/* What commits in force have made of a key; NULL if none moved it. */
const char *tt_decided_value(const tt_orchestrator *o, const char *key);

/* questions.c */
/* The overhead gate's limits, nothing counted. */
tt_gate_info tt_overhead_gate(void);

/* replay.c */
/* One replayed step; the optimizations go back to the configuration in force afterwards. */
tt_status tt_replay_step(tt_orchestrator *o, const tt_replay *replay, tt_measurements *measured,
                         double *seconds);
/* The data position of `step`'s batch from what the state before it says: a batch that was left
 * out before is left out again. */
int64_t tt_planned_position(const tt_orchestrator *o, int64_t step, int64_t position);

/* Where a state is. */
typedef struct tt_state_place {
    int slot; /* -1: in a checkpoint */
    int64_t step;
} tt_state_place;

/* search.c: the culprit. `search` has the verdict; `clean` the state from which on the run is clean
 * without it. */
tt_status tt_search_culprit(tt_orchestrator *o, const tt_measurements *measured,
                            const tt_gate_decision *tripped, tt_search *search,
                            tt_state_place *clean);

/* recover.c */
tt_status tt_recover(tt_orchestrator *o, const tt_measurements *measured,
                     tt_gate_decision *decision);

/* An earlier attempt ended after it had left a suspect out, and before it knew what came of it: the
 * next attempt finds out. */
bool tt_resume_suspicion(tt_orchestrator *o);

/* steer.c: step boundaries; probes of breakers */
tt_status tt_steer_begin(tt_orchestrator *o);
tt_status tt_steer_published(tt_orchestrator *o, const tt_step_record *record,
                             const tt_measurements *measured);
/* The live run tripped: what was on trial ends. */
tt_status tt_steer_tripped(tt_orchestrator *o);

/* trials.c: a fork of the run, or live steps that take turns */
/* Begins with o->fork.commit as it is; takes `candidate` over. TT_EGATE,
 * TT_ENOMEM: it does not conform, it does not fit. `optimization` -1: all are off. */
tt_status tt_fork_begin(tt_orchestrator *o, tt_fork_kind kind, int optimization,
                        tt_config *candidate, tt_aim aim, int pairs);
/* A shadow step on the batch at `position`; sets fork->shadow_*, and what the gates say. */
tt_status tt_fork_shadow(tt_orchestrator *o, int64_t position, tt_gate_decision *decision);
/* Before a live step: the shadow's turn, or the candidate's. */
tt_status tt_trial_begin_step(tt_orchestrator *o);
/* After it. */
tt_status tt_trial_end_step(tt_orchestrator *o, const tt_step_record *record);
/* Ends it with what it has found by now: a commit, or a record of what stood against it. `why` may
 * be NULL. */
tt_status tt_trial_conclude(tt_orchestrator *o, tt_trial_outcome outcome, const char *why);
void tt_fork_clear(tt_orchestrator *o);

/* adaptation.c: proposals, and whether all this pays */
/* Seconds of a live step, the median of the last 32; 0 before there was one. */
double tt_step_seconds(const tt_orchestrator *o);
/* A clock can jump ahead. More than a minute, and a thousand times what steps take, is taken for
 * that and counts as a step: it is not to weigh in totals, nor to make orchestration look dear. */
double tt_believable_seconds(const tt_orchestrator *o, double seconds);
bool tt_affordable(const tt_orchestrator *o, double seconds);
/* The overhead gate: if it trips, no more trials, and commits that gain nothing are taken back. */
tt_status tt_check_overhead(tt_orchestrator *o);
/* Looks at what was measured; may begin a trial. */
tt_status tt_adapt(tt_orchestrator *o);
/* The same over steps that were gone through before: nothing is proposed. */
tt_status tt_pass_by(tt_orchestrator *o);
/* Keeps the largest errors of the configuration in force. */
void tt_note_errors(tt_orchestrator *o, const tt_measurements *measured);
void tt_forget_errors(tt_orchestrator *o);

/* checkpoint.c */
tt_status tt_checkpoint_save(tt_orchestrator *o, bool background);
tt_status tt_checkpoint_collect(tt_orchestrator *o, bool wait);
/* The step in a checkpoint's file name; -1 if it is no such name. */
int64_t tt_checkpoint_step_of(const char *name);
/* The newest checkpoint file whose step is at most `bound`; false if there is none. */
bool tt_checkpoint_at_most(const tt_orchestrator *o, int64_t bound, char path[TT_PATH_BYTES],
                           int64_t *step);
/* Moves checkpoints of later steps than `step` out of the way: they are damaged, or of a future
 * that this run does not continue. `*found`: there were some. */
tt_status tt_checkpoint_set_aside(const tt_orchestrator *o, int64_t step, bool *found);
/* Fills `slot` from the file (`store`: if it is open already, else NULL). The slot's old meaning is
 * lost once a tensor has been written; with one slot the run is then dirty until a load succeeds.
 */
tt_status tt_checkpoint_load(tt_orchestrator *o, const char *path, const tt_store *store, int slot,
                             tt_slot *meaning);
/* Only reads it into `slot`: what the run means by its slots stays as it is. */
tt_status tt_checkpoint_peek(tt_orchestrator *o, const char *path, int slot, tt_slot *meaning);

#endif
