/* Conformance of one candidate on one matrix product, before it may be timed.
 *
 * Bounds. For operands without bias, a float32 chain of k multiply-adds has partial sums that grow
 * like sqrt(t); the rounding errors of all of them add up to 0.41 u |a| |b| (root mean square, |.|
 * the 2-norms of the row and the column, u = 2^-24), and a start value s adds sqrt(k/3) u |s|. The
 * bound is thirty times that, 12 u (|a| |b| + sqrt(k) |s|); the worst of millions of elements stays
 * below a third of it. Freivalds (1977) multiplies the whole output by a vector of random signs:
 * the errors of a row then add up in squares.
 *
 * In bf16 the operands are bf16 to begin with, and sums are float32: what is new is the rounding of
 * an output in bf16, at most v |y| with v = 2^-8 (to nearest: half of the 2^-7 between two of
 * them). Its share of a Freivalds sum has a root mean square below v |y| / sqrt(3), |y| the 2-norm
 * of the row; six times v |y| is ten times that. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bf16.h"
#include "tune_reference.h"

enum { CANARY = 256, SAMPLES = 64 };
static const unsigned char canary = 0xa5;
static const double unit = 0x1p-24, unit_bf16 = 0x1p-8, bound_factor = 12;

static bool is_bf16(const tt_problem *problem)
{
    return problem->compute == TT_BF16;
}

/* The weight gradient is real. */
static bool out_is_bf16(const tt_problem *problem)
{
    return is_bf16(problem) && problem->op != TT_OP_LINEAR_WGRAD;
}

/* The other operand of forward and backward is the weight, which has a type of its own. */
static bool b_is_bf16(const tt_problem *problem)
{
    return problem->w_bf16 || (is_bf16(problem) && problem->op == TT_OP_LINEAR_WGRAD);
}

static size_t out_bytes(const tt_problem *problem, int64_t n)
{
    return (size_t)n * (out_is_bf16(problem) ? sizeof(uint16_t) : sizeof(float));
}

static double out_at(const tt_problem *problem, int64_t at)
{
    if (!out_is_bf16(problem))
        return (double)((const float *)(const void *)problem->out)[at];
    return (double)tt_bf16_to_f32(((const uint16_t *)(const void *)problem->out)[at]);
}

static void put(void *to, bool bf16, int64_t at, float value)
{
    if (bf16)
        ((uint16_t *)to)[at] = tt_bf16_from_f32(value);
    else
        ((float *)to)[at] = value;
}

/* Lays the operands out as the operation wants them. */
static void fill_operands(const tt_problem *problem, tt_operands to, int64_t rows, int64_t columns)
{
    int64_t k = problem->k;
    bool a_transposed = problem->op == TT_OP_LINEAR_WGRAD, a_bf16 = is_bf16(problem);
    bool b_transposed = problem->op == TT_OP_LINEAR_FORWARD, b_bf16 = b_is_bf16(problem);
#pragma omp parallel for num_threads(problem->threads) schedule(static)
    for (int64_t i = 0; i < (a_transposed ? k : rows); i++)
        for (int64_t j = 0; j < (a_transposed ? rows : k); j++)
            put(to.a, a_bf16, i * (a_transposed ? rows : k) + j,
                a_transposed ? tt_a_at(problem, j, i) : tt_a_at(problem, i, j));
#pragma omp parallel for num_threads(problem->threads) schedule(static)
    for (int64_t i = 0; i < (b_transposed ? columns : k); i++)
        for (int64_t j = 0; j < (b_transposed ? k : columns); j++)
            put(to.b, b_bf16, i * (b_transposed ? k : columns) + j,
                b_transposed ? tt_b_at(problem, j, i) : tt_b_at(problem, i, j));
    for (int64_t j = 0; j < columns; j++)
        to.bias[j] = tt_start_at(problem->op, 0, j);
}

static void free_operands(tt_operands *operands)
{
    free(operands->a);
    free(operands->b);
    free(operands->bias);
    *operands = (tt_operands){0};
}

static tt_status take_operands(const tt_problem *problem, int64_t rows, int64_t columns,
                               tt_operands *out)
{
    out->a = tt_tune_take(rows * problem->k, is_bf16(problem) ? sizeof(uint16_t) : sizeof(float));
    out->b =
        tt_tune_take(problem->k * columns, b_is_bf16(problem) ? sizeof(uint16_t) : sizeof(float));
    out->bias = tt_tune_take(columns, sizeof(float));
    if (out->a == NULL || out->b == NULL || out->bias == NULL)
        return TT_ENOMEM;
    fill_operands(problem, *out, rows, columns);
    return TT_OK;
}

