/* Scenarios in which the disk, the clock or the process fails. */
#include "drill.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The run goes on from what is there, without any fault. */
static tt_status resume(tt_drill *drill, const tt_drill_job *harmed, tt_drill_end *end)
{
    tt_drill_job job = {.folder = harmed->folder, .resume = true, .steps = harmed->steps};
    memcpy(job.settings, harmed->settings, sizeof job.settings);
    return tt_drill_go(drill, &job, end);
}

static tt_status resume_equal(tt_drill *drill, const tt_drill_job *harmed,
                              tt_drill_verdict *verdict)
{
    const tt_drill_yardstick *clean;
    tt_drill_end end;
    tt_status status = tt_drill_clean(drill, harmed->steps, harmed->settings, &clean);
    status = status ? status : resume(drill, harmed, &end);
    if (!status) {
        tt_drill_expect_equal(drill, clean, harmed->folder, &end, verdict);
    }
    return status;
}

/* Every file under a checkpoint's name is whole, and there is one of `least` steps or more. */
static void expect_checkpoint(const tt_drill *drill, const char *folder, int64_t least,
                              tt_drill_verdict *verdict)
{
    int64_t newest;
    if (tt_drill_verify_all(drill, folder, &newest)) {
        tt_drill_lose(verdict, "%s: a checkpoint is torn: %s", folder, tt_error_message());
    } else if (newest < least) {
        tt_drill_lose(verdict, "%s: the last good checkpoint, of step %lld, is gone", folder,
                      (long long)least);
    }
}

static void expect_killed(const tt_drill_job *job, const tt_drill_end *end,
                          tt_drill_verdict *verdict)
{
    if (end->hung) {
        tt_drill_lose(verdict, "%s: the run hangs", job->folder);
    } else if (!end->killed) {
        tt_drill_lose(verdict, "%s: the run did not come to where it was to be killed%s%s",
                      job->folder, end->message[0] ? ": " : "", end->message);
    }
}

/* The temporary of the checkpoint of that step is made. */
static tt_disk_place checkpoint_of(int64_t step)
{
    return (tt_disk_place){.call = TT_DISK_CREATE, .file = TT_DISK_CHECKPOINT, .step = step};
}

/* ---- full, read-only ---- */

static tt_drill_job short_job(const tt_drill *drill, const char *folder)
{
    return (tt_drill_job){.folder = folder, .steps = tt_drill_short(drill)};
}

/* A disk that has room for one checkpoint only makes its loss matter. */
static const char keep_one[] = "checkpoint.keep=1";

/* Full for two checkpoints, then not any more. */
static tt_status full_for_a_while(tt_drill *drill, tt_drill_verdict *verdict)
{
    const tt_drill_yardstick *clean;
    tt_drill_facts facts;
    tt_drill_end end;
    tt_drill_job job = short_job(drill, "full");
    int64_t every = tt_drill_every(job.steps);
    job.settings[0] = keep_one;
    job.disk = (tt_disk){.how = TT_FILE_FAULT_FAIL_FROM,
                         .error = ENOSPC,
                         .from = checkpoint_of(every),
                         .until = checkpoint_of(3 * every)};
    tt_status status = tt_drill_clean(drill, job.steps, job.settings, &clean);
    status = status ? status : tt_drill_go(drill, &job, &end);
    if (status) {
        return status;
    }
    tt_drill_expect_equal(drill, clean, job.folder, &end, verdict);
    if (tt_drill_read(drill, job.folder, &facts)) {
        tt_drill_lose(verdict, "%s: %s", job.folder, tt_error_message());
    } else if (facts.checkpoint_failures < 2) {
        tt_drill_lose(verdict, "%s: %lld failed checkpoints were counted instead of 2", job.folder,
                      (long long)facts.checkpoint_failures);
    }
    expect_checkpoint(drill, job.folder, job.steps, verdict);
    tt_drill_note(verdict->detected, sizeof verdict->detected, "ENOSPC");
    return TT_OK;
}

/* Full, and killed meanwhile: what was saved before is what there is. */
static tt_status full_and_killed(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_end end;
    tt_drill_job job = short_job(drill, "full-killed");
    int64_t every = tt_drill_every(job.steps);
    job.settings[0] = keep_one;
    job.disk = (tt_disk){
        .how = TT_FILE_FAULT_FAIL_FROM, .error = ENOSPC, .from = checkpoint_of(2 * every)};
    job.death = TT_DRILL_DIES_IN_FORWARD;
    job.death_step = 3 * every + 1;
    tt_status status = tt_drill_go(drill, &job, &end);
    if (status) {
        return status;
    }
    expect_killed(&job, &end, verdict);
    expect_checkpoint(drill, job.folder, every, verdict);
    return resume_equal(drill, &job, verdict);
}

