/* SHA-256 (FIPS 180-4's examples) and xxHash64. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static const char million_a[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void vectors(void **state)
{
    (void)state;
    static const struct {
        const char *message, *digest;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char out[TT_SHA256_HEX];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_int_equal(tt_sha256_of(known[i].message, strlen(known[i].message), out), TT_OK);
        assert_string_equal(out, known[i].digest);
    }
}

static void pieces(void **state)
{
    (void)state;
    tt_sha256 *hash = NULL;
    char out[TT_SHA256_HEX];
    char block[997];
    memset(block, 'a', sizeof block);
    assert_int_equal(tt_sha256_create(&hash), TT_OK);
    /* Twice: finish makes it ready for a new message. */
    for (int round = 0; round < 2; round++) {
        for (size_t left = 1000000, part; left; left -= part) {
            part = left < sizeof block ? left : sizeof block;
            assert_int_equal(tt_sha256_update(hash, block, part), TT_OK);
        }
        assert_int_equal(tt_sha256_update(hash, NULL, 0), TT_OK);
        assert_int_equal(tt_sha256_finish(hash, out), TT_OK);
        assert_string_equal(out, million_a);
    }
    tt_sha256_destroy(hash);
    tt_sha256_destroy(NULL);
}

static void table_hash(void **state)
{
    (void)state;
    /* XXH64's published values. */
    assert_true(tt_hash64("", 0, 0) == UINT64_C(0xef46db3751d8e999));
    assert_true(tt_hash64("abc", 3, 0) == UINT64_C(0x44bc2cf5ad770999));
    assert_true(tt_hash64("abc", 3, 1) != tt_hash64("abc", 3, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(pieces),
        cmocka_unit_test(table_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
