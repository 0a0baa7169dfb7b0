#include "planted.h"

#include <math.h>
#include <string.h>

#include "bf16.h"

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

void planted_setup(bench *b, tt_dtype compute)
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

void planted_teardown(bench *b)
{
    tt_tuning_clear(&b->tuning);
    tt_context_destroy(b->p.context);
}

const tt_tune_cell *planted_cell(const bench *b, size_t shape, size_t candidate)
{
    return &b->tuning.cells[shape * b->tuning.candidate_count + candidate];
}

void planted_choose(bench *b, const uint64_t cost_ns[CANDIDATES], double budget)
{
    planted_setup(b, TT_F32);
    b->options.budget_seconds = budget;
    memcpy(b->p.cost_ns, cost_ns, CANDIDATES * sizeof *cost_ns);
    assert_int_equal(tt_tune_with(&b->target, &b->options, &b->tuning), TT_OK);
}
