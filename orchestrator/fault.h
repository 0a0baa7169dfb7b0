/* orchestrator/fault.h: faults on purpose, for drills, gate calibration and tests. They wrap what a
 * run uses anyway: real optimizations, file operations, the clock, tensors. Not installed; nothing
 * but training/drill, training/calibrate and tests includes it.
 *
 *   1. tensors, tied to optimizations
 *   2. file operations
 *   3. the clock
 */
#ifndef TRIMTAB_ORCHESTRATOR_FAULT_H
#define TRIMTAB_ORCHESTRATOR_FAULT_H

#include "trimtab/orchestrator.h"

#include <stdatomic.h>

/* ---- 1. tensors --------------------------------------------------------------------------- */

typedef enum tt_fault_kind {
    TT_FAULT_NAN,
    TT_FAULT_INFINITY,
    TT_FAULT_SCALE,    /* every element times `magnitude` */
    TT_FAULT_NOISE,    /* every element times 1 + magnitude * (a fixed +-1 pattern) */
    TT_FAULT_BIT_FLIP, /* the top exponent bit of one element */
    TT_FAULT_OUTLIERS, /* the first of every 4,096 elements becomes `magnitude` */
} tt_fault_kind;

/* Harm to tensors of some attempts at steps, while something is on. */
typedef struct tt_tensor_fault {
    tt_fault_kind kind;
    double magnitude;
    const char *tensor;             /* its name; a '*' at the end stands for any ending */
    const tt_optimization *with[2]; /* only while both of these are on; NULL: no matter */
    int64_t step;                   /* the first */
    int64_t last;                   /* the last; INT64_MAX: no end */
    int64_t position;               /* only in the batch at this data position; -1: in any */
    int strikes;                    /* attempts, live or replayed, that it harms; -1: all */
    int struck;                     /* so far */
    bool active;                    /* in the attempt in progress */
    int64_t harmed;                 /* tensors, so far */
} tt_tensor_fault;

/* An attempt begins: whether the fault acts in it. Counts. */
TT_API bool tt_fault_begin(tt_tensor_fault *fault, const tt_config *config, int64_t step,
                           int64_t position);
/* Whether it harms this tensor of the attempt. */
TT_API bool tt_fault_strikes(const tt_tensor_fault *fault, const char *tensor);
/* Does the harm to `count` floats in ordinary memory. */
TT_API void tt_fault_harm(tt_tensor_fault *fault, float *data, int64_t count);

/* ---- 2. file operations ------------------------------------------------------------------- */

typedef enum tt_file_fault_how {
    TT_FILE_FAULT_NONE,
    TT_FILE_FAULT_FAIL_ONCE, /* call `at` fails with `error` */
    TT_FILE_FAULT_FAIL_FROM, /* so does every later one that makes or writes something, up to
                                `until` */
    TT_FILE_FAULT_HALF,      /* write `at` puts half of its bytes, and the next one fails */
    TT_FILE_FAULT_SHORT,     /* every read and write moves one byte less than asked (never none) */
    TT_FILE_FAULT_KILL,      /* SIGKILL instead of call `at` */
    TT_FILE_FAULT_KILL_HALF, /* SIGKILL after half of the bytes, if call `at` writes */
    TT_FILE_FAULT_SLOW,      /* every write and sync from `at` on takes `delay_ns` longer */
} tt_file_fault_how;

typedef struct tt_file_fault {
    tt_file_ops ops; /* to be given to the code under test */
    tt_file_fault_how how;
    int64_t at, until; /* calls, 0-based; until: the first that works again (INT64_MAX: none) */
    int error;         /* errno */
    int64_t delay_ns;
    atomic_llong calls, hits;
    atomic_bool half_done;
} tt_file_fault;

TT_API void tt_file_fault_init(tt_file_fault *fault, tt_file_fault_how how, int64_t at, int error);

/* ---- 3. the clock ------------------------------------------------------------------------- */

/* A monotonic clock that jumps once. */
typedef struct tt_clock_fault {
    tt_clock clock;  /* to be given to the code under test */
    int64_t at;      /* reading at which it jumps, 0-based */
    int64_t jump_ns; /* forwards or back */
    atomic_llong readings;
} tt_clock_fault;

TT_API void tt_clock_fault_init(tt_clock_fault *fault, int64_t at, int64_t jump_ns);

#endif
