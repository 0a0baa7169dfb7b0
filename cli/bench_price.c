#include "bench_price.h"

#include "output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const tt_dtype types[] = {TT_F32, TT_BF16};
enum { TYPES = sizeof types / sizeof *types };

/* Of an operation in a compute type, over its shapes. */
typedef struct price {
    int shapes;     /* that have variants of both classes */
    int exact_only; /* that have exact ones alone */
    double log_sum, least, most;
    char others[64]; /* whom it was compared with, each once */
} price;

/* The fastest whose weights are not packed ahead, exact or of any other class. */
static const bench_entry *fastest(const bench_result *result, bool exact)
{
    const bench_entry *best = NULL;
    for (size_t i = 0; i < result->count; i++) {
        const bench_entry *entry = &result->entries[i];
        if (!entry->packed && (entry->info->numerics == TT_NUMERICS_EXACT) == exact &&
            (!best || entry->median < best->median)) {
            best = entry;
        }
    }
    return best;
}

static void note_other(price *p, const char *name)
{
    const size_t used = strlen(p->others);
    if (!strstr(p->others, name)) {
        snprintf(p->others + used, sizeof p->others - used, "%s%s", used ? ", " : "", name);
    }
}

static price price_of(const bench_result *results, size_t count, tt_op op, tt_dtype compute)
{
    price p = {.least = INFINITY};
    for (size_t i = 0; i < count; i++) {
        const bench_entry *exact = fastest(&results[i], true);
        const bench_entry *other = fastest(&results[i], false);
        if (results[i].bench.op != op || results[i].compute != compute || !exact) {
            continue;
        }
        if (!other) {
            p.exact_only++;
            continue;
        }
        const double ratio = exact->median / other->median;
        p.shapes++;
        p.log_sum += log(ratio);
        p.least = fmin(p.least, ratio);
        p.most = fmax(p.most, ratio);
        note_other(&p, other->info->name);
    }
    return p;
}

/* The geometric mean over all operations and compute types; NaN where none has both classes. */
static double mean_price(const bench_result *results, size_t count)
{
    double log_sum = 0;
    int rows = 0;
    for (int op = 0; op < TT_OP_COUNT; op++) {
        for (size_t t = 0; t < TYPES; t++) {
            const price p = price_of(results, count, (tt_op)op, types[t]);
            log_sum += p.shapes ? p.log_sum / p.shapes : 0;
            rows += p.shapes > 0;
        }
    }
    return rows ? exp(log_sum / rows) : NAN;
}

/* "add, gelu_forward"; nothing where every operation has other variants. */
static void list_exact_only(const bench_result *results, size_t count, tt_text *out)
{
    for (int op = 0; op < TT_OP_COUNT; op++) {
        for (size_t t = 0; t < TYPES; t++) {
            const price p = price_of(results, count, (tt_op)op, types[t]);
            if (p.exact_only && !p.shapes) {
                tt_text_addf(out, "%s%s %s", out->length ? ", " : "", tt_op_name((tt_op)op),
                             tt_dtype_name(types[t]));
            }
        }
    }
}

void bench_draw_price(const bench_result *results, size_t count, tt_text *out)
{
    const double mean = mean_price(results, count);
    tt_text free_ones;
    tt_text_init(&free_ones);
    list_exact_only(results, count, &free_ones);
    for (int op = 0; op < TT_OP_COUNT; op++) {
        for (size_t t = 0; t < TYPES; t++) {
            const price p = price_of(results, count, (tt_op)op, types[t]);
            if (p.shapes) {
                tt_text_addf(out, "%s %s, price of exact: %.2f (%.2f to %.2f) times %s\n",
                             tt_op_name((tt_op)op), tt_dtype_name(types[t]),
                             exp(p.log_sum / p.shapes), p.least, p.most, p.others);
            }
        }
    }
    if (isfinite(mean)) {
        tt_text_addf(
            out, "price of exact: geometric mean %.2f times the fastest of other classes\n", mean);
    }
    if (free_ones.length) {
        tt_text_addf(out, "price of exact: nothing, as all variants are exact: %s\n",
                     free_ones.data);
    }
    tt_text_clear(&free_ones);
}

json_t *bench_price_json(const bench_result *results, size_t count)
{
    json_t *list = json_array();
    json_t *exact_only = json_array();
    for (int op = 0; op < TT_OP_COUNT; op++) {
        for (size_t t = 0; t < TYPES; t++) {
            const price p = price_of(results, count, (tt_op)op, types[t]);
            const char *name = tt_op_name((tt_op)op);
            const char *type = tt_dtype_name(types[t]);
            if (p.shapes) {
                json_array_append_new(
                    list, json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:s}", "op", name, "compute",
                                    type, "shapes", p.shapes, "ratio", exp(p.log_sum / p.shapes),
                                    "low", p.least, "high", p.most, "against", p.others));
            } else if (p.exact_only) {
                json_array_append_new(exact_only,
                                      json_pack("{s:s, s:s}", "op", name, "compute", type));
            }
        }
    }
    return json_pack("{s:o, s:o, s:o}", "geometric_mean",
                     cli_json_number(mean_price(results, count)), "ops", list, "exact_only",
                     exact_only);
}
