/* The tuner on a run's own products: what is asked of it, and its answer as evidence. */
#include "tuner.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Beyond these a product only repeats what its cache blocks do: longer ones are timed in part. Rows
 * are divided among the threads. */
enum { LONGEST_M = 512, LONGEST_M_OF_THREAD = 256, LONGEST_N = 2048, LONGEST_K = 2048 };

/* The first is the incumbent (the default); then those that have most often won; then their
 * neighbours, down and up. What comes first wins a tie. */
static const tt_tile lattice_walk[] = {
    {32, 32, 32},    {256, 512, 256}, {128, 512, 256}, {512, 512, 256},
    {128, 256, 256}, {256, 256, 256}, {64, 256, 256},  {512, 512, 512},
    {128, 512, 512}, {128, 512, 128}, {64, 128, 128},  {64, 64, 64},
};
enum { WALK = sizeof lattice_walk / sizeof *lattice_walk };
_Static_assert((int)WALK <= (int)TT_TUNER_TILES, "the walk has a place in the question");

/* Keys that the user pinned stay; the others follow the walk. Doubles fall out. */
static size_t list_tiles(const tt_config *config, tt_tile *out)
{
    size_t count = 0;
    for (size_t i = 0; i < WALK; i++) {
        tt_tile tile = lattice_walk[i];
        int *const parts[3] = {&tile.m, &tile.n, &tile.k};
        for (int part = 0; part < 3; part++) {
            if (!tt_config_is_auto(config, tt_tile_keys[part])) {
                *parts[part] = (int)tt_config_int(config, tt_tile_keys[part]);
            }
        }
        bool known = false;
        for (size_t j = 0; j < count; j++) {
            known = known || memcmp(&out[j], &tile, sizeof tile) == 0;
        }
        if (!known) {
            out[count++] = tile;
        }
    }
    return count;
}

static int64_t cut(int64_t length, int64_t longest)
{
    return length < longest ? length : longest;
}

/* A part of the product, counted as often as its share of the whole asks for. */
static void shorten(tt_gemm_shape *shape, int threads)
{
    tt_gemm_shape whole = *shape;
    int64_t longest_m = (int64_t)LONGEST_M_OF_THREAD * threads;
    shape->m = cut(whole.m, longest_m > LONGEST_M ? longest_m : LONGEST_M);
    shape->n = cut(whole.n, LONGEST_N);
    shape->k = cut(whole.k, LONGEST_K);
    double parts = (double)whole.m / (double)shape->m * ((double)whole.n / (double)shape->n) *
                   ((double)whole.k / (double)shape->k);
    shape->count = (int)fmin(fmax(round(parts * whole.count), 1), 1e9);
}

static bool same_product(const tt_gemm_shape *a, const tt_gemm_shape *b)
{
    return a->op == b->op && a->m == b->m && a->n == b->n && a->k == b->k;
}

size_t tt_tuner_shapes(const tt_model_dims *dims, int64_t batch, int64_t time, int threads,
                       tt_gemm_shape *out)
{
    tt_gemm_shape all[TT_TUNER_SHAPES];
    size_t listed = tt_model_gemm_shapes(dims, batch, time, all, TT_TUNER_SHAPES);
    size_t count = 0;
    for (size_t i = 0; i < listed && i < TT_TUNER_SHAPES; i++) {
        size_t at = 0;
        shorten(&all[i], threads);
        while (at < count && !same_product(&out[at], &all[i])) {
            at++;
        }
        if (at == count) {
            out[count++] = all[i];
        } else {
            out[at].count += all[i].count;
        }
    }
    return count;
}

/* What of the machine is kept where. */
static tt_status find_cache(const tt_config *config, tt_text *out)
{
    const char *where = tt_config_is_auto(config, "kernels.tune_cache")
                            ? "auto"
                            : tt_config_string(config, "kernels.tune_cache");
    if (strcmp(where, "off") == 0) {
        return TT_OK;
    }
    if (strcmp(where, "auto") != 0) {
        tt_text_add(out, where);
        return tt_text_check(out);
    }
    tt_status status = tt_tune_cache_folder(out);
    return status == TT_ENOTFOUND ? TT_OK : status; /* no home: nothing is kept */
}

