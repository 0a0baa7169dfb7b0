/* What the commit protocol does where memory, digests, directories and arguments fail it: the cases
 * that other tests do not meet. */
#include "scratch.h"

#include "files.h"
#include "layout.h"
#include "unit/starve.h"
#include "writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what stands in for others ------------------------------------------------------------ */

static int digests_left = -1; /* updates until one fails; -1: none does */
static int kill_error;        /* of every kill(); 0: the real one */
static int readdir_error;     /* of the first readdir(); 0: the real one */
static bool a_page_too_many;  /* HDF5 leaves a page behind the end of its file */

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
int __real_EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t bytes);
int __wrap_EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t bytes);
int __real_kill(pid_t pid, int number);
int __wrap_kill(pid_t pid, int number);
struct dirent *__real_readdir(DIR *stream);
struct dirent *__wrap_readdir(DIR *stream);
tt_status __real_tt_store_skeleton_build(tt_store_dataset *datasets, const size_t *sorted,
                                         size_t count, tt_image *image);
tt_status __wrap_tt_store_skeleton_build(tt_store_dataset *datasets, const size_t *sorted,
                                         size_t count, tt_image *image);

int __wrap_EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t bytes)
{
    if (digests_left >= 0 && digests_left-- == 0)
        return 0;
    return __real_EVP_DigestUpdate(context, data, bytes);
}

int __wrap_kill(pid_t pid, int number)
{
    if (kill_error == 0)
        return __real_kill(pid, number);
    errno = kill_error;
    return -1;
}

struct dirent *__wrap_readdir(DIR *stream)
{
    if (readdir_error == 0)
        return __real_readdir(stream);
    errno = readdir_error;
    return NULL;
}

