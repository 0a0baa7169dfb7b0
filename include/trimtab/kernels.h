/* trimtab/kernels.h: tensors, operations and devices; nothing here knows of models.
 *
 *   1. contexts (device, threads, tensor memory)
 *   2. operations: one argument struct each
 *   3. variants: which implementation of an operation runs
 *   4. tiles and the tuner
 *   5. what the machine can do at most
 *
 * Tensor memory is opaque: it comes from tt_tensor_alloc, and only operations (other modules' too,
 * between tt_tensor_open and _close) and the explicit copies below touch its bytes. Row-major
 * throughout; the last index is contiguous. Every operation is reached through tt_op_run, so that
 * a variant is one row of kernels/variants.def.
 */
#ifndef TRIMTAB_KERNELS_H
#define TRIMTAB_KERNELS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. contexts -------------------------------------------------------------------------- */

typedef struct tt_context tt_context;

/* Threads that a context can have. */
#define TT_MAX_THREADS 1024

/* The machine, and what of it this process may use. */
typedef struct tt_topology {
    size_t size;                            /* sizeof(tt_topology) */
    int packages, nodes, cores, processors; /* of the machine; 0: unknown */
    int cores_available;                    /* within the affinity mask; 0: unknown */
    int processors_available;               /* within mask and cgroup quota */
    int omp_threads;                        /* OMP_NUM_THREADS; 0: not set */
    int threads;                            /* one for each core that is available, within the
                                               quota; OMP_NUM_THREADS beats the number of cores */
    size_t l1_bytes, l2_bytes, l3_bytes;    /* of one data cache each; 0: none */
    bool pinned;                            /* OpenMP's threads stay where they are */
} tt_topology;

TT_API void tt_topology_read(tt_topology *out);
/* Lets the calling thread run on every processor that OpenMP's threads are pinned to, instead of on
 * the first alone: it is one of them, but the threads that it starts for other work are not. */
TT_API void tt_threads_release_caller(void);

/* What a variant promises about its bits (a run states the class it accepts):
 *   exact       equal for any tile, thread count and batch split
 *   repeatable  equal from run to run
 *   fast        no promise */
typedef enum tt_numerics {
    TT_NUMERICS_EXACT = 1,
    TT_NUMERICS_REPEATABLE,
    TT_NUMERICS_FAST
} tt_numerics;

TT_API const char *tt_numerics_name(tt_numerics numerics);

typedef struct tt_context_options {
    size_t size;         /* sizeof(tt_context_options) */
    int threads;         /* up to TT_MAX_THREADS; 0: as tt_topology.threads says */
    tt_dtype dtype;      /* TT_F32, or TT_F64 to check gradients */
    size_t tensor_bytes; /* capacity of the context's tensor arena */
    tt_memory_hook hook; /* counts tensor memory; may be NULL */
    void *hook_user;
    bool guard;           /* keep tensor memory PROT_NONE outside operations and copies (tests) */
    tt_numerics numerics; /* the weakest class that may be chosen unasked; at first all may */
} tt_context_options;

TT_API void tt_context_options_init(tt_context_options *options);
/* Starts with the best variant that this machine has for every operation, of those that
 * options->numerics accepts. TT_ECONFIG for a number of threads out of range. */
TT_API tt_status tt_context_create(const tt_context_options *options, tt_context **out);
TT_API void tt_context_destroy(tt_context *context);
TT_API int tt_context_threads(const tt_context *context);
TT_API tt_numerics tt_context_numerics(const tt_context *context);
/* TT_F32 or TT_F64: the type of parameters, their gradients, the residual stream and statistics. */
TT_API tt_dtype tt_context_dtype(const tt_context *context);
/* What the operations compute in from now on: the context's dtype (at first) or, in a context of
 * f32, TT_BF16: mixed precision (Micikevicius et al. 2018; bfloat16 as in Kalamkar et al. 2019).
 * Activations and their gradients then are bf16; products round both operands to bf16, to nearest
 * even, and accumulate in f32; all else stays f32. TT_EINVAL for any other type. */
TT_API tt_status tt_context_set_compute(tt_context *context, tt_dtype compute);
TT_API tt_dtype tt_context_compute(const tt_context *context);

