/* kernels/internal.h: what the kernels and the registry know of each other. */
#ifndef TT_KERNELS_INTERNAL_H
#define TT_KERNELS_INTERNAL_H

#include <pthread.h>

#include <trimtab/kernels.h>

/* Elements per partial sum of stats and adamw: the partial sums are combined in order, so the
 * total does not depend on how many threads made them. */
#define TT_SUM_BLOCK 4096
/* Partial sums kept at a time; longer tensors go in rounds. */
#define TT_SUM_ROUND 1024
/* Scratch of one thread: the packed operands of a product, or attention's blocks. */
#define TT_SCRATCH_BYTES ((size_t)6 << 20)
/* Bytes of next-slot writes from which adamw streams past the caches (see blocked/optimizer.c). */
#define TT_STREAM_BYTES ((size_t)8 << 20)

typedef struct tt_partial {
    double squares;
    uint64_t count;
} tt_partial;

/* All that a kernel may use besides its arguments. Kernels allocate nothing. */
typedef struct tt_exec {
    int threads;
    tt_tile tile;
    size_t stream_bytes; /* SIZE_MAX: never stream; 0: always */
    char *scratch;       /* `threads` pieces of scratch_stride bytes, 64-byte aligned */
    size_t scratch_stride;
    tt_partial *partials; /* TT_SUM_ROUND of them */
} tt_exec;

typedef tt_status (*tt_kernel_fn)(const tt_exec *exec, const void *args);

typedef struct tt_variant {
    tt_variant_info info;
    tt_kernel_fn run;
} tt_variant;

/* How the variants of one name and compute type pack weights ahead (see tt_linear_pack). */
typedef struct tt_packer {
    const char *name;
    tt_dtype dtype;
    tt_isa isa;
    size_t (*bytes)(tt_op op, int64_t n, int64_t k);
    tt_status (*pack)(const tt_exec *exec, tt_op op, int64_t n, int64_t k, const void *w,
                      bool w_bf16, void *packed);
} tt_packer;

/* Rows of tt_context.table: what it computes in. */
enum { TT_COMPUTE_REAL, TT_COMPUTE_BF16, TT_COMPUTES };

struct tt_context {
    tt_exec exec;
    tt_dtype dtype, compute;
    tt_numerics numerics; /* the weakest class that is chosen unasked */
    tt_arena *tensors;    /* taken whole at creation: base and bytes below */
    tt_arena *scratch;
    char *base;
    size_t bytes, used;
    bool guard;
    pthread_mutex_t guard_lock;
    int guard_depth;
    const tt_variant *table[TT_COMPUTES][TT_OP_COUNT];
};

/* The variant that runs `op` now. */
static inline const tt_variant *tt_context_current(const tt_context *context, tt_op op)
{
    return context->table[context->compute == TT_BF16 ? TT_COMPUTE_BF16 : TT_COMPUTE_REAL][op];
}

/* Every compiled-in variant, in variants.def's order: a later one is preferred. */
const tt_variant *tt_variants(size_t *count);
/* Of those that make at least the promise `numerics`. Operations without activations have no rows
 * of TT_BF16: theirs of TT_F32 then. */
const tt_variant *tt_variant_best(tt_op op, tt_dtype compute, tt_numerics numerics);

/* The best that the machine has for `op` and the context accepts, in every compute type. */
void tt_context_choose_best(tt_context *context, tt_op op);

/* Each side a power of two from TT_TILE_MIN to TT_TILE_MAX. */
bool tt_tile_valid(tt_tile tile);

/* TT_EINVAL with a message when the arguments break the operation's contract. */
tt_status tt_op_validate(tt_op op, const void *args);
/* The same for what lies in tensor memory (tokens, targets): TT_EDATA. */
tt_status tt_op_validate_data(tt_op op, const void *args);

#define TT_VARIANT(id, name, dtype, isa, numerics, tiled, function)                                \
    tt_status function(const tt_exec *exec, const void *args);
#define TT_RIVAL(id, name, dtype, isa, library, function)                                          \
    tt_status function(const tt_exec *exec, const void *args);
#define TT_PACKER(name, dtype, isa, bytes_function, pack_function)                                 \
    size_t bytes_function(tt_op op, int64_t n, int64_t k);                                         \
    tt_status pack_function(const tt_exec *exec, tt_op op, int64_t n, int64_t k, const void *w,    \
                            bool w_bf16, void *packed);
#include "variants.def"
#undef TT_VARIANT
#undef TT_RIVAL
#undef TT_PACKER

#endif
