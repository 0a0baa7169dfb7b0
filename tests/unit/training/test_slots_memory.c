/* Memory really falls: what is resident of the tensors' memory, page by page, and what was said. */
#include "slots_support.h"

#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static const tt_model_dims dims = {
    .layers = 4, .heads = 4, .channels = 256, .context = 32, .vocab = 256};

/* Bytes in memory of [begin, begin + bytes), which other mappings may surround. */
static int64_t resident(const void *begin, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)begin / page * page;
    size_t pages = ((uintptr_t)begin + bytes - first + page - 1) / page;
    unsigned char *found = malloc(pages);
    int64_t count = 0;
    assert_non_null(found);
    assert_int_equal(mincore((void *)first, pages * page, found), 0);
    for (size_t i = 0; i < pages; i++) {
        count += found[i] & 1;
    }
    free(found);
    return count * (int64_t)page;
}

/* From the first slot to the last but the scratch slot. */
static int64_t resident_slots(const slot_bench *b)
{
    const char *begin = b->memory.slots[0].params;
    const char *end = b->memory.slots[SLOT_COUNT].params;
    return resident(begin, (size_t)(end - begin));
}

static int64_t resident_scratch(const slot_bench *b)
{
    return resident(b->memory.slots[SLOT_COUNT].params, 3 * tt_slot_vector_bytes(&dims));
}

static void within_3_percent(const char *what, int64_t measured, int64_t said)
{
    double off = (double)measured / (double)said - 1;
    print_message("%-28s %8.2f MiB resident, %8.2f said, %+.2f %%\n", what,
                  (double)measured / (1 << 20), (double)said / (1 << 20), 100 * off);
    assert_true(fabs(off) < 0.03);
}

static void run(slot_bench *b, tt_codec codec, int64_t block, int64_t *step, int64_t steps)
{
    b->policy.codec = codec;
    b->policy.block = block;
    for (int64_t end = *step + steps; *step < end; ++*step) {
        slots_step(b, *step, (int)*step % 2, 1 - (int)*step % 2);
    }
}

static int64_t said(const slot_bench *b)
{
    return tt_slot_resident_bytes(&b->dims, b->policy.codec, b->policy.block, NULL);
}

static void slots_take_what_their_codecs_take(void **state)
{
    (void)state;
    slot_bench b;
    int64_t step = 0;
    slots_open(&b, dims, 8);
    run(&b, TT_CODEC_F32, 64, &step, 2);
    int64_t f32 = resident_slots(&b);
    within_3_percent("2 slots, f32", f32, 2 * said(&b));
    assert_true(resident_scratch(&b) < 4 << 20); /* a huge page at its border, perhaps */
    run(&b, TT_CODEC_BF16, 64, &step, 2);
    within_3_percent("2 slots, bf16", resident_slots(&b), 2 * said(&b));
    run(&b, TT_CODEC_INT8, 64, &step, 16);
    int64_t int8 = resident_slots(&b);
    within_3_percent("2 slots, int8", int8, 2 * said(&b));
    /* 12 bytes an element become 4 + 2 x (1 + 4/64). */
    assert_true((double)int8 < 0.53 * (double)f32);
    run(&b, TT_CODEC_INT8, 256, &step, 2);
    within_3_percent("2 slots, int8 of 256", resident_slots(&b), 2 * said(&b));
    run(&b, TT_CODEC_F32, 64, &step, 2);
    within_3_percent("2 slots, f32 again", resident_slots(&b), 2 * said(&b));
    run(&b, TT_CODEC_INT8, 64, &step, 2);
    within_3_percent("2 slots, int8 again", resident_slots(&b), 2 * said(&b));
    slots_close(&b);
}

/* Weights in bf16 alone: 2 bytes an element less, whatever the moments take. */
static void bf16_weights_take_half(void **state)
{
    (void)state;
    slot_bench b;
    int64_t step = 0;
    tt_model_dims narrow = dims;
    narrow.bf16_weights = true;
    slots_open(&b, narrow, 8);
    run(&b, TT_CODEC_F32, 64, &step, 2);
    within_3_percent("2 slots, bf16 weights", resident_slots(&b), 2 * said(&b));
    const double saved = (double)(tt_slot_resident_bytes(&dims, TT_CODEC_F32, 64, NULL) - said(&b));
    assert_true(fabs(saved / (2.0 * (double)tt_model_param_elements(&dims)) - 1) < 0.01);
    run(&b, TT_CODEC_INT8, 64, &step, 16);
    within_3_percent("2 slots, with int8 moments", resident_slots(&b), 2 * said(&b));
    /* Of 12 bytes an element 2 + 2 x (1 + 4/64) are left. */
    assert_true((double)said(&b) <
                0.36 * (double)tt_slot_resident_bytes(&dims, TT_CODEC_F32, 64, NULL));
    slots_close(&b);
}

static void exceptions_count(void **state)
{
    (void)state;
    slot_bench b;
    int64_t step = 0;
    slots_open(&b, dims, 8);
    b.policy.update_max = 0.01; /* what int8 loses is above four tenths of this */
    run(&b, TT_CODEC_INT8, 64, &step, 4);
    const tt_slot_layout *layout = &b.memory.layouts[0];
    int64_t with = tt_slot_resident_bytes(&dims, TT_CODEC_INT8, 64, layout);
    assert_true((double)with > 1.2 * (double)said(&b));
    within_3_percent("2 slots, spared tensors", resident_slots(&b), 2 * with);
    slots_close(&b);
}

static void the_scratch_slot_takes_nothing_until_it_is_used(void **state)
{
    (void)state;
    slot_bench b;
    int64_t step = 0;
    slots_open(&b, dims, 8);
    run(&b, TT_CODEC_INT8, 64, &step, 12);
    for (int round = 0; round < 2; round++) {
        assert_ok(tt_slot_copy(&b.memory, 0, SLOT_COUNT));
        within_3_percent("scratch, int8", resident_scratch(&b), said(&b));
        slots_step(&b, step, SLOT_COUNT, SLOT_COUNT);
        within_3_percent("scratch, int8, in place", resident_scratch(&b), said(&b));
        /* Up to this, where bf16 had to do; what int8 takes is less. */
        int64_t most = tt_staging_bytes(&dims, TT_CODEC_INT8);
        int64_t staging = resident(b.memory.staging.params, (size_t)most);
        assert_true(staging > most / 2 && (double)staging < 1.03 * (double)most);
        assert_ok(tt_slot_release(&b.memory, SLOT_COUNT));
        assert_true(resident_scratch(&b) < 64 << 10);
        assert_true(resident(b.memory.staging.params, 1 << 20) < 64 << 10);
    }
    slots_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_take_what_their_codecs_take),
        cmocka_unit_test(bf16_weights_take_half),
        cmocka_unit_test(exceptions_count),
        cmocka_unit_test(the_scratch_slot_takes_nothing_until_it_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
