/* Decoding against the full forward pass, sampling, generation. */
#include "blocks_support.h"
#include "generate.h"
#include "model_internal.h"

/* ---- decoding ---- */

/* Logits of every position of one sequence by the full pass: [time, vocab]. */
static double *full_logits(bench *b, const int32_t *tokens, int64_t time)
{
    assert_ok(tt_model_forward(b->model, b->slots[0].params, tokens, NULL, 1, time, NULL));
    tt_resident logits = resident_named(b, "act.logits");
    return read_reals(b, logits.data, logits.count);
}

static void compare_row(const bench *b, const float *logits, const double *all, int64_t position,
                        double bound)
{
    const int64_t vocab = b->dims.vocab;
    for (int64_t i = 0; i < vocab; i++) {
        double expected = all[position * vocab + i];
        if (!(fabs((double)logits[i] - expected) <= bound)) {
            fail_msg("position %lld, logit %lld: %.9g, full pass %.9g", (long long)position,
                     (long long)i, (double)logits[i], expected);
        }
    }
}

/* Decodes `time` tokens in pieces of the given sizes (repeated) and compares after each piece. */
static void decode_in_pieces(bench *b, tt_kv_store *store, const double *all, const int64_t *sizes,
                             size_t size_count, double bound)
{
    float *logits = malloc((size_t)b->dims.vocab * sizeof *logits);
    assert_ok(tt_kv_store_truncate(store, 0));
    for (int64_t done = 0, i = 0; done < b->time; i++) {
        int64_t piece = sizes[(size_t)i % size_count];
        piece = piece < b->time - done ? piece : b->time - done;
        assert_ok(
            tt_model_decode(b->model, b->slots[0].params, store, b->tokens + done, piece, logits));
        done += piece;
        assert_int_equal(tt_kv_store_length(store), done);
        compare_row(b, logits, all, done - 1, bound);
    }
    free(logits);
}

static void check_decode(tt_model_dims dims, bench_options options, double bound)
{
    bench b;
    tt_kv_store *store;
    options.threads = 2;
    bench_open_with(&b, dims, 1, dims.context, options);
    fill_params(&b, 3);
    double *all = full_logits(&b, b.tokens, b.time);
    assert_ok(
        tt_kv_store_create(b.context, dims.layers, dims.context, tt_model_kv_width(&dims), &store));
    decode_in_pieces(&b, store, all, (const int64_t[]){dims.context}, 1, bound);
    decode_in_pieces(&b, store, all, (const int64_t[]){1}, 1, bound);
    decode_in_pieces(&b, store, all, (const int64_t[]){3, 1, 4, 2}, 4, bound);
    free(all);
    tt_kv_store_destroy(store);
    bench_close(&b);
}

static void decode_equals_the_full_pass(void **state)
{
    (void)state;
    /* Logits here are below 20: float's own rounding of the result is 1e-6. */
    const bench_options f32 = {.dtype = TT_F32};
    check_decode(small_dims, (bench_options){.dtype = TT_F64}, 1e-6);
    check_decode(small_dims, f32, 1e-4);
    check_decode(small_dims, (bench_options){.dtype = TT_F32, .variants = "reference"}, 1e-4);
    check_decode(gpt2_dims(3, 4, 64, 48, 131), f32, 3e-4);
    /* Longer than what is decoded at a time inside. */
    check_decode(gpt2_dims(2, 2, 8, 600, 11), f32, 1e-4);
    /* Attention that adds in another order now and then rounds to the neighbour in bf16: 2^-8 of
     * what it is, and of a logit that is made of it. */
    check_decode(gpt2_dims(3, 4, 64, 48, 131), (bench_options){.dtype = TT_F32, .bf16 = true},
                 20 * 0x1p-8);
}

static void other_blocks_decode_as_well(void **state)
{
    (void)state;
    for (size_t i = 0; i < BLOCK_DIMS; i++) {
        check_decode(block_dims[i], (bench_options){.dtype = TT_F64}, 1e-6);
        check_decode(block_dims[i], (bench_options){.dtype = TT_F32}, 1e-4);
    }
    check_decode(llama_dims, (bench_options){.dtype = TT_F32, .variants = "reference"}, 1e-4);
    check_decode(middle_llama_dims, (bench_options){.dtype = TT_F32}, 3e-4);
    check_decode(middle_llama_dims, (bench_options){.dtype = TT_F32, .bf16 = true}, 20 * 0x1p-8);
}

