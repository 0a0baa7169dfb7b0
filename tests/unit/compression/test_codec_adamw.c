/* AdamW over encoded moments: every variant against the reference, bit by bit; the reference
 * against the kernels' AdamW and against decode, step and encode one after the other. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ct_setting reference = {"reference", 1, false, 0};

typedef struct problem {
    int64_t n;
    float *p, *g, *m, *root;
} problem;

static problem make_problem(int64_t n, uint64_t seed)
{
    problem q = {n, ct_values(n, seed, false), ct_values(n, seed + 100, false),
                 ct_values(n, seed + 200, false), ct_values(n, seed + 300, true)};
    for (int64_t i = 0; i < n; i++)
        if (q.root[i] < 0.5F * fabsf(q.m[i])) /* so that updates are of order 1 */
            q.root[i] = fabsf(q.m[i]);
    return q;
}

static void clear_problem(problem *q)
{
    free(q->p);
    free(q->g);
    free(q->m);
    free(q->root);
}

/* The second moment as the codec keeps it: F32 v, the others its root. */
static ct_bytes encode_v(const problem *q, ct_layout layout)
{
    float *kept = malloc((size_t)q->n * 4 + 4);
    assert_non_null(kept);
    for (int64_t i = 0; i < q->n; i++)
        kept[i] = layout.codec == TT_CODEC_F32 ? q->root[i] * q->root[i] : q->root[i];
    ct_bytes e = ct_encode(&reference, layout.codec, layout.block, kept, q->n, NULL);
    free(kept);
    return e;
}

static bool close(double a, double b)
{
    return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-12 * fabs(b);
}

static bool close_loss(const tt_codec_loss *a, const tt_codec_loss *b)
{
    return close(a->error_squares, b->error_squares) && close(a->norm_squares, b->norm_squares) &&
           a->nonfinite == b->nonfinite;
}

/* Elements' bits; two NaNs are alike, whatever their payload. */
static bool same_floats(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, 4) != 0 && !(isnan(a[i]) && isnan(b[i])))
            return false;
    return true;
}

static bool same_bytes(const ct_bytes *a, const ct_bytes *b)
{
    if (a->codec == TT_CODEC_F32)
        return same_floats((const float *)(const void *)a->data,
                           (const float *)(const void *)b->data, a->n);
    for (int64_t i = 0; a->codec == TT_CODEC_BF16 && i < a->n; i++) {
        uint16_t x, y;
        memcpy(&x, a->data + 2 * i, 2);
        memcpy(&y, b->data + 2 * i, 2);
        if (x != y && ((x & 0x7fff) <= 0x7f80 || (y & 0x7fff) <= 0x7f80))
            return false;
    }
    return a->codec == TT_CODEC_BF16 || memcmp(a->data, b->data, a->size) == 0;
}

static void expect_step(const ct_step *got, const ct_step *want, int64_t n, const char *what)
{
    if (!same_floats(got->p, want->p, n) || !same_bytes(&got->m, &want->m) ||
        !same_bytes(&got->v, &want->v))
        fail_msg("%s: parameters or moments differ in bits", what);
    if (!close_loss(&got->m_loss, &want->m_loss) || !close_loss(&got->v_loss, &want->v_loss) ||
        !close_loss(&got->u_loss, &want->u_loss))
        fail_msg("%s: losses differ", what);
    if (!close(got->verdict.update_squares, want->verdict.update_squares) ||
        got->verdict.nonfinite != want->verdict.nonfinite)
        fail_msg("%s: verdicts differ", what);
}

/* m, v, m_next, v_next */
typedef struct layouts {
    ct_layout m, v, m_next, v_next;
} layouts;

