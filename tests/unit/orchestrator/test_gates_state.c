/* The gates that depend on what came before: errors per target, spikes, drift. And what no state
 * may change: a number that is none trips. */
#include "gates_unit.h"

static uint64_t seed = 1;

static uint64_t any(uint64_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

static const tt_gate_targets none;

/* Two codecs before the update, one after it, and the update itself, which may wait. */
enum { ACTIVATIONS, KV, MOMENTS, UPDATE, TARGETS };

static tt_gate_targets four_targets(void)
{
    tt_gate_targets targets = {.count = TARGETS};
    targets.target[ACTIVATIONS] = (tt_error_target){
        .name = "activations", .optimization = "activations", .kind = TT_ERROR_RECONSTRUCTION};
    targets.target[KV] =
        (tt_error_target){.name = "kv", .optimization = "kv", .kind = TT_ERROR_RECONSTRUCTION};
    targets.target[MOMENTS] = (tt_error_target){.name = "moments",
                                                .optimization = "moments",
                                                .kind = TT_ERROR_RECONSTRUCTION,
                                                .after_update = true};
    targets.target[UPDATE] = (tt_error_target){
        .name = "update", .optimization = "moments", .kind = TT_ERROR_UPDATE, .after_update = true};
    for (int i = 0; i < TARGETS; i++) {
        targets.target[i].size = sizeof targets.target[i];
        targets.target[i].cadence = 1;
        targets.armed[i] = true;
    }
    return targets;
}

static tt_measurements healthy_errors(void)
{
    tt_measurements measured = healthy();
    for (int i = 0; i < TARGETS; i++) {
        tt_measurements_set_error(&measured, i, 0.01);
    }
    return measured;
}

static tt_gate gate_of_target(int target)
{
    return target == UPDATE ? TT_GATE_UPDATE_ERROR : TT_GATE_RECONSTRUCTION;
}

static tt_gate_decision judge(const tt_gate_state *state, const tt_gate_targets *targets,
                              tt_gate_phase phase, const tt_measurements *measured)
{
    const tt_gate_limits limits = defaults();
    return tt_gates_judge(&limits, state, targets, phase, measured, NULL);
}

static void trips_on_target(const tt_gate_decision *decision, int target, double limit)
{
    const tt_gate_targets targets = four_targets();
    assert_int_equal(decision->verdict, TT_TRIP);
    assert_string_equal(decision->gate, tt_gate_name(gate_of_target(target)));
    assert_string_equal(decision->target, targets.target[target].name);
    assert_true(decision->limit == limit);
}

/* ---- errors ------------------------------------------------------------------------------- */

static void errors_must_be_below_their_limit(void **state)
{
    (void)state;
    const tt_gate_state run = {0};
    const tt_gate_targets targets = four_targets();
    static const struct {
        double value;
        bool passes;
    } table[] = {
        {0, true},      {-0.0, true},       {5e-324, true},    {0.049, true},
        {0.05, false},  {0.0500001, false}, {1, false},        {1e300, false},
        {-0.01, false}, {NAN, false},       {INFINITY, false}, {-INFINITY, false},
    };
    for (int target = 0; target < TARGETS; target++) {
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
            tt_measurements measured = healthy_errors();
            tt_measurements_set_error(&measured, target, table[i].value);
            tt_gate_decision decision = judge(&run, &targets, TT_GATES_ALL, &measured);
            if (table[i].passes) {
                assert_int_equal(decision.verdict, TT_PASS);
                continue;
            }
            trips_on_target(&decision, target, table[i].value < 0 ? 0 : 0.05);
            assert_false(decision.missing);
            assert_true(decision.observed == table[i].value ||
                        (isnan(decision.observed) && isnan(table[i].value)));
        }
    }
    tt_measurements measured = healthy_errors();
    tt_measurements_set_error(&measured, KV, nextafter(0.05, 0));
    assert_int_equal(judge(&run, &targets, TT_GATES_ALL, &measured).verdict, TT_PASS);
}

