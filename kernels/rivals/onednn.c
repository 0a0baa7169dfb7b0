/* oneDNN's primitives: made once for each product, then kept. Its interface of version 2. */
#include "onednn.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"

#define FUNCTIONS(f)                                                                               \
    f(engine_create) f(stream_create) f(stream_wait) f(memory_desc_init_by_strides)                \
        f(memory_desc_init_by_tag) f(memory_desc_get_size) f(memory_create)                        \
            f(memory_set_data_handle) f(memory_destroy) f(matmul_desc_init)                        \
                f(primitive_attr_create) f(primitive_attr_set_scratchpad_mode)                     \
                    f(primitive_attr_set_post_ops) f(primitive_attr_destroy) f(post_ops_create)    \
                        f(post_ops_append_sum) f(post_ops_destroy) f(primitive_desc_create)        \
                            f(reorder_primitive_desc_create) f(primitive_desc_query_md)            \
                                f(primitive_desc_destroy) f(primitive_create) f(primitive_execute) \
                                    f(primitive_destroy)

static struct {
#define FIELD(name) __typeof__(dnnl_##name) *name;
    FUNCTIONS(FIELD)
#undef FIELD
} dnnl;

bool tt_onednn_find(void *handle)
{
    bool all = true;
#define FIND(name) all = tt_library_find(handle, "dnnl_" #name, &dnnl.name) && all;
    FUNCTIONS(FIND)
#undef FIND
    return all;
}

/* What a primitive works on. A reorder goes from A to OUT. */
enum { A, B, BIAS, OUT, SCRATCHPAD, ROLES };
static const int arguments[ROLES] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST,
                                     DNNL_ARG_SCRATCHPAD};

/* Beside the flags of a product: the reorder that packs its weights. */
enum { REORDER = 64 };

typedef struct entry {
    tt_onednn_product key;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[ROLES]; /* NULL: no such argument */
    size_t scratchpad_bytes;
    uint64_t used; /* when last */
} entry;

_Static_assert(sizeof(tt_onednn_product) == 3 * sizeof(int64_t) + 2 * sizeof(int),
               "keys are compared byte by byte");

/* More than the products of a model's step. */
enum { ENTRIES = 96 };

/* Memory that outlives a call: its size is that of the largest product so far. */
typedef struct buffer {
    void *data;
    size_t bytes;
} buffer;

/* One product at a time: it has all threads anyway, and primitives share what is below. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static dnnl_engine_t engine;
static dnnl_stream_t stream;
static entry entries[ENTRIES];
static uint64_t uses;
static buffer weights, scratchpad;

static tt_status reserve(buffer *b, size_t bytes)
{
    if (b->bytes >= bytes)
        return TT_OK;
    size_t whole = (bytes + 63) / 64 * 64;
    free(b->data);
    *b = (buffer){aligned_alloc(64, whole), whole};
    if (b->data != NULL)
        return TT_OK;
    b->bytes = 0;
    return tt_fail(TT_ENOMEM, "onednn: no memory for %zu bytes beside a product", bytes);
}

static tt_status check(dnnl_status_t status, const char *what)
{
    return status == dnnl_success ? TT_OK
                                  : tt_fail(status == dnnl_out_of_memory ? TT_ENOMEM : TT_EINTERNAL,
                                            "onednn: %s failed with status %d", what, (int)status);
}

static tt_status start(void)
{
    if (stream != NULL)
        return TT_OK;
    dnnl_status_t status = engine != NULL ? dnnl_success : dnnl.engine_create(&engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl.stream_create(&stream, engine, dnnl_stream_default_flags);
    return check(status, "starting");
}

/* ---- descriptors ---- */

/* A matrix as it is stored: row-major, or column-major where `transposed`. */
static dnnl_memory_desc_t plain(dnnl_data_type_t type, int64_t rows, int64_t columns,
                                bool transposed)
{
    dnnl_memory_desc_t out = {0};
    const dnnl_dims_t dims = {rows, columns};
    const dnnl_dims_t strides = {transposed ? 1 : columns, transposed ? rows : 1};
    (void)dnnl.memory_desc_init_by_strides(&out, 2, dims, type, strides);
    return out;
}

