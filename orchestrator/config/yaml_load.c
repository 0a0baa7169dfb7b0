/* The YAML loader: libyaml's events, and nothing of YAML but mappings and scalars. */
#include "config/config_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

enum { PATH_BYTES = TT_KEY_BYTES + 64 };

typedef struct loader {
    const tt_params *params;
    tt_source source;
    const char *name;
    tt_batch *batch;
    tt_problems problems;
    yaml_parser_t parser;
    int depth;             /* open collections, counted exactly */
    char path[PATH_BYTES]; /* "kernels.tile_m"; too long a path names nothing */
    int *seen;             /* line of each parameter and, behind them, of each section; or 0 */
    bool with_origins;
    const char *line_start; /* of line number line_at, counted from 0, for the comments */
    const char *end;
    size_t line_at;
} loader;

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

/* ---- events ------------------------------------------------------------------------------- */

static tt_status syntax_error(loader *l)
{
    const yaml_parser_t *parser = &l->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return tt_fail(TT_ENOMEM, "%s: no memory to read it", l->name);
    size_t line = parser->problem_mark.line + 1;
    const char *problem = parser->problem != NULL ? parser->problem : "unreadable";
    tt_problems_add(&l->problems,
                    "%s:%zu: not valid YAML: %s; check indentation, colons and quotes", l->name,
                    line, problem);
    return TT_ECONFIG;
}

/* The next event, which the caller deletes. TT_ECONFIG: the problem is noted, stop reading. */
static tt_status next_event(loader *l, yaml_event_t *event)
{
    if (!yaml_parser_parse(&l->parser, event))
        return syntax_error(l);
    if (event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT)
        l->depth++;
    if (event->type == YAML_MAPPING_END_EVENT || event->type == YAML_SEQUENCE_END_EVENT)
        l->depth--;
    if (l->depth <= TT_YAML_MAX_DEPTH)
        return TT_OK;
    tt_problems_add(&l->problems, "%s:%d: nested deeper than %d levels; parameters need a few",
                    l->name, line_of(event), TT_YAML_MAX_DEPTH);
    yaml_event_delete(event);
    return TT_ECONFIG;
}

static bool opens(const yaml_event_t *event)
{
    return event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT;
}

/* Reads over the rest of a node whose first event was `event`. */
static tt_status skip(loader *l, const yaml_event_t *event)
{
    int depth = l->depth;
    tt_status status = TT_OK;
    while (opens(event) && status == TT_OK && l->depth >= depth) {
        yaml_event_t inner;
        status = next_event(l, &inner);
        if (status == TT_OK)
            yaml_event_delete(&inner);
    }
    return status;
}

/* Features that no parameter needs. True, and noted, if the node uses one. */
static bool refuse_feature(loader *l, const yaml_event_t *event)
{
    const char *what = NULL;
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (event->type == YAML_SEQUENCE_START_EVENT)
        what = "a list, but no parameter is one; write one value";
    else if (event->type == YAML_ALIAS_EVENT)
        what = "an alias (*), which is not supported; write the value itself";
    else if (anchor != NULL)
        what = "an anchor (&), which is not supported; remove it";
    else if (tag != NULL)
        what = "a tag (!), which is not supported; remove it";
    if (what != NULL)
        tt_problems_add(&l->problems, "%s:%d: %s%s%s", l->name, line_of(event), l->path,
                        l->path[0] != '\0' ? " is " : "there is ", what);
    return what != NULL;
}

/* ---- comments of write_yaml --------------------------------------------------------------- */

/* The text behind the first "# " after the scalar, up to the end of its line. Lines are only asked
 * for in ascending order. libyaml counts columns in characters. */
static const char *comment_after(loader *l, const yaml_event_t *event, size_t *length)
{
    while (l->line_at < event->end_mark.line) {
        const char *newline = memchr(l->line_start, '\n', (size_t)(l->end - l->line_start));
        if (newline == NULL)
            return NULL;
        l->line_start = newline + 1;
        l->line_at++;
    }
    const char *newline = memchr(l->line_start, '\n', (size_t)(l->end - l->line_start));
    const char *stop = newline != NULL ? newline : l->end;
    const char *at = l->line_start;
    for (size_t column = 0; column < event->end_mark.column && at < stop; column++) {
        size_t size = tt_utf8_decode(at, (size_t)(stop - at), NULL);
        at += size > 0 ? size : 1;
    }
    while (at < stop && *at == ' ')
        at++;
    if (stop - at < 2 || memcmp(at, "# ", 2) != 0)
        return NULL;
    *length = (size_t)(stop - at) - 2;
    return at + 2;
}