static void the_worst_target_is_named(void **state)
{
    (void)state;
    const tt_gate_state run = {0};
    const tt_gate_targets targets = four_targets();
    tt_measurements measured = healthy_errors();
    tt_measurements_set_error(&measured, ACTIVATIONS, 0.06);
    tt_measurements_set_error(&measured, KV, 0.07);
    tt_gate_decision decision = judge(&run, &targets, TT_GATES_ALL, &measured);
    trips_on_target(&decision, KV, 0.05);
    tt_measurements_set_error(&measured, ACTIVATIONS, 0.07); /* a tie: the first */
    decision = judge(&run, &targets, TT_GATES_ALL, &measured);
    trips_on_target(&decision, ACTIVATIONS, 0.05);
    measured.error_present[KV] = false; /* not measured is worse than large */
    decision = judge(&run, &targets, TT_GATES_ALL, &measured);
    trips_on_target(&decision, KV, 0.05);
    assert_true(decision.missing);
    tt_measurements_set_error(&measured, MOMENTS, -INFINITY); /* not a number is worse still */
    decision = judge(&run, &targets, TT_GATES_ALL, &measured);
    trips_on_target(&decision, MOMENTS, 0);
}

static void targets_that_are_off_are_not_judged(void **state)
{
    (void)state;
    const tt_gate_state run = {0};
    for (unsigned mask = 0; mask < 1u << TARGETS; mask++) {
        tt_gate_targets targets = four_targets();
        tt_measurements measured = healthy_errors();
        for (int i = 0; i < TARGETS; i++) {
            targets.armed[i] = mask >> i & 1;
            tt_measurements_set_error(&measured, i, targets.armed[i] ? 0.01 : 0.9);
            measured.error_present[i] = targets.armed[i] || i % 2;
        }
        assert_int_equal(judge(&run, &targets, TT_GATES_ALL, &measured).verdict, TT_PASS);
        assert_int_equal(tt_gate_armed(&run, &targets, TT_GATE_RECONSTRUCTION), (mask & 7) != 0);
        assert_int_equal(tt_gate_armed(&run, &targets, TT_GATE_UPDATE_ERROR), mask >> 3);
        tt_gate_counts counts = {0};
        const tt_gate_limits limits = defaults();
        tt_gates_judge(&limits, &run, &targets, TT_GATES_ALL, &measured, &counts);
        assert_int_equal(counts.evaluations[TT_GATE_RECONSTRUCTION], (mask & 7) != 0);
        assert_int_equal(counts.evaluations[TT_GATE_UPDATE_ERROR], mask >> 3);
        counts = (tt_gate_counts){0};
        tt_gates_judge(&limits, &run, &targets, TT_GATES_BEFORE_UPDATE, &measured, &counts);
        assert_int_equal(counts.evaluations[TT_GATE_RECONSTRUCTION], (mask & 3) != 0);
        assert_int_equal(counts.evaluations[TT_GATE_UPDATE_ERROR], 0);
    }
}

static void the_phase_decides_what_is_judged(void **state)
{
    (void)state;
    const tt_gate_state run = {0};
    tt_gate_targets targets = four_targets();
    for (int target = 0; target < TARGETS; target++) {
        for (int missing = 0; missing < 2; missing++) {
            tt_measurements measured = healthy_errors();
            tt_measurements_set_error(&measured, target, 0.5);
            measured.error_present[target] = !missing;
            tt_gate_decision before = judge(&run, &targets, TT_GATES_BEFORE_UPDATE, &measured);
            tt_gate_decision all = judge(&run, &targets, TT_GATES_ALL, &measured);
            trips_on_target(&all, target, 0.05);
            assert_int_equal(before.verdict, target < MOMENTS ? TT_TRIP : TT_PASS);
            assert_int_equal(tt_gate_is_after_update(&targets, &all), target >= MOMENTS);
        }
    }
    /* An error of the update that is known before it. */
    targets.target[UPDATE].after_update = false;
    tt_measurements measured = healthy_errors();
    tt_measurements_set_error(&measured, UPDATE, 0.5);
    tt_gate_decision decision = judge(&run, &targets, TT_GATES_BEFORE_UPDATE, &measured);
    trips_on_target(&decision, UPDATE, 0.05);
    assert_false(tt_gate_is_after_update(&targets, &decision));
}

