#include "bench_measure.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOW_ROUNDS = 3 };

static const double peak_seconds = 0.7;

/* Seconds above which an entry runs on a part of its shape, and what that part may take. */
static const double too_long = 1.0, long_enough = 0.25;

static double now(void)
{
    tt_clock clock = tt_clock_monotonic();
    return (double)tt_clock_now(&clock) * 1e-9;
}

/* ---- memory ---- */

static size_t case_bytes(const bench_case *c)
{
    bench_place place = {.act = TT_F32};
    bench_args args;
    bench_work work;
    bench_case_lay_out(c, &place, &args, &work);
    return place.used;
}

/* Packing rounds both sides up, and may interleave: twice the weights is room for all. */
static size_t packing_bytes(const bench_case *c)
{
    bool packs = c->op == TT_OP_LINEAR_FORWARD || c->op == TT_OP_LINEAR_DGRAD;
    return packs ? (size_t)(c->size[1] * c->size[2]) * 2 * sizeof(float) + (1 << 20) : 0;
}

static tt_status create(int threads, size_t bytes, tt_context **out)
{
    tt_context_options options;
    tt_context_options_init(&options);
    options.threads = threads;
    options.tensor_bytes = bytes;
    return tt_context_create(&options, out);
}

/* Reading twice the last cache leaves nothing else in it. */
static size_t sweep_bytes(void)
{
    const size_t least = (size_t)64 << 20, most = (size_t)1 << 30;
    size_t bytes = least;
#ifdef _SC_LEVEL3_CACHE_SIZE
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (cache > 0) {
        bytes = 2 * (size_t)cache;
    }
#endif
    return bytes < least ? least : bytes > most ? most : bytes;
}

static tt_status create_sweeper(bench_machine *machine, int threads)
{
    const size_t bytes = sweep_bytes();
    const float one = 1;
    tt_status status = create(threads, bytes, &machine->sweeper);
    if (!status) {
        status = tt_tensor_alloc(machine->sweeper, bytes, &machine->swept);
    }
    machine->swept_count = (int64_t)(bytes / sizeof one);
    /* A page that was never written may be everybody's page of zeros. */
    for (size_t at = 0; !status && at < bytes; at += 4096) {
        status = tt_tensor_write(machine->sweeper, (char *)machine->swept + at, &one, sizeof one);
    }
    return status;
}

tt_status bench_machine_init(bench_machine *machine, const bench_cases *cases, int threads,
                             int rounds)
{
    void *memory = NULL, *packed = NULL;
    *machine = (bench_machine){.rounds = rounds, .bytes = 4096, .packed_bytes = 4096};
    for (size_t i = 0; i < cases->count; i++) {
        const size_t bytes = case_bytes(&cases->list[i]);
        const size_t packing = packing_bytes(&cases->list[i]);
        machine->bytes = bytes > machine->bytes ? bytes : machine->bytes;
        machine->packed_bytes = packing > machine->packed_bytes ? packing : machine->packed_bytes;
    }
    tt_status status =
        create(threads, machine->bytes + machine->packed_bytes + 4096, &machine->context);
    if (!status) {
        status = tt_tensor_alloc(machine->context, machine->bytes, &memory);
    }
    if (!status) {
        status = tt_tensor_alloc(machine->context, machine->packed_bytes, &packed);
    }
    machine->memory = memory;
    machine->packed = packed;
    return status ? status : create_sweeper(machine, threads);
}

void bench_machine_clear(bench_machine *machine)
{
    tt_context_destroy(machine->context);
    tt_context_destroy(machine->sweeper);
    *machine = (bench_machine){0};
}

static tt_status sweep(const bench_machine *machine)
{
    tt_tensor_stats found;
    const tt_stats_args args = {machine->swept_count, machine->swept, &found, false};
    return tt_op_run(machine->sweeper, TT_OP_STATS, &args);
}

/* ---- medians ---- */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

tt_status bench_machine_peaks(bench_machine *machine)
{
    if (machine->peak_count == BENCH_PEAKS) {
        return TT_OK;
    }
    tt_peaks *peaks = &machine->peaks[machine->peak_count];
    *peaks = (tt_peaks){.size = sizeof *peaks};
    tt_status status = tt_measure_peaks(machine->context, peak_seconds, peaks);
    machine->peak_count += !status;
    return status;
}

static double peak_of(const bench_machine *machine, size_t field)
{
    double values[BENCH_PEAKS];
    for (size_t i = 0; i < machine->peak_count; i++) {
        memcpy(&values[i], (const char *)&machine->peaks[i] + field, sizeof *values);
    }
    return median(values, machine->peak_count);
}

