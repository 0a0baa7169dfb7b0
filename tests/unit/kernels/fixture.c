#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bf16.h"
#include "internal.h"

static double normal_float(uint64_t seed, uint64_t stream, int64_t i)
{
    double u = tt_random_uniform(seed, stream, (uint64_t)(2 * i));
    double v = tt_random_uniform(seed, stream, (uint64_t)(2 * i + 1));
    return (double)(float)(sqrt(-2 * log1p(-u)) * cos(6.283185307179586 * v));
}

/* What a tensor can hold: activations, and weights that are so, what bf16 holds. */
static double as_stored(const kt_tensor *t, double value)
{
    return t->act || t->weight ? (double)tt_bf16_to_f32(tt_bf16_from_f32((float)value))
                               : (double)(float)value;
}

static int64_t index_limit(const kt_case *c)
{
    return c->op == TT_OP_SOFTMAX_XENT ? c->size[1] : c->size[3];
}

/* mean, rstd, out and lse are not free: they belong to the other inputs. */
static void complete_inputs(kt_case *c)
{
    if (c->op == TT_OP_ADAMW)
        for (int64_t i = 0; i < c->t[2].n; i++) /* second moments */
            c->t[2].value[i] = (double)(float)(c->t[2].value[i] * c->t[2].value[i]);
    if (c->op == TT_OP_LAYERNORM_BACKWARD) {
        kt_case f = kt_make(TT_OP_LAYERNORM_FORWARD, c->size, 1);
        memcpy(f.t[0].value, c->t[1].value, (size_t)c->t[1].n * sizeof(double));
        kt_setting setting = kt_f64();
        kt_run(&f, &setting);
        for (int64_t i = 0; i < c->size[0]; i++) {
            c->t[3].value[i] = (double)(float)f.t[4].value[i];
            c->t[4].value[i] = (double)(float)f.t[5].value[i];
        }
        kt_clear(&f);
    }
    if (c->op == TT_OP_RMSNORM_BACKWARD) {
        kt_case f = kt_make(TT_OP_RMSNORM_FORWARD, c->size, 1);
        memcpy(f.t[0].value, c->t[1].value, (size_t)c->t[1].n * sizeof(double));
        kt_setting setting = kt_f64();
        kt_run(&f, &setting);
        for (int64_t i = 0; i < c->size[0]; i++)
            c->t[3].value[i] = (double)(float)f.t[3].value[i];
        kt_clear(&f);
    }
    if (c->op == TT_OP_ATTENTION_BACKWARD) {
        kt_case f = kt_make_with(TT_OP_ATTENTION_FORWARD, c->size, &c->with, 1);
        memcpy(f.t[0].value, c->t[0].value, (size_t)c->t[0].n * sizeof(double));
        kt_setting setting = kt_f64();
        kt_run(&f, &setting);
        for (int k = 1; k <= 2; k++)
            for (int64_t i = 0; i < c->t[k].n; i++)
                c->t[k].value[i] = as_stored(&c->t[k], f.t[k].value[i]);
        kt_clear(&f);
    }
}

kt_case kt_make(tt_op op, const int64_t size[5], uint64_t seed)
{
    return kt_make_with(op, size, &(kt_options){0}, seed);
}

kt_case kt_make_with(tt_op op, const int64_t size[5], const kt_options *with, uint64_t seed)
{
    kt_case c = {.op = op, .with = *with};
    memcpy(c.size, size, sizeof c.size);
    kt_shape(&c);
    for (int k = 0; k < c.count; k++) {
        c.t[k].value = calloc((size_t)c.t[k].n + 1, sizeof(double));
        assert_non_null(c.t[k].value);
        for (int64_t i = 0; i < c.t[k].n; i++) {
            if (c.t[k].kind == KT_INDEX)
                c.t[k].value[i] = floor(tt_random_uniform(seed, (uint64_t)k, (uint64_t)i) *
                                        (double)index_limit(&c));
            else if (c.t[k].kind == KT_OUTPUT)
                c.t[k].value[i] = NAN; /* must be overwritten */
            else if (c.t[k].kind != KT_RESULT)
                c.t[k].value[i] = as_stored(&c.t[k], normal_float(seed, (uint64_t)k, i));
        }
    }
    complete_inputs(&c);
    return c;
}

kt_case kt_clone(const kt_case *from)
{
    kt_case c = *from;
    for (int k = 0; k < c.count; k++) {
        c.t[k].value = calloc((size_t)c.t[k].n + 1, sizeof(double));
        assert_non_null(c.t[k].value);
        memcpy(c.t[k].value, from->t[k].value, (size_t)c.t[k].n * sizeof(double));
    }
    return c;
}

void kt_clear(kt_case *c)
{
    for (int k = 0; k < c->count; k++)
        free(c->t[k].value);
    *c = (kt_case){0};
}

