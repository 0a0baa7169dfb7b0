/* What works: running, stopping, resuming, generating, inspecting, comparing. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        fail_msg("not JSON: %s at line %d of:\n%s", error.text, error.line, text);
    }
    return root;
}

static int64_t integer_at(const json_t *root, const char *key)
{
    assert_true(json_is_integer(json_object_get(root, key)));
    return json_integer_value(json_object_get(root, key));
}

static double number_at(const json_t *root, const char *key)
{
    assert_true(json_is_number(json_object_get(root, key)));
    return json_number_value(json_object_get(root, key));
}

/* ---- running ---- */

static void test_run(void **state)
{
    (void)state;
    outcome o = expect_success("run tiny.yaml");
    assert_true(holds(o.out, "trained 12 steps, 768 tokens"));
    assert_true(holds(o.out, "bits per byte"));
    assert_true(holds(o.out, "order 1"));
    assert_true(holds(o.out, "no trips"));
    assert_true(holds(o.out, "sample"));
    assert_true(holds(o.out, "runs/tiny/checkpoints/step-0000000012.h5"));
    assert_true(holds(o.out, "next: " TRIMTAB_COMMAND " generate runs/tiny --prompt 'Once'\n"));
    for (const char *c = o.out; *c; c++) {
        assert_true(*c == '\n' || *c == '\t' || (unsigned char)*c >= 0x20);
    }
    assert_true(holds(o.err, "step 12/12"));
    assert_null(strchr(o.err, '\r')); /* no terminal, nothing is redrawn */
    assert_null(strchr(o.err, '\033'));
    assert_true(exists("runs/tiny/metrics.jsonl"));
    assert_true(exists("runs/tiny/receipt.json"));
    outcome_clear(&o);
    o = expect_success("run tiny.yaml --resume auto"); /* nothing left to do */
    assert_true(holds(o.out, "trained 0 steps"));
    outcome_clear(&o);
}

static void test_run_json(void **state)
{
    (void)state;
    outcome o = expect_success("run tiny.yaml --json -o json");
    json_t *root = parse(o.out);
    assert_string_equal(json_string_value(json_object_get(root, "outcome")), "ok");
    assert_int_equal(integer_at(root, "steps"), 12);
    assert_int_equal(integer_at(root, "exit_code"), 0);
    assert_true(number_at(root, "bits_per_byte") > 0);
    assert_true(number_at(root, "order2_bits_per_byte") > 0);
    assert_int_equal(integer_at(json_object_get(root, "totals"), "published"), 12);
    assert_true(json_string_length(json_object_get(root, "sample")) >= 40);
    json_decref(root);
    outcome_clear(&o);
}

static void test_quiet(void **state)
{
    (void)state;
    outcome o = expect_success("run tiny.yaml --quiet -o quiet");
    assert_int_equal(o.out_length, 0);
    assert_int_equal(o.err_length, 0);
    outcome_clear(&o);
    o = expect_success("run tiny.yaml --quiet --json -o quiet-json");
    json_decref(parse(o.out));
    assert_int_equal(o.err_length, 0);
    outcome_clear(&o);
}

static void test_dry_run(void **state)
{
    (void)state;
    int before = entries(".");
    outcome o = expect_success("run tiny.yaml --dry-run -o dry -s train.steps=100");
    assert_true(holds(o.out, "parameters"));
    assert_true(holds(o.out, "100 steps of 64 tokens"));
    assert_true(holds(o.out, "FLOP per step"));
    assert_true(holds(o.out, "tiny.yaml:2")); /* origins */
    assert_null(strstr(o.out, "problems"));
    outcome_clear(&o);
    o = expect_success("run tiny.yaml -n --data nowhere");
    assert_true(holds(o.out, "problems"));
    assert_true(holds(o.out, "nowhere (--data): No such file"));
    outcome_clear(&o);
    expect_error(78, "gates.loss.max", "run tiny.yaml -n -s gates.loss.max=2");
    o = expect_success("run tiny.yaml -n -s train.steps=1000000000000 -s train.accumulate=60000 "
                       "-s train.batch=4096");
    assert_null(strstr(o.out, ", -")); /* no figure wrapped around */
    outcome_clear(&o);
    o = expect_success("run tiny.yaml --dry-run --json -o dry --data nowhere");
    json_t *root = parse(o.out);
    assert_int_equal(integer_at(root, "tokens_per_step"), 64);
    assert_int_equal(json_array_size(json_object_get(root, "problems")), 1);
    json_decref(root);
    outcome_clear(&o);
    assert_int_equal(entries("."), before);
}

