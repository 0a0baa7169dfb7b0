/* Checkpoints: a pinned slot goes to the disk in the background. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGING_BYTES = 4 << 20 };

static void tensor_path(const tt_tensor_info *info, char out[TT_STORE_MAX_NAME])
{
    snprintf(out, TT_STORE_MAX_NAME, "/tensors/%s", info->name);
}

static int64_t tensor_bytes(const tt_tensor_info *info)
{
    int64_t bytes = (int64_t)tt_dtype_size(info->dtype);
    for (int i = 0; i < info->rank; i++) {
        bytes *= info->dims[i];
    }
    return bytes;
}

/* ---- saving ---- */

static tt_status add_json(tt_store_writer *writer, const char *path, json_t *value)
{
    if (!value) {
        return tt_fail(TT_ENOMEM, "no memory for %s", path);
    }
    /* 17 digits: every double reads back as itself. */
    char *text = json_dumps(value, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(value);
    if (!text) {
        return tt_fail(TT_ENOMEM, "no memory for %s", path);
    }
    tt_status status = tt_store_writer_add_text(writer, path, text, strlen(text));
    free(text);
    return status;
}

static tt_status collect_line(void *user, const char *line)
{
    json_t *record = json_loads(line, 0, NULL);
    if (record) {
        json_array_append_new(user, record);
    }
    return TT_OK;
}

static tt_status add_config(tt_store_writer *writer, const char *path, const tt_config *config)
{
    tt_text yaml;
    tt_text_init(&yaml);
    tt_status status = tt_config_write_yaml(config, &yaml);
    if (!status) {
        status = tt_store_writer_add_text(writer, path, yaml.data, yaml.length);
    }
    tt_text_clear(&yaml);
    return status;
}

static tt_status add_meta(tt_orchestrator *o, tt_store_writer *writer)
{
    /* What a resumed run goes on with; what is off for now follows from the breakers. */
    tt_status status = add_config(writer, "/meta/config.yaml", o->requested);
    if (!status && o->config != o->requested) {
        status = add_config(writer, "/meta/config_in_force.yaml", o->config);
    }
    if (!status) {
        status = add_json(writer, "/meta/state.json", tt_state_to_json(o));
    }
    if (!status) {
        status = add_json(writer, "/meta/reproducibility.json", tt_reproducibility_record(o));
    }
    if (!status) {
        json_t *decisions = json_array();
        status = tt_jsonl_read(o->journal.path, collect_line, decisions);
        if (status) {
            json_decref(decisions);
            return status;
        }
        status = add_json(writer, "/meta/decisions.json", decisions);
    }
    return status;
}

static tt_status declare_tensors(tt_orchestrator *o, int slot, tt_store_writer *writer)
{
    size_t count = o->host.tensor_count(o->host.user, slot);
    for (size_t i = 0; i < count; i++) {
        tt_tensor_info info;
        char path[TT_STORE_MAX_NAME];
        tt_status status = o->host.tensor_info(o->host.user, slot, i, &info);
        if (!status) {
            tensor_path(&info, path);
            status = tt_store_writer_declare(writer, path, info.dtype, info.rank, info.dims);
        }
        if (status) {
            return status;
        }
    }
    return TT_OK;
}

static tt_status put_tensors(tt_checkpoint_job *job)
{
    const tt_host *host = &job->orchestrator->host;
    size_t count = host->tensor_count(host->user, job->slot);
    for (size_t i = 0; i < count; i++) {
        tt_tensor_info info;
        char path[TT_STORE_MAX_NAME];
        tt_status status = host->tensor_info(host->user, job->slot, i, &info);
        int64_t bytes = status ? 0 : tensor_bytes(&info);
        tensor_path(&info, path);
        for (int64_t offset = 0; !status && offset < bytes; offset += STAGING_BYTES) {
            size_t part = bytes - offset < STAGING_BYTES ? (size_t)(bytes - offset) : STAGING_BYTES;
            status = host->tensor_read(host->user, job->slot, i, offset, job->staging, part);
            if (!status) {
                status = tt_store_writer_put(job->writer, path, offset, job->staging, part);
            }
        }
        if (status) {
            return status;
        }
    }
    return TT_OK;
}

/* On the checkpoint thread. */
static tt_status write_checkpoint(void *user)
{
    tt_checkpoint_job *job = user;
    tt_orchestrator *o = job->orchestrator;
    tt_status status = TT_OK;
    if (!TT_PROTECTED(KEEP)) {
        o->files->unlink(o->files->user, o->latest); /* makes room */
    }
    status = put_tensors(job);
    if (!status) {
        status = tt_store_writer_commit(job->writer, job->digest);
    }
    if (!status) {
        const char *spare[] = {job->name, NULL};
        job->unpruned = tt_store_prune(o->folder.checkpoints, TT_CHECKPOINT_FORM,
                                       o->checkpoint_keep, spare, o->files);
        snprintf(job->message, sizeof job->message, "%s", job->unpruned ? tt_error_message() : "");
    }
    return status;
}

static void note_failure(tt_orchestrator *o)
{
    o->totals.checkpoint_failures++;
    tt_metrics_write_event(o, json_pack("{s:i, s:s, s:I, s:o}", "attempt", o->attempt, "event",
                                        "checkpoint_failed", "step", (json_int_t)o->job.step, "why",
                                        tt_json_text(tt_error_message())));
}

static void checkpoint_done(tt_orchestrator *o, tt_status status)
{
    tt_checkpoint_job *job = &o->job;
    tt_store_writer_destroy(job->writer);
    job->writer = NULL;
    job->active = false;
    o->slots.slot[job->slot].pinned = false;
    if (status) {
        note_failure(o);
        return;
    }
    o->totals.checkpoints++;
    if (job->unpruned) {
        /* The new one is whole: an old one that stays costs disk, nothing else. */
        tt_log(o->log, TT_LOG_WARN, "older checkpoints could not be removed: %s", job->message);
    }
    o->saved_step = job->step;
    snprintf(o->latest, sizeof o->latest, "%.*s/%s", TT_PATH_BYTES - 80, o->folder.checkpoints,
             job->name);
    memcpy(o->parent_sha256, job->digest, sizeof o->parent_sha256);
    tt_metrics_write_event(o, json_pack("{s:i, s:s, s:I, s:s}", "attempt", o->attempt, "event",
                                        "checkpoint", "step", (json_int_t)job->step, "file",
                                        job->name));
}

tt_status tt_checkpoint_collect(tt_orchestrator *o, bool wait)
{
    if (!o->job.active || (!wait && !tt_worker_finished(o->worker))) {
        return TT_OK;
    }
    tt_status status = tt_worker_wait(o->worker);
    int64_t step = o->job.step;
    checkpoint_done(o, status);
    if (status) {
        tt_log(o->log, TT_LOG_WARN,
               "the checkpoint of step %lld was not saved, training goes on: %s", (long long)step,
               tt_error_message());
    }
    return TT_OK;
}

static tt_status prepare_job(tt_orchestrator *o)
{
    tt_checkpoint_job *job = &o->job;
    job->orchestrator = o;
    job->slot = o->slots.published;
    job->step = tt_orchestrator_step(o);
    snprintf(job->name, sizeof job->name, "step-%010lld.h5", (long long)job->step);
    if (!job->staging) {
        job->staging = malloc(STAGING_BYTES);
        if (!job->staging) {
            return tt_fail(TT_ENOMEM, "no memory for a staging buffer of %d bytes", STAGING_BYTES);
        }
    }
    tt_store_write_options options = {
        .size = sizeof options,
        .directory = o->folder.checkpoints,
        .name = job->name,
        .run_id = o->run_id,
        .step = job->step,
        .parent_sha256 = o->parent_sha256,
        .ops = o->files,
    };
    tt_status status = tt_store_writer_create(&options, &job->writer);
    if (!status) {
        status = declare_tensors(o, job->slot, job->writer);
    }
    if (!status) {
        status = add_meta(o, job->writer);
    }
    if (status) {
        tt_store_writer_destroy(job->writer);
        job->writer = NULL;
    }
    return status;
}

/* The thread is made when it is first needed: until then the walk of a container that is opened
 * forks a process of one thread. */
static tt_status start_writing(tt_orchestrator *o)
{
    tt_status status = o->worker ? TT_OK : tt_worker_create(&o->worker);
    return status ? status : tt_worker_start(o->worker, write_checkpoint, &o->job);
}

tt_status tt_checkpoint_save(tt_orchestrator *o, bool background)
{
    tt_status status = tt_checkpoint_collect(o, true);
    if (status || o->saved_step == tt_orchestrator_step(o)) {
        return status; /* this step is already on disk */
    }
    tt_metrics_flush(o); /* the plots reach as far as what can be resumed */
    /* Who goes on from here takes what was decided up to this step for done. */
    status = tt_follow(o, tt_orchestrator_step(o));
    if (!status) {
        status = prepare_job(o);
    }
    if (status) {
        note_failure(o);
    } else {
        o->job.active = true;
        o->slots.slot[o->job.slot].pinned = true;
        status = background ? start_writing(o) : write_checkpoint(&o->job);
        if (status || !background) {
            checkpoint_done(o, status);
        }
    }
    return status;
}

/* ---- loading ---- */

int64_t tt_checkpoint_step_of(const char *name)
{
    static const char form[] = TT_CHECKPOINT_FORM; /* '#' stands for a digit */
    int64_t step = 0;
    for (size_t i = 0; i < sizeof form; i++) {
        if (form[i] == '#' && name[i] >= '0' && name[i] <= '9') {
            step = step * 10 + (name[i] - '0');
        } else if (form[i] == '#' || name[i] != form[i]) {
            return -1;
        }
    }
    return step;
}

bool tt_checkpoint_at_most(const tt_orchestrator *o, int64_t bound, char path[TT_PATH_BYTES],
                           int64_t *step)
{
    DIR *folder = opendir(o->folder.checkpoints);
    if (!folder) {
        return false;
    }
    *step = -1;
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        int64_t number = tt_checkpoint_step_of(entry->d_name);
        if (number <= bound && number > *step) {
            *step = number;
        }
    }
    closedir(folder);
    snprintf(path, TT_PATH_BYTES, "%.*s/step-%010lld.h5", TT_PATH_BYTES - 80, o->folder.checkpoints,
             (long long)*step);
    return *step >= 0;
}