static void after_the_update_by_name(void **state)
{
    (void)state;
    const tt_gate_targets targets = four_targets();
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        tt_gate_decision decision = {.verdict = TT_TRIP, .gate = tt_gate_name(gate), .target = ""};
        assert_int_equal(tt_gate_is_after_update(&targets, &decision),
                         gate >= TT_GATE_UPDATE_FINITE);
    }
    tt_gate_decision other = {.verdict = TT_TRIP, .gate = "overhead", .target = ""};
    assert_false(tt_gate_is_after_update(&targets, &other));
    other = (tt_gate_decision){.verdict = TT_PASS, .gate = "", .target = ""};
    assert_false(tt_gate_is_after_update(&targets, &other));
}

static void measured_at_least_as_often_as_stated(void **state)
{
    (void)state;
    for (int64_t cadence = 1; cadence <= 20; cadence++) {
        tt_gate_state run = {0};
        tt_gate_targets targets = four_targets();
        targets.target[UPDATE].cadence = cadence;
        tt_measurements measured = healthy_errors();
        tt_measurements_set_error(&measured, UPDATE, 0.9); /* stale: it says nothing */
        for (int round = 0; round < 3; round++) {
            measured.error_present[UPDATE] = false;
            for (int64_t i = 1; i < cadence; i++) {
                assert_int_equal(judge(&run, &targets, TT_GATES_ALL, &measured).verdict, TT_PASS);
                tt_gates_accept(&run, &targets, &measured);
                assert_int_equal(run.unmeasured[UPDATE], i);
                assert_int_equal(run.unmeasured[KV], 0);
            }
            tt_gate_decision decision = judge(&run, &targets, TT_GATES_ALL, &measured);
            trips_on_target(&decision, UPDATE, 0.05);
            assert_true(decision.missing);
            assert_true(isnan(decision.observed));
            tt_measurements now = healthy_errors();
            assert_int_equal(judge(&run, &targets, TT_GATES_ALL, &now).verdict, TT_PASS);
            tt_gates_accept(&run, &targets, &now);
            assert_int_equal(run.unmeasured[UPDATE], 0);
        }
        /* Off and on again: the count begins anew. */
        tt_gates_accept(&run, &targets, &measured);
        targets.armed[UPDATE] = false;
        tt_gates_accept(&run, &targets, &measured);
        assert_int_equal(run.unmeasured[UPDATE], 0);
    }
}

static void cured_targets(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_state run = {0};
    tt_gate_targets targets = four_targets();
    tt_measurements measured = healthy_errors();
    tt_measurements_set_error(&measured, KV, 0.06);
    tt_gate_decision tripped = judge(&run, &targets, TT_GATES_ALL, &measured);
    trips_on_target(&tripped, KV, 0.05);
    static const struct {
        double value;
        bool well;
    } table[] = {{0, true},      {0.0475, true}, {0.0476, false},  {0.05, false},
                 {-0.01, false}, {NAN, false},   {INFINITY, false}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_measurements_set_error(&measured, KV, table[i].value);
        assert_int_equal(tt_gate_passes_well(&limits, &run, &targets, &tripped, &measured),
                         table[i].well);
    }
    /* It must have been measured; others of its kind as far as they were. */
    measured = healthy_errors();
    measured.error_present[KV] = false;
    assert_false(tt_gate_passes_well(&limits, &run, &targets, &tripped, &measured));
    measured = healthy_errors();
    measured.error_present[ACTIVATIONS] = false;
    measured.error_present[MOMENTS] = false;
    assert_true(tt_gate_passes_well(&limits, &run, &targets, &tripped, &measured));
    tt_measurements_set_error(&measured, MOMENTS, 0.06);
    assert_false(tt_gate_passes_well(&limits, &run, &targets, &tripped, &measured));
    /* Of the other kind: not this gate's. */
    measured = healthy_errors();
    tt_measurements_set_error(&measured, UPDATE, 0.9);
    assert_true(tt_gate_passes_well(&limits, &run, &targets, &tripped, &measured));
    /* Its optimization off: nothing is lost. */
    measured = healthy_errors();
    measured.error_present[KV] = false;
    targets.armed[KV] = false;
    assert_true(tt_gate_passes_well(&limits, &run, &targets, &tripped, &measured));
}

