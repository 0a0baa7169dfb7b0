/* What was found, in plain sentences. */
#include "calibrate.h"

#include "../try.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Seen and not seen: at least so often, at most so often. */
static const double reliably = 0.9;
static const double hardly = 0.1;

static tt_text *next_finding(tt_calibrator *c)
{
    size_t index = c->result->public.finding_count;
    if (index == TT_CALIBRATE_FINDINGS) {
        return &c->result->texts[index - 1];
    }
    c->result->public.finding_count++;
    return &c->result->texts[index];
}

static double power(const tt_calibration_row *row)
{
    return row->trials ? (double)row->seen / (double)row->trials : 0;
}

/* "94 % [90, 97]" */
static void add_power(tt_text *out, const tt_calibration_row *row)
{
    tt_text_addf(out, "%.0f %% [%.0f, %.0f]", 100 * power(row), 100 * row->power.low,
                 100 * row->power.high);
}

static const char *foremost_gate(const tt_calibrator *c, const tt_calibration_row *row)
{
    const tt_calibration *result = &c->result->public;
    size_t most = 0;
    for (size_t g = 1; g < result->gate_count; g++) {
        most = row->seen_by[g] > row->seen_by[most] ? g : most;
    }
    return result->gates[most].name;
}

/* ---- faults of graded size ---- */

static const struct {
    const char *fault, *subject, *milder;
} families[] = {
    {"loss", "a loss spike of", "or less"},
    {"gradient up", "a gradient of", "or less"},
    {"gradient down", "a gradient of", "or more"},
    {"activations lose", "a codec of activations that loses another", "or less"},
    {"decoded activations", "noise on decoded activations of", "or less"},
    {"moments lose", "a codec of moments that loses another", "or less"},
    {"update error", "an update that is off by another", "or less"},
    {"loss rises for good", "a lasting rise of the loss by", "or less"},
    {"norm rises for good", "a lasting rise of the gradient norm alone, of", "or less"},
};

/* Rows go from mild to severe. */
static void compare_sizes(tt_calibrator *c, size_t family, const tt_calibration_row *rows,
                          size_t count)
{
    size_t seen = count; /* from here on reliably */
    size_t missed = 0;   /* up to here hardly */
    while (seen > 0 && power(&rows[seen - 1]) >= reliably) {
        seen--;
    }
    while (missed < count && power(&rows[missed]) <= hardly) {
        missed++;
    }
    tt_text *out = next_finding(c);
    const tt_calibration_row *row = &rows[seen < count ? seen : count - 1];
    if (seen == count) {
        tt_text_addf(out, "%s %s is seen in ", families[family].subject, row->size);
        add_power(out, row);
        tt_text_add(out, " only, and that is the largest that was tried");
        return;
    }
    tt_text_addf(out, "%s %s is seen in ", families[family].subject, row->size);
    add_power(out, row);
    tt_text_addf(out, ", by %s", foremost_gate(c, row));
    if (isfinite(row->steps_until)) {
        tt_text_addf(out, " after %.0f steps on average", row->steps_until);
    }
    if (missed > 0) {
        tt_text_addf(out, "; %s %s is not", rows[missed - 1].size, families[family].milder);
    } else if (seen > 0) {
        tt_text_addf(out, "; %s in ", rows[0].size);
        add_power(out, &rows[0]);
    }
}

static void add_graded(tt_calibrator *c)
{
    const tt_calibration *result = &c->result->public;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        size_t begin = 0;
        while (begin < result->row_count &&
               strcmp(result->rows[begin].fault, families[f].fault) != 0) {
            begin++;
        }
        size_t end = begin;
        while (end < result->row_count && result->rows[end].trials > 0 &&
               strcmp(result->rows[end].fault, families[f].fault) == 0) {
            end++;
        }
        if (end > begin) {
            compare_sizes(c, f, result->rows + begin, end - begin);
        }
    }
}

/* ---- NaN and infinity ---- */

