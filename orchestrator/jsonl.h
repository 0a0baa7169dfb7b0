/* Append-only files of JSON lines: metrics.jsonl and decisions.jsonl. */
#ifndef TRIMTAB_ORCHESTRATOR_JSONL_H
#define TRIMTAB_ORCHESTRATOR_JSONL_H

#include "trimtab/store.h"

typedef struct tt_jsonl {
    const tt_file_ops *ops;
    int fd; /* -1: closed */
    int64_t length;
    char path[4096];
} tt_jsonl;

/* Opens or makes the file; a last line that was cut by a crash is cut off. `fresh`: empties it. */
tt_status tt_jsonl_open(tt_jsonl *file, const tt_file_ops *ops, const char *path, bool fresh);
void tt_jsonl_close(tt_jsonl *file);
/* Appends `line` and a line break in one write; `sync` makes it durable before returning. On
 * failure the file is as it was. No allocation for lines of less than 4 KiB. */
tt_status tt_jsonl_append(tt_jsonl *file, const char *line, size_t length, bool sync);
/* Appends whole lines, each with its line break, in one write. On failure the file is as it was. */
tt_status tt_jsonl_append_lines(tt_jsonl *file, const char *lines, size_t length, bool sync);
/* Calls `each` for every line (NUL-terminated), in order, until it returns a failure. */
tt_status tt_jsonl_read(const char *path, tt_status (*each)(void *user, const char *line),
                        void *user);

#endif
