/* Conformance of one tile on one matrix product, before it may be timed.
 *
 * Operands are a function of their indices, so the product at a smaller shape with the same k is
 * the leading part of a larger one, and one float64 reference serves every candidate.
 *
 * Bounds. For operands without bias, a float32 chain of k multiply-adds has partial sums that grow
 * like sqrt(t); the rounding errors of all of them add up to 0.41 u |a| |b| (root mean square, |.|
 * the 2-norms of the row and the column, u = 2^-24), and a start value s adds sqrt(k/3) u |s|. The
 * bound is thirty times that, 12 u (|a| |b| + sqrt(k) |s|); the worst of millions of elements stays
 * below a third of it. Freivalds (1977) multiplies the whole output by a vector of random signs:
 * the errors of a row then add up in squares. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tune.h"

enum { CANARY = 64, SAMPLES = 64, REMAINDER_ROWS = 7, REMAINDER_COLUMNS = 5 };
static const float canary = -12345.678f;
static const double unit = 0x1p-24, bound_factor = 12;

/* Splitmix64's finaliser (Steele et al. 2014) as a value in [-1, 1). */
static float value_at(uint64_t stream, int64_t i, int64_t j)
{
    uint64_t x = stream * 0xD1B54A32D192ED03u + (uint64_t)i * 0x9E3779B97F4A7C15u + (uint64_t)j;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (float)(int32_t)(uint32_t)((x ^ (x >> 31)) >> 40) * 0x1p-23f - 1.0f;
}

static float a_at(int64_t i, int64_t p)
{
    return value_at(1, i, p);
}
static float b_at(int64_t p, int64_t j)
{
    return value_at(2, p, j);
}
static double sign_at(int64_t j)
{
    return value_at(4, 0, j) < 0 ? -1 : 1;
}

/* The forward pass starts from the bias, the weight gradient from what stands there. */
static float start_at(tt_op op, int64_t i, int64_t j)
{
    if (op == TT_OP_LINEAR_DGRAD)
        return 0;
    return value_at(3, op == TT_OP_LINEAR_WGRAD ? i : 0, j);
}

/* Zeroed memory; NULL with a message. */
static void *take(int64_t count, size_t size)
{
    size_t bytes = (size_t)(count > 0 ? count : 1) * size;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes) != 0) {
        (void)tt_fail(TT_ENOMEM, "tuning needs %zu bytes", bytes);
        return NULL;
    }
    memset(memory, 0, bytes);
    return memory;
}

static void product_f64(int threads, int64_t rows, int64_t columns, int64_t k, const float *a,
                        const float *b, double *c)
{
    tt_product_f64_fn product = tt_product_f64__v1;
#if defined(__x86_64__)
    if (tt_isa_available(TT_ISA_X86_64_V3))
        product = tt_product_f64__v3;
    if (tt_isa_available(TT_ISA_X86_64_V4))
        product = tt_product_f64__v4;
#endif
    product(threads, rows, columns, k, a, b, c);
}

/* The reference on the largest checked shape. */
static tt_status expect_elements(tt_problem *problem, int threads)
{
    int64_t rows = problem->check_rows, columns = problem->check_columns, k = problem->k;
    tt_status status = TT_ENOMEM;
    float *a = take(rows * k, sizeof *a), *b = take(k * columns, sizeof *b);
    problem->expected = take(rows * columns, sizeof *problem->expected);
    if (a == NULL || b == NULL || problem->expected == NULL)
        goto out;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t p = 0; p < k; p++)
            a[i * k + p] = a_at(i, p);
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < columns; j++)
            b[p * columns + j] = b_at(p, j);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            problem->expected[i * columns + j] = (double)start_at(problem->op, i, j);
    product_f64(threads, rows, columns, k, a, b, problem->expected);
    status = TT_OK;
out:
    free(a);
    free(b);
    return status;
}

