/* trimtab tune: what it shows, keeps, takes and refuses. */
#include "harness.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define HERE "-s kernels.tune_cache=cache "

static json_t *tune_json(const char *words)
{
    outcome o = expect_success("tune tiny.yaml --json --budget 60 " HERE "%s", words);
    json_t *root = json_loads(o.out, 0, NULL);
    assert_non_null(root);
    outcome_clear(&o);
    return root;
}

static void test_table(void **state)
{
    (void)state;
    outcome o = expect_success("tune tiny.yaml --budget 60 " HERE);
    assert_true(holds(o.out, "linear_forward"));
    assert_true(holds(o.out, "linear_dgrad"));
    assert_true(holds(o.out, "linear_wgrad"));
    assert_true(holds(o.out, "GFLOP/s"));
    assert_true(holds(o.out, "measured in"));
    assert_int_equal(entries("cache"), 1);
    outcome_clear(&o);
    o = expect_success("tune tiny.yaml " HERE);
    assert_true(holds(o.out, "measured before, read in"));
    outcome_clear(&o);
    /* Every candidate has a reason, and one for each shape is the chosen one. */
    o = expect_success("tune tiny.yaml --explain --budget 60 " HERE);
    assert_true(holds(o.out, "  chosen\n"));
    assert_true(holds(o.out, "512x512x512"));
    outcome_clear(&o);
}

static void test_json(void **state)
{
    (void)state;
    json_t *first = tune_json("");
    json_t *again = tune_json("");
    assert_true(json_is_true(json_object_get(again, "from_cache")));
    assert_true(json_equal(json_object_get(first, "tile"), json_object_get(again, "tile")));
    assert_true(json_equal(json_object_get(first, "variants"), json_object_get(again, "variants")));
    assert_true(json_real_value(json_object_get(again, "peak_flops")) > 1e9);
    size_t i;
    json_t *shape;
    json_array_foreach(json_object_get(again, "shapes"), i, shape)
    {
        size_t c;
        json_t *candidate;
        json_array_foreach(json_object_get(shape, "candidates"), c, candidate)
        {
            const char *kind = json_string_value(json_object_get(candidate, "state"));
            assert_true(strcmp(kind, "timed") == 0 || strcmp(kind, "hopeless") == 0);
        }
    }
    assert_true(i >= 9);
    json_decref(first);
    json_decref(again);
}

/* What the user has set is not the tuner's to choose. */
static void test_pinned(void **state)
{
    (void)state;
    json_t *root = tune_json("-s kernels.variant=blocked_v1 -s kernels.tile_m=128");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(root, "tile"), 0)), 128);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(root, "variants"), "linear_wgrad")),
        "blocked_v1");
    json_decref(root);
    root = tune_json("-s kernels.compute=bf16");
    assert_string_equal(json_string_value(json_object_get(root, "compute")), "bf16");
    json_decref(root);
    expect_error(78, "kernels.linear_forward", "tune tiny.yaml -s kernels.linear_forward=fastest");
}

/* The class that the record names of what was chosen, and whether a candidate of a weaker one is
 * among those that were shown. */
static const char *chosen_class(const json_t *root, bool *weaker)
{
    const json_t *numerics = json_object_get(root, "numerics");
    size_t s;
    json_t *shape;
    *weaker = false;
    json_array_foreach(json_object_get(root, "shapes"), s, shape)
    {
        size_t c;
        json_t *candidate;
        json_array_foreach(json_object_get(shape, "candidates"), c, candidate)
        {
            const char *name = json_string_value(json_object_get(candidate, "numerics"));
            *weaker = *weaker || strcmp(name, "exact") != 0;
        }
    }
    assert_string_equal(json_string_value(json_object_get(numerics, "accepted")), "exact");
    return json_string_value(json_object_get(numerics, "chosen"));
}

