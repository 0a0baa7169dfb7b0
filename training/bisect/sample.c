/* Which sequence of a batch does the harm: each alone through the step that was refused. */
#include "bisect.h"

#include "../try.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One stands out if it lies so many robust standard deviations above the others, in logarithms. */
static const double outlier = 6;
static const double least_noise = 0.1;
enum { EXCERPT = 160 };

typedef struct sequences {
    double *loss, *norm, *room; /* of each: its loss and gradient norm */
    int64_t count;
} sequences;

static tt_status measure(tt_bisector *b, int64_t step, int64_t position, sequences *s)
{
    tt_training *training = b->fork.training;
    tt_orchestrator *o = training->orchestrator;
    tt_replay replay = {
        .size = sizeof replay,
        .step = step,
        .position = position,
        .read_slot = tt_orchestrator_slot(o),
        .write_slot = -1,
        .learning_rate_scale = 1,
        .config = tt_orchestrator_config(o),
    };
    for (int64_t i = 0; i < s->count; i++) {
        tt_measurements measured;
        tt_bisect_tell(b, "sequences", i, s->count);
        TRY(tt_bisect_go_on(b));
        TRY(tt_training_replay_sequence(training, &replay, i, &measured));
        bool bad = !measured.present[TT_METRIC_GRADIENT_NORM] ||
                   measured.values[TT_METRIC_GRADIENT_NONFINITE] > 0;
        s->loss[i] = measured.values[TT_METRIC_LOSS];
        s->norm[i] = bad ? NAN : measured.values[TT_METRIC_GRADIENT_NORM];
    }
    return TT_OK;
}

static double finite_median(const double *values, const sequences *s)
{
    size_t count = 0;
    for (int64_t i = 0; i < s->count; i++) {
        if (isfinite(values[i])) {
            s->room[count++] = values[i];
        }
    }
    return tt_median(s->room, count);
}

/* The largest score, and whose it is. */
static double highest_score(const double *values, const sequences *s, int64_t *which)
{
    double median = log(finite_median(values, s));
    double most = 0;
    for (int64_t i = 0; i < s->count; i++) {
        s->room[i] = fabs(log(values[i]) - median);
    }
    double scale = hypot(1.4826 * tt_median(s->room, (size_t)s->count), least_noise);
    for (int64_t i = 0; i < s->count; i++) {
        double score = (log(values[i]) - median) / scale;
        if (score > most) {
            most = score;
            *which = i;
        }
    }
    return most;
}

/* -1: none, or all alike. */
static int64_t choose(tt_bisection *result, const sequences *s)
{
    int64_t first = -1;
    for (int64_t i = s->count; i-- > 0;) {
        if (!isfinite(s->loss[i]) || !isfinite(s->norm[i])) {
            first = i;
            result->samples_nonfinite++;
        }
    }
    if (result->samples_nonfinite > 0) {
        return result->samples_nonfinite < s->count || s->count == 1 ? first : -1;
    }
    if (s->count < 3) {
        return -1; /* nothing to stand out from */
    }
    int64_t by_loss = -1;
    int64_t by_norm = -1;
    double loss = highest_score(s->loss, s, &by_loss);
    double norm = highest_score(s->norm, s, &by_norm);
    if (loss < outlier && norm < outlier) {
        return -1;
    }
    return loss >= norm ? by_loss : by_norm;
}

static tt_status locate(tt_bisector *b, int64_t position)
{
    const tt_training *training = b->fork.training;
    const char *root = tt_config_string(b->fork.config, "data.path");
    tt_bisection *result = &b->result->public;
    tt_data_place place;
    tt_dataset_locate(training->data, position, &place);
    tt_text_add(&b->result->file, root);
    /* A file that was named itself is the root. */
    size_t root_length = strlen(root);
    size_t length = strlen(place.name);
    if (root_length < length || strcmp(root + root_length - length, place.name) != 0) {
        tt_text_addf(&b->result->file, "/%s", place.name);
    }
    result->offset = place.byte;
    if (!tt_dataset_is_bytes(training->data)) {
        return tt_text_check(&b->result->file);
    }
    TRY(tt_dataset_batch(training->data, position, 1, training->tokens, training->targets));
    for (int64_t i = 0; i < training->plan.context && i < EXCERPT; i++) {
        char byte = (char)training->tokens[i];
        tt_text_add_bytes(&b->result->excerpt, &byte, 1);
    }
    result->excerpt_bytes = b->result->excerpt.length;
    return tt_text_check(&b->result->excerpt);
}

tt_status tt_bisect_find_sample(tt_bisector *b, int64_t step, int64_t position)
{
    const tt_training *training = b->fork.training;
    tt_bisection *result = &b->result->public;
    sequences s = {.count = training->batch * training->accumulate};
    double *room = calloc(3 * (size_t)s.count, sizeof *room);
    if (!room) {
        return tt_fail(TT_ENOMEM, "no memory for a list of sequences");
    }
    s.loss = room;
    s.norm = room + s.count;
    s.room = room + 2 * s.count;
    tt_status status = measure(b, step, position, &s);
    if (!status) {
        int64_t which = choose(result, &s);
        result->sequences = s.count;
        result->median_loss = finite_median(s.loss, &s);
        result->median_norm = finite_median(s.norm, &s);
        result->sample = which < 0 ? -1 : position + which;
        result->sample_loss = which < 0 ? NAN : s.loss[which];
        result->sample_norm = which < 0 ? NAN : s.norm[which];
        status = which < 0 ? TT_OK : locate(b, result->sample);
    }
    free(room);
    return status;
}