/* The example with Llama's blocks, made small enough for a few steps: trained, looked at, sampled.
 */
static void test_llama(void **state)
{
    (void)state;
#define LLAMA "run " TT_SOURCE_DIR "/examples/llama-10m.yaml --data corpus "
    outcome o = expect_success(LLAMA "-n --json");
    json_t *root = parse(o.out);
    /* 6 layers of 640 + 384 + 2,048 rows of 384, 384 rows of 1,024 and two gains; embedding, gain.
     */
    assert_int_equal(integer_at(root, "parameters"),
                     6 * ((640 + 384 + 2048) * 384 + 384 * 1024 + 2 * 384) + 256 * 384 + 384);
    assert_int_equal(integer_at(root, "kv_heads"), 2);
    assert_int_equal(integer_at(root, "mlp_width"), 1024);
    json_decref(root);
    outcome_clear(&o);
    o = expect_success(LLAMA "-n");
    assert_true(holds(o.out, "6 layers, 6 heads (2 of keys and values), 384 channels"));
    outcome_clear(&o);
    expect_error(78, "model.kv_heads (4)", LLAMA "-n -s model.kv_heads=4");
    o = expect_success(LLAMA "-o llama -s train.steps=4 -s train.batch=1 -s model.layers=2 "
                             "-s model.channels=48 -s model.context=16 -s model.mlp_width=auto "
                             "-s train.validate_sequences=2 -s kernels.tune_seconds=0 "
                             "-s compression.activations=int8 -s model.tied=false");
    assert_true(holds(o.out, "no trips"));
    outcome_clear(&o);
    o = expect_success("inspect llama/checkpoints/step-0000000004.h5");
    assert_true(holds(o.out, "lm_head.weight"));
    assert_true(holds(o.out, "h.1.mlp.c_fc.weight"));
    assert_null(strstr(o.out, "wpe.weight"));
    assert_null(strstr(o.out, ".bias"));
    outcome_clear(&o);
    o = expect_success("generate llama --tokens 8 --prompt a");
    outcome_clear(&o);
    expect_error(78, "model.mlp", LLAMA "-o llama --resume auto -s model.mlp=gelu");
}

/* It is what a run would make of the configuration: the resolver has its say, and its refusals. */
static void test_dry_resolution(void **state)
{
    (void)state;
#define TIGHT "run " TT_SOURCE_DIR "/examples/gpt-10m.yaml -n -s run.memory_budget=600000000 "
    outcome o = expect_success(TIGHT "-s compression.moments=auto");
    assert_true(holds(o.out, "\nmoved to what is possible\n  compression.moments f32 -> bf16 "
                             "(memory: rule 'memory budget'"));
    outcome_clear(&o);
    o = expect_success(TIGHT "--json");
    json_t *root = parse(o.out);
    assert_int_equal(json_array_size(json_object_get(root, "moved")), 1);
    assert_true(integer_at(root, "state_bytes") + integer_at(root, "model_bytes") <= 600000000);
    json_decref(root);
    outcome_clear(&o);
    /* What is left to the run yields before what was asked for. */
    o = expect_success(TIGHT "--strict -s compression.moments=f32 -s compression.activations=auto");
    assert_true(holds(o.out, "  compression.activations f32 -> "));
    assert_null(strstr(o.out, "  compression.moments f32 -> "));
    outcome_clear(&o);
    expect_error(78, "--strict refuses",
                 TIGHT "--strict -s compression.moments=f32 -s compression.activations=f32");
    expect_error(78, "at least ", "run tiny.yaml -n -s run.memory_budget=1000");
    expect_error(78, "compression.bound is at most", "run tiny.yaml -n -s compression.bound=0.2");
}

