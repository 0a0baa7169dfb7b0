/* Token files; the order of windows; validation windows. */
#include "data_support.h"

enum { CONTEXT = 7 };

/* ---- windows ---- */

/* Where the window at a data position was taken (tokens count from 0), checked as a whole. */
static int64_t start_of(const tt_dataset *data, int64_t position)
{
    int32_t tokens[CONTEXT], targets[CONTEXT];
    assert_ok(tt_dataset_batch(data, position, 1, tokens, targets));
    for (int i = 0; i < CONTEXT; i++) {
        assert_int_equal(tokens[i], tokens[0] + i);
        assert_int_equal(targets[i], tokens[0] + i + 1);
    }
    return tokens[0];
}

/* Checks one epoch and returns its offset; *first is the window that comes first. */
static int64_t check_epoch(const tt_dataset *data, int64_t epoch, int64_t tokens, int64_t *first)
{
    static char seen[65536];
    const int64_t sequences = tt_dataset_sequences(data, TT_SPLIT_TRAIN);
    int64_t lowest = INT64_MAX;
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < sequences; i++) {
        int64_t start = start_of(data, epoch * sequences + i);
        assert_true(start >= 0 && start + CONTEXT < tokens);
        tt_data_place place;
        tt_dataset_locate(data, epoch * sequences + i, &place);
        assert_int_equal(place.token, strstr(place.name, "001") ? start - 50 : start);
        assert_int_equal(place.byte, 1024 + 2 * place.token);
        assert_int_equal(seen[start]++, 0);
        lowest = start < lowest ? start : lowest;
        if (i == 0) {
            *first = start;
        }
    }
    for (int64_t i = 0; i < sequences; i++) {
        assert_int_equal(seen[lowest + i * CONTEXT], 1);
    }
    return lowest;
}

static void every_epoch_visits_every_window_once(void **state)
{
    (void)state;
    for (int tokens = 8; tokens < 2000; tokens += tokens < 40 ? 1 : 331) {
        put_counting_file("count.bin", 0, tokens);
        tt_data_options o = options_for("count.bin", CONTEXT, 0.0);
        tt_dataset *data = open_data(&o);
        int64_t windows = (tokens - 1) / CONTEXT;
        assert_int_equal(tt_dataset_sequences(data, TT_SPLIT_TRAIN), windows > 1 ? windows - 1 : 1);
        int64_t first[12];
        unsigned offsets = 0;
        bool reordered = false;
        for (int64_t epoch = 0; epoch < 12; epoch++) {
            int64_t offset = check_epoch(data, epoch, tokens, &first[epoch]);
            assert_true(offset >= 0 && offset < CONTEXT);
            offsets |= 1U << offset;
            reordered = reordered || first[epoch] / CONTEXT != first[0] / CONTEXT;
        }
        if (tokens > 40) {
            assert_true(reordered);
            assert_true(__builtin_popcount(offsets) >= 4); /* 12 draws out of 7 */
        }
        tt_dataset_close(data);
    }
}

static void a_batch_is_its_sequences(void **state)
{
    (void)state;
    int32_t tokens[5 * CONTEXT], targets[5 * CONTEXT];
    put_counting_file("count.bin", 0, 100);
    tt_data_options o = options_for("count.bin", CONTEXT, 0.0);
    tt_dataset *data = open_data(&o);
    o.seed++;
    tt_dataset *other = open_data(&o);
    const int64_t sequences = tt_dataset_sequences(data, TT_SPLIT_TRAIN);
    assert_ok(tt_dataset_batch(data, sequences - 2, 5, tokens, targets)); /* into the next epoch */
    int differ = 0;
    for (int64_t i = 0; i < 5; i++) {
        assert_int_equal(tokens[i * CONTEXT], start_of(data, sequences - 2 + i));
        assert_int_equal(targets[i * CONTEXT], tokens[i * CONTEXT] + 1);
        differ += tokens[i * CONTEXT] != start_of(other, sequences - 2 + i);
    }
    assert_true(differ > 0);
    assert_ok(tt_dataset_batch(data, INT64_C(1) << 60, 1, tokens, targets));
    assert_ok(tt_dataset_batch(data, 0, 0, tokens, targets));
    assert_fails(tt_dataset_batch(data, -1, 1, tokens, targets), TT_EINVAL, "position -1");
    tt_dataset_close(data);
    tt_dataset_close(other);
}

