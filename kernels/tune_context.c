/* The tuner on a context: which variants are candidates, and what the cache knows of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tune.h"

typedef struct families {
    tt_tune_family list[TT_FAMILIES_MAX];
    size_t count;
} families;

static tt_status run_in_context(void *user, const tt_tune_family *family, tt_tile tile, tt_op op,
                                const void *args)
{
    tt_status status = tt_context_set_variant(user, op, family->name);
    if (status == TT_OK && family->tiled)
        status = tt_context_set_tile(user, tile);
    return status == TT_OK ? tt_op_run(user, op, args) : status;
}

static tt_status run_in_f32(void *user, const tt_tune_family *family, tt_tile tile, tt_op op,
                            const void *args)
{
    tt_status status = tt_context_set_compute(user, TT_F32);
    return status == TT_OK ? run_in_context(user, family, tile, op, args) : status;
}

static tt_status run_in_bf16(void *user, const tt_tune_family *family, tt_tile tile, tt_op op,
                             const void *args)
{
    tt_status status = tt_context_set_compute(user, TT_BF16);
    return status == TT_OK ? run_in_context(user, family, tile, op, args) : status;
}

static tt_tune_family *family_named(families *out, const char *name)
{
    for (size_t f = 0; f < out->count; f++)
        if (strcmp(out->list[f].name, name) == 0)
            return &out->list[f];
    if (out->count == TT_FAMILIES_MAX)
        return NULL;
    out->list[out->count] = (tt_tune_family){.name = name};
    return &out->list[out->count++];
}

static tt_status add_variant(families *out, const tt_variant_info *info, bool current,
                             bool acceptable)
{
    tt_tune_family *family = family_named(out, info->name);
    if (family == NULL)
        return tt_fail(TT_EINTERNAL, "tune: more than %d variants", TT_FAMILIES_MAX);
    family->tiled = family->tiled || info->tiled;
    family->library = info->library;
    family->candidate[info->op] = true;
    family->numerics[info->op] = info->numerics;
    family->current[info->op] = family->current[info->op] || current;
    family->acceptable[info->op] = family->acceptable[info->op] || acceptable;
    return TT_OK;
}

/* Those of libraries read weights in f32. */
static bool reads_weights(const tt_variant_info *info, const tt_tune_options *options)
{
    return !options->weights_bf16 || info->library == TT_LIBRARY_NONE ||
           info->op == TT_OP_LINEAR_WGRAD;
}

/* The context's own variants first, then the others from the most preferred down. The reference is
 * what all are measured by, and no candidate unless the user has chosen it. */
static tt_status list_families(const tt_context *context, const tt_tune_options *options,
                               families *out)
{
    tt_status status = TT_OK;
    out->count = 0;
    for (int op = 0; op < TT_PRODUCTS && status == TT_OK; op++)
        status = add_variant(out, &tt_context_current(context, (tt_op)op)->info, true, true);
    for (size_t i = tt_variant_count(); i-- > 0 && status == TT_OK;) {
        const tt_variant_info *info = tt_variant_at(i);
        if ((int)info->op >= TT_PRODUCTS || info->dtype != context->compute ||
            strcmp(info->name, "reference") == 0 || options->fixed[info->op] ||
            !reads_weights(info, options))
            continue;
        bool acceptable = info->numerics <= context->numerics;
        if ((acceptable || options->show_all) && tt_variant_available(info))
            status = add_variant(out, info, false, acceptable);
    }
    return status;
}

static tt_status make_target(tt_context *context, const tt_tune_options *options, families *list,
                             tt_tune_target *out)
{
    if (context == NULL || context->dtype != TT_F32)
        return tt_fail(TT_EINVAL, "tune: products are tuned in an f32 context");
    if (options == NULL || options->size < sizeof *options)
        return tt_fail(TT_EINVAL, "tune options are missing or of an older version");
    tt_status status = list_families(context, options, list);
    *out = (tt_tune_target){.run = run_in_context,
                            .user = context,
                            .compute = context->compute,
                            .weights_bf16 = options->weights_bf16,
                            .threads = context->exec.threads,
                            .families = list->list,
                            .family_count = list->count};
    return status;
}

