/* Planted culprits: the search names who is to blame, nobody else's breaker opens, and the run goes
 * on as if nothing had been. */
#include "toy.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PLANTS = 400, MAX_STEPS = 1 << 16 };

typedef struct dice {
    uint64_t seed, counter;
} dice;

static uint32_t draw(dice *from, uint32_t limit)
{
    uint32_t block[4];
    tt_philox(from->seed, 4711, from->counter++, block);
    return block[0] % limit;
}

/* What was planted, and what should come of it. */
typedef struct plant {
    toy_harm harm;
    const char *verdict; /* NULL: no search */
    uint32_t guilty, disable;
} plant;

typedef struct world {
    toy job;
    dice dice;
    int slots;
    int64_t values[TOY_KNOBS]; /* while they are on */
    toy_state expected;        /* of a run without harm, at `reached` */
    int64_t reached, position;
    int64_t skipped[MAX_PLANTS + 1];
    int skips;
    const char *verdicts[MAX_PLANTS];
    int searches;
    uint32_t on_at[MAX_STEPS]; /* what was on in each published step */
} world;

/* ---- the expected verdict ---- */

static int knobs_of(uint32_t mask)
{
    return __builtin_popcount(mask);
}

/* The first in reverse precedence. */
static uint32_t first_suspect(const toy *job, uint32_t mask)
{
    static const int order[] = {6, 7, 3, 4, 5, 0, 1, 2};
    for (int i = 0; i < TOY_KNOBS; i++) {
        if (mask >> order[i] & 1 && order[i] < job->knob_count) {
            return UINT32_C(1) << order[i];
        }
    }
    return 0;
}

static uint32_t acting_on_state(const toy *job)
{
    uint32_t mask = 0;
    for (int k = 0; k < job->knob_count; k++) {
        mask |= job->knobs[k].acts_on_state ? UINT32_C(1) << k : 0;
    }
    return mask;
}

static void expect_culprit(const world *w, plant *p)
{
    const toy_harm *harm = &p->harm;
    bool any_alone = harm->all || knobs_of(harm->with) == 1;
    uint32_t alone = any_alone ? harm->with : 0;
    /* At the first depth those are not asked that act on state, if the gate is before the update.
     */
    bool at_first = harm->kind != TOY_HARM_STATE;
    uint32_t asked = harm->kind == TOY_HARM_UPDATE ? UINT32_MAX : ~acting_on_state(&w->job);
    if (at_first && (alone & asked)) {
        alone &= asked;
    }
    p->guilty = alone ? alone : harm->with;
    p->disable = alone ? first_suspect(&w->job, alone) : harm->with;
    p->verdict = !alone ? "interaction" : knobs_of(alone) == 1 ? "culprit" : "interaction (either)";
}

/* ---- planting ---- */

static bool is_closed(const world *w, int knob)
{
    return tt_orchestrator_optimization(w->job.orchestrator, (size_t)knob).breaker ==
           TT_BREAKER_CLOSED;
}

static uint32_t closed_and_on(const world *w)
{
    uint32_t mask = 0;
    for (int k = 0; k < w->job.knob_count; k++) {
        mask |= is_closed(w, k) && toy_knob_is_on(&w->job, k) ? UINT32_C(1) << k : 0;
    }
    return mask;
}

static uint32_t pick(world *w, uint32_t from, int count)
{
    uint32_t picked = 0;
    while (knobs_of(picked) < count && picked != from) {
        uint32_t one = UINT32_C(1) << draw(&w->dice, TOY_KNOBS);
        picked |= from & one;
    }
    return picked;
}

static void plant_culprit(world *w, plant *p, uint32_t on)
{
    int most_delay = w->job.knob_count <= 3 ? 3 : w->job.knob_count == 4 ? 2 : 1;
    most_delay = most_delay < w->slots - 1 ? most_delay : w->slots - 1;
    do {
        p->harm.kind = (toy_harm_kind)draw(&w->dice, TOY_HARM_KINDS);
    } while ((p->harm.kind == TOY_HARM_STATE && most_delay < 1) ||
             (p->harm.kind == TOY_HARM_UPDATE && w->slots < 2));
    p->harm.with = pick(w, on, 1 + (int)draw(&w->dice, 3));
    p->harm.all = draw(&w->dice, 2);
    p->harm.strikes = -1;
    if (p->harm.kind == TOY_HARM_STATE) {
        p->harm.delay = 1 + (int)draw(&w->dice, (uint32_t)most_delay);
    }
    if (p->harm.kind == TOY_HARM_ERROR) {
        /* Only the one that is measured can show it; it is the culprit. */
        p->harm.with = pick(w, on, 1);
    }
    expect_culprit(w, p);
}

