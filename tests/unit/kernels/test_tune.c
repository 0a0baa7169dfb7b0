/* The tuner: a wrong candidate is never timed, let alone chosen. Wrong ones are planted: the runner
 * computes rightly and then spoils the output of one tile. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tune.h"

typedef enum harm {
    HARM_NONE,
    HARM_REMAINDER,   /* wrong only where a side is not a multiple of the tile */
    HARM_UNWRITTEN,   /* one element is left as it was */
    HARM_NAN,         /* one NaN */
    HARM_SMALL_ERROR, /* a relative error of 1e-3 in one row */
    HARM_RACE,        /* now and then another last bit */
    HARM_OTHER_BITS,  /* always another last bit: right, but not exact */
    HARM_PAST_END,    /* writes one element past the end */
    HARM_BEFORE,      /* and before the beginning */
    HARM_FAILS,       /* the operation returns an error */
} harm;

typedef struct planted {
    tt_context *context;
    tt_tile bad;
    harm harm;
    tt_op op; /* TT_OP_COUNT: any */
    long runs, bad_runs;
    uint64_t now_ns; /* a clock that only runs move */
    uint64_t cost_ns[16];
    bool last_tile_came,
        slowing; /* the machine takes three times as long once the last tile has come */
} planted;

static const tt_tile tiles[] = {
    {32, 32, 32}, {64, 64, 64}, {16, 64, 32}, {64, 128, 128}, {128, 32, 64}};
enum { TILES = sizeof tiles / sizeof *tiles };

static bool same_tile(tt_tile a, tt_tile b)
{
    return a.m == b.m && a.n == b.n && a.k == b.k;
}

typedef struct output {
    float *data;
    int64_t rows, columns;
} output;

static output output_of(tt_op op, const void *args)
{
    if (op == TT_OP_LINEAR_FORWARD) {
        const tt_linear_forward_args *g = args;
        return (output){g->y, g->m, g->n};
    }
    if (op == TT_OP_LINEAR_DGRAD) {
        const tt_linear_dgrad_args *g = args;
        return (output){g->dx, g->m, g->k};
    }
    const tt_linear_wgrad_args *g = args;
    return (output){g->dw, g->n, g->k};
}

static void spoil(planted *p, output out, float before)
{
    int64_t n = out.rows * out.columns, at = n * 2 / 3;
    bool remainder = out.rows % p->bad.m != 0 || out.columns % p->bad.n != 0;
    switch (p->harm) {
    case HARM_REMAINDER:
        if (remainder)
            out.data[n - 1] += 0.01f;
        break;
    case HARM_UNWRITTEN:
        out.data[at] = before;
        break;
    case HARM_NAN:
        out.data[at] = NAN;
        break;
    case HARM_SMALL_ERROR:
        for (int64_t j = 0; j < out.columns; j++)
            out.data[(out.rows - 1) * out.columns + j] *= 1.001f;
        break;
    case HARM_RACE:
        if (p->bad_runs % 3 == 0)
            out.data[at] = nextafterf(out.data[at], INFINITY);
        break;
    case HARM_OTHER_BITS:
        out.data[at] = nextafterf(out.data[at], INFINITY);
        break;
    case HARM_PAST_END:
        out.data[n] = 1;
        break;
    case HARM_BEFORE:
        out.data[-1] = 1;
        break;
    case HARM_NONE:
    case HARM_FAILS:
        break;
    }
}

