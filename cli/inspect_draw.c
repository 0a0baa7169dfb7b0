/* A checkpoint's page for people. All text in it comes from a file and is made safe. */
#include "inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_text(tt_text *out, const json_t *value)
{
    if (json_is_string(value)) {
        cli_add_safe(out, json_string_value(value), json_string_length(value), false);
    }
}

enum { LONGEST_VALUE = 160 };

/* What has no short form, cut: --json has all of it. */
static void add_compact(tt_text *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6));
    size_t length = text ? strlen(text) : 0;
    bool cut = length > LONGEST_VALUE;
    cli_add_safe(out, text ? text : "", cut ? LONGEST_VALUE : length, false);
    tt_text_add(out, cut ? " ..." : "");
    free(text);
}

static void add_scalar(tt_text *out, const json_t *value)
{
    char number[32];
    if (json_is_string(value)) {
        add_text(out, value);
    } else if (json_is_integer(value)) {
        tt_text_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        tt_text_add(out, cli_number(json_real_value(value), number));
    } else if (json_is_boolean(value)) {
        tt_text_add(out, json_is_true(value) ? "yes" : "no");
    } else if (json_is_array(value) || json_is_object(value)) {
        add_compact(out, value);
    } else {
        tt_text_add(out, "none");
    }
}

/* Any value in short: objects as "key value, key value". */
static void add_value(tt_text *out, const json_t *value)
{
    const char *key;
    const json_t *member;
    bool first = true;
    if (!json_is_object(value)) {
        add_scalar(out, value);
        return;
    }
    json_object_foreach((json_t *)value, key, member)
    {
        tt_text_add(out, first ? "" : ", ");
        cli_add_safe(out, key, strlen(key), false);
        tt_text_add(out, " ");
        add_scalar(out, member);
        first = false;
    }
}

static void add_field(tt_text *out, const char *name, const json_t *value)
{
    tt_text_addf(out, "%-13s ", name);
    add_value(out, value);
    tt_text_add(out, "\n");
}

/* ---- head ---- */

static void draw_head(const json_t *header, tt_text *out)
{
    char number[32];
    const char *parent = json_string_value(json_object_get(header, "parent_sha256"));
    add_field(out, "checkpoint", json_object_get(header, "path"));
    tt_text_addf(out, "%-13s ", "run");
    add_text(out, json_object_get(header, "run_id"));
    tt_text_addf(out, ", step %s\n",
                 cli_count(json_integer_value(json_object_get(header, "step")), number));
    tt_text_addf(
        out, "%-13s %s, intact\n", "payload",
        cli_bytes((double)json_integer_value(json_object_get(header, "payload_bytes")), number));
    add_field(out, "digest", json_object_get(header, "header_sha256"));
    tt_text_addf(out, "%-13s %s\n", "descends from", parent && *parent ? parent : "nothing");
}

static void draw_build(const json_t *record, tt_text *out)
{
    const json_t *build = json_object_get(record, "build");
    const json_t *machine = json_object_get(record, "machine");
    if (json_is_object(build)) {
        tt_text_addf(out, "%-13s trimtab ", "made by");
        add_text(out, json_object_get(build, "version"));
        tt_text_add(out, ", commit ");
        add_text(out, json_object_get(build, "commit"));
        tt_text_add(out, ", ");
        add_text(out, json_object_get(build, "compiler"));
        tt_text_add(out, ", ");
        add_text(out, json_object_get(build, "flags"));
        tt_text_add(out, "\n");
    }
    if (json_is_object(machine)) {
        tt_text_addf(out, "%-13s ", "machine");
        add_text(out, json_object_get(machine, "cpu"));
        tt_text_add(out, ", ");
        add_value(out, json_object_get(machine, "threads_available"));
        tt_text_add(out, " threads, ");
        add_text(out, json_object_get(machine, "system"));
        tt_text_add(out, " ");
        add_text(out, json_object_get(machine, "kernel"));
        tt_text_add(out, "\n");
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json_object_get(record, "facts"), key, value)
    {
        add_field(out, key, value);
    }
}

/* ---- tensors ---- */

static void shape_text(const json_t *shape, char out[96])
{
    size_t used = 0;
    size_t index;
    const json_t *dim;
    snprintf(out, 96, "scalar");
    json_array_foreach((json_t *)shape, index, dim)
    {
        int wrote = snprintf(out + used, 96 - used, "%s%" JSON_INTEGER_FORMAT, index ? "x" : "",
                             json_integer_value(dim));
        used += wrote > 0 ? (size_t)wrote : 0;
        if (used >= 96) {
            return;
        }
    }
}

static size_t widest_name(const json_t *tensors)
{
    size_t widest = strlen("tensor");
    size_t index;
    const json_t *tensor;
    json_array_foreach((json_t *)tensors, index, tensor)
    {
        size_t length = json_string_length(json_object_get(tensor, "name"));
        widest = length > widest ? length : widest;
    }
    return widest;
}

