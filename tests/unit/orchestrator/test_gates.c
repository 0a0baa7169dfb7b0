/* The gates on one step's numbers: every limit from both sides. */
#include "gates_unit.h"

static const tt_gate_targets none; /* no codec is on */

static const tt_gate interval_gates[] = {TT_GATE_LOSS, TT_GATE_GRADIENT_FINITE,
                                         TT_GATE_GRADIENT_NORM, TT_GATE_UPDATE_FINITE};
enum { INTERVAL_GATES = sizeof interval_gates / sizeof *interval_gates };

static const tt_metric metric_of[TT_GATE_COUNT] = {
    [TT_GATE_LOSS] = TT_METRIC_LOSS,
    [TT_GATE_GRADIENT_FINITE] = TT_METRIC_GRADIENT_NONFINITE,
    [TT_GATE_GRADIENT_NORM] = TT_METRIC_GRADIENT_NORM,
    [TT_GATE_UPDATE_FINITE] = TT_METRIC_UPDATE_NONFINITE,
};

/* Start-up and warm-up are over; the windows are empty, so that nothing is a spike. */
static tt_gate_state under_way(void)
{
    return (tt_gate_state){.accepted = 1000, .loss_settled = true};
}

static tt_gate_decision judge_all(const tt_gate_limits *limits, const tt_gate_state *state,
                                  const tt_measurements *measured)
{
    return tt_gates_judge(limits, state, &none, TT_GATES_ALL, measured, NULL);
}

static tt_gate_decision judge(const tt_gate_limits *limits, const tt_gate_state *state,
                              tt_metric metric, double value)
{
    tt_measurements measured = healthy();
    tt_measurements_set(&measured, metric, value);
    return judge_all(limits, state, &measured);
}

static void expect(const tt_gate_limits *limits, const tt_gate_state *state, tt_metric metric,
                   double value, bool passes)
{
    tt_gate_decision decision = judge(limits, state, metric, value);
    if ((decision.verdict == TT_PASS) != passes) {
        fail_msg("metric %d at %.17g should %s", (int)metric, value, passes ? "pass" : "trip");
    }
    assert_true(passes || decision.verdict == TT_TRIP);
    assert_int_equal(decision.action, TT_ACTION_NONE);
    assert_false(decision.missing);
    if (passes) {
        assert_string_equal(decision.gate, "");
        return;
    }
    assert_string_equal(decision.target, "");
    for (int i = 0; i < INTERVAL_GATES; i++) {
        if (metric_of[interval_gates[i]] == metric) {
            assert_string_equal(decision.gate, tt_gate_name(interval_gates[i]));
        }
    }
    assert_true(decision.observed == value || (isnan(decision.observed) && isnan(value)));
}