tt_peaks bench_peaks(const bench_machine *machine)
{
    return (tt_peaks){.size = sizeof(tt_peaks),
                      .flops_f32 = peak_of(machine, offsetof(tt_peaks, flops_f32)),
                      .flops_bf16 = peak_of(machine, offsetof(tt_peaks, flops_bf16)),
                      .read_bytes = peak_of(machine, offsetof(tt_peaks, read_bytes)),
                      .copy_bytes = peak_of(machine, offsetof(tt_peaks, copy_bytes))};
}

/* ---- one entry ---- */

static void set_packed(bench_args *args, tt_op op, const void *packed)
{
    if (op == TT_OP_LINEAR_FORWARD) {
        args->linear_forward.packed = packed;
    } else {
        args->linear_dgrad.packed = packed;
    }
}

static tt_status choose(const bench_machine *machine, const bench_entry *entry, tt_dtype compute)
{
    tt_status status = tt_context_set_compute(machine->context, compute);
    if (!status) {
        status = tt_context_set_variant(machine->context, entry->info->op, entry->info->name);
    }
    if (!status && entry->info->tiled) {
        status = tt_context_set_tile(machine->context, entry->tile);
    }
    return status;
}

/* The work of the case; the arguments of 1/scale of its first size. Packed weights are the only
 * ones read. */
static void build(const bench_machine *machine, const bench_case *c, bench_entry *entry,
                  bench_args *args)
{
    bench_work ignored;
    bench_case part = *c;
    part.size[0] = c->size[0] / entry->scale > 0 ? c->size[0] / entry->scale : 1;
    bench_case_build(c, &machine->place, args, &entry->work);
    bench_case_build(&part, &machine->place, args, &ignored);
    if (entry->packed) {
        const double weights = (double)(c->size[1] * c->size[2]);
        set_packed(args, c->op, machine->packed);
        entry->work.read +=
            (double)tt_linear_packed_bytes(machine->context, c->op, c->size[1], c->size[2]) -
            sizeof(float) * weights;
    }
}

static tt_status pack(const bench_machine *machine, const bench_case *c, const bench_args *args)
{
    return tt_linear_pack(machine->context, c->op, c->size[1], c->size[2],
                          c->op == TT_OP_LINEAR_FORWARD ? args->linear_forward.w
                                                        : args->linear_dgrad.w,
                          false, machine->packed);
}

/* One run. What is bound by memory finds its operands there; products find them where the run
 * before left them. */
static tt_status run(const bench_machine *machine, const bench_case *c, tt_dtype compute,
                     bench_entry *entry, double *seconds)
{
    bench_args args;
    tt_status status = choose(machine, entry, compute);
    if (status) {
        return status;
    }
    build(machine, c, entry, &args);
    if (entry->packed) {
        status = pack(machine, c, &args);
    }
    if (!status && !entry->work.products) {
        status = sweep(machine);
    }
    const double begin = now();
    if (!status) {
        status = tt_op_run(machine->context, c->op, &args);
    }
    *seconds = now() - begin;
    return status;
}

/* ---- which entries ---- */

static void list(const bench_machine *machine, const bench_case *c, tt_dtype compute,
                 bench_result *out)
{
    for (size_t i = 0; i < tt_variant_count(); i++) {
        const tt_variant_info *info = tt_variant_at(i);
        bench_entry entry = {.info = info, .scale = 1, .tile = tt_context_tile(machine->context)};
        if (info->op != c->op || info->dtype != compute || out->count + 2 > BENCH_ENTRIES ||
            choose(machine, &entry, compute)) {
            continue; /* another operation's, or nothing for this machine */
        }
        out->entries[out->count++] = entry;
        if (packing_bytes(c)) {
            const size_t bytes =
                tt_linear_packed_bytes(machine->context, c->op, c->size[1], c->size[2]);
            entry.packed = bytes > 0 && bytes <= machine->packed_bytes;
            out->entries[out->count] = entry;
            out->count += entry.packed;
        }
    }
}

/* Which tile is fastest, by two runs of each. */
static tt_status choose_tile(const bench_machine *machine, const bench_case *c, tt_dtype compute,
                             bench_entry *entry)
{
    static const tt_tile tiles[] = {{32, 32, 32},    {64, 64, 64},    {64, 256, 256},
                                    {128, 512, 256}, {256, 512, 256}, {512, 512, 512}};
    double best = INFINITY;
    tt_tile chosen = entry->tile;
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        double first, second;
        entry->tile = tiles[i];
        tt_status status = run(machine, c, compute, entry, &first);
        if (!status) {
            status = run(machine, c, compute, entry, &second);
        }
        if (status) {
            return status;
        }
        if (fmin(first, second) < best) {
            best = fmin(first, second);
            chosen = tiles[i];
        }
    }
    entry->tile = chosen;
    return TT_OK;
}

