/* What the data loader's own files share. */
#ifndef TRIMTAB_TRAINING_DATA_INTERNAL_H
#define TRIMTAB_TRAINING_DATA_INTERNAL_H

#include "data.h"
#include "try.h"

/* llm.c's token files: this header, then uint16 tokens. */
enum {
    TOKEN_FILE_MAGIC = 20240520,
    TOKEN_FILE_VERSION = 1,
    TOKEN_FILE_HEADER = 1024, /* bytes: 256 int32 */
};

/* A file that is used. */
typedef struct tt_data_file {
    char *name;    /* relative to the folder given (or the file's own name) */
    int64_t size;  /* bytes on disk, when it was listed */
    int64_t units; /* tokens used of it, after limit_bytes */
    int64_t start; /* text: offset of its first byte in the text buffer */
    bool held_out;
} tt_data_file;

typedef struct tt_file_list {
    tt_data_file *items;
    size_t count, capacity;
    int64_t passed_over; /* links to folders, devices, empty files, files that are not text, ... */
} tt_file_list;

/* A run of a split's tokens within one file. */
typedef struct tt_segment {
    int64_t start;  /* position in the split of its first token */
    int64_t count;  /* tokens, with the separator */
    int64_t offset; /* text: in the text buffer; token files: tokens from the file's first */
    size_t file;
} tt_segment;

typedef struct tt_split_data {
    tt_segment *segments;
    size_t segment_count;
    int64_t tokens;
    int64_t files;
    int64_t sequences; /* of an epoch; at least 1 when there are tokens */
} tt_split_data;

struct tt_dataset {
    tt_data_options options; /* `path` is `root` */
    char *root;
    bool is_folder;
    bool is_bytes;
    tt_file_list files;
    uint8_t *text; /* all files' bytes, each followed by one newline */
    tt_split_data splits[2];
    char digest[TT_SHA256_HEX];
};

/* ---- data_walk.c ---- */

/* The regular files at options.path, in bytewise order of relative path. */
tt_status tt_data_list_files(tt_dataset *data);
void tt_data_free_files(tt_file_list *files);
/* Keeps the files for which keep[i]; the others count as passed over. */
void tt_data_keep_files(tt_file_list *files, const bool *keep);
/* Opens files.items[index] for reading. */
tt_status tt_data_open_file(const tt_dataset *data, size_t index, int *descriptor);
/* Reads exactly `bytes` at `offset`; a short file is an error. */
tt_status tt_data_read_at(const tt_dataset *data, size_t index, int descriptor, void *out,
                          size_t bytes, int64_t offset);

/* ---- data_text.c, data_tokens.c: fill in units (and text), and take in the digest ---- */

tt_status tt_data_load_text(tt_dataset *data, tt_sha256 *digest);
/* True if the folder holds a token file, or the single file is one (or is named as one). */
tt_status tt_data_has_token_files(const tt_dataset *data, bool *found);
tt_status tt_data_load_tokens(tt_dataset *data, tt_sha256 *digest);
/* Tokens [first, first + count) of a token file; TT_EDATA for one that is not below the
 * vocabulary. */
tt_status tt_data_read_tokens(const tt_dataset *data, size_t file, int64_t first, int64_t count,
                              int32_t *out);
/* Adds "name\n" and the bytes used of a file to the digest. */
tt_status tt_data_digest_name(tt_sha256 *digest, const char *name, int64_t bytes);
/* Token files named so are the held-out ones. */
bool tt_data_is_named_held_out(const char *name);

/* ---- data_split.c ---- */

/* Decides which files are held out and makes the segments of both splits. */
tt_status tt_data_make_splits(tt_dataset *data);

/* ---- data.c ---- */

/* Tokens [first, first + count) of a split, which must lie in it. */
tt_status tt_data_copy(const tt_dataset *data, tt_split split, int64_t first, int64_t count,
                       int32_t *out);
/* First token of validation window `index` of `of`. */
int64_t tt_data_held_out_start(const tt_dataset *data, int64_t index, int64_t of);

#endif
