/* One step: batches, forward, backward, update; measured for the gates. */
#include "internal.h"

#include <math.h>
#include <stdio.h>

static double seconds_between(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) * 1e-9 : 0;
}

static uint64_t now(const tt_training *training)
{
    return tt_clock_now(&training->clock);
}

/* The probe of a replay: remembers the first tensor that holds a NaN or an infinity. */
static tt_status name_first_bad(tt_training *training, const char *name, const void *data,
                                tt_dtype dtype, int64_t count)
{
    tt_tensor_stats stats = {0};
    tt_stats_args args = {.n = count, .x = data, .out = &stats, .bf16 = dtype == TT_BF16};
    tt_status status = tt_op_run(training->context, TT_OP_STATS, &args);
    if (!status && stats.nonfinite && !training->first_bad[0]) {
        snprintf(training->first_bad, sizeof training->first_bad, "%s", name);
    }
    return status;
}

static tt_status probe_naming(void *user, const char *name, void *data, tt_dtype dtype,
                              int64_t count)
{
    tt_training *training = user;
    tt_status status =
        training->plant ? training->plant(training->plant_user, name, data, dtype, count) : TT_OK;
    return status ? status : name_first_bad(training, name, data, dtype, count);
}

static tt_status probe_plant(void *user, const char *name, void *data, tt_dtype dtype,
                             int64_t count)
{
    tt_training *training = user;
    return training->plant(training->plant_user, name, data, dtype, count);
}

static void set_probe(tt_training *training, const tt_step_plan *plan)
{
    training->first_bad[0] = '\0';
    tt_probe_fn probe = plan->name_tensors ? probe_naming : training->plant ? probe_plant : NULL;
    tt_model_set_probe(training->model, probe, training);
}

/* Whether the gradients of the microbatch reached the bottom of the network as numbers. */
static tt_status gradient_is_finite(tt_training *training, bool *finite)
{
    const tt_param_tensor *tensor =
        tt_model_tensor(training->model, tt_model_lowest_gradient(training->model));
    tt_tensor_stats stats = {0};
    tt_stats_args args = {.n = tensor->count,
                          .x = (const float *)tt_model_gradients(training->model) + tensor->offset,
                          .out = &stats};
    tt_status status = tt_op_run(training->context, TT_OP_STATS, &args);
    *finite = stats.nonfinite == 0;
    return status;
}

static tt_status microbatch(tt_training *training, const tt_step_plan *plan, int64_t index,
                            tt_measurements *measured, double *loss, bool *finite)
{
    const void *params = training->memory.slots[plan->read_slot].params;
    uint64_t start = now(training);
    tt_status status = tt_dataset_batch(training->data, plan->position + index * training->batch,
                                        training->batch, training->tokens, training->targets);
    if (!status) {
        status = tt_model_forward_train(training->model, params, training->tokens,
                                        training->targets, training->batch, training->plan.context,
                                        1.0 / (double)training->accumulate, loss);
    }
    uint64_t middle = now(training);
    training->activation_error =
        fmax(training->activation_error, tt_model_activation_error(training->model));
    measured->forward_seconds += seconds_between(start, middle);
    *finite = isfinite(*loss);
    if (status || !*finite) {
        return status;
    }
    status = tt_model_backward(training->model, params);
    if (!status && training->accumulate > 1) {
        status = gradient_is_finite(training, finite);
    }
    measured->backward_seconds += seconds_between(middle, now(training));
    return status;
}

/* For the passes that follow, until tt_model_unpack_weights. Those of a validation take the room
 * that steps have; where a step is one pass there is none. */
static tt_status pack_weights(tt_training *training, const void *params)
{
    return training->accumulate > 1 ? tt_model_pack_weights(training->model, params) : TT_OK;
}

/* Loss and gradients of all microbatches. The first bad one ends it: the step is lost, and the
 * next microbatch would overwrite the tensors that show where the trouble began. */
