/* trimtab drill: everything recovers, the result can be read by programs, and what is wrong with
 * the command line or the folder is said. */
#include "harness.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int setup(void **state)
{
    if (scratch_setup(state)) {
        return -1;
    }
    char here[4096];
    assert_int_equal(mkdir("tmp", 0777), 0);
    assert_non_null(realpath("tmp", here));
    return setenv("TMPDIR", here, 1);
}

/* ---- the list ---- */

static void test_list(void **state)
{
    (void)state;
    static const char *const names[] = {
        "nan-tensor",         "loss-spike", "exploding-gradient", "vanished-gradient",
        "corrupt-codec",      "full-disk",  "wrong-kernel",       "read-only-disk",
        "damaged-checkpoint", "kill",       "clock-jump",         "slow-disk",
    };
    outcome text = expect_success("drill --list");
    outcome json = expect_success("drill --list --json");
    json_t *root = json_loads(json.out, 0, NULL);
    json_t *list = json_object_get(root, "scenarios");
    assert_int_equal(json_array_size(list), sizeof names / sizeof *names);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(holds(text.out, names[i]));
        json_t *one = json_array_get(list, i);
        assert_true(holds(text.out, json_string_value(json_object_get(one, "scenario"))));
        assert_true(holds(text.out, json_string_value(json_object_get(one, "what"))));
    }
    json_decref(root);
    outcome_clear(&text);
    outcome_clear(&json);
    assert_int_equal(entries("tmp"), 0);
}

/* ---- what is wrong with the command line ---- */

static void test_wrong_words(void **state)
{
    (void)state;
    expect_error(2, "there is no scenario 'nan-tenser'; did you mean 'nan-tensor'?",
                 "drill nan-tenser");
    expect_error(2, "trimtab drill --list", "drill kill everything");
    expect_error(2, "--steps '3' is not a whole number", "drill --steps 3");
    expect_error(2, "--set is for a configuration of your own",
                 "drill kill --set model.channels=64");
    expect_error(2, "--data is for a configuration", "drill --data corpus");
    expect_error(74, "nowhere.yaml", "drill --config nowhere.yaml");
    expect_error(78, "did you mean 'train.steps'", "drill -c tiny.yaml --set train.stesp=9");
    expect_error(74, "a run without any fault fails: ", "drill -c tiny.yaml -d nowhere kill");
    expect_error(2, "is not empty", "drill kill --keep corpus");
    assert_int_equal(entries("tmp"), 0); /* also what failed has left nothing */
}

static void test_no_scratch_folder(void **state)
{
    (void)state;
    const char *before = getenv("TMPDIR");
    char kept[4096];
    snprintf(kept, sizeof kept, "%s", before);
    setenv("TMPDIR", "tiny.yaml/nowhere", 1);
    expect_error(74, "cannot make a scratch folder in tiny.yaml/nowhere (TMPDIR)", "drill kill");
    setenv("TMPDIR", kept, 1);
    expect_error(74, "cannot make the folder tiny.yaml/runs", "drill kill --keep tiny.yaml/runs");
}

/* ---- drills ---- */

static void check_result(const json_t *one)
{
    static const char *const texts[] = {"scenario", "detected", "culprit", "recovered", "why"};
    const char *name = json_string_value(json_object_get(one, "scenario"));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_true(json_is_string(json_object_get(one, texts[i])));
    }
    assert_true(json_number_value(json_object_get(one, "seconds")) > 0);
    if (!json_is_false(json_object_get(one, "lost"))) {
        fail_msg("%s: %s", name, json_string_value(json_object_get(one, "why")));
    }
    assert_string_equal(json_string_value(json_object_get(one, "why")), "");
    assert_string_not_equal(json_string_value(json_object_get(one, "recovered")), "");
    print_message("%-18s %6.2f s  %s\n", name, json_number_value(json_object_get(one, "seconds")),
                  json_string_value(json_object_get(one, "recovered")));
}

static size_t check_drill(const char *names)
{
    outcome o = expect_success("drill --json %s", names);
    json_t *root = json_loads(o.out, 0, NULL);
    const json_t *list = json_object_get(root, "scenarios");
    size_t count = json_array_size(list);
    assert_true(json_is_true(json_object_get(root, "ok")));
    assert_true(json_number_value(json_object_get(root, "seconds")) > 0);
    for (size_t i = 0; i < count; i++) {
        check_result(json_array_get(list, i));
    }
    assert_string_equal(o.err, ""); /* no progress: that is no terminal */
    json_decref(root);
    outcome_clear(&o);
    assert_int_equal(entries("tmp"), 0);
    return count;
}

/* All of them; in parts, for slow builds. */
static void test_nothing_is_lost(void **state)
{
    (void)state;
    size_t count = check_drill("nan-tensor loss-spike exploding-gradient vanished-gradient");
    count += check_drill("corrupt-codec wrong-kernel full-disk read-only-disk");
    count += check_drill("kill damaged-checkpoint");
    count += check_drill("clock-jump slow-disk");
    assert_int_equal(count, 12);
}

/* A table of at most 80 columns; the folder that is asked for stays. */
static void test_table(void **state)
{
    (void)state;
    outcome o = expect_success("drill exploding-gradient nan-tensor --keep kept");
    assert_true(holds(o.out, "scenario            detected by      culprit "));
    assert_true(holds(o.out, "gradient_norm    transient            bit-equal"));
    assert_true(holds(o.out, "\n2 scenarios, "));
    assert_true(holds(o.out, "nothing lost\n"));
    for (const char *line = o.out; *line; line += strcspn(line, "\n") + 1) {
        assert_true(strcspn(line, "\n") <= 80);
    }
    outcome_clear(&o);
    assert_true(exists("kept/exploding/receipt.json"));
    assert_true(exists("kept/nan-activation.log"));
    assert_int_equal(entries("tmp"), 0);
}

/* A user's own configuration, with a gate that the user has turned off. */
static void test_a_loss(void **state)
{
    (void)state;
    outcome o = run("drill vanished-gradient -c tiny.yaml --steps 16 -s gates.grad_norm.min=0");
    assert_int_equal(o.code, 1);
    assert_true(holds(o.out, "LOST  vanished-gradient: vanished: no gate noticed it\n"));
    assert_true(holds(o.err, "trimtab: 1 of 1 scenario lost something: vanished-gradient\n"));
    outcome_clear(&o);
    o = run("drill vanished-gradient -c tiny.yaml --steps 16 -s gates.grad_norm.min=0 --json");
    assert_int_equal(o.code, 1);
    assert_true(holds(o.out, "\"ok\": false"));
    assert_true(holds(o.out, "\"lost\": true"));
    outcome_clear(&o);
    o = expect_success("drill vanished-gradient read-only-disk -c tiny.yaml --steps 16");
    outcome_clear(&o);
    assert_int_equal(entries("tmp"), 0);
}

static void test_interrupted(void **state)
{
    (void)state;
    pid_t pid = start("drill kill");
    for (int i = 0; i < 1000 && entries("tmp") < 1; i++) {
        sleep_seconds(0.01);
    }
    sleep_seconds(0.3);
    kill(pid, SIGINT);
    assert_int_equal(finish(pid, 60), 130);
    assert_int_equal(entries("tmp"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),        cmocka_unit_test(test_wrong_words),
        cmocka_unit_test(test_table),       cmocka_unit_test(test_no_scratch_folder),
        cmocka_unit_test(test_a_loss),      cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test(test_interrupted),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
