/* The run, going on from a checkpoint in a scratch folder: with its own journal, so that what was
 * decided then is decided again. */
#include "bisect.h"

#include "../try.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static tt_status copy_journal(const tt_bisector *b)
{
    char from[TT_SCRATCH_PATH];
    char to[TT_SCRATCH_PATH + 32];
    char block[1 << 14];
    size_t got = 0;
    snprintf(from, sizeof from, "%.*s/decisions.jsonl", TT_SCRATCH_PATH - 64,
             b->options->run_directory);
    snprintf(to, sizeof to, "%s/decisions.jsonl", b->fork.folder);
    FILE *in = fopen(from, "rbe");
    if (!in) {
        return TT_OK; /* a run without one has decided nothing */
    }
    FILE *out = fopen(to, "wbe");
    bool good = out != NULL;
    while (good && (got = fread(block, 1, sizeof block, in)) > 0) {
        good = fwrite(block, 1, got, out) == got;
    }
    good = good && !ferror(in);
    int error = errno;
    fclose(in);
    if (out && fclose(out) != 0) {
        error = errno;
        good = false;
    }
    return good ? TT_OK : tt_fail_errno(error, "cannot copy %s", from);
}

static tt_status set_options(const tt_bisector *b, bool two_slots)
{
    /* None of this changes a step. */
    static const char *const settings[] = {"train.validate_every=0", "sample.tokens=0"};
    char text[TT_SCRATCH_PATH];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        TRY(tt_config_set(b->fork.config, TT_SOURCE_COMMAND, settings[i], "bisect"));
    }
    if (b->options->data_path) {
        snprintf(text, sizeof text, "data.path=%s", b->options->data_path);
        TRY(tt_config_set(b->fork.config, TT_SOURCE_COMMAND, text, "--data"));
    }
    if (b->options->loss_limit > 0) {
        snprintf(text, sizeof text, "gates.loss.max=%.17g", b->options->loss_limit);
        TRY(tt_config_set(b->fork.config, TT_SOURCE_COMMAND, text, "--loss"));
    }
    /* The state before a step that is refused must still be there afterwards. */
    return two_slots
               ? tt_config_set(b->fork.config, TT_SOURCE_COMMAND, "snapshot.slots=2", "bisect")
               : TT_OK;
}

static tt_status create(tt_bisector *b, const char *checkpoint, bool two_slots)
{
    tt_training_options options;
    snprintf(b->fork.folder, sizeof b->fork.folder, "%.*s/%d", TT_SCRATCH_PATH - 64, b->scratch,
             b->forks++);
    if (mkdir(b->fork.folder, 0777) != 0) {
        return tt_fail_errno(errno, "cannot make %s", b->fork.folder);
    }
    TRY(copy_journal(b));
    TRY(tt_config_create(b->options->params, &b->fork.config));
    TRY(set_options(b, two_slots));
    tt_training_options_init(&options);
    options.params = b->options->params;
    options.config = b->fork.config;
    options.run_directory = b->fork.folder;
    options.resume = checkpoint;
    options.log = b->options->log;
    return tt_training_create(&options, &b->fork.training);
}

/* Told once: by the first fork. */
static void note_other_data(tt_bisector *b)
{
    const char *changes = b->fork.training->resume.changes.data;
    if (b->forks == 1 && changes &&
        (strncmp(changes, "data: ", 6) == 0 || strstr(changes, "\ndata: "))) {
        tt_text_addf(tt_bisect_note(b), "%s holds other data than the run saw",
                     b->options->data_path ? b->options->data_path : "data.path");
    }
}

tt_status tt_bisect_open(tt_bisector *b, const tt_bisect_point *point)
{
    char checkpoint[TT_SCRATCH_PATH];
    snprintf(checkpoint, sizeof checkpoint, "%.*s/checkpoints/%s", TT_SCRATCH_PATH - 64,
             b->options->run_directory, point->name);
    TRY(create(b, checkpoint, false));
    if (b->fork.training->plan.slots < 2) {
        tt_bisect_close(b);
        TRY(create(b, checkpoint, true));
    }
    note_other_data(b);
    if (b->options->on_training) {
        b->options->on_training(b->options->user, b->fork.training);
    }
    return tt_orchestrator_start(b->fork.training->orchestrator);
}

void tt_bisect_close(tt_bisector *b)
{
    tt_training_destroy(b->fork.training);
    tt_config_destroy(b->fork.config);
    tt_scratch_remove(b->fork.folder);
    memset(&b->fork, 0, sizeof b->fork);
}

tt_status tt_bisect_step(tt_bisector *b, tt_step_record *record)
{
    TRY(tt_bisect_go_on(b));
    return tt_training_step(b->fork.training, record);
}