static kt_setting make_setting(tt_dtype dtype, const char *variant, int threads)
{
    return (kt_setting){.dtype = dtype,
                        .variant = variant,
                        .threads = threads,
                        .tile = {32, 32, 32},
                        .stream_bytes = -1};
}

kt_setting kt_f64(void)
{
    return make_setting(TT_F64, "reference", 1);
}

kt_setting kt_f32(const char *variant)
{
    return make_setting(TT_F32, variant, 2);
}

kt_setting kt_bf16(const char *variant)
{
    return make_setting(TT_BF16, variant, 2);
}

double kt_largest(const kt_tensor *t)
{
    double max = 0;
    for (int64_t i = 0; i < t->n; i++)
        max = fmax(max, fabs(t->value[i]));
    return max;
}

double kt_largest_row_norm(const double *x, int64_t rows, int64_t n)
{
    double max = 0;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++)
            sum += x[i * n + j] * x[i * n + j];
        max = fmax(max, sqrt(sum));
    }
    return max;
}

static const char *selected;

void kt_select(int argc, char **argv)
{
    if (argc == 3) {
        cmocka_set_test_filter(argv[1]);
        selected = argv[2];
    }
}

kt_setting kt_setting_of(const tt_variant_info *info)
{
    return make_setting(info->dtype, info->name, 2);
}

bool kt_is_testable(const tt_variant_info *info, tt_op op)
{
    return info->op == op && info->dtype != TT_F64 && tt_variant_available(info) &&
           (selected == NULL || strcmp(info->name, selected) == 0);
}

/* The element type of tensor k in a context that computes in `compute`. */
static tt_dtype element_type(const kt_case *c, int k, tt_dtype compute)
{
    if (c->t[k].kind == KT_INDEX)
        return TT_I32;
    if (c->t[k].weight)
        return TT_BF16;
    return compute == TT_BF16 && !c->t[k].act ? TT_F32 : compute;
}

bool kt_reads_weights(const kt_options *with, const char *variant)
{
    for (size_t i = 0; i < tt_variant_count() && with->bf16_weights; i++)
        if (strcmp(tt_variant_at(i)->name, variant) == 0)
            return tt_variant_at(i)->library == TT_LIBRARY_NONE;
    return true;
}

/* Converts between the case's doubles and tensor bytes. */
static void convert(const kt_tensor *t, tt_dtype type, void *bytes, bool to_tensor)
{
    for (int64_t i = 0; i < t->n; i++) {
        int32_t *index = bytes;
        float *f32 = bytes;
        double *f64 = bytes;
        uint16_t *bf16 = bytes;
        if (type == TT_I32 && to_tensor)
            index[i] = (int32_t)t->value[i];
        else if (type == TT_I32)
            t->value[i] = index[i];
        else if (type == TT_F32 && to_tensor)
            f32[i] = (float)t->value[i];
        else if (type == TT_F32)
            t->value[i] = (double)f32[i];
        else if (type == TT_BF16 && to_tensor)
            bf16[i] = tt_bf16_from_f32((float)t->value[i]);
        else if (type == TT_BF16)
            t->value[i] = (double)tt_bf16_to_f32(bf16[i]);
        else if (to_tensor)
            f64[i] = t->value[i];
        else
            t->value[i] = f64[i];
    }
}

static void move_tensor(const kt_case *c, int k, tt_context *context, void *tensor, bool to_tensor)
{
    tt_dtype type = element_type(c, k, tt_context_compute(context));
    size_t bytes = (size_t)c->t[k].n * tt_dtype_size(type);
    void *host = malloc(bytes + 8);
    assert_non_null(host);
    if (to_tensor) {
        convert(&c->t[k], type, host, true);
        assert_int_equal(tt_tensor_write(context, tensor, host, bytes), TT_OK);
    } else {
        assert_int_equal(tt_tensor_read(context, host, tensor, bytes), TT_OK);
        convert(&c->t[k], type, host, false);
    }
    free(host);
}

/* Weights packed ahead, for the cases that want them and the variants that can. */
static void pack_weights(const kt_case *c, tt_context *context, void *const tensor[], kt_args *args)
{
    bool forward = c->op == TT_OP_LINEAR_FORWARD;
    if (!c->with.packed || (!forward && c->op != TT_OP_LINEAR_DGRAD))
        return;
    size_t bytes = tt_linear_packed_bytes(context, c->op, c->size[1], c->size[2]);
    void *packed = NULL;
    if (bytes == 0)
        return;
    assert_int_equal(tt_tensor_alloc(context, bytes, &packed), TT_OK);
    assert_int_equal(tt_linear_pack(context, c->op, c->size[1], c->size[2], tensor[1],
                                    c->with.bf16_weights, packed),
                     TT_OK);
    if (forward) {
        args->linear_forward.packed = packed;
        args->linear_forward.w = NULL; /* what is packed is enough */
    } else {
        args->linear_dgrad.packed = packed;
        args->linear_dgrad.w = NULL;
    }
}

