#include "test_resolve_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t tiles[] = {16, 32, 64, 128, 256, 512};
static const int64_t blocks[] = {24, 32, 48, 64, 96, 128}; /* some divide no tile */
static const int64_t pages[] = {8, 16, 32, 64};
static const int64_t groups[] = {1, 2, 4, 8, 16};
static const int64_t rungs[] = {0, 1, 2};
static const char *const codecs[] = {"int8", "bf16", "f32"};

const char *const steered_keys[STEERED] = {
    "kernels.tile_k", "compression.activations", "compression.block", "compression.moments",
    "rlvr.group",     "rlvr.page_tokens",
};

#define STEER(key_, tier_, default_)                                                               \
    .key = key_, .unit = "", .default_text = default_, .may_be_auto = true,                        \
    .mutability = TT_MUTABLE_AT_STEP, .tier = tier_, .owner = "test", .help = "a key"
#define NUMBERS(values)                                                                            \
    .type = TT_TYPE_INT, .minimum = 1, .maximum = 1000, .lattice = (values),                       \
    .lattice_count = sizeof(values) / sizeof((values)[0])
#define CODECS .type = TT_TYPE_ENUM, .choices = "int8|bf16|f32", .ladder = true
#define STANDS(key_, type_, default_)                                                              \
    {                                                                                              \
        .key = key_, .type = type_, .unit = "", .default_text = default_, .minimum = 0,            \
        .maximum = 1e9, .may_be_auto = true, .mutability = TT_MUTABLE_AT_RESUME, .owner = "test",  \
        .help = "a key"                                                                            \
    }

static const tt_param table[] = {
    {STEER("rlvr.page_tokens", TT_TIER_RLVR, "16"), NUMBERS(pages)},
    {STEER("rlvr.group", TT_TIER_RLVR, "8"), NUMBERS(groups)},
    {STEER("compression.moments", TT_TIER_COMPRESSION, "f32"), CODECS},
    {STEER("compression.block", TT_TIER_COMPRESSION, "64"), NUMBERS(blocks), .memory_falls = true},
    {STEER("compression.activations", TT_TIER_COMPRESSION, "f32"), CODECS},
    {STEER("kernels.tile_k", TT_TIER_TILE, "64"), NUMBERS(tiles)},
    STANDS("model.head_dim", TT_TYPE_INT, "64"),
    STANDS("rlvr.pool", TT_TYPE_INT, "auto"),
    STANDS("compression.bound", TT_TYPE_FLOAT, "0.05"),
    STANDS("gates.max", TT_TYPE_FLOAT, "0.05"),
    STANDS(TT_MEMORY_BUDGET_KEY, TT_TYPE_INT, "auto"),
};

/* ---- rules on values ---------------------------------------------------------------------- */

static bool divides(int64_t a, int64_t b)
{
    return a % b == 0 || b % a == 0;
}

static bool rule_divides(const void *user, const tt_value *v)
{
    (void)user;
    return divides(v[0].as.integer, v[1].as.integer);
}

static bool rule_page(const void *user, const tt_value *v)
{
    (void)user;
    return v[0].as.integer * v[1].as.integer % v[2].as.integer == 0;
}

static bool rule_int8(const void *user, const tt_value *v)
{
    (void)user;
    return strcmp(v[0].as.string, "int8") != 0 || v[1].as.integer <= 64;
}

static bool rule_pool(const void *user, const tt_value *v)
{
    (void)user;
    return v[0].as.integer * v[1].as.integer <= v[2].as.integer;
}

static bool rule_bound(const void *user, const tt_value *v)
{
    (void)user;
    return v[0].as.real <= v[1].as.real;
}

