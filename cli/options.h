/* The command line: one table of commands and one of options. Parsing, help, man page, completion
 * and suggestions all read them. */
#ifndef TRIMTAB_CLI_OPTIONS_H
#define TRIMTAB_CLI_OPTIONS_H

#include "trimtab/base.h"

/* In the order in which help lists them. */
typedef enum cli_option_id {
    CLI_DATA,
    CLI_SET,
    CLI_RUN_DIR,
    CLI_RESUME,
    CLI_RESOLVED,
    CLI_STRICT,
    CLI_DRY_RUN,
    CLI_CONFIG,
    CLI_STEPS,
    CLI_ROUNDS,
    CLI_SECONDS,
    CLI_LOSS,
    CLI_HELD_OUT,
    CLI_KEEP,
    CLI_OPS,
    CLI_SHAPE,
    CLI_PLOT,
    CLI_LIST,
    CLI_PROMPT,
    CLI_TOKENS,
    CLI_TEMPERATURE,
    CLI_TOP_K,
    CLI_SEED,
    CLI_JSON,
    CLI_QUIET,
    CLI_MAN,
    CLI_COMPLETION,
    CLI_HELP,
    CLI_VERSION,
    CLI_OPTION_COUNT
} cli_option_id;

/* What completion offers for a value or an operand. */
typedef enum cli_kind {
    CLI_KIND_NONE,
    CLI_KIND_FILE,
    CLI_KIND_FOLDER,
    CLI_KIND_KEY,
    CLI_KIND_WORD,
    CLI_KIND_SCENARIO
} cli_kind;

typedef struct cli_option {
    const char *name;  /* without the dashes */
    const char *value; /* what the value is called; NULL: a flag */
    const char *help;
    cli_kind kind;
    char letter; /* the short form; 0: none */
} cli_option;

extern const cli_option cli_options[CLI_OPTION_COUNT];

#define CLI_BIT(id) (UINT64_C(1) << (id))

typedef struct cli_arguments cli_arguments;

typedef struct cli_command {
    const char *name; /* "run", "config explain" */
    const char *operands;
    size_t least, most; /* operands */
    cli_kind kind;      /* of the operands */
    uint64_t options;   /* CLI_BIT of each */
    const char *summary;
    const char *details;         /* paragraphs, separated by an empty line */
    const char *const *examples; /* NULL-terminated pairs: command line, what it does */
    int (*run)(const cli_arguments *arguments); /* returns the exit code */
} cli_command;

extern const cli_command cli_commands[];
extern const size_t cli_command_count;

#define CLI_ANY_NUMBER SIZE_MAX

/* A --set, or an option that stands for one, in the order in which they were given. */
typedef struct cli_assignment {
    const char *key;    /* "data.path"; NULL: `text` has it */
    const char *text;   /* "key=value", or the value alone */
    const char *origin; /* "--set", "--data" */
} cli_assignment;

struct cli_arguments {
    const cli_command *command;
    char **operands;
    size_t operand_count;
    uint64_t given; /* CLI_BIT of each option that was */
    const char *values[CLI_OPTION_COUNT];
    cli_assignment *assignments;
    size_t assignment_count;
};

/* The command whose words `argv` begins with, NULL if there is none. `words` gets how many. */
const cli_command *cli_find_command(int argc, char *const *argv, int *words);
/* True for "config", which is only the first word of some. */
bool cli_is_group(const char *word);

/* Parses what follows the command's words. TT_EUSAGE names what is wrong and what to do. */
tt_status cli_parse(const cli_command *command, int argc, char **argv, cli_arguments *out);
void cli_arguments_clear(cli_arguments *arguments);
bool cli_given(const cli_arguments *arguments, cli_option_id id);

/* The value of a numeric option, or `fallback`. TT_EUSAGE for anything but a number from minimum
 * to maximum. */
tt_status cli_integer(const cli_arguments *arguments, cli_option_id id, int64_t minimum,
                      int64_t maximum, int64_t fallback, int64_t *out);
tt_status cli_real(const cli_arguments *arguments, cli_option_id id, double minimum, double maximum,
                   double fallback, double *out);

/* TT_EUSAGE for a word that is no command, with the nearest that is. */
tt_status cli_unknown_command(const char *word);

#endif
