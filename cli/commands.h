/* One function per command; the return value is the exit code. */
#ifndef TRIMTAB_CLI_COMMANDS_H
#define TRIMTAB_CLI_COMMANDS_H

#include "options.h"

int cmd_run(const cli_arguments *arguments);
int cmd_generate(const cli_arguments *arguments);
int cmd_inspect(const cli_arguments *arguments);
int cmd_verify(const cli_arguments *arguments);
int cmd_diff(const cli_arguments *arguments);
int cmd_drill(const cli_arguments *arguments);
int cmd_bisect(const cli_arguments *arguments);
int cmd_bench_kernels(const cli_arguments *arguments);
int cmd_config_explain(const cli_arguments *arguments);
int cmd_config_list(const cli_arguments *arguments);
int cmd_config_reference(const cli_arguments *arguments);
int cmd_gate_calibrate(const cli_arguments *arguments);
int cmd_gate_list(const cli_arguments *arguments);
int cmd_help(const cli_arguments *arguments);

#endif
