/* The gates: every limit from both sides. */
#include "unit.h"

#include "gates.h"

#include <math.h>
#include <string.h>

static tt_gate_limits defaults(void)
{
    return (tt_gate_limits){.loss_min = TT_LOSS_MIN, .gradient_min = TT_GRADIENT_MIN};
}

/* A run that is under way: start-up and warm-up are over. */
static tt_gate_state under_way(void)
{
    return (tt_gate_state){.accepted = 1000, .loss_settled = true};
}

static tt_measurements healthy(void)
{
    tt_measurements measured;
    tt_measurements_init(&measured);
    tt_measurements_set(&measured, TT_METRIC_LOSS, 2);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NORM, 1);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NONFINITE, 0);
    tt_measurements_set(&measured, TT_METRIC_UPDATE_NONFINITE, 0);
    return measured;
}

static const tt_metric metric_of[TT_GATE_COUNT] = {
    [TT_GATE_LOSS] = TT_METRIC_LOSS,
    [TT_GATE_GRADIENT_FINITE] = TT_METRIC_GRADIENT_NONFINITE,
    [TT_GATE_GRADIENT_NORM] = TT_METRIC_GRADIENT_NORM,
    [TT_GATE_UPDATE_FINITE] = TT_METRIC_UPDATE_NONFINITE,
};

static tt_gate_decision judge(const tt_gate_limits *limits, const tt_gate_state *state,
                              tt_metric metric, double value)
{
    tt_measurements measured = healthy();
    tt_gate_counts counts = {0};
    tt_measurements_set(&measured, metric, value);
    return tt_gates_judge(limits, state, TT_GATE_UPDATE_FINITE, &measured, &counts);
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
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        if (metric_of[gate] == metric) {
            assert_string_equal(decision.gate, tt_gate_name(gate));
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
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        expect(&limits, &run, metric_of[gate], NAN, false);
        expect(&limits, &run, metric_of[gate], -NAN, false);
        expect(&limits, &run, metric_of[gate], INFINITY, false);
        expect(&limits, &run, metric_of[gate], -INFINITY, false);
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
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        tt_gate_state run = under_way();
        tt_measurements measured = healthy();
        tt_gate_counts counts = {0};
        run.update_armed = true;
        measured.present[metric_of[gate]] = false; /* the stale value says nothing */
        tt_gate_decision decision =
            tt_gates_judge(&limits, &run, TT_GATE_UPDATE_FINITE, &measured, &counts);
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
    tt_gate_counts counts = {0};
    tt_measurements with = healthy();
    tt_measurements without = healthy();
    without.present[TT_METRIC_UPDATE_NONFINITE] = false;
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        assert_int_equal(tt_gate_armed(&run, gate), gate != TT_GATE_UPDATE_FINITE);
    }
    /* Not armed: it need not be there, but what is there is looked at. */
    assert_int_equal(
        tt_gates_judge(&limits, &run, TT_GATE_UPDATE_FINITE, &without, &counts).verdict, TT_PASS);
    expect(&limits, &run, TT_METRIC_UPDATE_NONFINITE, 1, false);
    tt_gates_accept(&run, &without);
    assert_false(tt_gate_armed(&run, TT_GATE_UPDATE_FINITE));
    tt_gates_accept(&run, &with);
    assert_true(tt_gate_armed(&run, TT_GATE_UPDATE_FINITE));
    assert_int_equal(tt_gates_judge(&limits, &run, TT_GATE_UPDATE_FINITE, &with, &counts).verdict,
                     TT_PASS);
    assert_true(tt_gates_judge(&limits, &run, TT_GATE_UPDATE_FINITE, &without, &counts).missing);
    tt_gates_accept(&run, &without); /* nothing disarms it */
    assert_true(tt_gate_armed(&run, TT_GATE_UPDATE_FINITE));
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
        tt_gates_accept(state, &measured);
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
        {{.loss_min = 6, .initial_loss = 5.5}, "gates.loss.min"}, /* step 1 could not pass */
        {{.loss_min = 5.5, .initial_loss = 5.5}, NULL},
        {{.gradient_max_set = true, .gradient_max = 0}, "gates.grad_norm.max"},
        {{.gradient_max_set = true, .gradient_max = 1, .gradient_min = 1}, "gates.grad_norm.max"},
        {{.gradient_max_set = true, .gradient_max = 50, .gradient_min = 20}, NULL},
        {{.gradient_min = 20}, "gates.grad_norm.min"}, /* holds in warm-up only */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_error_clear();
        tt_status status = tt_gate_limits_check(&table[i].limits);
        assert_int_equal(status, table[i].key ? TT_ECONFIG : TT_OK);
        if (table[i].key && !strstr(tt_error_message(), table[i].key)) {
            fail_msg("row %zu: no %s in: %s", i, table[i].key, tt_error_message());
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
    tt_gate_counts counts = {0};
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        tt_gate_decision decision =
            tt_gates_judge(&limits, &run, TT_GATE_UPDATE_FINITE, &measured, &counts);
        assert_string_equal(decision.gate, tt_gate_name(gate));
        assert_int_equal(counts.trips[gate], 1);
        assert_int_equal(counts.evaluations[gate], 1);
        for (tt_gate later = gate + 1; later < TT_GATE_COUNT; later++) {
            assert_int_equal(counts.evaluations[later], 0);
        }
        /* Judged only as far as asked. */
        for (tt_gate last = 0; last < TT_GATE_COUNT; last++) {
            tt_gate_counts other = {0};
            decision = tt_gates_judge(&limits, &run, last, &measured, &other);
            assert_int_equal(decision.verdict, last < gate ? TT_PASS : TT_TRIP);
        }
        tt_measurements_set(&measured, metric_of[gate], good[gate]);
        for (tt_gate earlier = 0; earlier <= gate; earlier++) {
            counts.evaluations[earlier] = 0;
        }
    }
    assert_int_equal(
        tt_gates_judge(&limits, &run, TT_GATE_UPDATE_FINITE, &measured, &counts).verdict, TT_PASS);
}

