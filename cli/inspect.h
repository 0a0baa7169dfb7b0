/* trimtab inspect: everything a checkpoint holds is gathered as JSON; the page for people is drawn
 * from that. */
#ifndef TRIMTAB_CLI_INSPECT_H
#define TRIMTAB_CLI_INSPECT_H

#include "checkpoint.h"
#include "output.h"

/* The whole content; *out is owned by the caller. */
tt_status cli_inspect_gather(const tt_store *store, const char *path, json_t **out);
void cli_inspect_draw(const json_t *root, tt_text *out);

#endif
