/* What is written is read back, by us and by stock HDF5 tools; what breaks the contract is refused.
 */
#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static tt_store_writer *start(const char *directory, const char *name)
{
    tt_store_writer *writer = NULL;
    const tt_store_write_options options = {
        .size = sizeof options, .directory = directory, .name = name, .run_id = "r1", .step = 7};
    assert_ok(tt_store_writer_create(&options, &writer));
    return writer;
}

/* ---- types and shapes --------------------------------------------------------------------- */

typedef struct shape {
    int rank;
    int64_t dims[TT_STORE_MAX_RANK];
} shape;

static const shape shapes[] = {
    {0, {0}},      {1, {1}},     {1, {0}},       {1, {1000}},
    {2, {3, 0}},   {2, {7, 11}}, {3, {2, 3, 4}}, {8, {1, 2, 1, 2, 1, 2, 1, 3}},
    {1, {100003}}, /* large enough to be aligned */
};

enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static int64_t shape_bytes(tt_dtype dtype, const shape *of)
{
    int64_t bytes = (int64_t)tt_dtype_size(dtype);
    for (int i = 0; i < of->rank; i++)
        bytes *= of->dims[i];
    return bytes;
}

static unsigned char content(int dataset, int64_t byte)
{
    return (unsigned char)((unsigned)dataset * 37U + (unsigned)byte * 11U + (unsigned)(byte >> 8));
}

static void name_of(char out[64], int dtype, int shape_number)
{
    snprintf(out, 64, "/types/%s/shape-%d", tt_dtype_name((tt_dtype)dtype), shape_number);
}

/* Puts in pieces whose size and order depend on `style`. */
static void put_all(tt_store_writer *writer, const char *path, int number, int64_t bytes, int style)
{
    unsigned char *data = malloc((size_t)bytes + 1);
    for (int64_t i = 0; i < bytes; i++)
        data[i] = content(number, i);
    if (style == 0) {
        assert_ok(tt_store_writer_put(writer, path, 0, data, (size_t)bytes));
    } else if (style == 1) { /* halves, the second first */
        int64_t half = bytes / 2;
        assert_ok(tt_store_writer_put(writer, path, half, data + half, (size_t)(bytes - half)));
        assert_ok(tt_store_writer_put(writer, path, 0, data, (size_t)half));
    } else { /* wrong bytes first, then overlapping pieces over them */
        unsigned char *wrong = calloc(1, (size_t)bytes + 1);
        assert_ok(tt_store_writer_put(writer, path, 0, wrong, (size_t)bytes));
        for (int64_t at = 0; at < bytes; at += 4000) {
            int64_t piece = bytes - at < 5000 ? bytes - at : 5000;
            assert_ok(tt_store_writer_put(writer, path, at, data + at, (size_t)piece));
        }
        free(wrong);
    }
    free(data);
}

static void save_all(const char *directory, const char *name, int style)
{
    tt_store_writer *writer = start(directory, name);
    char path[64];
    for (int dtype = TT_U8; dtype <= TT_F64; dtype++) {
        for (int i = 0; i < SHAPES; i++) {
            name_of(path, dtype, i);
            assert_ok(tt_store_writer_declare(writer, path, (tt_dtype)dtype, shapes[i].rank,
                                              shapes[i].dims));
        }
    }
    assert_ok(tt_store_writer_add_text(writer, "/note", "text", 4));
    assert_ok(tt_store_writer_add_text(writer, "/empty", "", 0));
    int number = 0;
    for (int dtype = TT_U8; dtype <= TT_F64; dtype++) {
        for (int i = 0; i < SHAPES; i++) {
            name_of(path, dtype, i);
            put_all(writer, path, number++, shape_bytes((tt_dtype)dtype, &shapes[i]), style);
        }
    }
    char digest[TT_SHA256_HEX];
    assert_ok(tt_store_writer_commit(writer, digest));
    assert_int_equal(strlen(digest), 64);
    tt_store_writer_destroy(writer);
}

