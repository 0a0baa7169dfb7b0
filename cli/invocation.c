#include "invocation.h"

#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static const char name[] = "trimtab";

void cli_add_quoted(tt_text *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./+,:@%";
    bool bare = word[strspn(word, plain)] == '\0' && *word;
    tt_text_add(out, bare ? "" : "'");
    for (const char *c = word; *c; c++) {
        if (*c == '\'') {
            tt_text_add(out, "'\\''");
        } else {
            cli_add_safe(out, c, 1, false);
        }
    }
    tt_text_add(out, bare ? "" : "'");
}

/* Whether the first `trimtab` that a shell finds is the file `self`. */
static bool is_on_path(const struct stat *self)
{
    const char *folders = getenv("PATH"); // NOLINT(concurrency-mt-unsafe)
    char path[PATH_BYTES];
    struct stat info;
    while (folders && *folders) {
        size_t length = strcspn(folders, ":");
        int wrote = snprintf(path, sizeof path, "%.*s%s%s", (int)length, folders,
                             length ? "/" : "./", name);
        bool fits = wrote > 0 && (size_t)wrote < sizeof path;
        if (fits && stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0) {
            return info.st_dev == self->st_dev && info.st_ino == self->st_ino;
        }
        folders += length + (folders[length] == ':');
    }
    return false;
}

void cli_add_program(tt_text *out)
{
    char self[PATH_BYTES];
    char here[PATH_BYTES];
    struct stat info;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    if (stat(self, &info) != 0 || is_on_path(&info)) {
        tt_text_add(out, name);
        return;
    }
    const char *word = self;
    size_t above = getcwd(here, sizeof here) ? strlen(here) : 0;
    if (above > 1 && strncmp(self, here, above) == 0 && self[above] == '/') {
        word = self + above + 1;
    }
    if (!strchr(word, '/')) {
        tt_text_add(out, "./"); /* a bare word would be looked for on PATH */
    }
    cli_add_quoted(out, word);
}
