/* What a configuration says about itself: digest, explanation, resolved YAML. */
#include "config/config_internal.h"

#include <string.h>

tt_status tt_config_digest(const tt_config *config, char out[TT_SHA256_HEX])
{
    tt_text text;
    tt_text_init(&text);
    for (size_t k = 0; k < config->count; k++) {
        tt_text_addf(&text, "%s=", config->params->keys[k]);
        tt_value_add(&text, &tt_config_winner(config, k)->value);
        tt_text_add(&text, "\n");
    }
    tt_status status = tt_text_check(&text);
    if (status == TT_OK)
        status = tt_sha256_of(text.data, text.length, out);
    tt_text_clear(&text);
    return status;
}

/* ---- explain ------------------------------------------------------------------------------ */

static const char *mutability_text(tt_mutability mutability)
{
    switch (mutability) {
    case TT_MUTABLE_NEVER:
        return "never changes";
    case TT_MUTABLE_AT_RESUME:
        return "may change on resume";
    case TT_MUTABLE_AT_STEP:
        break;
    }
    return "may change at a step";
}

static void add_place(tt_text *out, const tt_setting *setting)
{
    const char *source = tt_source_name(setting->source);
    tt_text_add(out, setting->origin);
    if (setting->source != TT_SOURCE_DEFAULT && setting->source != TT_SOURCE_PRESET)
        tt_text_addf(out, " (%s)", source);
}

tt_status tt_config_explain(const tt_config *config, const char *key, tt_text *out)
{
    int index = tt_params_index(config->params, key, strlen(key));
    if (index < 0) {
        const char *near = tt_params_suggest(config->params, key);
        char shown[64];
        tt_value_show(key, strlen(key), shown);
        if (tt_params_is_section(config->params, key))
            return tt_fail(TT_ECONFIG, "'%s' is a section; name one of its keys", shown);
        return tt_fail(TT_ECONFIG, "unknown key '%s'; %s%s%s", shown,
                       near != NULL ? "did you mean '" : "see the list of parameters",
                       near != NULL ? near : "", near != NULL ? "'?" : "");
    }
    const tt_param *param = config->params->sorted[index];
    const tt_settings *settings = &config->of[index];
    for (size_t i = settings->count; i-- > 0;) {
        const tt_setting *setting = &settings->items[i];
        bool winner = i + 1 == settings->count;
        if (winner) {
            tt_text_addf(out, "%s = ", param->key);
            tt_value_add(out, &setting->value);
        }
        tt_text_add(out, winner ? "\n  from " : "  beats ");
        add_place(out, setting);
        if (winner) {
            tt_text_add(out, tt_config_pin(config, (size_t)index) != NULL ? ", pinned\n" : "\n");
            continue;
        }
        tt_text_add(out, ": ");
        tt_value_add(out, &setting->value);
        tt_text_add(out, "\n");
    }
    tt_text_addf(out, "%s\n%s%s%s: ", param->help, tt_type_name(param->type),
                 param->unit[0] != '\0' ? " in " : "", param->unit);
    tt_value_add_bounds(out, param);
    tt_text_addf(out, "; %s; acted on by %s\n", mutability_text(param->mutability), param->owner);
    return tt_text_check(out);
}

/* ---- resolved.yaml ------------------------------------------------------------------------ */

/* An origin as a comment: whatever a file name holds, it stays one line of valid YAML. */
static void add_comment(tt_text *out, const char *origin)
{
    size_t length = strlen(origin);
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t size = tt_utf8_decode(origin + i, length - i, &code);
        bool plain = size == 1 ? code >= 0x20 && code < 0x7f : code >= 0xa0;
        if (size > 1 && (code == 0x2028 || code == 0x2029 || code == 0xfeff || code >= 0xfffe))
            plain = false;
        tt_text_add_bytes(out, plain && size > 0 ? origin + i : "?", plain && size > 0 ? size : 1);
        i += size > 0 ? size : 1;
    }
}

/* Opens the sections of `key` that `before` was not in. Returns the key's level. */
static int open_sections(tt_text *out, const char *key, const char *before)
{
    int level = 0;
    size_t start = 0;
    bool shared = true;
    for (size_t i = 0; key[i] != '\0'; i++) {
        if (key[i] != '.')
            continue;
        shared = shared && strncmp(key, before, i + 1) == 0;
        if (!shared)
            tt_text_addf(out, "%*s%.*s:\n", 2 * level, "", (int)(i - start), key + start);
        start = i + 1;
        level++;
    }
    return level;
}

/* The first origin of a value, not the chain of checkpoints it came through. */
static const char *first_origin(const tt_setting *setting)
{
    return setting->was != NULL ? setting->was : setting->origin;
}

static void add_origin(tt_text *out, const tt_setting *winner, const tt_setting *pin)
{
    tt_text_addf(out, " # %s", pin != NULL ? TT_ORIGIN_PINNED : TT_ORIGIN_FROM);
    add_comment(out, first_origin(pin != NULL ? pin : winner));
    if (pin != NULL && pin != winner) {
        tt_text_add(out, ", moved by ");
        add_comment(out, first_origin(winner));
    }
}

tt_status tt_config_write_yaml(const tt_config *config, tt_text *out)
{
    tt_text_addf(out, "# trimtab configuration, version %d: every value and where it came from\n",
                 config->version);
    const char *before = "";
    for (size_t k = 0; k < config->count; k++) {
        const char *key = config->params->keys[k];
        const tt_setting *winner = tt_config_winner(config, k);
        const char *dot = strrchr(key, '.');
        int level = open_sections(out, key, before);
        tt_text_addf(out, "%*s%s: ", 2 * level, "", dot != NULL ? dot + 1 : key);
        tt_value_add(out, &winner->value);
        add_origin(out, winner, tt_config_pin(config, k));
        tt_text_add(out, "\n");
        before = key;
    }
    return tt_text_check(out);
}
