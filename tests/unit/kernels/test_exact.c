/* The numerics class `exact`: the same bits for every tile, thread count and batch split, and for a
 * query whether it comes in a batch, alone or from the cache. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef void (*variant_check)(const tt_variant_info *info);

/* Of each operation: the reference and at least one more, where all variants are tested. */
static int least = 2;

/* Calls check for every variant that claims to be exact and that this machine has, but double. */
static void for_exact_variants(tt_op op, variant_check check)
{
    int count = 0;
    for (size_t v = 0; v < tt_variant_count(); v++) {
        const tt_variant_info *info = tt_variant_at(v);
        if (kt_is_testable(info, op) && info->numerics == TT_NUMERICS_EXACT) {
            check(info);
            count++;
        }
    }
    assert_true(count >= least);
}

static void expect_same(const kt_case *in, const kt_case *expected, const kt_setting *setting)
{
    kt_case got = kt_clone(in);
    kt_run(&got, setting);
    if (!kt_same_bits(expected, &got))
        fail_msg("%s %s, tile %dx%dx%d, %d threads", tt_op_name(in->op), setting->variant,
                 setting->tile.m, setting->tile.n, setting->tile.k, setting->threads);
    kt_clear(&got);
}

static void check_options(const tt_variant_info *info, const int64_t size[5], kt_options with)
{
    static const int sides[] = {16, 32, 64, 128, 256, 512};
    kt_case in = kt_make_with(info->op, size, &with, 11);
    kt_case expected = kt_clone(&in);
    kt_setting setting = kt_setting_of(info);
    setting.threads = 1;
    kt_run(&expected, &setting);
    for (int i = 0; info->tiled && i < 6; i++)
        for (int j = 0; j < 6; j++) {
            setting.threads = 1 + (i + j) % 3;
            setting.tile = (tt_tile){sides[i], sides[j], sides[(i + 2 * j) % 6]};
            expect_same(&in, &expected, &setting);
        }
    static const int threads[] = {2, 3, 5};
    for (int i = 0; i < 3; i++) {
        setting.threads = threads[i];
        expect_same(&in, &expected, &setting);
    }
    kt_clear(&in);
    kt_clear(&expected);
}

static void check_tiles_and_threads(const tt_variant_info *info, const int64_t size[5])
{
    check_options(info, size, (kt_options){0});
}

static void check_linear(const tt_variant_info *info)
{
    check_tiles_and_threads(info, (int64_t[5]){131, 157, 143});
    check_tiles_and_threads(info, (int64_t[5]){33, 545, 70});
}

static void check_rows(const tt_variant_info *info)
{
    check_tiles_and_threads(info, (int64_t[5]){301, 203});
}

static void check_norm(const tt_variant_info *info)
{
    check_options(info, (int64_t[5]){301, 203}, (kt_options){.branch = true, .dx_act = true});
}

static void check_rope(const tt_variant_info *info)
{
    check_options(info, (int64_t[5]){3, 57, 5, 6, 50}, (kt_options){.kv_heads = 2});
}

static void check_elements(const tt_variant_info *info)
{
    check_tiles_and_threads(info, (int64_t[5]){200003});
    if (info->op == TT_OP_ADAMW)
        check_options(info, (int64_t[5]){200003}, (kt_options){.bf16_weights = true});
}

static void check_embedding(const tt_variant_info *info)
{
    check_tiles_and_threads(info, (int64_t[5]){3, 201, 150, 13});
    if (info->op == TT_OP_EMBEDDING_FORWARD)
        check_options(info, (int64_t[5]){3, 201, 150, 13}, (kt_options){.bf16_weights = true});
}

static void check_attention(const tt_variant_info *info)
{
    check_tiles_and_threads(info, (int64_t[5]){3, 131, 3, 3 * 24});
    check_options(info, (int64_t[5]){2, 131, 6, 6 * 24}, (kt_options){.kv_heads = 2});
}

static void check_cached(const tt_variant_info *info)
{
    check_tiles_and_threads(info, (int64_t[5]){50, 75, 3, 3 * 24, 9 * 24});
}

