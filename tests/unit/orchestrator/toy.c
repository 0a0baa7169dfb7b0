#include "toy.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- scratch ---- */

int toy_scratch(void **state)
{
    /* In memory where there is such a place: these tests sync a lot. */
    char *path = strdup(access("/dev/shm", W_OK) == 0 ? "/dev/shm/trimtab-run-XXXXXX"
                                                      : "/tmp/trimtab-run-XXXXXX");
    *state = path;
    return path && mkdtemp(path) ? 0 : -1;
}

static void remove_tree(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        unlink(path);
        return;
    }
    for (const struct dirent *item = readdir(folder); item; item = readdir(folder)) {
        char inner[512];
        struct stat info;
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) {
            continue;
        }
        snprintf(inner, sizeof inner, "%.200s/%s", path, item->d_name);
        if (lstat(inner, &info) == 0 && S_ISDIR(info.st_mode)) {
            remove_tree(inner);
        } else {
            unlink(inner);
        }
    }
    closedir(folder);
    rmdir(path);
}

int toy_unscratch(void **state)
{
    remove_tree(*state);
    free(*state);
    return 0;
}

const char *toy_path(void *const *state, const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

/* ---- the arithmetic ---- */

static void initial_state(toy_state *state)
{
    memset(state, 0, sizeof *state);
    for (int i = 0; i < 6; i++) {
        state->a[i] = 0.1 * (i + 1);
    }
    for (int i = 0; i < 12; i++) {
        state->b[i / 4][i % 4] = (float)i;
    }
}

/* Every bit of the state and of the position matters to every later state. */
void toy_advance(toy_state *to, const toy_state *from, int64_t position)
{
    toy_state next = *from;
    for (int i = 0; i < 6; i++) {
        next.a[i] = sin(3 * from->a[i] + from->a[(i + 1) % 6] + 0.37 * (double)position +
                        1e-3 * (double)(from->counter % 1000));
    }
    for (int i = 0; i < 12; i++) {
        float *b = &next.b[i / 4][i % 4];
        *b = 0.5f * *b + (float)(position % 97) + (float)from->a[i % 6];
    }
    next.counter = from->counter + position + 1;
    next.poison = from->poison ? from->poison + 1 : 0;
    *to = next;
}

static double loss_of(const toy_state *state, int64_t position)
{
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        sum += fabs(state->a[i]) / 6;
    }
    return 2 + sum + 0.001 * (double)(position % 7);
}

static bool is_skipped(const int64_t *skipped, int64_t position)
{
    for (; skipped && *skipped >= 0; skipped++) {
        if (*skipped == position) {
            return true;
        }
    }
    return false;
}

toy_state toy_expected(int64_t steps, const int64_t *skipped)
{
    toy_state state;
    int64_t position = 0;
    initial_state(&state);
    for (int64_t i = 0; i < steps; i++, position += TOY_BATCH) {
        while (is_skipped(skipped, position)) {
            position += TOY_BATCH;
        }
        toy_advance(&state, &state, position);
    }
    return state;
}

/* ---- the host ---- */

static const struct {
    const char *name;
    tt_dtype dtype;
    int rank;
    int64_t dims[2];
    size_t offset, bytes;
} tensors[] = {
    {"params/a", TT_F64, 1, {6}, offsetof(toy_state, a), 6 * sizeof(double)},
    {"params/b", TT_F32, 2, {3, 4}, offsetof(toy_state, b), 12 * sizeof(float)},
    {"moments/none", TT_F32, 1, {0}, 0, 0},
    {"rng/counter", TT_I64, 0, {0}, offsetof(toy_state, counter), sizeof(int64_t)},
    {"rng/poison", TT_I64, 0, {0}, offsetof(toy_state, poison), sizeof(int64_t)},
};

enum { TENSORS = sizeof tensors / sizeof *tensors };

static size_t tensor_count(void *user, int slot)
{
    (void)user;
    (void)slot;
    return TENSORS;
}