static plant plant_something(world *w, uint32_t on)
{
    plant p = {.harm = {.position = -1, .until = INT64_MAX}};
    int64_t now = tt_orchestrator_step(w->job.orchestrator);
    p.harm.from = now + 1 + draw(&w->dice, 6);
    uint32_t what = draw(&w->dice, 10);
    if (what < 6) {
        plant_culprit(w, &p, on);
    } else if (what < 8) {
        /* Comes and goes: also in the middle of a search. (What comes again and again with one and
         * the same optimization is its fault.) */
        p.harm.kind = (toy_harm_kind)draw(&w->dice, TOY_HARM_ERROR);
        p.harm.with = draw(&w->dice, 2) ? pick(w, on, 1) : 0;
        p.harm.strikes = 1 + (int)draw(&w->dice, p.harm.with ? 3 : 4 + (uint32_t)knobs_of(on));
        p.verdict = p.harm.strikes == 1 ? NULL : "transient";
    } else {
        p.harm.kind = (toy_harm_kind)draw(&w->dice, TOY_HARM_ERROR);
        p.harm.strikes = -1;
        p.harm.position = w->position + TOY_BATCH * (p.harm.from - w->reached);
        p.verdict = "batch";
    }
    return p;
}

/* ---- running ---- */

static tt_status steps_until(world *w, int64_t until)
{
    toy *job = &w->job;
    tt_step_record record;
    tt_status status = TT_OK;
    while (!status && tt_orchestrator_step(job->orchestrator) < until) {
        status = toy_attempt(job, &record);
        if (!status && record.published) {
            assert_true(record.step < MAX_STEPS);
            w->on_at[record.step] = 0;
            for (int k = 0; k < job->knob_count; k++) {
                w->on_at[record.step] |= toy_knob_is_on(job, k) ? UINT32_C(1) << k : 0;
            }
        }
    }
    return status;
}

static void wait(world *w, int64_t steps)
{
    assert_ok(steps_until(w, tt_orchestrator_step(w->job.orchestrator) + steps));
}

/* The state is that of a run that left out the same batches, had on what this one had on, and never
 * tripped. */
static void catch_up(world *w)
{
    int64_t now = tt_orchestrator_step(w->job.orchestrator);
    while (w->reached < now) {
        for (int i = 0; i < w->skips; i++) {
            w->position += w->skipped[i] == w->position ? TOY_BATCH : 0;
        }
        toy_advance(&w->expected, &w->expected, w->position);
        for (int k = 0; k < w->job.knob_count; k++) {
            if (w->job.knobs[k].changes_state && w->on_at[w->reached] >> k & 1) {
                w->expected.a[k % 6] += 1e-3 * (double)w->values[k];
            }
        }
        w->position += TOY_BATCH;
        w->reached++;
    }
    toy_assert_same(toy_now(&w->job), &w->expected);
}

static int64_t trips_of(const world *w, int knob)
{
    return tt_orchestrator_optimization(w->job.orchestrator, (size_t)knob).trips;
}

static void deal_with(world *w, const plant *p)
{
    int64_t before[TOY_KNOBS];
    int64_t searches = tt_orchestrator_totals(w->job.orchestrator).searches;
    for (int k = 0; k < w->job.knob_count; k++) {
        before[k] = trips_of(w, k);
    }
    toy_add_harm(&w->job, p->harm);
    tt_status status = steps_until(w, p->harm.from + 6);
    if (status) {
        fail_msg("seed %llu, step %lld: kind %d with %x (%s, delay %d), strikes %d: %s",
                 (unsigned long long)w->dice.seed, (long long)p->harm.from, p->harm.kind,
                 p->harm.with, p->harm.all ? "all" : "any", p->harm.delay, p->harm.strikes,
                 tt_error_message());
    }
    if (p->harm.position >= 0) {
        w->skipped[w->skips++] = p->harm.position;
    }
    w->job.harm_count = 0;
    catch_up(w);
    searches = tt_orchestrator_totals(w->job.orchestrator).searches - searches;
    for (int k = 0; k < w->job.knob_count; k++) {
        bool guilty = p->disable >> k & 1;
        if (trips_of(w, k) - before[k] != guilty || (guilty && is_closed(w, k))) {
            fail_msg("seed %llu, step %lld: kind %d with %x (%s, delay %d), strikes %d: k%d was "
                     "convicted %d times, not %d",
                     (unsigned long long)w->dice.seed, (long long)p->harm.from, p->harm.kind,
                     p->harm.with, p->harm.all ? "all" : "any", p->harm.delay, p->harm.strikes, k,
                     (int)(trips_of(w, k) - before[k]), guilty);
        }
    }
    assert_int_equal(searches, p->verdict != NULL);
    if (p->verdict) {
        w->verdicts[w->searches++] = p->verdict;
    }
}

