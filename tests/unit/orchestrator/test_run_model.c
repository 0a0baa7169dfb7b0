/* Long runs of random events, against a model of its own that reads the journal: what every
 * published step ran with, and the state that it led to. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KNOBS = 7, MAX_STEPS = 12000, MAX_DECISIONS = 20000 };

static const int64_t off_values[KNOBS] = {1, 1, 1, 16, 16, 16, 16};

/* ---- the model: decisions as the journal has them ---- */

typedef enum kind { COMMIT, REVERT, SWITCH, BREAKER, OTHER } kind;

typedef struct decision {
    kind kind;
    int64_t step;
    int knob;
    char event[16];
    struct {
        int knob;
        int64_t value;
    } changes[4];
    int change_count;
} decision;

typedef struct model {
    decision decisions[MAX_DECISIONS];
    int count;
    long offset; /* in the journal */
    bool has_forks;
    int64_t initial[KNOBS];
    /* What was seen. */
    int breaker_changes[3][3]; /* from, to: closed, open, half-open */
    int outcomes[8], actions[TT_ACTION_STOP + 1], verdicts, convictions;
    uint32_t may_be_convicted;
} model;

static int knob_named(const char *name)
{
    return (int)strtol(strrchr(name, 'k') + 1, NULL, 10);
}

static const char *text_of(const json_t *record, const char *name)
{
    const char *text = json_string_value(json_object_get(record, name));
    return text ? text : "";
}

static void take_changes(decision *d, const json_t *record)
{
    size_t index;
    const json_t *change;
    json_array_foreach(json_object_get(record, "changes"), index, change)
    {
        assert_true(d->change_count < 4);
        d->changes[d->change_count].knob = knob_named(json_string_value(json_array_get(change, 0)));
        d->changes[d->change_count++].value =
            strtol(json_string_value(json_array_get(change, 2)), NULL, 10);
    }
}

static void see(model *m, const json_t *record)
{
    static const char *const outcomes[] = {"commit",  "too slow",  "worse loss",
                                           "tripped", "abandoned", "refused"};
    for (int i = 0; i < 6; i++) {
        m->outcomes[i] += strcmp(text_of(record, "outcome"), outcomes[i]) == 0;
    }
    for (tt_action action = TT_ACTION_RETRY; action <= TT_ACTION_STOP; action++) {
        m->actions[action] += strcmp(text_of(record, "kind"), "trip") == 0 &&
                              strcmp(text_of(record, "action"), tt_action_name(action)) == 0;
    }
    if (strcmp(text_of(record, "event"), "convict") == 0) {
        int knob = knob_named(text_of(record, "optimization"));
        if (!(m->may_be_convicted >> knob & 1)) {
            fail_msg("k%d is innocent", knob);
        }
        m->convictions++;
    }
}

static void take_record(model *m, const json_t *record)
{
    static const char *const kinds[] = {"commit", "revert", "switch", "breaker"};
    see(m, record);
    if (!json_object_get(record, "sequence")) {
        return;
    }
    assert_true(m->count < MAX_DECISIONS);
    decision *d = &m->decisions[m->count++];
    *d = (decision){.kind = OTHER, .step = json_integer_value(json_object_get(record, "step"))};
    assert_int_equal(json_integer_value(json_object_get(record, "sequence")), m->count);
    for (int i = 0; i < 4; i++) {
        d->kind = strcmp(text_of(record, "kind"), kinds[i]) == 0 ? (kind)i : d->kind;
    }
    if (d->kind == OTHER) {
        return;
    }
    d->knob = knob_named(text_of(record, "optimization"));
    snprintf(d->event, sizeof d->event, "%s", text_of(record, "event"));
    take_changes(d, record);
}

