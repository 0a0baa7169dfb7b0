/* Creating, starting and finishing a run. */
#include "internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

void tt_orchestrator_options_init(tt_orchestrator_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

/* ---- create ---- */

static tt_status check_options(const tt_orchestrator_options *options)
{
    const tt_host *host = options->host;
    if (options->size != sizeof *options || !options->params || !options->config || !host ||
        host->size != sizeof *host || options->batch_sequences < 1) {
        return tt_fail(TT_EINVAL, "tt_orchestrator_create needs params, config, host and "
                                  "batch_sequences >= 1, of this version's sizes");
    }
    if (host->run_step && (!host->slot_copy || host->scratch_slot < host->slot_count)) {
        return tt_fail(TT_EINVAL, "a host with run_step needs slot_copy, and a scratch_slot beyond "
                                  "its slot_count");
    }
    int64_t slots = tt_config_int(options->config, "snapshot.slots");
    if (slots > host->slot_count) {
        return tt_fail(TT_ECONFIG, "%s: snapshot.slots is %lld, but this job has room for %d",
                       tt_config_origin(options->config, "snapshot.slots"), (long long)slots,
                       host->slot_count);
    }
    if (!host->tensor_count || !host->tensor_info || !host->tensor_read || !host->tensor_write) {
        return tt_fail(TT_EINVAL, "the host needs tensor_count, tensor_info, tensor_read and "
                                  "tensor_write: without them there are no checkpoints");
    }
    return TT_OK;
}

static tt_status new_run_id(char out[40])
{
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) {
        return tt_fail_errno(errno, "cannot draw a run id");
    }
    for (size_t i = 0; i < sizeof raw; i++) {
        snprintf(out + 2 * i, 3, "%02x", raw[i]);
    }
    return TT_OK;
}

static tt_gate_limits limits_of(const tt_config *config, double initial_loss)
{
    tt_gate_limits limits = {
        .loss_min = tt_config_float(config, "gates.loss.min"),
        .loss_max_set = !tt_config_is_auto(config, "gates.loss.max"),
        .gradient_min = tt_config_float(config, "gates.grad_norm.min"),
        .gradient_max_set = !tt_config_is_auto(config, "gates.grad_norm.max"),
        .reconstruction_max = tt_config_float(config, "gates.reconstruction.max"),
        .update_error_max = tt_config_float(config, "gates.update_error.max"),
        .spike_max = tt_config_float(config, "gates.spike.max"),
        .drift_max = tt_config_float(config, "gates.drift.max"),
        .initial_loss = initial_loss,
    };
    if (limits.loss_max_set) {
        limits.loss_max = tt_config_float(config, "gates.loss.max");
    }
    if (limits.gradient_max_set) {
        limits.gradient_max = tt_config_float(config, "gates.grad_norm.max");
    }
    return limits;
}

tt_status tt_gates_validate(const tt_config *config, double initial_loss)
{
    tt_gate_limits limits = limits_of(config, initial_loss);
    return tt_gate_limits_check(&limits);
}

tt_gate_info tt_gate_configured(const tt_config *config, double initial_loss, bool starting,
                                size_t index)
{
    if (index > TT_GATE_COUNT) {
        return (tt_gate_info){.name = "", .reason = ""};
    }
    if (index == TT_GATE_COUNT) {
        return tt_overhead_gate();
    }
    tt_gate_limits limits = limits_of(config, initial_loss);
    tt_gate_state state = {.accepted = 0};
    if (!starting) {
        state.accepted = TT_MAX_STEP;
        state.loss_settled = true;
    }
    tt_gate_info info = {.name = tt_gate_name((tt_gate)index)};
    tt_gate_interval(&limits, &state, (tt_gate)index, &info.minimum, &info.maximum, &info.reason);
    return info;
}

