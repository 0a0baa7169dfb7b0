/* How C lays out the structs that callers of the library fill or read: a line per struct and field.
 * trimtab.py has the same by hand; test_ctypes.py compares. */
#include <stddef.h>
#include <stdio.h>
#include <trimtab/orchestrator.h>

#define CONSTANT(name)     printf(#name " %d\n", (int)(name))
#define STRUCT(type)       printf(#type " %zu\n", sizeof(type))
#define FIELD(type, field) printf(#type "." #field " %zu\n", offsetof(type, field))

static void base(void)
{
    STRUCT(tt_text);
    FIELD(tt_text, data);
    FIELD(tt_text, length);
    FIELD(tt_text, capacity);
    FIELD(tt_text, failed);
    STRUCT(tt_log_sink);
    FIELD(tt_log_sink, write);
    FIELD(tt_log_sink, user);
    STRUCT(tt_clock);
    FIELD(tt_clock, now_ns);
    FIELD(tt_clock, user);
}

static void config(void)
{
    STRUCT(tt_param);
    FIELD(tt_param, key);
    FIELD(tt_param, type);
    FIELD(tt_param, may_be_auto);
    FIELD(tt_param, unit);
    FIELD(tt_param, default_text);
    FIELD(tt_param, minimum);
    FIELD(tt_param, maximum);
    FIELD(tt_param, choices);
    FIELD(tt_param, ladder);
    FIELD(tt_param, lattice);
    FIELD(tt_param, lattice_count);
    FIELD(tt_param, memory_falls);
    FIELD(tt_param, mutability);
    FIELD(tt_param, tier);
    FIELD(tt_param, owner);
    FIELD(tt_param, help);
    STRUCT(tt_value);
    FIELD(tt_value, is_auto);
    FIELD(tt_value, type);
    FIELD(tt_value, as);
}

static void host(void)
{
    STRUCT(tt_tensor_info);
    FIELD(tt_tensor_info, name);
    FIELD(tt_tensor_info, dtype);
    FIELD(tt_tensor_info, rank);
    FIELD(tt_tensor_info, dims);
    STRUCT(tt_replay);
    FIELD(tt_replay, size);
    FIELD(tt_replay, step);
    FIELD(tt_replay, position);
    FIELD(tt_replay, read_slot);
    FIELD(tt_replay, write_slot);
    FIELD(tt_replay, learning_rate_scale);
    FIELD(tt_replay, name_tensors);
    FIELD(tt_replay, config);
    STRUCT(tt_host);
    FIELD(tt_host, size);
    FIELD(tt_host, user);
    FIELD(tt_host, tensor_count);
    FIELD(tt_host, tensor_info);
    FIELD(tt_host, tensor_read);
    FIELD(tt_host, tensor_write);
    FIELD(tt_host, slot_prepare);
    FIELD(tt_host, locate_nonfinite);
    FIELD(tt_host, run_step);
    FIELD(tt_host, slot_count);
    FIELD(tt_host, scratch_slot);
    FIELD(tt_host, slot_copy);
    FIELD(tt_host, slot_release);
    FIELD(tt_host, memory_estimate);
}

static void optimization(void)
{
    STRUCT(tt_proposal);
    FIELD(tt_proposal, changes);
    FIELD(tt_proposal, change_count);
    FIELD(tt_proposal, evidence);
    STRUCT(tt_optimization);
    FIELD(tt_optimization, size);
    FIELD(tt_optimization, user);
    FIELD(tt_optimization, name);
    FIELD(tt_optimization, tier);
    FIELD(tt_optimization, aim);
    FIELD(tt_optimization, keys);
    FIELD(tt_optimization, key_count);
    FIELD(tt_optimization, baseline);
    FIELD(tt_optimization, acts_on_state);
    FIELD(tt_optimization, propose);
    FIELD(tt_optimization, conform);
    FIELD(tt_optimization, apply);
    STRUCT(tt_error_target);
    FIELD(tt_error_target, size);
    FIELD(tt_error_target, name);
    FIELD(tt_error_target, optimization);
    FIELD(tt_error_target, kind);
    FIELD(tt_error_target, after_update);
    FIELD(tt_error_target, cadence);
    STRUCT(tt_resume);
    FIELD(tt_resume, path);
    FIELD(tt_resume, store);
    FIELD(tt_resume, lock);
    FIELD(tt_resume, changes);
    STRUCT(tt_orchestrator_options);
    FIELD(tt_orchestrator_options, size);
    FIELD(tt_orchestrator_options, params);
    FIELD(tt_orchestrator_options, config);
    FIELD(tt_orchestrator_options, host);
    FIELD(tt_orchestrator_options, run_directory);
    FIELD(tt_orchestrator_options, resume);
    FIELD(tt_orchestrator_options, strict);
    FIELD(tt_orchestrator_options, batch_sequences);
    FIELD(tt_orchestrator_options, warmup_steps);
    FIELD(tt_orchestrator_options, initial_loss);
    FIELD(tt_orchestrator_options, log);
    FIELD(tt_orchestrator_options, clock);
    FIELD(tt_orchestrator_options, files);
}

