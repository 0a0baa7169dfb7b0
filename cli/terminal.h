/* What standard error and standard output are connected to. */
#ifndef TRIMTAB_CLI_TERMINAL_H
#define TRIMTAB_CLI_TERMINAL_H

#include <stdbool.h>

/* A line may be redrawn there: a terminal, not TERM=dumb, not under CI. */
bool cli_is_live(int fd);
/* Live, and NO_COLOR is not set. */
bool cli_has_colour(int fd);
/* Columns of the terminal now (it may have been resized), COLUMNS, or 80. */
int cli_columns(int fd);

#endif