/* An `auto` codec begins with what the budget allows. */
static void test_auto_within_budget(void **state)
{
    (void)state;
    outcome o = run("run tiny.yaml -n --json -s model.channels=64 -s compression.moments=int8 "
                    "-s compression.activations=int8");
    assert_int_equal(o.code, 0);
    json_t *root = parse(o.out);
    char words[256];
    snprintf(words, sizeof words,
             "run tiny.yaml -o budget -s model.channels=64 -s compression.moments=auto "
             "-s compression.activations=auto -s run.memory_budget=%lld",
             (long long)(integer_at(root, "state_bytes") + integer_at(root, "model_bytes")));
    json_decref(root);
    outcome_clear(&o);
    o = expect_success("%s", words);
    outcome_clear(&o);
    char *yaml = read_file("budget/resolved.yaml", NULL);
    assert_true(holds(yaml, "  moments: int8 # from resolver\n"));
    free(yaml);
}

/* A journal that somebody has been at is history lost, and is said to be. */
static void test_resume_with_a_damaged_journal(void **state)
{
    (void)state;
    make_run("journal", "-s train.steps=4");
    char *journal = read_file("journal/decisions.jsonl", NULL);
    journal[0] = '?'; /* of the first line's brace */
    write_text("journal/decisions.jsonl", journal);
    free(journal);
    outcome o = run("run tiny.yaml -o journal --resume auto -s train.steps=6");
    assert_int_equal(o.code, 0);
    assert_true(holds(o.err,
                      "journal/decisions.jsonl: 1 line cannot be read; what it decided after "
                      "the checkpoint is lost\n"));
    outcome_clear(&o);
    assert_int_equal(unlink("journal/decisions.jsonl"), 0);
    o = run("run tiny.yaml -o journal --resume auto -s train.steps=8");
    assert_int_equal(o.code, 0);
    assert_true(holds(o.err, "journal/decisions.jsonl was missing or empty; "));
    outcome_clear(&o);
    o = run("run tiny.yaml -o journal-too --resume journal -s train.steps=9");
    assert_int_equal(o.code, 0);
    assert_null(strstr(o.err, "missing"));
    outcome_clear(&o);
}

/* With --resume: what the run would go on with. */
static void test_dry_resume(void **state)
{
    (void)state;
    make_run("dry-resume", "-s optim.learning_rate=0.002 -s gates.loss.max=8");
    int before = entries("dry-resume/checkpoints");
    outcome o = expect_success("run tiny.yaml -n -o dry-resume --resume auto -s train.steps=20");
    assert_true(holds(o.out, "goes on from   dry-resume/checkpoints/step-0000000012.h5\n"));
    assert_true(holds(o.out, "changed since then\n  train.steps: 12 -> 20 (--set)\n"));
    assert_true(holds(o.out, "optim.learning_rate        0.002"));
    assert_null(strstr(o.out, "(default)"));
    outcome_clear(&o);
    o = expect_success("run tiny.yaml -n --json -o dry-resume --resume auto -s gates.loss.max=3");
    json_t *root = parse(o.out);
    assert_true(json_is_string(json_object_get(root, "resume")));
    assert_int_equal(json_array_size(json_object_get(root, "changes")), 1);
    json_decref(root);
    outcome_clear(&o);
    expect_error(78, "model.layers",
                 "run tiny.yaml -n -o dry-resume --resume auto "
                 "-s model.layers=3");
    assert_int_equal(entries("dry-resume/checkpoints"), before);
    o = expect_success("run tiny.yaml -n -o dry-none --resume auto"); /* none yet: from the start */
    assert_null(strstr(o.out, "goes on from"));
    outcome_clear(&o);
    assert_false(exists("dry-none"));
}

