/* The tuner: a wrong candidate is never timed, let alone chosen. Wrong ones are planted: the runner
 * computes rightly and then spoils the output of one candidate. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bf16.h"
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

static bool same_tile(tt_tile a, tt_tile b)
{
    return a.m == b.m && a.n == b.n && a.k == b.k;
}

typedef struct output {
    void *data;
    int64_t rows, columns;
    bool bf16;
} output;

static output output_of(const planted *p, tt_op op, const void *args)
{
    bool bf16 = tt_context_compute(p->context) == TT_BF16;
    if (op == TT_OP_LINEAR_FORWARD) {
        const tt_linear_forward_args *g = args;
        return (output){g->y, g->m, g->n, bf16};
    }
    if (op == TT_OP_LINEAR_DGRAD) {
        const tt_linear_dgrad_args *g = args;
        return (output){g->dx, g->m, g->k, bf16};
    }
    const tt_linear_wgrad_args *g = args;
    return (output){g->dw, g->n, g->k, false};
}

static float get(output out, int64_t at)
{
    return out.bf16 ? tt_bf16_to_f32(((uint16_t *)out.data)[at]) : ((float *)out.data)[at];
}

static void set(output out, int64_t at, float value)
{
    if (out.bf16)
        ((uint16_t *)out.data)[at] = tt_bf16_from_f32(value);
    else
        ((float *)out.data)[at] = value;
}

/* The next number of its type. */
static void nudge(output out, int64_t at)
{
    if (out.bf16)
        ((uint16_t *)out.data)[at]++;
    else
        ((float *)out.data)[at] = nextafterf(((float *)out.data)[at], INFINITY);
}

static void spoil(const planted *p, output out, tt_tile tile, float before)
{
    int64_t n = out.rows * out.columns, at = n * 2 / 3;
    switch (p->harm) {
    case HARM_REMAINDER:
        if (tile.m == 0 || out.rows % tile.m != 0 || out.columns % tile.n != 0)
            set(out, n - 1, get(out, n - 1) + (out.bf16 ? 0.5f : 0.01f));
        break;
    case HARM_UNWRITTEN:
        set(out, at, before);
        break;
    case HARM_NAN:
        set(out, at, NAN);
        break;
    case HARM_SMALL_ERROR:
        for (int64_t j = 0; j < out.columns; j++)
            set(out, (out.rows - 1) * out.columns + j,
                get(out, (out.rows - 1) * out.columns + j) * (out.bf16 ? 1.04f : 1.001f));
        break;
    case HARM_RACE:
        if (p->bad_runs % 3 == 0)
            nudge(out, at);
        break;
    case HARM_OTHER_BITS:
        nudge(out, at);
        break;
    case HARM_PAST_END:
        set(out, n, 1);
        break;
    case HARM_BEFORE:
        set(out, -1, 1);
        break;
    case HARM_NONE:
    case HARM_FAILS:
        break;
    }
}

static size_t candidate_of(const planted *p, const tt_tune_family *family, tt_tile tile)
{
    size_t at = family == &p->families[0] ? 0 : family == &p->families[1] ? LIBRARY : SECOND;
    for (size_t i = 0; family->tiled && !same_tile(tiles[i], tile); i++)
        at++;
    return at;
}

static tt_status run(void *user, const tt_tune_family *family, tt_tile tile, tt_op op,
                     const void *args)
{
    planted *p = user;
    size_t candidate = candidate_of(p, family, tile);
    bool bad = p->harm != HARM_NONE && candidate == p->bad && (p->op == TT_OP_COUNT || p->op == op);
    output out = output_of(p, op, args);
    float before = get(out, out.rows * out.columns * 2 / 3);
    if (bad && p->harm == HARM_FAILS)
        return tt_fail(TT_EUNSUPPORTED, "planted failure");
    p->runs++;
    uint64_t chance = tt_hash64(&p->runs, sizeof p->runs, 0);
    bool slow = p->phase > 0 && p->runs / p->phase % 2 == 0;
    p->now_ns += p->cost_ns[candidate] * (slow ? 3 : 1);
    if (p->disturbance_ns > 0 && chance % 3 == 0)
        p->now_ns += chance / 3 % p->disturbance_ns;
    tt_status status = tt_op_run(p->context, op, args);
    if (bad) {
        p->bad_runs++;
        spoil(p, out, tile, before);
    }
    return status;
}

