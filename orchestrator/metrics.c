/* The metrics stream (metrics.jsonl). Lines are made and written together: a step costs neither
 * printing nor a system call, and a process that is killed loses some seconds of plots. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t flush_nanoseconds = 5000000000;

/* Steps that wait: fewer than the ring of records holds. */
enum { DUE_AT_MOST = 256 };

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

static void write_gathered(tt_orchestrator *o)
{
    write_lines(o, o->metrics_lines, o->metrics_length);
    o->metrics_length = 0;
}

/* `line` has a line break. */
static void append_metrics(tt_orchestrator *o, const char *line, size_t length)
{
    if (length > sizeof o->metrics_lines - o->metrics_length) {
        write_gathered(o);
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
    size_t room = sizeof out->text - out->length;
    char *at = out->text + out->length;
    int used = isfinite(value) ? snprintf(at, room, ",\"%s\":%.10g", name, value)
                               : snprintf(at, room, ",\"%s\":null", name);
    if (used > 0 && (size_t)used < room) {
        use_decimal_point(at + 1); /* behind the comma that belongs here */
        out->length += (size_t)used;
    }
}

static void format_step(tt_orchestrator *o, const tt_step_record *record)
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
}

/* Printing numbers takes longer than all gates together, so it waits until many are due. */
static void format_due(tt_orchestrator *o)
{
    for (; o->metrics_formatted < o->metrics_due; o->metrics_formatted++) {
        format_step(o, &o->records[o->metrics_formatted % TT_RECORD_RING]);
    }
}

void tt_metrics_flush(tt_orchestrator *o)
{
    format_due(o);
    write_gathered(o);
}

void tt_metrics_write_step(tt_orchestrator *o, uint64_t now_ns)
{
    o->metrics_due = o->record_count;
    bool late = now_ns < o->metrics_flushed_ns || /* (clocks can jump) */
                now_ns - o->metrics_flushed_ns >= flush_nanoseconds;
    if (late || o->metrics_due - o->metrics_formatted >= DUE_AT_MOST) {
        o->metrics_flushed_ns = now_ns;
        tt_metrics_flush(o);
    }
}

void tt_metrics_write_event(tt_orchestrator *o, json_t *event)
{
    char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    if (text) {
        format_due(o); /* what came before */
        append_metrics(o, text, strlen(text));
        append_metrics(o, "\n", 1);
        tt_metrics_flush(o);
    }
    free(text);
    json_decref(event);
}
