/* File operations that go wrong at a place that is named, not counted: calls of a run come in an
 * order that depends on time. */
#ifndef TRIMTAB_TRAINING_DRILL_DISK_H
#define TRIMTAB_TRAINING_DRILL_DISK_H

#include "../../orchestrator/fault.h"

#include <pthread.h>

typedef enum tt_disk_call {
    TT_DISK_ANY,
    TT_DISK_CREATE,
    TT_DISK_READ,
    TT_DISK_WRITE,
    TT_DISK_SYNC,
    TT_DISK_RENAME,
    TT_DISK_LINK,
    TT_DISK_UNLINK,
} tt_disk_call;

typedef enum tt_disk_file {
    TT_DISK_OTHER,
    TT_DISK_CHECKPOINT,
    TT_DISK_LATEST,
    TT_DISK_JOURNAL,
    TT_DISK_FOLDER, /* of checkpoints; its step is that of the one created last */
} tt_disk_file;

/* The `nth` (from 0) such call on such a file; of a checkpoint: of that step, or -1. */
typedef struct tt_disk_place {
    tt_disk_call call;
    tt_disk_file file;
    int64_t step;
    int nth;
} tt_disk_place;

enum { TT_DISK_FILES = 4096 };

typedef struct tt_disk {
    tt_file_fault_how how; /* the caller's: NONE is a disk that works */
    int error;
    int64_t delay_ns;    /* of SLOW: at every call like `from`, whichever it is; others are fast */
    tt_disk_place from;  /* KILL: there. FAIL_FROM: from there on ... */
    tt_disk_place until; /* ... up to there, if its call is not ANY */
    atomic_bool asleep;  /* nothing begins yet */

    tt_file_ops ops; /* to be given to the run */
    tt_file_fault fault;
    pthread_mutex_t mutex;
    int seen_from, seen_until;
    unsigned char file[TT_DISK_FILES]; /* tt_disk_file by descriptor */
    int64_t step[TT_DISK_FILES];
    int64_t newest; /* step of the checkpoint that was last created */
} tt_disk;

void tt_disk_init(tt_disk *disk);

#endif