static uint64_t planted_now(void *user)
{
    return ((const planted *)user)->now_ns;
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

static void setup(bench *b, tt_dtype compute)
{
    static const char *const names[] = {"first", "library", "second"};
    tt_context_options options;
    tt_context_options_init(&options);
    options.threads = 2;
    *b = (bench){.p = {.op = TT_OP_COUNT}};
    for (int i = 0; i < CANDIDATES; i++)
        b->p.cost_ns[i] = 1000;
    assert_int_equal(tt_context_create(&options, &b->p.context), TT_OK);
    assert_int_equal(tt_context_set_compute(b->p.context, compute), TT_OK);
    for (int f = 0; f < 3; f++) {
        b->p.families[f] = (tt_tune_family){.name = names[f], .tiled = f != 1};
        for (int op = 0; op < TT_PRODUCTS; op++) {
            b->p.families[f].candidate[op] = b->p.families[f].acceptable[op] = true;
            b->p.families[f].current[op] = f == 0;
            b->p.families[f].numerics[op] = f == 1 ? TT_NUMERICS_REPEATABLE : TT_NUMERICS_EXACT;
        }
    }
    b->target = (tt_tune_target){.run = run,
                                 .user = &b->p,
                                 .compute = compute,
                                 .threads = 2,
                                 .families = b->p.families,
                                 .family_count = 3};
    tt_tune_options_init(&b->options);
    b->options.shapes = shapes;
    b->options.shape_count = SHAPES;
    b->options.tiles = tiles;
    b->options.tile_count = TILES;
    b->clock = (tt_clock){planted_now, &b->p};
    b->options.clock = &b->clock;
}

static void teardown(bench *b)
{
    tt_tuning_clear(&b->tuning);
    tt_context_destroy(b->p.context);
}

static const tt_tune_cell *cell(const bench *b, size_t shape, size_t candidate)
{
    return &b->tuning.cells[shape * b->tuning.candidate_count + candidate];
}

/* The bad candidate would be the fastest by far: it must be found out, and another be chosen. */
static void check_harm(harm kind, tt_op op, size_t bad, tt_dtype compute)
{
    bench b;
    setup(&b, compute);
    b.p.harm = kind;
    b.p.op = op;
    b.p.bad = bad;
    b.p.cost_ns[bad] = 10;
    if (bad > SECOND)
        b.p.cost_ns[bad - SECOND] = 700; /* its tile is tried */
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    for (size_t s = 0; s < SHAPES; s++) {
        if (op != TT_OP_COUNT && op != shapes[s].op)
            continue;
        const tt_tune_cell *c = cell(&b, s, bad);
        if (c->state != TT_TUNE_WRONG || !(c->error > 1) || c->seconds > 0 ||
            b.tuning.chosen[shapes[s].op] == bad)
            fail_msg("harm %d of %s by candidate %zu went unseen in %s: state %d, error %g",
                     (int)kind, tt_op_name(shapes[s].op), bad, tt_dtype_name(compute),
                     (int)c->state, c->error);
    }
    for (size_t c = 0; c < b.tuning.candidate_count; c++)
        for (size_t s = 0; s < SHAPES; s++)
            assert_true(c == bad || cell(&b, s, c)->state != TT_TUNE_WRONG);
    teardown(&b);
}

static void check_harms(tt_dtype compute)
{
    for (int h = HARM_REMAINDER; h <= HARM_BEFORE; h++) {
        for (int op = TT_OP_LINEAR_FORWARD; op <= TT_OP_LINEAR_WGRAD; op++)
            check_harm((harm)h, (tt_op)op, 3, compute);
        check_harm((harm)h, TT_OP_COUNT, 1, compute);
        if (h != HARM_OTHER_BITS) { /* not promised by a library, nor told of a first tile */
            check_harm((harm)h, TT_OP_COUNT, LIBRARY, compute);
            check_harm((harm)h, TT_OP_COUNT, SECOND + 3, compute);
        }
        if (h != HARM_OTHER_BITS && h != HARM_RACE) /* even the incumbent */
            check_harm((harm)h, TT_OP_COUNT, 0, compute);
    }
}

static void test_wrong_candidates(void **state)
{
    (void)state;
    check_harms(TT_F32);
}

static void test_wrong_candidates_bf16(void **state)
{
    (void)state;
    check_harms(TT_BF16);
}

static void test_all_wrong(void **state)
{
    (void)state;
    bench b;
    setup(&b, TT_F32);
    b.p.harm = HARM_NAN;
    b.options.tile_count = 1;
    b.target.family_count = 1;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EINTERNAL);
    assert_null(b.tuning.cells);
    b.p.harm = HARM_FAILS;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EUNSUPPORTED);
    assert_null(b.tuning.cells);
    teardown(&b);
}

