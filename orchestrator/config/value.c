#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is(const char *text, size_t length, const char *word)
{
    return length == strlen(word) && memcmp(text, word, length) == 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

const char *tt_type_name(tt_type type)
{
    static const char *const names[] = {
        [TT_TYPE_BOOL] = "bool",     [TT_TYPE_INT] = "int",   [TT_TYPE_FLOAT] = "float",
        [TT_TYPE_STRING] = "string", [TT_TYPE_ENUM] = "enum",
    };
    return type >= TT_TYPE_BOOL && type <= TT_TYPE_ENUM ? names[type] : "?";
}

/* ---- characters --------------------------------------------------------------------------- */

static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

char *tt_value_show(const char *text, size_t length, char out[64])
{
    size_t used = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t size = tt_utf8_decode(text + i, length - i, &code);
        if (used + size > 40) {
            memcpy(out + used, "...", 3);
            used += 3;
            break;
        }
        if (size == 0 || is_control(code)) {
            out[used++] = '?';
            i += size == 0 ? 1 : size;
            continue;
        }
        memcpy(out + used, text + i, size);
        used += size;
        i += size;
    }
    out[used] = '\0';
    return out;
}

/* ---- numbers ------------------------------------------------------------------------------ */

/* The grammar of both: digits without a leading zero; for a float also a fraction and exponent. */
static bool is_number(const char *text, size_t length, bool whole)
{
    size_t i = length > 0 && text[0] == '-' ? 1 : 0;
    size_t first = i;
    while (i < length && is_digit(text[i]))
        i++;
    if (i == first || (text[first] == '0' && i - first > 1))
        return false;
    if (whole)
        return i == length;
    if (i < length && text[i] == '.') {
        first = ++i;
        while (i < length && is_digit(text[i]))
            i++;
        if (i == first)
            return false;
    }
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        i++;
        if (i < length && (text[i] == '+' || text[i] == '-'))
            i++;
        first = i;
        while (i < length && is_digit(text[i]))
            i++;
        if (i == first)
            return false;
    }
    return i == length;
}

/* strtod with a decimal point in any locale. NaN for what is too long to be a number. */
static double to_double(const char *text, size_t length)
{
    char copy[128];
    if (length >= sizeof(copy))
        return NAN;
    memcpy(copy, text, length);
    copy[length] = '\0';
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0)
        return NAN;
    char *end = NULL;
    double value = strtod_l(copy, &end, plain);
    freelocale(plain);
    return *end == '\0' ? value : NAN;
}

char *tt_value_format_real(double value, char out[32])
{
    if (fabs(value) < 1e15 && value == floor(value)) {
        snprintf(out, 32, "%.0f", value);
        return out;
    }
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = plain != (locale_t)0 ? uselocale(plain) : (locale_t)0;
    tt_format_double(value, out);
    if (plain != (locale_t)0) {
        uselocale(before);
        freelocale(plain);
    }
    return out;
}

static bool in_bounds(const tt_param *param, double value, const char *shown, char *problem)
{
    char low[32];
    char high[32];
    bool below = value < param->minimum;
    if (!below && !(value > param->maximum))
        return true;
    tt_value_format_real(param->minimum, low);
    tt_value_format_real(param->maximum, high);
    snprintf(problem, TT_PROBLEM_BYTES, "%s is %s, %s its %s %s; write a value from %s to %s",
             param->key, shown, below ? "below" : "above", below ? "minimum" : "maximum",
             below ? low : high, low, high);
    return false;
}

/* Only where nothing would move the value onto the lattice. */
static bool on_lattice(const tt_param *param, int64_t value, char *problem)
{
    if (param->lattice == NULL || param->tier != TT_TIER_NONE)
        return true;
    size_t nearest = 0;
    for (size_t i = 0; i < param->lattice_count; i++) {
        if (param->lattice[i] == value)
            return true;
        if (fabs((double)param->lattice[i] - (double)value) <=
            fabs((double)param->lattice[nearest] - (double)value))
            nearest = i;
    }
    snprintf(problem, TT_PROBLEM_BYTES,
             "%s is %" PRId64 ", which is not one of its values; the nearest is %" PRId64,
             param->key, value, param->lattice[nearest]);
    return false;
}