tt_status tt_checkpoint_set_aside(const tt_orchestrator *o, int64_t step, bool *found)
{
    char path[TT_PATH_BYTES];
    char aside[TT_PATH_BYTES + 32];
    int64_t later;
    *found = false;
    while (tt_checkpoint_at_most(o, INT64_MAX, path, &later) && later > step) {
        *found = true;
        snprintf(aside, sizeof aside, "%s.set-aside-%d", path, o->attempt);
        if (o->files->rename(o->files->user, path, aside) != 0) {
            return tt_fail_errno(errno, "cannot move %s aside", path);
        }
        tt_log(o->log, TT_LOG_WARN, "going on from step %lld: %s is kept as %s", (long long)step,
               path, strrchr(aside, '/') + 1);
    }
    return TT_OK;
}

static tt_status same_tensor(const tt_tensor_info *info, const tt_store_entry *entry,
                             const char *where)
{
    bool same = entry->dtype == info->dtype && entry->rank == info->rank;
    for (int i = 0; same && i < info->rank; i++) {
        same = entry->dims[i] == info->dims[i];
    }
    if (!same) {
        return tt_fail(TT_ECONFIG,
                       "%s: tensor %s has another type or shape than this configuration's model; "
                       "resume with the configuration that it was saved with",
                       where, info->name);
    }
    return TT_OK;
}

