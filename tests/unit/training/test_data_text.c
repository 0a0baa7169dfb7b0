/* Text: the walk, the joined stream, the splits, the digest, the errors. */
#include "data_support.h"

static void a_folder_is_joined_in_bytewise_order(void **state)
{
    (void)state;
    make_folder("order");
    make_folder("order/a");
    make_folder("order/a/deep");
    make_folder("order/.git");
    put_text("order/.git/config", "hidden");
    put_text("order/b.txt", "bee");
    put_text("order/a.txt", "dot"); /* '.' stands before '/' */
    put_text("order/a/z", "zed");
    put_text("order/a/deep/x", "deep");
    put_text("order/B", "Big");
    put_text("order/empty", "");
    put_file("order/image", "a\0b", 3);
    assert_int_equal(symlink("..", in_scratch("order/a/loop")), 0);
    assert_int_equal(symlink("../B", in_scratch("order/a/link")), 0);
    assert_int_equal(mkfifo(in_scratch("order/pipe"), 0644), 0);
    assert_training_text("order", 0, "Big\ndot\ndeep\nBig\nzed\nbee");
    /* A limit cuts within a file; what is no text costs nothing of it. */
    assert_training_text("order", 8, "Big\ndot\nde");
    assert_training_text("order", 6, "Big\ndot");
    assert_training_text("order", 5, "Big\ndo");
}

static void one_file_keeps_its_end_for_validation(void **state)
{
    (void)state;
    char text[1000];
    int32_t tokens[10], targets[10];
    for (int i = 0; i < 1000; i++) {
        text[i] = (char)(1 + i % 97);
    }
    put_file("one.txt", text, sizeof text);
    tt_data_options o = options_for("one.txt", 10, 0.2);
    tt_dataset *data = open_data(&o);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_TRAIN), 800);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_HELD_OUT), 200);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_TRAIN), 1);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_HELD_OUT), 1);
    assert_int_equal(tt_dataset_sequences(data, TT_SPLIT_HELD_OUT), 19);
    assert_ok(tt_dataset_held_out(data, 0, 19, tokens, targets));
    assert_int_equal(tokens[0], text[800]);
    assert_ok(tt_dataset_held_out(data, 18, 19, tokens, targets));
    assert_int_equal(targets[9], text[999]);
    tt_dataset_close(data);
    o.held_out = 0.0;
    data = open_data(&o);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_TRAIN), 1000);
    assert_int_equal(tt_dataset_sequences(data, TT_SPLIT_HELD_OUT), 0);
    assert_fails(tt_dataset_held_out(data, 0, 1, tokens, targets), TT_EINVAL, "data.held_out is 0");
    tt_dataset_close(data);
    o.limit_bytes = 300;
    data = open_data(&o);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_TRAIN), 300);
    tt_dataset_close(data);
}

/* ---- which files are held out ---- */

static void put_many(const char *folder, int count, int size)
{
    char name[128];
    char *text = malloc((size_t)size);
    memset(text, 'x', (size_t)size);
    make_folder(folder);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/file%03d", folder, i);
        put_file(name, text, (size_t)size);
    }
    free(text);
}

static void whole_files_are_held_out_by_name(void **state)
{
    (void)state;
    put_many("many", 40, 500);
    tt_data_options o = options_for("many", 8, 0.1);
    tt_dataset *data = open_data(&o);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_HELD_OUT), 4);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_TRAIN), 36);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_HELD_OUT), 4 * 500 + 3);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_TRAIN), 36 * 500 + 35);
    tt_dataset_close(data);
    /* However small the share, one file; however few the files, one stays. */
    o.held_out = 1e-9;
    data = open_data(&o);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_HELD_OUT), 1);
    tt_dataset_close(data);
    put_many("two", 2, 100);
    o = options_for("two", 8, 0.5);
    data = open_data(&o);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_HELD_OUT), 1);
    assert_int_equal(tt_dataset_files(data, TT_SPLIT_TRAIN), 1);
    tt_dataset_close(data);
    put_many("single", 1, 100); /* split like a file given by itself */
    o = options_for("single", 8, 0.3);
    data = open_data(&o);
    assert_int_equal(tt_dataset_tokens(data, TT_SPLIT_HELD_OUT), 30);
    tt_dataset_close(data);
}

/* A giant among small files is not the one that is held out, wherever its hash stands. */
static void a_giant_is_trained_on(void **state)
{
    (void)state;
    char big[5000];
    char name[64];
    memset(big, 'g', sizeof big);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "giant%d", i);
        put_many(name, 8, 100);
        snprintf(name, sizeof name, "giant%d/file%03d", i, i);
        put_file(name, big, sizeof big);
        snprintf(name, sizeof name, "giant%d", i);
        tt_data_options o = options_for(name, 8, 0.03);
        tt_dataset *data = open_data(&o);
        assert_true(tt_dataset_tokens(data, TT_SPLIT_TRAIN) > 5000);
        assert_true(tt_dataset_files(data, TT_SPLIT_HELD_OUT) >= 1);
        tt_dataset_close(data);
    }
}

static void the_seed_moves_no_split(void **state)
{
    (void)state;
    int32_t a[8], b[8], targets[8];
    make_folder("mixed");
    for (int i = 0; i < 12; i++) {
        char name[64], text[101] = {0};
        snprintf(name, sizeof name, "mixed/%d", i);
        memset(text, 'a' + i, 100);
        put_text(name, text);
    }
    tt_data_options o = options_for("mixed", 8, 0.3);
    tt_dataset *one = open_data(&o);
    o.seed = 10;
    tt_dataset *two = open_data(&o);
    assert_string_equal(tt_dataset_digest(one), tt_dataset_digest(two));
    const int64_t of = tt_dataset_sequences(one, TT_SPLIT_HELD_OUT);
    assert_true(of >= 20);
    for (int64_t i = 0; i < of; i++) {
        assert_ok(tt_dataset_held_out(one, i, of, a, targets));
        assert_ok(tt_dataset_held_out(two, i, of, b, targets));
        assert_memory_equal(a, b, sizeof a);
    }
    tt_dataset_close(one);
    tt_dataset_close(two);
}

