/* What there is of the run. */
#include "bisect.h"

#include "../try.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ending[] = ".h5";
static const char beginning[] = "step-";

/* The step in "step-0000000012.h5"; -1 if it is no such name. */
static int64_t step_of(const char *name)
{
    size_t length = strlen(name);
    const size_t digits = 10;
    const size_t head = sizeof beginning - 1;
    if (length != head + digits + sizeof ending - 1 || strncmp(name, beginning, head) != 0 ||
        strcmp(name + head + digits, ending) != 0 || strspn(name + head, "0123456789") != digits) {
        return -1;
    }
    return strtoll(name + head, NULL, 10);
}

static int by_step(const void *a, const void *b)
{
    const tt_bisect_point *left = a;
    const tt_bisect_point *right = b;
    return (left->step > right->step) - (left->step < right->step);
}

static tt_status add_point(tt_bisector *b, const char *name, size_t *room)
{
    if (b->point_count == *room) {
        *room = 2 * *room + 16;
        tt_bisect_point *grown = realloc(b->points, *room * sizeof *grown);
        if (!grown) {
            return tt_fail(TT_ENOMEM, "no memory for a list of checkpoints");
        }
        b->points = grown;
    }
    tt_bisect_point *point = &b->points[b->point_count++];
    *point = (tt_bisect_point){.step = step_of(name), .held_out = NAN};
    snprintf(point->name, sizeof point->name, "%.*s", (int)sizeof point->name - 1, name);
    return TT_OK;
}

static tt_status read_folder(tt_bisector *b, const char *path)
{
    size_t room = 0;
    DIR *folder = opendir(path);
    tt_status status = TT_OK;
    if (!folder) {
        return errno == ENOENT || errno == ENOTDIR
                   ? tt_fail(TT_ENOTFOUND, "%s is no folder of a run: it has no checkpoints/",
                             b->options->run_directory)
                   : tt_fail_errno(errno, "cannot read %s", path);
    }
    for (const struct dirent *entry; !status && (entry = readdir(folder)) != NULL;) {
        if (step_of(entry->d_name) >= 0) {
            status = add_point(b, entry->d_name, &room);
        }
    }
    closedir(folder);
    if (!status && b->point_count == 0) {
        status = tt_fail(TT_ENOTFOUND, "%s holds no checkpoint", path);
    }
    return status;
}

/* Whole, harmless, and what its name says. */
static tt_status check(const char *path, int64_t step, char run_id[64])
{
    tt_store *store = NULL;
    TRY(tt_store_open(path, &store));
    const tt_store_header *header = tt_store_get_header(store);
    snprintf(run_id, 64, "%s", header->run_id);
    tt_status status = header->step == step ? TT_OK
                                            : tt_fail(TT_ECORRUPT, "%s: its header says step %lld",
                                                      path, (long long)header->step);
    tt_store_close(store);
    return status;
}

/* Keeps those that verify and are of the newest one's run. */
static tt_status sift(tt_bisector *b, const char *folder)
{
    char path[TT_SCRATCH_PATH];
    char newest[64] = "";
    size_t kept = 0;
    for (size_t i = b->point_count; i-- > 0;) {
        char run_id[64] = "";
        const tt_bisect_point point = b->points[i];
        TRY(tt_bisect_go_on(b));
        snprintf(path, sizeof path, "%.*s/%s", TT_SCRATCH_PATH - 64, folder, point.name);
        if (check(path, point.step, run_id)) {
            tt_text_addf(tt_bisect_note(b), "passed over: %s", tt_error_message());
            continue;
        }
        if (newest[0] && strcmp(newest, run_id) != 0) {
            tt_text_addf(tt_bisect_note(b), "passed over: %s is of another run", path);
            continue;
        }
        snprintf(newest, sizeof newest, "%s", run_id);
        b->points[b->point_count - ++kept] = point;
    }
    memmove(b->points, b->points + b->point_count - kept, kept * sizeof *b->points);
    b->point_count = kept;
    tt_error_clear();
    return kept ? TT_OK
                : tt_fail(TT_ECORRUPT, "no checkpoint in %s verifies; `trimtab verify` says why",
                          folder);
}

tt_status tt_bisect_list(tt_bisector *b)
{
    char folder[TT_SCRATCH_PATH];
    snprintf(folder, sizeof folder, "%.*s/checkpoints", TT_SCRATCH_PATH - 64,
             b->options->run_directory);
    TRY(read_folder(b, folder));
    qsort(b->points, b->point_count, sizeof *b->points, by_step);
    TRY(sift(b, folder));
    b->result->public.checkpoints = (int64_t)b->point_count;
    b->result->public.first_step = b->points[0].step;
    b->result->public.last_step = b->points[b->point_count - 1].step;
    b->end_step = b->result->public.last_step + 1;
    return TT_OK;
}

/* ---- the journal, and the steps that were measured ---- */

static void note_trip(tt_bisector *b, const json_t *record)
{
    const char *gate = json_string_value(json_object_get(record, "gate"));
    const char *action = json_string_value(json_object_get(record, "action"));
    /* The same step is told once: by its first attempt. */
    if (gate && action && strcmp(action, "retry") == 0) {
        json_int_t step = json_integer_value(json_object_get(record, "step"));
        tt_text_addf(tt_bisect_note(b), "the run's own journal: %s tripped at step %lld", gate,
                     (long long)step);
    }
}

static void read_line(tt_bisector *b, const char *line, bool is_journal)
{
    json_t *record = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    json_int_t step = json_integer_value(json_object_get(record, "step"));
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const int64_t most = (int64_t)1 << 53; /* as the orchestrator's own limit */
    /* An event of step n stands between n - 1 and n. */
    bool attempted =
        is_journal ? kind && strcmp(kind, "trip") == 0
                   : json_object_get(record, "loss") != NULL && !json_object_get(record, "event");
    if (attempted && step >= b->end_step && step < most) {
        b->end_step = step + 1;
    }
    if (attempted && is_journal) {
        note_trip(b, record);
    }
    json_decref(record);
}

/* What is not there, or does not parse, tells nothing. */
static void read_lines(tt_bisector *b, const char *name, bool is_journal)
{
    char path[TT_SCRATCH_PATH];
    char *line = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "%.*s/%s", TT_SCRATCH_PATH - 64, b->options->run_directory, name);
    FILE *stream = fopen(path, "re");
    while (stream && getline(&line, &room, stream) > 0) {
        read_line(b, line, is_journal);
    }
    free(line);
    if (stream) {
        fclose(stream);
    }
}

tt_status tt_bisect_read_journal(tt_bisector *b)
{
    read_lines(b, "metrics.jsonl", false);
    read_lines(b, "decisions.jsonl", true);
    return TT_OK;
}
