/* Activations in a codec: what is lost and where, what probes see, what is resident. */
#include "saved_support.h"

/* ---- what a probe has seen ---- */

typedef struct seen {
    char name[48];
    tt_probe_phase phase;
    int64_t count;
    double *values;
} seen;

typedef struct recorder {
    rig *r;
    seen *list;
    size_t count;
    const char *stop; /* the pass ends at this name */
} recorder;

static tt_status record(void *user, const char *name, void *data, int64_t count)
{
    recorder *rec = user;
    seen *s = &rec->list[rec->count++];
    snprintf(s->name, sizeof s->name, "%s", name);
    s->phase = tt_model_probe_phase(rec->r->b.model);
    s->count = count;
    s->values = read_reals(&rec->r->b, data, count);
    return rec->stop && strcmp(rec->stop, name) == 0 ? tt_fail(TT_EGATE, "stop") : TT_OK;
}

static void recorder_open(recorder *rec, rig *r)
{
    *rec = (recorder){.r = r, .list = calloc(256, sizeof *rec->list)};
    assert_non_null(rec->list);
    tt_model_set_probe(r->b.model, record, rec);
}

static void recorder_close(recorder *rec)
{
    tt_model_set_probe(rec->r->b.model, NULL, NULL);
    for (size_t i = 0; i < rec->count; i++) {
        free(rec->list[i].values);
    }
    free(rec->list);
}

/* The last sight of that name in that phase, or NULL. */
static const seen *last_seen(const recorder *rec, const char *name, tt_probe_phase phase)
{
    for (size_t i = rec->count; i-- > 0;) {
        if (rec->list[i].phase == phase && strcmp(rec->list[i].name, name) == 0) {
            return &rec->list[i];
        }
    }
    return NULL;
}

/* ---- what is lost ---- */

static double naive_ratio(const seen *x, const seen *decoded)
{
    double error = 0.0, squares = 0.0;
    assert_int_equal(x->count, decoded->count);
    for (int64_t i = 0; i < x->count; i++) {
        error += (x->values[i] - decoded->values[i]) * (x->values[i] - decoded->values[i]);
        squares += x->values[i] * x->values[i];
    }
    return sqrt(error / squares);
}

/* What backward gets, against what forward made. */
static void the_error_is_that_of_what_backward_reads(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, middle_dims, 4, 24);
    fill_params(&r.b, 3);
    for (int c = 0; c < CASES; c++) {
        recorder rec;
        double largest = 0.0;
        const char *worst = "";
        size_t tensors = 0;
        keep_as(&r, cases[c]);
        recorder_open(&rec, &r);
        gradients(&r.b);
        for (size_t i = 0; i < rec.count; i++) {
            const seen *decoded = last_seen(&rec, rec.list[i].name, TT_PROBE_DECODED);
            if (rec.list[i].phase != TT_PROBE_FORWARD || !decoded) {
                continue;
            }
            double ratio = naive_ratio(&rec.list[i], decoded);
            assert_true(ratio > 0.0 && ratio < 0.1);
            tensors++;
            if (ratio > largest) {
                largest = ratio;
                worst = rec.list[i].name;
            }
        }
        assert_int_equal(tensors, 8 * middle_dims.layers);
        assert_true(fabs(tt_model_activation_error(r.b.model) / largest - 1.0) < 1e-6);
        assert_string_equal(tt_model_activation_worst(r.b.model), worst);
        recorder_close(&rec);
    }
    keep_as_f32(&r);
    gradients(&r.b);
    assert_true(tt_model_activation_error(r.b.model) == 0.0);
    assert_string_equal(tt_model_activation_worst(r.b.model), "");
    rig_close(&r);
}

/* Whether the pass after it loses more or less; evaluations do not count. */
static void the_error_is_of_the_last_training_pass(void **state)
{
    (void)state;
    rig r;
    double loss;
    rig_open(&r, middle_dims, 4, 24);
    keep_as(&r, cases[1]);
    double error[2];
    for (int i = 0; i < 6; i++) {
        const double before = tt_model_activation_error(r.b.model);
        if (i % 2) {
            fill_params(&r.b, 3);
        } else {
            assert_ok(tt_model_init_params(r.b.model, 21, r.b.slots[0].params));
        }
        assert_ok(tt_model_forward(r.b.model, r.b.slots[0].params, r.b.tokens, r.b.targets, 4, 24,
                                   &loss));
        assert_true(tt_model_activation_error(r.b.model) == before);
        gradients(&r.b);
        const double after = tt_model_activation_error(r.b.model);
        assert_true(after != before);
        error[i % 2] = i < 2 ? after : error[i % 2];
        assert_true(after == error[i % 2]);
    }
    rig_close(&r);
}

/* ---- faults ---- */

