#include "terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The environment is only read, by one thread. */
static const char *variable(const char *name)
{
    const char *value = getenv(name); // NOLINT(concurrency-mt-unsafe)
    return value ? value : "";
}

bool cli_is_live(int fd)
{
    const char *term = variable("TERM");
    const char *ci = variable("CI");
    return isatty(fd) && *term && strcmp(term, "dumb") != 0 && (!*ci || strcmp(ci, "false") == 0);
}

bool cli_has_colour(int fd)
{
    return cli_is_live(fd) && !*variable("NO_COLOR");
}

int cli_columns(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    long columns = strtol(variable("COLUMNS"), NULL, 10);
    return columns >= 20 && columns <= 1000 ? (int)columns : 80;
}