static void names_and_intervals(void **state)
{
    (void)state;
    static const char *const names[TT_GATE_COUNT] = {"loss", "gradient_finite", "gradient_norm",
                                                     "update_finite"};
    const tt_gate_limits limits = defaults();
    const tt_gate_state run = under_way();
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        double minimum = -1;
        double maximum = -1;
        const char *reason = NULL;
        assert_string_equal(tt_gate_name(gate), names[gate]);
        tt_gate_interval(&limits, &run, gate, &minimum, &maximum, &reason);
        assert_non_null(reason);
        assert_true(maximum == (gate % 2 ? 0 : 10));
        assert_true(minimum >= 0 && minimum < 1e-5);
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

static void described(const tt_gate_decision *decision, const char *text)
{
    char out[256];
    assert_ptr_equal(tt_gate_describe(decision, out), out);
    assert_string_equal(out, text);
}

static void descriptions(void **state)
{
    (void)state;
    const tt_gate_limits limits = defaults();
    const tt_gate_state run = under_way();
    tt_gate_decision decision = judge(&limits, &run, TT_METRIC_LOSS, 2);
    described(&decision, "all gates pass");
    decision = judge(&limits, &run, TT_METRIC_LOSS, 10.5);
    described(&decision, "loss 10.5 is above its limit 10");
    decision = judge(&limits, &run, TT_METRIC_LOSS, 1e-9);
    described(&decision, "loss 1e-09 is below its limit 1e-08");
    decision = judge(&limits, &run, TT_METRIC_LOSS, NAN);
    described(&decision, "loss is NaN");
    decision = judge(&limits, &run, TT_METRIC_GRADIENT_NORM, INFINITY);
    described(&decision, "gradient_norm is infinite");
    decision = judge(&limits, &run, TT_METRIC_GRADIENT_NONFINITE, 12);
    described(&decision, "gradient_finite: 12 elements are NaN or infinite");
    decision = judge(&limits, &run, TT_METRIC_GRADIENT_NONFINITE, -12);
    described(&decision, "gradient_finite -12 is below its limit 0");
    decision = (tt_gate_decision){
        .verdict = TT_TRIP, .gate = "update_finite", .missing = true, .observed = NAN};
    described(&decision, "update_finite was not measured");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(around_every_limit),      cmocka_unit_test(decisions_say_what_was_wrong),
        cmocka_unit_test(missing_trips),           cmocka_unit_test(update_gate_arms_itself),
        cmocka_unit_test(start_up_of_the_loss),    cmocka_unit_test(start_up_waits_for_the_average),
        cmocka_unit_test(warm_up_of_the_gradient), cmocka_unit_test(user_limits_are_literal),
        cmocka_unit_test(limits_that_cannot_hold), cmocka_unit_test(order_and_counts),
        cmocka_unit_test(names_and_intervals),     cmocka_unit_test(descriptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