tt_status tt_tuner_ask(const tt_config *config, const tt_model_dims *dims, int64_t batch,
                       int64_t time, const tt_context *context, tt_tuner_question *out)
{
    memset(out, 0, sizeof *out);
    tt_text_init(&out->cache);
    tt_tune_options_init(&out->options);
    tt_tune_options *options = &out->options;
    options->shapes = out->shapes;
    options->shape_count =
        tt_tuner_shapes(dims, batch, time, tt_context_threads(context), out->shapes);
    options->tiles = out->tiles;
    options->tile_count = list_tiles(config, out->tiles);
    options->budget_seconds = tt_config_float(config, "kernels.tune_seconds");
    options->weights_bf16 = dims->bf16_weights;
    for (int op = 0; op < 3; op++) {
        options->fixed[op] = !tt_config_is_auto(config, "kernels.variant") ||
                             !tt_config_is_auto(config, tt_product_keys[op]);
    }
    tt_status status = find_cache(config, &out->cache);
    options->cache = out->cache.length ? out->cache.data : NULL;
    return status;
}

void tt_tuner_question_clear(tt_tuner_question *question)
{
    tt_text_clear(&question->cache);
}

/* The question of a run. */
static tt_status ask_for(tt_training *training, const tt_config *config, tt_tuner_question *out)
{
    tt_status status = tt_tuner_ask(config, tt_model_get_dims(training->model), training->batch,
                                    training->plan.context, training->context, out);
    out->options.clock = &training->clock;
    out->options.log = training->log;
    if (training->tune_seconds <= 0) {
        out->options.cache = NULL; /* the default is asked for */
    }
    return status;
}

tt_status tt_tuner_answer(tt_training *training, const tt_config *config, const tt_tuning **out)
{
    const tt_dtype compute = tt_compute_from(config);
    const tt_dtype before = tt_context_compute(training->context);
    const int side = compute == TT_BF16;
    *out = &training->tuning[side];
    if (training->tuned[side]) {
        return TT_OK;
    }
    tt_tuner_question question;
    tt_status status = ask_for(training, config, &question);
    if (!status) {
        status = tt_context_set_compute(training->context, compute);
    }
    if (!status) {
        status = tt_tune(training->context, &question.options, &training->tuning[side]);
    }
    training->tuned[side] = status == TT_OK;
    if (!status) {
        status = tt_context_set_compute(training->context, before);
    }
    tt_tuner_question_clear(&question);
    return status;
}

tt_status tt_tuner_compare(tt_training *training, const tt_config *config, tt_tuning *comparison)
{
    tt_tuner_question question;
    tt_status status = ask_for(training, config, &question);
    if (!status) {
        status =
            tt_tune_compute(training->context, &question.options, training->tuning, comparison);
    }
    training->tuned[0] = training->tuned[1] = status == TT_OK;
    tt_tuner_question_clear(&question);
    return status;
}

/* ---- evidence ---- */

static json_t *candidate_json(const tt_tuning *tuning, size_t candidate)
{
    const tt_tune_candidate *c = &tuning->candidates[candidate];
    return c->tile.m ? json_pack("[s, [i, i, i]]", c->variant, c->tile.m, c->tile.n, c->tile.k)
                     : json_pack("[s]", c->variant);
}

/* How far it got over all shapes, its worst error, and what it costs where all were timed. */
static json_t *summary_json(const tt_tuning *tuning, size_t candidate)
{
    static const char *const states[] = {"absent", "unknown", "hopeless",
                                         "wrong",  "proven",  "timed"};
    json_t *out = json_pack("{s:o}", "candidate", candidate_json(tuning, candidate));
    double error = 0;
    for (int op = 0; op < 3; op++) {
        tt_tune_state state = TT_TUNE_ABSENT;
        bool first = true;
        for (size_t s = 0; s < tuning->shape_count; s++) {
            const tt_tune_cell *cell = &tuning->cells[s * tuning->candidate_count + candidate];
            if ((int)tuning->shapes[s].op != op) {
                continue;
            }
            error = fmax(error, cell->error);
            state = first || cell->state == TT_TUNE_WRONG ||
                            (state != TT_TUNE_WRONG && cell->state < state)
                        ? cell->state
                        : state;
            first = false;
        }
        double seconds = tt_tuning_seconds(tuning, (tt_op)op, candidate);
        if (state != TT_TUNE_ABSENT) {
            json_object_set_new(out, tt_op_name((tt_op)op),
                                json_pack("{s:s, s:o}", "state", states[state], "seconds_per_step",
                                          isfinite(seconds) ? json_real(seconds) : json_null()));
        }
    }
    json_object_set_new(out, "error_share", isfinite(error) ? json_real(error) : json_null());
    return out;
}

