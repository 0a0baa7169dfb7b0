/* A job that the orchestrator steers: a few small tensors in plain memory, and an arithmetic of
 * which the state after n steps is a pure function. No kernels, no model. */
#ifndef TT_TEST_ORCHESTRATOR_TOY_H
#define TT_TEST_ORCHESTRATOR_TOY_H

#include "unit.h"

#include "trimtab/orchestrator.h"

#include <jansson.h>
#include <stdatomic.h>

enum { TOY_BATCH = 4, TOY_MAX_FAULTS = 64, TOY_KNOBS = 8, TOY_MAX_HARMS = 8, TOY_TILES = 3 };

/* What a step changes. */
typedef struct toy_state {
    double a[6];
    float b[3][4];
    int64_t counter;
    int64_t poison; /* steps since harm was done to it that shows later; 0: none was */
} toy_state;

/* A fault in what a step measures. */
typedef struct toy_fault {
    int64_t step;     /* -1: any */
    int64_t position; /* -1: any */
    int times;        /* how often it strikes; -1: always */
    tt_metric metric;
    double value;
    bool missing; /* instead of `value` */
} toy_fault;

/* A fault in memory: bits flip. */
typedef struct toy_flip {
    int64_t step;
    bool of_written; /* in the slot just written, unseen by any gate; else in the one to be read */
    bool done;
} toy_flip;

/* Harm that optimizations do, in live steps and replays alike. */
typedef enum toy_harm_kind {
    TOY_HARM_NAN_LOSS,
    TOY_HARM_LOSS,
    TOY_HARM_EXPLODING,
    TOY_HARM_VANISHING,
    TOY_HARM_GRADIENT_NAN,
    TOY_HARM_ERROR,  /* reconstruction error of its first knob */
    TOY_HARM_UPDATE, /* NaN in what was written */
    TOY_HARM_STATE,  /* shows in a later step */
    TOY_HARM_KINDS
} toy_harm_kind;

typedef struct toy_harm {
    toy_harm_kind kind;
    uint32_t with;       /* the knobs that bring it about; 0: it comes by itself */
    bool all;            /* only while all of them are on, else while any of them is */
    bool of_rate;        /* not at a tenth of the learning rate */
    int64_t from, until; /* steps in which it strikes: from <= step < until */
    int64_t position;    /* only in this batch; -1: in any */
    int64_t value;       /* only while the first of the knobs has this value; 0: any */
    int strikes;         /* how often; -1: always */
    int delay;           /* of STATE: the step in which it shows, counted from where it struck */
} toy_harm;

/* An optimization of one key, toy.k<n>: 1, 2, 4, 8 or 16. The first TOY_TILES are tiles, off at 1;
 * the others are compression and, from number 6 on, RLVR: off at 16. */
typedef struct toy_knob {
    bool acts_on_state;
    bool changes_state; /* the state after a step is another one while it is on */
    bool measured;      /* it has an error target */
    bool fails_to_conform;
    bool is_gone;    /* only its parameter is there */
    int64_t initial; /* what it proposes at start; 0: nothing */
    tt_aim aim;
    double factor; /* of the time of a step, per power of two away from its baseline */
    double error;  /* likewise, in sum: the share that is lost */
    double loss;   /* likewise: added to the loss */
    int target;    /* index */
    int64_t value; /* as applied */
    int64_t ran;   /* what the last live attempt ran with */
    int applications;
} toy_knob;

typedef struct toy {
    char directory[128]; /* of the run */
    tt_params *params;
    tt_config *config;
    tt_resume resume;
    tt_orchestrator *orchestrator;
    const tt_file_ops *files;
    const tt_clock *clock;
    tt_log_sink sink;
    char last_log[1024];
    int warnings;
    double initial_loss;
    bool strict;

    toy_state slot[TT_MAX_SLOTS + 1]; /* the last one is scratch */
    atomic_int reading;               /* slot that the checkpoint thread reads, or -1 */
    toy_fault faults[TOY_MAX_FAULTS];
    int fault_count;
    toy_flip flips[8];
    int flip_count;
    int locate_calls;
    const char *bad_tensor; /* what locate_nonfinite answers */
    int64_t fail_step;      /* the job itself fails in this step, in the middle of its update; -1 */
    tt_status write_fails;  /* of tensor_write, after half of the tensors */

    tt_optimization optimizations[2];
    size_t optimization_count;

    /* toy_knobs.c */
    int knob_count;
    bool replays; /* the host has run_step */
    bool ruled;   /* k0 times k3 is at most 64, or the resolver moves k3 */
    toy_knob knobs[TOY_KNOBS];
    toy_harm harms[TOY_MAX_HARMS];
    int harm_count;
    uint64_t ns; /* what `fake` shows: steps take time, nothing else does */
    tt_clock fake;
    int64_t fork_memory;
    tt_status replay_fails;
    int64_t replay_fails_at; /* this replay; counted down */
    int64_t replays_done;
    int copies, releases;
    bool calm;       /* the loss hardly moves */
    double slowness; /* times every step's time */
    char order[256]; /* of live attempts (L) and replays (S), the last ones */
    size_t order_length;
} toy;

