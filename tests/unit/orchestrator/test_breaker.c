/* The breaker by hand, and against a model that reads its state off the whole history. */
#include "unit.h"

#include "breaker.h"

#include <string.h>

static void suspect(tt_breaker *breaker, int64_t first, int64_t apart, int times)
{
    for (int i = 0; i < times; i++) {
        assert_false(tt_breaker_take(breaker, TT_BREAKER_SUSPECT, first + i * apart));
    }
}

static void five_suspicions_open_it(void **state)
{
    (void)state;
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    assert_int_equal(breaker.state, TT_BREAKER_CLOSED);
    suspect(&breaker, 0, 1, 4); /* step 0 counts too */
    assert_true(tt_breaker_take(&breaker, TT_BREAKER_SUSPECT, 4));
    assert_int_equal(breaker.state, TT_BREAKER_OPEN);
    assert_int_equal(breaker.trips, 5);
    assert_int_equal(breaker.changed_at, 4);
    assert_int_equal(breaker.probe_at, 4 + 64);
}

static void within_a_window(void **state)
{
    (void)state;
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    suspect(&breaker, 100, 128, 4);
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_SUSPECT, 100 + 512)); /* one step too late */
    assert_true(
        tt_breaker_take(&breaker, TT_BREAKER_SUSPECT, 228 + 511)); /* the last that counts */
    tt_breaker_init(&breaker);
    suspect(&breaker, 0, 128, 50); /* never five in any window */
    assert_int_equal(breaker.trips, 50);
}

static void a_proof_opens_it_at_once(void **state)
{
    (void)state;
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    assert_true(tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 10));
    assert_int_equal(breaker.state, TT_BREAKER_OPEN);
    assert_int_equal(breaker.trips, 1);
    /* It is off: nothing can be its fault. */
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 11));
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_SUSPECT, 11));
    assert_int_equal(breaker.trips, 1);
}

static void half_open(tt_breaker *breaker)
{
    assert_false(tt_breaker_is_due(breaker, breaker->probe_at - 1));
    assert_false(tt_breaker_take(breaker, TT_BREAKER_PROBE, breaker->probe_at - 1));
    assert_true(tt_breaker_is_due(breaker, breaker->probe_at));
    assert_true(tt_breaker_take(breaker, TT_BREAKER_PROBE, breaker->probe_at));
    assert_int_equal(breaker->state, TT_BREAKER_HALF_OPEN);
    assert_false(tt_breaker_is_due(breaker, breaker->probe_at));
}

static void three_good_probe_steps_close_it(void **state)
{
    (void)state;
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    (void)tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 10);
    half_open(&breaker);
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_PROBE, 75));
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 75));
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 76));
    assert_true(tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 77));
    assert_int_equal(breaker.state, TT_BREAKER_CLOSED);
    assert_false(tt_breaker_is_due(&breaker, 1 << 20));
    /* Suspicions from before are forgotten. */
    suspect(&breaker, 80, 1, 4);
}

static void the_good_ones_are_counted_anew(void **state)
{
    (void)state;
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    (void)tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 0);
    half_open(&breaker);
    (void)tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 64);
    (void)tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 65);
    assert_true(tt_breaker_take(&breaker, TT_BREAKER_PROBE_LOST, 66));
    assert_int_equal(breaker.probe_at, 66 + 64); /* as long as before */
    half_open(&breaker);
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 131));
    assert_int_equal(breaker.state, TT_BREAKER_HALF_OPEN);
}

static void relapses_cool_down_longer(void **state)
{
    (void)state;
    static const tt_breaker_event relapses[] = {TT_BREAKER_PROBE_BAD, TT_BREAKER_SUSPECT,
                                                TT_BREAKER_CONVICT};
    static const int64_t waits[] = {128, 256, 512, 1024, 1024, 1024};
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    (void)tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 0);
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        half_open(&breaker);
        int64_t step = breaker.probe_at + 1;
        assert_true(tt_breaker_take(&breaker, relapses[i % 3], step));
        assert_int_equal(breaker.state, TT_BREAKER_OPEN);
        assert_int_equal(breaker.probe_at, step + waits[i]);
    }
    assert_int_equal(breaker.trips, 1 + 4); /* a bad probe is no trip of the run */
    /* A lost probe stays at the longest. */
    half_open(&breaker);
    assert_true(tt_breaker_take(&breaker, TT_BREAKER_PROBE_LOST, 9000));
    assert_int_equal(breaker.probe_at, 9000 + 1024);
}

