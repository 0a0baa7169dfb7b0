/* Passes as a whole: bits, accumulation, tensor memory, allocation, misuse. */
#include "support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- allocation is counted by the linker's --wrap ---- */

static long allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
int __real_posix_memalign(void **out, size_t align, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
int __wrap_posix_memalign(void **out, size_t align, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    allocations++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    allocations++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    allocations++;
    return __real_realloc(old, bytes);
}

int __wrap_posix_memalign(void **out, size_t align, size_t bytes)
{
    allocations++;
    return __real_posix_memalign(out, align, bytes);
}

void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
    allocations++;
    return __real_aligned_alloc(align, bytes);
}

/* ---- helpers ---- */

static const tt_optim_options optim = {.learning_rate = 1e-3,
                                       .minimum_rate = 1e-4,
                                       .warmup_steps = 2,
                                       .total_steps = 10,
                                       .beta1 = 0.9,
                                       .beta2 = 0.95,
                                       .epsilon = 1e-8,
                                       .weight_decay = 0.1,
                                       .clip = 1.0};

/* A whole training step from slot 0 to slot 1, `parts` microbatches to the batch. */
static double whole_step(bench *b, int64_t parts)
{
    double sum = 0.0;
    double loss, norm;
    uint64_t nonfinite;
    tt_verdict verdict;
    const void *params = b->slots[0].params;
    const int64_t rows = b->batch / parts;
    assert_ok(tt_model_begin_step(b->model));
    for (int64_t i = 0; i < parts; i++) {
        assert_ok(tt_model_forward_train(b->model, params, b->tokens + i * rows * b->time,
                                         b->targets + i * rows * b->time, rows, b->time,
                                         1.0 / (double)parts, &loss));
        assert_ok(tt_model_backward(b->model, params));
        sum += loss;
    }
    assert_ok(tt_gradient_norm(b->context, b->model, &norm, &nonfinite));
    assert_ok(
        tt_optim_step(b->context, b->model, &optim, 0, norm, &b->slots[0], &b->slots[1], &verdict));
    assert_int_equal(nonfinite + verdict.nonfinite, 0);
    return sum / (double)parts;
}

static bool all_exact(const bench *b)
{
    for (int op = 0; op < TT_OP_COUNT; op++) {
        if (tt_context_variant(b->context, (tt_op)op)->numerics != TT_NUMERICS_EXACT) {
            return false;
        }
    }
    return true;
}

static const tt_model_dims middle_dims = {2, 4, 64, 24, 131};

/* ---- tests ---- */

static void bits_do_not_depend_on_threads_or_run(void **state)
{
    (void)state;
    static const int threads[] = {1, 1, 2, 3};
    double *first[3] = {0};
    double first_loss = 0.0;
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        bench b;
        bench_open_with(&b, middle_dims, 4, 24,
                        (bench_options){.dtype = TT_F32, .threads = threads[i]});
        assert_true(all_exact(&b));
        fill_params(&b, 3);
        double loss = whole_step(&b, 1);
        double *got[3] = {read_reals(&b, tt_model_gradients(b.model), b.count),
                          read_reals(&b, b.slots[1].params, b.count),
                          read_reals(&b, b.slots[1].v, b.count)};
        for (int v = 0; v < 3; v++) {
            if (i == 0) {
                first[v] = got[v];
                continue;
            }
            assert_memory_equal(got[v], first[v], (size_t)b.count * sizeof(double));
            free(got[v]);
        }
        first_loss = i == 0 ? loss : first_loss;
        assert_true(loss == first_loss);
        bench_close(&b);
    }
    for (int v = 0; v < 3; v++) {
        free(first[v]);
    }
}

/* Gradients of 4 sequences at once, in two halves, in quarters. Every sum over rows runs in row
 * order, so only wte (head and embedding take turns) may differ, and that by rounding. */
static void microbatches_add_up_to_one_batch(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, middle_dims, 4, 24, TT_F32);
    fill_params(&b, 3);
    double loss = whole_step(&b, 1);
    double *whole = read_reals(&b, tt_model_gradients(b.model), b.count);
    for (int64_t parts = 2; parts <= 4; parts *= 2) {
        assert_true(fabs(whole_step(&b, parts) - loss) < 1e-12 * loss);
        double *sum = read_reals(&b, tt_model_gradients(b.model), b.count);
        for (size_t t = 0; t < tt_model_tensor_count(b.model); t++) {
            const tt_param_tensor *tensor = tt_model_tensor(b.model, t);
            double largest = 0.0;
            double difference = 0.0;
            for (int64_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
                largest = fmax(largest, fabs(whole[i]));
                difference = fmax(difference, fabs(whole[i] - sum[i]));
            }
            assert_true(difference <= (t == 0 ? 1e-6 * largest : 0.0));
        }
        free(sum);
    }
    free(whole);
    bench_close(&b);
}

