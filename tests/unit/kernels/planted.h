/* Candidates of the tuner that are planted, some of them wrong: the runner computes rightly and
 * then spoils the output of one. Their times are told, too: only runs move the clock. */
#ifndef TRIMTAB_TESTS_KERNELS_PLANTED_H
#define TRIMTAB_TESTS_KERNELS_PLANTED_H

#include "fixture.h"

#include "tune.h"

typedef enum harm {
    HARM_NONE,
    HARM_REMAINDER,   /* wrong only where a side is not a multiple of the tile */
    HARM_UNWRITTEN,   /* one element is left as it was */
    HARM_NAN,         /* one NaN */
    HARM_SMALL_ERROR, /* a relative error of 1e-3 (bf16: 4e-2) in one row */
    HARM_RACE,        /* now and then another last bit */
    HARM_OTHER_BITS,  /* always another last bit: right, but not exact */
    HARM_PAST_END,    /* writes one element past the end */
    HARM_BEFORE,      /* and before the beginning */
    HARM_FAILS,       /* the operation returns an error */
} harm;

static const tt_tile tiles[] = {
    {32, 32, 32}, {64, 64, 64}, {16, 64, 32}, {64, 128, 128}, {128, 32, 64}};
/* Candidates: the first variant with each tile, the library, the second variant with each tile. */
enum { TILES = sizeof tiles / sizeof *tiles, LIBRARY = TILES, SECOND, CANDIDATES = 2 * TILES + 1 };

typedef struct planted {
    tt_context *context;
    tt_tune_family families[3];
    size_t bad;
    harm harm;
    tt_op op; /* TT_OP_COUNT: any */
    long runs, bad_runs;
    uint64_t now_ns; /* a clock that only runs move */
    uint64_t cost_ns[CANDIDATES];
    uint64_t disturbance_ns; /* up to this much is added to every third run or so */
    long phase;              /* so many runs on, everything takes three times as long, and back */
} planted;

static inline bool same_tile(tt_tile a, tt_tile b)
{
    return a.m == b.m && a.n == b.n && a.k == b.k;
}

static const tt_gemm_shape shapes[] = {{TT_OP_LINEAR_FORWARD, 96, 80, 70, 2},
                                       {TT_OP_LINEAR_DGRAD, 96, 80, 70, 1},
                                       {TT_OP_LINEAR_WGRAD, 96, 64, 128, 1}};
enum { SHAPES = 3 };

typedef struct bench {
    planted p;
    tt_tune_target target;
    tt_tune_options options;
    tt_clock clock;
    tt_tuning tuning;
} bench;

/* Every candidate costs 1000 ns and is right. */
void planted_setup(bench *b, tt_dtype compute);
void planted_teardown(bench *b);
const tt_tune_cell *planted_cell(const bench *b, size_t shape, size_t candidate);
/* Sets up candidates with these costs, and tunes. */
void planted_choose(bench *b, const uint64_t cost_ns[CANDIDATES], double budget);

#define SAME(x) x, x, x, x, x

#endif
