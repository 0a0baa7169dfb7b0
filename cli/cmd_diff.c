/* trimtab diff: how far apart the tensors of two checkpoints are. */
#include "checkpoint.h"
#include "commands.h"
#include "output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct side {
    char path[CLI_PATH_BYTES];
    tt_store *store;
    unsigned char *raw; /* a block as stored */
    double *values;     /* the same, widened */
} side;

typedef struct distance {
    int64_t elements, different; /* by bits */
    double max_abs;              /* NaN if a difference is */
    uint64_t max_ulp;
    bool has_ulp;
    double dot, square_a, square_b;
} distance;

typedef struct comparison {
    side a, b;
    size_t same, different, only_one;
    int64_t width; /* of the name column */
    json_t *list;  /* NULL: print a table */
    bool heading;
} comparison;

static tt_status open_side(side *s, const char *given)
{
    tt_status status = cli_checkpoint_open(given, s->path, &s->store);
    if (status) {
        return status;
    }
    s->raw = malloc(CLI_BLOCK_BYTES);
    s->values = malloc(CLI_BLOCK * sizeof *s->values);
    return s->raw && s->values ? TT_OK : tt_fail(TT_ENOMEM, "no memory for a block of a tensor");
}

static void close_side(side *s)
{
    tt_store_close(s->store);
    free(s->raw);
    free(s->values);
}

/* ---- numbers ---- */

/* Floats in the order of their values as integers, so that neighbours differ by one. */
static int64_t ordered(const unsigned char *raw, tt_dtype dtype, size_t i)
{
    if (dtype == TT_BF16) {
        int16_t bits;
        memcpy(&bits, raw + i * sizeof bits, sizeof bits);
        return bits < 0 ? (int64_t)INT16_MIN - bits : bits;
    }
    if (dtype == TT_F32) {
        int32_t bits;
        memcpy(&bits, raw + i * sizeof bits, sizeof bits);
        return bits < 0 ? (int64_t)INT32_MIN - bits : bits;
    }
    int64_t bits;
    memcpy(&bits, raw + i * sizeof bits, sizeof bits);
    return bits < 0 ? INT64_MIN - bits : bits;
}

static uint64_t ulp_distance(const comparison *c, tt_dtype dtype, size_t i)
{
    int64_t x = ordered(c->a.raw, dtype, i);
    int64_t y = ordered(c->b.raw, dtype, i);
    return x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x;
}

static void compare_block(const comparison *c, tt_dtype dtype, size_t count, distance *out)
{
    size_t size = tt_dtype_size(dtype);
    for (size_t i = 0; i < count; i++) {
        double x = c->a.values[i];
        double y = c->b.values[i];
        out->dot += x * y;
        out->square_a += x * x;
        out->square_b += y * y;
        if (memcmp(c->a.raw + i * size, c->b.raw + i * size, size) == 0) {
            continue;
        }
        out->different++;
        double gap = fabs(x - y);
        if (isnan(gap) || gap > out->max_abs) {
            out->max_abs = gap; /* once NaN it stays: no comparison with it holds */
        }
        if (out->has_ulp && !isnan(x) && !isnan(y)) {
            uint64_t ulp = ulp_distance(c, dtype, i);
            out->max_ulp = ulp > out->max_ulp ? ulp : out->max_ulp;
        }
    }
}

static tt_status measure(comparison *c, const tt_store_entry *a, const tt_store_entry *b,
                         distance *out)
{
    const tt_dtype type = cli_element_type(a);
    *out = (distance){.elements = cli_element_count(a),
                      .has_ulp = type == TT_F32 || type == TT_F64 || type == TT_BF16};
    for (int64_t first = 0; first < out->elements; first += CLI_BLOCK) {
        size_t count =
            out->elements - first < CLI_BLOCK ? (size_t)(out->elements - first) : CLI_BLOCK;
        tt_status status = cli_read_elements(c->a.store, a, first, count, c->a.raw, c->a.values);
        if (!status) {
            status = cli_read_elements(c->b.store, b, first, count, c->b.raw, c->b.values);
        }
        if (status) {
            return status;
        }
        compare_block(c, type, count, out);
    }
    return TT_OK;
}

/* 1 for equal tensors of zeros: they do not point apart. */
static double cosine(const distance *d)
{
    double norms = sqrt(d->square_a) * sqrt(d->square_b);
    return norms == 0 && d->square_a == d->square_b ? 1 : d->dot / norms;
}

/* ---- what is shown ---- */

static json_t *json_of(comparison *c, const char *name, const char *verdict)
{
    json_t *one = json_object();
    json_object_set_new(one, "tensor", cli_json_text(name, strlen(name)));
    json_object_set_new(one, "verdict", json_string(verdict));
    json_array_append_new(c->list, one);
    return one;
}

static void show_note(comparison *c, const char *name, const char *note)
{
    c->only_one++;
    if (c->list) {
        json_of(c, name, note);
    } else {
        printf("%-*s  %s\n", (int)c->width, name, note);
    }
}

