/* Progress of a run on standard error: one line that is redrawn on a terminal, a line now and then
 * elsewhere. Everything else that goes there during a run comes through here, so that the two do
 * not garble each other. */
#ifndef TRIMTAB_CLI_PROGRESS_H
#define TRIMTAB_CLI_PROGRESS_H

#include "trimtab/training.h"

typedef struct cli_progress {
    bool quiet, live, colour;
    uint64_t start_ns; /* of the first step */
    uint64_t drawn_ns; /* last redrawn, or last plain line */
    int64_t drawn_step;
    int64_t trips;
    bool last_tripped;
    int64_t timed;       /* steps timed */
    double step_seconds; /* smoothed, wall time from step to step */
    uint64_t step_ns;    /* end of the last step */
    bool started;
    tt_text notes;         /* of the preparations: shown when they have succeeded */
    tt_text line;          /* what the terminal shows; empty when nothing is drawn */
    tt_step_record record; /* the last one */
} cli_progress;

void cli_progress_init(cli_progress *progress, bool quiet);
void cli_progress_clear(cli_progress *progress);
void cli_progress_start(cli_progress *progress, const tt_training_plan *plan,
                        const tt_training_data *data, int64_t first_step);
void cli_progress_step(cli_progress *progress, const tt_step_record *record,
                       const tt_training_plan *plan);
void cli_progress_held_out(cli_progress *progress, int64_t step, double loss, double bits_per_byte,
                           bool bytes);
/* Takes the status line away; what is printed next begins on a clean line. */
void cli_progress_finish(cli_progress *progress);
/* Messages of the library go above the status line. */
tt_log_sink cli_progress_sink(cli_progress *progress);

#endif