static void around_every_limit(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_state run = under_way();
    static const struct {
        tt_metric metric;
        double value;
        bool passes;
    } table[] = {
        {TT_METRIC_LOSS, 10.5, false},
        {TT_METRIC_LOSS, 9.9, true},
        {TT_METRIC_LOSS, 10, true},
        {TT_METRIC_LOSS, 0x1.4000000000001p+3, false}, /* the next double above 10 */
        {TT_METRIC_LOSS, 0x1.3ffffffffffffp+3, true},
        {TT_METRIC_LOSS, 1e-8, true},
        {TT_METRIC_LOSS, 0.99e-8, false},
        {TT_METRIC_LOSS, 0, false}, /* zero is a value, and below the limit */
        {TT_METRIC_LOSS, -0.0, false},
        {TT_METRIC_LOSS, -1, false},
        {TT_METRIC_LOSS, 1e308, false},
        {TT_METRIC_LOSS, 5e-324, false},
        {TT_METRIC_GRADIENT_NORM, 10, true},
        {TT_METRIC_GRADIENT_NORM, 0x1.4000000000001p+3, false},
        {TT_METRIC_GRADIENT_NORM, 10.5, false},
        {TT_METRIC_GRADIENT_NORM, 1e-6, true},
        {TT_METRIC_GRADIENT_NORM, 0.99e-6, false},
        {TT_METRIC_GRADIENT_NORM, 0, false},
        {TT_METRIC_GRADIENT_NORM, -1, false},
        {TT_METRIC_GRADIENT_NONFINITE, 0, true},
        {TT_METRIC_GRADIENT_NONFINITE, -0.0, true},
        {TT_METRIC_GRADIENT_NONFINITE, 1, false},
        {TT_METRIC_GRADIENT_NONFINITE, 1e12, false},
        {TT_METRIC_GRADIENT_NONFINITE, -1, false},
        {TT_METRIC_UPDATE_NONFINITE, 0, true},
        {TT_METRIC_UPDATE_NONFINITE, 1, false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        expect(&limits, &run, table[i].metric, table[i].value, table[i].passes);
    }
    for (int i = 0; i < INTERVAL_GATES; i++) {
        expect(&limits, &run, metric_of[interval_gates[i]], NAN, false);
        expect(&limits, &run, metric_of[interval_gates[i]], -NAN, false);
        expect(&limits, &run, metric_of[interval_gates[i]], INFINITY, false);
        expect(&limits, &run, metric_of[interval_gates[i]], -INFINITY, false);
    }
    /* Recorded, but no gate looks at them. */
    expect(&limits, &run, TT_METRIC_UPDATE_NORM, NAN, true);
    expect(&limits, &run, TT_METRIC_LEARNING_RATE, INFINITY, true);
}

static void decisions_say_what_was_wrong(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_state run = under_way();
    assert_true(judge(&limits, &run, TT_METRIC_LOSS, 10.5).limit == 10);
    assert_true(judge(&limits, &run, TT_METRIC_LOSS, INFINITY).limit == 10);
    assert_true(judge(&limits, &run, TT_METRIC_LOSS, NAN).limit == 10);
    assert_true(judge(&limits, &run, TT_METRIC_LOSS, 0).limit == 1e-8);
    assert_true(judge(&limits, &run, TT_METRIC_LOSS, -INFINITY).limit == 1e-8);
    assert_true(judge(&limits, &run, TT_METRIC_GRADIENT_NORM, 50).limit == 10);
    assert_true(judge(&limits, &run, TT_METRIC_GRADIENT_NORM, 0).limit == 1e-6);
    assert_true(judge(&limits, &run, TT_METRIC_GRADIENT_NONFINITE, 3).limit == 0);
}

static void missing_trips(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    for (int i = 0; i < INTERVAL_GATES; i++) {
        tt_gate gate = interval_gates[i];
        tt_gate_state run = under_way();
        tt_measurements measured = healthy();
        run.update_armed = true;
        measured.present[metric_of[gate]] = false; /* the stale value says nothing */
        tt_gate_decision decision = judge_all(&limits, &run, &measured);
        assert_int_equal(decision.verdict, TT_TRIP);
        assert_true(decision.missing);
        assert_true(isnan(decision.observed));
        assert_string_equal(decision.gate, tt_gate_name(gate));
    }
}

static void update_gate_arms_itself(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    tt_gate_state run = under_way();
    tt_measurements with = healthy();
    tt_measurements without = healthy();
    without.present[TT_METRIC_UPDATE_NONFINITE] = false;
    assert_false(tt_gate_armed(&run, &none, TT_GATE_UPDATE_FINITE));
    assert_true(tt_gate_armed(&run, &none, TT_GATE_LOSS));
    assert_true(tt_gate_armed(&run, &none, TT_GATE_GRADIENT_FINITE));
    assert_true(tt_gate_armed(&run, &none, TT_GATE_GRADIENT_NORM));
    /* Not armed: it need not be there, but what is there is looked at. */
    assert_int_equal(judge_all(&limits, &run, &without).verdict, TT_PASS);
    expect(&limits, &run, TT_METRIC_UPDATE_NONFINITE, 1, false);
    tt_gates_accept(&run, &none, &without);
    assert_false(tt_gate_armed(&run, &none, TT_GATE_UPDATE_FINITE));
    tt_gates_accept(&run, &none, &with);
    assert_true(tt_gate_armed(&run, &none, TT_GATE_UPDATE_FINITE));
    assert_int_equal(judge_all(&limits, &run, &with).verdict, TT_PASS);
    assert_true(judge_all(&limits, &run, &without).missing);
    tt_gates_accept(&run, &none, &without); /* nothing disarms it */
    assert_true(tt_gate_armed(&run, &none, TT_GATE_UPDATE_FINITE));
    /* Before the update there is nothing to look at. */
    assert_int_equal(
        tt_gates_judge(&limits, &run, &none, TT_GATES_BEFORE_UPDATE, &without, NULL).verdict,
        TT_PASS);
}

static double loss_limit(const tt_gate_limits *limits, const tt_gate_state *state,
                         const char *reason)
{
    double minimum;
    double maximum;
    const char *why;
    tt_gate_interval(limits, state, TT_GATE_LOSS, &minimum, &maximum, &why);
    assert_string_equal(why, reason);
    assert_true(minimum == limits->loss_min);
    return maximum;
}

static void accept_losses(tt_gate_state *state, double loss, int times)
{
    tt_measurements measured = healthy();
    tt_measurements_set(&measured, TT_METRIC_LOSS, loss);
    for (int i = 0; i < times; i++) {
        tt_gates_accept(state, &none, &measured);
    }
}

static void start_up_of_the_loss(void **state)
{
    (void)state;
    tt_gate_limits limits = defaults();
    tt_gate_state run = {0};
    assert_true(loss_limit(&limits, &run, "start-up") == 10); /* unknown vocabulary */
    limits.initial_loss = log(256);
    assert_true(loss_limit(&limits, &run, "start-up") == 10); /* at least the default */
    limits.initial_loss = log(50257);
    const double limit = log(50257) + 1;
    assert_true(loss_limit(&limits, &run, "start-up") == limit);
    expect(&limits, &run, TT_METRIC_LOSS, limit, true);
    expect(&limits, &run, TT_METRIC_LOSS, nextafter(limit, 100), false);
    expect(&limits, &run, TT_METRIC_LOSS, 10.5, true);
    /* 19 steps are too few, however good. */
    accept_losses(&run, 1, 19);
    assert_true(loss_limit(&limits, &run, "start-up") == limit);
    accept_losses(&run, 1, 1);
    assert_true(loss_limit(&limits, &run, "default") == 10);
    expect(&limits, &run, TT_METRIC_LOSS, 10.5, false);
    /* It does not come back. */
    accept_losses(&run, 9.99, 100);
    run.losses[3] = 1e9;
    accept_losses(&run, 9.99, 1);
    assert_true(loss_limit(&limits, &run, "default") == 10);
}

static void start_up_waits_for_the_average(void **state)
{
    (void)state;
    tt_gate_limits limits = defaults();
    limits.initial_loss = 11;
    tt_gate_state run = {0};
    accept_losses(&run, 10, 45); /* exactly 10 is not below 10 */
    assert_true(loss_limit(&limits, &run, "start-up") == 12);
    accept_losses(&run, 11, 20);
    assert_true(loss_limit(&limits, &run, "start-up") == 12);
    /* Of the last twenty, half at 11 and half at 9: 10; one more 9 and it is settled. */
    accept_losses(&run, 9, 10);
    assert_true(loss_limit(&limits, &run, "start-up") == 12);
    accept_losses(&run, 9, 1);
    assert_true(loss_limit(&limits, &run, "default") == 10);
}

static double gradient_limit(const tt_gate_limits *limits, int64_t accepted, const char *reason)
{
    const tt_gate_state state = {.accepted = accepted};
    double minimum;
    double maximum;
    const char *why;
    tt_gate_interval(limits, &state, TT_GATE_GRADIENT_NORM, &minimum, &maximum, &why);
    assert_string_equal(why, reason);
    assert_true(minimum == limits->gradient_min);
    return maximum;
}

static void warm_up_of_the_gradient(void **state)
{
    (void)state;
    static const int64_t warmups[] = {-5, 0, 1, 99, 100, 101, 2000};
    for (size_t i = 0; i < sizeof warmups / sizeof *warmups; i++) {
        tt_gate_limits limits = defaults();
        limits.warmup_steps = warmups[i];
        int64_t end = warmups[i] > 100 ? warmups[i] : 100;
        assert_true(gradient_limit(&limits, 0, "warm-up") == 100);
        assert_true(gradient_limit(&limits, end - 1, "warm-up") == 100);
        assert_true(gradient_limit(&limits, end, "default") == 10);
        assert_true(gradient_limit(&limits, end + 100000, "default") == 10);
        limits.gradient_max_set = true;
        limits.gradient_max = 5000;
        assert_true(gradient_limit(&limits, 0, "set by gates.grad_norm.max") == 5000);
        assert_true(gradient_limit(&limits, end, "set by gates.grad_norm.max") == 5000);
        limits.gradient_max = 0.5; /* literally, in warm-up too */
        tt_gate_state fresh = {0};
        expect(&limits, &fresh, TT_METRIC_GRADIENT_NORM, 0.5, true);
        expect(&limits, &fresh, TT_METRIC_GRADIENT_NORM, 0.51, false);
    }
}

static void user_limits_are_literal(void **state)
{
    (void)state;
    tt_gate_limits limits = defaults();
    limits.initial_loss = 10.8;
    limits.loss_max_set = true;
    limits.loss_max = 25;
    tt_gate_state fresh = {0};
    assert_true(loss_limit(&limits, &fresh, "set by gates.loss.max") == 25);
    expect(&limits, &fresh, TT_METRIC_LOSS, 25, true);
    expect(&limits, &fresh, TT_METRIC_LOSS, 25.1, false);
    accept_losses(&fresh, 1, 50);
    expect(&limits, &fresh, TT_METRIC_LOSS, 25, true); /* settling changes nothing */
    limits.loss_min = 0;
    expect(&limits, &fresh, TT_METRIC_LOSS, 0, true); /* zero is a value */
    expect(&limits, &fresh, TT_METRIC_LOSS, -1e-300, false);
    limits.gradient_min = 0;
    expect(&limits, &fresh, TT_METRIC_GRADIENT_NORM, 0, true);
}

/* `key`: of the limit that cannot hold; NULL: they hold. */
static void expect_limits(const tt_gate_limits *limits, const char *key)
{
    tt_error_clear();
    assert_int_equal(tt_gate_limits_check(limits), key ? TT_ECONFIG : TT_OK);
    if (key && !strstr(tt_error_message(), key)) {
        fail_msg("no %s in: %s", key, tt_error_message());
    }
}

static void limits_that_cannot_hold(void **state)
{
    (void)state;
    static const struct {
        tt_gate_limits limits;
        const char *key; /* NULL: they hold */
    } table[] = {
        {{.loss_min = 1e-8, .gradient_min = 1e-6}, NULL},
        {{.loss_min = 0, .gradient_min = 0}, NULL},
        {{.loss_min = 1e-8, .gradient_min = 1e-6, .initial_loss = 10.8}, NULL},
        {{.loss_min = 9.9, .gradient_min = 9.9, .initial_loss = 10.8}, NULL},
        {{.loss_max_set = true, .loss_max = 5.5, .initial_loss = 5.5}, NULL},
        {{.loss_max_set = true, .loss_max = 5.5}, NULL},
        {{.loss_max_set = true, .loss_max = 5.4, .initial_loss = 5.5}, "gates.loss.max"},
        {{.loss_max_set = true, .loss_max = 0}, "gates.loss.max"},
        {{.loss_max_set = true, .loss_max = 2, .loss_min = 2}, "gates.loss.max"},
        {{.loss_max_set = true, .loss_max = 2, .loss_min = 3}, "gates.loss.max"},
        {{.loss_min = 10}, "gates.loss.min"}, /* against the default maximum */
        {{.loss_min = 12, .initial_loss = 11.5}, "gates.loss.min"},
        {{.loss_min = 6, .initial_loss = 5.5}, "gates.loss.min"}, /* step 1 cannot pass */
        {{.loss_min = 5.5, .initial_loss = 5.5}, NULL},
        {{.gradient_max_set = true, .gradient_max = 0}, "gates.grad_norm.max"},
        {{.gradient_max_set = true, .gradient_max = 1, .gradient_min = 1}, "gates.grad_norm.max"},
        {{.gradient_max_set = true, .gradient_max = 50, .gradient_min = 20}, NULL},
        {{.gradient_min = 20}, "gates.grad_norm.min"}, /* holds in warm-up only */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_gate_limits limits = defaults();
        limits.loss_min = table[i].limits.loss_min;
        limits.loss_max = table[i].limits.loss_max;
        limits.loss_max_set = table[i].limits.loss_max_set;
        limits.gradient_min = table[i].limits.gradient_min;
        limits.gradient_max = table[i].limits.gradient_max;
        limits.gradient_max_set = table[i].limits.gradient_max_set;
        limits.initial_loss = table[i].limits.initial_loss;
        expect_limits(&limits, table[i].key);
    }
}

/* No share, score or sum is below 0. */
static void limits_of_zero_cannot_hold(void **state)
{
    (void)state;
    static const char *const keys[] = {"gates.reconstruction.max", "gates.update_error.max",
                                       "gates.spike.max", "gates.drift.max"};
    static const double bad[] = {0, -0.0, -1, NAN, -INFINITY};
    static const double good[] = {5e-324, 1, 1e300};
    for (size_t key = 0; key < 4; key++) {
        tt_gate_limits limits = defaults();
        double *const fields[] = {&limits.reconstruction_max, &limits.update_error_max,
                                  &limits.spike_max, &limits.drift_max};
        limits.initial_loss = key % 2 ? 5.5 : 0;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            *fields[key] = bad[i];
            expect_limits(&limits, keys[key]);
        }
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            *fields[key] = good[i];
            expect_limits(&limits, NULL);
        }
    }
}

