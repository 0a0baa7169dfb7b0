#include "trimtab/base.h"

#include <stdio.h>

void tt_log(const tt_log_sink *sink, tt_log_level level, const char *format, ...)
{
    if (!sink || !sink->write) {
        return;
    }
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = ' ';
        }
    }
    sink->write(sink->user, level, line);
}