/* A variant of class `fast` may differ from run to run. */
static void test_fast_class(void **state)
{
    (void)state;
    bench b;
    setup(&b, TT_F32);
    b.p.families[1].numerics[0] = b.p.families[1].numerics[1] = b.p.families[1].numerics[2] =
        TT_NUMERICS_FAST;
    b.p.harm = HARM_RACE;
    b.p.bad = LIBRARY;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    for (size_t s = 0; s < SHAPES; s++)
        assert_int_equal(cell(&b, s, LIBRARY)->state, TT_TUNE_TIMED);
    teardown(&b);
}

static void choose_with(bench *b, const uint64_t cost_ns[CANDIDATES], double budget)
{
    setup(b, TT_F32);
    b->options.budget_seconds = budget;
    memcpy(b->p.cost_ns, cost_ns, CANDIDATES * sizeof *cost_ns);
    assert_int_equal(tt_tune_with(&b->target, &b->options, &b->tuning), TT_OK);
}

#define SAME(x) x, x, x, x, x

static void test_choice(void **state)
{
    (void)state;
    bench b;
    choose_with(&b, (uint64_t[]){1000, 900, 500, 700, 800, 2000, SAME(1000)}, 9);
    assert_true(same_tile(b.tuning.tile, tiles[2]) && b.tuning.complete);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 2);
    assert_true(fabs(tt_tuning_seconds(&b.tuning, TT_OP_LINEAR_FORWARD, 2) - 2 * 500e-9) < 1e-15);
    assert_true(fabs(tt_tuning_seconds(&b.tuning, TT_OP_LINEAR_FORWARD, 0) - 2 * 1000e-9) < 1e-15);
    assert_int_equal(cell(&b, 0, LIBRARY)->state, TT_TUNE_TIMED); /* in the first round only */
    assert_int_equal(cell(&b, 0, SECOND)->state, TT_TUNE_HOPELESS);
    teardown(&b);
    /* The library is faster than any tile. */
    choose_with(&b, (uint64_t[]){1000, 900, 500, 700, 800, 300, SAME(1000)}, 9);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], LIBRARY);
    teardown(&b);
    /* So is the second variant with a tile that suits the first. */
    choose_with(&b, (uint64_t[]){1000, 900, 500, 700, 800, 600, 900, 900, 200, 900, 900}, 9);
    assert_true(same_tile(b.tuning.tile, tiles[2]));
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], SECOND + 2);
    teardown(&b);
    /* Within the band the first listed wins. */
    choose_with(&b, (uint64_t[]){1010, 1000, 1005, 1100, 1000, 1000, SAME(1000)}, 9);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 0);
    teardown(&b);
}