/* Zeroed, 64-byte aligned tensor memory; freed with the context. TT_ENOMEM names the bytes. */
TT_API tt_status tt_tensor_alloc(tt_context *context, size_t bytes, void **out);
TT_API size_t tt_tensor_bytes_used(const tt_context *context);
/* Copies between ordinary and tensor memory. May be called from any thread on tensors that no
 * running operation writes. */
TT_API tt_status tt_tensor_write(tt_context *context, void *tensor, const void *host, size_t bytes);
TT_API tt_status tt_tensor_read(tt_context *context, void *host, const void *tensor, size_t bytes);
TT_API tt_status tt_tensor_copy(tt_context *context, void *to, const void *from, size_t bytes);
TT_API tt_status tt_tensor_zero(tt_context *context, void *tensor, size_t bytes);
/* The content is no longer needed: it becomes zero, and the whole pages inside go back to the
 * system until they are written again. What shares its first or last page stays. */
TT_API tt_status tt_tensor_release(tt_context *context, void *tensor, size_t bytes);
/* The same where what lies around it stays in use: neighbours then share no huge page with it,
 * which would bring it back whole as soon as they are written. */
TT_API tt_status tt_tensor_hollow(tt_context *context, void *tensor, size_t bytes);
/* Make tensor memory accessible to an operation of another module (which then may touch the tensors
 * of its arguments), and not again. They nest, from any thread; they do something only where
 * tensor memory is guarded. Every successful open is closed. */
TT_API tt_status tt_tensor_open(tt_context *context);
TT_API void tt_tensor_close(tt_context *context);

/* ---- 2. operations ------------------------------------------------------------------------ */

/* kernels_ops.def: one row per operation. */
typedef enum tt_op {
#define TT_OP(id, name, args) TT_OP_##id,
#include "kernels_ops.def"
#undef TT_OP
    TT_OP_COUNT
} tt_op;

/* Element types: "real" is the context's dtype; "act" is real too, but bf16 while the context
 * computes in TT_BF16; a "weight" is real, or bf16 with w_bf16, whatever the context computes in
 * (no variant of a library can read that: TT_EUNSUPPORTED). Shapes are in elements. Sizes of 0 are
 * legal no-ops. Tensors do not overlap unless said. "+=" accumulates into what is there. */

/* y[m,n] = x[m,k] w[n,k]^T + bias[n]. bias may be NULL. With gelu != NULL also gelu[m,n] =
 * GELU(y), from y as it is stored. */
typedef struct tt_linear_forward_args {
    int64_t m, n, k;
    const void *x;      /* act */
    const void *w;      /* weight */
    const void *bias;   /* real */
    void *y;            /* act; real if real_y */
    void *gelu;         /* act; NULL: not wanted. Not with real_y */
    const void *packed; /* w as tt_linear_pack left it for this operation; NULL: read w */
    bool real_y;        /* y is real whatever the context computes in (the head's logits) */
    bool w_bf16;
} tt_linear_forward_args;

/* dx[m,k] = dy[m,n] w[n,k]; += if accumulate. With gelu_x != NULL, dx is that product times
 * gelu'(gelu_x[m,k]): the gradient before the GELU whose output is this layer's input (not with
 * accumulate). */
typedef struct tt_linear_dgrad_args {
    int64_t m, n, k;
    const void *dy; /* act */
    const void *w;  /* weight */
    void *dx;       /* act */
    bool accumulate;
    const void *gelu_x; /* act; NULL: none */
    const void *packed; /* as above, for LINEAR_DGRAD */
    bool w_bf16;
} tt_linear_dgrad_args;

/* dw[n,k] += dy[m,n]^T x[m,k];  dbias[n] += column sums of dy (dbias may be NULL); with `overwrite`
 * both start from zero, whatever is there. Rows are added strictly in order 0..m-1, so that
 * microbatches add up to the same bits as one batch (class exact). */
typedef struct tt_linear_wgrad_args {
    int64_t m, n, k;
    const void *dy, *x; /* act */
    void *dw, *dbias;   /* real */
    bool overwrite;
} tt_linear_wgrad_args;

/* out[b*t, c] = wte[tokens[b,t], :] + wpe[position + t, :]. tokens int32 in [0, vocab), in tensor
 * memory. wpe NULL: no learned positions. */
