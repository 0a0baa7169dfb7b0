/* The form of activations: in bf16 where the context computes in it, or in a codec between forward
 * and backward. */
#include "model_internal.h"

/* Steps that a form lasts before what only others need is released: more than a trial ever has in a
 * row, which runs pairs of steps in alternating order. */
enum { LASTING_STEPS = 4 };

/* ---- what the working buffers hold ---- */

void tt_model_forget_buffers(tt_model *model)
{
    for (int i = 0; i < ACT_BUFFERS; i++) {
        model->saving.held[i] = NO_ACT;
    }
}

void tt_model_note_held(tt_model *model, size_t act)
{
    const int buffer = model->acts[act].buffer;
    if (buffer >= 0) {
        model->saving.held[buffer] = (int64_t)act;
    }
}

/* ---- saving and restoring ---- */

static tt_encoded encoded_form(const tt_model *model, size_t act, int64_t rows)
{
    const tt_activation *activation = &model->acts[act];
    return (tt_encoded){.codec = model->saving.form.codec,
                        .block = model->saving.form.block,
                        .n = rows * activation->width,
                        .data = model->memory + activation->encoded};
}

tt_status tt_model_save_act(tt_model *model, size_t act, int64_t rows)
{
    tt_act_saving *saving = &model->saving;
    if (!model->acts[act].encoded) {
        return TT_OK;
    }
    tt_codec_loss loss = {0};
    const tt_encoded to = encoded_form(model, act, rows);
    TRY(tt_encode(saving->compressor, tt_model_act(model, act), &to, &loss));
    const double error = tt_codec_loss_ratio(&loss);
    if (error > saving->error) {
        saving->error = error;
        saving->worst = (int64_t)act;
    }
    return TT_OK;
}

static tt_status restore_act(tt_model *model, size_t act, int64_t rows)
{
    const tt_encoded from = encoded_form(model, act, rows);
    TRY(tt_decode(model->saving.compressor, &from, tt_model_act(model, act)));
    tt_model_note_held(model, act);
    if (!model->probe) {
        return TT_OK;
    }
    return model->probe(model->probe_user, model->acts[act].name, tt_model_act(model, act),
                        model->acts[act].dtype, from.n);
}

tt_status tt_model_restore_layer(tt_model *model, int64_t layer, int64_t rows)
{
    static const tt_layer_act large[] = {ACT_LN_1, ACT_QKV, ACT_ATTN,  ACT_RESID_MID,
                                         ACT_LN_2, ACT_FC,  ACT_HIDDEN};
    if (!model->saving.compressor) {
        return TT_OK;
    }
    model->probe_phase = TT_PROBE_DECODED;
    TRY(restore_act(model, tt_model_layer_input(layer), rows));
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        TRY(restore_act(model, tt_model_layer_act(layer, large[i]), rows));
    }
    model->probe_phase = TT_PROBE_GRADIENT;
    return TT_OK;
}

/* ---- the choice of a form ---- */

static tt_status check_codec(const tt_model *model, const tt_compressor *compressor, tt_codec codec,
                             int64_t block)
{
    if (codec == TT_CODEC_F32) {
        return TT_OK;
    }
    if (codec != TT_CODEC_BF16 && codec != TT_CODEC_INT8) {
        return tt_fail(TT_EINVAL, "activations cannot be kept as %s; there are: f32, bf16, int8",
                       tt_codec_name(codec));
    }
    if (!model->acts) {
        return tt_fail(TT_EINVAL, "a model for decoding only keeps no activations");
    }
    if (tt_context_dtype(model->context) != TT_F32) {
        return tt_fail(TT_EUNSUPPORTED, "activations of %s cannot be kept as %s; only those of f32",
                       tt_dtype_name(tt_context_dtype(model->context)), tt_codec_name(codec));
    }
    if (!compressor) {
        return tt_fail(TT_EINVAL, "keeping activations as %s needs a compressor",
                       tt_codec_name(codec));
    }
    if (codec == TT_CODEC_INT8 &&
        (block < TT_CODEC_BLOCK_MIN || block > TT_CODEC_BLOCK_MAX || (block & (block - 1)) != 0)) {
        return tt_fail(TT_EINVAL,
                       "activations in blocks of %lld; give a power of two from %d to %d",
                       (long long)block, TT_CODEC_BLOCK_MIN, TT_CODEC_BLOCK_MAX);
    }
    return TT_OK;
}