static void a_decode_disturbs_no_training_pass(void **state)
{
    (void)state;
    bench b;
    tt_kv_store *store;
    float logits[17];
    double loss;
    bench_open(&b, small_dims, 2, 9, TT_F32);
    fill_params(&b, 3);
    gradients(&b);
    double *before = read_reals(&b, tt_model_gradients(b.model), b.count);
    assert_ok(tt_kv_store_create(b.context, 2, 9, 12, &store));
    assert_ok(tt_model_begin_step(b.model));
    assert_ok(
        tt_model_forward_train(b.model, b.slots[0].params, b.tokens, b.targets, 2, 9, 1.0, &loss));
    assert_ok(tt_model_decode(b.model, b.slots[0].params, store, b.targets, 9, logits));
    assert_ok(tt_model_backward(b.model, b.slots[0].params));
    double *after = read_reals(&b, tt_model_gradients(b.model), b.count);
    assert_memory_equal(before, after, (size_t)b.count * sizeof *before);
    free(before);
    free(after);
    tt_kv_store_destroy(store);
    bench_close(&b);
}

/* ---- weights packed ahead ---- */

/* Logits of the last token of each piece: [ROUNDS, vocab], from what is packed or not. */
enum { ROUNDS = 4 };

static float *logits_in_pieces(bench *b, tt_kv_store *store, const void *params)
{
    static const int64_t pieces[ROUNDS] = {3, 1, 1, 2};
    const int64_t vocab = b->dims.vocab;
    float *out = malloc((size_t)(ROUNDS * vocab) * sizeof *out);
    assert_non_null(out);
    assert_ok(tt_kv_store_truncate(store, 0));
    for (int64_t i = 0, done = 0; i < ROUNDS; done += pieces[i++]) {
        const int32_t tokens[] = {(int32_t)done, 7, 2};
        assert_ok(tt_model_decode(b->model, params, store, tokens, pieces[i], out + i * vocab));
    }
    return out;
}

static bool same_logits(bench *b, tt_kv_store *store, const void *params, const float *expected)
{
    float *got = logits_in_pieces(b, store, params);
    const bool same = memcmp(got, expected, (size_t)(ROUNDS * b->dims.vocab) * sizeof *got) == 0;
    free(got);
    return same;
}

static void check_packed_decode(tt_model_dims dims, int64_t batch, const char *variants)
{
    bench b;
    tt_kv_store *store;
    bench_open_with(
        &b, dims, batch, batch ? dims.context : 0,
        (bench_options){.dtype = TT_F32, .threads = 2, .bf16 = true, .variants = variants});
    assert_ok(
        tt_kv_store_create(b.context, dims.layers, dims.context, tt_model_kv_width(&dims), &store));
    void *params = b.slots[0].params;
    assert_ok(tt_model_init_params(b.model, 3, params));
    float *expected = logits_in_pieces(&b, store, params);
    assert_ok(tt_model_pack_for_decoding(b.model, params));
    assert_true(same_logits(&b, store, params, expected));
    /* Behind its back other weights come: they are packed ones that are read, where there are. */
    const bool packs = tt_linear_packed_bytes(b.context, TT_OP_LINEAR_FORWARD, 64, 64) > 0;
    assert_ok(tt_model_init_params(b.model, 4, params));
    float *mixed = logits_in_pieces(&b, store, params);
    tt_model_unpack_weights(b.model);
    assert_int_equal(same_logits(&b, store, params, mixed), !packs);
    free(expected);
    free(mixed);
    tt_kv_store_destroy(store);
    bench_close(&b);
}

static void packed_weights_decode_to_the_same_bits(void **state)
{
    (void)state;
    static const char *const variants[] = {NULL, "reference", "blocked_v1"};
    for (int64_t batch = 0; batch < 2; batch++) {
        for (int v = 0; v < 3; v++) {
            check_packed_decode(gpt2_dims(3, 4, 64, 48, 131), batch, variants[v]);
            check_packed_decode(middle_llama_dims, batch, variants[v]);
        }
    }
}