/* A product's, with its scratch in our hands: the library's own belongs to one thread. */
static dnnl_status_t describe(const tt_onednn_product *p, const dnnl_memory_desc_t *b,
                              dnnl_primitive_desc_t *out)
{
    dnnl_memory_desc_t a =
        plain(dnnl_bf16, p->rows, p->k, (p->flags & TT_ONEDNN_A_TRANSPOSED) != 0);
    dnnl_memory_desc_t bias = plain(dnnl_f32, 1, p->columns, false);
    dnnl_memory_desc_t c =
        plain(p->flags & TT_ONEDNN_F32 ? dnnl_f32 : dnnl_bf16, p->rows, p->columns, false);
    dnnl_matmul_desc_t product;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t after = NULL;
    dnnl_status_t status =
        dnnl.matmul_desc_init(&product, &a, b, p->flags & TT_ONEDNN_BIAS ? &bias : NULL, &c);
    if (status == dnnl_success)
        status = dnnl.primitive_attr_create(&attributes);
    if (status == dnnl_success)
        status = dnnl.primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && p->flags & TT_ONEDNN_ACCUMULATE) {
        status = dnnl.post_ops_create(&after);
        if (status == dnnl_success)
            status = dnnl.post_ops_append_sum(after, 1);
        if (status == dnnl_success)
            status = dnnl.primitive_attr_set_post_ops(attributes, after);
    }
    if (status == dnnl_success)
        status = dnnl.primitive_desc_create(out, &product, attributes, engine, NULL);
    if (after != NULL)
        (void)dnnl.post_ops_destroy(after);
    if (attributes != NULL)
        (void)dnnl.primitive_attr_destroy(attributes);
    return status;
}

/* How the library wants weights. It is asked for one number of rows and threads only: packed
 * weights serve every product. */
static dnnl_status_t describe_packed(int64_t columns, int64_t k, dnnl_memory_desc_t *out)
{
    enum { ROWS = 512 };
    const tt_onednn_product typical = {ROWS, columns, k, 1, 0};
    const dnnl_dims_t dims = {k, columns};
    dnnl_memory_desc_t any = {0};
    dnnl_primitive_desc_t described = NULL;
    int before = omp_get_max_threads();
    tt_onednn_load()->set_num_threads(1);
    dnnl_status_t status =
        dnnl.memory_desc_init_by_tag(&any, 2, dims, dnnl_bf16, dnnl_format_tag_any);
    if (status == dnnl_success)
        status = describe(&typical, &any, &described);
    if (status == dnnl_success) {
        *out = *dnnl.primitive_desc_query_md(described, dnnl_query_weights_md, 0);
        (void)dnnl.primitive_desc_destroy(described);
    }
    tt_onednn_load()->set_num_threads(before);
    return status;
}

/* ---- primitives ---- */

static void forget(entry *e)
{
    for (int role = 0; role < ROLES; role++)
        if (e->memory[role] != NULL)
            (void)dnnl.memory_destroy(e->memory[role]);
    if (e->primitive != NULL)
        (void)dnnl.primitive_destroy(e->primitive);
    *e = (entry){0};
}

static dnnl_status_t make(entry *e, dnnl_primitive_desc_t described)
{
    static const dnnl_query_t queries[ROLES] = {dnnl_query_src_md, dnnl_query_weights_md,
                                                dnnl_query_weights_md, dnnl_query_dst_md,
                                                dnnl_query_scratchpad_md};
    dnnl_status_t status = dnnl.primitive_create(&e->primitive, described);
    for (int role = 0; role < ROLES && status == dnnl_success; role++) {
        const dnnl_memory_desc_t *desc =
            dnnl.primitive_desc_query_md(described, queries[role], role == BIAS ? 1 : 0);
        size_t bytes = desc != NULL ? dnnl.memory_desc_get_size(desc) : 0;
        if (bytes == 0)
            continue;
        status = dnnl.memory_create(&e->memory[role], desc, engine, DNNL_MEMORY_NONE);
        if (role == SCRATCHPAD)
            e->scratchpad_bytes = bytes;
    }
    return status;
}

static tt_status create(const tt_onednn_product *key, entry *out)
{
    dnnl_memory_desc_t packed,
        b = plain(dnnl_bf16, key->k, key->columns, (key->flags & TT_ONEDNN_B_TRANSPOSED) != 0);
    dnnl_primitive_desc_t described = NULL;
    dnnl_status_t status = dnnl_success;
    out->key = *key;
    if (key->flags & (REORDER | TT_ONEDNN_WEIGHTS))
        status = describe_packed(key->columns, key->k, &packed);
    if (status == dnnl_success && key->flags & REORDER) {
        b.data_type = dnnl_f32;
        status = dnnl.reorder_primitive_desc_create(&described, &b, engine, &packed, engine, NULL);
    } else if (status == dnnl_success) {
        status = describe(key, key->flags & TT_ONEDNN_WEIGHTS ? &packed : &b, &described);
    }
    if (status == dnnl_success)
        status = make(out, described);
    if (described != NULL)
        (void)dnnl.primitive_desc_destroy(described);
    if (status != dnnl_success)
        forget(out);
    return check(status, "preparing a product");
}

