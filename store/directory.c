/* store/directory.c: the newest container that verifies; removing old ones. */
#include "files.h"
#include "prefix.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct candidate {
    char *name;
    int64_t step;
} candidate;

typedef struct listing {
    candidate *items;
    size_t count;
    size_t capacity;
} listing;

/* `#` stands for a digit, everything else for itself. */
static bool has_form(const char *name, const char *form, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        bool digit = name[i] >= '0' && name[i] <= '9';
        if (form[i] == '#' ? !digit : name[i] != form[i])
            return false;
    }
    return true;
}

static bool is_container_name(const char *name, const char *form)
{
    size_t length = strlen(form);
    return strlen(name) == length && has_form(name, form, length);
}

/* Of a container of that form, or of the link. */
static bool is_temporary_name(const char *name, const char *form)
{
    if (tt_store_temp_owner(name) <= 0)
        return false;
    const char *inner = name + 1;
    size_t length = strlen(form);
    bool container = strlen(inner) > length && has_form(inner, form, length) &&
                     strncmp(inner + length, TT_STORE_TEMP_MARK, strlen(TT_STORE_TEMP_MARK)) == 0;
    static const char link[] = TT_STORE_LATEST TT_STORE_TEMP_MARK;
    return container || strncmp(inner, link, sizeof link - 1) == 0;
}

static tt_status listing_add(listing *list, const char *name)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 32;
        candidate *items = realloc(list->items, capacity * sizeof *items);
        if (!items)
            return tt_fail(TT_ENOMEM, "no memory to list a directory");
        list->items = items;
        list->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy)
        return tt_fail(TT_ENOMEM, "no memory to list a directory");
    list->items[list->count++] = (candidate){.name = copy};
    return TT_OK;
}

static void listing_clear(listing *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].name);
    free(list->items);
    *list = (listing){0};
}

static tt_status listing_read(listing *list, const char *directory, const char *form,
                              bool (*wanted)(const char *name, const char *form))
{
    tt_status status = TT_OK;
    DIR *stream = opendir(directory);
    if (!stream)
        return tt_fail_errno(errno, "cannot list directory '%s'", directory);
    for (;;) {
        errno = 0;
        const struct dirent *item = readdir(stream);
        if (!item) {
            if (errno != 0)
                status = tt_fail_errno(errno, "cannot list directory '%s'", directory);
            break;
        }
        if (!wanted(item->d_name, form))
            continue;
        status = listing_add(list, item->d_name);
        if (status != TT_OK)
            break;
    }
    closedir(stream);
    return status;
}

static int by_step_descending(const void *a, const void *b)
{
    const candidate *left = a, *right = b;
    if (left->step != right->step)
        return left->step < right->step ? 1 : -1;
    return strcmp(right->name, left->name);
}

static int by_name_descending(const void *a, const void *b)
{
    return strcmp(((const candidate *)b)->name, ((const candidate *)a)->name);
}

/* ---- newest ------------------------------------------------------------------------------- */

static tt_status read_step(const char *path, int64_t *step)
{
    int fd = -1;
    int64_t file_bytes = 0;
    tt_store_header header;
    tt_status status = tt_store_open_file(path, &fd, &file_bytes);
    if (status != TT_OK)
        return status;
    status = tt_store_read_prefix(tt_file_ops_posix(), fd, path, file_bytes, &header);
    close(fd);
    *step = header.step;
    return status;
}

static bool join_into(char *out, size_t capacity, const char *directory, const char *name)
{
    int length = snprintf(out, capacity, "%s/%s", directory, name);
    return (size_t)length < capacity; /* also where it is -1 */
}

static void pass_over(const tt_log_sink *log)
{
    tt_log(log, TT_LOG_WARN, "passed over: %s", tt_error_message());
}

