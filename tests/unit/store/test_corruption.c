/* Damage of any kind is found by the digests, before HDF5 or a child process has any part in it. */
#include "scratch.h"

#include "prefix.h"

#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- every entry into HDF5 is counted, in whichever process ------------------------------- */

static int *hdf5_opens; /* shared with children */
static int forks;

/* The linker's names for the stand-in and for the real function. */
// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c)
hid_t __real_H5Fopen(const char *name, unsigned flags, hid_t access);
hid_t __wrap_H5Fopen(const char *name, unsigned flags, hid_t access);
pid_t __real_fork(void);
pid_t __wrap_fork(void);

hid_t __wrap_H5Fopen(const char *name, unsigned flags, hid_t access)
{
    __atomic_add_fetch(hdf5_opens, 1, __ATOMIC_SEQ_CST);
    return __real_H5Fopen(name, flags, access);
}

pid_t __wrap_fork(void)
{
    forks++;
    return __real_fork();
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c)

static void assert_hdf5_untouched(void)
{
    assert_int_equal(*hdf5_opens, 0);
    assert_int_equal(forks, 0);
}

static int start_counting(void **state)
{
    hdf5_opens =
        mmap(NULL, sizeof *hdf5_opens, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    forks = 0;
    return hdf5_opens == MAP_FAILED ? -1 : scratch_make(state);
}

static int stop_counting(void **state)
{
    munmap(hdf5_opens, sizeof *hdf5_opens);
    return scratch_remove(state);
}

static void test_the_counters_count(void **state)
{
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    assert_hdf5_untouched();
    sample_check(scratch_path(*state, "a.h5"), 1);
    assert_int_equal(*hdf5_opens, 1);
    assert_int_equal(forks, 1);
}

/* ---- flips and cuts ----------------------------------------------------------------------- */

static void test_every_single_bit_flip(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    char file[128];
    size_t bytes;
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    snprintf(file, sizeof file, "%s", path);
    unsigned char *data = read_file(file, &bytes);
    assert_in_range(bytes, 4097, 65536);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t at = 0; at < bytes; at++) {
        for (int bit = 0; bit < 8; bit++) {
            unsigned char flipped = (unsigned char)(data[at] ^ (1U << bit));
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
            if (tt_store_verify(file, NULL) != TT_ECORRUPT)
                fail_msg("bit %d of byte %zu: not found", bit, at);
        }
        assert_int_equal(pwrite(fd, &data[at], 1, (off_t)at), 1);
    }
    assert_ok(tt_store_verify(file, NULL));
    print_message("%zu bit flips of a container of %zu bytes, all found\n", 8 * bytes, bytes);
    close(fd);
    free(data);
    assert_hdf5_untouched();
}

static void test_open_stops_at_the_digest(void **state)
{
    size_t bytes;
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    unsigned char *data = read_file(scratch_path(*state, "a.h5"), &bytes);
    for (size_t at = 0; at < bytes; at += 97) {
        tt_store *store = NULL;
        data[at] ^= 0x10;
        write_file(scratch_path(*state, "a.h5"), data, bytes);
        assert_int_equal(tt_store_open(scratch_path(*state, "a.h5"), &store), TT_ECORRUPT);
        assert_null(store);
        data[at] ^= 0x10;
    }
    free(data);
    assert_hdf5_untouched();
}

static void test_every_truncation_and_some_growth(void **state)
{
    size_t bytes;
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    char file[128];
    snprintf(file, sizeof file, "%s", scratch_path(*state, "a.h5"));
    unsigned char *data = read_file(file, &bytes);
    for (size_t length = bytes; length-- > 0;) {
        assert_int_equal(truncate(file, (off_t)length), 0);
        assert_int_equal(tt_store_verify(file, NULL), TT_ECORRUPT);
        assert_message("truncated");
    }
    data[bytes] = 0;
    write_file(file, data, bytes + 1);
    assert_int_equal(tt_store_verify(file, NULL), TT_ECORRUPT);
    assert_message("appended");
    /* A sparse file of the largest size is refused by its length, not read. */
    write_file(file, data, bytes);
    if (truncate(file, INT64_C(1) << 40) == 0) {
        assert_int_equal(tt_store_verify(file, NULL), TT_ECORRUPT);
        assert_message("appended");
    }
    free(data);
    assert_hdf5_untouched();
}

