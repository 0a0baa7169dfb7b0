/* A configuration on resume. */
#include "config/config_internal.h"

#include <string.h>

static bool is_user_source(tt_source source)
{
    return source == TT_SOURCE_FILE || source == TT_SOURCE_ENVIRONMENT ||
           source == TT_SOURCE_COMMAND;
}

/* What a user gives now for the key, or NULL: the highest of file, environment, command line. */
static const tt_setting *user_setting(const tt_config *config, size_t index)
{
    const tt_settings *settings = &config->of[index];
    for (size_t i = settings->count; i-- > 0;)
        if (is_user_source(settings->items[i].source))
            return &settings->items[i];
    return NULL;
}

static void refuse(const tt_param *param, const tt_setting *old, const tt_setting *now,
                   const char *name, tt_problems *problems)
{
    tt_text text;
    tt_text_init(&text);
    tt_text_addf(&text, "%s cannot change on resume: ", param->key);
    tt_value_add(&text, &old->value);
    tt_text_addf(&text, " in %s, ", name);
    tt_value_add(&text, &now->value);
    tt_text_addf(&text, " by %s; take that away, or start a new run", now->origin);
    tt_problems_add(problems, "%s", text.data);
    if (text.failed)
        problems->text.failed = true;
    tt_text_clear(&text);
}

/* "key=value" as a shell hands it to --set. */
static void add_assignment(tt_text *out, const tt_param *param, const tt_value *value)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./+,:@%";
    bool words = param->type == TT_TYPE_STRING && !value->is_auto;
    const char *text = words ? value->as.string : "";
    bool bare = text[strspn(text, plain)] == '\0';
    tt_text_addf(out, "%s%s=", bare ? "" : "'", param->key);
    if (!words)
        tt_value_add(out, value);
    for (const char *c = text; *c != '\0'; c++)
        tt_text_add_bytes(out, *c == '\'' ? "'\\''" : c, *c == '\'' ? 4 : 1);
    tt_text_add(out, bare ? "" : "'");
}

static void ignore(const tt_param *param, const tt_setting *old, const tt_setting *now,
                   tt_text *ignored)
{
    tt_text_addf(ignored, "%s: %s ", now->origin, param->key);
    tt_value_add(ignored, &now->value);
    tt_text_add(ignored, " is ignored: the checkpoint's ");
    tt_value_add(ignored, &old->value);
    tt_text_add(ignored, " counts; use --set ");
    add_assignment(ignored, param, &now->value);
    tt_text_add(ignored, "\n");
}

/* Whether the run itself had chosen the value, for an `auto`: asking for that again is no change.
 */
static bool was_chosen(const tt_setting *old)
{
    static const char *const from_outside[] = {"default", "preset"};
    bool outside = old->was == NULL || old->was_pinned;
    for (size_t i = 0; !outside && i < sizeof(from_outside) / sizeof(from_outside[0]); i++)
        outside = strncmp(old->was, from_outside[i], strlen(from_outside[i])) == 0;
    return !outside;
}

/* Compares every key of the checkpoint with what is given now. */
static void compare(const tt_config *config, const tt_batch *batch, const char *name,
                    tt_problems *problems, tt_text *changes, tt_text *ignored)
{
    for (size_t i = 0; i < batch->count; i++) {
        size_t index = batch->params[i];
        const tt_param *param = config->params->sorted[index];
        const tt_setting *old = &batch->settings[i];
        const tt_setting *now = user_setting(config, index);
        if (now == NULL || tt_value_equal(&old->value, &now->value))
            continue;
        if (param->mutability == TT_MUTABLE_NEVER) {
            if (!now->value.is_auto)
                refuse(param, old, now, name, problems);
            continue;
        }
        if (now->source < TT_SOURCE_CHECKPOINT) {
            /* What a file leaves open the run has chosen meanwhile. */
            if (!now->value.is_auto)
                ignore(param, old, now, ignored);
            continue;
        }
        if (now->value.is_auto && was_chosen(old))
            continue;
        tt_text_addf(changes, "%s: ", param->key);
        tt_value_add(changes, &old->value);
        tt_text_add(changes, " -> ");
        tt_value_add(changes, &now->value);
        tt_text_addf(changes, " (%s)\n", now->origin);
    }
}

/* An immutable key given as `auto` stays what the run made of it: the checkpoint's value must win,
 * so what asked for auto goes. */
static void drop_auto(tt_config *config, const tt_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        size_t index = batch->params[i];
        tt_settings *settings = &config->of[index];
        size_t kept = 0;
        for (size_t j = 0; j < settings->count; j++) {
            tt_setting *setting = &settings->items[j];
            bool drop = config->params->sorted[index]->mutability == TT_MUTABLE_NEVER &&
                        setting->source > TT_SOURCE_CHECKPOINT && setting->source < TT_SOURCE_RUN &&
                        setting->value.is_auto;
            if (drop)
                tt_setting_clear(setting);
            else
                settings->items[kept++] = *setting;
        }
        settings->count = kept;
    }
}

static void warn_of_each(const tt_log_sink *log, const char *lines)
{
    while (*lines != '\0') {
        size_t length = strcspn(lines, "\n");
        tt_log(log, TT_LOG_WARN, "%.*s", (int)length, lines);
        lines += length + (lines[length] == '\n');
    }
}

tt_status tt_config_resume_from(tt_config *config, const char *name, const char *yaml, size_t bytes,
                                tt_text *changes, const tt_log_sink *log)
{
    tt_batch batch;
    tt_problems problems;
    tt_text found;
    tt_text ignored;
    tt_batch_init(&batch);
    tt_problems_init(&problems);
    tt_text_init(&found);
    tt_text_init(&ignored);
    tt_status status =
        tt_yaml_load(config->params, TT_SOURCE_CHECKPOINT, name, yaml, bytes, true, &batch);
    if (status == TT_OK)
        compare(config, &batch, name, &problems, &found, &ignored);
    tt_status wrong = tt_problems_finish(&problems);
    if (status == TT_OK)
        status = wrong;
    if (status == TT_OK) {
        drop_auto(config, &batch);
        status = tt_config_take(config, &batch);
    }
    if (status == TT_OK)
        status = tt_text_check(&found);
    if (status == TT_OK && changes != NULL) {
        tt_text_add_bytes(changes, found.data, found.length);
        status = tt_text_check(changes);
    }
    if (status == TT_OK)
        warn_of_each(log, ignored.data);
    tt_text_clear(&found);
    tt_text_clear(&ignored);
    tt_batch_clear(&batch);
    return status;
}