/* ---- spikes and drift --------------------------------------------------------------------- */

static void accept(tt_gate_state *state, double loss, double norm, int times)
{
    tt_measurements measured = healthy();
    tt_measurements_set(&measured, TT_METRIC_LOSS, loss);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NORM, norm);
    for (int i = 0; i < times; i++) {
        tt_gates_accept(state, &none, &measured);
    }
}

static tt_gate_decision judge_value(const tt_gate_state *state, tt_metric metric, double value)
{
    tt_measurements measured = healthy();
    tt_measurements_set(&measured, metric, value);
    return judge(state, &none, TT_GATES_BEFORE_UPDATE, &measured);
}

static void spikes_once_the_window_is_full(void **state)
{
    (void)state;
    tt_gate_state run = {0};
    accept(&run, 2, 1, TT_WATCH_WINDOW - 1);
    assert_false(tt_gate_armed(&run, &none, TT_GATE_SPIKE_LOSS));
    assert_false(tt_gate_armed(&run, &none, TT_GATE_DRIFT_NORM));
    assert_int_equal(judge_value(&run, TT_METRIC_LOSS, 9).verdict, TT_PASS);
    assert_int_equal(judge_value(&run, TT_METRIC_GRADIENT_NORM, 10).verdict, TT_PASS);
    accept(&run, 2, 1, 1);
    for (tt_gate gate = TT_GATE_SPIKE_LOSS; gate <= TT_GATE_DRIFT_NORM; gate++) {
        assert_true(tt_gate_armed(&run, &none, gate));
    }
    tt_gate_decision decision = judge_value(&run, TT_METRIC_LOSS, 9);
    assert_int_equal(decision.verdict, TT_TRIP);
    assert_string_equal(decision.gate, "spike_loss");
    assert_string_equal(decision.target, "");
    assert_true(decision.limit == 8);
    assert_true(fabs(decision.observed - log(4.5) / TT_WATCH_RULE_LOSS.floor) < 1e-9);
    assert_false(tt_gate_is_after_update(&none, &decision));
    decision = judge_value(&run, TT_METRIC_GRADIENT_NORM, 9.9);
    assert_int_equal(decision.verdict, TT_TRIP);
    assert_string_equal(decision.gate, "spike_norm");
}

/* On a quiet series, where the floor is the scale. */
static void spikes_from_both_sides(void **state)
{
    (void)state;
    tt_gate_state run = {.accepted = 1000, .loss_settled = true};
    accept(&run, 2, 1, 500);
    double loss_edge = 2 * exp(8 * TT_WATCH_RULE_LOSS.floor);
    double norm_edge = exp(8 * TT_WATCH_RULE_NORM.floor);
    assert_int_equal(judge_value(&run, TT_METRIC_LOSS, loss_edge * 0.9999).verdict, TT_PASS);
    assert_int_equal(judge_value(&run, TT_METRIC_LOSS, loss_edge * 1.0001).verdict, TT_TRIP);
    assert_int_equal(judge_value(&run, TT_METRIC_GRADIENT_NORM, norm_edge * 0.9999).verdict,
                     TT_PASS);
    assert_int_equal(judge_value(&run, TT_METRIC_GRADIENT_NORM, norm_edge * 1.0001).verdict,
                     TT_TRIP);
    assert_true(loss_edge < 2 * 1.5);
    assert_true(norm_edge < 10);
    /* Downward is no spike. */
    assert_int_equal(judge_value(&run, TT_METRIC_LOSS, 1e-8).verdict, TT_PASS);
    assert_int_equal(judge_value(&run, TT_METRIC_GRADIENT_NORM, 1e-6).verdict, TT_PASS);
    /* What tripped was not accepted: the window is as it was. */
    assert_int_equal(judge_value(&run, TT_METRIC_LOSS, 2).verdict, TT_PASS);
}