static void validation_windows_are_spread_evenly(void **state)
{
    (void)state;
    int32_t tokens[CONTEXT], targets[CONTEXT];
    put_counting_file("count.bin", 0, 1000);
    tt_data_options o = options_for("count.bin", CONTEXT, 0.25);
    tt_dataset *data = open_data(&o);
    const int64_t whole = tt_dataset_sequences(data, TT_SPLIT_HELD_OUT);
    assert_int_equal(whole, 249 / CONTEXT);
    static const int64_t counts[] = {1, 2, 3, 10, 35, 200};
    for (size_t c = 0; c < 6; c++) {
        int64_t before = -1000;
        for (int64_t i = 0; i < counts[c]; i++) {
            assert_ok(tt_dataset_held_out(data, i, counts[c], tokens, targets));
            int64_t start = tokens[0];
            int64_t even = counts[c] > 1 ? 750 + i * (249 - CONTEXT) / (counts[c] - 1) : 750;
            assert_true(llabs(start - even) <= 1);
            assert_true(counts[c] > whole || start - before >= CONTEXT);
            assert_int_equal(targets[CONTEXT - 1], start + CONTEXT);
            before = start;
        }
        assert_int_equal(targets[CONTEXT - 1], counts[c] > 1 ? 999 : 757);
    }
    assert_fails(tt_dataset_held_out(data, 3, 3, tokens, targets), TT_EINVAL, "3 of 3");
    tt_dataset_close(data);
}

/* ---- folders ---- */

static void folders_are_split_by_name_or_hash(void **state)
{
    (void)state;
    int32_t tokens[CONTEXT], targets[CONTEXT];
    make_folder("shards");
    put_counting_file("shards/train_000.bin", 0, 50);
    put_counting_file("shards/train_001.bin", 50, 50); /* tokens run on from file to file */
    put_counting_file("shards/val_000.bin", 9000, 40);
    put_text("shards/README", "not a token file");
    tt_data_options o = options_for("shards", CONTEXT, 0.1);
    tt_dataset *data = open_data(&o);
    assert_true(!tt_dataset_is_bytes(data));
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_TRAIN), 100);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_HELD_OUT), 40);
    int64_t first;
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        check_epoch(data, epoch, 100, &first);
    }
    assert_ok(tt_dataset_held_out(data, 0, 1, tokens, targets));
    assert_int_equal(tokens[0], 9000);
    tt_dataset_close(data);
    o.limit_bytes = 2 * 60; /* of the training tokens */
    data = open_data(&o);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_TRAIN), 60);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_HELD_OUT), 40);
    check_epoch(data, 0, 60, &first);
    tt_dataset_close(data);
    assert_int_equal(remove(in_scratch("shards/val_000.bin")), 0);
    o = options_for("shards", CONTEXT, 0.1);
    data = open_data(&o);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_TRAIN), 1);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_HELD_OUT), 1);
    tt_dataset_close(data);
    make_folder("onlyval");
    put_counting_file("onlyval/val.bin", 0, 50);
    o = options_for("onlyval", CONTEXT, 0.1);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "training split");
}

/* ---- errors ---- */

