/* The search for a culprit, carried out: the replays that it asks for are run from the slots and
 * the checkpoint that are there, in the scratch slot. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A checkpoint that is further back than this leaves no room for more than a few replays. */
enum { MAX_STEPS_BACK = 16 };

/* The states that replays can begin from, youngest first. */
typedef struct states {
    int slot[TT_CULPRIT_MAX_DEPTHS]; /* -1: the checkpoint of that step */
    int64_t step[TT_CULPRIT_MAX_DEPTHS];
    int count;
} states;

static void add_slots(const tt_orchestrator *o, states *out)
{
    bool usable[TT_MAX_SLOTS];
    for (int i = 0; i < o->slots.count; i++) {
        const tt_slot *slot = &o->slots.slot[i];
        usable[i] =
            slot->valid && slot->step <= o->plan.step && !(o->dirty && i == o->plan.read_slot);
    }
    while (out->count < TT_CULPRIT_MAX_DEPTHS) {
        int youngest = -1;
        for (int i = 0; i < o->slots.count; i++) {
            if (usable[i] &&
                (youngest < 0 || o->slots.slot[i].step > o->slots.slot[youngest].step)) {
                youngest = i;
            }
        }
        if (youngest < 0) {
            return;
        }
        usable[youngest] = false;
        int64_t step = o->slots.slot[youngest].step;
        if (out->count > 0 && out->step[out->count - 1] == step) {
            continue;
        }
        out->slot[out->count] = youngest;
        out->step[out->count++] = step;
    }
}

static void add_checkpoints(const tt_orchestrator *o, states *out)
{
    char path[TT_PATH_BYTES];
    int64_t bound = out->count ? out->step[out->count - 1] - 1 : o->plan.step;
    int64_t step;
    while (out->count < TT_CULPRIT_MAX_DEPTHS && tt_checkpoint_at_most(o, bound, path, &step) &&
           o->plan.step - step < MAX_STEPS_BACK) {
        out->slot[out->count] = -1;
        out->step[out->count++] = step;
        bound = step - 1;
    }
}

/* Reverse precedence is the search's to know; here only who is on. */
static void add_suspects(const tt_orchestrator *o, tt_search_setup *setup)
{
    uint32_t on = tt_configured_on(o, o->config);
    for (size_t i = 0; i < o->optimization_count; i++) {
        if (on >> i & 1) {
            setup->suspects[setup->suspect_count++] =
                (tt_suspect){.optimization = (int)i,
                             .tier = o->optimizations[i].tier,
                             .acts_on_state = o->optimizations[i].acts_on_state};
        }
    }
}

/* The optimization without which the gate that tripped is not armed. */
static uint32_t who_disarms(const tt_orchestrator *o, const tt_gate_decision *tripped)
{
    for (int i = 0; tripped->target[0] && i < o->targets.count; i++) {
        const tt_error_target *target = &o->targets.target[i];
        for (size_t k = 0; k < o->optimization_count; k++) {
            if (strcmp(target->name, tripped->target) == 0 &&
                strcmp(target->optimization, o->optimizations[k].name) == 0) {
                return UINT32_C(1) << k;
            }
        }
    }
    return 0;
}

typedef struct run {
    tt_orchestrator *o;
    const states *states;
    const tt_gate_decision *tripped;
    const tt_measurements *live; /* of the attempt that is looked into */
    bool after_update;
} run;

static bool same_measurement(const tt_measurements *a, const tt_measurements *b, tt_metric metric)
{
    if (!a->present[metric] || !b->present[metric]) {
        return a->present[metric] == b->present[metric];
    }
    double left = a->values[metric];
    double right = b->values[metric];
    return memcmp(&left, &right, sizeof left) == 0 || (isnan(left) && isnan(right));
}

