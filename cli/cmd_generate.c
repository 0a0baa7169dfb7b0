/* trimtab generate: text from a checkpoint. */
#include "checkpoint.h"
#include "commands.h"
#include "output.h"
#include "settings.h"

#include "trimtab/training.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PROMPT_BYTES = 1 << 20, MAX_TOKENS = 1000000000, FROM_CONFIG = -1 };

typedef struct writer {
    bool bytes;    /* a token is a byte of text */
    bool terminal; /* escape what could steer it, show each token at once */
    char held[4];  /* the bytes of an unfinished UTF-8 character, on a terminal */
    size_t held_count;
    int64_t count;
    int last;
    bool failed;
} writer;

/* ---- writing ---- */

static size_t character_size(unsigned char first)
{
    return first < 0xc2 || first > 0xf4 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

static void flush_held(writer *w)
{
    tt_text safe;
    tt_text_init(&safe);
    cli_add_safe(&safe, w->held, w->held_count, true);
    fwrite(safe.data, 1, safe.length, stdout);
    tt_text_clear(&safe);
    w->held_count = 0;
}

/* A terminal gets whole characters only. */
static void write_safe(writer *w, char byte)
{
    bool continues = ((unsigned char)byte & 0xc0) == 0x80;
    if (w->held_count && !continues) {
        flush_held(w);
    }
    w->held[w->held_count++] = byte;
    if (w->held_count >= character_size((unsigned char)w->held[0])) {
        flush_held(w);
    }
}

static bool emit(void *user, int32_t token)
{
    writer *w = user;
    if (!w->bytes) {
        printf(w->count ? " %d" : "%d", token);
    } else if (w->terminal) {
        write_safe(w, (char)token);
    } else {
        putchar(token);
    }
    w->last = token;
    w->count++;
    if (w->terminal) {
        fflush(stdout);
    }
    w->failed = ferror(stdout) != 0;
    return !w->failed;
}

static void finish(writer *w)
{
    if (w->held_count) {
        flush_held(w);
    }
    if (!w->bytes || (w->terminal && w->last != '\n')) {
        putchar('\n');
    }
}

/* ---- asking ---- */

/* Model and sampling as the checkpoint's run had them. */
static tt_status load_config(const tt_store *store, const char *path, cli_settings *settings)
{
    tt_text yaml;
    tt_text changes;
    tt_text_init(&yaml);
    tt_text_init(&changes);
    tt_status status = tt_store_read_text(store, "/meta/config.yaml", &yaml);
    if (!status) {
        status = cli_settings_create(settings);
    }
    if (!status) {
        status =
            tt_config_resume_from(settings->config, path, yaml.data, yaml.length, &changes, NULL);
    }
    tt_text_clear(&yaml);
    tt_text_clear(&changes);
    return status;
}

static tt_status read_prompt(const char *given, tt_text *out)
{
    if (strcmp(given, "-") != 0) {
        tt_text_add(out, given);
        return tt_text_check(out);
    }
    char block[4096];
    size_t got;
    while ((got = fread(block, 1, sizeof block, stdin)) > 0) {
        tt_text_add_bytes(out, block, got);
        if (out->length > MAX_PROMPT_BYTES) {
            return tt_fail(TT_EDATA, "the prompt on standard input is longer than %d bytes",
                           MAX_PROMPT_BYTES);
        }
    }
    if (ferror(stdin)) {
        return tt_fail_errno(errno, "cannot read the prompt from standard input");
    }
    return tt_text_check(out);
}

static tt_status read_options(const cli_arguments *arguments, tt_generate_options *options)
{
    int64_t seed;
    tt_status status =
        cli_integer(arguments, CLI_TOKENS, 0, MAX_TOKENS, FROM_CONFIG, &options->max_tokens);
    if (!status) {
        status = cli_real(arguments, CLI_TEMPERATURE, 0, 100, FROM_CONFIG, &options->temperature);
    }
    if (!status) {
        status = cli_integer(arguments, CLI_TOP_K, 0, 1 << 20, FROM_CONFIG, &options->top_k);
    }
    if (!status) {
        status = cli_integer(arguments, CLI_SEED, 0, INT64_MAX, (int64_t)options->seed, &seed);
        options->seed = (uint64_t)seed;
    }
    return status;
}

/* What the command line leaves open; `usual` is how many tokens when the run sampled none. */
static void fill_from_config(const tt_config *config, int64_t usual, tt_generate_options *options)
{
    int64_t tokens = tt_config_int(config, "sample.tokens");
    if (options->max_tokens < 0) {
        options->max_tokens = tokens > 0 ? tokens : usual;
    }
    if (options->temperature < 0) {
        options->temperature = tt_config_float(config, "sample.temperature");
    }
    if (options->top_k < 0) {
        options->top_k = tt_config_int(config, "sample.top_k");
    }
}

int cmd_generate(const cli_arguments *arguments)
{
    char path[CLI_PATH_BYTES];
    cli_settings settings = {0};
    tt_store *store = NULL;
    tt_generate_options options;
    writer w = {.terminal = isatty(STDOUT_FILENO), .last = '\n'};
    tt_text prompt;
    tt_text_init(&prompt);
    tt_generate_options_init(&options);
    int64_t usual = options.max_tokens;
    tt_status status = read_options(arguments, &options);
    if (!status) {
        status = cli_checkpoint_open(arguments->operands[0], path, &store);
    }
    if (!status) {
        status = load_config(store, path, &settings);
    }
    if (!status && cli_given(arguments, CLI_PROMPT)) {
        status = read_prompt(arguments->values[CLI_PROMPT], &prompt);
    }
    if (!status) {
        fill_from_config(settings.config, usual, &options);
        options.store = store;
        options.name = path;
        options.prompt = prompt.data;
        options.prompt_bytes = prompt.length;
        options.emit = emit;
        options.user = &w;
        /* As the trainer has it: text is read as bytes, and takes at most 256 tokens. */
        w.bytes = tt_config_int(settings.config, "model.vocab") <= 256;
        status = tt_generate_from_checkpoint(&options);
    }
    if (w.count > 0) {
        finish(&w);
    }
    tt_text_clear(&prompt);
    tt_store_close(store);
    cli_settings_clear(&settings);
    return w.failed ? 0 : cli_report(status); /* main reports the failed output */
}
