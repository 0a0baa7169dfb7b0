#include "resolution.h"

#include "trimtab/training.h"

#include <inttypes.h>
#include <string.h>

static int64_t estimate(void *user, const tt_config *config)
{
    (void)user;
    return tt_training_memory_estimate(config);
}

/* An `auto` codec begins as f32, and yields before anything that a user set. */
static tt_status begin_codecs(cli_resolution *out)
{
    static const char *const keys[] = {"compression.activations", "compression.moments"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const tt_config *config = out->begun ? out->begun : out->config;
        tt_config *next = NULL;
        if (!tt_config_is_auto(config, keys[i])) {
            continue;
        }
        tt_status status = tt_config_derive(config, keys[i], "f32", "baseline", &next);
        if (status) {
            return status;
        }
        tt_config_destroy(out->begun);
        out->begun = next;
    }
    return TT_OK;
}

tt_status cli_resolution_init(const cli_settings *settings, bool strict, cli_resolution *out)
{
    *out = (cli_resolution){.params = settings->params, .config = settings->config};
    tt_text_init(&out->trace);
    tt_text_init(&out->advice);
    tt_resolve_options options;
    tt_resolve_options_init(&options);
    options.strict = strict;
    options.memory_estimate = estimate;
    tt_status status = begin_codecs(out);
    if (!status) {
        status = tt_config_resolve(out->begun ? out->begun : out->config, &options, &out->moved,
                                   &out->trace);
    }
    if (!status) {
        status = tt_config_advise(cli_resolution_in_force(out), &out->advice);
    }
    return status;
}

void cli_resolution_clear(cli_resolution *resolution)
{
    tt_config_destroy(resolution->begun);
    tt_config_destroy(resolution->moved);
    tt_text_clear(&resolution->trace);
    tt_text_clear(&resolution->advice);
}

const tt_config *cli_resolution_in_force(const cli_resolution *resolution)
{
    return resolution->moved ? resolution->moved : resolution->config;
}

/* ---- lines -------------------------------------------------------------------------------- */

/* The next line with `key` (NULL: any) as a word of it; NULL at the end. *next goes past it. */
static const char *next_line(const char **next, const char *key, size_t *length)
{
    while (**next) {
        const char *line = *next;
        *length = strcspn(line, "\n");
        *next = line + *length + (line[*length] == '\n');
        const char *at = key ? memmem(line, *length, key, strlen(key)) : line;
        if (at && (!key || at == line || at[-1] == ' ') &&
            (!key || strchr(" \n", at[strlen(key)]))) {
            return line;
        }
    }
    return NULL;
}

/* "nearest on the lattice", from the line about a move: what its brackets hold. */
static const char *reason(const char *line, size_t length, size_t *reason_length)
{
    const char *open = memchr(line, '(', length);
    *reason_length = open ? length - (size_t)(open - line) - 2 : 0;
    return open ? open + 1 : line;
}

/* The line of the trace about this key, or NULL. */
static const char *line_about(const cli_resolution *resolution, const char *key, size_t *length)
{
    static const char warning[] = "warning: ";
    const char *next = resolution->trace.data;
    const char *line = next_line(&next, key, length);
    while (line) {
        const char *start =
            line + (strncmp(line, warning, strlen(warning)) == 0 ? strlen(warning) : 0);
        if (strncmp(start, key, strlen(key)) == 0) {
            return line;
        }
        line = next_line(&next, key, length);
    }
    return NULL;
}

static bool can_move(const tt_param *param)
{
    return param->tier != TT_TIER_NONE && (param->lattice || param->ladder);
}

/* Calls `add` for `key`, or (NULL) for all that can move in the order of precedence. */
static void for_each(const cli_resolution *resolution, const char *key,
                     void (*add)(const cli_resolution *, const tt_param *, void *), void *user)
{
    if (key) {
        add(resolution, tt_params_find(resolution->params, key), user);
        return;
    }
    for (tt_tier tier = TT_TIER_TILE; tier <= TT_TIER_RLVR; tier++) {
        for (size_t i = 0; i < tt_params_count(resolution->params); i++) {
            const tt_param *param = tt_params_at(resolution->params, i);
            if (param->tier == tier && can_move(param)) {
                add(resolution, param, user);
            }
        }
    }
}

/* ---- for people --------------------------------------------------------------------------- */

static void add_advice(const cli_resolution *resolution, const char *key, tt_text *out)
{
    const char *next = resolution->advice.data;
    size_t length;
    for (const char *line; (line = next_line(&next, key, &length));) {
        tt_text_add(out, "advice: ");
        cli_add_safe(out, line, length, false);
        tt_text_add(out, "\n");
    }
}

