#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORDS = 64, LIMIT_SECONDS = 100, LINE_BYTES = 8192 };

static char scratch[] = "/tmp/trimtab-cli-XXXXXX";

/* ---- files ---- */

void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *stream = fopen(path, "we");
    assert_non_null(stream);
    assert_int_equal(fwrite(data, 1, bytes, stream), bytes);
    assert_int_equal(fclose(stream), 0);
}

void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

char *read_file(const char *path, size_t *bytes)
{
    FILE *stream = fopen(path, "re");
    if (!stream) {
        fail_msg("cannot open %s", path);
        return NULL;
    }
    char *data = NULL;
    size_t length = 0;
    size_t got;
    do {
        data = realloc(data, length + 65537);
        assert_non_null(data);
        got = fread(data + length, 1, 65536, stream);
        length += got;
    } while (got > 0);
    fclose(stream);
    data[length] = '\0';
    if (bytes) {
        *bytes = length;
    }
    return data;
}

bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

int entries(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        return -1;
    }
    int count = -2;
    while (readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

/* ---- the scratch folder ---- */

static const char tiny[] = "model:\n"
                           "  layers: 2\n"
                           "  heads: 2\n"
                           "  channels: 32\n"
                           "  context: 32\n"
                           "data:\n"
                           "  path: corpus\n"
                           "train:\n"
                           "  steps: 12\n"
                           "  batch: 2\n"
                           "  validate_every: 6\n"
                           "  validate_sequences: 4\n"
                           "kernels:\n"
                           "  tune_seconds: 0\n"
                           "checkpoint:\n"
                           "  every_steps: 4\n"
                           "run:\n"
                           "  threads: 1\n"
                           "sample:\n"
                           "  tokens: 40\n";

static void write_corpus(void)
{
    static const char *const words[] = {"the ",    "trim ", "tab ",    "steers ", "a ",
                                        "rudder ", "that ", "steers ", "the ",    "ship.\n"};
    assert_int_equal(mkdir("corpus", 0777), 0);
    for (int file = 0; file < 6; file++) {
        char name[32];
        snprintf(name, sizeof name, "corpus/%d.txt", file);
        FILE *stream = fopen(name, "we");
        assert_non_null(stream);
        for (unsigned i = 0; i < 600; i++) {
            fputs(words[(i * 7 + (unsigned)file * 3 + i / 10) % 10], stream);
        }
        fclose(stream);
    }
}

int scratch_setup(void **state)
{
    (void)state;
    /* SIGINT may be ignored where a shell has put the test in the background. */
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    unsetenv("CI");
    unsetenv("NO_COLOR");
    if (!mkdtemp(scratch) || chdir(scratch) != 0) {
        return -1;
    }
    write_text("tiny.yaml", tiny);
    write_corpus();
    return 0;
}

int scratch_teardown(void **state)
{
    (void)state;
    if (chdir("/") != 0) {
        return -1;
    }
    return nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- processes ---- */

static void split(char *line, char **words)
{
    size_t count = 0;
    words[count++] = (char *)"trimtab";
    char *to = line;
    for (char *from = line; *from;) {
        while (*from == ' ') {
            from++;
        }
        if (!*from) {
            break;
        }
        assert_true(count + 1 < MAX_WORDS);
        words[count++] = to;
        bool quoted = false;
        for (; *from && (quoted || *from != ' '); from++) {
            if (*from == '\'') {
                quoted = !quoted;
            } else {
                *to++ = *from;
            }
        }
        bool end = *from == '\0';
        *to++ = '\0';
        if (end) {
            break;
        }
        from++;
    }
    words[count] = NULL;
}

/* `line` is cut into words where it is. */
static pid_t spawn(char *line, int in, int out, int err)
{
    char *words[MAX_WORDS];
    split(line, words);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) {
            _exit(126);
        }
        execv(TRIMTAB_COMMAND, words);
        _exit(127);
    }
    return pid;
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void sleep_seconds(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

int finish(pid_t pid, double seconds)
{
    double until = now() + seconds;
    int status;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (now() > until) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            fail_msg("trimtab did not end within %.0f s", seconds);
        }
        sleep_seconds(0.005);
    }
    return exit_code(status);
}

/* Output goes to unlinked files: no pipe that could fill up. */
static int temporary(void)
{
    char name[] = "/tmp/trimtab-out-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(name);
    return fd;
}

static char *content(int fd, size_t *length)
{
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    char *data = calloc(1, (size_t)info.st_size + 1);
    assert_non_null(data);
    assert_int_equal(pread(fd, data, (size_t)info.st_size, 0), info.st_size);
    *length = (size_t)info.st_size;
    close(fd);
    return data;
}

#define FORMAT(text, line)                                                                         \
    char text[LINE_BYTES];                                                                         \
    do {                                                                                           \
        va_list arguments;                                                                         \
        va_start(arguments, line);                                                                 \
        /* The analyzer does not see va_start. NOLINTNEXTLINE(clang-analyzer-valist.*) */          \
        int length = vsnprintf(text, sizeof(text), line, arguments);                               \
        va_end(arguments);                                                                         \
        assert_true(length >= 0 && length < LINE_BYTES);                                           \
    } while (0)

static outcome run_line(const char *input, char *line)
{
    outcome o = {0};
    int in = temporary();
    int out = temporary();
    int err = temporary();
    assert_int_equal(pwrite(in, input, strlen(input), 0), strlen(input));
    double begin = now();
    o.code = finish(spawn(line, in, out, err), LIMIT_SECONDS);
    o.seconds = now() - begin;
    close(in);
    o.out = content(out, &o.out_length);
    o.err = content(err, &o.err_length);
    return o;
}

outcome run(const char *line, ...)
{
    FORMAT(text, line);
    outcome o = run_line("", text);
    return o;
}

outcome run_with_input(const char *input, const char *line, ...)
{
    FORMAT(text, line);
    outcome o = run_line(input, text);
    return o;
}

void outcome_clear(outcome *o)
{
    free(o->out);
    free(o->err);
    *o = (outcome){0};
}

pid_t start(const char *line, ...)
{
    FORMAT(text, line);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t pid = spawn(text, null, null, null);
    close(null);
    return pid;
}

/* ---- expectations ---- */

bool holds(const char *text, const char *part)
{
    if (strstr(text, part)) {
        return true;
    }
    print_error("'%s' is not in:\n%s\n", part, text);
    return false;
}

void expect_error(int code, const char *part, const char *line, ...)
{
    FORMAT(text, line);
    outcome o = run_line("", text);
    const char *first = strchr(o.err, '\n');
    bool one_line = first && first[1] == '\0' && o.err_length == strlen(o.err);
    bool as_expected = o.code == code && one_line && strncmp(o.err, "trimtab: ", 9) == 0 &&
                       strstr(o.err, part) && o.out_length == 0;
    if (!as_expected) {
        print_error("trimtab %s\nexpected %d and one line with '%s', got %d\nerr: %sout: %s\n",
                    line, code, part, o.code, o.err, o.out);
    }
    outcome_clear(&o);
    assert_true(as_expected);
}

outcome expect_success(const char *line, ...)
{
    FORMAT(text, line);
    outcome o = run_line("", text);
    if (o.code != 0 || strstr(o.err, "warning") || strstr(o.err, "error")) {
        print_error("trimtab %s\nexpected success, got %d\nerr: %s", line, o.code, o.err);
        fail();
    }
    return o;
}

void make_run(const char *folder, const char *words)
{
    outcome o = expect_success("run tiny.yaml --quiet --run-dir %s %s", folder, words);
    outcome_clear(&o);
}
