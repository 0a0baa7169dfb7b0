/* The roofline plot: a gnuplot script, with labels that were placed where nothing else is. */
#include "bench_report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Pixels: a panel, and its drawing area within. */
enum { WIDTH = 1000, HEIGHT = 760, LEFT = 90, RIGHT = 30, TOP = 60, BOTTOM = 75 };
enum { POINTS = 2 * TT_OP_COUNT, LETTER = 8, LINE = 18, SYMBOL = 14 };

typedef struct box {
    double left, bottom, right, top;
} box;

typedef struct point {
    const bench_result *result;
    const bench_entry *entry, *rival;
    double x, y; /* operations per byte, GFLOP/s */
    char label[64];
    box label_box; /* pixels */
} point;

typedef struct panel {
    tt_dtype compute;
    point points[POINTS];
    int count;
    double x_low, x_high, y_low, y_high;
    double roof, slopes[2]; /* GFLOP/s; GB/s of reading and copying */
} panel;

/* ---- what is shown ---- */

static double intensity(const bench_entry *entry)
{
    return entry->work.flops / (entry->work.read + entry->work.written);
}

static double gflops(const bench_entry *entry)
{
    return entry->work.flops / entry->median * 1e-9;
}

static const bench_entry *shown_entry(const bench_result *result)
{
    const bench_entry *own = bench_best_own(result);
    return own ? own : result->count ? &result->entries[0] : NULL;
}

/* Of each operation the largest case; products of one row by themselves. */
static void collect(panel *p, const bench_result *results, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const bench_entry *entry = shown_entry(&results[i]);
        if (!entry || results[i].compute != p->compute) {
            continue;
        }
        int at = 0;
        while (at < p->count && (p->points[at].result->bench.op != results[i].bench.op ||
                                 p->points[at].entry->work.products != entry->work.products)) {
            at++;
        }
        if (at == POINTS ||
            (at < p->count && p->points[at].entry->work.flops >= entry->work.flops)) {
            continue;
        }
        char shape[96];
        point *one = &p->points[at];
        *one = (point){.result = &results[i],
                       .entry = entry,
                       .rival = bench_rival_of(&results[i], entry),
                       .x = intensity(entry),
                       .y = gflops(entry)};
        snprintf(one->label, sizeof one->label, "%.24s %.32s", tt_op_name(results[i].bench.op),
                 bench_shape_text(&results[i].bench, shape));
        p->count += at == p->count;
    }
}

static double roof_of(const panel *p, const tt_peaks *peaks)
{
    const double f32 = peaks->flops_f32 * 1e-9, bf16 = peaks->flops_bf16 * 1e-9;
    return p->compute == TT_BF16 ? fmax(f32, bf16) : f32;
}

static void choose_ranges(panel *p, const tt_peaks *peaks)
{
    p->roof = roof_of(p, peaks);
    p->slopes[0] = peaks->read_bytes * 1e-9;
    p->slopes[1] = peaks->copy_bytes * 1e-9;
    double x_low = 1.0 / 8, x_high = 64, y_low = INFINITY, y_high = p->roof;
    for (int i = 0; i < p->count; i++) {
        x_low = fmin(x_low, p->points[i].x);
        x_high = fmax(x_high, p->points[i].x);
        y_low = fmin(y_low, p->points[i].y);
        y_high = fmax(y_high, p->points[i].y);
    }
    p->x_low = exp2(floor(log2(x_low)) - 1);
    p->x_high = exp2(ceil(log2(x_high)) + 2);
    p->y_low = pow(10, floor(log10(y_low) - 0.2));
    p->y_high = pow(10, ceil(log10(y_high) * 10 + 3) / 10);
}

/* ---- where labels go ---- */

static double pixel_x(const panel *p, double x)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * log(x / p->x_low) / log(p->x_high / p->x_low);
}

static double pixel_y(const panel *p, double y)
{
    return BOTTOM + (HEIGHT - TOP - BOTTOM) * log(y / p->y_low) / log(p->y_high / p->y_low);
}

static bool overlap(box a, box b)
{
    return a.left < b.right && b.left < a.right && a.bottom < b.top && b.bottom < a.top;
}

static box around(double x, double y, double width, double height)
{
    return (box){x - width / 2, y - height / 2, x + width / 2, y + height / 2};
}

/* A roof rises and then is level: it meets a box that it enters below the top and
 * leaves above the bottom. */
static bool meets_roof(const panel *p, box b)
{
    const double across = (WIDTH - LEFT - RIGHT) / log(p->x_high / p->x_low);
    const double left = p->x_low * exp((b.left - LEFT) / across);
    const double right = p->x_low * exp((b.right - LEFT) / across);
    for (int i = 0; i < 2; i++) {
        const double low = pixel_y(p, fmin(p->roof, left * p->slopes[i]));
        const double high = pixel_y(p, fmin(p->roof, right * p->slopes[i]));
        if (low < b.top && high > b.bottom) {
            return true;
        }
    }
    return false;
}

