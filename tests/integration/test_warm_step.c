/* A warm step allocates nothing: malloc and its relatives are counted while steps run. */
#include "fixture.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

/* The dynamic linker takes these before the C library's. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
static int counting;
static int allocations;

static void count(void)
{
    if (__atomic_load_n(&counting, __ATOMIC_RELAXED)) {
        __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    }
}

void *malloc(size_t bytes)
{
    count();
    return __libc_malloc(bytes);
}

void *calloc(size_t number, size_t bytes)
{
    count();
    return __libc_calloc(number, bytes);
}

void *realloc(void *old, size_t bytes)
{
    count();
    return __libc_realloc(old, bytes);
}

static void check_warm_steps(const char *const *settings, int cold)
{
    fixture f;
    fixture_run run;
    fixture_init(&f, 20000);
    assert_int_equal(fixture_create(&f, "warm", NULL, settings, NULL, &run), TT_OK);
    assert_int_equal(tt_orchestrator_start(run.training->orchestrator), TT_OK);
    for (int i = 0; i < cold; i++) {
        assert_int_equal(tt_training_step(run.training, NULL), TT_OK);
    }
    void *probe = malloc(16); /* the counter itself works */
    free(probe);
    counting = 1;
    probe = malloc(16);
    assert_int_equal(allocations, 1);
    free(probe);
    allocations = 0;
    tt_status status = TT_OK;
    for (int i = 0; i < 6 && !status; i++) {
        status = tt_training_step(run.training, NULL);
    }
    counting = 0;
    assert_int_equal(status, TT_OK);
    assert_int_equal(allocations, 0);
    fixture_destroy(&run);
    fixture_clear(&f);
}

static void warm_steps_allocate_nothing(void **state)
{
    (void)state;
    static const char *const settings[] = {"checkpoint.every_steps=0", "train.accumulate=2", NULL};
    check_warm_steps(settings, 3);
}

/* Tensors still change their codecs: at step 8 most go from bf16 to int8. */
static void nor_do_codecs(void **state)
{
    (void)state;
    static const char *const settings[] = {"checkpoint.every_steps=0", "model.channels=64",
                                           "compression.moments=int8",
                                           "compression.activations=int8", NULL};
    check_warm_steps(settings, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warm_steps_allocate_nothing),
                                       cmocka_unit_test(nor_do_codecs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