static void expect_dithered(const char *variant, const problem *q, const layouts *l,
                            const tt_step_scalars *scalars, int dithered)
{
    char what[160];
    ct_bytes m = ct_encode(&reference, l->m.codec, l->m.block, q->m, q->n, NULL);
    ct_bytes v = encode_v(q, l->v);
    ct_step want =
        ct_adamw(&reference, q->n, q->p, q->g, &m, &v, l->m_next, l->v_next, scalars, dithered);
    for (int threads = 1; threads <= 3; threads++) {
        const ct_setting setting = {variant, threads, threads == 2, threads % 3};
        snprintf(what, sizeof what, "%s n %lld: %s %lld %s %lld -> %s %lld %s %lld, %d threads",
                 variant, (long long)q->n, tt_codec_name(l->m.codec), (long long)l->m.block,
                 tt_codec_name(l->v.codec), (long long)l->v.block, tt_codec_name(l->m_next.codec),
                 (long long)l->m_next.block, tt_codec_name(l->v_next.codec),
                 (long long)l->v_next.block, threads);
        bool same = memcmp(&l->m, &l->m_next, sizeof l->m) == 0 &&
                    memcmp(&l->v, &l->v_next, sizeof l->v) == 0;
        for (int how = CT_APART; how <= (CT_IN_PLACE | CT_UNMEASURED); how++) {
            if ((how & CT_IN_PLACE) != 0 && !same)
                continue;
            ct_step got = ct_adamw(&setting, q->n, q->p, q->g, &m, &v, l->m_next, l->v_next,
                                   scalars, how | dithered);
            if ((how & CT_UNMEASURED) != 0) {
                got.m_loss = want.m_loss;
                got.v_loss = want.v_loss;
                got.u_loss = want.u_loss;
            }
            expect_step(&got, &want, q->n, what);
            ct_step_clear(&got);
        }
    }
    ct_step_clear(&want);
    free(m.data);
    free(v.data);
}

static void expect_adamw(const char *variant, const problem *q, const layouts *l,
                         const tt_step_scalars *scalars)
{
    expect_dithered(variant, q, l, scalars, CT_APART);
    expect_dithered(variant, q, l, scalars, CT_ROUNDED);
    if (l->v_next.codec == TT_CODEC_UINT8_UP)
        expect_dithered(variant, q, l, scalars, CT_DITHERED);
}

static const layouts usual = {
    {TT_CODEC_INT8, 64}, {TT_CODEC_UINT8_UP, 64}, {TT_CODEC_INT8, 64}, {TT_CODEC_UINT8_UP, 64}};

static void check_sizes(const char *variant)
{
    static const int64_t sizes[] = {0,  1,  2,  3,   7,   15,  16,   17,   31,   32,    33,
                                    63, 64, 65, 127, 511, 513, 4095, 4096, 4097, 40009, 70001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        problem q = make_problem(sizes[i], i);
        expect_adamw(variant, &q, &usual, &ct_scalars);
        clear_problem(&q);
    }
}

static void test_sizes(void **state)
{
    (void)state;
    ct_for_variants(check_sizes);
}

/* Every pair of codecs on either side, with blocks of all sizes. */
static void check_codecs(const char *variant)
{
    static const tt_codec firsts[] = {TT_CODEC_F32, TT_CODEC_BF16, TT_CODEC_INT8};
    problem q = make_problem(5003, 77);
    int turn = 0;
    for (int m = 0; m < 9; m++)
        for (int v = 0; v < 16; v++, turn++) {
            const layouts l = {{firsts[m % 3], 32 << turn % 8},
                               {(tt_codec)(v % 4), 32 << turn / 3 % 8},
                               {firsts[m / 3], 32 << turn / 5 % 8},
                               {(tt_codec)(v / 4), 32 << turn / 7 % 8}};
            expect_adamw(variant, &q, &l, &ct_scalars);
        }
    for (int block = 32; block <= 4096; block *= 2) {
        const layouts l = {{TT_CODEC_INT8, block},
                           {TT_CODEC_UINT8_UP, block},
                           {TT_CODEC_INT8, block},
                           {TT_CODEC_UINT8_UP, block}};
        expect_adamw(variant, &q, &l, &ct_scalars);
    }
    clear_problem(&q);
}

static void test_codecs(void **state)
{
    (void)state;
    ct_for_variants(check_codecs);
}