static void read_limits(tt_orchestrator *o, const tt_orchestrator_options *options)
{
    const tt_config *config = options->config;
    o->limits = limits_of(config, options->initial_loss);
    o->limits.warmup_steps = options->warmup_steps;
    o->adapt_every = tt_config_int(config, "adapt.every_steps");
    o->trial_pairs = (int)tt_config_int(config, "trials.pairs");
    o->trial_budget = tt_config_float(config, "trials.budget_seconds");
    o->checkpoint_every = tt_config_int(config, "checkpoint.every_steps");
    o->checkpoint_keep = (int)tt_config_int(config, "checkpoint.keep");
    tt_slots_init(&o->slots, (int)tt_config_int(config, "snapshot.slots"));
}

/* What an untrained model scores says nothing about one that has learned. */
static tt_status check_limits(const tt_orchestrator *o)
{
    tt_gate_limits limits = o->limits;
    if (o->resume_path[0]) {
        limits.initial_loss = 0;
    }
    return tt_gate_limits_check(&limits);
}

static tt_status open_files(tt_orchestrator *o, const tt_orchestrator_options *options)
{
    char path[TT_PATH_BYTES];
    int lock = -1;
    if (options->resume) {
        lock = options->resume->lock;
        options->resume->lock = -1;
    }
    tt_status status = tt_folder_open(&o->folder, options->run_directory, o->resuming, lock);
    if (!status) {
        snprintf(path, sizeof path, "%.*s/decisions.jsonl", TT_PATH_BYTES - 32, o->folder.path);
        status = tt_jsonl_open(&o->journal, o->files, path, !o->resuming);
    }
    if (!status) {
        snprintf(path, sizeof path, "%.*s/metrics.jsonl", TT_PATH_BYTES - 32, o->folder.path);
        status = tt_jsonl_open(&o->metrics, o->files, path, !o->resuming);
    }
    return status;
}

tt_status tt_orchestrator_create(const tt_orchestrator_options *options, tt_orchestrator **out)
{
    *out = NULL;
    tt_status status = check_options(options);
    if (status) {
        return status;
    }
    tt_orchestrator *o = calloc(1, sizeof *o);
    if (!o) {
        return tt_fail(TT_ENOMEM, "no memory for the orchestrator");
    }
    o->params = options->params;
    o->config = options->config;
    o->requested = options->config;
    o->host = *options->host;
    o->log = options->log;
    o->clock = options->clock ? *options->clock : tt_clock_monotonic();
    o->files = options->files ? options->files : tt_file_ops_posix();
    o->batch_sequences = options->batch_sequences;
    o->strict = options->strict;
    o->resuming = options->resume != NULL;
    o->folder.lock_fd = -1;
    o->journal.fd = -1;
    o->metrics.fd = -1;
    o->saved_step = -1;
    o->held_out_loss = NAN;
    tt_text_init(&o->trace);
    tt_history_init(&o->history);
    o->adapted_step = -1;
    o->overhead_step = -1;
    for (int i = 0; i < TT_MAX_TARGETS; i++) {
        o->target_peaks[i] = -1;
    }
    o->notes = json_object();
    o->events = json_array();
    o->unread = json_array();
    tt_format_utc_now(o->started_at);
    if (options->resume) {
        snprintf(o->resume_path, sizeof o->resume_path, "%s", options->resume->path);
        o->resume_store = options->resume->store;
        o->resume_changes = strdup(options->resume->changes.data);
    }
    read_limits(o, options);
    status = !o->notes || !o->events || !o->unread || (o->resuming && !o->resume_changes)
                 ? tt_fail(TT_ENOMEM, "no memory for the orchestrator")
                 : check_limits(o);
    if (!status) {
        status = new_run_id(o->run_id);
    }
    if (!status) {
        status = open_files(o, options);
    }
    if (status) {
        tt_orchestrator_destroy(o);
        return status;
    }
    *out = o;
    return TT_OK;
}

void tt_orchestrator_destroy(tt_orchestrator *o)
{
    if (!o) {
        return;
    }
    tt_worker_destroy(o->worker);
    if (o->metrics.fd >= 0) {
        tt_metrics_flush(o);
    }
    tt_store_writer_destroy(o->job.writer);
    free(o->job.staging);
    tt_jsonl_close(&o->journal);
    tt_jsonl_close(&o->metrics);
    tt_folder_close(&o->folder);
    tt_config_destroy(o->fork.config);
    tt_config_destroy(o->overlaid);
    tt_config_destroy(o->derived);
    tt_history_clear(&o->history);
    tt_text_clear(&o->trace);
    json_decref(o->notes);
    json_decref(o->events);
    json_decref(o->unread);
    json_decref(o->replayed);
    free(o->resume_changes);
    free(o);
}

