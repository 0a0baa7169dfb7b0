/* The parameter table and a configuration, loaded in the order of precedence. */
#ifndef TRIMTAB_CLI_SETTINGS_H
#define TRIMTAB_CLI_SETTINGS_H

#include "options.h"

#include "trimtab/config.h"

typedef struct cli_settings {
    tt_params *params;
    tt_config *config;
} cli_settings;

/* Every parameter of a run at its default. */
tt_status cli_settings_create(cli_settings *out);
/* Then `path` (may be NULL), the environment, and what the command line sets. */
tt_status cli_settings_load(cli_settings *settings, const char *path,
                            const cli_arguments *arguments);
void cli_settings_clear(cli_settings *settings);

#endif