/* What became of one key. */
static void add_outcome(const cli_resolution *resolution, const tt_param *param, tt_text *out)
{
    size_t length;
    size_t reason_length;
    const char *line = line_about(resolution, param->key, &length);
    if (line) {
        const char *why = reason(line, length, &reason_length);
        tt_text_add(out, "moved: ");
        cli_add_safe(out, why, reason_length, false);
    } else if (!can_move(param)) {
        tt_text_add(out, "the resolver does not move it");
    } else if (tt_config_is_auto(resolution->config, param->key)) {
        tt_text_add(out, "auto: the run chooses");
    } else {
        tt_text_add(out, "kept");
    }
    tt_text_add(out, "\n");
}

static void add_value(tt_text *out, const tt_config *config, const tt_param *param)
{
    if (tt_config_is_auto(config, param->key)) {
        tt_text_add(out, "auto");
    } else if (param->type == TT_TYPE_INT) {
        tt_text_addf(out, "%" PRId64, tt_config_int(config, param->key));
    } else {
        tt_text_add(out, tt_config_string(config, param->key));
    }
}

static void add_origin(const cli_resolution *resolution, const char *key, tt_text *out)
{
    const char *origin = tt_config_origin(resolution->config, key);
    cli_add_safe(out, origin, strlen(origin), false);
    tt_text_add(out, tt_config_is_pinned(resolution->config, key) ? ", pinned" : "");
}

static void add_paragraph(const cli_resolution *resolution, const tt_param *param, void *user)
{
    tt_text *out = user;
    tt_text_addf(out, "%s = ", param->key);
    add_value(out, cli_resolution_in_force(resolution), param);
    tt_text_add(out, "\n  requested ");
    add_value(out, resolution->config, param);
    tt_text_add(out, " by ");
    add_origin(resolution, param->key, out);
    tt_text_add(out, "\n  ");
    add_outcome(resolution, param, out);
}

tt_status cli_resolution_draw(const cli_resolution *resolution, const char *key, tt_text *out)
{
    if (!key) {
        for_each(resolution, NULL, add_paragraph, out);
    } else if (tt_config_explain(cli_resolution_in_force(resolution), key, out) == TT_OK) {
        add_outcome(resolution, tt_params_find(resolution->params, key), out);
    }
    add_advice(resolution, key, out);
    return tt_text_check(out);
}

/* ---- JSON --------------------------------------------------------------------------------- */

static json_t *typed_json(const tt_config *config, const char *key)
{
    tt_value value = tt_config_get(config, key);
    if (value.is_auto) {
        return json_string("auto");
    }
    switch (value.type) {
    case TT_TYPE_BOOL:
        return json_boolean(value.as.boolean);
    case TT_TYPE_INT:
        return json_integer(value.as.integer);
    case TT_TYPE_FLOAT:
        return json_real(value.as.real);
    case TT_TYPE_STRING:
    case TT_TYPE_ENUM:
        return cli_json_text(value.as.string, strlen(value.as.string));
    }
    return json_null();
}

json_t *cli_value_json(const tt_config *config, const char *key)
{
    const char *origin = tt_config_origin(config, key);
    return json_pack("{s:s, s:o, s:b, s:o, s:b}", "key", key, "value", typed_json(config, key),
                     "auto", tt_config_is_auto(config, key), "origin",
                     cli_json_text(origin, strlen(origin)), "pinned",
                     tt_config_is_pinned(config, key));
}

static void append_key(const cli_resolution *resolution, const tt_param *param, void *user)
{
    const char *asked_by = tt_config_origin(resolution->config, param->key);
    size_t length;
    size_t reason_length = 0;
    const char *line = line_about(resolution, param->key, &length);
    const char *why = line ? reason(line, length, &reason_length) : "";
    json_t *entry = cli_value_json(cli_resolution_in_force(resolution), param->key);
    json_object_set_new(entry, "requested", typed_json(resolution->config, param->key));
    json_object_set_new(entry, "requested_by", cli_json_text(asked_by, strlen(asked_by)));
    json_object_set_new(entry, "moved", json_boolean(line != NULL));
    json_object_set_new(entry, "why", line ? cli_json_text(why, reason_length) : json_null());
    json_array_append_new((json_t *)user, entry);
}

static json_t *lines_json(const char *lines, const char *key)
{
    json_t *array = json_array();
    size_t length;
    for (const char *line; (line = next_line(&lines, key, &length));) {
        json_array_append_new(array, cli_json_text(line, length));
    }
    return array;
}

json_t *cli_resolution_json(const cli_resolution *resolution, const char *key)
{
    json_t *keys = json_array();
    for_each(resolution, key, append_key, keys);
    return json_pack("{s:o, s:o, s:o}", "keys", keys, "trace",
                     lines_json(resolution->trace.data, key), "advice",
                     lines_json(resolution->advice.data, key));
}
