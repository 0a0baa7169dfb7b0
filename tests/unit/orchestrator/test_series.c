/* Runs that went well, replayed through all gates: none may trip, and faults planted into them
 * must. series/README.md says how they were recorded. */
#include "gates_unit.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_STEPS = 4000, FAULTS = 50, WARMED_UP = 300 };

static const char *const names[] = {
    "tiny-1",     "tiny-2",       "tiny-3",       "small-1",      "small-2",
    "small-3",    "quickstart-1", "quickstart-2", "quickstart-3", "medium-1",
    "medium-2",   "medium-3",     "unclipped-1",  "settled-1",    "settled-2",
    "constant-1", "wide-1",       "wide-2",       "wide-3",       "gpt-10m-1",
};
enum { SERIES = sizeof names / sizeof *names };

typedef struct series {
    int count;
    double loss[MAX_STEPS], norm[MAX_STEPS];
} series;

static series recorded[SERIES];

static int load(void **state)
{
    (void)state;
    for (int i = 0; i < SERIES; i++) {
        char path[512];
        snprintf(path, sizeof path, TT_SOURCE_DIR "/tests/unit/orchestrator/series/%s.csv",
                 names[i]);
        FILE *file = fopen(path, "r");
        if (!file) {
            print_error("no %s\n", path);
            return -1;
        }
        char line[64];
        series *one = &recorded[i];
        while (fgets(line, sizeof line, file) && one->count < MAX_STEPS) {
            char *rest = line;
            double loss = strtod(line, &rest);
            if (*rest == ',') {
                one->loss[one->count] = loss;
                one->norm[one->count++] = strtod(rest + 1, NULL);
            }
        }
        fclose(file);
    }
    return 0;
}

static uint64_t seed = 7;

static int any(int below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)below);
}

/* ---- going through a run ------------------------------------------------------------------ */

typedef struct outcome {
    tt_gate_counts counts;
    int steps, warnings;
    int trip_step; /* of the first; -1: none */
    int warn_step;
    const char *gate;
    bool wants_largest;
    double spike_loss, spike_norm, drift_loss, drift_norm; /* largest, if wanted */
} outcome;

static void note_largest(outcome *out, const tt_gate_state *run, const tt_measurements *measured)
{
    double log_loss = log(measured->values[TT_METRIC_LOSS]);
    double log_norm = log(measured->values[TT_METRIC_GRADIENT_NORM]);
    out->spike_loss =
        fmax(out->spike_loss, tt_watch_score(&run->loss, log_loss, TT_WATCH_RULE_LOSS));
    out->spike_norm =
        fmax(out->spike_norm, tt_watch_score(&run->norm, log_norm, TT_WATCH_RULE_NORM));
    out->drift_loss =
        fmax(out->drift_loss, tt_watch_cusum(&run->loss, log_loss, TT_WATCH_RULE_LOSS));
    out->drift_norm =
        fmax(out->drift_norm, tt_watch_cusum(&run->norm, log_norm, TT_WATCH_RULE_NORM));
}

/* Judges and accepts one step, as a run does. */
static tt_verdict_kind go(tt_gate_state *run, double loss, double norm, outcome *out)
{
    static const tt_gate_targets none;
    tt_gate_limits limits = defaults();
    limits.initial_loss = log(256);
    tt_measurements measured = healthy();
    tt_measurements_set(&measured, TT_METRIC_LOSS, loss);
    tt_measurements_set(&measured, TT_METRIC_GRADIENT_NORM, norm);
    tt_gate_decision decision =
        tt_gates_judge(&limits, run, &none, TT_GATES_ALL, &measured, &out->counts);
    if (decision.verdict == TT_TRIP) {
        out->trip_step = out->steps;
        out->gate = decision.gate;
        return TT_TRIP;
    }
    if (decision.verdict == TT_WARN) {
        out->warnings++;
        out->warn_step = out->warn_step < 0 ? out->steps : out->warn_step;
    }
    if (out->wants_largest) {
        note_largest(out, run, &measured);
    }
    tt_gates_accept(run, &none, &measured);
    out->steps++;
    return decision.verdict;
}

static outcome new_outcome(void)
{
    return (outcome){.trip_step = -1, .warn_step = -1, .gate = ""};
}

/* Evaluations that look at what was recorded. */
static int64_t evaluations_of(const tt_gate_counts *counts)
{
    return counts->evaluations[TT_GATE_LOSS] + counts->evaluations[TT_GATE_GRADIENT_NORM] +
           counts->evaluations[TT_GATE_SPIKE_LOSS] + counts->evaluations[TT_GATE_SPIKE_NORM] +
           counts->evaluations[TT_GATE_DRIFT_LOSS] + counts->evaluations[TT_GATE_DRIFT_NORM];
}