/* Where aliasing is asked for, the output tensor starts as the input that it stands for. */
static int alias_of(const kt_case *c, int k)
{
    if (!c->with.in_place)
        return k;
    if ((c->op == TT_OP_LAYERNORM_FORWARD && k == 7) ||
        (c->op == TT_OP_RMSNORM_FORWARD && k == 5) || (c->op == TT_OP_SWIGLU_BACKWARD && k == 2))
        return 0;
    if (c->op == TT_OP_ADAMW && k >= 4 && k <= 6)
        return k - 4;
    if (c->op == TT_OP_ADD && k == 2)
        return 0;
    if (c->op == TT_OP_GELU_BACKWARD && k == 2)
        return 1;
    if (c->op == TT_OP_SOFTMAX_XENT && k == 3)
        return 0;
    return k;
}

static tt_status run_in(kt_case *c, tt_context *context, bool misaligned)
{
    void *tensor[KT_TENSORS] = {NULL};
    kt_results results = {0};
    kt_args args;
    for (int k = 0; k < c->count; k++) {
        if (c->t[k].kind == KT_RESULT)
            continue;
        size_t element = tt_dtype_size(element_type(c, k, tt_context_compute(context)));
        size_t off = misaligned ? element : 0;
        assert_int_equal(tt_tensor_alloc(context, (size_t)c->t[k].n * element + off, &tensor[k]),
                         TT_OK);
        tensor[k] = (char *)tensor[k] + off;
        move_tensor(c, alias_of(c, k), context, tensor[k], true);
    }
    kt_build(c, tensor, &results, &args);
    pack_weights(c, context, tensor, &args);
    tt_status status = tt_op_run(context, c->op, &args);
    if (status != TT_OK)
        return status;
    for (int k = 0; k < c->count; k++) {
        if (c->t[k].kind == KT_OUTPUT || c->t[k].kind == KT_BOTH)
            move_tensor(c, k, context, tensor[k], false);
        if (c->t[k].kind == KT_RESULT && c->op == TT_OP_STATS)
            memcpy(c->t[k].value,
                   (double[]){results.stats.sum_squares, (double)results.stats.nonfinite},
                   2 * sizeof(double));
        else if (c->t[k].kind == KT_RESULT)
            memcpy(c->t[k].value,
                   (double[]){results.verdict.update_squares, (double)results.verdict.nonfinite},
                   2 * sizeof(double));
    }
    return TT_OK;
}

tt_status kt_try(kt_case *c, const kt_setting *setting)
{
    tt_context_options options;
    tt_context *context = NULL;
    tt_context_options_init(&options);
    options.dtype = setting->dtype == TT_BF16 ? TT_F32 : setting->dtype;
    options.threads = setting->threads;
    options.guard = setting->guard;
    for (int k = 0; k < c->count; k++)
        options.tensor_bytes += (size_t)c->t[k].n * 8 + 128;
    if (c->with.packed) /* padded to whole panels */
        options.tensor_bytes += (size_t)((c->size[1] + 64) * (c->size[2] + 64) * 8);
    assert_int_equal(tt_context_create(&options, &context), TT_OK);
    assert_int_equal(tt_context_set_compute(context, setting->dtype), TT_OK);
    tt_status status = tt_context_set_variants(context, setting->variant);
    if (status == TT_OK)
        status = tt_context_set_tile(context, setting->tile);
    if (setting->stream_bytes >= 0)
        context->exec.stream_bytes = (size_t)setting->stream_bytes;
    if (setting->scratch_bytes > 0)
        context->exec.scratch_stride = setting->scratch_bytes;
    if (status == TT_OK)
        status = run_in(c, context, setting->misaligned);
    tt_context_destroy(context);
    return status;
}

void kt_run(kt_case *c, const kt_setting *setting)
{
    tt_status status = kt_try(c, setting);
    if (status != TT_OK)
        fail_msg("%s %s: %s", tt_op_name(c->op), setting->variant, tt_error_message());
}

bool kt_same_bits(const kt_case *a, const kt_case *b)
{
    for (int k = 0; k < a->count; k++) {
        if (a->t[k].kind == KT_INPUT || a->t[k].kind == KT_INDEX)
            continue;
        for (int64_t i = 0; i < a->t[k].n; i++) {
            if (memcmp(&a->t[k].value[i], &b->t[k].value[i], sizeof(double)) != 0) {
                printf("%s: tensor %d element %lld: %.9g is not %.9g\n", tt_op_name(a->op), k,
                       (long long)i, a->t[k].value[i], b->t[k].value[i]);
                return false;
            }
        }
    }
    return true;
}