static void check_all(const char *path)
{
    tt_store *store = NULL;
    char name[64];
    int number = 0;
    assert_ok(tt_store_open(path, &store));
    assert_int_equal(tt_store_entry_count(store), 7 * SHAPES + 2);
    for (int dtype = TT_U8; dtype <= TT_F64; dtype++) {
        for (int i = 0; i < SHAPES; i++, number++) {
            name_of(name, dtype, i);
            const tt_store_entry *entry = tt_store_find(store, name);
            assert_non_null(entry);
            assert_int_equal(entry->dtype, dtype);
            assert_int_equal(entry->rank, shapes[i].rank);
            assert_memory_equal(entry->dims, shapes[i].dims,
                                (size_t)shapes[i].rank * sizeof(int64_t));
            assert_int_equal(entry->bytes, shape_bytes((tt_dtype)dtype, &shapes[i]));
            unsigned char *data = malloc((size_t)entry->bytes + 1);
            assert_ok(tt_store_read(store, entry, 0, data, (size_t)entry->bytes));
            for (int64_t b = 0; b < entry->bytes; b++)
                assert_int_equal(data[b], content(number, b));
            assert_int_equal(tt_store_read(store, entry, 1, data, (size_t)entry->bytes), TT_EINVAL);
            assert_int_equal(tt_store_read(store, entry, -1, data, 0), TT_EINVAL);
            free(data);
        }
    }
    for (size_t i = 1; i < tt_store_entry_count(store); i++)
        assert_true(
            strcmp(tt_store_entry_at(store, i - 1)->path, tt_store_entry_at(store, i)->path) < 0);
    assert_null(tt_store_entry_at(store, tt_store_entry_count(store)));
    assert_null(tt_store_find(store, "/types"));
    tt_store_close(store);
}

static void test_all_types_and_shapes(void **state)
{
    size_t bytes[3];
    void *data[3];
    for (int style = 0; style < 3; style++) {
        save_all(*state, "a.h5", style);
        check_all(scratch_path(*state, "a.h5"));
        data[style] = read_file(scratch_path(*state, "a.h5"), &bytes[style]);
    }
    /* Whatever the order of the puts: the same content is the same bytes. */
    for (int style = 1; style < 3; style++) {
        assert_int_equal(bytes[0], bytes[style]);
        assert_memory_equal(data[0], data[style], bytes[0]);
        free(data[style]);
    }
    free(data[0]);
}

/* HDF5 keeps times of change unless told not to: a second later must not show. */
static void test_same_content_same_bytes(void **state)
{
    size_t first_bytes, second_bytes;
    assert_ok(sample_save(*state, "a.h5", 5, NULL));
    sleep(1);
    assert_ok(sample_save(*state, "b.h5", 5, NULL));
    void *first = read_file(scratch_path(*state, "a.h5"), &first_bytes);
    void *second = read_file(scratch_path(*state, "b.h5"), &second_bytes);
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, first_bytes);
    free(first);
    free(second);
    sample_check(scratch_path(*state, "b.h5"), 5);
}

static void test_many_datasets_and_groups(void **state)
{
    enum { MANY = 3000 };
    char path[64];
    tt_store *store = NULL;
    tt_store_writer *writer = start(*state, "many.h5");
    const int64_t dims[] = {2};
    for (int i = 0; i < MANY; i++) {
        snprintf(path, sizeof path, "/g%d/h/t%d", i % 40, i);
        assert_ok(tt_store_writer_declare(writer, path, TT_I32, 1, dims));
    }
    for (int32_t i = 0; i < MANY; i++) {
        int32_t pair[2] = {i, -i};
        snprintf(path, sizeof path, "/g%d/h/t%d", i % 40, i);
        assert_ok(tt_store_writer_put(writer, path, 0, pair, sizeof pair));
    }
    assert_ok(tt_store_writer_commit(writer, NULL));
    tt_store_writer_destroy(writer);
    assert_ok(tt_store_open(scratch_path(*state, "many.h5"), &store));
    assert_int_equal(tt_store_entry_count(store), MANY);
    for (int32_t i = 0; i < MANY; i++) {
        int32_t pair[2];
        snprintf(path, sizeof path, "/g%d/h/t%d", i % 40, i);
        assert_ok(tt_store_read(store, tt_store_find(store, path), 0, pair, sizeof pair));
        assert_int_equal(pair[0], i);
        assert_int_equal(pair[1], -i);
    }
    tt_store_close(store);
}

