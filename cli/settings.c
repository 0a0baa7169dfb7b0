#include "settings.h"

#include "trimtab/training.h"

#include <unistd.h>

tt_status cli_settings_create(cli_settings *out)
{
    *out = (cli_settings){0};
    tt_status status = tt_params_create(&out->params);
    if (!status) {
        status = tt_training_register(out->params);
    }
    if (!status) {
        status = tt_config_create(out->params, &out->config);
    }
    return status;
}

static tt_status apply(tt_config *config, const cli_assignment *assignment)
{
    if (!assignment->key) {
        return tt_config_set(config, TT_SOURCE_COMMAND, assignment->text, assignment->origin);
    }
    tt_text whole;
    tt_text_init(&whole);
    tt_text_addf(&whole, "%s=%s", assignment->key, assignment->text);
    tt_status status = tt_text_check(&whole);
    if (!status) {
        status = tt_config_set(config, TT_SOURCE_COMMAND, whole.data, assignment->origin);
    }
    tt_text_clear(&whole);
    return status;
}

tt_status cli_settings_load(cli_settings *settings, const char *path,
                            const cli_arguments *arguments)
{
    tt_status status = path ? tt_config_load_file(settings->config, path) : TT_OK;
    if (!status) {
        status = tt_config_load_environment(settings->config, environ);
    }
    for (size_t i = 0; !status && i < arguments->assignment_count; i++) {
        status = apply(settings->config, &arguments->assignments[i]);
    }
    return status;
}

void cli_settings_clear(cli_settings *settings)
{
    tt_config_destroy(settings->config);
    tt_params_destroy(settings->params);
    *settings = (cli_settings){0};
}
