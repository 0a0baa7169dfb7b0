/* trimtab/store.h: self-verifying containers, and how they reach the disk.
 *
 *   1. file operations (injectable)
 *   2. writing: declare, put, commit
 *   3. reading: verify, open, read
 *   4. a directory of containers: latest, prune, newest that verifies
 *
 * A container is one file. Bytes 0-4031: a JSON header {format, version, run_id, step, parent,
 * payload_bytes, payload_sha256}, space-padded, ending in a line break; bytes 4032-4095: the hex
 * SHA-256 of bytes 0-4031; from 4096 on: HDF5, so stock h5dump and h5py read the file (the first
 * 4 KiB are an HDF5 user block). Datasets are plain contiguous.
 *
 * A digest proves that a file is what was written, not that it is harmless: before anything of
 * it is used, a child process with CPU, memory and system-call limits walks the HDF5 structure and
 * refuses external links and storage, virtual datasets, filters, chunks, other types and absurd
 * sizes. The parent process never parses HDF5; it reads each dataset's bytes at the offset that
 * the walk found and that it checks against the file's size.
 */
#ifndef TRIMTAB_STORE_H
#define TRIMTAB_STORE_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TT_STORE_PREFIX_BYTES 4096
#define TT_STORE_MAX_RANK     8
#define TT_STORE_MAX_NAME     192 /* bytes of a dataset path, NUL included */

/* ---- 1. file operations ------------------------------------------------------------------- */

/* Every operation on files that the commit protocol makes, so that tests and drills can fail, delay
 * or count each. Same contracts as POSIX: -1 and errno on failure, short counts allowed. HDF5 does
 * none: it lays out its metadata in memory. */
typedef struct tt_file_ops {
    size_t size; /* sizeof(tt_file_ops) */
    void *user;
    int (*open)(void *user, const char *path, int flags, unsigned mode);
    int (*close)(void *user, int fd);
    int64_t (*pread)(void *user, int fd, void *data, size_t bytes, int64_t offset);
    int64_t (*pwrite)(void *user, int fd, const void *data, size_t bytes, int64_t offset);
    int (*fallocate)(void *user, int fd, int64_t bytes);
    int (*fsync)(void *user, int fd);
    int (*rename)(void *user, const char *from, const char *to);
    int (*unlink)(void *user, const char *path);
    int (*symlink)(void *user, const char *target, const char *path);
} tt_file_ops;

TT_API const tt_file_ops *tt_file_ops_posix(void);

/* Whole reads and writes at `offset`: short counts and interrupted calls are gone on with. `path`
 * is for messages. A file that ends too early is TT_ECORRUPT. */
TT_API tt_status tt_file_read_all(const tt_file_ops *ops, int fd, const char *path, void *data,
                                  size_t bytes, int64_t offset);
TT_API tt_status tt_file_write_all(const tt_file_ops *ops, int fd, const char *path,
                                   const void *data, size_t bytes, int64_t offset);
/* fsync, never tried again after a failure: the kernel may have dropped what it could not write. */
TT_API tt_status tt_file_sync(const tt_file_ops *ops, int fd, const char *path);

/* Writes a small text file so that a reader sees the old or the new content, never a mixture:
 * temporary in the same directory, fsync, rename, fsync of the directory. */
TT_API tt_status tt_file_replace(const tt_file_ops *ops, const char *path, const void *data,
                                 size_t bytes);

/* ---- 2. writing --------------------------------------------------------------------------- */

typedef struct tt_store_writer tt_store_writer;

typedef struct tt_store_write_options {
    size_t size;
    const char *directory;     /* must exist */
    const char *name;          /* file name inside it, ending in ".h5", e.g. "step-0000000100.h5" */
    const char *run_id;        /* at most 63 printable ASCII characters; NULL: "" */
    int64_t step;              /* >= 0 */
    const char *parent_sha256; /* header digest of the one it descends from; "", NULL: none */
    const tt_file_ops *ops;    /* NULL: POSIX */
} tt_store_write_options;

TT_API tt_status tt_store_writer_create(const tt_store_write_options *options,
                                        tt_store_writer **out);
/* Announces a dataset "/group/.../name" (groups are made as needed; a path may be announced once).
 * Names are printable ASCII without spaces, at most 16 deep. rank 0 is a scalar; a dimension may be
 * 0. Only before the first put. */
TT_API tt_status tt_store_writer_declare(tt_store_writer *writer, const char *path, tt_dtype dtype,
                                         int rank, const int64_t *dims);
/* Announces a one-dimensional u8 dataset and keeps a copy of its content, written at commit. */
TT_API tt_status tt_store_writer_add_text(tt_store_writer *writer, const char *path,
                                          const char *text, size_t bytes);