/* Norms, and the Freivalds product of the real shape: start r + a (b r). */
static tt_status expect_sums(tt_problem *problem)
{
    int64_t rows = problem->rows, columns = problem->columns, k = problem->k;
    int64_t norm_rows = rows > problem->check_rows ? rows : problem->check_rows;
    int64_t norm_columns = columns > problem->check_columns ? columns : problem->check_columns;
    double *b_signs = take(k, sizeof *b_signs);
    problem->a_norm = take(norm_rows, sizeof(double));
    problem->b_norm = take(norm_columns, sizeof(double));
    problem->sign_sum = take(rows, sizeof(double));
    tt_status status = TT_ENOMEM;
    if (b_signs == NULL || problem->a_norm == NULL || problem->b_norm == NULL ||
        problem->sign_sum == NULL)
        goto out;
    for (int64_t p = 0; p < k; p++) {
        for (int64_t j = 0; j < norm_columns; j++) {
            double value = (double)b_at(p, j);
            problem->b_norm[j] += value * value;
            if (j < columns)
                b_signs[p] += value * sign_at(j);
        }
    }
    for (int64_t j = 0; j < norm_columns; j++) {
        if (j < columns)
            problem->b_norm_squares += problem->b_norm[j];
        problem->b_norm[j] = sqrt(problem->b_norm[j]);
        if (j < columns)
            problem->b_norm_sum += problem->b_norm[j];
    }
    for (int64_t i = 0; i < norm_rows; i++) {
        double squares = 0, sum = 0;
        for (int64_t p = 0; p < k; p++) {
            double value = (double)a_at(i, p);
            squares += value * value;
            sum += value * b_signs[p];
        }
        problem->a_norm[i] = sqrt(squares);
        for (int64_t j = 0; i < rows && j < columns; j++)
            sum += (double)start_at(problem->op, i, j) * sign_at(j);
        if (i < rows)
            problem->sign_sum[i] = sum;
    }
    status = TT_OK;
out:
    free(b_signs);
    return status;
}

static int64_t checked_side(int64_t side, int tile, int remainder)
{
    return (2 * (int64_t)tile < side ? 2 * (int64_t)tile : side) + remainder;
}

tt_status tt_problem_fit(tt_problem *problem, const tt_gemm_shape *shape, tt_tile largest,
                         int threads)
{
    tt_problem next = {.op = shape->op, .hashed = problem->hashed, .hash = problem->hash};
    if (shape->op == TT_OP_LINEAR_FORWARD)
        next.rows = shape->m, next.columns = shape->n, next.k = shape->k;
    else if (shape->op == TT_OP_LINEAR_DGRAD)
        next.rows = shape->m, next.columns = shape->k, next.k = shape->n;
    else
        next.rows = shape->n, next.columns = shape->k, next.k = shape->m;
    next.check_rows = checked_side(next.rows, largest.m, REMAINDER_ROWS);
    next.check_columns = checked_side(next.columns, largest.n, REMAINDER_COLUMNS);
    if (problem->expected != NULL && next.check_rows <= problem->check_rows &&
        next.check_columns <= problem->check_columns)
        return TT_OK;
    tt_problem_clear(problem);
    *problem = next;
    tt_status status = expect_elements(problem, threads);
    return status == TT_OK ? expect_sums(problem) : status;
}

void tt_problem_clear(tt_problem *problem)
{
    tt_problem_close(problem);
    free(problem->expected);
    free(problem->a_norm);
    free(problem->b_norm);
    free(problem->sign_sum);
    *problem = (tt_problem){0};
}

/* Lays the operands out as the operation wants them. */
static void fill_operands(const tt_problem *problem, int64_t rows, int64_t columns)
{
    int64_t k = problem->k;
    bool a_transposed = problem->op == TT_OP_LINEAR_WGRAD;
    bool b_transposed = problem->op == TT_OP_LINEAR_FORWARD;
    for (int64_t i = 0; i < (a_transposed ? k : rows); i++)
        for (int64_t j = 0; j < (a_transposed ? rows : k); j++)
            problem->a[i * (a_transposed ? rows : k) + j] = a_transposed ? a_at(j, i) : a_at(i, j);
    for (int64_t i = 0; i < (b_transposed ? columns : k); i++)
        for (int64_t j = 0; j < (b_transposed ? k : columns); j++)
            problem->b[i * (b_transposed ? k : columns) + j] =
                b_transposed ? b_at(j, i) : b_at(i, j);
}