tt_status tt_drill_full_disk(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_status status = full_for_a_while(drill, verdict);
    return status ? status : full_and_killed(drill, verdict);
}

tt_status tt_drill_read_only(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_end end;
    tt_drill_job job = short_job(drill, "read-only");
    int64_t every = tt_drill_every(job.steps);
    job.settings[0] = keep_one;
    job.disk =
        (tt_disk){.how = TT_FILE_FAULT_FAIL_FROM, .error = EROFS, .from = checkpoint_of(2 * every)};
    tt_status status = tt_drill_go(drill, &job, &end);
    if (status) {
        return status;
    }
    if (end.hung || end.code != tt_status_exit_code(TT_EIO)) {
        tt_drill_lose(verdict, "%s: the run %s with exit code %d instead of %d", job.folder,
                      end.hung ? "hangs" : "ends", end.code, tt_status_exit_code(TT_EIO));
    } else if (!strstr(end.message, strerrordesc_np(EROFS))) {
        tt_drill_lose(verdict, "%s: the message does not say why: %s", job.folder, end.message);
    }
    tt_drill_note(verdict->detected, sizeof verdict->detected, "EROFS");
    expect_checkpoint(drill, job.folder, every, verdict);
    return resume_equal(drill, &job, verdict);
}

/* ---- kill ---- */

typedef struct deadly_place {
    const char *folder;
    tt_drill_death where;
    int64_t step;          /* of `where`, in quarters of what lies between two checkpoints */
    tt_file_fault_how how; /* else: at `place`, whose step counts in checkpoints */
    tt_disk_place place;
    bool after_nan; /* a NaN makes it write to the journal */
} deadly_place;

#define AT(call_, file_, nth_)                                                                     \
    {                                                                                              \
        .call = TT_DISK_##call_, .file = TT_DISK_##file_, .step = 2, .nth = (nth_)                 \
    }

static const deadly_place deaths[] = {
    {.folder = "kill-first-checkpoint",
     .how = TT_FILE_FAULT_KILL,
     .place = {.call = TT_DISK_CREATE, .file = TT_DISK_CHECKPOINT, .step = 0}},
    {.folder = "kill-forward", .where = TT_DRILL_DIES_IN_FORWARD, .step = 5},
    {.folder = "kill-update", .where = TT_DRILL_DIES_IN_UPDATE, .step = 6},
    {.folder = "kill-journal",
     .how = TT_FILE_FAULT_KILL_HALF,
     .place = {.call = TT_DISK_WRITE, .file = TT_DISK_JOURNAL, .step = -1},
     .after_nan = true},
    {.folder = "kill-write", .how = TT_FILE_FAULT_KILL_HALF, .place = AT(WRITE, CHECKPOINT, 3)},
    {.folder = "kill-sync", .how = TT_FILE_FAULT_KILL, .place = AT(SYNC, CHECKPOINT, 0)},
    {.folder = "kill-verify", .how = TT_FILE_FAULT_KILL, .place = AT(READ, CHECKPOINT, 0)},
    {.folder = "kill-rename", .how = TT_FILE_FAULT_KILL, .place = AT(RENAME, CHECKPOINT, 0)},
    {.folder = "kill-renamed", .how = TT_FILE_FAULT_KILL, .place = AT(SYNC, FOLDER, 0)},
    {.folder = "kill-latest",
     .how = TT_FILE_FAULT_KILL,
     .place = {.call = TT_DISK_RENAME, .file = TT_DISK_LATEST, .step = -1, .nth = 2}},
};

static void arrange(const deadly_place *death, tt_drill_job *job)
{
    int64_t every = tt_drill_every(job->steps);
    job->death = death->where;
    job->death_step = death->step * every / 4;
    job->disk = (tt_disk){.how = death->how, .from = death->place};
    if (death->place.file == TT_DISK_CHECKPOINT || death->place.file == TT_DISK_FOLDER) {
        job->disk.from.step *= every;
    }
    if (death->after_nan) {
        /* What is written at the start goes before it: a trip of this step is what is meant. */
        job->plant.fault = (tt_tensor_fault){.kind = TT_FAULT_NAN,
                                             .tensor = "act.h.0.fc",
                                             .step = every + 2,
                                             .last = every + 2,
                                             .position = -1,
                                             .strikes = 1};
        job->disk.asleep = true;
        job->death_step = every + 2;
    }
}

