/* Operations and their variants: variants.def as a table. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

static const tt_variant variants[] = {
#define TT_VARIANT(id, name, dtype, isa, numerics, tiled, function)                                \
    {{TT_OP_##id, name, dtype, isa, numerics, tiled}, function},
#include "variants.def"
#undef TT_VARIANT
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

size_t tt_variant_count(void)
{
    return sizeof variants / sizeof *variants;
}

const tt_variant_info *tt_variant_at(size_t index)
{
    return index < tt_variant_count() ? &variants[index].info : NULL;
}

const tt_variant *tt_variant_best(tt_op op, tt_dtype dtype)
{
    const tt_variant *best = NULL;
    for (size_t i = 0; i < tt_variant_count(); i++)
        if (variants[i].info.op == op && variants[i].info.dtype == dtype &&
            tt_isa_available(variants[i].info.isa))
            best = &variants[i];
    return best;
}

static const tt_variant *find_variant(tt_op op, tt_dtype dtype, const char *name)
{
    for (size_t i = 0; i < tt_variant_count(); i++)
        if (variants[i].info.op == op && variants[i].info.dtype == dtype &&
            strcmp(variants[i].info.name, name) == 0)
            return &variants[i];
    return NULL;
}

/* "reference, blocked_v1, ...": those of `op` (any if TT_OP_COUNT) that this machine can run. */
static void list_names(tt_op op, tt_dtype dtype, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < tt_variant_count() && used < bytes; i++) {
        const tt_variant_info *info = &variants[i].info;
        if (info->dtype != dtype || !tt_isa_available(info->isa) ||
            info->op != (op == TT_OP_COUNT ? (tt_op)0 : op))
            continue;
        int wrote = snprintf(out + used, bytes - used, "%s%s", used > 0 ? ", " : "", info->name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}

const tt_variant_info *tt_context_variant(const tt_context *context, tt_op op)
{
    return (unsigned)op < TT_OP_COUNT ? &context->table[op]->info : NULL;
}

tt_status tt_context_set_variant(tt_context *context, tt_op op, const char *name)
{
    char names[256];
    if ((unsigned)op >= TT_OP_COUNT || name == NULL)
        return tt_fail(TT_EINVAL, "set_variant: no operation %d or no name", (int)op);
    if (strcmp(name, "auto") == 0) {
        context->table[op] = tt_variant_best(op, context->dtype);
        return TT_OK;
    }
    const tt_variant *variant = find_variant(op, context->dtype, name);
    list_names(op, context->dtype, names, sizeof names);
    if (variant == NULL)
        return tt_fail(TT_ENOTFOUND, "%s has no %s variant '%s'; there are: auto, %s",
                       tt_op_name(op), tt_dtype_name(context->dtype), name, names);
    if (!tt_isa_available(variant->info.isa))
        return tt_fail(TT_EUNSUPPORTED,
                       "%s variant '%s' needs %s, which this machine lacks; there are: auto, %s",
                       tt_op_name(op), name, tt_isa_name(variant->info.isa), names);
    context->table[op] = variant;
    return TT_OK;
}

tt_status tt_context_set_variants(tt_context *context, const char *name)
{
    char names[256];
    bool found = false, any = name != NULL && strcmp(name, "auto") == 0;
    if (name == NULL)
        return tt_fail(TT_EINVAL, "set_variants: no name");
    for (int op = 0; op < TT_OP_COUNT; op++) {
        const tt_variant *variant = find_variant((tt_op)op, context->dtype, name);
        if (!any && variant == NULL)
            continue;
        /* Nothing changes unless all can. */
        if (variant != NULL && !tt_isa_available(variant->info.isa))
            return tt_context_set_variant(context, (tt_op)op, name);
        found = true;
    }
    if (!found) {
        list_names(TT_OP_COUNT, context->dtype, names, sizeof names);
        return tt_fail(TT_ENOTFOUND, "no operation has a %s variant '%s'; there are: auto, %s",
                       tt_dtype_name(context->dtype), name, names);
    }
    for (int op = 0; op < TT_OP_COUNT; op++)
        if (any || find_variant((tt_op)op, context->dtype, name) != NULL)
            (void)tt_context_set_variant(context, (tt_op)op, name);
    return TT_OK;
}

tt_status tt_op_run(tt_context *context, tt_op op, const void *args)
{
    if (context == NULL || (unsigned)op >= TT_OP_COUNT || args == NULL)
        return tt_fail(TT_EINVAL, "op_run: no context, arguments or operation %d", (int)op);
    tt_status status = tt_op_validate(op, args);
    if (status != TT_OK)
        return status;
    status = tt_tensor_open(context);
    if (status != TT_OK)
        return status;
    status = tt_op_validate_data(op, args);
    if (status == TT_OK)
        status = context->table[op]->run(&context->exec, args);
    tt_tensor_close(context);
    return status;
}
