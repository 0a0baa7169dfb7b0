/* detect_and_tune: prove, then time, then choose. */
#include "tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const tt_effort first_round = {3, 12, 0.02, 1.7};
const tt_effort tt_second_round = {5, 30, 0.005, 1.3};
/* After the first round: what takes so many times as long as the fastest may yet be as fast, and
 * what takes more than so many is not taken to the second. */
static const double close_by = 1.06, behind = 1.25;
/* Of the budget, for the first round. */
static const double first_share = 0.5;
/* At most so many tiles get there, and variants beside the product's own try so many. */
enum { SURVIVORS = 5, OTHERS_TILES = 2 };

void tt_tune_options_init(tt_tune_options *options)
{
    *options = (tt_tune_options){.size = sizeof *options, .budget_seconds = 20};
}

typedef struct tuning {
    const tt_tune_target *target;
    const tt_tune_options *options;
    tt_watch watch;
    tt_problem *problems;
    tt_tuning *out;
} tuning;

static tt_status check_shape(const tt_gemm_shape *shape)
{
    if (shape->op != TT_OP_LINEAR_FORWARD && shape->op != TT_OP_LINEAR_DGRAD &&
        shape->op != TT_OP_LINEAR_WGRAD)
        return tt_fail(TT_EINVAL, "tune: %s is not a matrix product", tt_op_name(shape->op));
    if (shape->m <= 0 || shape->n <= 0 || shape->k <= 0 || shape->count <= 0)
        return tt_fail(TT_EINVAL, "tune: shape %lldx%lldx%lld, %d times: each must be positive",
                       (long long)shape->m, (long long)shape->n, (long long)shape->k, shape->count);
    return TT_OK;
}

tt_status tt_tune_check_options(const tt_tune_target *target, const tt_tune_options *options)
{
    if (options == NULL || options->size < sizeof *options)
        return tt_fail(TT_EINVAL, "tune options are missing or of an older version");
    if (options->shape_count == 0 || options->shapes == NULL || options->tile_count == 0 ||
        options->tiles == NULL)
        return tt_fail(TT_EINVAL, "tune: no shapes or no tiles");
    if (options->tile_count * target->family_count > TT_TUNE_COSTS_MAX)
        return tt_fail(TT_EINVAL, "tune: %zu tiles are too many", options->tile_count);
    if (isnan(options->budget_seconds))
        return tt_fail(TT_EINVAL, "tune: the budget is not a number");
    for (size_t i = 0; i < options->tile_count; i++)
        if (!tt_tile_valid(options->tiles[i]))
            return tt_fail(TT_EINVAL, "tune: tile %zu is none (powers of two, %d to %d)", i,
                           TT_TILE_MIN, TT_TILE_MAX);
    for (size_t i = 0; i < options->shape_count; i++)
        if (check_shape(&options->shapes[i]) != TT_OK)
            return TT_EINVAL;
    return TT_OK;
}

static tt_tune_cell *cell_of(const tuning *t, size_t shape, size_t candidate)
{
    return &t->out->cells[shape * t->out->candidate_count + candidate];
}

static tt_tile largest_tile(const tuning *t, const size_t *members, size_t count)
{
    tt_tile largest = {TT_TILE_MIN, TT_TILE_MIN, TT_TILE_MIN};
    for (size_t i = 0; i < count; i++) {
        tt_tile tile = t->out->candidates[members[i]].tile;
        largest.m = tile.m > largest.m ? tile.m : largest.m;
        largest.n = tile.n > largest.n ? tile.n : largest.n;
    }
    return largest;
}

/* Exact families make the same bits with every tile, also with those that were proven before. */
static void recall_bits(const tuning *t, size_t shape)
{
    tt_problem *problem = &t->problems[shape];
    for (size_t c = 0; c < t->out->candidate_count; c++) {
        const tt_tune_cell *cell = cell_of(t, shape, c);
        size_t family = (size_t)(tt_tuning_family(t->target, t->out, c) - t->target->families);
        if (cell->bits != 0) {
            problem->hashed[family] = true;
            problem->hash[family] = cell->bits;
        }
    }
}

