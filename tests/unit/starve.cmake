# For tests that let memory run out: target_link_options(<test> PRIVATE ${TT_STARVE_OPTIONS}), with
# starve.c among the sources.
set(TT_STARVE_OPTIONS
    -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup,--wrap=asprintf)
