/* A small real training run for tests: its own folder, text and configuration. */
#ifndef TRIMTAB_TESTS_INTEGRATION_FIXTURE_H
#define TRIMTAB_TESTS_INTEGRATION_FIXTURE_H

#include "internal.h"

typedef struct fixture {
    char root[256];    /* a temporary folder, removed by fixture_clear */
    bool data_in_file; /* data.path comes from a configuration file, not from the command line */
    bool strict;
    const tt_training_observer *observer; /* may be NULL */
    const tt_clock *clock;                /* NULL: the machine's */
    char data[300];
    tt_params *params;
} fixture;

/* Makes the folder and `bytes` of learnable text. */
void fixture_init(fixture *f, size_t bytes);
void fixture_clear(fixture *f);
/* "root/name" in a static buffer of 4. */
const char *fixture_path(const fixture *f, const char *name);

/* Settings of Llama's blocks. */
#define LLAMA                                                                                      \
    "model.norm=rmsnorm", "model.positions=rotary", "model.mlp=swiglu", "model.kv_heads=1",        \
        "model.bias=false", "model.tied=false"

/* A configuration of two layers and 16 channels; `settings` is a NULL-terminated list of "k=v". */
tt_config *fixture_config(const fixture *f, const char *const *settings);

typedef struct fixture_run {
    tt_config *config;
    tt_training *training;
} fixture_run;

/* Creates the run in root/name; fails the test on error unless `expect` says so. */
tt_status fixture_create(const fixture *f, const char *name, const char *resume,
                         const char *const *settings, const tt_file_ops *files, fixture_run *out);
void fixture_destroy(fixture_run *run);
/* Create, run to the end, destroy; returns the run's status. */
tt_status fixture_train(const fixture *f, const char *name, const char *resume,
                        const char *const *settings);

/* Fails the test unless both checkpoints hold bit-equal tensors. */
void assert_same_tensors(const char *a, const char *b);
/* root/name/checkpoints/step-<step>.h5 */
const char *fixture_checkpoint(const fixture *f, const char *name, int64_t step);
/* Reads a whole file; NUL-terminated, to be freed. */
char *fixture_read(const char *path);

#endif
