/* The example of a job of one's own, as a user meets it: the real program, harmed and killed. */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Values that leave nothing to timing: whatever runs with them has the same steps. */
#define PINNED "--set=job.tile=16 --set=job.block=32 --set=adapt.every_steps=0"

/* What the program prints in the end. */
typedef struct ending {
    long long step, trips, replayed, blamed[2]; /* tiles, packing */
    double loss;
    char weights[17], breaker[2][16];
} ending;

static void parse(const char *out, ending *end)
{
    assert_int_equal(sscanf(out, "step %lld: held-out loss %lf, weights %16[0-9a-f]", &end->step,
                            &end->loss, end->weights),
                     3);
    const char *line = strchr(out, '\n');
    assert_int_equal(sscanf(line, " %lld trips, %lld replayed", &end->trips, &end->replayed), 2);
    static const char *const names[] = {"\ntiles: ", "\npacking: "};
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(out, names[i]);
        assert_non_null(at);
        assert_int_equal(sscanf(strstr(at, "breaker "), "breaker %15[a-z-], to blame for %lld",
                                end->breaker[i], &end->blamed[i]),
                         2);
    }
}

static ending run_to_end(const char *folder, const char *words)
{
    ending end;
    outcome o = run("%s %s", folder, words);
    if (o.code != 0) {
        fail_msg("%s: code %d: %s", words, o.code, o.err);
    }
    parse(o.out, &end);
    outcome_clear(&o);
    return end;
}

/* Lines of the journal that hold all of these texts. */
static int lines_with(const char *folder, const char *a, const char *b, const char *c)
{
    char path[256];
    int count = 0;
    snprintf(path, sizeof path, "%s/decisions.jsonl", folder);
    char *text = read_file(path, NULL);
    char *rest = text;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        count += strstr(line, a) && strstr(line, b) && strstr(line, c);
    }
    free(text);
    return count;
}

static void assert_as_good(const ending *got, const ending *clean)
{
    assert_int_equal(got->step, clean->step);
    assert_true(got->loss <= clean->loss * 1.01 && got->loss >= clean->loss * 0.99);
}

/* ---- with replays the culprit is proven in the step that tripped ---- */

static void proves_the_culprit(void **state)
{
    (void)state;
    for (int slots = 1; slots <= 3; slots++) {
        char words[256];
        char clean_folder[32];
        char folder[32];
        snprintf(clean_folder, sizeof clean_folder, "clean%d", slots);
        snprintf(folder, sizeof folder, "proven%d", slots);
        snprintf(words, sizeof words, PINNED " --steps=160 --set=snapshot.slots=%d", slots);
        ending clean = run_to_end(clean_folder, words);
        assert_int_equal(clean.trips, 0);
        snprintf(words, sizeof words, PINNED " --steps=160 --set=snapshot.slots=%d --fault=50",
                 slots);
        ending harmed = run_to_end(folder, words);
        assert_as_good(&harmed, &clean);
        /* The trusted product adds in the same order: not one bit is lost with it. */
        assert_string_equal(harmed.weights, clean.weights);
        assert_string_equal(harmed.breaker[0], "open");
        assert_string_equal(harmed.breaker[1], "closed");
        assert_int_equal(harmed.blamed[0], 1);
        assert_int_equal(harmed.blamed[1], 0);
        assert_int_equal(harmed.trips, 2); /* the attempt and its retry, no other step */
        assert_true(harmed.replayed >= 2);
        assert_int_equal(
            lines_with(folder, "\"kind\":\"search\"", "\"verdict\":\"culprit\"", "\"step\":50,"),
            1);
        assert_int_equal(
            lines_with(folder, "\"kind\":\"search\"", "\"guilty\":[\"tiles\"]", "\"step\":50,"), 1);
        assert_int_equal(lines_with(folder, "\"event\":\"convict\"", "\"optimization\":\"tiles\"",
                                    "\"step\":50,"),
                         1);
        /* The fault lasts: the probe after the cool-down notices, in a fork, and nobody else. */
        assert_int_equal(lines_with(folder, "\"event\":\"probe bad\"", "tiles", ""), 1);
    }
}

/* ---- without them it is suspected, and turned off when that has happened often enough ---- */

static void suspects_the_culprit(void **state)
{
    (void)state;
    ending clean = run_to_end("unproven-clean", PINNED " --steps=160 --no-replay");
    ending harmed = run_to_end("suspected", PINNED " --steps=160 --no-replay --fault=50");
    assert_as_good(&harmed, &clean);
    assert_string_equal(harmed.weights, clean.weights);
    assert_string_equal(harmed.breaker[0], "open");
    assert_string_equal(harmed.breaker[1], "closed");
    assert_true(harmed.blamed[0] >= 5);
    assert_int_equal(harmed.replayed, 0);
    assert_int_equal(lines_with("suspected", "\"kind\":\"search\"", "", ""), 0);
    assert_int_equal(lines_with("suspected", "convict", "", ""), 0);
    assert_true(
        lines_with("suspected", "\"event\":\"suspect\"", "\"optimization\":\"tiles\"", "") >= 5);
    assert_int_equal(
        lines_with("suspected", "\"event\":\"suspect\"", "\"optimization\":\"packing\"", ""), 0);
}

/* ---- killed, and gone on with ---- */