static void show_distance(comparison *c, const char *name, const distance *d)
{
    bool same = d->different == 0;
    c->same += same;
    c->different += !same;
    if (c->list) {
        json_t *one = json_of(c, name, same ? "identical" : "different");
        json_object_set_new(one, "elements", json_integer(d->elements));
        json_object_set_new(one, "different", json_integer(d->different));
        json_object_set_new(one, "max_abs", cli_json_number(d->max_abs));
        json_object_set_new(one, "max_ulp",
                            d->has_ulp ? json_integer((json_int_t)d->max_ulp) : json_null());
        json_object_set_new(one, "cosine", cli_json_number(cosine(d)));
        return;
    }
    if (same) {
        return;
    }
    char number[32];
    char ulp[32] = "-";
    if (!c->heading) {
        printf("%-*s  %14s  %10s  %12s  %s\n", (int)c->width, "tensor", "differing", "max |a-b|",
               "max ULP", "cosine");
        c->heading = true;
    }
    if (d->has_ulp) {
        snprintf(ulp, sizeof ulp, "%llu", (unsigned long long)d->max_ulp);
    }
    printf("%-*s  %13.4g%%  %10s  %12s  %.9f\n", (int)c->width, name,
           100 * (double)d->different / (double)d->elements, cli_number(d->max_abs, number), ulp,
           cosine(d));
}

/* ---- the walk: both lists are sorted by path ---- */

static const tt_store_entry *next_tensor(const tt_store *store, size_t *index)
{
    const char *name;
    while (*index < tt_store_entry_count(store)) {
        const tt_store_entry *entry = tt_store_entry_at(store, *index);
        if (cli_is_tensor(entry, &name)) {
            return entry;
        }
        (*index)++;
    }
    return NULL;
}

static bool same_form(const tt_store_entry *a, const tt_store_entry *b)
{
    bool same = a->dtype == b->dtype && a->rank == b->rank && a->bytes == b->bytes;
    for (int i = 0; same && i < a->rank; i++) {
        same = a->dims[i] == b->dims[i];
    }
    return same;
}

static tt_status compare_pair(comparison *c, const tt_store_entry *a, const tt_store_entry *b)
{
    const char *name;
    cli_is_tensor(a, &name);
    if (!same_form(a, b)) {
        char from[96];
        char to[96];
        char note[256];
        snprintf(note, sizeof note, "%s %s in the first, %s %s in the second",
                 tt_dtype_name(a->dtype), cli_shape(a, from), tt_dtype_name(b->dtype),
                 cli_shape(b, to));
        show_note(c, name, note);
        return TT_OK;
    }
    distance d;
    tt_status status = measure(c, a, b, &d);
    if (!status) {
        show_distance(c, name, &d);
    }
    return status;
}

static tt_status compare_all(comparison *c)
{
    size_t i = 0;
    size_t j = 0;
    tt_status status = TT_OK;
    while (!status) {
        const tt_store_entry *a = next_tensor(c->a.store, &i);
        const tt_store_entry *b = next_tensor(c->b.store, &j);
        if (!a && !b) {
            break;
        }
        int order = !a ? 1 : !b ? -1 : strcmp(a->path, b->path);
        const char *name;
        cli_is_tensor(order <= 0 ? a : b, &name);
        if (order == 0) {
            status = compare_pair(c, a, b);
        } else {
            show_note(c, name, order < 0 ? "only in the first" : "only in the second");
        }
        i += order <= 0;
        j += order >= 0;
    }
    return status;
}

static void find_width(comparison *c, const tt_store *store)
{
    const char *name;
    for (size_t i = 0; i < tt_store_entry_count(store); i++) {
        if (cli_is_tensor(tt_store_entry_at(store, i), &name) && (int64_t)strlen(name) > c->width) {
            c->width = (int64_t)strlen(name);
        }
    }
}

static tt_status summarise(comparison *c)
{
    size_t differing = c->different + c->only_one;
    int64_t step_a = tt_store_get_header(c->a.store)->step;
    int64_t step_b = tt_store_get_header(c->b.store)->step;
    if (c->list) {
        json_t *root = json_object();
        json_object_set_new(root, "a", cli_json_text(c->a.path, strlen(c->a.path)));
        json_object_set_new(root, "b", cli_json_text(c->b.path, strlen(c->b.path)));
        json_object_set_new(root, "step_a", json_integer(step_a));
        json_object_set_new(root, "step_b", json_integer(step_b));
        json_object_set_new(root, "identical", json_boolean(differing == 0));
        json_object_set_new(root, "tensors", c->list);
        c->list = NULL;
        return cli_print_json(root);
    }
    if (differing == 0) {
        printf("identical: %zu tensors, bit for bit", c->same);
    } else {
        printf("different: %zu of %zu tensors", differing, differing + c->same);
    }
    if (step_a != step_b) {
        printf(" (steps %lld and %lld)", (long long)step_a, (long long)step_b);
    }
    puts("");
    return TT_OK;
}

int cmd_diff(const cli_arguments *arguments)
{
    comparison *c = calloc(1, sizeof *c);
    if (!c) {
        return cli_report(tt_fail(TT_ENOMEM, "no memory for a comparison"));
    }
    c->width = (int64_t)strlen("tensor");
    c->list = cli_given(arguments, CLI_JSON) ? json_array() : NULL;
    tt_status status = open_side(&c->a, arguments->operands[0]);
    if (!status) {
        status = open_side(&c->b, arguments->operands[1]);
    }
    if (!status) {
        find_width(c, c->a.store);
        find_width(c, c->b.store);
        status = compare_all(c);
    }
    if (!status && c->same + c->different + c->only_one == 0) {
        status = tt_fail(TT_EDATA, "%s and %s hold no tensors", c->a.path, c->b.path);
    }
    if (!status) {
        status = summarise(c);
    }
    int code = status ? cli_report(status) : c->different + c->only_one > 0;
    json_decref(c->list);
    close_side(&c->a);
    close_side(&c->b);
    free(c);
    return code;
}
