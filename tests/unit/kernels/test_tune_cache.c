/* What the tuner keeps: read back as it was, trusted for the same question alone, and never where a
 * byte of it is wrong. */
#include "fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tune.h"

static const tt_tile tiles[] = {{32, 32, 32}, {64, 64, 64}, {64, 128, 128}};
static const tt_gemm_shape shapes[] = {{TT_OP_LINEAR_FORWARD, 96, 80, 70, 2},
                                       {TT_OP_LINEAR_WGRAD, 96, 64, 128, 1}};

typedef struct bench {
    tt_context *context;
    tt_tune_options options;
    char folder[64], path[128];
    int warnings;
} bench;

static void count_warning(void *user, tt_log_level level, const char *message)
{
    (void)message;
    *(int *)user += level >= TT_LOG_WARN;
}

static void setup(bench *b, tt_log_sink *log)
{
    tt_context_options options;
    tt_context_options_init(&options);
    options.threads = 2;
    options.numerics = TT_NUMERICS_EXACT;
    *b = (bench){.warnings = 0};
    assert_int_equal(tt_context_create(&options, &b->context), TT_OK);
    snprintf(b->folder, sizeof b->folder, "/tmp/tt_tune_XXXXXX");
    assert_non_null(mkdtemp(b->folder));
    strcat(b->folder, "/a/b"); /* made when it is needed */
    *log = (tt_log_sink){count_warning, &b->warnings};
    tt_tune_options_init(&b->options);
    b->options.shapes = shapes;
    b->options.shape_count = 2;
    b->options.tiles = tiles;
    b->options.tile_count = 3;
    b->options.budget_seconds = 100;
    b->options.cache = b->folder;
    b->options.log = log;
}

static void find_file(bench *b)
{
    tt_text path;
    tt_text_init(&path);
    assert_int_equal(tt_tune_cache_file(b->context, &b->options, &path), TT_OK);
    snprintf(b->path, sizeof b->path, "%s", path.data);
    tt_text_clear(&path);
}

static void teardown(bench *b)
{
    char command[128];
    *strstr(b->folder, "/a/b") = '\0';
    snprintf(command, sizeof command, "rm -rf %s", b->folder);
    assert_int_equal(system(command), 0);
    tt_context_destroy(b->context);
}

static void tune(bench *b, bool cached, tt_tuning *out)
{
    assert_int_equal(tt_tune(b->context, &b->options, out), TT_OK);
    assert_true(out->complete);
    assert_int_equal(out->cached, cached);
}

static void test_round_trip(void **state)
{
    (void)state;
    bench b;
    tt_log_sink log;
    tt_tuning first, second;
    setup(&b, &log);
    tt_text path;
    tt_text_init(&path);
    assert_int_equal(tt_tune_cache_file(b.context, &b.options, &path), TT_ENOTFOUND);
    tt_text_clear(&path);
    tune(&b, false, &first);
    tune(&b, true, &second);
    assert_memory_equal(&first.tile, &second.tile, sizeof first.tile);
    assert_memory_equal(first.chosen, second.chosen, sizeof first.chosen);
    assert_int_equal(first.candidate_count, second.candidate_count);
    assert_memory_equal(first.cells, second.cells, 2 * first.candidate_count * sizeof *first.cells);
    tt_tuning_clear(&second);
    b.options.fresh = true;
    tune(&b, false, &second);
    assert_int_equal(b.warnings, 0);
    tt_tuning_clear(&first);
    tt_tuning_clear(&second);
    teardown(&b);
}

