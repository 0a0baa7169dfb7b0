#include "help.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 80, OPTION_INDENT = 26 };

const cli_exit_code cli_exit_codes[] = {
    {0, "success"},
    {1, "a gate stopped the run; diff, bisect or drill found something"},
    {2, "the command line is wrong"},
    {65, "data are corrupt, hostile or unusable"},
    {70, "internal error, or out of memory"},
    {74, "a file is missing, in use or cannot be read or written"},
    {75, "stopped on request, state saved: run it again with --resume auto"},
    {78, "a configuration value is wrong, unknown or contradictory"},
    {130, "ended at once by a second Ctrl-C"},
    {0, NULL},
};

/* Wraps `text` at WIDTH; the cursor is at column `column`, further lines start at `indent`. */
static void add_wrapped(tt_text *out, const char *text, size_t column, size_t indent)
{
    bool first = true; /* word of its line */
    while (*text) {
        if (strncmp(text, "\n\n", 2) == 0) {
            tt_text_addf(out, "\n\n%*s", (int)indent, "");
            text += 2;
            column = indent;
            first = true;
        }
        size_t word = strcspn(text, " \n");
        if (!first && column + 1 + word > WIDTH) {
            tt_text_addf(out, "\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        if (!first) {
            tt_text_add(out, " ");
            column++;
        }
        tt_text_add_bytes(out, text, word);
        column += word;
        text += word;
        text += *text == ' ';
        first = false;
    }
    tt_text_add(out, "\n");
}

static void add_entry(tt_text *out, const char *name, const char *help, size_t indent)
{
    if (strlen(name) + 4 > indent) {
        tt_text_addf(out, "  %s\n%*s", name, (int)indent, "");
    } else {
        tt_text_addf(out, "  %-*s", (int)indent - 2, name);
    }
    add_wrapped(out, help, indent, indent);
}

static void add_option(tt_text *out, const cli_option *option)
{
    char name[64];
    char letter[8] = "    ";
    if (option->letter) {
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    }
    snprintf(name, sizeof name, "%s--%s%s%s", letter, option->name, option->value ? " " : "",
             option->value ? option->value : "");
    add_entry(out, name, option->help, OPTION_INDENT);
}

/* "run CONFIG" */
static void write_form(const cli_command *command, const char *name, char *out, size_t capacity)
{
    snprintf(out, capacity, "%s%s%s", name, *command->operands ? " " : "", command->operands);
}

void cli_write_overview(tt_text *out)
{
    char name[64];
    tt_text_add(out, "Usage: trimtab COMMAND [options]\n\n");
    add_wrapped(out,
                "Trains models, checks every step, takes back what does harm, and writes down "
                "enough to do it again.",
                0, 0);
    tt_text_add(out, "\nCommands:\n");
    for (size_t i = 0; i < cli_command_count; i++) {
        const cli_command *command = &cli_commands[i];
        write_form(command, command->name, name, sizeof name);
        add_entry(out, name, command->summary, 31);
    }
    tt_text_add(out, "\nOptions:\n");
    add_option(out, &cli_options[CLI_HELP]);
    add_option(out, &cli_options[CLI_VERSION]);
    tt_text_add(out, "\n'trimtab help COMMAND' says more about each. Begin with:\n\n"
                     "  trimtab run examples/quickstart.yaml --data TEXTS\n");
}

void cli_write_help(const cli_command *command, tt_text *out)
{
    char form[64];
    write_form(command, command->name, form, sizeof form);
    tt_text_addf(out, "Usage: trimtab %s [options]\n\n", form);
    if (*command->details) {
        add_wrapped(out, command->details, 0, 0);
    } else {
        char first[2] = {(char)(command->summary[0] & ~0x20), '\0'};
        tt_text_addf(out, "%s%s.\n", first, command->summary + 1);
    }
    tt_text_add(out, "\nOptions:\n");
    for (size_t id = 0; id < CLI_OPTION_COUNT; id++) {
        if (command->options & CLI_BIT(id)) {
            add_option(out, &cli_options[id]);
        }
    }
    if (!command->examples) {
        return;
    }
    tt_text_add(out, command->examples[2] ? "\nExamples:\n" : "\nExample:\n");
    for (const char *const *example = command->examples; *example; example += 2) {
        tt_text_addf(out, "  %s\n      %s\n", example[0], example[1]);
    }
}

void cli_write_group(const char *group, tt_text *out)
{
    size_t length = strlen(group);
    char name[64];
    tt_text_addf(out, "Usage: trimtab %s COMMAND [options]\n\nCommands:\n", group);
    for (size_t i = 0; i < cli_command_count; i++) {
        const cli_command *command = &cli_commands[i];
        if (strncmp(command->name, group, length) == 0 && command->name[length] == ' ') {
            write_form(command, command->name + length + 1, name, sizeof name);
            add_entry(out, name, command->summary, 26);
        }
    }
    tt_text_addf(out, "\n'trimtab help %s COMMAND' says more about each.\n", group);
}
