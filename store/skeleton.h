/* store/skeleton.h: the HDF5 metadata of a container, made in memory. */
#ifndef TT_STORE_SKELETON_H
#define TT_STORE_SKELETON_H

#include "driver.h"
#include "extent.h"

typedef struct tt_store_dataset {
    char *path;
    tt_dtype dtype;
    int rank;
    int64_t dims[TT_STORE_MAX_RANK];
    int64_t bytes;
    int64_t file_offset; /* set by tt_store_skeleton_build */
    char *text;          /* content kept for commit, or NULL */
    tt_extent_set written;
} tt_store_dataset;

/* Makes groups and datasets in `image` and notes where each dataset's bytes go. `sorted` are the
 * datasets' numbers in the order of their paths. */
tt_status tt_store_skeleton_build(tt_store_dataset *datasets, const size_t *sorted, size_t count,
                                  tt_image *image);

#endif
