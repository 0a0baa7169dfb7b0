/* Append-only line files: what a crash and a full disk leave behind. */
#include "unit.h"

#include "fault.h"
#include "jsonl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct scratch {
    char folder[64];
    char path[96];
} scratch;

static int setup(void **state)
{
    static scratch s;
    snprintf(s.folder, sizeof s.folder, "%s/trimtab-jsonl-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    *state = &s;
    if (!mkdtemp(s.folder)) {
        return -1;
    }
    snprintf(s.path, sizeof s.path, "%s/lines.jsonl", s.folder);
    return 0;
}

static int teardown(void **state)
{
    scratch *s = *state;
    unlink(s->path);
    return rmdir(s->folder);
}

static void put(const char *path, const char *content)
{
    FILE *stream = fopen(path, "we");
    assert_non_null(stream);
    fputs(content, stream);
    fclose(stream);
}

static void holds(const char *path, const char *content)
{
    char text[20000] = "";
    FILE *stream = fopen(path, "re");
    assert_non_null(stream);
    text[fread(text, 1, sizeof text - 1, stream)] = '\0';
    fclose(stream);
    assert_string_equal(text, content);
}

static tt_status add(tt_jsonl *file, const char *line)
{
    return tt_jsonl_append(file, line, strlen(line), true);
}

static void appends(void **state)
{
    scratch *s = *state;
    tt_jsonl file;
    tt_file_fault m;
    tt_file_fault_init(&m, TT_FILE_FAULT_NONE, 0, 0);
    assert_int_equal(tt_jsonl_open(&file, &m.ops, s->path, false), TT_OK);
    holds(s->path, "");
    assert_int_equal(add(&file, "{\"a\":1}"), TT_OK);
    assert_int_equal(tt_jsonl_append(&file, "{}", 2, false), TT_OK);
    int64_t before = atomic_load(&m.calls);
    assert_int_equal(add(&file, "[]"), TT_OK);
    assert_int_equal(atomic_load(&m.calls) - before, 2); /* one write, one sync */
    before = atomic_load(&m.calls);
    assert_int_equal(tt_jsonl_append(&file, "3", 1, false), TT_OK);
    assert_int_equal(atomic_load(&m.calls) - before, 1);
    tt_jsonl_close(&file);
    tt_jsonl_close(&file);
    assert_int_equal(tt_jsonl_open(&file, &m.ops, s->path, false), TT_OK);
    assert_int_equal(add(&file, "4"), TT_OK);
    tt_jsonl_close(&file);
    holds(s->path, "{\"a\":1}\n{}\n[]\n3\n4\n");
}

static void cut_by_a_crash(void **state)
{
    scratch *s = *state;
    static const struct {
        const char *found, *kept;
    } table[] = {
        {"", ""},
        {"{", ""},
        {"\n", "\n"},
        {"{}\n", "{}\n"},
        {"{}\n{\"cu", "{}\n"},
        {"{}\n[]\n{\"cu", "{}\n[]\n"},
        {"no line at all", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tt_jsonl file;
        put(s->path, table[i].found);
        assert_int_equal(tt_jsonl_open(&file, tt_file_ops_posix(), s->path, false), TT_OK);
        holds(s->path, table[i].kept);
        assert_int_equal(add(&file, "1"), TT_OK);
        tt_jsonl_close(&file);
        char whole[64];
        snprintf(whole, sizeof whole, "%s1\n", table[i].kept);
        holds(s->path, whole);
    }
}

static void cut_far_from_the_end(void **state)
{
    scratch *s = *state;
    /* The unfinished line spans blocks of every alignment. */
    static const size_t lengths[] = {4094, 4095, 4096, 4097, 8191, 8192, 8193, 12288};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char text[13000] = "{}\n";
        memset(text + 3, 'x', lengths[i]);
        text[3 + lengths[i]] = '\0';
        for (int short_reads = 0; short_reads < 2; short_reads++) {
            tt_jsonl file;
            tt_file_fault m;
            tt_file_fault_init(&m, short_reads ? TT_FILE_FAULT_SHORT : TT_FILE_FAULT_NONE, 0, 0);
            put(s->path, text);
            assert_int_equal(tt_jsonl_open(&file, &m.ops, s->path, false), TT_OK);
            assert_int_equal(add(&file, "1"), TT_OK);
            tt_jsonl_close(&file);
            holds(s->path, "{}\n1\n");
        }
    }
}

static void failed_append_leaves_no_trace(void **state)
{
    scratch *s = *state;
    static const struct {
        tt_file_fault_how how;
        int64_t at; /* after the opening call */
        int error;
        tt_status status;
    } table[] = {
        {TT_FILE_FAULT_FAIL_ONCE, 0, ENOSPC, TT_ENOSPC},
        {TT_FILE_FAULT_FAIL_ONCE, 0, EIO, TT_EIO},
        {TT_FILE_FAULT_FAIL_ONCE, 1, EIO, TT_EIO},
        {TT_FILE_FAULT_FAIL_ONCE, 1, ENOSPC, TT_ENOSPC},
        {TT_FILE_FAULT_HALF, 0, ENOSPC, TT_ENOSPC},
        {TT_FILE_FAULT_HALF, 0, EDQUOT, TT_ENOSPC},
    };
    char longer[6001];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (int large = 0; large < 2; large++) {
            tt_jsonl file;
            tt_file_fault m;
            put(s->path, "{}\n");
            tt_file_fault_init(&m, TT_FILE_FAULT_NONE, 0, 0);
            assert_int_equal(tt_jsonl_open(&file, &m.ops, s->path, false), TT_OK);
            m.how = table[i].how;
            m.error = table[i].error;
            m.at = atomic_load(&m.calls) + table[i].at;
            assert_int_equal(add(&file, large ? longer : "{\"b\":2}"), table[i].status);
            assert_non_null(strstr(tt_error_message(), s->path));
            holds(s->path, "{}\n");
            m.how = TT_FILE_FAULT_NONE;
            assert_int_equal(add(&file, "3"), TT_OK);
            tt_jsonl_close(&file);
            holds(s->path, "{}\n3\n");
        }
    }
}