/* What is packed lies in the gradients' place: the next step does not see that it was there. */
static void packing_costs_gradients_that_nobody_needs(void **state)
{
    (void)state;
    bench b;
    double loss;
    /* Tensors with gaps between them, which the norm of the gradients reads. */
    bench_open_with(&b, gpt2_dims(3, 4, 132, 24, 131), 2, 24,
                    (bench_options){.dtype = TT_F32, .threads = 2, .bf16 = true});
    const void *params = b.slots[0].params;
    assert_ok(tt_model_init_params(b.model, 3, b.slots[0].params));
    gradients(&b);
    double *before = read_reals(&b, tt_model_gradients(b.model), b.count);
    assert_ok(tt_model_pack_for_decoding(b.model, params));
    double *packed = read_reals(&b, tt_model_gradients(b.model), b.count);
    tt_model_unpack_weights(b.model);
    gradients(&b);
    double *after = read_reals(&b, tt_model_gradients(b.model), b.count);
    assert_memory_not_equal(packed, before, (size_t)b.count * sizeof *before);
    assert_memory_equal(after, before, (size_t)b.count * sizeof *before);
    assert_ok(tt_model_begin_step(b.model));
    assert_ok(tt_model_forward_train(b.model, params, b.tokens, b.targets, 2, 24, 1.0, &loss));
    assert_fails(tt_model_pack_for_decoding(b.model, params), TT_EINVAL, "backward");
    assert_ok(tt_model_backward(b.model, params));
    free(before);
    free(packed);
    free(after);
    bench_close(&b);
}

/* A store holds what was computed when its first token came. */
static void a_store_is_of_one_type(void **state)
{
    (void)state;
    bench b;
    tt_kv_store *store;
    float narrow[17], wide[17], logits[17];
    bench_open(&b, small_dims, 0, 0, TT_F32);
    fill_params(&b, 3);
    const void *params = b.slots[0].params;
    const int32_t tokens[] = {1, 2, 3, 4};
    assert_ok(tt_kv_store_create(b.context, 2, 9, 12, &store));
    assert_ok(tt_model_decode(b.model, params, store, tokens, 4, wide));
    assert_ok(tt_model_set_compute(b.model, TT_BF16));
    assert_fails(tt_model_decode(b.model, params, store, tokens, 1, logits), TT_EINVAL,
                 "holds f32 cannot take bf16");
    assert_ok(tt_kv_store_truncate(store, 0));
    assert_ok(tt_model_decode(b.model, params, store, tokens, 4, narrow));
    assert_memory_not_equal(narrow, wide, sizeof wide);
    assert_ok(tt_kv_store_truncate(store, 0));
    assert_ok(tt_model_set_compute(b.model, TT_F32));
    assert_ok(tt_model_decode(b.model, params, store, tokens, 4, logits));
    assert_memory_equal(logits, wide, sizeof wide);
    tt_kv_store_destroy(store);
    bench_close(&b);
}

static void decode_refuses_what_does_not_fit(void **state)
{
    (void)state;
    bench b;
    tt_kv_store *store, *shallow;
    float logits[17];
    bench_open(&b, small_dims, 0, 0, TT_F32);
    assert_ok(tt_kv_store_create(b.context, 2, 6, 12, &store));
    assert_ok(tt_kv_store_create(b.context, 1, 6, 12, &shallow));
    const void *params = b.slots[0].params;
    const int32_t tokens[] = {1, 2, 3, 4, 17, 6, 7};
    assert_fails(tt_model_decode(b.model, params, store, tokens, 7, logits), TT_EINVAL,
                 "room for 6");
    assert_fails(tt_model_decode(b.model, params, store, tokens, 0, logits), TT_EINVAL, "0 tokens");
    assert_fails(tt_model_decode(b.model, params, store, tokens, 5, logits), TT_EDATA,
                 "token 4 is 17");
    assert_int_equal(tt_kv_store_length(store), 0);
    assert_fails(tt_model_decode(b.model, params, shallow, tokens, 3, logits), TT_EINVAL,
                 "layer 1 of a KV store that has 1");
    assert_int_equal(tt_kv_store_length(shallow), 0);
    tt_kv_store_destroy(store);
    tt_kv_store_destroy(shallow);
    bench_close(&b);
}

/* ---- sampling ---- */

