/* Building a training run from its configuration. */
#include "internal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void tt_training_options_init(tt_training_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

tt_status tt_context_from_config(const tt_config *config, size_t tensor_bytes, tt_context **out)
{
    tt_context_options options;
    *out = NULL;
    tt_status status = tt_variant_check(config);
    if (status) {
        return status;
    }
    tt_context_options_init(&options);
    options.dtype = TT_F32;
    options.numerics = tt_numerics_from(config);
    options.tensor_bytes = tensor_bytes;
    options.threads =
        tt_config_is_auto(config, "run.threads") ? 0 : (int)tt_config_int(config, "run.threads");
    status = tt_context_create(&options, out);
    if (status) {
        return status;
    }
    const char *key;
    tt_variant_choice choice = tt_variant_from(config);
    status = tt_variant_apply(*out, &choice, &key);
    if (status) {
        status = tt_fail_in(TT_ECONFIG, "%s: %s", tt_config_origin(config, key), key);
        tt_context_destroy(*out);
        *out = NULL;
    }
    return status;
}

static void read_options(tt_training *training, const tt_config *config)
{
    double peak = tt_config_float(config, "optim.learning_rate");
    training->optim = (tt_optim_options){
        .learning_rate = peak,
        .minimum_rate = tt_config_is_auto(config, "optim.minimum_rate")
                            ? peak / 10
                            : tt_config_float(config, "optim.minimum_rate"),
        .warmup_steps = tt_config_int(config, "optim.warmup_steps"),
        .total_steps = tt_config_int(config, "train.steps"),
        .beta1 = tt_config_float(config, "optim.beta1"),
        .beta2 = tt_config_float(config, "optim.beta2"),
        .epsilon = tt_config_float(config, "optim.epsilon"),
        .weight_decay = tt_config_float(config, "optim.weight_decay"),
        .clip = tt_config_float(config, "optim.clip"),
        .seed = (uint64_t)tt_config_int(config, "run.seed"),
    };
    training->batch = tt_config_int(config, "train.batch");
    training->accumulate = tt_config_int(config, "train.accumulate");
    training->validate_every = tt_config_int(config, "train.validate_every");
    training->validate_sequences = tt_config_int(config, "train.validate_sequences");
    training->tune_seconds = tt_config_float(config, "kernels.tune_seconds");
    training->held_out_loss = NAN;
}

/* ---- data ---- */

static tt_status open_data(tt_training *training, const tt_config *config)
{
    const char *path = tt_config_string(config, "data.path");
    if (!path[0]) {
        return tt_fail(TT_ECONFIG, "data.path is not set; give a text file, a folder of text files "
                                   "or token .bin files with --data PATH");
    }
    tt_data_options options = {
        .path = path,
        .context = tt_config_int(config, "model.context"),
        .vocab = tt_config_int(config, "model.vocab"),
        .seed = (uint64_t)tt_config_int(config, "run.seed"),
        .held_out = tt_config_float(config, "data.held_out"),
        .limit_bytes = tt_config_int(config, "data.limit_bytes"),
        .log = training->log,
    };
    tt_status status = tt_dataset_open(&options, &training->data);
    if (!status && tt_dataset_is_bytes(training->data) && options.vocab > 256) {
        return tt_fail(TT_ECONFIG,
                       "%s: model.vocab is %lld, but %s is text, one token a byte; set it to 256",
                       tt_config_origin(config, "model.vocab"), (long long)options.vocab, path);
    }
    return status;
}

/* The digest of the data that the checkpoint's run saw; "" if it is not recorded. */
static tt_status recorded_digest(const tt_store *store, char out[TT_SHA256_HEX])
{
    tt_text record;
    tt_text_init(&record);
    out[0] = '\0';
    tt_status status = tt_store_read_text(store, "/meta/reproducibility.json", &record);
    if (!status) {
        json_t *root = json_loads(record.data, 0, NULL);
        const char *digest = json_string_value(
            json_object_get(json_object_get(json_object_get(root, "facts"), "data"), "sha256"));
        if (digest && strlen(digest) == TT_SHA256_HEX - 1) {
            memcpy(out, digest, TT_SHA256_HEX);
        }
        json_decref(root);
    }
    tt_text_clear(&record);
    return status;
}

