# Configuration: parameters, sources, YAML, resume, resolver.
tt_test(test_config_params MODULE orchestrator SOURCES test_config_params.c test_config_table.c)
tt_test(test_config_sources MODULE orchestrator SOURCES test_config_sources.c test_config_table.c)
tt_test(test_config_yaml MODULE orchestrator SOURCES test_config_yaml.c test_config_table.c)
tt_test(test_config_resume MODULE orchestrator SOURCES test_config_resume.c test_config_table.c)
tt_test(test_config_fuzz MODULE orchestrator SOURCES test_config_fuzz.c test_config_table.c
        TIMEOUT 300)
tt_test(test_resolve MODULE orchestrator SOURCES test_resolve.c)
tt_test(test_resolve_property MODULE orchestrator SOURCES test_resolve_property.c
        test_resolve_oracle.c TIMEOUT 300)
include(../starve.cmake)
tt_test(test_resolve_config MODULE orchestrator SOURCES test_resolve_config.c test_resolve_table.c
        test_resolve_oracle.c ../starve.c)
target_link_options(test_resolve_config PRIVATE ${TT_STARVE_OPTIONS})
tt_test(test_resolve_walks MODULE orchestrator SOURCES test_resolve_walks.c test_resolve_table.c
        test_resolve_oracle.c)