static void zero_where_it_is_allowed(void **state)
{
    (void)state;
    tt_gate_limits limits = defaults();
    limits.loss_min = 0;
    limits.gradient_min = 0;
    tt_gate_state run = {.accepted = 1000, .loss_settled = true};
    accept(&run, 0, 0, 200);
    tt_measurements measured = healthy();
    tt_measurements_set(&measured, TT_METRIC_LOSS, 0);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NORM, 0);
    assert_int_equal(tt_gates_judge(&limits, &run, &none, TT_GATES_ALL, &measured, NULL).verdict,
                     TT_PASS);
    assert_true(isfinite(run.loss.cusum) && isfinite(run.norm.cusum));
    tt_measurements_set(&measured, TT_METRIC_LOSS, 1);
    assert_string_equal(tt_gates_judge(&limits, &run, &none, TT_GATES_ALL, &measured, NULL).gate,
                        "spike_loss");
}

/* Warns above h, trips above 2h. */
static void drift_warns_then_trips(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    static const tt_metric metrics[] = {TT_METRIC_LOSS, TT_METRIC_GRADIENT_NORM};
    for (int i = 0; i < 2; i++) {
        tt_gate gate = i ? TT_GATE_DRIFT_NORM : TT_GATE_DRIFT_LOSS;
        tt_gate_state run = {.accepted = 1000, .loss_settled = true};
        accept(&run, 2, 1, 200);
        tt_watch *watch = i ? &run.norm : &run.loss;
        double less = i ? TT_WATCH_RULE_NORM.allowance : TT_WATCH_RULE_LOSS.allowance;
        static const struct {
            double after; /* this step */
            tt_verdict_kind verdict;
        } table[] = {{0, TT_PASS},  {15, TT_PASS},     {15.125, TT_WARN},
                     {30, TT_WARN}, {30.125, TT_TRIP}, {1000, TT_TRIP}};
        for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
            if (i) {
                run.loss.cusum = 0.5 * 15 + TT_WATCH_RULE_LOSS.allowance + 1; /* it drifts too */
            }
            watch->cusum = table[row].after + less;
            tt_gate_counts counts = {0};
            tt_measurements measured = healthy();
            tt_gate_decision decision =
                tt_gates_judge(&limits, &run, &none, TT_GATES_ALL, &measured, &counts);
            assert_int_equal(decision.verdict, table[row].verdict);
            assert_int_equal(counts.trips[gate], table[row].verdict == TT_TRIP);
            if (decision.verdict != TT_PASS) {
                assert_string_equal(decision.gate, tt_gate_name(gate));
                assert_true(decision.observed == table[row].after);
                assert_true(decision.limit == (decision.verdict == TT_WARN ? 15 : 30));
            }
        }
        tt_measurements measured = healthy();
        tt_measurements_set(&measured, metrics[i], -1);
        assert_int_equal(tt_gate_judge(&limits, &run, &none, gate, TT_GATES_ALL, &measured).verdict,
                         TT_TRIP);
        measured.present[metrics[i]] = false;
        assert_true(tt_gate_judge(&limits, &run, &none, gate, TT_GATES_ALL, &measured).missing);
    }
}

/* The first warning is reported, but a trip of a later gate beats it. */
static void a_trip_beats_a_warning(void **state)
{
    (void)state;
    tt_gate_state run = {.accepted = 1000, .loss_settled = true};
    accept(&run, 2, 1, 200);
    run.loss.cusum = 20;
    run.norm.cusum = 20;
    tt_measurements measured = healthy();
    tt_gate_decision decision = judge(&run, &none, TT_GATES_ALL, &measured);
    assert_int_equal(decision.verdict, TT_WARN);
    assert_string_equal(decision.gate, "drift_loss");
    tt_measurements_set(&measured, TT_METRIC_UPDATE_NONFINITE, 1);
    decision = judge(&run, &none, TT_GATES_ALL, &measured);
    assert_int_equal(decision.verdict, TT_TRIP);
    assert_string_equal(decision.gate, "update_finite");
}

