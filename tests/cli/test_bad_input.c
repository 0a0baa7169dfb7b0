/* Everything that a user can get wrong about a run: one clear line, the right exit code, and
 * nothing written. */
#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void bad_yaml(const char *text, int code, const char *part)
{
    write_text("bad.yaml", text);
    expect_error(code, part, "run bad.yaml --run-dir bad");
    expect_error(code, part, "run bad.yaml --run-dir bad --dry-run");
    assert_false(exists("bad"));
}

static void test_configuration_file(void **state)
{
    (void)state;
    expect_error(74, "nowhere.yaml", "run nowhere.yaml");
    expect_error(78, "corpus: is a directory", "run corpus");
    bad_yaml("train:\n  stesp: 3\n", 78, "bad.yaml:2");
    bad_yaml("train:\n  stesp: 3\n", 78, "train.steps");
    bad_yaml("train:\n  steps: many\n", 78, "bad.yaml:2");
    bad_yaml("train:\n  steps: -1\n", 78, "train.steps");
    bad_yaml("train:\n  steps: 3\n  steps: 4\n", 78, "bad.yaml:3");
    bad_yaml("train: &a\n  steps: 3\n", 78, "bad.yaml:1");
    bad_yaml("train:\n  steps: *a\n", 78, "bad.yaml:2");
    bad_yaml("train:\n  steps: [1, 2]\n", 78, "bad.yaml:2");
    bad_yaml("train:\n\tsteps: 3\n", 78, "bad.yaml:2");
    bad_yaml("just words\n", 78, "bad.yaml");
    bad_yaml("preset: gpt-1t\n", 78, "preset");
    bad_yaml("train:\n  steps: 1\n---\ntrain:\n  steps: 2\n", 78, "bad.yaml:3");
}

static void test_hostile_configuration(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *nested = malloc(DEPTH);
    assert_non_null(nested);
    memset(nested, '[', DEPTH);
    write_file("bad.yaml", nested, DEPTH);
    outcome o = run("run bad.yaml");
    assert_int_equal(o.code, 78);
    assert_true(o.seconds <
                10); /* in fact milliseconds; a sanitizer and a busy machine take more */
    outcome_clear(&o);
    expect_error(78, "bad.yaml", "run bad.yaml");
    memset(nested, 'a', DEPTH);
    write_file("bad.yaml", nested, DEPTH);
    expect_error(78, "bad.yaml", "run bad.yaml");
    free(nested);
    write_file("bad.yaml", "\0\xff\xfe\x01", 4);
    expect_error(78, "bad.yaml", "run bad.yaml");
    write_text("bad.yaml", "\033[31mred: 1\n");
    outcome red = run("run bad.yaml");
    assert_int_equal(red.code, 78);
    assert_null(strchr(red.err, '\033')); /* a file does not steer the terminal */
    outcome_clear(&red);
}

static void test_values(void **state)
{
    (void)state;
    expect_error(78, "model.heads", "run tiny.yaml -o bad -s model.heads=3");
    expect_error(78, "model.heads", "run tiny.yaml -o bad -s model.heads=3 --dry-run");
    expect_error(78, "model.layers", "run tiny.yaml -o bad -s model.layers=0");
    expect_error(78, "did you mean 'model.layers'", "run tiny.yaml -o bad -s model.layer=2");
    expect_error(78, "gates.loss.max", "run tiny.yaml -o bad -s gates.loss.max=2");
    expect_error(78, "optim.minimum_rate", "run tiny.yaml -o bad -s optim.minimum_rate=1");
    expect_error(78, "model.vocab", "run tiny.yaml -o bad -s model.vocab=50304");
    expect_error(78, "kernels.variant", "run tiny.yaml -o bad -s kernels.variant=blokked_v3");
    expect_error(78, "model.context", "run tiny.yaml -o bad -s model.context=");
    setenv("TRIMTAB_TRAIN__STESP", "3", 1);
    expect_error(78, "TRIMTAB_TRAIN__STEPS", "run tiny.yaml -o bad");
    unsetenv("TRIMTAB_TRAIN__STESP");
    assert_false(exists("bad/checkpoints/latest"));
}

static void write_bin(const char *path, int32_t magic, int32_t count, const uint16_t *tokens,
                      size_t present)
{
    int32_t header[256] = {magic, 1, count};
    FILE *stream = fopen(path, "we");
    assert_non_null(stream);
    assert_int_equal(fwrite(header, sizeof header, 1, stream), 1);
    assert_int_equal(fwrite(tokens, sizeof *tokens, present, stream), present);
    fclose(stream);
}

static void test_data(void **state)
{
    (void)state;
    expect_error(78, "--data", "run tiny.yaml -o bad -s data.path=");
    expect_error(74, "nowhere", "run tiny.yaml -o bad --data nowhere");
    write_text("short.txt", "too short");
    expect_error(65, "short.txt", "run tiny.yaml -o bad --data short.txt");
    assert_false(exists("bad"));
}

static void test_unusable_data(void **state)
{
    (void)state;
    uint16_t tokens[2000];
    for (size_t i = 0; i < 2000; i++) {
        tokens[i] = (uint16_t)(i % 200);
    }
    mkdir("empty", 0777);
    expect_error(65, "empty", "run tiny.yaml -o bad --data empty");
    mkdir("binary", 0777);
    write_file("binary/a.txt", "\0\0\0\0", 4);
    expect_error(65, "binary", "run tiny.yaml -o bad --data binary");
    expect_error(65, "corpus", "run tiny.yaml -o bad -s model.context=100000");
    write_bin("magic.bin", 12345, 2000, tokens, 2000);
    expect_error(65, "magic.bin", "run tiny.yaml -o bad --data magic.bin");
    write_bin("cut.bin", 20240520, 2000, tokens, 1500);
    expect_error(65, "cut.bin", "run tiny.yaml -o bad --data cut.bin");
    tokens[777] = 256;
    write_bin("range.bin", 20240520, 2000, tokens, 2000);
    expect_error(65, "777", "run tiny.yaml -o bad --data range.bin");
    assert_false(exists("bad/checkpoints/latest"));
}

