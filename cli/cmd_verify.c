/* trimtab verify: a line for each checkpoint. */
#include "checkpoint.h"
#include "commands.h"
#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tally {
    size_t bad;
    tt_status worst; /* corrupt or hostile comes before everything else */
    json_t *list;    /* NULL: print lines */
} tally;

static void add_json(tally *all, const char *path, tt_status status, const tt_store_header *header)
{
    json_t *one = json_object();
    json_object_set_new(one, "path", cli_json_text(path, strlen(path)));
    json_object_set_new(one, "verdict", json_string(tt_status_name(status)));
    if (status) {
        const char *why = tt_error_message();
        json_object_set_new(one, "why", cli_json_text(why, strlen(why)));
    } else {
        json_object_set_new(one, "step", json_integer(header->step));
        json_object_set_new(one, "run_id", cli_json_text(header->run_id, strlen(header->run_id)));
        json_object_set_new(one, "payload_bytes", json_integer(header->payload_bytes));
        json_object_set_new(one, "header_sha256", json_string(header->header_sha256));
    }
    json_array_append_new(all->list, one);
}

static void print_line(const char *path, tt_status status, const tt_store_header *header)
{
    char size[32];
    char step[32];
    tt_text line;
    tt_text_init(&line);
    if (status) {
        const char *why = tt_error_message();
        tt_text_add(&line, "BAD  ");
        if (!strstr(why, path)) {
            cli_add_safe(&line, path, strlen(path), false);
            tt_text_add(&line, ": ");
        }
        cli_add_safe(&line, why, strlen(why), false);
    } else {
        tt_text_add(&line, "ok   ");
        cli_add_safe(&line, path, strlen(path), false);
        tt_text_add(&line, ": ");
        tt_text_addf(&line, "step %s of run ", cli_count(header->step, step));
        cli_add_safe(&line, header->run_id, strnlen(header->run_id, 12), false);
        tt_text_addf(&line, ", %s", cli_bytes((double)header->payload_bytes, size));
    }
    puts(line.data);
    tt_text_clear(&line);
}

static bool is_untrustworthy(tt_status status)
{
    return status == TT_ECORRUPT || status == TT_EHOSTILE;
}

static void verify(tally *all, const char *given)
{
    char path[CLI_PATH_BYTES];
    tt_store *store = NULL;
    tt_store_header header;
    memset(&header, 0, sizeof header);
    tt_status status = cli_checkpoint_open(given, path, &store);
    if (!status) {
        header = *tt_store_get_header(store);
    }
    if (all->list) {
        add_json(all, given, status, &header);
    } else {
        print_line(given, status, &header);
    }
    tt_store_close(store);
    if (status) {
        all->bad++;
        if (!all->worst || (is_untrustworthy(status) && !is_untrustworthy(all->worst))) {
            all->worst = status;
        }
    }
}

int cmd_verify(const cli_arguments *arguments)
{
    tally all = {.list = cli_given(arguments, CLI_JSON) ? json_array() : NULL};
    for (size_t i = 0; i < arguments->operand_count; i++) {
        verify(&all, arguments->operands[i]);
    }
    if (all.list) {
        json_t *root = json_object();
        json_object_set_new(root, "ok", json_boolean(all.bad == 0));
        json_object_set_new(root, "checkpoints", all.list);
        tt_status status = cli_print_json(root);
        if (status) {
            return cli_report(status);
        }
    }
    if (!all.bad) {
        return 0;
    }
    return cli_report(tt_fail(all.worst, "%zu of %zu checkpoint%s did not verify", all.bad,
                              arguments->operand_count, arguments->operand_count > 1 ? "s" : ""));
}
