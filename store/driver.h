/* store/driver.h: how this module meets HDF5.
 *
 * HDF5 never opens a file here. A file driver of ours lets it write into memory (the writer's
 * metadata) or read from a descriptor that is already open (the child that walks a container).
 * So a full disk or a failing one is met by our own writes, where it is handled, and the child can
 * give up opening files before HDF5 sees the first byte.
 */
#ifndef TT_STORE_DRIVER_H
#define TT_STORE_DRIVER_H

#include "trimtab/store.h"

#include <hdf5.h>

enum { TT_IMAGE_PAGE = 4096 };

/* The few written pages of a file whose datasets take space but have no content yet. */
typedef struct tt_image_page {
    uint64_t offset; /* in the file, a multiple of TT_IMAGE_PAGE */
    unsigned char *data;
} tt_image_page;

typedef struct tt_image {
    tt_image_page *pages; /* ascending */
    size_t count;
    size_t capacity;
    uint64_t bytes; /* of the whole file, set when HDF5 closes it */
    bool failed;    /* a write found no memory: the image is incomplete */
} tt_image;

void tt_image_clear(tt_image *image);
/* Copies [offset, offset + bytes) out; zero where nothing was written. */
void tt_image_read(const tt_image *image, uint64_t offset, void *out, size_t bytes);

/* What a file made with the driver stands on: an image, or a descriptor if `image` is NULL. */
typedef struct tt_driver_source {
    tt_image *image;
    int fd;
    uint64_t bytes;
} tt_driver_source;

/* HDF5 as Debian builds it is not thread-safe, and its errors print themselves. Every use in this
 * process stands between enter and leave: one at a time, silent, and the application's own error
 * handler is put back. */
typedef struct tt_hdf5_guard {
    H5E_auto2_t handler;
    void *handler_data;
    bool saved;
} tt_hdf5_guard;

void tt_hdf5_enter(tt_hdf5_guard *guard);
void tt_hdf5_leave(tt_hdf5_guard *guard);
/* Only the lock: held across a fork, so that the child finds HDF5 between two calls. */
void tt_hdf5_lock(void);
void tt_hdf5_unlock(void);

/* A file-access property list for `source`, and the driver's id to unregister; false on failure. */
bool tt_driver_access(const tt_driver_source *source, hid_t *driver, hid_t *access);
/* The name under which HDF5 knows a file. The driver ignores it; it is absolute because HDF5 asks
 * for the working directory otherwise, which may be gone, and is beyond the child's limits. */
#define TT_HDF5_NAME "/container"

/* HDF5's own words for the last failure. Returns out. */
char *tt_hdf5_reason(char out[256]);

/* The HDF5 type that holds `dtype`; borrowed. */
hid_t tt_hdf5_type(tt_dtype dtype);

#endif
