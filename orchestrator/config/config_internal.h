/* config/config_internal.h: what the files of this folder share. */
#ifndef TRIMTAB_CONFIG_INTERNAL_H
#define TRIMTAB_CONFIG_INTERNAL_H

#include "config/value.h"

enum {
    TT_KEY_BYTES = 96,               /* a key with its NUL; what tt_nearest_word compares */
    TT_LADDER_BYTES = 64,            /* a ladder's choices with a NUL */
    TT_YAML_MAX_BYTES = 1024 * 1024, /* of a file */
    TT_YAML_MAX_DEPTH = 32,
};

/* ---- the parameter table ------------------------------------------------------------------ */

struct tt_params {
    const tt_param **sorted; /* by key */
    const char **keys;       /* the same order: candidates for tt_nearest_word */
    size_t count;
    char **sections; /* "kernels", "gates.loss", each once, sorted */
    size_t section_count;
    const tt_preset **presets;
    size_t preset_count;
    const tt_rule **rules;
    size_t rule_count;
    const tt_advice **advice;
    size_t advice_count;
    tt_param preset;      /* the parameter `preset` */
    char *preset_choices; /* "none|..." */
};

/* The index of a key of `length` bytes, or -1. */
int tt_params_index(const tt_params *params, const char *key, size_t length);
bool tt_params_is_section(const tt_params *params, const char *name);
/* `array` of pointers with room for `count` of them; NULL, and the old one as it was, if there is
 * no memory. */
void *tt_grow_pointers(void *array, size_t count);
/* A known key or section near to `name`, or NULL. */
const char *tt_params_suggest(const tt_params *params, const char *name);

/* ---- problems ----------------------------------------------------------------------------- */

/* The wrong keys of one source, gathered into one message. */
typedef struct tt_problems {
    tt_text text;
    size_t count;
} tt_problems;

void tt_problems_init(tt_problems *problems);
/* The first five are kept. */
void tt_problems_add(tt_problems *problems, const char *format, ...) TT_PRINTF(2, 3);
bool tt_problems_full(const tt_problems *problems);
/* Frees; TT_ECONFIG with the message if there were any. */
tt_status tt_problems_finish(tt_problems *problems);

/* ---- settings ----------------------------------------------------------------------------- */

/* One value from one place. All strings are owned. */
typedef struct tt_setting {
    tt_source source;
    tt_value value;
    char *text;      /* what value.as.string points at, or NULL */
    char *origin;    /* "a.yaml:12" */
    char *was;       /* CHECKPOINT: its origin in the run that wrote the checkpoint, or NULL */
    bool was_pinned; /* CHECKPOINT, with `was` */
} tt_setting;

/* All values given for one parameter, in precedence order: the last one wins. */
typedef struct tt_settings {
    tt_setting *items;
    size_t count;
} tt_settings;

struct tt_config {
    const tt_params *params;
    tt_settings *of; /* per parameter, in the table's order */
    size_t count;
    int version;
};

/* Values read from a source, not yet part of a configuration: a source takes effect as a whole or
 * not at all. */
typedef struct tt_batch {
    size_t *params;
    tt_setting *settings;
    size_t count;
    size_t capacity;
} tt_batch;

void tt_setting_clear(tt_setting *setting);
tt_status tt_setting_copy(const tt_setting *from, tt_setting *to);
const char *tt_source_name(tt_source source);

void tt_batch_init(tt_batch *batch);
void tt_batch_clear(tt_batch *batch);
/* Parses `text` as a value of parameter `index` and adds it. What is wrong with the text goes to
 * `problems` behind `place` ("a.yaml:3: "); the status is about memory only. */
tt_status tt_batch_add(tt_batch *batch, const tt_params *params, size_t index, tt_source source,
                       const char *text, size_t length, tt_style style, const char *origin,
                       const char *place, tt_problems *problems);
/* Whether the batch holds a value of the parameter; its place in the batch. */
bool tt_batch_find(const tt_batch *batch, size_t index, size_t *at);

/* Moves everything of the batch into the configuration (and applies the preset anew). */
tt_status tt_config_take(tt_config *config, tt_batch *batch);
/* TT_SOURCE_RUN replaces the last such value; every other source adds one. Takes the strings. */
tt_status tt_config_put(tt_config *config, size_t index, tt_setting *setting);
const tt_setting *tt_config_winner(const tt_config *config, size_t index);
/* The value a user set, now or (by the checkpoint's account) before; NULL if none did, or to
 * `auto`. */
const tt_setting *tt_config_pin(const tt_config *config, size_t index);
/* NULL if there is no memory. */
tt_config *tt_config_copy(const tt_config *from);
/* Puts the values of the preset in force between the defaults and the file. */
tt_status tt_config_apply_preset(tt_config *config);

/* ---- YAML --------------------------------------------------------------------------------- */

/* One linear pass before libyaml sees the text: size, UTF-8, control characters, tabs, nesting.
 * `text` and `bytes` are moved past a byte order mark. */
tt_status tt_yaml_check(const char *name, const char **text, size_t *bytes);

/* Reads the text into `batch`. With `with_origins` the comments of write_yaml are read too, as the
 * values' first origins. */
tt_status tt_yaml_load(const tt_params *params, tt_source source, const char *name,
                       const char *text, size_t bytes, bool with_origins, tt_batch *batch);

/* The two words that write_yaml puts before an origin. */
#define TT_ORIGIN_FROM   "from "
#define TT_ORIGIN_PINNED "pinned by "

#endif
