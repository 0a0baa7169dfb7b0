#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const tt_step_scalars ct_scalars = {1e-3, 0.9, 0.95, 1e-8, 0.271, 0.142625, 0.75};

ct_bench ct_open(const ct_setting *setting, int64_t floats)
{
    ct_bench bench = {NULL, NULL};
    tt_context_options options;
    tt_context_options_init(&options);
    options.threads = setting->threads;
    options.guard = setting->guard;
    options.tensor_bytes = (size_t)floats * 4 + (1 << 16);
    assert_int_equal(tt_context_create(&options, &bench.context), TT_OK);
    assert_int_equal(tt_compressor_create(bench.context, &bench.compressor), TT_OK);
    assert_int_equal(tt_compressor_set_variants(bench.compressor, setting->variant), TT_OK);
    return bench;
}

void ct_close(ct_bench *bench)
{
    tt_compressor_destroy(bench->compressor);
    tt_context_destroy(bench->context);
}

void *ct_tensor(const ct_bench *bench, const void *host, size_t bytes, int shift)
{
    void *base;
    assert_int_equal(tt_tensor_alloc(bench->context, bytes + 64, &base), TT_OK);
    float *tensor = (float *)base + shift;
    if (host != NULL)
        assert_int_equal(tt_tensor_write(bench->context, tensor, host, bytes), TT_OK);
    return tensor;
}

/* Place for an encoded tensor, full of what does not belong there; data: tensor memory. */
static tt_encoded place(const ct_bench *bench, ct_layout layout, int64_t n)
{
    size_t size = tt_codec_bytes(layout.codec, layout.block, n);
    uint8_t *junk = malloc(size + 1);
    assert_non_null(junk);
    memset(junk, layout.codec == TT_CODEC_F32 ? 0 : 0xa5, size);
    tt_encoded e = {layout.codec, layout.block, n, ct_tensor(bench, junk, size, 0)};
    free(junk);
    return e;
}

static ct_bytes take(const ct_bench *bench, const tt_encoded *e)
{
    size_t size = tt_codec_bytes(e->codec, e->block, e->n);
    ct_bytes bytes = {e->codec, e->block, e->n, size, malloc(size + 1)};
    assert_non_null(bytes.data);
    assert_int_equal(tt_tensor_read(bench->context, bytes.data, e->data, size), TT_OK);
    return bytes;
}

ct_bytes ct_encode(const ct_setting *setting, tt_codec codec, int64_t block, const float *x,
                   int64_t n, tt_codec_loss *loss)
{
    ct_bench bench = ct_open(setting, 3 * n);
    tt_encoded to = place(&bench, (ct_layout){codec, block}, n);
    void *tensor = ct_tensor(&bench, x, (size_t)n * 4, setting->shift);
    assert_int_equal(tt_encode(bench.compressor, tensor, &to, loss), TT_OK);
    ct_bytes bytes = take(&bench, &to);
    ct_close(&bench);
    return bytes;
}

float *ct_decode(const ct_setting *setting, const ct_bytes *from)
{
    ct_bench bench = ct_open(setting, 3 * from->n);
    size_t bytes = (size_t)from->n * 4;
    float *x = malloc(bytes + 1);
    assert_non_null(x);
    tt_encoded e = {from->codec, from->block, from->n,
                    ct_tensor(&bench, from->data, from->size, 0)};
    void *tensor = ct_tensor(&bench, NULL, bytes, setting->shift);
    assert_int_equal(tt_decode(bench.compressor, &e, tensor), TT_OK);
    assert_int_equal(tt_tensor_read(bench.context, x, tensor, bytes), TT_OK);
    ct_close(&bench);
    return x;
}

float ct_scale(const ct_bytes *bytes, int64_t block)
{
    float scale;
    size_t at = tt_codec_scales_offset(bytes->codec, bytes->n) + (size_t)block * sizeof scale;
    memcpy(&scale, bytes->data + at, sizeof scale);
    return scale;
}

const tt_rounding ct_rounding = {3, 4};

/* Parameters in tensor memory. */
static void *put_parameters(const ct_bench *bench, const float *p, int64_t n, bool bf16, int shift)
{
    uint16_t *upper = malloc((size_t)n * sizeof *upper + 1);
    assert_non_null(upper);
    for (int64_t i = 0; i < n; i++)
        memcpy(&upper[i], (const char *)&p[i] + 2, sizeof upper[i]);
    void *tensor = bf16 ? ct_tensor(bench, upper, (size_t)n * sizeof *upper, shift)
                        : ct_tensor(bench, p, (size_t)n * sizeof *p, shift);
    free(upper);
    return tensor;
}

