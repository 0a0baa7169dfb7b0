/* trimtab gate list: every gate, with the limits that a configuration sets. */
#include "commands.h"
#include "output.h"
#include "resolution.h"
#include "settings.h"

#include "trimtab/training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_WIDTH = 17, LIMIT_WIDTH = 17, ARMED_WIDTH = 21, WIDTH = 80, TEXT_INDENT = 2 };

/* The next key of "gates.loss.min, gates.loss.max"; false at the end. */
static bool next_key(const char **keys, char out[64])
{
    *keys += strspn(*keys, ", ");
    size_t length = strcspn(*keys, ",");
    snprintf(out, 64, "%.*s", (int)length, *keys);
    *keys += length;
    return length > 0;
}

/* The head of `text` that fits into `width`, cut between words; moves `text` behind it. */
static size_t take_words(const char **text, size_t width)
{
    size_t length = strlen(*text);
    if (length > width) {
        length = width;
        while (length > 0 && (*text)[length] != ' ') {
            length--;
        }
        length = length ? length : width; /* a word that is too long is cut */
    }
    *text += length;
    *text += strspn(*text, " ");
    return length;
}

static void draw_limit(const tt_gate_info *gate, const char *trips_on, char out[48])
{
    char low[32];
    char high[32];
    if (gate->maximum == 0) {
        snprintf(out, 48, "none may be");
    } else if (gate->minimum > 0) {
        snprintf(out, 48, "%s to %s", tt_format_double(gate->minimum, low),
                 tt_format_double(gate->maximum, high));
    } else {
        snprintf(out, 48, "%s %s", strstr(trips_on, "not below") ? "below" : "up to",
                 tt_format_double(gate->maximum, high));
    }
}

/* What the third line of a gate says of its start, where it is another than later. */
static void draw_start(tt_text *out, const tt_gate_info *gate, const tt_gate_info *starting)
{
    char number[32];
    if (starting->maximum != gate->maximum) {
        tt_text_addf(out, "%*sat first up to %s (%s)\n", TEXT_INDENT, "",
                     cli_number(starting->maximum, number), starting->reason);
    }
}

static void draw_words(tt_text *out, const char *first, const char *text)
{
    size_t indent = TEXT_INDENT + strlen(first);
    tt_text_addf(out, "%*s%s", TEXT_INDENT, "", first);
    for (bool again = false; *text; again = true) {
        const char *line = text;
        size_t length = take_words(&text, WIDTH - indent);
        tt_text_addf(out, "%*s%.*s\n", again ? (int)indent : 0, "", (int)length, line);
    }
}

static void draw_gate(tt_text *out, const tt_config *config, const tt_gate_description *gate,
                      const tt_gate_info *info, const tt_gate_info *starting)
{
    char limit[48];
    char key[64];
    const char *armed = gate->arming;
    const char *keys = gate->keys;
    draw_limit(info, gate->trips_on, limit);
    bool more = next_key(&keys, key);
    for (bool first = true; first || *armed || more; first = false) {
        const char *line = armed;
        size_t length = take_words(&armed, ARMED_WIDTH - 1);
        tt_text_addf(out, "%-*s%-*s", NAME_WIDTH, first ? gate->name : "", LIMIT_WIDTH,
                     first ? limit : "");
        tt_text_addf(out, more ? "%-*.*s%s\n" : "%*.*s%s\n", more ? ARMED_WIDTH : 0, (int)length,
                     line, more ? key : "");
        if (more && tt_config_source(config, key) != TT_SOURCE_DEFAULT) {
            tt_text_addf(out, "%*s  from ", NAME_WIDTH + LIMIT_WIDTH + ARMED_WIDTH, "");
            const char *origin = tt_config_origin(config, key);
            cli_add_safe(out, origin, strlen(origin), false);
            tt_text_add(out, "\n");
        }
        more = next_key(&keys, key);
    }
    draw_words(out, "", gate->watches);
    draw_words(out, "trips: ", gate->trips_on);
    draw_start(out, info, starting);
}

static json_t *gate_json(const tt_config *config, const tt_gate_description *gate,
                         const tt_gate_info *info, const tt_gate_info *starting)
{
    json_t *keys = json_array();
    char key[64];
    for (const char *rest = gate->keys; next_key(&rest, key);) {
        json_array_append_new(keys, cli_value_json(config, key));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:s, s:s, s:o}", "gate", gate->name,
                     "watches", gate->watches, "trips_on", gate->trips_on, "armed", gate->arming,
                     "hard", gate->hard, "minimum", cli_json_number(info->minimum), "maximum",
                     cli_json_number(info->maximum), "maximum_at_start",
                     cli_json_number(starting->maximum), "reason", info->reason, "reason_at_start",
                     starting->reason, "keys", keys);
}

static tt_status list(const cli_settings *settings, bool as_json)
{
    const tt_config *config = settings->config;
    const tt_gate_description *gate;
    json_t *gates = json_array();
    tt_text out;
    tt_text_init(&out);
    double initial_loss = log((double)tt_config_int(config, "model.vocab"));
    tt_text_addf(&out, "%-*s%-*s%-*s%s\n", NAME_WIDTH, "gate", LIMIT_WIDTH, "limit", ARMED_WIDTH,
                 "armed", "set by");
    for (size_t i = 0; (gate = tt_gate_list(i)) != NULL; i++) {
        tt_gate_info info = tt_gate_configured(config, initial_loss, false, i);
        tt_gate_info starting = tt_gate_configured(config, initial_loss, true, i);
        tt_text_add(&out, "\n");
        draw_gate(&out, config, gate, &info, &starting);
        json_array_append_new(gates, gate_json(config, gate, &info, &starting));
    }
    tt_text_add(&out, "\nA gate that is armed also trips on what is missing or not a number.\n"
                      "docs/gates.md has the measurements behind the defaults.\n");
    tt_status status = tt_text_check(&out);
    if (!status && as_json) {
        status = cli_print_json(json_pack("{s:O}", "gates", gates));
    } else if (!status) {
        fwrite(out.data, 1, out.length, stdout);
    }
    json_decref(gates);
    tt_text_clear(&out);
    return status;
}

int cmd_gate_list(const cli_arguments *arguments)
{
    cli_settings settings;
    const char *path = arguments->operand_count ? arguments->operands[0] : NULL;
    tt_status status = cli_settings_create(&settings);
    if (!status) {
        status = cli_settings_load(&settings, path, arguments);
    }
    if (!status) {
        status = list(&settings, cli_given(arguments, CLI_JSON));
    }
    cli_settings_clear(&settings);
    return cli_report(status);
}
