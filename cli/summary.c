#include "summary.h"

#include "invocation.h"

#include <math.h>
#include <string.h>

/* ---- for people ---- */

static void draw_loss(const tt_training_summary *s, tt_text *out)
{
    tt_text_addf(out, "  loss           %.4f in training", s->train_loss);
    if (isfinite(s->held_out_loss)) {
        tt_text_addf(out, ", %.4f held out", s->held_out_loss);
    }
    tt_text_add(out, "\n");
    if (s->bytes) {
        tt_text_addf(out,
                     "  bits per byte  %.3f held out (byte models: order 1 %.3f, order 2 %.3f)\n",
                     s->bits_per_byte, s->order1_bits_per_byte, s->order2_bits_per_byte);
    }
}

static void draw_part(tt_text *out, int64_t count, const char *one, const char *many)
{
    char number[32];
    if (count) {
        tt_text_addf(out, ", %s %s", cli_count(count, number), count == 1 ? one : many);
    }
}

static void draw_gates(const tt_run_totals *t, tt_text *out)
{
    char number[32];
    if (t->trips) {
        tt_text_addf(out, "  gates          %s trip%s", cli_count(t->trips, number),
                     t->trips == 1 ? "" : "s");
        draw_part(out, t->retries, "retry", "retries");
        draw_part(out, t->rollbacks, "rollback", "rollbacks");
        draw_part(out, t->skips, "batch left out", "batches left out");
        tt_text_add(out, "\n");
    } else {
        tt_text_add(out, "  gates          no trips\n");
    }
    if (t->step_seconds > 0) {
        tt_text_addf(out, "  overhead       %.2f %% of step time in the orchestrator\n",
                     100 * t->policy_seconds / t->step_seconds);
    }
    if (t->checkpoint_failures) {
        tt_text_addf(out, "  NOT SAVED      %s checkpoint%s failed\n",
                     cli_count(t->checkpoint_failures, number),
                     t->checkpoint_failures == 1 ? "" : "s");
    }
}

static void draw_sample(const tt_training_summary *s, tt_text *out)
{
    tt_text_add(out, "\nsample\n");
    tt_text safe;
    tt_text_init(&safe);
    cli_add_safe(&safe, s->sample, s->sample_bytes, true);
    const char *line = safe.data;
    while (*line) {
        size_t length = strcspn(line, "\n");
        tt_text_add(out, length ? "  " : "");
        tt_text_add_bytes(out, line, length);
        tt_text_add(out, "\n");
        line += length + (line[length] == '\n');
    }
    tt_text_clear(&safe);
}

static void draw_next(const tt_training_summary *s, tt_status outcome, const char *config,
                      tt_text *out)
{
    if (outcome && outcome != TT_EREQUEUE && outcome != TT_EGATE) {
        return;
    }
    tt_text_add(out, "\nnext: ");
    cli_add_program(out);
    if (outcome == TT_EREQUEUE) {
        tt_text_add(out, " run ");
        cli_add_quoted(out, config);
        tt_text_add(out, " --run-dir ");
        cli_add_quoted(out, s->run_directory);
        tt_text_add(out, " --resume auto\n");
    } else {
        tt_text_add(out, outcome ? " inspect " : " generate ");
        cli_add_quoted(out, s->run_directory);
        tt_text_add(out, !outcome && s->bytes ? " --prompt 'Once'\n" : "\n");
    }
}

static const char *verb(tt_status outcome)
{
    return !outcome                 ? "trained"
           : outcome == TT_EREQUEUE ? "stopped on request after"
                                    : "stopped by a gate after";
}