static void test_tiles_and_threads(void **state)
{
    (void)state;
    static const variant_check checks[TT_OP_COUNT] = {
        [TT_OP_LINEAR_FORWARD] = check_linear,
        [TT_OP_LINEAR_DGRAD] = check_linear,
        [TT_OP_LINEAR_WGRAD] = check_linear,
        [TT_OP_EMBEDDING_FORWARD] = check_embedding,
        [TT_OP_EMBEDDING_BACKWARD] = check_embedding,
        [TT_OP_LAYERNORM_FORWARD] = check_norm,
        [TT_OP_LAYERNORM_BACKWARD] = check_norm,
        [TT_OP_RMSNORM_FORWARD] = check_norm,
        [TT_OP_RMSNORM_BACKWARD] = check_norm,
        [TT_OP_ROPE] = check_rope,
        [TT_OP_ATTENTION_FORWARD] = check_attention,
        [TT_OP_ATTENTION_BACKWARD] = check_attention,
        [TT_OP_ATTENTION_CACHED] = check_cached,
        [TT_OP_GELU_FORWARD] = check_elements,
        [TT_OP_GELU_BACKWARD] = check_elements,
        [TT_OP_SWIGLU_FORWARD] = check_rows,
        [TT_OP_SWIGLU_BACKWARD] = check_rows,
        [TT_OP_ADD] = check_elements,
        [TT_OP_SOFTMAX_XENT] = check_rows,
        [TT_OP_STATS] = check_elements,
        [TT_OP_ADAMW] = check_elements,
    };
    for (int op = 0; op < TT_OP_COUNT; op++)
        for_exact_variants((tt_op)op, checks[op]);
}

/* Sizes and elements of rows [begin, end) of a case split along its first size. Tensors whose
 * length is that of the whole divided by the rows are split, the others shared. */
static kt_case take_rows(const kt_case *whole, int64_t begin, int64_t end, const bool split[])
{
    int64_t rows = whole->size[0];
    kt_case part = kt_clone(whole);
    part.size[0] = end - begin;
    for (int k = 0; k < whole->count; k++) {
        if (!split[k])
            continue;
        int64_t width = whole->t[k].n / rows;
        part.t[k].n = width * (end - begin);
        memcpy(part.t[k].value, whole->t[k].value + begin * width,
               (size_t)part.t[k].n * sizeof(double));
    }
    return part;
}

/* Runs the case in microbatches of uneven size: split outputs are gathered, shared ones are carried
 * on from one to the next; then compares with one run. */
static void check_split(const tt_variant_info *info, const int64_t size[5], const bool split[])
{
    kt_options with = {.accumulate = true};
    kt_case in = kt_make_with(info->op, size, &with, 13), expected = kt_clone(&in);
    kt_case got = kt_clone(&in);
    kt_setting setting = kt_setting_of(info);
    kt_run(&expected, &setting);
    for (int64_t begin = 0, end; begin < size[0]; begin = end) {
        end = begin + 1 + begin % 4 * 7 < size[0] ? begin + 1 + begin % 4 * 7 : size[0];
        kt_case part = take_rows(&got, begin, end, split);
        setting.tile.m = 16 << (begin % 3);
        kt_run(&part, &setting);
        for (int k = 0; k < in.count; k++) {
            int64_t at = split[k] ? begin * (in.t[k].n / size[0]) : 0;
            memcpy(got.t[k].value + at, part.t[k].value, (size_t)part.t[k].n * sizeof(double));
        }
        kt_clear(&part);
    }
    if (!kt_same_bits(&expected, &got))
        fail_msg("%s %s in microbatches", tt_op_name(info->op), info->name);
    kt_clear(&in);
    kt_clear(&expected);
    kt_clear(&got);
}

static void split_linear_forward(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){75, 50, 70}, (bool[]){true, false, false, true});
}

static void split_linear_dgrad(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){75, 50, 70}, (bool[]){true, false, true});
}