static tt_status tensor_info(void *user, int slot, size_t index, tt_tensor_info *out)
{
    (void)user;
    (void)slot;
    *out = (tt_tensor_info){.dtype = tensors[index].dtype, .rank = tensors[index].rank};
    snprintf(out->name, sizeof out->name, "%s", tensors[index].name);
    memcpy(out->dims, tensors[index].dims, sizeof tensors[index].dims);
    return TT_OK;
}

static tt_status tensor_read(void *user, int slot, size_t index, int64_t offset, void *out,
                             size_t bytes)
{
    toy *job = user;
    atomic_store(&job->reading, slot);
    assert_true((size_t)offset + bytes <= tensors[index].bytes);
    memcpy(out, (char *)&job->slot[slot] + tensors[index].offset + offset, bytes);
    atomic_store(&job->reading, -1);
    return TT_OK;
}

static tt_status tensor_write(void *user, int slot, size_t index, int64_t offset, const void *data,
                              size_t bytes)
{
    toy *job = user;
    if (job->write_fails && index >= TENSORS / 2) {
        return tt_fail(job->write_fails, "the device is lost");
    }
    assert_true((size_t)offset + bytes <= tensors[index].bytes);
    memcpy((char *)&job->slot[slot] + tensors[index].offset + offset, data, bytes);
    return TT_OK;
}

static tt_status locate_nonfinite(void *user, int read_slot, int write_slot,
                                  char name[TT_TENSOR_NAME])
{
    toy *job = user;
    (void)read_slot;
    (void)write_slot;
    job->locate_calls++;
    snprintf(name, TT_TENSOR_NAME, "%s", job->bad_tensor ? job->bad_tensor : "");
    return TT_OK;
}

static void take_log(void *user, tt_log_level level, const char *message)
{
    toy *job = user;
    job->warnings += level >= TT_LOG_WARN;
    snprintf(job->last_log, sizeof job->last_log, "%s", message);
}

/* ---- the run ---- */

static const int64_t tiles[] = {16, 32, 64, 128, 256, 512};

static const tt_param toy_table[] = {
    {.key = "toy.tile",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "auto",
     .minimum = 16,
     .maximum = 512,
     .lattice = tiles,
     .lattice_count = 6,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_TILE,
     .owner = "toy",
     .help = "a tile"},
    {.key = "toy.block",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "auto",
     .minimum = 16,
     .maximum = 512,
     .lattice = tiles,
     .lattice_count = 6,
     .may_be_auto = true,
     .mutability = TT_MUTABLE_AT_STEP,
     .tier = TT_TIER_COMPRESSION,
     .owner = "toy",
     .help = "a block"},
    {.key = "toy.seed",
     .type = TT_TYPE_INT,
     .unit = "",
     .default_text = "1",
     .minimum = 0,
     .maximum = 1e9,
     .mutability = TT_MUTABLE_NEVER,
     .tier = TT_TIER_NONE,
     .owner = "toy",
     .help = "what the run is"},
};

void toy_init(toy *job, const char *directory)
{
    char path[sizeof job->directory]; /* it may be the job's own */
    snprintf(path, sizeof path, "%s", directory);
    memset(job, 0, sizeof *job);
    memcpy(job->directory, path, sizeof path);
    job->initial_loss = 5.5;
    job->fail_step = -1;
    atomic_store(&job->reading, -1);
    initial_state(&job->slot[0]);
    memset(&job->slot[1], 0xee, sizeof job->slot - sizeof job->slot[0]);
}

static void release(toy *job)
{
    tt_orchestrator_destroy(job->orchestrator);
    tt_resume_clear(&job->resume);
    tt_config_destroy(job->config);
    tt_params_destroy(job->params);
    job->orchestrator = NULL;
    job->config = NULL;
    job->params = NULL;
}