static void errors_name_file_and_position(void **state)
{
    (void)state;
    tt_dataset *data;
    uint16_t tokens[64];
    for (int i = 0; i < 64; i++) {
        tokens[i] = (uint16_t)i;
    }
    tt_data_options o = options_for("bad.bin", CONTEXT, 0.0);
    put_token_file("bad.bin", 20240801, 1, 64, tokens, 64);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "bad.bin is not a token file");
    put_text("bad.bin", "short");
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "bad.bin is not a token file");
    put_token_file("bad.bin", 20240520, 7, 64, tokens, 64);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "version 7");
    put_token_file("bad.bin", 20240520, 1, 65, tokens, 64);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "says 65 tokens, but 128 bytes");
    put_token_file("bad.bin", 20240520, 1, 63, tokens, 64);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "says 63 tokens, but 128 bytes");
    put_token_file("bad.bin", 20240520, 1, -1, tokens, 64);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "says -1 tokens");
    put_token_file("bad.bin", 20240520, 1, 0, tokens, 0);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "holds no tokens");
    tokens[37] = 500;
    put_token_file("bad.bin", 20240520, 1, 64, tokens, 64);
    o.vocab = 500;
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "token 37 of bad.bin is 500");
    o.vocab = 501;
    data = open_data(&o);
    /* A file that changes later is still told from one that does not. */
    int32_t row[CONTEXT];
    assert_int_equal(truncate(in_scratch("bad.bin"), 1024 + 20), 0);
    tt_status worst = TT_OK;
    for (int64_t i = 0; i < 8; i++) {
        tt_status status = tt_dataset_batch(data, i, 1, row, row);
        worst = status ? status : worst;
    }
    assert_int_equal(worst, TT_EIO);
    assert_non_null(strstr(tt_error_message(), "bad.bin became shorter"));
    for (int i = 0; i < 64; i++) {
        tokens[i] = 501;
    }
    put_token_file("bad.bin", 20240520, 1, 64, tokens, 64);
    assert_fails(tt_dataset_batch(data, 0, 1, row, row), TT_EDATA, "of bad.bin is 501");
    tt_dataset_close(data);
    /* In a folder with token files, a .bin that is none is an error, not text. */
    make_folder("mixedbin");
    put_counting_file("mixedbin/a.bin", 0, 50);
    put_text("mixedbin/b.bin", "text");
    o = options_for("mixedbin", CONTEXT, 0.0);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "b.bin is not a token file");
}

static void the_digest_is_of_tokens(void **state)
{
    (void)state;
    put_counting_file("count.bin", 0, 1000);
    tt_data_options o = options_for("count.bin", CONTEXT, 0.0);
    tt_dataset *one = open_data(&o);
    put_counting_file("count.bin", 1, 1000);
    tt_dataset *two = open_data(&o);
    assert_string_not_equal(tt_dataset_digest(one), tt_dataset_digest(two));
    assert_int_equal(start_of(two, 0), start_of(one, 0)); /* both read the file as it is now */
    double order1, order2;
    assert_fails(tt_dataset_baselines(two, 3, &order1, &order2), TT_EINVAL, "need text");
    tt_dataset_close(one);
    tt_dataset_close(two);
}

/* More tokens than one read takes, in and out. */
static void long_windows(void **state)
{
    (void)state;
    enum { LONG = 20000 };
    int32_t *tokens = malloc(LONG * sizeof *tokens);
    int32_t *targets = malloc(LONG * sizeof *targets);
    put_counting_file("count.bin", 0, 60000);
    tt_data_options o = options_for("count.bin", LONG, 0.0);
    tt_dataset *data = open_data(&o);
    assert_ok(tt_dataset_batch(data, 3, 1, tokens, targets));
    for (int i = 0; i < LONG; i++) {
        assert_int_equal(tokens[i], tokens[0] + i);
        assert_int_equal(targets[i], tokens[0] + i + 1);
    }
    tt_dataset_close(data);
    free(tokens);
    free(targets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_epoch_visits_every_window_once),
        cmocka_unit_test(a_batch_is_its_sequences),
        cmocka_unit_test(validation_windows_are_spread_evenly),
        cmocka_unit_test(folders_are_split_by_name_or_hash),
        cmocka_unit_test(errors_name_file_and_position),
        cmocka_unit_test(the_digest_is_of_tokens),
        cmocka_unit_test(long_windows),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
