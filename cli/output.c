#include "output.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- ends of a command ---- */

int cli_report(tt_status status)
{
    if (!status) {
        return 0;
    }
    const char *message = tt_error_message();
    tt_text line;
    tt_text_init(&line);
    tt_text_add(&line, "trimtab: ");
    cli_add_safe(&line, message, strlen(message), false);
    if (!*message) {
        tt_text_add(&line, tt_status_name(status));
    }
    tt_text_add(&line, "\n");
    fflush(stdout); /* what was said before comes before */
    fputs(line.data, stderr);
    tt_text_clear(&line);
    return tt_status_exit_code(status);
}

int cli_finish_output(int code)
{
    bool failed = ferror(stdout) != 0;
    int error = failed ? errno : 0;
    if (fflush(stdout) != 0) {
        failed = true;
        error = errno;
    }
    if (!failed || code > 1) {
        return code;
    }
    return cli_report(tt_fail_errno(error ? error : EIO, "cannot write to standard output"));
}

/* ---- safe text ---- */

/* Invisible characters that reorder or hide what is around them. */
static bool is_deceptive(uint32_t code)
{
    return (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
           (code >= 0xe000 && code <= 0xf8ff) || (code & 0xfffe) == 0xfffe || code >= 0xe0000;
}

size_t cli_safe_character(const char *bytes, size_t length)
{
    uint32_t code = 0;
    size_t size = tt_utf8_decode(bytes, length, &code);
    bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    return control || is_deceptive(code) ? 0 : size;
}

void cli_add_safe(tt_text *out, const char *bytes, size_t length, bool lines)
{
    for (size_t i = 0; i < length;) {
        size_t size = cli_safe_character(bytes + i, length - i);
        if (size) {
            tt_text_add_bytes(out, bytes + i, size);
            i += size;
            continue;
        }
        if (lines && (bytes[i] == '\n' || bytes[i] == '\t')) {
            tt_text_add_bytes(out, bytes + i, 1);
        } else {
            tt_text_addf(out, "\\x%02x", (unsigned char)bytes[i]);
        }
        i++;
    }
}

/* ---- numbers ---- */

const char *cli_count(int64_t value, char out[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)value);
    size_t used = 0;
    for (int i = 0; i < length; i++) {
        int left = length - i;
        if (i > 0 && left % 3 == 0 && digits[i - 1] != '-') {
            out[used++] = ',';
        }
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

/* Three significant digits, as people write them: 1.52, 15.2, 152. */
static void add_short(double value, const char *unit, char out[32])
{
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(out, 32, "%.*f%s", decimals, value, unit);
}

const char *cli_bytes(double value, char out[32])
{
    static const char *const units[] = {" KiB", " MiB", " GiB", " TiB", " PiB"};
    if (value < 1024) {
        snprintf(out, 32, "%.0f B", value);
        return out;
    }
    size_t unit = 0;
    for (value /= 1024; value >= 1023.5 && unit + 1 < sizeof units / sizeof *units; unit++) {
        value /= 1024;
    }
    add_short(value, units[unit], out);
    return out;
}

const char *cli_scaled(double value, char out[32])
{
    static const char *const units[] = {" k", " M", " G", " T", " P", " E"};
    if (!isfinite(value) || value < 1000) {
        snprintf(out, 32, "%.3g ", value);
        return out;
    }
    size_t unit = 0;
    for (value /= 1000; value >= 999.5 && unit + 1 < sizeof units / sizeof *units; unit++) {
        value /= 1000;
    }
    add_short(value, units[unit], out);
    return out;
}

const char *cli_duration(double seconds, char out[32])
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9) {
        snprintf(out, 32, "?");
        return out;
    }
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 0.9995) {
        snprintf(out, 32, "%.0f ms", seconds * 1000);
    } else if (seconds < 9.95) {
        snprintf(out, 32, "%.1f s", seconds);
    } else if (whole < 60) {
        snprintf(out, 32, "%lld s", whole);
    } else if (whole < 3600) {
        snprintf(out, 32, "%lld min %02lld s", whole / 60, whole % 60);
    } else if (whole < 86400) {
        snprintf(out, 32, "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
    } else {
        snprintf(out, 32, "%lld d %lld h", whole / 86400, whole % 86400 / 3600);
    }
    return out;
}

const char *cli_number(double value, char out[32])
{
    snprintf(out, 32, "%.4g", value);
    if (isnan(value)) {
        snprintf(out, 32, "nan"); /* never "-nan" */
    }
    return out;
}

/* ---- JSON ---- */

json_t *cli_json_text(const char *text, size_t length)
{
    json_t *string = json_stringn(text, length);
    if (string) {
        return string;
    }
    tt_text safe;
    tt_text_init(&safe);
    cli_add_safe(&safe, text, length, true);
    string = json_stringn(safe.data, safe.length);
    tt_text_clear(&safe);
    return string;
}

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

tt_status cli_print_json(json_t *root)
{
    /* 17 digits: every double reads back as itself. */
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    if (!text) {
        return tt_fail(TT_ENOMEM, "no memory for the JSON output");
    }
    puts(text);
    free(text);
    return TT_OK;
}
