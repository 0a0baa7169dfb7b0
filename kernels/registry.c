/* Operations and their variants: variants.def as a table. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

static const tt_variant variants[] = {
#define TT_VARIANT(id, name, dtype, isa, numerics, tiled, function)                                \
    {{TT_OP_##id, name, dtype, isa, TT_LIBRARY_NONE, numerics, tiled}, function},
#define TT_RIVAL(id, name, dtype, isa, library, function)                                          \
    {{TT_OP_##id, name, dtype, isa, library, TT_NUMERICS_REPEATABLE, false}, function},
#define TT_PACKER(name, dtype, isa, bytes_function, pack_function)
#include "variants.def"
#undef TT_VARIANT
#undef TT_RIVAL
#undef TT_PACKER
};

/* Ends with an empty one. */
static const tt_packer packers[] = {
#define TT_VARIANT(id, name, dtype, isa, numerics, tiled, function)
#define TT_RIVAL(id, name, dtype, isa, library, function)
#define TT_PACKER(name, dtype, isa, bytes_function, pack_function)                                 \
    {name, dtype, isa, bytes_function, pack_function},
#include "variants.def"
#undef TT_VARIANT
#undef TT_RIVAL
#undef TT_PACKER
    {0},
};

static const char *const op_names[TT_OP_COUNT] = {
#define TT_OP(id, name, args) #name,
#include <trimtab/kernels_ops.def>
#undef TT_OP
};

const tt_variant *tt_variants(size_t *count)
{
    *count = sizeof variants / sizeof *variants;
    return variants;
}

const char *tt_op_name(tt_op op)
{
    return (unsigned)op < TT_OP_COUNT ? op_names[op] : "?";
}

const char *tt_numerics_name(tt_numerics numerics)
{
    static const char *const names[] = {"?", "exact", "repeatable", "fast"};
    return (unsigned)numerics <= TT_NUMERICS_FAST ? names[numerics] : names[0];
}

size_t tt_variant_count(void)
{
    return sizeof variants / sizeof *variants;
}

const tt_variant_info *tt_variant_at(size_t index)
{
    return index < tt_variant_count() ? &variants[index].info : NULL;
}

bool tt_variant_available(const tt_variant_info *info)
{
    return tt_isa_available(info->isa) && tt_library_lacks(info->library)[0] == '\0';
}

/* The type in which `op` has rows when a context computes in `compute`. */
static tt_dtype row_dtype(tt_op op, tt_dtype compute)
{
    if (compute != TT_BF16)
        return compute;
    for (size_t i = 0; i < tt_variant_count(); i++)
        if (variants[i].info.op == op && variants[i].info.dtype == TT_BF16)
            return TT_BF16;
    return TT_F32;
}

const tt_variant *tt_variant_best(tt_op op, tt_dtype compute, tt_numerics numerics)
{
    tt_dtype dtype = row_dtype(op, compute);
    /* From the end: no library is loaded only to be passed over. */
    for (size_t i = tt_variant_count(); i-- > 0;)
        if (variants[i].info.op == op && variants[i].info.dtype == dtype &&
            variants[i].info.numerics <= numerics && tt_variant_available(&variants[i].info))
            return &variants[i];
    return NULL;
}

static const tt_variant *find_variant(tt_op op, tt_dtype compute, const char *name)
{
    tt_dtype dtype = row_dtype(op, compute);
    for (size_t i = 0; i < tt_variant_count(); i++)
        if (variants[i].info.op == op && variants[i].info.dtype == dtype &&
            strcmp(variants[i].info.name, name) == 0)
            return &variants[i];
    return NULL;
}

/* What row `compute` of the context's table is for; false where the context has no such row. */
static bool compute_dtype(const tt_context *context, int compute, tt_dtype *dtype)
{
    *dtype = compute == TT_COMPUTE_BF16 ? TT_BF16 : context->dtype;
    return compute == TT_COMPUTE_REAL || context->dtype == TT_F32;
}

/* "reference, blocked_v1, ...": what this machine can run for `op` in any of the context's compute
 * types, each name once. */
