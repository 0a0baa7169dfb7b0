/* The metrics stream (metrics.jsonl). Lines are gathered and written together: a step costs a copy,
 * not a system call, and a process that is killed loses a second of plots. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_NANOSECONDS = 1000000000 };

/* The stream is for people and plots: losing it is worth a warning, not the run. */
static void write_lines(tt_orchestrator *o, const char *lines, size_t length)
{
    if (o->metrics_failed || length == 0) {
        return;
    }
    if (tt_jsonl_append_lines(&o->metrics, lines, length, false)) {
        o->metrics_failed = true;
        tt_log(o->log, TT_LOG_WARN, "%s; metrics are not written from step %lld on",
               tt_error_message(), (long long)o->plan.step);
    }
}

void tt_metrics_flush(tt_orchestrator *o)
{
    write_lines(o, o->metrics_lines, o->metrics_length);
    o->metrics_length = 0;
}

/* `line` has a line break. */
static void append_metrics(tt_orchestrator *o, const char *line, size_t length)
{
    if (length > sizeof o->metrics_lines - o->metrics_length) {
        tt_metrics_flush(o);
    }
    if (length > sizeof o->metrics_lines) {
        write_lines(o, line, length);
        return;
    }
    memcpy(o->metrics_lines + o->metrics_length, line, length);
    o->metrics_length += length;
}

typedef struct line {
    char text[1024];
    size_t length;
} line;

/* A host program's locale may have another decimal point; JSON has not. */
static void use_decimal_point(char *number)
{
    for (; *number; number++) {
        if (*number == ',') {
            *number = '.';
        }
    }
}

static void add_number(line *out, const char *name, double value)
{
    int room = (int)(sizeof out->text - out->length);
    char number[32] = "null";
    if (isfinite(value)) {
        snprintf(number, sizeof number, "%.10g", value);
        use_decimal_point(number);
    }
    int used = snprintf(out->text + out->length, (size_t)room, ",\"%s\":%s", name, number);
    if (used > 0 && used < room) {
        out->length += (size_t)used;
    }
}

void tt_metrics_write_step(tt_orchestrator *o, const tt_step_record *record, uint64_t now_ns)
{
    line out;
    int used = snprintf(out.text, sizeof out.text,
                        "{\"attempt\":%d,\"step\":%lld,\"position\":%lld,\"published\":%s",
                        record->attempt, (long long)record->step, (long long)record->position,
                        record->published ? "true" : "false");
    out.length = (size_t)used;
    add_number(&out, "loss", record->loss);
    add_number(&out, "grad_norm", record->gradient_norm);
    add_number(&out, "update_norm", record->update_norm);
    add_number(&out, "lr", record->learning_rate);
    add_number(&out, "tokens", (double)record->tokens);
    add_number(&out, "seconds", record->seconds);
    add_number(&out, "forward_seconds", record->forward_seconds);
    add_number(&out, "backward_seconds", record->backward_seconds);
    add_number(&out, "update_seconds", record->update_seconds);
    add_number(&out, "policy_seconds", record->policy_seconds);
    if (record->decision.verdict == TT_TRIP) {
        used = snprintf(out.text + out.length, sizeof out.text - out.length, ",\"gate\":\"%s\"",
                        record->decision.gate);
        out.length += (size_t)used;
    }
    out.text[out.length++] = '}';
    out.text[out.length++] = '\n';
    append_metrics(o, out.text, out.length);
    if (now_ns < o->metrics_flushed_ns || now_ns - o->metrics_flushed_ns >= FLUSH_NANOSECONDS) {
        o->metrics_flushed_ns = now_ns; /* (clocks can jump) */
        tt_metrics_flush(o);
    }
}

void tt_metrics_write_event(tt_orchestrator *o, json_t *event)
{
    char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    if (text) {
        append_metrics(o, text, strlen(text));
        append_metrics(o, "\n", 1);
        tt_metrics_flush(o);
    }
    free(text);
    json_decref(event);
}
