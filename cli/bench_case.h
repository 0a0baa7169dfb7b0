/* Operations at shapes: their arguments in tensor memory, and what they have to do. */
#ifndef TRIMTAB_CLI_BENCH_CASE_H
#define TRIMTAB_CLI_BENCH_CASE_H

#include "trimtab/config.h"
#include "trimtab/kernels.h"

enum { BENCH_SIZES = 5, BENCH_CASES = 128, BENCH_TENSORS = 10 };

typedef struct bench_case {
    tt_op op;
    int64_t size[BENCH_SIZES]; /* as bench_size_names says */
    int count;                 /* times per training step; 0: not part of one */
    bool gelu;                 /* a product with the GELU after it, or its gradient before it */
} bench_case;

typedef struct bench_cases {
    bench_case list[BENCH_CASES];
    size_t count;
} bench_cases;

/* Every operation of a training step of this configuration, and of decoding. */
tt_status bench_cases_of_config(const tt_config *config, bench_cases *out);
/* The same of GPT-2 small at 256 and 1,024 rows, products of 2048 cubed, and what other models
 * have. */
tt_status bench_cases_of_gpt2(bench_cases *out);
/* "OP:SIZE,SIZE,... OP:..." TT_EUSAGE names what is wrong. */
tt_status bench_cases_parse(const char *text, bench_cases *out);
/* Leaves those of the operations in "OP,OP,...". */
tt_status bench_cases_select(bench_cases *cases, const char *ops);

/* "m,n,k": the names of an operation's sizes. */
const char *bench_size_names(tt_op op);
/* "1024x2304x768", "1024x3072x768+gelu" */
const char *bench_shape_text(const bench_case *c, char out[96]);

/* What must be computed and moved at least. Additions, multiplications, divisions, roots and
 * exponentials count as one operation each. */
typedef struct bench_work {
    double flops, read, written; /* bytes */
    bool products; /* matrix products and attention of several rows: judged by operations; the
                      others by bytes */
} bench_work;

typedef union bench_args {
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
    tt_attention_forward_args attention_forward;
    tt_attention_backward_args attention_backward;
    tt_attention_cached_args attention_cached;
    tt_gelu_forward_args gelu_forward;
    tt_gelu_backward_args gelu_backward;
    tt_swiglu_forward_args swiglu_forward;
    tt_swiglu_backward_args swiglu_backward;
    tt_add_args add;
    tt_softmax_xent_args softmax_xent;
    tt_stats_args stats;
    tt_adamw_args adamw;
} bench_args;

/* Where a case's tensors lie. */
typedef struct bench_place {
    tt_dtype act; /* of activations: TT_F32 or TT_BF16 */
    char *base;   /* NULL: they are only counted */
    size_t used;  /* bytes */
    size_t offsets[BENCH_TENSORS];
    int count;
    bool laid_out;      /* the offsets stay as they are */
    tt_context *filler; /* fills them when they are laid out; NULL: nobody does */
    tt_status status;   /* of filling */
} bench_place;

/* Lays the tensors of `c` out from the base on. */
void bench_case_lay_out(const bench_case *c, bench_place *place, bench_args *args,
                        bench_work *work);
/* Arguments and work of `c`, or of a smaller case, with the tensors where they were laid out. */
void bench_case_build(const bench_case *c, const bench_place *place, bench_args *args,
                      bench_work *work);

#endif