/* Warms up, shrinks what would take too long, and finds its tile. *seconds: what one run of the
 * whole shape takes, about. */
static tt_status prepare(const bench_machine *machine, const bench_case *c, tt_dtype compute,
                         bench_entry *entry, double *seconds)
{
    entry->scale = c->size[0] >= 64 ? 64 : c->size[0];
    tt_status status = run(machine, c, compute, entry, seconds);
    *seconds *= (double)entry->scale;
    double scale = *seconds > too_long ? ceil(*seconds / long_enough) : 1;
    entry->scale = scale < (double)c->size[0] ? (int64_t)scale : c->size[0];
    if (!status && entry->info->tiled) {
        status = choose_tile(machine, c, compute, entry);
    }
    if (!status) {
        status = run(machine, c, compute, entry, seconds);
    }
    *seconds *= (double)entry->scale;
    return status;
}

static void summarise(bench_entry *entry)
{
    double sorted[BENCH_ROUNDS];
    memcpy(sorted, entry->seconds, sizeof sorted);
    entry->median = median(sorted, (size_t)entry->timed) * (double)entry->scale;
    entry->low = sorted[0] * (double)entry->scale;
    entry->high = sorted[entry->timed - 1] * (double)entry->scale;
}

tt_status bench_measure(bench_machine *machine, const bench_case *c, tt_dtype compute,
                        bench_result *out)
{
    double about[BENCH_ENTRIES], fastest = INFINITY;
    bench_args args;
    bench_work work;
    *out = (bench_result){.bench = *c, .compute = compute};
    list(machine, c, compute, out);
    if (out->count == 0) {
        return TT_OK;
    }
    machine->place =
        (bench_place){.act = compute, .base = machine->memory, .filler = machine->context};
    bench_case_lay_out(c, &machine->place, &args, &work);
    tt_status status = machine->place.status;
    for (size_t i = 0; !status && i < out->count; i++) {
        status = prepare(machine, c, compute, &out->entries[i], &about[i]);
        fastest = fmin(fastest, about[i]);
    }
    for (int round = 0; round < machine->rounds; round++) {
        for (size_t i = 0; !status && i < out->count; i++) {
            bench_entry *entry = &out->entries[i];
            /* What is far behind is not worth its time in every round. */
            if (about[i] < 4 * fastest || entry->timed < SLOW_ROUNDS) {
                status = run(machine, c, compute, entry, &entry->seconds[entry->timed++]);
            }
        }
    }
    for (size_t i = 0; !status && i < out->count; i++) {
        summarise(&out->entries[i]);
    }
    return status ? tt_fail_in(status, "%s", tt_op_name(c->op)) : TT_OK;
}

/* ---- figures ---- */

static double bytes_of(const bench_work *work)
{
    return work->read + work->written;
}

double bench_rate(const bench_entry *entry)
{
    const bench_work *work = &entry->work;
    return (work->products ? work->flops : bytes_of(work)) / entry->median;
}

double bench_bar(const bench_entry *entry, tt_dtype compute, const tt_peaks *peaks)
{
    const bench_work *work = &entry->work;
    if (work->products) {
        return compute == TT_BF16 ? fmax(peaks->flops_bf16, peaks->flops_f32) : peaks->flops_f32;
    }
    return work->written < 0.1 * bytes_of(work) ? peaks->read_bytes : peaks->copy_bytes;
}

bool bench_is_rival(const bench_entry *entry)
{
    return entry->info->library != TT_LIBRARY_NONE;
}

bool bench_is_own(const bench_entry *entry)
{
    return !bench_is_rival(entry) && strcmp(entry->info->name, "reference") != 0;
}

const bench_entry *bench_rival_of(const bench_result *result, const bench_entry *entry)
{
    const bench_entry *best = NULL;
    for (size_t i = 0; i < result->count; i++) {
        const bench_entry *other = &result->entries[i];
        if (!bench_is_rival(other)) {
            continue;
        }
        bool alike = other->packed == entry->packed,
             best_alike = best && best->packed == entry->packed;
        if (!best || (alike && !best_alike) ||
            (alike == best_alike && other->median < best->median)) {
            best = other;
        }
    }
    return best;
}

const bench_entry *bench_best_own(const bench_result *result)
{
    const bench_entry *best = NULL;
    for (size_t i = 0; i < result->count; i++) {
        const bench_entry *entry = &result->entries[i];
        if (bench_is_own(entry) && (!best || entry->median < best->median)) {
            best = entry;
        }
    }
    return best;
}
