/* bisect: runs that went wrong by themselves, and folders that are none. */
#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A rate that is far too high: the loss climbs until a gate stops the run. */
#define TOO_FAST                                                                                   \
    "-s optim.learning_rate=3 -s optim.warmup_steps=40 -s checkpoint.every_steps=2 "               \
    "-s checkpoint.keep=10"

static json_t *json_of(const char *out)
{
    json_t *root = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
    if (!root) {
        fail_msg("no JSON: %s", out);
    }
    return root;
}

static int setup(void **state)
{
    int failed = scratch_setup(state);
    setenv("TMPDIR", "tmp", 1);
    mkdir("tmp", 0777);
    make_run("good", "-s checkpoint.every_steps=4 -s checkpoint.keep=10");
    outcome o = run("run tiny.yaml -o fast " TOO_FAST);
    if (o.code != 1) {
        fprintf(stderr, "the run went on: %s", o.err);
        failed = -1;
    }
    outcome_clear(&o);
    return failed;
}

static void test_usage(void **state)
{
    (void)state;
    expect_error(2, "an argument is missing: trimtab bisect RUN", "bisect");
    expect_error(2, "one argument too many", "bisect a b");
    expect_error(2, "--loss '0' is not", "bisect good --loss 0");
    expect_error(2, "--held-out 'much' is not", "bisect good --held-out much");
    expect_error(74, "nowhere is no folder of a run", "bisect nowhere");
    expect_error(74, "tiny.yaml is no folder of a run", "bisect tiny.yaml");
    expect_error(74, "nodata", "bisect good --data nodata");
    mkdir("hollow", 0777);
    mkdir("hollow/checkpoints", 0777);
    expect_error(74, "holds no checkpoint", "bisect hollow");
    write_text("hollow/checkpoints/step-0000000004.h5", "no checkpoint at all");
    expect_error(65, "no checkpoint in hollow/checkpoints verifies", "bisect hollow");
    assert_int_equal(entries("tmp"), 0);
}

static void test_nothing_found(void **state)
{
    (void)state;
    outcome o = expect_success("bisect good --held-out 50");
    assert_true(holds(o.out, "good: 4 checkpoints, of steps 0 to 12"));
    assert_true(holds(o.out, "none found between checkpoints 0 and 12"));
    assert_int_equal(o.err_length, 0);
    outcome_clear(&o);
    o = expect_success("bisect good --json");
    json_t *root = json_of(o.out);
    assert_true(json_is_false(json_object_get(root, "found")));
    assert_true(json_is_null(json_object_get(root, "bad")));
    assert_int_equal(json_array_size(json_object_get(root, "notes")), 0);
    json_decref(root);
    outcome_clear(&o);
    assert_int_equal(entries("tmp"), 0);
}

static void test_learning_rate(void **state)
{
    (void)state;
    int before = entries("fast");
    outcome o = run("bisect fast");
    assert_int_equal(o.code, 1);
    assert_int_equal(o.err_length, 0);
    assert_true(holds(o.out, "verdict     learning rate (a tenth of the learning rate passes"));
    assert_true(holds(o.out, "what to do  lower optim.learning_rate (now 3)"));
    for (const char *line = o.out; *line; line += strcspn(line, "\n") + 1) {
        assert_true(strcspn(line, "\n") <= 80);
    }
    outcome_clear(&o);
    o = run("bisect fast --json");
    assert_int_equal(o.code, 1);
    json_t *root = json_of(o.out);
    json_t *bad = json_object_get(root, "bad");
    assert_true(json_is_true(json_object_get(root, "found")));
    assert_string_equal(json_string_value(json_object_get(bad, "verdict")), "learning rate");
    assert_string_equal(json_string_value(json_object_get(bad, "gate")), "loss");
    assert_true(json_integer_value(json_object_get(bad, "step")) >=
                json_integer_value(json_object_get(root, "from_step")));
    assert_true(json_is_null(json_object_get(bad, "sample"))); /* the batch is not to blame */
    /* The step is the one at which the run was stopped. */
    char note[96];
    snprintf(note, sizeof note, "loss tripped at step %d",
             (int)json_integer_value(json_object_get(bad, "step")));
    json_t *notes = json_object_get(root, "notes");
    assert_true(holds(json_string_value(json_array_get(notes, 0)), note));
    json_decref(root);
    outcome_clear(&o);
    assert_int_equal(entries("fast"), before);
    assert_int_equal(entries("tmp"), 0);
}

static void test_moved_data(void **state)
{
    (void)state;
    assert_int_equal(rename("corpus", "moved"), 0);
    expect_error(74, "corpus", "bisect good");
    outcome o = expect_success("bisect good --data moved");
    assert_null(strstr(o.out, "other data"));
    outcome_clear(&o);
    mkdir("others", 0777);
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    write_text("others/a.txt", text);
    o = run("bisect good --data others");
    assert_true(holds(o.out, "others holds other data than the run saw"));
    outcome_clear(&o);
    assert_int_equal(rename("moved", "corpus"), 0);
}

/* A loss that no gate minded. */
static void test_loss_limit(void **state)
{
    (void)state;
    outcome o = run(
        "run tiny.yaml -o unnoticed -s gates.loss.max=1e6 -s gates.grad_norm.max=1e9 " TOO_FAST);
    assert_int_equal(o.code, 0);
    outcome_clear(&o);
    o = expect_success("bisect unnoticed");
    assert_true(holds(o.out, "none found"));
    outcome_clear(&o);
    o = run("bisect unnoticed --loss 10");
    assert_int_equal(o.code, 1);
    assert_true(holds(o.out, "is above its limit"));
    assert_true(holds(o.out, "learning rate"));
    outcome_clear(&o);
}

static void test_damage(void **state)
{
    (void)state;
    size_t bytes;
    char *whole = read_file("good/checkpoints/step-0000000008.h5", &bytes);
    whole[bytes / 2] ^= 1;
    mkdir("hurt", 0777);
    mkdir("hurt/checkpoints", 0777);
    write_file("hurt/checkpoints/step-0000000008.h5", whole, bytes);
    free(whole);
    assert_int_equal(
        link("good/checkpoints/step-0000000004.h5", "hurt/checkpoints/step-0000000004.h5"), 0);
    outcome o = expect_success("bisect hurt");
    assert_true(holds(o.out, "hurt: 1 checkpoint, of steps 4 to 4"));
    assert_true(holds(o.out, "passed over: 'hurt/checkpoints/step-0000000008.h5'"));
    outcome_clear(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage),         cmocka_unit_test(test_nothing_found),
        cmocka_unit_test(test_learning_rate), cmocka_unit_test(test_loss_limit),
        cmocka_unit_test(test_damage),        cmocka_unit_test(test_moved_data),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