static void read_journal(model *m, const toy *job)
{
    char path[256];
    char *line = NULL;
    size_t capacity = 0;
    snprintf(path, sizeof path, "%s/decisions.jsonl", job->directory);
    FILE *stream = fopen(path, "re");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, m->offset, SEEK_SET), 0);
    while (getline(&line, &capacity, stream) > 0) {
        json_t *record = json_loads(line, 0, NULL);
        assert_non_null(record);
        take_record(m, record);
        json_decref(record);
    }
    m->offset = ftell(stream);
    free(line);
    fclose(stream);
}

/* A breaker by the rules of the book, over the events of a knob that are in force at `step`. */
typedef struct book {
    int state; /* 0 closed, 1 open, 2 half-open */
    int good, suspicions;
    int64_t suspected[MAX_DECISIONS];
} book;

static void turn(book *b, int state, int changes[3][3])
{
    changes[b->state][state]++;
    b->state = state;
    b->good = 0;
    b->suspicions = 0;
}

static bool is_fifth(book *b, int64_t step)
{
    int within = 0;
    b->suspected[b->suspicions++] = step;
    for (int i = 0; i < b->suspicions; i++) {
        /* What lies ahead again was just now. */
        int64_t ago = b->suspected[i] > step ? 0 : step - b->suspected[i];
        within += ago < 512;
    }
    return within >= 5;
}

static void happen(book *b, const char *event, int64_t step, int changes[3][3])
{
    if (strcmp(event, "convict") == 0) {
        turn(b, 1, changes);
    } else if (strcmp(event, "suspect") == 0 && b->state == 2) {
        turn(b, 1, changes);
    } else if (strcmp(event, "suspect") == 0 && b->state == 0 && is_fifth(b, step)) {
        turn(b, 1, changes);
    } else if (strcmp(event, "probe") == 0 && b->state == 1) {
        turn(b, 2, changes);
    } else if (b->state != 2) {
        return;
    } else if (strcmp(event, "probe good") == 0 && ++b->good == 3) {
        turn(b, 0, changes);
    } else if (strcmp(event, "probe bad") == 0 || strcmp(event, "probe lost") == 0) {
        turn(b, 1, changes);
    }
}

static int breaker_at(model *m, int knob, int64_t step)
{
    static book b;
    int changes[3][3] = {{0}};
    int64_t cut = INT64_MAX; /* of later convictions */
    static bool counts[MAX_DECISIONS];
    b.state = 0;
    b.good = 0;
    b.suspicions = 0;
    for (int i = m->count - 1; i >= 0; i--) {
        const decision *d = &m->decisions[i];
        bool own = d->kind == BREAKER && d->knob == knob;
        counts[i] = own && d->step <= step && d->step <= cut;
        if (own && strcmp(d->event, "convict") == 0 && d->step < cut) {
            cut = d->step;
        }
    }
    for (int i = 0; i < m->count; i++) {
        if (counts[i]) {
            happen(&b, m->decisions[i].event, m->decisions[i].step, changes);
        }
    }
    for (int i = 0; i < 9; i++) {
        int *most = &m->breaker_changes[i / 3][i % 3];
        *most = changes[i / 3][i % 3] > *most ? changes[i / 3][i % 3] : *most;
    }
    return b.state;
}

/* What a step must run with. */
static void in_force_at(model *m, int64_t step, int64_t values[KNOBS])
{
    const decision *switched = NULL;
    memcpy(values, m->initial, sizeof m->initial);
    for (int i = 0; i < m->count; i++) {
        const decision *d = &m->decisions[i];
        switched = d->kind == SWITCH && d->step == step ? d : switched;
        for (int c = 0;
             (d->kind == COMMIT || d->kind == REVERT) && d->step <= step && c < d->change_count;
             c++) {
            values[d->changes[c].knob] = d->changes[c].value;
        }
    }
    for (int k = 0; k < KNOBS; k++) {
        int state = breaker_at(m, k, step);
        if (state == 1 || (state == 2 && m->has_forks)) {
            values[k] = off_values[k];
        }
    }
    for (int c = 0; switched && c < switched->change_count; c++) {
        values[switched->changes[c].knob] = switched->changes[c].value;
    }
}

