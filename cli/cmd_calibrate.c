/* trimtab gate calibrate: what the gates see of faults, on the user's own run. */
#include "checkpoint.h"
#include "commands.h"
#include "output.h"
#include "phases.h"
#include "settings.h"

#include "trimtab/training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FAULT_COLUMN = 28, GATE_COLUMN = 18 };

typedef struct job {
    const cli_arguments *arguments;
    cli_settings settings;
    char checkpoint[CLI_PATH_BYTES];
    cli_phases phases;
} job;

/* ---- the result, for people ---- */

/* Wrapped at 80 columns; `first` begins the first line, and spaces the others. */
static void add_wrapped(tt_text *out, const char *first, const char *text)
{
    size_t indent = strlen(first);
    size_t column = indent;
    tt_text_add(out, first);
    for (bool begins = true; *text; begins = false) {
        size_t length = strcspn(text, " ");
        if (!begins && column + 1 + length > 79) {
            tt_text_addf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!begins) {
            tt_text_add(out, " ");
            column++;
        }
        tt_text_add_bytes(out, text, length);
        column += length;
        text += length;
        text += *text == ' ';
    }
}

static void add_line(tt_text *out, const char *size, const char *gate, int64_t seen, int64_t trials)
{
    tt_interval interval = tt_clopper_pearson_interval(seen, trials, 0.95);
    tt_text_addf(out, "  %-*s%-*s%4.0f %%  [%.0f, %.0f]\n", FAULT_COLUMN, size, GATE_COLUMN, gate,
                 trials ? 100 * (double)seen / (double)trials : 0, 100 * interval.low,
                 100 * interval.high);
}

static void draw_row(tt_text *out, const tt_calibration *result, const tt_calibration_row *row)
{
    char size[64];
    bool first = true;
    if (isfinite(row->observed) && fabs(row->observed / row->magnitude - 1) > 0.02) {
        snprintf(size, sizeof size, "%.24s (seen: x%.3g)", row->size, row->observed);
    } else {
        snprintf(size, sizeof size, "%s", row->size);
    }
    for (size_t g = 0; g < result->gate_count; g++) {
        if (row->seen_by[g] > 0) {
            add_line(out, first ? size : "", result->gates[g].name, row->seen_by[g], row->trials);
            first = false;
        }
    }
    if (first) {
        add_line(out, size, "-", 0, row->trials);
    }
}

static void draw_rows(tt_text *out, const tt_calibration *result)
{
    const char *fault = "";
    for (size_t i = 0; i < result->row_count; i++) {
        const tt_calibration_row *row = &result->rows[i];
        if (row->trials == 0) {
            continue;
        }
        if (strcmp(fault, row->fault) != 0) {
            fault = row->fault;
            tt_text_addf(out, "\n%s, %lld times\n", row->fault, (long long)row->trials);
            add_wrapped(out, "  ", row->what);
            tt_text_add(out, "\n");
        }
        draw_row(out, result, row);
    }
}

static void draw_gates(tt_text *out, const tt_calibration *result)
{
    tt_text_addf(out, "\n%-*s%14s%8s   %s\n", GATE_COLUMN, "without a fault", "evaluations",
                 "trips", "rate, 95 %");
    for (size_t g = 0; g < result->gate_count; g++) {
        const tt_calibration_gate *gate = &result->gates[g];
        tt_text_addf(out, "%-*s%14lld%8lld   ", GATE_COLUMN, gate->name,
                     (long long)gate->evaluations, (long long)gate->trips);
        if (gate->evaluations) {
            tt_text_addf(out, "[%.1e, %.1e]\n", gate->false_rate.low, gate->false_rate.high);
        } else {
            tt_text_add(out, "not armed\n");
        }
    }
}

static tt_status draw(const tt_calibration *result)
{
    char time[32];
    tt_text out;
    tt_text_init(&out);
    tt_text_addf(&out, "steps %lld to %lld of your run, %lld rounds of faults in forks of it, %s\n",
                 (long long)result->first_step,
                 (long long)(result->first_step + result->live_steps), (long long)result->rounds,
                 cli_duration(result->seconds, time));
    draw_rows(&out, result);
    draw_gates(&out, result);
    tt_text_add(&out, "\n");
    for (size_t i = 0; i < result->finding_count; i++) {
        add_wrapped(&out, "- ", result->findings[i]);
        tt_text_add(&out, ".\n");
    }
    tt_status status = tt_text_check(&out);
    fwrite(out.data, 1, out.length, stdout);
    tt_text_clear(&out);
    return status;
}

/* ---- and as JSON ---- */

static json_t *interval_json(tt_interval interval)
{
    return json_pack("[f, f]", interval.low, interval.high);
}