static void greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    float scratch[6];
    const float logits[6] = {1.0F, 3.0F, 2.0F, 3.0F, -1.0F, 3.0F};
    assert_int_equal(tt_sample_token(logits, 6, 0.0, 0, 0.99, scratch), 1);
    assert_int_equal(tt_sample_token(logits, 6, 1.0, 1, 0.99, scratch), 1);
    const float with_nan[3] = {NAN, -5.0F, NAN};
    assert_int_equal(tt_sample_token(with_nan, 3, 0.0, 0, 0.5, scratch), 1);
    assert_int_equal(tt_sample_token(with_nan, 3, 1.0, 0, 0.999, scratch), 1);
    assert_int_equal(tt_sample_token(with_nan, 3, 1.0, 2, 0.999, scratch), 1);
    const float infinite[3] = {0.0F, INFINITY, 9.0F};
    assert_int_equal(tt_sample_token(infinite, 3, 1.0, 0, 0.999, scratch), 1);
    assert_int_equal(tt_sample_token(logits, 1, 1.0, 0, 0.999, scratch), 0);
}

/* The token whose share of the cumulative distribution holds `uniform`, computed by sorting. */
static int32_t expected_token(const float *logits, int vocab, double temperature, int top_k,
                              double uniform)
{
    double p[64];
    double sum = 0.0;
    for (int i = 0; i < vocab; i++) {
        int larger = 0; /* that stand before i in the order of top-k */
        for (int j = 0; j < vocab; j++) {
            larger += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
        }
        p[i] = top_k == 0 || larger < top_k ? exp((double)logits[i] / temperature) : 0.0;
        sum += p[i];
    }
    double below = 0.0;
    for (int i = 0; i < vocab; i++) {
        below += p[i] / sum;
        if (p[i] > 0.0 && uniform < below) {
            return i;
        }
    }
    return -1;
}

/* A fine grid of uniforms visits every token by exactly its probability. */
static void sampling_follows_the_distribution(void **state)
{
    (void)state;
    enum { VOCAB = 50, GRID = 20011 };
    float logits[VOCAB], scratch[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        double draw = tt_random_uniform(2, 3, (uint64_t)i);
        logits[i] = (float)(floor(8.0 * draw) / 2.0); /* many ties */
    }
    static const double temperatures[] = {0.3, 1.0, 2.5};
    static const int tops[] = {0, 1, 2, 7, 20, 49, 50, 500};
    for (size_t t = 0; t < 3; t++) {
        for (size_t k = 0; k < 8; k++) {
            int off = 0;
            for (int i = 0; i < GRID; i++) {
                double u = ((double)i + 0.5) / GRID;
                int32_t got = tt_sample_token(logits, VOCAB, temperatures[t], tops[k], u, scratch);
                off += got != expected_token(logits, VOCAB, temperatures[t], tops[k], u);
            }
            /* At a border between two tokens the float weights may round the other way. */
            assert_true(off <= 2);
        }
    }
    assert_int_equal(tt_sample_token(logits, VOCAB, 1.0, 0, 0.0, scratch), 0);
}

/* ---- generation ---- */

typedef struct sink {
    int32_t tokens[64];
    int64_t count, stop_after;
    const tt_model *model; /* whose packed weights are looked for; may be NULL */
    int64_t packed;        /* tokens that came while there were some */
} sink;

static bool collect(void *user, int32_t token)
{
    sink *s = user;
    s->tokens[s->count++] = token;
    s->packed += s->model && s->model->packed.variant[0] != NULL;
    return s->count != s->stop_after;
}

/* The same text by full passes over the window that a store of `room` tokens would hold. */
static void expected_text(bench *b, const int32_t *prompt, int64_t count, int64_t room,
                          const tt_generation_options *o, int32_t *out)
{
    int32_t window[16];
    float logits[17], scratch[17];
    int64_t filled = count < room ? count : room;
    memcpy(window, prompt + count - filled, (size_t)filled * sizeof *window);
    for (int64_t n = 0; n < o->max_tokens; n++) {
        double *all = full_logits(b, window, filled);
        for (int i = 0; i < 17; i++) {
            logits[i] = (float)all[(filled - 1) * 17 + i];
        }
        free(all);
        out[n] = tt_sample_token(
            logits, 17, o->temperature, o->top_k,
            tt_random_uniform(o->seed, UINT64_C(0x5a3b1e0000000000), (uint64_t)n), scratch);
        if (filled == room) {
            memmove(window, window + room - room / 2, (size_t)(room / 2) * sizeof *window);
            filled = room / 2;
        }
        window[filled++] = out[n];
    }
}