static tt_status read_origin(loader *l, const yaml_event_t *event)
{
    size_t length = 0;
    const char *comment = l->with_origins ? comment_after(l, event, &length) : NULL;
    if (comment == NULL)
        return TT_OK;
    tt_setting *setting = &l->batch->settings[l->batch->count - 1];
    size_t from = strlen(TT_ORIGIN_FROM);
    size_t pinned = strlen(TT_ORIGIN_PINNED);
    setting->was_pinned = length > pinned && strncmp(comment, TT_ORIGIN_PINNED, pinned) == 0;
    size_t prefix = setting->was_pinned ? pinned : from;
    if (length <= prefix || (!setting->was_pinned && strncmp(comment, TT_ORIGIN_FROM, from) != 0))
        return TT_OK;
    char *origin = NULL;
    setting->was = strndup(comment + prefix, length - prefix);
    if (setting->was == NULL || asprintf(&origin, "%s (%s)", l->name, setting->was) < 0)
        return tt_fail(TT_ENOMEM, "%s: no memory to read it", l->name);
    free(setting->origin);
    setting->origin = origin;
    return TT_OK;
}

/* ---- keys --------------------------------------------------------------------------------- */

static tt_style style_of(const yaml_event_t *event)
{
    switch (event->data.scalar.style) {
    case YAML_SINGLE_QUOTED_SCALAR_STYLE:
    case YAML_DOUBLE_QUOTED_SCALAR_STYLE:
        return TT_STYLE_QUOTED;
    case YAML_LITERAL_SCALAR_STYLE:
    case YAML_FOLDED_SCALAR_STYLE:
        return TT_STYLE_BLOCK;
    default:
        return TT_STYLE_PLAIN;
    }
}

/* Appends a key to the path. A key that is no text, or too long, makes a path that names nothing.
 */
static void extend_path(loader *l, const yaml_event_t *key)
{
    char shown[64];
    size_t used = strlen(l->path);
    const char *text = (const char *)key->data.scalar.value;
    size_t length = key->data.scalar.length;
    bool plain = length < 40 && memchr(text, '\0', length) == NULL;
    tt_value_show(text, length, shown);
    snprintf(l->path + used, sizeof(l->path) - used, "%s%s", used > 0 ? "." : "",
             plain ? text : shown);
}

static void add_unknown(loader *l, int line, const char *kind)
{
    char shown[64];
    const char *near = tt_params_suggest(l->params, l->path);
    tt_value_show(l->path, strlen(l->path), shown);
    if (near != NULL)
        tt_problems_add(&l->problems, "%s:%d: unknown %s '%s'; did you mean '%s'?", l->name, line,
                        kind, shown, near);
    else
        tt_problems_add(&l->problems, "%s:%d: unknown %s '%s'; see the list of parameters", l->name,
                        line, kind, shown);
}

/* True, and noted, if what `slot` stands for was there before. */
static bool is_duplicate(loader *l, size_t slot, int line)
{
    if (l->seen[slot] != 0)
        tt_problems_add(&l->problems, "%s:%d: '%s' is already there in line %d; keep one of them",
                        l->name, line, l->path, l->seen[slot]);
    bool duplicate = l->seen[slot] != 0;
    l->seen[slot] = line;
    return duplicate;
}

static size_t section_slot(const loader *l)
{
    size_t i = 0;
    while (strcmp(l->params->sections[i], l->path) != 0)
        i++;
    return l->params->count + i;
}

static tt_status take_value(loader *l, size_t index, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    char *origin = NULL;
    char *place = NULL;
    tt_status status = TT_OK;
    if (asprintf(&origin, "%s:%d", l->name, line_of(event)) < 0)
        origin = NULL;
    if (origin == NULL || asprintf(&place, "%s: ", origin) < 0)
        place = NULL;
    size_t before = l->batch->count;
    if (place == NULL)
        status = tt_fail(TT_ENOMEM, "%s: no memory to read it", l->name);
    else
        status = tt_batch_add(l->batch, l->params, index, l->source, text, length, style_of(event),
                              origin, place, &l->problems);
    if (status == TT_OK && l->batch->count > before)
        status = read_origin(l, event);
    free(place);
    free(origin);
    return status;
}

