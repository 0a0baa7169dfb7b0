/* The orchestrator's part of a checkpoint: what the published slot means. */
#include "internal.h"

#include <math.h>
#include <string.h>

static json_t *reals_to_json(const double *values, int count)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++) {
        json_array_append_new(array, json_real(values[i]));
    }
    return array;
}

static json_t *watch_to_json(const tt_watch *watch)
{
    return json_pack("{s:I, s:f, s:o, s:o}", "count", (json_int_t)watch->count, "cusum",
                     watch->cusum, "window", reals_to_json(watch->ring, TT_WATCH_WINDOW), "levels",
                     reals_to_json(watch->levels, TT_WATCH_LEVELS));
}

static json_t *adaptable_to_json(const tt_orchestrator *o)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < o->optimization_count; i++) {
        for (size_t k = 0; k < o->optimizations[i].key_count; k++) {
            if (o->adaptable[i][k]) {
                json_array_append_new(keys, json_string(o->optimizations[i].keys[k]));
            }
        }
    }
    return keys;
}

static json_t *breakers_to_json(const tt_orchestrator *o)
{
    json_t *breakers = json_object();
    for (size_t i = 0; i < o->optimization_count; i++) {
        const tt_breaker *breaker = &o->breakers[i];
        json_object_set_new(breakers, o->optimizations[i].name,
                            json_pack("{s:s, s:I, s:i, s:I}", "state",
                                      tt_breaker_state_name(breaker->state), "trips",
                                      (json_int_t)breaker->trips, "level", breaker->level,
                                      "probe_at", (json_int_t)breaker->probe_at));
    }
    return breakers;
}

json_t *tt_state_to_json(const tt_orchestrator *o)
{
    const tt_slot *slot = &o->slots.slot[o->slots.published];
    json_t *losses = reals_to_json(slot->gates.losses, TT_LOSS_WINDOW);
    json_t *unmeasured = json_array();
    for (int i = 0; i < TT_MAX_TARGETS; i++) {
        json_array_append_new(unmeasured, json_integer(slot->gates.unmeasured[i]));
    }
    json_t *gates = json_pack("{s:I, s:o, s:b, s:b, s:o, s:o, s:o}", "accepted",
                              (json_int_t)slot->gates.accepted, "losses", losses, "loss_settled",
                              slot->gates.loss_settled, "update_armed", slot->gates.update_armed,
                              "loss_watch", watch_to_json(&slot->gates.loss), "norm_watch",
                              watch_to_json(&slot->gates.norm), "unmeasured", unmeasured);
    json_t *skips = json_array();
    for (size_t i = 0; i < o->skip_count; i++) {
        const tt_skip *skip = &o->skips[i];
        json_array_append_new(skips,
                              json_pack("{s:I, s:I, s:I}", "step", (json_int_t)skip->step, "from",
                                        (json_int_t)skip->from, "to", (json_int_t)skip->to));
    }
    json_t *peaks = json_object();
    for (int i = 0; i < o->targets.count; i++) {
        if (isfinite(o->target_peaks[i]) && o->target_peaks[i] >= 0) {
            json_object_set_new(peaks, o->targets.target[i].name, json_real(o->target_peaks[i]));
        }
    }
    json_t *counts = json_object();
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        json_object_set_new(counts, tt_gate_name(gate),
                            json_pack("{s:I, s:I}", "evaluations",
                                      (json_int_t)o->gate_counts.evaluations[gate], "trips",
                                      (json_int_t)o->gate_counts.trips[gate]));
    }
    double orchestration = o->earlier_orchestration_seconds + o->totals.policy_seconds +
                           o->totals.search_seconds + o->totals.trial_seconds;
    return json_pack("{s:i, s:s, s:I, s:I, s:i, s:i, s:o, s:o, s:o, s:O, s:o, s:o, s:o, s:o, s:o, "
                     "s:f, s:f}",
                     "schema", 2, "run_id", o->run_id, "step", (json_int_t)slot->step, "position",
                     (json_int_t)slot->position, "attempt", o->attempt, "config_version",
                     tt_config_version(o->config), "gates", gates, "gate_counts", counts, "skips",
                     skips, "events", o->events, "decisions", tt_history_to_json(o), "breakers",
                     breakers_to_json(o), "adaptable", adaptable_to_json(o), "resolution",
                     tt_json_text(o->trace.length ? o->trace.data : ""), "largest_errors", peaks,
                     "orchestration_seconds", orchestration, "run_seconds",
                     o->earlier_run_seconds + o->totals.step_seconds);
}