static bool same_form(tt_act_form a, tt_act_form b)
{
    return a.compute == b.compute && a.codec == b.codec && a.block == b.block;
}

/* What was asked for; in bf16 without the codec. */
static tt_status take_form(tt_model *model, tt_compressor *given, tt_act_form asked)
{
    tt_act_saving *saving = &model->saving;
    const bool encodes = asked.codec != TT_CODEC_F32 && asked.compute != TT_BF16;
    const tt_act_form form = {.compute = asked.compute,
                              .codec = encodes ? asked.codec : TT_CODEC_F32,
                              .block = encodes ? asked.block : 0};
    tt_compressor *compressor = encodes ? given : NULL;
    if (same_form(saving->form, form) && saving->compressor == compressor) {
        saving->given = given;
        saving->asked = asked;
        return TT_OK;
    }
    if (model->backward_due) {
        return tt_fail(TT_EINVAL, "the form of activations cannot change between forward_train "
                                  "and backward; abandon that pass first");
    }
    TRY(tt_context_set_compute(model->context, form.compute));
    *saving = (tt_act_saving){
        .given = given, .asked = asked, .compressor = compressor, .form = form, .worst = NO_ACT};
    tt_model_forget_buffers(model);
    tt_model_unpack_weights(model);
    model->batch = 0; /* what is there now are other tensors' bytes */
    model->time = 0;
    model->logits_rows = 0;
    model->loss_rows = 0;
    if (model->acts) {
        const int64_t rows = model->max_batch * model->max_time;
        saving->end = tt_model_place_large(&model->dims, rows, form, model->plan.large, model->acts,
                                           &saving->dlogits);
        saving->pass_end = tt_model_pass_end(&model->dims, rows, &model->plan, form.compute);
        saving->steps_to_release = LASTING_STEPS;
    }
    return TT_OK;
}

tt_status tt_model_set_compute(tt_model *model, tt_dtype compute)
{
    const tt_dtype dtype = tt_context_dtype(model->context);
    if (compute != dtype && (compute != TT_BF16 || dtype != TT_F32)) {
        return tt_fail(TT_EINVAL, "a model of %s cannot compute in %s", tt_dtype_name(dtype),
                       tt_dtype_name(compute));
    }
    tt_act_form asked = model->saving.asked;
    asked.compute = compute;
    return take_form(model, model->saving.given, asked);
}

tt_status tt_model_set_activation_codec(tt_model *model, tt_compressor *compressor, tt_codec codec,
                                        int64_t block)
{
    TRY(check_codec(model, compressor, codec, block));
    const tt_act_form asked = {.compute = model->saving.asked.compute,
                               .codec = codec,
                               .block = codec == TT_CODEC_INT8 ? block : 0};
    return take_form(model, codec == TT_CODEC_F32 ? NULL : compressor, asked);
}

tt_status tt_model_check_form(const tt_model *model, bool train)
{
    const tt_act_saving *saving = &model->saving;
    const tt_dtype compute = tt_context_compute(model->context);
    if (compute != saving->form.compute) {
        return tt_fail(TT_EINVAL, "the context now computes in %s, the model in %s",
                       tt_dtype_name(compute), tt_dtype_name(saving->form.compute));
    }
    if (train && compute == TT_BF16 && saving->asked.codec == TT_CODEC_INT8) {
        return tt_fail(TT_EINVAL, "activations that are computed in bf16 cannot be kept as int8");
    }
    return TT_OK;
}

tt_status tt_model_count_step(tt_model *model)
{
    tt_act_saving *saving = &model->saving;
    if (saving->steps_to_release == 0 || --saving->steps_to_release > 0) {
        return TT_OK;
    }
    TRY(tt_tensor_release(model->context, model->memory + saving->end,
                          model->plan.gradients - saving->end));
    TRY(tt_tensor_release(model->context, model->memory + saving->pass_end,
                          model->plan.training_bytes - saving->pass_end));
    return saving->form.compute == TT_BF16
               ? TT_OK
               : tt_tensor_release(model->context, model->memory + model->plan.packed,
                                   model->plan.bytes - model->plan.packed);
}

double tt_model_activation_error(const tt_model *model)
{
    return model->saving.error;
}

const char *tt_model_activation_worst(const tt_model *model)
{
    return model->saving.worst == NO_ACT ? "" : model->acts[model->saving.worst].name;
}