static void cured_spikes_and_drift(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    tt_gate_state run = {.accepted = 1000, .loss_settled = true};
    accept(&run, 2, 1, 200);
    tt_gate_decision tripped = judge_value(&run, TT_METRIC_LOSS, 9);
    static const struct {
        double score;
        bool well;
    } table[] = {{7.59, true}, {7.61, false}, {8.1, false}, {-3, true}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_measurements measured = healthy();
        tt_measurements_set(&measured, TT_METRIC_LOSS,
                            2 * exp(table[i].score * TT_WATCH_RULE_LOSS.floor));
        assert_int_equal(tt_gate_passes_well(&limits, &run, &none, &tripped, &measured),
                         table[i].well);
    }
    run.loss.cusum = 31;
    tt_measurements measured = healthy();
    tripped = judge(&run, &none, TT_GATES_ALL, &measured);
    assert_string_equal(tripped.gate, "drift_loss");
    assert_false(tt_gate_passes_well(&limits, &run, &none, &tripped, &measured));
    run.loss.cusum = 29; /* 28.5 is 5 % below 30 */
    assert_true(tt_gate_passes_well(&limits, &run, &none, &tripped, &measured));
    tt_measurements_set(&measured, TT_METRIC_LOSS, NAN);
    assert_false(tt_gate_passes_well(&limits, &run, &none, &tripped, &measured));
    measured.present[TT_METRIC_LOSS] = false;
    assert_false(tt_gate_passes_well(&limits, &run, &none, &tripped, &measured));
    /* In an older state whose window is not full, nothing is a spike. */
    const tt_gate_state young = {.accepted = 10};
    measured = healthy();
    assert_true(tt_gate_passes_well(&limits, &young, &none, &tripped, &measured));
}

/* ---- not a number ------------------------------------------------------------------------- */

static const double not_finite[] = {NAN, -NAN, INFINITY, -INFINITY};
static const tt_metric judged[] = {TT_METRIC_LOSS, TT_METRIC_GRADIENT_NORM,
                                   TT_METRIC_GRADIENT_NONFINITE, TT_METRIC_UPDATE_NONFINITE};
enum { PLACES = 4 + TARGETS };

static void plant(tt_measurements *measured, uint64_t place, double value)
{
    if (place < 4) {
        tt_measurements_set(measured, judged[place], value);
    } else {
        tt_measurements_set_error(measured, (int)place - 4, value);
    }
}

/* Asked by itself, a gate that has nothing to look at passes. */
static void what_is_not_armed_passes(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_state fresh = {0};
    tt_measurements empty;
    tt_measurements_init(&empty);
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        bool armed = tt_gate_armed(&fresh, &none, gate);
        tt_gate_decision decision =
            tt_gate_judge(&limits, &fresh, &none, gate, TT_GATES_ALL, &empty);
        assert_int_equal(armed, gate <= TT_GATE_GRADIENT_NORM);
        assert_int_equal(decision.verdict, armed ? TT_TRIP : TT_PASS);
        assert_int_equal(decision.missing, armed);
        assert_string_equal(decision.gate, armed ? tt_gate_name(gate) : "");
    }
}