static void list_names(const tt_context *context, tt_op op, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < tt_variant_count() && used < bytes; i++) {
        const tt_variant_info *info = &variants[i].info;
        bool listed = false;
        for (size_t j = 0; j < i; j++)
            listed = listed ||
                     (variants[j].info.op == op && strcmp(variants[j].info.name, info->name) == 0);
        if (listed || info->op != op || !tt_variant_available(info) ||
            (info->dtype == TT_F64) != (context->dtype == TT_F64))
            continue;
        int wrote = snprintf(out + used, bytes - used, "%s%s", used > 0 ? ", " : "", info->name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}

const tt_variant_info *tt_context_variant(const tt_context *context, tt_op op)
{
    return (unsigned)op < TT_OP_COUNT ? &tt_context_current(context, op)->info : NULL;
}

/* The context's variants of `op` so named, by compute type; false when there is none. */
static bool find_variants(const tt_context *context, tt_op op, const char *name,
                          const tt_variant *found[TT_COMPUTES])
{
    bool any = false;
    for (int compute = 0; compute < TT_COMPUTES; compute++) {
        tt_dtype dtype;
        found[compute] =
            compute_dtype(context, compute, &dtype) ? find_variant(op, dtype, name) : NULL;
        any = any || found[compute] != NULL;
    }
    return any;
}

static tt_status check_available(const tt_context *context, tt_op op, const tt_variant *variant)
{
    char names[256];
    if (variant == NULL || tt_variant_available(&variant->info))
        return TT_OK;
    list_names(context, op, names, sizeof names);
    if (tt_isa_available(variant->info.isa))
        return tt_fail(TT_EUNSUPPORTED, "%s variant '%s' needs %s: %s; there are: auto, %s",
                       tt_op_name(op), variant->info.name, tt_library_name(variant->info.library),
                       tt_library_lacks(variant->info.library), names);
    return tt_fail(TT_EUNSUPPORTED,
                   "%s variant '%s' needs %s, which this machine lacks; there are: auto, %s",
                   tt_op_name(op), variant->info.name, tt_isa_name(variant->info.isa), names);
}

void tt_context_choose_best(tt_context *context, tt_op op)
{
    for (int compute = 0; compute < TT_COMPUTES; compute++) {
        tt_dtype dtype;
        if (compute_dtype(context, compute, &dtype))
            context->table[compute][op] = tt_variant_best(op, dtype, context->numerics);
    }
}

tt_status tt_context_set_variant(tt_context *context, tt_op op, const char *name)
{
    char names[256];
    const tt_variant *found[TT_COMPUTES];
    if ((unsigned)op >= TT_OP_COUNT || name == NULL)
        return tt_fail(TT_EINVAL, "set_variant: no operation %d or no name", (int)op);
    if (strcmp(name, "auto") == 0) {
        tt_context_choose_best(context, op);
        return TT_OK;
    }
    if (!find_variants(context, op, name, found)) {
        list_names(context, op, names, sizeof names);
        return tt_fail(TT_ENOTFOUND, "%s has no %s variant '%s'; there are: auto, %s",
                       tt_op_name(op), tt_dtype_name(context->dtype), name, names);
    }
    for (int compute = 0; compute < TT_COMPUTES; compute++)
        if (check_available(context, op, found[compute]) != TT_OK)
            return TT_EUNSUPPORTED;
    for (int compute = 0; compute < TT_COMPUTES; compute++)
        if (found[compute] != NULL)
            context->table[compute][op] = found[compute];
    return TT_OK;
}

tt_status tt_context_set_variants(tt_context *context, const char *name)
{
    char names[256];
    bool any = name != NULL && strcmp(name, "auto") == 0, known = any;
    const tt_variant *found[TT_COMPUTES];
    if (name == NULL)
        return tt_fail(TT_EINVAL, "set_variants: no name");
    for (int op = 0; op < TT_OP_COUNT && !any; op++) {
        if (!find_variants(context, (tt_op)op, name, found))
            continue;
        known = true;
        for (int compute = 0; compute < TT_COMPUTES; compute++) /* nothing changes unless all can */
            if (check_available(context, (tt_op)op, found[compute]) != TT_OK)
                return TT_EUNSUPPORTED;
    }
    if (!known) {
        list_names(context, (tt_op)0, names, sizeof names);
        return tt_fail(TT_ENOTFOUND, "no operation has a %s variant '%s'; there are: auto, %s",
                       tt_dtype_name(context->dtype), name, names);
    }
    for (int op = 0; op < TT_OP_COUNT; op++)
        if (any || find_variants(context, (tt_op)op, name, found))
            (void)tt_context_set_variant(context, (tt_op)op, name);
    return TT_OK;
}

/* The packer of what the context runs for `op`; NULL when it packs nothing ahead. */
static const tt_packer *packer_of(const tt_context *context, tt_op op)
{
    if (op != TT_OP_LINEAR_FORWARD && op != TT_OP_LINEAR_DGRAD)
        return NULL;
    const tt_variant_info *info = &tt_context_current(context, op)->info;
    for (const tt_packer *packer = packers; packer->name != NULL; packer++)
        if (packer->dtype == info->dtype && strcmp(packer->name, info->name) == 0)
            return packer;
    return NULL;
}

size_t tt_linear_packed_bytes(const tt_context *context, tt_op op, int64_t n, int64_t k)
{
    const tt_packer *packer = packer_of(context, op);
    return packer != NULL ? packer->bytes(op, n, k) : 0;
}

size_t tt_linear_packed_max(tt_op op, tt_dtype compute, int64_t n, int64_t k)
{
    size_t most = 0;
    if (op != TT_OP_LINEAR_FORWARD && op != TT_OP_LINEAR_DGRAD)
        return 0;
    for (const tt_packer *packer = packers; packer->name != NULL; packer++) {
        bool can_ask = packer->dtype == compute && tt_isa_available(packer->isa);
        size_t bytes = can_ask ? packer->bytes(op, n, k) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

static tt_status check_weight(const tt_context *context, tt_op op, bool bf16)
{
    const tt_variant_info *info = &tt_context_current(context, op)->info;
    if (!bf16 || info->library == TT_LIBRARY_NONE)
        return TT_OK;
    return tt_fail(
        TT_EUNSUPPORTED,
        "%s: the weight is bf16, and variant '%s' reads f32; choose one without a library",
        tt_op_name(op), info->name);
}

static bool has_bf16_weight(tt_op op, const void *args)
{
    if (op == TT_OP_LINEAR_FORWARD)
        return ((const tt_linear_forward_args *)args)->w_bf16;
    return op == TT_OP_LINEAR_DGRAD && ((const tt_linear_dgrad_args *)args)->w_bf16;
}

tt_status tt_linear_pack(tt_context *context, tt_op op, int64_t n, int64_t k, const void *w,
                         bool w_bf16, void *packed)
{
    const tt_packer *packer = packer_of(context, op);
    if (packer == NULL)
        return tt_fail(TT_EUNSUPPORTED, "%s: its variant packs no weights ahead", tt_op_name(op));
    if (n < 0 || k < 0 || (n * k > 0 && (w == NULL || packed == NULL)))
        return tt_fail(TT_EINVAL, "linear_pack: a size is negative or a tensor is NULL");
    tt_status status = check_weight(context, op, w_bf16);
    if (status == TT_OK)
        status = tt_tensor_open(context);
    if (status != TT_OK)
        return status;
    status = packer->pack(&context->exec, op, n, k, w, w_bf16, packed);
    tt_tensor_close(context);
    return status;
}

tt_status tt_op_run(tt_context *context, tt_op op, const void *args)
{
    if (context == NULL || (unsigned)op >= TT_OP_COUNT || args == NULL)
        return tt_fail(TT_EINVAL, "op_run: no context, arguments or operation %d", (int)op);
    tt_status status = tt_op_validate(op, args);
    if (status == TT_OK)
        status = check_weight(context, op, has_bf16_weight(op, args));
    if (status == TT_OK)
        status = tt_tensor_open(context);
    if (status != TT_OK)
        return status;
    status = tt_op_validate_data(op, args);
    if (status == TT_OK)
        status = tt_context_current(context, op)->run(&context->exec, args);
    tt_tensor_close(context);
    return status;
}