static void order_and_counts(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_state run = under_way();
    tt_measurements measured;
    tt_measurements_init(&measured);
    for (tt_metric metric = 0; metric < TT_METRIC_COUNT; metric++) {
        tt_measurements_set(&measured, metric, NAN);
    }
    /* Everything is wrong: the first gate in order names the decision, the rest are not asked. */
    static const double good[TT_GATE_COUNT] = {[TT_GATE_LOSS] = 2, [TT_GATE_GRADIENT_NORM] = 1};
    for (int i = 0; i < INTERVAL_GATES; i++) {
        tt_gate_counts counts = {0};
        tt_gate_decision decision =
            tt_gates_judge(&limits, &run, &none, TT_GATES_ALL, &measured, &counts);
        assert_string_equal(decision.gate, tt_gate_name(interval_gates[i]));
        for (int j = 0; j < INTERVAL_GATES; j++) {
            assert_int_equal(counts.trips[interval_gates[j]], j == i);
            assert_int_equal(counts.evaluations[interval_gates[j]], j <= i);
        }
        decision = tt_gates_judge(&limits, &run, &none, TT_GATES_BEFORE_UPDATE, &measured, NULL);
        bool written = interval_gates[i] == TT_GATE_UPDATE_FINITE;
        assert_int_equal(decision.verdict, written ? TT_PASS : TT_TRIP);
        tt_measurements_set(&measured, metric_of[interval_gates[i]], good[interval_gates[i]]);
    }
    tt_gate_counts counts = {0};
    assert_int_equal(tt_gates_judge(&limits, &run, &none, TT_GATES_ALL, &measured, &counts).verdict,
                     TT_PASS);
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        bool asked = false; /* spike, drift and error gates are not armed */
        for (int i = 0; i < INTERVAL_GATES; i++) {
            asked = asked || interval_gates[i] == gate;
        }
        assert_int_equal(counts.evaluations[gate], asked);
        assert_int_equal(counts.trips[gate], 0);
    }
}