/* Exactly `count` numbers; JSON has no infinite ones. */
static bool read_reals(const json_t *array, double *values, size_t count)
{
    if (!json_is_array(array) || json_array_size(array) != count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_number(value)) {
            return false;
        }
        values[i] = json_number_value(value);
    }
    return true;
}

static bool read_count(const json_t *value, int64_t *count)
{
    *count = json_integer_value(value);
    return json_is_integer(value) && *count >= 0 && *count <= TT_MAX_STEP;
}

static bool read_watch(json_t *value, tt_watch *watch)
{
    if (!read_count(json_object_get(value, "count"), &watch->count) ||
        !read_reals(json_object_get(value, "window"), watch->ring, TT_WATCH_WINDOW) ||
        !read_reals(json_object_get(value, "levels"), watch->levels, TT_WATCH_LEVELS) ||
        !json_is_number(json_object_get(value, "cusum"))) {
        return false;
    }
    watch->cusum = json_number_value(json_object_get(value, "cusum"));
    tt_watch_rebuild(watch);
    return watch->cusum >= 0;
}

static bool read_unmeasured(const json_t *array, tt_gate_state *state)
{
    bool good = json_is_array(array) && json_array_size(array) == TT_MAX_TARGETS;
    for (size_t i = 0; good && i < TT_MAX_TARGETS; i++) {
        good = read_count(json_array_get(array, i), &state->unmeasured[i]);
    }
    return good;
}

static tt_status read_gates(json_t *gates, const char *where, tt_gate_state *state)
{
    const json_t *settled = json_object_get(gates, "loss_settled");
    const json_t *armed = json_object_get(gates, "update_armed");
    *state = (tt_gate_state){.accepted = 0};
    if (!read_count(json_object_get(gates, "accepted"), &state->accepted) ||
        !read_reals(json_object_get(gates, "losses"), state->losses, TT_LOSS_WINDOW) ||
        !json_is_boolean(settled) || !json_is_boolean(armed) ||
        !read_watch(json_object_get(gates, "loss_watch"), &state->loss) ||
        !read_watch(json_object_get(gates, "norm_watch"), &state->norm) ||
        !read_unmeasured(json_object_get(gates, "unmeasured"), state)) {
        return tt_fail(TT_ECORRUPT, "%s: /meta/state.json has no usable gate history", where);
    }
    state->loss_settled = json_is_true(settled);
    state->update_armed = json_is_true(armed);
    return TT_OK;
}

void tt_add_skip(tt_orchestrator *o, const tt_skip *skip)
{
    bool sane =
        skip->step >= 0 && skip->from >= 0 && skip->to > skip->from && skip->to <= TT_MAX_STEP;
    for (size_t i = 0; i < o->skip_count; i++) {
        if (memcmp(&o->skips[i], skip, sizeof *skip) == 0) {
            return;
        }
    }
    if (sane && o->skip_count < TT_MAX_SKIPS) {
        o->skips[o->skip_count++] = *skip;
    }
}

static void merge_skips(tt_orchestrator *o, json_t *skips)
{
    size_t index;
    json_t *entry;
    json_array_foreach(skips, index, entry)
    {
        tt_skip skip = {.step = json_integer_value(json_object_get(entry, "step")),
                        .from = json_integer_value(json_object_get(entry, "from")),
                        .to = json_integer_value(json_object_get(entry, "to"))};
        tt_add_skip(o, &skip);
    }
}