/* A variant of a weaker class is measured where all are to be shown, and not chosen. */
static void test_unacceptable(void **state)
{
    (void)state;
    bench b;
    setup(&b, TT_F32);
    b.p.cost_ns[LIBRARY] = 100;
    for (int op = 0; op < TT_PRODUCTS; op++)
        b.p.families[1].acceptable[op] = false;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 0);
    assert_int_equal(cell(&b, 0, LIBRARY)->state, TT_TUNE_TIMED);
    teardown(&b);
}

/* The band ends in the widest gap between 2 and 6 %: what is near the end of it stays on its side
 * when all costs are a little off. */
static void test_tie_band(void **state)
{
    (void)state;
    const double costs[] = {1.055, 1.0, 1.025, 1.019, 1.2, INFINITY};
    for (int i = 0; i < 100; i++) {
        double noisy[6];
        for (int c = 0; c < 6; c++)
            noisy[c] = costs[c] * (1 + 0.004 * sin(i * 7 + c * 3));
        double limit = tt_tune_limit(noisy, 6);
        assert_true(noisy[0] > limit && noisy[2] <= limit && noisy[3] <= limit);
        assert_true(noisy[4] > limit && noisy[5] > limit);
    }
    assert_true(tt_tune_limit((double[]){1, 1.07}, 2) < 1.06);
    assert_true(tt_tune_limit((double[]){1, 1.01}, 2) >= 1.02);
    assert_true(isinf(tt_tune_limit((double[]){INFINITY}, 1)));
}

/* Runs that something disturbs do not count. */
static void test_disturbed(void **state)
{
    (void)state;
    bench b;
    setup(&b, TT_F32);
    memcpy(b.p.cost_ns, (uint64_t[]){1000, 930, 900, 860, 800, 1500, SAME(1500)},
           sizeof b.p.cost_ns);
    b.p.disturbance_ns = 3000;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 4);
    assert_true(fabs(cell(&b, 0, 4)->seconds - 800e-9) < 1e-15);
    teardown(&b);
}

/* Phases in which the whole machine is slow, from two turns long. */
static void test_slow_phases(void **state)
{
    (void)state;
    for (long phase = 2 * CANDIDATES; phase < 90; phase++) {
        bench b;
        setup(&b, TT_F32);
        memcpy(b.p.cost_ns, (uint64_t[]){1000, 930, 900, 860, 800, 1500, SAME(1500)},
               sizeof b.p.cost_ns);
        b.p.phase = phase;
        assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
        for (int op = 0; op < TT_PRODUCTS; op++)
            assert_int_equal(b.tuning.chosen[op], 4);
        double ratio = cell(&b, 0, 4)->seconds / cell(&b, 0, 0)->seconds;
        assert_true(fabs(ratio - 0.8) < 0.01);
        teardown(&b);
    }
}

static void test_budget(void **state)
{
    (void)state;
    bench b;
    const uint64_t costs[] = {1000, 900, 900, 900, 1, 1000, SAME(1000)};
    /* None: nothing is proven, nothing timed. */
    for (int negative = 0; negative < 2; negative++) {
        choose_with(&b, costs, -negative);
        assert_true(same_tile(b.tuning.tile, tiles[0]) && !b.tuning.complete);
        assert_int_equal(b.p.runs, 0);
        for (size_t c = 0; c < CANDIDATES; c++)
            assert_int_equal(cell(&b, 0, c)->state, TT_TUNE_UNKNOWN);
        teardown(&b);
    }
    /* Whatever it is cut at, the best of what was timed till then is chosen, and nothing begins
     * after the end. */
    for (double budget = 1e-6; budget < 400e-6; budget += 3e-6) {
        choose_with(&b, costs, budget);
        assert_true((double)b.p.now_ns * 1e-9 < budget + 4000e-9); /* one check is three runs */
        bool timed = false;
        for (size_t s = 0; s < SHAPES; s++)
            timed = timed || cell(&b, s, 4)->state == TT_TUNE_TIMED;
        for (int op = 0; op < TT_PRODUCTS; op++)
            assert_int_equal(b.tuning.chosen[op], timed ? 4 : 0);
        assert_true(same_tile(b.tuning.tile, tiles[timed ? 4 : 0]));
        teardown(&b);
    }
    choose_with(&b, costs, 1e-3);
    assert_true(same_tile(b.tuning.tile, tiles[4]) && b.tuning.complete);
    teardown(&b);
}