tt_status tt_orchestrator_add(tt_orchestrator *o, const tt_optimization *optimization)
{
    if (optimization->size != sizeof *optimization || !optimization->name || !optimization->apply ||
        optimization->key_count < 1 || optimization->key_count > TT_OPTIMIZATION_KEYS ||
        !optimization->baseline) {
        return tt_fail(TT_EINVAL, "an optimization needs this version's size, a name, apply, and 1 "
                                  "to 8 keys with their baselines");
    }
    if (o->started || o->optimization_count == TT_MAX_OPTIMIZATIONS) {
        return tt_fail(TT_EINVAL, "optimization %s comes %s", optimization->name,
                       o->started ? "after the start" : "beyond the limit of 16");
    }
    for (size_t i = 0; i < optimization->key_count; i++) {
        if (!tt_params_find(o->params, optimization->keys[i])) {
            return tt_fail(TT_EINTERNAL, "optimization %s acts on '%s', which is no parameter",
                           optimization->name, optimization->keys[i]);
        }
    }
    o->optimizations[o->optimization_count++] = *optimization;
    return TT_OK;
}

tt_status tt_orchestrator_add_target(tt_orchestrator *o, const tt_error_target *target, int *index)
{
    if (target->size != sizeof *target || !target->name || !target->optimization ||
        target->cadence < 1 || o->started) {
        return tt_fail(TT_EINVAL, "an error target needs this version's size, a name, an "
                                  "optimization and a cadence of at least 1, before the start");
    }
    bool known = false;
    for (size_t i = 0; i < o->optimization_count; i++) {
        known = known || strcmp(o->optimizations[i].name, target->optimization) == 0;
    }
    if (!known || o->targets.count == TT_MAX_TARGETS) {
        return tt_fail(TT_EINVAL,
                       known ? "error target %s is beyond the limit of 8"
                             : "error target %s watches an optimization that was not added",
                       target->name);
    }
    *index = o->targets.count;
    o->targets.target[o->targets.count++] = *target;
    return TT_OK;
}

tt_status tt_orchestrator_note(tt_orchestrator *o, const char *name, const char *json)
{
    json_error_t error;
    json_t *value = json_loads(json, JSON_DECODE_ANY, &error);
    if (!value) {
        return tt_fail(TT_EINVAL, "the fact '%s' is not JSON: %s", name, error.text);
    }
    return json_object_set_new(o->notes, name, value) == 0
               ? TT_OK
               : tt_fail(TT_ENOMEM, "no memory for the fact '%s'", name);
}

/* ---- resume ---- */

/* The newest checkpoint of the folder; "" when the run has none yet. */
static tt_status find_newest(const char *run_directory, const tt_log_sink *log, char *path,
                             size_t capacity)
{
    char folder[TT_PATH_BYTES];
    snprintf(folder, sizeof folder, "%.*s/checkpoints", TT_PATH_BYTES - 32, run_directory);
    tt_status status = tt_store_newest(folder, TT_CHECKPOINT_FORM, log, path, capacity);
    if (status == TT_ENOTFOUND && tt_folder_holds_checkpoints(folder)) {
        /* Days of training must not begin again by themselves. */
        return tt_fail(TT_ECORRUPT,
                       "no checkpoint in %s verifies; restore one and resume from its path, or "
                       "start a new run in another folder",
                       folder);
    }
    if (status == TT_ENOTFOUND) {
        path[0] = '\0';
        tt_error_clear();
        status = TT_OK;
    }
    return status;
}

static tt_status take_values(tt_resume *resume, tt_config *config, const tt_log_sink *log)
{
    tt_text yaml;
    tt_text_init(&yaml);
    tt_status status = tt_store_open(resume->path, &resume->store);
    if (!status) {
        status = tt_store_read_text(resume->store, "/meta/config.yaml", &yaml);
    }
    if (!status) {
        status = tt_config_resume_from(config, resume->path, yaml.data, yaml.length,
                                       &resume->changes, log);
    }
    tt_text_clear(&yaml);
    return status;
}