static tt_status prove(tuning *t, size_t shape, size_t candidate)
{
    tt_tune_cell *cell = cell_of(t, shape, candidate);
    tt_problem *problem = &t->problems[shape];
    const tt_tune_family *family = tt_tuning_family(t->target, t->out, candidate);
    size_t at = (size_t)(family - t->target->families);
    if (cell->state != TT_TUNE_UNKNOWN || tt_watch_is_up(&t->watch))
        return TT_OK;
    tt_status status = tt_problem_check(problem, t->target, family,
                                        t->out->candidates[candidate].tile, &cell->error);
    if (status == TT_OK)
        cell->state = cell->error <= 1 ? TT_TUNE_PROVEN : TT_TUNE_WRONG;
    if (cell->state == TT_TUNE_PROVEN && problem->hashed[at])
        cell->bits = problem->hash[at];
    return status;
}

/* Times the members on one shape. They count as timed only together: where the time was up before
 * one of them had its runs, those that had them would win for being first. */
static tt_status time_members(tuning *t, size_t shape, const size_t *members, size_t count,
                              const tt_effort *how, int round)
{
    tt_racer racers[TT_TUNE_COSTS_MAX];
    size_t right = 0;
    bool all = false;
    for (size_t i = 0; i < count; i++)
        if (cell_of(t, shape, members[i])->state >= TT_TUNE_PROVEN)
            racers[right++] = (tt_racer){.problem = &t->problems[shape],
                                         .target = t->target,
                                         .family = tt_tuning_family(t->target, t->out, members[i]),
                                         .tile = t->out->candidates[members[i]].tile,
                                         .cell = cell_of(t, shape, members[i])};
    tt_status status = tt_race(&t->watch, how, racers, right, &all);
    for (size_t i = 0; i < right && status == TT_OK && all; i++)
        tt_tune_note_time(racers[i].cell, round, racers[i].seconds);
    return status;
}

/* Whether a round on a shape has nothing more to find out of these. */
static bool finished(const tuning *t, size_t shape, const size_t *members, size_t count, int round)
{
    for (size_t i = 0; i < count; i++) {
        const tt_tune_cell *cell = cell_of(t, shape, members[i]);
        if (cell->state != TT_TUNE_WRONG && cell->rounds < round)
            return false;
    }
    return true;
}

/* References are computed for those alone that are still to be proven. */
static tt_status open_problem(const tuning *t, size_t shape, const size_t *members, size_t count)
{
    size_t unproven[TT_TUNE_COSTS_MAX], left = 0;
    tt_status status = TT_OK;
    for (size_t i = 0; i < count; i++)
        if (cell_of(t, shape, members[i])->state == TT_TUNE_UNKNOWN)
            unproven[left++] = members[i];
    tt_problem_frame(&t->problems[shape], &t->options->shapes[shape], t->target);
    if (left > 0)
        status = tt_problem_fit(&t->problems[shape], &t->options->shapes[shape],
                                largest_tile(t, unproven, left), t->target);
    recall_bits(t, shape);
    return status == TT_OK ? tt_problem_open(&t->problems[shape]) : status;
}

/* Proves and times the members on one shape, as far as the time goes. */
static tt_status race(tuning *t, size_t shape, const size_t *members, size_t count,
                      const tt_effort *how, int round)
{
    if (finished(t, shape, members, count, round) || tt_watch_is_up(&t->watch))
        return TT_OK;
    tt_status status = open_problem(t, shape, members, count);
    for (size_t i = 0; i < count && status == TT_OK; i++)
        status = prove(t, shape, members[i]);
    if (status == TT_OK)
        status = time_members(t, shape, members, count, how, round);
    tt_problem_close(&t->problems[shape]);
    return status;
}

/* ---- the first round ---- */

double tt_tune_work(const tt_gemm_shape *shape)
{
    return (double)shape->m * (double)shape->n * (double)shape->k;
}

/* The shape that weighs most of a product's; shape_count where it has none. */
static size_t find_pilot(const tuning *t, tt_op op)
{
    double most = 0;
    size_t pilot = t->out->shape_count;
    for (size_t s = 0; s < t->out->shape_count; s++) {
        const tt_gemm_shape *shape = &t->out->shapes[s];
        if (shape->op == op && tt_tune_work(shape) * shape->count > most) {
            most = tt_tune_work(shape) * shape->count;
            pilot = s;
        }
    }
    return pilot;
}

/* Candidates of the product's own variant with every tile, and those that take none. */
static size_t list_first(const tuning *t, size_t pilot, size_t *members)
{
    size_t count = 0;
    tt_op op = t->out->shapes[pilot].op;
    for (size_t c = 0; c < t->out->candidate_count; c++) {
        const tt_tune_family *family = tt_tuning_family(t->target, t->out, c);
        if (cell_of(t, pilot, c)->state != TT_TUNE_ABSENT &&
            (family->current[op] || !family->tiled))
            members[count++] = c;
    }
    return count;
}