static tt_status load_tensor(tt_orchestrator *o, const tt_store *store, const char *where,
                             size_t index, int slot, unsigned char *staging)
{
    tt_tensor_info info;
    char path[TT_STORE_MAX_NAME];
    tt_status status = o->host.tensor_info(o->host.user, slot, index, &info);
    if (status) {
        return status;
    }
    tensor_path(&info, path);
    const tt_store_entry *entry = tt_store_find(store, path);
    if (!entry) {
        return tt_fail(
            TT_ECONFIG,
            "%s holds no tensor %s; resume with the configuration that it was saved with", where,
            info.name);
    }
    status = same_tensor(&info, entry, where);
    for (int64_t offset = 0; !status && offset < entry->bytes; offset += STAGING_BYTES) {
        size_t part =
            entry->bytes - offset < STAGING_BYTES ? (size_t)(entry->bytes - offset) : STAGING_BYTES;
        status = tt_store_read(store, entry, offset, staging, part);
        if (!status) {
            status = o->host.tensor_write(o->host.user, slot, index, offset, staging, part);
        }
    }
    return status;
}

/* The host lays the slot out for what the file holds. */
static tt_status prepare_slot(tt_orchestrator *o, const tt_store *store, int slot)
{
    static const char prefix[] = "/tensors/";
    if (!o->host.slot_prepare) {
        return TT_OK;
    }
    size_t entries = tt_store_entry_count(store);
    tt_tensor_info *infos = calloc(entries + 1, sizeof *infos);
    if (!infos) {
        return tt_fail(TT_ENOMEM, "no memory for a list of %zu tensors", entries);
    }
    size_t count = 0;
    for (size_t i = 0; i < entries; i++) {
        const tt_store_entry *entry = tt_store_entry_at(store, i);
        if (strncmp(entry->path, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        tt_tensor_info *info = &infos[count++];
        snprintf(info->name, sizeof info->name, "%.*s", (int)sizeof info->name - 1,
                 entry->path + sizeof prefix - 1);
        info->dtype = entry->dtype;
        info->rank = entry->rank;
        memcpy(info->dims, entry->dims, sizeof info->dims);
    }
    tt_status status = o->host.slot_prepare(o->host.user, slot, infos, count);
    free(infos);
    return status;
}

static tt_status load_tensors(tt_orchestrator *o, const char *path, const tt_store *store, int slot)
{
    unsigned char *staging = malloc(STAGING_BYTES);
    tt_status status = staging ? prepare_slot(o, store, slot)
                               : tt_fail(TT_ENOMEM, "no memory for a staging buffer");
    size_t count = status ? 0 : o->host.tensor_count(o->host.user, slot);
    for (size_t i = 0; !status && i < count; i++) {
        status = load_tensor(o, store, path, i, slot, staging);
    }
    free(staging);
    return status;
}

static tt_status load_meaning(tt_orchestrator *o, const char *path, const tt_store *store,
                              tt_slot *meaning)
{
    tt_text state;
    tt_text_init(&state);
    tt_status status = tt_store_read_text(store, "/meta/state.json", &state);
    /* Another run's state is none to roll back to; at start it may be where this run begins. */
    if (!status && o->started && strcmp(tt_store_get_header(store)->run_id, o->run_id) != 0) {
        status = tt_fail(TT_ECORRUPT, "%s belongs to run %s, not to this one", path,
                         tt_store_get_header(store)->run_id);
    }
    if (!status) {
        status = tt_state_from_json(o, state.data, path, meaning);
    }
    tt_text_clear(&state);
    return status;
}

static tt_status load_from(tt_orchestrator *o, const char *path, const tt_store *store, int slot,
                           tt_slot *meaning)
{
    tt_status status = load_meaning(o, path, store, meaning);
    if (!status && o->started) {
        tt_slots_take(&o->slots, slot);
        o->dirty = o->dirty || o->slots.count == 1;
    }
    if (!status) {
        status = load_tensors(o, path, store, slot);
    }
    if (!status) {
        memcpy(o->parent_sha256, tt_store_get_header(store)->header_sha256,
               sizeof o->parent_sha256);
        o->saved_step = meaning->step;
        snprintf(o->latest, sizeof o->latest, "%s", path);
    }
    return status;
}

tt_status tt_checkpoint_load(tt_orchestrator *o, const char *path, const tt_store *store, int slot,
                             tt_slot *meaning)
{
    if (store) {
        return load_from(o, path, store, slot, meaning);
    }
    tt_store *opened = NULL;
    tt_status status = tt_store_open(path, &opened);
    if (!status) {
        status = load_from(o, path, opened, slot, meaning);
    }
    tt_store_close(opened);
    return status;
}

tt_status tt_checkpoint_peek(tt_orchestrator *o, const char *path, int slot, tt_slot *meaning)
{
    tt_store *store = NULL;
    tt_status status = tt_store_open(path, &store);
    if (!status) {
        status = load_meaning(o, path, store, meaning);
    }
    if (!status) {
        status = load_tensors(o, path, store, slot);
    }
    tt_store_close(store);
    return status;
}