tt_status tt_resume_prepare(const char *run_directory, const char *how, tt_config *config,
                            const tt_log_sink *log, tt_resume *out)
{
    tt_resume_init(out);
    /* First the lock: another process may still be saving what this one is to go on with. */
    tt_status status = tt_folder_lock(run_directory, &out->lock);
    if (!status && strcmp(how, "auto") == 0) {
        status = find_newest(run_directory, log, out->path, sizeof out->path);
    } else if (!status) {
        snprintf(out->path, sizeof out->path, "%s", how);
    }
    if (!status && out->path[0]) {
        status = take_values(out, config, log);
    }
    if (status) {
        tt_resume_clear(out);
    }
    return status;
}

void tt_resume_init(tt_resume *resume)
{
    memset(resume, 0, sizeof *resume);
    resume->lock = -1;
    tt_text_init(&resume->changes);
}

void tt_resume_clear(tt_resume *resume)
{
    tt_store_close(resume->store);
    resume->store = NULL;
    if (resume->lock >= 0) {
        close(resume->lock);
        resume->lock = -1;
    }
    tt_text_clear(&resume->changes);
    resume->path[0] = '\0';
}

static tt_status load_state(tt_orchestrator *o)
{
    tt_slot meaning = {.valid = true};
    tt_status status = TT_OK;
    if (o->resuming) {
        status = tt_journal_replay(o);
    }
    if (!status && o->resume_path[0]) {
        status = tt_checkpoint_load(o, o->resume_path, o->resume_store, 0, &meaning);
        char own[TT_PATH_BYTES];
        int64_t step;
        /* A checkpoint of another folder is a start, not something that this run has saved. */
        if (!status && (!tt_checkpoint_at_most(o, meaning.step, own, &step) ||
                        step != meaning.step || strcmp(own, o->resume_path) != 0)) {
            o->saved_step = -1;
        } else if (!status && json_array_size(o->replayed) == 0) {
            tt_log(o->log, TT_LOG_WARN,
                   "%s was missing or empty; what was decided after the checkpoint is lost",
                   o->journal.path);
        }
        bool later = false;
        if (!status) {
            status = tt_checkpoint_set_aside(o, meaning.step, &later);
        }
        if (later) {
            o->saved_step = -1; /* `latest` named one of them */
        }
    }
    if (!status) {
        status = tt_journal_take(o);
    }
    if (!status) {
        tt_slots_publish(&o->slots, 0, &meaning);
        tt_ladder_init(&o->ladder, meaning.step);
        o->attempt++;
    }
    return status;
}

static tt_status announce(tt_orchestrator *o)
{
    tt_status status = tt_journal_write(
        o, json_pack("{s:s, s:i, s:s, s:I, s:o, s:o}", "kind", "start", "attempt", o->attempt,
                     "run_id", o->run_id, "step", (json_int_t)tt_orchestrator_step(o), "from",
                     tt_json_text(o->resume_path), "changes",
                     tt_json_text(o->resume_changes ? o->resume_changes : "")));
    if (!status && o->resume_changes && o->resume_changes[0]) {
        tt_log(o->log, TT_LOG_WARN, "resuming with other values than before: %s",
               o->resume_changes);
    }
    tt_metrics_write_event(o, json_pack("{s:i, s:s, s:I}", "attempt", o->attempt, "event",
                                        o->resuming ? "resume" : "start", "step",
                                        (json_int_t)tt_orchestrator_step(o)));
    return status;
}

tt_status tt_orchestrator_start(tt_orchestrator *o)
{
    if (o->started) {
        return tt_fail(TT_EINVAL, "tt_orchestrator_start twice");
    }
    tt_status status = load_state(o);
    if (!status) {
        status = announce(o);
    }
    if (!status) {
        status = tt_orchestrator_settle(o);
    }
    if (!status) {
        status = tt_write_resolved(o);
    }
    if (!status) {
        status = tt_checkpoint_save(o, false);
    }
    o->resume_store = NULL;
    o->started = status == TT_OK;
    return status;
}

