/* trimtab run: train as a configuration says. */
#include "checkpoint.h"
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "resolution.h"
#include "settings.h"
#include "signals.h"
#include "summary.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct job {
    const cli_arguments *arguments;
    const char *config_path;
    cli_settings settings;
    tt_text run_directory;
    const char *resume; /* NULL, "auto" or `checkpoint` */
    char checkpoint[CLI_PATH_BYTES];
    cli_progress progress;
    bool bytes;      /* the data are bytes of text */
    tt_text summary; /* drawn when the run ends */
    json_t *json;
} job;

/* --resume takes what the commands that read checkpoints take. */
static tt_status choose_checkpoint(job *j)
{
    const char *given = j->arguments->values[CLI_RESUME];
    if (!given || strcmp(given, "auto") == 0) {
        j->resume = given;
        return TT_OK;
    }
    j->resume = j->checkpoint;
    return cli_checkpoint_path(given, j->checkpoint);
}

/* runs/<name of the configuration without its ending> */
static tt_status choose_folder(job *j)
{
    if (cli_given(j->arguments, CLI_RUN_DIR)) {
        tt_text_add(&j->run_directory, j->arguments->values[CLI_RUN_DIR]);
        return tt_text_check(&j->run_directory);
    }
    const char *name = strrchr(j->config_path, '/');
    name = name ? name + 1 : j->config_path;
    const char *ending = strrchr(name, '.');
    size_t length = ending && ending != name ? (size_t)(ending - name) : strlen(name);
    tt_text_add(&j->run_directory, "runs/");
    tt_text_add_bytes(&j->run_directory, name, length);
    return tt_text_check(&j->run_directory);
}

/* ---- dry run ---- */

static double available_memory(void)
{
    double pages = (double)sysconf(_SC_AVPHYS_PAGES);
    FILE *stream = fopen("/proc/meminfo", "re");
    char line[256];
    long long kilobytes;
    double bytes = pages * (double)sysconf(_SC_PAGESIZE);
    while (stream && fgets(line, sizeof line, stream)) {
        if (sscanf(line, "MemAvailable: %lld", &kilobytes) == 1) { // NOLINT(cert-err34-c)
            bytes = (double)kilobytes * 1024;
        }
    }
    if (stream) {
        fclose(stream);
    }
    return bytes;
}

/* What would stop the run or go wrong in it, as far as it shows without starting. */
static void find_problems(const job *j, const tt_training_plan *plan, tt_text *out)
{
    const tt_config *config = j->settings.config;
    const char *data = tt_config_string(config, "data.path");
    char need[32];
    char have[32];
    double memory = (double)plan->state_bytes + (double)plan->model_bytes;
    double available = available_memory();
    struct stat info;
    if (!*data) {
        tt_text_add(out, "data.path is not set; give --data PATH\n");
    } else if (stat(data, &info) != 0) {
        tt_text_addf(out, "data.path %s (%s): %s\n", data, tt_config_origin(config, "data.path"),
                     strerrordesc_np(errno));
    }
    if (available > 0 && memory > available) {
        tt_text_addf(out, "%s of memory are needed, %s are available\n", cli_bytes(memory, need),
                     cli_bytes(available, have));
    }
    tt_text inside;
    tt_text_init(&inside);
    tt_text_addf(&inside, "%s/checkpoints", j->run_directory.data);
    if (!cli_given(j->arguments, CLI_RESUME) && stat(inside.data, &info) == 0) {
        tt_text_addf(out, "%s already holds a run; use --resume auto or another --run-dir\n",
                     j->run_directory.data);
    }
    tt_text_clear(&inside);
}

/* Also by the account of a checkpoint. */
static bool is_default(tt_source source, const char *origin)
{
    static const char said[] = "(default)";
    size_t length = strlen(origin);
    return source == TT_SOURCE_DEFAULT ||
           (source == TT_SOURCE_CHECKPOINT && length >= sizeof said &&
            strcmp(origin + length - (sizeof said - 1), said) == 0);
}

/* Values that are not the defaults, with their origins. */
static void draw_values(const job *j, tt_text *out)
{
    const tt_config *config = j->settings.config;
    bool any = false;
    for (size_t i = 0; i < tt_params_count(j->settings.params); i++) {
        const char *key = tt_params_at(j->settings.params, i)->key;
        const char *origin = tt_config_origin(config, key);
        if (is_default(tt_config_source(config, key), origin)) {
            continue;
        }
        tt_text_add(out, any ? "" : "\nset\n");
        tt_text_addf(out, "  %-26s ", key);
        any = true;
        tt_value value = tt_config_get(config, key);
        char number[32];
        if (value.is_auto) {
            tt_text_addf(out, "%-16s", "auto");
        } else if (value.type == TT_TYPE_INT) {
            tt_text_addf(out, "%-16lld", (long long)value.as.integer);
        } else if (value.type == TT_TYPE_FLOAT) {
            tt_text_addf(out, "%-16s", tt_format_double(value.as.real, number));
        } else if (value.type == TT_TYPE_BOOL) {
            tt_text_addf(out, "%-16s", value.as.boolean ? "true" : "false");
        } else {
            size_t before = out->length;
            cli_add_safe(out, value.as.string, strlen(value.as.string), false);
            size_t width = out->length - before;
            tt_text_addf(out, "%*s", width < 16 ? (int)(16 - width) : 0, "");
        }
        tt_text_add(out, "  ");
        cli_add_safe(out, origin, strlen(origin), false);
        tt_text_add(out, "\n");
    }
}