static bool parse_int(const tt_param *param, const char *text, size_t length, int64_t *out,
                      char *problem)
{
    char shown[64];
    char digits[32];
    tt_value_show(text, length, shown);
    if (!is_number(text, length, true)) {
        double real = is_number(text, length, false) ? to_double(text, length) : NAN;
        if (fabs(real) < 1e15 && real == floor(real))
            snprintf(problem, TT_PROBLEM_BYTES, "%s must be a whole number, not '%s'; write %s",
                     param->key, shown, tt_value_format_real(real + 0.0, digits));
        else
            snprintf(problem, TT_PROBLEM_BYTES,
                     "%s must be a whole number, not '%s'; write decimal digits only, as in %s",
                     param->key, shown, tt_value_format_real(param->minimum, digits));
        return false;
    }
    char copy[32] = "";
    errno = 0;
    if (length < sizeof(copy)) {
        memcpy(copy, text, length);
        *out = strtoll(copy, NULL, 10);
    }
    if (length >= sizeof(copy) || errno == ERANGE)
        return in_bounds(param, text[0] == '-' ? -INFINITY : INFINITY, shown, problem);
    return in_bounds(param, (double)*out, shown, problem) && on_lattice(param, *out, problem);
}

static bool is_written_as_zero(const char *text, size_t length)
{
    for (size_t i = 0; i < length && text[i] != 'e' && text[i] != 'E'; i++)
        if (text[i] >= '1' && text[i] <= '9')
            return false;
    return true;
}

static bool parse_float(const tt_param *param, const char *text, size_t length, double *out,
                        char *problem)
{
    char shown[64];
    tt_value_show(text, length, shown);
    double value = is_number(text, length, false) ? to_double(text, length) : NAN;
    if (!isfinite(value)) {
        snprintf(problem, TT_PROBLEM_BYTES,
                 "%s must be a finite decimal number, not '%s'; write it as in 0.05, 10 or 1e-8",
                 param->key, shown);
        return false;
    }
    *out = value;
    if (value == 0 && !is_written_as_zero(text, length)) {
        snprintf(problem, TT_PROBLEM_BYTES, "%s is %s, too small to represent; write 0", param->key,
                 shown);
        return false;
    }
    return in_bounds(param, value, shown, problem);
}

/* ---- words -------------------------------------------------------------------------------- */

static bool parse_bool(const tt_param *param, const char *text, size_t length, bool *out,
                       char *problem)
{
    static const char *const yes[] = {"yes", "Yes", "YES", "on", "On", "ON", "True", "TRUE", "1"};
    static const char *const no[] = {"no", "No", "NO", "off", "Off", "OFF", "False", "FALSE", "0"};
    char shown[64];
    *out = is(text, length, "true");
    if (*out || is(text, length, "false"))
        return true;
    const char *hint = "true or false";
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        hint = is(text, length, yes[i]) ? "true" : is(text, length, no[i]) ? "false" : hint;
    snprintf(problem, TT_PROBLEM_BYTES, "%s must be true or false, not '%s'; write %s", param->key,
             tt_value_show(text, length, shown), hint);
    return false;
}

static bool parse_enum(const tt_param *param, const char *text, size_t length, char *problem)
{
    for (const char *choice = param->choices; *choice != '\0';) {
        size_t size = strcspn(choice, "|");
        if (size == length && memcmp(choice, text, size) == 0)
            return true;
        choice += size + (choice[size] == '|');
    }
    char shown[64];
    snprintf(problem, TT_PROBLEM_BYTES, "%s cannot be '%s'; write one of %.250s", param->key,
             tt_value_show(text, length, shown), param->choices);
    return false;
}

static bool parse_string(const tt_param *param, const char *text, size_t length, char *problem)
{
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t size = tt_utf8_decode(text + i, length - i, &code);
        if (size == 0 || is_control(code)) {
            snprintf(problem, TT_PROBLEM_BYTES, "%s holds %s at byte %zu; write plain text",
                     param->key, size == 0 ? "invalid UTF-8" : "a control character", i + 1);
            return false;
        }
        i += size;
    }
    return true;
}

static bool is_null(const char *text, size_t length)
{
    return length == 0 || is(text, length, "~") || is(text, length, "null") ||
           is(text, length, "Null") || is(text, length, "NULL");
}

/* What no type takes in this style. */
static bool refuse_style(const tt_param *param, const char *text, size_t length, tt_style style,
                         char *problem)
{
    char shown[64];
    bool words = param->type == TT_TYPE_STRING;
    bool quotable = words || param->type == TT_TYPE_ENUM;
    tt_value_show(text, length, shown);
    if (style == TT_STYLE_BLOCK)
        snprintf(problem, TT_PROBLEM_BYTES, "%s is a block of text; write it on one line",
                 param->key);
    else if (style == TT_STYLE_QUOTED && !quotable)
        snprintf(problem, TT_PROBLEM_BYTES, "%s must be %s, not text; write %s without quotes",
                 param->key, param->type == TT_TYPE_BOOL ? "true or false" : "a number",
                 length == 0 ? "a value" : shown);
    else if (style == TT_STYLE_PLAIN && is_null(text, length))
        snprintf(problem, TT_PROBLEM_BYTES, "%s has no value; write one%s, or remove the line",
                 param->key, words ? " (\"\" for an empty text)" : "");
    else if (style == TT_STYLE_RAW && length == 0 && !words)
        snprintf(problem, TT_PROBLEM_BYTES, "%s is empty; write a value, or leave it unset",
                 param->key);
    else
        return false;
    return true;
}

