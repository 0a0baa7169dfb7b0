/* Finding the newest container, removing old ones and dead writers' temporaries, replacing files.
 */
#include "scratch.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct lines {
    int count;
    char last[1024];
} lines;

static void note_line(void *user, tt_log_level level, const char *message)
{
    lines *at = user;
    assert_int_equal(level, TT_LOG_WARN);
    at->count++;
    snprintf(at->last, sizeof at->last, "%s", message);
}

static void damage(const char *path, off_t where)
{
    size_t bytes;
    char *data = read_file(path, &bytes);
    data[where] ^= 1;
    write_file(path, data, bytes);
    free(data);
}

static const char *base_name(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* ---- newest ------------------------------------------------------------------------------- */

static void test_newest_goes_by_step_and_verifies(void **state)
{
    char path[PATH_MAX];
    lines seen = {0};
    const tt_log_sink log = {note_line, &seen};
    assert_int_equal(tt_store_newest(*state, "c-#.h5", &log, path, sizeof path), TT_ENOTFOUND);
    assert_string_equal(path, "");
    assert_ok(sample_save(*state, "c-7.h5", 10, NULL));
    assert_ok(sample_save(*state, "c-1.h5", 30, NULL));
    assert_ok(sample_save(*state, "c-4.h5", 20, NULL));
    assert_ok(tt_store_newest(*state, "c-#.h5", &log, path, sizeof path));
    assert_string_equal(base_name(path), "c-1.h5");
    assert_int_equal(seen.count, 0);

    damage(scratch_path(*state, "c-1.h5"), 5000); /* payload */
    assert_ok(tt_store_newest(*state, "c-#.h5", &log, path, sizeof path));
    assert_string_equal(base_name(path), "c-4.h5");
    assert_int_equal(seen.count, 1);
    assert_non_null(strstr(seen.last, "c-1.h5"));
    assert_non_null(strstr(seen.last, "payload digest"));

    damage(scratch_path(*state, "c-4.h5"), 3); /* header */
    write_file(scratch_path(*state, "c-9.h5"), "x", 1);
    write_file(scratch_path(*state, "notes.txt"), "x", 1); /* none of ours: not a word */
    seen.count = 0;
    assert_ok(tt_store_newest(*state, "c-#.h5", &log, path, sizeof path));
    assert_string_equal(base_name(path), "c-7.h5");
    assert_int_equal(seen.count, 3);

    damage(scratch_path(*state, "c-7.h5"), 6000);
    assert_int_equal(tt_store_newest(*state, "c-#.h5", NULL, path, sizeof path), TT_ENOTFOUND);
    assert_int_equal(
        tt_store_newest(scratch_path(*state, "none"), "c-#.h5", NULL, path, sizeof path),
        TT_ENOTFOUND);
    char small[8];
    assert_ok(sample_save(*state, "c-7.h5", 10, NULL));
    assert_int_equal(tt_store_newest(*state, "c-#.h5", NULL, small, sizeof small), TT_EINVAL);
}

/* ---- prune -------------------------------------------------------------------------------- */

static bool exists(const char *directory, const char *name)
{
    return access(scratch_path(directory, name), F_OK) == 0;
}

static void test_prune_keeps_what_it_should(void **state)
{
    static const char *const spare[] = {"step-2.h5", "step-9.h5", NULL};
    char name[32];
    for (int i = 1; i <= 6; i++) {
        snprintf(name, sizeof name, "step-%d.h5", i);
        assert_ok(sample_save(*state, name, i, NULL));
    }
    write_file(scratch_path(*state, "notes.txt"), "x", 1);
    assert_int_equal(tt_store_prune(*state, "step-#.h5", 0, NULL, NULL), TT_EINVAL);
    assert_ok(tt_store_prune(*state, "step-#.h5", 100, NULL, NULL));
    assert_int_equal(scratch_count(*state, ".h5"), 6);
    /* `latest` after a rollback names an old one. */
    unlink(scratch_path(*state, "latest"));
    assert_int_equal(symlink("step-3.h5", scratch_path(*state, "latest")), 0);
    assert_ok(tt_store_prune(*state, "step-#.h5", 2, spare, NULL));
    assert_false(exists(*state, "step-1.h5"));
    assert_true(exists(*state, "step-2.h5"));
    assert_true(exists(*state, "step-3.h5"));
    assert_false(exists(*state, "step-4.h5"));
    assert_true(exists(*state, "step-5.h5"));
    assert_true(exists(*state, "step-6.h5"));
    assert_true(exists(*state, "notes.txt"));
}

/* Copies that a user keeps beside the containers are neither counted nor removed, nor resumed from.
 */
static void test_other_files_are_left_alone(void **state)
{
    static const char *const own[] = {"best.h5", "step-5-copy.h5", "step-10.h5", "step-x.h5",
                                      "z.h5"};
    char path[PATH_MAX];
    lines seen = {0};
    const tt_log_sink log = {note_line, &seen};
    assert_ok(sample_save(*state, "best.h5", 99, NULL));
    assert_int_equal(tt_store_newest(*state, "step-#.h5", &log, path, sizeof path), TT_ENOTFOUND);
    for (size_t i = 1; i < sizeof own / sizeof *own; i++)
        write_file(scratch_path(*state, own[i]), "x", 1);
    for (int i = 1; i <= 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "step-%d.h5", i);
        assert_ok(sample_save(*state, name, i, NULL));
    }
    assert_ok(tt_store_prune(*state, "step-#.h5", 3, NULL, NULL));
    assert_false(exists(*state, "step-1.h5"));
    for (int i = 2; i <= 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "step-%d.h5", i);
        assert_true(exists(*state, name));
    }
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        assert_true(exists(*state, own[i]));
    assert_ok(tt_store_newest(*state, "step-#.h5", &log, path, sizeof path));
    assert_string_equal(base_name(path), "step-4.h5");
    assert_int_equal(seen.count, 0);
    assert_int_equal(tt_store_prune(*state, NULL, 3, NULL, NULL), TT_EINVAL);
    assert_int_equal(tt_store_newest(*state, NULL, NULL, path, sizeof path), TT_EINVAL);
}

