/* SIGINT, SIGTERM and SIGUSR1 end a run after the step in hand; a second SIGINT ends it at once. */
#ifndef TRIMTAB_CLI_SIGNALS_H
#define TRIMTAB_CLI_SIGNALS_H

#include "trimtab/training.h"

/* From here on a stop request is kept until there is a training to pass it on to. */
void cli_signals_install(void);
/* The training to stop; one that was asked for before is passed on now. NULL: none any more. */
void cli_signals_attach(tt_training *training);

#endif