/* Not set, it is exact in f32, and lets in the instructions that there are for bf16. */
static void test_default_class(void)
{
    static const char *const computes[] = {"f32", "bf16", "auto"};
    char words[64];
    for (int i = 0; i < 3; i++) {
        snprintf(words, sizeof words, "-s kernels.compute=%s", computes[i]);
        json_t *root = tune_json(words);
        const json_t *numerics = json_object_get(root, "numerics");
        assert_string_equal(json_string_value(json_object_get(numerics, "accepted")),
                            i == 0 ? "exact" : "repeatable");
        json_decref(root);
    }
}

/* What accepts exact results alone gets no variant of another class, set or not; the records name
 * the class. */
static void test_numerics(void **state)
{
    (void)state;
    static const char *const computes[] = {"f32", "bf16", "auto"};
    static const char *const forced[] = {"kernels.variant", "kernels.linear_forward",
                                         "kernels.linear_wgrad"};
    static const char *const weak[] = {"openblas", "onednn", "avx512_bf16", "amx"};
    char words[128];
    for (int i = 0; i < 3; i++) {
        bool weaker;
        snprintf(words, sizeof words, "-s kernels.numerics=exact -s kernels.compute=%s",
                 computes[i]);
        json_t *root = tune_json(words);
        json_t *record = json_object_get(root, "f32_against_bf16");
        assert_string_equal(chosen_class(root, &weaker), "exact");
        assert_false(weaker);
        for (int side = 0; side < 2 && i == 2; side++) {
            const json_t *of = json_object_get(record, side ? "bf16" : "f32");
            assert_string_equal(json_string_value(json_object_get(of, "numerics")), "exact");
        }
        json_decref(root);
        outcome o = expect_success("tune tiny.yaml --explain --budget 60 %s " HERE, words);
        assert_true(holds(o.out, "\nwhat is chosen is exact; kernels.numerics accepts exact\n"));
        outcome_clear(&o);
    }
    for (int i = 0; i < 12; i++) {
        snprintf(words, sizeof words, "%s=%s", forced[i % 3], weak[i / 3]);
        expect_error(78, "is of class repeatable, and kernels.numerics accepts exact",
                     "tune tiny.yaml -s %s", words);
        expect_error(
            78, "is of class repeatable, and kernels.numerics accepts exact",
            "run tiny.yaml --dry-run -s kernels.compute=bf16 -s kernels.numerics=exact -s %s",
            words);
    }
    test_default_class();
    /* Attention of avx512_bf16 is exact: with other products nothing but the machine is in the way.
     */
    outcome o = run("tune tiny.yaml -s kernels.variant=avx512_bf16 "
                    "-s kernels.linear_forward=blocked_v1 -s kernels.linear_dgrad=blocked_v1 "
                    "-s kernels.linear_wgrad=blocked_v1 " HERE);
    assert_false(holds(o.err, "kernels.numerics"));
    outcome_clear(&o);
}

/* The compute type: a record of both, the same from the cache, and the choice that follows. */
static void test_compute(void **state)
{
    (void)state;
    json_t *first = tune_json("-s kernels.compute=auto");
    json_t *again = tune_json("-s kernels.compute=auto");
    json_t *pinned = tune_json("-s kernels.compute=f32");
    json_t *record = json_object_get(first, "f32_against_bf16");
    assert_true(json_is_true(json_object_get(record, "complete")));
    assert_true(json_is_true(json_object_get(record, "conforms")));
    assert_string_equal(json_string_value(json_object_get(record, "chosen")),
                        json_string_value(json_object_get(first, "compute")));
    double ratio = json_real_value(json_object_get(record, "ratio"));
    assert_true(ratio > 0);
    assert_true((ratio < 1 / 1.06) <=
                (strcmp(json_string_value(json_object_get(record, "chosen")), "bf16") == 0));
    json_t *kept = json_object_get(again, "f32_against_bf16");
    assert_true(json_is_true(json_object_get(kept, "from_cache")));
    assert_true(json_equal(json_object_get(kept, "ratio"), json_object_get(record, "ratio")));
    assert_true(json_is_null(json_object_get(pinned, "f32_against_bf16")));
    assert_true(json_is_true(json_object_get(pinned, "from_cache"))); /* the same question */
    json_decref(first);
    json_decref(again);
    json_decref(pinned);
    outcome o =
        expect_success("tune tiny.yaml --explain --budget 60 -s kernels.compute=auto " HERE);
    assert_true(holds(o.out, "bf16 / f32"));
    assert_true(holds(o.out, "\ncompute "));
    outcome_clear(&o);
    expect_error(78, "one compute type", "tune tiny.yaml --verify -s kernels.compute=auto " HERE);
    expect_error(78, "one compute type", "tune tiny.yaml --export x -s kernels.compute=auto " HERE);
}