/* What the context runs, and how. */
typedef struct setting {
    tt_tile tile;
    tt_dtype compute;
    const tt_variant *table[TT_COMPUTES][TT_PRODUCTS];
} setting;

static void keep_setting(const tt_context *context, setting *out)
{
    out->tile = context->exec.tile;
    out->compute = context->compute;
    for (int compute = 0; compute < TT_COMPUTES; compute++)
        memcpy(out->table[compute], context->table[compute], sizeof out->table[compute]);
}

static void restore_setting(tt_context *context, const setting *from)
{
    context->exec.tile = from->tile;
    context->compute = from->compute;
    for (int compute = 0; compute < TT_COMPUTES; compute++)
        memcpy(context->table[compute], from->table[compute], sizeof from->table[compute]);
}

/* Where nothing can be chosen there is nothing to measure. */
static bool one_candidate(const families *list, const tt_tune_options *options)
{
    for (size_t f = 0; f < list->count; f++)
        if (list->list[f].tiled && options->tile_count > 1)
            return false;
    for (int op = 0; op < TT_PRODUCTS; op++) {
        int candidates = 0;
        for (size_t f = 0; f < list->count; f++)
            candidates += list->list[f].candidate[op];
        if (candidates > 1)
            return false;
    }
    return true;
}

static tt_status measure(tt_context *context, const tt_tune_target *target,
                         const tt_tune_options *options, tt_tuning *tuning)
{
    setting before;
    keep_setting(context, &before);
    tt_status status = tt_tune_further(target, options, tuning);
    restore_setting(context, &before);
    return status;
}

/* Gives `tuning` what is known; nothing where that is nothing, or damaged. */
static tt_status recall(const char *key, const tt_tune_target *target,
                        const tt_tune_options *options, tt_tuning *tuning)
{
    tt_text path;
    tt_text_init(&path);
    tt_status status = tt_tune_path(options->cache, key, &path);
    if (status == TT_OK)
        status = tt_tune_load(path.data, key, tuning);
    tt_text_clear(&path);
    if (status == TT_OK || status == TT_ENOTFOUND)
        return TT_OK;
    tt_log(options->log, TT_LOG_WARN, "%s; measuring again", tt_error_message());
    tt_tuning_clear(tuning);
    return tt_tuning_begin(target, options, tuning);
}

static bool anything_known(const tt_tuning *tuning)
{
    for (size_t i = 0; i < tuning->shape_count * tuning->candidate_count; i++)
        if (tuning->cells[i].state >= TT_TUNE_WRONG)
            return true;
    return false;
}

void tt_tune_keep(const tt_tune_options *options, const char *key, const tt_tuning *tuning)
{
    bool worth = tuning->complete || (!options->fresh && anything_known(tuning));
    if (worth && tt_tune_save(options->cache, key, tuning) != TT_OK)
        tt_log(options->log, TT_LOG_WARN, "%s; what was measured is not kept", tt_error_message());
}

static tt_status tune_with_cache(tt_context *context, const tt_tune_target *target,
                                 const tt_tune_options *options, tt_tuning *tuning)
{
    tt_watch watch = tt_watch_begin(options);
    tt_text key;
    tt_text_init(&key);
    tt_status status = tt_tune_key(context, target, options, &key);
    if (status == TT_OK && !options->fresh)
        status = recall(key.data, target, options, tuning);
    if (status == TT_OK && tuning->cached) {
        status = tt_tuning_choose(target, options->tiles, options->tile_count, tuning);
        tuning->seconds = tt_watch_spent(&watch);
    } else if (status == TT_OK) {
        status = measure(context, target, options, tuning);
        if (status == TT_OK)
            tt_tune_keep(options, key.data, tuning);
    }
    tt_text_clear(&key);
    return status;
}

tt_status tt_tune(tt_context *context, const tt_tune_options *options, tt_tuning *out)
{
    families list;
    tt_tune_target target;
    if (out == NULL)
        return tt_fail(TT_EINVAL, "tune: no place for the result");
    tt_status status = make_target(context, options, &list, &target);
    if (status == TT_OK)
        status = tt_tune_check_options(&target, options);
    if (status != TT_OK)
        return status;
    status = tt_tuning_begin(&target, options, out);
    if (status != TT_OK || (one_candidate(&list, options) && !options->show_all))
        return status;
    status = options->cache != NULL ? tune_with_cache(context, &target, options, out)
                                    : measure(context, &target, options, out);
    if (status != TT_OK)
        tt_tuning_clear(out);
    return status;
}