void cli_summary_draw(const tt_training_summary *s, tt_status outcome, const char *config,
                      tt_text *out)
{
    char number[32];
    char tokens[32];
    char time[32];
    tt_text_addf(out, "%s %s step%s, %s tokens, %s", verb(outcome), cli_count(s->steps, number),
                 s->steps == 1 ? "" : "s", cli_count(s->tokens, tokens),
                 cli_duration(s->seconds, time));
    if (isfinite(s->tokens_per_second)) {
        tt_text_addf(out, ", %s tokens/s (median)",
                     cli_count((int64_t)s->tokens_per_second, number));
    }
    tt_text_add(out, "\n");
    if (s->steps) {
        draw_loss(s, out);
    }
    draw_gates(&s->totals, out);
    tt_text_addf(out, "  memory         %s at the peak\n",
                 cli_bytes((double)s->peak_rss_bytes, number));
    tt_text_add(out, "  checkpoint     ");
    cli_add_safe(out, s->checkpoint, strlen(s->checkpoint), false);
    tt_text_add(out, "\n");
    if (s->sample_bytes) {
        draw_sample(s, out);
    }
    draw_next(s, outcome, config, out);
}

/* ---- JSON ---- */

static json_t *totals_json(const tt_run_totals *t)
{
    json_t *out = json_object();
    json_object_set_new(out, "published", json_integer(t->published));
    json_object_set_new(out, "trips", json_integer(t->trips));
    json_object_set_new(out, "retries", json_integer(t->retries));
    json_object_set_new(out, "rollbacks", json_integer(t->rollbacks));
    json_object_set_new(out, "skips", json_integer(t->skips));
    json_object_set_new(out, "checkpoints", json_integer(t->checkpoints));
    json_object_set_new(out, "checkpoint_failures", json_integer(t->checkpoint_failures));
    json_object_set_new(out, "policy_seconds", cli_json_number(t->policy_seconds));
    json_object_set_new(out, "step_seconds", cli_json_number(t->step_seconds));
    return out;
}

json_t *cli_summary_json(const tt_training_summary *s, tt_status outcome)
{
    json_t *out = json_object();
    json_t *order1 = s->bytes ? cli_json_number(s->order1_bits_per_byte) : json_null();
    json_t *order2 = s->bytes ? cli_json_number(s->order2_bits_per_byte) : json_null();
    json_object_set_new(out, "outcome", json_string(tt_status_name(outcome)));
    json_object_set_new(out, "exit_code", json_integer(tt_status_exit_code(outcome)));
    json_object_set_new(out, "steps", json_integer(s->steps));
    json_object_set_new(out, "tokens", json_integer(s->tokens));
    json_object_set_new(out, "seconds", cli_json_number(s->seconds));
    json_object_set_new(out, "tokens_per_second", cli_json_number(s->tokens_per_second));
    json_object_set_new(out, "train_loss", cli_json_number(s->train_loss));
    json_object_set_new(out, "held_out_loss", cli_json_number(s->held_out_loss));
    json_object_set_new(out, "bits_per_byte",
                        s->bytes ? cli_json_number(s->bits_per_byte) : json_null());
    json_object_set_new(out, "order1_bits_per_byte", order1);
    json_object_set_new(out, "order2_bits_per_byte", order2);
    json_object_set_new(out, "peak_rss_bytes", json_integer(s->peak_rss_bytes));
    json_object_set_new(out, "totals", totals_json(&s->totals));
    json_object_set_new(out, "sample", cli_json_text(s->sample, s->sample_bytes));
    json_object_set_new(out, "checkpoint", cli_json_text(s->checkpoint, strlen(s->checkpoint)));
    json_object_set_new(out, "run_directory",
                        cli_json_text(s->run_directory, strlen(s->run_directory)));
    return out;
}

/* ---- the plan ---- */

/* Lines below a heading; nothing without lines. */
static void draw_lines(const char *heading, const char *lines, tt_text *out)
{
    if (*lines) {
        tt_text_addf(out, "\n%s\n", heading);
    }
    while (*lines) {
        size_t length = strcspn(lines, "\n");
        tt_text_add(out, "  ");
        cli_add_safe(out, lines, length, false);
        tt_text_add(out, "\n");
        lines += length + (lines[length] == '\n');
    }
}

