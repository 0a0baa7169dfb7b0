/* The resolver on a configuration. */
#include "resolve/collect.h"

#include <inttypes.h>
#include <stdio.h>

void tt_resolve_options_init(tt_resolve_options *options)
{
    *options = (tt_resolve_options){.size = sizeof(*options)};
}

/* A value of the resolver as a user would write it. */
static const char *show(const tt_resolve_key *key, int64_t value, char out[32])
{
    if (key->value_names != NULL)
        return key->value_names[value];
    snprintf(out, 32, "%" PRId64, value);
    return out;
}

/* What a user set and does not get. */
static tt_status report_pins(const tt_collection *c, const tt_resolution *resolution)
{
    for (size_t k = 0; k < c->key_count; k++) {
        const tt_resolve_key *key = &c->keys[k];
        char asked[32];
        char given[32];
        if (!resolution->moved[k] || !key->pinned)
            continue;
        if (c->options->strict)
            return tt_fail(TT_ECONFIG,
                           "%s: %s %s is not possible, the nearest legal value is %s (--strict "
                           "refuses to move it)",
                           key->origin, key->name, show(key, key->request, asked),
                           show(key, resolution->values[k], given));
        tt_log(c->options->log, TT_LOG_WARN,
               "%s: %s %s is not possible, using the nearest legal value %s", key->origin,
               key->name, show(key, key->request, asked), show(key, resolution->values[k], given));
    }
    return TT_OK;
}

static tt_status derive_moves(const tt_config *config, const tt_collection *c,
                              const tt_resolution *resolution, tt_config **out)
{
    tt_config *derived = NULL;
    for (size_t k = 0; k < c->key_count; k++) {
        const tt_resolve_key *key = &c->keys[k];
        tt_config *next = NULL;
        char text[32];
        if (!resolution->moved[k])
            continue;
        tt_status status =
            tt_config_derive(derived != NULL ? derived : config, key->name,
                             show(key, resolution->values[k], text), "resolver", &next);
        tt_config_destroy(derived);
        if (status != TT_OK)
            return status;
        derived = next;
    }
    *out = derived;
    return TT_OK;
}

tt_status tt_config_resolve(const tt_config *config, const tt_resolve_options *options,
                            tt_config **out, tt_text *trace)
{
    tt_collection collection;
    tt_resolution resolution;
    tt_status status = tt_collection_init(&collection, config, options);
    if (status == TT_OK)
        status = tt_resolve(collection.keys, collection.key_count, collection.rules,
                            collection.rule_count, &resolution, trace);
    if (status == TT_OK)
        status = report_pins(&collection, &resolution);
    if (status == TT_OK)
        status = derive_moves(config, &collection, &resolution, out);
    tt_collection_clear(&collection);
    return status;
}
