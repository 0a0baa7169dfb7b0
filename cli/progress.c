#include "progress.h"

#include "output.h"
#include "terminal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REDRAW_NS   UINT64_C(100000000)   /* ten times a second at most */
#define PLAIN_NS    UINT64_C(10000000000) /* a plain line every ten seconds */
#define PLAIN_LEAST UINT64_C(1000000000)  /* or every 5 % of the steps, but not faster than this */
#define PLAIN_SHARE 20
#define SMOOTHING   0.1

static uint64_t now_ns(void)
{
    tt_clock clock = tt_clock_monotonic();
    return tt_clock_now(&clock);
}

/* One write, so that nothing of another process comes between. */
static void send(const char *text, size_t length)
{
    (void)!write(STDERR_FILENO, text, length);
}

void cli_progress_init(cli_progress *progress, bool quiet)
{
    memset(progress, 0, sizeof *progress);
    tt_text_init(&progress->line);
    tt_text_init(&progress->notes);
    progress->quiet = quiet;
    progress->live = !quiet && cli_is_live(STDERR_FILENO);
    progress->colour = cli_has_colour(STDERR_FILENO);
}

void cli_progress_clear(cli_progress *progress)
{
    tt_text_clear(&progress->line);
    tt_text_clear(&progress->notes);
}

/* ---- lines that stay ---- */

/* Prints above the status line. */
static void say(cli_progress *progress, const char *text)
{
    tt_text out;
    tt_text_init(&out);
    if (progress->line.length) {
        tt_text_add(&out, "\r\033[K");
    }
    tt_text_add(&out, text);
    tt_text_add(&out, "\n");
    tt_text_add_bytes(&out, progress->line.data, progress->line.length);
    send(out.data, out.length);
    tt_text_clear(&out);
}

static void log_message(void *user, tt_log_level level, const char *message)
{
    cli_progress *progress = user;
    if (level == TT_LOG_INFO && progress->quiet) {
        return;
    }
    tt_text text;
    tt_text_init(&text);
    if (level == TT_LOG_INFO) {
        tt_text_add(&text, "note   ");
    } else {
        const char *word = level == TT_LOG_WARN ? "warning" : "error";
        tt_text_addf(&text,
                     progress->colour ? "trimtab: \033[33m%s\033[0m: " : "trimtab: %s: ", word);
    }
    cli_add_safe(&text, message, strlen(message), false);
    if (level == TT_LOG_INFO && !progress->started) {
        tt_text_addf(&progress->notes, "\n%s", text.data);
    } else {
        say(progress, text.data);
    }
    tt_text_clear(&text);
}

tt_log_sink cli_progress_sink(cli_progress *progress)
{
    return (tt_log_sink){.write = log_message, .user = progress};
}

static void add_tokens(tt_text *out, int64_t count, bool bytes)
{
    char number[32];
    if (bytes) {
        tt_text_add(out, cli_bytes((double)count, number));
    } else {
        tt_text_addf(out, "%s tokens", cli_count(count, number));
    }
}

void cli_progress_start(cli_progress *progress, const tt_training_plan *plan,
                        const tt_training_data *data, int64_t first_step)
{
    char count[32];
    char memory[32];
    progress->started = true;
    progress->drawn_step = first_step;
    progress->start_ns = progress->step_ns = now_ns();
    progress->drawn_ns = progress->start_ns;
    if (progress->quiet) {
        return;
    }
    tt_text out;
    tt_text_init(&out);
    tt_text_addf(&out,
                 "model  %s parameters: %lld layers, %lld heads, %lld channels, context %lld\n",
                 cli_count(plan->parameters, count), (long long)plan->layers,
                 (long long)plan->heads, (long long)plan->channels, (long long)plan->context);
    tt_text_add(&out, "data   ");
    cli_add_safe(&out, data->path, strlen(data->path), false);
    tt_text_add(&out, ": ");
    add_tokens(&out, data->train_tokens, data->bytes);
    tt_text_addf(&out, " in %s file%s to train on, ", cli_count(data->train_files, count),
                 data->train_files == 1 ? "" : "s");
    add_tokens(&out, data->held_out_tokens, data->bytes);
    tt_text_add(&out, " held out\n");
    tt_text_addf(&out, "run    %s steps of %s tokens, ", cli_count(plan->steps, count),
                 cli_count(plan->tokens_per_step, memory));
    tt_text_addf(&out, "%d thread%s, %s", plan->threads, plan->threads == 1 ? "" : "s",
                 cli_bytes((double)(plan->state_bytes + plan->model_bytes), memory));
    if (first_step > 0) {
        tt_text_addf(&out, "; resumed after step %s", cli_count(first_step, count));
    }
    tt_text_add(&out, progress->notes.data);
    say(progress, out.data);
    tt_text_clear(&out);
}

