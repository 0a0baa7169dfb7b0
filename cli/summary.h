/* How a run ended, for people or as JSON. Drawn while the trainer's figures live, printed later. */
#ifndef TRIMTAB_CLI_SUMMARY_H
#define TRIMTAB_CLI_SUMMARY_H

#include "output.h"

#include "trimtab/training.h"

void cli_summary_draw(const tt_training_summary *summary, tt_status outcome, const char *config,
                      tt_text *out);
json_t *cli_summary_json(const tt_training_summary *summary, tt_status outcome);

/* The plan of a dry run; `problems` are lines, each ending in a line break. */
void cli_plan_draw(const tt_training_plan *plan, const char *run_directory, const char *problems,
                   tt_text *out);
json_t *cli_plan_json(const tt_training_plan *plan, const char *run_directory,
                      const char *problems);

#endif
