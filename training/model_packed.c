/* Weights packed ahead, once for several passes over them: a product that reads them as they are
 * packs them each time, and the head's does for each lot of rows. */
#include "model_internal.h"

static const tt_op packed_ops[TT_PACKED_OPS] = {TT_OP_LINEAR_FORWARD, TT_OP_LINEAR_DGRAD};

enum { ALIGN_BYTES = 64 };

static size_t place_bytes(tt_op op, tt_dtype compute, int64_t n, int64_t k)
{
    const size_t most = tt_linear_packed_max(op, compute, n, k);
    return (most + ALIGN_BYTES - 1) & ~((size_t)ALIGN_BYTES - 1);
}

/* Of the first `ops` of them. */
static size_t packed_bytes(const tt_model_dims *dims, tt_dtype compute, int ops)
{
    tt_gemm_shape shapes[TT_MODEL_GEMM_SHAPES];
    const size_t count = tt_model_gemm_shapes(dims, 1, 1, shapes, TT_MODEL_GEMM_SHAPES);
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t all;
        if (shapes[i].op != packed_ops[0] && shapes[i].op != packed_ops[ops - 1]) {
            continue;
        }
        if (__builtin_mul_overflow(place_bytes(shapes[i].op, compute, shapes[i].n, shapes[i].k),
                                   (size_t)shapes[i].count, &all) ||
            __builtin_add_overflow(bytes, all, &bytes)) {
            return SIZE_MAX;
        }
    }
    return bytes;
}

size_t tt_model_packed_bytes(const tt_model_dims *dims, tt_dtype compute)
{
    return packed_bytes(dims, compute, TT_PACKED_OPS);
}

size_t tt_model_packed_for_decoding(const tt_model_dims *dims, tt_dtype compute)
{
    return packed_bytes(dims, compute, 1);
}

/* Whether the parameter is the weight of a product; the embeddings are none, but for a tied wte. */
static bool is_weight(const tt_model *model, size_t index)
{
    return index == tt_model_head_param(&model->dims) ||
           (index >= tt_model_embedding_params(&model->dims) && model->tensors[index].rank == 2);
}

static void place(tt_model *model, size_t first, int ops)
{
    for (size_t i = 0; i < model->tensor_count; i++) {
        const int64_t *dims = model->tensors[i].dims;
        for (int op = 0; op < ops && is_weight(model, i); op++) {
            model->packed.at[i][op] = first;
            first += place_bytes(packed_ops[op], TT_BF16, dims[0], dims[1]);
        }
    }
}

/* All weights for one operation; *variant stays NULL where its variant packs nothing. */
static tt_status pack_for(tt_model *model, const void *params, int op,
                          const tt_variant_info **variant)
{
    tt_context *context = model->context;
    for (size_t i = 0; i < model->tensor_count; i++) {
        const int64_t *dims = model->tensors[i].dims;
        if (is_weight(model, i) &&
            tt_linear_packed_bytes(context, packed_ops[op], dims[0], dims[1]) > 0) {
            TRY(tt_linear_pack(context, packed_ops[op], dims[0], dims[1],
                               tt_model_param(model, params, i), model->dims.bf16_weights,
                               model->memory + model->packed.at[i][op]));
            *variant = tt_context_variant(context, packed_ops[op]);
        }
    }
    return TT_OK;
}

/* In f32 there are no bytes to save, and what a copy gains pays only after hundreds of passes. */
static bool worth_packing(const tt_model *model)
{
    return model->saving.form.compute == TT_BF16;
}

/* From byte `first` of the model's memory on, for the first `ops` operations. */
static tt_status pack_all(tt_model *model, const void *params, size_t first, int ops)
{
    tt_packed_weights *packed = &model->packed;
    place(model, first, ops);
    for (int op = 0; op < ops; op++) {
        TRY(pack_for(model, params, op, &packed->variant[op]));
    }
    packed->params = params;
    return TT_OK;
}

tt_status tt_model_pack_weights(tt_model *model, const void *params)
{
    tt_model_unpack_weights(model);
    if (!model->acts) {
        return tt_fail(TT_EINVAL, "a model for decoding only has no room for packed weights");
    }
    return worth_packing(model) ? pack_all(model, params, model->plan.packed, TT_PACKED_OPS)
                                : TT_OK;
}

tt_status tt_model_pack_for_decoding(tt_model *model, const void *params)
{
    const size_t gradients = (size_t)tt_model_param_count(&model->dims) * model->plan.element;
    tt_model_unpack_weights(model);
    if (!worth_packing(model)) {
        return TT_OK;
    }
    if (model->backward_due) {
        return tt_fail(TT_EINVAL, "weights are packed in the place of gradients that a backward "
                                  "pass still needs");
    }
    if (!model->acts) {
        return pack_all(model, params, model->plan.packed, 1);
    }
    /* Weights so small that whole panels are much longer stay as they are. */
    if (tt_model_packed_for_decoding(&model->dims, TT_BF16) > gradients) {
        return TT_OK;
    }
    model->packed.in_gradients = true;
    return pack_all(model, params, model->plan.gradients, 1);
}

void tt_model_unpack_weights(tt_model *model)
{
    if (model->packed.in_gradients) { /* the gaps between gradients are zero: the norm reads them */
        (void)tt_tensor_zero(model->context, model->memory + model->plan.gradients,
                             (size_t)tt_model_param_count(&model->dims) * model->plan.element);
        model->packed.in_gradients = false;
    }
    model->packed.params = NULL;
    model->packed.variant[0] = model->packed.variant[1] = NULL;
}

const void *tt_pass_packed(const tt_pass *pass, tt_op op, size_t index)
{
    const tt_model *model = pass->model;
    const tt_packed_weights *packed = &model->packed;
    const int which = op == TT_OP_LINEAR_FORWARD ? 0 : 1;
    const bool good = packed->params != NULL && packed->params == pass->params &&
                      packed->variant[which] == tt_context_variant(model->context, op);
    return good ? model->memory + packed->at[index][which] : NULL;
}
