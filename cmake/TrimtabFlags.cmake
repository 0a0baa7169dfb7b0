# Compiler flags of every target.
add_compile_definitions(_GNU_SOURCE)
add_compile_options(-Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -fno-omit-frame-pointer)
if(TRIMTAB_WERROR)
  add_compile_options(-Werror)
endif()
# One source, several ISA levels: passing vectors by value inside a file is not an ABI matter.
add_compile_options(-Wno-psabi)
if(TRIMTAB_SANITIZE)
  add_compile_options(-fsanitize=${TRIMTAB_SANITIZE} -fno-sanitize-recover=all -g)
  add_link_options(-fsanitize=${TRIMTAB_SANITIZE})
endif()
if(TRIMTAB_COVERAGE)
  # Threads count together.
  add_compile_options(--coverage -fprofile-update=atomic -O0 -g)
  add_link_options(--coverage)
endif()
# The tuner's cache is good for one build: the build's id tells them apart.
add_link_options(-Wl,--no-undefined -Wl,-z,relro,-z,now -Wl,--build-id)
if(TRIMTAB_SANITIZE AND CMAKE_C_COMPILER_ID MATCHES "Clang")
  # clang links the sanitizer's runtime into the executable only.
  get_directory_property(_link_options LINK_OPTIONS)
  list(REMOVE_ITEM _link_options "-Wl,--no-undefined")
  set_directory_properties(PROPERTIES LINK_OPTIONS "${_link_options}")
endif()