/* ---- the world ---- */

typedef struct world {
    toy job;
    model model;
    uint64_t seed, counter;
    int slots;
    toy_state at[MAX_STEPS + 1];
    int ends, stops, published;
    const char *settings[16];
    char text[16][40];
} world;

static uint32_t draw(world *w, uint32_t limit)
{
    uint32_t block[4];
    tt_philox(w->seed, 815, w->counter++, block);
    return block[0] % limit;
}

static void check_published(world *w, const tt_step_record *record)
{
    toy *job = &w->job;
    int64_t values[KNOBS];
    int64_t step = record->step;
    assert_true(step < MAX_STEPS);
    in_force_at(&w->model, step, values);
    for (int k = 0; k < KNOBS; k++) {
        if (values[k] != job->knobs[k].ran) {
            fail_msg("seed %llu: step %lld ran with k%d = %lld, not %lld",
                     (unsigned long long)w->seed, (long long)step, k, (long long)job->knobs[k].ran,
                     (long long)values[k]);
        }
    }
    toy_state *next = &w->at[step + 1];
    toy_advance(next, &w->at[step], record->position);
    for (int k = 0; k < KNOBS; k++) {
        next->a[k % 6] += job->knobs[k].changes_state && values[k] != off_values[k]
                              ? 1e-3 * (double)values[k]
                              : 0;
    }
    w->published++;
}

static void check_state(world *w)
{
    const toy_state *now = toy_now(&w->job);
    toy_state expected = w->at[tt_orchestrator_step(w->job.orchestrator)];
    bool damaged = w->job.flip_count > 0 && now->a[2] == 1e6; /* in memory, not seen yet */
    if (!damaged) {
        expected.poison = now->poison; /* (a stop may save what is harmed already) */
        toy_assert_same(now, &expected);
    }
}

static tt_status attempt(world *w)
{
    tt_step_record record;
    tt_status status = toy_attempt(&w->job, &record);
    read_journal(&w->model, &w->job);
    if (!status && record.published) {
        check_published(w, &record);
    }
    if (!status) {
        check_state(w);
    }
    return status;
}

static void come_back(world *w)
{
    toy *job = &w->job;
    toy old = *job;
    toy_init(job, old.directory);
    toy_add_knobs(job, KNOBS, old.replays);
    for (int k = 0; k < KNOBS; k++) {
        int64_t value = job->knobs[k].value;
        job->knobs[k] = old.knobs[k];
        job->knobs[k].value = value;
    }
    memcpy(job->harms, old.harms, sizeof job->harms);
    job->harm_count = old.harm_count;
    job->calm = old.calm;
    job->ns = old.ns;
    assert_ok(toy_open(job, "auto", NULL));
    w->ends++;
    check_state(w);
}

static int64_t now_at(const world *w)
{
    return tt_orchestrator_step(w->job.orchestrator);
}

/* Steps up to `until`; what ends is taken up again. */
static void run_until(world *w, int64_t until)
{
    int attempts = 0;
    while (tt_orchestrator_step(w->job.orchestrator) < until) {
        tt_status status = attempt(w);
        if (attempts++ > 1500) {
            fail_msg("seed %llu: step %lld of %lld gets nowhere: %s", (unsigned long long)w->seed,
                     (long long)now_at(w), (long long)until, w->job.last_log);
        }
        if (status == TT_EGATE) {
            w->stops++;
            w->job.harm_count = 0;
            w->job.flip_count = 0;
            assert_int_equal(toy_close(&w->job, status), TT_EGATE);
            come_back(w);
        } else {
            assert_ok(status);
        }
    }
}

