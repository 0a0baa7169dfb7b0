/* A decoder with pre-norm blocks. Each part is GPT-2's (Radford et al. 2019: learned positions,
 * LayerNorm, GELU, biases, tied head) or, by itself, Llama's (Touvron et al. 2023: rotary
 * positions, RMSNorm, SwiGLU, no biases, an untied head; grouped-query attention since Llama 2).
 * Forward and backward by hand, over operations only: the same code runs in f32 and f64, and never
 * touches a tensor's bytes. */
#ifndef TRIMTAB_TRAINING_MODEL_H
#define TRIMTAB_TRAINING_MODEL_H

#include "trimtab/compression.h"
#include "trimtab/kernels.h"
#include "trimtab/kvcache.h"

typedef enum tt_model_norm { TT_NORM_LAYERNORM, TT_NORM_RMSNORM } tt_model_norm;
typedef enum tt_model_positions { TT_POSITIONS_LEARNED, TT_POSITIONS_ROTARY } tt_model_positions;
typedef enum tt_model_mlp { TT_MLP_GELU, TT_MLP_SWIGLU } tt_model_mlp;

/* What follows `vocab` may stay zero: GPT-2's parts. */
typedef struct tt_model_dims {
    int64_t layers, heads, channels, context, vocab;
    tt_model_norm norm;
    tt_model_positions positions;
    tt_model_mlp mlp;
    int64_t kv_heads;  /* heads of keys and values; 0: as many as heads */
    int64_t mlp_width; /* 0: four times the channels; with SwiGLU 8/3, up to a multiple of 64 */
    double rope_theta; /* 0: 10000 */
    bool unbiased;     /* products add no bias */
    bool untied;       /* the head has a weight of its own */
    bool bf16_weights; /* matrices and embeddings are kept in bf16 alone (in f32 contexts) */
} tt_model_dims;

/* TT_ECONFIG for dims that are not positive, do not divide (channels by heads, heads by kv_heads),
 * contradict each other (rotary positions and an odd head size) or are beyond what this code can
 * address, naming the key. Every function below requires dims that pass. */
tt_status tt_model_dims_check(const tt_model_dims *dims);
/* What zeros stand for. */
int64_t tt_model_kv_heads(const tt_model_dims *dims);
int64_t tt_model_mlp_width(const tt_model_dims *dims);
/* Keys, or values, of one token: the width of a KV store. */
int64_t tt_model_kv_width(const tt_model_dims *dims);

/* Parameter tensors, in a fixed order that is also the order in slots and checkpoints. Layer
 * tensors are per layer: "h.0.attn.c_attn.weight". Names are GPT-2's, whatever the parts; with K =
 * tt_model_kv_width and W = tt_model_mlp_width:
 *   wte.weight [V,C], wpe.weight [T,C],
 *   h.i.ln_1.weight/bias [C], h.i.attn.c_attn.weight [C+2K,C]/bias [C+2K] (queries, keys, values),
 *   h.i.attn.c_proj.weight [C,C]/bias [C], h.i.ln_2.weight/bias [C], h.i.mlp.c_fc.weight [W,C]/bias
 *   [W], with SwiGLU [2W,C]/[2W] (gate, then up), h.i.mlp.c_proj.weight [C,W]/bias [C],
 *   ln_f.weight/bias [C], lm_head.weight [V,C].
 * Left out: wpe with rotary positions, the biases of norms with RMSNorm, all other biases if
 * unbiased, lm_head unless untied. */
enum { TT_MODEL_WTE }; /* the first, whatever the rest */

typedef struct tt_param_tensor {
    char name[64];
    int rank;
    int64_t dims[2];
    int64_t count;  /* elements */
    int64_t offset; /* in elements, into flat vectors of reals: gradients, moments */
    int64_t place;  /* in halves of a real, into a slot's parameters */
    bool bf16;      /* kept as bf16; else real */
    bool decay;     /* weight decay applies (matrices and embeddings; none on norms and biases) */
    bool residual;  /* a projection into the residual stream: init std 0.02 / sqrt(2 layers) */
    bool gain;      /* the weight of a norm: it starts at one */
} tt_param_tensor;