static tt_status dry_run(job *j)
{
    tt_log_sink sink = cli_progress_sink(&j->progress);
    tt_training_plan plan;
    tt_resume resume;
    tt_text problems;
    tt_text out;
    cli_resolution resolution = {.params = j->settings.params, .config = j->settings.config};
    tt_text_init(&resolution.trace);
    tt_text_init(&resolution.advice);
    tt_resume_init(&resume);
    tt_text_init(&problems);
    tt_text_init(&out);
    tt_status status = TT_OK;
    if (j->resume) {
        status =
            tt_resume_prepare(j->run_directory.data, j->resume, j->settings.config, &sink, &resume);
    }
    if (!status) {
        /* First, for its errors say more than the resolver's. */
        status = tt_training_make_plan(j->settings.config, &plan);
    }
    if (!status) {
        /* What an untrained model scores says nothing about one that has learned. */
        status = tt_gates_validate(j->settings.config, *resume.path ? 0 : log((double)plan.vocab));
    }
    if (!status) {
        status =
            cli_resolution_init(&j->settings, cli_given(j->arguments, CLI_STRICT), &resolution);
    }
    if (!status) {
        status = tt_training_make_plan(cli_resolution_in_force(&resolution), &plan);
    }
    if (!status) {
        find_problems(j, &plan, &problems);
        status = tt_text_check(&problems);
    }
    const cli_plan_context context = {j->run_directory.data, resume.path, resume.changes.data,
                                      resolution.trace.data, problems.data};
    if (!status && cli_given(j->arguments, CLI_JSON)) {
        status = cli_print_json(cli_plan_json(&plan, &context));
    } else if (!status) {
        cli_plan_draw(&plan, &context, &out);
        draw_values(j, &out);
        fwrite(out.data, 1, out.length, stdout);
    }
    cli_resolution_clear(&resolution);
    tt_resume_clear(&resume);
    tt_text_clear(&problems);
    tt_text_clear(&out);
    return status;
}

/* ---- the run ---- */

static void on_start(void *user, const tt_training_plan *plan, const tt_training_data *data,
                     int64_t first_step)
{
    job *j = user;
    j->bytes = data->bytes;
    cli_progress_start(&j->progress, plan, data, first_step);
}

static void on_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    cli_progress_step(&((job *)user)->progress, record, plan);
}

static void on_held_out(void *user, int64_t step, double loss, double bits_per_byte)
{
    job *j = user;
    cli_progress_held_out(&j->progress, step, loss, bits_per_byte, j->bytes);
}

static void on_finish(void *user, const tt_training_summary *summary, tt_status outcome)
{
    job *j = user;
    if (cli_given(j->arguments, CLI_JSON)) {
        j->json = cli_summary_json(summary, outcome);
    } else if (!cli_given(j->arguments, CLI_QUIET)) {
        cli_summary_draw(summary, outcome, j->config_path, &j->summary);
    }
}

static tt_status train(job *j)
{
    tt_log_sink log = cli_progress_sink(&j->progress);
    tt_training_observer observer = {
        .size = sizeof observer,
        .user = j,
        .on_start = on_start,
        .on_step = on_step,
        .on_held_out = on_held_out,
        .on_finish = on_finish,
    };
    tt_training_options options;
    tt_training *training = NULL;
    tt_training_options_init(&options);
    options.params = j->settings.params;
    options.config = j->settings.config;
    options.run_directory = j->run_directory.data;
    options.resume = j->resume;
    options.strict = cli_given(j->arguments, CLI_STRICT);
    options.log = &log;
    options.observer = &observer;
    cli_signals_install();
    tt_status status = tt_training_create(&options, &training);
    if (!status) {
        cli_signals_attach(training);
        status = tt_training_run(training);
        cli_signals_attach(NULL);
    }
    tt_training_destroy(training);
    return status;
}

static tt_status print_result(job *j)
{
    if (j->json) {
        json_t *root = j->json;
        j->json = NULL;
        return cli_print_json(root);
    }
    fwrite(j->summary.data, 1, j->summary.length, stdout);
    return tt_text_check(&j->summary);
}

static tt_status run(job *j)
{
    tt_status status = cli_settings_create(&j->settings);
    if (!status) {
        status = cli_settings_load(&j->settings, j->config_path, j->arguments);
    }
    if (!status) {
        status = choose_folder(j);
    }
    if (!status) {
        status = choose_checkpoint(j);
    }
    if (status || cli_given(j->arguments, CLI_DRY_RUN)) {
        return status ? status : dry_run(j);
    }
    status = train(j);
    cli_progress_finish(&j->progress);
    char message[1024];
    snprintf(message, sizeof message, "%s", tt_error_message());
    tt_status printed = print_result(j);
    return status ? tt_fail(status, "%s", message) : printed;
}

int cmd_run(const cli_arguments *arguments)
{
    job j = {.arguments = arguments, .config_path = arguments->operands[0]};
    tt_text_init(&j.run_directory);
    tt_text_init(&j.summary);
    cli_progress_init(&j.progress, cli_given(arguments, CLI_QUIET));
    int code = cli_report(run(&j));
    cli_progress_clear(&j.progress);
    cli_settings_clear(&j.settings);
    tt_text_clear(&j.run_directory);
    tt_text_clear(&j.summary);
    return code;
}