static void step(void)
{
    STRUCT(tt_step_plan);
    FIELD(tt_step_plan, step);
    FIELD(tt_step_plan, position);
    FIELD(tt_step_plan, read_slot);
    FIELD(tt_step_plan, write_slot);
    FIELD(tt_step_plan, kind);
    FIELD(tt_step_plan, name_tensors);
    FIELD(tt_step_plan, config);
    STRUCT(tt_measurements);
    FIELD(tt_measurements, size);
    FIELD(tt_measurements, values);
    FIELD(tt_measurements, present);
    FIELD(tt_measurements, errors);
    FIELD(tt_measurements, error_present);
    FIELD(tt_measurements, updated);
    FIELD(tt_measurements, tokens);
    FIELD(tt_measurements, forward_seconds);
    FIELD(tt_measurements, backward_seconds);
    FIELD(tt_measurements, update_seconds);
    FIELD(tt_measurements, first_bad);
    STRUCT(tt_gate_decision);
    FIELD(tt_gate_decision, verdict);
    FIELD(tt_gate_decision, gate);
    FIELD(tt_gate_decision, target);
    FIELD(tt_gate_decision, observed);
    FIELD(tt_gate_decision, limit);
    FIELD(tt_gate_decision, missing);
    FIELD(tt_gate_decision, action);
    FIELD(tt_gate_decision, tensor);
    STRUCT(tt_step_record);
    FIELD(tt_step_record, step);
    FIELD(tt_step_record, position);
    FIELD(tt_step_record, attempt);
    FIELD(tt_step_record, loss);
    FIELD(tt_step_record, gradient_norm);
    FIELD(tt_step_record, update_norm);
    FIELD(tt_step_record, learning_rate);
    FIELD(tt_step_record, tokens);
    FIELD(tt_step_record, seconds);
    FIELD(tt_step_record, forward_seconds);
    FIELD(tt_step_record, backward_seconds);
    FIELD(tt_step_record, update_seconds);
    FIELD(tt_step_record, policy_seconds);
    FIELD(tt_step_record, published);
    FIELD(tt_step_record, decision);
}

static void questions(void)
{
    STRUCT(tt_gate_info);
    FIELD(tt_gate_info, name);
    FIELD(tt_gate_info, armed);
    FIELD(tt_gate_info, minimum);
    FIELD(tt_gate_info, maximum);
    FIELD(tt_gate_info, reason);
    FIELD(tt_gate_info, evaluations);
    FIELD(tt_gate_info, trips);
    STRUCT(tt_run_totals);
    FIELD(tt_run_totals, published);
    FIELD(tt_run_totals, trips);
    FIELD(tt_run_totals, retries);
    FIELD(tt_run_totals, rollbacks);
    FIELD(tt_run_totals, skips);
    FIELD(tt_run_totals, checkpoints);
    FIELD(tt_run_totals, checkpoint_failures);
    FIELD(tt_run_totals, warnings);
    FIELD(tt_run_totals, searches);
    FIELD(tt_run_totals, replayed_steps);
    FIELD(tt_run_totals, breakers_opened);
    FIELD(tt_run_totals, trials);
    FIELD(tt_run_totals, commits);
    FIELD(tt_run_totals, policy_seconds);
    FIELD(tt_run_totals, step_seconds);
    FIELD(tt_run_totals, search_seconds);
    FIELD(tt_run_totals, trial_seconds);
    STRUCT(tt_optimization_info);
    FIELD(tt_optimization_info, name);
    FIELD(tt_optimization_info, tier);
    FIELD(tt_optimization_info, on);
    FIELD(tt_optimization_info, breaker);
    FIELD(tt_optimization_info, closed_at_the_earliest);
    FIELD(tt_optimization_info, trips);
    FIELD(tt_optimization_info, trial);
}

static void constants(void)
{
    CONSTANT(TT_F64);
    CONSTANT(TT_I8);
    CONSTANT(TT_BF16);
    CONSTANT(TT_TYPE_INT);
    CONSTANT(TT_MUTABLE_AT_STEP);
    CONSTANT(TT_TIER_TILE);
    CONSTANT(TT_TIER_COMPRESSION);
    CONSTANT(TT_AIM_SPEED);
    CONSTANT(TT_AIM_MEMORY);
    CONSTANT(TT_ERROR_RECONSTRUCTION);
    CONSTANT(TT_SOURCE_COMMAND);
    CONSTANT(TT_METRIC_LOSS);
    CONSTANT(TT_METRIC_GRADIENT_NORM);
    CONSTANT(TT_METRIC_GRADIENT_NONFINITE);
    CONSTANT(TT_METRIC_UPDATE_NONFINITE);
    CONSTANT(TT_METRIC_COUNT);
    CONSTANT(TT_MAX_TARGETS);
    CONSTANT(TT_TENSOR_NAME);
    CONSTANT(TT_STORE_MAX_RANK);
    CONSTANT(TT_EREQUEUE);
    CONSTANT(TT_EINTERNAL);
    CONSTANT(TT_BREAKER_CLOSED);
    CONSTANT(TT_BREAKER_OPEN);
}

int main(void)
{
    constants();
    base();
    config();
    host();
    optimization();
    step();
    questions();
    return 0;
}
