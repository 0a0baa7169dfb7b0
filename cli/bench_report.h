/* What was measured, for people, programs and as a picture. */
#ifndef TRIMTAB_CLI_BENCH_REPORT_H
#define TRIMTAB_CLI_BENCH_REPORT_H

#include "bench_measure.h"

#include <jansson.h>

/* A heading, and a line for each variant. */
void bench_draw_result(const bench_result *result, const tt_peaks *peaks, tt_text *out);
/* The peaks; our products beside the rivals'; what a step takes. */
void bench_draw_summary(const bench_machine *machine, const bench_result *results, size_t count,
                        tt_text *out);
json_t *bench_json(const bench_machine *machine, const bench_result *results, size_t count);

/* TT_EUSAGE: no file that a plot can go to; TT_EUNSUPPORTED: there is no gnuplot. */
tt_status bench_plot_check(const char *path);
/* A roofline (Williams et al. 2009) for each compute type, by gnuplot; .svg or .png. */
tt_status bench_plot(const char *path, const tt_peaks *peaks, int threads,
                     const bench_result *results, size_t count);

#endif
