/* trimtab/config.h: parameters, where their values come from, and who yields when they conflict.
 *
 *   1. the parameter table, filled by the modules
 *   2. a configuration: sources, precedence, provenance
 *   3. the resolver: tile size, then compression block, then RLVR; rules and advice
 *
 * Strings stop at the parser: everything behind it asks for typed values by key, and a key that is
 * not in the table is a programmer's mistake (TT_EINTERNAL).
 */
#ifndef TRIMTAB_CONFIG_H
#define TRIMTAB_CONFIG_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. the parameter table --------------------------------------------------------------- */

typedef enum tt_type {
    TT_TYPE_BOOL = 1,
    TT_TYPE_INT,
    TT_TYPE_FLOAT,
    TT_TYPE_STRING,
    TT_TYPE_ENUM
} tt_type;

/* When a value may change. */
typedef enum tt_mutability {
    TT_MUTABLE_NEVER = 1, /* part of what the run is (dims, vocabulary, seed): refused on resume */
    TT_MUTABLE_AT_RESUME, /* a new value on resume is taken and recorded as a discontinuity */
    TT_MUTABLE_AT_STEP,   /* adaptation may move it at a step boundary */
} tt_mutability;

/* Precedence tiers, highest first. TT_TIER_NONE takes no part in resolution. */
typedef enum tt_tier { TT_TIER_NONE, TT_TIER_TILE, TT_TIER_COMPRESSION, TT_TIER_RLVR } tt_tier;

#define TT_LADDER_CHOICES 8

typedef struct tt_param {
    const char *key; /* "kernels.tile_m": lower-case words, `_` within and `.` between levels */
    tt_type type;
    bool may_be_auto;         /* "auto" lets the run (resolver, tuner, adaptation) choose */
    const char *unit;         /* "tokens", "steps", "bytes", "s"; "" if none */
    const char *default_text; /* as a user would write it; "auto" only with may_be_auto */
    double minimum, maximum;  /* inclusive; ignored for BOOL, STRING, ENUM; finite for INT */
    const char *choices;      /* ENUM: "adamw|sgd" */
    bool ladder;              /* an ENUM with a tier: its choices go from least memory to most, and
                                 the resolver may step along them; at most TT_LADDER_CHOICES */
    const int64_t *lattice;   /* ascending values of an INT, or NULL. With a tier the resolver moves
                                 other values onto it; without one they are errors */
    size_t lattice_count;
    bool memory_falls; /* with a lattice: larger values need less memory, not more */
    tt_mutability mutability;
    tt_tier tier;
    const char *owner; /* module that acts on it */
    const char *help;  /* one line */
} tt_param;

/* A named set of values between default and file in precedence. */
typedef struct tt_preset {
    const char *name;
    const char *help;               /* one line */
    const char *const (*values)[2]; /* {key, text} pairs */
    size_t value_count;
} tt_preset;

typedef struct tt_params tt_params;

/* Holds the parameter `preset` (owner "config", never changes) and nothing else. */
TT_API tt_status tt_params_create(tt_params **out);
TT_API void tt_params_destroy(tt_params *params);
/* The tables are borrowed and must outlive `params`; register them all before the first
 * configuration is made. TT_EINTERNAL for a duplicate key, a key that is also a section, or a
 * default that breaks its own bounds. */
TT_API tt_status tt_params_register(tt_params *params, const tt_param *table, size_t count);
TT_API tt_status tt_params_register_presets(tt_params *params, const tt_preset *table,
                                            size_t count);
/* Sorted by key. */
TT_API size_t tt_params_count(const tt_params *params);
TT_API const tt_param *tt_params_at(const tt_params *params, size_t index);
TT_API const tt_param *tt_params_find(const tt_params *params, const char *key);
/* The reference page: every parameter with type, unit, default, bounds, when it may change, owner,
 * help; then presets, rules and advice. Generated, so it is never out of date. */
TT_API tt_status tt_params_write_markdown(const tt_params *params, tt_text *out);
/* A table for a terminal of `columns` columns (0: 80). `prefix` (may be NULL) selects keys;
 * TT_EUSAGE if none begins with it. */
TT_API tt_status tt_params_write_list(const tt_params *params, const char *prefix, int columns,
                                      tt_text *out);

/* ---- 2. a configuration ------------------------------------------------------------------- */

