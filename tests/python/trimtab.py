"""The public header of libtrimtab, as far as a job needs it, by Python's own ctypes.

Written by hand after include/trimtab/orchestrator.h and config.h; test_ctypes.py compares every
size and offset with what the C compiler says.
"""
import ctypes
from ctypes import (CFUNCTYPE, POINTER, Structure, Union, byref, c_bool, c_char, c_char_p, c_double,
                    c_int, c_int64, c_size_t, c_uint64, c_void_p, cast, memmove, sizeof)

TT_F64, TT_I8, TT_BF16 = 7, 8, 9
TT_TYPE_INT = 2
TT_MUTABLE_AT_STEP = 3
TT_TIER_TILE, TT_TIER_COMPRESSION = 1, 2
TT_AIM_SPEED, TT_AIM_MEMORY = 0, 1
TT_ERROR_RECONSTRUCTION = 0
TT_SOURCE_COMMAND = 5
TT_METRIC_LOSS, TT_METRIC_GRADIENT_NORM, TT_METRIC_GRADIENT_NONFINITE = 0, 1, 2
TT_METRIC_UPDATE_NONFINITE = 3
TT_METRIC_COUNT = 6
TT_MAX_TARGETS = 8
TT_TENSOR_NAME = 128
TT_STORE_MAX_RANK = 8
TT_EREQUEUE, TT_EINTERNAL = 14, 15
TT_BREAKER_CLOSED, TT_BREAKER_OPEN = 0, 1

status = c_int  # every enum is an int


def structure(name, *fields, base=Structure):
    """A struct from (type, 'names separated by blanks') pairs."""
    listed = [(field, kind) for kind, names in fields for field in names.split()]
    return type(name, (base,), {"_fields_": listed})


tt_text = structure("tt_text", (c_char_p, "data"), (c_size_t, "length capacity"),
                    (c_bool, "failed"))
log_write = CFUNCTYPE(None, c_void_p, c_int, c_char_p)
tt_log_sink = structure("tt_log_sink", (log_write, "write"), (c_void_p, "user"))
now_ns = CFUNCTYPE(c_uint64, c_void_p)
tt_clock = structure("tt_clock", (now_ns, "now_ns"), (c_void_p, "user"))

tt_param = structure("tt_param", (c_char_p, "key"), (c_int, "type"), (c_bool, "may_be_auto"),
                     (c_char_p, "unit default_text"), (c_double, "minimum maximum"),
                     (c_char_p, "choices"), (c_bool, "ladder"), (POINTER(c_int64), "lattice"),
                     (c_size_t, "lattice_count"), (c_bool, "memory_falls"),
                     (c_int, "mutability tier"), (c_char_p, "owner help"))
value_as = structure("value_as", (c_bool, "boolean"), (c_int64, "integer"), (c_double, "real"),
                     (c_char_p, "string"), base=Union)
tt_value = structure("tt_value", (c_bool, "is_auto"), (c_int, "type"), (value_as, "as"))

tt_tensor_info = structure("tt_tensor_info", (c_char * TT_TENSOR_NAME, "name"),
                           (c_int, "dtype rank"), (c_int64 * TT_STORE_MAX_RANK, "dims"))
tt_replay = structure("tt_replay", (c_size_t, "size"), (c_int64, "step position"),
                      (c_int, "read_slot write_slot"), (c_double, "learning_rate_scale"),
                      (c_bool, "name_tensors"), (c_void_p, "config"))
tt_measurements = structure(
    "tt_measurements", (c_size_t, "size"), (c_double * TT_METRIC_COUNT, "values"),
    (c_bool * TT_METRIC_COUNT, "present"), (c_double * TT_MAX_TARGETS, "errors"),
    (c_bool * TT_MAX_TARGETS, "error_present"), (c_bool, "updated"), (c_int64, "tokens"),
    (c_double, "forward_seconds backward_seconds update_seconds"),
    (c_char * TT_TENSOR_NAME, "first_bad"))