static void cured_means_room_to_spare(void **state)
{
    (void)state;
    tt_gate_limits limits = defaults();
    const tt_gate_state run = under_way();
    static const struct {
        tt_gate gate;
        double value;
        bool well;
    } table[] = {
        {TT_GATE_LOSS, 9.5, true},
        {TT_GATE_LOSS, 0x1.3000000000001p+3, false},
        {TT_GATE_LOSS, 9.9, false},
        {TT_GATE_LOSS, 1.1e-8, true},
        {TT_GATE_LOSS, 1.04e-8, false},
        {TT_GATE_LOSS, NAN, false},
        {TT_GATE_LOSS, INFINITY, false},
        {TT_GATE_LOSS, -INFINITY, false},
        {TT_GATE_GRADIENT_NORM, 9.5, true},
        {TT_GATE_GRADIENT_NORM, 9.6, false},
        {TT_GATE_GRADIENT_NORM, 1.04e-6, false},
        {TT_GATE_GRADIENT_FINITE, 0, true},
        {TT_GATE_GRADIENT_FINITE, 1, false},
        {TT_GATE_UPDATE_FINITE, 0, true},
        {TT_GATE_UPDATE_FINITE, NAN, false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_gate_decision tripped = {
            .verdict = TT_TRIP, .gate = tt_gate_name(table[i].gate), .target = ""};
        tt_measurements measured = healthy();
        tt_measurements_set(&measured, metric_of[table[i].gate], table[i].value);
        if (tt_gate_passes_well(&limits, &run, &none, &tripped, &measured) != table[i].well) {
            fail_msg("row %zu", i);
        }
        measured.present[metric_of[table[i].gate]] = false;
        assert_false(tt_gate_passes_well(&limits, &run, &none, &tripped, &measured));
    }
    /* What is not one of these gates is not cured by a step. */
    tt_measurements measured = healthy();
    tt_gate_decision overhead = {.verdict = TT_TRIP, .gate = "overhead", .target = ""};
    assert_false(tt_gate_passes_well(&limits, &run, &none, &overhead, &measured));
}

static void names_and_intervals(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double minimum, maximum;
        bool hard;
    } table[TT_GATE_COUNT] = {
        {"loss", 1e-8, 10, true},          {"gradient_finite", 0, 0, true},
        {"gradient_norm", 1e-6, 10, true}, {"reconstruction", 0, 0.05, true},
        {"spike_loss", 0, 8, false},       {"spike_norm", 0, 8, false},
        {"drift_loss", 0, 30, false},      {"drift_norm", 0, 30, false},
        {"update_finite", 0, 0, true},     {"update_error", 0, 0.06, true},
    };
    tt_gate_limits limits = defaults();
    limits.update_error_max = 0.06;
    const tt_gate_state run = under_way();
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        double minimum = -1;
        double maximum = -1;
        const char *reason = NULL;
        assert_string_equal(tt_gate_name(gate), table[gate].name);
        tt_gate_interval(&limits, &run, gate, &minimum, &maximum, &reason);
        assert_true(strlen(reason) > 0);
        assert_true(minimum == table[gate].minimum);
        assert_true(maximum == table[gate].maximum);
        assert_int_equal(tt_gate_list((size_t)gate)->hard, table[gate].hard);
    }
    /* No such gate: nothing but zero is in its interval. */
    for (int gate = TT_GATE_COUNT; gate < TT_GATE_COUNT + 2; gate++) {
        double minimum = -1;
        double maximum = -1;
        const char *reason = NULL;
        tt_gate_interval(&limits, &run, (tt_gate)gate, &minimum, &maximum, &reason);
        assert_true(minimum == 0 && maximum == 0);
    }
}

