/* What the model's own files share: how parameters and activations are numbered and laid out. */
#ifndef TRIMTAB_TRAINING_MODEL_INTERNAL_H
#define TRIMTAB_TRAINING_MODEL_INTERNAL_H

#include "model.h"
#include "try.h"

/* Parameter tensors: wte, wpe, then these for each layer, then ln_f's, then the head's; less those
 * that the dims leave out. A weight's bias follows it. */
enum {
    PARAM_WTE,
    PARAM_WPE, /* with learned positions */
};
typedef enum tt_layer_param {
    PARAM_LN_1,
    PARAM_LN_1_BIAS,
    PARAM_QKV,
    PARAM_QKV_BIAS,
    PARAM_PROJ,
    PARAM_PROJ_BIAS,
    PARAM_LN_2,
    PARAM_LN_2_BIAS,
    PARAM_FC,
    PARAM_FC_BIAS,
    PARAM_FC_PROJ,
    PARAM_FC_PROJ_BIAS,
    PARAMS_PER_LAYER,
} tt_layer_param;

/* Activations: embed, then these for each layer, then the head's. A norm's mean and rstd follow
 * it; the mean of an RMSNorm has no width. */
enum {
    ACT_EMBED,
    ACT_FIRST_LAYER,
};
typedef enum tt_layer_act {
    ACT_LN_1,
    ACT_LN_1_MEAN,
    ACT_LN_1_RSTD,
    ACT_QKV,
    ACT_ATTN,
    ACT_LSE,
    ACT_RESID_MID,
    ACT_LN_2,
    ACT_LN_2_MEAN,
    ACT_LN_2_RSTD,
    ACT_FC,
    ACT_HIDDEN, /* of the MLP: the GELU of fc, or its SwiGLU */
    ACT_RESID,
    ACTS_PER_LAYER,
} tt_layer_act;
typedef enum tt_head_act {
    ACT_LN_F,
    ACT_LN_F_MEAN,
    ACT_LN_F_RSTD,
    ACT_LOGITS,
    ACT_LOSSES,
    ACTS_OF_HEAD,
} tt_head_act;

typedef struct tt_activation {
    char name[48];
    int64_t width; /* elements per token */
    int buffer; /* with a codec: the working buffer that it is in; -1: it has memory of its own */
    tt_dtype dtype;
    size_t offset;  /* bytes from the model's memory */
    size_t encoded; /* where its encoded form lies; 0: it has none */
} tt_activation;

enum { NO_ACT = -1 };

/* Large tensors in a codec. There is one working buffer for each kind of tensor in a layer,
 * numbered as tt_layer_act; embed shares that of resid, the two being one stream. The last layer's
 * output has one of its own: backward begins with it, and a scan for what went wrong still finds
 * it. */
enum { BUFFER_LAST = ACTS_PER_LAYER, ACT_BUFFERS };
typedef struct tt_act_saving {
    tt_compressor *given; /* with the codec that was asked for */
    tt_act_form asked;
    tt_compressor *compressor; /* NULL with F32: no buffer is shared, nothing is encoded */
    tt_act_form form;          /* in force */
    int64_t held[ACT_BUFFERS]; /* the activation that a buffer now holds */
    double error;              /* the largest loss ratio of the last forward_train */
    int64_t worst;             /* the activation of which it is */
    size_t dlogits;            /* in bf16: where the gradients of logits go */
    size_t end, pass_end;      /* of the large tensors and of a pass's scratch in this form */
    int steps_to_release;      /* until what lies behind them is released; 0: it was */
} tt_act_saving;

/* Buffers that nothing outlives a pass in. What lies behind `branch` is the logits' in the head,
 * then backward's, or a decode's, never two of them at once. Byte offsets from the model's
 * memory. */
typedef struct tt_pass_scratch {
    size_t branch; /* [rows, C] act: forward, what a branch adds to the residual stream; in the head
                      and in backward, the gradient that goes down a branch */
    size_t dresid_act; /* [rows, C]: dresid in bf16, for products; the other half of branch */
    size_t dresid;     /* [rows, C]: the gradient that runs down the residual stream */
    size_t dwide;      /* [rows, as wide as qkv and hidden] act */
    size_t logits;     /* [head_rows, V] */
    int64_t head_rows; /* whose logits are there at a time */
} tt_pass_scratch;
typedef struct tt_decode_scratch {
    int64_t rows; /* tokens decoded at a time */
    size_t tokens, resid, branch, wide, hidden, mean, rstd, logits;
} tt_decode_scratch;