static tt_status accumulate(tt_training *training, const tt_step_plan *plan,
                            tt_measurements *measured)
{
    double loss = 0;
    bool finite = true;
    int64_t done = 0;
    tt_status status = tt_model_begin_step(training->model);
    if (!status) {
        status = pack_weights(training, training->memory.slots[plan->read_slot].params);
    }
    for (; !status && finite && done < training->accumulate; done++) {
        double part = NAN;
        status = microbatch(training, plan, done, measured, &part, &finite);
        loss += part;
    }
    tt_model_unpack_weights(training->model); /* the update may take place in this slot */
    if (!status) {
        tt_measurements_set(measured, TT_METRIC_LOSS, loss / (double)done);
    }
    return status;
}

/* What can be measured before the update. */
static tt_status pass(tt_training *training, const tt_step_plan *plan, double rate_scale,
                      double *norm, tt_measurements *measured)
{
    uint64_t nonfinite = 0;
    training->activation_error = 0;
    tt_measurements_init(measured);
    measured->tokens = training->plan.tokens_per_step;
    tt_measurements_set(measured, TT_METRIC_LEARNING_RATE,
                        rate_scale * tt_learning_rate(&training->optim, plan->step));
    tt_status status = accumulate(training, plan, measured);
    if (status) {
        return status;
    }
    tt_measurements_set_error(measured, training->activations, training->activation_error);
    if (!isfinite(measured->values[TT_METRIC_LOSS])) {
        return TT_OK; /* its gradient was not computed */
    }
    status = tt_gradient_norm(training->context, training->model, norm, &nonfinite);
    if (!status) {
        tt_measurements_set(measured, TT_METRIC_GRADIENT_NORM, *norm);
        tt_measurements_set(measured, TT_METRIC_GRADIENT_NONFINITE, (double)nonfinite);
    }
    return status;
}

/* Only where it can have changed what the run keeps. */
static void tell_changes(const tt_training *training, int slot)
{
    char line[768];
    if (tt_moments_describe(&training->memory, slot, training->moments.codec, line, sizeof line)) {
        tt_log(training->log, TT_LOG_INFO, "%s", line);
    } else {
        tt_log(training->log, TT_LOG_INFO, "moments: all that can be is kept as %s",
               tt_codec_name(training->moments.codec));
    }
}

static tt_status update(tt_training *training, const tt_step_plan *plan, double norm,
                        double rate_scale, tt_measurements *measured)
{
    tt_moments_result result;
    const tt_moments_update job = {
        .memory = &training->memory,
        .model = training->model,
        .compressor = training->compressor,
        .optim = &training->optim,
        .policy = &training->moments,
        .step = plan->step,
        .norm = norm,
        .rate_scale = rate_scale,
        .read_slot = plan->read_slot,
        .write_slot = plan->write_slot,
    };
    uint64_t start = now(training);
    tt_status status = tt_moments_run(&job, &result);
    measured->update_seconds += seconds_between(start, now(training));
    if (status) {
        return status;
    }
    measured->updated = true;
    tt_measurements_set(measured, TT_METRIC_UPDATE_NONFINITE, (double)result.verdict.nonfinite);
    tt_measurements_set(measured, TT_METRIC_UPDATE_NORM, sqrt(result.verdict.update_squares));
    tt_measurements_set_error(measured, training->moments_reconstruction, result.reconstruction);
    tt_measurements_set_error(measured, training->moments_update, result.update);
    if (training->plant_update) {
        training->plant_update(training->plant_user, training, plan);
    }
    if (result.changed && !training->replaying) {
        tell_changes(training, plan->write_slot);
    }
    return TT_OK;
}

static void begin(tt_training *training, const tt_step_plan *plan, bool replaying)
{
    training->current = plan;
    training->replaying = replaying;
    set_probe(training, plan);
    if (training->plant_state) {
        training->plant_state(training->plant_user, training, plan);
    }
}

