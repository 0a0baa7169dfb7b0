/* Help, manual page and completion script, all from the option table. */
#ifndef TRIMTAB_CLI_HELP_H
#define TRIMTAB_CLI_HELP_H

#include "options.h"

#include "trimtab/config.h"

void cli_write_overview(tt_text *out);
void cli_write_help(const cli_command *command, tt_text *out);
/* Help of every command of a group ("config"). */
void cli_write_group(const char *group, tt_text *out);
void cli_write_manual(tt_text *out);
void cli_write_completion(const tt_params *params, tt_text *out);

/* Exit codes with their meanings; ends with a NULL meaning. */
typedef struct cli_exit_code {
    int code;
    const char *meaning;
} cli_exit_code;
extern const cli_exit_code cli_exit_codes[];

#endif