/* Three microbatches: 1/3 is not exact, so bounds instead of bits. */
static void accumulation_in_f64_is_close(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, small_dims, 3, 9, TT_F64);
    fill_params(&b, 3);
    whole_step(&b, 1);
    double *whole = read_reals(&b, tt_model_gradients(b.model), b.count);
    whole_step(&b, 3);
    double *sum = read_reals(&b, tt_model_gradients(b.model), b.count);
    for (int64_t i = 0; i < b.count; i++) {
        assert_true(fabs(whole[i] - sum[i]) < 1e-14 + 1e-12 * fabs(whole[i]));
    }
    free(whole);
    free(sum);
    bench_close(&b);
}

/* In place (one slot) and into another slot: the same bits. */
static void one_slot_or_two(void **state)
{
    (void)state;
    bench b;
    tt_verdict two, one;
    bench_open(&b, small_dims, 2, 9, TT_F32);
    fill_params(&b, 3);
    gradients(&b);
    assert_ok(tt_optim_step(b.context, b.model, &optim, 3, 5.0, &b.slots[0], &b.slots[1], &two));
    assert_ok(tt_optim_step(b.context, b.model, &optim, 3, 5.0, &b.slots[0], &b.slots[0], &one));
    assert_true(two.update_squares > 0.0 && two.update_squares == one.update_squares);
    const void *pairs[3][2] = {{b.slots[0].params, b.slots[1].params},
                               {b.slots[0].m, b.slots[1].m},
                               {b.slots[0].v, b.slots[1].v}};
    for (int i = 0; i < 3; i++) {
        double *x = read_reals(&b, pairs[i][0], b.count);
        double *y = read_reals(&b, pairs[i][1], b.count);
        assert_memory_equal(x, y, (size_t)b.count * sizeof *x);
        free(x);
        free(y);
    }
    bench_close(&b);
}

static void a_warm_step_allocates_nothing(void **state)
{
    (void)state;
    bench b;
    tt_kv_store *store;
    tt_compressor *compressor;
    float logits[17];
    bench_open(&b, small_dims, 2, 9, TT_F32);
    fill_params(&b, 3);
    assert_ok(tt_kv_store_create(b.context, 2, 9, 12, &store));
    assert_ok(tt_compressor_create(b.context, &compressor));
    whole_step(&b, 2);
    assert_ok(tt_model_decode(b.model, b.slots[0].params, store, b.tokens, 4, logits));
    allocations = 0;
    size_t tensor_bytes = tt_tensor_bytes_used(b.context);
    whole_step(&b, 2);
    assert_int_equal(allocations, 0L);
    assert_ok(tt_model_decode(b.model, b.slots[0].params, store, b.tokens, 4, logits));
    assert_int_equal(allocations, 0L);
    for (int codec = TT_CODEC_INT8; codec >= TT_CODEC_F32; codec--) {
        assert_ok(tt_model_set_activation_codec(b.model, compressor, (tt_codec)codec, 64));
        whole_step(&b, 2);
        assert_int_equal(allocations, 0L);
    }
    assert_int_equal(tt_tensor_bytes_used(b.context), tensor_bytes);
    void *volatile counted = malloc(1); /* the counter counts */
    free(counted);
    assert_int_equal(allocations, 1);
    tt_compressor_destroy(compressor);
    tt_kv_store_destroy(store);
    bench_close(&b);
}

/* With tensor memory unreadable outside of operations everything still works, to the same bits. */
static void the_model_never_touches_tensor_bytes(void **state)
{
    (void)state;
    bench open, guarded;
    tt_kv_store *store;
    float logits[17];
    bench_open(&open, small_dims, 2, 9, TT_F32);
    bench_open_with(&guarded, small_dims, 2, 9,
                    (bench_options){.dtype = TT_F32, .threads = 2, .guard = true});
    assert_ok(tt_model_init_params(open.model, 11, open.slots[0].params));
    assert_ok(tt_model_init_params(guarded.model, 11, guarded.slots[0].params));
    assert_true(whole_step(&open, 2) == whole_step(&guarded, 2));
    assert_ok(tt_kv_store_create(guarded.context, 2, 9, 12, &store));
    assert_ok(
        tt_model_decode(guarded.model, guarded.slots[0].params, store, guarded.tokens, 9, logits));
    double *a = read_reals(&open, open.slots[1].params, open.count);
    double *b = read_reals(&guarded, guarded.slots[1].params, guarded.count);
    assert_memory_equal(a, b, (size_t)open.count * sizeof *a);
    free(a);
    free(b);
    pid_t child = fork();
    if (child == 0) { /* the guard guards */
        signal(SIGSEGV, SIG_DFL);
        _exit(*(volatile unsigned char *)guarded.slots[0].params == 0);
    }
    int ended = 0;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGSEGV);
    tt_kv_store_destroy(store);
    bench_close(&open);
    bench_close(&guarded);
}

