#include "bench_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trimtab/training.h"

/* ---- names ---- */

const char *bench_size_names(tt_op op)
{
    switch (op) {
    case TT_OP_LINEAR_FORWARD:
    case TT_OP_LINEAR_DGRAD:
    case TT_OP_LINEAR_WGRAD:
        return "m,n,k";
    case TT_OP_EMBEDDING_FORWARD:
    case TT_OP_EMBEDDING_BACKWARD:
        return "batch,time,channels,vocab";
    case TT_OP_LAYERNORM_FORWARD:
    case TT_OP_LAYERNORM_BACKWARD:
    case TT_OP_RMSNORM_FORWARD:
    case TT_OP_RMSNORM_BACKWARD:
        return "rows,channels";
    case TT_OP_ROPE:
    case TT_OP_ATTENTION_FORWARD:
    case TT_OP_ATTENTION_BACKWARD:
        return "batch,time,heads,kv_heads,size";
    case TT_OP_ATTENTION_CACHED:
        return "count,position,heads,kv_heads,size";
    case TT_OP_SWIGLU_FORWARD:
    case TT_OP_SWIGLU_BACKWARD:
        return "rows,width";
    case TT_OP_SOFTMAX_XENT:
        return "rows,vocab";
    default:
        return "n";
    }
}

static size_t size_count(tt_op op)
{
    size_t count = 1;
    for (const char *c = bench_size_names(op); *c; c++) {
        count += *c == ',';
    }
    return count;
}

const char *bench_shape_text(const bench_case *c, char out[96])
{
    int used = 0;
    for (size_t i = 0; i < size_count(c->op); i++) {
        used +=
            snprintf(out + used, 96 - (size_t)used, "%s%lld", i ? "x" : "", (long long)c->size[i]);
    }
    return out;
}

/* ---- lists ---- */

static void add(bench_cases *cases, int count, tt_op op, const int64_t size[BENCH_SIZES])
{
    if (cases->count == BENCH_CASES) {
        return;
    }
    bench_case *c = &cases->list[cases->count++];
    *c = (bench_case){.op = op, .count = count};
    memcpy(c->size, size, sizeof c->size);
}

#define ADD(cases, count, op, ...)                                                                 \
    add(cases, (int)(count), TT_OP_##op, (const int64_t[BENCH_SIZES]){__VA_ARGS__})

typedef struct dims {
    int64_t layers, heads, kv_heads, channels, mlp_width, vocab;
    bool rmsnorm, rotary, swiglu;
} dims;

/* The four products of a block, `rows` at a time, and the head's, `head_rows` at a time. In a step
 * (count > 0) the wide layer's GELU is part of the products around it. */
static void add_products(bench_cases *cases, const dims *d, int64_t rows, int64_t head_rows,
                         int64_t count)
{
    static const tt_op ops[] = {TT_OP_LINEAR_FORWARD, TT_OP_LINEAR_DGRAD, TT_OP_LINEAR_WGRAD};
    const int64_t c = d->channels, heads = (rows + head_rows - 1) / head_rows;
    const int64_t qkv = c + 2 * d->kv_heads * (c / d->heads), width = d->mlp_width;
    const tt_op forward = d->swiglu ? TT_OP_COUNT : TT_OP_LINEAR_FORWARD;
    const tt_op backward = d->swiglu ? TT_OP_COUNT : TT_OP_LINEAR_DGRAD;
    const struct {
        int64_t rows, n, k, count;
        tt_op gelu; /* the operation that has it */
    } products[] = {{rows, qkv, c, d->layers, TT_OP_COUNT},
                    {rows, c, c, d->layers, TT_OP_COUNT},
                    {rows, d->swiglu ? 2 * width : width, c, d->layers, forward},
                    {rows, c, width, d->layers, backward},
                    {head_rows, d->vocab, c, heads, TT_OP_COUNT}};
    for (int op = 0; op < (rows > 1 ? 3 : 1); op++) {
        for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
            add(cases, (int)(count * products[i].count), ops[op],
                (const int64_t[BENCH_SIZES]){products[i].rows, products[i].n, products[i].k});
            cases->list[cases->count - 1].gelu = count > 0 && products[i].gelu == ops[op];
        }
    }
}

/* Beyond this many elements a rate no longer changes, and only memory would be taken. */
static int64_t at_most(int64_t n)
{
    const int64_t most = (int64_t)16 << 20;
    return n < most ? n : most;
}

