/* How a run ended, for people or as JSON. Drawn while the trainer's figures live, printed later. */
#ifndef TRIMTAB_CLI_SUMMARY_H
#define TRIMTAB_CLI_SUMMARY_H

#include "output.h"

#include "trimtab/training.h"

void cli_summary_draw(const tt_training_summary *summary, tt_status outcome, const char *config,
                      tt_text *out);
json_t *cli_summary_json(const tt_training_summary *summary, tt_status outcome);

/* What a dry run tells beside the plan; lists are lines, each ending in a line break. */
typedef struct cli_plan_context {
    const char *run_directory;
    const char *resume;  /* the checkpoint that it would go on from, "" if none */
    const char *changes; /* values that differ from those of the run that wrote it */
    const char *moved;   /* values that the resolver moves, and why */
    const char *problems;
} cli_plan_context;

void cli_plan_draw(const tt_training_plan *plan, const cli_plan_context *context, tt_text *out);
json_t *cli_plan_json(const tt_training_plan *plan, const cli_plan_context *context);

#endif