typedef struct tt_embedding_forward_args {
    int64_t batch, time, channels, position;
    const void *tokens;
    const void *wte, *wpe; /* weight */
    void *out;             /* real */
    bool w_bf16;
} tt_embedding_forward_args;

/* dwte[tokens] += dout, dwpe[t] += dout (position 0), rows in order. All real. dwpe may be NULL. */
typedef struct tt_embedding_backward_args {
    int64_t batch, time, channels;
    const void *tokens, *dout;
    void *dwte, *dwpe;
} tt_embedding_backward_args;

/* y = (s - mean) * rstd * gamma + beta over rows of `channels`; mean[rows], rstd[rows] are kept
 * for backward (Ba et al. 2016; eps 1e-5). s is x or, with branch != NULL, x + branch, which is
 * stored in sum (may be x): the residual addition before the norm in the same pass. */
typedef struct tt_layernorm_forward_args {
    int64_t rows, channels;
    const void *x, *gamma, *beta; /* real */
    void *y;                      /* act */
    void *mean, *rstd;            /* real */
    const void *branch;           /* act; NULL: none */
    void *sum;                    /* real; with branch only */
} tt_layernorm_forward_args;

/* x is what was normalized. dx += ...; dgamma[channels] += ..., dbeta[channels] += ... (rows in
 * order). With `overwrite_dx` dx, with `overwrite_parameters` dgamma and dbeta start from zero.
 * dx_act != NULL: dx as the products want it, too. */
typedef struct tt_layernorm_backward_args {
    int64_t rows, channels;
    const void *dy;                      /* act */
    const void *x, *gamma, *mean, *rstd; /* real */
    void *dx, *dgamma, *dbeta;           /* real */
    void *dx_act;                        /* act */
    bool overwrite_dx, overwrite_parameters;
} tt_layernorm_backward_args;

/* y = s * rstd * gamma, rstd = 1 / sqrt(mean(s^2) + 1e-5) (Zhang & Sennrich 2019); branch and sum
 * as for LAYERNORM_FORWARD. */
typedef struct tt_rmsnorm_forward_args {
    int64_t rows, channels;
    const void *x, *gamma; /* real */
    void *y;               /* act */
    void *rstd;            /* real */
    const void *branch;    /* act; NULL: none */
    void *sum;             /* real; with branch only */
} tt_rmsnorm_forward_args;

/* As LAYERNORM_BACKWARD. */
typedef struct tt_rmsnorm_backward_args {
    int64_t rows, channels;
    const void *dy;               /* act */
    const void *x, *gamma, *rstd; /* real */
    void *dx, *dgamma;            /* real */
    void *dx_act;                 /* act */
    bool overwrite_dx, overwrite_parameters;
} tt_rmsnorm_backward_args;

/* Rotary position embedding (Su et al. 2021), in place on the queries and keys of
 * qkv[batch,time,(heads + 2 kv_heads) * size]: of each head, elements i and i + size/2 turn by
 * (position + t) * theta^(-2i/size). `inverse` turns back: that is the gradient. size is even. */
typedef struct tt_rope_args {
    int64_t batch, time, position, heads, kv_heads, size;
    double theta;
    void *qkv; /* act */
    bool inverse;
} tt_rope_args;

/* Causal multi-head self-attention. qkv[batch,time,channels + 2 * kv_heads * size] holds q, k, v
 * side by side, size = channels/heads; out[batch,time,channels]. Query head h reads key head
 * h / (heads/kv_heads): kv_heads = heads is multi-head, fewer (a divisor) is grouped-query
 * attention (Ainslie et al. 2023). Scores are scaled by 1/sqrt(size). No time x time matrix is
 * kept: lse[batch,heads,time] is the log-sum-exp of each row of scores.
 *
 * Where act is bf16, a variant may round weights, exp(score - maximum), to bf16 before they
 * multiply v, as FlashAttention does (Dao et al. 2022). out is then divided by the sum of the
 * rounded ones: it moves by at most u/(1-u) times the weighted mean of |v - out|, u = 2^-8. lse
 * stays that of the weights as they are. */
typedef struct tt_attention_forward_args {
    int64_t batch, time, heads, channels;
    const void *qkv; /* act */
    void *out;       /* act */
    void *lse;       /* real */
    int64_t kv_heads;
} tt_attention_forward_args;

