/* Values from the environment and the command line. */
#include "config/config_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "TRIMTAB_"

/* TRIMTAB_KERNELS__TILE_M, behind the prefix, as a key; in lower case even where it was not. */
static void to_key(const char *name, size_t length, char key[TT_KEY_BYTES])
{
    size_t used = 0;
    for (size_t i = 0; i < length && used + 1 < TT_KEY_BYTES; i++) {
        bool level = i + 1 < length && name[i] == '_' && name[i + 1] == '_';
        key[used++] = level ? '.' : (char)tolower((unsigned char)name[i]);
        i += level;
    }
    key[used] = '\0';
}

static void to_variable(const char *key, char variable[2 * TT_KEY_BYTES])
{
    size_t used = (size_t)snprintf(variable, 2 * TT_KEY_BYTES, PREFIX);
    for (; *key != '\0' && used + 3 < 2 * TT_KEY_BYTES; key++) {
        if (*key == '.')
            variable[used++] = '_';
        variable[used++] = (char)(*key == '.' ? '_' : toupper((unsigned char)*key));
    }
    variable[used] = '\0';
}

static tt_status read_variable(const tt_params *params, const char *entry, tt_batch *batch,
                               tt_problems *problems)
{
    char key[TT_KEY_BYTES];
    char variable[2 * TT_KEY_BYTES];
    char place[2 * TT_KEY_BYTES + 8];
    char shown[64];
    const char *equals = strchr(entry, '=');
    if (equals == NULL || strncmp(entry, PREFIX, strlen(PREFIX)) != 0)
        return TT_OK;
    const char *name = entry + strlen(PREFIX);
    to_key(name, (size_t)(equals - name), key);
    int index = tt_params_index(params, key, strlen(key));
    to_variable(key, variable);
    size_t length = (size_t)(equals - entry);
    bool exact = strlen(variable) == length && strncmp(variable, entry, length) == 0;
    if (index < 0 || !exact) {
        const char *near = index >= 0 ? key : tt_params_suggest(params, key);
        tt_value_show(entry, length, shown);
        if (near != NULL && tt_params_index(params, near, strlen(near)) >= 0) {
            to_variable(near, variable);
            tt_problems_add(problems, "environment: %s names no parameter; did you mean %s?", shown,
                            variable);
        } else {
            tt_problems_add(problems, "environment: %s names no parameter; unset it", shown);
        }
        return TT_OK;
    }
    size_t at = 0;
    if (tt_batch_find(batch, (size_t)index, &at))
        return TT_OK; /* the same name again: the first one counts, as with getenv */
    snprintf(place, sizeof(place), "%s: ", variable);
    return tt_batch_add(batch, params, (size_t)index, TT_SOURCE_ENVIRONMENT, equals + 1,
                        strlen(equals + 1), TT_STYLE_RAW, variable, place, problems);
}

tt_status tt_config_load_environment(tt_config *config, char *const *environment)
{
    tt_batch batch;
    tt_problems problems;
    tt_batch_init(&batch);
    tt_problems_init(&problems);
    tt_status status = TT_OK;
    for (; environment != NULL && *environment != NULL && status == TT_OK; environment++)
        status = read_variable(config->params, *environment, &batch, &problems);
    tt_status wrong = tt_problems_finish(&problems);
    if (status == TT_OK)
        status = wrong;
    if (status == TT_OK)
        status = tt_config_take(config, &batch);
    tt_batch_clear(&batch);
    return status;
}

static bool is_outside_source(tt_source source)
{
    return source >= TT_SOURCE_FILE && source <= TT_SOURCE_COMMAND;
}

tt_status tt_config_set(tt_config *config, tt_source source, const char *assignment,
                        const char *origin)
{
    char key[TT_KEY_BYTES] = "";
    char shown[64];
    char place[160];
    if (!is_outside_source(source))
        return tt_fail(TT_EINVAL, "%s: a value cannot be set as %s", origin,
                       tt_source_name(source));
    tt_value_show(assignment, strlen(assignment), shown);
    const char *equals = strchr(assignment, '=');
    if (equals == NULL)
        return tt_fail(TT_EUSAGE, "%s '%s' has no '='; write %s key=value", origin, shown, origin);
    size_t length = (size_t)(equals - assignment);
    int index = tt_params_index(config->params, assignment, length);
    if (index < 0) {
        tt_value_show(assignment, length, shown);
        snprintf(key, sizeof(key), "%.*s", (int)(length < sizeof(key) ? length : sizeof(key) - 1),
                 assignment);
        if (tt_params_is_section(config->params, key))
            return tt_fail(TT_ECONFIG, "%s: '%s' is a section; write %s %s.<key>=value", origin,
                           shown, origin, shown);
        const char *near = tt_params_suggest(config->params, key);
        return tt_fail(TT_ECONFIG, "%s: unknown key '%s'; %s%s%s", origin, shown,
                       near != NULL ? "did you mean '" : "see the list of parameters",
                       near != NULL ? near : "", near != NULL ? "'?" : "");
    }
    tt_batch batch;
    tt_problems problems;
    tt_batch_init(&batch);
    tt_problems_init(&problems);
    snprintf(place, sizeof(place), "%s: ", origin);
    tt_status status = tt_batch_add(&batch, config->params, (size_t)index, source, equals + 1,
                                    strlen(equals + 1), TT_STYLE_RAW, origin, place, &problems);
    tt_status wrong = tt_problems_finish(&problems);
    if (status == TT_OK)
        status = wrong;
    if (status == TT_OK)
        status = tt_config_take(config, &batch);
    tt_batch_clear(&batch);
    return status;
}
