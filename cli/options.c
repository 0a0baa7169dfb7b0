/* Parsing: getopt_long over the option table. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CODE = 256 }; /* getopt's code of a long option, above every character */

/* ---- commands ---- */

const cli_command *cli_find_command(int argc, char *const *argv, int *words)
{
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *name = cli_commands[i].name;
        const char *space = strchr(name, ' ');
        size_t first = space ? (size_t)(space - name) : strlen(name);
        if (argc < 1 || strlen(argv[0]) != first || strncmp(argv[0], name, first) != 0) {
            continue;
        }
        if (!space || (argc > 1 && strcmp(argv[1], space + 1) == 0)) {
            *words = space ? 2 : 1;
            return &cli_commands[i];
        }
    }
    return NULL;
}

bool cli_is_group(const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *name = cli_commands[i].name;
        if (strncmp(name, word, length) == 0 && name[length] == ' ') {
            return true;
        }
    }
    return false;
}

tt_status cli_unknown_command(const char *word)
{
    const char *names[32];
    size_t count = 0;
    for (size_t i = 0; i < cli_command_count && count < sizeof names / sizeof *names; i++) {
        names[count++] = cli_commands[i].name;
    }
    names[count++] = "bench";
    names[count++] = "config";
    names[count++] = "gate";
    const char *near = tt_nearest_word(word, names, count);
    if (near) {
        return tt_fail(TT_EUSAGE, "unknown command '%s'; did you mean '%s'? (see 'trimtab help')",
                       word, near);
    }
    return tt_fail(TT_EUSAGE, "unknown command '%s' (see 'trimtab help')", word);
}

/* ---- options ---- */

static tt_status wrong(const cli_command *command, const char *what)
{
    return tt_fail(TT_EUSAGE, "%s: %s (see 'trimtab help %s')", command->name, what, command->name);
}

static tt_status unknown_option(const cli_command *command, const char *given)
{
    char word[96];
    char what[256];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(given, "="), given);
    const char *names[CLI_OPTION_COUNT];
    size_t count = 0;
    for (size_t id = 0; id < CLI_OPTION_COUNT; id++) {
        if (command->options & CLI_BIT(id)) {
            names[count++] = cli_options[id].name;
        }
    }
    const char *bare = word + strspn(word, "-");
    const char *near = strncmp(word, "--", 2) == 0 ? tt_nearest_word(bare, names, count) : NULL;
    snprintf(what, sizeof what,
             near ? "unknown option '%s'; did you mean '--%s'?" : "unknown option '%s'", word,
             near);
    return wrong(command, what);
}

/* What getopt_long objected to. */
static tt_status objection(const cli_command *command, int code, char *const *argv, int before)
{
    char what[160];
    const char *given = argv[optind > before ? optind - 1 : optind];
    size_t id = optopt >= FIRST_CODE ? (size_t)(optopt - FIRST_CODE) : CLI_OPTION_COUNT;
    for (size_t i = 0; i < CLI_OPTION_COUNT && optopt && optopt < FIRST_CODE; i++) {
        if (cli_options[i].letter == optopt && (command->options & CLI_BIT(i))) {
            id = i;
        }
    }
    if (code == ':' && id < CLI_OPTION_COUNT) {
        snprintf(what, sizeof what, "option '--%s' needs a value: --%s %s", cli_options[id].name,
                 cli_options[id].name, cli_options[id].value);
        return wrong(command, what);
    }
    if (id < CLI_OPTION_COUNT) {
        snprintf(what, sizeof what, "option '--%s' takes no value", cli_options[id].name);
        return wrong(command, what);
    }
    if (optopt > ' ' && optopt < 0x7f) {
        snprintf(what, sizeof what, "unknown option '-%c'", optopt);
        return wrong(command, what);
    }
    return unknown_option(command, given);
}

static tt_status assign(cli_arguments *arguments, const char *key, const char *text,
                        const char *origin)
{
    size_t count = arguments->assignment_count;
    cli_assignment *grown = realloc(arguments->assignments, (count + 1) * sizeof *grown);
    if (!grown) {
        return tt_fail(TT_ENOMEM, "no memory for the command line");
    }
    grown[count] = (cli_assignment){.key = key, .text = text, .origin = origin};
    arguments->assignments = grown;
    arguments->assignment_count++;
    return TT_OK;
}

static tt_status take(cli_arguments *arguments, cli_option_id id, const char *value)
{
    arguments->given |= CLI_BIT(id);
    arguments->values[id] = value;
    if (id == CLI_SET) {
        if (!strchr(value, '=')) {
            char what[256];
            snprintf(what, sizeof what, "--set '%.64s' has no '='; write --set key=value", value);
            return wrong(arguments->command, what);
        }
        return assign(arguments, NULL, value, "--set");
    }
    return id == CLI_DATA ? assign(arguments, "data.path", value, "--data") : TT_OK;
}