static tt_status read_mapping(loader *l);

/* One value, whose path is complete and whose first event is `event`. */
static tt_status read_value(loader *l, int line, const yaml_event_t *event)
{
    int index = tt_params_index(l->params, l->path, strlen(l->path));
    bool section = tt_params_is_section(l->params, l->path);
    bool mapping = event->type == YAML_MAPPING_START_EVENT;
    if (index < 0 && !section) {
        add_unknown(l, line, mapping ? "section" : "key");
        return skip(l, event);
    }
    if (refuse_feature(l, event))
        return skip(l, event);
    if (is_duplicate(l, section ? section_slot(l) : (size_t)index, line))
        return skip(l, event);
    if (section && mapping)
        return read_mapping(l);
    if (index >= 0 && !mapping)
        return take_value(l, (size_t)index, event);
    if (section)
        tt_problems_add(&l->problems,
                        "%s:%d: '%s' is a section, not a value; put its keys below it, indented",
                        l->name, line, l->path);
    else
        tt_problems_add(&l->problems,
                        "%s:%d: '%s' is a value (%s), not a section; write one value, as in %s",
                        l->name, line, l->path, tt_type_name(l->params->sorted[index]->type),
                        l->params->sorted[index]->default_text);
    return skip(l, event);
}

/* A key (already read) and its value. */
static tt_status read_pair(loader *l, const yaml_event_t *key)
{
    if (refuse_feature(l, key) || key->type != YAML_SCALAR_EVENT) {
        if (key->type == YAML_MAPPING_START_EVENT)
            tt_problems_add(&l->problems, "%s:%d: a key is a mapping; write a name", l->name,
                            line_of(key));
        tt_status status = skip(l, key);
        yaml_event_t value;
        if (status == TT_OK)
            status = next_event(l, &value);
        if (status != TT_OK)
            return status;
        status = skip(l, &value);
        yaml_event_delete(&value);
        return status;
    }
    size_t used = strlen(l->path);
    extend_path(l, key);
    yaml_event_t value;
    tt_status status = next_event(l, &value);
    if (status == TT_OK) {
        status = read_value(l, line_of(key), &value);
        yaml_event_delete(&value);
    }
    l->path[used] = '\0';
    return status;
}

/* The pairs of a mapping whose start was read, up to and with its end. */
static tt_status read_mapping(loader *l)
{
    for (;;) {
        yaml_event_t key;
        tt_status status = next_event(l, &key);
        if (status != TT_OK)
            return status;
        bool ended = key.type == YAML_MAPPING_END_EVENT;
        if (!ended)
            status = read_pair(l, &key);
        yaml_event_delete(&key);
        if (status != TT_OK || ended)
            return status;
        if (tt_problems_full(&l->problems))
            return TT_ECONFIG;
    }
}

/* ---- a document --------------------------------------------------------------------------- */

static bool is_empty_scalar(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 &&
           style_of(event) == TT_STYLE_PLAIN;
}

static tt_status read_root(loader *l, const yaml_event_t *event)
{
    if (refuse_feature(l, event))
        return TT_ECONFIG;
    if (is_empty_scalar(event))
        return TT_OK;
    if (event->type == YAML_MAPPING_START_EVENT)
        return read_mapping(l);
    tt_problems_add(&l->problems, "%s:%d: the text holds no keys; write 'key: value' lines",
                    l->name, line_of(event));
    return TT_ECONFIG;
}

