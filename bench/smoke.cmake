# cmake -DBENCH=PROGRAM -DCONFIG=FILE -P smoke.cmake: one pair of two steps, and JSON that parses.
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
# A configuration that is not there is an error.
execute_process(COMMAND ${BENCH} ${CONFIG}.not --pairs 1 --steps 1 RESULT_VARIABLE result
                ERROR_VARIABLE ignored OUTPUT_VARIABLE output)
if(NOT result EQUAL 1 OR output)
  message(FATAL_ERROR "a missing configuration ended with ${result}: ${output}")
endif()