static void open_world(world *w, const char *directory)
{
    static const int64_t on_values[] = {2, 4, 8};
    char slots[40];
    char knobs[TOY_KNOBS][32];
    const char *settings[TOY_KNOBS + 4] = {slots, "checkpoint.every_steps=0",
                                           "adapt.every_steps=0"};
    toy *job = &w->job;
    toy_init(job, directory);
    toy_add_knobs(job, 3 + (int)draw(&w->dice, TOY_KNOBS - 2), true);
    w->slots = 2 + (int)draw(&w->dice, 4);
    snprintf(slots, sizeof slots, "snapshot.slots=%d", w->slots);
    for (int k = 0; k < job->knob_count; k++) {
        job->knobs[k].acts_on_state = draw(&w->dice, 3) == 0;
        job->knobs[k].changes_state = draw(&w->dice, 2);
        job->knobs[k].measured = true;
        job->knobs[k].error = 0.001;
        w->values[k] = on_values[draw(&w->dice, 3)];
        snprintf(knobs[k], sizeof knobs[k], "toy.k%d=%d", k, (int)w->values[k]);
        settings[3 + k] = knobs[k];
    }
    assert_ok(toy_open(job, NULL, settings));
    w->expected = toy_expected(0, NULL);
}

/* The journal says of each search what was planted. */
static void check_verdicts(const world *w)
{
    json_t *lines = toy_lines(&w->job, "decisions.jsonl");
    size_t index;
    const json_t *line;
    int at = 0;
    json_array_foreach(lines, index, line)
    {
        if (strcmp(json_string_value(json_object_get(line, "kind")), "search") == 0) {
            assert_true(at < w->searches);
            const char *verdict = json_string_value(json_object_get(line, "verdict"));
            if (strcmp(verdict, w->verdicts[at]) != 0) {
                fail_msg("seed %llu: step %lld: %s instead of %s", (unsigned long long)w->dice.seed,
                         (long long)json_integer_value(json_object_get(line, "step")), verdict,
                         w->verdicts[at]);
            }
            at++;
        }
    }
    assert_int_equal(at, w->searches);
    json_decref(lines);
}

static void planted_culprits_are_found(void **state)
{
    enum { WORLDS = 24, PLANTS = 100 };
    static world w;
    int64_t plants = 0;
    int64_t convicted = 0;
    int64_t replayed = 0;
    int64_t closed_again = 0;
    for (uint64_t seed = 0; seed < WORLDS; seed++) {
        char name[32];
        memset(&w, 0, sizeof w);
        w.dice.seed = seed;
        snprintf(name, sizeof name, "world-%d", (int)seed);
        open_world(&w, toy_path(state, name));
        for (int i = 0; i < PLANTS; i++) {
            uint32_t on = closed_and_on(&w);
            while (on == 0) {
                wait(&w, 16);
                on = closed_and_on(&w);
            }
            catch_up(&w);
            plant p = plant_something(&w, on);
            deal_with(&w, &p);
            plants++;
            wait(&w, draw(&w.dice, 60));
            catch_up(&w);
        }
        tt_run_totals totals = tt_orchestrator_totals(w.job.orchestrator);
        convicted += totals.breakers_opened;
        replayed += totals.replayed_steps;
        closed_again += totals.trials; /* every fork of these runs is a probe */
        assert_ok(toy_close(&w.job, TT_OK));
        check_verdicts(&w);
    }
    print_message("%d plants, %d breakers opened, %d probes, %d steps replayed\n", (int)plants,
                  (int)convicted, (int)closed_again, (int)replayed);
    assert_true(plants > 2000 && convicted > 1000 && closed_again > 500);
}