/* ---- clean -------------------------------------------------------------------------------- */

static void clean_runs_pass(void **state)
{
    (void)state;
    int64_t evaluations = 0;
    print_message("%-14s %6s %12s %6s %6s %11s %11s %11s %11s\n", "series", "steps", "evaluations",
                  "trips", "warns", "spike_loss", "spike_norm", "drift_loss", "drift_norm");
    for (int i = 0; i < SERIES; i++) {
        tt_gate_state run = {0};
        outcome out = new_outcome();
        out.wants_largest = true;
        assert_true(recorded[i].count > 400);
        for (int step = 0; step < recorded[i].count; step++) {
            if (go(&run, recorded[i].loss[step], recorded[i].norm[step], &out) == TT_TRIP) {
                fail_msg("%s: %s trips at step %d", names[i], out.gate, step);
            }
        }
        int64_t these = evaluations_of(&out.counts);
        print_message("%-14s %6d %12lld %6d %6d %11.1f %11.1f %11.1f %11.1f\n", names[i], out.steps,
                      (long long)these, 0, out.warnings, out.spike_loss, out.spike_norm,
                      out.drift_loss, out.drift_norm);
        assert_int_equal(out.warnings, 0);
        evaluations += these;
    }
    print_message("%lld evaluations, no trip\n", (long long)evaluations);
    assert_true(evaluations >= 100000);
}

/* ---- planted faults ----------------------------------------------------------------------- */

typedef struct fault {
    const char *name;
    double loss, norm; /* factors; or, where `absolute`, values that are not 0 */
    bool absolute;
    int must; /* percent of them that are caught at once, at least */
} fault;

/* Of `FAULTS` steps of the series with the fault, how many trip. */
static int caught(const series *one, const fault *what)
{
    bool wanted[MAX_STEPS] = {0};
    for (int n = 0; n < FAULTS;) {
        int step = WARMED_UP + any(one->count - WARMED_UP);
        n += !wanted[step];
        wanted[step] = true;
    }
    tt_gate_state run = {0};
    int trips = 0;
    for (int step = 0; step < one->count; step++) {
        outcome out = new_outcome();
        double loss = one->loss[step];
        double norm = one->norm[step];
        if (wanted[step]) {
            double bad_loss = what->absolute ? what->loss : loss * what->loss;
            double bad_norm = what->absolute ? what->norm : norm * what->norm;
            bad_loss = bad_loss == 0 ? loss : bad_loss;
            bad_norm = bad_norm == 0 ? norm : bad_norm;
            tt_gate_state copy = run; /* what trips is not published */
            trips += go(&copy, bad_loss, bad_norm, &out) == TT_TRIP;
        }
        go(&run, loss, norm, &out);
    }
    return trips;
}

static void faults_are_caught_at_once(void **state)
{
    (void)state;
    static const fault faults[] = {
        {"loss NaN", NAN, 0, true, 100},   {"loss infinite", INFINITY, 0, true, 100},
        {"norm NaN", 0, NAN, true, 100},   {"norm infinite", 0, INFINITY, true, 100},
        {"norm 1e-7", 0, 1e-7, true, 100}, {"loss x 1.5", 1.5, 1, false, 0},
        {"loss x 2", 2, 1, false, 90},     {"loss x 3", 3, 1, false, 99},
        {"loss x 5", 5, 1, false, 100},    {"norm x 10", 1, 10, false, 99},
        {"norm x 30", 1, 30, false, 100},
    };
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        int total = 0;
        print_message("%-14s of %d:", faults[f].name, FAULTS);
        for (int i = 0; i < SERIES; i++) {
            int trips = caught(&recorded[i], &faults[f]);
            print_message(" %d", trips);
            total += trips;
        }
        print_message(" = %.1f %%\n", 100.0 * total / (FAULTS * SERIES));
        assert_true(100 * total >= faults[f].must * FAULTS * SERIES);
    }
}

/* Small batches make jumps of 40 % by themselves; where the noise is 2 %, a half more is a spike.
 */
static void half_more_in_a_quiet_run(void **state)
{
    (void)state;
    static const fault half_more = {"loss x 1.5", 1.5, 1, false, 90};
    for (int i = 0; i < SERIES; i++) {
        if (strcmp(names[i], "wide-1") == 0) {
            assert_true(100 * caught(&recorded[i], &half_more) >= half_more.must * FAULTS);
            return;
        }
    }
    fail();
}

