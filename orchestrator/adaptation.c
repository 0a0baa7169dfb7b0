/* Adaptation: what to propose from what was measured, and whether all of it pays. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS_FOR_MEDIAN = 32, SPEEDUP_AGE = 1000 };

double tt_step_seconds(const tt_orchestrator *o)
{
    double seconds[STEPS_FOR_MEDIAN];
    size_t count = 0;
    for (size_t back = 0; back < TT_RECORD_RING && count < STEPS_FOR_MEDIAN; back++) {
        const tt_step_record *record = tt_orchestrator_record(o, back);
        if (!record) {
            break;
        }
        if (record->published) {
            seconds[count++] = record->seconds;
        }
    }
    return count ? tt_median(seconds, count) : 0;
}

enum { A_LONG_TIME = 60, FAR_TOO_LONG = 1000 /* steps; the slowest kernels take 100 */ };

double tt_believable_seconds(const tt_orchestrator *o, double seconds)
{
    if (seconds <= A_LONG_TIME || !TT_PROTECTED(CLOCK)) {
        return seconds;
    }
    double usual = tt_step_seconds(o);
    return usual > 0 && seconds > FAR_TOO_LONG * usual ? usual : seconds;
}

/* ---- overhead ---- */

static tt_overhead overhead_now(const tt_orchestrator *o)
{
    tt_overhead overhead = {
        .orchestration_seconds = o->earlier_orchestration_seconds + o->totals.policy_seconds +
                                 o->totals.search_seconds + o->totals.trial_seconds,
        .run_seconds = o->earlier_run_seconds + o->totals.step_seconds,
        .budget_seconds = o->trial_budget,
    };
    int64_t step = tt_orchestrator_step(o);
    for (size_t i = 0; i < o->history.count; i++) {
        const tt_decision *decision = &o->history.decisions[i];
        if (decision->kind != TT_DECISION_COMMIT || !decision->applied) {
            continue;
        }
        if (!overhead.committed) {
            overhead.seconds_to_commit = decision->run_seconds;
        }
        overhead.committed = true;
        overhead.gain_seconds += decision->gain_seconds * (double)(step - decision->step);
    }
    return overhead;
}

/* Everything that the commit set still stands as it set it. */
static bool stands(const tt_orchestrator *o, const tt_decision *commit)
{
    for (int k = 0; k < commit->change_count; k++) {
        char text[32];
        if (!tt_params_find(o->params, commit->changes[k].key)) {
            return false;
        }
        tt_configured_text(o->requested, commit->changes[k].key, text);
        if (strcmp(text, commit->changes[k].to) != 0) {
            return false;
        }
    }
    return true;
}

static tt_status revert(tt_orchestrator *o, const tt_decision *commit)
{
    tt_decision decision = {.kind = TT_DECISION_REVERT,
                            .step = tt_orchestrator_step(o),
                            .optimization = commit->optimization,
                            .change_count = commit->change_count};
    for (int k = 0; k < commit->change_count; k++) {
        decision.changes[k] = commit->changes[k];
        memcpy(decision.changes[k].from, commit->changes[k].to, sizeof commit->changes[k].to);
        memcpy(decision.changes[k].to, commit->changes[k].from, sizeof commit->changes[k].from);
    }
    tt_log(o->log, TT_LOG_WARN, "step %lld: %s goes back to %s: it costs more than it gains",
           (long long)decision.step, decision.changes[0].key, decision.changes[0].to);
    return tt_decide(o, &decision, json_pack("{s:s}", "why", "it costs more than it gains"));
}

/* Commits for speed after which steps take no less time than before are undone. */
static tt_status revert_without_gain(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    double now = tt_step_seconds(o);
    for (size_t i = o->history.count; !status && i-- > 0;) {
        tt_decision decision = o->history.decisions[i]; /* a copy: the array grows */
        if (decision.kind == TT_DECISION_COMMIT && decision.applied &&
            o->optimizations[decision.optimization].aim == TT_AIM_SPEED &&
            now >= decision.step_seconds && stands(o, &decision)) {
            status = revert(o, &decision);
        }
    }
    return status;
}