/* How a value is written, in every source alike:
 *   int     decimal digits, perhaps a '-': 4096. No '+', leading 0, 0x, _, k, .0 or exponent.
 *   float   a decimal number: 0.05, 10, -1.5e-8. No nan, inf, .5 or 5. (in any locale a point).
 *   bool    true, false
 *   enum    one of its choices
 *   string  UTF-8 without control characters; in YAML plain or in quotes, elsewhere taken literally
 *   auto    where the parameter may be auto; "auto" in quotes is a string
 * In YAML only strings and enums may be in quotes, and null, an empty value and a block of text (|,
 * >) are errors. Bounds are checked at once. A source (file, environment, one assignment) takes
 * effect as a whole or, if anything in it is wrong, not at all. */

/* Sources, lowest precedence first. */
typedef enum tt_source {
    TT_SOURCE_DEFAULT,
    TT_SOURCE_PRESET,
    TT_SOURCE_FILE,
    TT_SOURCE_CHECKPOINT,  /* on resume: what the run was using; beats the file */
    TT_SOURCE_ENVIRONMENT, /* TRIMTAB_KERNELS__TILE_M=64 */
    TT_SOURCE_COMMAND,     /* --set kernels.tile_m=64, or an option that stands for a key */
    TT_SOURCE_RUN,         /* resolver, tuner or adaptation */
} tt_source;

typedef struct tt_value {
    bool is_auto; /* then the rest is meaningless */
    tt_type type;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *string; /* STRING and ENUM; owned by the configuration */
    } as;
} tt_value;

typedef struct tt_config tt_config;

/* Every parameter at its default. `params` is borrowed. TT_EINTERNAL for a preset that names no key
 * or breaks bounds. */
TT_API tt_status tt_config_create(const tt_params *params, tt_config **out);
TT_API void tt_config_destroy(tt_config *config);

/* YAML by libyaml's event API: at most 1 MiB, nesting at most 32 (checked before parsing), no
 * aliases, anchors, tags, duplicate keys or second documents; nested mappings make dotted keys.
 * Every error names file:line and what to write instead; an unknown key suggests the nearest.
 * All wrong keys of a file are reported at once in the message, separated by "; ", at most 5. */
TT_API tt_status tt_config_load_file(tt_config *config, const char *path);
TT_API tt_status tt_config_load_text(tt_config *config, tt_source source, const char *name,
                                     const char *text, size_t bytes);
/* TRIMTAB_<KEY IN CAPITALS, __ for .>; a TRIMTAB_ variable that names no key is an error that
 * suggests the nearest. Of a name given twice the first counts, as with getenv. */
TT_API tt_status tt_config_load_environment(tt_config *config, char *const *environment);
/* "a.b=c"; `origin` is how the user wrote it ("--set", "--data"). Of several for one key the last
 * counts. TT_EUSAGE for a missing '='; TT_EINVAL for the sources DEFAULT, PRESET and RUN;
 * TT_ECONFIG otherwise. */
TT_API tt_status tt_config_set(tt_config *config, tt_source source, const char *assignment,
                               const char *origin);

/* Typed reads of the winning value; asking with the wrong type or for an unknown key aborts with a
 * message in debug builds and returns 0/""/false otherwise. A value that is `auto` also reads as
 * 0/""/false: ask tt_config_is_auto first. */
TT_API tt_value tt_config_get(const tt_config *config, const char *key);
TT_API bool tt_config_bool(const tt_config *config, const char *key);
TT_API int64_t tt_config_int(const tt_config *config, const char *key);
TT_API double tt_config_float(const tt_config *config, const char *key);
TT_API const char *tt_config_string(const tt_config *config, const char *key);
TT_API bool tt_config_is_auto(const tt_config *config, const char *key);
/* True when a user (file, environment, command line) set it to something other than `auto`, also if
 * the resolver has moved it since. After a resume what the checkpoint says of this counts, unless
 * environment or command line set the key anew. */
TT_API bool tt_config_is_pinned(const tt_config *config, const char *key);
TT_API tt_source tt_config_source(const tt_config *config, const char *key);
/* Where the winning value came from: "default", "examples/a.yaml:12", "TRIMTAB_X__Y", "--set",
 * "tuner at step 0". */
TT_API const char *tt_config_origin(const tt_config *config, const char *key);

/* A new version with one value changed by the run itself; the old one stays as it is. `origin`:
 * "resolver", "tuner at step 0". Both must be destroyed. TT_ECONFIG for a value out of bounds and
 * for a TT_MUTABLE_NEVER key that is not `auto`. */