/* dqkv, laid out as qkv, is overwritten. With p the weights and ds the gradients of the scores,
 * dq = ds k, dk = ds^T q and dv = p^T dout. Where act is bf16, a variant may round p and ds to
 * bf16: each of these sums moves by at most 2^-8 times the sum of its terms' magnitudes. */
typedef struct tt_attention_backward_args {
    int64_t batch, time, heads, channels;
    const void *qkv, *out; /* act */
    const void *lse;       /* real */
    const void *dout;      /* act */
    void *dqkv;            /* act */
    int64_t kv_heads;
} tt_attention_backward_args;

/* Attention of `count` new queries at positions position..position+count-1 of one sequence over
 * keys and values [.., kv_heads * size] that a KV store already holds up to and including the new
 * ones. q has row stride q_stride elements. out[count, channels]. All act. Rounded as the forward
 * pass is. */
typedef struct tt_attention_cached_args {
    int64_t count, position, heads, channels, q_stride;
    const void *q, *keys, *values;
    void *out;
    int64_t kv_heads;
} tt_attention_cached_args;

/* GELU, tanh form (Hendrycks & Gimpel 2016; GPT-2). y[n]. act. */
typedef struct tt_gelu_forward_args {
    int64_t n;
    const void *x;
    void *y;
} tt_gelu_forward_args;

/* dx[n] = dy * gelu'(x); dx may be dy. act. */
typedef struct tt_gelu_backward_args {
    int64_t n;
    const void *x, *dy;
    void *dx;
} tt_gelu_backward_args;

/* y[rows,width] = silu(gate) * up, gate and up side by side in x[rows, 2 * width] (Shazeer 2020).
 * act. */
typedef struct tt_swiglu_forward_args {
    int64_t rows, width;
    const void *x;
    void *y;
} tt_swiglu_forward_args;

/* dx[rows, 2 * width]; dx may be x. act. */
typedef struct tt_swiglu_backward_args {
    int64_t rows, width;
    const void *x, *dy;
    void *dx;
} tt_swiglu_backward_args;

/* out[n] = a + b; out may be a or b. a and out real, b act. */
typedef struct tt_add_args {
    int64_t n;
    const void *a, *b;
    void *out;
} tt_add_args;

/* Row-wise softmax cross-entropy: losses[r] = -log softmax(logits[r])[targets[r]]; with
 * dlogits != NULL also dlogits = (softmax - onehot) * scale (dlogits may be logits where act is
 * real). targets int32. */
typedef struct tt_softmax_xent_args {
    int64_t rows, vocab;
    const void *logits, *targets; /* real */
    void *losses;                 /* real */
    void *dlogits;                /* act */
    double scale;
} tt_softmax_xent_args;

/* What one pass over a tensor found; in ordinary memory. */
typedef struct tt_tensor_stats {
    double sum_squares; /* float64, fixed order: the same for every thread count */
    uint64_t nonfinite; /* NaN and infinite elements */
} tt_tensor_stats;

typedef struct tt_stats_args {
    int64_t n;
    const void *x; /* real */
    tt_tensor_stats *out;
    bool bf16; /* x is bf16, whatever the context computes in */
} tt_stats_args;

/* Scalars of one optimizer step, in backend memory on a device (so that a captured step never
 * needs re-capture for them); a plain struct on the CPU. */
typedef struct tt_step_scalars {
    double learning_rate;
    double beta1, beta2, epsilon;
    double bias_correction1, bias_correction2; /* 1 - beta^t */
    double gradient_scale;                     /* clipping factor, <= 1 */
} tt_step_scalars;

/* What the optimizer's pass over the next slot found. */
typedef struct tt_verdict {
    uint64_t nonfinite;    /* in parameters and moments of the next slot */
    double update_squares; /* sum of (p' - p)^2, fixed order */
} tt_verdict;

/* How weights that are kept in bf16 alone take their new values: computed in f32, then rounded up
 * or down at random so that they are right on average. Rounded to nearest, most steps of AdamW are
 * less than half the distance to the next bf16, and would be lost (Zamirai et al. 2020, "Revisiting
 * BFloat16 Training"). Element i takes number i of tt_random_u16(seed, stream): for each tensor of
 * each step a stream of its own, and the bits depend on neither threads nor variant's blocks. */