static void misuse_is_refused(void **state)
{
    (void)state;
    bench b;
    double loss;
    bench_open(&b, small_dims, 2, 7, TT_F32);
    fill_params(&b, 3);
    const void *params = b.slots[0].params;
    assert_fails(tt_model_backward(b.model, params), TT_EINVAL, "forward_train");
    assert_ok(tt_model_forward(b.model, params, b.tokens, b.targets, 2, 7, &loss));
    assert_fails(tt_model_backward(b.model, params), TT_EINVAL, "forward_train");
    gradients(&b);
    assert_fails(tt_model_backward(b.model, params), TT_EINVAL, "forward_train");
    assert_ok(tt_model_forward_train(b.model, params, b.tokens, b.targets, 2, 7, 1.0, &loss));
    assert_ok(tt_model_forward(b.model, params, b.tokens, b.targets, 2, 7, &loss));
    assert_fails(tt_model_backward(b.model, params), TT_EINVAL, "forward_train");
    assert_fails(tt_model_forward(b.model, params, b.tokens, b.targets, 3, 7, &loss), TT_EINVAL,
                 "created for 2 of 7");
    assert_fails(tt_model_forward(b.model, params, b.tokens, b.targets, 2, 8, &loss), TT_EINVAL,
                 "created for 2 of 7");
    assert_fails(tt_model_forward(b.model, params, b.tokens, b.targets, 0, 7, &loss), TT_EINVAL,
                 "created for");
    b.tokens[9] = 17;
    assert_fails(tt_model_forward(b.model, params, b.tokens, b.targets, 2, 7, &loss), TT_EDATA,
                 "input token 9 is 17; model.vocab is 17");
    b.tokens[9] = 0;
    b.targets[3] = -1;
    assert_fails(tt_model_forward(b.model, params, b.tokens, b.targets, 2, 7, &loss), TT_EDATA,
                 "target token 3 is -1");
    bench_close(&b);
}

static void a_decoding_model_has_parameters_only(void **state)
{
    (void)state;
    bench b;
    double loss;
    tt_resident resident;
    size_t count = 0;
    bench_open(&b, small_dims, 0, 0, TT_F32);
    while (tt_model_resident(b.model, b.slots[0].params, count, &resident)) {
        assert_true(resident.is_parameter);
        count++;
    }
    assert_int_equal(count, tt_model_tensor_count(b.model));
    assert_null(tt_model_gradients(b.model));
    assert_fails(tt_model_begin_step(b.model), TT_EINVAL, "decoding only");
    assert_fails(tt_model_forward(b.model, b.slots[0].params, b.tokens, b.targets, 1, 1, &loss),
                 TT_EINVAL, "created for 0");
    bench_close(&b);
}

/* tt_model_forward without targets leaves logits; with them the same loss as training. */
static void evaluation_matches_training(void **state)
{
    (void)state;
    bench b;
    double evaluated, trained;
    bench_open(&b, small_dims, 2, 7, TT_F64);
    fill_params(&b, 3);
    const void *params = b.slots[0].params;
    assert_ok(tt_model_forward(b.model, params, b.tokens, NULL, 2, 7, NULL));
    assert_int_equal(resident_named(&b, "act.losses").count, 0);
    tt_resident logits = resident_named(&b, "act.logits");
    double *rows = read_reals(&b, logits.data, logits.count);
    double expected = 0.0;
    for (int64_t r = 0; r < 14; r++) {
        double sum = 0.0;
        for (int64_t i = 0; i < 17; i++) {
            sum += exp(rows[r * 17 + i]);
        }
        expected += log(sum) - rows[r * 17 + b.targets[r]];
    }
    free(rows);
    assert_ok(tt_model_forward(b.model, params, b.tokens, b.targets, 2, 7, &evaluated));
    assert_true(fabs(evaluated - expected / 14.0) < 1e-13 * evaluated);
    assert_ok(tt_model_forward_train(b.model, params, b.tokens, b.targets, 2, 7, 0.5, &trained));
    assert_true(trained == evaluated);
    assert_int_equal(resident_named(&b, "act.losses").count, 14);
    assert_ok(tt_model_forward(b.model, params, b.tokens, NULL, 2, 7, NULL));
    assert_int_equal(resident_named(&b, "act.losses").count, 0); /* those of an earlier pass */
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_threads_or_run),
        cmocka_unit_test(microbatches_add_up_to_one_batch),
        cmocka_unit_test(accumulation_in_f64_is_close),
        cmocka_unit_test(one_slot_or_two),
        cmocka_unit_test(a_warm_step_allocates_nothing),
        cmocka_unit_test(the_model_never_touches_tensor_bytes),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(a_decoding_model_has_parameters_only),
        cmocka_unit_test(evaluation_matches_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
