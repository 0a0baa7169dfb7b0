/* Numbers and times as text. */
#include "trimtab/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