static void judge_last(const run *r, const tt_gate_state *gates, const tt_gate_targets *targets,
                       const tt_measurements *measured, tt_search_outcome *outcome)
{
    tt_gate_phase phase = r->after_update ? TT_GATES_ALL : TT_GATES_BEFORE_UPDATE;
    tt_gate_decision decision =
        tt_gates_judge(&r->o->limits, gates, targets, phase, measured, NULL);
    outcome->cured = decision.verdict != TT_TRIP &&
                     tt_gate_passes_well(&r->o->limits, gates, targets, r->tripped, measured);
    outcome->same_bits = same_measurement(measured, r->live, TT_METRIC_LOSS) &&
                         same_measurement(measured, r->live, TT_METRIC_GRADIENT_NORM);
}

/* The state at `depth`; a checkpoint is read into the scratch slot. *usable: it is there. */
static void take_state(const run *r, int depth, int *slot, tt_slot *state, bool *usable)
{
    tt_orchestrator *o = r->o;
    char path[TT_PATH_BYTES];
    int64_t step;
    *slot = r->states->slot[depth];
    *usable = true;
    if (*slot >= 0) {
        *state = o->slots.slot[*slot];
        return;
    }
    *slot = o->host.scratch_slot;
    *usable = tt_checkpoint_at_most(o, r->states->step[depth], path, &step) &&
              step == r->states->step[depth];
    if (*usable && tt_checkpoint_peek(o, path, *slot, state)) {
        tt_log(o->log, TT_LOG_WARN, "the search goes on without a checkpoint: %s",
               tt_error_message());
        *usable = false;
    }
}

/* One step of a replay, the last one if it is the step that tripped. */
static tt_status go_one_step(const run *r, const tt_search_replay *asked, const tt_config *config,
                             int read_slot, const tt_slot *state, int64_t *position,
                             tt_measurements *measured)
{
    tt_orchestrator *o = r->o;
    bool last = state->step == o->plan.step;
    *position = last ? o->plan.position + (asked->next_batch ? o->batch_sequences : 0)
                     : tt_planned_position(o, state->step, state->position);
    tt_replay replay = {
        .size = sizeof replay,
        .step = state->step,
        .position = *position,
        .read_slot = read_slot,
        .write_slot = last && !r->after_update ? -1 : o->host.scratch_slot,
        .learning_rate_scale = asked->rate_scale,
        .config = config,
    };
    double seconds = 0;
    tt_status status = tt_replay_step(o, &replay, measured, &seconds);
    o->totals.search_seconds += seconds;
    o->totals.replayed_steps++;
    return status;
}

/* Whether an older step ran with another configuration than the one that tripped. */
static bool changed_since(const tt_orchestrator *o, int64_t step)
{
    return step < o->plan.step && (o->history.latest > step || o->history.last_switch >= step);
}

static tt_status judge_step(const run *r, const tt_search_replay *asked, const tt_config *config,
                            int slot, tt_slot *state, bool *ended, tt_search_outcome *outcome)
{
    tt_orchestrator *o = r->o;
    tt_gate_targets targets = o->targets;
    tt_measurements measured;
    int64_t position;
    tt_status status = go_one_step(r, asked, config, slot, state, &position, &measured);
    if (status) {
        return status;
    }
    tt_arm_targets(o, config, &targets);
    *ended = true;
    if (state->step == o->plan.step) {
        judge_last(r, &state->gates, &targets, &measured, outcome);
        return TT_OK;
    }
    if (tt_gates_judge(&o->limits, &state->gates, &targets, TT_GATES_ALL, &measured, NULL)
            .verdict == TT_TRIP) {
        *outcome = (tt_search_outcome){.cured = false};
        return TT_OK;
    }
    *ended = false;
    tt_gates_accept(&state->gates, &targets, &measured);
    state->step++;
    state->position = position + o->batch_sequences;
    return TT_OK;
}

