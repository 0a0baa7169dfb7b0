/* What the tuner found, for people and for programs. */
#ifndef TRIMTAB_CLI_TUNE_REPORT_H
#define TRIMTAB_CLI_TUNE_REPORT_H

#include "trimtab/kernels.h"

#include <jansson.h>

typedef struct tune_report {
    const tt_tuning *tuning;
    const tt_tuning *types;      /* f32's and bf16's, where the compute type was chosen; or NULL */
    const tt_tuning *comparison; /* of them */
    tt_peaks peaks;              /* measured in this run */
    int threads;
    tt_dtype compute;
    tt_numerics numerics; /* the weakest class that may be chosen */
} tune_report;

/* A table of every shape; with `explain` what became of every candidate. */
void tune_draw(const tune_report *report, bool explain, tt_text *out);
json_t *tune_json(const tune_report *report);

/* What has changed since `before` was measured, a line each; returns how many. Timings count where
 * they are more than a tenth apart. */
size_t tune_differences(const tt_tuning *before, const tt_tuning *now, tt_text *out);

#endif
