#include "config/config_internal.h"

#include <stdio.h>

enum { PROBLEMS_MAX = 5 };

void tt_problems_init(tt_problems *problems)
{
    tt_text_init(&problems->text);
    problems->count = 0;
}

void tt_problems_add(tt_problems *problems, const char *format, ...)
{
    char line[TT_PROBLEM_BYTES * 2];
    if (tt_problems_full(problems))
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    tt_text_addf(&problems->text, "%s%s", problems->count > 0 ? "; " : "", line);
    problems->count++;
}

bool tt_problems_full(const tt_problems *problems)
{
    return problems->count >= PROBLEMS_MAX;
}

tt_status tt_problems_finish(tt_problems *problems)
{
    tt_status status = tt_text_check(&problems->text);
    if (status == TT_OK && problems->count > 0)
        status = tt_fail(TT_ECONFIG, "%s", problems->text.data);
    tt_text_clear(&problems->text);
    problems->count = 0;
    return status;
}
