# The resolver: who yields when values conflict.
list(APPEND TT_ORCHESTRATOR_SOURCES resolve/explain.c resolve/resolve.c resolve/search.c)