static void test_run_folder(void **state)
{
    (void)state;
    write_text("file", "not a folder");
    expect_error(74, "file", "run tiny.yaml --run-dir file");
    expect_error(74, "file", "run tiny.yaml --run-dir file/below");
    expect_error(74, "--run-dir", "run tiny.yaml --run-dir /proc/1/trimtab");
    make_run("held", "");
    expect_error(2, "already holds a run", "run tiny.yaml --run-dir held");
    expect_error(74, "nowhere.h5", "run tiny.yaml --run-dir held --resume nowhere.h5");
    expect_error(74, "holds no checkpoint", "run tiny.yaml --run-dir held --resume corpus");
    expect_error(74, "nowhere.h5", "run tiny.yaml --run-dir fresh --resume nowhere.h5");
    assert_false(exists("fresh"));
    expect_error(78, "model.layers", "run tiny.yaml -o held --resume auto -s model.layers=3");
    expect_error(78, "run.seed", "run tiny.yaml -o held --resume auto -s run.seed=99");
}

static void test_folder_in_use(void **state)
{
    (void)state;
    pid_t pid =
        start("run tiny.yaml -o busy -s train.steps=1000000 -s checkpoint.every_steps=0 "
              "-s train.validate_every=0 -s gates.grad_norm.max=1e9 -s gates.grad_norm.min=0");
    for (int i = 0; i < 2000 && !exists("busy/checkpoints/latest"); i++) {
        sleep_seconds(0.01);
    }
    assert_true(exists("busy/checkpoints/latest"));
    char owner[64];
    snprintf(owner, sizeof owner, "in use by process %ld", (long)pid);
    expect_error(74, owner, "run tiny.yaml -o busy");
    expect_error(74, owner, "run tiny.yaml -o busy --resume auto");
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(finish(pid, 60), 75);
}

/* ---- file systems of our own ---- */

static int in_private_mounts(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
            _exit(77);
        }
        body();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void skip_if_77(int code, const char *what)
{
    if (code == 77) {
        print_message("skipped: mounting is not permitted here, so there is no %s\n", what);
        skip();
    }
    assert_int_equal(code, 0);
}

/* In the child an assertion cannot jump back to cmocka: it ends the process. */
static void require(bool condition, const outcome *o)
{
    if (!condition) {
        fprintf(stderr, "got %d\nerr: %sout: %s", o->code, o->err, o->out);
        _exit(1);
    }
}

static bool is_one_line(const outcome *o)
{
    const char *end = strchr(o->err, '\n');
    return end && end[1] == '\0' && strncmp(o->err, "trimtab: ", 9) == 0;
}

static void read_only_body(void)
{
    if (mkdir("ro", 0777) != 0 || mount("none", "ro", "tmpfs", MS_RDONLY, "size=1m") != 0) {
        _exit(77);
    }
    outcome o = run("run tiny.yaml --run-dir ro/run");
    require(o.code == 74 && is_one_line(&o) && strstr(o.err, "ro/run"), &o);
    outcome_clear(&o);
    o = run("run tiny.yaml --run-dir ro");
    require(o.code == 74 && is_one_line(&o), &o);
    outcome_clear(&o);
}

static void test_read_only(void **state)
{
    (void)state;
    skip_if_77(in_private_mounts(read_only_body), "read-only file system");
}

static void full_disk_body(void)
{
    if (mkdir("small", 0777) != 0 || mount("none", "small", "tmpfs", 0, "size=200k") != 0) {
        _exit(77);
    }
    outcome o = run("run tiny.yaml --run-dir small/run");
    require(o.code == 74 && is_one_line(&o) && strstr(o.err, "No space left"), &o);
    outcome_clear(&o);
    /* Room for the first checkpoints, then no more: training goes on, with a warning, and the end
     * says that its state is not saved. */
    if (mkdir("tight", 0777) != 0 || mount("none", "tight", "tmpfs", 0, "size=1200k") != 0) {
        _exit(77);
    }
    o = run("run tiny.yaml --run-dir tight/run -s checkpoint.keep=100");
    require(o.code == 74 && strstr(o.err, "No space left"), &o);
    outcome_clear(&o);
    o = run("verify tight/run");
    require(o.code == 0, &o);
    outcome_clear(&o);
}

static void test_full_disk(void **state)
{
    (void)state;
    skip_if_77(in_private_mounts(full_disk_body), "full disk");
}

static void test_results_go_nowhere(void **state)
{
    (void)state;
    static const char *const words[] = {"", "--json", "--dry-run"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char command[1024];
        snprintf(command, sizeof command,
                 TRIMTAB_COMMAND " run tiny.yaml %s -o nowhere-%zu >/dev/full 2>errors", words[i],
                 i);
        int status = system(command); // NOLINT(cert-env33-c,concurrency-mt-unsafe)
        assert_int_equal(status >> 8, 74);
        char *errors = read_file("errors", NULL);
        assert_true(holds(errors, "trimtab: cannot write to standard output: No space left"));
        free(errors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configuration_file),
        cmocka_unit_test(test_hostile_configuration),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_unusable_data),
        cmocka_unit_test(test_run_folder),
        cmocka_unit_test(test_folder_in_use),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_results_go_nowhere),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
