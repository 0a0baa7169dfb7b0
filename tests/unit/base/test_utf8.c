/* UTF-8: every character there and back, and what is none. */
#include "unit.h"

#include <string.h>

static size_t encode(uint32_t code, char out[4])
{
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size; i-- > 1;) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)(first[size] | code);
    return size;
}

static void every_character(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x10ffff + 0x1000; code++) {
        char text[4];
        uint32_t back = 1;
        size_t size = encode(code, text);
        bool valid = (code < 0xd800 || code > 0xdfff) && code <= 0x10ffff;
        assert_int_equal(tt_utf8_decode(text, size, &back), valid ? size : 0);
        assert_int_equal(back, valid ? code : 1);
        assert_int_equal(tt_utf8_decode(text, size - 1, NULL), 0);
    }
}

static void invalid(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\x80",         "\xbf", "\xc0\x80", "\xc1\xbf",  "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
        "\xf5\x80\x80", "\xff", "\xc3(",    "\xe2\x82(", "\xf0\x9f\x98("};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(tt_utf8_decode(texts[i], strlen(texts[i]), NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character),
        cmocka_unit_test(invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