static const tt_rule rules[] = {
    {.name = "block divides tile_k or the reverse",
     .keys = {"compression.block", "kernels.tile_k"},
     .holds = rule_divides},
    {.name = "a page is a multiple of the block",
     .keys = {"rlvr.page_tokens", "model.head_dim", "compression.block"},
     .holds = rule_page},
    {.name = "int8 moments have small blocks",
     .keys = {"compression.moments", "compression.block"},
     .holds = rule_int8},
    {.name = "pages fit into the pool",
     .keys = {"rlvr.group", "rlvr.page_tokens", "rlvr.pool"},
     .holds = rule_pool,
     .is_memory = true},
    {.name = "bound is at most the gate's",
     .keys = {"compression.bound", "gates.max"},
     .holds = rule_bound},
};

static bool is_loose(const void *user, const tt_value *v)
{
    return v[0].as.real > *(const double *)user;
}

static const double tenth = 0.1;
static const tt_advice advice[] = {
    {.keys = {"compression.bound"}, .applies = is_loose, .user = &tenth, .text = "prefer 0.1"},
};

tt_params *steered_params(void)
{
    tt_params *params = NULL;
    if (tt_params_create(&params) != TT_OK ||
        tt_params_register(params, table, sizeof table / sizeof *table) != TT_OK ||
        tt_params_register_rules(params, rules, sizeof rules / sizeof *rules) != TT_OK ||
        tt_params_register_advice(params, advice, 1) != TT_OK)
        abort();
    return params;
}

/* ---- values ------------------------------------------------------------------------------- */

const int64_t *steered_lattice(size_t key, size_t *count)
{
    static const int64_t *const lattices[] = {tiles, rungs, blocks, rungs, groups, pages};
    static const size_t counts[] = {6, 3, 6, 3, 5, 4};
    *count = counts[key];
    return lattices[key];
}

const char *steered_text(size_t key, int64_t value, char out[32])
{
    if (key == MOMENTS || key == ACTIVATIONS)
        return codecs[value];
    snprintf(out, 32, "%" PRId64, value);
    return out;
}

void steered_values(const tt_config *config, int64_t values[STEERED])
{
    static const int64_t defaults[STEERED] = {64, 2, 64, 2, 8, 16};
    for (size_t k = 0; k < STEERED; k++) {
        tt_value value = tt_config_get(config, steered_keys[k]);
        values[k] = value.is_auto ? defaults[k] : value.as.integer;
        for (size_t i = 0; !value.is_auto && value.type == TT_TYPE_ENUM && i < 3; i++)
            if (strcmp(value.as.string, codecs[i]) == 0)
                values[k] = (int64_t)i;
    }
}

static int64_t bytes_of(const int64_t *v)
{
    static const int64_t per_rung[] = {1, 2, 4};
    return v[TILE_K] * 2 + per_rung[v[MOMENTS]] * 200 + per_rung[v[ACTIVATIONS]] * 100 +
           9600 / v[BLOCK] + v[GROUP] * v[PAGE] * 4;
}

int64_t steered_estimate(void *user, const tt_config *config)
{
    int64_t values[STEERED];
    (void)user;
    steered_values(config, values);
    return bytes_of(values);
}

tt_resolve_options steered_options(bool strict)
{
    tt_resolve_options options;
    tt_resolve_options_init(&options);
    options.strict = strict;
    options.memory_estimate = steered_estimate;
    return options;
}

/* ---- the same rules on all six numbers ---------------------------------------------------- */

typedef struct fixed {
    int64_t head_dim, pool, budget, others[STEERED];
    size_t places[STEERED]; /* of the case's keys */
    size_t count;
} fixed;

static bool holds(const fixed *f, int rule, const int64_t *v)
{
    switch (rule) {
    case RULE_DIVIDES:
        return divides(v[BLOCK], v[TILE_K]);
    case RULE_PAGE:
        return v[PAGE] * f->head_dim % v[BLOCK] == 0;
    case RULE_INT8:
        return v[MOMENTS] != 0 || v[BLOCK] <= 64;
    case RULE_POOL:
        return v[GROUP] * v[PAGE] <= f->pool;
    default:
        return bytes_of(v) <= f->budget;
    }
}

