/* One background thread, one job at a time. */
#include "trimtab/base.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tt_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    tt_job_fn job; /* non-NULL from start until the result is collected */
    void *user;
    bool done;
    bool ending;
    tt_status status;
    char message[1024];
};

static void *serve(void *argument)
{
    tt_worker *worker = argument;
    pthread_mutex_lock(&worker->lock);
    for (;;) {
        while (!worker->ending && (!worker->job || worker->done)) {
            pthread_cond_wait(&worker->changed, &worker->lock);
        }
        if (!worker->job || worker->done) {
            break;
        }
        tt_job_fn job = worker->job;
        void *user = worker->user;
        pthread_mutex_unlock(&worker->lock);
        tt_status status = job(user);
        pthread_mutex_lock(&worker->lock);
        worker->status = status;
        snprintf(worker->message, sizeof worker->message, "%s", status ? tt_error_message() : "");
        worker->done = true;
        pthread_cond_broadcast(&worker->changed);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

tt_status tt_worker_create(tt_worker **out)
{
    *out = NULL;
    tt_worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        return tt_fail(TT_ENOMEM, "no memory for a worker");
    }
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    int error = pthread_create(&worker->thread, NULL, serve, worker);
    if (error) {
        pthread_cond_destroy(&worker->changed);
        pthread_mutex_destroy(&worker->lock);
        free(worker);
        return tt_fail_errno(error, "cannot start a background thread");
    }
    *out = worker;
    return TT_OK;
}

void tt_worker_destroy(tt_worker *worker)
{
    if (!worker) {
        return;
    }
    pthread_mutex_lock(&worker->lock);
    worker->ending = true;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

tt_status tt_worker_start(tt_worker *worker, tt_job_fn job, void *user)
{
    tt_status status = TT_OK;
    pthread_mutex_lock(&worker->lock);
    if (worker->job) {
        status = tt_fail(TT_EBUSY, "the background thread still has a job");
    } else {
        worker->job = job;
        worker->user = user;
        worker->done = false;
        pthread_cond_broadcast(&worker->changed);
    }
    pthread_mutex_unlock(&worker->lock);
    return status;
}

bool tt_worker_pending(tt_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    bool pending = worker->job != NULL;
    pthread_mutex_unlock(&worker->lock);
    return pending;
}

bool tt_worker_finished(tt_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    bool finished = worker->job && worker->done;
    pthread_mutex_unlock(&worker->lock);
    return finished;
}

tt_status tt_worker_wait(tt_worker *worker)
{
    tt_status status = TT_OK;
    pthread_mutex_lock(&worker->lock);
    while (worker->job && !worker->done) {
        pthread_cond_wait(&worker->changed, &worker->lock);
    }
    if (worker->job) {
        status = worker->status;
        worker->job = NULL;
        if (status) {
            tt_fail(status, "%s", worker->message);
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return status;
}