/* Where everything lies in one piece of tensor memory. */
typedef struct tt_model_plan {
    size_t element;
    size_t tokens, targets; /* int32 [rows] */
    size_t large;           /* the layers' large tensors, in whatever form, up to the gradients */
    size_t gradients;       /* the flat vector */
    tt_pass_scratch pass;
    tt_decode_scratch decode;
    size_t training_bytes; /* up to the end of a pass's scratch */
    size_t packed;         /* weights packed ahead */
    size_t bytes;
} tt_model_plan;

/* What weights are packed for; a product of the first layout or the other. */
enum { TT_PACKED_OPS = 2 };
typedef struct tt_packed_weights {
    size_t (*at)[TT_PACKED_OPS]; /* of each parameter tensor: bytes from the model's memory; as
                                    they were packed last */
    const void *params;          /* whose weights they are; NULL: there are none */
    const tt_variant_info *variant[TT_PACKED_OPS]; /* that can read them; NULL: none does */
    bool in_gradients;                             /* they lie in the place of the gradients */
} tt_packed_weights;

typedef enum tt_resident_kind {
    RESIDENT_PARAMETER,
    RESIDENT_ACTIVATION,
    RESIDENT_GRADIENT
} tt_resident_kind;

typedef struct tt_resident_entry {
    tt_resident_kind kind;
    size_t index;
} tt_resident_entry;

struct tt_model {
    tt_context *context;
    tt_model_dims dims;
    int64_t max_batch, max_time;
    tt_param_tensor *tensors;
    size_t tensor_count;
    char (*gradient_names)[80]; /* of each parameter tensor */
    tt_activation *acts;        /* NULL for batch 0 */
    size_t act_count;
    tt_resident_entry *residents;
    size_t resident_count;
    tt_model_plan plan;
    tt_act_saving saving;
    tt_packed_weights packed;
    unsigned char *memory; /* tensor memory: addresses only, never bytes */
    void *host;            /* losses of a batch, or a row of float64 logits, on their way out */
    tt_probe_fn probe;
    void *probe_user;
    tt_probe_phase probe_phase;
    int64_t batch, time; /* of the last pass; 0 before the first */
    int64_t logits_rows; /* whose logits, or what became of them, are there */
    int64_t loss_rows;   /* that have a loss */
    bool backward_due;   /* the last pass left ln_f's gradient and the head's share of wte's */
    bool step_begins;    /* gradients take the place of what is there */
    int64_t fc_spent;    /* the SwiGLUs from this layer on have their gradient in the place of fc */
};

/* ---- model_dims.c ---- */

int64_t tt_model_head_size(const tt_model_dims *dims);
int64_t tt_model_qkv_width(const tt_model_dims *dims);
int64_t tt_model_fc_width(const tt_model_dims *dims);
double tt_model_rope_theta(const tt_model_dims *dims);
/* Tensors of the embedding, of a norm and of a product. */
size_t tt_model_embedding_params(const tt_model_dims *dims);
size_t tt_model_norm_params(const tt_model_dims *dims);
size_t tt_model_linear_params(const tt_model_dims *dims);
/* Where they are among all; the head's is wte if that is tied. */
size_t tt_model_layer_param(const tt_model_dims *dims, int64_t layer, tt_layer_param which);
size_t tt_model_last_norm_param(const tt_model_dims *dims);
size_t tt_model_head_param(const tt_model_dims *dims);
size_t tt_model_count_tensors(const tt_model_dims *dims);
/* Fills tensors[tt_model_count_tensors()]; returns the elements of the flat vector. `tensors` may
 * be NULL. */
int64_t tt_model_lay_out_params(const tt_model_dims *dims, tt_param_tensor *tensors);

/* ---- model_layout.c ---- */

size_t tt_model_layer_act(int64_t layer, tt_layer_act which);
size_t tt_model_head_act(const tt_model_dims *dims, tt_head_act which);
size_t tt_model_count_acts(const tt_model_dims *dims);
/* Elements per token; 0: there is no such tensor. */
int64_t tt_model_act_width(const tt_model_dims *dims, size_t index);
/* Fills acts[tt_model_count_acts()] and *plan. `acts` may be NULL. plan->bytes is SIZE_MAX when
 * the sum is beyond the address space. */
void tt_model_lay_out_memory(const tt_model_dims *dims, int64_t batch, int64_t time, tt_dtype dtype,
                             tt_activation *acts, tt_model_plan *plan);
/* Places the large tensors in that form, from byte `start` on; returns their end, SIZE_MAX when
 * beyond the address space. `acts` and `dlogits` may be NULL. */
size_t tt_model_place_large(const tt_model_dims *dims, int64_t rows, tt_act_form form, size_t start,
                            tt_activation *acts, size_t *dlogits);
/* Where a pass's scratch ends in that form. */
size_t tt_model_pass_end(const tt_model_dims *dims, int64_t rows, const tt_model_plan *plan,
                         tt_dtype compute);