/* NaN and infinity in each array, epsilon 0, and v = 0. */
static void check_specials(const char *variant)
{
    tt_step_scalars scalars = ct_scalars;
    static const float specials[] = {NAN, INFINITY, -INFINITY, 3e38F, 1e25F, 1e-40F};
    for (int i = 0; i < 24; i++) {
        problem q = make_problem(301, 5);
        float *arrays[] = {q.p, q.g, q.m, q.root};
        arrays[i % 4][(i * 53) % 301] = fabsf(specials[i / 4]);
        arrays[i % 2][299] = specials[i / 4];
        expect_adamw(variant, &q, &usual, &scalars);
        const layouts other = {
            {TT_CODEC_F32, 64}, {TT_CODEC_F32, 64}, {TT_CODEC_BF16, 64}, {TT_CODEC_BF16, 64}};
        expect_adamw(variant, &q, &other, &scalars);
        const layouts plain = {
            {TT_CODEC_BF16, 64}, {TT_CODEC_BF16, 64}, {TT_CODEC_F32, 64}, {TT_CODEC_F32, 64}};
        expect_adamw(variant, &q, &plain, &scalars);
        clear_problem(&q);
    }
    problem q = make_problem(301, 6);
    scalars.epsilon = 0;
    expect_adamw(variant, &q, &usual, &scalars);
    for (int i = 0; i < 301; i++)
        q.g[i] = q.m[i] = q.root[i] = i < 200 ? 0 : q.root[i];
    expect_adamw(variant, &q, &usual, &scalars);
    expect_adamw(variant, &q, &usual, &ct_scalars);
    clear_problem(&q);
}

static void test_specials(void **state)
{
    (void)state;
    ct_for_variants(check_specials);
}

/* ---- the reference itself ----------------------------------------------------------------- */

/* TT_OP_ADAMW's next p, m, v. */
static void run_kernel(const problem *q, const float *v, float *out[3], tt_verdict *verdict)
{
    ct_bench b = ct_open(&reference, 8 * q->n + 1024);
    size_t bytes = (size_t)q->n * 4;
    void *next[3];
    assert_int_equal(tt_context_set_variants(b.context, "reference"), TT_OK);
    for (int i = 0; i < 3; i++)
        next[i] = ct_tensor(&b, NULL, bytes, 0);
    tt_adamw_args args = {q->n,
                          ct_tensor(&b, q->p, bytes, 0),
                          ct_tensor(&b, q->m, bytes, 0),
                          ct_tensor(&b, v, bytes, 0),
                          ct_tensor(&b, q->g, bytes, 0),
                          next[0],
                          next[1],
                          next[2],
                          0.1,
                          &ct_scalars,
                          verdict,
                          NULL};
    assert_int_equal(tt_op_run(b.context, TT_OP_ADAMW, &args), TT_OK);
    for (int i = 0; i < 3; i++) {
        out[i] = malloc(bytes);
        assert_int_equal(tt_tensor_read(b.context, out[i], next[i], bytes), TT_OK);
    }
    ct_close(&b);
}

/* With F32 everywhere: the formula of TT_OP_ADAMW within rounding, and nothing is lost. */
static void test_f32_is_plain_adamw(void **state)
{
    (void)state;
    const layouts f32 = {
        {TT_CODEC_F32, 0}, {TT_CODEC_F32, 0}, {TT_CODEC_F32, 0}, {TT_CODEC_F32, 0}};
    problem q = make_problem(10007, 3);
    ct_bytes m = ct_encode(&reference, TT_CODEC_F32, 0, q.m, q.n, NULL), v = encode_v(&q, f32.v);
    float *want[3];
    tt_verdict verdict = {0};
    run_kernel(&q, (const float *)(const void *)v.data, want, &verdict);
    ct_step got =
        ct_adamw(&reference, q.n, q.p, q.g, &m, &v, f32.m_next, f32.v_next, &ct_scalars, CT_APART);
    const float *m1 = (const float *)(const void *)got.m.data;
    const float *v1 = (const float *)(const void *)got.v.data;
    for (int64_t i = 0; i < q.n; i++) {
        /* Where the two terms of m cancel, the terms' rounding counts. */
        double terms = 0.9 * fabs((double)q.m[i]) + 0.1 * fabs((double)q.g[i]);
        double change = fabs((double)want[0][i] - (double)q.p[i]);
        double root = sqrt((double)want[2][i] / ct_scalars.bias_correction2) + 1e-8;
        assert_true(fabs((double)(m1[i] - want[1][i])) <= 0x1p-21 * terms + 0x1p-148);
        assert_true(fabs((double)(v1[i] - want[2][i])) <= 0x1p-21 * (double)want[2][i] + 0x1p-147);
        assert_true(fabs((double)(got.p[i] - want[0][i])) <=
                    0x1p-23 * fabs((double)q.p[i]) + 0x1p-21 * change +
                        1e-3 * 0x1p-21 * terms / ct_scalars.bias_correction1 / root + 0x1p-148);
    }
    assert_true(got.m_loss.error_squares == 0 && got.v_loss.error_squares == 0);
    assert_true(got.u_loss.error_squares == 0 && got.u_loss.norm_squares > 0);
    assert_true(fabs(got.verdict.update_squares - verdict.update_squares) <=
                1e-5 * verdict.update_squares);
    for (int i = 0; i < 3; i++)
        free(want[i]);
    ct_step_clear(&got);
    free(m.data);
    free(v.data);
    clear_problem(&q);
}

