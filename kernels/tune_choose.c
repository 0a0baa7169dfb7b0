/* Candidates, and the choice among them: a pure function of what is known of each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tune.h"

/* Costs closer than the first share count as equal, further apart than the second never. */
static const double band_least = 0.02, band_most = 0.06;

/* ---- the list ---- */

static size_t count_candidates(const tt_tune_target *target, const tt_tune_options *options)
{
    size_t count = 0;
    for (size_t f = 0; f < target->family_count; f++)
        count += target->families[f].tiled ? options->tile_count : 1;
    return count;
}

static tt_status take_lists(const tt_tune_options *options, size_t candidates, tt_tuning *out)
{
    *out = (tt_tuning){.shape_count = options->shape_count, .candidate_count = candidates};
    out->shapes = calloc(options->shape_count, sizeof *out->shapes);
    out->candidates = calloc(candidates, sizeof *out->candidates);
    out->cells = calloc(options->shape_count * candidates, sizeof *out->cells);
    if (out->shapes == NULL || out->candidates == NULL || out->cells == NULL) {
        tt_tuning_clear(out);
        return tt_fail(TT_ENOMEM, "tune: no memory for %zu candidates", candidates);
    }
    return TT_OK;
}

tt_status tt_tuning_begin(const tt_tune_target *target, const tt_tune_options *options,
                          tt_tuning *out)
{
    size_t count = count_candidates(target, options), at = 0;
    tt_status status = take_lists(options, count, out);
    if (status != TT_OK)
        return status;
    memcpy(out->shapes, options->shapes, options->shape_count * sizeof *out->shapes);
    out->tile = options->tiles[0];
    for (size_t f = 0; f < target->family_count; f++) {
        const tt_tune_family *family = &target->families[f];
        for (int op = 0; op < TT_PRODUCTS; op++)
            if (family->current[op])
                out->incumbent[op] = out->chosen[op] = at;
        for (size_t t = 0; t < (family->tiled ? options->tile_count : 1); t++, at++) {
            out->candidates[at] = (tt_tune_candidate){.variant = family->name};
            if (family->tiled)
                out->candidates[at].tile = options->tiles[t];
            for (size_t s = 0; s < out->shape_count; s++)
                out->cells[s * count + at].state =
                    family->candidate[out->shapes[s].op] ? TT_TUNE_UNKNOWN : TT_TUNE_ABSENT;
        }
    }
    return TT_OK;
}

void tt_tuning_clear(tt_tuning *tuning)
{
    free(tuning->shapes);
    free(tuning->candidates);
    free(tuning->cells);
    *tuning = (tt_tuning){0};
}

const tt_tune_family *tt_tuning_family(const tt_tune_target *target, const tt_tuning *tuning,
                                       size_t candidate)
{
    const tt_tune_family *family = target->families;
    while (strcmp(family->name, tuning->candidates[candidate].variant) != 0)
        family++;
    return family;
}

/* ---- what is known ---- */

double tt_tuning_seconds(const tt_tuning *tuning, tt_op op, size_t candidate)
{
    double seconds = 0;
    for (size_t s = 0; s < tuning->shape_count; s++) {
        const tt_tune_cell *cell = &tuning->cells[s * tuning->candidate_count + candidate];
        if (tuning->shapes[s].op != op)
            continue;
        if (cell->state != TT_TUNE_TIMED)
            return INFINITY;
        seconds += tuning->shapes[s].count * cell->seconds;
    }
    return seconds;
}

/* The same over the shapes that were timed at all: where the time was up early, what is known of
 * the others says more than nothing. */
static double known_seconds(const tt_tuning *tuning, tt_op op, size_t candidate)
{
    double seconds = 0;
    for (size_t s = 0; s < tuning->shape_count; s++) {
        const tt_tune_cell *cells = &tuning->cells[s * tuning->candidate_count];
        bool timed = false;
        for (size_t c = 0; c < tuning->candidate_count; c++)
            timed = timed || cells[c].state == TT_TUNE_TIMED;
        if (tuning->shapes[s].op != op || (!timed && cells[candidate].state != TT_TUNE_WRONG))
            continue;
        if (cells[candidate].state != TT_TUNE_TIMED)
            return INFINITY;
        seconds += tuning->shapes[s].count * cells[candidate].seconds;
    }
    return seconds > 0 ? seconds : INFINITY;
}

static bool known_wrong(const tt_tuning *tuning, tt_op op, size_t candidate)
{
    for (size_t s = 0; s < tuning->shape_count; s++)
        if (tuning->shapes[s].op == op &&
            tuning->cells[s * tuning->candidate_count + candidate].state == TT_TUNE_WRONG)
            return true;
    return false;
}

static bool has_shapes(const tt_tuning *tuning, tt_op op)
{
    for (size_t s = 0; s < tuning->shape_count; s++)
        if (tuning->shapes[s].op == op)
            return true;
    return false;
}

static bool has_times(const tt_tuning *tuning, tt_op op)
{
    for (size_t c = 0; c < tuning->candidate_count; c++)
        if (isfinite(known_seconds(tuning, op, c)))
            return true;
    return false;
}