tensor_count = CFUNCTYPE(c_size_t, c_void_p, c_int)
tensor_info = CFUNCTYPE(status, c_void_p, c_int, c_size_t, POINTER(tt_tensor_info))
tensor_bytes = CFUNCTYPE(status, c_void_p, c_int, c_size_t, c_int64, c_void_p, c_size_t)
slot_prepare = CFUNCTYPE(status, c_void_p, c_int, POINTER(tt_tensor_info), c_size_t)
locate_nonfinite = CFUNCTYPE(status, c_void_p, c_int, c_int, POINTER(c_char))
run_step = CFUNCTYPE(status, c_void_p, POINTER(tt_replay), POINTER(tt_measurements))
slot_copy = CFUNCTYPE(status, c_void_p, c_int, c_int)
slot_release = CFUNCTYPE(None, c_void_p, c_int)
memory_estimate = CFUNCTYPE(c_int64, c_void_p, c_void_p, c_bool)
tt_host = structure(
    "tt_host", (c_size_t, "size"), (c_void_p, "user"), (c_int, "slot_count"),
    (tensor_count, "tensor_count"),
    (tensor_info, "tensor_info"), (tensor_bytes, "tensor_read tensor_write"),
    (slot_prepare, "slot_prepare"), (locate_nonfinite, "locate_nonfinite"),
    (run_step, "run_step"), (c_int, "scratch_slot"), (slot_copy, "slot_copy"),
    (slot_release, "slot_release"), (memory_estimate, "memory_estimate"))

change = structure("change", (c_char_p, "key"), (c_char * 32, "value"))
tt_proposal = structure("tt_proposal", (change * 8, "changes"), (c_size_t, "change_count"),
                        (tt_text, "evidence"))
propose = CFUNCTYPE(status, c_void_p, c_void_p, POINTER(tt_proposal))
take_config = CFUNCTYPE(status, c_void_p, c_void_p)
tt_optimization = structure(
    "tt_optimization", (c_size_t, "size"), (c_void_p, "user"), (c_char_p, "name"),
    (c_int, "tier aim"), (POINTER(c_char_p), "keys"), (c_size_t, "key_count"),
    (POINTER(c_char_p), "baseline"), (c_bool, "acts_on_state"), (propose, "propose"),
    (take_config, "conform apply"))
tt_error_target = structure("tt_error_target", (c_size_t, "size"), (c_char_p, "name optimization"),
                            (c_int, "kind"), (c_bool, "after_update"), (c_int64, "cadence"))
tt_resume = structure("tt_resume", (c_char * 4096, "path"), (c_void_p, "store"), (c_int, "lock"),
                      (tt_text, "changes"))
tt_orchestrator_options = structure(
    "tt_orchestrator_options", (c_size_t, "size"), (c_void_p, "params config"),
    (POINTER(tt_host), "host"), (c_char_p, "run_directory"), (POINTER(tt_resume), "resume"),
    (c_bool, "strict"), (c_int64, "batch_sequences warmup_steps"), (c_double, "initial_loss"),
    (POINTER(tt_log_sink), "log"), (POINTER(tt_clock), "clock"), (c_void_p, "files"))

tt_step_plan = structure("tt_step_plan", (c_int64, "step position"),
                         (c_int, "read_slot write_slot kind"), (c_bool, "name_tensors"),
                         (c_void_p, "config"))
tt_gate_decision = structure(
    "tt_gate_decision", (c_int, "verdict"), (c_char_p, "gate target"),
    (c_double, "observed limit"), (c_bool, "missing"), (c_int, "action"),
    (c_char * TT_TENSOR_NAME, "tensor"))
tt_step_record = structure(
    "tt_step_record", (c_int64, "step position"), (c_int, "attempt"),
    (c_double, "loss gradient_norm update_norm learning_rate"), (c_int64, "tokens"),
    (c_double, "seconds forward_seconds backward_seconds update_seconds policy_seconds"),
    (c_bool, "published"), (tt_gate_decision, "decision"))

tt_gate_info = structure("tt_gate_info", (c_char_p, "name"), (c_bool, "armed"),
                         (c_double, "minimum maximum"), (c_char_p, "reason"),
                         (c_int64, "evaluations trips"))
tt_run_totals = structure(
    "tt_run_totals",
    (c_int64, "published trips retries rollbacks skips checkpoints checkpoint_failures warnings "
              "searches replayed_steps breakers_opened trials commits"),
    (c_double, "policy_seconds step_seconds search_seconds trial_seconds"))
tt_optimization_info = structure(
    "tt_optimization_info", (c_char_p, "name"), (c_int, "tier"), (c_bool, "on"),
    (c_int, "breaker"), (c_int64, "closed_at_the_earliest trips"), (c_char_p, "trial"))

