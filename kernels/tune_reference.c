/* Operands of a product under test, and what it should come to.
 *
 * Operands are a function of their indices, so the product at a smaller shape with the same k is
 * the leading part of a larger one, and one float64 reference serves every candidate. */
#include "tune_reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REMAINDER_ROWS = 7, REMAINDER_COLUMNS = 5 };

/* Splitmix64's finaliser (Steele et al. 2014). */
static uint32_t bits_at(uint64_t stream, int64_t i, int64_t j)
{
    uint64_t x = stream * 0xD1B54A32D192ED03u + (uint64_t)i * 0x9E3779B97F4A7C15u + (uint64_t)j;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((x ^ (x >> 31)) >> 40);
}

/* In [-1, 1), with all of a float's bits. */
float tt_value_at(uint64_t stream, int64_t i, int64_t j)
{
    return (float)bits_at(stream, i, j) * 0x1p-23f - 1.0f;
}

/* Operands that are bf16 already, so that rounding them changes nothing: eight bits. */
static float operand_at(bool bf16, uint64_t stream, int64_t i, int64_t j)
{
    return bf16 ? (float)(bits_at(stream, i, j) >> 16) * 0x1p-7f - 1.0f : tt_value_at(stream, i, j);
}

float tt_a_at(const tt_problem *problem, int64_t i, int64_t p)
{
    return operand_at(problem->compute == TT_BF16, 1, i, p);
}

float tt_b_at(const tt_problem *problem, int64_t p, int64_t j)
{
    return operand_at(problem->compute == TT_BF16 || problem->w_bf16, 2, p, j);
}

/* The forward pass starts from the bias, the weight gradient from what stands there. */
float tt_start_at(tt_op op, int64_t i, int64_t j)
{
    if (op == TT_OP_LINEAR_DGRAD)
        return 0;
    return tt_value_at(3, op == TT_OP_LINEAR_WGRAD ? i : 0, j);
}

void *tt_tune_take(int64_t count, size_t size)
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
    float *a = tt_tune_take(rows * k, sizeof *a), *b = tt_tune_take(k * columns, sizeof *b);
    problem->expected = tt_tune_take(rows * columns, sizeof *problem->expected);
    if (a == NULL || b == NULL || problem->expected == NULL)
        goto out;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t p = 0; p < k; p++)
            a[i * k + p] = tt_a_at(problem, i, p);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < columns; j++)
            b[p * columns + j] = tt_b_at(problem, p, j);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            problem->expected[i * columns + j] = (double)tt_start_at(problem->op, i, j);
    product_f64(threads, rows, columns, k, a, b, problem->expected);
    status = TT_OK;
out:
    free(a);
    free(b);
    return status;
}

static tt_status take_sums(tt_problem *problem, int64_t norm_rows, int64_t norm_columns)
{
    problem->a_norm = tt_tune_take(norm_rows, sizeof(double));
    problem->b_norm = tt_tune_take(norm_columns, sizeof(double));
    problem->sign_sum = tt_tune_take(problem->rows, sizeof(double));
    problem->signs = tt_tune_take(problem->columns, sizeof(double));
    return problem->a_norm == NULL || problem->b_norm == NULL || problem->sign_sum == NULL ||
                   problem->signs == NULL
               ? TT_ENOMEM
               : TT_OK;
}

/* The norms of b's columns, and b r. */
static void sum_b(tt_problem *problem, int64_t norm_columns, double *b_signs)
{
    for (int64_t p = 0; p < problem->k; p++) {
        for (int64_t j = 0; j < norm_columns; j++) {
            double value = (double)tt_b_at(problem, p, j);
            problem->b_norm[j] += value * value;
            if (j < problem->columns)
                b_signs[p] += value * problem->signs[j];
        }
    }
    for (int64_t j = 0; j < norm_columns; j++) {
        if (j < problem->columns)
            problem->b_norm_squares += problem->b_norm[j];
        problem->b_norm[j] = sqrt(problem->b_norm[j]);
        if (j < problem->columns)
            problem->b_norm_sum += problem->b_norm[j];
    }
}

