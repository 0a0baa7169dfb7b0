/* trimtab tune: which kernels a configuration's matrix products get on this machine, and why. */
#include "commands.h"
#include "output.h"
#include "settings.h"
#include "tune_report.h"

#include "trimtab/training.h"

#include <stdio.h>
#include <string.h>

enum { SECONDS_MOST = 3600 };
static const double peak_seconds = 0.5;

typedef struct job {
    const cli_arguments *arguments;
    cli_settings settings;
    tt_tuner *tuner;
    tt_tuning tuning, again;
    tt_tuning types[2], comparison; /* where the compute type is chosen, too */
} job;

static void warn(void *user, tt_log_level level, const char *message)
{
    (void)user;
    if (level >= TT_LOG_WARN) {
        fprintf(stderr, "warning: %s\n", message);
    }
}

static const tt_log_sink warnings = {.write = warn, .user = NULL};

static tt_status prepare(job *j)
{
    const cli_arguments *arguments = j->arguments;
    tt_tuner_options options;
    tt_tuner_options_init(&options);
    tt_status status =
        cli_real(arguments, CLI_BUDGET, 0, SECONDS_MOST, options.seconds, &options.seconds);
    if (!status) {
        status = cli_settings_create(&j->settings);
    }
    if (!status) {
        status = cli_settings_load(
            &j->settings, arguments->operand_count ? arguments->operands[0] : NULL, arguments);
    }
    options.config = j->settings.config;
    options.show_all = cli_given(arguments, CLI_EXPLAIN);
    options.log = &warnings;
    return status ? status : tt_tuner_create(&options, &j->tuner);
}

static bool chooses_compute(const job *j)
{
    return tt_config_is_auto(j->settings.config, "kernels.compute");
}

/* What is kept of each compute type lies in a file of its own. */
static tt_status need_compute(const job *j, cli_option_id id)
{
    return chooses_compute(j)
               ? tt_fail(TT_ECONFIG,
                         "tune --%s is for one compute type: set kernels.compute to f32 or bf16",
                         cli_options[id].name)
               : TT_OK;
}

static tt_status need_cache(const job *j, cli_option_id id)
{
    return tt_tuner_question_of(j->tuner)->cache
               ? TT_OK
               : tt_fail(TT_ECONFIG,
                         "tune --%s needs a cache: set kernels.tune_cache, XDG_CACHE_HOME or HOME",
                         cli_options[id].name);
}

static tt_status clear(const job *j)
{
    int64_t removed = 0;
    const char *folder = tt_tuner_question_of(j->tuner)->cache;
    tt_status status = need_cache(j, CLI_CLEAR);
    if (!status) {
        status = tt_tune_cache_clear(folder, &removed);
    }
    if (!status) {
        printf("%lld file%s removed from %s\n", (long long)removed, removed == 1 ? "" : "s",
               folder);
    }
    return status;
}

/* What lies in the cache is proven and timed once more, beside it. */
static tt_status verify(job *j)
{
    tt_tune_options again = *tt_tuner_question_of(j->tuner);
    tt_text path;
    tt_text differences;
    tt_text_init(&path);
    tt_text_init(&differences);
    tt_status status = need_compute(j, CLI_VERIFY);
    if (!status) {
        status = need_cache(j, CLI_VERIFY);
    }
    if (!status) {
        status = tt_tune_cache_file(tt_tuner_context(j->tuner), &again, &path);
    }
    if (!status) {
        status = tt_tune(tt_tuner_context(j->tuner), &again, &j->tuning);
    }
    if (!status && !j->tuning.complete) {
        status = tt_fail(TT_ENOTFOUND, "%s: the time was up before all was measured; tune again",
                         path.data);
    }
    again.cache = NULL;
    if (!status) {
        status = tt_tune(tt_tuner_context(j->tuner), &again, &j->again);
    }
    size_t count = status ? 0 : tune_differences(&j->tuning, &j->again, &differences);
    if (!status) {
        fwrite(differences.data, 1, differences.length, stdout);
        printf("%s: %zu difference%s\n", path.data, count, count == 1 ? "" : "s");
        status = count ? tt_fail(TT_EGATE,
                                 "%s: what it says does not hold any more; measure "
                                 "again after tune --clear",
                                 path.data)
                       : TT_OK;
    }
    tt_text_clear(&path);
    tt_text_clear(&differences);
    return status;
}

