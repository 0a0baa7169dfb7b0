/* Status codes, exit codes and the calling thread's message. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

static void codes(void **state)
{
    (void)state;
    static const struct {
        tt_status status;
        int exit_code;
    } expected[] = {
        {TT_OK, 0},        {TT_EINVAL, 70},    {TT_ENOMEM, 70},    {TT_EIO, 74},
        {TT_ENOSPC, 74},   {TT_ENOTFOUND, 74}, {TT_EBUSY, 74},     {TT_ECORRUPT, 65},
        {TT_EHOSTILE, 65}, {TT_EDATA, 65},     {TT_ECONFIG, 78},   {TT_EUSAGE, 2},
        {TT_EGATE, 1},     {TT_EREQUEUE, 75},  {TT_EINTERNAL, 70}, {TT_EUNSUPPORTED, 78},
    };
    assert_int_equal(sizeof expected / sizeof *expected, TT_EINTERNAL + 1);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_int_equal(tt_status_exit_code(expected[i].status), expected[i].exit_code);
        assert_true(strlen(tt_status_name(expected[i].status)) > 1);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(tt_status_name(expected[i].status),
                                    tt_status_name(expected[j].status));
        }
    }
    assert_string_equal(tt_status_name((tt_status)99), "unknown status");
    assert_string_equal(tt_status_name((tt_status)-1), "unknown status");
    assert_int_equal(tt_status_exit_code((tt_status)99), 70);
}

static void message_is_one_line(void **state)
{
    (void)state;
    char dirty[128];
    for (int i = 1; i < 128; i++) {
        dirty[i - 1] = (char)i;
    }
    dirty[127] = '\0';
    assert_int_equal(tt_fail(TT_EDATA, "<%s>", dirty), TT_EDATA);
    const char *message = tt_error_message();
    assert_int_equal(strlen(message), 129);
    for (const char *c = message; *c; c++) {
        assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
    }
    tt_fail(TT_EDATA, "a\nb\r\033[31mc\xc3\xa9");
    assert_string_equal(tt_error_message(), "a b  [31mc\xc3\xa9");
    tt_error_clear();
    assert_string_equal(tt_error_message(), "");
}

static void message_is_cut(void **state)
{
    (void)state;
    static char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    tt_fail(TT_EDATA, "%s", longest);
    assert_int_equal(strlen(tt_error_message()), 1023);
    tt_fail_in(TT_EDATA, "%s", longest);
    assert_int_equal(strlen(tt_error_message()), 1023);
    tt_fail_errno(EIO, "%s", longest);
    assert_int_equal(strlen(tt_error_message()), 1023);
}

static void context_nests(void **state)
{
    (void)state;
    tt_fail(TT_ECORRUPT, "bad byte %d", 7);
    assert_int_equal(tt_fail_in(TT_EIO, "reading %s", "a.h5"), TT_EIO);
    assert_int_equal(tt_fail_in(TT_ECORRUPT, "resuming"), TT_ECORRUPT);
    assert_string_equal(tt_error_message(), "resuming: reading a.h5: bad byte 7");
    /* The message may be quoted in its own successor. */
    tt_fail(TT_EIO, "[%s]", tt_error_message());
    assert_string_equal(tt_error_message(), "[resuming: reading a.h5: bad byte 7]");
    tt_fail_in(TT_EIO, "%s", tt_error_message());
    assert_string_equal(tt_error_message(), "[resuming: reading a.h5: bad byte 7]: [resuming: "
                                            "reading a.h5: bad byte 7]");
}

static void errno_maps(void **state)
{
    (void)state;
    assert_int_equal(tt_fail_errno(ENOSPC, "x"), TT_ENOSPC);
    assert_int_equal(tt_fail_errno(EDQUOT, "x"), TT_ENOSPC);
    assert_int_equal(tt_fail_errno(ENOENT, "x"), TT_ENOTFOUND);
    assert_int_equal(tt_fail_errno(ENOMEM, "x"), TT_ENOMEM);
    assert_int_equal(tt_fail_errno(EIO, "x"), TT_EIO);
    assert_int_equal(tt_fail_errno(EACCES, "cannot open %s", "f"), TT_EIO);
    assert_string_equal(tt_error_message(), "cannot open f: Permission denied");
}

static void *other_thread(void *user)
{
    *(size_t *)user = strlen(tt_error_message());
    tt_fail(TT_EIO, "of the other thread");
    return NULL;
}

static void message_is_the_threads_own(void **state)
{
    (void)state;
    pthread_t thread;
    size_t seen = 99;
    tt_fail(TT_EIO, "of this thread");
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(seen, 0);
    assert_string_equal(tt_error_message(), "of this thread");
}

typedef struct captured {
    int lines;
    tt_log_level level;
    char text[2048];
} captured;

static void capture(void *user, tt_log_level level, const char *message)
{
    captured *out = user;
    out->lines++;
    out->level = level;
    strncpy(out->text, message, sizeof out->text - 1);
}

static void log_is_one_line(void **state)
{
    (void)state;
    captured out = {0};
    tt_log_sink sink = {.write = capture, .user = &out};
    tt_log(&sink, TT_LOG_WARN, "a\nb\tc\x7f\033[0m%d", 5);
    assert_int_equal(out.lines, 1);
    assert_int_equal(out.level, TT_LOG_WARN);
    assert_string_equal(out.text, "a b c  [0m5");
    static char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    tt_log(&sink, TT_LOG_INFO, "%s", longest);
    assert_int_equal(strlen(out.text), 1023);
    tt_log(NULL, TT_LOG_INFO, "nobody listens");
    sink.write = NULL;
    tt_log(&sink, TT_LOG_INFO, "nobody listens");
    assert_int_equal(out.lines, 2);
}

static void dtypes(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        [TT_U8] = 1,  [TT_U16] = 2, [TT_I32] = 4, [TT_I64] = 8, [TT_U64] = 8,
        [TT_F32] = 4, [TT_F64] = 8, [TT_I8] = 1,  [TT_BF16] = 2};
    for (int i = -1; i <= TT_BF16 + 1; i++) {
        bool real = i >= TT_U8 && i <= TT_BF16;
        assert_int_equal(tt_dtype_size((tt_dtype)i), real ? sizes[i] : 0);
        assert_true((strcmp(tt_dtype_name((tt_dtype)i), "?") == 0) == !real);
    }
    assert_string_equal(tt_dtype_name(TT_F32), "f32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes),           cmocka_unit_test(message_is_one_line),
        cmocka_unit_test(message_is_cut),  cmocka_unit_test(context_nests),
        cmocka_unit_test(errno_maps),      cmocka_unit_test(message_is_the_threads_own),
        cmocka_unit_test(log_is_one_line), cmocka_unit_test(dtypes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
