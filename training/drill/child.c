/* One run in a process of its own. */
#include "drill.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char failure_mark[] = "failed: ";

void tt_drill_path(const tt_drill *drill, const char *folder, const char *name,
                   char out[TT_DRILL_PATH])
{
    int length =
        snprintf(out, TT_DRILL_PATH, "%s/%s%s%s", drill->root, folder, *name ? "/" : "", name);
    if (length < 0 || length >= TT_DRILL_PATH) {
        out[0] = '\0'; /* no such file: whoever opens it says so */
    }
}

/* ---- in the child ---- */

typedef struct child {
    tt_drill_job *job;
    const char *folder;
    tt_clock clock; /* the real one */
    uint64_t last_ns;
    double longest_gap;
    int64_t harmed_published;
} child;

static void die(void)
{
    raise(SIGKILL);
}

static void at_tensor(void *user, const tt_step_plan *plan, const char *name)
{
    tt_drill_job *job = user;
    (void)name;
    if (plan && plan->step == job->death_step) {
        atomic_store(&job->disk.asleep, false);
    }
    if (plan && job->death == TT_DRILL_DIES_IN_FORWARD && plan->step == job->death_step) {
        die();
    }
}

static void at_update(void *user, const tt_step_plan *plan)
{
    const tt_drill_job *job = user;
    if (job->death == TT_DRILL_DIES_IN_UPDATE && plan->step == job->death_step) {
        die();
    }
}

static void on_step(void *user, const tt_step_record *record, const tt_training_plan *plan)
{
    child *c = user;
    (void)plan;
    uint64_t now = tt_clock_now(&c->clock);
    /* The first step also pays for what is made on first use. */
    double gap = c->last_ns ? (double)(now - c->last_ns) * 1e-9 : 0;
    c->longest_gap = record->published ? fmax(c->longest_gap, gap) : c->longest_gap;
    c->last_ns = now;
    c->harmed_published += record->published && c->job->plant.live_harmed > 0;
}

static void write_log(void *user, tt_log_level level, const char *message)
{
    static const char *const names[] = {"", "warning: ", "error: "};
    FILE *log = user;
    fprintf(log, "%s%s\n", names[level], message);
    fflush(log);
}

static tt_status set(tt_config *config, const char *key, int64_t value)
{
    char assignment[96];
    snprintf(assignment, sizeof assignment, "%s=%lld", key, (long long)value);
    return tt_config_set(config, TT_SOURCE_COMMAND, assignment, "drill");
}

/* Nothing that rests on time is decided, so that harmed and clean runs can be the same to the
 * bit; the rest is as the user has it. */
static tt_status settle(tt_config *config, const tt_drill_job *job)
{
    int64_t held_out = tt_config_int(config, "train.validate_sequences");
    tt_status status = set(config, "train.steps", job->steps);
    status = status ? status : set(config, "train.validate_every", 0);
    status = status ? status : set(config, "train.validate_sequences", held_out ? held_out : 16);
    status = status ? status : set(config, "checkpoint.every_steps", tt_drill_every(job->steps));
    status = status ? status : set(config, "checkpoint.keep", 3);
    status = status ? status : set(config, "kernels.tune_seconds", 0);
    status = status ? status : set(config, "adapt.every_steps", 0);
    status = status ? status : set(config, "sample.tokens", 0);
    if (!status && !(tt_config_float(config, "data.held_out") > 0)) {
        status = tt_config_set(config, TT_SOURCE_COMMAND, "data.held_out=0.1", "drill");
    }
    for (int i = 0; !status && i < TT_DRILL_SETTINGS && job->settings[i]; i++) {
        status = tt_config_set(config, TT_SOURCE_COMMAND, job->settings[i], "drill");
    }
    return status;
}

static void leave_facts(const child *c)
{
    char path[TT_DRILL_PATH + 16];
    snprintf(path, sizeof path, "%s/drill.json", c->folder);
    FILE *file = fopen(path, "we");
    if (file) {
        fprintf(file, "{\"harmed\": %lld, \"harmed_published\": %lld, \"longest_gap\": %.9f}\n",
                (long long)c->job->plant.fault.harmed, (long long)c->harmed_published,
                c->longest_gap);
        fclose(file);
    }
}