static tt_status configure(toy *job, const char *resume, const char *const *settings)
{
    tt_status status = tt_params_create(&job->params);
    if (!status) {
        status = tt_orchestrator_register(job->params);
    }
    if (!status) {
        status = tt_params_register(job->params, toy_table, sizeof toy_table / sizeof *toy_table);
    }
    if (!status) {
        status = toy_register_knobs(job);
    }
    if (!status) {
        status = tt_config_create(job->params, &job->config);
    }
    for (; !status && settings && *settings; settings++) {
        status = tt_config_set(job->config, TT_SOURCE_COMMAND, *settings, "--set");
    }
    tt_resume_init(&job->resume);
    if (!status && resume) {
        status = tt_resume_prepare(job->directory, resume, job->config, &job->sink, &job->resume);
    }
    return status;
}

tt_status toy_open(toy *job, const char *resume, const char *const *settings)
{
    job->sink = (tt_log_sink){.write = take_log, .user = job};
    tt_host host = {.size = sizeof host,
                    .scratch_slot = -1,
                    .user = job,
                    .slot_count = TT_MAX_SLOTS,
                    .tensor_count = tensor_count,
                    .tensor_info = tensor_info,
                    .tensor_read = tensor_read,
                    .tensor_write = tensor_write,
                    .locate_nonfinite = locate_nonfinite};
    toy_complete_host(job, &host);
    tt_orchestrator_options options;
    tt_orchestrator_options_init(&options);
    tt_status status = configure(job, resume, settings);
    options.params = job->params;
    options.config = job->config;
    options.host = &host;
    options.run_directory = job->directory;
    options.resume = resume ? &job->resume : NULL;
    options.strict = job->strict;
    options.batch_sequences = TOY_BATCH;
    options.initial_loss = job->initial_loss;
    options.log = &job->sink;
    options.clock = job->clock;
    options.files = job->files;
    if (!status) {
        status = tt_orchestrator_create(&options, &job->orchestrator);
    }
    for (size_t i = 0; !status && i < job->optimization_count; i++) {
        status = tt_orchestrator_add(job->orchestrator, &job->optimizations[i]);
    }
    if (!status) {
        status = toy_connect_knobs(job);
    }
    if (!status) {
        status = tt_orchestrator_start(job->orchestrator);
    }
    if (status) {
        char message[1024];
        snprintf(message, sizeof message, "%s", tt_error_message());
        release(job);
        tt_fail(status, "%s", message);
    }
    return status;
}

static void apply_faults(toy *job, int64_t step, int64_t position, bool after_update,
                         tt_measurements *measured)
{
    for (int i = 0; i < job->fault_count; i++) {
        toy_fault *fault = &job->faults[i];
        bool of_update = fault->metric == TT_METRIC_UPDATE_NONFINITE;
        if (fault->times == 0 || of_update != after_update ||
            (fault->step >= 0 && fault->step != step) ||
            (fault->position >= 0 && fault->position != position)) {
            continue;
        }
        fault->times -= fault->times > 0;
        tt_measurements_set(measured, fault->metric, fault->value);
        measured->present[fault->metric] = !fault->missing;
    }
}

void toy_measure(toy *job, int64_t step, int64_t position, double rate, int read_slot,
                 tt_measurements *measured)
{
    const toy_state *from = &job->slot[read_slot];
    measured->tokens = 64;
    tt_measurements_set(measured, TT_METRIC_LOSS, job->calm ? 2 : loss_of(from, position));
    tt_measurements_set(measured, TT_METRIC_GRADIENT_NORM, 1 + fabs(from->a[0]));
    tt_measurements_set(measured, TT_METRIC_GRADIENT_NONFINITE, 0);
    tt_measurements_set(measured, TT_METRIC_LEARNING_RATE, 1e-3);
    apply_faults(job, step, position, false, measured);
    toy_harm_before(job, step, position, rate, from, measured);
    toy_take_time(job);
}