/* ---- digest ---- */

static void digest_of(const char *name, int64_t limit, char out[TT_SHA256_HEX])
{
    tt_data_options o = options_for(name, 2, 0.0);
    o.limit_bytes = limit;
    tt_dataset *data = open_data(&o);
    memcpy(out, tt_dataset_digest(data), TT_SHA256_HEX);
    tt_dataset_close(data);
}

static void the_digest_is_of_names_and_contents(void **state)
{
    (void)state;
    char first[TT_SHA256_HEX], other[TT_SHA256_HEX];
    make_folder("d1");
    put_text("d1/a", "hello");
    put_text("d1/b", "world");
    digest_of("d1", 0, first);
    assert_int_equal(strlen(first), 64);
    make_folder("d2");
    put_text("d2/b", "world");
    put_text("d2/a", "hello");
    digest_of("d2", 0, other);
    assert_string_equal(first, other); /* not of where they are */
    digest_of("d2", 9, other);
    assert_string_not_equal(first, other);
    put_text("d2/a", "hellp");
    digest_of("d2", 0, other);
    assert_string_not_equal(first, other);
    put_text("d2/a", "hell"); /* a byte that moves to the next file */
    put_text("d2/b", "oworld");
    digest_of("d2", 0, other);
    assert_string_not_equal(first, other);
    assert_int_equal(rename(in_scratch("d1/b"), in_scratch("d1/c")), 0);
    digest_of("d1", 0, other);
    assert_string_not_equal(first, other);
}

/* ---- errors ---- */

static void errors_name_the_file(void **state)
{
    (void)state;
    tt_dataset *data;
    tt_data_options o = options_for("nowhere", 4, 0.0);
    assert_fails(tt_dataset_open(&o, &data), TT_ENOTFOUND, "nowhere");
    assert_null(data);
    make_folder("barren");
    o = options_for("barren", 4, 0.0);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "barren holds no text file");
    put_file("barren/x", "a\0b", 3);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "(1 files passed over)");
    put_file("binary", "abc\0def", 7);
    o = options_for("binary", 4, 0.0);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "byte 3 is NUL");
    put_text("void", "");
    o = options_for("void", 4, 0.0);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "void is empty");
    make_folder("dangling");
    assert_int_equal(symlink("gone", in_scratch("dangling/link")), 0);
    o = options_for("dangling", 4, 0.0);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "no text file (1 files passed over)");
    put_text("short", "0123456789");
    o = options_for("short", 10, 0.0);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "has 10 tokens, and one sequence takes 11");
    o = options_for("short", 9, 0.0);
    tt_dataset_close(open_data(&o));
    o = options_for("short", 5, 0.4);
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "held-out split of");
    put_text("accent", "caf\xc3\xa9 au lait");
    o = options_for("accent", 4, 0.0);
    o.vocab = 128;
    assert_fails(tt_dataset_open(&o, &data), TT_EDATA, "byte 3 of accent is 195");
    o.vocab = 256;
    tt_dataset_close(open_data(&o));
    if (geteuid() != 0) { /* root reads everything */
        put_text("locked", "some text");
        assert_int_equal(chmod(in_scratch("locked"), 0), 0);
        o = options_for("locked", 4, 0.0);
        assert_fails(tt_dataset_open(&o, &data), TT_EIO, "locked");
    }
}

static void options_are_checked_by_key(void **state)
{
    (void)state;
    tt_dataset *data;
    const tt_data_options good = options_for("short", 4, 0.0);
    tt_data_options o = good;
    o.path = "";
    assert_fails(tt_dataset_open(&o, &data), TT_ECONFIG, "data.path");
    o = good;
    o.held_out = 0.6;
    assert_fails(tt_dataset_open(&o, &data), TT_ECONFIG, "data.held_out is 0.6");
    o.held_out = NAN;
    assert_fails(tt_dataset_open(&o, &data), TT_ECONFIG, "data.held_out");
    o = good;
    o.limit_bytes = -1;
    assert_fails(tt_dataset_open(&o, &data), TT_ECONFIG, "data.limit_bytes");
    o = good;
    o.context = 0;
    assert_fails(tt_dataset_open(&o, &data), TT_ECONFIG, "model.context");
}

static void keep_line(void *user, tt_log_level level, const char *message)
{
    assert_int_equal(level, TT_LOG_INFO);
    snprintf(user, 256, "%s", message);
}

static void what_is_passed_over_is_logged(void **state)
{
    (void)state;
    char line[256] = "";
    const tt_log_sink sink = {keep_line, line};
    tt_data_options o = options_for("many", 8, 0.1);
    o.log = &sink;
    tt_dataset_close(open_data(&o));
    assert_string_equal(line, ""); /* nothing was */
    o.limit_bytes = 10000;
    tt_dataset_close(open_data(&o));
    assert_non_null(strstr(line, " files passed over"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_joined_in_bytewise_order),
        cmocka_unit_test(one_file_keeps_its_end_for_validation),
        cmocka_unit_test(whole_files_are_held_out_by_name),
        cmocka_unit_test(a_giant_is_trained_on),
        cmocka_unit_test(the_seed_moves_no_split),
        cmocka_unit_test(the_digest_is_of_names_and_contents),
        cmocka_unit_test(errors_name_the_file),
        cmocka_unit_test(options_are_checked_by_key),
        cmocka_unit_test(what_is_passed_over_is_logged),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
