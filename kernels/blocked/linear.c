/* The three products of a linear layer, and its weights packed ahead. */
#include <omp.h>

#include "product.h"
#include "vbf16.h"

static void forward(const tt_exec *exec, const tt_linear_forward_args *g, bool mixed)
{
    TT_BLOCKED(tt_product_run)
    (exec, &(tt_product){.rows = g->m,
                         .columns = g->n,
                         .k = g->k,
                         .a = {g->x, g->k, 1, mixed, false},
                         .b = {g->w, 1, g->k, g->w_bf16, mixed},
                         .ahead = {g->packed, mixed && !TT_PANELS_BF16},
                         .c = g->y,
                         .bf16 = mixed && !g->real_y,
                         .bias = g->bias,
                         .gelu = g->gelu});
}

static void dgrad(const tt_exec *exec, const tt_linear_dgrad_args *g, bool mixed)
{
    TT_BLOCKED(tt_product_run)
    (exec, &(tt_product){.rows = g->m,
                         .columns = g->k,
                         .k = g->n,
                         .a = {g->dy, g->n, 1, mixed, false},
                         .b = {g->w, g->k, 1, g->w_bf16, mixed},
                         .ahead = {g->packed, mixed && !TT_PANELS_BF16},
                         .c = g->dx,
                         .bf16 = mixed,
                         .from_c = g->accumulate,
                         .gelu_x = g->gelu_x});
}

/* sums += row, n elements. */
static void add_row(float *sums, tt_operand row, int64_t n)
{
    const uint16_t *bf16 = row.data;
    const float *f32 = row.data;
    int64_t j = 0;
    for (; j + TT_LANES <= n; j += TT_LANES)
        tt_vstore(sums + j,
                  tt_vload(sums + j) + (row.bf16 ? tt_vload_bf16(bf16 + j) : tt_vload(f32 + j)));
    for (; j < n; j++)
        sums[j] += row.bf16 ? tt_bf16_to_f32(bf16[j]) : f32[j];
}

/* Columns in parallel, rows in order. */
static void add_column_sums(const tt_exec *exec, const tt_linear_wgrad_args *g, bool mixed)
{
    tt_operand dy = {g->dy, g->n, 1, mixed, false};
    float *sums = g->dbias;
    int threads = tt_threads_for(exec, g->m * g->n, 65536);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        tt_part(g->n, 16, omp_get_num_threads(), omp_get_thread_num(), &begin, &end);
        if (g->overwrite && begin < end)
            memset(sums + begin, 0, (size_t)(end - begin) * sizeof *sums);
        for (int64_t i = 0; i < g->m; i++)
            add_row(sums + begin, tt_operand_at(dy, i, begin), end - begin);
    }
}

static void wgrad(const tt_exec *exec, const tt_linear_wgrad_args *g, bool mixed)
{
    TT_BLOCKED(tt_product_run)
    (exec, &(tt_product){.rows = g->n,
                         .columns = g->k,
                         .k = g->m,
                         .a = {g->dy, 1, g->n, mixed, false},
                         .b = {g->x, g->k, 1, mixed, false},
                         .c = g->dw,
                         .from_c = !g->overwrite});
    if (g->dbias != NULL)
        add_column_sums(exec, g, mixed);
}

/* The weights w[n,k] as operand B of `op`, and how deep and wide that is. */
static tt_operand weights(tt_op op, int64_t n, int64_t k, const void *w, bool bf16, bool mixed,
                          int64_t *depth, int64_t *columns)
{
    bool forward = op == TT_OP_LINEAR_FORWARD;
    *depth = forward ? k : n;
    *columns = forward ? n : k;
    return forward ? (tt_operand){w, 1, k, bf16, mixed} : (tt_operand){w, k, 1, bf16, mixed};
}

static size_t packed_elements(tt_op op, int64_t n, int64_t k)
{
    int64_t depth, columns;
    (void)weights(op, n, k, NULL, false, false, &depth, &columns);
    return (size_t)TT_PACKED_B(depth, columns);
}

