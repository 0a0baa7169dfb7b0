/* store/writer.h: what writer.c (declare, put) and commit.c share. */
#ifndef TT_STORE_WRITER_H
#define TT_STORE_WRITER_H

#include "files.h"
#include "prefix.h"
#include "skeleton.h"

typedef enum writer_state { WRITER_DECLARING, WRITER_WRITING, WRITER_DONE } writer_state;

struct tt_store_writer {
    const tt_file_ops *ops;
    char *directory;
    char *name;
    char *path;      /* directory/name */
    char *temporary; /* directory/.name.tmp.pid */
    tt_store_header header;
    writer_state state;
    int fd; /* of the temporary; -1 before the first put and after the end */

    tt_store_dataset *datasets; /* as declared */
    size_t *sorted;             /* their numbers in the order of their paths */
    size_t count;
    size_t capacity;

    tt_image image;     /* HDF5's metadata */
    int64_t file_bytes; /* the container's final size */

    /* The payload's digest grows with the puts as long as they come in file order (as they do when
     * datasets are put as declared); what it has not seen is read back at commit. It covers
     * [4096, hashed). So for an orderly writer, the check after the sync compares the disk with
     * the caller's memory, not with an earlier look at the disk. */
    tt_sha256 *hash;
    int64_t hashed;
    bool reread;      /* covered bytes were overwritten: the whole payload is read at commit */
    size_t hash_next; /* the dataset, in `placed`, that the digest meets next */
    size_t *placed;   /* numbers of the datasets with bytes, in the order of their offsets */
    size_t placed_count;
};

/* Makes the temporary: metadata, then the whole space. */
tt_status tt_store_writer_start(tt_store_writer *writer);
/* Ends the writer; removes the temporary if it is still there. */
void tt_store_writer_abandon(tt_store_writer *writer);
/* Takes the digest over whatever precedes `offset` and needs no put: metadata, gaps, text. */
tt_status tt_store_writer_hash_to(tt_store_writer *writer, int64_t offset);

#endif