/* The command that is told to be next works as it stands. */
static void test_next_command(void **state)
{
    (void)state;
    char command[4096];
    char *path = strdup(getenv("PATH")); // NOLINT(concurrency-mt-unsafe)
    assert_non_null(path);
    snprintf(command, sizeof command, "mkdir bin && cp %s bin/trimtab", TRIMTAB_COMMAND);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c,concurrency-mt-unsafe)
    /* Not on PATH, or another one is: the path, relative to here. */
    snprintf(command, sizeof command,
             "bin/trimtab run tiny.yaml -o next >next.out 2>&1 && "
             "grep -q '^next: bin/trimtab generate next ' next.out && "
             "eval \"$(sed -n 's/^next: //p' next.out)\" >next.text && test -s next.text");
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c,concurrency-mt-unsafe)
    char here[1024];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(command, sizeof command, "%s/bin:%s", here, path);
    setenv("PATH", command, 1);
    snprintf(command, sizeof command,
             "trimtab run tiny.yaml -o next-2 2>&1 | grep -q '^next: trimtab generate next-2 '");
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c,concurrency-mt-unsafe)
    /* PATH has another. */
    outcome o = expect_success("run tiny.yaml -o 'next 3'");
    assert_true(holds(o.out, "next: " TRIMTAB_COMMAND " generate 'next 3' --prompt 'Once'\n"));
    outcome_clear(&o);
    setenv("PATH", path, 1);
    free(path);
}

static void test_strict(void **state)
{
    (void)state;
    outcome o = run("run tiny.yaml -o moved -s kernels.tile_m=48");
    assert_int_equal(o.code, 0);
    assert_true(holds(o.err, "trimtab: warning: "));
    assert_true(holds(o.err, "kernels.tile_m"));
    outcome_clear(&o);
    expect_error(78, "kernels.tile_m", "run tiny.yaml -q -o strict --strict -s kernels.tile_m=48");
}

/* ---- stopping and resuming ---- */

static void wait_for(const char *path)
{
    for (int i = 0; i < 3000 && !exists(path); i++) {
        sleep_seconds(0.01);
    }
    assert_true(exists(path));
}

static const char endless[] = "-s train.steps=100000000 -s checkpoint.every_steps=0 "
                              "-s train.validate_every=0 -s sample.tokens=0 "
                              /* Thousands of steps on two sentences: gradients may do anything. */
                              "-s gates.grad_norm.max=1e9 -s gates.grad_norm.min=0 "
                              "-s gates.loss.min=0 -s gates.loss.max=1e6";

static void test_signals(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT, SIGUSR1};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        char latest[64];
        snprintf(latest, sizeof latest, "stop-%zu/checkpoints/latest", i);
        pid_t pid = start("run tiny.yaml -o stop-%zu %s", i, endless);
        wait_for(latest);
        sleep_seconds(0.2);
        assert_int_equal(kill(pid, signals[i]), 0);
        assert_int_equal(finish(pid, 60), 75);
        outcome o = expect_success("verify stop-%zu", i);
        assert_null(strstr(o.out, "step 0 of")); /* it went on from step 0, and saved that */
        outcome_clear(&o);
    }
}

/* Interrupted anywhere and resumed: the same bits as without. */
static void test_resume_is_exact(void **state)
{
    (void)state;
    static const char words[] = "-s train.steps=400 -s train.batch=8 -s checkpoint.every_steps=0 "
                                "-s train.validate_every=0 -s sample.tokens=0 "
                                "-s gates.grad_norm.max=1e9";
    make_run("straight", words);
    pid_t pid = start("run tiny.yaml -o halves %s", words);
    wait_for("halves/checkpoints/latest");
    sleep_seconds(0.1);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(finish(pid, 60), 75);
    outcome o = run("run tiny.yaml -o halves --resume auto %s", words);
    assert_int_equal(o.code, 0);
    assert_true(holds(o.err, "resumed after step"));
    outcome_clear(&o);
    o = expect_success("diff straight halves");
    assert_true(holds(o.out, "identical: "));
    outcome_clear(&o);
}

/* Killed at any moment, again and again: what is left is always enough to go on from, to the same
 * bits. */
