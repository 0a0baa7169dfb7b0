/* config/value.h: one value as text and as a typed value. */
#ifndef TRIMTAB_CONFIG_VALUE_H
#define TRIMTAB_CONFIG_VALUE_H

#include "trimtab/config.h"

/* How the text was written. Only a plain YAML scalar and raw text can be a number or `auto`. */
typedef enum tt_style {
    TT_STYLE_RAW,    /* environment, command line, tables: no quoting */
    TT_STYLE_PLAIN,  /* YAML without quotes */
    TT_STYLE_QUOTED, /* YAML in single or double quotes */
    TT_STYLE_BLOCK,  /* YAML | or >: refused */
} tt_style;

enum { TT_PROBLEM_BYTES = 400 };

/* Reads `text` as a value of `param`. False, with what is wrong and what to write instead in
 * `problem`, if it is none. A STRING or ENUM points into `text`, which need not be terminated but
 * must then be copied by the caller. */
bool tt_value_parse(const tt_param *param, const char *text, size_t length, tt_style style,
                    tt_value *value, char problem[TT_PROBLEM_BYTES]);

/* Adds the value as write_yaml writes it: it reads back as the same value. Strings are quoted. */
void tt_value_add(tt_text *out, const tt_value *value);

bool tt_value_equal(const tt_value *a, const tt_value *b);

/* Adds what a parameter takes: "16 to 512; one of 16, 32, 64; or auto". */
void tt_value_add_bounds(tt_text *out, const tt_param *param);

const char *tt_type_name(tt_type type); /* "int" */

/* The shortest decimal text that reads back as the same number, with a point in any locale; whole
 * numbers below 1e15 without exponent. Returns out. */
char *tt_value_format_real(double value, char out[32]);

/* `text` for a message: at most 40 bytes (cut between characters), control characters replaced.
 * Returns out. */
char *tt_value_show(const char *text, size_t length, char out[64]);

#endif
