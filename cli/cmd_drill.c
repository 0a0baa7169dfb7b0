/* trimtab drill: runs that are harmed on purpose. */
#include "commands.h"
#include "output.h"
#include "settings.h"
#include "terminal.h"

#include "trimtab/training.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_WIDTH = 18, COLUMNS = 5 };
enum { INTERRUPTED = 130 };

static volatile sig_atomic_t interrupted;

typedef struct drill {
    const cli_arguments *arguments;
    cli_settings settings;
    bool live;      /* a line on standard error is redrawn */
    tt_text table;  /* printed at the end */
    tt_text losses; /* a line for each */
    json_t *list;
    double seconds;
    size_t at, count;
} drill;

/* ---- while it goes on ---- */

static void handle(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static bool stop(void *user)
{
    (void)user;
    return interrupted != 0;
}

static void say(const drill *d, const char *line)
{
    if (d->live) {
        fprintf(stderr, "\r\x1b[K%s", line);
        fflush(stderr);
    }
}

static void on_estimate(void *user, double seconds)
{
    const drill *d = user;
    char time[32];
    char line[96];
    snprintf(line, sizeof line, "about %s in all\n", cli_duration(seconds, time));
    say(d, line);
}

static void on_scenario(void *user, const char *name, size_t index, size_t count)
{
    drill *d = user;
    char line[96];
    d->at = index;
    d->count = count;
    snprintf(line, sizeof line, "%zu/%zu %s ...", index + 1, count, name);
    say(d, line);
}

/* ---- results ---- */

static const char *or_dash(const char *text)
{
    return *text ? text : "-";
}

/* One line, or more where a cell is a list: an entry on each. */
static void add_row(tt_text *out, const char *const cells[COLUMNS])
{
    static const int widths[COLUMNS] = {NAME_WIDTH, 15, 19, 13, 0};
    const char *rest[COLUMNS];
    memcpy(rest, cells, sizeof rest);
    for (bool more = true; more;) {
        size_t spaces = 0;
        more = false;
        for (int i = 0; i < COLUMNS; i++) {
            size_t length = strcspn(rest[i], ",");
            tt_text_addf(out, "%*s%.*s", length ? (int)spaces : 0, "", (int)length, rest[i]);
            spaces = length ? 0 : spaces;
            spaces += (size_t)widths[i] + 2 > length ? (size_t)widths[i] + 2 - length : 2;
            rest[i] += length;
            rest[i] += strspn(rest[i], ", ");
            more = more || *rest[i];
        }
        tt_text_add(out, "\n");
    }
}

static void add_json(drill *d, const tt_drill_result *result)
{
    json_t *one = json_object();
    json_object_set_new(one, "scenario", json_string(result->scenario));
    json_object_set_new(one, "lost", json_boolean(result->lost));
    json_object_set_new(one, "detected", cli_json_text(result->detected, strlen(result->detected)));
    json_object_set_new(one, "culprit", cli_json_text(result->culprit, strlen(result->culprit)));
    json_object_set_new(one, "recovered",
                        cli_json_text(result->recovered, strlen(result->recovered)));
    json_object_set_new(one, "why", cli_json_text(result->why, strlen(result->why)));
    json_object_set_new(one, "seconds", cli_json_number(result->seconds));
    json_array_append_new(d->list, one);
}

static void on_result(void *user, const tt_drill_result *result)
{
    drill *d = user;
    char time[32];
    char line[96];
    cli_duration(result->seconds, time);
    d->seconds += result->seconds;
    snprintf(line, sizeof line, "%zu/%zu %s: %s, %s\n", d->at + 1, d->count, result->scenario,
             result->lost ? "LOST" : "ok", time);
    say(d, line);
    if (d->list) {
        add_json(d, result);
        return;
    }
    add_row(&d->table, (const char *const[]){
                           result->scenario, or_dash(result->detected), or_dash(result->culprit),
                           result->lost ? "LOST" : or_dash(result->recovered), time});
    if (result->lost) {
        tt_text_addf(&d->losses, "LOST  %s: ", result->scenario);
        cli_add_safe(&d->losses, result->why, strlen(result->why), false);
        tt_text_add(&d->losses, "\n");
    }
}

static int list_scenarios(bool as_json)
{
    json_t *list = json_array();
    for (size_t i = 0; tt_drill_list(i); i++) {
        const tt_drill_scenario *one = tt_drill_list(i);
        json_array_append_new(list,
                              json_pack("{s:s, s:s}", "scenario", one->name, "what", one->what));
        if (!as_json) {
            printf("%-*s  %s\n", NAME_WIDTH, one->name, one->what);
        }
    }
    tt_status status = TT_OK;
    if (as_json) {
        status = cli_print_json(json_pack("{s:o}", "scenarios", json_incref(list)));
    }
    json_decref(list);
    return cli_report(status);
}

/* ---- the command ---- */

static tt_status load(drill *d, tt_drill_options *options)
{
    const cli_arguments *arguments = d->arguments;
    if (!cli_given(arguments, CLI_CONFIG)) {
        if (arguments->assignment_count > 0) {
            return tt_fail(TT_EUSAGE,
                           "drill: %s is for a configuration of your own; give it with "
                           "--config (see 'trimtab help drill')",
                           arguments->assignments[0].origin);
        }
        return TT_OK;
    }
    tt_status status = cli_settings_create(&d->settings);
    if (!status) {
        status = cli_settings_load(&d->settings, arguments->values[CLI_CONFIG], arguments);
    }
    options->params = d->settings.params;
    options->config = d->settings.config;
    return status;
}

static tt_status print(drill *d, tt_status outcome)
{
    char time[32];
    if (outcome && outcome != TT_EGATE) {
        return TT_OK; /* there is no result */
    }
    if (d->list) {
        json_t *root = json_pack("{s:b, s:f, s:O}", "ok", outcome == TT_OK, "seconds", d->seconds,
                                 "scenarios", d->list);
        return cli_print_json(root);
    }
    if (!cli_given(d->arguments, CLI_QUIET)) {
        fwrite(d->table.data, 1, d->table.length, stdout);
        printf("%zu scenario%s, %s, %s\n", d->count, d->count == 1 ? "" : "s",
               cli_duration(d->seconds, time), outcome ? "something lost" : "nothing lost");
    }
    fwrite(d->losses.data, 1, d->losses.length, stdout);
    return tt_text_check(&d->table);
}

static tt_status run(drill *d)
{
    tt_drill_options options;
    tt_drill_options_init(&options);
    tt_status status = cli_integer(d->arguments, CLI_STEPS, 16, 1000000000, 0, &options.steps);
    if (!status) {
        status = load(d, &options);
    }
    if (status) {
        return status;
    }
    options.keep = d->arguments->values[CLI_KEEP];
    options.scenarios = (const char *const *)d->arguments->operands;
    options.scenario_count = d->arguments->operand_count;
    options.user = d;
    options.on_estimate = on_estimate;
    options.on_scenario = on_scenario;
    options.on_result = on_result;
    options.stop = stop;
    (void)signal(SIGINT, handle);  // NOLINT(cert-err33-c)
    (void)signal(SIGTERM, handle); // NOLINT(cert-err33-c)
    add_row(&d->table,
            (const char *const[]){"scenario", "detected by", "culprit", "recovered", "time"});
    say(d, "a run without a fault, as the yardstick ...");
    status = tt_drill_run(&options);
    char message[1024];
    snprintf(message, sizeof message, "%s", tt_error_message());
    say(d, "");
    tt_status printed = print(d, status);
    return status ? tt_fail(status, "%s", message) : printed;
}

int cmd_drill(const cli_arguments *arguments)
{
    if (cli_given(arguments, CLI_LIST)) {
        return list_scenarios(cli_given(arguments, CLI_JSON));
    }
    drill d = {.arguments = arguments,
               .live = cli_is_live(STDERR_FILENO) && !cli_given(arguments, CLI_QUIET),
               .list = cli_given(arguments, CLI_JSON) ? json_array() : NULL};
    tt_text_init(&d.table);
    tt_text_init(&d.losses);
    int code = cli_report(run(&d));
    cli_settings_clear(&d.settings);
    tt_text_clear(&d.table);
    tt_text_clear(&d.losses);
    json_decref(d.list);
    return interrupted ? INTERRUPTED : code;
}