typedef struct tt_model tt_model;

/* Lays out parameters and activations for batches of `batch` sequences of up to `time` tokens.
 * Tensor memory (activations, gradients) comes from `context`. Parameters belong to the caller:
 * tt_model_params_bytes() of tensor memory, each tensor at its place (tt_param_at). batch 0: for
 * decoding only, no activations or gradients. TT_EINVAL for weights in bf16 but in f32. */
tt_status tt_model_create(tt_context *context, const tt_model_dims *dims, int64_t batch,
                          int64_t time, tt_model **out);
void tt_model_destroy(tt_model *model);
/* Tensor bytes that tt_model_create will take for these sizes, enough for every form of
 * activations; SIZE_MAX when beyond the address space. */
size_t tt_model_bytes(const tt_model_dims *dims, int64_t batch, int64_t time, tt_dtype dtype);
/* How a model keeps its activations. */
typedef struct tt_act_form {
    tt_dtype compute; /* the context's dtype, or bf16 */
    tt_codec codec;
    int64_t block; /* of TT_CODEC_INT8 */
} tt_act_form;

/* How many of them a training step touches, which is what it keeps in memory. compute is the dtype
 * of the context, or bf16 for f32; codecs other than TT_CODEC_F32 are for f32. */
size_t tt_model_resident_bytes(const tt_model_dims *dims, int64_t batch, int64_t time,
                               tt_act_form form);
/* What tt_model_pack_weights takes beside them, at the most. */
size_t tt_model_packed_bytes(const tt_model_dims *dims, tt_dtype compute);
/* The same of tt_model_pack_for_decoding. */
size_t tt_model_packed_for_decoding(const tt_model_dims *dims, tt_dtype compute);
/* Elements of a flat vector (tensors start at multiples of 16 elements; gaps stay zero). */
int64_t tt_model_param_count(const tt_model_dims *dims);
/* Bytes of the parameters, whose gaps stay zero, too; `real` is the context's dtype. */
size_t tt_model_params_bytes(const tt_model_dims *dims, tt_dtype real);
/* Where one of them is, and what it takes. */
size_t tt_param_at(const tt_param_tensor *tensor, tt_dtype real);
size_t tt_param_bytes(const tt_param_tensor *tensor, tt_dtype real);
/* The same without the gaps, and of the largest tensor. */
int64_t tt_model_param_elements(const tt_model_dims *dims);
int64_t tt_model_largest_param(const tt_model_dims *dims);

const tt_model_dims *tt_model_get_dims(const tt_model *model);
size_t tt_model_tensor_count(const tt_model *model);
const tt_param_tensor *tt_model_tensor(const tt_model *model, size_t index);

/* GPT-2 initialisation: normal(0, 0.02), residual projections / sqrt(2 layers), norms 1, biases 0;
 * a pure function of seed. */
tt_status tt_model_init_params(const tt_model *model, uint64_t seed, void *params);