/* A short budget does not bring a wrong candidate back. */
static void test_budget_and_harm(void **state)
{
    (void)state;
    bench b;
    setup(&b, TT_F32);
    b.options.budget_seconds = 4e-6; /* the check of the first, and a little */
    b.p.harm = HARM_NAN;
    b.p.bad = 0;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    assert_int_equal(cell(&b, 0, 0)->state, TT_TUNE_WRONG);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 1);
    teardown(&b);
}

/* ---- further, another time ---- */

/* What a start leaves is read by the next one, as from the cache. */
static void pass_on(tt_tuning *tuning, const tt_tune_target *target, const tt_tune_options *options)
{
    char path[] = "/tmp/tt_tuning_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tt_tune_write(path, "a question\n", tuning), TT_OK);
    tt_tuning_clear(tuning);
    assert_int_equal(tt_tuning_begin(target, options, tuning), TT_OK);
    assert_int_equal(tt_tune_load(path, "a question\n", tuning), TT_OK);
    assert_int_equal(unlink(path), 0);
}

/* Starts with a budget each until nothing is left; returns how many that took. */
static int tune_by_starts(bench *b, double first, double budget, int most)
{
    b->options.budget_seconds = first;
    assert_int_equal(tt_tuning_begin(&b->target, &b->options, &b->tuning), TT_OK);
    for (int start = 1; start <= most; start++) {
        assert_int_equal(tt_tune_further(&b->target, &b->options, &b->tuning), TT_OK);
        if (b->tuning.complete)
            return start;
        pass_on(&b->tuning, &b->target, &b->options);
        b->options.budget_seconds = budget;
    }
    fail_msg("budgets of %g s get nowhere in %d starts", budget, most);
    return most;
}

/* However often the time was up in between, the end is the same, and nothing was proven twice. */
static void test_further(void **state)
{
    (void)state;
    const uint64_t costs[] = {1000, 900, 500, 700, 800, 600, 900, 900, 200, 900, 900};
    bench whole, parts;
    choose_with(&whole, costs, 9);
    for (double budget = 40e-6; budget < 300e-6; budget += 7e-6) {
        setup(&parts, TT_F32);
        memcpy(parts.p.cost_ns, costs, sizeof costs);
        int starts = tune_by_starts(&parts, budget, budget, 20);
        assert_true(starts > 1 ||
                    budget > 0.5e-9 * (double)whole.p.now_ns); /* cut short: fewer runs */
        assert_memory_equal(parts.tuning.chosen, whole.tuning.chosen, sizeof whole.tuning.chosen);
        assert_true(same_tile(parts.tuning.tile, whole.tuning.tile));
        for (size_t i = 0; i < SHAPES * CANDIDATES; i++) {
            assert_int_equal(parts.tuning.cells[i].state, whole.tuning.cells[i].state);
            assert_true(parts.tuning.cells[i].bits == whole.tuning.cells[i].bits);
        }
        /* A race that was cut off is run again. */
        assert_true((double)parts.p.now_ns <= (double)whole.p.now_ns + (starts - 1) * budget * 1e9);
        /* Of what is known nothing is run. */
        long runs = parts.p.runs;
        assert_int_equal(tt_tune_further(&parts.target, &parts.options, &parts.tuning), TT_OK);
        assert_int_equal(parts.p.runs, runs);
        teardown(&parts);
    }
    teardown(&whole);
}

