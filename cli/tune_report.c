#include "tune_report.h"

#include "output.h"

#include "trimtab/training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double noticeable = 0.1; /* two timings of the same, apart by this share */

/* ---- one candidate on one shape ---- */

static const tt_tune_cell *cell_of(const tt_tuning *tuning, size_t shape, size_t candidate)
{
    return &tuning->cells[shape * tuning->candidate_count + candidate];
}

static double rate_of(const tt_tuning *tuning, size_t shape, size_t candidate)
{
    const tt_gemm_shape *s = &tuning->shapes[shape];
    double flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
    const tt_tune_cell *cell = cell_of(tuning, shape, candidate);
    return cell->state == TT_TUNE_TIMED ? flops / cell->seconds : NAN;
}

static double peak_of(const tune_report *report)
{
    double bf16 = report->peaks.flops_bf16;
    return report->compute == TT_BF16 && bf16 > 0 ? bf16 : report->peaks.flops_f32;
}

static const char *candidate_name(const tt_tune_candidate *candidate, char out[64])
{
    tt_tile tile = candidate->tile;
    if (tile.m) {
        snprintf(out, 64, "%.32s %dx%dx%d", candidate->variant, tile.m, tile.n, tile.k);
    } else {
        snprintf(out, 64, "%.48s", candidate->variant);
    }
    return out;
}

static const char *shape_name(const tt_gemm_shape *shape, char out[64])
{
    snprintf(out, 64, "%s %lldx%lldx%lld", tt_op_name(shape->op), (long long)shape->m,
             (long long)shape->n, (long long)shape->k);
    return out;
}

static tt_numerics class_of(const tune_report *report, tt_op op, size_t candidate)
{
    const char *name = report->tuning->candidates[candidate].variant;
    for (size_t i = 0; i < tt_variant_count(); i++) {
        const tt_variant_info *info = tt_variant_at(i);
        if (info->op == op && info->dtype == report->compute && strcmp(info->name, name) == 0) {
            return info->numerics;
        }
    }
    return TT_NUMERICS_FAST;
}

/* Why it is not the one. */
static const char *reason(const tune_report *report, size_t shape, size_t candidate, char out[96])
{
    const tt_tuning *tuning = report->tuning;
    const tt_tune_cell *cell = cell_of(tuning, shape, candidate);
    tt_op op = tuning->shapes[shape].op;
    double best = tt_tuning_seconds(tuning, op, tuning->chosen[op]);
    double seconds = tt_tuning_seconds(tuning, op, candidate);
    char error[32];
    out[0] = '\0';
    if (candidate == tuning->chosen[op]) {
        snprintf(out, 96, "chosen");
    } else if (cell->state == TT_TUNE_WRONG) {
        snprintf(out, 96, "wrong: %s times its error bound", cli_number(cell->error, error));
    } else if (cell->state == TT_TUNE_UNKNOWN || cell->state == TT_TUNE_PROVEN) {
        snprintf(out, 96, "the time was up");
    } else if (cell->state == TT_TUNE_HOPELESS) {
        snprintf(out, 96, "not tried: far behind on the heaviest shape");
    } else if (class_of(report, op, candidate) > report->numerics) {
        snprintf(out, 96, "ruled out by kernels.numerics: %s", tt_numerics_name(report->numerics));
    } else if (!isfinite(seconds)) {
        snprintf(out, 96, "far behind, or left out by its tile");
    } else if (seconds > best) {
        snprintf(out, 96, "takes %.2f of the chosen one's time", seconds / best);
    } else {
        snprintf(out, 96, "%.2f of its time here, but not with every product", seconds / best);
    }
    return out;
}

/* ---- tables ---- */

static void add_rate(const tune_report *report, double rate, tt_text *out)
{
    if (isfinite(rate)) {
        tt_text_addf(out, "%10.1f%8.0f %%", rate * 1e-9, 100 * rate / peak_of(report));
    } else {
        tt_text_addf(out, "%10s%10s", "-", "-");
    }
}

