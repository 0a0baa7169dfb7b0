/* What can be asked of a run. */
#include "internal.h"

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
