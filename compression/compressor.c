/* The compressor: which variants run, and what callers must hold to. */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

struct tt_compressor {
    tt_context *context;
    tt_codec_exec exec;
    size_t table[TT_CODEC_OP_COUNT]; /* indices into variants */
};

typedef struct codec_variant {
    tt_codec_variant_info info;
    tt_codec_fn run;
} codec_variant;

static const codec_variant variants[] = {
#define TT_CODEC_VARIANT(op, name, isa, function) {{TT_CODEC_##op, name, isa}, function},
#include "variants.def"
#undef TT_CODEC_VARIANT
};

enum { VARIANTS = sizeof variants / sizeof *variants };

static const char *const op_names[TT_CODEC_OP_COUNT] = {"encode", "decode", "adamw_encoded"};

const char *tt_codec_op_name(tt_codec_op op)
{
    return (unsigned)op < TT_CODEC_OP_COUNT ? op_names[op] : "?";
}

/* ---- variants ----------------------------------------------------------------------------- */

size_t tt_codec_variant_count(void)
{
    return VARIANTS;
}

const tt_codec_variant_info *tt_codec_variant_at(size_t index)
{
    return index < VARIANTS ? &variants[index].info : NULL;
}

const tt_codec_variant_info *tt_compressor_variant(const tt_compressor *compressor, tt_codec_op op)
{
    return (unsigned)op < TT_CODEC_OP_COUNT ? &variants[compressor->table[op]].info : NULL;
}