static void draw_shapes(const tune_report *report, tt_text *out)
{
    const tt_tuning *tuning = report->tuning;
    char name[64];
    char candidate[64];
    tt_text_addf(out, "%-32s%6s  %-26s%10s%10s%10s\n", "product (m x n x k)", "times", "chosen",
                 "GFLOP/s", "of peak", "default");
    for (size_t s = 0; s < tuning->shape_count; s++) {
        tt_op op = tuning->shapes[s].op;
        double rate = rate_of(tuning, s, tuning->chosen[op]);
        double before = rate_of(tuning, s, tuning->incumbent[op]);
        tt_text_addf(out, "%-32s%6d  %-26s", shape_name(&tuning->shapes[s], name),
                     tuning->shapes[s].count,
                     candidate_name(&tuning->candidates[tuning->chosen[op]], candidate));
        add_rate(report, rate, out);
        if (isfinite(rate) && isfinite(before)) {
            tt_text_addf(out, "%9.2fx\n", rate / before);
        } else {
            tt_text_addf(out, "%10s\n", "-");
        }
    }
}

static void draw_candidates(const tune_report *report, size_t shape, tt_text *out)
{
    const tt_tuning *tuning = report->tuning;
    char name[64];
    char why[96];
    tt_text_addf(out, "\n%s, %d times a step\n", shape_name(&tuning->shapes[shape], name),
                 tuning->shapes[shape].count);
    for (size_t c = 0; c < tuning->candidate_count; c++) {
        if (cell_of(tuning, shape, c)->state != TT_TUNE_ABSENT) {
            tt_text_addf(out, "  %-26s", candidate_name(&tuning->candidates[c], name));
            add_rate(report, rate_of(tuning, shape, c), out);
            tt_text_addf(out, "  %-11s %s\n",
                         tt_numerics_name(class_of(report, tuning->shapes[shape].op, c)),
                         reason(report, shape, c, why));
        }
    }
}

/* What a step's products take now and took before. */
static void totals(const tt_tuning *tuning, double *now, double *before)
{
    *now = *before = 0;
    for (int op = 0; op < 3; op++) {
        *now += tt_tuning_seconds(tuning, (tt_op)op, tuning->chosen[op]);
        *before += tt_tuning_seconds(tuning, (tt_op)op, tuning->incumbent[op]);
    }
}

static void draw_summary(const tune_report *report, tt_text *out)
{
    const tt_tuning *tuning = report->tuning;
    double now;
    double before;
    char peak[32];
    totals(tuning, &now, &before);
    tt_text_addf(out, "\ntile %d x %d x %d", tuning->tile.m, tuning->tile.n, tuning->tile.k);
    if (isfinite(now) && isfinite(before) && before > 0) {
        tt_text_addf(out, ": these products take %.2f of their time with the default",
                     now / before);
    }
    tt_text_addf(out, "\nwhat is chosen is %s; kernels.numerics accepts %s\n",
                 tt_numerics_name(tt_tuning_numerics(tuning, report->compute)),
                 tt_numerics_name(report->numerics));
    tt_text_addf(out, "%s, %d thread%s, peak %sFLOP/s; ", tt_dtype_name(report->compute),
                 report->threads, report->threads == 1 ? "" : "s",
                 cli_scaled(peak_of(report), peak));
    if (tuning->cached) {
        tt_text_addf(out, "measured before, read in %.1f ms\n", tuning->seconds * 1e3);
    } else {
        tt_text_addf(out, "measured in %.1f s%s\n", tuning->seconds,
                     tuning->complete ? "" : "; the time was up before all was measured");
    }
}

/* ---- f32 against bf16 ---- */