/* Bits that differ from those of a tile that an earlier start has proven. */
static void test_further_and_harm(void **state)
{
    (void)state;
    static const harm kinds[] = {HARM_OTHER_BITS, HARM_NAN, HARM_SMALL_ERROR};
    for (size_t h = 0; h < sizeof kinds / sizeof *kinds; h++) {
        bench b;
        setup(&b, TT_F32);
        b.p.harm = kinds[h];
        b.p.bad = 1;
        b.p.cost_ns[1] = 10;
        assert_true(tune_by_starts(&b, 2e-6, 40e-6, 20) > 1); /* at first, one is proven */
        for (size_t s = 0; s < SHAPES; s++)
            assert_int_equal(cell(&b, s, 1)->state, TT_TUNE_WRONG);
        teardown(&b);
    }
}

/* ---- f32 against bf16 ---- */

typedef struct duel {
    bench sides[2];
    tt_tune_target targets[2];
    tt_tuning tunings[2], out;
    tt_tune_options options;
    tt_clock clock;
} duel;

static uint64_t duel_now(void *user)
{
    const duel *d = user;
    return d->sides[0].p.now_ns + d->sides[1].p.now_ns;
}

/* Both tuned, or only begun; then all products of a side cost so much. */
static void setup_duel(duel *d, bool tuned, uint64_t f32_ns, uint64_t bf16_ns)
{
    for (int i = 0; i < 2; i++) {
        bench *side = &d->sides[i];
        setup(side, i == 0 ? TT_F32 : TT_BF16);
        d->targets[i] = side->target;
        if (tuned)
            assert_int_equal(tt_tune_with(&d->targets[i], &side->options, &d->tunings[i]), TT_OK);
        else
            assert_int_equal(tt_tuning_begin(&d->targets[i], &side->options, &d->tunings[i]),
                             TT_OK);
        for (int c = 0; c < CANDIDATES; c++)
            side->p.cost_ns[c] = i == 0 ? f32_ns : bf16_ns;
    }
    assert_int_equal(tt_comparison_begin(d->tunings, &d->out), TT_OK);
    d->options = d->sides[0].options;
    d->clock = (tt_clock){duel_now, d};
    d->options.clock = &d->clock;
}

static void teardown_duel(duel *d)
{
    tt_tuning_clear(&d->out);
    for (int i = 0; i < 2; i++) {
        tt_tuning_clear(&d->tunings[i]);
        teardown(&d->sides[i]);
    }
}

static bool takes_bf16(duel *d)
{
    assert_int_equal(tt_compare_further(d->targets, d->tunings, &d->options, &d->out), TT_OK);
    for (int op = 1; op < TT_PRODUCTS; op++)
        assert_int_equal(d->out.chosen[op], d->out.chosen[0]);
    return d->out.chosen[0] == 1;
}

/* bf16 only where it is faster by more than the tie band, whatever disturbs the timing. */
static void test_faster_or_not(void **state)
{
    (void)state;
    static const struct {
        uint64_t f32, bf16;
        bool taken;
    } cases[] = {{1000, 500, true},  {1000, 900, true},   {1000, 985, false},
                 {1000, 975, false}, {1000, 1000, false}, {1000, 3000, false}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        duel d;
        setup_duel(&d, i % 2 == 0, cases[i / 2].f32, cases[i / 2].bf16);
        d.sides[0].p.disturbance_ns = d.sides[1].p.disturbance_ns = 2000;
        assert_int_equal(takes_bf16(&d), cases[i / 2].taken);
        assert_true(d.out.complete);
        for (size_t c = 0; c < 2 * SHAPES; c++)
            assert_int_equal(d.out.cells[c].state, TT_TUNE_TIMED);
        assert_true(fabs(tt_tuning_seconds(&d.out, TT_OP_LINEAR_FORWARD, 1) -
                         2e-9 * (double)cases[i / 2].bf16) < 1e-15);
        teardown_duel(&d);
    }
}

