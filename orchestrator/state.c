/* The orchestrator's part of a checkpoint: what the published slot means. */
#include "internal.h"

#include <string.h>

json_t *tt_state_to_json(const tt_orchestrator *o)
{
    const tt_slot *slot = &o->slots.slot[o->slots.published];
    json_t *losses = json_array();
    for (int i = 0; i < TT_LOSS_WINDOW; i++) {
        json_array_append_new(losses, json_real(slot->gates.losses[i]));
    }
    json_t *gates = json_pack("{s:I, s:o, s:b, s:b}", "accepted", (json_int_t)slot->gates.accepted,
                              "losses", losses, "loss_settled", slot->gates.loss_settled,
                              "update_armed", slot->gates.update_armed);
    json_t *skips = json_array();
    for (size_t i = 0; i < o->skip_count; i++) {
        const tt_skip *skip = &o->skips[i];
        json_array_append_new(skips,
                              json_pack("{s:I, s:I, s:I}", "step", (json_int_t)skip->step, "from",
                                        (json_int_t)skip->from, "to", (json_int_t)skip->to));
    }
    json_t *counts = json_object();
    for (tt_gate gate = 0; gate < TT_GATE_COUNT; gate++) {
        json_object_set_new(counts, tt_gate_name(gate),
                            json_pack("{s:I, s:I}", "evaluations",
                                      (json_int_t)o->gate_counts.evaluations[gate], "trips",
                                      (json_int_t)o->gate_counts.trips[gate]));
    }
    return json_pack("{s:i, s:s, s:I, s:I, s:i, s:i, s:o, s:o, s:o, s:O}", "schema", 1, "run_id",
                     o->run_id, "step", (json_int_t)slot->step, "position",
                     (json_int_t)slot->position, "attempt", o->attempt, "config_version",
                     tt_config_version(o->config), "gates", gates, "gate_counts", counts, "skips",
                     skips, "events", o->events);
}

static tt_status read_gates(json_t *gates, const char *where, tt_gate_state *state)
{
    json_t *losses = NULL;
    json_int_t accepted = 0;
    int settled = 0;
    int armed = 0;
    if (json_unpack(gates, "{s:I, s:o, s:b, s:b}", "accepted", &accepted, "losses", &losses,
                    "loss_settled", &settled, "update_armed", &armed) != 0 ||
        json_array_size(losses) != TT_LOSS_WINDOW || accepted < 0 || accepted > TT_MAX_STEP) {
        return tt_fail(TT_ECORRUPT, "%s: /meta/state.json has no usable gate history", where);
    }
    *state = (tt_gate_state){.accepted = accepted, .loss_settled = settled, .update_armed = armed};
    for (size_t i = 0; i < TT_LOSS_WINDOW; i++) {
        state->losses[i] = json_number_value(json_array_get(losses, i));
    }
    return TT_OK;
}

bool tt_skip_is_sane(const tt_skip *skip)
{
    return skip->from >= 0 && skip->to > skip->from && skip->to <= TT_MAX_STEP;
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
        bool known = false;
        for (size_t i = 0; i < o->skip_count; i++) {
            known = known || memcmp(&o->skips[i], &skip, sizeof skip) == 0;
        }
        if (!known && tt_skip_is_sane(&skip) && o->skip_count < TT_MAX_SKIPS) {
            o->skips[o->skip_count++] = skip;
        }
    }
}

/* What a resumed run goes on counting. */
static void take_history(tt_orchestrator *o, json_t *root)
{
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
    } else if (schema != 1) {
        status = tt_fail(TT_ECORRUPT, "%s: state schema %d is not known; use a newer trimtab",
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
        }
    }
    json_decref(root);
    return status;
}
