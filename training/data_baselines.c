/* What counting bytes achieves on the validation targets: the bar for a model that learns.
 *
 * Witten-Bell smoothing (Witten & Bell 1991, method C; interpolated as in Chen & Goodman 1998):
 *     P(c | h) = (n(h, c) + t(h) P(c | h')) / (n(h) + t(h))
 * with n(h) occurrences of the context h, t(h) different bytes seen after it, h' the context
 * without its oldest byte, and the uniform 1/256 below the empty context. */
#include <math.h>
#include <stdlib.h>

#include "data_internal.h"

enum { BYTES = 256, READ_TOKENS = 4096, ORDERS = 3 };

/* n(h, c) for contexts of 0, 1 and 2 bytes, and for each context n(h) and t(h). */
typedef struct counts {
    uint64_t *bytes[ORDERS]; /* [contexts][BYTES] */
    uint64_t *total[ORDERS]; /* [contexts] */
    uint32_t *kinds[ORDERS]; /* [contexts] */
} counts;

static void free_counts(counts *c)
{
    for (int order = 0; order < ORDERS; order++) {
        free(c->bytes[order]);
        free(c->total[order]);
        free(c->kinds[order]);
    }
}

static bool make_counts(counts *c)
{
    size_t contexts = 1;
    for (int order = 0; order < ORDERS; order++, contexts *= BYTES) {
        c->bytes[order] = calloc(contexts * BYTES, sizeof *c->bytes[order]);
        c->total[order] = calloc(contexts, sizeof *c->total[order]);
        c->kinds[order] = calloc(contexts, sizeof *c->kinds[order]);
        if (!c->bytes[order] || !c->total[order] || !c->kinds[order]) {
            return false;
        }
    }
    return true;
}

/* The last `order` bytes of history as an index. */
static size_t context_of(uint32_t history, int order)
{
    return history & ((UINT32_C(1) << (8 * order)) - 1);
}

static void count_byte(counts *c, int order, uint32_t history, int32_t byte)
{
    size_t context = context_of(history, order);
    uint64_t *seen = &c->bytes[order][context * BYTES + (size_t)byte];
    c->kinds[order][context] += *seen == 0;
    (*seen)++;
    c->total[order][context]++;
}

static tt_status count_training(const tt_dataset *data, counts *c)
{
    const int64_t tokens = tt_dataset_tokens(data, TT_SPLIT_TRAIN);
    int32_t block[READ_TOKENS];
    uint32_t history = 0;
    for (int64_t first = 0; first < tokens; first += READ_TOKENS) {
        int64_t part = tokens - first < READ_TOKENS ? tokens - first : READ_TOKENS;
        TRY(tt_data_copy(data, TT_SPLIT_TRAIN, first, part, block));
        for (int64_t i = 0; i < part; i++) {
            /* The first bytes have no full context. */
            for (int order = 0; order < ORDERS && order <= first + i; order++) {
                count_byte(c, order, history, block[i]);
            }
            history = history << 8 | (uint32_t)block[i];
        }
    }
    return TT_OK;
}

static double probability(const counts *c, int order, uint32_t history, int32_t byte)
{
    double p = 1.0 / BYTES;
    for (int o = 0; o <= order; o++) {
        size_t context = context_of(history, o);
        double total = (double)c->total[o][context];
        double kinds = (double)c->kinds[o][context];
        if (total > 0.0) {
            p = ((double)c->bytes[o][context * BYTES + (size_t)byte] + kinds * p) / (total + kinds);
        }
    }
    return p;
}

/* Adds -log2 P of one window's targets; a context never reaches back before the window, as the
 * model's does not. */
static void score_window(const counts *c, const int32_t *tokens, int64_t context, double bits[2])
{
    uint32_t history = (uint32_t)tokens[0];
    for (int64_t i = 1; i <= context; i++) {
        for (int order = 1; order <= 2; order++) {
            int known = i < order ? (int)i : order;
            bits[order - 1] -= log2(probability(c, known, history, tokens[i]));
        }
        history = history << 8 | (uint32_t)tokens[i];
    }
}

static tt_status score(const tt_dataset *data, const counts *c, int64_t of, double bits[2])
{
    const int64_t context = data->options.context;
    int32_t *window = malloc((size_t)(context + 1) * sizeof *window);
    if (!window) {
        return tt_fail(TT_ENOMEM, "no memory for a sequence");
    }
    tt_status status = TT_OK;
    for (int64_t index = 0; index < of && !status; index++) {
        status = tt_data_copy(data, TT_SPLIT_HELD_OUT, tt_data_held_out_start(data, index, of),
                              context + 1, window);
        if (!status) {
            score_window(c, window, context, bits);
        }
    }
    free(window);
    return status;
}

tt_status tt_dataset_baselines(const tt_dataset *data, int64_t of, double *order1, double *order2)
{
    if (!data->is_bytes || !data->splits[TT_SPLIT_HELD_OUT].tokens) {
        return tt_fail(TT_EINVAL, "byte baselines need text, some of it held out");
    }
    if (of < 1 || of > INT32_MAX) {
        return tt_fail(TT_EINVAL, "byte baselines over %lld sequences", (long long)of);
    }
    counts c = {0};
    double bits[2] = {0.0, 0.0};
    tt_status status = TT_OK;
    if (!make_counts(&c)) {
        status = tt_fail(TT_ENOMEM, "no memory to count bytes for the baselines");
        goto out;
    }
    status = count_training(data, &c);
    if (!status) {
        status = score(data, &c, of, bits);
    }
out:
    free_counts(&c);
    if (!status) {
        const double targets = (double)of * (double)data->options.context;
        *order1 = bits[0] / targets;
        *order2 = bits[1] / targets;
    }
    return status;
}
