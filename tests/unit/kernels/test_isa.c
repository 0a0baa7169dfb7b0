/* What the kernels believe of the processor against what the system says of it. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <trimtab/kernels.h>

static const tt_isa isas[] = {TT_ISA_ANY, TT_ISA_X86_64_V3, TT_ISA_X86_64_V4, TT_ISA_AVX512_BF16,
                              TT_ISA_AMX_BF16};
enum { ISAS = sizeof isas / sizeof *isas };

/* The "flags" of /proc/cpuinfo, with a space before and after each; "" where there are none. */
static void read_flags(char *flags, size_t bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    flags[0] = '\0';
    if (file == NULL)
        return;
    while (fgets(flags, (int)bytes, file) != NULL && strncmp(flags, "flags", 5) != 0)
        flags[0] = '\0';
    fclose(file);
    char *end = strchr(flags, '\n');
    if (end != NULL)
        *end = ' ';
}

static bool has_all(const char *flags, const char *const *names)
{
    char spaced[32];
    for (; *names != NULL; names++) {
        (void)snprintf(spaced, sizeof spaced, " %s ", *names);
        if (strstr(flags, spaced) == NULL)
            return false;
    }
    return true;
}

/* The system lists a feature only if it saves the feature's registers. */
static void test_agrees_with_the_system(void **state)
{
    (void)state;
    static const char *const v3[] = {"avx2", "fma",   "f16c",   "bmi1",   "bmi2",
                                     "abm",  "movbe", "sse4_2", "popcnt", NULL};
    static const char *const v4[] = {"avx512f",  "avx512bw", "avx512cd",
                                     "avx512dq", "avx512vl", NULL};
    static const char *const bf16[] = {"avx512_bf16", NULL};
    static const char *const amx[] = {"amx_tile", "amx_bf16", NULL};
    static char flags[16384];
    read_flags(flags, sizeof flags);
    if (flags[0] == '\0')
        skip();
    bool here = has_all(flags, v3);
    assert_int_equal(tt_isa_available(TT_ISA_X86_64_V3), here);
    here = here && has_all(flags, v4);
    assert_int_equal(tt_isa_available(TT_ISA_X86_64_V4), here);
    here = here && has_all(flags, bf16);
    assert_int_equal(tt_isa_available(TT_ISA_AVX512_BF16), here);
    here = here && has_all(flags, amx);
    assert_int_equal(tt_isa_available(TT_ISA_AMX_BF16), here);
}

/* Each instruction set has those before it. */
static void test_levels(void **state)
{
    (void)state;
    assert_true(tt_isa_available(TT_ISA_ANY));
    for (int i = 1; i < ISAS; i++)
        assert_true(!tt_isa_available(isas[i]) || tt_isa_available(isas[i - 1]));
    assert_false(tt_isa_available((tt_isa)ISAS));
}

static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {"any", "x86-64-v3", "x86-64-v4", "avx512-bf16", "amx-bf16"};
    for (int i = 0; i < ISAS; i++)
        assert_string_equal(tt_isa_name(isas[i]), names[i]);
    assert_string_equal(tt_isa_name((tt_isa)ISAS), "?");
}

static void *ask(void *available)
{
    for (int i = 0; i < ISAS; i++)
        ((bool *)available)[i] = tt_isa_available(isas[i]);
    return NULL;
}

/* The answer is the same for every thread. */
static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    bool answers[THREADS][ISAS], here[ISAS];
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, ask, answers[t]), 0);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    ask(here);
    for (int t = 0; t < THREADS; t++)
        assert_memory_equal(answers[t], here, sizeof here);
}

/* Where a signal stack is too small for tiles, the system refuses them, and so do we. Runs before
 * this process has asked; the child asks for itself. */
static void test_small_signal_stack(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static char small[4096];
        stack_t stack = {.ss_sp = small, .ss_size = sizeof small};
        if (sigaltstack(&stack, NULL) != 0)
            _exit(0); /* too small for anything */
        _exit(tt_isa_available(TT_ISA_AMX_BF16) ? 1 : 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_signal_stack), /* first: nobody has asked yet */
        cmocka_unit_test(test_agrees_with_the_system),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
