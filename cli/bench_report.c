#include "bench_report.h"

#include "bench_price.h"
#include "output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- lines ---- */

static const char *time_text(double seconds, char out[32])
{
    snprintf(out, 32, seconds < 9.995e-3 ? "%.1f us" : "%.1f ms",
             seconds * (seconds < 9.995e-3 ? 1e6 : 1e3));
    return out;
}

static const char *unit_of(const bench_entry *entry)
{
    return entry->work.products ? "GFLOP/s" : "GB/s";
}

/* "blocked_v3, packed" */
static const char *name_of(const bench_entry *entry, char out[64])
{
    snprintf(out, 64, "%.40s%s", entry->info->name, entry->packed ? ", packed" : "");
    return out;
}

static const char *tile_of(const bench_entry *entry, char out[32])
{
    snprintf(out, 32, "-");
    if (entry->info->tiled) {
        snprintf(out, 32, "%dx%dx%d", entry->tile.m, entry->tile.n, entry->tile.k);
    }
    return out;
}

void bench_draw_result(const bench_result *result, const tt_peaks *peaks, tt_text *out)
{
    char shape[96], name[64], tile[32], time[32];
    if (result->count == 0) {
        return;
    }
    tt_text_addf(out, "%s %s, %s", tt_op_name(result->bench.op),
                 bench_shape_text(&result->bench, shape), tt_dtype_name(result->compute));
    if (result->bench.count > 0) {
        tt_text_addf(out, ", %d per step", result->bench.count);
    }
    tt_text_add(out, "\n");
    for (size_t i = 0; i < result->count; i++) {
        const bench_entry *entry = &result->entries[i];
        const bench_entry *rival = bench_rival_of(result, entry);
        const double rate = bench_rate(entry);
        tt_text_addf(out, "  %-20s %-11s %11s %9.1f %-7s %4.0f %%", name_of(entry, name),
                     tile_of(entry, tile), time_text(entry->median, time), rate * 1e-9,
                     unit_of(entry), 100 * rate / bench_bar(entry, result->compute, peaks));
        if (rival && bench_is_own(entry)) {
            tt_text_addf(out, "  %.2fx %s", rival->median / entry->median, rival->info->name);
        }
        tt_text_add(out, "\n");
    }
}

/* ---- the summary ---- */

static void draw_peaks(const bench_machine *machine, tt_text *out)
{
    const tt_peaks peaks = bench_peaks(machine);
    tt_text_addf(out, "\npeaks of %d thread%s: %.1f GFLOP/s f32",
                 tt_context_threads(machine->context),
                 tt_context_threads(machine->context) > 1 ? "s" : "", peaks.flops_f32 * 1e-9);
    if (peaks.flops_bf16 > 0) {
        tt_text_addf(out, ", %.0f GFLOP/s bf16", peaks.flops_bf16 * 1e-9);
    }
    tt_text_addf(out, ", read %.1f GB/s, copy %.1f GB/s\n", peaks.read_bytes * 1e-9,
                 peaks.copy_bytes * 1e-9);
}

/* Our best against the better rival, over the shapes of an operation. */
typedef struct standing {
    int shapes;
    double log_sum, least;
    const bench_result *worst;
} standing;

static standing stand(const bench_result *results, size_t count, tt_op op, tt_dtype compute)
{
    standing s = {.least = INFINITY};
    for (size_t i = 0; i < count; i++) {
        const bench_entry *own = bench_best_own(&results[i]);
        const bench_entry *rival = own ? bench_rival_of(&results[i], own) : NULL;
        if (results[i].bench.op != op || results[i].compute != compute || !rival ||
            !own->work.products) {
            continue;
        }
        const double ratio = rival->median / own->median;
        s.shapes++;
        s.log_sum += log(ratio);
        if (ratio < s.least) {
            s.least = ratio;
            s.worst = &results[i];
        }
    }
    return s;
}

static void draw_standings(const bench_result *results, size_t count, tt_text *out)
{
    static const tt_dtype types[] = {TT_F32, TT_BF16};
    for (int op = 0; op < TT_OP_COUNT; op++) {
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            char shape[96];
            const standing s = stand(results, count, (tt_op)op, types[t]);
            if (s.shapes) {
                tt_text_addf(out,
                             "%s %s against the better rival: geometric mean %.2fx of %d shapes, "
                             "least %.2fx (%s)\n",
                             tt_op_name((tt_op)op), tt_dtype_name(types[t]),
                             exp(s.log_sum / s.shapes), s.shapes, s.least,
                             bench_shape_text(&s.worst->bench, shape));
            }
        }
    }
}