static tt_status run(tt_drill *drill, child *c, FILE *log)
{
    tt_drill_job *job = c->job;
    tt_log_sink sink = {.write = write_log, .user = log};
    tt_training_observer observer = {.size = sizeof observer, .user = c, .on_step = on_step};
    tt_clock_fault clock;
    tt_training_options options;
    tt_training *training = NULL;
    tt_training_options_init(&options);
    options.params = drill->params;
    options.config = drill->config; /* a copy: this is another process */
    options.run_directory = c->folder;
    options.resume = job->resume ? "auto" : NULL;
    options.log = &sink;
    options.observer = &observer;
    if (job->disk.how != TT_FILE_FAULT_NONE) {
        tt_disk_init(&job->disk);
        options.files = &job->disk.ops;
    }
    if (job->clock_jumps) {
        tt_clock_fault_init(&clock, job->clock_at, job->clock_ns);
        options.clock = &clock.clock;
    }
    job->plant.at_tensor = at_tensor;
    job->plant.at_update = at_update;
    job->plant.user = job;
    if (!job->plant.fault.tensor) {
        job->plant.fault = (tt_tensor_fault){.tensor = "", .last = -1};
    }
    tt_status status = settle(drill->config, job);
    if (!status) {
        status = tt_training_create(&options, &training);
    }
    if (!status) {
        status = tt_plant_attach(&job->plant, training);
    }
    if (!status) {
        status = tt_training_run(training);
    }
    return status; /* the process ends: nothing is taken down */
}

static _Noreturn void live(tt_drill *drill, tt_drill_job *job, const char *folder,
                           const char *log_path)
{
    static const int handled[] = {SIGINT, SIGTERM, SIGUSR1};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) {
        (void)signal(handled[i], SIG_DFL); // NOLINT(cert-err33-c)
    }
    FILE *log = fopen(log_path, "ae");
    if (!log || dup2(fileno(log), STDOUT_FILENO) < 0 || dup2(fileno(log), STDERR_FILENO) < 0) {
        _exit(tt_status_exit_code(TT_EIO));
    }
    child c = {.job = job, .folder = folder, .clock = tt_clock_monotonic()};
    tt_status status = run(drill, &c, log);
    if (status) {
        fprintf(log, "%s%s\n", failure_mark, tt_error_message());
    }
    fflush(log);
    leave_facts(&c);
    _exit(tt_status_exit_code(status));
}

/* ---- in the parent ---- */

/* The last failure that the log tells of. */
static void read_message(const char *path, char *out, size_t room)
{
    FILE *log = fopen(path, "re");
    char line[1200];
    out[0] = '\0';
    while (log && fgets(line, sizeof line, log)) {
        if (strncmp(line, failure_mark, sizeof failure_mark - 1) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(out, room, "%.*s", (int)room - 1, line + sizeof failure_mark - 1);
        }
    }
    if (log) {
        fclose(log);
    }
}

static double seconds_since(const tt_clock *clock, uint64_t start)
{
    return (double)(tt_clock_now(clock) - start) * 1e-9;
}

/* Many times what a run without a fault takes; the first one is given an hour and more. */
static double limit_of(const tt_drill *drill, const tt_drill_job *job)
{
    double whole = drill->longest_step * (double)job->steps;
    return whole > 0 ? 60 + 30 * whole : 7200;
}

static tt_status watch(tt_drill *drill, pid_t pid, double limit, int *status, tt_drill_end *end)
{
    const tt_clock clock = tt_clock_monotonic();
    const struct timespec pause = {.tv_nsec = 2000000};
    uint64_t start = tt_clock_now(&clock);
    for (;;) {
        pid_t ended = waitpid(pid, status, WNOHANG);
        if (ended == pid) {
            end->seconds = seconds_since(&clock, start);
            return TT_OK;
        }
        if (ended < 0 && errno != EINTR) {
            return tt_fail_errno(errno, "cannot wait for a run of the drill");
        }
        const tt_drill_options *options = drill->options;
        drill->stopped = drill->stopped || (options->stop && options->stop(options->user));
        end->hung = end->hung || seconds_since(&clock, start) > limit;
        if (drill->stopped || end->hung) {
            kill(pid, SIGKILL);
        }
        nanosleep(&pause, NULL);
    }
}

tt_status tt_drill_go(tt_drill *drill, tt_drill_job *job, tt_drill_end *end)
{
    char folder[TT_DRILL_PATH];
    char log[TT_DRILL_PATH];
    char name[64];
    *end = (tt_drill_end){0};
    snprintf(name, sizeof name, "%s.log", job->folder);
    tt_drill_path(drill, job->folder, "", folder);
    tt_drill_path(drill, name, "", log);
    fflush(NULL); /* nothing is to be written twice */
    pid_t pid = fork();
    if (pid < 0) {
        return tt_fail_errno(errno, "cannot start a run of the drill");
    }
    if (pid == 0) {
        live(drill, job, folder, log);
    }
    int result = 0;
    tt_status status = watch(drill, pid, limit_of(drill, job), &result, end);
    if (status) {
        return status;
    }
    if (drill->stopped) {
        return tt_fail(TT_EREQUEUE, "the drill was stopped");
    }
    end->killed = WIFSIGNALED(result);
    end->code = end->killed ? 128 + WTERMSIG(result) : WEXITSTATUS(result);
    read_message(log, end->message, sizeof end->message);
    return TT_OK;
}