/* A fast bf16 that is wrong in one product is never timed on it, and not taken. */
static void test_wrong_bf16(void **state)
{
    (void)state;
    for (int h = HARM_REMAINDER; h <= HARM_BEFORE; h++) {
        for (int op = TT_OP_LINEAR_FORWARD; op <= TT_OP_LINEAR_WGRAD; op++) {
            duel d;
            if (h == HARM_OTHER_BITS) /* nothing to compare them with */
                continue;
            setup_duel(&d, false, 1000, 10);
            d.sides[1].p.harm = (harm)h;
            d.sides[1].p.op = (tt_op)op;
            assert_false(takes_bf16(&d));
            assert_true(d.out.complete);
            assert_int_equal(d.out.cells[2 * op + 1].state, TT_TUNE_WRONG);
            assert_int_equal(d.out.cells[2 * op + 1].rounds, 0);
            teardown_duel(&d);
        }
    }
}

/* Where the time is up first, f32 stays; another start goes on. */
static void test_time_for_bf16(void **state)
{
    (void)state;
    for (double budget = 0; budget < 60e-6; budget += 1e-6) {
        duel d;
        setup_duel(&d, false, 1000, 500);
        d.options.budget_seconds = budget;
        bool taken = takes_bf16(&d);
        assert_int_equal(taken, d.out.complete);
        assert_true((double)duel_now(&d) * 1e-9 < budget + 4000e-9);
        assert_true(d.out.complete || budget < 50e-6);
        for (int start = 0; start < 20 && !d.out.complete; start++) {
            d.options.budget_seconds = 12e-6;
            taken = takes_bf16(&d);
            assert_int_equal(taken, d.out.complete);
        }
        assert_true(d.out.complete);
        teardown_duel(&d);
    }
}

/* ---- on a context ---- */

static tt_context *context_with(tt_dtype compute, bool guard, tt_numerics numerics)
{
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    options.guard = guard;
    options.numerics = numerics;
    options.tensor_bytes = 4096;
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    assert_int_equal(tt_context_set_compute(context, compute), TT_OK);
    return context;
}

static void ask(tt_tune_options *options)
{
    tt_tune_options_init(options);
    options->shapes = shapes;
    options->shape_count = SHAPES;
    options->tiles = tiles;
    options->tile_count = TILES;
}

/* References take no tile: there is nothing to choose. */
static void test_nothing_to_choose(void **state)
{
    (void)state;
    tt_context *context = context_with(TT_F32, false, TT_NUMERICS_EXACT);
    tt_tune_options options;
    tt_tuning tuning;
    const tt_gemm_shape huge = {TT_OP_LINEAR_FORWARD, 1 << 20, 1 << 20, 1 << 20, 1};
    assert_int_equal(tt_context_set_variants(context, "reference"), TT_OK);
    ask(&options);
    options.shapes = &huge;
    options.shape_count = 1;
    memset(options.fixed, true, sizeof options.fixed);
    assert_int_equal(tt_tune(context, &options, &tuning), TT_OK);
    assert_true(same_tile(tuning.tile, tiles[0]));
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_string_equal(tuning.candidates[tuning.chosen[op]].variant, "reference");
    tt_tuning_clear(&tuning);
    assert_int_equal(tt_tune(context, &options, NULL), TT_EINVAL);
    tt_context_destroy(context);
}