/* The decisions behind the state, and what adaptation may move. */
static tt_status take_decisions(tt_orchestrator *o, json_t *root, int64_t step)
{
    size_t index;
    json_t *key;
    json_array_foreach(json_object_get(root, "adaptable"), index, key)
    {
        for (size_t i = 0; i < o->optimization_count; i++) {
            for (size_t k = 0; k < o->optimizations[i].key_count; k++) {
                const char *name = json_string_value(key);
                bool same = name && strcmp(name, o->optimizations[i].keys[k]) == 0;
                o->adaptable[i][k] = o->adaptable[i][k] || same;
            }
        }
    }
    return tt_history_read(o, json_object_get(root, "decisions"), step);
}

static double seconds_of(const json_t *root, const char *name)
{
    double seconds = json_number_value(json_object_get(root, name));
    return isfinite(seconds) && seconds > 0 ? seconds : 0;
}

/* What a resumed run goes on counting. */
static void take_history(tt_orchestrator *o, json_t *root)
{
    o->earlier_orchestration_seconds = seconds_of(root, "orchestration_seconds");
    o->earlier_run_seconds = seconds_of(root, "run_seconds");
    for (int i = 0; i < o->targets.count; i++) {
        const json_t *peak =
            json_object_get(json_object_get(root, "largest_errors"), o->targets.target[i].name);
        if (json_is_number(peak) && json_number_value(peak) >= 0) {
            o->target_peaks[i] = json_number_value(peak);
        }
    }
    json_t *events = json_object_get(root, "events");
    if (json_is_array(events)) {
        json_array_extend(o->events, events);
    }
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        json_t *count = json_object_get(json_object_get(root, "gate_counts"), tt_gate_name(gate));
        json_int_t evaluations = json_integer_value(json_object_get(count, "evaluations"));
        json_int_t trips = json_integer_value(json_object_get(count, "trips"));
        if (evaluations >= 0 && evaluations <= TT_MAX_STEP && trips >= 0 && trips <= evaluations) {
            o->gate_counts.evaluations[gate] = evaluations;
            o->gate_counts.trips[gate] = trips;
        }
    }
}

tt_status tt_state_from_json(tt_orchestrator *o, const char *text, const char *where,
                             tt_slot *meaning)
{
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        return tt_fail(TT_ECORRUPT, "%s: /meta/state.json does not parse: %s", where, error.text);
    }
    tt_status status = TT_OK;
    const char *run_id = NULL;
    json_int_t step = 0;
    json_int_t position = 0;
    int schema = 0;
    int attempt = 0;
    json_t *gates = NULL;
    json_t *skips = NULL;
    if (json_unpack(root, "{s:i, s:s, s:I, s:I, s:i, s:o, s:o}", "schema", &schema, "run_id",
                    &run_id, "step", &step, "position", &position, "attempt", &attempt, "gates",
                    &gates, "skips", &skips) != 0 ||
        step < 0 || step > TT_MAX_STEP || position < 0 || position > TT_MAX_STEP) {
        status = tt_fail(TT_ECORRUPT, "%s: /meta/state.json lacks step, position or gates", where);
    } else if (schema != 2) {
        status = tt_fail(TT_ECORRUPT,
                         "%s: state schema %d is not this trimtab's (2); use the one that wrote it",
                         where, schema);
    } else {
        *meaning = (tt_slot){.valid = true, .step = step, .position = position};
        status = read_gates(gates, where, &meaning->gates);
    }
    if (!status) {
        if (!o->started) {
            /* A resumed run keeps its name; a rollback has it already. */
            strncpy(o->run_id, run_id, sizeof o->run_id - 1);
        }
        if (attempt > o->attempt && attempt < TT_MAX_ATTEMPTS) {
            o->attempt = attempt;
        }
        merge_skips(o, skips);
        if (!o->started) {
            take_history(o, root);
            status = take_decisions(o, root, step);
        }
    }
    json_decref(root);
    return status;
}