static void split_linear_wgrad(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){75, 50, 70}, (bool[]){true, true, false, false});
}

static void split_embedding_backward(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){9, 17, 33, 5}, (bool[]){true, true, false, false});
}

static void split_layernorm_backward(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){60, 50},
                (bool[]){true, true, false, true, true, true, false, false});
}

static void split_rmsnorm_backward(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){60, 50}, (bool[]){true, true, false, true, true, false});
}

static void split_rope(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){9, 7, 3, 2, 12}, (bool[]){true});
}

static void split_swiglu(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){60, 50}, (bool[]){true, true, true});
}

static void split_attention_forward(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){9, 40, 2, 32}, (bool[]){true, true, true});
}

static void split_attention_backward(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){9, 40, 2, 32}, (bool[]){true, true, true, true, true});
}

static void split_softmax(const tt_variant_info *info)
{
    check_split(info, (int64_t[5]){60, 50}, (bool[]){true, true, true, true});
}

static void test_microbatches(void **state)
{
    (void)state;
    for_exact_variants(TT_OP_LINEAR_FORWARD, split_linear_forward);
    for_exact_variants(TT_OP_LINEAR_DGRAD, split_linear_dgrad);
    for_exact_variants(TT_OP_LINEAR_WGRAD, split_linear_wgrad);
    for_exact_variants(TT_OP_EMBEDDING_BACKWARD, split_embedding_backward);
    for_exact_variants(TT_OP_LAYERNORM_BACKWARD, split_layernorm_backward);
    for_exact_variants(TT_OP_RMSNORM_BACKWARD, split_rmsnorm_backward);
    for_exact_variants(TT_OP_ROPE, split_rope);
    for_exact_variants(TT_OP_SWIGLU_FORWARD, split_swiglu);
    for_exact_variants(TT_OP_SWIGLU_BACKWARD, split_swiglu);
    for_exact_variants(TT_OP_ATTENTION_FORWARD, split_attention_forward);
    for_exact_variants(TT_OP_ATTENTION_BACKWARD, split_attention_backward);
    for_exact_variants(TT_OP_SOFTMAX_XENT, split_softmax);
}

/* The last `count` positions of a sequence, from the cache, have the bits of the whole sequence. */
static void check_cached_suffix(const tt_variant_info *info)
{
    enum { TIME = 211, HEADS = 4, KV_HEADS = 2, SIZE = 24 };
    enum { CHANNELS = HEADS * SIZE, KV = KV_HEADS * SIZE, WIDE = CHANNELS + 2 * KV };
    kt_options with = {.kv_heads = KV_HEADS};
    kt_case whole =
        kt_make_with(TT_OP_ATTENTION_FORWARD, (int64_t[5]){1, TIME, HEADS, CHANNELS}, &with, 3);
    kt_setting setting = kt_setting_of(info);
    kt_run(&whole, &setting);
    static const int64_t counts[] = {1, 2, 3, 14, 96, 97, 150, TIME};
    for (int n = 0; n < 8; n++) {
        int64_t count = counts[n], position = TIME - count;
        kt_case tail =
            kt_make_with(TT_OP_ATTENTION_CACHED,
                         (int64_t[5]){count, position, HEADS, CHANNELS, CHANNELS}, &with, 5);
        for (int64_t t = 0; t < TIME; t++) {
            const double *row = whole.t[0].value + t * WIDE;
            if (t >= position)
                memcpy(tail.t[0].value + (t - position) * CHANNELS, row, CHANNELS * sizeof *row);
            memcpy(tail.t[1].value + t * KV, row + CHANNELS, KV * sizeof *row);
            memcpy(tail.t[2].value + t * KV, row + CHANNELS + KV, KV * sizeof *row);
        }
        kt_run(&tail, &setting);
        assert_memory_equal(tail.t[3].value, whole.t[1].value + position * CHANNELS,
                            (size_t)(count * CHANNELS) * sizeof(double));
        kt_clear(&tail);
    }
    kt_clear(&whole);
}