/* Every place, value and state of a run; and each gate by itself. */
static void not_a_number_always_trips(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_targets targets = four_targets();
    for (int accepted = 0; accepted <= 300; accepted += 50) {
        tt_gate_state run = {0};
        accept(&run, 2, 1, accepted);
        for (uint64_t place = 0; place < PLACES; place++) {
            for (size_t i = 0; i < 4; i++) {
                tt_measurements measured = healthy_errors();
                plant(&measured, place, not_finite[i]);
                assert_int_equal(judge(&run, &targets, TT_GATES_ALL, &measured).verdict, TT_TRIP);
                bool before = place < 3 || place == 4 + ACTIVATIONS || place == 4 + KV;
                assert_int_equal(judge(&run, &targets, TT_GATES_BEFORE_UPDATE, &measured).verdict,
                                 before ? TT_TRIP : TT_PASS);
            }
        }
        for (tt_gate gate = TT_GATE_SPIKE_LOSS; gate <= TT_GATE_DRIFT_NORM; gate++) {
            for (size_t i = 0; i < 4 && tt_gate_armed(&run, &targets, gate); i++) {
                tt_measurements measured = healthy_errors();
                plant(&measured, (uint64_t)(gate - TT_GATE_SPIKE_LOSS) % 2, not_finite[i]);
                tt_gate_decision decision =
                    tt_gate_judge(&limits, &run, &targets, gate, TT_GATES_ALL, &measured);
                assert_int_equal(decision.verdict, TT_TRIP);
                assert_true(!isfinite(decision.observed));
            }
        }
    }
}

/* Any number of bad values, with any of the rest missing, in any state: never anything but a trip,
 * and what the decision names is really bad. */
static void bad_steps_at_random(void **state)
{
    (void)state;
    tt_gate_state run = {0};
    for (int i = 0; i < 100000; i++) {
        tt_gate_targets targets = four_targets();
        targets.target[UPDATE].cadence = 1 + (int64_t)any(10);
        tt_measurements measured = healthy_errors();
        uint64_t bad = 1 + any(3);
        for (uint64_t n = 0; n < bad; n++) {
            plant(&measured, any(PLACES), not_finite[any(4)]);
        }
        for (int n = 0; n < 4; n++) {
            /* Only what is healthy may be missing, or the planted value would be hidden. */
            if (any(8) == 0 && isfinite(measured.values[judged[n]])) {
                measured.present[judged[n]] = false;
            }
        }
        tt_gate_decision decision = judge(&run, &targets, TT_GATES_ALL, &measured);
        assert_int_equal(decision.verdict, TT_TRIP);
        assert_true(decision.missing || !isfinite(decision.observed));
        if (any(100) == 0) {
            accept(&run, 1 + (double)any(1000) / 1000, 1, 1);
        }
        if (run.accepted == 500) {
            run = (tt_gate_state){0};
        }
    }
}

/* Values that a gate would have refused do not get into the windows. */
static void the_window_takes_numbers_only(void **state)
{
    (void)state;
    tt_gate_state run = {0};
    accept(&run, 2, 1, 200);
    tt_gate_state before = run;
    tt_measurements measured = healthy();
    tt_measurements_set(&measured, TT_METRIC_LOSS, NAN);
    measured.present[TT_METRIC_GRADIENT_NORM] = false;
    tt_gates_accept(&run, &none, &measured);
    assert_memory_equal(&run.loss, &before.loss, sizeof run.loss);
    assert_memory_equal(&run.norm, &before.norm, sizeof run.norm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_must_be_below_their_limit),
        cmocka_unit_test(the_worst_target_is_named),
        cmocka_unit_test(targets_that_are_off_are_not_judged),
        cmocka_unit_test(the_phase_decides_what_is_judged),
        cmocka_unit_test(after_the_update_by_name),
        cmocka_unit_test(measured_at_least_as_often_as_stated),
        cmocka_unit_test(cured_targets),
        cmocka_unit_test(spikes_once_the_window_is_full),
        cmocka_unit_test(spikes_from_both_sides),
        cmocka_unit_test(zero_where_it_is_allowed),
        cmocka_unit_test(drift_warns_then_trips),
        cmocka_unit_test(a_trip_beats_a_warning),
        cmocka_unit_test(cured_spikes_and_drift),
        cmocka_unit_test(what_is_not_armed_passes),
        cmocka_unit_test(not_a_number_always_trips),
        cmocka_unit_test(bad_steps_at_random),
        cmocka_unit_test(the_window_takes_numbers_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