/* Everything that the machine has is right. */
static void check_all_variants(tt_dtype compute)
{
    tt_context *context = context_with(compute, true, TT_NUMERICS_EXACT);
    tt_tune_options options;
    tt_tuning tuning;
    assert_int_equal(tt_context_set_tile(context, (tt_tile){128, 64, 16}), TT_OK);
    const char *own = tt_context_variant(context, TT_OP_LINEAR_DGRAD)->name;
    ask(&options);
    options.show_all = true;
    options.budget_seconds = 100;
    assert_int_equal(tt_tune(context, &options, &tuning), TT_OK);
    assert_true(tuning.complete && !tuning.cached && tuning.seconds > 0);
    for (size_t i = 0; i < SHAPES * tuning.candidate_count; i++) {
        const tt_tune_cell *c = &tuning.cells[i];
        if (c->state == TT_TUNE_WRONG || c->error >= (compute == TT_BF16 ? 1 : 0.9))
            fail_msg("%s is wrong: %g", tuning.candidates[i % tuning.candidate_count].variant,
                     c->error);
    }
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_true(isfinite(tt_tuning_seconds(&tuning, (tt_op)op, tuning.chosen[op])));
    /* The context is as it was. */
    assert_int_equal(tt_context_tile(context).m, 128);
    assert_string_equal(tt_context_variant(context, TT_OP_LINEAR_DGRAD)->name, own);
    tt_tuning_clear(&tuning);
    tt_context_destroy(context);
}

static void test_real_contexts(void **state)
{
    (void)state;
    check_all_variants(TT_F32);
    check_all_variants(TT_BF16);
}

static void test_check_products(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        const bool bf16 = i % 2 == 1, weights = i / 2 == 1;
        tt_context *context = context_with(bf16 ? TT_BF16 : TT_F32, false, TT_NUMERICS_FAST);
        double error = 9;
        size_t wrong = 9;
        assert_int_equal(tt_check_products(context, shapes, SHAPES, weights, &error, &wrong),
                         TT_OK);
        assert_int_equal(wrong, SHAPES);
        assert_true(error > 0 && error < (bf16 ? 1 : 0.9));
        assert_int_equal(tt_context_set_variants(context, "reference"), TT_OK);
        assert_int_equal(tt_check_products(context, shapes, SHAPES, weights, &error, &wrong),
                         TT_OK);
        assert_int_equal(wrong, SHAPES);
        tt_context_destroy(context);
    }
}

static void test_options(void **state)
{
    (void)state;
    bench b;
    setup(&b, TT_F32);
    const tt_tune_options good = b.options;
    const tt_tile bad_tiles[] = {{32, 32, 48}, {8, 16, 16}, {1024, 16, 16}};
    for (int i = 0; i < 3; i++) {
        b.options = good;
        b.options.tiles = &bad_tiles[i];
        b.options.tile_count = 1;
        assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EINVAL);
    }
    const tt_gemm_shape bad_shapes[] = {{TT_OP_ADD, 1, 1, 1, 1},
                                        {TT_OP_LINEAR_FORWARD, 0, 1, 1, 1},
                                        {TT_OP_LINEAR_FORWARD, 1, 1, 1, 0}};
    for (int i = 0; i < 3; i++) {
        b.options = good;
        b.options.shapes = &bad_shapes[i];
        b.options.shape_count = 1;
        assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EINVAL);
    }
    b.options = good;
    b.options.tile_count = 0;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EINVAL);
    b.options = good;
    b.options.tile_count = 100000;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EINVAL);
    b.options = good;
    b.options.budget_seconds = NAN;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EINVAL);
    assert_int_equal(tt_tune(NULL, &good, &b.tuning), TT_EINVAL);
    assert_int_equal(tt_tune(b.p.context, NULL, &b.tuning), TT_EINVAL);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_candidates),
        cmocka_unit_test(test_wrong_candidates_bf16),
        cmocka_unit_test(test_all_wrong),
        cmocka_unit_test(test_fast_class),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_unacceptable),
        cmocka_unit_test(test_tie_band),
        cmocka_unit_test(test_disturbed),
        cmocka_unit_test(test_slow_phases),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_and_harm),
        cmocka_unit_test(test_further),
        cmocka_unit_test(test_further_and_harm),
        cmocka_unit_test(test_faster_or_not),
        cmocka_unit_test(test_wrong_bf16),
        cmocka_unit_test(test_time_for_bf16),
        cmocka_unit_test(test_nothing_to_choose),
        cmocka_unit_test(test_real_contexts),
        cmocka_unit_test(test_check_products),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
