/* store/prefix.h: the first 4,096 bytes of a container, and the check of the whole file. */
#ifndef TT_STORE_PREFIX_H
#define TT_STORE_PREFIX_H

#include "trimtab/store.h"

#define TT_STORE_FORMAT       "trimtab-container"
#define TT_STORE_VERSION      1
#define TT_STORE_HEADER_BYTES 4032 /* JSON, padded; the header digest fills the rest */

/* Fills the block from `header` and sets header->header_sha256. */
tt_status tt_store_prefix_encode(tt_store_header *header, char block[TT_STORE_PREFIX_BYTES]);
/* Checks the digest, then the JSON. `path` is for messages. A header of a newer format version is
 * TT_EUNSUPPORTED, everything else TT_ECORRUPT. */
tt_status tt_store_prefix_decode(const char block[TT_STORE_PREFIX_BYTES], const char *path,
                                 tt_store_header *header);

/* Opens a container for reading: TT_ECORRUPT if `path` is no regular file. */
tt_status tt_store_open_file(const char *path, int *fd, int64_t *file_bytes);
/* Reads and checks the prefix only. */
tt_status tt_store_read_prefix(const tt_file_ops *ops, int fd, const char *path, int64_t file_bytes,
                               tt_store_header *header);
/* Checks everything. */
tt_status tt_store_verify_fd(const tt_file_ops *ops, int fd, const char *path, int64_t file_bytes,
                             tt_store_header *header);
/* Feeds bytes [from, to) of the file to `hash`. */
tt_status tt_store_hash_range(const tt_file_ops *ops, int fd, const char *path, int64_t from,
                              int64_t to, tt_sha256 *hash);

#endif
