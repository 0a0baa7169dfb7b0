/* A model's life: tables, tensor memory, initial parameters, and what it tells about itself. */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_internal.h"

/* ---- tables ---- */

/* A run of `count` tensors of one kind, in order; those that the dims leave out are no activations.
 */
static void add_residents(tt_model *model, tt_resident_kind kind, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        if (kind != RESIDENT_ACTIVATION || tt_model_act_width(&model->dims, i) > 0) {
            model->residents[model->resident_count++] = (tt_resident_entry){kind, i};
        }
    }
}

/* Parameters stand directly before the activation that first uses them. */
static void list_layer(tt_model *model, int64_t layer)
{
    static const struct {
        tt_layer_param param;
        tt_layer_act act;
        size_t acts;
    } stages[] = {
        {PARAM_LN_1, ACT_LN_1, 3}, {PARAM_QKV, ACT_QKV, 3}, {PARAM_PROJ, ACT_RESID_MID, 1},
        {PARAM_LN_2, ACT_LN_2, 3}, {PARAM_FC, ACT_FC, 2},   {PARAM_FC_PROJ, ACT_RESID, 1},
    };
    const tt_model_dims *dims = &model->dims;
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        const tt_layer_param param = stages[i].param;
        const bool is_norm = param == PARAM_LN_1 || param == PARAM_LN_2;
        add_residents(model, RESIDENT_PARAMETER, tt_model_layer_param(dims, layer, param),
                      is_norm ? tt_model_norm_params(dims) : tt_model_linear_params(dims));
        add_residents(model, RESIDENT_ACTIVATION, tt_model_layer_act(layer, stages[i].act),
                      model->acts ? stages[i].acts : 0);
    }
}

static void list_forward(tt_model *model)
{
    const tt_model_dims *dims = &model->dims;
    const bool acts = model->acts != NULL;
    add_residents(model, RESIDENT_PARAMETER, PARAM_WTE, tt_model_embedding_params(dims));
    add_residents(model, RESIDENT_ACTIVATION, ACT_EMBED, acts ? 1 : 0);
    for (int64_t layer = 0; layer < dims->layers; layer++) {
        list_layer(model, layer);
    }
    add_residents(model, RESIDENT_PARAMETER, tt_model_last_norm_param(dims),
                  tt_model_norm_params(dims));
    add_residents(model, RESIDENT_ACTIVATION, tt_model_head_act(dims, ACT_LN_F), acts ? 3 : 0);
    add_residents(model, RESIDENT_PARAMETER, tt_model_head_param(dims), dims->untied);
    add_residents(model, RESIDENT_ACTIVATION, tt_model_head_act(dims, ACT_LOGITS), acts ? 2 : 0);
}

/* In the order in which backward makes them final; a tied head leaves wte to the end. */
static void list_gradients(tt_model *model)
{
    static const tt_layer_param weights[] = {PARAM_FC_PROJ, PARAM_FC,  PARAM_LN_2,
                                             PARAM_PROJ,    PARAM_QKV, PARAM_LN_1};
    const tt_model_dims *dims = &model->dims;
    const size_t norm = tt_model_norm_params(dims);
    const size_t linear = tt_model_linear_params(dims);
    add_residents(model, RESIDENT_GRADIENT, tt_model_head_param(dims), dims->untied);
    add_residents(model, RESIDENT_GRADIENT, tt_model_last_norm_param(dims), norm);
    for (int64_t layer = dims->layers - 1; layer >= 0; layer--) {
        for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
            const bool is_norm = weights[i] == PARAM_LN_1 || weights[i] == PARAM_LN_2;
            add_residents(model, RESIDENT_GRADIENT, tt_model_layer_param(dims, layer, weights[i]),
                          is_norm ? norm : linear);
        }
    }
    add_residents(model, RESIDENT_GRADIENT, PARAM_WTE, tt_model_embedding_params(dims));
}

static tt_status make_tables(tt_model *model, bool train)
{
    model->tensor_count = tt_model_count_tensors(&model->dims);
    model->act_count = train ? tt_model_count_acts(&model->dims) : 0;
    size_t residents = model->tensor_count * (train ? 2 : 1) + model->act_count;
    model->tensors = calloc(model->tensor_count, sizeof *model->tensors);
    model->residents = calloc(residents, sizeof *model->residents);
    model->packed.at = calloc(model->tensor_count, sizeof *model->packed.at);
    if (!model->tensors || !model->residents || !model->packed.at) {
        return tt_fail(TT_ENOMEM, "no memory for a model's tables");
    }
    tt_model_lay_out_params(&model->dims, model->tensors);
    if (train) {
        model->gradient_names = calloc(model->tensor_count, sizeof *model->gradient_names);
        model->acts = calloc(model->act_count, sizeof *model->acts);
        if (!model->gradient_names || !model->acts) {
            return tt_fail(TT_ENOMEM, "no memory for a model's tables");
        }
        for (size_t i = 0; i < model->tensor_count; i++) {
            snprintf(model->gradient_names[i], sizeof model->gradient_names[i], "grad.%s",
                     model->tensors[i].name);
        }
    }
    list_forward(model);
    if (train) {
        list_gradients(model);
    }
    return TT_OK;
}

