/* The byte models against a count that scans the training text anew for every question. */
#include "data_support.h"

enum { CONTEXT = 12, TEXT = 4000, HELD = 800, WINDOWS = 9 };

/* P(byte | the `order` bytes before position `at`), by scanning text[0, TEXT - HELD). */
static double scan(const uint8_t *text, const uint8_t *before, int order, uint8_t byte)
{
    double lower = order ? scan(text, before, order - 1, byte) : 1.0 / 256.0;
    bool followers[256] = {false};
    int total = 0, hits = 0, kinds = 0;
    for (int i = order; i < TEXT - HELD; i++) {
        if (order && memcmp(text + i - order, before - order, (size_t)order) != 0) {
            continue;
        }
        total++;
        hits += text[i] == byte;
        kinds += !followers[text[i]];
        followers[text[i]] = true;
    }
    return total ? ((double)hits + (double)kinds * lower) / (double)(total + kinds) : lower;
}

static void counts_agree_with_a_scan(void **state)
{
    (void)state;
    static uint8_t text[TEXT];
    /* A few common letters, runs, and held-out bytes that training never saw. */
    for (int i = 0; i < TEXT; i++) {
        double draw = tt_random_uniform(4, 4, (uint64_t)i);
        text[i] = (uint8_t)('a' + (int)(draw * draw * 9.0));
        if (i && tt_random_uniform(4, 5, (uint64_t)i) < 0.3) {
            text[i] = text[i - 1];
        }
        if (i > TEXT - HELD && i % 50 == 0) {
            text[i] = (uint8_t)(200 + i % 7);
        }
    }
    put_file("text", text, sizeof text);
    tt_data_options o = options_for("text", CONTEXT, (double)HELD / TEXT);
    tt_dataset *data = open_data(&o);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_HELD_OUT), HELD);
    double order1, order2;
    double bits[2] = {0.0, 0.0};
    assert_ok(tt_dataset_baselines(data, WINDOWS, &order1, &order2));
    for (int w = 0; w < WINDOWS; w++) {
        int start = TEXT - HELD + w * (HELD - CONTEXT - 1) / (WINDOWS - 1);
        int32_t tokens[CONTEXT], targets[CONTEXT];
        assert_ok(tt_dataset_held_out(data, w, WINDOWS, tokens, targets));
        for (int i = 0; i < CONTEXT; i++) {
            const uint8_t *target = text + start + i + 1;
            assert_int_equal(targets[i], *target); /* exactly the validation targets */
            bits[0] -= log2(scan(text, target, 1, *target));
            bits[1] -= log2(scan(text, target, i ? 2 : 1, *target));
        }
    }
    assert_true(fabs(order1 - bits[0] / (WINDOWS * CONTEXT)) < 1e-12);
    assert_true(fabs(order2 - bits[1] / (WINDOWS * CONTEXT)) < 1e-12);
    tt_dataset_close(data);
}

/* A text in which two bytes decide the third: order 2 finds it, order 1 cannot. */
static void order_two_sees_more(void **state)
{
    (void)state;
    static char text[20000];
    for (size_t i = 0; i + 4 <= sizeof text; i += 4) {
        bool heads = tt_random_uniform(6, 6, i) < 0.5;
        text[i] = heads ? 'a' : 'c';
        text[i + 1] = 'x';
        text[i + 2] = heads ? 'b' : 'd';
        text[i + 3] = ' ';
    }
    put_file("pattern", text, sizeof text);
    tt_data_options o = options_for("pattern", 64, 0.1);
    tt_dataset *data = open_data(&o);
    double order1, order2;
    assert_ok(tt_dataset_baselines(data, 20, &order1, &order2));
    assert_true(fabs(order1 - 0.5) < 0.02);  /* a or c, then b or d: 2 bits in 4 bytes */
    assert_true(fabs(order2 - 0.25) < 0.03); /* a or c: 1 bit */
    assert_fails(tt_dataset_baselines(data, 0, &order1, &order2), TT_EINVAL, "0 sequences");
    tt_dataset_close(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_agree_with_a_scan),
        cmocka_unit_test(order_two_sees_more),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
