/* store/driver.c: the HDF5 file driver, the lock around HDF5, HDF5's error text. */
#include "driver.h"

#include "files.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t hdf5 = PTHREAD_MUTEX_INITIALIZER;

void tt_hdf5_lock(void)
{
    pthread_mutex_lock(&hdf5);
}

void tt_hdf5_unlock(void)
{
    pthread_mutex_unlock(&hdf5);
}

void tt_hdf5_enter(tt_hdf5_guard *guard)
{
    tt_hdf5_lock();
    guard->saved = H5Eget_auto2(H5E_DEFAULT, &guard->handler, &guard->handler_data) >= 0;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void tt_hdf5_leave(tt_hdf5_guard *guard)
{
    if (guard->saved)
        H5Eset_auto2(H5E_DEFAULT, guard->handler, guard->handler_data);
    tt_hdf5_unlock();
}

static herr_t note_reason(unsigned n, const H5E_error2_t *error, void *user)
{
    (void)n;
    snprintf(user, 256, "%s", error->desc ? error->desc : "no reason given");
    return 1; /* the first is the innermost */
}

char *tt_hdf5_reason(char out[256])
{
    snprintf(out, 256, "no reason given");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_reason, out);
    return out;
}

hid_t tt_hdf5_type(tt_dtype dtype)
{
    switch (dtype) {
    case TT_I8:
        return H5T_STD_I8LE;
    case TT_U8:
        return H5T_STD_U8LE;
    case TT_U16:
        return H5T_STD_U16LE;
    case TT_I32:
        return H5T_STD_I32LE;
    case TT_I64:
        return H5T_STD_I64LE;
    case TT_U64:
        return H5T_STD_U64LE;
    case TT_F32:
        return H5T_IEEE_F32LE;
    case TT_F64:
        return H5T_IEEE_F64LE;
    case TT_BF16: /* HDF5 has no such type: bf16 is kept as its bits, in U16 */
        break;
    }
    return H5I_INVALID_HID;
}

/* ---- the image ---------------------------------------------------------------------------- */

void tt_image_clear(tt_image *image)
{
    for (size_t i = 0; i < image->count; i++)
        free(image->pages[i].data);
    free(image->pages);
    *image = (tt_image){0};
}

/* The first page at or after `offset`. */
static size_t find_page(const tt_image *image, uint64_t offset)
{
    size_t low = 0, high = image->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (image->pages[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static unsigned char *page_at(tt_image *image, uint64_t offset)
{
    size_t at = find_page(image, offset);
    if (at < image->count && image->pages[at].offset == offset)
        return image->pages[at].data;
    if (image->count == image->capacity) {
        size_t capacity = image->capacity ? 2 * image->capacity : 16;
        tt_image_page *pages = realloc(image->pages, capacity * sizeof *pages);
        if (!pages)
            return NULL;
        image->pages = pages;
        image->capacity = capacity;
    }
    unsigned char *data = calloc(1, TT_IMAGE_PAGE);
    if (!data)
        return NULL;
    memmove(&image->pages[at + 1], &image->pages[at], (image->count - at) * sizeof *image->pages);
    image->pages[at] = (tt_image_page){offset, data};
    image->count++;
    return data;
}

static bool image_write(tt_image *image, uint64_t offset, const unsigned char *from, size_t bytes)
{
    while (bytes > 0) {
        uint64_t within = offset % TT_IMAGE_PAGE;
        size_t part = TT_IMAGE_PAGE - within < bytes ? TT_IMAGE_PAGE - within : bytes;
        unsigned char *page = page_at(image, offset - within);
        if (!page)
            return false;
        memcpy(page + within, from, part);
        offset += part;
        from += part;
        bytes -= part;
    }
    return true;
}

void tt_image_read(const tt_image *image, uint64_t offset, void *out, size_t bytes)
{
    unsigned char *to = out;
    while (bytes > 0) {
        uint64_t within = offset % TT_IMAGE_PAGE;
        size_t part = TT_IMAGE_PAGE - within < bytes ? TT_IMAGE_PAGE - within : bytes;
        size_t at = find_page(image, offset - within);
        if (at < image->count && image->pages[at].offset == offset - within)
            memcpy(to, image->pages[at].data + within, part);
        else
            memset(to, 0, part);
        offset += part;
        to += part;
        bytes -= part;
    }
}

/* ---- the driver --------------------------------------------------------------------------- */

typedef struct driver_file {
    H5FD_t base; /* HDF5's part, first */
    tt_driver_source source;
    haddr_t allocated;
} driver_file;

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access, haddr_t most)
{
    (void)name;
    (void)flags;
    (void)most;
    const tt_driver_source *source = H5Pget_driver_info(access);
    driver_file *file = source ? calloc(1, sizeof *file) : NULL;
    if (!file)
        return NULL;
    file->source = *source;
    return &file->base;
}

static herr_t driver_close(H5FD_t *base)
{
    driver_file *file = (driver_file *)base;
    if (file->source.image)
        file->source.image->bytes = file->allocated;
    free(file);
    return 0;
}

static int driver_compare(const H5FD_t *a, const H5FD_t *b)
{
    return (a > b) - (a < b);
}

static herr_t driver_query(const H5FD_t *base, unsigned long *flags)
{
    (void)base;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    return ((const driver_file *)base)->allocated;
}

static herr_t driver_set_eoa(H5FD_t *base, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    ((driver_file *)base)->allocated = address;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    const driver_file *file = (const driver_file *)base;
    return file->source.image ? file->allocated : file->source.bytes;
}

static herr_t driver_read(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                          size_t bytes, void *out)
{
    (void)type;
    (void)transfer;
    const tt_driver_source *source = &((driver_file *)base)->source;
    if (source->image) {
        tt_image_read(source->image, address, out, bytes);
        return 0;
    }
    if (address > source->bytes || bytes > source->bytes - address)
        return -1;
    tt_status status = tt_file_read_all(tt_file_ops_posix(), source->fd, "container", out, bytes,
                                        (int64_t)address);
    return status == TT_OK ? 0 : -1;
}

static herr_t driver_write(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                           size_t bytes, const void *data)
{
    (void)type;
    (void)transfer;
    tt_image *image = ((driver_file *)base)->source.image;
    if (!image)
        return -1;
    /* HDF5 cannot close a file whose metadata it cannot write: it keeps it, and tries again when
     * the process ends. So it is not told; who made the image is. */
    if (!image_write(image, address, data, bytes))
        image->failed = true;
    return 0;
}

bool tt_driver_access(const tt_driver_source *source, hid_t *driver, hid_t *access)
{
    static const H5FD_class_t class = {
        .name = "trimtab",
        .maxaddr = INT64_MAX,
        .fc_degree = H5F_CLOSE_STRONG,
        .fapl_size = sizeof(tt_driver_source),
        .open = driver_open,
        .close = driver_close,
        .cmp = driver_compare,
        .query = driver_query,
        .get_eoa = driver_get_eoa,
        .set_eoa = driver_set_eoa,
        .get_eof = driver_get_eof,
        .read = driver_read,
        .write = driver_write,
        .fl_map = H5FD_FLMAP_DICHOTOMY,
    };
    *driver = H5FDregister(&class);
    *access = H5Pcreate(H5P_FILE_ACCESS);
    return *driver >= 0 && *access >= 0 && H5Pset_driver(*access, *driver, source) >= 0;
}