static void interrupted_and_short(void **state)
{
    scratch *s = *state;
    tt_jsonl file;
    tt_file_fault m;
    unlink(s->path);
    /* A signal is not a failure. */
    for (int at = 0; at < 2; at++) {
        tt_file_fault_init(&m, TT_FILE_FAULT_NONE, 0, 0);
        assert_int_equal(tt_jsonl_open(&file, &m.ops, s->path, false), TT_OK);
        m.how = TT_FILE_FAULT_FAIL_ONCE;
        m.error = EINTR;
        m.at = atomic_load(&m.calls) + at;
        assert_int_equal(add(&file, "12345"), TT_OK);
        assert_int_equal(atomic_load(&m.hits), 1);
        m.how = TT_FILE_FAULT_SHORT;
        assert_int_equal(add(&file, "67890"), TT_OK);
        tt_jsonl_close(&file);
    }
    holds(s->path, "12345\n67890\n12345\n67890\n");
}

static void cannot_open(void **state)
{
    scratch *s = *state;
    tt_jsonl file;
    char elsewhere[128];
    snprintf(elsewhere, sizeof elsewhere, "%s/none/lines.jsonl", s->folder);
    assert_int_equal(tt_jsonl_open(&file, tt_file_ops_posix(), elsewhere, false), TT_ENOTFOUND);
    tt_jsonl_close(&file);
    put(s->path, "{}\n{");
    tt_file_fault m;
    for (int64_t at = 0; at < 2; at++) {
        tt_file_fault_init(&m, TT_FILE_FAULT_FAIL_ONCE, at, EIO);
        assert_int_equal(tt_jsonl_open(&file, &m.ops, s->path, false), TT_EIO);
        tt_jsonl_close(&file);
        holds(s->path, "{}\n{"); /* what cannot be read is not cut */
    }
}

typedef struct seen {
    char text[256];
    int stop_after;
} seen;

static tt_status note(void *user, const char *line)
{
    seen *s = user;
    strncat(s->text, line, sizeof s->text - strlen(s->text) - 1);
    strncat(s->text, ";", sizeof s->text - strlen(s->text) - 1);
    return --s->stop_after == 0 ? tt_fail(TT_EDATA, "enough") : TT_OK;
}

static void reads(void **state)
{
    scratch *s = *state;
    put(s->path, "1\n22\n\n333\n44");
    seen all = {.stop_after = -1};
    assert_int_equal(tt_jsonl_read(s->path, note, &all), TT_OK);
    assert_string_equal(all.text, "1;22;;333;");
    seen two = {.stop_after = 2};
    assert_int_equal(tt_jsonl_read(s->path, note, &two), TT_EDATA);
    assert_string_equal(two.text, "1;22;");
    put(s->path, "");
    seen none = {.stop_after = -1};
    assert_int_equal(tt_jsonl_read(s->path, note, &none), TT_OK);
    assert_string_equal(none.text, "");
    unlink(s->path);
    assert_int_equal(tt_jsonl_read(s->path, note, &none), TT_ENOTFOUND);
    put(s->path, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(appends, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_by_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_far_from_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_append_leaves_no_trace, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupted_and_short, setup, teardown),
        cmocka_unit_test_setup_teardown(cannot_open, setup, teardown),
        cmocka_unit_test_setup_teardown(reads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
