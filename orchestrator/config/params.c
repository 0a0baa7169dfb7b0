/* The parameter table. */
#include "config/config_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NO_PRESET "none"

static const tt_param preset_param = {
    .key = "preset",
    .type = TT_TYPE_ENUM,
    .unit = "",
    .default_text = NO_PRESET,
    .mutability = TT_MUTABLE_NEVER, /* on resume every value already comes from the checkpoint */
    .tier = TT_TIER_NONE,
    .owner = "config",
    .help = "A named set of values; whatever is set elsewhere beats it.",
};

/* Components of [a-z][a-z0-9]*, joined by '_' within a level and by '.' between levels: only so
 * does every key have exactly one environment variable. */
static bool is_key(const char *key)
{
    size_t length = strlen(key);
    bool start = true; /* of a level */
    for (size_t i = 0; i < length; i++) {
        bool joint = key[i] == '.' || key[i] == '_';
        bool last = i + 1 == length;
        bool before_joint = !last && (key[i + 1] == '.' || key[i + 1] == '_');
        if (joint && (start || last || before_joint))
            return false;
        if (!joint && !(key[i] >= 'a' && key[i] <= 'z') &&
            (start || !isdigit((unsigned char)key[i])))
            return false;
        start = key[i] == '.';
    }
    return length > 0 && length < TT_KEY_BYTES;
}

static bool is_plain_word(const char *word, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)word[i]) && strchr("_-.", word[i]) == NULL)
            return false;
    return length > 0 && isalnum((unsigned char)word[0]) &&
           !(length == 4 && memcmp(word, "null", 4) == 0);
}

/* How many choices an enum has. */
static size_t count_choices(const char *choices)
{
    size_t count = 1;
    for (; *choices != '\0'; choices++)
        count += *choices == '|';
    return count;
}

static tt_status check_param(const tt_param *param)
{
    static const char *const plain = "parameter %s: %s";
    const char *key = param->key != NULL ? param->key : "(no key)";
    if (param->key == NULL || !is_key(param->key))
        return tt_fail(TT_EINTERNAL, "parameter '%s': a key is lower-case words with . between",
                       key);
    if (param->unit == NULL || param->default_text == NULL || param->owner == NULL ||
        param->help == NULL)
        return tt_fail(TT_EINTERNAL, plain, key, "unit, default, owner and help must be given");
    if (param->mutability < TT_MUTABLE_NEVER || param->mutability > TT_MUTABLE_AT_STEP ||
        param->tier < TT_TIER_NONE || param->tier > TT_TIER_RLVR)
        return tt_fail(TT_EINTERNAL, plain, key, "no such mutability or tier");
    bool number = param->type == TT_TYPE_INT || param->type == TT_TYPE_FLOAT;
    if (number && !(param->minimum <= param->maximum))
        return tt_fail(TT_EINTERNAL, plain, key, "its minimum is above its maximum");
    if (param->type == TT_TYPE_INT && (!isfinite(param->minimum) || !isfinite(param->maximum)))
        return tt_fail(TT_EINTERNAL, plain, key, "an int needs finite bounds");
    if ((param->lattice != NULL) != (param->lattice_count > 0) ||
        (param->lattice != NULL && param->type != TT_TYPE_INT))
        return tt_fail(TT_EINTERNAL, plain, key, "a lattice is some values of an int");
    for (size_t i = 0; i < param->lattice_count; i++)
        if ((i > 0 && param->lattice[i - 1] >= param->lattice[i]) ||
            (double)param->lattice[i] < param->minimum ||
            (double)param->lattice[i] > param->maximum)
            return tt_fail(TT_EINTERNAL, plain, key, "its lattice leaves its bounds or its order");
    if (param->type == TT_TYPE_ENUM && param->choices == NULL)
        return tt_fail(TT_EINTERNAL, plain, key, "an enum needs choices");
    for (const char *c = param->choices; param->type == TT_TYPE_ENUM; c++) {
        size_t size = strcspn(c, "|");
        if (!is_plain_word(c, size) || (size == 4 && memcmp(c, "auto", 4) == 0))
            return tt_fail(TT_EINTERNAL, plain, key, "a choice is a plain word, but not auto");
        c += size;
        if (*c == '\0')
            break;
    }
    if (param->ladder && (param->type != TT_TYPE_ENUM || param->tier == TT_TIER_NONE ||
                          count_choices(param->choices) > TT_LADDER_CHOICES ||
                          strlen(param->choices) >= TT_LADDER_BYTES))
        return tt_fail(TT_EINTERNAL, plain, key,
                       "a ladder is a few choices of an enum with a tier");
    tt_value value;
    char problem[TT_PROBLEM_BYTES];
    if (!tt_value_parse(param, param->default_text, strlen(param->default_text), TT_STYLE_RAW,
                        &value, problem))
        return tt_fail(TT_EINTERNAL, "parameter %s: its default is wrong: %s", key, problem);
    return TT_OK;
}

