/* trimtab bisect: the first bad step of a run. */
#include "commands.h"
#include "output.h"
#include "phases.h"
#include "settings.h"

#include "trimtab/training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LABEL = 12, RIGHT = 80 };

/* ---- for people ---- */

/* A label, and text that is wrapped beside it. What is in it may come from a file. */
static void add_line(tt_text *out, const char *label, const char *text)
{
    size_t column = LABEL;
    tt_text_addf(out, "%-*s", LABEL, label);
    for (bool first = true; *text; first = false) {
        size_t length = strcspn(text, " ");
        if (!first && column + 1 + length > RIGHT) {
            tt_text_addf(out, "\n%*s", LABEL, "");
            column = LABEL;
        } else if (!first) {
            tt_text_add(out, " ");
            column++;
        }
        cli_add_safe(out, text, length, false);
        column += length;
        text += length;
        text += *text == ' ';
    }
    tt_text_add(out, "\n");
}

static void add_sample(tt_text *out, const tt_bisection *result)
{
    char numbers[4][32];
    tt_text line;
    tt_text_init(&line);
    if (result->sequences == 0) {
        return;
    }
    if (result->sample < 0) {
        tt_text_addf(&line, "none of the batch's %lld sequences stands out%s",
                     (long long)result->sequences,
                     result->samples_nonfinite ? ": each makes NaN or infinity" : "");
    } else {
        tt_text_addf(&line,
                     "data position %lld: loss %s, gradient norm %s (median of the batch: %s, %s)",
                     (long long)result->sample, cli_number(result->sample_loss, numbers[0]),
                     cli_number(result->sample_norm, numbers[1]),
                     cli_number(result->median_loss, numbers[2]),
                     cli_number(result->median_norm, numbers[3]));
    }
    add_line(out, "sample", line.data);
    tt_text_clear(&line);
    if (result->sample < 0) {
        return;
    }
    tt_text_addf(&line, "%s, byte %lld", result->file, (long long)result->offset);
    add_line(out, "", line.data);
    tt_text_clear(&line);
    if (result->excerpt) {
        tt_text_addf(out, "%*s\"", LABEL, "");
        size_t most =
            result->excerpt_bytes < RIGHT - LABEL - 2 ? result->excerpt_bytes : RIGHT - LABEL - 2;
        cli_add_safe(out, result->excerpt, most, false);
        tt_text_add(out, "\"\n");
    }
}

static void add_bad_step(tt_text *out, const tt_bisection *result)
{
    tt_text line;
    tt_text_init(&line);
    tt_text_addf(&line, "%lld, on the batch at data position %lld: %s", (long long)result->bad_step,
                 (long long)result->position, result->says);
    add_line(out, "bad step", line.data);
    tt_text_clear(&line);
    if (result->nothing_good) {
        add_line(out, "", "no checkpoint is good: it may have gone wrong before the oldest");
    }
    add_line(out, "gate", result->gate);
    if (result->tensor[0]) {
        add_line(out, "tensor", result->tensor);
    }
    add_sample(out, result);
    if (result->verdict[0]) {
        tt_text_addf(&line, "%s (%s)", result->verdict, result->verdict_says);
        add_line(out, "verdict", line.data);
        tt_text_clear(&line);
    }
    add_line(out, "what to do", result->advice);
}

static tt_status draw(const char *run, const tt_bisection *result)
{
    char time[32];
    tt_text line;
    tt_text out;
    tt_text_init(&line);
    tt_text_init(&out);
    tt_text_addf(&line, "%s: %lld checkpoint%s, of steps %lld to %lld", run,
                 (long long)result->checkpoints, result->checkpoints == 1 ? "" : "s",
                 (long long)result->first_step, (long long)result->last_step);
    add_line(&out, "run", line.data);
    tt_text_clear(&line);
    for (size_t i = 0; i < result->note_count; i++) {
        add_line(&out, "", result->notes[i]);
    }
    tt_text_addf(&line, "from step %lld to %lld, %s", (long long)result->from_step,
                 (long long)result->to_step, cli_duration(result->seconds, time));
    add_line(&out, "replayed", line.data);
    tt_text_clear(&line);
    if (result->found) {
        add_bad_step(&out, result);
    } else {
        tt_text_addf(&line,
                     "none found between checkpoints %lld and %lld: the step after each passes, "
                     "and so does every one that was replayed",
                     (long long)result->first_step, (long long)result->last_step);
        add_line(&out, "bad step", line.data);
    }
    tt_status status = tt_text_check(&out);
    fwrite(out.data, 1, out.length, stdout);
    tt_text_clear(&line);
    tt_text_clear(&out);
    return status;
}

