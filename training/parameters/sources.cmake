# The parameters of a training run.
list(APPEND TT_TRAINING_SOURCES
  parameters/compression.c parameters/kernels.c parameters/learning.c parameters/model.c
  parameters/presets.c parameters/register.c parameters/rules.c parameters/run.c)
