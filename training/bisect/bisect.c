/* From the oldest checkpoint to the newest, then step by step from the last that is good. */
#include "bisect.h"

#include "../try.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROBED = 2, /* steps after each checkpoint */
    LOOKS = 32, /* at the held-out loss, over all steps that are replayed */
};

void tt_bisect_options_init(tt_bisect_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

tt_text *tt_bisect_note(tt_bisector *b)
{
    tt_bisection *result = &b->result->public;
    if (result->note_count == TT_BISECT_NOTES) {
        tt_text_clear(&b->result->texts[TT_BISECT_NOTES - 1]); /* the last ones say most */
        return &b->result->texts[TT_BISECT_NOTES - 1];
    }
    return &b->result->texts[result->note_count++];
}

void tt_bisect_tell(const tt_bisector *b, const char *phase, int64_t done, int64_t of)
{
    if (b->options->on_progress) {
        b->options->on_progress(b->options->user, phase, done, of);
    }
}

tt_status tt_bisect_go_on(const tt_bisector *b)
{
    return b->options->stop && b->options->stop(b->options->user)
               ? tt_fail(TT_EREQUEUE, "stopped before the bad step was found; run it again")
               : TT_OK;
}

/* ---- the checkpoints ---- */

static bool asks_held_out(const tt_bisector *b)
{
    return b->options->held_out_rise > 0;
}

/* What the steps after a checkpoint say of it. (More than one: what harms the state that is written
 * shows in the step that reads it.) */
static tt_status probe(tt_bisector *b, tt_bisect_point *point)
{
    tt_step_record record;
    tt_status status = tt_bisect_open(b, point);
    if (!status && asks_held_out(b)) {
        status = tt_training_validate(b->fork.training, &point->held_out);
    }
    for (int i = 0; !status && !point->bad && i < PROBED; i++) {
        status = tt_bisect_step(b, &record);
        point->bad = !status && !record.published;
    }
    tt_bisect_close(b);
    return status;
}

/* Its digests hold, but what is in it does not. */
static void pass_over(tt_bisector *b, size_t index)
{
    tt_text_addf(tt_bisect_note(b), "passed over: %s", tt_error_message());
    memmove(b->points + index, b->points + index + 1,
            (--b->point_count - index) * sizeof *b->points);
    b->result->public.checkpoints--;
    tt_error_clear();
}

static bool is_bad(const tt_bisector *b, const tt_bisect_point *point, double lowest)
{
    return point->bad ||
           (asks_held_out(b) && point->held_out > lowest * (1 + b->options->held_out_rise));
}

/* *good: the last before things went bad, or the newest. *bad: the first bad one after it, or
 * point_count. Bad ones before any good one are a run that was not under way; with nothing good
 * *good is the oldest, and *bad the same. */
static tt_status walk(tt_bisector *b, size_t *good, size_t *bad, double *lowest)
{
    bool any = false;
    *lowest = INFINITY;
    *good = 0;
    *bad = b->point_count;
    for (size_t i = 0; i < b->point_count; i++) {
        tt_bisect_point *point = &b->points[i];
        tt_bisect_tell(b, "checkpoints", (int64_t)i, (int64_t)b->point_count);
        tt_status status = probe(b, point);
        if (status == TT_ECORRUPT || status == TT_EHOSTILE) {
            pass_over(b, i--);
            continue;
        }
        TRY(status);
        if (!is_bad(b, point, *lowest)) {
            any = true;
            *good = i;
            *lowest = point->held_out < *lowest ? point->held_out : *lowest;
        } else if (any) {
            *bad = i;
            return TT_OK;
        }
    }
    *bad = any ? b->point_count : 0;
    return b->point_count ? TT_OK
                          : tt_fail(TT_ECORRUPT, "no checkpoint of %s can be gone on from",
                                    b->options->run_directory);
}

/* ---- the steps ---- */

static tt_status judge_held_out(tt_bisector *b, double limit, const tt_step_record *record,
                                bool *bad)
{
    tt_bisection *result = &b->result->public;
    double loss = NAN;
    TRY(tt_training_validate(b->fork.training, &loss));
    *bad = !(loss <= limit);
    if (*bad) {
        snprintf(result->gate, sizeof result->gate, "held_out");
        snprintf(result->says, sizeof result->says,
                 "after it the held-out loss is %.6g, above the limit %.6g", loss, limit);
        result->bad_step = record->step;
        result->position = record->position;
    }
    return TT_OK;
}

typedef struct stretch {
    int64_t end;        /* exclusive */
    int64_t look_from;  /* at the held-out loss, */
    int64_t look_every; /* so often; 0: never */
    double limit;
} stretch;

/* *record: of the step that was refused. *held_out: the step before is bad by its held-out loss. */
static tt_status go_through(tt_bisector *b, const stretch *s, tt_step_record *record, bool *refused,
                            bool *held_out)
{
    tt_bisection *result = &b->result->public;
    tt_orchestrator *o = b->fork.training->orchestrator;
    *refused = false;
    *held_out = false;
    while (!*refused && !*held_out && tt_orchestrator_step(o) < s->end) {
        int64_t step = tt_orchestrator_step(o);
        tt_bisect_tell(b, "steps", step - result->from_step, s->end - result->from_step);
        TRY(tt_bisect_step(b, record));
        *refused = !record->published;
        result->to_step = step + 1;
        bool look = s->look_every > 0 && step >= s->look_from &&
                    ((step + 1 - s->look_from) % s->look_every == 0 || step + 1 == s->end);
        if (!*refused && look) {
            TRY(judge_held_out(b, s->limit, record, held_out));
        }
    }
    return TT_OK;
}

static tt_status look_into(tt_bisector *b, const tt_step_record *record)
{
    tt_bisection *result = &b->result->public;
    result->bad_step = record->step;
    result->position = record->position;
    snprintf(result->gate, sizeof result->gate, "%s", record->decision.gate);
    tt_gate_describe(&record->decision, result->says);
    TRY(tt_bisect_find_sample(b, record->step, record->position));
    return tt_bisect_find_culprit(b, record);
}

/* The step that made it so was looked at among others: once more, and then each by itself. */
static tt_status narrow(tt_bisector *b, const tt_bisect_point *from, const stretch *whole)
{
    tt_bisection *result = &b->result->public;
    tt_step_record record;
    bool refused;
    bool held_out;
    stretch fine = {.end = result->bad_step + 1,
                    .look_from = result->bad_step + 1 - whole->look_every,
                    .look_every = 1,
                    .limit = whole->limit};
    if (fine.look_from < from->step) {
        fine.look_from = from->step;
    }
    tt_bisect_close(b);
    TRY(tt_bisect_open(b, from));
    return go_through(b, &fine, &record, &refused, &held_out);
}

static tt_status replay(tt_bisector *b, size_t good, size_t bad, double lowest)
{
    tt_bisection *result = &b->result->public;
    const tt_bisect_point *from = &b->points[good];
    tt_step_record record;
    bool refused;
    bool held_out;
    stretch s = {.end = bad < b->point_count ? b->points[bad].step + PROBED : b->end_step,
                 .limit = lowest * (1 + b->options->held_out_rise)};
    int64_t steps = s.end - from->step;
    s.look_from = from->step;
    s.look_every = !asks_held_out(b) || !isfinite(lowest) ? 0 : steps > LOOKS ? steps / LOOKS : 1;
    result->from_step = from->step;
    TRY(tt_bisect_open(b, from));
    TRY(go_through(b, &s, &record, &refused, &held_out));
    if (held_out && s.look_every > 1) {
        TRY(narrow(b, from, &s));
    }
    result->found = refused || held_out;
    if (refused) {
        TRY(look_into(b, &record));
    }
    result->nothing_good = result->bad_step == b->points[0].step;
    return result->found ? tt_bisect_advise(b) : TT_OK;
}

/* ---- all of it ---- */

static tt_status bisect(tt_bisector *b)
{
    size_t good;
    size_t bad;
    double lowest;
    TRY(tt_bisect_list(b));
    TRY(tt_bisect_read_journal(b));
    TRY(walk(b, &good, &bad, &lowest));
    return replay(b, good, bad, lowest);
}

static tt_status conclude(tt_bisector *b, uint64_t start_ns)
{
    tt_bisection_whole *whole = b->result;
    tt_clock clock = tt_clock_monotonic();
    whole->public.seconds = (double)(tt_clock_now(&clock) - start_ns) * 1e-9;
    whole->public.notes = whole->notes;
    whole->public.file = whole->file.data;
    whole->public.advice = whole->advice.data;
    whole->public.excerpt = whole->public.excerpt_bytes ? whole->excerpt.data : NULL;
    for (size_t i = 0; i < whole->public.note_count; i++) {
        TRY(tt_text_check(&whole->texts[i]));
        whole->notes[i] = whole->texts[i].data;
    }
    return TT_OK;
}

static tt_bisection_whole *new_result(void)
{
    tt_bisection_whole *whole = calloc(1, sizeof *whole);
    if (whole) {
        whole->public = (tt_bisection){.size = sizeof whole->public,
                                       .bad_step = -1,
                                       .sample = -1,
                                       .sample_loss = NAN,
                                       .sample_norm = NAN,
                                       .median_loss = NAN,
                                       .median_norm = NAN};
        for (size_t i = 0; i < TT_BISECT_NOTES; i++) {
            tt_text_init(&whole->texts[i]);
        }
        tt_text_init(&whole->file);
        tt_text_init(&whole->excerpt);
        tt_text_init(&whole->advice);
    }
    return whole;
}

tt_status tt_bisect(const tt_bisect_options *options, tt_bisection **out)
{
    *out = NULL;
    if (options->size != sizeof *options || !options->params || !options->run_directory ||
        !(options->loss_limit >= 0) || !(options->held_out_rise >= 0)) {
        return tt_fail(TT_EINVAL, "tt_bisect needs params and run_directory, of this version's "
                                  "size, and no negative limit");
    }
    tt_clock clock = tt_clock_monotonic();
    uint64_t start_ns = tt_clock_now(&clock);
    tt_bisector b = {.options = options, .result = new_result()};
    tt_status status = b.result ? tt_scratch_make("bisect", b.scratch)
                                : tt_fail(TT_ENOMEM, "no memory for a search");
    if (!status) {
        status = bisect(&b);
    }
    tt_bisect_close(&b);
    tt_scratch_remove(b.scratch);
    free(b.points);
    if (!status) {
        status = conclude(&b, start_ns);
    }
    if (status) {
        tt_bisection_destroy(b.result ? &b.result->public : NULL);
        return status;
    }
    *out = &b.result->public;
    return TT_OK;
}

void tt_bisection_destroy(tt_bisection *bisection)
{
    tt_bisection_whole *whole = (tt_bisection_whole *)bisection;
    if (!whole) {
        return;
    }
    for (size_t i = 0; i < TT_BISECT_NOTES; i++) {
        tt_text_clear(&whole->texts[i]);
    }
    tt_text_clear(&whole->file);
    tt_text_clear(&whole->excerpt);
    tt_text_clear(&whole->advice);
    free(whole);
}
