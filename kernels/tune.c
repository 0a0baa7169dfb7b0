/* detect_and_tune for the tile: prove, then time, then choose. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tune.h"

/* Candidates timed together with the incumbent; their times count relative to the incumbent's of
 * the same wave, so that a drifting clock favours none. */
enum { WAVE = 4, REPETITIONS_MAX = 101 };

void tt_tune_options_init(tt_tune_options *options)
{
    *options = (tt_tune_options){
        .size = sizeof *options, .budget_seconds = 10, .tie_band = 0.02, .repetitions = 5};
}

typedef struct tuning {
    const tt_tune_target *target;
    const tt_tune_options *options;
    tt_clock clock;
    uint64_t begin;
    tt_problem *problems;
    tt_tune_candidate *results;
    size_t anchor;         /* the first conforming candidate: the incumbent unless that is wrong */
    double anchor_seconds; /* its time in the first wave */
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

static tt_status check_options(const tt_tune_options *options)
{
    if (options == NULL || options->size < sizeof *options)
        return tt_fail(TT_EINVAL, "tune options are missing or of an older version");
    if (options->shape_count == 0 || options->shapes == NULL || options->candidate_count == 0 ||
        options->candidates == NULL)
        return tt_fail(TT_EINVAL, "tune: no shapes or no candidates");
    if (options->repetitions < 1 || options->repetitions > REPETITIONS_MAX ||
        !(options->tie_band >= 0) || isnan(options->budget_seconds))
        return tt_fail(TT_EINVAL, "tune: repetitions, tie band or budget is out of range");
    for (size_t i = 0; i < options->candidate_count; i++)
        if (!tt_tile_valid(options->candidates[i]))
            return tt_fail(TT_EINVAL, "tune: candidate %zu is no tile (powers of two, %d to %d)", i,
                           TT_TILE_MIN, TT_TILE_MAX);
    for (size_t i = 0; i < options->shape_count; i++)
        if (check_shape(&options->shapes[i]) != TT_OK)
            return TT_EINVAL;
    return TT_OK;
}

static double seconds_left(const tuning *t)
{
    return t->options->budget_seconds - (double)(tt_clock_now(&t->clock) - t->begin) * 1e-9;
}

static tt_tile largest_tile(const tuning *t, size_t begin, size_t end)
{
    tt_tile largest = {TT_TILE_MIN, TT_TILE_MIN, TT_TILE_MIN};
    for (size_t i = begin; i < end; i++) {
        tt_tile tile = t->results[i].tile;
        largest.m = tile.m > largest.m ? tile.m : largest.m;
        largest.n = tile.n > largest.n ? tile.n : largest.n;
    }
    return largest;
}

/* Candidates [begin, end) on one shape; *spent if the budget did not suffice. */
static tt_status prove_shape(tuning *t, size_t s, size_t begin, size_t end, bool *right,
                             bool *spent)
{
    tt_problem *problem = &t->problems[s];
    *spent = seconds_left(t) <= 0;
    if (*spent)
        return TT_OK;
    tt_status status = tt_problem_fit(problem, &t->options->shapes[s], largest_tile(t, begin, end),
                                      t->target->threads);
    if (status == TT_OK)
        status = tt_problem_open(problem);
    for (size_t i = begin; i < end && status == TT_OK && !*spent; i++) {
        *spent = seconds_left(t) <= 0;
        if (!*spent && right[i - begin])
            status = tt_problem_check(problem, t->target, t->results[i].tile, &t->results[i].error,
                                      &right[i - begin]);
    }
    tt_problem_close(problem);
    return status;
}

/* Proves candidates [begin, end) on every shape; none of them conforms when the budget does not
 * suffice for all. */
static tt_status prove(tuning *t, size_t begin, size_t end)
{
    bool right[WAVE], spent = false;
    for (size_t i = begin; i < end; i++)
        right[i - begin] = true;
    for (size_t s = 0; s < t->options->shape_count && !spent; s++) {
        tt_status status = prove_shape(t, s, begin, end, right, &spent);
        if (status != TT_OK)
            return status;
    }
    for (size_t i = begin; i < end; i++)
        t->results[i].conforms = right[i - begin] && !spent;
    return TT_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Times `count` candidates on one shape: one untimed turn, then one run of each per turn, in
 * alternating directions, until the shape's share of the budget is used. Adds count x median to
 * seconds[]. */
static tt_status time_shape(const tuning *t, size_t s, const size_t *members, size_t count,
                            double share, double *seconds)
{
    double times[WAVE + 1][REPETITIONS_MAX];
    uint64_t begin = tt_clock_now(&t->clock);
    int turns = 0;
    for (int turn = -1; turn < t->options->repetitions; turn++) {
        double used = (double)(tt_clock_now(&t->clock) - begin) * 1e-9;
        if (turn > 0 && used * (turn + 2) / (turn + 1) > share)
            break;
        for (size_t at = 0; at < count; at++) {
            size_t i = turn % 2 == 0 ? at : count - 1 - at;
            uint64_t before = tt_clock_now(&t->clock);
            tt_status status =
                tt_problem_run(&t->problems[s], t->target, t->results[members[i]].tile);
            if (status != TT_OK)
                return status;
            if (turn >= 0)
                times[i][turn] = (double)(tt_clock_now(&t->clock) - before) * 1e-9;
        }
        turns = turn + 1;
    }
    for (size_t i = 0; i < count; i++)
        seconds[i] += t->options->shapes[s].count * median(times[i], turns);
    return TT_OK;
}

/* Multiply-adds of the shapes from s on. */
static double work_from(const tuning *t, size_t s)
{
    double work = 0;
    for (; s < t->options->shape_count; s++) {
        const tt_gemm_shape *shape = &t->options->shapes[s];
        work += (double)shape->m * (double)shape->n * (double)shape->k;
    }
    return work;
}

/* The anchor and the conforming candidates of [begin, end): how many. */
static size_t list_members(const tuning *t, size_t begin, size_t end, size_t *members)
{
    size_t count = 0;
    members[count++] = t->anchor;
    for (size_t i = begin; i < end; i++)
        if (i != t->anchor && t->results[i].conforms)
            members[count++] = i;
    return count;
}

/* Times the anchor and the conforming candidates of [begin, end), unless the budget ends first. */
static tt_status time_wave(tuning *t, size_t begin, size_t end)
{
    size_t members[WAVE + 1];
    double seconds[WAVE + 1] = {0};
    size_t count = list_members(t, begin, end, members);
    for (size_t s = 0; s < t->options->shape_count; s++) {
        double left = seconds_left(t);
        if (left <= 0)
            return TT_OK;
        double share = left * (1 - work_from(t, s + 1) / work_from(t, s));
        tt_status status = tt_problem_open(&t->problems[s]);
        if (status == TT_OK)
            status = time_shape(t, s, members, count, share, seconds);
        tt_problem_close(&t->problems[s]);
        if (status != TT_OK)
            return status;
    }
    if (!t->results[t->anchor].timed)
        t->anchor_seconds = seconds[0];
    for (size_t i = 0; i < count; i++) {
        tt_tune_candidate *result = &t->results[members[i]];
        result->timed = true;
        result->seconds =
            seconds[0] > 0 ? t->anchor_seconds * (seconds[i] / seconds[0]) : seconds[i];
    }
    return TT_OK;
}

/* The first candidate within the tie band of the fastest; where none was timed, the first that is
 * not known to be wrong. */
static tt_status choose(const tuning *t, size_t *chosen)
{
    double best = INFINITY;
    size_t count = t->options->candidate_count;
    for (size_t i = 0; i < count; i++)
        if (t->results[i].conforms && t->results[i].timed)
            best = fmin(best, t->results[i].seconds);
    for (size_t i = 0; i < count; i++) {
        if (t->results[i].conforms && t->results[i].timed &&
            t->results[i].seconds <= best * (1 + t->options->tie_band)) {
            *chosen = i;
            return TT_OK;
        }
    }
    for (size_t i = 0; i < count && isinf(best); i++) {
        if (t->results[i].error <= 1) {
            *chosen = i;
            return TT_OK;
        }
    }
    return tt_fail(TT_EINTERNAL, "tune: not one of %zu tiles computes the right product", count);
}

/* A wave begins when the last one's cost per candidate says that it will get done; the first is a
 * small one, so that a short budget is enough for it. */
static tt_status run_waves(tuning *t)
{
    size_t count = t->options->candidate_count, size = 2;
    t->anchor = count;
    for (size_t begin = 0, end; begin < count && size > 0; begin = end) {
        double before = seconds_left(t);
        if (before <= 0)
            return TT_OK;
        end = begin + size < count ? begin + size : count;
        tt_status status = prove(t, begin, end);
        for (size_t i = begin; i < end && t->anchor == count; i++)
            if (status == TT_OK && t->results[i].conforms)
                t->anchor = i;
        if (status == TT_OK && t->anchor < count)
            status = time_wave(t, begin, end);
        if (status != TT_OK)
            return status;
        double left = seconds_left(t), cost = (before - left) / (double)(end - begin);
        size = left >= WAVE * cost ? WAVE : (size_t)fmax(0, left / cost);
    }
    return TT_OK;
}

/* Candidates of which nothing is known. */
static tt_status begin_results(const tt_tune_options *options, tt_tune_candidate *results)
{
    tt_status status = check_options(options);
    if (status != TT_OK)
        return status;
    if (results == NULL)
        return tt_fail(TT_EINVAL, "tune: no place for the results");
    for (size_t i = 0; i < options->candidate_count; i++)
        results[i] = (tt_tune_candidate){.tile = options->candidates[i]};
    return TT_OK;
}

tt_status tt_tune_tile_with(const tt_tune_target *target, const tt_tune_options *options,
                            tt_tune_candidate *results, size_t *chosen)
{
    if (chosen == NULL)
        return tt_fail(TT_EINVAL, "tune: no place for the choice");
    tt_status status = begin_results(options, results);
    if (status != TT_OK)
        return status;
    tuning t = {.target = target, .options = options, .results = results};
    t.clock = options->clock != NULL ? *options->clock : tt_clock_monotonic();
    t.begin = tt_clock_now(&t.clock);
    t.problems = calloc(options->shape_count, sizeof *t.problems);
    if (t.problems == NULL)
        return tt_fail(TT_ENOMEM, "tune: no memory for %zu shapes", options->shape_count);
    status = run_waves(&t);
    if (status == TT_OK)
        status = choose(&t, chosen);
    for (size_t s = 0; s < options->shape_count; s++)
        tt_problem_clear(&t.problems[s]);
    free(t.problems);
    return status;
}

static tt_status run_in_context(void *user, tt_tile tile, tt_op op, const void *args)
{
    tt_status status = tt_context_set_tile(user, tile);
    return status == TT_OK ? tt_op_run(user, op, args) : status;
}

static tt_tune_target target_of(tt_context *context)
{
    tt_tune_target target = {
        .run = run_in_context, .user = context, .threads = context->exec.threads};
    for (int op = 0; op < TT_OP_COUNT; op++)
        target.numerics[op] = tt_context_current(context, (tt_op)op)->info.numerics;
    return target;
}

tt_status tt_check_products(tt_context *context, const tt_gemm_shape *shapes, size_t count,
                            double *error, size_t *wrong)
{
    if (context == NULL || context->dtype != TT_F32)
        return tt_fail(TT_EINVAL, "check: products are checked in an f32 context");
    tt_tune_target target = target_of(context);
    tt_status status = TT_OK;
    *error = 0;
    *wrong = count;
    for (size_t i = 0; i < count && *wrong == count && status == TT_OK; i++) {
        tt_problem problem = {0};
        bool conforms = true;
        status = check_shape(&shapes[i]);
        if (status == TT_OK)
            status = tt_problem_fit(&problem, &shapes[i], context->exec.tile, target.threads);
        if (status == TT_OK)
            status = tt_problem_open(&problem);
        if (status == TT_OK)
            status = tt_problem_check(&problem, &target, context->exec.tile, error, &conforms);
        tt_problem_clear(&problem);
        if (!conforms)
            *wrong = i;
    }
    return status;
}

tt_status tt_tune_tile(tt_context *context, const tt_tune_options *options,
                       tt_tune_candidate *results, size_t *chosen)
{
    if (context == NULL || context->dtype != TT_F32)
        return tt_fail(TT_EINVAL, "tune: tiles are tuned in an f32 context");
    if (chosen != NULL && !tt_context_current(context, TT_OP_LINEAR_FORWARD)->info.tiled &&
        !tt_context_current(context, TT_OP_LINEAR_DGRAD)->info.tiled &&
        !tt_context_current(context, TT_OP_LINEAR_WGRAD)->info.tiled) {
        *chosen = 0;
        return begin_results(options, results);
    }
    tt_tune_target target = target_of(context);
    tt_tile tile = context->exec.tile;
    tt_status status = tt_tune_tile_with(&target, options, results, chosen);
    context->exec.tile = tile;
    return status;
}
