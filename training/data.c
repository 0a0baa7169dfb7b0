/* The dataset: opening it, and the sequences it gives. */
#include "data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data_internal.h"

/* Streams of random numbers; the epoch is added. */
static const uint64_t order_stream = UINT64_C(0xda7a000000000000);
static const uint64_t offset_stream = UINT64_C(0xda7a800000000000);

/* ---- opening ---- */

static tt_status check_options(const tt_data_options *options)
{
    if (!options->path || !*options->path) {
        return tt_fail(TT_ECONFIG, "data.path is empty; give a text file, a folder of text files "
                                   "or a token file");
    }
    if (options->context < 1 || options->vocab < 1 || options->vocab > INT32_MAX) {
        return tt_fail(TT_ECONFIG,
                       "model.context is %lld and model.vocab %lld; both must be "
                       "positive",
                       (long long)options->context, (long long)options->vocab);
    }
    if (!(options->held_out >= 0.0 && options->held_out <= 0.5)) {
        return tt_fail(TT_ECONFIG, "data.held_out is %g; give a share from 0 to 0.5",
                       options->held_out);
    }
    if (options->limit_bytes < 0) {
        return tt_fail(TT_ECONFIG, "data.limit_bytes is %lld; give 0 for no limit",
                       (long long)options->limit_bytes);
    }
    return TT_OK;
}

static tt_status load(tt_dataset *data)
{
    tt_sha256 *digest = NULL;
    bool tokens = false;
    TRY(tt_data_list_files(data));
    TRY(tt_data_has_token_files(data, &tokens));
    TRY(tt_sha256_create(&digest));
    tt_status status = tokens ? tt_data_load_tokens(data, digest) : tt_data_load_text(data, digest);
    if (!status) {
        status = tt_sha256_finish(digest, data->digest);
    }
    tt_sha256_destroy(digest);
    TRY(status);
    return tt_data_make_splits(data);
}

tt_status tt_dataset_open(const tt_data_options *options, tt_dataset **out)
{
    *out = NULL;
    TRY(check_options(options));
    tt_dataset *data = calloc(1, sizeof *data);
    if (!data) {
        return tt_fail(TT_ENOMEM, "no memory for a dataset's record");
    }
    data->root = strdup(options->path);
    data->options = *options;
    data->options.path = data->root;
    tt_status status = data->root ? load(data) : tt_fail(TT_ENOMEM, "no memory for a path");
    if (status) {
        tt_dataset_close(data);
        return status;
    }
    if (data->files.passed_over) {
        tt_log(options->log, TT_LOG_INFO,
               "%lld files passed over: empty, not text, or beyond data.limit_bytes",
               (long long)data->files.passed_over);
    }
    *out = data;
    return TT_OK;
}

void tt_dataset_close(tt_dataset *data)
{
    if (!data) {
        return;
    }
    tt_data_free_files(&data->files);
    free(data->splits[TT_SPLIT_TRAIN].segments);
    free(data->splits[TT_SPLIT_HELD_OUT].segments);
    free(data->text);
    free(data->root);
    free(data);
}

/* ---- what it tells ---- */

int64_t tt_dataset_tokens(const tt_dataset *data, tt_split split)
{
    return data->splits[split].tokens;
}

int64_t tt_dataset_files(const tt_dataset *data, tt_split split)
{
    return data->splits[split].files;
}

bool tt_dataset_is_bytes(const tt_dataset *data)
{
    return data->is_bytes;
}

const char *tt_dataset_digest(const tt_dataset *data)
{
    return data->digest;
}

int64_t tt_dataset_sequences(const tt_dataset *data, tt_split split)
{
    return data->splits[split].sequences;
}

/* ---- sequences ---- */

