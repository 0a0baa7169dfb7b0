#include "breaker.h"

enum { MAX_LEVEL = 4 };
_Static_assert(TT_BREAKER_COOL_DOWN << MAX_LEVEL == TT_BREAKER_COOL_DOWN_MAX,
               "the highest level is the longest cool-down");

static void forget_suspicions(tt_breaker *breaker)
{
    for (int i = 0; i < TT_BREAKER_TRIPS; i++) {
        breaker->suspected[i] = -TT_BREAKER_WINDOW;
    }
}

void tt_breaker_init(tt_breaker *breaker)
{
    /* One that never opened is one that was forgiven. */
    *breaker = (tt_breaker){.state = TT_BREAKER_CLOSED, .changed_at = -TT_BREAKER_FORGIVE};
    forget_suspicions(breaker);
}

static void change(tt_breaker *breaker, tt_breaker_state state, int64_t step)
{
    breaker->state = state;
    breaker->changed_at = step;
    breaker->good = 0;
    forget_suspicions(breaker);
}

static void open_at_level(tt_breaker *breaker, int level, int64_t step)
{
    change(breaker, TT_BREAKER_OPEN, step);
    breaker->level = level < MAX_LEVEL ? level : MAX_LEVEL;
    breaker->probe_at = step + ((int64_t)TT_BREAKER_COOL_DOWN << breaker->level);
}

/* After a rollback, what happened at steps that are ahead again counts as of now: how many steps
 * ago it was, step numbers no longer tell. */
static void come_back(tt_breaker *breaker, int64_t step)
{
    if (breaker->changed_at > step) {
        breaker->changed_at = step;
    }
    for (int i = 0; i < TT_BREAKER_TRIPS; i++) {
        if (breaker->suspected[i] > step) {
            breaker->suspected[i] = step;
        }
    }
}

static bool is_fifth_suspicion(tt_breaker *breaker, int64_t step)
{
    for (int i = 1; i < TT_BREAKER_TRIPS; i++) {
        breaker->suspected[i - 1] = breaker->suspected[i];
    }
    breaker->suspected[TT_BREAKER_TRIPS - 1] = step;
    return step - breaker->suspected[0] < TT_BREAKER_WINDOW;
}

static bool take_closed(tt_breaker *breaker, tt_breaker_event event, int64_t step)
{
    if (event != TT_BREAKER_SUSPECT && event != TT_BREAKER_CONVICT) {
        return false;
    }
    come_back(breaker, step);
    breaker->trips++;
    if (event == TT_BREAKER_SUSPECT && !is_fifth_suspicion(breaker, step)) {
        return false;
    }
    bool forgiven = step - breaker->changed_at >= TT_BREAKER_FORGIVE;
    open_at_level(breaker, forgiven ? 0 : breaker->level + 1, step);
    return true;
}

static bool take_half_open(tt_breaker *breaker, tt_breaker_event event, int64_t step)
{
    switch (event) {
    case TT_BREAKER_SUSPECT: /* on probation one suspicion is enough */
    case TT_BREAKER_CONVICT:
        breaker->trips++;
        open_at_level(breaker, breaker->level + 1, step);
        return true;
    case TT_BREAKER_PROBE_BAD:
        open_at_level(breaker, breaker->level + 1, step);
        return true;
    case TT_BREAKER_PROBE_LOST:
        open_at_level(breaker, breaker->level, step);
        return true;
    case TT_BREAKER_PROBE_GOOD:
        if (++breaker->good < TT_BREAKER_GOOD) {
            return false;
        }
        change(breaker, TT_BREAKER_CLOSED, step);
        return true;
    default: /* TT_BREAKER_PROBE: one is under way */
        return false;
    }
}

bool tt_breaker_take(tt_breaker *breaker, tt_breaker_event event, int64_t step)
{
    if (breaker->state == TT_BREAKER_CLOSED) {
        return take_closed(breaker, event, step);
    }
    if (breaker->state == TT_BREAKER_HALF_OPEN) {
        return take_half_open(breaker, event, step);
    }
    if (event != TT_BREAKER_PROBE || !tt_breaker_is_due(breaker, step)) {
        return false;
    }
    change(breaker, TT_BREAKER_HALF_OPEN, step);
    return true;
}

bool tt_breaker_is_due(const tt_breaker *breaker, int64_t step)
{
    return breaker->state == TT_BREAKER_OPEN && step >= breaker->probe_at;
}

const char *tt_breaker_event_name(tt_breaker_event event)
{
    static const char *const names[] = {"suspect",    "convict",   "probe",
                                        "probe good", "probe bad", "probe lost"};
    return (unsigned)event < sizeof names / sizeof *names ? names[event] : "?";
}

const char *tt_breaker_state_name(tt_breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "?";
}
