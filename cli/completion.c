/* The completion script for bash. */
#include "help.h"

#include "trimtab/training.h"

#include <string.h>

/* A word of a list that began at `start`. */
static void add_word(tt_text *out, size_t start, const char *prefix, const char *word,
                     size_t length)
{
    tt_text_addf(out, "%s%s%.*s", out->length > start ? " " : "", prefix, (int)length, word);
}

static void add_options(tt_text *out, const cli_command *command)
{
    size_t start = out->length;
    for (size_t id = 0; id < CLI_OPTION_COUNT; id++) {
        if (command->options & CLI_BIT(id)) {
            add_word(out, start, "--", cli_options[id].name, strlen(cli_options[id].name));
        }
    }
}

/* First words, or the second words that follow `group`; each once. */
static void add_commands(tt_text *out, const char *group)
{
    size_t start = out->length;
    size_t length = group ? strlen(group) : 0;
    const char *before = "";
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *name = cli_commands[i].name;
        size_t first = strcspn(name, " ");
        if (!group && (strcspn(before, " ") != first || strncmp(before, name, first) != 0)) {
            add_word(out, start, "", name, first);
        } else if (group && first == length && strncmp(name, group, length) == 0 && name[first]) {
            add_word(out, start, "", name + first + 1, strlen(name + first + 1));
        }
        before = name;
    }
}

static void add_keys(tt_text *out, const tt_params *params)
{
    size_t start = out->length;
    for (size_t i = 0; i < tt_params_count(params); i++) {
        const char *key = tt_params_at(params, i)->key;
        add_word(out, start, "", key, strlen(key));
    }
}

/* Values of the option before the cursor. */
static void add_value_cases(tt_text *out)
{
    tt_text_add(out, "    case $previous in\n");
    for (size_t id = 0; id < CLI_OPTION_COUNT; id++) {
        const cli_option *option = &cli_options[id];
        if (!option->value) {
            continue;
        }
        tt_text_addf(out, "    --%s", option->name);
        if (option->letter) {
            tt_text_addf(out, "|-%c", option->letter);
        }
        tt_text_add(out, ")\n");
        if (id == CLI_RESUME) {
            tt_text_add(out, "        _trimtab_words \"auto\"\n        _trimtab_files\n");
        } else if (option->kind == CLI_KIND_FILE) {
            tt_text_add(out, "        _trimtab_files\n");
        } else if (option->kind == CLI_KIND_FOLDER) {
            tt_text_add(out, "        _trimtab_folders\n");
        } else if (option->kind == CLI_KIND_KEY) {
            tt_text_add(out, "        compopt -o nospace\n"
                             "        _trimtab_words \"${keys// /= }=\"\n");
        }
        tt_text_add(out, "        return\n        ;;\n");
    }
    tt_text_add(out, "    esac\n");
}

static void add_command_case(tt_text *out, const cli_command *command)
{
    tt_text_addf(out, "    \"%s\")\n        options=\"", command->name);
    add_options(out, command);
    tt_text_add(out, "\"\n");
    if (command->kind == CLI_KIND_FILE) {
        tt_text_add(out, "        [[ $current != -* ]] && _trimtab_files\n");
    } else if (command->kind == CLI_KIND_KEY) {
        tt_text_add(out, "        [[ $current != -* ]] && _trimtab_words \"$keys\"\n");
        if (command->most > 1) {
            tt_text_add(out, "        [[ $current != -* ]] && _trimtab_files\n");
        }
    } else if (command->kind == CLI_KIND_SCENARIO) {
        tt_text_add(out, "        [[ $current != -* ]] && _trimtab_words \"");
        for (size_t i = 0; tt_drill_list(i); i++) {
            tt_text_addf(out, "%s%s", i ? " " : "", tt_drill_list(i)->name);
        }
        tt_text_add(out, "\"\n");
    } else if (command->kind == CLI_KIND_WORD) {
        tt_text_add(out, "        [[ $current != -* ]] && _trimtab_words \"$commands\"\n");
    }
    tt_text_add(out, "        ;;\n");
}

static const char helpers[] =
    "_trimtab_words()\n{\n"
    "    local word\n"
    "    while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < "
    "<(compgen -W \"$1\" -- \"$current\")\n}\n\n"
    "_trimtab_files()\n{\n"
    "    local word\n"
    "    compopt -o filenames\n"
    "    while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -f -- \"$current\")\n"
    "}\n\n"
    "_trimtab_folders()\n{\n"
    "    local word\n"
    "    compopt -o filenames\n"
    "    while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -d -- \"$current\")\n"
    "}\n\n";

/* The second words of `config` and its like. */
static void add_group_case(tt_text *out, const char *group)
{
    tt_text_addf(out,
                 "    if [[ $command == %s ]]; then\n"
                 "        if ((COMP_CWORD == 2)); then\n"
                 "            _trimtab_words \"",
                 group);
    add_commands(out, group);
    tt_text_addf(out,
                 "\"\n            return\n        fi\n"
                 "        command=\"%s ${COMP_WORDS[2]}\"\n"
                 "    fi\n",
                 group);
}

void cli_write_completion(const tt_params *params, tt_text *out)
{
    tt_text_add(out, "# bash completion for trimtab\n"
                     "# Generated by `trimtab help --completion`; do not edit.\n\n");
    tt_text_add(out, helpers);
    tt_text_add(out, "_trimtab()\n{\n"
                     "    local current=${COMP_WORDS[COMP_CWORD]}\n"
                     "    local previous=${COMP_WORDS[COMP_CWORD-1]}\n"
                     "    local command=${COMP_WORDS[1]} options=\n");
    tt_text_add(out, "    local commands=\"");
    add_commands(out, NULL);
    tt_text_add(out, "\"\n    local keys=\"");
    add_keys(out, params);
    tt_text_add(out, "\"\n    COMPREPLY=()\n"
                     "    # Past an =, the value of --set is free text.\n"
                     "    [[ $current == = || $previous == = ]] && return\n"
                     "    if ((COMP_CWORD == 1)); then\n"
                     "        _trimtab_words \"$commands --help --version\"\n"
                     "        return\n"
                     "    fi\n");
    add_group_case(out, "bench");
    add_group_case(out, "config");
    add_group_case(out, "gate");
    add_value_cases(out);
    tt_text_add(out, "    case $command in\n");
    for (size_t i = 0; i < cli_command_count; i++) {
        add_command_case(out, &cli_commands[i]);
    }
    tt_text_add(out, "    *)\n        return\n        ;;\n    esac\n"
                     "    [[ $current == -* ]] && _trimtab_words \"$options\"\n"
                     "}\n\ncomplete -F _trimtab trimtab\n");
}