static tt_status run(void *user, tt_tile tile, tt_op op, const void *args)
{
    planted *p = user;
    bool bad =
        p->harm != HARM_NONE && same_tile(tile, p->bad) && (p->op == TT_OP_COUNT || p->op == op);
    output out = output_of(op, args);
    float before = out.data[out.rows * out.columns * 2 / 3];
    if (bad && p->harm == HARM_FAILS)
        return tt_fail(TT_EUNSUPPORTED, "planted failure");
    p->runs++;
    if (same_tile(tile, tiles[TILES - 1]))
        p->last_tile_came = true;
    bool slow = p->slowing && p->last_tile_came;
    for (int i = 0; i < TILES; i++)
        if (same_tile(tile, tiles[i]))
            p->now_ns += p->cost_ns[i] * (slow ? 3 : 1);
    tt_status status = tt_context_set_tile(p->context, tile);
    if (status == TT_OK)
        status = tt_op_run(p->context, op, args);
    if (bad) {
        p->bad_runs++;
        spoil(p, out, before);
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

static void setup(planted *p, tt_tune_target *target, tt_tune_options *options)
{
    tt_context_options context_options;
    tt_context_options_init(&context_options);
    context_options.threads = 2;
    *p = (planted){.op = TT_OP_COUNT};
    for (int i = 0; i < TILES; i++)
        p->cost_ns[i] = 1000;
    assert_int_equal(tt_context_create(&context_options, &p->context), TT_OK);
    *target = (tt_tune_target){.run = run, .user = p, .threads = 2};
    for (int op = 0; op < TT_OP_COUNT; op++)
        target->numerics[op] = TT_NUMERICS_EXACT;
    tt_tune_options_init(options);
    options->shapes = shapes;
    options->shape_count = 3;
    options->candidates = tiles;
    options->candidate_count = TILES;
    options->repetitions = 3;
}

/* The bad tile would be the fastest by far: it must be found out, and another be chosen. */
static void check_harm(harm kind, tt_op op, size_t bad)
{
    planted p;
    tt_tune_target target;
    tt_tune_options options;
    tt_tune_candidate results[TILES];
    size_t chosen = 99;
    setup(&p, &target, &options);
    tt_clock clock = {planted_now, &p};
    options.clock = &clock;
    p.harm = kind;
    p.op = op;
    p.bad = tiles[bad];
    p.cost_ns[bad] = 10;
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_OK);
    if (results[bad].conforms || results[bad].timed || chosen == bad)
        fail_msg("harm %d of %s went unseen (error %g)", (int)kind, tt_op_name(op),
                 results[bad].error);
    assert_true(results[bad].error > 1);
    for (size_t i = 0; i < TILES; i++)
        if (i != bad)
            assert_true(results[i].conforms && results[i].timed && results[i].error <= 1);
    tt_context_destroy(p.context);
}

static void test_wrong_candidates(void **state)
{
    (void)state;
    for (int h = HARM_REMAINDER; h <= HARM_BEFORE; h++) {
        for (int op = TT_OP_LINEAR_FORWARD; op <= TT_OP_LINEAR_WGRAD; op++)
            check_harm((harm)h, (tt_op)op, 3);
        check_harm((harm)h, TT_OP_COUNT, 1);
    }
}

/* Even as the incumbent. (Other bits than the incumbent's are what the class compares with, so that
 * harm cannot be told there.) */
static void test_wrong_incumbent(void **state)
{
    (void)state;
    for (int h = HARM_REMAINDER; h <= HARM_BEFORE; h++)
        if (h != HARM_OTHER_BITS && h != HARM_RACE)
            check_harm((harm)h, TT_OP_COUNT, 0);
}

static void test_all_wrong(void **state)
{
    (void)state;
    planted p;
    tt_tune_target target;
    tt_tune_options options;
    tt_tune_candidate results[1];
    size_t chosen = 99;
    setup(&p, &target, &options);
    p.harm = HARM_NAN;
    p.bad = tiles[0];
    options.candidate_count = 1;
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_EINTERNAL);
    assert_int_equal(chosen, 99);
    p.harm = HARM_FAILS;
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_EUNSUPPORTED);
    tt_context_destroy(p.context);
}

/* A variant of class `fast` may differ from run to run. */
static void test_fast_class(void **state)
{
    (void)state;
    planted p;
    tt_tune_target target;
    tt_tune_options options;
    tt_tune_candidate results[TILES];
    size_t chosen = 99;
    setup(&p, &target, &options);
    for (int op = 0; op < TT_OP_COUNT; op++)
        target.numerics[op] = TT_NUMERICS_FAST;
    p.harm = HARM_RACE;
    p.bad = tiles[2];
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_OK);
    assert_true(results[2].conforms && results[2].timed);
    tt_context_destroy(p.context);
}

static size_t choose_with(const uint64_t cost_ns[TILES], double tie_band, double budget,
                          tt_tune_candidate results[TILES])
{
    planted p;
    tt_tune_target target;
    tt_tune_options options;
    size_t chosen = 99;
    setup(&p, &target, &options);
    tt_clock clock = {planted_now, &p};
    options.clock = &clock;
    options.tie_band = tie_band;
    options.budget_seconds = budget;
    memcpy(p.cost_ns, cost_ns, TILES * sizeof *cost_ns);
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_OK);
    tt_context_destroy(p.context);
    return chosen;
}

