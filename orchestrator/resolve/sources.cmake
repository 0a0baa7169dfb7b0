# The resolver: who yields when values conflict.
list(APPEND TT_ORCHESTRATOR_SOURCES
  resolve/advise.c resolve/collect.c resolve/configuration.c resolve/explain.c resolve/registry.c
  resolve/resolve.c resolve/search.c)