static json_t *row_json(const tt_calibration *result, const tt_calibration_row *row)
{
    json_t *by = json_object();
    for (size_t g = 0; g < result->gate_count; g++) {
        tt_interval power = tt_clopper_pearson_interval(row->seen_by[g], row->trials, 0.95);
        json_object_set_new(by, result->gates[g].name,
                            json_pack("{s:I, s:o}", "seen", (json_int_t)row->seen_by[g], "interval",
                                      interval_json(power)));
    }
    return json_pack("{s:s, s:s, s:s, s:f, s:o, s:I, s:I, s:o, s:o, s:s, s:o}", "fault", row->fault,
                     "what", row->what, "size", row->size, "magnitude", row->magnitude, "observed",
                     cli_json_number(row->observed), "trials", (json_int_t)row->trials, "seen",
                     (json_int_t)row->seen, "interval", interval_json(row->power), "steps_until",
                     cli_json_number(row->steps_until), "not_seen_in", row->missed, "gates", by);
}

static json_t *gate_json(const tt_calibration_gate *gate)
{
    return json_pack("{s:s, s:b, s:o, s:o, s:I, s:I, s:o}", "gate", gate->name, "armed",
                     gate->armed, "minimum", cli_json_number(gate->minimum), "maximum",
                     cli_json_number(gate->maximum), "evaluations", (json_int_t)gate->evaluations,
                     "false_trips", (json_int_t)gate->trips, "interval",
                     interval_json(gate->false_rate));
}

static json_t *to_json(const tt_calibration *result)
{
    json_t *rows = json_array();
    json_t *gates = json_array();
    json_t *findings = json_array();
    for (size_t i = 0; i < result->row_count; i++) {
        json_array_append_new(rows, row_json(result, &result->rows[i]));
    }
    for (size_t g = 0; g < result->gate_count; g++) {
        json_array_append_new(gates, gate_json(&result->gates[g]));
    }
    for (size_t i = 0; i < result->finding_count; i++) {
        json_array_append_new(findings, json_string(result->findings[i]));
    }
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o}", "complete",
                     result->complete, "first_step", (json_int_t)result->first_step, "live_steps",
                     (json_int_t)result->live_steps, "shadow_steps",
                     (json_int_t)result->shadow_steps, "rounds", (json_int_t)result->rounds,
                     "resampled_steps", (json_int_t)result->resampled_steps, "resampled_trips",
                     (json_int_t)result->resampled_trips, "seconds", result->seconds, "faults",
                     rows, "gates", gates, "findings", findings);
}

/* ---- the command ---- */

static tt_status read_options(job *j, tt_calibrate_options *options)
{
    const cli_arguments *arguments = j->arguments;
    const char *resume = arguments->values[CLI_RESUME];
    tt_status status = cli_integer(arguments, CLI_STEPS, 1, 1000000000, 0, &options->steps);
    if (!status) {
        status = cli_integer(arguments, CLI_ROUNDS, 1, 100000, 0, &options->rounds);
    }
    if (!status) {
        status = cli_real(arguments, CLI_SECONDS, 1, 1e9, 0, &options->seconds);
    }
    if (!status && resume) {
        options->resume = j->checkpoint;
        status = strcmp(resume, "auto") == 0
                     ? tt_fail(TT_EUSAGE, "gate calibrate: --resume takes a checkpoint or the "
                                          "folder of a run (see 'trimtab help gate calibrate')")
                     : cli_checkpoint_path(resume, j->checkpoint);
    }
    if (!status) {
        status = cli_settings_create(&j->settings);
    }
    if (!status) {
        status = cli_settings_load(&j->settings, arguments->operands[0], arguments);
    }
    options->params = j->settings.params;
    options->config = j->settings.config;
    return status;
}

static tt_status calibrate(job *j)
{
    tt_calibrate_options options;
    tt_calibration *result = NULL;
    tt_log_sink log;
    tt_calibrate_options_init(&options);
    tt_status status = read_options(j, &options);
    if (status) {
        return status;
    }
    cli_phases_begin(&j->phases);
    options.log = cli_phases_log(&j->phases, &log);
    options.user = &j->phases;
    options.on_progress = cli_phases_tell;
    options.stop = cli_phases_stop;
    status = tt_calibrate(&options, &result);
    cli_phases_end(&j->phases);
    if (!status) {
        status = cli_given(j->arguments, CLI_JSON) ? cli_print_json(to_json(result)) : draw(result);
    }
    tt_calibration_destroy(result);
    return status;
}

int cmd_gate_calibrate(const cli_arguments *arguments)
{
    job j = {.arguments = arguments};
    int code = cli_report(calibrate(&j));
    cli_settings_clear(&j.settings);
    return cli_phases_code(code);
}