static void every_gate_is_listed(void **state)
{
    (void)state;
    size_t count = 0;
    for (const tt_gate_description *gate; (gate = tt_gate_list(count)); count++) {
        assert_true(strlen(gate->name) > 0);
        assert_true(strlen(gate->watches) > 0);
        assert_true(strlen(gate->trips_on) > 0);
        assert_true(strlen(gate->arming) > 0);
        assert_non_null(gate->keys);
        for (size_t i = 0; i < count; i++) {
            assert_string_not_equal(gate->name, tt_gate_list(i)->name);
        }
    }
    assert_int_equal(count, TT_GATE_COUNT + 1);
    assert_string_equal(tt_gate_list(TT_GATE_COUNT)->name, "overhead");
    assert_false(tt_gate_list(TT_GATE_COUNT)->hard);
    assert_null(tt_gate_list(SIZE_MAX));
}

static void described(tt_gate_decision decision, const char *text)
{
    char out[256];
    assert_ptr_equal(tt_gate_describe(&decision, out), out);
    assert_string_equal(out, text);
}

static void descriptions(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_state run = under_way();
    described(judge(&limits, &run, TT_METRIC_LOSS, 2), "all gates pass");
    described(judge(&limits, &run, TT_METRIC_LOSS, 10.5), "loss 10.5 is above its limit 10");
    described(judge(&limits, &run, TT_METRIC_LOSS, 1e-9), "loss 1e-09 is below its limit 1e-08");
    described(judge(&limits, &run, TT_METRIC_LOSS, NAN), "loss is NaN");
    described(judge(&limits, &run, TT_METRIC_GRADIENT_NORM, INFINITY), "gradient_norm is infinite");
    described(judge(&limits, &run, TT_METRIC_GRADIENT_NONFINITE, 12),
              "gradient_finite: 12 elements are NaN or infinite");
    described(judge(&limits, &run, TT_METRIC_UPDATE_NONFINITE, 1),
              "update_finite: 1 elements are NaN or infinite");
    described(judge(&limits, &run, TT_METRIC_GRADIENT_NONFINITE, -12),
              "gradient_finite -12 is below its limit 0");
    tt_gate_decision decision = {.verdict = TT_TRIP, .gate = "update_finite", .missing = true};
    described(decision, "update_finite was not measured");
    decision = (tt_gate_decision){.verdict = TT_TRIP,
                                  .gate = "reconstruction",
                                  .target = "activations",
                                  .observed = 0.05,
                                  .limit = 0.05};
    described(decision, "reconstruction of activations 0.05 is at its limit 0.05");
    decision.observed = 0.0625;
    described(decision, "reconstruction of activations 0.0625 is above its limit 0.05");
    decision.missing = true;
    described(decision, "reconstruction of activations was not measured");
    decision = (tt_gate_decision){
        .verdict = TT_WARN, .gate = "drift_loss", .target = "", .observed = 16.25, .limit = 15};
    described(decision, "drift_loss 16.25 is above 15, where it warns");
    decision = (tt_gate_decision){
        .verdict = TT_TRIP, .gate = "overhead", .target = "", .observed = 12.5, .limit = 10};
    described(decision, "overhead 12.5 is above its limit 10");
}

