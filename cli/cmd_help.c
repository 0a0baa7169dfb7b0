/* trimtab help: overview, one command, manual page, completion script. */
#include "commands.h"
#include "help.h"
#include "output.h"
#include "settings.h"

#include <stdio.h>

static tt_status write_completion(tt_text *out)
{
    cli_settings settings;
    tt_status status = cli_settings_create(&settings);
    if (!status) {
        cli_write_completion(settings.params, out);
    }
    cli_settings_clear(&settings);
    return status;
}

static tt_status write_topic(const cli_arguments *arguments, tt_text *out)
{
    int words = 0;
    int count = (int)arguments->operand_count;
    char *const *topic = arguments->operands;
    const cli_command *command = cli_find_command(count, topic, &words);
    if (command && words < count) {
        return tt_fail(TT_EUSAGE, "help: one argument too many: '%s' (see 'trimtab help')",
                       topic[words]);
    }
    if (command) {
        cli_write_help(command, out);
        return TT_OK;
    }
    if (!cli_is_group(topic[0])) {
        return cli_unknown_command(topic[0]);
    }
    if (count == 1) {
        cli_write_group(topic[0], out);
        return TT_OK;
    }
    char whole[96];
    snprintf(whole, sizeof whole, "%s %.64s", topic[0], topic[1]);
    return cli_unknown_command(whole);
}

int cmd_help(const cli_arguments *arguments)
{
    tt_text text;
    tt_text_init(&text);
    tt_status status = TT_OK;
    if (cli_given(arguments, CLI_MAN)) {
        cli_write_manual(&text);
    } else if (cli_given(arguments, CLI_COMPLETION)) {
        status = write_completion(&text);
    } else if (arguments->operand_count == 0) {
        cli_write_overview(&text);
    } else {
        status = write_topic(arguments, &text);
    }
    if (!status) {
        status = tt_text_check(&text);
    }
    if (!status) {
        fwrite(text.data, 1, text.length, stdout);
    }
    tt_text_clear(&text);
    return cli_report(status);
}