/* ---- lookup ------------------------------------------------------------------------------- */

/* The first position whose key is not below `key`. */
static size_t lower_bound(const tt_params *params, const char *key, size_t length)
{
    size_t low = 0;
    size_t high = params->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strncmp(params->keys[middle], key, length) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int tt_params_index(const tt_params *params, const char *key, size_t length)
{
    if (memchr(key, '\0', length) != NULL)
        return -1;
    size_t at = lower_bound(params, key, length);
    /* Of the keys that begin with `key`, it is the first itself if it exists. */
    bool found = at < params->count && strncmp(params->keys[at], key, length) == 0 &&
                 params->keys[at][length] == '\0';
    return found ? (int)at : -1;
}

bool tt_params_is_section(const tt_params *params, const char *name)
{
    for (size_t i = 0; i < params->section_count; i++)
        if (strcmp(params->sections[i], name) == 0)
            return true;
    return false;
}

const char *tt_params_suggest(const tt_params *params, const char *name)
{
    const char *near = tt_nearest_word(name, params->keys, params->count);
    if (near == NULL)
        near = tt_nearest_word(name, (const char *const *)params->sections, params->section_count);
    /* A key written without its section. */
    const char *last = strrchr(name, '.');
    last = last != NULL ? last + 1 : name;
    size_t found = 0;
    for (size_t i = 0; near == NULL && i < params->count; i++) {
        const char *dot = strrchr(params->keys[i], '.');
        found += dot != NULL && strcmp(dot + 1, last) == 0;
    }
    for (size_t i = 0; found == 1 && near == NULL; i++) {
        const char *dot = strrchr(params->keys[i], '.');
        if (dot != NULL && strcmp(dot + 1, last) == 0)
            near = params->keys[i];
    }
    return near;
}

/* ---- building ----------------------------------------------------------------------------- */

void *tt_grow_pointers(void *array, size_t count)
{
    return realloc(array, count * sizeof(void *));
}

/* Makes room at `at` in an array of `count` pointers. */
static void shift_pointers(void *array, size_t at, size_t count)
{
    char *bytes = array;
    memmove(bytes + (at + 1) * sizeof(void *), bytes + at * sizeof(void *),
            (count - at) * sizeof(void *));
}

static tt_status add_section(tt_params *params, const char *key, size_t length)
{
    size_t at = 0;
    for (; at < params->section_count; at++) {
        int order = strncmp(params->sections[at], key, length);
        if (order == 0 && params->sections[at][length] == '\0')
            return TT_OK;
        if (order >= 0)
            break;
    }
    char *name = strndup(key, length);
    char **grown =
        name != NULL ? tt_grow_pointers(params->sections, params->section_count + 1) : NULL;
    if (grown == NULL) {
        free(name);
        return tt_fail(TT_ENOMEM, "no memory for the parameter table");
    }
    shift_pointers(grown, at, params->section_count);
    grown[at] = name;
    params->sections = grown;
    params->section_count++;
    return TT_OK;
}

static tt_status insert(tt_params *params, const tt_param *param)
{
    size_t length = strlen(param->key);
    if (tt_params_index(params, param->key, length) >= 0)
        return tt_fail(TT_EINTERNAL, "parameter %s is registered twice", param->key);
    if (tt_params_is_section(params, param->key))
        return tt_fail(TT_EINTERNAL, "parameter %s is also a section", param->key);
    tt_status status = TT_OK;
    for (size_t i = 1; i < length && status == TT_OK; i++) {
        if (param->key[i] != '.')
            continue;
        if (tt_params_index(params, param->key, i) >= 0)
            return tt_fail(TT_EINTERNAL, "parameter %s lies below another one", param->key);
        status = add_section(params, param->key, i);
    }
    if (status != TT_OK)
        return status;
    const tt_param **sorted = tt_grow_pointers(params->sorted, params->count + 1);
    if (sorted != NULL)
        params->sorted = sorted;
    const char **keys = tt_grow_pointers(params->keys, params->count + 1);
    if (keys != NULL)
        params->keys = keys;
    if (sorted == NULL || keys == NULL)
        return tt_fail(TT_ENOMEM, "no memory for the parameter table");
    size_t at = lower_bound(params, param->key, length + 1);
    shift_pointers(sorted, at, params->count);
    shift_pointers(keys, at, params->count);
    sorted[at] = param;
    keys[at] = param->key;
    params->count++;
    return TT_OK;
}

tt_status tt_params_create(tt_params **out)
{
    tt_params *params = calloc(1, sizeof(*params));
    if (params == NULL)
        return tt_fail(TT_ENOMEM, "no memory for the parameter table");
    params->preset = preset_param;
    params->preset_choices = strdup(NO_PRESET);
    params->preset.choices = params->preset_choices;
    tt_status status = params->preset_choices == NULL
                           ? tt_fail(TT_ENOMEM, "no memory for the parameter table")
                           : insert(params, &params->preset);
    if (status != TT_OK) {
        tt_params_destroy(params);
        return status;
    }
    *out = params;
    return TT_OK;
}

void tt_params_destroy(tt_params *params)
{
    if (params == NULL)
        return;
    for (size_t i = 0; i < params->section_count; i++)
        free(params->sections[i]);
    free((void *)params->sections);
    free((void *)params->sorted);
    free((void *)params->keys);
    free((void *)params->presets);
    free((void *)params->rules);
    free((void *)params->advice);
    free(params->preset_choices);
    free(params);
}

tt_status tt_params_register(tt_params *params, const tt_param *table, size_t count)
{
    tt_status status = TT_OK;
    for (size_t i = 0; i < count && status == TT_OK; i++) {
        status = check_param(&table[i]);
        if (status == TT_OK)
            status = insert(params, &table[i]);
    }
    return status;
}

static tt_status register_preset(tt_params *params, const tt_preset *preset)
{
    tt_value value;
    char problem[TT_PROBLEM_BYTES];
    if (preset->name == NULL || preset->help == NULL ||
        !is_plain_word(preset->name, strlen(preset->name)) || strcmp(preset->name, "auto") == 0)
        return tt_fail(TT_EINTERNAL,
                       "preset '%s': a name is a plain word, and it needs a help line",
                       preset->name != NULL ? preset->name : "");
    if (tt_value_parse(&params->preset, preset->name, strlen(preset->name), TT_STYLE_RAW, &value,
                       problem))
        return tt_fail(TT_EINTERNAL, "preset %s is registered twice", preset->name);
    size_t used = strlen(params->preset_choices);
    size_t added = strlen(preset->name) + 1; /* with the NUL */
    char *choices = realloc(params->preset_choices, used + 1 + added);
    if (choices != NULL) {
        params->preset_choices = choices;
        params->preset.choices = choices;
    }
    const tt_preset **presets = tt_grow_pointers(params->presets, params->preset_count + 1);
    if (presets != NULL)
        params->presets = presets;
    if (choices == NULL || presets == NULL)
        return tt_fail(TT_ENOMEM, "no memory for preset %s", preset->name);
    choices[used] = '|';
    memcpy(choices + used + 1, preset->name, added);
    presets[params->preset_count++] = preset;
    return TT_OK;
}

tt_status tt_params_register_presets(tt_params *params, const tt_preset *table, size_t count)
{
    tt_status status = TT_OK;
    for (size_t i = 0; i < count && status == TT_OK; i++)
        status = register_preset(params, &table[i]);
    return status;
}

size_t tt_params_count(const tt_params *params)
{
    return params->count;
}

const tt_param *tt_params_at(const tt_params *params, size_t index)
{
    return index < params->count ? params->sorted[index] : NULL;
}

const tt_param *tt_params_find(const tt_params *params, const char *key)
{
    int index = tt_params_index(params, key, strlen(key));
    return index >= 0 ? params->sorted[index] : NULL;
}
