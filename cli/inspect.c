#include "inspect.h"

#include "settings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *gather_header(const tt_store *store, const char *path)
{
    const tt_store_header *header = tt_store_get_header(store);
    json_t *out = json_object();
    json_object_set_new(out, "path", cli_json_text(path, strlen(path)));
    json_object_set_new(out, "version", json_integer(header->version));
    json_object_set_new(out, "run_id", cli_json_text(header->run_id, strlen(header->run_id)));
    json_object_set_new(out, "step", json_integer(header->step));
    json_object_set_new(out, "parent_sha256", json_string(header->parent_sha256));
    json_object_set_new(out, "payload_bytes", json_integer(header->payload_bytes));
    json_object_set_new(out, "payload_sha256", json_string(header->payload_sha256));
    json_object_set_new(out, "header_sha256", json_string(header->header_sha256));
    return out;
}

/* ---- tensors ---- */

typedef struct measures {
    double scale, sum; /* the sum of squares is scale^2 x sum: no overflow, no underflow */
    double max_abs;
    int64_t nonfinite;
} measures;

/* Norm of the finite elements (as LAPACK's dlassq). */
static void measure_block(measures *m, const double *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double x = fabs(values[i]);
        if (!isfinite(x)) {
            m->nonfinite++;
        } else if (x > m->scale) {
            double ratio = m->scale / x;
            m->sum = 1 + m->sum * ratio * ratio;
            m->scale = x;
        } else if (x > 0) {
            m->sum += (x / m->scale) * (x / m->scale);
        }
    }
    m->max_abs = m->scale;
}

static tt_status measure(const tt_store *store, const tt_store_entry *entry, measures *out)
{
    *out = (measures){0};
    void *raw = malloc(CLI_BLOCK_BYTES);
    double *values = malloc(CLI_BLOCK * sizeof *values);
    if (!raw || !values) {
        free(raw);
        free(values);
        return tt_fail(TT_ENOMEM, "no memory for a block of %s", entry->path);
    }
    tt_status status = TT_OK;
    int64_t elements = cli_element_count(entry);
    for (int64_t first = 0; !status && first < elements; first += CLI_BLOCK) {
        size_t count = elements - first < CLI_BLOCK ? (size_t)(elements - first) : CLI_BLOCK;
        status = cli_read_elements(store, entry, first, count, raw, values);
        if (!status) {
            measure_block(out, values, count);
        }
    }
    free(raw);
    free(values);
    return status;
}

/* Of the codes of a codec neither norm nor size means anything. */
static json_t *magnitude(const tt_store_entry *entry, double value)
{
    const tt_dtype type = cli_element_type(entry);
    const bool real = type == TT_F32 || type == TT_F64 || type == TT_BF16;
    return real ? cli_json_number(value) : json_null();
}

static tt_status gather_entry(const tt_store *store, const tt_store_entry *entry, json_t *list)
{
    measures m;
    const char *name;
    tt_status status = measure(store, entry, &m);
    if (status) {
        return status;
    }
    cli_is_tensor(entry, &name);
    json_t *shape = json_array();
    for (int i = 0; i < entry->rank; i++) {
        json_array_append_new(shape, json_integer(entry->dims[i]));
    }
    json_t *one = json_object();
    json_object_set_new(one, "name", cli_json_text(name, strlen(name)));
    json_object_set_new(one, "dtype", json_string(tt_dtype_name(cli_element_type(entry))));
    json_object_set_new(one, "shape", shape);
    json_object_set_new(one, "elements", json_integer(cli_element_count(entry)));
    json_object_set_new(one, "bytes", json_integer(entry->bytes));
    json_object_set_new(one, "offset", json_integer(entry->file_offset));
    json_object_set_new(one, "l2", magnitude(entry, m.scale * sqrt(m.sum)));
    json_object_set_new(one, "max_abs", magnitude(entry, m.max_abs));
    json_object_set_new(one, "nonfinite", json_integer(m.nonfinite));
    json_array_append_new(list, one);
    return TT_OK;
}

static tt_status gather_tensors(const tt_store *store, json_t *tensors, json_t *others)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < tt_store_entry_count(store); i++) {
        const tt_store_entry *entry = tt_store_entry_at(store, i);
        const char *name;
        if (cli_is_tensor(entry, &name)) {
            status = gather_entry(store, entry, tensors);
            continue;
        }
        json_t *one = json_object();
        json_object_set_new(one, "path", cli_json_text(entry->path, strlen(entry->path)));
        json_object_set_new(one, "dtype", json_string(tt_dtype_name(entry->dtype)));
        json_object_set_new(one, "bytes", json_integer(entry->bytes));
        json_object_set_new(one, "offset", json_integer(entry->file_offset));
        json_array_append_new(others, one);
    }
    return status;
}