/* Scratch folder for cmocka: *state is its path. */
int toy_scratch(void **state);
int toy_unscratch(void **state);
/* "<scratch>/<name>" in one of a few rotating buffers. */
const char *toy_path(void *const *state, const char *name);

void toy_init(toy *job, const char *directory);
/* Creates and starts. `resume`: NULL, "auto" or a path. `settings`: "key=value", NULL-terminated,
 * may be NULL. On failure everything is destroyed. */
tt_status toy_open(toy *job, const char *resume, const char *const *settings);
/* Steps until `until` steps are published. */
tt_status toy_steps(toy *job, int64_t until);
/* One attempt. `record` may be NULL. */
tt_status toy_attempt(toy *job, tt_step_record *record);
/* finish and destroy. */
tt_status toy_close(toy *job, tt_status outcome);
/* destroy only: as if the process had ended. */
void toy_abandon(toy *job);
/* open, steps, close. */
tt_status toy_run(toy *job, const char *resume, const char *const *settings, int64_t until);

/* Gives it optimizations. `count` knobs; steps take 1 ms by job->clock, times the knobs' factors.
 */
void toy_add_knobs(toy *job, int count, bool replays);
bool toy_knob_is_on(const toy *job, int knob);
void toy_add_harm(toy *job, toy_harm harm);
/* For toy.c. */
tt_status toy_register_knobs(toy *job);
tt_status toy_connect_knobs(toy *job);
void toy_complete_host(toy *job, tt_host *host);
void toy_check_applied(const toy *job, const tt_config *config);
void toy_harm_before(toy *job, int64_t step, int64_t position, double rate, const toy_state *from,
                     tt_measurements *measured);
void toy_harm_after(toy *job, int64_t step, int64_t position, double rate, toy_state *to,
                    tt_measurements *measured);
void toy_take_time(toy *job);
void toy_note_order(toy *job, char what);
/* The whole step, in a slot of any kind. */
void toy_measure(toy *job, int64_t step, int64_t position, double rate, int read_slot,
                 tt_measurements *measured);
void toy_update(toy *job, int64_t step, int64_t position, double rate, int read_slot,
                int write_slot, tt_measurements *measured);
void toy_advance(toy_state *to, const toy_state *from, int64_t position);

void toy_add_fault(toy *job, toy_fault fault);
void toy_flip_bits(toy *job, int64_t step, bool of_written);
/* The published state. */
const toy_state *toy_now(const toy *job);
/* The state after `steps` steps of which none ever tripped; positions in `skipped` (ends with -1,
 * may be NULL) were left out. */
toy_state toy_expected(int64_t steps, const int64_t *skipped);
void toy_assert_state(const toy_state *got, const toy_state *expected, const char *file, int line);
#define toy_assert_same(got, expected) toy_assert_state((got), (expected), __FILE__, __LINE__)
#define assert_ok(status)              toy_assert_ok((status), #status, __FILE__, __LINE__)
void toy_assert_ok(tt_status status, const char *what, const char *file, int line);
/* The state that a checkpoint holds. */
toy_state toy_checkpoint(const char *path);
/* All lines of a file of the run, as an array; every line must parse. */
json_t *toy_lines(const toy *job, const char *name);
/* Checks metrics.jsonl: after superseding, steps 0..steps-1 are published once each, in order, with
 * the losses of a run that never tripped. */
void toy_check_metrics(const toy *job, int64_t steps);
/* The decisions of the journal, one per line, without what differs between two processes; to be
 * freed. */
char *toy_decisions(const toy *job);
/* Lines of the journal of one kind. */
int toy_count(const toy *job, const char *kind);

#endif