/* ---- from checkpoints ---- */

/* All states that slots hold are harmed; older checkpoints are not. */
static void harm_deeper_than_the_slots(void **state)
{
    int found = 0;
    for (int number = 0; number < 48; number++) {
        static const toy_harm_kind kinds[] = {TOY_HARM_STATE, TOY_HARM_UPDATE, TOY_HARM_NAN_LOSS};
        char name[32];
        char slots[32];
        toy job;
        snprintf(name, sizeof name, "deep-%d", number);
        toy_init(&job, toy_path(state, name));
        toy_add_knobs(&job, 4, true);
        job.knobs[3].acts_on_state = true;
        snprintf(slots, sizeof slots, "snapshot.slots=%d", 1 + number % 2);
        const char *settings[] = {
            slots,      "checkpoint.every_steps=3", "adapt.every_steps=0", "toy.k0=4",
            "toy.k3=4", "checkpoint.keep=4",        "toy.k1=16",           NULL};
        toy_harm harm = {.kind = kinds[number / 2 % 3],
                         .with = number % 4 < 2 ? 1 : 8,
                         .from = 9 + number / 6 % 4,
                         .until = INT64_MAX,
                         .position = -1,
                         .strikes = -1,
                         .delay = 1 + number / 24};
        int culprit = harm.with == 1 ? 0 : 3;
        toy_add_harm(&job, harm);
        assert_ok(toy_open(&job, NULL, settings));
        assert_ok(toy_steps(&job, 40));
        toy_state expected = toy_expected(40, NULL);
        toy_assert_same(toy_now(&job), &expected);
        for (int k = 0; k < 4; k++) {
            tt_optimization_info info = tt_orchestrator_optimization(job.orchestrator, (size_t)k);
            assert_int_equal(info.trips, k == culprit);
            assert_int_equal(info.breaker, k == culprit ? TT_BREAKER_OPEN : TT_BREAKER_CLOSED);
        }
        found++;
        assert_ok(toy_close(&job, TT_OK));
        /* The copies of steps that the run took again are out of the way. */
        toy again;
        toy_init(&again, job.directory);
        toy_add_knobs(&again, 4, true);
        assert_ok(toy_open(&again, "auto", NULL));
        assert_int_equal(tt_orchestrator_step(again.orchestrator), 40);
        toy_assert_same(toy_now(&again), &expected);
        assert_ok(toy_steps(&again, 45));
        assert_int_equal(tt_orchestrator_optimization(again.orchestrator, (size_t)culprit).breaker,
                         TT_BREAKER_OPEN);
        assert_ok(toy_close(&again, TT_OK));
    }
    print_message("%d culprits found behind the slots\n", found);
}

/* ---- what else can come of a search ---- */

