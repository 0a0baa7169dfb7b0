/* Commands, options, help, and what is generated from the option table. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_wrong_commands(void **state)
{
    (void)state;
    expect_error(2, "see 'trimtab help'", "%s", "");
    expect_error(2, "did you mean 'run'", "rnu tiny.yaml");
    expect_error(2, "did you mean 'inspect'", "inpsect x");
    expect_error(2, "unknown command 'frobnicate'", "frobnicate");
    expect_error(2, "did you mean '--version'", "--versoin");
    expect_error(2, "options follow the command", "--json inspect x");
    expect_error(2, "a command is missing", "config");
    expect_error(2, "did you mean 'config explain'", "config explian optim.clip");
    expect_error(2, "unknown command 'config frobnicate'", "config frobnicate");
    expect_error(2, "did you mean 'verify'", "help verfy");
    expect_error(2, "unknown command 'config nothing'", "help config nothing");
}

static void test_wrong_options(void **state)
{
    (void)state;
    expect_error(2, "did you mean '--resume'", "run tiny.yaml --resmue auto");
    expect_error(2, "trimtab help run", "run tiny.yaml --frobnicate");
    expect_error(2, "unknown option '-Z'", "run tiny.yaml -Z");
    expect_error(2, "unknown option '--prompt'", "run tiny.yaml --prompt=x");
    expect_error(2, "takes no value", "run tiny.yaml --json=yes");
    expect_error(2, "'--run-dir' needs a value: --run-dir DIR", "run tiny.yaml --run-dir");
    expect_error(2, "'--set' needs a value", "run tiny.yaml -s");
    expect_error(2, "has no '='", "run tiny.yaml --set train.steps");
    expect_error(2, "has no '='", "config explain train.steps --set train.steps");
    expect_error(2, "--tokens 'many' is not a whole number", "generate x --tokens many");
    expect_error(2, "--tokens '-1' is not", "generate x --tokens=-1");
    expect_error(2, "--tokens '1e3' is not", "generate x --tokens 1e3");
    expect_error(2, "--temperature 'nan' is not a number", "generate x --temperature nan");
    expect_error(2, "--temperature '0.5x' is not", "generate x --temperature 0.5x");
    expect_error(2, "--top-k '99999999999999999999' is not", "generate x -k 99999999999999999999");
    expect_error(2, "--seed '' is not", "generate x --seed=");
}

static void test_wrong_operands(void **state)
{
    (void)state;
    static const char *const commands[] = {"run", "generate", "inspect", "verify",
                                           "config explain"};
    expect_error(2, "an argument is missing: trimtab config explain KEY", "config explain --json");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        expect_error(2, "an argument is missing", "%s", commands[i]);
        expect_error(2, "an argument is empty", "%s ''", commands[i]);
    }
    expect_error(2, "an argument is missing: trimtab diff A B", "diff onlyone");
    expect_error(2, "one argument too many: 'two'", "run tiny.yaml two");
    expect_error(2, "one argument too many", "diff a b c");
    expect_error(2, "one argument too many", "config reference x");
    expect_error(2, "one argument too many", "help run x");
}

static void test_help(void **state)
{
    (void)state;
    static const char *const commands[] = {
        "run",    "drill",          "generate",       "inspect",          "verify",
        "diff",   "config explain", "config list",    "config reference", "help",
        "config", "gate list",      "gate calibrate", "bisect",           "gate",
        "bench",  "bench kernels",  "tune",
    };
    outcome all = expect_success("--help");
    outcome again = expect_success("help");
    assert_string_equal(all.out, again.out);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char usage[64];
        snprintf(usage, sizeof usage, "Usage: trimtab %s", commands[i]);
        outcome help = expect_success("help %s", commands[i]);
        outcome option = expect_success("%s --help", commands[i]);
        outcome letter = expect_success("%s -h", commands[i]);
        assert_true(holds(help.out, usage));
        assert_string_equal(help.out, option.out);
        assert_string_equal(help.out, letter.out);
        assert_int_equal(help.err_length, 0);
        if (strcmp(commands[i], "config") != 0 && strcmp(commands[i], "gate") != 0 &&
            strcmp(commands[i], "bench") != 0) {
            assert_true(holds(all.out, commands[i]));
        }
        for (const char *line = help.out; *line; line += strcspn(line, "\n") + 1) {
            assert_true(strcspn(line, "\n") <= 90); /* examples may be longer than 80 */
            size_t length = strcspn(line, "\n");
            assert_true(length == 0 || line[length - 1] != ' ');
        }
        outcome_clear(&help);
        outcome_clear(&option);
        outcome_clear(&letter);
    }
    outcome_clear(&all);
    outcome_clear(&again);
}

