/* A configuration: every parameter with all values given for it; the last one wins. */
#include "config/config_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tt_status no_memory(void)
{
    return tt_fail(TT_ENOMEM, "no memory for a configuration");
}

/* ---- settings in order -------------------------------------------------------------------- */

tt_status tt_config_put(tt_config *config, size_t index, tt_setting *setting)
{
    tt_settings *settings = &config->of[index];
    size_t at = settings->count;
    while (at > 0 && settings->items[at - 1].source > setting->source)
        at--;
    if (setting->source == TT_SOURCE_RUN && at > 0 &&
        settings->items[at - 1].source == TT_SOURCE_RUN) {
        /* The run's own former values are in the journal, not here. */
        tt_setting_clear(&settings->items[at - 1]);
        settings->items[at - 1] = *setting;
        *setting = (tt_setting){0};
        return TT_OK;
    }
    tt_setting *items = realloc(settings->items, (settings->count + 1) * sizeof(*items));
    if (items == NULL)
        return no_memory();
    memmove(items + at + 1, items + at, (settings->count - at) * sizeof(*items));
    items[at] = *setting;
    settings->items = items;
    settings->count++;
    *setting = (tt_setting){0};
    return TT_OK;
}

const tt_setting *tt_config_winner(const tt_config *config, size_t index)
{
    return &config->of[index].items[config->of[index].count - 1];
}

const tt_setting *tt_config_pin(const tt_config *config, size_t index)
{
    const tt_settings *settings = &config->of[index];
    for (size_t i = settings->count; i-- > 0;) {
        const tt_setting *setting = &settings->items[i];
        bool user = setting->source == TT_SOURCE_FILE || setting->source == TT_SOURCE_ENVIRONMENT ||
                    setting->source == TT_SOURCE_COMMAND;
        if (user)
            return setting->value.is_auto ? NULL : setting;
        if (setting->source == TT_SOURCE_CHECKPOINT && setting->was != NULL)
            return setting->was_pinned ? setting : NULL;
    }
    return NULL;
}

static void drop_preset_values(tt_config *config)
{
    for (size_t k = 0; k < config->count; k++) {
        tt_settings *settings = &config->of[k];
        size_t kept = 0;
        for (size_t i = 0; i < settings->count; i++) {
            if (settings->items[i].source == TT_SOURCE_PRESET)
                tt_setting_clear(&settings->items[i]);
            else
                settings->items[kept++] = settings->items[i];
        }
        settings->count = kept;
    }
}

/* Reads one preset's table. A mistake in it is the program's, not the user's. */
static tt_status read_preset(const tt_params *params, const tt_preset *preset, tt_batch *batch)
{
    char origin[160];
    char place[160];
    tt_problems problems;
    tt_problems_init(&problems);
    snprintf(origin, sizeof(origin), "preset %s", preset->name);
    snprintf(place, sizeof(place), "preset %s: ", preset->name);
    tt_status status = TT_OK;
    for (size_t i = 0; i < preset->value_count && status == TT_OK; i++) {
        const char *key = preset->values[i][0];
        const char *text = preset->values[i][1];
        int index = tt_params_index(params, key, strlen(key));
        size_t at = 0;
        if (index < 0 || params->sorted[index] == &params->preset)
            tt_problems_add(&problems, "%s'%s' is not a key of a preset", place, key);
        else if (tt_batch_find(batch, (size_t)index, &at))
            tt_problems_add(&problems, "%s'%s' is there twice", place, key);
        else
            status = tt_batch_add(batch, params, (size_t)index, TT_SOURCE_PRESET, text,
                                  strlen(text), TT_STYLE_RAW, origin, place, &problems);
    }
    tt_status wrong = tt_problems_finish(&problems);
    if (wrong == TT_ECONFIG)
        wrong = TT_EINTERNAL;
    return status != TT_OK ? status : wrong;
}

static tt_status put_all(tt_config *config, tt_batch *batch)
{
    tt_status status = TT_OK;
    for (size_t i = 0; i < batch->count && status == TT_OK; i++)
        status = tt_config_put(config, batch->params[i], &batch->settings[i]);
    return status;
}

