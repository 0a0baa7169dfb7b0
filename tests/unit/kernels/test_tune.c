/* The tuner: a wrong candidate is never timed, let alone chosen. */
#include "planted.h"

#include <math.h>
#include <string.h>

/* The bad candidate would be the fastest by far: it must be found out, and another be chosen. */
static void check_harm(harm kind, tt_op op, size_t bad, tt_dtype compute)
{
    bench b;
    planted_setup(&b, compute);
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
        const tt_tune_cell *c = planted_cell(&b, s, bad);
        if (c->state != TT_TUNE_WRONG || !(c->error > 1) || c->seconds > 0 ||
            b.tuning.chosen[shapes[s].op] == bad)
            fail_msg("harm %d of %s by candidate %zu went unseen in %s: state %d, error %g",
                     (int)kind, tt_op_name(shapes[s].op), bad, tt_dtype_name(compute),
                     (int)c->state, c->error);
    }
    for (size_t c = 0; c < b.tuning.candidate_count; c++)
        for (size_t s = 0; s < SHAPES; s++)
            assert_true(c == bad || planted_cell(&b, s, c)->state != TT_TUNE_WRONG);
    planted_teardown(&b);
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
    planted_setup(&b, TT_F32);
    b.p.harm = HARM_NAN;
    b.options.tile_count = 1;
    b.target.family_count = 1;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EINTERNAL);
    assert_null(b.tuning.cells);
    b.p.harm = HARM_FAILS;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_EUNSUPPORTED);
    assert_null(b.tuning.cells);
    planted_teardown(&b);
}

/* A variant of class `fast` may differ from run to run. */
static void test_fast_class(void **state)
{
    (void)state;
    bench b;
    planted_setup(&b, TT_F32);
    b.p.families[1].numerics[0] = b.p.families[1].numerics[1] = b.p.families[1].numerics[2] =
        TT_NUMERICS_FAST;
    b.p.harm = HARM_RACE;
    b.p.bad = LIBRARY;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    for (size_t s = 0; s < SHAPES; s++)
        assert_int_equal(planted_cell(&b, s, LIBRARY)->state, TT_TUNE_TIMED);
    planted_teardown(&b);
}

static void test_choice(void **state)
{
    (void)state;
    bench b;
    planted_choose(&b, (uint64_t[]){1000, 900, 500, 700, 800, 2000, SAME(1000)}, 9);
    assert_true(same_tile(b.tuning.tile, tiles[2]) && b.tuning.complete);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 2);
    assert_true(fabs(tt_tuning_seconds(&b.tuning, TT_OP_LINEAR_FORWARD, 2) - 2 * 500e-9) < 1e-15);
    assert_true(fabs(tt_tuning_seconds(&b.tuning, TT_OP_LINEAR_FORWARD, 0) - 2 * 1000e-9) < 1e-15);
    assert_int_equal(planted_cell(&b, 0, LIBRARY)->state,
                     TT_TUNE_TIMED); /* in the first round only */
    assert_int_equal(planted_cell(&b, 0, SECOND)->state, TT_TUNE_HOPELESS);
    planted_teardown(&b);
    /* The library is faster than any tile. */
    planted_choose(&b, (uint64_t[]){1000, 900, 500, 700, 800, 300, SAME(1000)}, 9);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], LIBRARY);
    planted_teardown(&b);
    /* So is the second variant with a tile that suits the first. */
    planted_choose(&b, (uint64_t[]){1000, 900, 500, 700, 800, 600, 900, 900, 200, 900, 900}, 9);
    assert_true(same_tile(b.tuning.tile, tiles[2]));
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], SECOND + 2);
    planted_teardown(&b);
    /* Within the band the first listed wins. */
    planted_choose(&b, (uint64_t[]){1010, 1000, 1005, 1100, 1000, 1000, SAME(1000)}, 9);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 0);
    planted_teardown(&b);
}

/* A variant of a weaker class is measured where all are to be shown, and not chosen. */
static void test_unacceptable(void **state)
{
    (void)state;
    bench b;
    planted_setup(&b, TT_F32);
    b.p.cost_ns[LIBRARY] = 100;
    for (int op = 0; op < TT_PRODUCTS; op++)
        b.p.families[1].acceptable[op] = false;
    assert_int_equal(tt_tune_with(&b.target, &b.options, &b.tuning), TT_OK);
    for (int op = 0; op < TT_PRODUCTS; op++)
        assert_int_equal(b.tuning.chosen[op], 0);
    assert_int_equal(planted_cell(&b, 0, LIBRARY)->state, TT_TUNE_TIMED);
    planted_teardown(&b);
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
        planted_setup(side, i == 0 ? TT_F32 : TT_BF16);
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
        planted_teardown(&d->sides[i]);
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
    planted_setup(&b, TT_F32);
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
    planted_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_candidates), cmocka_unit_test(test_wrong_candidates_bf16),
        cmocka_unit_test(test_all_wrong),        cmocka_unit_test(test_fast_class),
        cmocka_unit_test(test_choice),           cmocka_unit_test(test_unacceptable),
        cmocka_unit_test(test_faster_or_not),    cmocka_unit_test(test_wrong_bf16),
        cmocka_unit_test(test_time_for_bf16),    cmocka_unit_test(test_nothing_to_choose),
        cmocka_unit_test(test_real_contexts),    cmocka_unit_test(test_check_products),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
