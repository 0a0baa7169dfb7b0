# The first bad step of a run.
list(APPEND TT_TRAINING_SOURCES
  bisect/bisect.c bisect/checkpoints.c bisect/culprit.c bisect/fork.c bisect/sample.c)