typedef struct tt_rounding {
    uint64_t seed, stream;
} tt_rounding;

/* AdamW (Loshchilov & Hutter 2019, decoupled decay): reads p, m, v, g of n elements, writes the
 * next slot's p, m, v (which may be the same tensors) and adds to *verdict: for p what it was
 * rounded to. v is stored as the second moment itself. All real; with `rounding` p and p_next are
 * bf16. What is finite in f32 is not rounded to an infinity. */
typedef struct tt_adamw_args {
    int64_t n;
    const void *p, *m, *v, *g;
    void *p_next, *m_next, *v_next;
    double weight_decay;
    const tt_step_scalars *scalars;
    tt_verdict *verdict;
    const tt_rounding *rounding; /* NULL: none */
} tt_adamw_args;

TT_API const char *tt_op_name(tt_op op);
/* Runs the context's chosen variant. `args` points to the operation's own argument struct. */
TT_API tt_status tt_op_run(tt_context *context, tt_op op, const void *args);

/* Bytes of a weight w[n,k] packed for op (LINEAR_FORWARD or LINEAR_DGRAD) as the context's variant
 * of it wants it; 0 where that variant packs nothing ahead. */
TT_API size_t tt_linear_packed_bytes(const tt_context *context, tt_op op, int64_t n, int64_t k);
/* The most that any variant of this machine wants in that compute type. */
TT_API size_t tt_linear_packed_max(tt_op op, tt_dtype compute, int64_t n, int64_t k);
/* Packs a weight, w[n,k], into `packed` (tensor memory, 64-byte aligned, of that many bytes) for
 * many products with it. Good for every tile, until the variant or the compute type changes. Bits
 * of products do not change by it. TT_EUNSUPPORTED where the variant packs nothing ahead. */
TT_API tt_status tt_linear_pack(tt_context *context, tt_op op, int64_t n, int64_t k, const void *w,
                                bool w_bf16, void *packed);

/* ---- 3. variants -------------------------------------------------------------------------- */

/* Instruction sets, by CPUID feature bits (never by CPU model): the x86-64 psABI levels, level 4
 * with AVX512-BF16, and that with AMX-TILE and AMX-BF16, where the system lets this process use the
 * tiles. */
typedef enum tt_isa {
    TT_ISA_ANY,
    TT_ISA_X86_64_V3,
    TT_ISA_X86_64_V4,
    TT_ISA_AVX512_BF16,
    TT_ISA_AMX_BF16
} tt_isa;

TT_API const char *tt_isa_name(tt_isa isa);
TT_API bool tt_isa_available(tt_isa isa);

/* Other people's libraries, which some variants call; loaded at the first question, if they are
 * installed. */
typedef enum tt_library {
    TT_LIBRARY_NONE,
    TT_LIBRARY_OPENBLAS,
    TT_LIBRARY_ONEDNN,
    TT_LIBRARY_COUNT
} tt_library;

TT_API const char *tt_library_name(tt_library library);
/* Why this process cannot use it, with the package to install; "" where it can. */
TT_API const char *tt_library_lacks(tt_library library);
/* What it says of itself; "" where it is not there. */
TT_API const char *tt_library_version(tt_library library);

typedef struct tt_variant_info {
    tt_op op;
    const char *name; /* "reference", "blocked_v3", ... unique within (op, dtype) */
    tt_dtype dtype;   /* what the context computes in; operations without an act operand have rows
                         of F32 and F64 only, which TT_BF16 uses, too */
    tt_isa isa;
    tt_library library;
    tt_numerics numerics;
    bool tiled; /* the context's tile matters to it */
} tt_variant_info;

/* This machine has its instruction set, and this process its library. */
TT_API bool tt_variant_available(const tt_variant_info *info);

TT_API size_t tt_variant_count(void);
TT_API const tt_variant_info *tt_variant_at(size_t index);
/* The variant that `context` now runs for `op`, in what it computes in. */
TT_API const tt_variant_info *tt_context_variant(const tt_context *context, tt_op op);
/* Forces a variant by name, in every compute type that has one so named. TT_ENOTFOUND names those
 * there are; TT_EUNSUPPORTED when its instruction set or library is not there. */
