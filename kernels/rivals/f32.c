/* The three products of a linear layer as calls of a library's single-precision product. */
#include <limits.h>
#include <omp.h>
#include <string.h>

#include "epilogue.h"
#include "library.h"

/* c[rows, columns] (+)= op(a) op(b) over k, row-major. */
typedef struct product {
    bool a_transposed, b_transposed; /* as stored: a[k, rows], b[columns, k] */
    int64_t rows, columns, k;
    const float *a, *b;
    float *c;
    bool accumulate;
} product;

static tt_status call_openblas(int threads, const product *p)
{
    const tt_openblas *library = tt_openblas_load();
    if (p->rows > INT_MAX || p->columns > INT_MAX || p->k > INT_MAX)
        return tt_fail(TT_EUNSUPPORTED, "openblas: a side of the product exceeds %d", INT_MAX);
    library->set_num_threads(threads);
    library->sgemm(TT_CBLAS_ROW_MAJOR, p->a_transposed ? TT_CBLAS_TRANS : TT_CBLAS_NO_TRANS,
                   p->b_transposed ? TT_CBLAS_TRANS : TT_CBLAS_NO_TRANS, (int)p->rows,
                   (int)p->columns, (int)p->k, 1, p->a, (int)(p->a_transposed ? p->rows : p->k),
                   p->b, (int)(p->b_transposed ? p->k : p->columns), p->accumulate ? 1.0f : 0.0f,
                   p->c, (int)p->columns);
    return TT_OK;
}

static tt_status call_onednn(int threads, const product *p)
{
    const tt_onednn *library = tt_onednn_load();
    library->set_num_threads(threads);
    int failed = library->sgemm(p->a_transposed ? 'T' : 'N', p->b_transposed ? 'T' : 'N', p->rows,
                                p->columns, p->k, 1, p->a, p->a_transposed ? p->rows : p->k, p->b,
                                p->b_transposed ? p->k : p->columns, p->accumulate ? 1.0f : 0.0f,
                                p->c, p->columns);
    return failed ? tt_fail(TT_EINTERNAL, "onednn: its product failed with status %d", failed)
                  : TT_OK;
}

typedef tt_status (*product_fn)(int threads, const product *p);

/* With the context's threads, and the caller's own setting as it was afterwards. */
static tt_status run(const tt_exec *exec, product_fn call, const product *p)
{
    if (p->rows == 0 || p->columns == 0)
        return TT_OK;
    if (p->k == 0) {
        if (!p->accumulate)
            memset(p->c, 0, (size_t)(p->rows * p->columns) * sizeof *p->c);
        return TT_OK;
    }
    int before = omp_get_max_threads();
    tt_status status = call(exec->threads, p);
    omp_set_num_threads(before);
    return status;
}

static tt_status forward(const tt_exec *exec, const tt_linear_forward_args *g, product_fn call)
{
    tt_status status = run(exec, call,
                           &(product){.b_transposed = true,
                                      .rows = g->m,
                                      .columns = g->n,
                                      .k = g->k,
                                      .a = g->x,
                                      .b = g->w,
                                      .c = g->y});
    tt_rival_add_bias(exec, g->m, g->n, g->bias, g->y);
    return status != TT_OK ? status : tt_rival_gelu(exec, TT_F32, g->m * g->n, g->y, g->gelu);
}

static tt_status dgrad(const tt_exec *exec, const tt_linear_dgrad_args *g, product_fn call)
{
    tt_status status = run(exec, call,
                           &(product){.rows = g->m,
                                      .columns = g->k,
                                      .k = g->n,
                                      .a = g->dy,
                                      .b = g->w,
                                      .c = g->dx,
                                      .accumulate = g->accumulate});
    return status != TT_OK ? status
                           : tt_rival_gelu_slope(exec, TT_F32, g->m * g->k, g->gelu_x, g->dx);
}

static tt_status wgrad(const tt_exec *exec, const tt_linear_wgrad_args *g, product_fn call)
{
    tt_rival_add_columns_f32(exec, g->m, g->n, g->dy, g->overwrite, g->dbias);
    return run(exec, call,
               &(product){.a_transposed = true,
                          .rows = g->n,
                          .columns = g->k,
                          .k = g->m,
                          .a = g->dy,
                          .b = g->x,
                          .c = g->dw,
                          .accumulate = !g->overwrite});
}

tt_status tt_linear_forward_f32__openblas(const tt_exec *exec, const void *args)
{
    return forward(exec, args, call_openblas);
}

tt_status tt_linear_dgrad_f32__openblas(const tt_exec *exec, const void *args)
{
    return dgrad(exec, args, call_openblas);
}

tt_status tt_linear_wgrad_f32__openblas(const tt_exec *exec, const void *args)
{
    return wgrad(exec, args, call_openblas);
}

tt_status tt_linear_forward_f32__onednn(const tt_exec *exec, const void *args)
{
    return forward(exec, args, call_onednn);
}

tt_status tt_linear_dgrad_f32__onednn(const tt_exec *exec, const void *args)
{
    return dgrad(exec, args, call_onednn);
}

tt_status tt_linear_wgrad_f32__onednn(const tt_exec *exec, const void *args)
{
    return wgrad(exec, args, call_onednn);
}