void cli_progress_held_out(cli_progress *progress, int64_t step, double loss, double bits_per_byte,
                           bool bytes)
{
    char number[32];
    char text[160];
    if (progress->quiet) {
        return;
    }
    snprintf(text, sizeof text, "step %s: held-out loss %.4f", cli_count(step, number), loss);
    if (bytes) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, ", %.3f bits per byte", bits_per_byte);
    }
    say(progress, text);
}

/* ---- the line of the moment ---- */

/* An exponential mean that begins as a plain one. The first step warms caches up: it counts only
 * until there is a second. */
static void smooth(cli_progress *progress, uint64_t now)
{
    double seconds = now > progress->step_ns ? (double)(now - progress->step_ns) / 1e9 : 0;
    progress->step_ns = now;
    progress->timed++;
    double share = progress->timed > 2 ? 1 / (double)(progress->timed - 1) : 1;
    share = share > SMOOTHING ? share : SMOOTHING;
    progress->step_seconds += share * (seconds - progress->step_seconds);
}

static const char *gate_state(const cli_progress *progress, char out[64])
{
    if (progress->last_tripped) {
        snprintf(out, 64, "%s gate tripped: %s", progress->record.decision.gate,
                 tt_action_name(progress->record.decision.action));
    } else if (progress->trips) {
        snprintf(out, 64, "gates ok (%lld trip%s)", (long long)progress->trips,
                 progress->trips == 1 ? "" : "s");
    } else {
        snprintf(out, 64, "gates ok");
    }
    return out;
}

/* The fields of a step, most important first: a narrow terminal loses the last ones whole. */
static void describe(cli_progress *progress, const tt_training_plan *plan, int columns,
                     tt_text *out)
{
    const tt_step_record *record = &progress->record;
    int64_t done = record->step + (record->published ? 1 : 0);
    char fields[6][96];
    char number[32];
    char total[32];
    snprintf(fields[0], sizeof fields[0], "step %s/%s", cli_count(done, number),
             cli_count(plan->steps, total));
    snprintf(fields[1], sizeof fields[1], "loss %.4f", record->loss);
    double left = progress->step_seconds * (double)(plan->steps - done);
    if (done < plan->steps) {
        snprintf(fields[2], sizeof fields[2], "%s left", cli_duration(left, number));
    } else {
        snprintf(fields[2], sizeof fields[2], "done");
    }
    double rate =
        progress->step_seconds > 0 ? (double)plan->tokens_per_step / progress->step_seconds : NAN;
    snprintf(fields[3], sizeof fields[3], "%s tokens/s",
             isfinite(rate) ? cli_count((int64_t)rate, number) : "?");
    snprintf(fields[4], sizeof fields[4], "grad norm %.3g", record->gradient_norm);
    gate_state(progress, fields[5]);
    size_t used = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        size_t width = strlen(fields[i]) + (i ? 2 : 0);
        if (i && used + width >= (size_t)columns) {
            break;
        }
        used += width;
        bool warn = progress->colour && i == 5 && progress->last_tripped;
        tt_text_addf(out, warn ? "%s\033[33m%s\033[0m" : "%s%s", i ? "  " : "", fields[i]);
    }
}

static void draw(cli_progress *progress, const tt_training_plan *plan)
{
    tt_text out;
    tt_text_init(&out);
    tt_text_clear(&progress->line);
    describe(progress, plan, cli_columns(STDERR_FILENO), &progress->line);
    tt_text_addf(&out, "\r%s\033[K", progress->line.data);
    send(out.data, out.length);
    tt_text_clear(&out);
}

static void print_plain(cli_progress *progress, const tt_training_plan *plan)
{
    tt_text out;
    tt_text_init(&out);
    describe(progress, plan, 200, &out);
    say(progress, out.data);
    tt_text_clear(&out);
}

void cli_progress_step(cli_progress *progress, const tt_step_record *record,
                       const tt_training_plan *plan)
{
    uint64_t now = now_ns();
    progress->record = *record;
    progress->last_tripped = record->decision.verdict == TT_TRIP;
    progress->trips += progress->last_tripped;
    smooth(progress, now);
    if (progress->quiet) {
        return;
    }
    uint64_t since = now - progress->drawn_ns;
    bool last = record->step + 1 >= plan->steps;
    if (progress->live) {
        if (since < REDRAW_NS && !last && progress->line.length) {
            return;
        }
        draw(progress, plan);
    } else {
        bool share = (record->step - progress->drawn_step) * PLAIN_SHARE >= plan->steps;
        if (!last && since < PLAIN_NS && !(share && since >= PLAIN_LEAST)) {
            return;
        }
        print_plain(progress, plan);
    }
    progress->drawn_ns = now;
    progress->drawn_step = record->step;
}

void cli_progress_finish(cli_progress *progress)
{
    if (progress->line.length) {
        send("\r\033[K", strlen("\r\033[K")); /* the summary says more */
        tt_text_clear(&progress->line);
    }
}