# name: (result, arguments...). Handles are void pointers. CHECKED: a tt_status; anything but TT_OK
# is raised.
CHECKED = object()
FUNCTIONS = {
    "tt_error_message": (c_char_p,),
    "tt_status_name": (c_char_p, status),
    "tt_params_create": (CHECKED, POINTER(c_void_p)),
    "tt_params_destroy": (None, c_void_p),
    "tt_params_register": (CHECKED, c_void_p, POINTER(tt_param), c_size_t),
    "tt_orchestrator_register": (CHECKED, c_void_p),
    "tt_config_create": (CHECKED, c_void_p, POINTER(c_void_p)),
    "tt_config_destroy": (None, c_void_p),
    "tt_config_set": (CHECKED, c_void_p, c_int, c_char_p, c_char_p),
    "tt_config_int": (c_int64, c_void_p, c_char_p),
    "tt_config_is_auto": (c_bool, c_void_p, c_char_p),
    "tt_config_get": (tt_value, c_void_p, c_char_p),
    "tt_resume_init": (None, POINTER(tt_resume)),
    "tt_resume_prepare": (CHECKED, c_char_p, c_char_p, c_void_p, c_void_p, POINTER(tt_resume)),
    "tt_resume_clear": (None, POINTER(tt_resume)),
    "tt_text_add": (None, POINTER(tt_text), c_char_p),
    "tt_orchestrator_options_init": (None, POINTER(tt_orchestrator_options)),
    "tt_orchestrator_create": (CHECKED, POINTER(tt_orchestrator_options), POINTER(c_void_p)),
    "tt_orchestrator_destroy": (None, c_void_p),
    "tt_orchestrator_add": (CHECKED, c_void_p, POINTER(tt_optimization)),
    "tt_orchestrator_add_target": (CHECKED, c_void_p, POINTER(tt_error_target), POINTER(c_int)),
    "tt_orchestrator_start": (CHECKED, c_void_p),
    "tt_orchestrator_finish": (CHECKED, c_void_p, status),
    "tt_orchestrator_request_stop": (None, c_void_p, c_int),
    "tt_orchestrator_step": (c_int64, c_void_p),
    "tt_orchestrator_slot": (c_int, c_void_p),
    "tt_orchestrator_config": (c_void_p, c_void_p),
    "tt_orchestrator_record": (POINTER(tt_step_record), c_void_p, c_size_t),
    "tt_orchestrator_totals": (tt_run_totals, c_void_p),
    "tt_orchestrator_optimization_count": (c_size_t, c_void_p),
    "tt_orchestrator_optimization": (tt_optimization_info, c_void_p, c_size_t),
    "tt_orchestrator_gate_count": (c_size_t, c_void_p),
    "tt_orchestrator_gate": (tt_gate_info, c_void_p, c_size_t),
    "tt_gate_describe": (c_char_p, POINTER(tt_gate_decision), c_char_p),
    "tt_measurements_init": (None, POINTER(tt_measurements)),
    "tt_measurements_set": (None, POINTER(tt_measurements), c_int, c_double),
    "tt_measurements_set_error": (None, POINTER(tt_measurements), c_int, c_double),
    "tt_step_begin": (CHECKED, c_void_p, POINTER(tt_step_plan)),
    "tt_step_check": (CHECKED, c_void_p, POINTER(tt_measurements), POINTER(c_bool)),
    "tt_step_end": (CHECKED, c_void_p, POINTER(tt_measurements), POINTER(tt_step_record)),
}


class Failure(Exception):
    """What a call returned other than TT_OK, with the library's message."""

    def __init__(self, name, code, message):
        super().__init__(f"{name}: {message}")
        self.code = code


def load(path):
    """The library with its functions typed; what returns a tt_status raises Failure."""
    # CDLL, not PyDLL: a call gives up the interpreter's lock, so that the checkpoint thread can
    # call tensor_read while the caller waits for it.
    library = ctypes.CDLL(path)

    def check(code, function, arguments):
        if code:
            name = library.tt_status_name(code).decode()
            raise Failure(name, code, library.tt_error_message().decode())
        return code

    for name, (result, *arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = status if result is CHECKED else result
        if result is CHECKED:
            function.errcheck = check
    # A variadic function: its fixed part is typed, and the rest must be what the format says.
    library.tt_fail.argtypes = [status, c_char_p]
    library.tt_fail.restype = status
    return library