/* The segment that holds token `position`. */
static size_t find_segment(const tt_split_data *split, int64_t position)
{
    size_t low = 0;
    size_t high = split->segment_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (split->segments[middle].start <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

tt_status tt_data_copy(const tt_dataset *data, tt_split split, int64_t first, int64_t count,
                       int32_t *out)
{
    const tt_split_data *from = &data->splits[split];
    size_t index = find_segment(from, first);
    for (int64_t done = 0; done < count; index++) {
        const tt_segment *segment = &from->segments[index];
        int64_t skip = first + done - segment->start;
        int64_t part = segment->count - skip;
        part = part < count - done ? part : count - done;
        if (data->is_bytes) {
            const uint8_t *bytes = data->text + segment->offset + skip;
            for (int64_t i = 0; i < part; i++) {
                out[done + i] = bytes[i];
            }
        } else {
            TRY(tt_data_read_tokens(data, segment->file, segment->offset + skip, part, out + done));
        }
        done += part;
    }
    return TT_OK;
}

/* context + 1 tokens from `first` on, as inputs and, one later, targets. */
static tt_status copy_window(const tt_dataset *data, tt_split split, int64_t first, int32_t *tokens,
                             int32_t *targets)
{
    const int64_t context = data->options.context;
    TRY(tt_data_copy(data, split, first, context, tokens));
    if (context > 1) {
        memcpy(targets, tokens + 1, (size_t)(context - 1) * sizeof *targets);
    }
    return tt_data_copy(data, split, first + context, 1, targets + context - 1);
}

static int64_t training_start(const tt_dataset *data, int64_t position)
{
    const int64_t context = data->options.context;
    const int64_t sequences = data->splits[TT_SPLIT_TRAIN].sequences;
    const uint64_t epoch = (uint64_t)(position / sequences);
    /* What is left over when the windows stand at the very start. */
    int64_t slack = data->splits[TT_SPLIT_TRAIN].tokens - 1 - sequences * context;
    slack = slack < context - 1 ? slack : context - 1;
    double offset = floor(tt_random_uniform(data->options.seed, offset_stream + epoch, 0) *
                          (double)(slack + 1));
    uint64_t window = tt_permute(data->options.seed, order_stream + epoch, (uint64_t)sequences,
                                 (uint64_t)(position % sequences));
    return (int64_t)offset + (int64_t)window * context;
}

tt_status tt_dataset_batch(const tt_dataset *data, int64_t position, int64_t count, int32_t *tokens,
                           int32_t *targets)
{
    if (position < 0 || count < 0 || position > INT64_MAX - count) {
        return tt_fail(TT_EINVAL, "data position %lld, %lld sequences: neither may be negative",
                       (long long)position, (long long)count);
    }
    const int64_t context = data->options.context;
    for (int64_t i = 0; i < count; i++) {
        TRY(copy_window(data, TT_SPLIT_TRAIN, training_start(data, position + i),
                        tokens + i * context, targets + i * context));
    }
    return TT_OK;
}

void tt_dataset_locate(const tt_dataset *data, int64_t position, tt_data_place *out)
{
    const tt_split_data *split = &data->splits[TT_SPLIT_TRAIN];
    int64_t first = training_start(data, position);
    const tt_segment *segment = &split->segments[find_segment(split, first)];
    const tt_data_file *file = &data->files.items[segment->file];
    int64_t token = segment->offset + first - segment->start;
    token -= data->is_bytes ? file->start : 0;
    *out = (tt_data_place){
        .name = file->name,
        .token = token,
        .byte = data->is_bytes ? token : TOKEN_FILE_HEADER + token * (int64_t)sizeof(uint16_t),
    };
}

int64_t tt_data_held_out_start(const tt_dataset *data, int64_t index, int64_t of)
{
    if (of < 2) {
        return 0;
    }
    /* range * index / (of - 1) without leaving 64 bits. */
    const int64_t range = data->splits[TT_SPLIT_HELD_OUT].tokens - data->options.context - 1;
    const int64_t steps = of - 1;
    return range / steps * index + range % steps * index / steps;
}

tt_status tt_dataset_held_out(const tt_dataset *data, int64_t index, int64_t of, int32_t *tokens,
                              int32_t *targets)
{
    if (!data->splits[TT_SPLIT_HELD_OUT].tokens) {
        return tt_fail(TT_EINVAL, "nothing is held out: data.held_out is 0");
    }
    if (of < 1 || of > INT32_MAX || index < 0 || index >= of) {
        return tt_fail(TT_EINVAL, "validation sequence %lld of %lld does not exist",
                       (long long)index, (long long)of);
    }
    return copy_window(data, TT_SPLIT_HELD_OUT, tt_data_held_out_start(data, index, of), tokens,
                       targets);
}
