/* kernels/tune.h: the tuner's parts, so that tests can plant candidates that are wrong. */
#ifndef TT_KERNELS_TUNE_H
#define TT_KERNELS_TUNE_H

#include "internal.h"

/* Runs a matrix product with a tile: tt_op_run but in tests. */
typedef tt_status (*tt_tune_runner)(void *user, tt_tile tile, tt_op op, const void *args);

typedef struct tt_tune_target {
    tt_tune_runner run;
    void *user;
    /* Of each of the three products' variants: how equal the bits of two runs must be. */
    tt_numerics numerics[TT_OP_COUNT];
    int threads; /* for the float64 references */
} tt_tune_target;

tt_status tt_tune_tile_with(const tt_tune_target *target, const tt_tune_options *options,
                            tt_tune_candidate *results, size_t *chosen);

/* One shape under test, as out[rows, columns] = start + a b over k. Starts zeroed. */
typedef struct tt_problem {
    tt_op op;
    int64_t rows, columns, k;
    int64_t check_rows, check_columns; /* largest shape of the element by element check */
    double *expected;                  /* check_rows x check_columns */
    double *a_norm, *b_norm;           /* 2-norms of a's rows and b's columns */
    double *sign_sum;                  /* rows: (start + a b) r for the Freivalds vector r */
    double b_norm_sum, b_norm_squares;
    bool hashed; /* hash is that of the first conforming candidate */
    uint64_t hash;
    float *a, *b, *out, *out_memory; /* while the problem is open; canaries around out */
} tt_problem;

/* Computes the references that checking tiles up to `largest` takes, unless they are there. */
tt_status tt_problem_fit(tt_problem *problem, const tt_gemm_shape *shape, tt_tile largest,
                         int threads);
void tt_problem_clear(tt_problem *problem);
/* Operands and output at the real shape; close frees them. */
tt_status tt_problem_open(tt_problem *problem);
void tt_problem_close(tt_problem *problem);
/* Runs at the real shape on whatever stands in the output. */
tt_status tt_problem_run(const tt_problem *problem, const tt_tune_target *target, tt_tile tile);
/* All checks of one candidate on an open problem. *error is raised to its worst error as a share
 * of the bound (INFINITY where that has no meaning); *conforms is cleared if it fails. An error
 * status means the check itself could not be done. */
tt_status tt_problem_check(tt_problem *problem, const tt_tune_target *target, tt_tile tile,
                           double *error, bool *conforms);

/* c(rows x columns) += a b in float64 by plain loops, a (rows x k) and b (k x columns) row-major;
 * independent of the kernels under test, and compiled for each instruction set to be quick. */
typedef void (*tt_product_f64_fn)(int threads, int64_t rows, int64_t columns, int64_t k,
                                  const float *a, const float *b, double *c);
void tt_product_f64__v1(int threads, int64_t rows, int64_t columns, int64_t k, const float *a,
                        const float *b, double *c);
void tt_product_f64__v3(int threads, int64_t rows, int64_t columns, int64_t k, const float *a,
                        const float *b, double *c);
void tt_product_f64__v4(int threads, int64_t rows, int64_t columns, int64_t k, const float *a,
                        const float *b, double *c);

#endif