/* b is followed by the bias. */
static float *bias_of(const tt_problem *problem, int64_t columns)
{
    return problem->b + problem->k * columns;
}

/* Poisons what must be overwritten; restores what is accumulated into; renews the canaries. */
static void fill_output(const tt_problem *problem, int64_t rows, int64_t columns, int poison)
{
    int64_t n = rows * columns;
    for (int64_t i = 0; i < CANARY; i++)
        problem->out[i - CANARY] = problem->out[n + i] = canary;
    if (problem->op != TT_OP_LINEAR_WGRAD) {
        memset(problem->out, poison, (size_t)n * sizeof *problem->out);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            problem->out[i * columns + j] = start_at(problem->op, i, j);
}

static bool canaries_alive(const tt_problem *problem, int64_t n)
{
    for (int64_t i = 0; i < CANARY; i++)
        if (problem->out[i - CANARY] != canary || problem->out[n + i] != canary)
            return false;
    return true;
}

tt_status tt_problem_open(tt_problem *problem)
{
    int64_t rows = problem->rows > problem->check_rows ? problem->rows : problem->check_rows;
    int64_t columns =
        problem->columns > problem->check_columns ? problem->columns : problem->check_columns;
    problem->a = take(rows * problem->k, sizeof(float));
    problem->b = take((problem->k + 1) * columns, sizeof(float));
    problem->out_memory = take(rows * columns + 2 * CANARY, sizeof(float));
    if (problem->a == NULL || problem->b == NULL || problem->out_memory == NULL)
        return TT_ENOMEM;
    problem->out = problem->out_memory + CANARY;
    fill_operands(problem, problem->rows, problem->columns);
    for (int64_t j = 0; j < problem->columns; j++)
        bias_of(problem, problem->columns)[j] = start_at(problem->op, 0, j);
    fill_output(problem, problem->rows, problem->columns, 0);
    return TT_OK;
}

void tt_problem_close(tt_problem *problem)
{
    free(problem->a);
    free(problem->b);
    free(problem->out_memory);
    problem->a = problem->b = problem->out = problem->out_memory = NULL;
}

static tt_status run_shape(const tt_problem *problem, const tt_tune_target *target, tt_tile tile,
                           int64_t rows, int64_t columns)
{
    const float *a = problem->a, *b = problem->b;
    int64_t k = problem->k;
    if (problem->op == TT_OP_LINEAR_FORWARD)
        return target->run(target->user, tile, problem->op,
                           &(tt_linear_forward_args){.m = rows,
                                                     .n = columns,
                                                     .k = k,
                                                     .x = a,
                                                     .w = b,
                                                     .bias = bias_of(problem, columns),
                                                     .y = problem->out});
    if (problem->op == TT_OP_LINEAR_DGRAD)
        return target->run(
            target->user, tile, problem->op,
            &(tt_linear_dgrad_args){
                .m = rows, .n = k, .k = columns, .dy = a, .w = b, .dx = problem->out});
    return target->run(target->user, tile, problem->op,
                       &(tt_linear_wgrad_args){
                           .m = k, .n = rows, .k = columns, .dy = a, .x = b, .dw = problem->out});
}

tt_status tt_problem_run(const tt_problem *problem, const tt_tune_target *target, tt_tile tile)
{
    return run_shape(problem, target, tile, problem->rows, problem->columns);
}

/* The error as a share of the limit; INFINITY for NaN. */
static double share(double error, double limit)
{
    double s = fabs(error) / limit;
    return isfinite(s) ? s : INFINITY;
}

static double bound_at(const tt_problem *problem, int64_t i, int64_t j)
{
    double start = sqrt((double)problem->k) * fabs((double)start_at(problem->op, i, j));
    return bound_factor * unit * (problem->a_norm[i] * problem->b_norm[j] + start + 1e-30);
}

/* Every element, on two tiles and a remainder. */
static tt_status check_elements(tt_problem *problem, const tt_tune_target *target, tt_tile tile,
                                double *worst)
{
    int64_t rows = checked_side(problem->rows, tile.m, REMAINDER_ROWS);
    int64_t columns = checked_side(problem->columns, tile.n, REMAINDER_COLUMNS);
    fill_operands(problem, rows, columns);
    for (int64_t j = 0; j < columns; j++)
        bias_of(problem, columns)[j] = start_at(problem->op, 0, j);
    fill_output(problem, rows, columns, 0xff);
    tt_status status = run_shape(problem, target, tile, rows, columns);
    if (status != TT_OK)
        return status;
    if (!canaries_alive(problem, rows * columns))
        *worst = INFINITY;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            double error = (double)problem->out[i * columns + j] -
                           problem->expected[i * problem->check_columns + j];
            *worst = fmax(*worst, share(error, bound_at(problem, i, j)));
        }
    }
    return TT_OK;
}

