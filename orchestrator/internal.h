/* The orchestrator's record; shared by its files only. */
#ifndef TRIMTAB_ORCHESTRATOR_INTERNAL_H
#define TRIMTAB_ORCHESTRATOR_INTERNAL_H

#include "gates.h"
#include "jsonl.h"
#include "ladder.h"
#include "slots.h"
#include "trimtab/orchestrator.h"

#include <jansson.h>
#include <stdatomic.h>

enum {
    TT_RECORD_RING = 1024,
    TT_EVENT_RING = 64,
    TT_MAX_OPTIMIZATIONS = 16,
    TT_MAX_SKIPS = 4096,
    TT_PATH_BYTES = 4096,
    TT_MAX_ATTEMPTS = 1000000000,
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

struct tt_orchestrator {
    const tt_params *params;
    const tt_config *config; /* in force */
    tt_config *derived;      /* owned: `config` once it differs from the job's */
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
    bool metrics_failed; /* warned once */

    tt_optimization optimizations[TT_MAX_OPTIMIZATIONS];
    size_t optimization_count;
    json_t *notes;  /* facts for the reproducibility record */
    json_t *events; /* the last TT_EVENT_RING trips and actions, for checkpoints */

    tt_slots slots;
    tt_gate_limits limits;
    tt_gate_counts gate_counts;
    tt_ladder ladder;
    int attempt;

    /* The step in flight. */
    bool in_step;
    tt_step_plan plan;
    tt_slot taken; /* what the slot to be written meant before */
    uint64_t begin_ns, policy_ns;
    uint64_t carried_ns;    /* policy time after the last record was made: the next one's */
    tt_step_kind next_kind; /* what the next plan is */
    bool name_next;
    tt_gate_decision last_trip;
    bool stopping; /* the ladder's end */
    bool dirty;    /* one slot only, and it holds an update that was refused */
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

/* events.c: the journal and the metrics stream */
json_t *tt_json_text(const char *text); /* a string also of bytes that are no UTF-8 */
tt_status tt_journal_write(tt_orchestrator *o, json_t *record); /* steals `record`; synced */
void tt_metrics_write_step(tt_orchestrator *o, const tt_step_record *record);
void tt_metrics_write_event(tt_orchestrator *o, json_t *event); /* steals `event` */
/* Reads what the journal of earlier attempts says: attempts, skips, choices. */
tt_status tt_journal_replay(tt_orchestrator *o);
/* The values that the journal says an optimization chose; NULL if it did not. Borrowed. */
tt_status tt_journal_find_choice(tt_orchestrator *o, const char *optimization, json_t **out);

/* state.c */
json_t *tt_state_to_json(const tt_orchestrator *o);
bool tt_skip_is_sane(const tt_skip *skip);
tt_status tt_state_from_json(tt_orchestrator *o, const char *text, const char *where,
                             tt_slot *meaning);

/* reproducibility.c */
json_t *tt_reproducibility_record(const tt_orchestrator *o);

/* resolution.c: precedence and optimizations at start */
tt_status tt_orchestrator_resolve(tt_orchestrator *o);

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

#endif
