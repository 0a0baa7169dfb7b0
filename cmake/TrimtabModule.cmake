# Modules, shared libraries and tests.
#
# A module is a static library tt_<name> whose own folder is its private include path; the public
# headers are in include/. Modules do not link each other: a shared library or a test links exactly
# the closure of what is declared here, so an undeclared dependency does not link.

# tt_module(<name> SOURCES ... [DEPENDS <modules>] [LIBRARIES <external targets>])
function(tt_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  add_library(tt_${name} STATIC ${ARG_SOURCES})
  target_include_directories(tt_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include
                             PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(tt_${name} PUBLIC ${ARG_LIBRARIES} m)
  set(closure ${name})
  foreach(dependency IN LISTS ARG_DEPENDS)
    if(NOT TARGET tt_${dependency})
      message(FATAL_ERROR "module ${name} depends on ${dependency}, which stands above it")
    endif()
    get_target_property(below tt_${dependency} TT_CLOSURE)
    list(APPEND closure ${below})
  endforeach()
  list(REMOVE_DUPLICATES closure)
  set_target_properties(tt_${name} PROPERTIES TT_CLOSURE "${closure}" TT_FOLDER ${CMAKE_CURRENT_SOURCE_DIR})
endfunction()

# tt_weakened_module(<name>): the module once more, as tt_<name>_weakened, from which protections can
# be left out (TT_PROTECTED in base.h). For one test program; nothing else links it.
function(tt_weakened_module name)
  get_target_property(sources tt_${name} SOURCES)
  get_target_property(folder tt_${name} TT_FOLDER)
  list(TRANSFORM sources PREPEND ${folder}/)
  add_library(tt_${name}_weakened STATIC EXCLUDE_FROM_ALL ${sources})
  foreach(property IN ITEMS INCLUDE_DIRECTORIES LINK_LIBRARIES INTERFACE_LINK_LIBRARIES
                            COMPILE_DEFINITIONS)
    get_target_property(value tt_${name} ${property})
    if(value)
      set_target_properties(tt_${name}_weakened PROPERTIES ${property} "${value}")
    endif()
  endforeach()
  get_target_property(first tt_${name} MANUALLY_ADDED_DEPENDENCIES)
  if(first)
    add_dependencies(tt_${name}_weakened ${first})
  endif()
  target_compile_definitions(tt_${name}_weakened PRIVATE TRIMTAB_WEAKEN)
endfunction()

# tt_shared_library(<name> MODULES <modules> [USES <shared libraries>])
function(tt_shared_library name)
  cmake_parse_arguments(ARG "" "" "MODULES;USES" ${ARGN})
  list(TRANSFORM ARG_MODULES PREPEND tt_ OUTPUT_VARIABLE archives)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/${name}.c CONTENT
       "/* All of lib${name} comes from its modules. */\ntypedef int tt_no_empty_unit;\n")
  add_library(${name} SHARED ${CMAKE_BINARY_DIR}/${name}.c)
  target_link_libraries(${name} PRIVATE $<LINK_LIBRARY:WHOLE_ARCHIVE,${archives}>
                        PUBLIC ${ARG_USES})
  target_include_directories(${name} INTERFACE
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  set_target_properties(${name} PROPERTIES VERSION ${PROJECT_VERSION}
                        SOVERSION ${PROJECT_VERSION_MAJOR})
endfunction()

# tt_test(<name> MODULE <module> SOURCES ... [LIBRARIES ...] [LABELS ...] [TIMEOUT s] [ARGS ...])
# A cmocka program that sees the module's private headers. Labels default to quick.
function(tt_test name)
  cmake_parse_arguments(ARG "" "MODULE;TIMEOUT" "SOURCES;LIBRARIES;LABELS;ARGS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS quick)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(TRIMTAB_COVERAGE)
    math(EXPR ARG_TIMEOUT "5 * ${ARG_TIMEOUT}") # not optimized, and every branch counts
  endif()
  add_executable(${name} ${ARG_SOURCES})
  get_target_property(closure tt_${ARG_MODULE} TT_CLOSURE)
  list(TRANSFORM closure PREPEND tt_ OUTPUT_VARIABLE archives)
  list(JOIN archives "," archives)
  # The modules' archives name each other, in either order of the closure.
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES} $<LINK_GROUP:RESCAN,${archives}>)
  get_target_property(folder tt_${ARG_MODULE} TT_FOLDER)
  target_include_directories(${name} PRIVATE ${folder} ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_compile_definitions(${name} PRIVATE TT_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             TT_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  # What the tuner measures under a test is not kept for the user. Tests run side by side: threads
  # that spin while they wait would starve the others. Under TSan, libomp tells of its barriers
  # through its Archer tool, which needs the runtime itself left out of the analysis (libgomp cannot
  # tell at all: the tsan preset uses clang).
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
                       SKIP_RETURN_CODE 77
                       ENVIRONMENT "OMP_WAIT_POLICY=passive;XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/cache;TSAN_OPTIONS=ignore_noninstrumented_modules=1")
endfunction()
