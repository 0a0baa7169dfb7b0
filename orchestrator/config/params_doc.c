/* The parameter table as a reference page and as a list for a terminal. */
#include "config/config_internal.h"

#include <string.h>

static const char *mutability_text(tt_mutability mutability)
{
    switch (mutability) {
    case TT_MUTABLE_NEVER:
        return "never";
    case TT_MUTABLE_AT_RESUME:
        return "on resume";
    case TT_MUTABLE_AT_STEP:
        break;
    }
    return "at a step";
}

/* ---- markdown ----------------------------------------------------------------------------- */

/* Inside a table, | ends a cell. */
static void add_cell(tt_text *out, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '|')
            tt_text_add(out, "\\|");
        else
            tt_text_add_bytes(out, text, 1);
}

static void add_row(tt_text *out, const tt_param *param)
{
    tt_text bounds;
    tt_text_init(&bounds);
    tt_value_add_bounds(&bounds, param);
    tt_text_addf(out, "| `%s` | %s | ", param->key, tt_type_name(param->type));
    add_cell(out, param->unit);
    tt_text_add(out, " | ");
    if (param->default_text[0] != '\0') {
        tt_text_add(out, "`");
        add_cell(out, param->default_text);
        tt_text_add(out, "`");
    } else {
        tt_text_add(out, "(empty)");
    }
    tt_text_add(out, " | ");
    add_cell(out, bounds.data);
    tt_text_addf(out, " | %s | %s | ", mutability_text(param->mutability), param->owner);
    add_cell(out, param->help);
    tt_text_add(out, " |\n");
    out->failed = out->failed || bounds.failed;
    tt_text_clear(&bounds);
}

/* Length of the part of a key before its first '.', 0 if it has none. */
static size_t section_length(const char *key)
{
    const char *dot = strchr(key, '.');
    return dot != NULL ? (size_t)(dot - key) : 0;
}

static void add_preset(tt_text *out, const tt_preset *preset)
{
    tt_text_addf(out, "\n### `%s`\n\n%s\n\n| key | value |\n|---|---|\n", preset->name,
                 preset->help);
    for (size_t i = 0; i < preset->value_count; i++) {
        tt_text_addf(out, "| `%s` | `", preset->values[i][0]);
        add_cell(out, preset->values[i][1]);
        tt_text_add(out, "` |\n");
    }
}

static void add_keys(tt_text *out, const char *const keys[TT_RULE_KEYS])
{
    for (size_t i = 0; i < TT_RULE_KEYS && keys[i] != NULL; i++)
        tt_text_addf(out, "%s`%s`", i > 0 ? ", " : "", keys[i]);
}

static void add_rules(tt_text *out, const tt_params *params)
{
    if (params->rule_count > 0)
        tt_text_add(out, "\n## Rules\n\nWhat must hold between values. Where one must yield, tile "
                         "sizes come before compression, and compression before RLVR.\n\n"
                         "| rule | keys |\n|---|---|\n");
    for (size_t i = 0; i < params->rule_count; i++) {
        tt_text_add(out, "| ");
        add_cell(out, params->rules[i]->name);
        tt_text_add(out, " | ");
        add_keys(out, params->rules[i]->keys);
        tt_text_add(out, " |\n");
    }
    if (params->advice_count > 0)
        tt_text_add(out, "\n## Advice\n\nWhat is allowed, with a warning.\n\n"
                         "| keys | warning |\n|---|---|\n");
    for (size_t i = 0; i < params->advice_count; i++) {
        tt_text_add(out, "| ");
        add_keys(out, params->advice[i]->keys);
        tt_text_add(out, " | ");
        add_cell(out, params->advice[i]->text);
        tt_text_add(out, " |\n");
    }
}

tt_status tt_params_write_markdown(const tt_params *params, tt_text *out)
{
    tt_text_add(out, "# Parameters\n\nGenerated from the parameter table; do not edit.\n");
    const char *before = NULL;
    for (size_t i = 0; i < params->count; i++) {
        const char *key = params->keys[i];
        size_t length = section_length(key);
        bool same =
            before != NULL && section_length(before) == length && strncmp(before, key, length) == 0;
        if (!same) {
            tt_text_addf(out, "\n## %.*s\n\n", length > 0 ? (int)length : 7,
                         length > 0 ? key : "general");
            tt_text_add(out,
                        "| key | type | unit | default | values | may change | owner | help |\n"
                        "|---|---|---|---|---|---|---|---|\n");
        }
        add_row(out, params->sorted[i]);
        before = key;
    }
    if (params->preset_count > 0)
        tt_text_add(out, "\n## Presets\n\nValues that rank between the defaults and the file.\n");
    for (size_t i = 0; i < params->preset_count; i++)
        add_preset(out, params->presets[i]);
    add_rules(out, params);
    return tt_text_check(out);
}

/* ---- list --------------------------------------------------------------------------------- */

static void add_padded(tt_text *out, const char *text, size_t width)
{
    tt_text_add(out, text);
    for (size_t i = strlen(text); i < width; i++)
        tt_text_add(out, " ");
}

/* Breaks `text` between words; `indent` columns before every line but the first. */
static void add_wrapped(tt_text *out, const char *text, size_t indent, size_t width)
{
    size_t used = 0;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (used > 0 && used + 1 + word > width) {
            tt_text_add(out, "\n");
            add_padded(out, "", indent);
            used = 0;
        }
        if (used > 0) {
            tt_text_add(out, " ");
            used++;
        }
        tt_text_add_bytes(out, text, word);
        used += word;
        text += word + strspn(text + word, " ");
    }
    tt_text_add(out, "\n");
}

static void add_entry(tt_text *out, const tt_param *param, size_t key_width, size_t value_width,
                      size_t columns)
{
    size_t indent = key_width + value_width + 4;
    bool narrow = columns < indent + 24; /* then the help goes below */
    add_padded(out, param->key, key_width + 2);
    if (narrow) {
        tt_text_addf(out, "%s\n    ", param->default_text);
        add_wrapped(out, param->help, 4, columns > 8 ? columns - 4 : 4);
        return;
    }
    add_padded(out, param->default_text, value_width + 2);
    if (strlen(param->default_text) > value_width) {
        tt_text_add(out, "\n");
        add_padded(out, "", indent);
    }
    add_wrapped(out, param->help, indent, columns - indent);
}

tt_status tt_params_write_list(const tt_params *params, const char *prefix, int columns,
                               tt_text *out)
{
    enum { WIDEST_VALUE = 16 };
    size_t length = prefix != NULL ? strlen(prefix) : 0;
    size_t key_width = 0;
    size_t value_width = 0;
    for (size_t i = 0; i < params->count; i++) {
        size_t key = strlen(params->keys[i]);
        size_t value = strlen(params->sorted[i]->default_text);
        if (length > 0 && strncmp(params->keys[i], prefix, length) != 0)
            continue;
        key_width = key > key_width ? key : key_width;
        value_width = value > value_width && value <= WIDEST_VALUE ? value : value_width;
    }
    if (key_width == 0) {
        char shown[64];
        return tt_fail(TT_EUSAGE, "no parameter begins with '%s'; leave it out to see all",
                       tt_value_show(prefix, length, shown));
    }
    for (size_t i = 0; i < params->count; i++)
        if (length == 0 || strncmp(params->keys[i], prefix, length) == 0)
            add_entry(out, params->sorted[i], key_width, value_width,
                      columns > 0 ? (size_t)columns : 80);
    return tt_text_check(out);
}