/* Every product in both, each with its tile and variant. */
static void draw_sides(const tune_report *report, tt_text *out)
{
    const tt_tuning *comparison = report->comparison;
    char name[64];
    tt_text_addf(out, "\n%-32s%6s%12s%12s%12s\n", "f32 against bf16", "times", "f32 ms", "bf16 ms",
                 "bf16 / f32");
    for (size_t s = 0; s < comparison->shape_count; s++) {
        const tt_tune_cell *f32 = cell_of(comparison, s, 0);
        const tt_tune_cell *bf16 = cell_of(comparison, s, 1);
        tt_text_addf(out, "%-32s%6d", shape_name(&comparison->shapes[s], name),
                     comparison->shapes[s].count);
        if (f32->state == TT_TUNE_TIMED && bf16->state == TT_TUNE_TIMED) {
            tt_text_addf(out, "%12.3f%12.3f%12.2f\n", 1e3 * f32->seconds, 1e3 * bf16->seconds,
                         bf16->seconds / f32->seconds);
        } else if (bf16->state == TT_TUNE_WRONG) {
            tt_text_addf(out, "  bf16 is wrong: %s times its error bound\n",
                         cli_number(bf16->error, name));
        } else {
            tt_text_addf(out, "  not timed\n");
        }
    }
}

static void draw_compute(const tune_report *report, tt_text *out)
{
    const tt_tuning *comparison = report->comparison;
    const double seconds[2] = {tt_compute_seconds(comparison, 0),
                               tt_compute_seconds(comparison, 1)};
    const char *isa = tt_isa_name(tt_compute_isa(report->types));
    const char *class = tt_numerics_name(tt_tuning_numerics(&report->types[1], TT_BF16));
    tt_text_addf(out, "\ncompute %s: ", comparison->candidates[comparison->chosen[0]].variant);
    if (isfinite(seconds[0]) && isfinite(seconds[1])) {
        tt_text_addf(out,
                     "a step's products take %.3f ms in f32, %.3f ms in bf16 (%s, %s): %.2f%s\n",
                     1e3 * seconds[0], 1e3 * seconds[1], isa, class, seconds[1] / seconds[0],
                     comparison->cached ? " (measured before)" : "");
    } else {
        tt_text_addf(out, "bf16 (%s, %s) %s\n", isa, class,
                     comparison->complete ? "or f32 is wrong; see --explain"
                                          : "was not timed: the time was up before");
    }
}

void tune_draw(const tune_report *report, bool explain, tt_text *out)
{
    draw_shapes(report, out);
    for (size_t s = 0; explain && s < report->tuning->shape_count; s++) {
        draw_candidates(report, s, out);
    }
    if (report->types) {
        if (explain) {
            draw_sides(report, out);
        }
        draw_compute(report, out);
    }
    draw_summary(report, out);
}

/* ---- JSON ---- */

static json_t *cell_json(const tune_report *report, size_t shape, size_t candidate)
{
    static const char *const states[] = {"absent", "unknown", "hopeless",
                                         "wrong",  "proven",  "timed"};
    const tt_tuning *tuning = report->tuning;
    const tt_tune_cell *cell = cell_of(tuning, shape, candidate);
    const tt_tune_candidate *c = &tuning->candidates[candidate];
    double rate = rate_of(tuning, shape, candidate);
    bool timed = cell->state == TT_TUNE_TIMED;
    char why[96];
    return json_pack(
        "{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:s}", "variant", c->variant, "numerics",
        tt_numerics_name(class_of(report, tuning->shapes[shape].op, candidate)), "tile",
        c->tile.m ? json_pack("[i, i, i]", c->tile.m, c->tile.n, c->tile.k) : json_null(), "state",
        states[cell->state], "error_share",
        cell->state >= TT_TUNE_WRONG ? cli_json_number(cell->error) : json_null(), "seconds",
        timed ? json_real(cell->seconds) : json_null(), "flops", cli_json_number(rate), "of_peak",
        cli_json_number(rate / peak_of(report)), "reason", reason(report, shape, candidate, why));
}

static json_t *shape_json(const tune_report *report, size_t shape)
{
    const tt_tuning *tuning = report->tuning;
    const tt_gemm_shape *s = &tuning->shapes[shape];
    json_t *list = json_array();
    for (size_t c = 0; c < tuning->candidate_count; c++) {
        if (cell_of(tuning, shape, c)->state != TT_TUNE_ABSENT) {
            json_array_append_new(list, cell_json(report, shape, c));
        }
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:i, s:o, s:o, s:o}", "op", tt_op_name(s->op), "m",
                     (json_int_t)s->m, "n", (json_int_t)s->n, "k", (json_int_t)s->k, "count",
                     s->count, "chosen", cell_json(report, shape, tuning->chosen[s->op]), "default",
                     cell_json(report, shape, tuning->incumbent[s->op]), "candidates", list);
}

