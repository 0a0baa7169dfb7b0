/* How this program is called again. */
#ifndef TRIMTAB_CLI_INVOCATION_H
#define TRIMTAB_CLI_INVOCATION_H

#include "trimtab/base.h"

/* Adds the word that starts this very program in a shell in this folder: "trimtab" where PATH leads
 * to it, else its path, relative if it is below the working folder. */
void cli_add_program(tt_text *out);
/* Adds `word` as a shell reads it back. */
void cli_add_quoted(tt_text *out, const char *word);

#endif