/* Norms, and the Freivalds product of the real shape: start r + a (b r). */
static tt_status expect_sums(tt_problem *problem)
{
    int64_t rows = problem->rows, columns = problem->columns, k = problem->k;
    int64_t norm_rows = rows > problem->check_rows ? rows : problem->check_rows;
    int64_t norm_columns = columns > problem->check_columns ? columns : problem->check_columns;
    double *b_signs = tt_tune_take(k, sizeof *b_signs), start_sum = 0;
    tt_status status = take_sums(problem, norm_rows, norm_columns);
    if (b_signs == NULL || status != TT_OK) {
        free(b_signs);
        return TT_ENOMEM;
    }
    for (int64_t j = 0; j < columns; j++)
        problem->signs[j] = tt_value_at(4, 0, j) < 0 ? -1 : 1;
    sum_b(problem, norm_columns, b_signs);
    for (int64_t i = 0; i < norm_rows; i++) {
        double squares = 0, sum = 0;
        for (int64_t p = 0; p < k; p++) {
            double value = (double)tt_a_at(problem, i, p);
            squares += value * value;
            sum += value * b_signs[p];
        }
        problem->a_norm[i] = sqrt(squares);
        if (i >= rows)
            continue;
        if (i == 0 || problem->op == TT_OP_LINEAR_WGRAD) { /* elsewhere all rows start alike */
            start_sum = 0;
            for (int64_t j = 0; j < columns; j++)
                start_sum += (double)tt_start_at(problem->op, i, j) * problem->signs[j];
        }
        problem->sign_sum[i] = sum + start_sum;
    }
    free(b_signs);
    return TT_OK;
}

int64_t tt_checked_rows(int64_t rows, tt_tile tile)
{
    return (2 * (int64_t)tile.m < rows ? 2 * (int64_t)tile.m : rows) + REMAINDER_ROWS;
}

int64_t tt_checked_columns(int64_t columns, tt_tile tile)
{
    return (2 * (int64_t)tile.n < columns ? 2 * (int64_t)tile.n : columns) + REMAINDER_COLUMNS;
}

static tt_problem problem_of(const tt_gemm_shape *shape, const tt_tune_target *target)
{
    tt_problem problem = {.op = shape->op,
                          .compute = target->compute,
                          .w_bf16 = target->weights_bf16 && shape->op != TT_OP_LINEAR_WGRAD,
                          .threads = target->threads};
    if (shape->op == TT_OP_LINEAR_FORWARD)
        problem.rows = shape->m, problem.columns = shape->n, problem.k = shape->k;
    else if (shape->op == TT_OP_LINEAR_DGRAD)
        problem.rows = shape->m, problem.columns = shape->k, problem.k = shape->n;
    else
        problem.rows = shape->n, problem.columns = shape->k, problem.k = shape->m;
    return problem;
}

void tt_problem_frame(tt_problem *problem, const tt_gemm_shape *shape, const tt_tune_target *target)
{
    if (problem->rows == 0)
        *problem = problem_of(shape, target);
}

tt_status tt_problem_fit(tt_problem *problem, const tt_gemm_shape *shape, tt_tile largest,
                         const tt_tune_target *target)
{
    tt_problem next = problem_of(shape, target);
    memcpy(next.hashed, problem->hashed, sizeof next.hashed);
    memcpy(next.hash, problem->hash, sizeof next.hash);
    next.check_rows = tt_checked_rows(next.rows, largest);
    next.check_columns = tt_checked_columns(next.columns, largest);
    if (problem->expected != NULL && next.check_rows <= problem->check_rows &&
        next.check_columns <= problem->check_columns)
        return TT_OK;
    tt_problem_clear(problem);
    *problem = next;
    tt_status status = expect_elements(problem, target->threads);
    return status == TT_OK ? expect_sums(problem) : status;
}

void tt_problem_clear(tt_problem *problem)
{
    tt_problem_close(problem);
    free(problem->expected);
    free(problem->a_norm);
    free(problem->b_norm);
    free(problem->sign_sum);
    free(problem->signs);
    *problem = (tt_problem){0};
}
