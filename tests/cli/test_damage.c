/* Damaged checkpoints: every command that reads one refuses it with 65. */
#include "harness.h"

#include "trimtab/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FLIPS = 200 };

static const char good[] = "run/checkpoints/step-0000000012.h5";

static int make_checkpoint(void **state)
{
    if (scratch_setup(state) != 0) {
        return -1;
    }
    make_run("run", "-s model.channels=8 -s checkpoint.every_steps=0 -s sample.tokens=0");
    return 0;
}

/* A linear congruential generator (Knuth's MMIX): the same bits on every machine. */
static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return *seed >> 16;
}

static void refused_everywhere(const char *path, const char *part)
{
    expect_error(65, part, "inspect %s", path);
    expect_error(65, part, "inspect --json %s", path);
    expect_error(65, part, "diff %s %s", path, good);
    expect_error(65, part, "diff %s %s", good, path);
    expect_error(65, part, "generate %s", path);
    expect_error(65, part, "run tiny.yaml -s model.channels=8 -o elsewhere --resume %s", path);
    outcome o = run("verify %s", path);
    assert_int_equal(o.code, 65);
    assert_true(holds(o.out, "BAD"));
    assert_true(holds(o.out, path));
    assert_string_equal(o.err, "trimtab: 1 of 1 checkpoint did not verify\n");
    outcome_clear(&o);
}

static void test_damage(void **state)
{
    (void)state;
    size_t bytes;
    char *data = read_file(good, &bytes);
    write_file("cut.h5", data, bytes - 1);
    refused_everywhere("cut.h5", "cut.h5");
    write_file("cut.h5", data, 100);
    refused_everywhere("cut.h5", "cut.h5");
    write_file("empty.h5", "", 0);
    refused_everywhere("empty.h5", "empty.h5");
    data[bytes / 2] ^= 1;
    write_file("flip.h5", data, bytes);
    refused_everywhere("flip.h5", "flip.h5");
    data[bytes / 2] ^= 1;
    data[10] ^= 1;
    write_file("head.h5", data, bytes);
    refused_everywhere("head.h5", "head.h5");
    refused_everywhere("tiny.yaml", "tiny.yaml"); /* no checkpoint at all */
    free(data);
}

/* Single bits anywhere in the file, through the command; many files a call. */
static void test_bit_flips(void **state)
{
    (void)state;
    enum { BATCH = 50 };
    size_t bytes;
    uint64_t seed = 20240520;
    char *data = read_file(good, &bytes);
    for (int begin = 0; begin < FLIPS; begin += BATCH) {
        char list[BATCH * 16];
        size_t used = 0;
        for (int i = begin; i < begin + BATCH; i++) {
            char name[32];
            size_t at = next(&seed) % bytes;
            char bit = (char)(1U << next(&seed) % 8);
            snprintf(name, sizeof name, "b%d.h5", i);
            data[at] = (char)(data[at] ^ bit);
            write_file(name, data, bytes);
            data[at] = (char)(data[at] ^ bit);
            used += (size_t)snprintf(list + used, sizeof list - used, "%s ", name);
        }
        outcome o = run("verify %s", list);
        assert_int_equal(o.code, 65);
        int bad = 0;
        for (const char *line = o.out; *line; line = strchr(line, '\n') + 1) {
            bad += strncmp(line, "BAD  ", 5) == 0;
        }
        assert_int_equal(bad, BATCH);
        assert_true(holds(o.err, "50 of 50 checkpoints did not verify"));
        outcome_clear(&o);
    }
    free(data);
}

static void test_missing(void **state)
{
    (void)state;
    expect_error(74, "nowhere.h5", "inspect nowhere.h5");
    expect_error(74, "nowhere.h5", "diff nowhere.h5 nowhere.h5");
    expect_error(74, "nowhere.h5", "generate nowhere.h5");
    expect_error(74, "holds no checkpoint", "inspect corpus");
    expect_error(74, "holds no checkpoint", "generate corpus");
    expect_error(74, "neither", "inspect /dev/null");
    outcome o = run("verify nowhere.h5");
    assert_int_equal(o.code, 74);
    assert_true(holds(o.out, "BAD"));
    outcome_clear(&o);
}

