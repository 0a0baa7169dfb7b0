/* The three products of a linear layer as calls of oneDNN's product in bf16. */
#include "epilogue.h"
#include "onednn.h"

/* Packed or not, the weights of a product that is forward or goes back. */
static tt_onednn_product of_weights(tt_op op, int64_t n, int64_t k, int threads)
{
    bool forward = op == TT_OP_LINEAR_FORWARD;
    return (tt_onednn_product){.columns = forward ? n : k,
                               .k = forward ? k : n,
                               .threads = threads,
                               .flags =
                                   TT_ONEDNN_WEIGHTS | (forward ? TT_ONEDNN_B_TRANSPOSED : 0u)};
}

tt_status tt_linear_forward_bf16__onednn(const tt_exec *exec, const void *args)
{
    const tt_linear_forward_args *g = args;
    if (g->m == 0 || g->n == 0 || g->k == 0)
        return tt_linear_forward_bf16__reference(exec, args); /* no product */
    tt_onednn_product product = of_weights(TT_OP_LINEAR_FORWARD, g->n, g->k, exec->threads);
    product.rows = g->m;
    product.flags |= (g->bias != NULL ? TT_ONEDNN_BIAS : 0u) | (g->real_y ? TT_ONEDNN_F32 : 0u);
    tt_status status = tt_onednn_run(
        &product, &(tt_onednn_operands){
                      .a = g->x, .b = g->w, .bias = g->bias, .packed = g->packed, .out = g->y});
    return status != TT_OK ? status : tt_rival_gelu(exec, TT_BF16, g->m * g->n, g->y, g->gelu);
}

/* By as many rows as fit into the scratch in f32: what is multiplied by the slope is not rounded
 * before. */
static tt_status dgrad_before_gelu(const tt_exec *exec, const tt_linear_dgrad_args *g,
                                   tt_onednn_product product)
{
    const uint16_t *dy = g->dy, *gelu_x = g->gelu_x;
    uint16_t *dx = g->dx;
    float *sums = (float *)exec->scratch;
    int64_t fit = (int64_t)((size_t)exec->threads * exec->scratch_stride / sizeof *sums) / g->k;
    tt_status status =
        fit > 0 ? TT_OK
                : tt_fail(TT_EUNSUPPORTED, "onednn: a row of %lld is too long", (long long)g->k);
    product.flags |= TT_ONEDNN_F32;
    for (int64_t i = 0; i < g->m && status == TT_OK; i += fit) {
        product.rows = g->m - i < fit ? g->m - i : fit;
        status = tt_onednn_run(
            &product,
            &(tt_onednn_operands){.a = dy + i * g->n, .b = g->w, .packed = g->packed, .out = sums});
        if (status == TT_OK)
            status = tt_rival_gelu_slope_to_bf16(exec, product.rows * g->k, gelu_x + i * g->k, sums,
                                                 dx + i * g->k);
    }
    return status;
}

tt_status tt_linear_dgrad_bf16__onednn(const tt_exec *exec, const void *args)
{
    const tt_linear_dgrad_args *g = args;
    if (g->m == 0 || g->n == 0 || g->k == 0)
        return tt_linear_dgrad_bf16__reference(exec, args);
    tt_onednn_product product = of_weights(TT_OP_LINEAR_DGRAD, g->n, g->k, exec->threads);
    if (g->gelu_x != NULL)
        return dgrad_before_gelu(exec, g, product);
    product.rows = g->m;
    product.flags |= g->accumulate ? TT_ONEDNN_ACCUMULATE : 0u;
    return tt_onednn_run(
        &product, &(tt_onednn_operands){.a = g->dy, .b = g->w, .packed = g->packed, .out = g->dx});
}

tt_status tt_linear_wgrad_bf16__onednn(const tt_exec *exec, const void *args)
{
    const tt_linear_wgrad_args *g = args;
    if (g->m == 0 || g->n == 0 || g->k == 0)
        return tt_linear_wgrad_bf16__reference(exec, args);
    tt_rival_add_columns_bf16(exec, g->m, g->n, g->dy, g->overwrite, g->dbias);
    const tt_onednn_product product = {.rows = g->n,
                                       .columns = g->k,
                                       .k = g->m,
                                       .threads = exec->threads,
                                       .flags = TT_ONEDNN_A_TRANSPOSED | TT_ONEDNN_F32 |
                                                (g->overwrite ? 0u : TT_ONEDNN_ACCUMULATE)};
    return tt_onednn_run(&product, &(tt_onednn_operands){.a = g->dy, .b = g->x, .out = g->dw});
}

size_t tt_linear_packed_bytes_bf16__onednn(tt_op op, int64_t n, int64_t k)
{
    const tt_onednn_product product = of_weights(op, n, k, 1);
    return n > 0 && k > 0 ? tt_onednn_packed_bytes(product.columns, product.k) : 0;
}

tt_status tt_linear_pack_bf16__onednn(const tt_exec *exec, tt_op op, int64_t n, int64_t k,
                                      const void *w, bool w_bf16, void *packed)
{
    (void)w_bf16; /* never: see check_weight in registry.c */
    const tt_onednn_product product = of_weights(op, n, k, exec->threads);
    return n > 0 && k > 0 ? tt_onednn_pack(&product, w, packed) : TT_OK;
}