TT_API tt_status tt_config_derive(const tt_config *config, const char *key, const char *text,
                                  const char *origin, tt_config **out);
/* 1 for a fresh configuration, one more for each derivation. */
TT_API int tt_config_version(const tt_config *config);
/* SHA-256 over "key=value\n" of every key in order, values as tt_config_write_yaml writes them (not
 * over where they came from). */
TT_API tt_status tt_config_digest(const tt_config *config, char out[TT_SHA256_HEX]);

/* The winner with its place, then every loser, highest first; the parameter's help and bounds. */
TT_API tt_status tt_config_explain(const tt_config *config, const char *key, tt_text *out);
/* resolved.yaml: every value, nested, with its origin as a comment; loads back to the same values.
 * Also kept in checkpoints. The comment is "# from <origin>", or "# pinned by <origin>" where a
 * user set the value (", moved by <origin>" if the run had to): tt_config_resume_from reads it
 * again. */
TT_API tt_status tt_config_write_yaml(const tt_config *config, tt_text *out);
/* On resume, after file, environment and command line and before any derivation: compares with what
 * the checkpoint's run used (the text of tt_config_write_yaml) and takes the checkpoint's value
 * wherever environment and command line are silent; a file does not beat it. TT_ECONFIG, every key
 * named, if file, environment or command line change a TT_MUTABLE_NEVER key (`auto` is no change).
 * Every accepted change is appended to `changes` (may be NULL) as "key: old -> new (origin)\n".
 * Every value of a file that the checkpoint beats is a warning to `log` (may be NULL), which says
 * how to have it taken. Origins become "<name> (<first origin>)", and pins are those of the run
 * that was left. */
TT_API tt_status tt_config_resume_from(tt_config *config, const char *name, const char *yaml,
                                       size_t bytes, tt_text *changes, const tt_log_sink *log);

/* ---- 3. the resolver ----------------------------------------------------------------------
 *
 * Precedence order is tier first (tile, compression, RLVR), then position in the array. The nearest
 * value is the one with the least absolute difference from the request, and of two as near the
 * larger. An assignment gives every key a value of its lattice; it is legal if every rule holds.
 *
 *   1. Pinned keys, in precedence order: each one whose request is on its lattice is kept there if
 *      some legal assignment keeps it together with those kept before. An unpinned key, even of a
 *      higher tier, therefore moves before a pinned one does.
 *   2. Then every key in precedence order takes the value nearest to its request for which, the
 * keys before it being set, some legal assignment exists. What lower keys ask for plays no part.
 *
 * Memory needs no rule of its own: a key gives way to a memory rule only if no legal choice of the
 * keys after it makes it fit, so RLVR keys go down to their lowest legal values first (the last in
 * position first of all), then compression, then tile; and what room is left when a coarse step has
 * been taken goes to the keys after it again. That is the only case in which a higher tier moves
 * for what a lower one needs, other than for a pin.
 *
 * It follows that the result as a request resolves to itself, and that it depends on nothing but
 * the arguments. The search is exact; it is exponential only in adversarial rule sets.
 */

#define TT_RESOLVE_MAX_KEYS   16
#define TT_RESOLVE_MAX_VALUES 64 /* of one key */
#define TT_RESOLVE_MAX_RULES  64

/* One key with its finite ordered lattice. */
typedef struct tt_resolve_key {
    const char *name;
    const int64_t *values; /* ascending, at least one */
    size_t value_count;
    int64_t request;    /* need not be on the lattice */
    tt_tier tier;       /* not TT_TIER_NONE */
    bool pinned;        /* a user's own value: moved only if no legal assignment keeps it */
    bool memory_falls;  /* larger values need less memory, not more */
    const char *origin; /* for messages */
    const char *const *value_names; /* for messages: one per value; NULL: their digits */
} tt_resolve_key;

/* A hard rule over some keys. `holds` must be pure. A memory rule (`is_memory`) must be monotone in
 * every key: smaller values (where `memory_falls`: larger ones) never need more, and the search
 * relies on it. */
typedef struct tt_resolve_rule {
    const char *name;
    size_t keys[4]; /* indices into the key array */
    size_t key_count;
    bool (*holds)(const void *user, const int64_t *values); /* values of `keys`, in that order */
    const void *user;
    bool is_memory;      /* then key_count may be 0: it sees every key's value, in array order */
    const char *depends; /* for messages: what else it rests on, "a.b = 5 (a.yaml:3)"; or NULL */
} tt_resolve_rule;