bool tt_value_parse(const tt_param *param, const char *text, size_t length, tt_style style,
                    tt_value *value, char problem[TT_PROBLEM_BYTES])
{
    *value = (tt_value){.type = param->type};
    if (refuse_style(param, text, length, style, problem))
        return false;
    if (is(text, length, "auto") && style != TT_STYLE_QUOTED) {
        value->is_auto = param->may_be_auto;
        if (value->is_auto)
            return true;
        if (param->type != TT_TYPE_STRING) {
            snprintf(problem, TT_PROBLEM_BYTES, "%s cannot be auto; write a value, as in %s",
                     param->key, param->default_text);
            return false;
        }
    }
    switch (param->type) {
    case TT_TYPE_BOOL:
        return parse_bool(param, text, length, &value->as.boolean, problem);
    case TT_TYPE_INT:
        return parse_int(param, text, length, &value->as.integer, problem);
    case TT_TYPE_FLOAT:
        return parse_float(param, text, length, &value->as.real, problem);
    case TT_TYPE_ENUM:
        value->as.string = text;
        return parse_enum(param, text, length, problem);
    case TT_TYPE_STRING:
        value->as.string = text;
        return parse_string(param, text, length, problem);
    }
    snprintf(problem, TT_PROBLEM_BYTES, "%s has no type", param->key);
    return false;
}

/* ---- values as text ----------------------------------------------------------------------- */

/* In double quotes; what YAML would take for a line break or not print is escaped. */
static void add_quoted(tt_text *out, const char *text)
{
    size_t length = strlen(text);
    tt_text_add(out, "\"");
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t size = tt_utf8_decode(text + i, length - i, &code);
        bool special = is_control(code) || code == 0x2028 || code == 0x2029 || code == 0xfeff ||
                       code == 0xfffe || code == 0xffff;
        if (size == 0 || special)
            tt_text_addf(out, "\\u%04X", size == 0 ? 0xfffdU : code);
        else if (code == '"' || code == '\\')
            tt_text_addf(out, "\\%c", (char)code);
        else
            tt_text_add_bytes(out, text + i, size);
        i += size == 0 ? 1 : size;
    }
    tt_text_add(out, "\"");
}

void tt_value_add(tt_text *out, const tt_value *value)
{
    char number[32];
    if (value->is_auto) {
        tt_text_add(out, "auto");
        return;
    }
    switch (value->type) {
    case TT_TYPE_BOOL:
        tt_text_add(out, value->as.boolean ? "true" : "false");
        return;
    case TT_TYPE_INT:
        tt_text_addf(out, "%" PRId64, value->as.integer);
        return;
    case TT_TYPE_FLOAT:
        tt_text_add(out, tt_value_format_real(value->as.real, number));
        return;
    case TT_TYPE_ENUM:
        tt_text_add(out, value->as.string);
        return;
    case TT_TYPE_STRING:
        add_quoted(out, value->as.string);
        return;
    }
}

bool tt_value_equal(const tt_value *a, const tt_value *b)
{
    if (a->is_auto || b->is_auto || a->type != b->type)
        return a->is_auto && b->is_auto;
    switch (a->type) {
    case TT_TYPE_BOOL:
        return a->as.boolean == b->as.boolean;
    case TT_TYPE_INT:
        return a->as.integer == b->as.integer;
    case TT_TYPE_FLOAT:
        return a->as.real == b->as.real;
    case TT_TYPE_ENUM:
    case TT_TYPE_STRING:
        return strcmp(a->as.string, b->as.string) == 0;
    }
    return false;
}

void tt_value_add_bounds(tt_text *out, const tt_param *param)
{
    char low[32];
    char high[32];
    if (param->type == TT_TYPE_ENUM) {
        tt_text_add(out, "one of ");
        for (const char *c = param->choices; *c != '\0'; c++)
            tt_text_add_bytes(out, *c == '|' ? ", " : c, *c == '|' ? 2 : 1);
    } else if (param->type == TT_TYPE_BOOL) {
        tt_text_add(out, "true or false");
    } else if (param->type == TT_TYPE_STRING) {
        tt_text_add(out, "text");
    } else if (param->lattice != NULL) {
        tt_text_add(out, "one of ");
        for (size_t i = 0; i < param->lattice_count; i++)
            tt_text_addf(out, "%s%" PRId64, i > 0 ? ", " : "", param->lattice[i]);
    } else {
        tt_text_addf(out, "%s to %s", tt_value_format_real(param->minimum, low),
                     tt_value_format_real(param->maximum, high));
    }
    if (param->may_be_auto)
        tt_text_add(out, "; or auto");
}
