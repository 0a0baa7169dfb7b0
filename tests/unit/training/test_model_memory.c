/* What a training step keeps in memory, by the system's own account. */
#include "support.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "model_internal.h"

/* Enough for pages not to matter: 2048 rows, 8 layers of 16 x 32 channels. */
static const tt_model_dims dims = {8, 2, 32, 64, 64};
enum { BATCH = 32, TIME = 64 };

/* Bytes of the model's memory that are in memory. */
static double resident(const tt_model *model)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t)model->memory / page * page;
    const size_t pages = ((uintptr_t)model->memory + model->plan.bytes - first + page - 1) / page;
    unsigned char *in = malloc(pages);
    assert_non_null(in);
    assert_int_equal(mincore((void *)first, pages * page, in), 0);
    size_t count = 0;
    for (size_t i = 0; i < pages; i++) {
        count += in[i] & 1;
    }
    free(in);
    return (double)count * (double)page;
}

typedef struct form {
    tt_codec codec;
    int64_t block;
} form;

static const form f32 = {TT_CODEC_F32, 0};
static const form bf16 = {TT_CODEC_BF16, 0};
static const form int8 = {TT_CODEC_INT8, 64};

/* Huge pages reach over the ends of what is used and of what was given back: up to one of them at
 * each end of two areas. */
static double huge_slack;

static void check(bench *b, const char *when, form f)
{
    const double expected =
        (double)tt_model_resident_bytes(&dims, BATCH, TIME, TT_F32, f.codec, f.block);
    const double got = resident(b->model);
    if (fabs(got - expected) > 0.03 * expected + huge_slack) {
        fail_msg("%s: %.1f MiB instead of %.1f", when, got / (1 << 20), expected / (1 << 20));
    }
}

/* Memory falls when the form has lasted for four steps. */
static void last_as(bench *b, tt_compressor *compressor, const char *when, form f)
{
    double loss;
    assert_ok(tt_model_set_activation_codec(b->model, compressor, f.codec, f.block));
    gradients(b);
    for (int step = 1; step < 4; step++) {
        assert_ok(tt_model_begin_step(b->model));
    }
    check(b, when, f);
    gradients(b);
    check(b, when, f);
    assert_ok(
        tt_model_forward(b->model, b->slots[0].params, b->tokens, b->targets, BATCH, TIME, &loss));
    check(b, "after an evaluation", f);
}

static void change_codecs(void)
{
    const struct {
        const char *name;
        form first, second, third;
    } orders[] = {{"f32, int8, f32", f32, int8, f32},
                  {"int8, f32, bf16", int8, f32, bf16},
                  {"bf16, int8, bf16", bf16, int8, bf16}};
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        bench b;
        tt_compressor *compressor;
        bench_open(&b, dims, BATCH, TIME, TT_F32);
        assert_ok(tt_compressor_create(b.context, &compressor));
        assert_ok(tt_model_init_params(b.model, 2, b.slots[0].params));
        last_as(&b, compressor, orders[i].name, orders[i].first);
        last_as(&b, compressor, orders[i].name, orders[i].second);
        last_as(&b, compressor, orders[i].name, orders[i].third);
        tt_compressor_destroy(compressor);
        bench_close(&b);
    }
}

static void memory_is_what_is_announced(void **state)
{
    (void)state;
    huge_slack = 0.0;
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    change_codecs();
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
}

static void memory_is_what_is_announced_in_huge_pages(void **state)
{
    (void)state;
    huge_slack = 4.0 * (2 << 20);
    change_codecs();
}

/* A trial: pairs of steps in alternating order. Whatever its last step was, nothing went back on
 * the way; it does when the trial is over. */
static void a_trial_keeps_the_pages_of_both_sides(void **state)
{
    (void)state;
    const form sides[] = {f32, int8, int8, f32};
    bench b;
    tt_compressor *compressor;
    huge_slack = 0.0;
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    bench_open(&b, dims, BATCH, TIME, TT_F32);
    assert_ok(tt_compressor_create(b.context, &compressor));
    assert_ok(tt_model_init_params(b.model, 2, b.slots[0].params));
    gradients(&b);
    for (int step = 0; step < 12; step++) {
        const form f = sides[step % 4];
        assert_ok(tt_model_set_activation_codec(b.model, compressor, f.codec, f.block));
        gradients(&b);
        check(&b, "in a trial", f32);
    }
    last_as(&b, compressor, "after a trial", int8);
    tt_compressor_destroy(compressor);
    bench_close(&b);
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
}

/* 124M parameters, 4 sequences of 256. */
static void codecs_save_what_they_promise(void **state)
{
    (void)state;
    const tt_model_dims gpt2 = {12, 12, 768, 1024, 50257};
    const double rows = 1024;
    const double layer = rows * 16 * 768; /* elements */
    const double rest = 4.0 * (rows / 4 * 50257 + rows * 2 * 768 + 124439808.0);
    const struct {
        form f;
        double bytes; /* of an element that is kept */
        double share; /* of F32's activations */
    } expected[] = {{f32, 4, 1.0}, {bf16, 2, 0.60}, {int8, 1.0625, 0.36}};
    for (size_t i = 0; i < 3; i++) {
        const form f = expected[i].f;
        const double buffers = f.codec == TT_CODEC_F32 ? 0.0 : 4.0 * layer;
        const double large = 12 * layer * expected[i].bytes + buffers;
        double bytes = (double)tt_model_resident_bytes(&gpt2, 4, 256, TT_F32, f.codec, f.block);
        assert_true(fabs(bytes - rest - large) < 0.01 * bytes);
        assert_true(bytes - rest < 1.01 * 12 * layer * 4 * expected[i].share);
    }
    /* Where the layers are few, the shared buffers cost more than the codec saves: the address
     * space is enough all the same. */
    const tt_model_dims flat = {1, 12, 768, 1024, 64};
    size_t space = tt_model_bytes(&flat, 4, 256, TT_F32);
    size_t plain = tt_model_resident_bytes(&flat, 4, 256, TT_F32, TT_CODEC_F32, 0);
    size_t encoded = tt_model_resident_bytes(&flat, 4, 256, TT_F32, TT_CODEC_BF16, 0);
    assert_true(plain < encoded && encoded <= space);
    assert_true(tt_model_resident_bytes(&gpt2, INT64_MAX, 2, TT_F32, TT_CODEC_INT8, 64) ==
                SIZE_MAX);
    assert_int_equal(tt_model_resident_bytes(&gpt2, 0, 0, TT_F32, TT_CODEC_INT8, 64), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_what_is_announced),
        cmocka_unit_test(memory_is_what_is_announced_in_huge_pages),
        cmocka_unit_test(a_trial_keeps_the_pages_of_both_sides),
        cmocka_unit_test(codecs_save_what_they_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
