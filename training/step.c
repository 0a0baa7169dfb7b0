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
                                int64_t count)
{
    tt_tensor_stats stats = {0};
    tt_stats_args args = {.n = count, .x = data, .out = &stats};
    tt_status status = tt_op_run(training->context, TT_OP_STATS, &args);
    if (!status && stats.nonfinite && !training->first_bad[0]) {
        snprintf(training->first_bad, sizeof training->first_bad, "%s", name);
    }
    return status;
}

static tt_status probe_naming(void *user, const char *name, void *data, int64_t count)
{
    tt_training *training = user;
    tt_status status =
        training->plant ? training->plant(training->plant_user, name, data, count) : TT_OK;
    return status ? status : name_first_bad(training, name, data, count);
}

static tt_status probe_plant(void *user, const char *name, void *data, int64_t count)
{
    tt_training *training = user;
    return training->plant(training->plant_user, name, data, count);
}

static void set_probe(tt_training *training, const tt_step_plan *plan)
{
    training->first_bad[0] = '\0';
    tt_probe_fn probe = plan->name_tensors ? probe_naming : training->plant ? probe_plant : NULL;
    tt_model_set_probe(training->model, probe, training);
}

/* Whether the gradients of the microbatch reached the bottom of the network as numbers: a NaN
 * anywhere on the way down shows in the position embedding's. */
static tt_status gradient_is_finite(tt_training *training, bool *finite)
{
    const tt_param_tensor *tensor = tt_model_tensor(training->model, TT_MODEL_WPE);
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

/* Loss and gradients of all microbatches. The first bad one ends it: the step is lost, and the
 * next microbatch would overwrite the tensors that show where the trouble began. */
static tt_status accumulate(tt_training *training, const tt_step_plan *plan,
                            tt_measurements *measured)
{
    double loss = 0;
    bool finite = true;
    int64_t done = 0;
    tt_status status = tt_model_zero_grad(training->model);
    for (; !status && finite && done < training->accumulate; done++) {
        double part = NAN;
        status = microbatch(training, plan, done, measured, &part, &finite);
        loss += part;
    }
    if (!status) {
        tt_measurements_set(measured, TT_METRIC_LOSS, loss / (double)done);
    }
    return status;
}

static tt_status update(tt_training *training, const tt_step_plan *plan, double norm,
                        tt_measurements *measured)
{
    tt_verdict verdict = {0};
    uint64_t start = now(training);
    tt_status status = tt_optim_step(training->context, training->model, &training->optim,
                                     plan->step, norm, &training->memory.slots[plan->read_slot],
                                     &training->memory.slots[plan->write_slot], &verdict);
    measured->update_seconds += seconds_between(start, now(training));
    if (!status) {
        measured->updated = true;
        training->memory.failed_update = plan->write_slot;
        tt_measurements_set(measured, TT_METRIC_UPDATE_NONFINITE, (double)verdict.nonfinite);
        tt_measurements_set(measured, TT_METRIC_UPDATE_NORM, sqrt(verdict.update_squares));
    }
    return status;
}

static tt_status measure_step(tt_training *training, const tt_step_plan *plan,
                              tt_measurements *measured)
{
    double norm = NAN;
    uint64_t nonfinite = 0;
    bool proceed = false;
    training->memory.failed_update = -1;
    tt_measurements_init(measured);
    measured->tokens = training->plan.tokens_per_step;
    tt_measurements_set(measured, TT_METRIC_LEARNING_RATE,
                        tt_learning_rate(&training->optim, plan->step));
    set_probe(training, plan);
    tt_status status = accumulate(training, plan, measured);
    if (!status) {
        status = tt_gradient_norm(training->context, training->model, &norm, &nonfinite);
    }
    if (!status) {
        tt_measurements_set(measured, TT_METRIC_GRADIENT_NORM, norm);
        tt_measurements_set(measured, TT_METRIC_GRADIENT_NONFINITE, (double)nonfinite);
        status = tt_step_check(training->orchestrator, measured, &proceed);
    }
    if (!status && proceed) {
        status = update(training, plan, norm, measured);
    }
    tt_model_set_probe(training->model, NULL, NULL);
    snprintf(measured->first_bad, sizeof measured->first_bad, "%s", training->first_bad);
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
    if (training->plant_state) {
        training->plant_state(training->plant_user, training, &plan);
    }
    status = measure_step(training, &plan, &measured);
    return status ? status : tt_step_end(training->orchestrator, &measured, record);
}

tt_status tt_training_validate(tt_training *training, double *loss)
{
    int64_t available = tt_dataset_sequences(training->data, TT_SPLIT_HELD_OUT);
    int64_t total =
        training->validate_sequences < available ? training->validate_sequences : available;
    int64_t time = training->plan.context;
    const void *params =
        training->memory.slots[tt_orchestrator_slot(training->orchestrator)].params;
    double sum = 0;
    tt_status status = TT_OK;
    *loss = NAN;
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
