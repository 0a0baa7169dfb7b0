/* f32 against bf16: a step's products as they would run in each, proven and then timed in turn. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tune.h"

enum { SIDES = 2 };

tt_status tt_comparison_begin(const tt_tuning sides[2], tt_tuning *out)
{
    size_t shapes = sides[0].shape_count;
    *out = (tt_tuning){.shape_count = shapes, .candidate_count = SIDES};
    out->shapes = calloc(shapes, sizeof *out->shapes);
    out->candidates = calloc(SIDES, sizeof *out->candidates);
    out->cells = calloc(shapes * SIDES, sizeof *out->cells);
    if (out->shapes == NULL || out->candidates == NULL || out->cells == NULL) {
        tt_tuning_clear(out);
        return tt_fail(TT_ENOMEM, "tune: no memory for %zu shapes", shapes);
    }
    memcpy(out->shapes, sides[0].shapes, shapes * sizeof *out->shapes);
    for (int side = 0; side < SIDES; side++)
        out->candidates[side] = (tt_tune_candidate){
            .variant = tt_dtype_name(side == 0 ? TT_F32 : TT_BF16), .tile = sides[side].tile};
    for (size_t i = 0; i < shapes * SIDES; i++)
        out->cells[i].state = TT_TUNE_UNKNOWN;
    return TT_OK;
}

/* What its tuning has proven is proven. */
static void take_proof(const tt_tuning *side, size_t shape, tt_tune_cell *cell)
{
    const tt_tune_cell *known =
        &side->cells[shape * side->candidate_count + side->chosen[side->shapes[shape].op]];
    if (cell->state == TT_TUNE_UNKNOWN && known->state >= TT_TUNE_PROVEN) {
        cell->state = TT_TUNE_PROVEN;
        cell->error = known->error;
    }
}

static tt_status prove(const tt_watch *watch, const tt_gemm_shape *shape, tt_racer *racer,
                       tt_problem *problem)
{
    bool due = racer->cell->state == TT_TUNE_UNKNOWN && !tt_watch_is_up(watch);
    tt_status status = TT_OK;
    tt_problem_frame(problem, shape, racer->target);
    if (due)
        status = tt_problem_fit(problem, shape, racer->tile, racer->target);
    if (status == TT_OK)
        status = tt_problem_open(problem);
    if (status == TT_OK && due) {
        status = tt_problem_check(problem, racer->target, racer->family, racer->tile,
                                  &racer->cell->error);
        if (status == TT_OK)
            racer->cell->state = racer->cell->error <= 1 ? TT_TUNE_PROVEN : TT_TUNE_WRONG;
    }
    return status;
}

/* One shape, on both sides; *wrong where one of them is. */
static tt_status compare_shape(const tt_watch *watch, const tt_tune_target targets[2],
                               const tt_tuning sides[2], size_t shape, tt_tuning *out, bool *wrong)
{
    tt_problem problems[SIDES] = {0};
    tt_racer racers[SIDES];
    tt_tune_cell *cells = &out->cells[shape * SIDES];
    tt_op op = out->shapes[shape].op;
    bool all = false;
    tt_status status = TT_OK;
    for (int i = 0; i < SIDES && status == TT_OK; i++) {
        take_proof(&sides[i], shape, &cells[i]);
        racers[i] = (tt_racer){
            .problem = &problems[i],
            .target = &targets[i],
            .family = tt_tuning_family(&targets[i], &sides[i], sides[i].chosen[op]),
            .tile = sides[i].tile,
            .cell = &cells[i],
        };
        status = prove(watch, &out->shapes[shape], &racers[i], &problems[i]);
        *wrong = *wrong || cells[i].state == TT_TUNE_WRONG;
    }
    bool proven = cells[0].state >= TT_TUNE_PROVEN && cells[1].state >= TT_TUNE_PROVEN;
    if (status == TT_OK && proven)
        status = tt_race(watch, &tt_second_round, racers, SIDES, &all);
    for (int i = 0; i < SIDES; i++) {
        if (status == TT_OK && all)
            tt_tune_note_time(&cells[i], 2, racers[i].seconds);
        tt_problem_clear(&problems[i]);
    }
    return status;
}

void tt_comparison_choose(tt_tuning *comparison)
{
    double costs[SIDES] = {0};
    for (int side = 0; side < SIDES; side++)
        for (int op = 0; op < TT_PRODUCTS; op++)
            costs[side] += tt_tuning_seconds(comparison, (tt_op)op, (size_t)side);
    bool bf16 = isfinite(costs[0]) && costs[0] > tt_tune_limit(costs, SIDES);
    for (int op = 0; op < TT_PRODUCTS; op++)
        comparison->chosen[op] = bf16;
    comparison->tile = comparison->candidates[bf16].tile;
}

tt_status tt_compare_further(const tt_tune_target targets[2], const tt_tuning sides[2],
                             const tt_tune_options *options, tt_tuning *comparison)
{
    tt_watch watch = tt_watch_begin(options);
    tt_status status = TT_OK;
    double left = 0, work = 0;
    bool wrong = false, all = true;
    for (size_t s = 0; s < comparison->shape_count; s++)
        left += tt_tune_work(&comparison->shapes[s]);
    for (size_t s = 0; s < comparison->shape_count && status == TT_OK && !wrong;
         s++, left -= work) {
        double spent = tt_watch_spent(&watch);
        work = tt_tune_work(&comparison->shapes[s]);
        watch.deadline = spent + (watch.budget - spent) * work / left;
        if (comparison->cells[s * SIDES].state != TT_TUNE_TIMED && !tt_watch_is_up(&watch))
            status = compare_shape(&watch, targets, sides, s, comparison, &wrong);
        all = all && comparison->cells[s * SIDES].state == TT_TUNE_TIMED;
    }
    comparison->complete = all || wrong;
    comparison->seconds = tt_watch_spent(&watch);
    tt_comparison_choose(comparison);
    return status;
}