tt_status __wrap_tt_store_skeleton_build(tt_store_dataset *datasets, const size_t *sorted,
                                         size_t count, tt_image *image)
{
    tt_status status = __real_tt_store_skeleton_build(datasets, sorted, count, image);
    if (status == TT_OK && a_page_too_many) {
        image->pages = realloc(image->pages, (image->count + 1) * sizeof *image->pages);
        tt_image_page *page = &image->pages[image->count++];
        page->offset = (image->bytes / TT_IMAGE_PAGE + 2) * TT_IMAGE_PAGE;
        page->data = calloc(1, TT_IMAGE_PAGE);
    }
    return status;
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

/* POSIX, but for what a test replaces. */
static tt_file_ops ops_like_posix(void *user)
{
    tt_file_ops ops = *tt_file_ops_posix();
    ops.user = user;
    return ops;
}

static tt_store_write_options options_for(const char *directory, const char *name)
{
    return (tt_store_write_options){.size = sizeof(tt_store_write_options),
                                    .directory = directory,
                                    .name = name,
                                    .run_id = "odd",
                                    .step = 3};
}

/* ---- a save of all kinds of datasets ------------------------------------------------------ */

enum { SMALL = 40, LARGE_BYTES = 300000 };

/* More datasets than the first allocation holds, texts, a dataset of many pages, and puts in
 * several pieces out of order. `again`: then one of them once more, so that the digest starts over.
 */
static tt_status save_all_kinds(const char *directory, bool again)
{
    static char large[LARGE_BYTES];
    const int64_t dims[] = {LARGE_BYTES};
    const int64_t one[] = {1};
    const tt_store_write_options options = options_for(directory, "new.h5");
    tt_store_writer *writer = NULL;
    char path[32];
    tt_status status = tt_store_writer_create(&options, &writer);
    for (int i = 0; i < SMALL && status == TT_OK; i++) {
        snprintf(path, sizeof path, "/small/%02d", i);
        status = tt_store_writer_declare(writer, path, TT_F32, 1, one);
    }
    if (status == TT_OK)
        status = tt_store_writer_declare(writer, "/large", TT_U8, 1, dims);
    if (status == TT_OK)
        status = tt_store_writer_add_text(writer, "/text", "abc", 3);
    /* Every second piece first: five ranges to remember. */
    for (int half = 1; half >= 0; half--)
        for (int i = half; i < 10 && status == TT_OK; i += 2)
            status = tt_store_writer_put(writer, "/large", i * 30000, large, 30000);
    for (int i = 0; i < SMALL && status == TT_OK; i++) {
        snprintf(path, sizeof path, "/small/%02d", i);
        status = tt_store_writer_put(writer, path, 0, large, sizeof(float));
    }
    if (status == TT_OK && again)
        status = tt_store_writer_put(writer, "/small/00", 0, large, sizeof(float));
    if (status == TT_OK)
        status = tt_store_writer_commit(writer, NULL);
    tt_store_writer_destroy(writer);
    return status;
}

static void assert_only_the_old(const char *directory)
{
    assert_int_equal(scratch_count(directory, ".tmp."), 0);
    assert_int_equal(scratch_count(directory, "new.h5"), 0);
    sample_check(scratch_path(directory, "latest"), 1);
}

static void test_each_allocation_failing(void **state)
{
    for (int again = 0; again < 2; again++) {
        assert_ok(sample_save(*state, "old.h5", 1, NULL));
        int failures = 0;
        for (bool starved = true; starved; failures++) {
            starve_at(failures, false);
            tt_status status = save_all_kinds(*state, again != 0);
            starved = starve_end();
            if (!starved) {
                assert_ok(status);
            } else if (access(scratch_path(*state, "new.h5"), F_OK) == 0) {
                /* Renamed already, so it stays; `latest` may not have moved. */
                assert_ok(tt_store_verify(scratch_path(*state, "new.h5"), NULL));
                assert_true(status == TT_ENOMEM || status == TT_OK);
                assert_int_equal(scratch_count(*state, ".tmp."), 0);
                assert_int_equal(unlink(scratch_path(*state, "new.h5")), 0);
                unlink(scratch_path(*state, "latest"));
                assert_int_equal(symlink("old.h5", scratch_path(*state, "latest")), 0);
            } else {
                if (status != TT_ENOMEM && status != TT_EINTERNAL) /* HDF5 gives no reason */
                    fail_msg("allocation %d: %s", failures, tt_status_name(status));
                assert_only_the_old(*state);
            }
        }
        print_message("%d allocations\n", failures);
        assert_true(failures > SMALL);
        scratch_empty(*state);
    }
}

static void test_each_digest_failing(void **state)
{
    for (int again = 0; again < 2; again++) {
        assert_ok(sample_save(*state, "old.h5", 1, NULL));
        int failures = 0;
        for (;; failures++) {
            digests_left = failures;
            tt_status status = save_all_kinds(*state, again != 0);
            bool reached = digests_left < 0;
            digests_left = -1;
            if (!reached) {
                assert_ok(status);
                break;
            }
            assert_int_equal(status, TT_EINTERNAL);
            assert_only_the_old(*state);
        }
        print_message("%d digests\n", failures);
        assert_true(failures > 10);
        scratch_empty(*state);
    }
}

/* jansson makes the header. */
static int jansson_left;

static void *starved_malloc(size_t bytes)
{
    return jansson_left-- == 0 ? NULL : malloc(bytes);
}

static void test_a_header_without_memory(void **state)
{
    bool refused_once = false;
    for (int at = 0;; at++) {
        tt_store_writer *writer = NULL;
        const tt_store_write_options options = options_for(*state, "a.h5");
        jansson_left = at;
        json_set_alloc_funcs(starved_malloc, free);
        tt_status status = tt_store_writer_create(&options, &writer);
        json_set_alloc_funcs(malloc, free);
        tt_store_writer_destroy(writer);
        if (jansson_left >= 0) {
            assert_ok(status);
            break;
        }
        assert_int_equal(status, TT_ENOMEM);
        assert_null(writer);
        refused_once = true;
    }
    assert_true(refused_once);
}

/* ---- what is on the disk is not what was written ------------------------------------------ */

/* Reads come from another file. */
static int64_t read_other(void *user, int fd, void *data, size_t bytes, int64_t offset)
{
    (void)fd;
    return pread(*(const int *)user, data, bytes, offset);
}

static void test_another_whole_container_is_found_out(void **state)
{
    assert_ok(sample_save(*state, "old.h5", 1, NULL));
    int other = open(scratch_path(*state, "old.h5"), O_RDONLY | O_CLOEXEC);
    tt_file_ops ops = ops_like_posix(&other);
    ops.pread = read_other;
    assert_int_equal(sample_save(*state, "new.h5", 2, &ops), TT_ECORRUPT);
    assert_message("reads back with another header");
    assert_only_the_old(*state);
    close(other);
}

/* The metadata go out in several writes; the first fails. */
static int64_t refuse_to_write(void *user, int fd, const void *data, size_t bytes, int64_t offset)
{
    (void)user, (void)fd, (void)data, (void)bytes, (void)offset;
    errno = EIO;
    return -1;
}

static void test_metadata_that_cannot_be_written(void **state)
{
    tt_file_ops ops = ops_like_posix(NULL);
    ops.pwrite = refuse_to_write;
    tt_store_write_options options = options_for(*state, "a.h5");
    options.ops = &ops;
    tt_store_writer *writer = NULL;
    static const char data[200000];
    const int64_t dims[] = {sizeof data};
    char path[32];
    assert_ok(tt_store_writer_create(&options, &writer));
    for (int i = 0; i < 60; i++) { /* their descriptions lie before and behind their bytes */
        snprintf(path, sizeof path, "/d%02d", i);
        assert_ok(tt_store_writer_declare(writer, path, TT_U8, 1, dims));
    }
    assert_int_equal(tt_store_writer_put(writer, "/d00", 0, data, sizeof data), TT_EIO);
    tt_store_writer_destroy(writer);
    assert_int_equal(scratch_count(*state, "a.h5"), 0);
}

static void test_a_page_behind_the_end(void **state)
{
    a_page_too_many = true;
    tt_status status = sample_save(*state, "a.h5", 4, NULL);
    a_page_too_many = false;
    assert_ok(status);
    sample_check(scratch_path(*state, "a.h5"), 4);
}

static int refuse_directory(void *user, int fd)
{
    struct stat info;
    bool directory = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
    if (!directory)
        return fsync(fd);
    errno = *(const int *)user;
    return -1;
}

/* Some file systems cannot sync a directory, and need not. */
static void test_a_directory_that_needs_no_sync(void **state)
{
    int error = EINVAL;
    tt_file_ops ops = ops_like_posix(&error);
    ops.fsync = refuse_directory;
    assert_ok(sample_save(*state, "a.h5", 1, &ops));
    error = EIO;
    assert_int_equal(sample_save(*state, "b.h5", 2, &ops), TT_EIO);
}

/* ---- arguments ---------------------------------------------------------------------------- */

static void refuse_options(const tt_store_write_options *options, const char *part)
{
    tt_store_writer *writer = NULL;
    assert_int_equal(tt_store_writer_create(options, &writer), TT_EINVAL);
    assert_message(part);
}

static void test_wrong_options(void **state)
{
    const tt_store_write_options good = options_for(*state, "a.h5");
    tt_store_write_options options = good;
    refuse_options(NULL, "size, directory and name");
    options.size = 4;
    refuse_options(&options, "size, directory and name");
    options = good;
    options.directory = NULL;
    refuse_options(&options, "size, directory and name");
    options = good;
    options.name = NULL;
    refuse_options(&options, "size, directory and name");
    options = good;
    tt_file_ops ops = *tt_file_ops_posix();
    ops.size = 8;
    options.ops = &ops;
    refuse_options(&options, "ops.size");
    options = good;
    static const char *const names[] = {".h5", ".a.h5", "a", "a/b.h5", "", "a.h", "a\x7f.h5"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        options.name = names[i];
        refuse_options(&options, "container name");
    }
    char longest[300];
    snprintf(longest, sizeof longest, "%0*d.h5", TT_STORE_MAX_FILE_NAME, 1);
    options.name = longest;
    refuse_options(&options, "container name");
    options = good;
    options.run_id = "\x7f";
    refuse_options(&options, "printable");
    options.run_id = longest;
    refuse_options(&options, "longer than");
    options = good;
    options.parent_sha256 = longest;
    refuse_options(&options, "longer than");
    options.parent_sha256 = "gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg";
    refuse_options(&options, "parent digest");
    options = good;
    options.step = -1;
    refuse_options(&options, "step -1");
}

static void test_wrong_calls(void **state)
{
    const int64_t dims[] = {4};
    const tt_store_write_options options = options_for(*state, "a.h5");
    tt_store_writer *writer = NULL;
    assert_ok(tt_store_writer_create(&options, &writer));
    assert_int_equal(tt_store_writer_declare(NULL, "/a", TT_U8, 1, dims), TT_EINVAL);
    assert_int_equal(tt_store_writer_declare(writer, NULL, TT_U8, 1, dims), TT_EINVAL);
    assert_int_equal(tt_store_writer_declare(writer, "/a", TT_U8, 1, NULL), TT_EINVAL);
    assert_ok(tt_store_writer_declare(writer, "/a", TT_U8, 1, dims));
    assert_int_equal(tt_store_writer_add_text(writer, "/t", NULL, 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_add_text(writer, "/a", "x", 1), TT_EINVAL);
    assert_ok(tt_store_writer_add_text(writer, "/t", NULL, 0));
    assert_ok(tt_store_writer_add_text(writer, "/u", "x", 1));
    assert_int_equal(tt_store_writer_put(NULL, "/a", 0, "x", 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, NULL, 0, "x", 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/a", 0, NULL, 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/b", 0, "x", 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/u", 0, "x", 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/a", -1, "x", 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/a", 5, "x", 0), TT_EINVAL);
    assert_int_equal(tt_store_writer_put(writer, "/a", 4, "x", 1), TT_EINVAL);
    assert_ok(tt_store_writer_put(writer, "/a", 0, NULL, 0));
    assert_int_equal(tt_store_writer_declare(writer, "/c", TT_U8, 1, dims), TT_EINVAL);
    assert_ok(tt_store_writer_put(writer, "/a", 0, "abcd", 4));
    assert_ok(tt_store_writer_commit(writer, NULL));
    assert_int_equal(tt_store_writer_put(writer, "/a", 0, "x", 1), TT_EINVAL);
    assert_int_equal(tt_store_writer_commit(writer, NULL), TT_EINVAL);
    assert_int_equal(tt_store_writer_commit(NULL, NULL), TT_EINVAL);
    tt_store_writer_destroy(writer);
    assert_ok(tt_store_writer_create(&options, &writer));
    assert_ok(tt_store_writer_declare(writer, "/a", TT_U8, 1, dims));
    assert_ok(tt_store_writer_put(writer, "/a", 2, "cd", 2));
    assert_int_equal(tt_store_writer_commit(writer, NULL), TT_EINVAL);
    assert_message("byte 0 of 4 was never put");
    tt_store_writer_destroy(writer);
    tt_store_writer_destroy(NULL);
}

static void test_too_many_datasets(void **state)
{
    const tt_store_write_options options = options_for(*state, "a.h5");
    tt_store_writer *writer = NULL;
    char path[32];
    assert_ok(tt_store_writer_create(&options, &writer));
    for (int i = 0; i < TT_STORE_MAX_OBJECTS; i++) {
        snprintf(path, sizeof path, "/d%06d", i);
        assert_ok(tt_store_writer_declare(writer, path, TT_U8, 0, NULL));
    }
    assert_int_equal(tt_store_writer_declare(writer, "/more", TT_U8, 0, NULL), TT_EINVAL);
    assert_message("at most 100000 objects");
    tt_store_writer_destroy(writer);
}

static void test_replacing_a_file(void **state)
{
    assert_int_equal(tt_file_replace(NULL, NULL, "x", 1), TT_EINVAL);
    assert_int_equal(tt_file_replace(NULL, "x", NULL, 1), TT_EINVAL);
    assert_int_equal(tt_file_replace(NULL, "/tmp/", "x", 1), TT_EINVAL);
    char name[TT_STORE_MAX_FILE_NAME + 2];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(tt_file_replace(NULL, name, "x", 1), TT_EINVAL);
    assert_ok(tt_file_replace(NULL, scratch_path(*state, "empty"), NULL, 0));
    struct stat info;
    assert_int_equal(stat(scratch_path(*state, "empty"), &info), 0);
    assert_int_equal(info.st_size, 0);
    /* Without memory, at each allocation, the file is as it was. */
    assert_ok(tt_file_replace(NULL, scratch_path(*state, "a"), "old", 3));
    int failures = 0;
    for (bool starved = true; starved; failures++) {
        const char *path = scratch_path(*state, "a");
        starve_at(failures, false);
        tt_status status = tt_file_replace(NULL, path, "new", 3);
        starved = starve_end();
        assert_int_equal(status, starved ? TT_ENOMEM : TT_OK);
        size_t bytes;
        char *text = read_file(path, &bytes);
        assert_memory_equal(text, starved ? "old" : "new", 3);
        free(text);
    }
    assert_true(failures > 2);
}

static int refuse_to_open(void *user, const char *path, int flags, unsigned mode)
{
    (void)flags, (void)mode;
    snprintf(user, 256, "%s", path);
    errno = EACCES;
    return -1;
}

/* In the root, and in the working folder. */
static void test_where_a_file_is_replaced(void **state)
{
    (void)state;
    char opened[256];
    tt_file_ops ops = ops_like_posix(opened);
    ops.open = refuse_to_open;
    assert_int_equal(tt_file_replace(&ops, "/name", "x", 1), TT_EIO);
    assert_memory_equal(opened, "//.name.tmp.", 12);
    assert_int_equal(tt_file_replace(&ops, "name", "x", 1), TT_EIO);
    assert_memory_equal(opened, "./.name.tmp.", 12);
}

static void test_reserving_nothing(void **state)
{
    (void)state;
    const tt_file_ops *ops = tt_file_ops_posix();
    assert_int_equal(ops->fallocate(NULL, -1, 10), -1);
    assert_int_equal(errno, EBADF);
}

/* ---- temporaries and old containers ------------------------------------------------------- */

static void test_names_of_temporaries(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t owner;
    } cases[] = {
        {"a.tmp.5", 0},
        {".a", 0},
        {"..tmp.5", 0},
        {".tmp.5", 0},
        {".a.tmp.", 0},
        {".a.tmp.5x", 0},
        {".a.tmp.5", 5},
        {".a.tmp.1.tmp.7", 7},
        {".a.tmp.12345678901", 0},
        {".a.tmp.1234567890", 1234567890},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (tt_store_temp_owner(cases[i].name) != cases[i].owner)
            fail_msg("%s: %lld", cases[i].name, (long long)tt_store_temp_owner(cases[i].name));
}

static int unlink_error;

static int refuse_to_unlink(void *user, const char *path)
{
    (void)user;
    if (unlink_error == 0)
        return unlink(path);
    errno = unlink_error;
    return -1;
}

/* "<directory>/.a.h5.tmp.<process>" of a process that is not there, or of one that may be. */
static const char *dead_name(void)
{
    return ".a.h5.tmp.2147483646"; /* above any process number */
}

static void remove_stale(const char *directory, const char *name, tt_status expected)
{
    tt_file_ops ops = ops_like_posix(NULL);
    ops.unlink = refuse_to_unlink;
    assert_int_equal(tt_store_temp_remove_stale(&ops, directory, name), expected);
}

static void test_stale_temporaries(void **state)
{
    const char *dead = dead_name();
    remove_stale(*state, "a.h5", TT_OK); /* no temporary at all */
    remove_stale(*state, dead, TT_OK);   /* not there any more */
    /* Of processes that live as far as can be told. */
    write_file(scratch_path(*state, ".a.h5.tmp.9999999999"), "x", 1);
    write_file(scratch_path(*state, dead), "x", 1);
    remove_stale(*state, ".a.h5.tmp.9999999999", TT_OK);
    kill_error = EPERM; /* somebody else's */
    remove_stale(*state, dead, TT_OK);
    kill_error = 0;
    assert_int_equal(scratch_count(*state, ".tmp."), 2);
    /* Without memory; where it cannot be removed; where somebody else just did it. */
    starve_at(0, false);
    assert_int_equal(tt_store_temp_remove_stale(tt_file_ops_posix(), *state, dead), TT_ENOMEM);
    assert_true(starve_end());
    unlink_error = EACCES;
    remove_stale(*state, dead, TT_EIO);
    unlink_error = ENOENT;
    remove_stale(*state, dead, TT_OK);
    unlink_error = 0;
    remove_stale(*state, dead, TT_OK);
    assert_int_equal(scratch_count(*state, dead), 0);
    /* Neither file nor link: not ours. */
    assert_int_equal(mkdir(scratch_path(*state, dead), 0777), 0);
    remove_stale(*state, dead, TT_OK);
    assert_int_equal(rmdir(scratch_path(*state, dead)), 0);
}

/* A link in the place of the temporary cannot be looked into, so it counts as alive. */
static void test_a_link_for_a_temporary(void **state)
{
    char name[64];
    snprintf(name, sizeof name, ".a.tmp.%lld", (long long)getpid());
    assert_int_equal(symlink("nowhere", scratch_path(*state, name)), 0);
    assert_int_equal(tt_file_replace(NULL, scratch_path(*state, "a"), "x", 1), TT_EBUSY);
    assert_int_equal(unlink(scratch_path(*state, name)), 0);
}

static void test_moving_latest_without_memory(void **state)
{
    for (int at = 0; at < 2; at++) {
        starve_at(at, false);
        assert_int_equal(tt_store_move_latest(tt_file_ops_posix(), *state, "a.h5"), TT_ENOMEM);
        assert_true(starve_end());
    }
    assert_int_equal(scratch_count(*state, "latest"), 0);
}

/* A path of this folder, `bytes` long: the same as the short one to the system. */
static char *long_way(const char *directory, size_t bytes)
{
    char *path = malloc(bytes + 1);
    size_t length = strlen(directory);
    memcpy(path, directory, length);
    for (; length < bytes; length++) /* "/./././" */
        path[length] = path[length - 1] == '/' && length + 1 < bytes ? '.' : '/';
    path[bytes] = '\0';
    return path;
}

static void test_newest_of_odd_entries(void **state)
{
    char path[PATH_MAX];
    assert_int_equal(tt_store_newest(NULL, "c-#.h5", NULL, path, sizeof path), TT_EINVAL);
    assert_int_equal(tt_store_newest(*state, NULL, NULL, path, sizeof path), TT_EINVAL);
    assert_int_equal(tt_store_newest(*state, "c-#.h5", NULL, NULL, 1), TT_EINVAL);
    assert_int_equal(tt_store_newest(*state, "c-#.h5", NULL, path, 0), TT_EINVAL);
    /* Of the same step: the last name. One is a link to nothing. */
    assert_ok(sample_save(*state, "c-1.h5", 5, NULL));
    assert_ok(sample_save(*state, "c-3.h5", 5, NULL));
    assert_ok(sample_save(*state, "c-2.h5", 5, NULL));
    assert_int_equal(symlink("nowhere", scratch_path(*state, "c-9.h5")), 0);
    assert_ok(tt_store_newest(*state, "c-#.h5", NULL, path, sizeof path));
    assert_string_equal(strrchr(path, '/'), "/c-3.h5");
    /* A folder can be listed whose entries have names too long to open. */
    char *far = long_way(*state, PATH_MAX - 3);
    assert_int_equal(tt_store_newest(far, "c-#.h5", NULL, path, sizeof path), TT_ENOTFOUND);
    free(far);
    readdir_error = EIO;
    assert_int_equal(tt_store_newest(*state, "c-#.h5", NULL, path, sizeof path), TT_EIO);
    readdir_error = 0;
    for (int at = 0; at < 2; at++) {
        starve_at(at, false);
        assert_int_equal(tt_store_newest(*state, "c-#.h5", NULL, path, sizeof path), TT_ENOMEM);
        assert_true(starve_end());
    }
}

static void test_prune_of_odd_entries(void **state)
{
    static const char *const strange[] = {".s-x.h5.tmp.2147483646", ".s-1.h5x.tmp.2147483646",
                                          ".s-1.tmp.2147483646", NULL};
    assert_int_equal(tt_store_prune(NULL, "s-#.h5", 1, NULL, NULL), TT_EINVAL);
    assert_int_equal(tt_store_prune(*state, NULL, 1, NULL, NULL), TT_EINVAL);
    assert_int_equal(tt_store_prune(scratch_path(*state, "none"), "s-#.h5", 1, NULL, NULL),
                     TT_ENOTFOUND);
    for (int i = 1; i <= 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "s-%d.h5", i);
        assert_ok(sample_save(*state, name, i, NULL));
    }
    for (const char *const *name = strange; *name; name++)
        write_file(scratch_path(*state, *name), "x", 1);
    write_file(scratch_path(*state, ".s-1.h5.tmp.2147483646"), "x", 1);
    tt_file_ops ops = ops_like_posix(NULL);
    ops.unlink = refuse_to_unlink;
    unlink_error = EACCES; /* of several failures the first is told */
    assert_int_equal(tt_store_prune(*state, "s-#.h5", 1, NULL, &ops), TT_EIO);
    assert_message("cannot remove old container");
    unlink_error = ENOENT; /* gone already */
    assert_ok(tt_store_prune(*state, "s-#.h5", 1, NULL, &ops));
    unlink_error = 0;
    int failures = 0;
    for (bool starved = true; starved; failures++) {
        starve_at(failures, false);
        tt_status status = tt_store_prune(*state, "s-#.h5", 1, NULL, NULL);
        starved = starve_end();
        assert_int_equal(status, starved ? TT_ENOMEM : TT_OK);
        sample_check(scratch_path(*state, "s-3.h5"), 3);
    }
    assert_true(failures > 5);
    assert_int_equal(scratch_count(*state, ".s-1.h5.tmp."), 0);
    for (const char *const *name = strange; *name; name++)
        assert_int_equal(unlink(scratch_path(*state, *name)), 0);
    write_file(scratch_path(*state, ".s-1.h5.tmp.2147483646"), "x", 1); /* of a shorter form */
    assert_ok(tt_store_prune(*state, "s-##########-##########.h5", 1, NULL, NULL));
    assert_int_equal(unlink(scratch_path(*state, ".s-1.h5.tmp.2147483646")), 0);
    /* `latest` is too far to be read: then nothing is spared for its sake. */
    char *far = long_way(*state, PATH_MAX - 3);
    assert_ok(sample_save(*state, "s-2.h5", 2, NULL)); /* moves `latest` */
    (void)tt_store_prune(far, "s-#.h5", 1, NULL, NULL);
    free(far);
    sample_check(scratch_path(*state, "s-3.h5"), 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_each_allocation_failing),
        TEST(test_each_digest_failing),
        TEST(test_a_header_without_memory),
        TEST(test_another_whole_container_is_found_out),
        TEST(test_metadata_that_cannot_be_written),
        TEST(test_a_page_behind_the_end),
        TEST(test_a_directory_that_needs_no_sync),
        TEST(test_wrong_options),
        TEST(test_wrong_calls),
        TEST(test_too_many_datasets),
        TEST(test_replacing_a_file),
        TEST(test_where_a_file_is_replaced),
        TEST(test_reserving_nothing),
        TEST(test_names_of_temporaries),
        TEST(test_stale_temporaries),
        TEST(test_a_link_for_a_temporary),
        TEST(test_moving_latest_without_memory),
        TEST(test_newest_of_odd_entries),
        TEST(test_prune_of_odd_entries),
    };
    return cmocka_run_group_tests_name("store: protocol", tests, NULL, NULL);
}