static int refuse_unlink(void *user, const char *path)
{
    (void)path;
    ++*(int *)user;
    errno = EACCES;
    return -1;
}

static void test_prune_reports_failures(void **state)
{
    int calls = 0;
    tt_file_ops ops = *tt_file_ops_posix();
    ops.user = &calls;
    ops.unlink = refuse_unlink;
    for (int i = 1; i <= 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "step-%d.h5", i);
        assert_ok(sample_save(*state, name, i, NULL));
    }
    assert_int_equal(tt_store_prune(*state, "step-#.h5", 1, NULL, &ops), TT_EIO);
    assert_message("step-3.h5"); /* the first, though all were tried */
    assert_int_equal(calls, 3);
}

static pid_t dead_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return pid;
}

static void make_temporary(const char *directory, const char *form, long pid)
{
    char name[64];
    snprintf(name, sizeof name, form, pid);
    write_file(scratch_path(directory, name), "x", 1);
}

static void test_prune_removes_dead_temporaries_only(void **state)
{
    char name[64];
    pid_t dead = dead_process();
    make_temporary(*state, ".1.h5.tmp.%ld", dead);
    make_temporary(*state, ".2.h5.tmp.%ld", getpid()); /* of an earlier process with our number */
    make_temporary(*state, ".3.h5.tmp.%ld", getppid());
    make_temporary(*state, ".4.h5.tmp.%ldx", dead);
    make_temporary(*state, "5.h5.tmp.%ld", dead);
    make_temporary(*state, ".tmp.%ld", dead);
    make_temporary(*state, ".notes.h5.tmp.%ld", dead); /* someone else's */
    snprintf(name, sizeof name, ".latest.tmp.%ld", (long)dead);
    assert_int_equal(symlink("1.h5", scratch_path(*state, name)), 0);
    /* A writer of ours at work. */
    tt_store_writer *writer = NULL;
    const int64_t dims[] = {1};
    const tt_store_write_options options = {
        .size = sizeof options, .directory = *state, .name = "6.h5", .run_id = "r"};
    assert_ok(tt_store_writer_create(&options, &writer));
    assert_ok(tt_store_writer_declare(writer, "/x", TT_U8, 1, dims));
    assert_ok(tt_store_writer_put(writer, "/x", 0, "x", 1));

    assert_ok(tt_store_prune(*state, "#.h5", 1, NULL, NULL));
    assert_int_equal(scratch_count(*state, ".1.h5.tmp."), 0);
    assert_int_equal(scratch_count(*state, ".2.h5.tmp."), 0);
    assert_int_equal(scratch_count(*state, ".3.h5.tmp."), 1);
    assert_int_equal(scratch_count(*state, ".4.h5.tmp."), 1);
    assert_int_equal(scratch_count(*state, "5.h5.tmp."), 1);
    assert_int_equal(scratch_count(*state, ".latest.tmp."), 0);
    assert_int_equal(scratch_count(*state, ".notes.h5.tmp."), 1);
    assert_int_equal(scratch_count(*state, ".6.h5.tmp."), 1);
    assert_ok(tt_store_writer_commit(writer, NULL));
    tt_store_writer_destroy(writer);
    assert_ok(tt_store_verify(scratch_path(*state, "6.h5"), NULL));
}