static const char *magnitude(const json_t *value, char out[32])
{
    return json_is_null(value) ? "-" : cli_number(json_number_value(value), out);
}

static void draw_tensors(const json_t *tensors, tt_text *out)
{
    int width = (int)widest_name(tensors);
    int64_t elements = 0;
    int64_t bytes = 0;
    int64_t nonfinite = 0;
    size_t index;
    const json_t *tensor;
    tt_text_addf(out, "\n%-*s  %-5s %-16s %11s %11s  %s\n", width, "tensor", "type", "shape",
                 "L2 norm", "max |x|", "NaN/inf");
    json_array_foreach((json_t *)tensors, index, tensor)
    {
        char shape[96];
        char norm[32];
        char largest[32];
        int64_t bad = json_integer_value(json_object_get(tensor, "nonfinite"));
        shape_text(json_object_get(tensor, "shape"), shape);
        tt_text_addf(out, "%-*s  %-5s %-16s %11s %11s  %" PRId64 "\n", width,
                     json_string_value(json_object_get(tensor, "name")),
                     json_string_value(json_object_get(tensor, "dtype")), shape,
                     magnitude(json_object_get(tensor, "l2"), norm),
                     magnitude(json_object_get(tensor, "max_abs"), largest), bad);
        elements += json_integer_value(json_object_get(tensor, "elements"));
        bytes += json_integer_value(json_object_get(tensor, "bytes"));
        nonfinite += bad;
    }
    char count[32];
    char size[32];
    tt_text_addf(out, "%zu tensors, %s elements, %s, %s\n", json_array_size(tensors),
                 cli_count(elements, count), cli_bytes((double)bytes, size),
                 nonfinite ? "some of them not finite" : "all finite");
}

/* ---- configuration, gates, decisions ---- */

/* As it is kept: YAML, with each value's origin as a comment. */
static void draw_config(const json_t *yaml, tt_text *out)
{
    tt_text_add(out, "\nconfiguration\n");
    const char *line = json_string_value(yaml);
    while (line && *line) {
        size_t length = strcspn(line, "\n");
        if (*line != '#') {
            tt_text_add(out, "  ");
            cli_add_safe(out, line, length, false);
            tt_text_add(out, "\n");
        }
        line += length + (line[length] == '\n');
    }
}

static void draw_gates(const json_t *counts, tt_text *out)
{
    const char *key;
    const json_t *value;
    if (json_object_size(counts) == 0) {
        return;
    }
    tt_text_addf(out, "\n%-20s %12s %8s\n", "gate", "evaluations", "trips");
    json_object_foreach((json_t *)counts, key, value)
    {
        tt_text name;
        tt_text_init(&name);
        cli_add_safe(&name, key, strlen(key), false);
        tt_text_addf(out, "%-20s %12" JSON_INTEGER_FORMAT " %8" JSON_INTEGER_FORMAT "\n", name.data,
                     json_integer_value(json_object_get(value, "evaluations")),
                     json_integer_value(json_object_get(value, "trips")));
        tt_text_clear(&name);
    }
}

static bool is_shown_elsewhere(const char *key)
{
    static const char *const keys[] = {"kind", "attempt", "step", "run_id", "time"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_empty(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static void draw_decision(const json_t *decision, tt_text *out)
{
    const char *key;
    const json_t *value;
    bool first = true;
    tt_text_add(out, "  step ");
    add_value(out, json_object_get(decision, "step"));
    tt_text_add(out, ", attempt ");
    add_value(out, json_object_get(decision, "attempt"));
    tt_text_add(out, ": ");
    add_text(out, json_object_get(decision, "kind"));
    json_object_foreach((json_t *)decision, key, value)
    {
        if (is_shown_elsewhere(key) || is_empty(value)) {
            continue;
        }
        tt_text_add(out, first ? " (" : ", ");
        cli_add_safe(out, key, strlen(key), false);
        tt_text_add(out, " ");
        if (strcmp(key, "evidence") == 0) {
            add_compact(out, value);
        } else {
            add_value(out, value);
        }
        first = false;
    }
    tt_text_add(out, first ? "\n" : ")\n");
}

void cli_inspect_draw(const json_t *root, tt_text *out)
{
    const json_t *decisions = json_object_get(root, "decisions");
    const json_t *state = json_object_get(root, "state");
    size_t index;
    const json_t *decision;
    draw_head(json_object_get(root, "checkpoint"), out);
    draw_build(json_object_get(root, "reproducibility"), out);
    draw_tensors(json_object_get(root, "tensors"), out);
    draw_config(json_object_get(root, "config_yaml"), out);
    draw_gates(json_object_get(state, "gate_counts"), out);
    tt_text_add(out, "\ndecisions\n");
    json_array_foreach((json_t *)decisions, index, decision)
    {
        draw_decision(decision, out);
    }
}