/* Called after each named tensor has been produced (and before it is used): by the replay that
 * names the first bad tensor, and by faults in tests. `data` is tensor memory. A failure status
 * stops the pass and is returned. Names, in order (i = layer):
 *   "act.embed";
 *   "act.h.i.ln_1", "act.h.i.ln_1.mean", "act.h.i.ln_1.rstd", "act.h.i.qkv", "act.h.i.attn",
 *   "act.h.i.attn.lse", "act.h.i.resid_mid", "act.h.i.ln_2", "act.h.i.ln_2.mean",
 *   "act.h.i.ln_2.rstd", "act.h.i.fc", "act.h.i.gelu" or "act.h.i.swiglu", "act.h.i.resid";
 *   "act.ln_f", "act.ln_f.mean", "act.ln_f.rstd", "act.logits", "act.losses";
 *   "grad.<parameter tensor>" as each becomes final.
 * RMSNorm has no mean; qkv is shown as attention reads it, rotated. Before it is used, that is, but
 * for what one operation makes and uses: a norm makes the sum that it normalizes (resid_mid,
 * resid), and a product makes the GELU (of fc). What a probe puts into those acts on what comes
 * after. What the two projections add to the residual stream has no memory of its own: a bad one
 * shows as resid_mid or resid. Logits and losses are shown some rows at a time, in turn, and not
 * beyond those of which a loss is no number.
 *
 * With a codec on, backward shows what it has decoded, too, under the same names: for each layer
 * from the last to the first, before that layer's first gradient, the layer's input ("act.embed" or
 * the resid of the layer below), ln_1, qkv, attn, resid_mid, ln_2, fc and gelu or swiglu. What the
 * probe puts there acts on gradients only. */
typedef tt_status (*tt_probe_fn)(void *user, const char *name, void *data, tt_dtype dtype,
                                 int64_t count);
void tt_model_set_probe(tt_model *model, tt_probe_fn probe, void *user);
/* What is being shown; for use in a probe. */
typedef enum tt_probe_phase {
    TT_PROBE_FORWARD, /* as computed */
    TT_PROBE_DECODED, /* as decoded for backward */
    TT_PROBE_GRADIENT
} tt_probe_phase;
tt_probe_phase tt_model_probe_phase(const tt_model *model);

/* tokens, targets: int32 [batch,time] in ordinary memory, each in [0, vocab) (TT_EDATA names the
 * first that is not). *loss is the mean cross-entropy in nats, summed in float64 in row order.
 * targets NULL: logits only, `loss` is not written and may be NULL. Logits are made for as many
 * rows at a time as fit in a bounded buffer; those of the last rows stay. */
tt_status tt_model_forward(tt_model *model, const void *params, const int32_t *tokens,
                           const int32_t *targets, int64_t batch, int64_t time, double *loss);
/* The forward pass of a training step: as above, and in the same sweep the head's part of the
 * gradient of this mean loss times `scale` (1/accumulation steps). Their gradients take the place
 * of logits; a row of them with a NaN or +inf becomes a row of NaN. A loss that is no number ends
 * the pass there, so that a scan of "act.logits" still finds it. */
tt_status tt_model_forward_train(tt_model *model, const void *params, const int32_t *tokens,
                                 const int32_t *targets, int64_t batch, int64_t time, double scale,
                                 double *loss);
/* A step begins: the gradients of the next pass take the place of what is there, whatever that is;
 * those of further passes are added. Abandons a pass. */
tt_status tt_model_begin_step(tt_model *model);
/* The rest of the gradients of the last pass, at the expense of fc with SwiGLU. That pass must have
 * been a tt_model_forward_train with a finite loss (TT_EINVAL), with the same params, and can be
 * used once. */
tt_status tt_model_backward(tt_model *model, const void *params);
/* The last tt_model_forward_train is not followed by its backward: then the gradients are of no use
 * until tt_model_begin_step. */
void tt_model_abandon_pass(tt_model *model);
/* The flat gradient vector: same layout as parameters. */
void *tt_model_gradients(tt_model *model);

/* What the context computes in from the next pass on (see tt_context_set_compute; always by way of
 * the model). In bf16 the activations between norms and products are kept as bf16, and no codec
 * runs: TT_CODEC_BF16 then changes nothing, with TT_CODEC_INT8 a training pass fails (TT_EINVAL).
 * The residual stream, statistics, logits and losses stay real. Memory and TT_EINVAL as for
 * tt_model_set_activation_codec. */
tt_status tt_model_set_compute(tt_model *model, tt_dtype compute);

