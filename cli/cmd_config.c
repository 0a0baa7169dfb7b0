/* trimtab config explain, list and reference. */
#include "commands.h"
#include "output.h"
#include "resolution.h"
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

/* What the operands are: [KEY] [CONFIG]. Without --resolved, KEY must be there; with it, one
 * operand is a KEY if it names a parameter or no file. */
static tt_status read_operands(const cli_arguments *arguments, const tt_params *params,
                               const char **key, const char **path)
{
    const char *first = arguments->operand_count ? arguments->operands[0] : NULL;
    *key = first;
    *path = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
    if (!cli_given(arguments, CLI_RESOLVED)) {
        return first ? TT_OK
                     : tt_fail(TT_EUSAGE, "config explain: an argument is missing: trimtab config "
                                          "explain KEY [CONFIG] (see 'trimtab help config "
                                          "explain')");
    }
    if (first && !*path && !tt_params_find(params, first) && access(first, F_OK) == 0) {
        *key = NULL;
        *path = first;
    }
    return TT_OK;
}

/* What the resolver makes of it. */
static tt_status explain_resolved(const cli_settings *settings, const cli_arguments *arguments,
                                  const char *key, tt_text *text)
{
    cli_resolution resolution;
    tt_status status = cli_resolution_init(settings, cli_given(arguments, CLI_STRICT), &resolution);
    if (!status && cli_given(arguments, CLI_JSON)) {
        status = cli_print_json(cli_resolution_json(&resolution, key));
    } else if (!status) {
        status = cli_resolution_draw(&resolution, key, text);
    }
    cli_resolution_clear(&resolution);
    return status;
}

int cmd_config_explain(const cli_arguments *arguments)
{
    cli_settings settings;
    tt_text text;
    tt_text unused;
    const char *key = NULL;
    const char *path = NULL;
    tt_text_init(&text);
    tt_text_init(&unused);
    tt_status status = cli_settings_create(&settings);
    if (!status) {
        status = read_operands(arguments, settings.params, &key, &path);
    }
    if (!status) {
        status = cli_settings_load(&settings, path, arguments);
    }
    if (!status && key) {
        status = tt_config_explain(settings.config, key, &unused); /* a wrong key is refused */
    }
    if (!status && cli_given(arguments, CLI_RESOLVED)) {
        status = explain_resolved(&settings, arguments, key, &text);
    } else if (!status && cli_given(arguments, CLI_JSON)) {
        status = cli_print_json(json_pack("{s:[o]}", "keys", cli_value_json(settings.config, key)));
    } else if (!status) {
        status = tt_config_explain(settings.config, key, &text);
    }
    tt_text_clear(&unused);
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
