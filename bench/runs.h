/* bench/runs.h: whole training runs for measuring, each in a process of its own; statistics. */
#ifndef TRIMTAB_BENCH_RUNS_H
#define TRIMTAB_BENCH_RUNS_H

#include <stdio.h>

#include "trimtab/training.h"

enum { BENCH_SETTINGS = 32, BENCH_VALUES = 4096 };

/* ---- settings ---- */

/* key=value of a configuration, as on the command line. */
typedef struct bench_settings {
    const char *list[BENCH_SETTINGS]; /* into `text` */
    int count;
    char text[2048];
    size_t used;
} bench_settings;

/* Adds what one option says: key=value[,key=value...]. A name alone is a choice of kernels:
 * kernels.variant=NAME. False: too many, or nothing between two commas. */
bool bench_settings_add(bench_settings *settings, const char *option);
/* "a=b,c=d"; "as it stands" if there are none. */
void bench_settings_print(const bench_settings *settings, FILE *file);

/* ---- runs ---- */

/* Makes a scratch folder below TMPDIR with 2 MiB of text, the same on every machine. */
bool bench_folder_make(char *root, size_t bytes);
bool bench_folder_remove(const char *root);

typedef struct bench_job {
    const char *config;             /* a file */
    const char *root;               /* of bench_folder_make */
    const bench_settings *sides[2]; /* applied in this order; NULL: none */
    int steps, threads;
    const tt_training_observer *observer;
    tt_training **training; /* set before the first step; may be NULL */
} bench_job;

/* Trains in this process, without checkpoints, validation and sample. */
tt_status bench_train(const bench_job *job);

/* Calls run(user, result) in a child, and copies the `bytes` of its result. *peak_mib (may be NULL)
 * is the child's largest resident set. */
typedef tt_status (*bench_run_fn)(void *user, void *result);
bool bench_in_child(bench_run_fn run, void *user, void *result, size_t bytes, double *peak_mib);

/* ---- statistics ---- */

typedef struct bench_figure {
    double median, low, high;
} bench_figure;

/* At most BENCH_VALUES. */
bench_figure bench_summarise(const double *values, int count);
/* The value below which `share` of them lie; the values are sorted by this. */
double bench_quantile(double *values, int count, double share);
/* "name":{"median":...,"low":...,"high":...} */
void bench_print_figure(const char *name, bench_figure figure);

#endif