void toy_update(toy *job, int64_t step, int64_t position, double rate, int read_slot,
                int write_slot, tt_measurements *measured)
{
    toy_advance(&job->slot[write_slot], &job->slot[read_slot], position);
    measured->updated = true;
    tt_measurements_set(measured, TT_METRIC_UPDATE_NONFINITE, 0);
    apply_faults(job, step, position, true, measured);
    toy_harm_after(job, step, position, rate, &job->slot[write_slot], measured);
}

static void flip(toy *job, const tt_step_plan *plan, bool written)
{
    for (int i = 0; i < job->flip_count; i++) {
        toy_flip *one = &job->flips[i];
        if (!one->done && one->step == plan->step && one->of_written == written) {
            one->done = true;
            job->slot[written ? plan->write_slot : plan->read_slot].a[2] = 1e6;
        }
    }
}

tt_status toy_attempt(toy *job, tt_step_record *record)
{
    tt_step_plan plan;
    tt_measurements measured;
    bool proceed = false;
    tt_status status = tt_step_begin(job->orchestrator, &plan);
    if (status) {
        return status;
    }
    toy_check_applied(job, plan.config);
    toy_note_order(job, 'L');
    tt_measurements_init(&measured);
    flip(job, &plan, false);
    toy_measure(job, plan.step, plan.position, 1, plan.read_slot, &measured);
    status = tt_step_check(job->orchestrator, &measured, &proceed);
    if (status) {
        return status;
    }
    if (proceed) {
        assert_int_not_equal(atomic_load(&job->reading), plan.write_slot);
        if (job->fail_step == plan.step) {
            memset(&job->slot[plan.write_slot], 0xdd, sizeof(toy_state) / 2);
            return tt_fail(TT_EINTERNAL, "the job broke in its update");
        }
        toy_update(job, plan.step, plan.position, 1, plan.read_slot, plan.write_slot, &measured);
        flip(job, &plan, true);
    }
    return tt_step_end(job->orchestrator, &measured, record);
}

tt_status toy_steps(toy *job, int64_t until)
{
    int64_t attempts = 0;
    while (tt_orchestrator_step(job->orchestrator) < until) {
        tt_status status = toy_attempt(job, NULL);
        if (status) {
            return status;
        }
        assert_true(attempts++ < 100 + 50 * until); /* it gets somewhere */
    }
    return TT_OK;
}

tt_status toy_close(toy *job, tt_status outcome)
{
    tt_status status = tt_orchestrator_finish(job->orchestrator, outcome);
    char message[1024];
    snprintf(message, sizeof message, "%s", tt_error_message());
    release(job);
    return status ? tt_fail(status, "%s", message) : TT_OK;
}

void toy_abandon(toy *job)
{
    release(job);
}

tt_status toy_run(toy *job, const char *resume, const char *const *settings, int64_t until)
{
    tt_status status = toy_open(job, resume, settings);
    return status ? status : toy_close(job, toy_steps(job, until));
}

void toy_add_fault(toy *job, toy_fault fault)
{
    assert_true(job->fault_count < TOY_MAX_FAULTS);
    job->faults[job->fault_count++] = fault;
}

void toy_flip_bits(toy *job, int64_t step, bool of_written)
{
    assert_true(job->flip_count < 8);
    job->flips[job->flip_count++] = (toy_flip){.step = step, .of_written = of_written};
}

const toy_state *toy_now(const toy *job)
{
    return &job->slot[tt_orchestrator_slot(job->orchestrator)];
}

/* ---- checks ---- */

void toy_assert_state(const toy_state *got, const toy_state *expected, const char *file, int line)
{
    if (memcmp(got, expected, sizeof *got) != 0) {
        print_error("counter %lld, expected %lld; a[0] %a, expected %a\n", (long long)got->counter,
                    (long long)expected->counter, got->a[0], expected->a[0]);
        _fail(file, line);
    }
}