static void test_killed(void **state)
{
    (void)state;
    enum { KILLS = 10, MOST_STARTS = 200 };
    static const char words[] = "-s train.steps=600 -s train.batch=4 -s checkpoint.every_steps=10 "
                                "-s train.validate_every=0 -s sample.tokens=0 -s run.threads=2 "
                                "-s gates.grad_norm.max=1e9";
    double begin = now();
    make_run("unharmed", words);
    double whole = now() - begin;
    unsigned seed = 7;
    int kills = 0;
    bool done = false;
    for (int starts = 0; !done && starts < MOST_STARTS; starts++) {
        pid_t pid = start("run tiny.yaml -o killed --resume auto %s", words);
        if (kills < KILLS) {
            /* Short enough that ten are killed before one arrives, most of them at work. */
            seed = seed * 1103515245U + 12345U;
            sleep_seconds(whole / 4 * (double)(seed >> 16) / 65536);
            kill(pid, SIGKILL);
        }
        int code = finish(pid, 100);
        kills += code == 128 + SIGKILL;
        done = code == 0;
        assert_true(done || code == 128 + SIGKILL);
    }
    assert_true(done);
    print_message("killed %d times, %.1f s each without\n", kills, whole);
    assert_true(kills >= KILLS / 2);
    outcome o = expect_success("diff unharmed/checkpoints/step-0000000600.h5 "
                               "killed/checkpoints/step-0000000600.h5");
    assert_true(holds(o.out, "identical: "));
    outcome_clear(&o);
}

/* From a checkpoint of another run: its state, in a folder of its own. */
static void test_resume_from_elsewhere(void **state)
{
    (void)state;
    make_run("origin", "");
    outcome o = expect_success("run tiny.yaml -o branch --resume origin/checkpoints/"
                               "step-0000000008.h5");
    assert_true(holds(o.err, "resumed after step 8"));
    outcome_clear(&o);
    o = expect_success("diff origin branch");
    outcome_clear(&o);
    o = expect_success("run tiny.yaml -o branch-2 --resume origin --set train.steps=12");
    assert_true(holds(o.err, "resumed after step 12"));
    outcome_clear(&o);
}

/* Only the command line changes a run that goes on; a changed file is told of. */
static void test_resume_with_a_changed_file(void **state)
{
    (void)state;
    char *yaml = read_file("tiny.yaml", NULL);
    write_text("longer.yaml", yaml);
    outcome o = expect_success("run longer.yaml -o longer");
    outcome_clear(&o);
    char *steps = strstr(yaml, "steps: 12");
    assert_non_null(steps);
    steps[7] = '4';
    steps[8] = '0';
    write_text("longer.yaml", yaml);
    free(yaml);
    o = run("run longer.yaml -o longer --resume auto");
    assert_int_equal(o.code, 0);
    assert_true(holds(o.out, "trained 0 steps"));
    assert_true(holds(o.err, "trimtab: warning: longer.yaml:9: train.steps 40 is ignored: the "
                             "checkpoint's 12 counts; use --set train.steps=40\n"));
    outcome_clear(&o);
    o = run("run longer.yaml -o longer --resume auto --set train.steps=40");
    assert_int_equal(o.code, 0);
    assert_true(holds(o.out, "trained 28 steps"));
    assert_null(strstr(o.err, "is ignored"));
    outcome_clear(&o);
}

static void test_second_interrupt(void **state)
{
    (void)state;
    /* One step takes long enough for a second signal to arrive in it. */
    pid_t pid = start("run tiny.yaml -o twice %s -s model.channels=128 -s train.batch=16 "
                      "-s train.accumulate=60000",
                      endless);
    wait_for("twice/checkpoints/latest");
    sleep_seconds(0.1);
    kill(pid, SIGINT);
    sleep_seconds(0.1);
    kill(pid, SIGINT);
    assert_int_equal(finish(pid, 10), 130);
    outcome o = expect_success("verify twice");
    outcome_clear(&o);
}

/* A shell starts background jobs with SIGINT ignored; a Ctrl-C for others must not stop them. */
static void test_ignored_interrupt(void **state)
{
    (void)state;
    (void)signal(SIGINT, SIG_IGN);
    pid_t pid = start("run tiny.yaml -o background %s", endless);
    (void)signal(SIGINT, SIG_DFL);
    wait_for("background/checkpoints/latest");
    kill(pid, SIGINT);
    kill(pid, SIGINT);
    sleep_seconds(0.5);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGTERM);
    assert_int_equal(finish(pid, 60), 75);
}