static void test_good_among_bad(void **state)
{
    (void)state;
    write_text("bad.h5", "no checkpoint");
    outcome o = run("verify %s nowhere.h5 bad.h5 run", good);
    assert_int_equal(o.code, 65);
    assert_true(holds(o.out, "ok   run/checkpoints/step-0000000012.h5: step 12 of run "));
    assert_true(holds(o.out, "ok   run: step 12 of run "));
    assert_true(holds(o.out, "BAD  "));
    assert_true(holds(o.err, "2 of 4 checkpoints did not verify"));
    outcome_clear(&o);
    o = run("verify --json %s bad.h5", good);
    assert_int_equal(o.code, 65);
    assert_true(holds(o.out, "\"ok\": false"));
    assert_true(holds(o.out, "\"corrupt data\""));
    outcome_clear(&o);
}

/* Intact, but another program's: nothing in it says what model it is. */
static void test_foreign_container(void **state)
{
    (void)state;
    static const int64_t dims[] = {1};
    const tt_store_write_options options = {
        .size = sizeof options, .directory = ".", .name = "foreign.h5"};
    tt_store_writer *writer = NULL;
    assert_int_equal(tt_store_writer_create(&options, &writer), TT_OK);
    assert_int_equal(tt_store_writer_declare(writer, "/x", TT_U8, 1, dims), TT_OK);
    assert_int_equal(tt_store_writer_put(writer, "/x", 0, "x", 1), TT_OK);
    assert_int_equal(tt_store_writer_commit(writer, NULL), TT_OK);
    tt_store_writer_destroy(writer);
    outcome o = expect_success("verify foreign.h5");
    outcome_clear(&o);
    expect_error(65, "/meta/config.yaml", "generate foreign.h5");
    expect_error(65, "/meta/config.yaml", "run tiny.yaml -o elsewhere --resume foreign.h5");
}

/* A copy that a user keeps beside the checkpoints is not what --resume auto goes on from, and
 * pruning neither counts nor removes it. */
static void test_copies_beside_checkpoints(void **state)
{
    (void)state;
    size_t bytes;
    make_run("later", "-s train.steps=16");
    make_run("kept", "-s checkpoint.keep=1");
    char *data = read_file("later/checkpoints/step-0000000016.h5", &bytes);
    write_file("kept/checkpoints/best.h5", data, bytes);
    free(data);
    outcome o = run("run tiny.yaml -o kept --resume auto -s train.steps=20");
    assert_int_equal(o.code, 0);
    assert_true(holds(o.err, "resumed after step 12"));
    outcome_clear(&o);
    assert_true(exists("kept/checkpoints/best.h5"));
    assert_true(exists("kept/checkpoints/step-0000000020.h5"));
    assert_false(exists("kept/checkpoints/step-0000000012.h5"));
}

/* --resume auto goes past a damaged newest checkpoint to the one before it. */
static void test_resume_past_damage(void **state)
{
    (void)state;
    make_run("two", "");
    size_t bytes;
    char *data = read_file("two/checkpoints/step-0000000012.h5", &bytes);
    data[bytes - 5] ^= 4;
    write_file("two/checkpoints/step-0000000012.h5", data, bytes);
    free(data);
    outcome o = run("run tiny.yaml -o two --resume auto -s train.steps=14");
    assert_int_equal(o.code, 0);
    assert_true(holds(o.err, "warning"));
    assert_true(holds(o.err, "step-0000000012.h5"));
    assert_true(holds(o.err, "resumed after step 8"));
    outcome_clear(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_good_among_bad),
        cmocka_unit_test(test_foreign_container),
        cmocka_unit_test(test_copies_beside_checkpoints),
        cmocka_unit_test(test_resume_past_damage),
    };
    return cmocka_run_group_tests(tests, make_checkpoint, scratch_teardown);
}
