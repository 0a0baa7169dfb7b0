/* The culprit of the bad step: the ladder of the fork finds it, and its journal tells. */
#include "bisect.h"

#include "../try.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rungs until the search has been made: the retry, the search, and some to spare. */
enum { ATTEMPTS = 6 };

/* The last search of that step in the fork's journal. */
static void read_search(tt_bisector *b, int64_t step)
{
    tt_bisection *result = &b->result->public;
    char path[TT_SCRATCH_PATH + 32];
    char *line = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "%s/decisions.jsonl", b->fork.folder);
    FILE *stream = fopen(path, "re");
    while (stream && getline(&line, &room, stream) > 0) {
        json_t *record = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        const char *kind = json_string_value(json_object_get(record, "kind"));
        const char *verdict = json_string_value(json_object_get(record, "verdict"));
        const char *says = json_string_value(json_object_get(record, "says"));
        if (kind && verdict && says && strcmp(kind, "search") == 0 &&
            json_integer_value(json_object_get(record, "step")) == step) {
            snprintf(result->verdict, sizeof result->verdict, "%s", verdict);
            snprintf(result->verdict_says, sizeof result->verdict_says, "%s", says);
        }
        json_decref(record);
    }
    free(line);
    if (stream) {
        fclose(stream);
    }
}

static bool is_over(const tt_step_record *record)
{
    switch (record->decision.action) {
    case TT_ACTION_RETRY:
    case TT_ACTION_SEARCH:
        return false;
    case TT_ACTION_NONE:
    case TT_ACTION_DISABLE:
    case TT_ACTION_ROLLBACK:
    case TT_ACTION_SKIP:
    case TT_ACTION_STOP:
        break;
    }
    return true;
}

static void take_tensor(tt_bisection *result, const tt_step_record *record)
{
    if (!result->tensor[0]) {
        snprintf(result->tensor, sizeof result->tensor, "%s", record->decision.tensor);
    }
}

tt_status tt_bisect_find_culprit(tt_bisector *b, const tt_step_record *first)
{
    tt_bisection *result = &b->result->public;
    tt_step_record record = *first;
    take_tensor(result, &record);
    for (int i = 0; i < ATTEMPTS && !record.published && !is_over(&record); i++) {
        TRY(tt_bisect_step(b, &record));
        take_tensor(result, &record);
    }
    /* (A run that was copied here may have searched at this step itself: the fork's own is last.)
     */
    read_search(b, first->step);
    if (record.published && record.step == first->step) {
        snprintf(result->verdict, sizeof result->verdict, "transient");
        snprintf(result->verdict_says, sizeof result->verdict_says,
                 "the step passes when run again: transient");
    }
    return TT_OK;
}

/* ---- what to do ---- */

static void advise_to_turn_off(tt_bisector *b)
{
    tt_text *out = &b->result->advice;
    const tt_orchestrator *o = b->fork.training->orchestrator;
    bool any = false;
    for (size_t i = 0; i < tt_orchestrator_optimization_count(o); i++) {
        const char *name = tt_orchestrator_optimization(o, i).name;
        if (strstr(b->result->public.verdict_says, name)) {
            tt_text_addf(out, "%s%s", any ? " and " : "go on without ", name);
            any = true;
        }
    }
    tt_text_addf(out,
                 "%s: --resume auto does so by itself (it makes the same search); to keep it off "
                 "for good, set its keys (`trimtab config list`)",
                 any ? "" : "go on without the culprit");
}

tt_status tt_bisect_advise(tt_bisector *b)
{
    const tt_bisection *result = &b->result->public;
    tt_text *out = &b->result->advice;
    const char *verdict = result->verdict;
    if (strcmp(verdict, "batch") == 0 || (result->sample >= 0 && !*verdict)) {
        tt_text_add(out, "look at the data named here; --resume auto leaves out a batch that is "
                         "proven to be the cause");
    } else if (strcmp(verdict, "learning rate") == 0) {
        tt_text_addf(out,
                     "lower optim.learning_rate (now %g) or warm up for longer "
                     "(optim.warmup_steps, now %lld), from the checkpoint of step %lld",
                     tt_config_float(b->fork.config, "optim.learning_rate"),
                     (long long)tt_config_int(b->fork.config, "optim.warmup_steps"),
                     (long long)result->from_step);
    } else if (strcmp(verdict, "transient") == 0 || strcmp(verdict, "nondeterminism") == 0) {
        tt_text_add(out, "nothing in the run explains it: test memory and processor; the run can "
                         "go on with --resume auto");
    } else if (strcmp(verdict, "culprit") == 0 || strncmp(verdict, "interaction", 11) == 0) {
        advise_to_turn_off(b);
    } else {
        tt_text_add(out, *verdict ? "no single change cures the step; " : "");
        tt_text_addf(out,
                     result->nothing_good
                         ? "begin anew, or at an older checkpoint if there is one elsewhere"
                         : "go on from step %lld, the last checkpoint that is good, with a lower "
                           "learning rate or other data",
                     (long long)result->from_step);
    }
    return tt_text_check(out);
}
