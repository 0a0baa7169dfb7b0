/* store/walk.c: the child's walk of the HDF5 structure. Only what our writer makes is accepted. */
#include "walk.h"

#include "driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct walk {
    tt_walk_result *result;
    int64_t file_bytes;
    size_t most_objects;
    size_t capacity; /* of result->entries */
    size_t objects;
    haddr_t *seen;    /* addresses of objects: an open hash table, HADDR_UNDEF where empty */
    size_t seen_size; /* a power of two */
    int depth;
    char path[TT_STORE_MAX_NAME]; /* of the object in hand */
} walk;

static bool refuse(walk *at, tt_status status, const char *format, ...) TT_PRINTF(3, 4);

/* Sets the verdict, keeps the first. Always false. */
static bool refuse(walk *at, tt_status status, const char *format, ...)
{
    if (at->result->status == TT_OK) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(at->result->message, sizeof at->result->message, format, arguments);
        va_end(arguments);
        at->result->status = status;
    }
    return false;
}

static bool broken(walk *at, const char *what)
{
    char reason[256];
    return refuse(at, TT_ECORRUPT, "HDF5 cannot %s '%s': %s", what, at->path[0] ? at->path : "/",
                  tt_hdf5_reason(reason));
}

/* ---- datasets ----------------------------------------------------------------------------- */

static bool check_storage(walk *at, hid_t dataset)
{
    hid_t list = H5Dget_create_plist(dataset);
    if (list < 0)
        return broken(at, "read the properties of");
    H5D_layout_t layout = H5Pget_layout(list);
    int external = H5Pget_external_count(list), filters = H5Pget_nfilters(list);
    H5Pclose(list);
    if (layout == H5D_VIRTUAL)
        return refuse(at, TT_EHOSTILE, "dataset '%s' is virtual: it reads other files", at->path);
    if (external != 0)
        return refuse(at, TT_EHOSTILE, "dataset '%s' has external storage: it reads other files",
                      at->path);
    if (filters != 0)
        return refuse(at, TT_EHOSTILE, "dataset '%s' has a filter", at->path);
    if (layout != H5D_CONTIGUOUS)
        return refuse(at, TT_EHOSTILE, "dataset '%s' is %s, not contiguous", at->path,
                      layout == H5D_CHUNKED ? "chunked" : "compact");
    return true;
}

static bool check_type(walk *at, hid_t dataset, tt_store_entry *entry)
{
    hid_t type = H5Dget_type(dataset);
    if (type < 0)
        return broken(at, "read the type of");
    for (tt_dtype dtype = TT_U8; tt_dtype_size(dtype) > 0 && entry->dtype == 0; dtype++) {
        if (H5Tequal(type, tt_hdf5_type(dtype)) > 0)
            entry->dtype = dtype;
    }
    H5Tclose(type);
    return entry->dtype != 0 ||
           refuse(at, TT_EHOSTILE, "dataset '%s' has an element type other than ours", at->path);
}

static bool check_shape(walk *at, hid_t dataset, tt_store_entry *entry)
{
    hsize_t dims[H5S_MAX_RANK], most[H5S_MAX_RANK];
    bool good = false;
    hid_t space = H5Dget_space(dataset);
    if (space < 0)
        return broken(at, "read the shape of");
    H5S_class_t class = H5Sget_simple_extent_type(space);
    int rank = H5Sget_simple_extent_ndims(space);
    if (class != H5S_SCALAR && class != H5S_SIMPLE) {
        refuse(at, TT_EHOSTILE, "dataset '%s' has no shape", at->path);
    } else if (rank < 0 || rank > TT_STORE_MAX_RANK) {
        refuse(at, TT_EHOSTILE, "dataset '%s' has %d dimensions, more than %d", at->path, rank,
               TT_STORE_MAX_RANK);
    } else if (H5Sget_simple_extent_dims(space, dims, most) != rank) {
        broken(at, "read the shape of");
    } else {
        good = true;
        entry->rank = rank;
        for (int i = 0; i < rank && good; i++) {
            entry->dims[i] = (int64_t)dims[i]; /* beyond INT64_MAX: negative, refused below */
            good = most[i] == dims[i] ||
                   refuse(at, TT_EHOSTILE, "dataset '%s' can be extended", at->path);
        }
        if (good && !tt_store_shape_bytes(entry->dtype, rank, entry->dims, &entry->bytes))
            good = refuse(at, TT_EHOSTILE, "dataset '%s' has dimensions whose product overflows",
                          at->path);
    }
    H5Sclose(space);
    return good;
}

