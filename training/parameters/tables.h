/* The trainer's parameters: a table for each part of it, the rules between them, and presets. */
#ifndef TRIMTAB_TRAINING_PARAMETERS_TABLES_H
#define TRIMTAB_TRAINING_PARAMETERS_TABLES_H

#include "trimtab/training.h"

/* For .lattice and .lattice_count of a tt_param. */
#define LATTICE(values) .lattice = (values), .lattice_count = sizeof(values) / sizeof *(values)

typedef struct tt_param_table {
    const tt_param *params;
    size_t count;
} tt_param_table;

extern const tt_param_table tt_model_parameters, tt_learning_parameters, tt_kernels_parameters,
    tt_compression_parameters, tt_run_parameters;

/* Rules and advice. */
tt_status tt_rules_register(tt_params *params);
tt_status tt_presets_register(tt_params *params);

#endif
