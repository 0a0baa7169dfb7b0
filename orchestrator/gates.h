/* The gates on one step. Pure: state in, decision out, no allocation, no I/O. An armed gate trips
 * on a missing or non-finite measurement: nothing ever defaults to passing. */
#ifndef TRIMTAB_ORCHESTRATOR_GATES_H
#define TRIMTAB_ORCHESTRATOR_GATES_H

#include "watch.h"

/* In the order in which they are judged: the first trip names the decision. */
typedef enum tt_gate {
    TT_GATE_LOSS,
    TT_GATE_GRADIENT_FINITE,
    TT_GATE_GRADIENT_NORM,
    TT_GATE_RECONSTRUCTION,
    TT_GATE_SPIKE_LOSS, /* spike and drift: see watch.h */
    TT_GATE_SPIKE_NORM,
    TT_GATE_DRIFT_LOSS,
    TT_GATE_DRIFT_NORM,
    TT_GATE_UPDATE_FINITE, /* from here on: of what the step wrote */
    TT_GATE_UPDATE_ERROR,
    TT_GATE_COUNT
} tt_gate;

enum { TT_LOSS_WINDOW = 20, TT_GRADIENT_WARMUP_STEPS = 100 };

/* The limits of the design; start-up values hold until a run has shown that it is under way. */
#define TT_LOSS_MIN             1e-8
#define TT_LOSS_MAX             10.0
#define TT_GRADIENT_MIN         1e-6
#define TT_GRADIENT_MAX         10.0
#define TT_GRADIENT_MAX_STARTUP 100.0
/* Of gates.drift.max: what the loss must drift by for a drift of the norm to count. */
#define TT_DRIFT_SEEN_IN_LOSS 0.5

typedef struct tt_gate_limits {
    double loss_min, loss_max;         /* loss_max used where loss_max_set */
    double gradient_min, gradient_max; /* likewise */
    bool loss_max_set, gradient_max_set;
    double reconstruction_max, update_error_max;
    double spike_max, drift_max;
    double initial_loss;  /* ln V, or 0 */
    int64_t warmup_steps; /* of the learning rate */
} tt_gate_limits;

/* The targets of the two error gates, as configured now. */
typedef struct tt_gate_targets {
    tt_error_target target[TT_MAX_TARGETS];
    bool armed[TT_MAX_TARGETS]; /* its optimization is on */
    int count;
} tt_gate_targets;

/* What the gates remember; part of every slot's meaning, so that a rollback takes it back too. */
typedef struct tt_gate_state {
    int64_t accepted;              /* steps published */
    double losses[TT_LOSS_WINDOW]; /* ring of the last accepted losses */
    bool loss_settled;             /* the average of a full window came below the default limit */
    bool update_armed;             /* the job reports on the slot it writes */
    tt_watch loss, norm;
    int64_t unmeasured[TT_MAX_TARGETS]; /* accepted steps since a target's last measurement while it
                                           was armed */
} tt_gate_state;

typedef struct tt_gate_counts {
    int64_t evaluations[TT_GATE_COUNT];
    int64_t trips[TT_GATE_COUNT];
} tt_gate_counts;

/* What there is to be judged. */
typedef enum tt_gate_phase {
    TT_GATES_BEFORE_UPDATE, /* loss .. drift, and targets that are not after_update */
    TT_GATES_ALL,
} tt_gate_phase;

const char *tt_gate_name(tt_gate gate);
/* Whether the gate judges what the step wrote: by its number, and for error gates by its target. */
bool tt_gate_is_after_update(const tt_gate_targets *targets, const tt_gate_decision *decision);
/* The interval in force for a gate, and why; finiteness gates have the interval [0, 0]. */
void tt_gate_interval(const tt_gate_limits *limits, const tt_gate_state *state, tt_gate gate,
                      double *minimum, double *maximum, const char **reason);
bool tt_gate_armed(const tt_gate_state *state, const tt_gate_targets *targets, tt_gate gate);
/* Judges one gate: PASS, WARN (drift) or TRIP. `phase` matters to error gates only. */
tt_gate_decision tt_gate_judge(const tt_gate_limits *limits, const tt_gate_state *state,
                               const tt_gate_targets *targets, tt_gate gate, tt_gate_phase phase,
                               const tt_measurements *measured);
/* Judges the gates of the phase in order; returns the first that trips, else the first warning,
 * else a pass; counts what it evaluated (`counts` may be NULL). */
tt_gate_decision tt_gates_judge(const tt_gate_limits *limits, const tt_gate_state *state,
                                const tt_gate_targets *targets, tt_gate_phase phase,
                                const tt_measurements *measured, tt_gate_counts *counts);
/* The decision's gate would pass with 5 % of its limit to spare (a search's notion of cured). */
bool tt_gate_passes_well(const tt_gate_limits *limits, const tt_gate_state *state,
                         const tt_gate_targets *targets, const tt_gate_decision *tripped,
                         const tt_measurements *measured);
/* Takes an accepted step into the state. */
void tt_gates_accept(tt_gate_state *state, const tt_gate_targets *targets,
                     const tt_measurements *measured);
/* Limits that cannot hold: TT_ECONFIG, naming the key. */
tt_status tt_gate_limits_check(const tt_gate_limits *limits);

#endif
