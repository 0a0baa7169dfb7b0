/* Contexts: threads, scratch, tensor memory and its guard. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

void tt_context_options_init(tt_context_options *options)
{
    *options = (tt_context_options){
        .size = sizeof *options, .dtype = TT_F32, .numerics = TT_NUMERICS_FAST};
}

static tt_status check_options(const tt_context_options *options)
{
    if (options == NULL || options->size < sizeof *options)
        return tt_fail(TT_EINVAL, "context options are missing or of an older version");
    if (options->dtype != TT_F32 && options->dtype != TT_F64)
        return tt_fail(TT_EINVAL, "a context computes in f32 or f64, not %s",
                       tt_dtype_name(options->dtype));
    if (options->numerics < TT_NUMERICS_EXACT || options->numerics > TT_NUMERICS_FAST)
        return tt_fail(TT_EINVAL, "a context accepts no class %d of numerics",
                       (int)options->numerics);
    if (options->threads < 0 || options->threads > TT_MAX_THREADS)
        return tt_fail(TT_ECONFIG, "%d threads: 1 to %d are possible, or 0 for one on each core",
                       options->threads, TT_MAX_THREADS);
    return TT_OK;
}

static tt_status create_tensors(tt_context *context, const tt_context_options *options)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    context->bytes = (options->tensor_bytes + page - 1) / page * page;
    if (context->bytes < options->tensor_bytes)
        return tt_fail(TT_ENOMEM, "%zu bytes of tensor memory cannot be had",
                       options->tensor_bytes);
    if (context->bytes == 0)
        return TT_OK;
    tt_status status =
        tt_arena_create(context->bytes, options->hook, options->hook_user, &context->tensors);
    if (status != TT_OK)
        return status;
    /* All of it at once: guarding needs to know the range. */
    context->base = tt_arena_take(context->tensors, context->bytes, page);
    if (context->base == NULL)
        return tt_fail(TT_EINTERNAL, "a fresh arena of %zu bytes has no room for as many",
                       context->bytes);
    if (options->guard && mprotect(context->base, context->bytes, PROT_NONE) != 0)
        return tt_fail_errno(errno, "protecting tensor memory");
    context->guard = options->guard;
    return TT_OK;
}

static tt_status create_scratch(tt_context *context)
{
    tt_exec *exec = &context->exec;
    size_t partials = TT_SUM_ROUND * sizeof(tt_partial);
    size_t bytes = (size_t)exec->threads * TT_SCRATCH_BYTES;
    tt_status status = tt_arena_create(bytes + partials + 4096, NULL, NULL, &context->scratch);
    if (status != TT_OK)
        return status;
    exec->scratch_stride = TT_SCRATCH_BYTES;
    exec->scratch = tt_arena_take(context->scratch, bytes, 64);
    exec->partials = tt_arena_take(context->scratch, partials, 64);
    if (exec->scratch == NULL || exec->partials == NULL)
        return tt_fail(TT_EINTERNAL, "the scratch arena is too small");
    return TT_OK;
}

static int topology_threads(void)
{
    tt_topology topology;
    tt_topology_read(&topology);
    return topology.threads;
}

tt_status tt_context_create(const tt_context_options *options, tt_context **out)
{
    tt_status status = out == NULL ? tt_fail(TT_EINVAL, "context_create: no place for the result")
                                   : check_options(options);
    if (status != TT_OK)
        return status;
    tt_context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return tt_fail(TT_ENOMEM, "a context cannot be had");
    pthread_mutex_init(&context->guard_lock, NULL);
    context->dtype = context->compute = options->dtype;
    context->numerics = options->numerics;
    context->exec.threads = options->threads > 0 ? options->threads : topology_threads();
    context->exec.tile = (tt_tile){32, 32, 32};
    context->exec.stream_bytes = TT_STREAM_BYTES;
    for (int op = 0; op < TT_OP_COUNT; op++)
        tt_context_choose_best(context, (tt_op)op);
    status = create_tensors(context, options);
    if (status == TT_OK)
        status = create_scratch(context);
    if (status != TT_OK) {
        tt_context_destroy(context);
        return status;
    }
    *out = context;
    return TT_OK;
}

void tt_context_destroy(tt_context *context)
{
    if (context == NULL)
        return;
    tt_arena_destroy(context->tensors);
    tt_arena_destroy(context->scratch);
    pthread_mutex_destroy(&context->guard_lock);
    free(context);
}

int tt_context_threads(const tt_context *context)
{
    return context->exec.threads;
}

tt_numerics tt_context_numerics(const tt_context *context)
{
    return context->numerics;
}

tt_dtype tt_context_dtype(const tt_context *context)
{
    return context->dtype;
}

tt_dtype tt_context_compute(const tt_context *context)
{
    return context->compute;
}

tt_status tt_context_set_compute(tt_context *context, tt_dtype compute)
{
    if (compute != context->dtype && !(compute == TT_BF16 && context->dtype == TT_F32))
        return tt_fail(TT_EINVAL, "a context of %s cannot compute in %s",
                       tt_dtype_name(context->dtype), tt_dtype_name(compute));
    context->compute = compute;
    return TT_OK;
}

tt_tile tt_context_tile(const tt_context *context)
{
    return context->exec.tile;
}

bool tt_tile_valid(tt_tile tile)
{
    const int sides[3] = {tile.m, tile.n, tile.k};
    for (int i = 0; i < 3; i++)
        if (sides[i] < TT_TILE_MIN || sides[i] > TT_TILE_MAX || (sides[i] & (sides[i] - 1)) != 0)
            return false;
    return true;
}