tt_status tt_config_apply_preset(tt_config *config)
{
    drop_preset_values(config);
    const char *name = tt_config_string(config, "preset");
    const tt_preset *preset = NULL;
    for (size_t i = 0; i < config->params->preset_count; i++)
        if (strcmp(config->params->presets[i]->name, name) == 0)
            preset = config->params->presets[i];
    if (preset == NULL)
        return TT_OK;
    tt_batch batch;
    tt_batch_init(&batch);
    tt_status status = read_preset(config->params, preset, &batch);
    if (status == TT_OK)
        status = put_all(config, &batch);
    tt_batch_clear(&batch);
    return status;
}

tt_status tt_config_take(tt_config *config, tt_batch *batch)
{
    tt_status status = put_all(config, batch);
    return status == TT_OK ? tt_config_apply_preset(config) : status;
}

/* ---- life --------------------------------------------------------------------------------- */

/* Without any value yet; NULL if there is no memory. */
static tt_config *allocate(const tt_params *params)
{
    tt_config *config = calloc(1, sizeof(*config));
    if (config == NULL)
        return NULL;
    config->of = calloc(params->count, sizeof(config->of[0]));
    if (config->of == NULL) {
        free(config);
        return NULL;
    }
    config->params = params;
    config->count = params->count;
    config->version = 1;
    return config;
}

/* Every preset is tried, so that a mistake in one shows before anyone selects it. */
static tt_status check_presets(const tt_params *params)
{
    tt_status status = TT_OK;
    for (size_t i = 0; i < params->preset_count && status == TT_OK; i++) {
        tt_batch batch;
        tt_batch_init(&batch);
        status = read_preset(params, params->presets[i], &batch);
        tt_batch_clear(&batch);
    }
    return status;
}

tt_status tt_config_create(const tt_params *params, tt_config **out)
{
    tt_status status = check_presets(params);
    if (status != TT_OK)
        return status;
    tt_config *config = allocate(params);
    if (config == NULL)
        return no_memory();
    tt_batch batch;
    tt_problems problems;
    tt_batch_init(&batch);
    tt_problems_init(&problems);
    for (size_t i = 0; i < params->count && status == TT_OK; i++) {
        const char *text = params->sorted[i]->default_text;
        status = tt_batch_add(&batch, params, i, TT_SOURCE_DEFAULT, text, strlen(text),
                              TT_STYLE_RAW, "default", "", &problems);
    }
    tt_status wrong = tt_problems_finish(&problems);
    if (status == TT_OK && wrong != TT_OK)
        status = wrong == TT_ECONFIG ? TT_EINTERNAL : wrong;
    if (status == TT_OK)
        status = tt_config_take(config, &batch);
    tt_batch_clear(&batch);
    if (status != TT_OK) {
        tt_config_destroy(config);
        return status;
    }
    *out = config;
    return TT_OK;
}

void tt_config_destroy(tt_config *config)
{
    if (config == NULL)
        return;
    for (size_t k = 0; k < config->count; k++) {
        for (size_t i = 0; i < config->of[k].count; i++)
            tt_setting_clear(&config->of[k].items[i]);
        free(config->of[k].items);
    }
    free(config->of);
    free(config);
}

tt_config *tt_config_copy(const tt_config *from)
{
    tt_config *config = allocate(from->params);
    if (config == NULL)
        return NULL;
    config->version = from->version;
    tt_status status = TT_OK;
    for (size_t k = 0; k < from->count && status == TT_OK; k++) {
        for (size_t i = 0; i < from->of[k].count && status == TT_OK; i++) {
            tt_setting setting;
            status = tt_setting_copy(&from->of[k].items[i], &setting);
            if (status != TT_OK)
                break;
            status = tt_config_put(config, k, &setting);
            tt_setting_clear(&setting);
        }
    }
    if (status == TT_OK)
        return config;
    tt_config_destroy(config);
    return NULL;
}

