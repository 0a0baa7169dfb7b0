/* What a person or a program reads: errors, numbers with units, safe text, JSON. */
#ifndef TRIMTAB_CLI_OUTPUT_H
#define TRIMTAB_CLI_OUTPUT_H

#include "trimtab/base.h"

#include <jansson.h>

/* Prints "trimtab: <the thread's message>" on standard error and returns the exit code. TT_OK
 * prints nothing. */
int cli_report(tt_status status);
/* Flushes standard output. A result that did not arrive is a failure: reports it and returns 74
 * where `code` was 0 or 1. */
int cli_finish_output(int code);

/* Adds bytes of unknown origin so that no terminal takes them for anything but text: printable
 * UTF-8 stays, everything else becomes \xNN. Line breaks and tabs stay if `lines`. */
void cli_add_safe(tt_text *out, const char *bytes, size_t length, bool lines);
/* Length of the UTF-8 character at `bytes` if it is safe to print, else 0. */
size_t cli_safe_character(const char *bytes, size_t length);

/* "1,234,567" */
const char *cli_count(int64_t value, char out[32]);
/* "512 B", "1.5 MiB" */
const char *cli_bytes(double value, char out[32]);
/* "850 ms", "42 s", "3 min 07 s", "2 h 05 min", "3 d 4 h" */
const char *cli_duration(double seconds, char out[32]);
/* "1.52e9" as "1.52 G", for FLOPs and rates; no unit of its own below 1,000. */
const char *cli_scaled(double value, char out[32]);
/* Four significant digits, "nan" and "inf" as such. */
const char *cli_number(double value, char out[32]);

/* A JSON string of any bytes (what is not UTF-8 is escaped), a number or null for NaN and inf. */
json_t *cli_json_text(const char *text, size_t length);
json_t *cli_json_number(double value);
/* Prints `root` on standard output and releases it. */
tt_status cli_print_json(json_t *root);

#endif