static void take_parameters(const ct_bench *bench, const void *tensor, int64_t n, bool bf16,
                            float *p)
{
    const size_t bytes = (size_t)n * (bf16 ? sizeof(uint16_t) : sizeof(float));
    uint16_t *upper = malloc(bytes + 1);
    assert_non_null(upper);
    assert_int_equal(
        tt_tensor_read(bench->context, bf16 ? (void *)upper : (void *)p, tensor, bytes), TT_OK);
    for (int64_t i = 0; bf16 && i < n; i++) {
        const uint32_t bits = (uint32_t)upper[i] << 16;
        memcpy(&p[i], &bits, sizeof p[i]);
    }
    free(upper);
}

ct_step ct_adamw(const ct_setting *setting, int64_t n, const float *p, const float *g,
                 const ct_bytes *m, const ct_bytes *v, ct_layout m_next, ct_layout v_next,
                 const tt_step_scalars *scalars, int how)
{
    bool in_place = (how & CT_IN_PLACE) != 0;
    ct_bench bench = ct_open(setting, 9 * n + 9 * 1024);
    size_t bytes = (size_t)n * 4;
    ct_step step = {.p = malloc(bytes + 1)};
    assert_non_null(step.p);
    tt_adamw_encoded_args args = {.n = n, .weight_decay = 0.1, .scalars = scalars};
    const bool bf16 = (how & CT_ROUNDED) != 0;
    args.p = put_parameters(&bench, p, n, bf16, setting->shift);
    args.rounding = bf16 ? &ct_rounding : NULL;
    args.g = ct_tensor(&bench, g, bytes, setting->shift);
    args.m = (tt_encoded){m->codec, m->block, n, ct_tensor(&bench, m->data, m->size, 0)};
    args.v = (tt_encoded){v->codec, v->block, n, ct_tensor(&bench, v->data, v->size, 0)};
    args.p_next = in_place ? (void *)args.p : ct_tensor(&bench, NULL, bytes, setting->shift);
    args.m_next = in_place ? args.m : place(&bench, m_next, n);
    args.v_next = in_place ? args.v : place(&bench, v_next, n);
    args.dither = (how & CT_DITHERED) != 0 ? 3 : 0;
    args.verdict = &step.verdict;
    if ((how & CT_UNMEASURED) == 0) {
        args.m_loss = &step.m_loss;
        args.v_loss = &step.v_loss;
        args.u_loss = &step.u_loss;
    }
    if (tt_adamw_encoded(bench.compressor, &args) != TT_OK)
        fail_msg("%s", tt_error_message());
    take_parameters(&bench, args.p_next, n, bf16, step.p);
    step.m = take(&bench, &args.m_next);
    step.v = take(&bench, &args.v_next);
    ct_close(&bench);
    return step;
}

void ct_step_clear(ct_step *step)
{
    free(step->p);
    free(step->m.data);
    free(step->v.data);
}

float *ct_values(int64_t n, uint64_t seed, bool up)
{
    float *x = malloc((size_t)n * 4 + 4);
    assert_non_null(x);
    tt_random_normal_f32(seed, 1, x, (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        double u = tt_random_uniform(seed, 2, (uint64_t)i);
        double block = tt_random_uniform(seed, 3, (uint64_t)(i / 32));
        x[i] = (float)((double)x[i] * pow(10, -6 * block) * pow(10, u < 0.2 ? -15 * u : 0));
        if (u > 0.97)
            x[i] = u > 0.985F ? 0.0F : -0.0F;
        if (up)
            x[i] = u > 0.97 ? x[i] : fabsf(x[i]);
    }
    return x;
}

void ct_for_variants(void (*check)(const char *variant))
{
    int count = 0;
    for (size_t i = 0; i < tt_codec_variant_count(); i++) {
        const tt_codec_variant_info *info = tt_codec_variant_at(i);
        if (info->op == TT_CODEC_ENCODE && tt_isa_available(info->isa)) {
            check(info->name);
            count++;
        }
    }
    assert_true(count >= 2);
}
