# tt_build_info(<target>): what the reproducibility record says of the build.
function(tt_build_info target)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
  string(STRIP "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${type}}" flags)
  set(header ${CMAKE_BINARY_DIR}/generated/tt_build_info.h)
  # Every build asks git again; the header changes only when the answer does.
  add_custom_target(${target}_build_info
    COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DHEADER=${header}
            -DVERSION=${PROJECT_VERSION} "-DFLAGS=${CMAKE_BUILD_TYPE} ${flags}"
            "-DCOMPILER=${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}"
            "-DSANITIZE=${TRIMTAB_SANITIZE}"
            -DHDF5=${HDF5_VERSION} -DYAML=${YAML_VERSION} -DJANSSON=${JANSSON_VERSION}
            -DCRYPTO=${CRYPTO_VERSION}
            -P ${CMAKE_SOURCE_DIR}/cmake/WriteBuildInfo.cmake
    BYPRODUCTS ${header} VERBATIM)
  add_dependencies(${target} ${target}_build_info)
  target_include_directories(${target} PRIVATE ${CMAKE_BINARY_DIR}/generated)
endfunction()