static bool check_extent(walk *at, hid_t dataset, tt_store_entry *entry)
{
    hsize_t stored = H5Dget_storage_size(dataset);
    haddr_t offset = H5Dget_offset(dataset);
    if (stored != (hsize_t)entry->bytes)
        return refuse(at, TT_EHOSTILE, "dataset '%s' stores %llu bytes, its shape takes %lld",
                      at->path, (unsigned long long)stored, (long long)entry->bytes);
    if (entry->bytes == 0)
        return true;
    if (offset == HADDR_UNDEF || offset > (haddr_t)at->file_bytes ||
        (haddr_t)entry->bytes > (haddr_t)at->file_bytes - offset)
        return refuse(at, TT_EHOSTILE, "dataset '%s' lies outside the file", at->path);
    entry->file_offset = (int64_t)offset;
    return true;
}

static bool add_entry(walk *at, const tt_store_entry *entry)
{
    tt_walk_result *result = at->result;
    if (result->count == at->capacity) {
        size_t capacity = at->capacity ? 2 * at->capacity : 64;
        tt_store_entry *entries = realloc(result->entries, capacity * sizeof *entries);
        if (!entries)
            return refuse(at, TT_ENOMEM, "no memory to list its datasets");
        result->entries = entries;
        at->capacity = capacity;
    }
    result->entries[result->count++] = *entry;
    return true;
}

static bool walk_dataset(walk *at, hid_t group, const char *name)
{
    tt_store_entry entry = {0};
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    if (dataset < 0)
        return broken(at, "open the dataset");
    memcpy(entry.path, at->path, sizeof entry.path);
    bool good = check_storage(at, dataset) && check_type(at, dataset, &entry) &&
                check_shape(at, dataset, &entry) && check_extent(at, dataset, &entry) &&
                add_entry(at, &entry);
    H5Dclose(dataset);
    return good;
}

/* ---- links and groups --------------------------------------------------------------------- */

