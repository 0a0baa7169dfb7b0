# What is installed, and how other projects find it: CMake package, pkg-config.
include(CMakePackageConfigHelpers)

install(DIRECTORY include/trimtab DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "*.def")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR}
        FILES_MATCHING PATTERN "*.yaml" PATTERN "*.[ch]")
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")

set(_trimtab_libraries trimtab)
if(TARGET trimtab-train)
  list(APPEND _trimtab_libraries trimtab-train)
  # Next to each other, wherever that is.
  set_target_properties(trimtab-train PROPERTIES INSTALL_RPATH "$ORIGIN" EXPORT_NAME train)
endif()
install(TARGETS ${_trimtab_libraries} EXPORT trimtabTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

if(TARGET trimtab-cli)
  install(TARGETS trimtab-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES docs/trimtab.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES docs/trimtab.bash RENAME trimtab
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
endif()

# find_package(trimtab) gives trimtab::trimtab and trimtab::train.
set(_trimtab_package ${CMAKE_INSTALL_LIBDIR}/cmake/trimtab)
install(EXPORT trimtabTargets NAMESPACE trimtab:: DESTINATION ${_trimtab_package})
file(WRITE ${CMAKE_BINARY_DIR}/trimtabConfig.cmake.in [[
@PACKAGE_INIT@
include("${CMAKE_CURRENT_LIST_DIR}/trimtabTargets.cmake")
if(TARGET trimtab::train)
  set(trimtab_train_FOUND TRUE)
endif()
check_required_components(trimtab)
]])
configure_package_config_file(${CMAKE_BINARY_DIR}/trimtabConfig.cmake.in
                              ${CMAKE_BINARY_DIR}/trimtabConfig.cmake
                              INSTALL_DESTINATION ${_trimtab_package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/trimtabConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/trimtabConfig.cmake ${CMAKE_BINARY_DIR}/trimtabConfigVersion.cmake
        DESTINATION ${_trimtab_package})

# pkg-config: relative to where the .pc file lies, so that the tree can be moved.
file(RELATIVE_PATH _trimtab_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
function(trimtab_pkgconfig name description requires)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/${name}.pc @ONLY CONTENT
"prefix=\${pcfiledir}/@_trimtab_prefix@
libdir=\${prefix}/@CMAKE_INSTALL_LIBDIR@
includedir=\${prefix}/@CMAKE_INSTALL_INCLUDEDIR@

Name: @name@
Description: @description@
Version: @PROJECT_VERSION@
@requires@Cflags: -I\${includedir}
Libs: -L\${libdir} -l@name@
")
  install(FILES ${CMAKE_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
trimtab_pkgconfig(trimtab "${PROJECT_DESCRIPTION}" "")
if(TARGET trimtab-train)
  trimtab_pkgconfig(trimtab-train "The trainer of trimtab" "Requires: trimtab = ${PROJECT_VERSION}\n")
endif()
