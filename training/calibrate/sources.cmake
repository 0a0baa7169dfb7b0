# What the gates see, measured on the user's own run.
list(APPEND TT_TRAINING_SOURCES
  scratch.c calibrate/calibrate.c calibrate/drift.c calibrate/faults.c calibrate/findings.c)