static void test_requeue_output(void **state)
{
    (void)state;
    char command[1024];
    snprintf(command, sizeof command,
             "(" TRIMTAB_COMMAND " run tiny.yaml -o again %s >again.out 2>again.err; "
             "echo $? >again.code) & "
             "while [ ! -e again/checkpoints/latest ]; do sleep 0.05; done; sleep 0.2; "
             "kill -TERM $(cat again/lock); wait",
             endless);
    int status = system(command); // NOLINT(cert-env33-c,concurrency-mt-unsafe)
    assert_int_equal(status, 0);
    char *code = read_file("again.code", NULL);
    char *out = read_file("again.out", NULL);
    char *err = read_file("again.err", NULL);
    assert_string_equal(code, "75\n");
    assert_true(holds(out, "stopped on request after"));
    assert_true(
        holds(out, "next: " TRIMTAB_COMMAND " run tiny.yaml --run-dir again --resume auto"));
    assert_true(holds(err, "trimtab: stopped on signal 15 after step "));
    free(code);
    free(out);
    free(err);
}

static void test_gate(void **state)
{
    (void)state;
    outcome o = run("run tiny.yaml -o gate -s gates.grad_norm.max=0.001");
    assert_int_equal(o.code, 1);
    assert_true(holds(o.out, "stopped by a gate after 0 steps"));
    assert_true(holds(o.out, "next: " TRIMTAB_COMMAND " inspect gate"));
    assert_true(holds(o.err, "trimtab: warning: step 0: gradient_norm"));
    assert_true(holds(o.err, "\ntrimtab: step 0: gradient_norm"));
    outcome_clear(&o);
    o = run("run tiny.yaml -o gate-json --json -s gates.grad_norm.max=0.001");
    assert_int_equal(o.code, 1);
    json_t *root = parse(o.out);
    assert_int_equal(integer_at(root, "exit_code"), 1);
    assert_true(integer_at(json_object_get(root, "totals"), "trips") > 0);
    json_decref(root);
    outcome_clear(&o);
}

/* ---- generating ---- */

static void test_generate(void **state)
{
    (void)state;
    make_run("gen", "");
    outcome a = expect_success("generate gen --prompt 'the ' --tokens 30 --seed 7");
    outcome b = expect_success("generate gen/checkpoints --prompt 'the ' --tokens 30 --seed 7");
    outcome c = expect_success("generate gen/checkpoints/step-0000000012.h5 -p 'the ' -t 30 "
                               "--seed 8");
    outcome d = run_with_input("the ", "generate gen --prompt - --tokens 30 --seed 7");
    assert_int_equal(a.out_length, 30); /* as generated: nothing added, nothing escaped */
    assert_memory_equal(a.out, b.out, 30);
    assert_int_equal(c.out_length, 30);
    assert_memory_not_equal(a.out, c.out, 30);
    assert_int_equal(d.code, 0);
    assert_memory_equal(a.out, d.out, 30);
    outcome_clear(&b);
    outcome_clear(&c);
    b = expect_success("generate gen -T 0 -t 20 --seed 1");
    c = expect_success("generate gen -T 0 -t 20 --seed 2");
    assert_memory_equal(b.out, c.out, 20); /* greedy: the seed plays no part */
    outcome_clear(&b);
    b = expect_success("generate gen"); /* sample.tokens of its run */
    assert_int_equal(b.out_length, 40);
    outcome_clear(&b);
    b = expect_success("generate gen --tokens 0");
    assert_int_equal(b.out_length, 0);
    outcome_clear(&b);
    make_run("ascii", "-s model.vocab=128"); /* a smaller vocabulary is of bytes too */
    b = expect_success("generate ascii --tokens 30");
    assert_int_equal(b.out_length, 30);
    outcome_clear(&a);
    outcome_clear(&b);
    outcome_clear(&c);
    outcome_clear(&d);
}

static void test_generate_to_nowhere(void **state)
{
    (void)state;
    const char *command = TRIMTAB_COMMAND " generate gen --tokens 100000000 2>&1 >/dev/full; "
                                          "echo $?";
    FILE *stream = popen(command, "re"); // NOLINT(cert-env33-c)
    assert_non_null(stream);
    char text[512];
    size_t length = fread(text, 1, sizeof text - 1, stream);
    text[length] = '\0';
    pclose(stream);
    assert_string_equal(text, "trimtab: cannot write to standard output: No space left on device\n"
                              "74\n");
}

/* ---- reading checkpoints ---- */