/* ---- what describes them ---- */

/* A JSON dataset, or null where there is none. */
static tt_status gather_json(const tt_store *store, const char *path, json_t **out)
{
    *out = NULL;
    if (!tt_store_find(store, path)) {
        *out = json_null();
        return TT_OK;
    }
    tt_text text;
    json_error_t error;
    tt_text_init(&text);
    tt_status status = tt_store_read_text(store, path, &text);
    if (!status) {
        *out = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, &error);
        if (!*out) {
            status = tt_fail(TT_ECORRUPT, "%s does not parse: %s", path, error.text);
        }
    }
    tt_text_clear(&text);
    return status;
}

static json_t *json_of_value(tt_value value)
{
    if (value.is_auto) {
        return json_string("auto");
    }
    switch (value.type) {
    case TT_TYPE_BOOL:
        return json_boolean(value.as.boolean);
    case TT_TYPE_INT:
        return json_integer(value.as.integer);
    case TT_TYPE_FLOAT:
        return cli_json_number(value.as.real);
    case TT_TYPE_STRING:
    case TT_TYPE_ENUM:
        return cli_json_text(value.as.string, strlen(value.as.string));
    }
    return json_null();
}

/* A value that came by a checkpoint has its first origin in parentheses. */
static json_t *json_of_origin(const char *origin, const char *name)
{
    size_t length = strlen(origin);
    size_t prefix = strlen(name);
    if (length > prefix + 3 && strncmp(origin, name, prefix) == 0 &&
        strncmp(origin + prefix, " (", 2) == 0 && origin[length - 1] == ')') {
        return cli_json_text(origin + prefix + 2, length - prefix - 3);
    }
    return cli_json_text(origin, length);
}

/* Key by key as this program's parameters know them; null where they do not. */
static json_t *parse_config(const tt_text *yaml)
{
    static const char name[] = "checkpoint";
    cli_settings settings;
    json_t *out = NULL;
    tt_status status = cli_settings_create(&settings);
    if (!status) {
        status = tt_config_resume_from(settings.config, name, yaml->data, yaml->length, NULL, NULL);
    }
    if (status) {
        tt_error_clear();
    } else {
        out = json_object();
        for (size_t i = 0; i < tt_params_count(settings.params); i++) {
            const char *key = tt_params_at(settings.params, i)->key;
            json_t *one = json_object();
            json_object_set_new(one, "value", json_of_value(tt_config_get(settings.config, key)));
            json_object_set_new(one, "origin",
                                json_of_origin(tt_config_origin(settings.config, key), name));
            json_object_set_new(out, key, one);
        }
    }
    cli_settings_clear(&settings);
    return out ? out : json_null();
}

static tt_status gather_config(const tt_store *store, json_t *root)
{
    tt_text yaml;
    tt_text_init(&yaml);
    tt_status status = TT_OK;
    if (tt_store_find(store, "/meta/config.yaml")) {
        status = tt_store_read_text(store, "/meta/config.yaml", &yaml);
    }
    if (!status) {
        json_object_set_new(root, "config", yaml.length ? parse_config(&yaml) : json_null());
        json_object_set_new(root, "config_yaml", cli_json_text(yaml.data, yaml.length));
    }
    tt_text_clear(&yaml);
    return status;
}

tt_status cli_inspect_gather(const tt_store *store, const char *path, json_t **out)
{
    static const char *const documents[][2] = {
        {"state", "/meta/state.json"},
        {"reproducibility", "/meta/reproducibility.json"},
        {"decisions", "/meta/decisions.json"},
    };
    json_t *root = json_object();
    json_t *tensors = json_array();
    json_t *others = json_array();
    json_object_set_new(root, "checkpoint", gather_header(store, path));
    json_object_set_new(root, "tensors", tensors);
    json_object_set_new(root, "other_datasets", others);
    tt_status status = gather_tensors(store, tensors, others);
    for (size_t i = 0; !status && i < sizeof documents / sizeof *documents; i++) {
        json_t *document = NULL;
        status = gather_json(store, documents[i][1], &document);
        if (!status) {
            json_object_set_new(root, documents[i][0], document);
        } else {
            status = tt_fail_in(status, "%s", path);
        }
    }
    if (!status) {
        status = gather_config(store, root);
    }
    if (status) {
        json_decref(root);
        root = NULL;
    }
    *out = root;
    return status;
}
