/* trimtab bench kernels: every variant is timed, and what cannot be is refused at once. */
#include "harness.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_refusals(void **state)
{
    (void)state;
    expect_error(2, "did you mean 'add'", "bench kernels --ops addd");
    expect_error(2, "no such operation on these shapes", "bench kernels --shape add:9 --ops rope");
    expect_error(2, "write --shape linear_forward:m,n,k",
                 "bench kernels --shape linear_forward:1,2");
    expect_error(2, "write --shape add:n", "bench kernels --shape add:1,2");
    expect_error(2, "write --shape add:n", "bench kernels --shape add:0");
    expect_error(2, "write --shape add:n", "bench kernels --shape add");
    expect_error(2, "--shape is empty", "bench kernels --shape ' '");
    expect_error(2, "not both", "bench kernels tiny.yaml --shape add:9");
    expect_error(2, "--rounds '0' is not", "bench kernels --rounds 0");
    expect_error(2, "does not end in .svg or .png", "bench kernels --plot a.pdf");
    expect_error(78, "train.stesp", "bench kernels --set train.stesp=3");
    expect_error(74, "nowhere.yaml", "bench kernels nowhere.yaml");
    expect_error(2, "a command is missing", "bench");
}

static void test_no_gnuplot(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    expect_error(78, "gnuplot-nox", "bench kernels --shape add:9 --plot a.svg");
    setenv("PATH", path, 1);
    free(path);
    assert_false(exists("a.svg"));
}

/* Every figure of a variant is one. */
static void check_variant(const json_t *variant)
{
    static const char *const numbers[] = {"seconds", "low",   "high", "rate",
                                          "of_peak", "flops", "bytes"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_true(json_number_value(json_object_get(variant, numbers[i])) > 0);
    }
    assert_true(json_number_value(json_object_get(variant, "low")) <=
                json_number_value(json_object_get(variant, "high")));
}

static void test_json(void **state)
{
    (void)state;
    outcome o = expect_success("bench kernels --json --rounds 2 --set run.threads=1 --shape "
                               "'linear_forward:40,16,32 stats:5000 softmax_xent:200,30'");
    json_t *root = json_loads(o.out, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "threads")), 1);
    json_t *peaks = json_object_get(root, "peaks");
    assert_true(json_number_value(json_object_get(peaks, "read_gbs")) > 0);
    json_t *results = json_object_get(root, "results");
    assert_int_equal(json_array_size(results), 5); /* statistics know no bf16 */
    for (size_t i = 0; i < json_array_size(results); i++) {
        json_t *variants = json_object_get(json_array_get(results, i), "variants");
        assert_true(json_array_size(variants) > 0);
        for (size_t k = 0; k < json_array_size(variants); k++) {
            check_variant(json_array_get(variants, k));
        }
    }
    json_t *first = json_array_get(json_object_get(json_array_get(results, 0), "variants"), 0);
    assert_true(json_number_value(json_object_get(first, "flops")) == 2.0 * 40 * 16 * 32);
    assert_true(json_number_value(json_object_get(first, "bytes")) ==
                4.0 * (40 * 32 + 16 * 32 + 40 * 16));
    json_decref(root);
    outcome_clear(&o);
}

/* Of the class exact: a ratio where another class has a variant, and nothing elsewhere. */
static void test_price(void **state)
{
    (void)state;
    outcome o = expect_success("bench kernels --json --rounds 3 --set run.threads=1 --shape "
                               "'linear_forward:40,16,32 linear_forward:64,64,64 add:5000'");
    json_t *root = json_loads(o.out, 0, NULL);
    assert_non_null(root);
    json_t *price = json_object_get(root, "exact_price");
    json_t *ops = json_object_get(price, "ops"), *only = json_object_get(price, "exact_only");
    bool add_listed = false;
    for (size_t i = 0; i < json_array_size(only); i++) {
        add_listed =
            add_listed ||
            strcmp(json_string_value(json_object_get(json_array_get(only, i), "op")), "add") == 0;
    }
    assert_true(add_listed);
    assert_int_equal(json_array_size(ops) + json_array_size(only), 4); /* two, in two types */
    /* The same from the variants' own figures. */
    json_t *results = json_object_get(root, "results");
    double log_sum = 0;
    int shapes = 0;
    for (size_t i = 0; i < json_array_size(results); i++) {
        json_t *result = json_array_get(results, i), *list = json_object_get(result, "variants");
        double best[2] = {INFINITY, INFINITY};
        for (size_t k = 0; k < json_array_size(list); k++) {
            json_t *v = json_array_get(list, k);
            const char *name = json_string_value(json_object_get(v, "variant"));
            bool rival = strcmp(name, "openblas") == 0 || strncmp(name, "onednn", 6) == 0;
            double seconds = json_number_value(json_object_get(v, "seconds"));
            if (!json_is_true(json_object_get(v, "packed"))) {
                best[rival] = fmin(best[rival], seconds);
            }
        }
        bool counts = strcmp(json_string_value(json_object_get(result, "compute")), "f32") == 0 &&
                      isfinite(best[1]);
        log_sum += counts ? log(best[0] / best[1]) : 0;
        shapes += counts;
    }
    json_t *first = json_array_get(ops, 0);
    assert_int_equal(shapes > 0, first != NULL);
    if (first) {
        assert_int_equal(json_integer_value(json_object_get(first, "shapes")), shapes);
        assert_true(fabs(json_number_value(json_object_get(first, "ratio")) -
                         exp(log_sum / shapes)) < 1e-6);
    }
    json_decref(root);
    outcome_clear(&o);
}

/* A configuration's own shapes, and what a step is made of. */
static void test_config(void **state)
{
    (void)state;
    outcome o = expect_success("bench kernels tiny.yaml --rounds 1 --set run.threads=1 --ops "
                               "linear_wgrad,attention_backward,softmax_xent");
    static const char *const parts[] = {"linear_wgrad ",
                                        "attention_backward ",
                                        "softmax_xent ",
                                        ", bf16, 2 per step\n",
                                        "peaks of 1 thread:",
                                        "a step's operations, each",
                                        "price of exact: nothing, as all variants are exact: "};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_true(holds(o.out, parts[i]));
    }
    outcome_clear(&o);
    o = expect_success("bench kernels tiny.yaml --rounds 1 --set run.threads=1 --set "
                       "model.norm=rmsnorm --set model.positions=rotary --set model.mlp=swiglu "
                       "--ops rmsnorm_forward,rope,swiglu_backward,gelu_forward,layernorm_forward");
    static const char *const own[] = {"rmsnorm_forward ", "rope ", "swiglu_backward "};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        assert_true(holds(o.out, own[i]));
    }
    assert_null(strstr(o.out, "gelu_forward"));
    assert_null(strstr(o.out, "layernorm_forward"));
    outcome_clear(&o);
}

static void test_plot(void **state)
{
    (void)state;
    if (access("/usr/bin/gnuplot", X_OK) != 0) {
        skip();
    }
    outcome o = expect_success("bench kernels --rounds 1 --set run.threads=1 --shape "
                               "'gelu_forward:5000 linear_dgrad:32,32,32' --plot 'roof line.svg'");
    outcome_clear(&o);
    char *svg = read_file("roof line.svg", NULL);
    assert_true(holds(svg, "gelu_forward 5000"));
    assert_true(holds(svg, "linear_dgrad 32x32x32"));
    assert_true(holds(svg, "arithmetic intensity"));
    free(svg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_no_gnuplot),
        cmocka_unit_test(test_json),     cmocka_unit_test(test_price),
        cmocka_unit_test(test_config),   cmocka_unit_test(test_plot)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
