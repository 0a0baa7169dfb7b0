/* Arbitrary bytes, and valid YAML that was damaged, never crash, leak or hang the loader; what it
 * accepts it can write and read back.
 *
 *     test_config_fuzz [first input [inputs]]
 */
#include "test_config_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 40000, INPUT_BYTES = 4096 };

static uint64_t first_input;
static uint64_t input_count = INPUTS;

static const char *const seeds[] = {
    "preset: small\nkernels:\n  tile_m: 64 # rows\n  tile_k: auto\n  backend: cuda\nseed: 7\n",
    "gates: {loss: {max: 1e-8}, warn: false}\nrun:\n  name: \"a \\\"b\\\" \\u00e9\"\n  tag: 'x''y'\n",
    "---\n? seed\n: 5\n\"model\":\n    dim: 128\n    vocab: auto\n...\n",
    "optim.rate: 0.5\r\noptim.clip: -1.5e+3\r\ndata:\r\n  path: /a/b [c] {d} \xc3\xa9\r\n",
    "seed: &a 1\nmodel: {dim: *a, vocab: !!int 3}\nlist: [1, [2, {3: 4}]]\n%YAML 1.1\n",
    "run:\n  name: |\n    block\n    text\n  tag: >-\n    folded\n",
};

static const char *const pieces[] = {
    ":",
    ": ",
    "\n",
    "\n  ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a",
    "*a",
    "!x",
    "\"",
    "'",
    "#",
    " #",
    "|",
    ">",
    "%",
    "@",
    "`",
    "~",
    "\t",
    "\r",
    "\\",
    "<<",
    "---",
    "...",
    "null",
    "auto",
    "kernels",
    "seed",
    "1e9",
    "-",
    "\0",
    ".",
    "yes",
    "nan",
    "\xff",
    "\xc3",
    "\xef\xbb\xbf",
    "\xe2\x80\xa8",
    "preset",
    "large",
};

static uint64_t next(uint64_t input, uint64_t *counter)
{
    uint32_t lanes[4];
    tt_philox(11, input, (*counter)++, lanes);
    return (uint64_t)lanes[0] << 32 | lanes[1];
}

/* Removes, doubles or overwrites a part, or inserts a piece, some times. */
static size_t damage(uint64_t input, uint64_t *counter, char *text, size_t length)
{
    size_t edits = next(input, counter) % 5;
    for (size_t i = 0; i < edits && length > 0; i++) {
        size_t at = next(input, counter) % length;
        size_t size = 1 + next(input, counter) % 12;
        size = size < length - at ? size : length - at;
        switch (next(input, counter) % 4) {
        case 0:
            memmove(text + at, text + at + size, length - at - size);
            length -= size;
            break;
        case 1:
            if (length + size > INPUT_BYTES)
                break;
            memmove(text + at + size, text + at, length - at);
            length += size;
            break;
        case 2:
            text[at] = (char)next(input, counter);
            break;
        default: {
            const char *piece = pieces[next(input, counter) % (sizeof(pieces) / sizeof(pieces[0]))];
            size = *piece == '\0' ? 1 : strlen(piece);
            if (length + size > INPUT_BYTES)
                break;
            memmove(text + at + size, text + at, length - at);
            memcpy(text + at, piece, size);
            length += size;
        }
        }
    }
    return length;
}

static size_t make_input(uint64_t input, char text[INPUT_BYTES])
{
    uint64_t counter = 0;
    size_t length = 0;
    uint64_t kind = next(input, &counter) % 8;
    if (kind == 0) { /* bytes */
        length = next(input, &counter) % 200;
        for (size_t i = 0; i < length; i++)
            text[i] = (char)next(input, &counter);
        return length;
    }
    if (kind == 1) { /* tokens */
        size_t count = next(input, &counter) % 60;
        for (size_t i = 0; i < count; i++) {
            const char *piece =
                pieces[next(input, &counter) % (sizeof(pieces) / sizeof(pieces[0]))];
            size_t size = *piece == '\0' ? 1 : strlen(piece);
            for (size_t j = 0; j < size; j++)
                text[length++] = piece[j];
        }
        return length;
    }
    const char *seed = seeds[next(input, &counter) % (sizeof(seeds) / sizeof(seeds[0]))];
    for (; seed[length] != '\0'; length++)
        text[length] = seed[length];
    return damage(input, &counter, text, length);
}

/* What was accepted is a configuration like any other. */
static void check_accepted(uint64_t input, const tt_params *params, const tt_config *config)
{
    tt_text yaml;
    tt_config *back = test_config(params);
    char digest[TT_SHA256_HEX];
    char other[TT_SHA256_HEX];
    tt_text_init(&yaml);
    assert_ok(tt_config_write_yaml(config, &yaml));
    if (tt_config_load_text(back, TT_SOURCE_FILE, "back", yaml.data, yaml.length) != TT_OK)
        fail_msg("input %llu: %s", (unsigned long long)input, tt_error_message());
    assert_ok(tt_config_digest(config, digest));
    assert_ok(tt_config_digest(back, other));
    assert_string_equal(digest, other);
    tt_text_clear(&yaml);
    tt_config_destroy(back);
}

static void test_inputs(void **state)
{
    (void)state;
    tt_params *params = test_params();
    uint64_t accepted = 0;
    for (uint64_t i = 0; i < input_count; i++) {
        char buffer[INPUT_BYTES];
        uint64_t input = first_input + i;
        size_t length = make_input(input, buffer);
        /* Exactly as large as the text, so that one byte too far is seen. */
        char *text = malloc(length > 0 ? length : 1);
        assert_non_null(text);
        memcpy(text, buffer, length);
        tt_config *config = test_config(params);
        tt_source source = input % 2 ? TT_SOURCE_FILE : TT_SOURCE_CHECKPOINT;
        tt_error_clear();
        tt_status status = tt_config_load_text(config, source, "fuzz", text, length);
        free(text);
        if (status == TT_OK) {
            accepted++;
            check_accepted(input, params, config);
        } else if (status != TT_ECONFIG || strncmp(tt_error_message(), "fuzz:", 5) != 0) {
            fail_msg("input %llu: status %d, %s", (unsigned long long)input, status,
                     tt_error_message());
        }
        tt_config_destroy(config);
    }
    print_message("%llu inputs, %llu accepted\n", (unsigned long long)input_count,
                  (unsigned long long)accepted);
    if (input_count >= INPUTS)
        assert_true(accepted > INPUTS / 50 && accepted < INPUTS / 2);
    tt_params_destroy(params);
}

/* The same bytes as environment and as --set. */
static void test_assignments(void **state)
{
    (void)state;
    tt_params *params = test_params();
    for (uint64_t input = 0; input < input_count / 4; input++) {
        char text[INPUT_BYTES + 32] = "TRIMTAB_";
        size_t length = make_input(input, text + 8);
        text[8 + length] = '\0';
        tt_config *config = test_config(params);
        char *environment[] = {text, NULL};
        tt_status status = tt_config_set(config, TT_SOURCE_COMMAND, text + 8, "--set");
        assert_true(status == TT_OK || status == TT_ECONFIG || status == TT_EUSAGE);
        status = tt_config_load_environment(config, environment);
        assert_true(status == TT_OK || status == TT_ECONFIG);
        tt_config_destroy(config);
    }
    tt_params_destroy(params);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_input = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        input_count = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inputs),
                                       cmocka_unit_test(test_assignments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