/* ---- finish ---- */

static tt_status write_receipt(tt_orchestrator *o, tt_status outcome, const char *message)
{
    const tt_step_record *last = tt_orchestrator_record(o, 0);
    char path[TT_PATH_BYTES];
    char now[24];
    json_t *totals = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}",
        "published", (json_int_t)o->totals.published, "trips", (json_int_t)o->totals.trips,
        "retries", (json_int_t)o->totals.retries, "rollbacks", (json_int_t)o->totals.rollbacks,
        "skips", (json_int_t)o->totals.skips, "checkpoints", (json_int_t)o->totals.checkpoints,
        "checkpoint_failures", (json_int_t)o->totals.checkpoint_failures, "warnings",
        (json_int_t)o->totals.warnings, "searches", (json_int_t)o->totals.searches,
        "replayed_steps", (json_int_t)o->totals.replayed_steps, "breakers_opened",
        (json_int_t)o->totals.breakers_opened, "trials", (json_int_t)o->totals.trials, "commits",
        (json_int_t)o->totals.commits, "policy_seconds", o->totals.policy_seconds, "step_seconds",
        o->totals.step_seconds, "search_seconds", o->totals.search_seconds, "trial_seconds",
        o->totals.trial_seconds);
    json_t *receipt = json_pack(
        "{s:i, s:s, s:s, s:o, s:i, s:s, s:i, s:I, s:o, s:o, s:o, s:o, s:o}", "schema", 1, "run_id",
        o->run_id, "outcome", tt_status_name(outcome), "message", tt_json_text(message),
        "exit_code", tt_status_exit_code(outcome), "finished", tt_format_utc_now(now), "attempt",
        o->attempt, "steps", (json_int_t)tt_orchestrator_step(o), "last_loss",
        last && isfinite(last->loss) ? json_real(last->loss) : json_null(), "held_out_loss",
        isfinite(o->held_out_loss) ? json_real(o->held_out_loss) : json_null(), "checkpoint",
        tt_json_text(o->latest), "this_attempt", totals, "reproducibility",
        tt_reproducibility_record(o));
    char *text = receipt ? json_dumps(receipt, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(receipt);
    if (!text) {
        return tt_fail(TT_ENOMEM, "no memory for the receipt");
    }
    snprintf(path, sizeof path, "%.*s/receipt.json", TT_PATH_BYTES - 32, o->folder.path);
    tt_status status = tt_file_replace(o->files, path, text, strlen(text));
    free(text);
    return status;
}

tt_status tt_orchestrator_finish(tt_orchestrator *o, tt_status outcome)
{
    char message[1024];
    snprintf(message, sizeof message, "%s", outcome ? tt_error_message() : "");
    tt_status status = TT_OK;
    tt_fork_clear(o); /* a trial that has not ended has found nothing */
    tt_metrics_flush(o);
    if (o->started) {
        /* With one slot a step that did not end may have left half an update in it. */
        bool torn = o->dirty || (o->in_step && o->slots.count == 1);
        status = tt_checkpoint_collect(o, true);
        if (!status && !torn) {
            status = tt_checkpoint_save(o, false);
        }
    }
    if (status && !outcome) {
        snprintf(message, sizeof message, "%s", tt_error_message());
        outcome = status;
    }
    status = write_receipt(o, outcome, message);
    if (status && !outcome) {
        return status;
    }
    return outcome ? tt_fail(outcome, "%s", message) : TT_OK;
}

tt_status tt_orchestrator_checkpoint(tt_orchestrator *o)
{
    if (!o->started || o->in_step || o->dirty) {
        return tt_fail(TT_EINVAL, "there is no published state to save now");
    }
    return tt_checkpoint_save(o, false);
}

void tt_orchestrator_report_held_out(tt_orchestrator *o, double loss)
{
    o->held_out_loss = loss;
    tt_metrics_write_event(o, json_pack("{s:i, s:s, s:I, s:o}", "attempt", o->attempt, "event",
                                        "held_out", "step", (json_int_t)tt_orchestrator_step(o),
                                        "loss", isfinite(loss) ? json_real(loss) : json_null()));
}
