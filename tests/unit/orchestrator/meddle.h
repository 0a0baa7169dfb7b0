/* File operations that fail, fall short or end the process at a chosen call. */
#ifndef TT_TEST_ORCHESTRATOR_MEDDLE_H
#define TT_TEST_ORCHESTRATOR_MEDDLE_H

#include "trimtab/store.h"

#include <stdatomic.h>

typedef enum meddle_how {
    MEDDLE_NONE,
    MEDDLE_FAIL_ONCE, /* call `at` fails with `error` */
    MEDDLE_FAIL_FROM, /* so does every later one that makes or writes something */
    MEDDLE_HALF,      /* write `at` puts half of its bytes, and the next one fails with `error` */
    MEDDLE_SHORT,     /* every read and write moves one byte less than asked (never none) */
    MEDDLE_KILL,      /* SIGKILL instead of call `at` */
    MEDDLE_KILL_HALF, /* SIGKILL after half of the bytes, if call `at` writes */
} meddle_how;

typedef struct meddle {
    tt_file_ops ops; /* to be given to the code under test */
    meddle_how how;
    int64_t at; /* 0-based */
    int error;
    atomic_llong calls;
    atomic_llong hits;
    atomic_bool half_done;
} meddle;

void meddle_init(meddle *m, meddle_how how, int64_t at, int error);

#endif