/* The legend is at the lower right. */
static const box legend = {WIDTH - RIGHT - 400, BOTTOM, WIDTH - RIGHT, BOTTOM + 6 * LINE + 12};

static bool is_free(const panel *p, int placed, box b)
{
    bool inside = b.left > LEFT + 4 && b.right < WIDTH - RIGHT - 4 && b.bottom > BOTTOM + 4 &&
                  b.top < HEIGHT - TOP - 4;
    if (!inside || overlap(b, legend) || meets_roof(p, b)) {
        return false;
    }
    for (int i = 0; i < p->count; i++) {
        const point *other = &p->points[i];
        const double x = pixel_x(p, other->x);
        if (overlap(b, around(x, pixel_y(p, other->y), SYMBOL, SYMBOL)) ||
            (other->rival &&
             overlap(b, around(x, pixel_y(p, gflops(other->rival)), SYMBOL, SYMBOL))) ||
            (i < placed && overlap(b, other->label_box))) {
            return false;
        }
    }
    return true;
}

/* Tries circles around the point, each a little wider. */
static void place_label(const panel *p, int index, point *one)
{
    enum { DIRECTIONS = 24, CIRCLES = 40 };
    const double width = (double)strlen(one->label) * LETTER;
    const double x = pixel_x(p, one->x), y = pixel_y(p, one->y);
    for (int circle = 0; circle < CIRCLES; circle++) {
        for (int turn = 0; turn < DIRECTIONS; turn++) {
            /* To the right first, then up and down in turn. */
            const double angle = (turn % 2 ? 1 : -1) * ((turn + 1) / 2) * 2 * acos(-1) / DIRECTIONS;
            const double far = 12 + 9 * circle;
            const double shift = cos(angle) * (width / 2 + far);
            one->label_box = around(x + shift, y + sin(angle) * (LINE / 2.0 + far), width, LINE);
            if (is_free(p, index, one->label_box)) {
                return;
            }
        }
    }
}

static int higher_first(const void *a, const void *b)
{
    const double x = ((const point *)a)->y, y = ((const point *)b)->y;
    return (x < y) - (x > y);
}

/* ---- the script ---- */

static void write_label(const panel *p, const point *one, FILE *out)
{
    const box b = one->label_box;
    const double x = pixel_x(p, one->x), y = pixel_y(p, one->y);
    const double middle = (b.bottom + b.top) / 2;
    const double near_x = fmax(b.left, fmin(x, b.right)), near_y = fmax(b.bottom, fmin(y, b.top));
    const double across = WIDTH - LEFT - RIGHT, up = HEIGHT - TOP - BOTTOM;
    fprintf(out, "set label '%s' at graph %.5f,%.5f center front\n", one->label,
            ((b.left + b.right) / 2 - LEFT) / across, (middle - BOTTOM) / up);
    if (hypot(near_x - x, near_y - y) > 14) {
        fprintf(out,
                "set arrow from first %.6g,%.6g to graph %.5f,%.5f nohead lc rgb '#999999' lw 0.8 "
                "back\n",
                one->x, one->y, (near_x - LEFT) / across, (near_y - BOTTOM) / up);
    }
}

/* kind: 0 matrix products and attention, 1 the others, 2 rivals. */
static void write_points(const panel *p, int kind, FILE *out)
{
    fprintf(out, "$points%d << END\n", kind);
    int written = 0;
    for (int i = 0; i < p->count; i++) {
        const point *one = &p->points[i];
        if (kind == 2 ? one->rival != NULL : one->entry->work.products == (kind == 0)) {
            fprintf(out, "%.6g %.6g\n", one->x, kind == 2 ? gflops(one->rival) : one->y);
            written++;
        }
    }
    fprintf(out, "%sEND\n", written ? "" : "NaN NaN\n");
}

static void write_roofs(const panel *p, const tt_peaks *peaks, FILE *out)
{
    const double roof = p->roof, read = p->slopes[0], copy = p->slopes[1];
    const bool has_bf16 = p->compute == TT_BF16 && peaks->flops_bf16 > peaks->flops_f32;
    fprintf(out,
            "plot (x * %.6g < %.6g ? x * %.6g : %.6g) lw 2.5 lc rgb '#222222' "
            "title 'memory, read: %.1f GB/s; %s: %.4g GFLOP/s', ",
            read, roof, read, roof, read, has_bf16 ? "bf16" : "multiply-adds", roof);
    fprintf(out,
            "(x * %.6g < %.6g ? x * %.6g : NaN) lw 1.5 dt 2 lc rgb '#222222' "
            "title 'memory, copy: %.1f GB/s', ",
            copy, roof, copy, copy);
    if (has_bf16) {
        const double f32 = peaks->flops_f32 * 1e-9;
        fprintf(out,
                "(x * %.6g > %.6g ? %.6g : NaN) lw 1.5 dt 3 lc rgb '#222222' "
                "title 'f32 multiply-adds: %.4g GFLOP/s', ",
                read, f32, f32, f32);
    }
}