/* TT_ECONFIG: a problem was noted. */
static tt_status read_stream(loader *l)
{
    int documents = 0;
    for (bool more = true; more;) {
        yaml_event_t event;
        tt_status status = next_event(l, &event);
        if (status != TT_OK)
            return status;
        if (event.type == YAML_DOCUMENT_START_EVENT && ++documents > 1) {
            tt_problems_add(&l->problems, "%s:%d: a second document begins; keep one", l->name,
                            line_of(&event));
            status = TT_ECONFIG;
        } else if (event.type == YAML_DOCUMENT_START_EVENT &&
                   (event.data.document_start.version_directive != NULL ||
                    event.data.document_start.tag_directives.start !=
                        event.data.document_start.tag_directives.end)) {
            tt_problems_add(&l->problems, "%s:%d: a directive (%%) is not supported; remove it",
                            l->name, line_of(&event));
            status = TT_ECONFIG;
        } else if (event.type != YAML_STREAM_START_EVENT &&
                   event.type != YAML_DOCUMENT_START_EVENT &&
                   event.type != YAML_DOCUMENT_END_EVENT && event.type != YAML_STREAM_END_EVENT) {
            status = read_root(l, &event);
        }
        more = status == TT_OK && event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (status != TT_OK)
            return status;
    }
    return TT_OK;
}

tt_status tt_yaml_load(const tt_params *params, tt_source source, const char *name,
                       const char *text, size_t bytes, bool with_origins, tt_batch *batch)
{
    tt_status status = tt_yaml_check(name, &text, &bytes);
    if (status != TT_OK)
        return status;
    loader l = {.params = params,
                .source = source,
                .name = name,
                .batch = batch,
                .with_origins = with_origins,
                .line_start = text,
                .end = text + bytes};
    l.seen = calloc(params->count + params->section_count, sizeof(l.seen[0]));
    if (l.seen == NULL)
        return tt_fail(TT_ENOMEM, "%s: no memory to read it", name);
    if (!yaml_parser_initialize(&l.parser)) {
        free(l.seen);
        return tt_fail(TT_ENOMEM, "%s: no memory to read it", name);
    }
    tt_problems_init(&l.problems);
    yaml_parser_set_encoding(&l.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&l.parser, (const unsigned char *)text, bytes);
    status = read_stream(&l);
    tt_status wrong = tt_problems_finish(&l.problems);
    yaml_parser_delete(&l.parser);
    free(l.seen);
    return status == TT_OK || status == TT_ECONFIG ? wrong : status;
}

/* ---- sources ------------------------------------------------------------------------------ */

tt_status tt_config_load_text(tt_config *config, tt_source source, const char *name,
                              const char *text, size_t bytes)
{
    if (source < TT_SOURCE_FILE || source > TT_SOURCE_COMMAND)
        return tt_fail(TT_EINVAL, "%s: a text cannot be loaded as %s", name,
                       tt_source_name(source));
    tt_batch batch;
    tt_batch_init(&batch);
    tt_status status = tt_yaml_load(config->params, source, name, text, bytes,
                                    source == TT_SOURCE_CHECKPOINT, &batch);
    if (status == TT_OK)
        status = tt_config_take(config, &batch);
    tt_batch_clear(&batch);
    return status;
}

/* Reads what there is, but not more than one byte over the limit. */
static tt_status read_all(int file, const char *path, char *text, size_t *bytes)
{
    *bytes = 0;
    while (*bytes <= TT_YAML_MAX_BYTES) {
        ssize_t got = read(file, text + *bytes, TT_YAML_MAX_BYTES + 1 - *bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tt_fail_errno(errno, "%s: cannot be read", path);
        if (got == 0)
            return TT_OK;
        *bytes += (size_t)got;
    }
    return TT_OK;
}

tt_status tt_config_load_file(tt_config *config, const char *path)
{
    struct stat facts;
    size_t bytes = 0;
    char *text = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file < 0)
        return tt_fail_errno(errno, "%s: cannot be opened", path);
    tt_status status = TT_OK;
    if (fstat(file, &facts) == 0 && S_ISDIR(facts.st_mode)) {
        status = tt_fail(TT_ECONFIG, "%s: is a directory; name a YAML file", path);
        goto out;
    }
    text = malloc(TT_YAML_MAX_BYTES + 1);
    if (text == NULL) {
        status = tt_fail(TT_ENOMEM, "%s: no memory to read it", path);
        goto out;
    }
    status = read_all(file, path, text, &bytes);
    if (status == TT_OK)
        status = tt_config_load_text(config, TT_SOURCE_FILE, path, text, bytes);
out:
    free(text);
    close(file);
    return status;
}