/* Parameters in bf16: what f32 would become, rounded by the numbers of its stream. */
static void check_rounded(const char *variant)
{
    problem q = make_problem(5003, 9);
    const ct_setting setting = {variant, 2, false, 0};
    ct_bytes m = ct_encode(&reference, usual.m.codec, usual.m.block, q.m, q.n, NULL);
    ct_bytes v = encode_v(&q, usual.v);
    uint16_t random[5003];
    tt_random_u16(ct_rounding.seed, ct_rounding.stream, 0, random, 5003);
    for (int64_t i = 0; i < q.n; i++)
        memset(&q.p[i], 0, 2);
    ct_step f32 = ct_adamw(&setting, q.n, q.p, q.g, &m, &v, usual.m_next, usual.v_next, &ct_scalars,
                           CT_APART);
    ct_step got = ct_adamw(&setting, q.n, q.p, q.g, &m, &v, usual.m_next, usual.v_next, &ct_scalars,
                           CT_ROUNDED);
    double squares = 0;
    for (int64_t i = 0; i < q.n; i++) {
        uint32_t bits, rounded;
        memcpy(&bits, &f32.p[i], sizeof bits);
        memcpy(&rounded, &got.p[i], sizeof rounded);
        assert_int_equal(rounded, (bits + random[i]) & 0xffff0000u);
        squares += (double)(got.p[i] - q.p[i]) * (double)(got.p[i] - q.p[i]);
    }
    assert_true(close(got.verdict.update_squares, squares));
    assert_true(same_bytes(&got.m, &f32.m) && same_bytes(&got.v, &f32.v));
    ct_step_clear(&f32);
    ct_step_clear(&got);
    free(m.data);
    free(v.data);
    clear_problem(&q);
}

static void test_rounded_parameters(void **state)
{
    (void)state;
    ct_for_variants(check_rounded);
}

static double ratio_of(const float *x, const float *y, int64_t n)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        norm += (double)x[i] * (double)x[i];
    }
    return sqrt(error / norm);
}

/* The same step with F32 next sides gives the exact moments: they, encoded, are the codes; and the
 * losses are those of decoding them, computed apart. */
static void test_step_is_decode_update_encode(void **state)
{
    (void)state;
    problem q = make_problem(9001, 8);
    const ct_layout f32 = {TT_CODEC_F32, 0};
    ct_bytes m = ct_encode(&reference, TT_CODEC_INT8, 64, q.m, q.n, NULL);
    ct_bytes v = encode_v(&q, usual.v);
    ct_step exact = ct_adamw(&reference, q.n, q.p, q.g, &m, &v, f32, f32, &ct_scalars, CT_APART);
    ct_step coded = ct_adamw(&reference, q.n, q.p, q.g, &m, &v, usual.m_next, usual.v_next,
                             &ct_scalars, CT_APART);
    assert_true(same_floats(exact.p, coded.p, q.n));
    const float *m1 = (const float *)(const void *)exact.m.data;
    float *root = malloc((size_t)q.n * 4), *u = malloc((size_t)q.n * 4);
    float *decoded_u = malloc((size_t)q.n * 4);
    assert_true(root != NULL && u != NULL && decoded_u != NULL);
    for (int64_t i = 0; i < q.n; i++)
        root[i] = sqrtf(((const float *)(const void *)exact.v.data)[i]);
    ct_bytes m2 = ct_encode(&reference, TT_CODEC_INT8, 64, m1, q.n, NULL);
    ct_bytes v2 = ct_encode(&reference, TT_CODEC_UINT8_UP, 64, root, q.n, NULL);
    assert_memory_equal(m2.data, coded.m.data, m2.size);
    assert_memory_equal(v2.data, coded.v.data, v2.size);
    float *m_back = ct_decode(&reference, &m2), *root_back = ct_decode(&reference, &v2);
    double c1 = ct_scalars.bias_correction1, c2 = sqrt(ct_scalars.bias_correction2);
    for (int64_t i = 0; i < q.n; i++) {
        u[i] = (float)((double)m1[i] / c1 / ((double)root[i] / c2 + 1e-8));
        decoded_u[i] = (float)((double)m_back[i] / c1 / ((double)root_back[i] / c2 + 1e-8));
    }
    assert_true(fabs(tt_codec_loss_ratio(&coded.m_loss) - ratio_of(m1, m_back, q.n)) < 1e-6);
    assert_true(fabs(tt_codec_loss_ratio(&coded.v_loss) - ratio_of(root, root_back, q.n)) < 1e-6);
    assert_true(fabs(tt_codec_loss_ratio(&coded.u_loss) - ratio_of(u, decoded_u, q.n)) < 1e-5);
    assert_true(tt_codec_loss_ratio(&coded.m_loss) > 1e-3);
    free(root);
    free(u);
    free(decoded_u);
    free(m_back);
    free(root_back);
    free(m2.data);
    free(v2.data);
    ct_step_clear(&exact);
    ct_step_clear(&coded);
    free(m.data);
    free(v.data);
    clear_problem(&q);
}