static bool same_tile(tt_tile a, tt_tile b)
{
    return a.m == b.m && a.n == b.n && a.k == b.k;
}

/* A candidate for this product where the context's tile is `tile`. */
static bool fits(const tt_tune_target *target, const tt_tuning *tuning, tt_op op, tt_tile tile,
                 size_t candidate)
{
    const tt_tune_family *family = tt_tuning_family(target, tuning, candidate);
    return family->candidate[op] && family->acceptable[op] &&
           (!family->tiled || same_tile(tuning->candidates[candidate].tile, tile));
}

/* ---- the choice ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double tt_tune_limit(const double *costs, size_t count)
{
    double best = INFINITY, at[TT_TUNE_COSTS_MAX + 2], widest = 0, limit = 1 + band_least;
    size_t inside = 0;
    for (size_t i = 0; i < count; i++)
        best = fmin(best, costs[i]);
    if (!(best < INFINITY) || !(best > 0))
        return best;
    at[inside++] = 1 + band_least;
    for (size_t i = 0; i < count && inside <= TT_TUNE_COSTS_MAX; i++)
        if (costs[i] > best * (1 + band_least) && costs[i] < best * (1 + band_most))
            at[inside++] = costs[i] / best;
    at[inside++] = 1 + band_most;
    qsort(at, inside, sizeof *at, compare_doubles);
    for (size_t i = 0; i + 1 < inside; i++) {
        if (at[i + 1] - at[i] > widest) {
            widest = at[i + 1] - at[i];
            limit = (at[i] + at[i + 1]) / 2;
        }
    }
    return best * limit;
}

/* Of the candidates of a product with this tile the first that counts as fastest, its own variant
 * before all others; false where none was timed. */
static bool choose_candidate(const tt_tune_target *target, const tt_tuning *tuning, tt_op op,
                             tt_tile tile, size_t *out, double *least)
{
    double costs[TT_TUNE_COSTS_MAX];
    *least = INFINITY;
    for (size_t c = 0; c < tuning->candidate_count; c++) {
        costs[c] =
            fits(target, tuning, op, tile, c) ? known_seconds(tuning, op, c) : (double)INFINITY;
        *least = fmin(*least, costs[c]);
    }
    double limit = tt_tune_limit(costs, tuning->candidate_count);
    for (int own = 1; own >= 0 && *least < INFINITY; own--) {
        for (size_t c = 0; c < tuning->candidate_count; c++) {
            if (costs[c] <= limit &&
                tt_tuning_family(target, tuning, c)->current[op] == (own == 1)) {
                *out = c;
                return true;
            }
        }
    }
    return false;
}

/* Where nothing was timed: the first that is not known to be wrong, of the product's own variant or
 * of any other. */
static bool choose_unknown(const tt_tune_target *target, const tt_tuning *tuning, tt_op op,
                           tt_tile tile, bool own, size_t *out)
{
    for (size_t c = 0; c < tuning->candidate_count; c++) {
        if (fits(target, tuning, op, tile, c) && !known_wrong(tuning, op, c) &&
            (!own || tt_tuning_family(target, tuning, c)->current[op])) {
            *out = c;
            return true;
        }
    }
    return false;
}

/* What a step's products cost with this tile, each by its best candidate, as far as any of theirs
 * were timed; INFINITY where one of them has none with this tile, or none was timed at all. */
static double tile_cost(const tt_tune_target *target, const tt_tuning *tuning, tt_tile tile)
{
    double cost = 0, least;
    size_t unused;
    for (int op = 0; op < TT_PRODUCTS; op++) {
        if (!has_times(tuning, (tt_op)op))
            continue;
        if (!choose_candidate(target, tuning, (tt_op)op, tile, &unused, &least))
            return INFINITY;
        cost += least;
    }
    return cost > 0 ? cost : INFINITY;
}

/* All products with one tile; false where one of them is left without. */
static bool choose_all(const tt_tune_target *target, tt_tuning *tuning, tt_tile tile, bool own)
{
    for (int op = 0; op < TT_PRODUCTS; op++) {
        double least;
        if (has_shapes(tuning, (tt_op)op) &&
            !choose_candidate(target, tuning, (tt_op)op, tile, &tuning->chosen[op], &least) &&
            !choose_unknown(target, tuning, (tt_op)op, tile, own, &tuning->chosen[op]))
            return false;
    }
    tuning->tile = tile;
    return true;
}

tt_status tt_tuning_choose(const tt_tune_target *target, const tt_tile *tiles, size_t tile_count,
                           tt_tuning *tuning)
{
    double costs[TT_TUNE_COSTS_MAX] = {0};
    for (size_t t = 0; t < tile_count; t++)
        costs[t] = tile_cost(target, tuning, tiles[t]);
    double limit = tt_tune_limit(costs, tile_count);
    for (int own = 1; own >= 0; own--)
        for (size_t t = 0; t < tile_count; t++)
            if ((costs[t] <= limit || isinf(limit)) &&
                choose_all(target, tuning, tiles[t], own == 1))
                return TT_OK;
    return tt_fail(TT_EINTERNAL, "tune: not one of %zu candidates computes the right product",
                   tuning->candidate_count);
}