/* How many tiled candidates of this product's own variant are faster on this shape. */
static size_t rank_of(const tuning *t, size_t pilot, size_t candidate)
{
    size_t rank = 0;
    for (size_t c = 0; c < t->out->candidate_count; c++) {
        const tt_tune_cell *cell = cell_of(t, pilot, c);
        if (tt_tuning_family(t->target, t->out, c)->current[t->out->shapes[pilot].op] &&
            cell->state == TT_TUNE_TIMED &&
            cell->first_seconds < cell_of(t, pilot, candidate)->first_seconds)
            rank++;
    }
    return rank;
}

/* Other tiled variants with the tiles that serve the product's own best; where that takes none,
 * with the first ones. */
static size_t list_others(const tuning *t, size_t pilot, size_t *members)
{
    size_t count = 0, first = t->out->incumbent[t->out->shapes[pilot].op];
    bool own_tiled = tt_tuning_family(t->target, t->out, first)->tiled;
    for (size_t c = 0; c < t->out->candidate_count; c++) {
        const tt_tune_family *family = tt_tuning_family(t->target, t->out, c);
        tt_tune_state state = cell_of(t, pilot, c)->state;
        if ((state != TT_TUNE_UNKNOWN && state != TT_TUNE_PROVEN) || !family->tiled)
            continue;
        size_t tile = 0;
        while (memcmp(&t->options->tiles[tile], &t->out->candidates[c].tile, sizeof(tt_tile)) != 0)
            tile++;
        const tt_tune_cell *own = cell_of(t, pilot, first + (own_tiled ? tile : 0));
        bool good = own_tiled ? own->state == TT_TUNE_TIMED &&
                                    rank_of(t, pilot, first + tile) < OTHERS_TILES
                              : tile < OTHERS_TILES;
        if (good)
            members[count++] = c;
    }
    return count;
}

/* The fastest that was timed on this shape; candidate_count where none was. */
static size_t find_fastest(const tuning *t, size_t shape)
{
    size_t fastest = t->out->candidate_count;
    for (size_t c = 0; c < t->out->candidate_count; c++)
        if (cell_of(t, shape, c)->state == TT_TUNE_TIMED &&
            (fastest == t->out->candidate_count ||
             cell_of(t, shape, c)->first_seconds < cell_of(t, shape, fastest)->first_seconds))
            fastest = c;
    return fastest;
}

/* Others beside the fastest, which runs once more: the machine may be slower now than it was when
 * that was found out, and all are to be told in the same measure. */
static tt_status run_others(tuning *t, size_t pilot)
{
    size_t members[TT_TUNE_COSTS_MAX];
    size_t count = list_others(t, pilot, members), fastest = find_fastest(t, pilot);
    if (fastest == t->out->candidate_count || count == 0)
        return race(t, pilot, members, count, &first_round, 1);
    double before = cell_of(t, pilot, fastest)->first_seconds;
    members[count++] = fastest;
    tt_status status = race(t, pilot, members, count, &first_round, 1);
    double measure = before / cell_of(t, pilot, fastest)->first_seconds;
    for (size_t i = 0; i < count; i++) {
        cell_of(t, pilot, members[i])->first_seconds *= measure;
        cell_of(t, pilot, members[i])->seconds *= measure;
    }
    return status;
}

static tt_status run_pilot(tuning *t, size_t pilot)
{
    size_t members[TT_TUNE_COSTS_MAX];
    size_t count = list_first(t, pilot, members);
    tt_status status = race(t, pilot, members, count, &first_round, 1);
    return status == TT_OK ? run_others(t, pilot) : status;
}

/* ---- the second round ---- */

/* The least cost on the pilot among the candidates of its product with this tile (NULL: of all);
 * INFINITY where none was timed. */
static double pilot_cost(const tuning *t, size_t pilot, const tt_tile *tile)
{
    double least = INFINITY;
    for (size_t c = 0; c < t->out->candidate_count; c++) {
        const tt_tune_cell *cell = cell_of(t, pilot, c);
        const tt_tune_family *family = tt_tuning_family(t->target, t->out, c);
        if (cell->state != TT_TUNE_TIMED || !family->acceptable[t->out->shapes[pilot].op] ||
            (tile != NULL && family->tiled &&
             memcmp(&t->out->candidates[c].tile, tile, sizeof *tile) != 0))
            continue;
        least = fmin(least, cell->first_seconds);
    }
    return least;
}