static void test_inspect(void **state)
{
    (void)state;
    outcome o = expect_success("inspect gen");
    assert_true(holds(o.out, "step 12"));
    assert_true(holds(o.out, "wte.weight"));
    assert_true(holds(o.out, "all finite"));
    assert_true(holds(o.out, "made by"));
    assert_true(holds(o.out, "tiny.yaml:"));
    assert_true(holds(o.out, "evaluations"));
    assert_true(holds(o.out, "decisions"));
    outcome_clear(&o);
    o = expect_success("inspect gen/checkpoints/step-0000000004.h5 --json");
    json_t *root = parse(o.out);
    const json_t *header = json_object_get(root, "checkpoint");
    assert_int_equal(integer_at(header, "step"), 4);
    assert_int_equal(json_string_length(json_object_get(header, "header_sha256")), 64);
    assert_true(json_is_object(json_object_get(root, "state")));
    assert_true(json_is_object(json_object_get(root, "reproducibility")));
    assert_true(json_is_array(json_object_get(root, "decisions")));
    const json_t *steps = json_object_get(json_object_get(root, "config"), "train.steps");
    assert_int_equal(integer_at(steps, "value"), 12);
    assert_true(holds(json_string_value(json_object_get(steps, "origin")), "tiny.yaml:"));
    size_t index;
    const json_t *tensor;
    int64_t elements = 0;
    json_array_foreach(json_object_get(root, "tensors"), index, tensor)
    {
        assert_int_equal(integer_at(tensor, "nonfinite"), 0);
        assert_true(number_at(tensor, "l2") >= number_at(tensor, "max_abs"));
        assert_true(number_at(tensor, "max_abs") >= 0);
        elements += integer_at(tensor, "elements");
    }
    assert_true(index > 0);
    assert_true(elements > 3 * 256 * 32); /* parameters and two moments */
    json_decref(root);
    outcome_clear(&o);
}

static void test_diff(void **state)
{
    (void)state;
    outcome o = expect_success("diff gen gen/checkpoints/step-0000000012.h5");
    assert_true(holds(o.out, "identical: "));
    outcome_clear(&o);
    o = run("diff gen gen/checkpoints/step-0000000008.h5");
    assert_int_equal(o.code, 1);
    assert_true(holds(o.out, "params/wte.weight"));
    assert_true(holds(o.out, "different: "));
    assert_true(holds(o.out, "(steps 12 and 8)"));
    assert_int_equal(o.err_length, 0);
    outcome_clear(&o);
    o = run("diff --json gen gen/checkpoints/step-0000000008.h5");
    assert_int_equal(o.code, 1);
    json_t *root = parse(o.out);
    assert_true(json_is_false(json_object_get(root, "identical")));
    const json_t *first = json_array_get(json_object_get(root, "tensors"), 0);
    assert_true(number_at(first, "max_abs") > 0);
    assert_true(integer_at(first, "max_ulp") > 0);
    assert_true(number_at(first, "cosine") <= 1.0000001);
    json_decref(root);
    outcome_clear(&o);
    make_run("wider", "-s model.channels=64");
    o = run("diff gen wider");
    assert_int_equal(o.code, 1);
    assert_true(holds(o.out, "f32 256x32 in the first, f32 256x64 in the second"));
    outcome_clear(&o);
    make_run("deeper", "-s model.layers=3");
    o = run("diff gen deeper");
    assert_int_equal(o.code, 1);
    assert_true(holds(o.out, "only in the second"));
    outcome_clear(&o);
}

