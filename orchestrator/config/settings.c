/* Values with their places, and batches of them. */
#include "config/config_internal.h"

#include <stdlib.h>
#include <string.h>

static tt_status no_memory(void)
{
    return tt_fail(TT_ENOMEM, "no memory for a configuration value");
}

const char *tt_source_name(tt_source source)
{
    static const char *const names[] = {
        [TT_SOURCE_DEFAULT] = "default",
        [TT_SOURCE_PRESET] = "preset",
        [TT_SOURCE_FILE] = "file",
        [TT_SOURCE_CHECKPOINT] = "checkpoint",
        [TT_SOURCE_ENVIRONMENT] = "environment",
        [TT_SOURCE_COMMAND] = "command line",
        [TT_SOURCE_RUN] = "run",
    };
    return source >= TT_SOURCE_DEFAULT && source <= TT_SOURCE_RUN ? names[source] : "?";
}

void tt_setting_clear(tt_setting *setting)
{
    free(setting->text);
    free(setting->origin);
    free(setting->was);
    *setting = (tt_setting){0};
}

tt_status tt_setting_copy(const tt_setting *from, tt_setting *to)
{
    *to = *from;
    to->text = from->text != NULL ? strdup(from->text) : NULL;
    to->origin = from->origin != NULL ? strdup(from->origin) : NULL;
    to->was = from->was != NULL ? strdup(from->was) : NULL;
    if ((from->text != NULL && to->text == NULL) || (from->origin != NULL && to->origin == NULL) ||
        (from->was != NULL && to->was == NULL)) {
        tt_setting_clear(to);
        return no_memory();
    }
    if (to->text != NULL)
        to->value.as.string = to->text;
    return TT_OK;
}

void tt_batch_init(tt_batch *batch)
{
    *batch = (tt_batch){0};
}

void tt_batch_clear(tt_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        tt_setting_clear(&batch->settings[i]);
    free(batch->settings);
    free(batch->params);
    tt_batch_init(batch);
}

static tt_status grow(tt_batch *batch)
{
    if (batch->count < batch->capacity)
        return TT_OK;
    size_t capacity = batch->capacity > 0 ? 2 * batch->capacity : 16;
    tt_setting *settings = realloc(batch->settings, capacity * sizeof(*settings));
    if (settings != NULL)
        batch->settings = settings;
    size_t *params = realloc(batch->params, capacity * sizeof(*params));
    if (params != NULL)
        batch->params = params;
    if (settings == NULL || params == NULL)
        return no_memory();
    batch->capacity = capacity;
    return TT_OK;
}

tt_status tt_batch_add(tt_batch *batch, const tt_params *params, size_t index, tt_source source,
                       const char *text, size_t length, tt_style style, const char *origin,
                       const char *place, tt_problems *problems)
{
    char problem[TT_PROBLEM_BYTES];
    tt_setting setting = {.source = source};
    if (!tt_value_parse(params->sorted[index], text, length, style, &setting.value, problem)) {
        tt_problems_add(problems, "%s%s", place, problem);
        return TT_OK;
    }
    bool words = setting.value.type == TT_TYPE_STRING || setting.value.type == TT_TYPE_ENUM;
    if (words && !setting.value.is_auto) {
        setting.text = strndup(text, length);
        setting.value.as.string = setting.text;
    }
    setting.origin = strdup(origin);
    if (setting.origin == NULL || (words && !setting.value.is_auto && setting.text == NULL) ||
        grow(batch) != TT_OK) {
        tt_setting_clear(&setting);
        return no_memory();
    }
    batch->params[batch->count] = index;
    batch->settings[batch->count] = setting;
    batch->count++;
    return TT_OK;
}

bool tt_batch_find(const tt_batch *batch, size_t index, size_t *at)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->params[i] == index) {
            *at = i;
            return true;
        }
    }
    return false;
}