/* Rows of logits that the trainer makes at a time: 64 MiB of them. */
static int64_t head_rows_of(const dims *d, int64_t rows)
{
    const int64_t fit = ((int64_t)64 << 20) / (4 * d->vocab);
    const int64_t chunk = fit > 64 ? fit : 64;
    return rows < chunk ? rows : chunk;
}

static void add_norms(bench_cases *cases, const dims *d, int64_t rows, int64_t count, bool forward)
{
    const tt_op ops[2][2] = {{TT_OP_LAYERNORM_BACKWARD, TT_OP_LAYERNORM_FORWARD},
                             {TT_OP_RMSNORM_BACKWARD, TT_OP_RMSNORM_FORWARD}};
    add(cases, (int)count, ops[d->rmsnorm][forward],
        (const int64_t[BENCH_SIZES]){rows, d->channels});
}

/* What follows the first product of an MLP; a GELU does so inside of it. */
static void add_activation(bench_cases *cases, const dims *d, int64_t rows, int64_t count,
                           bool forward)
{
    if (d->swiglu) {
        add(cases, (int)count, forward ? TT_OP_SWIGLU_FORWARD : TT_OP_SWIGLU_BACKWARD,
            (const int64_t[BENCH_SIZES]){rows, d->mlp_width});
    } else {
        add(cases, 0, forward ? TT_OP_GELU_FORWARD : TT_OP_GELU_BACKWARD,
            (const int64_t[BENCH_SIZES]){rows * d->mlp_width});
    }
}

static void add_others(bench_cases *cases, const dims *d, int64_t batch, int64_t time,
                       int64_t count, int64_t parameters)
{
    const int64_t rows = batch * time, c = d->channels, l = d->layers * count;
    const int64_t size = c / d->heads, scored = head_rows_of(d, rows);
    ADD(cases, count, EMBEDDING_FORWARD, batch, time, c, d->vocab);
    add_norms(cases, d, rows, 2 * l + count, true);
    if (d->rotary) { /* and back */
        ADD(cases, 2 * l, ROPE, batch, time, d->heads, d->kv_heads, size);
    }
    ADD(cases, l, ATTENTION_FORWARD, batch, time, d->heads, d->kv_heads, size);
    add_activation(cases, d, rows, l, true);
    ADD(cases, 0, ADD, rows * c);
    ADD(cases, count * ((rows + scored - 1) / scored), SOFTMAX_XENT, scored, d->vocab);
    add_activation(cases, d, rows, l, false);
    ADD(cases, l, ATTENTION_BACKWARD, batch, time, d->heads, d->kv_heads, size);
    add_norms(cases, d, rows, 2 * l + count, false);
    ADD(cases, count, EMBEDDING_BACKWARD, batch, time, c, d->vocab);
    ADD(cases, parameters / at_most(parameters), STATS, at_most(parameters));
    ADD(cases, parameters / at_most(parameters), ADAMW, at_most(parameters));
}

static void add_decoding(bench_cases *cases, const dims *d, int64_t context)
{
    add_products(cases, d, 1, 1, 0);
    ADD(cases, 0, ATTENTION_CACHED, 1, context - 1, d->heads, d->kv_heads, d->channels / d->heads);
}

static bool is(const tt_config *config, const char *key, const char *choice)
{
    return strcmp(tt_config_string(config, key), choice) == 0;
}

tt_status bench_cases_of_config(const tt_config *config, bench_cases *out)
{
    tt_training_plan plan;
    out->count = 0;
    tt_status status = tt_training_make_plan(config, &plan);
    if (status) {
        return status;
    }
    const dims d = {.layers = plan.layers,
                    .heads = plan.heads,
                    .kv_heads = plan.kv_heads,
                    .channels = plan.channels,
                    .mlp_width = plan.mlp_width,
                    .vocab = plan.vocab,
                    .rmsnorm = is(config, "model.norm", "rmsnorm"),
                    .rotary = is(config, "model.positions", "rotary"),
                    .swiglu = is(config, "model.mlp", "swiglu")};
    const int64_t batch = tt_config_int(config, "train.batch");
    const int64_t count = tt_config_int(config, "train.accumulate");
    const int64_t rows = batch * plan.context;
    add_products(out, &d, rows, head_rows_of(&d, rows), count);
    add_others(out, &d, batch, plan.context, count, plan.parameters);
    add_decoding(out, &d, plan.context);
    return TT_OK;
}