/* ---- as JSON ---- */

static json_t *text_json(const char *text)
{
    return cli_json_text(text, strlen(text));
}

static json_t *sample_json(const tt_bisection *result)
{
    if (result->sample < 0) {
        return json_null();
    }
    json_t *excerpt =
        result->excerpt ? cli_json_text(result->excerpt, result->excerpt_bytes) : json_null();
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "position",
                     (json_int_t)result->sample, "loss", cli_json_number(result->sample_loss),
                     "gradient_norm", cli_json_number(result->sample_norm), "median_loss",
                     cli_json_number(result->median_loss), "median_gradient_norm",
                     cli_json_number(result->median_norm), "file", text_json(result->file),
                     "offset", (json_int_t)result->offset, "excerpt", excerpt);
}

static json_t *bad_json(const tt_bisection *result)
{
    if (!result->found) {
        return json_null();
    }
    return json_pack("{s:I, s:I, s:b, s:s, s:o, s:o, s:I, s:I, s:o, s:s, s:o, s:o}", "step",
                     (json_int_t)result->bad_step, "position", (json_int_t)result->position,
                     "nothing_good", result->nothing_good, "gate", result->gate, "says",
                     text_json(result->says), "tensor", text_json(result->tensor), "sequences",
                     (json_int_t)result->sequences, "sequences_nonfinite",
                     (json_int_t)result->samples_nonfinite, "sample", sample_json(result),
                     "verdict", result->verdict, "verdict_says", text_json(result->verdict_says),
                     "advice", text_json(result->advice));
}

static json_t *to_json(const char *run, const tt_bisection *result)
{
    json_t *notes = json_array();
    for (size_t i = 0; i < result->note_count; i++) {
        json_array_append_new(notes, text_json(result->notes[i]));
    }
    return json_pack("{s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o}", "run", text_json(run),
                     "found", result->found, "checkpoints", (json_int_t)result->checkpoints,
                     "first_step", (json_int_t)result->first_step, "last_step",
                     (json_int_t)result->last_step, "from_step", (json_int_t)result->from_step,
                     "to_step", (json_int_t)result->to_step, "seconds", result->seconds, "bad",
                     bad_json(result), "notes", notes);
}

/* ---- the command ---- */

static tt_status bisect(const cli_arguments *arguments, cli_settings *settings, bool *found)
{
    const char *run = arguments->operands[0];
    cli_phases phases;
    tt_log_sink log;
    tt_bisect_options options;
    tt_bisection *result = NULL;
    double percent = 0;
    tt_bisect_options_init(&options);
    tt_status status = cli_real(arguments, CLI_LOSS, 1e-9, 1e6, 0, &options.loss_limit);
    if (!status) {
        status = cli_real(arguments, CLI_HELD_OUT, 0.01, 1e6, 0, &percent);
    }
    if (!status) {
        status = cli_settings_create(settings);
    }
    if (status) {
        return status;
    }
    cli_phases_begin(&phases);
    options.params = settings->params;
    options.run_directory = run;
    options.data_path = arguments->values[CLI_DATA];
    options.held_out_rise = percent / 100;
    options.log = cli_phases_log(&phases, &log);
    options.user = &phases;
    options.on_progress = cli_phases_tell;
    options.stop = cli_phases_stop;
    status = tt_bisect(&options, &result);
    cli_phases_end(&phases);
    if (!status) {
        *found = result->found;
        status = cli_given(arguments, CLI_JSON) ? cli_print_json(to_json(run, result))
                                                : draw(run, result);
    }
    tt_bisection_destroy(result);
    return status;
}

int cmd_bisect(const cli_arguments *arguments)
{
    cli_settings settings = {0};
    bool found = false;
    int code = cli_report(bisect(arguments, &settings, &found));
    cli_settings_clear(&settings);
    return cli_phases_code(code ? code : found);
}
