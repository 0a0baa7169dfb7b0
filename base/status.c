/* The status codes and the calling thread's one-line message. */
#include "trimtab/base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024 };

static _Thread_local char message[MESSAGE_BYTES];

static const struct {
    const char *name;
    int exit_code;
} statuses[] = {
    [TT_OK] = {"ok", 0},
    [TT_EINVAL] = {"invalid argument", 70},
    [TT_ENOMEM] = {"out of memory", 70},
    [TT_EIO] = {"input/output error", 74},
    [TT_ENOSPC] = {"disk full", 74},
    [TT_ENOTFOUND] = {"not found", 74},
    [TT_EBUSY] = {"in use", 74},
    [TT_ECORRUPT] = {"corrupt data", 65},
    [TT_EHOSTILE] = {"hostile data", 65},
    [TT_EDATA] = {"unusable data", 65},
    [TT_ECONFIG] = {"configuration error", 78},
    [TT_EUSAGE] = {"usage error", 2},
    [TT_EUNSUPPORTED] = {"not supported here", 78},
    [TT_EGATE] = {"stopped by a gate", 1},
    [TT_EREQUEUE] = {"saved, requeue", 75},
    [TT_EINTERNAL] = {"internal error", 70},
};

static bool is_status(tt_status status)
{
    return status >= TT_OK && status <= TT_EINTERNAL;
}

const char *tt_status_name(tt_status status)
{
    return is_status(status) ? statuses[status].name : "unknown status";
}

int tt_status_exit_code(tt_status status)
{
    return is_status(status) ? statuses[status].exit_code : 70;
}

/* One line: what a file or a user put into it must not break a log or a terminal. */
static void flatten(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = ' ';
        }
    }
}

tt_status tt_fail(tt_status status, const char *format, ...)
{
    char fresh[MESSAGE_BYTES]; /* the arguments may quote the old message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fresh, sizeof fresh, format, arguments);
    va_end(arguments);
    flatten(fresh);
    memcpy(message, fresh, sizeof message);
    return status;
}

tt_status tt_fail_in(tt_status status, const char *format, ...)
{
    char context[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    return tt_fail(status, "%s: %s", context, message);
}

static tt_status status_of_errno(int error_number)
{
    switch (error_number) {
    case ENOSPC:
    case EDQUOT:
        return TT_ENOSPC;
    case ENOENT:
        return TT_ENOTFOUND;
    case ENOMEM:
        return TT_ENOMEM;
    default:
        return TT_EIO;
    }
}

tt_status tt_fail_errno(int error_number, const char *format, ...)
{
    char context[MESSAGE_BYTES];
    char reason[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    /* The GNU strerror_r: thread-safe, unlike strerror. */
    return tt_fail(status_of_errno(error_number), "%s: %s", context,
                   strerror_r(error_number, reason, sizeof reason));
}

const char *tt_error_message(void)
{
    return message;
}

void tt_error_clear(void)
{
    message[0] = '\0';
}