tt_status tt_context_set_tile(tt_context *context, tt_tile tile)
{
    if (!tt_tile_valid(tile))
        return tt_fail(TT_EINVAL, "tile %dx%dx%d: each side is a power of two from %d to %d",
                       tile.m, tile.n, tile.k, TT_TILE_MIN, TT_TILE_MAX);
    context->exec.tile = tile;
    return TT_OK;
}

tt_status tt_tensor_alloc(tt_context *context, size_t bytes, void **out)
{
    size_t need = (bytes + 63) / 64 * 64;
    if (context == NULL || out == NULL)
        return tt_fail(TT_EINVAL, "tensor_alloc: no context or no place for the result");
    if (need < bytes || need > context->bytes - context->used)
        return tt_fail(TT_ENOMEM, "a tensor of %zu bytes does not fit: %zu of %zu bytes are in use",
                       bytes, context->used, context->bytes);
    *out = context->base + context->used;
    context->used += need;
    return TT_OK;
}

size_t tt_tensor_bytes_used(const tt_context *context)
{
    return context->used;
}

tt_status tt_tensor_open(tt_context *context)
{
    tt_status status = TT_OK;
    if (!context->guard)
        return TT_OK;
    pthread_mutex_lock(&context->guard_lock);
    if (context->guard_depth == 0 &&
        mprotect(context->base, context->bytes, PROT_READ | PROT_WRITE) != 0)
        status = tt_fail_errno(errno, "opening tensor memory");
    else
        context->guard_depth++;
    pthread_mutex_unlock(&context->guard_lock);
    return status;
}

void tt_tensor_close(tt_context *context)
{
    if (!context->guard)
        return;
    pthread_mutex_lock(&context->guard_lock);
    if (--context->guard_depth == 0)
        (void)mprotect(context->base, context->bytes, PROT_NONE);
    pthread_mutex_unlock(&context->guard_lock);
}

/* The bytes lie in what this context has handed out. */
static tt_status check_range(const tt_context *context, const char *what, const void *tensor,
                             size_t bytes)
{
    if (context == NULL)
        return tt_fail(TT_EINVAL, "%s: no context", what);
    uintptr_t at = (uintptr_t)tensor, base = (uintptr_t)context->base;
    if (bytes > 0 &&
        (at < base || at - base > context->used || bytes > context->used - (at - base)))
        return tt_fail(TT_EINVAL, "%s: %zu bytes do not lie in this context's tensor memory", what,
                       bytes);
    return TT_OK;
}

/* memmove with tensor memory open. */
static tt_status copy_bytes(tt_context *context, void *to, const void *from, size_t bytes)
{
    if (bytes == 0)
        return TT_OK;
    if (to == NULL || from == NULL)
        return tt_fail(TT_EINVAL, "copying %zu tensor bytes from or to nowhere", bytes);
    tt_status status = tt_tensor_open(context);
    if (status != TT_OK)
        return status;
    memmove(to, from, bytes);
    tt_tensor_close(context);
    return TT_OK;
}

tt_status tt_tensor_write(tt_context *context, void *tensor, const void *host, size_t bytes)
{
    tt_status status = check_range(context, "tensor_write", tensor, bytes);
    return status == TT_OK ? copy_bytes(context, tensor, host, bytes) : status;
}

tt_status tt_tensor_read(tt_context *context, void *host, const void *tensor, size_t bytes)
{
    tt_status status = check_range(context, "tensor_read", tensor, bytes);
    return status == TT_OK ? copy_bytes(context, host, tensor, bytes) : status;
}

tt_status tt_tensor_copy(tt_context *context, void *to, const void *from, size_t bytes)
{
    tt_status status = check_range(context, "tensor_copy", from, bytes);
    if (status == TT_OK)
        status = check_range(context, "tensor_copy", to, bytes);
    return status == TT_OK ? copy_bytes(context, to, from, bytes) : status;
}

tt_status tt_tensor_zero(tt_context *context, void *tensor, size_t bytes)
{
    tt_status status = check_range(context, "tensor_zero", tensor, bytes);
    if (status != TT_OK || bytes == 0)
        return status;
    status = tt_tensor_open(context);
    if (status != TT_OK)
        return status;
    memset(tensor, 0, bytes);
    tt_tensor_close(context);
    return TT_OK;
}

/* The whole pages within; false if there are none. */
static bool pages_within(const void *tensor, size_t bytes, uintptr_t *first, uintptr_t *last)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)tensor;
    *first = (begin + page - 1) / page * page;
    *last = (begin + bytes) / page * page;
    return *first < *last;
}

tt_status tt_tensor_release(tt_context *context, void *tensor, size_t bytes)
{
    tt_status status = check_range(context, "tensor_release", tensor, bytes);
    if (status != TT_OK || bytes == 0)
        return status;
    uintptr_t first, last, begin = (uintptr_t)tensor;
    status = tt_tensor_open(context);
    if (status != TT_OK)
        return status;
    if (!pages_within(tensor, bytes, &first, &last) ||
        madvise((void *)first, last - first, MADV_DONTNEED) != 0) {
        memset(tensor, 0, bytes); /* no whole page, or the system keeps it (locked memory) */
    } else {
        memset(tensor, 0, first - begin);
        memset((void *)last, 0, begin + bytes - last);
    }
    tt_tensor_close(context);
    return TT_OK;
}

tt_status tt_tensor_hollow(tt_context *context, void *tensor, size_t bytes)
{
    tt_status status = check_range(context, "tensor_hollow", tensor, bytes);
    uintptr_t first, last;
    /* Advice only: a kernel without huge pages refuses, and nothing is lost. */
    if (status == TT_OK && pages_within(tensor, bytes, &first, &last))
        (void)madvise((void *)first, last - first, MADV_NOHUGEPAGE);
    return status == TT_OK ? tt_tensor_release(context, tensor, bytes) : status;
}
