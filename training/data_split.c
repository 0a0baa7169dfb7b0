/* Which text is held out, and where each split's tokens lie. */
#include <stdlib.h>
#include <string.h>

#include "data_internal.h"

/* A file in the order in which files are tried for the held-out split. */
typedef struct candidate {
    uint64_t rank; /* a hash of the path alone: another seed keeps the split */
    size_t file;
} candidate;

static int by_rank(const void *a, const void *b)
{
    const candidate *x = a;
    const candidate *y = b;
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return x->file < y->file ? -1 : x->file > y->file;
}

static size_t smallest_file(const tt_file_list *files)
{
    size_t smallest = 0;
    for (size_t i = 1; i < files->count; i++) {
        if (files->items[i].units < files->items[smallest].units) {
            smallest = i;
        }
    }
    return smallest;
}

/* Takes files by hash until the share is reached, leaving out those that would overshoot it by half
 * (a giant file among small ones); at least one, never all. */
static tt_status hold_out_by_hash(tt_file_list *files, double share)
{
    candidate *order = calloc(files->count, sizeof *order);
    if (!order) {
        return tt_fail(TT_ENOMEM, "no memory for the list of data files");
    }
    double total = 0.0;
    for (size_t i = 0; i < files->count; i++) {
        const char *name = files->items[i].name;
        order[i] = (candidate){tt_hash64(name, strlen(name), 0), i};
        total += (double)files->items[i].units;
    }
    qsort(order, files->count, sizeof *order, by_rank);
    const double target = share * total;
    double held = 0.0;
    size_t count = 0;
    for (size_t i = 0; i < files->count && held < target && count + 1 < files->count; i++) {
        tt_data_file *file = &files->items[order[i].file];
        if (held + (double)file->units <= 1.5 * target) {
            file->held_out = true;
            held += (double)file->units;
            count++;
        }
    }
    if (!count) {
        files->items[smallest_file(files)].held_out = true;
    }
    free(order);
    return TT_OK;
}

/* llm.c's convention: files named so are the validation set, whatever data.held_out says. */
static bool hold_out_by_name(tt_file_list *files)
{
    bool found = false;
    for (size_t i = 0; i < files->count; i++) {
        files->items[i].held_out = tt_data_is_named_held_out(files->items[i].name);
        found = found || files->items[i].held_out;
    }
    return found;
}

static void add_segment(tt_split_data *split, size_t file, int64_t offset, int64_t count)
{
    if (count > 0) {
        split->segments[split->segment_count++] =
            (tt_segment){.start = split->tokens, .count = count, .offset = offset, .file = file};
        split->tokens += count;
        split->files++;
    }
}

/* One file serves both splits: its last share is held out. */
static void split_file(tt_dataset *data)
{
    const tt_data_file *file = &data->files.items[0];
    int64_t held = (int64_t)((double)file->units * data->options.held_out);
    int64_t kept = file->units - held;
    add_segment(&data->splits[TT_SPLIT_TRAIN], 0, file->start, kept);
    add_segment(&data->splits[TT_SPLIT_HELD_OUT], 0, file->start + kept, held);
}

/* Files one after the other; between two text files their newline, which follows each in memory. */
static void split_by_file(tt_dataset *data)
{
    const int64_t separator = data->is_bytes ? 1 : 0;
    for (size_t i = 0; i < data->files.count; i++) {
        const tt_data_file *file = &data->files.items[i];
        tt_split_data *split = &data->splits[file->held_out ? TT_SPLIT_HELD_OUT : TT_SPLIT_TRAIN];
        add_segment(split, i, file->start, file->units + separator);
    }
    for (int i = 0; i < 2; i++) {
        tt_split_data *split = &data->splits[i];
        if (split->segment_count) { /* none after the last */
            split->segments[split->segment_count - 1].count -= separator;
            split->tokens -= separator;
        }
    }
}

/* Whole windows that follow each other, each sharing its last token with the next one's first. */
static void count_sequences(tt_dataset *data)
{
    for (int i = 0; i < 2; i++) {
        tt_split_data *split = &data->splits[i];
        split->sequences = split->tokens ? (split->tokens - 1) / data->options.context : 0;
    }
    /* Training gives up one window, so that an epoch can start anywhere in the first. */
    tt_split_data *train = &data->splits[TT_SPLIT_TRAIN];
    train->sequences -= train->sequences > 1;
}

static tt_status check_split(const tt_dataset *data, tt_split which, const char *name)
{
    const int64_t needed = data->options.context + 1;
    if (data->splits[which].tokens >= needed) {
        return TT_OK;
    }
    return tt_fail(TT_EDATA,
                   "data.path: the %s split of %s has %lld tokens, and one sequence takes %lld "
                   "(model.context + 1); give more text, another data.held_out or a smaller "
                   "model.context",
                   name, data->root, (long long)data->splits[which].tokens, (long long)needed);
}

tt_status tt_data_make_splits(tt_dataset *data)
{
    for (int i = 0; i < 2; i++) {
        data->splits[i].segments = calloc(data->files.count, sizeof *data->splits[i].segments);
        if (!data->splits[i].segments) {
            return tt_fail(TT_ENOMEM, "no memory for the list of data files");
        }
    }
    const bool by_name = data->is_folder && !data->is_bytes && hold_out_by_name(&data->files);
    if (!by_name && data->files.count == 1) {
        split_file(data);
    } else {
        if (!by_name && data->options.held_out > 0.0) {
            TRY(hold_out_by_hash(&data->files, data->options.held_out));
        }
        split_by_file(data);
    }
    count_sequences(data);
    TRY(check_split(data, TT_SPLIT_TRAIN, "training"));
    if (by_name || data->options.held_out > 0.0) {
        TRY(check_split(data, TT_SPLIT_HELD_OUT, "held-out"));
    }
    return TT_OK;
}