static const bench_entry *fastest(const bench_result *result)
{
    const bench_entry *best = NULL;
    for (size_t i = 0; i < result->count; i++) {
        if (!best || result->entries[i].median < best->median) {
            best = &result->entries[i];
        }
    }
    return best;
}

/* Seconds of a step's operations, each by its fastest variant; an operation that knows no bf16
 * takes what it takes in f32. */
static double step_seconds(const bench_result *results, size_t count, tt_dtype compute)
{
    double seconds = 0;
    for (size_t i = 0; i + 1 < count; i += 2) { /* f32, then bf16 of the same case */
        const bench_result *result =
            compute == TT_BF16 && results[i + 1].count ? &results[i + 1] : &results[i];
        if (result->bench.count > 0 && result->count > 0) {
            seconds += result->bench.count * fastest(result)->median;
        }
    }
    return seconds;
}

void bench_draw_summary(const bench_machine *machine, const bench_result *results, size_t count,
                        tt_text *out)
{
    char f32[32], bf16[32];
    draw_peaks(machine, out);
    draw_standings(results, count, out);
    bench_draw_price(results, count, out);
    const double seconds = step_seconds(results, count, TT_F32);
    if (seconds > 0) {
        tt_text_addf(out, "a step's operations, each by its fastest: %s in f32, %s in bf16\n",
                     cli_duration(seconds, f32),
                     cli_duration(step_seconds(results, count, TT_BF16), bf16));
    }
}

/* ---- and as JSON ---- */

static json_t *entry_json(const bench_result *result, const bench_entry *entry,
                          const tt_peaks *peaks)
{
    char tile[32];
    const bench_entry *rival = bench_rival_of(result, entry);
    const double rate = bench_rate(entry);
    json_t *one =
        json_pack("{s:s, s:b, s:s, s:I, s:i, s:f, s:f, s:f, s:f, s:s, s:f, s:f, s:f}", "variant",
                  entry->info->name, "packed", entry->packed, "tile", tile_of(entry, tile), "scale",
                  (json_int_t)entry->scale, "rounds", entry->timed, "seconds", entry->median, "low",
                  entry->low, "high", entry->high, "rate", rate * 1e-9, "unit", unit_of(entry),
                  "of_peak", rate / bench_bar(entry, result->compute, peaks), "flops",
                  entry->work.flops, "bytes", entry->work.read + entry->work.written);
    if (rival && bench_is_own(entry)) {
        json_object_set_new(one, "rival", json_string(rival->info->name));
        json_object_set_new(one, "over_rival", cli_json_number(rival->median / entry->median));
    }
    return one;
}

static json_t *result_json(const bench_result *result, const tt_peaks *peaks)
{
    char shape[96];
    json_t *entries = json_array();
    for (size_t i = 0; i < result->count; i++) {
        json_array_append_new(entries, entry_json(result, &result->entries[i], peaks));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}", "op", tt_op_name(result->bench.op), "sizes",
                     bench_size_names(result->bench.op), "shape",
                     bench_shape_text(&result->bench, shape), "compute",
                     tt_dtype_name(result->compute), "per_step", result->bench.count, "variants",
                     entries);
}

json_t *bench_json(const bench_machine *machine, const bench_result *results, size_t count)
{
    const tt_peaks peaks = bench_peaks(machine);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        if (results[i].count) {
            json_array_append_new(list, result_json(&results[i], &peaks));
        }
    }
    return json_pack("{s:i, s:{s:f, s:f, s:f, s:f}, s:f, s:f, s:o, s:o}", "threads",
                     tt_context_threads(machine->context), "peaks", "f32_gflops",
                     peaks.flops_f32 * 1e-9, "bf16_gflops", peaks.flops_bf16 * 1e-9, "read_gbs",
                     peaks.read_bytes * 1e-9, "copy_gbs", peaks.copy_bytes * 1e-9,
                     "step_seconds_f32", step_seconds(results, count, TT_F32), "step_seconds_bf16",
                     step_seconds(results, count, TT_BF16), "exact_price",
                     bench_price_json(results, count), "results", list);
}
