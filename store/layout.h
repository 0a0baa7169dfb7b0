/* store/layout.h: what a container may hold; the writer, the child that walks a file and the
 * parent that checks the child all ask here. */
#ifndef TT_STORE_LAYOUT_H
#define TT_STORE_LAYOUT_H

#include "trimtab/store.h"

#define TT_STORE_MAX_OBJECTS 100000 /* datasets and groups */
#define TT_STORE_MAX_DEPTH   16     /* names in a dataset's path */

/* A name: printable ASCII without '/', and neither "." nor "..". */
bool tt_store_is_name(const char *name, size_t length);
/* NULL for a path of 1 to TT_STORE_MAX_DEPTH names that fits TT_STORE_MAX_NAME; otherwise what is
 * wrong with it. */
const char *tt_store_path_fault(const char *path);
/* Bytes of a dataset; false for an unknown type, a rank out of bounds, a negative dimension or a
 * product beyond 2^62. */
bool tt_store_shape_bytes(tt_dtype dtype, int rank, const int64_t *dims, int64_t *bytes);

/* Checks what the child found against the file's size, and sorts it by path: names, shapes,
 * extents inside the payload, no two datasets sharing a byte or a name. */
tt_status tt_store_index_check(tt_store_entry *entries, size_t count, int64_t file_bytes,
                               const char *path);

#endif
