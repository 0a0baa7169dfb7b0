#include "scratch.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

tt_status tt_scratch_make(const char *what, char out[TT_SCRATCH_PATH])
{
    const char *base = getenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe)
    base = base && *base ? base : "/tmp";
    int length = snprintf(out, TT_SCRATCH_PATH, "%s/trimtab-%s-XXXXXX", base, what);
    if (length < 0 || length >= TT_SCRATCH_PATH - 256) {
        out[0] = '\0';
        return tt_fail(TT_EIO, "the path of the scratch folder is too long (TMPDIR)");
    }
    if (!mkdtemp(out)) {
        int error = errno;
        out[0] = '\0';
        return tt_fail_errno(error, "cannot make a scratch folder in %s (TMPDIR)", base);
    }
    return TT_OK;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    (void)remove(path); /* what cannot be removed stays, and so does its folder */
    return 0;
}

void tt_scratch_remove(const char *path)
{
    if (path[0]) {
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}