/* f32 -> int8 -> f32 between steps: the parameters stay near those of f32 throughout. */
static void test_conversions_between_steps(void **state)
{
    (void)state;
    enum { N = 4096, STEPS = 12 };
    const ct_setting best = {"auto", 2, true, 0};
    problem q = make_problem(N, 12);
    float *p[2], zeros[N] = {0}, *g = malloc(N * sizeof *g);
    ct_bytes m[2], v[2];
    assert_non_null(g);
    for (int k = 0; k < 2; k++) {
        p[k] = malloc(N * sizeof *g);
        memcpy(p[k], q.p, N * sizeof *g);
        m[k] = ct_encode(&best, TT_CODEC_F32, 0, zeros, N, NULL);
        v[k] = ct_encode(&best, TT_CODEC_F32, 0, zeros, N, NULL);
    }
    for (int step = 1; step <= STEPS; step++) {
        tt_step_scalars s = {1e-3, 0.9, 0.95, 1e-8, 1 - pow(0.9, step), 1 - pow(0.95, step), 1};
        tt_random_normal_f32(99, (uint64_t)step, g, N);
        for (int k = 0; k < 2; k++) {
            bool coded = k == 1 && step >= 4 && step < 9;
            ct_layout lm = {coded ? TT_CODEC_INT8 : TT_CODEC_F32, 64};
            ct_layout lv = {coded ? TT_CODEC_UINT8_UP : TT_CODEC_F32, 64};
            ct_step next = ct_adamw(&best, N, p[k], g, &m[k], &v[k], lm, lv, &s, CT_APART);
            assert_int_equal(next.verdict.nonfinite, 0);
            assert_true(tt_codec_loss_ratio(&next.u_loss) < 0.05);
            assert_true((tt_codec_loss_ratio(&next.u_loss) > 0) == coded);
            free(p[k]);
            free(m[k].data);
            free(v[k].data);
            p[k] = next.p;
            m[k] = next.m;
            v[k] = next.v;
        }
    }
    double moved = 0, apart = 0;
    for (int i = 0; i < N; i++) {
        moved += pow((double)p[0][i] - (double)q.p[i], 2);
        apart += pow((double)p[0][i] - (double)p[1][i], 2);
    }
    assert_true(apart > 0 && sqrt(apart / moved) < 0.05);
    for (int k = 0; k < 2; k++) {
        free(p[k]);
        free(m[k].data);
        free(v[k].data);
    }
    free(g);
    clear_problem(&q);
}