static void test_a_container_may_be_empty(void **state)
{
    tt_store *store = NULL;
    tt_store_writer *writer = start(*state, "none.h5");
    assert_ok(tt_store_writer_commit(writer, NULL));
    tt_store_writer_destroy(writer);
    assert_ok(tt_store_open(scratch_path(*state, "none.h5"), &store));
    assert_int_equal(tt_store_entry_count(store), 0);
    assert_null(tt_store_find(store, "/x"));
    tt_store_close(store);
}

/* ---- the header --------------------------------------------------------------------------- */

static void test_header_fields(void **state)
{
    char parent[TT_SHA256_HEX], digest[TT_SHA256_HEX];
    tt_store_writer *writer = NULL;
    tt_store_header header;
    assert_ok(tt_sha256_of("x", 1, parent));
    const tt_store_write_options options = {.size = sizeof options,
                                            .directory = *state,
                                            .name = "h.h5",
                                            .run_id = "run \"7\" \\ x",
                                            .step = INT64_MAX,
                                            .parent_sha256 = parent};
    assert_ok(tt_store_writer_create(&options, &writer));
    assert_ok(tt_store_writer_commit(writer, digest));
    tt_store_writer_destroy(writer);
    assert_ok(tt_store_verify(scratch_path(*state, "h.h5"), &header));
    assert_int_equal(header.version, 1);
    assert_string_equal(header.run_id, "run \"7\" \\ x");
    assert_true(header.step == INT64_MAX);
    assert_string_equal(header.parent_sha256, parent);
    assert_string_equal(header.header_sha256, digest);
    size_t bytes;
    char *data = read_file(scratch_path(*state, "h.h5"), &bytes);
    assert_int_equal(header.payload_bytes, bytes - TT_STORE_PREFIX_BYTES);
    assert_int_equal(data[0], '{');
    assert_int_equal(data[4031], '\n');
    assert_memory_equal(data + 4032, digest, 64);
    assert_memory_equal(data + 4096, "\x89HDF\r\n\x1a\n", 8);
    free(data);
}

/* ---- contract ----------------------------------------------------------------------------- */

static void test_refused_options(void **state)
{
    static const char *const names[] = {"", "x", ".h5", ".x.h5", "a/b.h5", "a b.h5", "a.h5.tmp"};
    tt_store_write_options options = {
        .size = sizeof options, .directory = *state, .name = "a.h5", .run_id = "r"};
    tt_store_writer *writer = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        options.name = names[i];
        assert_int_equal(tt_store_writer_create(&options, &writer), TT_EINVAL);
        assert_null(writer);
    }
    options.name = "a.h5";
    options.step = -1;
    assert_int_equal(tt_store_writer_create(&options, &writer), TT_EINVAL);
    options.step = 0;
    options.run_id = "0123456789012345678901234567890123456789012345678901234567890123";
    assert_int_equal(tt_store_writer_create(&options, &writer), TT_EINVAL);
    options.run_id = "line\nbreak";
    assert_int_equal(tt_store_writer_create(&options, &writer), TT_EINVAL);
    options.run_id = NULL;
    options.parent_sha256 = "abc";
    assert_int_equal(tt_store_writer_create(&options, &writer), TT_EINVAL);
    options.parent_sha256 = NULL;
    options.directory = scratch_path(*state, "missing");
    assert_ok(tt_store_writer_create(&options, &writer));
    assert_int_equal(tt_store_writer_commit(writer, NULL), TT_ENOTFOUND);
    assert_int_equal(tt_store_writer_commit(writer, NULL), TT_EINVAL);
    tt_store_writer_destroy(writer);
    tt_store_writer_destroy(NULL);
}

