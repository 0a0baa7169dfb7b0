# Writes tt_build_info.h; run at every build by TrimtabBuildInfo.cmake.
set(commit unknown)
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse HEAD OUTPUT_VARIABLE head
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(commit ${head})
    execute_process(COMMAND ${GIT} -C ${SOURCE} status --porcelain --untracked-files=no
                    OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      string(APPEND commit "-modified")
    endif()
  endif()
endif()
set(content "/* Generated at build time. */
#define TT_BUILD_VERSION \"${VERSION}\"
#define TT_BUILD_COMMIT \"${commit}\"
#define TT_BUILD_COMPILER \"${COMPILER}\"
#define TT_BUILD_FLAGS \"${FLAGS}\"
#define TT_BUILD_SANITIZE \"${SANITIZE}\"
#define TT_BUILD_HDF5 \"${HDF5}\"
#define TT_BUILD_YAML \"${YAML}\"
#define TT_BUILD_JANSSON \"${JANSSON}\"
#define TT_BUILD_CRYPTO \"${CRYPTO}\"
")
set(before "")
if(EXISTS ${HEADER})
  file(READ ${HEADER} before)
endif()
if(NOT before STREQUAL content)
  file(WRITE ${HEADER} "${content}")
endif()
