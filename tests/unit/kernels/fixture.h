/* One run of one operation, on values kept as doubles: the same case runs in any dtype, variant,
 * tile and thread count, and its outputs can be compared. */
#ifndef TT_KERNELS_FIXTURE_H
#define TT_KERNELS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <trimtab/kernels.h>

enum { KT_TENSORS = 12 };
static const double kt_unit = 0x1p-24; /* unit roundoff of float */

typedef enum kt_kind { KT_INPUT, KT_INDEX, KT_OUTPUT, KT_BOTH, KT_RESULT } kt_kind;

typedef struct kt_tensor {
    kt_kind kind;
    bool act;    /* bf16 where the case runs in mixed precision */
    bool weight; /* bf16 where the case has bf16_weights */
    int64_t n;
    double *value;
} kt_tensor;

/* What of an operation's optional parts a case has. */
typedef struct kt_options {
    bool accumulate; /* LINEAR_DGRAD */
    bool in_place;   /* GELU_BACKWARD, SWIGLU_BACKWARD, ADD, SOFTMAX_XENT, ADAMW, norms' sum: the
                        aliasing that is allowed (SOFTMAX_XENT: not in mixed precision) */
    bool gelu;       /* LINEAR_FORWARD, LINEAR_DGRAD */
    bool real_y;     /* LINEAR_FORWARD */
    bool packed;     /* LINEAR_FORWARD, LINEAR_DGRAD: weights packed ahead, where the variant can */
    bool branch;     /* norms, forward */
    bool overwrite;  /* LINEAR_WGRAD; norms, backward: parameters and dx */
    bool dx_act;     /* norms, backward */
    bool inverse;    /* ROPE */
    bool placeless;  /* embeddings: without learned positions */
    bool bf16_weights; /* LINEAR_FORWARD, LINEAR_DGRAD, EMBEDDING_FORWARD; ADAMW, with rounding */
    int64_t kv_heads;  /* attention; 0: as many as heads */
} kt_options;

/* size[] and the tensors are in the order of the operation's argument struct; a KT_RESULT is a
 * struct in ordinary memory, as doubles. */
typedef struct kt_case {
    tt_op op;
    int64_t size[5];
    kt_options with;
    int count;
    kt_tensor t[KT_TENSORS];
} kt_case;

typedef struct kt_setting {
    tt_dtype dtype; /* what the context computes in: TT_F64, TT_F32 or TT_BF16 */
    const char *variant;
    int threads;
    tt_tile tile;
    bool guard;
    long stream_bytes;    /* -1: the default */
    size_t scratch_bytes; /* of a thread; 0: all that there is */
    bool misaligned;      /* tensors begin one element after a multiple of 64 bytes */
} kt_setting;

/* Sizes: linear m,n,k; embedding batch,time,channels,vocab,position; norms rows,channels;
 * rope batch,time,position,heads,size; attention batch,time,heads,channels; cached
 * count,position,heads,channels,q_stride; softmax rows,vocab; swiglu rows,width; others n. Filled
 * with values that float holds exactly; those of activations bf16, too. */
kt_case kt_make(tt_op op, const int64_t size[5], uint64_t seed);
kt_case kt_make_with(tt_op op, const int64_t size[5], const kt_options *with, uint64_t seed);
kt_case kt_clone(const kt_case *from);
void kt_clear(kt_case *c);
/* A variant of that name reads such weights as the case has. */
bool kt_reads_weights(const kt_options *with, const char *variant);
/* Runs the case in a context of its own; outputs are replaced. Fails the test unless TT_OK. */
void kt_run(kt_case *c, const kt_setting *setting);
tt_status kt_try(kt_case *c, const kt_setting *setting);
kt_setting kt_f64(void); /* the float64 reference */
kt_setting kt_f32(const char *variant);
kt_setting kt_bf16(const char *variant);

/* The settings under which a variant is tested: `dtype` and `name` of its row, two threads. */
kt_setting kt_setting_of(const tt_variant_info *info);
/* Arguments of a test program, TESTS VARIANT: only tests whose names match the pattern (* and ?),
 * on that variant alone. */
void kt_select(int argc, char **argv);
/* A selected row of `op` that this machine can run, other than those in double. */
bool kt_is_testable(const tt_variant_info *info, tt_op op);
/* A small size for each operation that has whole vectors, an end and several blocks. */
const int64_t *kt_size(tt_op op);

/* For bounds: the largest magnitude, and the largest norm of x[rows, n]'s rows. */
double kt_largest(const kt_tensor *t);
double kt_largest_row_norm(const double *x, int64_t rows, int64_t n);
/* The largest permitted error of each element of output k of an attention. */
void kt_bound_attention(const kt_case *in, const kt_case *expected, int k, bool rounded_weights,
                        double *bound);

/* Bits of all outputs equal; prints the first that is not. */
bool kt_same_bits(const kt_case *a, const kt_case *b);

/* Argument structs (fixture_args.c). */
typedef union kt_args {
    tt_linear_forward_args linear_forward;
    tt_linear_dgrad_args linear_dgrad;
    tt_linear_wgrad_args linear_wgrad;
    tt_embedding_forward_args embedding_forward;
    tt_embedding_backward_args embedding_backward;
    tt_layernorm_forward_args layernorm_forward;
    tt_layernorm_backward_args layernorm_backward;
    tt_rmsnorm_forward_args rmsnorm_forward;
    tt_rmsnorm_backward_args rmsnorm_backward;
    tt_rope_args rope;
    tt_swiglu_forward_args swiglu_forward;
    tt_swiglu_backward_args swiglu_backward;
    tt_attention_forward_args attention_forward;
    tt_attention_backward_args attention_backward;
    tt_attention_cached_args attention_cached;
    tt_gelu_forward_args gelu_forward;
    tt_gelu_backward_args gelu_backward;
    tt_add_args add;
    tt_softmax_xent_args softmax_xent;
    tt_stats_args stats;
    tt_adamw_args adamw;
} kt_args;

/* Ordinary-memory parts of the arguments. */
typedef struct kt_results {
    tt_tensor_stats stats;
    tt_verdict verdict;
    tt_step_scalars scalars;
    tt_rounding rounding;
} kt_results;

/* Tensor shapes of a case, values not yet there. */
void kt_shape(kt_case *c);
void kt_build(const kt_case *c, void *const tensor[KT_TENSORS], kt_results *results, kt_args *args);

#endif