/* "reference, blocked_v1, ...": those that this machine can run. */
static void list_names(char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < VARIANTS && used < bytes; i++) {
        if (variants[i].info.op != TT_CODEC_ENCODE || !tt_isa_available(variants[i].info.isa))
            continue;
        int wrote =
            snprintf(out + used, bytes - used, "%s%s", used > 0 ? ", " : "", variants[i].info.name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}

tt_status tt_compressor_set_variants(tt_compressor *compressor, const char *name)
{
    char names[256];
    size_t table[TT_CODEC_OP_COUNT];
    bool any = name != NULL && strcmp(name, "auto") == 0, found = any;
    if (compressor == NULL || name == NULL)
        return tt_fail(TT_EINVAL, "set_variants: no compressor or no name");
    list_names(names, sizeof names);
    memcpy(table, compressor->table, sizeof table);
    for (size_t i = 0; i < VARIANTS; i++) { /* a later one is preferred */
        bool here = tt_isa_available(variants[i].info.isa);
        if (!any && strcmp(variants[i].info.name, name) != 0)
            continue;
        if (!any && !here)
            return tt_fail(TT_EUNSUPPORTED,
                           "codec variant '%s' needs %s, which this machine lacks; there are: "
                           "auto, %s",
                           name, tt_isa_name(variants[i].info.isa), names);
        if (here)
            table[variants[i].info.op] = i;
        found = true;
    }
    if (!found)
        return tt_fail(TT_ENOTFOUND, "no codec has a variant '%s'; there are: auto, %s", name,
                       names);
    memcpy(compressor->table, table, sizeof table);
    return TT_OK;
}

/* ---- the handle --------------------------------------------------------------------------- */

tt_status tt_compressor_create(tt_context *context, tt_compressor **out)
{
    if (context == NULL || out == NULL)
        return tt_fail(TT_EINVAL, "compressor_create: no context or no place for the result");
    if (tt_context_dtype(context) != TT_F32)
        return tt_fail(TT_EINVAL, "a compressor works on f32, its context on %s",
                       tt_dtype_name(tt_context_dtype(context)));
    tt_compressor *compressor = calloc(1, sizeof *compressor);
    tt_codec_partial *partials = calloc(TT_CODEC_SUM_ROUND, sizeof *partials);
    if (compressor == NULL || partials == NULL) {
        free(compressor);
        free(partials);
        return tt_fail(TT_ENOMEM, "a compressor cannot be had");
    }
    compressor->context = context;
    compressor->exec = (tt_codec_exec){tt_context_threads(context), partials};
    *out = compressor;
    return tt_compressor_set_variants(compressor, "auto");
}

void tt_compressor_destroy(tt_compressor *compressor)
{
    if (compressor == NULL)
        return;
    free(compressor->exec.partials);
    free(compressor);
}

/* ---- what callers must hold to ------------------------------------------------------------ */

static tt_status check_encoded(tt_codec_op op, const char *what, const tt_encoded *e, int64_t n)
{
    const char *name = tt_codec_op_name(op);
    if (e == NULL)
        return tt_fail(TT_EINVAL, "%s: %s is NULL", name, what);
    if ((unsigned)e->codec >= TT_CODEC_COUNT)
        return tt_fail(TT_EINVAL, "%s: %s has no codec %d", name, what, (int)e->codec);
    if (e->n < 0 || e->n > INT64_MAX / 16 || e->n != n)
        return tt_fail(TT_EINVAL, "%s: %s has %lld elements instead of %lld", name, what,
                       (long long)e->n, (long long)n);
    if (tt_codec_has_scales(e->codec) &&
        (e->block < TT_CODEC_BLOCK_MIN || e->block > TT_CODEC_BLOCK_MAX ||
         (e->block & (e->block - 1)) != 0))
        return tt_fail(TT_EINVAL, "%s: %s has blocks of %lld; a power of two from %d to %d is due",
                       name, what, (long long)e->block, TT_CODEC_BLOCK_MIN, TT_CODEC_BLOCK_MAX);
    if (n > 0 && (e->data == NULL || (uintptr_t)e->data % sizeof(float) != 0))
        return tt_fail(TT_EINVAL, "%s: %s has no data, or it is not aligned to 4 bytes", name,
                       what);
    return TT_OK;
}

/* Bytes that the variants touch: F32 has nothing after its elements. */
static size_t extent(const tt_encoded *e)
{
    return e->codec == TT_CODEC_F32 ? (size_t)e->n * sizeof(float)
                                    : tt_codec_bytes(e->codec, e->block, e->n);
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return a_bytes > 0 && b_bytes > 0 && x < y + b_bytes && y < x + a_bytes;
}

/* Both sides of a moment: apart, or in place with the same layout. */
static tt_status check_sides(const char *what, const tt_encoded *from, const tt_encoded *to)
{
    bool same = from->data == to->data && from->codec == to->codec &&
                (!tt_codec_has_scales(to->codec) || from->block == to->block);
    if (!same && overlap(from->data, extent(from), to->data, extent(to)))
        return tt_fail(TT_EINVAL, "adamw_encoded: %s overlaps its next side in another layout",
                       what);
    return TT_OK;
}

static tt_status check_adamw(const tt_adamw_encoded_args *g)
{
    const tt_codec_op op = TT_CODEC_ADAMW;
    if (g == NULL || g->scalars == NULL || g->verdict == NULL || g->n < 0)
        return tt_fail(TT_EINVAL, "adamw_encoded: arguments, scalars or verdict are NULL, or n is "
                                  "negative");
    if (g->n > 0 && (g->p == NULL || g->g == NULL || g->p_next == NULL))
        return tt_fail(TT_EINVAL, "adamw_encoded: a tensor is NULL");
    tt_status status = check_encoded(op, "m", &g->m, g->n);
    if (status == TT_OK)
        status = check_encoded(op, "v", &g->v, g->n);
    if (status == TT_OK)
        status = check_encoded(op, "m_next", &g->m_next, g->n);
    if (status == TT_OK)
        status = check_encoded(op, "v_next", &g->v_next, g->n);
    if (status == TT_OK &&
        (g->m.codec == TT_CODEC_UINT8_UP || g->m_next.codec == TT_CODEC_UINT8_UP))
        status = tt_fail(TT_EINVAL, "adamw_encoded: the first moment has signs, uint8_up has none");
    if (status == TT_OK)
        status = check_sides("m", &g->m, &g->m_next);
    return status == TT_OK ? check_sides("v", &g->v, &g->v_next) : status;
}

/* ---- operations --------------------------------------------------------------------------- */

static tt_status run(tt_compressor *compressor, tt_codec_op op, const void *args,
                     const tt_encoded *written[2])
{
    tt_status status = tt_tensor_open(compressor->context);
    if (status != TT_OK)
        return status;
    variants[compressor->table[op]].run(&compressor->exec, args);
    for (int i = 0; i < 2; i++) {
        const tt_encoded *e = written[i];
        if (e == NULL || e->codec == TT_CODEC_F32 || e->n == 0)
            continue;
        /* The padding is part of what a digest of the tensor covers. */
        size_t codes = (size_t)e->n * tt_codec_code_size(e->codec);
        size_t scales = tt_codec_scales_offset(e->codec, e->n);
        size_t used = tt_codec_has_scales(e->codec)
                          ? scales + (size_t)((e->n - 1) / e->block + 1) * sizeof(float)
                          : scales;
        memset((char *)e->data + codes, 0, scales - codes);
        memset((char *)e->data + used, 0, tt_codec_bytes(e->codec, e->block, e->n) - used);
    }
    tt_tensor_close(compressor->context);
    return TT_OK;
}

tt_status tt_encode(tt_compressor *compressor, const void *x, const tt_encoded *to,
                    tt_codec_loss *loss)
{
    tt_codec_loss found = {0};
    if (compressor == NULL || to == NULL || (to->n > 0 && x == NULL))
        return tt_fail(TT_EINVAL, "encode: no compressor, tensor or place for the result");
    tt_status status = check_encoded(TT_CODEC_ENCODE, "the result", to, to->n);
    if (status != TT_OK)
        return status;
    if (overlap(x, (size_t)to->n * sizeof(float), to->data, extent(to)))
        return tt_fail(TT_EINVAL, "encode: the tensor overlaps the result");
    tt_encode_args args = {x, *to, loss == NULL ? NULL : &found};
    status = run(compressor, TT_CODEC_ENCODE, &args, (const tt_encoded *[2]){to, NULL});
    if (status == TT_OK && loss != NULL)
        tt_codec_loss_add(loss, &found);
    return status;
}

tt_status tt_decode(tt_compressor *compressor, const tt_encoded *from, void *x)
{
    if (compressor == NULL || from == NULL || (from->n > 0 && x == NULL))
        return tt_fail(TT_EINVAL, "decode: no compressor, tensor or place for the result");
    tt_status status = check_encoded(TT_CODEC_DECODE, "the tensor", from, from->n);
    if (status != TT_OK)
        return status;
    if (overlap(x, (size_t)from->n * sizeof(float), from->data, extent(from)))
        return tt_fail(TT_EINVAL, "decode: the result overlaps the tensor");
    tt_decode_args args = {*from, x};
    return run(compressor, TT_CODEC_DECODE, &args, (const tt_encoded *[2]){NULL, NULL});
}

tt_status tt_adamw_encoded(tt_compressor *compressor, const tt_adamw_encoded_args *args)
{
    tt_codec_loss losses[3] = {{0}};
    tt_verdict verdict = {0};
    if (compressor == NULL)
        return tt_fail(TT_EINVAL, "adamw_encoded: no compressor");
    tt_status status = check_adamw(args);
    if (status != TT_OK)
        return status;
    tt_adamw_encoded_args all = *args;
    tt_codec_loss *to[3] = {args->m_loss, args->v_loss, args->u_loss};
    all.verdict = &verdict;
    if (to[0] != NULL || to[1] != NULL || to[2] != NULL) {
        all.m_loss = &losses[0];
        all.v_loss = &losses[1];
        all.u_loss = &losses[2];
    }
    status = run(compressor, TT_CODEC_ADAMW, &all,
                 (const tt_encoded *[2]){&args->m_next, &args->v_next});
    if (status != TT_OK)
        return status;
    args->verdict->nonfinite += verdict.nonfinite;
    args->verdict->update_squares += verdict.update_squares;
    for (int i = 0; i < 3; i++)
        if (to[i] != NULL)
            tt_codec_loss_add(to[i], &losses[i]);
    return TT_OK;
}