/* Opens it at 0, closes it, and opens it again `after` steps later. */
static int64_t second_cool_down(int64_t after)
{
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    (void)tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 0);
    half_open(&breaker);
    for (int i = 0; i < TT_BREAKER_GOOD; i++) {
        (void)tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 100);
    }
    assert_true(tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 100 + after));
    return breaker.probe_at - (100 + after);
}

static void it_is_forgiven(void **state)
{
    (void)state;
    assert_int_equal(second_cool_down(0), 128);
    assert_int_equal(second_cool_down(1023), 128);
    assert_int_equal(second_cool_down(1024), 64);
}

static void steps_that_go_back(void **state)
{
    (void)state;
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    suspect(&breaker, 5000, 1, 4);
    /* Rolled back to 1000: the four were just now, so one more is the fifth. */
    tt_breaker copy = breaker;
    assert_true(tt_breaker_take(&copy, TT_BREAKER_SUSPECT, 1000));
    assert_int_equal(copy.probe_at, 1064);
    /* Forgotten once another window has passed, though their numbers are ahead. */
    breaker.suspected[1] = 0; /* one less: 1000 is not the fifth */
    breaker.suspected[0] = 0;
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_SUSPECT, 1000));
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_SUSPECT, 1512));
    assert_false(tt_breaker_take(&breaker, TT_BREAKER_SUSPECT, 1513));
    /* A probe stays where it was set. */
    tt_breaker_init(&breaker);
    (void)tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 5000);
    assert_false(tt_breaker_is_due(&breaker, 1000));
    assert_true(tt_breaker_is_due(&breaker, 5064));
}

static void closed_in_a_future_that_was_taken_back(void **state)
{
    (void)state;
    tt_breaker breaker;
    tt_breaker_init(&breaker);
    (void)tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 0);
    half_open(&breaker);
    for (int i = 0; i < TT_BREAKER_GOOD; i++) {
        (void)tt_breaker_take(&breaker, TT_BREAKER_PROBE_GOOD, 9000);
    }
    suspect(&breaker, 500, 0, 1); /* from here on it is known that it has been closed since 500 */
    tt_breaker early = breaker;
    (void)tt_breaker_take(&early, TT_BREAKER_CONVICT, 500 + 1023);
    assert_int_equal(early.level, 1);
    (void)tt_breaker_take(&breaker, TT_BREAKER_CONVICT, 500 + 1024);
    assert_int_equal(breaker.level, 0);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(tt_breaker_event_name(TT_BREAKER_SUSPECT), "suspect");
    assert_string_equal(tt_breaker_event_name(TT_BREAKER_CONVICT), "convict");
    assert_string_equal(tt_breaker_event_name(TT_BREAKER_PROBE), "probe");
    assert_string_equal(tt_breaker_event_name(TT_BREAKER_PROBE_GOOD), "probe good");
    assert_string_equal(tt_breaker_event_name(TT_BREAKER_PROBE_BAD), "probe bad");
    assert_string_equal(tt_breaker_event_name(TT_BREAKER_PROBE_LOST), "probe lost");
    assert_string_equal(tt_breaker_event_name((tt_breaker_event)6), "?");
    assert_string_equal(tt_breaker_state_name(TT_BREAKER_CLOSED), "closed");
    assert_string_equal(tt_breaker_state_name(TT_BREAKER_OPEN), "open");
    assert_string_equal(tt_breaker_state_name(TT_BREAKER_HALF_OPEN), "half-open");
    assert_string_equal(tt_breaker_state_name((tt_breaker_state)3), "?");
}

/* ---- a model of its own -------------------------------------------------------------------
 *
 * All that ever happened, and the rules read off it: no ring, no level, no clamping. */

enum { EVENTS = 160, EVENT_KINDS = 6 };

typedef struct entry {
    tt_breaker_event event;
    int64_t step;
    tt_breaker_state before, after;
    bool opened;    /* with this event */
    bool relapse;   /* ... and for longer than the time before */
    bool repeated;  /* ... for as long as the time before */
    int64_t due_at; /* ... until then */
} entry;

typedef struct history {
    entry entries[EVENTS];
    int count;
} history;

/* The entry with which the present state began; -1: with nothing. */
static int began(const history *past)
{
    for (int i = past->count - 1; i >= 0; i--) {
        if (past->entries[i].before != past->entries[i].after) {
            return i;
        }
    }
    return -1;
}

static bool is_trip(const entry *e)
{
    return e->event == TT_BREAKER_SUSPECT || e->event == TT_BREAKER_CONVICT;
}