tt_status tt_check_overhead(tt_orchestrator *o)
{
    tt_overhead overhead = overhead_now(o);
    tt_gate_decision verdict = tt_overhead_judge(&overhead);
    o->overhead_step = tt_orchestrator_step(o);
    o->overhead_evaluations++;
    if (verdict.verdict != TT_TRIP || o->trials_stopped) {
        return TT_OK;
    }
    char reason[256];
    tt_decision decision = {
        .kind = TT_DECISION_OVERHEAD, .optimization = -1, .step = o->overhead_step};
    o->overhead_trips++;
    o->trials_stopped = true;
    tt_gate_describe(&verdict, reason);
    tt_log(o->log, TT_LOG_WARN, "%s; no more trials", reason);
    tt_status status = tt_decide(o, &decision,
                                 json_pack("{s:o, s:o}", "observed", json_real(verdict.observed),
                                           "limit", json_real(verdict.limit)));
    return status ? status : revert_without_gain(o);
}

bool tt_affordable(const tt_orchestrator *o, double seconds)
{
    tt_overhead overhead = overhead_now(o);
    return !o->trials_stopped && tt_overhead_allows(&overhead, seconds);
}

/* ---- proposals ---- */

static int position_of(const tt_param *param, const tt_config *config, size_t *count)
{
    char text[32];
    tt_configured_text(config, param->key, text);
    if (param->lattice) {
        *count = param->lattice_count;
        for (size_t i = 0; i < param->lattice_count; i++) {
            if (param->lattice[i] == tt_config_int(config, param->key)) {
                return (int)i;
            }
        }
        return -1;
    }
    int at = -1;
    *count = 0;
    for (const char *choice = param->choices; choice && *choice;) {
        size_t length = strcspn(choice, "|");
        if (strlen(text) == length && strncmp(choice, text, length) == 0) {
            at = (int)*count;
        }
        ++*count;
        choice += length + (choice[length] == '|');
    }
    return at;
}

static void value_at(const tt_param *param, size_t at, char out[32])
{
    if (param->lattice) {
        snprintf(out, 32, "%lld", (long long)param->lattice[at]);
        return;
    }
    const char *choice = param->choices;
    for (; at > 0; at--) {
        choice += strcspn(choice, "|") + 1;
    }
    snprintf(out, 32, "%.*s", (int)strcspn(choice, "|"), choice);
}

/* A codec moves along memory, of which a larger block needs less; a tile along its size. */
static tt_adapt_move along(const tt_param *param, tt_adapt_move move)
{
    if (!param->memory_falls || param->tier == TT_TIER_TILE || move == TT_ADAPT_HOLD) {
        return move;
    }
    return move == TT_ADAPT_UP ? TT_ADAPT_DOWN : TT_ADAPT_UP;
}

/* One of the optimization's adaptable keys, a step along its lattice; the keys take turns. */
static bool propose(const tt_orchestrator *o, int optimization, tt_adapt_move move, tt_change *out)
{
    const tt_optimization *what = &o->optimizations[optimization];
    for (size_t i = 0; i < what->key_count; i++) {
        size_t k = ((size_t)o->turn[optimization] + i) % what->key_count;
        const tt_param *param = tt_params_find(o->params, what->keys[k]);
        bool has_order = param->lattice || param->ladder;
        if (!o->adaptable[optimization][k] || !has_order ||
            tt_config_is_auto(o->requested, param->key) ||
            tt_config_is_pinned(o->requested, param->key)) {
            continue;
        }
        size_t count;
        size_t next;
        int at = position_of(param, o->requested, &count);
        if (at < 0 || !tt_adapt_neighbour(count, (size_t)at, along(param, move), &next)) {
            continue;
        }
        snprintf(out->key, sizeof out->key, "%s", param->key);
        tt_configured_text(o->requested, param->key, out->from);
        value_at(param, next, out->to);
        return true;
    }
    return false;
}

static bool add_change(const tt_orchestrator *o, const tt_config *candidate, const char *key,
                       tt_decision *out)
{
    tt_change change = {.key = ""};
    snprintf(change.key, sizeof change.key, "%s", key);
    tt_configured_text(o->requested, key, change.from);
    tt_configured_text(candidate, key, change.to);
    if (strcmp(change.from, change.to) == 0) {
        return true;
    }
    if (out->change_count == TT_DECISION_CHANGES) {
        return false;
    }
    out->changes[out->change_count++] = change;
    return true;
}