static void check_freivalds(const tt_problem *problem, double *worst)
{
    double start = problem->op == TT_OP_LINEAR_DGRAD ? 0 : sqrt((double)problem->k);
    for (int64_t i = 0; i < problem->rows; i++) {
        double sum = 0, norm = problem->a_norm[i];
        for (int64_t j = 0; j < problem->columns; j++)
            sum += (double)problem->out[i * problem->columns + j] * sign_at(j);
        double squares = norm * norm * problem->b_norm_squares +
                         2 * norm * start * problem->b_norm_sum +
                         start * start * (double)problem->columns;
        *worst = fmax(
            *worst, share(sum - problem->sign_sum[i], bound_factor * unit * sqrt(squares) + 1e-30));
    }
}

/* Outputs spread over the matrix, the corners among them, by their definition. */
static void check_samples(const tt_problem *problem, double *worst)
{
    for (int64_t s = 0; s < SAMPLES; s++) {
        int64_t i = s < 2 ? 0 : problem->rows - 1, j = s % 2 == 0 ? 0 : problem->columns - 1;
        if (s >= 4) {
            i = (int64_t)((double)(value_at(5, s, 0) + 1) / 2 * (double)problem->rows);
            j = (int64_t)((double)(value_at(5, s, 1) + 1) / 2 * (double)problem->columns);
        }
        double expected = (double)start_at(problem->op, i, j);
        for (int64_t p = 0; p < problem->k; p++)
            expected += (double)a_at(i, p) * (double)b_at(p, j);
        double error = (double)problem->out[i * problem->columns + j] - expected;
        *worst = fmax(*worst, share(error, bound_at(problem, i, j)));
    }
}

/* The real shape, twice, on differently poisoned outputs: right, and the same bits (for the class
 * exact also those of every other candidate). */
static tt_status check_whole(tt_problem *problem, const tt_tune_target *target, tt_tile tile,
                             double *worst)
{
    tt_numerics numerics = target->numerics[problem->op];
    int64_t n = problem->rows * problem->columns;
    uint64_t hash[2];
    fill_operands(problem, problem->rows, problem->columns);
    for (int64_t j = 0; j < problem->columns; j++)
        bias_of(problem, problem->columns)[j] = start_at(problem->op, 0, j);
    for (int turn = 0; turn < 2; turn++) {
        fill_output(problem, problem->rows, problem->columns, turn == 0 ? 0x7f : 0xff);
        tt_status status = tt_problem_run(problem, target, tile);
        if (status != TT_OK)
            return status;
        hash[turn] = tt_hash64(problem->out, (size_t)n * sizeof *problem->out, 0);
        if (!canaries_alive(problem, n))
            *worst = INFINITY;
        check_freivalds(problem, worst);
        check_samples(problem, worst);
    }
    if (numerics != TT_NUMERICS_FAST && hash[0] != hash[1])
        *worst = INFINITY;
    if (numerics == TT_NUMERICS_EXACT && problem->hashed && hash[0] != problem->hash)
        *worst = INFINITY;
    if (*worst <= 1 && !problem->hashed) {
        problem->hash = hash[0];
        problem->hashed = true;
    }
    return TT_OK;
}

tt_status tt_problem_check(tt_problem *problem, const tt_tune_target *target, tt_tile tile,
                           double *error, bool *conforms)
{
    double worst = 0;
    tt_status status = check_elements(problem, target, tile, &worst);
    if (status == TT_OK && worst <= 1)
        status = check_whole(problem, target, tile, &worst);
    *error = fmax(*error, worst);
    if (!(worst <= 1))
        *conforms = false;
    return status;
}