/* Steps from entry i to the newest, which has not been judged: from the lowest step that was seen
 * since, for only that many can be known to have been run. */
static int64_t age(const history *past, int i)
{
    const entry *newest = &past->entries[past->count - 1];
    int64_t lowest = past->entries[i].step;
    for (int k = i + 1; k < past->count; k++) {
        if (is_trip(&past->entries[k]) && past->entries[k].step < lowest) {
            lowest = past->entries[k].step;
        }
    }
    return newest->step - lowest;
}

static int64_t cool_down(const history *past)
{
    int relapses = 0;
    for (int i = past->count - 1; i >= 0; i--) {
        const entry *e = &past->entries[i];
        if (e->opened && !e->relapse && !e->repeated) {
            break;
        }
        relapses += e->relapse;
    }
    int64_t wait = 64;
    for (; relapses > 0 && wait < 1024; relapses--) {
        wait *= 2;
    }
    return wait;
}

/* Judges the newest entry when it was closed. `since`: where it closed, or -1. */
static tt_breaker_state judge_closed(history *past, int since)
{
    entry *e = &past->entries[past->count - 1];
    int recent = 0;
    for (int i = since + 1; i < past->count; i++) {
        recent += past->entries[i].event == TT_BREAKER_SUSPECT && age(past, i) < 512;
    }
    bool opens = e->event == TT_BREAKER_CONVICT || (e->event == TT_BREAKER_SUSPECT && recent >= 5);
    e->relapse = opens && since >= 0 && age(past, since) < 1024;
    return opens ? TT_BREAKER_OPEN : TT_BREAKER_CLOSED;
}

static tt_breaker_state judge_half_open(history *past, int since)
{
    entry *e = &past->entries[past->count - 1];
    int good = 0;
    for (int i = since + 1; i < past->count; i++) {
        good += past->entries[i].event == TT_BREAKER_PROBE_GOOD;
    }
    if (good == 3) {
        return TT_BREAKER_CLOSED;
    }
    e->relapse = is_trip(e) || e->event == TT_BREAKER_PROBE_BAD;
    e->repeated = e->event == TT_BREAKER_PROBE_LOST;
    return e->relapse || e->repeated ? TT_BREAKER_OPEN : TT_BREAKER_HALF_OPEN;
}

/* Takes an event into the history and says what state that makes. */
static tt_breaker_state expect(history *past, tt_breaker_event event, int64_t step)
{
    int since = began(past);
    tt_breaker_state before = since < 0 ? TT_BREAKER_CLOSED : past->entries[since].after;
    past->entries[past->count++] =
        (entry){.event = event, .step = step, .before = before, .after = before};
    entry *e = &past->entries[past->count - 1];
    switch (before) {
    case TT_BREAKER_CLOSED:
        e->after = judge_closed(past, since);
        break;
    case TT_BREAKER_OPEN:
        if (event == TT_BREAKER_PROBE && step >= past->entries[since].due_at) {
            e->after = TT_BREAKER_HALF_OPEN;
        }
        break;
    case TT_BREAKER_HALF_OPEN:
        e->after = judge_half_open(past, since);
        break;
    }
    e->opened = e->after == TT_BREAKER_OPEN && before != e->after;
    if (e->opened) {
        e->due_at = step + cool_down(past);
    }
    return e->after;
}

static int64_t expected_trips(const history *past)
{
    int64_t trips = 0;
    for (int i = 0; i < past->count; i++) {
        trips += is_trip(&past->entries[i]) && past->entries[i].before != TT_BREAKER_OPEN;
    }
    return trips;
}

static uint32_t draw(uint64_t seed, uint64_t *counter)
{
    uint32_t block[4];
    tt_philox(seed, 78, (*counter)++, block);
    return block[0];
}

static int64_t next_step(uint64_t seed, uint64_t *counter, const tt_breaker *breaker, int64_t step)
{
    switch (draw(seed, counter) % 16) {
    case 0: /* a rollback */
        return step - draw(seed, counter) % (step + 1);
    case 1:
        return step > 3 ? step - draw(seed, counter) % 4 : step;
    case 2:
        return step + draw(seed, counter) % 1500;
    case 3: /* at the edges */
        return step + 510 + draw(seed, counter) % 4;
    case 4:
        return step + 1022 + draw(seed, counter) % 4;
    case 5:
    case 6:
    case 7:
        return breaker->state == TT_BREAKER_OPEN ? breaker->probe_at - 1 + draw(seed, counter) % 3
                                                 : step + 1;
    default:
        return step + draw(seed, counter) % 120;
    }
}