/* ---- life ---- */

static tt_status take_memory(tt_model *model)
{
    tt_dtype dtype = tt_context_dtype(model->context);
    tt_model_lay_out_memory(&model->dims, model->max_batch, model->max_time, dtype, model->acts,
                            &model->plan);
    if (model->plan.bytes == SIZE_MAX) {
        return tt_fail(TT_ENOMEM,
                       "%lld sequences of %lld tokens are beyond the address space; "
                       "use a smaller batch or model",
                       (long long)model->max_batch, (long long)model->max_time);
    }
    void *memory;
    TRY(tt_tensor_alloc(model->context, model->plan.bytes, &memory));
    model->memory = memory;
    tt_model_forget_buffers(model);
    model->saving.worst = NO_ACT;
    model->saving.form.compute = dtype;
    model->saving.asked.compute = dtype;
    const int64_t rows = model->max_batch * model->max_time;
    int64_t elements = 1;
    elements = rows > elements ? rows : elements;
    elements = model->dims.vocab > elements ? model->dims.vocab : elements;
    model->host = calloc((size_t)elements, sizeof(double));
    return model->host ? TT_OK : tt_fail(TT_ENOMEM, "no memory for a row of logits");
}

tt_status tt_model_create(tt_context *context, const tt_model_dims *dims, int64_t batch,
                          int64_t time, tt_model **out)
{
    *out = NULL;
    TRY(tt_model_dims_check(dims));
    if (batch < 0 || time < 0 || (batch > 0 && time < 1) || time > dims->context) {
        return tt_fail(TT_EINVAL,
                       "a model for batches of %lld sequences of %lld tokens: the batch must not "
                       "be negative, and the tokens lie between 1 and model.context (%lld)",
                       (long long)batch, (long long)time, (long long)dims->context);
    }
    if (dims->bf16_weights && tt_context_dtype(context) != TT_F32) {
        return tt_fail(TT_EINVAL, "weights are kept in bf16 in a context of f32, not of %s",
                       tt_dtype_name(tt_context_dtype(context)));
    }
    tt_model *model = calloc(1, sizeof *model);
    if (!model) {
        return tt_fail(TT_ENOMEM, "no memory for a model's record");
    }
    model->context = context;
    model->dims = *dims;
    model->max_batch = batch;
    model->max_time = batch ? time : 0;
    model->step_begins = true;
    tt_status status = make_tables(model, batch > 0);
    if (!status) {
        status = take_memory(model);
    }
    if (status) {
        tt_model_destroy(model);
        return status;
    }
    *out = model;
    return TT_OK;
}

void tt_model_destroy(tt_model *model)
{
    if (!model) {
        return;
    }
    free(model->tensors);
    free(model->gradient_names);
    free(model->acts);
    free(model->packed.at);
    free(model->residents);
    free(model->host);
    free(model);
}

/* ---- initial parameters ---- */

enum { INIT_CHUNK = 1 << 16, TENSOR_GAP = 32 };

/* Scaled normals (std > 0) or a constant, then zeros up to the next tensor. */
typedef struct init_rule {
    double std, constant;
} init_rule;

static init_rule rule_of(const tt_model *model, const tt_param_tensor *tensor)
{
    if (tensor->rank == 2) {
        double std = 0.02;
        if (tensor->residual) {
            std /= sqrt(2.0 * (double)model->dims.layers);
        }
        return (init_rule){.std = std};
    }
    return (init_rule){.constant = tensor->gain ? 1.0 : 0.0};
}

/* One chunk of a tensor on its way to tensor memory; a stream of its own for each, so that nothing
 * the size of wte is ever held outside of it. */
typedef struct init_stage {
    float narrow[INIT_CHUNK];
    double wide[INIT_CHUNK];
    uint16_t bf16[INIT_CHUNK];
} init_stage;

/* The nearest bf16, ties to even; x is finite. */
static uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static tt_status init_chunk(const tt_model *model, uint64_t seed, size_t index, int64_t first,
                            int64_t count, init_stage *stage, unsigned char *params)
{
    const tt_param_tensor *tensor = &model->tensors[index];
    const init_rule rule = rule_of(model, tensor);
    if (rule.std > 0.0) {
        uint64_t stream = (uint64_t)index << 40 | (uint64_t)(first / INIT_CHUNK);
        tt_random_normal_f32(seed, stream, stage->narrow, (size_t)count);
        for (int64_t i = 0; i < count; i++) {
            stage->narrow[i] = (float)(rule.std * (double)stage->narrow[i]);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            stage->narrow[i] = (float)rule.constant;
        }
    }
    for (int64_t i = 0; i < count; i++) {
        stage->wide[i] = (double)stage->narrow[i]; /* the same start in both dtypes */
        stage->bf16[i] = bf16_of(stage->narrow[i]);
    }
    const bool is_f64 = tt_context_dtype(model->context) == TT_F64;
    const void *values = is_f64 ? (const void *)stage->wide : (const void *)stage->narrow;
    const size_t element = tensor->bf16 ? sizeof(uint16_t) : model->plan.element;
    return tt_tensor_write(model->context, params + (size_t)first * element,
                           tensor->bf16 ? stage->bf16 : values, (size_t)count * element);
}

