/* What was measured, in a file of its own for every question:
 *
 *     trimtab tuning 2
 *     <the key's lines>
 *     complete <1; 0: the time was up before all was measured>
 *     <one line per cell: state, rounds, error, seconds of the first round, seconds, bits>
 *     sha256 <of all before>
 *
 * Written beside and renamed, so that readers and other writers see whole files. The choice is not
 * in it: it follows from the cells. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tune.h"

static const char first_line[] = "trimtab tuning 2\n";
static const char last_word[] = "sha256 ";
enum { BYTES_MAX = 4 << 20 };

tt_status tt_tune_cache_folder(tt_text *out)
{
    const char *base = getenv("XDG_CACHE_HOME"); // NOLINT(concurrency-mt-unsafe): read only
    if (base != NULL && base[0] == '/') {
        tt_text_addf(out, "%s/trimtab", base);
        return tt_text_check(out);
    }
    base = getenv("HOME"); // NOLINT(concurrency-mt-unsafe)
    if (base == NULL || base[0] != '/')
        return tt_fail(TT_ENOTFOUND, "no folder for the tuner's cache: neither XDG_CACHE_HOME nor "
                                     "HOME is set");
    tt_text_addf(out, "%s/.cache/trimtab", base);
    return tt_text_check(out);
}

tt_status tt_tune_path(const char *folder, const char *key, tt_text *out)
{
    char digest[TT_SHA256_HEX];
    tt_status status = tt_sha256_of(key, strlen(key), digest);
    if (status == TT_OK)
        tt_text_addf(out, "%s/%.32s.tune", folder, digest);
    return status == TT_OK ? tt_text_check(out) : status;
}

/* ---- reading ---- */

static tt_status read_whole(const char *path, tt_text *out)
{
    char block[65536];
    size_t got;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return tt_fail_errno(errno, "reading %s", path);
    while ((got = fread(block, 1, sizeof block, file)) > 0 && out->length <= BYTES_MAX)
        tt_text_add_bytes(out, block, got);
    bool failed = ferror(file) != 0;
    (void)fclose(file);
    return failed ? tt_fail(TT_EIO, "reading %s failed", path) : tt_text_check(out);
}

static tt_status damaged(const char *path)
{
    return tt_fail(TT_ECORRUPT, "%s is damaged", path);
}

/* The last line is the digest of all others. */
static tt_status check_digest(const char *path, const tt_text *text)
{
    char digest[TT_SHA256_HEX];
    const size_t tail = sizeof last_word - 1 + TT_SHA256_HEX; /* its line break for the NUL */
    if (text->length <= tail || text->length > BYTES_MAX)
        return damaged(path);
    const char *last = text->data + text->length - tail;
    tt_status status = tt_sha256_of(text->data, text->length - tail, digest);
    if (status != TT_OK)
        return status;
    bool same = memcmp(last, last_word, sizeof last_word - 1) == 0 &&
                memcmp(last + sizeof last_word - 1, digest, TT_SHA256_HEX - 1) == 0 &&
                last[tail - 1] == '\n';
    return same ? TT_OK : damaged(path);
}

static bool read_cell(const char **at, tt_tune_cell *cell)
{
    int state = 0, used = 0;
    unsigned long long bits = 0;
    if (sscanf(*at, "%d %d %la %la %la %llx\n%n", &state, &cell->rounds, &cell->error,
               &cell->first_seconds, &cell->seconds, &bits, &used) != 6 ||
        state < TT_TUNE_ABSENT || state > TT_TUNE_TIMED)
        return false;
    cell->state = (tt_tune_state)state;
    cell->bits = bits;
    *at += used;
    return true;
}

static tt_status read_cells(const char *path, const char *at, tt_tuning *tuning)
{
    int complete = 0, used = 0;
    if (sscanf(at, "complete %d\n%n", &complete, &used) != 1)
        return damaged(path);
    at += used;
    for (size_t i = 0; i < tuning->shape_count * tuning->candidate_count; i++)
        if (!read_cell(&at, &tuning->cells[i]))
            return damaged(path);
    tuning->complete = tuning->cached = complete == 1;
    return strncmp(at, last_word, sizeof last_word - 1) == 0 ? TT_OK : damaged(path);
}

tt_status tt_tune_load(const char *path, const char *key, tt_tuning *tuning)
{
    tt_text text;
    tt_text_init(&text);
    tt_status status = read_whole(path, &text);
    if (status == TT_OK)
        status = check_digest(path, &text);
    size_t head = sizeof first_line - 1, length = strlen(key);
    if (status == TT_OK &&
        (strncmp(text.data, first_line, head) != 0 || strncmp(text.data + head, key, length) != 0))
        status = tt_fail(TT_ENOTFOUND,
                         "%s was measured on another machine, with another build or for another "
                         "configuration",
                         path);
    if (status == TT_OK)
        status = read_cells(path, text.data + head + length, tuning);
    tt_text_clear(&text);
    return status;
}

