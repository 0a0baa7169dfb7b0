/* The search for a culprit: which replays to make, and what they prove. Pure: it asks for a replay,
 * is told how it ended, and in the end has a verdict. It knows no slots and runs nothing.
 *
 * One replay goes from an older state up to the step that tripped, with something changed; it is
 * *cured* when the gate that tripped then passes by 5 % of its limit and no other gate trips.
 * At each depth, from the youngest state to the oldest:
 *   (0) unchanged: if that cures at a greater depth, a younger state was harmed once, in memory,
 *       and the run goes on from there
 *   (1) each active optimization off by itself, in reverse precedence (RLVR, compression, tile).
 *       All of them, so that two that are harmful only together are told from one that is harmful
 *       alone
 *   (2) off cumulatively in that order until cured; then each is put back on, one after the other,
 *       and stays on if the replay is still cured: what is left is a smallest guilty set (given
 *       that switching more off never harms)
 *   (3) the next batch in place of the last one (at the first depth only: (0) has shown that steps
 *       repeat bit by bit, so from an older state nothing else can come of it)
 *   (4) a tenth of the learning rate
 * What acts on state, and (4), start at the second depth, unless the gate judges what the step
 * itself has written: then they start at the first. A suspect is compared with the others of the
 * same depth only: at the first, one that does not act on state may be called single although, one
 * state earlier, another would have cured as well. It cures all the same.
 *
 * An optimization without which the gate that tripped looks at nothing (an error of its own) cures
 * by that alone. If nobody else does, older states are asked first whether they lead there without
 * a trip, or without someone else; only if not, it was it.
 *
 * A tenth of the rate also lessens what a harmed state does with an update. It is the cause only if
 * older states, from which it is not asked again, have no other to name.
 *
 * At most TT_CULPRIT_MAX_REPLAYED steps are replayed over all depths; a replay that would go beyond
 * is not asked for, and ends the search without a verdict. For all replays of a depth cost the
 * same, and deeper ones no less, so nothing cheaper is left; and no answer that is missing can be
 * done without: an optimization that was not off alone may cure as well (EITHER, not SINGLE), may
 * be the one that cures (not JOINT, BATCH or RATE), and a set that was not yet made smallest holds
 * innocents. `cured_alone` then has those that cured so far: suspects, in a ladder that wants some.
 */
#ifndef TRIMTAB_ORCHESTRATOR_CULPRIT_H
#define TRIMTAB_ORCHESTRATOR_CULPRIT_H

#include "trimtab/orchestrator.h"

enum { TT_CULPRIT_MAX_REPLAYED = 64, TT_CULPRIT_MAX_SUSPECTS = 16, TT_CULPRIT_MAX_DEPTHS = 8 };

typedef enum tt_verdict_of_search {
    TT_SEARCH_RUNNING,
    TT_SEARCH_TRANSIENT,      /* (0) cured, at cured_depth: no one is to blame, no breaker opens */
    TT_SEARCH_NONDETERMINISM, /* (0) trips again, with other bits: hardware or a race */
    TT_SEARCH_SINGLE,         /* exactly one optimization of the depth alone cures */
    TT_SEARCH_EITHER,         /* each of several alone cures: harmful together; the one that comes
                                 first in reverse precedence is taken back */
    TT_SEARCH_JOINT,          /* only all of a smallest set together cure */
    TT_SEARCH_BATCH,
    TT_SEARCH_RATE,
    TT_SEARCH_UNRESOLVED,
} tt_verdict_of_search;

/* One optimization that is on. */
typedef struct tt_suspect {
    int optimization; /* the caller's number, 0..31, each once */
    tt_tier tier;
    bool acts_on_state;
} tt_suspect;

typedef struct tt_search_setup {
    tt_suspect suspects[TT_CULPRIT_MAX_SUSPECTS]; /* any order; the search sorts */
    int suspect_count;
    int steps[TT_CULPRIT_MAX_DEPTHS]; /* to replay from each depth: 1 from the state before the step
                                         that tripped, and so on, >= 1, ascending */
    int depth_count;                  /* 0: unresolved at once */
    bool gate_after_update;           /* the gate judges what the step wrote */
    uint32_t disarms; /* the optimization without which the gate looks at nothing, a bit; 0: none */
} tt_search_setup;

/* A replay that the search asks for. */
typedef struct tt_search_replay {
    uint32_t off;    /* bit per optimization that is to be off, beside those that are off anyway */
    int depth;       /* index into steps[] */
    bool next_batch; /* the step that tripped gets the next batch */
    double rate_scale; /* 1 or 0.1 */
} tt_search_replay;

/* How it ended. */
typedef struct tt_search_outcome {
    bool cured;
    bool same_bits; /* the loss and norm of the step that tripped are those of the live attempt;
                       looked at for (0) only */
} tt_search_outcome;

typedef struct tt_search {
    tt_search_setup setup;
    int phase, at, depth; /* what is asked for: stays until its outcome is reported */
    uint32_t cured_alone; /* at this depth */
    uint32_t set;         /* of phase (2) */
    int replayed;         /* steps */
    int replays;
    bool truncated; /* a replay was not asked for, for lack of budget */
    bool same_bits; /* of (0) */
    tt_verdict_of_search verdict;
    uint32_t guilty;  /* SINGLE, EITHER, JOINT: the optimizations, a bit each */
    uint32_t disable; /* what is to be taken back: of EITHER one, else all guilty */
    int cured_depth;  /* from which state on the run is clean without them */
    bool slow;    /* the lower rate cures at cured_depth: what comes of older states goes before */
    bool excused; /* the one that disarms cures at cured_depth, and nobody else there: what
                     comes of older states goes before here too */
} tt_search;

void tt_search_begin(tt_search *search, const tt_search_setup *setup);
/* The next replay, the same one until it is reported; false when the verdict stands. */
bool tt_search_next(tt_search *search, tt_search_replay *out);
void tt_search_report(tt_search *search, const tt_search_outcome *outcome);
/* "transient", "nondeterminism", "culprit", "interaction (either)", "interaction", "batch",
 * "learning rate", "unresolved" */
const char *tt_search_verdict_name(tt_verdict_of_search verdict);

#endif