/* The primitive of `key`; in the place of the one that was not used for longest if it is new. */
static tt_status find_entry(const tt_onednn_product *key, entry **out)
{
    entry *oldest = &entries[0];
    tt_status status = TT_OK;
    *out = NULL;
    for (int i = 0; i < ENTRIES; i++) {
        if (entries[i].primitive != NULL && memcmp(&entries[i].key, key, sizeof *key) == 0)
            *out = &entries[i];
        if (entries[i].used < oldest->used)
            oldest = &entries[i];
    }
    if (*out == NULL) {
        forget(oldest);
        status = create(key, oldest);
        *out = oldest;
    }
    if (status == TT_OK)
        (*out)->used = ++uses;
    return status;
}

static tt_status execute(entry *e, void *const data[ROLES])
{
    dnnl_exec_arg_t list[ROLES];
    int count = 0;
    dnnl_status_t status = dnnl_success;
    tt_status room = reserve(&scratchpad, e->scratchpad_bytes);
    if (room != TT_OK)
        return room;
    for (int role = 0; role < ROLES && status == dnnl_success; role++) {
        if (e->memory[role] == NULL)
            continue;
        status = dnnl.memory_set_data_handle(e->memory[role],
                                             role == SCRATCHPAD ? scratchpad.data : data[role]);
        list[count++] = (dnnl_exec_arg_t){arguments[role], e->memory[role]};
    }
    if (status == dnnl_success)
        status = dnnl.primitive_execute(e->primitive, stream, count, list);
    if (status == dnnl_success)
        status = dnnl.stream_wait(stream);
    return check(status, "a product");
}

/* ---- what the rows call ---- */

static tt_status pack(const tt_onednn_product *product, const void *b, void *packed)
{
    const tt_onednn_product key = {0, product->columns, product->k, product->threads,
                                   (product->flags & TT_ONEDNN_B_TRANSPOSED) | REORDER};
    entry *reorder;
    tt_status status = find_entry(&key, &reorder);
    return status != TT_OK ? status
                           : execute(reorder, (void *[ROLES]){[A] = (void *)b, [OUT] = packed});
}

static size_t packed_bytes(int64_t columns, int64_t k)
{
    dnnl_memory_desc_t packed;
    return start() == TT_OK && describe_packed(columns, k, &packed) == dnnl_success
               ? dnnl.memory_desc_get_size(&packed)
               : 0;
}

/* Weights that were not packed before are packed now: the same product, and the same bits. */
static tt_status run(const tt_onednn_product *product, const tt_onednn_operands *o)
{
    const void *b = o->b;
    entry *e;
    tt_status status = TT_OK;
    if (o->packed != NULL) {
        b = o->packed;
    } else if (product->flags & TT_ONEDNN_WEIGHTS) {
        status = reserve(&weights, packed_bytes(product->columns, product->k));
        if (status == TT_OK)
            status = pack(product, b, weights.data);
        b = weights.data;
    }
    if (status == TT_OK)
        status = find_entry(product, &e);
    if (status == TT_OK)
        status = execute(
            e, (void *[ROLES]){
                   [A] = (void *)o->a, [B] = (void *)b, [BIAS] = (void *)o->bias, [OUT] = o->out});
    return status;
}

/* With the threads asked for, and the caller's own setting as it was afterwards. */
static int enter(int threads)
{
    int before = omp_get_max_threads();
    pthread_mutex_lock(&lock);
    tt_onednn_load()->set_num_threads(threads);
    return before;
}

static void leave(int before)
{
    omp_set_num_threads(before);
    pthread_mutex_unlock(&lock);
}

tt_status tt_onednn_run(const tt_onednn_product *product, const tt_onednn_operands *operands)
{
    int before = enter(product->threads);
    tt_status status = start();
    if (status == TT_OK)
        status = run(product, operands);
    leave(before);
    return status;
}

size_t tt_onednn_packed_bytes(int64_t columns, int64_t k)
{
    int before = enter(1);
    size_t bytes = packed_bytes(columns, k);
    leave(before);
    return bytes;
}

tt_status tt_onednn_pack(const tt_onednn_product *product, const void *b, void *packed)
{
    int before = enter(product->threads);
    tt_status status = start();
    if (status == TT_OK)
        status = pack(product, b, packed);
    leave(before);
    return status;
}