static void add_nonfinite(tt_calibrator *c)
{
    const tt_calibration *result = &c->result->public;
    tt_calibration_row all = {.trials = 0};
    tt_text missed;
    tt_text_init(&missed);
    for (size_t i = 0; i < result->row_count; i++) {
        const tt_calibration_row *row = &result->rows[i];
        if (c->faults[i].how != TT_HOW_NONFINITE) {
            continue;
        }
        all.trials += row->trials;
        all.seen += row->seen;
        if (row->seen < row->trials) {
            tt_text_addf(&missed, "; %s in ", row->size);
            add_power(&missed, row);
            tt_text_addf(&missed, ", not in %s", row->missed);
        }
    }
    if (all.trials) {
        tt_text *out = next_finding(c);
        all.power = tt_clopper_pearson_interval(all.seen, all.trials, 0.95);
        tt_text_add(out, "a NaN or an infinity in a single element is seen in ");
        add_power(out, &all);
        tt_text_addf(out, " of %lld cases%s", (long long)all.trials,
                     missed.length ? missed.data : ", wherever it is");
    }
    tt_text_clear(&missed);
}

/* ---- no fault ---- */

static void add_false_trips(tt_calibrator *c)
{
    const tt_calibration *result = &c->result->public;
    int64_t evaluations = 0;
    int64_t trips = 0;
    tt_text by;
    tt_text_init(&by);
    for (size_t g = 0; g < result->gate_count; g++) {
        evaluations += result->gates[g].evaluations;
        trips += result->gates[g].trips;
        if (result->gates[g].trips) {
            tt_text_addf(&by, "%s %s %lld", by.length ? "," : ":", result->gates[g].name,
                         (long long)result->gates[g].trips);
        }
    }
    tt_interval rate = tt_clopper_pearson_interval(trips, evaluations, 0.95);
    tt_text *out = next_finding(c);
    if (trips == 0) {
        tt_text_add(out, "no gate tripped without a fault");
    } else {
        tt_text_addf(out, "gates tripped %lld times without a fault (%s)", (long long)trips,
                     by.data + 2);
    }
    tt_text_addf(
        out,
        ", in %lld evaluations on %lld clean steps (%lld live, %lld shadow): a rate of %.1e "
        "[%.1e, %.1e]",
        (long long)evaluations, (long long)(result->live_steps + result->shadow_steps),
        (long long)result->live_steps, (long long)result->shadow_steps,
        evaluations ? (double)trips / (double)evaluations : 0, rate.low, rate.high);
    tt_text_clear(&by);
    if (result->resampled_steps) {
        out = next_finding(c);
        tt_text_addf(
            out,
            "in %lld further steps, drawn from this run's own noise around its last level, "
            "a gate tripped %lld times",
            (long long)result->resampled_steps, (long long)result->resampled_trips);
    }
}

static void add_unmeasured(tt_calibrator *c)
{
    const tt_calibration *result = &c->result->public;
    tt_text names;
    tt_text_init(&names);
    for (size_t g = 0; g < result->gate_count; g++) {
        if (!result->gates[g].armed) {
            tt_text_addf(&names, "%s%s", names.length ? ", " : "", result->gates[g].name);
        }
    }
    if (names.length) {
        tt_text_addf(next_finding(c), "not armed in this run, so not measured: %s", names.data);
    }
    if (!result->complete) {
        tt_text_addf(next_finding(c),
                     "the time was up after %lld of %lld rounds: the intervals are wide",
                     (long long)result->rounds, (long long)c->rounds);
    }
    tt_text_clear(&names);
}

tt_status tt_calibrate_write_findings(tt_calibrator *c)
{
    tt_calibration *result = &c->result->public;
    add_graded(c);
    add_nonfinite(c);
    add_false_trips(c);
    add_unmeasured(c);
    for (size_t i = 0; i < result->finding_count; i++) {
        TRY(tt_text_check(&c->result->texts[i]));
        c->result->findings[i] = c->result->texts[i].data;
    }
    result->findings = c->result->findings;
    return TT_OK;
}