typedef struct plant {
    rig *r;
    const char *name;
    tt_probe_phase phase;
    float value;
    int planted;
    char first_bad[48]; /* in the order in which the probe sees them */
    tt_probe_phase first_phase;
} plant;

static tt_status planting(void *user, const char *name, void *data, int64_t count)
{
    plant *p = user;
    tt_tensor_stats stats;
    const tt_stats_args args = {.n = count, .x = data, .out = &stats};
    tt_probe_phase phase = tt_model_probe_phase(p->r->b.model);
    if (phase == p->phase && strcmp(name, p->name) == 0) {
        assert_ok(tt_tensor_write(p->r->b.context, real_at(&p->r->b, data, count / 2), &p->value,
                                  sizeof p->value));
        p->planted++;
    }
    assert_ok(tt_op_run(p->r->b.context, TT_OP_STATS, &args));
    if (stats.nonfinite && !p->first_bad[0]) {
        snprintf(p->first_bad, sizeof p->first_bad, "%s", name);
        p->first_phase = phase;
    }
    return TT_OK;
}

static void check_plant(rig *r, const char *name, tt_probe_phase phase, float value)
{
    plant p = {.r = r, .name = name, .phase = phase, .value = value};
    tt_tensor_stats stats;
    tt_model_set_probe(r->b.model, planting, &p);
    double loss = gradients(&r->b);
    tt_model_set_probe(r->b.model, NULL, NULL);
    const tt_stats_args args = {
        .n = r->b.count, .x = tt_model_gradients(r->b.model), .out = &stats};
    assert_ok(tt_op_run(r->b.context, TT_OP_STATS, &args));
    const bool in_forward = phase == TT_PROBE_FORWARD;
    const bool lost = isinf(tt_model_activation_error(r->b.model));
    if (p.planted != 1 || strcmp(p.first_bad, name) != 0 || p.first_phase != phase ||
        (isfinite(loss) && stats.nonfinite == 0) || lost != in_forward ||
        (!in_forward && !isfinite(loss)) ||
        (in_forward && strcmp(tt_model_activation_worst(r->b.model), name) != 0)) {
        fail_msg("%s in phase %d: planted %d times, named '%s' in phase %d, worst '%s', %llu bad",
                 name, (int)phase, p.planted, p.first_bad, (int)p.first_phase,
                 tt_model_activation_worst(r->b.model), (unsigned long long)stats.nonfinite);
    }
    gradients(&r->b); /* nothing of it stays */
    assert_true(isfinite(tt_model_activation_error(r->b.model)));
}

static const char *const large_names[] = {"ln_1", "qkv", "attn", "resid_mid", "ln_2", "fc", "gelu"};
enum { LARGE = sizeof large_names / sizeof large_names[0] };

static void a_bad_element_is_an_infinite_error_and_is_named(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, small_dims, 2, 7);
    fill_params(&r.b, 3);
    for (int c = 0; c < CASES; c++) {
        keep_as(&r, cases[c]);
        for (int phase = TT_PROBE_FORWARD; phase <= TT_PROBE_DECODED; phase++) {
            for (int layer = 0; layer < 2; layer++) {
                for (int i = 0; i < LARGE; i++) {
                    char name[48];
                    snprintf(name, sizeof name, "act.h.%d.%s", layer, large_names[i]);
                    check_plant(&r, name, (tt_probe_phase)phase, NAN);
                }
            }
            check_plant(&r, "act.embed", (tt_probe_phase)phase, NAN);
            check_plant(&r, "act.h.0.resid", (tt_probe_phase)phase, -INFINITY);
        }
    }
    rig_close(&r);
}

/* ---- what is shown ---- */

static void probes_see_each_tensor_in_order(void **state)
{
    (void)state;
    rig r;
    recorder plain, coded;
    rig_open(&r, small_dims, 2, 7);
    recorder_open(&plain, &r);
    gradients(&r.b);
    keep_as(&r, cases[1]);
    recorder_open(&coded, &r);
    gradients(&r.b);
    /* What was computed, as without a codec. */
    size_t next = 0;
    size_t decoded = 0;
    for (size_t i = 0; i < coded.count; i++) {
        if (coded.list[i].phase == TT_PROBE_DECODED) {
            /* Layers from the last; the input, then the layer's own. */
            const int layer = 1 - (int)decoded / (LARGE + 1);
            const int which = (int)decoded % (LARGE + 1);
            char name[48];
            snprintf(name, sizeof name, "act.h.%d.%s", which ? layer : layer - 1,
                     which ? large_names[which - 1] : "resid");
            assert_string_equal(coded.list[i].name, which || layer ? name : "act.embed");
            decoded++;
            continue;
        }
        assert_true(next < plain.count);
        assert_string_equal(coded.list[i].name, plain.list[next].name);
        assert_int_equal(coded.list[i].phase, plain.list[next].phase);
        assert_int_equal(coded.list[i].phase == TT_PROBE_GRADIENT,
                         strncmp(coded.list[i].name, "grad.", 5) == 0);
        next++;
    }
    assert_int_equal(next, plain.count);
    assert_int_equal(decoded, 2 * (LARGE + 1));
    recorder_close(&plain);
    recorder_close(&coded);
    rig_close(&r);
}