tt_status tt_config_derive(const tt_config *config, const char *key, const char *text,
                           const char *origin, tt_config **out)
{
    int index = tt_params_index(config->params, key, strlen(key));
    if (index < 0)
        return tt_fail(TT_EINTERNAL, "%s: no parameter '%s' to derive", origin, key);
    const tt_param *param = config->params->sorted[index];
    if (param->mutability == TT_MUTABLE_NEVER &&
        !tt_config_winner(config, (size_t)index)->value.is_auto)
        return tt_fail(TT_ECONFIG, "%s: %s is part of what the run is and cannot change", origin,
                       key);
    tt_batch batch;
    tt_problems problems;
    tt_batch_init(&batch);
    tt_problems_init(&problems);
    char place[160];
    snprintf(place, sizeof(place), "%s: ", origin);
    tt_config *derived = NULL;
    tt_status status = tt_batch_add(&batch, config->params, (size_t)index, TT_SOURCE_RUN, text,
                                    strlen(text), TT_STYLE_RAW, origin, place, &problems);
    tt_status wrong = tt_problems_finish(&problems);
    if (status == TT_OK)
        status = wrong;
    if (status == TT_OK) {
        derived = tt_config_copy(config);
        status = derived != NULL ? tt_config_take(derived, &batch) : no_memory();
    }
    tt_batch_clear(&batch);
    if (status != TT_OK || derived == NULL) {
        tt_config_destroy(derived);
        return status;
    }
    derived->version++;
    *out = derived;
    return TT_OK;
}

int tt_config_version(const tt_config *config)
{
    return config->version;
}

/* ---- typed reads -------------------------------------------------------------------------- */

/* A programmer's mistake: loud in a debug build, harmless in a release. */
static void mistake(const char *key, const char *what)
{
#ifdef NDEBUG
    (void)key;
    (void)what;
#else
    fprintf(stderr, "trimtab: configuration key '%s' %s\n", key, what);
    abort();
#endif
}

static const tt_setting *find(const tt_config *config, const char *key)
{
    int index = tt_params_index(config->params, key, strlen(key));
    if (index < 0) {
        mistake(key, "is not registered");
        return NULL;
    }
    return tt_config_winner(config, (size_t)index);
}

/* The winner if it is of the type and not auto. */
static const tt_value *find_typed(const tt_config *config, const char *key, tt_type type,
                                  tt_type other)
{
    const tt_setting *setting = find(config, key);
    if (setting == NULL)
        return NULL;
    if (setting->value.type != type && setting->value.type != other) {
        mistake(key, "has another type");
        return NULL;
    }
    return setting->value.is_auto ? NULL : &setting->value;
}

tt_value tt_config_get(const tt_config *config, const char *key)
{
    const tt_setting *setting = find(config, key);
    return setting != NULL ? setting->value : (tt_value){0};
}

bool tt_config_bool(const tt_config *config, const char *key)
{
    const tt_value *value = find_typed(config, key, TT_TYPE_BOOL, TT_TYPE_BOOL);
    return value != NULL && value->as.boolean;
}

int64_t tt_config_int(const tt_config *config, const char *key)
{
    const tt_value *value = find_typed(config, key, TT_TYPE_INT, TT_TYPE_INT);
    return value != NULL ? value->as.integer : 0;
}

double tt_config_float(const tt_config *config, const char *key)
{
    const tt_value *value = find_typed(config, key, TT_TYPE_FLOAT, TT_TYPE_FLOAT);
    return value != NULL ? value->as.real : 0;
}

const char *tt_config_string(const tt_config *config, const char *key)
{
    const tt_value *value = find_typed(config, key, TT_TYPE_STRING, TT_TYPE_ENUM);
    return value != NULL ? value->as.string : "";
}

bool tt_config_is_auto(const tt_config *config, const char *key)
{
    const tt_setting *setting = find(config, key);
    return setting != NULL && setting->value.is_auto;
}

bool tt_config_is_pinned(const tt_config *config, const char *key)
{
    int index = tt_params_index(config->params, key, strlen(key));
    if (index < 0)
        mistake(key, "is not registered");
    return index >= 0 && tt_config_pin(config, (size_t)index) != NULL;
}

tt_source tt_config_source(const tt_config *config, const char *key)
{
    const tt_setting *setting = find(config, key);
    return setting != NULL ? setting->source : TT_SOURCE_DEFAULT;
}

const char *tt_config_origin(const tt_config *config, const char *key)
{
    const tt_setting *setting = find(config, key);
    return setting != NULL ? setting->origin : "";
}