/* Weights in bf16 alone are read, measured and compared as numbers. */
static void test_bf16_weights(void **state)
{
    (void)state;
    make_run("narrow", "-s compression.weights=bf16");
    outcome o = expect_success("inspect narrow");
    assert_true(holds(o.out, "params.bf16/wte.weight              bf16  256x32"));
    assert_true(holds(o.out, "params/ln_f.weight                  f32   32"));
    outcome_clear(&o);
    o = expect_success("verify narrow");
    outcome_clear(&o);
    o = expect_success("generate narrow --tokens 8");
    assert_true(o.out_length > 0);
    outcome_clear(&o);
    o = run("diff --json narrow narrow/checkpoints/step-0000000008.h5");
    assert_int_equal(o.code, 1);
    json_t *root = parse(o.out);
    size_t index;
    const json_t *tensor;
    int found = 0;
    json_array_foreach(json_object_get(root, "tensors"), index, tensor)
    {
        if (strcmp(json_string_value(json_object_get(tensor, "tensor")),
                   "params.bf16/h.0.mlp.c_fc.weight") == 0) {
            found++;
            assert_true(number_at(tensor, "max_abs") > 0 && number_at(tensor, "max_abs") < 0.1);
            assert_true(integer_at(tensor, "max_ulp") > 0);
            assert_true(number_at(tensor, "cosine") > 0.9);
        }
    }
    assert_int_equal(found, 1);
    json_decref(root);
    outcome_clear(&o);
    o = run("run tiny.yaml -o narrow --resume auto -s compression.weights=f32");
    assert_int_equal(o.code, 78);
    assert_true(holds(o.err, "compression.weights"));
    outcome_clear(&o);
    o = run("run tiny.yaml -o none -s compression.weights=bf16 -s kernels.linear_dgrad=openblas");
    assert_int_equal(o.code, 78);
    assert_true(holds(o.err, "kernels.linear_dgrad is openblas, which reads weights in f32"));
    outcome_clear(&o);
}

/* ---- on a terminal ---- */

/* What a terminal of `columns` gets to see on standard error. */
static char *on_terminal(unsigned short columns, const char *folder)
{
    static char seen[1 << 20];
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    int master;
    size_t length = 0;
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stdout);
        execl(TRIMTAB_COMMAND, "trimtab", "run", "tiny.yaml", "-o", folder, "-s",
              "kernels.tile_m=48", NULL);
        _exit(127);
    }
    ssize_t got;
    while (length + 1 < sizeof seen &&
           (got = read(master, seen + length, sizeof seen - 1 - length)) > 0) {
        length += (size_t)got;
    }
    seen[length] = '\0';
    int status;
    waitpid(pid, &status, 0);
    close(master);
    assert_int_equal(WEXITSTATUS(status), 0);
    return seen;
}

static void test_terminal(void **state)
{
    (void)state;
    int probe = posix_openpt(O_RDWR | O_NOCTTY);
    if (probe < 0) {
        print_message("skipped: this system gives no pseudo-terminals: %s\n", strerror(errno));
        skip();
    }
    close(probe);
    setenv("TERM", "xterm", 1);
    unsetenv("CI");
    unsetenv("NO_COLOR");
    const char *seen = on_terminal(60, "tty");
    assert_true(holds(seen, "\r\033[K") || holds(seen, "\033[K"));
    assert_true(holds(seen, "step 12/12"));
    assert_true(holds(seen, "\033[33mwarning\033[0m: "));
    for (const char *line = strstr(seen, "\rstep "); line; line = strstr(line + 1, "\rstep ")) {
        assert_true(strcspn(line + 1, "\033\r\n") < 60);
    }
    assert_null(strstr(seen, "gates ok")); /* no room for it, so not half of it */
    assert_non_null(strstr(on_terminal(120, "tty-wide"), "gates ok"));
    setenv("NO_COLOR", "1", 1);
    seen = on_terminal(60, "tty-plain");
    assert_true(holds(seen, "\033[K"));
    assert_null(strstr(seen, "\033[33m"));
    unsetenv("NO_COLOR");
    setenv("CI", "true", 1);
    assert_null(strchr(on_terminal(60, "tty-ci"), '\033'));
    unsetenv("CI");
    setenv("TERM", "dumb", 1);
    assert_null(strchr(on_terminal(60, "tty-dumb"), '\033'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_run_json),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_dry_run),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_dry_resolution),
        cmocka_unit_test(test_auto_within_budget),
        cmocka_unit_test(test_resume_with_a_damaged_journal),
        cmocka_unit_test(test_dry_resume),
        cmocka_unit_test(test_next_command),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_resume_is_exact),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_resume_from_elsewhere),
        cmocka_unit_test(test_resume_with_a_changed_file),
        cmocka_unit_test(test_second_interrupt),
        cmocka_unit_test(test_ignored_interrupt),
        cmocka_unit_test(test_requeue_output),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_generate_to_nowhere),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_bf16_weights),
        cmocka_unit_test(test_terminal),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