/* Another question is not answered by it. */
static void test_other_questions(void **state)
{
    (void)state;
    bench b;
    tt_log_sink log;
    tt_tuning tuning;
    setup(&b, &log);
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    const tt_tune_options good = b.options;
    const tt_gemm_shape other_shape[] = {shapes[0], {TT_OP_LINEAR_WGRAD, 96, 64, 128, 2}};
    b.options.shapes = other_shape;
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    b.options = good;
    b.options.tile_count = 2;
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    b.options = good;
    b.options.fixed[0] = true;
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    b.options = good;
    assert_int_equal(tt_context_set_compute(b.context, TT_BF16), TT_OK);
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    tune(&b, true, &tuning);
    tt_tuning_clear(&tuning);
    assert_int_equal(tt_context_set_compute(b.context, TT_F32), TT_OK);
    tune(&b, true, &tuning);
    tt_tuning_clear(&tuning);
    /* A file under another question's name is that question's answer no more. */
    find_file(&b);
    char wrong[128];
    tt_text path;
    snprintf(wrong, sizeof wrong, "%s", b.path);
    b.options.tile_count = 1;
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    find_file(&b);
    assert_int_equal(rename(wrong, b.path), 0);
    tt_text_init(&path);
    assert_int_equal(tt_tune_cache_file(b.context, &b.options, &path), TT_ENOTFOUND);
    tt_text_clear(&path);
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    assert_int_equal(b.warnings, 0);
    teardown(&b);
}

static char *read_whole(const char *path, size_t *bytes)
{
    char *data = malloc(1 << 16);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    *bytes = fread(data, 1, 1 << 16, file);
    fclose(file);
    return data;
}

static void write_whole(const char *path, const char *data, size_t bytes)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Every byte in turn, and every length. */
static void test_damage(void **state)
{
    (void)state;
    bench b;
    tt_log_sink log;
    tt_tuning tuning;
    size_t bytes;
    setup(&b, &log);
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    find_file(&b);
    char *good = read_whole(b.path, &bytes), *bad = malloc(bytes);
    tt_text path;
    for (size_t i = 0; i < bytes; i++) {
        memcpy(bad, good, bytes);
        bad[i] = (char)(bad[i] ^ 1 << i % 8);
        write_whole(b.path, bad, bytes);
        tt_text_init(&path);
        assert_int_equal(tt_tune_cache_file(b.context, &b.options, &path), TT_ECORRUPT);
        tt_text_clear(&path);
    }
    for (size_t length = 0; length < bytes; length += 7) {
        write_whole(b.path, good, length);
        tt_text_init(&path);
        assert_int_equal(tt_tune_cache_file(b.context, &b.options, &path), TT_ECORRUPT);
        tt_text_clear(&path);
    }
    /* It is told of, measured again, and whole afterwards. */
    assert_int_equal(b.warnings, 0);
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    assert_int_equal(b.warnings, 1);
    tune(&b, true, &tuning);
    tt_tuning_clear(&tuning);
    free(good);
    free(bad);
    teardown(&b);
}

/* A clock of a tick at every question. */
static uint64_t tick(void *user)
{
    return *(uint64_t *)user += 1000000;
}

static size_t count_known(const tt_tuning *tuning)
{
    size_t known = 0;
    for (size_t i = 0; i < tuning->shape_count * tuning->candidate_count; i++)
        known += tuning->cells[i].state >= TT_TUNE_WRONG;
    return known;
}

/* A start that runs out of time leaves what it knows to the next. */
static void test_further(void **state)
{
    (void)state;
    bench b;
    tt_log_sink log;
    tt_tuning tuning;
    uint64_t now = 0;
    const tt_clock clock = {tick, &now};
    size_t known = 0, starts = 0;
    setup(&b, &log);
    b.options.clock = &clock;
    b.options.budget_seconds = 0;
    assert_int_equal(tt_tune(b.context, &b.options, &tuning), TT_OK); /* nothing to keep */
    tt_tuning_clear(&tuning);
    tt_text path;
    tt_text_init(&path);
    assert_int_equal(tt_tune_cache_file(b.context, &b.options, &path), TT_ENOTFOUND);
    tt_text_clear(&path);
    b.options.budget_seconds = 0.1;
    for (bool complete = false; !complete; starts++) {
        assert_int_equal(tt_tune(b.context, &b.options, &tuning), TT_OK);
        complete = tuning.complete;
        assert_false(tuning.cached);
        assert_true(starts < 100 && count_known(&tuning) >= known);
        known = count_known(&tuning);
        tt_tuning_clear(&tuning);
    }
    assert_true(starts > 2);
    tune(&b, true, &tuning);
    tt_tuning_clear(&tuning);
    /* What is measured afresh replaces it only when it is whole. */
    b.options.fresh = true;
    assert_int_equal(tt_tune(b.context, &b.options, &tuning), TT_OK);
    assert_false(tuning.complete);
    tt_tuning_clear(&tuning);
    b.options.fresh = false;
    tune(&b, true, &tuning);
    tt_tuning_clear(&tuning);
    teardown(&b);
}