/* From the state up to the step that tripped; `config` is for that one. */
static tt_status go(const run *r, const tt_search_replay *asked, const tt_config *config,
                    tt_search_outcome *outcome)
{
    tt_orchestrator *o = r->o;
    int slot;
    tt_slot state;
    bool usable;
    bool ended = false;
    tt_status status = TT_OK;
    take_state(r, asked->depth, &slot, &state, &usable);
    if (!usable) {
        *outcome = (tt_search_outcome){.cured = false, .same_bits = true};
        return TT_OK;
    }
    while (!status && !ended) {
        tt_config *then = NULL;
        bool other = changed_since(o, state.step);
        if (other) {
            status = tt_config_at(o, state.step, asked->off, &then);
        }
        if (!status) {
            status = judge_step(r, asked,
                                then    ? then
                                : other ? o->requested
                                        : config,
                                slot, &state, &ended, outcome);
        }
        tt_config_destroy(then);
        slot = o->host.scratch_slot;
    }
    return status;
}

static tt_status replay(const run *r, const tt_search_replay *asked, tt_search_outcome *outcome)
{
    tt_config *off = NULL;
    tt_status status = tt_configure_off(r->o, r->o->config, asked->off, &off);
    if (!status) {
        status = go(r, asked, off ? off : r->o->config, outcome);
    }
    tt_config_destroy(off);
    return status;
}

/* A fault that comes and goes may have gone while something innocent was off, and damage to a state
 * in memory is not done again in a replay, whoever is off. Whoever is to be blamed must be seen to
 * do harm from the very state that the cure began from. */
static tt_status confirm(const run *r, tt_search *search)
{
    tt_search_replay unchanged = {.depth = search->cured_depth, .rate_scale = 1};
    tt_search_outcome outcome = {.cured = false};
    bool accuses = search->verdict == TT_SEARCH_SINGLE || search->verdict == TT_SEARCH_EITHER ||
                   search->verdict == TT_SEARCH_JOINT || search->verdict == TT_SEARCH_BATCH ||
                   search->verdict == TT_SEARCH_RATE;
    if (!accuses) {
        return TT_OK;
    }
    tt_status status = replay(r, &unchanged, &outcome);
    search->replays++;
    search->replayed += search->setup.steps[search->cured_depth];
    if (outcome.cured) {
        search->verdict = TT_SEARCH_TRANSIENT;
        search->guilty = 0;
        search->disable = 0;
    }
    return status;
}

/* "int8 moments and tile" */
static void name_guilty(const tt_orchestrator *o, uint32_t mask, char *out, size_t room)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < o->optimization_count && used < room; i++) {
        if (mask >> i & 1) {
            int added = snprintf(out + used, room - used, "%s%s", used ? " and " : "",
                                 o->optimizations[i].name);
            used += added > 0 ? (size_t)added : 0;
        }
    }
}

static void describe(tt_orchestrator *o, const tt_search *search)
{
    char names[160];
    name_guilty(o, search->guilty, names, sizeof names);
    static const char *const forms[] = {
        [TT_SEARCH_TRANSIENT] = "the step passes when replayed unchanged: transient",
        [TT_SEARCH_NONDETERMINISM] =
            "the same step gives other bits each time: look for a race or failing hardware",
        [TT_SEARCH_SINGLE] = "the culprit is",
        [TT_SEARCH_EITHER] = "harmful together, though either alone is not:",
        [TT_SEARCH_JOINT] = "each harmful by itself:",
        [TT_SEARCH_BATCH] = "the batch is the cause: the step passes with the next one",
        [TT_SEARCH_RATE] = "a tenth of the learning rate passes: the rate is too high",
        [TT_SEARCH_UNRESOLVED] = "no single change cures it",
    };
    if (search->verdict == TT_SEARCH_TRANSIENT && search->cured_depth > 0) {
        snprintf(o->verdict, sizeof o->verdict,
                 "replayed unchanged from an older state, the step passes: damage in memory");
        return;
    }
    snprintf(o->verdict, sizeof o->verdict, "%s%s%s",
             search->verdict > TT_SEARCH_RUNNING ? forms[search->verdict] : "", names[0] ? " " : "",
             names);
}