static tt_status die_once(tt_drill *drill, const deadly_place *death, tt_drill_verdict *verdict)
{
    tt_drill_end end;
    tt_drill_job job = short_job(drill, death->folder);
    arrange(death, &job);
    tt_status status = tt_drill_go(drill, &job, &end);
    if (status) {
        return status;
    }
    expect_killed(&job, &end, verdict);
    expect_checkpoint(drill, job.folder, -1, verdict);
    return resume_equal(drill, &job, verdict);
}

/* Killed, and killed again in the run that goes on. */
static tt_status die_twice(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_end end;
    tt_drill_job job = short_job(drill, "kill-resumed");
    int64_t every = tt_drill_every(job.steps);
    job.death = TT_DRILL_DIES_IN_FORWARD;
    tt_status status = TT_OK;
    for (int i = 0; !status && i < 2; i++) {
        job.resume = i > 0;
        job.death_step = (i + 1) * every + 3;
        status = tt_drill_go(drill, &job, &end);
        if (!status) {
            expect_killed(&job, &end, verdict);
            expect_checkpoint(drill, job.folder, (i + 1) * every, verdict);
        }
    }
    return status ? status : resume_equal(drill, &job, verdict);
}

tt_status tt_drill_kill(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < sizeof deaths / sizeof *deaths; i++) {
        status = die_once(drill, &deaths[i], verdict);
    }
    tt_drill_note(verdict->detected, sizeof verdict->detected, "at resume");
    return status ? status : die_twice(drill, verdict);
}

/* ---- a checkpoint that is damaged on the disk ---- */

static tt_status flip_bit(const char *path)
{
    struct stat info;
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool done = fd >= 0 && fstat(fd, &info) == 0 && pread(fd, &byte, 1, info.st_size / 2) == 1;
    byte = (unsigned char)(done ? byte ^ 0x40 : 0);
    done = done && pwrite(fd, &byte, 1, info.st_size / 2) == 1;
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    return done ? TT_OK : tt_fail_errno(error, "cannot damage %s", path);
}

tt_status tt_drill_damaged(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_end end;
    char name[64];
    char path[TT_DRILL_PATH];
    tt_drill_job job = short_job(drill, "damaged");
    int64_t every = tt_drill_every(job.steps);
    int64_t newest = 2 * every;
    job.death = TT_DRILL_DIES_IN_FORWARD;
    job.death_step = newest + every - 1;
    tt_status status = tt_drill_go(drill, &job, &end);
    if (status) {
        return status;
    }
    expect_killed(&job, &end, verdict);
    expect_checkpoint(drill, job.folder, newest, verdict);
    snprintf(name, sizeof name, "checkpoints/step-%010lld.h5", (long long)newest);
    tt_drill_path(drill, job.folder, name, path);
    if (!verdict->lost && flip_bit(path)) {
        return TT_EIO;
    }
    tt_drill_note(verdict->detected, sizeof verdict->detected, "digest");
    return resume_equal(drill, &job, verdict);
}

/* ---- the clock ---- */

#define DAY INT64_C(86400000000000) /* ns */

/* No total can be more than the whole process took (and a second, for coarse clocks). */
static void expect_sane(const tt_drill_facts *facts, const char *folder, const tt_drill_end *end,
                        tt_drill_verdict *verdict)
{
    double most = end->seconds + 1;
    bool sane = facts->step_seconds >= 0 && facts->step_seconds <= most &&
                facts->policy_seconds >= 0 && facts->policy_seconds <= most;
    if (!sane) {
        tt_drill_lose(verdict, "%s: totals say %.3g s in steps and %.3g s in policy, of %.3g s",
                      folder, facts->step_seconds, facts->policy_seconds, end->seconds);
    }
    if (facts->trials > 0) {
        tt_drill_lose(verdict, "%s: %lld trials were decided", folder, (long long)facts->trials);
    }
}

/* While codecs are on trial. What is decided may differ from run to run; but not because of a day
 * that was none. */