void toy_assert_ok(tt_status status, const char *what, const char *file, int line)
{
    if (status != TT_OK) {
        print_error("%s: %s: %s\n", what, tt_status_name(status), tt_error_message());
        _fail(file, line);
    }
}

toy_state toy_checkpoint(const char *path)
{
    toy_state state;
    tt_store *store = NULL;
    memset(&state, 0, sizeof state);
    assert_ok(tt_store_open(path, &store));
    for (size_t i = 0; i < TENSORS; i++) {
        char name[192];
        snprintf(name, sizeof name, "/tensors/%s", tensors[i].name);
        const tt_store_entry *entry = tt_store_find(store, name);
        assert_non_null(entry);
        assert_int_equal(entry->bytes, tensors[i].bytes);
        assert_ok(
            tt_store_read(store, entry, 0, (char *)&state + tensors[i].offset, tensors[i].bytes));
    }
    tt_store_close(store);
    return state;
}

json_t *toy_lines(const toy *job, const char *name)
{
    char path[256];
    char *line = NULL;
    size_t capacity = 0;
    snprintf(path, sizeof path, "%s/%s", job->directory, name);
    FILE *stream = fopen(path, "re");
    assert_non_null(stream);
    json_t *lines = json_array();
    ssize_t length;
    while ((length = getline(&line, &capacity, stream)) > 0) {
        json_error_t error;
        json_t *one = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        if (!one || line[length - 1] != '\n') {
            fail_msg("%s: '%s' is no line of JSON", path, line);
        }
        json_array_append_new(lines, one);
    }
    free(line);
    fclose(stream);
    return lines;
}

static int64_t integer(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

/* The step at which an attempt above `attempt` begins first; INT64_MAX if none does. */
static int64_t superseded_from(const json_t *lines, int64_t attempt)
{
    int64_t from = INT64_MAX;
    size_t index;
    const json_t *one;
    json_array_foreach(lines, index, one)
    {
        const char *event = json_string_value(json_object_get(one, "event"));
        if (event && integer(one, "attempt") > attempt &&
            (strcmp(event, "resume") == 0 || strcmp(event, "rollback") == 0) &&
            integer(one, "step") < from) {
            from = integer(one, "step");
        }
    }
    return from;
}

void toy_check_metrics(const toy *job, int64_t steps)
{
    json_t *lines = toy_lines(job, "metrics.jsonl");
    toy_state state;
    size_t index;
    const json_t *one;
    double *losses = calloc((size_t)steps + 1, sizeof *losses);
    int *published = calloc((size_t)steps + 1, sizeof *published);
    assert_true(losses && published);
    initial_state(&state);
    for (int64_t i = 0; i < steps; i++) {
        losses[i] = loss_of(&state, i * TOY_BATCH);
        toy_advance(&state, &state, i * TOY_BATCH);
    }
    json_array_foreach(lines, index, one)
    {
        if (json_object_get(one, "event") || !json_is_true(json_object_get(one, "published")) ||
            integer(one, "step") >= superseded_from(lines, integer(one, "attempt"))) {
            continue;
        }
        int64_t step = integer(one, "step");
        assert_true(step < steps);
        published[step]++;
        assert_int_equal(integer(one, "position"), step * TOY_BATCH);
        assert_true(fabs(json_number_value(json_object_get(one, "loss")) - losses[step]) < 1e-8);
    }
    for (int64_t i = 0; i < steps; i++) {
        if (published[i] != 1) {
            fail_msg("%s: step %lld is published by %d lines in force", job->directory,
                     (long long)i, published[i]);
        }
    }
    free(losses);
    free(published);
    json_decref(lines);
}

int toy_count(const toy *job, const char *kind)
{
    json_t *lines = toy_lines(job, "decisions.jsonl");
    int count = 0;
    size_t index;
    const json_t *one;
    json_array_foreach(lines, index, one)
    {
        const char *found = json_string_value(json_object_get(one, "kind"));
        count += found && strcmp(found, kind) == 0;
    }
    json_decref(lines);
    return count;
}