static int64_t journaled(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    if (!exists(path)) {
        return 0;
    }
    size_t bytes;
    free(read_file(path, &bytes));
    return (int64_t)bytes;
}

/* SIGKILL once metrics.jsonl has grown by `bytes`; false if the run ended before. */
static bool kill_after(const char *folder, const char *words, int64_t bytes)
{
    int64_t from = journaled(folder);
    pid_t pid = start("%s %s", folder, words);
    int status = 0;
    while (journaled(folder) < from + bytes) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            return false;
        }
        sleep_seconds(0.001);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status);
}

/* Where nothing rests on timing, the run that was killed ends where the unbroken one ends. */
static void survives_kills(void **state)
{
    (void)state;
    static const char *const ways[] = {"", " --no-replay"};
    for (int way = 0; way < 2; way++) {
        char words[256];
        char resume[300];
        char folder[32];
        int killed = 0;
        snprintf(words, sizeof words,
                 PINNED " --steps=300 --fault=50 --set=checkpoint.every_steps=20%s", ways[way]);
        snprintf(resume, sizeof resume, "%s --resume", words);
        snprintf(folder, sizeof folder, "unbroken%d", way);
        ending unbroken = run_to_end(folder, words);
        snprintf(folder, sizeof folder, "killed%d", way);
        killed += kill_after(folder, words, 3000);
        for (int i = 0; i < 6; i++) {
            killed += kill_after(folder, resume, 1500 + 4001 * i);
        }
        ending end = run_to_end(folder, resume);
        assert_true(killed > 2);
        assert_string_equal(end.weights, unbroken.weights);
        assert_int_equal(end.step, 300);
        assert_string_equal(end.breaker[0], unbroken.breaker[0]);
    }
}

/* A copy of the run as it would be if it had been killed before any later checkpoint. */
static void copy_up_to(const char *from, const char *to, int step)
{
    char command[512];
    snprintf(command, sizeof command,
             "rm -rf %s && cp -a %s %s && cd %s/checkpoints && for i in step-??????????.h5; do "
             "n=${i#step-}; n=$(expr ${n%%.h5} + 0); [ $n -le %d ] || rm $i; done",
             to, from, to, to, step);
    assert_int_equal(system(command), 0);
}

/* Trials decide by timing, but whoever goes over the same steps again follows the journal, from any
 * checkpoint. (The fault in the last step is a decision too: up to there, everything is.) */
static void follows_the_journal(void **state)
{
    (void)state;
    static const char *const ways[] = {"", " --no-replay"};
    for (int way = 0; way < 2; way++) {
        char words[300];
        char resume[320];
        snprintf(words, sizeof words,
                 "--steps=200 --fault=199 --set=adapt.every_steps=20 --set=trials.pairs=10 "
                 "--set=trials.budget_seconds=60 --set=checkpoint.every_steps=25 "
                 "--set=checkpoint.keep=100%s",
                 ways[way]);
        snprintf(resume, sizeof resume, "%s --resume", words);
        const char *folder = way ? "decided1" : "decided0";
        int killed = kill_after(folder, words, 20000);
        killed += kill_after(folder, exists(folder) ? resume : words, 9000);
        ending end = run_to_end(folder, killed ? resume : words);
        for (int from = 190; from > 0; from -= 45) { /* checkpoints 175, 125, 100, 50, 0 */
            copy_up_to(folder, "again", from);
            ending again = run_to_end("again", resume);
            assert_int_equal(again.step, 200);
            if (strcmp(again.weights, end.weights) != 0) {
                fail_msg("from step %d the journal was not followed", from);
            }
        }
        assert_true(lines_with(folder, "\"pairs\":10", "", "") > 0); /* a trial came to its end */
        print_message("killed %d times; %d commits, %d switches\n", killed,
                      lines_with(folder, "\"kind\":\"commit\"", "", ""),
                      lines_with(folder, "\"kind\":\"switch\"", "", ""));
    }
}

/* ---- what a user can get wrong ---- */

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        int code;
        const char *part;
    } cases[] = {
        {"", 2, "which FOLDER"},
        {"x --set=job.tyle=16", 78, "job.tile"},
        {"x --set=job.block=33", 0,
         "using the nearest legal value 32"}, /* onto the lattice, with a warning */
        {"x", 2, "x"},                        /* it holds a run now */
        {"y nowhere.yaml", 74, "nowhere.yaml"},
        {"y --set=snapshot.slots=4", 78, "snapshot.slots"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        outcome o = run("%s --steps=2", cases[i].words);
        if (!i) {
            outcome_clear(&o);
            o = run("%s", "");
        }
        if (o.code != cases[i].code || !strstr(o.err, cases[i].part)) {
            fail_msg("'%s': code %d: %s", cases[i].words, o.code, o.err);
        }
        outcome_clear(&o);
    }
    write_text("job.yaml", "job:\n  tile: 32\n  block: 64\n");
    run_to_end("configured", "job.yaml --steps=3");
    char *resolved = read_file("configured/resolved.yaml", NULL);
    assert_non_null(strstr(resolved, "tile: 32"));
    free(resolved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proves_the_culprit),
        cmocka_unit_test(suspects_the_culprit),
        cmocka_unit_test(survives_kills),
        cmocka_unit_test(follows_the_journal),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