/* All arrays go by the position of the key in the argument array. */
typedef struct tt_resolution {
    int64_t values[TT_RESOLVE_MAX_KEYS];
    bool moved[TT_RESOLVE_MAX_KEYS]; /* differs from the request */
    bool
        for_memory[TT_RESOLVE_MAX_KEYS]; /* moved, and without memory rules it would be elsewhere */
} tt_resolution;

/* Resolves as defined above. Without a legal assignment: TT_ECONFIG with the rules that cannot hold
 * together and every key they bind, its request and its origin. TT_EINVAL for malformed arguments.
 * On failure `out` is untouched. `trace` (may be NULL) gets a line per moved key, in precedence
 * order, and a pinned key's line begins with "warning: ":
 *     kernels.tile_k 48 -> 64 (nearest on the lattice)
 *     compression.block 96 -> 64 (rule 'block divides tile_k or the reverse')
 *     rlvr.group 16 -> 8 (memory: rule 'memory budget')
 *     kernels.tile_m 128 -> 64 (memory: rule 'memory budget'; lower keys cannot make room)
 *     warning: compression.block 96 -> 128 (set by a.yaml:7; nearest on the lattice)
 * Every line ends with a line break. Only the trace and the error text allocate. */
TT_API tt_status tt_resolve(const tt_resolve_key *keys, size_t key_count,
                            const tt_resolve_rule *rules, size_t rule_count, tt_resolution *out,
                            tt_text *trace);

/* ---- rules and advice, beside the parameters ----
 *
 * Modules register what must hold between their parameters. Keys with a tier and a lattice or a
 * ladder can move; all others stand as they are, and so do those that are still `auto`, which takes
 * their rules out until they have a value. */

#define TT_RULE_KEYS 4
#define TT_MEMORY_BUDGET_KEY                                                                       \
    "run.memory_budget" /* bytes; with it, if it is registered and set, a                          \
                           memory estimate becomes a rule */

/* A hard rule. A rule that breaks and of which no key can move is a TT_ECONFIG that names them. */
typedef struct tt_rule {
    const char *name;               /* what must hold, as messages quote it */
    const char *keys[TT_RULE_KEYS]; /* no STRING; NULL behind the last */
    /* Pure. `values` are those of `keys`, in that order; none is `auto`. */
    bool (*holds)(const void *user, const tt_value *values);
    const void *user;
    bool is_memory; /* monotone as in tt_resolve_rule; a ladder's first choice needs least */
} tt_rule;

/* What is allowed but probably not wanted: a warning. */
typedef struct tt_advice {
    const char *keys[TT_RULE_KEYS]; /* as in tt_rule */
    bool (*applies)(const void *user, const tt_value *values);
    const void *user;
    const char *text; /* what it leads to, and what to do; one line */
} tt_advice;

/* As tt_params_register: the tables are borrowed, and the keys must be registered before.
 * TT_EINTERNAL for an unknown key or one that a rule cannot use, and for too many rules. */
TT_API tt_status tt_params_register_rules(tt_params *params, const tt_rule *table, size_t count);
TT_API tt_status tt_params_register_advice(tt_params *params, const tt_advice *table, size_t count);

typedef struct tt_resolve_options {
    size_t size; /* sizeof(tt_resolve_options) */
    bool strict; /* a pinned value that must move is a TT_ECONFIG that names it */
    /* Bytes that a run with this configuration takes, INT64_MAX for more than can be counted; NULL:
     * memory is no rule. Pure, and monotone as in tt_resolve_rule. */
    int64_t (*memory_estimate)(void *user, const tt_config *config);
    void *user;
    const tt_log_sink *log; /* a warning for each pinned value that moves; may be NULL */
} tt_resolve_options;

TT_API void tt_resolve_options_init(tt_resolve_options *options);

/* Makes a configuration legal: tt_resolve over its keys and the registered rules, pins being what
 * tt_config_is_pinned says. *out is a derived configuration (origins "resolver"), or NULL if
 * nothing had to move. `trace` (may be NULL) as in tt_resolve. Depends on nothing but its
 * arguments; on failure *out is untouched. */
TT_API tt_status tt_config_resolve(const tt_config *config, const tt_resolve_options *options,
                                   tt_config **out, tt_text *trace);

/* Adds a line for each advice that applies: "compression.bound = 0.2 (a.yaml:3): <text>\n". */
TT_API tt_status tt_config_advise(const tt_config *config, tt_text *out);

#ifdef __cplusplus
}
#endif
#endif
