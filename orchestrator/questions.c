/* What can be asked of a run. */
#include "internal.h"

#include <stdlib.h>

bool tt_orchestrator_stop_requested(const tt_orchestrator *o)
{
    return atomic_load(&o->stop_signal) != 0;
}

void tt_orchestrator_request_stop(tt_orchestrator *o, int signal_number)
{
    atomic_store(&o->stop_signal, signal_number);
}

int64_t tt_orchestrator_step(const tt_orchestrator *o)
{
    return o->slots.slot[o->slots.published].step;
}

int tt_orchestrator_slot(const tt_orchestrator *o)
{
    return o->slots.published;
}

const tt_config *tt_orchestrator_config(const tt_orchestrator *o)
{
    return o->config;
}

const char *tt_orchestrator_run_id(const tt_orchestrator *o)
{
    return o->run_id;
}

const char *tt_orchestrator_run_directory(const tt_orchestrator *o)
{
    return o->folder.path;
}

int tt_orchestrator_attempt(const tt_orchestrator *o)
{
    return o->attempt;
}

const char *tt_orchestrator_latest_checkpoint(const tt_orchestrator *o)
{
    return o->latest;
}

/* The step gates, then the overhead gate. */
size_t tt_orchestrator_gate_count(const tt_orchestrator *o)
{
    (void)o;
    return TT_GATE_COUNT + 1;
}

tt_gate_info tt_overhead_gate(void)
{
    return (tt_gate_info){.name = "overhead",
                          .minimum = 0,
                          .maximum = TT_OVERHEAD_OF_GAIN,
                          .reason = "share of what was gained; 1 % of the run before any commit"};
}

static tt_gate_info overhead_gate(const tt_orchestrator *o)
{
    tt_gate_info info = tt_overhead_gate();
    info.armed = true;
    info.evaluations = o->overhead_evaluations;
    info.trips = o->overhead_trips;
    return info;
}

tt_gate_info tt_orchestrator_gate(const tt_orchestrator *o, size_t index)
{
    if (index > TT_GATE_COUNT) {
        return (tt_gate_info){.name = "", .reason = ""};
    }
    if (index == TT_GATE_COUNT) {
        return overhead_gate(o);
    }
    tt_gate gate = (tt_gate)index;
    const tt_gate_state *state = &o->slots.slot[o->slots.published].gates;
    tt_gate_info info = {.name = tt_gate_name(gate),
                         .armed = tt_gate_armed(state, &o->targets, gate),
                         .evaluations = o->gate_counts.evaluations[gate],
                         .trips = o->gate_counts.trips[gate]};
    tt_gate_interval(&o->limits, state, gate, &info.minimum, &info.maximum, &info.reason);
    return info;
}

/* ---- the gates apart from a run ---- */

struct tt_gate_memory {
    tt_gate_limits limits;
    tt_gate_targets targets;
    tt_gate_state state;
};

tt_status tt_gate_memory_create(const tt_orchestrator *o, tt_gate_memory **out)
{
    *out = malloc(sizeof **out);
    if (!*out) {
        return tt_fail(TT_ENOMEM, "no memory for a copy of the gates");
    }
    **out = (tt_gate_memory){.limits = o->limits,
                             .targets = o->targets,
                             .state = o->slots.slot[o->slots.published].gates};
    return TT_OK;
}

void tt_gate_memory_destroy(tt_gate_memory *memory)
{
    free(memory);
}

void tt_gate_memory_copy(tt_gate_memory *memory, const tt_gate_memory *from)
{
    *memory = *from;
}

tt_gate_decision tt_gate_memory_judge(const tt_gate_memory *memory, size_t index,
                                      const tt_measurements *measured)
{
    if (index == TT_ANY_GATE) {
        return tt_gates_judge(&memory->limits, &memory->state, &memory->targets, TT_GATES_ALL,
                              measured, NULL);
    }
    if (index >= TT_GATE_COUNT) {
        return (tt_gate_decision){.verdict = TT_PASS, .gate = "", .target = ""};
    }
    return tt_gate_judge(&memory->limits, &memory->state, &memory->targets, (tt_gate)index,
                         TT_GATES_ALL, measured);
}

bool tt_gate_memory_armed(const tt_gate_memory *memory, size_t index)
{
    return index < TT_GATE_COUNT && tt_gate_armed(&memory->state, &memory->targets, (tt_gate)index);
}

void tt_gate_memory_accept(tt_gate_memory *memory, const tt_measurements *measured)
{
    tt_gates_accept(&memory->state, &memory->targets, measured);
}

/* ---- optimizations and totals ---- */

size_t tt_orchestrator_optimization_count(const tt_orchestrator *o)
{
    return o->optimization_count;
}

tt_optimization_info tt_orchestrator_optimization(const tt_orchestrator *o, size_t index)
{
    if (index >= o->optimization_count) {
        return (tt_optimization_info){.name = "", .trial = ""};
    }
    const tt_optimization *optimization = &o->optimizations[index];
    const tt_breaker *breaker = &o->breakers[index];
    bool forked = o->fork.kind != TT_FORK_NONE && o->fork.optimization == (int)index;
    return (tt_optimization_info){
        .name = optimization->name,
        .tier = optimization->tier,
        .on = tt_optimization_is_on(optimization, o->config),
        .breaker = breaker->state,
        .closed_at_the_earliest = breaker->probe_at,
        .trips = breaker->trips,
        .trial = !forked                         ? ""
                 : o->fork.kind == TT_FORK_PROBE ? "probe"
                                                 : "trial",
    };
}

tt_run_totals tt_orchestrator_totals(const tt_orchestrator *o)
{
    return o->totals;
}