/* ---- f32 against bf16 ---- */

/* Of the budget that is left: to the tuning in f32, then to the one in bf16. */
static const double tuning_shares[2] = {0.45, 0.8};

/* What the answer depends on besides both questions: what each of them came to. */
static tt_status comparison_key(tt_context *context, const tt_tune_target targets[2],
                                const tt_tune_options *options, const tt_tuning sides[2],
                                tt_text *out)
{
    tt_status status = TT_OK;
    for (int side = 0; side < 2 && status == TT_OK; side++) {
        status = tt_tune_key(context, &targets[side], options, out);
        tt_text_addf(out, "compared %d %d %d", sides[side].tile.m, sides[side].tile.n,
                     sides[side].tile.k);
        for (int op = 0; op < TT_PRODUCTS; op++)
            tt_text_addf(out, " %s", sides[side].candidates[sides[side].chosen[op]].variant);
        tt_text_add(out, "\n");
    }
    return status == TT_OK ? tt_text_check(out) : status;
}

/* A comparison of which something is known is in the cache, or a new one. */
static tt_status recall_comparison(const char *key, const tt_tune_options *options,
                                   const tt_tuning sides[2], tt_tuning *out)
{
    tt_text path;
    tt_status status = tt_comparison_begin(sides, out);
    if (status != TT_OK || options->cache == NULL || options->fresh)
        return status;
    tt_text_init(&path);
    status = tt_tune_path(options->cache, key, &path);
    if (status == TT_OK)
        status = tt_tune_load(path.data, key, out);
    tt_text_clear(&path);
    if (status == TT_OK || status == TT_ENOTFOUND)
        return TT_OK;
    tt_log(options->log, TT_LOG_WARN, "%s; measuring again", tt_error_message());
    tt_tuning_clear(out);
    return tt_comparison_begin(sides, out);
}

static tt_status compare(tt_context *context, const tt_tune_options *options,
                         const tt_tuning sides[2], tt_tuning *out)
{
    families lists[2];
    tt_tune_target targets[2];
    tt_text key;
    tt_text_init(&key);
    tt_status status = TT_OK;
    for (int side = 0; side < 2 && status == TT_OK; side++) {
        context->compute = side == 0 ? TT_F32 : TT_BF16;
        status = make_target(context, options, &lists[side], &targets[side]);
        targets[side].run = side == 0 ? run_in_f32 : run_in_bf16;
    }
    if (status == TT_OK)
        status =
            options->cache != NULL ? comparison_key(context, targets, options, sides, &key) : TT_OK;
    if (status == TT_OK)
        status = recall_comparison(key.data, options, sides, out);
    if (status == TT_OK && out->cached) {
        tt_comparison_choose(out);
    } else if (status == TT_OK) {
        status = tt_compare_further(targets, sides, options, out);
        if (status == TT_OK && options->cache != NULL)
            tt_tune_keep(options, key.data, out);
    }
    tt_text_clear(&key);
    return status;
}

/* Where none of its candidates is right, bf16 is left with what it has: the comparison finds that
 * wrong. */
static tt_status tune_bf16(tt_context *context, const tt_tune_options *options, tt_tuning *out)
{
    families list;
    tt_tune_target target;
    tt_status status = tt_tune(context, options, out);
    if (status != TT_EINTERNAL)
        return status;
    status = make_target(context, options, &list, &target);
    return status == TT_OK ? tt_tuning_begin(&target, options, out) : status;
}