/* What moved between the two, `first` first: a commit must carry what the resolver moved along. */
static bool list_changes(const tt_orchestrator *o, const tt_config *candidate, const char *first,
                         tt_decision *out)
{
    bool room = add_change(o, candidate, first, out);
    for (size_t i = 0; room && i < tt_params_count(o->params); i++) {
        const char *key = tt_params_at(o->params, i)->key;
        room = strcmp(key, first) == 0 || add_change(o, candidate, key, out);
    }
    return room && out->change_count > 0;
}

/* The legal configuration nearest to the proposal, with what is off left off. *out is NULL if
 * precedence leaves nothing of the proposal. */
static tt_status make_candidate(tt_orchestrator *o, const tt_change *change, tt_decision *commit,
                                tt_config **out)
{
    tt_config *made[3] = {NULL}; /* each derived from the one before, where anything moves */
    char text[32];
    *out = NULL;
    tt_status status = tt_configure_changes(o->requested, change, 1, "adaptation", &made[0]);
    if (!status) {
        status = tt_orchestrator_resolve(o, made[0], &made[1]);
    }
    if (!status) {
        const tt_config *legal = made[1] ? made[1] : made[0];
        tt_configured_text(legal, change->key, text);
        if (strcmp(text, change->to) == 0 && list_changes(o, legal, change->key, commit)) {
            status = tt_configure_off(o, legal, tt_breakers_open(o), &made[2]);
            *out = status ? NULL : made[2] ? made[2] : made[1] ? made[1] : made[0];
        }
    }
    for (int i = 0; i < 3; i++) {
        if (made[i] != *out) {
            tt_config_destroy(made[i]);
        }
    }
    return status;
}

/* Refused without a trial: it does not conform, does not fit, or is not legal. */
static tt_status refuse(tt_orchestrator *o, tt_decision *decision, const tt_change *change,
                        const char *why)
{
    char reason[512];
    snprintf(reason, sizeof reason, "%s", why);
    tt_log(o->log, TT_LOG_INFO, "%s %s -> %s is refused: %s", change->key, change->from, change->to,
           reason);
    decision->kind = TT_DECISION_TRIAL;
    decision->outcome = TT_TRIAL_REFUSED;
    decision->changes[0] = *change;
    decision->change_count = 1;
    return tt_decide(o, decision, json_pack("{s:o}", "why", tt_json_text(reason)));
}

static tt_status begin_trial(tt_orchestrator *o, int optimization, tt_adapt_move move, double input)
{
    tt_change change = {.key = ""};
    tt_config *candidate = NULL;
    tt_decision decision = {.kind = TT_DECISION_COMMIT,
                            .step = tt_orchestrator_step(o),
                            .optimization = optimization,
                            .move = move,
                            .input = input};
    double cost = tt_step_seconds(o) * o->trial_pairs;
    if (!tt_adapt_may(&o->refusals[optimization], move, input, decision.step) ||
        !tt_affordable(o, cost) || !propose(o, optimization, move, &change)) {
        return TT_OK;
    }
    tt_status status = make_candidate(o, &change, &decision, &candidate);
    if (status == TT_ECONFIG || (!status && !candidate)) {
        return refuse(o, &decision, &change,
                      status ? tt_error_message() : "precedence does not allow it");
    }
    if (!status) {
        o->fork.commit = decision;
        status = tt_fork_begin(o, TT_FORK_TRIAL, optimization, candidate,
                               o->optimizations[optimization].aim, o->trial_pairs);
    }
    return status == TT_EGATE || status == TT_ENOMEM
               ? refuse(o, &decision, &change, tt_error_message())
               : status;
}

static tt_adapt_input error_of(const tt_orchestrator *o, int optimization)
{
    tt_adapt_input worst = {.present = false};
    for (int i = 0; i < o->targets.count; i++) {
        const tt_error_target *target = &o->targets.target[i];
        if (strcmp(target->optimization, o->optimizations[optimization].name) != 0 ||
            o->target_peaks[i] < 0) {
            continue;
        }
        double limit = target->kind == TT_ERROR_UPDATE ? o->limits.update_error_max
                                                       : o->limits.reconstruction_max;
        double share = o->target_peaks[i] / limit;
        if (!worst.present || share > worst.value) {
            worst = (tt_adapt_input){.present = true, .value = share};
        }
    }
    return worst;
}