/* False if the address is there already, or without memory. */
static bool note_address(walk *at, haddr_t address)
{
    if (2 * at->objects >= at->seen_size) {
        size_t size = at->seen_size ? 2 * at->seen_size : 256;
        haddr_t *larger = malloc(size * sizeof *larger);
        if (!larger)
            return refuse(at, TT_ENOMEM, "no memory to list its objects");
        for (size_t i = 0; i < size; i++)
            larger[i] = HADDR_UNDEF;
        haddr_t *old = at->seen;
        size_t old_size = at->seen_size;
        at->seen = larger;
        at->seen_size = size;
        for (size_t i = 0; i < old_size; i++) {
            if (old[i] != HADDR_UNDEF)
                note_address(at, old[i]);
        }
        free(old);
    }
    size_t place = (size_t)((address * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (at->seen_size - 1);
    while (at->seen[place] != HADDR_UNDEF) {
        if (at->seen[place] == address)
            return refuse(at, TT_EHOSTILE, "object '%s' is linked twice",
                          at->path[0] ? at->path : "/");
        place = (place + 1) & (at->seen_size - 1);
    }
    at->seen[place] = address;
    return true;
}

static bool check_object(walk *at, const H5O_info_t *info)
{
    const char *path = at->path[0] ? at->path : "/";
    if (info->num_attrs != 0)
        return refuse(at, TT_EHOSTILE, "object '%s' has attributes", path);
    if (info->rc > 1)
        return refuse(at, TT_EHOSTILE, "object '%s' is linked %u times", path, info->rc);
    if (!note_address(at, info->addr))
        return false;
    if (++at->objects > at->most_objects)
        return refuse(at, TT_EHOSTILE, "it holds more than %zu objects", at->most_objects);
    return true;
}

static bool walk_group(walk *at, hid_t group);

static bool walk_object(walk *at, hid_t parent, const char *name)
{
    H5O_info_t info;
    if (H5Oget_info_by_name2(parent, name, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS,
                             H5P_DEFAULT) < 0)
        return broken(at, "examine the object");
    if (!check_object(at, &info))
        return false;
    if (info.type == H5O_TYPE_DATASET)
        return walk_dataset(at, parent, name);
    if (info.type != H5O_TYPE_GROUP)
        return refuse(at, TT_EHOSTILE, "object '%s' is neither a group nor a dataset", at->path);
    if (at->depth + 1 >= TT_STORE_MAX_DEPTH)
        return refuse(at, TT_EHOSTILE, "group '%s' is nested %d deep", at->path,
                      TT_STORE_MAX_DEPTH);
    hid_t group = H5Gopen2(parent, name, H5P_DEFAULT);
    if (group < 0)
        return broken(at, "open the group");
    at->depth++;
    bool good = walk_group(at, group);
    at->depth--;
    H5Gclose(group);
    return good;
}

static herr_t walk_link(hid_t group, const char *name, const H5L_info_t *info, void *user)
{
    walk *at = user;
    size_t before = strlen(at->path), length = strlen(name);
    const char *kind = info->type == H5L_TYPE_SOFT       ? "a soft"
                       : info->type == H5L_TYPE_EXTERNAL ? "an external"
                                                         : "a user-defined";
    if (!tt_store_is_name(name, length) || before + 1 + length >= sizeof at->path) {
        refuse(at, TT_EHOSTILE, "group '%s' has a link with a name that is too long or not plain",
               at->path[0] ? at->path : "/");
        return 1;
    }
    snprintf(at->path + before, sizeof at->path - before, "/%s", name);
    bool good = info->type == H5L_TYPE_HARD
                    ? walk_object(at, group, name)
                    : refuse(at, TT_EHOSTILE, "'%s' is %s link", at->path, kind);
    memset(at->path + before, 0, sizeof at->path - before);
    return good ? 0 : 1;
}

static bool walk_group(walk *at, hid_t group)
{
    /* Native order needs no sorting; the parent sorts. */
    herr_t ended = H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, walk_link, at);
    if (ended < 0)
        return broken(at, "list the group");
    return at->result->status == TT_OK;
}

static bool walk_root(walk *at, hid_t file)
{
    H5O_info_t info;
    hsize_t userblock = 0;
    hid_t list = H5Fget_create_plist(file);
    if (list < 0 || H5Pget_userblock(list, &userblock) < 0)
        broken(at, "read the properties of");
    else if (userblock != TT_STORE_PREFIX_BYTES)
        refuse(at, TT_EHOSTILE, "its HDF5 part starts at byte %llu, not at %d",
               (unsigned long long)userblock, TT_STORE_PREFIX_BYTES);
    if (list >= 0)
        H5Pclose(list);
    if (at->result->status != TT_OK)
        return false;
    if (H5Oget_info_by_name2(file, "/", &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS, H5P_DEFAULT) <
        0)
        return broken(at, "examine the object");
    hid_t root = check_object(at, &info) ? H5Gopen2(file, "/", H5P_DEFAULT) : H5I_INVALID_HID;
    if (root < 0)
        return broken(at, "open the group");
    bool good = walk_group(at, root);
    H5Gclose(root);
    return good;
}

/* ---- the child's two calls ---------------------------------------------------------------- */

bool tt_walk_prepare(void)
{
    /* No filter may be loaded from a plug-in, even one that the environment names. */
    return H5open() >= 0 && H5Eset_auto2(H5E_DEFAULT, NULL, NULL) >= 0 &&
           H5PLset_loading_state(0) >= 0;
}

void tt_walk_file(int fd, int64_t file_bytes, const tt_walk_limits *limits, tt_walk_result *result)
{
    const tt_driver_source source = {.fd = fd, .bytes = (uint64_t)file_bytes};
    walk at = {.result = result, .file_bytes = file_bytes, .most_objects = limits->objects};
    hid_t driver = H5I_INVALID_HID, access = H5I_INVALID_HID, file = H5I_INVALID_HID;
    if (tt_driver_access(&source, &driver, &access))
        file = H5Fopen(TT_HDF5_NAME, H5F_ACC_RDONLY, access);
    if (file < 0)
        broken(&at, "open");
    else
        walk_root(&at, file);
    /* The process ends here: what HDF5 holds of a damaged file is not worth its clean-up code. */
    free(at.seen);
}