/* A resumed run must see the data that it saw before, unless the user says otherwise by name. */
static tt_status check_data(tt_training *training, const tt_config *config)
{
    if (!training->resume.store) {
        return TT_OK;
    }
    char before[TT_SHA256_HEX];
    tt_status status = recorded_digest(training->resume.store, before);
    const char *after = tt_dataset_digest(training->data);
    if (status || !before[0] || strcmp(before, after) == 0) {
        return status;
    }
    if (tt_config_source(config, "data.path") < TT_SOURCE_ENVIRONMENT) {
        return tt_fail(
            TT_EDATA,
            "%s has changed since %s was saved (digest %.12s, was %.12s); restore it, or "
            "name the new data with --data PATH to go on with it",
            tt_config_string(config, "data.path"), training->resume.path, after, before);
    }
    tt_text_addf(&training->resume.changes, "data: %.12s -> %.12s (%s)\n", before, after,
                 tt_config_origin(config, "data.path"));
    return tt_text_check(&training->resume.changes);
}

static json_t *topology_json(void)
{
    tt_topology t;
    tt_topology_read(&t);
    return json_pack(
        "{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:[I, I, I], s:b}", "packages", t.packages, "nodes",
        t.nodes, "cores", t.cores, "processors", t.processors, "cores_available", t.cores_available,
        "processors_available", t.processors_available, "omp_threads", t.omp_threads, "cache_bytes",
        (json_int_t)t.l1_bytes, (json_int_t)t.l2_bytes, (json_int_t)t.l3_bytes, "pinned", t.pinned);
}

static tt_status note_facts(tt_training *training, const tt_config *config)
{
    json_t *data =
        json_pack("{s:s, s:s, s:I, s:I}", "path", tt_config_string(config, "data.path"), "sha256",
                  tt_dataset_digest(training->data), "train_tokens",
                  (json_int_t)tt_dataset_tokens(training->data, TT_SPLIT_TRAIN), "held_out_tokens",
                  (json_int_t)tt_dataset_tokens(training->data, TT_SPLIT_HELD_OUT));
    json_t *kernels = json_object();
    for (tt_op op = 0; op < TT_OP_COUNT; op++) {
        json_object_set_new(kernels, tt_op_name(op),
                            json_string(tt_context_variant(training->context, op)->name));
    }
    json_object_set_new(kernels, "threads", json_integer(tt_context_threads(training->context)));
    tt_status status = TT_OK;
    json_t *const facts[] = {data, kernels, topology_json()};
    const char *const names[] = {"data", "kernels", "topology"};
    for (int i = 0; i < 3; i++) {
        char *text = facts[i] ? json_dumps(facts[i], JSON_COMPACT) : NULL;
        if (!status) {
            status = text ? tt_orchestrator_note(training->orchestrator, names[i], text)
                          : tt_fail(TT_ENOMEM, "no memory for the run's facts");
        }
        free(text);
        json_decref(facts[i]);
    }
    return status;
}

/* ---- model and orchestrator ---- */

/* Where the preferred attention does not take the model's heads, the reference runs, and says so.
 */
tt_status tt_choose_attention(tt_context *context, const tt_model_dims *dims,
                              const tt_log_sink *log)
{
    static const tt_op attention[] = {TT_OP_ATTENTION_FORWARD, TT_OP_ATTENTION_BACKWARD,
                                      TT_OP_ATTENTION_CACHED};
    int64_t size = dims->channels / dims->heads;
    if (size <= TT_BLOCKED_HEAD_MAX) {
        return TT_OK;
    }
    tt_log(log, TT_LOG_WARN,
           "heads of %lld channels exceed %d: attention runs the plain reference; use more heads",
           (long long)size, TT_BLOCKED_HEAD_MAX);
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < sizeof attention / sizeof *attention; i++) {
        status = tt_context_set_variant(context, attention[i], "reference");
    }
    return status;
}

