/* What the tests of encoded activations share: a bench with a compressor, the codecs to try. */
#ifndef TRIMTAB_TESTS_TRAINING_SAVED_SUPPORT_H
#define TRIMTAB_TESTS_TRAINING_SAVED_SUPPORT_H

#include "support.h"

static const tt_model_dims middle_dims = {
    .layers = 3, .heads = 4, .channels = 64, .context = 24, .vocab = 131};

typedef struct codec_case {
    tt_codec codec;
    int64_t block;
} codec_case;

static const codec_case cases[] = {{TT_CODEC_BF16, 0}, {TT_CODEC_INT8, 64}, {TT_CODEC_INT8, 4096}};
enum { CASES = sizeof cases / sizeof cases[0] };

/* A bench with a compressor. */
typedef struct rig {
    bench b;
    tt_compressor *compressor;
} rig;

static inline void rig_open_with(rig *r, tt_model_dims dims, int64_t batch, int64_t time,
                                 bench_options options)
{
    bench_open_with(&r->b, dims, batch, time, options);
    assert_ok(tt_compressor_create(r->b.context, &r->compressor));
    assert_ok(tt_model_init_params(r->b.model, 21, r->b.slots[0].params));
}

static inline void rig_open(rig *r, tt_model_dims dims, int64_t batch, int64_t time)
{
    rig_open_with(r, dims, batch, time, (bench_options){.dtype = TT_F32, .threads = 2});
}

static inline void rig_close(rig *r)
{
    tt_compressor_destroy(r->compressor);
    bench_close(&r->b);
}

static inline void keep_as(rig *r, codec_case c)
{
    assert_ok(tt_model_set_activation_codec(r->b.model, r->compressor, c.codec, c.block));
}

static inline void keep_as_f32(rig *r)
{
    assert_ok(tt_model_set_activation_codec(r->b.model, NULL, TT_CODEC_F32, 0));
}

#endif