static tt_breaker_event next_event(uint64_t seed, uint64_t *counter, const tt_breaker *breaker)
{
    uint32_t roll = draw(seed, counter);
    if (roll % 8 == 0) {
        return (tt_breaker_event)(roll / 8 % EVENT_KINDS); /* whether it makes sense or not */
    }
    switch (breaker->state) {
    case TT_BREAKER_CLOSED:
        return roll % 61 == 1 ? TT_BREAKER_CONVICT : TT_BREAKER_SUSPECT;
    case TT_BREAKER_OPEN:
        return TT_BREAKER_PROBE;
    case TT_BREAKER_HALF_OPEN:
        break;
    }
    return roll % 5 == 1 ? TT_BREAKER_PROBE_BAD : TT_BREAKER_PROBE_GOOD;
}

/* [before][event][after], and the cool-downs that were seen. */
static int visits[3][EVENT_KINDS][3];
static int cool_downs[TT_BREAKER_COOL_DOWN_MAX + 1];
static int forgiven;

static void compare(const tt_breaker *breaker, const history *past, bool changed, uint64_t seed)
{
    const entry *e = &past->entries[past->count - 1];
    bool same = breaker->state == e->after && changed == (e->before != e->after) &&
                breaker->trips == expected_trips(past) &&
                (!e->opened || breaker->probe_at == e->due_at);
    if (!same) {
        fail_msg("seed %llu event %d: %s at %lld: %s -> %s, not %s; probe at %lld, not %lld",
                 (unsigned long long)seed, past->count - 1, tt_breaker_event_name(e->event),
                 (long long)e->step, tt_breaker_state_name(e->before),
                 tt_breaker_state_name(breaker->state), tt_breaker_state_name(e->after),
                 (long long)breaker->probe_at, (long long)e->due_at);
    }
    visits[e->before][e->event][e->after]++;
    if (e->opened) {
        cool_downs[e->due_at - e->step]++;
    }
}

static void all_was_visited(void)
{
    for (int event = 0; event < EVENT_KINDS; event++) {
        bool trip = event == TT_BREAKER_SUSPECT || event == TT_BREAKER_CONVICT;
        bool ends = trip || event == TT_BREAKER_PROBE_BAD || event == TT_BREAKER_PROBE_LOST;
        const bool wanted[3][3] = {
            {event != TT_BREAKER_CONVICT, trip, false},
            {false, true, event == TT_BREAKER_PROBE},
            {event == TT_BREAKER_PROBE_GOOD, ends, !ends},
        };
        for (int before = 0; before < 3; before++) {
            for (int after = 0; after < 3; after++) {
                int seen = visits[before][event][after];
                assert_true(wanted[before][after] ? seen > 50 : seen == 0);
            }
        }
    }
    for (int wait = 64; wait <= TT_BREAKER_COOL_DOWN_MAX; wait *= 2) {
        assert_true(cool_downs[wait] > 50);
    }
    assert_true(forgiven > 50);
}

static void random_histories(void **state)
{
    (void)state;
    static history past;
    for (uint64_t seed = 0; seed < 5000; seed++) {
        uint64_t counter = 0;
        tt_breaker breaker;
        tt_breaker_init(&breaker);
        past.count = 0;
        int64_t step = draw(seed, &counter) % 3000;
        while (past.count < EVENTS) {
            step = next_step(seed, &counter, &breaker, step);
            tt_breaker_event event = next_event(seed, &counter, &breaker);
            int level = breaker.level;
            bool due = breaker.state == TT_BREAKER_OPEN && step >= breaker.probe_at;
            assert_int_equal(tt_breaker_is_due(&breaker, step), due);
            (void)expect(&past, event, step);
            bool changed = tt_breaker_take(&breaker, event, step);
            compare(&breaker, &past, changed, seed);
            forgiven += breaker.level < level;
        }
    }
    all_was_visited();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_suspicions_open_it),
        cmocka_unit_test(within_a_window),
        cmocka_unit_test(a_proof_opens_it_at_once),
        cmocka_unit_test(three_good_probe_steps_close_it),
        cmocka_unit_test(the_good_ones_are_counted_anew),
        cmocka_unit_test(relapses_cool_down_longer),
        cmocka_unit_test(it_is_forgiven),
        cmocka_unit_test(steps_that_go_back),
        cmocka_unit_test(closed_in_a_future_that_was_taken_back),
        cmocka_unit_test(names),
        cmocka_unit_test(random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