/* ---- drift -------------------------------------------------------------------------------- */

enum { AROUND = 64, BLOCK = 50, PLATEAU = 20000, RISES = 5, LEVEL_STEPS = 1500, RISE_STEPS = 200 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The noise of a series, as factors: its values over the median of those around them. */
static int noise_of(const double *values, int count, double *out)
{
    int taken = 0;
    for (int i = WARMED_UP; i + AROUND < count; i++) {
        double window[2 * AROUND + 1];
        memcpy(window, values + i - AROUND, sizeof window);
        qsort(window, 2 * AROUND + 1, sizeof *window, ascending);
        out[taken++] = values[i] / window[AROUND];
    }
    return taken;
}

/* A run that has settled, with the noise of a recorded one: blocks of it in random order. */
typedef struct settled {
    double loss[MAX_STEPS], norm[MAX_STEPS];
    int count, at, left;
} settled;

static void settle(settled *run, const series *one)
{
    run->count = noise_of(one->loss, one->count, run->loss);
    noise_of(one->norm, one->count, run->norm);
    run->left = 0;
}

static int next_of(settled *run)
{
    if (run->left == 0) {
        run->at = any(run->count - BLOCK);
        run->left = BLOCK;
    }
    run->left--;
    return run->at++;
}

/* Between steps in which nothing changes but noise, no drift is found. */
static void settled_runs_pass(void **state)
{
    (void)state;
    static settled noise;
    int warnings = 0;
    for (int i = 0; i < SERIES; i++) {
        tt_gate_state run = {0};
        outcome out = new_outcome();
        settle(&noise, &recorded[i]);
        for (int step = 0; step < PLATEAU; step++) {
            int n = next_of(&noise);
            if (go(&run, 2 * noise.loss[n], noise.norm[n], &out) == TT_TRIP) {
                fail_msg("%s: %s trips at step %d", names[i], out.gate, step);
            }
        }
        warnings += out.warnings > 0;
    }
    print_message("%d steps without a trip, warnings in %d of %d runs\n", PLATEAU * SERIES,
                  warnings, SERIES);
}

/* Steps until a rise by this factor in 200 steps, to stay, is found; -1: within 600 it is not. */
static int steps_to_find(settled *noise, double loss_rise, double norm_rise)
{
    tt_gate_state run = {0};
    for (int step = 0; step < LEVEL_STEPS + 3 * RISE_STEPS; step++) {
        outcome out = new_outcome();
        int n = next_of(noise);
        double share = fmax(0, fmin(1, (double)(step - LEVEL_STEPS) / RISE_STEPS));
        double loss = 2 * noise->loss[n] * pow(loss_rise, share);
        double norm = 0.5 * noise->norm[n] * pow(norm_rise, share);
        /* The largest outlier of a series, drawn once more, may be a spike: left out. */
        if (go(&run, loss, norm, &out) == TT_TRIP && strncmp(out.gate, "drift", 5) == 0) {
            assert_true(step >= LEVEL_STEPS);
            return step - LEVEL_STEPS;
        }
    }
    return -1;
}

static void rises_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double loss, norm;
        int must; /* percent, at least */
    } rises[] = {{"loss + 2 %", 1.02, 1, 0},
                 {"loss + 3 %", 1.03, 1, 0},
                 {"loss + 5 %", 1.05, 1, 100},
                 {"loss + 10 %", 1.1, 1, 100},
                 {"norm x 2", 1, 2, 0},
                 {"norm x 5", 1, 5, 0},
                 {"norm x 3, loss x 1.03", 1.03, 3, 85}};
    static settled noise;
    for (size_t r = 0; r < sizeof rises / sizeof *rises; r++) {
        int found = 0;
        int longest = 0;
        double sum = 0;
        for (int i = 0; i < SERIES; i++) {
            settle(&noise, &recorded[i]);
            for (int n = 0; n < RISES; n++) {
                int steps = steps_to_find(&noise, rises[r].loss, rises[r].norm);
                found += steps >= 0;
                sum += steps >= 0 ? steps : 0;
                longest = steps > longest ? steps : longest;
            }
        }
        print_message("%-12s in 200 steps: %d of %d found, after %.0f steps, at most %d\n",
                      rises[r].name, found, RISES * SERIES, sum / fmax(1, found), longest);
        assert_true(100 * found >= rises[r].must * RISES * SERIES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_runs_pass),          cmocka_unit_test(faults_are_caught_at_once),
        cmocka_unit_test(half_more_in_a_quiet_run), cmocka_unit_test(settled_runs_pass),
        cmocka_unit_test(rises_are_found),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
