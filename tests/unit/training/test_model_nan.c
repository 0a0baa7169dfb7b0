/* One NaN anywhere is noticed, and a scan of the resident tensors names where it began. */
#include "support.h"

typedef struct plant {
    bench *b;
    const char *name; /* of the tensor that gets a NaN; NULL: only listen */
    int64_t element;  /* modulo its size; -1: the last */
    int planted;
    char (*heard)[80];
    size_t heard_count;
} plant;

static const double nan_f64 = NAN;
static const float nan_f32 = NAN;

static void put_nan(bench *b, void *tensor, int64_t element)
{
    const void *value = b->element == sizeof(double) ? (const void *)&nan_f64 : &nan_f32;
    assert_ok(tt_tensor_write(b->context, real_at(b, tensor, element), value, b->element));
}

static tt_status probe(void *user, const char *name, void *data, int64_t count)
{
    plant *p = user;
    if (p->heard) {
        snprintf(p->heard[p->heard_count++], sizeof p->heard[0], "%s", name);
    }
    if (p->name && strcmp(p->name, name) == 0) {
        put_nan(p->b, data, p->element < 0 ? count - 1 : p->element % count);
        p->planted++;
    }
    return TT_OK;
}

/* A whole step; true if loss, gradient norm or verdict tell of a non-finite value. */
static bool step_notices(bench *b)
{
    static const tt_optim_options options = {.learning_rate = 1e-3,
                                             .minimum_rate = 1e-4,
                                             .total_steps = 10,
                                             .beta1 = 0.9,
                                             .beta2 = 0.95,
                                             .epsilon = 1e-8,
                                             .clip = 1.0};
    double norm;
    uint64_t nonfinite;
    tt_verdict verdict;
    double loss = gradients(b);
    if (!isfinite(loss)) {
        return true;
    }
    assert_ok(tt_gradient_norm(b->context, b->model, &norm, &nonfinite));
    assert_true((nonfinite == 0) == (isfinite(norm) != 0));
    assert_ok(tt_optim_step(b->context, b->model, &options, 0, norm, &b->slots[0], &b->slots[1],
                            &verdict));
    return !isfinite(norm) || verdict.nonfinite > 0;
}

/* The first resident tensor with a non-finite element; "" if there is none. */
static tt_resident first_bad(bench *b)
{
    tt_resident found;
    for (size_t i = 0; tt_model_resident(b->model, b->slots[0].params, i, &found); i++) {
        tt_tensor_stats stats;
        const tt_stats_args args = {.n = found.count, .x = found.data, .out = &stats};
        assert_ok(tt_op_run(b->context, TT_OP_STATS, &args));
        if (stats.nonfinite) {
            return found;
        }
    }
    return (tt_resident){.name = ""};
}

static void check_tensor(bench *b, const tt_resident *resident, int64_t element)
{
    plant p = {.b = b, .name = resident->name, .element = element};
    double *params = read_reals(b, b->slots[0].params, b->count);
    if (resident->is_parameter) {
        unsigned char *inside =
            (unsigned char *)b->slots[0].params +
            ((const unsigned char *)resident->data - (const unsigned char *)b->slots[0].params);
        put_nan(b, inside, element < 0 ? resident->count - 1 : element % resident->count);
        p.planted = 1;
    }
    tt_model_set_probe(b->model, probe, &p);
    bool noticed = step_notices(b);
    tt_model_set_probe(b->model, NULL, NULL);
    tt_resident found = first_bad(b);
    if (p.planted != 1 || !noticed || strcmp(found.name, resident->name) != 0) {
        fail_msg("a NaN in %s[%lld]: planted %d times, noticed %d, found in '%s'", resident->name,
                 (long long)element, p.planted, noticed, found.name);
    }
    /* The step is repeatable: nothing of the NaN stays. */
    write_reals(b, b->slots[0].params, params, b->count);
    free(params);
    assert_false(step_notices(b));
    assert_string_equal(first_bad(b).name, "");
}

static void check_all(tt_dtype dtype, const char *variants)
{
    bench b;
    bench_open_with(&b, small_dims, 2, 7,
                    (bench_options){.dtype = dtype, .threads = 2, .variants = variants});
    fill_params(&b, 3);
    assert_false(step_notices(&b));
    tt_resident resident;
    size_t count = 0;
    for (; tt_model_resident(b.model, b.slots[0].params, count, &resident); count++) {
        check_tensor(&b, &resident, 0);
        check_tensor(&b, &resident, -1); /* wpe: a position that was not used */
        check_tensor(&b, &resident, 5 * (int64_t)count + 3);
    }
    assert_int_equal(count, 2 * 28 + 1 + 2 * 13 + 5);
    bench_close(&b);
}

static void every_tensor_f32(void **state)
{
    (void)state;
    check_all(TT_F32, NULL);
}

static void every_tensor_f64(void **state)
{
    (void)state;
    check_all(TT_F64, NULL);
}

static void every_tensor_by_reference(void **state)
{
    (void)state;
    check_all(TT_F32, "reference");
}

/* The probe hears activations and gradients in the order in which the scan goes through them. */
static void probe_and_scan_go_the_same_way(void **state)
{
    (void)state;
    static char heard[128][80];
    bench b;
    bench_open(&b, small_dims, 2, 7, TT_F32);
    fill_params(&b, 3);
    plant p = {.b = &b, .heard = heard};
    tt_model_set_probe(b.model, probe, &p);
    gradients(&b);
    tt_resident resident;
    size_t next = 0;
    for (size_t i = 0; tt_model_resident(b.model, b.slots[0].params, i, &resident); i++) {
        if (!resident.is_parameter) {
            assert_true(next < p.heard_count);
            assert_string_equal(resident.name, heard[next]);
            next++;
        }
    }
    assert_int_equal(next, p.heard_count);
    bench_close(&b);
}

static tt_status refuse(void *user, const char *name, void *data, int64_t count)
{
    (void)data;
    (void)count;
    return strcmp(name, user) == 0 ? tt_fail(TT_EGATE, "stopped at %s", name) : TT_OK;
}

static void a_probe_can_stop_the_pass(void **state)
{
    (void)state;
    bench b;
    double loss;
    char forward[] = "act.h.1.qkv";
    char backward[] = "grad.h.1.ln_2.bias";
    bench_open(&b, small_dims, 2, 7, TT_F32);
    fill_params(&b, 3);
    tt_model_set_probe(b.model, refuse, forward);
    assert_fails(
        tt_model_forward_train(b.model, b.slots[0].params, b.tokens, b.targets, 2, 7, 1.0, &loss),
        TT_EGATE, "stopped at act.h.1.qkv");
    assert_fails(tt_model_backward(b.model, b.slots[0].params), TT_EINVAL, "forward_train");
    tt_model_set_probe(b.model, refuse, backward);
    assert_ok(
        tt_model_forward_train(b.model, b.slots[0].params, b.tokens, b.targets, 2, 7, 1.0, &loss));
    assert_fails(tt_model_backward(b.model, b.slots[0].params), TT_EGATE,
                 "stopped at grad.h.1.ln_2.bias");
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_f32),
        cmocka_unit_test(every_tensor_f64),
        cmocka_unit_test(every_tensor_by_reference),
        cmocka_unit_test(probe_and_scan_go_the_same_way),
        cmocka_unit_test(a_probe_can_stop_the_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