/* A live writer in another process is never disturbed. */
static void test_prune_leaves_live_writers(void **state)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        tt_store_writer *writer = NULL;
        const int64_t dims[] = {1};
        const tt_store_write_options options = {
            .size = sizeof options, .directory = *state, .name = "6.h5", .run_id = "r"};
        bool good = tt_store_writer_create(&options, &writer) == TT_OK &&
                    tt_store_writer_declare(writer, "/x", TT_U8, 1, dims) == TT_OK &&
                    tt_store_writer_put(writer, "/x", 0, "x", 1) == TT_OK &&
                    write(ends[1], "x", 1) == 1;
        if (good)
            pause(); /* until killed */
        _exit(1);
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_ok(tt_store_prune(*state, "#.h5", 1, NULL, NULL));
    assert_int_equal(scratch_count(*state, ".6.h5.tmp."), 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_ok(tt_store_prune(*state, "#.h5", 1, NULL, NULL));
    assert_int_equal(scratch_count(*state, ".6.h5.tmp."), 0);
    close(ends[0]);
    close(ends[1]);
}

/* A temporary of a dead process with our number does not stop a save. */
static void test_a_save_replaces_a_dead_temporary(void **state)
{
    char name[64];
    make_temporary(*state, ".a.h5.tmp.%ld", getpid());
    snprintf(name, sizeof name, ".latest.tmp.%ld", (long)getpid());
    assert_int_equal(symlink("gone.h5", scratch_path(*state, name)), 0);
    assert_ok(sample_save(*state, "a.h5", 1, NULL));
    sample_check(scratch_path(*state, "latest"), 1);
    assert_int_equal(scratch_count(*state, ".tmp."), 0);
}

/* ---- tt_file_replace ---------------------------------------------------------------------- */

static void assert_content(const char *path, const char *content)
{
    size_t bytes;
    char *data = read_file(path, &bytes);
    assert_int_equal(bytes, strlen(content));
    assert_memory_equal(data, content, bytes);
    free(data);
}

static int fail_rename(void *user, const char *from, const char *to)
{
    (void)user;
    (void)from;
    (void)to;
    errno = EIO;
    return -1;
}

static void test_file_replace(void **state)
{
    char path[PATH_MAX], before[PATH_MAX];
    snprintf(path, sizeof path, "%s", scratch_path(*state, "status.json"));
    assert_ok(tt_file_replace(NULL, path, "one", 3));
    assert_content(path, "one");
    assert_ok(tt_file_replace(tt_file_ops_posix(), path, "second", 6));
    assert_content(path, "second");
    make_temporary(*state, ".status.json.tmp.%ld", getpid());
    assert_ok(tt_file_replace(NULL, path, "", 0));
    assert_content(path, "");
    assert_ok(tt_file_replace(NULL, path, "third", 5));
    tt_file_ops ops = *tt_file_ops_posix();
    ops.rename = fail_rename;
    assert_int_equal(tt_file_replace(&ops, path, "fourth", 6), TT_EIO);
    assert_content(path, "third");
    assert_int_equal(scratch_count(*state, ".tmp."), 0);
    assert_int_equal(tt_file_replace(NULL, scratch_path(*state, "none/x"), "x", 1), TT_ENOTFOUND);
    assert_int_equal(tt_file_replace(NULL, scratch_path(*state, ""), "x", 1), TT_EINVAL);
    /* A name alone means the working directory. */
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(*state), 0);
    assert_ok(tt_file_replace(NULL, "here", "x", 1));
    assert_int_equal(chdir(before), 0);
    assert_content(scratch_path(*state, "here"), "x");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_newest_goes_by_step_and_verifies),    TEST(test_prune_keeps_what_it_should),
        TEST(test_other_files_are_left_alone),          TEST(test_prune_reports_failures),
        TEST(test_prune_removes_dead_temporaries_only), TEST(test_prune_leaves_live_writers),
        TEST(test_a_save_replaces_a_dead_temporary),    TEST(test_file_replace),
    };
    return cmocka_run_group_tests_name("store: directory", tests, NULL, NULL);
}