/* ---- what is resident ---- */

/* Of all activations with elements; each is what the probe saw last under that name. */
static size_t check_residents(const recorder *rec, bool large_only)
{
    tt_resident resident;
    size_t count = 0;
    bench *b = &rec->r->b;
    for (size_t i = 0; tt_model_resident(b->model, b->slots[0].params, i, &resident); i++) {
        const char *dot = strrchr(resident.name, '.');
        bool small = strstr(resident.name, ".mean") || strstr(resident.name, ".rstd") ||
                     strstr(resident.name, ".lse") || strstr(resident.name, "ln_f") ||
                     !strcmp(dot, ".logits") || !strcmp(dot, ".losses");
        if (strncmp(resident.name, "act.", 4) != 0 || resident.count == 0 ||
            (small && large_only)) {
            continue;
        }
        const seen *s = last_seen(rec, resident.name, TT_PROBE_DECODED);
        s = s ? s : last_seen(rec, resident.name, TT_PROBE_FORWARD);
        if (!s || s->count != resident.count) {
            fail_msg("%s is listed with %lld elements; the pass did not make that", resident.name,
                     (long long)resident.count);
        }
        double *values = read_reals(b, resident.data, resident.count);
        if (memcmp(values, s->values, (size_t)s->count * sizeof *values) != 0) {
            fail_msg("%s is listed, but something else lies there", resident.name);
        }
        free(values);
        count++;
    }
    return count;
}

/* A pass over `time` tokens that stops at `stop` (NULL: it ends), and what is resident then. */
static size_t residents_of_pass(rig *r, int64_t time, const char *stop, bool backward)
{
    recorder rec;
    double loss;
    recorder_open(&rec, r);
    rec.stop = backward ? NULL : stop;
    tt_status status = tt_model_forward_train(r->b.model, r->b.slots[0].params, r->b.tokens,
                                              r->b.targets, 2, time, 1.0, &loss);
    if (backward) {
        rec.stop = stop;
        status = tt_model_backward(r->b.model, r->b.slots[0].params);
    }
    assert_int_equal(status, stop ? TT_EGATE : TT_OK);
    tt_model_abandon_pass(r->b.model);
    size_t count = check_residents(&rec, true);
    recorder_close(&rec);
    return count;
}

static void only_what_is_there_is_resident(void **state)
{
    (void)state;
    rig r;
    tt_resident resident;
    double loss;
    rig_open(&r, small_dims, 2, 7);
    gradients(&r.b);
    for (int c = 0; c < CASES; c++) {
        keep_as(&r, cases[c]);
        for (size_t i = 0; tt_model_resident(r.b.model, NULL, i, &resident); i++) {
            assert_true(strncmp(resident.name, "act.", 4) != 0 || resident.count == 0);
        }
        /* The last layer's, the first's, each with its input, and the last output; stopped on the
         * way. */
        assert_int_equal(residents_of_pass(&r, 7, NULL, false), 9);
        assert_int_equal(residents_of_pass(&r, 7, NULL, true), 9);
        assert_int_equal(residents_of_pass(&r, 5, "act.h.0.attn", false), 4);
        assert_int_equal(residents_of_pass(&r, 7, "act.h.1.ln_2", false), 8);
        assert_int_equal(residents_of_pass(&r, 7, "act.h.0.ln_2", true), 9);
        assert_ok(
            tt_model_forward(r.b.model, r.b.slots[0].params, r.b.tokens, r.b.targets, 2, 6, &loss));
        assert_int_equal(resident_named(&r.b, "act.h.0.gelu").count, 0);
        assert_int_equal(resident_named(&r.b, "act.embed").count, 0);
        assert_int_equal(resident_named(&r.b, "act.h.1.gelu").count, 12 * 4 * 12);
        assert_int_equal(resident_named(&r.b, "act.h.0.attn.lse").count, 12 * 3);
        keep_as_f32(&r);
        assert_int_equal(resident_named(&r.b, "act.h.1.gelu").count, 0);
        assert_int_equal(resident_named(&r.b, "act.losses").count, 0);
        assert_int_equal(residents_of_pass(&r, 7, NULL, true), 1 + 2 * 8);
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_error_is_that_of_what_backward_reads),
        cmocka_unit_test(the_error_is_of_the_last_training_pass),
        cmocka_unit_test(a_bad_element_is_an_infinite_error_and_is_named),
        cmocka_unit_test(probes_see_each_tensor_in_order),
        cmocka_unit_test(only_what_is_there_is_resident),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
