/* What it takes to run this again: the record in checkpoints and in the receipt. */
#include "internal.h"

#include "tt_build_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

/* One field of /proc/cpuinfo's first processor, or "unknown". */
static void cpu_field(const char *field, char *out, size_t capacity)
{
    snprintf(out, capacity, "unknown");
    FILE *stream = fopen("/proc/cpuinfo", "re");
    if (!stream) {
        return;
    }
    char line[8192];
    size_t length = strlen(field);
    while (fgets(line, sizeof line, stream)) {
        char *value = strchr(line, ':');
        if (strncmp(line, field, length) == 0 && value) {
            value += strspn(value, ": \t");
            value[strcspn(value, "\n")] = '\0';
            snprintf(out, capacity, "%s", value);
            break;
        }
    }
    fclose(stream);
}

static json_t *machine(void)
{
    char model[256];
    char flags[8192];
    char digest[TT_SHA256_HEX] = "";
    struct utsname system;
    cpu_field("model name", model, sizeof model);
    cpu_field("flags", flags, sizeof flags);
    (void)tt_sha256_of(flags, strlen(flags), digest);
    if (uname(&system) != 0) {
        memset(&system, 0, sizeof system);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "cpu", model, "cpu_flags_sha256", digest,
                     "kernel", system.release, "system", system.sysname, "architecture",
                     system.machine, "threads_available", tt_threads_available());
}

static json_t *build(void)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s}}", "version",
                     TT_BUILD_VERSION, "commit", TT_BUILD_COMMIT, "compiler", TT_BUILD_COMPILER,
                     "flags", TT_BUILD_FLAGS, "sanitize", TT_BUILD_SANITIZE, "libraries", "hdf5",
                     TT_BUILD_HDF5, "libyaml", TT_BUILD_YAML, "jansson", TT_BUILD_JANSSON,
                     "openssl", TT_BUILD_CRYPTO);
}

/* Only what changes how a run computes; never the whole environment, which holds secrets. */
static json_t *environment(void)
{
    static const char *const names[] = {
        "OMP_NUM_THREADS",  "OMP_PROC_BIND",   "OMP_PLACES",
        "OMP_SCHEDULE",     "OMP_WAIT_POLICY", "GOMP_SPINCOUNT",
        "MALLOC_ARENA_MAX", "LD_PRELOAD",      "CUDA_VISIBLE_DEVICES"};
    json_t *out = json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]); // NOLINT(concurrency-mt-unsafe): read only
        if (value) {
            json_object_set_new(out, names[i], json_string(value));
        }
    }
    return out;
}

json_t *tt_reproducibility_record(const tt_orchestrator *o)
{
    char digest[TT_SHA256_HEX] = "";
    (void)tt_config_digest(o->config, digest);
    return json_pack("{s:i, s:s, s:s, s:s, s:o, s:o, s:o, s:O}", "schema", 1, "run_id", o->run_id,
                     "started", o->started_at, "config_sha256", digest, "build", build(), "machine",
                     machine(), "environment", environment(), "facts", o->notes);
}