static void end(tt_training *training, tt_measurements *measured)
{
    tt_model_set_probe(training->model, NULL, NULL);
    snprintf(measured->first_bad, sizeof measured->first_bad, "%s", training->first_bad);
    training->current = NULL;
    training->replaying = false;
}

static tt_status live_step(tt_training *training, const tt_step_plan *plan,
                           tt_measurements *measured)
{
    double norm = NAN;
    bool proceed = false;
    training->memory.failed_update = -1;
    tt_status status = pass(training, plan, 1.0, &norm, measured);
    if (!status) {
        status = tt_step_check(training->orchestrator, measured, &proceed);
    }
    if (!status && proceed) {
        training->memory.failed_update = plan->write_slot;
        status = update(training, plan, norm, 1.0, measured);
    }
    return status;
}

tt_status tt_training_step(tt_training *training, tt_step_record *record)
{
    tt_step_plan plan;
    tt_measurements measured;
    tt_status status = tt_step_begin(training->orchestrator, &plan);
    if (status) {
        return status;
    }
    begin(training, &plan, false);
    status = live_step(training, &plan, &measured);
    end(training, &measured);
    return status ? status : tt_step_end(training->orchestrator, &measured, record);
}

tt_status tt_training_replay(tt_training *training, const tt_replay *replay, tt_measurements *out)
{
    const tt_step_plan plan = {
        .step = replay->step,
        .position = replay->position,
        .read_slot = replay->read_slot,
        .write_slot = replay->write_slot,
        .kind = TT_STEP_NORMAL,
        .name_tensors = replay->name_tensors,
        .config = replay->config,
    };
    double norm = NAN;
    begin(training, &plan, true);
    tt_status status = pass(training, &plan, replay->learning_rate_scale, &norm, out);
    if (!status && replay->write_slot >= 0) {
        status = update(training, &plan, norm, replay->learning_rate_scale, out);
    }
    end(training, out);
    return status;
}

tt_status tt_training_replay_sequence(tt_training *training, const tt_replay *replay, int64_t index,
                                      tt_measurements *out)
{
    const int64_t batch = training->batch;
    const int64_t accumulate = training->accumulate;
    tt_replay alone = *replay;
    alone.position += index;
    alone.write_slot = -1;
    training->batch = 1;
    training->accumulate = 1;
    tt_status status = tt_training_replay(training, &alone, out);
    training->batch = batch;
    training->accumulate = accumulate;
    return status;
}

/* *loss stays as it is if the run is told to stop. */
static tt_status held_out_loss(tt_training *training, const void *params, double *loss)
{
    int64_t available = tt_dataset_sequences(training->data, TT_SPLIT_HELD_OUT);
    int64_t total =
        training->validate_sequences < available ? training->validate_sequences : available;
    int64_t time = training->plan.context;
    double sum = 0;
    tt_status status = TT_OK;
    for (int64_t done = 0; !status && done < total;) {
        if (tt_orchestrator_stop_requested(training->orchestrator)) {
            return TT_OK;
        }
        int64_t count = total - done < training->batch ? total - done : training->batch;
        for (int64_t i = 0; !status && i < count; i++) {
            status = tt_dataset_held_out(training->data, done + i, total,
                                         training->tokens + i * time, training->targets + i * time);
        }
        double batch_loss = NAN;
        if (!status) {
            status = tt_model_forward(training->model, params, training->tokens, training->targets,
                                      count, time, &batch_loss);
        }
        sum += batch_loss * (double)count;
        done += count;
    }
    if (!status && total > 0) {
        *loss = sum / (double)total;
    }
    return status;
}

tt_status tt_training_validate(tt_training *training, double *loss)
{
    const void *params =
        training->memory.slots[tt_orchestrator_slot(training->orchestrator)].params;
    *loss = NAN;
    tt_status status = pack_weights(training, params);
    if (!status) {
        status = held_out_loss(training, params, loss);
    }
    tt_model_unpack_weights(training->model);
    return status;
}