tt_status bench_cases_of_gpt2(bench_cases *out)
{
    const dims d = {.layers = 12,
                    .heads = 12,
                    .kv_heads = 12,
                    .channels = 768,
                    .mlp_width = 3072,
                    .vocab = 50304};
    out->count = 0;
    add_products(out, &d, 256, 256, 0);
    add_products(out, &d, 1024, 1024, 0);
    ADD(out, 0, LINEAR_FORWARD, 2048, 2048, 2048);
    ADD(out, 0, LINEAR_DGRAD, 2048, 2048, 2048);
    ADD(out, 0, LINEAR_WGRAD, 2048, 2048, 2048);
    add_others(out, &d, 8, 128, 0, 124000000);
    ADD(out, 0, RMSNORM_FORWARD, 1024, 768);
    ADD(out, 0, RMSNORM_BACKWARD, 1024, 768);
    ADD(out, 0, ROPE, 8, 128, 12, 4, 64);
    ADD(out, 0, ATTENTION_FORWARD, 8, 128, 12, 4, 64);
    ADD(out, 0, ATTENTION_BACKWARD, 8, 128, 12, 4, 64);
    ADD(out, 0, SWIGLU_FORWARD, 1024, 2048);
    ADD(out, 0, SWIGLU_BACKWARD, 1024, 2048);
    add_decoding(out, &d, 1024);
    return TT_OK;
}

/* ---- what a user asks for ---- */

static tt_status find_op(const char *name, size_t length, tt_op *out)
{
    const char *names[TT_OP_COUNT];
    char word[64];
    for (int op = 0; op < TT_OP_COUNT; op++) {
        names[op] = tt_op_name((tt_op)op);
        if (strlen(names[op]) == length && strncmp(names[op], name, length) == 0) {
            *out = (tt_op)op;
            return TT_OK;
        }
    }
    snprintf(word, sizeof word, "%.*s", (int)length, name);
    const char *near = tt_nearest_word(word, names, TT_OP_COUNT);
    return tt_fail(TT_EUSAGE, "bench kernels: no operation '%s'%s%s%s", word,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static tt_status parse_one(const char *text, size_t length, bench_cases *out)
{
    const int64_t most = (int64_t)1 << 40;
    int64_t size[BENCH_SIZES] = {0};
    const char *colon = memchr(text, ':', length);
    tt_op op;
    tt_status status = find_op(text, colon ? (size_t)(colon - text) : length, &op);
    if (status) {
        return status;
    }
    const char *at = colon;
    size_t count = 0;
    while (at && at < text + length && count < size_count(op)) {
        char *end = NULL;
        long long value = strtoll(at + 1, &end, 10);
        if (end == at + 1 || value < 1 || value > most) {
            break;
        }
        size[count++] = value;
        at = end;
    }
    if (at != text + length || count != size_count(op)) {
        return tt_fail(TT_EUSAGE, "bench kernels: --shape '%.*s': write --shape %s:%s", (int)length,
                       text, tt_op_name(op), bench_size_names(op));
    }
    add(out, 0, op, size);
    return TT_OK;
}

tt_status bench_cases_parse(const char *text, bench_cases *out)
{
    out->count = 0;
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        size_t length = strcspn(text, " ");
        tt_status status = parse_one(text, length, out);
        if (status) {
            return status;
        }
        text += length;
    }
    return out->count ? TT_OK : tt_fail(TT_EUSAGE, "bench kernels: --shape is empty");
}

tt_status bench_cases_select(bench_cases *cases, const char *ops)
{
    bool wanted[TT_OP_COUNT] = {false};
    for (;;) {
        size_t length = strcspn(ops, ",");
        tt_op op;
        tt_status status = find_op(ops, length, &op);
        if (status) {
            return status;
        }
        wanted[op] = true;
        if (!ops[length]) {
            break;
        }
        ops += length + 1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < cases->count; i++) {
        if (wanted[cases->list[i].op]) {
            cases->list[kept++] = cases->list[i];
        }
    }
    cases->count = kept;
    return kept ? TT_OK : tt_fail(TT_EUSAGE, "bench kernels: no such operation on these shapes");
}
