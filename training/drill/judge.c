/* What became of a run, held against one that was not harmed. */
#include "drill.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void tt_drill_lose(tt_drill_verdict *verdict, const char *format, ...)
{
    va_list arguments;
    if (verdict->lost) {
        return; /* the first loss explains the others */
    }
    verdict->lost = true;
    va_start(arguments, format);
    vsnprintf(verdict->why, sizeof verdict->why, format, arguments);
    va_end(arguments);
}

void tt_drill_note(char *list, size_t room, const char *word)
{
    size_t length = strlen(word);
    size_t used = strlen(list);
    for (const char *at = list; length && (at = strstr(at, word)) != NULL; at++) {
        bool whole = (at == list || at[-1] == ' ') && (at[length] == ',' || !at[length]);
        if (whole) {
            return;
        }
    }
    if (length && used + length + 3 < room) {
        snprintf(list + used, room - used, "%s%s", used ? ", " : "", word);
    }
}

int64_t tt_drill_long(const tt_drill *drill)
{
    return drill->options->steps ? drill->options->steps : 160;
}

int64_t tt_drill_short(const tt_drill *drill)
{
    return drill->options->steps ? drill->options->steps : 64;
}

int64_t tt_drill_every(int64_t steps)
{
    return steps < 64 ? steps / 4 : 16;
}

/* ---- the yardstick ---- */

static void make_key(int64_t steps, const char *const *settings, char *out, size_t room)
{
    size_t used = (size_t)snprintf(out, room, "%lld", (long long)steps);
    for (int i = 0; settings && i < TT_DRILL_SETTINGS && settings[i] && used < room; i++) {
        int added = snprintf(out + used, room - used, " %s", settings[i]);
        used += added > 0 ? (size_t)added : 0;
    }
}

/* What a run that ended so would have returned. (A gate that stops it is no loss in a drill.) */
static tt_status status_of(int code)
{
    static const tt_status known[] = {TT_EIO, TT_ECORRUPT, TT_ECONFIG, TT_EUSAGE};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (tt_status_exit_code(known[i]) == code) {
            return known[i];
        }
    }
    return code == tt_status_exit_code(TT_EGATE) ? TT_EDATA : TT_EINTERNAL;
}

static tt_status measure(tt_drill *drill, const char *const *settings, tt_drill_yardstick *clean)
{
    tt_drill_job job = {.folder = clean->name, .steps = clean->steps};
    tt_drill_end end;
    for (int i = 0; settings && i < TT_DRILL_SETTINGS; i++) {
        job.settings[i] = settings[i];
        if (!settings[i]) {
            break;
        }
    }
    tt_status status = tt_drill_go(drill, &job, &end);
    if (!status && (end.code != 0 || end.hung)) {
        status = tt_fail(status_of(end.code), "a run without any fault %s: %s",
                         end.hung ? "hangs" : "fails",
                         end.message[0] ? end.message : "it ended without a word");
    }
    if (!status) {
        status = tt_drill_read(drill, clean->name, &clean->facts);
    }
    if (!status && clean->facts.trips > 0) {
        status = tt_fail(TT_EDATA,
                         "a run without any fault trips the gate %s at step %lld: there "
                         "is no yardstick; change the configuration",
                         clean->facts.gate, (long long)clean->facts.trip_step);
    }
    clean->seconds = end.seconds;
    double step = clean->facts.step_seconds / (double)clean->steps;
    drill->longest_step = fmax(drill->longest_step, step);
    return status;
}

tt_status tt_drill_clean(tt_drill *drill, int64_t steps, const char *const *settings,
                         const tt_drill_yardstick **out)
{
    char key[512];
    make_key(steps, settings, key, sizeof key);
    for (int i = 0; i < drill->yardstick_count; i++) {
        if (strcmp(drill->yardsticks[i].key, key) == 0) {
            *out = &drill->yardsticks[i];
            return TT_OK;
        }
    }
    if (drill->yardstick_count == TT_DRILL_YARDSTICKS) {
        return tt_fail(TT_EINTERNAL, "too many settings in one drill");
    }
    tt_drill_yardstick *clean = &drill->yardsticks[drill->yardstick_count];
    *clean = (tt_drill_yardstick){.steps = steps};
    snprintf(clean->key, sizeof clean->key, "%s", key);
    snprintf(clean->name, sizeof clean->name, "clean-%d", drill->yardstick_count);
    tt_status status = measure(drill, settings, clean);
    drill->yardstick_count += !status;
    *out = clean;
    return status;
}

/* ---- bit-equal ---- */

static void last_checkpoint(const tt_drill *drill, const char *folder, int64_t steps,
                            char out[TT_DRILL_PATH])
{
    char name[64];
    snprintf(name, sizeof name, "checkpoints/step-%010lld.h5", (long long)steps);
    tt_drill_path(drill, folder, name, out);
}

void tt_drill_expect_equal(tt_drill *drill, const tt_drill_yardstick *clean, const char *folder,
                           const tt_drill_end *end, tt_drill_verdict *verdict)
{
    char left[TT_DRILL_PATH];
    char right[TT_DRILL_PATH];
    if (end->hung || end->code != 0) {
        tt_drill_lose(verdict, "%s: the run %s%s%s", folder,
                      end->hung ? "hangs" : "does not go on to its end",
                      end->message[0] ? ": " : "", end->message);
        return;
    }
    last_checkpoint(drill, clean->name, clean->steps, left);
    last_checkpoint(drill, folder, clean->steps, right);
    if (tt_drill_same_tensors(left, right)) {
        tt_drill_lose(verdict, "%s: not the bits of a run without a fault: %s", folder,
                      tt_error_message());
        return;
    }
    tt_drill_note(verdict->recovered, sizeof verdict->recovered, "bit-equal");
}