/* However long a target's name is, the text ends where it should. */
static void long_names_are_cut(void **state)
{
    (void)state;
    char name[400];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    char out[256];
    tt_gate_decision decision = {
        .verdict = TT_TRIP, .gate = "update_error", .target = name, .observed = 1, .limit = 0.05};
    assert_true(strlen(tt_gate_describe(&decision, out)) < sizeof out);
    assert_non_null(strstr(out, "is above its limit 0.05"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(around_every_limit),
        cmocka_unit_test(decisions_say_what_was_wrong),
        cmocka_unit_test(missing_trips),
        cmocka_unit_test(update_gate_arms_itself),
        cmocka_unit_test(start_up_of_the_loss),
        cmocka_unit_test(start_up_waits_for_the_average),
        cmocka_unit_test(warm_up_of_the_gradient),
        cmocka_unit_test(user_limits_are_literal),
        cmocka_unit_test(limits_that_cannot_hold),
        cmocka_unit_test(limits_of_zero_cannot_hold),
        cmocka_unit_test(order_and_counts),
        cmocka_unit_test(cured_means_room_to_spare),
        cmocka_unit_test(names_and_intervals),
        cmocka_unit_test(every_gate_is_listed),
        cmocka_unit_test(descriptions),
        cmocka_unit_test(long_names_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
