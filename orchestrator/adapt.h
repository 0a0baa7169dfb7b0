/* What to propose next, from what was measured: neighbours on lattices, never more. Pure. */
#ifndef TRIMTAB_ORCHESTRATOR_ADAPT_H
#define TRIMTAB_ORCHESTRATOR_ADAPT_H

#include "trimtab/orchestrator.h"

#define TT_ADAPT_ERROR_HIGH   0.8  /* of the bound: compress less */
#define TT_ADAPT_ERROR_LOW    0.2  /* of the bound: compress more */
#define TT_ADAPT_SPEEDUP_HIGH 1.5  /* a larger tile */
#define TT_ADAPT_SPEEDUP_LOW  1.1  /* a smaller one */
#define TT_ADAPT_MOVED        0.25 /* share by which the input of a refused proposal must move */
enum { TT_ADAPT_PATIENCE = 1000 }; /* steps after which it may return anyway */

typedef enum tt_adapt_move { TT_ADAPT_HOLD, TT_ADAPT_UP, TT_ADAPT_DOWN } tt_adapt_move;

/* A measurement that may be missing; one that is missing, negative or not finite proposes nothing.
 */
typedef struct tt_adapt_input {
    bool present;
    double value;
} tt_adapt_input;

/* UP: more memory, less compression (ladders go from least memory to most). `bound` > 0. */
tt_adapt_move tt_adapt_codec(tt_adapt_input error, double bound);
/* UP: a larger tile. `speedup` = all-off step time / current step time. */
tt_adapt_move tt_adapt_tile(tt_adapt_input speedup);
/* The index beside `at` in the move's direction; false at the end of the lattice, or for HOLD. */
bool tt_adapt_neighbour(size_t count, size_t at, tt_adapt_move move, size_t *out);

/* What a refusal is remembered by. */
typedef struct tt_adapt_refusal {
    bool refused;
    tt_adapt_move move;
    double input;
    int64_t step;
} tt_adapt_refusal;

void tt_adapt_remember(tt_adapt_refusal *refusal, tt_adapt_move move, double input, int64_t step);
/* Whether this proposal may be made (again). Another move than the refused one always may. After a
 * rollback, steps are counted from the step of the refusal all the same. */
bool tt_adapt_may(const tt_adapt_refusal *refusal, tt_adapt_move move, double input, int64_t step);

#endif
