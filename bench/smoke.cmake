# cmake -DBENCH=TRAIN_BENCH -DSTEERING=STEERING_BENCH -DCONFIG=FILE -P smoke.cmake: pairs of a few steps,
# and JSON that parses.
execute_process(COMMAND ${BENCH} ${CONFIG} --pairs 1 --steps 2 --threads 1 --json
                OUTPUT_VARIABLE output RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${BENCH} ended with ${result}: ${output}")
endif()
string(JSON steps GET "${output}" steps)
string(JSON ratio GET "${output}" ratio median)
string(JSON memory GET "${output}" memory_ratio median)
string(JSON policy GET "${output}" a_policy_share median)
if(NOT steps EQUAL 2 OR NOT ratio GREATER 0 OR NOT memory GREATER 0 OR NOT policy GREATER 0)
  message(FATAL_ERROR "not what was asked for: ${output}")
endif()
# Any settings can stand against any others.
execute_process(COMMAND ${BENCH} ${CONFIG} --a snapshot.slots=2,compression.moments=int8
                --b snapshot.slots=1 --b auto --set optim.clip=0 --pairs 1 --steps 2 --threads 1 --json
                OUTPUT_VARIABLE output RESULT_VARIABLE result)
string(JSON a ERROR_VARIABLE ignored GET "${output}" a)
string(JSON b ERROR_VARIABLE ignored GET "${output}" b)
string(JSON policy ERROR_VARIABLE ignored GET "${output}" b_policy_us median)
if(NOT result EQUAL 0 OR NOT a STREQUAL "snapshot.slots=2,compression.moments=int8"
   OR NOT b STREQUAL "snapshot.slots=1,kernels.variant=auto" OR NOT policy GREATER 0)
  message(FATAL_ERROR "settings against settings ended with ${result}: ${output}")
endif()
execute_process(COMMAND ${BENCH} ${CONFIG} --a snapshot.slots=2, RESULT_VARIABLE result
                ERROR_VARIABLE ignored OUTPUT_VARIABLE output)
if(NOT result EQUAL 2)
  message(FATAL_ERROR "an empty setting ended with ${result}: ${output}")
endif()
# One side alone, and over lengths of sequences: an object each.
execute_process(COMMAND ${BENCH} ${CONFIG} --contexts 8,16 --tokens 32 --pairs 1 --steps 2 --threads 1 --json
                OUTPUT_VARIABLE output RESULT_VARIABLE result)
if(NOT result EQUAL 0 OR NOT output MATCHES "\"context\":8,.*\n.*\"context\":16,.*peak_mib")
  message(FATAL_ERROR "lengths of sequences ended with ${result}: ${output}")
endif()
execute_process(COMMAND ${BENCH} ${CONFIG} --contexts 7 --tokens 32 RESULT_VARIABLE result
                ERROR_VARIABLE ignored OUTPUT_VARIABLE output)
if(NOT result EQUAL 2)
  message(FATAL_ERROR "tokens that 7 does not divide ended with ${result}: ${output}")
endif()
# A configuration that is not there is an error.
execute_process(COMMAND ${BENCH} ${CONFIG}.not --pairs 1 --steps 1 RESULT_VARIABLE result
                ERROR_VARIABLE ignored OUTPUT_VARIABLE output)
if(NOT result EQUAL 1 OR output)
  message(FATAL_ERROR "a missing configuration ended with ${result}: ${output}")
endif()
# What watching costs, of all kinds of steps: in place, several microbatches, codecs.
execute_process(COMMAND ${STEERING} ${CONFIG} --pairs 1 --steps 8 --threads 1 --json
                --set train.accumulate=2,model.channels=64,compression.moments=int8,compression.activations=int8
                OUTPUT_VARIABLE output RESULT_VARIABLE result)
foreach(name policy_us gates_share trips steps "gradient_statistics_us;median" "update_us;median" "update_bare_us;median"
        "microbatch_flags_us;median" "activations_us;median" "slots_step_ratio;median" "one_slot_peak_mib;median")
  string(JSON value ERROR_VARIABLE ignored GET "${output}" ${name})
  list(APPEND values ${value})
endforeach()
if(NOT result EQUAL 0 OR NOT values MATCHES "^[0-9.e-]+;[0-9.e-]+;0;5;[0-9.e;-]+$" OR values MATCHES ";0;.*;0(;|$)")
  message(FATAL_ERROR "steering_bench ended with ${result}: ${values} of ${output}")
endif()