static tt_status print(const job *j)
{
    tt_context *context = tt_tuner_context(j->tuner);
    tune_report report = {.tuning = &j->tuning,
                          .peaks = {.size = sizeof report.peaks},
                          .types = j->comparison.cells ? j->types : NULL,
                          .comparison = &j->comparison,
                          .threads = tt_context_threads(context),
                          .compute = tt_context_compute(context),
                          .numerics = tt_context_numerics(context)};
    tt_status status = tt_measure_peaks(context, peak_seconds, &report.peaks);
    if (status) {
        return status;
    }
    if (cli_given(j->arguments, CLI_JSON)) {
        return cli_print_json(tune_json(&report));
    }
    tt_text text;
    tt_text_init(&text);
    tune_draw(&report, cli_given(j->arguments, CLI_EXPLAIN), &text);
    fwrite(text.data, 1, text.length, stdout);
    status = tt_text_check(&text);
    tt_text_clear(&text);
    return status;
}

/* In the compute type that is the better one, which the context has from then on. */
static tt_status choose_compute(job *j)
{
    tt_context *context = tt_tuner_context(j->tuner);
    tt_status status =
        tt_tune_compute(context, tt_tuner_question_of(j->tuner), j->types, &j->comparison);
    if (status) {
        return status;
    }
    const size_t chosen = j->comparison.chosen[0];
    j->tuning = j->types[chosen];
    return tt_context_set_compute(context, chosen ? TT_BF16 : TT_F32);
}

static tt_status tune(job *j)
{
    const char *import = j->arguments->values[CLI_IMPORT];
    const char *export = j->arguments->values[CLI_EXPORT];
    tt_context *context = tt_tuner_context(j->tuner);
    const tt_tune_options *question = tt_tuner_question_of(j->tuner);
    tt_status status = TT_OK;
    if (import) {
        status = need_compute(j, CLI_IMPORT);
        status = status ? status : need_cache(j, CLI_IMPORT);
        status = status ? status : tt_tune_cache_import(context, question, import);
    }
    if (!status && export) {
        status = need_compute(j, CLI_EXPORT);
        status = status ? status : need_cache(j, CLI_EXPORT);
    }
    if (!status) {
        status = chooses_compute(j) ? choose_compute(j) : tt_tune(context, question, &j->tuning);
    }
    if (!status && export) {
        status = tt_tune_cache_export(context, question, export);
    }
    return status ? status : print(j);
}

/* At most one of those that do something else. */
static tt_status check_options(const cli_arguments *arguments)
{
    bool only_clear = cli_given(arguments, CLI_CLEAR);
    bool only_verify = cli_given(arguments, CLI_VERIFY);
    bool copies = cli_given(arguments, CLI_IMPORT) || cli_given(arguments, CLI_EXPORT);
    if ((only_clear && (only_verify || copies)) || (only_verify && copies)) {
        return tt_fail(TT_EUSAGE, "tune: --clear, --verify and --import or --export exclude each "
                                  "other (see 'trimtab help tune')");
    }
    return TT_OK;
}

int cmd_tune(const cli_arguments *arguments)
{
    job j = {.arguments = arguments};
    tt_status status = check_options(arguments);
    if (!status) {
        status = prepare(&j);
    }
    if (!status) {
        status = cli_given(arguments, CLI_CLEAR)    ? clear(&j)
                 : cli_given(arguments, CLI_VERIFY) ? verify(&j)
                                                    : tune(&j);
    }
    int code = cli_report(status);
    if (!j.comparison.cells) { /* else it is one of them */
        tt_tuning_clear(&j.tuning);
    }
    tt_tuning_clear(&j.again);
    tt_tuning_clear(&j.types[0]);
    tt_tuning_clear(&j.types[1]);
    tt_tuning_clear(&j.comparison);
    tt_tuner_destroy(j.tuner);
    cli_settings_clear(&j.settings);
    return code;
}