static bool any_adaptable(const tt_orchestrator *o, int optimization)
{
    for (size_t k = 0; k < o->optimizations[optimization].key_count; k++) {
        if (o->adaptable[optimization][k] &&
            !tt_config_is_pinned(o->requested, o->optimizations[optimization].keys[k])) {
            return true;
        }
    }
    return false;
}

static tt_status adapt_one(tt_orchestrator *o, int optimization)
{
    if (o->optimizations[optimization].tier == TT_TIER_TILE) {
        tt_adapt_move move = tt_adapt_tile(o->speedup);
        return move == TT_ADAPT_HOLD ? TT_OK : begin_trial(o, optimization, move, o->speedup.value);
    }
    tt_adapt_input error = error_of(o, optimization);
    tt_adapt_move move = tt_adapt_codec(error, 1);
    return move == TT_ADAPT_HOLD ? TT_OK : begin_trial(o, optimization, move, error.value);
}

/* A baseline may be that much slower than what runs now: plain kernels are. */
enum { BASELINE_SLOWER = 100 };

/* How much all of it together gains: a trial of everything off. */
static tt_status measure_baseline(tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    uint32_t on = tt_configured_on(o, o->config);
    bool recent = o->speedup_step >= 0 && step - o->speedup_step < SPEEDUP_AGE;
    bool wanted = false;
    for (size_t i = 0; i < o->optimization_count; i++) {
        wanted = wanted || (o->optimizations[i].tier == TT_TIER_TILE && any_adaptable(o, (int)i));
    }
    if (!wanted || recent || !on || !o->host.run_step ||
        !tt_affordable(o, tt_step_seconds(o) * TT_TRIAL_MIN_PAIRS * BASELINE_SLOWER)) {
        return TT_OK;
    }
    tt_config *off = NULL;
    tt_status status = tt_configure_off(o, o->config, on, &off);
    if (status || !off) {
        return status;
    }
    status = tt_fork_begin(o, TT_FORK_BASELINE, -1, off, TT_AIM_MEMORY, TT_TRIAL_MIN_PAIRS);
    if (status == TT_ENOMEM) {
        tt_decision none = {.kind = TT_DECISION_BASELINE, .optimization = -1, .step = step};
        status = tt_decide(o, &none, json_pack("{s:o}", "why", tt_json_text(tt_error_message())));
    }
    return status;
}

static bool is_look(const tt_orchestrator *o)
{
    int64_t step = tt_orchestrator_step(o);
    return o->adapt_every > 0 && step > 0 && step % o->adapt_every == 0 && step != o->adapted_step;
}

void tt_forget_errors(tt_orchestrator *o)
{
    for (int i = 0; i < o->targets.count; i++) {
        o->target_peaks[i] = -1;
    }
}

tt_status tt_adapt(tt_orchestrator *o)
{
    tt_status status = TT_OK;
    if (!is_look(o)) {
        return TT_OK;
    }
    for (size_t i = 0; !status && i < o->optimization_count && o->fork.kind == TT_FORK_NONE; i++) {
        if (any_adaptable(o, (int)i) && o->breakers[i].state == TT_BREAKER_CLOSED) {
            status = adapt_one(o, (int)i);
        }
    }
    o->adapted_step = tt_orchestrator_step(o);
    tt_forget_errors(o);
    return status || o->fork.kind != TT_FORK_NONE ? status : measure_baseline(o);
}

tt_status tt_pass_by(tt_orchestrator *o)
{
    if (is_look(o)) {
        o->adapted_step = tt_orchestrator_step(o);
        tt_forget_errors(o);
    }
    return TT_OK;
}

void tt_note_errors(tt_orchestrator *o, const tt_measurements *measured)
{
    /* (In a step whose values are switched, they are another configuration's.) */
    for (int i = 0; i < o->targets.count && !o->in_force.switched; i++) {
        if (measured->error_present[i] && measured->errors[i] > o->target_peaks[i]) {
            o->target_peaks[i] = measured->errors[i];
        }
    }
}
