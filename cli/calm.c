#include "calm.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct setting {
    const char *name, *value;
    const char *const *rivals; /* what the user may have set to the same end; ends with NULL */
} setting;

static const char *const waiting[] = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", NULL};
static const char *const placing[] = {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY",
                                      "KMP_AFFINITY", NULL};

static const setting settings[] = {
    /* Turns of the waiting loop: some ten microseconds. Longer than the gaps between the operations
     * of a step, far shorter than a scheduler's time slice. */
    {"GOMP_SPINCOUNT", "2000", waiting},
    {"OMP_PLACES", "cores", placing},
    {"OMP_PROC_BIND", "close", placing},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static bool any_set(const char *const *names)
{
    while (*names && !getenv(*names)) { // NOLINT(concurrency-mt-unsafe): no thread yet
        names++;
    }
    return *names != NULL;
}

void cli_calm_threads(char **argv)
{
    char self[4096];
    bool wanted[SETTINGS];
    bool any = false;
    for (int i = 0; i < SETTINGS; i++) {
        wanted[i] = !any_set(settings[i].rivals);
        any = any || wanted[i];
    }
    ssize_t length = any ? readlink("/proc/self/exe", self, sizeof self - 1) : -1;
    if (length <= 0) {
        return;
    }
    for (int i = 0; i < SETTINGS; i++) {
        if (wanted[i] && setenv(settings[i].name, settings[i].value, 1) != 0) {
            return;
        }
    }
    self[length] = '\0';
    execv(self, argv); /* comes back only if it failed: then the run goes on as it is */
}
