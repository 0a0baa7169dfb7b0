/* A growing string. */
#include "trimtab/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char empty[1]; /* never written: capacity 0 says that it is not ours to write */

void tt_text_init(tt_text *text)
{
    *text = (tt_text){.data = empty};
}

void tt_text_clear(tt_text *text)
{
    if (text->capacity) {
        free(text->data);
    }
    tt_text_init(text);
}

static bool reserve(tt_text *text, size_t extra)
{
    if (text->failed || extra > SIZE_MAX / 4 || text->length > SIZE_MAX / 4) {
        text->failed = true;
        return false;
    }
    size_t needed = text->length + extra + 1;
    if (needed <= text->capacity) {
        return true;
    }
    size_t capacity = text->capacity ? text->capacity : 256;
    while (capacity < needed) {
        capacity *= 2;
    }
    char *data = realloc(text->capacity ? text->data : NULL, capacity);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    text->data[text->length] = '\0';
    return true;
}

void tt_text_add_bytes(tt_text *text, const char *bytes, size_t length)
{
    if (length == 0 || !reserve(text, length)) {
        return;
    }
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void tt_text_add(tt_text *text, const char *string)
{
    tt_text_add_bytes(text, string, strlen(string));
}

void tt_text_addf(tt_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !reserve(text, (size_t)length)) {
        text->failed = true;
        return;
    }
    va_start(arguments, format);
    vsnprintf(text->data + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
}

tt_status tt_text_check(const tt_text *text)
{
    return text->failed ? tt_fail(TT_ENOMEM, "no memory for a text of %zu bytes", text->length)
                        : TT_OK;
}
