/* How OpenMP's threads wait, and where they run. */
#ifndef TRIMTAB_CLI_CALM_H
#define TRIMTAB_CLI_CALM_H

/* Threads that spin for milliseconds while they wait, libgomp's default, starve everybody else on
 * a shared machine, and their own team first: a run beside other work becomes ten times slower.
 * Threads that move between cores leave their caches behind. OpenMP reads its settings before main,
 * so this starts the program again with a short spin and a core for each thread. Settings of the
 * user's to the same end are left alone. Call it first. */
void cli_calm_threads(char **argv);

#endif
