/* gate list and gate calibrate. */
#include "harness.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static json_t *parse(const outcome *o)
{
    json_error_t error;
    json_t *root = json_loads(o->out, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        fail_msg("no JSON (%s): %s", error.text, o->out);
    }
    return root;
}

static json_t *find(json_t *list, const char *field, const char *value)
{
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry)
    {
        const char *text = json_string_value(json_object_get(entry, field));
        if (text && strcmp(text, value) == 0) {
            return entry;
        }
    }
    fail_msg("no entry with %s = %s", field, value);
    return NULL;
}

static void assert_columns(const char *text)
{
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        size_t length = strcspn(line, "\n");
        if (length > 80 || (length > 0 && line[length - 1] == ' ')) {
            fail_msg("'%.*s'", (int)length, line);
        }
    }
}

static void test_list(void **state)
{
    (void)state;
    static const char *const gates[] = {"loss",           "gradient_finite", "gradient_norm",
                                        "reconstruction", "spike_loss",      "spike_norm",
                                        "drift_loss",     "drift_norm",      "update_finite",
                                        "update_error",   "overhead"};
    outcome o = expect_success("gate list");
    assert_columns(o.out);
    for (size_t i = 0; i < sizeof gates / sizeof *gates; i++) {
        char begin[64];
        snprintf(begin, sizeof begin, "\n%s ", gates[i]);
        assert_true(holds(o.out, begin));
    }
    assert_true(holds(o.out, "loss             1e-08 to 10      always"));
    assert_true(holds(o.out, "\nreconstruction   below 0.05"));
    assert_true(holds(o.out, "  at first up to 100 (warm-up)"));
    assert_null(strstr(o.out, "from "));
    outcome_clear(&o);
    write_text("gates.yaml", "gates:\n  loss:\n    max: 7\n");
    o = expect_success("gate list gates.yaml -s gates.spike.max=6.5");
    assert_columns(o.out);
    assert_true(holds(o.out, "loss             1e-08 to 7 "));
    assert_true(holds(o.out, "from gates.yaml:3"));
    assert_true(holds(o.out, "spike_norm       up to 6.5"));
    assert_true(holds(o.out, "from --set"));
    outcome_clear(&o);
    expect_error(74, "nowhere.yaml", "gate list nowhere.yaml");
    expect_error(78, "did you mean 'gates.spike.max'", "gate list -s gates.spike.mex=6");
    expect_error(2, "a command is missing", "gate");
    expect_error(2, "did you mean 'gate list'", "gate lits");
    expect_error(2, "did you mean 'gate'", "gata");
}

static void test_list_json(void **state)
{
    (void)state;
    outcome o = expect_success("gate list gates.yaml --json");
    json_t *root = parse(&o);
    json_t *gates = json_object_get(root, "gates");
    assert_int_equal(json_array_size(gates), 11);
    json_t *loss = find(gates, "gate", "loss");
    assert_true(json_real_value(json_object_get(loss, "maximum")) == 7);
    assert_true(json_is_true(json_object_get(loss, "hard")));
    json_t *key = find(json_object_get(loss, "keys"), "key", "gates.loss.max");
    assert_string_equal(json_string_value(json_object_get(key, "origin")), "gates.yaml:3");
    json_t *norm = find(gates, "gate", "gradient_norm");
    assert_true(json_real_value(json_object_get(norm, "maximum")) == 10);
    assert_true(json_real_value(json_object_get(norm, "maximum_at_start")) == 100);
    json_decref(root);
    outcome_clear(&o);
}

