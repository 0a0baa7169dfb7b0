/* trimtab: finds the command, runs it, sees to it that its output arrived. */
#include "calm.h"
#include "commands.h"
#include "help.h"
#include "output.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A file that trimtab opens must never become its standard output or error. */
static bool open_standard_streams(void)
{
    int fd;
    do {
        /* Read-only: what is written to a stream that was closed fails and is reported. */
        fd = open("/dev/null", O_RDONLY);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static int print(void (*write)(tt_text *out))
{
    tt_text text;
    tt_text_init(&text);
    write(&text);
    fwrite(text.data, 1, text.length, stdout);
    tt_status status = tt_text_check(&text);
    tt_text_clear(&text);
    return cli_report(status);
}

static int print_command_help(const cli_command *command)
{
    tt_text text;
    tt_text_init(&text);
    cli_write_help(command, &text);
    fwrite(text.data, 1, text.length, stdout);
    tt_text_clear(&text);
    return 0;
}

static bool is_option(const char *word, cli_option_id id)
{
    const cli_option *option = &cli_options[id];
    return (strncmp(word, "--", 2) == 0 && strcmp(word + 2, option->name) == 0) ||
           (word[0] == '-' && word[1] == option->letter && !word[2]);
}

static tt_status unknown_first_word(const char *word)
{
    if (word[0] != '-') {
        return cli_unknown_command(word);
    }
    static const char *const names[] = {"--help", "--version"};
    const char *near = tt_nearest_word(word, names, 2);
    return tt_fail(TT_EUSAGE,
                   "unknown option '%s'%s%s%s; options follow the command (see 'trimtab "
                   "help')",
                   word, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int run_group(const char *group, int argc, char **argv)
{
    if (argc > 0 && (is_option(argv[0], CLI_HELP) || strcmp(argv[0], "help") == 0)) {
        tt_text text;
        tt_text_init(&text);
        cli_write_group(group, &text);
        fwrite(text.data, 1, text.length, stdout);
        tt_text_clear(&text);
        return 0;
    }
    if (argc == 0) {
        return cli_report(
            tt_fail(TT_EUSAGE, "%s: a command is missing (see 'trimtab help %s')", group, group));
    }
    char whole[96];
    snprintf(whole, sizeof whole, "%s %.64s", group, argv[0]);
    return cli_report(cli_unknown_command(whole));
}

static int run_command(int argc, char **argv)
{
    int words = 0;
    const cli_command *command = cli_find_command(argc, argv, &words);
    if (!command) {
        return cli_is_group(argv[0]) ? run_group(argv[0], argc - 1, argv + 1)
                                     : cli_report(unknown_first_word(argv[0]));
    }
    cli_arguments arguments;
    /* getopt begins behind the word at 0: the command's last. */
    tt_status status = cli_parse(command, argc - words + 1, argv + words - 1, &arguments);
    int code;
    if (status) {
        code = cli_report(status);
    } else if (cli_given(&arguments, CLI_HELP)) {
        code = print_command_help(command);
    } else {
        code = command->run(&arguments);
    }
    cli_arguments_clear(&arguments);
    return code;
}

/* Commands that have threads to calm. */
static bool computes(const char *word)
{
    static const char *const words[] = {"run", "generate", "drill", "gate", "bisect", "bench"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i], word) == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    if (argc > 1 && computes(argv[1])) {
        cli_calm_waiting_threads(argv);
    }
    if (!open_standard_streams()) {
        return 70;
    }
    /* A reader that goes away is a write that fails, not a death without a word. */
    (void)signal(SIGPIPE, SIG_IGN); // NOLINT(cert-err33-c)
    int code;
    if (argc < 2) {
        code = cli_report(tt_fail(TT_EUSAGE, "a command is missing (see 'trimtab help')"));
    } else if (is_option(argv[1], CLI_HELP)) {
        code = print(cli_write_overview);
    } else if (is_option(argv[1], CLI_VERSION)) {
        puts("trimtab " CLI_VERSION_TEXT);
        code = 0;
    } else {
        code = run_command(argc - 1, argv + 1);
    }
    return cli_finish_output(code);
}
