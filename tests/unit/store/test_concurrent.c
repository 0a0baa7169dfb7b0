/* Threads: a background writer beside opens, prunes and file replacements in one process. */
#include "scratch.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAVES = 80, REPLACES = 200 };

#define FORM "step-####.h5"

typedef struct shared {
    const char *directory;
    bool finished;
    int failures; /* cmocka's asserts belong to the main thread */
    int opened;
} shared;

static void count_failure(shared *at, bool good)
{
    if (!good) {
        __atomic_add_fetch(&at->failures, 1, __ATOMIC_SEQ_CST);
        print_error("%s\n", tt_error_message());
    }
}

static void *save_many(void *user)
{
    shared *at = user;
    char name[32];
    for (int i = 1; i <= SAVES; i++) {
        snprintf(name, sizeof name, "step-%04d.h5", i);
        count_failure(at, sample_save(at->directory, name, i, NULL) == TT_OK);
        count_failure(at, tt_store_prune(at->directory, FORM, SAVES, NULL, NULL) == TT_OK);
    }
    __atomic_store_n(&at->finished, true, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *open_many(void *user)
{
    shared *at = user;
    char path[PATH_MAX];
    while (!__atomic_load_n(&at->finished, __ATOMIC_SEQ_CST)) {
        tt_store *store = NULL;
        int64_t cursor = -1;
        tt_status status = tt_store_newest(at->directory, FORM, NULL, path, sizeof path);
        if (status == TT_ENOTFOUND)
            continue; /* none yet */
        if (status == TT_OK)
            status = tt_store_open(path, &store);
        if (status == TT_OK)
            status = tt_store_read(store, tt_store_find(store, "/state/cursor"), 0, &cursor, 8);
        count_failure(at, status == TT_OK && cursor == tt_store_get_header(store)->step);
        tt_store_close(store);
        __atomic_add_fetch(&at->opened, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void *replace_many(void *user)
{
    shared *at = user;
    char path[PATH_MAX], text[64];
    snprintf(path, sizeof path, "%s/status.json", at->directory);
    for (int i = 0; i < REPLACES; i++) {
        memset(text, 'a' + i % 26, sizeof text);
        count_failure(at, tt_file_replace(NULL, path, text, sizeof text) == TT_OK);
        count_failure(at, tt_store_prune(at->directory, FORM, SAVES, NULL, NULL) == TT_OK);
    }
    return NULL;
}

static void test_writers_and_readers(void **state)
{
    shared at = {.directory = *state};
    pthread_t threads[5];
    void *(*const jobs[5])(void *) = {save_many, open_many, open_many, replace_many, replace_many};
    for (int i = 0; i < 5; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, jobs[i], &at), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(at.failures, 0);
    assert_true(at.opened > 0);
    assert_int_equal(scratch_count(*state, ".tmp."), 0);
    assert_int_equal(scratch_count(*state, "step-"), SAVES);
    size_t bytes;
    char *text = read_file(scratch_path(*state, "status.json"), &bytes);
    assert_int_equal(bytes, 64);
    for (size_t i = 1; i < bytes; i++)
        assert_int_equal(text[i], text[0]); /* never a mixture */
    free(text);
}

/* One open container, many readers. */
static void *read_many(void *user)
{
    const tt_store *store = user;
    float weights[15];
    for (int i = 0; i < 200; i++) {
        if (tt_store_read(store, tt_store_find(store, "/params/w"), 0, weights, 60) != TT_OK ||
            weights[14] < 21.0F)
            return user;
    }
    return NULL;
}

static void test_shared_reading(void **state)
{
    tt_store *store = NULL;
    pthread_t threads[4];
    assert_ok(sample_save(*state, "a.h5", 7, NULL));
    assert_ok(tt_store_open(scratch_path(*state, "a.h5"), &store));
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, store), 0);
    for (int i = 0; i < 4; i++) {
        void *result = store;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    tt_store_close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_writers_and_readers),
        TEST(test_shared_reading),
    };
    return cmocka_run_group_tests_name("store: threads", tests, NULL, NULL);
}
