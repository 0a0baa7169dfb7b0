/* The run: steps until done, validation, the summary. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const double nats_per_bit = 0.69314718055994530942; /* ln 2 */

/* Held-out loss of the published state, unless nothing is held out. */
static tt_status validate(tt_training *training)
{
    if (training->validate_sequences == 0 ||
        tt_dataset_sequences(training->data, TT_SPLIT_HELD_OUT) == 0) {
        return TT_OK;
    }
    double loss;
    tt_status status = tt_training_validate(training, &loss);
    if (status || isnan(loss)) {
        return status; /* NaN: a stop was asked for on the way */
    }
    training->held_out_loss = loss;
    tt_orchestrator_report_held_out(training->orchestrator, loss);
    if (training->observer.on_held_out) {
        training->observer.on_held_out(training->observer.user,
                                       tt_orchestrator_step(training->orchestrator), loss,
                                       loss / nats_per_bit);
    }
    return TT_OK;
}

static void remember(tt_training *training, const tt_step_record *record)
{
    if (!record->published) {
        return;
    }
    training->losses[training->published % TT_LOSS_TAIL] = record->loss;
    training->rates[training->published % TT_RATE_RING] =
        record->seconds > 0 ? (double)record->tokens / record->seconds : 0;
    training->published++;
}

static tt_status run_steps(tt_training *training)
{
    tt_orchestrator *orchestrator = training->orchestrator;
    tt_status status = TT_OK;
    while (!status && tt_orchestrator_step(orchestrator) < training->plan.steps) {
        tt_step_record record;
        status = tt_training_step(training, &record);
        if (status) {
            break;
        }
        remember(training, &record);
        if (training->observer.on_step) {
            training->observer.on_step(training->observer.user, &record, &training->plan);
        }
        int64_t step = tt_orchestrator_step(orchestrator);
        if (record.published && step < training->plan.steps && training->validate_every > 0 &&
            step % training->validate_every == 0) {
            status = validate(training);
        }
    }
    return status;
}

/* ---- the summary ---- */

static bool add_byte(void *user, int32_t token)
{
    tt_training *training = user;
    char byte = (char)token;
    tt_text_add_bytes(&training->sample, &byte, 1);
    return !tt_orchestrator_stop_requested(training->orchestrator);
}

static tt_status make_sample(tt_training *training)
{
    if (!training->sample_store || !tt_dataset_is_bytes(training->data)) {
        return TT_OK;
    }
    const tt_config *config = tt_orchestrator_config(training->orchestrator);
    tt_generation_options options = {
        .temperature = tt_config_float(config, "sample.temperature"),
        .top_k = tt_config_int(config, "sample.top_k"),
        .seed = (uint64_t)tt_config_int(config, "run.seed"),
        .max_tokens = tt_config_int(config, "sample.tokens"),
    };
    const int32_t prompt = '\n';
    int slot = tt_orchestrator_slot(training->orchestrator);
    tt_status status =
        tt_generate(training->model, training->memory.slots[slot].params, training->sample_store,
                    &prompt, 1, &options, add_byte, training);
    return status ? status : tt_text_check(&training->sample);
}

/* After the last step: first what was learned is saved, then it is looked at. */
static tt_status conclude(tt_training *training)
{
    tt_status status = tt_orchestrator_checkpoint(training->orchestrator);
    if (!status) {
        status = validate(training);
    }
    if (!status) {
        status = make_sample(training);
    }
    if (!status && tt_orchestrator_stop_requested(training->orchestrator)) {
        status = tt_fail(TT_EREQUEUE, "stopped after the last step; saved as %s",
                         tt_orchestrator_latest_checkpoint(training->orchestrator));
    }
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median_rate(tt_training *training)
{
    size_t count = training->published < TT_RATE_RING ? (size_t)training->published : TT_RATE_RING;
    if (count == 0) {
        return NAN;
    }
    qsort(training->rates, count, sizeof(double), compare_doubles);
    return training->rates[count / 2];
}

static double mean_loss(const tt_training *training)
{
    int64_t count = training->published < TT_LOSS_TAIL ? training->published : TT_LOSS_TAIL;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += training->losses[i];
    }
    return count ? sum / (double)count : NAN;
}

