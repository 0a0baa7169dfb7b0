/* Numbers and times as text. */
#include "trimtab/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A host program may have set a locale whose decimal point is another; files have one format. */
static void use_decimal_point(char *text)
{
    size_t before = strspn(text, "-0123456789e");
    size_t point = strcspn(text + before, "+-0123456789e");
    if (point) {
        memmove(text + before + 1, text + before + point, strlen(text + before + point) + 1);
        text[before] = '.';
    }
}

char *tt_format_double(double value, char out[32])
{
    if (isnan(value)) {
        memcpy(out, "nan", sizeof "nan");
        return out;
    }
    if (isinf(value)) {
        snprintf(out, 32, "%sinf", value < 0 ? "-" : "");
        return out;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value) { // NOLINT(cert-err34-c): our own output
            break;
        }
    }
    /* "%g" writes 100 as 1e+02. */
    char whole[32];
    int length = fabs(value) < 1e15 ? snprintf(whole, sizeof whole, "%.0f", value) : 0;
    if (length > 0 && (size_t)length <= strlen(out) && strtod(whole, NULL) == value) {
        memcpy(out, whole, (size_t)length + 1);
    }
    use_decimal_point(out);
    return out;
}

char *tt_format_utc_now(char out[24])
{
    time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return out;
}
