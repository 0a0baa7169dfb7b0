/* kernels/tune.h: the tuner's parts, so that tests can plant candidates that are wrong. */
#ifndef TT_KERNELS_TUNE_H
#define TT_KERNELS_TUNE_H

#include "internal.h"

/* The operations that are tuned are the first ones: they index arrays. */
enum { TT_PRODUCTS = TT_OP_LINEAR_WGRAD + 1, TT_FAMILIES_MAX = 24, TT_TUNE_COSTS_MAX = 512 };

/* The variants of one name, of one compute type. */
typedef struct tt_tune_family {
    const char *name;
    bool tiled;
    tt_library library;
    bool candidate[TT_PRODUCTS];       /* for which products it is one */
    bool current[TT_PRODUCTS];         /* whose incumbent it is; of exactly one family each */
    bool acceptable[TT_PRODUCTS];      /* of a class that may be chosen */
    tt_numerics numerics[TT_PRODUCTS]; /* how equal the bits of two runs must be */
} tt_tune_family;

/* Runs a matrix product with a candidate: tt_op_run but in tests. */
typedef tt_status (*tt_tune_runner)(void *user, const tt_tune_family *family, tt_tile tile,
                                    tt_op op, const void *args);

typedef struct tt_tune_target {
    tt_tune_runner run;
    void *user;
    tt_dtype compute; /* TT_F32 or TT_BF16 */
    bool weights_bf16;
    int threads;                    /* for the float64 references */
    const tt_tune_family *families; /* in order of preference */
    size_t family_count;
} tt_tune_target;

/* The tuner without its cache. */
tt_status tt_tune_with(const tt_tune_target *target, const tt_tune_options *options,
                       tt_tuning *out);
/* The same from what a tuning of tt_tuning_begin already knows; it is the caller's to clear. */
tt_status tt_tune_further(const tt_tune_target *target, const tt_tune_options *options,
                          tt_tuning *tuning);

/* Multiplications of one product. */
double tt_tune_work(const tt_gemm_shape *shape);
/* TT_EINVAL with a message. */
tt_status tt_tune_check_options(const tt_tune_target *target, const tt_tune_options *options);
/* Proves each product's incumbent with the first tile on every shape, as tt_check_products. */
tt_status tt_prove_all(const tt_tune_target *target, const tt_tune_options *options, double *error,
                       size_t *wrong);

/* ---- the choice --------------------------------------------------------------------------- */

/* Lists the candidates of `target` for the options' shapes and tiles, with nothing known of any. */
tt_status tt_tuning_begin(const tt_tune_target *target, const tt_tune_options *options,
                          tt_tuning *out);
const tt_tune_family *tt_tuning_family(const tt_tune_target *target, const tt_tuning *tuning,
                                       size_t candidate);
/* Chooses tile and, for each product, a candidate from what is known. TT_EINTERNAL where all of
 * them are wrong. */
tt_status tt_tuning_choose(const tt_tune_target *target, const tt_tile *tiles, size_t tile_count,
                           tt_tuning *tuning);
/* Of costs that are finite, the largest that still counts as the least: the band ends in the widest
 * gap within its bounds, so that noise seldom moves a cost across it. INFINITY where none is. */
double tt_tune_limit(const double *costs, size_t count);

/* ---- time ------------------------------------------------------------------------------- */

/* A budget that is being spent; in seconds from `begin`. */
typedef struct tt_watch {
    tt_clock clock;
    uint64_t begin;
    double budget;   /* nothing begins after it */
    double deadline; /* of further runs of what is timed now */
} tt_watch;

tt_watch tt_watch_begin(const tt_tune_options *options);
double tt_watch_spent(const tt_watch *watch);
bool tt_watch_is_up(const tt_watch *watch);

/* Candidates run in turn until what is known of each is sure enough, while there is time, and
 * TT_LEAST_TURNS times in any case; no more than the least where one is hopeless: so many times as
 * slow as the fastest. */
typedef struct tt_effort {
    int least, most; /* turns */
    double agreement, hopeless;
} tt_effort;
extern const tt_effort tt_second_round;
enum { TT_LEAST_TURNS = 2 };

/* A candidate on an open problem. */
typedef struct tt_racer {
    const struct tt_problem *problem;
    const tt_tune_target *target;
    const tt_tune_family *family;
    tt_tile tile;
    tt_tune_cell *cell; /* the caller's */
    double seconds;     /* set by tt_race: of a run, on the machine at its fastest */
    bool out;           /* hopeless */
} tt_racer;