TT_API tt_status tt_context_set_variant(tt_context *context, tt_op op, const char *name);
/* The same for every operation that has a variant so named (the others keep theirs);
 * TT_ENOTFOUND when no operation has one. "auto" returns to the best that the machine has, of the
 * classes that the context accepts; a name is not asked for its class. */
TT_API tt_status tt_context_set_variants(tt_context *context, const char *name);

/* ---- 4. tiles and the tuner --------------------------------------------------------------- */

/* Cache block of the tiled matrix products: a power of two from 16 to 512 each. */
typedef struct tt_tile {
    int m, n, k;
} tt_tile;

#define TT_TILE_MIN 16
#define TT_TILE_MAX 512

/* Head size up to which the blocked attention works; beyond it choose "reference". */
#define TT_BLOCKED_HEAD_MAX 512

TT_API tt_tile tt_context_tile(const tt_context *context);
TT_API tt_status tt_context_set_tile(tt_context *context, tt_tile tile);

/* One matrix product that a run executes: op is LINEAR_FORWARD, _DGRAD or _WGRAD. */
typedef struct tt_gemm_shape {
    tt_op op;
    int64_t m, n, k;
    int count; /* times per step */
} tt_gemm_shape;

/* A variant with a tile. */
typedef struct tt_tune_candidate {
    const char *variant; /* lives as long as the process */
    tt_tile tile;        /* zeros where the tile does not matter to it */
} tt_tune_candidate;

/* How far a candidate got on a shape. */
typedef enum tt_tune_state {
    TT_TUNE_ABSENT,   /* the product has no such variant, or it may not be chosen */
    TT_TUNE_UNKNOWN,  /* the time was up before it */
    TT_TUNE_HOPELESS, /* not tried here: too far behind on the shape that counts most */
    TT_TUNE_WRONG,    /* error > 1 */
    TT_TUNE_PROVEN,   /* conforms; the time was up before it was timed */
    TT_TUNE_TIMED
} tt_tune_state;

typedef struct tt_tune_cell {
    tt_tune_state state;
    int rounds;           /* that have timed it: 0, 1, or 2 */
    double error;         /* worst of its conformance checks, as a share of the bound */
    double first_seconds; /* of one product in the first round: that decides who goes on */
    double seconds;       /* of one product, the least of several; 0 unless timed */
    uint64_t bits;        /* hash of what it computes, where its class is exact; 0: not known */
} tt_tune_cell;

typedef struct tt_tune_options {
    size_t size;
    const tt_gemm_shape *shapes;
    size_t shape_count;
    const tt_tile *tiles; /* the first is the incumbent; what comes first is preferred */
    size_t tile_count;
    double budget_seconds;  /* of proving and timing together; 0 and less: neither */
    bool fixed[3];          /* LINEAR_FORWARD, _DGRAD, _WGRAD: only the context's own variant */
    bool show_all;          /* measure variants whose class the context rules out, too */
    bool weights_bf16;      /* LINEAR_FORWARD and _DGRAD read weights in bf16 */
    const char *cache;      /* folder of what is known of this machine; NULL: none */
    bool fresh;             /* measure even what the cache has; kept only if the time suffices */
    const tt_log_sink *log; /* a damaged cache, one that cannot be written; may be NULL */
    const tt_clock *clock;  /* NULL: monotonic */
} tt_tune_options;

/* What was found. */
typedef struct tt_tuning {
    tt_gemm_shape *shapes;
    size_t shape_count;
    tt_tune_candidate *candidates; /* in order of preference */
    size_t candidate_count;
    tt_tune_cell *cells; /* [shape_count][candidate_count] */
    tt_tile tile;        /* chosen */
    size_t chosen[3];    /* candidate of each product; one without shapes keeps its own */
    size_t incumbent[3]; /* the context's own variant with the first tile */
    bool complete;       /* the time sufficed */
    bool cached;         /* nothing was measured */
    double seconds;      /* that it took */
} tt_tuning;

