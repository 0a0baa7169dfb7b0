/* A job that the orchestrator steers: a few small tensors in plain memory, and an arithmetic of
 * which the state after n steps is a pure function. No kernels, no model. */
#ifndef TT_TEST_ORCHESTRATOR_TOY_H
#define TT_TEST_ORCHESTRATOR_TOY_H

#include "unit.h"

#include "trimtab/orchestrator.h"

#include <jansson.h>
#include <stdatomic.h>

enum { TOY_BATCH = 4, TOY_MAX_FAULTS = 64 };

/* What a step changes. */
typedef struct toy_state {
    double a[6];
    float b[3][4];
    int64_t counter;
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

    toy_state slot[TT_MAX_SLOTS];
    atomic_int reading; /* slot that the checkpoint thread reads, or -1 */
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
/* Lines of the journal of one kind. */
int toy_count(const toy *job, const char *kind);

#endif
