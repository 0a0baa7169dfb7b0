/* trimtab config explain --resolved: what the resolver makes of a configuration. */
#ifndef TRIMTAB_CLI_RESOLUTION_H
#define TRIMTAB_CLI_RESOLUTION_H

#include "output.h"
#include "settings.h"

typedef struct cli_resolution {
    const tt_params *params;
    const tt_config *config; /* as it was given */
    tt_config *begun;        /* with what is `auto` where a run begins; NULL: nothing is */
    tt_config *moved;        /* as the resolver made it; NULL: nothing had to move */
    tt_text trace, advice;   /* lines */
} cli_resolution;

/* Resolves as `trimtab run` does at its start, with the trainer's own estimate of memory; what is
 * `auto` and need not move stays so. Cleared also after a failure. */
tt_status cli_resolution_init(const cli_settings *settings, bool strict, cli_resolution *out);
void cli_resolution_clear(cli_resolution *resolution);
/* What counts. */
const tt_config *cli_resolution_in_force(const cli_resolution *resolution);

/* One key (NULL: every key that the resolver may move), for people and as JSON. */
tt_status cli_resolution_draw(const cli_resolution *resolution, const char *key, tt_text *out);
json_t *cli_resolution_json(const cli_resolution *resolution, const char *key);

/* The value that counts, with its place. */
json_t *cli_value_json(const tt_config *config, const char *key);

#endif