/* A clock that drops between two waves must not cost the later candidates their place. */
static void test_drift(void **state)
{
    (void)state;
    planted p;
    tt_tune_target target;
    tt_tune_options options;
    tt_tune_candidate results[TILES];
    size_t chosen = 99;
    setup(&p, &target, &options);
    tt_clock clock = {planted_now, &p};
    options.clock = &clock;
    p.slowing = true;
    memcpy(p.cost_ns, (uint64_t[]){1000, 900, 900, 900, 600}, TILES * sizeof(uint64_t));
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_OK);
    assert_int_equal(chosen, 4);
    assert_true(fabs(results[4].seconds - 4 * 600e-9) < 1e-15);
    tt_context_destroy(p.context);
}

static void test_choice(void **state)
{
    (void)state;
    tt_tune_candidate r[TILES];
    assert_int_equal(choose_with((uint64_t[]){1000, 900, 500, 700, 800}, 0.02, 9, r), 2);
    assert_true(fabs(r[0].seconds - 4 * 1000e-9) < 1e-15); /* counts 2 + 1 + 1 */
    assert_true(fabs(r[2].seconds - 4 * 500e-9) < 1e-15);
    /* The last wave's times are on the scale of the first's. */
    assert_int_equal(choose_with((uint64_t[]){1000, 900, 800, 700, 100}, 0.02, 9, r), 4);
    assert_true(fabs(r[4].seconds - 4 * 100e-9) < 1e-15);
    /* Within the band the first listed wins. */
    assert_int_equal(choose_with((uint64_t[]){1010, 1000, 1005, 1100, 1000}, 0.02, 9, r), 0);
    assert_int_equal(choose_with((uint64_t[]){1030, 1000, 1005, 1100, 1000}, 0.02, 9, r), 1);
    assert_int_equal(choose_with((uint64_t[]){1010, 1005, 1000, 1100, 1100}, 0, 9, r), 2);
}

static void test_budget(void **state)
{
    (void)state;
    tt_tune_candidate r[TILES];
    const uint64_t costs[TILES] = {1000, 900, 900, 900, 1};
    /* None: nothing is proven, nothing timed. */
    for (int negative = 0; negative < 2; negative++) {
        assert_int_equal(choose_with(costs, 0, -negative, r), 0);
        for (int i = 0; i < TILES; i++)
            assert_true(same_tile(r[i].tile, tiles[i]) && !r[i].timed && !r[i].conforms);
    }
    /* A check takes three runs of each of the three shapes: 17.1 us for the first two. */
    assert_int_equal(choose_with(costs, 0, 10e-6, r), 0);
    for (int i = 0; i < TILES; i++)
        assert_false(r[i].timed || r[i].conforms);
    /* Proven, but not timed on every shape. */
    assert_int_equal(choose_with(costs, 0, 18e-6, r), 0);
    assert_true(r[0].conforms && r[1].conforms);
    assert_false(r[0].timed || r[1].timed);
    /* Fewer turns than asked for: an untimed one and one or two others. */
    assert_int_equal(choose_with(costs, 0, 30e-6, r), 1);
    assert_true(r[0].timed && r[1].timed);
    assert_true(fabs(r[1].seconds - 4 * 900e-9) < 1e-15);
    for (int i = 2; i < TILES; i++)
        assert_false(r[i].timed || r[i].conforms);
    /* All turns of the first two (39.9 us), and of one more. */
    assert_int_equal(choose_with(costs, 0, 62e-6, r), 1);
    assert_false(r[3].timed || r[4].timed);
    assert_int_equal(choose_with(costs, 0, 1e-3, r), 4);
}

/* A short budget does not bring a wrong tile back. */
static void test_budget_and_harm(void **state)
{
    (void)state;
    planted p;
    tt_tune_target target;
    tt_tune_options options;
    tt_tune_candidate results[TILES];
    size_t chosen = 99;
    setup(&p, &target, &options);
    tt_clock clock = {planted_now, &p};
    options.clock = &clock;
    options.budget_seconds = 4e-6; /* the first shape's check of the first tile, and a little */
    p.harm = HARM_NAN;
    p.bad = tiles[0];
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_OK);
    assert_int_equal(chosen, 1);
    assert_true(results[0].error > 1 && !results[1].conforms && !results[1].timed);
    tt_context_destroy(p.context);
}