/* Writes `bytes` at `offset` bytes into a declared dataset. The first put makes the file and
 * reserves all of its space, so a full disk (TT_ENOSPC) is known before bulk is written. TT_EBUSY
 * if another writer is at work on that name. Native little-endian bytes. Cheapest when datasets are
 * put in the order of their declaration, front to back: the digest then grows along. A failed
 * operation on the file ends the writer and removes the temporary. */
TT_API tt_status tt_store_writer_put(tt_store_writer *writer, const char *path, int64_t offset,
                                     const void *data, size_t bytes);
/* The protocol: text datasets, digest of the payload, header block, fsync, re-read and verify,
 * rename within the directory, fsync of the directory, move `latest`. Fails with TT_EINVAL and the
 * dataset's name if one was not written in full. On any failure the temporary is removed, and
 * `latest` and the container that it names are untouched. (A failure after the rename leaves the
 * new container, whole and verified, beside them.) Ends the writer. `digest` (may be NULL) receives
 * the header digest. */
TT_API tt_status tt_store_writer_commit(tt_store_writer *writer, char digest[TT_SHA256_HEX]);
/* Frees; without a commit the temporary is removed. */
TT_API void tt_store_writer_destroy(tt_store_writer *writer);

/* ---- 3. reading --------------------------------------------------------------------------- */

typedef struct tt_store_header {
    int version;
    char run_id[64];
    int64_t step;
    char parent_sha256[TT_SHA256_HEX];
    int64_t payload_bytes;
    char payload_sha256[TT_SHA256_HEX];
    char header_sha256[TT_SHA256_HEX];
} tt_store_header;

/* Checks prefix, header and payload digest; never parses HDF5. TT_ECORRUPT says which check
 * failed (truncated, header digest, payload length, payload digest); TT_EUNSUPPORTED says that a
 * newer trimtab wrote it. `header` may be NULL. */
TT_API tt_status tt_store_verify(const char *path, tt_store_header *header);

typedef struct tt_store tt_store;

typedef struct tt_store_entry {
    char path[TT_STORE_MAX_NAME];
    tt_dtype dtype;
    int rank;
    int64_t dims[TT_STORE_MAX_RANK];
    int64_t bytes;
    int64_t file_offset;
} tt_store_entry;

/* Verifies, then walks the structure in the limited child. TT_ECORRUPT or TT_EHOSTILE name what
 * was found and where; TT_EUNSUPPORTED: this machine offers no system-call filter. An open
 * container may be read from several threads at once. */
TT_API tt_status tt_store_open(const char *path, tt_store **out);
TT_API void tt_store_close(tt_store *store);
TT_API const tt_store_header *tt_store_get_header(const tt_store *store);
/* Entries sorted by path. */
TT_API size_t tt_store_entry_count(const tt_store *store);
TT_API const tt_store_entry *tt_store_entry_at(const tt_store *store, size_t index);
TT_API const tt_store_entry *tt_store_find(const tt_store *store, const char *path);
/* Reads `bytes` at `offset` of a dataset into `out`; beyond its end: TT_EINVAL; TT_ECORRUPT if the
 * file was cut short since it was opened. */
TT_API tt_status tt_store_read(const tt_store *store, const tt_store_entry *entry, int64_t offset,
                               void *out, size_t bytes);
/* Appends a one-dimensional u8 dataset to `out`. TT_EDATA: there is none of that path, or it is
 * something else, or it has more than 64 MiB. */
TT_API tt_status tt_store_read_text(const tt_store *store, const char *path, tt_text *out);

/* ---- 4. a directory of containers --------------------------------------------------------- */

/* `form` says which names in the directory are the caller's containers: `#` stands for a digit,
 * everything else for itself ("step-##########.h5"). Other files, such as a copy that someone made
 * of a container, belong to someone else: they are neither considered nor counted nor removed. */

/* The newest container (by step in the header, then by name) that verifies, into `path`. Files that
 * do not verify are passed over, each with a warning to `log`. TT_ENOTFOUND when there is none. */
TT_API tt_status tt_store_newest(const char *directory, const char *form, const tt_log_sink *log,
                                 char *path, size_t capacity);
/* Removes all but the `keep` (>= 1) newest containers by file name, never the one that `latest`
 * names nor one named in `spare` (NULL-terminated list of file names, may be NULL); also what dead
 * writers left of containers of that form and of `latest`. */
TT_API tt_status tt_store_prune(const char *directory, const char *form, int keep,
                                const char *const *spare, const tt_file_ops *ops);

#ifdef __cplusplus
}
#endif
#endif
