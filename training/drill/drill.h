/* Drills: runs that are harmed on purpose, each in a process of its own. Parent and child meet in
 * the run's folder only. */
#ifndef TRIMTAB_TRAINING_DRILL_DRILL_H
#define TRIMTAB_TRAINING_DRILL_DRILL_H

#include "disk.h"
#include "plant.h"

#include <jansson.h>

enum { TT_DRILL_PATH = 4096, TT_DRILL_SETTINGS = 6, TT_DRILL_YARDSTICKS = 16 };

/* ---- a run -------------------------------------------------------------------------------- */

/* Where a run ends itself with SIGKILL, at a step. */
typedef enum tt_drill_death {
    TT_DRILL_LIVES,
    TT_DRILL_DIES_IN_FORWARD,
    TT_DRILL_DIES_IN_UPDATE,
} tt_drill_death;

typedef struct tt_drill_job {
    const char *folder;                      /* name, in the scratch folder */
    bool resume;                             /* go on with what is there */
    int64_t steps;                           /* train.steps */
    const char *settings[TT_DRILL_SETTINGS]; /* "key=value" beside the drill's own */
    tt_plant plant;                          /* fault.tensor NULL: none */
    tt_drill_death death;
    int64_t death_step;
    tt_disk disk; /* how NONE: works */
    bool clock_jumps;
    int64_t clock_at, clock_ns; /* reading, jump */
} tt_drill_job;

/* How it ended, as the parent sees it. */
typedef struct tt_drill_end {
    int code; /* exit code; 128 + signal */
    bool killed, hung;
    double seconds;    /* of the whole process */
    char message[512]; /* of the failure, "" if none */
} tt_drill_end;

/* What its folder says. */
typedef struct tt_drill_facts {
    int trips, searches, skips, breakers;
    int64_t trip_step;          /* of the first; -1: none */
    char gate[32], tensor[128]; /* of the first */
    char action[16];            /* of the first */
    char verdict[32];           /* of the last search; "transient" if a mere retry cured it; "" */
    char guilty[96];            /* of the last search: "activations" or "a+b" */
    int64_t trials;             /* that ended, whatever came of them */
    double longest_decided;     /* the largest time that a decision rests on, whatever its sign */
    int64_t steps;              /* reached */
    double held_out_loss, step_seconds, policy_seconds;
    int64_t checkpoint_failures;
    /* Told by the child itself. */
    int64_t harmed, harmed_published;
    double longest_gap; /* seconds from step to step */
} tt_drill_facts;

typedef struct tt_drill_yardstick {
    char name[32];
    char key[512];
    int64_t steps;
    double seconds;
    tt_drill_facts facts;
} tt_drill_yardstick;

/* ---- the drill ---------------------------------------------------------------------------- */

typedef struct tt_drill {
    const tt_drill_options *options;
    tt_params *own_params; /* of the built-in model */
    tt_config *own_config;
    const tt_params *params;
    tt_config *config;
    char root[TT_DRILL_PATH]; /* the scratch folder */
    const char *scenario;     /* in progress */
    tt_drill_yardstick yardsticks[TT_DRILL_YARDSTICKS];
    int yardstick_count;
    bool stopped;
    double longest_step; /* of any clean run: what a hang is measured by */
} tt_drill;

/* What a scenario has found so far. Strings of the result that is made of it. */
typedef struct tt_drill_verdict {
    bool lost;
    char detected[96], culprit[96], recovered[96], why[768];
} tt_drill_verdict;

/* child.c */
/* Runs the job to its end, whatever it is. A failure is the drill's own. */
tt_status tt_drill_go(tt_drill *drill, tt_drill_job *job, tt_drill_end *end);
/* root/folder[/name] */
void tt_drill_path(const tt_drill *drill, const char *folder, const char *name,
                   char out[TT_DRILL_PATH]);

/* facts.c */
tt_status tt_drill_read(const tt_drill *drill, const char *folder, tt_drill_facts *out);
/* Compares the tensors of two checkpoints. TT_EGATE: they differ, and where. */
tt_status tt_drill_same_tensors(const char *left, const char *right);
/* TT_ECORRUPT: a file under a checkpoint's name does not verify. *newest: step, -1 if none. */
tt_status tt_drill_verify_all(const tt_drill *drill, const char *folder, int64_t *newest);

/* scratch.c: the folder, and the built-in model */
tt_status tt_drill_make_scratch(tt_drill *drill);
void tt_drill_remove_scratch(const tt_drill *drill);
tt_status tt_drill_make_model(tt_drill *drill);

/* judge.c: each adds to the verdict */
void tt_drill_lose(tt_drill_verdict *verdict, const char *format, ...) TT_PRINTF(2, 3);
/* Adds a word to a list, once. */
void tt_drill_note(char *list, size_t room, const char *word);
/* The clean run with these settings; made when it is first asked for. */
tt_status tt_drill_clean(tt_drill *drill, int64_t steps, const char *const *settings,
                         const tt_drill_yardstick **out);
/* It ended well, with the bits of the yardstick. */
void tt_drill_expect_equal(tt_drill *drill, const tt_drill_yardstick *clean, const char *folder,
                           const tt_drill_end *end, tt_drill_verdict *verdict);

/* scenarios */
typedef tt_status (*tt_drill_fn)(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_nan_tensor(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_loss_spike(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_exploding(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_vanished(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_corrupt_codec(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_wrong_kernel(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_full_disk(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_read_only(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_kill(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_damaged(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_clock(tt_drill *drill, tt_drill_verdict *verdict);
tt_status tt_drill_slow_disk(tt_drill *drill, tt_drill_verdict *verdict);

/* Steps of a run in which tensors are harmed (long enough for every gate to be armed), and of one
 * that only has to save. */
int64_t tt_drill_long(const tt_drill *drill);
int64_t tt_drill_short(const tt_drill *drill);
/* What lies between two checkpoints of such a run. */
int64_t tt_drill_every(int64_t steps);

#endif
