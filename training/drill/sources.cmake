# Faults on purpose, and what becomes of runs that meet them.
list(APPEND TT_TRAINING_SOURCES
  drill/child.c drill/disk.c drill/drill.c drill/facts.c drill/judge.c drill/plant.c
  drill/scratch.c drill/storage.c drill/tensors.c)
