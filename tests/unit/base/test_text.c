/* Growing strings, numbers and times as text, "did you mean". */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void grows(void **state)
{
    (void)state;
    tt_text text;
    tt_text_init(&text);
    assert_string_equal(text.data, "");
    tt_text_add(&text, "");
    assert_int_equal(text.capacity, 0);
    size_t expected = 0;
    for (int i = 0; i < 3000; i++) {
        char piece[16];
        int length = snprintf(piece, sizeof piece, "%d,", i);
        switch (i % 3) {
        case 0:
            tt_text_add(&text, piece);
            break;
        case 1:
            tt_text_add_bytes(&text, piece, (size_t)length);
            break;
        default:
            tt_text_addf(&text, "%d,", i);
        }
        expected += (size_t)length;
        assert_int_equal(text.length, expected);
        assert_int_equal(text.data[text.length], '\0');
        assert_true(text.capacity > text.length);
    }
    const char *at = text.data;
    for (int i = 0; i < 3000; i++) {
        char *end;
        assert_int_equal(strtol(at, &end, 10), i);
        assert_int_equal(*end, ',');
        at = end + 1;
    }
    assert_int_equal(tt_text_check(&text), TT_OK);
    tt_text_clear(&text);
    assert_string_equal(text.data, "");
    tt_text_add(&text, "again");
    assert_string_equal(text.data, "again");
    tt_text_add_bytes(&text, "\0x", 2);
    assert_int_equal(text.length, 7);
    tt_text_clear(&text);
    tt_text_clear(&text);
}

static void exact_capacity(void **state)
{
    (void)state;
    /* Every length around a doubling, by one addition and by two. */
    char filler[1100];
    memset(filler, 'f', sizeof filler);
    for (size_t length = 250; length < 1030; length++) {
        tt_text text;
        tt_text_init(&text);
        tt_text_add_bytes(&text, filler, length);
        tt_text_addf(&text, "%c", 'e');
        assert_int_equal(strlen(text.data), length + 1);
        assert_int_equal(text.data[length], 'e');
        tt_text_clear(&text);
    }
}

static void failure_sticks(void **state)
{
    (void)state;
    tt_text text;
    tt_text_init(&text);
    tt_text_add(&text, "kept");
    tt_text_add_bytes(&text, "never read", SIZE_MAX / 2);
    assert_true(text.failed);
    tt_text_add(&text, "dropped");
    tt_text_addf(&text, "%s", "dropped");
    assert_string_equal(text.data, "kept");
    assert_int_equal(tt_text_check(&text), TT_ENOMEM);
    assert_non_null(strstr(tt_error_message(), "4 bytes"));
    tt_text_clear(&text);
    assert_int_equal(tt_text_check(&text), TT_OK);
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The fewest significant digits that read back. */
static int fewest_digits(double value)
{
    char text[64];
    for (int digits = 1;; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value) {
            return digits;
        }
    }
}

static int significant_digits(const char *text)
{
    int count = 0;
    int zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text == '0') {
            zeros += count > 0;
        } else if (*text >= '1' && *text <= '9') {
            count += 1 + zeros;
            zeros = 0;
        }
    }
    return count;
}