/* The keys that a rule is about; of the last: none, it holds whatever is known. */
static const int about[STEERED_RULES][3] = {
    {BLOCK, TILE_K, -1}, {PAGE, BLOCK, -1}, {MOMENTS, BLOCK, -1}, {GROUP, PAGE, -1}, {-1},
};

static bool is_asked(const tt_config *config, int rule)
{
    static const char *const also[STEERED_RULES] = {
        [RULE_PAGE] = "model.head_dim",
        [RULE_POOL] = "rlvr.pool",
        [RULE_BUDGET] = TT_MEMORY_BUDGET_KEY,
    };
    if (also[rule] != NULL && tt_config_is_auto(config, also[rule]))
        return false;
    for (const int *key = about[rule]; *key >= 0; key++)
        if (tt_config_is_auto(config, steered_keys[*key]))
            return false;
    return true;
}

static void read_fixed(const tt_config *config, fixed *f)
{
    f->head_dim = tt_config_int(config, "model.head_dim");
    f->pool = tt_config_int(config, "rlvr.pool");
    f->budget = tt_config_int(config, TT_MEMORY_BUDGET_KEY);
    steered_values(config, f->others);
}

bool steered_is_legal(const tt_config *config)
{
    fixed f;
    read_fixed(config, &f);
    for (int rule = 0; rule < STEERED_RULES; rule++)
        if (is_asked(config, rule) && !holds(&f, rule, f.others))
            return false;
    return tt_config_float(config, "compression.bound") <= tt_config_float(config, "gates.max");
}

static bool judge(const fixed *f, int rule, const int64_t *values)
{
    int64_t all[STEERED];
    memcpy(all, f->others, sizeof all);
    for (size_t i = 0; i < f->count; i++)
        all[f->places[i]] = values[i];
    return holds(f, rule, all);
}

#define JUDGE(name, rule)                                                                          \
    static bool name(const void *user, const int64_t *values)                                      \
    {                                                                                              \
        return judge(user, rule, values);                                                          \
    }
JUDGE(judge_divides, RULE_DIVIDES)
JUDGE(judge_page, RULE_PAGE)
JUDGE(judge_int8, RULE_INT8)
JUDGE(judge_pool, RULE_POOL)
JUDGE(judge_budget, RULE_BUDGET)

void steered_case(const tt_config *config, random_case *c, size_t places[STEERED])
{
    static bool (*const judges[])(const void *, const int64_t *) = {
        judge_divides, judge_page, judge_int8, judge_pool, judge_budget};
    static fixed f;
    memset(c, 0, sizeof *c);
    read_fixed(config, &f);
    f.count = 0;
    for (size_t k = 0; k < STEERED; k++) {
        if (tt_config_is_auto(config, steered_keys[k]))
            continue;
        size_t at = c->key_count++;
        places[at] = f.places[at] = k;
        f.count++;
        c->keys[at] = (tt_resolve_key){
            .name = steered_keys[k],
            .request = f.others[k],
            .tier = k == TILE_K  ? TT_TIER_TILE
                    : k >= GROUP ? TT_TIER_RLVR
                                 : TT_TIER_COMPRESSION,
            .pinned = tt_config_is_pinned(config, steered_keys[k]),
            .origin = "",
        };
        c->keys[at].values = steered_lattice(k, &c->keys[at].value_count);
    }
    for (int rule = 0; rule < STEERED_RULES; rule++) {
        if (!is_asked(config, rule))
            continue;
        tt_resolve_rule *out = &c->rules[c->rule_count++];
        /* All numbers are its arguments: the oracle passes them where there are no keys. */
        *out = (tt_resolve_rule){.name = "rule", .holds = judges[rule], .user = &f};
        out->is_memory = rule >= RULE_POOL;
    }
}