/* ---- writing ---- */

/* The folder and all above it. */
static tt_status make_folder(const char *folder)
{
    tt_text path;
    tt_status status = TT_OK;
    tt_text_init(&path);
    for (const char *at = folder; *at != '\0' && status == TT_OK;) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        tt_text_clear(&path);
        tt_text_add_bytes(&path, folder, (size_t)(at - folder));
        status = tt_text_check(&path);
        if (status == TT_OK && mkdir(path.data, 0777) != 0 && errno != EEXIST)
            status = tt_fail_errno(errno, "making the folder %s", path.data);
    }
    tt_text_clear(&path);
    return status;
}

static tt_status write_beside(const char *path, const tt_text *text)
{
    tt_text beside;
    tt_text_init(&beside);
    tt_text_addf(&beside, "%s.XXXXXX", path);
    tt_status status = tt_text_check(&beside);
    int fd = status == TT_OK ? mkostemp(beside.data, O_CLOEXEC) : -1;
    if (status == TT_OK && fd < 0)
        status = tt_fail_errno(errno, "writing %s", beside.data);
    for (size_t done = 0; status == TT_OK && done < text->length;) {
        ssize_t wrote = write(fd, text->data + done, text->length - done);
        if (wrote < 0 && errno != EINTR)
            status = tt_fail_errno(errno, "writing %s", beside.data);
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    if (fd >= 0 && close(fd) != 0 && status == TT_OK)
        status = tt_fail_errno(errno, "writing %s", beside.data);
    if (status == TT_OK && rename(beside.data, path) != 0)
        status = tt_fail_errno(errno, "renaming %s", beside.data);
    if (status != TT_OK && fd >= 0)
        (void)unlink(beside.data);
    tt_text_clear(&beside);
    return status;
}

tt_status tt_tune_write(const char *path, const char *key, const tt_tuning *tuning)
{
    char digest[TT_SHA256_HEX];
    tt_text text;
    tt_text_init(&text);
    tt_text_addf(&text, "%s%scomplete %d\n", first_line, key, tuning->complete);
    for (size_t i = 0; i < tuning->shape_count * tuning->candidate_count; i++) {
        const tt_tune_cell *cell = &tuning->cells[i];
        tt_text_addf(&text, "%d %d %a %a %a %llx\n", (int)cell->state, cell->rounds, cell->error,
                     cell->first_seconds, cell->seconds, (unsigned long long)cell->bits);
    }
    tt_status status = tt_text_check(&text);
    if (status == TT_OK)
        status = tt_sha256_of(text.data, text.length, digest);
    if (status == TT_OK) {
        tt_text_addf(&text, "%s%s\n", last_word, digest);
        status = tt_text_check(&text);
    }
    if (status == TT_OK)
        status = write_beside(path, &text);
    tt_text_clear(&text);
    return status;
}

tt_status tt_tune_save(const char *folder, const char *key, const tt_tuning *tuning)
{
    tt_text path;
    tt_text_init(&path);
    tt_status status = make_folder(folder);
    if (status == TT_OK)
        status = tt_tune_path(folder, key, &path);
    if (status == TT_OK)
        status = tt_tune_write(path.data, key, tuning);
    tt_text_clear(&path);
    return status;
}

/* ---- clearing ---- */

/* One of ours, or what an interrupted writer left of one: 32 hex digits and ".tune". */
static bool is_ours(const char *name)
{
    const size_t digits = 32;
    return strspn(name, "0123456789abcdef") == digits && strncmp(name + digits, ".tune", 5) == 0;
}

tt_status tt_tune_cache_clear(const char *folder, int64_t *removed)
{
    tt_status status = TT_OK;
    *removed = 0;
    DIR *list = opendir(folder);
    if (list == NULL)
        return errno == ENOENT ? TT_OK : tt_fail_errno(errno, "reading the folder %s", folder);
    const struct dirent *entry;
    while (status == TT_OK && (entry = readdir(list)) != NULL) { // NOLINT(concurrency-mt-unsafe)
        if (!is_ours(entry->d_name))
            continue;
        if (unlinkat(dirfd(list), entry->d_name, 0) != 0 && errno != ENOENT)
            status = tt_fail_errno(errno, "removing %s/%s", folder, entry->d_name);
        else
            ++*removed;
    }
    (void)closedir(list);
    return status;
}