/* Times them in turn, in alternating directions, so that a drifting clock favours none, and takes
 * them apart into what is the candidate's and what is the turn's. *all: each of them had
 * TT_LEAST_TURNS before the time was up. */
tt_status tt_race(const tt_watch *watch, const tt_effort *how, tt_racer *racers, size_t count,
                  bool *all);
void tt_tune_note_time(tt_tune_cell *cell, int round, double seconds);

/* ---- conformance -------------------------------------------------------------------------- */

/* What is multiplied: as the operation wants it, activations in bf16 where that is computed in. */
typedef struct tt_operands {
    void *a, *b;
    float *bias;
} tt_operands;

/* One shape under test, as out[rows, columns] = start + a b over k. Starts zeroed. */
typedef struct tt_problem {
    tt_op op;
    tt_dtype compute;
    bool w_bf16; /* the other operand is a weight in bf16 */
    int threads; /* of the checks themselves */
    int64_t rows, columns, k;
    int64_t check_rows, check_columns; /* largest shape of the element by element check */
    double *expected;                  /* check_rows x check_columns */
    double *a_norm, *b_norm;           /* 2-norms of a's rows and b's columns */
    double *sign_sum;                  /* rows: (start + a b) r for the Freivalds vector r */
    double *signs;                     /* columns: r */
    double b_norm_sum, b_norm_squares;
    bool hashed[TT_FAMILIES_MAX]; /* the output of an exact family's first conforming candidate */
    uint64_t hash[TT_FAMILIES_MAX];
    tt_operands whole; /* while the problem is open */
    char *out_memory, *out;
} tt_problem;

/* Sets the shape alone, unless it is set: enough for a problem that is only timed. */
void tt_problem_frame(tt_problem *problem, const tt_gemm_shape *shape,
                      const tt_tune_target *target);
/* Computes the references that checking tiles up to `largest` takes, unless they are there. */
tt_status tt_problem_fit(tt_problem *problem, const tt_gemm_shape *shape, tt_tile largest,
                         const tt_tune_target *target);
void tt_problem_clear(tt_problem *problem);
/* Operands and output at the real shape; close frees them. */
tt_status tt_problem_open(tt_problem *problem);
void tt_problem_close(tt_problem *problem);
/* Runs at the real shape on whatever stands in the output. */
tt_status tt_problem_run(const tt_problem *problem, const tt_tune_target *target,
                         const tt_tune_family *family, tt_tile tile);
/* All checks of one candidate on an open problem. *error is its worst error as a share of the bound
 * (INFINITY where that has no meaning): above 1 it is wrong. An error status means the check itself
 * could not be done. */
tt_status tt_problem_check(tt_problem *problem, const tt_tune_target *target,
                           const tt_tune_family *family, tt_tile tile, double *error);

/* ---- f32 against bf16 --------------------------------------------------------------------- */

/* Of a comparison: two candidates, named for the compute types, each with the tile of its tuning
 * and, for each product, the variant chosen there. Nothing is known yet. */
tt_status tt_comparison_begin(const tt_tuning sides[2], tt_tuning *out);
/* Proves and times what is not known, on both sides in turn, until one is wrong. `targets` are
 * those that `sides` (f32, bf16) were tuned with. */
tt_status tt_compare_further(const tt_tune_target targets[2], const tt_tuning sides[2],
                             const tt_tune_options *options, tt_tuning *comparison);
/* bf16 where both were timed on every shape and f32 takes longer by more than the tie band. */
void tt_comparison_choose(tt_tuning *comparison);

/* ---- the cache ---------------------------------------------------------------------------- */

/* What the machine, the build and the libraries are, and what is asked: results are good for this
 * alone. */
tt_status tt_tune_key(const tt_context *context, const tt_tune_target *target,
                      const tt_tune_options *options, tt_text *out);
/* The key's file in a folder. */
tt_status tt_tune_path(const char *folder, const char *key, tt_text *out);
/* Gives a tuning of tt_tuning_begin what the file knows. TT_ENOTFOUND: nothing for this key;
 * TT_ECORRUPT: it is damaged. */
tt_status tt_tune_load(const char *path, const char *key, tt_tuning *tuning);
tt_status tt_tune_write(const char *path, const char *key, const tt_tuning *tuning);
/* The same in a folder, which is made if it is missing. */
tt_status tt_tune_save(const char *folder, const char *key, const tt_tuning *tuning);
/* The same in the options' cache, for what is worth it; a failure is told of and no more. */
void tt_tune_keep(const tt_tune_options *options, const char *key, const tt_tuning *tuning);

/* ---- references --------------------------------------------------------------------------- */

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