static void test_version(void **state)
{
    (void)state;
    outcome o = expect_success("--version");
    assert_string_equal(o.out, "trimtab " TRIMTAB_VERSION "\n");
    outcome_clear(&o);
}

static void test_config_commands(void **state)
{
    (void)state;
    outcome o = expect_success("config explain train.steps tiny.yaml --set train.steps=7");
    assert_true(holds(o.out, "train.steps = 7"));
    assert_true(holds(o.out, "--set"));
    assert_true(holds(o.out, "tiny.yaml:9"));
    assert_true(holds(o.out, "default"));
    outcome_clear(&o);
    setenv("TRIMTAB_TRAIN__STEPS", "9", 1);
    o = expect_success("config explain train.steps tiny.yaml");
    assert_true(holds(o.out, "train.steps = 9"));
    assert_true(holds(o.out, "TRIMTAB_TRAIN__STEPS"));
    outcome_clear(&o);
    o = expect_success("config explain train.steps tiny.yaml -s train.steps=0");
    assert_true(holds(o.out, "train.steps = 0")); /* the command line wins, and zero is a value */
    outcome_clear(&o);
    unsetenv("TRIMTAB_TRAIN__STEPS");
    o = expect_success("config explain data.path --data a=b");
    assert_true(holds(o.out, "a=b"));
    assert_true(holds(o.out, "--data"));
    outcome_clear(&o);
    o = expect_success("config list optim.");
    assert_true(holds(o.out, "optim.learning_rate"));
    assert_null(strstr(o.out, "model.layers"));
    outcome_clear(&o);
    o = expect_success("config list");
    assert_true(holds(o.out, "model.layers"));
    outcome_clear(&o);
    expect_error(2, "no parameter begins with 'zzz'", "config list zzz");
    expect_error(78, "did you mean 'train.steps'", "config explain train.stesp");
    expect_error(74, "nowhere.yaml", "config explain train.steps nowhere.yaml");
    expect_error(78, "train.stesp", "config explain train.steps --set train.stesp=3");
}