tt_status tt_tuner_evidence(const tt_tuning *tuning, tt_dtype compute, tt_text *out)
{
    json_t *list = json_array();
    json_t *chosen = json_object();
    json_t *incumbent = json_object();
    for (size_t c = 0; c < tuning->candidate_count; c++) {
        json_array_append_new(list, summary_json(tuning, c));
    }
    for (int op = 0; op < 3; op++) {
        json_object_set_new(chosen, tt_op_name((tt_op)op),
                            candidate_json(tuning, tuning->chosen[op]));
        json_object_set_new(incumbent, tt_op_name((tt_op)op),
                            candidate_json(tuning, tuning->incumbent[op]));
    }
    json_t *evidence = json_pack("{s:[i, i, i], s:o, s:s, s:o, s:b, s:b, s:f, s:o}", "tile",
                                 tuning->tile.m, tuning->tile.n, tuning->tile.k, "chosen", chosen,
                                 "numerics", tt_numerics_name(tt_tuning_numerics(tuning, compute)),
                                 "incumbent", incumbent, "from_cache", tuning->cached, "complete",
                                 tuning->complete, "seconds", tuning->seconds, "candidates", list);
    char *text = evidence ? json_dumps(evidence, JSON_COMPACT) : NULL;
    if (text) {
        tt_text_add(out, text);
    }
    free(text);
    json_decref(evidence);
    return text ? tt_text_check(out) : tt_fail(TT_ENOMEM, "no memory for the tuner's record");
}

double tt_tuner_gain(const tt_tuning *tuning)
{
    double before = 0, after = 0;
    for (int op = 0; op < 3; op++) {
        before += tt_tuning_seconds(tuning, (tt_op)op, tuning->incumbent[op]);
        after += tt_tuning_seconds(tuning, (tt_op)op, tuning->chosen[op]);
    }
    return before > 0 && isfinite(before) && isfinite(after) ? after / before : NAN;
}

/* ---- without a run ---- */

struct tt_tuner {
    tt_context *context;
    tt_tuner_question question;
};

void tt_tuner_options_init(tt_tuner_options *options)
{
    *options = (tt_tuner_options){.size = sizeof *options, .seconds = -1};
}

tt_status tt_tuner_create(const tt_tuner_options *options, tt_tuner **out)
{
    *out = NULL;
    if (options->size != sizeof *options || !options->config) {
        return tt_fail(TT_EINVAL, "tt_tuner_create needs a configuration, of this version's size");
    }
    tt_tuner *tuner = calloc(1, sizeof *tuner);
    if (!tuner) {
        return tt_fail(TT_ENOMEM, "no memory for the tuner");
    }
    const tt_config *config = options->config;
    tt_model_dims dims = tt_dims_from_config(config);
    tt_status status = tt_context_from_config(config, 0, &tuner->context);
    if (!status) {
        status = tt_context_set_compute(tuner->context, tt_compute_from(config));
    }
    if (!status) {
        status = tt_tuner_ask(config, &dims, tt_config_int(config, "train.batch"), dims.context,
                              tuner->context, &tuner->question);
    }
    if (status) {
        tt_tuner_destroy(tuner);
        return status;
    }
    tuner->question.options.show_all = options->show_all;
    tuner->question.options.log = options->log;
    if (options->seconds >= 0) {
        tuner->question.options.budget_seconds = options->seconds;
    }
    *out = tuner;
    return TT_OK;
}

void tt_tuner_destroy(tt_tuner *tuner)
{
    if (!tuner) {
        return;
    }
    tt_context_destroy(tuner->context);
    tt_tuner_question_clear(&tuner->question);
    free(tuner);
}

tt_context *tt_tuner_context(tt_tuner *tuner)
{
    return tuner->context;
}

tt_tune_options *tt_tuner_question_of(tt_tuner *tuner)
{
    return &tuner->question.options;
}