/* Each dithered code is the one below or above; what is not 0 does not become 0. */
static void test_dither_bounds(void **state)
{
    (void)state;
    problem q = make_problem(9001, 18);
    ct_bytes m = ct_encode(&reference, TT_CODEC_INT8, 64, q.m, q.n, NULL);
    ct_bytes v = encode_v(&q, usual.v);
    ct_step up = ct_adamw(&reference, q.n, q.p, q.g, &m, &v, usual.m_next, usual.v_next,
                          &ct_scalars, CT_APART);
    ct_step dithered = ct_adamw(&reference, q.n, q.p, q.g, &m, &v, usual.m_next, usual.v_next,
                                &ct_scalars, CT_DITHERED);
    int below = 0, same = 0;
    for (int64_t i = 0; i < q.n; i++) {
        int down = up.v.data[i] - dithered.v.data[i];
        assert_true(down == 0 || down == 1);
        assert_true((up.v.data[i] > 0) == (dithered.v.data[i] > 0));
        below += down;
        same += up.v.data[i] > 1 && down == 0;
    }
    assert_true(below > 1000 && same > 1000);
    size_t codes = tt_codec_scales_offset(TT_CODEC_UINT8_UP, q.n);
    assert_memory_equal(up.v.data + codes, dithered.v.data + codes, up.v.size - codes);
    assert_memory_equal(up.m.data, dithered.m.data, up.m.size);
    ct_step_clear(&up);
    ct_step_clear(&dithered);
    free(m.data);
    free(v.data);
    clear_problem(&q);
}

/* How much greater the roots are than those of f32, on average, after many steps of steady
 * gradients. */
static double drift_of_roots(bool dither)
{
    enum { N = 2048, STEPS = 1000 };
    const ct_setting best = {"auto", 1, false, 0};
    ct_bench b = ct_open(&best, 12 * N);
    void *t[6];
    float *g = malloc(N * sizeof *g), v[N], root[N];
    assert_non_null(g);
    for (int i = 0; i < 6; i++)
        t[i] = ct_tensor(&b, NULL, N * sizeof *g, 0);
    for (int step = 1; step <= STEPS; step++) {
        tt_step_scalars s = {1e-4, 0.9, 0.999, 1e-8, 1 - pow(0.9, step), 1 - pow(0.999, step), 1};
        tt_verdict verdict = {0};
        tt_random_normal_f32(7, (uint64_t)step, g, N);
        assert_int_equal(tt_tensor_write(b.context, t[1], g, N * sizeof *g), TT_OK);
        tt_encoded m = {TT_CODEC_F32, 0, N, t[2]}, coded = {TT_CODEC_UINT8_UP, 64, N, t[3]};
        tt_adamw_encoded_args args = {.n = N,
                                      .p = t[0],
                                      .g = t[1],
                                      .m = m,
                                      .v = coded,
                                      .p_next = t[0],
                                      .m_next = m,
                                      .v_next = coded,
                                      .scalars = &s,
                                      .verdict = &verdict,
                                      .dither = dither ? (uint64_t)step : 0};
        assert_int_equal(tt_adamw_encoded(b.compressor, &args), TT_OK);
        args.m = args.m_next = (tt_encoded){TT_CODEC_F32, 0, N, t[4]};
        args.v = args.v_next = (tt_encoded){TT_CODEC_F32, 0, N, t[5]};
        assert_int_equal(tt_adamw_encoded(b.compressor, &args), TT_OK);
    }
    const tt_encoded coded = {TT_CODEC_UINT8_UP, 64, N, t[3]};
    assert_int_equal(tt_decode(b.compressor, &coded, t[1]), TT_OK);
    assert_int_equal(tt_tensor_read(b.context, root, t[1], sizeof root), TT_OK);
    assert_int_equal(tt_tensor_read(b.context, v, t[5], sizeof v), TT_OK);
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += log((double)root[i] / sqrt((double)v[i]));
    ct_close(&b);
    free(g);
    return exp(sum / N) - 1;
}

/* Rounded up at every step, a moving average does not come down; dithered, it is right. */
static void test_dither_keeps_averages(void **state)
{
    (void)state;
    assert_true(drift_of_roots(false) > 0.5);
    assert_true(fabs(drift_of_roots(true)) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_codecs),
        cmocka_unit_test(test_specials),
        cmocka_unit_test(test_f32_is_plain_adamw),
        cmocka_unit_test(test_rounded_parameters),
        cmocka_unit_test(test_step_is_decode_update_encode),
        cmocka_unit_test(test_conversions_between_steps),
        cmocka_unit_test(test_dither_bounds),
        cmocka_unit_test(test_dither_keeps_averages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