/* f32 against bf16: the same answer from the cache, and nothing of the context changes. */
static void test_compute(void **state)
{
    (void)state;
    bench b;
    tt_log_sink log;
    tt_tuning tunings[2], first, again;
    setup(&b, &log);
    assert_int_equal(tt_context_set_tile(b.context, tiles[1]), TT_OK);
    assert_int_equal(tt_tune_compute(b.context, &b.options, tunings, &first), TT_OK);
    assert_true(first.complete && !first.cached && first.candidate_count == 2);
    assert_string_equal(first.candidates[1].variant, "bf16");
    tt_tuning_clear(&tunings[0]);
    tt_tuning_clear(&tunings[1]);
    assert_int_equal(tt_tune_compute(b.context, &b.options, tunings, &again), TT_OK);
    assert_true(again.complete && again.cached && tunings[0].cached && tunings[1].cached);
    assert_memory_equal(again.chosen, first.chosen, sizeof first.chosen);
    assert_memory_equal(again.cells, first.cells, 4 * sizeof *first.cells);
    assert_memory_equal(&again.tile, &tunings[first.chosen[0]].tile, sizeof again.tile);
    tt_tuning_clear(&again);
    /* Each tuning is that of a run which was told its compute type. */
    tune(&b, true, &again);
    tt_tuning_clear(&again);
    assert_int_equal(tt_context_compute(b.context), TT_F32);
    assert_int_equal(tt_context_tile(b.context).k, tiles[1].k);
    tt_tuning_clear(&tunings[0]);
    tt_tuning_clear(&tunings[1]);
    /* Without time there is no answer, and f32 stays. */
    b.options.cache = NULL;
    b.options.budget_seconds = 0;
    assert_int_equal(tt_tune_compute(b.context, &b.options, tunings, &again), TT_OK);
    assert_true(!again.complete && again.chosen[0] == 0);
    tt_tuning_clear(&again);
    tt_tuning_clear(&tunings[0]);
    tt_tuning_clear(&tunings[1]);
    tt_tuning_clear(&first);
    assert_int_equal(tt_tune_compute(b.context, NULL, tunings, &again), TT_EINVAL);
    teardown(&b);
}

/* What cannot be kept is told of, and the run goes on. */
static void test_no_place(void **state)
{
    (void)state;
    bench b;
    tt_log_sink log;
    tt_tuning tuning;
    setup(&b, &log);
    b.options.cache = "/proc/trimtab";
    tune(&b, false, &tuning);
    tt_tuning_clear(&tuning);
    assert_int_equal(b.warnings, 1);
    teardown(&b);
}

/* Writers and readers side by side: whoever reads, reads a whole file. */
static void test_side_by_side(void **state)
{
    (void)state;
    enum { PROCESSES = 4, TURNS = 200 };
    bench b;
    tt_log_sink log;
    tt_tuning tuning;
    tt_text key;
    setup(&b, &log);
    tune(&b, false, &tuning);
    tt_text_init(&key);
    tt_text_add(&key, "one question\n");
    assert_int_equal(tt_tune_save(b.folder, key.data, &tuning), TT_OK);
    tt_text path;
    tt_text_init(&path);
    assert_int_equal(tt_tune_path(b.folder, key.data, &path), TT_OK);
    for (int p = 0; p < PROCESSES; p++) {
        if (fork() == 0) {
            int failed = 0;
            for (int i = 0; i < TURNS; i++)
                failed += p % 2 == 0 ? tt_tune_save(b.folder, key.data, &tuning) != TT_OK
                                     : tt_tune_load(path.data, key.data, &tuning) != TT_OK;
            _exit(failed != 0);
        }
    }
    for (int p = 0; p < PROCESSES; p++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    tt_text_clear(&path);
    tt_text_clear(&key);
    tt_tuning_clear(&tuning);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_other_questions),
        cmocka_unit_test(test_damage),       cmocka_unit_test(test_no_place),
        cmocka_unit_test(test_side_by_side), cmocka_unit_test(test_further),
        cmocka_unit_test(test_compute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
