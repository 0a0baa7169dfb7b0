/* kernels/tune_reference.h: the values of a product under test. */
#ifndef TT_KERNELS_TUNE_REFERENCE_H
#define TT_KERNELS_TUNE_REFERENCE_H

#include "tune.h"

/* In [-1, 1). */
float tt_value_at(uint64_t stream, int64_t i, int64_t j);
float tt_a_at(const tt_problem *problem, int64_t i, int64_t p);
float tt_b_at(const tt_problem *problem, int64_t p, int64_t j);
/* What out[i, j] begins with. */
float tt_start_at(tt_op op, int64_t i, int64_t j);

/* The shape of the element by element check: two tiles and a remainder. */
int64_t tt_checked_rows(int64_t rows, tt_tile tile);
int64_t tt_checked_columns(int64_t columns, tt_tile tile);

/* Zeroed memory; NULL with a message. */
void *tt_tune_take(int64_t count, size_t size);

#endif