/* ---- model_saved.c ---- */

/* No working buffer holds anything: a pass begins, or the layout changes. */
void tt_model_forget_buffers(tt_model *model);
/* Activation `act` now is where its values are looked for. */
void tt_model_note_held(tt_model *model, size_t act);
/* TT_EINVAL where a pass (`train`: of a training step) cannot run in the form that was asked for,
 * or the context's compute type was changed behind the model's back. */
tt_status tt_model_check_form(const tt_model *model, bool train);
/* With a codec: encodes `act` if backward needs it, and measures what is lost. */
tt_status tt_model_save_act(tt_model *model, size_t act, int64_t rows);
/* With a codec: decodes what the backward of `layer` reads into the working buffers. */
tt_status tt_model_restore_layer(tt_model *model, int64_t layer, int64_t rows);
/* A step begins: when the form has lasted, the memory that others needed is released. */
tt_status tt_model_count_step(tt_model *model);

/* ---- the passes ---- */

/* One sweep over the model: what every step of it needs. */
typedef struct tt_pass {
    tt_model *model;
    const void *params;
    int64_t batch, time, rows;
    bool save; /* backward follows: activations are encoded, if there is a codec */
} tt_pass;

/* Addresses in tensor memory. */
static inline const void *tt_model_param(const tt_model *model, const void *params, size_t index)
{
    return (const unsigned char *)params +
           tt_param_at(&model->tensors[index], tt_context_dtype(model->context));
}

/* NULL without learned positions. */
static inline const void *tt_model_wpe(const tt_model *model, const void *params)
{
    const bool learned = model->dims.positions == TT_POSITIONS_LEARNED;
    return learned ? tt_model_param(model, params, PARAM_WPE) : NULL;
}

static inline void *tt_model_grad(const tt_model *model, size_t index)
{
    return model->memory + model->plan.gradients +
           (size_t)model->tensors[index].offset * model->plan.element;
}

static inline void *tt_model_act(const tt_model *model, size_t index)
{
    return model->memory + model->acts[index].offset;
}

/* What a branch adds to the residual stream, or the gradient that goes down it. */
static inline void *tt_model_branch(const tt_model *model)
{
    return model->memory + model->plan.pass.branch;
}

/* Bytes of an element of activations now. */
static inline size_t tt_model_act_element(const tt_model *model)
{
    return tt_dtype_size(model->saving.form.compute);
}

/* What runs into layer `layer`. */
static inline size_t tt_model_layer_input(int64_t layer)
{
    return layer ? tt_model_layer_act(layer - 1, ACT_RESID) : ACT_EMBED;
}

/* y[rows, n] = x[rows, k] w^T + bias, with the weight w[n, k] at `index` and its bias, if it has
 * one, after it; gelu (may be NULL) = GELU(y). */
tt_status tt_pass_linear(const tt_pass *pass, size_t index, const void *x, void *y, void *gelu);
/* The weight at `index` packed for `op`, if what is packed is of the pass's parameters and of the
 * form that `op` now reads; else NULL. */
const void *tt_pass_packed(const tt_pass *pass, tt_op op, size_t index);
/* A norm of x or, with `branch` (else NULL), of sum = x + branch; `mean` is of no use to RMSNorm.
 */
typedef struct tt_norm_tensors {
    int64_t rows;
    const void *x, *branch;
    void *sum, *y, *mean, *rstd;
} tt_norm_tensors;
tt_status tt_pass_norm(const tt_pass *pass, size_t param, const tt_norm_tensors *tensors);
/* With rotary positions: turns queries and keys, the first token being at `position`, or back. */
tt_status tt_pass_rotate(const tt_pass *pass, int64_t position, void *qkv, bool inverse);
/* fc, hidden: what the MLP's first product, whose weight is at `index`, makes of x. tt_pass_expand
 * leaves a SwiGLU to tt_pass_gate, so that fc can be shown between them. */
tt_status tt_pass_expand(const tt_pass *pass, size_t index, const void *x, void *fc, void *hidden);
tt_status tt_pass_gate(const tt_pass *pass, const void *fc, void *hidden);
/* The probe sees `count` elements of activation `act`. */
tt_status tt_pass_show(const tt_pass *pass, size_t act, void *data, int64_t count);

/* model_head.c: logits and, with targets, the loss; with pass->save the gradient of loss * scale,
 * too: the head's share of wte's, and ln_f's in the branch buffer. */
tt_status tt_pass_head(const tt_pass *pass, bool has_targets, double scale, double *loss);

/* TT_EDATA names the first token outside the vocabulary. */
tt_status tt_model_check_tokens(const tt_model *model, const char *what, const int32_t *tokens,
                                int64_t count);

#endif
