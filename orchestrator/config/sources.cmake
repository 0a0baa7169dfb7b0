# Parameters, where their values come from, and the YAML loader.
list(APPEND TT_ORCHESTRATOR_SOURCES
  config/config.c config/environment.c config/params.c config/params_doc.c config/problems.c
  config/provenance.c config/resume.c config/settings.c config/value.c config/yaml_check.c
  config/yaml_load.c)
