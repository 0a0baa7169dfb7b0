/* Long work that is not a run: what is being done, on one line of a terminal, and Ctrl-C. */
#ifndef TRIMTAB_CLI_PHASES_H
#define TRIMTAB_CLI_PHASES_H

#include "trimtab/base.h"

typedef struct cli_phases {
    bool live; /* a line on standard error is redrawn */
    uint64_t drawn_ns;
} cli_phases;

/* From here on SIGINT and SIGTERM are noted, and do not end the process. */
void cli_phases_begin(cli_phases *phases);
/* Callbacks for the library; `phases` is the user's pointer. */
void cli_phases_tell(void *phases, const char *phase, int64_t done, int64_t of);
bool cli_phases_stop(void *phases);
/* Warnings, above the line; NULL where there is no terminal. `room` holds the sink. */
const tt_log_sink *cli_phases_log(cli_phases *phases, tt_log_sink *room);
/* Takes the line away. */
void cli_phases_end(const cli_phases *phases);
/* `code`, or 130 after an interruption. */
int cli_phases_code(int code);

#endif