static tt_status jump_in_trials(tt_drill *drill, tt_drill_verdict *verdict)
{
    static const char *const folders[] = {"clock-trial-1", "clock-trial-2", "clock-trial-3"};
    tt_status status = TT_OK;
    for (int i = 0; !status && i < 3; i++) {
        tt_drill_facts facts;
        tt_drill_end end;
        tt_drill_job job = short_job(drill, folders[i]);
        job.settings[0] = "adapt.every_steps=4";
        job.settings[1] = "compression.moments=auto";
        job.settings[2] = "compression.activations=auto";
        job.clock_jumps = true;
        job.clock_at = 6 * job.steps + 37 * i;
        job.clock_ns = DAY;
        status = tt_drill_go(drill, &job, &end);
        if (status) {
            break;
        }
        if (end.code != 0 || end.hung || tt_drill_read(drill, job.folder, &facts)) {
            tt_drill_lose(verdict, "%s: the run does not go on to its end: %s", job.folder,
                          end.message);
            break;
        }
        facts.trials = 0;
        expect_sane(&facts, job.folder, &end, verdict);
        if (facts.longest_decided > end.seconds + 1) {
            tt_drill_lose(verdict, "%s: a decision rests on %.3g s, of %.3g s", job.folder,
                          facts.longest_decided, end.seconds);
        }
    }
    return status;
}

tt_status tt_drill_clock(tt_drill *drill, tt_drill_verdict *verdict)
{
    static const char *const folders[] = {"clock-forwards-1", "clock-forwards-2",
                                          "clock-forwards-3", "clock-back-1", "clock-back-2"};
    enum { JUMPS = sizeof folders / sizeof *folders, FORWARDS = 3 };
    const tt_drill_yardstick *clean;
    tt_status status = tt_drill_clean(drill, tt_drill_short(drill), NULL, &clean);
    for (int i = 0; !status && i < JUMPS; i++) {
        tt_drill_facts facts;
        tt_drill_end end;
        tt_drill_job job = short_job(drill, folders[i]);
        job.clock_jumps = true;
        job.clock_at = 7 * job.steps + 3 * i; /* a step reads it some fifteen times */
        job.clock_ns = i < FORWARDS ? DAY : -DAY;
        status = tt_drill_go(drill, &job, &end);
        if (status) {
            break;
        }
        tt_drill_expect_equal(drill, clean, job.folder, &end, verdict);
        if (tt_drill_read(drill, job.folder, &facts)) {
            tt_drill_lose(verdict, "%s: %s", job.folder, tt_error_message());
        } else {
            expect_sane(&facts, job.folder, &end, verdict);
        }
    }
    return status ? status : jump_in_trials(drill, verdict);
}

/* ---- a slow disk ---- */

enum { TRIES = 3, SYNCS = 2 /* of the folder, in a commit */ };

/* With two slots the second step after a checkpoint writes where the first one is still read. */
static const char enough_slots[] = "snapshot.slots=3";

/* One checkpoint while steps go on; what the disk takes for it, steps must not wait for. The
 * machine may be busy: one quiet run of three is proof enough. */
tt_status tt_drill_slow_disk(tt_drill *drill, tt_drill_verdict *verdict)
{
    const tt_drill_yardstick *clean;
    tt_drill_job job = short_job(drill, "");
    int64_t middle = job.steps / 2 + 1;
    char every[48];
    char folder[32];
    double held = INFINITY;
    double limit = 0;
    snprintf(every, sizeof every, "checkpoint.every_steps=%lld", (long long)middle);
    job.settings[0] = every;
    if (tt_config_int(drill->config, "snapshot.slots") < 3) {
        job.settings[1] = enough_slots;
    }
    tt_status status = tt_drill_clean(drill, job.steps, job.settings, &clean);
    for (int i = 0; !status && i < TRIES && !(held <= limit); i++) {
        tt_drill_facts facts;
        tt_drill_end end;
        double delay = fmax(0.6, 6 * clean->facts.longest_gap);
        snprintf(folder, sizeof folder, "slow-%d", i);
        job.folder = folder;
        job.disk = (tt_disk){.how = TT_FILE_FAULT_SLOW,
                             .delay_ns = (int64_t)(delay / SYNCS * 1e9),
                             .from = {.call = TT_DISK_SYNC, .file = TT_DISK_FOLDER}};
        status = tt_drill_go(drill, &job, &end);
        if (status) {
            break;
        }
        tt_drill_expect_equal(drill, clean, folder, &end, verdict);
        if (tt_drill_read(drill, folder, &facts)) {
            tt_drill_lose(verdict, "%s: %s", folder, tt_error_message());
            break;
        }
        limit = clean->facts.longest_gap + delay / 3;
        held = facts.longest_gap;
    }
    if (!status && !(held <= limit)) {
        tt_drill_lose(verdict, "%s: a step waited for the disk: %.3g s", folder, held);
    }
    return status;
}
