/* store/walk.h: what a container holds, found by a child process that may crash, hang or be taken
 * over without harm.
 *
 *   walker.c (parent)  fork, pipe, deadline, verdict on how the child ended
 *   sandbox.c (child)  limits and the system-call filter
 *   walk.c (child)     HDF5: every link, object and dataset, refusing what we never write
 */
#ifndef TT_STORE_WALK_H
#define TT_STORE_WALK_H

#include "layout.h"

typedef struct tt_walk_limits {
    unsigned cpu_seconds;
    unsigned wall_ms;
    unsigned stall_ms;     /* without using the CPU or answering */
    unsigned objects;      /* at most TT_STORE_MAX_OBJECTS */
    uint64_t memory_bytes; /* on top of what the process has mapped at the fork */
} tt_walk_limits;

/* 100,000 objects take about three seconds; a damaged file has no right to much more than this. */
#define TT_WALK_LIMITS                                                                             \
    ((tt_walk_limits){.cpu_seconds = 20,                                                           \
                      .wall_ms = 60000,                                                            \
                      .stall_ms = 3000,                                                            \
                      .objects = TT_STORE_MAX_OBJECTS,                                             \
                      .memory_bytes = UINT64_C(1) << 30})

/* What the child found; freed with tt_walk_result_clear. */
typedef struct tt_walk_result {
    tt_status status;
    char message[512];
    tt_store_entry *entries;
    size_t count;
} tt_walk_result;

void tt_walk_result_clear(tt_walk_result *result);

/* Parent: walks the container behind `fd` and checks the answer. Entries are sorted by path and
 * owned by the caller. */
tt_status tt_store_walk(int fd, int64_t file_bytes, const char *path, const tt_walk_limits *limits,
                        tt_store_entry **entries, size_t *count);
/* tt_store_open with other limits than TT_WALK_LIMITS. */
tt_status tt_store_open_limited(const char *path, const tt_walk_limits *limits, tt_store **out);

/* Child: makes HDF5 ready while files may still be opened. */
bool tt_walk_prepare(void);
/* Child: gives up everything but reading `fd`, writing `to` and a bounded amount of CPU and
 * memory. On failure says why in `message`. */
bool tt_sandbox_enter(int fd, int to, const tt_walk_limits *limits, char message[512]);
/* Child: the walk. */
void tt_walk_file(int fd, int64_t file_bytes, const tt_walk_limits *limits, tt_walk_result *result);

#endif
