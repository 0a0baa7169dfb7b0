/* The YAML loader: what it takes, and every way in which it refuses. */
#include "test_config_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static tt_params *params;

static int make_table(void **state)
{
    (void)state;
    params = test_params();
    return 0;
}

static int free_table(void **state)
{
    (void)state;
    tt_params_destroy(params);
    return 0;
}

static tt_status load_bytes(const char *text, size_t bytes)
{
    tt_config *config = test_config(params);
    tt_error_clear();
    tt_status status = tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", text, bytes);
    tt_config_destroy(config);
    return status;
}

static void refused(const char *text, const char *message)
{
    assert_int_equal(load_bytes(text, strlen(text)), TT_ECONFIG);
    assert_string_equal(tt_error_message(), message);
}

static void accepted(const char *text, const char *key, const char *value)
{
    tt_config *config = test_config(params);
    assert_ok(tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", text, strlen(text)));
    assert_value(config, key, value);
    tt_config_destroy(config);
}

/* ---- what it takes ------------------------------------------------------------------------ */

static void test_forms(void **state)
{
    (void)state;
    accepted("seed: 5", "seed", "5");
    accepted("kernels:\n  tile_m: 64\n  tile_k: 16\n", "kernels.tile_m", "64");
    accepted("kernels.tile_m: 64\n", "kernels.tile_m", "64");
    accepted("gates: {loss: {max: 3}, warn: false}\n", "gates.loss.max", "3");
    accepted("gates:\n  loss.max: 3\n", "gates.loss.max", "3");
    accepted("{\"seed\": 5}", "seed", "5");
    accepted("? seed\n: 5\n", "seed", "5");
    accepted("# note\n\nseed: 5 # five\n", "seed", "5");
    accepted("---\nseed: 5\n...\n", "seed", "5");
    accepted("\xef\xbb\xbfseed: 5\n", "seed", "5");
    accepted("kernels:\r\n  tile_m: 64\r\nseed: 5\r\n", "seed", "5");
    accepted("kernels:\r  tile_m: 64\rseed: 5\r", "seed", "5");
    accepted("kernels:\n  tile_m: auto\n", "kernels.tile_m", "auto");
    accepted("run: {name: 64}", "run.name", "\"64\"");
    accepted("run: {name: \"\"}", "run.name", "\"\"");
    accepted("run: {name: 'null'}", "run.name", "\"null\"");
    accepted("run: {name: yes}", "run.name", "\"yes\"");
    accepted("run: {tag: \"auto\"}", "run.tag", "\"auto\"");
    accepted("run: {tag: auto}", "run.tag", "auto");
    accepted("run:\n  name: a [b] {c} 'd' \"e\n", "run.name", "\"a [b] {c} 'd' \\\"e\"");
    accepted("run:\n  name: \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"\n", "run.name",
             "\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"");
    accepted("run:\n  name: 'it''s [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['\n", "run.name",
             "\"it's [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"");
    accepted("# [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\nseed: 5\n", "seed", "5");
    accepted("run:\n  name: \"\\u00e9\\u2028\"\n", "run.name", "\"\xc3\xa9\\u2028\"");
    accepted("kernels:\n  backend: 'cuda'\n", "kernels.backend", "cuda");
    accepted("", "seed", "1");
    accepted("\n\n", "seed", "1");
    accepted("# only a comment", "seed", "1");
    accepted("---\n", "seed", "1");
    accepted("{}", "seed", "1");
}

static void test_origin_has_the_line(void **state)
{
    (void)state;
    tt_config *config = test_config(params);
    const char *text = "# one\nkernels:\r\n  tile_m: 64\n\n  tile_k:\n    128\n";
    assert_ok(tt_config_load_text(config, TT_SOURCE_FILE, "b/a.yaml", text, strlen(text)));
    assert_string_equal(tt_config_origin(config, "kernels.tile_m"), "b/a.yaml:3");
    assert_string_equal(tt_config_origin(config, "kernels.tile_k"), "b/a.yaml:6");
    assert_int_equal(tt_config_load_text(config, TT_SOURCE_RUN, "x", text, strlen(text)),
                     TT_EINVAL);
    tt_config_destroy(config);
}

/* ---- keys and values ---------------------------------------------------------------------- */

static void test_wrong_keys(void **state)
{
    (void)state;
    refused("kernels:\n  tile_q: 64\n",
            "a.yaml:2: unknown key 'kernels.tile_q'; did you mean 'kernels.tile_k'?");
    refused("tile_m: 64\n", "a.yaml:1: unknown key 'tile_m'; did you mean 'kernels.tile_m'?");
    refused("kernel:\n  tile_m: 64\n",
            "a.yaml:1: unknown section 'kernel'; did you mean 'kernels'?");
    refused("something: 1\n", "a.yaml:1: unknown key 'something'; see the list of parameters");
    refused("something: {a: [1, {b: c}], d: *e}\n",
            "a.yaml:1: unknown section 'something'; see the list of parameters");
    refused("\"\": 1\n", "a.yaml:1: unknown key ''; see the list of parameters");
    refused("<<: 1\n", "a.yaml:1: unknown key '<<'; see the list of parameters");
    refused("\"see\\0d\": 1\n", "a.yaml:1: unknown key 'see?d'; did you mean 'seed'?");
    refused("seed: 1\nSeed: 2\n", "a.yaml:2: unknown key 'Seed'; did you mean 'seed'?");
    refused("kernels: 64\n",
            "a.yaml:1: 'kernels' is a section, not a value; put its keys below it, "
            "indented");
    refused("kernels:\nseed: 1\n", "a.yaml:1: 'kernels' is a section, not a value; put its keys "
                                   "below it, indented");
    refused("gates: {loss: 3}\n", "a.yaml:1: 'gates.loss' is a section, not a value; put its keys "
                                  "below it, indented");
    refused(
        "kernels:\n  tile_m:\n    rows: 1\n",
        "a.yaml:2: 'kernels.tile_m' is a value (int), not a section; write one value, as in 32");
    refused("{a: 1}: 2\nseed: 1\n", "a.yaml:1: a key is a mapping; write a name");
}

static void test_duplicates(void **state)
{
    (void)state;
    refused("seed: 1\n\nseed: 1\n",
            "a.yaml:3: 'seed' is already there in line 1; keep one of them");
    refused("kernels:\n  tile_m: 1\nkernels:\n  tile_k: 16\n",
            "a.yaml:3: 'kernels' is already there in line 1; keep one of them");
    refused("kernels:\n  tile_m: 1\nkernels.tile_m: 16\n",
            "a.yaml:3: 'kernels.tile_m' is already there in line 2; keep one of them");
}

static void test_wrong_values(void **state)
{
    (void)state;
    refused("seed: \"64\"\n", "a.yaml:1: seed must be a number, not text; write 64 without quotes");
    refused("gates: {warn: 'true'}\n",
            "a.yaml:1: gates.warn must be true or false, not text; write true without quotes");
    refused("kernels: {tile_m: \"auto\"}\n",
            "a.yaml:1: kernels.tile_m must be a number, not text; write auto without quotes");
    refused(
        "seed: five\n",
        "a.yaml:1: seed must be a whole number, not 'five'; write decimal digits only, as in 0");
    refused("seed: null\n", "a.yaml:1: seed has no value; write one, or remove the line");
    refused("seed: ~\n", "a.yaml:1: seed has no value; write one, or remove the line");
    refused("seed:\n", "a.yaml:1: seed has no value; write one, or remove the line");
    refused("run:\n  name:\n",
            "a.yaml:2: run.name has no value; write one (\"\" for an empty text), "
            "or remove the line");
    refused("run:\n  name: |\n    a\n    b\n",
            "a.yaml:2: run.name is a block of text; write it on one line");
    refused("run:\n  name: \"a\\nb\"\n",
            "a.yaml:2: run.name holds a control character at byte 2; write plain text");
    refused("run:\n  name: \"a\\0b\"\n",
            "a.yaml:2: run.name holds a control character at byte 2; write plain text");
    refused("seed: auto\n", "a.yaml:1: seed cannot be auto; write a value, as in 1");
    refused("gates:\n  warn: on\n",
            "a.yaml:2: gates.warn must be true or false, not 'on'; write true");
}

static void test_all_wrong_keys_at_once(void **state)
{
    (void)state;
    refused("seed: x\nnone_such: 1\nmodel:\n  dim: 0\n",
            "a.yaml:1: seed must be a whole number, not 'x'; write decimal digits only, as in 0; "
            "a.yaml:2: unknown key 'none_such'; see the list of parameters; "
            "a.yaml:4: model.dim is 0, below its minimum 1; write a value from 1 to 65536");
    refused("q1: 1\nq2: 1\nq3: 1\nq4: 1\nq5: 1\nq6: 1\n",
            "a.yaml:1: unknown key 'q1'; see the list of parameters; "
            "a.yaml:2: unknown key 'q2'; see the list of parameters; "
            "a.yaml:3: unknown key 'q3'; see the list of parameters; "
            "a.yaml:4: unknown key 'q4'; see the list of parameters; "
            "a.yaml:5: unknown key 'q5'; see the list of parameters");
    /* Nothing of a wrong text counts. */
    tt_config *config = test_config(params);
    const char *text = "seed: 5\nmodel: {dim: 0}\n";
    assert_int_equal(tt_config_load_text(config, TT_SOURCE_FILE, "a.yaml", text, strlen(text)),
                     TT_ECONFIG);
    assert_value(config, "seed", "1");
    tt_config_destroy(config);
}

/* ---- features that are not supported ------------------------------------------------------ */

static void test_features(void **state)
{
    (void)state;
    refused("seed: &a 1\n", "a.yaml:1: seed is an anchor (&), which is not supported; remove it");
    refused("seed: 1\nmodel: {dim: *a}\n",
            "a.yaml:2: model.dim is an alias (*), which is not supported; write the value itself");
    refused("kernels: &k\n  tile_m: 1\n",
            "a.yaml:1: kernels is an anchor (&), which is not supported; remove it");
    refused("seed: !!int 1\n", "a.yaml:1: seed is a tag (!), which is not supported; remove it");
    refused("seed: ! 1\n", "a.yaml:1: seed is a tag (!), which is not supported; remove it");
    refused("seed: !x 1\n", "a.yaml:1: seed is a tag (!), which is not supported; remove it");
    refused("seed: [1, 2]\n", "a.yaml:1: seed is a list, but no parameter is one; write one value");
    refused("seed:\n  - 1\n", "a.yaml:2: seed is a list, but no parameter is one; write one value");
    refused("- seed\n", "a.yaml:1: there is a list, but no parameter is one; write one value");
    refused("[a]: 1\n", "a.yaml:1: there is a list, but no parameter is one; write one value");
    refused("&a seed: 1\n", "a.yaml:1: there is an anchor (&), which is not supported; remove it");
    refused("*a : 1\n",
            "a.yaml:1: there is an alias (*), which is not supported; write the value itself");
    refused("seed: 1\n---\nseed: 2\n", "a.yaml:2: a second document begins; keep one");
    refused("%YAML 1.1\n---\nseed: 1\n", "a.yaml:1: a directive (%) is not supported; remove it");
    refused("%TAG ! tag:x,2000:\n---\nseed: 1\n",
            "a.yaml:1: a directive (%) is not supported; remove it");
    refused("just text\n", "a.yaml:1: the text holds no keys; write 'key: value' lines");
    refused("kernels: {\n", "a.yaml:2: not valid YAML: did not find expected node content; check "
                            "indentation, colons and quotes");
    refused("seed: \"x\n", "a.yaml:2: not valid YAML: found unexpected end of stream; check "
                           "indentation, colons and quotes");
    refused("run.name: b: c\n",
            "a.yaml:1: not valid YAML: mapping values are not allowed in this context; "
            "check indentation, colons and quotes");
}

/* ---- bytes -------------------------------------------------------------------------------- */

#define REFUSED_BYTES(literal, message)                                                            \
    do {                                                                                           \
        assert_int_equal(load_bytes(literal, sizeof(literal) - 1), TT_ECONFIG);                    \
        assert_string_equal(tt_error_message(), message);                                          \
    } while (0)

static void test_bytes(void **state)
{
    (void)state;
    REFUSED_BYTES("seed: 1\n\0rest", "a.yaml:2: NUL byte U+0000; remove it");
    REFUSED_BYTES("\0", "a.yaml:1: NUL byte U+0000; remove it");
    REFUSED_BYTES("seed: 1\nx: \x1b[2J\n", "a.yaml:2: control character U+001B; remove it");
    REFUSED_BYTES("x: \x7f\n", "a.yaml:1: control character U+007F; remove it");
    REFUSED_BYTES("x: \xc2\x85\n", "a.yaml:1: control character U+0085; remove it");
    REFUSED_BYTES("seed: 1\n\xef\xbb\xbf", "a.yaml:2: control character U+FEFF; remove it");
    REFUSED_BYTES("x: \xef\xbf\xbf\n", "a.yaml:1: control character U+FFFF; remove it");
    REFUSED_BYTES("a: \xff\n", "a.yaml:1: byte 0xff is not UTF-8; save the text as UTF-8");
    REFUSED_BYTES("a: 1\r\nb: \xe9t\xe9\n",
                  "a.yaml:2: byte 0xe9 is not UTF-8; save the text as UTF-8");
    REFUSED_BYTES("a: \xc0\xaf\n", "a.yaml:1: byte 0xc0 is not UTF-8; save the text as UTF-8");
    REFUSED_BYTES("a: \xe2\x82", "a.yaml:1: byte 0xe2 is not UTF-8; save the text as UTF-8");
    REFUSED_BYTES("a: \xf4\x90\x80\x80",
                  "a.yaml:1: byte 0xf4 is not UTF-8; save the text as UTF-8");
    REFUSED_BYTES("\xff\xfes\0", "a.yaml:1: the text is UTF-16; save it as UTF-8");
    REFUSED_BYTES("\xfe\xff\0s", "a.yaml:1: the text is UTF-16; save it as UTF-8");
    REFUSED_BYTES("s\0e\0", "a.yaml:1: NUL byte U+0000; remove it");
    REFUSED_BYTES("kernels:\n\ttile_m: 1\n", "a.yaml:2: a tab indents this line; use spaces");
    REFUSED_BYTES("\t# note\n", "a.yaml:1: a tab indents this line; use spaces");
    REFUSED_BYTES("seed: 5\n\t\n", "a.yaml:2: a tab indents this line; use spaces");
    REFUSED_BYTES("kernels:\n  \ttile_m: 1\n", "a.yaml:2: a tab indents this line; use spaces");
}

/* ---- limits ------------------------------------------------------------------------------- */

/* Copies without a NUL. Returns how many bytes. */
static size_t put(char *to, const char *text)
{
    size_t length = 0;
    for (; text[length] != '\0'; length++)
        to[length] = text[length];
    return length;
}

/* The head, then the pattern again and again up to `bytes` bytes. */
static void refused_in_time(const char *pattern, size_t bytes, const char *head, const char *says)
{
    size_t unit = strlen(pattern);
    char *text = malloc(strlen(head) + bytes);
    assert_non_null(text);
    size_t used = put(text, head);
    while (used + unit <= bytes)
        used += put(text + used, pattern);
    clock_t before = clock();
    assert_int_equal(load_bytes(text, used), TT_ECONFIG);
    double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
    if (strstr(tt_error_message(), says) == NULL)
        fail_msg("%s...: %s", pattern, tt_error_message());
    if (seconds > 1)
        fail_msg("%s...: %.1f s", pattern, seconds);
    free(text);
}

static void test_floods(void **state)
{
    (void)state;
    static const size_t sizes[] = {100000, 1024 * 1024};
    for (size_t i = 0; i < 2; i++) {
        size_t n = sizes[i];
        refused_in_time("[", n, "", "nested deeper than 32 levels");
        refused_in_time("{", n, "", "nested deeper than 32 levels");
        refused_in_time("[", n, "seed: ", "nested deeper than 32 levels");
        refused_in_time("{a: ", n, "", "nested deeper than 32 levels");
        refused_in_time("[\n", n, "", "nested deeper than 32 levels");
        refused_in_time("- ", n, "", "nested deeper than 32 levels");
        refused_in_time("? ", n, "", "nested deeper than 32 levels");
        refused_in_time("[{", n, "- - - - - - - - ", "nested deeper than 32 levels");
        /* Hidden from the first pass behind quotes that are none. */
        refused_in_time("[", n, "a: b \"", "");
        refused_in_time("[", n, "a\": \"", "");
        refused_in_time("[", n, "? b '\n: ", "nested deeper than 32 levels");
        refused_in_time("[ ']' ,", n, "", "nested deeper than 32 levels");
        refused_in_time("[ a ']' ,", n, "", "");
        refused_in_time("{ a: b ' }', ? ", n, "", "");
        /* Long, not deep. */
        refused_in_time("a: 1\n", n, "", "unknown key 'a'");
        refused_in_time("a: [b, c, d]\n", n, "", "unknown key 'a'");
        refused_in_time("[], ", n, "seed: [", "");
        refused_in_time("a", n, "", "holds no keys");
        refused_in_time("a ", n, "", "holds no keys");
        refused_in_time("a\n", n, "", "holds no keys");
        refused_in_time("\"", n, "seed: ", "");
        refused_in_time("'", n, "seed: ", "");
        refused_in_time("\\", n, "seed: \"", "");
        refused_in_time("!", n, "seed: ", "");
        refused_in_time("&a ", n, "seed: ", "");
        refused_in_time("*a ", n, "seed: ", "");
        refused_in_time(": ", n, "", "");
        refused_in_time("%", n, "", "");
        refused_in_time("---\n", n, "", "second document");
        refused_in_time("9", n, "seed: ", "above its maximum");
        refused_in_time("\n", n - 8, "seed: [", "");
    }
}

static void test_deep_indentation(void **state)
{
    (void)state;
    enum { LEVELS = 1400 }; /* as many as fit into 1 MiB, one column each */
    char *text = malloc(1024 * 1024);
    assert_non_null(text);
    size_t used = 0;
    for (size_t level = 0; level < LEVELS && used + level + 4 < 1024 * 1024; level++) {
        memset(text + used, ' ', level);
        used += level + put(text + used + level, "a:\n");
    }
    assert_int_equal(load_bytes(text, used), TT_ECONFIG);
    assert_string_equal(tt_error_message(),
                        "a.yaml:33: nested deeper than 32 levels; parameters need at most a few");
    /* 32 levels are read, and only then found to name nothing. */
    used = 0;
    for (size_t level = 0; level < 32; level++) {
        memset(text + used, ' ', level);
        used += level + put(text + used + level, "a:\n");
    }
    assert_int_equal(load_bytes(text, used), TT_ECONFIG);
    assert_string_equal(tt_error_message(),
                        "a.yaml:1: unknown section 'a'; see the list of parameters");
    free(text);
}

static void test_size(void **state)
{
    (void)state;
    size_t limit = 1024 * 1024;
    char *text = malloc(limit + 1);
    assert_non_null(text);
    memset(text, '\n', limit + 1);
    put(text, "seed: 5\n# ");
    assert_ok(load_bytes(text, limit));
    assert_int_equal(load_bytes(text, limit + 1), TT_ECONFIG);
    assert_string_equal(tt_error_message(), "a.yaml: larger than 1 MiB; this is no configuration");
    free(text);
}

/* ---- files -------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text, size_t bytes)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void test_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/trimtab-config-XXXXXX";
    char path[128];
    char expected[256];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/a.yaml", folder);
    tt_config *config = test_config(params);
    assert_int_equal(tt_config_load_file(config, path), TT_ENOTFOUND);
    assert_non_null(strstr(tt_error_message(), path));
    write_file(path, "seed: 12\n", 9);
    assert_ok(tt_config_load_file(config, path));
    snprintf(expected, sizeof(expected), "%s:1", path);
    assert_value(config, "seed", "12");
    assert_string_equal(tt_config_origin(config, "seed"), expected);
    write_file(path, "", 0);
    assert_ok(tt_config_load_file(config, path));
    snprintf(expected, sizeof(expected), "%s: is a directory; name a YAML file", folder);
    assert_fails(tt_config_load_file(config, folder), TT_ECONFIG, expected);
    if (geteuid() != 0) {
        assert_int_equal(chmod(path, 0), 0);
        assert_int_equal(tt_config_load_file(config, path), TT_EIO);
        assert_non_null(strstr(tt_error_message(), strerror(EACCES)));
    }
    assert_int_equal(tt_config_load_file(config, "/proc/self/mem"), TT_EIO); /* opens, not reads */
    assert_fails(tt_config_load_file(config, "/dev/zero"), TT_ECONFIG,
                 "/dev/zero: larger than 1 MiB; this is no configuration");
    assert_value(config, "seed", "12");
    tt_config_destroy(config);
    unlink(path);
    rmdir(folder);
}

/* A shell's <(...) is a pipe: no size, and it comes in pieces. */
static void test_pipe(void **state)
{
    (void)state;
    int ends[2];
    char path[64];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "seed: 8\n", 8), 8);
    close(ends[1]);
    snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
    tt_config *config = test_config(params);
    assert_ok(tt_config_load_file(config, path));
    assert_value(config, "seed", "8");
    tt_config_destroy(config);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),        cmocka_unit_test(test_origin_has_the_line),
        cmocka_unit_test(test_wrong_keys),   cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_all_wrong_keys_at_once),
        cmocka_unit_test(test_features),     cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_floods),       cmocka_unit_test(test_deep_indentation),
        cmocka_unit_test(test_size),         cmocka_unit_test(test_files),
        cmocka_unit_test(test_pipe),
    };
    return cmocka_run_group_tests(tests, make_table, free_table);
}