static void test_calibrate_usage(void **state)
{
    (void)state;
    expect_error(2, "an argument is missing", "gate calibrate");
    expect_error(2, "--steps '0' is not", "gate calibrate tiny.yaml --steps 0");
    expect_error(2, "--rounds 'x' is not", "gate calibrate tiny.yaml --rounds x");
    expect_error(2, "--seconds '0' is not", "gate calibrate tiny.yaml --seconds 0");
    expect_error(2, "takes a checkpoint", "gate calibrate tiny.yaml --resume auto");
    expect_error(74, "nowhere", "gate calibrate tiny.yaml --resume nowhere");
    expect_error(74, "nowhere", "gate calibrate tiny.yaml --data nowhere");
    expect_error(74, "nowhere.yaml", "gate calibrate nowhere.yaml");
    expect_error(78, "gates.loss.max 0.1 cannot hold",
                 "gate calibrate tiny.yaml -s gates.loss.max=0.1");
    expect_error(1, "without a fault", "gate calibrate tiny.yaml -s gates.grad_norm.max=0.001");
}

static void check_fault(json_t *fault, json_int_t trials)
{
    json_t *interval = json_object_get(fault, "interval");
    assert_int_equal(json_array_size(interval), 2);
    assert_true(json_number_value(json_array_get(interval, 0)) <=
                json_number_value(json_array_get(interval, 1)));
    assert_int_equal(json_integer_value(json_object_get(fault, "trials")), trials);
    assert_true(json_is_integer(json_object_get(fault, "seen")));
    json_t *gate = json_object_get(json_object_get(fault, "gates"), "gradient_norm");
    assert_true(json_is_integer(json_object_get(gate, "seen")));
    assert_int_equal(json_array_size(json_object_get(gate, "interval")), 2);
}

static void test_calibrate(void **state)
{
    (void)state;
    assert_int_equal(mkdir("tmp", 0777), 0);
    setenv("TMPDIR", "tmp", 1);
    outcome o = expect_success("gate calibrate tiny.yaml --steps 4 --rounds 2 --json");
    json_t *root = parse(&o);
    assert_true(json_is_true(json_object_get(root, "complete")));
    assert_int_equal(json_integer_value(json_object_get(root, "live_steps")), 6);
    assert_int_equal(json_integer_value(json_object_get(root, "shadow_steps")), 2);
    json_t *faults = json_object_get(root, "faults");
    check_fault(find(faults, "size", "x1e+06"), 2);
    check_fault(find(faults, "size", "NaN in a gradient"), 2);
    json_t *gate = find(json_object_get(root, "gates"), "gate", "loss");
    assert_int_equal(json_integer_value(json_object_get(gate, "evaluations")), 8);
    assert_int_equal(json_integer_value(json_object_get(gate, "false_trips")), 0);
    assert_true(json_array_size(json_object_get(root, "findings")) >= 4);
    json_decref(root);
    outcome_clear(&o);
    o = expect_success("gate calibrate tiny.yaml --steps 4 --rounds 2");
    assert_columns(o.out);
    assert_int_equal(o.err_length, 0); /* no terminal: no progress */
    assert_true(holds(o.out, "\n- no gate tripped without a fault"));
    outcome_clear(&o);
    assert_int_equal(entries("tmp"), 0);
}

static void test_calibrate_from_a_run(void **state)
{
    (void)state;
    make_run("made", "");
    int before = entries("made");
    outcome o = expect_success("gate calibrate tiny.yaml --resume made --steps 2 --rounds 1");
    assert_true(holds(o.out, "steps 12 to 15 of your run"));
    outcome_clear(&o);
    assert_int_equal(entries("made"), before);
    assert_int_equal(entries("tmp"), 0);
}

static void test_calibrate_is_interrupted(void **state)
{
    (void)state;
    pid_t pid = start("gate calibrate tiny.yaml --steps 1000000 -s gates.grad_norm.max=1e9 "
                      "-s gates.grad_norm.min=0 -s gates.spike.max=1e6 -s gates.drift.max=1e6");
    for (int i = 0; i < 2000 && entries("tmp") == 0; i++) {
        sleep_seconds(0.01);
    }
    assert_int_equal(entries("tmp"), 1);
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(finish(pid, 60), 130);
    assert_int_equal(entries("tmp"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_list_json),
        cmocka_unit_test(test_calibrate_usage),
        cmocka_unit_test(test_calibrate),
        cmocka_unit_test(test_calibrate_from_a_run),
        cmocka_unit_test(test_calibrate_is_interrupted),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