static void test_cache_has_the_bits_of_the_sequence(void **state)
{
    (void)state;
    for_exact_variants(TT_OP_ATTENTION_CACHED, check_cached_suffix);
}

/* Streaming, plain and in-place stores give the same bits. */
static void check_stores_of(const tt_variant_info *info, bool bf16_weights)
{
    const kt_options with = {.bf16_weights = bf16_weights};
    kt_case in = kt_make_with(TT_OP_ADAMW, (int64_t[5]){50001}, &with, 17);
    kt_case expected = kt_clone(&in);
    kt_setting setting = kt_setting_of(info);
    setting.stream_bytes = INT64_MAX;
    kt_run(&expected, &setting);
    setting.stream_bytes = 0;
    expect_same(&in, &expected, &setting);
    in.with.in_place = true;
    expect_same(&in, &expected, &setting);
    kt_clear(&in);
    kt_clear(&expected);
}

static void check_stores(const tt_variant_info *info)
{
    check_stores_of(info, false);
    check_stores_of(info, true);
}

/* Where the sums of dq find no room, the weights are computed once more: the bits stay. */
static void check_narrow_scratch(const tt_variant_info *info)
{
    enum { LEAST_FLOATS = 2040832, LEAST_PAIRS = 1352512 };
    /* The widest head's blocks, and 48 Ki floats; packed, bf16 takes half the room. */
    size_t least_bytes = info->isa == TT_ISA_AVX512_BF16 ? LEAST_PAIRS : LEAST_FLOATS;
    static const int64_t times[] = {350, 700}; /* room for one head of the two; for none */
    for (int i = 0; i < 2 && strcmp(info->name, "reference") != 0; i++) {
        const kt_options with = {.kv_heads = 1};
        const int64_t size[5] = {1, times[i], 2, 160};
        kt_case in = kt_make_with(TT_OP_ATTENTION_BACKWARD, size, &with, 23);
        kt_case expected = kt_clone(&in);
        kt_setting setting = kt_setting_of(info);
        kt_run(&expected, &setting);
        setting.scratch_bytes = least_bytes;
        expect_same(&in, &expected, &setting);
        kt_clear(&in);
        kt_clear(&expected);
    }
}

static void test_narrow_scratch(void **state)
{
    (void)state;
    for_exact_variants(TT_OP_ATTENTION_BACKWARD, check_narrow_scratch);
}

/* A decoded position turns by the bits of the whole sequence. */
static void check_rope_suffix(const tt_variant_info *info)
{
    enum { TIME = 67, WIDE = 3 * 2 * 24 };
    kt_case whole = kt_make(TT_OP_ROPE, (int64_t[5]){1, TIME, 11, 2, 24}, 3);
    kt_case ran = kt_clone(&whole);
    kt_setting setting = kt_setting_of(info);
    kt_run(&ran, &setting);
    for (int64_t t = 0; t < TIME; t += 13) {
        kt_case one = kt_make(TT_OP_ROPE, (int64_t[5]){1, 1, 11 + t, 2, 24}, 3);
        memcpy(one.t[0].value, whole.t[0].value + t * WIDE, WIDE * sizeof(double));
        kt_run(&one, &setting);
        assert_memory_equal(one.t[0].value, ran.t[0].value + t * WIDE, WIDE * sizeof(double));
        kt_clear(&one);
    }
    kt_clear(&whole);
    kt_clear(&ran);
}

static void test_a_position_turns_alike_alone(void **state)
{
    (void)state;
    for_exact_variants(TT_OP_ROPE, check_rope_suffix);
}

static void test_stores(void **state)
{
    (void)state;
    for_exact_variants(TT_OP_ADAMW, check_stores);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles_and_threads),
        cmocka_unit_test(test_microbatches),
        cmocka_unit_test(test_cache_has_the_bits_of_the_sequence),
        cmocka_unit_test(test_a_position_turns_alike_alone),
        cmocka_unit_test(test_narrow_scratch),
        cmocka_unit_test(test_stores),
    };
    kt_select(argc, argv);
    least = argc == 3 ? 0 : least;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