/* References take no tile: there is nothing to choose. */
static void test_nothing_tiled(void **state)
{
    (void)state;
    tt_context_options context_options;
    tt_context *context = NULL;
    tt_tune_options options;
    tt_tune_candidate results[TILES];
    const tt_gemm_shape huge = {TT_OP_LINEAR_FORWARD, 1 << 20, 1 << 20, 1 << 20, 1};
    size_t chosen = 99;
    tt_context_options_init(&context_options);
    assert_int_equal(tt_context_create(&context_options, &context), TT_OK);
    assert_int_equal(tt_context_set_variants(context, "reference"), TT_OK);
    tt_tune_options_init(&options);
    options.shapes = &huge;
    options.shape_count = 1;
    options.candidates = tiles;
    options.candidate_count = TILES;
    assert_int_equal(tt_tune_tile(context, &options, results, &chosen), TT_OK);
    assert_int_equal(chosen, 0);
    for (int i = 0; i < TILES; i++)
        assert_true(same_tile(results[i].tile, tiles[i]) && !results[i].timed);
    assert_int_equal(tt_tune_tile(context, &options, NULL, &chosen), TT_EINVAL);
    tt_context_destroy(context);
}

static void test_real_context(void **state)
{
    (void)state;
    tt_context_options context_options;
    tt_context *context = NULL;
    tt_tune_options options;
    tt_tune_candidate results[TILES];
    size_t chosen = 99;
    tt_context_options_init(&context_options);
    context_options.guard = true;
    context_options.tensor_bytes = 4096;
    assert_int_equal(tt_context_create(&context_options, &context), TT_OK);
    assert_int_equal(tt_context_set_tile(context, (tt_tile){128, 64, 16}), TT_OK);
    tt_tune_options_init(&options);
    options.shapes = shapes;
    options.shape_count = 3;
    options.candidates = tiles;
    options.candidate_count = TILES;
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (info->op != TT_OP_LINEAR_FORWARD || info->dtype != TT_F32 || !info->tiled ||
            !tt_variant_available(info))
            continue;
        assert_int_equal(tt_context_set_variants(context, info->name), TT_OK);
        assert_int_equal(tt_tune_tile(context, &options, results, &chosen), TT_OK);
        assert_true(chosen < TILES);
        for (int i = 0; i < TILES; i++)
            assert_true(results[i].conforms && results[i].timed && results[i].seconds > 0 &&
                        results[i].error < 0.7);
    }
    assert_int_equal(tt_context_tile(context).m, 128); /* as it was */
    tt_context_destroy(context);
}

static void test_options(void **state)
{
    (void)state;
    planted p;
    tt_tune_target target;
    tt_tune_options good, options;
    tt_tune_candidate results[TILES];
    size_t chosen;
    setup(&p, &target, &good);
    const tt_tile bad_tiles[] = {{32, 32, 48}, {8, 16, 16}, {1024, 16, 16}};
    for (int i = 0; i < 3; i++) {
        options = good;
        options.candidates = &bad_tiles[i];
        options.candidate_count = 1;
        assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_EINVAL);
    }
    const tt_gemm_shape bad_shapes[] = {{TT_OP_ADD, 1, 1, 1, 1},
                                        {TT_OP_LINEAR_FORWARD, 0, 1, 1, 1},
                                        {TT_OP_LINEAR_FORWARD, 1, 1, 1, 0}};
    for (int i = 0; i < 3; i++) {
        options = good;
        options.shapes = &bad_shapes[i];
        options.shape_count = 1;
        assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_EINVAL);
    }
    options = good;
    options.repetitions = 0;
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_EINVAL);
    options = good;
    options.candidate_count = 0;
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_EINVAL);
    options = good;
    options.budget_seconds = NAN;
    assert_int_equal(tt_tune_tile_with(&target, &options, results, &chosen), TT_EINVAL);
    assert_int_equal(tt_tune_tile_with(&target, &good, NULL, &chosen), TT_EINVAL);
    assert_int_equal(tt_tune_tile(NULL, &good, results, &chosen), TT_EINVAL);
    tt_context_destroy(p.context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_candidates),
        cmocka_unit_test(test_wrong_incumbent),
        cmocka_unit_test(test_all_wrong),
        cmocka_unit_test(test_fast_class),
        cmocka_unit_test(test_drift),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_and_harm),
        cmocka_unit_test(test_nothing_tiled),
        cmocka_unit_test(test_real_context),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
