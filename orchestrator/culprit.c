#include "culprit.h"

/* The questions, in the order in which they are asked at each depth. */
enum {
    UNCHANGED,
    ALONE,    /* suspect `at` off */
    TOGETHER, /* all suspects up to `at` off */
    PUT_BACK, /* `set` off, but for suspect `at` */
    BATCH,
    RATE,
};

static uint32_t bit(const tt_search *search, int at)
{
    return UINT32_C(1) << search->setup.suspects[at].optimization;
}

/* Whether what is in the slots can be any different at this depth when the last step is judged. */
static bool reaches_state(const tt_search *search)
{
    return search->depth > 0 || search->setup.gate_after_update;
}

static bool is_asked(const tt_search *search, int at)
{
    return !search->setup.suspects[at].acts_on_state || reaches_state(search);
}

/* The suspects of this depth from the first up to and including `at`. */
static uint32_t suspects_up_to(const tt_search *search, int at)
{
    uint32_t set = 0;
    for (int i = 0; i <= at; i++) {
        set |= is_asked(search, i) ? bit(search, i) : 0;
    }
    return set;
}

/* Stable, by falling tier: who yields first is suspected first. */
static void sort_suspects(tt_search_setup *setup)
{
    for (int i = 1; i < setup->suspect_count; i++) {
        tt_suspect moved = setup->suspects[i];
        int j = i;
        for (; j > 0 && setup->suspects[j - 1].tier < moved.tier; j--) {
            setup->suspects[j] = setup->suspects[j - 1];
        }
        setup->suspects[j] = moved;
    }
}

void tt_search_begin(tt_search *search, const tt_search_setup *setup)
{
    *search = (tt_search){.setup = *setup, .phase = UNCHANGED, .verdict = TT_SEARCH_RUNNING};
    sort_suspects(&search->setup);
    if (setup->depth_count == 0) {
        search->verdict = TT_SEARCH_UNRESOLVED;
    }
}

static void conclude(tt_search *search, tt_verdict_of_search verdict)
{
    search->verdict = verdict;
    search->cured_depth = search->depth;
    search->guilty = 0;
    search->disable = 0;
}

static void blame(tt_search *search, tt_verdict_of_search verdict, uint32_t guilty,
                  uint32_t disable)
{
    conclude(search, verdict);
    search->guilty = guilty;
    search->disable = disable;
}

/* Of those that cure alone, the first in the order of asking. */
static uint32_t first_cured_alone(const tt_search *search)
{
    int at = 0;
    while (!(search->cured_alone & bit(search, at))) {
        at++;
    }
    return bit(search, at);
}

static void enter(tt_search *search, int phase)
{
    search->phase = phase;
    search->at = 0;
}

/* No verdict, unless it is the one that was put off. */
static void end_without(tt_search *search)
{
    search->verdict = search->excused ? TT_SEARCH_SINGLE
                      : search->slow  ? TT_SEARCH_RATE
                                      : TT_SEARCH_UNRESOLVED;
}

static void go_deeper(tt_search *search)
{
    if (search->depth + 1 == search->setup.depth_count) {
        end_without(search);
        return;
    }
    search->depth++;
    enter(search, UNCHANGED);
}

/* All suspects were off alone. Only now is it known whether one that cures is the only one. */
static void judge_alone(tt_search *search)
{
    uint32_t cured = search->cured_alone;
    if (search->excused) {
        cured &= ~search->setup.disarms; /* known, and no news */
    } else if (cured == search->setup.disarms) {
        blame(search, TT_SEARCH_RUNNING, cured, cured);
        search->excused = true;
        cured = 0;
    }
    search->cured_alone = cured;
    if (cured == 0) {
        go_deeper(search);
        return;
    }
    uint32_t first = first_cured_alone(search);
    blame(search, cured == first ? TT_SEARCH_SINGLE : TT_SEARCH_EITHER, cured, first);
}

/* To the next suspect, or past the last one to what follows the phase. */
static void advance(tt_search *search)
{
    search->at++;
    bool more = search->at < search->setup.suspect_count;
    switch (search->phase) {
    case UNCHANGED:
        enter(search, ALONE);
        return;
    case ALONE:
        if (!more && (search->cured_alone || search->excused)) {
            judge_alone(search);
        } else if (!more) {
            enter(search, TOGETHER);
        }
        return;
    case TOGETHER:
        if (!more) {
            enter(search, BATCH);
        }
        return;
    case PUT_BACK:
        if (!more) {
            blame(search, TT_SEARCH_JOINT, search->set, search->set);
        }
        return;
    case BATCH:
        enter(search, RATE);
        return;
    default: /* RATE */
        go_deeper(search);
    }
}