static void write_panel(const panel *p, const tt_peaks *peaks, int threads, FILE *out)
{
    bool rivals = false;
    for (int kind = 0; kind < 3; kind++) {
        write_points(p, kind, out);
    }
    for (int i = 0; i < p->count; i++) {
        write_label(p, &p->points[i], out);
        rivals = rivals || p->points[i].rival;
    }
    fprintf(out,
            "set title '%s, %d thread%s: each operation by its fastest kernel'\n"
            "set xrange [%.6g:%.6g]\nset yrange [%.6g:%.6g]\n",
            p->compute == TT_BF16 ? "Mixed precision (bf16)" : "f32", threads,
            threads > 1 ? "s" : "", p->x_low, p->x_high, p->y_low, p->y_high);
    write_roofs(p, peaks, out);
    if (rivals) {
        fprintf(out, "$points2 with points pt 8 ps 1.6 lc rgb '#d55e00' title 'the better of "
                     "OpenBLAS and oneDNN', ");
    }
    fprintf(out, "$points0 with points pt 7 ps 1.5 lc rgb '#0072b2' title 'products, attention', "
                 "$points1 with points pt 5 ps 1.3 lc rgb '#009e73' title 'bound by memory'\n"
                 "unset label\nunset arrow\n");
}

static void write_head(const char *path, int panels, FILE *out)
{
    const char *end = strrchr(path, '.');
    fprintf(out, "set terminal %s size %d,%d noenhanced %s\nset output '",
            strcmp(end, ".svg") == 0 ? "svg font 'Helvetica,13' background 'white'"
                                     : "pngcairo font 'Helvetica,10' background 'white'",
            WIDTH, HEIGHT * panels, "");
    for (const char *c = path; *c; c++) {
        fputs(*c == '\'' ? "''" : (const char[]){*c, '\0'}, out);
    }
    fprintf(out, "'\nset logscale x 2\nset logscale y 10\nset samples 2000\n"
                 "set format x '%%g'\nset format y '%%g'\n"
                 "set xlabel 'arithmetic intensity (operations per byte that must move)'\n"
                 "set ylabel 'GFLOP/s'\n"
                 "set grid xtics ytics lc rgb '#cccccc' lw 0.8\n"
                 "set key bottom right Left reverse opaque box lc rgb '#bbbbbb' width -2\n"
                 "set multiplot\n");
}

static void write_margins(int index, int panels, FILE *out)
{
    const double height = (double)HEIGHT * panels, floor_at = (double)HEIGHT * (panels - 1 - index);
    fprintf(out,
            "set lmargin at screen %.6f\nset rmargin at screen %.6f\n"
            "set bmargin at screen %.6f\nset tmargin at screen %.6f\n",
            (double)LEFT / WIDTH, 1 - (double)RIGHT / WIDTH, (floor_at + BOTTOM) / height,
            (floor_at + HEIGHT - TOP) / height);
}

/* ---- gnuplot ---- */

static bool on_path(const char *program)
{
    char file[4096];
    for (const char *path = getenv("PATH"); path && *path; path += *path == ':') {
        const size_t length = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)length, path, program);
        if (access(file, X_OK) == 0) {
            return true;
        }
        path += length;
    }
    return false;
}

tt_status bench_plot_check(const char *path)
{
    const char *end = strrchr(path, '.');
    if (!end || (strcmp(end, ".svg") != 0 && strcmp(end, ".png") != 0)) {
        return tt_fail(TT_EUSAGE, "bench kernels: --plot '%s' does not end in .svg or .png", path);
    }
    if (!on_path("gnuplot")) {
        return tt_fail(TT_EUNSUPPORTED, "--plot needs gnuplot; install the package gnuplot-nox");
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        return tt_fail_errno(errno, "cannot write the plot %s", path);
    }
    close(fd);
    return TT_OK;
}

tt_status bench_plot(const char *path, const tt_peaks *peaks, int threads,
                     const bench_result *results, size_t count)
{
    static const tt_dtype types[] = {TT_F32, TT_BF16};
    static panel panels[2];
    int used = 0;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        panels[used] = (panel){.compute = types[t]};
        collect(&panels[used], results, count);
        used += panels[used].count > 0;
    }
    FILE *out = popen("gnuplot", "w");
    if (!out) {
        return tt_fail_errno(errno, "cannot start gnuplot");
    }
    write_head(path, used, out);
    for (int i = 0; i < used; i++) {
        panel *p = &panels[i];
        choose_ranges(p, peaks);
        qsort(p->points, (size_t)p->count, sizeof *p->points, higher_first);
        for (int k = 0; k < p->count; k++) {
            place_label(p, k, &p->points[k]);
        }
        write_margins(i, used, out);
        write_panel(p, peaks, threads, out);
    }
    fprintf(out, "unset multiplot\n");
    int code = pclose(out);
    return code ? tt_fail(TT_EIO, "gnuplot ended with %d and left no plot at %s", code, path)
                : TT_OK;
}
