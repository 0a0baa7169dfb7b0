/* Dependencies run one way: what every module's files include is checked against the design. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct rule {
    const char *folder;
    const char *headers;   /* public headers that it may include, separated by spaces */
    const char *libraries; /* of the restricted libraries below, those it may include */
} rule;

/* base <- store <- orchestrator <- training <- cli; base <- kernels <- compression, kvcache <-
 * training. */
static const rule rules[] = {
    {"base", "base.h", "openssl/ xxhash.h Random123/"},
    {"store", "base.h store.h", "hdf5.h jansson.h seccomp.h"},
    {"orchestrator", "base.h store.h config.h orchestrator.h statistics.h", "yaml.h jansson.h"},
    {"kernels", "base.h kernels.h kernels_ops.def", "omp.h hwloc.h"},
    {"compression", "base.h kernels.h kernels_ops.def compression.h", "omp.h"},
    {"kvcache", "base.h kernels.h kvcache.h", ""},
    {"training",
     "base.h store.h config.h orchestrator.h statistics.h kernels.h compression.h kvcache.h "
     "training.h",
     "jansson.h"},
    {"cli", "base.h store.h config.h orchestrator.h statistics.h kernels.h training.h",
     "jansson.h"},
};

static const char *const restricted[] = {
    "hdf5.h", "H5",         "yaml.h",  "jansson.h", "openssl/", "xxhash.h", "seccomp.h",
    "omp.h",  "Random123/", "hwloc.h", "cuda",      "nccl.h",   "cublas"};

static const rule *current;
static int files;
static int violations;

static bool in_list(const char *list, const char *word, size_t length)
{
    for (const char *at = list; (at = strstr(at, word)) != NULL; at++) {
        bool starts = at == list || at[-1] == ' ';
        if (starts && (at[length] == ' ' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static void complain(const char *path, int line, const char *what)
{
    print_message("%s:%d: a file of %s/ must not include %s\n", path, line, current->folder, what);
    violations++;
}

/* The one private header of another module that some may see: faults on purpose. */
static bool is_fault(const char *path, const char *name)
{
    return strcmp(name, "../../orchestrator/fault.h") == 0 &&
           (strstr(path, "/training/drill/") || strstr(path, "/training/calibrate/"));
}

static void check_include(const char *path, int line, const char *name)
{
    if (strncmp(name, "trimtab/", 8) == 0) {
        if (!in_list(current->headers, name + 8, strlen(name + 8))) {
            complain(path, line, name);
        }
        return;
    }
    if (strncmp(name, "../../", 6) == 0 && !is_fault(path, name)) {
        complain(path, line, name);
    }
    /* A path out of the folder reaches into another module's private headers. */
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        char private_folder[64];
        snprintf(private_folder, sizeof private_folder, "%s/", rules[i].folder);
        if (&rules[i] != current && strstr(name, private_folder) == name) {
            complain(path, line, name);
        }
    }
    for (size_t i = 0; i < sizeof restricted / sizeof *restricted; i++) {
        if (strncmp(name, restricted[i], strlen(restricted[i])) == 0 &&
            !in_list(current->libraries, restricted[i], strlen(restricted[i]))) {
            complain(path, line, name);
        }
    }
}

static int check_file(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)where;
    size_t length = strlen(path);
    bool source = length > 2 &&
                  (strcmp(path + length - 2, ".c") == 0 || strcmp(path + length - 2, ".h") == 0 ||
                   strstr(path, ".inc") || strstr(path, ".cu"));
    if (kind != FTW_F || !source) {
        return 0;
    }
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char text[1024];
    files++;
    for (int line = 1; fgets(text, sizeof text, file); line++) {
        char name[256];
        if (sscanf(text, " # include %*[<\"]%255[^>\"]", name) == 1) {
            check_include(path, line, name);
        }
    }
    fclose(file);
    return 0;
}

static void includes_follow_the_design(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        char folder[512];
        current = &rules[i];
        files = 0;
        snprintf(folder, sizeof folder, "%s/%s", TT_SOURCE_DIR, current->folder);
        assert_int_equal(nftw(folder, check_file, 16, FTW_PHYS), 0);
        assert_true(files > 0);
    }
    assert_int_equal(violations, 0);
}

/* The check itself can fail. */
static void a_violation_is_seen(void **state)
{
    (void)state;
    current = &rules[3]; /* kernels */
    int before = violations;
    check_include("example.c", 1, "trimtab/orchestrator.h");
    check_include("example.c", 2, "hdf5.h");
    check_include("example.c", 3, "training/internal.h");
    check_include("kernels/example.c", 3, "../../orchestrator/fault.h");
    check_include("/training/drill/example.c", 3, "../../orchestrator/internal.h");
    assert_int_equal(violations - before, 5);
    check_include("/training/drill/example.c", 4, "../../orchestrator/fault.h");
    check_include("example.c", 4, "trimtab/kernels.h");
    check_include("example.c", 5, "stdio.h");
    assert_int_equal(violations - before, 5);
    violations = before;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(includes_follow_the_design),
        cmocka_unit_test(a_violation_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