static void test_config_resolved(void **state)
{
    (void)state;
    outcome o = expect_success("config explain --resolved");
    assert_true(holds(o.out, "compression.block = 64\n  requested 64 by default\n  kept\n"));
    assert_true(holds(o.out, "kernels.tile_m = auto\n  requested auto by default\n  auto: the run "
                             "chooses\n"));
    assert_true(strstr(o.out, "kernels.tile_n") < strstr(o.out, "compression.moments"));
    assert_null(strstr(o.out, "train.steps"));
    outcome_clear(&o);
    /* A file alone, and a key with a file. */
    write_text("steer.yaml", "kernels:\n  tile_k: 48\ncompression:\n  bound: 0.2\n"
                             "gates:\n  reconstruction:\n    max: 0.25\n");
    o = expect_success("config explain --resolved steer.yaml");
    assert_true(holds(o.out, "kernels.tile_k = 64\n  requested 48 by steer.yaml:2, pinned\n"
                             "  moved: set by steer.yaml:2; nearest on the lattice\n"));
    assert_true(holds(o.out, "\nadvice: compression.bound = 0.2 (steer.yaml:4): "));
    outcome_clear(&o);
    o = expect_success("config explain kernels.tile_k steer.yaml --resolved");
    assert_true(holds(o.out, "kernels.tile_k = 64\n  from resolver (run), pinned\n"
                             "  beats steer.yaml:2 (file): 48\n"));
    assert_true(holds(o.out, "\nmoved: set by steer.yaml:2; nearest on the lattice\n"));
    assert_null(strstr(o.out, "advice"));
    outcome_clear(&o);
    o = expect_success("config explain --resolved compression.bound steer.yaml");
    assert_true(holds(o.out, "the resolver does not move it\nadvice: compression.bound = 0.2"));
    outcome_clear(&o);
    o = expect_success("config explain --resolved --json steer.yaml");
    assert_true(holds(o.out, "\"key\": \"kernels.tile_k\",\n      \"value\": 64"));
    assert_true(holds(o.out, "\"requested\": 48"));
    assert_true(holds(o.out, "\"why\": \"set by steer.yaml:2; nearest on the lattice\""));
    assert_true(holds(o.out, "\"warning: kernels.tile_k 48 -> 64 ("));
    assert_true(holds(o.out, "\"compression.bound = 0.2 (steer.yaml:4): "));
    outcome_clear(&o);
    o = expect_success("config explain --json data.held_out steer.yaml");
    assert_true(holds(o.out, "\"value\": 0.1"));
    assert_null(strstr(o.out, "requested"));
    outcome_clear(&o);
    /* What a run would take decides. */
    o = expect_success("config explain --resolved compression.moments " TT_SOURCE_DIR
                       "/examples/gpt-10m.yaml -s run.memory_budget=600000000");
    assert_true(holds(o.out, "compression.moments = bf16\n  from resolver (run)\n"));
    assert_true(holds(o.out, "\nmoved: memory: rule 'memory budget'"));
    outcome_clear(&o);
    expect_error(78, "--strict refuses", "config explain --resolved --strict steer.yaml");
    expect_error(78, "did you mean 'kernels.tile_k'", "config explain --resolved kernels.tile_q");
    expect_error(78,
                 "'compression.bound is at most gates.reconstruction.max' does not hold: "
                 "compression.bound = 0.2 (--set), gates.reconstruction.max = 0.05 (default)",
                 "config explain --resolved -s compression.bound=0.2");
    expect_error(78, "run.memory_budget = 1000 (--set): at least ",
                 "config explain --resolved -s run.memory_budget=1000");
}

/* ---- what is generated ---- */

static void same_as_file(const char *words, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, TT_SOURCE_DIR "/docs/%s", name);
    char *kept = read_file(path, NULL);
    outcome o = expect_success("%s", words);
    if (strcmp(o.out, kept) != 0) {
        fail_msg("docs/%s is out of date: cmake --build <build> --target docs", name);
    }
    outcome_clear(&o);
    free(kept);
}

static void test_documents_are_current(void **state)
{
    (void)state;
    same_as_file("config reference", "parameters.md");
    same_as_file("help --man", "trimtab.1");
    same_as_file("help --completion", "trimtab.bash");
}

static void test_examples_load(void **state)
{
    (void)state;
    static const char *const names[] = {"quickstart", "gpt-10m", "llama-10m", "gpt2-124m"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        outcome o = expect_success("run " TT_SOURCE_DIR "/examples/%s.yaml --data corpus --dry-run",
                                   names[i]);
        assert_true(holds(o.out, "parameters"));
        outcome_clear(&o);
    }
}

/* The output of a shell command, or NULL where the program behind it is not there (127). */
static char *shell(const char *command, int *code)
{
    FILE *stream = popen(command, "re"); // NOLINT(cert-env33-c)
    assert_non_null(stream);
    static char text[65536];
    size_t length = fread(text, 1, sizeof text - 1, stream);
    text[length] = '\0';
    int status = pclose(stream);
    *code = status >= 0 ? status >> 8 : -1;
    return text;
}