/* As in the journal of a run; null where the compute type was given. */
static json_t *compute_json(const tune_report *report)
{
    tt_text text;
    json_t *out = NULL;
    tt_text_init(&text);
    if (report->types && !tt_compute_evidence(report->types, report->comparison, &text)) {
        out = json_loads(text.data, 0, NULL);
    }
    tt_text_clear(&text);
    return out ? out : json_null();
}

json_t *tune_json(const tune_report *report)
{
    const tt_tuning *tuning = report->tuning;
    double now;
    double before;
    json_t *shapes = json_array();
    json_t *variants = json_object();
    totals(tuning, &now, &before);
    for (size_t s = 0; s < tuning->shape_count; s++) {
        json_array_append_new(shapes, shape_json(report, s));
    }
    for (int op = 0; op < 3; op++) {
        json_object_set_new(variants, tt_op_name((tt_op)op),
                            json_string(tuning->candidates[tuning->chosen[op]].variant));
    }
    return json_pack(
        "{s:[i, i, i], s:o, s:{s:s, s:s}, s:o, s:s, s:o, s:i, s:o, s:b, s:b, s:f, s:o}", "tile",
        tuning->tile.m, tuning->tile.n, tuning->tile.k, "variants", variants, "numerics",
        "accepted", tt_numerics_name(report->numerics), "chosen",
        tt_numerics_name(tt_tuning_numerics(tuning, report->compute)), "of_default",
        cli_json_number(now / before), "compute", tt_dtype_name(report->compute),
        "f32_against_bf16", compute_json(report), "threads", report->threads, "peak_flops",
        cli_json_number(peak_of(report)), "from_cache", tuning->cached, "complete",
        tuning->complete, "seconds", tuning->seconds, "shapes", shapes);
}

/* ---- differences ---- */

static size_t compare_cells(const tt_tuning *before, const tt_tuning *now, size_t shape,
                            tt_text *out)
{
    size_t count = 0;
    char name[64];
    char candidate[64];
    for (size_t c = 0; c < before->candidate_count; c++) {
        const tt_tune_cell *a = cell_of(before, shape, c);
        const tt_tune_cell *b = cell_of(now, shape, c);
        bool wrong = (a->state == TT_TUNE_WRONG) != (b->state == TT_TUNE_WRONG);
        bool timed = a->state == TT_TUNE_TIMED && b->state == TT_TUNE_TIMED;
        bool chosen = c == before->chosen[before->shapes[shape].op];
        bool apart = timed && chosen && fabs(b->seconds / a->seconds - 1) > noticeable;
        if (!wrong && !apart) {
            continue;
        }
        count++;
        tt_text_addf(out, "%s, %s: ", shape_name(&before->shapes[shape], name),
                     candidate_name(&before->candidates[c], candidate));
        if (wrong) {
            tt_text_addf(out, "was %s, is %s\n", a->state == TT_TUNE_WRONG ? "wrong" : "right",
                         b->state == TT_TUNE_WRONG ? "wrong" : "right");
        } else {
            tt_text_addf(out, "took %.3g ms, takes %.3g ms\n", a->seconds * 1e3, b->seconds * 1e3);
        }
    }
    return count;
}

size_t tune_differences(const tt_tuning *before, const tt_tuning *now, tt_text *out)
{
    size_t count = 0;
    char was[64];
    char is[64];
    for (int op = 0; op < 3; op++) {
        const tt_tune_candidate *a = &before->candidates[before->chosen[op]];
        const tt_tune_candidate *b = &now->candidates[now->chosen[op]];
        if (before->chosen[op] != now->chosen[op]) {
            count++;
            tt_text_addf(out, "%s: %s was chosen, now %s\n", tt_op_name((tt_op)op),
                         candidate_name(a, was), candidate_name(b, is));
        }
    }
    for (size_t s = 0; s < before->shape_count; s++) {
        count += compare_cells(before, now, s, out);
    }
    return count;
}
