/* The first bad step of a run, found by going through its steps again. */
#ifndef TRIMTAB_TRAINING_BISECT_BISECT_H
#define TRIMTAB_TRAINING_BISECT_BISECT_H

#include "../internal.h"
#include "../scratch.h"

enum { TT_BISECT_NOTES = 64 };

/* A checkpoint of the run. */
typedef struct tt_bisect_point {
    int64_t step;
    char name[32];
    bool bad;        /* the step that follows trips */
    double held_out; /* NaN: not asked for */
} tt_bisect_point;

/* What is returned, with what it points to. */
typedef struct tt_bisection_whole {
    tt_bisection public; /* first */
    tt_text texts[TT_BISECT_NOTES];
    const char *notes[TT_BISECT_NOTES];
    tt_text file, excerpt, advice;
} tt_bisection_whole;

/* The run goes on from one of its checkpoints, in a scratch folder. */
typedef struct tt_bisect_fork {
    tt_config *config;
    tt_training *training;
    char folder[TT_SCRATCH_PATH];
} tt_bisect_fork;

typedef struct tt_bisector {
    const tt_bisect_options *options;
    tt_bisection_whole *result;
    char scratch[TT_SCRATCH_PATH];
    int forks;
    tt_bisect_point *points; /* ascending */
    size_t point_count;
    int64_t end_step; /* the run was so far, at least: one more than the last step of its journal
                         and its checkpoints */
    tt_bisect_fork fork;
} tt_bisector;

/* bisect.c */
/* A line of the notes, to be filled in. */
tt_text *tt_bisect_note(tt_bisector *b);
void tt_bisect_tell(const tt_bisector *b, const char *phase, int64_t done, int64_t of);
/* TT_EREQUEUE where the caller wants to stop. */
tt_status tt_bisect_go_on(const tt_bisector *b);

/* checkpoints.c */
/* Those that verify and belong to the run, with a note for each other one. */
tt_status tt_bisect_list(tt_bisector *b);
/* How far the run got, by its journal; and a note of what tripped. */
tt_status tt_bisect_read_journal(tt_bisector *b);

/* fork.c */
tt_status tt_bisect_open(tt_bisector *b, const tt_bisect_point *point);
void tt_bisect_close(tt_bisector *b);
/* One live step. */
tt_status tt_bisect_step(tt_bisector *b, tt_step_record *record);

/* sample.c */
/* After a step that was refused: which sequence of its batch it was. */
tt_status tt_bisect_find_sample(tt_bisector *b, int64_t step, int64_t position);

/* culprit.c */
/* After a step that was refused: lets the ladder look for the culprit, and reads what it found. */
tt_status tt_bisect_find_culprit(tt_bisector *b, const tt_step_record *first);
tt_status tt_bisect_advise(tt_bisector *b);

#endif