tt_status tt_store_newest(const char *directory, const char *form, const tt_log_sink *log,
                          char *path, size_t capacity)
{
    listing list = {0};
    if (!directory || !form || !path || capacity == 0)
        return tt_fail(TT_EINVAL, "tt_store_newest: directory, form and path must be given");
    tt_status status = listing_read(&list, directory, form, is_container_name);
    if (status != TT_OK)
        goto out;
    /* Headers are cheap: they give the order in which whole files are worth checking. */
    size_t readable = 0;
    for (size_t i = 0; i < list.count; i++) {
        char one[PATH_MAX];
        candidate *item = &list.items[i];
        if (!join_into(one, sizeof one, directory, item->name)) {
            tt_fail(TT_EINVAL, "'%s/%s': the path is too long", directory, item->name);
            pass_over(log);
        } else if (read_step(one, &item->step) != TT_OK) {
            pass_over(log);
        } else {
            candidate swap = list.items[readable];
            list.items[readable++] = *item;
            *item = swap;
        }
    }
    if (readable > 0)
        qsort(list.items, readable, sizeof *list.items, by_step_descending);
    status = TT_ENOTFOUND;
    for (size_t i = 0; i < readable && status != TT_OK; i++) {
        if (!join_into(path, capacity, directory, list.items[i].name)) {
            status = tt_fail(TT_EINVAL, "'%s/%s' does not fit into %zu bytes", directory,
                             list.items[i].name, capacity);
            goto out;
        }
        status = tt_store_verify(path, NULL);
        if (status != TT_OK)
            pass_over(log);
    }
    if (status != TT_OK)
        status = tt_fail(TT_ENOTFOUND, "no container in '%s' verifies (%zu looked at)", directory,
                         list.count);
out:
    if (status != TT_OK)
        path[0] = '\0';
    listing_clear(&list);
    return status;
}

/* ---- prune -------------------------------------------------------------------------------- */

static bool is_spared(const char *name, const char *latest, const char *const *spare)
{
    if (strcmp(name, latest) == 0)
        return true;
    for (; spare && *spare; spare++) {
        if (strcmp(name, *spare) == 0)
            return true;
    }
    return false;
}

/* What `latest` names; "" if it is not there. */
static void read_latest(const char *directory, char out[NAME_MAX + 1])
{
    char path[PATH_MAX];
    ssize_t length = -1;
    if (join_into(path, sizeof path, directory, TT_STORE_LATEST))
        length = readlink(path, out, NAME_MAX);
    out[length > 0 ? length : 0] = '\0';
}

/* The first failure of several is the one to report, with its message. */
typedef struct first_failure {
    tt_status status;
    char message[1024];
} first_failure;

static void note_failure(first_failure *first, tt_status status)
{
    if (status != TT_OK && first->status == TT_OK) {
        first->status = status;
        snprintf(first->message, sizeof first->message, "%s", tt_error_message());
    }
}

static tt_status remove_container(const tt_file_ops *ops, const char *directory, const char *name)
{
    char *path = tt_store_join(directory, name);
    if (!path)
        return tt_fail(TT_ENOMEM, "no memory to remove '%s'", name);
    tt_status status = TT_OK;
    if (ops->unlink(ops->user, path) != 0 && errno != ENOENT)
        status = tt_fail_errno(errno, "cannot remove old container '%s'", path);
    free(path);
    return status;
}

tt_status tt_store_prune(const char *directory, const char *form, int keep,
                         const char *const *spare, const tt_file_ops *ops)
{
    listing containers = {0}, temporaries = {0};
    char latest[NAME_MAX + 1];
    if (!directory || !form || keep < 1)
        return tt_fail(TT_EINVAL,
                       "tt_store_prune: directory and form must be given, and keep at least 1");
    if (!ops)
        ops = tt_file_ops_posix();
    tt_status status = listing_read(&containers, directory, form, is_container_name);
    if (status == TT_OK)
        status = listing_read(&temporaries, directory, form, is_temporary_name);
    if (status != TT_OK)
        goto out;
    read_latest(directory, latest);
    if (containers.count > 0)
        qsort(containers.items, containers.count, sizeof *containers.items, by_name_descending);
    /* One that cannot be removed does not keep the others. */
    first_failure first = {.status = TT_OK};
    for (size_t i = (size_t)keep; i < containers.count; i++) {
        const char *name = containers.items[i].name;
        if (!is_spared(name, latest, spare))
            note_failure(&first, remove_container(ops, directory, name));
    }
    for (size_t i = 0; i < temporaries.count; i++)
        note_failure(&first, tt_store_temp_remove_stale(ops, directory, temporaries.items[i].name));
    if (first.status != TT_OK)
        status = tt_fail(first.status, "%s", first.message);
out:
    listing_clear(&containers);
    listing_clear(&temporaries);
    return status;
}