/* Poisons what must be overwritten; restores what is accumulated into; renews the canaries. */
static void fill_output(const tt_problem *problem, int64_t rows, int64_t columns, int poison)
{
    size_t bytes = out_bytes(problem, rows * columns);
    memset(problem->out - CANARY, canary, CANARY);
    memset(problem->out + bytes, canary, CANARY);
    if (problem->op != TT_OP_LINEAR_WGRAD) {
        memset(problem->out, poison, bytes);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            put(problem->out, false, i * columns + j, tt_start_at(problem->op, i, j));
}

static bool canaries_alive(const tt_problem *problem, int64_t n)
{
    const char *end = problem->out + out_bytes(problem, n);
    for (int64_t i = 0; i < CANARY; i++)
        if ((unsigned char)problem->out[i - CANARY] != canary || (unsigned char)end[i] != canary)
            return false;
    return true;
}

tt_status tt_problem_open(tt_problem *problem)
{
    int64_t rows = problem->rows > problem->check_rows ? problem->rows : problem->check_rows;
    int64_t columns =
        problem->columns > problem->check_columns ? problem->columns : problem->check_columns;
    tt_status status = take_operands(problem, problem->rows, problem->columns, &problem->whole);
    problem->out_memory = tt_tune_take((int64_t)out_bytes(problem, rows * columns) + 2 * CANARY, 1);
    if (status != TT_OK || problem->out_memory == NULL)
        return TT_ENOMEM;
    problem->out = problem->out_memory + CANARY;
    fill_output(problem, problem->rows, problem->columns, 0);
    return TT_OK;
}

void tt_problem_close(tt_problem *problem)
{
    free_operands(&problem->whole);
    free(problem->out_memory);
    problem->out_memory = problem->out = NULL;
}

static tt_status run_shape(const tt_problem *problem, const tt_tune_target *target,
                           const tt_tune_family *family, tt_tile tile, tt_operands in, int64_t rows,
                           int64_t columns)
{
    int64_t k = problem->k;
    if (problem->op == TT_OP_LINEAR_FORWARD)
        return target->run(target->user, family, tile, problem->op,
                           &(tt_linear_forward_args){.m = rows,
                                                     .n = columns,
                                                     .k = k,
                                                     .x = in.a,
                                                     .w = in.b,
                                                     .bias = in.bias,
                                                     .y = problem->out,
                                                     .w_bf16 = problem->w_bf16});
    if (problem->op == TT_OP_LINEAR_DGRAD)
        return target->run(target->user, family, tile, problem->op,
                           &(tt_linear_dgrad_args){.m = rows,
                                                   .n = k,
                                                   .k = columns,
                                                   .dy = in.a,
                                                   .w = in.b,
                                                   .dx = problem->out,
                                                   .w_bf16 = problem->w_bf16});
    return target->run(
        target->user, family, tile, problem->op,
        &(tt_linear_wgrad_args){
            .m = k, .n = rows, .k = columns, .dy = in.a, .x = in.b, .dw = problem->out});
}

tt_status tt_problem_run(const tt_problem *problem, const tt_tune_target *target,
                         const tt_tune_family *family, tt_tile tile)
{
    return run_shape(problem, target, family, tile, problem->whole, problem->rows,
                     problem->columns);
}

/* The error as a share of the limit; INFINITY for NaN. */
static double share(double error, double limit)
{
    double s = fabs(error) / limit;
    return isfinite(s) ? s : INFINITY;
}

static double bound_at(const tt_problem *problem, int64_t i, int64_t j, double expected)
{
    double start = sqrt((double)problem->k) * fabs((double)tt_start_at(problem->op, i, j));
    double sum = bound_factor * unit * (problem->a_norm[i] * problem->b_norm[j] + start + 1e-30);
    return out_is_bf16(problem) ? sum + unit_bf16 * (fabs(expected) + sum) : sum;
}

/* Every element, on two tiles and a remainder. */
static tt_status check_elements(tt_problem *problem, const tt_tune_target *target,
                                const tt_tune_family *family, tt_tile tile, double *worst)
{
    int64_t rows = tt_checked_rows(problem->rows, tile);
    int64_t columns = tt_checked_columns(problem->columns, tile);
    tt_operands in = {0};
    tt_status status = take_operands(problem, rows, columns, &in);
    if (status == TT_OK) {
        fill_output(problem, rows, columns, 0xff);
        status = run_shape(problem, target, family, tile, in, rows, columns);
    }
    free_operands(&in);
    if (status != TT_OK)
        return status;
    if (!canaries_alive(problem, rows * columns))
        *worst = INFINITY;
    double largest = 0;
#pragma omp parallel for num_threads(problem->threads) reduction(max : largest) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            double expected = problem->expected[i * problem->check_columns + j];
            double error = out_at(problem, i * columns + j) - expected;
            largest = fmax(largest, share(error, bound_at(problem, i, j, expected)));
        }
    }
    *worst = fmax(*worst, largest);
    return TT_OK;
}