static void fill_getopt(const cli_command *command, char letters[64], struct option *options)
{
    size_t used = 0;
    size_t count = 0;
    letters[used++] = ':';
    for (size_t id = 0; id < CLI_OPTION_COUNT; id++) {
        const cli_option *option = &cli_options[id];
        if (!(command->options & CLI_BIT(id))) {
            continue;
        }
        options[count++] =
            (struct option){.name = option->name,
                            .has_arg = option->value ? required_argument : no_argument,
                            .val = FIRST_CODE + (int)id};
        if (option->letter) {
            letters[used++] = option->letter;
            if (option->value) {
                letters[used++] = ':';
            }
        }
    }
    letters[used] = '\0';
    options[count] = (struct option){0};
}

static cli_option_id option_of(int code)
{
    size_t id = 0;
    if (code >= FIRST_CODE) {
        id = (size_t)(code - FIRST_CODE);
    } else {
        while (cli_options[id].letter != code) {
            id++;
        }
    }
    return (cli_option_id)id;
}

static tt_status count_operands(const cli_arguments *arguments)
{
    const cli_command *command = arguments->command;
    char what[256];
    if (arguments->operand_count < command->least) {
        snprintf(what, sizeof what, "an argument is missing: trimtab %s %s", command->name,
                 command->operands);
        return wrong(command, what);
    }
    if (arguments->operand_count > command->most) {
        snprintf(what, sizeof what, "one argument too many: '%.96s'",
                 arguments->operands[command->most]);
        return wrong(command, what);
    }
    for (size_t i = 0; i < arguments->operand_count; i++) {
        if (!arguments->operands[i][0]) {
            return wrong(command, "an argument is empty");
        }
    }
    return TT_OK;
}

tt_status cli_parse(const cli_command *command, int argc, char **argv, cli_arguments *out)
{
    char letters[64];
    struct option options[CLI_OPTION_COUNT + 1];
    *out = (cli_arguments){.command = command};
    fill_getopt(command, letters, options);
    opterr = 0;
    optind = 0; /* glibc: start afresh */
    for (;;) {
        int before = optind ? optind : 1;
        /* One thread only, and nothing else uses getopt. */
        int code = getopt_long(argc, argv, letters, options, NULL); // NOLINT(concurrency-mt-unsafe)
        if (code < 0) {
            break;
        }
        if (code == '?' || code == ':') {
            return objection(command, code, argv, before);
        }
        tt_status status = take(out, option_of(code), optarg);
        if (status) {
            return status;
        }
    }
    out->operands = argv + optind;
    out->operand_count = (size_t)(argc - optind);
    return cli_given(out, CLI_HELP) ? TT_OK : count_operands(out);
}

void cli_arguments_clear(cli_arguments *arguments)
{
    free(arguments->assignments);
}

bool cli_given(const cli_arguments *arguments, cli_option_id id)
{
    return (arguments->given & CLI_BIT(id)) != 0;
}

/* ---- numbers ---- */

static tt_status not_a_number(const cli_arguments *arguments, cli_option_id id, const char *range)
{
    char what[256];
    snprintf(what, sizeof what, "--%s '%.64s' is not %s", cli_options[id].name,
             arguments->values[id], range);
    return wrong(arguments->command, what);
}

tt_status cli_integer(const cli_arguments *arguments, cli_option_id id, int64_t minimum,
                      int64_t maximum, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (!cli_given(arguments, id)) {
        return TT_OK;
    }
    const char *text = arguments->values[id];
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < minimum || value > maximum || *text <= ' ') {
        char range[96];
        snprintf(range, sizeof range, "a whole number from %lld to %lld", (long long)minimum,
                 (long long)maximum);
        return not_a_number(arguments, id, range);
    }
    *out = value;
    return TT_OK;
}

tt_status cli_real(const cli_arguments *arguments, cli_option_id id, double minimum, double maximum,
                   double fallback, double *out)
{
    *out = fallback;
    if (!cli_given(arguments, id)) {
        return TT_OK;
    }
    const char *text = arguments->values[id];
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < minimum || value > maximum ||
        *text <= ' ') {
        char range[96];
        char from[32];
        char to[32];
        snprintf(range, sizeof range, "a number from %s to %s", tt_format_double(minimum, from),
                 tt_format_double(maximum, to));
        return not_a_number(arguments, id, range);
    }
    *out = value;
    return TT_OK;
}