static void random_harm(world *w)
{
    toy_harm harm = {.kind = (toy_harm_kind)draw(w, TOY_HARM_KINDS),
                     .all = draw(w, 2),
                     .from = now_at(w) + 1 + draw(w, 8),
                     .until = INT64_MAX,
                     .position = -1,
                     .strikes = -1};
    uint32_t what = draw(w, 6);
    harm.with = UINT32_C(1) << draw(w, KNOBS);
    harm.with |= what == 0 ? UINT32_C(1) << draw(w, KNOBS) : 0;
    harm.delay = harm.kind == TOY_HARM_STATE;
    if (harm.kind == TOY_HARM_ERROR) {
        harm.with = UINT32_C(1) << (3 + draw(w, 3));
    }
    w->model.may_be_convicted = harm.with;
    if (what == 5 && harm.kind < TOY_HARM_ERROR) {
        harm.with = 0; /* comes and goes by itself */
        harm.strikes = 1 + (int)draw(w, 5);
        w->model.may_be_convicted = 0;
    } else if (what == 4 && harm.kind < TOY_HARM_ERROR) {
        harm.with = 0; /* the batch */
        harm.from = 0;
        harm.position = TOY_BATCH * (now_at(w) + 3);
        w->model.may_be_convicted = 0;
    }
    toy_add_harm(&w->job, harm);
    if (draw(w, 3) == 0) {
        run_until(w, now_at(w) + draw(w, 9));
        toy_abandon(&w->job);
        come_back(w);
    }
    run_until(w, now_at(w) + 16 + draw(w, draw(w, 4) ? 1 : 100));
    if (toy_now(&w->job)->poison && w->job.harm_count) {
        run_until(w, now_at(w) + 4); /* it shows */
    }
    w->job.harm_count = 0;
    w->model.may_be_convicted = 0;
}

static void event(world *w)
{
    toy_knob *knob = &w->job.knobs[3 + draw(w, 3)];
    switch (draw(w, 10)) {
    case 0:
    case 1:
    case 2:
        random_harm(w);
        break;
    case 3:
        w->job.flip_count = 0;
        if (!w->job.calm) { /* (it shows in the loss) */
            toy_flip_bits(&w->job, now_at(w) + 1 + draw(w, 5), true);
        }
        run_until(w, now_at(w) + 12);
        w->job.flip_count = 0;
        break;
    case 4:
        toy_abandon(&w->job);
        come_back(w);
        break;
    case 5:
        tt_orchestrator_request_stop(w->job.orchestrator, 15);
        assert_int_equal(attempt(w), TT_EREQUEUE);
        assert_int_equal(toy_close(&w->job, TT_EREQUEUE), TT_EREQUEUE);
        come_back(w);
        break;
    case 6:
        knob->factor = 0.7 + 0.1 * draw(w, 6);
        knob->error = 0.001 * (1 + draw(w, 11));
        knob->loss = draw(w, 3) ? 0 : 0.01 * draw(w, 6);
        knob->fails_to_conform = draw(w, 8) == 0;
        break;
    default:
        run_until(w, now_at(w) + draw(w, 60));
        break;
    }
}

static void set(world *w, int at, const char *key, int value)
{
    snprintf(w->text[at], sizeof w->text[at], "%s=%d", key, value);
    w->settings[at] = w->text[at];
    w->settings[at + 1] = NULL;
}

