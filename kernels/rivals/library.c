/* Finding and loading the libraries, once per process. */
#include "library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifdef TT_ONEDNN_MATMUL
#include "onednn.h"
#endif

typedef struct loaded {
    char lacks[256]; /* why it cannot be used; "" where it can */
    char version[64];
} loaded;

static tt_openblas openblas;
static tt_onednn onednn;
static loaded states[TT_LIBRARY_COUNT];

const char *tt_library_name(tt_library library)
{
    switch (library) {
    case TT_LIBRARY_NONE:
        return "none";
    case TT_LIBRARY_OPENBLAS:
        return "OpenBLAS";
    case TT_LIBRARY_ONEDNN:
        return "oneDNN";
    case TT_LIBRARY_COUNT:
        break;
    }
    return "?";
}

bool tt_library_find(void *handle, const char *name, void *function)
{
    void *address = dlsym(handle, name);
    memcpy(function, &address, sizeof address); /* C has no cast for this */
    return address != NULL;
}

/* The first of the names that can be loaded and that `take` takes, which else says why not. */
static bool load_first(const char *const *names, bool (*take)(void *handle, loaded *state),
                       const char *package, loaded *state)
{
    for (const char *const *name = names; *name != NULL; name++) {
        void *handle = dlopen(*name, RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL)
            continue;
        if (take(handle, state)) {
            state->lacks[0] = '\0';
            return true;
        }
        dlclose(handle);
    }
    if (state->lacks[0] == '\0')
        snprintf(state->lacks, sizeof state->lacks, "%s is not installed (Debian: %s)", names[0],
                 package);
    return false;
}

/* ---- OpenBLAS ---- */

/* Distributions keep the OpenMP build under a name or in a folder of its own; the plain name may
 * lead to any build. */
static const char *const openblas_names[] = {
#ifdef TT_LIBRARY_FOLDER
    TT_LIBRARY_FOLDER "/openblas-openmp/libopenblas.so.0",
#endif
    "libopenblaso.so.0", "libopenblas.so.0", NULL};

/* Threads of its own would compete with ours: only the OpenMP build will do. */
static bool take_openblas(void *handle, loaded *state)
{
    if (!tt_library_find(handle, "cblas_sgemm", &openblas.sgemm) ||
        !tt_library_find(handle, "openblas_set_num_threads", &openblas.set_num_threads) ||
        !tt_library_find(handle, "openblas_get_parallel", &openblas.get_parallel) ||
        !tt_library_find(handle, "openblas_get_config", &openblas.get_config)) {
        snprintf(state->lacks, sizeof state->lacks, "the OpenBLAS that is installed is too old");
        return false;
    }
    if (openblas.get_parallel() != 2) {
        snprintf(state->lacks, sizeof state->lacks,
                 "the OpenBLAS that is installed has threads of its own; its OpenMP build is "
                 "needed (Debian: libopenblas0-openmp)");
        return false;
    }
    snprintf(state->version, sizeof state->version, "%s", openblas.get_config());
    return true;
}

static void load_openblas(void)
{
    (void)load_first(openblas_names, take_openblas, "libopenblas0-openmp",
                     &states[TT_LIBRARY_OPENBLAS]);
}

static pthread_once_t openblas_once = PTHREAD_ONCE_INIT;

const tt_openblas *tt_openblas_load(void)
{
    pthread_once(&openblas_once, load_openblas);
    return states[TT_LIBRARY_OPENBLAS].lacks[0] == '\0' ? &openblas : NULL;
}

/* ---- oneDNN ---- */

/* Structures differ between major versions: where this build has seen the headers of one, that one
 * it must be. */
#ifdef TT_ONEDNN_MAJOR
#define TT_TEXT_(x) #x
#define TT_TEXT(x)  TT_TEXT_(x)
static const char *const onednn_names[] = {"libdnnl.so." TT_TEXT(TT_ONEDNN_MAJOR), NULL};
#else
static const char *const onednn_names[] = {"libdnnl.so.3", "libdnnl.so.2", NULL};
#endif

static bool take_onednn(void *handle, loaded *state)
{
    onednn.handle = handle;
    if (!tt_library_find(handle, "dnnl_sgemm", &onednn.sgemm) ||
        !tt_library_find(handle, "dnnl_version", &onednn.version) ||
        !tt_library_find(handle, "omp_set_num_threads", &onednn.set_num_threads)) {
        snprintf(state->lacks, sizeof state->lacks,
                 "the oneDNN that is installed was not built for OpenMP (Debian: libdnnl2)");
        return false;
    }
    const tt_onednn_version *version = onednn.version();
#ifdef TT_ONEDNN_MAJOR
    if (version->major != TT_ONEDNN_MAJOR) {
        snprintf(state->lacks, sizeof state->lacks,
                 "oneDNN %d is installed, and this build was made for version %d", version->major,
                 TT_ONEDNN_MAJOR);
        return false;
    }
#endif
#ifdef TT_ONEDNN_MATMUL
    if (!tt_onednn_find(handle)) {
        snprintf(state->lacks, sizeof state->lacks,
                 "the oneDNN that is installed lacks functions of its headers");
        return false;
    }
#endif
    snprintf(state->version, sizeof state->version, "oneDNN %d.%d.%d", version->major,
             version->minor, version->patch);
    return true;
}

static void load_onednn(void)
{
    (void)load_first(onednn_names, take_onednn, "libdnnl2", &states[TT_LIBRARY_ONEDNN]);
}

static pthread_once_t onednn_once = PTHREAD_ONCE_INIT;

const tt_onednn *tt_onednn_load(void)
{
    pthread_once(&onednn_once, load_onednn);
    return states[TT_LIBRARY_ONEDNN].lacks[0] == '\0' ? &onednn : NULL;
}

/* ---- what the registry asks ---- */

static bool load(tt_library library)
{
    return library == TT_LIBRARY_NONE ||
           (library == TT_LIBRARY_OPENBLAS && tt_openblas_load() != NULL) ||
           (library == TT_LIBRARY_ONEDNN && tt_onednn_load() != NULL);
}

const char *tt_library_lacks(tt_library library)
{
    return load(library) ? "" : states[library].lacks;
}

const char *tt_library_version(tt_library library)
{
    return load(library) ? states[library].version : "";
}