static void check_number(double value)
{
    char out[32];
    memset(out, '#', sizeof out);
    assert_ptr_equal(tt_format_double(value, out), out);
    assert_non_null(memchr(out, '\0', sizeof out));
    if (bits_of(strtod(out, NULL)) != bits_of(value)) {
        fail_msg("%a became %s", value, out);
    }
    if (value != 0 && significant_digits(out) > fewest_digits(value)) {
        fail_msg("%a became %s, which is not the shortest", value, out);
    }
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } known[] = {
        {0, "0"},
        {-0.0, "-0"},
        {0.1, "0.1"},
        {0.0003, "0.0003"},
        {1e30, "1e+30"},
        {10, "10"},
        {100, "100"},
        {-20, "-20"},
        {1000, "1000"},
        {1234567, "1234567"},
        {0.7, "0.7"},
        {1e-8, "1e-08"},
        {2.5, "2.5"},
        {-1.5e300, "-1.5e+300"},
        {150, "150"},
        {1024, "1024"},
        {NAN, "nan"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
        {-NAN, "nan"},
    };
    char out[32];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_string_equal(tt_format_double(known[i].value, out), known[i].text);
    }
    static const double edges[] = {5e-324,
                                   2.2250738585072014e-308,
                                   1.7976931348623157e308,
                                   1.0 / 3,
                                   0x1.fffffffffffffp-1,
                                   9007199254740993.0,
                                   1e15,
                                   1e16,
                                   1e17,
                                   123456789012345680.0,
                                   -1e-4,
                                   1e-5};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        check_number(edges[i]);
        check_number(-edges[i]);
    }
    for (uint64_t i = 0; i < 60000; i++) {
        uint32_t block[4];
        double value;
        tt_philox(1, 2, i, block);
        memcpy(&value, block, sizeof value);
        if (isfinite(value)) {
            check_number(value);
        }
        check_number((double)(block[2] % 100000) / 1000);
        check_number(block[3]);
    }
}

static void nearest(void **state)
{
    (void)state;
    static const char *const words[] = {"kernels.tile_m", "kernels.tile_n", "compression.block",
                                        "gates.loss.max", "run.dir",        "",
                                        "snapshot.slots"};
    const size_t count = sizeof words / sizeof *words;
    assert_string_equal(tt_nearest_word("kernels.tile_m", words, count), "kernels.tile_m");
    assert_string_equal(tt_nearest_word("kernel.tile_m", words, count), "kernels.tile_m");
    assert_string_equal(tt_nearest_word("kernels.tlie_n", words, count), "kernels.tile_n");
    assert_string_equal(tt_nearest_word("snapshots.slot", words, count), "snapshot.slots");
    assert_string_equal(tt_nearest_word("kernels.tile_k", words, count), "kernels.tile_m");
    assert_string_equal(tt_nearest_word("rundir", words, count), "run.dir");
    assert_null(tt_nearest_word("entirely.different.thing", words, count));
    assert_null(tt_nearest_word("word", words, 0));
    /* The bound: a third of the length, at least 2. */
    static const char *const one[] = {"abcdefghijkl"};
    assert_non_null(tt_nearest_word("abcdefghWXYZ", one, 1));
    assert_null(tt_nearest_word("abcdefgVWXYZ", one, 1));
    static const char *const shorter[] = {"abcd"};
    assert_non_null(tt_nearest_word("abXY", shorter, 1));
    assert_null(tt_nearest_word("aWXY", shorter, 1));
    /* A transposition counts one. */
    static const char *const pair[] = {"abXX", "abdc"};
    assert_string_equal(tt_nearest_word("abcd", pair, 2), "abdc");
    char longest[300];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *const big[] = {longest};
    assert_null(tt_nearest_word(longest, big, 1));
    assert_null(tt_nearest_word("aaa", big, 1));
    longest[96] = '\0';
    assert_non_null(tt_nearest_word(longest, big, 1));
}

static void utc(void **state)
{
    (void)state;
    char out[24];
    time_t before = time(NULL);
    assert_ptr_equal(tt_format_utc_now(out), out);
    time_t after = time(NULL);
    struct tm parts = {0};
    const char *end = strptime(out, "%Y-%m-%dT%H:%M:%SZ", &parts);
    assert_non_null(end);
    assert_int_equal(*end, '\0');
    assert_int_equal(strlen(out), 20);
    time_t read = timegm(&parts);
    assert_true(read >= before && read <= after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows),          cmocka_unit_test(exact_capacity),
        cmocka_unit_test(failure_sticks), cmocka_unit_test(numbers),
        cmocka_unit_test(nearest),        cmocka_unit_test(utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
