/* How the worker threads wait. */
#ifndef TRIMTAB_CLI_CALM_H
#define TRIMTAB_CLI_CALM_H

/* Threads that spin for milliseconds while they wait, libgomp's default, starve everybody else on
 * a shared machine, and their own team first: a run beside other work becomes ten times slower.
 * libgomp reads its settings before main, so this starts the program again with a short spin.
 * A setting of the user's (OMP_WAIT_POLICY, GOMP_SPINCOUNT) is left alone. Call it first. */
void cli_calm_waiting_threads(char **argv);

#endif