static void test_other_files(void **state)
{
    char zeros[8192] = {0};
    write_file(scratch_path(*state, "zeros"), zeros, sizeof zeros);
    assert_int_equal(tt_store_verify(scratch_path(*state, "zeros"), NULL), TT_ECORRUPT);
    assert_message("not a trimtab container");
    assert_int_equal(mkfifo(scratch_path(*state, "fifo"), 0600), 0);
    assert_int_equal(tt_store_verify(scratch_path(*state, "fifo"), NULL), TT_ECORRUPT);
    assert_int_equal(tt_store_verify("/dev/zero", NULL), TT_ECORRUPT);
    assert_message("not a regular file");
    assert_int_equal(tt_store_verify(scratch_path(*state, "none"), NULL), TT_ENOTFOUND);
    assert_int_equal(tt_store_verify(NULL, NULL), TT_EINVAL);
    assert_hdf5_untouched();
}

/* ---- headers with a correct digest -------------------------------------------------------- */

/* Puts `json` in front of an empty payload, with the digests that belong to it. */
static tt_status verify_header(const char *path, const char *json)
{
    char block[TT_STORE_PREFIX_BYTES], digest[TT_SHA256_HEX];
    memset(block, ' ', sizeof block);
    memcpy(block, json, strlen(json)); // NOLINT(bugprone-not-null-terminated-result)
    assert_ok(tt_sha256_of(block, TT_STORE_HEADER_BYTES, digest));
    memcpy(block + TT_STORE_HEADER_BYTES, digest, 64);
    write_file(path, block, sizeof block);
    return tt_store_verify(path, NULL);
}

#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEADER(format, version, run_id, step, parent, bytes, sha)                                  \
    "{\"format\":" format ",\"version\":" version ",\"run_id\":" run_id ",\"step\":" step          \
    ",\"parent\":" parent ",\"payload_bytes\":" bytes ",\"payload_sha256\":" sha "}"
#define FORMAT "\"trimtab-container\""
#define SHA    "\"" NOTHING "\""

static void test_malformed_headers(void **state)
{
    static const char *const wrong[] = {
        "",
        "[]",
        "{}",
        "{\"format\":" FORMAT "}",
        HEADER("\"other\"", "1", "\"r\"", "1", "\"\"", "0", SHA),
        HEADER("7", "1", "\"r\"", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "0", "\"r\"", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "-1", "\"r\"", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "1.0", "\"r\"", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "\"1\"", "\"r\"", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "7", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "\"a\\u0000b\"", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "\"a\\nb\"", "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "\"0123456789012345678901234567890123456789012345678901234567890123\"",
               "1", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "\"r\"", "-1", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1.5", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "\"r\"", "99999999999999999999", "\"\"", "0", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"abc\"", "0", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "null", "0", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "-1", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "1", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "9223372036854775807", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "0", "\"x\""),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "0", "7"),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "0,\"more\":1", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "0,\"step\":2", SHA),
        HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "0", SHA) "x",
    };
    const char *path = scratch_path(*state, "h");
    assert_ok(verify_header(path, HEADER(FORMAT, "1", "\"r\"", "1", "\"\"", "0", SHA)));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (verify_header(path, wrong[i]) != TT_ECORRUPT)
            fail_msg("accepted: %s", wrong[i]);
    }
    char deep[4001];
    memset(deep, '[', 4000);
    deep[4000] = '\0';
    assert_int_equal(verify_header(path, deep), TT_ECORRUPT);
    assert_hdf5_untouched();
}

static void test_a_newer_version_is_named(void **state)
{
    const char *path = scratch_path(*state, "h");
    assert_int_equal(verify_header(path, "{\"format\":" FORMAT ",\"version\":2,\"new\":[1]}"),
                     TT_EUNSUPPORTED);
    assert_message("written by a newer trimtab (format version 2");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_counting, stop_counting)
    const struct CMUnitTest tests[] = {
        TEST(test_the_counters_count),
        TEST(test_every_single_bit_flip),
        TEST(test_open_stops_at_the_digest),
        TEST(test_every_truncation_and_some_growth),
        TEST(test_other_files),
        TEST(test_malformed_headers),
        TEST(test_a_newer_version_is_named),
    };
    return cmocka_run_group_tests_name("store: corruption", tests, NULL, NULL);
}