tt_status tt_tune_compute(tt_context *context, const tt_tune_options *options, tt_tuning tunings[2],
                          tt_tuning *comparison)
{
    if (context == NULL || options == NULL || options->size < sizeof *options || tunings == NULL ||
        comparison == NULL)
        return tt_fail(TT_EINVAL, "tune: no context, options or place for the result");
    tt_tune_options part = *options;
    tt_watch watch = tt_watch_begin(options);
    tt_status status = TT_OK;
    setting before;
    keep_setting(context, &before);
    tunings[0] = tunings[1] = *comparison = (tt_tuning){0};
    for (int side = 0; side < 2 && status == TT_OK; side++) {
        status = tt_context_set_compute(context, side == 0 ? TT_F32 : TT_BF16);
        part.budget_seconds =
            (options->budget_seconds - tt_watch_spent(&watch)) * tuning_shares[side];
        if (status == TT_OK)
            status = side == 0 ? tt_tune(context, &part, &tunings[0])
                               : tune_bf16(context, &part, &tunings[1]);
    }
    part.budget_seconds = options->budget_seconds - tt_watch_spent(&watch);
    if (status == TT_OK)
        status = compare(context, &part, tunings, comparison);
    restore_setting(context, &before);
    if (status != TT_OK) {
        tt_tuning_clear(&tunings[0]);
        tt_tuning_clear(&tunings[1]);
        tt_tuning_clear(comparison);
    }
    return status;
}

/* ---- the cache's files ---- */

/* A question, with the place for its answer. */
typedef struct question {
    families list;
    tt_tune_target target;
    tt_text key, path;
    tt_tuning tuning;
} question;

static tt_status begin_question(tt_context *context, const tt_tune_options *options, question *out)
{
    memset(out, 0, sizeof *out);
    tt_text_init(&out->key);
    tt_text_init(&out->path);
    if (options == NULL || options->cache == NULL)
        return tt_fail(TT_EINVAL, "tune: no cache is given");
    tt_status status = make_target(context, options, &out->list, &out->target);
    if (status == TT_OK)
        status = tt_tune_check_options(&out->target, options);
    if (status == TT_OK)
        status = tt_tune_key(context, &out->target, options, &out->key);
    if (status == TT_OK)
        status = tt_tune_path(options->cache, out->key.data, &out->path);
    return status == TT_OK ? tt_tuning_begin(&out->target, options, &out->tuning) : status;
}

static void end_question(question *q)
{
    tt_text_clear(&q->key);
    tt_text_clear(&q->path);
    tt_tuning_clear(&q->tuning);
}

tt_status tt_tune_cache_file(tt_context *context, const tt_tune_options *options, tt_text *out)
{
    question q;
    tt_status status = begin_question(context, options, &q);
    if (status == TT_OK)
        status = tt_tune_load(q.path.data, q.key.data, &q.tuning);
    if (status == TT_OK) {
        tt_text_add(out, q.path.data);
        status = tt_text_check(out);
    }
    end_question(&q);
    return status;
}

tt_status tt_tune_cache_export(tt_context *context, const tt_tune_options *options,
                               const char *path)
{
    question q;
    tt_status status = begin_question(context, options, &q);
    if (status == TT_OK)
        status = tt_tune_load(q.path.data, q.key.data, &q.tuning);
    if (status == TT_OK)
        status = tt_tune_write(path, q.key.data, &q.tuning);
    end_question(&q);
    return status;
}

tt_status tt_tune_cache_import(tt_context *context, const tt_tune_options *options,
                               const char *path)
{
    question q;
    tt_status status = begin_question(context, options, &q);
    bool there = access(path, F_OK) == 0;
    if (status == TT_OK)
        status = tt_tune_load(path, q.key.data, &q.tuning);
    if (status == TT_ENOTFOUND && there)
        status = TT_EDATA; /* the message says of what it is */
    if (status == TT_OK)
        status = tt_tune_save(options->cache, q.key.data, &q.tuning);
    end_question(&q);
    return status;
}

tt_status tt_check_products(tt_context *context, const tt_gemm_shape *shapes, size_t count,
                            bool weights_bf16, double *error, size_t *wrong)
{
    tt_tune_options options;
    families list;
    tt_tune_target target;
    tt_tune_options_init(&options);
    memset(options.fixed, true, sizeof options.fixed);
    options.weights_bf16 = weights_bf16;
    tt_status status = make_target(context, &options, &list, &target);
    if (status != TT_OK)
        return status;
    tt_tile tile = context->exec.tile;
    options.shapes = shapes;
    options.shape_count = count;
    options.tiles = &tile;
    options.tile_count = 1;
    setting before;
    keep_setting(context, &before);
    status = tt_prove_all(&target, &options, error, wrong);
    restore_setting(context, &before);
    return status;
}
