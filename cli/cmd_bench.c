/* trimtab bench kernels: every operation and variant beside what the machine can do. */
#include "bench_report.h"
#include "commands.h"
#include "output.h"
#include "phases.h"
#include "settings.h"

#include "trimtab/training.h"

#include <stdio.h>
#include <stdlib.h>

enum { PEAKS_EVERY = 8 }; /* results */

typedef struct job {
    const cli_arguments *arguments;
    cli_settings settings;
    cli_phases phases;
    bench_cases cases;
    bench_machine machine;
    bench_result *results; /* of each case in f32, then in bf16 */
    size_t count;
} job;

static tt_status list_cases(job *j)
{
    const cli_arguments *arguments = j->arguments;
    const char *path = arguments->operand_count ? arguments->operands[0] : NULL;
    const char *shape = arguments->values[CLI_SHAPE], *ops = arguments->values[CLI_OPS];
    tt_status status = cli_settings_load(&j->settings, path, arguments);
    if (status) {
        return status;
    }
    if (path && shape) {
        return tt_fail(TT_EUSAGE, "bench kernels: the shapes are CONFIG's or --shape's, not both");
    }
    status = shape  ? bench_cases_parse(shape, &j->cases)
             : path ? bench_cases_of_config(j->settings.config, &j->cases)
                    : bench_cases_of_gpt2(&j->cases);
    return !status && ops ? bench_cases_select(&j->cases, ops) : status;
}

static tt_status prepare(job *j)
{
    const cli_arguments *arguments = j->arguments;
    const char *plot = arguments->values[CLI_PLOT];
    int64_t rounds = 0;
    tt_status status = cli_integer(arguments, CLI_ROUNDS, 1, BENCH_ROUNDS, 7, &rounds);
    if (!status && plot) {
        status = bench_plot_check(plot); /* before minutes of measuring */
    }
    if (!status) {
        status = cli_settings_create(&j->settings);
    }
    if (!status) {
        status = list_cases(j);
    }
    if (status) {
        return status;
    }
    const tt_config *config = j->settings.config;
    const int threads =
        tt_config_is_auto(config, "run.threads") ? 0 : (int)tt_config_int(config, "run.threads");
    j->count = 2 * j->cases.count;
    j->results = calloc(j->count, sizeof *j->results);
    if (!j->results) {
        return tt_fail(TT_ENOMEM, "no memory for the results of %zu cases", j->cases.count);
    }
    return bench_machine_init(&j->machine, &j->cases, threads, (int)rounds);
}

static void print(job *j, const bench_result *result)
{
    const tt_peaks peaks = bench_peaks(&j->machine);
    tt_text text;
    tt_text_init(&text);
    cli_phases_end(&j->phases);
    bench_draw_result(result, &peaks, &text);
    fwrite(text.data, 1, text.length, stdout);
    fflush(stdout);
    tt_text_clear(&text);
}

static tt_status measure(job *j)
{
    static const tt_dtype types[] = {TT_F32, TT_BF16};
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < j->count && !cli_phases_stop(&j->phases); i++) {
        cli_phases_tell(&j->phases, "operations", (int64_t)(i / 2), (int64_t)(j->count / 2));
        if (i % PEAKS_EVERY == 0) {
            status = bench_machine_peaks(&j->machine);
        }
        if (!status) {
            status =
                bench_measure(&j->machine, &j->cases.list[i / 2], types[i % 2], &j->results[i]);
        }
        if (!status && !cli_given(j->arguments, CLI_JSON)) {
            print(j, &j->results[i]);
        }
    }
    return status;
}

static tt_status report(job *j)
{
    const char *plot = j->arguments->values[CLI_PLOT];
    const tt_peaks peaks = bench_peaks(&j->machine);
    tt_status status = TT_OK;
    if (cli_given(j->arguments, CLI_JSON)) {
        status = cli_print_json(bench_json(&j->machine, j->results, j->count));
    } else {
        tt_text text;
        tt_text_init(&text);
        bench_draw_summary(&j->machine, j->results, j->count, &text);
        fwrite(text.data, 1, text.length, stdout);
        status = tt_text_check(&text);
        tt_text_clear(&text);
    }
    if (!status && plot) {
        status =
            bench_plot(plot, &peaks, tt_context_threads(j->machine.context), j->results, j->count);
    }
    return status;
}

int cmd_bench_kernels(const cli_arguments *arguments)
{
    job j = {.arguments = arguments};
    tt_status status = prepare(&j);
    if (!status) {
        cli_phases_begin(&j.phases);
        status = measure(&j);
        cli_phases_end(&j.phases);
    }
    if (!status && !cli_phases_stop(&j.phases)) {
        status = report(&j);
    }
    int code = cli_report(status);
    bench_machine_clear(&j.machine);
    free(j.results);
    cli_settings_clear(&j.settings);
    return cli_phases_code(code);
}
