/* trimtab inspect: what is in a checkpoint. */
#include "commands.h"
#include "inspect.h"

#include <stdio.h>

int cmd_inspect(const cli_arguments *arguments)
{
    char path[CLI_PATH_BYTES];
    tt_store *store = NULL;
    json_t *root = NULL;
    tt_status status = cli_checkpoint_open(arguments->operands[0], path, &store);
    if (!status) {
        status = cli_inspect_gather(store, path, &root);
    }
    if (!status && cli_given(arguments, CLI_JSON)) {
        status = cli_print_json(root);
        root = NULL;
    } else if (!status) {
        tt_text text;
        tt_text_init(&text);
        cli_inspect_draw(root, &text);
        status = tt_text_check(&text);
        fwrite(text.data, 1, text.length, stdout);
        tt_text_clear(&text);
    }
    json_decref(root);
    tt_store_close(store);
    return cli_report(status);
}