static tt_status build_model(tt_training *training, const tt_config *config)
{
    tt_model_dims dims = tt_dims_from_config(config);
    size_t tokens = (size_t)(training->batch * dims.context);
    tt_status status =
        tt_context_from_config(config, tt_training_tensor_bytes(config), &training->context);
    if (!status) {
        status = tt_config_is_auto(config, "kernels.variant")
                     ? tt_choose_attention(training->context, &dims, training->log)
                     : TT_OK;
    }
    if (!status) {
        status = tt_model_create(training->context, &dims, training->batch, dims.context,
                                 &training->model);
    }
    if (!status) { /* what the tuner looks at is what the run begins with */
        status = tt_model_set_compute(training->model, tt_compute_from(config));
    }
    if (!status) {
        tt_compute_tell_ruled_out(training->context, training->log);
    }
    if (!status) {
        status = tt_slot_memory_create(training->context, training->model, training->plan.slots,
                                       &training->memory);
        training->memory.training = training;
    }
    if (!status) {
        status = tt_compressor_create(training->context, &training->compressor);
    }
    if (!status) {
        tt_variant_choice choice = tt_variant_from(config);
        status = tt_variant_use(training, &choice);
    }
    if (status) {
        return status;
    }
    /* Now, not when the run is done: the checkpoint thread reads tensors of this context then. */
    if (tt_config_int(config, "sample.tokens") > 0) {
        status = tt_kv_store_create(training->context, dims.layers, dims.context,
                                    tt_model_kv_width(&dims), &training->sample_store);
        if (status) {
            return status;
        }
    }
    training->tokens = calloc(tokens, sizeof(int32_t));
    training->targets = calloc(tokens, sizeof(int32_t));
    training->rates = calloc(TT_RATE_RING, sizeof(double));
    if (!training->tokens || !training->targets || !training->rates) {
        return tt_fail(TT_ENOMEM, "no memory for a batch of %zu tokens", tokens);
    }
    return tt_model_init_params(training->model, (uint64_t)tt_config_int(config, "run.seed"),
                                training->memory.slots[0].params);
}

static tt_status build_orchestrator(tt_training *training, const tt_training_options *options)
{
    tt_host host = tt_slot_memory_host(&training->memory);
    tt_orchestrator_options orchestrator;
    tt_orchestrator_options_init(&orchestrator);
    orchestrator.params = options->params;
    orchestrator.config = options->config;
    orchestrator.host = &host;
    orchestrator.run_directory = options->run_directory;
    orchestrator.resume = options->resume ? &training->resume : NULL;
    orchestrator.strict = options->strict;
    orchestrator.batch_sequences = training->batch * training->accumulate;
    orchestrator.warmup_steps = training->optim.warmup_steps;
    orchestrator.initial_loss = log((double)training->plan.vocab);
    orchestrator.log = options->log;
    orchestrator.clock = &training->clock;
    orchestrator.files = options->files;
    tt_status status = tt_orchestrator_create(&orchestrator, &training->orchestrator);
    if (!status) {
        status = tt_training_add_optimizations(training);
    }
    return status ? status : note_facts(training, options->config);
}

tt_status tt_training_create(const tt_training_options *options, tt_training **out)
{
    *out = NULL;
    if (options->size != sizeof *options || !options->params || !options->config ||
        !options->run_directory) {
        return tt_fail(TT_EINVAL, "tt_training_create needs params, config and run_directory, of "
                                  "this version's size");
    }
    tt_training *training = calloc(1, sizeof *training);
    if (!training) {
        return tt_fail(TT_ENOMEM, "no memory for the training run");
    }
    training->params = options->params;
    training->log = options->log;
    training->clock = options->clock ? *options->clock : tt_clock_monotonic();
    tt_resume_init(&training->resume);
    tt_text_init(&training->sample);
    if (options->observer) {
        training->observer = *options->observer;
    }
    tt_status status = TT_OK;
    if (options->resume) {
        status = tt_resume_prepare(options->run_directory, options->resume, options->config,
                                   options->log, &training->resume);
    }
    read_options(training, options->config);
    if (!status) {
        status = tt_training_make_plan(options->config, &training->plan);
    }
    if (!status) {
        status = open_data(training, options->config);
    }
    if (!status) {
        status = check_data(training, options->config);
    }
    if (!status) {
        status = build_model(training, options->config);
    }
    if (!status) {
        status = build_orchestrator(training, options);
    }
    if (status) {
        tt_training_destroy(training);
        return status;
    }
    *out = training;
    return TT_OK;
}

void tt_training_destroy(tt_training *training)
{
    if (!training) {
        return;
    }
    tt_orchestrator_destroy(training->orchestrator);
    tt_kv_store_destroy(training->sample_store);
    tt_slot_memory_destroy(&training->memory);
    tt_compressor_destroy(training->compressor);
    tt_model_destroy(training->model);
    tt_context_destroy(training->context);
    tt_dataset_close(training->data);
    tt_resume_clear(&training->resume);
    tt_text_clear(&training->sample);
    tt_tuning_clear(&training->tuning[0]);
    tt_tuning_clear(&training->tuning[1]);
    free(training->tokens);
    free(training->targets);
    free(training->rates);
    free(training);
}

void tt_training_request_stop(tt_training *training, int signal_number)
{
    tt_orchestrator_request_stop(training->orchestrator, signal_number);
}