void cli_plan_draw(const tt_training_plan *plan, const cli_plan_context *context, tt_text *out)
{
    char a[32];
    char b[32];
    tt_text_addf(out, "model          %s parameters\n", cli_count(plan->parameters, a));
    tt_text_addf(out, "               %lld layers, %lld heads", (long long)plan->layers,
                 (long long)plan->heads);
    if (plan->kv_heads != plan->heads) {
        tt_text_addf(out, " (%lld of keys and values)", (long long)plan->kv_heads);
    }
    tt_text_addf(out, ", %lld channels, context %lld, vocabulary %s\n", (long long)plan->channels,
                 (long long)plan->context, cli_count(plan->vocab, a));
    tt_text_addf(out, "training       %s steps of %s tokens", cli_count(plan->steps, a),
                 cli_count(plan->tokens_per_step, b));
    int64_t tokens;
    bool huge = __builtin_mul_overflow(plan->steps, plan->tokens_per_step, &tokens);
    tt_text_addf(out, ", %s tokens in all\n",
                 huge ? cli_number((double)plan->steps * (double)plan->tokens_per_step, a)
                      : cli_count(tokens, a));
    tt_text_addf(out, "work           %sFLOP per step", cli_scaled(plan->flops_per_step, a));
    tt_text_addf(out, ", %sFLOP in all, %d thread%s\n",
                 cli_scaled(plan->flops_per_step * (double)plan->steps, a), plan->threads,
                 plan->threads == 1 ? "" : "s");
    tt_text_addf(out, "memory         %s: ",
                 cli_bytes((double)plan->state_bytes + (double)plan->model_bytes, a));
    tt_text_addf(out, "%s in %d slot%s of state, ", cli_bytes((double)plan->state_bytes, a),
                 plan->slots, plan->slots == 1 ? "" : "s");
    tt_text_addf(out, "%s of gradients and activations\n", cli_bytes((double)plan->model_bytes, a));
    tt_text_addf(out, "checkpoint     about %s each\n",
                 cli_bytes((double)plan->checkpoint_bytes, a));
    tt_text_add(out, "run folder     ");
    cli_add_safe(out, context->run_directory, strlen(context->run_directory), false);
    tt_text_add(out, "\n");
    if (*context->resume) {
        tt_text_add(out, "goes on from   ");
        cli_add_safe(out, context->resume, strlen(context->resume), false);
        tt_text_add(out, "\n");
    }
    draw_lines("changed since then", context->changes, out);
    draw_lines("moved to what is possible", context->moved, out);
    draw_lines("problems", context->problems, out);
}

static json_t *json_of_lines(const char *lines)
{
    json_t *list = json_array();
    while (*lines) {
        size_t length = strcspn(lines, "\n");
        json_array_append_new(list, cli_json_text(lines, length));
        lines += length + (lines[length] == '\n');
    }
    return list;
}

json_t *cli_plan_json(const tt_training_plan *plan, const cli_plan_context *context)
{
    json_t *out = json_object();
    const struct {
        const char *name;
        int64_t value;
    } figures[] = {
        {"layers", plan->layers},
        {"heads", plan->heads},
        {"kv_heads", plan->kv_heads},
        {"channels", plan->channels},
        {"mlp_width", plan->mlp_width},
        {"context", plan->context},
        {"vocab", plan->vocab},
        {"parameters", plan->parameters},
        {"steps", plan->steps},
        {"tokens_per_step", plan->tokens_per_step},
        {"threads", plan->threads},
        {"slots", plan->slots},
        {"state_bytes", plan->state_bytes},
        {"model_bytes", plan->model_bytes},
        {"checkpoint_bytes", plan->checkpoint_bytes},
    };
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        json_object_set_new(out, figures[i].name, json_integer(figures[i].value));
    }
    json_object_set_new(out, "flops_per_step", cli_json_number(plan->flops_per_step));
    json_object_set_new(out, "run_directory",
                        cli_json_text(context->run_directory, strlen(context->run_directory)));
    json_object_set_new(out, "resume",
                        *context->resume ? cli_json_text(context->resume, strlen(context->resume))
                                         : json_null());
    json_object_set_new(out, "changes", json_of_lines(context->changes));
    json_object_set_new(out, "moved", json_of_lines(context->moved));
    json_object_set_new(out, "problems", json_of_lines(context->problems));
    return out;
}
