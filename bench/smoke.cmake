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
# A configuration that is not there is an error.
execute_process(COMMAND ${BENCH} ${CONFIG}.not --pairs 1 --steps 1 RESULT_VARIABLE result
                ERROR_VARIABLE ignored OUTPUT_VARIABLE output)
if(NOT result EQUAL 1 OR output)
  message(FATAL_ERROR "a missing configuration ended with ${result}: ${output}")
endif()