/* One panel of the whole depth; `scratch` holds TT_TILE_MAX of it. */
TT_INLINE void pack_panel(void *to, int64_t depth, int64_t columns, tt_operand b, bool narrow,
                          tt_panel *scratch)
{
    if (!narrow) {
        TT_BLOCKED(tt_pack_b)(to, depth, columns, b);
        return;
    }
#if !TT_PANELS_BF16
    for (int64_t p = 0; p < depth; p += TT_TILE_MAX) {
        int64_t k = tt_min64(TT_TILE_MAX, depth - p);
        TT_BLOCKED(tt_pack_b)(scratch, k, columns, tt_operand_at(b, p, 0));
        for (int64_t i = 0; i < k * TT_NR; i += TT_LANES)
            tt_vput_bf16((uint16_t *)to + p * TT_NR + i, tt_vload(scratch + i));
    }
#else
    (void)scratch;
#endif
}

static void pack(const tt_exec *exec, tt_op op, int64_t n, int64_t k, const void *w, bool w_bf16,
                 void *packed, bool mixed)
{
    int64_t depth, columns;
    tt_operand b = weights(op, n, k, w, w_bf16, mixed, &depth, &columns);
    bool narrow = mixed && !TT_PANELS_BF16;
    int64_t bytes = TT_PACKED_B(depth, TT_NR) * (mixed ? 2 : 4);
    int threads = tt_threads_for(exec, depth * columns, 65536);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t j = 0; j < columns; j += TT_NR) {
        char *scratch = exec->scratch + (size_t)omp_get_thread_num() * exec->scratch_stride;
        pack_panel((char *)packed + j / TT_NR * bytes, depth, tt_min64(TT_NR, columns - j),
                   tt_operand_at(b, 0, j), narrow, (tt_panel *)(void *)scratch);
    }
}

#if !TT_PANELS_BF16
tt_status TT_BLOCKED(tt_linear_forward_f32)(const tt_exec *exec, const void *args)
{
    forward(exec, args, false);
    return TT_OK;
}

tt_status TT_BLOCKED(tt_linear_dgrad_f32)(const tt_exec *exec, const void *args)
{
    dgrad(exec, args, false);
    return TT_OK;
}

tt_status TT_BLOCKED(tt_linear_wgrad_f32)(const tt_exec *exec, const void *args)
{
    wgrad(exec, args, false);
    return TT_OK;
}

size_t TT_BLOCKED(tt_linear_packed_bytes_f32)(tt_op op, int64_t n, int64_t k)
{
    return packed_elements(op, n, k) * sizeof(float);
}

tt_status TT_BLOCKED(tt_linear_pack_f32)(const tt_exec *exec, tt_op op, int64_t n, int64_t k,
                                         const void *w, bool w_bf16, void *packed)
{
    pack(exec, op, n, k, w, w_bf16, packed, false);
    return TT_OK;
}
#endif

tt_status TT_BLOCKED(tt_linear_forward_bf16)(const tt_exec *exec, const void *args)
{
    forward(exec, args, true);
    return TT_OK;
}

tt_status TT_BLOCKED(tt_linear_dgrad_bf16)(const tt_exec *exec, const void *args)
{
    dgrad(exec, args, true);
    return TT_OK;
}

tt_status TT_BLOCKED(tt_linear_wgrad_bf16)(const tt_exec *exec, const void *args)
{
    wgrad(exec, args, true);
    return TT_OK;
}

size_t TT_BLOCKED(tt_linear_packed_bytes_bf16)(tt_op op, int64_t n, int64_t k)
{
    return packed_elements(op, n, k) * sizeof(uint16_t);
}

tt_status TT_BLOCKED(tt_linear_pack_bf16)(const tt_exec *exec, tt_op op, int64_t n, int64_t k,
                                          const void *w, bool w_bf16, void *packed)
{
    pack(exec, op, n, k, w, w_bf16, packed, true);
    return TT_OK;
}