static tt_status journal(tt_orchestrator *o, const tt_search *search, const states *known)
{
    json_t *guilty = json_array();
    for (size_t i = 0; i < o->optimization_count; i++) {
        if (search->guilty >> i & 1) {
            json_array_append_new(guilty, json_string(o->optimizations[i].name));
        }
    }
    int64_t from = known->count ? known->step[search->cured_depth] : o->plan.step;
    return tt_journal_write(
        o, json_pack("{s:s, s:i, s:I, s:s, s:o, s:s, s:I, s:i, s:i}", "kind", "search", "attempt",
                     o->attempt, "step", (json_int_t)o->plan.step, "verdict",
                     tt_search_verdict_name(search->verdict), "guilty", guilty, "says", o->verdict,
                     "clean_from_step", (json_int_t)from, "replays", search->replays,
                     "replayed_steps", search->replayed));
}

/* The rate is the last to be blamed: not while there are older states that could say otherwise. */
static void put_off_rate(const tt_orchestrator *o, tt_search *search, const states *known)
{
    char path[TT_PATH_BYTES];
    int64_t step;
    bool older = search->truncated ||
                 tt_checkpoint_at_most(o, known->step[known->count - 1] - 1, path, &step);
    if (search->verdict == TT_SEARCH_RATE && older && !o->ladder.looked_closer) {
        search->verdict = TT_SEARCH_UNRESOLVED;
    }
}

/* Where the run is to go on from; of an unresolved search: what was too far back to begin from. */
static tt_state_place place_of(const tt_orchestrator *o, const tt_search *search,
                               const states *known)
{
    bool unresolved = search->verdict == TT_SEARCH_UNRESOLVED;
    int depth = unresolved ? search->depth : search->cured_depth;
    if (known->count == 0) {
        return (tt_state_place){.slot = -1, .step = o->plan.step};
    }
    if (unresolved && !search->truncated) {
        return (tt_state_place){.slot = -1, .step = known->step[known->count - 1] - 1};
    }
    return (tt_state_place){.slot = known->slot[depth], .step = known->step[depth]};
}

tt_status tt_search_culprit(tt_orchestrator *o, const tt_measurements *measured,
                            const tt_gate_decision *tripped, tt_search *search,
                            tt_state_place *clean)
{
    states known = {.count = 0};
    add_slots(o, &known);
    add_checkpoints(o, &known);
    tt_search_setup setup = {.depth_count = known.count,
                             .gate_after_update = tt_gate_is_after_update(&o->targets, tripped),
                             .disarms = who_disarms(o, tripped)};
    for (int i = 0; i < known.count; i++) {
        setup.steps[i] = (int)(o->plan.step - known.step[i] + 1);
    }
    add_suspects(o, &setup);
    run r = {.o = o,
             .states = &known,
             .tripped = tripped,
             .live = measured,
             .after_update = setup.gate_after_update};
    tt_search_replay asked;
    tt_status status = TT_OK;
    o->totals.searches++;
    tt_search_begin(search, &setup);
    while (!status && tt_search_next(search, &asked)) {
        tt_search_outcome outcome = {.cured = false};
        status = replay(&r, &asked, &outcome);
        tt_search_report(search, &outcome);
    }
    if (!status) {
        put_off_rate(o, search, &known);
        status = confirm(&r, search);
    }
    if (o->host.slot_release) {
        o->host.slot_release(o->host.user, o->host.scratch_slot);
    }
    if (status) {
        return status;
    }
    describe(o, search);
    *clean = place_of(o, search, &known);
    tt_log(o->log, TT_LOG_WARN, "step %lld: %s (%d replays)", (long long)o->plan.step, o->verdict,
           search->replays);
    return journal(o, search, &known);
}