static tt_status init_tensor(const tt_model *model, uint64_t seed, size_t index, init_stage *stage,
                             unsigned char *params)
{
    const tt_param_tensor *tensor = &model->tensors[index];
    const tt_dtype real = tt_context_dtype(model->context);
    params += tt_param_at(tensor, real);
    for (int64_t first = 0; first < tensor->count; first += INIT_CHUNK) {
        int64_t left = tensor->count - first;
        TRY(init_chunk(model, seed, index, first, left < INIT_CHUNK ? left : INIT_CHUNK, stage,
                       params));
    }
    static const double zeros[TENSOR_GAP];
    const int64_t unit = tensor->bf16 ? TENSOR_GAP : TENSOR_GAP / 2;
    const size_t element = tensor->bf16 ? sizeof(uint16_t) : model->plan.element;
    const size_t gap = (size_t)(-tensor->count & (unit - 1));
    return tt_tensor_write(model->context, params + tt_param_bytes(tensor, real), zeros,
                           gap * element);
}

tt_status tt_model_init_params(const tt_model *model, uint64_t seed, void *params)
{
    init_stage *stage = calloc(1, sizeof *stage);
    if (!stage) {
        return tt_fail(TT_ENOMEM, "no memory for initial parameters");
    }
    tt_status status = TT_OK;
    for (size_t i = 0; i < model->tensor_count && !status; i++) {
        status = init_tensor(model, seed, i, stage, params);
    }
    free(stage);
    return status;
}

/* ---- what it tells ---- */

const tt_model_dims *tt_model_get_dims(const tt_model *model)
{
    return &model->dims;
}

size_t tt_model_tensor_count(const tt_model *model)
{
    return model->tensor_count;
}

const tt_param_tensor *tt_model_tensor(const tt_model *model, size_t index)
{
    return index < model->tensor_count ? &model->tensors[index] : NULL;
}

void tt_model_set_probe(tt_model *model, tt_probe_fn probe, void *user)
{
    model->probe = probe;
    model->probe_user = user;
}

tt_probe_phase tt_model_probe_phase(const tt_model *model)
{
    return model->probe_phase;
}

void *tt_model_gradients(tt_model *model)
{
    return model->acts ? model->memory + model->plan.gradients : NULL;
}

/* The gradient of the positions has a share of all that comes down; where there are none, that of
 * the first gain has a share of all but what its own norm adds. */
size_t tt_model_lowest_gradient(const tt_model *model)
{
    return model->dims.positions == TT_POSITIONS_LEARNED
               ? PARAM_WPE
               : tt_model_layer_param(&model->dims, 0, PARAM_LN_1);
}

/* Elements of the last pass that are still there. */
static int64_t act_count(const tt_model *model, size_t act)
{
    const tt_activation *activation = &model->acts[act];
    const tt_act_saving *saving = &model->saving;
    if (act == tt_model_head_act(&model->dims, ACT_LOGITS)) {
        return model->logits_rows * activation->width;
    }
    if (act == tt_model_head_act(&model->dims, ACT_LOSSES)) {
        return model->loss_rows;
    }
    if (act < tt_model_head_act(&model->dims, ACT_LN_F) &&
        act >= tt_model_layer_act(model->fc_spent, ACT_FC) &&
        (act - ACT_FIRST_LAYER) % ACTS_PER_LAYER == ACT_FC) {
        return 0;
    }
    const bool shares = saving->compressor && activation->buffer >= 0;
    if (shares && saving->held[activation->buffer] != (int64_t)act) {
        return 0;
    }
    return model->batch * model->time * activation->width;
}

bool tt_model_resident(const tt_model *model, const void *params, size_t index, tt_resident *out)
{
    if (index >= model->resident_count) {
        return false;
    }
    const tt_resident_entry *entry = &model->residents[index];
    *out = (tt_resident){.dtype = tt_context_dtype(model->context),
                         .is_parameter = entry->kind == RESIDENT_PARAMETER};
    const char *name = NULL;
    switch (entry->kind) {
    case RESIDENT_PARAMETER:
        name = model->tensors[entry->index].name;
        if (params) {
            out->data = tt_model_param(model, params, entry->index);
            out->dtype = model->tensors[entry->index].bf16 ? TT_BF16 : out->dtype;
            out->count = model->tensors[entry->index].count;
        }
        break;
    case RESIDENT_ACTIVATION:
        name = model->acts[entry->index].name;
        out->data = tt_model_act(model, entry->index);
        out->dtype = model->acts[entry->index].dtype;
        out->count = act_count(model, entry->index);
        break;
    case RESIDENT_GRADIENT:
        name = model->gradient_names[entry->index];
        out->data = tt_model_grad(model, entry->index);
        out->count = model->step_begins ? 0 : model->tensors[entry->index].count;
        break;
    }
    snprintf(out->name, sizeof out->name, "%s", name);
    return true;
}
