/* Files whose digests are right and whose structure is not ours: each is refused, by name. */
#include "scratch.h"

#include "prefix.h"
#include "walk.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const tt_walk_limits small_limits = {.cpu_seconds = 1,
                                            .wall_ms = 20000,
                                            .stall_ms = 5000,
                                            .objects = 1000,
                                            .memory_bytes = UINT64_C(256) << 20};

typedef struct maker {
    hid_t file;
    hid_t space; /* 4 elements */
    hid_t list;  /* dataset creation, default */
} maker;

static hid_t add_dataset(const maker *make, const char *name, hid_t type, hid_t space, hid_t list)
{
    hid_t id = H5Dcreate2(make->file, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    assert_true(id >= 0);
    return id;
}

static void add_plain(const maker *make, const char *name)
{
    const int32_t data[4] = {1, 2, 3, 4};
    hid_t id = add_dataset(make, name, H5T_STD_I32LE, make->space, H5P_DEFAULT);
    assert_true(H5Dwrite(id, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(id);
}

static void add_typed(const maker *make, hid_t type)
{
    assert_true(H5Pset_alloc_time(make->list, H5D_ALLOC_TIME_EARLY) >= 0);
    H5Dclose(add_dataset(make, "/d", type, make->space, make->list));
}

/* ---- what a hostile file may hold --------------------------------------------------------- */

static void make_external_storage(const maker *make)
{
    assert_true(H5Pset_external(make->list, "/etc/passwd", 0, 16) >= 0);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, make->space, make->list));
}

static void make_external_link(const maker *make)
{
    add_plain(make, "/a");
    assert_true(
        H5Lcreate_external("/tmp/other.h5", "/x", make->file, "/d", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void make_soft_link(const maker *make)
{
    add_plain(make, "/a");
    assert_true(H5Lcreate_soft("/a", make->file, "/d", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static hid_t follow_own_link(const char *name, hid_t group, const void *data, size_t bytes,
                             hid_t access, hid_t transfer)
{
    (void)name;
    (void)transfer;
    (void)group;
    (void)data;
    (void)bytes;
    (void)access;
    return H5I_INVALID_HID;
}

static void make_own_link(const maker *make)
{
    const H5L_class_t class = {.version = H5L_LINK_CLASS_T_VERS,
                               .id = (H5L_type_t)200,
                               .comment = "own",
                               .trav_func = follow_own_link};
    assert_true(H5Lregister(&class) >= 0);
    assert_true(H5Lcreate_ud(make->file, "/d", class.id, "xx", 2, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Lunregister(class.id) >= 0);
}

static void make_virtual(const maker *make)
{
    assert_true(H5Pset_virtual(make->list, make->space, "/tmp/other.h5", "/x", make->space) >= 0);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, make->space, make->list));
}

static void make_chunked(const maker *make)
{
    const hsize_t chunk[1] = {2};
    assert_true(H5Pset_chunk(make->list, 1, chunk) >= 0);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, make->space, make->list));
}

static void make_extendable(const maker *make)
{
    const hsize_t chunk[1] = {2}, dims[1] = {4}, most[1] = {H5S_UNLIMITED};
    hid_t space = H5Screate_simple(1, dims, most);
    assert_true(H5Pset_chunk(make->list, 1, chunk) >= 0);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, space, make->list));
    H5Sclose(space);
}

static void make_filtered(const maker *make)
{
    const hsize_t chunk[1] = {2};
    assert_true(H5Pset_chunk(make->list, 1, chunk) >= 0);
    assert_true(H5Pset_fletcher32(make->list) >= 0);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, make->space, make->list));
}

static size_t pass_through(unsigned flags, size_t n, const unsigned values[], size_t bytes,
                           size_t *size, void **data)
{
    (void)flags;
    (void)n;
    (void)values;
    (void)size;
    (void)data;
    return bytes;
}

static void make_unknown_filter(const maker *make)
{
    const H5Z_class2_t class = {.version = H5Z_CLASS_T_VERS,
                                .id = 31000,
                                .encoder_present = 1,
                                .decoder_present = 1,
                                .name = "unknown",
                                .filter = pass_through};
    assert_true(H5Zregister(&class) >= 0);
    assert_true(H5Pset_filter(make->list, 31000, H5Z_FLAG_MANDATORY, 0, NULL) >= 0);
    make_chunked(make);
    assert_true(H5Zunregister(31000) >= 0);
}

static void make_compact(const maker *make)
{
    assert_true(H5Pset_layout(make->list, H5D_COMPACT) >= 0);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, make->space, make->list));
}

static void make_huge_rank(const maker *make)
{
    hsize_t dims[32];
    for (int i = 0; i < 32; i++)
        dims[i] = 1;
    hid_t space = H5Screate_simple(32, dims, NULL);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, space, H5P_DEFAULT));
    H5Sclose(space);
}