/* What a tile promises for a whole step: each pilot stands for its product's work. */
static double promise(const tuning *t, const tt_tile *tile)
{
    double cost = 0;
    for (int op = 0; op < TT_PRODUCTS; op++) {
        double work = 0;
        size_t pilot = find_pilot(t, (tt_op)op);
        for (size_t s = 0; s < t->out->shape_count; s++)
            if (t->out->shapes[s].op == (tt_op)op)
                work += tt_tune_work(&t->out->shapes[s]) * t->out->shapes[s].count;
        if (work > 0)
            cost += pilot_cost(t, pilot, tile) * work / tt_tune_work(&t->out->shapes[pilot]);
    }
    return cost;
}

/* Marks at most SURVIVORS tiles: of those that may be as fast as the fastest the first in the list,
 * since these win a tie, and then the fastest of those that are not far behind. */
static void pick_tiles(const tuning *t, bool *picked)
{
    double costs[TT_TUNE_COSTS_MAX], least = INFINITY;
    size_t count = t->options->tile_count, left = SURVIVORS;
    for (size_t i = 0; i < count; i++) {
        costs[i] = promise(t, &t->options->tiles[i]);
        least = fmin(least, costs[i]);
        picked[i] = false;
    }
    for (size_t i = 0; i < count && left > 0; i++) {
        picked[i] = costs[i] <= close_by * least;
        left -= picked[i];
    }
    for (; left > 0; left--) {
        size_t next = count;
        for (size_t i = 0; i < count; i++)
            if (!picked[i] && costs[i] <= behind * least &&
                (next == count || costs[i] < costs[next]))
                next = i;
        if (next == count)
            return;
        picked[next] = true;
    }
}

/* The candidates of a shape's product that go on, the incumbent among them: what it costs is what
 * the choice is worth. */
static size_t list_survivors(const tuning *t, size_t shape, const bool *picked, size_t *members)
{
    size_t count = 0;
    tt_op op = t->out->shapes[shape].op;
    size_t pilot = find_pilot(t, op);
    double least = pilot_cost(t, pilot, NULL);
    for (size_t c = 0; c < t->out->candidate_count; c++) {
        const tt_tune_cell *cell = cell_of(t, pilot, c);
        const tt_tune_family *family = tt_tuning_family(t->target, t->out, c);
        bool good = c == t->out->incumbent[op];
        if (cell->state != TT_TUNE_TIMED)
            continue;
        if (cell->first_seconds <= behind * least) {
            good = good || !family->tiled;
            for (size_t i = 0; i < t->options->tile_count; i++)
                good =
                    good || (picked[i] && memcmp(&t->options->tiles[i], &t->out->candidates[c].tile,
                                                 sizeof(tt_tile)) == 0);
        }
        if (good)
            members[count++] = c;
    }
    return count;
}

static bool listed(const size_t *members, size_t count, size_t candidate)
{
    for (size_t i = 0; i < count; i++)
        if (members[i] == candidate)
            return true;
    return false;
}

/* The heavier of two shapes, or the first of equal ones, comes first. */
static bool comes_before(const tuning *t, size_t a, size_t b)
{
    double of_a = tt_tune_work(&t->out->shapes[a]) * t->out->shapes[a].count;
    double of_b = tt_tune_work(&t->out->shapes[b]) * t->out->shapes[b].count;
    return of_a > of_b || (of_a >= of_b && a < b);
}

/* The shape that comes after `shape`, or first of all where that is shape_count; shape_count after
 * the last. */
static size_t next_shape(const tuning *t, size_t shape)
{
    size_t count = t->out->shape_count, next = count;
    for (size_t s = 0; s < count; s++)
        if ((shape == count || comes_before(t, shape, s)) &&
            (next == count || comes_before(t, s, next)))
            next = s;
    return next;
}

/* Those that did not get to the second round, in its measure. */
static void restate_others(const tuning *t, size_t shape)
{
    size_t known = t->out->candidate_count;
    for (size_t c = 0; c < t->out->candidate_count; c++)
        if (cell_of(t, shape, c)->rounds == 2 && cell_of(t, shape, c)->first_seconds > 0)
            known = c;
    if (known == t->out->candidate_count)
        return;
    double measure = cell_of(t, shape, known)->seconds / cell_of(t, shape, known)->first_seconds;
    for (size_t c = 0; c < t->out->candidate_count; c++)
        if (cell_of(t, shape, c)->rounds == 1)
            cell_of(t, shape, c)->seconds = cell_of(t, shape, c)->first_seconds * measure;
}