static void check_freivalds(const tt_problem *problem, double *worst)
{
    double start = problem->op == TT_OP_LINEAR_DGRAD ? 0 : sqrt((double)problem->k), largest = 0;
#pragma omp parallel for num_threads(problem->threads) reduction(max : largest) schedule(static)
    for (int64_t i = 0; i < problem->rows; i++) {
        double sum = 0, norm = problem->a_norm[i], out_squares = 0;
        for (int64_t j = 0; j < problem->columns; j++) {
            double value = out_at(problem, i * problem->columns + j);
            sum += value * problem->signs[j];
            out_squares += value * value;
        }
        double squares = norm * norm * problem->b_norm_squares +
                         2 * norm * start * problem->b_norm_sum +
                         start * start * (double)problem->columns;
        double limit = bound_factor * unit * sqrt(squares) + 1e-30;
        if (out_is_bf16(problem))
            limit += 6 * unit_bf16 * sqrt(out_squares);
        largest = fmax(largest, share(sum - problem->sign_sum[i], limit));
    }
    *worst = fmax(*worst, largest);
}

/* Outputs spread over the matrix, the corners among them, by their definition. */
static void check_samples(const tt_problem *problem, double *worst)
{
    for (int64_t s = 0; s < SAMPLES; s++) {
        int64_t i = s < 2 ? 0 : problem->rows - 1, j = s % 2 == 0 ? 0 : problem->columns - 1;
        if (s >= 4) {
            i = (int64_t)((double)(tt_value_at(5, s, 0) + 1) / 2 * (double)problem->rows);
            j = (int64_t)((double)(tt_value_at(5, s, 1) + 1) / 2 * (double)problem->columns);
        }
        double expected = (double)tt_start_at(problem->op, i, j);
        for (int64_t p = 0; p < problem->k; p++)
            expected += (double)tt_a_at(problem, i, p) * (double)tt_b_at(problem, p, j);
        double error = out_at(problem, i * problem->columns + j) - expected;
        *worst = fmax(*worst, share(error, bound_at(problem, i, j, expected)));
    }
}

/* Every tile of an exact family makes the same bits. */
static void compare_bits(tt_problem *problem, size_t family, uint64_t hash, double *worst)
{
    if (problem->hashed[family] && hash != problem->hash[family])
        *worst = INFINITY;
    if (*worst <= 1) {
        problem->hash[family] = hash;
        problem->hashed[family] = true;
    }
}

/* The real shape, twice, on differently poisoned outputs: right, and the same bits (for the class
 * exact also those of every tile of its family). */
static tt_status check_whole(tt_problem *problem, const tt_tune_target *target,
                             const tt_tune_family *family, tt_tile tile, double *worst)
{
    tt_numerics numerics = family->numerics[problem->op];
    int64_t n = problem->rows * problem->columns;
    uint64_t hash[2];
    for (int turn = 0; turn < 2; turn++) {
        fill_output(problem, problem->rows, problem->columns, turn == 0 ? 0x7f : 0xff);
        tt_status status = tt_problem_run(problem, target, family, tile);
        if (status != TT_OK)
            return status;
        hash[turn] = tt_hash64(problem->out, out_bytes(problem, n), 0);
        if (!canaries_alive(problem, n))
            *worst = INFINITY;
        check_freivalds(problem, worst);
        check_samples(problem, worst);
    }
    if (numerics != TT_NUMERICS_FAST && hash[0] != hash[1])
        *worst = INFINITY;
    if (numerics == TT_NUMERICS_EXACT)
        compare_bits(problem, (size_t)(family - target->families), hash[0], worst);
    return TT_OK;
}

tt_status tt_problem_check(tt_problem *problem, const tt_tune_target *target,
                           const tt_tune_family *family, tt_tile tile, double *error)
{
    *error = 0;
    tt_status status = check_elements(problem, target, family, tile, error);
    if (status == TT_OK && *error <= 1)
        status = check_whole(problem, target, family, tile, error);
    return status;
}