static void the_rate_is_too_high(void **state)
{
    static const char *const settings[] = {"toy.k0=4", "adapt.every_steps=0", NULL};
    toy job;
    toy_init(&job, toy_path(state, "rate"));
    toy_add_knobs(&job, 2, true);
    toy_add_harm(&job, (toy_harm){.kind = TOY_HARM_EXPLODING,
                                  .of_rate = true,
                                  .from = 6,
                                  .until = INT64_MAX,
                                  .position = -1,
                                  .strikes = -1});
    assert_ok(toy_open(&job, NULL, settings));
    assert_int_equal(toy_steps(&job, 20), TT_EGATE);
    assert_non_null(strstr(tt_error_message(), "the rate is too high"));
    toy_state expected = toy_expected(6, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_int_equal(tt_orchestrator_optimization(job.orchestrator, 0).trips, 0);
    assert_int_equal(toy_close(&job, TT_EGATE), TT_EGATE);
}

static void nothing_cures_it(void **state)
{
    static const char *const settings[] = {"toy.k0=4", "toy.k3=4", "adapt.every_steps=0",
                                           "checkpoint.every_steps=2", NULL};
    toy job;
    toy_init(&job, toy_path(state, "nothing"));
    toy_add_knobs(&job, 4, true);
    toy_add_harm(
        &job,
        (toy_harm){
            .kind = TOY_HARM_LOSS, .from = 12, .until = INT64_MAX, .position = -1, .strikes = -1});
    assert_ok(toy_open(&job, NULL, settings));
    assert_int_equal(toy_steps(&job, 20), TT_EGATE);
    assert_non_null(strstr(tt_error_message(), "no single change cures it"));
    tt_run_totals totals = tt_orchestrator_totals(job.orchestrator);
    assert_int_equal(totals.searches, 1);
    assert_true(totals.replayed_steps <= 64);
    assert_int_equal(totals.rollbacks, 1);
    assert_int_equal(totals.breakers_opened, 0);
    toy_state expected = toy_expected(12, NULL);
    toy_assert_same(toy_now(&job), &expected);
    assert_int_equal(toy_close(&job, TT_EGATE), TT_EGATE);
}

/* The host breaks in the n-th replay: the run ends, and what is in force is applied. */
static void a_replay_that_fails(void **state)
{
    static const char *const settings[] = {"toy.k0=4", "toy.k3=4", "adapt.every_steps=0", NULL};
    for (int at = 0; at < 4; at++) {
        char name[32];
        toy job;
        snprintf(name, sizeof name, "fails-%d", at);
        toy_init(&job, toy_path(state, name));
        toy_add_knobs(&job, 4, true);
        toy_add_harm(&job, (toy_harm){.kind = TOY_HARM_NAN_LOSS,
                                      .with = 8,
                                      .from = 5,
                                      .until = INT64_MAX,
                                      .position = -1,
                                      .strikes = -1});
        job.replay_fails = TT_EIO;
        job.replay_fails_at = at;
        assert_ok(toy_open(&job, NULL, settings));
        assert_int_equal(toy_steps(&job, 9), TT_EIO);
        assert_non_null(strstr(tt_error_message(), "the device broke in a replay"));
        toy_check_applied(&job, tt_orchestrator_config(job.orchestrator));
        assert_int_equal(tt_orchestrator_step(job.orchestrator), 5);
        assert_int_equal(toy_close(&job, TT_EIO), TT_EIO);
        /* What was saved is good, and the culprit is found by who comes next. */
        toy again;
        toy_init(&again, job.directory);
        toy_add_knobs(&again, 4, true);
        toy_add_harm(&again, job.harms[0]);
        assert_ok(toy_open(&again, "auto", NULL));
        assert_ok(toy_steps(&again, 9));
        assert_int_equal(tt_orchestrator_optimization(again.orchestrator, 3).breaker,
                         TT_BREAKER_OPEN);
        toy_state expected = toy_expected(9, NULL);
        toy_assert_same(toy_now(&again), &expected);
        assert_ok(toy_close(&again, TT_OK));
    }
}

/* Where an optimization changes the arithmetic, the state is that of the mixture: with it up to the
 * state that was clean, without it from there on. */
static void the_mixture(void **state)
{
    for (int slots = 2; slots <= 4; slots++) {
        for (int delay = 0; delay < slots; delay++) {
            char name[32];
            char setting[32];
            toy job;
            snprintf(name, sizeof name, "mixture-%d-%d", slots, delay);
            snprintf(setting, sizeof setting, "snapshot.slots=%d", slots);
            const char *settings[] = {setting, "toy.k3=4", "adapt.every_steps=0", NULL};
            toy_init(&job, toy_path(state, name));
            toy_add_knobs(&job, 4, true);
            job.knobs[3].changes_state = true;
            toy_add_harm(&job, (toy_harm){.kind = delay ? TOY_HARM_STATE : TOY_HARM_EXPLODING,
                                          .with = 8,
                                          .from = 11,
                                          .until = INT64_MAX,
                                          .position = -1,
                                          .strikes = -1,
                                          .delay = delay});
            assert_ok(toy_open(&job, NULL, settings));
            assert_ok(toy_steps(&job, 30));
            toy_state expected = toy_expected(0, NULL);
            for (int step = 0; step < 30; step++) {
                toy_advance(&expected, &expected, step * TOY_BATCH);
                expected.a[3] += step < 11 ? 4e-3 : 0;
            }
            toy_assert_same(toy_now(&job), &expected);
            assert_ok(toy_close(&job, TT_OK));
        }
    }
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, toy_scratch, toy_unscratch)
    const struct CMUnitTest tests[] = {
        RUN_TEST(planted_culprits_are_found), RUN_TEST(harm_deeper_than_the_slots),
        RUN_TEST(the_rate_is_too_high),       RUN_TEST(nothing_cures_it),
        RUN_TEST(a_replay_that_fails),        RUN_TEST(the_mixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