/* *settled: all that the second round could find out here is known. */
static tt_status run_shape(tuning *t, size_t shape, const bool *picked, bool *settled)
{
    size_t members[TT_TUNE_COSTS_MAX];
    size_t count = list_survivors(t, shape, picked, members);
    double work = 0, spent = tt_watch_spent(&t->watch);
    for (size_t s = shape; s < t->out->shape_count; s = next_shape(t, s))
        work += tt_tune_work(&t->out->shapes[s]);
    t->watch.deadline =
        spent + (t->watch.budget - spent) * tt_tune_work(&t->out->shapes[shape]) / work;
    tt_status status = race(t, shape, members, count, &tt_second_round, 2);
    restate_others(t, shape);
    *settled = finished(t, shape, members, count, 2);
    for (size_t c = 0; c < t->out->candidate_count; c++) {
        tt_tune_cell *cell = cell_of(t, shape, c);
        if (cell->state == TT_TUNE_UNKNOWN && *settled && !listed(members, count, c))
            cell->state = TT_TUNE_HOPELESS;
    }
    tt_problem_clear(&t->problems[shape]);
    return status;
}

static tt_status run_rounds(tuning *t)
{
    bool picked[TT_TUNE_COSTS_MAX];
    tt_status status = TT_OK;
    for (int op = 0; op < TT_PRODUCTS && status == TT_OK; op++) {
        size_t pilot = find_pilot(t, (tt_op)op);
        t->watch.deadline = t->watch.budget * first_share * (op + 1) / TT_PRODUCTS;
        if (pilot < t->out->shape_count)
            status = run_pilot(t, pilot);
    }
    if (status != TT_OK || tt_watch_is_up(&t->watch))
        return status;
    pick_tiles(t, picked);
    t->out->complete = true;
    for (size_t s = next_shape(t, t->out->shape_count); s < t->out->shape_count && status == TT_OK;
         s = next_shape(t, s)) {
        bool settled = false;
        status = run_shape(t, s, picked, &settled);
        t->out->complete = t->out->complete && settled;
    }
    return status;
}

tt_status tt_tune_further(const tt_tune_target *target, const tt_tune_options *options,
                          tt_tuning *out)
{
    tuning t = {.target = target, .options = options, .out = out};
    t.watch = tt_watch_begin(options);
    t.problems = calloc(options->shape_count, sizeof *t.problems);
    tt_status status = t.problems == NULL ? tt_fail(TT_ENOMEM, "tune: no memory for %zu shapes",
                                                    options->shape_count)
                                          : run_rounds(&t);
    if (status == TT_OK)
        status = tt_tuning_choose(target, options->tiles, options->tile_count, out);
    out->seconds = tt_watch_spent(&t.watch);
    for (size_t s = 0; t.problems != NULL && s < options->shape_count; s++)
        tt_problem_clear(&t.problems[s]);
    free(t.problems);
    return status;
}

tt_status tt_tune_with(const tt_tune_target *target, const tt_tune_options *options, tt_tuning *out)
{
    tt_status status = tt_tune_check_options(target, options);
    if (status == TT_OK)
        status = tt_tuning_begin(target, options, out);
    if (status != TT_OK)
        return status;
    status = tt_tune_further(target, options, out);
    if (status != TT_OK)
        tt_tuning_clear(out);
    return status;
}

/* The product's own family. */
static const tt_tune_family *own_family(const tt_tune_target *target, tt_op op)
{
    const tt_tune_family *family = target->families;
    while (!family->current[op])
        family++;
    return family;
}

tt_status tt_prove_all(const tt_tune_target *target, const tt_tune_options *options, double *error,
                       size_t *wrong)
{
    tt_status status = TT_OK;
    *error = 0;
    *wrong = options->shape_count;
    for (size_t s = 0; s < options->shape_count && *error <= 1 && status == TT_OK; s++) {
        tt_problem problem = {0};
        double worst = 0;
        status = check_shape(&options->shapes[s]);
        if (status == TT_OK)
            status = tt_problem_fit(&problem, &options->shapes[s], options->tiles[0], target);
        if (status == TT_OK)
            status = tt_problem_open(&problem);
        if (status == TT_OK)
            status = tt_problem_check(&problem, target, own_family(target, options->shapes[s].op),
                                      options->tiles[0], &worst);
        tt_problem_clear(&problem);
        *error = fmax(*error, worst);
        if (!(worst <= 1))
            *wrong = s;
    }
    return status;
}
