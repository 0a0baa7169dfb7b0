/* Finding the files: a walk whose result depends on names and contents only. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data_internal.h"

enum { MAX_DEPTH = 64, FIRST_CAPACITY = 16 };

static tt_status add_file(tt_file_list *files, const char *name, int64_t size)
{
    if (files->count == files->capacity) {
        size_t capacity = files->capacity ? 2 * files->capacity : FIRST_CAPACITY;
        tt_data_file *items = realloc(files->items, capacity * sizeof *items);
        if (!items) {
            return tt_fail(TT_ENOMEM, "no memory for the list of data files");
        }
        files->items = items;
        files->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) {
        return tt_fail(TT_ENOMEM, "no memory for the list of data files");
    }
    files->items[files->count++] = (tt_data_file){.name = copy, .size = size};
    return TT_OK;
}

void tt_data_free_files(tt_file_list *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->items[i].name);
    }
    free(files->items);
    *files = (tt_file_list){0};
}

void tt_data_keep_files(tt_file_list *files, const bool *keep)
{
    size_t kept = 0;
    for (size_t i = 0; i < files->count; i++) {
        if (keep[i]) {
            files->items[kept++] = files->items[i];
        } else {
            free(files->items[i].name);
            files->passed_over++;
        }
    }
    files->count = kept;
}

static tt_status walk(tt_dataset *data, int parent, const char *folder, int depth);

/* One entry of a folder; `relative` is its path from the root. */
static tt_status visit(tt_dataset *data, int folder, const char *name, const char *relative,
                       int depth)
{
    struct stat info;
    if (fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW)) {
        return tt_fail_errno(errno, "data.path: cannot look at %s/%s", data->root, relative);
    }
    if (S_ISDIR(info.st_mode)) {
        return walk(data, folder, relative, depth + 1);
    }
    /* A link to a file is that file; a link to a folder could lead round in a circle. */
    if (S_ISLNK(info.st_mode) && fstatat(folder, name, &info, 0)) {
        if (errno == ENOENT || errno == ELOOP) {
            data->files.passed_over++; /* a link to nothing holds no text */
            return TT_OK;
        }
        return tt_fail_errno(errno, "data.path: cannot follow the link %s/%s", data->root,
                             relative);
    }
    if (!S_ISREG(info.st_mode) || info.st_size == 0) {
        data->files.passed_over++;
        return TT_OK;
    }
    return add_file(&data->files, relative, info.st_size);
}

static tt_status visit_all(tt_dataset *data, DIR *stream, const char *folder, int depth)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream); /* NOLINT(concurrency-mt-unsafe) */
        if (!entry) {
            break;
        }
        if (entry->d_name[0] == '.') {
            continue; /* ".", "..", and what is hidden (.git) */
        }
        tt_text relative;
        tt_text_init(&relative);
        tt_text_addf(&relative, "%s%s%s", folder, *folder ? "/" : "", entry->d_name);
        tt_status status = tt_text_check(&relative);
        if (!status) {
            status = visit(data, dirfd(stream), entry->d_name, relative.data, depth);
        }
        tt_text_clear(&relative);
        TRY(status);
    }
    return errno ? tt_fail_errno(errno, "data.path: cannot list %s/%s", data->root, folder) : TT_OK;
}

static tt_status walk(tt_dataset *data, int parent, const char *folder, int depth)
{
    if (depth > MAX_DEPTH) {
        return tt_fail(TT_EDATA, "data.path: %s/%s is nested deeper than %d folders", data->root,
                       folder, MAX_DEPTH);
    }
    const char *slash = strrchr(folder, '/');
    const char *name = slash ? slash + 1 : folder;
    int descriptor =
        openat(parent, *folder ? name : data->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return tt_fail_errno(errno, "data.path: cannot open the folder %s/%s", data->root, folder);
    }
    DIR *stream = fdopendir(descriptor);
    if (!stream) {
        int error = errno;
        close(descriptor);
        return tt_fail_errno(error, "data.path: cannot list %s/%s", data->root, folder);
    }
    tt_status status = visit_all(data, stream, folder, depth);
    closedir(stream);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tt_data_file *)a)->name, ((const tt_data_file *)b)->name);
}

tt_status tt_data_list_files(tt_dataset *data)
{
    struct stat info;
    if (stat(data->root, &info)) {
        return tt_fail_errno(errno, "data.path: cannot open %s", data->root);
    }
    data->is_folder = S_ISDIR(info.st_mode);
    if (data->is_folder) {
        TRY(walk(data, AT_FDCWD, "", 0));
        if (data->files.count) {
            qsort(data->files.items, data->files.count, sizeof *data->files.items, by_name);
        }
        return TT_OK;
    }
    if (!S_ISREG(info.st_mode)) {
        return tt_fail(TT_EDATA, "data.path: %s is neither a file nor a folder", data->root);
    }
    if (info.st_size == 0) {
        return tt_fail(TT_EDATA, "data.path: %s is empty", data->root);
    }
    const char *slash = strrchr(data->root, '/');
    return add_file(&data->files, slash ? slash + 1 : data->root, info.st_size);
}

/* "<root>" or "<root>/<name>"; in `out`, which the caller clears. */
static tt_status full_path(const tt_dataset *data, size_t index, tt_text *out)
{
    tt_text_init(out);
    tt_text_add(out, data->root);
    if (data->is_folder) {
        tt_text_addf(out, "/%s", data->files.items[index].name);
    }
    return tt_text_check(out);
}

tt_status tt_data_open_file(const tt_dataset *data, size_t index, int *descriptor)
{
    tt_text path;
    tt_status status = full_path(data, index, &path);
    *descriptor = -1;
    if (!status) {
        /* Without O_NONBLOCK a pipe that took the file's place would block. */
        *descriptor = open(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (*descriptor < 0) {
            status = tt_fail_errno(errno, "data.path: cannot open %s", path.data);
        }
    }
    tt_text_clear(&path);
    return status;
}

tt_status tt_data_read_at(const tt_dataset *data, size_t index, int descriptor, void *out,
                          size_t bytes, int64_t offset)
{
    const char *name = data->files.items[index].name;
    unsigned char *to = out;
    while (bytes) {
        ssize_t got = pread(descriptor, to, bytes, offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return tt_fail_errno(errno, "data.path: cannot read %s", name);
        }
        if (got == 0) {
            return tt_fail(TT_EIO, "data.path: %s became shorter while it was read (at byte %lld)",
                           name, (long long)offset);
        }
        to += got;
        offset += got;
        bytes -= (size_t)got;
    }
    return TT_OK;
}
