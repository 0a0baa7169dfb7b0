/* Running the codecs on ordinary arrays: every call makes a context of its own. */
#ifndef TT_COMPRESSION_SUPPORT_H
#define TT_COMPRESSION_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <trimtab/compression.h>

typedef struct ct_setting {
    const char *variant; /* "auto": the best */
    int threads;
    bool guard;
    int shift; /* floats by which unencoded tensors start past a 64-byte boundary */
} ct_setting;

typedef struct ct_bench {
    tt_context *context;
    tt_compressor *compressor;
} ct_bench;

/* With room for `floats` elements of tensors in all. Fails the test unless TT_OK. */
ct_bench ct_open(const ct_setting *setting, int64_t floats);
void ct_close(ct_bench *bench);
/* Tensor memory, `shift` floats off a 64-byte boundary; filled from host unless that is NULL. */
void *ct_tensor(const ct_bench *bench, const void *host, size_t bytes, int shift);

/* An encoded tensor in ordinary memory: all its bytes, padding too. */
typedef struct ct_bytes {
    tt_codec codec;
    int64_t block, n;
    size_t size;
    uint8_t *data;
} ct_bytes;

ct_bytes ct_encode(const ct_setting *setting, tt_codec codec, int64_t block, const float *x,
                   int64_t n, tt_codec_loss *loss);
/* The caller frees. */
float *ct_decode(const ct_setting *setting, const ct_bytes *from);
float ct_scale(const ct_bytes *bytes, int64_t block);

/* One AdamW step from p, g and encoded moments. */
typedef struct ct_step {
    float *p;
    ct_bytes m, v;
    tt_verdict verdict;
    tt_codec_loss m_loss, v_loss, u_loss;
} ct_step;

typedef struct ct_layout {
    tt_codec codec;
    int64_t block;
} ct_layout;

/* How a step is taken. CT_IN_PLACE needs the same layouts on both sides; CT_UNMEASURED leaves the
 * losses 0; CT_DITHERED is as step 3; with CT_ROUNDED parameters are bf16, the upper halves of `p`,
 * rounded with ct_rounding. */
enum { CT_APART = 0, CT_IN_PLACE = 1, CT_UNMEASURED = 2, CT_DITHERED = 4, CT_ROUNDED = 8 };
extern const tt_rounding ct_rounding;

ct_step ct_adamw(const ct_setting *setting, int64_t n, const float *p, const float *g,
                 const ct_bytes *m, const ct_bytes *v, ct_layout m_next, ct_layout v_next,
                 const tt_step_scalars *scalars, int how);
void ct_step_clear(ct_step *step);

/* Normal values over many magnitudes, with zeros; nonnegative if up. The caller frees. */
float *ct_values(int64_t n, uint64_t seed, bool up);

/* Calls check for every variant of the codecs that this machine has; at least 2. */
void ct_for_variants(void (*check)(const char *variant));

extern const tt_step_scalars ct_scalars;

#endif