/* Whether the answer to what stands next is open. */
static bool is_open(const tt_search *search)
{
    if (search->phase == UNCHANGED) {
        return true;
    }
    if (search->phase == BATCH) {
        /* (0) has shown that steps repeat bit by bit: from an older state, the step that tripped
         * is reached with the same state, and the next batch is as good or bad as before. */
        return search->depth == 0;
    }
    if (search->phase == RATE) {
        return reaches_state(search) && !search->slow;
    }
    if (search->at >= search->setup.suspect_count || !is_asked(search, search->at)) {
        return false;
    }
    uint32_t own = bit(search, search->at);
    uint32_t up_to = suspects_up_to(search, search->at);
    if (search->phase == TOGETHER) {
        return up_to != own; /* the first one was off alone */
    }
    if (search->phase == PUT_BACK) {
        /* Without the last one it was not cured, and neither by any single one. */
        bool is_last = (search->set & ~up_to) == 0;
        return (search->set & own) && !is_last && __builtin_popcount(search->set) > 2;
    }
    return true;
}

bool tt_search_next(tt_search *search, tt_search_replay *out)
{
    if (search->verdict != TT_SEARCH_RUNNING) {
        return false;
    }
    if (search->setup.steps[search->depth] > TT_CULPRIT_MAX_REPLAYED - search->replayed) {
        /* All that is left costs at least as much. What is known so far proves nothing: the answers
         * that were not had decide between one culprit, several, and none. */
        search->truncated = true;
        end_without(search);
        return false;
    }
    *out = (tt_search_replay){.depth = search->depth, .rate_scale = 1};
    switch (search->phase) {
    case ALONE:
        out->off = bit(search, search->at);
        break;
    case TOGETHER:
        out->off = suspects_up_to(search, search->at);
        break;
    case PUT_BACK:
        out->off = search->set & ~bit(search, search->at);
        break;
    case BATCH:
        out->next_batch = true;
        break;
    case RATE:
        out->rate_scale = 0.1;
        break;
    default: /* UNCHANGED */
        break;
    }
    return true;
}

/* What a cure means in the phase that it came in. */
static void take_cure(tt_search *search)
{
    switch (search->phase) {
    case UNCHANGED:
        conclude(search, TT_SEARCH_TRANSIENT);
        return;
    case ALONE:
        search->cured_alone |= bit(search, search->at);
        return;
    case TOGETHER:
        search->set = suspects_up_to(search, search->at);
        enter(search, PUT_BACK);
        search->at = -1; /* before the first */
        return;
    case PUT_BACK:
        search->set &= ~bit(search, search->at);
        return;
    case BATCH:
        conclude(search, TT_SEARCH_BATCH);
        return;
    default: /* RATE */
        conclude(search, TT_SEARCH_RUNNING);
        search->slow = true;
    }
}

void tt_search_report(tt_search *search, const tt_search_outcome *outcome)
{
    if (search->verdict != TT_SEARCH_RUNNING) {
        return;
    }
    search->replays++;
    search->replayed += search->setup.steps[search->depth];
    if (search->phase == UNCHANGED) {
        search->same_bits = outcome->same_bits;
    }
    if (outcome->cured) {
        take_cure(search);
    } else if (!search->same_bits) {
        conclude(search, TT_SEARCH_NONDETERMINISM);
    }
    while (search->verdict == TT_SEARCH_RUNNING) {
        advance(search);
        if (is_open(search)) {
            break;
        }
    }
}

const char *tt_search_verdict_name(tt_verdict_of_search verdict)
{
    static const char *const names[] = {
        [TT_SEARCH_RUNNING] = "running",
        [TT_SEARCH_TRANSIENT] = "transient",
        [TT_SEARCH_NONDETERMINISM] = "nondeterminism",
        [TT_SEARCH_SINGLE] = "culprit",
        [TT_SEARCH_EITHER] = "interaction (either)",
        [TT_SEARCH_JOINT] = "interaction",
        [TT_SEARCH_BATCH] = "batch",
        [TT_SEARCH_RATE] = "learning rate",
        [TT_SEARCH_UNRESOLVED] = "unresolved",
    };
    return (unsigned)verdict < sizeof names / sizeof *names ? names[verdict] : "?";
}
