/* A job of its own, steered by trimtab: the run. The model is in external_model.h, as the job has
 * it anyway; external_host.h is what trimtab asks of it. docs/external-jobs.md is the tour.
 *
 *     cc -o external_job external_job.c $(pkg-config --cflags --libs trimtab) -lm
 *     ./external_job FOLDER [CONFIG.yaml] [--set=KEY=VALUE]... [--steps=N] [--resume] [--no-replay]
 *                    [--fault=STEP]      see it at work: tiles give a NaN from that step on */
#include "external_host.h"
#include <inttypes.h>
#include <stdlib.h>

typedef struct arguments {
    const char *folder;
    int64_t steps, fault;
    bool resume, replay;
} arguments;

static bool number(const char *word, const char *option, int64_t *out)
{
    const size_t length = strlen(option);
    const bool is_it = strncmp(word, option, length) == 0;
    *out = is_it ? strtoll(word + length, NULL, 10) : *out;
    return is_it;
}

static tt_status read_arguments(int argc, char **argv, tt_config *config, arguments *a)
{
    tt_status status = argc < 2 ? tt_fail(TT_EUSAGE, "which FOLDER?") : TT_OK;
    *a = (arguments){.steps = 400, .fault = INT64_MAX, .replay = true};
    a->folder = argc < 2 ? NULL : argv[1];
    for (int i = 2; !status && i < argc; i++) {
        if (strcmp(argv[i], "--resume") == 0) {
            a->resume = true;
        } else if (strcmp(argv[i], "--no-replay") == 0) {
            a->replay = false;
        } else if (strncmp(argv[i], "--set=", 6) == 0) {
            status = tt_config_set(config, TT_SOURCE_COMMAND, argv[i] + 6, "--set");
        } else if (!number(argv[i], "--steps=", &a->steps) &&
                   !number(argv[i], "--fault=", &a->fault)) {
            status = tt_config_load_file(config, argv[i]);
        }
    }
    return status;
}

static void say(void *user, tt_log_level level, const char *message)
{
    (void)user;
    fprintf(stderr, "%s%s\n", level == TT_LOG_INFO ? "" : "warning: ", message);
}

static void print_outcome(job *j, tt_orchestrator *orchestrator)
{
    static const char *const breakers[] = {"closed", "open", "half-open"};
    const state *s = &j->slot[tt_orchestrator_slot(orchestrator)];
    const tt_run_totals totals = tt_orchestrator_totals(orchestrator);
    double norm;
    j->model.tile = 1;
    const double loss = forward_backward(&j->model, s, -1, INT32_MAX, &norm);
    printf("step %" PRId64 ": held-out loss %.6f, weights %016" PRIx64 "\n",
           tt_orchestrator_step(orchestrator), loss, tt_hash64(s->weights, sizeof s->weights, 0));
    printf("%" PRId64 " trips, %" PRId64 " replayed steps, %" PRId64 " trials, %" PRId64
           " commits\n",
           totals.trips, totals.replayed_steps, totals.trials, totals.commits);
    for (size_t i = 0; i < tt_orchestrator_optimization_count(orchestrator); i++) {
        const tt_optimization_info info = tt_orchestrator_optimization(orchestrator, i);
        printf("%s: %s, breaker %s, to blame for %" PRId64 " trips\n", info.name,
               info.on ? "on" : "off", breakers[info.breaker], info.trips);
    }
}

/* The orchestrator, ready to step. Its configuration and `resume` must outlive it. */
static tt_status begin(job *j, const arguments *a, const tt_params *params, tt_config *config,
                       tt_resume *resume, tt_orchestrator **out)
{
    static const tt_log_sink sink = {.write = say};
    const tt_host host = {.size = sizeof host,
                          .user = j,
                          .slot_count = SCRATCH,
                          .tensor_count = tensor_count,
                          .tensor_info = tensor_info,
                          .tensor_read = tensor_read,
                          .tensor_write = tensor_write,
                          .slot_prepare = slot_prepare,
                          .slot_copy = slot_copy,
                          .run_step = a->replay ? run_step : NULL,
                          .scratch_slot = a->replay ? SCRATCH : -1};
    tt_orchestrator_options options;
    tt_orchestrator_options_init(&options);
    tt_status status = TT_OK;
    if (a->resume) {
        status = tt_resume_prepare(a->folder, "auto", config, &sink, resume);
        options.resume = resume;
    }
    options.params = params;
    options.config = config;
    options.host = &host;
    options.run_directory = a->folder;
    options.batch_sequences = BATCH;
    options.initial_loss = log(CLASSES);
    options.log = &sink;
    initialize(&j->model, &j->slot[0]);
    j->model.fault = a->fault;
    status = status ? status : tt_orchestrator_create(&options, out);
    status = status ? status : add_optimizations(j, *out);
    return status ? status : tt_orchestrator_start(*out);
}

static tt_status run(job *j, const arguments *a, const tt_params *params, tt_config *config)
{
    tt_orchestrator *orchestrator = NULL;
    tt_resume resume;
    tt_resume_init(&resume);
    tt_status status = begin(j, a, params, config, &resume, &orchestrator);
    if (!status) {
        while (!status && tt_orchestrator_step(orchestrator) < a->steps) {
            status = live_step(j, orchestrator);
        }
        status = tt_orchestrator_finish(orchestrator, status);
        print_outcome(j, orchestrator);
    }
    tt_orchestrator_destroy(orchestrator);
    tt_resume_clear(&resume);
    return status;
}

int main(int argc, char **argv)
{
    tt_params *params = NULL;
    tt_config *config = NULL;
    arguments a;
    job *j = calloc(1, sizeof *j);
    tt_status status = j ? tt_params_create(&params) : TT_ENOMEM;
    status = status ? status : tt_orchestrator_register(params);
    status = status ? status : tt_params_register(params, parameters, 2);
    status = status ? status : tt_config_create(params, &config);
    status = status ? status : read_arguments(argc, argv, config, &a);
    status = status ? status : run(j, &a, params, config);
    if (status) {
        fprintf(stderr, "%s: %s\n", tt_status_name(status), tt_error_message());
    }
    tt_config_destroy(config);
    tt_params_destroy(params);
    free(j);
    return tt_status_exit_code(status);
}