static void begin(world *w, const char *directory, bool replays)
{
    toy *job = &w->job;
    toy_init(job, directory);
    toy_add_knobs(job, KNOBS, replays);
    job->calm = !replays || draw(w, 2);
    w->model.has_forks = replays;
    for (int k = 0; k < KNOBS; k++) {
        job->knobs[k].changes_state = draw(w, 2);
        job->knobs[k].acts_on_state = draw(w, 4) == 0;
        w->model.initial[k] = off_values[k];
    }
    for (int k = 3; k < 6; k++) {
        job->knobs[k].initial = k == 3 ? 8 : 4;
        job->knobs[k].measured = true;
        job->knobs[k].error = 0.001 * (1 + draw(w, 11));
        job->knobs[k].factor = 0.7 + 0.1 * draw(w, 6);
        w->model.initial[k] = job->knobs[k].initial;
    }
    w->model.initial[0] = 4;
    w->model.initial[6] = 2;
    set(w, 0, "toy.k0", 4);
    set(w, 1, "toy.k1", 1);
    set(w, 2, "toy.k2", 1);
    set(w, 3, "toy.k6", 2);
    set(w, 4, "adapt.every_steps", 20);
    set(w, 5, "trials.pairs", 10);
    set(w, 6, "trials.budget_seconds", 1000);
    set(w, 7, "snapshot.slots", 2 + (int)draw(w, 4));
    set(w, 8, "checkpoint.every_steps", 10 + (int)draw(w, 60));
    set(w, 9, "checkpoint.keep", 2);
    /* (Events move the loss for good: that would be a drift.) */
    set(w, 10, "gates.drift.max", 1000000);
    set(w, 11, "gates.spike.max", 1000000);
    w->at[0] = toy_expected(0, NULL);
    assert_ok(toy_open(job, NULL, w->settings));
}

static void random_events(void **state)
{
    enum { WORLDS = 24, EVENTS = 60 };
    static world w;
    static model all;
    int ends = 0;
    int stops = 0;
    int published = 0;
    for (uint64_t seed = 0; seed < WORLDS; seed++) {
        char name[32];
        memset(&w, 0, sizeof w);
        w.seed = seed;
        snprintf(name, sizeof name, "model-%d", (int)seed);
        begin(&w, toy_path(state, name), seed % 3 != 2);
        for (int i = 0; i < EVENTS; i++) {
            event(&w);
        }
        assert_ok(toy_close(&w.job, TT_OK));
        ends += w.ends;
        stops += w.stops;
        published += w.published;
        for (int i = 0; i < 9; i++) {
            all.breaker_changes[i / 3][i % 3] += w.model.breaker_changes[i / 3][i % 3];
        }
        for (int i = 0; i < 6; i++) {
            all.outcomes[i] += w.model.outcomes[i];
        }
        for (int i = 0; i <= TT_ACTION_STOP; i++) {
            all.actions[i] += w.model.actions[i];
        }
        all.convictions += w.model.convictions;
        all.count += w.model.count;
    }
    print_message("%d steps published, %d ends, %d stops, %d decisions, %d convictions\n",
                  published, ends, stops, all.count, all.convictions);
    print_message("closed->open %d, open->half %d, half->open %d, half->closed %d\n",
                  all.breaker_changes[0][1], all.breaker_changes[1][2], all.breaker_changes[2][1],
                  all.breaker_changes[2][0]);
    print_message("trials: %d commit, %d too slow, %d worse loss, %d tripped, %d abandoned, "
                  "%d refused\n",
                  all.outcomes[0], all.outcomes[1], all.outcomes[2], all.outcomes[3],
                  all.outcomes[4], all.outcomes[5]);
    print_message("ladder: %d retry, %d search, %d disable, %d rollback, %d skip, %d stop\n",
                  all.actions[TT_ACTION_RETRY], all.actions[TT_ACTION_SEARCH],
                  all.actions[TT_ACTION_DISABLE], all.actions[TT_ACTION_ROLLBACK],
                  all.actions[TT_ACTION_SKIP], all.actions[TT_ACTION_STOP]);
    for (int i = 0; i < 6; i++) {
        assert_true(all.outcomes[i] > 0);
    }
    for (int i = TT_ACTION_RETRY; i <= TT_ACTION_STOP; i++) {
        assert_true(all.actions[i] > 0);
    }
    assert_true(all.breaker_changes[0][1] && all.breaker_changes[1][2] &&
                all.breaker_changes[2][1] && all.breaker_changes[2][0]);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(random_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