static void test_refused_declarations(void **state)
{
    tt_store_writer *writer = start(*state, "a.h5");
    const int64_t two[] = {2}, negative[] = {-1}, huge[] = {INT64_MAX / 2, 16};
    char name[TT_STORE_MAX_NAME + 1];
    assert_ok(tt_store_writer_declare(writer, "/a/b", TT_U8, 1, two));
    assert_ok(tt_store_writer_declare(writer, "/a.c", TT_U8, 1, two));
    static const char *const paths[] = {"",      "a",
                                        "/",     "//a",
                                        "/a/",   "/a/./b",
                                        "/a/..", "/a/b",
                                        "/a",    "/a/b/c",
                                        "/a\n",  "/\xc3\xa4",
                                        "/a b",  "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        assert_int_equal(tt_store_writer_declare(writer, paths[i], TT_U8, 1, two), TT_EINVAL);
    assert_ok(
        tt_store_writer_declare(writer, "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", TT_U8, 1, two));
    memset(name, 'n', sizeof name);
    name[0] = '/';
    name[TT_STORE_MAX_NAME] = '\0';
    assert_int_equal(tt_store_writer_declare(writer, name, TT_U8, 1, two), TT_EINVAL);
    name[TT_STORE_MAX_NAME - 1] = '\0';
    assert_ok(tt_store_writer_declare(writer, name, TT_U8, 1, two));
    assert_int_equal(tt_store_writer_declare(writer, "/n", TT_U8, 1, negative), TT_EINVAL);
    assert_int_equal(tt_store_writer_declare(writer, "/n", TT_U8, 2, huge), TT_EINVAL);
    assert_int_equal(tt_store_writer_declare(writer, "/n", TT_U8, 9, two), TT_EINVAL);
    assert_int_equal(tt_store_writer_declare(writer, "/n", TT_U8, 1, NULL), TT_EINVAL);
    assert_int_equal(tt_store_writer_declare(writer, "/n", (tt_dtype)99, 1, two), TT_EINVAL);
    tt_store_writer_destroy(writer);
    assert_int_equal(scratch_count(*state, "a.h5"), 0);
}

static void test_refused_puts(void **state)
{
    tt_store_writer *writer = start(*state, "a.h5");
    const int64_t dims[] = {4};
    assert_ok(tt_store_writer_declare(writer, "/a", TT_I32, 1, dims));
    assert_ok(tt_store_writer_add_text(writer, "/t", "text", 4));
    assert_int_equal(tt_store_writer_put(writer, "/b", 0, "xxxx", 4), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/t", 0, "xxxx", 4), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/a", 13, "xxxx", 4), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/a", -1, "xxxx", 4), TT_EINVAL);
    assert_int_equal(scratch_count(*state, "a.h5"), 0);
    assert_ok(tt_store_writer_put(writer, "/a", 0, "xxxx", 4));
    assert_int_equal(scratch_count(*state, ".a.h5.tmp."), 1);
    assert_int_equal(tt_store_writer_declare(writer, "/c", TT_I32, 1, dims), TT_EINVAL);
    assert_ok(tt_store_writer_put(writer, "/a", 12, "xxxx", 4));
    /* Another writer of that name is told so. */
    tt_store_writer *second = start(*state, "a.h5");
    assert_int_equal(tt_store_writer_commit(second, NULL), TT_EBUSY);
    tt_store_writer_destroy(second);
    assert_int_equal(tt_store_writer_commit(writer, NULL), TT_EINVAL);
    assert_message("'/a' is incomplete: byte 4 of 16");
    tt_store_writer_destroy(writer);
    assert_int_equal(scratch_count(*state, "a.h5"), 0);
}

static void test_refused_reads(void **state)
{
    tt_store *store = NULL;
    tt_text text;
    assert_int_equal(tt_store_open(scratch_path(*state, "none.h5"), &store), TT_ENOTFOUND);
    assert_int_equal(tt_store_open(*state, &store), TT_ECORRUPT);
    assert_message("not a regular file");
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    assert_ok(tt_store_open(scratch_path(*state, "a.h5"), &store));
    tt_text_init(&text);
    assert_int_equal(tt_store_read_text(store, "/params/w", &text), TT_EDATA);
    assert_int_equal(tt_store_read_text(store, "/nothing", &text), TT_EDATA);
    tt_text_clear(&text);
    /* The file shrinks under an open container: an error, not garbage. */
    char byte[60];
    assert_int_equal(truncate(scratch_path(*state, "a.h5"), 4100), 0);
    assert_int_equal(tt_store_read(store, tt_store_find(store, "/params/w"), 0, byte, 60),
                     TT_ECORRUPT);
    tt_store_close(store);
    tt_store_close(NULL);
}

/* ---- stock tools -------------------------------------------------------------------------- */

/* Runs a shell command; its output in `out`; its exit status. */
static int run_command(const char *command, char *out, size_t capacity)
{
    FILE *stream = popen(command, "r"); // NOLINT(cert-env33-c)
    assert_non_null(stream);
    size_t bytes = fread(out, 1, capacity - 1, stream);
    out[bytes] = '\0';
    int status = pclose(stream);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_h5dump_reads_it(void **state)
{
    char out[8192], command[512];
    if (run_command("h5dump --version 2>&1", out, sizeof out) != 0) {
        print_message("h5dump is not installed\n");
        skip();
    }
    assert_ok(sample_save(*state, "a.h5", 40, NULL));
    snprintf(command, sizeof command, "h5dump %s 2>&1", scratch_path(*state, "a.h5"));
    assert_int_equal(run_command(command, out, sizeof out), 0);
    assert_non_null(strstr(out, "H5T_IEEE_F32LE"));
    assert_non_null(strstr(out, "(2,0): 50, 51, 52, 53, 54"));
    assert_non_null(strstr(out, "(0): 40"));
}

static void test_h5py_reads_it(void **state)
{
    const char *python = getenv("TRIMTAB_PYTHON");
    char out[8192], command[1024];
    python = python ? python : "python3";
    snprintf(command, sizeof command, "%s -c 'import h5py' 2>&1", python);
    if (run_command(command, out, sizeof out) != 0) {
        print_message("%s has no h5py (TRIMTAB_PYTHON names another interpreter)\n", python);
        skip();
    }
    assert_ok(sample_save(*state, "a.h5", 40, NULL));
    snprintf(command, sizeof command,
             "%s -c 'import h5py; f=h5py.File(\"%s\",\"r\"); print(f[\"params/w\"][2].tolist(), "
             "f[\"state/cursor\"][()], f.userblock_size, bytes(f[\"config\"])[:15])' 2>&1",
             python, scratch_path(*state, "a.h5"));
    assert_int_equal(run_command(command, out, sizeof out), 0);
    assert_string_equal(out, "[50.0, 51.0, 52.0, 53.0, 54.0] 40 4096 b'kernel.tile: 32'\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_all_types_and_shapes),
        TEST(test_same_content_same_bytes),
        TEST(test_many_datasets_and_groups),
        TEST(test_a_container_may_be_empty),
        TEST(test_header_fields),
        TEST(test_refused_options),
        TEST(test_refused_declarations),
        TEST(test_refused_puts),
        TEST(test_refused_reads),
        TEST(test_h5dump_reads_it),
        TEST(test_h5py_reads_it),
    };
    return cmocka_run_group_tests_name("store: round trip", tests, NULL, NULL);
}
