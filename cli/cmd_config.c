/* trimtab config explain, list and reference. */
#include "commands.h"
#include "output.h"
#include "settings.h"
#include "terminal.h"

#include <stdio.h>
#include <unistd.h>

static int print(tt_status status, tt_text *text, cli_settings *settings)
{
    if (!status) {
        fwrite(text->data, 1, text->length, stdout);
    }
    tt_text_clear(text);
    cli_settings_clear(settings);
    return cli_report(status);
}

int cmd_config_explain(const cli_arguments *arguments)
{
    cli_settings settings;
    tt_text text;
    tt_text_init(&text);
    tt_status status = cli_settings_create(&settings);
    if (!status) {
        const char *path = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
        status = cli_settings_load(&settings, path, arguments);
    }
    if (!status) {
        status = tt_config_explain(settings.config, arguments->operands[0], &text);
    }
    return print(status, &text, &settings);
}

int cmd_config_list(const cli_arguments *arguments)
{
    cli_settings settings;
    tt_text text;
    tt_text_init(&text);
    const char *prefix = arguments->operand_count ? arguments->operands[0] : NULL;
    tt_status status = cli_settings_create(&settings);
    if (!status) {
        status = tt_params_write_list(settings.params, prefix, cli_columns(STDOUT_FILENO), &text);
    }
    return print(status, &text, &settings);
}

int cmd_config_reference(const cli_arguments *arguments)
{
    (void)arguments;
    cli_settings settings;
    tt_text text;
    tt_text_init(&text);
    tt_status status = cli_settings_create(&settings);
    if (!status) {
        status = tt_params_write_markdown(settings.params, &text);
    }
    return print(status, &text, &settings);
}