static void generation_equals_full_passes(void **state)
{
    (void)state;
    bench b;
    tt_kv_store *store, *small;
    bench_open(&b, small_dims, 1, 9, TT_F64);
    fill_params(&b, 3);
    assert_ok(tt_kv_store_create(b.context, 2, 9, 12, &store));
    assert_ok(tt_kv_store_create(b.context, 2, 5, 12, &small));
    const int32_t prompt[12] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
    static const int64_t lengths[] = {1, 4, 9, 12};
    for (size_t i = 0; i < 4; i++) {
        for (int top_k = 0; top_k <= 3; top_k += 3) {
            const tt_generation_options o = {
                .temperature = 0.8, .top_k = top_k, .seed = 5 + i, .max_tokens = 30};
            sink s = {0}, again = {0}, other = {0}, stopped = {.stop_after = 3};
            int32_t expected[64];
            expected_text(&b, prompt, lengths[i], 9, &o, expected);
            const void *params = b.slots[0].params;
            assert_ok(tt_generate(b.model, params, store, prompt, lengths[i], &o, collect, &s));
            assert_int_equal(s.count, 30);
            assert_memory_equal(s.tokens, expected, 30 * sizeof *expected);
            assert_ok(tt_generate(b.model, params, store, prompt, lengths[i], &o, collect, &again));
            assert_memory_equal(s.tokens, again.tokens, sizeof s.tokens);
            assert_ok(
                tt_generate(b.model, params, store, prompt, lengths[i], &o, collect, &stopped));
            assert_int_equal(stopped.count, 3);
            tt_generation_options seeded = o;
            seeded.seed = 77;
            assert_ok(
                tt_generate(b.model, params, store, prompt, lengths[i], &seeded, collect, &other));
            assert_memory_not_equal(s.tokens, other.tokens, sizeof s.tokens);
            sink narrow = {0};
            expected_text(&b, prompt, lengths[i], 5, &o, expected);
            assert_ok(
                tt_generate(b.model, params, small, prompt, lengths[i], &o, collect, &narrow));
            assert_memory_equal(narrow.tokens, expected, 30 * sizeof *expected);
        }
    }
    const tt_generation_options none = {.max_tokens = 3};
    assert_fails(tt_generate(b.model, b.slots[0].params, store, prompt, 0, &none, collect, NULL),
                 TT_EINVAL, "at least one token");
    tt_kv_store_destroy(store);
    tt_kv_store_destroy(small);
    bench_close(&b);
}

/* For many tokens weights are packed first, for few they are not: the text begins alike. */
static void generation_packs_where_it_pays(void **state)
{
    (void)state;
    const tt_model_dims dims = middle_llama_dims;
    const int32_t prompt[3] = {3, 1, 4};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (int64_t batch = 0; batch < 2; batch++) {
            bench b;
            tt_kv_store *store;
            bench_open_with(&b, dims, batch, batch ? dims.context : 0,
                            (bench_options){.dtype = TT_F32, .threads = 2, .bf16 = bf16});
            assert_ok(tt_kv_store_create(b.context, dims.layers, dims.context,
                                         tt_model_kv_width(&dims), &store));
            assert_ok(tt_model_init_params(b.model, 3, b.slots[0].params));
            tt_generation_options o = {.temperature = 1, .seed = 9, .max_tokens = 31};
            sink few = {.model = b.model}, many = {.model = b.model};
            assert_ok(tt_generate(b.model, b.slots[0].params, store, prompt, 3, &o, collect, &few));
            o.max_tokens = 32;
            assert_ok(
                tt_generate(b.model, b.slots[0].params, store, prompt, 3, &o, collect, &many));
            assert_int_equal(few.packed, 0);
            assert_int_equal(many.packed, bf16 ? 32 : 0);
            assert_memory_equal(few.tokens, many.tokens, 31 * sizeof *few.tokens);
            assert_null(b.model->packed.params); /* they are for this generation alone */
            tt_kv_store_destroy(store);
            bench_close(&b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_equals_the_full_pass),
        cmocka_unit_test(other_blocks_decode_as_well),
        cmocka_unit_test(a_decode_disturbs_no_training_pass),
        cmocka_unit_test(packed_weights_decode_to_the_same_bits),
        cmocka_unit_test(packing_costs_gradients_that_nobody_needs),
        cmocka_unit_test(a_store_is_of_one_type),
        cmocka_unit_test(decode_refuses_what_does_not_fit),
        cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(sampling_follows_the_distribution),
        cmocka_unit_test(generation_equals_full_passes),
        cmocka_unit_test(generation_packs_where_it_pays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
