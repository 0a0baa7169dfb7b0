/* Runs the real command in a scratch folder and looks at what a user would see. */
#ifndef TRIMTAB_TESTS_CLI_HARNESS_H
#define TRIMTAB_TESTS_CLI_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/types.h>

typedef struct outcome {
    int code;        /* exit code; 128 + signal if one ended it */
    char *out, *err; /* NUL-terminated */
    size_t out_length, err_length;
    double seconds;
} outcome;

/* cmocka group fixtures: a scratch folder, which becomes the working folder, with
 *   tiny.yaml     a model of 2 layers and 32 channels, 12 steps
 *   corpus/       text files */
int scratch_setup(void **state);
int scratch_teardown(void **state);

/* Runs `trimtab` with the words of `line` (separated by blanks; single quotes group). The result
 * belongs to the caller. */
outcome run(const char *line, ...) __attribute__((format(printf, 1, 2)));
/* The same with text on standard input. */
outcome run_with_input(const char *input, const char *line, ...)
    __attribute__((format(printf, 2, 3)));
void outcome_clear(outcome *o);

/* Starts it in the background, output discarded. */
pid_t start(const char *line, ...) __attribute__((format(printf, 1, 2)));
/* Waits at most `seconds` for the exit code; kills and fails the test after that. */
int finish(pid_t pid, double seconds);

/* Runs it and asserts: this exit code, nothing on standard output, exactly one line on standard
 * error that begins with "trimtab: " and holds `part`. */
void expect_error(int code, const char *part, const char *line, ...)
    __attribute__((format(printf, 3, 4)));
/* Runs it and asserts exit code 0 and nothing that is called a warning. */
outcome expect_success(const char *line, ...) __attribute__((format(printf, 1, 2)));
/* True when `part` is in `text`; prints both when not. */
bool holds(const char *text, const char *part);

void write_file(const char *path, const void *data, size_t bytes);
void write_text(const char *path, const char *text);
/* The content with a NUL behind it; owned by the caller. */
char *read_file(const char *path, size_t *bytes);
bool exists(const char *path);
/* Number of entries in a folder, itself and . and .. left out; -1 if it is not there. */
int entries(const char *path);
double now(void); /* seconds of a monotonic clock */
void sleep_seconds(double seconds);

/* A run of tiny.yaml in `folder`, with further words for the command line. */
void make_run(const char *folder, const char *words);

#endif