static void test_export_and_import(void **state)
{
    (void)state;
    outcome o = expect_success("tune tiny.yaml --budget 60 --export kept " HERE);
    outcome_clear(&o);
    o = expect_success("tune --clear " HERE);
    assert_true(holds(o.out, "removed from cache"));
    outcome_clear(&o);
    assert_int_equal(entries("cache"), 0);
    o = expect_success("tune tiny.yaml --import kept " HERE);
    assert_true(holds(o.out, "measured before"));
    outcome_clear(&o);
    /* Not for another configuration, not damaged, not missing. */
    expect_error(65, "another configuration",
                 "tune tiny.yaml -s train.batch=3 --import kept " HERE);
    size_t bytes;
    char *data = read_file("kept", &bytes);
    data[bytes / 2] ^= 1;
    write_file("broken", data, bytes);
    free(data);
    expect_error(65, "broken is damaged", "tune tiny.yaml --import broken " HERE);
    expect_error(74, "nowhere", "tune tiny.yaml --import nowhere " HERE);
    expect_error(74, "no/such", "tune tiny.yaml --export no/such/folder " HERE);
}

static void test_damage_is_told(void **state)
{
    (void)state;
    outcome o = expect_success("tune tiny.yaml --budget 60 " HERE);
    outcome_clear(&o);
    o = run("tune --clear " HERE);
    outcome_clear(&o);
    o = expect_success("tune tiny.yaml --budget 60 " HERE);
    outcome_clear(&o);
    assert_int_equal(system("for f in cache/*.tune; do echo >> $f; done"), 0);
    o = run("tune tiny.yaml --budget 60 " HERE);
    assert_int_equal(o.code, 0);
    assert_true(holds(o.err, "is damaged; measuring again"));
    assert_true(holds(o.out, "measured in"));
    outcome_clear(&o);
}

static void test_verify(void **state)
{
    (void)state;
    outcome o = run("tune --clear " HERE);
    outcome_clear(&o);
    expect_error(74, "cache/", "tune tiny.yaml --verify " HERE);
    o = expect_success("tune tiny.yaml --budget 60 " HERE);
    outcome_clear(&o);
    /* Times may differ on a busy machine: what counts is that it says so with the exit code. */
    o = run("tune tiny.yaml --budget 60 --verify " HERE);
    assert_true(o.code == 0 || o.code == 1);
    assert_true(holds(o.out, o.code ? "difference" : ": 0 differences\n"));
    outcome_clear(&o);
}

static void test_usage(void **state)
{
    (void)state;
    expect_error(2, "exclude each other", "tune --clear --verify");
    expect_error(2, "exclude each other", "tune --verify --export x");
    expect_error(2, "--budget '-1' is not", "tune --budget=-1");
    expect_error(2, "one argument too many", "tune a b");
    expect_error(78, "needs a cache", "tune --clear -s kernels.tune_cache=off");
    expect_error(78, "kernels.numerics", "tune -s kernels.numerics=sloppy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),          cmocka_unit_test(test_json),
        cmocka_unit_test(test_pinned),         cmocka_unit_test(test_compute),
        cmocka_unit_test(test_numerics),       cmocka_unit_test(test_export_and_import),
        cmocka_unit_test(test_damage_is_told), cmocka_unit_test(test_verify),
        cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