static int64_t peak_rss(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

static tt_status summarize(tt_training *training, tt_training_summary *summary)
{
    tt_run_totals totals = tt_orchestrator_totals(training->orchestrator);
    *summary = (tt_training_summary){
        .size = sizeof *summary,
        .steps = training->published,
        .tokens = training->published * training->plan.tokens_per_step,
        .seconds = totals.step_seconds,
        .tokens_per_second = median_rate(training),
        .train_loss = mean_loss(training),
        .held_out_loss = training->held_out_loss,
        .bytes = tt_dataset_is_bytes(training->data) && isfinite(training->held_out_loss),
        .bits_per_byte = training->held_out_loss / nats_per_bit,
        .peak_rss_bytes = peak_rss(),
        .totals = totals,
        .checkpoint = tt_orchestrator_latest_checkpoint(training->orchestrator),
        .run_directory = tt_orchestrator_run_directory(training->orchestrator),
        .sample = training->sample.data,
        .sample_bytes = training->sample.length,
    };
    if (!summary->bytes) {
        return TT_OK;
    }
    int64_t available = tt_dataset_sequences(training->data, TT_SPLIT_HELD_OUT);
    int64_t total =
        training->validate_sequences < available ? training->validate_sequences : available;
    return tt_dataset_baselines(training->data, total, &summary->order1_bits_per_byte,
                                &summary->order2_bits_per_byte);
}

static void announce_start(tt_training *training)
{
    if (!training->observer.on_start) {
        return;
    }
    const tt_config *config = tt_orchestrator_config(training->orchestrator);
    tt_training_data data = {
        .path = tt_config_string(config, "data.path"),
        .train_tokens = tt_dataset_tokens(training->data, TT_SPLIT_TRAIN),
        .held_out_tokens = tt_dataset_tokens(training->data, TT_SPLIT_HELD_OUT),
        .train_files = tt_dataset_files(training->data, TT_SPLIT_TRAIN),
        .held_out_files = tt_dataset_files(training->data, TT_SPLIT_HELD_OUT),
        .sha256 = tt_dataset_digest(training->data),
        .bytes = tt_dataset_is_bytes(training->data),
    };
    tt_training_plan settled;
    if (tt_training_make_plan(config, &settled) == TT_OK) {
        training->plan = settled; /* with what precedence moved and the journal settled */
    }
    training->observer.on_start(training->observer.user, &training->plan, &data,
                                tt_orchestrator_step(training->orchestrator));
}

/* The outcome stands whatever the summary meets. */
static void report(tt_training *training, tt_status outcome)
{
    tt_training_summary summary;
    char message[1024];
    strncpy(message, tt_error_message(), sizeof message - 1);
    message[sizeof message - 1] = '\0';
    if (summarize(training, &summary)) {
        tt_log(training->log, TT_LOG_WARN, "no byte models to compare with: %s",
               tt_error_message());
        summary.bytes = false;
    }
    if (training->observer.on_finish) {
        training->observer.on_finish(training->observer.user, &summary, outcome);
    }
    if (outcome) {
        tt_fail(outcome, "%s", message);
    }
}

tt_status tt_training_run(tt_training *training)
{
    tt_status status = tt_orchestrator_start(training->orchestrator);
    if (!status) {
        announce_start(training);
        status = run_steps(training);
    }
    if (!status) {
        status = conclude(training);
    }
    tt_status outcome = tt_orchestrator_finish(training->orchestrator, status);
    if (!outcome || outcome == TT_EREQUEUE || outcome == TT_EGATE) {
        report(training, outcome);
    }
    return outcome;
}
