/* Training text: where tokens come from, which are held out, and in what order they are seen. */
#ifndef TRIMTAB_TRAINING_DATA_H
#define TRIMTAB_TRAINING_DATA_H

#include "trimtab/base.h"

typedef struct tt_dataset tt_dataset;

typedef struct tt_data_options {
    const char *path; /* a text file, a folder of text files, or a token .bin (or folder of) */
    int64_t context;  /* tokens per sequence */
    int64_t vocab;    /* every token must be below it */
    uint64_t seed;
    double held_out;        /* share kept for validation, 0..0.5; 0: nothing is held out */
    int64_t limit_bytes;    /* 0: no limit */
    const tt_log_sink *log; /* used while opening; may be NULL */
} tt_data_options;

/* Text files are loaded as bytes (one token a byte), joined in the bytewise order of their relative
 * paths with one newline token between files. A .bin is llm.c's format: 256 int32 {20240520, 1,
 * tokens, ...}, then uint16 tokens; it stays on disk, its windows are read when asked for. Opening
 * reads everything once: for the digest, and to check every token against the vocabulary.
 *
 * Folders are walked recursively. A folder that holds a token file is a folder of .bin; only its
 * .bin files are used. Passed over and counted: empty files, files that hold a NUL byte, links to
 * folders or to nothing, what is no regular file. Hidden entries (".git") are left out. A link to a
 * file is that file. limit_bytes cuts within a file: the files after it are not used.
 *
 * Whole files are held out, chosen by a hash of the relative path (not of the seed: runs with
 * different seeds are validated on the same text): about the share asked for, at least one file,
 * never all. Of a single file the last share is held out. In a folder of .bin, if some are named
 * "val", those and no others are held out, and limit_bytes does not touch them.
 *
 * Errors name the file: not there or not readable, folder without text, token >= vocab (with its
 * position), fewer than context+1 tokens in either split. */
tt_status tt_dataset_open(const tt_data_options *options, tt_dataset **out);
void tt_dataset_close(tt_dataset *data);

typedef enum tt_split { TT_SPLIT_TRAIN, TT_SPLIT_HELD_OUT } tt_split;

int64_t tt_dataset_tokens(const tt_dataset *data, tt_split split);
int64_t tt_dataset_files(const tt_dataset *data, tt_split split);
bool tt_dataset_is_bytes(const tt_dataset *data); /* one token is one byte of text */
/* SHA-256 over relative names, sizes used and contents used, in order. */
const char *tt_dataset_digest(const tt_dataset *data);
/* Sequences in an epoch of the training split. */
int64_t tt_dataset_sequences(const tt_dataset *data, tt_split split);

/* The `count` sequences at data position `position` (a number: sequences since the start of
 * training; a pure function of seed and position; each epoch visits every window once, in its own
 * order, windows shifted by an epoch-dependent offset). tokens, targets [count, context]. Safe to
 * call from several threads. Fails only for token files (TT_EIO, TT_EDATA). */
tt_status tt_dataset_batch(const tt_dataset *data, int64_t position, int64_t count, int32_t *tokens,
                           int32_t *targets);
/* Where the sequence at a data position of the training split begins. */
typedef struct tt_data_place {
    const char *name; /* of the file, in the folder; borrowed */
    int64_t token;    /* of the file's */
    int64_t byte;     /* the same in bytes from the file's beginning */
} tt_data_place;
void tt_dataset_locate(const tt_dataset *data, int64_t position, tt_data_place *out);
/* The same for validation: windows spread evenly over the held-out split, in order, always the
 * same: sequence `index` of `of`. They do not overlap up to of = tt_dataset_sequences(). */
tt_status tt_dataset_held_out(const tt_dataset *data, int64_t index, int64_t of, int32_t *tokens,
                              int32_t *targets);

/* Bits per byte of order-1 and order-2 byte models (each trained on the training split, with
 * Witten-Bell smoothing down to the uniform distribution) on exactly the targets of the `of`
 * validation windows; like the model, they see nothing from before a window. Only for byte data. */
tt_status tt_dataset_baselines(const tt_dataset *data, int64_t of, double *order1, double *order2);

#endif