TT_API void tt_tune_options_init(tt_tune_options *options);
/* detect_and_tune: a tile for the context and a variant for each matrix product, in what the
 * context computes in. Every candidate first proves itself (private poisoned output, compared with
 * a float64 reference on two tiles + remainder with full k; at the real shape a Freivalds check and
 * 64 sampled outputs; bounds from dtype and k) and is timed only if it conforms. A first round on
 * each product's weightiest shape leaves those that are not far behind; a second one takes these to
 * every shape. What is within the tie band of the fastest counts as equal, and the first listed
 * wins: so the choice is the same every time. Nothing of the context changes.
 *
 * Nothing begins once the budget is spent. A candidate counts when it was timed on every shape;
 * where none was, the incumbents stay unless they are known to be wrong.
 *
 * With a cache, what was measured before on this machine, with this build, these libraries and the
 * same question is read; the rest is measured and written, candidate by candidate: where the time
 * was up, the next call goes on from there. A damaged file is told of and measured again. Processes
 * may share a cache. */
TT_API tt_status tt_tune(tt_context *context, const tt_tune_options *options, tt_tuning *out);
/* The same in f32 and in bf16 (tunings[0], [1]), and then the two choices against each other: the
 * budget is for all of it. *comparison has two candidates, named "f32" and "bf16", each with its
 * tuning's tile and, for each product, its choice there: proven, then timed in turn on every shape.
 * chosen[] is 1 where bf16 is right and f32 takes longer by more than the tie band, and 0 where
 * that is not so or the time was up before it was known. The cache keeps all three. In a context of
 * f32; nothing of it changes. On an error there is nothing to clear. */
TT_API tt_status tt_tune_compute(tt_context *context, const tt_tune_options *options,
                                 tt_tuning tunings[2], tt_tuning *comparison);
TT_API void tt_tuning_clear(tt_tuning *tuning);
/* Seconds that a candidate takes for all shapes of a product, each as often as it counts; INFINITY
 * unless it was timed on all of them. */
TT_API double tt_tuning_seconds(const tt_tuning *tuning, tt_op op, size_t candidate);
/* "$XDG_CACHE_HOME/trimtab", or in ~/.cache; TT_ENOTFOUND where neither is set. */
TT_API tt_status tt_tune_cache_folder(tt_text *out);
/* The file of options->cache that holds the answer to this question; TT_ENOTFOUND where none does,
 * TT_ECORRUPT where it is damaged. */
TT_API tt_status tt_tune_cache_file(tt_context *context, const tt_tune_options *options,
                                    tt_text *out);
/* Puts a copy of it at `path`; or what lies at `path` into the cache: TT_EDATA unless it was
 * measured for this question on such a machine with this build. */
TT_API tt_status tt_tune_cache_export(tt_context *context, const tt_tune_options *options,
                                      const char *path);
TT_API tt_status tt_tune_cache_import(tt_context *context, const tt_tune_options *options,
                                      const char *path);
/* Removes everything that was measured; *removed counts files. */
TT_API tt_status tt_tune_cache_clear(const char *folder, int64_t *removed);
/* The same proof for the context's own variants and tile, with weights as in tt_tune_options:
 * *wrong is the index of the first shape whose product is wrong, or `count`; *error the worst error
 * as a share of its bound. */
TT_API tt_status tt_check_products(tt_context *context, const tt_gemm_shape *shapes, size_t count,
                                   bool weights_bf16, double *error, size_t *wrong);

/* ---- 5. what the machine can do at most --------------------------------------------------- */

/* Per second, all threads of a context together. */
typedef struct tt_peaks {
    size_t size;       /* sizeof(tt_peaks) */
    double flops_f32;  /* multiply-adds (two operations each) from registers, best level there is */
    double flops_bf16; /* products of bf16 from registers, of AMX's tiles or AVX512-BF16's pairs;
                          0 on a processor that has neither */
    double read_bytes; /* of memory far beyond the caches, prefetched, several streams at a time */
    double copy_bytes; /* the same copied past the caches: bytes read plus bytes written */
} tt_peaks;

/* Measures them in about that many seconds (at least one pass of each) with the context's threads;
 * medians. Allocates, and frees, 256 MiB to 1 GiB of its own: TT_ENOMEM names them. */
TT_API tt_status tt_measure_peaks(tt_context *context, double seconds, tt_peaks *out);

#ifdef __cplusplus
}
#endif
#endif