static void test_manual_page(void **state)
{
    (void)state;
    int code;
    shell("command -v groff", &code);
    if (code != 0) {
        print_message("skipped: no groff here\n");
        skip();
    }
    char *text = shell("groff -man -Tutf8 -ww -z " TT_SOURCE_DIR "/docs/trimtab.1 2>&1", &code);
    assert_int_equal(code, 0);
    assert_string_equal(text, ""); /* not a single complaint */
    text = shell("groff -man -Tascii -P-cbou " TT_SOURCE_DIR "/docs/trimtab.1 2>&1", &code);
    assert_true(holds(text, "--temperature X"));
    assert_true(holds(text, "EXIT STATUS"));
}

static void test_completion(void **state)
{
    (void)state;
    int code;
    shell("command -v bash", &code);
    if (code != 0) {
        print_message("skipped: no bash here\n");
        skip();
    }
    char *text = shell("bash -n " TT_SOURCE_DIR "/docs/trimtab.bash 2>&1", &code);
    assert_string_equal(text, "");
    assert_int_equal(code, 0);
    static const char *const cases[][2] = {
        {"trimtab ins", "inspect"},
        {"trimtab config ex", "explain"},
        {"trimtab run a.yaml --dry", "--dry-run"},
        {"trimtab run a.yaml --set optim.learn", "optim.learning_rate="},
        {"trimtab config explain optim.learn", "optim.learning_rate"},
        {"trimtab run a.yaml --resume au", "auto"},
        {"trimtab run tin", "tiny.yaml"},
        {"trimtab help ver", "verify"},
        {"trimtab drill kill nan", "nan-tensor"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char command[1024];
        snprintf(command, sizeof command,
                 "bash -c 'compopt() { :; }; . " TT_SOURCE_DIR "/docs/trimtab.bash; "
                 "COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _trimtab; "
                 "printf \"[%%s]\" \"${COMPREPLY[@]}\"' 2>&1",
                 cases[i][0]);
        char expected[64];
        snprintf(expected, sizeof expected, "[%s]", cases[i][1]);
        text = shell(command, &code);
        assert_string_equal(text, expected);
    }
}

/* ---- output that cannot be written ---- */

static void test_full_output(void **state)
{
    (void)state;
    int code;
    char command[1024];
    static const char *const cases[] = {"--help", "help run", "config reference",
                                        "config explain train.steps"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(command, sizeof command, TRIMTAB_COMMAND " %s 2>&1 >/dev/full", cases[i]);
        char *text = shell(command, &code);
        assert_int_equal(code, 74);
        assert_string_equal(text, "trimtab: cannot write to standard output: No space left on "
                                  "device\n");
        snprintf(command, sizeof command, TRIMTAB_COMMAND " %s 2>&1 >&-", cases[i]);
        text = shell(command, &code);
        assert_int_equal(code, 74);
        assert_true(holds(text, "trimtab: cannot write to standard output"));
    }
}

static void test_closed_pipe(void **state)
{
    (void)state;
    int ends[2];
    int code;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    char command[1024];
    snprintf(command, sizeof command, TRIMTAB_COMMAND " config reference 2>&1 >&%d", 9);
    assert_int_equal(dup2(ends[1], 9), 9);
    char *text = shell(command, &code);
    close(9);
    close(ends[1]);
    assert_int_equal(code, 74);
    assert_true(holds(text, "Broken pipe"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_commands),  cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_wrong_operands),  cmocka_unit_test(test_help),
        cmocka_unit_test(test_version),         cmocka_unit_test(test_config_commands),
        cmocka_unit_test(test_config_resolved), cmocka_unit_test(test_documents_are_current),
        cmocka_unit_test(test_examples_load),   cmocka_unit_test(test_manual_page),
        cmocka_unit_test(test_completion),      cmocka_unit_test(test_full_output),
        cmocka_unit_test(test_closed_pipe),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