static void make_no_shape(const maker *make)
{
    hid_t space = H5Screate(H5S_NULL);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I32LE, space, H5P_DEFAULT));
    H5Sclose(space);
}

/* 2^60 elements, no storage. */
static void make_absurd_size(const maker *make)
{
    const hsize_t dims[1] = {UINT64_C(1) << 60};
    hid_t space = H5Screate_simple(1, dims, NULL);
    H5Dclose(add_dataset(make, "/d", H5T_STD_U8LE, space, H5P_DEFAULT));
    H5Sclose(space);
}

static void make_never_written(const maker *make)
{
    H5Dclose(add_dataset(make, "/d", H5T_STD_U8LE, make->space, H5P_DEFAULT));
}

static void make_second_hard_link(const maker *make)
{
    add_plain(make, "/a");
    assert_true(H5Lcreate_hard(make->file, "/a", make->file, "/d", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void add_group(const maker *make, const char *name)
{
    hid_t id = H5Gcreate2(make->file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(id >= 0);
    H5Gclose(id);
}

static void make_cycle(const maker *make)
{
    add_group(make, "/g");
    assert_true(H5Lcreate_hard(make->file, "/", make->file, "/g/d", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void make_deep(const maker *make)
{
    char name[64] = "";
    for (int i = 0; i < 17; i++) {
        memcpy(name + 2 * (size_t)i, "/g", 3);
        add_group(make, name);
    }
}

static void make_attribute_at(const maker *make, const char *name)
{
    hid_t object = H5Oopen(make->file, name, H5P_DEFAULT);
    hid_t attribute = H5Acreate2(object, "x", H5T_STD_I32LE, make->space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0);
    H5Aclose(attribute);
    H5Oclose(object);
}

static void make_dataset_attribute(const maker *make)
{
    add_plain(make, "/d");
    make_attribute_at(make, "/d");
}

static void make_group_attribute(const maker *make)
{
    add_group(make, "/g");
    make_attribute_at(make, "/g");
}

static void make_root_attribute(const maker *make)
{
    make_attribute_at(make, "/");
}

static void make_named_type(const maker *make)
{
    hid_t type = H5Tcopy(H5T_STD_I32LE);
    assert_true(H5Tcommit2(make->file, "/d", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Tclose(type);
}

static void make_big_endian(const maker *make)
{
    add_typed(make, H5T_STD_I32BE);
}

static void make_other_width(const maker *make)
{
    add_typed(make, H5T_STD_I16LE);
}

static void make_string(const maker *make)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    assert_true(H5Tset_size(type, H5T_VARIABLE) >= 0);
    add_typed(make, type);
    H5Tclose(type);
}

static void make_compound(const maker *make)
{
    hid_t type = H5Tcreate(H5T_COMPOUND, 8);
    assert_true(H5Tinsert(type, "a", 0, H5T_STD_I32LE) >= 0);
    add_typed(make, type);
    H5Tclose(type);
}

static void make_reference(const maker *make)
{
    add_typed(make, H5T_STD_REF_OBJ);
}

static void make_odd_name(const maker *make)
{
    add_plain(make, "/a b");
}

static void make_long_name(const maker *make)
{
    char name[400];
    memset(name, 'n', sizeof name - 1);
    name[0] = '/';
    name[sizeof name - 1] = '\0';
    add_plain(make, name);
}

static void make_too_many(const maker *make)
{
    char name[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "/%d", i);
        add_group(make, name);
    }
}

static const struct {
    const char *message; /* part of it */
    void (*make)(const maker *);
} cases[] = {
    {"external storage", make_external_storage},
    {"an external link", make_external_link},
    {"a soft link", make_soft_link},
    {"a user-defined link", make_own_link},
    {"virtual", make_virtual},
    {"chunked", make_chunked},
    {"chunked", make_extendable},
    {"filter", make_filtered},
    {"filter", make_unknown_filter},
    {"compact", make_compact},
    {"32 dimensions", make_huge_rank},
    {"no shape", make_no_shape},
    {"stores 0 bytes", make_absurd_size},
    {"stores 0 bytes", make_never_written},
    {"linked", make_second_hard_link},
    {"linked", make_cycle},
    {"nested", make_deep},
    {"attributes", make_dataset_attribute},
    {"attributes", make_group_attribute},
    {"attributes", make_root_attribute},
    {"neither a group nor a dataset", make_named_type},
    {"element type", make_big_endian},
    {"element type", make_other_width},
    {"element type", make_string},
    {"element type", make_compound},
    {"element type", make_reference},
    {"name that is too long or not plain", make_odd_name},
    {"name that is too long or not plain", make_long_name},
    {"more than 1000 objects", make_too_many},
};

/* ---- making and opening them -------------------------------------------------------------- */

static void make_file(const char *path, void (*make)(const maker *), unsigned userblock, bool old)
{
    const hsize_t dims[1] = {4};
    hid_t creation = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_userblock(creation, userblock);
    if (!old)
        H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    maker at = {.file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access),
                .space = H5Screate_simple(1, dims, NULL),
                .list = H5Pcreate(H5P_DATASET_CREATE)};
    assert_true(at.file >= 0);
    make(&at);
    H5Pclose(at.list);
    H5Sclose(at.space);
    H5Pclose(creation);
    H5Pclose(access);
    assert_true(H5Fclose(at.file) >= 0);
    reseal(path);
}

static void test_each_is_refused(void **state)
{
    const char *path = scratch_path(*state, "bad.h5");
    char file[128];
    snprintf(file, sizeof file, "%s", path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int old = 0; old < 2; old++) {
            tt_store *store = NULL;
            make_file(file, cases[i].make, 4096, old);
            tt_status status = tt_store_open_limited(file, &small_limits, &store);
            if (status != TT_EHOSTILE || !strstr(tt_error_message(), cases[i].message))
                fail_msg("case %zu (%s, %s format): %s: %s", i, cases[i].message,
                         old ? "oldest" : "latest", tt_status_name(status), tt_error_message());
            assert_null(store);
        }
    }
}

static void make_plain(const maker *make)
{
    add_plain(make, "/a");
    add_plain(make, "/b");
    add_group(make, "/g");
    add_plain(make, "/g/c");
}

static void test_a_harmless_foreign_file_is_read(void **state)
{
    for (int old = 0; old < 2; old++) {
        tt_store *store = NULL;
        make_file(scratch_path(*state, "a.h5"), make_plain, 4096, old);
        assert_ok(tt_store_open(scratch_path(*state, "a.h5"), &store));
        assert_int_equal(tt_store_entry_count(store), 3);
        tt_store_close(store);
    }
}

static void test_another_user_block(void **state)
{
    tt_store *store = NULL;
    make_file(scratch_path(*state, "a.h5"), make_plain, 8192, false);
    assert_int_equal(tt_store_open(scratch_path(*state, "a.h5"), &store), TT_EHOSTILE);
    assert_message("starts at byte 8192");
}

static void test_payloads_that_are_no_hdf5(void **state)
{
    static char data[20000];
    tt_store *store = NULL;
    for (size_t bytes = 4096; bytes < sizeof data; bytes += 5000) {
        memset(data + 4096, (int)bytes, bytes - 4096);
        write_file(scratch_path(*state, "a.h5"), data, bytes);
        reseal(scratch_path(*state, "a.h5"));
        assert_int_equal(tt_store_open(scratch_path(*state, "a.h5"), &store), TT_ECORRUPT);
        assert_message("HDF5 cannot open");
    }
}

/* ---- lies about places and sizes, patched into a file without checksums ------------------- */

/* Replaces the 8-byte number `from` by `to` wherever it stands in the payload; how often. */
static int patch(const char *path, uint64_t from, uint64_t to)
{
    size_t bytes;
    int count = 0;
    char *data = read_file(path, &bytes);
    for (size_t at = 4096; at + 8 <= bytes; at++) {
        if (memcmp(data + at, &from, 8) == 0) {
            memcpy(data + at, &to, 8);
            count++;
        }
    }
    write_file(path, data, bytes);
    free(data);
    reseal(path);
    return count;
}

/* Offset of a dataset as the file states it, from the end of the user block. */
static uint64_t stated_offset(const char *path, const char *name)
{
    tt_store *store = NULL;
    assert_ok(tt_store_open(path, &store));
    int64_t offset = tt_store_find(store, name)->file_offset;
    tt_store_close(store);
    return (uint64_t)offset - 4096;
}

static void make_odd_sizes(const maker *make)
{
    const hsize_t dims[2] = {7919, 3};
    hid_t space = H5Screate_simple(2, dims, NULL);
    assert_true(H5Pset_alloc_time(make->list, H5D_ALLOC_TIME_EARLY) >= 0);
    H5Dclose(add_dataset(make, "/d", H5T_STD_I64LE, space, make->list));
    H5Dclose(add_dataset(make, "/e", H5T_STD_I64LE, space, make->list));
    H5Sclose(space);
}

static void assert_lie_refused(const char *path, uint64_t from, uint64_t to, const char *what)
{
    tt_store *store = NULL;
    make_file(path, make_odd_sizes, 4096, true);
    if (from == 0) /* stands for the place of /e */
        from = stated_offset(path, "/e");
    if (to == 0) /* the place of /d */
        to = stated_offset(path, "/d");
    assert_true(patch(path, from, to) > 0);
    tt_status status = tt_store_open(path, &store);
    if (status != TT_EHOSTILE && status != TT_ECORRUPT)
        fail_msg("%s: %s", what, tt_status_name(status));
    print_message("%s: %s: %s\n", what, tt_status_name(status), strchr(tt_error_message(), ' '));
}

static void test_lies_about_places_and_sizes(void **state)
{
    char path[128];
    snprintf(path, sizeof path, "%s", scratch_path(*state, "lie.h5"));
    const uint64_t bytes = 7919 * 3 * 8;
    assert_lie_refused(path, 0, 0, "two datasets at one place");
    assert_lie_refused(path, 0, UINT64_C(1) << 40, "a dataset beyond the end");
    assert_lie_refused(path, 0, UINT64_MAX, "a dataset nowhere");
    assert_lie_refused(path, 0, UINT64_MAX - 4095, "a dataset in the header");
    assert_lie_refused(path, 0, INT64_MAX, "a dataset at the end of numbers");
    assert_lie_refused(path, bytes, bytes + 8, "more storage than shape");
    assert_lie_refused(path, bytes, UINT64_MAX, "endless storage");
    assert_lie_refused(path, 7919, UINT64_C(1) << 62, "a product that overflows");
    assert_lie_refused(path, 7919, UINT64_MAX, "a dimension that is unlimited");
    assert_lie_refused(path, 7919, UINT64_C(1) << 63, "a negative dimension");
}

/* ---- random damage under a valid digest --------------------------------------------------- */

static void mutate(unsigned char *data, size_t bytes, uint64_t seed)
{
    uint32_t random[4];
    tt_philox(seed, 0, 0, random);
    unsigned count = 1 + random[0] % 6;
    for (unsigned i = 0; i < count; i++) {
        tt_philox(seed, 1, i, random);
        size_t at = 4096 + random[0] % (bytes - 4096);
        static const unsigned char interesting[] = {0, 1, 0x7f, 0x80, 0xff};
        switch (random[1] % 3) {
        case 0:
            data[at] ^= (unsigned char)(1U << random[2] % 8);
            break;
        case 1:
            data[at] = interesting[random[2] % sizeof interesting];
            break;
        default:
            data[at] = (unsigned char)random[2];
        }
    }
}

static void fuzz(const char *path, int rounds, uint64_t seed)
{
    size_t bytes;
    int counts[TT_EINTERNAL + 1] = {0}, forbidden = 0;
    unsigned char *good = read_file(path, &bytes), *bad = malloc(bytes);
    for (int round = 0; round < rounds; round++) {
        tt_store *store = NULL;
        memcpy(bad, good, bytes);
        mutate(bad, bytes, seed + (uint64_t)round);
        tt_store_header header = {.version = TT_STORE_VERSION, .run_id = "fuzz"};
        header.payload_bytes = (int64_t)bytes - 4096;
        assert_ok(tt_sha256_of(bad + 4096, bytes - 4096, header.payload_sha256));
        assert_ok(tt_store_prefix_encode(&header, (char *)bad));
        write_file(path, bad, bytes);
        tt_status status = tt_store_open_limited(path, &small_limits, &store);
        counts[status]++;
        forbidden += status != TT_OK && strstr(tt_error_message(), "forbidden") != NULL;
        for (size_t i = 0; status == TT_OK && i < tt_store_entry_count(store); i++) {
            const tt_store_entry *entry = tt_store_entry_at(store, i);
            assert_in_range(entry->bytes, 0, bytes);
            assert_ok(tt_store_read(store, entry, 0, bad, (size_t)entry->bytes));
        }
        tt_store_close(store);
        if (status != TT_OK && status != TT_ECORRUPT && status != TT_EHOSTILE)
            fail_msg("round %d: %s: %s", round, tt_status_name(status), tt_error_message());
    }
    print_message("%d damaged files: %d harmless, %d corrupt, %d hostile\n", rounds, counts[TT_OK],
                  counts[TT_ECORRUPT], counts[TT_EHOSTILE]);
    /* Damage alone has no reason to leave the sandbox: what HDF5 does then must be allowed. */
    assert_int_equal(forbidden, 0);
    free(good);
    free(bad);
}

static void test_random_damage(void **state)
{
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    fuzz(scratch_path(*state, "a.h5"), SANITIZED ? 250 : 1000, 1000);
    make_file(scratch_path(*state, "b.h5"), make_plain, 4096, true);
    fuzz(scratch_path(*state, "b.h5"), SANITIZED ? 250 : 1000, 9000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_each_is_refused),
        TEST(test_a_harmless_foreign_file_is_read),
        TEST(test_another_user_block),
        TEST(test_payloads_that_are_no_hdf5),
        TEST(test_lies_about_places_and_sizes),
        TEST(test_random_damage),
    };
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return cmocka_run_group_tests_name("store: hostile files", tests, NULL, NULL);
}