/* In bf16: packs the weights of all products ahead, for several passes with the same params, whose
 * bits do not change by it. Whoever changes what `params` holds calls tt_model_unpack_weights
 * before the next pass; tt_model_begin_step does so as well. Passes with other params, in another
 * compute type or with other variants read their weights as they are. */
tt_status tt_model_pack_weights(tt_model *model, const void *params);
/* The same for forward passes and decoding alone, in a model for decoding only as well. In one that
 * trains they take no more memory: they take the place of the gradients, which are of no use then
 * until tt_model_begin_step. TT_EINVAL where a backward is due. */
tt_status tt_model_pack_for_decoding(tt_model *model, const void *params);
void tt_model_unpack_weights(tt_model *model);

/* The parameter tensor whose gradient is a number only if all that backward has passed down is. */
size_t tt_model_lowest_gradient(const tt_model *model);

/* How activations are kept from forward to backward: TT_CODEC_F32 (at first) as they are, or
 * TT_CODEC_BF16 or TT_CODEC_INT8 in blocks of `block`. With a codec every layer computes in one
 * shared set of buffers, and each tensor that its backward needs, of a width of model.channels or
 * more, is encoded as soon as it is there. Loss and logits stay the same to the bit; only gradients
 * see what was lost. The head's tensors, means, rstds and log-sum-exps stay as they are.
 * tt_model_forward then uses the shared buffers as well, and encodes nothing.
 *
 * From the next pass on. The memory that is no longer needed returns to the system once the codec
 * has lasted for some steps (tt_model_begin_step): a trial changes it at every step, and
 * pages that have to come back would cost the other side more time than a codec. `compressor`
 * (of the model's context) is borrowed until the next change; NULL will do for F32. TT_EINVAL
 * between a tt_model_forward_train and its backward (see tt_model_abandon_pass), unless nothing
 * changes. */
tt_status tt_model_set_activation_codec(tt_model *model, tt_compressor *compressor, tt_codec codec,
                                        int64_t block);
/* What the last tt_model_forward_train lost: the largest tt_codec_loss_ratio of an encoded tensor
 * (infinity: one was not finite); 0 where no codec runs. */
double tt_model_activation_error(const tt_model *model);
/* The tensor that lost it, the first in graph order among equals: "act.h.3.gelu"; "" if nothing
 * was lost. Lives as long as the model. */
const char *tt_model_activation_worst(const tt_model *model);

/* A tensor of the last pass that is still resident, in graph order (parameters before their first
 * use, then activations, then gradients in backward order), so that the first non-finite one is
 * where the trouble began. False past the last. `count` is 0 for activations before the first pass
 * (also before the first after a change of their form), for those whose buffer other values have
 * taken since (another layer's, with a codec; for the logits, backward's or a decode's), for
 * gradients before a step's first backward pass, and for parameters when `params` is NULL. A model
 * of batch 0 has parameters only. */
typedef struct tt_resident {
    char name[80];
    const void *data;
    tt_dtype dtype;
    int64_t count;
    bool is_parameter; /* then `data` lies in the `params` given */
} tt_resident;
bool tt_model_resident(const tt_model *model, const void *params, size_t index, tt_resident *out);

/* Decoding: logits[vocab] (ordinary memory, always float) of the last of `count` new tokens, whose
 * keys and values are appended to the store (of this model's layers and kv_width). On failure the
 * store keeps the tokens it had. A model created with batch 0 may be used; a decode leaves the
 * tensors of the last training pass as they are, but for its logits. */
tt_status tt_model_decode(tt_model *model, const void *params, tt_kv_store *store,
                          const int32_t *tokens, int64_t count, float *logits);

/* The matrix products of one training microbatch, for the tuner. Returns how many (at most
 * `capacity` are written); that is TT_MODEL_GEMM_SHAPES. */
enum { TT_MODEL_GEMM_SHAPES = 15 };
size_t tt_model_gemm_shapes(const tt_model_dims *dims, int64_t batch, int64_t time,
                            tt_gemm_shape *out, size_t capacity);

#endif
