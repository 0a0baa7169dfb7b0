# The model and what it learns from; the loop's own sources are listed beside these.
list(APPEND TT_TRAINING_SOURCES
  model.c model_dims.c model_layout.c model_forward.c model_head.c model_backward.c model_decode.c model_saved.c model_packed.c
  optim.c generate.c
  data.c data_walk.c data_text.c data_tokens.c data_split.c data_baselines.c)
